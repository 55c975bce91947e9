"""Style losses that compare Gaussians: the mean and the covariance of features over positions.

Notation: the features at a tap (a layer that the loss reads) have N channels. For the canvas (the
picture that is optimised), m is the mean of its features over positions, C their covariance, and
S = C + m mᵀ their second moment. For the style, these are m_s, C_s and S_s. The mean square of the
style's features, over positions and channels, is the trace of S_s divided by N.

Here the statistic of a picture (see `kinds.StyleLoss`) is the pair (m, S) and not (m, C), since
statistics are averaged if several styles are mixed. The averages of m and of S are the m and the S of
the mixture, but the average of C is not the covariance of the mixture.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.gram_matrices import gram
from nst_jax.losses.kinds import Extent, StyleLoss
from nst_jax.losses.matrix_roots import (
    Matrix,
    plain_roots,
    product,
    scaled_roots,
    trace_of_root,
    trace_of_root_by_lyapunov,
)
from nst_jax.losses.squares import gradient_scaled_square
from nst_jax.losses.sums import Count, PositionMask, as_float, at_least_float32, masked


class Moments(NamedTuple):
    """The first and second moments of features: sums over positions, or means from `mean_moments`."""

    first: Float[Array, " c"]  # sum or mean of each channel
    second: Float[Array, "c c"]  # sum or mean of the product of each pair of channels


def moment_sums(features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST) -> Moments:
    """Return the sums over positions of features [h, w, c], and of the products of their channels.

    With F the features as an [h * w, c] matrix, these are the sum of its rows, and FᵀF.

    `products`, the precision of matrix products that every style loss gets as an argument, is not used:
    the matrix product FᵀF always uses all bits of float32. If the second moment S were rounded more
    coarsely than the mean m, as in tensorfloat32, the covariance S - m mᵀ could have negative
    eigenvalues where features hardly vary. For bfloat16 features this takes no more time, since a
    product of two bfloat16 numbers is exact in float32.
    """
    del products
    return Moments(
        jnp.sum(_as_stored(features), axis=(-3, -2)), gram(features, lax.Precision.HIGHEST)
    )


def masked_moment_sums(
    features: FeatureMap, mask: PositionMask, products: lax.Precision = lax.Precision.HIGHEST
) -> Moments:
    """Return the same sums as `moment_sums`, but with the weight T² for each position.

    T is the value of `mask` [h, w] at the position. For features f at a position, the sums are those of
    T² f and T² f fᵀ. Divided by the sum of T², both are weighted means.

    Both sums are computed from the same rounded product g of T and f, as those of T g and g gᵀ. So the
    covariance S - m mᵀ has no negative eigenvalues except by the rounding of float32, whatever the
    dtype of g: with the sum of T², the two sums are the parts of a matrix that is the sum of (T, g)
    (T, g)ᵀ. If only g gᵀ were rounded to bfloat16, S could be smaller than m mᵀ by 0.4 %.
    """
    del products  # not used: as in `moment_sums`, matrix products always use all bits of float32
    weighted = masked(features, mask)
    wide = _as_stored(weighted)
    return Moments(
        jnp.sum(wide * mask.astype(wide.dtype)[..., None], axis=(-3, -2)),
        gram(weighted, lax.Precision.HIGHEST),
    )


def _as_stored(features: FeatureMap) -> FeatureMap:
    """Return features in float32 at least, with exactly the values that they have in their own dtype.

    If features are rounded to bfloat16 and converted back to float32, XLA may leave out both steps. The
    first moment would then be that of features before rounding, while the matrix product of the second
    moment reads rounded ones. `lax.reduce_precision` is never left out.
    """
    wide = at_least_float32(features)
    if wide.dtype == features.dtype or not jnp.issubdtype(features.dtype, jnp.floating):
        return wide
    stored = jnp.finfo(features.dtype)
    return lax.reduce_precision(wide, stored.nexp, stored.nmant)


def mean_moments(sums: Moments, count: Count) -> Moments:
    """Return the mean m and the second moment S of features, from their sums over `count` positions."""
    return jax.tree.map(lambda total: total / as_float(count), sums)


def covariance(moments: Moments) -> Matrix:
    """Return the covariance C = S - m mᵀ, [c, c], given the mean m and the second moment S."""
    return moments.second - jnp.outer(moments.first, moments.first)


# `mean_and_covariance` and `wasserstein_relative` divide by the mean square of the style's features,
# but by no less than this number. `mean_and_covariance` also divides by |S_s|², but by no less than the
# square of this number. Without these bounds, the losses would divide by 0 for a black style, all of
# whose features may be 0 at a layer.
LEAST_SQUARE = 1e-10


def mean_square(moments: Moments) -> Scalar:
    """Return the mean square of features, or `LEAST_SQUARE` if the mean square is less than that."""
    return jnp.maximum(jnp.trace(moments.second) / len(moments.first), LEAST_SQUARE)


# --- Mean and covariance --------------------------------------------------------------------------


def mean_and_covariance(canvas: Moments, style: Moments, extent: Extent) -> Scalar:
    """Return |m - m_s|² / tr(S_s) + |C - C_s|² / |S_s|².

    m and C are the mean and the covariance of the canvas' features; m_s, C_s and S_s = C_s + m_s m_sᵀ
    are the mean, the covariance and the second moment of the style's features. The norms are Frobenius
    norms. Neither term changes if the features of both pictures are multiplied by the same number. For
    a canvas whose features are all 0, each term is at most 1. So losses at different layers are
    comparable.

    References:
      Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and
      Self-Similarity", 2019, section 2.2, for comparing both moments, though by absolute differences.
    """
    del extent
    count = len(style.first)
    of_mean = jnp.sum(jnp.square(canvas.first - style.first)) / (count * mean_square(style))
    differences = covariance(canvas) - covariance(style)
    size = jnp.maximum(jnp.sum(jnp.square(style.second)), LEAST_SQUARE**2)
    return of_mean + jnp.sum(jnp.square(differences)) / size


def mean_and_covariance_gradient_scaled(canvas: Moments, style: Moments, extent: Extent) -> Scalar:
    """Return the gradient-scaled square of m - m_s plus that of C - C_s.

    m and C are the mean and the covariance of the canvas' features, m_s and C_s those of the style's.
    The gradient-scaled square of differences d is sum(d²) / (sum|d| + 1e-8); see
    `squares.gradient_scaled_square`.
    """
    del extent
    return gradient_scaled_square(canvas.first - style.first) + gradient_scaled_square(
        covariance(canvas) - covariance(style)
    )


# --- Wasserstein-2 distance -----------------------------------------------------------------------


class GaussianTarget(NamedTuple):
    """The statistics of a style for `wasserstein_absolute`; computed once at each resolution."""

    mean: Float[Array, " c"]  # mean of the features over positions
    # Covariance of the features, plus the identity matrix times 1e-4 or more, so that no eigenvalue is
    # zero and the matrix root can be computed; see `_regular_covariance`.
    covariance: Float[Array, "c c"]
    root: Float[Array, "c c"]  # matrix square root of `covariance`


# `wasserstein_absolute` adds the identity matrix times this number, or a larger one if rounding errors
# require it, to the covariances of canvas and style. So no eigenvalue is zero, and the matrix roots and
# their gradients can be computed. crowsonkb/style-transfer-pytorch adds 1e-4 in all cases.
ABSOLUTE_PART = 1e-4


def gaussian_target(style: Moments) -> GaussianTarget:
    """Return the mean of a style's features, their covariance, and the square root of this matrix.

    The identity matrix times 1e-4 or more is added to the covariance first, so that the root can be
    computed; see `_regular_covariance`.
    """
    matrix = _regular_covariance(style, 1.0, ABSOLUTE_PART)
    return GaussianTarget(style.first, matrix, plain_roots(matrix)[0])


def wasserstein_absolute(canvas: Moments, style: GaussianTarget, extent: Extent) -> Scalar:
    """Return the squared Wasserstein-2 distance of two Gaussians divided by N, as in crowsonkb's code.

    The result is (|m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)) / N. First, the identity matrix times
    1e-4 is added to both covariances C and C_s. m and C are the mean and the covariance of the canvas'
    features, m_s and C_s those of the style's features; N is the number of channels.

    Each matrix root is computed by 12 rounds of the plain Newton-Schulz iteration, and the gradient by
    12 more rounds (see `matrix_roots.trace_of_root_by_lyapunov`). Twelve rounds are too few for small
    eigenvalues: their roots are too small, and the distance of equal Gaussians is not 0. These errors
    are part of crowsonkb's loss. Unlike crowsonkb's code, this function adds a larger multiple of the
    identity matrix to a covariance whose rounding errors in float32 exceed 1e-4, since otherwise the
    iterations would overflow.

    Args:
      canvas: mean and second moment of the canvas' features.
      style: the style's target, from `gaussian_target`.
      extent: not used.

    References:
      crowsonkb/style-transfer-pytorch @ e7e2c713, style_transfer/style_transfer.py, `StyleLossW2`;
      Olkin, Pukelsheim, "The distance between two random vectors with given dispersion matrices", 1982.
    """
    del extent
    matrix = _regular_covariance(canvas, 1.0, ABSOLUTE_PART)
    overlap = trace_of_root_by_lyapunov(product(product(style.root, matrix), style.root))
    spread = (jnp.trace(style.covariance + matrix) - 2 * overlap) / len(style.mean)
    return jnp.mean(jnp.square(canvas.first - style.mean)) + spread


class RelativeGaussianTarget(NamedTuple):
    """The statistics of a style for `wasserstein_relative`, computed once for each scale (resolution).

    `trace` and `root` are those of the matrix C_s / size + e I. C_s is the covariance of the style's
    features, and I the identity matrix. The number e is 1e-3 or more; see `_regular_covariance`.
    """

    mean: Float[Array, " c"]  # mean of the features over positions, not divided by `size`
    size: Float[Array, ""]  # mean square of the features
    trace: Float[Array, ""]  # trace of C_s / size + e I
    root: Float[Array, "c c"]  # square root of C_s / size + e I


# `wasserstein_relative` divides the covariances of canvas and style by the mean square of the style's
# features, and then adds the identity matrix times this number to both. The addition keeps the gradient
# finite where a channel of the canvas does not vary. It also keeps rounding errors from making
# eigenvalues negative. Where these errors exceed this number, `_regular_covariance` adds more.
RELATIVE_PART = 1e-3


def relative_gaussian_target(style: Moments) -> RelativeGaussianTarget:
    """Return the statistics of a style with which `wasserstein_relative` compares a canvas.

    These are the mean and the mean square of the style's features, and the trace and the square root of
    a matrix. The matrix is the covariance of the features divided by their mean square, plus the
    identity matrix times 1e-3 or more; see `_regular_covariance`.
    """
    size = mean_square(style)
    matrix = _regular_covariance(style, size, RELATIVE_PART)
    return RelativeGaussianTarget(style.first, size, jnp.trace(matrix), scaled_roots(matrix)[0])


def wasserstein_relative(canvas: Moments, style: RelativeGaussianTarget, extent: Extent) -> Scalar:
    """Return the squared Wasserstein-2 distance of two Gaussians, relative to the style's features.

    The result is (|m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)) / tr(S_s). m and C are the mean and
    the covariance of the canvas' features. m_s, C_s and S_s are the mean, the covariance and the second
    moment of the style's features. To C and C_s, but not to S_s, a multiple of the identity matrix I is
    added, so that the gradient stays finite. The factor of I is the mean square of the style's features
    times 1e-3, or more; see `_regular_covariance`.

    The loss is 0 for equal Gaussians. For a canvas whose features are all 0 it is about 1, and would be
    exactly 1 without the addition to the covariances. So losses at different layers, and with
    different network weights, are comparable.

    The gradient with respect to C is (I - C_s^½ (C_s^½ C C_s^½)^-½ C_s^½) / tr(S_s). The Newton-Schulz
    iterations that compute the root of C_s^½ C C_s^½ yield the inverse of this root, too, so the
    backward pass needs no iterations. The root C_s^½ is computed once, as part of the target.

    Args:
      canvas: mean and second moment of the canvas' features.
      style: the style's target, from `relative_gaussian_target`.
      extent: not used.

    References:
      Olkin, Pukelsheim, "The distance between two random vectors with given dispersion matrices", 1982;
      Bhatia, Jain, Lim, "On the Bures-Wasserstein distance between positive definite matrices", 2019,
      for the gradient.
    """
    del extent
    matrix = _regular_covariance(canvas, style.size, RELATIVE_PART)
    overlap = trace_of_root(product(product(style.root, matrix), style.root))
    spread = (jnp.trace(matrix) + style.trace - 2 * overlap) / len(style.mean)
    return jnp.mean(jnp.square(canvas.first - style.mean)) / style.size + spread


# The rounding errors of a covariance's eigenvalues are taken to be at most this number times the
# machine epsilon times the trace of the second moment S. A factor of 3 would be enough for the rounding
# of S, of m mᵀ (m is the mean) and of their difference. The factor is larger because the sums over
# positions are rounded, too.
ROUNDING = 4


def _regular_covariance(moments: Moments, size: Scalar | float, part: float) -> Matrix:
    """Return the covariance divided by `size`, plus `part` times the identity matrix I.

    Where features hardly vary, the covariance S - m mᵀ (of the second moment S and the mean m) consists
    of rounding errors, and may have negative eigenvalues, whose square roots do not exist. If `part`
    does not exceed these errors, a larger multiple of I is added. In float32 with 512 channels, this
    happens only for large features: in `wasserstein_absolute` if their mean square is over 0.4, and in
    `wasserstein_relative` if it is over 4 times that of the style's features.
    """
    matrix = covariance(moments) / size
    error = ROUNDING * jnp.finfo(matrix.dtype).eps * jnp.trace(moments.second) / size
    added = jnp.maximum(part, lax.stop_gradient(error))
    return matrix + added * jnp.eye(len(matrix), dtype=matrix.dtype)


# |m - m_s|² / tr(S_s) + |C - C_s|² / |S_s|², in the notation of the module docstring: see
# `mean_and_covariance`.
MEAN_AND_COVARIANCE = StyleLoss(
    moment_sums, mean_moments, mean_and_covariance, masked_sums=masked_moment_sums
)

# sum(d²) / (sum|d| + 1e-8) for the differences d = m - m_s of the means, plus the same for the
# differences d = C - C_s of the covariances: see `mean_and_covariance_gradient_scaled`.
MEAN_AND_COVARIANCE_GRADIENT_SCALED = StyleLoss(
    moment_sums,
    mean_moments,
    mean_and_covariance_gradient_scaled,
    masked_sums=masked_moment_sums,
)

# The squared Wasserstein-2 distance of Gaussians, divided by the number of channels: see
# `wasserstein_absolute`.
WASSERSTEIN_ABSOLUTE = StyleLoss(
    moment_sums,
    mean_moments,
    wasserstein_absolute,
    target=gaussian_target,
    masked_sums=masked_moment_sums,
)

# The squared Wasserstein-2 distance of Gaussians, relative to the style's features: see
# `wasserstein_relative`.
WASSERSTEIN_RELATIVE = StyleLoss(
    moment_sums,
    mean_moments,
    wasserstein_relative,
    target=relative_gaussian_target,
    masked_sums=masked_moment_sums,
)
