"""The speed of earlier runs on this machine, kept in the file `rates.json`.

The file is in a subfolder of JAX's compilation cache.

The duration of later runs is predicted from the speeds in this file. The peak speed of a device, in
operations per second, says little about a run, so no duration is predicted before a run has been timed.
What is predicted is a range, since other programs on the machine make runs slower.

At each of its resolutions, a run first computes the targets, which the losses compare the picture with
(this is called measuring), and then makes updates of the picture. Measuring and updates have different
speeds, or rates, in operations per second.
"""

import json
import platform as machine
import statistics
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _files, provenance
from nst_jax.app import cache
from nst_jax.app.timing import Range, Timed
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.bucket_choice import TIME_IN_BUCKET, Costs, typical_costs
from nst_jax.scaling.plan import Plan

FILE = "rates.json"
# Number of runs of each kind (same device, number of devices and precision) whose speeds are stored.
# The likely time is computed from their median, which hardly changes if other work slows one of the
# runs. Older speeds are dropped, so that the effect of a new driver or version soon shows.
MOST = 9

# Updates of a run, or the computing of its targets, are not recorded if they took fewer seconds than
# this, since fixed overhead dominates so short a time. Nor is the compiling of a batch, since its
# programs had then probably been compiled before.
LEAST_SECONDS = 1.0

# Version of how the operations and the programs of a run are counted. Speeds in a user's file are per
# operation or per program, so they are wrong if these are counted in another way later. The version
# must then be raised. It is part of the keys, so the old speeds are not found any more.
UNIT = 3


class Expected(NamedTuple):
    """How long a run is expected to take, judged by earlier runs: the last `MOST` of its kind.

    Runs of one kind have the same machine, device, number of devices and precision.

    A run has three parts: it computes its targets (what the losses compare the picture with), makes its
    updates, and does the rest, which is starting, reading, compiling and writing.
    """

    least: float  # seconds, if each part of the run has its highest speed in the earlier runs
    likely: float  # seconds, if each part of the run has its median speed in the earlier runs
    most: float  # seconds, if each part of the run has its lowest speed in the earlier runs
    measuring: Range  # seconds for computing the targets
    updates: Range  # seconds for the updates
    runs: int  # number of earlier runs that were used, at most `MOST`
    # Whether `least`, `likely` and `most` include starting, reading, compiling and writing.
    whole: bool


# The file maps keys to lists of numbers, with one number for each of the last runs, at most `MOST`.
# `_key` returns the key for a kind of run (for a batch, `_key_of` does). There are four lists for each
# kind of run. In the first and the last, numbers from arrays larger than the pictures (buckets) are
# converted to arrays of the pictures' own size:
#   key              operations per second of the updates, in arrays of the pictures' own size
#   key, MEASURING   operations per second of computing the targets
#   key, BESIDE      seconds for all else: starting, reading, compiling and writing
#   key, COMPILING   mean seconds to compile the programs of one scale (resolution level), for arrays of
#                    the pictures' own size; recorded by batches only
# For each kind of training of a network, there is one list: the mean seconds of an update.
MEASURING, BESIDE, COMPILING = "measuring", "beside", "compiling"


def expected(plan: Plan) -> Expected | None:
    """Return how long a run may take; None if no run of its kind was timed on this machine.

    Runs of one kind have the same device, number of devices and precision.
    """
    found, key = _read(), _key(plan)
    updates = found.get(key)
    if not updates:
        return None
    measuring = found.get(f"{key}, {MEASURING}") or updates
    beside = found.get(f"{key}, {BESIDE}") or [0.0]
    operations, of_updates = sum(plan.measuring_operations), plan.operations * _slower(plan)
    updating = Range(of_updates / max(updates), of_updates / min(updates))
    measured = Range(operations / max(measuring), operations / min(measuring))
    likely = (
        of_updates / statistics.median(updates)
        + operations / statistics.median(measuring)
        + statistics.median(beside)
    )
    return Expected(
        least=updating.least + measured.least + min(beside),
        likely=likely,
        most=updating.most + measured.most + max(beside),
        measuring=measured,
        updates=updating,
        runs=len(updates),
        whole=beside != [0.0],
    )


def known_paces(plan: Plan) -> Range | None:
    """Return the least and the most seconds per arithmetic operation of the updates of earlier runs.

    If the picture of `plan` lies in a bucket (a larger array), the seconds are converted to such an
    array. The result is None if no run with the same device, number of devices and precision was timed.
    """
    found, slower = _read().get(_key(plan)), _slower(plan)
    return Range(slower / max(found), slower / min(found)) if found else None


def record_rate(
    plan: Plan, timed: Timed, measured: Timed | None = None, beside: float | None = None
) -> None:
    """Add the speed of a run to `rates.json`, if this file can be written to.

    If the run was in a bucket (an array larger than its picture), its updates are recorded with the
    speed that they would have had in an array of the picture's size.

    Args:
      plan: the plan of the run.
      timed: operations and seconds of its updates, without compilation. A run with less than
        `LEAST_SECONDS` is ignored.
      measured: operations and seconds of computing the targets (what the losses compare the picture
        with). Not recorded if None, or if shorter than `LEAST_SECONDS`.
      beside: seconds of the run besides updates and targets: starting, reading, compiling, writing. Not
        recorded if None or not positive.
    """
    key = _key(plan)
    if timed.seconds < LEAST_SECONDS or not timed.cost:
        return
    new = {key: _slower(plan) * timed.cost / timed.seconds}
    if measured is not None and measured.seconds >= LEAST_SECONDS and measured.cost:
        new[f"{key}, {MEASURING}"] = measured.cost / measured.seconds
    if beside is not None and beside > 0:
        new[f"{key}, {BESIDE}"] = beside
    _record(new)


