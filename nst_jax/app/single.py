"""Paint one picture: write results, show progress, save the canvas of a stopped run.

A run changes its canvas, the picture that is painted, by many updates. After every few updates it
yields a snapshot: the canvas at that time, with the losses of all canvases since the last snapshot. A
run paints at one or several scales (resolution levels), from coarse to fine. The targets, which the
losses compare the canvas with, are computed before the updates; computing them is also called
measuring.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from nst_jax import _files, painting, planned_painting, prepare, provenance
from nst_jax._types import Checkpoint, Params
from nst_jax.app import autosave, cache, cluster, plan_report, programs
from nst_jax.app.filming import Filming
from nst_jax.app.formatting import duration, span
from nst_jax.app.interrupts import Interrupts
from nst_jax.app.introduction import (
    finishing_lines,
    introduce,
    share_words,
    size_words,
    style_scale_notes,
    weight_line,
)
from nst_jax.app.job import PictureJob
from nst_jax.app.log import RunLog
from nst_jax.app.messages import as_flags, print_message
from nst_jax.app.plan_report import px
from nst_jax.app.preview import Preview
from nst_jax.app.progress import Display, loss_shares, time_left
from nst_jax.app.rates import known_paces, record_rate
from nst_jax.app.timing import CompileClock, IntervalChooser, Range, Stopwatch
from nst_jax.app.watch import MeasuringWatch
from nst_jax.app.writing import dpi_of, resized_alpha, write_elsewhere, write_picture
from nst_jax.canvas import Programs
from nst_jax.descent import Begin, Rest, has_stalled, remedy_at_rest, rest_of
from nst_jax.images.resizing import enlarge
from nst_jax.losses import TOTAL_VARIATION
from nst_jax.run_scales import style_rule_words
from nst_jax.weights.params import WeightsInfo

# The type of the snapshots (the picture after some updates, with its losses) that a `Recorder` gets:
# `Snapshot`, or for a subclass of `Recorder` another named tuple, such as `DreamShot` for Deep Dream.
Shot: TypeAlias = Any


class Ending(NamedTuple):
    """How a run ended: what the command reports about it, and the command's exit code."""

    status: str  # "done", "interrupted" or "failed"
    message: str  # why the run ended; for a finished run, a warning about its result, or ""
    code: int  # exit code of the command


def paint_job(
    params: Params,
    weights: WeightsInfo,
    job: PictureJob,
    display: Display,
    peers: cluster.PeerMonitor | None = None,
    early: Preview | None = None,
) -> Ending:
    """Paint one picture and write all files that the user asked for.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the checked inputs, options and output paths of the command.
      display: where progress is shown.
      peers: watches the other processes that paint this picture; None if there are none.
      early: the preview: a picture painted by a fast network, which the result's file shows until this
        run writes its own picture there. None if there is no preview.

    Returns:
      How the run ended. If it was interrupted or its losses diverged, the last picture with finite
      losses has been written, if there was one.
    """
    facts = facts_of_run(job, weights)
    _introduce(job, facts, display)
    autosave.check_disk_space(job)
    if cluster.is_first():
        _files.remove_leftovers(job.outputs.shown)
    pace = IntervalChooser(
        job.plan.scales,
        job.outputs.stride,
        also=[job.outputs.checkpoint_every, job.outputs.film_stride(_updates(job))],
        done=0 if job.resume is None else job.resume.step,
        costs=job.plan.operations_per_update,
        expected=known_paces(job.plan),
    )
    resumed_at = 0 if job.resume is None else job.resume.scale
    with CompileClock() as compiling, programs.Ahead(compiling) as ahead:
        watch = MeasuringWatch(compiling, display, sum(job.plan.measuring_operations[resumed_at:]))
        # A checkpoint of another run is refused here, before `RunLog` empties an existing log file.
        shots = begun_painting(
            params,
            job,
            every=cluster.from_first(pace),
            compiled=programs.kept_in(cache.programs_folder(), display.say),
            # `ahead.begin` starts programs in a second thread. If several processes paint one
            # picture, each program runs on the devices of all of them, and all processes must start
            # the programs in the same order. So then each process uses its main thread only.
            begin=ahead.begin if jax.process_count() == 1 else None,
            watch=watch,
        )
        display.notes(map(as_flags, shots.left_out))
        with RunLog(job.outputs.log if cluster.is_first() else None) as log:
            recorder = Recorder(job, facts, log, display, compiling, watch, pace, early)
            saving = nullcontext() if peers is None else peers.saving(recorder.save_and_end)
            alone = jax.process_count() == 1
            with saving, Interrupts(recorder.abandon, alone=alone) as interrupts:
                # If several processes paint, all must stop after the same update. So `follow` asks
                # every few updates whether any process got a signal. `watch`, which waits for the
                # targets of the losses, knows only of signals to its own process. So it may stop the
                # run only if there is no other process.
                if alone:
                    watch.stopped = lambda: interrupts.signal is not None
                    ahead.look = watch.look
                try:
                    with display.bar(pace.total, "compiling"):
                        follow(shots, recorder, interrupts)
                    if peers is not None and recorder.last is None:
                        peers.stop_others("interrupted before its first canvas")
                    return recorder.finish(interrupts.signal)
                except BaseException:
                    recorder.rescue()
                    with suppress(OSError):  # the error to report is the one that made the run fail
                        recorder.log_end("failed")
                    raise


