"""Pictures of what VGG-19 computes for a picture: its feature maps, and their Gram matrices.

A sheet is one large picture of several pictures in rows, with a caption under each.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks
from nst_jax._types import HostImage, Params
from nst_jax.images import sheets
from nst_jax.images.eight_bit import bicubic_8bit
from nst_jax.losses import gram
from nst_jax.vgg.network import Network, features
from nst_jax.vgg.taps import resolve_tap, resolve_taps

# The taps (layers) at which Gatys and others compare the Gram matrices of styles.
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

# Side of a drawn Gram matrix, in px. The matrix at a layer with c channels is drawn as c x c squares,
# one for each entry. c is 64, 128, 256 or 512 and divides 512, so each square has a whole number of
# pixels.
GRAM_CELL = 512
MAP_CELL = 192  # upper limit of the longer side of a feature map on a sheet, in px
MAPS = 48  # default of the largest number of feature maps on a sheet

# A colour scale, from the colour of the least value to that of the greatest, as sRGB in 0..255. The
# colours belong to equally spaced values; colours of other values are interpolated. The scale goes from
# dark to light, so that a figure can also be read when it is printed in grey.
_COLORS = np.array(
    [[10, 8, 28], [64, 20, 104], [150, 40, 108], [218, 76, 66], [250, 150, 40], [252, 246, 190]],
    np.float32,
)


def gram_sheet(
    params: Params,
    style: Any,
    *,
    taps: Sequence[str] = STYLE_TAPS,
    network: Network | None = None,
    label: str = "the picture",
) -> HostImage:
    """Draw a picture, and after it its Gram matrices, one for each tap (layer).

    Entry (i, j) of a Gram matrix is the mean over all positions of the product of the feature maps i
    and j. It says how strongly both channels respond at the same places. A style loss based on Gram
    matrices, such as that of Gatys and others, uses no other information on a style. Rows and columns
    are in the order of the network's channels.

    The colours go from dark for 0 to light for the greatest absolute values. (Only at taps before a
    ReLU can an entry be negative.) Since a few entries are much greater than all others, the place of
    an entry on this scale is proportional to the square root of its absolute value. The end of the
    scale is the value that one entry in 200 of the matrix exceeds, and stands for all greater values.

    Args:
      params: weights from `nst_jax.load_params`.
      style: the picture, [h, w, 3] in [0, 1], at least 16 px on each side.
      taps: names of the taps (layers), such as `"relu3_1"`.
      network: pooling, padding and precision, as in `nst_jax.features`.
      label: caption of the picture.

    Returns:
      The sheet, [h, w, 3] float32 in [0, 1], with a white background.

    Raises:
      TypeError, ValueError: as in `nst_jax.features`.

    Example:
      >>> import nst_jax as nst
      >>> cat = nst.images.sample("chelsea")[:64, :64]
      >>> nst.figures.gram_sheet(nst.load_params(), cat, taps=["relu1_1"]).ndim
      3

    References:
      Gatys, Ecker, Bethge, "A Neural Algorithm of Artistic Style", 2015, eq. 3.
    """
    picture = _checks.image("style", style)
    names = resolve_taps(taps)
    found = _features_of(params, picture, names, network)
    drawn, labels = [_of_side(picture, GRAM_CELL)], [label]
    for tap in names:
        maps = jnp.asarray(found[tap], jnp.float32)
        matrix = np.abs(np.asarray(gram(maps))) / (maps.shape[0] * maps.shape[1])
        bright = float(np.quantile(matrix, 0.995)) or float(matrix.max()) or 1.0
        drawn.append(_enlarged(_colored(np.sqrt(matrix / bright)), GRAM_CELL))
        labels.append(f"{tap}: {len(matrix)} x {len(matrix)}, greatest {_short(matrix.max())}")
    return sheets.captioned(drawn, labels, columns=3, cell=GRAM_CELL)


def feature_sheet(
    params: Params,
    picture: Any,
    tap: str,
    *,
    count: int = MAPS,
    network: Network | None = None,
) -> HostImage:
    """Draw the feature maps of a picture at one layer: what single channels of the network find in it.

    The maps are in the order of the absolute values of their means, the largest first. If there are
    more than `count`, only the first `count` are drawn. The colours of each map go from the least value
    of this map to its greatest value. The caption of a map is the number of the channel and these two
    values.

    Args:
      params: weights from `nst_jax.load_params`.
      picture: [h, w, 3] in [0, 1], at least 16 px on each side.
      tap: name of the tap (layer), such as `"relu3_1"`.
      count: largest number of maps to draw.
      network: pooling, padding and precision, as in `nst_jax.features`.

    Returns:
      The sheet, [h, w, 3] float32 in [0, 1], with a white background.

    Raises:
      TypeError, ValueError: as in `nst_jax.features`, and if `count` is under 1.

    Example:
      >>> import nst_jax as nst
      >>> cat = nst.images.sample("chelsea")[:64, :96]
      >>> nst.figures.feature_sheet(nst.load_params(), cat, "relu2_1", count=6).ndim
      3
    """
    image = _checks.image("picture", picture)
    _checks.whole("count", count, least=1)
    name = resolve_tap(tap, argument="tap")
    found = np.asarray(_features_of(params, image, (name,), network)[name], np.float32)
    order = np.argsort(-np.abs(found.mean(axis=(0, 1))), kind="stable")[:count]
    drawn, labels = [], []
    for channel in order:
        one = found[..., channel]
        low, high = float(one.min()), float(one.max())
        share = (one - low) / (high - low) if high > low else np.zeros_like(one)
        drawn.append(_enlarged(_colored(share), MAP_CELL))
        labels.append(f"{channel}: {_short(low)} to {_short(high)}")
    columns = min(len(drawn), 8)
    return sheets.captioned(drawn, labels, columns=columns, cell=MAP_CELL)


def _features_of(
    params: Params, image: HostImage, taps: Sequence[str], network: Network | None
) -> Any:
    # All layers are compiled as one program. Without `jax.jit`, JAX would compile a program for each
    # operation, which takes longer.
    compute = jax.jit(lambda params, image: features(params, image, taps, network=network))
    return compute(params, jnp.asarray(image))


def _colored(share: Float[np.ndarray, "h w"]) -> HostImage:
    """Return a picture [h, w, 3] that shows values in [0, 1] by the colours of the scale `_COLORS`."""
    place = np.clip(share, 0, 1) * (len(_COLORS) - 1)
    knots = np.arange(len(_COLORS))
    channels = [np.interp(place, knots, _COLORS[:, channel] / 255) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _short(value: Any) -> str:
    """Return a number as text, rounded to three significant digits, such as "1880" for 1876.5."""
    return f"{float(f'{float(value):.3g}'):g}"


def _of_side(picture: HostImage, side: int) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    return bicubic_8bit(picture, (max(1, round(height * scale)), max(1, round(width * scale))))


def _enlarged(values: HostImage, side: int) -> np.ndarray:
    """Enlarge a picture by the largest whole factor with which its longer side is at most `side` px.

    Every pixel becomes a square of equal pixels. A picture that is larger than `side` stays as it is.
    """
    times = max(1, side // max(values.shape[:2]))
    return np.repeat(np.repeat(values, times, axis=0), times, axis=1)
