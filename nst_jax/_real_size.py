"""Pictures at the top left of a larger array, so that one compiled program serves many sizes.

A program is compiled for the size of its arrays. The size of the picture in such an array is called its
real size; it is given to the program as a value at runtime. Everything in the array outside the picture
is padding: it is set to zero, and never read as a pixel.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jaxtyping import Array, Bool, Int

from nst_jax import _checks
from nst_jax._types import RealSize, Shape, sum_dtype

# (height, width) of each of n pictures that lie at the top left of larger arrays.
RealSizes: TypeAlias = Int[Array, "n 2"]


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
    x = jnp.asarray(x)  # with NumPy's float64, the zero below would be of a type that JAX lacks
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
    # Unless JAX's 64-bit types are enabled, `jnp.asarray` converts a NumPy array of int64 to int32.
    # Without this conversion, the next line would ask for the dtype int64, and JAX would warn about it.
    size = jnp.asarray(size)
    return lax.div(size, jnp.asarray(divisor, size.dtype))


def sizes_of_array(
    size: Any,
    shape: tuple[int, ...],
    multiple: int,
    *,
    smallest: int,
    argument: str = "content",
) -> RealSizes:
    """Check the argument `size` of a function that paints, and return it as [n, 2].

    Args:
      size: (height, width) of each picture, [2] if it is the same for all pictures, else [*batch, 2].
      shape: the shape [*batch, h, w, 3] of the arrays at whose top left the n pictures lie.
      multiple: the number that must divide h and w.
      smallest: smallest side that a picture may have, in px. If `size` contains tracers, its values are
        not checked.
      argument: the caller's name for the arrays, shown in error messages.

    Raises:
      ValueError: if h or w is not divisible by `multiple`, or if `size` has a wrong shape or dtype, or
        a side that is less than `smallest` or larger than the array's.
    """
    *batch, height, width, _ = shape
    if height % multiple or width % multiple:
        raise ValueError(
            f"`{argument}`: with `size`, expected an array whose sides are multiples of {multiple} px, "
            f"got {width}x{height} px; pad it with zeros below and at the right"
        )
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(size))
    try:
        given: Any = jnp.asarray(size) if traced else np.asarray(size)
    except (TypeError, ValueError):  # for example, nested lists of unequal lengths
        given = None
    if given is None or given.shape not in ((2,), (*batch, 2)) or given.dtype.kind not in "iu":
        each = f", or {[*batch, 2]}, a size for each picture" if batch else ""
        raise ValueError(
            f"`size`: expected (height, width) in px, two whole numbers{each}, got "
            f"{_checks.shown(size)}; leave it out if the pictures fill `{argument}`"
        )
    if not traced:
        for one in given.reshape(-1, 2).tolist():
            if not (smallest <= one[0] <= height and smallest <= one[1] <= width):
                raise ValueError(
                    f"`size`: expected a height from {smallest} to {height} px and a width from "
                    f"{smallest} to {width} px, since pictures lie within `{argument}`, got "
                    f"{tuple(one)}"
                )
    rows = jnp.broadcast_to(jnp.asarray(given, jnp.int32), (*batch, 2))
    return rows.reshape(-1, 2)


def as_counts(size: RealSize, dtype: Any) -> tuple[Array, Array]:
    """Return height and width as two floating-point scalars, for computing numbers of pixels.

    Args:
      size: the (height, width).
      dtype: the type of the arrays that are divided by these numbers. The result has this type, but at
        least float32, in which the product of height and width does not overflow.
    """
    wide = sum_dtype(dtype)
    return size[0].astype(wide), size[1].astype(wide)


def stacked(images: Sequence[Any], *, on_host: bool) -> Any:
    """Return images [h, w, c] as one array [n, h, w, c], or as the same list if their shapes differ.

    With `on_host`, NumPy makes the array, since JAX would compile a program for the images' shape. If
    some images are committed to a device, that of the first of these is where the array is put.
    """
    if len({image.shape for image in images}) > 1:
        return images
    if on_host:
        places = (place for place in map(committed_to, images) if place is not None)
        return jax.device_put(np.stack(images), next(places, None))
    return jnp.stack(images)


def committed_to(x: Any) -> jax.sharding.Sharding | None:
    """Return the sharding of an array that is committed to its devices; None for any other array.

    JAX moves arrays that are not committed, and NumPy's, to its default device.
    """
    return x.sharding if isinstance(x, jax.Array) and x.committed else None


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
