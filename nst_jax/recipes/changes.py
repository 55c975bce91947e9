"""Variants of a recipe: other sizes, strength, learning rate and options of a run."""

from dataclasses import replace
from typing import Any

from nst_jax import _checks
from nst_jax.recipes import presets, sizes
from nst_jax.recipes.recipe import Recipe, check
from nst_jax.recipes.sizes import Size
from nst_jax.vgg.network import Network
from nst_jax.vgg.precision import named


def with_learning_rate(recipe: Recipe, rate: Any) -> Recipe:
    """Return the recipe with another learning rate, or an array of them.

    Raises:
      ValueError: if its optimiser has none, with the recipes whose optimiser has.
    """
    optimizer: Any = recipe.descent.optimizer
    if not hasattr(optimizer, "learning_rate"):
        others = [
            name
            for name, preset in presets.PRESETS.items()
            if hasattr(preset.descent.optimizer, "learning_rate")
        ]
        raise ValueError(
            f"`learning_rate`: recipe {recipe.name!r} has none, its {type(optimizer).__name__} "
            f"finds its own moves; recipes that take one: {', '.join(others)}"
        )
    optimizer = replace(optimizer, learning_rate=rate)
    return replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))


def with_strength(recipe: Recipe, strength: float) -> Recipe:
    """Return the recipe with its style weighed by 100^(2 strength - 1): one dial for every recipe.

    Args:
      recipe: the starting point.
      strength: 0 (a hundredth of the preset's style) to 1 (a hundred times); 0.5 is the preset.

    Returns:
      The recipe with another `style_weight`.

    Raises:
      ValueError: if `strength` is not between 0 and 1.

    Example:
      >>> from nst_jax import recipes
      >>> with_strength(recipes.TF, 0.75).terms.style_weight
      0.1
    """
    _checks.number("strength", strength, least=0)
    if strength > 1:
        raise ValueError(f"`strength`: expected 0 to 1 (0.5 is the recipe's own), got {strength:g}")
    weight = recipe.terms.style_weight * 100.0 ** (2 * strength - 1)
    return replace(recipe, terms=replace(recipe.terms, style_weight=weight))


def with_sizes(recipe: Recipe, size: sizes.Size = None, style_size: sizes.Size = None) -> Recipe:
    """Return the recipe with its size rules replaced by what the caller said.

    Args:
      recipe: whose rules are the starting point.
      size: for the content and, unless said otherwise, the style; see `sizes.with_size`.
      style_size: for the style alone.

    Returns:
      The recipe to prepare with.
    """
    rule = sizes.with_size(recipe.pictures.size, size, argument="size")
    own = recipe.pictures.style_size
    if style_size is not None:
        own = sizes.with_size(own or rule, style_size, argument="style_size")
    elif size is not None and not hasattr(own, "beside"):
        own = own and sizes.with_size(own, size, argument="size")
    return replace(recipe, pictures=replace(recipe.pictures, size=rule, style_size=own))


TILE_WORDS = {"auto": None, "off": 0}  # what `tile` may be beside a number


def with_options(
    recipe: Recipe,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
) -> Recipe:
    """Return the checked recipe with what the caller said beside it in it."""
    if isinstance(recipe, Recipe):
        recipe = replace(recipe, network=_network_with(recipe.network, precision, tile))
    if steps is not None and isinstance(recipe, Recipe):
        recipe = replace(recipe, descent=replace(recipe.descent, steps=steps))
    return with_sizes(check(recipe), size, style_size)


def _network_with(network: Network, precision: str | None, tile: int | str | None) -> Network:
    if precision is not None:
        network = replace(network, precision=named(precision))
    if isinstance(tile, str):
        if tile not in TILE_WORDS:
            raise _checks.unknown("tile", tile, TILE_WORDS, "tile, beside pixels,")
        return replace(network, tile=TILE_WORDS[tile])
    return network if tile is None else replace(network, tile=tile)
