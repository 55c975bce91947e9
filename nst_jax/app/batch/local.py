"""Painting an album here: one thread reads ahead, one writes behind, and this one computes."""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import _files, images, provenance
from nst_jax._types import Params
from nst_jax.app import plan
from nst_jax.app.batch import groups, results
from nst_jax.app.batch.groups import Entry, Group
from nst_jax.app.batch.job import Album, asked, record_of
from nst_jax.app.batch.results import Record
from nst_jax.app.progress import Course, Display, Load, painted_together, problem
from nst_jax.app.single import resized_alpha, save, surroundings, tell_family
from nst_jax.app.timing import CompileClock
from nst_jax.app.wording import few
from nst_jax.images import sheets
from nst_jax.recipes.starts import same_start
from nst_jax.scaling import sharding
from nst_jax.scaling.capacity import OutOfMemory
from nst_jax.weights.params import WeightsInfo

Tell = Callable[[Record], None]

Engine = Callable[[Params, WeightsInfo, Album, Display, Tell], None]

PLAIN = (ValueError, OSError, OutOfMemory)  # errors whose message says it all


class Loaded(NamedTuple):
    """An entry whose files were read."""

    entry: Entry
    content: images.Picture
    styles: tuple[images.Picture, ...]


class Canvas(NamedTuple):
    """A picture that was painted and is not written yet."""

    loaded: Loaded
    image: Any  # [h, w, 3] in [0, 1]
    losses: dict[str, Any] | None  # None if it broke
    broke_at: int | None
    seconds: float


# --- One group ------------------------------------------------------------------------------------


def read(group: Group) -> tuple[list[Loaded], list[Record]]:
    """Read the files of a group, each once; a row whose files cannot be read has failed."""
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
                if picture.digest != glance.digest:
                    raise ValueError(f"{picture.name!r} changed since the batch was begun")
        except (ValueError, OSError, MemoryError) as error:
            failed.append(record_of(entry, "failed", _told(error)))
        else:
            loaded.append(Loaded(entry, content, tuple(styles)))
    return loaded, failed


def _told(error: BaseException) -> str:
    lines = " ".join(str(error).split())
    return lines if isinstance(error, PLAIN) else f"{type(error).__name__}: {lines}"


def painted(
    params: Params, loaded: Sequence[Loaded], varying: Sequence[bool], album: Album, course: Course
) -> tuple[list[Canvas], list[Record]]:
    """Paint a group together; if that fails, one by one, so that only the rows that cannot be fail.

    Args:
      params: the weights.
      loaded: entries of one group.
      varying: which numbers of their recipes are arrays, as in `buckets.joined`.
      album: that they are of.
      course: at their load.

    Returns:
      The canvases, and the rows that failed.
    """
    if not loaded:
        return [], []
    begun = time.perf_counter()
    recipe = groups.joined([one.entry for one in loaded], varying)
    start = album.init
    if start is None:
        start = same_start(recipe.pictures.start, album.seed)
    try:
        found = painted_together(
            params,
            *_pictures(loaded),
            course,
            recipe=recipe,
            init=start,
            chunk=album.chunk,
            devices=album.devices,
            rows=album.rows_over,
        )
    except Exception as error:
        if len(loaded) == 1:
            return [], [record_of(loaded[0].entry, "failed", _told(error))]
        parts = [painted(params, [one], varying, album, course) for one in loaded]
        return [c for some, _ in parts for c in some], [r for _, some in parts for r in some]
    seconds = (time.perf_counter() - begun) / len(loaded)
    canvases = []
    for row, (one, image) in enumerate(zip(loaded, found.images, strict=True)):
        broke_at = found.broken.get(row)
        losses = None if broke_at is not None else provenance.of_losses(found.losses[row])
        canvases.append(Canvas(one, image, losses, broke_at, seconds))
    return canvases, []


def _pictures(loaded: Sequence[Loaded]) -> tuple[list[Any], list[Any]]:
    """Return contents and styles; what is the same for all once, so that it is measured once."""
    contents = [one.content.image for one in loaded]
    styles = [[style.image for style in one.styles] for one in loaded]
    if len({one.entry.styles for one in loaded}) == 1:
        return contents, styles[:1]
    if len({one.entry.content for one in loaded}) == 1:
        return contents[:1], styles
    return contents, styles


