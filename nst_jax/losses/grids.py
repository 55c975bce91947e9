"""Random grids of places, at which losses read features that are too many to compare all of them.

Every update draws its own places. The key of an update is `key_of_update`, so that a run can be
repeated and resumed.
"""

import math
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from nst_jax._types import Shape

Places: TypeAlias = Int[Array, "n 2"]  # (row, column) of each place

GRID = 128  # about how many lines a grid has along each side
REDRAWN_EVERY = 10  # updates that share one grid


def key_of_update(step: Int[Array, ""] | int) -> Array:
    """Return the random key of an update: `fold_in(key(0), step)`.

    Args:
      step: number of the update, counted at its scale.
    """
    return jax.random.fold_in(jax.random.key(0), step)


def grid_lines(first: Int[Array, ""] | int, side: int, stride: int) -> Int[Array, " lines"]:
    """Return every `stride`th line of a picture, beginning with the line `first`.

    Args:
      first: index of the first line, below `stride`.
      side: number of lines of the picture.
      stride: distance of two lines.

    Returns:
      The indices of side // stride lines, but at least one. So their number does not depend on `first`;
      some beginnings would leave room for one more line.

    Example:
      >>> from nst_jax.losses.grids import grid_lines
      >>> grid_lines(2, 10, 3).tolist(), grid_lines(2, 2, 3).tolist()
      ([2, 5, 8], [1])
    """
    lines = first + stride * jnp.arange(max(1, side // stride))
    return jnp.minimum(lines, side - 1).astype(jnp.int32)


def random_places(step: Int[Array, ""] | int, shape: Shape, count: int) -> Places:
    """Return random places of a coarse grid over a picture, without repetitions.

    The grid has about 128 x 128 places, or all pixels of a smaller picture. Its beginning is drawn anew
    every 10 updates; which places of it are taken is drawn in every update.

    Args:
      step: number of the update, counted at its scale.
      shape: (height, width) of the picture.
      count: the largest number of places. Static.

    Returns:
      (row, column) of `count` places, or of the whole grid if it has fewer.

    Example:
      >>> from nst_jax.losses.grids import random_places
      >>> random_places(3, (40, 30), 1024).shape, random_places(3, (5, 6), 1024).shape
      ((1024, 2), (30, 2))

    References:
      nkolkin13/STROTSS @ 9a1543a3.
    """
    stride = max(1, math.isqrt(shape[0] * shape[1] // GRID**2))
    first = jax.random.randint(key_of_update(step // REDRAWN_EVERY), (2,), 0, stride)
    rows, columns = (grid_lines(first[axis], shape[axis], stride) for axis in (0, 1))
    total = len(rows) * len(columns)
    shuffling = jax.random.fold_in(key_of_update(step), 1)
    taken = jax.random.permutation(shuffling, total)[:count]
    return jnp.stack([rows[taken // len(columns)], columns[taken % len(columns)]], axis=-1)
