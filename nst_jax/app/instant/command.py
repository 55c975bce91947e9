"""The command `instant`, which paints one picture, many pictures, or one picture in all 26 styles.

Each picture is painted by a single pass of a network. The pictures to paint are a list of rows, each a
content and a style. A record says whether a row was painted. The result manifest is a file of all
records, written beside the pictures. The 26 styles are those that a network of the package has learned.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np

from nst_jax import _files, provenance
from nst_jax.app import cache, programs, standard_streams
from nst_jax.app.batch import contact_sheet, results, rows
from nst_jax.app.batch.job import listing_of
from nst_jax.app.formatting import duration, few
from nst_jax.app.instant.job import (
    InstantJob,
    Row,
    check_no_options_of_several,
    many_job,
    sheet_job,
    single_job,
)
from nst_jax.app.instant.painting import (
    PaintedRow,
    check_bucket,
    network_of,
    paint_rows,
    settings,
    written_with,
)
from nst_jax.app.interrupts import exit_on_signals, raise_on_interrupt
from nst_jax.app.messages import as_flags, print_lines, print_message
from nst_jax.app.outputs import STANDARD, default_name, result_path
from nst_jax.app.parsing import StyleShare
from nst_jax.app.plan_report import px
from nst_jax.app.progress import Display
from nst_jax.app.writing import where_instead, write_picture
from nst_jax.feed_forward import instant_painter, style_names
from nst_jax.images import sheets

# If there is no result after this number of seconds, a line is printed that says what takes so long.
SILENT_SECONDS = 2.0
COLUMNS = 6  # number of pictures in a row, on the sheet that shows one picture in all 26 styles


def instant(content: Path | None, words: Sequence[StyleShare], chosen: dict[str, Any]) -> int:
    """Print the names of the 26 styles, or paint one or many pictures; return the exit code.

    The 26 styles are those that a network of the package has learned. The command can also paint one
    picture in all 26 styles, on a single sheet.

    If there is a single result, one of its input files may come from standard input, and the result may
    go to standard output.

    Args:
      content: path of the photo, or a folder or a pattern; None to print the styles.
      words: names or paths of the styles, each with its share in the blend of styles, or None if no
        share was given. If the option `--styles` names the styles, `words` are further contents.
      chosen: the options of the command.

    Raises:
      ValueError: if an argument or option cannot be used; the message names it.
    """
    pictures = [path for path, _ in words]
    inputs = {"content": [] if content is None else [content], "style": pictures}
    several = content is not None and _are_several(content, chosen)
    if several and STANDARD in (*inputs["content"], *pictures):
        raise ValueError("`content`: `-` is one picture, painted in one style; name files instead")
    if several and chosen["output"] == STANDARD:
        raise ValueError("`output`: standard output takes one picture; name a folder for several")
    if several:
        return _instant(content, words, chosen)
    return standard_streams.with_streams(
        lambda given: _instant(content, words, given), inputs, chosen
    )


def _are_several(content: Path, chosen: Mapping[str, Any]) -> bool:
    """Return whether the command has several results, which are written into a folder.

    With `--list`, it has at most one, a sheet of pictures.
    """
    if chosen["listed"]:
        return False
    return bool(chosen["styles"]) or content.is_dir() or rows.is_pattern(content)


def _instant(content: Path | None, words: Sequence[StyleShare], chosen: dict[str, Any]) -> int:
    if chosen["listed"]:
        return _list(content, words, chosen)
    if content is None:
        raise ValueError(
            "`content`: is missing; name a picture and a style, CONTENT STYLE, or `--list` the styles"
        )
    if _are_several(content, chosen):
        return _many(many_job(content, words, chosen), chosen)
    return _one(single_job(content, words, chosen), chosen)


# --- One picture ----------------------------------------------------------------------------------


def _one(job: InstantJob, chosen: Mapping[str, Any]) -> int:
    exit_on_signals()
    check_bucket(job)
    painter, display = _begun(job, chosen)
    with _telling(display, job.rows[0]):
        (painted,) = paint_rows(job, painter)
    if isinstance(painted, results.Record):
        error = painted.error or "nothing was painted"
        # An error that begins with one of these names means that an input file cannot be decoded or has
        # changed, or that the bucket (the array in which the picture is padded) is too small for the
        # picture or too large for memory. The error is raised as a ValueError, so that the exit code is
        # 2, that of bad input.
        if error.startswith(("`content`", "`style`", "`protect`", "`bucket`")):
            raise ValueError(error)
        print_message("error", as_flags(error))
        return 1
    row = painted.row
    write_picture(
        row.output,
        painted.image,
        **written_with(painted, job, painter),
        overwrite=job.overwrite is not False,
    )
    display.say(f"done in {duration(time.perf_counter() - job.begun)}")
    if not chosen["quiet"] and chosen.get("prints_path", True):
        print_lines(row.output)
    return 0


def _begun(
    job: InstantJob, chosen: Mapping[str, Any], notes: Sequence[str] = ()
) -> tuple[instant_painter.InstantPainter, Display]:
    """Set up JAX's cache, show what will be painted; return the painter, and the progress display."""
    display = Display(chosen["quiet"])
    problem = cache.set_cache(chosen["cache"])
    # From here to the end of the command, entries of JAX's compilation cache that cannot be read are
    # deleted, so that JAX writes new ones.
    click.get_current_context().with_resource(cache.mended(display.say))
    kept = programs.instant_kept_in(cache.programs_folder(), display.say)
    painter = instant_painter.InstantPainter(
        precision=job.precision, programs=kept, bucket=job.bucket
    )
    painter.report = lambda done, total: display.stage(f"strip {done} of {total}", "")
    display.facts({"device": provenance.device_words(provenance.device())} | _lines(job, painter))
    for note in [*([problem] if problem else []), *notes]:
        display.say(f"note: {note}")
    return painter, display


