"""Content losses: multiples of the squared differences of features at one tap.

dF is the difference of the features between canvas and content.
"""

import jax.numpy as jnp

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.kinds import ContentLoss
from nst_jax.losses.sums import as_float, half, unchanged


def squared_feature_differences(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return the sum of squared differences between two pictures' features [*batch, h, w, c]."""
    return jnp.sum(jnp.square(canvas - content), axis=(-1, -2, -3))


def _mean(total: Scalar, count: int) -> Scalar:
    return total / as_float(count)


def _half_over_root(total: Scalar, count: int) -> Scalar:
    return total / (2 * jnp.sqrt(as_float(count)))


def _quarter_of_mean(total: Scalar, count: int) -> Scalar:
    return total / as_float(count) / 4


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
