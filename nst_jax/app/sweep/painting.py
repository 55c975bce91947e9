"""The canvases of a sweep painted, group by group, and what is printed before."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nst_jax import _files, provenance
from nst_jax._types import Params
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.introduction import (
    finishing_lines,
    introduce,
    strength_words,
    style_scale_notes,
)
from nst_jax.app.messages import as_flags
from nst_jax.app.plan_report import bucket_line, memory_line, precision_line, px
from nst_jax.app.programs import compiled_of_batch
from nst_jax.app.progress import BatchProgress, Display, GroupWork, divergence, stalled
from nst_jax.app.sweep.axes import TITLES
from nst_jax.app.sweep.job import SweepJob
from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import PollingWatch
from nst_jax.batch_members import members_of
from nst_jax.control_checks import notes_on_regions
from nst_jax.controls.given import BatchControls, Given
from nst_jax.descent import intervals_of, remedy_at_rest
from nst_jax.planned_batches import paint_batch
from nst_jax.recipes.starts import same_start
from nst_jax.weights.params import WeightsInfo


class PaintedCell(NamedTuple):
    """One painted picture of a sweep, its place in the grid, and what went wrong."""

    cell: int  # index in the grid, counted row by row from 0
    image: np.ndarray
    problem: str  # a message if losses were not finite or nothing was painted; else empty


def paint_sweep(
    params: Params, weights: WeightsInfo, job: SweepJob, display: Display
) -> Iterator[PaintedCell]:
    """Paint the canvases of a sweep, group by group; the canvases of a group are painted together.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the inputs, options and plan, from `sweep_job`.
      display: where progress is shown.

    Yields:
      Each painted canvas, row by row of the grid, as soon as its whole group is painted.

    Raises:
      ValueError: if a region (a part of the content with its own style) is empty at every style layer.
    """
    _introduce(job, weights, display)
    _files.remove_leftovers([job.output])
    count, size, plan = len(job.labels), job.plan.pictures, job.plan
    start = plan.recipe.pictures.start if job.init is None else job.init
    start = same_start(start, job.seed)
    read = [style.image for style in job.styles]
    # `members_of` takes one list of styles for each canvas or, as here, a single list for all canvases.
    styles = [read if job.combined is None else [job.combined, *read[1:]]]
    given = Given() if job.given is None else job.given
    opacities = [list(given.style_opacities)] if given.style_opacities else None
    members = members_of(
        job.content.image,
        styles,
        plan.recipe,
        init=start,
        given=BatchControls(given.regions or None, given.protect, given.opacity, opacities),
        on_host=plan.in_bucket,
        side=max(plan.scales[-1].shape),
        style_originals=[[image.shape[:2] for image in read]],
    )
    # `notes_on_regions` also raises a ValueError if a region is empty at every style layer.
    for note in notes_on_regions(members[0].prepared, plan.recipe):
        display.say(f"note: {as_flags(note)}")
    work = [GroupWork(size, plan.scales)] * (count // size)
    with (
        CompileClock() as compiling,
        Ahead(compiling) as ahead,
        display.bar(count, "compiling"),
    ):
        progress = BatchProgress(work, compiling, display)
        compiled = compiled_of_batch(plan.mesh, ahead, display.say)
        for first in range(0, count, size):
            painted = paint_batch(
                params,
                [(plan, members[first : first + size])],
                init=start,
                intervals=intervals_of(progress),
                progress=progress.report,
                watch=PollingWatch(),
                **compiled._asdict(),
            )
            for cell, image in sorted(painted.images.items()):
                why = divergence(painted.broken.get(cell), plan.recipe)
                why = stalled(plan.recipe) if cell in painted.stalled else why
                if (rest := painted.resting.get(cell)) is not None:
                    remedy = as_flags(remedy_at_rest(plan.recipe))
                    display.say(f"note: {job.labels[cell]}: {rest.words}: try {remedy}")
                yield PaintedCell(cell, np.asarray(image), why)
            progress.end_group()


def _introduce(job: SweepJob, weights: WeightsInfo, display: Display) -> None:
    recipe = job.plan.recipe
    lines = {
        "recipe": f"{recipe.name}, {job.plan.updates} updates each",
        "precision": precision_line(job.plan),
        "pictures": job.pair,
        "canvases": f"{len(job.labels)} of {px(job.scales[-1].shape)} ({recipe.pictures.size})",
    }
    if job.plan.in_bucket:
        lines["bucket"] = bucket_line([job.scales], [job.plan.scales])
    if job.strength is not None:
        lines["strength"] = strength_words(recipe, job.strength)
    lines |= finishing_lines(recipe)
    for role, axis in (("down", job.rows), ("across", job.columns)):
        if axis is not None:
            lines[role] = f"{TITLES[axis.name]}: {', '.join(axis.labels)}"
    introduce(
        display,
        device=provenance.device(),
        weights=weights._asdict(),
        lines=lines | {"memory": memory_line(job.plan)},
        recipes=[recipe],
        notes=[
            *job.notes,
            *style_scale_notes(
                job.styles,
                job.scales[-1],
                recipe,
                of_regions=[] if job.given is None else job.given.style_shapes,
            ),
        ],
    )
