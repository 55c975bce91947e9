"""How a canvas is laid out over devices."""

from dataclasses import replace
from typing import Any

import jax

from nst_jax._types import Shape
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import sharding, tiles
from nst_jax.scaling.sharding import AnyMesh, Rows


def with_rows(recipe: Recipe, mesh: AnyMesh | None, shape: Shape) -> Recipe:
    """Return the recipe with a canvas of (height, width) laid over the devices of a mesh, if any.

    Raises:
      ValueError: if one of them would have nothing of it.
    """
    if mesh is None:
        return recipe
    recipe = laid_over(recipe, mesh, shape)
    assert recipe.rows is not None
    sharding.check(recipe.rows)
    return recipe


def laid_over(recipe: Recipe, mesh: AnyMesh | None, shape: Shape) -> Recipe:
    """Do what `with_rows` does, for a scale on the way as well, where devices may have nothing."""
    rows = None if mesh is None else tiles.rows_of(mesh, shape, recipe.network)
    return replace(recipe, rows=rows)


def laid_out(tree: Any, rows: Rows | None) -> Any:
    """Lay arrays [..., h, w, 3] that one device has out over those of a canvas."""
    if rows is None:
        return tree
    return _with_padding(sharding.everywhere(tree, rows.mesh), rows)


_with_padding = jax.jit(sharding.with_padding, static_argnums=1)
