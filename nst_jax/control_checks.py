"""Checks of regions, protected and transparent parts, together called controls.

The checks refuse controls that cannot be combined with the recipe, and regions that are empty at every
layer that the style loss reads. A region is a part of the content that has a style of its own; the
rest of the content has the default style, and counts as region 0. A region is empty at a layer if no
pixel of the feature maps lies in it. For a small region, this depends on the picture's size, since
feature maps have fewer pixels than the picture, except before the first pooling.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import prepare
from nst_jax._compile import Jitted
from nst_jax._types import Shape
from nst_jax.controls import regions
from nst_jax.controls.given import Given
from nst_jax.controls.regions import Controls
from nst_jax.losses import ContentLoss, JointContentLoss, StyleLoss, Variation
from nst_jax.masks_at_taps import totals_at_taps
from nst_jax.recipes.recipe import Recipe


class RegionLeftOut(UserWarning):
    """Warning that no pixel of a layer's feature maps lies in a region.

    A region is a part of the picture with a style of its own. It has no style loss at such a layer.
    """


def style_loss_of_all_positions(recipe: Recipe) -> str | None:
    """Return the name of a style loss of the recipe that cannot leave out a part of the picture.

    Such a loss needs the features of all pixels together, for example because it sorts them. The result
    is None if the recipe has no such style loss. Content losses and total variation are not considered,
    since they read all pixels even if there are regions, protected or transparent parts.
    """
    others = (ContentLoss, JointContentLoss, Variation)
    named = recipe.terms.named_losses.items()
    whole = (name for name, loss in named if not (isinstance(loss, others) or loss.additive))
    return next(whole, None)


def check_controls(given: Given | None, recipe: Recipe) -> None:
    """Refuse regions, protected and transparent parts if the recipe cannot be combined with them.

    The recipe's style loss must be able to leave out positions of a feature map. The loss also needs
    `masked_sums` if masks of feature maps may have values between 0 and 1: if `given.soft` is True, or
    if the recipe's `region_reach` is "simple". The recipe must have no style pictures for single layers
    (`tap_styles`). With regions, its `colors` must not be "palette".

    Args:
      given: the masks of these parts; None if there are none, so that every recipe is accepted.
      recipe: the checked recipe.

    Raises:
      ValueError: naming the argument, and the loss or setting that it cannot be combined with.
    """
    if given is None:
        return
    argument, soft = given.argument, given.soft or recipe.terms.region_reach == "simple"
    if recipe.terms.tap_styles:
        raise ValueError(
            f"`{argument}`: masks are not applied to the styles of single layers (`tap_styles`); leave "
            "one of the two out"
        )
    if (whole := style_loss_of_all_positions(recipe)) is not None:
        raise ValueError(
            f"`{argument}`: `{whole}` of recipe {recipe.name!r} is not additive: it sees all "
            "positions together and cannot leave out some; choose another recipe"
        )
    for name, loss in recipe.terms.named_losses.items():
        if soft and isinstance(loss, StyleLoss) and loss.masked_sums is None:
            raise ValueError(
                f"`{argument}`: `{name}` has no `masked_sums`, so masks must be 0 or 1 at each layer; "
                "use `terms.region_reach=inside` and amounts of 0 or 1, or give the loss `masked_sums`"
            )
    # This check comes last: its message advises other colours, which would not help with a recipe whose
    # losses cannot be masked.
    if given.regions and recipe.pictures.colors == "palette":
        raise ValueError(
            "`colors`: 'palette' moves the whole picture to the colours of one style, but regions have "
            "several; choose another, or leave the regions out"
        )


def notes_on_regions(prepared: prepare.Prepared, recipe: Recipe) -> list[str]:
    """Return a warning for each region that is empty at some of the layers that the style loss reads.

    A region is empty at a layer if no pixel of the feature maps lies in it, in the content or in the
    region's style. A region that is empty in both gets two warnings. If the user gives regions, the
    rest of the content may be empty without a warning. Only the final scale (the full resolution) is
    examined.

    Raises:
      ValueError: if a region is empty at all of these layers; the message names the size.
    """
    controls, last = prepared.controls, prepared.scales[-1]
    if controls is None:
        return []
    notes = []
    for (number, side), taps in _empty_taps(prepared, recipe.bare()).items():
        own = number or side == "style"
        if not own and controls.regions > 1:
            continue  # the rest of the content may be empty, if regions cover all of it
        height, width = last.shape if side == "content" else _style_shape(prepared, number)
        size = f"{'its style of ' if number and side == 'style' else ''}{width}x{height} px"
        what = f"regions[{number - 1}]" if number else "style_opacity"
        if not own:
            what = "opacity" if controls.protect is None else "protect"
        if len(taps) < len(recipe.terms.every_style_tap):
            these = "this layer" if len(taps) == 1 else "these layers"
            notes.append(
                f"`{what}`: at {size}, {_part(what, side)} is too small or too thin for "
                f"{', '.join(taps)}, so the style loss leaves out {these} there"
            )
        else:
            raise ValueError(f"`{what}`: at {size}, {_why_refused(what, side, controls)}")
    return notes


def _part(what: str, side: str) -> str:
    """Return what messages call a region. The arguments are those of `_why_refused`."""
    named = {
        "protect": "what is not protected",
        "opacity": "the opaque part of the content",
        "style_opacity": "the opaque part of the style",
    }
    return named.get(what, "the region" if side == "content" else "the part that counts")


def _why_refused(what: str, side: str, controls: Controls) -> str:
    """Return why a region that is empty at every layer of the style loss is refused, and what to do.

    Args:
      what: the argument that leaves the region empty, such as "regions[0]". With "protect", the region
        is what remains to be painted.
      side: whether the region is empty in the "content" or in the "style".
      controls: the regions, protected and transparent parts of the picture.
    """
    why = f"{_part(what, side)} is too small or too thin for every layer of the style loss"
    if what == "protect":
        return f"{why}; protect a smaller part, or give an amount below 1"
    protected = controls.protect is not None and side == "content"
    smaller = ", protect a smaller part" if protected else ""
    larger = "opaque part" if what.endswith("opacity") else "mask"
    return (
        f"{why}; choose a larger {larger} or size{smaller}, or `terms.region_reach=all`, with which a "
        "layer counts wherever it sees a pixel of that part"
    )


def _style_shape(prepared: prepare.Prepared, number: int) -> Shape:
    """Return the (height, width), at the last scale, of the style of region `number`.

    Region 0 has the default style; if that is a blend, the size is that of the first blended style. The
    regions with styles of their own count from 1.
    """
    shapes = prepared.scales[-1].style_shapes
    return shapes[len(prepared.styles) + number - 1] if number else shapes[0]


def _empty_taps(prepared: prepare.Prepared, recipe: Recipe) -> dict[tuple[int, str], list[str]]:
    """Return the layers at which the mask of a region, reduced to the layer's size, is 0 everywhere.

    Returns:
      (number of the region, "content" or "style") -> names of layers. Number 0 is the region of the
      default style. A region has two masks: one in the content picture, one in its style picture.
    """
    controls, last = prepared.controls, prepared.scales[-1]
    assert controls is not None
    real: tuple[Any, ...] = ()
    if isinstance(controls.masks, np.ndarray):
        # Masks on the host are padded to squares. So masks of many sizes lie in squares of one size,
        # for which `_totals` is compiled only once.
        sizes = [jnp.asarray(shape, jnp.int32) for shape in (last.shape, *last.style_shapes)]
        real = (sizes[0], sizes[1:])
        squares = [prepare.square_of(shape) for shape in (last.shape, *last.style_shapes)]
        controls = regions.padded_controls(controls, squares[0], squares[1:])
    counts, of_styles = jax.device_get(_totals(controls, recipe, *real))
    found: dict[tuple[int, str], list[str]] = {}
    for tap in recipe.terms.every_style_tap:
        for number in range(controls.regions):
            for side, totals in (("content", counts), ("style", of_styles)):
                if not totals[tap][number] > 0:
                    found.setdefault((number, side), []).append(tap)
    return found


_totals = Jitted(totals_at_taps)
