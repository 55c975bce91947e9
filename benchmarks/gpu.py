"""One GPU in eight minutes: steps at each precision, PyTorch's, batches, a huge canvas, commands."""

import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks import batch, harness, pytorch, tiles, wall
from benchmarks.harness import Findings, Plan
from benchmarks.memory import counted
from benchmarks.peers import precisions
from benchmarks.problems import ADAM, LBFGS, Loop, pictures, problem
from benchmarks.report import gpu_cells

QUESTION = "What one device does within eight minutes, the most telling measurements first"
FULL = Plan(sizes=(256,), repeats=3, steps=2, batches=(4,), seconds=1200)
GPU = Plan(sizes=(512, 1024, 2048), repeats=5, steps=40, batches=(8,), huge=16384, seconds=480)
QUICK = Plan(sizes=(32,), repeats=2, steps=2, batches=(2,), compiled=False)

TILE = 2048  # side of the tiles of the huge canvas, in pixels
EAGER = pytorch.Variant(precision="tensorfloat32", channels_last=True)
COMPILED = tuple(
    pytorch.Variant(precision="bfloat16 weights", channels_last=last, compiled="max-autotune")
    for last in (False, True)
)

Json = dict[str, Any]
Task = tuple[str, Callable[[], Json]]


def measure(plan: Plan) -> Findings:
    """Measure one thing after another; one that fails, or has no time left, is named in a note."""
    torch = pytorch.has_torch()
    notes, rows, end = [], [], time.monotonic() + (plan.seconds or float("inf"))
    if not torch:
        notes.append(pytorch.ABSENT)
    for name, task in _tasks(nst.load_params(), plan, torch):
        if time.monotonic() > end:
            notes.append(f"not measured for lack of time: {name}")
            continue
        try:
            rows.append({"what": name, **task()})
            click.echo(f"  {' | '.join(next(gpu_cells(rows[-1])))}", err=True)
        except Exception as error:  # one failure must not end the other measurements
            line = (str(error).strip().splitlines() or [""])[0]
            notes.append(f"{name} was not measured: {type(error).__name__}: {line[:120]}")
        jax.clear_caches()
    return Findings(rows, notes, ("torch",) if torch else ())


def _tasks(params: nst.Params, plan: Plan, torch: bool) -> Iterator[Task]:
    first, *larger = plan.sizes
    command_steps = nst.recipes.presets.OWN_UPDATES if first > 100 else 2
    fast, *others = sorted(precisions(), key=("bfloat16", "tensorfloat32", "float32").index)
    step = partial(_step, params, plan)
    yield f"step, {fast}", partial(step, ADAM, fast, first)
    yield f"command, {fast}", partial(_command, command_steps, fast, first)
    for size in larger:
        yield f"step, {fast}", partial(step, ADAM, fast, size)
    yield f"step of `gram`, {fast}", partial(step, LBFGS, fast, first)
    for size in plan.sizes if "tensorfloat32" in others else ():
        yield "step, tensorfloat32", partial(step, ADAM, "tensorfloat32", size)
    for size in (256, first) if plan.huge else (first,):
        for count in plan.batches:
            many = partial(_many, params, plan, fast, size, count)
            yield f"{count} pictures at once, {fast}", many
    if torch:
        for size in {first, plan.sizes[-1]}:
            yield str(EAGER), partial(_torch, params, plan, EAGER, size)
        for variant in COMPILED if plan.compiled and pytorch.can_compile() else ():
            yield str(variant), partial(_torch, params, plan, variant, first)
    if plan.huge:
        yield f"step in tiles of {TILE} px, {fast}", partial(_huge, params, plan, fast)
    yield "step, float32", partial(step, ADAM, "float32", first)
    yield "command, float32", partial(_command, command_steps, "float32", first)


def _at(recipe: Any, precision: str, **network: Any) -> Any:
    named = nst.vgg.precision.precision_named(precision)
    options = {f"network__{name}": value for name, value in network.items()}
    return recipe.replace(network__precision=named, **options)


def _step(params: nst.Params, plan: Plan, recipe: Any, precision: str, size: int) -> Json:
    loop = Loop(problem(params, _at(recipe, precision), size))
    return _timed(loop, size, plan.steps, plan.repeats)


def _timed(loop: Loop, size: int, steps: int, repeats: int) -> Json:
    seconds, results = harness.alternate({"": partial(loop.advance, steps)}, repeats)
    return {
        "size": [size, size],
        "seconds": harness.per(seconds[""], steps),
        "megapixel_iterations_per_second": harness.rate(
            seconds[""], harness.megapixels(size) * steps
        ),
        "compile_seconds": sum(loop.seconds.values()),
        "temporary_bytes_per_pixel": counted(loop.program)["temporaries"] / size**2,
        "final_loss": float(results[""].total[-1]),
    }


def _command(steps: int, precision: str, size: int) -> Json:
    words = ("--recipe", wall.RECIPE, "--size", str(size), "--precision", precision)
    with tempfile.TemporaryDirectory() as folder:
        cold, warm = wall.cold_and_warm(words, steps, Path(folder))
    return {
        "size": cold["canvas"],
        "cold_seconds": cold["seconds"],
        "warm_seconds": warm["seconds"],
        "compile_seconds": cold["compile_seconds"],
        "final_loss": warm["final_loss"],
    }


def _many(params: nst.Params, plan: Plan, precision: str, size: int, count: int) -> Json:
    content, style = pictures(size)
    contents, recipe = batch.contents(content, count), _at(ADAM, precision)

    def paint() -> Any:
        return nst.stylize_many(
            params, contents, style, recipe=recipe, size="as-is", steps=plan.steps
        )

    seconds, results = harness.alternate({"": paint}, plan.repeats)
    iterations = count * (plan.steps + 1)  # the loss of the last canvas is computed too
    loss = batch.loss_of(params, content, style)
    return {
        "size": [size, size],
        "seconds": harness.per(seconds[""], iterations),
        "megapixel_iterations_per_second": harness.rate(
            seconds[""], iterations * harness.megapixels(size)
        ),
        "final_loss": loss(jnp.asarray(results[""][0])),
    }


def _torch(params: nst.Params, plan: Plan, variant: pytorch.Variant, size: int) -> Json:
    task = problem(params, ADAM, size)
    first, loop = harness.timed(lambda: _begun(pytorch.TorchLoop(task, variant)))
    work = {"": partial(loop.advance, plan.steps)}
    seconds, results = harness.alternate(work, plan.repeats)
    return {
        "size": [size, size],
        "seconds": harness.per(seconds[""], plan.steps),
        "megapixel_iterations_per_second": harness.rate(
            seconds[""], harness.megapixels(size) * plan.steps
        ),
        "compile_seconds": first,
        "final_loss": float(results[""][-1]),
    }


def _begun(loop: pytorch.TorchLoop) -> pytorch.TorchLoop:
    loop.advance(1)  # with `torch.compile`, this compiles
    return loop


def _huge(params: nst.Params, plan: Plan, precision: str) -> Json:
    loop = tiles.loop_of(params, plan.huge, TILE, recipe=_at(ADAM, precision))
    return _timed(loop, plan.huge, 1, 2)
