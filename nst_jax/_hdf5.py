"""How this package opens, checks and writes its HDF5 files: weights, trained networks and checkpoints.

This module is separate from `_files`, which writes files of all kinds, so that reading and writing
pictures does not import h5py.

Each HDF5 file of this package has the attributes `format` and `version`, and any number of HDF5
datasets (named arrays). The meaning of the datasets, and further attributes such as a checksum, are
defined in `weights.params`, `feed_forward.style_files` and `checkpoints`.

The HDF5 data, which state their own length, are followed by a line with the CRC-32 of all bytes before
it. HDF5 may hang for ever or crash on a damaged file, so the bytes are checked before HDF5 opens them.
The line needs no new format version: HDF5 ignores it, so older versions of this package can read the
file.

A file without this line was written by an older version of this package or by another program. Unless
its checksum is known from elsewhere (`Source.checksum`), such a file is first read by another process,
which can be ended if it hangs. To find in advance what would make HDF5 hang, this package would need a
reader of its own for the whole format.
"""

import functools
import io
import os
import re
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeAlias

import h5py
import numpy as np

from nst_jax import _files

Layout: TypeAlias = Mapping[str, tuple[tuple[int, ...], str]]  # array name -> (shape, dtype name)

# If a file differs from what is expected of it, an error message lists at most this many differences.
DIFFERENCES_SHOWN = 3
BLOCK = 2**20  # number of bytes that are read at once to compute a checksum


class Format(NamedTuple):
    """A file format, and the advice in error messages about files that do not conform to it."""

    name: str  # value of the attribute `format` in its files
    version: int  # value of the attribute `version` in its files
    noun: str  # what messages call such a file, e.g. "weights file"
    if_damaged: str  # advice for a damaged file
    if_foreign: str  # advice for a file of another format; `{name}` becomes the file's name
    if_other_version: str  # advice for a file of another version


class Source(NamedTuple):
    """A file to read, and the argument or environment variable that named it, for error messages."""

    path: Path
    argument: str
    format: Format
    if_missing: str = "check the path"  # advice for a missing file
    checksum: int | None = None  # CRC-32 of the whole file, if it is known

    def error(self, problem: str) -> ValueError:
        """Return the error that names this file and its problem."""
        return ValueError(f"`{self.argument}`: '{self.path}' {problem}")

    def damaged(self, error: Exception | str | None = None) -> ValueError:
        """Return the error for a damaged or incomplete file; it quotes `error`, the cause if known."""
        reason = f" ({' '.join(str(error).split())})" if error else ""
        return self.error(f"is damaged or cut short; {self.format.if_damaged}{reason}")

    def foreign(self) -> ValueError:
        """Return the error for a file of another format."""
        advice = self.format.if_foreign.format(name=self.path.name)
        return self.error(f"is not a {self.format.noun} of nst-jax; {advice}")


# --- Reading --------------------------------------------------------------------------------------


@contextmanager
def opened(source: Source) -> Iterator[h5py.File]:
    """Context manager: open a file for reading, and check its bytes, format and version.

    Args:
      source: the file, and the format that it must have.

    Yields:
      The open file. If HDF5 raises an error inside the block, it becomes a ValueError that says that
      the file is damaged.

    Raises:
      ValueError: if the file is missing, not readable, empty, damaged, or of another format or version.
      MemoryError: if an intact file needs more memory than there is.
    """
    _check_readable(source)
    verified = _check_bytes(source)
    try:
        if not h5py.is_hdf5(source.path):
            raise source.foreign()
        if not verified and (problem := rehearsal_problem(source.path)):
            raise source.damaged(problem)
        # HDF5 must not lock the file: some network disks support no locks, and no lock is needed, since
        # this package never changes a file in place.
        with h5py.File(source.path, "r", locking=False) as file:
            _check_format(source, file)
            yield file
    # HDF5 and h5py raise these errors for damaged files. This module's own errors for `source` are
    # ValueErrors, which are not caught here.
    except (OSError, RuntimeError, LookupError, TypeError, OverflowError) as error:
        raise source.damaged(error) from error
    except MemoryError as error:
        if verified:  # the file is as it was written, so there is indeed too little memory
            raise
        raise source.damaged(error) from error


