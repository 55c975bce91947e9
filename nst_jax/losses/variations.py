"""Variation losses of a picture: functions of the differences between neighbouring pixels.

For each pixel, dy is the pixel below minus the pixel itself, and dx is the pixel to its right minus the
pixel itself. Sums are over pixels and colour channels. The functions have these arguments in common:

- `image`: a picture [*batch, h, w, 3].
- `where`: a mask [h, w], or None. The differences of a pixel where the mask is False are left out.
- `size`: int32 [2], or None. If given, it is the (height, width) in px of a picture that lies at the
  top left of `image` with zeros around it, and the sums are those of this picture alone.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._real_size import cut
from nst_jax._types import Image, RealSize, Scalar
from nst_jax.losses.kinds import Mask, Variation
from nst_jax.losses.squares import absolute, scaled_by_gradient
from nst_jax.losses.sums import as_float, at_least_float32, half, unchanged

# (height, width) by which an array of differences is smaller than the picture: `DOWN` for differences
# to the pixel below, which the last row does not have, and `RIGHT` for those to the pixel on the right.
DOWN, RIGHT = np.array([1, 0], np.int32), np.array([0, 1], np.int32)

# A pair of sums over the pixels of a picture: (sum|dy|, sum|dx|); or (sum(dy²), sum(dx²)); or, in the
# `nine_point_...` functions, a sum over the differences along both axes and a sum over those along both
# diagonals, which are squared or absolute.
DifferenceSums: TypeAlias = tuple[Scalar, Scalar]


def absolute_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return sum|dy| and sum|dx|, where dy and dx are the differences to the pixels below and right.

    The differences of a pixel where the mask `where` [h, w] is False are left out. If `size` is given,
    the picture consists of only the first size[0] rows and size[1] columns of `image`.
    """
    return _sum_each(absolute, _differences(image, where, size))


def squared_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return sum(dy²) and sum(dx²), where dy and dx are the differences to the pixels below and right.

    The differences of a pixel where the mask `where` [h, w] is False are left out. If `size` is given,
    the picture consists of only the first size[0] rows and size[1] columns of `image`.
    """
    return _sum_each(jnp.square, _differences(image, where, size))


def difference_sums(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> tuple[DifferenceSums, DifferenceSums]:
    """Return the pairs (sum(dy²), sum(dx²)) and (sum|dy|, sum|dx|).

    dy and dx are the differences to the pixels below and right. Those of a pixel where the mask `where`
    [h, w] is False are left out. If `size` is given, the picture consists of only the first size[0]
    rows and size[1] columns of `image`.
    """
    return squared_differences(image, where, size), absolute_differences(image, where, size)


def squared_gradients(image: Image, where: Mask = None, size: RealSize | None = None) -> Scalar:
    """Return the sum of dy² + dx² over all pixels that have both a pixel below and one to the right.

    dy and dx are the differences to these two pixels. Those of a pixel where the mask `where` [h, w] is
    False are left out. If `size` is given, the picture consists of only the first size[0] rows and
    size[1] columns of `image`.
    """
    return jnp.sum(_gradient_squares(image, where, size), axis=(-1, -2, -3))


def powered_gradients(image: Image, where: Mask = None, size: RealSize | None = None) -> Scalar:
    """Return the sum of (dy² + dx²)^1.25 over all pixels with both a pixel below and one to the right.

    dy and dx are the differences to these two pixels. Those of a pixel where the mask `where` [h, w] is
    False are left out. If `size` is given, the picture consists of only the first size[0] rows and
    size[1] columns of `image`.
    """
    return jnp.sum(_gradient_squares(image, where, size) ** 1.25, axis=(-1, -2, -3))


def nine_point_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return two sums of squared differences: along rows and columns, and along both diagonals.

    For the diagonals, the picture is continued beyond its border by repeating its border pixels once.
    The diagonal difference of a border pixel and a pixel beyond the border is therefore the difference
    of two neighbours along the border.

    A pixel in the first or last row or column of `image` counts as a border pixel if the mask `where`
    includes it. If `image` is a tile of a larger picture, it needs one more row or column, with the
    mask False, on each side where the picture goes on. Without that, the tile's own pixels on this side
    would count as border pixels.

    If `size` is given, the picture consists of only the first size[0] rows and size[1] columns of
    `image`.
    """
    return _nine_point_sums(jnp.square, image, where, size)


