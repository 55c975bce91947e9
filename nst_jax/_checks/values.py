"""Checks of what kind of value an argument is, and a value as text for a message."""

import reprlib
from collections.abc import Sized
from typing import Any

import jax
import jax.numpy as jnp
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
        raise TypeError(f"`{argument}`: expected True or False, got {shown(value)}")


def function(argument: str, value: Any, call: str) -> None:
    """Refuse a value that cannot be called; `call` shows, for the message, how it will be called."""
    if not callable(value):
        raise TypeError(
            f"`{argument}`: expected a function, called as `{call}`, got {shown(value)}"
        )


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
            f"{shown(params.family)}; {advice}"
        )


def in_words(value: Any) -> str:
    """Return what a value is, for messages about what a user's own function returned.

    Example:
      >>> in_words(None), in_words([1]), in_words(np.ones(2, np.float32))
      ('None', 'a list', 'an array of float32 of the shape [2]')
    """
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return f"random keys of the shape {list(value.shape)}" if value.shape else "a random key"
    if _is_array(value):
        return f"an array of {value.dtype} of the shape {list(value.shape)}"
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _is_array(value: Any) -> bool:
    """Return whether a value is an array of any library, or is traced by JAX.

    Classes of arrays, such as `np.ndarray`, have the attributes of arrays, too, but not their values.
    """
    return isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype")


# The most characters that a message says about a value; the value may be of any length.
LONGEST = 200


class _Short(reprlib.Repr):
    """`repr` of limited length, in which arrays are described by type and shape."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxlong = self.maxother = LONGEST - 20
        self.maxlist = self.maxtuple = self.maxdict = 8
        self.maxlevel = 3

    def repr1(self, x: Any, level: int) -> str:
        """Return the text for a value at any depth; `level` is how many more levels are shown."""
        # A NumPy scalar is a number, which `repr` shows on one line.
        if _is_array(x) and not isinstance(x, np.generic):
            return in_words(x)
        return super().repr1(x, level)

    def repr_int(self, x: int, level: int) -> str:
        """Return a whole number as text; Python refuses to write one of some thousands of digits."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return f"a whole number of {x.bit_length()} bits"


_SHORT = _Short()


def shown(value: Any) -> str:
    """Return a user's value as text for a message: one line of at most `LONGEST` characters.

    It is the value's `repr`, without line breaks, and with a part left out if it is long. An array is
    described by its type and shape.

    Example:
      >>> shown("yes"), shown([1, 2.5]), shown([np.ones((2, 2), np.float32)])
      ("'yes'", '[1, 2.5]', '[an array of float32 of the shape [2, 2]]')
      >>> len(shown(list(range(1000)))), len(shown("yes" * 1000))
      (29, 180)
    """
    return one_line(_SHORT.repr(value))


def one_line(text: str) -> str:
    """Return text without line breaks, and its end left out if it is longer than `LONGEST`."""
    text = " ".join(line.strip() for line in text.splitlines())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
