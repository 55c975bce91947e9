"""Compiled programs kept between starts of the command line, by JAX's own persistent cache."""

import os
from pathlib import Path
from typing import Any

import jax
import platformdirs

# Seconds a program must take to compile to be kept. JAX's 1.0 leaves out many small ones, which are
# read in a third of the time and weigh some kB each.
LEAST_SECONDS = 0.0


def use() -> str:
    """Keep what is compiled from here on, and take what was kept before.

    A program is found by its code, the versions of jax and its compiler, and the device. The folder is
    `nst_jax/programs` in the user's cache, which may be deleted at will; jax's own settings, such as
    `JAX_COMPILATION_CACHE_DIR`, go first.

    Returns:
      What keeps the cache from being used, for people; empty if nothing does.
    """
    if not _setting("jax_enable_compilation_cache") or _setting("jax_compilation_cache_dir"):
        return ""
    try:
        place = Path(platformdirs.user_cache_path("nst_jax")) / "programs"
        place.mkdir(parents=True, exist_ok=True)
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(f"'{place}' may not be written to")
    except (OSError, RuntimeError) as error:  # the latter where nobody has a home
        return f"compiled programs are not kept: {error}"
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return ""


def traced() -> Path | None:
    """Return the folder for programs before compiling, inside jax's own; None if nothing is kept."""
    place = _setting("jax_compilation_cache_dir")
    if not _setting("jax_enable_compilation_cache") or not place or "://" in place:
        return None
    return Path(place) / "nst_jax"


def _setting(name: str) -> Any:
    """Return one of jax's settings; they are made at run time, where a type checker sees none."""
    return getattr(jax.config, name)


def enabled() -> bool:
    """Say whether jax may keep compiled programs."""
    return bool(_setting("jax_enable_compilation_cache"))


def refuse() -> None:
    """Compile everything anew in this process, whatever jax's own settings say."""
    jax.config.update("jax_enable_compilation_cache", False)
