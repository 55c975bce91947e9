"""`stylize_many`: many pictures by one compiled program, a `vmap` over targets and numbers."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from nst_jax import _checks, optimize, prepare, recipes
from nst_jax._types import Image, Losses, Params, State, Targets
from nst_jax.descent import descend, intervals_of
from nst_jax.images.resizing import enlarge
from nst_jax.objective import blend, measure_content, measure_style
from nst_jax.painting import check_given_plan, check_plan_fits
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, sharding, tiles
from nst_jax.scaling.bands import Bands, distribute, with_padding
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import AnyMesh, Devices, band_mesh
from nst_jax.vgg.network import with_forms

Axes: TypeAlias = tuple[int | None, ...]  # for each leaf of the recipe, 0 if it has a batch axis
Progress: TypeAlias = Callable[[int, int], None]


class Member(NamedTuple):
    """One picture of a batch."""

    place: int  # in the result
    content: int  # index of its content; members with the same content share its features
    style: int  # index of its style, or blend
    prepared: prepare.Prepared
    key: Array


class PicturesDiverged(RuntimeWarning):
    """Pictures of a batch whose losses stopped being finite.

    A warning and not an exception, since the other pictures are good, and a sweep may well contain
    numbers with which the losses diverge.

    Attributes:
      pictures: index of a picture to the update whose losses were not finite.
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


class PaintedBatch(NamedTuple):
    """The result of a batch, by the place of each picture."""

    images: dict[int, Image]
    losses: dict[int, Losses]  # of these images, scalars on the host; meaningless in `broken`
    broken: dict[
        int, int
    ]  # to the update whose losses were not finite; only pictures that diverged


