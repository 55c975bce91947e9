"""Pictures that lie at the top left of a larger array: a bucket that pictures of several sizes share.

A program is compiled for the size of an array. Where the size of the picture in it, its real size, is a
value at runtime, one program serves pictures of many sizes. Everything outside the picture is padding:
it is set to zero, and never read as a pixel.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from nst_jax._types import RealSize, Shape


def inside(size: RealSize, shape: Shape) -> Bool[Array, "h w"]:
    """Return which positions of an array of this (height, width) lie in a picture of this real size.

    Example:
      >>> import jax.numpy as jnp
      >>> inside(jnp.array([1, 2]), (2, 3)).tolist()
      [[True, True, False], [False, False, False]]
    """
    rows, columns = jnp.arange(shape[0]) < size[0], jnp.arange(shape[1]) < size[1]
    return rows[:, None] & columns[None, :]


def cut(x: Array, size: RealSize) -> Array:
    """Return an array [*batch, h, w, c] with zeros outside the real size, whatever was there, even NaN.

    The gradient outside is exactly zero, too.
    """
    height, width = x.shape[-3:-1]
    mask = inside(size, (height, width)).reshape(*[1] * (x.ndim - 3), height, width, 1)
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def halved_size(size: RealSize, ceil: bool) -> RealSize:
    """Return a real size after a pooling that keeps (`ceil`) or drops an odd last line."""
    return (size + int(ceil)) // 2


def as_counts(size: RealSize, dtype: Any) -> tuple[Array, Array]:
    """Return height and width as floats, of float32 at least, whose products do not overflow."""
    wide = jnp.promote_types(dtype, jnp.float32)
    return size[0].astype(wide), size[1].astype(wide)


def padded(picture: Any, shape: Shape) -> np.ndarray:
    """Return a picture [h, w, c] at the top left of an array of zeros of this (height, width).

    It is computed on the host, so that nothing is compiled for the size of the picture.
    """
    picture = np.asarray(picture)
    missing = [(0, most - side) for most, side in zip(shape, picture.shape[:2], strict=True)]
    return np.pad(picture, (*missing, (0, 0)))
