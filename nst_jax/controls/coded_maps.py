"""Make regions from two colour-coded maps: one drawn over the content, one over the style."""

from typing import Any

import numpy as np

from nst_jax import _checks
from nst_jax.controls.given import MOST_REGIONS, Region

# Smallest share of the content's map that a colour must cover to define a region. Pixels of rarer
# colours, such as those along smoothed edges, belong to the region with the nearest colour.
LEAST_SHARE = 0.005

# Largest Euclidean distance, in 8-bit levels of RGB, between a pixel of the style's map and the colour
# of the region to which it belongs. Pixels farther than this from the colours of all regions belong to
# none.
FARTHEST = 48


def regions_of_maps(
    content_map: Any,
    style_map: Any,
    style: Any,
    *,
    argument: str = "regions",
) -> list[Region]:
    """Return the regions that two colour-coded maps describe.

    Where the content's map has some colour, the content gets the style of those parts of the style
    picture where the style's map has the same colour. A colour of the content's map defines a region if
    it covers at least 1/200 of the map; other pixels, such as those of smoothed edges, belong to the
    region of the nearest colour.

    Args:
      content_map: [h, w, 3] in [0, 1], drawn over the content in plain colours.
      style_map: [h', w', 3] in [0, 1], drawn over the style in the same colours. A pixel belongs to the
        region of the nearest colour; or to none, if the Euclidean distance to this colour is more than
        `FARTHEST`, 48 levels of 8-bit RGB.
      style: the style picture, [h'', w'', 3] in [0, 1].
      argument: the caller's name for the maps, shown in error messages.

    Returns:
      A list with one `Region` for each colour that defines a region, in the order of the number of
      pixels that have exactly this colour in the content's map, largest first.

    Raises:
      TypeError: if a map is no array, or is a JAX tracer.
      ValueError: if a map is no picture; if no colour of the content's map defines a region, or more
        than 15 do; and if one of these regions has no pixel in the style's map.

    Example:
      >>> import numpy as np
      >>> from nst_jax import controls, images
      >>> left = np.zeros((30, 45, 3))
      >>> left[:, :20] = [1, 0, 0]
      >>> red_and_black = controls.regions_of_maps(left, left, images.sample("starry_night"))
      >>> [int(region.mask.sum()) for region in red_and_black]
      [750, 600]
    """
    here, there = _levels(argument, content_map), _levels(argument, style_map)
    colours, counts = np.unique(here.reshape(-1, 3), axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")
    plain = colours[most][counts[most] >= LEAST_SHARE * counts.sum()]
    if not 1 <= len(plain) < MOST_REGIONS:
        count = f"{len(plain)} plain colours" if len(plain) else "no plain colours"
        raise ValueError(
            f"`{argument}`: the content's map has {count}; expected 1 to {MOST_REGIONS - 1}, one for "
            "each region: draw it in plain colours without shading, and save it as PNG"
        )
    nearest = _nearest(here, plain)[0]
    nearest_there, distance = _nearest(there, plain)
    regions: list[Region] = []
    for index, colour in enumerate(plain):
        style_mask = (nearest_there == index) & (distance <= FARTHEST)
        if not style_mask.any():
            code = "".join(f"{level:02x}" for level in colour)
            raise ValueError(
                f"`{argument}`: the style's map has no pixel of the colour #{code}, which is in the "
                "content's map; draw that part of the style in it"
            )
        regions.append(
            Region((nearest == index).astype(np.float32), style, style_mask.astype(np.float32))
        )
    return regions


def _levels(argument: str, picture: Any) -> np.ndarray:
    return np.round(_checks.image(argument, picture) * 255).astype(np.int32)


def _nearest(picture: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two arrays [h, w]: the index of each pixel's nearest colour, and the distance to it.

    The distance is Euclidean, in the unit of the arguments: 8-bit levels of RGB.
    """
    best = np.zeros(picture.shape[:2], np.int32)
    least = np.full(picture.shape[:2], np.inf)
    for index, colour in enumerate(colours):
        distance = np.sqrt(np.square(picture - colour).sum(-1))
        best, least = (
            np.where(distance < least, index, best),
            np.minimum(distance, least),
        )
    return best, least
