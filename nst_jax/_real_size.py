"""Pictures at the top left of a larger array, so that one compiled program serves many sizes.

A program is compiled for the size of its arrays. The size of the picture in such an array is called its
real size; it is given to the program as a value at runtime. Everything in the array outside the picture
is padding: it is set to zero, and never read as a pixel.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool

from nst_jax._types import RealSize, Shape


def inside(size: RealSize, shape: Shape) -> Bool[Array, "h w"]:
    """Return which positions of an array lie in the picture at its top left.

    `size` is the (height, width) of the picture, and `shape` that of the array.

    Example:
      >>> import jax.numpy as jnp
      >>> inside(jnp.array([1, 2]), (2, 3)).tolist()
      [[True, True, False], [False, False, False]]
    """
    rows, columns = jnp.arange(shape[0]) < size[0], jnp.arange(shape[1]) < size[1]
    return rows[:, None] & columns[None, :]


def cut(x: Array, size: RealSize) -> Array:
    """Return `x`, an array [*batch, h, w, c], with zeros everywhere but in its top left part.

    This part is the picture; its (height, width) is `size`. Outside the picture even NaN becomes zero,
    and the gradient with respect to `x` is exactly zero there, too.
    """
    height, width = x.shape[-3:-1]
    mask = inside(size, (height, width)).reshape(*[1] * (x.ndim - 3), height, width, 1)
    return jnp.where(mask, x, jnp.zeros((), x.dtype))


def halved_size(size: RealSize, ceil: bool) -> RealSize:
    """Return the (height, width) of a picture after a pooling that halves both sides.

    The picture lies at the top left of a larger array, so its size is not that of the array.

    Args:
      size: the (height, width) of the picture before the pooling.
      ceil: whether the pooling keeps the last row or column of an odd side; if not, it drops them.
    """
    return divided_size(size + int(ceil), 2)


def divided_size(size: RealSize, divisor: int) -> RealSize:
    """Return a (height, width) divided by a whole number, rounded down.

    `lax.div` rounds towards 0, which is the same, since sizes are not negative. The operator `//`
    rounds negative numbers down, too; for that, XLA computes several more operations.
    """
    # Unless JAX's 64-bit types are enabled, this makes int32 of a NumPy array of int64. Without it, JAX
    # would warn of the dtype int64 in the next line.
    size = jnp.asarray(size)
    return lax.div(size, jnp.asarray(divisor, size.dtype))


def as_counts(size: RealSize, dtype: Any) -> tuple[Array, Array]:
    """Return height and width as two floating-point scalars, for computing numbers of pixels.

    Args:
      size: the (height, width).
      dtype: the type of the arrays that are divided by these numbers. The result has this type, but at
        least float32, in which the product of height and width does not overflow.
    """
    wide = jnp.promote_types(dtype, jnp.float32)
    return size[0].astype(wide), size[1].astype(wide)


def stacked(images: Sequence[Any], *, on_host: bool) -> Any:
    """Return images [h, w, c] as one array [n, h, w, c], or as the same list if their shapes differ.

    With `on_host`, NumPy makes the array, since JAX would compile a program for the images' shape.
    """
    if len({image.shape for image in images}) > 1:
        return images
    return jax.device_put(np.stack(images)) if on_host else jnp.stack(images)


def padded(picture: Any, shape: Shape) -> np.ndarray:
    """Return an array of zeros with a picture at its top left.

    NumPy makes the array on the host, so that JAX compiles nothing for the size of the picture.

    Args:
      picture: [h, w, c], or a mask [h, w].
      shape: (height, width) of the array; no side may be smaller than the picture's.
    """
    picture = np.asarray(picture)
    missing = [(0, most - side) for most, side in zip(shape, picture.shape[:2], strict=True)]
    return np.pad(picture, (*missing, *[(0, 0)] * (picture.ndim - 2)))
