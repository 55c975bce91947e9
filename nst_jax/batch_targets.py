"""The targets of a batch: what the canvases of pictures that are painted together are compared with.

Targets are the features of a content and the statistics of a style, such as Gram matrices. Those of a
content or style that several pictures have are computed only once.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from nst_jax import prepare
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import Image, Resized, Shape, Targets
from nst_jax.batch_members import Member
from nst_jax.batch_numbers import shares_of_picture
from nst_jax.images import on_host
from nst_jax.losses import MatchingLoss
from nst_jax.measuring import Measuring
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import band_mesh
from nst_jax.style_statistics import blend
from nst_jax.targets import stacked_targets, style_targets

_style_targets = Jitted(style_targets)


def targets_of_members(
    members: Sequence[Member], plan: Plan, scale: int, recipe: Recipe, pieces: Measuring
) -> Targets:
    """Compute the targets of several pictures at a scale (resolution), stacked along a first axis.

    If several pictures have the same content or style, its targets are computed only once; those of a
    style with a mask may be computed for each picture. In a bucket (larger arrays, in which pictures of
    several sizes lie), the pictures may need the same style in several sizes. Its statistics are then
    computed once for each size.

    Args:
      members: the pictures. Either all of them have masks, or none has.
      plan: the plan by which they are painted.
      scale: index of the scale.
      recipe: the recipe at this scale, with its numbers as arrays.
      pieces: computes the features and statistics of single pictures by this recipe.
    """
    if members[0].prepared.controls is not None:
        return _targets_with_masks(members, plan, scale, recipe, pieces)
    mesh = band_mesh(plan.mesh)
    contents: dict[int, Any] = {}
    photos: dict[int, Any] = {}
    styles: dict[Any, Any] = {}
    for member in members:
        here = member.prepared.scales[scale]
        if member.content not in contents:
            picture, real = _at_scale(
                plan, member.prepared.content, here.shape, plan.scales[scale].shape
            )
            picture = sharding.replicate(picture, mesh)
            contents[member.content] = pieces.content(picture, **real)
            photos[member.content] = pieces.photo(picture)
        name = _name_of_style(member, plan, scale)
        if name not in styles:
            styles[name] = _measured_styles(member, plan, scale, recipe, pieces)
    of_members = _blended(members, plan, scale, recipe, styles)
    content = _stacked(*(contents[member.content] for member in members))
    photo = _stacked(*(photos[member.content] for member in members))
    return Targets(
        sharding.split(content, plan.mesh, bands=plan.bands(scale) is not None),
        sharding.split(stacked_targets(of_members), plan.mesh),
        sharding.split(photo, plan.mesh),
        size=sharding.split(_real_sizes(members, plan, scale), plan.mesh),
    )


def _stacked(*parts: Any) -> Any:
    """Return pytrees of the same structure as one, with their arrays stacked along a first axis."""
    return jax.tree.map(lambda *arrays: jnp.stack(arrays), *parts)


def _name_of_style(member: Member, plan: Plan, scale: int) -> Any:
    """Return a key for the statistics of a picture's styles, the same for pictures that share them.

    In a bucket, contents differ in size, and for each of them the recipe's size rule may give the same
    style another size. So the key then contains the style's sizes.
    """
    if plan.in_bucket:
        return member.style, member.prepared.scales[scale].style_shapes
    return member.style


def _measured_styles(
    member: Member, plan: Plan, scale: int, recipe: Recipe, pieces: Measuring
) -> Any:
    """Measure the styles of one picture, without blending them.

    The result is the statistics (such as Gram matrices) of each style. A `MatchingLoss` compares the
    features themselves, so for such a loss the result is the finished target of all styles. The
    arguments are as in `targets_of_members`.
    """
    if plan.in_bucket:
        return _statistics_in_bucket(member, plan, scale, pieces)
    pictures = prepare.styles_at(member.prepared, member.prepared.scales[scale])
    pictures = sharding.replicate(pictures, band_mesh(plan.mesh))
    if isinstance(recipe.terms.style_loss, MatchingLoss):
        return pieces.styles(pictures)
    return [pieces.statistics(picture) for picture in pictures]


def _statistics_in_bucket(member: Member, plan: Plan, scale: int, pieces: Measuring) -> list[Any]:
    """Return the statistics (such as Gram matrices) of each style of one picture.

    Each style lies at the top left of a larger array, so that one compiled program serves styles of
    several sizes. The plan has the size of these arrays.
    """
    shapes = member.prepared.scales[scale].style_shapes
    array = plan.scales[scale].style_shapes[0]  # all styles have arrays of this size
    found = []
    for style, shape in zip(member.prepared.styles, shapes, strict=True):
        picture, real = _at_scale(plan, style, shape, array)
        picture = sharding.replicate(picture, band_mesh(plan.mesh))
        found.append(pieces.statistics(picture, **real))
    return found


def _blended(
    members: Sequence[Member],
    plan: Plan,
    scale: int,
    recipe: Recipe,
    styles: Mapping[Any, Any],
) -> list[Any]:
    """Return for each picture what its style losses compare the canvas with: its style target.

    `styles` has what `targets_of_members` computed for each style: its statistics (such as Gram
    matrices) or, for a `MatchingLoss`, the finished target. The other arguments are as there.
    """
    # `recipe` has arrays for the numbers, such as loss weights, that differ between pictures. Of these
    # numbers, targets depend only on the weights of blended styles, and `shares_of_picture` takes those
    # of one picture. So no `vmap` over the arrays is needed.
    targets: dict[Any, Any] = {}
    of_members = []
    for place, member in enumerate(members):
        name = _name_of_style(member, plan, scale)
        found = styles[name]
        if isinstance(recipe.terms.style_loss, MatchingLoss):  # `found` is the target already
            of_members.append(found)
            continue
        # A single style is not blended, so all pictures with this style use the same target. With
        # several styles, their weights and so the targets may differ between pictures.
        known = (name,) if len(found) == 1 else (name, place)
        if known not in targets:
            blended = blend(found, shares_of_picture(recipe, place), recipe.terms)
            targets[known] = _style_targets(blended, recipe)
        of_members.append(targets[known])
    return of_members


def _at_scale(
    plan: Plan, picture: Image, shape: Shape, array: Shape
) -> tuple[Resized, dict[str, Any]]:
    """Return a picture resized to a scale (resolution), and keyword arguments for its features.

    In a bucket (an array that is larger than its picture, see `scaling.buckets`), the picture lies at
    the top left. The functions that compute its features then need the argument `size`, the
    (height, width) of the picture without the padding. Without a bucket, they do not need it.

    Args:
      plan: the plan, which says whether there is a bucket.
      picture: [h, w, 3], at the size that it has at the last scale.
      shape: the (height, width) of the picture at the scale.
      array: the (height, width) of the bucket's array at the scale; ignored without a bucket.
    """
    if not plan.in_bucket:
        return prepare.at_scale(picture, shape), {}
    found = padded(on_host.at_scale_on_host(picture, shape), array)
    return jnp.asarray(found), {"size": jnp.asarray(shape, jnp.int32)}


def _real_sizes(members: Sequence[Member], plan: Plan, scale: int) -> Int[np.ndarray, "n 2"] | None:
    """Return the (height, width) of each canvas; None if the canvases fill their arrays.

    If `Plan.in_bucket` is True, each canvas lies at the top left of a larger array.
    """
    if not plan.in_bucket:
        return None
    return np.asarray([member.prepared.scales[scale].shape for member in members], np.int32)


# --- Pictures with masks --------------------------------------------------------------------------


def _targets_with_masks(
    members: Sequence[Member], plan: Plan, scale: int, recipe: Recipe, pieces: Measuring
) -> Targets:
    """Return the result of `targets_of_members` for pictures that have masks.

    Masks give parts of a picture a style of their own, or protect parts that shall stay as in the
    content; transparent parts of a picture are masked, too.
    """
    found = []
    for place, member in enumerate(members):
        shares = shares_of_picture(recipe, place)
        if plan.in_bucket:
            found.append(_masked_in_bucket(member, plan, scale, pieces, shares))
            continue
        prepared, here = member.prepared, member.prepared.scales[scale]
        assert prepared.controls is not None
        content = prepare.at_scale(prepared.content, here.shape)
        styles = prepare.styles_at(prepared, here)
        controls = prepare.controls_at(prepared, here)
        arrays = sharding.replicate((content, styles, controls), band_mesh(plan.mesh))
        pictures = (*prepared.styles, *prepared.region_styles)
        pairs = zip(pictures, prepared.controls.style_masks, strict=True)
        # What `pieces` computes is cached under a name, and used again for the same name. The content's
        # name is its number. A style's name is the pair of the `id`s of its array and of its mask:
        # pictures with the same style share its array, and a missing mask is None, whose `id` is always
        # the same.
        names = member.content, [(id(picture), id(mask)) for picture, mask in pairs]
        found.append(pieces.controlled(*arrays, names=names, shares=shares))
    split = partial(sharding.split, mesh=plan.mesh)
    content = _stacked(*(targets.content for targets in found))
    return Targets(
        split(content, bands=plan.bands(scale) is not None),
        split(stacked_targets([targets.style for targets in found])),
        split(_stacked(*(targets.photo for targets in found))),
        split(_stacked(*(targets.guides for targets in found))),
        split(_stacked(*(targets.kept for targets in found))),
        split(_real_sizes(members, plan, scale)),
    )


def _masked_in_bucket(
    member: Member, plan: Plan, scale: int, pieces: Measuring, shares: tuple[Any, ...]
) -> Targets:
    """Compute the targets of one picture with masks, which lies at the top left of a larger array.

    Args:
      member: the picture: its content, its styles and its masks.
      plan: the plan, which has the sizes of the arrays.
      scale: index of the scale (resolution).
      pieces: computes the targets.
      shares: the weights by which the picture's styles are blended.
    """
    prepared, here = member.prepared, member.prepared.scales[scale]
    arrays = plan.scales[scale]
    controls = prepare.controls_in_arrays(prepared, here, arrays)
    assert controls is not None and prepared.controls is not None
    content, real = _at_scale(plan, prepared.content, here.shape, arrays.shape)
    pictures = (*prepared.styles, *prepared.region_styles)
    styles, sizes = [], []
    for picture, shape in zip(pictures, here.style_shapes, strict=True):
        style, own = _at_scale(plan, picture, shape, arrays.style_shapes[0])
        styles.append(style)
        sizes.append(own["size"])
    masks = prepared.controls.style_masks
    keys = [
        (id(picture), id(mask), shape)
        for picture, mask, shape in zip(pictures, masks, here.style_shapes, strict=True)
    ]
    return pieces.controlled(
        *sharding.replicate((content, styles, controls), band_mesh(plan.mesh)),
        names=(member.content, keys),
        shares=shares,
        size=real["size"],
        style_sizes=sizes,
    )
