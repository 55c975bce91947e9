"""Run a job: drive `paint`, keep what it yields, tell how it goes, and end well however it ends."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import images, painting, prepare, provenance
from nst_jax._types import Checkpoint, Image, Params, Shape, Snapshot
from nst_jax.app import checkpointing, cluster, plan, programs
from nst_jax.app.job import Job
from nst_jax.app.log import RunLog
from nst_jax.app.progress import Display, left, shares
from nst_jax.app.timing import CompileClock, Pace, Stopwatch
from nst_jax.app.wording import duration
from nst_jax.images.resizing import antialiased
from nst_jax.losses import TOTAL_VARIATION
from nst_jax.recipes.recipe import Recipe, Terms
from nst_jax.scaling import capacity, costs
from nst_jax.weights.params import WeightsInfo


class Ending(NamedTuple):
    """How a run ended."""

    status: str  # "done", "interrupted" or "failed"
    message: str  # for people; empty if done
    code: int  # for the shell


class Interrupts(AbstractContextManager):
    """Turns Ctrl-C and SIGTERM into a wish to stop, once there is something to keep.

    Before `hold`, a signal ends the run there and then: `abandon` is called, and then whoever
    listened before, else KeyboardInterrupt is raised. After `hold` it is only noted. A second signal
    ends the process at once, as if nobody listened.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._abandon, self._holding = abandon, False
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # `nohup` and a shell's background jobs ask not to be interrupted.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._hear)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _hear(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)
        if not self._holding:
            self._abandon()
            if callable(self._old[number]):
                self._old[number](number, frame)
            raise KeyboardInterrupt

    def hold(self) -> None:
        """From here on a signal is only noted."""
        self._holding = True


def run(
    params: Params,
    weights: WeightsInfo,
    job: Job,
    display: Display,
    watch: cluster.Watch | None = None,
) -> Ending:
    """Paint a job's picture and write everything it asked for.

    Args:
      params: the weights.
      weights: what their file says of itself.
      job: checked.
      display: where to show progress.
      watch: of the other processes that paint this picture, if there are any.

    Returns:
      How it ended. A run that was interrupted or diverged has written its last finite canvas, if
      there is one.
    """
    facts = provenance.of_run(
        job.recipe, job.scales, seed=job.seed, inputs=job.inputs, weights=weights
    )
    introduce(job, facts, display)
    checkpointing.check_room(job)
    done = 0 if job.resume is None else job.resume.step
    pace = Pace(
        job.scales,
        job.outputs.stride,
        also=job.outputs.checkpoint_every,
        done=done,
        costs=costs.scale_operations(job.scales, job.recipe, capacity.platform_of()),
    )
    with CompileClock() as compiling, programs.Ahead(compiling) as ahead:
        # Before the log is opened: a checkpoint of another run is refused here.
        shots = painting.painted(
            params,
            job.content.image,
            [style.image for style in job.styles],
            job.recipe,
            init=job.init,
            key=jax.random.key(job.seed),
            every=cluster.led(pace),
            resume=job.resume,
            devices=job.devices,
            programs=programs.kept_in(programs.programs_folder()),
            # Several processes have to start their common programs in one order, so by one thread.
            begin=ahead.begin if jax.process_count() == 1 else None,
        )
        with RunLog(job.outputs.log if cluster.first() else None) as log:
            course = _Course(job, facts, log, display, compiling, pace)
            saving = nullcontext() if watch is None else watch.saving(course.lose)
            with saving, Interrupts(course.abandon) as interrupts:
                try:
                    with display.bar(pace.total, "compiling"):
                        _follow(shots, lambda: shots.checkpoint(copy=False), course, interrupts)
                    if watch is not None and course.last is None:
                        watch.leave("interrupted before its first canvas")
                    return course.finish(interrupts.signal)
                except BaseException:
                    course.rescue()
                    course.log_end("failed")
                    raise


