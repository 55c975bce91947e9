"""The scales of a run: the sizes of canvas and styles at each, from the shapes of the pictures alone.

The size rules and the schedule of a recipe decide the sizes. No pixels are read here, so that a run can
be planned, and its memory and time estimated, before any picture is resized.
"""

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from nst_jax import _checks
from nst_jax._types import Shape
from nst_jax.recipes import sizes
from nst_jax.recipes.checking import check_carried, check_style_scale, check_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.schedules import at_longer_side
from nst_jax.vgg.taps import SMALLEST, nearest_on_grid


class Scale(NamedTuple):
    """One scale (resolution) of a coarse-to-fine run: its sizes, and its number of updates."""

    shape: Shape  # (height, width) of the canvas
    style_shapes: tuple[Shape, ...]  # (height, width) of each style, then of each region's style
    steps: int  # number of updates
    regions: int = 1  # number of regions with styles of their own, plus 1 for the default style
    protected: bool = False  # whether a mask protects a part of the content from changes


def final_shapes(
    content: Shape, style: Shape, recipe: Recipe, *, argument: str = "style", index: int = 0
) -> tuple[Shape, Shape]:
    """Return the sizes of the canvas and of the style by the recipe's size rules.

    Args:
      content: (height, width) of the content.
      style: (height, width) of the style.
      recipe: the recipe whose rules apply.
      argument: the caller's name for the style, used in error messages.
      index: index of the style among several; each may have its own factor in `style_scale`.

    Returns:
      (height, width) of the canvas, and of the style.

    Raises:
      TypeError: if a size rule of a user's own does not return two whole numbers.
      ValueError: if a side of either picture is under 16 px, as given or after resizing; or if the
        recipe's rule for the content is one for styles only, such as `LikeContent`.
    """
    rule = recipe.pictures.size
    canvas = checked_shape("content", content, sizes.new_shape(rule, content), rule)
    style_rule = recipe.pictures.style_size or rule
    name = "size" if recipe.pictures.style_size is None else "style_size"
    wanted = sizes.new_shape(style_rule, style, canvas, argument=name)
    if (factor := recipe.pictures.scale_of_style(index)) != 1:
        wanted = _times(factor, plain := wanted, style)
        if min(wanted) < SMALLEST <= min(*plain, *style):
            # Only the factor makes the style too small, so the message is about `style_scale`.
            named = "the style" if argument == "style" else argument
            raise ValueError(
                f"`style_scale`: {factor:g} makes {wanted[1]}x{wanted[0]} px of {named}, which has "
                f"{plain[1]}x{plain[0]} px by the size rule ({style_rule}); the network needs "
                f"{SMALLEST} px on each side, so choose {_sufficient_factor(plain, style):g} or more"
            )
    rule_words = style_rule_words(recipe, index)
    return canvas, checked_shape(argument, style, wanted, rule_words)


def _times(factor: float, shape: Shape, original: Shape) -> Shape:
    """Return the (height, width) of a style after its factor in `style_scale` is applied.

    Args:
      factor: the style's factor in `style_scale`.
      shape: (height, width) of the style by the size rule.
      original: (height, width) of the style before any resizing. Its proportions are exact, while those
        of `shape` may be rounded.
    """
    return at_longer_side(max(1, round(factor * max(shape))), shape, original)


def _sufficient_factor(shape: Shape, original: Shape) -> float:
    """Return a `style_scale`, a multiple of 0.001, that leaves a style 16 px or more on each side.

    It is 16 divided by the shorter side, rounded up. It is a little more if `_times`, which rounds the
    sides to whole pixels, would otherwise return a side under 16 px.

    Args:
      shape: (height, width) of the style by the size rule, at least 16 px.
      original: (height, width) of the style before any resizing, at least 16 px.
    """
    thousandths = math.ceil(1000 * SMALLEST / min(shape))
    while min(_times(thousandths / 1000, shape, original)) < SMALLEST:
        thousandths += 1
    return thousandths / 1000


def style_rule_words(recipe: Recipe, index: int = 0) -> str:
    """Return a style's size rule and its factor in `style_scale` as text, given the style's index."""
    pictures = recipe.pictures
    factor = pictures.scale_of_style(index)
    times = "" if factor == 1 else f", times {factor:g}"
    return f"{pictures.style_size or pictures.size}{times}"


