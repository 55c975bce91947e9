"""Numbers of the recipe that differ between the pictures of a batch, such as loss weights.

Such a number is an array with one entry for each picture. A number that all pictures share is a scalar.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

import jax
import numpy as np

from nst_jax import recipes
from nst_jax.recipes.recipe import Recipe

# The `vmap` axis of each leaf of the recipe, a pytree of numbers: 0 if the leaf is an array with one
# number for each picture; None if the leaf is a single number, which all pictures share.
Axes: TypeAlias = tuple[int | None, ...]


def recipe_of_pictures(recipe: Recipe, indices: Sequence[int]) -> Recipe:
    """Return the recipe for some pictures of a batch, with its numbers as JAX arrays.

    If a batch compares several values of a number, such as a loss weight, the number is an array with
    one entry for each picture of the batch. From such an array, the entries of the wanted pictures are
    taken. An array with a single entry holds for all pictures.

    Args:
      recipe: the recipe of the whole batch.
      indices: the wanted pictures, by their indices in the batch.
    """
    take = np.asarray(indices)
    return recipes.with_numbers(
        recipes.as_arrays(recipe.bare()),
        # With the remainder `%`, an array with a single entry serves all pictures.
        lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf,
    )


def axes_of(recipe: Recipe) -> Axes:
    """Return the `vmap` axis of each number of a recipe, such as a loss weight, in pytree order.

    The axis is 0 for an array with an entry for each picture, and None for a single number. `recipe`
    must be the result of `Recipe.at` for one scale (resolution): the recipe of the whole run may have
    other leaves.
    """
    return tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(recipe))


def axes_tree(axes: Axes, recipe: Recipe) -> Recipe:
    """Return the `vmap` axes from `axes_of` as a pytree with the structure of the recipe."""
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


def shares_of_picture(recipe: Recipe, place: int) -> tuple[Any, ...]:
    """Return the weights by which the styles of one picture are blended.

    Args:
      recipe: the recipe of the pictures that are painted together, from `recipe_of_pictures`.
      place: the index of the picture among these.
    """
    return jax.tree.map(
        lambda share: share[place] if share.ndim else share, recipe.terms.style_shares
    )
