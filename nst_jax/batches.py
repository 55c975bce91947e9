"""`stylize_many`: paint many pictures at once.

The optimisation loop of one picture is mapped by `jax.vmap` over the canvases (the pictures being
optimised), over their targets, and over numbers of the recipe that differ between the pictures. A
member is one picture of a batch. A bucket is a set of arrays that are larger than the pictures in them,
so that pictures of several sizes share compiled programs.
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, optimize, prepare, recipes
from nst_jax._types import Image, Losses, Params, Shape, State
from nst_jax.batch_canvas import BatchCanvas, BatchWeights, Member
from nst_jax.control_checks import RegionLeftOut, check_controls, notes_on_regions
from nst_jax.controls import finishing
from nst_jax.controls.given import BatchControls, Given
from nst_jax.controls.regions import controls_of
from nst_jax.descent import descend, intervals_of
from nst_jax.measuring import Watch
from nst_jax.painting import (
    check_given_plan,
    check_plan_fits,
    checked_tap_pictures,
    tap_pictures_of_plan,
    warn_of_enlarged,
)
from nst_jax.recipes.changes import with_options, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_choice import chosen_buckets, typical_costs
from nst_jax.scaling.plan import Plan, fits_in_bucket, plan_bucket, plan_scales
from nst_jax.scaling.sharding import AnyMesh, Devices

# Type of the argument `progress`: a function of two numbers, how often the losses have been evaluated
# so far, and how often they will be evaluated in all.
Progress: TypeAlias = Callable[[int, int], None]


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
            f"the losses of these pictures stopped being finite: {listed}; "
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
            "those of the start: try smaller weights"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.pictures,)


class PaintedBatch(NamedTuple):
    """The results of a batch. The keys are the indices of the pictures in the batch."""

    images: dict[int, Image]  # the finished pictures, [h, w, 3] in [0, 1]
    # The final losses of each picture, scalars on the host. A picture in `broken` has losses that are
    # not finite here, whereas its entry in `images` is its last canvas with finite losses.
    losses: dict[int, Losses]
    # Only the pictures that diverged -> number of the update after which the losses were not finite.
    broken: dict[int, int]
    # Pictures in which nothing was painted: at every scale (resolution) their last losses equal the
    # first.
    stalled: set[int]


def stylize_many(
    params: Params,
    contents: Any,
    styles: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
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
) -> Image | list[Image]:
    """Stylise many pictures at once, each as `stylize` would.

    Content number i is painted in style number i, for n contents and n styles; a single content or a
    single style is used for all pictures. Numbers of the recipe (weights, per-layer weights, learning
    rate) may be arrays [n] with one value for each picture: such a call is a sweep. Canvases of the
    same shape share one compiled optimisation loop, whatever the sizes of their styles (except with a
    style loss that compares single positions of canvas and style instead of statistics, for which the
    styles must have equal shapes too). If the canvases do not all fit into memory at once, they are
    painted in chunks, one chunk after another. If the last chunk is smaller than the others, another
    loop is compiled for it.

    Args:
      params: weights from `nst_jax.load_params`.
      contents: one image [h, w, 3], a batch [n, h, w, 3], or a sequence of images of any sizes.
      styles: like `contents`. Within a sequence, an entry may also be a list of images: the styles that
        are blended for one picture, as in `stylize`.
      recipe: as in `stylize`, except that the numbers in its `terms` and `descent.optimizer`,
        `descent.last_learning_rate`, and `pictures.realism` may be arrays [n].
      size: as in `stylize`, for every picture.
      style_size: as in `stylize`.
      style_scale: as in `stylize`, for every picture; or a value for each picture: an array [n], or
        [n, styles] for blends, or a list with a number or a list of numbers for each picture. A list of
        numbers that has one for each style of a picture is as in `stylize`.
      tap_styles: as in `stylize`, for every picture.
      steps: as in `stylize`.
      precision: as in `stylize`.
      tile: as in `stylize`.
      colors: as in `stylize`.
      realism: as in `stylize`, or an array [n].
      strength: as in `stylize`, or an array [n].
      init: the first canvas of all pictures: an image, or an instance of a class of
        `nst_jax.recipes.starts`, such as `Noise()`; default: that of the recipe.
      key: a JAX random key; picture i draws from `jax.random.fold_in(key, i)`; default:
        `jax.random.key(0)`.
      devices: devices among which the pictures are divided: `"all"`, a number, or a list of
        `jax.Device`; default: the one that holds the weights. Each device paints whole pictures, unless
        `bands` is more than 1.
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
        Pictures of all sizes up to this side then share one compiled loop for each scale. Each picture
        gets the losses and updates that it would get without the array; the rest of the array takes
        time, but changes nothing. What would not be exact in a larger array is refused, such as
        regions, tiles, and losses that are not sums over positions. `"off"`, the default: each shape of
        canvas has a compiled loop of its own. `"auto"`: arrays of several shapes, chosen by
        `nst_jax.scaling.bucket_choice` so that compiling and painting together take the least time, as
        estimated from typical times of the platform. Pictures whose losses would not be exact in larger
        arrays, or that do not fit into memory in them, get a compiled loop for their own shape.
      every: number of updates between two calls of `progress`; or an iterable of such numbers, as in
        `paint`.
      progress: a function that is called as `progress(done, total)` once the losses of the first canvas
        are known, after each interval that `every` gives, at the end of each scale, and at the latest
        256 updates after the previous call. `done` and `total` are numbers of evaluations of the
        losses: each chunk has one for its first canvases and one for each update. An exception that
        `progress` raises ends the run.
      chunk: largest number of pictures painted at once, but never less than one for each device (with
        `bands`, for each group of devices that share a picture). By default, it is the number that fits
        into memory by `estimate_memory`, or the number of all pictures if the available memory is not
        known. Chunks get fewer pictures than this largest number if all chunks then have the same size,
        and that size is at least half of the largest number.
      bands: number of devices that share each picture, for pictures too large for one device; the
        number of `devices` must be a multiple of `bands`.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all canvases have the same shape, else a list of n images
      [h, w, 3]. If the losses of a picture stop being finite, its last canvas with finite losses is
      returned, enlarged to the final size if that happened at a coarser scale, and a `PicturesDiverged`
      warning names the picture. If at every scale the last losses of a picture equal the first ones, so
      that nothing was painted, a `PicturesStalled` warning names the picture.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe
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
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    # What comes from generators is kept as lists, since it is read more than once.
    contents, styles = _checks.images("contents", contents), _lists(styles)
    scale, each_scale = style_scale, None
    if plan is None and style_scale is not None:
        scale, each_scale = _each_style_scale(style_scale, styles, tap_styles, regions)
    options = (
        recipe, size, style_size, steps, precision, tile, scale, colors, realism,
        strength, devices,
    )  # fmt: skip
    if plan is None:
        recipe, own = with_tap_styles(with_options(*options[:-1]), tap_styles)
        pictures = checked_tap_pictures(own, recipe)
        mesh: AnyMesh | None = sharding.mesh_of_batch(devices, bands)
    else:
        check_given_plan(plan, options)
        _check_only_in_plan(chunk=chunk, bands=None if bands == 1 else bands)
        recipe, mesh = plan.requested, plan.mesh
        pictures = tap_pictures_of_plan(plan, tap_styles)
    styles = _with_pictures(styles, pictures)
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    chosen = buckets.checked_bucket(bucket)
    if chosen is not None and plan is not None:
        raise ValueError("`bucket`: `plan` contains it; give it to `nst_jax.plan` instead")
    intervals = intervals_of(every)
    members = members_of(
        contents,
        styles,
        recipe,
        init=init,
        key=key,
        given=BatchControls(regions, protect, opacity, style_opacity),
        style_scale=each_scale,
        on_host=_resizes_on_host(chosen, contents, recipe) if plan is None else plan.in_bucket,
    )
    for note in {note: None for one in members for note in notes_on_regions(one.prepared, recipe)}:
        warnings.warn(RegionLeftOut(note), stacklevel=2)
    device = capacity.device_of(params)
    _warn_of_enlarged(styles, members, recipe, each_scale)
    if chosen is not None:
        plan_them = plan_by_cost if chosen == buckets.AUTO else partial(plan_in_buckets, chosen)
        plans = plan_them(members, recipe, mesh=mesh, device=device, chunk=chunk, bands=bands > 1)
    elif plan is None:
        plans = [
            plan_members(some, recipe, mesh=mesh, device=device, chunk=chunk)
            for some in _by_shape(members, recipe)
        ]
    else:
        plans = [(_checked_plan(plan, members), members)]
    painted = paint_batch(params, plans, init=init, intervals=intervals, progress=progress)
    if painted.broken:
        warnings.warn(PicturesDiverged(painted.broken), stacklevel=2)
    if painted.stalled:
        warnings.warn(PicturesStalled(painted.stalled), stacklevel=2)
    images = [painted.images[index] for index in range(len(members))]
    return jnp.stack(images) if len({image.shape for image in images}) == 1 else images


