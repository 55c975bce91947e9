"""Train a network: show progress, write samples, and write the best network, also after Ctrl-C.

Some of the photos are held out: the network is not trained on them. The best network is the one with
the least loss on these photos.
"""

import shutil
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nst_jax import _files, provenance
from nst_jax._types import Params
from nst_jax.app import autosave, rates
from nst_jax.app.formatting import amount, duration, few, span
from nst_jax.app.interrupts import Interrupts
from nst_jax.app.introduction import introduce
from nst_jax.app.messages import print_message
from nst_jax.app.outputs import check_file, refuse_inputs
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.app.recorder import Ending
from nst_jax.app.timing import CompileClock
from nst_jax.app.writing import save_elsewhere, write_picture
from nst_jax.feed_forward import style_files
from nst_jax.feed_forward.crops import number_held_out
from nst_jax.feed_forward.style_files import TrainingCheckpoint
from nst_jax.feed_forward.training import (
    Training,
    TrainingDiverged,
    TrainingReport,
    checkpoint_size,
)
from nst_jax.feed_forward.training_job import TrainingJob
from nst_jax.images import sheets
from nst_jax.vgg.taps import TAPS
from nst_jax.weights.params import WeightsInfo

SUFFIX = ".h5"
# Least seconds between two refreshes of the progress display. Each refresh waits until the device has
# computed the loss, so frequent ones would slow the training. A new loss on the photos that are held
# out is shown at once, and so is the last update.
SHOW_SECONDS = 1.0
MOST_ROWS, MOST_COLUMNS = 4, 8  # largest numbers of photos and of styles in the picture of samples
# The duration of the training is predicted from the time of this many updates. The first update, which
# includes compiling, is not one of them.
TIMED = 3


@dataclass(frozen=True, kw_only=True)
class TrainOutputs:
    """The files that a training writes.

    Attributes:
      style: file of the best network, the one with the least loss on the photos that are held out.
      checkpoint: file for the state of the training, from which it can be resumed.
      samples: path of a picture that shows how the network, as trained so far, paints some of the
        photos that are held out; None means that no such picture is written.
      resume: whether to resume from the checkpoint, if that file exists.
    """

    style: Path
    checkpoint: Path
    samples: Path | None
    resume: bool = False

    @classmethod
    def of(
        cls, style: Path, checkpoint: Path | None, *, samples: bool, resume: bool
    ) -> "TrainOutputs":
        """Return the outputs; paths that are not given are formed from that of the network's file.

        Args:
          style: path of the network's file.
          checkpoint: path of the checkpoint; None means that it is formed from `style`.
          samples: whether a picture of samples is written, whose path is formed from `style`.
          resume: whether to resume from the checkpoint, if that file exists.
        """
        return cls(
            style=style,
            checkpoint=style.with_suffix(f".checkpoint{SUFFIX}")
            if checkpoint is None
            else checkpoint,
            samples=style.with_name(f"{style.stem}_samples.png") if samples else None,
            resume=resume,
        )

    def check(self, inputs: Sequence[Path], photos: Sequence[Path], *, overwrite: bool) -> None:
        """Check the paths: that they can be written to, and that none is an input or another output.

        Args:
          inputs: paths of all files that the training reads, except photos.
          photos: paths of the photos. If they were found by a glob such as 'photos/*', there may be
            files of the network among them, which are no pictures and left out later.
          overwrite: whether an existing file of a network or of samples may be replaced.

        Raises:
          ValueError: if a path cannot be used; the message names the option.
        """
        _files.check_has_suffix(self.style, SUFFIX, argument="output")
        if self.style.suffix.lower() != SUFFIX:
            raise ValueError(
                f"`output`: expected a name that ends in {SUFFIX}, got '{self.style}'; the network is "
                "an HDF5 file"
            )
        check_file(self.style, "output", overwrite=overwrite)
        refuse_inputs(self.style, inputs, "output")
        check_file(self.checkpoint, "checkpoint")
        refuse_inputs(self.checkpoint, [*inputs, self.style], "checkpoint")
        if self.samples is not None:
            check_file(self.samples, "samples", overwrite=overwrite)
            others = [*inputs, *photos, self.style, self.checkpoint]
            refuse_inputs(self.samples, others, "output", hint=", or add `--no-samples`")

    def without_samples(
        self, photos: Sequence[Path], word_for: Callable[[Path], Path | None]
    ) -> list[Path]:
        """Refuse a training whose picture of samples would be one of the photos of the next start.

        Earlier versions began such trainings. One of these can be resumed: its picture of samples,
        which was not there when it began, is left out of the photos.

        Args:
          photos: the paths of the photos.
          word_for: a function of a file's path that returns the folder or glob given as photos by which
            the file is found as soon as it exists, or None.

        Returns:
          The paths of the photos, without that of the picture of samples.

        Raises:
          ValueError: if the picture of samples would be found, and no such training is resumed.
        """
        samples = self.samples
        if samples is None or (word := word_for(samples)) is None:
            return list(photos)
        if not (self.resume and self.checkpoint.exists() and samples.exists()):
            raise ValueError(
                f"`output`: the picture of samples, '{samples}', would be found by `--photos {word}`, "
                "so it would be a photo of the next start; choose another folder, or add `--no-samples`"
            )
        same = [path for path in photos if path.name == samples.name and path.samefile(samples)]
        return [path for path in photos if path not in same]

    def earlier(self) -> TrainingCheckpoint | None:
        """Return the checkpoint from which the training resumes; None if its file does not exist.

        Raises:
          ValueError: if the file exists and `resume` is not set, or if it is no intact checkpoint.
        """
        if not self.checkpoint.exists():
            return None
        if not self.resume:
            raise ValueError(
                f"`checkpoint`: '{self.checkpoint}' exists; add `--resume` to continue from it, delete "
                "it to start anew, or name another file"
            )
        return style_files.load_training(self.checkpoint, argument="checkpoint")


