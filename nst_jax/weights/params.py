"""Find a weights file, read and verify it, or write one.

A weights file is an HDF5 file, as `_hdf5` reads and writes it. Its attributes are `format` ("nst-jax
weights"), `version` (1) and those that `WeightsInfo` describes: `network`, `encoding`, `family`,
`pixels`, `origin`, `licence` and `digest`. Without `network`, the weights are those of VGG-19. A file
has one group per layer: for VGG-19 the layers of `vgg.LAYERS`, for another network those that the
network's `Architecture` names. A parameter other than a kernel, such as `bias` of shape `[out]`, is one
dataset of float32. The datasets of a kernel, of shape `[..., out]`, depend on `encoding`:

* `"float32"`, `"float16"`: `kernel`, in this dtype;
* `"codes"`: `codes` (uint8, in the kernel's shape), which index `centres` (float32, `[256]`);
* `"int8"`: `codes` (int8, in the kernel's shape), to be multiplied by `scales` (float32, `[out]`).

The digest is a SHA-256 hash, computed by `digests.digest_of_weights`, of the list
`["nst-jax weights", 1, family, pixels]` and of the names, shapes, types and values of all datasets. It
does not cover the free text in `origin` and `licence`.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import jax
import numpy as np
from flax.traverse_util import unflatten_dict

from nst_jax import _checks, _files, _hdf5
from nst_jax._files import PathLike, check_destination
from nst_jax._hdf5 import Layout, layout_differences, layout_of
from nst_jax._types import Params
from nst_jax.vgg.pixels import PIXELS
from nst_jax.vgg.taps import LAYERS
from nst_jax.weights.digests import WEIGHTS, digest_of_weights
from nst_jax.weights.quantization import CENTRES, ENCODERS, ENCODINGS, INT8, decode_kernel

WEIGHTS_FORMAT = _hdf5.Format(
    name=WEIGHTS[0],
    version=WEIGHTS[1],
    noun="weights file",
    if_damaged="get or convert it again",
    if_foreign="if it contains VGG-19 weights of Keras or PyTorch, "
    "`nst-jax weights convert {name} -o OUT.h5` makes a weights file of it",
    if_other_version="update nst-jax",
)

VARIABLE = "NST_JAX_WEIGHTS"  # environment variable with the path of a weights file

_REINSTALL = "clone nst-jax again and reinstall it"

# The format of a file that comes with the package. Error messages give other advice about it, since
# users neither get nor convert such a file themselves.
_EMBEDDED_FORMAT = WEIGHTS_FORMAT._replace(if_damaged=_REINSTALL, if_foreign=_REINSTALL)

EMBEDDED = "embedded weights"  # what messages call a weights file that comes with the package

# Name of the file of VGG-19's weights that comes with the package.
EMBEDDED_NAME = "vgg19_imagenet.h5"

# The digest that the contents of the file `EMBEDDED_NAME` must have; see `digest_of_weights`.
EMBEDDED_DIGEST = "2c244441fcc1f8719bd293636d55594a07de3900b9c675fbc86f9f2d86a9764c"

# CRC-32 of the file `EMBEDDED_NAME`, by which a damaged file is recognised. Newer weights files contain
# their CRC-32; this one does not.
EMBEDDED_CHECKSUM = 0xBBB749CA


# The most bytes of text in an attribute. HDF5 limits an attribute, with its name and type, to 64 KB.
LARGEST_TEXT = 65_500

# Name of a dataset, such as "conv1_1/kernel" -> the array that is stored.
Datasets: TypeAlias = Mapping[str, np.ndarray]

# Name -> shape of an array. A layer's name, such as "conv1_1", stands for its kernel. Other parameters
# have full names, such as "conv1_1/bias".
Shapes: TypeAlias = Mapping[str, tuple[int, ...]]


class Architecture(NamedTuple):
    """Names and shapes of a network's parameters, and facts about the embedded file of its weights.

    The embedded file of a network's weights is the one that comes with the package.
    """

    name: str  # value of the attribute `network` in the network's weights files
    title: str  # what messages call the network
    kernels: Shapes  # shapes of the kernels, by layer
    others: Shapes  # shapes of all other parameters, by name
    if_unfit: str  # what messages advise for a file that does not fit the network
    embedded: str  # name of the embedded file
    digest: str  # digest that the arrays in the embedded file must have
    # CRC-32 of all bytes of the embedded file; None if the last line of the file states it.
    checksum: int | None = None


# A kernel that is stored in 8 bits has a second HDF5 dataset with the table or the scales by which its
# codes are decoded. The names of such datasets have these endings. Such a dataset does not count as a
# parameter of the network.
TABLES = ("/centres", "/scales")

# Value of the attribute `network` for VGG-19, which is also assumed for files without the attribute.
VGG19 = "vgg19"


class WeightsInfo(NamedTuple):
    """What a weights file states about itself."""

    name: str  # name of the file, without its folder
    network: str  # the network that the weights fit, such as "vgg19"
    family: str  # short name of the weights' origin, such as "vgg19-caffe"
    pixels: str  # name of the pixel convention of the network's input, a key of `vgg.PIXELS`
    encoding: str  # how kernels are stored, one of `quantization.ENCODINGS`
    digest: str  # the digest that the file states; verified only when the weights are read
    origin: str  # where the weights come from, as free text
    licence: str  # the terms under which the weights may be used, as free text
    parameters: int  # number of entries in all kernels and other parameters
    layers: tuple[str, ...]  # names of the layers


def load_params(path: PathLike | None = None) -> Params:
    """Read and verify the weights of VGG-19's convolutions.

    The digest of the file's contents is computed and compared with the digest that the file states; for
    the file that comes with the package, it is also compared with `EMBEDDED_DIGEST`. Then the names and
    shapes of the arrays are compared with those of the network.

    Args:
      path: a weights file of this package (`nst-jax weights convert` makes one). None means the file
        that the environment variable `NST_JAX_WEIGHTS` names; if the variable is not set, None means
        the file with the ImageNet VGG-19 that comes with the package.

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
    return _read(_find(path), vgg19())


