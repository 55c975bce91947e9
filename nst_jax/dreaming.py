"""`dream`: paint into a picture what the network sees in it (Deep Dream).

A dream changes the picture at several sizes, from the smallest to the largest; each size is called an
octave. At each octave, steps of gradient ascent increase the activations of the network at some taps
(layers).
"""

import functools
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks, measuring, optimize, prepare, recipes
from nst_jax._compile import Jitted
from nst_jax._types import Features, Image, Params
from nst_jax.descent import Begin, Position, descend, intervals_of
from nst_jax.dreams.ascent import Ascent, DreamState, Excitement, ascend, begin
from nst_jax.dreams.settings import (
    JITTER,
    OCTAVE_SCALE,
    OCTAVES,
    STEP_SIZE,
    STEPS,
    TAP,
    DreamSettings,
    Taps,
    settings_of,
)
from nst_jax.images.resizing import enlarge
from nst_jax.measuring import Measuring, Watch
from nst_jax.recipes.sizes import Size
from nst_jax.run_errors import Diverged, Stalled
from nst_jax.scaling import capacity, tile_grid
from nst_jax.scaling.file_memory import FileMemory
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.vgg.kernel_forms import with_forms
from nst_jax.vgg.taps import check_layers

# What to try after a dream that failed, for error messages. No setting of a dream can make it diverge,
# since the canvas is clipped and the gradient normalised. Only weights that are not finite can.
REMEDY = "other weights of the network, since these are not finite"
REMEDY_IF_STALLED = "a larger step size or another tap"
# The beginnings of the messages of `Diverged` and `Stalled`, whose own are about losses.
NOT_FINITE = "what the dream maximises is not finite after {step} updates; the last finite picture"
UNCHANGED = "none of {step} updates changed a pixel; the picture"


class DreamShot(NamedTuple):
    """What a dream yields before its first step and after every interval of steps.

    The arrays stay valid while the dream goes on: none of their buffers is donated to later steps.
    """

    step: int  # steps so far, over all octaves
    image: Image  # the canvas [h, w, 3] in [0, 1], at the size of its octave
    # The values that the dream maximises, such as mean squares of activations, computed for `image`. If
    # `broke_at` is not -1, they are those of step `broke_at` instead, which are not finite; the canvas
    # of that step was rejected.
    excitement: Excitement
    # The maximised values of each of the n canvases that the steps since the previous shot made: arrays
    # [n]. In the first shot, those of the first canvas alone.
    history: Excitement
    octave: int  # index of the octave; 0 is the smallest
    # Number of the first step, over all octaves and counted from 0, whose maximised values were not
    # finite; -1 if there is none.
    broke_at: int