def write(canvas: Canvas, album: Album, weights: WeightsInfo) -> Record:
    """Write a picture where its row wants it; return how the row ended."""
    (entry, content, _), broke_at = canvas.loaded, canvas.broke_at
    told = asked(entry, album, weights)
    told |= {
        "device": provenance.device(),
        "versions": provenance.versions(),
        "steps_done": told["steps"] if broke_at is None else max(0, broke_at - 1),
        "finished": broke_at is None,
    }
    if canvas.losses is not None:
        told["losses"] = canvas.losses
    try:
        entry.output.parent.mkdir(parents=True, exist_ok=True)
        save(
            entry.output,
            canvas.image,
            alpha=resized_alpha(content.alpha, canvas.image),
            metadata=told if album.metadata else None,
            overwrite=album.overwrite is not False,
        )
    except (ValueError, OSError, MemoryError) as error:
        return record_of(entry, "failed", _told(error))
    status, why = ("done", None) if broke_at is None else ("diverged", problem(broke_at))
    seconds = round(canvas.seconds, 3)
    return record_of(entry, status, why, seconds=seconds, losses=canvas.losses)


# --- All groups -----------------------------------------------------------------------------------


def work(
    params: Params,
    weights: WeightsInfo,
    album: Album,
    groups: Sequence[Group],
    course: Course,
    tell: Tell,
) -> None:
    """Paint groups one after the other, while the next one is read and the last one written.

    Args:
      params: the weights.
      weights: what their file says of itself.
      album: that the groups are of.
      groups: as `buckets.groups` makes them.
      course: with a load for each.
      tell: called with each row's record as it ends, from this thread or another.
    """

    def finish(canvas: Canvas) -> None:
        tell(write(canvas, album, weights))

    writing: list[Future] = []
    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        coming = [reader.submit(read, group) for group in groups[:1]]
        for index, group in enumerate(groups):
            loaded, unread = coming.pop().result()
            # One group ahead, no more: whole pictures are large.
            coming += [reader.submit(read, following) for following in groups[index + 1 :][:1]]
            canvases, failed = painted(params, loaded, group.varying, album, course)
            for record in (*unread, *failed):
                tell(record)
            for future in writing:  # one group behind at most, likewise
                future.result()
            writing = [writer.submit(finish, canvas) for canvas in canvases]
            course.end_load()
        for future in writing:
            future.result()


def loads_of(groups: Sequence[Group]) -> list[Load]:
    """Return what a `Course` has to know of groups."""
    return [Load(len(group.entries), group.entries[0].scales) for group in groups]


def paint_here(
    params: Params, weights: WeightsInfo, album: Album, display: Display, tell: Tell
) -> None:
    """Paint an album in this process, on jax's default device.

    Args:
      params: the weights.
      weights: what their file says of itself.
      album: checked.
      display: where to show progress.
      tell: called with each row's record once its picture is on the disk.
    """
    shared = sharding.count_of(album.devices, album.rows_over)
    formed = groups.form_groups(album.entries, jax.local_devices()[0].platform, shared)
    with CompileClock() as compiling, display.bar(len(album.entries), "compiling"):
        work(params, weights, album, formed, Course(loads_of(formed), compiling, display), tell)


def carry_out(
    params: Params,
    weights: WeightsInfo,
    album: Album,
    rest: Album,
    finished: Sequence[Record],
    engine: Engine,
    display: Display,
) -> tuple[list[Record], bool]:
    """Paint what is left of an album, list how every row ended, and draw the contact sheet.

    Args:
      params: the weights.
      weights: what their file says of itself.
      album: all of it.
      rest: what is left.
      finished: the records of what is not.
      engine: what paints, such as `paint_here`.
      display: where to show progress.

    Returns:
      The records, and whether all was carried out: not, if Ctrl-C came between.
    """
    album.folder.mkdir(exist_ok=True)
    _files.remove_leftovers(entry.output for entry in rest.entries)
    with results.Results(album.listing) as listed:
        for record in (*finished, *album.bad):
            listed.add(record)

        def tell(record: Record) -> None:
            listed.add(record)
            display.say(f"{Path(record.output).name}: {record.error or record.status}")

        try:
            if rest.entries:
                introduce(rest, weights, len(finished), display, here=engine is paint_here)
                engine(params, weights, rest, display, tell)
            elif finished:
                display.say(f"all {len(finished)} pictures are finished; `--overwrite` paints anew")
            there = {record.row for record in listed.records if record.status != "failed"}
            if album.sheet is not None and there:
                drawn = draw_sheet([entry for entry in album.entries if entry.number in there])
                save(album.sheet, drawn, overwrite=album.overwrite is not False)
        except KeyboardInterrupt:
            return listed.records, False
    return listed.records, True


