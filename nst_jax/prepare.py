"""Preparing the pictures of a run by its recipe: sizes at each scale, resizing, colours, first image.

After the optimisation, `Finisher` adjusts the colours and edges of each result as the recipe says.

The Python functions and the command line both use this module, so the network gets the same pixels from
both.
"""

import math
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import AnyImage, Image, KeptContent, Resized, Shape, StyleImage
from nst_jax.controls import finishing, regions
from nst_jax.controls.given import Given
from nst_jax.controls.regions import Controls
from nst_jax.images import on_host as on_host_filters
from nst_jax.images.palettes import Palette
from nst_jax.images.resizing import antialiased
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.checking import check_style_scale, check_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.schedules import at_longer_side
from nst_jax.vgg.pixels import CAFFE_BGR
from nst_jax.vgg.precision import default_platform
from nst_jax.vgg.taps import SMALLEST, nearest_on_grid


class Scale(NamedTuple):
    """One scale (resolution) of a coarse-to-fine run: its sizes, and its number of updates."""

    shape: Shape  # (height, width) of the canvas
    style_shapes: tuple[Shape, ...]  # (height, width) of each style, then of each region's style
    steps: int  # number of updates
    regions: int = 1  # number of regions with styles of their own, plus 1 for the default style
    protected: bool = False  # whether a mask protects a part of the content from changes


