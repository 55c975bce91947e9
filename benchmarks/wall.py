"""How long a whole picture takes from the shell to the saved file, and how much memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan

QUESTION = "Seconds from the shell to the saved file, imports and compiling included"
FULL = Plan(sizes=(256, 512), repeats=1, steps=nst.recipes.DEFAULT.descent.steps)
QUICK = Plan(sizes=(64,), repeats=1, steps=2)

PROGRAM = ("-m", "nst_jax")
# A process' peak memory includes its parent's from before it became itself; this parent is small.
LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""
RECIPE = "default"


def measure(plan: Plan) -> Findings:
    """Run the command line on the samples, in a fresh process every time.

    Cold is the first start on a machine, warm the second, which finds the first one's compiled
    programs. A size is the longer side; at 256 it is what `nst-jax demo` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Findings([_row(size, plan, Path(folder)) for size in plan.sizes])


def _row(size: int, plan: Plan, folder: Path) -> dict[str, Any]:
    pairs = [_cold_and_warm(size, plan.steps, folder) for _ in range(plan.repeats)]
    ways = dict(zip(("cold", "warm"), zip(*pairs, strict=True), strict=True))
    last = pairs[-1][-1]
    return {
        "recipe": RECIPE,
        "size": last["canvas"],
        "updates": plan.steps,
        "final_loss": last["final_loss"],
    } | {way: _figures(runs) for way, runs in ways.items()}


def _figures(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("seconds", "compile_seconds", "peak_gigabytes")
    return {name: harness.spread([run[name] for run in runs]) for name in names}


def _cold_and_warm(size: int, steps: int, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Run twice with a cache of programs that is empty at first."""
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        return _run(size, steps, folder, cache), _run(size, steps, folder, cache)


def _run(size: int, steps: int, folder: Path, cache: str) -> dict[str, Any]:
    log = folder / "log.jsonl"
    words = [
        *(str(nst.images.SAMPLES[name]) for name in ("chelsea", "starry_night")),
        *("--output", str(folder / "out.png"), "--log", str(log), "--quiet"),
        *("--recipe", RECIPE, "--size", str(size), "--steps", str(steps)),
    ]
    kept = {
        "JAX_ENABLE_COMPILATION_CACHE": "true",
        "JAX_COMPILATION_CACHE_DIR": cache,
        # As the command line sets it for the folder of its own; jax's default keeps fewer programs.
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    environment = os.environ | kept
    environment["PYTHONPATH"] = os.pathsep.join([str(harness.ROOT), *filter(None, sys.path)])
    begun = time.perf_counter()
    command = [sys.executable, "-c", LAUNCHER, sys.executable, *PROGRAM, "stylize", *words]
    process = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise RuntimeError(f"the command line ended with exit code {process.returncode}")
    start, *_, last, end = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "canvas": start["size"][::-1],  # height, width
        "seconds": seconds,
        "compile_seconds": end["compile_seconds"],
        "peak_gigabytes": int(process.stdout) * unit / 1e9,
        "final_loss": last["total"],
    }
