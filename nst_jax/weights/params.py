"""Weights files: find, verify and read one, or write one.

A weights file is HDF5. Its attributes are `format` ("nst-jax weights"), `version` (1), `encoding`,
`family`, `pixels`, `origin`, `licence` and `digest`; it has one group per layer of `vgg.LAYERS`,
with `bias` (float32, `[out]`) and, according to `encoding`:

* `"float32"`, `"float16"`: `kernel`, `[3, 3, in, out]`;
* `"codes"`: `codes` (uint8, `[3, 3, in, out]`), which index `centres` (float32, `[256]`).

The digest is the SHA-256 of lines of compact JSON, each followed by raw data where it has any:
`["nst-jax weights",1,family,pixels]`, then for every dataset in the order of its name
`["conv1_1/bias","<f4",[64]]` and its little-endian bytes in C order. So it covers the names, shapes,
types and values of all datasets, and which pixels they expect; `origin` and `licence` are free text
outside it.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

import h5py
import jax
import numpy as np

from nst_jax import _checks, _files
from nst_jax._types import Params
from nst_jax.vgg.pixels import PIXELS
from nst_jax.vgg.taps import LAYERS

FORMAT = "nst-jax weights"

VERSION = 1

VARIABLE = "NST_JAX_WEIGHTS"  # environment variable naming a weights file

EMBEDDED = "embedded weights"  # what messages call the file that comes with the package

EMBEDDED_NAME = "vgg19_imagenet.h5"

EMBEDDED_DIGEST = "2c244441fcc1f8719bd293636d55594a07de3900b9c675fbc86f9f2d86a9764c"

CENTRES = 256  # what a uint8 code can tell apart


PathLike: TypeAlias = str | os.PathLike[str]

Datasets: TypeAlias = Mapping[str, np.ndarray]  # "conv1_1/kernel" -> array, as stored

Layout: TypeAlias = Mapping[str, tuple[tuple[int, ...], str]]  # dataset name -> shape, dtype


class WeightsInfo(NamedTuple):
    """What a weights file says about itself."""

    name: str  # of the file, without its folder
    family: str
    pixels: str
    encoding: str
    digest: str  # as stated; `load_params` is what verifies it
    origin: str
    licence: str
    parameters: int  # kernel and bias entries
    layers: tuple[str, ...]


class _Place(NamedTuple):
    """A weights file and what to call whoever asked for it in a message."""

    path: Path
    argument: str

    def error(self, problem: str) -> ValueError:
        """Make the error that says what is wrong with this file."""
        return ValueError(f"`{self.argument}`: '{self.path}' {problem}")


def load_params(path: PathLike | None = None) -> Params:
    """Read the weights of a VGG-19 trunk, verified.

    The file is `path`, else the one named by the environment variable `NST_JAX_WEIGHTS`, else the
    ImageNet VGG-19 that comes with the package. Its digest is computed and compared, then its names
    and shapes are held against the network's. The embedded file's digest is also known to the code.

    Args:
      path: a weights file of this package (`nst-jax weights convert` makes them), or None.

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
    place = _find(path)
    with _opened(place) as file:
        info = _info(place, file)
        datasets = {name: dataset[()] for name, dataset in _stored(place, file).items()}
    _check_digest(place, info, datasets)
    _check_layout(place, _expected(info.encoding), _layout(datasets))
    layers = {
        layer: {"kernel": _decoded(datasets, layer), "bias": datasets[f"{layer}/bias"]}
        for layer in LAYERS
    }
    # At once, and not by `jnp.asarray`, which compiles a program for every shape.
    return Params(jax.device_put(layers), family=info.family, pixels=info.pixels)


def read_info(path: PathLike | None = None) -> WeightsInfo:
    """Read what a weights file says about itself, without reading the weights.

    Args:
      path: a weights file, or None for the one that `load_params` would take.

    Returns:
      `WeightsInfo`, as stated by the file: nothing is verified here.

    Raises:
      ValueError: the file is missing, damaged or of another kind.

    Example:
      >>> info = read_info()
      >>> info.encoding, info.parameters
      ('codes', 20024384)
    """
    place = _find(path)
    with _opened(place) as file:
        return _info(place, file)