# --- Words and the sheet --------------------------------------------------------------------------


def introduce(
    album: Album, weights: WeightsInfo, done: int, display: Display, *, here: bool = True
) -> None:
    """Say what will be done, before it is.

    Args:
      album: what is left to do.
      weights: what their file says of itself.
      done: how many pictures are finished already.
      display: where it is said.
      here: whether this process' device is the one that paints.
    """
    entries = album.entries
    told = {"device": provenance.device(), "weights": weights._asdict()}
    recipes = Counter((e.recipe.name, int(e.recipe.descent.steps)) for e in entries)
    alike = len(recipes) == 1
    names = [
        f"{name}, {steps} updates each" + ("" if alike else f" ({count})")
        for (name, steps), count in recipes.items()
    ]
    rules = {
        f"{p.size}, {p.resize.__name__}; styles: {p.style_size or p.size}"
        for p in (entry.recipe.pictures for entry in entries)
    }
    rule = f" ({rules.pop()})" if len(rules) == 1 else ""
    shapes = sorted({entry.scales[-1].shape for entry in entries}, reverse=True)
    counts = f"{len(entries)}, to {album.folder}"
    counts += f"; {done} more are finished and skipped" if done else ""
    lines = surroundings(told) | {
        "recipe" if alike else "recipes": few(names, "; "),
        "sizes": few([f"{width}x{height} px" for height, width in shapes]) + rule,
        "pictures": counts,
    }
    if here:
        lines["memory"] = _memory(album)
    else:
        del lines["device"]
    display.facts(lines)
    for recipe in {entry.recipe.name: entry.recipe for entry in entries}.values():
        tell_family(recipe, weights.family, display)
    for entry in entries:
        if entry.output.suffix and entry.output.stem.startswith(f"{_stem(entry)}-"):
            styles = " and ".join(map(str, entry.styles))
            display.say(f"note: {entry.output.name} is {entry.content} with {styles}")


def _memory(album: Album) -> str:
    """Return what is said of the memory of the group that takes most."""
    shared = sharding.count_of(album.devices, album.rows_over)
    found: dict[Hashable, tuple[int, str]] = {}  # of groups alike
    for group in groups.form_groups(album.entries, jax.local_devices()[0].platform, shared):
        scales = [entry.scales[-1] for entry in group.entries]
        styles = tuple({shape for scale in scales for shape in scale.style_shapes})
        recipe, scale = group.entries[0].recipe, scales[0]._replace(style_shapes=styles)
        key = id(recipe), scale, len(scales)
        if key not in found:
            found[key] = plan.memory_of_group(
                recipe,
                scale,
                len(scales),
                chunk=album.chunk,
                devices=album.devices,
                rows=album.rows_over,
            )
    told = found.values()
    return max(told)[1] + (" at most" if len(set(told)) > 1 else "")


def _stem(entry: Entry) -> str:
    return "_".join(path.stem for path in (entry.content, *entry.styles))


def draw_sheet(entries: Sequence[Entry]) -> np.ndarray:
    """Draw contents down, styles across, and results where they meet, as they lie on the disk."""
    down = list(dict.fromkeys(entry.content for entry in entries))
    across = list(dict.fromkeys(entry.styles[0] for entry in entries))
    return sheets.contact_sheet(
        [_thumbnail(path) for path in down],
        [_thumbnail(path) for path in across],
        {(down.index(e.content), across.index(e.styles[0])): _thumbnail(e.output) for e in entries},
        content_labels=[path.stem for path in down],
        style_labels=[path.stem for path in across],
    )


def _thumbnail(path: Path) -> np.ndarray:
    image = images.load(path)
    height, width = image.shape[:2]
    factor = min(1.0, sheets.CELL / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    return images.bicubic_8bit(image, shape)