def dream(
    params: Params,
    content: Any,
    *,
    taps: Taps = TAP,
    guide: Any = None,
    size: Size = None,
    guide_size: Size = None,
    steps: int = STEPS,
    step_size: float = STEP_SIZE,
    octaves: int = OCTAVES,
    octave_scale: float = OCTAVE_SCALE,
    jitter: int = JITTER,
    precision: str | None = None,
    tile: int | str | None = None,
    key: Array | None = None,
) -> Image:
    """Paint into a picture what the network sees in it (Deep Dream).

    Gradient ascent changes the picture so that the mean square of the activations at some taps (layers)
    grows: patterns that the network finds in the picture become stronger. The ascent begins with a
    small copy of the picture and goes on to larger ones, called octaves; what the steps added to one
    octave is enlarged and added to the next. With a guide (a second picture), the activations are
    pulled towards those activations of the guide that match them best.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] float in [0, 1], or uint8.
      taps: the taps whose activations grow: a tap such as `"relu4_3"`, a list of taps, or a dictionary
        from taps to weights, of which only the ratios matter. Early taps give strokes and curls, late
        ones eyes and heads.
      guide: a picture whose patterns the dream takes up, given like `content`, of any size; None: there
        is no guide.
      size: the longer side of the result in pixels; or another size as in `stylize`, such as
        `"short:512"`; default: 512.
      guide_size: the size to which the guide is resized, given like `size`; default: 224, the size of
        the pictures on which the network was trained.
      steps: number of steps at each octave.
      step_size: standard deviation of the change that a step makes to the pixels, on a scale from 0
        (black) to 1 (white).
      octaves: number of octaves; the last has the final size.
      octave_scale: how many times larger an octave is than the one before.
      jitter: largest number of pixels by which the picture is shifted, at random, before each step.
      precision: see `stylize`; default: `"auto"`, which is `"float32"` on a CPU and `"bfloat16"` on a
        GPU or TPU.
      tile: see `stylize`; default: `"auto"`. A dream in tiles gives the same picture as one without.
      key: a JAX random key for the shifts; default: `jax.random.key(0)`.

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or if the picture does not fit into memory even in the
        smallest tiles; raised before any long work.
      Diverged: if the values that are maximised stop being finite.
      Stalled: if no step changed the picture; the error's `image` is the unchanged picture.
      OutOfMemory: if the device runs out of memory although the run was estimated to fit.

    Example:
      >>> import nst_jax as nst
      >>> params, content = nst.load_params(), nst.images.sample("chelsea")
      >>> image = nst.dream(params, content, taps="relu2_1", size=48, octaves=2, steps=2, jitter=4)
      >>> image.shape, str(image.dtype)
      ((32, 48, 3), 'float32')

    References:
      Mordvintsev, Olah, Tyka, "Inceptionism: Going Deeper into Neural Networks", 2015, and
      google/deepdream, `dream.ipynb`; TensorFlow's tutorial "DeepDream".
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    content = _checks.image("content", content)
    guide = None if guide is None else _checks.image("guide", guide)
    _checks.random_key("key", key)
    settings = settings_of(
        taps,
        guided=guide is not None,
        size=size,
        guide_size=guide_size,
        steps=steps,
        step_size=step_size,
        octaves=octaves,
        octave_scale=octave_scale,
        jitter=jitter,
        precision=precision,
        tile=tile,
    )
    check_layers(params, settings.ascent.taps)
    plan = plan_dream(settings, content, guide, device=capacity.device_of(params))
    key = jax.random.key(0) if key is None else key
    last = None
    for last in dream_planned(  # noqa: B007
        params, content, guide, settings, plan, key=key, every=optimize.CAPACITY
    ):
        pass
    assert last is not None
    if last.broke_at >= 0:
        raise Diverged(last.broke_at, last.image, REMEDY, NOT_FINITE)
    if is_unchanged(last, content, plan):
        raise Stalled(last.step, last.image, REMEDY_IF_STALLED, UNCHANGED)
    return last.image


def plan_dream(
    settings: DreamSettings,
    content: np.ndarray,
    guide: np.ndarray | None,
    *,
    device: Any = None,
    files: FileMemory | None = None,
) -> Plan:
    """Plan a dream: its octaves, its precision, and whether it is computed in tiles to fit into memory.

    Tiles are parts of the picture that are computed one after another.

    Args:
      settings: the settings, as `settings_of` checks and returns them.
      content: the picture [h, w, 3], before any resizing.
      guide: the picture [h', w', 3] whose patterns the dream takes up; None: there is none.
      device: the device to which the weights are committed; None, if there is none, means JAX's default
        device. `capacity.device_of` finds it.
      files: the memory that reading the picture files takes; None if it is not known.

    Returns:
      A plan as `nst_jax.plan` makes it, whose scales are the octaves, and whose recipe has the network
      with which the dream is computed.

    Raises:
      ValueError: if a picture or an octave is under 16 px on a side, or if the dream does not fit into
        memory even in the smallest tiles.
    """
    beside = None if guide is None else guide.shape[:2]
    scales = settings.scales(content.shape[:2], beside)
    return plan_scales(settings.recipe, scales, device=device, files=files)


def is_unchanged(shot: DreamShot, content: np.ndarray, plan: Plan) -> bool:
    """Return whether the result of a dream is exactly its content, resized to the final size.

    Args:
      shot: the last `DreamShot` of the dream. If it says that values were not finite (`broke_at`), the
        answer is False.
      content: the picture [h, w, 3] that the dream began with, before any resizing.
      plan: the plan of the dream.
    """
    shape = plan.scales[-1].shape
    if shot.broke_at >= 0 or shot.image.shape[:2] != shape:
        return False
    return np.array_equal(shot.image, prepare.resized(content, shape, plan.recipe))


# --- The loop -------------------------------------------------------------------------------------


class DreamPrograms(NamedTuple):
    """The compiled functions of a dream.

    `measuring` has the functions that compute the guide's features. `start` begins an octave, and
    `ascend` makes steps at it. The command line replaces `measuring` and `ascend` by programs cached on
    disk.
    """

    measuring: measuring.MeasuringPrograms
    start: Any
    ascend: Any


# A picture at the size of the octave before the present one; octaves grow in size.
Coarser: TypeAlias = Float[Array, "h_coarser w_coarser 3"]


def start(
    base: Image, ascent: Ascent, canvas: Coarser | None = None, coarser: Coarser | None = None
) -> DreamState:
    """Return a fresh state of an octave: the picture, plus what earlier octaves have added to it.

    Args:
      base: the original picture at the size of this octave, [h, w, 3].
      ascent: the settings of the gradient ascent, of which only the taps (layers) matter here.
      canvas: the result of the octave before, [h', w', 3]; None at the first octave.
      coarser: the original picture at the size of the octave before, [h', w', 3]; None at the first
        octave.

    Returns:
      The state. At the first octave, its canvas is `base`; at later ones, the sum, clipped to [0, 1].
    """
    if canvas is None or coarser is None:
        return begin(base, ascent)
    # Only what the dream has added to the picture is enlarged, as in google's `dream.ipynb`. So the
    # picture itself stays sharp. The notebook enlarges bilinearly, `enlarge` bicubically.
    details = enlarge(canvas - coarser, (base.shape[0], base.shape[1]))
    return begin(jnp.clip(base + details, 0.0, 1.0), ascent)


PROGRAMS = DreamPrograms(
    measuring=measuring.PROGRAMS,
    start=Jitted(start),
    # Only the state is donated: it is made in this module, whereas the caller may still need the other
    # arguments, such as the weights.
    ascend=Jitted(ascend, donate_argnames="state", large=True),
)


class _Octave(NamedTuple):
    """What is computed for an octave (one size of the picture) before its steps."""

    base: Image  # the original picture at the size of the octave, [h, w, 3]
    guide: Features | None  # the guide's features, the same at all octaves; None without a guide


class DreamCanvas:
    """The canvas of one dream: the picture that changes.

    Implements the protocol `descent.Canvas`. What the protocol calls a scale is an octave of the dream.
    """

    def __init__(
        self,
        params: Params,
        content: np.ndarray,
        guide: np.ndarray | None,
        settings: DreamSettings,
        plan: Plan,
        key: Array,
        programs: DreamPrograms,
        watch: Watch | None = None,
    ) -> None:
        self.plan, self._params, self._programs, self._watch = plan, params, programs, watch
        self._recipe = recipes.as_arrays(plan.recipe.bare())
        last, ascent = plan.scales[-1], settings.ascent
        self._content = prepare.resized(content, last.shape, plan.recipe)
        self._guide = guide
        # The numbers become arrays of fixed dtypes. As Python numbers, 1 and 1.0 would have different
        # dtypes, and JAX would compile the program once for each.
        numbers = [np.asarray(weight, np.float32) for weight in ascent.weights]
        self._ascent = ascent.__class__(
            taps=ascent.taps,
            weights=tuple(map(jnp.asarray, numbers)),  # type: ignore[arg-type]
            step_size=jnp.asarray(np.float32(ascent.step_size)),  # type: ignore[arg-type]
            jitter=jnp.asarray(np.int32(ascent.jitter)),  # type: ignore[arg-type]
            network=self._recipe.network,
        )
        self._keys = [jax.random.fold_in(key, octave) for octave in range(len(plan.scales))]

    @functools.cached_property
    def _formed(self) -> Params:
        """The weights with the forms of their kernels, which are computed once for all octaves.

        A form is an array computed from a kernel: the kernel transposed, for the gradient, and, on a
        CPU and in layers where that is faster, the kernel transformed for Winograd convolution. Without
        the forms, XLA would transpose the kernels in every step. An octave is one of the sizes at which
        the dream is painted.
        """
        network, taps = self._ascent.network, self._ascent.taps
        shape = tile_grid.window_of(self.plan.scales[-1].shape, taps, network)
        return with_forms(self._params, taps, shape=shape, precision=network.precision_on())

    @functools.cached_property
    def _guide_features(self) -> Features | None:
        """Features, by layer, of the guide, a picture whose patterns the dream takes up.

        None if there is no guide.
        """
        if self._guide is None:
            return None
        (shape,) = self.plan.scales[-1].style_shapes
        guide = prepare.resized(self._guide, shape, self.plan.recipe)
        pieces = Measuring(
            self._params,
            self._recipe,
            None,
            programs=self._programs.measuring,
            watch=self._watch,
        )
        return pieces.content(guide)

    def _base(self, scale: int) -> Image:
        """Return the original picture at the size of octave number `scale`."""
        return prepare.at_scale(self._content, self.plan.scales[scale].shape)

    def measure(self, scale: int) -> _Octave:
        return _Octave(self._base(scale), self._guide_features)

    def start(self, scale: int, measured: _Octave, before: Image | None) -> DreamState:
        coarser = None if before is None else self._base(scale - 1)
        return self._programs.start(measured.base, self._ascent, before, coarser)

    def run(
        self, scale: int, state: DreamState, measured: _Octave, steps: int
    ) -> tuple[DreamState, Excitement]:
        state, found = self._programs.ascend(
            self._formed, state, self._ascent, self._keys[scale], steps, measured.guide
        )
        # The program returns arrays of a fixed length, `optimize.CAPACITY`. The values are copied,
        # since a view of them would keep the whole arrays in memory.
        return state, jax.tree.map(lambda x: np.asarray(x)[:steps].copy(), found)

    def hand_over(self, scale: int, state: DreamState) -> Image:
        # `state.canvas` is the canvas before the octave's last step. The next octave starts from the
        # canvas after that step, `state.pending`.
        del scale
        return _copied(state.pending)

    def is_broken(self, state: DreamState) -> bool:
        return int(state.broke_at) >= 0

    def begin_next(self, begin: Begin, scale: int, state: DreamState) -> Any:
        """Begin to prepare the next octave and to compile its programs, during the current one.

        Args:
          begin: a function that starts the work, possibly in another thread; see `descent.Begin`.
          scale: index of the current octave.
          state: the current state at this octave.

        Returns:
          A function that waits until this work is done and returns the result of `measure` at the next
          octave. If there is no next octave, or memory cannot hold both octaves at once, nothing is
          begun and None is returned in place of the function.
        """
        if not self.plan.fits_beside_next(scale):
            return None
        return begin(partial(self._compile_ahead, scale + 1, self.hand_over(scale, state)))

    def _compile_ahead(self, scale: int, image: Image) -> _Octave:
        """Prepare an octave (a larger copy of the picture), and compile its programs.

        The programs are compiled by calling them, with a loop of 0 steps.

        Args:
          scale: index of the octave to prepare.
          image: the canvas of the octave before, although that octave is not finished: compiling the
            programs needs only the canvas' shape.

        Returns:
          The result of `measure` at the octave: the original picture at the size of the octave, and the
          guide's features.
        """
        measured = self.measure(scale)
        self.run(scale, self.start(scale, measured, image), measured, 0)
        return measured

    def shot(self, position: Position, new: tuple[Excitement, ...]) -> DreamShot:
        """Return the present canvas of the dream, with the values that are maximised, as a `DreamShot`.

        Args:
          position: how far the dream has come: the octave, the number of steps and the state of the
            loop.
          new: the values maximised in each step since the previous shot, as consecutive arrays.
        """
        state = position.state
        assert state is not None
        broke_at = int(state.broke_at)
        before = sum(scale.steps for scale in self.plan.scales[: position.scale])
        return DreamShot(
            step=position.step,
            image=_copied(state.canvas),
            excitement=jax.tree.map(np.array, state.excitement),
            history=jax.tree.map(lambda *arrays: np.concatenate(arrays), *new),
            octave=position.scale,
            broke_at=broke_at + before if broke_at >= 0 else -1,
        )


def _copied(canvas: Image) -> Image:
    """Return a copy of a canvas, which stays valid when the loop donates the canvas' own buffer."""
    return jnp.asarray(np.array(canvas))


