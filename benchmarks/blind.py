"""Blind sheets: pictures of one pair side by side, in a shuffled order and without names.

    python -m benchmarks.blind lay-out --keep PICTURES --sheets SHEETS --key KEY.json
    python -m benchmarks.blind count --key KEY.json --verdicts VERDICTS.json [--record RECORD.json]
        [--judges TEXT] [--replace]

`lay-out` makes a sheet for each pair from the pictures that `python -m benchmarks quality --keep
PICTURES` painted: content and style above, the painted pictures below, labelled A, B, C ... in an order
of their own on every sheet. The sheets' own order is shuffled too. The key says which is which; it
belongs in another folder, and whoever judges does not see it.

Verdicts are a JSON object: for each sheet that was judged its labels from best to worst, such as
`{"sheet-01": ["C", "A", "B"]}`. With several judges, `--verdicts` is given for each. `count` counts how
often each contestant was first, and how often each was placed before each other one, and writes that
into the record of the case, too, with the text of `--judges`, which says who judged. If all judges are
vision-language models, this text ends in "; no person", and docs/quality.md says so. A record keeps the
counts of several comparisons, one for the same contestants, sizes and judges: another one is refused,
since it may be of other sheets. With `--replace` it takes the place of that before, which is printed.
"""

import json
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import click
import numpy as np

import nst_jax as nst
from benchmarks import gallery, harness
from benchmarks.gallery import Gallery
from benchmarks.problems import Pair

CELL = 384  # longer side of each picture on a sheet, in pixels

# The end of the text of `--judges` if all judges are vision-language models.
NO_PERSON = "; no person"

Json = dict[str, Any]

# --- Laying out -----------------------------------------------------------------------------------


