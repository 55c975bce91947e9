"""Read PyTorch's two file formats without torch and without executing the pickles in them.

A PyTorch file is a pickle, which can import and call anything. The unpickler here knows a handful of
names of functions and classes, imports none of them, and makes descriptions of tensors instead of
tensors. It refuses every other name without importing it, so a malicious file has no effect.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Refusal(ValueError):
    """Raised to refuse a file for a known reason; parsing a damaged file raises other errors."""


def refusal(path: Path, problem: str) -> Refusal:
    """Make the error about a source file, with a message of one line."""
    # `problem` may contain names from the file, which may have line breaks.
    return Refusal(f"`source`: '{path}' {' '.join(problem.split())}")


class StoredArray(NamedTuple):
    """One array of a file, not yet read: `read()` returns its values."""

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]


class _Storage(NamedTuple):
    """A sequence of numbers in the file that tensors are views of."""

    key: str
    dtype: str
    length: int

    @property
    def size(self) -> int:
        """Length of the storage in bytes."""
        return self.length * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
    """A tensor as its pickle describes it: a view of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, read: Callable[[_Storage], bytes]) -> np.ndarray:
        """Return the tensor as an array; NumPy raises an error if it would exceed the storage."""
        dtype = np.dtype(self.storage.dtype)
        strides = tuple(dtype.itemsize * stride for stride in self.strides)
        return np.ndarray(
            self.shape, dtype, read(self.storage), self.offset * dtype.itemsize, strides
        )


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"a tensor has {value!r} where a count is expected")
    return value


class _RebuildTensor:
    """Replaces `torch._utils._rebuild_tensor_v2`: its arguments become a `_Tensor`."""

    __slots__ = ()  # so that a pickle cannot set attributes of this instance, which all files share

    def __call__(
        self, storage: _Storage, offset: int, shape: tuple, strides: tuple, *_: object
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor has no storage")
        sizes, steps = (tuple(map(_count, numbers)) for numbers in (shape, strides))
        return _Tensor(storage, _count(offset), sizes, steps)


class _RebuildParameter:
    """Replaces `torch._utils._rebuild_parameter`: a parameter becomes its tensor."""

    __slots__ = ()

    def __call__(self, tensor: _Tensor, *_: object) -> _Tensor:
        return tensor


_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
}

_GLOBALS = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
} | {("torch", name): dtype for name, dtype in _DTYPES.items()}


class _Unpickler(pickle.Unpickler):
    """Loads dictionaries of `_Tensor`; refuses names outside `_GLOBALS` without importing them."""

    def __init__(self, path: Path, file: io.BufferedIOBase) -> None:
        super().__init__(file)
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _GLOBALS:
            raise refusal(
                self.path,
                f"asks to import {module}.{name}, which could run anything; save plain tensors: "
                "`torch.save(model.state_dict(), FILE)`",
            )
        return _GLOBALS[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, length, *view = pid
        # Before 2017 a storage could be a view of another; such files are refused.
        if kind != "storage" or dtype not in _DTYPES.values() or any(view):
            raise ValueError(f"a storage is described by {pid!r}")
        storage = _Storage(str(key), dtype, _count(length))
        return self.storages.setdefault(storage.key, storage)


def _tensors(path: Path, loaded: object) -> dict[str, _Tensor]:
    """Return the tensors of a state dict; other values in it are ignored."""
    if not isinstance(loaded, dict):
        came = type(loaded).__name__.lstrip("_")
        raise refusal(path, f"contains a {came}; save a state dict: `model.state_dict()`")
    return {str(key): value for key, value in loaded.items() if isinstance(value, _Tensor)}


def _stored_arrays(
    tensors: Mapping[str, _Tensor], read: Callable[[_Storage], bytes]
) -> dict[str, StoredArray]:
    return {
        key: StoredArray(
            tensor.shape,
            np.dtype(tensor.storage.dtype).name,
            partial(tensor.array, read),
        )
        for key, tensor in tensors.items()
    }


def zip_arrays(path: Path) -> dict[str, StoredArray]:
    """Return the arrays of a file of torch 1.6 or later: a zip file of one pickle and the storages."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise refusal(path, "is a zip file, but not one that torch.save wrote")
        root = roots[0]
        if f"{root}byteorder" in names and _member(archive, f"{root}byteorder") != b"little":
            raise refusal(path, "was saved by a big-endian machine; save it again on another")
        pickled = _member(archive, f"{root}data.pkl")
        tensors = _tensors(path, _Unpickler(path, io.BytesIO(pickled)).load())

    def read(storage: _Storage) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return _member(archive, f"{root}data/{storage.key}")

    return _stored_arrays(tensors, read)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one file of the archive; refuse compressed ones: torch writes none, and they may be huge."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


# The first pickle of a legacy file, in pickle protocol 2: the number that torch calls its magic number.
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

_LEGACY_PROTOCOL = 1001


def legacy_arrays(path: Path) -> dict[str, StoredArray]:
    """Return the arrays of a file in the older format.

    The format is five pickles (magic number, protocol, system, object, storage keys), then storages.
    """
    with path.open("rb") as file:
        _, protocol, system = (_Unpickler(path, file).load() for _ in range(3))
        if protocol != _LEGACY_PROTOCOL:
            raise refusal(path, f"has torch's protocol {protocol}, expected {_LEGACY_PROTOCOL}")
        if not system["little_endian"]:
            raise refusal(path, "was saved by a big-endian machine; save it again on another")
        unpickler = _Unpickler(path, file)
        tensors = _tensors(path, unpickler.load())
        keys = _Unpickler(path, file).load()
        starts = _storage_starts(file, [unpickler.storages[key] for key in keys])

    def read(storage: _Storage) -> bytes:
        with path.open("rb") as file:
            file.seek(starts[storage.key])
            return file.read(storage.size)

    return _stored_arrays(tensors, read)


def _storage_starts(file: io.BufferedIOBase, storages: list[_Storage]) -> dict[str, int]:
    """Return the position of each storage's numbers; their count precedes them in eight bytes."""
    position, size, starts = file.tell(), file.seek(0, io.SEEK_END), {}
    for storage in storages:
        file.seek(position)
        length = int.from_bytes(file.read(8), "little")
        starts[storage.key] = position + 8
        position += 8 + storage.size
        if position > size:
            raise ValueError(f"storage {storage.key} ends at byte {position} of {size}")
        if length != storage.length:
            raise ValueError(f"storage {storage.key} has {length} numbers, not {storage.length}")
    return starts
