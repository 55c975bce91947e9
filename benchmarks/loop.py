"""Whether a step takes longer inside the compiled loop than as a program of its own."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, Loop, SingleSteps, outcome, problem

QUESTION = "A step inside one compiled run of n, against n compiled single steps"
FULL = Plan(sizes=(256,), repeats=5, steps=3)
GPU = Plan(sizes=(512,), repeats=5, steps=40)
QUICK = Plan(sizes=(64,), repeats=2, steps=2)


def autodiff_padded(
    x: jax.Array,
    kernel: jax.Array,
    forms: Mapping[str, jax.Array] | None = None,
    products: jax.lax.Precision = jax.lax.Precision.HIGHEST,
) -> jax.Array:
    """Convolve as the network does by default, but with autodiff's gradient, not the network's rule."""
    del forms
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=products,
    )


def measure(plan: Plan) -> Findings:
    """Time runs and single steps, with the network's gradient rule of convolutions and autodiff."""
    params = nst.load_params()
    return Findings([row for size in plan.sizes for row in _rows(params, size, plan)])


def _rows(params: nst.Params, size: int, plan: Plan) -> list[dict[str, Any]]:
    network = replace(ADAM.network, padding=autodiff_padded)
    variants = {"own rule": ADAM, "autodiff": replace(ADAM, network=network)}
    loops = {
        (variant, form): kind(problem(params, recipe, size, winograd=False))
        for variant, recipe in variants.items()
        for form, kind in (("run", Loop), ("steps", SingleSteps))
    }
    seconds, _ = harness.alternate(
        {" ".join(key): partial(loop.advance, plan.steps) for key, loop in loops.items()},
        plan.repeats,
    )
    rows = []
    for variant in variants:
        run, single = seconds[f"{variant} run"], seconds[f"{variant} steps"]
        rows.append(
            {
                "recipe": ADAM.name,
                "size": [size, size],
                "convolution_gradient": variant,
                "run_seconds_per_step": harness.per(run, plan.steps),
                "single_seconds_per_step": harness.per(single, plan.steps),
                "run_over_single": harness.ratio(run, single),
                "outcome": outcome(loops[variant, "run"].state),
                "outcome_single": outcome(loops[variant, "steps"].state),
            }
        )
    return rows
