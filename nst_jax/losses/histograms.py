"""The histogram loss: how far the values of each channel are from the style's distribution.

The values are the features of the canvas (the picture that is optimised) at one tap (a layer whose
output a loss reads).
"""

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax, vmap
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
from nst_jax.losses.squares import gradient_scaled_square
from nst_jax.losses.sums import at_least_float32


class OrderedChannels(NamedTuple):
    """Features of one or several pictures, with the values of each channel in ascending order.

    All are features at the same tap, a layer whose features the loss compares.
    """

    # For each of n pictures and c channels, the values at k positions in ascending order. For picture i
    # only the first counts[i] of these k numbers are valid.
    ordered: Float[Array, "n c k"]
    counts: Float[Array, " n"]  # number of positions of each picture
    shares: Float[Array, " n"]  # weights of the pictures, which sum to 1


def ordered_channels(style: Samples) -> OrderedChannels:
    """Return the features of one or several styles with the values of each channel in ascending order.

    From this order, `matched_channels` reads the quantiles. The result is float32 at least.
    """
    channels = jnp.swapaxes(at_least_float32(style.values), 1, 2)
    return OrderedChannels(vmap(in_order_up_to)(channels, style.counts), style.counts, style.shares)


def matched_channels(channels: Float[Array, "c m"], style: OrderedChannels) -> Float[Array, "c m"]:
    """Return features with each channel changed to have the style's distribution of values.

    This is histogram matching. Number i, from 0, of the m values of a channel in ascending order has
    the level (i + 1/2) / m; equal values all have the level at the middle of their places i. Each value
    is replaced by the quantile of the style's channel at the value's level. If `style` holds several
    pictures, the replacement is the mean of their quantiles, weighted by their shares.

    Args:
      channels: features at one tap (layer), [c, m], with one row of m positions for each of c channels.
      style: the style's features at the same tap, in ascending order.

    Returns:
      The changed features, [c, m], float32 at least.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import CHANNEL_HISTOGRAMS, matched_channels
      >>> style = CHANNEL_HISTOGRAMS.measure(jnp.asarray([[[9.0], [0.0], [4.0]]]))
      >>> wanted = CHANNEL_HISTOGRAMS.target(style)
      >>> matched_channels(jnp.asarray([[2.0, 3.0, 1.0]]), wanted).tolist()
      [[4.0, 9.0, 0.0]]
    """
    channels = channels.astype(sum_dtype(channels.dtype))
    size = channels.shape[1]
    together = group_size(len(channels), size, style.ordered.shape[2])

    def matched(group: Array) -> Array:
        # Slices of `style.ordered` as it is: XLA would copy a reshaped array for the whole run.
        first = group * together
        ranked = ranks(lax.dynamic_slice_in_dim(channels, first, together, axis=0))
        ordered = lax.dynamic_slice_in_dim(style.ordered, first, together, axis=1)
        wanted = blended_quantiles(list(ordered), style.counts, style.shares, ranked.middle, size)
        return ranked.as_given(wanted)

    return lax.map(matched, jnp.arange(len(channels) // together)).reshape(channels.shape)


def channel_histograms(canvas: Samples, style: OrderedChannels, extent: Extent) -> Scalar:
    """Return mean((F - R(F))²) over positions and channels, where F are the features of the canvas.

    R(F) are the same features after `matched_channels`, which gives each channel the style's
    distribution of values. R(F) is computed anew in every update and has no gradient. The loss depends
    on how often each value of a channel occurs, but not on which values of different channels occur
    together. It is therefore used together with another style loss, such as one of Gram matrices.

    Departures from the paper: the paper takes the sum over positions and channels, which grows with the
    picture; the mean taken here does not. The paper matches histograms (of 256 bins in the program
    neural-style-tf), so that all values in one bin become equal; here the values themselves are sorted
    and matched. Equal values, such as the zeros after a ReLU, have consecutive places in the sorted
    order. All of them get the style's quantile at the middle of these places, and so stay equal.

    Args:
      canvas: features of one picture at one tap (layer).
      style: features of one or several pictures at the same tap, each channel in ascending order.
      extent: not used; all style losses have this argument.

    Returns:
      The loss, a scalar. Only the gradient with respect to the canvas is defined.

    References:
      Risser, Wilmot, Barnes, "Stable and Controllable Neural Texture Synthesis and Style Transfer Using
      Histogram Losses", 2017; rejunity/neural-style-tf, histogram.py.
    """
    del extent
    return jnp.mean(jnp.square(_differences(canvas, style)))


def channel_histograms_gradient_scaled(
    canvas: Samples, style: OrderedChannels, extent: Extent
) -> Scalar:
    """Return the gradient-scaled square of F - R(F), where F are the features of the canvas.

    R(F) are the same features after `matched_channels`, which gives each channel the style's
    distribution of values. The gradient-scaled square of differences d is sum(d²) / (sum|d| + 1e-8);
    see `squares.gradient_scaled_square`.

    Args:
      canvas: features of one picture at one tap (layer).
      style: features of one or several pictures at the same tap, each channel in ascending order.
      extent: not used; all style losses have this argument.

    Returns:
      The loss, a scalar. Only the gradient with respect to the canvas is defined.
    """
    del extent
    return gradient_scaled_square(_differences(canvas, style))


def _differences(canvas: Samples, style: OrderedChannels) -> Float[Array, "c m"]:
    """Return F - R(F), where R(F) are the features F of the canvas after `matched_channels`."""
    channels = at_least_float32(canvas.values)[0].T
    return channels - matched_channels(lax.stop_gradient(channels), lax.stop_gradient(style))


# The losses of the functions `channel_histograms` and `channel_histograms_gradient_scaled`, as style
# losses for recipes. They are no sums over positions, since they need the order of all values of a
# channel.
CHANNEL_HISTOGRAMS = StyleLoss(
    positions_as_rows,
    samples_of,
    channel_histograms,
    additive=False,
    target=ordered_channels,
    blend=blended_samples,
)
CHANNEL_HISTOGRAMS_GRADIENT_SCALED = CHANNEL_HISTOGRAMS._replace(
    distance=channel_histograms_gradient_scaled
)
