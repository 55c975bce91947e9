"""Many files at once: pair contents with styles, group what fits one program, write as it goes."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import images, jobs, prepare, settings, sheets
from nst_jax._types import Params
from nst_jax.courses import Course, Load, most_at_once, painted_together, problem
from nst_jax.pace import CompileClock
from nst_jax.params import WeightsInfo
from nst_jax.progress import Display
from nst_jax.recipes import Recipe
from nst_jax.runs import resized_alpha, save, surroundings, tell_family

MOST = 8  # pictures in one program


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
      chunk: pictures at once, at most; None is as many as memory holds.
    """

    entries: tuple[Entry, ...]
    recipe: Recipe
    seed: int = 0
    overwrite: bool = True
    metadata: bool = True
    init: Any = None
    init_file: images.Picture | None = None
    sheet: Path | None = None
    chunk: int | None = None


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
    if len(recipe.terms.style_shares) > 1:
        raise ValueError(
            f"`recipe`: {recipe.name!r} blends {len(recipe.terms.style_shares)} styles by its "
            "`style_shares`; `batch` paints one style a picture, so blend with `stylize`"
        )
    shapes = {path: _shape(path, "contents") for path in dict.fromkeys(c for c, _ in chosen)}
    for _, style in chosen:
        shapes[style] = shapes.get(style) or _shape(style, "styles")
    found = []
    for (content, style), name in zip(chosen, names(chosen, suffix), strict=True):
        try:
            scales = prepare.scales_of(shapes[content], [shapes[style]], recipe)
        except ValueError as error:
            raise ValueError(f"{error} ('{content}' with '{style}')") from error
        found.append(Entry(content, style, folder / name, scales))
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
        most = min(MOST, most_at_once((height, width), platform))
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
            painted, broken = painted_together(
                params,
                [content.image for content, _ in pairs],
                [style.image for _, style in pairs],
                course,
                recipe=album.recipe,
                init=album.init,
                key=key,
                chunk=album.chunk,
            )
            for row, (entry, pair) in enumerate(zip(group, pairs, strict=True)):
                _save(entry, pair, painted[row], album, weights, broken.get(row))
                small.add(entry, pair, painted[row])
                display.say(f"{entry.output.name}: {problem(broken.get(row)) or 'done'}")
                yield entry.output, problem(broken.get(row))
            done += len(group)
            course.end_load()
    if album.sheet is not None:
        save(album.sheet, small.sheet(), overwrite=album.overwrite)
        yield album.sheet, ""


Pair = tuple[images.Picture, images.Picture]


def _read(entry: Entry) -> Pair:
    return (
        images.read(entry.content, argument="contents"),
        images.read(entry.style, argument="styles"),
    )


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
    save(
        entry.output,
        image,
        alpha=resized_alpha(pair[0].alpha, image),
        metadata=told if album.metadata else None,
        overwrite=album.overwrite,
    )
