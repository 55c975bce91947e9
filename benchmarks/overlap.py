"""How much of the time that `batch` spends on files is hidden behind the device's work.

While `batch` paints a group of pictures, one thread reads the next group and another one writes the
last group. If that works perfectly, reading and writing add nothing to the time of a long batch. For n
pictures:

    hidden = (reading + painting + writing - whole) / (reading + writing)

`reading`, `painting` and `writing` are the seconds of each part alone, one after the other in this
process. Reading means to find sizes and digests, then to decode. Painting is
`stylize_many` on the decoded pictures, resizing included, in groups as large as those of `batch`.
Writing is to encode and save PNG files. `whole` is the time that the command takes for n further
pictures: that for 2n pictures less that for n. So the time to start, to load programs, to read the
first group and to write the last one cancels out; the device's work cannot hide it.

1 means that all is hidden, and 0 that none is. `batch` finds out sizes and digests before it paints
the first picture, so 1 is not quite reached. Noise may lead beyond 0 and 1. On a CPU, the device's
work and the threads share the cores, so that only cores that painting leaves idle can hide anything.
Painting also takes so much longer there than reading and writing that its noise is larger than both,
and the share says nothing; the seconds of the parts do.

The pictures are painted from JPEG files of square photographs that are `ENLARGED` times as wide as the
canvases.
"""

import json
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.buckets import totals_of
from benchmarks.harness import Findings, Plan
from benchmarks.problems import pictures
from benchmarks.processes import keeping_programs, launched

Json = dict[str, Any]

QUESTION = "How much of the time to read and write files `batch` hides behind the device's work"
# `batches` is the number of groups in n pictures, `steps` the updates of each picture.
FULL = Plan(sizes=(128,), repeats=3, steps=2, batches=(2,))
GPU = Plan(sizes=(512,), repeats=3, steps=100, batches=(4,))
QUICK = Plan(sizes=(48,), repeats=1, steps=2, batches=(1,))

PROGRAM = ("-m", "nst_jax")
RECIPE = nst.recipes.DEFAULT
STYLE = nst.images.SAMPLES["starry_night"]
# Side of a photograph / side of its canvas: a canvas of 512 px has a photograph as large as a phone's.
ENLARGED = 6
MOST = 8  # pictures that the command paints together at most, however small they are
PARTS = ("reading", "painting", "writing")
# Largest mean difference between a picture by the command and that by the function, values in [0, 1].
TOLERANCE = 0.02


def measure(plan: Plan) -> Findings:
    """Time the parts and the command in turn; the command runs in a new process with kept programs."""
    params = nst.load_params()
    rows = []
    for size in plan.sizes:
        with tempfile.TemporaryDirectory() as name:
            rows.append(_row(params, size, plan, Path(name)))
    note = (
        "seconds are those of one picture; a command's are those of 2n pictures less those of n; 100 % "
        "means that reading and writing add nothing"
    )
    return Findings(rows, [note])


def hidden(parts: Mapping[str, float], whole: float) -> float:
    """Return the share of reading and writing that is hidden, by the formula of this module.

    Args:
      parts: the seconds of each of `PARTS` alone.
      whole: the seconds of all three in one command.
    """
    return (sum(parts[name] for name in PARTS) - whole) / (parts["reading"] + parts["writing"])


def size_of_groups(size: int) -> int:
    """Return how many square pictures of this side the command paints together on this device."""
    worthwhile = nst.scaling.chunk_size.worthwhile_chunk((size, size), jax.default_backend())
    return min(MOST, worthwhile)


