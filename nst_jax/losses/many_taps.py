"""Hypercolumns: the features of several taps (layers) at one place of a picture, as one vector.

The features of different taps have different resolutions. `hypercolumns` resizes the features of all
taps to the same resolution, by linear interpolation; `sampled` reads the features of all taps at given
places of the picture.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Shape, sum_dtype
from nst_jax.losses.places import Places
from nst_jax.losses.sums import at_least_float32


def hypercolumns(
    features: Sequence[Array], shape: Shape, products: lax.Precision = lax.Precision.HIGHEST
) -> Float[Array, "*batch h_new w_new channels"]:
    """Resize the features of several taps (layers) to one resolution and concatenate their channels.

    First the features of each tap are divided by the tap's number of channels. Without this division, a
    deep tap, which has more channels, would contribute more to the length of a vector than a shallow
    tap.

    Args:
      features: features [*batch, h, w, c] of each tap; h, w and c may differ from tap to tap.
      shape: the (height, width) of the result.
      products: the precision of the matrix products that interpolate.

    Returns:
      [*batch, height, width, sum of all c], float32 at least. The features at the corners stay
      at the corners of the result, as with torch's `align_corners=True`.

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
    """Resize features [*batch, h, w, c] linearly to the height and width in `shape`.

    The features at the corners stay at the corners, as with torch's `align_corners=True`.
    """
    # The interpolation multiplies by a small matrix along each axis. If it gathered neighbouring
    # features by their indices instead, the gradient would be a scatter, which is slow on CPUs.
    for axis, (old, new) in enumerate(zip(x.shape[-3:-1], shape, strict=True)):
        if old == new:
            continue
        matrix = _interpolation(old, new, x.dtype)
        formula = "ij,...jwc->...iwc" if axis == 0 else "ij,...hjc->...hic"
        x = jnp.einsum(formula, matrix, x, precision=products)
    return x


@partial(jax.jit, static_argnums=(0, 1, 2))
def _interpolation(old: int, new: int, dtype: Any) -> Float[Array, "new old"]:
    """Return the matrix that interpolates `new` lines (rows or columns) linearly from `old` lines.

    The first new line equals the first old line, and the last new line equals the last old one.
    """
    # New line i lies at i * (old - 1) / (new - 1) among the old lines. The whole part and the remainder
    # of this quotient are computed with integers, which are exact. Because of `jit`, a program that
    # calls this function computes the matrix, instead of containing it as a large constant.
    steps = max(new - 1, 1)
    places = jnp.arange(new) * (old - 1)
    low, part = places // steps, (places % steps).astype(dtype) / steps
    lines = jnp.arange(old)[None]
    return jnp.where(lines == low[:, None], 1 - part[:, None], 0) + jnp.where(
        lines == low[:, None] + 1, part[:, None], 0
    )


def sampled(
    features: Sequence[Array], places: Places, shrinks: Sequence[int], *, between: bool = True
) -> Float[Array, "n channels"]:
    """Read the features of several taps (layers) at places of a picture; concatenate their channels.

    Args:
      features: features [h, w, c] of each tap.
      places: [n, 2], the (row, column) of each place, in pixels of the picture.
      shrinks: for each tap, how many times fewer rows and columns its features have than the picture: 4
        after two poolings. Place (r, q) of the picture is then at (r / 4, q / 4) in the features.
      between: whether features are interpolated linearly between the pixels of a feature map. If False,
        r / 4 and q / 4 are rounded down instead. Static.

    Returns:
      [n, sum of all c], float32 at least. A place beyond the last row or column of the features reads
      the last one.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import sampled
      >>> ramp = jnp.arange(4.0).reshape(4, 1, 1)
      >>> sampled([ramp, ramp[:2]], jnp.array([[1, 0], [3, 0]]), (1, 2)).tolist()
      [[1.0, 0.5], [3.0, 1.0]]

    References:
      nkolkin13/STROTSS @ 9a1543a3, which halves the coordinates of places at every pooling. Its code
      interpolates the features of canvas and content, but not those of the style.
    """
    found = []
    for one, shrink in zip(features, shrinks, strict=True):
        dtype = sum_dtype(one.dtype)
        low, rest = places // shrink, places % shrink
        last = jnp.asarray([side - 1 for side in one.shape[:2]], jnp.int32)[None]
        first = jnp.minimum(low, last)
        if shrink == 1 or not between:
            found.append(one[first[:, 0], first[:, 1]].astype(dtype))
            continue
        second = jnp.minimum(low + 1, last)
        total: Any = 0.0
        for rows, down in ((first[:, 0], shrink - rest[:, 0]), (second[:, 0], rest[:, 0])):
            for columns, across in ((first[:, 1], shrink - rest[:, 1]), (second[:, 1], rest[:, 1])):
                read = one[rows, columns].astype(dtype)
                # `shrink` is a power of 2. So `share`, the weight of one of the four neighbours, has no
                # rounding error, and the four weights sum to exactly 1.
                share = (down * across).astype(dtype) / shrink**2
                total = total + share[:, None] * read
        found.append(total)
    return jnp.concatenate(found, axis=-1)
