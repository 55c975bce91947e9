"""Whether a picture takes less time in a batch than on its own."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, Array, pictures

QUESTION = "Throughput of `stylize_many` by batch size, against `stylize` on one picture"
FULL = Plan(sizes=(128, 256), repeats=3, steps=2, batches=(1, 2, 4, 8))
GPU = Plan(sizes=(256, 512), repeats=3, steps=40, batches=(1, 2, 4, 8, 16))
QUICK = Plan(sizes=(48,), repeats=2, steps=2, batches=(2,))

TOLERANCE = 1e-2  # largest relative difference of a picture's final losses, in a batch and alone


def measure(plan: Plan) -> Findings:
    """Time batches of different contents with one style.

    The times include measuring the targets, but not compiling.
    """
    params = nst.load_params()
    rows = [row for size in plan.sizes for row in _rows(params, size, plan)]
    note = "times include measuring the targets, which a longer run spreads over more steps"
    return Findings(rows, [note])


def _rows(params: nst.Params, size: int, plan: Plan) -> list[dict[str, Any]]:
    content, style = pictures(size)
    work: dict[str, Callable[[], Any]] = {
        "0": partial(_stylize, params, content, style, plan),
    }
    for count in plan.batches:
        batch = contents(content, count)
        work[str(count)] = partial(_stylize_many, params, batch, style, plan)
    seconds, images = harness.alternate(work, plan.repeats)
    loss = loss_of(params, content, style)
    finals = {n: loss(images[str(n)][0] if n else images["0"]) for n in (0, *plan.batches)}
    _check_parity(finals)
    return [
        _figures(count, seconds, size, plan) | {"final_loss": final}
        for count, final in finals.items()
    ]


def _stylize(params: nst.Params, content: Array, style: Array, plan: Plan) -> Array:
    return nst.stylize(params, content, style, recipe=ADAM, size="as-is", steps=plan.steps)


def _stylize_many(params: nst.Params, batch: Array, style: Array, plan: Plan) -> Any:
    return nst.stylize_many(params, batch, style, recipe=ADAM, size="as-is", steps=plan.steps)


def _check_parity(finals: dict[int, float]) -> None:
    for count, final in finals.items():
        if not abs(final / finals[0] - 1) <= TOLERANCE:
            raise RuntimeError(
                f"batch of {count}: its first picture ends with a loss of {final:.6g}, alone with "
                f"{finals[0]:.6g}; times of different work are not compared"
            )


def contents(content: Array, count: int) -> Array:
    """Return `count` different pictures: the content turned and mirrored, [count, s, s, 3]."""
    turned = [jnp.rot90(content, turns) for turns in range(4)]
    eight = turned + [picture[:, ::-1] for picture in turned]
    return jnp.stack([eight[index % 8] for index in range(count)])


def loss_of(params: nst.Params, content: Array, style: Array) -> Callable[[Array], float]:
    """Return a function that computes the total loss of a picture, in float32."""
    core = nst.recipes.as_arrays(ADAM.bare())
    targets = jax.jit(nst.measure)(params, content, style, core)
    losses_of = jax.jit(nst.losses_of)
    return lambda image: float(losses_of(params, image, targets, core).total)


def _figures(count: int, seconds: dict[str, list[float]], size: int, plan: Plan) -> dict[str, Any]:
    times, number = seconds[str(count)], max(1, count)
    iterations = number * (plan.steps + 1)  # the loss of the last canvas is computed too
    one_by_one = [time * number for time in seconds["0"]]
    return {
        "recipe": ADAM.name,
        "size": [size, size],
        "verb": "stylize_many" if count else "stylize",
        "batch": number,
        "seconds_per_picture": harness.per(times, number),
        "picture_iterations_per_second": harness.rate(times, iterations),
        "megapixel_iterations_per_second": harness.rate(
            times, iterations * harness.megapixels(size)
        ),
        "speed_against_one_by_one": harness.ratio(one_by_one, times),
    }
