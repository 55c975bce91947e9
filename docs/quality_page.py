"""Write `quality.md`: what raters say of the recipes' pictures, and how often one is ahead of another.

    python -m docs.quality_page write                  # the page, from the record
    python -m docs.quality_page draw --keep FOLDER     # its figures and sheets too; needs matplotlib

The record is `benchmarks/results/quality-cpu.json`, written by `python -m benchmarks quality`. Sheets
are drawn from the pictures that it kept in FOLDER, of pairs of the package's sample pictures only.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import nst_jax as nst
from benchmarks import plots
from benchmarks.gallery import Gallery
from nst_jax.images import sheets
from nst_jax.raters import RATERS

HERE = Path(__file__).resolve().parent
FOLDER, PAGE = HERE / "quality", HERE / "quality.md"
RECORD = HERE.parent / "benchmarks" / "results" / "quality-cpu.json"
OURS = "default"  # the recipe that the others are held against
ENOUGH = 10  # pairs, below which the page warns that they are too few
CELL = 256  # longer side of the pictures on a sheet, in pixels

Json = dict[str, Any]

PREFACE = """# Quality

What raters say of the pictures of recipes, on one canvas. This page is written by `python -m
docs.quality_page` from [a record](../benchmarks/results/quality-cpu.json), which `python -m benchmarks
quality` measures; [raters.md](raters.md) says what each rater can tell. Numbers do not decide alone: no
rater knows of objects, of strokes that hang together, or of beauty.
"""

SECONDS = "processor_seconds"  # what the record calls the CPU seconds of a picture

PROTOCOL = """## Blind sheets

Eyes judge on sheets that show a pair and its pictures in a shuffled order, labelled A, B, C and so on.
A key in another file says which is which. Whoever judges did not make the pictures, sees neither names
nor key, and writes down the labels of each sheet from best to worst:

```sh
python -m benchmarks quality --recipe default --recipe gram --keep painted
python -m benchmarks.blind lay-out --keep painted --sheets sheets --key key.json
python -m benchmarks.blind count --key key.json --verdicts verdicts.json --record record.json
```
"""

# --- What the record says -------------------------------------------------------------------------


def pairs_of(rows: Sequence[Json], name: str) -> list[Json]:
    """Return the rows of the pairs that a contestant painted."""
    return [row for row in rows if name in row["recipes"]]


def contestants(rows: Sequence[Json]) -> list[str]:
    """Return the names of all contestants, those that painted the most pairs first."""
    names = dict.fromkeys(name for row in rows for name in row["recipes"])
    return sorted(names, key=lambda name: (name != OURS, -len(pairs_of(rows, name)), name))


def ahead(rows: Sequence[Json], one: str, other: str) -> tuple[int, int]:
    """Return on how many pairs `one` is nearer to the style at no less SSIM, and of how many pairs."""
    both = [row["recipes"] for row in rows if one in row["recipes"] and other in row["recipes"]]
    nearer = 0
    for found in both:
        ours, theirs = found[one]["ratings"], found[other]["ratings"]
        nearer += ours["style_vector"] < theirs["style_vector"] and ours["ssim"] >= theirs["ssim"]
    return nearer, len(both)


# --- The page -------------------------------------------------------------------------------------


def page() -> str:
    """Return the page as Markdown."""
    entry = json.loads(RECORD.read_text("utf-8"))
    rows = entry["rows"]
    return "\n".join(
        [
            PREFACE,
            _conditions(entry),
            "## Recipe by rater\n",
            _by_rater(rows),
            "## Style against content\n",
            _by_pair(rows),
            "![Distance of style vectors against 1 - SSIM, for each pair](quality/quality-cpu.png)\n",
            "## Counts\n",
            _counts(rows),
            _processor_times(rows),
            _sheets(rows),
            PROTOCOL,
            _verdicts(entry),
            _unmeasured(rows),
        ]
    )


def _conditions(entry: Json) -> str:
    rows, device = entry["rows"], entry["device"]
    names = contestants(rows)
    updates = {
        name: sorted({row["recipes"][name]["updates"] for row in pairs_of(rows, name)})
        for name in names
    }
    made = ", ".join(
        f"`{name}` ({'a single pass' if counts == [0] else ' to '.join(map(str, counts)) + ' updates'})"
        for name, counts in updates.items()
    )
    commits = sorted(
        {one["commit"][:7] for row in rows for one in row["recipes"].values() if one["commit"]}
    )
    sizes = ", ".join(sorted({"x".join(map(str, row["size"])) for row in rows}))
    return (
        f"Measured: {len(rows)} pairs, the longer side of content and style at "
        f"{max(rows[0]['size'])} px (canvases of {sizes} px, height first), by {made}. Pictures were "
        f"rounded to 8 bits before they were rated. Float32 on a CPU ({device['processor']}), commits "
        f"{', '.join(commits)}. The cores did other work as well, which does not change a picture, so "
        "seconds on the clock are not given here; [speed.md](speed.md) has some. "
        f"{entry['notes'][0]}.\n"
    )


def _by_rater(rows: Sequence[Json]) -> str:
    lines = [
        "Means over the pairs that a recipe painted. For a recipe that did not paint all of them, the "
        f"line below has `{OURS}` on the same pairs. A star marks a biased rater: the "
        "recipe minimises nearly what the rater measures. The last two lines are the anchors: the "
        "photograph unchanged, and a part of the style picture.\n",
        f"| recipe | pairs | {' | '.join(RATERS)} |",
        "|" + "---|" * (len(RATERS) + 2),
        f"| better is | | {' | '.join(_better(name) for name in RATERS)} |",
    ]
    for name in contestants(rows):
        painted = pairs_of(rows, name)
        lines.append(_means(f"`{name}`", painted, name))
        if len(painted) < len(rows) and name != OURS:
            lines.append(_means(f"`{OURS}` on these", pairs_of(painted, OURS), OURS))
    for anchor in rows[0]["anchors"]:
        cells = [f"{fmean(row['anchors'][anchor][rater] for row in rows):.3f}" for rater in RATERS]
        lines.append(f"| {anchor} | {len(rows)} | {' | '.join(cells)} |")
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


def _by_pair(rows: Sequence[Json]) -> str:
    names = contestants(rows)
    lines = [
        "Distance of style vectors / SSIM: the less of the first, and the more of the second, the "
        "better. In the figure, the lower left is better in both.\n",
        f"| content, style | {' | '.join(f'`{name}`' for name in names)} |",
        "|" + "---|" * (len(names) + 1),
    ]
    for row in rows:
        cells = [_two(row["recipes"].get(name)) for name in names]
        lines.append(f"| {', '.join(row['pair'])} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _two(found: Json | None) -> str:
    if found is None:
        return ""
    return f"{found['ratings']['style_vector']:.2f}/{found['ratings']['ssim']:.2f}"


def _counts(rows: Sequence[Json]) -> str:
    lines = [
        "On how many pairs one recipe is nearer in style vector at equal or better SSIM, and on how "
        "many the other one is. On the rest, one is nearer to the style and the other to the "
        "photograph.\n",
        f"| against | `{OURS}` ahead | the other ahead | neither |",
        "|---|---|---|---|",
    ]
    for name in contestants(rows):
        if name == OURS:
            continue
        (ours, both), (theirs, _) = ahead(rows, OURS, name), ahead(rows, name, OURS)
        lines.append(
            f"| `{name}` | {ours} of {both} | {theirs} of {both} | {both - ours - theirs} |"
        )
    return "\n".join(lines) + "\n"


def _processor_times(rows: Sequence[Json]) -> str:
    lines = [
        "## Processor time\n",
        "Mean CPU seconds of a picture, summed over the cores, without compiling; beside it those of "
        f"`{OURS}` on the same pairs. Other work on the cores raises all of them: compare ratios.\n",
        f"| recipe | pairs | CPU seconds | `{OURS}` on these | ratio |",
        "|---|---|---|---|---|",
    ]
    for name in contestants(rows):
        timed = [
            row["recipes"]
            for row in rows
            if all(SECONDS in row["recipes"].get(one, {}) for one in (name, OURS))
        ]
        if timed and name != OURS:
            theirs, ours = (fmean(one[each][SECONDS] for one in timed) for each in (name, OURS))
            lines.append(
                f"| `{name}` | {len(timed)} | {theirs:.3g} | {ours:.3g} | {theirs / ours:.2g} |"
            )
    if len(lines) == 4:
        lines[1:] = ["Not measured.\n"]
    return "\n".join(lines) + "\n"


def free_pairs(rows: Sequence[Json]) -> list[Json]:
    """Return the rows of the pairs of sample pictures, whose pictures may be shown."""
    return [row for row in rows if all(name in nst.images.SAMPLES for name in row["pair"])]


def _sheets(rows: Sequence[Json]) -> str:
    shown = "\n\n".join(
        f"![{', '.join(row['pair'])}](quality/{'--'.join(row['pair'])}.jpg)"
        for row in free_pairs(rows)
    )
    return (
        "## Sheets\n\nThe pairs of the package's sample pictures; pictures of the other pairs are not "
        f"part of this project.\n\n{shown}\n"
    )


def _verdicts(entry: Json) -> str:
    counts = entry.get("blind")
    if counts is None:
        return "Sheets of this record were not judged yet.\n"
    by = f" by {counts['judges']}" if counts["judges"] else ""
    lines = [
        f"{counts['sheets']} sheets of this record were judged{by}: {counts['verdicts']} verdicts.\n",
        "| | verdicts |",
        "|---|---|",
    ]
    lines += [
        f"| `{name}` first | {wins} of {of} |" for name, (wins, of) in counts["first"].items()
    ]
    lines += [f"| {text} | {wins} of {of} |" for text, (wins, of) in counts["before"].items()]
    return "\n".join(lines) + "\n"


def _unmeasured(rows: Sequence[Json]) -> str:
    few = ", ".join(
        f"`{name}` on {len(rows) - len(pairs_of(rows, name))} of {len(rows)} pairs"
        for name in contestants(rows)
        if len(pairs_of(rows, name)) < len(rows)
    )
    absent = ", ".join(f"`{name}`" for name in nst.recipes.PRESETS if not pairs_of(rows, name))
    parts = [
        "## What is not measured\n",
        *([f"- More pairs: {len(rows)} decide nothing."] if len(rows) < ENOUGH else []),
        f"- Canvases of other sizes than {max(rows[0]['size'])} px.",
        "- Seconds on the clock, and pictures of equal seconds: the cores were shared.",
        "- Pictures painted on a GPU, with bfloat16 or tensorfloat32.",
        "- Other programs: their constants are recipes here, but their own commands were not run.",
        *([f"- {few}."] if few else []),
        f"- The recipes {absent}.",
    ]
    return "\n".join(parts) + "\n"


# --- Figures --------------------------------------------------------------------------------------


def draw(kept: Gallery) -> None:
    """Draw the fronts, and a sheet for each pair of sample pictures, into `docs/quality`."""
    entry = json.loads(RECORD.read_text("utf-8"))
    plots.draw([entry], FOLDER)
    for row in free_pairs(entry["rows"]):
        pair, size = (row["pair"][0], row["pair"][1]), max(row["size"])
        pictures = [nst.images.sample(name) for name in pair]
        captions = ["the photograph", "the style"]
        for name, image in _painted(kept, row, size):
            pictures.append(image)
            captions.append(name)
        sheet = sheets.captioned(pictures, captions, columns=3, cell=CELL)
        nst.images.save(FOLDER / f"{'--'.join(pair)}.jpg", sheet)


def _painted(kept: Gallery, row: Json, size: int) -> Iterator[tuple[str, Any]]:
    for name in contestants([row]):
        found = kept.get((row["pair"][0], row["pair"][1]), size, name)
        if found is None:
            raise ValueError(
                f"`keep`: has no picture of {':'.join(row['pair'])} by {name} at {size} px; name the "
                "folder from which the record was made"
            )
        yield name, found.image


def main() -> None:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True, dest="command")
    commands.add_parser("write")
    drawing = commands.add_parser("draw")
    drawing.add_argument("--keep", required=True, type=Path, metavar="FOLDER")
    chosen = parser.parse_args()
    if chosen.command == "draw":
        draw(Gallery(chosen.keep))
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
