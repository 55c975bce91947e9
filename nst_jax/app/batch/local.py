"""Run a batch in this process.

The calling thread paints; meanwhile, another thread reads inputs, and a third one writes results.
A row is one picture of the batch. A `Group` has the rows that are painted together. A `Record` says
whether a row's picture was finished, or what went wrong.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from nst_jax import images
from nst_jax._types import Params
from nst_jax.app import rates
from nst_jax.app.batch import groups
from nst_jax.app.batch.group_painting import (
    PLAINLY,
    PaintedPicture,
    paint_group,
    read_group,
    write,
)
from nst_jax.app.batch.groups import Group
from nst_jax.app.batch.job import BatchJob
from nst_jax.app.batch.kept_groups import kept_programs
from nst_jax.app.batch.results import Record
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.programs import Compiled, compiled_of_batch
from nst_jax.app.progress import BatchProgress, Display, GroupWork
from nst_jax.app.timing import CompileClock
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.bucket_plans import fits_in_bucket
from nst_jax.weights.params import WeightsInfo

Report = Callable[[Record], None]


def paint_groups(
    params: Params,
    weights: WeightsInfo,
    job: BatchJob,
    parts: Sequence[Group],
    progress: BatchProgress,
    report: Report,
    compiled: Compiled = PLAINLY,
) -> None:
    """Paint groups one after the other; meanwhile, read the next group and write the previous one.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the batch to which the groups belong, with its options.
      parts: the groups.
      progress: the progress of the batch, made from `work_of_groups(parts)`.
      report: called with a `Record` when a picture was written or has failed, either in the calling
        thread or in the thread that writes.
      compiled: how programs are compiled; `PLAINLY` compiles each when it is first needed.
    """

    def finish(canvas: PaintedPicture) -> None:
        report(write(canvas, job, weights))

    writing: list[Future] = []
    known: dict[Path, images.Picture] = {}  # the pictures of the group that was read last
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        coming = [reader.submit(read_group, group, known) for group in parts[:1]]
        for index, group in enumerate(parts):
            loaded, unread = coming.pop().result()
            # Only one group is read ahead, since pictures before resizing can take much memory.
            coming += [
                reader.submit(read_group, following, known) for following in parts[index + 1 :][:1]
            ]
            canvases, failed = paint_group(params, loaded, group, job, progress, compiled)
            for record in (*unread, *failed):
                report(record)
            # The pictures of at most one group wait to be written, to save memory.
            for future in writing:
                future.result()
            writing = [writer.submit(finish, canvas) for canvas in canvases]
            progress.end_group()
        for future in writing:
            future.result()


def work_of_groups(parts: Sequence[Group]) -> list[GroupWork]:
    """Return, for each group, its number of pictures and its scales (resolutions).

    The time left is estimated from these.
    """
    return [GroupWork(len(group.entries), group.scales) for group in parts]


def paint_here(
    params: Params,
    weights: WeightsInfo,
    job: BatchJob,
    display: Display,
    report: Report,
    parts: Sequence[Group] | None = None,
) -> None:
    """Paint a batch on the devices of this process.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the batch, without the pictures that an earlier run has finished.
      display: where progress is shown.
      report: called with a `Record` when a picture was written or has failed.
      parts: the groups into which `groups_here` divides the pictures; None means that this function
        calls `groups_here` itself.
    """
    parts = groups_here(job) if parts is None else parts
    with (
        CompileClock() as compiling,
        Ahead(compiling) as ahead,
        display.bar(len(job.entries), "compiling"),
    ):
        progress = BatchProgress(work_of_groups(parts), compiling, display)
        compiled = compiled_of_batch(job.mesh, ahead, display.say)
        paint_groups(params, weights, job, parts, progress, report, compiled)
    if not compiling.loaded:
        rates.record_compiling(
            [group.entries[0].recipe for group in parts],
            compiling.seconds,
            groups.compiled_programs(groups.programs_of(parts, job.chunk, job.mesh)),
        )


def groups_here(job: BatchJob) -> list[Group]:
    """Divide the pictures of a batch into groups, for painting on the devices of this process."""
    parallel = sharding.pictures_in_parallel(job.mesh)
    platform = capacity.default_device().platform
    return groups.form_groups(
        job.entries,
        platform,
        parallel,
        job.bucket,
        costs=partial(rates.known_costs, platform=platform),
        fits=partial(fits_in_bucket, mesh=job.mesh),
        kept=partial(kept_programs, chunk=job.chunk, mesh=job.mesh),
    )
