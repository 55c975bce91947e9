"""Content losses: functions of the differences of features at one tap (a layer of the network).

In formulas, F are the features [*batch, h, w, c] of the content, and dF is the features of the canvas
(the picture being optimised) minus F. Sums are over h, w and c.
"""

from typing import NamedTuple

import jax.numpy as jnp

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.kinds import ContentLoss
from nst_jax.losses.squares import absolute, scaled_by_gradient
from nst_jax.losses.sums import Count, as_float, half, unchanged


def squared_feature_differences(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return the sum over h, w and c of (canvas - content)², given features [*batch, h, w, c]."""
    return jnp.sum(jnp.square(canvas - content), axis=(-1, -2, -3))


def _mean(total: Scalar, count: Count) -> Scalar:
    return total / as_float(count)


def _half_over_root(total: Scalar, count: Count) -> Scalar:
    return total / (2 * jnp.sqrt(as_float(count)))


def _quarter_of_mean(total: Scalar, count: Count) -> Scalar:
    return total / as_float(count) / 4


# `CONTENT_RELATIVE` divides the mean of dF² by the mean of F², or by this number if it is larger.
# Without this bound, the loss would divide by 0 if the features F of the content are all 0.
LEAST_MEAN_SQUARE = 1e-10


class RelativeSums(NamedTuple):
    """The sums over positions and channels from which `CONTENT_RELATIVE` is computed."""

    differences: Scalar  # sum of the squared differences of features, canvas minus content
    content: Scalar  # sum of the squared features of the content


def relative_squares(canvas: FeatureMap, content: FeatureMap) -> RelativeSums:
    """Return sum(dF²) and sum(F²), where F is `content` and dF is `canvas` - `content`.

    Both arguments are features [*batch, h, w, c], those of the canvas (the picture that is optimised)
    and those of the content. The sums are over h, w and c.
    """
    return RelativeSums(
        squared_feature_differences(canvas, content),
        squared_feature_differences(content, jnp.zeros_like(content)),
    )


def _ratio(sums: RelativeSums, count: Count) -> Scalar:
    return sums.differences / jnp.maximum(sums.content, LEAST_MEAN_SQUARE * as_float(count))


class DifferencePowers(NamedTuple):
    """The sums over positions and channels from which `CONTENT_GRADIENT_SCALED` is computed."""

    squares: Scalar  # sum of the squared differences of features, canvas minus content
    absolutes: Scalar  # sum of the absolute values of these differences


def difference_powers(canvas: FeatureMap, content: FeatureMap) -> DifferencePowers:
    """Return sum(dF²) and sum|dF|, where dF is `canvas` - `content`.

    Both arguments are features [*batch, h, w, c], those of the canvas (the picture that is optimised)
    and those of the content. The sums are over h, w and c.
    """
    differences = absolute(canvas - content)
    return DifferencePowers(
        squared_feature_differences(canvas, content), jnp.sum(differences, axis=(-1, -2, -3))
    )


def _scaled(sums: DifferencePowers, count: Count) -> Scalar:
    del count
    return scaled_by_gradient(sums.squares, sums.absolutes)


# mean(dF²), where dF is the difference of the features of the canvas (the picture that is optimised)
# and those of the content: the content loss of Gatys' code and of TensorFlow's tutorial.
CONTENT_MEAN_SQUARE = ContentLoss(squared_feature_differences, _mean)

# sum(dF²) / (4 h w c) for features [h, w, c], where dF is their difference, canvas minus content: the
# content cost of deeplearning.ai's course on Coursera.
CONTENT_QUARTER_MEAN_SQUARE = ContentLoss(squared_feature_differences, _quarter_of_mean)

# sum(dF²) / 2, where dF is the difference of the features, canvas minus content: the content loss of
# Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 1.
CONTENT_HALF_SUM_SQUARE = ContentLoss(squared_feature_differences, half)

# sum(dF²), where dF is the difference of the features, canvas minus content: the content loss of
# keras.io's example of neural style transfer.
CONTENT_SUM_SQUARE = ContentLoss(squared_feature_differences, unchanged)

# sum(dF²) / (2 sqrt(h w c)) for features [h, w, c], where dF is their difference, canvas (the picture
# that is optimised) minus content. It grows with the square root of the picture's area. This is the
# default content loss of the program neural-style-tf and its forks.
CONTENT_HALF_OVER_ROOT = ContentLoss(squared_feature_differences, _half_over_root)

# sum(dF²) / sum(F²), where F are the features of the content, and dF those of the canvas minus F. It
# stays the same if all features of canvas and content are multiplied by the same number. It is 0 if
# canvas and content have equal features, and 1 if those of the canvas are all 0. (The divisor has a
# lower bound, see `LEAST_MEAN_SQUARE`.)
CONTENT_RELATIVE = ContentLoss(relative_squares, _ratio)

# sum(dF²) / (sum|dF| + 1e-8), where dF is the difference of the features, canvas minus content. It
# grows in proportion to |dF|, not to dF²: see `squares.gradient_scaled_square`.
CONTENT_GRADIENT_SCALED = ContentLoss(difference_powers, _scaled)
