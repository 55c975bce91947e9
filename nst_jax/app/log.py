"""The log of a run: one JSON object a line, written as the run goes.

    {"event": "start", "compile_seconds": ..., ...}
    {"event": "step", "step": 0, "scale": 0, "total": ..., "content": ..., "style": ..., "tv": ...,
     "style_layers": {tap: ...}, "seconds": 0.0}
    ...
    {"event": "end", "status": "done", "total_variation": {"picture": ..., "content": ...}, ...}

Line k of the N + 1 `step` lines holds the losses, weighted as minimised, of the canvas after k
updates. A number that is not finite is null. The total variations at the end are sums of absolute
differences of neighbouring pixels in [0, 1], of the picture and of the content at its size.

The log of a run that goes on from a checkpoint is written anew, the lines up to there from what the
checkpoint holds: so every update has one line, whatever the log held when the run was stopped. Its
first line says `"resumed_at"`; seconds count on.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TextIO

import jax

from nst_jax._types import Losses
from nst_jax.provenance import of_losses


class RunLog(AbstractContextManager):
    """Writes a run's log; without a path it writes nothing. Use it as a context manager."""

    def __init__(self, path: Path | None) -> None:
        self.lines = 0
        self._file: TextIO | None = None
        if path is not None:
            # Line-buffered: what is there when the run stops is complete up to there.
            self._file = path.open("w", encoding="utf-8", buffering=1)

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, event: str, **facts: Any) -> None:
        """Write one line."""
        self.lines += 1
        if self._file is not None:
            self._file.write(json.dumps({"event": event, **facts}, allow_nan=False) + "\n")

    def steps(
        self,
        history: Losses,
        *,
        last: int,
        seconds: Sequence[float],
        scale_of: Callable[[int], int],
    ) -> None:
        """Write the lines of one chunk.

        Args:
          history: arrays [n], the losses of n canvases in order.
          last: updates that led to the last of them.
          seconds: when each of them was measured.
          scale_of: gives the scale of a canvas from its updates.
        """
        if self._file is None:
            return
        count = len(history.total)
        for index in range(count):
            step = last - count + 1 + index
            losses = jax.tree.map(lambda values, i=index: values[i], history)
            facts = {"step": step, "scale": scale_of(step), **of_losses(losses)}
            self.write("step", **facts, seconds=round(seconds[index], 6))
