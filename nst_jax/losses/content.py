"""Content losses: functions of the squared differences of features at one tap.

F is the features of the content, dF the difference of the features between canvas and content.
"""

from typing import NamedTuple

import jax.numpy as jnp

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.kinds import ContentLoss
from nst_jax.losses.squares import absolute, scaled_by_gradient
from nst_jax.losses.sums import Count, as_float, half, unchanged


def squared_feature_differences(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return the sum of squared differences between two pictures' features [*batch, h, w, c]."""
    return jnp.sum(jnp.square(canvas - content), axis=(-1, -2, -3))


def _mean(total: Scalar, count: Count) -> Scalar:
    return total / as_float(count)


def _half_over_root(total: Scalar, count: Count) -> Scalar:
    return total / (2 * jnp.sqrt(as_float(count)))


def _quarter_of_mean(total: Scalar, count: Count) -> Scalar:
    return total / as_float(count) / 4


# `CONTENT_RELATIVE` divides by the mean square of the content's features, but at least by this, so that
# features of zeros give no division by 0.
LEAST_MEAN_SQUARE = 1e-10


class RelativeSums(NamedTuple):
    """Sums over positions and channels for `CONTENT_RELATIVE`."""

    differences: Scalar  # sum(dF²)
    content: Scalar  # sum(F²)


def relative_squares(canvas: FeatureMap, content: FeatureMap) -> RelativeSums:
    """Return sum(dF²) and sum(F²) of two pictures' features [*batch, h, w, c]."""
    return RelativeSums(
        squared_feature_differences(canvas, content),
        squared_feature_differences(content, jnp.zeros_like(content)),
    )


def _ratio(sums: RelativeSums, count: Count) -> Scalar:
    return sums.differences / jnp.maximum(sums.content, LEAST_MEAN_SQUARE * as_float(count))


class DifferencePowers(NamedTuple):
    """Sums over positions and channels for `CONTENT_GRADIENT_SCALED`."""

    squares: Scalar  # sum(dF²)
    absolutes: Scalar  # sum|dF|


def difference_powers(canvas: FeatureMap, content: FeatureMap) -> DifferencePowers:
    """Return sum(dF²) and sum|dF| of two pictures' features [*batch, h, w, c]."""
    differences = absolute(canvas - content)
    return DifferencePowers(
        squared_feature_differences(canvas, content), jnp.sum(differences, axis=(-1, -2, -3))
    )


def _scaled(sums: DifferencePowers, count: Count) -> Scalar:
    del count
    return scaled_by_gradient(sums.squares, sums.absolutes)


# mean(dF²): Gatys' code and TensorFlow's tutorial.
CONTENT_MEAN_SQUARE = ContentLoss(squared_feature_differences, _mean)

# sum(dF²) / (4 h w c) of features [h, w, c]: the content cost of the Coursera course.
CONTENT_QUARTER_MEAN_SQUARE = ContentLoss(squared_feature_differences, _quarter_of_mean)

# sum(dF²) / 2: Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 1.
CONTENT_HALF_SUM_SQUARE = ContentLoss(squared_feature_differences, half)

# sum(dF²), as in keras.io's example.
CONTENT_SUM_SQUARE = ContentLoss(squared_feature_differences, unchanged)

# sum(dF²) / (2 sqrt(h w c)) of features [h, w, c], which grows with the root of the picture's area: the
# default of neural-style-tf and its forks.
CONTENT_HALF_OVER_ROOT = ContentLoss(squared_feature_differences, _half_over_root)

# sum(dF²) / sum(F²), which does not depend on the magnitude of the features: 0 for equal features, 1
# for a canvas without features.
CONTENT_RELATIVE = ContentLoss(relative_squares, _ratio)

# sum(dF²) / (sum|dF| + 1e-8): see `gradient_scaled_square`.
CONTENT_GRADIENT_SCALED = ContentLoss(difference_powers, _scaled)