def nine_point_sums(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> tuple[DifferenceSums, DifferenceSums]:
    """Return the sums of `nine_point_differences`, and the same sums of absolute differences.

    The arguments are those of `nine_point_differences`.
    """
    squares, absolutes = (
        _nine_point_sums(function, image, where, size) for function in (jnp.square, absolute)
    )
    return squares, absolutes


def _nine_point_sums(
    function: Callable[[Array], Array], image: Image, where: Mask, size: RealSize | None
) -> DifferenceSums:
    """Return the two sums of `nine_point_differences`, with `function` in place of the square."""
    image = at_least_float32(image)
    down, right = _differences(image, where, size)
    straight = jnp.sum(function(down), axis=(-1, -2, -3))
    straight += jnp.sum(function(right), axis=(-1, -2, -3))
    falling = image[..., 1:, 1:, :] - image[..., :-1, :-1, :]
    rising = image[..., 1:, :-1, :] - image[..., :-1, 1:, :]
    diagonal = function(falling) + function(rising)
    if where is not None:
        diagonal = jnp.where(where[:-1, :-1, None], diagonal, 0)
    # `crossing` is the sum over the differences of neighbours along the border. Each of two such
    # neighbours has a copy beyond the border, which is diagonal to the other neighbour. So two diagonal
    # differences equal the difference of the two neighbours, and `crossing` is added twice.
    if size is None:
        rows, columns = right[..., (0, -1), :, :], down[..., :, (0, -1), :]
    else:
        diagonal = cut(diagonal, size - DOWN - RIGHT)
        # ends[:, 0] are the indices of the first and the last row; ends[:, 1] are those of the first
        # and the last column.
        ends = jnp.stack([jnp.zeros_like(size), size - 1])
        rows = jnp.take(right, ends[:, 0], axis=-3, mode="clip")
        columns = jnp.take(down, ends[:, 1], axis=-2, mode="clip")
    crossing = sum(jnp.sum(function(lines), axis=(-1, -2, -3)) for lines in (rows, columns))
    return straight, jnp.sum(diagonal, axis=(-1, -2, -3)) + 2 * crossing


def _differences(
    image: Image, where: Mask, size: RealSize | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return the differences of each pixel to the pixel below, and to the pixel on its right.

    The shapes are [*batch, h - 1, w, 3] and [*batch, h, w - 1, 3], the dtype float32 or a wider one.
    The differences of a pixel are 0 if the mask `where` is False there. If `size` is given, a
    difference is also 0 if one of its two pixels is outside the picture of this size.
    """
    image = at_least_float32(image)
    down = image[..., 1:, :, :] - image[..., :-1, :, :]
    right = image[..., :, 1:, :] - image[..., :, :-1, :]
    if size is not None:
        down, right = cut(down, size - DOWN), cut(right, size - RIGHT)
    if where is None:
        return down, right
    included = where[..., None]
    return jnp.where(included[:-1], down, 0), jnp.where(included[:, :-1], right, 0)


def _gradient_squares(image: Image, where: Mask, size: RealSize | None) -> Array:
    """Return dy² + dx² of each pixel that has both a pixel below and one to the right.

    The result has the shape [*batch, h - 1, w - 1, 3].
    """
    down, right = _differences(image, where, size)
    squares = jnp.square(down[..., :, :-1, :]) + jnp.square(right[..., :-1, :, :])
    return squares if size is None else cut(squares, size - DOWN - RIGHT)


def _sum_each(function: Callable[[Array], Array], parts: tuple[Array, Array]) -> DifferenceSums:
    down, right = (jnp.sum(function(part), axis=(-1, -2, -3)) for part in parts)
    return down, right


def _down_plus_right(sums: DifferenceSums, shape: tuple[Any, Any]) -> Scalar:
    del shape
    return sums[0] + sums[1]


def _scaled(sums: tuple[DifferenceSums, DifferenceSums], shape: tuple[Any, Any]) -> Scalar:
    del shape
    squares, absolutes = sums
    return scaled_by_gradient(squares[0] + squares[1], absolutes[0] + absolutes[1])


def _mean_down_plus_mean_right(sums: DifferenceSums, shape: tuple[Any, Any]) -> Scalar:
    height, width = shape
    down, right = 3 * (height - 1) * width, 3 * height * (width - 1)
    return sums[0] / _at_least_one(down) + sums[1] / _at_least_one(right)


def _at_least_one(count: Any) -> Any:
    """Return a number of differences as a float; a picture of one row or column has none to divide by.

    The sum of no differences is 0, and so becomes their mean. `count` may be an array or symbolic.
    """
    number = as_float(count)
    return max(number, 1.0) if isinstance(number, float) else jnp.maximum(number, 1)


def _nine_point_mean(sums: DifferenceSums, shape: tuple[Any, Any]) -> Scalar:
    height, width = shape
    straight, diagonal = as_float(3 * height * width), as_float(3 * (height + 1) * (width + 1))
    return 2 * (sums[0] / straight / 3 + sums[1] / diagonal / 12)


def _nine_point_scaled(
    sums: tuple[DifferenceSums, DifferenceSums], shape: tuple[Any, Any]
) -> Scalar:
    squares, absolutes = (_nine_point_mean(each, shape) for each in sums)
    return scaled_by_gradient(squares, absolutes)


# sum|dy| + sum|dx|, where dy and dx are the differences of each pixel to those below and to the right:
# the same as `tf.image.total_variation`. It grows with the size of the picture and with its contrast.
TOTAL_VARIATION = Variation(absolute_differences, _down_plus_right, sized=True)

# mean(dy²) + mean(dx²), with dy and dx as for `TOTAL_VARIATION`. It does not grow with the size of the
# picture.
MEAN_VARIATION = Variation(squared_differences, _mean_down_plus_mean_right, sized=True)

# sum(dy²) + sum(dx²), with dy and dx as for `TOTAL_VARIATION`: the formula in the text of TensorFlow's
# tutorial, whose code computes `TOTAL_VARIATION`.
SQUARE_VARIATION = Variation(squared_differences, _down_plus_right, sized=True)

# Half the sum of dy² + dx² over the pixels that have both a pixel below and one to the right: the
# variation of jcjohnson/neural-style, whose code contains only the gradient of this loss.
HALF_SQUARE_VARIATION = Variation(squared_gradients, half, sized=True)

# The sum of (dy² + dx²)^1.25 over the pixels that have both a pixel below and one to the right: the
# variation of keras-team/keras-io, examples/generative/neural_style_transfer.py.
POWER_VARIATION = Variation(powered_gradients, unchanged, sized=True)

# 2 (mean(dx²) / 3 + mean(dy²) / 3 + (mean(d↘²) + mean(d↙²)) / 12), with dy and dx as for
# `TOTAL_VARIATION`; d↘ and d↙ are the differences along the two diagonals. Border pixels are repeated
# beyond the border. This is the formula of crowsonkb/style-transfer-pytorch. It does not grow with the
# size of the picture.
NINE_POINT_VARIATION = Variation(nine_point_differences, _nine_point_mean, sized=True)

# sum(dy² + dx²) / (sum(|dy| + |dx|) + 1e-8), with dy and dx as for `TOTAL_VARIATION`. If the contrast
# of the picture is doubled, so is this loss, but its gradient stays the same.
GRADIENT_SCALED_VARIATION = Variation(difference_sums, _scaled, sized=True)

# `NINE_POINT_VARIATION` divided by a number: the same weighted mean of absolute instead of squared
# differences, plus 1e-8. If the contrast of the picture is doubled, so is this loss, but its gradient
# stays the same.
NINE_POINT_VARIATION_GRADIENT_SCALED = Variation(nine_point_sums, _nine_point_scaled, sized=True)
