"""L-BFGS' initial guess of the inverse Hessian, as a sum over the levels of an image pyramid."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from nst_jax._real_size import cut, halved_size
from nst_jax._types import RealSize

# A coarse line (row or column) is a weighted sum of four neighbouring fine lines: the two outer lines
# have the weight `OUTER`, the two inner lines `INNER`. The transpose of this map interpolates linearly
# from coarse to fine.
OUTER, INNER = 0.25, 0.75

NARROWEST = 4  # px; a level with a side shorter than this is not halved


def multilevel(
    picture: Float[Array, "h w c"],
    levels: int,
    gain: ScalarLike = 0.25,
    size: RealSize | None = None,
) -> Float[Array, "h w c"]:
    """Return A Aᵀ x for a picture x, where A maps the levels of a pyramid to their sum, a picture.

    Write the canvas as A z, where z is a pyramid: A z is the sum of a full-size picture, an enlarged
    one of half the size, one of a quarter and so on. Gradient descent in z is descent along A Aᵀ g in
    pixels, where g is the gradient in pixels. This changes coarse structure faster than descent along
    g. A Aᵀ is symmetric and positive definite. Applying it takes about as much time as one pass over
    the canvas.

    Args:
      picture: x, [h, w, c].
      levels: number of halvings, fewer if a side becomes shorter than `NARROWEST`. 0 returns the
        picture.
      gain: weight of a level relative to the next finer one. The default makes up for the weights
        of the fine pixels in a coarse one, whose sum is 4; with 1, a level counts 4 times as much as
        the next finer one.
      size: the real (height, width) of x, if it lies at the top left of a larger array with zeros
        around it. The result is that of the picture alone, with zeros around it.

    Returns:
      [h, w, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.optimizers.pyramid import multilevel
      >>> dot = jnp.zeros((9, 9, 1)).at[4, 4].set(1.0)
      >>> spread = multilevel(dot, levels=2)
      >>> bool((spread >= 0).all()), bool(spread[4, 4] > 1), float(spread[0, 0, 0]) > 0
      (True, True, True)

    References:
      Bramble, Pasciak, Xu, "Parallel Multilevel Preconditioners", 1990.
    """
    if not levels or any(side < NARROWEST for side in picture.shape[:2]):
        return picture
    height, width = picture.shape[:2]
    half = _halved(_halved(picture, 0), 1)
    if size is None:
        coarse = multilevel(half, levels - 1, gain)
    else:
        # The first line beyond the real size is not zero, since it is partly made of the last real one.
        smaller = halved_size(size, ceil=True)
        coarse = multilevel(cut(half, smaller), levels - 1, gain, smaller)
    enlarged = _doubled(_doubled(coarse, 1, width), 0, height)
    weight = jnp.asarray(gain, picture.dtype)
    if size is None:
        return picture + weight * enlarged
    weight = jnp.where(jnp.all(size >= NARROWEST), weight, 0)
    return picture + weight * cut(enlarged, size)


def _halved(x: Array, axis: int) -> Array:
    """Halve the number of lines along `axis`: new lines are weighted sums of four neighbouring ones."""
    lines = -(-x.shape[axis] // 2)
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 2 * lines + 1 - x.shape[axis])
    wide = jnp.pad(x, edges)
    take = partial(jax.lax.slice_in_dim, wide, stride=2, axis=axis)
    parts = [take(start, start + 2 * lines - 1) for start in range(4)]
    outer, inner = parts[0] + parts[3], parts[1] + parts[2]
    return OUTER * outer + INNER * inner


def _doubled(x: Array, axis: int, lines: int) -> Array:
    """Interpolate to `lines` lines: the transpose of `_halved`, written out to compile faster."""
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 1)
    take = partial(jax.lax.slice_in_dim, jnp.pad(x, edges), axis=axis)
    count = x.shape[axis]
    first, second = (INNER * x + OUTER * take(start, start + count) for start in (0, 2))
    both = jnp.stack([first, second], axis=axis + 1)
    doubled = both.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return jax.lax.slice_in_dim(doubled, 0, lines, axis=axis)