def stylize_many(
    params: Params,
    contents: Any,
    styles: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    init: Any = None,
    key: Array | None = None,
    devices: Devices = None,
    plan: Plan | None = None,
    every: int | Iterable[int] = optimize.CAPACITY,
    progress: Progress | None = None,
    chunk: int | None = None,
    bands: int = 1,
) -> Image | list[Image]:
    """Stylise many pictures at once, each as `stylize` would.

    n contents are paired with n styles; a single content or style is used for all; and numbers of the
    recipe (weights, per-layer weights, learning rate) may be arrays [n], which is a sweep. Canvases of
    one shape share one compiled program; styles keep their own sizes. If memory does not hold all
    canvases at once, the program paints them chunk by chunk.

    Args:
      params: weights from `nst_jax.load_params`.
      contents: one image [h, w, 3], a batch [n, h, w, 3], or a sequence of images of any sizes.
      styles: the same; a list of images in the place of one is a blend, as in `stylize`.
      recipe: as in `stylize`; numbers of its `terms` and `descent.optimizer` may be arrays [n].
      size: as in `stylize`, for every picture.
      style_size: as in `stylize`.
      steps: as in `stylize`.
      precision: as in `stylize`.
      tile: as in `stylize`.
      init: one start for all: a function of `nst_jax.recipes.starts`, or an image.
      key: a JAX random key; picture i draws from `jax.random.fold_in(key, i)`.
      devices: devices that share the pictures: `"all"`, a number, or a list of `jax.Device`; default:
        the one that holds the weights. Each device paints its own pictures.
      plan: from `nst_jax.plan(..., pictures=n)`, for canvases of one shape. It contains `recipe`, the
        arguments up to `tile`, `devices`, `chunk` and `bands`, none of which may then be given.
      every: updates between two calls of `progress`; or an iterable of such numbers, as in `paint`.
      progress: called as `progress(done, total)` after the start was measured and after each
        interval, with numbers of evaluations: one for the start and one for each update, per chunk.
        An exception that it raises ends the work.
      chunk: largest number of pictures painted at once, though at least one for each device; default:
        what memory holds by `estimate_memory`, or all if the available memory is not known. Chunks are
        of equal size where that costs little.
      bands: number of devices that share each picture, for pictures too large for one device; it
        divides the number of `devices`.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all canvases have one shape, else a list in order. A picture
      whose losses stop being finite is its last finite canvas, enlarged if that was at a coarser scale;
      a `PicturesDiverged` warning names it.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe
        values do not fit together.
      OutOfMemory: if the device runs out of memory although the estimate fitted.

    Example:
      >>> import jax.numpy as jnp
      >>> from dataclasses import replace
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> terms = replace(nst.recipes.DEFAULT.terms, style_weight=jnp.array([0.1, 1.0, 10.0]))
      >>> sweep = replace(nst.recipes.DEFAULT, terms=terms)
      >>> nst.stylize_many(params, content, style, recipe=sweep, size=48, steps=2).shape
      (3, 32, 48, 3)
    """
    _checks.instance("params", params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    options = (recipe, size, style_size, steps, precision, tile, devices)
    if plan is None:
        recipe = with_options(*options[:-1])
        mesh: AnyMesh | None = sharding.mesh_of_batch(devices, bands)
    else:
        check_given_plan(plan, options)
        _check_only_in_plan(chunk=chunk, bands=None if bands == 1 else bands)
        recipe, mesh = plan.requested, plan.mesh
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    intervals = intervals_of(every)
    members = members_of(contents, styles, recipe, init=init, key=key)
    device = capacity.device_of(params)
    if plan is None:
        plans = [
            plan_members(some, recipe, mesh=mesh, device=device, chunk=chunk)
            for some in _by_shape(members)
        ]
    else:
        plans = [(_checked_plan(plan, members), members)]
    painted = paint_batch(params, plans, init=init, intervals=intervals, progress=progress)
    if painted.broken:
        warnings.warn(PicturesDiverged(painted.broken), stacklevel=2)
    images = [painted.images[index] for index in range(len(members))]
    return jnp.stack(images) if len({image.shape for image in images}) == 1 else images


def _check_only_in_plan(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"`{name}`: `plan` contains it; give it to `nst_jax.plan` instead")


def _checked_plan(plan: Plan, members: Sequence[Member]) -> Plan:
    if plan.pictures != len(members):
        raise ValueError(
            f"`plan`: is for {plan.pictures} pictures and {len(members)} were given; make it with "
            f"`nst_jax.plan(..., pictures={len(members)})`"
        )
    for member in members:
        scales = member.prepared.scales
        unlike = [a for a, b in zip(scales, plan.scales, strict=False) if a.shape != b.shape]
        if unlike or len(scales) != len(plan.scales):
            check_plan_fits(plan, scales)
    return plan


# --- Members --------------------------------------------------------------------------------------


def members_of(
    contents: Any, styles: Any, recipe: Recipe, *, init: Any = None, key: Array | None = None
) -> list[Member]:
    """Return the pictures of a batch, prepared; all arguments are checked first.

    Args:
      contents: as in `stylize_many`.
      styles: as in `stylize_many`.
      recipe: checked, of all of them.
      init: as in `stylize_many`; only checked here.
      key: as in `stylize_many`.

    Raises:
      TypeError: as in `stylize_many`.
      ValueError: as in `stylize_many`.
    """
    _checks.start_or_image("init", init)
    _checks.random_key("key", key)
    contents, styles = _checks.images("contents", contents), _blends(styles, recipe)
    key = jax.random.key(0) if key is None else key
    count = _count(contents, styles, recipe)
    # All sizes are checked before the first picture is resized, and each picture is resized once.
    pairs = [(index % len(contents), index % len(styles)) for index in range(count)]
    scales = {
        (content, style): prepare.scales_of(
            contents[content].shape[:2], [image.shape[:2] for image in styles[style]], recipe
        )
        for content, style in pairs
    }
    canvas_shapes = {content: found[-1].shape for (content, _), found in scales.items()}
    style_shapes = {style: found[-1].style_shapes for (_, style), found in scales.items()}
    resized_contents = {
        i: prepare.resized(contents[i], shape, recipe) for i, shape in canvas_shapes.items()
    }
    resized_styles = {
        i: tuple(prepare.resized(*pair, recipe) for pair in zip(styles[i], shapes, strict=True))
        for i, shapes in style_shapes.items()
    }
    return [
        Member(
            index,
            content,
            style,
            prepare.Prepared(
                resized_contents[content], resized_styles[style], scales[content, style]
            ),
            jax.random.fold_in(key, index),
        )
        for index, (content, style) in enumerate(pairs)
    ]


def _blends(styles: Any, recipe: Recipe) -> list[list[np.ndarray]]:
    """Return the styles of each picture: a list of one, or of several."""
    if isinstance(styles, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in styles):
        found = [
            _checks.one_or_several(f"styles[{index}]", entry) for index, entry in enumerate(styles)
        ]
    else:
        found = [[image] for image in _checks.images("styles", styles)]
    for index, blended in enumerate(found):
        try:
            recipes.check_styles(recipe.terms, len(blended), argument=f"styles[{index}]")
        except ValueError as error:
            hint = "; a blend is a list within the list, `[[a, b]]`" if len(blended) == 1 else ""
            raise ValueError(f"{error}{hint}") from error
    return found


def _count(contents: list[np.ndarray], styles: list[list[np.ndarray]], recipe: Recipe) -> int:
    """Return the number of pictures, if all lists and arrays have this length or length one."""
    sizes = {"contents": len(contents), "styles": len(styles)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf) == 0:
            continue
        name = jax.tree_util.keystr(path).lstrip(".")
        if np.ndim(leaf) > 1 or not name.startswith(("terms.", "descent.optimizer.")):
            raise ValueError(
                f"`recipe`: `{name}` may not be an array of shape {list(np.shape(leaf))}; "
                "a sweep is an array [n] in `terms` or `descent.optimizer`"
            )
        sizes[f"recipe.{name}"] = len(leaf)
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"`stylize_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def _by_shape(members: list[Member]) -> list[list[Member]]:
    groups: dict[Any, list[Member]] = defaultdict(list)
    for member in members:
        groups[member.prepared.content.shape].append(member)
    return list(groups.values())


def plan_members(
    members: list[Member],
    recipe: Recipe,
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    chunk: int | None = None,
) -> tuple[Plan, list[Member]]:
    """Return the plan of members whose canvases have one shape, and these members."""
    scales = members[0].prepared.scales
    shapes = {shape for member in members for shape in member.prepared.scales[-1].style_shapes}
    scales = (*scales[:-1], scales[-1]._replace(style_shapes=tuple(shapes)))
    count = len(members)
    plan = plan_scales(recipe, scales, mesh=mesh, device=device, pictures=count, chunk=chunk)
    return plan, members


# --- Painting -------------------------------------------------------------------------------------


def paint_batch(
    params: Params,
    plans: Sequence[tuple[Plan, list[Member]]],
    *,
    init: Any = None,
    intervals: Iterator[int],
    progress: Progress | None = None,
) -> PaintedBatch:
    """Paint the members of a batch, each by its plan.

    Args:
      params: as in `stylize_many`.
      plans: each with members whose canvases have one shape.
      init: as in `stylize_many`.
      intervals: from `nst_jax.descent.intervals_of`.
      progress: as in `stylize_many`.
    """
    painted = PaintedBatch({}, {}, {})
    total = sum(-(-len(members) // plan.chunk) * (plan.updates + 1) for plan, members in plans)
    done = 0
    for plan, members in plans:
        weights = _Weights.of(params, plan)  # once for all chunks
        for first in range(0, len(members), plan.chunk):
            chunk = members[first : first + plan.chunk]
            canvas = _BatchCanvas(weights, plan, chunk, init)
            report = None if progress is None else partial(_report, progress, done, total)
            with capacity.explaining_out_of_memory(
                plan.footprint, plan.recipe.network.tile, plan.available
            ):
                found = _painted_chunk(canvas, intervals, report)
            done += plan.updates + 1
            for member, image, measured, broke_at in zip(chunk, *found, strict=True):
                painted.images[member.place], painted.losses[member.place] = image, measured
                if broke_at >= 0:
                    painted.broken[member.place] = broke_at
    return painted


def _report(progress: Progress, before: int, total: int, state: State, evaluations: int) -> None:
    jax.block_until_ready(state.step)  # only where progress is wanted does the host wait
    progress(before + evaluations, total)


def _painted_chunk(
    canvas: "_BatchCanvas",
    intervals: Iterator[int],
    report: Callable[[State, int], None] | None,
) -> tuple[list[Image], list[Losses], list[int]]:
    """Paint a chunk; return images, losses and the update after which each diverged, or -1."""
    position = None
    for position in descend(canvas, canvas.plan.scales, intervals):
        if report is not None:
            assert position.state is not None
            report(position.state, position.step + 1)
    assert position is not None and position.state is not None
    return canvas.results(position.state)


class _Weights(NamedTuple):
    """The weights of a batch."""

    measuring: Params  # for measuring contents and styles
    loop: Params  # with transposed and Winograd kernels, on all devices

    @classmethod
    def of(cls, params: Params, plan: Plan) -> "_Weights":
        """Distribute weights as a plan needs them."""
        network, taps = plan.recipe.network, plan.recipe.terms.taps
        shape = tiles.window_of(plan.scales[-1].shape, taps, network, plan.bands())
        formed = with_forms(params, taps, shape=shape, precision=network.precision)
        return cls(
            sharding.replicate(params, band_mesh(plan.mesh)), sharding.replicate(formed, plan.mesh)
        )


class _BatchCanvas:
    """The canvases of a chunk, as `descend` moves them from scale to scale."""

    def __init__(self, weights: _Weights, plan: Plan, members: list[Member], init: Any) -> None:
        self.plan, self._weights, self._init = plan, weights, init
        self._count = len(members)
        # The last member is painted several times if the chunk does not divide over the devices.
        extra = sharding.round_up(self._count, plan.mesh) - self._count
        self._members = members + members[-1:] * extra
        indices = [member.place for member in self._members]
        here, self._axes = _numbers_of(plan.recipe, indices)
        self._recipe = sharding.replicate(here, plan.mesh)
        # What several devices share a picture for, all of them measure; otherwise one does.
        self._measuring_recipe = here if band_mesh(plan.mesh) is None else self._recipe
        self._broke_at = np.full(len(self._members), -1)
        self._image: Image | None = None  # of the scale before

    def measure(self, scale: int) -> Targets:
        """Measure each content and each style once, and stack the results for the members."""
        mesh, bands = band_mesh(self.plan.mesh), self.plan.bands(scale)
        recipe, params = self._measuring_recipe, self._weights.measuring
        contents: dict[int, Any] = {}
        styles: dict[int, Any] = {}
        for member in self._members:
            here = member.prepared.scales[scale]
            if member.content not in contents:
                picture = prepare.at_scale(member.prepared.content, here.shape)
                picture = sharding.replicate(picture, mesh)
                contents[member.content] = _measure_content(params, picture, recipe, bands=bands)
            if member.style not in styles:
                pictures = sharding.replicate(prepare.styles_at(member.prepared, here), mesh)
                styles[member.style] = [
                    _measure_style(params, picture, recipe, bands=bands) for picture in pictures
                ]
        blended = [
            blend(styles[member.style], _shares(recipe, place))
            for place, member in enumerate(self._members)
        ]
        stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
        content = stacked(*(contents[member.content] for member in self._members))
        return Targets(
            sharding.split(content, self.plan.mesh, bands=bands is not None),
            sharding.split(stacked(*blended), self.plan.mesh),
        )

    def start(self, scale: int, measured: Targets, image: Image | None) -> State:
        del measured
        mesh, bands, exact = self.plan.mesh, self.plan.bands(scale), None
        if image is None:
            image, exact = self._starts()
        image = _enlarge(image, self.plan.scales[scale].shape)
        self._image = image
        split = sharding.split(image, mesh)
        state = _init_many(split, self._recipe, bands, axes=self._axes, mesh=mesh)
        if exact is None:
            return state
        # Two arrays, since the loop donates the buffers of a state one by one.
        canvas, pending = (_distributed(exact, bands, mesh) for _ in range(2))
        return state._replace(canvas=canvas, pending=pending)

    def _starts(self) -> tuple[Image, np.ndarray | None]:
        """Return the starts, and as canvases those that are made in the recipe's coordinates."""
        images, canvases, recipe = [], [], self.plan.recipe
        for member in self._members:
            scale = member.prepared.scales[0]
            content = prepare.at_scale(member.prepared.content, scale.shape)
            style = prepare.at_scale(member.prepared.styles[0], scale.style_shapes[0])
            images.append(prepare.starting_image(content, style, recipe, self._init, member.key))
            canvas = prepare.exact_canvas(content, recipe, self._init)
            if canvas is not None:
                canvases.append(canvas)
        return jnp.stack(images), np.stack(canvases) if canvases else None

    def run(self, scale: int, state: State, measured: Targets, steps: int) -> tuple[State, None]:
        state, _ = _run_many(
            self._weights.loop,
            state,
            measured,
            self._recipe,
            steps,
            self.plan.bands(scale),
            axes=self._axes,
            mesh=self.plan.mesh,
        )
        return state, None

    def is_broken(self, state: State) -> bool:
        del state
        return False  # the other pictures go on

    def image(self, scale: int, state: State) -> Image:
        return self._images(scale, state, clipped=False)

    def _images(self, scale: int, state: State, *, clipped: bool) -> Image:
        """Return the canvases of a scale that is done; remember which diverged."""
        bands = self.plan.bands(scale)
        found = _picture_many(state, self._recipe, bands, axes=self._axes, clipped=clipped)
        whole = self._broke_at < 0
        # A canvas that diverged at a coarser scale stays what it was there.
        image = found if whole.all() else _choose(whole, found, self._image)
        broken = sharding.to_host(state.broke_at, self.plan.mesh)
        before = sum(one.steps for one in self.plan.scales[:scale])
        self._broke_at = np.where(whole & (broken >= 0), broken + before, self._broke_at)
        return image

    def results(self, state: State) -> tuple[list[Image], list[Losses], list[int]]:
        """Return images, losses and the update after which each diverged, or -1."""
        mesh, count = self.plan.mesh, self._count
        images = self._images(len(self.plan.scales) - 1, state, clipped=True)
        measured = sharding.to_host(state.losses, mesh)
        losses = [jax.tree.map(lambda of, i=i: of[i], measured) for i in range(count)]
        return list(sharding.gather(images, mesh))[:count], losses, self._broke_at.tolist()[:count]


def _numbers_of(recipe: Recipe, indices: list[int]) -> tuple[Recipe, Axes]:
    """Return the recipe's numbers for these members, and which of them have a batch axis."""
    numbers = recipes.as_arrays(recipe.bare())
    axes = tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(numbers))
    take = np.asarray(indices)
    chosen = recipes.with_numbers(
        # An array of one is for all members.
        numbers,
        lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf,
    )
    return chosen, axes


def _shares(recipe: Recipe, place: int) -> tuple[Any, ...]:
    """Return the style shares of one member."""
    return jax.tree.map(
        lambda share: share[place] if share.ndim else share, recipe.terms.style_shares
    )


def _tree(axes: Axes, recipe: Recipe) -> Recipe:
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


# --- Compiled functions ---------------------------------------------------------------------------

# Measuring depends on no number of the recipe but its shares, which are applied afterwards.
_measure_content = jax.jit(measure_content)
_measure_style = jax.jit(measure_style)
_enlarge = jax.jit(enlarge, static_argnums=1)


@jax.jit
def _choose(whole: Bool[Array, " n"], found: Image, before: Image) -> Image:
    return jnp.where(whole[:, None, None, None], found, jnp.clip(before, 0.0, 1.0))


def _distributed(canvases: np.ndarray, bands: Bands | None, mesh: AnyMesh | None) -> Array:
    """Return new arrays of canvases, distributed over the devices of a batch."""
    if bands is None:
        return distribute(jnp.array(sharding.split(canvases, mesh)), None)
    return _padded_many(sharding.split(canvases, mesh), bands, mesh=mesh)


@partial(jax.jit, static_argnames="mesh")
def _padded_many(canvases: Array, bands: Bands, mesh: AnyMesh) -> Array:
    pad = partial(with_padding, bands=bands)
    return sharding.vmap_over_devices(pad, mesh, (0,))(canvases)


@partial(jax.jit, static_argnames=("axes", "mesh"))
def _init_many(
    images: Image, recipe: Recipe, bands: Bands | None, *, axes: Axes, mesh: AnyMesh | None
) -> State:
    # Each device makes its own states, since the optimiser's memory of all may exceed one device.
    init = partial(optimize.init, bands=bands)
    return sharding.vmap_over_devices(init, mesh, (0, _tree(axes, recipe)))(images, recipe)


@partial(jax.jit, static_argnames=("axes", "mesh"), donate_argnames="state")
def _run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    bands: Bands | None,
    *,
    axes: Axes,
    mesh: AnyMesh | None,
) -> tuple[State, Losses]:
    in_axes = (None, 0, 0, _tree(axes, recipe), None)
    run = sharding.vmap_over_devices(partial(optimize.run, bands=bands), mesh, in_axes)
    return run(params, state, targets, recipe, steps)


@partial(jax.jit, static_argnames=("axes", "clipped"))
def _picture_many(
    state: State, recipe: Recipe, bands: Bands | None, *, axes: Axes, clipped: bool
) -> Image:
    take = partial(optimize.picture if clipped else optimize.canvas_image, bands=bands)
    return jax.vmap(take, in_axes=(0, _tree(axes, recipe)))(state, recipe)
