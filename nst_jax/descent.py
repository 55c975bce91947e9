"""The loop over the scales (resolutions) of a run, coarse to fine; for one canvas or for a batch.

A canvas is a picture that is optimised: a painting, or a dream (Deep Dream).
"""

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np

from nst_jax import _checks, optimize
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale

# The types of three values that methods of a `Canvas` return. The loop `descend` passes them to other
# methods of the same `Canvas` or yields them in a `Position`. It does not read what is in them.
LoopState: TypeAlias = Any  # a `State`, the `State` of a batch, or the `DreamState` of a dream
Values: TypeAlias = Any  # the losses of each step; in a dream, the values that are maximised
Handover: TypeAlias = Any  # what the next scale begins with: an image, or an `optimize.Handover`

# Type of the argument `ahead` of `descend`: a function that begins to prepare the next scale while the
# current one is painted. Its arguments are the index of the current scale and the state. If it prepares
# nothing, it returns None. Otherwise it returns a function that waits for the targets of the next scale
# (the result of `Canvas.measure`) and returns them.
Ahead: TypeAlias = Callable[[int, LoopState], Callable[[], Any] | None]

# Type of a function that starts some work, possibly in another thread. It is called with a function
# without arguments, which does the work. It returns a function that waits until the work is done and
# returns the result of the work.
Begin: TypeAlias = Callable[[Callable[[], Any]], Callable[[], Any]]


class Position(NamedTuple):
    """How far a run has come: its scale, number of updates, state of the loop, and losses so far."""

    scale: int = 0  # index of the scale (resolution); 0 is the coarsest
    step: int = -1  # updates so far, over all scales; -1: no losses computed yet
    state: LoopState | None = None  # the loop's state at this scale; None: no losses computed yet
    # The losses so far, one item for each call of `Canvas.run`; empty if losses are not recorded.
    history: tuple[Values, ...] = ()


@runtime_checkable
class Canvas(Protocol):
    """What `descend` optimises: the canvas of one picture or dream, or all canvases of a batch.

    In the methods, `scale` is the index of a scale (resolution); 0 is the coarsest.
    """

    def measure(self, scale: int) -> Any:
        """Compute what is needed before the first update of a scale, such as the targets.

        The losses compare the canvas with the targets, such as the Gram matrices of the style.

        The result is passed to `start` and `run` as their argument `measured`.
        """
        ...

    def start(self, scale: int, measured: Any, before: Handover | None) -> LoopState:
        """Return a fresh state for a scale.

        `measured` is what `measure` returned for this scale. `before` is what `hand_over` returned for
        the scale before; None at the coarsest scale.
        """
        ...

    def run(
        self, scale: int, state: LoopState, measured: Any, steps: int
    ) -> tuple[LoopState, Values | None]:
        """Make `steps` steps. Each computes the losses of the canvas, and from these the next canvas.

        Args:
          scale: index of the scale.
          state: the state from `start` or an earlier call.
          measured: what `measure` returned for this scale.
          steps: number of steps.

        Returns:
          The state after these steps; and the losses of each step, or None if losses are not recorded.
        """
        ...

    def hand_over(self, scale: int, state: LoopState) -> Handover:
        """Return what the next scale starts from, given the last `state` at `scale`."""
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
    reached: Callable[[Position], Any] = lambda position: None,
) -> Iterator[Position]:
    """Optimise a canvas at each scale in turn; after every interval, yield how far the run has come.

    A new run yields its first `Position` when the losses of the first canvas are known, before any
    update. The step to the next scale, which enlarges the canvas, counts as the last update of the
    coarser scale. So a run of n updates has n + 1 canvases, each with its losses, however many scales
    there are.

    Args:
      canvas: the canvas of one picture or dream, or the canvases of a batch.
      scales: the scales of the run, coarse to fine.
      intervals: an infinite iterator of numbers of updates, from one yielded `Position` to the next.
      position: the `Position` from which an earlier run continues; it is yielded first. None starts a
        new run.
      ahead: a function that prepares the next scale (its targets and programs) while the current scale
        is painted; see `Ahead`. None: no scale is prepared before its turn.
      at_scale_ends: whether a `Position` is also yielded at the end of each scale.
      reached: called with the `Position` after each call of `canvas.run`, whether it is yielded or not.

    Yields:
      A `Position` after each interval. The last one is after all updates, or where the losses stopped
      being finite.
    """
    *ends, total = itertools.accumulate(scale.steps for scale in scales)
    ends = [*(end - 1 for end in ends), total]
    index, done, state, history = position or Position()
    wanted = 1 if state is None else 0
    # The function that `ahead` returned. It waits for the targets of the next scale and returns them.
    # None if the next scale is not being prepared.
    next_measured: Callable[[], Any] | None = None
    measured: Any = None
    before: Handover | None = None
    while True:
        if state is not None:
            reached(here := Position(index, done, state, history))
            over = done == total or canvas.is_broken(state)
            if wanted == 0 or over or (at_scale_ends and done == ends[index]):
                yield here
                if over:
                    return
                wanted = next(intervals)
            # `ahead` begins to compile the programs of the next scale. It is called only after the
            # first `Position` is yielded, so that the caller gets its first picture without delay.
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
    """Return whether a finished run changed nothing: at each scale, the last loss equals the first.

    A scale is one of the resolutions of the run, coarse to fine. If the loss is 0 from the beginning,
    there was nothing to change, and the result is False.

    Args:
      totals: the total losses of the first canvas and after each update, [updates + 1].
      scales: the scales of the run.
    """
    ends = list(itertools.accumulate(scale.steps for scale in scales))[:-1]
    # The loss after the last update of a scale is computed at the next scale. So a scale with one
    # update, unless it is the last scale, has a single loss. With nothing to compare, it is left out.
    parts = [part for part in np.split(totals, ends) if len(part) > 1]
    return bool(parts) and all(part[-1] == part[0] != 0 for part in parts)


