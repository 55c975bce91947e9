"""The sliced Wasserstein-2 loss: features of canvas and style, projected on random directions, sorted.

The features at M positions are M points in a space of C channels. On one direction they are M numbers,
whose Wasserstein-2 distance to those of the style is found by sorting. Two sets of points that look
alike on all directions are equal; Gram matrices and Gaussians only compare their first two moments.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import Scalar
from nst_jax.losses.kinds import Extent, StyleLoss
from nst_jax.losses.samples import (
    Samples,
    blended_quantiles,
    blended_samples,
    group_size,
    in_order_up_to,
    positions_as_rows,
    ranks,
    samples_of,
)
from nst_jax.losses.sums import as_float

SEED = 0  # of the random directions, which are the same in every run


def random_directions(step: Any, channels: int, dtype: Any = jnp.float32) -> Float[Array, "c c"]:
    """Return as many random unit vectors as there are channels, uniform on the sphere.

    They depend only on the number of the update and the number of channels, so two taps with the same
    number of channels use the same directions in one update. The expected loss at each tap is the same
    as with independent directions; only the sum over taps varies a little more from update to update.

    Args:
      step: number of the update.
      channels: number of channels C.
      dtype: type of the result; the directions are drawn in float32 and normalised in this type.

    Returns:
      [C, C], one direction in each row.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import random_directions
      >>> first, second = random_directions(1, 64), random_directions(2, 64)
      >>> first.shape, bool(jnp.allclose(jnp.sum(first**2, axis=1), 1)), bool(jnp.any(first == second))
      ((64, 64), True, False)
    """
    # The generator is named, so that the directions do not depend on JAX's configuration.
    key = jax.random.fold_in(jax.random.key(SEED, impl="threefry2x32"), step)
    drawn = jax.random.normal(key, (channels, channels), jnp.float32).astype(dtype)
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


def sliced_wasserstein(canvas: Samples, style: Samples, extent: Extent) -> Scalar:
    """Return the mean squared difference of the sorted projections of canvas and style.

    Every update draws as many new directions as there are channels. If canvas and style have equally
    many positions, the loss is the source's: both are projected and sorted, and the mean of the squared
    differences is taken over positions and directions. If the numbers differ, the style's sorted
    projections are interpolated by `quantiles` at the levels of the canvas'. (The source repeats the
    style's features, which works only if one number is a multiple of the other.)

    The gradient is taken with the order of the canvas' projections held constant, as in autodiff. Where
    projections are exactly equal, as in a flat canvas, their order is arbitrary; here equal projections
    all get the same gradient, that for the mean of the ranks which they share.

    Since the directions change, even an unchanged canvas has another loss in the next update. So the
    loss suits optimisers that do not compare losses, such as `Adam`; the guarded `LBFGS` would undo
    updates after which the loss happens to be larger.

    Args:
      canvas: features of one picture.
      style: features of one or several pictures; see `blended_samples`.
      extent: `extent.step`, the number of the update, determines the directions.

    Returns:
      The loss, a scalar. Only the gradient with respect to the canvas is defined.

    References:
      Heitz, Vanhoey, Chambon, Belcour, "A Sliced Wasserstein Loss for Neural Texture Synthesis", 2021;
      tchambon/A-Sliced-Wasserstein-Loss-for-Neural-Texture-Synthesis.
    """
    features = canvas.values[0]
    wide = jnp.promote_types(features.dtype, jnp.float32)
    directions = random_directions(extent.step, features.shape[-1], wide)
    return _sliced(features, lax.stop_gradient(style), directions)


@jax.custom_vjp
def _sliced(
    features: Float[Array, "m c"], style: Samples, directions: Float[Array, "d c"]
) -> Scalar:
    return _value_and_gradient(features, style, directions, with_gradient=False)[0]


def _sliced_forward(features: Array, style: Samples, directions: Array) -> tuple[Scalar, Array]:
    value, gradient = _value_and_gradient(features, style, directions, with_gradient=True)
    return value, gradient.astype(features.dtype)


def _sliced_backward(gradient: Array, cotangent: Scalar) -> tuple[Array, None, None]:
    return (gradient * cotangent.astype(gradient.dtype), None, None)


_sliced.defvjp(_sliced_forward, _sliced_backward)


def _value_and_gradient(
    features: Array, style: Samples, directions: Array, *, with_gradient: bool
) -> tuple[Scalar, Array]:
    """Return the loss and its gradient, or an empty array if `with_gradient` is False.

    Both are added up over groups of directions, so that only one group's projections exist at a time.
    The gradient is computed together with the loss, since autodiff would keep the projections of all
    groups.
    """
    size, channels = features.shape
    count = as_float(size) * directions.shape[0]
    add = partial(_add_group, features, style, with_gradient)
    nothing = jnp.zeros((), directions.dtype)
    gradient = jnp.zeros((size, channels) if with_gradient else (0, channels), directions.dtype)
    together = group_size(len(directions), size, style.values.shape[1])
    grouped = directions.reshape(-1, together, channels)
    (total, gradient), _ = lax.scan(add, (nothing, gradient), grouped)
    return total / count, gradient * (2 / count)


def _add_group(
    features: Array, style: Samples, with_gradient: bool, before: Any, directions: Array
) -> tuple[Any, None]:
    """Add one group's sum of squares, and half the gradient of that sum, to the totals in `before`."""
    total, gradient = before
    size = features.shape[0]
    ranked = ranks(_projected(features, directions))
    ordered = [
        in_order_up_to(_projected(style.values[n], directions), style.counts[n])
        for n in range(len(style.counts))
    ]
    quantiles_at = partial(blended_quantiles, ordered, style.counts, style.shares, size=size)
    wanted = quantiles_at(jnp.arange(size, dtype=directions.dtype)[None])
    total = total + jnp.sum(jnp.square(ranked.ordered - wanted))
    if with_gradient:
        difference = ranked.as_given(ranked.ordered - quantiles_at(ranked.middle))
        gradient = gradient + jnp.einsum(
            "dm,dc->mc", difference, directions, precision=lax.Precision.HIGHEST
        )
    return (total, gradient), None


def _projected(features: Array, directions: Array) -> Array:
    """Return the features [m, c] on each direction, [d, m]."""
    return jnp.einsum(
        "dc,mc->dm",
        directions,
        features.astype(directions.dtype),
        precision=lax.Precision.HIGHEST,
    )


SLICED_WASSERSTEIN = StyleLoss(
    positions_as_rows, samples_of, sliced_wasserstein, additive=False, blend=blended_samples
)