class Prepared(NamedTuple):
    """The pictures of a run at their final sizes, and the scales (resolutions) of the run."""

    content: Image  # [h, w, 3] as the network sees it: grey, if only luminance is painted
    styles: tuple[Any, ...]  # [h', w', 3] each, as the network sees them: recoloured, if wanted
    scales: tuple[Scale, ...]  # coarse to fine
    photo: Image  # the content in its own colours
    region_styles: tuple[StyleImage, ...] = ()  # the styles of the regions, like `styles`
    # Regions, protected and transparent parts; None if there are no such parts.
    controls: Controls | None = None


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
      ValueError: if a side of either picture is under 16 px, as given or after resizing.
    """
    rule = recipe.pictures.size
    canvas = checked_shape("content", content, rule.shape(*content), rule)
    style_rule = recipe.pictures.style_size or rule
    if hasattr(style_rule, "beside"):
        wanted = style_rule.beside(canvas, *style)
    else:
        wanted = style_rule.shape(*style)
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
      original: (height, width) of the style before any resizing, which has its exact proportions.
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
      recipe: the recipe whose factors apply.
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
            f"{width}x{height} px to {w}x{h} px, which blurs its fine strokes; a larger picture of it "
            "has sharper ones"
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

    A plan that is made with all these shapes has enough memory for each of the runs. The shapes of the
    first run come first, one for each of its styles. Each other shape follows once.

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
      region_styles: the same for the style of each region (a part of the content with its own style).
      protected: whether a mask protects a part of the content from changes. Each `Scale` stores it,
        since estimates of the run's memory then include the mask and the content.

    Returns:
      The scales, coarse to fine.

    Raises:
      ValueError: if a side of a picture is under 16 px, as given or after resizing; or if the number of
        styles does not fit the recipe's `style_shares`, `tap_styles` or `style_scale`. Only for
        `style_scale`, the styles of regions count too.
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
    schedule, total, scales = recipe.descent.schedule, int(recipe.descent.steps), []
    content, styles = (shape, style_shapes) if originals is None else originals
    for canvas, steps in schedule.plan(shape, total, content):
        ratio = max(canvas) / max(shape)
        smaller = tuple(
            _shrunk(style, ratio, original if schedule.from_originals else None)
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


def prepare_pictures(
    content: Any,
    style: Any,
    recipe: Recipe,
    given: Given | None = None,
    *,
    on_host: bool = False,
    side: int = SMALLEST,
    originals: Sequence[Shape] | None = None,
) -> Prepared:
    """Check a content and its style, or styles, and resize them as the recipe says.

    Args:
      content: [h, w, 3] in [0, 1], or uint8.
      style: one such picture, or a list or tuple of several.
      recipe: the recipe whose size rules, filter and schedule apply.
      given: regions, protected and transparent parts, from `controls.given.checked_controls`; None if
        there are none.
      on_host: whether pictures are resized without compiling a program for their sizes.
      side: with `on_host`, pictures are recoloured in square arrays, whose sides are rounded up to a
        multiple of this number of px. So one program recolours pictures of several sizes.
      originals: (height, width) of each style before any resizing, from which the size rules compute
        the final sizes. Pass it if the styles already have their final sizes: a size rule that is
        applied a second time may give another size. None means the sizes of the given styles.

    Returns:
      The pictures at their final sizes, float32, and the sizes and numbers of updates at each scale
      (resolution) of the run.

    Raises:
      TypeError: if a value is not an array.
      ValueError: if an array is not a picture, if a side is under 16 px, as given or after resizing, or
        if the recipe has several weights in `style_shares`, but not one for each style.
    """
    content, styles = _checks.image("content", content), _checks.one_or_several("style", style)
    others = [] if given is None else [region.style for region in given.regions]
    sides = [[picture.shape[:2] for picture in some] for some in (styles, others)]
    scales = scales_of(
        content.shape[:2],
        sides[0] if originals is None else originals,
        recipe,
        region_styles=sides[1],
        protected=given is not None and given.protect is not None,
    )
    shapes = scales[-1].style_shapes
    resize = resized_without_compiling if on_host else resized
    return prepared_of(
        resize(content, scales[-1].shape, recipe),
        tuple(resize(*pair, recipe) for pair in zip(styles, shapes, strict=False)),
        scales,
        recipe,
        region_styles=tuple(
            resize(*pair, recipe) for pair in zip(others, shapes[len(styles) :], strict=True)
        ),
        controls=given and regions.controls_of(given, scales[-1].shape, shapes, on_host=on_host),
        on_host=on_host,
        side=side,
    )


def prepared_of(
    content: Image,
    styles: tuple[Any, ...],
    scales: tuple[Scale, ...],
    recipe: Recipe,
    *,
    region_styles: tuple[Any, ...] = (),
    controls: Controls | None = None,
    on_host: bool = False,
    side: int = SMALLEST,
) -> Prepared:
    """Return pictures at their final sizes as a run needs them: recoloured, if the recipe says so.

    A style is recoloured so that statistics of its colours, such as their means, match those of the
    content; see `finishing.recolored`. Transparent pixels of both are left out of these statistics. Of
    the content, only those pixels are used that are painted in this style: for the style of a region,
    those in the region. If the style of a region has a mask, only its pixels inside the mask are used.

    Args:
      content: [h, w, 3] at its final size.
      styles: each style [h', w', 3] at its final size.
      scales: the scales of the run.
      recipe: the recipe whose `pictures.colors` applies.
      region_styles: the style of each region at its final size.
      controls: regions, protected and transparent parts; None if there are none.
      on_host: whether each picture is recoloured in a square array at whose top left it lies. One
        program then serves pictures of many sizes.
      side: the sides of these squares are rounded up to a multiple of this number of px. A larger
        number makes more pictures share a program.
    """
    pictures, count = recipe.pictures, len(styles)
    if not finishing.recolors(pictures.colors):
        return Prepared(content, styles, scales, content, region_styles, controls)
    everything = (*styles, *region_styles)
    if on_host:
        seen = _recolored_in_squares(content, everything, controls, recipe, side)
    else:
        seen = _recolored(
            content,
            everything,
            pictures.colors,
            pictures.color_map,
            content_opacities=() if controls is None else _content_parts(controls),
            style_opacities=() if controls is None else controls.style_masks,
        )
    own, of_regions = seen.styles[:count], seen.styles[count:]
    return Prepared(seen.content, own, scales, content, of_regions, controls)


def _recolored_in_squares(
    content: Image,
    styles: tuple[Any, ...],
    controls: Controls | None,
    recipe: Recipe,
    side: int,
) -> finishing.Seen:
    """Recolour a content and styles as `finishing.recolored` does, in a program compiled for squares.

    Each picture lies at the top left of a square array. The side of the square is the longer side of
    the picture, rounded up to a multiple of `side`. So one compiled program serves many sizes. The rest
    of the square has the opacity 0, so that it does not count in the means and covariances of colours.
    """
    shapes = [tuple(np.shape(picture)[:2]) for picture in (content, *styles)]
    squares = [square_of(shape, side) for shape in shapes]
    wide = [
        jnp.asarray(padded(picture, square))
        for picture, square in zip((content, *styles), squares, strict=True)
    ]
    if controls is None:
        controls = Controls(
            np.zeros((*shapes[0], 0), np.float32),
            np.ones(1, np.float32),
            (None,) * len(styles),
            None,
            None,
            np.zeros((), np.float32),
        )
    opaque = np.ones(shapes[0], np.float32)
    masked = controls._replace(
        opacity=opaque if controls.opacity is None else controls.opacity,
        style_masks=tuple(
            np.ones(shape, np.float32) if mask is None else mask
            for mask, shape in zip(controls.style_masks, shapes[1:], strict=True)
        ),
    )
    masked = regions.padded_controls(masked, squares[0], squares[1:])
    seen = _recolored(
        wide[0],
        tuple(wide[1:]),
        recipe.pictures.colors,
        recipe.pictures.color_map,
        content_opacities=_content_parts(masked),
        style_opacities=masked.style_masks,
    )
    found = [
        jax.device_put(np.asarray(one)[: shape[0], : shape[1]])
        for one, shape in zip((seen.content, *seen.styles), shapes, strict=True)
    ]
    return finishing.Seen(found[0], tuple(found[1:]))


def square_of(shape: Shape, step: int = SMALLEST) -> Shape:
    """Return the (height, width) of a square array in which a picture of this (height, width) fits.

    One program, compiled for the square, serves pictures of many sizes. The side of the square is the
    picture's longer side, rounded up to a multiple of `step` px.

    Example:
      >>> square_of((171, 250))
      (256, 256)
    """
    side = -(-max(shape) // step) * step
    return side, side


def styles_at(prepared: Prepared, scale: Scale) -> tuple[StyleImage, ...]:
    """Return all styles, those of regions last, resized for a scale (resolution), clipped to [0, 1]."""
    pictures = (*prepared.styles, *prepared.region_styles)
    return tuple(at_scale(*pair) for pair in zip(pictures, scale.style_shapes, strict=True))


def controls_at(prepared: Prepared, scale: Scale) -> Controls | None:
    """Return a run's controls, with masks resized for one scale; None if the run has no controls.

    Controls are the masks of regions, protected and transparent parts, and the weights of the regions.
    """
    if prepared.controls is None:
        return None
    return regions.resized_controls(prepared.controls, scale.shape, scale.style_shapes)


def controls_in_arrays(prepared: Prepared, scale: Scale, arrays: Scale) -> Controls | None:
    """Return a run's controls (masks and region weights) for pictures at the top left of larger arrays.

    NumPy resizes the masks, so that JAX compiles nothing for their sizes. Outside the pictures, the
    masks are 0. The result is None if the run has no controls.

    Args:
      prepared: the pictures, prepared on the host.
      scale: the scale (resolution), with the sizes of the pictures.
      arrays: the sizes of the arrays at this scale. All styles have arrays of the same size.
    """
    if prepared.controls is None:
        return None
    given = regions.controls_on_host(prepared.controls)
    here = regions.resized_controls(given, scale.shape, scale.style_shapes)
    styles = arrays.style_shapes[:1] * len(scale.style_shapes)
    return regions.padded_controls(here, arrays.shape, styles)


def resized(image: np.ndarray, shape: Shape, recipe: Recipe) -> Resized:
    """Resize a picture [h, w, 3] to (height, width) with the recipe's filter; return float32.

    If the default device is an accelerator, NumPy resizes the picture, since XLA takes seconds there to
    compile the filter for each size.
    """
    if image.shape[:2] == shape:
        return jnp.asarray(image)
    if default_platform() != "cpu":
        return resized_without_compiling(image, shape, recipe)
    return jnp.asarray(recipe.pictures.resize(image, shape), jnp.float32)


def resized_without_compiling(image: np.ndarray, shape: Shape, recipe: Recipe) -> Resized:
    """Resize a picture as `resized` does, without compiling a program for its size."""
    # `jnp.asarray` would compile a copying program for this shape.
    return jax.device_put(on_host_filters.resized_on_host(image, shape, recipe.pictures.resize))


def at_scale(image: Image, shape: Shape) -> Resized:
    """Resize a picture to a (height, width), with antialiasing, and clip it to [0, 1].

    A recipe's own filter resizes the run's pictures to their final sizes, in `resized`. From these,
    this function makes the smaller pictures of coarser scales, with the same filter for all recipes. On
    an accelerator, NumPy resizes the picture, since XLA would compile a program for each size.
    """
    if image.shape[:2] == shape and _is_clipped(image):
        return image  # the same array, since a copy of a large picture takes memory
    if default_platform() != "cpu":
        return jax.device_put(on_host_filters.at_scale_on_host(image, shape))
    return _antialiased(image, shape)


def _is_clipped(image: Image) -> bool:
    pixels = np.asarray(image)
    return bool(np.min(pixels) >= 0 and np.max(pixels) <= 1)


_antialiased = Jitted(antialiased, static_argnums=(1,))
_recolored = Jitted(finishing.recolored, static_argnums=(2, 3))
_content_parts = Jitted(regions.content_parts)


class Finisher:
    """Finishes the results of one run: changes edges and colours, and restores protected parts.

    The recipe says whether and how edges (`realism`) and colours are changed. Where a mask protects a
    part of the content, the content is mixed into the result.
    """

    def __init__(self, prepared: Prepared, recipe: Recipe, realism: Any = None) -> None:
        """Set up the finishing of one run's results.

        Args:
          prepared: the pictures of the run.
          recipe: the recipe of the run.
          realism: how far the result gets the content's edges back, from 0 to 1; None means the value
            of the recipe, `pictures.realism`.
        """
        self._prepared, self._recipe = prepared, recipe
        self._realism = float(recipe.pictures.realism if realism is None else realism)
        self._filters = bool(self._realism) or finishing.colors_after(recipe.pictures.colors)
        # `_use` or `_use_in_arrays` sets these five attributes for one scale (resolution). They are
        # reused for the next picture if it has the same scale, which is usual.
        self._scale: Scale | None = None
        self._content: AnyImage = prepared.photo
        self._opacity: Any = None
        self._palette: Palette | None = None
        self._kept: KeptContent | None = None

    def __call__(self, image: Image, scale: Scale) -> Image:
        """Return the finished picture for a painted image; the same array if nothing is to change.

        Args:
          image: [h, w, 3], the canvas as an image.
          scale: the scale (resolution) at which it was painted.
        """
        controls, pictures = self._prepared.controls, self._recipe.pictures
        if not self._filters and (controls is None or controls.protect is None):
            return image
        if scale is not self._scale:
            self._use(scale)
        if self._filters:
            image = _finished(
                image,
                self._content,
                self._palette,
                jnp.asarray(self._realism, jnp.float32) if self._realism else None,
                colors=pictures.colors,
                space=pictures.chroma_space,
                kept=self._kept,
                opacity=self._opacity if pictures.colors == "palette" else None,
            )
        return image if self._kept is None else _with_kept(image, self._kept)

    def in_arrays(self, image: Any, scale: Scale, arrays: Scale) -> Image:
        """Return the finished picture for a painted image at the top left of a larger array.

        The programs that adjust it are compiled for the size of the array, so that images of several
        sizes can share them.

        Args:
          image: [h, w, 3], the array with the painted image.
          scale: the scale (resolution) at which the image was painted, with the sizes of the pictures.
          arrays: the same scale, but with the sizes of the arrays in which the pictures lie.

        Returns:
          The picture alone, without the rest of the array.
        """
        controls, pictures = self._prepared.controls, self._recipe.pictures
        if self._filters or (controls is not None and controls.protect is not None):
            if scale is not self._scale:
                self._use_in_arrays(scale, arrays)
            size = jnp.asarray(scale.shape, jnp.int32)
            image = jnp.asarray(image)
            if self._filters:
                image = _finished(
                    image,
                    self._content,
                    self._palette,
                    jnp.asarray(self._realism, jnp.float32) if self._realism else None,
                    colors=pictures.colors,
                    space=pictures.chroma_space,
                    kept=self._kept,
                    opacity=self._opacity if pictures.colors == "palette" else None,
                    size=size,
                    radius=(
                        jnp.asarray(finishing.filter_radius(*scale.shape), jnp.int32)
                        if self._realism
                        else None
                    ),
                )
            image = image if self._kept is None else _with_kept(image, self._kept)
        height, width = scale.shape
        return jax.device_put(np.asarray(image)[:height, :width])

    def _use_in_arrays(self, scale: Scale, arrays: Scale) -> None:
        """Set the attributes that `in_arrays` reads, for one scale (resolution).

        Args:
          scale: the scale, with the sizes of the pictures.
          arrays: the sizes of the arrays of that scale; each picture lies at the top left of an array.
        """
        self._scale, prepared = scale, self._prepared
        photo = on_host_filters.at_scale_on_host(prepared.photo, scale.shape)
        self._content = jnp.asarray(padded(photo, arrays.shape))
        controls = controls_in_arrays(prepared, scale, arrays)
        if controls is not None:
            self._opacity = controls.opacity
            self._kept = _kept_of(self._content, controls, jnp.asarray(scale.shape, jnp.int32))
        if self._recipe.pictures.colors != "palette":
            return
        shapes = scale.style_shapes[: len(prepared.styles)]
        masks = [None] * len(shapes) if controls is None else controls.style_masks
        styles, opacities = [], []
        for style, shape, mask in zip(prepared.styles, shapes, masks, strict=False):
            found = on_host_filters.at_scale_on_host(style, shape)
            array = arrays.style_shapes[0]
            styles.append(jnp.asarray(padded(found, array)))
            opaque = padded(np.ones(shape, np.float32), array)
            opacities.append(jnp.asarray(opaque) if mask is None else mask)
        self._palette = self._mixed(styles, opacities)

    def _use(self, scale: Scale) -> None:
        """Set the attributes that `__call__` reads, for one scale (resolution)."""
        self._scale = scale
        self._content = at_scale(self._prepared.photo, scale.shape)
        controls = controls_at(self._prepared, scale)
        if controls is not None:
            self._opacity = controls.opacity
            self._kept = _kept_of(self._content, controls)
        if self._recipe.pictures.colors == "palette":
            self._palette = self._palette_at(scale, controls)

    def _palette_at(self, scale: Scale, controls: Controls | None) -> Palette:
        """Return the mean, covariance and range of the styles' colours at one scale (resolution).

        Several styles are mixed as `_mixed` says. `controls` has their opacity masks; with None, all
        styles are opaque.
        """
        masks = () if controls is None else controls.style_masks
        return self._mixed(styles_at(self._prepared, scale), masks)

    def _mixed(self, styles: Sequence[Any], opacities: Sequence[Any]) -> Palette:
        """Return the palette of all styles together, each weighted by the recipe's `style_shares`.

        `opacities` has the opacity mask of each style, or None for an opaque style; if it is empty, all
        styles are opaque.
        """
        # Styles for single taps (layers; see `Terms.tap_styles`) have no weight in `style_shares`, so
        # their colours are left out.
        terms = self._recipe.terms
        styles = terms.blended_styles(styles)
        opacities = terms.blended_styles(opacities) if opacities else ()
        shares = terms.style_shares
        if len(shares) == 1:
            shares = shares * len(styles)
        return _mixed_palette(tuple(styles), jnp.asarray(shares, jnp.float32), tuple(opacities))


_finished = Jitted(finishing.finished, static_argnames=("colors", "space"))
_mixed_palette = Jitted(finishing.mixed_palette)
_kept_of, _with_kept = Jitted(regions.kept_of), Jitted(regions.with_kept)


def exact_canvas(content: AnyImage, recipe: Recipe, init: Any) -> np.ndarray | None:
    """Return a run's first canvas in network pixels, or None if the run starts from an image in [0, 1].

    Network pixels are numbers from 0 to 255, minus ImageNet's mean. `SeededBlend`, one of the starts
    (functions that make a first canvas), computes such pixels. If the recipe's canvas is stored as
    network pixels, too, it gets them unchanged: converting them to an image and back would round them.

    Args:
      content: [h, w, 3], at the coarsest scale.
      recipe: the recipe whose start is used if `init` is None.
      init: None, a start or an image; see `starting_image`.

    Returns:
      The pixels, [h, w, 3] float32 in the order BGR. If the result is None, make the canvas from the
      image that `starting_image` returns.
    """
    chosen = recipe.pictures.start if init is None else init
    if isinstance(chosen, starts.SeededBlend) and recipe.descent.coordinates is CAFFE_BGR:
        return chosen.pixels(content)[..., ::-1]
    return None


def starting_image(
    content: Image, style: StyleImage, recipe: Recipe, init: Any, key: Array
) -> Image:
    """Make the image that a run starts from, at its coarsest scale.

    Args:
      content: [h, w, 3], at the coarsest scale.
      style: the first style, [h', w', 3], at the coarsest scale.
      recipe: the recipe whose start is used if `init` is None.
      init: None, an instance of a class of `nst_jax.recipes.starts`, such as `Noise()`, or an image
        [h, w, 3] of any size. An image is resized to the canvas; if its proportions differ from the
        content's, it is stretched.
      key: a random key, for starts that draw noise.

    Returns:
      [h, w, 3], of the content's shape, in [0, 1]; but a start that adds noise or detail may give
      values a little outside this range.

    Raises:
      ValueError: if a start function returns another shape than the content's, or if an image is not
        in [0, 1].
    """
    if init is None:
        init = recipe.pictures.start
    height, width, _ = content.shape
    if callable(init):
        image = init(content, style, key)
        starts.check_shape(image, content)
        return image
    return at_scale(jnp.asarray(_checks.image("init", init)), (height, width))