def run_training(
    params: Params,
    weights: WeightsInfo,
    job: TrainingJob,
    outputs: TrainOutputs,
    display: Display,
    *,
    resume: TrainingCheckpoint | None = None,
    notes: Sequence[str] = (),
    begun: float | None = None,
) -> Ending:
    """Train a network, and write the files that are asked for.

    Args:
      params: the weights of VGG-19.
      weights: description of the weights file.
      job: the checked inputs and options.
      outputs: paths of the files to write.
      display: where progress is shown.
      resume: the checkpoint to resume from, or None.
      notes: lines shown before the training.
      begun: when the command began, in seconds, by `time.perf_counter`; None means now.

    Returns:
      How the training ended. If it was completed, or interrupted after its first update, the best
      network and the checkpoint have been written; a message is printed if one could not be. If it
      diverged, the best network has been written, provided that some update improved the network.

    Raises:
      ValueError: if the disk has no room for a checkpoint; if `resume` is of another training, or was
        written after more updates than `job` has; or if too many photos are damaged or nearly uniform.
    """
    written = (outputs.style, outputs.checkpoint, outputs.samples)
    # Unfinished files of earlier trainings take space, so they are removed before the disk is checked.
    _files.remove_leftovers(path for path in written if path is not None)
    _check_disk_space(job, outputs)
    _introduce(weights, job, outputs, display, resume, notes)
    interrupts = Interrupts(display.stop)
    try:
        with (
            CompileClock() as compiling,
            interrupts,
            display.bar(job.steps, "measuring the paintings"),
            _resumed(params, job, resume) as run,
        ):
            recorder = _Recorder(run, outputs, display, compiling, begun)
            return _follow(run, recorder, interrupts)
    except KeyboardInterrupt:
        if interrupts.signal is None:
            raise
        what = "before the first update; nothing was written"
        if resume is not None:
            what = "before the next update; the files of the training are as they were"
        return Ending("interrupted", what, 128 + interrupts.signal)


