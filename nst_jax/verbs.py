"""The public verbs. They check their inputs, prepare the pictures and drive the pure loop."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import capacity, checks, optimize, prepare, recipes, tiles
from nst_jax._types import Image, Losses, Params, Snapshot, State, Targets
from nst_jax.precision import named
from nst_jax.pyramid import enlarge
from nst_jax.recipes import Recipe
from nst_jax.sizes import Size
from nst_jax.targets import measure
from nst_jax.vgg import Network, with_forms


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

TILES = {"auto": None, "off": 0}  # what `tile` may be beside a number

# Begins some work and returns a function that gives its result.
Begin: TypeAlias = Callable[[Callable[[], Any]], Callable[[], Any]]


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
        `nst_jax.precision.named`; default: the recipe's, which is float32 in every preset.
      tile: px a side of what is computed at once, a multiple of 16: the same picture in less memory
        and more time; or `"off"`, or `"auto"`, which is off unless memory asks for it; see
        `nst_jax.tiles`. Default: the recipe's, which is `"auto"` in every preset.
      init: what to start from, an image or a function of `nst_jax.starts`; default: the recipe's.
      key: a JAX random key, for starts that draw noise; default: `jax.random.key(0)`.

    Returns:
      [h, w, 3] float32 in [0, 1], at the size that the recipe's rule gives.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument cannot be used, or memory holds no tile of it; before any long work.
      Diverged: if the losses stop being finite; it carries the last finite canvas.

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
    every: int | Iterable[int] = 50,
) -> Iterator[Snapshot]:
    """Paint as `stylize` does, and yield the canvas on the way.

    Snapshots come at step 0, then every `every` updates, then at the end. Between two of them runs
    one compiled loop. A recipe with several scales counts on through them: going up a scale is the
    last update of the coarser one, and a snapshot has its scale's size.

    Args:
      params: as in `stylize`, like everything up to `key`.
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
      every: updates between snapshots; or an iterable of such numbers, one drawn before each chunk,
        for a pace that follows the clock (when it ends, only the last snapshot is still to come;
        each is checked as it is drawn).

    Yields:
      `Snapshot`s. If the losses stop being finite the last one says so in `broke_at`, its `losses`
      show it, and its image is the last finite canvas.

    Raises:
      TypeError: as in `stylize`, at the call, before the first snapshot is asked for.
      ValueError: likewise.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> shots = nst.paint(params, content, style, size=48, steps=5, every=2)
      >>> [shot.step for shot in shots]
      [0, 2, 4, 5]
    """
    recipe = settled(recipe, size, style_size, steps, precision, tile)
    return painted(params, content, style, recipe, init=init, key=key, every=every)


def painted(
    params: Params,
    content: Any,
    style: Any,
    recipe: Recipe,
    *,
    init: Any,
    key: Array | None,
    every: int | Iterable[int],
    programs: Programs | None = None,
    begin: Begin | None = None,
) -> Iterator[Snapshot]:
    """Paint as `paint` does, for a settled recipe, by other programs and with the next scale begun.

    Args:
      params: as in `paint`.
      content: see `paint`.
      style: see `paint`.
      recipe: from `settled`.
      init: see `paint`.
      key: see `paint`.
      every: see `paint`.
      programs: what computes; default: `PROGRAMS`.
      begin: where given, it is handed the work of making the next scale ready (its targets, its
        programs) once the present one is under way, and what it returns is called when that scale's
        turn comes. By default that work is done then.

    Returns:
      What `paint` yields.
    """
    checks.instance("params", params, Params, "`nst_jax.load_params()` gives them")
    checks.single(recipe)
    chunks = lengths(every)
    checks.start("init", init)
    checks.random_key("key", key)
    prepared = prepare.pictures(content, style, recipe)
    recipe = capacity.fitted(recipe, prepared.scales[-1], capacity.device_of(params))
    key = jax.random.key(0) if key is None else key
    return _paint(params, prepared, recipe, init, key, chunks, programs or PROGRAMS, begin)


def settled(
    recipe: Recipe,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
) -> Recipe:
    """Return the checked recipe with what the caller said beside it in it."""
    if isinstance(recipe, Recipe):
        recipe = replace(recipe, network=_settled(recipe.network, precision, tile))
    if steps is not None and isinstance(recipe, Recipe):
        recipe = replace(recipe, descent=replace(recipe.descent, steps=steps))
    return prepare.with_sizes(recipes.check(recipe), size, style_size)


def _settled(network: Network, precision: str | None, tile: int | str | None) -> Network:
    if precision is not None:
        network = replace(network, precision=named(precision))
    if isinstance(tile, str):
        if tile not in TILES:
            raise checks.unknown("tile", tile, TILES, "tile, beside pixels,")
        return replace(network, tile=TILES[tile])
    return network if tile is None else replace(network, tile=tile)


def lengths(every: int | Iterable[int]) -> Iterator[int]:
    """Return the lengths of chunks that a caller's `every` means, without end."""
    if isinstance(every, Iterable) and not isinstance(every, str):
        return itertools.chain(map(_length, every), itertools.repeat(sys.maxsize))
    return itertools.repeat(_length(every))


