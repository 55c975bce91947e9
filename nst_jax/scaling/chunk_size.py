"""The number of pictures painted at once: as many as fit into memory and are worthwhile."""

from collections.abc import Hashable

from nst_jax._types import Shape
from nst_jax.scaling.capacity import MARGIN
from nst_jax.scaling.costs import Footprint
from nst_jax.scaling.sharding import AnyMesh, pictures_in_parallel

# Pixels of all canvases in one program. A CPU gains little from larger batches and has less memory.
PIXELS_AT_ONCE: dict[Hashable, int] = {"cpu": 2**19}
PIXELS_AT_ONCE_ELSEWHERE = 2**22


def largest_chunk(footprint: Footprint, available: int | None) -> int | None:
    """Return how many pictures fit into memory at once: at least one; None if memory is not known.

    Args:
      footprint: the memory of one picture.
      available: bytes that the device can allocate.
    """
    if available is None:
        return None
    room = available / MARGIN - footprint.weights
    return max(1, int(room // (footprint.total - footprint.weights)))


def even_chunk(count: int, most: int | None) -> int:
    """Return how many of `count` pictures to paint at once so that few programs are compiled.

    Chunks of one size share a program, and a smaller last chunk needs another. So a size that divides
    the count is preferred, unless it is less than half of what is possible.

    Args:
      count: number of pictures.
      most: largest chunk; None is any size.

    Returns:
      At least 1, at most `count` and `most`.

    Example:
      >>> even_chunk(8, None), even_chunk(8, 5), even_chunk(9, 5), even_chunk(7, 6)
      (8, 4, 3, 4)
    """
    if most is None or most >= count:
        return count
    dividing = max(size for size in range(1, most + 1) if count % size == 0)
    return dividing if 2 * dividing >= most else -(-count // -(-count // most))


def even_chunk_over_devices(count: int, most: int | None, mesh: AnyMesh | None) -> int:
    """Return `even_chunk` for a batch over devices: each gets the same number of pictures."""
    parallel = pictures_in_parallel(mesh)
    each = None if most is None else max(1, most // parallel)
    return parallel * even_chunk(-(-count // parallel), each)


def pictures_per_memory(chunk: int, mesh: AnyMesh | None, platform: str) -> int:
    """Return how many pictures of a chunk share one memory: all of them on a CPU."""
    return chunk if platform == "cpu" else max(1, chunk // pictures_in_parallel(mesh))


def worthwhile_chunk(shape: Shape, platform: str) -> int:
    """Return how many canvases of (height, width) one program should paint on a platform."""
    pixels = PIXELS_AT_ONCE.get(platform, PIXELS_AT_ONCE_ELSEWHERE)
    return max(1, pixels // (shape[0] * shape[1]))


def worthwhile_divisor(count: int, shape: Shape, platform: str, parallel: int = 1) -> int:
    """Return the largest divisor of `count` that is worthwhile, so that one program serves all chunks.

    Args:
      count: number of canvases.
      shape: (height, width) of each.
      platform: the device's platform.
      parallel: number of canvases that the devices compute at the same time.

    Example:
      >>> worthwhile_divisor(20, (128, 128), "cpu"), worthwhile_divisor(20, (256, 256), "cpu")
      (20, 5)
    """
    most = parallel * worthwhile_chunk(shape, platform)
    return max(size for size in range(1, count + 1) if count % size == 0 and size <= most)