def load_params_of(
    architecture: Architecture, path: PathLike | None = None, *, on_host: bool = False
) -> Params:
    """Read and verify the weights of another network, as `load_params` does those of VGG-19.

    Args:
      architecture: the description of the network.
      path: a weights file, or None for the one that comes with the package.
      on_host: whether the weights stay NumPy arrays, and are not put on JAX's default device.

    Returns:
      `Params`, in which `layers` has the float32 arrays in nested dictionaries: the array that the file
      calls "a/b" is `layers["a"]["b"]`.

    Raises:
      ValueError: the file is missing, damaged, of another kind, or does not fit the network.

    Example:
      >>> from nst_jax.feed_forward import arbitrary
      >>> sorted(load_params_of(arbitrary.ARCHITECTURE).layers)
      ['conditions', 'predictor', 'transformer']
    """
    return _read(_source(architecture, path), architecture, on_host=on_host)


def vgg19() -> Architecture:
    """Describe VGG-19's convolutions, and the file of their weights that comes with the package."""
    return Architecture(
        name=VGG19,
        title="VGG-19",
        kernels={layer: (3, 3, *channels) for layer, channels in LAYERS.items()},
        others={f"{layer}/bias": (outputs,) for layer, (_, outputs) in LAYERS.items()},
        if_unfit="convert the original again",
        embedded=EMBEDDED_NAME,
        digest=EMBEDDED_DIGEST,
        checksum=EMBEDDED_CHECKSUM,
    )


def read_info(path: PathLike | None = None) -> WeightsInfo:
    """Read what a file of VGG-19's weights states about itself, without loading the weights.

    Args:
      path: a weights file, or None for the one that `load_params` would read.

    Returns:
      `WeightsInfo`; the digest in it is the one that the file states, and is not verified here.

    Raises:
      ValueError: the file is missing, damaged or of another kind.

    Example:
      >>> info = read_info()
      >>> info.encoding, info.parameters
      ('codes', 20024384)
    """
    return _read_info(_find(path))


