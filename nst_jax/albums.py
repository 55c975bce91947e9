"""Many files at once: pair contents with styles, group what fits one program, write as it goes."""

import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import batches, images, jobs, prepare, settings, sheets
from nst_jax._types import Params
from nst_jax.pace import CHUNK_SECONDS, CompileClock, Stopwatch, cost, duration
from nst_jax.params import WeightsInfo
from nst_jax.progress import Display, left
from nst_jax.recipes import Recipe
from nst_jax.runs import resized_alpha, surroundings, tell_family

MOST = 8  # pictures in one program
# Pixels of canvas in one program. A processor gains little from a batch and has less memory.
PIXELS = {"cpu": 2**19}
PIXELS_ELSEWHERE = 2**22


class Entry(NamedTuple):
    """One picture of an album. The files are read again when their turn comes."""

    content: Path
    style: Path
    output: Path
    scales: tuple[prepare.Scale, ...]


@dataclass(frozen=True, kw_only=True)
class Album:
    """Pictures to paint with one recipe; everything is checked.

    Attributes:
      entries: one per picture, in the order of the contents, then the styles.
      recipe: with every flag in it.
      seed: of the random key.
      overwrite: whether existing files may be replaced.
      metadata: whether settings are embedded.
      init: a start, a picture, or None for the recipe's.
      init_file: where `init` was read from, if it was.
      sheet: where the contact sheet goes, or None.
    """

    entries: tuple[Entry, ...]
    recipe: Recipe
    seed: int = 0
    overwrite: bool = True
    metadata: bool = True
    init: Any = None
    init_file: images.Picture | None = None
    sheet: Path | None = None


def pairs(
    contents: Sequence[Path], styles: Sequence[Path], zipped: bool
) -> list[tuple[Path, Path]]:
    """Pair every content with every style, or the n-th with the n-th.

    Raises:
      ValueError: if `zipped` and there are not as many of one as of the other.
    """
    if not zipped:
        return [(content, style) for content in contents for style in styles]
    if len(contents) != len(styles):
        raise ValueError(
            f"`styles`: `--pair zip` wants one for each content; got {len(styles)} for "
            f"{len(contents)}"
        )
    return list(zip(contents, styles, strict=True))


def names(chosen: Sequence[tuple[Path, Path]], suffix: str) -> list[str]:
    """Return `CONTENT_STYLE.suffix` for each pair; a name that is taken gets a number.

    Example:
      >>> names([(Path("a/cat.jpg"), Path("wave.jpg")), (Path("b/cat.jpg"), Path("wave.jpg"))], "png")
      ['cat_wave.png', 'cat_wave-2.png']
    """
    found: list[str] = []
    taken: set[str] = set()  # in lower case: some file systems do not tell the cases apart
    for content, style in chosen:
        stem, count = f"{content.stem}_{style.stem}", 1
        name = f"{stem}.{suffix}"
        while name.lower() in taken:
            count += 1
            name = f"{stem}-{count}.{suffix}"
        taken.add(name.lower())
        found.append(name)
    return found


def entries(
    chosen: Sequence[tuple[Path, Path]], recipe: Recipe, folder: Path, suffix: str
) -> tuple[Entry, ...]:
    """Read every file of an album once, and plan its pictures.

    Raises:
      ValueError: naming the file that cannot be read or would become too small.
    """
    shapes = {path: _shape(path, "contents") for path in dict.fromkeys(c for c, _ in chosen)}
    for _, style in chosen:
        shapes[style] = shapes.get(style) or _shape(style, "styles")
    found = []
    for (content, style), name in zip(chosen, names(chosen, suffix), strict=True):
        try:
            canvas = prepare.final_shapes(shapes[content], shapes[style], recipe)
        except ValueError as error:
            raise ValueError(f"{error} ('{content}' with '{style}')") from error
        found.append(Entry(content, style, folder / name, prepare.plan(*canvas, recipe)))
    return tuple(found)


def check_outputs(album: Album, inputs: Iterable[Path]) -> None:
    """Refuse results that cannot be written, or that would destroy an input.

    Args:
      album: whose contents and styles are inputs.
      inputs: what else is read.

    Raises:
      ValueError: naming the file.
    """
    folder = album.entries[0].output.parent
    sources = {path for entry in album.entries for path in (entry.content, entry.style)}
    sources |= set(inputs)
    sheet = [] if album.sheet is None else [album.sheet]
    for output in [*(entry.output for entry in album.entries), *sheet]:
        jobs.refuse_inputs(output, sources, "output")
        if folder.exists():
            images.check_output(output, overwrite=album.overwrite, argument="output")
    for entry in album.entries:
        images.check_fits(entry.output, entry.scales[-1].shape, argument="output")


def _shape(path: Path, argument: str) -> tuple[int, int]:
    height, width = images.read(path, argument=argument).image.shape[:2]
    return height, width


