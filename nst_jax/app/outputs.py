"""The files that a run writes, and the checks of their paths before the run starts."""

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nst_jax import _checks, _files, images, painting

# Number of updates between two frames, if `--every` is not given: the default of `paint`.
EVERY = inspect.signature(painting.paint).parameters["every"].default

STANDARD = Path("-")  # stands for standard input or output; a file of this name is `./-`


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that a run writes, and when they are written.

    Attributes:
      picture: file of the result.
      overwrite: whether existing files may be replaced.
      metadata: whether the settings are embedded in pictures.
      every: number of updates between two writes of `picture` during the run; None writes it only at
        the end.
      frames: folder for a numbered picture of the canvas every `stride` updates, or None.
      log: file for the losses of every update, as JSON lines, or None.
      checkpoint: file from which an interrupted run can resume, or None.
      checkpoint_every: number of updates between two checkpoints; None writes them at time intervals.
      resume: whether to resume from the checkpoint, if that file exists.
    """

    picture: Path
    overwrite: bool = True
    metadata: bool = True
    every: int | None = None
    frames: Path | None = None
    log: Path | None = None
    checkpoint: Path | None = None
    checkpoint_every: int | None = None
    resume: bool = False

    @property
    def stride(self) -> int | None:
        """Number of updates between two pictures written during the run; None if none is written."""
        if self.every is None and self.frames is not None:
            return EVERY
        return self.every


def default_name(content: Path, styles: Iterable[Path], ending: str = "") -> Path:
    """Return the name that a result gets if the user gives none, such as `photo_painting.png`."""
    stems = ["stdin" if path == STANDARD else path.stem for path in (content, *styles)]
    return Path("_".join(stems) + f"{ending}.png")


def result_path(output: Path | None, default: Path) -> Path:
    """Return `output`, or `default` inside it if it is a folder, or `default` alone if it is None."""
    if output is None:
        return default
    return output / default if output.is_dir() else output


# --- Checks ---------------------------------------------------------------------------------------


def check_outputs(outputs: Outputs, inputs: Sequence[Path]) -> None:
    """Refuse paths that cannot be written, or that would overwrite an input or another output.

    Raises:
      ValueError: naming the option that cannot be used, also for an interval below 1 update.
    """
    images.check_output(outputs.picture, overwrite=outputs.overwrite, argument="output")
    refuse_inputs(outputs.picture, inputs, "output")
    if outputs.every is not None:
        _checks.number("every", outputs.every, least=1)
    if outputs.log is not None:
        check_file(outputs.log, "log", overwrite=outputs.overwrite)
        refuse_inputs(outputs.log, [*inputs, outputs.picture], "log")
    if outputs.checkpoint is not None:
        check_file(outputs.checkpoint, "checkpoint")
        others = [*inputs, outputs.picture, *([outputs.log] if outputs.log is not None else [])]
        refuse_inputs(outputs.checkpoint, others, "checkpoint")
    if outputs.checkpoint_every is not None:
        _checks.number("checkpoint_every", outputs.checkpoint_every, least=1)
    if outputs.frames is not None:
        check_folder(outputs.frames, "frames")
        files = (outputs.log, outputs.checkpoint)
        others = [*inputs, outputs.picture, *(file for file in files if file is not None)]
        refuse_among_frames(outputs.frames, others)
        kept = sorted(outputs.frames.glob("step_*.png")) if outputs.frames.exists() else []
        if kept and not outputs.overwrite:
            raise ValueError(f"`frames`: '{kept[0]}' exists; name another folder or `--overwrite`")
        for frame in kept:
            _files.check_unprotected(frame, argument="frames")


def refuse_inputs(path: Path, inputs: Iterable[Path], argument: str) -> None:
    """Refuse an output path that leads to the same file as one of the `inputs`."""
    for source in inputs:
        same = path.absolute() == source.absolute()
        if same or (path.exists() and source.exists() and path.samefile(source)):
            raise ValueError(
                f"`{argument}`: '{path}' is also another input or output; choose another"
            )


def refuse_among_frames(folder: Path, others: Iterable[Path]) -> None:
    """Refuse a folder for frames if another file of the run is in it with the name of a frame."""
    for other in others:
        inside = other.absolute().parent.resolve() == folder.absolute().resolve()
        if inside and other.match("step_*.png"):
            raise ValueError(
                f"`frames`: a frame would replace '{other}', which is another input or output; "
                "name another folder"
            )


def check_file(path: Path, argument: str, *, overwrite: bool = True) -> None:
    """Refuse a path that cannot be written as a file, or whose file must not be replaced."""
    if path.exists() and not path.is_dir() and not overwrite:
        raise ValueError(f"`{argument}`: '{path}' exists; choose another name or `--overwrite`")
    _files.check_destination(path, argument=argument)


def check_folder(path: Path, argument: str) -> None:
    """Refuse a folder that cannot be created or written to; its parent must exist."""
    if not path.exists():
        _files.check_destination(path, argument=argument)
    elif not path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a file; name a folder")
    elif not os.access(path, os.W_OK):
        raise ValueError(f"`{argument}`: the folder '{path}' is not writable")