def _check_readable(source: Source) -> None:
    """Check that a path leads to a regular file that can be read and is not empty."""
    path, noun = source.path, source.format.noun
    if not path.exists():
        raise source.error(f"does not exist; {source.if_missing}")
    if path.is_dir():
        raise source.error(f"is a folder; name a {noun} in it")
    if not path.is_file():  # reading a pipe or a device might never end
        raise source.error(f"is no regular file; name a {noun}")
    try:
        path.open("rb").close()
    except OSError as error:
        reason = error.strerror or error
        raise source.error(f"cannot be read: {reason}; check its permissions") from error
    if path.stat().st_size == 0:
        raise source.error(f"is empty; {source.format.if_damaged}")


def _check_bytes(source: Source) -> bool:
    """Refuse a file whose bytes do not have the expected CRC-32.

    The expected checksum is `source.checksum` or, if that is None, the one in the file's last line.

    Returns:
      True if the bytes were verified, False if there is neither of these checksums.
    """
    try:
        with source.path.open("rb") as file:
            length = file.seek(0, io.SEEK_END)
            file.seek(max(0, length - LAST_LINE_LENGTH))
            stated = _LAST_LINE.fullmatch(file.read())
            if source.checksum is not None:
                same = _crc32(file, length) == source.checksum
            elif stated:
                same = _crc32(file, length - LAST_LINE_LENGTH) == int(stated[1], 16)
            else:
                return False  # another version or program wrote the file, or its last line is lost
    except OSError as error:
        raise source.damaged(error) from error
    if not same:
        raise source.damaged("its checksum differs")
    return True


def _last_line(checksum: int) -> bytes:
    """Return the last line of a file: it follows the HDF5 data and states their checksum."""
    return b"\nCRC-32 of this nst-jax file: %08x\n" % checksum


LAST_LINE_LENGTH = len(_last_line(0))
_LAST_LINE = re.compile(rb"\nCRC-32 of this nst-jax file: ([0-9a-f]{8})\n")


def _crc32(file: IO[bytes], length: int) -> int:
    """Return the CRC-32 of the first `length` bytes of an open file."""
    value = 0
    file.seek(0)
    while length > 0 and (block := file.read(min(length, BLOCK))):
        value, length = zlib.crc32(block, value), length - len(block)
    return value


# --- Reading by another process first ---------------------------------------------------------------

# In a rehearsal, another process reads a file before this process does. If HDF5 hangs or crashes on the
# file, this happens to the other process. That process is stopped after `REHEARSAL_SECONDS` + (size of
# the file in bytes) / `REHEARSAL_RATE`. `REHEARSAL_SECONDS` suffice to start it and read a small file.
REHEARSAL_SECONDS = 60.0
REHEARSAL_RATE = 10e6  # bytes per second of a slow disk

