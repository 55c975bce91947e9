"""The canvas of a single picture, and the compiled functions that optimise it.

The canvas is the picture that is optimised, at one or several scales (resolutions), coarse to fine. At
each scale it is compared with targets: features of the content, and statistics of the styles.
"""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import correspondence, measuring, optimize, prepare, recipes
from nst_jax._compile import Jitted
from nst_jax._real_size import padded
from nst_jax._types import Image, Losses, Params, RealSize, Shape, Snapshot, State, Targets
from nst_jax.descent import Begin, Position
from nst_jax.feed_forward import instant_start
from nst_jax.finisher import Finisher
from nst_jax.images import on_host, resizing
from nst_jax.measuring import Measuring, Watch
from nst_jax.optimize import Handover
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.starts_on_host import image_on_host
from nst_jax.scaling import capacity, sharding, tile_grid
from nst_jax.scaling.bands import distribute
from nst_jax.scaling.operations import matching_operations
from nst_jax.scaling.plan import Plan
from nst_jax.style_statistics import blend
from nst_jax.targets import style_targets
from nst_jax.vgg.kernel_forms import with_forms


def _load_nothing(plan: Plan, scale: int, controlled: bool, begin: Begin) -> None:
    """Do nothing: programs that are not kept on disk cannot be loaded."""


class Programs(NamedTuple):
    """The compiled functions of a run; the command line replaces some by programs cached on disk.

    `measuring` has the functions that compute what the losses compare the canvas with. `load_ahead`
    begins to load the program `run` from disk before it is needed; its arguments are the plan, the
    index of the scale (resolution) at which the run begins, whether there are regions, protected or
    transparent parts, and a function that starts the loading, possibly in another thread. Each other
    field is the function of the same name in `optimize`, except that `enlarge` is `optimize.enlarged`.
    """

    measuring: measuring.MeasuringPrograms
    init: Callable[..., Any]
    run: Callable[..., Any]
    enlarge: Callable[..., Any]
    take_over: Callable[..., Any]
    match: Callable[..., Any]
    picture: Callable[..., Any]
    canvas_image: Callable[..., Any]
    load_ahead: Callable[[Plan, int, bool, Begin], None] = _load_nothing


PROGRAMS = Programs(
    measuring=measuring.PROGRAMS,
    init=Jitted(optimize.init),
    # Only the state is donated: it is made in this module, whereas the caller may still need the other
    # arguments, such as the weights.
    run=Jitted(optimize.run, donate_argnames="state", large=True),
    enlarge=Jitted(optimize.enlarged, static_argnums=(1, 2, 3)),
    take_over=Jitted(optimize.take_over, donate_argnames="state"),
    match=Jitted(optimize.match, static_argnames=("first",)),
    picture=Jitted(optimize.picture),
    canvas_image=Jitted(optimize.canvas_image),
)


_style_targets = Jitted(style_targets)


class _Measured(NamedTuple):
    """The pictures resized to one scale (resolution), and the targets computed from them."""

    # The content picture [h, w, 3]. If the canvas lies in an array that may be larger than the canvas
    # (`Plan.in_bucket`), pictures are resized on the host, and this is a NumPy array; otherwise it is
    # an array on the device.
    content: Any
    # Pictures [h', w', 3]: first the styles of the whole canvas, then the styles of single regions.
    styles: tuple[Any, ...]
    targets: Targets


