"""What our special methods of computing a step gain: times of the step without some of them."""

from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.loop import autodiff_padded
from benchmarks.memory import counted
from benchmarks.problems import ADAM, Loop, Problem, problem

QUESTION = "Seconds per step of the compiled loop without some special methods, against all of them"
FULL = Plan(sizes=(256, 512), repeats=5, steps=2)
GPU = Plan(sizes=(512, 1024), repeats=5, steps=40)
QUICK = Plan(sizes=(64,), repeats=2, steps=2)

OURS = "all"
# Steps that are taken before timing, to compare the last losses; later losses differ by rounding.
FIRST = 3


def measure(plan: Plan) -> Findings:
    """Time the step with all special methods, in turn with steps that lack some of them."""
    params = nst.load_params()
    return Findings([_row(params, size, plan) for size in plan.sizes])


def _row(params: nst.Params, size: int, plan: Plan) -> dict[str, Any]:
    loops = {name: Loop(task) for name, task in variants(params, size).items()}
    first = {name: float(loop.advance(FIRST).total[-1]) for name, loop in loops.items()}
    harness.check_equal(first, OURS)
    work = {name: partial(loop.advance, plan.steps) for name, loop in loops.items()}
    seconds, results = harness.alternate(work, plan.repeats)
    return {
        "recipe": ADAM.name,
        "size": [size, size],
        "final_loss": float(results[OURS].total[-1]),
        "ways": {
            name: {
                "seconds_per_step": harness.per(seconds[name], plan.steps),
                "time_against_all": harness.ratio(seconds[name], seconds[OURS]),
                "compile_seconds": sum(loop.seconds.values()),
                "xla_bytes": counted(loop.program)["total"],
            }
            for name, loop in loops.items()
        },
    }


def variants(params: nst.Params, size: int) -> dict[str, Problem]:
    """Return versions of one problem by name: with all special methods, and without some of them.

    Winograd convolution is not used on accelerators, so the first two variants are the same there.
    """
    network = ADAM.network
    autodiff = replace(ADAM, network=replace(network, padding=autodiff_padded))
    pooled = replace(ADAM, network=replace(network, pool=window_pool))
    style_loss = ADAM.terms.statistic_loss._replace(sums=autodiff_gram)
    summed = replace(ADAM, terms=replace(ADAM.terms, style_loss=style_loss))
    plain = replace(summed, network=replace(network, padding=autodiff_padded, pool=window_pool))
    return {
        OURS: problem(params, ADAM, size),
        "no Winograd": problem(params, ADAM, size, winograd=False),
        "no Winograd, convolutions' gradient by autodiff": problem(
            params, autodiff, size, winograd=False
        ),
        "pooling by windows": problem(params, pooled, size),
        "Gram matrices' gradient by autodiff": problem(params, summed, size),
        "none of these": problem(params, plain, size, winograd=False),
    }


def window_pool(x: jax.Array, ceil: bool) -> jax.Array:
    """Pool by the maximum of 2 x 2 windows with `reduce_window`, whose gradient is autodiff's."""
    edges = ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)) if ceil else "VALID"
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), edges)


def autodiff_gram(features: jax.Array, products: jax.lax.Precision) -> jax.Array:
    """Compute FᵀF of features F as `losses.gram` does, but with the gradient of autodiff."""
    return jnp.einsum("...hwc,...hwd->...cd", features, features, precision=products)
