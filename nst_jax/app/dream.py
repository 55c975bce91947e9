"""The work of the command `dream` (Deep Dream): check its inputs and options, and paint the picture.

A dream changes a picture so that layers of the network respond more strongly to it. It does so at
several sizes of the picture one after the other, from small to large, which are called octaves.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax

from nst_jax import _files, dreaming, images, provenance
from nst_jax._types import Params
from nst_jax.app import arguments, cache, plan_report, programs
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.interrupts import Interrupts
from nst_jax.app.introduction import introduce, size_words
from nst_jax.app.log import RunLog
from nst_jax.app.outputs import Outputs, note_on_old_frames
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.app.recorder import Ending, Recorder, follow
from nst_jax.app.timing import CompileClock, IntervalChooser
from nst_jax.app.watch import MeasuringWatch
from nst_jax.dreams.settings import DreamSettings, settings_of
from nst_jax.scaling.file_memory import memory_of_files
from nst_jax.scaling.plan import Plan
from nst_jax.weights.params import WeightsInfo

# Options of the command that are passed to `settings_of` as arguments with the same names. The value of
# an option that was not given is None; it is not passed, so that the default of `settings_of` holds.
OPTIONS = (
    "size", "guide_size", "steps", "step_size", "octaves", "octave_scale", "jitter", "precision",
    "tile",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DreamJob:
    """The checked inputs and options of a dream of one picture.

    Some attributes, such as `metadata` and `resume`, are only here for `nst_jax.app.recorder.Recorder`.
    It writes the files of dreams and of style transfers, and reads these attributes of their jobs.

    Attributes:
      content: the picture from which the dream starts.
      guide: another picture, to whose features those of the dream are made similar; None if there is no
        guide.
      settings: the layers whose activations are maximised, the number and size of the steps, and so on.
      plan: what was decided about the run before it starts, such as the sizes at which the picture is
        changed (octaves).
      outputs: paths of the files that the run writes, and options for writing them.
      seed: seed of the random key for the shifts of the picture before each step (jitter).
      begun: when the command began, in seconds, by `time.perf_counter`.
      resume: always None: a dream has no checkpoint, since it is short enough to be repeated.
    """

    content: images.Picture
    guide: images.Picture | None
    settings: DreamSettings
    plan: Plan
    outputs: Outputs
    seed: int = 0
    begun: float = field(default_factory=time.perf_counter, compare=False)
    resume: None = None

    @property
    def metadata(self) -> bool:
        """Whether the run's settings are embedded in the result."""
        return self.outputs.metadata

    @property
    def inputs(self) -> dict[str, images.Picture]:
        """The input pictures by role: "content" and, if there is one, "guide"."""
        return {"content": self.content} | ({"guide": self.guide} if self.guide else {})


def settings_from(chosen: Mapping[str, Any]) -> DreamSettings:
    """Return the checked settings of a dream, made from the values of the command's options."""
    options = {name: chosen[name] for name in OPTIONS if chosen[name] is not None}
    if tile := options.get("tile"):
        options["tile"] = int(tile) if tile.isdecimal() else tile
    if chosen["taps"]:
        options["taps"] = arguments.tap_weights(chosen["taps"], "taps")
    return settings_of(guided=chosen["guide"] is not None, **options)


def dream_job(
    content: images.Picture,
    guide: images.Picture | None,
    settings: DreamSettings,
    outputs: Outputs,
    **options: Any,
) -> DreamJob:
    """Decide sizes and tiles for the dream of one picture; return them with its inputs and options.

    Args:
      content: the picture from which the dream starts.
      guide: another picture, to whose features those of the dream are made similar; or None.
      settings: the checked settings of the dream.
      outputs: paths of the files that the run writes.
      **options: other fields of `DreamJob`.

    Raises:
      ValueError: if a picture would become too small, if the result would be too large for its file
        format, or if the run does not fit into memory even in the smallest tiles (parts of the picture
        that are computed one after another).
    """
    pictures = [content] if guide is None else [content, guide]
    shapes = [picture.image.shape[:2] for picture in pictures]
    last = settings.scales(shapes[0], None if guide is None else shapes[1])[-1]
    outputs.check_fits(last.shape)
    files = memory_of_files(
        shapes,
        [picture.memory for picture in pictures],
        last if guide is not None else last._replace(style_shapes=()),
        settings.recipe,
    )
    plan = dreaming.plan_dream(
        settings, content.image, None if guide is None else guide.image, files=files
    )
    return DreamJob(
        content=content, guide=guide, settings=settings, plan=plan, outputs=outputs, **options
    )


