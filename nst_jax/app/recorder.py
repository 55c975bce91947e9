"""Log, show and write the snapshots of one run, and report how the run ended.

A run changes its canvas, the picture that is painted, by many updates. After every few updates it
yields a snapshot: the canvas at that time, with the losses of all canvases since the last snapshot.
`follow` gives each snapshot to a `Recorder`, whose `finish` returns an `Ending`.
"""

import signal
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from nst_jax import prepare, provenance, run_errors
from nst_jax._types import Checkpoint
from nst_jax.app import autosave, cluster
from nst_jax.app.filming import Filming
from nst_jax.app.formatting import duration, span
from nst_jax.app.interrupts import Interrupts
from nst_jax.app.log import RunLog
from nst_jax.app.messages import print_message
from nst_jax.app.outputs import frame_file
from nst_jax.app.plan_report import px
from nst_jax.app.preview import Preview
from nst_jax.app.progress import Display, loss_shares, time_left
from nst_jax.app.rates import record_rate
from nst_jax.app.timing import CompileClock, IntervalChooser, Range, Stopwatch
from nst_jax.app.watch import MeasuringWatch
from nst_jax.app.writing import dpi_of, resized_alpha, write_elsewhere, write_picture
from nst_jax.descent import Rest, has_stalled, remedy_at_rest, rest_of, updates_of_broken
from nst_jax.images.resizing import enlarge
from nst_jax.losses import TOTAL_VARIATION

# The type of the snapshots (the picture after some updates, with its losses) that a `Recorder` gets:
# `Snapshot`, or for a subclass of `Recorder` another named tuple, such as `DreamShot` for Deep Dream.
Shot: TypeAlias = Any


class Ending(NamedTuple):
    """How a run ended: what the command reports about it, and the command's exit code."""

    status: str  # "done", "interrupted" or "failed"
    message: str  # why the run ended; for a finished run, a warning about its result, or ""
    code: int  # exit code of the command


def follow(shots: Any, recorder: "Recorder", interrupts: Interrupts) -> None:
    """Record every snapshot, and write checkpoints when due, until the run ends or is interrupted.

    A snapshot is the picture after some updates.
    """

    def position() -> Checkpoint:
        return shots.checkpoint(copy=False)

    try:
        for shot in shots:
            interrupts.defer()
            recorder.record(shot)
            stopped = cluster.true_in_any(interrupts.signal is not None)
            if recorder.job.outputs.checkpoint is not None:
                recorder.checkpoints.write_if_due(shot, position, recorder.seconds, last=stopped)
            if stopped:
                return
    except KeyboardInterrupt:
        if interrupts.signal is None:
            raise