class SingleCanvas:
    """A single canvas (not a batch of them), and how it is optimised; implements `descent.Canvas`."""

    def __init__(
        self,
        params: Params,
        plan: Plan,
        prepared: prepare.Prepared,
        init: Any,
        key: Array,
        programs: Programs,
        watch: Watch | None = None,
    ) -> None:
        self.plan, self._prepared, self._programs = plan, prepared, programs
        self._watch = watch
        self._init, self._key = init, key
        # A function that waits until another thread has compiled the programs of the first scale; None
        # if no other thread compiles them.
        self._first: Callable[[], Any] | None = None
        self._finish = Finisher(prepared, plan.recipe)
        self._params = sharding.replicate(params, plan.mesh)
        # The recipe, with its numbers as strongly typed arrays: so a run with other numbers can use the
        # same compiled programs.
        self._recipe = sharding.replicate(recipes.as_arrays(plan.recipe.bare()), plan.mesh)
        self._shapes = [scale.shape for scale in plan.scales]
        # The sizes of the pictures at each scale. If the pictures lie in larger arrays, `plan.scales`
        # has the sizes of the arrays instead.
        self._scales = plan.real_scales
        # How far the run has come. `_newest` has the arguments `scale` and `steps` and the result of a
        # call of the program `run` whose losses are not on the host yet.
        self._reached = Position()
        self._newest: tuple[int, int, State, Losses] | None = None

    def _at(self, scale: int) -> Recipe:
        """Return the recipe for one scale (resolution), with the values that hold only there."""
        return self._recipe.at(scale, self._shapes)

    @functools.cached_property
    def _formed(self) -> Params:
        """The network's weights, with kernels prepared once for the updates at all scales.

        Kernels are transposed for the gradient and, on a CPU, also transformed for Winograd convolution
        where that is faster.
        """
        network, taps = self._recipe.network, self._recipe.terms.taps
        shape = tile_grid.window_of(self.plan.scales[-1].shape, taps, network, self.plan.bands())
        return with_forms(self._params, taps, shape=shape, precision=network.precision_on())

    def measure(self, scale: int) -> _Measured:
        if self.plan.in_bucket:
            return self._measure_in_bucket(scale)
        here = self.plan.scales[scale]
        content = prepare.at_scale(self._prepared.content, here.shape)
        styles = prepare.styles_at(self._prepared, here)
        controls = prepare.controls_at(self._prepared, here)
        pictures = sharding.replicate((content, styles, controls), self.plan.mesh)
        pieces = Measuring(
            self._params,
            self._at(scale),
            self.plan.bands(scale),
            programs=self._programs.measuring,
            watch=self._watch,
        )
        return _Measured(content, styles, measuring.targets_of(pieces, *pictures))

    def _measure_in_bucket(self, scale: int) -> _Measured:
        """Resize the pictures to a scale, and compute the targets from them in larger arrays.

        Each picture lies at the top left of its array. The plan gives the sizes of the arrays. Programs
        are compiled for these sizes, so pictures of different sizes can share programs.
        """
        here, arrays, recipe = self._scales[scale], self.plan.scales[scale], self._at(scale)
        content = on_host.at_scale_on_host(self._prepared.content, here.shape)
        prepared = self._prepared
        styles = tuple(
            on_host.at_scale_on_host(*pair)
            for pair in zip(
                (*prepared.styles, *prepared.region_styles), here.style_shapes, strict=True
            )
        )
        pieces = Measuring(
            self._params, recipe, None, programs=self._programs.measuring, watch=self._watch
        )
        wide_styles = [jnp.asarray(padded(style, arrays.style_shapes[0])) for style in styles]
        sizes = [_traced(style.shape[:2]) for style in styles]
        wide, size = jnp.asarray(padded(content, arrays.shape)), _traced(here.shape)
        controls = prepare.controls_in_arrays(prepared, here, arrays)
        if controls is not None:
            targets = pieces.controlled(wide, wide_styles, controls, size=size, style_sizes=sizes)
            return _Measured(content, styles, targets)
        targets = _targets_in_arrays(pieces, recipe, wide, size, wide_styles, sizes)
        return _Measured(content, styles, targets)

    def begin_first(self, begin: Begin) -> None:
        """Begin to compile the programs of the first, coarsest resolution, while targets are computed.

        This is done only on an accelerator. There, compiling takes seconds, mostly outside Python, on
        cores of the host that are otherwise idle. On a CPU, compiling would slow down computing the
        targets. The canvas must also lie in a larger array, as is usual on accelerators, and have no
        masks, since `_compile_first` calls only the programs for such a canvas. And there must be
        memory for two runs at once. If one of these conditions is not met, nothing is done.

        Args:
          begin: a function that starts the work, possibly in another thread; see `Begin`.
        """
        simple = self.plan.in_bucket and self._prepared.controls is None
        # The programs are compiled by calling them, which takes the memory of a second run.
        simple = simple and self.plan.fits_twice
        if simple and capacity.platform_of_mesh(self.plan.mesh) != "cpu":
            self._first = begin(self._compile_first)

    def _compile_first(self) -> None:
        """Compile the programs of the first scale, by calling them with zeros and a loop of 0 steps."""
        recipe, arrays = self._at(0), self.plan.scales[0]
        pieces = Measuring(
            self._params, recipe, None, programs=measuring.PLAIN, watch=measuring.NoWatch()
        )

        def targets(content: Any, size: Any, styles: Any, sizes: Any) -> Targets:
            # `style_targets` is not jitted here, since JAX does not accept compiler options of a jitted
            # function that is called within a traced function.
            return _targets_in_arrays(
                pieces, recipe, content, size, styles, sizes, style_targets=style_targets
            )

        def picture(shape: Shape) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((*shape, 3), jnp.float32)

        styles, size = len(self._prepared.styles), jax.ShapeDtypeStruct((2,), jnp.int32)
        like = jax.eval_shape(
            targets,
            picture(arrays.shape),
            size,
            [picture(arrays.style_shapes[0])] * styles,
            [size] * styles,
        )
        zeros = jax.tree.map(lambda leaf: jax.device_put(np.zeros(leaf.shape, leaf.dtype)), like)
        zeros = zeros._replace(size=_traced(self._scales[0].shape))
        image = jax.device_put(np.zeros((*arrays.shape, 3), np.float32))
        state = self._programs.init(image, recipe, bands=None)
        if (count := self._number_of_matches(0)) is not None:
            state = state._replace(matches=jnp.zeros(count, jnp.int32))
        state, _ = self._programs.run(self._formed, state, zeros, recipe, 0, bands=None)
        self._programs.picture(state, recipe, bands=None)

    def start(self, scale: int, measured: _Measured, before: Handover | None) -> State:
        if self._first is not None:
            self._first()  # wait until `_compile_first` has compiled the programs, needed from here
            self._first = None
        state = self._unmatched(scale, measured, before)
        if self._number_of_matches(scale) is None:
            return state
        recipe = self._at(scale)
        pictures = measured.targets, measured.content
        state = self._programs.match(self._formed, state, *pictures, recipe, first=scale == 0)
        operations = matching_operations(self.plan.scales[scale], recipe)
        (self._watch or Watch()).wait_for_piece(state.matches, operations)
        return state

    def _number_of_matches(self, scale: int) -> int | None:
        """Return how many positions of the canvas' features are compared with a match in the style.

        Some style losses compare such positions with positions of the style, their matches, which are
        found once, at the beginning of the scale. For all other losses, the result is None.
        """
        return correspondence.number_of_matches(self.plan.scales[scale].shape, self._at(scale))

    def _unmatched(self, scale: int, measured: _Measured, before: Handover | None) -> State:
        """Make the state with which a scale (resolution) begins, except for its matches.

        Some style losses compare each position of the canvas with a position of the style, its match;
        `start` finds these matches. `measured` has the pictures at this scale. `before` is what the
        coarser scale hands over; it is None for the first.
        """
        image: Any
        exact, bands, recipe = None, self.plan.bands(scale), self.plan.recipe
        shape, enlarge = self._scales[scale].shape, recipe.descent.enlarge
        if before is None:
            content, style = measured.content, measured.styles[0]
            exact = prepare.exact_canvas(content, recipe, self._init)
            array = self.plan.scales[scale].shape if self.plan.in_bucket else None
            init = instant_start.resolved_start(self._prepared, recipe, self._init, array=array)
            if array is not None:
                start = recipe.pictures.start if init is None else init
                image = image_on_host(start, content, style, self._key, array)
                image = jnp.asarray(padded(image, array))
                exact = None if exact is None else padded(exact, array)
            else:
                image = prepare.starting_image(content, style, recipe, init, self._key)
                image = self._programs.enlarge(image, shape, enlarge, False)
        elif self.plan.in_bucket:
            height, width = self._scales[scale - 1].shape
            coarse = np.asarray(before.image)[:height, :width]
            fine = on_host.resized_on_host(coarse, shape, enlarge, argument="enlarge")
            fine = np.clip(fine, 0, 1) if recipe.descent.clip else fine
            image = jnp.asarray(padded(fine, self.plan.scales[scale].shape))
        else:
            image = self._programs.enlarge(before.image, shape, enlarge, recipe.descent.clip)
            if recipe.descent.content_detail and scale < len(self._shapes) - 1:
                image = image + resizing.finest_detail(measured.content)
        image = sharding.replicate(image, self.plan.mesh)
        state = self._programs.init(image, self._at(scale), bands=bands)
        if before is not None and before.opt_state is not None:
            state = self._programs.take_over(
                state,
                before.opt_state,
                self._at(scale),
                bands=bands,
                bands_before=self.plan.bands(scale - 1),
            )
        if exact is None:
            return state
        # `exact` has numbers from 0 to 255, minus ImageNet's mean. Converting them to `image` in [0, 1]
        # and back, in `optimize.init`, has rounded them. So `exact` itself becomes the canvas. Each
        # field gets a copy: the loop donates the state's buffers, and no buffer can be donated twice.
        names = ("canvas", "pending", *(["average"] if state.average is not None else []))
        return state._replace(**{name: distribute(jnp.array(exact), bands) for name in names})

    def run(
        self, scale: int, state: State, measured: _Measured, steps: int
    ) -> tuple[State, Losses]:
        bands = self.plan.bands(scale)
        state, losses = self._programs.run(
            self._formed, state, measured.targets, self._at(scale), steps, bands=bands
        )
        self._newest = scale, steps, state, losses
        return state, _on_host(losses, steps)

    def reach(self, position: Position) -> None:
        """Take note of how far the run has come: all that `run` has computed is in `position`."""
        self._reached, self._newest = position, None

    @property
    def position(self) -> Position:
        """How far the run has come, also if an exception has ended it, such as a KeyboardInterrupt.

        Such an exception usually comes while Python waits for the losses of a call of `run`. The state
        before this call is lost then, since its memory was reused, but the new state is computed.
        """
        if self._newest is None:
            return self._reached
        scale, steps, state, losses = self._newest
        before = self._reached
        return Position(
            scale, before.step + steps, state, (*before.history, _on_host(losses, steps))
        )

    def hand_over(self, scale: int, state: State) -> Handover:
        recipe = self._at(scale)
        image = self._programs.canvas_image(state, recipe, bands=self.plan.bands(scale))
        return optimize.hand_over(image, state, recipe)

    def is_broken(self, state: State) -> bool:
        return int(state.broke_at) >= 0

    def begin_next(self, begin: Begin, scale: int, state: State) -> Callable[[], Any] | None:
        """Begin the work for the next scale (resolution) while the current one is painted.

        This work is to compute the targets, which the losses compare the canvas with, and to compile
        the programs.

        Args:
          begin: a function that starts the work, possibly in another thread; see `Begin`.
          scale: index of the scale that is being painted.
          state: the current state at this scale.

        Returns:
          A function that waits until the work is done, and returns the result of `measure` at the next
          scale. If there is no next scale, or memory cannot hold both scales at once, nothing is begun
          and the result is None.
        """
        if not self.plan.fits_beside_next(scale):
            return None
        # The compiled loop of updates donates the buffers of the optimiser's state: further updates
        # overwrite them, while the thread that does the work for the next scale may still read them. So
        # the optimiser's state is copied.
        before = self.hand_over(scale, state)
        before = before._replace(opt_state=jax.tree.map(jnp.array, before.opt_state))
        return begin(partial(self._compile_ahead, scale + 1, before))

    def _compile_ahead(self, scale: int, before: Handover) -> _Measured:
        """Return the targets of a scale (resolution), and compile its programs, before it begins.

        The programs are compiled by calling them, with a loop of 0 steps. `before` is what the coarser
        scale passes on. That scale is not finished yet, but compiling needs only shapes and types.
        """
        measured, bands = self.measure(scale), self.plan.bands(scale)
        state = self._unmatched(scale, measured, before)
        if (count := self._number_of_matches(scale)) is not None:
            # A match is the position of the style that is most similar to a position of the canvas.
            # Compiling needs only the shape of the matches, so zeros take their place: searching for
            # the matches of an unfinished canvas would take long and be of no use.
            state = state._replace(matches=jnp.zeros(count, jnp.int32))
        state, _ = self._programs.run(
            self._formed, state, measured.targets, self._at(scale), 0, bands=bands
        )
        self._programs.picture(state, self._at(scale), bands=bands)
        return measured

    def fresh_state(self, scale: int) -> State:
        """Return a `State` at a scale (resolution) with `jax.ShapeDtypeStruct`s in place of arrays.

        A checkpoint must have arrays of these shapes. If several devices share the canvas, it is padded
        with rows; checkpoints, and so these shapes, are without the rows.
        """
        canvas = jax.ShapeDtypeStruct((*self.plan.scales[scale].shape, 3), jnp.float32)
        fresh = jax.eval_shape(optimize.init, canvas, self._at(scale))
        if (count := self._number_of_matches(scale)) is None:
            return fresh
        return fresh._replace(matches=jax.ShapeDtypeStruct((count,), jnp.int32))

    def snapshot(self, position: Position, pieces: Sequence[Losses]) -> Snapshot:
        """Return the picture that the run has reached, with its losses, as a `Snapshot`.

        Args:
          position: how far the run has come: the resolution, the number of updates and the state of the
            loop.
          pieces: the losses of all evaluations since the previous snapshot, in order. Each piece has
            arrays [n] with the losses of n evaluations.
        """
        state, plan = position.state, self.plan
        assert state is not None
        broke_at = int(state.broke_at)
        before = sum(scale.steps for scale in plan.scales[: position.scale])
        picture = self._programs.picture(
            state, self._at(position.scale), bands=plan.bands(position.scale)
        )
        whole, here = sharding.gather(picture, plan.mesh), self._scales[position.scale]
        if plan.in_bucket:
            image = self._finish.in_arrays(whole, here, plan.scales[position.scale])
        else:
            image = self._finish(whole, here)
        return Snapshot(
            step=position.step,
            image=image,
            losses=jax.tree.map(np.array, state.losses),
            history=joined(pieces),
            scale=position.scale,
            broke_at=broke_at + before if broke_at >= 0 else -1,
        )


