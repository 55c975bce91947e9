"""Style losses that compare Gaussians: the mean and the covariance of features over positions.

Notation: N channels; m and C are the mean and the covariance of the canvas' features at a tap, m_s and
C_s those of the style's, S = C + m mᵀ the second moment. The trace of S, divided by N, is the mean
square of the features. Each statistic is the pair (m, S) and not (m, C), since means and second moments
of several styles can be averaged, and covariances cannot.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.gram_matrices import gram, masked_gram
from nst_jax.losses.kinds import Extent, StyleLoss
from nst_jax.losses.matrix_roots import (
    Matrix,
    plain_roots,
    product,
    root_by_lyapunov,
    scaled_roots,
    trace_of_root,
)
from nst_jax.losses.squares import gradient_scaled_square
from nst_jax.losses.sums import Count, PositionMask, as_float, at_least_float32


class Moments(NamedTuple):
    """The first and second moments of features: sums over positions, or means."""

    first: Float[Array, " c"]  # of F, the features as an [h * w, c] matrix
    second: Float[Array, "c c"]  # of the products of all pairs of channels, FᵀF


def moment_sums(features: FeatureMap, products: lax.Precision = lax.Precision.HIGHEST) -> Moments:
    """Return the sums of F and FᵀF over the positions of features [h, w, c].

    `products` is not used: the products always use all bits of float32. The covariance is a difference
    of the two moments. If the second were rounded otherwise than the first, as in tensorfloat32, the
    difference would have negative eigenvalues where features hardly vary. For bfloat16 features this
    takes no more time, since their products are exact in any case.
    """
    del products
    return Moments(
        jnp.sum(at_least_float32(features), axis=(-3, -2)), gram(features, lax.Precision.HIGHEST)
    )


def masked_moment_sums(
    features: FeatureMap, mask: PositionMask, products: lax.Precision = lax.Precision.HIGHEST
) -> Moments:
    """Return the sums of T² F and T² FᵀF over the positions of features [h, w, c], with a mask T.

    So each position counts T² times in both moments, as if it occurred so often in the picture.
    Multiplying the features by T before taking both moments would move their mean.
    """
    del products  # as in `moment_sums`
    weights = jnp.square(mask).astype(at_least_float32(features).dtype)
    return Moments(
        jnp.sum(at_least_float32(features) * weights[..., None], axis=(-3, -2)),
        masked_gram(features, mask, lax.Precision.HIGHEST),
    )


def mean_moments(sums: Moments, count: Count) -> Moments:
    """Return the mean and the second moment of features, from sums over a number of positions."""
    return jax.tree.map(lambda total: total / as_float(count), sums)


def covariance(moments: Moments) -> Matrix:
    """Return the covariance S - m mᵀ."""
    return moments.second - jnp.outer(moments.first, moments.first)


# Losses divide by the mean square of the style's features, but at least by this, so that they do not
# divide by 0: all features of a black style may be 0 at a tap.
LEAST_SQUARE = 1e-10


def mean_square(moments: Moments) -> Scalar:
    """Return the mean square of features, at least `LEAST_SQUARE`."""
    return jnp.maximum(jnp.trace(moments.second) / len(moments.first), LEAST_SQUARE)


# --- Mean and covariance --------------------------------------------------------------------------


def mean_and_covariance(canvas: Moments, style: Moments, extent: Extent) -> Scalar:
    """Return |dm|² / tr(S_s) + |dC|² / |S_s|², where d is the difference of canvas and style.

    The norms are Frobenius norms. Neither term changes if all features of both pictures are multiplied
    by a number. For a canvas whose features are all 0, the first term is 1 if the style's features do
    not vary (C_s = 0), and the second is 1 if their mean is 0.

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
    """Return the sum of the gradient-scaled squares of dm and of dC, the differences to the style.

    See `gradient_scaled_square`.
    """
    del extent
    return gradient_scaled_square(canvas.first - style.first) + gradient_scaled_square(
        covariance(canvas) - covariance(style)
    )


# --- Wasserstein-2 distance -----------------------------------------------------------------------


class GaussianTarget(NamedTuple):
    """What `wasserstein_absolute` needs of a style."""

    mean: Float[Array, " c"]
    covariance: Float[Array, "c c"]  # with 1e-4 I added, or more; see `_regular_covariance`
    root: Float[Array, "c c"]  # square root of `covariance`


ABSOLUTE_PART = 1e-4  # the multiple of I that crowsonkb's code adds to both covariances


def gaussian_target(style: Moments) -> GaussianTarget:
    """Return the mean of a style, its covariance plus 1e-4 I, and the root of that."""
    matrix = _regular_covariance(style, 1.0, ABSOLUTE_PART)
    return GaussianTarget(style.first, matrix, plain_roots(matrix)[0])