def _with_pictures(styles: Any, pictures: list[np.ndarray]) -> Any:
    """Return the argument `styles` with `pictures` (those of `tap_styles`) appended to each entry."""
    if not pictures:
        return styles
    return [[*blended, *pictures] for blended in _lists(styles)]


def _each_style_scale(
    given: Any, styles: Sequence[Sequence[np.ndarray]], tap_styles: Any, regions: Any
) -> tuple[Any, list[tuple[float, ...]] | None]:
    """Decide whether the argument `style_scale` holds for all pictures or has a value for each picture.

    Return (`given`, None) if it holds for all pictures; else (None, the factors of each picture).

    Args:
      given: the argument `style_scale`, not None.
      styles: the styles of each picture, as `_lists` returned them. The first entry, with `tap_styles`
        and `regions`, says how many factors a picture may have.
      tap_styles: the argument of this name.
      regions: the argument of this name.

    Raises:
      TypeError: if the factors of a picture are no numbers.
      ValueError: if a factor is out of range, or there are none for a picture.
    """
    _checks.not_traced("style_scale", given)
    is_list = isinstance(given, (list, tuple))
    if not (is_list or np.ndim(given)) or len(given) == 0:
        return given, None
    if is_list and not any(np.ndim(one) for one in given):
        # If `tap_styles` or `regions` is of another type, it is not counted here. The checks of these
        # two arguments refuse it later.
        others = (tap_styles, Mapping), (regions, (list, tuple))
        more = sum(len(value) for value, kind in others if isinstance(value, kind))
        if len(given) in (1, len(styles[0]) + more):
            return given, None
    for index, one in enumerate(given):
        if np.ndim(one) > 1 or np.size(one) == 0:
            raise ValueError(
                f"`style_scale[{index}]`: expected a number, or one for each style of the picture, got "
                f"an array of shape {list(np.shape(one))}"
            )
    each = [tuple(np.atleast_1d(np.asarray(one)).tolist()) for one in given]
    for factors in dict.fromkeys(each):
        for factor in factors:
            _checks.number(f"style_scale[{each.index(factors)}]", factor, above=0)
    return None, each


