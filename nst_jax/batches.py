"""`stylize_many`: many canvases in one compiled program, as a `vmap` over targets and numbers."""

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Bool, Int

from nst_jax import _checks, optimize, prepare, recipes
from nst_jax._types import Image, Losses, Params, State, Targets
from nst_jax.images.resizing import enlarge
from nst_jax.objective import blend, measure_content, measure_style
from nst_jax.painting import lengths, started
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.presets import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, sharding, tiles
from nst_jax.scaling.chunks import at_once, in_one_memory, mesh_of_rows
from nst_jax.scaling.layout import laid_over
from nst_jax.scaling.sharding import Devices, Rows
from nst_jax.vgg.network import with_forms

Axes = tuple[int | None, ...]  # one for each leaf of the recipe


class Row(NamedTuple):
    """One picture of a batch."""

    place: int  # in the result
    content: int  # which of the contents; rows that share one share what is measured of it
    style: int  # which of the styles
    prepared: prepare.Prepared
    key: Array


class RowsDiverged(RuntimeWarning):
    """Pictures of a batch whose losses stopped being finite.

    A warning, not an exception: the other pictures are good, and a sweep may well overshoot.

    Attributes:
      rows: index of a picture to the update whose losses were not finite.
    """

    def __init__(self, rows: dict[int, int]):
        listed = ", ".join(f"{row} (after {step} updates)" for row, step in sorted(rows.items()))
        super().__init__(
            f"the losses of these pictures stopped being finite: {listed}; "
            "their last finite canvases are returned"
        )
        self.rows = rows


