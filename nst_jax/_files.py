"""How a file is written: it appears whole, or what was there stays."""

import os
import re
import secrets
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
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


def remove_parts(paths: Iterable[str | os.PathLike[str]]) -> None:
    """Remove what writers of these files left behind when they were killed; none may be at work."""
    names: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        target = Path(path).resolve()
        names[target.parent].add(target.name)
    for folder, written in names.items():
        for part in folder.glob(".*.part"):
            if _target(part) in written:
                with suppress(OSError):  # someone else was quicker, or it does not matter
                    part.unlink()


def _target(part: Path) -> str | None:
    """Return the name of the file that a part was to become."""
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.part", part.name)
    return found[1] if found else None
