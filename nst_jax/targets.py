"""Compute the targets of a canvas: `measure` computes all of them, the other functions parts of them.

The canvas is the picture that is optimised. Its targets are what losses compare it with: the features
of the content, and what losses make of the statistics of the style (see `style_statistics`), at the
taps (the layers that losses read).

The features of a large picture may be computed in tiles. The core of a tile is the part of the picture
whose features are taken from the tile. The window of a tile is its core with a halo: the margin of
pixels around the core on which the core's features depend. If several devices share a picture, each
computes one band of it, which is a horizontal strip.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, correspondence, vgg
from nst_jax._real_size import cut
from nst_jax._types import (
    Features,
    Guides,
    Image,
    Params,
    RealSize,
    Statistic,
    StyleImage,
    Targets,
)
from nst_jax.controls import regions
from nst_jax.controls.regions import Controls
from nst_jax.losses import JointContentLoss, MatchingLoss
from nst_jax.masks_at_taps import (
    MaskedTaps,
    measure_masks,
    style_totals,
    totals_of_regions,
)
from nst_jax.recipes.checking import check_in_bucket, check_not_cut, check_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.terms import Terms
from nst_jax.scaling import tile_grid, tiles
from nst_jax.scaling.bands import Bands, check_bands_allowed, map_bands
from nst_jax.scaling.tile_grid import Index
from nst_jax.style_statistics import blend, measure_style, statistics_of, sum_style
from nst_jax.vgg.taps import check_layers


def measure(
    params: Params,
    content: Image,
    style: StyleImage | Sequence[Any],
    recipe: Recipe,
    *,
    bands: Bands | None = None,
    controls: Controls | None = None,
    size: RealSize | None = None,
    style_sizes: Sequence[RealSize] | None = None,
) -> Targets:
    """Compute the content's features and the targets of the style loss at the recipe's taps.

    A tap is a layer whose output the losses read, such as `"relu2_1"`. Content and style may
    differ in size. The function can be traced by JAX.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] in [0, 1], at the size of the canvas.
      style: [h', w', 3] in [0, 1]; or a list of such pictures: those that are blended with the weights
        `terms.style_shares` of the recipe, then one for each tap in `terms.tap_styles`.
      recipe: taps, losses and network settings.
      bands: how the canvas is distributed over several devices; None means one device.
      controls: regions, protected and transparent parts, from `nst_jax.controls.controls_of`; None if
        there are none. Where there are regions, `style` is a list that ends with their styles.
      size: int32 [2], the (height, width) of the content, if it lies at the top left of a larger array;
        see `nst_jax.features`. The resulting targets are for canvases in arrays as large as that one.
      style_sizes: for each style its int32 [2] (height, width), if the styles lie at the top left of
        larger arrays; None means that the styles fill their arrays.

    Returns:
      `Targets`, to be passed to `step` and `run`.

    Raises:
      TypeError: for arguments of the wrong type, such as swapped ones.
      ValueError: if `params` are weights of another network than VGG-19; if a picture is not floating
        point, not [h, w, 3] or under 16 px on a side; if one of the recipe's `style_shares` is an array
        of several numbers; if one of several shares is negative, not finite, or 1e30 or more, or if
        their sum is at most 1e-30 (the values of traced shares are not checked); if the
        number of styles does not fit the recipe's `style_shares` and `tap_styles`; if tiles or bands
        are used with a loss that is not additive (not computed from sums over positions); if bands are
        used with padding that wraps around and a height that is no multiple of 16 px; or if `size` or
        `style_sizes` is given with a recipe for which `recipes.check_in_bucket` raises an error.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(nst.load_params(), grey, grey, nst.recipes.TF)
      >>> targets.style["relu2_1"].shape
      (128, 128)
    """
    order = "the order is measure(params, content, style, recipe)"
    check_arguments(order, params, recipe, bands)
    styles: Sequence[Any] = style if isinstance(style, (list, tuple)) else [style]
    for name, picture in (("content", content), *(("style", each) for each in styles)):
        _checks.array(name, picture, order)
        _checks.one_image(name, picture, smallest=vgg.SMALLEST, advice="`jax.vmap` takes a batch")
    _check_shares(recipe.terms)
    if controls is not None:
        advice = "`nst_jax.controls.controls_of` makes them of what `checked_controls` returns"
        _checks.instance("controls", controls, Controls, advice)
    if size is not None or style_sizes is not None:
        check_in_bucket(recipe, bands=bands is not None)
    if size is not None:
        # Pixels outside the content may be anything, even NaN. Some losses read them, so they become 0.
        content = cut(content, size)
    if controls is not None:
        return _measure_controlled(
            params, content, styles, recipe, controls, bands, size, style_sizes
        )
    check_styles(recipe.terms, len(styles))
    features = measure_content(params, content, recipe, bands=bands, size=size)
    if isinstance(recipe.terms.style_loss, MatchingLoss):
        found = correspondence.measure_styles(params, styles, recipe)
        return Targets(features, found, photo_of(content, recipe))
    sizes = [None] * len(styles) if style_sizes is None else style_sizes
    statistics = [
        measure_style(params, one, recipe, bands=bands, size=own)
        for one, own in zip(styles, sizes, strict=True)
    ]
    blended = blend(statistics, recipe.terms.style_shares, recipe.terms)
    style_target = style_targets(blended, recipe)
    return Targets(features, style_target, photo_of(content, recipe), size=size)


def _check_shares(terms: Terms) -> None:
    """Refuse a share that is several numbers, and shares that `recipes.check` refuses.

    The value of a traced share is not known. A single share, and those of a loss that reads all styles
    alike, are not used, so their values are not checked.
    """
    argument, shares = "recipe.terms.style_shares", terms.style_shares
    for share in shares:
        if np.size(share) != 1:
            _checks.one_share(argument, share)
    if len(shares) == 1 or isinstance(terms.style_loss, MatchingLoss):
        return
    for share in shares:
        _checks.known_number(argument, share, least=0, below=_checks.LARGEST_SHARE)
    if any(isinstance(share, jax.core.Tracer) for share in shares):
        return
    if not sum(np.asarray(share).item() for share in shares) > 1 / _checks.LARGEST_SHARE:
        raise ValueError(f"`{argument}`: are all 0, so no style remains; give one style a share")


def photo_of(content: Image, recipe: Recipe) -> Image | None:
    """Return the content picture if a loss reads the content's pixels; if none does, None."""
    compared = isinstance(recipe.terms.content_loss, JointContentLoss)
    return content if compared or recipe.terms.matting_weight is not None else None


