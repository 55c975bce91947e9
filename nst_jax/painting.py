"""The public verbs. They check their inputs, prepare the pictures and drive the pure loop."""

import functools
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array

from nst_jax import _checks, checkpoints, optimize, prepare, provenance, recipes
from nst_jax._types import Checkpoint, Image, Losses, Params, Snapshot, State, Targets
from nst_jax.images.resizing import enlarge
from nst_jax.objective import measure
from nst_jax.recipes.changes import with_options
from nst_jax.recipes.presets import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import capacity, sharding, tiles
from nst_jax.scaling.layout import laid_out, laid_over, with_rows
from nst_jax.scaling.sharding import Devices
from nst_jax.vgg.network import with_forms


class Diverged(RuntimeError):
    """A run's losses stopped being finite.

    Attributes:
      step: the update whose losses were not finite.
      image: the last finite canvas, [h, w, 3] in [0, 1].
    """

    def __init__(self, step: int, image: Image):
        super().__init__(
            f"the losses are not finite after {step} updates; the last finite canvas is in "
            "`.image`: try a smaller learning rate or weights"
        )
        self.step, self.image = step, image


class Programs(NamedTuple):
    """The compiled functions of a run; the command line brings some that outlive a process."""

    measure: Callable[..., Any]
    init: Callable[..., Any]
    run: Callable[..., Any]
    enlarge: Callable[..., Any]
    picture: Callable[..., Any]
    canvas_image: Callable[..., Any]


PROGRAMS = Programs(
    measure=jax.jit(measure),
    init=jax.jit(optimize.init),
    # The state is the loop's own, so its buffers are given up; nothing else is donated.
    run=jax.jit(optimize.run, donate_argnames="state"),
    enlarge=jax.jit(enlarge, static_argnums=1),
    picture=jax.jit(optimize.picture),
    canvas_image=jax.jit(optimize.canvas_image),
)


# Begins some work and returns a function that gives its result.
Begin: TypeAlias = Callable[[Callable[[], Any]], Callable[[], Any]]


class _Stand(NamedTuple):
    """Where a run stands: before its first canvas, or at a measured one."""

    scale: int = 0
    step: int = -1  # updates over all scales
    state: State | None = None
    history: tuple[Losses, ...] = ()  # of all canvases so far, in parts


class Painting(Iterator[Snapshot]):
    """The snapshots of a run, one after the other, and where the run stands at the last of them."""

    def __init__(
        self,
        legs: Iterator[tuple[Snapshot, _Stand]],
        given: "_Given",
        identify: Callable[[], dict[str, Any]],
    ) -> None:
        self._legs, self._given = legs, given
        self._identify = functools.cache(identify)  # it reads every picture and weight
        self._stand = _Stand()

    def __next__(self) -> Snapshot:
        shot, self._stand = next(self._legs)
        return shot

    def checkpoint(self, *, copy: bool = True) -> Checkpoint:
        """Return where the run stands at the last snapshot.

        Args:
          copy: whether its arrays are the caller's to keep. Without, they are the run's own, to be
            read before the next snapshot is asked for.

        Returns:
          What `paint` takes as `resume` and `nst_jax.checkpoints.save` writes.

        Raises:
          ValueError: before the first snapshot.
        """
        scale, step, state, parts = self._stand
        if state is None:
            raise ValueError("`checkpoint`: the run has not begun; ask for a snapshot first")
        rows = self._given.core_at(scale).rows
        mesh = self._given.mesh
        leaves = sharding.fetched(checkpoints.leaves_of(state), mesh, copy=copy)
        leaves = sharding.without_padding(leaves, rows)
        return Checkpoint(
            step=step,
            scale=scale,
            arrays=leaves,
            history=_joined(parts),
            facts=self._identify(),
            scales=provenance.of_scales(self._given.prepared.scales),
            device=provenance.device(),
        )


