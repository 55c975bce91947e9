"""A run's checkpoint file at the command line: what a run goes on from, and when it is written."""

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
from nst_jax.app.job import PictureJob
from nst_jax.app.outputs import Outputs
from nst_jax.app.wording import amount
from nst_jax.recipes.recipe import as_arrays

SECONDS = 30.0  # between two checkpoints, unless said otherwise

SHARE = 20  # or so many times what the last one took to write, if that is longer


def found(outputs: Outputs) -> Checkpoint | None:
    """Return what a run goes on from, if it was asked to and there is something.

    A file that is there is never begun anew: it is what keeps hours of work.

    Raises:
      ValueError: naming the flag, if the flags do not go together, if there is a file and nobody
        asked to go on from it, or if that is no whole checkpoint.
    """
    path = outputs.checkpoint
    if path is None:
        for name in ("resume", "checkpoint_every"):
            if getattr(outputs, name):
                raise ValueError(f"`{name}`: needs a checkpoint; name it by `--checkpoint FILE`")
        return None
    words = f"`checkpoint`: '{path}' is not seen by all processes; put it where all of them see it"
    if not cluster.agree(path.exists(), words):
        return None
    if not outputs.resume:
        raise ValueError(
            f"`checkpoint`: '{path}' exists; `--resume` goes on from it, or name another file"
        )
    return checkpoints.load(path, argument="checkpoint")


def size_of(job: PictureJob) -> int:
    """Return about how many bytes a job's largest checkpoint has."""
    canvas = jax.ShapeDtypeStruct((*job.plan.scales[-1].shape, 3), jnp.float32)
    state = jax.eval_shape(optimize.init, canvas, as_arrays(job.plan.recipe.bare()))
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def introduced(job: PictureJob) -> tuple[str, list[str]]:
    """Return what is said of a job's checkpoint before the run, and what more is to be known."""
    path, every = job.outputs.checkpoint, job.outputs.checkpoint_every
    pace = f"every {every} updates" if every else f"about every {SECONDS:.0f} s"
    line = f"{path}, up to {amount(size_of(job))}, {pace}"
    if job.resume is None:
        fresh = f"there is no '{path}' yet: the run starts from its beginning"
        return line, [fresh] if job.outputs.resume else []
    total = sum(scale.steps for scale in job.plan.scales)
    line += f"; goes on after {job.resume.step} of {total} updates"
    was, now = (" ".join(device.values()) for device in (job.resume.device, provenance.device()))
    other = f"the checkpoint was computed on {was} and this is {now}, so the last bits may differ"
    return line, [other] if was != now else []


def check_room(job: PictureJob) -> None:
    """Refuse a checkpoint that its disk has no room for. The one before stays until it is written.

    Raises:
      ValueError: naming both sizes.
    """
    path = job.outputs.checkpoint
    if path is None:
        return
    _files.remove_parts([path])
    size, free = size_of(job), shutil.disk_usage(path.absolute().parent).free
    if size > free:
        raise ValueError(
            f"`checkpoint`: '{path}' takes about {amount(size)} and its disk has {amount(free)} "
            "left; make room, or name a file elsewhere"
        )


def seconds_of(checkpoint: Checkpoint) -> list[float]:
    """Return when each canvas so far was measured, in seconds of the run; 0 where none was told."""
    count = len(checkpoint.history.total)
    told = checkpoint.notes.get("seconds", ())
    return list(told) if len(told) == count else [0.0] * count


class Keeper:
    """Writes a run's checkpoints when they are due; where none were asked for it writes none.

    That is every so many updates or, unless said, about every 30 seconds, and less often where
    writing one takes long; and at the end of a scale and of the run.
    """

    def __init__(
        self, job: PictureJob, ends: Collection[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take a job, and the updates with which its scales end."""
        self._path, self._every = job.outputs.checkpoint, job.outputs.checkpoint_every
        self._ends, self._clock = ends, clock
        self._step = None if job.resume is None else job.resume.step  # of the file as it is
        self._written, self._pause = clock(), SECONDS

    def keep(
        self,
        shot: Snapshot,
        stand: Callable[[], Checkpoint],
        seconds: Sequence[float],
        *,
        last: bool,
    ) -> None:
        """Write a checkpoint if one is due.

        Args:
          shot: the last snapshot.
          stand: gives the checkpoint. Its arrays may be the run's own: a second set could be more
            than there is memory for.
          seconds: when each canvas so far was measured.
          last: whether the run is about to be left.

        Raises:
          OSError: if it cannot be written.
        """
        if self._path is None or shot.broke_at >= 0 or shot.step == self._step:
            return
        if not (last or shot.step in self._ends or self._due(shot.step)):
            return
        begun = self._clock()
        notes: dict[str, Any] = {"seconds": np.round(seconds, 6).tolist()}
        checkpoint = stand()._replace(notes=notes)  # of several processes each has to ask for it
        try:
            if cluster.first():
                checkpoints.save(self._path, checkpoint)
        except ValueError as error:  # its place passed the door: what is wrong now came up since
            raise OSError(f"cannot write '{self._path}': {error}") from error
        self._step, self._written = shot.step, self._clock()
        self._pause = max(SECONDS, SHARE * (self._written - begun))

    def _due(self, step: int) -> bool:
        if self._every:
            return step % self._every == 0
        return cluster.any_of(self._clock() - self._written >= self._pause)