class Painted(NamedTuple):
    """What `painted_many` gives, picture by picture."""

    images: list[Image]
    losses: list[Losses]  # of these images, scalars on the host; of those that broke, of no meaning
    broken: dict[int, int]  # index of a picture to the update whose losses were not finite


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
    every: int | Iterable[int] = optimize.CAPACITY,
    tell: Callable[[int, int], None] | None = None,
    chunk: int | None = None,
    rows: int = 1,
) -> Image | list[Image]:
    """Stylise many pictures at once, each as `stylize` would.

    n contents meet n styles pairwise; a single content or style serves all; and numbers of the
    recipe (weights, per-layer weights, learning rate) may be arrays [n], which gives a sweep. The
    canvases of one shape share one compiled program; styles keep their own sizes. Where not all of
    them fit into memory at once, that program paints them chunk by chunk.

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
      devices: to share the pictures: `"all"`, a number, or a list of `jax.Device`; default: the
        one that the weights lie on. Each device paints its own part by itself.
      every: evaluations between two calls of `tell`; or an iterable of such numbers, as in `paint`.
      tell: called after each of them with how much is done and how much there is in all, counted in
        evaluations: for each chunk of one canvas shape one of the start and one for each update.
        What it raises ends the work.
      chunk: pictures at once, at most, but one for each device; default: as many as memory holds by
        `estimate_memory`, or all where nobody knows how much there is. Chunks are of equal size where
        that costs little.
      rows: devices that share the rows of each picture, for pictures too large for one; their number
        divides that of `devices`.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all canvases have one shape, else a list in order. A picture
      whose losses stop being finite is its last finite canvas, enlarged if that was on the way to
      the final size; a `RowsDiverged` warning names it.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe
        values do not fit together.
      OutOfMemory: if the device has less memory left than it said beforehand.

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
    painted = painted_many(
        params,
        contents,
        styles,
        recipe=recipe,
        size=size,
        style_size=style_size,
        steps=steps,
        precision=precision,
        tile=tile,
        init=init,
        key=key,
        devices=devices,
        every=every,
        tell=tell,
        chunk=chunk,
        rows=rows,
    )
    if painted.broken:
        warnings.warn(RowsDiverged(painted.broken), stacklevel=2)
    images = painted.images
    return jnp.stack(images) if len({image.shape for image in images}) == 1 else images


def painted_many(
    params: Params,
    contents: Any,
    styles: Any,
    *,
    recipe: Recipe,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    init: Any = None,
    key: Array | None = None,
    devices: Devices = None,
    every: int | Iterable[int] = optimize.CAPACITY,
    tell: Callable[[int, int], None] | None = None,
    chunk: int | None = None,
    rows: int = 1,
) -> Painted:
    """Do what `stylize_many` says; return the losses and what broke beside the pictures."""
    _checks.instance("params", params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    recipe = with_options(recipe, size, style_size, steps, precision, tile)
    intervals = lengths(every)
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    mesh = sharding.mesh_of_batch(devices, rows)
    _checks.start("init", init)
    _checks.random_key("key", key)
    contents, styles = _checks.images("contents", contents), _blends(styles, recipe)
    count = _count(contents, styles, recipe)
    key = jax.random.key(0) if key is None else key
    lines = _rows(contents, styles, recipe, count, key)
    images: list[Any] = [None] * count
    losses: list[Any] = [None] * count
    broken: dict[int, int] = {}
    groups = [_group(params, alike, recipe, chunk, mesh) for alike in _by_shape(lines)]
    total = sum(len(group.parts) for group in groups) * (int(recipe.descent.steps) + 1)
    odometer = _Odometer(total, intervals, tell)
    seen = sharding.everywhere(params, mesh if rows > 1 else None)  # by what measures
    for group in groups:
        formed = sharding.everywhere(_formed(params, group), mesh)  # once for all chunks of a shape
        for part in group.parts:
            scale, device = part[0].prepared.scales[-1], capacity.device_of(params)
            together = in_one_memory(len(part), mesh, capacity.platform_of(device))
            with capacity.told(group.recipe, scale, device, pictures=together):
                painted = _stylize_part(seen, formed, part, group.recipe, init, odometer, mesh)
            for row, image, measured, broke_at in zip(part, *painted, strict=True):
                images[row.place], losses[row.place] = image, measured
                if broke_at >= 0:
                    broken[row.place] = broke_at
    return Painted(images, losses, broken)


def _blends(styles: Any, recipe: Recipe) -> list[list[np.ndarray]]:
    """Return what each picture is painted after: one style, or several."""
    if isinstance(styles, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in styles):
        found = [_checks.blend(f"styles[{index}]", entry) for index, entry in enumerate(styles)]
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


def _rows(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    recipe: Recipe,
    count: int,
    key: Array,
) -> list[Row]:
    # All sizes are checked before the first picture is resized, and each is resized once.
    places = [(place % len(contents), place % len(styles)) for place in range(count)]
    scales = {
        (content, style): prepare.scales_of(
            contents[content].shape[:2], [image.shape[:2] for image in styles[style]], recipe
        )
        for content, style in places
    }
    canvases = {content: found[-1].shape for (content, _), found in scales.items()}
    hangings = {style: found[-1].style_shapes for (_, style), found in scales.items()}
    large = {i: prepare.resized(contents[i], shape, recipe) for i, shape in canvases.items()}
    hung = {
        i: tuple(prepare.resized(*pair, recipe) for pair in zip(styles[i], shapes, strict=True))
        for i, shapes in hangings.items()
    }
    rows = []
    for place, (content, style) in enumerate(places):
        prepared = prepare.Prepared(large[content], hung[style], scales[content, style])
        rows.append(Row(place, content, style, prepared, jax.random.fold_in(key, place)))
    return rows


def _by_shape(rows: list[Row]) -> list[list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.prepared.content.shape].append(row)
    return list(groups.values())


class Group(NamedTuple):
    """The pictures of one canvas shape."""

    parts: list[list[Row]]  # what is painted at once
    recipe: Recipe  # with what memory settled


def _group(
    params: Params, rows: list[Row], recipe: Recipe, chunk: int | None, mesh: Mesh | None
) -> Group:
    """Split the pictures of one canvas shape into what is painted at once."""
    scales = [row.prepared.scales[-1] for row in rows]
    styles = tuple({shape for scale in scales for shape in scale.style_shapes})
    scale, device = scales[0]._replace(style_shapes=styles), capacity.device_of(params)
    recipe, size = at_once(recipe, scale, len(rows), chunk, mesh, device)
    return Group([rows[start : start + size] for start in range(0, len(rows), size)], recipe)


def _formed(params: Params, group: Group) -> Params:
    network, taps = group.recipe.network, group.recipe.terms.taps
    shape = group.parts[0][0].prepared.scales[-1].shape
    return with_forms(
        params,
        taps,
        shape=tiles.window_of(shape, taps, network, group.recipe.rows),
        precision=network.precision,
    )


def _stylize_part(
    params: Params,
    formed: Params,
    rows: list[Row],
    recipe: Recipe,
    init: Any,
    odometer: "_Odometer",
    mesh: Mesh | None,
) -> tuple[list[Image], list[Losses], list[int]]:
    """Run some pictures of one canvas shape; return images, losses and where each broke, or -1."""
    count = len(rows)
    rows = rows + rows[-1:] * (
        sharding.padded(count, mesh) - count
    )  # what is made twice is not shown
    here, axes = _batched_numbers(recipe, [row.place for row in rows])
    there = sharding.everywhere(here, mesh)
    measuring = here if mesh_of_rows(mesh) is None else there  # by one device, or by all
    scales = rows[0].prepared.scales
    images, canvases = _starts(rows, recipe, init)
    broke_at, offset = np.full(len(rows), -1), 0
    for index, scale in enumerate(scales):
        last = index == len(scales) - 1
        core = laid_over(there, mesh_of_rows(mesh), scale.shape)
        measuring = replace(measuring, rows=core.rows)
        targets = _targets(params, rows, index, measuring, mesh)
        images = _enlarge(images, scale.shape)
        state = _init_many(sharding.split(images, mesh), core, axes, mesh)
        if index == 0 and canvases is not None:
            state = _started_many(state, canvases, core, mesh)
        evaluations = scale.steps + last
        state = _run_to(formed, state, targets, core, axes, evaluations, odometer, mesh)
        found = _picture_many(state, core, axes, last)
        # What broke at a coarser scale stays as it was then; at this one it ran for nothing.
        images = found if (broke_at < 0).all() else _choose(broke_at < 0, found, images)
        broken = sharding.fetched(state.broke_at, mesh)
        broke_at = np.where((broke_at < 0) & (broken >= 0), broken + offset, broke_at)
        offset += scale.steps
    measured = sharding.fetched(state.losses, mesh)
    losses = [jax.tree.map(lambda of, i=i: of[i], measured) for i in range(len(rows))]
    images = sharding.gathered(images, mesh)
    return list(images)[:count], losses[:count], broke_at.tolist()[:count]


def _started_many(state: State, canvases: np.ndarray, core: Recipe, mesh: Mesh | None) -> State:
    """Return a fresh state whose canvases are these, to the bit."""
    if core.rows is None:
        return started(state, sharding.split(canvases, mesh), core)
    canvas, pending = (
        _with_padding(sharding.split(canvases, mesh), core.rows, mesh) for _ in range(2)
    )
    return state._replace(canvas=canvas, pending=pending)


def _starts(rows: list[Row], recipe: Recipe, init: Any) -> tuple[Image, np.ndarray | None]:
    """Return the starts, and as canvases if they are made in the recipe's coordinates."""
    images, canvases = [], []
    for row in rows:
        scale = row.prepared.scales[0]
        content = prepare.at_scale(row.prepared.content, scale.shape)
        style = prepare.at_scale(row.prepared.styles[0], scale.style_shapes[0])
        images.append(prepare.start(content, style, recipe, init, row.key))
        canvas = prepare.exact_canvas(content, recipe, init)
        if canvas is not None:
            canvases.append(canvas)
    return jnp.stack(images), np.stack(canvases) if canvases else None