def enlarged_styles(
    originals: Sequence[Shape], shapes: Sequence[Shape], recipe: Recipe
) -> list[int]:
    """Return the indices of the styles that `style_scale` makes larger than the original pictures.

    An enlarged picture is blurred, so the callers of this function warn the user. The styles are
    enlarged nevertheless, since that gives the larger strokes that the user asks for.

    Args:
      originals: (height, width) of each style, before any resizing.
      shapes: (height, width) of each style at the final scale.
      recipe: the recipe; its `pictures.style_scale` has the factors for the sides of the styles.
    """
    return [
        index
        for index, (old, new) in enumerate(zip(originals, shapes, strict=True))
        if recipe.pictures.scale_of_style(index) > 1 and max(new) > max(old)
    ]


def notes_on_enlarged_styles(
    originals: Sequence[Shape], shapes: Sequence[Shape], recipe: Recipe
) -> list[str]:
    """Return a line of text for users about each style that `style_scale` enlarges and so blurs.

    Args:
      originals: (height, width) of each style, before any resizing.
      shapes: (height, width) of each style at the final scale.
      recipe: the recipe whose `style_scale` applies.
    """
    notes = []
    for index in enlarged_styles(originals, shapes, recipe):
        (height, width), (h, w) = originals[index], shapes[index]
        notes.append(
            f"`style_scale` {recipe.pictures.scale_of_style(index):g} enlarges a style of "
            f"{width}x{height} px to {w}x{h} px, which blurs its fine strokes; use a style picture "
            "with more pixels for sharp ones"
        )
    return notes


def checked_shape(argument: str, old: Shape, new: Shape, rule: sizes.SizeRule | str) -> Shape:
    """Return the (height, width) to which a picture is resized; refuse sides under 16 px.

    Args:
      argument: the caller's name for the picture, used in messages.
      old: (height, width) of the picture as it was given.
      new: (height, width) by the size rule.
      rule: the size rule, for messages.

    Raises:
      ValueError: if a side is under 16 px, before or after resizing.
    """
    if min(new) < SMALLEST:
        raise ValueError(
            f"`{argument}`: {old[1]}x{old[0]} px becomes {new[1]}x{new[0]} px by the size rule "
            f"({rule}); the network needs {SMALLEST} px on each side, so crop the picture "
            "or choose a larger size"
        )
    # The original must be large enough as well, since enlarging it adds no detail.
    _checks.image_shape(argument, (*old, 3), smallest=SMALLEST)
    return new


def shapes_of(scales: Sequence[Scale], recipe: Recipe) -> Hashable:
    """Return a key that is equal for two runs of a recipe if one compiled program can paint both.

    Canvases of equal final shapes may have different shapes at the coarser scales, since these may be
    rounded from the sizes of the original pictures. So the key has the shapes at all scales. A style
    loss may compare single feature vectors of canvas and styles (`terms.matched`). Then the program
    reads the styles' feature maps, so the key also has the shapes of the styles. Other style losses
    read only statistics, such as Gram matrices, whose shapes do not depend on those of the styles.

    Args:
      scales: the scales (resolutions) of a run, coarse to fine.
      recipe: the recipe of the runs.
    """
    styles = tuple(one.style_shapes for one in scales) if recipe.terms.matched else ()
    return tuple(one.shape for one in scales), styles


def style_shapes_of_all(runs: Sequence[Sequence[Scale]]) -> tuple[Shape, ...]:
    """Return each (height, width) that styles of several runs have at their last scale.

    Memory that is planned for all these shapes is enough for each of the runs. The shapes of the first
    run come first, one for each of its styles. Each other shape follows once.

    Args:
      runs: the scales (resolutions) of each run.
    """
    first = runs[0][-1].style_shapes
    others = dict.fromkeys(shape for scales in runs for shape in scales[-1].style_shapes)
    return (*first, *[shape for shape in others if shape not in first])


