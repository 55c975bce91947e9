"""How much memory there is, and how much of what is to be painted fits into it."""

import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax

from nst_jax import tiles, vgg
from nst_jax._types import Params
from nst_jax.memory import Footprint, estimate_memory
from nst_jax.prepare import Scale
from nst_jax.pyramid import Shape
from nst_jax.recipes import Recipe

# How far an estimate may be off: what is to fit leaves that much room.
MARGIN = 1.2
# Tiles that are tried, px: each costs more time than the one before, for its halo.
TILES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)


# --- What there is --------------------------------------------------------------------------------

MEMINFO = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")
# Of the two versions of control groups: limit, use, and the key in `memory.stat` of what can be freed.
CGROUPS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def available(device: Any = None) -> int | None:
    """Return the bytes that can still be had where a run would be; None if nobody says.

    An accelerator's allocator knows its limit. A processor has what the system calls available, or
    what is left of the limit of its control group (a container's), whichever is less.

    Args:
      device: of the run; None is jax's default.

    Returns:
      Bytes, or None.
    """
    device = jax.local_devices()[0] if device is None else device
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        return max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    known = [amount for amount in (_of_system(), _of_group()) if amount is not None]
    return min(known, default=None)


def device_of(params: Params) -> Any:
    """Return the device that the weights are on, the first of several; None is jax's default."""
    kernel = params.layers["conv1_1"]["kernel"]
    if not isinstance(kernel, jax.Array):
        return None
    return min(kernel.devices(), key=lambda device: device.id)


def platform_of(device: Any = None) -> str:
    """Return the platform that `estimate_memory` has to count for; accelerators count alike."""
    device = jax.local_devices()[0] if device is None else device
    return "cpu" if device.platform == "cpu" else "gpu"


def _of_system() -> int | None:
    found = _numbers(MEMINFO)
    if "MemAvailable" in found:
        return found["MemAvailable"] * 1024
    try:  # without Linux' count there is only how much is built in
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None


def _of_group() -> int | None:
    """Return what is left of the control group's limit, if it has one."""
    for limit, used, stat, freeable in CGROUPS:
        try:
            words = [(CGROUP / name).read_text("ascii").strip() for name in (limit, used)]
        except (OSError, ValueError):
            continue
        if all(word.isdigit() for word in words):  # "max" is none
            return max(0, int(words[0]) - int(words[1]) + _numbers(CGROUP / stat).get(freeable, 0))
    return None


def _numbers(path: Path) -> dict[str, int]:
    """Read lines of a name and a number."""
    try:
        lines = [line.split() for line in path.read_text("ascii").splitlines()]
    except (OSError, ValueError):
        return {}
    return {
        words[0].rstrip(":"): int(words[1])
        for words in lines
        if len(words) > 1 and words[1].isdigit()
    }


# --- What fits ------------------------------------------------------------------------------------


def fits(footprint: Footprint, there: int | None) -> bool:
    """Say whether a run fits into so many bytes, with room for the estimate's error.

    Unknown bytes hold everything.
    """
    return there is None or footprint.total * MARGIN <= there


def fitted(recipe: Recipe, scale: Scale, device: Any = None) -> Recipe:
    """Return the recipe with what it leaves to memory settled: how a canvas is cut into tiles.

    The picture does not depend on it, but for rounding. What costs least time is taken: nothing, on
    an accelerator activations that are computed again, then tiles as large as memory holds.

    Args:
      recipe: whose `network.tile` says how; where that is not None, it is returned as it is.
      scale: the final one.
      device: of the run; None is jax's default.

    Returns:
      The recipe, with a `network.tile`.

    Raises:
      ValueError: if no tile fits, with the largest canvas that would.
    """
    if recipe.network.tile is not None:
        return recipe
    there, platform = available(device), platform_of(device)
    if there is not None and recipe.rows is not None and platform == "cpu":
        there //= recipe.rows.count  # simulated devices share what there is
    ways = _ways(recipe, max(*scale.shape, *map(max, scale.style_shapes)), platform)
    if there is None:
        return ways[0]
    for way in ways:
        footprint = estimate_memory(
            scale.shape, recipe=way, style_shapes=scale.style_shapes, platform=platform
        )
        if fits(footprint, there):
            return way
    largest = largest_that_fits(
        scale.shape, ways[-1], there, style_shapes=scale.style_shapes, platform=platform
    )
    remedy = "" if largest is None else f"; up to {largest[1]}x{largest[0]} px does"
    tiles_tried = ways[-1].network.tile
    how = f" even in tiles of {tiles_tried} px" if tiles_tried else ""
    raise ValueError(
        f"`size`: {scale.shape[1]}x{scale.shape[0]} px takes {_gigabytes(footprint.total)}{how}, and "
        f"some {_gigabytes(there / MARGIN)} can be had{remedy}; to try all the same, set `tile` to off "
        "or a number"
    )


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e9:.2g} GB"


def _ways(recipe: Recipe, longest: int, platform: str) -> list[Recipe]:
    """Return the recipe in ways that need less and less memory, and more and more time.

    Args:
      recipe: in any way.
      longest: side of any picture, px.
      platform: of the device.
    """
    with_network = partial(replace, recipe.network)
    networks = [with_network(tile=0)]
    if platform != "cpu":
        networks.append(with_network(tile=0, remat=True))
    least = tiles.halo_of(recipe.terms.taps)
    remat = recipe.network.remat or platform != "cpu"
    networks += [with_network(tile=tile, remat=remat) for tile in TILES if least <= tile < longest]
    return [replace(recipe, network=network) for network in networks]


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


def largest_that_fits(
    shape: Shape,
    recipe: Recipe,
    there: int,
    *,
    style_shapes: Sequence[Shape] | None = None,
    platform: str | None = None,
) -> Shape | None:
    """Return the largest canvas of these proportions that fits, as (height, width); None if none does.

    Args:
      shape: (height, width) of the canvas that was wanted.
      recipe: as in `estimate_memory`.
      there: bytes, from `available`.
      style_shapes: as in `estimate_memory`; they shrink with the canvas.
      platform: as in `estimate_memory`.

    Returns:
      (height, width), of at least 16 px a side.
    """
    sizes = [shape] if style_shapes is None else list(style_shapes)

    def shrunk(size: Shape, longer: int) -> Shape:
        height, width = (max(vgg.SMALLEST, round(side * longer / max(shape))) for side in size)
        return height, width

    def fitting(longer: int) -> bool:
        styles = [shrunk(size, longer) for size in sizes]
        canvas = shrunk(shape, longer)
        return fits(
            estimate_memory(canvas, recipe=recipe, style_shapes=styles, platform=platform), there
        )

    least, most = vgg.SMALLEST, max(shape) + 1
    if not fitting(least):
        return None
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if fitting(middle) else (least, middle)
    return shrunk(shape, least)