def paint_dream(params: Params, weights: WeightsInfo, job: DreamJob, display: Display) -> Ending:
    """Paint a dream, and write all files that the options request.

    Args:
      params: the weights of the network.
      weights: description of the weights file.
      job: the inputs, options and plan of the dream, from `dream_job`.
      display: where progress is shown.

    Returns:
      How the run ended. If it was interrupted after its first picture, the newest picture has been
      written.
    """
    facts = of_dream(job, weights)
    _introduce(job, facts, display)
    _files.remove_leftovers(job.outputs.shown)
    pace = IntervalChooser(
        job.plan.scales,
        job.outputs.stride,
        also=[job.outputs.film_stride(job.settings.updates)],
        costs=job.plan.operations_per_update,
    )
    with CompileClock() as compiling, Ahead(compiling) as ahead, RunLog(None) as log:
        watch = MeasuringWatch(compiling, display, job.plan.measuring_operations[0])
        shots = dreaming.dream_planned(
            params,
            job.content.image,
            None if job.guide is None else job.guide.image,
            job.settings,
            job.plan,
            key=jax.random.key(job.seed),
            every=pace,
            programs=programs.kept_dream_in(cache.programs_folder(), display.say),
            begin=ahead.begin,
            watch=watch,
        )
        recorder = DreamRecorder(job, facts, log, display, compiling, watch, pace)
        with Interrupts(recorder.abandon) as interrupts:
            watch.stopped = lambda: interrupts.signal is not None
            ahead.look = watch.stop_if_asked
            try:
                with display.bar(pace.total, "compiling"):
                    follow(shots, recorder, interrupts)
                return recorder.finish(interrupts.signal)
            except BaseException:
                recorder.rescue()
                raise


class DreamRecorder(Recorder):
    """Receives the snapshots (pictures after some steps) of a dream: writes files, shows progress.

    In place of losses, it shows the excitement at each chosen layer, a number that a dream maximises,
    and embeds these numbers in the result. The excitement is the mean square of the picture's
    activations at the layer. With a guide (a second picture), the activations are not squared, but
    multiplied by the activations of the guide that match them best.
    """

    def _words(self, shot: dreaming.DreamShot) -> str:
        return ", ".join(f"{tap} {float(value):.4g}" for tap, value in shot.excitement.taps.items())

    def _measured(self, shot: dreaming.DreamShot) -> dict[str, Any]:
        return {"excitement": {tap: float(value) for tap, value in shot.excitement.taps.items()}}

    def _log_steps(self, history: Any, last: int, seconds: list[float]) -> None:
        del history, last, seconds

    def _record_rate(self) -> None:
        """Record no speed, since recorded speeds serve to predict the times of style transfers only."""

    def _has_stalled(self, shot: dreaming.DreamShot) -> bool:
        if shot.step < self.pace.total:
            return False
        return dreaming.is_unchanged(shot, self.job.content.image, self.job.plan)

    def _warning(self, shot: dreaming.DreamShot) -> str:
        """Return "": the warning is about losses that stay high, but a dream has no losses."""
        del shot
        return ""

    def _broken(self, shot: dreaming.DreamShot) -> tuple[str, str]:
        why = f"what the dream maximises is not finite after {shot.broke_at} updates"
        return why, dreaming.REMEDY

    def _stalled(self, shot: dreaming.DreamShot) -> tuple[str, str]:
        return f"none of {shot.step} updates changed a pixel", dreaming.REMEDY_IF_STALLED


def of_dream(job: DreamJob, weights: WeightsInfo) -> dict[str, Any]:
    """Return the metadata of the result of a dream: its settings, inputs, weights and device."""
    settings, recipe = job.settings, job.plan.recipe
    facts = provenance.of_run(
        recipe, job.plan.scales, seed=job.seed, inputs=job.inputs, weights=weights
    )
    guided = {} if job.guide is None else {"guide_size": facts["style_sizes"][0]}
    # `of_run` returns the metadata of a style transfer, with the guide as its style. What a dream does
    # not have is removed: scales, and all settings of losses and of the optimiser. The size of the
    # style is removed, too, since it is stored as `guide_size`.
    for name in ("style_sizes", "scales"):
        del facts[name]
    kept = (
        "network.",
        "pictures.size",
        "pictures.resize",
        *(["pictures.style_size"] * bool(guided)),
    )
    facts["settings"] = {k: v for k, v in facts["settings"].items() if k.startswith(kept)}
    ascent = settings.ascent
    return (
        facts
        | guided
        | {
            "taps": dict(zip(ascent.taps, ascent.weights, strict=True)),
            "octaves": [list(reversed(scale.shape)) for scale in job.plan.scales],
            "octave_scale": settings.octave_scale,
            "steps_per_octave": settings.steps,
            "step_size": ascent.step_size,
            "jitter": ascent.jitter,
        }
    )


def _introduce(job: DreamJob, facts: dict[str, Any], display: Display) -> None:
    """Show, before the run, its device, weights, layers, sizes and memory.

    Notes are shown too: a warning if memory is scarce, and what was converted in the input pictures.
    """
    plan, pictures = job.plan, job.plan.recipe.pictures
    last, filter_name = plan.scales[-1], facts["filter"]
    lines = {
        "dream": ", ".join(f"{tap} (weight {x:g})" for tap, x in facts["taps"].items())
        + f", {job.settings.updates} updates",
        "precision": plan_report.precision_line(plan),
        "content": size_words(job.content, last.shape, pictures.size, filter_name),
    }
    if job.guide is not None:
        assert pictures.style_size is not None
        lines["guide"] = size_words(
            job.guide, last.style_shapes[0], pictures.style_size, filter_name
        )
    lines["octaves"] = ", ".join(
        f"{scale.steps} updates at {px(scale.shape)}" for scale in plan.scales
    )
    lines["memory"] = plan_report.memory_line(plan)
    notes = [note for note in [plan_report.warning(plan)] if note]
    notes += note_on_old_frames(job.outputs, job.settings.updates)
    for picture in job.inputs.values():
        notes += [f"{picture.name}: {note}" for note in picture.notes]
    introduce(
        display,
        device=facts["device"],
        weights=facts["weights"],
        lines=lines,
        recipes=[],
        notes=notes,
    )
