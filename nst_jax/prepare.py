"""What a recipe does to pictures before the first step: size rule, filter, style size, start.

The verbs and the command line both come through here, so they give the network the same pixels.
"""

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import checks, sizes
from nst_jax._types import Image, Resized, StyleImage
from nst_jax.pyramid import Shape, antialiased
from nst_jax.recipe import Recipe
from nst_jax.vgg import SMALLEST


class Scale(NamedTuple):
    """One scale of a run."""

    shape: Shape  # of the canvas
    style_shape: Shape
    steps: int


class Prepared(NamedTuple):
    """Two pictures at their final sizes, and the scales on the way there."""

    content: Image
    style: StyleImage
    scales: tuple[Scale, ...]


def with_sizes(recipe: Recipe, size: sizes.Size = None, style_size: sizes.Size = None) -> Recipe:
    """Return the recipe with its size rules replaced by what the caller said.

    Args:
      recipe: whose rules are the starting point.
      size: for the content and, unless said otherwise, the style; see `sizes.with_size`.
      style_size: for the style alone.

    Returns:
      The recipe to prepare with.
    """
    rule = sizes.with_size(recipe.pictures.size, size, argument="size")
    own = recipe.pictures.style_size
    if style_size is not None:
        own = sizes.with_size(own or rule, style_size, argument="style_size")
    elif size is not None and not hasattr(own, "beside"):
        own = own and sizes.with_size(own, size, argument="size")
    return replace(recipe, pictures=replace(recipe.pictures, size=rule, style_size=own))


def final_shapes(content: Shape, style: Shape, recipe: Recipe) -> tuple[Shape, Shape]:
    """Return the (height, width) that the recipe gives the canvas and the style.

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
    return canvas, _checked("style", style, wanted, style_rule)


def _checked(argument: str, old: Shape, new: Shape, rule: sizes.SizeRule) -> Shape:
    if min(new) < SMALLEST:
        raise ValueError(
            f"`{argument}`: {old[1]}x{old[0]} px becomes {new[1]}x{new[0]} px by the size rule "
            f"({rule}); the network needs {SMALLEST} px on each side, so crop the picture "
            "or choose a larger size"
        )
    checks.image_shape(argument, (*old, 3), smallest=SMALLEST)  # enlarging adds nothing to see
    return new


def plan(shape: Shape, style_shape: Shape, recipe: Recipe) -> tuple[Scale, ...]:
    """Return the scales of a run, coarse to fine; the style shrinks with the canvas."""
    scales = []
    for canvas, steps in recipe.descent.schedule.plan(shape, int(recipe.descent.steps)):
        ratio = max(canvas) / max(shape)
        style = tuple(max(SMALLEST, round(side * ratio)) for side in style_shape)
        scales.append(Scale(canvas, (style[0], style[1]), steps))
    return tuple(scales)


def pictures(content: Any, style: Any, recipe: Recipe) -> Prepared:
    """Bring two pictures to the sizes and pixels that the recipe wants.

    Args:
      content: [h, w, 3] in [0, 1], or uint8.
      style: [h, w, 3] in [0, 1], or uint8.
      recipe: after `with_sizes`.

    Returns:
      float32 pictures at their final sizes, and the scales.

    Raises:
      ValueError: if a picture is not one, or would become too small.
    """
    content, style = checks.image("content", content), checks.image("style", style)
    shapes = final_shapes(content.shape[:2], style.shape[:2], recipe)
    return Prepared(
        content=resized(content, shapes[0], recipe),
        style=resized(style, shapes[1], recipe),
        scales=plan(*shapes, recipe),
    )


def resized(image: np.ndarray, shape: Shape, recipe: Recipe) -> Resized:
    """Bring a picture to (height, width) by the recipe's filter; float32."""
    if image.shape[:2] == shape:
        return jnp.asarray(image)
    return jnp.asarray(recipe.pictures.resize(image, shape), jnp.float32)


def at_scale(image: Image, shape: Shape) -> Resized:
    """Return a prepared picture at a coarser scale, antialiased."""
    return _antialiased(image, shape)


_antialiased = jax.jit(antialiased, static_argnums=1)


def start(content: Image, style: StyleImage, recipe: Recipe, init: Any, key: Array) -> Image:
    """Make the canvas' start at the coarsest scale.

    Args:
      content: [h, w, 3], at that scale.
      style: at that scale.
      recipe: whose start is used if `init` is None.
      init: None, an image of any size, or a function of `nst_jax.starts`.
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
    return at_scale(jnp.asarray(checks.image("init", init)), (height, width))
