"""Run a batch in this process: the calling thread paints, another reads inputs, a third writes results.

A row is one picture of the batch. An `Entry` is a row whose input files were inspected, but not read
yet. A `Group` has the entries that are painted together. A `Record` says how a row ended.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import _files, images, prepare, provenance
from nst_jax._types import Params
from nst_jax.app import rates
from nst_jax.app.batch import groups, results
from nst_jax.app.batch.groups import Entry, Group
from nst_jax.app.batch.job import BatchJob, record_of, requested_settings
from nst_jax.app.batch.results import Record
from nst_jax.app.controls import ReadControls, read_controls, why_transparent_counts
from nst_jax.app.formatting import few
from nst_jax.app.introduction import introduce
from nst_jax.app.plan_report import bucket_line, memory_line, precision_words
from nst_jax.app.progress import STALLED, BatchProgress, Display, GroupWork, divergence
from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import PollingWatch
from nst_jax.app.writing import dpi_of, resized_alpha, where_instead, write_picture
from nst_jax.batch_members import members_of
from nst_jax.batches import PaintedBatch, paint_batch
from nst_jax.control_checks import notes_on_regions
from nst_jax.controls.given import BatchControls
from nst_jax.descent import intervals_of
from nst_jax.images import sheets
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.starts import same_start
from nst_jax.recipes.walk import name_to_show
from nst_jax.scaling import buckets, chunk_size, sharding
from nst_jax.scaling.bucket_choice import COMPILING_OF_BUCKET
from nst_jax.scaling.capacity import OutOfMemory
from nst_jax.scaling.plan import Plan, fits_in_bucket, plan_bucket, plan_scales
from nst_jax.weights.params import WeightsInfo

Report = Callable[[Record], None]
Runner = Callable[[Params, WeightsInfo, BatchJob, Display, Report], None]
# Exceptions whose messages are clear without the name of the exception's type.
SELF_EXPLAINING = (ValueError, OSError, OutOfMemory)


class Loaded(NamedTuple):
    """A picture to paint, and what was read from its files: content, styles, and masks.

    The masks are those of regions and of protected parts, which keep the content.
    """

    entry: Entry
    content: images.Picture
    styles: tuple[images.Picture, ...]
    controls: ReadControls = ReadControls()


class PaintedPicture(NamedTuple):
    """A picture that has been painted but not written yet."""

    loaded: Loaded
    image: Any  # [h, w, 3] in [0, 1]
    losses: dict[str, Any] | None  # losses of the canvas; None if painting diverged
    # Number of updates after which losses that are not finite were found; None if all were finite.
    broke_at: int | None
    stalled: bool  # whether no update changed the losses of the picture
    # Duration of painting the picture's group, divided by the number of pictures in the group.
    seconds: float


class BatchEnding(NamedTuple):
    """How a batch ended."""

    # One record for each picture that was painted or skipped, or that failed.
    records: list[Record]
    complete: bool  # whether the batch ran to its end; False after Ctrl-C
    # Why the result manifest, the file of all records, lacks some of them; empty if it has all.
    problem: str


# --- One group ------------------------------------------------------------------------------------


def plan_group(group: Group, job: BatchJob) -> Plan:
    """Decide how the pictures of a group are painted together, so that they fit into memory.

    This includes the size of tiles, and how many of the pictures are computed at once.
    """
    entries, scales = group.entries, group.scales
    recipe = groups.joint_recipe(entries, group.varying)
    options: dict[str, Any] = {"mesh": job.mesh, "pictures": len(entries), "chunk": job.chunk}
    if group.arrays is not None:
        return plan_bucket(recipe, scales, **options)
    # If a style loss compares single feature vectors, its memory depends on the shapes of the styles of
    # each picture. For all other losses, memory depends only on which shapes occur in the group.
    if not recipe.terms.matched:
        shapes = {shape for entry in entries for shape in entry.scales[-1].style_shapes}
        scales = (*scales[:-1], scales[-1]._replace(style_shapes=tuple(shapes)))
    return plan_scales(recipe, scales, **options)


def read_group(group: Group) -> tuple[list[Loaded], list[Record]]:
    """Read the input files of a group's pictures, each file only once.

    Returns:
      A `Loaded` for each picture whose files could be read, and a `Record` with the status "failed" for
      each other picture.
    """
    known: dict[Path, images.Picture] = {}
    loaded, failed = [], []
    for entry in group.entries:
        try:
            roles = ["content", *["style"] * len(entry.styles)]
            for path, role in zip((entry.content, *entry.styles), roles, strict=True):
                if path not in known:
                    known[path] = images.read(path, argument=role)
            content, *styles = (known[path] for path in (entry.content, *entry.styles))
            for picture, glance in zip((content, *styles), entry.seen, strict=True):
                _check_unchanged(picture, glance)
            controls = ReadControls()
            if entry.controls is not None:
                controls = read_controls(entry.controls, styles)
                for role, picture in controls.files.items():
                    _check_unchanged(picture, entry.masked[role])
        except (ValueError, OSError, MemoryError) as error:
            failed.append(record_of(entry, "failed", message_of(error)))
        else:
            loaded.append(Loaded(entry, content, tuple(styles), controls))
    return loaded, failed


def _check_unchanged(picture: images.Picture, glance: images.Glance) -> None:
    if picture.digest != glance.digest:
        raise ValueError(f"{picture.name!r} changed since the batch was begun")


def message_of(error: BaseException) -> str:
    """Return the message of an error as one line, which begins with the name of the error's type.

    The name is left out if the type is in `SELF_EXPLAINING`. For a MemoryError that is not an
    `OutOfMemory`, a fixed sentence is returned.
    """
    if isinstance(error, MemoryError) and not isinstance(error, OutOfMemory):
        return "there is too little memory; choose a smaller size"
    lines, kind = " ".join(str(error).split()), type(error).__name__
    if not lines:
        return kind
    return lines if isinstance(error, SELF_EXPLAINING) else f"{kind}: {lines}"


def paint_group(
    params: Params,
    loaded: Sequence[Loaded],
    group: Group,
    job: BatchJob,
    progress: BatchProgress,
) -> tuple[list[PaintedPicture], list[Record]]:
    """Paint a group of pictures together, or, if that fails, one by one, so that few of them fail.

    Args:
      params: the weights.
      loaded: the pictures of the group whose files could be read.
      group: the group.
      job: the batch to which the group belongs, with its options.
      progress: shows the progress of the batch; its current group must be this one.

    Returns:
      The painted pictures, and a `Record` of each picture that failed.
    """
    if not loaded:
        return [], []
    # A bucket is a larger array, shared by many sizes, in which a picture lies. `alone` is the group
    # without buckets.
    alone = group._replace(arrays=None)
    by_cost = job.bucket == buckets.AUTO and group.arrays is not None
    if by_cost and any(map(_is_transparent, loaded)):
        rest = [one for one in loaded if not _is_transparent(one)]
        parts = [paint_group(params, rest, group, job, progress)]
        parts += [
            paint_group(params, [one], alone, job, progress)
            for one in loaded
            if _is_transparent(one)
        ]
        return _joined(parts)
    begun = time.perf_counter()
    try:
        # How to paint the group in the available memory is decided only now. Its pictures have been
        # read, so the memory that they take no longer counts as available.
        plan = plan_group(group._replace(entries=tuple(one.entry for one in loaded)), job)
        found = _paint_together(params, loaded, plan, job, progress)
    except Exception as error:
        if len(loaded) == 1 and not by_cost:
            return [], [record_of(loaded[0].entry, "failed", message_of(error))]
        # The group may have failed for lack of memory. A picture takes the least memory if it is
        # painted alone and in an array of its own size, not in a bucket (a larger array).
        if by_cost:
            progress.say(
                f"note: a bucket failed; its pictures are painted alone: {message_of(error)}"
            )
        how = alone if by_cost else group
        return _joined([paint_group(params, [one], how, job, progress) for one in loaded])
    seconds = (time.perf_counter() - begun) / len(loaded)
    canvases = []
    for index, one in enumerate(loaded):
        broke_at = found.broken.get(index)
        losses = None if broke_at is not None else provenance.of_losses(found.losses[index])
        stalled = index in found.stalled
        canvases.append(
            PaintedPicture(one, found.images[index], losses, broke_at, stalled, seconds)
        )
    return canvases, []


def _joined(
    parts: Sequence[tuple[list[PaintedPicture], list[Record]]],
) -> tuple[list[PaintedPicture], list[Record]]:
    return [c for some, _ in parts for c in some], [r for _, some in parts for r in some]


def _is_transparent(one: Loaded) -> bool:
    """Return whether the inputs of a picture have transparent parts that its losses leave out.

    With such inputs, a canvas cannot lie in a bucket (a larger array that is shared by many sizes).
    """
    if why_transparent_counts(one.entry.recipe):
        return False
    return any(picture.alpha is not None for picture in (one.content, *one.styles))


def _paint_together(
    params: Params, loaded: Sequence[Loaded], plan: Plan, job: BatchJob, progress: BatchProgress
) -> PaintedBatch:
    start = plan.recipe.pictures.start if job.init is None else job.init
    start = same_start(start, job.seed)
    contents, styles = _pictures(loaded)
    # A picture with regions or protected parts is never grouped with others. So either there is only
    # one picture here, or none of them has regions or protected parts.
    controls = loaded[0].controls
    opacity, style_opacity = _opacities(loaded, len(contents), len(styles), plan.recipe)
    members = members_of(
        contents,
        styles,
        plan.recipe,
        init=start,
        given=BatchControls(controls.regions or None, controls.protect, opacity, style_opacity),
        on_host=plan.in_bucket,
    )
    # Pictures with transparent parts cannot lie in a bucket (a larger array that is shared by many
    # sizes). Whether there are such parts is known only now, since the files have been read.
    if plan.in_bucket:
        controlled = any(member.prepared.controls is not None for member in members)
        buckets.check_run_in_bucket(plan.recipe, plan.scales, controlled=controlled)
    for member in members:  # ValueError if a region is empty
        notes_on_regions(member.prepared, plan.recipe)
    return paint_batch(
        params,
        [(plan, members)],
        init=start,
        intervals=intervals_of(progress),
        progress=progress.report,
        watch=PollingWatch(),
    )


def _opacities(
    loaded: Sequence[Loaded], contents: int, styles: int, recipe: Recipe
) -> tuple[list[Any] | None, list[Any] | None]:
    """Return a list of the opacities of the contents, and a list of the opacities of the styles.

    None takes the place of a list if all its pictures are opaque. It takes the place of both lists if
    the losses of the recipe cannot leave out transparent parts; these then count as white.

    Args:
      loaded: the pictures to paint, with what was read from their files.
      contents: number of contents that `_pictures` returns.
      styles: number of items in the list of styles that `_pictures` returns.
      recipe: the recipe of the group.
    """
    if why_transparent_counts(recipe):
        return None, None
    of_contents = [one.content.alpha for one in loaded][:contents]
    of_styles = [[style.alpha for style in one.styles] for one in loaded][:styles]
    transparent = any(alpha is not None for some in of_styles for alpha in some)
    return (
        None if all(alpha is None for alpha in of_contents) else of_contents,
        of_styles if transparent else None,
    )


def _pictures(loaded: Sequence[Loaded]) -> tuple[list[Any], list[Any]]:
    """Return the list of contents and the list of styles, with an item for each picture to paint.

    There are two exceptions. If all pictures have the same styles, the list of styles has a single
    item. If not, but all have the same content, the list of contents has a single item. Then
    `members_of` uses this item for all pictures, and its features are computed only once.
    """
    contents = [one.content.image for one in loaded]
    styles = [[style.image for style in one.styles] for one in loaded]
    if len({one.entry.styles for one in loaded}) == 1:
        return contents, styles[:1]
    if len({one.entry.content for one in loaded}) == 1:
        return contents[:1], styles
    return contents, styles


def write(canvas: PaintedPicture, job: BatchJob, weights: WeightsInfo) -> Record:
    """Write a painted picture to its file; return a `Record` of success, divergence or failure."""
    entry, content, broke_at = canvas.loaded.entry, canvas.loaded.content, canvas.broke_at
    metadata = requested_settings(entry, job, weights)
    metadata |= {
        "device": provenance.device(),
        "versions": provenance.versions(),
        "steps_done": metadata["steps"] if broke_at is None else max(0, broke_at - 1),
        "finished": broke_at is None and not canvas.stalled,
    }
    if canvas.losses is not None:
        metadata["losses"] = canvas.losses
    options: dict[str, Any] = {"metadata": metadata if job.metadata else None}
    try:
        options["alpha"] = resized_alpha(content.alpha, canvas.image)
        options["dpi"] = dpi_of(entry.recipe.pictures.size, content.dpi)
        _make_folder_of(entry.output)
        overwrite = job.overwrite is not False
        write_picture(entry.output, canvas.image, **options, overwrite=overwrite)
    except (ValueError, OSError, MemoryError) as error:
        instead = where_instead(entry.output, canvas.image, "the picture", **options)
        return record_of(entry, "failed", f"{message_of(error)}{instead}")
    status, why = ("done", None) if broke_at is None else ("diverged", divergence(broke_at))
    status, why = ("stalled", STALLED) if canvas.stalled else (status, why)
    seconds = round(canvas.seconds, 3)
    return record_of(entry, status, why, seconds=seconds, losses=canvas.losses)


def _make_folder_of(output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"cannot write '{output}': {_files.reason_of(error)}") from error


# --- All groups -----------------------------------------------------------------------------------


def paint_groups(
    params: Params,
    weights: WeightsInfo,
    job: BatchJob,
    parts: Sequence[Group],
    progress: BatchProgress,
    report: Report,
) -> None:
    """Paint groups of pictures one after the other; meanwhile, read the next and write the previous.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the batch to which the groups belong, with its options.
      parts: the groups.
      progress: the progress of the batch, made from `work_of_groups(parts)`.
      report: called with a `Record` when a picture was written or has failed; the caller is this thread
        or the thread that writes.
    """

    def finish(canvas: PaintedPicture) -> None:
        report(write(canvas, job, weights))

    writing: list[Future] = []
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        coming = [reader.submit(read_group, group) for group in parts[:1]]
        for index, group in enumerate(parts):
            loaded, unread = coming.pop().result()
            # Only one group is read ahead, since pictures before resizing can take much memory.
            coming += [reader.submit(read_group, following) for following in parts[index + 1 :][:1]]
            canvases, failed = paint_group(params, loaded, group, job, progress)
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
    """Return a `GroupWork` for each group, from which a `BatchProgress` estimates the time left."""
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
      job: the batch without its finished pictures.
      display: where progress is shown.
      report: called with a `Record` when a picture was written or has failed.
      parts: the groups into which `groups_here` divides the pictures; None means that this function
        calls `groups_here` itself.
    """
    parts = groups_here(job) if parts is None else parts
    with CompileClock() as compiling, display.bar(len(job.entries), "compiling"):
        progress = BatchProgress(work_of_groups(parts), compiling, display)
        paint_groups(params, weights, job, parts, progress, report)
    if not compiling.loaded:
        rates.record_compiling(
            [group.entries[0].recipe for group in parts],
            compiling.seconds,
            _compiled_programs(_programs_of(parts, job.chunk, job.mesh)),
        )