def _follow(
    shots: Iterator[Snapshot],
    stand: Callable[[], Checkpoint],
    course: "_Course",
    interrupts: Interrupts,
) -> None:
    try:
        for shot in shots:
            interrupts.hold()
            course.take(shot)
            stopped = cluster.any_of(interrupts.signal is not None)
            course.keeper.keep(shot, stand, course.seconds, last=stopped)
            if stopped:
                return
    except KeyboardInterrupt:
        if interrupts.signal is None:
            raise


class _Course:
    """One run on its way: the last snapshot, and where it is told and kept."""

    def __init__(
        self,
        job: Job,
        facts: dict,
        log: RunLog,
        display: Display,
        compiling: CompileClock,
        pace: Pace,
    ) -> None:
        self.job, self.facts, self.log, self.display = job, facts, log, display
        self.pace, self.keeper = pace, checkpointing.Keeper(job, pace.ends)
        self.last: Snapshot | None = None
        before = [] if job.resume is None else checkpointing.seconds_of(job.resume)
        self.seconds: list[float] = []  # when each canvas so far was measured
        self._before = before
        self.compiling = compiling
        self._watch = Stopwatch(compiling, elapsed=before[-1] if before else 0.0)
        self._first_compile: float | None = None
        self._announced = self._written = self._rescued = self._ended = False

    def take(self, shot: Snapshot) -> None:
        """Log, keep and show one snapshot."""
        lap = self._watch.lap()
        # A run that goes on compiles after its first snapshot, which shows only where it stands.
        if self._first_compile is None and (self.last is not None or self.job.resume is None):
            self._first_compile = self.compiling.seconds
        if self.last is None:
            self._log_start()
        broke = shot.broke_at >= 0
        # What came after the break has no meaning.
        count = len(shot.history.total) - (shot.step - shot.broke_at if broke else 0)
        history = jax.tree.map(lambda values: values[:count], shot.history)
        last = shot.broke_at if broke else shot.step
        seconds = self._before[:count] if self.last is None and self._before else lap.spread(count)
        self.seconds += seconds
        self.log.steps(history, last=last, seconds=seconds, scale_of=self.pace.scale_of)
        self.pace.advance(shot.step, lap.seconds)
        if self.last is not None and not self._announced:
            self._announce()
        self.last = shot
        if not broke:
            self._keep(shot)
            self._show(shot)

    def _announce(self) -> None:
        self._announced = True
        first = self._first_compile or 0.0
        rest = self.pace.seconds_left(first)
        if rest is not None:
            whole = f"{self.pace.total} updates take"
            what = whole if self.job.resume is None else "the rest takes"
            self.display.say(f"compiled in {duration(first)}; {what} about {duration(rest)}")

    def _show(self, shot: Snapshot) -> None:
        words = [shares(shot.losses)]
        if 0 < shot.step < self.pace.total:
            words.append(left(self.pace.seconds_left(self._first_compile or 0.0)))
        self.display.move(shot.step, self.pace.total, "step", ", ".join(filter(None, words)))

    def _keep(self, shot: Snapshot) -> None:
        outputs, total = self.job.outputs, self.pace.total
        if shot.step != total and (not outputs.stride or shot.step % outputs.stride):
            return
        if outputs.frames is not None and cluster.first():
            outputs.frames.mkdir(exist_ok=True)
            self._save(outputs.frames / f"step_{shot.step:05d}.png", shot, overwrite=True)
        if outputs.every and 0 < shot.step < total:
            self._save_picture(shot)

    def _save_picture(self, shot: Snapshot) -> None:
        overwrite = self.job.outputs.overwrite or self._written
        self._save(self.job.outputs.picture, shot, overwrite=overwrite)
        self._written = True

    def _save(self, path: Path, shot: Snapshot, *, overwrite: bool) -> None:
        if not cluster.first():
            return
        finished = shot.step == self.pace.total and shot.broke_at < 0
        told = self.facts | {
            "steps_done": shot.step if shot.broke_at < 0 else shot.broke_at - 1,
            "finished": finished,
        }
        if shot.broke_at < 0:
            told["losses"] = provenance.of_losses(shot.losses)
        alpha = resized_alpha(self.job.content.alpha, shot.image)
        metadata = told if self.job.outputs.metadata else None
        save(path, shot.image, alpha=alpha, metadata=metadata, overwrite=overwrite)

    def finish(self, stopped_by: int | None) -> Ending:
        """Write the picture and the end of the log; say how it ended."""
        shot, name = self.last, self.job.outputs.picture.name
        if shot is not None and shot.broke_at != 0:
            self._save_picture(shot)
        ending = self._ending(stopped_by, name)
        if ending.status != "failed" and cluster.first():
            plan.record_rate(self.job.recipe, self.pace.timed)
        facts: dict[str, Any] = {"output": name} if self._written else {}
        if shot is not None and self.job.outputs.log is not None:
            facts["total_variation"] = self._variations(shot)
        self.log_end(ending.status, **facts)
        return ending

    def _variations(self, shot: Snapshot) -> dict[str, float]:
        """Return how much neighbouring pixels differ, in the picture and in the content at its size."""
        content = prepare.resized(
            self.job.content.image, self.job.scales[-1].shape, self.job.recipe
        )
        height, width = shot.image.shape[:2]
        content = prepare.at_scale(content, (height, width))
        images = {"picture": shot.image, "content": content}
        measured = jax.jit(
            lambda image: TOTAL_VARIATION(image)
        )  # as single operations each would be a program
        return {name: float(measured(image)) for name, image in images.items()}

    def rescue(self) -> None:
        """Write the last canvas of a run that failed, where that can still be done."""
        if self._rescued or self.last is None or self.last.broke_at == 0:
            return
        self._rescued = True
        # What made the run fail may be the writing itself, and is what is to be told.
        with suppress(Exception):
            self._save_picture(self.last)
            name, steps = self.job.outputs.picture.name, self.last.step
            self.display.say(f"{name} holds the canvas after {steps} updates, unfinished")

    def lose(self) -> None:
        """Save what there is, as the process is about to end without the others."""
        self.display.stop()
        self.rescue()
        self.log_end("failed")

    def _ending(self, stopped_by: int | None, name: str) -> Ending:
        shot, total = self.last, self.pace.total
        if shot is None:
            code = 128 + (stopped_by or signal.SIGINT)
            return Ending("interrupted", "before the first step; nothing was written", code)
        if shot.broke_at >= 0:
            kept = f"{name} holds the last finite canvas" if shot.broke_at else "nothing is written"
            message = (
                f"the losses are not finite after {shot.broke_at} updates; {kept}: "
                "try a smaller learning rate or smaller weights"
            )
            return Ending("failed", message, 1)
        if shot.step < total:
            at = f"after {shot.step} of {total} updates"
            size, final = _px(shot.image.shape), _px(self.job.scales[-1].shape)
            scaled = "" if size == final else f", at {size} of {final}"
            message = f"{at}; {name} is unfinished{scaled}"
            if self.job.outputs.checkpoint is not None:
                message += f"; with `--resume` it goes on from {self.job.outputs.checkpoint}"
            return Ending("interrupted", message, 128 + (stopped_by or signal.SIGINT))
        self.display.say(f"done in {duration(self._watch.elapsed)} after compiling")
        return Ending("done", "", 0)

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
        """End before anything was painted."""
        self.display.stop()
        self.log_end("interrupted")

    def log_end(self, status: str, **facts: Any) -> None:
        """Write the log's last line, once, and its first if no step was reached."""
        if self._ended:
            return
        self._ended = True
        if not self.log.lines:
            self._log_start()
        self.log.write(
            "end",
            status=status,
            steps=None if self.last is None else self.last.step,
            seconds=round(self._watch.elapsed, 6),
            compile_seconds=round(self.compiling.seconds, 3),
            **facts,
        )


