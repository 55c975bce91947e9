"""The film of a run: its frames are collected while the run paints, and written when the run ends."""

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
    """Collects the frames of a run's film, and writes the film; does nothing if no film is wanted."""

    def __init__(
        self, outputs: Outputs, total: int, shape: Shape, say: Callable[[str], Any]
    ) -> None:
        """Start a film without frames.

        Args:
          outputs: the files that the run writes; if `outputs.film` is None, no film is wanted.
          total: the number of updates of the run.
          shape: (height, width) of the result, to which all frames are resized.
          say: shows a line of text to the user.
        """
        self._path, self._stride = outputs.film, outputs.film_stride(total)
        self._overwrite, self._total, self._say = outputs.overwrite, total, say
        self._seen = -1  # number of updates at the newest frame; -1 if there is no frame yet
        self._full = False  # whether a frame could not be stored, as when the disk is full
        self._film: films.Film | None = None
        if self._path is not None:
            self._film = films.Film(seconds=outputs.film_seconds, shape=shape)

    def see(self, step: int, image: Any, *, last: bool = False) -> None:
        """Add a picture to the film, if a frame is due.

        A frame is due for the first picture, after every `Outputs.film_stride` updates, and for the
        last picture.

        Args:
          step: the number of updates after which the picture looked like this.
          image: the picture, [h, w, 3] in [0, 1], of any size.
          last: whether the run ends with this picture, be it finished or stopped early.
        """
        if self._film is None or self._full or step <= self._seen:
            return
        assert self._stride is not None
        if last or step == self._total or self._seen < 0 or step % self._stride == 0:
            try:
                self._film.add(np.asarray(image))
                self._seen = step
            except OSError as error:
                # The error does not end the run, since the painting is worth more than its film.
                self._full = True
                ends = f"ends after {self._seen} updates" if self._film.seen else "has no frames"
                self._say(f"note: the film {ends}: {_files.reason_of(error)}")

    def write(self, metadata: Mapping[str, Any] | None) -> Path | None:
        """Write the film with all frames so far, and end it: later calls write nothing.

        Args:
          metadata: the settings to embed in the file, or None to embed none.

        Returns:
          The path of the film. None means that no film was written: because no film is wanted, because
          it has no frames, or because it was written before.

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
        """Write the film of a run that failed; if the film cannot be written, raise nothing."""
        with suppress(OSError):
            self.write(metadata)
