"""What all benchmarks share: timing in turn, medians and spreads, the JSON record of a case.

A case is a module with `QUESTION`, the plans `FULL` and `QUICK`, and `measure(plan)`, which returns
a `Findings`, or yields one after each measurement. To add a case, write such a module and add its
name to `__main__.CASES`.
"""

import datetime
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import jax

import nst_jax as nst

SCHEMA = 1
ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
# Fields of a plan that are not recorded with it: places on this machine, and what the rows say.
UNRECORDED = ("pictures", "keep", "add_to", "prepared")
CLOSE = 1e-4  # largest relative difference of losses that `check_equal` accepts

T = TypeVar("T")
Clock: TypeAlias = Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much a case measures.

    Attributes:
      sizes: sides of the square canvases, in pixels.
      repeats: timed rounds; the median is over these.
      steps: steps in each timed round; for the case `quality`: updates of each recipe, 0 for its own.
      batches: batch sizes, for the case `batch`; number of photographs, for `buckets`; number of groups
        in the shorter batch, for `overlap`.
      peer_steps: steps in a run of pastiche, for the case `wall`.
      peers: (side, steps) of each run of pastiche; empty means one run at every size.
      compiled: whether to measure peers that take minutes to compile.
      pairs: number of pairs of pictures, for the cases that measure several.
      recipes: what the case `quality` rates: names of recipes, also with a number of updates, such as
        `gram@30`, and `instant`. The recipes of the case `head_start`; empty means all that it knows.
      named_pairs: names of content and style of each pair, for the case `quality`; empty means the
        first `pairs` pairs of sample pictures.
      pictures: folder of pictures beside the samples, for the case `quality`. Not recorded.
      prepared: how these pictures were prepared, for the case `quality`; empty says nothing. Recorded
        in the rows.
      keep: folder in which the case `quality` keeps what is painted. Not recorded.
      crop: ratio of sides, such as `4:3`, to which `quality` cuts the pictures; None cuts nothing.
      add_to: the record to whose rows `quality` adds its own; None makes a new one. Not recorded.
      at_once: number of processes that paint on the device at the same time, for the case `quality`.
      paint: whether the case `quality` paints what is not kept; False: it only rates what is.
      seconds: after so many seconds the case `gpu` ends, and the case `quality` begins no further
        picture; 0 is no limit.
      huge: for the case `gpu`: side of a canvas that only tiles can hold, in pixels; 0 measures none.
      picture_steps: for the case `gpu`: updates of the whole picture; 0 for the recipe's own.
    """

    sizes: tuple[int, ...]
    repeats: int = 5
    steps: int = 3
    batches: tuple[int, ...] = ()
    peer_steps: int = 0
    peers: tuple[tuple[int, int], ...] = ()
    compiled: bool = True
    pairs: int = 1
    recipes: tuple[str, ...] = ()
    named_pairs: tuple[tuple[str, str], ...] = ()
    pictures: Path | None = None
    prepared: str = ""
    keep: Path | None = None
    crop: str | None = None
    add_to: Path | None = None
    at_once: int = 1
    paint: bool = True
    seconds: int = 0
    huge: int = 0
    picture_steps: int = 0


@dataclass(frozen=True)
class Findings:
    """The results of a case.

    Attributes:
      rows: one JSON object per configuration.
      notes: sentences for readers of the figures, for example that a peer was not installed.
      packages: other packages that were measured, whose versions are recorded.
    """

    rows: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)
    packages: tuple[str, ...] = ()


# --- The clock ------------------------------------------------------------------------------------


def timed(work: Callable[[], T], clock: Clock = time.perf_counter) -> tuple[float, T]:
    """Return the seconds until the result of `work` was computed, by a clock, and the result."""
    start = clock()
    result = jax.block_until_ready(work())
    return clock() - start, result


def alternate(
    contestants: Mapping[str, Callable[[], Any]],
    repeats: int,
    warmups: int = 1,
    clock: Clock = time.perf_counter,
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """Time contestants in turn, so that a change in the machine's speed affects all of them.

    Args:
      contestants: names to functions. Results of JAX are waited for; functions of other libraries have
        to wait for their device themselves.
      repeats: number of timed rounds.
      warmups: number of rounds before the timed ones.
      clock: a function that returns seconds. `time.process_time` counts the processor seconds of all
        threads of this process, which other programs on the machine change less.

    Returns:
      Names to the seconds of each round, where round i of all names was timed at about the same time;
      and names to the results of the last round.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    results: dict[str, Any] = {}
    for turn in range(-warmups, repeats):
        for name, work in contestants.items():
            elapsed, results[name] = timed(work, clock)
            if turn >= 0:
                seconds[name].append(elapsed)
    return seconds, results


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Return the median, minimum and maximum of samples, and the samples, to six significant digits."""
    rounded = [float(f"{sample:.6g}") for sample in samples]
    return {
        "median": float(f"{statistics.median(rounded):.6g}"),
        "min": min(rounded),
        "max": max(rounded),
        "samples": rounded,
    }


def per(samples: Sequence[float], count: float) -> dict[str, Any]:
    """Return the spread of samples that are each divided by `count`, such as seconds per step."""
    return spread([sample / count for sample in samples])


def rate(samples: Sequence[float], amount: float) -> dict[str, Any]:
    """Return the spread of `amount` per second, where each sample is the seconds that it took."""
    return spread([amount / sample for sample in samples])


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, Any]:
    """Return the spread of slow / fast, computed round by round."""
    return spread([a / b for a, b in zip(slow, fast, strict=True)])


def check_equal(losses: Mapping[str, float], reference: str) -> None:
    """Refuse to compare times of contestants whose losses show that they did different work.

    Args:
      losses: names of contestants to their losses after the same number of steps.
      reference: the contestant that the others are compared with.

    Raises:
      RuntimeError: with the contestant's loss and that of the reference.
    """
    right = losses[reference]
    for name, loss in losses.items():
        if not abs(loss - right) <= CLOSE * abs(right):  # refuses NaN, too
            raise RuntimeError(f"{name}: ends at loss {loss:.8g}, {reference} at {right:.8g}")


def megapixels(size: int) -> float:
    """Return the megapixels of a square canvas."""
    return size * size / 1e6


# --- Compiling ------------------------------------------------------------------------------------


def compiled(function: Callable[..., Any], *arguments: Any) -> tuple[Any, dict[str, float]]:
    """Compile a function of (params, state, ...) ahead of time; its calls donate the state.

    Args:
      function: a pure function; its second argument is the state.
      *arguments: examples of its arguments; nothing is run or donated here.

    Returns:
      The executable, and the seconds spent to trace, lower and compile.
    """
    # Not `donate_argnames`: the functions that are compared may name their state differently.
    options = dict(nst.compiler_options())
    jitted = jax.jit(function, donate_argnums=1, compiler_options=options)
    trace, traced = timed(lambda: jitted.trace(*arguments))
    lower, lowered = timed(traced.lower)
    compile_, executable = timed(lowered.compile)
    return executable, {"trace": trace, "lower": lower, "compile": compile_}


# --- Machine and versions -------------------------------------------------------------------------


def device() -> dict[str, Any]:
    """Describe the machine, without its host name."""
    first = jax.devices()[0]
    return {
        "platform": first.platform,
        "kind": first.device_kind,
        "count": jax.device_count(),
        "processor": _processor(),
        "cores": cores(),
    }


def device_in_words(device: Mapping[str, Any]) -> str:
    """Return the kind of an accelerator, or a processor and the number of cores that were used."""
    if device["platform"] != "cpu":
        return str(device["kind"])
    count = device["cores"]
    return f"CPU ({device['processor']}, {count} core{'' if count == 1 else 's'})"


def cores() -> int:
    """Return the number of CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the name of the processor, with its family and model if the system states them.

    In virtual machines, processors of very different speed often share a name such as "AMD EPYC".
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    first: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        first.setdefault(key.strip(), value.strip())
    name = first.get("model name") or platform.processor() or platform.machine()
    if "cpu family" in first and "model" in first:
        name += f" (family {first['cpu family']}, model {first['model']})"
    return name


