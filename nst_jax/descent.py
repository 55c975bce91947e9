"""The loop over the scales (resolutions) of a run, coarse to fine; for one canvas or for a batch.

A canvas is a picture that is optimised: a painting, or a dream (Deep Dream).
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nst_jax import _checks, optimize
from nst_jax.prepare import Scale

# The types of three values that a `Canvas` makes and gets back. The loop `descend` only passes them on,
# and does not look inside.
LoopState: TypeAlias = Any  # a `State`, the `State` of a batch, or the `DreamState` of a dream
Values: TypeAlias = Any  # losses of consecutive canvases; in a dream, the values that are maximised
Handover: TypeAlias = Any  # what a scale leaves to the next: an image, or an `optimize.Handover`

# Type of the argument `ahead` of `descend`: a function that begins to prepare the next scale. It gets
# the index of the current scale, and the state. It returns a function that waits for what `measure`
# returns at the next scale; or None, if it does not prepare that scale.
Ahead: TypeAlias = Callable[[int, LoopState], Callable[[], Any] | None]


class Position(NamedTuple):
    """A position in a run: the scale, the updates done, the loop's state, the losses so far."""

    scale: int = 0  # index of the scale; 0 is the coarsest
    step: int = -1  # updates so far, over all scales; -1: no losses computed yet
    state: LoopState | None = None  # the loop's state at this scale; None: no losses computed yet
    # The losses of all canvases so far, as consecutive parts; empty if losses are not recorded.
    history: tuple[Values, ...] = ()


@runtime_checkable
class Canvas(Protocol):
    """What `descend` optimises: the canvas of one picture or dream, or all canvases of a batch.

    In the methods, `scale` is the index of a scale; 0 is the coarsest.
    """

    def measure(self, scale: int) -> Any:
        """Compute what a scale needs beforehand, such as targets.

        The result is the argument `measured` of `start` and `run`.
        """
        ...

    def start(self, scale: int, measured: Any, before: Handover | None) -> LoopState:
        """Return a fresh state for a scale.

        `before` is what `hand_over` returned for the scale before; None at the coarsest scale.
        """
        ...

    def run(
        self, scale: int, state: LoopState, measured: Any, steps: int
    ) -> tuple[LoopState, Values | None]:
        """Run `steps` steps of the loop, each of which computes the losses of one canvas.

        Returns:
          The state after these steps; and the losses of each step, or None if losses are not recorded.
        """
        ...

    def hand_over(self, scale: int, state: LoopState) -> Handover:
        """Return what the scale after `scale` starts from; `state` is the last state at `scale`."""
        ...

    def is_broken(self, state: LoopState) -> bool:
        """Return whether the run must end early because the losses are no longer finite."""
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

    In a new run, the first position comes when the losses of the first canvas are known, before any
    update.
    Enlarging the canvas to the next scale counts as the last update of the coarser scale, so that n
    updates give n + 1 losses.

    Args:
      canvas: the canvas of one picture, or the canvases of a batch.
      scales: the scales of the run, coarse to fine.
      intervals: an infinite iterator of the numbers of updates between two positions.
      position: the position at which the run continues; it is yielded first. None starts a new run.
      ahead: a function that prepares the next scale (its targets and programs) while the current scale
        is painted. It is called with the index of the current scale and the state. It returns a
        function that waits for the result of `measure` at the next scale, or None if it does not
        prepare that scale. None: no scale is prepared ahead.
      at_scale_ends: whether the position at the end of each scale is also yielded.

    Yields:
      The positions. The last one is after all updates, or where the losses stopped being finite.
    """
    *ends, total = itertools.accumulate(scale.steps for scale in scales)
    ends = [*(end - 1 for end in ends), total]
    index, done, state, history = position or Position()
    wanted = 1 if state is None else 0
    # The function that `ahead` returned, which waits for the targets of the next scale and returns
    # them; None if the next scale is not being prepared.
    next_measured: Callable[[], Any] | None = None
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
            # `ahead` compiles the programs of the next scale. It is called only after the first
            # position is yielded, so that this does not delay the caller's first snapshot.
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
