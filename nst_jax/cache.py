"""Compiled programs kept between starts of the command line, by JAX's own persistent cache."""

import os
from pathlib import Path

import jax
import platformdirs

# Seconds a program must take to compile to be kept. JAX's 1.0 leaves out many that add up.
LEAST_SECONDS = 0.1


def folder() -> Path:
    """Return where programs are kept: `JAX_COMPILATION_CACHE_DIR`, else the user's cache folder."""
    chosen = getattr(jax.config, "jax_compilation_cache_dir", None)
    return Path(chosen or platformdirs.user_cache_path("nst_jax") / "programs")


def use() -> str:
    """Keep what is compiled from here on, and take what was kept before.

    A program is found by its code, the versions of jax and its compiler, and the device, so nothing
    stale is ever taken; it gives the same bits as one compiled anew. The folder may be deleted at will.

    Returns:
      What keeps the cache from being used, for people; empty if it is.
    """
    place = folder()
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"compiled programs are not kept: '{place}': {error.strerror or error}"
    if not os.access(place, os.W_OK | os.X_OK):
        return f"compiled programs are not kept: '{place}' may not be written to"
    jax.config.update("jax_compilation_cache_dir", str(place))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
    return ""


def refuse() -> None:
    """Compile everything anew in this process, whatever jax's own variables say."""
    jax.config.update("jax_enable_compilation_cache", False)
