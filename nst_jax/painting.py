"""Paint one picture in the style of another: `stylize` returns the result, `paint` yields snapshots."""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from nst_jax import _checks, checkpoints, optimize, recipes, run_scales
from nst_jax._types import Checkpoint, Image, Params
from nst_jax.control_checks import RegionLeftOut, check_controls
from nst_jax.controls.given import Given, checked_controls
from nst_jax.descent import has_stalled, remedy_at_rest, rest_of
from nst_jax.given_plans import check_given_plan, check_plan_of_one, tap_pictures_of_plan
from nst_jax.planned_painting import Painting, check_run_arguments, paint_planned
from nst_jax.recipes.changes import checked_tap_pictures, with_options, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.run_errors import (
    CameToRest,
    Diverged,
    Stalled,
    remedy,
    remedy_for_stalled,
    warn_of_enlarged,
)
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_plans import plan_in_arrays
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import Devices
from nst_jax.vgg.taps import check_layers


def stylize(
    params: Params,
    content: Any,
    style: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    size: Size = None,
    style_size: Size = None,
    style_scale: float | Sequence[float] | None = None,
    tap_styles: Mapping[str, Any] | None = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    colors: str | None = None,
    realism: float | None = None,
    strength: float | None = None,
    init: Any = None,
    key: Array | None = None,
    devices: Devices = None,
    plan: Plan | None = None,
    regions: Any = None,
    protect: Any = None,
    opacity: Any = None,
    style_opacity: Any = None,
    bucket: int | str = buckets.AUTO,
) -> Image:
    """Paint the content in the style of another picture.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] float in [0, 1], or uint8.
      style: [h', w', 3] float in [0, 1], or uint8, of any size; or a list of several such pictures.
        They are blended with the weights `terms.style_shares` of the recipe, by default in equal
        shares.
      recipe: all settings of the run: a preset of `nst_jax.recipes` or a variant of one.
      size: a number of pixels, which the recipe's size rule interprets (by default as the longer side),
        or `"long:512"`, `"short:512"`, `"area:512"` (as many pixels as in a square of 512 px);
        `"as-is"` resizes nothing. `"400x300"` is an exact size for the canvas. Each style then gets
        the size that it would get if the recipe's own size rule gave a canvas of the same area.
        Default: the size of the recipe.
      style_size: a size for the style alone, given like `size`. Default: `size` holds for the style
        too. Exceptions: an exact `size`, and recipes that give the style a size that depends on that of
        the canvas.
      style_scale: a factor by which both sides of the style are multiplied after `style_size` was
        applied; or a sequence with a factor for each style. A larger style gives larger strokes. A
        style that is enlarged beyond its own pixels is blurred; a `StyleEnlarged` warning says so.
        Default: the recipe's factor, which is 1 in every preset.
      tap_styles: a dictionary from taps (layers that the style loss reads), such as `"relu1_1"`, to
        style pictures. At each of these taps, its picture takes the place of `style`. The first taps
        see fine strokes, the last taps coarse ones. In a `style_scale` with a factor for each style,
        the factors of these pictures come last.
      steps: number of updates; default: the recipe's.
      precision: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`, see
        `nst_jax.vgg.precision.precision_named`; default: the recipe's, `"auto"` in every preset. What
        `"auto"` stands for depends on the platform of the devices that paint.
      tile: size in px of the tiles in which the canvas is computed, a multiple of 16. Tiles give the
        same picture in less memory and more time. Or `"off"`, or `"auto"`, which uses tiles only if the
        whole canvas does not fit into memory. Default: the recipe's, `"auto"` in every preset.
      colors: whose colours the result has: `"style"`, `"content"`, `"luminance"`, `"content-after"` or
        `"palette"`; `nst_jax.recipes.Pictures` explains them. Default: the recipe's, `"style"` in every
        preset but `nnst`.
      realism: from 0 to 1: how far the result is changed back, after painting, so that it has the
        content's edges; see `nst_jax.controls.realistic`. Default: the recipe's, 0 in every preset.
      strength: from 0 to 1: how strong the style is. Equal differences of strength change the picture
        about equally; see `nst_jax.recipes.changes.with_strength`. Default: the recipe's own weights,
        which correspond to a strength of 0.85.
      init: the first canvas: an image of any size, which is resized to the canvas, or an instance of a
        class of `nst_jax.recipes.starts`, such as `Noise()`; default: that of the recipe.
      key: a JAX random key, for starts that draw noise; default: `jax.random.key(0)`.
      devices: devices that share the canvas, each computing a band of its rows in less memory:
        `"all"`, a number, or a list of `jax.Device`. Losses and gradients are the same to rounding.
        Default: one device, the one to which the weights are committed (by `jax.device_put(params,
        device)`), else JAX's default device.
      plan: a plan from `nst_jax.plan`, for pictures of the same sizes and for this platform. It
        contains `recipe`, all arguments from `size` to `strength`, and also `devices` and `bucket`. So
        none of these may be given as well. The exception is `tap_styles`, of which a plan contains only
        the taps: if the plan was made with `tap_styles`, the pictures must be given here. Default: a
        new plan is made.
      regions: parts of the content with styles of their own, a list of `nst_jax.controls.Region`;
        pixels in no region get `style`. A region that is empty at a layer has no part in the style
        loss there, and a `RegionLeftOut` warning names it.
      protect: a part of the content that stays as it is, a `nst_jax.controls.Protect`.
      opacity: the content's opacity, [h, w] in [0, 1]. The style loss leaves out transparent parts.
      style_opacity: the style's opacity, [h', w'] in [0, 1]. For several styles, a list with an entry
        for each: the style's opacity, or None for an opaque style. The style loss leaves out
        transparent parts.
      bucket: side in px, a multiple of 16, of a square array at whose top left the canvas lies.
        Pictures of all sizes up to this side then share compiled loops, which is worthwhile if more
        pictures of other sizes follow. There is one loop for each scale (resolution), or, on an
        accelerator and for sides up to 1024 px, one for all scales. Losses and updates are the same as
        without such an array, up to rounding, but computing the rest of the array takes time. Recipes
        and options whose results would be wrong in a larger array are refused, see
        `nst_jax.recipes.check_in_bucket`. With `"off"`, the array is as large as the canvas. With
        `"auto"`, the default, the platform decides. A CPU works as with `"off"`. On an accelerator the
        side is the longer side of the canvas, rounded up to a multiple of 16 px. If that side is above
        1024 px, or if the recipe, several `devices` or too little memory do not allow the square array,
        an accelerator works as with `"off"` too.

    Returns:
      [h, w, 3] float32 in [0, 1], at the size that `size` or else the recipe's rule gives.

      If the loss stops changing while still high, so that the picture is hardly painted, a
      `CameToRest` warning says so.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or if the canvas does not fit into memory even in the
        smallest tiles; raised before any long work.
      Diverged: if the losses stop being finite; its `image` is the last canvas whose losses were
        finite, or the first canvas of a scale (resolution) if its losses were already not finite.
      Stalled: if the losses end as they began at every scale, so that nothing was painted; its `image`
        is the canvas.
      OutOfMemory: if the device runs out of memory although the run was estimated to fit.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> image = nst.stylize(params, content, style, size=48, steps=2)
      >>> image.shape[1], str(image.dtype)
      (48, 'float32')

    References:
      Gatys, Ecker, Bethge, "Image Style Transfer Using Convolutional Neural Networks", 2016.
    """
    shots = paint(
        params,
        content,
        style,
        recipe=recipe,
        size=size,
        style_size=style_size,
        style_scale=style_scale,
        tap_styles=tap_styles,
        steps=steps,
        precision=precision,
        tile=tile,
        colors=colors,
        realism=realism,
        strength=strength,
        init=init,
        key=key,
        devices=devices,
        plan=plan,
        every=optimize.CAPACITY,
        regions=regions,
        protect=protect,
        opacity=opacity,
        style_opacity=style_opacity,
        bucket=bucket,
    )
    last = shots.finish()
    used = recipe if plan is None else plan.recipe
    if last.broke_at >= 0:
        raise Diverged(last.broke_at, last.image, remedy(used))
    if has_stalled(np.asarray(last.history.total), shots.scales):
        raise Stalled(last.step, last.image, remedy_for_stalled(used))
    if (rest := rest_of(np.asarray(last.history.total), shots.scales)) is not None:
        warnings.warn(CameToRest(rest, remedy_at_rest(used)), stacklevel=2)
    return last.image


