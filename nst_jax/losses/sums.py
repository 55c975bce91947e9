"""Sums over positions (the places at which a layer has features): their type, their number of terms."""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar

# Weights of positions: one in which T is 1 counts fully, one in which T is 0 not at all.
PositionMask: TypeAlias = Float[Array, "h w"]


# A number of positions: an int, a symbolic size, or a scalar array of floats: the sum of T² over
# positions, or the number in a picture whose real size is a value at runtime.
Count: TypeAlias = Any


def positions(features: FeatureMap) -> int:
    """Return M = h * w, the number of positions of features [*batch, h, w, c]."""
    return features.shape[-3] * features.shape[-2]


def at_least_float32(features: FeatureMap) -> FeatureMap:
    """Return features in float32, or in their own dtype if wider, so that long sums are accurate."""
    return features.astype(jnp.promote_types(features.dtype, jnp.float32))


def masked(features: FeatureMap, mask: PositionMask) -> FeatureMap:
    """Return features [h, w, c] times a mask T, in their own dtype."""
    return features * mask.astype(features.dtype)[..., None]


def as_float(count: Count) -> Any:
    """Return a number of positions as a float, since JAX converts an int to int32, which may overflow.

    An array, such as a sum of weights, is returned as it is. A number made of symbolic sizes (see
    `jax.export`) becomes a float32 array.
    """
    if isinstance(count, jax.Array):
        return count
    return float(count) if isinstance(count, int) else jnp.asarray(count, jnp.float32)


def mean_over_positions(sums: Array, count: Count) -> Array:
    """Return the sums divided by the number of positions: G = R / M for a Gram matrix."""
    return sums / as_float(count)


def half(total: Scalar, size: object) -> Scalar:
    """Return half of a sum, whatever the number of its terms."""
    del size
    return total / 2


def unchanged(total: Scalar, size: object) -> Scalar:
    """Return a sum as it is, whatever the number of its terms."""
    del size
    return total
