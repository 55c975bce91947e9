"""How fast runs were on this machine, kept beside the compiled programs: operations per second.

What a device's maker promises says little of a run, so nothing is foretold before one was timed.
"""

import json
import platform
import statistics
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import cache, files, settings
from nst_jax.pace import Timed
from nst_jax.recipes import Recipe

FILE = "rates.json"
# The median of a few: one run beside other work misleads nobody. Of the last few: a new driver or
# version shows.
MOST = 9
LEAST_SECONDS = 1.0  # of updates: less than that is mostly what costs the same at any size


class Rate(NamedTuple):
    """How fast runs like this one were."""

    operations: float  # per second, as `operations.of_update` counts them
    runs: int  # whose median that is


def known(recipe: Recipe) -> Rate | None:
    """Return how fast runs of this precision were on this machine's device; None if none was timed."""
    found = _read().get(_key(recipe), [])
    return Rate(statistics.median(found), len(found)) if found else None


def record(recipe: Recipe, timed: Timed) -> None:
    """Keep how fast a run was; where that cannot be written, the next one may.

    Args:
      recipe: of the run.
      timed: its updates without compilation. Less than `LEAST_SECONDS` of them are not kept.
    """
    path = _place()
    if path is None or timed.seconds < LEAST_SECONDS or not timed.cost:
        return
    rates, key = _read(), _key(recipe)
    rates[key] = [*rates.get(key, []), timed.cost / timed.seconds][-MOST:]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as part:
            part.write_text(json.dumps(rates, indent=1), "utf-8")


def kept() -> bool:
    """Say whether runs are recorded at all: not, where nothing is kept between starts."""
    return _place() is not None


def _key(recipe: Recipe) -> str:
    """Return what decides on a rate. A home may be shared by machines, all "cpu"."""
    device = settings.device()
    words = [platform.node(), device["platform"], device["kind"], recipe.network.precision.name]
    if recipe.rows is not None:  # operations are those of each, and some time goes to talking
        words.append(f"{recipe.rows.count} devices")
    return ", ".join(words)


def _place() -> Path | None:
    folder = cache.traced()
    return None if folder is None else folder / FILE


def _read() -> dict[str, list[float]]:
    """Return every rate that is kept and is one; a file that is none has none."""
    path = _place()
    try:
        found = {} if path is None else json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: list(filter(_is_rate, rates)) for key, rates in found.items() if _is_list(rates)}


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < float("inf")
