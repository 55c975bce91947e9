"""Speed of our step against PyTorch's and TensorFlow's, at precisions with a good final loss."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness, pytorch, tensorflow_tutorial
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, Loop, Problem, problem

QUESTION = (
    "Megapixel-iterations per second at the best precision whose final loss is within 1 % of "
    "float32's, against the best of PyTorch's and TensorFlow's"
)
FULL = Plan(sizes=(256, 512), repeats=3, steps=5)
GPU = Plan(sizes=(512, 1024), repeats=5, steps=40)
QUICK = Plan(sizes=(64,), repeats=2, steps=2, compiled=False)

# Our precisions. Final losses, except those of TensorFlow's tutorial, are compared with the first's.
PRECISIONS = ("float32", "tensorfloat32", "bfloat16")
WITHIN = 0.01  # largest relative difference of a good final loss from its reference
REFERENCES = (
    "TensorFlow's tutorial uses Keras' Adam: its final losses are compared with those of our float32 "
    "run with that rule, the others' with those of our run with torch's Adam"
)

OURS = "nst_jax, "  # the beginning of our contestants' names
# Our run with the Adam of Keras, as in TensorFlow's tutorial. It is not timed, but gives the final loss
# that the tutorial has to reach.
TUTORIAL = "nst_jax, float32, Keras' Adam"

Contestant = Loop | pytorch.TorchLoop | tensorflow_tutorial.TensorFlowLoop
Makers = dict[str, Callable[[], Contestant]]


def ours(params: nst.Params, precision: str, size: int) -> Loop:
    """Return our compiled loop at a precision, one of `PRECISIONS`."""
    network = replace(ADAM.network, precision=nst.vgg.precision.precision_named(precision))
    return Loop(problem(params, replace(ADAM, network=network), size))


def precisions() -> tuple[str, ...]:
    """Return those of `PRECISIONS` that this device has."""
    on_processor = jax.default_backend() == "cpu"  # CPUs have no tensorfloat32
    return tuple(name for name in PRECISIONS if not (on_processor and name == "tensorfloat32"))


def measure(plan: Plan) -> Findings:
    """Time all variants in turn, and compute their final losses in float32."""
    params, torch = nst.load_params(), pytorch.has_torch()
    tensorflow = tensorflow_tutorial.has_tensorflow()
    rows, notes = [], [] if torch else [pytorch.ABSENT]
    if torch and not plan.compiled:
        notes.append("a quick pass does not measure torch.compile, which takes minutes")
    elif torch and not pytorch.can_compile():
        notes.append("there is no C++ compiler: torch.compile was not measured")
    notes.append(REFERENCES if tensorflow else tensorflow_tutorial.ABSENT)
    for size in plan.sizes:
        row, failures = _row(params, size, plan, torch, tensorflow)
        rows.append(row)
        notes += [failure for failure in failures if failure not in notes]
    packages = ("torch",) if torch else ()
    return Findings(rows, notes, packages + (tensorflow_tutorial.packages() if tensorflow else ()))


def _row(
    params: nst.Params, size: int, plan: Plan, torch: bool, tensorflow: bool
) -> tuple[dict[str, Any], list[str]]:
    task, reference = problem(params, ADAM, size), _name(PRECISIONS[0])
    makers: Makers = {
        _name(precision): partial(ours, params, precision, size) for precision in precisions()
    }
    if torch:
        compiled = plan.compiled and pytorch.can_compile()
        found = pytorch.variants(jax.default_backend(), compiled=compiled)
        makers |= {str(variant): partial(pytorch.TorchLoop, task, variant) for variant in found}
    tutorial = tensorflow_tutorial.with_its_rule(task)
    tutorials: Makers = {
        str(variant): partial(tensorflow_tutorial.TensorFlowLoop, tutorial, variant)
        for variant in tensorflow_tutorial.variants(jax.default_backend())
        if tensorflow
    }
    loops, first, failures = started(makers | tutorials)
    seconds, _ = harness.alternate(
        {name: partial(loop.advance, plan.steps) for name, loop in loops.items()}, plan.repeats
    )
    judge = judge_of(task)
    finals = {name: judge(_picture(loop)) for name, loop in loops.items()}
    references = {name: TUTORIAL if name in tutorials else reference for name in finals}
    if TUTORIAL in references.values():
        finals[TUTORIAL] = judge(_picture(_loop_after_all_updates(tutorial, plan)))
    check_parity(finals, references)
    work = harness.megapixels(size) * plan.steps
    contestants = {
        name: {
            "megapixel_iterations_per_second": harness.rate(times, work),
            "first_step_seconds": first[name],
            "final_loss": finals[name],
            "reference_loss": finals[references[name]],
            "distance": finals[name] / finals[references[name]] - 1,
            "within": within(finals, name, references[name]),
        }
        for name, times in seconds.items()
    }
    row = {
        "recipe": ADAM.name,
        "size": [size, size],
        "updates": 1 + plan.steps * (plan.repeats + 1),  # first step, warm-up, rounds
        "final_loss": finals[reference],
        "contestants": contestants,
    }
    kept = {name: times for name, times in seconds.items() if contestants[name]["within"]}
    return row | comparison(kept, [_name(precision) for precision in PRECISIONS]), failures


def _name(precision: str) -> str:
    return f"{OURS}{precision}"


def _loop_after_all_updates(task: Problem, plan: Plan) -> Loop:
    """Return our loop after as many updates as every timed contestant has taken."""
    loop = Loop(task)
    loop.advance(1)
    for _ in range(1 + plan.repeats):
        loop.advance(plan.steps)
    return loop


def started(
    makers: Mapping[str, Callable[[], Contestant]],
) -> tuple[dict[str, Contestant], dict[str, float], list[str]]:
    """Make every contestant and take its first step, which is what compiles it.

    Returns:
      Names to contestants, names to seconds of the first step, and a note for every peer that failed.
    """
    loops, seconds, failures = {}, {}, []
    for name, make in makers.items():

        def start(make: Callable[[], Contestant] = make) -> Contestant:
            loop = make()
            loop.advance(1)
            return loop

        try:
            seconds[name], loops[name] = harness.timed(start)
        except RuntimeError as error:  # such as one of a compiler
            if name.startswith(OURS):
                raise
            lines = str(error).strip().splitlines() or [type(error).__name__]
            failures.append(f"{name} was not measured: {lines[0][:120]}")
    return loops, seconds, failures


def _picture(loop: Contestant) -> Any:
    if not isinstance(loop, Loop):
        return loop.picture()
    # The pending canvas is one update after the last measured one, and so are the peers' canvases.
    return loop.problem.recipe.descent.coordinates.decode(loop.state.pending)


def judge_of(task: Problem) -> Callable[[Any], float]:
    """Return a function that computes the total loss of a picture, in float32."""
    losses_of = jax.jit(nst.losses_of)
    return lambda image: float(
        losses_of(task.params, jax.numpy.asarray(image), task.targets, task.recipe).total
    )


def within(finals: Mapping[str, float], name: str, reference: str) -> bool:
    """Return whether a contestant's final loss is as good as its reference's; NaN is not."""
    return bool(abs(finals[name] / finals[reference] - 1) <= WITHIN)


def check_parity(finals: Mapping[str, float], references: Mapping[str, str]) -> None:
    """Refuse to compare if the final loss of a float32 contestant is not that of its reference.

    Args:
      finals: names of contestants and of references to their final losses.
      references: names of contestants to the names of their references.

    Raises:
      RuntimeError: naming the contestant.
    """
    for name, reference in references.items():
        if ", float32" in name and not within(finals, name, reference):
            raise RuntimeError(
                f"{name}: its final loss is {finals[name]:.6g}, that of {reference} "
                f"{finals[reference]:.6g}; times of different work are not compared"
            )


def comparison(seconds: Mapping[str, list[float]], own: Iterable[str]) -> dict[str, Any]:
    """Compare our fastest contestant with the fastest peer, among those with good final losses."""
    names = set(own)
    best = [
        min(group, key=lambda name: float(np.median(seconds[name])), default=None)
        for group in (
            [name for name in seconds if name in names],
            [name for name in seconds if name not in names],
        )
    ]
    if best[0] is None or best[1] is None:
        return {}
    return {
        "best": best[0],
        "best_peer": best[1],
        "speed_against_peer": harness.ratio(seconds[best[1]], seconds[best[0]]),
    }
