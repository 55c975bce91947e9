"""Operations per second of earlier runs on this machine, kept in a file beside the traced programs.

The peak rate of a device says little about a run, so no duration is predicted before a run is timed.
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
# Number of rates kept under each key (see `_key`). Their median is used, which a run slowed by other
# work hardly changes. Older rates are dropped, so that the speed of a new driver or version soon shows.
MOST = 9
LEAST_SECONDS = 1.0  # shorter runs are ignored: fixed overhead dominates them


class Rate(NamedTuple):
    """The speed of earlier runs on the same kind and number of devices, with the same precision."""

    operations: float  # per second, counted by `nst_jax.scaling.costs.update_operations`
    runs: int  # number of runs of which `operations` is the median


def known_rate(plan: Plan) -> Rate | None:
    """Return the speed of earlier runs here with a plan's precision and device count; None if none."""
    found = _read().get(_key(plan), [])
    return Rate(statistics.median(found), len(found)) if found else None


def record_rate(plan: Plan, timed: Timed) -> None:
    """Add the rate of a run to the file of rates, if that can be written.

    Args:
      plan: the plan of the run.
      timed: operations and seconds of its updates, without compilation. A run with less than
        `LEAST_SECONDS` is ignored.
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
    """Return whether rates are recorded; they are not if jax's compilation cache is off."""
    return _path() is not None


def _key(plan: Plan) -> str:
    """Return what a rate depends on, as text.

    The text includes the machine's name, since machines that share a home folder may have different
    CPUs, and jax calls every CPU "cpu".
    """
    device = provenance.device()
    precision = plan.recipe.network.precision.name
    words = [platform.node(), device["platform"], device["kind"], precision]
    if plan.devices > 1:  # operations are per device, and communication takes time
        words.append(f"{plan.devices} devices")
    return ", ".join(words)


def _path() -> Path | None:
    folder = cache.programs_folder()
    return None if folder is None else folder / FILE


def _read() -> dict[str, list[float]]:
    """Return all valid rates by key; an empty dict if the file is missing or damaged."""
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
