"""Weights files: find one, read and verify it, or write one.

A weights file is HDF5, as `_hdf5` reads and writes it. Its attributes are `format` ("nst-jax weights"),
`version` (1), `encoding`, `family`, `pixels`, `origin`, `licence` and `digest`. It has one group per
layer of `vgg.LAYERS`, with `bias` (float32, `[out]`) and, depending on `encoding`:

* `"float32"`, `"float16"`: `kernel`, `[3, 3, in, out]`;
* `"codes"`: `codes` (uint8, `[3, 3, in, out]`), which index `centres` (float32, `[256]`).

The digest is the SHA-256 of a line of compact JSON, `["nst-jax weights",1,family,pixels]`, then for
every dataset, in the order of names, a line such as `["conv1_1/bias","<f4",[64]]` and the dataset's
little-endian bytes in C order. So the digest covers the names, shapes, types and values of all
datasets, the family and the pixel convention, but not the free text in `origin` and `licence`.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import jax
import numpy as np

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax._hdf5 import Layout, layout_differences, layout_of
from nst_jax._types import Params
from nst_jax.vgg.pixels import PIXELS
from nst_jax.vgg.taps import LAYERS
from nst_jax.weights.digests import digest_of
from nst_jax.weights.quantization import CENTRES, ENCODERS, decode_kernel

WEIGHTS_FORMAT = _hdf5.Format(
    name="nst-jax weights",
    version=1,
    noun="weights file",
    if_damaged="get or convert it again",
    if_foreign="if it contains VGG-19 weights of Keras or PyTorch, "
    "`nst-jax weights convert {name} -o OUT.h5` makes a weights file of it",
    if_other_version="update nst-jax",
)

VARIABLE = "NST_JAX_WEIGHTS"  # environment variable with the path of a weights file

EMBEDDED = "embedded weights"  # what messages call the file that comes with the package

EMBEDDED_NAME = "vgg19_imagenet.h5"

EMBEDDED_DIGEST = "2c244441fcc1f8719bd293636d55594a07de3900b9c675fbc86f9f2d86a9764c"

EMBEDDED_CHECKSUM = 0xBBB749CA  # CRC-32 of the embedded file, which does not state it itself


Datasets: TypeAlias = Mapping[str, np.ndarray]  # "conv1_1/kernel" -> array, as stored


class WeightsInfo(NamedTuple):
    """What a weights file says about itself."""

    name: str  # name of the file, without its folder
    family: str
    pixels: str
    encoding: str
    digest: str  # as the file states it; only `load_params` verifies it
    origin: str
    licence: str
    parameters: int  # number of entries in kernels and biases
    layers: tuple[str, ...]


def load_params(path: PathLike | None = None) -> Params:
    """Read and verify the weights of VGG-19's convolutions.

    The file is `path`, else the one named by the environment variable `NST_JAX_WEIGHTS`, else the
    ImageNet VGG-19 that comes with the package. The digest of its contents is computed and compared
    with the digest that it states, for the embedded file also with `EMBEDDED_DIGEST`. Then names and
    shapes are compared with the network's.

    Args:
      path: a weights file of this package (`nst-jax weights convert` makes one), or None.

    Returns:
      `Params`: float32 kernels `[3, 3, in, out]` and biases `[out]` by layer name.

    Raises:
      ValueError: the file is missing, damaged, of another kind, or does not fit the network.

    Example:
      >>> params = load_params()
      >>> params.layers["conv1_1"]["kernel"].shape
      (3, 3, 3, 64)
      >>> params.family, params.pixels
      ('vgg19-caffe', 'caffe-bgr')
    """
    source = _find(path)
    with _hdf5.opened(source) as file:
        info = _info(source, file)
        datasets = _hdf5.arrays_in(source, file)
    _check_digest(source, info, datasets)
    if differences := layout_differences(_expected_layout(info.encoding), layout_of(datasets)):
        raise source.error(f"does not fit VGG-19: {differences}; convert the original again")
    layers = {
        layer: {"kernel": decode_kernel(datasets, layer), "bias": datasets[f"{layer}/bias"]}
        for layer in LAYERS
    }
    # All arrays in one call, since `jnp.asarray` would compile a program for every shape.
    return Params(jax.device_put(layers), family=info.family, pixels=info.pixels)


def read_info(path: PathLike | None = None) -> WeightsInfo:
    """Read what a weights file says about itself, without reading the weights.

    Args:
      path: a weights file, or None for the one that `load_params` would read.

    Returns:
      `WeightsInfo`, as stated by the file; its digest is not verified here.

    Raises:
      ValueError: the file is missing, damaged or of another kind.

    Example:
      >>> info = read_info()
      >>> info.encoding, info.parameters
      ('codes', 20024384)
    """
    source = _find(path)
    with _hdf5.opened(source) as file:
        return _info(source, file)


def save_params(
    path: PathLike,
    params: Params,
    *,
    encoding: str = "float32",
    origin: str = "",
    licence: str = "",
) -> None:
    """Write a weights file; an existing file is replaced only once the new one is complete.

    `"codes"` stores a kernel exactly if it has at most 256 distinct values. Otherwise each weight is
    rounded to the nearest of 256 centres, found by one-dimensional k-means (Lloyd's algorithm).

    Args:
      path: where to write.
      params: weights that fit the network.
      encoding: how kernels are stored: `"float32"`, `"float16"` or `"codes"` (a quarter of the size
        of float32). Biases are always float32.
      origin: where the weights come from, as free text.
      licence: the terms under which the weights may be used, as free text.

    Raises:
      ValueError: the weights do not fit the network or the encoding, or `path` cannot be written.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_params(f"{folder}/half.h5", load_params(), encoding="float16")
      ...     read_info(f"{folder}/half.h5").encoding
      'float16'
    """
    check_destination(path)
    if encoding not in ENCODERS:
        raise _checks.unknown("encoding", encoding, ENCODERS, "encoding")
    if params.pixels not in PIXELS:
        raise _checks.unknown("pixels", params.pixels, PIXELS, "pixel convention")
    datasets = _encoded(params, encoding)
    attributes: dict[str, str | int] = {
        "format": WEIGHTS_FORMAT.name,
        "version": WEIGHTS_FORMAT.version,
        "encoding": encoding,
        "family": params.family,
        "pixels": params.pixels,
        "origin": origin,
        "licence": licence,
        "digest": _digest(params.family, params.pixels, datasets),
    }
    try:
        with _hdf5.created(Path(path)) as file:
            file.attrs.update(attributes)
            _hdf5.store(file, datasets)
    except (OSError, RuntimeError) as error:
        reason = _files.reason_of(error)
        raise ValueError(f"`path`: '{path}' cannot be written ({reason})") from error


# --- Reading --------------------------------------------------------------------------------------


def _find(path: PathLike | None) -> _hdf5.Source:
    """Choose the file: the argument, else the environment variable, else the embedded file."""
    if path is not None:
        return _hdf5.Source(Path(path), "weights", WEIGHTS_FORMAT)
    if os.environ.get(VARIABLE):
        return _hdf5.Source(Path(os.environ[VARIABLE]), VARIABLE, WEIGHTS_FORMAT)
    # A wheel has the file in this package's folder, a checkout has it in `weights` beside `nst_jax`.
    here = Path(__file__).parent
    inside, beside = here / EMBEDDED_NAME, here.parents[1] / "weights" / EMBEDDED_NAME
    found = inside if inside.exists() else beside
    return _hdf5.Source(
        found,
        EMBEDDED,
        WEIGHTS_FORMAT,
        if_missing="reinstall nst-jax",
        checksum=EMBEDDED_CHECKSUM,
    )


def _info(source: _hdf5.Source, file: h5py.File) -> WeightsInfo:
    """Read and check the attributes of a file, and count its parameters without reading them."""
    names = ("family", "pixels", "encoding", "digest", "origin", "licence")
    text: dict[str, Any] = {name: _hdf5.attribute(file, name) for name in names}
    for name, value in text.items():
        if not isinstance(value, str):
            raise source.error(f"does not state its {name}; convert it again")
    for name, known in {"encoding": ENCODERS, "pixels": PIXELS}.items():
        if text[name] not in known:
            raise source.error(f"has {name} {text[name]!r}, expected one of {', '.join(known)}")
    stored = _hdf5.datasets_in(source, file)
    sizes = (data.size for name, data in stored.items() if not name.endswith("/centres"))
    layers = tuple(sorted({name.split("/")[0] for name in stored}))
    return WeightsInfo(name=source.path.name, parameters=sum(sizes), layers=layers, **text)


# --- Verifying ------------------------------------------------------------------------------------


def digest(params: Params) -> str:
    """Return the digest that a float32 file of these weights has, whatever file they come from."""
    return _digest(params.family, params.pixels, _as_datasets(params))


def _as_datasets(params: Params) -> dict[str, np.ndarray]:
    """Return weights as little-endian float32 by dataset name, such as `"conv1_1/kernel"`."""
    return {
        f"{layer}/{name}": np.asarray(value, np.dtype("<f4"))
        for layer, weights in params.layers.items()
        for name, value in weights.items()
    }


def _digest(family: str, pixels: str, datasets: Datasets) -> str:
    """Hash names, types, shapes and bytes in name order, as the module's docstring defines it."""
    head = [WEIGHTS_FORMAT.name, WEIGHTS_FORMAT.version, family, pixels]
    return digest_of(head, datasets)


def _check_digest(source: _hdf5.Source, info: WeightsInfo, datasets: Datasets) -> None:
    """Refuse datasets whose digest is not the stated one or, if embedded, not `EMBEDDED_DIGEST`."""
    digest = _digest(info.family, info.pixels, datasets)
    if digest != info.digest:
        raise source.error(f"has digest {digest} but states {info.digest}; get or convert it again")
    if source.argument == EMBEDDED and digest != EMBEDDED_DIGEST:
        raise source.error(f"has digest {digest}, expected {EMBEDDED_DIGEST}; reinstall nst-jax")


def _expected_layout(encoding: str) -> Layout:
    """Return the names, shapes and types of the datasets that a file in this encoding must have."""
    layout: dict[str, tuple[tuple[int, ...], str]] = {}
    for layer, (inputs, outputs) in LAYERS.items():
        kernel = (3, 3, inputs, outputs)
        layout[f"{layer}/bias"] = ((outputs,), "float32")
        if encoding == "codes":
            layout[f"{layer}/centres"] = ((CENTRES,), "float32")
            layout[f"{layer}/codes"] = (kernel, "uint8")
        else:
            layout[f"{layer}/kernel"] = (kernel, encoding)
    return layout


# --- Writing --------------------------------------------------------------------------------------


def _encoded(params: Params, encoding: str) -> dict[str, np.ndarray]:
    """Return the datasets to store, after checking that the weights fit VGG-19 and are finite."""
    arrays = _as_datasets(params)
    if differences := layout_differences(_expected_layout("float32"), layout_of(arrays)):
        raise ValueError(f"`params`: does not fit VGG-19: {differences}; take a VGG-19's weights")
    datasets: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`params`: {name} has values that are not finite; take other weights")
        layer, part = name.split("/")
        parts = ENCODERS[encoding](array) if part == "kernel" else {part: array}
        datasets |= {f"{layer}/{part}": array for part, array in parts.items()}
    return datasets