def _resizes_on_host(
    bucket: buckets.Chosen, contents: Sequence[np.ndarray], recipe: Recipe
) -> bool:
    """Return whether NumPy resizes the pictures, so that JAX compiles nothing for their sizes.

    It does so if some of the pictures may lie in larger arrays (buckets), which share compiled programs
    to save compile time.
    """
    if bucket != buckets.AUTO:
        return bucket is not None
    sizes = {image.shape for image in contents}
    return len(sizes) > 1 and buckets.can_lie_in_bucket(recipe, (), controlled=False)


def _warn_of_enlarged(
    styles: Any,
    members: Sequence[Member],
    recipe: Recipe,
    style_scale: Sequence[tuple[float, ...]] | None,
) -> None:
    """Warn of styles that `style_scale` enlarges, so that they have more pixels than before resizing.

    If pictures have the same style in different sizes, there is one warning, for the largest size. The
    last argument is as in `members_of`.
    """
    if recipe.pictures.style_scale is None and style_scale is None:
        return
    largest: dict[int, Member] = {}
    for member in members:
        known = largest.setdefault(member.style, member)
        if _style_sides(member) > _style_sides(known):
            largest[member.style] = member
    blends = _blends(styles, recipe)
    for index, member in largest.items():
        # `index` is that of an entry of `styles`, unless styles get the colours of their contents or
        # have several sizes. Then `members_of` adds a multiple of the number of entries to it, so the
        # remainder of the division by the number of entries is the index of the entry.
        originals = [style.shape[:2] for style in blends[index % len(blends)]]
        shapes = member.prepared.scales[-1].style_shapes[: len(originals)]
        scaled = _with_style_scale(recipe, _of_picture(style_scale, member.place))
        warn_of_enlarged(originals, shapes, scaled, stacklevel=3)


def _style_sides(member: Member) -> int:
    """Return the sum of the longer sides of a picture's styles at the final scale, in px."""
    return sum(max(shape) for shape in member.prepared.scales[-1].style_shapes)