def save(path: Path, image: Any, **options: Any) -> None:
    """Write a picture whose place passed the door: what is wrong now came up since.

    Args:
      path: where it goes.
      image: [h, w, 3] in [0, 1].
      **options: of `images.save`.

    Raises:
      OSError: if it cannot be written.
    """
    try:
        images.save(path, image, **options)
    except ValueError as error:
        raise OSError(f"cannot write {str(path)!r}: {error}") from error


def resized_alpha(alpha: Any, image: Image) -> Any:
    """Bring the content's alpha [h, w] in [0, 1] to a picture's size; None stays None."""
    height, width = image.shape[:2]
    if alpha is None or alpha.shape == (height, width):
        return alpha
    # Filtered like a colour.
    grey = jnp.repeat(jnp.asarray(alpha, jnp.float32)[..., None], 3, axis=-1)
    return np.asarray(antialiased(grey, (height, width))[..., 0])


def introduce(job: Job, facts: dict, display: Display) -> None:
    """Say what will be done, before it is."""
    recipe, scales = job.recipe, job.scales
    rule, style_rule = recipe.pictures.size, recipe.pictures.style_size or recipe.pictures.size
    lines = surroundings(facts)
    if recipe.rows is not None:
        lines["device"] += f", {recipe.rows.count} share {recipe.rows.share} rows each or fewer"
    lines |= {
        "recipe": f"{recipe.name}, {facts['steps']} updates",
        "content": _sizes(job.content, scales[-1].shape, rule, facts),
    }
    shares = _shares(recipe.terms, len(job.styles))
    for role, style, shape, share in zip(
        [role for role in job.inputs if role.startswith("style")],
        job.styles,
        scales[-1].style_shapes,
        shares,
        strict=True,
    ):
        lines[role.replace("_", " ")] = _sizes(style, shape, style_rule, facts) + share
    if len(scales) > 1:
        steps = ", ".join(f"{_px(scale.shape)} for {scale.steps}" for scale in scales)
        lines["scales"] = steps
    told = plan.plan_of_fit(job.fit, scales)
    lines["memory"], memory_note = plan.memory_line(told), plan.warning(told)
    if (time := plan.time_line(told)) is not None:
        lines["time"] = time
    notes: list[str] = []
    if job.outputs.checkpoint is not None:
        lines["checkpoint"], notes = checkpointing.introduced(job)
    display.facts(lines)
    tell_family(recipe, facts["weights"]["family"], display)
    for note in [*filter(None, [memory_note]), *notes]:
        display.say(f"note: {note}")
    for picture in job.inputs.values():
        for note in picture.notes:
            display.say(f"note: {picture.name}: {note}")


