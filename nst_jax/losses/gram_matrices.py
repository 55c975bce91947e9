"""Gram losses of style: squared distances of Gram matrices, each times a factor.

Notation: the features at a tap (a layer's output that a loss reads) have N channels and M = h * w
positions; the picture has P pixels. F is the features as an [M, N] matrix. R = FᵀF is the raw Gram
matrix, a sum over positions, and G = R / M is the mean over positions. dR and dG are the differences of
R and of G between the canvas (the picture that is optimised) and the style.

Every Gram loss here is sum(dG²) times a factor, which differs from source to source; only
`gram_gradient_scaled` divides by sum(|dG|) in addition. Some sources use R, which grows with the
picture; they first resize the style to the size of the content. Their losses are written with G here,
so that canvas and style may differ in size. If they have the same size, the value is that of the
source.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from nst_jax import _checks
from nst_jax._types import FeatureMap, Gram, Scalar
from nst_jax.losses.gram_products import gram_product, times_matrix
from nst_jax.losses.kinds import FEATURES, Extent, StyleLoss
from nst_jax.losses.squares import gradient_scaled_square
from nst_jax.losses.sums import PositionMask, masked, mean_over_positions


def gram(features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST) -> Gram:
    """Compute the raw Gram matrix R = FᵀF: inner products of all pairs of feature maps.

    F has one column for each feature map (channel). In textbooks each feature map is a row of F
    instead, and the same matrix is written F Fᵀ. For example, a map of 8 × 8 positions has L = 64
    numbers, and 20 such maps give a 20 × 20 matrix. The size of this matrix does not depend on that of
    the picture.

    Args:
      features: [*batch, h, w, c].
      products: precision that the matrix product requests from the device. Only `HIGHEST` uses all
        bits of float32 on every device.

    Returns:
      [*batch, c, c], a sum over the h * w positions, in float32 at least. Divide it by h * w for the
      mean over positions.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from nst_jax.losses import gram
      >>> wide = jax.random.normal(jax.random.key(0), (30, 50, 20))
      >>> maps = wide[:8, :8]
      >>> rows = maps.reshape(64, 20).T
      >>> rows.shape, gram(maps).shape
      ((20, 64), (20, 20))
      >>> small = wide[:4, :4, :8]
      >>> gram(small).shape                          # 8 maps give an 8 × 8 matrix
      (8, 8)
      >>> product = jnp.vdot(small[..., 4], small[..., 2])
      >>> bool(jnp.allclose(gram(small)[4, 2], product, rtol=1e-5))     # an inner product
      True
      >>> gram(wide).shape                           # does not depend on the picture's size
      (20, 20)
      >>> mean = jnp.mean(jax.vmap(jnp.outer)(rows.T, rows.T), axis=0)
      >>> bool(jnp.allclose(gram(maps) / 64, mean, atol=1e-5))          # F Fᵀ / L
      True

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 3.
    """
    _checks.not_keys("features", features, FEATURES)
    # `_gram` is a `custom_vjp` object, which cannot be pickled. So losses refer to this plain function,
    # which can be pickled.
    return _gram(features, products)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _gram(features: FeatureMap, products: lax.Precision) -> Gram:
    return gram_product(features, products)


def _gram_forward(features: FeatureMap, products: lax.Precision) -> tuple[Gram, FeatureMap]:
    return _gram(features, products), features


def _gram_backward(
    products: lax.Precision, features: FeatureMap, cotangent: Gram
) -> tuple[FeatureMap]:
    # With C the cotangent of R = FᵀF, the cotangent of F is F (C + Cᵀ). This takes one matrix product,
    # while automatic differentiation would compute two, F C and F Cᵀ.
    symmetric = (cotangent + jnp.swapaxes(cotangent, -1, -2)).astype(features.dtype)
    return (times_matrix(features, symmetric, products),)


_gram.defvjp(_gram_forward, _gram_backward)


def masked_gram(
    features: FeatureMap, mask: PositionMask, products: lax.Precision = lax.Precision.HIGHEST
) -> Gram:
    """Compute the raw Gram matrix of features multiplied by a mask T.

    It is the sum of T² f fᵀ over positions, where f are the features and T is the mask's value at the
    position. Divided by the sum of T², it is the mean of f fᵀ over positions with the weights T². With
    a mask of ones the result is that of `gram`.

    Args:
      features: [h, w, c].
      mask: T, [h, w] in [0, 1].
      products: precision that the matrix product requests from the device, as in `gram`.

    Returns:
      The matrix [c, c] in float32 at least.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import masked_gram
      >>> masked_gram(jnp.ones((2, 3, 1)), jnp.full((2, 3), 0.5)).tolist()
      [[1.5]]

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling Perceptual Factors in Neural Style
      Transfer", 2017, eq. 8 and 9, whose T is scaled so that T² sums to 1.
    """
    return gram(masked(features, mask), products)


def gram_mean_square(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²), where dG = canvas - style is the difference of mean Gram matrices [c, c].

    This is the style loss of Gatys' code and of TensorFlow's tutorial.
    """
    del extent
    return jnp.mean(jnp.square(canvas - style), axis=(-1, -2))