def stylize(
    params: Params,
    content: Any,
    style: Any,
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
) -> Image:
    """Paint the content in the manner of the style.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] float in [0, 1], or uint8.
      style: [h', w', 3], likewise; its size is its own. Or several, which are blended by the
        recipe's `terms.style_shares`, all alike unless it says otherwise.
      recipe: every choice and number; a preset of `nst_jax.recipes` or a variant of one.
      size: pixels, in the meaning of the recipe's size rule (the longer side by default), or
        `"long:512"`, `"short:512"`, `"area:512"`, `"400x300"`; `"as-is"` resizes nothing.
      style_size: the same for the style alone; default: as the content.
      steps: updates in all; default: the recipe's.
      precision: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`, see
        `nst_jax.vgg.precision.named`; default: the recipe's, which is float32 in every preset.
      tile: px a side of what is computed at once, beside a halo around it; a multiple of 16: the same
        picture in less memory and more time; or `"off"`, or `"auto"`, which is off unless memory asks
        for it; see `nst_jax.scaling.tiles`. Default: the recipe's, which is `"auto"` in every preset.
      init: what to start from, an image or a function of `nst_jax.recipes.starts`; default: the recipe's.
      key: a JAX random key, for starts that draw noise; default: `jax.random.key(0)`.
      devices: to share the picture's rows, which takes so much less memory on each: `"all"`, a
        number, or a list of `jax.Device`; default: the one that the weights lie on. The losses and
        the gradient are the same to rounding.

    Returns:
      [h, w, 3] float32 in [0, 1], at the size that the recipe's rule gives.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument cannot be used, or memory holds no tile of it; before any long work.
      Diverged: if the losses stop being finite; it carries the last finite canvas.
      OutOfMemory: if the device has less memory left than it said beforehand.

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
        steps=steps,
        precision=precision,
        tile=tile,
        init=init,
        key=key,
        every=optimize.CAPACITY,
        devices=devices,
    )
    *_, last = shots
    if last.broke_at >= 0:
        raise Diverged(last.broke_at, last.image)
    return last.image


def paint(
    params: Params,
    content: Any,
    style: Any,
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
    every: int | Iterable[int] = 50,
    resume: Checkpoint | None = None,
) -> Painting:
    """Paint as `stylize` does, and yield the canvas on the way.

    Snapshots come at step 0, then every `every` updates, then at the end. Between two of them runs
    one compiled loop. A recipe with several scales counts on through them: going up a scale is the
    last update of the coarser one, and a snapshot has its scale's size.

    Args:
      params: as in `stylize`, like everything up to `devices`.
      content: see `stylize`.
      style: see `stylize`.
      recipe: see `stylize`.
      size: see `stylize`.
      style_size: see `stylize`.
      steps: see `stylize`.
      precision: see `stylize`.
      tile: see `stylize`.
      init: see `stylize`.
      key: see `stylize`.
      devices: see `stylize`.
      every: updates between snapshots; or an iterable of such numbers, one drawn before each chunk,
        for a pace that follows the clock (when it ends, only the last snapshot is still to come;
        each is checked as it is drawn).
      resume: where to go on, from `checkpoint()` of an earlier run's snapshots or
        `nst_jax.checkpoints.load`. The first snapshot is then where that run stood, its history all
        losses up to there; what follows is to the bit what that run would have computed, wherever
        the same call twice gives the same bits. Everything else must be as it was, but for `every`,
        and `steps` as far as it changes nothing that was done. Over other `devices` it goes on as
        well, but not to the bit.

    Yields:
      `Snapshot`s. If the losses stop being finite the last one says so in `broke_at`, its `losses`
      show it, and its image is the last finite canvas. The iterator is a `Painting`, whose
      `checkpoint()` is where the run stands at the last snapshot.

    Raises:
      TypeError: as in `stylize`, at the call, before the first snapshot is asked for.
      ValueError: likewise; and if `resume` is of another run, naming what was otherwise.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> shots = nst.paint(params, content, style, size=48, steps=5, every=2)
      >>> [shot.step for shot in shots]
      [0, 2, 4, 5]
    """
    recipe = with_options(recipe, size, style_size, steps, precision, tile)
    return painted(
        params,
        content,
        style,
        recipe,
        init=init,
        key=key,
        every=every,
        resume=resume,
        devices=devices,
    )


def painted(
    params: Params,
    content: Any,
    style: Any,
    recipe: Recipe,
    *,
    init: Any,
    key: Array | None,
    every: int | Iterable[int],
    resume: Checkpoint | None = None,
    devices: Devices = None,
    programs: Programs | None = None,
    begin: Begin | None = None,
) -> Painting:
    """Paint as `paint` does, for a settled recipe, by other programs and with the next scale begun.

    Args:
      params: as in `paint`.
      content: see `paint`.
      style: see `paint`.
      recipe: from `settled`.
      init: see `paint`.
      key: see `paint`.
      every: see `paint`.
      resume: see `paint`.
      devices: see `paint`.
      programs: what computes; default: `PROGRAMS`.
      begin: where given, it is handed the work of making the next scale ready (its targets, its
        programs) once the present one is under way, if memory holds both, and what it returns is
        called when that scale's turn comes. By default that work is done then.

    Returns:
      What `paint` yields.
    """
    _checks.instance("params", params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    _checks.single(recipe)
    if resume is not None:
        _checks.instance("resume", resume, Checkpoint, "`nst_jax.checkpoints.load` reads one")
    chunks = lengths(every, done=0 if resume is None else resume.step)
    _checks.start("init", init)
    _checks.random_key("key", key)
    mesh = sharding.mesh_of(devices, axis=sharding.ROWS)
    prepared = prepare.pictures(content, style, recipe)
    recipe = checkpoints.as_begun(recipe, resume)
    recipe = with_rows(recipe, mesh, prepared.scales[-1].shape)
    recipe = capacity.fitted(recipe, prepared.scales[-1], capacity.device_of(params), mesh)
    key = jax.random.key(0) if key is None else key
    given = _Given(
        params=sharding.everywhere(params, mesh),
        mesh=mesh,
        prepared=prepared,
        recipe=recipe,
        core=sharding.everywhere(replace(recipes.as_arrays(recipe.bare()), rows=None), mesh),
        init=init,
        key=key,
        programs=programs or PROGRAMS,
        place=capacity.place_of(recipe, capacity.device_of(params)),
    )
    identify = partial(_identity, content, style, given)
    stand = _Stand() if resume is None else _stand_of(resume, identify(), given)
    legs = _told(_paint(given, stand, chunks, begin), given)
    return Painting(legs, given, identify)


def _told(legs: Iterator[Any], given: "_Given") -> Iterator[Any]:
    """Go through a run, and say in our own words where the device runs out of memory."""
    device = capacity.device_of(given.params)
    with capacity.told(given.recipe, given.prepared.scales[-1], device):
        yield from legs


def lengths(every: int | Iterable[int], *, done: int = 0) -> Iterator[int]:
    """Return the lengths of chunks that a caller's `every` means after `done` updates, without end."""
    if isinstance(every, Iterable) and not isinstance(every, str):
        return itertools.chain(map(_length, every), itertools.repeat(sys.maxsize))
    length = _length(every)
    return itertools.chain([length - done % length], itertools.repeat(length))