def _row(params: nst.Params, size: int, plan: Plan, folder: Path) -> Json:
    together = size_of_groups(size)
    count = together * plan.batches[0]
    photos = _photographs(folder, ENLARGED * size, 2 * count)
    groups = [photos[first : first + together] for first in range(count, 2 * count, together)]
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory(dir=folder) as cache:
        _batch(photos[:count], size, plan, folder / "out", cache)  # keeps the programs
        _parts(params, groups[:1], size, plan, folder)  # compiles
        for _ in range(plan.repeats):
            parts, painted = _parts(params, groups, size, plan, folder)
            for name in PARTS:
                seconds[name].append(parts[name])
            for name, some in (("n", photos[:count]), ("2n", photos)):
                took, losses = _batch(some, size, plan, folder / "out", cache)
                seconds[name].append(took)
    # Pictures beyond n are painted only by the longer command, which ran last.
    check_same(painted, folder / "out")
    wholes = [long - short for short, long in zip(seconds["n"], seconds["2n"], strict=True)]
    shares = [
        hidden({name: seconds[name][turn] for name in PARTS}, whole)
        for turn, whole in enumerate(wholes)
    ]
    return {
        "recipe": RECIPE.name,
        "size": [size, size],
        "photograph": [ENLARGED * size] * 2,
        "pictures": count,
        "pictures_at_once": together,
        "updates": plan.steps,
        "seconds_per_picture": {name: harness.per(seconds[name], count) for name in PARTS},
        "command_seconds": {name: harness.spread(seconds[name]) for name in ("n", "2n")},
        "whole_seconds_per_picture": statistics.median(wholes) / count,
        "hidden": {"median": statistics.median(shares), "rounds": shares},
        "final_loss": sum(losses) / len(losses),
    }


def _photographs(folder: Path, side: int, count: int) -> list[Path]:
    """Write the same square picture, turned and mirrored, as JPEG files; return their paths."""
    pixels = nst.images.to_uint8(pictures(side)[0])
    paths = [folder / f"photo{index:03}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        turned = np.rot90(pixels, index % 4)
        nst.images.save(path, turned[:, ::-1] if index // 4 % 2 else turned)
    return paths


def _parts(
    params: nst.Params, groups: Sequence[Sequence[Path]], size: int, plan: Plan, folder: Path
) -> tuple[dict[str, float], dict[str, Any]]:
    """Read, paint and write groups of pictures; return the seconds of each part, and the pictures."""
    style = nst.images.load(STYLE)
    options: Json = {"recipe": RECIPE, "size": size, "steps": plan.steps}
    seconds = dict.fromkeys(PARTS, 0.0)
    painted: dict[str, Any] = {}
    for photos in groups:
        reading, contents = harness.timed(partial(_read, photos))
        paint = partial(nst.stylize_many, params, contents, style, **options)
        painting, images = harness.timed(paint)
        files = [folder / f"{path.stem}.png" for path in photos]
        writing, _ = harness.timed(partial(_write, files, images))
        for name, took in zip(PARTS, (reading, painting, writing), strict=True):
            seconds[name] += took
        painted |= dict(zip((path.stem for path in photos), np.asarray(images), strict=True))
    return seconds, painted


def _read(paths: Sequence[Path]) -> list[Any]:
    """Read files as `batch` does: first their sizes and digests, later their pixels."""
    for path in paths:
        nst.images.glance(path)
    return [nst.images.read(path).image for path in paths]


def _write(paths: Sequence[Path], images: Any) -> None:
    for path, image in zip(paths, np.asarray(images), strict=True):
        nst.images.save(path, image)


def _batch(
    photos: Sequence[Path], size: int, plan: Plan, output: Path, cache: str
) -> tuple[float, list[float]]:
    """Run the command on photographs; return its seconds, and the last loss of each picture."""
    command = [
        *(sys.executable, *PROGRAM, "batch", *map(str, photos)),
        *("--styles", str(STYLE), "-o", str(output), "--quiet", "--overwrite"),
        *("--recipe", RECIPE.name, "--size", str(size), "--steps", str(plan.steps)),
    ]
    seconds, _, _ = launched(command, keeping_programs(cache))
    listing = output / "results.jsonl"
    lines = listing.read_text("utf-8").splitlines()
    listing.unlink()  # else the next command would append to it
    return seconds, totals_of([json.loads(line) for line in lines])


def check_same(painted: Mapping[str, Any], output: Path) -> None:
    """Refuse to compare times if the pictures of the command are not those of the function.

    Args:
      painted: name of each photograph without suffix -> picture by `stylize_many`.
      output: folder with the pictures of the command.

    Raises:
      RuntimeError: with the name of a picture that differs.
    """
    for name, image in painted.items():
        (path,) = output.glob(f"{name}_*.png")
        difference = float(np.abs(nst.images.load(path) - np.asarray(image)).mean())
        if not difference <= TOLERANCE:
            raise RuntimeError(
                f"'{path.name}' by `batch` differs by {difference:.3g} from `stylize_many`'s; times of "
                "different work are not compared"
            )
