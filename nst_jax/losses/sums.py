"""Small functions for sums over the h * w positions (pixels) of feature maps [h, w, c].

They count positions, multiply features by a mask, choose a dtype in which sums are accurate, and turn a
sum over positions into a statistic or a loss.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar, sum_dtype

# A mask T, with a value in [0, 1] for each pixel of a feature map. In the sums of a loss, a pixel has
# the weight T², since a Gram matrix sums products of two features, and each is multiplied by T.
PositionMask: TypeAlias = Float[Array, "h w"]


# A number of positions (pixels of a feature map). It is an int, or a symbolic size (see `jax.export`),
# or a scalar array of floats. It is an array in two cases. With a mask T, it is the sum of T². For a
# picture padded to a larger array, so that pictures of several sizes share a compiled program, it is
# known only when this program runs.
Count: TypeAlias = Any


def positions(features: FeatureMap) -> int:
    """Return M = h * w, the number of positions of features [*batch, h, w, c]."""
    return features.shape[-3] * features.shape[-2]


def at_least_float32(features: FeatureMap) -> FeatureMap:
    """Return features in float32, or in float64 if that is their dtype; see `sum_dtype`."""
    return features.astype(sum_dtype(features.dtype))


def masked(features: FeatureMap, mask: PositionMask) -> FeatureMap:
    """Return features [h, w, c] multiplied by a mask T [h, w], in the dtype of the features.

    They are multiplied in float32 at least, and only the product is rounded. If T were rounded to
    bfloat16 first, all products with the same T would be wrong by the same factor, of up to 0.2 %.
    """
    wide = at_least_float32(features)
    return (wide * mask.astype(wide.dtype)[..., None]).astype(features.dtype)


def as_float(count: Count) -> Any:
    """Return a number of pixels of a feature map as a float, by which arrays can be divided.

    An int becomes a Python float, since JAX would convert it to int32, in which it may overflow. A
    number computed from symbolic sizes (see `jax.export`) becomes a float32 array. A JAX array, such as
    the sum of the weights of these pixels, is returned unchanged.
    """
    if isinstance(count, jax.Array):
        return count
    return float(count) if isinstance(count, int) else jnp.asarray(count, jnp.float32)


def mean_over_positions(sums: Array, count: Count) -> Array:
    """Return sums over the pixels of feature maps, divided by `count`, the number of these pixels.

    For a raw Gram matrix R (a sum over M pixels), this is the mean G = R / M.
    """
    return sums / as_float(count)


def half(total: Scalar, size: object) -> Scalar:
    """Return `total` / 2, as a loss that is half of a sum.

    `size`, the size of the picture or of the features, is not used here. It is an argument because
    other functions that turn a sum into a loss compute a mean, for which they need it.
    """
    del size
    return total / 2


def unchanged(total: Scalar, size: object) -> Scalar:
    """Return `total`, as a loss that is a plain sum.

    `size`, the size of the picture or of the features, is not used here. It is an argument because
    other functions that turn a sum into a loss compute a mean, for which they need it.
    """
    del size
    return total
