"""Checks of numbers: whole ones, those within bounds, arrays of them, shares of styles."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._checks.keys import not_keys
from nst_jax._checks.values import in_words, not_traced, shown


def number(
    argument: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    means: str = "",
) -> None:
    """Refuse anything but a finite number, or an array of finite numbers, within the given bounds.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      above: the value must be greater than this number; None sets no bound.
      least: the value must be this number or greater; None sets no bound.
      below: the value must be less than this number; None sets no bound.
      most: the value must be this number or less; None sets no bound.
      means: what a number means, such as "1 is the photograph", for the message that refuses a number
        outside the bounds; may be empty.

    Raises:
      TypeError: if the value is neither a real number nor an array of real numbers, or is a tracer.
      ValueError: if a number is not finite, or outside the bounds.
    """
    if (
        # A quick test for the usual case, since NumPy is slow for the many numbers of a batch. It does
        # not accept infinity, NaN or numbers too large for NumPy's int64: the checks below decide on
        # these.
        type(value) in (int, float)
        and abs(value) < 2**63
        and (above is None or value > above)
        and (least is None or value >= least)
        and (below is None or value < below)
        and (most is None or value <= most)
    ):
        return
    if isinstance(value, (list, tuple)):
        kind = type(value).__name__
        raise TypeError(
            f"`{argument}`: expected a number, got the {kind} {shown(value)}; a sweep is an array, "
            "`numpy.asarray([...])`"
        )
    not_traced(argument, value)
    not_keys(argument, value, "a number")
    array = np.asarray(_as_float(value) if type(value) is int else value)
    # JAX's function also knows bfloat16.
    kinds = jnp.floating, jnp.integer
    if not any(jnp.issubdtype(array.dtype, kind) for kind in kinds):
        raise TypeError(f"`{argument}`: expected a number, got {shown(value)}")
    finite = np.isfinite(array)
    if not finite.all():
        raise ValueError(
            f"`{argument}`: expected a finite number, got {_refused(value, array, finite)}"
        )
    wide = None if least is None or most is None else f"{_bound(least)} to {_bound(most)}"
    for bound, compared, expected in (
        (above, np.greater, "more than {}"),
        (least, np.greater_equal, wide or "{} or more"),
        (below, np.less, "less than {}"),
        (most, np.less_equal, wide or "{} or less"),
    ):
        if bound is not None and not (allowed := compared(array, bound)).all():
            raise ValueError(
                f"`{argument}`: expected {expected.format(_bound(bound))}"
                f"{means and f' ({means})'}, got {_refused(value, array, allowed)}"
            )


def one_number(argument: str, value: Any, **bounds: Any) -> None:
    """Refuse lists and arrays, and then what `number` refuses, whose further arguments are `bounds`.

    An array without axes is one number.
    """
    if isinstance(value, (list, tuple)) or np.ndim(value):
        raise TypeError(f"`{argument}`: expected one number, got {shown(value)}")
    number(argument, value, **bounds)


def _bound(number: float) -> str:
    """Return a bound as text; one that is an `int` with all its digits."""
    return str(number) if isinstance(number, int) else f"{number:g}"


def _refused(value: Any, array: np.ndarray, allowed: Any) -> str:
    """Return as text a number that is refused; of an array, the first that is not allowed.

    Args:
      value: the value, as the caller gave it.
      array: the same as an array of NumPy.
      allowed: whether each number of the array is allowed: an array, or one boolean.
    """
    if array.ndim:
        return f"{array[~allowed][0]} in an array of the shape {list(array.shape)}"
    is_long = type(value) is int and abs(value) >= 10**30  # its digits would fill the message
    return str(array.item() if is_long else value)


def known_number(argument: str, value: Any, **bounds: Any) -> None:
    """Check a number as `number` does, unless it is a tracer, whose value is not known yet.

    This is for functions that JAX can trace with the number as an argument. `bounds` are the further
    arguments of `number`.
    """
    if not isinstance(value, jax.core.Tracer):
        number(argument, value, **bounds)


def not_array(argument: str, value: Any, several: str) -> None:
    """Refuse an array where one number is expected.

    Args:
      argument: the caller's name for the value, used in messages.
      value: the value to check.
      several: the functions that take a number for each picture, as text for the message.
    """
    if shape := getattr(value, "shape", ()):
        raise ValueError(
            f"`{argument}`: expected one number, got an array of the shape {list(shape)}; {several} "
            "one number for each picture"
        )


def _as_float(value: int) -> float:
    """Return a whole number as a float, even if NumPy's integers are too small for the number.

    If floats are too small for it, too, the result is infinity, with the sign of the number.
    """
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def whole(
    argument: str,
    value: Any,
    *,
    least: int | None = None,
    below: int | None = None,
    most: int | None = None,
) -> None:
    """Refuse a value that is not a whole number, or is outside the bounds, which are those of `number`.

    Without an upper bound, 2^63 and larger numbers are refused, which are too large for NumPy's int64.
    """
    not_traced(argument, value)
    not_keys(argument, value, "a whole number")
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"`{argument}`: expected a whole number, got {shown(value)}")
    if below is None and most is None:
        below = 2**63
    number(argument, value, least=least, below=below, most=most)


def whole_scalar(argument: str, value: Any, *, most: int | None = None) -> None:
    """Refuse anything but a whole number from 0 to `most`, or a scalar array of integers.

    This is for functions that JAX can trace with the number as an argument: the value of an array is
    not checked. If `most` is None, the number may be as large as `whole` allows.
    """
    if isinstance(value, (jax.Array, np.ndarray)):
        if value.shape or not jnp.issubdtype(value.dtype, jnp.integer):
            raise TypeError(f"`{argument}`: expected a whole number, got {in_words(value)}")
        return
    whole(argument, value, least=0, most=most)


def single(recipe: Any) -> None:
    """Refuse a recipe (the settings of a run) that has arrays in place of numbers.

    Only `stylize_many` accepts such a recipe: it paints one picture for each number of the array.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf):
            name = jax.tree_util.keystr(path).lstrip(".")
            raise ValueError(
                f"`recipe`: `{name}` is an array of the shape {list(np.shape(leaf))}; one picture "
                "needs one number, and `stylize_many` paints one picture for each number of an array"
            )


# A style share is the weight of a style in a mixture. It must be less than this number, so that the sum
# of several shares is finite in float32. Shares are divided by their sum, which must not be tiny:
# if it is at most 1 / LARGEST_SHARE, the shares are refused, as if all were 0.
LARGEST_SHARE = 1e30


def shares(argument: str, values: Any) -> np.ndarray:
    """Return the weights of styles in a mixture, divided by their sum, as float32 [styles].

    Args:
      argument: the caller's name for the weights, used in messages.
      values: the weights, numbers in a list, tuple or array.

    Raises:
      TypeError: if a weight is not a number.
      ValueError: if a weight is an array of numbers, is negative, not finite, or 1e30 or more; or if
        the sum of all weights is 0, or at most 1e-30.
    """
    for share in values:
        number(argument, share, least=0, below=LARGEST_SHARE)
        one_share(argument, share)
    total = float(np.sum(values))
    if not total > 1 / LARGEST_SHARE:
        raise ValueError(f"`{argument}`: all shares are 0; give at least one style a larger share")
    return (np.asarray(values, np.float64) / total).astype(np.float32)


def one_share(argument: str, share: Any) -> None:
    """Refuse an array of numbers as the weight of a single style in a mixture."""
    if np.ndim(share):
        raise ValueError(
            f"`{argument}`: expected one number for each style, got an array of the shape "
            f"{list(np.shape(share))} for one of them"
        )
