"""How much memory there is, and how much of what is to be painted fits into it."""

import bisect
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from nst_jax import recipes, vgg
from nst_jax._types import Params, Shape
from nst_jax.optimizers.rules import Adam
from nst_jax.prepare import Scale
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import sharding
from nst_jax.scaling.costs import Footprint, estimate_memory, in_tiles
from nst_jax.scaling.sharding import AnyMesh
from nst_jax.vgg.precision import BFLOAT16

# How far an estimate may be off: what is to fit leaves that much room.
MARGIN = 1.2

# Memory that an allocator took piece by piece stays in pieces: what the scales before the last took is
# not joined for the last, each a quarter of the next, so 1 + 1/4 + 1/16 + ... times its own is taken.
CHAIN = 4 / 3

# Tiles that are tried, px: each costs more time than the one before, for its halo.
TILES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)

# Pairs that L-BFGS is left with where memory is short: fewer are hardly more than a gradient.
LEAST_HISTORY = 3


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

    An accelerator's allocator knows its limit; one that grows (`XLA_PYTHON_CLIENT_PREALLOCATE=false`)
    loses some of that to pieces. A processor has what the system calls available, or
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
        there = max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        return int(there / CHAIN) if _grows() else there
    known = [amount for amount in (_of_system(), _of_group()) if amount is not None]
    return min(known, default=None)


def _grows() -> bool:
    """Say whether jax takes a GPU's memory bit by bit; these are the words that it knows."""
    return os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") in ("0", "false", "False")


def device_of(params: Params) -> Any:
    """Return the device that the weights are on, the first of several; None is jax's default."""
    kernel = params.layers["conv1_1"]["kernel"]
    if not isinstance(kernel, jax.Array):
        return None
    # Of several processes' devices one of this process': it knows no other's memory.
    here: set[Any] = kernel.sharding.addressable_devices
    return min(here, key=lambda device: device.id)


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


def taken(recipe: Recipe, scale: Scale, platform: str, *, pictures: int = 1) -> Footprint:
    """Return what a recipe takes at a scale, by `estimate_memory`."""
    return estimate_memory(
        scale.shape,
        recipe=recipe,
        style_shapes=scale.style_shapes,
        pictures=pictures,
        platform=platform,
    )


def fit_together(recipe: Recipe, scales: Sequence[Scale], there: int | None, platform: str) -> bool:
    """Say whether several scales fit at once, so that one may be made ready while another is run."""
    return (
        there is None
        or sum(taken(recipe, each, platform).total for each in scales) * MARGIN <= there
    )


class Fit(NamedTuple):
    """How a run is brought into the memory there is."""

    asked: Recipe
    recipe: Recipe  # what was asked, with that settled
    footprint: Footprint  # of it, at the final scale
    plain: Footprint  # of what was asked, in no tiles
    there: int | None  # bytes; None if nobody knows

    @property
    def shortened(self) -> bool:
        """Whether a shorter history was taken than asked for."""
        return history_of(self.recipe) != history_of(self.asked)

    @property
    def chosen(self) -> bool:
        """Whether anything but the plain way was taken, without having been asked for."""
        return (
            self.recipe.network
            != _in_network(self.asked, tile=self.asked.network.tile or 0).network
        )

    @property
    def usable(self) -> int | None:
        """Bytes that an estimate may come to, with room for its error."""
        return None if self.there is None else round(self.there / MARGIN)


def fitted(recipe: Recipe, scale: Scale, device: Any = None, mesh: AnyMesh | None = None) -> Recipe:
    """Return the recipe with what it leaves to memory settled: how a canvas is cut into tiles.

    The picture does not depend on it, but for rounding. What costs least time is taken: nothing, on
    an accelerator activations that are computed again, then tiles as large as memory holds.

    Args:
      recipe: whose `network.tile` says how; where that is not None, it is returned as it is.
      scale: the final one.
      device: as in `place_of`.
      mesh: as in `place_of`.

    Returns:
      The recipe, with a `network.tile`.

    Raises:
      ValueError: if no tile fits, with the largest canvas that would.
    """
    if recipe.network.tile is not None:
        return recipe
    return fit(recipe, scale, *place_of(recipe, device, mesh)).recipe


