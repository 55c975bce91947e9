"""Checkpoints at the command line: from which one a run resumes, and when a run writes one.

A run is the painting of one picture, the canvas, which is changed by many updates. A run paints at one
or several scales (resolution levels), from coarse to fine. A checkpoint is a file with the state of a
run.
"""

import math
import shutil
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _files, checkpoints, optimize, provenance
from nst_jax._types import Checkpoint, Snapshot
from nst_jax.app import cluster
from nst_jax.app.formatting import amount
from nst_jax.app.job import PictureJob
from nst_jax.app.outputs import Outputs
from nst_jax.recipes.recipe import as_arrays

SECONDS = 30.0  # usual seconds from one checkpoint to the next without `--checkpoint-every`

# Without `--checkpoint-every`, the time to the next checkpoint is also at least this many times as long
# as writing the last one took, so that writing takes at most about a twentieth of the time.
PAUSE = 20


def checkpoint_of(outputs: Outputs) -> Checkpoint | None:
    """Return the checkpoint from which a run resumes, or None if the run starts from its beginning.

    An existing checkpoint file is never overwritten by a run that does not resume from it, because the
    file may be hours of work.

    Args:
      outputs: the files that the run writes, and the options for writing them.

    Raises:
      ValueError: if `--resume` or `--checkpoint-every` is given without `--checkpoint`, if the file
        exists and `--resume` is not given, if only some of the processes that paint together see the
        file, or if the file is no intact checkpoint.
    """
    path = outputs.checkpoint
    if path is None:
        for name in ("resume", "checkpoint_every"):
            if getattr(outputs, name):
                raise ValueError(f"`{name}`: needs a checkpoint; name it with `--checkpoint FILE`")
        return None
    words = f"`checkpoint`: '{path}' is not seen by all processes; put it where all of them see it"
    if not cluster.same_in_all(path.exists(), words):
        return None
    if not outputs.resume:
        raise ValueError(
            f"`checkpoint`: '{path}' exists; add `--resume` to continue from it, or name another file"
        )
    return checkpoints.load(path, argument="checkpoint")


def size_of(job: PictureJob) -> int:
    """Return the approximate bytes of a run's largest checkpoint, made at the final resolution."""
    canvas = jax.ShapeDtypeStruct((*job.plan.scales[-1].shape, 3), jnp.float32)
    state = jax.eval_shape(optimize.init, canvas, as_arrays(job.plan.recipe.bare()))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def describe(job: PictureJob) -> tuple[str, list[str]]:
    """Return what is printed about the checkpoint before a run: one line, and a list of notes."""
    path, every = job.outputs.checkpoint, job.outputs.checkpoint_every
    how_often = f"every {every} updates" if every else f"about every {SECONDS:.0f} s"
    line = f"{path}, up to {amount(size_of(job))}, {how_often}"
    if job.resume is None:
        fresh = f"there is no '{path}' yet: the run starts from its beginning"
        return line, [fresh] if job.outputs.resume else []
    total = sum(scale.steps for scale in job.plan.scales)
    line += f"; resumes after {job.resume.step} of {total} updates"
    was, now = map(provenance.device_words, (job.resume.device, provenance.device()))
    other = f"the checkpoint was computed on {was} and this is {now}, so the result may "
    other += "differ slightly"
    return line, [other] if was != now else []


def check_disk_space(job: PictureJob) -> None:
    """Refuse to start a run whose checkpoint would be larger than the free space on its disk.

    The space of an earlier checkpoint does not count as free, since a checkpoint is deleted only when
    the next one is complete. Before the check, temporary files are removed that killed processes left
    when they wrote this checkpoint.

    Raises:
      ValueError: if there is too little space.
    """
    path = job.outputs.checkpoint
    if path is None:
        return
    _files.remove_leftovers([path])
    size, free = size_of(job), shutil.disk_usage(path.absolute().parent).free
    if size > free:
        raise ValueError(
            f"`checkpoint`: '{path}' takes about {amount(size)} and its disk has {amount(free)} "
            "left; free some space, or name a file elsewhere"
        )


def seconds_of(checkpoint: Checkpoint) -> list[float]:
    """Return the time at which each update up to a checkpoint ended, in seconds since painting began.

    The time of compiling, and of computing the targets of the losses, is not counted. The first number
    is for the initial picture. All numbers are 0 if the checkpoint has no valid times. Checkpoints that
    Python programs save have no times, since only commands and the web page record them.
    """
    count = len(checkpoint.history.total)
    recorded = checkpoint.notes.get("seconds")
    if not isinstance(recorded, list) or len(recorded) != count:
        return [0.0] * count
    valid = all(type(each) in (int, float) and 0 <= each < math.inf for each in recorded)
    return list(recorded) if valid else [0.0] * count


class CheckpointWriter:
    """Writes the checkpoints of a run when they are due; without `--checkpoint`, writes nothing.

    A checkpoint is due after every `--checkpoint-every` updates, by default about every 30 seconds
    (less often if writing a checkpoint takes long), at the end of each scale (resolution level), and
    when the run ends or is interrupted.
    """

    def __init__(
        self, job: PictureJob, ends: Collection[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Make a writer for the checkpoints of one run.

        Args:
          job: the checked inputs and options of the run.
          ends: for each scale, the number of updates after which it ends, counted from the beginning
            of the run.
          clock: a function that returns the time in seconds; tests pass a clock of their own.
        """
        self._path, self._every = job.outputs.checkpoint, job.outputs.checkpoint_every
        self._ends, self._clock = ends, clock
        # Number of updates at which this run last wrote a checkpoint or, before that, from which it
        # resumed; None if neither. The same state is not written again.
        self._step = None if job.resume is None else job.resume.step
        self._written, self._pause = clock(), SECONDS

    def write_if_due(
        self,
        shot: Snapshot,
        checkpoint_now: Callable[[], Checkpoint],
        seconds: Sequence[float],
        *,
        last: bool,
    ) -> None:
        """Write a checkpoint if one is due and all losses so far are finite.

        Args:
          shot: the newest snapshot: the picture after some updates, with its losses.
          checkpoint_now: returns a checkpoint of the run as it is now. It may share its arrays with the
            run, because copies of them may not fit in memory.
          seconds: for the initial picture and after each update so far, the seconds since painting
            began, without the time for compiling and for computing the targets of the losses.
          last: whether the run ends here because it was interrupted; a checkpoint is then due.

        Raises:
          OSError: if the file cannot be written.
        """
        if self._path is None or shot.broke_at >= 0 or shot.step == self._step:
            return
        if not (last or shot.step in self._ends or self._due(shot.step)):
            return
        start = self._clock()
        notes: dict[str, Any] = {"seconds": np.round(seconds, 6).tolist()}
        # `checkpoint_now` gathers arrays from the devices of all processes, so every process calls it.
        checkpoint = checkpoint_now()._replace(notes=notes)
        try:
            if cluster.is_first():
                checkpoints.save(self._path, checkpoint)
        except ValueError as error:  # the path was valid before the run, but is not any more
            raise OSError(f"cannot write '{self._path}': {error}") from error
        self._step, self._written = shot.step, self._clock()
        self._pause = max(SECONDS, PAUSE * (self._written - start))

    def _due(self, step: int) -> bool:
        if self._every:
            return step % self._every == 0
        return cluster.true_in_any(self._clock() - self._written >= self._pause)
