"""The queue of runs on one device: one paints, the others wait and know their place.

Nothing here knows of HTTP or of jax.
"""

import logging
import threading
from collections.abc import Sequence

from nst_jax.app.web import limits
from nst_jax.app.web.run import ENDED, Failure, Run, RunState, Wish

LOGGER = logging.getLogger(__name__)


class Queue:
    """Runs in the order in which they asked for the device.

    `serve` is the loop of the thread that paints; all other methods may be called by any thread.
    """

    def __init__(self, most: int = limits.MOST_RUNS) -> None:
        """Make an empty queue, in which at most `most` runs wait or paint."""
        self._most = most
        self._line: list[Run] = []  # that which paints, if any, is the first
        self._changed = threading.Condition(threading.RLock())
        self._closed = False

    # --- What visitors ask ------------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Put a new run, or one that goes on, at the end of the line.

        Raises:
          ValueError: if too many runs wait already.
        """
        with self._changed:
            if len(self._line) >= self._most:
                raise ValueError(
                    f"run: {len(self._line)} runs are waiting for this machine already; try again later"
                )
            run.state, run.why, run.request = RunState.WAITING, "", Wish.NOTHING
            self._line.append(run)
            self._changed.notify_all()

    def go_on(self, run: Run) -> None:
        """Let a paused run wait for its next turn; a request to pause that is not heard yet is off.

        Raises:
          ValueError: as in `add`.
        """
        with self._changed:
            if run.state is RunState.PAINTING and run.request is Wish.PAUSE:
                run.request = Wish.NOTHING
            elif run.state is RunState.PAUSED:
                self.add(run)

    def pause(self, run: Run, why: str = "") -> None:
        """Let a run wait until it is asked to go on; the device is free for others meanwhile."""
        with self._changed:
            if run.state is RunState.WAITING:
                self._line.remove(run)
                run.state, run.why = RunState.PAUSED, why
            elif run.state is RunState.PAINTING and run.request is Wish.NOTHING:
                run.request, run.why = Wish.PAUSE, why

    def stop(self, run: Run) -> None:
        """End a run; its last picture is its result."""
        with self._changed:
            if run.state is RunState.PAINTING:
                run.request = Wish.STOP
            elif run.state not in ENDED:
                if run.state is RunState.WAITING:
                    self._line.remove(run)
                run.state, run.why = RunState.STOPPED, ""
                run.work.close()

    def go_back(self, run: Run, step: int) -> None:
        """Let a run go back to its picture after `step` updates and pause there, also if it had ended.

        Its later pictures are deleted.

        Raises:
          ValueError: if there is no such picture.
        """
        with self._changed:
            if run.picture(step) is None:
                raise ValueError("run: this picture is no longer here; choose another")
            if run.state is RunState.PAINTING:
                if run.request is not Wish.STOP:
                    run.request, run.back_to = Wish.BACK, step
                return
            if run.state is RunState.WAITING:
                self._line.remove(run)
            self._back(run, step)

    @staticmethod
    def _back(run: Run, step: int) -> None:
        run.forget_after(step)
        run.work.go_back(step)
        run.progress = run.progress._replace(step=step, stage="", shares={}, loss=None, left="")
        run.state, run.why, run.request = RunState.PAUSED, "", Wish.NOTHING

    def place(self, run: Run) -> int | None:
        """Return how many runs have their turn before this one; None if it is not in the line."""
        with self._changed:
            return self._line.index(run) if run in self._line else None

    def pause_unwatched(self) -> Sequence[Run]:
        """Pause all runs that nobody looks at and that shall not be kept; return them."""
        with self._changed:
            away = [run for run in self._line if not run.keep and not run.watched()]
            for run in away:
                self.pause(run, "nobody was looking")
            return away

    # --- Painting ---------------------------------------------------------------------------------

    def serve(self) -> None:
        """Give the runs their turns until the queue is closed."""
        while not self._closed:
            self.paint_next(timeout=None)

    def paint_next(self, timeout: float | None = 0.0) -> bool:
        """Wait for a run, give it its turn, and return True; False if none came within `timeout`."""
        with self._changed:
            self._changed.wait_for(lambda: self._line or self._closed, timeout)
            if self._closed or not self._line:
                return False
            run = self._line[0]
            run.state = RunState.PAINTING
        state, why = RunState.FAILED, ""
        try:
            finished = run.work.paint(run)
            state = RunState.DONE if finished else RunState.PAUSED
        except Failure as failure:
            why = str(failure)
        except BaseException as error:  # no exception may end the thread that paints all runs
            if not self._closed:  # at the end, the folders of runs are deleted while they paint
                LOGGER.exception("a run failed")
            why = f"{type(error).__name__}: {limits.without_paths(str(error), run.folder)}"
        with self._changed:
            if state is RunState.PAUSED and run.request is Wish.NOTHING:
                # It was asked to go on after it had begun to pause, so it keeps its place.
                run.state, run.why = RunState.WAITING, ""
                return True
            self._line.remove(run)
            if run.request is Wish.BACK:  # also if it has ended meanwhile
                self._back(run, run.back_to)
                return True
            if state is RunState.PAUSED and run.request is Wish.STOP:
                state = RunState.STOPPED
            # Why a run is paused was noted when it was asked to.
            run.state, run.why = state, run.why if state is RunState.PAUSED else why
            run.request = Wish.NOTHING
        if state in ENDED:
            run.work.close()
        return True

    def close(self) -> None:
        """End `serve`; a run that paints is asked to stop."""
        with self._changed:
            self._closed = True
            for run in self._line:
                run.request = Wish.STOP
            self._changed.notify_all()