def save_params(
    path: PathLike,
    params: Params,
    *,
    encoding: str = "float32",
    origin: str = "",
    licence: str = "",
) -> None:
    """Write a weights file; an existing file is replaced only by a complete one.

    `"codes"` keeps a kernel exactly if it has at most 256 distinct values. Otherwise they become the
    256 centres of Lloyd's one-dimensional k-means, each weight rounded to the nearest.

    Args:
      path: where to write.
      params: weights that fit the network.
      encoding: how kernels are kept: `"float32"`, `"float16"` or `"codes"` (a quarter of float32).
        Biases are always float32.
      origin: where the weights come from, for people.
      licence: under which terms, for people.

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
        "format": FORMAT,
        "version": VERSION,
        "encoding": encoding,
        "family": params.family,
        "pixels": params.pixels,
        "origin": origin,
        "licence": licence,
        "digest": _digest(params.family, params.pixels, datasets),
    }
    _write(Path(path), attributes, datasets)


# --- Finding and opening --------------------------------------------------------------------------


def _find(path: PathLike | None) -> _Place:
    """Apply the precedence: argument, environment variable, embedded file."""
    if path is not None:
        return _Place(Path(path), "weights")
    if os.environ.get(VARIABLE):
        return _Place(Path(os.environ[VARIABLE]), VARIABLE)
    # A wheel carries the file inside this package; a checkout keeps it in its own folder `weights`.
    here = Path(__file__).parent
    inside, beside = here / EMBEDDED_NAME, here.parents[1] / "weights" / EMBEDDED_NAME
    return _Place(inside if inside.exists() else beside, EMBEDDED)


@contextmanager
def _opened(place: _Place) -> Iterator[h5py.File]:
    """Open a weights file of this package, or say what came instead."""
    _check_file(place)
    if not h5py.is_hdf5(place.path):
        raise _wrong_kind(place)
    try:
        with h5py.File(place.path, "r") as file:
            if file.attrs.get("format") != FORMAT:
                raise _wrong_kind(place)
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise place.error(f"is damaged or cut short; get or convert it again ({error})") from error


def _check_file(place: _Place) -> None:
    """Refuse what is no file, cannot be read or is empty."""
    path = place.path
    if not path.exists():
        remedy = "reinstall nst-jax" if place.argument == EMBEDDED else "check the path"
        raise place.error(f"does not exist; {remedy}")
    if path.is_dir():
        raise place.error("is a folder; name the weights file in it")
    if not os.access(path, os.R_OK):
        raise place.error("may not be read; check its permissions")
    if path.stat().st_size == 0:
        raise place.error("is empty; get or convert it again")


def _wrong_kind(place: _Place) -> ValueError:
    return place.error(
        "is not a weights file of nst-jax; if it holds VGG-19 weights of Keras or PyTorch, "
        f"`nst-jax weights convert {place.path.name} -o OUT.h5` makes one of it"
    )


# --- Reading --------------------------------------------------------------------------------------


def _info(place: _Place, file: h5py.File) -> WeightsInfo:
    """Read the attributes and count what is stored."""
    if file.attrs.get("version") != VERSION:
        came = file.attrs.get("version")
        raise place.error(f"has format version {came}, expected {VERSION}; update nst-jax")
    names = ("family", "pixels", "encoding", "digest", "origin", "licence")
    text = {name: file.attrs.get(name) for name in names}
    for name, value in text.items():
        if not isinstance(value, str):
            raise place.error(f"does not state its {name}; convert it again")
    for name, known in {"encoding": ENCODERS, "pixels": PIXELS}.items():
        if text[name] not in known:
            raise place.error(f"has {name} {text[name]!r}, expected one of {', '.join(known)}")
    stored = _stored(place, file)
    sizes = (data.size for name, data in stored.items() if not name.endswith("/centres"))
    layers = tuple(sorted({name.split("/")[0] for name in stored}))
    return WeightsInfo(name=place.path.name, parameters=sum(sizes), layers=layers, **text)


def _stored(place: _Place, file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset of the file by its full name, unread."""
    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(visit)
    # Nothing is compressed, so a file cannot declare more than it holds; what does would fill
    # memory with zeros.
    declared = sum(dataset.nbytes for dataset in found.values())
    if declared > place.path.stat().st_size:
        raise place.error(f"declares {declared} bytes, more than the file has; convert it again")
    return found


