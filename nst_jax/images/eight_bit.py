"""Pictures of 8 bits per channel: rounding to 8 bits, and Pillow's resizing of such pictures."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PilImage

from nst_jax._types import HostImage, Shape


def to_uint8(image: Any) -> UInt8[np.ndarray, "..."]:
    """Round an array in [0, 1] to the nearest of 256 levels; values outside are clipped.

    Args:
      image: floating point of any shape, or uint8, which is returned as it is.

    Returns:
      uint8 array of the same shape.

    Raises:
      ValueError: for another dtype, and for NaN and infinite values.

    Example:
      >>> from nst_jax import images
      >>> images.to_uint8([0.0, 0.5, 1.0, 1.01]).tolist()
      [0, 128, 255, 255]
    """
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"`image`: expected floating point in [0, 1] or uint8, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.promote_types(array.dtype, np.float32))
    if not np.isfinite(array).all():
        raise ValueError("`image`: has NaN or infinite values; it has no 8-bit equivalent")
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def resize_8bit(
    image: Any, shape: Shape, resampling: PilImage.Resampling
) -> Float[np.ndarray, "h w *rgb"]:
    """Round a picture to 8 bits and resize it with Pillow, as published pipelines do.

    All filters but NEAREST are antialiased: their kernels widen when the picture is reduced. The result
    is rounded to 8 bits, too.

    Args:
      image: [h, w, 3] or [h, w], float in [0, 1] or uint8.
      shape: height and width of the result.
      resampling: the filter, a member of Pillow's `Resampling`.

    Returns:
      float32 in [0, 1] of the new shape.

    Raises:
      ValueError: as in `to_uint8`.

    Example:
      >>> import PIL.Image
      >>> from nst_jax import images
      >>> cat = images.sample("chelsea")
      >>> images.resize_8bit(cat, (100, 150), PIL.Image.Resampling.LANCZOS).shape
      (100, 150, 3)
    """
    height, width = shape
    resized = PilImage.fromarray(to_uint8(image)).resize((width, height), resampling)
    return np.asarray(resized, np.float32) / 255


def bilinear_8bit(image: Any, shape: Shape) -> HostImage:
    """Round to 8 bits and resize to (height, width) with Pillow's BILINEAR; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.BILINEAR)


def bicubic_8bit(image: Any, shape: Shape) -> HostImage:
    """Round to 8 bits and resize to (height, width) with Pillow's BICUBIC; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.BICUBIC)


def nearest_8bit(image: Any, shape: Shape) -> HostImage:
    """Round to 8 bits and resize to (height, width) with Pillow's NEAREST; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.NEAREST)