def _check_only_in_plan(**given: Any) -> None:
    """Refuse arguments that may not be given together with a plan, since the plan contains them.

    An argument that is None was not given.
    """
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}`: `plan` contains it; give it to `nst_jax.plan` instead")


def _checked_plan(plan: Plan, members: Sequence[Member]) -> Plan:
    """Return the plan that the caller gave; refuse it if it was not made for these pictures."""
    if plan.pictures != len(members):
        raise ValueError(
            f"`plan`: is for {plan.pictures} pictures and {len(members)} were given; make it with "
            f"`nst_jax.plan(..., pictures={len(members)})`"
        )
    if plan.mesh is not None and sharding.PICTURES not in plan.mesh.shape:
        raise ValueError(
            "`plan`: lets several devices share one picture; call `nst_jax.stylize`, or make the plan "
            "with `bands=`, the number of devices that share each picture of a batch"
        )
    if plan.in_bucket:
        for index, member in enumerate(members):
            controlled = member.prepared.controls is not None
            check_run_in_plan(plan, index, member.prepared.scales, controlled=controlled)
        return plan
    for member in members:
        scales = member.prepared.scales
        unlike = [a for a, b in zip(scales, plan.scales, strict=False) if a.shape != b.shape]
        # The sizes of the styles need not be those of the plan, except with a `MatchingLoss`, which
        # compares single positions of canvas and style. Its targets are as large as the styles, so the
        # plan's memory depends on them.
        if plan.recipe.terms.matched or unlike or len(scales) != len(plan.scales):
            check_plan_fits(plan, scales)
    return plan


def check_run_in_plan(
    plan: Plan, index: int, scales: Sequence[prepare.Scale], *, controlled: bool
) -> None:
    """Refuse a picture that cannot be painted by a plan with buckets.

    Args:
      plan: a plan whose `in_bucket` is True: its arrays are larger than the pictures that lie in them.
      index: the picture's index in the batch.
      scales: the picture's scales, with the sizes of the picture and not of the arrays.
      controlled: whether the picture has regions, protected or transparent parts.

    Raises:
      ValueError: if the picture does not fit into the arrays, or has other numbers of updates than the
        plan; the message says what to change.
    """
    buckets.check_run_in_bucket(plan.recipe, scales, controlled=controlled)
    if [one.steps for one in scales] != [one.steps for one in plan.scales]:
        raise ValueError(
            f"`plan`: picture {index} has {_steps_of(scales)} updates at its scales, and the plan "
            f"{_steps_of(plan.scales)}; give `bucket` to `stylize_many` without a plan"
        )
    for one, array in zip(scales, plan.scales, strict=True):
        pairs = [(one.shape, array.shape)]
        pairs += [(shape, array.style_shapes[0]) for shape in one.style_shapes]
        for shape, room in pairs:
            if shape[0] > room[0] or shape[1] > room[1]:
                raise ValueError(
                    f"`plan`: picture {index} needs {shape[1]}x{shape[0]} px and the plan's arrays "
                    f"have {room[1]}x{room[0]} px; make the plan with a larger `bucket`, or for the "
                    "largest content and style"
                )


def _steps_of(scales: Sequence[prepare.Scale]) -> str:
    return " + ".join(str(one.steps) for one in scales)


# --- Members --------------------------------------------------------------------------------------


def members_of(
    contents: Any,
    styles: Any,
    recipe: Recipe,
    *,
    init: Any = None,
    key: Array | None = None,
    given: BatchControls | None = None,
    style_scale: Sequence[tuple[float, ...]] | None = None,
    on_host: bool = False,
) -> list[Member]:
    """Check the arguments of a batch, resize its pictures, and return a `Member` per picture to paint.

    Args:
      contents: as in `stylize_many`.
      styles: as in `stylize_many`, with the pictures of `tap_styles` appended to each entry.
      recipe: the recipe of all pictures, with the options of the call and already checked.
      init: as in `stylize_many`; it is only checked here, and used when the batch is painted.
      key: as in `stylize_many`.
      given: the arguments `regions`, `protect`, `opacity` and `style_opacity` of `stylize_many`; None
        if none of these is given.
      style_scale: for each picture the factors of its styles' sizes, positive numbers: one, or one for
        each style. Of n entries, picture number i gets entry number i mod n. None: the recipe's.
      on_host: whether to resize pictures with NumPy, so that JAX compiles no program for their sizes.

    Returns:
      The members of the batch, in the order of the pictures.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe values do
        not fit together.
    """
    _checks.start_or_image("init", init)
    _checks.random_key("key", key)
    contents, styles = _checks.images("contents", contents), _blends(styles, recipe)
    given = BatchControls() if given is None else given
    key = jax.random.key(0) if key is None else key
    several = given.lengths() | ({} if style_scale is None else {"style_scale": len(style_scale)})
    count = _count(contents, styles, recipe, several)
    pairs = [
        Pair(index % len(contents), index % len(styles), _of_picture(style_scale, index))
        for index in range(count)
    ]
    sides = [[image.shape[:2] for image in blended] for blended in styles]
    controls = [
        given.checked(index, contents[pair.content].shape[:2], sides[pair.style])
        for index, pair in enumerate(pairs)
    ]
    for one in controls:
        check_controls(one, recipe)
    resize = prepare.resized_without_compiling if on_host else prepare.resized
    resized = _resized(contents, styles, dict.fromkeys(pairs), controls[0], recipe, resize)
    prepared = _recolored(resized, pairs, controls, recipe)
    # A style that gets the colours of its content becomes a different picture for each content, and so
    # does a style in another size. Each of these pictures needs an index of its own (`Member.style`),
    # since `BatchCanvas` computes the statistics of styles with the same index only once.
    recolors = finishing.recolors(recipe.pictures.colors)
    versions = [(pair.content if recolors else None, pair.style_scale) for pair in pairs]
    numbers = {version: number for number, version in enumerate(dict.fromkeys(versions))}
    return [
        Member(
            index,
            pair.content,
            numbers[version] * len(styles) + pair.style,
            prepared[index],
            jax.random.fold_in(key, index),
        )
        for index, (pair, version) in enumerate(zip(pairs, versions, strict=True))
    ]


class Pair(NamedTuple):
    """A content and the styles in which it is painted.

    Pictures of a batch whose pairs are equal share the arrays of the resized content and styles.
    """

    content: int  # index in the list of contents
    style: int  # index in the list of styles, whose entries are single styles or blends
    # Factors by which the sizes of these styles are multiplied; None means those of the recipe.
    style_scale: tuple[float, ...] | None = None


def _of_picture(
    style_scale: Sequence[tuple[float, ...]] | None, index: int
) -> tuple[float, ...] | None:
    """Return the factors of the sizes of one picture's styles; None means those of the recipe.

    `style_scale` is the argument of `members_of`, and `index` the number of the picture.
    """
    return None if style_scale is None else style_scale[index % len(style_scale)]


def _with_style_scale(recipe: Recipe, factors: tuple[float, ...] | None) -> Recipe:
    """Return the recipe with `factors` for the sizes of its styles; with None, unchanged."""
    return recipe if factors is None else recipe.replace(pictures__style_scale=factors)


def _recolored(
    resized: Mapping[Pair, prepare.Prepared],
    pairs: Sequence[Pair],
    given: Sequence[Given | None],
    recipe: Recipe,
) -> list[prepare.Prepared]:
    """Return the prepared arrays of each picture of the batch, recoloured if the recipe says so.

    Pictures with the same content and styles share one recoloured copy. A picture with regions or
    transparent parts gets its own copy, since these decide which pixels' colours are compared, and they
    may differ from picture to picture.

    Args:
      resized: content and styles of each `Pair` as prepared arrays, resized but not recoloured.
      pairs: the key in `resized` of each picture of the batch.
      given: the checked regions, protected and transparent parts of each picture; None: it has none.
      recipe: the recipe of all pictures.
    """
    known: dict[Pair, prepare.Prepared] = {}
    found = []
    for pair, own in zip(pairs, given, strict=True):
        content, styles, scales, _, region_styles, _ = resized[pair]
        controls = own and controls_of(own, scales[-1].shape, scales[-1].style_shapes)
        parts = own is not None and (
            own.opacity is not None or bool(own.style_opacities) or bool(own.regions)
        )
        if pair in known and not parts:
            found.append(known[pair]._replace(controls=controls))
            continue
        one = prepare.prepared_of(
            content, styles, scales, recipe, region_styles=region_styles, controls=controls
        )
        if not parts:
            known[pair] = one
        found.append(one)
    return found


def _resized(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    pairs: Iterable[Pair],
    given: Given | None,
    recipe: Recipe,
    resize: Callable[[np.ndarray, Shape, Recipe], Any],
) -> dict[Pair, prepare.Prepared]:
    """Resize contents and styles to their final sizes; return the prepared arrays of each pair.

    The sizes of all pairs are checked before the first picture is resized. A picture that several pairs
    need in the same size is resized once.

    Args:
      contents: pictures [h, w, 3].
      styles: lists of pictures [h', w', 3]. The pictures of a list are blended; a single style is a
        list of one picture.
      pairs: the pairs of the batch, each once.
      given: the checked regions, protected and transparent parts; None: there are none. The regions'
        styles are the same for all pictures of a batch, so those of one picture are enough.
      recipe: the recipe whose size rules apply.
      resize: the function that resizes a picture to a (height, width) with the recipe's filter.
    """
    others = [] if given is None else [region.style for region in given.regions]
    sides = [[image.shape[:2] for image in blended] for blended in styles]
    scales = {
        pair: prepare.scales_of(
            contents[pair.content].shape[:2],
            sides[pair.style],
            _with_style_scale(recipe, pair.style_scale),
            region_styles=[image.shape[:2] for image in others],
            protected=given is not None and given.protect is not None,
        )
        for pair in pairs
    }
    canvas_shapes = {pair.content: found[-1].shape for pair, found in scales.items()}
    # The recipe's size rule may derive the size of a style from that of its content, so one style can
    # have several sizes.
    style_shapes = {
        pair: found[-1].style_shapes[: len(sides[pair.style])] for pair, found in scales.items()
    }
    resized_contents = {i: resize(contents[i], shape, recipe) for i, shape in canvas_shapes.items()}
    resized_styles = {
        (style, shapes): tuple(
            resize(*one, recipe) for one in zip(styles[style], shapes, strict=True)
        )
        for style, shapes in dict.fromkeys(
            (pair.style, found) for pair, found in style_shapes.items()
        )
    }
    of_regions = {
        pair: found[-1].style_shapes[len(sides[pair.style]) :] for pair, found in scales.items()
    }
    region_styles = {
        shapes: tuple(resize(*pair, recipe) for pair in zip(others, shapes, strict=True))
        for shapes in dict.fromkeys(of_regions.values())
    }
    return {
        pair: prepare.Prepared(
            resized_contents[pair.content],
            resized_styles[pair.style, style_shapes[pair]],
            found,
            photo=resized_contents[pair.content],
            region_styles=region_styles[of_regions[pair]],
        )
        for pair, found in scales.items()
    }


# A number of a recipe may be an array [n], with one value for each picture of a batch, if the path of
# its attributes, such as "terms.style_weight", begins with one of these.
SWEPT = ("terms.", "descent.optimizer.", "descent.last_learning_rate", "pictures.realism")


def _blends(styles: Any, recipe: Recipe) -> list[list[np.ndarray]]:
    """Check each entry of the argument `styles`, and return it as a list of images.

    A list of one image is a single style, a longer list is a blend.
    """
    found = _lists(styles)
    for index, blended in enumerate(found):
        try:
            recipes.check_styles(recipe.terms, len(blended), argument=f"styles[{index}]")
        except ValueError as error:
            hint = "; a blend is a list within the list, `[[a, b]]`" if len(blended) == 1 else ""
            raise ValueError(f"{error}{hint}") from error
    return found


def _lists(styles: Any) -> list[list[np.ndarray]]:
    """Check the images in the argument `styles`, and return each of its entries as a list of images.

    The number of images in each list is not checked here; `_blends` does that.
    """
    if isinstance(styles, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in styles):
        return [
            _checks.one_or_several(f"styles[{index}]", entry) for index, entry in enumerate(styles)
        ]
    return [[image] for image in _checks.images("styles", styles)]


def _count(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    recipe: Recipe,
    several: Mapping[str, int],
) -> int:
    """Return the number of pictures of a batch.

    It is the length that all lists and arrays with more than one item have, and 1 if every list or
    array has a single item.

    Args:
      contents: the content pictures.
      styles: the entries of the styles, each a list of pictures that are blended.
      recipe: the recipe, in which a number may be an array with an item for each picture.
      several: name -> number of items, for the controls (masks, weights, amounts) that are given as
        lists or arrays with an item for each picture.

    Raises:
      ValueError: if two lists or arrays have different numbers of items, both more than one; or if a
        number of the recipe is an array and may not be one.
    """
    sizes = {"contents": len(contents), "styles": len(styles), **several}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf) == 0:
            continue
        name = jax.tree_util.keystr(path).lstrip(".")
        if np.ndim(leaf) > 1 or not name.startswith(SWEPT):
            raise ValueError(
                f"`recipe`: `{name}` may not be an array of shape {list(np.shape(leaf))}; "
                "a sweep is an array [n] in `terms` or `descent.optimizer`, or of learning rates, "
                "or `realism`"
            )
        sizes[f"recipe.{name}"] = len(leaf)
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"`stylize_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def _by_shape(members: list[Member], recipe: Recipe) -> list[list[Member]]:
    """Divide the pictures of a batch into groups; the pictures of a group can share a compiled loop.

    Within a group, all canvases have the same shape at each scale (resolution). With a style loss that
    compares single positions of canvas and style (a `MatchingLoss`), all styles have the same shapes as
    well, since the shapes of its targets depend on them.
    """
    groups: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        groups[prepare.shapes_of(member.prepared.scales, recipe)].append(member)
    return list(groups.values())


