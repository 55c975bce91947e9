"""A first approximation of the inverse Hessian for L-BFGS, made from an image pyramid.

L-BFGS multiplies the gradient by an approximation of the inverse Hessian, which it improves with every
update. Usually the first approximation is a multiple of the identity matrix. Here, its product with the
gradient is computed from an image pyramid: the gradient, which has the shape of the picture, is reduced
to half its size several times. The product is the weighted sum of all these arrays, each enlarged to
full size. So L-BFGS changes coarse structure of a picture sooner.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, ScalarLike

from nst_jax import _checks
from nst_jax._real_size import cut, halved_size
from nst_jax._types import RealSize

# When a picture is halved, each new line (row or column) is a weighted sum of four neighbouring lines
# of the picture: the two outer lines have the weight `OUTER`, the two inner lines `INNER`. The four
# weights sum to 2 and not to 1, since this map must be the transpose of linear interpolation, which
# doubles the number of lines.
OUTER, INNER = 0.25, 0.75

NARROWEST = 4  # px; a level of the pyramid with a side shorter than this is not halved again


def multilevel(
    picture: Float[Array, "h w c"],
    levels: int,
    gain: ScalarLike = 0.25,
    size: RealSize | None = None,
) -> Float[Array, "h w c"]:
    """Apply to a picture the map A Aᵀ, where A maps the levels of an image pyramid to a weighted sum.

    A pyramid z has a picture of full size, one of half the size, one of a quarter, and so on. A z is a
    weighted sum of these pictures, each enlarged to full size. If the optimised canvas is written as
    A z, gradient descent on z moves the pixels along -A Aᵀ g, where g is the gradient with respect to
    the pixels. This changes coarse structure faster than a move along -g does. A Aᵀ is symmetric and
    positive definite, as an approximation of the inverse Hessian must be. Applying it takes little
    time: all levels below the full size together have only about a third of its pixels.

    Args:
      picture: [h, w, c].
      levels: number of halvings, that is, of levels below the full size. Halving ends early at a level
        with a side shorter than `NARROWEST`. With 0, the picture itself is returned.
      gain: weight of a level in A Aᵀ, relative to the next finer level. Halving adds up pixels with
        weights whose sum is 4. So with a gain of 1, a level would count 4 times as much as the next
        finer one. The default of 0.25 makes up for this.
      size: the (height, width) of the picture, if `picture` is a larger array with the picture at its
        top left and zeros around it. The result is then an array of the same kind. None means that the
        picture fills the array.

    Returns:
      A Aᵀ applied to the picture, [h, w, c].

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
    _checks.not_keys("picture", picture, "an array [height, width, channels]")
    if not levels or any(side < NARROWEST for side in picture.shape[:2]):
        return picture
    height, width = picture.shape[:2]
    half = _halved(_halved(picture, 0), 1)
    if size is None:
        coarse = multilevel(half, levels - 1, gain)
    else:
        # `cut` sets to zero what lies beyond the halved picture. Without `cut`, the first row there
        # would not be zero if the picture's height is even, since this row of `half` is a sum that
        # includes the last row of the picture. The same holds for the width and columns.
        smaller = halved_size(size, ceil=True)
        coarse = multilevel(cut(half, smaller), levels - 1, gain, smaller)
    enlarged = _doubled(_doubled(coarse, 1, width), 0, height)
    weight = jnp.asarray(gain, picture.dtype)
    if size is None:
        return picture + weight * enlarged
    weight = jnp.where(jnp.all(size >= NARROWEST), weight, 0)
    return picture + weight * cut(enlarged, size)


def _halved(x: Array, axis: int) -> Array:
    """Halve the number of lines (rows or columns) along `axis`, rounded up.

    Each new line is the weighted sum of four neighbouring lines; beyond the borders there are zeros.
    """
    lines = -(-x.shape[axis] // 2)
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 2 * lines + 1 - x.shape[axis])
    wide = jnp.pad(x, edges)
    take = partial(jax.lax.slice_in_dim, wide, stride=2, axis=axis)
    parts = [take(start, start + 2 * lines - 1) for start in range(4)]
    outer, inner = parts[0] + parts[3], parts[1] + parts[2]
    return OUTER * outer + INNER * inner


def _doubled(x: Array, axis: int, lines: int) -> Array:
    """Double the number of rows or columns along `axis` by interpolation, and keep the first `lines`.

    This is the transpose of `_halved`. It is written out, since it compiles faster than the transpose
    that JAX would derive.
    """
    edges = [(0, 0)] * x.ndim
    edges[axis] = (1, 1)
    take = partial(jax.lax.slice_in_dim, jnp.pad(x, edges), axis=axis)
    count = x.shape[axis]
    first, second = (INNER * x + OUTER * take(start, start + count) for start in (0, 2))
    both = jnp.stack([first, second], axis=axis + 1)
    doubled = both.reshape(*x.shape[:axis], 2 * count, *x.shape[axis + 1 :])
    return jax.lax.slice_in_dim(doubled, 0, lines, axis=axis)