def _length(every: Any) -> int:
    if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
        raise TypeError(f"`every`: expected a whole number of updates, got {every!r}")
    _checks.number("every", every, least=1)
    return int(every)


# --- The run --------------------------------------------------------------------------------------


class _Given(NamedTuple):
    """What a run is of and what computes it, the same from beginning to end."""

    params: Params
    mesh: Mesh | None  # over whose devices a canvas lies
    prepared: prepare.Prepared
    recipe: Recipe
    core: Recipe  # what the programs see of it, but for where rows lie
    init: Any
    key: Array
    programs: Programs
    place: tuple[int | None, str]  # bytes that could be had before the run, and of what

    def holds_next(self, scale: int) -> bool:
        """Say whether memory holds the next scale beside this one; not if there is no next."""
        pair = self.prepared.scales[scale : scale + 2]
        return len(pair) == 2 and capacity.fit_together(self.recipe, pair, *self.place)

    def core_at(self, scale: int) -> Recipe:
        """Return what the programs of a scale see of the recipe."""
        return laid_over(self.core, self.mesh, self.prepared.scales[scale].shape)


class _Scene(NamedTuple):
    """What a scale's canvas is compared with."""

    content: Image
    styles: tuple[Any, ...]
    targets: Targets


def _paint(
    given: _Given, stand: _Stand, chunks: Iterator[int], begin: Begin | None
) -> Iterator[tuple[Snapshot, _Stand]]:
    """Go on from where the run stands, and yield where it stands with every snapshot."""
    programs, scales = given.programs, given.prepared.scales
    core = given.core_at(len(scales) - 1)
    formed = with_forms(
        given.params,
        core.terms.taps,
        shape=tiles.window_of(scales[-1].shape, core.terms.taps, core.network, core.rows),
        precision=core.network.precision,
    )
    # Going up a scale is the last update of the coarser one.
    *ends, total = itertools.accumulate(scale.steps for scale in scales)
    ends = [*(end - 1 for end in ends), total]
    index, done, state, history = stand
    told, wanted = 0, 0 if state is not None else 1  # the first chunk only measures the start
    coming: Callable[[], _Scene] | None = None  # the next scale's, where it was begun ahead
    scene: _Scene | None = None
    image = None
    while True:
        core = given.core_at(index)
        if state is not None:
            over = done == total or int(state.broke_at) >= 0
            if wanted == 0 or over:
                stand = _Stand(index, done, state, history)
                yield _snapshot(given, stand, history[told:]), stand
                if over:
                    return
                told, wanted = len(history), next(chunks)
            # Not sooner: the first snapshot has a program of its own to compile.
            if begin and scene and not coming and given.holds_next(index):
                like = programs.canvas_image(state, core)
                coming = begin(partial(_rehearsed, given, index + 1, formed, like))
            if done == ends[index]:
                image = programs.canvas_image(state, core)
                index, state, scene = index + 1, None, None
                core = given.core_at(index)
        if scene is None:
            scene, coming = coming() if coming else _scene(given, index), None
        if state is None:
            state = _begun(given, index, scene, image)
        length = min(wanted, ends[index] - done, optimize.CAPACITY)
        state, losses = programs.run(formed, state, scene.targets, core, length)
        # Copied: a view would keep the whole capacity.
        history = (*history, jax.tree.map(lambda h, n=length: np.asarray(h)[:n].copy(), losses))
        done, wanted = done + length, wanted - length