def read_info_of(architecture: Architecture, path: PathLike | None = None) -> WeightsInfo:
    """Read what a weights file of a network other than VGG-19 states about itself.

    Args:
      architecture: the description of the network.
      path: a weights file, or None for the one that comes with the package.

    Returns:
      `WeightsInfo`, as from `read_info`.

    Raises:
      ValueError: the file is missing, damaged or of another kind.

    Example:
      >>> from nst_jax.feed_forward import styles26
      >>> read_info_of(styles26.ARCHITECTURE).family
      'tensorflow-stylize'
    """
    return _read_info(_source(architecture, path))


def _read_info(source: _hdf5.Source) -> WeightsInfo:
    with _hdf5.opened(source) as file:
        return _info(source, file)[0]


def save_params(
    path: PathLike,
    params: Params,
    *,
    encoding: str = "float32",
    origin: str = "",
    licence: str = "",
) -> None:
    """Write VGG-19's weights to a file; an existing file is replaced only once the new one is complete.

    The encoding `"codes"` stores a kernel exactly if it has at most 256 distinct values. If it has
    more, each value is rounded to the nearest of 256 centres, found by one-dimensional k-means (Lloyd's
    algorithm).

    Args:
      path: path of the file to write.
      params: weights of VGG-19.
      encoding: how kernels are stored: `"float32"`, `"float16"` or `"codes"` (a quarter of the size
        of float32). Biases are always float32.
      origin: where the weights come from, as free text.
      licence: the terms under which the weights may be used, as free text.

    Raises:
      TypeError: `path` is not a path, or `params` are not a `Params`; or `params.family`, `origin` or
        `licence` is not text.
      ValueError: the weights do not fit VGG-19 or the encoding, or are not finite; `encoding` or the
        pixel convention `params.pixels` is unknown; a text has more than 65 500 bytes, or characters
        that UTF-8 does not have; or `path` cannot be written to.

    Example:
      >>> import tempfile
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     save_params(f"{folder}/half.h5", load_params(), encoding="float16")
      ...     read_info(f"{folder}/half.h5").encoding
      'float16'
    """
    check_destination(path)
    _checks.instance("params", params, Params, "the order is save_params(path, params)")
    _checks.one_of("encoding", encoding, ENCODERS, "encoding")
    _checks.one_of("params.pixels", params.pixels, PIXELS, "pixel convention")
    texts = {"params.family": params.family, "origin": origin, "licence": licence}
    for name, text in texts.items():
        _check_text(name, text)
    datasets = _encoded(params, encoding)
    write_datasets(
        path,
        datasets,
        encoding=encoding,
        family=params.family,
        pixels=params.pixels,
        origin=origin,
        licence=licence,
    )


def _check_text(argument: str, value: Any) -> None:
    """Refuse what cannot be an attribute of a weights file: UTF-8 text of limited length."""
    if not isinstance(value, str):
        raise TypeError(f"`{argument}`: expected text, got {_checks.shown(value)}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError(
            f"`{argument}`: {_checks.shown(value)} has characters that UTF-8 does not have; leave "
            "them out"
        ) from None
    if size > LARGEST_TEXT:
        raise ValueError(
            f"`{argument}`: has {size} bytes in UTF-8, and HDF5 stores at most {LARGEST_TEXT} in an "
            "attribute; shorten it"
        )