# A run has come to rest at a scale (resolution) if the last losses of the scale are equal: at least
# `REST_LOSSES` of them, and at least the share `REST_SHARE` of all losses of the scale. It has come to
# rest far from its goal if the last loss is also more than `REST_LEVEL` times the first loss of the
# scale.
REST_LOSSES, REST_SHARE, REST_LEVEL = 10, 0.5, 0.95


class Rest(NamedTuple):
    """How a finished run came to rest: its loss stopped changing while still high; see `rest_of`."""

    after: int  # the last update that changed the loss, numbered from 1 through all scales
    updates: int  # number of updates of the run
    share: float  # the last loss of the last scale, divided by the first loss of that scale

    @property
    def words(self) -> str:
        """The fields as a clause for a message."""
        since = f"the loss has not changed since update {self.after} of {self.updates}"
        if self.share < 10:
            return f"{since} and is still {100 * self.share:.3g} % of the first one"
        return f"{since} and is {self.share:.3g} times the first one"


def rest_of(totals: np.ndarray, scales: Sequence[Scale]) -> Rest | None:
    """Return when a finished run came to rest far from its goal; None if it did not.

    A run came to rest far from its goal if, at every scale (resolution), the last half of the losses
    (at least 10) are equal, and above 95 % of the first loss of the scale. This happens to an L-BFGS
    that does not undo bad updates: after a single update that was far too long, its memory makes all
    later updates too short to change a pixel.

    Args:
      totals: the total losses of the first canvas and after each update, [updates + 1].
      scales: the scales of the run.
    """
    ends = list(itertools.accumulate(scale.steps for scale in scales))[:-1]
    # A scale with a single loss is left out, since there is no second loss to compare the first with.
    parts = [part for part in np.split(totals, ends) if len(part) > 1]
    for part in parts:
        resting = _equal_at_the_end(part)
        if resting < max(REST_LOSSES, REST_SHARE * len(part)):
            return None
        if not (np.isfinite(part[-1]) and part[-1] > REST_LEVEL * part[0]):
            return None
    # There is no answer if no scale has two losses, or if the last scale begins with a loss of 0: the
    # ratio below would divide by it.
    if not parts or parts[-1][0] == 0:
        return None
    last, updates = parts[-1], len(totals) - 1
    return Rest(updates + 1 - _equal_at_the_end(last), updates, float(last[-1]) / float(last[0]))


