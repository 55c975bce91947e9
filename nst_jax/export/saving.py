"""`save` checks a model and options, and writes a StableHLO, ONNX or TensorFlow Lite file."""

from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _checks, _files, provenance
from nst_jax._files import PathLike, check_destination
from nst_jax.export import onnx_file, stablehlo_file, tflite_file
from nst_jax.export.encodings import encoded_weights, error_of
from nst_jax.export.flat import by_path, outputs_of
from nst_jax.export.models import Model, Program, Specs
from nst_jax.export.sizes import (
    ANY,
    SizeOrAny,
    any_size_allowed,
    check_sizes,
    size_text,
    sizes_of,
)


class FileFormat(NamedTuple):
    """What `save` needs to know of a format.

    Attributes:
      needs: packages that write it, by the name under which they are imported.
      open_sizes: whether the sizes of pictures may be symbolic, so that a file takes any size.
      one_program: whether a file has one program instead of all of a model.
    """

    needs: tuple[str, ...] = ()
    open_sizes: bool = True
    one_program: bool = True


FORMATS: Mapping[str, FileFormat] = {
    "stablehlo": FileFormat(one_program=False),
    "onnx": FileFormat(needs=("jax2onnx", "onnx")),
    "tflite": FileFormat(needs=("tensorflow",), open_sizes=False),
}

# Default (height, width) in px of pictures, if the file cannot take any size. The file of the network
# `arbitrary` on TF Hub has this size.
FIXED = (384, 384)

# Licence of the programs; the licence of the weights is in `Model.facts`.
LICENCE = "Apache-2.0, Copyright 2026 The nst-jax authors"


def save(
    path: PathLike,
    model: Model,
    *,
    to: str,
    shape: SizeOrAny | None = None,
    style_shape: SizeOrAny | None = None,
    encoding: str = "float32",
    program: str | None = None,
) -> dict[str, Any]:
    """Write a model as a file that runs without this package.

    An existing file is replaced only once the new one is complete. The file says where its weights come
    from and under which licence they are.

    Args:
      path: where to write.
      model: the model, from `arbitrary_model`, `styles26_model`, `trained_model`, `features_model` or
        `step_model`.
      to: the format: `"stablehlo"` (an archive for `numpy.load`, with programs for `jax.export`),
        `"onnx"` (needs the extra `onnx`) or `"tflite"` (needs the extra `tflite`).
      shape: (height, width) in px of the pictures that the file takes, or `"any"`; None is (384, 384)
        in TensorFlow Lite, and in ONNX for `step_model`, else `"any"`.
      style_shape: the same for style pictures, for programs that take one; None is `"any"` if `shape`
        is `"any"`, else (256, 256) for `arbitrary_model` and `shape` for `step_model`.
      encoding: how kernels are stored: `"float32"`, `"float16"` (half the bytes), or `"int8"` (a
        quarter).
      program: which of the model's programs to write, for formats that have one in a file; None is the
        main one. StableHLO files have all of them, unless one is named.

    Returns:
      The metadata in the file, as JSON values.

    Raises:
      ValueError: for an unknown format, encoding or program, sizes that the format or the program
        cannot have, a missing package, and a path that cannot be written.
      OSError: if the disk fails or is full.

    Example:
      >>> import pathlib, tempfile
      >>> import nst_jax as nst
      >>> from jax import export
      >>> model = nst.export.features_model(nst.load_params(), taps=["relu1_1"])
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "features.npz"
      >>> facts = nst.export.save(path, model, to="stablehlo", shape=(20, 30))
      >>> file = np.load(path)
      >>> program = export.deserialize(bytearray(file["features.jax"]))
      >>> weights = {name[8:]: file[name] for name in file if name.startswith("weights/")}
      >>> program.call(weights, np.zeros((20, 30, 3), np.float32)).shape
      (20, 30, 64)
    """
    check_destination(path)
    if to not in FORMATS:
        raise _checks.unknown("to", to, FORMATS, "format")
    chosen = _chosen(model, to, program)
    shape, style_shape = shapes_for(model, to, shape, style_shape)
    check_sizes(model, shape, style_shape)
    stored = encoded_weights(model.weights, encoding)
    _check_installed(to)
    with any_size_allowed(model.name):
        programs = {
            name: (each, each.inputs(sizes_of(each, shape, style_shape)))
            for name, each in chosen.items()
        }
        metadata = _metadata(model, to, programs, stored, encoding, shape)
    with _files.atomic(Path(path)) as part, any_size_allowed(model.name):
        _write(part, to, programs, model.weights if to == "tflite" else stored, metadata)
    return metadata


