"""`jax.jit` with the options that this package gives XLA's compiler on the present kind of device."""

import functools
import os
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

# Options for each platform, by its name in JAX; XLA's defaults elsewhere.
OPTIONS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "gpu": {
            # Matrix products come from cuBLAS. By default XLA also compiles tens of Triton kernels for
            # each product and times them, which was most of the time before a first picture.
            "xla_gpu_enable_triton_gemm": False,
        },
    }
)


@functools.cache
def compiler_options(platform: str | None = None) -> Mapping[str, Any]:
    """Return the options for programs on a platform.

    An option is left out if the user has set it in `XLA_FLAGS`, and if the installed version of XLA
    does not know it.

    Args:
      platform: the platform as JAX names it; None is that of the default device.

    Returns:
      Names and values for the argument `compiler_options` of `jax.jit` and of `compile`. `stylize`,
      `paint` and `stylize_many` use them; programs that a user compiles, such as `jax.jit(nst.run)`,
      get them only if they are given.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> measure = jax.jit(nst.measure, compiler_options=dict(nst.compiler_options()))
      >>> dict(nst.compiler_options("cpu")), dict(nst.compiler_options("gpu"))
      ({}, {'xla_gpu_enable_triton_gemm': False})
    """
    wanted = OPTIONS.get(platform or jax.default_backend(), {})
    set_by_user = os.environ.get("XLA_FLAGS", "")
    return {
        name: value
        for name, value in wanted.items()
        if name not in set_by_user and _is_known(name, value)
    }


def _is_known(name: str, value: Any) -> bool:
    """Return whether the installed version of XLA accepts an option."""
    try:
        jax.jit(jnp.negative).lower(0.0).compile(compiler_options={name: value})
    except jax.errors.JaxRuntimeError as error:
        if name not in str(error):
            raise
        return False
    return True


class Jitted:
    """A function compiled as by `jax.jit`, with the options of the default device's platform.

    The platform is known only once JAX has looked for devices, which importing this package should not
    cause. So `jax.jit` is called when the function is used for the first time.
    """

    def __init__(self, function: Callable[..., Any], **arguments: Any) -> None:
        """Wrap a pure function; the arguments are those of `jax.jit`."""
        self._function, self._arguments = function, arguments

    @functools.cached_property
    def _jitted(self) -> Any:
        return jax.jit(self._function, compiler_options=dict(compiler_options()), **self._arguments)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self._jitted(*arguments, **named)

    def lower(self, *arguments: Any, **named: Any) -> Any:
        """Lower the function for arguments, as `jax.jit(function).lower` does."""
        return self._jitted.lower(*arguments, **named)