def groups_here(job: BatchJob) -> list[Group]:
    """Divide the pictures of a batch into groups, for painting on the devices of this process."""
    parallel = sharding.pictures_in_parallel(job.mesh)
    platform = jax.local_devices()[0].platform
    return groups.form_groups(
        job.entries,
        platform,
        parallel,
        job.bucket,
        costs=partial(rates.known_costs, platform=platform),
        fits=partial(fits_in_bucket, mesh=job.mesh),
    )


def _programs_of(
    parts: Sequence[Group], chunk: int | None = None, mesh: sharding.AnyMesh | None = None
) -> dict[Any, int]:
    """Return a key for each different set of programs that groups run -> the number of its programs.

    A set has one program for each scale (resolution).

    It is assumed that a group fits into memory; if not, it is painted in smaller chunks, whose programs
    are known only then.

    Args:
      parts: the groups.
      chunk: largest number of pictures painted at once; None sets no limit.
      mesh: the devices that share a group; None is one device.
    """
    found = {}
    for group in parts:
        first = group.entries[0]
        if group.arrays is None:
            shapes = prepare.shapes_of(first.scales, first.recipe)
        else:
            shapes = tuple((one.shape, one.style_shapes) for one in group.arrays)
        count = len(group.entries)
        size = chunk_size.even_chunk_over_devices(count, chunk, mesh)
        # A chunk that the devices cannot share evenly is filled up with copies, see `BatchCanvas`.
        sizes = {sharding.round_up(some, mesh) for some in _sizes(count, size)}
        for some in sizes:
            key = (
                groups.structure_of(first.recipe),
                group.varying,
                some,
                shapes,
                group.arrays is None,
            )
            found[key] = len(group.scales)
    return found


