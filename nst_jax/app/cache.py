"""JAX's compilation cache at the command line: its settings, its folder, and its damaged entries.

With the cache, programs that were compiled once need not be compiled again when the command line is
started again. JAX itself writes and reads the compiled programs. The class
`nst_jax.app.kept_function.Kept` writes and reads programs that are traced, but not compiled.
"""

import glob
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import jax
import platformdirs

from nst_jax import _files
from nst_jax._compile import keep_programs_in, keep_programs_of_any_time
from nst_jax.app.formatting import amount
from nst_jax.app.messages import print_lines

# Name of the folder of the traced programs; it lies in the folder of JAX's compilation cache.
TRACED = "nst_jax"


def use_cache() -> str:
    """Let JAX keep compiled programs in a folder and load them from there.

    A program is found by its code, the versions of JAX and its compiler, and the device. The folder is
    `nst_jax/programs` in the user's cache folder; it may be deleted at any time. If JAX's own settings,
    such as `JAX_COMPILATION_CACHE_DIR`, name a folder or switch the cache off, they are not changed.

    By default, JAX does not keep programs that are compiled quickly. If the cache is a local folder,
    this function makes JAX keep them too, unless the environment variable
    `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` sets a limit. If the cache is at a URL, programs that
    are compiled quickly are not kept, since fetching one may take longer than compiling it.

    Returns:
      A message that says why the cache cannot be used; an empty text if it can be used, or if JAX's own
      settings switch it off.
    """
    if not _setting("jax_enable_compilation_cache"):
        return ""
    if place := _setting("jax_compilation_cache_dir"):
        if programs_folder() is not None:
            if os.path.exists(place) and not os.path.isdir(place):
                disable_cache()
                return f"compiled programs are not kept: '{place}' of jax's settings is no folder"
            keep_programs_of_any_time()
        return ""
    try:
        place = Path(platformdirs.user_cache_path("nst_jax")) / "programs"
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        for folder in (place.parent, place):
            _check_owner(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"'{place}' may not be written to")
    except (OSError, RuntimeError) as error:  # a RuntimeError: no home directory is known
        return f"compiled programs are not kept: {error}"
    keep_programs_in(place)
    return ""


def set_cache(wanted: bool) -> str:
    """Switch the cache of compiled programs on or off.

    Returns:
      A message that says why the cache cannot be used; "" if it can be used or is not wanted.
    """
    if wanted:
        return use_cache()
    disable_cache()
    return ""


def _check_owner(folder: Path) -> None:
    """Raise PermissionError if another user could write to a folder from which programs are run."""
    # Windows has no numeric user ids. There the access rights of a user's own folders suffice.
    if not hasattr(os, "getuid"):
        return
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"'{folder}' belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(
            f"other users can write to '{folder}'; forbid it by chmod go-w, or delete the folder"
        )


def programs_folder() -> Path | None:
    """Return the folder for traced programs, a subfolder of JAX's compilation cache.

    Returns:
      The folder; None if JAX's cache is off, has no folder, or is at a URL instead of on a local disk.
    """
    place = _setting("jax_compilation_cache_dir")
    if not _setting("jax_enable_compilation_cache") or not place or "://" in place:
        return None
    return Path(place) / TRACED


def _setting(name: str) -> Any:
    """Return one of JAX's settings by its name.

    `jax.config.NAME` would do the same, but type checkers do not know these attributes.
    """
    return getattr(jax.config, name)


def cache_enabled() -> bool:
    """Return whether JAX's compilation cache is on."""
    return bool(_setting("jax_enable_compilation_cache"))


def disable_cache() -> None:
    """Switch JAX's compilation cache off in this process, even if JAX's own settings switch it on."""
    jax.config.update("jax_enable_compilation_cache", False)


def folder_to_warm() -> Path:
    """Return the folder of JAX's compilation cache; a subfolder has this package's traced programs.

    Raises:
      OSError: if the cache is off or has no folder on a local disk.
    """
    if not cache_enabled() or not (folder := programs_folder()):
        raise OSError(
            "compiled programs are not kept, so there is nothing to warm; let jax's settings name a "
            "folder on a disk, or unset JAX_ENABLE_COMPILATION_CACHE and JAX_COMPILATION_CACHE_DIR"
        )
    return folder.parent


def kept(folder: Path) -> tuple[int, int]:
    """Return the number of files with compiled or traced programs in a folder, and their total bytes.

    Args:
      folder: the folder of JAX's compilation cache; its subfolder `TRACED` has the traced programs.
    """
    sizes = []
    for path in (*folder.glob("*-cache"), *(folder / TRACED).glob("*-*")):
        with suppress(OSError):  # another process may delete files at any time
            sizes.append(path.stat().st_size)
    return len(sizes), sum(sizes)


