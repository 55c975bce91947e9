"""Prepare the pictures of a run by its recipe: their sizes, their colours, and the initial canvas.

The Python functions and the command line both use this module, so the network gets the same pixels from
both.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import AnyImage, Image, Resized, Shape, StyleImage
from nst_jax.controls import finishing, regions
from nst_jax.controls.given import Given
from nst_jax.controls.regions import Controls
from nst_jax.images import on_host as on_host_filters
from nst_jax.images.resizing import antialiased
from nst_jax.recipes import starts
from nst_jax.recipes.filters import FILTERS
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale, scales_of
from nst_jax.vgg.pixels import CAFFE_BGR
from nst_jax.vgg.precision import default_platform
from nst_jax.vgg.taps import SMALLEST


class Prepared(NamedTuple):
    """The pictures of a run at their final sizes, and the scales (resolutions) of the run."""

    content: Image  # [h, w, 3] as the network sees it: grey, if only luminance is painted
    styles: tuple[Any, ...]  # [h', w', 3] each, as the network sees them: recoloured, if wanted
    scales: tuple[Scale, ...]  # coarse to fine
    photo: Image  # the content in its own colours
    region_styles: tuple[StyleImage, ...] = ()  # the styles of the regions, like `styles`
    # Regions, protected and transparent parts; None if there are no such parts.
    controls: Controls | None = None


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
    """Check a content and its style, or styles; resize and recolour them as the recipe says.

    Args:
      content: [h, w, 3] in [0, 1], or uint8.
      style: one such picture, or a list or tuple of several.
      recipe: the recipe whose size rules, filter, schedule and choice of colours apply.
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
      TypeError: if the content or a style is not an array.
      ValueError: if an array is not a picture, if a side is under 16 px, as given or after resizing, or
        if the number of styles does not fit the recipe's `style_shares`, `tap_styles` or `style_scale`.
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
    compile the filter for each size. A filter for which NumPy has no equivalent is called as it is.

    Raises:
      TypeError, ValueError: if a user's own filter returns no picture of this size; see
        `_checks.returned_image`.
    """
    if image.shape[:2] == shape:
        return jnp.asarray(image, jnp.float32)
    if default_platform() != "cpu":
        return resized_without_compiling(image, shape, recipe)
    resize = recipe.pictures.resize
    found = resize(image, shape)
    if resize not in FILTERS.values():
        found = _checks.returned_image("resize", "filter", found, (*shape, 3))
    return jnp.asarray(found, jnp.float32)


def resized_without_compiling(image: np.ndarray, shape: Shape, recipe: Recipe) -> Resized:
    """Resize a picture as `resized` does, without compiling a program for its size.

    A filter for which NumPy has no equivalent, such as a user's own, is called as it is.
    """
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


def exact_canvas(content: AnyImage, recipe: Recipe, init: Any) -> np.ndarray | None:
    """Return a run's first canvas in network pixels, or None if the run starts from an image in [0, 1].

    Network pixels are numbers from 0 to 255, minus ImageNet's mean. `SeededBlend`, one of the starts
    (functions that make a first canvas), computes such pixels. If the recipe's canvas is stored as
    network pixels, too, it gets them unchanged: converting them to an image and back would round them.

    Args:
      content: [h, w, 3], at the coarsest scale.
      recipe: the recipe whose start is used if `init` is None.
      init: None, a start, or an image to start from; see `starting_image`.

    Returns:
      The pixels, [h, w, 3] float32 in the order BGR. If the result is None, make the canvas from the
      image that `starting_image` returns.
    """
    chosen = recipe.pictures.start if init is None else init
    if isinstance(chosen, starts.SeededBlend) and recipe.descent.coordinates == CAFFE_BGR:
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
      init: None, a start or an image. A start is a function (content, style, key) -> image, such as
        `nst_jax.recipes.starts.Noise()`. An image [h, w, 3] may have any size; it is resized to the
        canvas, and stretched if its proportions differ from the content's.
      key: a random key, for starts that draw noise.

    Returns:
      [h, w, 3], of the content's shape, in [0, 1]; but a start that adds noise or detail may give
      values a little outside this range.

    Raises:
      TypeError: if `init` is neither None, nor a function, nor an array; or if a start of a user's own
        returns no array.
      ValueError: if such a start returns an array that `starts.called` refuses, or if `init` is an
        array, but not an image [h, w, 3] in [0, 1].
    """
    if init is None:
        init = recipe.pictures.start
    height, width, _ = content.shape
    if callable(init):
        return starts.called(init, content, style, key)
    return at_scale(jnp.asarray(_checks.image("init", init)), (height, width))
