"""How much time it costs, and how much memory it saves, to compute a canvas in tiles."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.memory import counted
from benchmarks.problems import ADAM, Loop, problem

QUESTION = "Seconds per step and memory of a canvas in tiles, against the whole canvas"
FULL = Plan(sizes=(2048,), repeats=1, steps=1)
GPU = Plan(sizes=(4096,), repeats=3, steps=3)
QUICK = Plan(sizes=(416,), repeats=1, steps=1)  # no smaller canvas is cut by tiles of half its side

TILES = (1024, 512)  # px; for a canvas of 1024 px or less, a half and a quarter of its side


def measure(plan: Plan) -> Findings:
    """Time steps of the whole canvas and of the same canvas in tiles, in turn."""
    params = nst.load_params()
    note = "a halo of 96 px on each inner side of a tile: relu5_2 is among the taps"
    return Findings([_row(params, size, plan) for size in plan.sizes], [note])


def tiles_of(size: int) -> list[int]:
    """Return the sides of the tiles to try on a canvas of this side, in pixels."""
    if size > max(TILES):
        return list(TILES)
    least = nst.vgg.halo_of(ADAM.terms.taps)
    halves = (size // part // 16 * 16 for part in (2, 4))
    return [tile for tile in halves if tile >= least]


def _row(params: nst.Params, size: int, plan: Plan) -> dict[str, Any]:
    loops = {tile: loop_of(params, size, tile) for tile in (0, *tiles_of(size))}
    work = {
        name_of(tile): partial(lambda loop: np.asarray(loop.advance(plan.steps).total), loop)
        for tile, loop in loops.items()
    }
    seconds, results = harness.alternate(work, plan.repeats, warmups=1)
    harness.check_equal({name: float(totals[-1]) for name, totals in results.items()}, name_of(0))
    return {
        "recipe": ADAM.name,
        "size": [size, size],
        "final_loss": float(results[name_of(0)][-1]),
        "tiles": {
            name_of(tile): {
                "tile": tile,
                "seconds_per_step": harness.spread(
                    [each / plan.steps for each in seconds[name_of(tile)]]
                ),
                "compile_seconds": sum(loop.seconds.values()),
                "time_against_whole": harness.ratio(seconds[name_of(tile)], seconds[name_of(0)]),
                "xla_bytes": counted(loop.program)["total"],
            }
            for tile, loop in loops.items()
        },
    }


def name_of(tile: int) -> str:
    """Return the name in the record of a canvas in tiles of this side, or whole if it is 0."""
    return f"tiles of {tile} px" if tile else "whole"


def loop_of(params: nst.Params, size: int, tile: int, recipe: Any = ADAM) -> Loop:
    """Return a loop on a canvas of this side, in tiles or, if `tile` is 0, whole.

    Raises:
      RuntimeError: if the canvas is too small to be cut into such tiles.
    """
    recipe = recipe.replace(network__tile=tile)
    task = problem(params, recipe, size)
    if tile:
        # As in `stylize`, the size of a window (a tile with its halos), not that of the canvas, decides
        # which layers get kernels for Winograd convolution.
        seen = nst.scaling.tile_grid.window_of((size, size), recipe.terms.taps, recipe.network)
        if seen == (size, size):
            raise RuntimeError(f"tiles of {tile} px do not cut a canvas of {size} px")
        formed = nst.vgg.with_forms(
            params, recipe.terms.taps, shape=seen, precision=recipe.network.precision
        )
        task = replace(task, params=jax.block_until_ready(formed))
    return Loop(task)
