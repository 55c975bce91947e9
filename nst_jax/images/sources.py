"""Read the bytes of a picture file, given as a path, as bytes, or as a binary file object.

A path must be that of a regular file, and a file object must be open. None of these sources may be
empty. A file or file object may not have more bytes than the memory that is available.
"""

import io
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

from nst_jax import _memory
from nst_jax._files import PathLike, as_path, url_in


@runtime_checkable
class BinaryReader(Protocol):
    """A binary file object that can be read, such as `io.BytesIO` or a file opened with "rb"."""

    def read(self, size: int, /) -> bytes | None: ...


Source: TypeAlias = PathLike | bytes | bytearray | memoryview | BinaryReader

NAME_OF_BYTES = "bytes"  # takes the place of the file's name if the source has no name
BLOCK = 1 << 20  # number of bytes that are read from a file object at once


class Contents(NamedTuple):
    """All bytes of a picture file, and what its source is called."""

    data: bytes
    name: str  # the file's name without its folder; `NAME_OF_BYTES` if the source has no name
    words: str  # what messages call the source: its path in quotes, or such words as "the data"


def contents_of(source: Source, argument: str) -> Contents:
    """Read all bytes of a picture.

    Args:
      source: a path, the bytes themselves, or a binary file object. A file object is read from its
        position to its end and stays open; its attribute `name` is the file's name if it is a string.
      argument: the caller's name for `source`, shown in error messages.

    Returns:
      The `Contents`.

    Raises:
      ValueError: if there is no such file; if the source is empty; or if a file or file object cannot
        be read, or has more bytes than the memory that is available.
      TypeError: if `source` is neither a path, nor bytes, nor a binary file object; for example, if it
        is a file opened as text.
    """
    if isinstance(source, str | os.PathLike):
        path = as_path(source, argument=argument)
        return Contents(_bytes_of(path, argument), path.name, repr(str(path)))
    if isinstance(source, bytes | bytearray | memoryview):
        data, words = bytes(source), "the data"
        if not data:
            raise ValueError(f"`{argument}`: {words} is empty; pass all bytes of a picture file")
        return Contents(data, NAME_OF_BYTES, words)
    if not callable(getattr(source, "read", None)):
        raise TypeError(
            f"`{argument}`: expected a path, bytes or a binary file object, got "
            f"{type(source).__name__}"
        )
    given: Any = getattr(source, "name", None)  # a number if the file was opened by its descriptor
    named = isinstance(given, str) and bool(given)
    words = repr(given) if named else "the file object"
    name = Path(given).name if named else NAME_OF_BYTES
    data = read_to_end(source, words, argument)
    if not data:
        raise ValueError(
            f"`{argument}`: {words} is empty or at its end; after writing to a file object, call its "
            "`seek(0)` before it is read"
        )
    return Contents(data, name, words)


def read_to_end(file: BinaryReader, words: str, argument: str) -> bytes:
    """Return all bytes of a file object from its position on.

    Args:
      file: the file object.
      words: what error messages call the file object, such as its name in quotes.
      argument: the caller's name for `file`, shown in error messages.

    Raises:
      ValueError: if the file object is closed, cannot be read, has no data yet, or has more bytes than
        fit in the memory that is available.
      TypeError: if it is open as text.
    """
    available = _memory.of_this_machine()
    found = bytearray()
    try:
        while block := _block_of(file, words, argument):
            found += block
            if available is not None and len(found) > available:
                raise ValueError(
                    f"`{argument}`: {words} has more than {_memory.gigabytes(available)}, all the "
                    "memory that is available; pass a smaller picture"
                )
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"`{argument}`: cannot read {words}: {reason}; open it again") from None
    return bytes(found)


def _block_of(file: BinaryReader, words: str, argument: str) -> bytes:
    if getattr(file, "closed", False):
        raise ValueError(f"`{argument}`: {words} is closed; open it again")
    # A text file is not read, since decoding the bytes of a picture as text may fail.
    block: Any = "" if isinstance(file, io.TextIOBase) else file.read(BLOCK)
    if isinstance(block, str):
        raise TypeError(f"`{argument}`: {words} is open as text; open it with mode 'rb'")
    if block is None:  # a non-blocking stream that has no data at the moment
        raise ValueError(f"`{argument}`: {words} has no data yet; pass a file object that waits")
    return bytes(block)


def _check_size(path: Path, argument: str) -> None:
    """Refuse a file that is larger than the available memory, into which it is read as a whole."""
    size, available = path.stat().st_size, _memory.of_this_machine()
    if available is not None and size > available:
        raise ValueError(
            f"`{argument}`: {str(path)!r} has {_memory.gigabytes(size)}, and "
            f"{_memory.gigabytes(available)} of memory is available; name a smaller picture"
        )


def _bytes_of(path: Path, argument: str) -> bytes:
    try:
        if path.is_dir():
            raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name one picture in it")
        if path.exists() and not path.is_file():  # reading a pipe or a device might never end
            raise ValueError(f"`{argument}`: {str(path)!r} is no regular file; name a picture")
        _check_size(path, argument)
        data = path.read_bytes()
    except FileNotFoundError:
        if url := url_in(path):
            raise ValueError(
                f"`{argument}`: {url!r} is a URL; download the picture and name its file"
            ) from None
        raise ValueError(f"`{argument}`: there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot read {str(path)!r}: {reason}; check the path"
        ) from None
    if not data:
        raise ValueError(f"`{argument}`: {str(path)!r} is empty; is its download complete?")
    return data
