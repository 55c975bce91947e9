"""Export of a model to a StableHLO, ONNX or TensorFlow Lite file: `save`, and what it checks before.

A model has one or more programs, which share its weights. A program is an exported function, such as
`stylize`, which paints a picture. The first program of a model is its main one.
"""

from collections.abc import Iterable, Mapping
from importlib import util
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _checks, _files, provenance
from nst_jax._files import PathLike, check_destination
from nst_jax.export import onnx_file, stablehlo_file, tflite_file
from nst_jax.export.encodings import encoded_weights, error_of
from nst_jax.export.flat import by_path, outputs_of
from nst_jax.export.models import STYLE_SIDES, Model, Program, Specs
from nst_jax.export.sizes import (
    ANY,
    SizeOrAny,
    any_size_allowed,
    check_sizes,
    plain_shape,
    size_text,
    sizes_of,
)


class FileFormat(NamedTuple):
    """What `save` needs to know about a file format.

    Attributes:
      suffix: the usual suffix of such files.
      needs: the packages that write files of this format, by the names under which they are imported.
      open_sizes: whether programs in a file can have symbolic sizes, so that they take pictures of any
        size.
      one_program: True if a file can have only one program of a model, False if it can have all of
        them.
    """

    suffix: str
    needs: tuple[str, ...] = ()
    open_sizes: bool = True
    one_program: bool = True


FORMATS: Mapping[str, FileFormat] = {
    "stablehlo": FileFormat(".npz", one_program=False),
    "onnx": FileFormat(".onnx", needs=("jax2onnx", "onnx")),
    "tflite": FileFormat(".tflite", needs=("tensorflow",), open_sizes=False),
}

# Default (height, width) in px of the pictures that a file takes, if the file is for one size only. The
# TensorFlow Lite file of the network `arbitrary` that Magenta published on TF Hub takes pictures of the
# same size.
FIXED = (384, 384)

# Licence of the programs in an exported file; that of the weights comes from `Model.facts`.
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
    """Write a model as a file whose programs run without this package.

    An existing file is replaced only once the new file is complete. The file's metadata say where the
    weights come from and under which licence they are.

    Args:
      path: path of the file to write.
      model: the model, from `arbitrary_model`, `styles26_model`, `trained_model`, `features_model` or
        `step_model`.
      to: the format: `"stablehlo"` (an archive for `numpy.load`, with programs for `jax.export`),
        `"onnx"` (needs the extra `onnx`) or `"tflite"` (needs the extra `tflite`).
      shape: (height, width) in px of the pictures that the file takes, or `"any"` for pictures of all
        sizes. None means (384, 384) in TensorFlow Lite, and in ONNX for `step_model`; it means `"any"`
        in all other cases.
      style_shape: (height, width) in px of the style pictures, or `"any"`, for programs that take a
        style picture. None means `"any"` if `shape` is `"any"`; if `shape` is a size, None means (256,
        256) for `arbitrary_model`, and the same size as `shape` for `step_model`.
      encoding: how kernels are stored: `"float32"`, `"float16"` (half as many bytes), or `"int8"` (a
        quarter as many bytes).
      program: the name of the program to write, if only one is wanted. None writes the main program to
        an ONNX or TensorFlow Lite file, and all programs to a StableHLO file.

    Returns:
      The metadata of the file, as JSON values by name.

    Raises:
      TypeError: if `path` is not a path, or `model` not a `Model`.
      ValueError: if the format, the encoding or the program is unknown; if `path` has the suffix of
        another format, or cannot be written to; if the format or the program does not allow a size; if
        `style_shape` is given although no chosen program takes a style picture; if
        a package that the format needs is not installed; or if jax2onnx cannot convert the program.
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
    check_suffix(path, to)
    advice = "`features_model(params)` makes one; the order is save(path, model)"
    _checks.instance("model", model, Model, advice)
    shape, style_shape = plain_shape(shape), plain_shape(style_shape)
    chosen = _chosen(model, to, program)
    if style_shape is not None and not _takes_style(chosen.values()):
        what = model.name if program is None else program
        raise ValueError(f"`style_shape`: {what!r} takes no style picture; leave it out")
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


def check_suffix(path: PathLike, to: str, *, argument: str = "path") -> None:
    """Refuse a path with the suffix of another format.

    Other programs tell the format of a file by its suffix, so they would misread such a file.

    Args:
      path: path of the file to write. It may have the format's own suffix, a suffix that belongs to no
        format, or no suffix.
      to: the format of the file, a key of `FORMATS`, such as "stablehlo", whose suffix is .npz.
      argument: the caller's name for the path, shown in error messages.

    Raises:
      ValueError: if the format is unknown, or the suffix is that of another one.

    Example:
      >>> check_suffix("network.onnx", "stablehlo")
      Traceback (most recent call last):
      ValueError: `path`: '.onnx' is the suffix of files for onnx, not stablehlo; end it in .npz
    """
    _checks.one_of("to", to, FORMATS, "format")
    suffix = _files.as_path(path, argument=argument).suffix.lower()
    others = {one.suffix: name for name, one in FORMATS.items() if name != to}
    if suffix in others:
        raise ValueError(
            f"`{argument}`: '{suffix}' is the suffix of files for {others[suffix]}, not {to}; "
            f"end it in {FORMATS[to].suffix}"
        )


def _chosen(model: Model, to: str, program: str | None) -> dict[str, Program]:
    """Return the programs to write, by name: only the one called `program`, unless it is None.

    None means all programs of the model; or, if a file of the format `to` can have only one program,
    the model's first program, which is its main one.
    """
    if program is None:
        main = next(iter(model.programs))
        return {main: model.programs[main]} if FORMATS[to].one_program else dict(model.programs)
    _checks.one_of("program", program, model.programs, f"program of {model.name}")
    return {program: model.programs[program]}


def _takes_style(programs: Iterable[Program]) -> bool:
    return any(side in program.sides for program in programs for side in STYLE_SIDES)


def shapes_for(
    model: Model, to: str, shape: SizeOrAny | None, style_shape: SizeOrAny | None
) -> tuple[SizeOrAny, SizeOrAny]:
    """Return `shape` and `style_shape`, with the defaults of `save` in place of None.

    Args:
      model: the model that is exported.
      to: the format of the file.
      shape: (height, width) in px of the pictures that the file takes, `"any"` or None.
      style_shape: the same for style pictures.

    Raises:
      ValueError: if a size is `"any"` although a file of the format `to` can only have fixed sizes.
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
    """Return name, shape, dtype and meaning of each input or output in `specs`, for the metadata."""
    return [
        {
            "name": name,
            "shape": [side if isinstance(side, int) else str(side) for side in spec.shape],
            "dtype": spec.dtype.name,
            "about": program.about.get(name.split("/")[0], ""),
        }
        for name, spec in by_path(specs).items()
    ]
