"""Random places of a picture, at which losses read features if all positions would be too many.

`random_places` draws new places in each update, with a random key that is made from the number of the
update. `random_pixels` draws pixels with a key that is made from a number of the caller's choice. So a
run can be repeated, or interrupted and resumed, with the same places.
"""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from nst_jax._types import Shape

Places: TypeAlias = Int[Array, "n 2"]  # (row, column) of n places, in pixels of the picture

# Seed of all random choices in this module. It is fixed, so that every run makes the same choices.
SEED = 0

# `random_places` chooses among the places of a grid: every s-th row and column of the picture, where
# s = max(1, floor(sqrt(height * width) / GRID)). So the grid of a square picture of at least `GRID`
# rows has from `GRID` to 2 * `GRID` - 1 rows.
GRID = 128
# Number of updates after which the first row and the first column of the grid are drawn anew.
REDRAWN_EVERY = 10


def key_of(number: Int[Array, ""] | int) -> Array:
    """Return the random key that belongs to a whole number, such as the number of an update."""
    return jax.random.fold_in(jax.random.key(SEED, impl="threefry2x32"), number)


def grid_lines(first: Int[Array, ""] | int, side: int, stride: int) -> Int[Array, " lines"]:
    """Return the indices of every `stride`th row of a picture, or of every `stride`th column.

    The result has side // stride indices, but at least one. If `first` is small, the picture may have
    one more such row. It is left out, so that the number of indices does not depend on `first`.

    Args:
      first: the first index to return, less than `stride`; if the picture has no such row (or column),
        the index of the last one is returned instead.
      side: how many rows (or columns) the picture has.
      stride: the distance of two successive indices.
    """
    lines = first + stride * jnp.arange(max(1, side // stride))
    return jnp.minimum(lines, side - 1).astype(jnp.int32)


def grid_stride(shape: Shape) -> int:
    """Return the distance in px between neighbouring rows of the grid that `random_places` uses.

    The distance between neighbouring columns is the same. `shape` is the (height, width) of the picture
    in px.
    """
    return max(1, math.isqrt(shape[0] * shape[1] // GRID**2))


def number_of_places(shape: Shape, most: int) -> int:
    """Return how many places `random_places` returns: `most`, or all places of its grid if fewer.

    `most` is the largest number of places, and `shape` the (height, width) of the picture in px.
    """
    down, across = (max(1, side // grid_stride(shape)) for side in shape)
    return min(most, down * across)


def random_places(step: Int[Array, ""] | int, shape: Shape, most: int) -> Places:
    """Return random places on a grid over a picture, none of them twice.

    The grid consists of every s-th row and column of the picture, where s is sqrt(height * width) / 128
    rounded down, but at least 1. It has height / s rows and width / s columns, rounded down, but at
    least one of each; see `grid_lines`. The first row and the first column of the grid are drawn anew
    every 10 updates. Which places of the grid are returned is drawn anew in every update.

    Args:
      step: number of the update, counted from 0 at each scale (resolution) of a run.
      shape: (height, width) of the picture in px.
      most: the largest number of places. Static.

    Returns:
      [n, 2], the (row, column) of each place in px. Their number n is `most`, or the number of all
      places of the grid if the grid has fewer.

    Example:
      >>> from nst_jax.losses import random_places
      >>> random_places(3, (40, 30), 1024).shape, random_places(3, (5, 6), 1024).shape
      ((1024, 2), (30, 2))

    References:
      nkolkin13/STROTSS @ 9a1543a3, whose code has two differences, apparently mistakes: it never draws
      a new grid, and it shuffles rows and columns separately, so that a place may occur twice.
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
      number: a whole number, which determines the random key: for pictures of the same shape, the same
        number gives the same pixels.
      shape: (height, width) of the picture in px.
      most: the largest number of pixels. Static.

    Returns:
      [n, 2], the (row, column) of each pixel. Their number n is `most`, or the number of all pixels if
      the picture has fewer.
    """
    count = shape[0] * shape[1]
    taken = jax.random.permutation(jax.random.fold_in(key_of(number), count), count)[:most]
    return jnp.stack([taken // shape[1], taken % shape[1]], axis=-1).astype(jnp.int32)
