"""The verdicts on blind sheets as tables, for the pages `quality.md` and `all_recipes.md`."""

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

from benchmarks import gallery
from docs.quality_aims import by_sizes, judged_by_no_person, placed_before
from docs.wording import from_to, in_words, number_word

SEVERAL = 2  # recipes on a sheet, above which the page says that there were more

# How the text of `--judges` says that some judges saw the labels in another order.
EXCHANGED = re.compile(r"(\w+) of them with the labels (?:exchanged|in another order)")

Json = dict[str, Any]


def table(blind: Sequence[Json], ours: str) -> str:
    """Return a table that counts, for each size and other recipe, which of both was placed first.

    Args:
      blind: the counts of blind verdicts of a record.
      ours: name of the recipe with which the others are compared.
    """
    lines = [
        f"| size | `{ours}` against | sheets | verdicts | `{ours}` before the other |"
        f" the other before `{ours}` |",
        "|---|---|---|---|---|---|",
    ]
    for size, counts in sorted(by_sizes(blind).items(), key=lambda item: -max(item[1][0]["sizes"])):
        others = dict.fromkeys(name for one in counts for name in one["first"] if name != ours)
        found = {other: placed_before(counts, ours, other) for other in others}
        for other, (wins, of, sheets) in sorted(found.items(), key=_in_order):
            if of:
                lines.append(
                    f"| {size} | {named(other)} | {sheets} | {of} | {wins} | {of - wins} |"
                )
    return "\n".join(lines) + "\n"


def in_equal_time(blind: Sequence[Json], ours: str) -> str:
    """Say how often judges preferred a recipe to those that painted in its time; empty if never asked.

    Args:
      blind: the counts of blind verdicts of a record.
      ours: name of the recipe.
    """
    by_size = sorted(by_sizes(blind).items(), key=lambda item: max(item[1][0]["sizes"]))
    found = [text for size, counts in by_size if (text := _preferred(size, counts, ours))]
    if not found:
        return ""
    return (
        f"**In equal time**: where other recipes had only [the time of `{ours}`]"
        f"(#in-the-time-of-{ours}), judges preferred `{ours}` {'; '.join(found)}. Recipes that need "
        "many updates are then stopped early.\n"
    )


def _preferred(size: str, blind: Sequence[Json], ours: str) -> str:
    """Say at one size how often judges preferred a recipe to those that painted in its time."""
    names = dict.fromkeys(name for counts in blind for name in counts["first"])
    others = [name for name in names if gallery.own_and_clock(name)[1] == ours]
    counted = sorted(
        (placed_before(blind, ours, other)[:2] for other in others),
        key=lambda count: Fraction(*count),
    )
    if not counted:
        return ""
    if len({of for _, of in counted}) == 1:
        how_often = f"{from_to([wins for wins, _ in counted])} of {counted[0][1]}"
    else:
        how_often = from_to([f"{wins} of {of}" for wins, of in counted])
    recipes = in_words(f"`{gallery.own_and_clock(other)[0]}`" for other in others)
    each = "to each of " if len(others) > 1 else "to "
    return f"{each}{recipes} in {how_often} verdicts at {size}"


def _in_order(line: tuple[str, tuple[int, int, Fraction]]) -> tuple[bool, Fraction]:
    """Return the key of a line: recipes by their own settings first, then those with more sheets."""
    name, (_, _, sheets) = line
    return gallery.own_and_clock(name)[1] is not None, -sheets


def named(name: str) -> str:
    """Return a contestant's name as a page says it.

    Example:
      >>> named("gram"), named("gram@default-time")
      ('`gram`', '`gram` in the time of `default`')
    """
    own, clock = gallery.own_and_clock(name)
    return f"`{own}`" if clock is None else f"`{own}` in the time of `{clock}`"


def together(blind: Sequence[Json], ours: str) -> str:
    """Say which sheets showed more than two recipes, and how their verdicts are counted."""
    texts, elsewhere = [], False
    for counts in blind:
        names, every = counts["first"], counts["verdicts"]
        if len(names) > SEVERAL:
            most = "" if all(of == every for _, of in names.values()) else "up to "
            sizes = ", ".join(map(str, counts["sizes"]))
            texts.append(
                f"{counts['sheets']} sheets at {sizes} px showed {most}{len(names)} recipes: "
                f"{_all_named(names, ours)}."
            )
        elsewhere |= any(ours not in text.split(" before ") for text in counts["before"])
    if not texts:
        return ""
    texts.append(
        f"A verdict on such a sheet counts in the line of every recipe that it places beside `{ours}`."
    )
    if elsewhere:
        texts.append("The record also has the counts of the other recipes against each other.")
    return " ".join(texts) + "\n"


def _all_named(names: Iterable[str], ours: str) -> str:
    in_our_time = [f"`{own}`" for own, clock in map(gallery.own_and_clock, names) if clock == ours]
    others = in_words(named(name) for name in names if gallery.own_and_clock(name)[1] != ours)
    return f"{others}; in the time of `{ours}`: {in_words(in_our_time)}" if in_our_time else others


def matrix(counts: Json) -> str:
    """Return a table of one set of sheets: how often each recipe was placed before each other one."""
    names = sorted(counts["first"], key=lambda name: -counts["first"][name][0])
    short = {name: f"`{gallery.own_and_clock(name)[0]}`" for name in names}
    lines = [
        f"| | first | {' | '.join(f'before {short[name]}' for name in names)} |",
        "|" + "---|" * (len(names) + 2),
    ]
    for name in names:
        cells = [str(counts["before"].get(f"{name} before {other}", ("",))[0]) for other in names]
        lines.append(f"| {short[name]} | {counts['first'][name][0]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def judges(blind: Sequence[Json]) -> str:
    """Say who judged, by the texts in the counts, and how many judged a sheet."""
    texts = [counts["judges"] for counts in blind]
    if not judged_by_no_person(blind):
        return f"Judges: {'; '.join(text or 'not recorded' for text in dict.fromkeys(texts))}.\n"
    numbers = sorted({round(counts["verdicts"] / counts["sheets"]) for counts in blind})
    new = all("had not seen the pictures before" in text for text in texts)
    before = " that had not seen the pictures before" if new else ""
    exchanged = {
        (round(counts["verdicts"] / counts["sheets"]), found[1])
        for counts in blind
        if (found := EXCHANGED.search(counts["judges"]))
    }
    order = "".join(
        f"; {f'where {number_word(of)} judged, ' if len(numbers) > 1 else ''}{some} of them saw the "
        "labels in another order"
        for of, some in sorted(exchanged)
    )
    of_a_sheet = in_words(map(number_word, numbers), "or")
    models = f"All judges were vision-language models{before}, {of_a_sheet} for each sheet"
    return f"{models}{order}. No person has judged.\n"
