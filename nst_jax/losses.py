"""Pure functions: style and content losses of the features at a tap, variation losses of a picture.

Notation: the features at a tap (a layer's output that a loss reads) have N channels and M = h * w
positions; the picture has P pixels. F is the features as an [M, N] matrix, R = FᵀF the raw Gram matrix,
G = R / M its mean over positions. dR and dG are the differences of R and G between canvas and style, dF
that of F between canvas and content. dy and dx are the differences between the pixel below, or to the
right, and the pixel itself.

Every Gram loss here is sum(dG²) times a factor, which each function states for its source. Sources that
use R, which grows with the picture, resize the style to the content first. Written with G, their losses
have the same value in that case, and stay comparable if the sizes differ.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from nst_jax._types import FeatureMap, Gram, Image, Scalar, Statistic

Mask: TypeAlias = Bool[Array, "h w"] | None  # True for pixels to include; None for all

DifferenceSums: TypeAlias = tuple[Scalar, Scalar]  # (sum(|dy|), sum(|dx|)) or (sum(dy²), sum(dx²))


class ContentLoss(NamedTuple):
    """A content loss, in two parts: what is summed over positions, and the loss made from the sum.

    Attributes:
      sums: function of (features of the canvas, of the content), each [*batch, h, w, c]; returns a sum
        over the h * w positions.
      value: function of (that sum, h * w * c); returns the loss, a scalar.
      additive: whether `sums` really is a sum over positions: positions that are zero in both pictures
        add nothing, and the sums of two halves of a picture add up to the sum of the whole. Computing a
        picture in tiles, or in bands on several devices, needs that; with False, a picture is always
        computed in one piece.
    """

    sums: Callable[[FeatureMap, FeatureMap], Scalar]
    value: Callable[[Scalar, int], Scalar]
    additive: bool = True

    def __call__(self, canvas: FeatureMap, content: FeatureMap) -> Scalar:
        """Return the distance between the features [*batch, h, w, c] of two whole pictures."""
        return self.value(self.sums(canvas, content), positions(canvas) * canvas.shape[-1])


class StyleLoss(NamedTuple):
    """A style loss, in three parts: sums over positions, a statistic, a distance between statistics.

    Only `sums` sees the positions. So the loss is exact even if a picture is computed in parts (tiles,
    bands of several devices): the sums of the parts are added before `statistic` is called.

    Attributes:
      sums: function of (features [h, w, c], precision of matrix products); returns a pytree of sums
        over the h * w positions. Features may be bfloat16; the sums must be float32 at least.
      statistic: function of (sums, number of positions); returns the statistic, which `Targets` keep.
      distance: function of (statistic of the canvas, of the style, `Extent` of the canvas); returns
        the loss, a scalar.
      additive: whether `sums` really are sums over positions: positions of zeros add nothing, and the
        sums of two halves of a picture add up to those of the whole. This does not hold for sorted
        projections, nearest neighbours or histograms that count zeros. With False, a picture is always
        computed in one piece, without tiles and bands.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import StyleLoss, mean_over_positions
      >>> def channel_sums(features, products):
      ...     return jnp.sum(features, axis=(-3, -2))
      >>> def distance(canvas, style, extent):
      ...     return jnp.mean(jnp.square(canvas - style))
      >>> loss = StyleLoss(channel_sums, mean_over_positions, distance)
      >>> loss.measure(jnp.ones((4, 6, 2))).tolist()
      [1.0, 1.0]
    """

    sums: Callable[[FeatureMap, lax.Precision], Statistic]
    statistic: Callable[[Statistic, int], Statistic]
    distance: Callable[[Statistic, Statistic, "Extent"], Scalar]
    additive: bool = True

    def measure(
        self, features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST
    ) -> Statistic:
        """Return the statistic of the features [h, w, c] of a whole picture."""
        return self.statistic(self.sums(features, products), positions(features))


class Variation(NamedTuple):
    """A loss of one picture, without target: sums over its pixels, and the loss made from them.

    Attributes:
      sums: function of (picture [*batch, h, w, 3], mask [h, w] of the pixels to include, or None for
        all); returns a pytree of sums over pixels of functions of dy and dx, the differences to the
        pixels below and to the right. Where the mask is False, dy and dx of that pixel are left out.
      value: function of (these sums, (h, w) of the whole picture); returns the loss, a scalar.
      additive: whether `sums` really are sums over pixels: the sums of two halves of a picture add up
        to those of the whole, if the upper or left half also has the next line of pixels, masked out.
        Computing a picture in tiles, or in bands on several devices, needs that; with False, a picture
        is always computed in one piece.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import TOTAL_VARIATION
      >>> step = jnp.zeros((2, 3, 3)).at[:, 2].set(1.0)     # one edge, 2 pixels high, 3 channels
      >>> float(TOTAL_VARIATION(step))
      6.0
    """

    sums: Callable[[Image, Mask], Any]
    value: Callable[[Any, tuple[int, int]], Scalar]
    additive: bool = True

    def __call__(self, image: Image) -> Scalar:
        """Return the variation of a picture [*batch, h, w, 3] in [0, 1]."""
        return self.value(self.sums(image, None), (image.shape[-3], image.shape[-2]))


class Extent(NamedTuple):
    """The sizes of a canvas that a style loss may depend on."""

    positions: int  # M, the number of positions of the features
    pixels: int  # P, the number of pixels of the picture


def positions(features: FeatureMap) -> int:
    """Return M = h * w, the number of positions of features [*batch, h, w, c]."""
    return features.shape[-3] * features.shape[-2]


def at_least_float32(features: FeatureMap) -> FeatureMap:
    """Return features in float32, or in their own dtype if wider, so that long sums are accurate."""
    return features.astype(jnp.promote_types(features.dtype, jnp.float32))


def _as_float(count: int) -> Any:
    """Return a number of positions as a float, since JAX converts an int to int32, which may overflow.

    A number made of symbolic sizes (see `jax.export`) becomes a float32 array.
    """
    return float(count) if isinstance(count, int) else jnp.asarray(count, jnp.float32)


# --- Style ----------------------------------------------------------------------------------------


def gram(features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST) -> Gram:
    """Compute the raw Gram matrix R = FᵀF: inner products of all pairs of feature maps.

    F has one column per feature map. In textbooks each map is a row, and the same matrix is F Fᵀ: a map
    of 8 × 8 positions is a row of L = 64, and 20 maps give a 20 × 20 matrix for any picture size.

    Args:
      features: [*batch, h, w, c].
      products: precision that the matrix product requests from the device. Only `HIGHEST` uses all
        bits of float32 on every device.

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
    # `_gram` is a `custom_vjp` object, which cannot be pickled; this plain function around it can be.
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
    # The cotangent of F is F (C + Cᵀ), with C the cotangent of R: one product, for which autodiff
    # would make two.
    symmetric = (cotangent + jnp.swapaxes(cotangent, -1, -2)).astype(features.dtype)
    return (jnp.einsum("...hwc,...cd->...hwd", features, symmetric, precision=products),)