def _decoded(datasets: Datasets, layer: str) -> np.ndarray:
    """Return a layer's kernel as float32."""
    if f"{layer}/codes" in datasets:
        return datasets[f"{layer}/centres"][datasets[f"{layer}/codes"]]
    return datasets[f"{layer}/kernel"].astype(np.float32)


# --- Verifying ------------------------------------------------------------------------------------


def digest(params: Params) -> str:
    """Return the digest that a float32 file of these weights has, whatever they were read from."""
    arrays = {
        f"{layer}/{name}": np.asarray(value, np.dtype("<f4"))
        for layer, weights in params.layers.items()
        for name, value in weights.items()
    }
    return _digest(params.family, params.pixels, arrays)


def _digest(family: str, pixels: str, datasets: Datasets) -> str:
    """Hash names, types, shapes and bytes in name order; the module's docstring says exactly how."""
    sha = hashlib.sha256(_line([FORMAT, VERSION, family, pixels]))
    for name in sorted(datasets):
        array = datasets[name]
        sha.update(_line([name, array.dtype.str, list(array.shape)]))
        sha.update(array.tobytes())
    return sha.hexdigest()


def _line(values: list) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _check_digest(place: _Place, info: WeightsInfo, datasets: Datasets) -> None:
    """Compare what is stored with what the file states, and the embedded file with the code."""
    digest = _digest(info.family, info.pixels, datasets)
    if digest != info.digest:
        raise place.error(f"has digest {digest} but states {info.digest}; get or convert it again")
    if place.argument == EMBEDDED and digest != EMBEDDED_DIGEST:
        raise place.error(f"has digest {digest}, expected {EMBEDDED_DIGEST}; reinstall nst-jax")


def _expected(encoding: str) -> Layout:
    """Return what a file in this encoding stores, from the network's own table."""
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


def _layout(datasets: Datasets) -> Layout:
    return {name: (array.shape, array.dtype.name) for name, array in datasets.items()}


def _check_layout(place: _Place, expected: Layout, found: Layout) -> None:
    """Refuse names or shapes that differ from the network's, showing both sides."""
    differences = layout_differences(expected, found)
    if differences:
        raise place.error(f"does not fit VGG-19: {differences}; convert the original again")


def layout_differences(expected: Layout, found: Layout) -> str:
    """Describe in one line where two tables of names, shapes and types differ.

    Args:
      expected: dataset name to `(shape, dtype)`, as the network wants them.
      found: the same, as they came.

    Returns:
      The first three differences with both sides, and how many more there are; empty if none.

    Example:
      >>> layout_differences({"conv1_1/bias": ((64,), "float32")}, {})
      'conv1_1/bias is missing, expected [64] float32'
    """

    def side(layout: Layout, name: str) -> str:
        shape, dtype = layout[name]
        return f"{list(shape)} {dtype}"

    lines = [
        f"{name} is missing, expected {side(expected, name)}" for name in expected.keys() - found
    ]
    lines += [f"{name} {side(found, name)} is not expected" for name in found.keys() - expected]
    lines += [
        f"{name} is {side(found, name)}, expected {side(expected, name)}"
        for name in expected.keys() & found
        if expected[name] != found[name]
    ]
    lines = sorted(lines)
    rest = [f"and {len(lines) - 3} more"] if len(lines) > 3 else []
    return "; ".join(lines[:3] + rest)


