"""Updates and seconds to the loss at which a recipe ends, from the content and from `Instant`."""

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import FLOAT32, Pair
from benchmarks.time_to_loss import EngineRun, first_at_full_size, warm_up

QUESTION = "Updates and seconds to the loss at which a recipe ends, by what it starts from"
FULL = Plan(sizes=(256, 512), repeats=1, steps=90, pairs=6)
QUICK = Plan(sizes=(48,), repeats=1, steps=4)

ALL_PAIRS: tuple[Pair, ...] = tuple(permutations(("chelsea", "starry_night", "gravel"), 2))
RECIPES = {
    "default": nst.recipes.DEFAULT.replace(precision=FLOAT32),
    "gram": nst.recipes.GRAM.replace(precision=FLOAT32),
}
CONTENT, INSTANT = "content", "instant"
STARTS = {CONTENT: nst.recipes.starts.FromContent(), INSTANT: nst.recipes.starts.Instant()}


def measure(plan: Plan) -> Findings:
    """Run each recipe from both starts in turn, on every pair of pictures."""
    unknown = set(plan.recipes) - set(RECIPES)
    if unknown:
        raise ValueError(
            f"recipes: expected some of {', '.join(RECIPES)}, got {', '.join(sorted(unknown))}"
        )
    params = nst.load_params()
    rows = []
    for name in plan.recipes or RECIPES:
        for size in plan.sizes:
            contenders = {
                start: RECIPES[name].replace(pictures__start=each, steps=plan.steps)
                for start, each in STARTS.items()
            }
            for recipe in contenders.values():
                warm_up(params, size, recipe.replace(steps=4))
            rows += [
                {"recipe": name} | _row(params, pair, size, contenders)
                for pair in ALL_PAIRS[: plan.pairs]
            ]
    notes = [
        "one run from each start, both in turn; seconds include measuring the targets and painting the "
        "start, but not compiling, and are interpolated between snapshots",
        "only canvases of the full size are compared; those of coarser scales count as updates",
    ]
    return Findings(rows, notes)


def _row(params: nst.Params, pair: Pair, size: int, recipes: dict[str, Any]) -> dict[str, Any]:
    runs = {name: EngineRun(params, pair, size, recipe) for name, recipe in recipes.items()}
    work: dict[str, Callable[[], None]] = {n: partial(run.advance) for n, run in runs.items()}
    seconds, _ = harness.alternate(work, max(run.most for run in runs.values()), warmups=0)
    totals = {name: _totals(run) for name, run in runs.items()}
    level = float(totals[CONTENT][-1])
    figures = {}
    for name, run in runs.items():
        first = first_at_full_size(recipes[name], size)
        updates = updates_to(totals[name], level, first)
        ends = np.cumsum(seconds[name])[: len(run.seen)]
        figures[name] = {
            "start": float(totals[name][0]),
            "last": float(totals[name][-1]),
            "updates": updates,
            "seconds": None if updates is None else _seconds_at(updates, run, ends),
            "totals": [float(f"{total:.6g}") for total in totals[name]],
        }
    return {"pair": list(pair), "size": [size, size], "level": level, "starts": figures}


def _totals(run: EngineRun) -> np.ndarray:
    """Return the total losses of a run's first canvas and after each update, [updates + 1]."""
    return np.concatenate([np.asarray(shot.history.total) for shot in run.seen])


def updates_to(totals: np.ndarray, level: float, first: int) -> int | None:
    """Return the number of updates after which a loss first reaches a level; None if it never does.

    Args:
      totals: the losses of a run's first canvas and after each update.
      level: the loss to reach.
      first: number of updates after which the canvas has its full size.
    """
    reached = np.flatnonzero(totals[first:] <= level)
    return int(reached[0]) + first if len(reached) else None


def _seconds_at(updates: int, run: EngineRun, ends: np.ndarray) -> float:
    steps = [shot.step for shot in run.seen]
    return float(f"{np.interp(updates, steps, ends):.4g}")
