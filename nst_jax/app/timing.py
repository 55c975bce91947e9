"""Timing of runs: how often a snapshot is taken, the time left, the time spent on compilation.

A run changes its canvas, the picture that is painted, by many updates, at one or several scales
(resolution levels). After every few updates, it yields a snapshot of the canvas and the losses. The
targets, which the losses compare the canvas with, are computed before the updates; computing them is
called measuring.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import jax

from nst_jax.run_scales import Scale
from nst_jax.scaling.operations import fixed_pixels

INTERVAL_SECONDS = 1.0  # intended time between two snapshots; longer if one update takes longer

COMPILE_EVENTS = "/jax/core/compile/"  # prefix of JAX's events for tracing, lowering, compiling
# JAX reports this event when it loads a program from its cache, with the seconds that this saved.
SAVED_EVENT = "/jax/compilation_cache/compile_time_saved_sec"
# A program that is loaded from the cache makes the measured time of compiling too short. It is counted
# in `CompileClock.loaded` only if more seconds than this were saved: fewer hardly matter.
LEAST_SAVED = 1.0


def update_cost(scale: Scale) -> int:
    """Return the cost of an update, as a number of pixels: those of the scale plus a fixed number.

    A scale is a resolution of the picture. The fixed number stands for the overhead of an update, which
    takes as long as computing that many pixels.
    """
    return scale.shape[0] * scale.shape[1] + fixed_pixels(jax.default_backend())


class CompileClock(AbstractContextManager):
    """Counts the seconds for which tracing and compiling block the thread that made the clock.

    The durations come from JAX's own monitoring events. The clock is a context manager: it counts until
    the `with` block ends. The time of a block within `waiting`, in which the thread waits for another
    thread to compile, counts too.

    Attributes:
      loaded: number of programs that were loaded from JAX's compilation cache, each of which saved over
        `LEAST_SAVED` seconds of compiling. If there are any, compiling all programs would take longer
        than `seconds`.
      waits: start and end, by `time.perf_counter`, of each time in which the thread waited for another
        thread. A caller that measures waiting itself reads this list, so as to count no wait twice.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._spans: list[tuple[float, float]] = []
        self.waits: list[tuple[float, float]] = []
        self.loaded = 0
        self._open = True
        jax.monitoring.register_event_duration_secs_listener(self._on_event)

    def __exit__(self, *exception: object) -> None:
        self._open = False
        # Older versions of JAX cannot unregister a listener; with them it stays and ignores all events.
        unregister = getattr(jax.monitoring, "unregister_event_duration_listener", None)
        if unregister is not None:
            unregister(self._on_event)

    def _on_event(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        del kwargs
        # JAX calls this method in the thread that compiles. Only events of the thread that made the
        # clock are counted.
        if not self._open or threading.get_ident() != self._thread:
            return
        if event.startswith(COMPILE_EVENTS):
            self._add(duration_secs)
        elif event == SAVED_EVENT and duration_secs > LEAST_SAVED:
            self.loaded += 1

    def _add(self, seconds: float) -> None:
        end = time.perf_counter()
        start = end - seconds
        # An event may contain others (a trace within a trace), and is reported when it ends. So the
        # outer event is reported last, and its span replaces the spans of the events inside it.
        while self._spans and self._spans[-1][0] >= start:
            self._spans.pop()
        self._spans.append((start, end))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Context manager: count as compiling the time of a block that waits for another thread.

        The other thread compiles programs, and may compute targets of the losses as well.
        """
        start = time.perf_counter()
        try:
            yield
        finally:
            end = time.perf_counter()
            self.waits.append((start, end))
            self._add(end - start)

    @property
    def seconds(self) -> float:
        """The seconds of tracing, compiling and waiting so far."""
        return sum(end - start for start, end in self._spans)


class Lap(NamedTuple):
    """The time between two snapshots of a run, less the time of compiling and of computing targets."""

    begun: float  # start of the lap: the sum of all laps before it, in seconds
    seconds: float  # length of the lap

    def spread(self, count: int) -> list[float]:
        """Return the times at which the lap's `count` updates were done, if all took equally long.

        The times are in seconds since the run began; as in `begun`, the time of compiling and of
        computing targets is left out. In a run's first lap, the initial canvas counts as an update,
        since its losses are computed and logged, too.
        """
        return [self.begun + self.seconds * (index + 1) / count for index in range(count)]


class Stopwatch:
    """Measures laps: a lap is the time from one call of `lap` to the next.

    A run, for example, calls `lap` at each snapshot. The time of compiling, and of computing the
    targets (what the losses compare the picture with), is left out. The first call of `lap` returns a
    lap of 0 seconds. The attribute `elapsed` is the sum of all laps so far, in seconds.

    The argument `compiling` counts the seconds of compiling, and `clock` returns the time in seconds.
    For a resumed run, the argument `elapsed` is the sum of the laps up to its checkpoint. The function
    `measuring` returns the seconds that computing targets has taken so far.
    """

    def __init__(
        self,
        compiling: CompileClock,
        clock: Callable[[], float] = time.perf_counter,
        *,
        elapsed: float = 0.0,
        measuring: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._compiling, self._clock, self._measuring = compiling, clock, measuring
        # Two numbers taken at the end of the last lap: the time by the clock, and the sum of the
        # seconds of compiling and of computing targets so far. None before the first call of `lap`.
        self._last: tuple[float, float] | None = None
        self.elapsed = elapsed

    def lap(self) -> Lap:
        """End the current lap, begin the next one, and return the lap that ended.

        Compiling and computing targets do not count in the length of the lap.
        """
        wall, others = self._clock(), self._compiling.seconds + self._measuring()
        before = self._last or (wall, others)
        self._last = wall, others
        seconds = max(0.0, wall - before[0] - (others - before[1]))
        lap = Lap(self.elapsed, seconds)
        self.elapsed += seconds
        return lap


class Timed(NamedTuple):
    """How much work of a run was timed, such as its updates, and how long this work took."""

    # The amount of work, as a number of arithmetic operations. If `IntervalChooser` timed it, the unit
    # is that of its argument `costs`.
    cost: float
    seconds: float  # time that the work took, without compilation


class Range(NamedTuple):
    """A range of expected values, such as seconds: the least and the largest."""

    least: float
    most: float


class Pace:
    """The seconds per unit of cost in the last laps, from which a range of times is estimated.

    A lap is the work between two snapshots of a run, and its cost is the amount of this work, such as a
    number of operations. An estimate from few laps would be unreliable. So the seconds per unit of cost
    in earlier runs, if they are known, count as well until there are `LAPS` laps.
    """

    LAPS = 5  # number of laps that are remembered

    def __init__(self, expected: Range | None = None) -> None:
        self._expected = expected
        self._laps: deque[float] = deque(maxlen=self.LAPS)

    def afresh(self) -> "Pace":
        """Return a `Pace` for the next resolution level: with earlier runs' speed, but without laps."""
        return Pace(self._expected)

    def add(self, cost: float, seconds: float) -> None:
        """Add a lap whose work had the cost `cost`, in one unit for all laps, and took `seconds`."""
        if cost > 0:
            self._laps.append(seconds / cost)

    @property
    def range(self) -> Range:
        """The least and the most seconds per unit of cost, over the last laps.

        If there are fewer than `LAPS` laps, the numbers of earlier runs, if known, count as well. Both
        results are 0 if there is no lap and no number of an earlier run.
        """
        known = list(self._laps)
        if len(known) < self.LAPS and self._expected is not None:
            known += self._expected
        return Range(min(known, default=0.0), max(known, default=0.0))


class IntervalChooser(Iterator[int]):
    """Chooses how many updates a run makes between two snapshots: as many as take about a second.

    A snapshot is the picture after some updates, and a scale is one of the run's resolution levels.
    An interval ends early where the number of updates becomes a multiple of `every` or of a number in
    `also`, and at the end of a scale, just before the picture is enlarged to the next scale. The first
    interval of a scale is one update, whose time tells how long an update takes. The lengths of later
    intervals are computed from the time of all updates at this scale so far, without compilation.
    """

    def __init__(
        self,
        scales: Sequence[Scale],
        every: int | None = None,
        *,
        also: Sequence[int | None] = (),
        done: int = 0,
        costs: Sequence[float] | None = None,
        expected: Range | None = None,
    ) -> None:
        """Prepare to choose the intervals between the snapshots of one run.

        Args:
          scales: the scales (resolution levels) of the run.
          every: a snapshot is needed whenever the number of updates is a multiple of this number; None
            if there is no such need.
          also: further values like `every`, each a number or None.
          done: number of updates after which the run resumes; 0 for a new run.
          costs: cost (amount of work) of an update at each scale, in any unit; None means the costs
            that `update_cost` returns.
          expected: least and largest seconds per unit of cost in earlier runs; None if unknown.
        """
        self._strides = [stride for stride in (every, *also) if stride]
        self._cost = [update_cost(scale) for scale in scales] if costs is None else list(costs)
        # Enlarging the picture to the next scale counts as the last update of a scale. So every scale
        # but the final one ends one update before the sum of its updates and those of earlier scales.
        self._ends = [sum(s.steps for s in scales[: i + 1]) - 1 for i in range(len(scales))]
        self._ends[-1] += 1
        self.done = done
        # Index of the scale of the latest update that was timed (-1 if there is none), the number of
        # updates of this scale that were timed, and the seconds that these took.
        self._measured, self._steps, self._seconds = -1, 0, 0.0
        self._pace = Pace(expected)
        self.timed = Timed(0.0, 0.0)

    @property
    def ends(self) -> Sequence[int]:
        """For each scale (resolution level), the number of updates of the run until that scale ends."""
        return self._ends

    @property
    def total(self) -> int:
        """The number of updates of the whole run."""
        return self._ends[-1]

    def advance(self, step: int, seconds: float) -> None:
        """Record how long the updates since the last call took.

        Args:
          step: number of updates done since the start of the run.
          seconds: duration of the updates since the last call, without compilation.
        """
        if step > self.done:
            scale = self.scale_of(step)
            if scale != self._measured:
                self._measured, self._steps, self._seconds = scale, 0, 0.0
                self._pace = self._pace.afresh()
            self._steps += step - self.done
            self._seconds += seconds
            costs = (step - self.done) * self._cost[scale]
            self._pace.add(costs, seconds)
            self.timed = Timed(self.timed.cost + costs, self.timed.seconds + seconds)
        self.done = step

    def scale_of(self, step: int) -> int:
        """Return the index of the scale (resolution level) of the picture after `step` updates."""
        return next((i for i, end in enumerate(self._ends) if step <= end), len(self._ends) - 1)

    def __next__(self) -> int:
        scale = self.scale_of(self.done + 1)
        lengths = [1]
        if scale == self._measured:
            seconds_per_update = max(self._seconds / self._steps, 1e-4)
            lengths = [max(1, int(INTERVAL_SECONDS / seconds_per_update))]
        lengths += [stride - self.done % stride for stride in self._strides]
        lengths.append(max(1, self._ends[scale] - self.done))
        return min(lengths)

    def range_left(
        self, compile_seconds: float = 0.0, measuring: Sequence[float] | None = None
    ) -> Range | None:
        """Estimate the least and most seconds that the rest of the run takes, from the speed so far.

        Each scale (resolution level) is assumed to be prepared while the previous one is painted. So
        preparing a scale adds to the estimate only if it takes longer than painting the previous one.

        Args:
          compile_seconds: the seconds that preparing a scale takes, without the computation of its
            targets. They are spent above all on compiling its program.
          measuring: for each scale, the seconds that computing its targets takes. None means 0.

        Returns:
          The range, or None before anything was timed.
        """
        if self._measured < 0:
            return None
        return Range(*(self._left(unit, compile_seconds, measuring) for unit in self._pace.range))

    def _left(
        self, unit: float, compile_seconds: float, measuring: Sequence[float] | None = None
    ) -> float:
        """Return the seconds that the rest of the run takes, if a unit of cost takes `unit` seconds.

        The cost of updates is their amount of work, computed from `costs` of `__init__`. The other
        arguments are those of `range_left`.
        """
        left, done, begun = 0.0, self.done, 0
        present = self.scale_of(self.done)
        for scale, (end, cost) in enumerate(zip(self._ends, self._cost, strict=True)):
            left += max(0, end - done) * cost * unit
            done = max(done, end)
            if present <= scale < len(self._ends) - 1:
                preparing = compile_seconds + (measuring[scale + 1] if measuring else 0.0)
                left += max(0.0, preparing - (end - begun) * cost * unit)
            begun = end
        return left
