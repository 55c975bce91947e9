"""Time and memory of a whole picture, from the shell command to the saved file."""

import json
import math
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import nst_jax as nst
from benchmarks import harness, pastiche
from benchmarks.harness import Findings, Plan
from benchmarks.processes import keeping_programs, launched

Json = dict[str, Any]

QUESTION = "Seconds from the shell to the saved file, imports and compiling included"
# `peer_steps` is the default of pastiche, 1000 updates, because its users wait for these.
FULL = Plan(
    sizes=(256, 512),
    repeats=1,
    steps=nst.recipes.presets.OWN_UPDATES,
    peer_steps=pastiche.STEPS,
)
GPU = replace(FULL, sizes=(256, 512, 1024))
QUICK = Plan(sizes=(64,), repeats=1, steps=2, peer_steps=4)

PROGRAM = ("-m", "nst_jax")
PAIR = ("chelsea", "starry_night")
FILES = tuple(nst.images.SAMPLES[name] for name in PAIR)
RECIPE = "default"
# Our final loss may exceed pastiche's by this fraction, because even two equal runs differ by as much.
ABOVE = 1e-3


def measure(plan: Plan) -> Findings:
    """Run our command line on sample pictures, in a new process every time.

    A cold run is the first on a machine; a warm one loads the programs that the cold one compiled. A
    size is the longer side; 256 is that of `nst-jax demo`. If pastiche is installed, its command is run
    at each size, and so is ours with pastiche's objective and `default`'s optimiser and schedule, with
    the fewest updates after which our final loss is no higher than pastiche's.
    """
    peer = pastiche.command()
    notes = [] if peer else [pastiche.ABSENT]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [_row(size, plan, folder) for size in plan.sizes]
        runs = plan.peers or tuple((size, plan.peer_steps) for size in plan.sizes)
        for size, peer_steps in runs if peer else ():
            row, note = _against(str(peer), size, peer_steps, plan.repeats, folder)
            rows += [row] if row else []
            notes += [note] if note else []
    return Findings(rows, notes)


def _row(size: int, plan: Plan, folder: Path) -> dict[str, Any]:
    words = ("--recipe", RECIPE, "--size", str(size))
    pairs = [cold_and_warm(words, plan.steps, folder) for _ in range(plan.repeats)]
    return _figures(RECIPE, pairs)


def _figures(recipe: str, pairs: Sequence[tuple[Json, Json]]) -> Json:
    last = pairs[-1][-1]
    starts = dict(zip(("cold", "warm"), zip(*pairs, strict=True), strict=True))
    return {
        "recipe": recipe,
        "size": last["canvas"],
        "updates": last["updates"],
        "final_loss": last["final_loss"],
    } | {
        start: {
            name: harness.spread([run[name] for run in runs])
            for name in ("seconds", "compile_seconds", "peak_gigabytes")
        }
        for start, runs in starts.items()
    }