def paint(
    params: Params,
    content: Any,
    style: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    size: Size = None,
    style_size: Size = None,
    style_scale: float | Sequence[float] | None = None,
    tap_styles: Mapping[str, Any] | None = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    colors: str | None = None,
    realism: float | None = None,
    strength: float | None = None,
    init: Any = None,
    key: Array | None = None,
    devices: Devices = None,
    plan: Plan | None = None,
    regions: Any = None,
    protect: Any = None,
    opacity: Any = None,
    style_opacity: Any = None,
    bucket: int | str = buckets.AUTO,
    every: int | Iterable[int] = 50,
    resume: Checkpoint | None = None,
) -> Painting:
    """Paint as `stylize` does, and yield snapshots during the run.

    Snapshots come at step 0, then every `every` updates, then at the end. The updates between them run
    in compiled loops. With several scales (resolutions), updates are counted over all of them;
    enlarging the canvas to the next scale counts as the last update of the coarser scale. A snapshot
    has the size of its scale.

    All arguments but `every` and `resume` are those of `stylize`, which describes them in full.

    Args:
      params: weights from `nst_jax.load_params`.
      content: the content picture.
      style: the style picture, or a list of several to blend.
      recipe: all settings of the run.
      size: size of the canvas; default: the recipe's.
      style_size: size of the style pictures; default: follows from `size`, as in `stylize`.
      style_scale: factor by which the style is enlarged, or one for each style.
      tap_styles: style pictures for single layers, as a dictionary.
      steps: number of updates; default: the recipe's.
      precision: precision of the computation; default: the recipe's.
      tile: size in px of the tiles in which the canvas is computed, `"off"` or `"auto"`.
      colors: whose colours the result has.
      realism: from 0 to 1: how far the result is changed back to the content's edges.
      strength: from 0 to 1: how strong the style is.
      init: the first canvas: a picture, or an instance of a class of `nst_jax.recipes.starts`.
      key: a JAX random key, for first canvases with noise.
      devices: devices that share the canvas; default: the one to which the weights are committed, else
        JAX's default device.
      plan: a plan from `nst_jax.plan`, which contains most of these arguments.
      regions: parts of the content with styles of their own.
      protect: a part of the content that stays as it is.
      opacity: the content's opacity, [h, w] in [0, 1].
      style_opacity: the style's opacity, [h', w'] in [0, 1], or a list for several styles.
      bucket: side in px of a square array in which the canvas lies, `"off"` or `"auto"`. A run can be
        resumed only in an array of the same size; with `"auto"`, the checkpoint's size is used.
      every: number of updates between two snapshots. Or an iterable of such numbers: each number is
        taken from it and checked when its interval begins; after the last interval, only the final
        snapshot follows.
      resume: a checkpoint of an earlier run, from `Painting.checkpoint()` or from
        `nst_jax.checkpoints.load`. The first snapshot is then the one at the checkpoint, and its
        `history` has all losses up to there. The result is bit for bit that of a run without
        interruption, provided that the device computes deterministically. All other arguments must be
        as before, except `every`; `devices`, which may change results by rounding; and `steps`, if the
        updates so far would have been the same with the new number.

    Yields:
      `Snapshot`s. If the losses stop being finite, the last snapshot has `broke_at` set, its `losses`
      are the ones that are not finite, and its image is the last canvas whose losses were finite. (If
      the first canvas of a scale already had losses that were not finite, its image is that canvas.)
      The iterator is a `Painting`: its `checkpoint()` is the state of the run at the latest snapshot,
      and its `finish()` paints to the end and returns the last snapshot, whose `history` has the losses
      of the first canvas and of the canvas after each update.

    Raises:
      TypeError: if an argument is of the wrong type; raised by the call itself, before the first
        snapshot. But if `every` is an iterable, an item that is not a whole number raises this error
        only when its interval begins.
      ValueError: if an argument cannot be used, or if the canvas does not fit into memory; raised by
        the call itself, except for a number below 1 in an iterable `every`: this is refused when its
        interval begins. If `resume` is a checkpoint of another run, the message names the differences.
      OutOfMemory: if the device runs out of memory; raised when a snapshot is requested.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> shots = nst.paint(params, content, style, size=48, steps=5, every=2)
      >>> [shot.step for shot in shots]
      [0, 2, 4, 5]
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    if resume is not None:
        _checks.instance("resume", resume, Checkpoint, "`nst_jax.checkpoints.load` reads one")
    if strength is not None and np.ndim(strength):
        raise ValueError(
            "`strength`: expected one number for one picture, got an array; `stylize_many` takes one"
        )
    options = (
        recipe, size, style_size, steps, precision, tile, style_scale, colors, realism,
        strength, devices,
    )  # fmt: skip
    side = buckets.checked_bucket(bucket)
    content = _checks.image("content", content, several="stylize_many")
    several = isinstance(style, (list, tuple))
    if several:
        style = _checks.images("style", style)
    else:
        style = _checks.image("style", style, several="stylize_many")
    styles = style if several else [style]
    given = checked_controls(
        content.shape[:2],
        [one.shape[:2] for one in styles],
        regions=regions,
        protect=protect,
        opacity=opacity,
        style_opacity=style_opacity,
    )
    if plan is None:
        checked, own = with_tap_styles(with_options(*options[:-1]), tap_styles)
        checked = checkpoints.with_choices_of(checked, resume)
        check_run_arguments(checked, init, key, every)
        check_controls(given, checked)
        style = styles = [*styles, *checked_tap_pictures(own, checked)]
        plan = _planned(params, content, styles, checked, devices, given, side, resume)
        shapes = [one.shape[:2] for one in styles]
        shapes += [] if given is None else given.style_shapes
        warn_of_enlarged(shapes, plan.real_scales[-1].style_shapes, checked, stacklevel=2)
    else:
        check_given_plan(plan, options, params)
        if side != buckets.AUTO:
            raise ValueError("`bucket`: `plan` contains it; give it to `nst_jax.plan` instead")
        check_plan_of_one(plan)
        style = [*styles, *tap_pictures_of_plan(plan, tap_styles)]
    check_layers(params, plan.recipe.terms.taps)
    shots = paint_planned(
        params, content, style, plan, init=init, key=key, every=every, resume=resume, given=given
    )
    for note in shots.left_out:
        warnings.warn(RegionLeftOut(note), stacklevel=2)
    return shots


def _planned(
    params: Params,
    content: np.ndarray,
    styles: Sequence[np.ndarray],
    recipe: Recipe,
    devices: Devices,
    given: Given | None,
    bucket: buckets.Chosen,
    resume: Checkpoint | None,
) -> Plan:
    """Return a plan (scales, tiles, memory) for checked pictures, for a caller who gave no plan."""
    scales = run_scales.scales_of(
        content.shape[:2],
        [style.shape[:2] for style in styles],
        recipe,
        region_styles=[] if given is None else given.style_shapes,
        protected=given is not None and given.protect is not None,
    )
    device = capacity.device_of(params)
    mesh = sharding.mesh_of(devices, axis=sharding.BANDS, weights_on=device)
    return plan_in_arrays(recipe, scales, bucket, resume=resume, mesh=mesh, device=device)
