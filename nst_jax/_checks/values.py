"""Checks of what kind of value an argument is: its type, or that JAX does not trace it."""

from collections.abc import Sized
from typing import Any

import jax
import numpy as np


def not_traced(argument: str, value: Any) -> None:
    """Refuse a pytree that contains JAX tracers; for functions that need concrete values."""
    if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value)):
        raise TypeError(
            f"`{argument}`: got a tracer, as inside `jax.jit`, `jax.vmap` or `jax.grad`; this function "
            "needs values, and compiles what it runs. Traceable are `nst_jax.measure`, `losses_of`, "
            "`init`, `step` and `run`; `stylize_many` paints a batch"
        )


def flag(argument: str, value: Any) -> None:
    """Refuse a value other than True and False, such as a text, which would count as True.

    NumPy's True and False are accepted.
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"`{argument}`: expected True or False, got {value!r}")


def function(argument: str, value: Any, call: str) -> None:
    """Refuse a value that cannot be called; `call` shows, for the message, how it will be called."""
    if not callable(value):
        raise TypeError(f"`{argument}`: expected a function, called as `{call}`, got {value!r}")


def same_length(argument: str, values: Sized, other: str, others: Sized) -> None:
    """Refuse `values` unless it is a list or tuple as long as `others`.

    Args:
      argument: the caller's name for `values`, used in messages.
      values: the value to check.
      other: the caller's name for `others`, used in messages.
      others: the values that `values` must match in number.
    """
    if not isinstance(values, (list, tuple)):
        raise TypeError(
            f"`{argument}`: expected a list or tuple with one for each of the {len(others)} `{other}`, "
            f"got {type(values).__name__}"
        )
    if len(values) != len(others):
        raise ValueError(
            f"`{argument}`: expected one for each of the {len(others)} `{other}`, got {len(values)}"
        )


def instance(argument: str, value: Any, kind: type, advice: str) -> None:
    """Refuse a value that is not an instance of `kind`; the message ends with `advice`."""
    if not isinstance(value, kind):
        raise TypeError(
            f"`{argument}`: expected {kind.__name__}, got {type(value).__name__}; {advice}"
        )


def not_class(argument: str, value: Any, expected: str) -> None:
    """Refuse a class where an instance of it is meant; to forget the parentheses is a common mistake.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      expected: what is expected, as words for the message.
    """
    if isinstance(value, type):
        raise TypeError(
            f"`{argument}`: expected {expected}, got the class {value.__name__}; write "
            f"`{value.__name__}()`"
        )


def weights_of_vgg(params: Any, kind: type, advice: str) -> None:
    """Refuse a value that is not the weights of VGG-19, whose features the losses compare.

    Args:
      params: the value to check.
      kind: the class `Params`. It is passed, so that this module need not import it.
      advice: what to do, for the end of the message.
    """
    instance("params", params, kind, advice)
    if "conv1_1" not in params.layers:
        raise ValueError(
            f"`params`: expected the weights of VGG-19, got those of another network, of the family "
            f"{params.family!r}; {advice}"
        )


def in_words(value: Any) -> str:
    """Return what a value is, for messages about what a user's own function returned.

    Example:
      >>> in_words(None), in_words([1]), in_words(np.ones(2, np.float32))
      ('None', 'a list', 'an array of float32 of the shape [2]')
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"an array of {value.dtype} of the shape {list(value.shape)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