def write_datasets(path: PathLike, datasets: Datasets, **about: str) -> None:
    """Write a weights file from arrays that are encoded already.

    Args:
      path: path of the file to write.
      datasets: the arrays by name, such as `"conv1_1/codes"`, encoded as `about["encoding"]` says.
      **about: the attributes `encoding`, `family`, `pixels`, `origin` and `licence`; for a network
        other than VGG-19 also `network`.

    Raises:
      ValueError: `path` cannot be written to.
    """
    attributes: dict[str, str | int] = {
        "format": WEIGHTS_FORMAT.name,
        "version": WEIGHTS_FORMAT.version,
        **about,
        "digest": digest_of_weights(about["family"], about["pixels"], datasets),
    }
    try:
        with _hdf5.created(Path(path)) as file:
            _hdf5.set_attributes(file, attributes)
            _hdf5.store(file, datasets)
    except (OSError, RuntimeError) as error:
        reason = _files.reason_of(error)
        raise ValueError(f"`path`: '{path}' cannot be written ({reason})") from error


# --- Reading --------------------------------------------------------------------------------------


def _find(path: PathLike | None) -> _hdf5.Source:
    """Return the weights file at `path`, or the default file if `path` is None.

    The default file is the one that the environment variable `NST_JAX_WEIGHTS` names. If the variable
    is not set or is empty, it is the file with VGG-19 that comes with the package.
    """
    if path is not None:
        return _given(path)
    if os.environ.get(VARIABLE):
        return _hdf5.Source(Path(os.environ[VARIABLE]), VARIABLE, WEIGHTS_FORMAT)
    return _embedded(vgg19())


def file_of_vgg19(path: PathLike | None = None) -> Path:
    """Return the path of the file that `load_params` would read for `path`."""
    return _find(path).path


def _source(architecture: Architecture, path: PathLike | None) -> _hdf5.Source:
    if path is None:
        return _embedded(architecture)
    return _given(path)


def _given(path: PathLike) -> _hdf5.Source:
    """Return the weights file at a path that a caller gave."""
    return _hdf5.Source(_files.as_path(path, argument="weights"), "weights", WEIGHTS_FORMAT)


def embedded_file(architecture: Architecture) -> Path:
    """Return the path of the weights file that comes with the package for a network."""
    # An installed wheel has the file in the folder `nst_jax/weights`, beside this module. A checkout of
    # the repository has it in the folder `weights` beside `nst_jax`.
    here, name = Path(__file__).parent, architecture.embedded
    inside, beside = here / name, here.parents[1] / "weights" / name
    return inside if inside.exists() else beside


def _embedded(architecture: Architecture) -> _hdf5.Source:
    return _hdf5.Source(
        embedded_file(architecture),
        EMBEDDED,
        _EMBEDDED_FORMAT,
        if_missing=_REINSTALL,
        checksum=architecture.checksum,
    )


def _read(source: _hdf5.Source, architecture: Architecture, *, on_host: bool = False) -> Params:
    """Read a weights file, verify its digest, and check that its arrays are those of the network.

    With `on_host`, the weights stay NumPy arrays; else they are put on JAX's default device.
    """
    with _hdf5.opened(source) as file:
        info, stored = _info(source, file)
        if info.network != architecture.name:
            raise source.error(
                f"has weights of the network {info.network!r}, expected {architecture.name!r}; "
                f"name a weights file of {architecture.title}"
            )
        datasets = _hdf5.arrays_of(stored)
    _check_digest(source, info, datasets, architecture)
    expected = expected_layout(architecture, info.encoding)
    if differences := layout_differences(expected, layout_of(datasets)):
        raise source.error(
            f"does not fit {architecture.title}: {differences}; {architecture.if_unfit}"
        )
    arrays = {name: datasets[name] for name in architecture.others}
    for layer in architecture.kernels:
        arrays[f"{layer}/kernel"] = decode_kernel(datasets, layer)
    layers = unflatten_dict(dict(arrays), sep="/")
    if not on_host:
        # `jax.device_put` compiles nothing; `jnp.asarray` would compile a program for every shape.
        layers = jax.device_put(layers)
    return Params(layers, family=info.family, pixels=info.pixels)


