"""Runs the command of `pastiche` 1.6.0 as its users do, in a Python environment of its own.

python3 -m venv FOLDER && FOLDER/bin/pip install pastiche==1.6.0 torch==2.13.0 numpy
PASTICHE=FOLDER/bin/pastiche python -m benchmarks wall
"""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

import nst_jax as nst
from benchmarks.processes import launched

VARIABLE = "PASTICHE"  # environment variable with the command's path; default: pastiche
ABSENT = f"pastiche was not measured: no such command, and {VARIABLE} does not name one"
STEPS = 1000  # updates, the default of pastiche
TOLERANCE = 1e-3  # largest relative difference of its loss and ours for one canvas
LINE = re.compile(r"^(\d+) +([0-9.]+) +([0-9.]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """The results of one run of the command.

    Attributes:
      version: the program's name and version.
      seconds: from the start of its process to the end.
      processor_seconds: of that time, on all cores together, and of the user and the system.
      peak_gigabytes: the peak memory of the process.
      picture: the file that it wrote.
      canvas: (height, width) of that picture.
      printed: [step, seconds, loss] of each line of progress; the loss is that of the canvas before
        the step.
    """

    version: str
    seconds: float
    processor_seconds: float
    peak_gigabytes: float
    picture: Path
    canvas: tuple[int, int]
    printed: list[list[float]]


def command() -> str | None:
    """Return the path of pastiche's command, or None if it is not installed.

    Raises:
      RuntimeError: if the variable PASTICHE names a file that cannot be run.
    """
    named = os.environ.get(VARIABLE)
    found = shutil.which(named or "pastiche")
    if named and not found:
        raise RuntimeError(f"{VARIABLE}: {named!r} cannot be run; give the path of the command")
    return found


def run(program: str, pair: Sequence[Path], size: int, steps: int, folder: Path) -> Run:
    """Run pastiche on files of a content and a style, with default options except size and steps."""
    content, style = map(str, pair)
    picture = folder / "pastiche.png"
    words = ["--content", content, "--styles", style, "--output", str(picture)]
    # PYTHONPATH would make the Python of pastiche import the packages of ours.
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    version = subprocess.run(
        [program, "--version"], env=environment, capture_output=True, text=True, check=True
    ).stdout.strip()
    before = _seconds_of_children()
    seconds, peak, said = launched(
        [program, *words, "--size", str(size), "--num-steps", str(steps)], environment
    )
    spent = _seconds_of_children() - before
    height, width, _ = nst.images.load(picture).shape
    return Run(version, seconds, spent, peak, picture, (height, width), printed(said))


def _seconds_of_children() -> float:
    """Return the processor's seconds of all processes that this one started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def printed(text: str) -> list[list[float]]:
    """Return [step, seconds, loss] for each line of progress in what the command printed."""
    return [[int(step), float(s), float(loss)] for step, s, loss in LINE.findall(text)]


class Judge:
    """Computes the loss of a picture file: pastiche's objective, computed by our code in float32."""

    def __init__(self, pair: Sequence[str], canvas: tuple[int, int]):
        pictures, core = nst.recipes.PASTICHE.pictures, nst.recipes.PASTICHE.bare()
        content, style = (nst.images.sample(name) for name in pair)
        rule: Any = pictures.style_size
        self.content = jnp.asarray(pictures.resize(content, canvas))
        resized = jnp.asarray(pictures.resize(style, rule.beside(canvas, *style.shape[:2])))
        self.params, self.recipe = nst.load_params(), nst.recipes.as_arrays(core)
        self.targets = jax.jit(nst.measure)(self.params, self.content, resized, self.recipe)
        self.losses_of = jax.jit(nst.losses_of)

    def __call__(self, picture: Path) -> float:
        return self._loss(jnp.asarray(nst.images.load(picture)))

    def _loss(self, image: Any) -> float:
        return float(self.losses_of(self.params, image, self.targets, self.recipe).total)

    def check_parity(self, run: Run) -> None:
        """Refuse to compare if pastiche and our code compute different losses for pastiche's start.

        Raises:
          RuntimeError: with pastiche's loss and ours.
        """
        ours, theirs = self._loss(self.content), run.printed[0][-1]
        if not abs(theirs / ours - 1) <= TOLERANCE:
            raise RuntimeError(
                f"{run.version}: it starts from a loss of {theirs:.6g}, which by our computation is "
                f"{ours:.6g}; times of different work are not compared"
            )
