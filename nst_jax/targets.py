"""Targets: what a canvas is compared with, measured once per scale."""

from collections.abc import Sequence
from typing import Any

import jax
from jax import lax

from nst_jax import sharding, tiles, vgg
from nst_jax._types import Features, Image, Params, Scalar, Statistic, StyleImage, Targets
from nst_jax.recipe import Recipe, check_styles
from nst_jax.tiles import Index


def measure(
    params: Params, content: Image, style: StyleImage | Sequence[Any], recipe: Recipe
) -> Targets:
    """Measure the content's features and the style's statistics at the recipe's taps.

    Traceable. The two pictures need not have the same size: a style statistic does not depend on
    its picture's.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] in [0, 1], the canvas' size.
      style: [h', w', 3] in [0, 1]; or several, which are blended by the recipe's `style_shares`.
      recipe: taps, losses and network settings.

    Returns:
      `Targets`, passed to the loop as an argument.

    Raises:
      ValueError: if there are not as many styles as the recipe has shares.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(nst.load_params(), grey, grey, nst.recipes.TF)
      >>> targets.style["relu2_1"].shape
      (128, 128)
    """
    styles: Sequence[Any] = style if isinstance(style, (list, tuple)) else [style]
    check_styles(recipe.terms, len(styles))
    return Targets(
        content=measure_content(params, content, recipe),
        style=blend(
            [measure_style(params, one, recipe) for one in styles], recipe.terms.style_shares
        ),
    )


def measure_content(params: Params, content: Image, recipe: Recipe) -> Features:
    """Measure the content's features [h', w', c] at the recipe's content taps."""
    taps, network, rows = recipe.terms.content_taps, recipe.network, recipe.rows
    # Cut as the canvas is cut that is compared with it, which is looked at more deeply.
    cut_for = taps if rows is None else recipe.terms.taps
    grid = tiles.grid_of((content.shape[0], content.shape[1]), cut_for, network, rows)
    if grid is None:
        return vgg.features(params, content, taps, network=network)

    def assembled(params: Params, content: Image) -> Features:
        def of_tile(index: Index) -> Features:
            window = tiles.window(content, grid, index)
            return vgg.features(params, window, taps, network=network)

        return tiles.assembled(grid, of_tile)

    if rows is None:
        return assembled(params, content)

    def of_device(params: Params, content: Image) -> Features:
        return assembled(params, tiles.band_of(content, grid))

    return sharding.by_rows(of_device, rows, (False, False), split_out=True)(params, content)


def measure_style(params: Params, style: StyleImage, recipe: Recipe) -> dict[str, Statistic]:
    """Measure the style's statistics at the recipe's style taps."""
    terms, network = recipe.terms, recipe.network
    loss, products = terms.style_loss, network.precision.products
    shape = (style.shape[0], style.shape[1])
    rows = recipe.rows and tiles.rows_of(recipe.rows.mesh, shape, network)
    grid = tiles.grid_of(shape, terms.style_taps, network, rows)
    if grid is None:
        found = vgg.features(params, style, terms.style_taps, network=network)
        return {tap: loss.measure(found[tap], products) for tap in terms.style_taps}

    def summed(params: Params, style: StyleImage) -> dict[str, Any]:
        def of_tile(index: Index) -> dict[str, Any]:
            window = tiles.window(style, grid, index)
            found = vgg.features(params, window, terms.style_taps, network=network)
            return {
                tap: loss.sums(tiles.core(found[tap], grid, index, tap), products)
                for tap in terms.style_taps
            }

        return tiles.summed(grid, of_tile)

    def of_device(params: Params, style: StyleImage) -> dict[str, Any]:
        sums = summed(params, tiles.band_of(style, grid))
        return jax.tree.map(lambda x: lax.psum(x, sharding.ROWS), sums)

    whole = (
        summed
        if rows is None
        else sharding.by_rows(of_device, rows, (False, False), split_out=False)
    )
    sums = whole(params, style)
    return {tap: loss.statistic(sums[tap], grid.positions(tap)) for tap in terms.style_taps}


def blend(statistics: Sequence[Any], shares: Sequence[Scalar | float]) -> Any:
    """Average what was measured of several styles.

    A loss that is a square distance has the same gradient towards this average as the average of the
    losses towards each style; its value is smaller by how far the styles are from one another.

    Args:
      statistics: one of each style.
      shares: how much each counts, of any sum; a single one stands for as many alike.

    Returns:
      A statistic of the same kind; that of a single style is left as it is.

    References:
      jcjohnson/neural-style and neural-style-pt, `style_blend_weights`.
    """
    if len(statistics) == 1:
        return statistics[0]
    if len(shares) == 1:
        shares = [1.0] * len(statistics)
    weights = [share / sum(shares) for share in shares]
    return jax.tree.map(
        lambda *parts: sum(weight * part for weight, part in zip(weights, parts, strict=True)),
        *statistics,
    )
