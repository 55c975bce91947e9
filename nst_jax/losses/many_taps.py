"""Hypercolumns: the features of several taps at one place of a picture, as one vector.

Taps have features at different resolutions. `hypercolumns` resizes all of them to one resolution;
`sampled` reads them at given places. In both, features between two positions are interpolated linearly.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import FeatureMap, Shape
from nst_jax.losses.sums import at_least_float32


def hypercolumns(
    features: Sequence[Array], shape: Shape, products: lax.Precision = lax.Precision.HIGHEST
) -> Float[Array, "*batch h_new w_new channels"]:
    """Resize the features of several taps to one resolution and concatenate their channels.

    The features of a tap are divided by their number of channels first. Otherwise a deep tap, which has
    more channels, would count more in the length of a vector.

    Args:
      features: features [*batch, h, w, c] of each tap, of any sizes.
      shape: the (height, width) of the result.
      products: the precision of the products that interpolate.

    Returns:
      [*batch, height, width, sum of all c], float32 at least. The corners of every tap's features are
      the corners of the result (torch's `align_corners=True`).

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import hypercolumns
      >>> ramp = jnp.arange(3.0).reshape(1, 3, 1)
      >>> hypercolumns([ramp, jnp.ones((1, 1, 2))], (1, 5))[0].tolist()[1]
      [0.5, 0.5, 0.5]

    References:
      Hariharan, Arbeláez, Girshick, Malik, "Hypercolumns for object segmentation and fine-grained
      localization", 2015; nkolkin13/NeuralNeighborStyleTransfer @ 290976ab for the division.
    """
    scaled = (at_least_float32(one) / one.shape[-1] for one in features)
    return jnp.concatenate([_resized(one, shape, products) for one in scaled], axis=-1)


def _resized(x: FeatureMap, shape: Shape, products: lax.Precision) -> Array:
    """Resize linearly, the centres of the corners at the corners."""
    # Products with small matrices: gathering the neighbours would make the gradient a scatter, which
    # is slow on CPUs.
    for axis, (old, new) in enumerate(zip(x.shape[-3:-1], shape, strict=True)):
        if old == new:
            continue
        matrix = jnp.asarray(_interpolation(old, new), x.dtype)
        formula = "ij,...jwc->...iwc" if axis == 0 else "ij,...hjc->...hic"
        x = jnp.einsum(formula, matrix, x, precision=products)
    return x


def _interpolation(old: int, new: int) -> Float[np.ndarray, "new old"]:
    """Return the matrix that interpolates `new` lines linearly from `old` lines, ends at the ends."""
    places = np.arange(new) * ((old - 1) / max(new - 1, 1))
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(old)[None]))


def sampled(
    features: Sequence[Array],
    places: Float[Array, "n 2"] | Int[Array, "n 2"],
    shrinks: Sequence[int],
) -> Float[Array, "n channels"]:
    """Read the features of several taps at places of a picture and concatenate their channels.

    Args:
      features: features [h, w, c] of each tap.
      places: (row, column) of each place, in pixels of the picture.
      shrinks: how many times each tap has fewer lines than the picture: 4 after two poolings. The place
        (r, q) is read at (r / 4, q / 4) then.

    Returns:
      [n, sum of all c], float32 at least. Places between positions are interpolated linearly; those
      beyond the last line take the last line.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import sampled
      >>> ramp = jnp.arange(4.0).reshape(4, 1, 1)
      >>> sampled([ramp, ramp[:2]], jnp.array([[1, 0], [3, 0]]), (1, 2)).tolist()
      [[1.0, 0.5], [3.0, 1.0]]

    References:
      nkolkin13/STROTSS @ 9a1543a3, which halves places at every pooling.
    """
    found = []
    for one, shrink in zip(features, shrinks, strict=True):
        x = at_least_float32(one)
        place = places.astype(x.dtype) / shrink
        low = jnp.floor(place)
        part = place - low
        last = jnp.asarray([side - 1 for side in x.shape[:2]], jnp.int32)[None]
        first = jnp.clip(low.astype(jnp.int32), 0, last)
        second = jnp.clip(low.astype(jnp.int32) + 1, 0, last)
        total = jnp.zeros((len(places), x.shape[-1]), x.dtype)
        for rows, down in ((first[:, 0], 1 - part[:, 0]), (second[:, 0], part[:, 0])):
            for columns, across in ((first[:, 1], 1 - part[:, 1]), (second[:, 1], part[:, 1])):
                total = total + (down * across)[:, None] * x[rows, columns]
        found.append(total)
    return jnp.concatenate(found, axis=-1)
