"""The log of a run: a text file with one JSON object in each line, written during the run.

In this example, the second line is shown in two parts, since it is long:

    {"event": "start", "compile_seconds": ..., ...}
    {"event": "step", "step": 0, "scale": 0, "total": ..., "content": ..., "style": ..., "tv": ...,
     "style_layers": {"relu1_1": ..., ...}, "seconds": 0.0}
    ...
    {"event": "end", "status": "done", "total_variation": {"picture": ..., "content": ...}, ...}

A run of N updates has N + 1 `step` lines, numbered from 0. Line k has the losses of the canvas (the
picture that is painted) after k updates, each times its weight, and the seconds since line 0, without
compilation. `scale` is the index of the scale, the resolution level, that the canvas has in this line;
0 is the coarsest. A number that is not finite is written as null. `total_variation` is the sum of the
absolute differences of neighbouring pixels in [0, 1], for the picture and for the content at the
picture's size. If the recipe has a `terms.matting_weight`, `step` lines also have "matting", the loss
with this weight.

A run that is resumed from a checkpoint writes its log anew. The lines up to the checkpoint are written
from the losses in the checkpoint, so that every update has exactly one line, whatever the log contained
when the run stopped. The first line of a resumed run's log has `"resumed_at"`, the number of updates in
the checkpoint, and the seconds of later lines continue from those of the checkpoint.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import IO, Any

import jax

from nst_jax import _files, _locks
from nst_jax._types import Losses
from nst_jax.provenance import of_losses


class RunLog(AbstractContextManager):
    """Context manager that writes the log of a run, or nothing if its path is None.

    Attributes:
      lines: the number of calls of `write` so far, counted even if nothing is written.
    """

    def __init__(self, path: Path | None) -> None:
        self.lines = 0
        self._path = path
        self._file: IO[str] | None = None
        if path is not None:
            # The file is opened for reading too: if it is deleted during the run, `__exit__` reads what
            # was written, and writes it to a new file. A pipe or a terminal is opened for writing only.
            mode = "w" if path.exists() and not path.is_file() else "w+"
            # Line-buffered, so that every line in the file is complete whenever the run stops.
            self._file = path.open(mode, encoding="utf-8", buffering=1)

    def __exit__(self, *exception: object) -> None:
        if self._file is None:
            return
        try:
            with self._file as file:
                if file.readable() and self._path and not _locks.is_at(file.fileno(), self._path):
                    self._write_again(file, self._path)
        except OSError as error:
            # If the run itself raised an exception, that one is reported, and not this `OSError`.
            if exception[0] is None:
                raise self._failed(error) from error

    @staticmethod
    def _write_again(file: IO[str], path: Path) -> None:
        """Write the text of `file`, a log deleted while it was open, to a new file at `path`."""
        file.seek(0)
        path.write_text(file.read(), encoding="utf-8")

    def _failed(self, error: OSError) -> OSError:
        return OSError(f"cannot write '{self._path}': {_files.reason_of(error)}")

    def write(self, event: str, **facts: Any) -> None:
        """Write one line: a JSON object with the name of an event and the facts about it.

        Raises:
          OSError: if the file cannot be written to; the message names it. All later calls then write
            nothing.
          ValueError: if a number among the facts is not finite, since JSON has no such numbers.
        """
        self.lines += 1
        if self._file is None:
            return
        try:
            self._file.write(json.dumps({"event": event, **facts}, allow_nan=False) + "\n")
        except OSError as error:
            file, self._file = self._file, None
            # `close` tries to write what is still in the buffer, which may fail, too.
            with suppress(OSError):
                file.close()
            raise self._failed(error) from error

    def steps(
        self,
        history: Losses,
        *,
        last: int,
        seconds: Sequence[float],
        scale_of: Callable[[int], int],
    ) -> None:
        """Write a `step` line for each canvas since the previous call.

        A canvas is the picture that is painted, after a number of updates. The first canvas is the one
        after 0 updates.

        Args:
          history: the losses of these n canvases in the order of painting, each an array [n].
          last: the number of updates after which the last of these canvases was reached.
          seconds: for each of these canvases, the seconds since the first canvas of the run, without
            compilation.
          scale_of: maps the number of updates after which a canvas was reached to the index of its
            scale (resolution level).

        Raises:
          OSError: if the file cannot be written to.
        """
        if self._file is None:
            return
        count = len(history.total)
        for index in range(count):
            step = last - count + 1 + index
            losses = jax.tree.map(lambda values, i=index: values[i], history)
            facts = {"step": step, "scale": scale_of(step), **of_losses(losses)}
            self.write("step", **facts, seconds=round(seconds[index], 6))
