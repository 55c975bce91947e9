"""One picture: what is shown before its run, and the run, whose snapshots go to a `Recorder`.

A run changes its canvas, the picture that is painted, by many updates. After every few updates it
yields a snapshot: the canvas at that time, with the losses of all canvases since the last snapshot. A
run paints at one or several scales (resolution levels), from coarse to fine. The targets, which the
losses compare the canvas with, are computed before the updates; computing them is also called
measuring.
"""

from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import Any

import jax

from nst_jax import _files, planned_painting, provenance
from nst_jax._types import Params
from nst_jax.app import autosave, cache, cluster, plan_report, programs
from nst_jax.app.compiling_ahead import Ahead
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
from nst_jax.app.messages import as_flags
from nst_jax.app.outputs import note_on_old_frames
from nst_jax.app.plan_report import px
from nst_jax.app.preview import Preview
from nst_jax.app.progress import Display
from nst_jax.app.rates import known_paces
from nst_jax.app.recorder import Ending, Recorder, follow
from nst_jax.app.timing import CompileClock, IntervalChooser
from nst_jax.app.watch import MeasuringWatch
from nst_jax.canvas import Programs
from nst_jax.descent import Begin
from nst_jax.run_scales import style_rule_words
from nst_jax.weights.params import WeightsInfo


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

    Raises:
      ValueError: if the run is refused before it paints, for instance since its checkpoint does not fit
        on the disk, or since the checkpoint to resume from is that of another run.
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
    with CompileClock() as compiling, Ahead(compiling) as ahead:
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
        lines["scales"] = ", ".join(
            f"{scale.steps} updates at {px(scale.shape)}" for scale in scales
        )
    if job.plan.in_bucket:
        lines["bucket"] = plan_report.bucket_line([scales], [job.plan.scales])
    lines |= finishing_lines(recipe)
    lines["memory"] = plan_report.memory_line(job.plan)
    if (time := plan_report.time_line(job.plan)) is not None:
        lines["time"] = time
    notes = [note for note in [plan_report.warning(job.plan)] if note] + list(job.notes)
    if job.outputs.film is not None and job.resume is not None:
        notes.append(f"the film begins after {job.resume.step} updates, where the run resumes")
    if job.resume is None:
        notes += note_on_old_frames(job.outputs, _updates(job))
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
