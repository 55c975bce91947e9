"""The masks of a canvas and of its styles at the taps (layers that losses read).

Masks mark regions of the canvas with styles of their own, protected parts, which are to stay as they
are in the content, and transparent parts. T is the value of a mask at a position of the features. In
the sums from which statistics are computed, a position counts T² times, since a Gram matrix sums
products of two features, and each of the two is multiplied by T.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple, TypeAlias

import jax.numpy as jnp
from jaxtyping import Array

from nst_jax._types import RealSize, Scalar
from nst_jax.controls import regions
from nst_jax.controls.regions import Controls, Reach
from nst_jax.recipes.recipe import Recipe

# The masks of one style at the taps (layers) that the style loss reads: name of the tap -> T, [h', w'].
# None means that every position counts once.
StyleMasks: TypeAlias = dict[str, Array] | None


class MaskedTaps(NamedTuple):
    """The masks of a canvas and of its styles at the taps (layers that losses read).

    T is the value of a mask at a position of the features. r is the number of regions with styles of
    their own; one more region, the first, has the default style (the style of all other pixels).
    """

    canvas: dict[str, Array]  # style tap -> [h', w', r + 1], the mask values T of each region
    styles: tuple[StyleMasks, ...]  # the masks of each default style, then of each region's style
    # An additional content loss keeps protected parts (see `controls.Protect`) close to the content.
    # Tap that this loss reads -> [h', w', 1], the square roots of the positions' weights. Features are
    # multiplied by them before the loss squares differences. Empty if there is no such loss.
    held: dict[str, Array]


def measure_masks(
    controls: Controls,
    recipe: Recipe,
    size: RealSize | None = None,
    style_sizes: Sequence[RealSize] | None = None,
) -> MaskedTaps:
    """Resize the masks of a canvas and of its styles to the feature maps that losses read.

    Args:
      controls: the masks at the sizes of the pictures' arrays.
      recipe: taps, losses and network settings.
      size: the (height, width) of the canvas, if it lies at the top left of a larger array; None means
        that it fills its array.
      style_sizes: the (height, width) of each style, if styles lie at the top left of larger arrays;
        None means that every style fills its array.
    """
    taps, reach = recipe.terms.every_style_tap, reach_of(recipe)
    sizes = [None] * len(controls.style_masks) if style_sizes is None else style_sizes
    return MaskedTaps(
        regions.canvas_masks(controls, taps, reach, size),
        tuple(
            None if mask is None else regions.style_masks_at(mask, taps, reach, own)
            for mask, own in zip(controls.style_masks, sizes, strict=True)
        ),
        # Masks of an additional content loss, which keeps protected parts of the canvas close to the
        # content. A content loss can be limited to parts only if it is a sum over positions.
        regions.held_at(controls, recipe.terms.taps, reach, size)
        if recipe.terms.content_loss.additive
        else {},
    )


def reach_of(recipe: Recipe) -> Reach:
    """Return the recipe's settings for resizing a mask to the feature maps of a tap (layer)."""
    terms = recipe.terms
    return Reach(terms.region_reach, terms.region_growth, recipe.network.ceil)


def totals_at_taps(
    controls: Controls,
    recipe: Recipe,
    size: RealSize | None = None,
    style_sizes: Sequence[RealSize] | None = None,
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Return the sums of T² over the positions of the canvas and of the styles, to find empty regions.

    T is the value of a mask at a position of the features. If a sum is 0, the region has no position in
    the canvas, or none in its style. If the masks lie at the top left of larger arrays, `size` and
    `style_sizes` are the real (height, width) of the canvas and of each style.

    Returns:
      Two dictionaries: one has the sums over the canvas, the other those over the regions' styles (1
      for a style without a mask). The keys are the layers of the style loss. The values are arrays
      [r + 1] with a sum for each region: the region of the default style comes first, then the r
      regions with styles of their own. If the default style is a blend of several styles, its sum is
      the smallest of theirs.
    """
    found = measure_masks(controls, recipe, size, style_sizes)
    own = len(controls.style_masks) - controls.regions + 1
    canvas = {tap: regions.total(mask) for tap, mask in found.canvas.items()}
    return canvas, totals_of_regions(style_totals(found, recipe), own)


def style_totals(found: MaskedTaps, recipe: Recipe) -> list[dict[str, Scalar]]:
    """Return, for each style, then for each region's style, the sum of T² over its positions, by tap.

    T is the value of the style's mask at a position of the features at a tap (layer). For a style
    without a mask, 1 stands in place of the sum, since callers only check that it is not 0.
    """
    one = jnp.ones(())
    taps = recipe.terms.every_style_tap
    return [
        dict.fromkeys(taps, one)
        if mask is None
        else {tap: regions.total(mask[tap][..., None])[0] for tap in taps}
        for mask in found.styles
    ]


def totals_of_regions(totals: Sequence[dict[str, Scalar]], own: int) -> dict[str, Array]:
    """Return, by tap (layer), the sum of T² over each region's style: [r + 1], the default style first.

    r is the number of regions with styles of their own. T is the value of the style's mask at a
    position. If several styles are blended to the default style, the first number is the smallest of
    their sums. So if any of these is 0, the default style's region gets weight 0 at this tap.

    Args:
      totals: what `style_totals` returns.
      own: number of styles that are blended to the default style.
    """
    return {
        tap: jnp.stack(
            [
                reduce(jnp.minimum, [each[tap] for each in totals[:own]]),
                *(each[tap] for each in totals[own:]),
            ]
        )
        for tap in totals[0]
    }
