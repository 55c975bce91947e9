"""Pictures that recipes paint in the time that another one takes: as many updates as fit into it.

Such a contestant of `quality` has a name such as `crowsonkb@default-time`. Its number of updates is
found for each pair: two short paintings say how long a painting takes by its number of updates. If the
whole painting then takes clearly more or less than the time, it is painted once more with another
number.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks import gallery, harness
from benchmarks.gallery import Contestant, Painted

NEAR = 0.15  # largest difference from the time, relative to it, with which no second try is made
LONGER = 3  # number of updates of the second short painting, over that of the first

Json = dict[str, Any]

# --- Names ----------------------------------------------------------------------------------------


def recipes_in_time_of(clock: str, recipes: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the contestants: `clock` itself, then each other one in its time.

    Raises:
      ValueError: for a contestant that cannot be shortened, or that has a number of updates of its own.
    """
    others = [f"{name}@{clock}-time" for name in dict.fromkeys(recipes) if name != clock]
    return gallery.contestant(clock).name, *(gallery.contestant(name).name for name in others)


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
    on_cpu = time["device"]["platform"] == "cpu"
    seconds: float = time["processor_seconds"] if on_cpu else time["seconds"]["median"]
    return seconds


def time_here(facts: Mapping[str, Any], at_once: int) -> Mapping[str, Any] | None:
    """Return the time of a kept picture that was measured on this device; None if there is none.

    On an accelerator it must have been measured with as many processes at once, too.

    Args:
      facts: those of the picture, which may have times of other machines under `other_times`.
      at_once: number of processes that paint on the device at the same time.
    """
    device = harness.device()
    on_cpu = device["platform"] == "cpu"
    for time in (facts, *facts.get("other_times", ())):
        measured = (
            time.get("device") == device and ("processor_seconds" if on_cpu else "seconds") in time
        )
        if measured and (on_cpu or time.get("at_once", 1) == at_once):
            return time
    return None


# --- Painting -------------------------------------------------------------------------------------


def paint(
    each: Contestant, budget: float, own: Sequence[int], paint_with: Callable[[int], Painted]
) -> Painted:
    """Paint with as many updates as fit into a time.

    Args:
      each: the contestant, whose programs are compiled.
      budget: the time, in seconds; `taken` says which ones.
      own: the numbers of updates of its scales, with its own settings.
      paint_with: paints with a number of updates.

    Returns:
      The painting whose time is nearest to `budget`. Its facts have `time_of`, with the `name` of the
      contestant whose time this is and its `seconds`.
    """
    # Whole multiples of this number are divided among the scales as the recipe divides its own number.
    fewest = max(len(own), round(sum(own) / min(own)))
    tries: dict[int, Painted] = {}

    def seconds(updates: int) -> float:
        if updates not in tries:
            tries[updates] = paint_with(updates)
        return taken(tries[updates].facts)

    short, longer = fewest, LONGER * fewest
    wanted = fitting(budget, (short, seconds(short)), (longer, seconds(longer)))
    wanted = max(len(own), wanted)
    if abs(seconds(wanted) / budget - 1) > NEAR:
        again = fitting(budget, (short, seconds(short)), (wanted, seconds(wanted)))
        seconds(max(len(own), again))
    best = min(tries.values(), key=lambda one: abs(taken(one.facts) - budget))
    of = {"name": each.clock, "seconds": budget}
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
