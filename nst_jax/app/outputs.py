"""The files that a run writes, and the checks of their paths before the run starts."""

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nst_jax import _checks, _files, images, painting
from nst_jax._types import Shape
from nst_jax.images import films

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
      film: file of the film of the run, or None.
      film_seconds: the length of the film.
      film_option: the option that named the film, for messages.
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
    film: Path | None = None
    film_seconds: float = films.SECONDS
    film_option: str = "film"
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

    @property
    def shown(self) -> list[Path]:
        """The files that show the result: the picture and the film, if there is one."""
        return [self.picture] if self.film is None else [self.picture, self.film]

    def film_stride(self, total: int) -> int | None:
        """Return the number of updates between two frames of the film; None if there is no film.

        Args:
          total: the number of updates of the run.
        """
        if self.film is None:
            return None
        return self.every or max(1, round(total / (films.most_frames(self.film_seconds) - 1)))

    def check_fits(self, shape: Shape) -> None:
        """Refuse, with ValueError, a result that is larger than a file's format allows."""
        images.check_fits(self.picture, shape, argument="output")
        if self.film is not None:
            kind = films.format_of(self.film, argument=self.film_option)
            films.check_film_fits(kind, shape, argument=self.film_option)


def default_name(content: Path, styles: Iterable[Path], ending: str = "") -> Path:
    """Return the name that a result gets if the user gives none, such as `photo_painting.png`."""
    stems = ["stdin" if path == STANDARD else path.stem for path in (content, *styles)]
    return Path("_".join(stems) + f"{ending}.png")


def result_path(output: Path | None, default: Path) -> Path:
    """Return `output`, or `default` inside it if it is a folder, or `default` alone if it is None."""
    if output is None:
        return default
    return output / default if output.is_dir() else output


# Suffixes that are written for films only; .webp is none, since a picture may have it. An output with
# such a suffix names the film, beside which the picture is written.
FILM_SUFFIXES = (".gif", ".apng", ".mp4")


def picture_and_film(
    output: Path | None, film: Path | None, default: Path
) -> tuple[Path, Path | None, str]:
    """Return where the picture goes, where the film goes (or None), and which option named the film.

    Args:
      output: the value of `--output`; a film such as out.gif means this film and the picture out.png.
      film: the value of `--film`.
      default: the picture's name if no option has one.

    Raises:
      ValueError: if both options name a film.
    """
    picture = result_path(output, default)
    if picture.suffix.lower() not in FILM_SUFFIXES:
        return picture, film, "film"
    if film is not None:
        raise ValueError(
            f"`film`: `--output` already names a film, '{picture}'; omit one of them, or end the "
            "output in .png"
        )
    return picture.with_suffix(".png"), picture, "output"


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
    if outputs.film is not None:
        _check_film(outputs, inputs)
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


def _check_film(outputs: Outputs, inputs: Sequence[Path]) -> None:
    option = outputs.film_option
    assert outputs.film is not None
    films.check_film_output(outputs.film, overwrite=outputs.overwrite, argument=option)
    files = (outputs.picture, outputs.log, outputs.checkpoint)
    refuse_inputs(outputs.film, [*inputs, *(file for file in files if file is not None)], option)
    _checks.number("film_seconds", outputs.film_seconds, above=0)
    if outputs.film_seconds > films.LONGEST:
        raise ValueError(
            f"`film_seconds`: expected {films.LONGEST:g} or less, got {outputs.film_seconds:g}"
        )


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