def _by_structure(members: Sequence[Member]) -> list[list[Member]]:
    """Separate pictures with regions, protected or transparent parts from pictures without.

    Targets of pictures with such parts contain additional arrays, the masks. So they cannot be stacked
    with targets that have no masks.
    """
    kinds: dict[bool, list[Member]] = defaultdict(list)
    for member in members:
        kinds[member.prepared.controls is not None].append(member)
    return list(kinds.values())


def plan_members(
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
) -> tuple[Plan, list[Member]]:
    """Plan the run of pictures of a batch, all of whose canvases have the same shape.

    Args:
      members: the pictures.
      recipe: the recipe of all pictures, already checked.
      mesh: the devices among which the pictures are divided; None is one device.
      device: the device that holds the weights; None is the first local device.
      chunk: largest number of pictures painted at once; None: as many as fit into memory.

    Returns:
      The plan, and `members` unchanged: a pair such as `plan_in_buckets` returns.
    """
    scales = members[0].prepared.scales
    shapes = {shape for member in members for shape in member.prepared.scales[-1].style_shapes}
    # The plan's memory must be enough for styles of all shapes, so the plan gets all these shapes. With
    # a `MatchingLoss` (`terms.matched`), `_by_shape` ensures that all members have styles of the same
    # shapes.
    if not recipe.terms.matched:
        scales = (*scales[:-1], scales[-1]._replace(style_shapes=tuple(shapes)))
    count = len(members)
    plan = plan_scales(recipe, scales, mesh=mesh, device=device, pictures=count, chunk=chunk)
    return plan, members


