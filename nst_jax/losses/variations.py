"""Variation losses of a picture: functions of the differences between neighbouring pixels.

dy and dx are the differences between the pixel below, or to the right, and the pixel itself. With
`size`, a picture of this real size lies at the top left of a larger array, with zeros around it.
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
from nst_jax.losses.sums import as_float, half, unchanged

# One pixel down, and one to the right: a picture of a real size has differences down except in its last
# row, and differences to the right except in its last column.
DOWN, RIGHT = np.array([1, 0], np.int32), np.array([0, 1], np.int32)

DifferenceSums: TypeAlias = tuple[Scalar, Scalar]  # (sum(|dy|), sum(|dx|)) or (sum(dy²), sum(dx²))


def absolute_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return sum|dy| and sum|dx| of the differences to the pixels below (dy) and right (dx)."""
    return _sum_each(absolute, _differences(image, where, size))


def squared_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return sum(dy²) and sum(dx²) of the differences to the pixels below (dy) and right (dx)."""
    return _sum_each(jnp.square, _differences(image, where, size))


def difference_sums(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> tuple[DifferenceSums, DifferenceSums]:
    """Return what `squared_differences` and `absolute_differences` return."""
    return squared_differences(image, where, size), absolute_differences(image, where, size)


def squared_gradients(image: Image, where: Mask = None, size: RealSize | None = None) -> Scalar:
    """Return the sum of dy² + dx² over the pixels that have a pixel below and one to the right."""
    return jnp.sum(_gradient_squares(image, where, size), axis=(-1, -2, -3))


def powered_gradients(image: Image, where: Mask = None, size: RealSize | None = None) -> Scalar:
    """Return the sum of (dy² + dx²)^1.25 over pixels that have a pixel below and one to the right."""
    return jnp.sum(_gradient_squares(image, where, size) ** 1.25, axis=(-1, -2, -3))


def nine_point_differences(
    image: Image, where: Mask = None, size: RealSize | None = None
) -> DifferenceSums:
    """Return the sums of squared differences along rows and columns, and along both diagonals.

    The border pixels of the picture count as repeated once beyond the border, so that diagonal
    differences across the border are differences along it. A pixel in the first or last row or column
    of `image` counts as being at the border if the mask includes it. So a tile must also have the lines
    beyond its own pixels, masked out, except where the whole picture ends.
    """
    down, right = _differences(image, where, size)
    straight = jnp.sum(jnp.square(down), axis=(-1, -2, -3))
    straight += jnp.sum(jnp.square(right), axis=(-1, -2, -3))
    falling = image[..., 1:, 1:, :] - image[..., :-1, :-1, :]
    rising = image[..., 1:, :-1, :] - image[..., :-1, 1:, :]
    diagonal = jnp.square(falling) + jnp.square(rising)
    if where is not None:
        diagonal = jnp.where(where[:-1, :-1, None], diagonal, 0)
    # Both diagonals across the border give the difference of two neighbours along it: hence the 2.
    if size is None:
        rows, columns = right[..., (0, -1), :, :], down[..., :, (0, -1), :]
    else:
        diagonal = cut(diagonal, size - DOWN - RIGHT)
        ends = jnp.stack([jnp.zeros_like(size), size - 1])  # the first and last row and column
        rows = jnp.take(right, ends[:, 0], axis=-3, mode="clip")
        columns = jnp.take(down, ends[:, 1], axis=-2, mode="clip")
    crossing = sum(jnp.sum(jnp.square(lines), axis=(-1, -2, -3)) for lines in (rows, columns))
    return straight, jnp.sum(diagonal, axis=(-1, -2, -3)) + 2 * crossing


def _differences(
    image: Image, where: Mask, size: RealSize | None
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return dy and dx, differences to the pixels below and to the right; 0 where the mask is False.

    With a real size, they are 0 where one of the two pixels is outside.
    """
    down = image[..., 1:, :, :] - image[..., :-1, :, :]
    right = image[..., :, 1:, :] - image[..., :, :-1, :]
    if size is not None:
        down, right = cut(down, size - DOWN), cut(right, size - RIGHT)
    if where is None:
        return down, right
    included = where[..., None]
    return jnp.where(included[:-1], down, 0), jnp.where(included[:, :-1], right, 0)


def _gradient_squares(image: Image, where: Mask, size: RealSize | None) -> Array:
    """Return dy² + dx² of the pixels that have a pixel below and one to the right."""
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
    down, right = as_float(3 * (height - 1) * width), as_float(3 * height * (width - 1))
    return sums[0] / down + sums[1] / right


def _nine_point_mean(sums: DifferenceSums, shape: tuple[Any, Any]) -> Scalar:
    height, width = shape
    straight, diagonal = as_float(3 * height * width), as_float(3 * (height + 1) * (width + 1))
    return 2 * (sums[0] / straight / 3 + sums[1] / diagonal / 12)


# The sum of absolute differences between neighbouring pixels, all channels: `tf.image.total_variation`.
# It grows with the picture and with its contrast.
TOTAL_VARIATION = Variation(absolute_differences, _down_plus_right, sized=True)

# mean(dy²) + mean(dx²), which does not grow with the picture.
MEAN_VARIATION = Variation(squared_differences, _mean_down_plus_mean_right, sized=True)

# sum(dy²) + sum(dx²), the formula in the text of TensorFlow's tutorial.
SQUARE_VARIATION = Variation(squared_differences, _down_plus_right, sized=True)

# Half the sum of dy² + dx² over the pixels that have a pixel below and one to the right:
# jcjohnson/neural-style, whose code contains only the gradient of this loss.
HALF_SQUARE_VARIATION = Variation(squared_gradients, half, sized=True)

# The sum of (dy² + dx²)^1.25 over the pixels that have a pixel below and one to the right:
# keras-team/keras-io, examples/generative/neural_style_transfer.py.
POWER_VARIATION = Variation(powered_gradients, unchanged, sized=True)

# 2 (mean(dx²) / 3 + mean(dy²) / 3 + (mean(d↘²) + mean(d↙²)) / 12), with the differences along the
# diagonals and the border pixels repeated beyond the border: crowsonkb/style-transfer-pytorch. It
# does not grow with the picture.
NINE_POINT_VARIATION = Variation(nine_point_differences, _nine_point_mean, sized=True)

# sum(dy² + dx²) / (sum(|dy| + |dx|) + 1e-8): see `gradient_scaled_square`.
GRADIENT_SCALED_VARIATION = Variation(difference_sums, _scaled, sized=True)
