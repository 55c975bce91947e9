"""The HDF5 envelope of weights files and checkpoints: how both are opened, checked and written.

It is a module apart from `_files` because reading and writing pictures should not import h5py.

The envelope is two attributes, `format` and `version`, and any number of datasets. What a file
contains beyond that, its digest or checksum included, is defined by `weights.params` and
`checkpoints`.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import h5py
import numpy as np

from nst_jax import _files

Layout: TypeAlias = Mapping[str, tuple[tuple[int, ...], str]]  # array name -> shape, dtype

DIFFERENCES_SHOWN = 3  # in one message


class Format(NamedTuple):
    """A kind of file, and what messages advise when a file is not of this kind."""

    name: str  # attribute `format` of its files
    version: int  # attribute `version`
    noun: str  # such as "weights file"
    if_damaged: str
    if_foreign: str  # `{name}` is the file's name
    if_other_version: str


class Source(NamedTuple):
    """A file to read, and the name of the argument or variable that chose it."""

    path: Path
    argument: str
    format: Format
    if_missing: str = "check the path"  # advice

    def error(self, problem: str) -> ValueError:
        """Make the error that says what is wrong with this file."""
        return ValueError(f"`{self.argument}`: '{self.path}' {problem}")

    def damaged(self, error: Exception | None = None) -> ValueError:
        """Make the error for a file that is not as it was written."""
        reason = f" ({' '.join(str(error).split())})" if error else ""
        return self.error(f"is damaged or cut short; {self.format.if_damaged}{reason}")

    def foreign(self) -> ValueError:
        """Make the error for a file of another kind."""
        advice = self.format.if_foreign.format(name=self.path.name)
        return self.error(f"is not a {self.format.noun} of nst-jax; {advice}")


# --- Reading --------------------------------------------------------------------------------------


@contextmanager
def opened(source: Source) -> Iterator[h5py.File]:
    """Context manager: open a file for reading, checked to be of its format and version.

    Args:
      source: the file.

    Yields:
      The open file. HDF5's errors inside the block become the error for a damaged file.

    Raises:
      ValueError: if the file is missing, not readable, empty, damaged, or of another kind or version.
    """
    _check_readable(source)
    try:
        if not h5py.is_hdf5(source.path):
            raise source.foreign()
        # Some network disks do not support locks. No file of ours is changed in place anyway.
        with h5py.File(source.path, "r", locking=False) as file:
            _check_envelope(source, file)
            yield file
    except (OSError, RuntimeError, KeyError) as error:
        raise source.damaged(error) from error


def _check_readable(source: Source) -> None:
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


def _check_envelope(source: Source, file: h5py.File) -> None:
    if file.attrs.get("format") != source.format.name:
        raise source.foreign()
    version, expected = file.attrs.get("version"), source.format.version
    if version != expected:
        raise source.error(
            f"has format version {version}, expected {expected}; {source.format.if_other_version}"
        )


def all_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset of any HDF5 file by its full name, unread."""
    found = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item

    file.visititems(visit)
    return found


def datasets_in(source: Source, file: h5py.File) -> dict[str, h5py.Dataset]:
    """Return every dataset of a file of ours by its full name, unread.

    Raises:
      ValueError: if the datasets declare more bytes than the file has.
    """
    found = all_datasets(file)
    # We compress nothing, so an intact file is larger than its datasets. Reading a dataset that
    # declares more than is stored would fill memory with zeros.
    declared = sum(dataset.nbytes for dataset in found.values())
    if declared > source.path.stat().st_size:
        raise source.error(
            f"declares {declared} bytes, more than the file has; {source.format.if_damaged}"
        )
    return found


def arrays_in(source: Source, file: h5py.File) -> dict[str, np.ndarray]:
    """Read every dataset, as `datasets_in` finds them."""
    return {name: np.asarray(item[()]) for name, item in datasets_in(source, file).items()}


# --- Writing --------------------------------------------------------------------------------------


@contextmanager
def created(path: Path) -> Iterator[h5py.File]:
    """Context manager: write a file, which replaces `path` only when it is complete.

    Its bytes depend on its contents alone: the same contents give the same file.

    Args:
      path: path of the file to write or to replace.

    Yields:
      The file, open for writing.

    Raises:
      OSError: if the disk fails or is full, for which HDF5 also raises RuntimeError.
    """
    # This range of format versions makes the bytes independent of HDF5's defaults, and old readers
    # of HDF5 can open the file.
    with _files.atomic(path) as part, h5py.File(part, "x", libver=("earliest", "v108")) as file:
        yield file


def store(
    file: h5py.File,
    arrays: Mapping[str, Any],
    *,
    after_each: Callable[[str, np.ndarray], None] | None = None,
) -> None:
    """Store arrays in the order of their names; only one at a time is copied to the host.

    Args:
      file: the file from `created`.
      arrays: full dataset name to array.
      after_each: called with the name and the array that was just stored.
    """
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        file.create_dataset(name, data=array, track_times=False)
        if after_each is not None:
            after_each(name, array)


# --- Layouts --------------------------------------------------------------------------------------


def layout_of(arrays: Mapping[str, Any]) -> Layout:
    """Return the shape and the dtype's name of every array."""
    return {name: (tuple(array.shape), array.dtype.name) for name, array in arrays.items()}


def layout_differences(expected: Layout, found: Layout) -> str:
    """Describe in one line where two tables of names, shapes and dtypes differ.

    Args:
      expected: array name to `(shape, dtype)`, as they should be.
      found: the same, as they are.

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
    return first_differences(sorted(lines))


def first_differences(lines: list[str]) -> str:
    """Join the first three differences, and say how many more there are."""
    more = len(lines) - DIFFERENCES_SHOWN
    rest = [f"and {more} more"] if more > 0 else []
    return "; ".join(lines[:DIFFERENCES_SHOWN] + rest)
