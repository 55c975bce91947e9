"""The sliced Wasserstein-2 loss: it projects features on random directions and compares them sorted.

The features of the canvas (the picture that is optimised) at M positions are M points in a space of C
dimensions, one for each channel. Projected on one direction they are M numbers. The Wasserstein-2
distance of these numbers to the style's numbers is found by sorting both sets of numbers. Two
distributions of points whose projections agree on all directions are equal. Losses of Gram matrices and
of Gaussians, in contrast, compare only first and second moments.
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

# Seed of the random directions. It is fixed, so that every run uses the same directions.
SEED = 0


def random_directions(step: Any, channels: int, dtype: Any = jnp.float32) -> Float[Array, "c c"]:
    """Return C random unit vectors in the space of C channels, uniformly distributed on the sphere.

    They depend only on the number of the update and on C, so two taps (layers) with the same number of
    channels use the same directions in one update. The expected loss at each tap is the same as with
    independent directions; only the sum over taps varies a little more from update to update.

    Args:
      step: number of the update, an int or a traced integer scalar.
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
    # The random generator is named explicitly, since the default one depends on JAX's configuration.
    key = jax.random.fold_in(jax.random.key(SEED, impl="threefry2x32"), step)
    drawn = jax.random.normal(key, (channels, channels), jnp.float32).astype(dtype)
    return drawn / jnp.linalg.norm(drawn, axis=1, keepdims=True)


def sliced_wasserstein(canvas: Samples, style: Samples, extent: Extent) -> Scalar:
    """Return the mean squared difference of the sorted projections of canvas and style.

    The features are projected on as many directions as there are channels; new directions are drawn in
    every update. If canvas and style have equally many positions, the loss is that of the authors'
    code: both sets of projections are sorted, and the mean of the squared differences is taken over
    positions and directions. If the numbers of positions differ, the style's sorted projections are
    interpolated at the quantile levels of the canvas' projections; see `samples.quantiles`. (The
    authors' code repeats the style's features instead, which works only if one number of positions is a
    multiple of the other.)

    For the gradient, the order of the canvas' projections is held constant, as automatic
    differentiation would do. Where projections are exactly equal, as in a canvas of a single colour,
    their order is arbitrary. So equal projections all get the same gradient, as if each had the mean of
    their ranks.

    Since the directions change, even an unchanged canvas has another loss in the next update. So the
    loss suits optimisers that do not compare losses, such as `Adam`. This package's `LBFGS` undoes
    updates by which the loss has become too large, and here that may happen by chance.

    Args:
      canvas: features of one picture at one tap (layer).
      style: features of one or several pictures at the same tap; see `samples.blended_samples`.
      extent: sizes of the canvas, and the number of the update `extent.step`, which determines the
        directions. The sizes are not used.

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
    """Return the loss, and its gradient with respect to `features`, those of the canvas, [m, c].

    Loss and gradient are added up over groups of `directions` [d, c], so that the projections on only
    one group are in memory. The gradient has a formula of its own here, since automatic differentiation
    would keep the projections on all directions. Without `with_gradient`, the gradient is an empty
    array.
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
    """Add the loss for a group of directions to the total in `before`; likewise half its gradient.

    This is the body of a `lax.scan` over the groups. The loss here is the sum, over positions and over
    `directions` [d, c], of squared differences between the sorted projections of `features` [m, c] and
    of the style. Without `with_gradient`, no gradient is added. The caller divides both totals by the
    number of terms, and multiplies the gradient by 2.

    Returns:
      The new totals of loss and gradient; and None, since the scan collects no outputs.
    """
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
    """Return the projection of features [m, c] on directions [d, c], as an array [d, m]."""
    return jnp.einsum(
        "dc,mc->dm",
        directions,
        features.astype(directions.dtype),
        precision=lax.Precision.HIGHEST,
    )


# The loss of this module as a style loss: see `sliced_wasserstein`. It is not a sum over positions,
# since it needs the order of all projections.
SLICED_WASSERSTEIN = StyleLoss(
    positions_as_rows, samples_of, sliced_wasserstein, additive=False, blend=blended_samples
)
