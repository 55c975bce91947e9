"""Write `all_recipes.md`: one picture of each pair by every recipe, all in the time of `default`.

    python -m docs.all_recipes_page write                                    # the page, from the record
    python -m docs.all_recipes_page draw --keep FOLDER --pictures PICTURES   # its pictures too

`FOLDER` has the painted pictures of `python -m benchmarks quality --equal-time default`. `PICTURES` has
the photographs and paintings; `python -m docs.gallery_page pictures PICTURES` writes them. `draw` needs
matplotlib.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any

from PIL import Image

import nst_jax as nst
from benchmarks import equal_time, gallery, plots
from benchmarks.gallery import INSTANT, Gallery
from docs import quality_page, quality_verdicts
from docs.gallery_page import write_jpeg
from docs.gallery_sources import SOURCES
from docs.quality_aims import OURS, Outcome, outcomes
from docs.wording import in_words, number_word
from nst_jax.images import sheets

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "all_recipes", HERE / "all_recipes.md"
TEXTURES = ("gatys-texture", "sliced-wasserstein")  # recipes that look at no photograph
DIVERGES = "keras-io"  # on five of the six pairs; its learning rate is for 400 px
COLUMNS = 4  # of a sheet
LARGEST = 250_000  # bytes of a sheet
FRONT = "front.png"

Json = dict[str, Any]

PREFACE = """# All recipes side by side

Six photographs in the manner of six paintings, by every recipe that can paint them, all in the time
that `{ours}` takes: {seconds:.0f} CPU seconds on average, without compiling.

{answer}

**This page says how far a recipe comes in that time, not how well it paints when it is finished.**
Each made as many updates as fit into the time, at least one a scale; its other settings are its own.
Most are stopped early, such as `nnst` after {nnst} of 1000 updates and `crowsonkb` after {crowsonkb} of
1500. One that starts from the photograph then still looks like it (high SSIM, far from the style),
and one that starts from noise still shows the noise (low SSIM, much speckle). `gram` and
`pytorch-tutorial` made more updates than by their own settings. `{instant}`, a single pass of a
network, takes a small part of that time.

[quality.md](quality.md) compares some of the recipes by their own settings, at larger sizes and on
more pairs; [recipes.md](recipes.md) says where each comes from. `python -m docs.all_recipes_page`
writes this page from [a record](../benchmarks/results/all_recipes/quality-cpu.json), which
`python -m benchmarks quality` measures.