def wasserstein_absolute(canvas: Moments, style: GaussianTarget, extent: Extent) -> Scalar:
    """Return the squared Wasserstein-2 distance of two Gaussians divided by N, as in crowsonkb's code.

    It is (|m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)) / N, with 1e-4 I added to both covariances.
    Roots are made by 12 plain Newton-Schulz rounds, and so is their gradient (`root_by_lyapunov`);
    the roots of small eigenvalues are therefore too small, and the distance of equal Gaussians is not
    0. These errors are part of the source's loss. Unlike the source, this function adds more than
    1e-4 I where the rounding errors of float32 exceed it, since otherwise the roots would overflow.

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
    root = root_by_lyapunov(product(product(style.root, matrix), style.root))
    spread = jnp.mean(jnp.diag(style.covariance + matrix - 2 * root))
    return jnp.mean(jnp.square(canvas.first - style.mean)) + spread


class RelativeGaussianTarget(NamedTuple):
    """What `wasserstein_relative` needs of a style; the covariance is divided by `size`."""

    mean: Float[Array, " c"]  # of the features as they are
    size: Float[Array, ""]  # mean square of the features as they are
    trace: Float[Array, ""]  # trace of the divided covariance, with 1e-3 I added, or more
    root: Float[Array, "c c"]  # square root of that covariance


# The multiple of I that is added to both covariances after they are divided by the style's mean square.
# It keeps the gradient finite where a channel of the canvas does not vary, and outweighs the rounding
# errors of covariances.
RELATIVE_PART = 1e-3


def relative_gaussian_target(style: Moments) -> RelativeGaussianTarget:
    """Return a style's mean, its mean square, and the trace and root of its covariance.

    The covariance is divided by the mean square, and 1e-3 I is added to it.
    """
    size = mean_square(style)
    matrix = _regular_covariance(style, size, RELATIVE_PART)
    return RelativeGaussianTarget(style.first, size, jnp.trace(matrix), scaled_roots(matrix)[0])


def wasserstein_relative(canvas: Moments, style: RelativeGaussianTarget, extent: Extent) -> Scalar:
    """Return the squared Wasserstein-2 distance of two Gaussians, relative to the style's features.

    It is (|m - m_s|² + tr(C + C_s - 2 (C_s^½ C C_s^½)^½)) / tr(S_s), where 1e-3 of the style's mean
    square times I is first added to both covariances. The loss is 0 for equal Gaussians and, but for
    that addition, 1 for a canvas whose features are all 0. This holds at every tap and for every family
    of weights.

    The gradient with respect to C is (I - C_s^½ (C_s^½ C C_s^½)^-½ C_s^½) / tr(S_s). The Newton-Schulz
    iterations give the inverse root beside the root, so the backward pass needs no iterations. The
    style's root is computed once, as part of the target.

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


# Bound of the rounding errors of a covariance's eigenvalues, as a multiple of the machine epsilon times
# the trace of the second moment.
ROUNDING = 4


def _regular_covariance(moments: Moments, size: Scalar | float, part: float) -> Matrix:
    """Return the covariance divided by `size`, plus `part` times I, or more if that is too small.

    Where features hardly vary, the difference of the two moments consists of rounding errors. A
    negative eigenvalue would have no root, so the multiple must exceed these errors. In float32 with
    512 channels, `part` is too small only for large features: 1e-4 if their mean square is over 0.4
    (and `size` is 1), 1e-3 if it is over four times `size`.
    """
    matrix = covariance(moments) / size
    error = ROUNDING * jnp.finfo(matrix.dtype).eps * jnp.trace(moments.second) / size
    added = jnp.maximum(part, lax.stop_gradient(error))
    return matrix + added * jnp.eye(len(matrix), dtype=matrix.dtype)


MEAN_AND_COVARIANCE = StyleLoss(
    moment_sums, mean_moments, mean_and_covariance, masked_sums=masked_moment_sums
)

MEAN_AND_COVARIANCE_GRADIENT_SCALED = StyleLoss(
    moment_sums,
    mean_moments,
    mean_and_covariance_gradient_scaled,
    masked_sums=masked_moment_sums,
)

WASSERSTEIN_ABSOLUTE = StyleLoss(
    moment_sums,
    mean_moments,
    wasserstein_absolute,
    target=gaussian_target,
    masked_sums=masked_moment_sums,
)

WASSERSTEIN_RELATIVE = StyleLoss(
    moment_sums,
    mean_moments,
    wasserstein_relative,
    target=relative_gaussian_target,
    masked_sums=masked_moment_sums,
)