def _against(
    peer: str, size: int, peer_steps: int, repeats: int, folder: Path
) -> tuple[Json | None, str]:
    """Compare our command with pastiche's at one size, in alternating runs to equal final losses.

    Returns:
      The row of the record, or None and a note if our command cannot reach pastiche's final loss.
    """
    words = ("--recipe", "pastiche", "--size", f"long:{size}", *engine(nst.recipes.GRAM.descent))
    theirs = [pastiche.run(peer, FILES, size, peer_steps, folder)]
    judge = pastiche.Judge(PAIR, theirs[0].canvas)
    judge.check_parity(theirs[0])
    target = judge(theirs[0].picture)

    recipe = replace(nst.recipes.PASTICHE, descent=nst.recipes.GRAM.descent)
    pictures = [nst.images.sample(name) for name in PAIR]

    def loss_after(steps: int) -> float:
        # In this process, since the command would load and compile anew for every number of steps.
        image = nst.stylize(
            judge.params, *pictures, recipe=recipe, size=f"long:{size}", steps=steps
        )
        nst.images.save(folder / "tried.png", image)
        return judge(folder / "tried.png")

    first, most = max(2, peer_steps // 10), 2 * peer_steps
    steps, tried = fewest(loss_after, target, first, most)
    if steps is None:
        return None, f"at {size} px {most} updates of ours did not reach pastiche's final loss"
    pairs, finals = [], []
    for turn in range(repeats):
        if turn:
            theirs.append(pastiche.run(peer, FILES, size, peer_steps, folder))
        pairs.append(cold_and_warm(words, steps, folder))
        finals.append(judge(folder / "out.png"))
    check_reached(finals, target)
    seconds = [run.seconds for run in theirs]
    figures = _figures("pastiche, coarse to fine by L-BFGS", pairs)
    return figures | {
        "final_loss": finals[-1],
        "log_final_loss": figures["final_loss"],  # before clipping and rounding to 8 bits
        "tried": tried,
        "peer": {
            "name": theirs[-1].version,
            "updates": peer_steps,
            "final_loss": target,
            "seconds": harness.spread(seconds),
            "peak_gigabytes": harness.spread([run.peak_gigabytes for run in theirs]),
            "printed": theirs[-1].printed,
        },
        "speed_against_peer": {
            start: harness.ratio(seconds, figures[start]["seconds"]["samples"])
            for start in ("cold", "warm")
        },
    }, ""


def check_reached(finals: Sequence[float], target: float) -> None:
    """Refuse to compare times if the final losses of our command are not as low as the target.

    Raises:
      RuntimeError: with our highest final loss and the target, which is pastiche's.
    """
    if not max(finals) <= target * (1 + ABOVE):
        raise RuntimeError(
            f"our command's final loss is {max(finals):.6g}, pastiche's {target:.6g}; times to "
            "different losses are not compared"
        )


def engine(descent: Any) -> tuple[str, ...]:
    """Return the flags that give a recipe this descent, except for its number of steps."""
    values = {"coordinates": descent.coordinates.name, "clip": str(descent.clip).lower()}
    for part in ("optimizer", "schedule"):
        record = getattr(descent, part)
        values[f"{part}.kind"] = type(record).__name__
        values |= {f"{part}.{each.name}": getattr(record, each.name) for each in fields(record)}
    return tuple(word for key in values for word in ("--set", f"descent.{key}={values[key]}"))


def fewest(
    loss_after: Callable[[int], float], target: float, first: int, most: int, near: float = 1.15
) -> tuple[int | None, list[list[float]]]:
    """Find the least number of updates, approximately, with which a run reaches a target loss.

    Args:
      loss_after: makes a run of so many updates, divided among its scales; returns the final loss.
      target: the loss to reach.
      first: the number of updates to try first.
      most: the largest number of updates to try.
      near: largest ratio of the number that is found to a number that was tried and is too small.

    Returns:
      The number of updates, or None if even `most` are too few; and [updates, loss] of each trial.
    """
    below, above, steps = 0, 0, min(first, most)
    losses: dict[int, float] = {}
    while steps not in losses:
        losses[steps] = loss_after(steps)
        if losses[steps] <= target:
            above = steps
        else:
            below = steps
        if above and below:
            if above <= max(near * below, below + 1):
                break
            # Interpolate log(updates) linearly in log(loss), but not too close to either end.
            fall = math.log(losses[below] / target) / math.log(losses[below] / losses[above])
            span = math.log(above / below)
            steps = round(below * math.exp(span * min(0.8, max(0.3, fall))))
        else:
            steps = min(2 * below, most) if below else max(1, above // 2)
    return above or None, [[steps, losses[steps]] for steps in sorted(losses)]


def cold_and_warm(words: Sequence[str], steps: int, folder: Path) -> tuple[Json, Json]:
    """Run the command twice with a cache of programs that is empty before the first run."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        return _run(words, steps, folder, cache), _run(words, steps, folder, cache)


def _run(words: Sequence[str], steps: int, folder: Path, cache: str) -> Json:
    log = folder / "log.jsonl"
    options = [
        *map(str, FILES),
        *("--output", str(folder / "out.png"), "--log", str(log), "--quiet"),
        *(*words, "--steps", str(steps)),
    ]
    environment = keeping_programs(cache)
    command = [sys.executable, *PROGRAM, "stylize", *options]
    seconds, peak, _ = launched(command, environment)
    start, *_, last, end = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    return {
        "canvas": start["size"][::-1],  # height, width
        "updates": steps,
        "seconds": seconds,
        "compile_seconds": end["compile_seconds"],
        "peak_gigabytes": peak,
        "final_loss": last["total"],
    }
