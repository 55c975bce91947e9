"""What the network finds in a picture, as pictures: maps of features, and Gram matrices."""

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

STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")  # of Gatys and others

GRAM_CELL = 512  # px; side of a Gram matrix on a sheet: whole pixels for every channel of every tap
MAP_CELL = 192  # px; longer side of a map on a sheet
MAPS = 48  # default number of maps on a sheet

# Colours from the least to the greatest value, in equal steps: from dark to light, so that the figure
# can be read without colours, too.
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
    """Draw the Gram matrices of a picture, one for each tap, beside the picture.

    Entry (i, j) of a Gram matrix is the mean over all positions of the product of the maps i and j:
    how often both channels find something in the same place. It is all that the Gram losses know of a
    style. Channels are in the order of the network. Few entries are much greater than the others. So
    brightness is the square root of the entry, relative to a value that one entry in 200 of the same
    matrix exceeds; these are drawn alike. Negative entries, which taps before the ReLU have, are drawn
    as positive.

    Args:
      params: weights from `nst_jax.load_params`.
      style: [h, w, 3] in [0, 1], at least 16 px a side.
      taps: names of the taps.
      network: pooling, padding and precision, as in `nst_jax.features`.
      label: caption of the picture.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

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
    """Draw what single channels of the network find in a picture, one map for each channel.

    The channels with the greatest means are drawn, the strongest first. Every map has its own scale,
    from its least value (0 after a ReLU, unless every position has more) to its greatest, both of which
    are written under it, after the channel's number.

    Args:
      params: weights from `nst_jax.load_params`.
      picture: [h, w, 3] in [0, 1], at least 16 px a side.
      tap: name of the tap, such as `"relu3_1"`.
      count: most maps to draw.
      network: pooling, padding and precision, as in `nst_jax.features`.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      TypeError, ValueError: as in `nst_jax.features`, and for `count` under 1.

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
    # Jitted as a whole, since otherwise every layer would be compiled as its own program.
    compute = jax.jit(lambda params, image: features(params, image, taps, network=network))
    return compute(params, jnp.asarray(image))


def _colored(share: Float[np.ndarray, "h w"]) -> HostImage:
    """Return values in [0, 1] as colours."""
    place = np.clip(share, 0, 1) * (len(_COLORS) - 1)
    knots = np.arange(len(_COLORS))
    channels = [np.interp(place, knots, _COLORS[:, channel] / 255) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def _short(value: Any) -> str:
    """Return a number with three digits that count, such as 1880."""
    return f"{float(f'{float(value):.3g}'):g}"


def _of_side(picture: HostImage, side: int) -> np.ndarray:
    """Return a picture resized so that its longer side is `side` px."""
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    return bicubic_8bit(picture, (max(1, round(height * scale)), max(1, round(width * scale))))


def _enlarged(values: HostImage, side: int) -> np.ndarray:
    """Return a picture as large as fits into `side` px, each value as a square of pixels."""
    times = max(1, side // max(values.shape[:2]))
    return np.repeat(np.repeat(values, times, axis=0), times, axis=1)
