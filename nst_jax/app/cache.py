"""JAX's compilation cache at the command line: its settings, and the folder of what is kept.

Functions here only read and change settings; `programs` keeps traced programs in the folder.
"""

import os
import stat
from pathlib import Path
from typing import Any

import jax
import platformdirs

# Programs that take at least so many seconds to compile are kept. JAX's default, 1.0, omits many small
# ones, which load in a third of their compile time and take a few kB each.
LEAST_SECONDS = 0.0


def use_cache() -> str:
    """Let jax keep compiled programs in a folder and load them from there.

    A program is found by its code, the versions of jax and its compiler, and the device. The folder is
    `nst_jax/programs` in the user's cache, which may be deleted at any time. Jax's own settings, such
    as `JAX_COMPILATION_CACHE_DIR`, take precedence.

    Returns:
      Why the cache cannot be used, as a sentence; empty if it can.
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
    except (OSError, RuntimeError) as error:  # the latter if there is no home directory
        return f"compiled programs are not kept: {error}"
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
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
    """Return the folder for traced programs, inside jax's own; None if nothing is kept."""
    place = _setting("jax_compilation_cache_dir")
    if not _setting("jax_enable_compilation_cache") or not place or "://" in place:
        return None
    return Path(place) / "nst_jax"


def _setting(name: str) -> Any:
    """Return one of jax's settings, which type checkers do not know."""
    return getattr(jax.config, name)


def cache_enabled() -> bool:
    """Return whether jax may keep compiled programs."""
    return bool(_setting("jax_enable_compilation_cache"))


def disable_cache() -> None:
    """Compile everything anew in this process, whatever jax's own settings say."""
    jax.config.update("jax_enable_compilation_cache", False)
