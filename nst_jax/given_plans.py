"""Checks of a plan that a caller gives, against the other arguments and against the pictures.

A plan contains all that is decided before a run, such as its recipe, sizes, devices and tiles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from nst_jax import _checks, recipes, run_scales
from nst_jax._types import Params
from nst_jax.recipes.changes import checked_tap_pictures, with_tap_styles
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.plan import Plan

# Arguments of `paint` and `stylize_many` that must not be given together with a plan, since the plan
# contains them.
OPTIONS = (
    "recipe", "size", "style_size", "steps", "precision", "tile", "style_scale", "colors", "realism",
    "strength", "devices",
)  # fmt: skip


def check_given_plan(plan: Any, options: Sequence[Any], params: Params) -> None:
    """Refuse a `plan` that cannot be used, and other arguments whose values the plan already contains.

    Args:
      plan: the caller's argument `plan`.
      options: the caller's values of the arguments in `OPTIONS`, in the same order.
      params: the weights; unless the plan names devices, the weights' one paints; see
        `capacity.device_of`.

    Raises:
      TypeError: if `plan` is not a `Plan`.
      ValueError: if an argument of `OPTIONS` was given as well; the message names it. Also if the plan
        was made for a CPU and an accelerator would paint, or the other way round.
    """
    _checks.instance("plan", plan, Plan, "`nst_jax.plan(content, style)` makes one")
    for name, value in zip(OPTIONS, options, strict=True):
        if value is not (recipes.DEFAULT if name == "recipe" else None):
            raise ValueError(f"`{name}`: `plan` contains it; give it to `nst_jax.plan` instead")
    _check_platform(plan, params)


def _check_platform(plan: Plan, params: Params) -> None:
    """Refuse a plan for another platform, whose precision and tiles would not suit the device."""
    mesh = plan.mesh
    device = mesh.local_devices[0] if isinstance(mesh, Mesh) else capacity.device_of(params)
    device = capacity.default_device() if device is None else device
    if (plan.platform == "cpu") != (device.platform == "cpu"):
        raise ValueError(
            f"`plan`: was made for the platform {plan.platform!r}, but {device.platform!r} paints; "
            f"make it by `nst_jax.plan(..., platform={device.platform!r})`"
        )


def check_plan_of_one(plan: Plan) -> None:
    """Raise a ValueError if a plan is for several pictures (for `stylize_many`) and not for one."""
    parallel = sharding.pictures_in_parallel(plan.mesh)
    if plan.pictures > 1 or parallel > 1:
        what = f"of {plan.pictures}" if plan.pictures > 1 else f"on {parallel} devices"
        raise ValueError(
            f"`plan`: is for a batch {what}; make it without `pictures` and `bands`, or "
            "call `nst_jax.stylize_many`"
        )


def tap_pictures_of_plan(plan: Plan, tap_styles: Mapping[str, Any] | None) -> list[np.ndarray]:
    """Check the pictures of `tap_styles` (styles for single layers) given with a plan, and return them.

    Raises:
      TypeError: if `tap_styles` is no mapping, or a picture is not an array.
      ValueError: if the plan was made for styles of other layers, if the recipe cannot use a layer, or
        if an array is no picture.
    """
    if not tap_styles:
        return []
    recipe, pictures = with_tap_styles(plan.recipe, tap_styles)
    if recipe.terms.tap_styles != plan.recipe.terms.tap_styles:
        planned = ", ".join(plan.recipe.terms.tap_styles) or "none"
        raise ValueError(
            f"`tap_styles`: are for {', '.join(recipe.terms.tap_styles)}, and `plan` was made with "
            f"those for {planned}; give `nst_jax.plan` the same"
        )
    return checked_tap_pictures(pictures, recipe)


def check_plan_fits(plan: Plan, scales: Sequence[run_scales.Scale]) -> None:
    """Refuse a plan whose scales (resolutions) differ from those that the pictures need.

    A scale states the sizes of canvas and styles, the number of updates, the number of regions (parts
    with styles of their own), and whether a part of the content is protected from changes.

    Args:
      plan: the plan that the caller gave.
      scales: the scales that follow from the pictures, the masks and the recipe.

    Raises:
      ValueError: if anything in the scales differs. The message names the final size of the canvas
        twice: as the plan has it, and as the pictures need it.
    """
    if plan.real_scales == tuple(scales):
        return
    (height, width), (h, w) = plan.real_scales[-1].shape, scales[-1].shape
    raise ValueError(
        f"`plan`: was made for a canvas of {width}x{height} px, but these pictures need {w}x{h} px, or "
        "other styles, scales, regions or protection; make a plan for these"
    )
