"""The sliced Wasserstein-2 loss: it projects features on random directions and compares them sorted.

The features of the canvas (the picture that is optimised) at M positions are M points in a space of C
dimensions, one for each channel. Projected on one direction they are M numbers. The Wasserstein-2
distance of these numbers to the style's numbers is found by sorting both sets of numbers. Two
distributions of points whose projections agree on all directions are equal. Losses of Gram matrices and
of Gaussians, in contrast, compare only first and second moments.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import Scalar, sum_dtype
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
from nst_jax.losses.squares import LEAST_SUM, scaled_by_gradient
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
    return _of_samples(canvas, style, extent, scaled=False)


def sliced_wasserstein_gradient_scaled(canvas: Samples, style: Samples, extent: Extent) -> Scalar:
    """Return the gradient-scaled square of the differences of the sorted projections.

    The differences d of canvas and style are those of `sliced_wasserstein`. Their gradient-scaled
    square is sum(d²) / (sum|d| + 1e-8) over positions and directions; see
    `squares.gradient_scaled_square`. What the docstring of `sliced_wasserstein` says of sizes, of equal
    projections and of optimisers holds here, too.

    Args:
      canvas: features of one picture at one tap (layer).
      style: features of one or several pictures at the same tap; see `samples.blended_samples`.
      extent: the number of the update `extent.step` determines the directions; the sizes are not used.

    Returns:
      The loss, a scalar. Only the gradient with respect to the canvas is defined.
    """
    return _of_samples(canvas, style, extent, scaled=True)


def _of_samples(canvas: Samples, style: Samples, extent: Extent, *, scaled: bool) -> Scalar:
    features = canvas.values[0]
    wide = sum_dtype(features.dtype)
    directions = random_directions(extent.step, features.shape[-1], wide)
    return _sliced(features, lax.stop_gradient(style), directions, scaled)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def _sliced(
    features: Float[Array, "m c"], style: Samples, directions: Float[Array, "d c"], scaled: bool
) -> Scalar:
    return _value_and_gradient(features, style, directions, scaled, with_gradient=False)[0]


def _sliced_forward(
    features: Array, style: Samples, directions: Array, scaled: bool
) -> tuple[Scalar, Array]:
    value, gradient = _value_and_gradient(features, style, directions, scaled, with_gradient=True)
    return value, gradient.astype(features.dtype)


def _sliced_backward(scaled: bool, gradient: Array, cotangent: Scalar) -> tuple[Array, None, None]:
    del scaled
    return (gradient * cotangent.astype(gradient.dtype), None, None)


_sliced.defvjp(_sliced_forward, _sliced_backward)


class _Totals(NamedTuple):
    """Totals over directions, from the differences d between sorted projections of canvas and style."""

    squares: Scalar  # sum(d²) over positions and directions
    absolutes: Scalar  # sum|d| over positions and directions; 0 if the loss is not gradient-scaled
    # With respect to the features [m, c]: half the gradient of `squares`, and the gradient of
    # `absolutes`. An array that is not needed has no rows.
    of_squares: Float[Array, "rows c"]
    of_absolutes: Float[Array, "more_rows c"]


def _value_and_gradient(
    features: Array, style: Samples, directions: Array, scaled: bool, *, with_gradient: bool
) -> tuple[Scalar, Array]:
    """Return the loss, and its gradient with respect to the canvas' `features` [m, c].

    Loss and gradient are added up over groups of `directions` [d, c], so that the projections on only
    one group are in memory at a time. The gradient has a formula of its own here, since automatic
    differentiation would keep the projections on all directions. Without `with_gradient`, the gradient
    is an empty array.

    Let d be the differences between the sorted projections of canvas and style. If `scaled`, the loss
    is their gradient-scaled square sum(d²) / (sum|d| + 1e-8), and otherwise their mean square.
    """
    size, channels = features.shape
    add = partial(_add_group, features, style, scaled, with_gradient)
    nothing = jnp.zeros((), directions.dtype)
    rows = size if with_gradient else 0
    # No number is larger than infinity, so this is 0, but the compiler does not know that. Constants
    # would be in memory from the beginning of an update on, those of all layers at once.
    zero = (features[0, 0] > jnp.inf).astype(directions.dtype)
    before = _Totals(
        nothing,
        nothing,
        jnp.broadcast_to(zero, (rows, channels)),
        jnp.broadcast_to(zero, (rows if scaled else 0, channels)),
    )
    together = group_size(len(directions), size, style.values.shape[1])
    totals, _ = lax.scan(add, before, directions.reshape(-1, together, channels))
    if not scaled:
        count = as_float(size) * directions.shape[0]
        return totals.squares / count, totals.of_squares * (2 / count)
    value = scaled_by_gradient(totals.squares, totals.absolutes)
    below = totals.absolutes + LEAST_SUM
    return value, (2 * totals.of_squares - value * totals.of_absolutes) / below


def _add_group(
    features: Array,
    style: Samples,
    scaled: bool,
    with_gradient: bool,
    before: _Totals,
    directions: Array,
) -> tuple[_Totals, None]:
    """Add to the totals in `before` what a group of directions [d, c] contributes to them.

    This is the body of a `lax.scan` over the groups. The totals are computed from the differences
    between the sorted projections of the canvas' `features` [m, c] and those of the style. The caller
    turns the totals into the loss and its gradient. `with_gradient` says whether the totals for the
    gradient are needed; if not, these do not change.

    Returns:
      The new totals; and None, since the scan collects no outputs.
    """
    size = features.shape[0]
    ranked = ranks(_projected(features, directions))
    ordered = [
        in_order_up_to(_projected(style.values[n], directions), style.counts[n])
        for n in range(len(style.counts))
    ]
    quantiles_at = partial(blended_quantiles, ordered, style.counts, style.shares, size=size)
    wanted = quantiles_at(jnp.arange(size, dtype=directions.dtype)[None])
    squares, absolutes, of_squares, of_absolutes = before
    squares = squares + jnp.sum(jnp.square(ranked.ordered - wanted))
    if scaled:
        absolutes = absolutes + jnp.sum(jnp.abs(ranked.ordered - wanted))
    if with_gradient:
        difference = ranked.as_given(ranked.ordered - quantiles_at(ranked.middle))
        of_squares = of_squares + _projected_back(difference, directions)
        if scaled:
            of_absolutes = of_absolutes + _projected_back(jnp.sign(difference), directions)
    return _Totals(squares, absolutes, of_squares, of_absolutes), None


def _projected(features: Array, directions: Array) -> Array:
    """Return the projection of features [m, c] on directions [d, c], as an array [d, m]."""
    return jnp.einsum(
        "dc,mc->dm",
        directions,
        features.astype(directions.dtype),
        precision=lax.Precision.HIGHEST,
    )


def _projected_back(values: Array, directions: Array) -> Array:
    """Return [m, c]: at each of m positions, the sum of the d directions, each times its value there.

    `directions` is [d, c], and `values` is [d, m].
    """
    return jnp.einsum("dm,dc->mc", values, directions, precision=lax.Precision.HIGHEST)


# The losses of this module as style losses: see `sliced_wasserstein` and
# `sliced_wasserstein_gradient_scaled`. They are no sums over positions, since they need the order of
# all projections.
SLICED_WASSERSTEIN = StyleLoss(
    positions_as_rows, samples_of, sliced_wasserstein, additive=False, blend=blended_samples
)
SLICED_WASSERSTEIN_GRADIENT_SCALED = StyleLoss(
    positions_as_rows,
    samples_of,
    sliced_wasserstein_gradient_scaled,
    additive=False,
    blend=blended_samples,
)
