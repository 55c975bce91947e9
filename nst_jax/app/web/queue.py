"""The queue of runs on one device: the first run paints, the others wait for their turn.

A run is the painting of one picture by optimisation, which a visitor (somebody who uses the page in a
browser) began. This module uses neither HTTP nor JAX.
"""

import logging
import threading
from collections.abc import Sequence

from nst_jax.app.web import limits
from nst_jax.app.web.run import ENDED, Failure, Run, RunState, Wish

LOGGER = logging.getLogger(__name__)


class Queue:
    """A queue of runs (paintings by optimisation): the first one paints, the others wait.

    `serve` is the loop of the thread that paints, and calls `paint_next` for each run. Only this thread
    may call these two methods; any thread may call the others.
    """

    def __init__(self, most: int = limits.MOST_RUNS) -> None:
        """Make an empty queue, in which at most `most` runs wait or paint."""
        self._most = most
        self._line: list[Run] = []  # the run that paints, if any, is the first
        self._changed = threading.Condition(threading.RLock())
        self._closed = False

    # --- Requests of visitors ---------------------------------------------------------------------

    def add(self, run: Run) -> None:
        """Put a new run, or a paused run that shall go on, at the end of the queue.

        Raises:
          ValueError: if the queue is full: too many runs wait or paint already.
        """
        with self._changed:
            if len(self._line) >= self._most:
                raise ValueError(
                    f"run: {len(self._line)} runs wait or paint here already; try again later"
                )
            run.state, run.why, run.request = RunState.WAITING, "", Wish.NOTHING
            self._line.append(run)
            self._changed.notify_all()

    def go_on(self, run: Run) -> None:
        """Let a paused run wait for its next turn on the device.

        If the run still paints, since it has not followed a request to pause yet, the request is
        withdrawn.

        Raises:
          ValueError: if the queue is full: too many runs wait or paint already.
        """
        with self._changed:
            if run.state is RunState.PAINTING and run.request is Wish.PAUSE:
                run.request = Wish.NOTHING
            elif run.state is RunState.PAUSED:
                self.add(run)

    def pause(self, run: Run, why: str = "") -> None:
        """Pause a run until `go_on` is called for it; meanwhile, other runs get the device.

        Args:
          run: the run.
          why: the reason that the page shows; may be empty.
        """
        with self._changed:
            if run.state is RunState.WAITING:
                self._line.remove(run)
                run.state, run.why = RunState.PAUSED, why
            elif run.state is RunState.PAINTING and run.request is Wish.NOTHING:
                run.request, run.why = Wish.PAUSE, why

    def stop(self, run: Run) -> None:
        """End a run, unless it has ended already; its last picture, if it has one, is its result.

        A run that paints ends at its next picture or earlier.
        """
        with self._changed:
            if run.state is RunState.PAINTING:
                run.request = Wish.STOP
            elif run.state not in ENDED:
                if run.state is RunState.WAITING:
                    self._line.remove(run)
                run.state, run.why = RunState.STOPPED, ""
                run.work.close()

    def go_back(self, run: Run, step: int) -> None:
        """Let a run go back to its picture after `step` updates and pause there.

        A run can go back even if it has ended. The later pictures of the run are deleted. A run that
        paints goes back as soon as it has stopped painting; but it does not go back if `stop` is called
        for it while it paints, whether before this method or after it.

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
        run.warning = ""

    def place(self, run: Run) -> int | None:
        """Return how many runs are before this one in the queue; None if it is not in the queue."""
        with self._changed:
            return self._line.index(run) if run in self._line else None

    def pause_unwatched(self) -> Sequence[Run]:
        """Pause the runs that no open page shows, and return these runs.

        A run with `Run.keep` goes on even if no page shows it.
        """
        with self._changed:
            away = [run for run in self._line if not run.keep and not run.watched()]
            for run in away:
                self.pause(run, "nobody was looking")
            return away

    # --- Painting ---------------------------------------------------------------------------------

    def serve(self) -> None:
        """Let the runs paint, one after the other, until the queue is closed."""
        while not self._closed:
            self.paint_next(timeout=None)

    def paint_next(self, timeout: float | None = 0.0) -> bool:
        """Wait until there is a run in the queue, and let the first run paint.

        Args:
          timeout: most seconds to wait for a run; None waits without end.

        Returns:
          Whether a run painted: False if no run came within `timeout`, or if the queue was closed.
        """
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
            # After `close`, the server deletes the folders of all runs, even while a run paints. So
            # errors are expected then.
            if not self._closed:
                LOGGER.exception("a run failed")
            why = f"{type(error).__name__}: {limits.without_paths(str(error), run.folder)}"
        with self._changed:
            if state is RunState.PAUSED and run.request is Wish.NOTHING:
                # `go_on` was called after the run had begun to pause. So the run stays in the queue, as
                # the first.
                run.state, run.why = RunState.WAITING, ""
                return True
            self._line.remove(run)
            # If the visitor asked the run to go back to an earlier picture, it does so even if it has
            # ended in the meantime.
            if run.request is Wish.BACK:
                self._back(run, run.back_to)
                return True
            if state is RunState.PAUSED and run.request is Wish.STOP:
                state = RunState.STOPPED
            # For a paused run, `pause` has set `run.why` already.
            run.state, run.why = state, run.why if state is RunState.PAUSED else why
            run.request = Wish.NOTHING
        if state in ENDED:
            run.work.close()
        return True

    def close(self) -> None:
        """End `serve`, and ask all runs in the queue to stop: the one that paints and the others."""
        with self._changed:
            self._closed = True
            for run in self._line:
                run.request = Wish.STOP
            self._changed.notify_all()