def scales_of(
    content: Shape,
    styles: Sequence[Shape],
    recipe: Recipe,
    *,
    region_styles: Sequence[Shape] = (),
    protected: bool = False,
) -> tuple[Scale, ...]:
    """Return the scales of a run, given the original sizes of its pictures.

    Args:
      content: (height, width) of the content, before any resizing.
      styles: (height, width) of each style, before any resizing.
      recipe: the recipe whose size rules and schedule apply.
      region_styles: (height, width) of the style of each region (a part of the content with a style of
        its own), before any resizing.
      protected: whether a mask protects a part of the content from changes. Each `Scale` stores it,
        since estimates of the run's memory then include the mask and the content.

    Returns:
      The scales, coarse to fine.

    Raises:
      ValueError: if a side of a picture is under 16 px, as given or after resizing; if the recipe's
        rule for the content is one for styles only, such as `LikeContent`; if the number of styles does
        not fit the recipe's `style_shares`, `tap_styles` or `style_scale` (only for `style_scale`, the
        styles of regions count too); or if Adam's means cannot be carried from scale to scale, as in
        `recipes.checking.check_carried`.
    """
    check_styles(recipe.terms, len(styles))
    check_style_scale(recipe.pictures, len(styles) + len(region_styles))
    names = ["style"] if len(styles) == 1 else [f"style[{i}]" for i in range(len(styles))]
    names += [f"regions[{i}].style" for i in range(len(region_styles))]
    everything = (*styles, *region_styles)
    shapes = [
        final_shapes(content, style, recipe, argument=name, index=index)
        for index, (style, name) in enumerate(zip(everything, names, strict=True))
    ]
    scales = scales_up_to(
        shapes[0][0], [style for _, style in shapes], recipe, originals=(content, everything)
    )
    check_carried(recipe, [scale.shape for scale in scales])
    count = 1 + len(region_styles)
    return tuple(scale._replace(regions=count, protected=protected) for scale in scales)


def scales_up_to(
    shape: Shape,
    style_shapes: Sequence[Shape],
    recipe: Recipe,
    *,
    originals: tuple[Shape, Sequence[Shape]] | None = None,
) -> tuple[Scale, ...]:
    """Return the scales of a run, coarse to fine, given the sizes at the finest scale.

    Args:
      shape: (height, width) of the canvas at the finest scale.
      style_shapes: (height, width) of each style at that scale.
      recipe: the recipe whose schedule applies.
      originals: (height, width) of the content and of each style before any resizing. A schedule may
        compute the sizes of all scales from these, so that each size is rounded only once. If None, the
        schedule computes them from the final sizes.

    Returns:
      The scales. At a coarser scale, the styles are smaller by the same factor as the canvas, but have
      at least 16 px on each side. If the network pads each border with the pixels of the opposite
      border, for seamless textures, a side of the canvas that is a multiple of 16 px at the finest
      scale is one at all scales.
    """
    descent, scales = recipe.descent, []
    content, styles = (shape, style_shapes) if originals is None else originals
    for canvas, steps in descent.plan(shape, content):
        ratio = max(canvas) / max(shape)
        smaller = tuple(
            _shrunk(style, ratio, original if descent.schedule.from_originals else None)
            for style, original in zip(style_shapes, styles, strict=True)
        )
        if recipe.network.wraps:
            canvas = _that_wraps(canvas, shape)
        scales.append(Scale(canvas, smaller, steps))
    return tuple(scales)


def _that_wraps(canvas: Shape, final: Shape) -> Shape:
    """Round a side of a coarser canvas to a multiple of 16 px if that side of the final canvas is one.

    In a recipe with `network.wraps`, opposite borders of the canvas meet. At a layer after poolings,
    they meet exactly only if the poolings halved the side without a remainder. All four poolings do so
    if the side is a multiple of 16 px.
    """
    height, width = (
        side if last % SMALLEST else nearest_on_grid(side)
        for side, last in zip(canvas, final, strict=True)
    )
    return height, width


def _shrunk(shape: Shape, ratio: float, original: Shape | None) -> Shape:
    """Return a style's (height, width) at a scale (resolution) of the run, at least 16 px on each side.

    Args:
      shape: the style's size at the final scale.
      ratio: longer side of the canvas at this scale, divided by that of the final canvas.
      original: the style's size before any resizing. If `shape` is this size, scaled and rounded, the
        result has the proportions of `original`, without the error of that rounding. If not, or if
        `original` is None, it has those of `shape`.
    """
    height, width = round(shape[0] * ratio), round(shape[1] * ratio)
    if original is not None:
        height, width = at_longer_side(round(max(shape) * ratio), shape, original)
    return max(SMALLEST, height), max(SMALLEST, width)
