"""The guided filter: approximate a picture by a locally affine function of another picture, the guide.

In every square window of pixels, a picture p is fitted by p ≈ a · I + b, where I is the guide's colour,
and a and b are constant in the window. At each pixel, the result is the mean of the fits of all windows
that contain the pixel. The edges of the result are therefore the guide's: where the guide is constant
the result is smooth, and where the guide has an edge the result may have one.

References:
  He, Sun, Tang, "Guided Image Filtering", IEEE Transactions on Pattern Analysis and Machine
  Intelligence, 2013.
"""

from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax import _checks
from nst_jax._types import AnyImage, Image
from nst_jax.losses.sums import at_least_float32

Planes: TypeAlias = Float[Array, "h w *c"]
# A radius in pixels: static as an int, a value at runtime as an array.
Radius: TypeAlias = int | Int[Array, ""]


def box_sums(planes: Planes, radius: Radius, *, largest: int | None = None) -> Planes:
    """Return, for each pixel, the sum over the square window of side 2 `radius` + 1 around it.

    Pixels beyond the border count as 0. Along each axis, sums over 1, 2, 4, ... neighbours are made by
    doubling: a sum over 4 pixels is the sum of two sums over 2. The sum over the window is put together
    from some of these, for a side of 5 pixels from a sum over 4 and a sum over 1. This takes at most
    about 2 log2(side) additions for each pixel and axis. The rounding errors are as small as those of
    pairwise summation; those of differences of cumulative sums would be larger.

    Args:
      planes: the values to add, [h, w, ...]. The axes after the first two are separate channels.
      radius: distance from a pixel to the farthest row and column of its window, in pixels; 0 or more.
        With `largest`, it may be a traced array, so that one compiled program serves all radii.
      largest: the largest value that a traced `radius` may have; None if `radius` is an int.

    Returns:
      The sums, of the same shape as `planes`.

    Raises:
      TypeError: if `planes` has random keys of JAX, or if `radius` or `largest` is not a whole number;
        only with `largest`, `radius` may be a scalar array of integers.
      ValueError: for a number that is negative, or a `radius` above `largest`; the value of an array is
        not checked.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls.guided_filter import box_sums
      >>> box_sums(jnp.ones((3, 4)), 1).tolist()
      [[4.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 6.0], [4.0, 6.0, 6.0, 4.0]]
    """
    _checks.not_keys("planes", planes, "an array [height, width, ...]")
    if largest is None:
        _checks.whole("radius", radius, least=0)
    else:
        _checks.whole("largest", largest, least=0)
        _checks.whole_scalar("radius", radius, most=largest)
    for axis in (0, 1):
        lines = jnp.moveaxis(planes, axis, 0)
        if largest is None:
            sums = _line_sums(lines, int(radius))
        else:
            sums = _line_sums_up_to(largest, lines, jnp.asarray(radius))
        planes = jnp.moveaxis(sums, 0, axis)
    return planes


def _line_sums_up_to(largest: int, lines: Array, radius: Int[Array, ""]) -> Array:
    """Return the same as `_line_sums`, but for a traced radius, which is at most `largest`."""
    count, side = lines.shape[0], 2 * radius + 1
    power = jnp.pad(lines, ((largest, largest), *[(0, 0)] * (lines.ndim - 1)))
    # The window of a line is the `side` lines centred on it, which are added. Each window is divided
    # into blocks of 1, 2, 4, ... lines: one block for each 1 in the binary form of `side`. In what
    # follows, `power[i]` is the sum of `length` padded lines from line i on, and `first` is the padded
    # line at which the next block of line 0's window begins.
    first, length = largest - radius, 1
    # The side is odd, so there is a block of 1 line; the loop adds the other blocks.
    total = lax.dynamic_slice_in_dim(power, first, count)
    first = first + 1
    while 4 * length <= 2 * (2 * largest + 1):
        power, length = power[:-length] + power[length:], 2 * length
        wanted = (side & length) != 0
        part = lax.dynamic_slice_in_dim(power, first, count)
        total = total + jnp.where(wanted, part, jnp.zeros((), part.dtype))
        first = first + jnp.where(wanted, length, 0)
    return total


def _line_sums(lines: Array, radius: int) -> Array:
    """Return, for each line of an array, the sum of the 2 `radius` + 1 lines centred on it.

    A line is the part of the array at one index of the first axis. Lines beyond the border count as 0.
    The additions are those that `box_sums` describes.
    """
    count, side = lines.shape[0], 2 * radius + 1
    power = jnp.pad(lines, ((radius, radius), *[(0, 0)] * (lines.ndim - 1)))
    total, first, length = None, 0, 1
    while True:  # `power[i]` is the sum of `length` padded lines, beginning with line i
        if side & length:
            part = power[first : first + count]
            total, first = part if total is None else total + part, first + length
        if 2 * length > side:
            break
        power, length = power[:-length] + power[length:], 2 * length
    assert total is not None
    return total


