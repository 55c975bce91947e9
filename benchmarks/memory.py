"""Memory of a run: XLA's count, the peak of the process, and the estimate made before the run."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import ADAM, LBFGS, Loop, Problem, outcome, problem
from benchmarks.processes import LAUNCHER

QUESTION = "Peak memory of the loop by XLA's count and by the process, against the estimate"
FULL = Plan(sizes=(256, 512, 1024), repeats=1, steps=2)
QUICK = Plan(sizes=(64,), repeats=1, steps=1)

RECIPES = {"adam": ADAM, "lbfgs": LBFGS}
# Side of a canvas that takes almost no memory, so that the peak is that of weights and compiling.
BASELINE = 16


def measure(plan: Plan) -> Findings:
    """Run the loop at every size, each in a process of its own, so that peaks do not mix."""
    rows = []
    for name in RECIPES:
        baseline = [_run(name, BASELINE, plan.steps) for _ in range(plan.repeats)]
        for size in plan.sizes:
            found = [_run(name, size, plan.steps) for _ in range(plan.repeats)]
            rows.append(_row(name, size, found, baseline))
    note = (
        "XLA's count is temporaries, arguments and outputs, shared ones counted once; that of loss and "
        "gradient is the temporaries of these alone, without the optimiser"
    )
    return Findings(rows, [note])


def _row(
    name: str, size: int, found: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    last, pixels = found[-1], size * size
    peaks, below = (harness.spread([run["peak"] for run in runs]) for runs in (found, baseline))
    above = peaks["median"] - below["median"]
    estimated = last["estimate"]["total"] - baseline[-1]["estimate"]["total"]
    return {
        "recipe": RECIPES[name].name,
        "size": [size, size],
        "xla_bytes": last["xla"],
        "xla_bytes_per_pixel": last["xla"]["total"] / pixels,
        "gradient_bytes_per_pixel": last["gradient"] / pixels,
        "estimate_bytes": last["estimate"],
        # XLA does not count the workspace.
        "estimate_over_xla": (last["estimate"]["total"] - last["estimate"]["workspace"])
        / last["xla"]["total"],
        "peak_is_of": last["peak_is_of"],
        "peak_bytes": peaks,
        "baseline_peak_bytes": below,
        "peak_above_baseline_bytes": above,
        # A tiny canvas may not raise the peak above the noise of the baseline.
        "estimate_over_peak": estimated / above if above > 0 else None,
        "outcome": last["outcome"],
    }


def _run(name: str, size: int, steps: int) -> dict[str, Any]:
    """Run the loop in a new process and return what it measured."""
    command = [sys.executable, "-c", LAUNCHER, sys.executable, "-m", "benchmarks.memory"]
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(harness.ROOT), *filter(None, sys.path)]),
        # By default, JAX reserves most of an accelerator's memory; this process may hold part of it.
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "JAX_ENABLE_COMPILATION_CACHE": "false",
    }
    done = subprocess.run(
        [*command, name, str(size), str(steps)],
        cwd=harness.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{name} at {size} px ended with exit code {done.returncode}")
    return json.loads(done.stdout.splitlines()[0])


# --- In the new process ---------------------------------------------------------------------------


def _child(name: str, size: int, steps: int) -> dict[str, Any]:
    recipe = RECIPES[name]
    task = problem(nst.load_params(), recipe, size)
    loop = Loop(task)
    jax.block_until_ready(loop.advance(steps))
    peak, of = _peak()  # read before anything else is compiled
    estimate = nst.estimate_memory((size, size), recipe=recipe)
    parts = ("weights", "activations", "workspace", "state", "targets", "total")
    return {
        "xla": counted(loop.program),
        "gradient": _gradient(task),
        "estimate": {part: getattr(estimate, part) for part in parts},
        "peak": peak,
        "peak_is_of": of,
        "outcome": outcome(loop.state),
    }


def counted(program: Any) -> dict[str, int]:
    """Return the bytes that a compiled program takes by XLA's count."""
    found = program.memory_analysis()
    counted = {
        "temporaries": found.temp_size_in_bytes,
        "arguments": found.argument_size_in_bytes,
        "outputs": found.output_size_in_bytes,
        "shared": found.alias_size_in_bytes,
    }
    return counted | {"total": sum(counted.values()) - 2 * counted["shared"]}


def _gradient(task: Problem) -> int:
    """Return the bytes of XLA's temporaries in one evaluation of loss and gradient."""

    def loss(image: Any, params: Any, targets: Any, recipe: Any) -> Any:
        return nst.losses_of(params, image, targets, recipe).total

    # With the kernels' transposed and Winograd forms computed beforehand, as for the loop.
    params = nst.vgg.with_forms(task.params, task.recipe.terms.taps)
    arguments = task.content, params, task.targets, task.recipe
    compiled: Any = jax.jit(jax.value_and_grad(loss)).lower(*arguments).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def _peak() -> tuple[int, str]:
    """Return the peak memory so far in bytes, and "device", or "process" if no device counts it."""
    device = jax.devices()[0]
    stats = (device.memory_stats() or {}) if device.platform != "cpu" else {}
    if "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"], "device"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit, "process"


if __name__ == "__main__":
    recipe_name, side, count = sys.argv[1:]
    print(json.dumps(_child(recipe_name, int(side), int(count))))
