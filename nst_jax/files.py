"""How a file is written: it appears whole, or what was there stays."""

import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def part_of(path: Path) -> Path:
    """Return a new name beside a path, for what is not whole yet.

    In the same folder, so that the replacement is one rename.
    """
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a place to write a file at; once that is done it takes the place of `path`.

    What a symbolic link points at is replaced, not the link. Whoever writes makes the file with
    `open`, so that the umask decides on permissions.

    Args:
      path: of the file to be.

    Yields:
      The place, a name beside it that nothing has yet.

    Raises:
      OSError: if the disk fails; `path` is then as it was.
    """
    target = path.resolve()
    part = part_of(target)
    try:
        yield part
        with part.open("r+b") as file:
            os.fsync(file.fileno())  # else a power cut could leave a renamed file without its bytes
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def remove_parts(path: Path) -> None:
    """Remove what writers of `path` left behind when they were killed; none may be at work."""
    target = path.resolve()
    for part in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 8}.part"):
        part.unlink(missing_ok=True)