def known_costs(recipe: Recipe, platform: str) -> Costs:
    """Return the seconds to compile the programs of one scale, and to compute one operation.

    A scale is a resolution of the run; an operation is an arithmetic operation. The seconds are medians
    of earlier runs on this device, or typical costs if there were none. A batch chooses its buckets by
    them. Buckets are arrays in which pictures of different shapes are painted, so that fewer programs
    are compiled; in return, more pixels are computed.

    Args:
      recipe: the recipe of the pictures; only its precision matters.
      platform: the device's platform, as JAX names it.
    """
    found, key = _read(), _key_of(recipe)
    typical, updates = typical_costs(platform), found.get(key)
    return Costs(
        statistics.median(found.get(f"{key}, {COMPILING}") or [typical.program]),
        1 / statistics.median(updates) if updates else typical.operation,
    )


def record_compiling(recipes: Sequence[Recipe], seconds: float, programs: float) -> None:
    """Add to `rates.json`, if it can be written, the mean seconds to compile the programs of one scale.

    The mean is that of a batch, over all its scales (resolution levels). A batch with recipes of
    several precisions is ignored, since each list in the file is for one precision. So is a batch that
    compiled for less than `LEAST_SECONDS`, since its programs had probably been compiled before.

    Args:
      recipes: the recipes of the batch.
      seconds: seconds that the batch spent on compiling. Do not call this function if the batch loaded
        programs from JAX's compilation cache, which takes less time than compiling.
      programs: number of scales for which the batch needs programs of their own, as
        `groups.compiled_programs` counts them. Groups with the same programs count once. A scale of a
        bucket (an array in which pictures of several shapes lie) counts as `COMPILING_OF_BUCKET`
        scales, since compiling its programs takes that many times as long.
    """
    keys = set(map(_key_of, recipes))
    if len(keys) == 1 and programs and seconds >= LEAST_SECONDS:
        _record({f"{keys.pop()}, {COMPILING}": seconds / programs})


def known_training(what: str) -> Range | None:
    """Return the least and most seconds of an update in earlier trainings with the same settings.

    The result is None if no such training was timed on this device.

    Args:
      what: text from `train.kind_of`, which names the settings on which the time of an update depends:
        precision, batch, crop, size of the network, deepest layer that the losses read, and number of
        devices. The kind of device is added here.
    """
    found = _read().get(f"{device_key()}, {what}")
    return Range(min(found), max(found)) if found else None


def record_training(what: str, seconds: float) -> None:
    """Add the mean seconds of an update of a training to `rates.json`, if the file can be written.

    From this file, `known_training` returns how long updates took in earlier trainings.

    Args:
      what: text from `train.kind_of`, which names the settings on which the time of an update depends:
        precision, batch, crop, size of the network, deepest layer that the losses read, and number of
        devices. The kind of device is added here.
      seconds: mean seconds of an update.
    """
    _record({f"{device_key()}, {what}": seconds})


def _record(new: Mapping[str, float]) -> None:
    """Append numbers to the lists in `rates.json`, of which each keeps its last `MOST` numbers.

    Nothing is written if JAX's compilation cache is off or has no local folder, or if the file cannot
    be written to.

    Args:
      new: key of a list -> the number to append to this list.
    """
    path = _path()
    if path is None:
        return
    rates = _read()
    for name, value in new.items():
        rates[name] = [*rates.get(name, []), value][-MOST:]
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _files.atomic(path) as part:
            part.write_text(json.dumps(rates, indent=1), "utf-8")


def rates_are_kept() -> bool:
    """Return whether the speed of runs is recorded.

    It is recorded if JAX's compilation cache is switched on and in a folder of a local disk.
    """
    return _path() is not None


def _key(plan: Plan) -> str:
    """Return the key of a run's speeds in `rates.json`: machine, device, precision, number of devices.

    The machine's name is part of the key, since machines that share a home folder may have different
    CPUs, and JAX calls every CPU "cpu".
    """
    # The recorded speed is that of one device. Devices that share a picture also spend time on
    # communication. So the speed depends on their number, which is therefore part of the key.
    bands = f", {plan.devices} devices" if plan.devices > 1 else ""
    return _key_of(plan.recipe) + bands


def _key_of(recipe: Recipe) -> str:
    return f"{device_key()}, {recipe.network.precision.name}, unit {UNIT}"


def _slower(plan: Plan) -> float:
    """Return by what factor operations are slower if the picture lies in a larger array; else 1."""
    return TIME_IN_BUCKET if plan.in_bucket else 1.0


def device_key() -> str:
    """Return a text that names this machine and its kind of device."""
    device = provenance.device()
    return ", ".join([machine.node(), device["platform"], device["kind"]])


def _path() -> Path | None:
    folder = cache.programs_folder()
    return None if folder is None else folder / FILE


def _read() -> dict[str, list[float]]:
    """Return the contents of `rates.json`: a dict from keys to lists of speeds or of durations.

    A key is text that says what was timed, and on which device. The result is {} if the file is missing
    or damaged. Numbers that are not positive and finite are left out.
    """
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
