"""Checks of JAX's random keys, and that none is given in place of numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._checks.values import in_words, not_traced, shown


def random_key(argument: str, key: Any, *, several: bool = False) -> None:
    """Refuse a value unless it is None or a JAX random key, typed or raw.

    A raw key is an array of uint32 with one axis; its length depends on JAX's default generator of
    random numbers.

    Args:
      argument: the name of the argument.
      key: its value.
      several: whether an array of keys, of any shape, is allowed, too.

    Raises:
      TypeError: if the value is no random key, or is a tracer, as inside `jax.jit`.
      ValueError: if a raw key has another length, or if the value is an array of keys and `several` is
        false.
    """
    if key is None:
        return
    not_traced(argument, key)
    made_by = "`jax.random.key(0)` makes one"
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if not typed and getattr(key, "dtype", None) != np.uint32:
        raise TypeError(f"`{argument}`: expected a random key, got {shown(key)}; {made_by}")
    shape = np.shape(key)
    if not typed:
        numbers = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0))).shape
        if shape[-1:] != numbers:
            raise ValueError(
                f"`{argument}`: expected a random key, got an array of uint32 of the shape "
                f"{list(shape)}; {made_by}"
            )
        shape = shape[:-1]
    if shape and not several:
        raise ValueError(
            f"`{argument}`: expected one random key, got an array of keys of the shape {list(shape)}; "
            "give one of them"
        )


def not_keys(argument: str, value: Any, expected: str) -> None:
    """Refuse JAX's typed random keys, which NumPy cannot read, where numbers are expected.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check; it may be of any type.
      expected: what is expected, as words for the message.
    """
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise TypeError(f"`{argument}`: expected {expected}, got {in_words(value)}")