def plan_in_buckets(
    side: int,
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
    bands: bool = False,
) -> list[tuple[Plan, list[Member]]]:
    """Plan the run of a batch whose canvases lie in square arrays, see `nst_jax.scaling.buckets`.

    Pictures of different sizes in arrays of the same size share compiled programs.

    Args:
      side: side of the square arrays at the final scale, in px; a multiple of 16.
      members: the pictures of the batch, of any sizes up to `side`.
      recipe: the recipe of all pictures, already checked.
      mesh: the devices among which the pictures are divided; None is one device.
      device: the device that holds the weights; None is the first local device.
      chunk: largest number of pictures painted at once; None: as many as fit into memory.
      bands: whether several devices share each picture; if True, ValueError is raised.

    Returns:
      Pairs of a plan and the members that are painted by it. Members with different numbers of updates
      per scale get different plans.

    Raises:
      ValueError: if a picture is larger than `side`; if results in a larger array would not be exact,
        because of the recipe or because of regions, protected or transparent parts; or if there is too
        little memory for the arrays.
    """
    controlled = any(member.prepared.controls is not None for member in members)
    runs = [member.prepared.scales for member in members]
    longest = max(runs, key=len)
    buckets.check_run_in_bucket(recipe, longest, controlled=controlled, bands=bands)
    found = []
    for bucket in buckets.buckets_of(side, runs, recipe):
        own = [members[index] for index in bucket.runs]
        options: dict[str, Any] = {
            "mesh": mesh,
            "device": device,
            "pictures": len(own),
            "chunk": chunk,
        }
        found.append((plan_bucket(recipe, bucket.scales, **options), own))
    return found