def _equal_at_the_end(losses: np.ndarray) -> int:
    """Return how many losses at the end of the array are equal: at least 1, or 0 if the last is NaN."""
    others = np.flatnonzero(losses != losses[-1])
    return len(losses) - (int(others[-1]) + 1 if len(others) else 0)


def remedy_at_rest(recipe: Recipe) -> str:
    """Return advice, as a phrase for a message, for a run whose loss stays constant but high."""
    # A guarded optimiser undoes updates that raise the loss. So it comes to rest only where no small
    # update lowers the loss, and only another loss or another start can help.
    if recipe.descent.optimizer.guarded:
        return "a larger style weight or another start"
    # The advice is the guarded optimiser `LBFGS`. The default lengths of its moves suit pixels in
    # [0, 1], which are the coordinates `raw`. The other settings named here are added only if the
    # recipe has other values, which are refused together with `LBFGS`.
    descent = recipe.descent
    settings = {
        "optimizer=LBFGS": True,
        "coordinates=raw": True,
        "clip=false": descent.clip,
        "pyramid_levels=0": descent.pyramid_levels,
        "average_decay=none": descent.average_decay is not None,
        "last_learning_rate=none": descent.last_learning_rate is not None,
    }
    named = ", ".join(f"`descent.{setting}`" for setting, needed in settings.items() if needed)
    return f"an optimiser that undoes bad moves: {named}"


def updates_of_broken(broke_at: int, scales: Sequence[Scale]) -> int:
    """Return how many updates the picture of a run has had whose losses stopped being finite.

    The picture is the last canvas with finite losses, one update before those that are not finite. But
    if the losses of the first canvas of a scale (resolution) are not finite, it is that canvas.

    Args:
      broke_at: number of updates, over all scales, after which the losses or their gradient were not
        finite; 0 for the start.
      scales: the scales of the run.

    Example:
      >>> from nst_jax.run_scales import Scale
      >>> scales = [Scale((32, 32), ((32, 32),), 3), Scale((64, 64), ((64, 64),), 2)]
      >>> [updates_of_broken(broke_at, scales) for broke_at in range(6)]
      [0, 0, 1, 3, 3, 4]
    """
    starts = {0, *itertools.accumulate(scale.steps for scale in scales[:-1])}
    return broke_at if broke_at in starts else broke_at - 1


def intervals_of(every: int | Iterable[int], *, done: int = 0) -> Iterator[int]:
    """Return the argument `intervals` of `descend`: an infinite iterator of numbers of updates.

    Each number says how many updates there are from one yielded `Position` to the next.

    Args:
      every: the length of all intervals, or an iterable of their lengths. Each length is checked when
        it is needed; after the last one, a single interval lasts to the end of the run.
      done: number of updates already done. If `every` is a number, the first interval ends when the
        number of updates is a multiple of `every`. If `every` is an iterable, `done` is not used.

    Raises:
      TypeError: if a length is not a whole number.
      ValueError: if a length is under 1.
    """
    # An array without axes is an `Iterable`, but cannot be iterated over.
    is_single = isinstance(every, str) or getattr(every, "shape", None) == ()
    if isinstance(every, Iterable) and not is_single:
        return itertools.chain(map(_interval, every), itertools.repeat(sys.maxsize))
    interval = _interval(every)
    return itertools.chain([interval - done % interval], itertools.repeat(interval))


def _interval(every: Any) -> int:
    if isinstance(every, bool) or not isinstance(every, (int, np.integer)):
        raise TypeError(f"`every`: expected a whole number of updates, got {_checks.shown(every)}")
    _checks.number("every", every, least=1)
    return int(every)
