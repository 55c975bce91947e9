"""Resizing of arrays, the ladder of scales, sums over the levels of a pyramid. Pure."""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from nst_jax._types import Resized

Shape = tuple[int, int]  # height, width
Picture: TypeAlias = Float[Array | np.ndarray, "*batch h w 3"]  # an Image, here or on the host


def antialiased(image: Picture, shape: Shape) -> Resized:
    """Resize with a Lanczos filter that widens on reduction, so that fine texture does not alias.

    Args:
      image: [*batch, h, w, 3] in [0, 1].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, 3] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(image, shape, "lanczos3", antialias=True), 0.0, 1.0)


def bilinear(image: Picture, shape: Shape) -> Resized:
    """Resize as `tf.image.resize` does by default: bilinear, half-pixel centres, no antialiasing."""
    return _resized(image, shape, "linear", antialias=False)


def enlarge(canvas: Float[Array, "*batch h w 3"], shape: Shape) -> Resized:
    """Carry a canvas up to the next scale, bicubically; any coordinates, nothing is clipped."""
    return _resized(canvas, shape, "cubic", antialias=True)


def _resized(image: Picture, shape: Shape, method: str, antialias: bool) -> Resized:
    if image.shape[-3:-1] == shape:
        return jnp.asarray(image)
    new = (*image.shape[:-3], *shape, image.shape[-1])
    # Weights and sums in full float32: accelerators would otherwise use fewer bits.
    return jax.image.resize(
        image, new, method, antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )


def ladder(shape: Shape, smallest: int, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Return the scales from coarse to fine, each `ratio` times the one before, ending at `shape`.

    Args:
      shape: the final (height, width).
      smallest: no scale's longer side is below this, unless `shape` itself is.
      ratio: how much a scale is larger than the one before, over 1.

    Returns:
      (height, width) per scale.

    Example:
      >>> from nst_jax.pyramid import ladder
      >>> ladder((384, 512), smallest=128)
      ((96, 128), (192, 256), (384, 512))
    """
    scales = [shape]
    factor = 1.0 / ratio
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= 16:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))


# --- Levels of a pyramid --------------------------------------------------------------------------

# How much a coarse line takes of the four finer ones it stands among; the other way round it is linear
# interpolation.
OUTER, INNER = 0.25, 0.75
NARROWEST = 4  # px a side that a level still halves


def multilevel(
    picture: Float[Array, "h w c"], levels: int, gain: ScalarLike = 0.25
) -> Float[Array, "h w c"]:
    """Return A Aᵀ of a picture, where A makes a picture of the levels of a pyramid.

    A picture that is the sum of a full one, one of half the size enlarged, one of a quarter and so
    on, has many such descriptions; going down the gradient in them is going down A Aᵀ of the
    gradient in pixels. It is symmetric and positive definite, and takes time like one canvas.

    Args:
      picture: [h, w, c].
      levels: halvings; they end where a side is shorter than `NARROWEST`. 0 returns the picture.
      gain: of a level against the next finer one. A level's own gain is 4 at 1: that is how many
        pixels one of its own stands for.

    Returns:
      [h, w, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.pyramid import multilevel
      >>> dot = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
      >>> spread = multilevel(dot, levels=2)
      >>> bool((spread >= 0).all()), bool(spread[4, 4] > 1), float(spread[0, 0, 0]) > 0
      (True, True, True)

    References:
      Bramble, Pasciak, Xu, "Parallel Multilevel Preconditioners", 1990.
    """
    if not levels or min(picture.shape[:2]) < NARROWEST:
        return picture
    height, width = picture.shape[:2]
    coarse = multilevel(_halved(_halved(picture, 0), 1), levels - 1, gain)
    enlarged = _doubled(_doubled(coarse, 1, width), 0, height)
    return picture + jnp.asarray(gain, picture.dtype) * enlarged


def _halved(x: Array, axis: int) -> Array:
    """Sum lines into half as many."""
    lines = -(-x.shape[axis] // 2)
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 2 * lines + 1 - x.shape[axis])
    wide = jnp.pad(x, edges)
    take = partial(jax.lax.slice_in_dim, wide, stride=2, axis=axis)
    parts = [take(start, start + 2 * lines - 1) for start in range(4)]
    outer, inner = parts[0] + parts[3], parts[1] + parts[2]
    return OUTER * outer + INNER * inner


def _doubled(x: Array, axis: int, lines: int) -> Array:
    """Interpolate between lines: the transpose of `_halved`, which compiles in half of the time."""
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 1)
    take = partial(jax.lax.slice_in_dim, jnp.pad(x, edges), axis=axis)
    count = x.shape[axis]
    first, second = (INNER * x + OUTER * take(start, start + count) for start in (0, 2))
    both = jnp.stack([first, second], axis=axis + 1)
    doubled = both.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return jax.lax.slice_in_dim(doubled, 0, lines, axis=axis)
