"""`stylize_many`: paint many pictures at once.

The optimisation loop of one picture is mapped by `jax.vmap` over the canvases (the pictures being
optimised), over their targets (what the losses compare them with), and over numbers of the recipe, such
as loss weights, that differ between the pictures. A member is one picture of a batch. A bucket is an
array that is larger than the pictures that are painted in it, so that pictures of several sizes share
compiled programs.
"""

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array

from nst_jax import _checks, optimize, recipes, texturing
from nst_jax._real_size import stacked
from nst_jax._types import Image, Params
from nst_jax.batch_arguments import each_style_scale, lists_of_styles, with_tap_pictures
from nst_jax.batch_fine_styles import checked_fine_styles, with_fine_structures
from nst_jax.batch_members import Member, members_of, warn_of_enlarged_styles
from nst_jax.batch_plans import by_shape, checked_plan, plan_by_cost, plan_in_buckets, plan_members
from nst_jax.control_checks import RegionLeftOut, notes_on_regions
from nst_jax.controls.given import BatchControls
from nst_jax.descent import Rest, intervals_of, remedy_at_rest
from nst_jax.given_plans import check_given_plan, tap_pictures_of_plan
from nst_jax.planned_batches import PaintedBatch, Progress, paint_batch
from nst_jax.recipes.changes import checked_tap_pictures, with_options, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import AnyMesh, Devices
from nst_jax.vgg.taps import SMALLEST, check_layers