def _length(every: Any) -> int:
    if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
        raise TypeError(f"`every`: expected a whole number of updates, got {every!r}")
    checks.number("every", every, least=1)
    return int(every)


class _Scene(NamedTuple):
    """What a scale's canvas is compared with."""

    content: Image
    styles: tuple[Any, ...]
    targets: Targets


def _paint(
    params: Params,
    prepared: prepare.Prepared,
    recipe: Recipe,
    init: Any,
    key: Array,
    chunks: Iterator[int],
    programs: Programs,
    begin: Begin | None,
) -> Iterator[Snapshot]:
    core = recipes.as_arrays(recipe.bare())
    formed = with_forms(
        params,
        core.terms.taps,
        shape=tiles.window_of(prepared.scales[-1].shape, core.terms.taps, core.network),
        precision=core.network.precision,
    )
    image, done, chunk, wanted = None, -1, [], 1  # the first chunk only measures the start
    total = sum(scale.steps for scale in prepared.scales)
    coming: Callable[[], _Scene] = partial(_scene, params, prepared, 0, core, programs)
    for index, scale in enumerate(prepared.scales):
        scene, begun = coming(), False
        coming = partial(_scene, params, prepared, index + 1, core, programs)
        canvas = None
        if image is None:
            image = prepare.start(scene.content, scene.styles[0], recipe, init, key)
            canvas = prepare.exact_canvas(scene.content, recipe, init)
        state = started(programs.init(programs.enlarge(image, scale.shape), core), canvas)
        offset = done + 1
        end = offset + scale.steps - (scale is not prepared.scales[-1])
        while done < end:
            length = min(wanted, end - done, optimize.CAPACITY)
            state, history = programs.run(formed, state, scene.targets, core, length)
            chunk.append(jax.tree.map(lambda h, n=length: np.asarray(h)[:n], history))
            done, wanted = done + length, wanted - length
            broke_at = int(state.broke_at)
            if wanted == 0 or done == total or broke_at >= 0:
                yield _snapshot(state, core, chunk, done, index, offset, programs)
                if done == total or broke_at >= 0:
                    return
                chunk, wanted = [], next(chunks)
            # Not sooner: the first snapshot has a program of its own to compile.
            if begin is not None and not begun and scale is not prepared.scales[-1]:
                like = programs.canvas_image(state, core)
                coming = begin(partial(_rehearsed, coming, formed, core, like, programs))
                begun = True
        image = programs.canvas_image(state, core)


def _scene(
    params: Params, prepared: prepare.Prepared, index: int, core: Recipe, programs: Programs
) -> _Scene:
    scale = prepared.scales[index]
    content = prepare.at_scale(prepared.content, scale.shape)
    styles = prepare.styles_at(prepared, scale)
    return _Scene(content, styles, programs.measure(params, content, styles, core))


def _rehearsed(
    scene: Callable[[], _Scene], formed: Params, core: Recipe, like: Image, programs: Programs
) -> _Scene:
    """Return a scene, with every program of its scale compiled: by a run of no steps."""
    made = scene()
    state = programs.init(programs.enlarge(like, made.content.shape[:2]), core)
    state, _ = programs.run(formed, state, made.targets, core, 0)
    programs.picture(state, core)
    return made


def started(state: State, canvas: Any) -> State:
    """Return a fresh state whose canvas is this one, to the bit; None leaves it."""
    if canvas is None:
        return state
    return state._replace(canvas=jnp.array(canvas), pending=jnp.array(canvas))


def _snapshot(
    state: State,
    recipe: Recipe,
    chunk: list[Losses],
    done: int,
    scale: int,
    offset: int,
    programs: Programs,
) -> Snapshot:
    broke_at = int(state.broke_at)
    return Snapshot(
        step=done,
        image=programs.picture(state, recipe),
        losses=jax.tree.map(lambda x: np.array(x), state.losses),
        history=jax.tree.map(lambda *parts: np.concatenate(parts), *chunk),
        scale=scale,
        broke_at=broke_at + offset if broke_at >= 0 else -1,
    )
