"""Records of `quality` to which ratings are added: the rows of other pairs and recipes stay.

A row has a pair, a canvas and a crop; in it, each recipe has its figures. Rows may be rated at
different times, if they are rated alike: by the same raters, at the same taps, with the same figures
for the same pictures. The pictures may come from different machines, which their facts name.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import nst_jax as nst
from benchmarks import equal_time

RATERS = nst.raters.RATERS
Row = dict[str, Any]
Key = tuple[tuple[str, ...], tuple[int, ...], str | None]

# What a time of a picture says of itself; it may stay if the picture is painted again elsewhere.
OF_TIMES = ("device", "versions", "commit", "precision", "at_once", "seconds", "processor_seconds")
ALIKE = 1e-3  # largest difference of two ratings of one picture, relative to 1 or to the larger one
AFRESH = "rate all pictures again, without --add"


def key_of(row: Row) -> Key:
    """Return what no two rows of a record have in common: pair, canvas and crop."""
    return tuple(row["pair"]), tuple(row["size"]), row.get("crop")


def missing_pictures(before: Sequence[Row], now: Sequence[Row]) -> list[str]:
    """Return the names of pictures that rows have and others lack, such as `chelsea:gravel by gram`."""

    def named(rows: Sequence[Row]) -> dict[tuple[Key, str], str]:
        return {
            (key_of(row), name): f"{':'.join(row['pair'])} by {name}"
            for row in rows
            for name in row["recipes"]
        }

    there = named(now)
    return [said for key, said in named(before).items() if key not in there]


def with_machines(record: Row) -> list[Row]:
    """Return the rows of a record, in which each picture names its machine.

    A picture that does not was painted on the machine of the record.
    """
    machine = {name: record[name] for name in ("device", "versions")}
    return [
        row | {"recipes": {name: machine | one for name, one in row["recipes"].items()}}
        for row in record["rows"]
    ]


def check_same_taps(rows: Sequence[Row], taps: Sequence[str]) -> None:
    """Refuse a record that was rated by other raters or at other taps.

    Raises:
      ValueError: the message names both sets of raters or taps, and says what to do.
    """
    for row in rows:
        if row.get("taps") != list(taps):
            then = ", ".join(row.get("taps", ["taps that it does not name"]))
            raise ValueError(
                f"`add`: the record was rated at {then}, the "
                f"pictures now at {', '.join(taps)}, which none of all the recipes reads; {AFRESH}"
            )
        for one in (
            *row["anchors"].values(),
            *(each["ratings"] for each in row["recipes"].values()),
        ):
            if list(one) != list(RATERS):
                raise ValueError(
                    f"`add`: the record has the raters {', '.join(one)}, not {', '.join(RATERS)}; "
                    f"{AFRESH}"
                )


def check_same_digests(
    rows: Sequence[Row], size: int, crop: str | None, digests: Mapping[str, str]
) -> None:
    """Refuse pictures that are not those of a record, whichever pairs they are part of.

    Older rows have no digests. Rows of other sizes or crops may be of other files with the same names.

    Args:
      rows: the rows of the record.
      size: longer side of the canvas, in pixels.
      crop: the ratio of sides to which the pictures are cropped; None means not at all.
      digests: names of content and style -> digests of the pictures; see `gallery.digests`.

    Raises:
      ValueError: the message names the first picture that differs.
    """
    for row in rows:
        if (max(row["size"]), row.get("crop")) != (size, crop):
            continue
        if said := difference(row.get("digests", {}), digests, f"in the record at {size} px"):
            raise ValueError(
                f"`add`: {said}; take the file from which the record was made, prepared in the same "
                f"way, or {AFRESH}"
            )


def difference(before: Mapping[str, str], now: Mapping[str, str], then: str) -> str:
    """Say which picture has another digest now than before (`then`); empty if none has."""
    for name in now:
        if before.get(name, now[name]) != now[name]:
            return (
                f"the picture {name!r} has the digest {now[name]} now and {before[name]} {then}, so "
                "its pixels differ"
            )
    return ""


def check_same_anchors(old: Row, new: Row) -> None:
    """Refuse rows of one key whose anchors are rated differently: raters, weights or pictures changed.

    Raises:
      ValueError: with the first rating that differs.
    """
    for name, ratings in new["anchors"].items():
        for rater, value in ratings.items():
            before = old["anchors"].get(name, {}).get(rater, math.nan)
            if not abs(value - before) <= ALIKE * max(1, abs(value), abs(before)):
                raise ValueError(
                    f"`add`: {rater} of {name} of {':'.join(old['pair'])} is {value:.5g} now and "
                    f"{before:.5g} in the record, so raters or pictures have changed; {AFRESH}"
                )


def checked_anchors(old: Sequence[Row], new: Sequence[Row]) -> bool:
    """Compare the anchors of rows whose keys are in both lists; return whether there are such rows.

    Raises:
      ValueError: if they differ.
    """
    by_key = {key_of(row): row for row in old}
    both = [(by_key[key_of(row)], row) for row in new if key_of(row) in by_key]
    for before, now in both:
        check_same_anchors(before, now)
    return bool(both)


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Return the old rows with the new ones: figures of the same key and recipe are replaced.

    How the pictures of a row were prepared stays, unless the new row says it.

    Where a picture was painted again, its times before stay under `other_times` if they were measured
    in another way: what other recipes took is compared with them.

    Raises:
      ValueError: if a picture was painted in a time that its row does not have.
    """
    found = {key_of(row): row for row in old}
    for row in new:
        old_row = found.get(key_of(row), row)
        figures = _replaced(old_row["recipes"], row["recipes"])
        said = {"prepared": old_row["prepared"]} if "prepared" in old_row else {}
        found[key_of(row)] = said | row | {"recipes": figures}
        lacking = _without_time(figures)
        if lacking:
            raise ValueError(f"`keep`: {':'.join(row['pair'])}: {_lacking(figures, lacking[0])}")
    return list(found.values())


