"""The grid of a sweep: its canvases drawn with labels, its metadata, and its file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from nst_jax import provenance
from nst_jax.app.progress import STALLED
from nst_jax.app.sweep.axes import TITLES
from nst_jax.app.sweep.job import SweepJob
from nst_jax.app.sweep.painting import PaintedCell
from nst_jax.app.writing import where_instead, write_picture
from nst_jax.images import sheets
from nst_jax.provenance import roles
from nst_jax.weights.params import WeightsInfo


def write_grid(job: SweepJob, weights: WeightsInfo, painted: Mapping[int, PaintedCell]) -> None:
    """Draw the painted pictures as a labelled grid, and write it; without pictures, write nothing.

    Args:
      job: the inputs, options and plan of the sweep.
      weights: description of the weights file.
      painted: maps the index of each painted cell of the grid, counted row by row, to its canvas.

    Raises:
      OSError: if the file cannot be written; the message says where the grid was written instead.
    """
    if not painted:
        return
    facts = facts_of(job, weights, painted) if job.metadata else None
    grid = drawn(job, {cell: canvas.image for cell, canvas in painted.items()})
    try:
        write_picture(job.output, grid, metadata=facts, overwrite=job.overwrite)
    except OSError as error:
        instead = where_instead(job.output, grid, "the grid", metadata=facts)
        raise OSError(f"{error}{instead}") from error


def drawn(job: SweepJob, canvases: Mapping[int, Any]) -> np.ndarray:
    """Return the labelled grid of the canvases.

    Args:
      job: the sweep, from which titles and labels are taken.
      canvases: maps the index of each painted cell of the grid, counted row by row, to its image.

    Returns:
      [h, w, 3] float32 in [0, 1].
    """
    rows, columns = job.rows, job.columns
    return sheets.labelled_grid(
        {divmod(cell, len(columns.values)): image for cell, image in canvases.items()},
        [""] if rows is None else rows.labels,
        columns.labels,
        row_title="" if rows is None else TITLES[rows.name],
        column_title=TITLES[columns.name],
        title=f"{job.pair}, {job.plan.recipe.name}, {job.plan.updates} updates",
    )


def facts_of(
    job: SweepJob, weights: WeightsInfo, painted: Mapping[int, PaintedCell]
) -> dict[str, Any]:
    """Return the metadata of the grid: settings, swept values, and the indices of canvases that failed.

    A canvas failed if it was not painted, or if its losses were not finite or never changed.

    In the settings, a swept number is a list of one number for each canvas, row by row.
    """
    inputs = roles(job.content, job.styles, job.init_file)
    facts = provenance.of_run(
        job.plan.requested,
        job.scales,
        seed=job.seed,
        inputs=inputs | dict(job.controls.files),
        weights=weights,
        controls=provenance.strength_facts(job.strength) | job.controls.facts(),
    )
    axes = {"rows": job.rows, "columns": job.columns}
    problems = {i: canvas.problem for i, canvas in painted.items() if canvas.problem}
    return facts | {
        "sweep": {
            role: None if axis is None else {"of": axis.name, "values": list(axis.values)}
            for role, axis in axes.items()
        },
        "finished": len(painted) == len(job.labels),
        "missing": [i for i in range(len(job.labels)) if i not in painted],
        "diverged": [i for i, problem in problems.items() if not problem.startswith(STALLED)],
        "stalled": [i for i, problem in problems.items() if problem.startswith(STALLED)],
    }