# --- Checks ---------------------------------------------------------------------------------------


def _chosen(model: Model, to: str, program: str | None) -> dict[str, Program]:
    """Return the programs to write."""
    if program is None:
        main = next(iter(model.programs))
        return {main: model.programs[main]} if FORMATS[to].one_program else dict(model.programs)
    if program not in model.programs:
        raise _checks.unknown("program", program, model.programs, f"program of {model.name}")
    return {program: model.programs[program]}


def shapes_for(
    model: Model, to: str, shape: SizeOrAny | None, style_shape: SizeOrAny | None
) -> tuple[SizeOrAny, SizeOrAny]:
    """Return `shape` and `style_shape`, with the defaults of `save` in place of None.

    Raises:
      ValueError: for `"any"`, if a file of this format has fixed sizes.
    """
    may_be_open = FORMATS[to].open_sizes
    if not may_be_open:
        for argument, both in (("shape", shape), ("style_shape", style_shape)):
            if both == ANY:
                raise ValueError(
                    f"`{argument}`: a file for {to} has one size, since TensorFlow's converter cannot "
                    "translate operations of open sizes; give a size, and write a file for each"
                )
    if shape is None:
        shape = ANY if may_be_open and (to != "onnx" or model.open_in_onnx) else FIXED
    if style_shape is None:
        style_shape = ANY if shape == ANY else model.style_shape or shape
    return shape, style_shape


def _check_installed(to: str) -> None:
    for package in FORMATS[to].needs:
        if util.find_spec(package) is None:
            raise ValueError(
                f"`to`: writing {to} needs {package}, which is missing; install it by "
                f"`pip install 'nst-jax[{to}]'`"
            )


# --- Writing --------------------------------------------------------------------------------------


def _write(
    path: Path,
    to: str,
    programs: Mapping[str, tuple[Program, Specs]],
    weights: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    if to == "stablehlo":
        stablehlo_file.write_stablehlo(path, programs, weights, metadata)
        return
    ((name, (program, inputs)),) = programs.items()
    if to == "onnx":
        onnx_file.write_onnx(path, name, program, inputs, weights, metadata)
    else:
        encoding = metadata["encoding"]
        tflite_file.write_tflite(path, program, inputs, weights, encoding, metadata)


def _metadata(
    model: Model,
    to: str,
    programs: Mapping[str, tuple[Program, Specs]],
    stored: Mapping[str, np.ndarray],
    encoding: str,
    shape: SizeOrAny,
) -> dict[str, Any]:
    """Return the metadata of a file."""
    facts = {
        "model": model.name,
        "summary": model.summary,
        "size": size_text(shape),
        "encoding": encoding,
        "programs": {
            name: {
                "smallest": program.smallest_of_any if shape == ANY else program.smallest,
                "inputs": _described(program, inputs),
                "outputs": _described(program, outputs_of(program, inputs, stored)),
            }
            for name, (program, inputs) in programs.items()
        },
        "licence": LICENCE,
        **model.facts,
        "versions": provenance.versions(),
    }
    if encoding != "float32" and to != "tflite":
        facts["weights_error"] = float(f"{error_of(model.weights, encoding):.2g}")
    return facts


def _described(program: Program, specs: Specs) -> list[dict[str, Any]]:
    """Return name, shape, dtype and meaning of each input or output."""
    return [
        {
            "name": name,
            "shape": [side if isinstance(side, int) else str(side) for side in spec.shape],
            "dtype": spec.dtype.name,
            "about": program.about.get(name.split("/")[0], ""),
        }
        for name, spec in by_path(specs).items()
    ]
