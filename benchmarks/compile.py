"""Time to compile the optimisation loop, and the cost of a call once it is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.compilation_cache import compilation_cache

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, LBFGS, Loop, Problem, outcome, problem

QUESTION = "Seconds to trace, lower and compile the loop, and to call it when that is done"
FULL = Plan(sizes=(256, 512), repeats=3, steps=1)
QUICK = Plan(sizes=(64,), repeats=1, steps=1)

SETTING = "jax_enable_compilation_cache"
CALLS = 20  # calls of zero steps in a round, since a single one is too short to time


def measure(plan: Plan) -> Findings:
    """Time tracing, lowering, compiling, the first step, and calls of zero steps."""
    params = nst.load_params()
    rows = []
    # Otherwise programs could be read from the cache on disk instead of being compiled. JAX reads the
    # setting once in a process, and again only after a reset.
    cached = getattr(jax.config, SETTING)
    jax.config.update(SETTING, False)
    compilation_cache.reset_cache()
    try:
        for size in plan.sizes:
            for recipe in (ADAM, LBFGS):
                rows.append(_row(recipe.name, problem(params, recipe, size), size, plan))
    finally:
        jax.config.update(SETTING, cached)
        compilation_cache.reset_cache()
    return Findings(rows)


def _row(name: str, problem: Problem, size: int, plan: Plan) -> dict[str, Any]:
    loops = [_cold(problem) for _ in range(plan.repeats)]
    stages = {
        stage: harness.spread([loop.seconds[stage] for loop in loops])
        for stage in ("trace", "lower", "compile")
    }
    loop = loops[-1]
    first, _ = harness.timed(lambda: loop.advance(plan.steps))
    return {
        "recipe": name,
        "size": [size, size],
        "seconds": stages | {"all": harness.spread([sum(w.seconds.values()) for w in loops])},
        "first_step_seconds": first / plan.steps,
        "next_call_seconds": harness.per(_empty_calls(problem, plan), CALLS),
        "outcome": outcome(loop.state),
    }


def _cold(problem: Problem) -> Loop:
    jax.clear_caches()  # otherwise JAX would reuse parts of earlier traces
    return Loop(problem)


def _empty_calls(problem: Problem, plan: Plan) -> list[float]:
    """Time calls of the jitted function with zero steps: looking up the program and calling it."""
    run = jax.jit(nst.run, donate_argnums=1)
    state, none = problem.state(), jnp.asarray(0)

    def calls() -> nst.State:
        nonlocal state
        for _ in range(CALLS):
            state, _ = run(problem.params, state, problem.targets, problem.recipe, none)
        return state

    seconds, _ = harness.alternate({"calls": calls}, plan.repeats)
    return seconds["calls"]
