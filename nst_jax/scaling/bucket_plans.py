"""Plans of runs in buckets: arrays that may be larger than the pictures that lie in them.

Runs in arrays of the same size share their compiled programs, whatever the sizes of the pictures. The
module `buckets` says how large the arrays are and which runs may use them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from nst_jax import checkpoints
from nst_jax._types import Checkpoint
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.capacity import fits, footprint_at, gigabytes
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.tile_choice import memory_savers


def plan_in_arrays(
    recipe: Recipe,
    scales: Sequence[Scale],
    bucket: buckets.Chosen,
    *,
    resume: Checkpoint | None = None,
    **options: Any,
) -> Plan:
    """Plan a run in arrays of the size that the argument `bucket` asks for.

    With "auto", a single picture on an accelerator is padded to a square that has the same size at all
    scales, if that is possible and its side is at most `buckets.LARGEST_SHARED` px. All scales then
    share their programs, which saves time, since compiling takes far longer than painting on an
    accelerator. In all other cases with "auto", such as on a CPU or with several pictures, the arrays
    have the size of the canvas. A run that resumes is an exception: see `resume`.

    Args:
      recipe: a recipe that `recipes.check` returned.
      scales: the scales of the run, with the sizes of the picture.
      bucket: side of the square array in px; or "auto"; or None for arrays of the canvas' size.
      resume: the checkpoint from which the run resumes, or None. With "auto", the run resumes in the
        arrays of the checkpoint's run, also on another platform.
      **options: further arguments of `plan_scales`.

    Raises:
      ValueError: as `plan_in_square` and `plan_scales`; or if the canvas of the checkpoint lies in a
        square and several devices shall share it.
    """
    begun = None if resume is None else checkpoints.bucket_of(resume)
    if resume is not None and bucket == buckets.AUTO:
        bucket = None if begun is None else begun.side
        if begun is not None and sharding.devices_per_picture(options.get("mesh")) > 1:
            raise ValueError(
                f"`resume`: the canvas of the checkpoint lies in an array of {begun.side} px, which "
                "several devices cannot share; resume it with one device"
            )
    if bucket is not None and bucket != buckets.AUTO:
        one_size = None if begun is None else begun.one_size
        return plan_in_square(recipe, tuple(scales), bucket, one_size=one_size, **options)
    side = buckets.rounded_up(max(scales[-1].shape))
    if bucket == buckets.AUTO and _may_share(side, options):
        # If the square cannot be used, which raises ValueError, the run does without one. If the error
        # has another reason, `plan_scales` below raises it again.
        with suppress(ValueError):
            plan = plan_in_square(recipe, tuple(scales), side, **options)
            if plan.fits is not False:
                return plan
    return plan_scales(recipe, scales, **options)


def plan_in_square(
    recipe: Recipe,
    scales: buckets.Scales,
    side: int,
    *,
    one_size: bool | None = None,
    **options: Any,
) -> Plan:
    """Plan the run of pictures that lie at the top left of square arrays, one array for each scale.

    Pictures of other sizes can lie in arrays of the same size, and so use the same compiled programs.

    Args:
      recipe: a recipe that `recipes.check` returned.
      scales: the scales (resolutions) of the run, with the sizes of the picture and not of the arrays.
        If there are several pictures, the sizes are those of one of them.
      side: side of the canvas' array at the final scale, in px; a multiple of 16.
      one_size: whether the arrays have the same size at all scales, so that all scales use the same
        compiled programs. None means yes for one picture on an accelerator if `side` is at most
        `buckets.LARGEST_SHARED`, and no for all other runs.
      **options: further arguments of `plan_scales`, such as `pictures`.

    Raises:
      ValueError: if the picture is larger than `side`, if losses or updates would differ in a larger
        array (see `buckets.check_run_in_bucket`), or if there is too little memory for the arrays.
    """
    bands = sharding.devices_per_picture(options.get("mesh")) > 1
    buckets.check_run_in_bucket(recipe, scales, bands=bands)
    one_size = _may_share(side, options) if one_size is None else one_size
    (bucket,) = buckets.buckets_of(side, [scales], recipe, one_size=one_size)
    plan = plan_bucket(recipe, bucket.scales, **options)
    return plan if plan.pictures > 1 else replace(plan, real=tuple(scales))


def plan_bucket(recipe: Recipe, arrays: buckets.Scales, **options: Any) -> Plan:
    """Return the plan by which the pictures of a bucket are painted.

    A bucket is a size of arrays in which pictures of several smaller sizes lie at the top left, so that
    one compiled program serves all of them.

    Args:
      recipe: the recipe of all pictures, as `recipes.check` returned it.
      arrays: the sizes of the bucket's arrays: `scales` of a `Bucket` from `buckets.buckets_of`.
      **options: further arguments of `plan_scales`, such as `pictures`, the number of pictures.

    Raises:
      ValueError: if the memory is too small for arrays that are computed without tiles, or if the
        recipe asks for tiles. The message begins with `style_size` or `style_scale` if only the array
        for the styles is too large, else with `bucket`. A ValueError is also raised for the other
        reasons that `plan_scales` lists.
    """
    try:
        plan = plan_scales(recipe, arrays, **options)
    except ValueError as error:
        # If the error names one of the arguments below, the run does not fit into memory, not even in
        # tiles if they are possible. The end of the message, on what would fit in tiles, is dropped,
        # since pictures in buckets are not computed in tiles.
        argument, _, words = str(error).partition(": ")
        if argument in ("`size`", "`regions`"):
            what, _, _ = words.partition("; ")
            fewer = "fewer regions, " if argument == "`regions`" else ""
            raise ValueError(
                f'`bucket`: {what}; use {fewer}a smaller bucket and `size`, or "off"'
            ) from error
        if argument in ("`style_size`", "`style_scale`"):
            what, _, _ = words.partition(" is available")
            raise ValueError(
                f"{argument}: {what} is available; {_smaller_style(argument)}"
            ) from error
        raise
    if plan.recipe.network.tile:
        side = max(arrays[-1].shape)
        available = "" if plan.usable is None else f", and {gigabytes(plan.usable)} is available"
        takes = f"takes {gigabytes(plan.untiled.total)}{available}"
        if _fits_but_for_styles(plan):
            enlarged = any(factor > 1 for factor in recipe.pictures.style_scale or ())
            argument = "`style_scale`" if enlarged else "`style_size`"
            style = max(max(shape) for shape in arrays[-1].style_shapes)
            raise ValueError(
                f"{argument}: measuring a style padded to {style} px {takes}; tiles, which would "
                f"save memory, cannot be used in a bucket; {_smaller_style(argument)}"
            )
        raise ValueError(
            f"`bucket`: a picture padded to {side} px {takes}; tiles, which would save memory, cannot "
            "be used in a bucket; "
            'use a smaller bucket and `size`, or "off"'
        )
    return replace(plan, in_bucket=True)


def fits_in_bucket(recipe: Recipe, arrays: buckets.Scales, **options: Any) -> bool:
    """Return whether `plan_bucket` succeeds and predicts that arrays of these sizes fit into memory.

    The result is also True if it is not known how much memory is available.
    """
    try:
        return plan_bucket(recipe, arrays, **options).fits is not False
    except ValueError:
        return False


def _may_share(side: int, options: Mapping[str, Any]) -> bool:
    """Return whether all scales (resolutions) of a run should lie in square arrays of one size.

    All scales then share their compiled programs, but more pixels are computed. This saves time for one
    picture on an accelerator, if the `side` of the squares is at most `buckets.LARGEST_SHARED` px.
    `options` are the further arguments of `plan_scales`, a dictionary.
    """
    platform, mesh, device = (options.get(name) for name in ("platform", "mesh", "device"))
    if platform is None:
        platform = capacity.platform_of(device) if mesh is None else capacity.platform_of_mesh(mesh)
    one = options.get("pictures", 1) == 1
    return one and platform != "cpu" and side <= buckets.LARGEST_SHARED


def _fits_but_for_styles(plan: Plan) -> bool:
    """Return whether only the styles are too large for a run to fit into memory without tiles.

    This is so if the run would fit without tiles if its styles had the canvas' shape. The error message
    then names the size of the styles instead of the bucket. The result is False if the caller asked for
    tiles.
    """
    # If the caller asked for tiles, the size of the styles is not why the run has tiles.
    if plan.requested.network.tile:
        return False
    last = plan.scales[-1]
    smaller = last._replace(style_shapes=(last.shape,) * len(last.style_shapes))
    return any(
        fits(footprint_at(recipe, smaller, plan.platform), plan.available)
        for recipe in memory_savers(plan.requested, max(last.shape), plan.platform)
        if not recipe.network.tile
    )


def _smaller_style(argument: str) -> str:
    """Return the advice of an error message: what to do if a style is too large for a bucket.

    A bucket is an array in which pictures of several sizes can lie. `argument` names the argument that
    made the style so large.
    """
    return f"use a smaller {argument}, or `bucket` off"