Three recipes are not here. `{textures}` paint textures and look at no photograph. The learning rate of
`{diverges}` is for pictures 400 px high, and on five of the six pairs its losses stop being finite.
`pytorch-tutorial` ends in noise on one pair, *astronaut, renoir*: with the embedded weights its
optimiser diverges, in torch as well ([departures](recipes.md#pytorch-tutorial)).
"""

RATERS = """## Raters

Figures are means over the pairs; [raters.md](raters.md) says what each rater can tell. A star marks a
biased rater: the recipe minimises or sets nearly what the rater measures
([reasons](raters.md#biased-raters)). Gram matrices and Gaussians are compared at {taps}, which no
recipe here reads. Six pairs are few, and the canvas is small: look at the table by pair before you
trust a difference of means.
"""

BLIND = """## Blind sheets

Models that saw neither names nor figures judged {number} of the recipes, as
[quality.md](quality.md#blind-sheets) describes. The pictures are those above, so the counts do not say
which recipe paints better when it is finished. By its own settings, `crowsonkb` fared better against
`{ours}` ([quality.md](quality.md#what-was-aimed-at-and-what-was-reached)).

Each line counts in how many of {verdicts} verdicts on {sheets} sheets a recipe was first, and in how
many it was placed before each other one.
"""

QUALITY = (
    "python -m benchmarks quality --sizes {size} --crop {crop} --pictures pictures --keep painted"
)
COMMANDS = """## How it was made

The photographs and paintings are those of [the gallery](gallery.md), cropped to 4:3 around their
middle. [NOTICE](../NOTICE) lists them with origin, licence and digest. These commands write them,
paint, rate, and draw this page:

```sh
python -m docs.gallery_page pictures pictures
{quality} {pairs} {recipes} --equal-time {ours} --paint-only
{quality} {pairs} --recipe {instant} --paint-only
{quality} --no-paint --add --out benchmarks/results/all_recipes
python -m docs.all_recipes_page draw --keep painted --pictures pictures
```
"""


def entry_of(path: Path = quality_page.ALL_RECIPES) -> Json:
    """Return the record, in which each picture names its machine."""
    return quality_page.entry_of(path)


def recipes() -> list[str]:
    """Return the names of the recipes that are on the page."""
    return [name for name in nst.recipes.PRESETS if name not in (*TEXTURES, DIVERGES)]


def rows_of(entry: Json) -> list[Json]:
    """Return the rows with plain names: what painted in the time of `default`, and `instant`."""
    timed = equal_time.by_clock(entry["rows"])[OURS]
    return [
        row | {"recipes": row["recipes"] | {INSTANT: every["recipes"][INSTANT]}}
        for row, every in zip(timed, entry["rows"], strict=True)
    ]


# --- The page -------------------------------------------------------------------------------------


def page(path: Path = quality_page.ALL_RECIPES) -> str:
    """Return the page as Markdown."""
    entry = entry_of(path)
    rows = rows_of(entry)
    in_time = equal_time.by_clock(entry["rows"])[OURS]
    parts = [
        PREFACE.format(
            ours=OURS,
            seconds=fmean(equal_time.taken(row["recipes"][OURS]) for row in rows),
            answer=answer(in_time, entry["blind"]),
            **{name: rows[0]["recipes"][name]["updates"] for name in ("nnst", "crowsonkb")},
            instant=INSTANT,
            textures="` and `".join(TEXTURES),
            diverges=DIVERGES,
        ),
        "## Updates and times\n",
        f"The canvas has {' x '.join(map(str, rows[0]['size']))} px (height and width).\n",
        quality_page.times_table(in_time, OURS),
        RATERS.format(taps=in_words(rows[0]["taps"])),
        quality_page.rater_table(rows),
        f"![Distance of style vectors against 1 - SSIM, medians over the pairs](all_recipes/{FRONT})\n",
        "Points at the lower left are better in both. A star marks a recipe for which one of the two "
        "raters is biased.\n",
        f"`{OURS}` is ahead of another recipe on a pair if it is nearer to the style (smaller distance "
        "of style vectors) and at least as near to the photograph (SSIM). "
        f"{quality_page.NEITHER} On how many pairs that is so:\n",
        quality_page.counts_table(rows),
        "Distance of style vectors / SSIM, for each pair. The first is better the smaller, the second "
        "the larger. The recipe with the nearest median to the styles comes first.\n",
        _by_recipe(rows),
        "## The pictures\n",
        f"All but `{INSTANT}` had the same time. A name such as `{_caption(rows[0], 'nnst')}` says how "
        "many of its own updates a recipe made that was stopped early.\n",
        *(_shown(row) for row in rows),
        *(_judged(counts) for counts in entry["blind"]),
        quality_verdicts.judges(entry["blind"]),
        COMMANDS.format(
            quality=QUALITY.format(size=max(rows[0]["size"]), crop=rows[0]["crop"]),
            pairs=" ".join(f"--pair {':'.join(row['pair'])}" for row in rows),
            recipes=" ".join(f"--recipe {name}" for name in recipes() if name != OURS),
            ours=OURS,
            instant=INSTANT,
        ),
    ]
    return "\n".join(parts)


def answer(rows: Sequence[Json], blind: Sequence[Json]) -> str:
    """Return who is ahead, and whom judges preferred, in a few sentences.

    Args:
      rows: what painted in the time of `default`, with plain names.
      blind: the counts of blind verdicts.
    """
    others = [name for name in quality_page.contestants(rows) if name != OURS]
    counts = {name: outcomes(rows, OURS, name) for name in others}
    every = sum(counts.values(), Counter())
    on_all = [name for name, found in counts.items() if found[Outcome.AHEAD] == len(rows)]
    first = [
        f" Judges who saw no names placed `{OURS}` first among {number_word(len(one['first']))} "
        f"recipes in {one['first'][OURS][0]} of {one['verdicts']} verdicts."
        for one in blind
    ]
    return (
        f"Compared with the {len(others)} others on {len(rows)} pairs, `{OURS}` is ahead (nearer to "
        f"the style, and at least as near to the photograph) in {every[Outcome.AHEAD]} of "
        f"{every.total()} cases, and on all pairs ahead of {len(on_all)} recipes. It is behind in "
        f"{every[Outcome.BEHIND] or 'none'}. In the rest neither is ahead: `{OURS}` is nearer to the "
        f"style in {every[Outcome.NEARER]} of them, the other in {every[Outcome.FARTHER]}."
        f"{''.join(first)}"
    )


def _judged(counts: Json) -> str:
    """Return the section of blind sheets."""
    text = BLIND.format(
        number=number_word(len(counts["first"])),
        ours=OURS,
        verdicts=counts["verdicts"],
        sheets=counts["sheets"],
    )
    return f"{text}\n{quality_verdicts.matrix(counts)}"


def _by_recipe(rows: Sequence[Json]) -> str:
    """Return a table with a line for each recipe, ordered by its median distance to the style."""
    names = sorted(
        quality_page.contestants(rows),
        key=lambda name: median(row["recipes"][name]["ratings"]["style_vector"] for row in rows),
    )
    lines = [
        f"| recipe | {' | '.join(', '.join(row['pair']) for row in rows)} |",
        "|" + "---|" * (len(rows) + 1),
    ]
    for name in names:
        cells = [quality_page.style_and_ssim(row["recipes"][name]) for row in rows]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _shown(row: Json) -> str:
    content, style = (SOURCES[name] for name in row["pair"])
    name = ", ".join(row["pair"])
    return (
        f"### {name}\n\n![{name}](all_recipes/{sheet_of(row)})\n\n"
        f"Photograph: {content.author} ({content.licence}). Style: {style.author} "
        f"({style.licence}).\n"
    )


def sheet_of(row: Json) -> str:
    """Return the name of the file with the sheet of a row."""
    return f"{'--'.join(row['pair'])}.jpg"


# --- Pictures -------------------------------------------------------------------------------------


def draw(kept: Gallery, pictures: Path) -> None:
    """Draw the front and a sheet of every pair into `docs/all_recipes`.

    Args:
      kept: the painted pictures.
      pictures: the folder of the photographs and paintings.
    """
    rows = rows_of(entry_of())
    FOLDER.mkdir(exist_ok=True)
    plots.drawn([plots.median_front_panel(rows)], FOLDER / FRONT)
    for row in rows:
        images, captions = [], ["the photograph", "the style"]
        for name in row["pair"]:
            image = gallery.found(name, pictures)
            if gallery.digest(image) != row["digests"][name]:
                raise ValueError(f"`pictures`: {name} is not the picture that was painted from")
            images.append(gallery.prepared(image, max(row["size"]), row["crop"]))
        for name in (OURS, INSTANT, *(one for one in recipes() if one != OURS)):
            captions.append(_caption(row, name))
            in_time = name if name in (OURS, INSTANT) else f"{name}@{OURS}-time"
            images.append(quality_page.painted([kept], row, in_time))
        sheet = sheets.captioned(images, captions, columns=COLUMNS, cell=max(row["size"]))
        picture = Image.fromarray(nst.images.to_uint8(sheet))
        write_jpeg(picture, FOLDER / sheet_of(row), LARGEST)


def _caption(row: Json, name: str) -> str:
    """Return a recipe's name and, if it was stopped early, how many of its own updates it made."""
    if name == INSTANT:
        return name
    own = nst.recipes.named(name).descent.updates_at(tuple(row["size"]))
    made = row["recipes"][name]["updates"]
    return f"{name}, {made} of {own}" if made < own else name


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("write")
    drawing = commands.add_parser("draw")
    drawing.add_argument("--keep", required=True, type=Path, metavar="FOLDER")
    drawing.add_argument("--pictures", required=True, type=Path)
    chosen = parser.parse_args()
    if chosen.command == "draw":
        draw(Gallery(chosen.keep), chosen.pictures)
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