def versions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Return the versions of Python, of nst_jax and its dependencies, and of `packages`."""
    found = {"python": platform.python_version(), "nst_jax": nst.__version__}
    return found | {name: importlib.metadata.version(name) for name in (*PACKAGES, *packages)}


def source() -> dict[str, Any]:
    """Return the commit, and whether the work tree is clean; None where git fails."""
    commit = _git("rev-parse", "HEAD")
    # Changed results do not count: they do not influence what is measured, and each case writes some.
    changes = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    return {"commit": commit, "clean": None if changes is None else changes == ""}


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# --- The record -----------------------------------------------------------------------------------


def record(
    case: str,
    question: str,
    plan: Plan,
    findings: Findings,
    *,
    origin: Mapping[str, Any],
    quick: bool,
) -> dict[str, Any]:
    """Make the JSON object of one case: question, machine, versions, plan and findings."""
    recorded = {name: value for name, value in asdict(plan).items() if name not in UNRECORDED}
    return {
        "schema": SCHEMA,
        "case": case,
        "question": question,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "device": device(),
        "versions": versions(findings.packages),
        "source": origin,
        "plan": recorded,
        "notes": findings.notes,
        "rows": findings.rows,
    }


def path_of(case: str, kind: str, quick: bool, folder: Path) -> Path:
    """Return the path of a record: named after case, kind of device and, if so, the quick pass."""
    plain = "".join(c if c.isalnum() else "-" for c in kind.lower()).strip("-")
    return folder / f"{case}-{plain}{'-quick' if quick else ''}.json"


def check_replaceable(
    old: Mapping[str, Any], path: Path, processor: str, sizes: Sequence[int]
) -> None:
    """Refuse a run that would replace a record without measuring all that it has.

    Args:
      old: the record.
      path: its path, for the message.
      processor: the processor of this machine.
      sizes: sides of the canvases of the run.

    Raises:
      RuntimeError: with what would be lost.
    """
    missing = sorted(set(old["plan"]["sizes"]) - set(sizes))
    lost = ""
    if old.get("blind"):
        lost = "what judges said of its pictures"
    elif old["device"]["processor"] != processor:
        lost = f"the figures of another processor, {old['device']['processor']}"
    elif missing:
        lost = f"the figures at {', '.join(map(str, missing))} px"
    if lost:
        raise RuntimeError(
            f"'{path}' would lose {lost}; name another folder with `--out`, or add `--replace`"
        )


def write(entry: Mapping[str, Any], path: Path) -> None:
    """Write a record to a file, whole or not at all; its folder is made if it is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # NaN raises an error here: other programs could not read a file that contains it.
    text = json.dumps(entry, indent=1, allow_nan=False)
    part = path.with_name(f"{path.name}.part")
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


def read(folder: Path, quick: bool = False) -> list[dict[str, Any]]:
    """Return the records in a folder, ordered by file name: only quick passes, or only full ones."""
    entries = [json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json"))]
    unknown = [entry for entry in entries if entry.get("schema") != SCHEMA]
    if unknown:
        raise ValueError(
            f"`{folder}`: {len(unknown)} files are not of schema {SCHEMA}; run the cases again"
        )
    return [entry for entry in entries if entry["quick"] == quick]
