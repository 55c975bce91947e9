"""Checks of what a user's own function returned, such as a filter or a layer."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._checks.values import in_words


def returned_array(
    argument: str,
    function: str,
    value: Any,
    shape: tuple[int, ...],
    *,
    numbers: str = "floating-point numbers",
) -> None:
    """Refuse what a user's own function returned, unless it is a floating-point array of a shape.

    Only types and shapes are read, so the function can be called while JAX traces.

    Args:
      argument: the caller's name for the function, used in messages.
      function: the kind of function, such as "pooling", for messages.
      value: what it returned.
      shape: the shape that the array must have.
      numbers: which numbers the array must have, as words for the message.

    Raises:
      TypeError: if the value is no array.
      ValueError: if the array has another shape, or is not floating point.
    """
    returned = f"`{argument}`: the {function} returned {in_words(value)}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(f"{returned}, expected an array of the shape {list(shape)}")
    if tuple(value.shape) != shape:
        raise ValueError(f"{returned}, expected the shape {list(shape)}")
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise ValueError(f"{returned}, expected {numbers}")


def returned_image(argument: str, function: str, value: Any, shape: tuple[int, ...]) -> Any:
    """Check what a user's own function returned in place of an image, and return it as an array.

    Args:
      argument: the caller's name for the function, used in messages.
      function: the kind of function, such as "start", for messages.
      value: what it returned: an array of JAX or NumPy, or an object that NumPy can make an array of.
      shape: the shape that the image must have.

    Raises:
      TypeError: if the value is no array.
      ValueError: if the array has another shape, is not floating point, or has NaN or infinite values.
        The values of tracers are not checked.
    """
    if not isinstance(value, (jax.Array, np.ndarray)) and hasattr(value, "__array__"):
        value = np.asarray(value)
    returned_array(argument, function, value, shape, numbers="floating point in [0, 1]")
    if not isinstance(value, jax.core.Tracer) and not np.isfinite(np.asarray(value)).all():
        raise ValueError(
            f"`{argument}`: the {function} returned NaN or infinite values, expected values in [0, 1]"
        )
    return value
