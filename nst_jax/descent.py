"""The loop over the scales of a run, coarse to fine; the same for one canvas and for a batch."""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nst_jax import _checks, optimize
from nst_jax.prepare import Scale

# Values that a `Canvas` makes. The loop only passes them on, and does not look inside.
LoopState: TypeAlias = Any  # a `State`, the `State` of a batch, or the `DreamState` of a dream
Values: TypeAlias = Any  # the losses, or what a dream maximises, of several canvases in order
Handover: TypeAlias = Any  # an image, or `optimize.Handover`: what a scale leaves to the next one

# Type of the argument `ahead` of `descend`.
Ahead: TypeAlias = Callable[[int, LoopState], Callable[[], Any] | None]


class Position(NamedTuple):
    """A position in a run: the scale, the updates done, the loop's state, the losses so far."""

    scale: int = 0  # index of the scale; 0 is the coarsest
    step: int = -1  # updates so far, over all scales; -1: no losses computed yet
    state: LoopState | None = None  # of the loop at this scale; None: no losses computed yet
    history: tuple[Values, ...] = ()  # losses of all canvases so far, in parts; empty if not kept


@runtime_checkable
class Canvas(Protocol):
    """What `descend` optimises at each scale: the canvas of a picture or dream, or those of a batch."""

    def measure(self, scale: int) -> Any:
        """Compute the targets of a scale; `start` and `run` get the result as `measured`."""
        ...

    def start(self, scale: int, measured: Any, before: Handover | None) -> LoopState:
        """Make a fresh state from what the coarser scale left (None at the coarsest scale)."""
        ...

    def run(
        self, scale: int, state: LoopState, measured: Any, steps: int
    ) -> tuple[LoopState, Values | None]:
        """Run `steps` steps; return the state, and the losses of each step (None if not kept)."""
        ...

    def hand_over(self, scale: int, state: LoopState) -> Handover:
        """Return what the next scale starts from."""
        ...

    def is_broken(self, state: LoopState) -> bool:
        """Return whether the run ends early because its losses are not finite."""
        ...


def descend(
    canvas: Canvas,
    scales: Sequence[Scale],
    intervals: Iterator[int],
    *,
    position: Position | None = None,
    ahead: Ahead | None = None,
    at_scale_ends: bool = False,
) -> Iterator[Position]:
    """Optimise a canvas at each scale in turn and yield its position after every interval.

    The first position comes when the losses of the start are computed, before any update. Enlarging the
    canvas to the next scale counts as the last update of the coarser scale, so that n updates give
    n + 1 losses.

    Args:
      canvas: one canvas, or a batch of them.
      scales: the scales of the run, coarse to fine.
      intervals: an infinite iterator of the numbers of updates between two positions.
      position: the position at which the run continues; it is yielded first. None starts a new run.
      ahead: called with the current scale and state, to prepare the next scale (its targets and
        programs) while the current one runs. It returns a function that waits for the result of
        `measure` at the next scale, or None if it does not prepare that scale. `ahead=None` never
        prepares one.
      at_scale_ends: whether the position at the end of each scale is also yielded.

    Yields:
      The positions; the last one after all updates, or where the losses stopped being finite.
    """
    *ends, total = itertools.accumulate(scale.steps for scale in scales)
    ends = [*(end - 1 for end in ends), total]
    index, done, state, history = position or Position()
    wanted = 1 if state is None else 0
    next_measured: Callable[[], Any] | None = None  # waits for the targets of the next scale
    measured: Any = None
    before: Handover | None = None
    while True:
        if state is not None:
            over = done == total or canvas.is_broken(state)
            if wanted == 0 or over or (at_scale_ends and done == ends[index]):
                yield Position(index, done, state, history)
                if over:
                    return
                wanted = next(intervals)
            # `ahead` is called only after the first position is yielded: whoever receives it compiles
            # the program that makes a snapshot, before the programs of the next scale are compiled.
            if ahead and measured and not next_measured and index < len(scales) - 1:
                next_measured = ahead(index, state)
            if done == ends[index]:
                before = canvas.hand_over(index, state)
                index, state, measured = index + 1, None, None
        if measured is None:
            measured = next_measured() if next_measured else canvas.measure(index)
            next_measured = None
        if state is None:
            state, before = canvas.start(index, measured, before), None
        steps = min(wanted, ends[index] - done, optimize.CAPACITY)
        state, losses = canvas.run(index, state, measured, steps)
        history = history if losses is None else (*history, losses)
        done, wanted = done + steps, wanted - steps


def has_stalled(totals: np.ndarray, scales: Sequence[Scale]) -> bool:
    """Return whether a whole run painted nothing: at every scale the last loss equals the first.

    A run whose loss is 0 from the beginning has nothing to paint and has not stalled.

    Args:
      totals: the total losses of all canvases of the run, [updates + 1].
      scales: the scales of the run.
    """
    ends = list(itertools.accumulate(scale.steps for scale in scales))[:-1]
    # At a scale with a single canvas, the only update is the enlargement to the next scale, so its
    # losses cannot show whether the run painted anything.
    parts = [part for part in np.split(totals, ends) if len(part) > 1]
    return bool(parts) and all(part[-1] == part[0] != 0 for part in parts)


def intervals_of(every: int | Iterable[int], *, done: int = 0) -> Iterator[int]:
    """Return the intervals (numbers of updates) that `every` stands for, as an infinite iterator.

    Args:
      every: a number of updates, or an iterable of such numbers. Each number is checked when it is
        needed; after the last one, a single interval lasts to the end of the run.
      done: number of updates already done. If `every` is a number, the first interval ends when the
        number of updates is a multiple of `every`.
    """
    if isinstance(every, Iterable) and not isinstance(every, str):
        return itertools.chain(map(_interval, every), itertools.repeat(sys.maxsize))
    interval = _interval(every)
    return itertools.chain([interval - done % interval], itertools.repeat(interval))


def _interval(every: Any) -> int:
    if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
        raise TypeError(f"`every`: expected a whole number of updates, got {every!r}")
    _checks.number("every", every, least=1)
    return int(every)