_gram.defvjp(_gram_forward, _gram_backward)


def mean_over_positions(sums: Array, count: int) -> Array:
    """Return the sums divided by the number of positions: G = R / M for a Gram matrix."""
    return sums / _as_float(count)


def gram_mean_square(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²), dG = canvas - style: the loss of Gatys' code and of TensorFlow's tutorial."""
    del extent
    return jnp.mean(jnp.square(canvas - style), axis=(-1, -2))


def gram_paper(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²) / 4, the loss E of the paper, where dG = canvas - style.

    The paper writes it sum(dR²) / (4 N² M²), with raw Gram matrices R, N channels and M positions.

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 4; the Coursera course.
    """
    return gram_mean_square(canvas, style, extent) / 4


def gram_per_channel(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean((dG / N)²), where dG = canvas - style and N is the number of channels.

    The sources divide the raw Gram matrix by N M, the size of the features at M positions.

    References:
      jcjohnson/neural-style; ProGamerGov/neural-style-pt; PyTorch's tutorial.
    """
    return gram_mean_square(canvas, style, extent) / canvas.shape[-1] ** 2


def gram_undivided(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²) M / N, which grows with the picture, where dG = canvas - style.

    The source writes it mean(dR²) / (N M), with raw Gram matrices R, N channels and M positions.

    References:
      udacity/deep-learning-v2-pytorch, style-transfer.
    """
    factor = extent.positions / canvas.shape[-1]
    return gram_mean_square(canvas, style, extent) * factor


def gram_by_image(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return sum(dG²) (M / P)² / 36, where dG = canvas - style.

    The source writes it sum(dR²) / (4 · 3² · P²), with raw Gram matrices R: it divides by the channels
    (3) and pixels (P) of the picture, not by the channels and positions (M) of the features.

    References:
      keras-team/keras-io, examples/generative/neural_style_transfer.py.
    """
    positions_per_pixel = extent.positions / extent.pixels
    return jnp.sum(jnp.square(canvas - style), axis=(-1, -2)) * (positions_per_pixel**2 / 36)


GRAM_MEAN_SQUARE = StyleLoss(gram, mean_over_positions, gram_mean_square)

GRAM_PAPER = StyleLoss(gram, mean_over_positions, gram_paper)

GRAM_PER_CHANNEL = StyleLoss(gram, mean_over_positions, gram_per_channel)

GRAM_UNDIVIDED = StyleLoss(gram, mean_over_positions, gram_undivided)

GRAM_BY_IMAGE = StyleLoss(gram, mean_over_positions, gram_by_image)


# --- Content --------------------------------------------------------------------------------------


def squared_feature_differences(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return the sum of squared differences between two pictures' features [*batch, h, w, c]."""
    return jnp.sum(jnp.square(canvas - content), axis=(-1, -2, -3))


def _mean(total: Scalar, count: int) -> Scalar:
    return total / _as_float(count)


def _quarter_of_mean(total: Scalar, count: int) -> Scalar:
    return total / _as_float(count) / 4


def _half(total: Scalar, size: object) -> Scalar:
    del size
    return total / 2


def _unchanged(total: Scalar, size: object) -> Scalar:
    del size
    return total


# mean(dF²), dF the difference of the features: Gatys' code and TensorFlow's tutorial.
CONTENT_MEAN_SQUARE = ContentLoss(squared_feature_differences, _mean)

# sum(dF²) / (4 h w c) of features [h, w, c]: the content cost of the Coursera course.
CONTENT_QUARTER_MEAN_SQUARE = ContentLoss(squared_feature_differences, _quarter_of_mean)

# sum(dF²) / 2: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 1.
CONTENT_HALF_SUM_SQUARE = ContentLoss(squared_feature_differences, _half)

# sum(dF²), as in keras.io's example.
CONTENT_SUM_SQUARE = ContentLoss(squared_feature_differences, _unchanged)


# --- Variation ------------------------------------------------------------------------------------


def absolute_differences(image: Image, where: Mask = None) -> DifferenceSums:
    """Return sum|dy| and sum|dx| of the differences to the pixels below (dy) and right (dx)."""
    return _sum_each(_absolute, _differences(image, where))


def squared_differences(image: Image, where: Mask = None) -> DifferenceSums:
    """Return sum(dy²) and sum(dx²) of the differences to the pixels below (dy) and right (dx)."""
    return _sum_each(jnp.square, _differences(image, where))


def squared_gradients(image: Image, where: Mask = None) -> Scalar:
    """Return the sum of dy² + dx² over the pixels that have a pixel below and one to the right."""
    return jnp.sum(_gradient_squares(image, where), axis=(-1, -2, -3))


def powered_gradients(image: Image, where: Mask = None) -> Scalar:
    """Return the sum of (dy² + dx²)^1.25 over pixels that have a pixel below and one to the right."""
    return jnp.sum(_gradient_squares(image, where) ** 1.25, axis=(-1, -2, -3))


def _differences(image: Image, where: Mask) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Return dy and dx, differences to the pixels below and to the right; 0 where the mask is False."""
    down = image[..., 1:, :, :] - image[..., :-1, :, :]
    right = image[..., :, 1:, :] - image[..., :, :-1, :]
    if where is None:
        return down, right
    included = where[..., None]
    return jnp.where(included[:-1], down, 0), jnp.where(included[:, :-1], right, 0)


def _gradient_squares(image: Image, where: Mask) -> Array:
    """Return dy² + dx² of the pixels that have a pixel below and one to the right."""
    down, right = _differences(image, where)
    return jnp.square(down[..., :, :-1, :]) + jnp.square(right[..., :-1, :, :])


def _sum_each(function: Callable[[Array], Array], parts: tuple[Array, Array]) -> DifferenceSums:
    down, right = (jnp.sum(function(part), axis=(-1, -2, -3)) for part in parts)
    return down, right


def _absolute(x: Array) -> Array:
    # The gradient at 0 is 0 here, as in TensorFlow and torch. That of `jnp.abs` depends on the version
    # of JAX; a gradient of 1 would make the pixels of a uniform area drift in one direction.
    return x * jax.lax.stop_gradient(jnp.sign(x))


def _down_plus_right(sums: DifferenceSums, shape: tuple[int, int]) -> Scalar:
    del shape
    return sums[0] + sums[1]


def _mean_down_plus_mean_right(sums: DifferenceSums, shape: tuple[int, int]) -> Scalar:
    height, width = shape
    down, right = _as_float(3 * (height - 1) * width), _as_float(3 * height * (width - 1))
    return sums[0] / down + sums[1] / right


# The sum of absolute differences between neighbouring pixels, all channels: `tf.image.total_variation`.
# It grows with the picture and with its contrast.
TOTAL_VARIATION = Variation(absolute_differences, _down_plus_right)

# mean(dy²) + mean(dx²), which does not grow with the picture.
MEAN_VARIATION = Variation(squared_differences, _mean_down_plus_mean_right)

# sum(dy²) + sum(dx²), the formula in the text of TensorFlow's tutorial.
SQUARE_VARIATION = Variation(squared_differences, _down_plus_right)

# Half the sum of dy² + dx² over the pixels that have a pixel below and one to the right:
# jcjohnson/neural-style, whose code contains only the gradient of this loss.
HALF_SQUARE_VARIATION = Variation(squared_gradients, _half)

# The sum of (dy² + dx²)^1.25 over the pixels that have a pixel below and one to the right:
# keras-team/keras-io, examples/generative/neural_style_transfer.py.
POWER_VARIATION = Variation(powered_gradients, _unchanged)


# --- The losses by the names that recipe files use ------------------------------------------------

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


# --- Any of these losses --------------------------------------------------------------------------

Loss: TypeAlias = ContentLoss | StyleLoss | Variation