def _compiled_programs(programs: Mapping[Any, int]) -> float:
    """Return how many programs for filled arrays take as long to compile as those of `_programs_of`."""
    return sum(
        scales * (1.0 if filled else COMPILING_OF_BUCKET)
        for (*_, filled), scales in programs.items()
    )


def _sizes(count: int, most: int) -> set[int]:
    """Return the sizes of chunks of at most `most` pictures into which `count` pictures are divided."""
    return {min(most, count - first) for first in range(0, count, most)}


def _memory_words(job: BatchJob, parts: Sequence[Group]) -> str:
    """Return one line of text about the memory of the group that takes most memory."""
    # Groups with an equal `key` take equal memory, so only one of them is planned. `key` contains the
    # structure of a recipe but not its numbers, on which memory does not depend.
    alike = {}
    for group in parts:
        first, last = group.entries[0], group.scales[-1]
        shapes = frozenset(
            shape for entry in group.entries for shape in entry.scales[-1].style_shapes
        )
        key = jax.tree.structure(first.recipe), last.shape, shapes, len(group.entries)
        alike[key] = group
    plans = []
    for group in alike.values():
        # A group that does not fit into memory is left out here; `paint_group` reports it later.
        with suppress(ValueError):
            plans.append(plan_group(group, job))
    if not plans:
        return "not known"
    largest = max(plans, key=lambda plan: plan.footprint.total)
    words = {memory_line(plan) for plan in plans}
    return memory_line(largest) + (" at most" if len(words) > 1 else "")


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

    If the job has a contact sheet (one picture that shows all results), it is drawn at the end.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the whole batch.
      rest: the batch without its finished pictures.
      finished: a `Record` of each picture that an earlier start of the batch has finished.
      runner: the function that paints `rest`, such as `paint_here`.
      display: where progress is shown.

    Returns:
      How the batch ended.
    """
    job.folder.mkdir(exist_ok=True)
    complete = True
    _files.remove_leftovers(entry.output for entry in rest.entries)
    with results.Results(job.listing) as listed:
        for record in (*finished, *job.bad):
            listed.add(record)

        def report(record: Record) -> None:
            listed.add(record)
            display.say(f"{Path(record.output).name}: {record.error or record.status}")

        try:
            if rest.entries:
                parts = groups_here(rest) if runner is paint_here else None
                _introduce(rest, weights, len(finished), display, parts)
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
                # If the batch is started again, these metadata show that this program wrote the sheet,
                # so that the sheet may be replaced.
                metadata = {"contact_sheet": len(shown), "versions": provenance.versions()}
                _write_sheet(job.sheet, draw_sheet(shown), metadata)
        except KeyboardInterrupt:
            complete = False
            listed.fail_vanished()
    return BatchEnding(listed.records, complete, listed.ensure_saved())


def _write_sheet(path: Path, drawn: Any, metadata: dict[str, Any]) -> None:
    try:
        write_picture(path, drawn, metadata=metadata)
    except OSError as error:
        raise OSError(f"{error}{where_instead(path, drawn, 'the sheet')}") from error


# --- Introduction and contact sheet ---------------------------------------------------------------


def _introduce(
    job: BatchJob,
    weights: WeightsInfo,
    done: int,
    display: Display,
    parts: Sequence[Group] | None,
) -> None:
    """Show which pictures will be painted, by which recipes, and how much memory that takes.

    Args:
      job: the batch without its finished pictures.
      weights: description of the weights file.
      done: number of finished pictures, which are skipped.
      display: where the lines are shown.
      parts: the groups, if this process paints them, so that its device and memory are shown; None if
        other processes paint.
    """
    entries = job.entries
    counts = Counter((e.recipe.name, int(e.recipe.descent.steps)) for e in entries)
    names = [
        f"{name}, {steps} updates each" + ("" if len(counts) == 1 else f" ({count})")
        for (name, steps), count in counts.items()
    ]
    rules = {
        f"{p.size}, {name_to_show(p.resize)}; styles: {p.style_size or p.size}"
        for p in (entry.recipe.pictures for entry in entries)
    }
    precisions = Counter((e.recipe.network.precision.name, e.auto_on) for e in entries)
    precision = [
        precision_words(name, auto_on) + ("" if len(precisions) == 1 else f" ({count})")
        for (name, auto_on), count in precisions.items()
    ]
    memory = {}
    if parts is not None:
        memory = {"memory": _memory_words(job, parts)}
        one_shape = len({entry.scales[-1].shape for entry in entries}) == 1
        programs = len(_programs_of(parts, job.chunk, job.mesh))
        if job.bucket is not None and not (job.bucket == buckets.AUTO and one_shape):
            memory = {"bucket": _bucket_words(parts, programs), **memory}
    rule = f" ({rules.pop()})" if len(rules) == 1 else ""
    shapes = sorted({entry.scales[-1].shape for entry in entries}, reverse=True)
    pictures = f"{len(entries)}, to {job.folder}"
    pictures += f"; {done} more are finished and skipped" if done else ""
    lines = {
        "recipe" if len(counts) == 1 else "recipes": few(names, "; "),
        "precision": few(precision, "; "),
        "sizes": few([f"{width}x{height} px" for height, width in shapes]) + rule,
        "pictures": pictures,
        **memory,
    }
    recipes: dict[str, Recipe] = {entry.recipe.name: entry.recipe for entry in entries}
    introduce(
        display,
        device=None if parts is None else provenance.device(),
        weights=weights._asdict(),
        lines=lines,
        recipes=recipes.values(),
        notes=[*_renamed(entries), *_enlarged(entries)],
    )


def _bucket_words(parts: Sequence[Group], programs: int) -> str:
    """Return one line of text about the buckets: larger arrays, of few sizes, in which pictures lie.

    The words are those of `bucket_line`; `programs` is the number of programs that are compiled.
    """
    pairs = [(entry.scales, group.scales) for group in parts for entry in group.entries]
    runs, arrays = zip(*pairs, strict=True)
    return bucket_line(runs, arrays, programs)


def _enlarged(entries: Sequence[Entry]) -> list[str]:
    """Return a list with one note on all styles that `--style-scale` enlarges beyond their own sizes.

    The list is empty if there are no such styles.
    """
    names: dict[str, None] = {}
    for entry in entries:
        if entry.recipe.pictures.style_scale is None:
            continue
        originals = [style.shape for style in entry.every_style]
        shapes = entry.scales[-1].style_shapes
        for index in prepare.enlarged_styles(originals, shapes, entry.recipe):
            names[entry.every_style[index].name] = None
    if not names:
        return []
    return [
        f"`--style-scale` enlarges {few(list(names))} beyond the pixels they have, which blurs their "
        "fine strokes; larger pictures of them have sharper ones"
    ]


def _renamed(entries: Sequence[Entry]) -> list[str]:
    """Return a note for each result whose file name ends in a number, such as `cat_night-2.png`.

    The number was added because another result of the batch would have the same file name.
    """
    notes = []
    for entry in entries:
        blended = entry.recipe.terms.blended_styles(entry.styles)
        stem = "_".join(path.stem for path in (entry.content, *blended))
        if re.fullmatch(re.escape(stem) + r"-\d+", entry.output.stem):
            styles = " and ".join(map(str, entry.styles))
            notes.append(f"{entry.output.name} is {entry.content} with {styles}")
    return notes


def draw_sheet(entries: Sequence[Entry]) -> np.ndarray:
    """Draw the contact sheet: contents on the left, styles at the top, and results in the cells.

    A picture that blends several styles is shown in the column of its first style.

    Returns:
      [h, w, 3] float32 in [0, 1].
    """
    contents = dict.fromkeys(entry.content for entry in entries)
    styles = dict.fromkeys(entry.styles[0] for entry in entries)
    down = {path: index for index, path in enumerate(contents)}
    across = {path: index for index, path in enumerate(styles)}
    return sheets.contact_sheet(
        [thumbnail(path) for path in down],
        [thumbnail(path) for path in across],
        {(down[e.content], across[e.styles[0]]): thumbnail(e.output) for e in entries},
        content_labels=[path.stem for path in down],
        style_labels=[path.stem for path in across],
    )


def thumbnail(path: Path) -> np.ndarray:
    """Read a picture, and shrink it to the size of a cell of a contact sheet if it is larger."""
    image = images.load(path)
    height, width = image.shape[:2]
    factor = min(1.0, sheets.CELL / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    return images.bicubic_8bit(image, shape)
