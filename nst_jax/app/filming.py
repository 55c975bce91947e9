"""The film of a run: frames are taken while the run paints, and written when it ends."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax import _files
from nst_jax._types import Shape
from nst_jax.app.outputs import Outputs
from nst_jax.images import films


class Filming:
    """Takes the frames of the film of a run; does nothing if there shall be no film."""

    def __init__(
        self, outputs: Outputs, total: int, shape: Shape, say: Callable[[str], Any]
    ) -> None:
        """Make an empty film.

        Args:
          outputs: the files that the run writes; without a `film`, nothing is done.
          total: the number of updates of the run.
          shape: height and width of the result, to which all frames are resized.
          say: shows a line to the user.
        """
        self._path, self._stride = outputs.film, outputs.film_stride(total)
        self._overwrite, self._total, self._say = outputs.overwrite, total, say
        self._seen = -1  # the number of updates that made the last frame
        self._full = False  # whether the disk for the frames is full
        self._film: films.Film | None = None
        if self._path is not None:
            self._film = films.Film(seconds=outputs.film_seconds, shape=shape)

    def see(self, step: int, image: Any, *, last: bool = False) -> None:
        """Take a frame, if one is due.

        Args:
          step: the number of updates that made the picture.
          image: [h, w, 3] in [0, 1], of any scale.
          last: whether this is the run's last picture, which the film shows whatever its number.
        """
        if self._film is None or self._full or step <= self._seen:
            return
        assert self._stride is not None
        if last or step == self._total or self._seen < 0 or step % self._stride == 0:
            try:
                self._film.add(np.asarray(image))
                self._seen = step
            except OSError as error:
                # The painting goes on, since it is worth more than its film.
                self._full = True
                self._say(f"note: the film ends after {step} updates: {_files.reason_of(error)}")

    def write(self, metadata: Mapping[str, Any] | None) -> Path | None:
        """Write the film so far, once; return its path, or None if there is no film.

        Args:
          metadata: the settings to embed, or None.

        Raises:
          OSError: if the film cannot be written.
        """
        film, self._film = self._film, None
        if film is None or self._path is None:
            return None
        with film:
            if not film.seen:
                return None
            try:
                film.save(self._path, metadata=metadata, overwrite=self._overwrite)
            except (ValueError, OSError, MemoryError) as error:
                reason = _files.reason_of(error)
                raise OSError(f"cannot write '{self._path}': {reason}") from error
        return self._path

    def rescue(self, metadata: Mapping[str, Any] | None) -> None:
        """Try to write the film of a run that failed."""
        with suppress(OSError):
            self.write(metadata)