def stylize_many(
    params: Params,
    contents: Any,
    styles: Any,
    *,
    recipe: Recipe | None = None,
    size: Size = None,
    style_size: Size = None,
    style_scale: Any = None,
    tap_styles: Mapping[str, Any] | None = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    colors: str | None = None,
    realism: Any = None,
    strength: Any = None,
    init: Any = None,
    key: Array | None = None,
    devices: Devices = None,
    plan: Plan | None = None,
    regions: Any = None,
    protect: Any = None,
    opacity: Any = None,
    style_opacity: Any = None,
    bucket: int | str = buckets.OFF,
    every: int | Iterable[int] = optimize.CAPACITY,
    progress: Progress | None = None,
    chunk: int | None = None,
    bands: int = 1,
    style_fine: Any = None,
    seamless: bool = False,
) -> Image | list[Image]:
    """Stylise many pictures at once, each as `stylize` would; or paint textures, as `texture` would.

    Content number i is painted in style number i, for n contents and n styles; a single content or a
    single style is used for all pictures. If `contents` is None, the pictures are textures of their
    styles. Numbers of the recipe (weights, per-layer weights, learning rate) may be arrays [n] with one
    value for each picture: such a call is a sweep. Canvases of the same shape share one compiled
    optimisation loop, whatever the sizes of their styles. (With a style loss that compares single
    positions of canvas and style instead of statistics, the styles must have equal shapes, too. If
    some pictures have transparent parts, these have a loop of their own.) If the canvases do not all
    fit into memory at once, they are painted in chunks, one chunk after another. If the last chunk is
    smaller than the others, another loop is compiled for it.

    Args:
      params: weights from `nst_jax.load_params`.
      contents: one image [h, w, 3], a batch [n, h, w, 3], or a sequence of images of any sizes. None
        paints textures, which have no content. With None, these arguments may not be given: `plan`,
        `style_fine`, `colors` (except "style"), `realism` (except 0), `strength`, `regions`, `protect`
        and `opacity`.
      styles: like `contents`. Within a sequence, an entry may also be a list of images: the styles that
        are blended for one picture, as in `stylize`.
      recipe: as in `stylize`, except that the numbers in its `terms` and `descent.optimizer`,
        `descent.last_learning_rate`, and `pictures.realism` may be arrays [n]. Default:
        `nst_jax.recipes.DEFAULT`, and for textures `GATYS_TEXTURE`, as in `texture`.
      size: as in `stylize`, for every picture; for textures as in `texture`, for every texture.
      style_size: as in `stylize`.
      style_scale: as in `stylize`, for every picture; or a value for each picture: an array [n], or
        [n, styles] for blends, or a list with a number or a list of numbers for each picture. A plain
        list with as many numbers as a picture has styles is used as in `stylize`, for every picture.
      tap_styles: as in `stylize`, for every picture.
      steps: as in `stylize`.
      precision: as in `stylize`.
      tile: as in `stylize`.
      colors: as in `stylize`.
      realism: as in `stylize`, or an array [n].
      strength: as in `stylize`, or an array [n].
      init: the first canvas of all pictures: an image, or an instance of a class of
        `nst_jax.recipes.starts`, such as `Noise()`; default: that of the recipe. Textures start from
        noise.
      key: a JAX random key; picture i draws from `jax.random.fold_in(key, i)`. Or an array of n keys,
        such as `jax.random.split(key, n)`; picture i then draws from `key[i]`. Default:
        `jax.random.key(0)`.
      devices: devices among which the pictures are divided: `"all"`, a number, or a list of
        `jax.Device`. Each device paints whole pictures, unless `bands` is more than 1. Default: one
        device, the one to which the weights are committed (by `jax.device_put(params, device)`), else
        JAX's default device.
      plan: a plan from `nst_jax.plan(..., pictures=n)`, for n canvases of the same shape, or with
        `bucket` for n canvases of any shapes that fit into its arrays. It contains `recipe`, `size` and
        all further arguments up to `strength` (of `tap_styles` only the layers), `devices`, `chunk`,
        `bands` and `bucket`. So none of these may be given as well. The exception is `tap_styles`: if
        the plan was made with it, its pictures must be given here. Default: new plans are made.
      regions: as in `stylize`, for every picture. The masks of a `Region` may be batches [n, h, w] or
        lists of n masks of any sizes, its weight an array [n].
      protect: as in `stylize`; mask and amount may be batches, too.
      opacity: as in `stylize`; or a batch [n, h, w]; or a list with an opacity or None for each
        content.
      style_opacity: as in `stylize`; or a list that has for each entry of `styles` an opacity or None,
        and for an entry that is a blend a list of these.
      bucket: side in px, a multiple of 16, of a square array at whose top left each canvas lies.
        Pictures of all sizes up to this side then share one compiled loop for each resolution. Each
        picture gets the losses and updates that it would get without the array; the rest of the
        array takes time, but changes nothing. Recipes and options whose results would not be exact
        in a larger array are refused, such as tiles, and losses that are not sums over positions.
        `"off"`, the default: each shape of canvas has a compiled loop of its own. `"auto"`: arrays
        of several shapes, chosen by `nst_jax.scaling.bucket_choice` so that compiling and painting
        together take the least time, as estimated from typical times of the platform. Then pictures
        whose losses would not be exact in larger arrays, or that do not fit into memory in them, are
        not refused, but get a compiled loop for their own shape.
      every: number of updates between two calls of `progress`; or an iterable of such numbers, as in
        `paint`. Each chunk goes on in the iterable where the chunk before it stopped.
      progress: a function that is called as `progress(done, total)` once the losses of the first canvas
        are known, after each interval that `every` gives, at the end of each scale, and at the latest
        256 updates after the previous call. `done` and `total` are numbers of evaluations of the
        losses: each chunk has one for its first canvases and one for each update. An exception that
        `progress` raises ends the run.
      chunk: largest number of pictures painted at once, but never less than one for each device (with
        `bands`, for each group of devices that share a picture), and never more than fit into memory by
        `estimate_memory`. By default, it is the number that fits, or the number of all pictures if the
        available memory is not known. Chunks may get fewer pictures than this largest number, so that
        they all have the same size, or nearly so; see `nst_jax.scaling.chunk_size.even_chunk`.
      bands: number of devices that share each picture, for pictures too large for one device; the
        number of `devices` must be a multiple of `bands`.
      style_fine: pictures whose fine structure the styles get before they are used: one image
        [h, w, 3], a batch [n, h, w, 3], or a list with an image or None for each picture. Each style is
        replaced by what `combined_style` makes of it at its final size, with `precision` and `tile`. A
        style that several pictures need is made once. Blends of styles are refused.
      seamless: whether opposite borders of textures fit together, as in `texture`.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all canvases have the same shape, else a list of n images
      [h, w, 3]. If the losses of a picture stop being finite, its last canvas with finite losses is
      returned (or the first canvas of a scale, if that one's losses were not finite), enlarged to the
      final size if that happened at a coarser scale, and a `PicturesDiverged` warning names the
      picture. If at every scale the last losses of a picture equal the first ones, so that nothing was
      painted, a `PicturesStalled` warning names it. If the losses of a picture stop changing while
      still high, a `PicturesAtRest` warning names it.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or the numbers of contents, styles, keys and recipe
        values do not fit together.
      OutOfMemory: if the device runs out of memory although the run was estimated to fit.

    Example:
      >>> import jax.numpy as jnp
      >>> from dataclasses import replace
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> terms = replace(nst.recipes.DEFAULT.terms, style_weight=jnp.array([10.0, 20.0, 40.0]))
      >>> sweep = replace(nst.recipes.DEFAULT, terms=terms)
      >>> nst.stylize_many(params, content, style, recipe=sweep, size=48, steps=2).shape
      (3, 32, 48, 3)

      Three textures of one style, from different noise:

      >>> import jax
      >>> keys = jax.random.split(jax.random.key(3), 3)
      >>> options = {"size": "64x32", "style_size": 48, "steps": 2}
      >>> nst.stylize_many(params, None, style, key=keys, **options).shape
      (3, 32, 64, 3)
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    styles = lists_of_styles(styles)  # lists, since a generator could be read only once
    contents, recipe, size = _contents_of(
        contents, styles, recipe, size, seamless, init=init, colors=colors, realism=realism,
        strength=strength, regions=regions, protect=protect, opacity=opacity, plan=plan,
        style_fine=style_fine,
    )  # fmt: skip
    scale, each_scale = style_scale, None
    if plan is None and style_scale is not None:
        scale, each_scale = each_style_scale(style_scale, styles, tap_styles, regions)
    options = (
        recipe, size, style_size, steps, precision, tile, scale, colors, realism,
        strength, devices,
    )  # fmt: skip
    chosen = buckets.checked_bucket(bucket)
    recipe, mesh, tap_pictures = _recipe_and_devices(
        params, plan, options, tap_styles, chunk=chunk, bands=bands, bucket=chosen
    )
    check_layers(params, recipe.terms.taps)
    fine, styles = checked_fine_styles(style_fine, contents, styles, plan)
    styles = with_tap_pictures(styles, tap_pictures)
    _check_chunk_and_progress(chunk, progress)
    intervals = intervals_of(every)

    make_members = partial(
        members_of,
        recipe=recipe,
        init=init,
        key=key,
        given=BatchControls(regions, protect, opacity, style_opacity),
        style_scale=each_scale,
        on_host=_resizes_on_host(chosen, plan, contents, recipe),
        side=_side_of_squares(chosen, plan),
    )
    members = make_members(contents, styles)
    for note in {note: None for one in members for note in notes_on_regions(one.prepared, recipe)}:
        warnings.warn(RegionLeftOut(note), stacklevel=2)
    warn_of_enlarged_styles(styles, members, recipe, each_scale)

    how = {"mesh": mesh, "device": capacity.device_of(params), "chunk": chunk}
    plans = _planned(members, recipe, plan, chosen, bands, **how)
    if style_fine is not None:
        # `with_fine_structures` takes long, so all arguments are checked, and all runs planned, first.
        combined, sizes = with_fine_structures(params, styles, fine, members, precision, tile)
        members = make_members(contents, combined, style_originals=sizes)
        plans = [(one, [members[old.place] for old in some]) for one, some in plans]

    painted = paint_batch(params, plans, init=init, intervals=intervals, progress=progress)
    _warn_of_failures(painted, recipe)
    images = [painted.images[index] for index in range(len(members))]
    return stacked(images, on_host=any(one.in_bucket for one, _ in plans))


def _contents_of(
    contents: Any,
    styles: Sequence[list[np.ndarray]],
    recipe: Recipe | None,
    size: Size,
    seamless: bool,
    **given: Any,
) -> tuple[list[np.ndarray], Recipe, Size]:
    """Return the contents, the recipe and the size with which a batch is painted.

    If the argument `contents` is None, textures are painted. Then each content is a grey picture of the
    texture's size (a single one if all textures have the same size); the recipe's content loss has the
    weight 0; its size rule keeps the size of each content; and the returned size is None.

    Args:
      contents: the argument of `stylize_many`.
      styles: the styles of each picture, as `lists_of_styles` returned them.
      recipe: the argument of `stylize_many`.
      size: the argument of `stylize_many`.
      seamless: the argument of `stylize_many`.
      **given: further arguments of `stylize_many`, which `check_many_textures` checks.

    Raises:
      TypeError: if `contents` is of the wrong type.
      ValueError: if an argument cannot be used.
    """
    if contents is not None:
        if isinstance(contents, (list, tuple)) and any(one is None for one in contents):
            place = next(index for index, one in enumerate(contents) if one is None)
            raise ValueError(
                f"`contents[{place}]`: is None; paint textures by a call of their own, with "
                "`contents=None` and their styles"
            )
        if seamless:
            raise ValueError(
                "`seamless`: is for textures (`contents=None`); for pictures, give a recipe whose "
                "`network.padding` is `nst_jax.vgg.layers.wrap_padded`"
            )
        return _checks.images("contents", contents), recipe or recipes.DEFAULT, size
    texturing.check_many_textures(**given)
    recipe = recipes.GATYS_TEXTURE if recipe is None else recipes.check(recipe)
    if np.ndim(recipe.terms.content_weight) > 0:
        raise ValueError(
            "`recipe`: `terms.content_weight` is an array, but textures (`contents` is None) have no "
            "content; give one number"
        )
    recipe = texturing.of_texture(recipe, seamless=seamless)
    blanks = texturing.blank_contents(styles, size, recipe)
    return blanks, texturing.with_canvas_as_it_is(recipe), None


def _recipe_and_devices(
    params: Params,
    plan: Plan | None,
    options: Sequence[Any],
    tap_styles: Mapping[str, Any] | None,
    *,
    chunk: int | None,
    bands: int,
    bucket: buckets.Chosen,
) -> tuple[Recipe, AnyMesh | None, list[np.ndarray]]:
    """Return the recipe of a batch, its devices, and its styles for single layers.

    They are those of the plan, if there is one. Arguments that a plan contains are then refused.

    Args:
      params: the argument of `stylize_many`.
      plan: the argument of `stylize_many`.
      options: the values of the arguments in `given_plans.OPTIONS`, in the same order.
      tap_styles: the argument of `stylize_many`.
      chunk: the argument of `stylize_many`, which is only checked for being given beside a plan.
      bands: the argument of `stylize_many`.
      bucket: the checked argument of `stylize_many`, which is only checked like `chunk`.
    """
    if plan is None:
        recipe, own = with_tap_styles(with_options(*options[:-1]), tap_styles)
        pictures = checked_tap_pictures(own, recipe)
        mesh = sharding.mesh_of_batch(options[-1], bands, weights_on=capacity.device_of(params))
        return recipe, mesh, pictures
    check_given_plan(plan, options, params)
    _check_only_in_plan(chunk=chunk, bands=None if bands == 1 else bands, bucket=bucket)
    return plan.requested, plan.mesh, tap_pictures_of_plan(plan, tap_styles)


def _check_only_in_plan(**given: Any) -> None:
    """Refuse arguments that may not be given together with a plan, since the plan contains them.

    An argument that is None was not given.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}`: `plan` contains it; give it to `nst_jax.plan` instead")


def _check_chunk_and_progress(chunk: Any, progress: Any) -> None:
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    if progress is not None:
        _checks.function("progress", progress, "progress(done, total)")


def _resizes_on_host(
    bucket: buckets.Chosen, plan: Plan | None, contents: Sequence[np.ndarray], recipe: Recipe
) -> bool:
    """Return whether NumPy resizes the pictures, so that JAX compiles nothing for their sizes.

    NumPy does so if some of the pictures may lie in larger arrays (buckets). Such arrays are there to
    save compile time, which a program for each size of the pictures would take again.
    """
    if plan is not None:
        return plan.in_bucket
    if bucket != buckets.AUTO:
        return bucket is not None
    sizes = {image.shape for image in contents}
    return len(sizes) > 1 and buckets.can_lie_in_bucket(recipe, ())


def _side_of_squares(bucket: buckets.Chosen, plan: Plan | None) -> int:
    """Return the least side, in px, of the square arrays in which pictures are recoloured.

    Each picture is recoloured at the top left of such an array, whose side is a multiple of the result.
    So pictures of several sizes lie in arrays of the same size, and share a compiled program.
    """
    if plan is not None:
        return max(plan.scales[-1].shape)
    return bucket if isinstance(bucket, int) else SMALLEST


def _planned(
    members: list[Member],
    recipe: Recipe,
    plan: Plan | None,
    bucket: buckets.Chosen,
    bands: int,
    **how: Any,
) -> list[tuple[Plan, list[Member]]]:
    """Plan the groups in which pictures are painted; return each plan with its pictures.

    Args:
      members: the pictures.
      recipe: their recipe.
      plan: the plan that the caller gave, by which all pictures are painted; None: plans are made.
      bucket: the side in px of the square arrays in which canvases lie, or "auto", which chooses arrays
        by the time that a run takes; None: each canvas fills its array.
      bands: number of devices that share each picture.
      **how: `mesh`, the devices among which the pictures are divided; `device`, which holds the
        weights; and `chunk`, the largest number of pictures painted at once. Each may be None; see
        `batch_plans.plan_members`.
    """
    if plan is not None:
        return [(checked_plan(plan, members), members)]
    if bucket is None:
        return [plan_members(some, recipe, **how) for some in by_shape(members, recipe)]
    plan_them = plan_by_cost if bucket == buckets.AUTO else partial(plan_in_buckets, bucket)
    return plan_them(members, recipe, bands=bands > 1, **how)


def _warn_of_failures(painted: PaintedBatch, recipe: Recipe) -> None:
    """Warn the caller of `stylize_many` of pictures that diverged, or are hardly painted.

    A picture is hardly painted if, at every scale, its last loss equals the first, or if its loss
    stopped changing while still high.
    """
    if painted.broken:
        warnings.warn(PicturesDiverged(painted.broken), stacklevel=3)
    if painted.stalled:
        warnings.warn(PicturesStalled(painted.stalled), stacklevel=3)
    if painted.resting:
        warnings.warn(PicturesAtRest(painted.resting, remedy_at_rest(recipe)), stacklevel=3)


# --- Warnings ------------------------------------------------------------------------------------


class PicturesDiverged(RuntimeWarning):
    """Warning that the losses of some pictures of a batch stopped being finite.

    It is not raised as an error, since the other pictures of the batch are good. A sweep over numbers
    of a recipe may well contain numbers with which the losses diverge.

    Attributes:
      pictures: maps the index of each such picture in the batch to the number of the update after which
        its losses were not finite.
    """

    def __init__(self, pictures: dict[int, int]):
        listed = ", ".join(f"{i} (after {step} updates)" for i, step in sorted(pictures.items()))
        super().__init__(
            f"the losses of these pictures, or their gradient, stopped being finite: {listed}; "
            "their last finite canvases are returned"
        )
        self.pictures = pictures

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pictures,)


class PicturesStalled(RuntimeWarning):
    """Warning that some pictures of a batch end with the losses they began with: nothing was painted.

    Attributes:
      pictures: the indices of these pictures in the batch.
    """

    def __init__(self, pictures: Iterable[int]):
        self.pictures = frozenset(pictures)
        listed = ", ".join(map(str, sorted(self.pictures)))
        super().__init__(
            f"nothing was painted in these pictures: {listed}; the losses after the last update are "
            "those of the start: try smaller weights of the losses"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pictures,)


class PicturesAtRest(RuntimeWarning):
    """Warning that the losses of some pictures stopped changing while still high.

    Such pictures are hardly painted. `nst_jax.descent.rest_of` has the exact condition.

    Attributes:
      pictures: maps the index of each such picture in the batch to a `Rest`: after which update its
        loss stopped changing, and how large it was then relative to the first loss.
    """

    def __init__(self, pictures: Mapping[int, Rest], remedy: str):
        listed = "; ".join(f"{index}: {rest.words}" for index, rest in sorted(pictures.items()))
        super().__init__(f"these pictures are hardly painted: {listed}: try {remedy}")
        self.pictures, self._remedy = dict(pictures), remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pictures, self._remedy)
