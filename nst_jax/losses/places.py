"""Random places of a picture at which losses read features, where all places would be too many.

Each update draws places of its own, by a random key that is made from the number of the update. So a
run can be repeated, and resumed, with the same places.
"""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from nst_jax._types import Shape

Places: TypeAlias = Int[Array, "n 2"]  # (row, column) of each place, in pixels of the picture

SEED = 0  # of all random choices here, so that every run makes the same choices

GRID = 128  # about how many lines a grid has along each side
REDRAWN_EVERY = 10  # updates that share one grid


def key_of(number: Int[Array, ""] | int) -> Array:
    """Return the random key of an update, or of another whole number."""
    return jax.random.fold_in(jax.random.key(SEED, impl="threefry2x32"), number)


def grid_lines(first: Int[Array, ""] | int, side: int, stride: int) -> Int[Array, " lines"]:
    """Return every `stride`th of `side` lines, beginning with `first`, which is below `stride`.

    They are side // stride lines, but at least one: their number does not depend on `first`, although
    some values of it would leave room for one more line.
    """
    lines = first + stride * jnp.arange(max(1, side // stride))
    return jnp.minimum(lines, side - 1).astype(jnp.int32)


def grid_stride(shape: Shape) -> int:
    """Return the distance of two lines of the grid over a picture of this (height, width)."""
    return max(1, math.isqrt(shape[0] * shape[1] // GRID**2))


def number_of_places(shape: Shape, most: int) -> int:
    """Return how many places `random_places` returns."""
    down, across = (max(1, side // grid_stride(shape)) for side in shape)
    return min(most, down * across)


def random_places(step: Int[Array, ""] | int, shape: Shape, most: int) -> Places:
    """Return random places on a grid over a picture, none of them twice.

    The grid has about 128 x 128 places, or all pixels of a smaller picture. Where it begins is drawn
    anew every 10 updates; which of its places are taken is drawn in every update.

    Args:
      step: number of the update, counted at its scale.
      shape: (height, width) of the picture.
      most: the largest number of places. Static.

    Returns:
      (row, column) of `most` places, or of all places of the grid if it has fewer.

    Example:
      >>> from nst_jax.losses import random_places
      >>> random_places(3, (40, 30), 1024).shape, random_places(3, (5, 6), 1024).shape
      ((1024, 2), (30, 2))

    References:
      nkolkin13/STROTSS @ 9a1543a3, as it is meant: the source's code goes on with its first grid, and
      shuffles rows and columns apart, so that a place may come twice.
    """
    stride = grid_stride(shape)
    first = jax.random.randint(key_of(step // REDRAWN_EVERY), (2,), 0, stride)
    rows, columns = (grid_lines(first[axis], shape[axis], stride) for axis in (0, 1))
    shuffling = jax.random.fold_in(key_of(step), 1)
    taken = jax.random.permutation(shuffling, len(rows) * len(columns))[:most]
    return jnp.stack([rows[taken // len(columns)], columns[taken % len(columns)]], axis=-1)


def random_pixels(number: int, shape: Shape, most: int) -> Places:
    """Return random pixels of a picture, none of them twice.

    Args:
      number: number of the draw; each has a random key of its own.
      shape: (height, width) of the picture.
      most: the largest number of pixels. Static.

    Returns:
      (row, column) of `most` pixels, or of all pixels of a smaller picture.
    """
    count = shape[0] * shape[1]
    taken = jax.random.permutation(jax.random.fold_in(key_of(number), count), count)[:most]
    return jnp.stack([taken // shape[1], taken % shape[1]], axis=-1).astype(jnp.int32)
