"""Pictures of 8 bits per channel: rounding to 8 bits, and Pillow's resizing of such pictures."""

from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PilImage

from nst_jax import _checks
from nst_jax._types import HostImage, Shape


def to_uint8(image: Any, *, argument: str = "image") -> UInt8[np.ndarray, "..."]:
    """Round an array in [0, 1] to the nearest of 256 levels; values outside are clipped.

    Args:
      image: floating point of any shape, or uint8, which is returned as it is.
      argument: the caller's name for `image`, shown in error messages.

    Returns:
      uint8 array of the same shape.

    Raises:
      TypeError: for random keys of JAX.
      ValueError: for another dtype, for NaN and infinite values, and for a masked array of NumPy with
        masked elements.

    Example:
      >>> from nst_jax import images
      >>> images.to_uint8([0.0, 0.5, 1.0, 1.01]).tolist()
      [0, 128, 255, 255]
    """
    _checks.not_keys(argument, image, "an array of numbers")
    _checks.not_masked(argument, image)
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1] or uint8, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.promote_types(array.dtype, np.float32))
    if not np.isfinite(array).all():
        raise ValueError(f"`{argument}`: has NaN or infinite values; it has no 8-bit equivalent")
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def resize_8bit(
    image: Any, shape: Shape, resampling: PilImage.Resampling
) -> Float[np.ndarray, "h w *rgb"]:
    """Round a picture to 8 bits and resize it with Pillow, as published style-transfer programs do.

    All filters but NEAREST are antialiased: their kernels widen when the picture is reduced. Pillow
    rounds the resized picture to 8 bits, too.

    Args:
      image: [h, w, 3] or [h, w], float in [0, 1] or uint8.
      shape: height and width of the result.
      resampling: the filter, a member of Pillow's `Resampling`.

    Returns:
      float32 in [0, 1], of the new height and width.

    Raises:
      ValueError: if `image` has another dtype, or values that are not finite.

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


def cut_8bit(
    image: UInt8[np.ndarray, "h w 3"], corner: tuple[int, int], side: int, size: int
) -> UInt8[np.ndarray, "size size 3"]:
    """Cut a square out of a picture and resize it with Pillow's bicubic filter, antialiased.

    Args:
      image: [h, w, 3] uint8.
      corner: (row, column) of the square's upper left pixel.
      side: side of the square in px.
      size: side of the result in px.

    Returns:
      [size, size, 3] uint8.
    """
    top, left = corner
    square = PilImage.fromarray(np.ascontiguousarray(image[top : top + side, left : left + side]))
    return np.asarray(square.resize((size, size), PilImage.Resampling.BICUBIC))


def bilinear_8bit(image: Any, shape: Shape) -> Float[np.ndarray, "h w *rgb"]:
    """Round a picture to 8 bits and resize it with Pillow's filter BILINEAR; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.BILINEAR)


def bicubic_8bit(image: Any, shape: Shape) -> HostImage:
    """Round a picture to 8 bits and resize it with Pillow's filter BICUBIC; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.BICUBIC)


def nearest_8bit(image: Any, shape: Shape) -> HostImage:
    """Round a picture to 8 bits and resize it with Pillow's filter NEAREST; see `resize_8bit`."""
    return resize_8bit(image, shape, PilImage.Resampling.NEAREST)


def old_bilinear_8bit(image: Any, shape: Shape) -> Float[np.ndarray, "h w *rgb"]:
    """Round a picture to 8 bits and resize it with the filter BILINEAR of Pillow before version 2.7.

    Until January 2015, this filter of Pillow, and of its predecessor PIL, computed each new pixel from
    only 2 x 2 pixels, even when it reduced a picture, so that fine texture aliased. Pixel (i, j) of the
    result is interpolated in the [h, w] picture at (i * h / h_new - 1/2, j * w / w_new - 1/2), where
    the centre of the first pixel is at (0, 0). A resize without a shift has i + 1/2 and j + 1/2 in
    place of i and j, so this filter shifts the picture by half a pixel of the result. Interpolated
    values are truncated to 8 bits, not rounded. A picture that has the new size already is returned
    without a shift.

    Args:
      image: [h, w, 3] or [h, w], float in [0, 1] or uint8.
      shape: height and width of the result.

    Returns:
      float32 in [0, 1], of the new height and width.

    Raises:
      ValueError: if `image` has another dtype, or values that are not finite.

    Example:
      >>> import numpy as np
      >>> from nst_jax import images
      >>> row = np.asarray([[0, 30, 60, 90]], np.uint8)
      >>> (images.old_bilinear_8bit(row, (1, 2)) * 255).astype(int).tolist()
      [[0, 45]]

    Source: Pillow 2.6.1, libImaging/Geometry.c: `ImagingResize`, `affine_transform` and
    `bilinear_filter32RGB`.
    """
    eight = to_uint8(image)
    if eight.shape[:2] == tuple(shape):
        return eight.astype(np.float32) / 255
    above, below, down = _neighbours(eight.shape[0], shape[0])
    left, right, across = _neighbours(eight.shape[1], shape[1])
    trailing = (1,) * (eight.ndim - 2)
    down, across = down.reshape(-1, 1, *trailing), across.reshape(-1, *trailing)

    def row(which: Any) -> Any:
        one = eight[np.ix_(which, left)].astype(np.float64)
        return one + (eight[np.ix_(which, right)] - one) * across

    upper = row(above)
    return (upper + (row(below) - upper) * down).astype(np.uint8).astype(np.float32) / 255


def _neighbours(old: int, new: int) -> tuple[Any, Any, Any]:
    """Find, along one axis of `old` pixels, the two pixels between which each of `new` pixels lies.

    The result is three arrays [new]: the indices of the first and of the second old pixel, and the
    distance of the new pixel from the first one, 0 to 1. Indices outside the picture are replaced by
    those of the border pixels.
    """
    # `old / new` is computed first, as in Pillow's C code, so that rounding errors are the same.
    positions = np.arange(new) * (old / new) - 0.5
    first = np.floor(positions)
    index = first.astype(np.int64)
    return np.clip(index, 0, old - 1), np.clip(index + 1, 0, old - 1), positions - first