def _info(source: _hdf5.Source, file: h5py.File) -> tuple[WeightsInfo, dict[str, h5py.Dataset]]:
    """Read and check the attributes of a file, and count its parameters without reading them.

    Returns:
      What the file states about itself, and its datasets by name, not yet read.
    """
    names = ("family", "pixels", "encoding", "digest", "origin", "licence")
    text: dict[str, Any] = {name: _hdf5.attribute(file, name) for name in names}
    for name, value in text.items():
        if not isinstance(value, str):
            raise source.error(f"does not state its {name}; {source.format.if_damaged}")
    text["network"] = _hdf5.attribute(file, "network") or VGG19
    for name, known in {"encoding": ENCODINGS, "pixels": PIXELS}.items():
        if text[name] not in known:
            raise source.error(f"has {name} {text[name]!r}, expected one of {', '.join(known)}")
    stored = _hdf5.datasets_in(source, file)
    sizes = (data.size for name, data in stored.items() if not name.endswith(TABLES))
    layers = tuple(sorted({name.rpartition("/")[0] for name in stored}))
    name = source.path.name
    return WeightsInfo(name=name, parameters=sum(sizes), layers=layers, **text), stored


# --- Verifying ------------------------------------------------------------------------------------


def digest(params: Params) -> str:
    """Return a hash by which runs and trainings record the weights that they used.

    A weights file that has these weights in the encoding "float32" states the same digest.
    """
    return digest_of_weights(params.family, params.pixels, _as_datasets(params))


def _as_datasets(params: Params) -> dict[str, np.ndarray]:
    """Return weights as little-endian float32 by dataset name, such as `"conv1_1/kernel"`."""
    return dict(_flat(params.layers))


def _flat(layers: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, np.ndarray]]:
    for name, value in layers.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield f"{prefix}{name}", np.asarray(value, np.dtype("<f4"))


def _check_digest(
    source: _hdf5.Source, info: WeightsInfo, datasets: Datasets, architecture: Architecture
) -> None:
    """Refuse datasets whose digest differs from the one that their file states.

    For an embedded file (one that comes with the package), the digest must also be the one that
    `architecture` states.
    """
    digest = digest_of_weights(info.family, info.pixels, datasets)
    if digest != info.digest:
        raise source.error(
            f"has digest {digest} but states {info.digest}; {source.format.if_damaged}"
        )
    if source.argument == EMBEDDED and digest != architecture.digest:
        raise source.error(f"has digest {digest}, expected {architecture.digest}; {_REINSTALL}")


def expected_layout(architecture: Architecture, encoding: str) -> Layout:
    """Return the names, shapes and types of the datasets that a file in this encoding must have."""
    layout = {name: (shape, "float32") for name, shape in architecture.others.items()}
    for layer, kernel in architecture.kernels.items():
        if encoding == "codes":
            layout[f"{layer}/centres"] = ((CENTRES,), "float32")
            layout[f"{layer}/codes"] = (kernel, "uint8")
        elif encoding == INT8:
            layout[f"{layer}/scales"] = (kernel[-1:], "float32")
            layout[f"{layer}/codes"] = (kernel, "int8")
        else:
            layout[f"{layer}/kernel"] = (kernel, encoding)
    return layout


# --- Writing --------------------------------------------------------------------------------------


def _encoded(params: Params, encoding: str) -> dict[str, np.ndarray]:
    """Return the arrays of a weights file: those of `params`, with the kernels encoded.

    `encoding` is a key of `ENCODERS`, such as "float16". Weights that are not finite, or do not fit
    VGG-19, raise ValueError.
    """
    arrays = _as_datasets(params)
    if differences := layout_differences(expected_layout(vgg19(), "float32"), layout_of(arrays)):
        raise ValueError(f"`params`: does not fit VGG-19: {differences}; take a VGG-19's weights")
    datasets: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"`params`: {name} has values that are not finite; take other weights")
        layer, _, part = name.rpartition("/")
        parts = ENCODERS[encoding](array) if part == "kernel" else {part: array}
        datasets |= {f"{layer}/{part}": array for part, array in parts.items()}
    return datasets