def _follow(run: Training, recorder: "_Recorder", interrupts: Interrupts) -> Ending:
    """Record each report (updates so far, losses) until training ends, stops or fails; then save."""
    try:
        for report in run:
            # After the first update there is something to save. From then on, a signal (Ctrl-C) is only
            # recorded, so that the results can be saved before the training ends.
            if report.step:
                interrupts.defer()
            stopped = interrupts.signal is not None
            recorder.record(report, last=stopped or report.step == run.job.steps)
            if stopped:
                break
        return recorder.finish(interrupts.signal)
    except TrainingDiverged as error:
        recorder.save_best()
        return Ending("failed", str(error).replace("`learning_rate`", "`--lr`"), 1)
    except BaseException:
        recorder.rescue()
        raise


def _resumed(params: Params, job: TrainingJob, resume: TrainingCheckpoint | None) -> Training:
    try:
        return Training(params, job, resume=resume)
    except ValueError as error:
        raise ValueError(str(error).replace("`resume`", "`checkpoint`", 1)) from error


def _check_disk_space(job: TrainingJob, outputs: TrainOutputs) -> None:
    size = checkpoint_size(job)
    free = shutil.disk_usage(outputs.checkpoint.absolute().parent).free
    if size > free:
        raise ValueError(
            f"`checkpoint`: '{outputs.checkpoint}' takes about {amount(size)} and its disk has "
            f"{amount(free)} left; free some space, or name a file elsewhere"
        )


# --- Files and progress -----------------------------------------------------------------------------