def _lines(job: InstantJob, painter: instant_painter.InstantPainter) -> dict[str, str]:
    """Return the lines of text to show before painting, each under its title, such as "weights"."""
    networks = [network_of(row.style, painter) for row in job.rows]
    described = dict.fromkeys(f"{one.name.split()[0]}, {one.digest[:12]}" for one in networks)
    lines = {
        "weights": few(list(described), "; "),
        "precision": job.precision.name,
    }
    if job.strength != 1:
        lines["strength"] = f"{job.strength:g}"
    if job.colors != "style":
        lines["colors"] = job.colors
    if job.realism:
        lines["realism"] = f"{job.realism:g}"
    protects = {
        (" and ".join(mask.name for mask in row.masks), row.protect.amount)
        for row in job.rows
        if row.protect
    }
    if len(protects) == 1:
        ((names, amount),) = protects
        lines["protect"] = f"{names}:{amount:g}"
    elif protects:
        lines["protect"] = f"{len(protects)} masks"
    styles = list(dict.fromkeys(row.style for row in job.rows))
    if len({row.content for row in job.rows}) == 1:
        row = job.rows[0]
        lines["content"] = f"{row.seen.name}, {px(row.seen.shape)} -> {px(row.shape)}"
    else:
        shapes = sorted({row.shape for row in job.rows}, reverse=True)
        lines["pictures"] = f"{len(job.rows)}, to {job.folder}"
        lines["sizes"] = few([px(shape) for shape in shapes])
    last = list(lines)[-1]
    lines[last] += f" ({job.content_rule})"
    if job.bucket is not None:
        real = sum(row.shape[0] * row.shape[1] for row in job.rows)
        share = len(job.rows) * job.bucket**2 / real - 1
        lines["bucket"] = f"{px((job.bucket, job.bucket))}; {share:.0%} more pixels to compute"
    lines["style" if len(styles) == 1 else "styles"] = few([style.words for style in styles])
    if any(style.seen for style in styles):
        lines["style size"] = str(job.style_rule)
    return lines


@contextmanager
def _telling(display: Display, row: Row) -> Iterator[None]:
    """Context manager: if its block takes longer than `SILENT_SECONDS`, show a line that says why."""
    what = f"painting {px(row.shape)}; for the first picture of a size this includes compiling"
    timer = threading.Timer(SILENT_SECONDS, display.say, [what])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