def _measure_controlled(
    params: Params,
    content: Image,
    styles: Sequence[Any],
    recipe: Recipe,
    controls: Controls,
    bands: Bands | None,
    size: RealSize | None,
    style_sizes: Sequence[RealSize] | None,
) -> Targets:
    """Return the result of `measure` for a run with regions, protected or transparent parts."""
    check_styles(recipe.terms, len(styles) - controls.regions + 1)
    found = measure_masks(controls, recipe, size, style_sizes)
    sizes = [None] * len(styles) if style_sizes is None else style_sizes
    sums = [
        sum_style(params, style, recipe, mask, bands=bands, size=own)
        for style, mask, own in zip(styles, found.styles, sizes, strict=True)
    ]
    shapes: Any = style_sizes
    if style_sizes is None:
        shapes = tuple((style.shape[0], style.shape[1]) for style in styles)
    held = next(iter(found.held), None)
    features = measure_content(params, content, recipe, bands=bands, held=held, size=size)
    style, guides = controlled_style(sums, shapes, found, controls, recipe)
    kept = regions.kept_of(content, controls, size)
    return Targets(features, style, photo_of(content, recipe), guides, kept, size)


def measure_content(
    params: Params,
    content: Image,
    recipe: Recipe,
    *,
    bands: Bands | None = None,
    held: str | None = None,
    size: RealSize | None = None,
) -> Features:
    """Compute the content's features [h', w', c] at the taps (layers) that the content loss reads.

    Args:
      params: the weights of the network.
      content: [h, w, 3] in [0, 1].
      recipe: taps, losses and network settings.
      bands: how the canvas is distributed over several devices; None means one device.
      held: the tap of the additional content loss that keeps protected parts (where a mask keeps the
        content) close to the content; None if there is no such loss.
      size: the real (height, width) of the content, if it lies at the top left of a larger array; None
        means that it fills the array.
    """
    network = recipe.network
    taps = tuple(dict.fromkeys((*recipe.terms.content_taps, *([held] if held else []))))
    if size is not None:
        return vgg.features(params, content, taps, network=network, size=size)
    # On several devices, the features of all tiles lie side by side, and the loss compares those of a
    # tile with those of the same tile of the canvas. So the content must be cut into the same tiles as
    # the canvas. The tiles depend on the width of their halo (the margin around a tile), and so on the
    # layers of all losses, not only of the content loss.
    deciding_taps = taps if bands is None else recipe.terms.taps
    grid = tile_grid.grid_of((content.shape[0], content.shape[1]), deciding_taps, network, bands)
    if grid is None:
        return vgg.features(params, content, taps, network=network)

    def assembled(params: Params, wide: Image) -> Features:
        def of_tile(index: Index) -> Features:
            window = tiles.window(wide, grid, index)
            return vgg.features(params, window, taps, network=network)

        return tiles.assembled(grid, of_tile)

    if bands is None:
        return assembled(params, tiles.surrounded(content, grid))

    def on_device(params: Params, content: Image) -> Features:
        return assembled(params, tiles.slab_of(content, grid))

    return map_bands(on_device, bands, (False, False), split_out=True)(params, content)


