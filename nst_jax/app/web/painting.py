"""Paint a picture in turns for a visitor of the web page, and show its progress on the page.

A visitor is somebody who uses the page in a browser. A run is the painting of one picture by
optimisation, begun by a visitor. The job of a run has the inputs and options of the command `stylize`
that would paint the same picture. Runs use the device one after the other, and a turn is the time from
when a run gets the device until it is finished, paused or stopped. A position is a checkpoint of a run
in a file.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nst_jax._types import Checkpoint
from nst_jax.app import cache, programs, single
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.job import PictureJob
from nst_jax.app.log import RunLog
from nst_jax.app.messages import as_flags
from nst_jax.app.outputs import frame_file
from nst_jax.app.progress import Display, time_left
from nst_jax.app.rates import known_paces
from nst_jax.app.recorder import Recorder
from nst_jax.app.timing import CompileClock, IntervalChooser
from nst_jax.app.watch import MeasuringWatch
from nst_jax.app.web.limits import without_paths
from nst_jax.app.web.positions import Positions
from nst_jax.app.web.run import Failure, Progress, Run, Wish
from nst_jax.app.web.settings import stylize_job_of
from nst_jax.app.writing import write_picture
from nst_jax.canvas import Programs
from nst_jax.descent import Rest
from nst_jax.images.resizing import enlarge
from nst_jax.weights import params

# The results of `_weights` and `_programs` are cached for all pictures that the server paints. So the
# weights are read only once, and the functions that `_programs` returns keep their compiled programs.
_weights = functools.cache(params.load_params)


@functools.cache
def _programs(place: Path | None) -> Programs:
    return programs.kept_in(place)


class PageDisplay(Display):
    """Shows on the page, not on the terminal, what a run does before its updates and between scales.

    A scale is one of the resolutions at which the picture is painted. Before the updates at a scale,
    the targets that the losses compare the picture with are computed.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(quiet=True)
        self._run = run

    def stage(self, what: str, rest: str) -> None:
        words = ": ".join(filter(None, (what, rest)))
        self._run.progress = self._run.progress._replace(stage=words, left="")


