"""Time that each engine (optimiser and schedule) needs until the loss has fallen to a level."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import FLOAT32, PAIRS, Pair, pictures

QUESTION = "Seconds until the loss of `gram`'s objective falls to a level, by engine"
FULL = Plan(sizes=(128, 192), repeats=1, steps=60, pairs=3)
GPU = Plan(sizes=(256, 512), repeats=1, steps=400, pairs=3)
QUICK = Plan(sizes=(48,), repeats=1, steps=6)

LEVELS = (2.0, 1.5, 1.2)  # multiples of the floor, which is the lowest loss that any engine reached
POINTS = 25  # snapshots per curve, about
COARSE = "coarse to fine"
SMALLEST = 16  # px, least side of a canvas for the network

OBJECTIVE = nst.recipes.GRAM.replace(precision=FLOAT32)
GUARDED = nst.optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=10)
RULES: dict[str, Any] = {
    "Adam, rate 0.05": nst.optimizers.Adam(learning_rate=0.05),
    "torch's L-BFGS": nst.optimizers.TorchLBFGS(),
    "guarded L-BFGS": GUARDED,
    "guarded L-BFGS, 4 levels": replace(GUARDED, levels=4),
}


def engines(size: int, steps: int) -> dict[str, nst.recipes.Recipe]:
    """Return recipes that differ only in their descent: each optimiser, with one scale and two."""
    found = {}
    for name, rule in RULES.items():
        # torch's L-BFGS has no guard against divergence, so it gets published recipes' coordinates.
        units = nst.vgg.CAFFE_BGR if isinstance(rule, nst.optimizers.TorchLBFGS) else nst.vgg.RAW
        schedules: dict[str, Any] = {"one scale": nst.recipes.OneScale()}
        if size // 2 >= SMALLEST:
            schedules[COARSE] = nst.recipes.CoarseToFine(smallest=size // 2, share=1.0)
        for scales, schedule in schedules.items():
            descent = replace(
                OBJECTIVE.descent, optimizer=rule, coordinates=units, steps=steps, schedule=schedule
            )
            found[f"{name}, {scales}"] = replace(OBJECTIVE, descent=descent)
    return found


# From the side of the canvas and the number of updates to recipes, by name.
Engines = Callable[[int, int], dict[str, nst.recipes.Recipe]]


class EngineRun:
    """One run of an engine; each call of `advance` computes the next snapshot."""

    def __init__(self, params: nst.Params, pair: Pair, size: int, recipe: nst.recipes.Recipe):
        content, style = (np.asarray(image) for image in pictures(size, pair))
        steps = recipe.descent.updates_at((size, size))
        self.every = -(-steps // POINTS)
        self.most = 2 + steps // self.every  # snapshots; 2 are those of the start and the end
        self.first = first_at_full_size(recipe, size)
        self.shots: Iterator[nst.Snapshot] = nst.paint(
            params, content, style, recipe=recipe, size="as-is", every=self.every
        )
        self.seen: list[nst.Snapshot] = []

    def advance(self) -> None:
        """Compute the next snapshot; do nothing if the run has ended."""
        shot = next(self.shots, None)
        if shot is not None:
            self.seen.append(shot)

    def curve(self, seconds: Sequence[float]) -> dict[str, Any]:
        """Return updates, seconds since the start and total losses of the snapshots at full size."""
        ends = np.cumsum(seconds)
        points = [
            (shot.step, float(f"{end:.5g}"), float(shot.losses.total))
            for shot, end in zip(self.seen, ends, strict=False)
            if shot.step >= self.first and np.isfinite(shot.losses.total)
        ]
        steps, times, totals = (list(column) for column in zip(*points, strict=True))
        broke_at = self.seen[-1].broke_at
        return {"steps": steps, "seconds": times, "totals": totals, "broke_at": broke_at}


def first_at_full_size(recipe: nst.recipes.Recipe, size: int) -> int:
    """Return the number of updates after which a recipe's canvas has its full size."""
    return sum(steps for _, steps in recipe.descent.plan((size, size))[:-1])


def measure(plan: Plan) -> Findings:
    """Time all engines in turn on every pair of pictures."""
    return compare(engines, plan)


def compare(engines: Engines, plan: Plan) -> Findings:
    """Time engines in turn on every pair of pictures.

    The times include measuring the targets, but not compiling.
    """
    params = nst.load_params()
    rows = []
    for size in plan.sizes:
        warm = {name: warm_up(params, size, each) for name, each in engines(size, 4).items()}
        recipes = engines(size, plan.steps)
        rows += [_row(params, pair, size, recipes, warm) for pair in PAIRS[: plan.pairs]]
    notes = [
        "seconds include everything but compiling; those of the coarse scales too, though a curve only "
        "begins at the full size, as losses at different sizes are not comparable",
        "one run each, all engines in turn",
    ]
    return Findings(rows, notes)


def warm_up(params: nst.Params, size: int, recipe: nst.recipes.Recipe) -> float:
    """Run a recipe once, so that its programs are compiled; return the seconds that this took."""

    def run() -> list[nst.Snapshot]:
        content, style = (np.asarray(image) for image in pictures(size))
        return list(nst.paint(params, content, style, recipe=recipe, size="as-is", every=1))

    return harness.timed(run)[0]


def _row(
    params: nst.Params,
    pair: Pair,
    size: int,
    recipes: Mapping[str, nst.recipes.Recipe],
    warm: Mapping[str, float],
) -> dict[str, Any]:
    runs = {name: EngineRun(params, pair, size, recipe) for name, recipe in recipes.items()}
    work: dict[str, Callable[[], None]] = {n: partial(c.advance) for n, c in runs.items()}
    rounds = max(run.most for run in runs.values())
    seconds, _ = harness.alternate(work, rounds, warmups=0)
    curves = {name: run.curve(seconds[name]) for name, run in runs.items()}
    floor = min(min(curve["totals"]) for curve in curves.values())
    start = next(iter(curves.values()))["totals"][0]
    figures = {
        name: curve
        | {
            "warm_up_seconds": warm[name],
            "lowest": min(curve["totals"]),
            "seconds_to": {
                f"{level:g}": seconds_to(curve["seconds"], curve["totals"], level * floor)
                for level in LEVELS
            },
        }
        for name, curve in curves.items()
    }
    return {
        "recipe": OBJECTIVE.name,
        "pair": list(pair),
        "size": [size, size],
        "updates": {name: one.descent.updates_at((size, size)) for name, one in recipes.items()},
        "start": start,
        "floor": floor,
        "final_loss": floor,
        "engines": figures,
    }


def seconds_to(seconds: Sequence[float], totals: Sequence[float], level: float) -> float | None:
    """Return the seconds at which a curve first reached a level; None if it never did."""
    return next((s for s, total in zip(seconds, totals, strict=True) if total <= level), None)
