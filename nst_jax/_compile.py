"""How functions are compiled: options for XLA's compiler, and where compiled programs are kept."""

import ctypes
import functools
import gc
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, _files

# --- Options --------------------------------------------------------------------------------------

# JAX's name of a platform -> the compiler options on it. On a platform that is not listed, XLA's
# defaults apply.
OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gpu": {
            # By default, XLA compiles tens of Triton kernels for each matrix product and times them, to
            # choose the fastest. That took most of the time before the first picture. With this option,
            # XLA calls cuBLAS instead.
            "xla_gpu_enable_triton_gemm": False,
        },
    }
)


def compiler_options(platform: str | None = None) -> Mapping[str, Any]:
    """Return the options with which this package's programs are compiled on a platform.

    An option is left out if the user has set it in `XLA_FLAGS`, or if the installed version of XLA
    does not know it.

    Args:
      platform: JAX's name of the platform, such as "gpu"; None means JAX's default platform,
        `jax.default_backend()`, even if the setting `jax_default_device` is a device of another one.

    Returns:
      Names and values for the argument `compiler_options` of `jax.jit`, or of the method `compile` of
      a lowered function. `stylize`, `paint` and `stylize_many` use them. A program that the user
      compiles, such as `jax.jit(nst.run)`, gets them only if the user passes them, as in the example.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> measure = jax.jit(nst.measure, compiler_options=dict(nst.compiler_options()))
      >>> dict(nst.compiler_options("cpu")), dict(nst.compiler_options("gpu"))
      ({}, {'xla_gpu_enable_triton_gemm': False})
    """
    return _options(platform or jax.default_backend())


@functools.cache
def _options(platform: str) -> Mapping[str, Any]:
    """Return the result of `compiler_options`, cached, since testing an option takes a compilation."""
    wanted = OPTIONS.get(platform, {})
    set_by_user = os.environ.get("XLA_FLAGS", "")
    return {
        name: value
        for name, value in wanted.items()
        if name not in set_by_user and _is_known(name, value)
    }


def _is_known(name: str, value: Any) -> bool:
    """Return whether the installed version of XLA accepts a compiler option with this value."""
    try:
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError as error:
        if name not in str(error):
            raise
        return False
    return True


# --- Programs in memory ---------------------------------------------------------------------------


def nans_allowed() -> AbstractContextManager[Any]:
    """Return a context manager in which JAX's setting `jax_debug_nans` is off, for this thread.

    With the setting, JAX raises an error for each NaN in a result of a program. But programs of this
    package return NaN on purpose, for losses that are not computed yet; and if losses stop being
    finite, a run itself reports it.
    """
    manager: AbstractContextManager[Any] = jax.debug_nans(False)
    return manager


class RecentPrograms:
    """Compiled programs of one function by key, of which those are kept that were used last.

    When there are more than `programs_in_memory()`, the one that was used least recently is dropped,
    and its memory is freed. Several threads may call the methods.
    """

    def __init__(self) -> None:
        self._programs: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, key: Any) -> Any:
        """Return the program with this key; None if it is not there, or was dropped."""
        with self._lock:
            if key not in self._programs:
                return None
            self._programs.move_to_end(key)
            return self._programs[key]

    def add(self, key: Any, program: Any) -> Any:
        """Add a program, and return it. If another thread has added one before, return that one."""
        dropped = []
        with self._lock:
            kept = self._programs.setdefault(key, program)
            self._programs.move_to_end(key)
            while len(self._programs) > _programs_in_memory:
                dropped.append(self._programs.popitem(last=False)[1])
        if dropped:
            _free(dropped)
        return kept


class Jitted:
    """A function compiled as by `jax.jit`, but with a limit on how many compiled programs are kept.

    For each combination of shapes and dtypes of the arguments, and of values of static arguments,
    `jax.jit` is called anew, which gives a separate jitted function. `RecentPrograms` holds these.

    The compiler options are those for JAX's default platform, as `compiler_options` returns them. The
    platform is known only once JAX has looked for devices, which importing this package should not
    cause; so `jax.jit` is called on first use.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        static_argnums: tuple[int, ...] = (),
        static_argnames: tuple[str, ...] = (),
        large: bool = False,
        **arguments: Any,
    ) -> None:
        """Wrap a pure function.

        Args:
          function: the function to compile.
          static_argnums: as for `jax.jit`.
          static_argnames: as for `jax.jit`.
          large: whether the programs are so large that compiling one takes seconds, as for a loop of
            updates. Then the memory that compiling took is given back to the system; this takes some
            hundredths of a second.
          arguments: other arguments of `jax.jit`, except `compiler_options`.
        """
        functools.update_wrapper(self, function)
        self._large = large
        self._function, self._arguments = function, arguments
        self._static_argnums, self._static_argnames = static_argnums, static_argnames
        self._programs = RecentPrograms()

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        program, is_new = self._program(arguments, named)
        with nans_allowed():
            found = program(*arguments, **named)
        if is_new and self._large:
            # JAX returns results before they are computed, so this helps the new program already.
            return_freed_memory()
        return found

    def lower(self, *arguments: Any, **named: Any) -> Any:
        """Lower the function for arguments, as `jax.jit(function).lower` does."""
        return self._program(arguments, named)[0].lower(*arguments, **named)

    def _program(self, arguments: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, bool]:
        """Return the jitted function for these shapes, dtypes and static values, and if it is new."""
        by_place = dict(enumerate(arguments))
        static = [by_place.pop(index) for index in self._static_argnums]
        by_name = dict(named)
        static += [by_name.pop(name, None) for name in self._static_argnames]
        leaves, tree = jax.tree.flatten((by_place, by_name))
        key = (tree, tuple(map(_described, leaves)), tuple(static))
        program = self._programs.get(key)
        if program is not None:
            return program, False
        return self._programs.add(key, self._jitted()), True

    def _jitted(self) -> Any:
        """Return the result of a new call of `jax.jit` for the function; nothing is compiled yet."""

        # Each call of `jax.jit` gets a new function object. JAX caches compiled programs by function
        # object: if all jitted functions shared one, `clear_cache` on any would drop all programs.
        @functools.wraps(self._function)
        def function(*arguments: Any, **named: Any) -> Any:
            return self._function(*arguments, **named)

        return jax.jit(
            function,
            compiler_options=dict(compiler_options()),
            static_argnums=self._static_argnums,
            static_argnames=self._static_argnames,
            **self._arguments,
        )


def _described(leaf: Any) -> Any:
    """Return the properties of a leaf that a compiled program depends on.

    For an array these are its shape, its dtype and whether its type is weak; for anything else, such as
    a Python number, it is the type.
    """
    if isinstance(leaf, (jax.Array, np.ndarray, np.generic)):
        return leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)
    return type(leaf)


def _clear_cache_of(program: Any) -> None:
    """Let JAX's caches drop a program too. Only a jitted function is in them, not a `Compiled`."""
    if (clear_cache := getattr(program, "clear_cache", None)) is not None:
        clear_cache()


