"""Checks of pictures: shape, type and range of their arrays."""

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._checks.keys import not_keys
from nst_jax._checks.values import not_traced, one_line


def array(argument: str, value: Any, advice: str) -> None:
    """Refuse a value that is no array, that is, has no shape or no dtype.

    Arrays of NumPy and JAX, tracers and `jax.ShapeDtypeStruct`s are accepted. The error message ends
    with `advice`. For a list or a Pillow image, it ends by saying how to make an array of it instead.
    """
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"`{argument}`: expected an array [height, width, 3], got {type(value).__name__}; "
            f"{_array_hint(value) if _is_list(value) or _is_pillows(value) else advice}"
        )


def image_shape(
    argument: str, shape: tuple[Any, ...], *, smallest: int, needs: str = "the network needs"
) -> None:
    """Refuse the shape of an image if it is not [..., h, w, 3], or if h or w is under `smallest`.

    `needs` is the beginning of the phrase that says why a smaller image is refused.
    """
    if len(shape) < 3 or shape[-1] != 3:
        raise ValueError(
            f"`{argument}`: expected an image [..., height, width, 3] (RGB, channels last), "
            f"got shape {list(shape)}{_grey_hint(shape)}"
        )
    # Each side is compared alone. `min(height, width)` would fail when `jax.export` traces a program
    # for pictures of any size: JAX cannot tell which of two symbolic dimensions is smaller.
    if any(side < smallest for side in shape[-3:-1]):
        raise ValueError(
            f"`{argument}`: {shape[-2]}x{shape[-3]} px is too small; "
            f"{needs} at least {smallest} px on each side"
        )


def floating(argument: str, dtype: Any) -> None:
    """Refuse an image whose dtype is not floating point, since integer arithmetic would overflow.

    A dtype of another package, such as torch's, is refused as well, and that of JAX's random keys.
    """
    try:
        is_floating = jnp.issubdtype(dtype, jnp.floating)
        are_keys = jnp.issubdtype(dtype, jax.dtypes.prng_key)
    except TypeError:
        raise TypeError(
            f"`{argument}`: expected an array of NumPy or JAX, got one of {dtype}; "
            "`np.asarray(...)` makes one"
        ) from None
    if are_keys:
        raise TypeError(f"`{argument}`: expected floating point in [0, 1], got random keys")
    if not is_floating:
        hint = "divide it by 255" if dtype == np.uint8 else "scale it to [0, 1]"
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1], got {np.dtype(dtype)}; {hint} first"
        )


def one_image(
    argument: str,
    image: Any,
    *,
    smallest: int,
    advice: str = "",
    needs: str = "the network needs",
) -> None:
    """Refuse anything but one floating-point image [h, w, 3] with sides of at least `smallest` px.

    Args:
      argument: the caller's name for `image`, used in messages.
      image: the value to check.
      smallest: the least number of px on a side.
      advice: what to do with a batch of images, for the message that refuses it; may be empty.
      needs: the beginning of the phrase that says why a smaller image is refused.

    Raises:
      TypeError: if the value is no array.
      ValueError: if it is an array of another shape or dtype.
    """
    array(argument, image, "`nst_jax.images.load` reads a file")
    image_shape(argument, image.shape, smallest=smallest, needs=needs)
    if len(image.shape) != 3:
        raise ValueError(
            f"`{argument}`: expected one image [height, width, 3], got shape {list(image.shape)}"
            + (f"; {advice}" if advice else "")
        )
    floating(argument, image.dtype)


def same_shape(argument: str, shape: Any, other: str, expected: Any) -> None:
    """Refuse an array whose shape is not that of another one.

    Args:
      argument: the caller's name for the array, used in messages.
      shape: its shape.
      other: the caller's name for the other array, used in messages.
      expected: the shape that the array must have.
    """
    if tuple(shape) != tuple(expected):
        raise ValueError(
            f"`{argument}`: expected the shape of `{other}`, {list(expected)}, got {list(shape)}; "
            "resize it first"
        )


def two_images(
    argument: str,
    image: Any,
    other: str,
    photo: Any,
    *,
    smallest: int = 1,
    advice: str = "`jax.vmap` takes a batch",
    needs: str = "a window needs",
) -> None:
    """Refuse anything but two floating-point images [h, w, 3] of the same size.

    Args:
      argument: the caller's name for `image`, used in messages.
      image: the first image.
      other: the caller's name for `photo`, used in messages.
      photo: the second image.
      smallest: the least number of px on a side.
      advice: what to do with a batch of images, for the message that refuses it.
      needs: the beginning of the phrase that says why smaller images are refused.

    Raises:
      TypeError, ValueError: as in `one_image`.
      ValueError: if the images differ in size.
    """
    for name, one in ((argument, image), (other, photo)):
        one_image(name, one, smallest=smallest, advice=advice, needs=needs)
    same_shape(other, photo.shape, argument, image.shape)


def not_masked(argument: str, value: Any) -> None:
    """Refuse a masked array of NumPy with masked elements.

    NumPy's functions would use the numbers under the mask, which may be anything. A masked array
    without masked elements is accepted.
    """
    if np.ma.is_masked(value):
        raise ValueError(
            f"`{argument}`: is a masked array with masked elements; fill them by `array.filled(0.5)`, "
            "and pass their mask as an opacity if they shall not count"
        )


