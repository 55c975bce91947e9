"""Waiting for arrays: signals are heard meanwhile, and the measuring of targets is timed and shown."""

import threading
import time
from collections.abc import Callable
from typing import Any

import jax

from nst_jax import measuring
from nst_jax.app.formatting import duration
from nst_jax.app.progress import Display, time_left
from nst_jax.app.timing import CompileClock, Timed

LONGEST_PAUSE = 0.05  # seconds between two looks at whether arrays are computed
TELLING_SHARE = 0.05  # share of measuring that must be done before a time left is shown


def _nothing() -> None:
    pass


class PollingWatch(measuring.Watch):
    """Waits in short pauses, between which Python runs the handlers of signals."""

    def __init__(self, look: Callable[[], Any] = _nothing) -> None:
        """Make a watch that calls `look` every few hundredths of a second while it waits.

        An error that `look` raises ends the waiting.
        """
        self._look = look

    def look(self) -> None:
        """Call the function that was given as `look`."""
        self._look()

    def wait(self, arrays: Any) -> None:
        begun = time.monotonic()
        for array in jax.tree.leaves(arrays):
            while not array.is_ready():
                self._look()
                # Short pauses at first, so that at most a hundredth of the time is wasted.
                time.sleep(min(LONGEST_PAUSE, max(1e-4, (time.monotonic() - begun) / 100)))
        super().wait(arrays)


class MeasuringWatch(PollingWatch):
    """Times and shows the measuring (computing) of one picture's targets; ends it if the run shall end.

    Attributes:
      timed: operations and seconds of what was measured while the thread that made this watch waited
        for it.
      stopped: returns whether the run shall end.
    """

    def __init__(
        self,
        compiling: CompileClock,
        display: Display,
        operations: float,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Make a watch for the thread that calls this.

        Args:
          compiling: the clock of the run; it knows when this thread waited for another one.
          display: where progress is shown.
          operations: number of operations of measuring at all scales that this run paints.
          clock: returns seconds; tests pass their own.
        """
        super().__init__(self._see)
        self.timed = Timed(0.0, 0.0)
        self.stopped: Callable[[], bool] = lambda: False
        self._compiling, self._display = compiling, display
        self._thread, self._clock = threading.get_ident(), clock
        self._operations, self._done = operations, 0.0
        self._begun = 0.0  # when this thread began to wait for a piece
        # Begin and end, by the clock, of each time for which another thread waited for a piece.
        self._elsewhere: list[tuple[float, float]] = []

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if the run shall end."""
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
        """Seconds for which the thread that made this watch was kept waiting by measuring."""
        return self.timed.seconds + self.seconds_elsewhere

    @property
    def seconds_elsewhere(self) -> float:
        """The part of `seconds` in which this thread waited for another one that measured.

        The `CompileClock` of the run counts this part as compiling.
        """
        return sum(
            max(0.0, min(end, until) - max(begun, since))
            for begun, end in self._elsewhere
            for since, until in self._compiling.waits
        )