def check_destination(path: PathLike, *, argument: str = "path") -> None:
    """Refuse a place where no file can be written, before the work is done.

    Args:
      path: the file to be written.
      argument: how the caller calls it, for messages.

    Raises:
      ValueError: `path` is a folder, or its folder is missing or may not be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a folder; name a file in it")
    if not path.parent.is_dir():
        raise ValueError(f"`{argument}`: the folder '{path.parent}' does not exist; make it first")
    if not os.access(path.parent, os.W_OK):
        raise ValueError(f"`{argument}`: the folder '{path.parent}' may not be written to")


# --- Encoding and writing -------------------------------------------------------------------------


def _encoded(params: Params, encoding: str) -> dict[str, np.ndarray]:
    """Return the datasets to store, after holding names and shapes against the network's."""
    arrays = {
        f"{layer}/{name}": np.asarray(value, np.dtype("<f4"))
        for layer, weights in params.layers.items()
        for name, value in weights.items()
    }
    if differences := layout_differences(_expected("float32"), _layout(arrays)):
        raise ValueError(f"`params`: does not fit VGG-19: {differences}; take a VGG-19's weights")
    datasets: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`params`: {name} has values that are not finite; take other weights")
        layer, part = name.split("/")
        parts = ENCODERS[encoding](array) if part == "kernel" else {part: array}
        datasets |= {f"{layer}/{part}": array for part, array in parts.items()}
    return datasets


def _as_float32(kernel: np.ndarray) -> dict[str, np.ndarray]:
    return {"kernel": kernel}


def _as_float16(kernel: np.ndarray) -> dict[str, np.ndarray]:
    largest = np.abs(kernel).max()
    if largest > np.finfo(np.float16).max:
        raise ValueError(f"`encoding`: float16 cannot hold {largest:g}; take float32 or codes")
    return {"kernel": kernel.astype("<f2")}


def _as_codes(kernel: np.ndarray) -> dict[str, np.ndarray]:
    """Return uint8 codes and the sorted centres they index."""
    values, counts = np.unique(kernel, return_counts=True)
    centres = values if values.size <= CENTRES else _lloyd(values.astype(np.float64), counts)
    # Unused places repeat the last centre, so that every file has the same shapes.
    centres = np.pad(centres, (0, CENTRES - centres.size), mode="edge").astype("<f4")
    codes = np.searchsorted(_borders(centres), kernel, side="left")
    return {"codes": codes.astype(np.uint8), "centres": centres}


def _borders(centres: np.ndarray) -> np.ndarray:
    """Return the midpoints between neighbours, in float64 where they are exact."""
    return (centres[1:].astype(np.float64) + centres[:-1]) / 2


def _lloyd(values: np.ndarray, counts: np.ndarray, iterations: int = 200) -> np.ndarray:
    """Return 256 centres for sorted values that occur `counts` times, by one-dimensional k-means.

    The start spreads the centres like the cube root of the density, which is where the best ones
    lie when there are many (Panter and Dite, 1951).
    """
    # In finer bins the sparse tails would count for more than their density.
    histogram, edges = np.histogram(values, 2 * CENTRES, weights=counts)
    mass = np.concatenate([[0.0], np.cumsum(np.cbrt(histogram))])
    centres = np.interp((np.arange(CENTRES) + 0.5) / CENTRES * mass[-1], mass, edges)
    weight = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    moment = np.concatenate([[0.0], np.cumsum(values * counts)])
    for _ in range(iterations):
        cuts = np.searchsorted(values, _borders(centres))
        bounds = np.concatenate([[0], cuts, [values.size]])
        share, total = np.diff(weight[bounds]), np.diff(moment[bounds])
        # A centre nobody is near to stays where it is.
        centres = np.where(share > 0, total / np.maximum(share, 1), centres)
    return centres


ENCODERS: Mapping[str, Callable[[np.ndarray], dict[str, np.ndarray]]] = {
    "float32": _as_float32,
    "float16": _as_float16,
    "codes": _as_codes,
}


def _write(path: Path, attributes: Mapping[str, str | int], datasets: Datasets) -> None:
    """Write beside the destination, then put the complete file in its place."""
    try:
        with _files.whole(path) as part:
            _write_hdf5(part, attributes, datasets)
    except OSError as error:
        raise ValueError(f"`path`: '{path}' cannot be written ({error})") from error


def _write_hdf5(path: Path, attributes: Mapping[str, str | int], datasets: Datasets) -> None:
    """Write a file whose bytes depend on nothing but its contents."""
    # A fixed range of format versions and no times: the same weights give the same file, and old
    # readers of HDF5 can open it.
    with h5py.File(path, "x", libver=("earliest", "v108")) as file:
        file.attrs.update(attributes)
        for name in sorted(datasets):
            file.create_dataset(name, data=datasets[name], track_times=False)