def image(argument: str, value: Any, *, several: str = "") -> np.ndarray:
    """Check a picture and return it as float32 [h, w, 3] in [0, 1] on the host.

    Args:
      argument: the caller's name for the value, used in messages.
      value: an array [h, w, 3]: floating point in [0, 1], or uint8, which is divided by 255.
      several: name of the function that takes a batch of such pictures, for the message that refuses a
        batch; "" if there is none.

    Returns:
      float32 NumPy array. Values up to 0.01 outside [0, 1] are accepted, and are not clipped.

    Raises:
      TypeError: if the value is not an array, is a tracer, or has random keys of JAX.
      ValueError: for a wrong rank, dtype, channel count or range, for NaN or infinite values, and for
        an empty array, or a masked array with masked elements.
    """
    not_traced(argument, value)
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"`{argument}`: expected an array [height, width, 3], got {type(value).__name__}; "
            f"{_array_hint(value)}"
        )
    not_keys(argument, value, "an array [height, width, 3]")
    not_masked(argument, value)
    try:
        array = np.asarray(value)
    except (RuntimeError, TypeError) as error:
        if isinstance(value, jax.Array):  # the error is of JAX itself, such as a failed transfer
            raise
        raise TypeError(
            f"`{argument}`: NumPy makes no array of this {type(value).__name__}: "
            f"{one_line(str(error))}"
        ) from error
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(
            f"`{argument}`: expected one image [height, width, 3] (RGB, channels last), "
            f"got shape {list(array.shape)}{_shape_hint(argument, array.shape, several)}"
        )
    if array.size == 0:
        raise ValueError(f"`{argument}`: the image is empty, got shape {list(array.shape)}")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / 255
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1] or uint8, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.float32)
    _check_range(argument, array)
    return array


def _shape_hint(argument: str, shape: tuple[int, ...], several: str) -> str:
    """Return a hint on what to do with an array of this shape, which is no image; "" if there is none.

    The hint says how to convert the array to an image. For a batch of images, it names the function
    `several`, or if that is "", the first image of the batch.
    """
    if len(shape) == 4:
        return f"; for a batch use `{several}`" if several else f"; give one, as by `{argument}[0]`"
    if len(shape) == 2 or shape[-1:] == (1,):
        return _grey_hint(shape)
    if len(shape) == 3 and shape[-1] == 4:
        return "; drop the alpha channel with `image[..., :3]`"
    if len(shape) == 3 and shape[0] == 3:
        return "; move the channels last with `image.transpose(1, 2, 0)`"
    return ""


def _grey_hint(shape: tuple[int, ...]) -> str:
    """Return a hint on how to give a grey picture three channels; "" for shapes of other pictures."""
    grey = "; repeat a grey picture three times along a last axis"
    if len(shape) == 2:
        return f"{grey} with `np.stack([image] * 3, axis=-1)`"
    return f"{grey} with `np.repeat(image, 3, axis=-1)`" if shape[-1:] == (1,) else ""


def _array_hint(value: Any) -> str:
    """Return a hint on how to make an array from a value that is not an array."""
    file = "`nst_jax.images.load` reads a file"
    if _is_list(value):
        return f"`np.asarray(...)` makes an array of numbers in lists, {file}"
    if _is_pillows(value):
        return f"`np.asarray(picture.convert('RGB'))` makes an array of a picture of Pillow, {file}"
    return file


def _is_list(value: Any) -> bool:
    # Subclasses are left out: a named tuple, such as `Targets`, is not meant as a list of numbers.
    return type(value) in (list, tuple)


def _is_pillows(value: Any) -> bool:
    return hasattr(value, "getbands")  # recognises Pillow's images without importing Pillow


def _check_range(argument: str, array: np.ndarray) -> None:
    """Refuse pixels that are not finite, or more than 0.01 outside [0, 1]."""
    low, high = float(np.min(array, initial=np.inf)), float(np.max(array, initial=-np.inf))
    if not np.isfinite([low, high]).all():
        raise ValueError(f"`{argument}`: has NaN or infinite values")
    # Values up to 0.01 outside [0, 1] are allowed, since resampling overshoots slightly. A wider range
    # means another pixel convention, such as 0..255.
    if low < -0.01 or high > 1.01:
        hint = "; divide it by 255" if low >= 0 and high > 2 else ""
        raise ValueError(
            f"`{argument}`: expected values in [0, 1], got {low:.4g} to {high:.4g}{hint}"
        )


def images(argument: str, values: Any) -> list[np.ndarray]:
    """Check one image, a batch [n, h, w, 3] or a sequence of images; return a list of images."""
    if hasattr(values, "shape"):
        if len(values.shape) == 3:
            return [image(argument, values)]
        if len(values.shape) != 4:
            raise ValueError(
                f"`{argument}`: expected an image [height, width, 3], a batch [n, height, width, "
                f"3] or a list of images, got shape {list(values.shape)}{_grey_hint(values.shape)}"
            )
    elif isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        raise TypeError(
            f"`{argument}`: expected images, got {type(values).__name__}; {_array_hint(values)}"
        )
    found = [image(f"{argument}[{index}]", value) for index, value in enumerate(values)]
    if not found:
        raise ValueError(f"`{argument}`: is empty; give at least one image")
    return found


def one_or_several(argument: str, value: Any) -> list[np.ndarray]:
    """Check one image [h, w, 3], or a list or tuple of them; return a list of images.

    An array [n, h, w, 3] is refused.
    """
    if isinstance(value, (list, tuple)):
        return images(argument, value)
    return [image(argument, value)]
