"""Variants of a recipe that fit into memory, or the error if none does.

A variant saves memory by tiles (the canvas is computed part by part), by rematerialisation (activations
are computed again for the gradient instead of being kept), or by a shorter history of L-BFGS.
"""

import bisect
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from nst_jax import recipes, vgg
from nst_jax._types import Shape
from nst_jax.optimizers import Adam
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling.capacity import MARGIN, fits, footprint_at, gigabytes
from nst_jax.scaling.footprint import estimate_memory
from nst_jax.vgg.precision import BFLOAT16

# Tile sizes to try, in px. Smaller tiles take less memory but more time: the pixels around a tile on
# which its features depend (its halo) are computed again for each tile.
TILES = (2048, 1536, 1024, 768, 512, 384, 256, 192, 128)
# The smallest number of pairs (a step and the gradient's change) to which the history of L-BFGS is
# shortened if memory is short: with fewer pairs, L-BFGS is hardly better than gradient descent.
LEAST_HISTORY = 3


def fitted(
    recipe: Recipe,
    scale: Scale,
    available: int | None,
    platform: str,
    devices: int,
    may_shorten_history: bool,
) -> Recipe:
    """Return the fastest variant of a recipe that fits into memory.

    `memory_savers` lists the variants, the fastest first. If none of them fits, the history of L-BFGS
    is shortened, where that is allowed.

    Args:
      recipe: the recipe of the run, with a precision other than `AUTO`.
      scale: the sizes of canvas and styles at the last and finest resolution of the run.
      available: bytes that can be allocated; None if not known, and then the canvas is computed whole.
      platform: "cpu", "gpu" or "tpu".
      devices: number of devices that share the canvas.
      may_shorten_history: whether the history of L-BFGS in this project's own recipes may be shortened,
        although this changes the picture.

    Raises:
      ValueError: if no variant fits. The message says what would fit, such as a smaller canvas, smaller
        styles, fewer regions or another optimiser.
    """

    def fitting(candidate: Recipe) -> bool:
        return fits(footprint_at(candidate, scale, platform, devices=devices), available)

    longest = max(*scale.shape, *map(max, scale.style_shapes))
    candidates = memory_savers(recipe, longest, platform)
    for candidate in candidates:
        if fitting(candidate):
            return candidate
    assert available is not None  # with None, the first candidate would have been returned
    smallest = candidates[-1]
    shorter = _with_longest_history(smallest, fitting)
    if may_shorten_history and shorter is not None and _is_ours(recipe):
        return shorter
    raise ValueError(_refusal(scale, smallest, available, platform, devices, shorter))


def memory_savers(recipe: Recipe, longest: int, platform: str) -> list[Recipe]:
    """Return variants of a recipe, each of which needs less memory and more time than the one before.

    All variants paint the same picture. The first computes the canvas as a whole. On an accelerator,
    the second adds rematerialisation, unless the recipe has it already. All others compute the canvas
    in tiles, each in smaller ones than the variant before it. If the recipe cannot be computed in tiles
    (`Terms.additive` is False), the variants with tiles are left out.

    Args:
      recipe: the recipe to vary.
      longest: longest side of the canvas and all styles, in px. Only tiles under this size are tried,
        and none smaller than the halo.
      platform: "cpu", "gpu" or "tpu".
    """
    candidates = [with_network(recipe, tile=0)]
    if platform != "cpu" and not recipe.network.remat:
        candidates.append(with_network(recipe, tile=0, remat=True))
    if not recipe.terms.additive:
        return candidates
    halo = vgg.halo_of(recipe.terms.taps)
    remat = recipe.network.remat or platform != "cpu"
    sizes = [tile for tile in TILES if halo <= tile < longest]
    return candidates + [with_network(recipe, tile=tile, remat=remat) for tile in sizes]


def history_of(recipe: Recipe) -> int | None:
    """Return the length of the history of a recipe's L-BFGS; None for other optimisers.

    The history consists of pairs: a move of the canvas, and the change of the gradient along this move.
    """
    return getattr(recipe.descent.optimizer, "history", None)


def with_network(recipe: Recipe, **fields: Any) -> Recipe:
    """Return the recipe with the given fields of its `network` replaced."""
    return replace(recipe, network=replace(recipe.network, **fields))


def _with_optimizer(recipe: Recipe, optimizer: Any) -> Recipe:
    return replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))


def _is_ours(recipe: Recipe) -> bool:
    """Return whether a recipe has the name and the optimiser of the recipe `default` or `gram`.

    These two are this project's own recipes. Only in them may the history of L-BFGS be shortened.
    """
    return any(
        recipe.name == ours.name and recipe.descent.optimizer == ours.descent.optimizer
        for ours in (recipes.DEFAULT, recipes.GRAM)
    )


