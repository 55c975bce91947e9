"""Cost per pixel of a canvas that is computed in tiles, against a canvas as large as one tile."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.memory import counted
from benchmarks.problems import ADAM
from benchmarks.tiles import loop_of

QUESTION = "Seconds per pixel of a canvas in tiles, against a whole canvas as large as a tile"
FULL = Plan(sizes=(2048,), repeats=1, steps=1)
GPU = Plan(sizes=(2048, 4096), repeats=3, steps=3)
# A canvas of twice the side of smaller tiles would not be cut.
QUICK = Plan(sizes=(208,), repeats=1, steps=1)


def measure(plan: Plan) -> Findings:
    """Time a canvas of each size, in turn with one of twice the side that has tiles of that size."""
    params = nst.load_params()
    note = "a halo of 96 px on the two inner sides of each of the four tiles"
    return Findings([_row(params, size, plan) for size in plan.sizes], [note])


def _row(params: nst.Params, size: int, plan: Plan) -> dict[str, Any]:
    sides = {f"whole, {size} px": (size, 0), f"{2 * size} px in tiles": (2 * size, size)}
    loops = {name: loop_of(params, side, tile) for name, (side, tile) in sides.items()}
    work: dict[str, Callable[[], Any]] = {
        name: partial(lambda loop: np.asarray(loop.advance(plan.steps).total), loop)
        for name, loop in loops.items()
    }
    seconds, results = harness.alternate(work, plan.repeats, warmups=1)
    per_pixel = {
        name: [each / plan.steps / side**2 for each in seconds[name]]
        for name, (side, _) in sides.items()
    }
    whole, _ = per_pixel.values()
    losses = {name: float(totals[-1]) for name, totals in results.items()}
    return {
        "recipe": ADAM.name,
        "size": [size, size],
        "outcome": {"updates": plan.steps, "losses": losses},
        "canvases": {
            name: {
                "side": side,
                "tile": tile,
                "seconds_per_step": harness.per(seconds[name], plan.steps),
                "seconds_per_megapixel": harness.spread([1e6 * each for each in per_pixel[name]]),
                "per_pixel_against_whole": harness.ratio(per_pixel[name], whole),
                "xla_bytes": counted(loops[name].program)["total"],
            }
            for name, (side, tile) in sides.items()
        },
    }