def _scene(given: _Given, index: int) -> _Scene:
    scale = given.prepared.scales[index]
    content = prepare.at_scale(given.prepared.content, scale.shape)
    styles = prepare.styles_at(given.prepared, scale)
    shown = sharding.everywhere((content, styles), given.mesh)
    targets = given.programs.measure(given.params, *shown, given.core_at(index))
    return _Scene(content, styles, targets)


def _begun(given: _Given, index: int, scene: _Scene, image: Image | None) -> State:
    """Return the fresh state of a scale: of the coarser one's image or, without, of the start."""
    canvas, programs = None, given.programs
    if image is None:
        start = scene.content, scene.styles[0], given.recipe, given.init, given.key
        image = prepare.start(*start)
        canvas = prepare.exact_canvas(scene.content, given.recipe, given.init)
    core = given.core_at(index)
    image = sharding.everywhere(programs.enlarge(image, scene.content.shape[:2]), given.mesh)
    state = programs.init(image, core)
    return state if canvas is None else started(state, canvas, core)


def _rehearsed(given: _Given, index: int, formed: Params, like: Image) -> _Scene:
    """Return a scene, with every program of its scale compiled: by a run of no steps."""
    made, core, programs = _scene(given, index), given.core_at(index), given.programs
    state = _begun(given, index, made, like)
    state, _ = programs.run(formed, state, made.targets, core, 0)
    programs.picture(state, core)
    return made


def started(state: State, canvas: Any, core: Recipe) -> State:
    """Return a fresh state whose canvas is this one, to the bit."""
    # Two of them, since a state's buffers are given up one by one.
    canvas, pending = (laid_out(jnp.array(canvas), core.rows) for _ in range(2))
    return state._replace(canvas=canvas, pending=pending)


def _snapshot(given: _Given, stand: _Stand, parts: Sequence[Losses]) -> Snapshot:
    state, scales = stand.state, given.prepared.scales
    assert state is not None
    broke_at = int(state.broke_at)
    before = sum(scale.steps for scale in scales[: stand.scale])
    return Snapshot(
        step=stand.step,
        image=sharding.gathered(
            given.programs.picture(state, given.core_at(stand.scale)), given.mesh
        ),
        losses=jax.tree.map(lambda x: np.array(x), state.losses),
        history=_joined(parts),
        scale=stand.scale,
        broke_at=broke_at + before if broke_at >= 0 else -1,
    )


def _joined(parts: Sequence[Losses]) -> Losses:
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


# --- Going on -------------------------------------------------------------------------------------


def _identity(content: Any, style: Any, given: _Given) -> dict[str, Any]:
    """Return what a checkpoint says that its run depends on."""
    styles = _checks.blend("style", style)
    names = ["style", *(f"style {number}" for number in range(2, len(styles) + 1))]
    pictures = {
        "content": _checks.image("content", content),
        **dict(zip(names, styles, strict=True)),
    }
    return provenance.of_identity(given.params, pictures, given.recipe, given.init, given.key)


def _stand_of(checkpoint: Checkpoint, facts: dict[str, Any], given: _Given) -> _Stand:
    """Return where a checkpoint's run stood, if it is the run that is given."""
    scales = given.prepared.scales
    checkpoints.check(checkpoint, facts, provenance.of_scales(scales))
    canvas = jax.ShapeDtypeStruct((*scales[checkpoint.scale].shape, 3), jnp.float32)
    like = jax.eval_shape(optimize.init, canvas, given.core)
    state = checkpoints.state_of(checkpoint, like)
    state = laid_out(state, given.core_at(checkpoint.scale).rows)
    return _Stand(checkpoint.scale, checkpoint.step, state, (checkpoint.history,))