def _free(programs: list[Any]) -> None:
    """Drop compiled programs and give their memory back to the system; the list is emptied."""
    while programs:
        _clear_cache_of(programs.pop())
    gc.collect()  # programs and their traces refer to each other, so only the collector frees them
    return_freed_memory()


def return_freed_memory() -> None:
    """Let the C library give freed memory back to the system, where it can be asked to (on Linux).

    By itself, it keeps what was freed between pieces that are still in use: some 50 MB for each program
    that is dropped, and some 200 MB after a loop of updates is compiled. Large arrays never use that
    memory, since it is in small pieces.
    """
    if sys.platform != "linux":
        return
    if (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


# Largest number of argument shapes for which each function keeps compiled programs in memory. The
# function `cache` can change it. A program takes some 50 MB, so 64 of them take about 3 GB.
_programs_in_memory = 64


def programs_in_memory() -> int:
    """Return for how many argument shapes, at most, each function keeps programs in memory."""
    return _programs_in_memory


# --- Programs on disk -----------------------------------------------------------------------------


def cache(folder: str | os.PathLike[str] | None = None, *, programs: int | None = None) -> None:
    """Set the folder that keeps compiled programs between processes, and how many stay in memory.

    Compiling for a picture of a new shape takes seconds, on an accelerator up to a minute. With a
    folder, JAX writes compiled programs there and loads them in later processes. On GPUs, it also
    writes and loads which algorithm XLA found fastest for each convolution. The setting applies to all
    programs that JAX compiles in this process. The command line does not need this function: it has a
    folder of its own.

    Args:
      folder: the folder, which is created if it does not exist; None leaves the setting as it is.
      programs: for how many shapes each of this package's functions stays compiled in memory; when
        there are more, the one used least recently is dropped. The number is 64 at first; None leaves
        it as it is. One shape takes some 50 MB. A picture painted at several resolutions uses one shape
        for each resolution.

    Raises:
      TypeError: if `folder` is not a path, or `programs` is not a whole number.
      ValueError: if `programs` is less than 1, or `folder` is an empty text.
      OSError: if the folder cannot be created.

    Example:
      >>> import tempfile
      >>> import nst_jax as nst
      >>> with tempfile.TemporaryDirectory() as folder:
      ...     nst.cache(folder, programs=32)        # doctest: +SKIP
    """
    global _programs_in_memory
    if programs is not None:
        _checks.whole("programs", programs, least=1)
        _programs_in_memory = int(programs)
    if folder is None:
        return
    place = _files.as_path(folder, argument="folder")
    if folder == "":  # `Path("")` would be the current folder
        raise ValueError("`folder`: is empty; name a folder")
    place = place.absolute()  # so that it stays the same if the current folder changes
    place.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_enable_compilation_cache", True)
    keep_programs_in(place)
    # At the first compilation, JAX decides whether there is a cache, and in which folder. This makes it
    # decide anew. The module is experimental, so only this function depends on it.
    from jax.experimental.compilation_cache import compilation_cache

    compilation_cache.reset_cache()


# JAX writes to disk only programs that took at least this many seconds to compile. JAX's default, 1.0,
# would leave out many small programs. They are worth writing: loading one takes a third of the time of
# compiling it, and the file has only a few kB.
LEAST_SECONDS = 0.0
# JAX's environment variable for this number of seconds. If it is set, `LEAST_SECONDS` is not used.
LEAST_SECONDS_VARIABLE = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"


def keep_programs_in(folder: Path) -> None:
    """Let JAX write compiled programs to an existing folder and load them from there."""
    jax.config.update("jax_compilation_cache_dir", str(folder))
    keep_programs_of_any_time()


def keep_programs_of_any_time() -> None:
    """Let JAX's cache on disk also keep programs that compile quickly.

    If the environment variable `JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS` is set, nothing is changed:
    JAX then keeps only programs that compile for at least that many seconds.
    """
    if LEAST_SECONDS_VARIABLE not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