def _with_longest_history(recipe: Recipe, fitting: Callable[[Recipe], bool]) -> Recipe | None:
    """Return the recipe with the longest history of L-BFGS that fits into memory.

    The result is None if not even a history of `LEAST_HISTORY` pairs fits, if the recipe's own history
    is no longer than that, or if its optimiser is not L-BFGS.

    Args:
      recipe: the recipe, which does not fit with its own history.
      fitting: function that returns whether a recipe fits.
    """
    optimizer: Any = recipe.descent.optimizer
    most = history_of(recipe) or 0

    def shortened(history: int) -> Recipe:
        return _with_optimizer(recipe, replace(optimizer, history=history))

    if most <= LEAST_HISTORY or not fitting(shortened(LEAST_HISTORY)):
        return None
    pairs = range(LEAST_HISTORY, most)
    too_many = bisect.bisect_left(pairs, True, key=lambda n: not fitting(shortened(n)))
    return shortened(pairs[too_many - 1])


def _refusal(
    scale: Scale,
    smallest: Recipe,
    available: int,
    platform: str,
    devices: int,
    shorter: Recipe | None,
) -> str:
    """Return the error message for a run that does not fit into memory.

    Args:
      scale: the last and finest resolution of the run: the sizes of canvas and styles, the number of
        regions, and whether a part is protected.
      smallest: of the variants that paint the same picture, the one that takes the least memory.
      available: bytes that each device can allocate.
      platform: platform of the device.
      devices: number of devices that share the canvas.
      shorter: `smallest` with a shorter history of L-BFGS, which fits, but paints another picture. The
        message names it as a remedy. None if no such history fits.
    """

    def fitting(other: Recipe, at: Scale = scale) -> bool:
        return fits(footprint_at(other, at, platform, devices=devices), available)

    # Only the style is too large if the run fits with a style of the canvas' size. If padding wraps,
    # only the canvas is cut into tiles, so a style of that size may take more memory than the canvas.
    # Then the smallest style, of 16 px, is tried instead.
    least_style = (vgg.SMALLEST, vgg.SMALLEST) if smallest.network.wraps else scale.shape
    if fitting(smallest, scale._replace(style_shapes=(least_style,))):
        return _refusal_of_style(scale, smallest, available, platform, devices)
    largest = largest_that_fits(scale, smallest, available, platform=platform, devices=devices)
    most = _most_regions(scale, lambda at: fitting(smallest, at))
    remedy = "" if most is None else f"; up to {_words_of_regions(most)} fits"
    if most == 1:  # `most` counts the rest of the picture as one region
        remedy = "; without regions it fits"
    if largest is not None:
        remedy += f"; up to {largest[1]}x{largest[0]} px fits"
    if scale.regions > 1 and most is None:
        alone = largest_that_fits(
            scale._replace(regions=1), smallest, available, platform=platform, devices=devices
        )
        if alone is not None and alone != largest:
            remedy += f", or {alone[1]}x{alone[0]} px without regions"
    tile, wraps = smallest.network.tile, smallest.network.wraps
    cut = tile and not (wraps and any(side % vgg.SMALLEST for side in scale.shape))
    how = f" even in tiles of {tile} px" if cut else ""
    least = footprint_at(smallest, scale, platform, devices=devices).total
    history = "" if shorter is None else f"`descent.optimizer.history={history_of(shorter)}`"
    others = [history] * bool(history)
    if scale.protected and fitting(smallest, scale._replace(protected=False)):
        others.append("no protected part")
    others += [words for words, other in _smaller_but_different(smallest) if fitting(other)]
    changes = f"; these fit too, but change the result: {' or '.join(others)}" if others else ""
    shape = scale.shape
    beside = f" with {_words_of_regions(scale.regions)}" if scale.regions > 1 else ""
    # The message begins with the argument to change: `regions` if fewer of them would fit at this size.
    argument = "`size`" if most is None else "`regions`"
    return (
        f"{argument}: {shape[1]}x{shape[0]} px{beside} takes {gigabytes(least)}{how}, and "
        f"{gigabytes(available / MARGIN)} is available{remedy}{changes}; to try it anyway, set "
        "`tile` to off or a number"
    )


def _most_regions(scale: Scale, fitting: Callable[[Scale], bool]) -> int | None:
    """Return the largest number of regions (parts with a style of their own) that fits, plus one.

    The added 1 stands for the rest of the picture, which has the default style. The result is None if
    there are no regions, or if the picture would not fit even without them.
    """
    if scale.regions == 1 or not fitting(scale._replace(regions=1)):
        return None
    counts = range(1, scale.regions)
    too_many = bisect.bisect_left(
        counts, True, key=lambda n: not fitting(scale._replace(regions=n))
    )
    return counts[too_many - 1]


def _words_of_regions(regions: int) -> str:
    """Return the number of regions as text; `regions` counts the rest of the picture as one more."""
    count = regions - 1
    return {0: "no region", 1: "1 region"}.get(count, f"{count} regions")