# The program of the other process in a rehearsal. Python's handler of Ctrl-C would not run while HDF5
# loops. So it is replaced by the system's default handler, which ends the process at once. The limit of
# CPU time, which Windows does not have, ends the process even if its parent was killed.
_REHEARSAL = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
path, seconds = sys.argv[1], int(sys.argv[2])
if sys.platform != "win32":
    import resource
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
from nst_jax import _hdf5
_hdf5.read_all(path)
"""


def rehearsal_problem(path: Path) -> str:
    """Let another process read an HDF5 file, and return how that process hung or crashed, as a phrase.

    Args:
      path: an HDF5 file whose bytes are not verified.

    Returns:
      What HDF5 did, if it crashed or was still reading at the time limit. If HDF5 did neither, or if
      no process can be started, the result is "". An exception of Python in the other process gives
      "", too, since this process gets the same exception when it reads the file.
    """
    found = path.stat()
    return _rehearsal_problem(path, found.st_ino, found.st_size, found.st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _rehearsal_problem(path: Path, inode: int, size: int, changed: int) -> str:
    """Do the work of `rehearsal_problem`, with cached results.

    `inode`, `size` and `changed` (the time of the last change, in ns) are part of the cache's key, so
    that a file that was replaced or changed is read again.
    """
    if not sys.executable or getattr(sys, "frozen", False):
        # Python is embedded in another program, so `sys.executable` is empty or would start that
        # program.
        return ""
    seconds = REHEARSAL_SECONDS + size / REHEARSAL_RATE
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)
    limit = str(int(seconds) + 10)
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-c", _REHEARSAL, str(path.absolute()), limit],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": places},
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        return f"HDF5 had not read it after {seconds:.0f} s"
    except OSError:  # no process can be started, so nothing is known about the file
        return ""
    # The exit code 1 means a Python exception. It is not reported here, since this process gets the
    # same exception when it reads the file.
    return "" if child.returncode in (0, 1) else "HDF5 crashes when it reads it"


def read_all(path: str) -> None:
    """Read from an HDF5 file all that this package would read, to find out whether HDF5 can do so.

    A child process calls this function, since HDF5 may hang or crash on a damaged file.
    """
    # This package refuses an array of more than `most` bytes without reading its data, so such arrays
    # are skipped here.
    most = max(os.path.getsize(path), 2**26)
    with h5py.File(path, "r", locking=False) as file:
        for name in file.attrs:
            file.attrs[name]
        for dataset in all_datasets(file).values():
            if dataset.shape is not None and dataset.nbytes <= most:
                dataset[()]


def _check_format(source: Source, file: h5py.File) -> None:
    """Refuse a file whose attributes `format` and `version` are not those of the wanted format."""
    if attribute(file, "format") != source.format.name:
        raise source.foreign()
    version, expected = attribute(file, "version"), source.format.version
    if version != expected:
        raise source.error(
            f"has format version {version}, expected {expected}; {source.format.if_other_version}"
        )


def attribute(file: h5py.File, name: str) -> str | int | None:
    """Return an attribute of a file; None if it is missing or neither a string nor an integer."""
    value = file.attrs.get(name)
    if isinstance(value, bytes):  # h5py returns strings of fixed length as bytes
        return value.decode("utf-8", "replace")
    if isinstance(value, str):
        return value
    return int(value) if isinstance(value, int | np.integer) else None


def all_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return all datasets of an HDF5 file by their full names, without reading their data.

    Raises:
      ForeignStorage: if a dataset is stored in another file. HDF5 would open whatever path the file
        names, even a pipe that never ends.
    """
    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise ForeignStorage(f"has dataset '{name}' stored in other files")
            found[name] = item

    file.visititems(visit)  # this does not follow links to other files
    return found


class ForeignStorage(Exception):
    """Raised if a dataset of an HDF5 file is stored in another file.

    HDF5 would open whatever path the file names, even a pipe that never ends.
    """