def _replaced(before: Row, now: Row) -> Row:
    """Return the figures of a row by contestant, where new figures replace those before."""
    return before | {name: with_other_times(before.get(name, {}), one) for name, one in now.items()}


def figures_of(rows: Sequence[Row], pair: Sequence[str], size: int, crop: str | None) -> Row:
    """Return the figures of a row by contestant; empty if no row has this pair, size and crop."""
    for row in rows:
        if (row["pair"], max(row["size"]), row.get("crop")) == (list(pair), size, crop):
            return dict(row["recipes"])
    return {}


def not_addable(before: Row, now: Row) -> dict[str, str]:
    """Say which new pictures of a row `merged` would refuse, and why; empty if it takes them all.

    A picture that was painted in the time of another one needs that time in its row. A new one without
    it is named. If a picture of the record would lose it, the new picture that takes its place is.

    Args:
      before: the figures of the record's row by contestant; empty if there is no such row.
      now: the facts of the new pictures by contestant.

    Returns:
      name of a contestant -> the reason.
    """
    found: dict[str, str] = {}
    while True:
        rest = {name: one for name, one in now.items() if name not in found}
        figures = _replaced(before, rest)
        reasons = {}
        for name in _without_time(figures):
            of = figures[name]["time_of"]
            if name in rest:
                reasons[name] = _lacking(figures, name)
            elif of["name"] in rest:
                reasons[of["name"]] = (
                    f"{name} of the record was painted in {of['seconds']:.6g} s, the time of the "
                    f"picture there, which this one does not have; paint {name} again beside it, or "
                    f"{AFRESH}"
                )
        if not reasons:
            return found
        found |= reasons


def _without_time(figures: Row) -> list[str]:
    """Return the contestants that painted in a time that the figures of a row do not have."""
    row = {"recipes": figures}
    return [
        name
        for name, one in figures.items()
        if "time_of" in one and equal_time.time_that_was_given(row, name) is None
    ]


def _lacking(figures: Row, name: str) -> str:
    of = figures[name]["time_of"]
    return (
        f"{name} was painted in {of['seconds']:.6g} s, the time of {of['name']}, whose picture has no "
        f"such time; rate both from the folder in which they were painted, or paint {name} again"
    )


def time_of(figures: Row) -> Row:
    """Return the part of a picture's figures that says how long it took, and where."""
    return {name: figures[name] for name in OF_TIMES if name in figures}


def with_other_times(before: Row, now: Row) -> Row:
    """Return the figures of a picture with further times of its own and of the picture before it.

    Of several times that were measured in the same way (`equal_time.how`), the latest stays. Times of
    another number of updates do not stay. A picture that was painted in the time of another one gets
    none, since elsewhere it had another number of updates.

    Args:
      before: the figures of the picture before it; empty if there was none.
      now: those of the picture.
    """
    if "time_of" in now:
        return now
    found: list[Row] = []
    updates = {one["updates"] for one in (before, now) if "updates" in one}
    earlier = equal_time.times(before) if len(updates) < 2 else []
    for time in (*equal_time.times(now), *earlier):
        if equal_time.how(time) not in map(equal_time.how, found):
            found.append(time_of(time))
    others = [time for time in found if time != time_of(now)]
    rest = {name: value for name, value in now.items() if name != "other_times"}
    return rest | {"other_times": others} if others else rest
