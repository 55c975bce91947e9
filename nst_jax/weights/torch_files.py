"""Read PyTorch's two file formats without torch, and without importing what the pickles in them name.

A PyTorch file contains pickles, and a pickle can import and call anything. The unpickler here knows the
names of a few functions and classes; it imports none of them, and makes descriptions of tensors instead
of tensors. It refuses every other name without importing it, so a malicious file has no effect.

Loading a pickle of a few hundred bytes can also take gigabytes of memory, or hours. So the opcodes of a
pickle are scanned before it is loaded. Only opcodes that torch writes are allowed. The sizes of the
pickle, of its tuples and of its table of values (the memo) are limited.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

LONGEST_PROBLEM = 400  # largest number of characters that `refusal` takes of its argument `problem`


class Refusal(ValueError):
    """Raised to refuse a file for a known reason; if reading raises another error, it is damaged."""


def refusal(path: Path, problem: str) -> Refusal:
    """Return the error that refuses the file at `path`, with a message of one line."""
    # `problem` may contain names from the file. These may be long, and may have line breaks and other
    # characters that control a terminal.
    line = "".join(map(_printable, " ".join(problem.split())))
    if len(line) > LONGEST_PROBLEM:
        line = f"{line[: LONGEST_PROBLEM - 3]}..."
    return Refusal(f"`source`: '{path}' {line}")


def _printable(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]


class StoredArray(NamedTuple):
    """One array of a file, not yet read."""

    shape: tuple[int, ...]
    dtype: str  # NumPy's name of the dtype, such as "float32"
    read: Callable[[], np.ndarray]  # reads the values from the file


class _Storage(NamedTuple):
    """A sequence of numbers in a file, of which tensors are views: what torch calls a storage."""

    key: str  # name of the storage in the file
    dtype: str  # the numbers' dtype as NumPy writes it, such as "<f4"
    length: int  # how many numbers it has

    @property
    def size(self) -> int:
        """Length of the storage in bytes."""
        return self.length * np.dtype(self.dtype).itemsize


class _Tensor(NamedTuple):
    """A tensor as a pickle describes it: a view of a storage."""

    storage: _Storage
    offset: int  # position of the first number in the storage; in numbers, not bytes
    shape: tuple[int, ...]
    # For each axis, the distance in the storage of neighbouring entries; in numbers, not bytes.
    strides: tuple[int, ...]

    def array(self, read: Callable[[_Storage], bytes]) -> np.ndarray:
        """Return the tensor as an array; NumPy raises an error if it would exceed the storage."""
        dtype = np.dtype(self.storage.dtype)
        strides = tuple(dtype.itemsize * stride for stride in self.strides)
        return np.ndarray(
            self.shape, dtype, read(self.storage), self.offset * dtype.itemsize, strides
        )


# Error messages state the type of an unexpected value, and the value itself only if it is an integer. A
# value of another type may take few bytes in a file, but gigabytes as text: for example, a list that
# contains another list twice, which contains another list twice, and so on.


def _count(value: object) -> int:
    if not isinstance(value, int) or value < 0:
        came = value if isinstance(value, int) else f"a {type(value).__name__}"
        raise ValueError(f"a tensor has {came} where a count is expected")
    return value


def _counts(values: object) -> tuple[int, ...]:
    # A list is refused: `_check_opcodes` limits the sizes of tuples, but not those of lists.
    if not isinstance(values, tuple):
        raise TypeError(f"a tensor has a {type(values).__name__} where a tuple is expected")
    return tuple(map(_count, values))


class _RebuildTensor:
    """Replaces `torch._utils._rebuild_tensor_v2`: its arguments become a `_Tensor`."""

    # The unpickler uses one instance for all pickles (see `_GLOBALS`). Since it has no attributes, no
    # pickle can change it for those that are read later.
    __slots__ = ()

    def __call__(
        self, storage: object, offset: object, shape: object, strides: object, *_: object
    ) -> _Tensor:
        if not isinstance(storage, _Storage):
            raise TypeError("a tensor has no storage")
        return _Tensor(storage, _count(offset), _counts(shape), _counts(strides))


class _RebuildParameter:
    """Replaces `torch._utils._rebuild_parameter`: a parameter becomes the `_Tensor` of its values."""

    # One instance serves all pickles. It can have no attributes, so no pickle can change it.
    __slots__ = ()

    def __call__(self, tensor: object, *_: object) -> _Tensor:
        if not isinstance(tensor, _Tensor):
            raise TypeError("a parameter has no tensor")
        return tensor


class _MakeDictionary:
    """Replaces `collections.OrderedDict`, which pickles from Python 2 call with a list of pairs."""

    # One instance serves all pickles. It can have no attributes, so no pickle can change it.
    __slots__ = ()

    def __call__(self, *pairs: object) -> OrderedDict:
        if not pairs:
            return OrderedDict()
        (items,) = pairs
        if not isinstance(items, list):
            raise TypeError(f"a dictionary is made from a {type(items).__name__}")
        found = OrderedDict(items)
        # A pickle can pass one list any number of times. If the list stayed full, a small file could
        # make so many long dictionaries that they fill memory.
        items.clear()
        return found


# Torch's class of a storage -> the dtype of its numbers, as NumPy writes it.
_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ByteStorage": "|u1",
}

# (module, name) of a function or class that a pickle may import -> what the unpickler uses in place of
# it.
_GLOBALS = {
    ("collections", "OrderedDict"): _MakeDictionary(),
    ("torch._utils", "_rebuild_tensor_v2"): _RebuildTensor(),
    ("torch._utils", "_rebuild_parameter"): _RebuildParameter(),
} | {("torch", name): dtype for name, dtype in _DTYPES.items()}


def _replacement(path: Path, module: str, name: str) -> Any:
    """Return what a pickle gets for a name that it imports; refuse a name that is not in `_GLOBALS`."""
    if (module, name) not in _GLOBALS:
        raise refusal(
            path,
            f"asks to import {module}.{name}, which could run anything; save plain tensors: "
            "`torch.save(model.state_dict(), FILE)`",
        )
    return _GLOBALS[module, name]


class _Unpickler(pickle.Unpickler):
    """Loads a pickle, each tensor as a `_Tensor` (a description); refuses imports not in `_GLOBALS`."""

    def __init__(self, path: Path, file: io.BufferedIOBase) -> None:
        super().__init__(file)
        self.path = path
        self.storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        return _replacement(self.path, module, name)

    def persistent_load(self, pid: Any) -> _Storage:
        if not isinstance(pid, tuple) or not 5 <= len(pid) <= 6:
            raise ValueError("a storage is not described by five or six values")
        kind, dtype, key, _, length, *view = pid
        # Before 2017, a storage could be a view of another storage (`view`); such files are refused.
        if kind != "storage" or dtype not in _DTYPES.values() or any(view):
            raise ValueError("a storage is described in an unknown way")
        if not isinstance(key, (str, int)):
            raise TypeError(f"the key of a storage is a {type(key).__name__}")
        storage = _Storage(str(key), dtype, _count(length))
        return self.storages.setdefault(storage.key, storage)


# --- Opcodes --------------------------------------------------------------------------------------

# Largest size in bytes of a pickle that is loaded. A file with a larger one is refused, since the
# pickle that describes VGG-19's tensors has only about 3,000 bytes.
LARGEST_PICKLE = 2**20

# Largest size of a tuple. The size is 1, plus the sizes of the tuples in it, plus 1 for each other
# value. Tuples that torch writes have sizes under 30. There is a limit because a tuple may contain
# another one twice, this one may contain a third one twice, and so on. If such a tuple is the key of a
# dictionary, Python hashes it by hashing all values in it, at any depth. So a small file could keep
# Python busy for hours.
LARGEST_TUPLE = 128

# Three sets of opcodes: those that make a tuple, those that store a value in the memo under a given
# index (MEMOIZE, which takes the next index, is not among them), and those that fetch a value from the
# memo.
_TUPLES = frozenset({"EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"})
_PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT"})
_GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})

# All opcodes that are accepted: those that torch writes in pickle protocol 2, its default, or in
# protocol 4, which the argument `pickle_protocol` of `torch.save` can select. BINSTRING and
# SHORT_BINSTRING occur in files that torch wrote under Python 2.
_OPCODES = frozenset(
    {
        *(_TUPLES | _PUTS | _GETS),
        *("PROTO", "FRAME", "MEMOIZE", "MARK", "STOP"),
        *("NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"),
        *("BINSTRING", "SHORT_BINSTRING", "BINUNICODE", "SHORT_BINUNICODE"),
        *("EMPTY_LIST", "APPEND", "APPENDS", "EMPTY_DICT", "DICT", "SETITEM", "SETITEMS"),
        *("GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD", "BINPERSID"),
    }
)


def _check_opcodes(path: Path, pickled: io.BytesIO) -> None:
    """Refuse a pickle that torch does not write, without loading it.

    If the pickle is accepted, the position of the file `pickled` is then at the end of the pickle.

    No tuple may be larger than `LARGEST_TUPLE`. To find the sizes of tuples, the function imitates the
    unpickler's stack, with the size of each value in place of the value. The size of a tuple is 1 more
    than the sum of the sizes of its values; the size of any other value is 1.

    Raises:
      Refusal: if the pickle is not one that torch writes.
      ValueError, IndexError, KeyError: if the pickle is damaged.
    """
    size = len(pickled.getbuffer())
    stack: list[int] = []
    memo: dict[int, int] = {}
    marks: list[int] = []  # for each MARK not yet taken by an opcode: the stack's height there
    argument: Any
    for opcode, argument, _ in pickletools.genops(pickled):
        name = opcode.name
        if name not in _OPCODES:
            raise refusal(
                path,
                f"has {name} in its pickle, which torch does not write for tensors; save plain "
                "tensors: `torch.save(model.state_dict(), FILE)`",
            )
        if name == "GLOBAL":  # this opcode imports a name; `_replacement` refuses an unknown one
            _replacement(path, *argument.split(" ", 1))
        if name == "MARK":
            marks.append(len(stack))
        elif name in _PUTS or name == "MEMOIZE":
            index = len(memo) if name == "MEMOIZE" else argument
            # Python's unpickler keeps the memo in an array with room for the largest index, so a large
            # index would take much memory. torch writes no index above the pickle's size in bytes.
            if index > size:
                raise refusal(path, f"has number {index} in a table of {size} bytes; get it again")
            memo[index] = stack[-1]
        elif name in _GETS:
            stack.append(memo[argument])
        else:
            before = opcode.stack_before
            first = len(stack) - len(before)
            if pickletools.markobject in before:
                first = marks.pop() - before.index(pickletools.markobject)
            if first < 0:
                raise ValueError("its pickle takes a value that is not there")
            made = 1 + sum(stack[first:]) if name in _TUPLES else 1
            if made > LARGEST_TUPLE:
                raise refusal(
                    path, "has tuples in tuples, which torch does not write; get it again"
                )
            stack[first:] = [made] * len(opcode.stack_after)


def _unpickled(path: Path, file: io.BufferedIOBase) -> tuple[Any, dict[str, _Storage]]:
    """Load the pickle at the position of a file, and move the position to the pickle's end.

    Returns:
      The value that was pickled, and the storages that it mentions, by key.
    """
    start = file.tell()
    data = io.BytesIO(file.read(LARGEST_PICKLE + 1))
    try:
        _check_opcodes(path, data)
    except ValueError:
        if len(data.getbuffer()) > LARGEST_PICKLE and data.tell() >= LARGEST_PICKLE:
            raise _too_large(path) from None
        raise
    file.seek(start + data.tell())
    unpickler = _Unpickler(path, io.BytesIO(data.getvalue()[: data.tell()]))
    return unpickler.load(), unpickler.storages


def _too_large(path: Path) -> Refusal:
    return refusal(
        path,
        f"describes its tensors in more than {LARGEST_PICKLE} bytes, VGG-19's take 3,000; "
        "give VGG-19's own file",
    )


# --- Tensors --------------------------------------------------------------------------------------


def _tensors(path: Path, loaded: object) -> dict[str, _Tensor]:
    """Return the tensors of a state dict by name, ignoring other values in it.

    Raises:
      Refusal: if `loaded`, what the file contains, is no dictionary.
    """
    if not isinstance(loaded, dict):
        came = type(loaded).__name__.lstrip("_")
        raise refusal(path, f"contains a {came}; save a state dict: `model.state_dict()`")
    return {
        str(key): value
        for key, value in loaded.items()
        if isinstance(value, _Tensor) and isinstance(key, (str, int))
    }


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
    """Return, by name, the arrays of a file that torch 1.6 or later wrote.

    Such a file is a zip archive. It contains a pickle that describes the tensors, and a file for each
    storage, which has the values of the tensors.
    """
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise refusal(path, "is a zip file, but not one that torch.save wrote")
        root = roots[0]
        if f"{root}byteorder" in names and _member(archive, f"{root}byteorder") != b"little":
            raise refusal(path, "was saved by a big-endian machine; save it again on another")
        if archive.getinfo(f"{root}data.pkl").file_size > LARGEST_PICKLE:
            raise _too_large(path)
        loaded, _ = _unpickled(path, io.BytesIO(_member(archive, f"{root}data.pkl")))
        tensors = _tensors(path, loaded)

    def read(storage: _Storage) -> bytes:
        with zipfile.ZipFile(path) as archive:
            return _member(archive, f"{root}data/{storage.key}")

    return _stored_arrays(tensors, read)


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Read one file of a zip archive; raise ValueError if it is compressed.

    Torch compresses no file, and a small compressed file may expand to more than fits into memory.
    """
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    return archive.read(name)


