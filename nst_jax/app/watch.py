"""Waiting for arrays that JAX computes, in short pauses, between which Python can handle signals.

Some of these arrays are targets: what the losses compare the picture with. Computing the targets is
called measuring. Its duration is recorded, and its progress is shown.
"""

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from nst_jax import measuring
from nst_jax.app.formatting import duration
from nst_jax.app.progress import Display, time_left
from nst_jax.app.timing import CompileClock, Timed

LONGEST_PAUSE = 0.05  # longest pause in seconds between two checks of whether arrays are computed
# While a run's targets (what the losses compare the picture with) are computed, the time left is shown
# only when this fraction of the arithmetic operations is done. Before, it could not be estimated well.
TELLING_SHARE = 0.05


def _nothing() -> None:
    pass


class PollingWatch(measuring.Watch):
    """Waits until arrays are computed, in short pauses, so that Python can run handlers of signals.

    During a single long call of JAX, no handler could run.
    """

    def __init__(self, look: Callable[[], Any] = _nothing) -> None:
        """Make a watch.

        Args:
          look: a function without arguments, such as one that shows progress. It is called while the
            watch waits, about 20 times a second, at first more often. If it raises an error, the
            waiting ends.
        """
        self._look = look

    def look(self) -> None:
        """Call the watch's function `look` once; for code that waits for other things than arrays."""
        self._look()

    def wait(self, arrays: Any) -> None:
        begun = time.monotonic()
        for array in jax.tree.leaves(arrays):
            while not array.is_ready():
                self._look()
                # A pause is about a hundredth of the time waited so far, within limits, so that the end
                # of a short computation is noticed soon.
                time.sleep(min(LONGEST_PAUSE, max(1e-4, (time.monotonic() - begun) / 100)))
        super().wait(arrays)


class MeasuringWatch(PollingWatch):
    """Times the computing of a run's targets (measuring), shows its progress, and can stop it.

    The targets are what the losses compare the picture with. They are computed in pieces, each from one
    picture or one tile of a large picture: some by the thread that made this watch, some by other
    threads.

    Attributes:
      timed: the number of arithmetic operations, and the seconds, of those pieces that were computed by
        the thread that made this watch.
      stopped: a function that returns whether the run is to end. It is called every few hundredths of a
        second while this watch waits. If it returns true, KeyboardInterrupt is raised.
    """

    def __init__(
        self,
        compiling: CompileClock,
        display: Display,
        operations: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Make a watch that belongs to the calling thread.

        Args:
          compiling: the run's clock for compiling. It also counts the times in which this thread waits
            for another thread, which `seconds_elsewhere` reads.
          display: where progress is shown.
          operations: number of arithmetic operations that it takes to compute all targets of the run.
          clock: returns the time in seconds; tests pass their own function.
        """
        super().__init__(self._see)
        self.timed = Timed(0.0, 0.0)
        self.stopped: Callable[[], bool] = lambda: False
        self._compiling, self._display = compiling, display
        self._thread, self._clock = threading.get_ident(), clock
        self._operations, self._done = operations, 0.0
        # When the thread that made this watch began to wait for its latest piece of the targets, in
        # seconds of the clock.
        self._begun = 0.0
        # For each piece that another thread started: the clock's times, in seconds, when that thread
        # began to wait for the piece, and when the piece was computed.
        self._elsewhere: list[tuple[float, float]] = []

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if `stopped` returns true."""
        if self.stopped():
            raise KeyboardInterrupt

    def _see(self) -> None:
        self.stop_if_asked()
        if self._is_here():
            done, seconds = self.timed
            spent = self._clock() - self._begun
            words = f"{duration(seconds + spent)} so far"
            if self._done > TELLING_SHARE * self._operations and done:
                left = seconds * (self._operations - self._done) / done - spent
                words = time_left(left) if left > 0 else words
            share = min(1.0, self._done / self._operations)
            self._display.stage(f"measuring the pictures, {share:.0%}", words)

    def _is_here(self) -> bool:
        return threading.get_ident() == self._thread

    def wait_for_piece(self, arrays: Any, operations: float) -> None:
        begun = self._clock()
        if self._is_here():
            self._begun = begun
        self.wait(arrays)
        self._done += operations
        if self._is_here():
            done, seconds = self.timed
            self.timed = Timed(done + operations, seconds + self._clock() - begun)
        else:
            self._elsewhere.append((begun, self._clock()))

    @property
    def seconds(self) -> float:
        """Seconds for which the thread that made this watch has waited for the targets."""
        return self.timed.seconds + self.seconds_elsewhere

    @property
    def seconds_elsewhere(self) -> float:
        """The part of `seconds` for which the thread waited while another thread computed targets.

        The run's `CompileClock` counts every wait for another thread as compiling, and so this time,
        too. A caller that adds the clock's seconds to `seconds` must subtract this part once.
        """
        return sum(
            max(0.0, min(end, until) - max(begun, since))
            for begun, end in self._elsewhere
            for since, until in self._compiling.waits
        )