def _targets(
    params: Params, rows: list[Row], index: int, core: Recipe, mesh: Mesh | None
) -> Targets:
    """Measure each content and each style once, and line them up with the rows."""
    contents: dict[int, Any] = {}
    styles: dict[int, Any] = {}
    for row in rows:
        scale = row.prepared.scales[index]
        if row.content not in contents:
            picture = prepare.at_scale(row.prepared.content, scale.shape)
            picture = sharding.everywhere(picture, mesh_of_rows(mesh))
            contents[row.content] = _measure_content(params, picture, core)
        if row.style not in styles:
            pictures = prepare.styles_at(row.prepared, scale)
            pictures = sharding.everywhere(pictures, mesh_of_rows(mesh))
            styles[row.style] = [_measure_style(params, picture, core) for picture in pictures]
    blended = [blend(styles[row.style], _shares(core, place)) for place, row in enumerate(rows)]
    stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
    content = stacked(*(contents[row.content] for row in rows))
    return Targets(
        sharding.split(content, mesh, rows=core.rows is not None),
        sharding.split(stacked(*blended), mesh),
    )


def _shares(core: Recipe, place: int) -> tuple[Any, ...]:
    """Return the style shares of one row."""
    return jax.tree.map(
        lambda share: share[place] if share.ndim else share, core.terms.style_shares
    )