class PageRecorder(Recorder):
    """Writes the unfinished pictures of a run into files that the page shows.

    Each is a PNG file of the size of the result, as the option `--frames` of `stylize` writes it.
    """

    run: Run  # set after `__init__`, which is inherited and has no argument for the run

    def _write(self, shot: Any) -> None:
        if self._is_there(shot):
            return
        if shot.step < self.pace.total:  # the last picture is the result, which `finish` writes
            # A picture of a coarser scale (resolution) is enlarged to the size of the result.
            final = enlarge(shot.image, self.job.plan.real_scales[-1].shape)
            path = self.run.folder / frame_file(shot.step)
            write_picture(path, final, **self._written_with(shot))
            self.run.add_picture(shot.step, path)

    def _is_there(self, shot: Any) -> bool:
        """Return whether the run already has a picture after as many updates as `shot`, or after more.

        It has one if it went back to an earlier checkpoint and repeats updates from there.
        """
        kept = self.run.kept
        return bool(kept) and shot.step <= kept[-1].step

    def why_failed(self) -> str:
        """Return why the finished run has no result, with advice that can be followed on the page."""
        shot = self.last
        assert shot is not None
        advice = "choose another recipe, or less style"
        if shot.broke_at >= 0:
            return f"{self._broken(shot)[0]}; {advice}"
        return f"{self._stalled(shot)[0]}, so nothing was painted; {advice}"

    def _advice_at_rest(self, rest: Rest) -> str:
        return f"{rest.words}, so the picture is hardly painted; choose another recipe"

    def _show(self, shot: Any) -> None:
        newest = self.run.kept[-1].step if self.run.kept else 0
        if shot.step < newest:
            self.run.progress = Progress(
                stage="painting up to this picture again", step=newest, total=self.pace.total
            )
            return
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
    """Paints one picture, with pauses in which other runs (paintings) use the device.

    During a pause, a checkpoint on the host holds the state of the run. On the device, only what all
    runs share stays: the network's weights and the compiled programs. On a device that computes
    deterministically, the result is bit for bit the same as without pauses, and as that of the command
    line. This is so even if the visitor lets the run go back to an earlier picture, since the run then
    makes the same updates again.
    """

    def __init__(self, job: PictureJob, again: Callable[[], PictureJob], folder: Path) -> None:
        """Prepare the painting of one picture.

        Args:
          job: the inputs and options of the command `stylize` that describes the picture.
          again: a function that reads the input files again and returns the same job. It is called if
            a run that had ended goes on, since the job is then no longer in memory.
          folder: the folder for the run's checkpoint files.
        """
        self._job: PictureJob | None = job
        self._again, self._plan = again, job.plan
        self._positions = Positions(folder)
        self._back_to: int | None = None

    @classmethod
    def of(cls, words: Sequence[str], folder: Path) -> "PictureWork":
        """Return a `PictureWork` that paints what a command line of `stylize` describes.

        Args:
          words: the words of the command line.
          folder: the folder that has the files which the words name, and gets the result.

        Raises:
          ValueError: if the command itself would refuse the words, or if the result would be larger
            than the page allows.
        """
        again = functools.partial(stylize_job_of, words, folder)
        return cls(again(), again, folder)

    def close(self) -> None:
        self._job = None

    def go_back(self, step: int) -> None:
        self._back_to = step

    def _current_job(self) -> PictureJob:
        # If a run that had ended goes on, its job is read from the files again, but keeps the plan
        # (sizes and tiles) made when the run was begun. If less memory is available now, a new plan
        # might have smaller tiles. Smaller tiles have other rounding errors, so the picture would not
        # be the same bit for bit.
        job = self._job or replace(self._again(), plan=self._plan)
        if self._back_to is not None:
            job = replace(job, resume=self._positions.before(self._back_to))
        self._job, self._back_to = job, None
        return job

    def paint(self, run: Run) -> bool:
        job = self._current_job()
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
        with CompileClock() as compiling, Ahead(compiling) as ahead:
            operations = sum(job.plan.measuring_operations[begun_at:])
            watch = MeasuringWatch(compiling, display, operations)
            recorder = PageRecorder(
                job, single.facts_of_run(job, info), RunLog(None), display, compiling, watch, pace
            )
            recorder.run = run

            def stopped() -> bool:
                # This turn is the time in which the run has the device. A request to stop or to go back
                # ends it at once. A request for a pause does so only before the first picture of this
                # turn; the next turn then begins where this one began. After the first picture, the run
                # goes on until its next picture, since a checkpoint is only made with a picture.
                asked = run.request is not Wish.NOTHING
                at_once = run.request in (Wish.STOP, Wish.BACK)
                return at_once or (asked and recorder.last is None)

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
            run.notes = tuple(map(as_flags, (*job.notes, *shots.left_out)))

            def position() -> Checkpoint:
                return shots.checkpoint()._replace(notes={"seconds": list(recorder.seconds)})

            try:
                for shot in shots:
                    recorder.record(shot)
                    if shot.broke_at < 0:
                        self._positions.keep_if_due(shot.step, position)
                    if run.request is not Wish.NOTHING and shot.step < pace.total:
                        break
                else:
                    return self._finished(run, recorder)
            except KeyboardInterrupt:
                pass  # `watch` raised it, as `stopped` returned True because of a request. If the
                # request was withdrawn since then, the run gets another turn.
            if run.request not in (Wish.STOP, Wish.BACK) and recorder.last is not None:
                self._job = replace(job, resume=position())
            return False

    @staticmethod
    def _finished(run: Run, recorder: PageRecorder) -> bool:
        """Write the result and return True; raise `Failure` if losses diverged or never changed.

        If the losses stopped changing while still high, the run gets a warning, as on the command line,
        but with advice that can be followed on the page.
        """
        ending = recorder.finish(None)
        if ending.status == "failed":
            raise Failure(recorder.why_failed())
        run.warning = without_paths(ending.message, run.folder)
        run.add_picture(recorder.pace.total, recorder.job.outputs.picture)
        return True
