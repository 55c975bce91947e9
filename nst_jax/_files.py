"""Atomic file writes (a file appears complete or not at all), and early checks of paths to write to."""

import errno
import hashlib
import os
import re
import secrets
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

from nst_jax import _locks

PathLike: TypeAlias = str | os.PathLike[str]


# Largest number of bytes that the name of a temporary file or a lock file takes from the name of the
# final file. Most file systems allow 255 bytes for a whole name; the rest is for a hash, random digits
# and the suffix.
LONGEST_NAME = 200
MOST_BYTES = 255  # of a whole name, on most file systems


def temporary_path(path: Path) -> Path:
    """Return a random path beside `path`: a new file is written there and then renamed to `path`."""
    return path.with_name(f".{_shortened(path.name)}.{secrets.token_hex(4)}.part")


def hidden_path(path: Path, suffix: str) -> Path:
    """Return the path of a hidden file beside `path`, such as `.out.png.lock` for the suffix "lock"."""
    return path.with_name(f".{_shortened(path.name)}.{suffix}")


def fitting_name(stem: str, ending: str) -> str:
    """Return the name of a file that is made from names of other files, short enough to be written.

    Args:
      stem: the names, without suffixes. If the whole name would be too long, only their beginning is
        used, with a hash.
      ending: the end of the name with its suffix, which is kept; at most 46 bytes.

    Example:
      >>> fitting_name("cat_wave", "-2.png"), fitting_name("cat" * 100, ".png")[-15:]
      ('cat_wave-2.png', 'ca-3bd338e5.png')
    """
    fits = len(os.fsencode(stem + ending)) <= MOST_BYTES
    return (stem if fits else _shortened(stem)) + ending


def _shortened(name: str) -> str:
    """Return a file's name; if it is longer than `LONGEST_NAME` bytes, its beginning and a hash."""
    data = os.fsencode(name)
    if len(data) <= LONGEST_NAME:
        return name
    return f"{data[:LONGEST_NAME].decode(errors='ignore')}-{hashlib.sha256(data).hexdigest()[:8]}"