class Recorder:
    """Receives the snapshots of one run: logs them, writes files and shows progress.

    A snapshot is the picture after some updates, with the losses since the last snapshot. Only the
    methods below the heading "Losses" depend on what the losses are. A subclass overrides them for a
    run with other values instead of losses, such as Deep Dream.
    """

    def __init__(
        self,
        job: Any,
        facts: dict[str, Any],
        log: RunLog,
        display: Display,
        compiling: CompileClock,
        watch: MeasuringWatch,
        pace: IntervalChooser,
        early: Preview | None = None,
    ) -> None:
        self.job, self.facts, self.log, self.display = job, facts, log, display
        self.pace, self.checkpoints = pace, autosave.CheckpointWriter(job, pace.ends)
        self.last: Shot | None = None
        # For the initial picture and after each update: the seconds since painting began, without the
        # time for compiling and for computing the targets of the losses.
        self.seconds: list[float] = []
        # For each snapshot so far, the total losses of the canvases since the snapshot before it. The
        # canvases of a run are the initial canvas, and one after each update.
        self._totals: list[np.ndarray] = []
        self.compiling, self.watch = compiling, watch
        # The value of `seconds` at the checkpoint from which the run resumes; [] for a new run.
        self._before = [] if job.resume is None else autosave.seconds_of(job.resume)
        self._stopwatch = Stopwatch(
            compiling,
            elapsed=self._before[-1] if self._before else 0.0,
            measuring=lambda: watch.timed.seconds,
        )
        # Seconds of compiling until the first snapshot that this process computed; None before this
        # snapshot. The time left is estimated with these seconds. The first line of the log contains
        # them if they are known when this line is written; in a resumed run, they are not.
        self._first_compile: float | None = None
        self._announced = self._rescued = self._ended = False
        self._early, self._wrote = early, False
        outputs, shape = job.outputs, job.plan.real_scales[-1].shape
        if not cluster.is_first():
            outputs = replace(outputs, film=None)
        self.filming = Filming(outputs, pace.total, shape, display.say)

    def record(self, shot: Shot) -> None:
        """Log the losses since the previous snapshot, write files that are due, and show progress."""
        lap = self._stopwatch.lap()
        # `last` is set before anything is written, so that `rescue` can write this snapshot if the log
        # or the display fails.
        is_first, self.last = self.last is None, shot
        self._totals.append(np.asarray(shot.history.total))
        # A resumed run yields its first snapshot, that of the checkpoint, before anything is compiled.
        # So the duration of compiling is then read at the second snapshot.
        if self._first_compile is None and (not is_first or self.job.resume is None):
            self._first_compile = self.compiling.seconds
        if is_first:
            self._log_start()
        broke = shot.broke_at >= 0
        # Once losses are not finite, all later losses mean nothing, so they are not logged.
        count = len(shot.history.total) - (shot.step - shot.broke_at if broke else 0)
        history = jax.tree.map(lambda values: values[:count], shot.history)
        last = shot.broke_at if broke else shot.step
        seconds = self._before[:count] if is_first and self._before else lap.spread(count)
        self.seconds += seconds
        self._log_steps(history, last, seconds)
        self.pace.advance(shot.step, lap.seconds)
        if not is_first and not self._announced:
            self._announce()
        if not broke:
            self.filming.see(shot.step, shot.image)
            self._write(shot)
            self._show(shot)

    def _announce(self) -> None:
        """Show how long compiling took and how long the rest of the run will take.

        If the time of the rest is not known, nothing is shown.
        """
        self._announced = True
        first = self._first_compile or 0.0
        rest = self._range_left()
        if rest is not None:
            whole = f"{self.pace.total} updates take"
            what = whole if self.job.resume is None else "the rest takes"
            self.display.say(f"compiled in {duration(first)}; {what} {span(*rest)}")

    def _show(self, shot: Shot) -> None:
        words = [self._words(shot)]
        if 0 < shot.step < self.pace.total:
            words.append(time_left(self._range_left()))
        self.display.move(shot.step, self.pace.total, "step", ", ".join(filter(None, words)))

    def _range_left(self) -> Range | None:
        """Return the least and most seconds that the rest of the run may take; None if not known."""
        measured = self.watch.timed
        unit = measured.seconds / measured.cost if measured.cost else 0.0
        measuring = [unit * operations for operations in self.job.plan.measuring_operations]
        return self.pace.range_left(self._first_compile or 0.0, measuring)

    def _write(self, shot: Shot) -> None:
        """Write the picture of a snapshot as a frame and to the result's file, if these are due.

        A frame, a numbered picture in the folder of frames, is due at the start, every `outputs.stride`
        updates, and at the end. The result's file is due every `outputs.every` updates, but neither at
        the start nor at the end, where `finish` writes it. If `outputs.every` is set, `outputs.stride`
        equals it.
        """
        outputs, total = self.job.outputs, self.pace.total
        if shot.step != total and (not outputs.stride or shot.step % outputs.stride):
            return
        if outputs.frames is not None and cluster.is_first():
            outputs.frames.mkdir(exist_ok=True)
            # Pictures of lower resolution are enlarged, so that all frames have the final size.
            final = enlarge(shot.image, self.job.plan.real_scales[-1].shape)
            frame = outputs.frames / frame_file(shot.step)
            self._write_file(frame, shot._replace(image=final), overwrite=True)
        if outputs.every and 0 < shot.step < total:
            self._write_picture(shot)

    def _write_picture(self, shot: Shot) -> None:
        if self._early is not None:
            self._early.close()
        overwrite = self.job.outputs.overwrite or self._has_written
        self._write_file(self.job.outputs.picture, shot, overwrite=overwrite)
        self._wrote = True
        if self._early is not None:
            self._early.give_way()

    @property
    def _has_written(self) -> bool:
        """Whether this run has written a picture, or at least a preview, to the result's file.

        A fast network paints the preview, which is shown until the run writes a picture. A preview that
        has replaced an earlier picture does not count: if the run writes no picture, the earlier one
        comes back.
        """
        return self._wrote or self._previewed

    @property
    def _previewed(self) -> bool:
        return self._early is not None and self._early.written and not self._early.replaced

    def _write_file(self, path: Path, shot: Shot, *, overwrite: bool) -> None:
        if cluster.is_first():
            write_picture(path, shot.image, **self._written_with(shot), overwrite=overwrite)

    def _written_with(self, shot: Shot) -> dict[str, Any]:
        """Return the alpha channel, the dots per inch and the metadata for a file of the picture."""
        finished = shot.step == self.pace.total and shot.broke_at < 0
        finished = finished and not self._has_stalled(shot)
        metadata = self.facts | {
            "steps_done": self._steps_done(shot),
            "finished": finished,
        }
        if shot.broke_at < 0:
            metadata |= self._measured(shot)
        return {
            "alpha": resized_alpha(self.job.content.alpha, shot.image),
            "dpi": dpi_of(self.job.plan.recipe.pictures.size, self.job.content.dpi),
            "metadata": metadata if self.job.metadata else None,
        }

    def finish(self, stopped_by: int | None) -> Ending:
        """Write the picture, any film and the end of the log; return how the run ended.

        If there is no snapshot, or if already the losses of the first canvas are not finite, neither
        picture nor film is written.

        Args:
          stopped_by: number of the signal that stopped the run; None if no signal did.
        """
        shot, name = self.last, self.job.outputs.picture.name
        if self._early is not None:
            self._early.close()
        if shot is not None and shot.broke_at != 0:
            self._write_picture(shot)
            self._rescued = True  # the picture is written, so `rescue` need not write it
            self._write_film(shot)
        ending = self._ending(stopped_by, name)
        if ending.status != "failed" and cluster.is_first():
            self._record_rate()
        facts: dict[str, Any] = {"output": name} if self._has_written else {}
        if shot is not None and self.job.outputs.log is not None:
            facts["total_variation"] = self._variations(shot)
        self.log_end(ending.status, **facts)
        return ending

    def _write_film(self, shot: Shot) -> None:
        """Write the film, if one is wanted.

        The last snapshot, `shot`, is first added to the film if the snapshot's losses are finite.
        """
        if shot.broke_at < 0:
            self.filming.see(shot.step, shot.image, last=True)
        if self.job.outputs.film is not None:
            self.display.say("writing the film")
            self.filming.write(self._written_with(shot)["metadata"])

    def _record_rate(self) -> None:
        """Record how fast this run was, so that the time of later runs can be predicted."""
        others = self.pace.timed.seconds + self.watch.seconds
        record_rate(self.job.plan, self.pace.timed, self.watch.timed, self._whole() - others)

    def _variations(self, shot: Shot) -> dict[str, float]:
        """Return the total variation of `shot.image`, and of the content resized to its size.

        The names of the two in the result are "picture" and "content".
        """
        job = self.job
        content = prepare.resized(
            job.content.image, job.plan.real_scales[-1].shape, job.plan.recipe
        )
        height, width = shot.image.shape[:2]
        content = prepare.at_scale(content, (height, width))
        # The function is jitted as a whole. Without `jit`, JAX would compile each operation in it as a
        # program of its own.
        measured = jax.jit(lambda image: TOTAL_VARIATION(image))
        pictures = {"picture": shot.image, "content": content}
        return {name: float(measured(image)) for name, image in pictures.items()}

    def rescue(self) -> None:
        """Try to write the last picture of a run that failed.

        If the folder of the result cannot be written to, the picture is written to another folder.
        """
        if self._rescued or self.last is None or self.last.broke_at == 0:
            return
        self._rescued = True
        path, steps = self.job.outputs.picture, self._steps_done(self.last)
        # The error to report is the one that made the run fail. So errors raised here are ignored.
        with suppress(Exception):
            try:
                self._write_picture(self.last)
                self.display.say(f"{path.name} is the unfinished canvas after {steps} updates")
                self.filming.rescue(self._written_with(self.last)["metadata"])
            except OSError:
                if cluster.is_first():
                    found = write_elsewhere(path, self.last.image, **self._written_with(self.last))
                    if found is None:
                        text = f"the canvas after {steps} updates could not be saved in any folder"
                        print_message("lost", text)
                    else:
                        print_message("saved", f"'{found}' is the canvas after {steps} updates")

    def save_and_end(self) -> None:
        """Save the unfinished picture and end the log, since another process is lost or has stopped.

        If several processes paint one picture, `cluster.PeerMonitor` calls this method in each process
        that it ends for this reason, just before the process ends.
        """
        self.display.stop()
        self.rescue()
        with suppress(OSError):
            self.log_end("failed")

    def _ending(self, stopped_by: int | None, name: str) -> Ending:
        shot, total = self.last, self.pace.total
        if shot is None:
            code = 128 + (stopped_by or signal.SIGINT)
            return Ending("interrupted", f"before the first step; {self._nothing}", code)
        if shot.broke_at >= 0:
            kept = f"{name} is the last picture before that" if shot.broke_at else self._nothing
            why, remedy = self._broken(shot)
            message = f"{why}; {kept}: try {remedy}"
            return Ending("failed", message, 1)
        if shot.step < total:
            at = f"after {shot.step} of {total} updates"
            size, final = (
                px(shot.image.shape),
                px(self.job.plan.real_scales[-1].shape),
            )
            scaled = "" if size == final else f", at {size} of {final}"
            message = f"{at}; {name} is unfinished{scaled}"
            if self.job.outputs.checkpoint is not None:
                message += f"; `--resume` continues it from {self.job.outputs.checkpoint}"
            return Ending("interrupted", message, 128 + (stopped_by or signal.SIGINT))
        if self._has_stalled(shot):
            why, remedy = self._stalled(shot)
            message = f"{why}, so nothing was painted; {name} is as it started: try {remedy}"
            return Ending("failed", message, 1)
        parts = {
            "measuring": self.watch.seconds,
            "compiling": self.compiling.seconds - self.watch.seconds_elsewhere,
            "updates": self.pace.timed.seconds,
        }
        words = ", ".join(f"{duration(seconds)} of {name}" for name, seconds in parts.items())
        self.display.say(f"done in {duration(self._whole())}: {words}")
        return Ending("done", self._warning(shot), 0)

    @property
    def _nothing(self) -> str:
        """What the output file contains if the run has written no canvas, as a phrase for messages.

        It may contain a preview, a fast approximate result by a feed-forward network. If the preview
        has replaced a picture that was there before the run, that picture comes back at the end, and
        the phrase says that the file is as it was.
        """
        name = self.job.outputs.picture.name
        if self._early is not None and self._early.replaced:
            return f"{name} is as it was"
        return f"{name} is only a preview" if self._previewed else "nothing was written"

    def _whole(self) -> float:
        """Return the seconds since the command began."""
        return time.perf_counter() - self.job.begun

    def _log_start(self) -> None:
        compiled = self._first_compile
        self.log.write(
            "start",
            compile_seconds=None if compiled is None else round(compiled, 3),
            output=self.job.outputs.picture.name,
            **({} if self.job.resume is None else {"resumed_at": self.job.resume.step}),
            **self.facts,
        )

    def abandon(self) -> None:
        """End the log of a run that is interrupted before it has painted anything."""
        self.display.stop()
        with suppress(OSError):
            self.log_end("interrupted")

    def log_end(self, status: str, **facts: Any) -> None:
        """Write the last line of the log; only the first call does so, later calls do nothing.

        If the run ends before its first snapshot, the first line of the log is still missing, and is
        written before the last one.

        Args:
          status: how the run ended, such as "done", "interrupted" or "failed".
          **facts: further entries of the line.
        """
        if self._ended:
            return
        self._ended = True
        if not self.log.lines:
            self._log_start()
        self.log.write(
            "end",
            status=status,
            steps=None if self.last is None else self.last.step,
            seconds=round(self._stopwatch.elapsed, 6),
            compile_seconds=round(self.compiling.seconds, 3),
            measure_seconds=round(self.watch.seconds, 3),
            whole_seconds=round(self._whole(), 3),
            **facts,
        )

    # --- Losses -----------------------------------------------------------------------------------

    def _words(self, shot: Shot) -> str:
        """Return text for the progress display: the total loss, and the percentages of its terms."""
        return loss_shares(shot.losses)

    def _measured(self, shot: Shot) -> dict[str, Any]:
        """Return the losses of a snapshot for the metadata of its picture."""
        return {"losses": provenance.of_losses(shot.losses)}

    def _log_steps(self, history: Any, last: int, seconds: list[float]) -> None:
        """Add the losses of the last n canvases to the log.

        Args:
          history: the losses, arrays [n]: a number for each canvas, in the order of painting.
          last: the number of updates after which the last of these canvases was reached.
          seconds: for each of these canvases, the seconds since painting began, without the time for
            compiling and for computing the targets of the losses.
        """
        self.log.steps(history, last=last, seconds=seconds, scale_of=self.pace.scale_of)

    def _has_stalled(self, shot: Shot) -> bool:
        """Return whether the run is complete with this snapshot, but no update changed the losses."""
        if shot.broke_at >= 0 or shot.step < self.pace.total:
            return False
        return has_stalled(np.concatenate(self._totals), self.job.plan.scales)

    def _warning(self, shot: Shot) -> str:
        """Return a warning if the loss of the finished run stopped changing while still high, else "".

        In a cluster of processes, only the first one warns, so that the user reads it once.
        """
        rest = rest_of(np.concatenate(self._totals), self.job.plan.scales)
        if rest is None or not cluster.is_first():
            return ""
        return self._advice_at_rest(rest)

    def _advice_at_rest(self, rest: Rest) -> str:
        """Return a warning that the loss of the run stopped changing, and what to do about it."""
        name, remedy = self.job.outputs.picture.name, remedy_at_rest(self.job.plan.recipe)
        return f"{rest.words}, so {name} is hardly painted: try {remedy}"

    def _steps_done(self, shot: Shot) -> int:
        """Return the number of updates that a snapshot's picture has had."""
        if shot.broke_at < 0:
            return shot.step
        return updates_of_broken(shot.broke_at, self.job.plan.scales)

    def _broken(self, shot: Shot) -> tuple[str, str]:
        """Return two texts on a run with losses that are not finite: the cause, and a remedy."""
        why = f"the losses, or their gradient, are not finite after {shot.broke_at} updates"
        return why, run_errors.remedy(self.job.plan.recipe)

    def _stalled(self, shot: Shot) -> tuple[str, str]:
        """Return two texts on a run whose losses never changed: the cause, and a remedy."""
        why = f"the losses after {shot.step} updates are those of the start"
        return why, run_errors.remedy_for_stalled(self.job.plan.recipe)
