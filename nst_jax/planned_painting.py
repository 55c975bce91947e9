"""`Painting`: a new or resumed run that paints one picture, with snapshots and checkpoints.

The run follows a plan: the scales (resolutions), tiles and devices that `nst_jax.plan` has chosen.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, NoReturn

import jax
from jaxtyping import Array

from nst_jax import _checks, checkpoints, prepare, provenance, run_scales
from nst_jax._types import Checkpoint, Params, Shape, Snapshot
from nst_jax.canvas import PROGRAMS, Programs, SingleCanvas, joined
from nst_jax.control_checks import check_controls, notes_on_regions
from nst_jax.controls.given import Given
from nst_jax.descent import Begin, Position, descend, intervals_of
from nst_jax.given_plans import check_plan_fits
from nst_jax.measuring import Watch
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.bands import distribute, without_padding
from nst_jax.scaling.plan import Plan


class Painting(Iterator[Snapshot]):
    """An iterator over the snapshots of a run; it can return a checkpoint at the latest snapshot."""

    def __init__(
        self,
        positions: Iterator[Position],
        canvas: SingleCanvas,
        identify: Callable[[], dict[str, Any]],
        left_out: Sequence[str] = (),
    ) -> None:
        # Warnings as text, from `notes_on_regions`. A region is a part of the content with a style of
        # its own. A warning says that a region, in the content or in its style, is too small or too
        # thin for some layers: no position of these layers' features lies in it, so the style loss
        # leaves it out there. If the user gives no regions, the painted part of the content, which is
        # neither transparent nor protected, is checked as a region. The opaque part of the default
        # style (the style of all pixels outside the regions) is checked in either case.
        self.left_out = tuple(left_out)
        self._snapshots, self._canvas = _snapshots(positions, canvas), canvas
        # A function that returns a record of all inputs and settings of the run, for checkpoints. Its
        # result is cached, since hashing all pictures and weights takes time.
        self._identify = functools.cache(identify)

    @property
    def scales(self) -> tuple[run_scales.Scale, ...]:
        """The scales (resolutions) of the run, coarse to fine."""
        return self._canvas.plan.real_scales

    def __next__(self) -> Snapshot:
        return next(self._snapshots)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "a run cannot be pickled; send its `checkpoint()`, from which `paint(..., resume=...)` "
            "continues"
        )

    def finish(self) -> Snapshot:
        """Paint to the end and return the last snapshot.

        Returns:
          A `Snapshot` whose `history` has the losses of the first canvas and of the canvas after each
          update, arrays [updates + 1]. If the run was resumed from a checkpoint, the losses before it
          are included.

        Raises:
          ValueError: if all snapshots have already been yielded.
          OutOfMemory: if the device runs out of memory.

        Example:
          >>> import nst_jax as nst
          >>> params = nst.load_params()
          >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
          >>> last = nst.paint(params, content, style, size=48, steps=5).finish()
          >>> last.history.total.shape, sorted(last.history.style_layers)[0]
          ((6,), 'relu1_1')
        """
        last = None
        for last in self:  # noqa: B007
            pass
        if last is None:
            raise ValueError("`finish`: the run has ended; call `paint` again")
        return last._replace(history=joined(self._canvas.position.history))

    def checkpoint(self, *, copy: bool = True) -> Checkpoint:
        """Return the state of the run at the latest snapshot, from which `paint` can resume.

        If an exception, such as the KeyboardInterrupt of Ctrl-C, has ended the run while it made
        updates, this is the state after these updates.

        Args:
          copy: whether the arrays are copied. If False, they may be buffers of the run, which are valid
            only until the next snapshot is requested.

        Returns:
          A checkpoint, which `paint` takes as `resume` and `nst_jax.checkpoints.save` writes.

        Raises:
          ValueError: if no snapshot has been requested yet; or if an exception has ended the run at the
            moment when updates began, so that there is no state.
        """
        scale, step, state, pieces = self._canvas.position
        if state is None:
            raise ValueError("`checkpoint`: the run has not begun; ask for a snapshot first")
        if _is_lost(state):
            # The compiled loop reuses the memory of the state that it gets.
            raise ValueError(
                "`checkpoint`: the run was interrupted at the moment when updates began, and its state "
                "is lost; resume from an earlier checkpoint, or call `paint` again"
            )
        plan = self._canvas.plan
        leaves = sharding.to_host(checkpoints.named_leaves(state), plan.mesh, copy=copy)
        return Checkpoint(
            step=step,
            scale=scale,
            arrays=without_padding(leaves, plan.bands(scale)),
            history=joined(pieces),
            facts=self._identify(),
            scales=provenance.of_scales(plan.real_scales),
            device=provenance.device(),
        )


def _is_lost(state: Any) -> bool:
    """Return whether a state has arrays whose memory is used by other arrays now."""
    leaves = jax.tree.leaves(state)
    return any(isinstance(leaf, jax.Array) and leaf.is_deleted() for leaf in leaves)


def _snapshots(positions: Iterator[Position], canvas: SingleCanvas) -> Iterator[Snapshot]:
    """Yield a snapshot of the canvas at each position (how far the run has come).

    Args:
      positions: yields a `Position` after every few updates.
      canvas: makes the snapshots, each with the losses since the last one.

    Raises:
      OutOfMemory: if the device runs out of memory.
    """
    plan, before = canvas.plan, 0
    with capacity.explaining_out_of_memory(
        plan.footprint,
        plan.recipe.network.tile,
        plan.available,
        shape=plan.real_scales[-1].shape,
        in_bucket=plan.in_bucket,
    ):
        for position in positions:
            yield canvas.snapshot(position, position.history[before:])
            before = len(position.history)


def paint_planned(
    params: Params,
    content: Any,
    style: Any,
    plan: Plan,
    *,
    init: Any,
    key: Array | None,
    every: int | Iterable[int],
    resume: Checkpoint | None = None,
    programs: Programs | None = None,
    begin: Begin | None = None,
    watch: Watch | None = None,
    given: Given | None = None,
    style_originals: Sequence[Shape] | None = None,
) -> Painting:
    """Paint as `paint` does, with a given plan.

    Args:
      params: weights from `nst_jax.load_params`.
      content: the content picture, [h, w, 3].
      style: the style picture, [h', w', 3], or a list of several.
      plan: the plan of this run.
      init: the first canvas, as in `paint`; None means the recipe's.
      key: a JAX random key, for first canvases with noise; None: `jax.random.key(0)`.
      every: number of updates between two snapshots, or an iterable of such numbers.
      resume: the checkpoint from which the run resumes; None: it starts anew.
      programs: the compiled functions of the run; default: `canvas.PROGRAMS`.
      begin: a function that starts work, possibly in another thread, see `descent.Begin`. If it is
        given, the targets of the next scale (resolution) are computed and its programs compiled while
        the current scale is painted, if both scales fit into memory. On an accelerator, the programs
        of the first scale may be compiled while its targets are computed. If `programs` are kept on
        disk, the first loop of updates is loaded meanwhile. With None, the targets of
        a scale are computed and its programs compiled only when the scale begins.
      watch: an object that waits while the targets are computed, and may show progress or end the run
        by an exception; None: a `Watch`, which only waits.
      given: regions, protected and transparent parts, from `controls.given.checked_controls`.
      style_originals: (height, width) of each style before any resizing, if the given styles already
        have their final sizes. The recipe's size rules are then applied to these original sizes, since
        a size rule that is applied a second time may give another size. None: the given styles' sizes.

    Returns:
      The iterator that `paint` returns.
    """
    intervals = check_run_arguments(plan.recipe, init, key, every, resume)
    check_controls(given, plan.recipe)
    compiled = programs or PROGRAMS
    if begin is not None:
        scale = 0 if resume is None else resume.scale
        compiled.load_ahead(plan, scale, given is not None, begin)
    prepared = prepare.prepare_pictures(
        content,
        style,
        plan.recipe,
        given,
        on_host=plan.in_bucket,
        side=max(plan.scales[-1].shape),
        originals=style_originals,
    )
    check_plan_fits(plan, prepared.scales)
    left_out = notes_on_regions(prepared, plan.recipe)
    key = jax.random.key(0) if key is None else key
    canvas = SingleCanvas(params, plan, prepared, init, key, compiled, watch)
    if begin is not None and resume is None:
        canvas.begin_first(begin)
    identify = partial(_identity, params, content, style, plan, init, key, given)
    position = None if resume is None else _position_of(resume, identify(), canvas)
    ahead = None if begin is None else partial(canvas.begin_next, begin)
    positions = descend(
        canvas, plan.scales, intervals, position=position, ahead=ahead, reached=canvas.reach
    )
    return Painting(positions, canvas, identify, left_out)


def check_run_arguments(
    recipe: Recipe, init: Any, key: Any, every: Any, resume: Checkpoint | None = None
) -> Iterator[int]:
    """Refuse arguments that `paint` cannot use; return the numbers of updates between snapshots."""
    _checks.single(recipe)
    starts.check_start_or_image("init", init)
    _checks.random_key("key", key)
    return intervals_of(every, done=0 if resume is None else resume.step)


# --- Resuming -------------------------------------------------------------------------------------


def _identity(
    params: Params,
    content: Any,
    style: Any,
    plan: Plan,
    init: Any,
    key: Array,
    given: Given | None,
) -> dict[str, Any]:
    """Return the `facts` of a run; a run can resume from a checkpoint only if their `facts` are equal.

    `facts` are JSON values, by name: the run's settings, except its number of updates; hashes of its
    pictures, masks and weights; its random key; the versions of the packages on which results depend;
    and, if the canvas lies in a larger array (bucket), the sizes of this array at all scales.
    """
    styles = _checks.one_or_several("style", style)
    names = ["style", *(f"style {number}" for number in range(2, len(styles) + 1))]
    pictures = {
        "content": _checks.image("content", content),
        **dict(zip(names, styles, strict=True)),
    }
    controls = {} if given is None else given.facts()
    facts = provenance.of_identity(params, pictures, plan.recipe, init, key, controls)
    if plan.in_bucket:
        # The results also depend on the size of the array (bucket) in which the canvas lies: with
        # another size, sums are added up in another order, and the last bits differ.
        sizes = [f"{width}x{height}" for height, width in (scale.shape for scale in plan.scales)]
        facts["bucket"] = f"{', '.join(sizes)} px"
    return facts


def _position_of(checkpoint: Checkpoint, facts: dict[str, Any], canvas: SingleCanvas) -> Position:
    """Return the position (scale, updates, state and losses) from which a checkpoint resumes a run.

    Args:
      checkpoint: the checkpoint.
      facts: the `facts` of the run that resumes: its inputs and settings.
      canvas: the canvas of this run.

    Raises:
      ValueError: if the checkpoint is of a run with other inputs, settings or scales.
    """
    plan = canvas.plan
    checkpoints.check_resumable(checkpoint, facts, provenance.of_scales(plan.real_scales))
    state = checkpoints.state_from(checkpoint, canvas.fresh_state(checkpoint.scale))
    state = distribute(state, plan.bands(checkpoint.scale))
    return Position(checkpoint.scale, checkpoint.step, state, (checkpoint.history,))