def _refusal_of_style(
    scale: Scale, smallest: Recipe, available: int, platform: str, devices: int
) -> str:
    """Return the error message for a run that would fit if its styles were smaller."""
    longest = max(map(max, scale.style_shapes))
    index = [max(shape) for shape in scale.style_shapes].index(longest)

    def limited(longer: int) -> Scale:
        shapes = tuple(
            shape if max(shape) <= longer else _shrunk(shape, longer, max(shape))
            for shape in scale.style_shapes
        )
        return scale._replace(style_shapes=shapes)

    def fitting(longer: int) -> bool:
        footprint = footprint_at(smallest, limited(longer), platform, devices=devices)
        return fits(footprint, available)

    longer_sides = range(vgg.SMALLEST, longest + 1)
    count = bisect.bisect_left(longer_sides, True, key=lambda longer: not fitting(longer))
    fits_up_to = longer_sides[count - 1] if count else None
    remedy = "" if fits_up_to is None else f"; long:{fits_up_to} fits"
    shown = ", ".join(f"{width}x{height} px" for height, width in scale.style_shapes)
    least = footprint_at(smallest, scale, platform, devices=devices).total
    tile = smallest.network.tile
    how = f" even in tiles of {tile} px" if tile else ""
    if smallest.network.wraps:
        how = " in one piece, as where borders meet"
    factors = smallest.pictures.style_scale or (1.0,)
    one_each = len(factors) == len(scale.style_shapes)
    if one_each or len(factors) == 1:
        factor = smallest.pictures.scale_of_style(index)
    else:
        # These are the styles of several pictures. It is not known here which factor enlarged which
        # style, so the largest factor is taken.
        factor = max(map(float, factors))
    if factor > 1:
        # The message names `style_scale` instead of `style_size`, since this factor has enlarged the
        # style beyond the size that the recipe's rule gives.
        height, width = scale.style_shapes[index]
        style = "the style" if len(scale.style_shapes) == 1 else f"style[{index}]"
        if not one_each:
            style = "a style"
        if fits_up_to is not None:
            remedy = f"; up to {_rounded_down(factor * fits_up_to / longest)} fits"
        return (
            f"`style_scale`: {factor:g} makes {width}x{height} px of {style}; measuring it takes "
            f"{gigabytes(least)}{how}, and {gigabytes(available / MARGIN)} is available{remedy}; to "
            "try it anyway, set `tile` to off or a number"
        )
    return (
        f"`style_size`: measuring styles of {shown} takes {gigabytes(least)}{how}, and "
        f"{gigabytes(available / MARGIN)} is available{remedy}; to try it anyway, set "
        "`tile` to off or a number"
    )


def _shrunk(shape: Shape, new: int, old: int) -> Shape:
    """Return a (height, width) multiplied by `new / old`, with sides of at least 16 px."""
    height, width = (max(vgg.SMALLEST, round(side * new / old)) for side in shape)
    return height, width


def _rounded_down(factor: float) -> str:
    """Return a factor with three significant digits, rounded down: a larger one might not fit."""
    digit = 10.0 ** (math.floor(math.log10(factor)) - 2)
    return f"{math.floor(factor / digit) * digit:.3g}"


def _smaller_but_different(recipe: Recipe) -> Iterator[tuple[str, Recipe]]:
    """Yield changes that save memory but alter the picture: text for a message, and changed recipe."""
    if recipe.network.precision_on().activations is None:
        yield "bfloat16 (`precision`)", with_network(recipe, precision=BFLOAT16)
    if history_of(recipe) is not None:
        yield "Adam (`optimizer`)", _with_optimizer(recipe, Adam())


def largest_that_fits(
    scale: Scale, recipe: Recipe, available: int, *, platform: str, devices: int = 1
) -> Shape | None:
    """Return the largest canvas that fits into memory and has the proportions of the requested canvas.

    Canvases larger than the requested one are not tried.

    Args:
      scale: the requested shapes of the canvas and of the styles; the styles shrink with the canvas.
      recipe: the recipe of the run; its `network.tile` is the size of the tiles.
      available: bytes that each device can allocate.
      platform: "cpu", "gpu" or "tpu", as in `estimate_memory`.
      devices: number of devices that share the canvas.

    Returns:
      (height, width) of the canvas, with sides of at least 16 px; None if no canvas fits. With wrapping
      padding (`network.padding` wrap), the sides are multiples of 16 px, since only such a canvas can
      be divided into tiles or among devices.
    """

    def shrunk(shape: Shape, longer: int) -> Shape:
        return _shrunk(shape, longer, max(scale.shape))

    def canvas(longer: int) -> Shape:
        height, width = shrunk(scale.shape, longer)
        step = vgg.SMALLEST if recipe.network.wraps else 1
        return height // step * step, width // step * step

    def fitting(longer: int) -> bool:
        footprint = estimate_memory(
            canvas(longer),
            recipe=recipe,
            style_shapes=[shrunk(shape, longer) for shape in scale.style_shapes],
            devices=devices,
            platform=platform,
            regions=scale.regions,
            protected=scale.protected,
        )
        return fits(footprint, available)

    longer_sides = range(vgg.SMALLEST, max(scale.shape) + 1)
    count = bisect.bisect_left(longer_sides, True, key=lambda longer: not fitting(longer))
    return canvas(longer_sides[count - 1]) if count else None