def _shares(terms: Terms, count: int) -> list[str]:
    """Return what is said of each style's share, which is nothing of a single one's."""
    if count == 1:
        return [""]
    shares = [float(share) for share in terms.style_shares]
    shares = shares * count if len(shares) == 1 else shares
    return [f", {share / sum(shares):.0%}" for share in shares]


def tell_family(recipe: Recipe, family: str, display: Display) -> None:
    """Say so if a recipe's source ran on other weights than these."""
    if family == recipe.family:
        return
    remedy = ""
    if recipe.family == "vgg19-torchvision":
        remedy = (
            "; for the source's: `nst-jax weights convert vgg19-dcbb9e9d.pth -o torchvision.h5` with "
            "torchvision's file, then `--weights torchvision.h5`"
        )
    display.say(
        f"note: the source of {recipe.name} ran on {recipe.family}, so on {family} this is "
        f"approximate{remedy}"
    )


def surroundings(facts: dict) -> dict[str, str]:
    """Return the lines on the device and the weights."""
    device, weights = facts["device"], facts["weights"]
    kind = "" if device["kind"] == device["platform"] else f" ({device['kind']})"
    return {
        "device": f"{device['platform']}{kind}",
        "weights": f"{weights['family']}, {weights['encoding']}, {weights['digest'][:12]}",
    }


def _sizes(picture: images.Picture, shape: Shape, rule: Any, facts: dict) -> str:
    old = picture.image.shape
    if tuple(old[:2]) == tuple(shape):
        return f"{picture.name}, {_px(old)}, not resized ({rule})"
    return f"{picture.name}, {_px(old)} -> {_px(shape)} ({rule}, {facts['filter']})"


def _px(shape: Any) -> str:
    return f"{shape[1]}x{shape[0]} px"