def plan_by_cost(
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
    bands: bool = False,
) -> list[tuple[Plan, list[Member]]]:
    """Plan the run of a batch whose canvases lie in larger arrays where that saves time.

    Pictures in arrays of the same shape share compiled programs. `chosen_buckets` chooses the shapes of
    the arrays. Pictures whose losses would not be exact in larger arrays get arrays of the size of
    their canvas.

    Args:
      members: the pictures of the batch.
      recipe: the recipe of all pictures.
      mesh: as in `plan_in_buckets`.
      device: as in `plan_in_buckets`.
      chunk: as in `plan_in_buckets`.
      bands: whether several devices share each picture; larger arrays are then not used.

    Returns:
      For each shape of arrays a plan and the members that are painted in such arrays.

    Raises:
      ValueError: if there is too little memory, even if pictures are computed in tiles.
    """
    can = [
        not bands
        and buckets.can_lie_in_bucket(
            recipe,
            member.prepared.scales,
            controlled=member.prepared.controls is not None,
        )
        for member in members
    ]
    some = [member for member, possible in zip(members, can, strict=True) if possible]
    alone = [member for member, possible in zip(members, can, strict=True) if not possible]
    options: dict[str, Any] = {"mesh": mesh, "device": device}
    platform = capacity.platform_of(device)
    found = chosen_buckets(
        [member.prepared.scales for member in some],
        recipe,
        typical_costs(platform),
        platform,
        together=None if chunk is None else lambda shape: chunk,
        fits=lambda arrays: fits_in_bucket(recipe, arrays, **options),
    )
    options |= {"chunk": chunk}
    plans = [plan_members(same, recipe, **options) for same in _by_shape(alone, recipe)]
    for bucket in found:
        own = [some[index] for index in bucket.runs]
        if bucket.exact:
            plans.append(plan_members(own, recipe, **options))
        else:
            arrays, count = bucket.scales, len(own)
            plans.append((plan_bucket(recipe, arrays, pictures=count, **options), own))
    return plans