def gram_paper(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²) / 4, where dG = canvas - style is the difference of mean Gram matrices [c, c].

    This is the loss E of the paper named below. The paper writes it as sum(dR²) / (4 N² M²), where dR
    is the difference of raw Gram matrices (sums over the M pixels of the feature maps), and N = c is
    the number of channels.

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 4;
      deeplearning.ai's course on Coursera, whose style cost is the same.
    """
    return gram_mean_square(canvas, style, extent) / 4


def gram_per_channel(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean((dG / N)²), where dG = canvas - style is the difference of mean Gram matrices [c, c].

    N is the number of channels, c. The sources divide the raw Gram matrix (a sum over the M pixels of
    the feature maps) by N M, and take the mean square of the differences.

    References:
      jcjohnson/neural-style; ProGamerGov/neural-style-pt; PyTorch's tutorial.
    """
    return gram_mean_square(canvas, style, extent) / canvas.shape[-1] ** 2


def gram_undivided(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return mean(dG²) M / N, where dG = canvas - style is the difference of mean Gram matrices [c, c].

    M is the number of pixels of a feature map, and N = c the number of channels. So the loss grows with
    the size of the picture. The source writes it as mean(dR²) / (N M), with the difference dR of raw
    Gram matrices, which are sums over these M pixels.

    References:
      udacity/deep-learning-v2-pytorch, style-transfer.
    """
    factor = extent.positions / canvas.shape[-1]
    return gram_mean_square(canvas, style, extent) * factor


def gram_by_image(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return sum(dG²) (M / P)² / 36, where dG = canvas - style.

    `canvas` and `style` are mean Gram matrices [c, c]. M is the number of pixels of a feature map, P
    that of the picture. The source writes the loss as sum(dR²) / (4 · 3² · P²), with the difference dR
    of raw Gram matrices (sums over the M pixels). The source thus divides by the picture's numbers of
    channels (3) and of pixels (P), and not by those of the features, c and M.

    References:
      keras-team/keras-io, examples/generative/neural_style_transfer.py.
    """
    positions_per_pixel = extent.positions / extent.pixels
    return jnp.sum(jnp.square(canvas - style), axis=(-1, -2)) * (positions_per_pixel**2 / 36)


def gram_gradient_scaled(canvas: Gram, style: Gram, extent: Extent) -> Scalar:
    """Return sum(dG²) / (sum|dG| + 1e-8), where dG = canvas - style.

    `canvas` and `style` are mean Gram matrices [c, c]. Owing to the denominator, the gradient with
    respect to dG stays the same if dG is multiplied by a positive factor. So layers whose Gram matrices
    have entries of different magnitude are roughly balanced.

    References:
      crowsonkb/style-transfer-pytorch, style_transfer/style_transfer.py, `StyleLoss`.
    """
    del extent
    return gradient_scaled_square(canvas - style)


GRAM_MEAN_SQUARE = StyleLoss(gram, mean_over_positions, gram_mean_square, masked_sums=masked_gram)

GRAM_PAPER = StyleLoss(gram, mean_over_positions, gram_paper, masked_sums=masked_gram)

GRAM_PER_CHANNEL = StyleLoss(gram, mean_over_positions, gram_per_channel, masked_sums=masked_gram)

GRAM_UNDIVIDED = StyleLoss(gram, mean_over_positions, gram_undivided, masked_sums=masked_gram)

GRAM_BY_IMAGE = StyleLoss(gram, mean_over_positions, gram_by_image, masked_sums=masked_gram)

GRAM_GRADIENT_SCALED = StyleLoss(
    gram, mean_over_positions, gram_gradient_scaled, masked_sums=masked_gram
)
