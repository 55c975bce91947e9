"""Losses of one tap at a time: Gram statistics, content, total variation. Pure and short.

Notation: a tap has N channels and M = h * w positions of a picture of P pixels; F is its features
as an [M, N] matrix, R = FᵀF the Gram matrix, G = R / M its mean over positions, dG = G(canvas) -
G(style), dF = F(canvas) - F(content).

Every published Gram loss is a multiple of |dG|²; the multiples are the functions below. Sources that
write it with the raw R, whose size grows with the picture, resize the style to the content first;
written with G they give the same value there, and keep their meaning when the sizes differ.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from nst_jax._types import FeatureMap, Gram, Image, Scalar, Statistic

Mask: TypeAlias = Bool[Array, "h w"] | None

Sides: TypeAlias = tuple[Scalar, Scalar]


class ContentLoss(NamedTuple):
    """A content loss: what to sum over pixels, and what the sum becomes.

    Attributes:
      sums: (features of the canvas, of the content), each [*batch, h, w, c], to a sum over the h * w
        positions, to which positions that are zero in both add nothing.
      value: (the sum, h * w * c) to a scalar.
    """

    sums: Callable[[FeatureMap, FeatureMap], Scalar]
    value: Callable[[Scalar, int], Scalar]

    def __call__(self, canvas: FeatureMap, content: FeatureMap) -> Scalar:
        """Return how far whole features [*batch, h, w, c] are apart."""
        return self.value(self.sums(canvas, content), positions(canvas) * canvas.shape[-1])


class StyleLoss(NamedTuple):
    """A style loss: what to sum over pixels, what the sums become, how far two of them are apart.

    Splitting it so keeps every style loss additive over pixels up to `statistic`, which is what exact
    tiling, row sharding and masks need.

    Attributes:
      sums: (features [h, w, c], what its products ask of the device) to a pytree of sums over the
        h * w positions, to which positions of zeros add nothing. Features may be bfloat16; what is
        summed up has to be float32 at least.
      statistic: (sums, positions) to the statistic that targets remember.
      distance: (statistic of the canvas, of the style, extent of the canvas) to a scalar.
    """

    sums: Callable[[FeatureMap, lax.Precision], Statistic]
    statistic: Callable[[Statistic, int], Statistic]
    distance: Callable[[Statistic, Statistic, "Extent"], Scalar]

    def measure(
        self, features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST
    ) -> Statistic:
        """Return the statistic of whole features [h, w, c]."""
        return self.statistic(self.sums(features, products), positions(features))


class Variation(NamedTuple):
    """A loss of a picture itself: what to sum over its pixels, and what the sums become.

    dy and dx are what a pixel's neighbours below and to the right have more than itself.

    Attributes:
      sums: (picture [*batch, h, w, 3], which of its pixels count: [h, w] or None for all) to a pytree
        of sums. Of a pixel that does not count, its differences to those two neighbours do not.
      value: (the sums, (h, w) of the whole picture) to a scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import TOTAL_VARIATION
      >>> step = jnp.zeros((2, 3, 3)).at[:, 2].set(1.0)     # one edge, 2 pixels high, 3 channels
      >>> float(TOTAL_VARIATION(step))
      6.0
    """

    sums: Callable[[Image, Mask], Any]
    value: Callable[[Any, tuple[int, int]], Scalar]

    def __call__(self, image: Image) -> Scalar:
        """Return the variation of a picture [*batch, h, w, 3] in [0, 1]."""
        return self.value(self.sums(image, None), (image.shape[-3], image.shape[-2]))


class Extent(NamedTuple):
    """How large a canvas is where a loss looks at it."""

    positions: int  # M, of the tap's features
    pixels: int  # P, of the picture


def positions(features: FeatureMap) -> int:
    """Return M = h * w, the number of positions of features [*batch, h, w, c]."""
    return features.shape[-3] * features.shape[-2]


def widened(features: FeatureMap) -> FeatureMap:
    """Return features in float32 at least, for sums over many of them."""
    return features.astype(jnp.promote_types(features.dtype, jnp.float32))


def gram(features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST) -> Gram:
    """Compute the raw Gram matrix R = FᵀF: inner products of all pairs of feature maps.

    Written over the feature maps as rows, as courses do, this is F Fᵀ: a map of 8 × 8 positions
    becomes a row of 64, and 20 of them give a 20 × 20 matrix whatever the size of the picture.

    Args:
      features: [*batch, h, w, c].
      products: what is asked of the device; it must give float32 all its bits to be exact.

    Returns:
      [*batch, c, c], a sum over the h * w positions, in float32 at least. Divide by `positions` for
      the mean.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from nst_jax.losses import gram
      >>> wide = jax.random.normal(jax.random.key(0), (30, 50, 20))
      >>> maps = wide[:8, :8]
      >>> rows = maps.reshape(64, 20).T
      >>> rows.shape, gram(maps).shape
      ((20, 64), (20, 20))
      >>> small = wide[:4, :4, :8]
      >>> gram(small).shape                          # 8 maps, so 8 × 8 ...
      (8, 8)
      >>> product = jnp.vdot(small[..., 4], small[..., 2])
      >>> bool(jnp.allclose(gram(small)[4, 2], product, rtol=1e-5))     # ... of their products
      True
      >>> gram(wide).shape                           # does not depend on the picture's size
      (20, 20)
      >>> mean = jnp.mean(jax.vmap(jnp.outer)(rows.T, rows.T), axis=0)
      >>> bool(jnp.allclose(gram(maps) / 64, mean, atol=1e-5))          # F Fᵀ / L
      True

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 3.
    """
    # A plain function around the `custom_vjp` object, which could not be pickled in a recipe.
    return _gram(features, products)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gram(features: FeatureMap, products: lax.Precision) -> Gram:
    wide = jnp.promote_types(features.dtype, jnp.float32)
    return jnp.einsum(
        "...hwc,...hwd->...cd", features, features, precision=products, preferred_element_type=wide
    )


def _gram_forward(features: FeatureMap, products: lax.Precision) -> tuple[Gram, FeatureMap]:
    return _gram(features, products), features


def _gram_backward(
    products: lax.Precision, features: FeatureMap, cotangent: Gram
) -> tuple[FeatureMap]:
    # dF = F (dR + dRᵀ): one product where autodiff would make two.
    both = (cotangent + jnp.swapaxes(cotangent, -1, -2)).astype(features.dtype)
    return (jnp.einsum("...hwc,...cd->...hwd", features, both, precision=products),)


_gram.defvjp(_gram_forward, _gram_backward)


def mean_over_positions(sums: Array, count: int) -> Array:
    """Return the sums divided by the number of positions: G = R / M for a Gram matrix."""
    return sums / float(count)  # as an int it would have to be an int32


def gram_mean_square(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²), the layer loss of Gatys' own code and of TensorFlow's tutorial."""
    del extent
    return jnp.mean(jnp.square(canvas - style), axis=(-1, -2))