class _Odometer:
    """Says how far to run until the next word, counts evaluations and tells whoever asked."""

    def __init__(
        self, total: int, intervals: Iterator[int], tell: Callable[[int, int], None] | None
    ) -> None:
        self.done, self.total = 0, total
        self._intervals, self._tell = intervals, tell

    def interval(self, most: int) -> int:
        return min(most, optimize.CAPACITY, next(self._intervals))

    def advance(self, state: State, evaluations: int) -> None:
        self.done += evaluations
        if self._tell is not None:  # only then is the device waited for
            jax.block_until_ready(state.step)
            self._tell(self.done, self.total)


def _run_to(
    params: Params,
    state: State,
    targets: Targets,
    core: Recipe,
    axes: Axes,
    evaluations: int,
    odometer: _Odometer,
    mesh: Mesh | None,
) -> State:
    while evaluations > 0:
        count = odometer.interval(evaluations)
        state, _ = _run_many(params, state, targets, core, count, axes, mesh)
        evaluations -= count
        odometer.advance(state, count)
    return state


def _batched_numbers(recipe: Recipe, indices: list[int]) -> tuple[Recipe, Axes]:
    """Return the recipe's numbers for these rows, and which of them have a batch axis."""
    core = recipes.as_arrays(recipe.bare())
    axes = tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(core))
    # An array of one serves all rows.
    take = np.asarray(indices)
    chosen = recipes.with_numbers(
        core, lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf
    )
    return chosen, axes


def _tree(axes: Axes, recipe: Recipe) -> Recipe:
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


# What is measured depends on no number of the recipe, so these see one for the whole batch.
_measure_content = jax.jit(measure_content)

_measure_style = jax.jit(measure_style)

_enlarge = jax.jit(enlarge, static_argnums=1)


@jax.jit
def _choose(whole: Bool[Array, " n"], found: Image, before: Image) -> Image:
    return jnp.where(whole[:, None, None, None], found, jnp.clip(before, 0.0, 1.0))


@partial(jax.jit, static_argnums=(1, 2))
def _with_padding(canvases: Array, rows: Rows, mesh: Mesh) -> Array:
    return sharding.over_batch(partial(sharding.with_padding, rows=rows), mesh, (0,))(canvases)


@partial(jax.jit, static_argnames=("axes", "mesh"))
def _init_many(images: Image, recipe: Recipe, axes: Axes, mesh: Mesh | None) -> State:
    # Each device makes its own: an optimiser's memory may be larger than a device's.
    init = sharding.over_batch(optimize.init, mesh, (0, _tree(axes, recipe)))
    return init(images, recipe)


@partial(jax.jit, static_argnames=("axes", "mesh"), donate_argnames="state")
def _run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    axes: Axes,
    mesh: Mesh | None,
) -> tuple[State, Losses]:
    in_axes = (None, 0, 0, _tree(axes, recipe), None)
    run = sharding.over_batch(optimize.run, mesh, in_axes)
    return run(params, state, targets, recipe, steps)


@partial(jax.jit, static_argnames=("axes", "last"))
def _picture_many(state: State, recipe: Recipe, axes: Axes, last: bool) -> Image:
    take = optimize.picture if last else optimize.canvas_image
    return jax.vmap(take, in_axes=(0, _tree(axes, recipe)))(state, recipe)