def solve_symmetric(
    matrix: Float[Array, "h w n n"], right: Float[Array, "h w n m"]
) -> Float[Array, "h w n m"]:
    """Solve a system of equations A x = y at each pixel, where A is symmetric and positive definite.

    The Cholesky decomposition is written out here, with one array [h, w] for each entry of the
    matrices, since JAX's own decomposition would, on a CPU, call LAPACK once for each pixel.

    Args:
      matrix: the matrix A of each pixel, [h, w, n, n].
      right: m right-hand sides y of each pixel, [h, w, n, m].

    Returns:
      The solutions x, [h, w, n, m].
    """
    _checks.not_keys("matrix", matrix, "an array [height, width, n, n]")
    _checks.not_keys("right", right, "an array [height, width, n, m]")
    size = matrix.shape[-1]
    lower: dict[tuple[int, int], Array] = {}
    for i in range(size):
        for j in range(i + 1):
            rest = matrix[..., i, j] - sum(
                (lower[i, k] * lower[j, k] for k in range(j)), jnp.zeros(())
            )
            lower[i, j] = jnp.sqrt(rest) if i == j else rest / lower[j, j]
    found: list[Array] = []
    for i in range(size):
        known = sum((lower[i, k][..., None] * found[k] for k in range(i)), jnp.zeros(()))
        found.append((right[..., i, :] - known) / lower[i, i][..., None])
    for i in reversed(range(size)):
        known = sum((lower[k, i][..., None] * found[k] for k in range(i + 1, size)), jnp.zeros(()))
        found[i] = (found[i] - known) / lower[i, i][..., None]
    return jnp.stack(found, axis=-2)


def filtered_by_guide(
    picture: AnyImage,
    guide: AnyImage,
    *,
    radius: Radius,
    epsilon: float,
    inside: Float[Array, "h w"] | None = None,
    largest: int | None = None,
) -> Image:
    """Return the approximation of a picture by a locally affine function of a guide.

    The coefficients of a window are a = (Σ + ε U)^-1 cov(I, p) and b = mean(p) - a · mean(I), where Σ
    is the covariance of the guide's colours I in the window, and U the identity matrix. The result at a
    pixel is mean(a) · I + mean(b), with means over all windows that contain the pixel. Windows that
    reach beyond the border of the picture have fewer pixels, as in the code of He, Sun and Tang.

    Args:
      picture: the picture p, [h, w, 3].
      guide: the guide I, [h, w, 3], of the same size.
      radius: radius of the windows, whose side is 2 `radius` + 1 pixels. If `largest` is given,
        `radius` may be an array that JAX traces, so that one compiled program serves all radii.
      epsilon: the constant ε. Where the guide has less variance than this, the result is smooth.
      inside: [h, w], 1 for pixels that count, 0 for those that are left out of all windows, such as
        padding beyond the picture's border. None: all count.
      largest: the largest value that `radius` may have; None if `radius` is an int.

    Returns:
      The approximation of the picture, [h, w, 3].

    Raises:
      TypeError: if a picture is not an array, `radius` or `largest` not a whole number, or `epsilon`
        not a number.
      ValueError: for a radius that is negative or above `largest`, and for an `epsilon` that is not
        more than 0 (traced values are not checked); if a picture is not [h, w, 3] or not floating
        point; and if the pictures differ in size.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import filtered_by_guide
      >>> step = jnp.zeros((8, 8, 3)).at[:, 4:].set(1.0)
      >>> found = filtered_by_guide(0.3 + 0.5 * step, step, radius=2, epsilon=1e-6)
      >>> bool(abs(found - (0.3 + 0.5 * step)).max() < 1e-4)
      True
    """
    _checks.two_images("picture", picture, "guide", guide)
    _checks.known_number("epsilon", epsilon, above=0)
    _checks.not_keys("inside", inside, "an array [height, width]")
    picture, guide = (at_least_float32(jnp.asarray(one)) for one in (picture, guide))
    # Middle grey is subtracted from all colours at first, and added again at the end. This makes the
    # numbers smaller, so covariances, which are differences of products, lose fewer digits.
    colors, wanted = guide - 0.5, picture - 0.5
    mask = jnp.ones(guide.shape[:2], guide.dtype) if inside is None else inside
    count = jnp.maximum(box_sums(mask, radius, largest=largest), 1.0)

    def means(planes: Array) -> Array:
        shape = (*mask.shape, *[1] * (planes.ndim - 2))
        sums = box_sums(planes * mask.reshape(shape), radius, largest=largest)
        return sums / count.reshape(shape)

    mean, wanted_mean = means(colors), means(wanted)
    covariance = means(_outer(colors, colors)) - _outer(mean, mean)
    with_wanted = means(_outer(colors, wanted)) - _outer(mean, wanted_mean)
    ridge = epsilon * jnp.eye(3, dtype=covariance.dtype)[None, None]
    slopes = solve_symmetric(covariance + ridge, with_wanted)
    offsets = wanted_mean - jnp.sum(slopes * mean[..., None], axis=-2)
    return jnp.sum(means(slopes) * colors[..., None], axis=-2) + means(offsets) + 0.5


def _outer(one: Image, other: Image) -> Planes:
    return one[..., :, None] * other[..., None, :]
