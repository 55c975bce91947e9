"""The cost of painting a picture in a larger array, and what a folder of many shapes gains by it."""

import json
import math
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import FLOAT32, LBFGS, PAIRS, Array, pictures
from benchmarks.processes import keeping_programs, launched

Json = dict[str, Any]

QUESTION = "The cost of a bucket for one step, and a folder of photographs with and without buckets"
# `steps` are the updates of the folder's pictures, `batches` their number.
FULL = Plan(sizes=(256, 512), repeats=5, steps=30, batches=(24,))
QUICK = Plan(sizes=(64,), repeats=1, steps=2, batches=(4,))

STEPS = 3  # in each timed round
RATIOS = (
    5 / 4,
    4 / 3,
    7 / 5,
    3 / 2,
    16 / 9,
    2.0,
)  # of the longer to the shorter side of photographs
RECIPE = "default"
CHOICES = ("off", "auto")
FEWEST = 4  # photographs of a folder, if a plan names no number


def measure(plan: Plan) -> Findings:
    """Time steps at every size, and the command `batch` on a folder at the first one.

    In the timed steps, the bucket's array is just as large as the picture, but the picture's size is
    still a value at runtime. So the difference is the cost of the masks alone, without any padding. The
    folder is painted by a new process every time, first with an empty cache of programs, then with a
    full one.
    """
    params = nst.load_params()
    rows = [
        _step(params, recipe, size, plan)
        for size in plan.sizes
        for recipe in (LBFGS, nst.recipes.DEFAULT.replace(precision=FLOAT32))
    ]
    count = plan.batches[0] if plan.batches else FEWEST
    with tempfile.TemporaryDirectory() as name:
        photos = _photographs(Path(name) / "photos", count)
        for bucket in CHOICES:
            rows += _folder(photos, bucket, plan, Path(name))
    note = "a program is a compiled loop; the peak is that of the process, compiling included"
    return Findings(rows, [note])


# --- One step -------------------------------------------------------------------------------------


def _step(params: nst.Params, recipe: Any, size: int, plan: Plan) -> Json:
    content, style = pictures(size)
    core = nst.recipes.as_arrays(recipe.bare())
    formed = nst.vgg.with_forms(
        params,
        core.terms.taps,
        shape=(size, size),
        precision=core.network.precision_on(),
    )
    real = jnp.asarray([size, size], jnp.int32)
    sizes: dict[str, Json] = {"exact": {}, "bucket": {"size": real, "style_sizes": [real]}}
    measured = jax.jit(nst.measure, compiler_options=dict(nst.compiler_options()))
    loops = {
        name: _Loop(formed, content, measured(params, content, style, core, **given), core)
        for name, given in sizes.items()
    }
    seconds, _ = harness.alternate(
        {name: partial(loop.advance, STEPS) for name, loop in loops.items()}, plan.repeats
    )
    # The first losses are compared, since rounding errors grow from update to update.
    harness.check_equal({name: loop.first for name, loop in loops.items()}, "exact")
    return {
        "what": "step",
        "recipe": recipe.name,
        "size": [size, size],
        "seconds_per_step": {name: harness.per(times, STEPS) for name, times in seconds.items()},
        "time_of_bucket": harness.ratio(seconds["bucket"], seconds["exact"]),
        "compile_seconds": {name: loop.seconds for name, loop in loops.items()},
        "first_loss": {name: loop.first for name, loop in loops.items()},
        "final_loss": float(loops["bucket"].state.losses.total),
    }


class _Loop:
    """A run of the compiled loop that continues from its last state."""

    def __init__(self, params: nst.Params, content: Array, targets: nst.Targets, recipe: Any):
        self._arguments = params, targets, recipe
        self.state = jax.jit(nst.init)(content, recipe)
        example = params, self.state, targets, recipe, jnp.asarray(1)
        self._program, self.seconds = harness.compiled(nst.run, *example)
        self.first = math.nan  # the loss of the first canvas, once it is known

    def advance(self, steps: int) -> Any:
        params, targets, recipe = self._arguments
        arguments = params, self.state, targets, recipe, jnp.asarray(steps)
        self.state, history = self._program(*arguments)
        if math.isnan(self.first):
            self.first = float(history.total[0])
        return self.state.losses.total


# --- A folder -------------------------------------------------------------------------------------


def _photographs(folder: Path, count: int) -> Path:
    """Write parts of sample pictures of twelve shapes, half of them upright; return the folder."""
    folder.mkdir()
    names = [content for content, _ in PAIRS[:2]] + [PAIRS[1][1]]
    for index in range(count):
        image = (np.asarray(nst.images.sample(names[index % len(names)])) * 255).round()
        ratio, upright = RATIOS[index // 2 % len(RATIOS)], index % 2
        part = image.astype(np.uint8)
        part = part.transpose(1, 0, 2) if upright else part
        height, width = part.shape[:2]
        wanted = 1 / ratio if upright else ratio  # width / height
        if width > wanted * height:
            part = part[:, : round(wanted * height)]
        else:
            part = part[: round(width / wanted)]
        part = part[:, ::-1] if index >= 2 * len(RATIOS) else part
        Image.fromarray(part).save(folder / f"photo{index:02}.png")
    return folder


def _folder(photos: Path, bucket: str, plan: Plan, place: Path) -> list[Json]:
    rows = []
    with tempfile.TemporaryDirectory(dir=place) as cache:
        for start in ("cold", "warm"):
            found = _batch(photos, bucket, plan, place / f"{bucket}-{start}", cache)
            rows.append({"what": f"folder, {bucket}, {start}"} | found)
    return rows


def _batch(photos: Path, bucket: str, plan: Plan, output: Path, cache: str) -> Json:
    size = plan.sizes[0]
    command = [
        *(sys.executable, "-m", "nst_jax", "batch", str(photos)),
        *("--styles", str(nst.images.SAMPLES["starry_night"]), "-o", str(output), "--quiet"),
        *("--recipe", RECIPE, "--size", str(size), "--steps", str(plan.steps), "--bucket", bucket),
    ]
    environment = keeping_programs(cache)
    seconds, peak, _ = launched(command, environment)
    lines = (output / "results.jsonl").read_text("utf-8").splitlines()
    totals = totals_of([json.loads(line) for line in lines])
    return {
        "recipe": RECIPE,
        "size": [size, size],
        "photographs": len(totals),
        "shapes": len({Image.open(path).size for path in output.glob("photo*.png")}),
        "updates": plan.steps,
        "seconds": seconds,
        "programs": len(list(Path(cache).glob("*run_many*-cache"))),
        "peak_gigabytes": peak,
        "final_loss": sum(totals) / len(totals),
    }


def totals_of(records: Sequence[Json]) -> list[float]:
    """Return the total loss at the end of each picture; raise if a row is not done."""
    bad = [record for record in records if record["status"] != "done"]
    if bad:
        raise RuntimeError(f"{len(bad)} pictures were not painted, such as {bad[0]}")
    return [record["losses"]["total"] for record in records]
