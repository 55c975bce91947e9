"""One run of a visitor: its state, its progress and its pictures so far."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from nst_jax.app.web import limits


class RunState(StrEnum):
    """Where a run is on its way."""

    WAITING = "waiting"  # for its turn on the device
    PAINTING = "painting"
    PAUSED = "paused"  # can go on
    STOPPED = "stopped"  # its last picture is the result
    DONE = "done"
    FAILED = "failed"


ENDED = (RunState.STOPPED, RunState.DONE, RunState.FAILED)


class Wish(StrEnum):
    """What a visitor asks of a run that is painting; it is heard at its next picture."""

    NOTHING = ""
    PAUSE = "pause"
    STOP = "stop"
    BACK = "back"  # go back to an earlier picture, `Run.back_to`, and pause there


class Failure(Exception):
    """A run cannot be finished; the message is one sentence for the visitor."""


class Progress(NamedTuple):
    """What the page shows of a run; replaced as a whole, so that a reader sees one moment."""

    stage: str = ""  # what is done while no update is, such as measuring
    step: int = 0
    total: int = 0
    loss: float | None = None
    shares: Mapping[str, float] = {}  # term of the loss -> its share of the total, from 0 to 1
    left: str = ""  # the time left, in words


class RunPicture(NamedTuple):
    """A picture of a run in a file."""

    step: int
    path: Path


class Work(Protocol):
    """What a run does with its turn on the device."""

    def paint(self, run: "Run") -> bool:
        """Paint until the end, or until `run.request` is not empty; return whether it is the end.

        Called again, it goes on where it was. It reports by `run.progress` and `run.kept`. A request
        may be withdrawn before this returns.

        Raises:
          Failure: if the run cannot be finished.
        """

    def go_back(self, step: int) -> None:
        """Let the next call of `paint` go on from the picture after `step` updates."""

    def close(self) -> None:
        """Free the memory, since the run has ended; after `go_back`, `paint` may be called again."""


@dataclass
class Run:
    """A run of a visitor.

    Attributes:
      work: what it does with its turn.
      words: its command line.
      folder: where its inputs and pictures are.
      watched: returns whether a page shows the run, or did until some seconds ago.
      keep: whether it goes on when nobody looks.
      files: names of the files in `folder` that its command line reads.
      state: where it is on its way.
      why: why it is paused or failed, in one sentence.
      request: what was asked of it while it paints.
      back_to: number of updates of the picture to which it goes back.
      progress: what the page shows.
      kept: its pictures, oldest first.
      start_lines: command lines, one after the other, that make the picture from which it starts; none
        if it starts as its recipe says.
    """

    work: Work
    words: list[str]
    folder: Path
    watched: Callable[[], bool] = lambda: True
    keep: bool = False
    files: Sequence[str] = ()
    state: RunState = RunState.WAITING
    why: str = ""
    request: Wish = Wish.NOTHING
    back_to: int = 0
    progress: Progress = Progress()
    kept: list[RunPicture] = field(default_factory=list)
    start_lines: Sequence[str] = ()
    begun: float = field(default_factory=time.time)

    def add_picture(self, step: int, path: Path) -> None:
        """Keep a picture; if there are too many, every second one between first and last goes."""
        self.kept = [one for one in self.kept if one.step != step] + [RunPicture(step, path)]
        if len(self.kept) > limits.MOST_SNAPSHOTS:
            gone = self.kept[1:-1:2]
            self.kept = [one for one in self.kept if one not in gone]
            for one in gone:
                one.path.unlink(missing_ok=True)

    def forget_after(self, step: int) -> None:
        """Delete the pictures after more than `step` updates."""
        gone = [one for one in self.kept if one.step > step]
        self.kept = [one for one in self.kept if one.step <= step]
        for one in gone:
            one.path.unlink(missing_ok=True)

    def picture(self, step: int | None = None) -> RunPicture | None:
        """Return the picture after so many updates, or the last one; None if there is none."""
        kept = self.kept
        if step is None:
            return kept[-1] if kept else None
        return next((one for one in kept if one.step == step), None)