# The first bytes of a file in the format that torch wrote before 1.6: a pickle, in protocol 2, of the
# number that torch calls its magic number.
LEGACY_MAGIC = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."

_LEGACY_PROTOCOL = 1001  # the version of that old format; each file states it in its second pickle


def legacy_arrays(path: Path) -> dict[str, StoredArray]:
    """Return, by name, the arrays of a file in the format that torch wrote before 1.6.

    The format is a sequence of five pickles (magic number, protocol, facts about the system, the saved
    object, the keys of the storages), followed by the storages.
    """
    with path.open("rb") as file:
        _, protocol, system = (_unpickled(path, file)[0] for _ in range(3))
        if protocol != _LEGACY_PROTOCOL:
            came = protocol if isinstance(protocol, int) else f"of type {type(protocol).__name__}"
            raise refusal(path, f"has torch's protocol {came}, expected {_LEGACY_PROTOCOL}")
        if not system["little_endian"]:
            raise refusal(path, "was saved by a big-endian machine; save it again on another")
        loaded, storages = _unpickled(path, file)
        tensors = _tensors(path, loaded)
        keys, _ = _unpickled(path, file)
        if not isinstance(keys, list) or not all(isinstance(key, (str, int)) for key in keys):
            raise ValueError("its storages are not listed by their keys")
        starts = _storage_starts(file, [storages[str(key)] for key in keys])

    def read(storage: _Storage) -> bytes:
        with path.open("rb") as file:
            file.seek(starts[storage.key])
            return file.read(storage.size)

    return _stored_arrays(tensors, read)


def _storage_starts(file: io.BufferedIOBase, storages: list[_Storage]) -> dict[str, int]:
    """Return the key of each storage -> the byte of the file at which its numbers begin.

    The storages follow each other from the current position of the file on; before the numbers of each,
    eight bytes state how many numbers there are.

    Raises:
      ValueError: if the file ends too early, or states another number than the storage has.
    """
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