def _targets_in_arrays(
    pieces: Measuring,
    recipe: Recipe,
    content: Image,
    size: RealSize,
    styles: Sequence[Any],
    sizes: Sequence[RealSize],
    *,
    style_targets: Callable[..., Any] = _style_targets,
) -> Targets:
    """Compute the targets of a canvas from pictures that lie at the top left of larger arrays.

    Args:
      pieces: computes features and statistics (such as Gram matrices) of single pictures.
      recipe: the recipe with the values of one scale (resolution), such as its style loss.
      content: the array [h, w, 3] with the content at its top left.
      size: (height, width) of the content itself.
      styles: for each style, the array [h', w', 3] with the style at its top left.
      sizes: (height, width) of each style itself.
      style_targets: the function of this name in the module `targets`, compiled or not.
    """
    statistics = [pieces.statistics(*pair) for pair in zip(styles, sizes, strict=True)]
    blended = blend(statistics, recipe.terms.style_shares, recipe.terms)
    return Targets(
        pieces.content(content, size=size),
        style_targets(blended, recipe),
        pieces.photo(content),
        size=size,
    )


def _traced(shape: Shape) -> RealSize:
    """Return a (height, width) as an array, so that jitted functions trace it as a runtime value."""
    return jnp.asarray(shape, jnp.int32)


def _on_host(losses: Losses, steps: int) -> Losses:
    """Return the losses of `steps` steps, from the program `run`, as NumPy arrays [steps].

    The program returns arrays of a fixed length, `optimize.CAPACITY`. The part in use is copied, since
    a view of it would keep the whole arrays in memory.
    """
    return jax.tree.map(lambda x: np.asarray(x)[:steps].copy(), losses)


def joined(pieces: Sequence[Losses]) -> Losses:
    """Concatenate pieces of losses, in order; a piece has arrays [n], the losses of n evaluations."""
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *pieces)