def place_of(
    recipe: Recipe, device: Any = None, mesh: AnyMesh | None = None
) -> tuple[int | None, str]:
    """Return the bytes that one device of a run can have, and its platform.

    Args:
      recipe: of the run, with its rows laid out.
      device: where the weights are; None is jax's default.
      mesh: of the devices that paint, if that is another matter. Of several processes all must call
        this: what the one with least memory has is what all go by, as they have to run one program.
    """
    if isinstance(mesh, Mesh):
        device = mesh.local_devices[0]
    there, platform = available(device), platform_of(device)
    return sharding.least(each_of(there, recipe, platform), mesh), platform


def each_of(there: int | None, recipe: Recipe, platform: str) -> int | None:
    """Return the bytes of each device: those of a processor share what there is."""
    if there is None or recipe.rows is None or platform != "cpu":
        return there
    return there // recipe.rows.count


def fit(
    recipe: Recipe, scale: Scale, there: int | None, platform: str, *, yielding: bool = False
) -> Fit:
    """Settle what a recipe leaves to memory, as `fitted` does, and tell what that takes.

    Args:
      recipe: whose `network.tile` says how; one that is not None is kept, whether it fits or not.
      scale: the final one.
      there: bytes, from `available`.
      platform: as in `estimate_memory`.
      yielding: whether our own recipe may take a shorter history of L-BFGS, which paints another
        picture, where nothing exact fits. Every other recipe is somebody's, and stays what it is.

    Returns:
      The `Fit`.

    Raises:
      ValueError: if no tile fits, with the largest canvas and the changes that would.
    """
    plain = taken(_in_network(recipe, tile=0), scale, platform)
    if recipe.network.tile is not None:
        return Fit(recipe, recipe, taken(recipe, scale, platform), plain, there)
    ways = _ways(recipe, max(*scale.shape, *map(max, scale.style_shapes)), platform)
    for way in ways:
        footprint = taken(way, scale, platform)
        if fits(footprint, there):
            return Fit(recipe, way, footprint, plain, there)
    assert there is not None  # which holds everything
    shorter = _longest_history(ways[-1], lambda way: fits(taken(way, scale, platform), there))
    if yielding and shorter is not None and _is_ours(recipe):
        return Fit(recipe, shorter, taken(shorter, scale, platform), plain, there)
    raise ValueError(_refusal(scale, ways[-1], there, platform, shorter))


def history_of(recipe: Recipe) -> int | None:
    """Return how many pairs a recipe's L-BFGS remembers; None if its optimiser is another."""
    return getattr(recipe.descent.optimizer, "history", None)


def _in_network(recipe: Recipe, **fields: Any) -> Recipe:
    return replace(recipe, network=replace(recipe.network, **fields))


def _is_ours(recipe: Recipe) -> bool:
    """Say whether nobody but us has chosen the optimiser."""
    ours = recipes.DEFAULT
    return recipe.name == ours.name and recipe.descent.optimizer == ours.descent.optimizer


def _with_optimizer(recipe: Recipe, optimizer: Any) -> Recipe:
    return replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))


def _longest_history(recipe: Recipe, fitting: Callable[[Recipe], bool]) -> Recipe | None:
    """Return the recipe with as many of its L-BFGS pairs as fit; None if too few do."""
    optimizer: Any = recipe.descent.optimizer
    most = history_of(recipe) or 0

    def shortened(history: int) -> Recipe:
        return _with_optimizer(recipe, replace(optimizer, history=history))

    if most <= LEAST_HISTORY or not fitting(shortened(LEAST_HISTORY)):
        return None
    pairs = range(LEAST_HISTORY, most)
    # Of a growing number the first that does not fit, and one less.
    return shortened(
        pairs[bisect.bisect_left(pairs, True, key=lambda n: not fitting(shortened(n))) - 1]
    )


