"""One run that a visitor has begun: its state, its progress and its pictures so far.

A visitor is somebody who uses the page in a browser. A run is the painting of one picture by
optimisation; the picture is saved after some of the updates.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from nst_jax.app.web import limits


class RunState(StrEnum):
    """What a run (the painting of one picture) does at the moment, or how it ended."""

    WAITING = "waiting"  # the run waits for its turn on the device
    PAINTING = "painting"
    PAUSED = "paused"  # the run can go on if the visitor asks for it
    STOPPED = "stopped"  # the visitor has ended the run; its last picture is the result
    DONE = "done"
    FAILED = "failed"


ENDED = (RunState.STOPPED, RunState.DONE, RunState.FAILED)


class Wish(StrEnum):
    """What is asked of a run that is painting; the run obeys at its next picture or earlier.

    Visitors ask, and the server: for a pause if no page shows the run, and for a stop when it closes.
    """

    NOTHING = ""
    PAUSE = "pause"
    STOP = "stop"
    BACK = "back"  # go back to an earlier picture, `Run.back_to`, and pause there


class Failure(Exception):
    """Raised if a run cannot be finished; the message is one sentence, which the page shows."""


class Progress(NamedTuple):
    """What the page shows of a run's progress.

    A run gets a new `Progress` for each change, so that another thread never reads old and new values
    together.
    """

    # What the run does, in words, such as "reading the network"; empty while it makes new updates. A
    # run that goes back to an earlier picture resumes from the last checkpoint up to this picture, or
    # from the start. It repeats the updates from there, and meanwhile this text says so.
    stage: str = ""
    step: int = 0  # number of updates done
    total: int = 0  # number of updates in all
    loss: float | None = None  # the total loss; None if it is not known
    shares: Mapping[str, float] = {}  # share of each term of the loss in the total, from 0 to 1
    left: str = ""  # the time left, in words; empty if it is not known


class RunPicture(NamedTuple):
    """The file of the picture that a run (the painting of one picture) had after some updates."""

    step: int  # number of updates of the run up to this picture
    path: Path


class Work(Protocol):
    """The computation of a run. It can pause, so that other runs use the device, and go on later."""

    def paint(self, run: "Run") -> bool:
        """Paint until the run is finished, or until `run.request` asks it to pause, stop or go back.

        The next call goes on from where this one ended. The method sets `run.progress` and adds
        pictures to `run.kept`. If the visitor has withdrawn a request to pause by the time the method
        returns, the caller calls it again.

        Returns:
          Whether the run is finished.

        Raises:
          Failure: if the run cannot be finished.
        """

    def go_back(self, step: int) -> None:
        """Make the next call of `paint` continue from the picture after `step` updates."""

    def close(self) -> None:
        """Free the memory that this computation takes; called when the run has ended.

        After that, `paint` is called only if the run goes back to an earlier picture and goes on from
        there.
        """


@dataclass
class Run:
    """A run: the painting of one picture by optimisation, which a visitor has begun.

    Attributes:
      work: the computation of the run, which takes turns on the device with those of other runs.
      words: the words of the command line that paints the same picture.
      folder: the folder of the run's inputs and pictures.
      watched: returns whether a page shows the run, or did until some seconds ago.
      keep: whether the run goes on when no page shows it.
      files: names of the files in `folder` that the command line reads.
      state: the state of the run.
      why: why the run is paused, such as "nobody was looking", or why it has failed; empty if the
        visitor paused it.
      warning: what is wrong with the result of a finished run, in one sentence; empty if nothing is.
      request: what the visitor or the server has asked of the run while it paints.
      back_to: number of updates of the picture to which the run goes back, if `request` is BACK.
      notes: what the visitor should know of the painting, such as that a region is too small for a
        layer of the network; each is one sentence.
      progress: what the page shows of the run's progress.
      kept: the run's pictures that have not been deleted, oldest first.
      start_lines: the command lines, in order, that make the picture from which the run starts; empty
        if the run starts as its recipe says.
      begun: when the run was made, by `time.time`.
    """

    work: Work
    words: list[str]
    folder: Path
    watched: Callable[[], bool] = lambda: True
    keep: bool = False
    files: Sequence[str] = ()
    state: RunState = RunState.WAITING
    why: str = ""
    warning: str = ""
    request: Wish = Wish.NOTHING
    back_to: int = 0
    notes: Sequence[str] = ()
    progress: Progress = Progress()
    kept: list[RunPicture] = field(default_factory=list)
    start_lines: Sequence[str] = ()
    begun: float = field(default_factory=time.time)

    def add_picture(self, step: int, path: Path) -> None:
        """Add a picture; if there are too many now, delete every second one between first and last.

        Args:
          step: number of updates after which the run has this picture.
          path: the picture's file, which exists.
        """
        self.kept = [one for one in self.kept if one.step != step] + [RunPicture(step, path)]
        if len(self.kept) > limits.MOST_SNAPSHOTS:
            gone = self.kept[1:-1:2]
            self.kept = [one for one in self.kept if one not in gone]
            for one in gone:
                one.path.unlink(missing_ok=True)

    def forget_after(self, step: int) -> None:
        """Delete the pictures that the run kept after more than `step` updates."""
        gone = [one for one in self.kept if one.step > step]
        self.kept = [one for one in self.kept if one.step <= step]
        for one in gone:
            one.path.unlink(missing_ok=True)

    def picture(self, step: int | None = None) -> RunPicture | None:
        """Return the picture after `step` updates, or the last picture if `step` is None.

        Return None if there is no such picture.
        """
        kept = self.kept
        if step is None:
            return kept[-1] if kept else None
        return next((one for one in kept if one.step == step), None)
