"""How long a whole picture takes from the shell to the saved file, and how much memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan

QUESTION = "Seconds from the shell to the saved file, imports and compiling included"
FULL = Plan(sizes=(256, 512), repeats=3, steps=nst.recipes.DEFAULT.descent.steps)
QUICK = Plan(sizes=(64,), repeats=1, steps=2)

PROGRAM = ("-m", "nst_jax")
RECIPE = "default"


def measure(plan: Plan) -> Findings:
    """Run the command line on the samples, in a fresh process and without a cache every time.

    A size is the longer side; at 256 it is what `nst-jax demo` does.
    """
    with tempfile.TemporaryDirectory() as folder:
        return Findings([_row(size, plan, Path(folder)) for size in plan.sizes])


def _row(size: int, plan: Plan, folder: Path) -> dict[str, Any]:
    runs = [_run(size, plan.steps, folder) for _ in range(plan.repeats)]
    return {
        "recipe": RECIPE,
        "size": runs[-1]["canvas"],
        "updates": plan.steps,
        "seconds": harness.spread([run["seconds"] for run in runs]),
        "compile_seconds": harness.spread([run["compile_seconds"] for run in runs]),
        "peak_gigabytes": harness.spread([run["peak_gigabytes"] for run in runs]),
        "final_loss": runs[-1]["final_loss"],
    }


def _run(size: int, steps: int, folder: Path) -> dict[str, Any]:
    log = folder / "log.jsonl"
    words = [
        *(str(nst.images.SAMPLES[name]) for name in ("chelsea", "starry_night")),
        *("--output", str(folder / "out.png"), "--log", str(log), "--quiet"),
        *("--recipe", RECIPE, "--size", str(size), "--steps", str(steps)),
    ]
    environment = {k: v for k, v in os.environ.items() if k != "JAX_COMPILATION_CACHE_DIR"}
    environment["PYTHONPATH"] = os.pathsep.join([str(harness.ROOT), *filter(None, sys.path)])
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *PROGRAM, "stylize", *words], env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the command line ended with exit code {process.returncode}")
    start, *_, last, end = (json.loads(line) for line in log.read_text("utf-8").splitlines())
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "canvas": start["size"][::-1],  # height, width
        "seconds": seconds,
        "compile_seconds": end["compile_seconds"],
        "peak_gigabytes": usage.ru_maxrss * unit / 1e9,
        "final_loss": last["total"],
    }
