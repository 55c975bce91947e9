"""What a recipe does to pictures before the first step: size rule, filter, style size, start.

The verbs and the command line both come through here, so they give the network the same pixels.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks
from nst_jax._types import Image, Resized, Shape, StyleImage
from nst_jax.images.resizing import antialiased
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.recipe import Recipe, check_styles
from nst_jax.vgg.pixels import CAFFE_BGR
from nst_jax.vgg.taps import SMALLEST


class Scale(NamedTuple):
    """One scale of a run."""

    shape: Shape  # of the canvas
    style_shapes: tuple[Shape, ...]
    steps: int


class Prepared(NamedTuple):
    """The pictures at their final sizes, and the scales on the way there."""

    content: Image
    styles: tuple[StyleImage, ...]
    scales: tuple[Scale, ...]


def final_shapes(
    content: Shape, style: Shape, recipe: Recipe, *, argument: str = "style"
) -> tuple[Shape, Shape]:
    """Return the (height, width) that the recipe gives the canvas and the style.

    Args:
      content: (height, width) of the content.
      style: of the style.
      recipe: whose rules count.
      argument: how the caller calls the style, for messages.

    Returns:
      (height, width) of the canvas, and of the style.

    Raises:
      ValueError: if either is, or would be, under 16 px on a side.
    """
    rule = recipe.pictures.size
    canvas = _checked("content", content, rule.shape(*content), rule)
    style_rule = recipe.pictures.style_size or rule
    if hasattr(style_rule, "beside"):
        wanted = style_rule.beside(canvas, *style)
    else:
        wanted = style_rule.shape(*style)
    return canvas, _checked(argument, style, wanted, style_rule)


def _checked(argument: str, old: Shape, new: Shape, rule: sizes.SizeRule) -> Shape:
    if min(new) < SMALLEST:
        raise ValueError(
            f"`{argument}`: {old[1]}x{old[0]} px becomes {new[1]}x{new[0]} px by the size rule "
            f"({rule}); the network needs {SMALLEST} px on each side, so crop the picture "
            "or choose a larger size"
        )
    _checks.image_shape(argument, (*old, 3), smallest=SMALLEST)  # enlarging adds nothing to see
    return new


def scales_of(content: Shape, styles: Sequence[Shape], recipe: Recipe) -> tuple[Scale, ...]:
    """Return the scales of a run on pictures of these sizes.

    Raises:
      ValueError: if a picture is, or would be, under 16 px on a side, or if there are not as many
        styles as the recipe has shares.
    """
    check_styles(recipe.terms, len(styles))
    names = ["style"] if len(styles) == 1 else [f"style[{i}]" for i in range(len(styles))]
    shapes = [
        final_shapes(content, style, recipe, argument=name)
        for style, name in zip(styles, names, strict=True)
    ]
    return plan(shapes[0][0], [style for _, style in shapes], recipe)


def plan(shape: Shape, style_shapes: Sequence[Shape], recipe: Recipe) -> tuple[Scale, ...]:
    """Return the scales of a run, coarse to fine; the styles shrink with the canvas."""
    scales = []
    for canvas, steps in recipe.descent.schedule.plan(shape, int(recipe.descent.steps)):
        ratio = max(canvas) / max(shape)
        styles = tuple(_shrunk(style, ratio) for style in style_shapes)
        scales.append(Scale(canvas, styles, steps))
    return tuple(scales)


def _shrunk(shape: Shape, ratio: float) -> Shape:
    return max(SMALLEST, round(shape[0] * ratio)), max(SMALLEST, round(shape[1] * ratio))


def pictures(content: Any, style: Any, recipe: Recipe) -> Prepared:
    """Bring a content and its style, or styles, to the sizes and pixels that the recipe wants.

    Args:
      content: [h, w, 3] in [0, 1], or uint8.
      style: the same, or several.
      recipe: after `with_sizes`.

    Returns:
      float32 pictures at their final sizes, and the scales.

    Raises:
      ValueError: if a picture is not one, or would become too small, or if there are not as many
        styles as shares.
    """
    content, styles = _checks.image("content", content), _checks.blend("style", style)
    scales = scales_of(content.shape[:2], [style.shape[:2] for style in styles], recipe)
    shapes = scales[-1].style_shapes
    return Prepared(
        content=resized(content, scales[-1].shape, recipe),
        styles=tuple(resized(*pair, recipe) for pair in zip(styles, shapes, strict=True)),
        scales=scales,
    )


def styles_at(prepared: Prepared, scale: Scale) -> tuple[StyleImage, ...]:
    """Return the styles at a coarser scale, antialiased."""
    pairs = zip(prepared.styles, scale.style_shapes, strict=True)
    return tuple(at_scale(*pair) for pair in pairs)


def resized(image: np.ndarray, shape: Shape, recipe: Recipe) -> Resized:
    """Bring a picture to (height, width) by the recipe's filter; float32."""
    if image.shape[:2] == shape:
        return jnp.asarray(image)
    return jnp.asarray(recipe.pictures.resize(image, shape), jnp.float32)


def at_scale(image: Image, shape: Shape) -> Resized:
    """Return a prepared picture at a coarser scale, antialiased."""
    return _antialiased(image, shape)


_antialiased = jax.jit(antialiased, static_argnums=1)


def exact_canvas(content: Image, recipe: Recipe, init: Any) -> np.ndarray | None:
    """Return the start in the recipe's coordinates, if it is made there and no image can hold it.

    Args:
      content: [h, w, 3], at the coarsest scale.
      recipe: whose start is used if `init` is None, and whose coordinates count.
      init: as in `start`.

    Returns:
      [h, w, 3] float32 in the coordinates, or None where the image of `start` is all there is.
    """
    chosen = recipe.pictures.start if init is None else init
    if isinstance(chosen, starts.SeededBlend) and recipe.descent.coordinates is CAFFE_BGR:
        return chosen.pixels(content)[..., ::-1]
    return None


def start(content: Image, style: StyleImage, recipe: Recipe, init: Any, key: Array) -> Image:
    """Make the canvas' start at the coarsest scale.

    Args:
      content: [h, w, 3], at that scale.
      style: at that scale.
      recipe: whose start is used if `init` is None.
      init: None, an image of any size, or a function of `nst_jax.recipes.starts`.
      key: for starts that draw noise.

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      ValueError: if the start makes another shape than the content's.
    """
    if init is None:
        init = recipe.pictures.start
    height, width, _ = content.shape
    if callable(init):
        image = init(content, style, key)
        if jnp.shape(image) != content.shape:
            raise ValueError(
                f"`init`: the start made shape {list(jnp.shape(image))} of a content "
                f"{list(content.shape)}; they must be the same"
            )
        return image
    return at_scale(jnp.asarray(_checks.image("init", init)), (height, width))
