"""Positions of a run in files, from which it goes on after going back to an earlier picture."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nst_jax import checkpoints
from nst_jax._types import Checkpoint
from nst_jax.app.web import limits

SECONDS = (
    5.0  # at least, between two positions: so long does it take to paint up to a picture again
)


class _Position(NamedTuple):
    step: int
    path: Path
    size: int  # bytes


class Positions:
    """The positions of one run, of which there are fewer the larger they are.

    They only save time: from the nearest one before, as from the start, a run paints the same.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Keep positions in a folder, which exists."""
        self._folder, self._clock = folder, clock
        self._known: list[_Position] = []
        self._written = clock()

    def keep_if_due(self, step: int, position: Callable[[], Checkpoint]) -> None:
        """Write the position after `step` updates if the last one was written some seconds ago."""
        newest = self._known[-1].step if self._known else 0
        if step <= newest or self._clock() - self._written < SECONDS:
            return
        path = self._folder / f"position_{step:05d}.h5"
        with suppress(OSError):  # such as a full disk: the run itself does not need the file
            checkpoints.save(path, position())
            self._known.append(_Position(step, path, path.stat().st_size))
            self._thin()
        self._written = self._clock()

    def before(self, step: int) -> Checkpoint | None:
        """Return the last position after at most `step` updates; None is the start of the run.

        Later positions are deleted.
        """
        self._drop([one for one in self._known if one.step > step])
        return checkpoints.load(self._known[-1].path) if self._known else None

    def _thin(self) -> None:
        """Delete every second position while they are too large together; the newest stays longest."""
        while self._known and sum(one.size for one in self._known) > limits.MOST_POSITION_BYTES:
            self._drop(self._known[-2::-2] or self._known)

    def _drop(self, gone: list[_Position]) -> None:
        self._known = [one for one in self._known if one not in gone]
        for one in gone:
            one.path.unlink(missing_ok=True)
