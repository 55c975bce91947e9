"""Time of one step of our compiled loop, against a step in PyTorch."""

from functools import partial
from typing import Any

import numpy as np

import nst_jax as nst
from benchmarks import harness, pytorch
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, LBFGS, Loop, Problem, outcome, problem

QUESTION = "Seconds per step of the compiled loop, against an eager PyTorch step in float32"
# Several updates a call, as in a run. With two a call, those of this project took 1.2 or 1.6 s at
# 512 px, depending on which contestant had its turn before.
FULL = Plan(sizes=(256, 512), repeats=5, steps=6)
GPU = Plan(sizes=(256, 512, 1024, 2048), repeats=5, steps=40)
QUICK = Plan(sizes=(64,), repeats=2, steps=2)

OURS = "nst_jax"
FIRST = 3  # canvases whose losses are compared before timing
TOLERANCE = 1e-3  # largest relative difference between torch's losses of these and ours


def measure(plan: Plan) -> Findings:
    """Time our loop with Adam, in turn with torch if it is installed, and our loop with L-BFGS."""
    params, torch = nst.load_params(), pytorch.has_torch()
    rows = []
    for size in plan.sizes:
        rows.append(_row(ADAM.name, problem(params, ADAM, size), size, plan, torch))
        rows.append(_row(LBFGS.name, problem(params, LBFGS, size), size, plan, False))
    notes = [] if torch else [pytorch.ABSENT]
    return Findings(rows, notes, ("torch",) if torch else ())


def _row(name: str, problem: Problem, size: int, plan: Plan, torch: bool) -> dict[str, Any]:
    loop = Loop(problem)
    others = _torch_loops(problem) if torch else {}
    first = np.asarray(loop.advance(FIRST).total)
    differences = {key: _difference(first, other.advance(FIRST)) for key, other in others.items()}
    _check_parity(differences)
    loops: dict[str, Loop | pytorch.TorchLoop] = {OURS: loop, **others}
    seconds, _ = harness.alternate(
        {key: partial(each.advance, plan.steps) for key, each in loops.items()}, plan.repeats
    )
    figures = {
        key: _figures(times, size, plan) | {"last_total": _last_total(loops[key])}
        for key, times in seconds.items()
    }
    row = {
        "recipe": name,
        "size": [size, size],
        "compile_seconds": loop.seconds,
        "outcome": outcome(loop.state),
        "contestants": figures,
    }
    return row | _comparison(seconds, differences) if others else row


def _torch_loops(problem: Problem) -> dict[str, pytorch.TorchLoop]:
    return {
        "torch": pytorch.TorchLoop(problem),
        "torch, channels last": pytorch.TorchLoop(problem, pytorch.Variant(channels_last=True)),
    }


def _difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.max(np.abs(ours / theirs - 1)))


def _check_parity(differences: dict[str, float]) -> None:
    for name, difference in differences.items():
        if not difference <= TOLERANCE:  # also refuses NaN
            raise RuntimeError(
                f"{name}: its first {FIRST} losses differ from ours by {difference:.2g}, more than "
                f"{TOLERANCE:g}; times of different work are not compared"
            )


def _figures(seconds: list[float], size: int, plan: Plan) -> dict[str, Any]:
    work = harness.megapixels(size) * plan.steps
    return {
        "seconds_per_step": harness.per(seconds, plan.steps),
        "megapixel_iterations_per_second": harness.rate(seconds, work),
    }


def _last_total(loop: Loop | pytorch.TorchLoop) -> float:
    # All loops have taken the same number of steps, so these losses are of corresponding canvases.
    losses = loop.advance(1)
    return float(np.asarray(losses.total if isinstance(losses, nst.Losses) else losses)[-1])


def _comparison(seconds: dict[str, list[float]], differences: dict[str, float]) -> dict[str, Any]:
    """Compare our loop with the fastest torch loop, and state how much their first losses differ."""
    best = min(differences, key=lambda name: float(np.median(seconds[name])))
    return {
        "peer": best,
        "speed_against_peer": harness.ratio(seconds[best], seconds[OURS]),
        "parity": {"tolerance": TOLERANCE, "canvases": FIRST, "differences": differences},
    }
