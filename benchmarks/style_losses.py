"""Time and memory of one update by each style loss, against those by Gram matrices."""

import time
from dataclasses import replace
from functools import partial
from typing import Any

import jax

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.memory import counted
from benchmarks.problems import ADAM, FLOAT32, Loop, outcome, problem

QUESTION = "Seconds per step of the compiled loop by the style loss, against Gram matrices"
FULL = Plan(sizes=(256, 512), repeats=5, steps=2)
GPU = Plan(sizes=(256, 512, 1024), repeats=5, steps=40)
QUICK = Plan(sizes=(64,), repeats=2, steps=2)

# The taps, the network and the content loss of `default`. Adam takes one loss and one gradient for each
# update whatever the loss is, so that only the style loss differs.
RECIPE = replace(
    nst.recipes.DEFAULT.replace(precision=FLOAT32), name="default (Adam)", descent=ADAM.descent
)
GRAM = "gram_mean_square"
# Style losses by their names in recipe files. Multiples of Gram losses cost the same as `GRAM`.
NAMES = (
    GRAM,
    "mean_and_covariance",
    "wasserstein_relative",
    "wasserstein_absolute",
    "channel_histograms",
    "sliced_wasserstein",
    "nearest_hypercolumns",
    "nearest_by_tap",
    "relaxed_transport",
)


def measure(plan: Plan) -> Findings:
    """Time updates by all style losses in turn, on canvases of each size."""
    params = nst.load_params()
    processor = jax.default_backend() == "cpu"
    notes = [
        "targets, and the matches of nearest_hypercolumns, are computed before the timed updates"
    ]
    if processor:
        notes.append("seconds are those of the processor, summed over its cores")
    return Findings([_row(params, size, plan, processor) for size in plan.sizes], notes)


def _row(params: nst.Params, size: int, plan: Plan, processor: bool) -> dict[str, Any]:
    loops = {name: Loop(problem(params, recipe_of(name), size)) for name in NAMES}
    seconds, _ = harness.alternate(
        {name: partial(loop.advance, plan.steps) for name, loop in loops.items()},
        plan.repeats,
        clock=time.process_time if processor else time.perf_counter,
    )
    return {
        "recipe": RECIPE.name,
        "size": [size, size],
        "clock": "processor" if processor else "wall",
        "outcome": outcome(loops[GRAM].state),
        "losses": {
            name: {
                "seconds_per_step": harness.per(seconds[name], plan.steps),
                "time_against_gram": harness.ratio(seconds[name], seconds[GRAM]),
                "compile_seconds": sum(loop.seconds.values()),
                "xla_bytes": counted(loop.program)["total"],
                "outcome": outcome(loop.state),
            }
            for name, loop in loops.items()
        },
    }


def recipe_of(name: str) -> nst.recipes.Recipe:
    """Return `RECIPE` with another style loss, whose parts or taps all have the same weight."""
    loss = nst.losses.STYLE_LOSSES[name]
    parts = getattr(loss, "parts", ()) or RECIPE.terms.style_taps
    terms = replace(
        RECIPE.terms, style_loss=loss, style_layer_weights=(1 / len(parts),) * len(parts)
    )
    return replace(RECIPE, name=name, terms=terms)
