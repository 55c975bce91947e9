"""The size of a chunk: the number of pictures of a batch that are painted at once.

Two numbers may limit the size: how many pictures fit into memory, and the number of pictures beyond
which a larger chunk is hardly faster. Within these limits, a size is chosen for which few programs have
to be compiled. There are three rules for this: `even_chunk` prefers a size that divides the number of
pictures, `worthwhile_divisor` always takes such a size, and `even_size` always divides the pictures
into as few groups as possible.
"""

import bisect
import math
from collections.abc import Callable, Hashable

from nst_jax._types import Shape
from nst_jax.scaling.capacity import MARGIN
from nst_jax.scaling.sharding import AnyMesh, pictures_in_parallel

# Number of pixels, over all canvases that are painted at once, beyond which painting more canvases at
# once is hardly faster. The keys are JAX's names of platforms; for all other platforms,
# `PIXELS_AT_ONCE_ELSEWHERE` is used. The number for a CPU is smaller, since a CPU gains little from
# painting many at once.
PIXELS_AT_ONCE: dict[Hashable, int] = {"cpu": 2**19}
PIXELS_AT_ONCE_ELSEWHERE = 2**22


def largest_chunk(total: Callable[[int], int], available: int | None, count: int) -> int | None:
    """Return how many of `count` pictures fit into memory at once, at least 1.

    Args:
      total: function of a number of pictures; returns the estimated bytes of painting them at once.
      available: bytes that the device can allocate; None if not known, and then the result is None.
      count: number of pictures.
    """
    if available is None:
        return None
    sizes = range(1, count + 1)
    return max(1, bisect.bisect_left(sizes, True, key=lambda n: total(n) * MARGIN > available))


def even_chunk(count: int, most: int | None) -> int:
    """Return how many of `count` pictures to paint at once so that few programs are compiled.

    Pictures that are painted at once are called a chunk. Chunks of equal size share a compiled program,
    and a smaller last chunk needs a second program. So the largest size up to `most` that divides
    `count` is preferred. If that size is less than half of `most`, the pictures are instead spread as
    evenly as possible over the fewest chunks.

    Args:
      count: number of pictures.
      most: largest size allowed; None sets no limit.

    Returns:
      The size of a chunk: at least 1, at most `count` and `most`.

    Example:
      >>> even_chunk(8, None), even_chunk(8, 5), even_chunk(9, 5), even_chunk(7, 6)
      (8, 4, 3, 4)
    """
    if most is None or most >= count:
        return count
    dividing = max(size for size in range(1, most + 1) if count % size == 0)
    return dividing if 2 * dividing >= most else -(-count // -(-count // most))


def even_chunk_over_devices(count: int, most: int | None, mesh: AnyMesh | None) -> int:
    """Return how many pictures to paint at once so that every device of a mesh gets equally many.

    Pictures that are painted at once are called a chunk. `even_chunk` chooses how many pictures of a
    chunk each device gets, or each group of devices that share a picture; `count` and `most` are first
    divided by the number of devices or groups. For example, with 10 pictures, `most` = 6 and 4 devices,
    each device gets 1 picture of a chunk, so the chunk size is 4.

    The size is a multiple of the number of pictures that the devices compute at the same time. So it
    may exceed `count`, and also `most` if `most` is less than that number.

    Args:
      count: number of pictures.
      most: largest chunk size allowed; None sets no limit.
      mesh: the devices; None is one device.

    Returns:
      The chunk size.
    """
    parallel = pictures_in_parallel(mesh)
    each = None if most is None else max(1, most // parallel)
    return parallel * even_chunk(-(-count // parallel), each)


def even_groups(count: int, most: int) -> dict[int, int]:
    """Divide pictures evenly into as few groups as possible; return {size: number of groups}.

    The last group may be smaller than the others.

    Args:
      count: number of pictures.
      most: largest number of pictures in a group.

    Example:
      >>> even_groups(24, 8), even_groups(9, 8)
      ({8: 3}, {5: 1, 4: 1})
    """
    size = even_size(count, most)
    whole, rest = divmod(count, size)
    return {size: whole} | ({rest: 1} if rest else {})


def even_size(count: int, most: int) -> int:
    """Divide pictures evenly into as few groups as possible; return the size of the groups.

    The last group may be smaller.

    Args:
      count: number of pictures.
      most: largest number of pictures in a group.

    Example:
      >>> even_size(9, 8), even_size(24, 8)
      (5, 8)
    """
    return math.ceil(count / math.ceil(count / most))


def pictures_per_memory(chunk: int, mesh: AnyMesh | None, platform: str) -> int:
    """Return how many of the `chunk` pictures that are painted at once share one memory.

    On a CPU these are all `chunk` pictures, since all CPU devices share one memory. On other platforms,
    they are the pictures of one device, or of one group of devices that share each picture. `mesh` has
    the devices that paint; None is one device.
    """
    return chunk if platform == "cpu" else max(1, chunk // pictures_in_parallel(mesh))


def worthwhile_chunk(shape: Shape, platform: str) -> int:
    """Return the number of canvases beyond which painting more at once is hardly faster.

    A canvas is a picture that is painted. The number is at least 1.

    Args:
      shape: (height, width) of each canvas in px.
      platform: JAX's name of the platform.
    """
    pixels = PIXELS_AT_ONCE.get(platform, PIXELS_AT_ONCE_ELSEWHERE)
    return max(1, pixels // (shape[0] * shape[1]))


def worthwhile_divisor(count: int, shape: Shape, platform: str, parallel: int = 1) -> int:
    """Return how many of `count` canvases to paint at once: the largest worthwhile divisor of `count`.

    With a divisor, equally many canvases are painted each time, so one compiled program serves them
    all. At most `parallel` times `worthwhile_chunk` canvases are painted at once, since painting more
    is hardly faster.

    Args:
      count: number of canvases.
      shape: (height, width) of each canvas.
      platform: JAX's name of the platform.
      parallel: number of devices, or of groups of devices if the devices of a group share a canvas.

    Example:
      >>> worthwhile_divisor(20, (128, 128), "cpu"), worthwhile_divisor(20, (256, 256), "cpu")
      (20, 5)
    """
    most = parallel * worthwhile_chunk(shape, platform)
    return max(size for size in range(1, count + 1) if count % size == 0 and size <= most)
