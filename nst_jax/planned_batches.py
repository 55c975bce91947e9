"""`paint_batch`: the pictures of a batch painted by their plans, chunk by chunk.

A plan holds what was chosen for a group of the pictures before the run: the scales (resolutions), tiles
and devices, and how many pictures are painted at once. The pictures that are painted at once are a
chunk.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias

from nst_jax import optimize
from nst_jax._types import Image, Losses, Params, State
from nst_jax.batch_canvas import BatchCanvas, BatchWeights
from nst_jax.batch_members import Member
from nst_jax.batch_plans import by_structure
from nst_jax.batch_programs import BatchPrograms
from nst_jax.descent import Begin, Rest, descend
from nst_jax.measuring import Watch
from nst_jax.scaling import capacity
from nst_jax.scaling.plan import Plan

# Type of the argument `progress`: a function of two numbers, how often the losses have been evaluated
# so far, and how often they will be evaluated in all.
Progress: TypeAlias = Callable[[int, int], None]


class PaintedBatch(NamedTuple):
    """The results of a batch, in which each picture is identified by its index in the batch."""

    images: dict[int, Image]  # the finished pictures, [h, w, 3] in [0, 1]
    # The final losses of each picture, scalars on the host. Those of a picture in `broken` belong to a
    # rejected canvas: they, or their gradient, are not finite. The entry of such a picture in `images`
    # is the canvas that was accepted last, or the first canvas if none was accepted.
    losses: dict[int, Losses]
    # Index of each diverged picture -> number of the update after which its losses, or their gradient,
    # were not finite; 0 for the first canvas.
    broken: dict[int, int]
    # Indices of the pictures in which nothing was painted: at every scale (resolution), their last
    # losses equal the first.
    stalled: set[int]
    # Index of each picture whose loss stopped changing while still high -> when it stopped, and how
    # high it still is; see `descent.Rest`.
    resting: dict[int, Rest]


def paint_batch(
    params: Params,
    plans: Sequence[tuple[Plan, list[Member]]],
    *,
    init: Any = None,
    intervals: Iterator[int],
    progress: Progress | None = None,
    watch: Watch | None = None,
    programs: BatchPrograms | None = None,
    begin: Begin | None = None,
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
      programs: the compiled functions of the run; default: `batch_programs.PROGRAMS`.
      begin: a function that starts work, such as compiling for the next resolution, in another thread;
        see `descent.Begin`. With None, all work is done in this thread.

    Returns:
      The results of all pictures.

    Raises:
      OutOfMemory: if the device runs out of memory.
    """
    watch = Watch() if watch is None else watch
    painted = PaintedBatch({}, {}, {}, set(), {})
    # A caller can end the run by raising an exception in `progress`. So `progress` must be called often
    # enough: at the latest after `CAPACITY` (256) updates, the largest number in one call of the
    # compiled loop.
    intervals = (min(interval, optimize.CAPACITY) for interval in intervals)
    plans = [(plan, some) for plan, members in plans for some in by_structure(members)]
    total = sum(-(-len(members) // plan.chunk) * (plan.updates + 1) for plan, members in plans)
    done = 0
    for plan, members in plans:
        # A chunk has the members that are painted at once. All chunks of a plan share these weights, so
        # they are made outside the loop over the chunks.
        weights = BatchWeights.of(params, plan)
        for first in range(0, len(members), plan.chunk):
            chunk = members[first : first + plan.chunk]
            canvas = BatchCanvas(weights, plan, chunk, init, watch, programs)
            report = None if progress is None else partial(_report, progress, watch, done, total)
            shapes = {member.prepared.scales[-1].shape for member in chunk}
            with capacity.explaining_out_of_memory(
                plan.footprint,
                plan.recipe.network.tile,
                plan.available,
                shape=shapes.pop() if len(shapes) == 1 else None,
                in_bucket=plan.in_bucket,
            ):
                found = _painted_chunk(canvas, intervals, report, begin)
            done += plan.updates + 1
            stalled, rests = canvas.stalled(), canvas.rests()
            for member, image, measured, broke_at, stuck, rest in zip(
                chunk, *found, stalled, rests, strict=True
            ):
                painted.images[member.place], painted.losses[member.place] = image, measured
                if broke_at >= 0:
                    painted.broken[member.place] = broke_at
                elif stuck:
                    painted.stalled.add(member.place)
                elif rest is not None:
                    painted.resting[member.place] = rest
    return painted


def _report(
    progress: Progress, watch: Watch, before: int, total: int, state: State, evaluations: int
) -> None:
    """Call `progress` while a chunk (the pictures that are painted at once) is painted.

    Args:
      progress: the function to call.
      watch: waits until the state is computed.
      before: how often the losses were evaluated in the chunks before this one.
      total: how often the losses are evaluated in all chunks together.
      state: the last state of this chunk.
      evaluations: how often the losses have been evaluated in this chunk so far.
    """
    # JAX computes asynchronously, and `progress` must report only updates that are finished.
    watch.wait(state.step)
    progress(before + evaluations, total)


def _painted_chunk(
    canvas: BatchCanvas,
    intervals: Iterator[int],
    report: Callable[[State, int], None] | None,
    begin: Begin | None,
) -> tuple[list[Image], list[Losses], list[int]]:
    """Paint a chunk, the pictures that are painted at once.

    Args:
      canvas: the canvases of the chunk.
      intervals: numbers of updates between two calls of `report`, which is also called at the end of
        each scale (resolution).
      report: called with the state, and with how often the losses have been evaluated so far in this
        chunk; None calls nothing.
      begin: a function that starts work, such as compiling for the next resolution, in another thread;
        None if all work is done in this thread.

    Returns:
      Three lists with an item for each picture: its image; its losses; and the number of the update at
      which it diverged, or -1 if it did not diverge.
    """
    scales = canvas.plan.scales
    ahead = None if begin is None else partial(canvas.begin_next, begin)
    for position in descend(canvas, scales, intervals, ahead=ahead, at_scale_ends=True):
        state, step = position.state, position.step
        assert state is not None
        if report is not None:
            report(state, step + 1)
        if step == canvas.plan.updates:
            return canvas.results(state)
        # Without references to the arrays of a finished scale (resolution), the next one can use their
        # memory.
        del position, state
    raise AssertionError("the last position is the one after all updates")
