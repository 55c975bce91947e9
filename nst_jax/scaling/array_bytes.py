"""Bytes of memory that arrays take, computed from their shapes and types."""

from typing import Any

import jax
import jax.numpy as jnp

from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe

FLOAT32_BYTES = 4  # bytes of one float32 element


def size_in_bytes(shapes: Any) -> int:
    """Return how many bytes the arrays of a pytree have together; they may be `ShapeDtypeStruct`s."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))


def bytes_of_picture(shape: Shape) -> int:
    """Return the bytes of a picture of this (height, width): three channels, in float32."""
    return 3 * FLOAT32_BYTES * shape[0] * shape[1]


def bytes_per_activation(recipe: Recipe) -> int:
    """Return the number of bytes of one element of the activations, by the recipe's precision."""
    return recipe.network.precision_on().activations_of(jnp.float32).itemsize
