"""Paint a batch, record how each picture ended, and draw the contact sheet.

A runner is the function that `run_batch` calls to paint, in this process or on a Ray cluster.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from nst_jax import _files, provenance
from nst_jax._types import Params
from nst_jax.app.batch import results
from nst_jax.app.batch.contact_sheet import draw_sheet, write_sheet
from nst_jax.app.batch.introduction import introduce_batch
from nst_jax.app.batch.job import BatchJob
from nst_jax.app.batch.local import Report, groups_here, paint_here
from nst_jax.app.batch.results import Record
from nst_jax.app.messages import naming_as_typed
from nst_jax.app.progress import Display
from nst_jax.app.recipe_controls import MASKS
from nst_jax.weights.params import WeightsInfo

Runner = Callable[[Params, WeightsInfo, BatchJob, Display, Report], None]


class BatchEnding(NamedTuple):
    """How a batch ended: what became of each picture, and whether the batch ran to its end."""

    # For each picture that was painted, was skipped or has failed, a record that says which. After
    # Ctrl-C, pictures that were not painted yet have no record.
    records: list[Record]
    complete: bool  # whether the batch ran to its end; False after Ctrl-C
    # Why the result manifest, the file of all records, lacks some of them; empty if it has all.
    problem: str


def with_typed_names(records: Sequence[Record], job: BatchJob) -> list[Record]:
    """Return all records; their errors now name arguments as the user types them, such as `--region`.

    Args:
      records: whether each picture was painted, or what went wrong.
      job: the batch. If a manifest (a table of pictures to paint) describes its pictures, errors name
        the columns of the manifest.
    """
    named = naming_as_typed(MASKS if job.in_manifest else None)
    return [_named(record, named) for record in records]


def _named(record: Record, named: Callable[[str], str]) -> Record:
    return record if record.error is None else record._replace(error=named(record.error))


def run_batch(
    params: Params,
    weights: WeightsInfo,
    job: BatchJob,
    rest: BatchJob,
    finished: Sequence[Record],
    runner: Runner,
    display: Display,
) -> BatchEnding:
    """Paint the unfinished pictures of a batch, and record for each picture how it ended.

    If the job has a contact sheet (one picture that shows all results), it is drawn at the end, unless
    the batch is interrupted or has no results.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the whole batch.
      rest: the batch without its finished pictures.
      finished: a `Record` of each picture that an earlier run of the batch finished.
      runner: the function that paints `rest`, such as `paint_here`.
      display: where progress is shown.

    Returns:
      How the batch ended.
    """
    job.folder.mkdir(exist_ok=True)
    complete = True
    _files.remove_leftovers(entry.output for entry in rest.entries)
    # `naming_as_typed` asks click which command runs, and click knows that only in the thread that runs
    # the command. So `naming_as_typed` is called here, and not in `report`, which other threads may
    # call.
    named = naming_as_typed(MASKS if job.in_manifest else None)
    with results.Results(job.listing) as listed:
        for record in (*finished, *with_typed_names(job.bad, job)):
            listed.add(record)

        def report(record: Record) -> None:
            record = _named(record, named)
            listed.add(record)
            display.say(f"{Path(record.output).name}: {record.error or record.status}")

        try:
            if rest.entries:
                parts = groups_here(rest) if runner is paint_here else None
                introduce_batch(rest, weights, len(finished), display, parts)
                if parts is not None:
                    paint_here(params, weights, rest, display, report, parts)
                else:
                    runner(params, weights, rest, display, report)
            elif finished:
                display.say(f"all {len(finished)} pictures are finished; `--overwrite` paints anew")
            listed.fail_vanished()
            there = {record.row for record in listed.records if record.status != "failed"}
            if job.sheet is not None and there:
                shown = [entry for entry in job.entries if entry.number in there]
                # If the command is run again, `results.check_sheet` lets a file with `contact_sheet` be
                # replaced.
                metadata = {"contact_sheet": len(shown), "versions": provenance.versions()}
                write_sheet(job.sheet, draw_sheet(shown), metadata)
        except KeyboardInterrupt:
            complete = False
            listed.fail_vanished()
    return BatchEnding(listed.records, complete, listed.ensure_saved())