def url_in(path: PathLike) -> str | None:
    """Return the URL that a user gave in place of a path; None if the path contains no URL.

    If `Path` has turned the `//` after the scheme into `/`, the result has `//` again.
    """
    found = re.search(
        r"(?:^|/)((?:https?|ftp|s3|gs|file):)(/+)(.+)", os.fspath(path), re.IGNORECASE
    )
    if found is None:
        return None
    # The URL of a local file has no host, so the path, which begins with "/", follows the "//".
    is_local = found[1].lower() == "file:" and len(found[2]) != 2
    return f"{found[1]}{'///' if is_local else '//'}{found[3]}"


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Context manager: the file written at the yielded path replaces `path` if the block succeeds.

    If `path` is a symbolic link, the file that it points to is replaced, not the link. The written file
    gets the permissions of the file that it replaces, but none for the group if it cannot get the same
    owner and group. If it replaces no file, its permissions follow the umask.

    Args:
      path: path of the file to write or to replace.

    Yields:
      The path of an empty file beside the file to replace. The block has to write and close it.

    Raises:
      OSError: naming `path`, if `path` is write-protected, or if the new file cannot be written, for
        example on a full disk. The file at `path` is then unchanged.
    """
    target = path.resolve()
    part = None
    try:
        if is_protected(target):
            raise PermissionError(errno.EACCES, PROTECTED)
        with _created_part(target) as part:
            _unfinished.add(part)
            mode = _like(target, part)
            yield part
            with part.open("r+b") as file:
                # Without `fsync`, a power cut could leave a renamed file that lacks its bytes.
                os.fsync(file.fileno())
            if mode is not None:
                part.chmod(mode)
            part.replace(target)
    except OSError as error:
        # The caught error names the temporary file, or no file; the new one names `path`.
        raise OSError(error.errno or errno.EIO, reason_of(error), str(path)) from error
    finally:
        if part is not None:
            # This fails if the file was renamed above, or if the disk has become read-only.
            with suppress(OSError):
                part.unlink()
            _unfinished.discard(part)


def copy(source: Path, target: Path) -> None:
    """Copy a file with its permissions and modification time; `target` is replaced if it exists.

    Raises:
      OSError: if an existing `target` cannot be removed, or if the file cannot be copied. After a
        failed copy, there is no `target`.
    """
    target.unlink(missing_ok=True)
    with atomic(target) as part:
        shutil.copy2(source, part)


# The temporary and lock files of this process, which `remove_unfinished` removes.
_unfinished: set[Path] = set()


def remove_unfinished() -> None:
    """Remove temporary and lock files of this process; to be called just before the process ends."""
    for path in tuple(_unfinished):
        with suppress(OSError):
            path.unlink(missing_ok=True)


@contextmanager
def _created_part(target: Path) -> Iterator[Path]:
    """Context manager: create an empty temporary file, locked until the end of the block if possible.

    The lock keeps `remove_leftovers` in another process from removing the file. Some systems and disks
    have no locks.

    Args:
      target: the file to be replaced, which need not exist.

    Yields:
      The path of the new file. If `target` exists, only the owner of the new file may read and write
      it, until `atomic` gives it the permissions of `target`.
    """
    mode = 0o600 if target.exists() else 0o666
    while True:
        part = temporary_path(target)
        descriptor = os.open(part, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        if _locks.lock(descriptor, wait=True) is None:
            # The system or the disk has no locks. The file would stay open only to keep its lock. So it
            # is closed, since Windows cannot rename an open file.
            os.close(descriptor)
            yield part
            return
        if _locks.is_at(descriptor, part):
            break
        os.close(descriptor)  # another process removed the file as a leftover before it was locked
    try:
        yield part
    finally:
        os.close(descriptor)


def _like(target: Path, part: Path) -> int | None:
    """Give a temporary file the owner and group of the file that it will replace, if that is possible.

    If this process has no right to change them, they stay as they are. The returned permissions then
    have none for the group, which may be another group than that of the replaced file.

    Args:
      target: the file to be replaced, which need not exist.
      part: path of the temporary file.

    Returns:
      The permissions that `part` shall have when it is complete; None if there is no `target`.
    """
    try:
        old = target.stat()
    except FileNotFoundError:
        return None
    mode, new = old.st_mode & 0o777, part.stat()
    if (new.st_uid, new.st_gid) != (old.st_uid, old.st_gid):
        try:
            os.chown(part, old.st_uid, old.st_gid)
        except OSError:
            # This process lacks the right to change the owner or the group. So `part` may belong to
            # another group than `target`. That group must not get the permissions of the old group.
            mode &= ~0o070
    return mode


def reason_of(error: BaseException) -> str:
    """Return why reading or writing failed, as text: the system's reason, or the error's message."""
    if isinstance(error, MemoryError):  # it has no message if the memory allocator raised it
        return "there is too little memory"
    return getattr(error, "strerror", None) or " ".join(str(error).split())


PROTECTED = "it is write-protected"  # the reason that `atomic` gives for refusing to replace a file


def is_protected(path: Path) -> bool:
    """Return whether a file must not be replaced because it is write-protected.

    This has to be checked, since a rename needs no permission for the file that it replaces. Root may
    write to any file; even so, a file without any write permission counts as protected for root too.
    """
    return path.is_file() and not (os.access(path, os.W_OK) and path.stat().st_mode & 0o222)


def remove_leftovers(paths: Iterable[PathLike]) -> None:
    """Remove the temporary files of processes that were killed while they wrote one of `paths`.

    Temporary files that are still being written are locked, and stay. If the system or the disk has no
    locks, it cannot be known which files are still being written, so nothing is removed.
    """
    names: dict[Path, set[str]] = defaultdict(set)
    for path in paths:
        target = Path(path).resolve()
        names[target.parent].add(_shortened(target.name))
    for folder, written in names.items():
        for part in folder.glob(".*.part"):
            if _target(part) in written:
                # The file may be gone already. If it cannot be removed, that is harmless.
                with suppress(OSError):
                    _remove_unless_locked(part)


def _remove_unless_locked(part: Path) -> None:
    """Remove a temporary file, unless it is locked by a process that is writing it.

    If the system or the disk has no locks, the file is not removed either.
    """
    with part.open("r+b") as file:
        if _locks.lock(file.fileno()):
            # The file is removed before its lock is released. So a process that has just created the
            # file, but has not locked it yet, finds it gone when it gets the lock, and creates another.
            part.unlink()


def _target(part: Path) -> str | None:
    """Return the name of the file that the temporary file `part` is to replace.

    `temporary_path` puts this name into the name of `part`, cut by `_shortened` if it is long. A cut
    name is returned as it is. The result is None if `part` is not named like a temporary file.
    """
    found = re.fullmatch(r"\.(.+)\.[0-9a-f]{8}\.part", part.name)
    return found[1] if found else None


# --- Files for one process at a time ------------------------------------------------------------------


@contextmanager
def reserved(path: PathLike, *, argument: str = "path") -> Iterator[None]:
    """Context manager: reserve a file within the block, so that no other process can reserve it.

    So processes that reserve a file before they write it cannot write it at the same time.

    An empty lock file, `.NAME.lock` beside the file, is locked, and removed at the end. If a process is
    killed, its lock file stays, but is not locked any more. Nothing is reserved if `path` is a pipe, a
    device or a folder, if the system or the disk does not support locks (see `_locks`), or if the lock
    file cannot be opened.

    Args:
      path: path of the file, which need not exist.
      argument: the caller's name for the path, used in messages.

    Raises:
      ValueError: if the file is reserved already, by another process or within this one.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        yield
        return
    lock = hidden_path(target, "lock")
    while True:
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_RDWR, 0o666)
        except OSError:  # for example: the disk is full, or the lock file belongs to another user
            yield
            return
        locked = _locks.lock(descriptor)
        if locked is False:
            os.close(descriptor)
            raise ValueError(in_use(path, argument))
        if locked is None or _locks.is_at(descriptor, lock):
            break
        # The process that held the lock removed the lock file after this process opened it. Try again.
        os.close(descriptor)
    _unfinished.add(lock)
    try:
        yield
    finally:
        _unfinished.discard(lock)
        with suppress(OSError):
            if _locks.is_at(descriptor, lock):
                lock.unlink()
        os.close(descriptor)


