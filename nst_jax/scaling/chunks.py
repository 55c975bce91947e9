"""How many pictures are painted at once."""

from typing import Any

from jax.sharding import Mesh

from nst_jax import prepare
from nst_jax._types import Shape
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.capacity import MARGIN
from nst_jax.scaling.costs import Footprint
from nst_jax.scaling.layout import laid_over, with_rows


def most_that_fit(footprint: Footprint, there: int | None) -> int | None:
    """Return how many pictures fit at once; at least one, and None where nobody knows.

    Args:
      footprint: of one such picture.
      there: from `available`.

    Returns:
      A number of pictures.
    """
    if there is None:
        return None
    room = there / MARGIN - footprint.weights
    return max(1, int(room // (footprint.total - footprint.weights)))


def chunk_of(count: int, most: int | None) -> int:
    """Return how many pictures of `count` to paint at once so that few programs serve all.

    Chunks of one size share a program, and a smaller last one is another to compile. So a size that
    divides the count is taken, unless it is less than half of what could be.

    Args:
      count: pictures in all.
      most: pictures at once at most; None is any number.

    Returns:
      At least 1, at most `count` and `most`.

    Example:
      >>> chunk_of(8, None), chunk_of(8, 5), chunk_of(9, 5), chunk_of(7, 6)
      (8, 4, 3, 4)
    """
    if most is None or most >= count:
        return count
    dividing = max(size for size in range(1, most + 1) if count % size == 0)
    return dividing if 2 * dividing >= most else -(-count // -(-count // most))


# Pixels of canvas in one program. A processor gains little from a batch and has less memory.
PIXELS_AT_ONCE = {"cpu": 2**19}

PIXELS_AT_ONCE_ELSEWHERE = 2**22


def most_at_once(shape: Shape, platform: str) -> int:
    """Return how many canvases of (height, width) one program may paint."""
    return max(1, PIXELS_AT_ONCE.get(platform, PIXELS_AT_ONCE_ELSEWHERE) // (shape[0] * shape[1]))


def at_once(
    recipe: Recipe,
    scale: prepare.Scale,
    count: int,
    chunk: int | None,
    mesh: Mesh | None,
    device: Any = None,
) -> tuple[Recipe, int]:
    """Return how pictures of one canvas shape are brought into memory.

    Args:
      recipe: of all of them.
      scale: the final one, with the shapes of all styles.
      count: of the pictures.
      chunk: as in `stylize_many`.
      mesh: of the devices, or None.
      device: that the weights are on; None is jax's default.

    Returns:
      The recipe with what memory settled, and how many are painted at once.

    Raises:
      ValueError: if no picture fits in any way.
    """
    recipe = with_rows(recipe, mesh_of_rows(mesh), scale.shape)
    recipe = capacity.fitted(recipe, scale, device, mesh)
    recipe = laid_over(recipe, mesh_of_rows(mesh), scale.shape)  # anew, since tiles are settled now
    most = chunk
    if chunk is None:
        there, platform = capacity.place_of(recipe, device, mesh)
        footprint = capacity.taken(recipe, scale, platform)
        most = most_that_fit(footprint, there)
        if most is not None and mesh is not None and platform != "cpu":
            most *= sharding.pictures_of(mesh)  # each has memory of its own
    return recipe, _per_device(count, most, sharding.pictures_of(mesh))


def refuse(recipe: Recipe, scale: prepare.Scale, mesh: Mesh | None) -> None:
    """Refuse a picture that memory holds in no way, or that is too low for the devices of its rows.

    Raises:
      ValueError: saying so.
    """
    capacity.fitted(with_rows(recipe, mesh_of_rows(mesh), scale.shape), scale, mesh=mesh)


def in_one_memory(count: int, mesh: Mesh | None, platform: str) -> int:
    """Return how many of so many pictures at once share a memory: all of them on a processor."""
    return count if platform == "cpu" else max(1, count // sharding.pictures_of(mesh))


def mesh_of_rows(mesh: Mesh | None) -> Mesh | None:
    """Return a batch's mesh if devices share the rows of its pictures, else None."""
    return mesh if mesh is not None and sharding.ROWS in mesh.shape else None


def _per_device(count: int, most: int | None, devices: int) -> int:
    """Return how many pictures to paint at once: as many for each of the devices."""
    each = None if most is None else max(1, most // devices)
    return devices * chunk_of(-(-count // devices), each)


def group_size(count: int, shape: tuple[int, int], platform: str, devices: int = 1) -> int:
    """Return how many canvases are painted at once: equal groups, so that one program serves all.

    Args:
      count: canvases in all.
      shape: height and width of each.
      platform: of the device; a processor has less memory to give.
      devices: how many share a group.

    Returns:
      A divisor of `count`.

    Example:
      >>> group_size(20, (128, 128), "cpu"), group_size(20, (256, 256), "cpu")
      (20, 5)
    """
    most = devices * most_at_once(shape, platform)
    return max(size for size in range(1, count + 1) if count % size == 0 and size <= most)