class _Recorder:
    """Writes the files of a training and shows its progress.

    The recorder receives a report before the first update and after each update. A report has the
    number of updates so far and the latest losses.
    """

    def __init__(
        self,
        run: Training,
        outputs: TrainOutputs,
        display: Display,
        compiling: CompileClock,
        begun: float | None,
    ) -> None:
        self.run, self.outputs, self.display, self.compiling = run, outputs, display, compiling
        self._begun = time.perf_counter() if begun is None else begun
        self._first = run.step  # updates done before this process began; 0 for a new training
        # The time at which this process last tried to write the checkpoint; before the first attempt,
        # the time at which this object was made.
        self._saved = time.monotonic()
        self._pause, self._shown = autosave.SECONDS, 0.0
        # The start of the measurement of speed: the number of the first update that this process did,
        # and the time by `time.perf_counter` when that update was done. None before it is done.
        self._pace: tuple[int, float] | None = None
        self._announced = self._rescued = False
        self._warned: set[Path] = set()

    def record(self, report: TrainingReport, *, last: bool) -> None:
        """Write the files that are due, and show the progress from time to time.

        This method is called before the first update and after every update. If the report has a loss
        on the held-out photos, samples are written and, after an update, the network if it is the best
        so far. The checkpoint is written at intervals and at the end.

        Args:
          report: the number of updates so far and the latest losses.
          last: whether the training ends after this report.
        """
        if report.held_out is not None:
            if report.step and self.run.best_step == report.step:
                self.save_best()
            self._write_samples()
        if report.step and report.loss is not None:
            self._time(report)
            self._save_if_due(last)
        now = time.monotonic()
        if report.held_out is not None or last or now - self._shown >= SHOW_SECONDS:
            self._shown = now
            self._show(report)

    # --- Progress

    def _time(self, report: TrainingReport) -> None:
        """Measure how long updates take, and print once how long the rest of the training takes.

        The first update is not timed, since it includes compiling.
        """
        if self._pace is None or (not self._announced and report.step - self._pace[0] >= TIMED):
            np.asarray(report.loss)  # waits for the update, which JAX computes asynchronously
            if self._pace is not None:
                self._announced = True
                left = self.run.job.steps - report.step
                spent = duration(self.compiling.seconds)
                self.display.say(
                    f"compiled in {spent}; the {left} updates that are left take about "
                    f"{duration(left * self._seconds_per_update(report.step))}"
                )
            else:
                self._pace = report.step, time.perf_counter()

    def _seconds_per_update(self, step: int) -> float:
        """Return the mean seconds per update after the first, including the writing of files."""
        first, since = self._pace or (step, time.perf_counter())
        return (time.perf_counter() - since) / max(1, step - first)

    def _show(self, report: TrainingReport) -> None:
        job, words = self.run.job, []
        if report.loss is not None:
            words.append(f"loss {float(report.loss):.4g}")
        elif report.step < job.steps:
            words.append("compiling")
        words.append(f"held out {self.run.held_out[-1]:.4g}")
        if self.run.best_step != self.run.updates[-1]:
            words.append(f"best {min(self.run.held_out):.4g} after {self.run.best_step}")
        if self._pace is not None and report.step > self._pace[0]:
            seconds = self._seconds_per_update(report.step)
            words.append(f"{job.batch / seconds:.3g} pictures/s")
            if report.step < job.steps:
                words.append(f"{duration(seconds * (job.steps - report.step))} left")
        self.display.move(report.step, job.steps, "update", ", ".join(words))

    # --- Files

    def save_best(self) -> None:
        """Write the best network so far, unless that is the network before the first update."""
        if self.run.best_step:
            self._try(self.outputs.style, self._style_writer(measure=False))

    def _style_writer(self, *, measure: bool) -> Callable[[Path], None]:
        network, facts = self.run.outcome(measure=measure)
        return lambda path: style_files.save_network(path, network, facts=facts)

    def _save_if_due(self, last: bool) -> None:
        start = time.monotonic()
        if not last and start - self._saved < self._pause:
            return
        checkpoint = self.run.checkpoint()
        if checkpoint is None:
            return
        self._try(self.outputs.checkpoint, lambda path: style_files.save_training(path, checkpoint))
        self._saved = time.monotonic()
        self._pause = max(autosave.SECONDS, autosave.PAUSE * (self._saved - start))

    def _try(self, path: Path, save: Callable[[Path], None]) -> bool:
        """Write a file by `save`; return whether that succeeded.

        If writing the same file fails several times in a row, only the first failure is reported.
        """
        try:
            save(path)
        except (OSError, ValueError) as error:
            if path not in self._warned:
                self._warned.add(path)
                reason = _files.reason_of(error)
                print_message("warning", f"{reason}; training goes on, and tries again later")
            return False
        self._warned.discard(path)
        return True

    def _write_samples(self) -> None:
        path, run = self.outputs.samples, self.run
        if path is None:
            return
        contents = run.crops.held_out[:MOST_ROWS]
        names = list(run.job.paintings)[:MOST_COLUMNS]
        painted = run.paint(run.present, contents)[:, :MOST_COLUMNS]
        cells = {index: painted[index] for index in np.ndindex(painted.shape[:2])}
        paintings = [run.job.paintings[name] for name in names]
        sheet = sheets.contact_sheet(list(contents), paintings, cells, style_labels=names)
        self._try(path, lambda place: write_picture(place, sheet))

    # --- The end of the training

    def finish(self, stopped_by: int | None) -> Ending:
        """Write the best network, and return how the training ended.

        If the last attempt to write the checkpoint failed, this method tries to write it once more.

        Args:
          stopped_by: number of the signal that stopped the training; None if no signal did.
        """
        run, job = self.run, self.run.job
        network, facts = run.outcome()
        self._rescued = True
        style, saved = self.outputs.style, self.outputs.checkpoint
        found = self._write_or_elsewhere(
            style, lambda path: style_files.save_network(path, network, facts=facts)
        )
        kept = None if saved in self._warned else saved
        if self.outputs.checkpoint in self._warned and (checkpoint := run.checkpoint()) is not None:
            kept = self._write_or_elsewhere(
                saved, lambda path: style_files.save_training(path, checkpoint)
            )
        figures = facts["training"]
        best = f"held-out loss {figures['held_out_loss']:.4g} after {figures['best_after']} updates"
        for note in run.crops.notes:
            self.display.say(f"note: left out: {note.removeprefix('`photos`: ')}")
        if self._pace is not None and run.step > self._pace[0] + TIMED:
            rates.record_training(kind_of(job), self._seconds_per_update(run.step))
        if run.step < job.steps:
            message = f"after {run.step} of {job.steps} updates"
            if found is not None:
                name = style.name if found == style else found
                message += f"; {name} has the best network, {best}"
            if kept == saved:
                message += f"; `--resume` continues from {saved}"
            elif kept is not None:
                message += f"; move '{kept}' to '{saved}', then `--resume` continues from it"
            return Ending("interrupted", message, 128 + (stopped_by or signal.SIGINT))
        spent = duration(time.perf_counter() - self._begun)
        self.display.say(f"done in {spent}: {best}, at first {run.held_out[0]:.4g}")
        if (found, kept) != (style, saved):
            return Ending("failed", "not all files could be written where they belong", 1)
        return Ending("done", "", 0)

    def _write_or_elsewhere(self, path: Path, save: Callable[[Path], None]) -> Path | None:
        """Write a file by `save` to `path`, or to another folder if that fails.

        A message on standard error says what failed, and where the file is.

        Returns:
          The path to which the file was written; None if it could not be written to any folder.
        """
        try:
            save(path)
            return path
        except (OSError, ValueError) as error:
            print_message("warning", _files.reason_of(error))
        found = save_elsewhere(path, save)
        if found is None:
            print_message("lost", f"'{path.name}' could not be saved in any folder")
        else:
            message = f"'{path}' could not be written; its contents are in '{found}'"
            print_message("saved", message)
        return found

    def rescue(self) -> None:
        """Try to write the best network and a checkpoint of a training that failed."""
        if self._rescued or self.run.step == self._first:
            return
        self._rescued = True
        # The error to report is the one that made the training fail. So errors raised here are ignored.
        with suppress(Exception):
            if (checkpoint := self.run.checkpoint()) is not None:
                self._write_or_elsewhere(
                    self.outputs.checkpoint,
                    lambda path: style_files.save_training(path, checkpoint),
                )
            if self.run.best_step:
                self._write_or_elsewhere(self.outputs.style, self._style_writer(measure=False))
            self.display.say(f"what was trained in {self.run.step} updates is kept")


