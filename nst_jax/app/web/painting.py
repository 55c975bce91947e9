"""The work of a run: to paint a job of `stylize` in turns, with pictures and progress for the page."""

import functools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nst_jax._types import Checkpoint
from nst_jax.app import cache, programs, single
from nst_jax.app.job import PictureJob
from nst_jax.app.log import RunLog
from nst_jax.app.progress import Display, time_left
from nst_jax.app.rates import known_paces
from nst_jax.app.timing import CompileClock, IntervalChooser
from nst_jax.app.watch import MeasuringWatch
from nst_jax.app.web.limits import without_paths
from nst_jax.app.web.run import Failure, Progress, Run, Wish
from nst_jax.app.web.settings import stylize_job_of
from nst_jax.app.writing import write_picture
from nst_jax.canvas import Programs
from nst_jax.images.resizing import enlarge
from nst_jax.weights import params

# The weights in the package are read once for all runs, and so are compiled programs.
_weights = functools.cache(params.load_params)


@functools.cache
def _programs(place: Path | None) -> Programs:
    return programs.kept_in(place)


class PageDisplay(Display):
    """Shows on the page, not on the terminal, what a run does while it makes no updates."""

    def __init__(self, run: Run) -> None:
        super().__init__(quiet=True)
        self._run = run

    def stage(self, what: str, rest: str) -> None:
        words = ": ".join(filter(None, (what, rest)))
        self._run.progress = self._run.progress._replace(stage=words, left="")


class PageRecorder(single.Recorder):
    """Writes the pictures of a run into files for the page, each as the option `--frames` writes it."""

    run: Run  # set before the first snapshot

    def _write(self, shot: Any) -> None:
        if shot.step < self.pace.total:  # the last picture is the result, which `finish` writes
            # Coarser scales are enlarged to the final size, as in the frames of the command line.
            final = enlarge(shot.image, self.job.plan.scales[-1].shape)
            path = self.run.folder / f"step_{shot.step:05d}.png"
            write_picture(path, final, **self._written_with(shot))
            self.run.add_picture(shot.step, path)

    def _show(self, shot: Any) -> None:
        losses, total = shot.losses, float(shot.losses.total)
        names = ("content", "style", "tv", *(("matting",) * (losses.matting is not None)))
        self.run.progress = Progress(
            step=shot.step,
            total=self.pace.total,
            loss=total,
            shares={name: float(getattr(losses, name)) / total if total else 0.0 for name in names},
            left=time_left(self._range_left()) if 0 < shot.step < self.pace.total else "",
        )


class PictureWork:
    """Paints a job of `stylize` in turns, between which it holds a checkpoint but no device memory.

    The result is bit for bit the same as without pauses, and as that of the command line.
    """

    def __init__(self, job: PictureJob) -> None:
        """Make the work of a checked job."""
        self._job: PictureJob | None = job

    @classmethod
    def of(cls, words: Sequence[str], folder: Path) -> "PictureWork":
        """Return the work that paints a command line of `stylize`.

        Args:
          words: the words of the command line.
          folder: the folder that has the files which the words name, and gets the result.

        Raises:
          ValueError: as the command itself would refuse it.
        """
        return cls(stylize_job_of(words, folder))

    def close(self) -> None:
        self._job = None

    def paint(self, run: Run) -> bool:
        job = self._job
        if job is None:
            raise Failure("this run has ended; begin a new one")
        resumed = job.resume
        run.progress = run.progress._replace(stage="reading the network", left="")
        loaded, info = _weights(), params.read_info()
        display = PageDisplay(run)
        pace = IntervalChooser(
            job.plan.scales,
            done=0 if resumed is None else resumed.step,
            costs=job.plan.operations_per_update,
            expected=known_paces(job.plan),
        )
        begun_at = 0 if resumed is None else resumed.scale
        with CompileClock() as compiling, programs.Ahead(compiling) as ahead:
            operations = sum(job.plan.measuring_operations[begun_at:])
            watch = MeasuringWatch(compiling, display, operations)
            recorder = PageRecorder(
                job, single.facts_of_run(job, info), RunLog(None), display, compiling, watch, pace
            )
            recorder.run = run

            def stopped() -> bool:
                # Before the first picture of this turn, a pause ends the turn at once, and the next
                # turn begins where this one began. Afterwards a pause waits for the next picture, since
                # a checkpoint can be made only when a picture is done.
                asked = run.request is not Wish.NOTHING
                return run.request is Wish.STOP or (asked and recorder.last is None)

            watch.stopped, ahead.look = stopped, watch.look
            display.stage("preparing", "")
            shots = single.begun_painting(
                loaded,
                job,
                every=pace,
                compiled=_programs(cache.programs_folder()),
                begin=ahead.begin,
                watch=watch,
            )
            try:
                for shot in shots:
                    recorder.record(shot)
                    if run.request is not Wish.NOTHING and shot.step < pace.total:
                        break
                else:
                    return self._finished(run, recorder)
            except KeyboardInterrupt:
                # `watch` raises KeyboardInterrupt if `stopped` returns True. The visitor may have
                # withdrawn the request since then; if so, the queue gives this run another turn.
                pass
            if run.request is not Wish.STOP and recorder.last is not None:
                position: Checkpoint = shots.checkpoint()
                notes = {"seconds": list(recorder.seconds)}
                self._job = replace(job, resume=position._replace(notes=notes))
            return False

    @staticmethod
    def _finished(run: Run, recorder: PageRecorder) -> bool:
        """Write the result and return True; raise `Failure` if losses diverged or never changed."""
        ending = recorder.finish(None)
        if ending.status == "failed":
            raise Failure(without_paths(ending.message, run.folder))
        run.add_picture(recorder.pace.total, recorder.job.outputs.picture)
        return True