def datasets_in(source: Source, file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return all datasets of a file of this package by their full names, without reading their data.

    Raises:
      ValueError: if a dataset is stored in another file or does not hold numbers, or if the datasets
        declare more bytes than the file has.
    """
    try:
        found = all_datasets(file)
    except ForeignStorage as error:
        raise source.error(f"{error}; {source.format.if_damaged}") from None
    for name, dataset in found.items():
        if dataset.dtype.kind not in "biuf" or dataset.shape is None:
            raise source.damaged(f"dataset '{name}' is not an array of numbers")
    # Datasets are stored uncompressed, so an intact file is larger than all its datasets together. In a
    # damaged file, a dataset may declare more data than the file has. HDF5 would return zeros for the
    # missing data, which could fill the memory.
    declared = sum(dataset.nbytes for dataset in found.values())
    if declared > source.path.stat().st_size:
        raise source.error(
            f"declares {declared} bytes, more than the file has; {source.format.if_damaged}"
        )
    return found


def arrays_in(source: Source, file: h5py.File) -> dict[str, np.ndarray]:
    """Read all datasets of a file of this package into NumPy arrays, checked as by `datasets_in`."""
    return arrays_of(datasets_in(source, file))


def arrays_of(datasets: Mapping[str, h5py.Dataset]) -> dict[str, np.ndarray]:
    """Read the data of HDF5 datasets into NumPy arrays, under the same names."""
    return {name: np.asarray(item[()]) for name, item in datasets.items()}


# --- Writing --------------------------------------------------------------------------------------


@contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """Context manager: write an HDF5 file, which replaces `path` only when it is complete.

    The bytes of the file depend on its contents alone: equal contents give equal files.

    Args:
      path: path of the file to write or to replace.

    Yields:
      The file, open for writing.

    Raises:
      OSError: naming `path`, if it is write-protected, or the disk fails or is full.
    """
    with _files.atomic(path) as part, _NeverFailing(part) as stream:
        # This range of format versions makes the bytes independent of HDF5's defaults, and lets old
        # versions of HDF5 read the file.
        with h5py.File(stream, "w", libver=("earliest", "v108")) as file:
            yield file
        stream.append_checksum()


class _NeverFailing(io.RawIOBase):
    """A file object that hides errors from HDF5, since HDF5 crashes the process if a write fails.

    The first error is kept, later writes are dropped, and leaving the context manager raises the kept
    error. Dropped writes cannot confuse HDF5, since it reads nothing back from a file that it writes.
    If the file were built in memory, this class would not be needed, but a run may need all the memory
    of the machine.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("w+b", buffering=0)
        self._position = 0
        self._error: BaseException | None = None

    def __exit__(self, *exception: object) -> None:
        self._file.close()
        if self._error is not None:
            raise self._error

    @contextmanager
    def _keeping_errors(self) -> Iterator[None]:
        """Context manager: keep an error of the block instead of raising it."""
        try:
            yield
        except BaseException as error:  # even Ctrl-C must be raised only after HDF5 is done
            self._error = self._error or error

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with self._keeping_errors():
            self._position = self._file.seek(offset, whence)
        return self._position

    def tell(self) -> int:
        return self._position

    def write(self, data: Any) -> int:
        rest = memoryview(data).cast("B")
        length = len(rest)
        with self._keeping_errors():
            # One call may write only a part of the bytes, for example when the disk fills up.
            while rest and self._error is None:
                rest = rest[self._file.write(rest) :]
        return length

    def readinto(self, buffer: Any) -> int:
        view, count = memoryview(buffer).cast("B"), 0
        with self._keeping_errors():
            count = self._file.readinto(view)
        # h5py requires this method of a file object, but HDF5 does not read back what it writes. If it
        # did, it would get zeros in place of bytes that were not written, and no error.
        view[count:] = bytes(len(view) - count)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        with self._keeping_errors():
            if self._error is None:
                self._file.truncate(size)
        return size or 0

    def append_checksum(self) -> None:
        """Append the line with the checksum of all bytes before it; HDF5 must have closed the file."""
        with self._keeping_errors():
            length = self._file.seek(0, io.SEEK_END)
            checksum = _crc32(self._file, length)
            self._file.seek(length)
            self.write(_last_line(checksum))


def set_attributes(file: h5py.File, values: Mapping[str, str | int]) -> None:
    """Set attributes of a file; strings are stored with a fixed length.

    HDF5 would keep strings of variable length in a heap, and may loop for ever when it reads a damaged
    heap.

    Args:
      file: the file from `created`.
      values: maps the name of each attribute to its value.
    """
    for name, value in values.items():
        if isinstance(value, str):
            data = value.encode()
            file.attrs.create(name, data, dtype=h5py.string_dtype("utf-8", max(1, len(data))))
        else:
            file.attrs[name] = value


def store(
    file: h5py.File,
    arrays: Mapping[str, Any],
    *,
    after_each: Callable[[str, np.ndarray], None] | None = None,
) -> None:
    """Store arrays as datasets, sorted by name; only one array at a time is copied to the host.

    Args:
      file: the file from `created`.
      arrays: maps the full name of each dataset to its array.
      after_each: called after each array is stored, with its name and the array.
    """
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        file.create_dataset(name, data=array, track_times=False)
        if after_each is not None:
            after_each(name, array)


# --- Layouts --------------------------------------------------------------------------------------


def layout_of(arrays: Mapping[str, Any]) -> Layout:
    """Return a dictionary: name of an array -> (its shape, the name of its dtype)."""
    return {name: (tuple(array.shape), array.dtype.name) for name, array in arrays.items()}


def layout_differences(expected: Layout, found: Layout) -> str:
    """Describe in one line how two sets of arrays differ in their names, shapes and dtypes.

    Args:
      expected: maps the names of the wanted arrays to `(shape, dtype)`.
      found: maps the names of the arrays that are there to `(shape, dtype)`.

    Returns:
      The first three differences, and how many more there are; "" if there is none.

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
    return first_differences(sorted(lines))


def first_differences(lines: list[str]) -> str:
    """Join the first three of the lines, one for each difference, and say how many more there are."""
    more = len(lines) - DIFFERENCES_SHOWN
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join(lines[:DIFFERENCES_SHOWN] + rest)
