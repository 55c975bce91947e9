"""Checkpoints in files, called positions, to which a run of the web page can go back.

A run is the painting of one picture by optimisation. It goes back if the visitor (somebody who uses the
web page) chooses one of its earlier pictures, from which it shall go on.
"""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nst_jax import checkpoints
from nst_jax._types import Checkpoint
from nst_jax.app.web import limits

# Least number of seconds between two positions (checkpoints in files). A run that goes back to a
# picture starts from the position before it, and needs up to the time between two positions to paint
# the picture again. This time is longer if `PAUSE` demands it, or if positions were deleted.
SECONDS = 5.0
# If writing the last position took t seconds, at least PAUSE * t seconds pass before the next one, so
# that a run spends little of its time on writing.
PAUSE = 20
SPARE = 4  # a position is written only if the disk has room for this many, so that room is left


class _Position(NamedTuple):
    step: int
    path: Path
    size: int  # bytes


class Positions:
    """The positions (checkpoints in files) of one run; the larger they are, the fewer are stored.

    To go back to an earlier picture, a run resumes from the last position that is not later than this
    picture. If there is none, the run begins anew; it paints the same picture, but takes longer.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Make an empty collection that writes its files into `folder`, which must exist."""
        self._folder, self._clock = folder, clock
        self._known: list[_Position] = []
        self._written, self._pause = clock(), SECONDS
        # Size of the last position in bytes; 0 if there is none. The next one is about as large, so
        # this size decides whether there is room for it.
        self._size = 0

    def keep_if_due(self, step: int, position: Callable[[], Checkpoint]) -> None:
        """Write a checkpoint after `step` updates, unless it is too soon after the last one.

        Before the first checkpoint, `SECONDS` seconds must pass since this object was made. Between two
        checkpoints, `SECONDS` seconds must pass, and also `PAUSE` times the seconds that it took to
        write the last one. Nor is a checkpoint written if there is one after `step` or more updates
        already, or if there is no room for it.

        Args:
          step: number of updates.
          position: returns the checkpoint; called only if it is written.
        """
        newest = self._known[-1].step if self._known else 0
        begun = self._clock()
        if step <= newest or begun - self._written < self._pause or not self._has_room():
            return
        path = self._folder / f"position_{step:05d}.h5"
        # Errors, for instance of a full disk, are ignored, since the run does not need the file.
        with suppress(OSError, ValueError):
            checkpoints.save(path, position())
            self._size = path.stat().st_size
            self._known.append(_Position(step, path, self._size))
            self._thin()
        self._written = self._clock()
        self._pause = max(SECONDS, PAUSE * (self._written - begun))

    def _has_room(self) -> bool:
        """Return whether there is room for one more checkpoint, assumed to be as large as the last one.

        It must not be larger than `MOST_POSITION_BYTES`, and the disk must have room for `SPARE` files
        of its size. The existing checkpoints do not count against `MOST_POSITION_BYTES`, since `_thin`
        deletes some if necessary.
        """
        free = shutil.disk_usage(self._folder).free
        return self._size <= min(limits.MOST_POSITION_BYTES, free / SPARE)

    def before(self, step: int) -> Checkpoint | None:
        """Return the latest checkpoint after at most `step` updates; None if there is none.

        The run resumes from it to go back to the picture after `step` updates; without a checkpoint,
        the run must begin anew. Checkpoints after more than `step` updates are deleted; when the run
        goes on, it may write new checkpoints in their place. Checkpoints that are damaged or missing
        are left out, since an earlier one leads to the same picture.
        """
        self._drop([one for one in self._known if one.step > step])
        while self._known:
            try:
                return checkpoints.load(self._known[-1].path)
            except (OSError, ValueError):
                with suppress(OSError):  # `_drop` forgets the file before it deletes it
                    self._drop(self._known[-1:])
        return None

    def _thin(self) -> None:
        """Delete every second checkpoint until all together have at most `MOST_POSITION_BYTES`.

        The newest checkpoint is deleted only if it alone is larger than that.
        """
        while self._known and sum(one.size for one in self._known) > limits.MOST_POSITION_BYTES:
            self._drop(self._known[-2::-2] or self._known)

    def _drop(self, gone: list[_Position]) -> None:
        self._known = [one for one in self._known if one not in gone]
        for one in gone:
            one.path.unlink(missing_ok=True)