def dream_planned(
    params: Params,
    content: np.ndarray,
    guide: np.ndarray | None,
    settings: DreamSettings,
    plan: Plan,
    *,
    key: Array,
    every: int | Iterable[int],
    programs: DreamPrograms | None = None,
    begin: Begin | None = None,
    watch: Watch | None = None,
) -> Iterator[DreamShot]:
    """Dream as `dream` does, with a given plan, and yield the canvas at intervals.

    Args:
      params: weights from `nst_jax.load_params`.
      content: the picture [h, w, 3], before any resizing.
      guide: a second picture [h', w', 3], whose activations the dream imitates; None: there is none.
      settings: the settings, as `settings_of` checks and returns them.
      plan: the plan from `plan_dream`.
      key: a JAX random key for the random shift of the picture before each step.
      every: number of steps from one yielded `DreamShot` to the next, or an iterable of such numbers.
        A shot after the last step of an octave shows the canvas already enlarged to the next octave.
      programs: the compiled functions; default: `PROGRAMS`.
      begin: a function that starts work, possibly in another thread; see `descent.Begin`. With it, the
        picture and the programs of the next octave are made during the current one, if memory can hold
        both octaves. With None, they are made when the next octave begins.
      watch: an object that waits until the guide's features are computed. An object of a subclass of
        `Watch` may end this wait, and with it the run, by an exception. None: a `Watch`, which only
        waits.

    Yields:
      `DreamShot`s: before the first step, after every interval, and at the end. If the maximised values
      stop being finite, the last shot has `broke_at` set, and its image is the last finite canvas.
    """
    canvas = DreamCanvas(params, content, guide, settings, plan, key, programs or PROGRAMS, watch)
    ahead = None if begin is None else partial(canvas.begin_next, begin)
    tile, seen = plan.recipe.network.tile, 0
    with capacity.explaining_out_of_memory(plan.footprint, tile, plan.available):
        for position in descend(canvas, plan.scales, intervals_of(every), ahead=ahead):
            yield canvas.shot(position, position.history[seen:])
            seen = len(position.history)