def groups(album: Album, platform: str) -> list[list[Entry]]:
    """Split an album into what one program paints: one canvas shape, and not too much at once."""
    by_shape: dict[Any, list[Entry]] = defaultdict(list)
    for entry in album.entries:
        by_shape[entry.scales[-1].shape].append(entry)
    found = []
    for (height, width), same in by_shape.items():
        budget = PIXELS.get(platform, PIXELS_ELSEWHERE)
        most = max(1, min(MOST, budget // (height * width)))
        # Even groups: another number of pictures is another program to compile.
        size = math.ceil(len(same) / math.ceil(len(same) / most))
        found += [same[i : i + size] for i in range(0, len(same), size)]
    return found


def introduce(album: Album, weights: WeightsInfo, display: Display) -> None:
    """Say what will be done, before it is."""
    recipe, pictures = album.recipe, album.recipe.pictures
    facts = {"device": settings.device(), "weights": weights._asdict()}
    shapes = sorted({entry.scales[-1].shape for entry in album.entries}, reverse=True)
    sizes = ", ".join(f"{width}x{height} px" for height, width in shapes[:6])
    more = "" if len(shapes) <= 6 else f" and {len(shapes) - 6} more"
    lines = surroundings(facts) | {
        "recipe": f"{recipe.name}, {recipe.descent.steps} updates each",
        "sizes": f"{sizes}{more} ({pictures.size}, {pictures.resize.__name__}); "
        f"styles: {pictures.style_size or pictures.size}",
        "pictures": f"{len(album.entries)}, to {album.entries[0].output.parent}",
    }
    display.facts(lines)
    tell_family(recipe, weights.family, display)
    for entry in album.entries:
        if entry.output.stem != f"{entry.content.stem}_{entry.style.stem}":
            display.say(f"note: {entry.output.name} is {entry.content} with {entry.style}")


class Thumbnails(NamedTuple):
    """Small copies for the contact sheet, by the files they are of."""

    contents: dict[Path, np.ndarray]
    styles: dict[Path, np.ndarray]
    results: dict[tuple[Path, Path], np.ndarray]

    def add(self, entry: Entry, pair: "Pair", result: Any) -> None:
        """Keep the thumbnails of one picture and of what it was made of."""
        self.contents.setdefault(entry.content, _thumbnail(pair[0].image))
        self.styles.setdefault(entry.style, _thumbnail(pair[1].image))
        self.results[entry.content, entry.style] = _thumbnail(result)

    def sheet(self) -> np.ndarray:
        """Draw contents down, styles across, results where they meet."""
        contents, styles = list(self.contents), list(self.styles)
        return sheets.contact_sheet(
            list(self.contents.values()),
            list(self.styles.values()),
            {(contents.index(c), styles.index(s)): r for (c, s), r in self.results.items()},
            content_labels=[path.stem for path in contents],
            style_labels=[path.stem for path in styles],
        )


def _thumbnail(image: Any) -> np.ndarray:
    height, width = image.shape[:2]
    factor = min(1.0, sheets.CELL / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    return images.pillow_bicubic(image, shape)


def album_of(
    chosen: Sequence[tuple[Path, Path]],
    recipe: Recipe,
    folder: Path,
    suffix: str,
    *,
    inputs: Iterable[Path] = (),
    **options: Any,
) -> Album:
    """Put an album together and check it.

    Args:
      chosen: pairs of content and style.
      recipe: with every flag in it.
      folder: where the results go; made if its parent exists.
      suffix: of the results.
      inputs: files that are read besides the pairs.
      **options: fields of `Album`.

    Returns:
      The album.

    Raises:
      ValueError: naming what cannot be used.
    """
    jobs.check_folder(folder, "output")
    album = Album(entries=entries(chosen, recipe, folder, suffix), recipe=recipe, **options)
    check_outputs(album, inputs)
    return album


def paint(
    params: Params, weights: WeightsInfo, album: Album, display: Display
) -> Iterator[tuple[Path, str]]:
    """Paint an album group by group; a picture is on the disk before it is yielded.

    Args:
      params: the weights.
      weights: what their file says of itself.
      album: checked.
      display: where to show progress.

    Yields:
      The file written, and what went wrong with it, if anything did.
    """
    introduce(album, weights, display)
    album.entries[0].output.parent.mkdir(exist_ok=True)
    done, count = 0, len(album.entries)
    small = Thumbnails({}, {}, {})
    with CompileClock() as compiling, display.bar(count, "compiling"):
        together = groups(album, jax.devices()[0].platform)
        loads = [Load(len(group), group[0].scales) for group in together]
        course = Course(loads, compiling, display)
        for group in together:
            key = jax.random.fold_in(jax.random.key(album.seed), done)
            pairs = [_read(entry) for entry in group]
            painted, broken = _painted(params, pairs, album, key, course)
            for row, (entry, pair) in enumerate(zip(group, pairs, strict=True)):
                _save(entry, pair, painted[row], album, weights, broken.get(row))
                small.add(entry, pair, painted[row])
                display.say(f"{entry.output.name}: {problem(broken.get(row)) or 'done'}")
                yield entry.output, problem(broken.get(row))
            done += len(group)
            course.end_load()
    if album.sheet is not None:
        images.save(album.sheet, small.sheet(), overwrite=album.overwrite)
        yield album.sheet, ""


class Load(NamedTuple):
    """What is painted together: so many pictures along the same scales."""

    pictures: int
    scales: tuple[prepare.Scale, ...]


class Course(Iterator[int]):
    """How far the loads are, how long the rest will take, and how long chunks are: about a second.

    It is both `every` and, by its method, `tell` of `stylize_many`, called once per load.
    """

    def __init__(self, loads: Sequence[Load], compiling: CompileClock, display: Display) -> None:
        self._loads, self._compiling, self._display = loads, compiling, display
        self._work = [load.pictures * sum(_costs(load.scales)) for load in loads]
        self._index, self._announced, self._done = 0, False, 0.0
        self._length = 1
        self._watch = Stopwatch(compiling)
        self._watch.lap()

    def __next__(self) -> int:
        return self._length

    def tell(self, evaluations: int, total: int) -> None:
        """Show how far the load is; `batches` calls this about every second."""
        del total
        if self._watch.lap().seconds < CHUNK_SECONDS / 2:
            self._length *= 2
        count, scales = self._loads[self._index]
        self._done = count * sum(_costs(scales)[:evaluations])
        steps = sum(scale.steps for scale in scales)
        words = f"update {max(0, evaluations - 1)} of {steps}, {left(self._rest())}"
        # The first chunk is one evaluation, too little to tell the rest by.
        if not self._announced and evaluations > 1:
            self._announced = True
            spent, rest = duration(self._compiling.seconds), duration(self._rest())
            self._display.say(f"compiled in {spent}; the rest takes about {rest}")
        what = f"{count} at once" if count > 1 else "one"
        self._display.move(self._pictures(), self._all(), "picture", f"{what}, {words}")

    def end_load(self) -> None:
        """Go on to the next load."""
        self._watch.lap()
        self._index, self._done, self._length = self._index + 1, 0.0, 1
        rest = left(self._rest()) if self._index < len(self._loads) else ""
        spent = f"{duration(self._compiling.seconds)} of compiling"
        words = ", ".join(filter(None, (spent, rest)))
        self._display.move(self._pictures(), self._all(), "picture", words)

    def _pictures(self) -> int:
        return sum(load.pictures for load in self._loads[: self._index])

    def _all(self) -> int:
        return sum(load.pictures for load in self._loads)

    def _rest(self) -> float:
        """Estimate the seconds left, from the work done so far."""
        done = sum(self._work[: self._index]) + self._done
        return self._watch.elapsed / done * (sum(self._work) - done) if done else 0.0


def _costs(scales: Sequence[prepare.Scale]) -> list[int]:
    """Return what each evaluation of a picture costs, in pixels."""
    costs = [cost(scale) for scale in scales for _ in range(scale.steps)]
    return [*costs, cost(scales[-1])]


def problem(broke_at: int | None) -> str:
    """Return what is wrong with a picture that broke at this update; nothing if it did not."""
    if broke_at is None:
        return ""
    return f"the losses are not finite after {broke_at} updates; it is the last finite canvas"


Pair = tuple[images.Picture, images.Picture]


def _read(entry: Entry) -> Pair:
    return (
        images.read(entry.content, argument="contents"),
        images.read(entry.style, argument="styles"),
    )


def _painted(
    params: Params,
    pairs: Sequence[Pair],
    album: Album,
    key: Any,
    course: Course,
) -> tuple[Any, dict[int, int]]:
    """Return the pictures, and of those that broke, the row and the update."""
    broken: dict[int, int] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", batches.RowsDiverged)
        painted = batches.stylize_many(
            params,
            [content.image for content, _ in pairs],
            [style.image for _, style in pairs],
            recipe=album.recipe,
            init=album.init,
            key=key,
            every=course,
            tell=course.tell,
        )
    for warning in caught:
        if isinstance(warning.message, batches.RowsDiverged):
            broken |= warning.message.rows
    return painted, broken


def _save(
    entry: Entry,
    pair: Pair,
    image: Any,
    album: Album,
    weights: WeightsInfo,
    broke_at: int | None,
) -> None:
    inputs = {"content": pair[0], "style": pair[1]}
    if album.init_file is not None:
        inputs["init"] = album.init_file
    facts = settings.of_run(
        album.recipe, entry.scales, seed=album.seed, inputs=inputs, weights=weights
    )
    done = facts["steps"] if broke_at is None else max(0, broke_at - 1)
    told = facts | {"steps_done": done, "finished": broke_at is None}
    images.save(
        entry.output,
        image,
        alpha=resized_alpha(pair[0].alpha, image),
        metadata=told if album.metadata else None,
        overwrite=album.overwrite,
    )
