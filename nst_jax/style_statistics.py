"""Compute the statistics of styles, such as Gram matrices, and blend those of several styles.

They are computed from sums over the positions of a style's features. The sums of a large style are
added up tile by tile: the core of a tile is the part of the picture that belongs to this tile alone,
and its window is the core with a halo, the margin of pixels around the core on which the core's
features depend. If several devices share a style, each computes one band of it, a horizontal strip.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nst_jax import vgg
from nst_jax._real_size import as_counts
from nst_jax._types import Features, Params, RealSize, Scalar, Statistic, StyleImage
from nst_jax.masks_at_taps import StyleMasks
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.terms import StylePart, Terms
from nst_jax.scaling import tile_grid, tiles
from nst_jax.scaling.bands import Bands, bands_of, map_bands
from nst_jax.scaling.sharding import BANDS
from nst_jax.scaling.tile_grid import Grid, Index
from nst_jax.vgg.sized_layers import feature_size


def measure_style(
    params: Params,
    style: StyleImage,
    recipe: Recipe,
    *,
    bands: Bands | None = None,
    size: RealSize | None = None,
) -> dict[str, Statistic]:
    """Compute the style's statistics at the taps (layers) that the style loss reads.

    Args:
      params: the weights of the network.
      style: [h', w', 3] in [0, 1].
      recipe: taps, losses and network settings.
      bands: how the canvas is distributed over several devices; None means one device. The same devices
        share the style picture: each computes one band of it, whose height follows from the style's
        height. But if the network pads each border with the pixels of the opposite border, each device
        computes the whole style: with this padding, only heights that are multiples of 16 px can be
        cut, and a style may have any height. If `size` is given, each device computes the whole style,
        too.
      size: the real (height, width) of the style, if it lies at the top left of a larger array; None
        means that it fills the array.
    """
    sums = sum_style(params, style, recipe, bands=bands, size=size)
    shape = (style.shape[0], style.shape[1]) if size is None else size
    return statistics_of(sums, shape, recipe)


def sum_style(
    params: Params,
    style: StyleImage,
    recipe: Recipe,
    masks: StyleMasks = None,
    *,
    bands: Bands | None = None,
    size: RealSize | None = None,
) -> dict[str, Any]:
    """Return the sums over the positions of a style's features from which statistics are computed.

    Args:
      params: the weights of the network.
      style: [h', w', 3] in [0, 1].
      recipe: taps, losses and network settings.
      masks: the masks of the style at the taps (layers that the style loss reads). A position where a
        mask has the value T counts T² times. None means that every position counts once.
      bands: how the canvas is distributed over several devices; None means one device. The same devices
        share the style, unless the network's padding wraps around or `size` is given.
      size: the real (height, width) of the style, if it lies at the top left of a larger array; None
        means that it fills the array.

    Returns:
      A dictionary: name of a style loss at a tap (`StylePart.name`) -> its sums.
    """
    terms, network = recipe.terms, recipe.network
    if size is not None:
        found = vgg.features(params, style, terms.every_style_tap, network=network, size=size)
        return _sums_of_parts(found, masks, recipe)
    style_bands = None
    if bands is not None and not network.wraps:
        style_bands = bands_of(bands.mesh, (style.shape[0], style.shape[1]), network)
    grid = style_grid(style, recipe, style_bands)
    if grid is None:
        found = vgg.features(params, style, terms.every_style_tap, network=network)
        return _sums_of_parts(found, masks, recipe)

    def summed(params: Params, style: StyleImage, masks: StyleMasks) -> dict[str, Any]:
        return tiles.summed(grid, partial(_style_sums, params, style, recipe, masks, grid))

    def on_device(params: Params, style: StyleImage, masks: StyleMasks) -> dict[str, Any]:
        sums = summed(params, tiles.slab_of(style, grid), masks)
        return jax.tree.map(lambda x: lax.psum(x, BANDS), sums)

    if style_bands is None:
        return summed(params, style, masks)
    return map_bands(on_device, style_bands, (False, False, False), split_out=False)(
        params, style, masks
    )


def _sums_of_parts(found: Features, masks: StyleMasks, recipe: Recipe) -> dict[str, Any]:
    """Return the sums of features over all positions; style statistics are computed from these sums.

    Args:
      found: the features of a style, or of one tile of it: name of the tap (layer) -> [h', w', c].
      masks: the values of the masks at the same positions, by tap. A position where a mask has the
        value T counts T² times. None means that every position counts once.
      recipe: taps, losses and network settings.

    Returns:
      A dictionary: name of a style loss at a tap (`StylePart.name`) -> its sums.
    """
    products = recipe.network.precision_on().products

    def of_part(part: StylePart) -> Any:
        if masks is None:
            return part.loss.sums(found[part.tap], products)
        return part.loss.sums_of_masked(found[part.tap], masks[part.tap], products)

    return {part.name: of_part(part) for part in recipe.terms.style_parts}


def style_grid(style: StyleImage, recipe: Recipe, bands: Bands | None = None) -> Grid | None:
    """Return how a style is cut into tiles; None if its features are computed in one piece."""
    shape = (style.shape[0], style.shape[1])
    return tile_grid.style_grid_of(shape, recipe.terms.every_style_tap, recipe.network, bands)


def _style_sums(
    params: Params,
    style: StyleImage,
    recipe: Recipe,
    masks: StyleMasks,
    grid: Grid,
    index: Index,
) -> dict[str, Any]:
    """Return the sums from which style statistics are computed, over one tile of a style.

    The network gets the tile's window: its core and the halo, on which the core's features depend. The
    features of the halo are left out of the sums.
    """
    taps, window = recipe.terms.every_style_tap, tiles.window(style, grid, index)
    found = vgg.features(params, window, taps, network=recipe.network)
    cores = {tap: tiles.core(found[tap], grid, index, tap) for tap in taps}
    parts = masks and {
        tap: tiles.part_of_whole(masks[tap][..., None], grid, index, tap)[..., 0] for tap in taps
    }
    return _sums_of_parts(cores, parts, recipe)


def no_sums(style: StyleImage, recipe: Recipe) -> dict[str, Any]:
    """Return zeros in the shapes of the sums over a style's features that `sum_style` returns.

    `add_style_tile` adds the sums of each tile to these zeros.
    """
    terms, precision = recipe.terms, recipe.network.precision_on()

    def zeros(part: StylePart) -> Any:
        channels = vgg.LAYERS[vgg.layer_of(part.tap)][1]
        one = jax.ShapeDtypeStruct((1, 1, channels), precision.activations_of(style.dtype))
        shapes = jax.eval_shape(lambda x: part.loss.sums(x, precision.products), one)
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

    return {part.name: zeros(part) for part in terms.style_parts}


def add_style_tile(
    params: Params,
    style: StyleImage,
    sums: Any,
    index: Index,
    recipe: Recipe,
    masks: StyleMasks = None,
) -> dict[str, Any]:
    """Add the sums over one more tile of a style to `sums`, and return the result.

    Style statistics, such as Gram matrices, are computed from these sums. After calls for all tiles in
    turn, beginning with the zeros of `no_sums`, the result is bit for bit that of `sum_style`.

    Args:
      params: the weights of the network.
      style: [h, w, 3] in [0, 1], so large that `style_grid` cuts it into tiles.
      sums: the sums over the tiles before this one.
      index: number of the tile, from 0.
      recipe: taps, losses and network settings.
      masks: for each tap (layer that the style loss reads), the style's mask there, [h', w']. A
        position where a mask has the value T counts T² times. None means that every position counts
        once.
    """
    grid = style_grid(style, recipe)
    assert grid is not None
    return jax.tree.map(jnp.add, sums, _style_sums(params, style, recipe, masks, grid, index))


def statistics_of(
    sums: dict[str, Any],
    shape: tuple[int, int] | RealSize,
    recipe: Recipe,
    totals: dict[str, Scalar] | None = None,
) -> dict[str, Statistic]:
    """Return the statistics of a style, computed from the sums over its positions.

    Args:
      sums: what `sum_style` returned.
      shape: (height, width) of the style, from which the number of positions follows; it may be a
        traced array.
      recipe: taps, losses and network settings.
      totals: for a style with a mask, the sum of T² at each tap (layer), where T is the value of the
        mask at a position. `sums` weigh each position by T², so they are divided by the sum of these
        weights in place of the number of positions. None means that the style has no mask.
    """

    def statistic(part: StylePart) -> Statistic:
        if totals is not None:
            return part.loss.statistic(sums[part.name], totals[part.tap])
        if isinstance(shape, tuple):
            lines: Any = vgg.feature_shape(part.tap, *shape, recipe.network.ceil)
        else:
            real = feature_size(part.tap, shape, recipe.network.ceil)
            lines = as_counts(real, jax.tree.leaves(sums)[0].dtype)
        return part.loss.statistic(sums[part.name], lines[0] * lines[1])

    return {part.name: statistic(part) for part in recipe.terms.style_parts}


def blend(
    statistics: Sequence[dict[str, Statistic]], shares: Sequence[Scalar | float], terms: Terms
) -> dict[str, Statistic]:
    """Blend the statistics of several styles. For most losses, the blend is their weighted average.

    Take losses that are the squared distance of the canvas' statistics to a target. One such loss has
    the weighted average as its target. The weighted average of several such losses, each with the
    statistics of a single style as its target, is larger by a constant: the variance of the styles'
    statistics. So the gradient is the same.

    Args:
      statistics: the statistics of each style: first of the styles that are blended, then of the style
        of each layer in `terms.tap_styles`.
      shares: weights of the styles that are blended, with any positive sum; a single weight means equal
        shares.
      terms: the recipe's terms. They contain the style losses, each with a function `blend` for its
        statistics, and `tap_styles`, the layers at which a single style replaces the blend.

    Returns:
      The statistics of the blend; at the layers in `terms.tap_styles`, those of the layer's own style.
      If a single style is blended, its statistics are returned unchanged.

    References:
      jcjohnson/neural-style and neural-style-pt, the option `style_blend_weights`.
    """
    if terms.tap_styles:
        common = terms.blended_styles(statistics)
        of_tap = dict(zip(terms.tap_styles, statistics[len(common) :], strict=True))
        blended = blend(common, shares, replace(terms, tap_styles=()))
        return {part.name: of_tap.get(part.tap, blended)[part.name] for part in terms.style_parts}
    if len(statistics) == 1:
        return statistics[0]
    if len(shares) == 1:
        shares = [1.0] * len(statistics)
    weights = [share / sum(shares) for share in shares]
    return {
        part.name: part.loss.blend([each[part.name] for each in statistics], weights)
        for part in terms.style_parts
    }
