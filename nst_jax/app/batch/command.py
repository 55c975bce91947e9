"""The command `batch`: makes a job of its options, has a runner paint it, and returns the exit code.

A runner is a function that paints a job, in this process or on a Ray cluster. A batch consists of rows;
each is one picture to paint. A record says how a row ended, and the result manifest is the file of the
records. A shard is a part of a batch that a process of its own paints.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from nst_jax import _files, images
from nst_jax.app import arguments, cache
from nst_jax.app import controls as controlling
from nst_jax.app.batch import compiling, local, on_ray, recording, results, rows
from nst_jax.app.batch import job as batch_job
from nst_jax.app.batch.shards import parse_shard
from nst_jax.app.chosen_options import (
    Chosen,
    check_devices,
    check_weights,
    chosen_bucket,
    chosen_changes,
    chosen_seed,
    loaded_weights,
    other_inputs,
)
from nst_jax.app.fine_style import FineStyles, read_fine
from nst_jax.app.interrupts import exit_on_signals, raise_on_interrupt
from nst_jax.app.messages import print_lines, print_message
from nst_jax.app.recipe_controls import with_controls_of_recipe
from nst_jax.recipes.recipe import Recipe

# Largest number of warnings that are printed after a batch; each is about one picture. The result
# manifest, a file that records how each picture ended, has all of them.
MOST_WARNINGS = 20


def batch(contents: Sequence[Path], chosen: Chosen) -> int:
    """Paint the unfinished pictures of a batch, print errors, and return the exit code.

    With `--compile-only`, only compile the programs that paint them.

    The exit code is 130 after an interruption, 1 if a picture or another result could not be finished,
    and else 0.
    """
    with_ray = chosen["runner"] == "ray"
    with ExitStack() as resources:
        if with_ray:
            on_ray.check_installed()
        if chosen["compile_only"] and not chosen["cache"]:
            raise ValueError(
                "`compile_only`: keeps programs in the cache, which `--no-cache` switches off; omit "
                "one of the two"
            )
        job = _batch_job(contents, chosen)
        if chosen["compile_only"]:
            return _compile_batch(job, chosen)
        job.folder.mkdir(exist_ok=True)
        # The result manifest, the file that records how pictures ended, is locked before this process
        # finds out which pictures are finished. Without the lock, another process could begin to paint
        # the same pictures.
        resources.enter_context(_files.reserved(job.listing, argument="output"))
        if with_ray:
            resources.enter_context(on_ray.connected())
            job = job.resolved(on_ray.platform())
        loaded, info, display = loaded_weights(chosen)
        for note in rows.notes_on_folders([*contents, *chosen["styles"]]):
            display.say(f"note: {note}")
        rest, finished = batch_job.unfinished(job, info)
        raise_on_interrupt()
        runner = on_ray.paint_on_ray if with_ray else local.paint_here
        ending = recording.run_batch(loaded, info, job, rest, finished, runner, display)
    records = ending.records
    _print_failures(records, job.listing)
    if ending.problem:
        print_message("error", ending.problem)
    if not ending.complete:
        written = sum(record.status != "failed" for record in records)
        text = f"{written} of {len(job.entries)} pictures are in {job.folder}"
        text += "; the same command paints the rest"
        print_message("interrupted", text)
        return 130
    if not chosen["quiet"]:
        print_lines(job.folder)
    return 0 if all(record.good for record in records) and not ending.problem else 1


def _compile_batch(job: batch_job.BatchJob, chosen: Chosen) -> int:
    """Compile the programs of a batch, print how many are stored on disk, and return the exit code.

    Nothing is compiled for pictures that are finished or cannot be painted, since the batch will not
    paint them. Warnings say why pictures cannot be painted. With `--quiet`, the number of programs is
    not printed. The result manifest, the file that records how each picture ended, is not written.
    """
    if chosen["runner"] == "ray":
        raise ValueError("`compile_only`: each of Ray's machines has a cache of its own; omit it")
    exit_on_signals()
    loaded, info, display = loaded_weights(chosen)
    folder = cache.folder_to_warm()
    before, _ = cache.kept(folder)
    rest, _ = batch_job.unfinished(job, info)
    compiling.compile_groups(loaded, rest, local.groups_here(rest), display)
    _print_failures(recording.with_typed_names(job.bad, job), None)
    if not chosen["quiet"]:
        cache.print_kept(folder, before)
    return 1 if job.bad else 0


def _batch_job(contents: Sequence[Path], chosen: Chosen) -> batch_job.BatchJob:
    """Check the options of the command `batch`, and return them with the pictures to paint."""
    mesh = check_devices(chosen)
    init, init_file = arguments.start_of(chosen["init"], chosen["noise_ratio"])
    wanted = rows.requested_rows(contents, **chosen)
    wanted = rows.with_controls(rows.with_tap_files(wanted, chosen), chosen)
    shared = with_controls_of_recipe(chosen)
    controlling.check_files(shared)
    if shared["style_fine"] is not None:
        read_fine(shared["style_fine"])
    check_weights(chosen)

    def check(recipe: Recipe, seed: int | None) -> None:
        chosen_seed(chosen if seed is None else chosen | {"seed": seed}, recipe)
        controlling.check_planned(chosen, recipe)

    return batch_job.batch_job(
        wanted,
        chosen_changes(chosen),
        chosen["output"],
        chosen["suffix"],
        start=None if init_file else init,
        check=check,
        mesh=mesh,
        here=chosen["runner"] != "ray",
        inputs=[*contents, *other_inputs(chosen, init_file)],
        words=[*contents, *chosen["styles"]],
        fine=FineStyles(chosen["precision"], chosen["tile"]),
        in_manifest=any(row.location for row in wanted),
        shard=None if chosen["shard"] is None else parse_shard(chosen["shard"]),
        sheet=chosen["sheet"],
        anywhere=chosen["outputs_anywhere"],
        overwrite=chosen["overwrite"],
        metadata=chosen["metadata"],
        chunk=chosen["chunk"],
        bucket=chosen_bucket(chosen),
        seed=chosen["seed"] or 0,
        init=init if init_file else None,
        init_file=init_file and images.Glance((0, 0), init_file.name, init_file.digest),
    )


def _print_failures(records: Sequence[results.Record], listing: Path | None) -> None:
    # The record of a picture that was written has an `error`, too, if its losses became infinite or
    # NaN, never changed, or stopped changing while still high.
    bad = [record for record in records if record.error is not None]
    for record in bad[:MOST_WARNINGS]:
        print_message("warning", f"{record.output}: {record.error}")
    if len(bad) > MOST_WARNINGS:
        where = "" if listing is None else f"; {listing} lists them all"
        print_message("warning", f"{len(bad) - MOST_WARNINGS} more rows have warnings{where}")