def in_use(path: PathLike, argument: str) -> str:
    """Return the error message for a file that another process has reserved with `reserved`."""
    return (
        f"`{argument}`: '{path}' is in use by another run that has not ended; wait for it, or "
        "choose another place"
    )


# --- Checks of paths ----------------------------------------------------------------------------------


def as_path(path: Any, *, argument: str = "path") -> Path:
    """Return a path that a caller gave as a `Path`, and refuse what cannot be the path of a file.

    Args:
      path: text, or an object such as a `Path`.
      argument: the caller's name for the path, used in messages.

    Raises:
      TypeError: if `path` is of another type.
      ValueError: if it contains a zero byte, which file names cannot contain.
    """
    given = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(given, str):
        raise TypeError(f"`{argument}`: expected a path, got {type(path).__name__}")
    if "\0" in given:
        raise ValueError(
            f"`{argument}`: {given!r} contains a zero byte, which file names cannot contain; check the "
            "path"
        )
    return Path(given)


def unwritable(path: Path, error: OSError, argument: str) -> str:
    """Return the error message for a file at `path` that the system does not let be written."""
    if error.errno == errno.ENAMETOOLONG:  # in any folder
        return (
            f"`{argument}`: cannot write {path.name!r}: {reason_of(error)}; choose a shorter name"
        )
    return (
        f"`{argument}`: cannot write {path.name!r} in {str(path.parent)!r}: {reason_of(error)}; "
        "choose another place"
    )


def check_place(path: PathLike, *, argument: str = "path") -> None:
    """Refuse a path that is a folder or that the system refuses, or whose folder does not exist.

    The system refuses names that are too long, links that lead to themselves, and folders that the user
    may not enter.

    Args:
      path: path of the file to be written.
      argument: the caller's name for the path, used in messages.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if the path is refused; the message says why, and what to do.
    """
    path = as_path(path, argument=argument)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(
                f"`{argument}`: '{path}' is a symbolic link that leads back to itself; choose another "
                "name"
            ) from None
        raise ValueError(unwritable(path, error, argument)) from None
    if path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a folder; name a file in it")
    parent = path.absolute().parent
    if parent.exists() and not parent.is_dir():
        raise ValueError(f"`{argument}`: '{path.parent}' is no folder; choose another place")
    if not parent.is_dir():
        raise ValueError(
            f"`{argument}`: the folder '{path.parent}' does not exist; create it first"
        )


def check_destination(path: PathLike, *, argument: str = "path") -> None:
    """Refuse, before any work, a path where no file can be written.

    Args:
      path: path of the file to be written.
      argument: the caller's name for the path, used in messages.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if `path` is a folder, write-protected or a link that leads to itself, or if its
        folder is missing or not writable.
    """
    check_place(path, argument=argument)
    parent = Path(path).parent
    if not os.access(parent, os.W_OK):
        raise ValueError(
            f"`{argument}`: '{path}' cannot be written, because the folder '{parent}' is not writable; "
            "choose another place, or allow writing to it"
        )
    check_unprotected(path, argument=argument)


def check_has_suffix(path: PathLike, suffixes: str, *, argument: str = "path") -> None:
    """Refuse, before any work, the name of a file without a suffix, which has to say the format.

    A name such as ".png" has no suffix either: its dot only makes the file hidden.

    Args:
      path: path of the file to be written.
      suffixes: the possible suffixes, for the message.
      argument: the caller's name for the path, used in messages.

    Raises:
      ValueError: if the name has no suffix.
    """
    name = Path(path).name
    if Path(path).suffix:
        return
    if name.startswith("."):
        raise ValueError(
            f"`{argument}`: {name!r} has no name before the dot; write one, such as 'out{name}'"
        )
    raise ValueError(f"`{argument}`: {name!r} has no suffix; end it in {suffixes}")


def check_unprotected(path: PathLike, *, argument: str = "path") -> None:
    """Refuse, before any work, to replace a write-protected file.

    Args:
      path: path of the file to be written.
      argument: the caller's name for the path, used in messages.

    Raises:
      ValueError: if the file exists and is write-protected.
    """
    if is_protected(Path(path)):
        raise ValueError(
            f"`{argument}`: '{path}' is write-protected; choose another name, or allow writing to it"
        )