# --- Painting -------------------------------------------------------------------------------------


def paint_batch(
    params: Params,
    plans: Sequence[tuple[Plan, list[Member]]],
    *,
    init: Any = None,
    intervals: Iterator[int],
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> PaintedBatch:
    """Paint the pictures of a batch, which are divided into groups with one plan for each.

    Args:
      params: as in `stylize_many`.
      plans: pairs of a plan and the members (pictures of the batch) that are painted by it. The
        canvases of these members have the same shape, or lie in arrays of the same shape (if
        `Plan.in_bucket` is True).
      init: as in `stylize_many`.
      intervals: numbers of updates between calls of `progress`, from `nst_jax.descent.intervals_of`.
      progress: as in `stylize_many`.
      watch: waits until arrays are computed, and may end the run by an exception; with None, the run
        just waits.

    Returns:
      The results of all pictures.
    """
    watch = Watch() if watch is None else watch
    painted = PaintedBatch({}, {}, {}, set())
    # A caller can end the run by raising an exception in `progress`. So `progress` must be called often
    # enough: at the latest after `CAPACITY` (256) updates, the largest number in one call of the
    # compiled loop.
    intervals = (min(interval, optimize.CAPACITY) for interval in intervals)
    plans = [(plan, some) for plan, members in plans for some in _by_structure(members)]
    total = sum(-(-len(members) // plan.chunk) * (plan.updates + 1) for plan, members in plans)
    done = 0
    for plan, members in plans:
        weights = BatchWeights.of(params, plan)  # made here, so that all chunks share these arrays
        for first in range(0, len(members), plan.chunk):
            chunk = members[first : first + plan.chunk]
            canvas = BatchCanvas(weights, plan, chunk, init, watch)
            report = None if progress is None else partial(_report, progress, watch, done, total)
            with capacity.explaining_out_of_memory(
                plan.footprint, plan.recipe.network.tile, plan.available
            ):
                found = _painted_chunk(canvas, intervals, report)
            done += plan.updates + 1
            stalled = canvas.stalled()
            for member, image, measured, broke_at, stuck in zip(
                chunk, *found, stalled, strict=True
            ):
                painted.images[member.place], painted.losses[member.place] = image, measured
                if broke_at >= 0:
                    painted.broken[member.place] = broke_at
                elif stuck:
                    painted.stalled.add(member.place)
    return painted


def _report(
    progress: Progress, watch: Watch, before: int, total: int, state: State, evaluations: int
) -> None:
    """Call `progress` while a chunk (the pictures that are painted at once) is painted.

    Args:
      progress: the function to call.
      watch: waits until the state is computed.
      before: how often the losses were evaluated in the chunks before this one.
      total: how often they are evaluated in all chunks together.
      state: the last state of this chunk.
      evaluations: how often they have been evaluated in this chunk so far.
    """
    # JAX computes asynchronously, and `progress` must report only updates that are finished.
    watch.wait(state.step)
    progress(before + evaluations, total)


def _painted_chunk(
    canvas: BatchCanvas,
    intervals: Iterator[int],
    report: Callable[[State, int], None] | None,
) -> tuple[list[Image], list[Losses], list[int]]:
    """Paint a chunk, the pictures that are painted at once.

    Args:
      canvas: the canvases of the chunk.
      intervals: numbers of updates between two calls of `report`.
      report: called with the state, and with how often the losses have been evaluated so far in this
        chunk; or None.

    Returns:
      For each picture its image, its losses, and the number of the update at which it diverged; -1 if
      it did not diverge.
    """
    for position in descend(canvas, canvas.plan.scales, intervals, at_scale_ends=True):
        state, step = position.state, position.step
        assert state is not None
        if report is not None:
            report(state, step + 1)
        if step == canvas.plan.updates:
            return canvas.results(state)
        # Without references to the arrays of a finished scale, the next scale can use their memory.
        del position, state
    raise AssertionError("the last position is the one after all updates")
