"""One GPU in eight minutes: steps, PyTorch's too, batches, a huge canvas, whole pictures, commands."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import click
import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks import batch, harness, pytorch, tiles, wall
from benchmarks.apart import Apart
from benchmarks.harness import Findings, Plan
from benchmarks.memory import counted
from benchmarks.peers import precisions
from benchmarks.problems import ADAM, LBFGS, Loop, pictures, problem
from benchmarks.report import gpu_cells

QUESTION = "What one device does within eight minutes, the most telling measurements first"
# All 2000 updates that `crowsonkb` makes at 256 px may take a CPU longer than `SHARE` of the time.
FULL = Plan(sizes=(256,), repeats=3, steps=2, batches=(4,), seconds=1200, picture_steps=40)
GPU = Plan(sizes=(512, 1024, 2048), repeats=5, steps=40, batches=(8,), huge=16384, seconds=480)
QUICK = Plan(sizes=(32,), repeats=2, steps=2, batches=(2,), compiled=False, picture_steps=2)

PICTURE = "picture by `crowsonkb`"
TILE = 2048  # side of the tiles of the huge canvas, in pixels
EAGER = tuple(
    pytorch.Variant(precision="tensorfloat32", channels_last=last) for last in (True, False)
)
COMPILED = tuple(
    pytorch.Variant(precision="bfloat16 weights", channels_last=last, compiled="max-autotune")
    for last in (False, True)
)

# No measurement takes longer than this share of the plan's time, so that one that hangs, or compiles
# without end, leaves time for others.
SHARE = 1 / 3

Json = dict[str, Any]
Task = tuple[str, Callable[[], Json]]

_params = cache(nst.load_params)


def measure(plan: Plan) -> Iterator[Findings]:
    """Measure one thing after another; yield after each of them all that is found so far.

    Each is measured in a second process. One that fails, crashes the process or takes too long is named
    in a note, and so is one for which there is no time left.
    """
    rows: list[Json] = []
    notes: list[str] = []
    begun = time.monotonic()
    with Apart() as apart:
        # A TPU serves a single process.
        call = _call if jax.default_backend() == "tpu" else apart.call
        torch = _torch_works(call, min(120.0, plan.seconds or 120.0), notes)
        tasks = list(_tasks(plan, torch))
        for index, (name, task) in enumerate(tasks, 1):
            left = plan.seconds - (time.monotonic() - begun) if plan.seconds else None
            if left is not None and left <= 0:
                notes.append(f"not measured for lack of time: {name}")
            else:
                longest = None if left is None else min(left, SHARE * plan.seconds)
                _measure_one(partial(call, partial(_alone, task), longest), name, rows, notes)
            rest = [f"not measured, as the run ended before: {name}" for name, _ in tasks[index:]]
            yield Findings([*rows], notes + rest, ("torch",) if torch else ())


def _measure_one(
    measured: Callable[[], Json], name: str, rows: list[Json], notes: list[str]
) -> None:
    """Add a row, or a note that says why there is none."""
    try:
        row = {"what": name, **measured()}
        json.dumps(row, allow_nan=False)
    except Exception as error:  # one failure must not end the other measurements
        lines = str(error).strip().splitlines() or [type(error).__name__]
        notes.append(f"{name} was not measured: {lines[0][:160]}")
        return
    rows.append(row)
    click.echo(f"  {' | '.join(next(gpu_cells(row)))}", err=True)


def _call(function: Callable[[], Any], seconds: float | None = None) -> Any:
    del seconds
    return function()


def _alone(task: Callable[[], Json]) -> Json:
    """Return the figures of a task, and drop its programs."""
    try:
        return task()
    finally:
        jax.clear_caches()


def _torch_works(call: Callable[..., bool], seconds: float, notes: list[str]) -> bool:
    """Return whether torch can be measured; if not, add a note. Importing it may fail, too."""
    try:
        works, note = call(pytorch.has_torch, seconds), pytorch.ABSENT
    except Exception as error:  # a library that torch loads may fail in any way
        works, note = False, f"torch was not measured: {error}"
    if not works:
        notes.append(note)
    return works


def _tasks(plan: Plan, torch: bool) -> Iterator[Task]:
    first, *larger = plan.sizes
    command_steps = nst.recipes.presets.OWN_UPDATES if first > 100 else 2
    fast, *others = sorted(precisions(), key=("bfloat16", "tensorfloat32", "float32").index)

    def step(recipe: str, precision: str, size: int) -> Callable[[], Json]:
        return partial(_step, plan, recipe, precision, size)

    yield f"step, {fast}", step("tf", fast, first)
    yield f"command, {fast}", partial(_command, command_steps, fast, first)
    for size in larger:
        yield f"step, {fast}", step("tf", fast, size)
    yield f"step of `gram`, {fast}", step("gram", fast, first)
    for size in plan.sizes if "tensorfloat32" in others else ():
        yield "step, tensorfloat32", step("tf", "tensorfloat32", size)
    for size in (256, first) if plan.huge else (first,):
        for count in plan.batches:
            yield f"{count} pictures at once, {fast}", partial(_many, plan, fast, size, count)
    if torch:
        for variant in EAGER:
            for size in dict.fromkeys((first, plan.sizes[-1])):
                yield str(variant), partial(_torch, plan, variant, size)
        yield f"{PICTURE}, PyTorch", partial(_torch_picture, plan, first)
    precision = nst.recipes.CROWSONKB.network.precision_on(jax.default_backend()).name
    yield f"{PICTURE}, {precision}", partial(_picture, plan, first)
    if torch:
        for variant in COMPILED if plan.compiled and pytorch.can_compile() else ():
            yield str(variant), partial(_torch, plan, variant, first)
    if plan.huge:
        yield f"step in tiles of {TILE} px, {fast}", partial(_huge, plan, fast)
    yield "step, float32", step("tf", "float32", first)
    yield "command, float32", partial(_command, command_steps, "float32", first)


RECIPES = {"tf": ADAM, "gram": LBFGS}


def _at(recipe: Any, precision: str, **network: Any) -> Any:
    named = nst.vgg.precision.precision_named(precision)
    options = {f"network__{name}": value for name, value in network.items()}
    return recipe.replace(network__precision=named, **options)


def _step(plan: Plan, recipe: str, precision: str, size: int) -> Json:
    loop = Loop(problem(_params(), _at(RECIPES[recipe], precision), size))
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


def _many(plan: Plan, precision: str, size: int, count: int) -> Json:
    params = _params()
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


def _torch(plan: Plan, variant: pytorch.Variant, size: int) -> Json:
    task = problem(_params(), ADAM, size)
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


def _torch_picture(plan: Plan, size: int) -> Json:
    """Paint by the loop of the recipe's source."""
    from benchmarks import torch_crowsonkb as peer

    recipe = _crowsonkb(plan)
    painter = peer.Painter(_params(), recipe)

    def painting(recipe: nst.recipes.Recipe) -> Callable[[], float]:
        scales = peer.scales_of(recipe, *pictures(size))
        return lambda: float(painter.paint(scales).losses[-1])

    return _painted(painting, recipe, size)