# --- Many pictures --------------------------------------------------------------------------------


def _many(job: InstantJob, chosen: Mapping[str, Any]) -> int:
    """Paint the pictures of a job, print which failed, and return the exit code.

    Without `--overwrite`, pictures that an earlier run has finished are skipped.
    """
    folder = job.folder
    assert folder is not None
    check_bucket(job)
    folder.mkdir(exist_ok=True)
    # The result manifest, a file that records how each picture ended, is locked before this process
    # looks for finished pictures. So no other process can paint into the same folder at the same time.
    with _files.reserved(listing_of(folder, None), argument="output"):
        raise_on_interrupt()
        listed, complete = _run(job, chosen, folder)
    for record in listed.records:
        if not record.good:
            print_message("warning", f"{record.output}: {record.error}")
    if problem := listed.ensure_saved():
        print_message("error", problem)
    if not complete:
        written = sum(record.good for record in listed.records)
        text = (
            f"{written} of {_count(job)} pictures are in {folder}; the same command paints the rest"
        )
        print_message("interrupted", text)
        return 130
    if not chosen["quiet"]:
        print_lines(folder)
    return 0 if all(record.good for record in listed.records) and not problem else 1


def _count(job: InstantJob) -> int:
    return len(job.rows) + len(job.bad)


def _run(job: InstantJob, chosen: Mapping[str, Any], folder: Path) -> tuple[results.Results, bool]:
    """Paint the pictures of a job, and record for each whether it could be painted.

    Without `--overwrite`, pictures that an earlier run has finished are only recorded, as "skipped".

    Returns:
      The records, and whether painting ran to its end; False after Ctrl-C.
    """
    notes = rows.notes_on_folders([Path(word) for word in chosen["styles"]])
    complete = True
    painter, display = _begun(job, chosen, notes) if job.rows else (None, Display(chosen["quiet"]))
    with results.Results(listing_of(folder, None)) as listed:
        for record in job.bad:
            listed.add(record)
        if painter is None:
            return listed, True
        rest, finished = results.divided(
            job.rows,
            lambda row: settings(row, job, network_of(row.style, painter)),
            folder,
            overwrite=job.overwrite,
        )
        for row, _ in finished:
            listed.add(row.record("skipped"))
        if finished:
            more = "" if rest else "; `--overwrite` paints anew"
            display.say(f"{len(finished)} of {_count(job)} pictures are finished{more}")
        try:
            _paint_rest(replace(job, rows=tuple(rest)), painter, display, listed)
            listed.fail_vanished()
            if job.sheet is not None:
                _draw_sheet(job, listed)
        except KeyboardInterrupt:
            complete = False
            listed.fail_vanished()
    return listed, complete


def _paint_rest(
    job: InstantJob,
    painter: instant_painter.InstantPainter,
    display: Display,
    listed: results.Results,
) -> None:
    """Paint the rows of `job`; the caller has left out those that are finished already.

    A second thread writes each picture while the next one is painted.
    """
    done = 0

    def finish(painted: PaintedRow) -> None:
        listed.add(_written(painted, job, painter))

    if not job.rows:
        return
    _files.remove_leftovers(row.output for row in job.rows)
    writing: list[Future[None]] = []
    with display.bar(len(job.rows), "compiling"), ThreadPoolExecutor(1, "writer") as writer:
        for painted in paint_rows(job, painter):
            done += 1
            if isinstance(painted, results.Record):
                listed.add(painted)
                name = Path(painted.output).name
            else:
                writing.append(writer.submit(finish, painted))
                name = painted.row.output.name
            display.move(done, len(job.rows), "picture", name)
            while len(writing) > 1:  # only one picture waits to be written, to save memory
                writing.pop(0).result()
        for future in writing:
            future.result()


