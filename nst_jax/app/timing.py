"""Time: how long chunks are, how long the rest takes, and how much of it was compilation."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import jax

from nst_jax.prepare import Scale
from nst_jax.scaling.costs import FIXED_PIXELS

CHUNK_SECONDS = 1.0  # between snapshots, where steps are shorter than that

COMPILE_EVENTS = "/jax/core/compile/"  # tracing, lowering, compiling


def cost(scale: Scale) -> int:
    """Return what a step at this scale costs, in pixels."""
    return scale.shape[0] * scale.shape[1] + FIXED_PIXELS


class CompileClock(AbstractContextManager):
    """Seconds that tracing and compiling held up the thread that opened it, from jax's own events."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._spans: list[tuple[float, float]] = []
        self._open = True
        jax.monitoring.register_event_duration_secs_listener(self._hear)

    def __exit__(self, *exception: object) -> None:
        self._open = False
        # Older versions of jax cannot unregister; there a closed clock stays and hears nothing.
        unregister = getattr(jax.monitoring, "unregister_event_duration_listener", None)
        if unregister is not None:
            unregister(self._hear)

    def _hear(self, event: str, duration_secs: float, **kwargs: Any) -> None:
        del kwargs
        # Told in the thread that compiles; what another one does holds up nothing.
        if not self._open or threading.get_ident() != self._thread:
            return
        if event.startswith(COMPILE_EVENTS):
            self._add(duration_secs)

    def _add(self, seconds: float) -> None:
        end = time.perf_counter()
        start = end - seconds
        # Events nest (a trace within a trace) and are told when they end: the outer one comes last
        # and takes the place of what it contains.
        while self._spans and self._spans[-1][0] >= start:
            self._spans.pop()
        self._spans.append((start, end))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time in here: this thread waits for what another one compiles."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._add(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        """The time so far."""
        return sum(end - start for start, end in self._spans)


class Lap(NamedTuple):
    """The time between two snapshots, without compilation."""

    begun: float  # seconds since the first snapshot
    seconds: float

    def spread(self, count: int) -> list[float]:
        """Return when each of `count` canvases was measured, if all took alike."""
        return [self.begun + self.seconds * (index + 1) / count for index in range(count)]


class Stopwatch:
    """Laps between snapshots. The first lap, up to the start's losses, counts as nothing.

    A run that goes on begins with the seconds that it `elapsed` before.
    """

    def __init__(
        self,
        compiling: CompileClock,
        clock: Callable[[], float] = time.perf_counter,
        *,
        elapsed: float = 0.0,
    ) -> None:
        self._compiling, self._clock = compiling, clock
        self._last: tuple[float, float] | None = None  # wall, compile
        self.elapsed = elapsed

    def lap(self) -> Lap:
        """End a lap and begin the next."""
        wall, compiling = self._clock(), self._compiling.seconds
        before = self._last or (wall, compiling)
        self._last = wall, compiling
        seconds = max(0.0, wall - before[0] - (compiling - before[1]))
        lap = Lap(self.elapsed, seconds)
        self.elapsed += seconds
        return lap


class Timed(NamedTuple):
    """What all updates that were timed have cost."""

    cost: float
    seconds: float


class Pace(Iterator[int]):
    """Lengths of chunks, for `paint` to draw: about a second by the clock, and never past a stop.

    Stops are the multiples of `every` and of `also`, and the last update of each scale. The first
    chunk of a scale is one step, which compiles and tells how long the others take. The run begins
    with `done` updates. `costs` are of an update at each scale, in any unit; without, they go by the
    pixels.
    """

    def __init__(
        self,
        scales: Sequence[Scale],
        every: int | None = None,
        *,
        also: int | None = None,
        done: int = 0,
        costs: Sequence[float] | None = None,
    ) -> None:
        self._strides = [stride for stride in (every, also) if stride]
        self._cost = [cost(scale) for scale in scales] if costs is None else list(costs)
        # The coarser scales end one update early: going up is their last.
        self._ends = [sum(s.steps for s in scales[: i + 1]) - 1 for i in range(len(scales))]
        self._ends[-1] += 1
        self.done = done
        # Of the last scale that was timed:
        self._measured, self._steps, self._seconds = -1, 0, 0.0
        self.timed = Timed(0.0, 0.0)

    @property
    def ends(self) -> Sequence[int]:
        """The updates with which the scales end."""
        return self._ends

    @property
    def total(self) -> int:
        """The number of updates in all."""
        return self._ends[-1]

    def advance(self, step: int, seconds: float) -> None:
        """Tell that the updates up to `step` took so long, without compilation."""
        if step > self.done:
            scale = self.scale_of(step)
            if scale != self._measured:
                self._measured, self._steps, self._seconds = scale, 0, 0.0
            self._steps += step - self.done
            self._seconds += seconds
            costs = (step - self.done) * self._cost[scale]
            self.timed = Timed(self.timed.cost + costs, self.timed.seconds + seconds)
        self.done = step

    def scale_of(self, step: int) -> int:
        """Return the scale whose canvas has had `step` updates."""
        return next((i for i, end in enumerate(self._ends) if step <= end), len(self._ends) - 1)

    def __next__(self) -> int:
        scale = self.scale_of(self.done + 1)
        lengths = [1]
        if scale == self._measured:
            step = max(self._seconds / self._steps, 1e-4)
            lengths = [max(1, int(CHUNK_SECONDS / step))]
        lengths += [stride - self.done % stride for stride in self._strides]
        lengths.append(max(1, self._ends[scale] - self.done))
        return min(lengths)

    def seconds_left(self, compile_seconds: float = 0.0) -> float | None:
        """Estimate the rest of the run, or None before anything was timed.

        Args:
          compile_seconds: how long one scale takes to compile. That goes on while the scale before
            runs, so only what is longer than that is added.

        Returns:
          Seconds.
        """
        if self._measured < 0:
            return None
        unit = self._seconds / self._steps / self._cost[self._measured]
        left, done, begun = 0.0, self.done, 0
        present = self.scale_of(self.done)
        for scale, (end, cost) in enumerate(zip(self._ends, self._cost, strict=True)):
            left += max(0, end - done) * cost * unit
            done = max(done, end)
            if present <= scale < len(self._ends) - 1:
                left += max(0.0, compile_seconds - (end - begun) * cost * unit)
            begun = end
        return left
