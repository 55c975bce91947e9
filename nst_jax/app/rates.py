"""How fast runs were on this machine, kept beside the compiled programs: operations per second.

The peak rate of a device says little about a run, so no duration is predicted before one was timed.
"""

import json
import platform
import statistics
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _files, provenance
from nst_jax.app import cache
from nst_jax.app.timing import Timed
from nst_jax.scaling.plan import Plan

FILE = "rates.json"
# The median of a few runs: one that ran beside other work does not count. Only of the last few, so that
# a new driver or version shows.
MOST = 9
LEAST_SECONDS = 1.0  # shorter runs are ignored: fixed overhead dominates them


class Rate(NamedTuple):
    """How fast runs like this one were."""

    operations: float  # per second, as `nst_jax.scaling.costs.update_operations` counts them
    runs: int  # number of runs of which this is the median


def known_rate(plan: Plan) -> Rate | None:
    """Return how fast runs of this precision were on this machine's device; None if none was timed."""
    found = _read().get(_key(plan), [])
    return Rate(statistics.median(found), len(found)) if found else None


def record_rate(plan: Plan, timed: Timed) -> None:
    """Keep the rate of a run. If the file cannot be written, nothing is kept.

    Args:
      plan: the plan of the run.
      timed: its updates without compilation; fewer than `LEAST_SECONDS` of them are ignored.
    """
    path = _path()
    if path is None or timed.seconds < LEAST_SECONDS or not timed.cost:
        return
    rates, key = _read(), _key(plan)
    rates[key] = [*rates.get(key, []), timed.cost / timed.seconds][-MOST:]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.atomic(path) as part:
            part.write_text(json.dumps(rates, indent=1), "utf-8")


def rates_are_kept() -> bool:
    """Return whether rates are recorded; they are not if the cache is off."""
    return _path() is not None


def _key(plan: Plan) -> str:
    """Return what a rate depends on. Machines that share a home folder all call their CPU "cpu"."""
    device = provenance.device()
    precision = plan.recipe.network.precision.name
    words = [platform.node(), device["platform"], device["kind"], precision]
    if plan.devices > 1:  # operations are those of each device, and some time is communication
        words.append(f"{plan.devices} devices")
    return ", ".join(words)


def _path() -> Path | None:
    folder = cache.programs_folder()
    return None if folder is None else folder / FILE


def _read() -> dict[str, list[float]]:
    """Return all valid rates; none from a file that is missing or damaged."""
    path = _path()
    try:
        found = {} if path is None else json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: list(filter(_is_rate, rates)) for key, rates in found.items() if type(rates) is list
    }


def _is_rate(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < float("inf")