def begun_painting(
    params: Params,
    job: PictureJob,
    *,
    every: Iterator[int],
    compiled: Programs,
    begin: Begin | None,
    watch: MeasuringWatch,
) -> planned_painting.Painting:
    """Return an iterator that paints a picture and yields its snapshots.

    A snapshot is the picture after some updates, with the losses since the last snapshot.

    Args:
      params: the weights.
      job: the checked inputs and options of the command.
      every: yields the number of updates from one snapshot to the next.
      compiled: the compiled functions, from `programs.kept_in`.
      begin: a function that starts work, such as compiling for the next scale (resolution level), in
        another thread. With None, all work is done in this thread. See
        `planned_painting.paint_planned`.
      watch: waits until the targets are computed. Meanwhile it shows progress, and may end the run. See
        `planned_painting.paint_planned`.
    """
    return planned_painting.paint_planned(
        params,
        job.content.image,
        job.painted_styles,
        job.plan,
        init=job.init,
        key=jax.random.key(job.seed),
        every=every,
        resume=job.resume,
        programs=compiled,
        begin=begin,
        watch=watch,
        given=job.given,
        style_originals=[style.image.shape[:2] for style in job.styles],
    )


def _updates(job: PictureJob) -> int:
    """Return the number of updates of the whole run, including those before it was resumed."""
    return sum(scale.steps for scale in job.plan.scales)


def facts_of_run(job: PictureJob, weights: WeightsInfo) -> dict[str, Any]:
    """Return the facts about a run, such as recipe and seed, for the metadata of its picture."""
    return provenance.of_run(
        job.plan.recipe,
        job.plan.real_scales,
        seed=job.seed,
        inputs=job.inputs,
        weights=weights,
        controls=provenance.strength_facts(job.strength) | job.controls.facts(),
    )


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
        # For each snapshot so far, the total losses after each update since the snapshot before it.
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
        # snapshot. The time left is estimated with them. The first line of the log contains them if
        # they are known when it is written; in a resumed run, they are not.
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
        """Show how long compiling took and how long the updates will take, if that is known."""
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
            name = f"step_{shot.step:05d}.png"
            self._write_file(outputs.frames / name, shot._replace(image=final), overwrite=True)
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
            "steps_done": shot.step if shot.broke_at < 0 else shot.broke_at - 1,
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

        Args:
          stopped_by: number of the signal that stopped the run; None if no signal did.
        """
        shot, name = self.last, self.job.outputs.picture.name
        if self._early is not None:
            self._early.close()
        if shot is not None and shot.broke_at != 0:
            self._write_picture(shot)
            self._rescued = True  # the picture is written, so `rescue` has nothing left to save
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
        """Add the last snapshot, `shot`, to the film if its losses are finite, and write the film."""
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
        """Return the total variation of `shot.image` and of the content in the same size, by name."""
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
        path, steps = self.job.outputs.picture, self.last.step
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

        If the run's preview has replaced an earlier picture, that picture is put back in the end.
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
          seconds: for each of these canvases, the seconds since painting began.
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

    def _broken(self, shot: Shot) -> tuple[str, str]:
        """Return two texts on a run with losses that are not finite: the cause, and a remedy."""
        why = f"the losses are not finite after {shot.broke_at} updates"
        return why, painting.remedy(self.job.plan.recipe)

    def _stalled(self, shot: Shot) -> tuple[str, str]:
        """Return two texts on a run whose losses never changed: the cause, and a remedy."""
        why = f"the losses after {shot.step} updates are those of the start"
        return why, painting.remedy_for_stalled(self.job.plan.recipe)


def _introduce(job: PictureJob, facts: dict[str, Any], display: Display) -> None:
    """Show device, weights, recipe, sizes, memory and notes before the run."""
    recipe, scales = job.plan.recipe, job.plan.real_scales
    rule = recipe.pictures.size
    lines = {
        "recipe": f"{recipe.name}, {facts['steps']} updates",
        "precision": plan_report.precision_line(job.plan, job.resume),
    }
    lines |= weight_line(recipe, job.strength)
    bands = job.plan.bands()
    if bands is not None:
        lines["bands"] = f"{bands.count} devices, {bands.band_height} rows each or fewer"
    resampling = facts["filter"]
    lines["content"] = size_words(job.content, scales[-1].shape, rule, resampling)
    for index, role, style, shape, share in zip(
        range(len(job.styles)),
        [role for role in job.inputs if role.startswith("style")],
        job.styles,
        scales[-1].style_shapes[: len(job.styles)],  # the rest are the shapes of regions' styles
        share_words(recipe.terms, len(job.styles)),
        strict=True,
    ):
        words = size_words(style, shape, style_rule_words(recipe, index), resampling) + share
        lines[role.replace("_", " ")] = words
    lines |= {role.replace("_", " "): file.name for role, file in job.controls.files.items()}
    if len(scales) > 1:
        lines["scales"] = ", ".join(f"{px(scale.shape)} for {scale.steps}" for scale in scales)
    if job.plan.in_bucket:
        lines["bucket"] = plan_report.bucket_line([scales], [job.plan.scales])
    lines |= finishing_lines(recipe)
    lines["memory"] = plan_report.memory_line(job.plan)
    if (time := plan_report.time_line(job.plan)) is not None:
        lines["time"] = time
    notes = [note for note in [plan_report.warning(job.plan)] if note] + list(job.notes)
    if job.outputs.film is not None and job.resume is not None:
        notes.append(f"the film begins after {job.resume.step} updates, where the run resumes")
    of_regions = () if job.given is None else job.given.style_shapes
    notes += style_scale_notes(job.styles, scales[-1], recipe, of_regions=of_regions)
    if job.outputs.checkpoint is not None:
        lines["checkpoint"], more = autosave.describe(job)
        notes += more
    for picture in job.inputs.values():
        notes += [f"{picture.name}: {note}" for note in picture.notes]
    introduce(
        display,
        device=facts["device"],
        weights=facts["weights"],
        lines=lines,
        recipes=[recipe],
        notes=notes,
    )
