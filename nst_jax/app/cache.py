"""JAX's compilation cache at the command line: its settings and its folder.

Nothing here writes or reads a program: jax does so with compiled programs, and the module
`programs` with traced ones.
"""

import os
import stat
from pathlib import Path
from typing import Any

import jax
import platformdirs

from nst_jax._compile import keep_programs_in


def use_cache() -> str:
    """Let jax keep compiled programs in a folder and load them from there.

    A program is found by its code, the versions of jax and its compiler, and the device. The folder is
    `nst_jax/programs` in the user's cache, which may be deleted at any time. Jax's own settings, such
    as `JAX_COMPILATION_CACHE_DIR`, take precedence.

    Returns:
      Text on why the cache cannot be used; empty if it can, or if jax's own settings decide.
    """
    if not _setting("jax_enable_compilation_cache") or _setting("jax_compilation_cache_dir"):
        return ""
    try:
        place = Path(platformdirs.user_cache_path("nst_jax")) / "programs"
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        place.mkdir(mode=0o700, exist_ok=True)
        for folder in (place.parent, place):
            _check_owner(folder)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"'{place}' may not be written to")
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home directory
        return f"compiled programs are not kept: {error}"
    keep_programs_in(place)
    return ""


def _check_owner(folder: Path) -> None:
    """Refuse a folder in which another user could put programs for this one to run."""
    if not hasattr(os, "getuid"):  # Windows keeps users' folders apart by other means
        return
    found = folder.stat()
    if found.st_uid != os.getuid():
        raise PermissionError(f"'{folder}' belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError(f"others can write to '{folder}'; take that right away or delete it")


def programs_folder() -> Path | None:
    """Return the folder for traced programs, in jax's cache; None if that is off, unset or remote."""
    place = _setting("jax_compilation_cache_dir")
    if not _setting("jax_enable_compilation_cache") or not place or "://" in place:
        return None
    return Path(place) / "nst_jax"


def _setting(name: str) -> Any:
    """Return one of jax's settings, whose names type checkers do not know."""
    return getattr(jax.config, name)


def cache_enabled() -> bool:
    """Return whether jax's compilation cache is on."""
    return bool(_setting("jax_enable_compilation_cache"))


def disable_cache() -> None:
    """Switch jax's compilation cache off in this process, whatever the environment says."""
    jax.config.update("jax_enable_compilation_cache", False)