def _refusal(scale: Scale, way: Recipe, there: int, platform: str, shorter: Recipe | None) -> str:
    """Return what is said where nothing exact fits.

    Args:
      scale: the final one.
      way: that takes least.
      there: bytes.
      platform: as in `estimate_memory`.
      shorter: the way with a history that fits, if there is one.
    """
    shape, styles = scale.shape, scale.style_shapes
    largest = largest_that_fits(shape, way, there, style_shapes=styles, platform=platform)
    remedy = "" if largest is None else f"; up to {largest[1]}x{largest[0]} px does"
    how = f" even in tiles of {way.network.tile} px" if way.network.tile else ""
    least = taken(way, scale, platform).total
    others = [] if shorter is None else [_history_word(shorter)]
    others += [word for word, other in _changes(way) if fits(taken(other, scale, platform), there)]
    changes = f"; so does, but paints another picture: {' or '.join(others)}" if others else ""
    return (
        f"`size`: {shape[1]}x{shape[0]} px takes {gigabytes(least)}{how}, and "
        f"some {gigabytes(there / MARGIN)} can be had{remedy}{changes}; to try all the same, set "
        "`tile` to off or a number"
    )


def _history_word(recipe: Recipe) -> str:
    return f"`descent.optimizer.history={history_of(recipe)}`"


def _changes(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Yield what may take less and is another picture, by name: fewer bits, another optimiser."""
    if recipe.network.precision.activations is None:
        yield "bfloat16 (`precision`)", _in_network(recipe, precision=BFLOAT16)
    if history_of(recipe) is not None:
        yield "Adam (`optimizer`)", _with_optimizer(recipe, Adam())


def picked(fit: Fit, shapes: Sequence[Shape]) -> list[str]:
    """Return what a fit does to save memory, in words; nothing where all is computed at once.

    Args:
      fit: of a run.
      shapes: of its canvas and styles; where none is cut into tiles, no tile is told.
    """
    network = fit.recipe.network
    words = []
    if any(in_tiles(shape, fit.recipe) for shape in shapes):
        words.append(f"in tiles of {network.tile} px")
    if network.remat and not fit.asked.network.remat:
        words.append("with activations computed again")
    if fit.shortened:
        words.append(f"with a history of {history_of(fit.recipe)} pairs")
    return words


def gigabytes(size: float) -> str:
    """Return a number of bytes for people, in gigabytes."""
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
    least = vgg.halo_of(recipe.terms.taps)
    remat = recipe.network.remat or platform != "cpu"
    networks += [with_network(tile=tile, remat=remat) for tile in TILES if least <= tile < longest]
    return [replace(recipe, network=network) for network in networks]


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


# --- What did not fit -----------------------------------------------------------------------------

EXHAUSTED = "RESOURCE_EXHAUSTED"  # XLA's name for it, on every device


class OutOfMemory(MemoryError):
    """The device had less memory than a run took, whatever was estimated beforehand."""


@contextmanager
def told(recipe: Recipe, scale: Scale, device: Any = None, *, pictures: int = 1) -> Iterator[None]:
    """Say in our own words where the device runs out of memory in here.

    Args:
      recipe: as run, from `fitted`.
      scale: the final one.
      device: of the run; None is jax's default.
      pictures: at once.

    Raises:
      OutOfMemory: from jax's error.
    """
    there, platform = place_of(recipe, device)  # before anything of the run is there
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        footprint = taken(recipe, scale, platform, pictures=pictures)
        raise OutOfMemory(_exhausted(footprint, recipe.network.tile, there)) from error


def _exhausted(footprint: Footprint, tile: int | None, there: int | None) -> str:
    (height, width), count = footprint.shape, footprint.pictures
    what = f"{width}x{height} px" if count == 1 else f"{count} pictures of {width}x{height} px"
    had = "" if there is None else f", and some {gigabytes(there / MARGIN)} could be had"
    smaller = "`tile` auto or a number" if not tile else f"a `tile` of less than {tile}"
    fewer = "" if count == 1 else f", a `chunk` of less than {count}"
    return (
        f"`size`: the device ran out of memory: {what} takes {gigabytes(footprint.total)} by "
        f"estimate{had}; choose a smaller size, {smaller}{fewer}, or stop what else is on the device"
    )