def lay_out(
    kept: Gallery,
    pairs: Sequence[Pair],
    size: int,
    pictures: Path | None,
    *,
    names: Sequence[str] = (),
    crop: str | None = None,
    cell: int = CELL,
    seed: int = 0,
) -> tuple[dict[str, Any], Json]:
    """Return the sheets by name, and the key.

    Args:
      kept: the folder of painted pictures.
      pairs: the pairs; those with fewer than two pictures get no sheet.
      size: longer side of the pictures, in pixels.
      pictures: folder of contents and styles beside the samples.
      names: the contestants; empty means all but those that painted in the time of another one.
      crop: the ratio to which content and style were cropped, such as `4:3`; None means not at all.
      cell: longer side of each picture on a sheet, in pixels.
      seed: of the shuffling.

    Raises:
      ValueError: if no pair has two pictures, and for a name by which no pair was painted.
    """
    random = np.random.default_rng(seed)
    kept_names = {name for pair in pairs for name in kept.names(pair, size)}
    if unknown := sorted(set(names) - kept_names):
        raise ValueError(
            f"`recipe`: no pair was painted by {', '.join(unknown)} at {size} px; kept are pictures by "
            f"{', '.join(sorted(kept_names)) or 'none'}"
        )
    found = {}
    for pair in pairs:
        of_own_time = [
            name for name in kept.names(pair, size) if gallery.own_and_clock(name)[1] is None
        ]
        wanted = [name for name in kept.names(pair, size) if name in (names or of_own_time)]
        painted = {name: one for name in wanted if (one := kept.get(pair, size, name)) is not None}
        if len(painted) >= 2:
            here = list(painted)
            order = [here[index] for index in random.permutation(len(here))]
            labelled = dict(zip(string.ascii_uppercase, order, strict=False))
            found[pair] = {label: painted[name] for label, name in labelled.items()}, labelled
    if not found:
        raise ValueError(
            f"`keep`: no pair has two pictures at {size} px to compare; paint more first"
        )
    drawn, key = {}, {}
    shuffled = [list(found)[index] for index in random.permutation(len(found))]
    for number, pair in enumerate(shuffled, 1):
        painted, named = found[pair]
        originals = [gallery.prepared(gallery.found(name, pictures), size, crop) for name in pair]
        drawn[f"sheet-{number:02}"] = nst.images.sheets.captioned(
            [*originals, *(one.image for one in painted.values())],
            ["the photograph", "the style", *painted],
            columns=max(2, -(-(len(painted) + 2) // 2)),
            cell=cell,
        )
        key[f"sheet-{number:02}"] = {
            "pair": list(pair),
            "size": size,
            "crop": crop,
            "pictures": named,
        }
    return drawn, key


# --- Counting -------------------------------------------------------------------------------------


def count(key: Mapping[str, Json], *judges: Mapping[str, Sequence[str]]) -> Json:
    """Count verdicts. A verdict is the order in which a judge placed the pictures of a sheet.

    Args:
      key: the key of the sheets, as `lay_out` returns it.
      *judges: the verdicts of each judge: for each judged sheet its labels, from best to worst.

    Returns:
      `sheets`: number of sheets that were judged. `verdicts`: number of verdicts. `first`: for each
      contestant in how many verdicts it was first, and in how many it was. `before`: for each two
      contestants, in how many verdicts the first was placed before the second, and in how many both
      were. `sizes`: longer sides of the canvases that were judged.

    Raises:
      ValueError: for an unknown sheet, and for labels that are not those of the sheet.
    """
    first: Counter[str] = Counter()
    present: Counter[str] = Counter()
    before: Counter[tuple[str, str]] = Counter()
    verdicts = [item for judge in judges for item in judge.items()]
    for sheet, labels in verdicts:
        if sheet not in key:
            raise ValueError(f"`verdicts`: the key has no {sheet!r}; it has {', '.join(key)}")
        named = key[sheet]["pictures"]
        if sorted(labels) != sorted(named):
            raise ValueError(
                f"`verdicts`: expected the labels {', '.join(named)} of {sheet} from best to worst, "
                f"each once, got {', '.join(labels) or 'none'}"
            )
        order = [named[label] for label in labels]
        first[order[0]] += 1
        present.update(order)
        before.update(combinations(order, 2))
    return {
        "sizes": sorted({key[sheet]["size"] for sheet, _ in verdicts}),
        "sheets": len({sheet for sheet, _ in verdicts}),
        "verdicts": len(verdicts),
        "first": {name: [first[name], present[name]] for name in sorted(present)},
        "before": {
            f"{one} before {other}": [before[one, other], before[one, other] + before[other, one]]
            for one in sorted(present)
            for other in sorted(present)
            if before[one, other] + before[other, one]
        },
    }


def with_counts(counts: Sequence[Json], new: Json) -> list[Json]:
    """Return counts with new ones, which replace those of the same contestants, sizes and judges."""
    before = like(counts, new)
    return [*(one for one in counts if one is not before), new]


def like(counts: Sequence[Json], new: Json) -> Json | None:
    """Return the counts of the same contestants, sizes and judges as `new`; None if there are none."""

    def what(one: Json) -> tuple[Any, ...]:
        return sorted(one["first"]), one["sizes"], one["judges"]

    return next((one for one in counts if what(one) == what(new)), None)


def in_words(counts: Json) -> str:
    """Return counts in one line: numbers of sheets and verdicts, and who was how often first."""
    first = ", ".join(f"{name} {wins} of {of}" for name, (wins, of) in counts["first"].items())
    return f"sheets: {counts['sheets']}, verdicts: {counts['verdicts']}, first: {first}"


# --- Commands -------------------------------------------------------------------------------------


@click.group()
def main() -> None:
    """Lay out blind sheets, and count the verdicts on them."""


@main.command("lay-out")
@click.option(
    "--keep", required=True, type=click.Path(file_okay=False, exists=True, path_type=Path)
)
@click.option("--sheets", "folder", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--key", required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("--pictures", type=click.Path(file_okay=False, exists=True, path_type=Path))
@click.option("--pair", "texts", multiple=True, help="CONTENT:STYLE; default: all that are kept.")
@click.option(
    "--recipe",
    "names",
    multiple=True,
    help="A contestant; default: all that are kept and painted in a time of their own.",
)
@click.option("--size", default=256, help="Longer side of the pictures, in pixels.")
@click.option("--crop", help="The ratio to which content and style were cropped, such as 4:3.")
@click.option("--cell", default=CELL, help="Longer side of each picture on a sheet, in pixels.")
@click.option("--seed", default=0, help="Of the shuffling; the judge should not know it.")
def lay_out_command(
    keep: Path,
    folder: Path,
    key: Path,
    pictures: Path | None,
    texts: tuple[str, ...],
    names: tuple[str, ...],
    size: int,
    crop: str | None,
    cell: int,
    seed: int,
) -> None:
    """Make the sheets and their key."""
    kept = Gallery(keep)
    try:
        pairs = [gallery.pair_of(text) for text in texts] or kept.pairs(size)
        drawn, answers = lay_out(
            kept, pairs, size, pictures, names=names, crop=crop, cell=cell, seed=seed
        )
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    if key.resolve().parent == folder.resolve():
        raise click.ClickException("`--key`: name a file outside the folder of the sheets")
    if key.exists():
        raise click.ClickException(f"`--key`: '{key}' exists; name another file, or move it")
    folder.mkdir(parents=True, exist_ok=True)
    for name, sheet in drawn.items():
        nst.images.save(folder / f"{name}.png", sheet)
    key.parent.mkdir(parents=True, exist_ok=True)
    key.write_text(json.dumps(answers, indent=1) + "\n", encoding="utf-8")
    click.echo(f"{len(drawn)} sheets in {folder}, their key in {key}")


@main.command("count")
@click.option("--key", required=True, type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--verdicts",
    "files",
    required=True,
    multiple=True,
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The verdicts of a judge; may be repeated.",
)
@click.option(
    "--record",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    help="The record of `quality` into which the counts are written.",
)
@click.option(
    "--judges",
    default="",
    help=f"Who judged; written into the record. It ends in '{NO_PERSON}' if all are vision-language "
    "models.",
)
@click.option(
    "--replace",
    is_flag=True,
    help="Replace the record's count of the same recipes, sizes and judges; it is printed.",
)
def count_command(
    key: Path, files: tuple[Path, ...], record: Path | None, judges: str, replace: bool
) -> None:
    """Count the verdicts."""
    if len(set(files)) < len(files):
        raise click.ClickException("`--verdicts`: a file is named twice; name each judge's once")
    answers, *said = (json.loads(path.read_text("utf-8")) for path in (key, *files))
    try:
        counts = count(answers, *said)
    except ValueError as error:
        raise click.ClickException(str(error)) from None
    # The counts are printed before the record is written, so that they are seen if that is refused.
    for name, (wins, of) in counts["first"].items():
        click.echo(f"{name}: first in {wins} of {of} verdicts")
    for text, (wins, of) in counts["before"].items():
        click.echo(f"{text}: in {wins} of {of} verdicts")
    if record is None:
        return
    entry, new = json.loads(record.read_text("utf-8")), counts | {"judges": judges}
    before = like(entry.get("blind", []), new)
    if before is not None and not replace:
        raise click.ClickException(
            f"`--judges`: '{record}' has a count of the same recipes, sizes and judges "
            f"({in_words(before)}); replace it by --replace, or name these judges in other words"
        )
    if before is not None:
        click.echo(f"replaced: {in_words(before)}")
    found = with_counts(entry.get("blind", []), new)
    harness.write(entry | {"blind": found}, record)


if __name__ == "__main__":
    main()