def _picture(plan: Plan, size: int) -> Json:
    """Paint with the defaults of `nst.paint`, which compile a program for each scale of this recipe."""
    params, (content, style) = _params(), pictures(size)

    def painting(recipe: nst.recipes.Recipe) -> Callable[[], float]:
        def paint() -> float:
            every = _updates(recipe, size)  # no picture is made before the end
            shots = nst.paint(params, content, style, recipe=recipe, size="as-is", every=every)
            last = shots.finish()
            jax.block_until_ready(last.image)
            return float(last.losses.total)

        return paint

    return _painted(painting, _crowsonkb(plan), size)


def _crowsonkb(plan: Plan) -> nst.recipes.Recipe:
    """Return the recipe with the plan's number of updates, and precision by the platform."""
    return nst.recipes.CROWSONKB.replace(steps=plan.picture_steps or None)


def _updates(recipe: nst.recipes.Recipe, size: int) -> int:
    return sum(updates for _, updates in recipe.descent.plan((size, size), (size, size)))


def _painted(
    painting: Callable[[nst.recipes.Recipe], Callable[[], float]],
    recipe: nst.recipes.Recipe,
    size: int,
) -> Json:
    """Time a whole picture once, after one with a single update at each scale, which compiles.

    Args:
      painting: returns a function that paints by a recipe and returns the loss of the result.
      recipe: the recipe.
      size: side of the picture.
    """
    scales = len(recipe.descent.plan((size, size), (size, size)))
    first, _ = harness.timed(painting(recipe.replace(steps=scales)))
    seconds, loss = harness.timed(painting(recipe))
    return {
        "size": [size, size],
        "updates": _updates(recipe, size),
        "picture_seconds": seconds,
        "compile_seconds": first,
        "final_loss": loss,
    }


def _huge(plan: Plan, precision: str) -> Json:
    loop = tiles.loop_of(_params(), plan.huge, TILE, recipe=_at(ADAM, precision))
    return _timed(loop, plan.huge, 1, 2)