def _written(
    painted: PaintedRow, job: InstantJob, painter: instant_painter.InstantPainter
) -> results.Record:
    """Write a painted picture to its file; return a `Record` of success or failure."""
    row = painted.row
    options: dict[str, Any] = {}
    try:
        options = written_with(painted, job, painter)
        write_picture(row.output, painted.image, **options, overwrite=job.overwrite is not False)
    except (ValueError, OSError, MemoryError) as error:
        instead = where_instead(row.output, painted.image, "the picture", **options)
        return row.record("failed", f"{results.message_of(error)}{instead}")
    return row.record("done", seconds=painted.seconds)


def _draw_sheet(job: InstantJob, listed: results.Results) -> None:
    """Write the contact sheet: contents on the left, styles at the top, and results in the cells."""
    assert job.sheet is not None
    there = {record.row for record in listed.records if record.status != "failed"}
    shown = [row for row in job.rows if row.number in there]
    if not shown:
        return
    contents = dict.fromkeys(row.content for row in shown)
    styles = dict.fromkeys(row.style for row in shown)
    down = {path: index for index, path in enumerate(contents)}
    across = {style: index for index, style in enumerate(styles)}
    # One of the 26 styles, or a trained network, has no style picture; a white pixel stands for it.
    blank = np.ones((1, 1, 3), np.float32)
    drawn = sheets.contact_sheet(
        [contact_sheet.thumbnail(path) for path in down],
        [contact_sheet.thumbnail(style.paths[0]) if style.seen else blank for style in across],
        {
            (down[row.content], across[row.style]): contact_sheet.thumbnail(row.output)
            for row in shown
        },
        content_labels=[path.stem for path in down],
        style_labels=["+".join(label.stem for label in style.labels) for style in across],
    )
    # If the command is run again, `results.check_sheet` lets a file with `contact_sheet` be
    # replaced.
    metadata = {"contact_sheet": len(shown), "versions": provenance.versions()}
    write_picture(job.sheet, drawn, metadata=metadata)


# --- All styles -----------------------------------------------------------------------------------


def _list(content: Path | None, words: Sequence[StyleShare], chosen: dict[str, Any]) -> int:
    """Print the names of the 26 styles, or paint the content in all of them; return the exit code.

    Args:
      content: the path of the content; if it is None, the names are printed.
      words: the styles that were typed. They are refused, since `--list` shows all 26 styles.
      chosen: the values of the command's options.
    """
    for name, given in (("style", words), ("styles", chosen["styles"])):
        if given:
            raise ValueError(f"`{name}`: `--list` shows all 26 styles; omit one of the two")
    check_no_options_of_several(chosen, "`--list` writes at most one file, so omit it")
    if content is None:
        if chosen["output"] is not None:
            raise ValueError("`output`: is for the sheet of a picture; name one, `--list PHOTO`")
        for number, (name, look) in enumerate(style_names.LOOKS.items()):
            print_lines(f"{number:>2}  {name:<10}  {look}")
        return 0
    if content.is_dir() or rows.is_pattern(content):
        raise ValueError(f"`content`: '{content}' is not one picture; name one for the sheet")
    exit_on_signals()
    output = result_path(chosen["output"], default_name(content, [], "_styles"))
    job = sheet_job(content, output, chosen)
    _files.remove_leftovers([output])
    check_bucket(job)
    painter, display = _begun(job, chosen)
    found: list[np.ndarray] = []
    with display.bar(len(job.rows), "compiling"):
        for painted in paint_rows(job, painter):
            if isinstance(painted, results.Record):
                print_message("error", painted.error or "nothing was painted")
                return 1
            found.append(painted.image)
            display.move(len(found), len(job.rows), "style", painted.row.style.words)
    labels = [f"{number}  {name}" for number, name in enumerate(style_names.NAMES)]
    cell = max(job.rows[0].shape)
    drawn = sheets.captioned(found, labels, columns=COLUMNS, cell=cell)
    facts = {"contact_sheet": len(found), "versions": provenance.versions()}
    metadata = facts if job.metadata else None
    write_picture(output, drawn, metadata=metadata, overwrite=job.overwrite is not False)
    if not chosen["quiet"] and chosen.get("prints_path", True):
        print_lines(output)
    return 0