def style_targets(statistics: dict[str, Statistic], recipe: Recipe) -> dict[str, Any]:
    """Compute the target of each style loss at each layer from the statistics of a style or a blend.

    The keys of both dictionaries are `StylePart.name`.
    """
    return {part.name: part.loss.target(statistics[part.name]) for part in recipe.terms.style_parts}


def blended_targets(
    sums: Sequence[dict[str, Any]], shapes: Sequence[tuple[int, int]], recipe: Recipe
) -> dict[str, Any]:
    """Return the targets of the style loss for one style or a blend of several.

    Args:
      sums: for each style, the sums over positions that `sum_style` returned.
      shapes: (height, width) of each style, from which the number of positions follows.
      recipe: taps, losses and network settings.
    """
    statistics = [
        statistics_of(each, shape, recipe) for each, shape in zip(sums, shapes, strict=True)
    ]
    return style_targets(blend(statistics, recipe.terms.style_shares, recipe.terms), recipe)


def controlled_style(
    sums: Sequence[dict[str, Any]],
    shapes: Sequence[tuple[int, int]] | Sequence[RealSize],
    found: MaskedTaps,
    controls: Controls,
    recipe: Recipe,
) -> tuple[dict[str, Any], Guides]:
    """Return the targets of the style loss for all regions, stacked, and the `Guides` of the canvas.

    The guides are the masks of the canvas and the weights of the regions. The first region has the
    default style, the blend of the styles without a region.

    Args:
      sums: what `sum_style` returns for each style, then for each region's style.
      shapes: (height, width) of each of these styles: static, or traced arrays.
      found: the masks at the taps (layers), from `measure_masks`.
      controls: the masks and weights of the regions.
      recipe: taps, losses and network settings.
    """
    own = len(sums) - controls.regions + 1
    totals = style_totals(found, recipe)
    statistics = []
    lines: Sequence[Any] = shapes
    for each, shape, mask, of_style in zip(sums, lines, found.styles, totals, strict=True):
        # If a style's mask is 0 everywhere at a tap, the sums of its features are divided by 1 instead
        # of 0. The result does not matter: at this tap, the style's region has weight 0 in the loss.
        safe = mask and {tap: jnp.where(one > 0, one, 1) for tap, one in of_style.items()}
        statistics.append(statistics_of(each, shape, recipe, safe))
    blended = blend(statistics[:own], recipe.terms.style_shares, recipe.terms)
    targets = [style_targets(each, recipe) for each in (blended, *statistics[own:])]
    guides = regions.guides_of(
        found.canvas, jnp.asarray(controls.weights), totals_of_regions(totals, own), found.held
    )
    return stacked_targets(targets), guides


def stacked_targets(targets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the targets of several canvases, or of several regions, stacked along a new first axis.

    The sizes of some targets depend on the style pictures. So that all have the same size, smaller
    arrays are filled up with zeros at the end of each axis. Losses with such targets store the number
    of valid entries as a part of the target.

    Args:
      targets: for each canvas or region, the targets of its style losses by name.
    """

    def stacked(*parts: Any) -> Array:
        if len({part.shape for part in parts}) == 1:
            return jnp.stack(parts)
        longest = [max(sides) for sides in zip(*(part.shape for part in parts), strict=True)]

        def filled(part: Any) -> Array:
            missing = [(0, most - side) for most, side in zip(longest, part.shape, strict=True)]
            return jnp.pad(part, missing)

        return jnp.stack([filled(part) for part in parts])

    return jax.tree.map(stacked, *targets)


def check_arguments(order: str, params: Any, recipe: Any, bands: Bands | None) -> None:
    """Refuse arguments of the wrong type, and tiles or bands where the recipe does not allow them.

    Weights of another network than VGG-19, or without a layer that the recipe needs, are refused, too.
    A picture may be computed in tiles, or in
    bands on several devices, only if all its losses are computed from sums over positions. `order` ends
    a message about a wrong type. It tells users, who may have swapped the arguments, their right order:
    "the order is losses_of(params, ...)".
    """
    _checks.weights_of_vgg(params, Params, f"`nst_jax.load_params()` gives them; {order}")
    _checks.instance("recipe", recipe, Recipe, f"`nst_jax.recipes` has some; {order}")
    check_layers(params, recipe.terms.taps)
    check_not_cut(recipe)
    check_bands_allowed(bands, recipe)