# --- Before the training ----------------------------------------------------------------------------


def kind_of(job: TrainingJob) -> str:
    """Return text that names the settings and number of devices on which an update's time depends.

    Measured times are stored under this text, to predict those of later trainings. They also depend on
    the kind of the devices, which `nst_jax.app.rates` adds to the text.
    """
    deepest = max(job.recipe.terms.taps, key=TAPS.index)
    devices = 1 if job.mesh is None else job.mesh.size
    return (
        f"training, {job.recipe.network.precision.name}, {job.batch} of {job.crop} px, width "
        f"{job.width:g}, {job.blocks} blocks, to {deepest}, {devices} devices"
    )


def _introduce(
    weights: WeightsInfo,
    job: TrainingJob,
    outputs: TrainOutputs,
    display: Display,
    resume: TrainingCheckpoint | None,
    notes: Sequence[str],
) -> None:
    """Show device, weights, recipe, pictures, files and the expected duration before the training."""
    devices = "" if job.mesh is None else f" on each of {job.mesh.size} devices"
    each = job.batch if job.mesh is None else job.batch // job.mesh.size
    photos = len(job.found.photos)
    crops = f"{each} crop{'s' * (each > 1)} of {job.crop} px{devices}"
    lines = {
        "recipe": f"{job.recipe.name}, {job.recipe.network.precision.name}",
        "paintings": few(
            [f"{name}, {px(shape)}" for name, shape in job.style_shapes.items()], "; "
        ),
        "photos": f"{photos}, of which {number_held_out(photos)} are held out",
        "training": f"{job.steps} updates by {crops}, width {job.width:g}",
        "network": f"{outputs.style}",
        "checkpoint": f"{outputs.checkpoint}, about every {autosave.SECONDS:.0f} s",
    }
    if resume is not None:
        lines["checkpoint"] += f"; resumes after {resume.step} of {job.steps} updates"
    left = job.steps - (0 if resume is None else resume.step)
    known = rates.known_training(kind_of(job))
    if known is not None:
        times = span(left * known.least, left * known.most)
        lines["time"] = f"{times}, by earlier trainings here, and compiling"
    elif rates.rates_are_kept():
        lines["time"] = "not known until the first updates are timed"
    absent = resume is None and outputs.resume
    fresh = f"there is no '{outputs.checkpoint}' yet: the training starts from its beginning"
    introduce(
        display,
        device=provenance.device(),
        weights=weights._asdict(),
        lines=lines,
        recipes=[job.recipe],
        notes=[*job.found.notes, *notes, *([fresh] if absent else [])],
    )
