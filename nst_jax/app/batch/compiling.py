"""The programs of a batch, compiled in advance by painting grey pictures: `batch --compile-only`."""

import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import repeat
from typing import Any

import numpy as np

from nst_jax._types import Params, Shape
from nst_jax.app import cache, programs
from nst_jax.app.batch import groups, kept_groups
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.group_painting import plan_group
from nst_jax.app.batch.job import BatchJob
from nst_jax.app.formatting import duration
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.app.watch import PollingWatch
from nst_jax.batch_members import members_of
from nst_jax.controls.given import BatchControls
from nst_jax.descent import intervals_of
from nst_jax.planned_batches import paint_batch
from nst_jax.recipes.starts import same_start


def compile_groups(
    params: Params, job: BatchJob, parts: Sequence[groups.Group], display: Display
) -> None:
    """Compile the programs with which a batch will be painted, and store them in the cache on disk.

    To compile the programs, grey pictures of the sizes of the batch's pictures are painted with one
    update at each scale (resolution). The grey pictures are not written. Pictures with masks or
    transparent parts need other programs, which are not compiled here.

    Args:
      params: the weights.
      job: the batch.
      parts: the groups of its pictures. The pictures of a group are painted by the same programs.
      display: where progress is shown.
    """
    known: set[Any] = set()
    entries = (entry for group in parts for entry in group.entries)
    sizes = dict.fromkeys(
        (one.fine.seen.shape, one.seen[1].shape, one.scales[-1].style_shapes[0])
        for one in entries
        if one.fine is not None
    )
    for fine, as_read, final in sizes:
        job.fine.compile(params, fine, as_read, final)
    compiled = programs.batch_kept_in(cache.programs_folder(), display.say)
    for group in parts:
        keys = set(groups.programs_of([group], job.chunk, job.mesh))
        if keys <= known:
            continue
        known |= keys
        begun = time.perf_counter()
        plan = plan_group(group, job)
        plan = replace(plan, scales=tuple(one._replace(steps=1) for one in plan.scales))
        start = same_start(plan.recipe.pictures.start if job.init is None else job.init, 0)
        members = members_of(
            [_grey_of(entry.seen[0].shape) for entry in group.entries],
            [_greys_of_styles(entry) for entry in group.entries],
            plan.recipe,
            init=start,
            given=BatchControls(),
            on_host=plan.in_bucket,
            side=max(plan.scales[-1].shape),
            style_originals=[
                [seen.shape for seen in entry.seen[1 : 1 + len(entry.styles)]]
                for entry in group.entries
            ],
        )
        # `files_in_use` returns the program files used since its last call. This call discards those of
        # earlier groups, so that `record_group` below gets the files of this group alone.
        programs.files_in_use(compiled)
        paint_batch(
            params,
            [(plan, members)],
            init=start,
            intervals=intervals_of(repeat(1)),
            watch=PollingWatch(),
            programs=compiled,
        )
        if (first := group.entries[0]).controls is None:
            kept_groups.record_group(
                group.programs,
                first.recipe,
                group.varying,
                compiled,
                chunk=job.chunk,
                mesh=job.mesh,
            )
        words = f"{px(plan.scales[-1].shape)}, {len(members)} at once"
        display.say(f"{words}: ready after {duration(time.perf_counter() - begun)}")


def _greys_of_styles(entry: Entry) -> list[np.ndarray]:
    """Return a grey picture for each style of a row (a picture of a batch), of the style's own size.

    The grey pictures take the place of the styles, since compiled programs depend only on sizes. A
    style that gets the fine structure of another picture (`--style-fine`) is made at its final size, so
    its grey picture has that size.
    """
    shapes = [seen.shape for seen in entry.seen[1 : 1 + len(entry.styles)]]
    if entry.fine is not None:
        shapes[0] = entry.scales[-1].style_shapes[0]
    return [_grey_of(shape) for shape in shapes]


def _grey_of(shape: Shape) -> np.ndarray:
    return np.full((*shape, 3), 0.5, np.float32)
