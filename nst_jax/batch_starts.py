"""The images from which the canvases of a batch start: at the first scale, and at each finer one.

A scale is one of the resolutions, coarse to fine, at which pictures are painted.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import optimize, prepare
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import Image, Resized, Shape
from nst_jax.batch_members import Member
from nst_jax.batch_numbers import shares_of_picture
from nst_jax.feed_forward import instant_start
from nst_jax.images import on_host
from nst_jax.images.resizing import finest_detail
from nst_jax.optimize import Handover
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.starts_on_host import image_on_host
from nst_jax.scaling import sharding
from nst_jax.scaling.plan import Plan

_enlarge = Jitted(optimize.enlarged, static_argnums=(1, 2, 3))


def starting_images(
    members: Sequence[Member],
    plan: Plan,
    scale: int,
    before: Handover | None,
    init: Any,
    recipe: Recipe,
) -> tuple[Image, np.ndarray | None]:
    """Return the images [pictures, h, w, 3] with which a scale starts, and their exact canvases.

    The exact canvases are the same pictures in the optimiser's pixel convention, without rounding
    errors; see `_first_images`. They are None for all scales but the first, and also for the first
    scale if the first canvases are defined as images.

    Args:
      members: the pictures.
      plan: the plan by which they are painted.
      scale: index of the scale.
      before: the results of the coarser scale; None for the first scale.
      init: as in `stylize_many`.
      recipe: the recipe of these pictures, with its numbers as arrays.
    """
    shape, descent = plan.scales[scale].shape, plan.recipe.descent
    if before is None:
        image, exact = _first_images(members, plan, init, recipe)
        if not plan.in_bucket:
            image = _enlarge(image, shape, descent.enlarge, False)
        return image, exact
    if plan.in_bucket:
        return _enlarged_in_bucket(members, plan, scale, before.image), None
    image = _enlarge(before.image, shape, descent.enlarge, descent.clip)
    if descent.content_detail and scale < len(plan.scales) - 1:
        image = image + jax.vmap(finest_detail)(contents_at(members, shape))
    return image, None


def contents_at(members: Sequence[Member], shape: Shape) -> Image:
    """Return the content of each picture, resized to a (height, width), [pictures, h, w, 3]."""
    pictures = {
        member.content: prepare.at_scale(member.prepared.content, shape) for member in members
    }
    return jnp.stack([pictures[member.content] for member in members])


def _first_images(
    members: Sequence[Member], plan: Plan, init: Any, recipe: Recipe
) -> tuple[Image, np.ndarray | None]:
    """Return the images [pictures, h, w, 3] from which the run starts, and their exact canvases.

    Some recipes define their first canvas in the pixel convention in which the optimiser works, such as
    BGR from 0 to 255 minus ImageNet's mean. The exact canvases have these pixels, which a conversion
    from the images would round. They are None if the first canvas is defined as an image. See
    `prepare.exact_canvas`. The arguments are as in `starting_images`.
    """
    images: list[Any] = []
    canvases: list[np.ndarray] = []
    array = plan.scales[0].shape if plan.in_bucket else None
    at_scale: Any = prepare.at_scale if array is None else on_host.at_scale_on_host
    for place, member in enumerate(members):
        scale = member.prepared.scales[0]
        content = at_scale(member.prepared.content, scale.shape)
        style = at_scale(member.prepared.styles[0], scale.style_shapes[0])
        shares = shares_of_picture(recipe, place)
        own = instant_start.resolved_start(member.prepared, plan.recipe, init, shares, array=array)
        if array is None:
            images.append(prepare.starting_image(content, style, plan.recipe, own, member.key))
        else:
            start = plan.recipe.pictures.start if own is None else own
            images.append(image_on_host(start, content, style, member.key, array))
        canvas = prepare.exact_canvas(content, plan.recipe, init)
        if canvas is not None:
            canvases.append(canvas)
    if array is not None:
        images = [padded(image, array) for image in images]
        canvases = [padded(canvas, array) for canvas in canvases]
        return jnp.asarray(np.stack(images)), np.stack(canvases) if canvases else None
    return jnp.stack(images), np.stack(canvases) if canvases else None


def _enlarged_in_bucket(
    members: Sequence[Member], plan: Plan, scale: int, images: Image
) -> Resized:
    """Resize images in larger arrays from the previous, coarser scale to `scale`.

    Each picture lies at the top left of its array. It is cut out, resized to the size that it has at
    `scale`, and put into a new array. NumPy does that on the host, so that nothing is compiled for the
    sizes of the pictures.
    """
    descent, array = plan.recipe.descent, plan.scales[scale].shape
    found = []
    coarse = sharding.to_host(images, plan.mesh)
    for member, image in zip(members, coarse, strict=True):
        height, width = member.prepared.scales[scale - 1].shape
        larger = member.prepared.scales[scale].shape
        one = on_host.resized_on_host(
            image[:height, :width], larger, descent.enlarge, argument="enlarge"
        )
        found.append(padded(np.clip(one, 0, 1) if descent.clip else one, array))
    return jnp.asarray(np.stack(found))