def gram_paper(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return E = sum(dR²) / (4 N² M²) = mean(dG²) / 4.

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 4; the Coursera course.
    """
    return gram_mean_square(canvas, style, extent) / 4


def gram_per_channel(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean((dG / N)²): the Gram matrix is divided by all its features' numbers, N M.

    References:
      jcjohnson/neural-style; ProGamerGov/neural-style-pt; PyTorch's tutorial.
    """
    return gram_mean_square(canvas, style, extent) / canvas.shape[-1] ** 2


def gram_undivided(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dR²) / (N M) = mean(dG²) M / N: grows with the picture.

    References:
      udacity/deep-learning-v2-pytorch, style-transfer.
    """
    factor = extent.positions / canvas.shape[-1]
    return gram_mean_square(canvas, style, extent) * factor


def gram_by_image(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return sum(dR²) / (4 · 3² · P²), with the picture's channels and pixels, not the layer's.

    References:
      keras-team/keras-io, examples/generative/neural_style_transfer.py.
    """
    share = extent.positions / extent.pixels
    return jnp.sum(jnp.square(canvas - style), axis=(-1, -2)) * (share**2 / 36)


GRAM_MEAN_SQUARE = StyleLoss(gram, mean_over_positions, gram_mean_square)

GRAM_PAPER = StyleLoss(gram, mean_over_positions, gram_paper)

GRAM_PER_CHANNEL = StyleLoss(gram, mean_over_positions, gram_per_channel)

GRAM_UNDIVIDED = StyleLoss(gram, mean_over_positions, gram_undivided)

GRAM_BY_IMAGE = StyleLoss(gram, mean_over_positions, gram_by_image)


def square_differences(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return sum(dF²) over features [*batch, h, w, c]."""
    return jnp.sum(jnp.square(canvas - content), axis=(-1, -2, -3))


def _mean(total: Scalar, count: int) -> Scalar:
    return total / float(count)  # of a large canvas more than an int32 holds


def _quarter_mean(total: Scalar, count: int) -> Scalar:
    return total / float(count) / 4


def _half(total: Scalar, count: int) -> Scalar:
    del count
    return total / 2


def _itself(total: Scalar, count: int) -> Scalar:
    del count
    return total


# mean(dF²), as Gatys' code and TensorFlow's have it.
CONTENT_MEAN_SQUARE = ContentLoss(square_differences, _mean)

# sum(dF²) / (4 h w c), the content cost of the Coursera course.
CONTENT_QUARTER_MEAN_SQUARE = ContentLoss(square_differences, _quarter_mean)

# sum(dF²) / 2: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 1.
CONTENT_HALF_SUM_SQUARE = ContentLoss(square_differences, _half)

# sum(dF²), as keras.io's example has it.
CONTENT_SUM_SQUARE = ContentLoss(square_differences, _itself)


def absolute_differences(image: Image, where: Mask = None) -> Sides:
    """Return sum|dy| and sum|dx|."""
    return _over_sides(image, where, _magnitude)


def square_of_differences(image: Image, where: Mask = None) -> Sides:
    """Return sum(dy²) and sum(dx²)."""
    return _over_sides(image, where, jnp.square)


def squares_of_both(image: Image, where: Mask = None) -> Scalar:
    """Return the sum of dy² + dx² over the pixels that have both neighbours."""
    return jnp.sum(_both(image, where), axis=(-1, -2, -3))


def powers_of_both(image: Image, where: Mask = None) -> Scalar:
    """Return the sum of (dy² + dx²)^1.25 over the pixels that have both neighbours."""
    return jnp.sum(_both(image, where) ** 1.25, axis=(-1, -2, -3))


def _over_sides(image: Image, where: Mask, of: Callable[[Array], Array]) -> Sides:
    down, right = _differences(image, where)
    return jnp.sum(of(down), axis=(-1, -2, -3)), jnp.sum(of(right), axis=(-1, -2, -3))


def _both(image: Image, where: Mask) -> Array:
    down, right = _differences(image, where)
    return jnp.square(down[..., :, :-1, :]) + jnp.square(right[..., :-1, :, :])


def _sum_of_sides(sides: Sides, shape: tuple[int, int]) -> Scalar:
    del shape
    return sides[0] + sides[1]


def _mean_of_sides(sides: Sides, shape: tuple[int, int]) -> Scalar:
    height, width = shape
    down, right = float(3 * (height - 1) * width), float(3 * height * (width - 1))
    return sides[0] / down + sides[1] / right


def _sum_itself(total: Scalar, shape: tuple[int, int]) -> Scalar:
    del shape
    return total


def _half_of_sum(total: Scalar, shape: tuple[int, int]) -> Scalar:
    del shape
    return total / 2


# The sum of absolute differences between neighbouring pixels, all channels: `tf.image.total_variation`.
# It grows with the picture and with its contrast.
TOTAL_VARIATION = Variation(absolute_differences, _sum_of_sides)

# mean(dy²) + mean(dx²): does not grow with the picture.
MEAN_VARIATION = Variation(square_of_differences, _mean_of_sides)

# sum(dy²) + sum(dx²), what TensorFlow's text describes.
SQUARE_VARIATION = Variation(square_of_differences, _sum_of_sides)

# Half the sum of dy² + dx² over the pixels that have both neighbours: jcjohnson/neural-style, whose
# code only has this loss' gradient.
HALF_SQUARE_VARIATION = Variation(squares_of_both, _half_of_sum)

# The sum of (dy² + dx²)^1.25 over these: keras-team/keras-io,
# examples/generative/neural_style_transfer.py.
POWER_VARIATION = Variation(powers_of_both, _sum_itself)


def _magnitude(x: Array) -> Array:
    # The gradient of |x| at 0 is 0, as in TensorFlow and torch; that of `jnp.abs` depends on the
    # version, and where it is 1 an even area of the picture would be pushed to one side.
    return x * jax.lax.stop_gradient(jnp.sign(x))


def _differences(image: Image, where: Mask) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    down = image[..., 1:, :, :] - image[..., :-1, :, :]
    right = image[..., :, 1:, :] - image[..., :, :-1, :]
    if where is None:
        return down, right
    owned = where[..., None]
    return jnp.where(owned[:-1], down, 0), jnp.where(owned[:, :-1], right, 0)


# What recipes may name.
STYLE_LOSSES = {
    "gram_mean_square": GRAM_MEAN_SQUARE,
    "gram_paper": GRAM_PAPER,
    "gram_per_channel": GRAM_PER_CHANNEL,
    "gram_undivided": GRAM_UNDIVIDED,
    "gram_by_image": GRAM_BY_IMAGE,
}

CONTENT_LOSSES = {
    "content_mean_square": CONTENT_MEAN_SQUARE,
    "content_quarter_mean_square": CONTENT_QUARTER_MEAN_SQUARE,
    "content_half_sum_square": CONTENT_HALF_SUM_SQUARE,
    "content_sum_square": CONTENT_SUM_SQUARE,
}

VARIATIONS = {
    "total_variation": TOTAL_VARIATION,
    "square_variation": SQUARE_VARIATION,
    "mean_variation": MEAN_VARIATION,
    "half_square_variation": HALF_SQUARE_VARIATION,
    "power_variation": POWER_VARIATION,
}
