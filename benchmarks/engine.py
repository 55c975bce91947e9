"""Which engine (optimiser and schedule) suits the recipe `gram` best, at equal work."""

from dataclasses import replace

import nst_jax as nst
from benchmarks import time_to_loss
from benchmarks.harness import Findings, Plan

QUESTION = "Seconds until `gram`'s objective falls to a level, by candidates for its engine"
# `steps` counts updates at the full size: 57 cost as much as 91 over two scales, or 130 over three.
FULL = Plan(sizes=(512,), repeats=1, steps=57, pairs=3)
GPU = Plan(sizes=(512, 1024), repeats=1, steps=130, pairs=3)
QUICK = Plan(sizes=(64,), repeats=1, steps=6)

# Values of `LBFGS.levels` to try: halvings of the canvas for the first guess of the inverse Hessian.
LEVELS = (0, 4)
ONE = "one scale"
SMALLEST = 128  # px, side of the coarsest scale of the longest schedule
RULE = nst.optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=10)

Schedule = nst.recipes.OneScale | nst.recipes.CoarseToFine


def engines(size: int, work: int) -> dict[str, nst.recipes.Recipe]:
    """Return the candidates, by name.

    Args:
      size: side of the canvas, px.
      work: the work of each, in updates of the full size; one at half the side counts as a quarter.
    """
    found = {}
    for name, schedule in schedules(size).items():
        steps = equal_work(schedule, size, work)
        # One scale without levels is left out, since coarse detail would hardly change.
        for levels in LEVELS if name != ONE else LEVELS[-1:]:
            rule = replace(RULE, levels=levels)
            descent = replace(
                nst.recipes.GRAM.descent, optimizer=rule, steps=steps, schedule=schedule
            )
            found[f"{levels or 'no'} levels, {name}"] = replace(
                time_to_loss.OBJECTIVE, descent=descent
            )
    return found


def schedules(size: int) -> dict[str, Schedule]:
    """Return schedules by name: one scale, and coarse to fine from half the side and `SMALLEST`."""
    found: dict[str, Schedule] = {ONE: nst.recipes.OneScale()}
    for smallest in sorted({size // 2, SMALLEST}):
        if time_to_loss.SMALLEST <= smallest < size:
            found[f"from {smallest} px"] = nst.recipes.CoarseToFine(smallest=smallest, share=1.0)
    return found


def equal_work(schedule: Schedule, size: int, work: int) -> int:
    """Return the updates over all scales that cost as much as `work` updates of the full size."""
    scales = schedule.plan((size, size), 1000)
    cost_per_update = sum(steps * height * width for (height, width), steps in scales) / (
        1000 * size**2
    )
    return round(work / cost_per_update)


def measure(plan: Plan) -> Findings:
    """Time the candidates in turn on every pair of pictures."""
    return time_to_loss.compare(engines, plan)