def print_kept(folder: Path, before: int) -> None:
    """Print number and total size of a folder's program files, and how many of them are new.

    `before` is the number of the files at an earlier time.
    """
    files, size_of_all = kept(folder)
    new = f"{files - before} of them new" if files > before else "none of them new"
    print_lines(f"{folder} has {files} files of programs, {amount(size_of_all)}; {new}")


# --- Entries of a program -------------------------------------------------------------------------

# The event that JAX reports when it loads a program from its cache.
HIT_EVENT = "/jax/compilation_cache/cache_hits"


class EntriesOf(AbstractContextManager):
    """Context manager: find the entries of JAX's cache for a program that the block compiles or loads.

    An entry is a file in JAX's persistent compilation cache. `nst_jax.app.kept_function` uses this
    class to record in which files a program is kept.

    The name of an entry is the function's name and a hash, which JAX does not report. So the entries
    are listed before and after the block. The block must compile one program only, in the thread that
    creates the context manager.
    """

    def __init__(self, function: str) -> None:
        """Prepare to find the entries of one program.

        Args:
          function: name of the function that is compiled.
        """
        self._pattern = f"jit_{glob.escape(function)}-*-cache"
        self._thread = threading.get_ident()
        self._open = self._loaded = False
        self._before: frozenset[str] = frozenset()

    def __enter__(self) -> "EntriesOf":
        self._before = self._listed()
        self._open = True
        jax.monitoring.register_event_listener(self._on_event)
        return self

    def __exit__(self, *exception: object) -> None:
        self._open = False
        # Older versions of JAX cannot unregister a listener; with them it stays and ignores all events.
        unregister = getattr(jax.monitoring, "unregister_event_listener", None)
        if unregister is not None:
            unregister(self._on_event)

    def _on_event(self, event: str, **kwargs: Any) -> None:
        del kwargs
        # JAX calls this in the thread that compiles. So a call in another thread is about another
        # program, and does not count.
        if self._open and threading.get_ident() == self._thread and event == HIT_EVENT:
            self._loaded = True

    def _listed(self) -> frozenset[str]:
        folder = programs_folder()
        if folder is None:
            return frozenset()
        return frozenset(path.name for path in folder.parent.glob(self._pattern))

    def of_program(self) -> frozenset[str] | None:
        """Return the names of entries, one of which has the program; None if JAX has not stored it.

        If JAX compiled the program in the `with` block, only new entries are returned. If JAX loaded
        it, JAX does not say from which entry, so all entries with its function's name are returned.
        """
        now = self._listed()
        return (now if self._loaded else now - self._before) or None


# --- Damaged entries --------------------------------------------------------------------------------

# JAX's warning that an entry of its cache cannot be read or written, with the program's name and the
# reason. JAX then compiles the program, but leaves a damaged entry as it is, so that every later run of
# the command line would warn again.
_WARNING = re.compile(
    r"Error (reading|writing) persistent compilation cache entry for '(.+?)': (.*)", re.DOTALL
)


@contextmanager
def mended(say: Callable[[str], None]) -> Iterator[None]:
    """Context manager: if JAX cannot read an entry of its cache, delete all entries of this program.

    JAX then writes new ones. If the cache is at a URL, the user is asked to delete the entries instead.

    Args:
      say: a function that shows a line to the user. It is called once for each program whose entry JAX
        cannot read, and once for each reason why JAX cannot write entries.
    """
    said = set()
    with warnings.catch_warnings():
        warnings.filterwarnings("always", "Error (reading|writing) persistent compilation cache")
        show = warnings.showwarning

        def receive(message: Warning | str, *others: Any, **options: Any) -> None:
            found = _WARNING.match(str(message))
            if found is None:
                show(message, *others, **options)
                return
            doing, name, reason = found.groups()
            line = f"compiled programs are not kept: {' '.join(reason.split())}"
            if doing == "reading":
                line = _without_entry(name)
            if line not in said:
                said.add(line)
                say(f"note: {line}")

        warnings.showwarning = receive
        yield


def _without_entry(name: str) -> str:
    """Delete the entries of a program in JAX's cache, and return a line for the user about it.

    A program has several entries, such as one for each size of picture. JAX's warning names the program
    but not the damaged entry, so all entries of the program are deleted; JAX makes them again when they
    are needed. If the cache is at a URL, nothing is deleted, and the line asks the user to do it.
    """
    place = str(_setting("jax_compilation_cache_dir"))
    if "://" in place:
        return f"the compiled program {name!r} in '{place}' is damaged; delete it"
    for path in Path(place).glob(f"{glob.escape(name)}-*-cache"):
        if problem := without(path):
            return problem
    return f"the compiled program {name!r} in '{place}' was damaged; it is deleted and made again"


def without(path: Path) -> str:
    """Delete a damaged file; return an error message if it cannot be deleted, else ""."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        return f"'{path}' is damaged and cannot be deleted: {_files.reason_of(error)}; delete it"
    return ""
