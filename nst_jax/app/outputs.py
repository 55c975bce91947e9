"""The files that a run writes, and the checks of their paths before the run starts."""

import inspect
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nst_jax import _checks, _files, images, painting
from nst_jax._types import Shape
from nst_jax.app.formatting import few
from nst_jax.images import films

# Number of updates from one frame (a picture in the folder of `--frames`) to the next if `--every` is
# not given. It is the default of the argument `every` of `nst_jax.paint`.
EVERY = inspect.signature(painting.paint).parameters["every"].default

STANDARD = Path("-")  # means standard input or output; a file with this name is typed as `./-`


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """The files that a run writes, and when they are written.

    Attributes:
      picture: file for the resulting picture.
      overwrite: whether existing files may be replaced.
      metadata: whether the settings of the run are embedded in pictures and films.
      every: number of updates after which `picture` is written again during the run; None means that
        it is written only at the end.
      film: file for a film of the run, or None.
      film_seconds: length of the film in seconds.
      film_option: name of the option that named the film, "film" or "output", for error messages.
      frames: folder for frames: numbered pictures of the canvas (the picture that is painted), one for
        every `stride` updates; or None.
      log: file for the losses of every update, as JSON lines, or None.
      checkpoint: file from which an interrupted run can resume, or None.
      checkpoint_every: number of updates from one checkpoint to the next; with None, a checkpoint is
        written about every 30 seconds.
      resume: whether to resume from `checkpoint`, if this file exists.
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
        """Number of updates between two successive pictures that are written during the run.

        None if no picture is written before the end of the run.
        """
        if self.every is None and self.frames is not None:
            return EVERY
        return self.every

    @property
    def shown(self) -> list[Path]:
        """The files that show the result: the picture and, if one is wanted, the film."""
        return [self.picture] if self.film is None else [self.picture, self.film]

    def film_stride(self, total: int) -> int | None:
        """Return the number of updates from one frame of the film to the next; None without a film.

        It is `every`, if that is given. Else `total` is divided by the number of intervals between the
        frames that the film can show, and rounded; the result is at least 1.

        Args:
          total: the number of updates of the run.
        """
        if self.film is None:
            return None
        # A very short film has a single frame, the result, and so no interval between frames. The 1
        # avoids a division by zero.
        intervals = max(1, films.most_frames(self.film_seconds) - 1)
        return self.every or max(1, round(total / intervals))

    def check_fits(self, shape: Shape) -> None:
        """Check that a result's size is allowed by the formats of the picture and of the film.

        Args:
          shape: (height, width) of the result.

        Raises:
          ValueError: if the result is too large.
        """
        images.check_fits(self.picture, shape, argument="output")
        if self.film is not None:
            kind = films.format_of(self.film, argument=self.film_option)
            films.check_film_fits(kind, shape, argument=self.film_option)


def default_name(content: Path, styles: Iterable[Path], ending: str = "") -> Path:
    """Return the name that a result gets if the user names no file, such as `photo_painting.png`.

    A name that would be too long has only its beginning, with a hash.

    Args:
      content: path of the content.
      styles: paths of the styles.
      ending: text at the end of the name, before the suffix.
    """
    stems = ["stdin" if path == STANDARD else path.stem for path in (content, *styles)]
    return Path(_files.fitting_name("_".join(stems), f"{ending}.png"))


def result_path(output: Path | None, default: Path) -> Path:
    """Return the path to which the result is written.

    Args:
      output: the value of `--output`. The path of a file is returned as it is. If it is the path of a
        folder, the result gets the name `default` in this folder. For None, `default` is returned.
      default: the name of the result if the user names no file.
    """
    if output is None:
        return default
    return output / default if output.is_dir() else output


# Suffixes of files that are always films. A .webp file can be a film or a single picture.
FILM_SUFFIXES = (".gif", ".apng", ".mp4")


def picture_and_film(
    output: Path | None, film: Path | None, default: Path, *, still: bool = False
) -> tuple[Path, Path | None, str]:
    """Return the paths of the resulting picture and of the film.

    Args:
      output: the value of `--output`, or None. If it is the name of a film, such as out.gif, both this
        film and the picture out.png are written. A name that ends in .webp is that of a film, unless
        `film` names one or `still` is true.
      film: the value of `--film`, or None.
      default: the name of the picture if no option names it.
      still: whether an output whose name ends in .webp is a single picture, not a film.

    Returns:
      The path of the picture; the path of the film, or None if there is no film; and "output" if
      `output` names the film, otherwise "film".

    Raises:
      ValueError: if both options name a film.
    """
    picture = result_path(output, default)
    suffix = picture.suffix.lower()
    webp_film = suffix == ".webp" and film is None and not still
    if suffix not in FILM_SUFFIXES and not webp_film:
        return picture, film, "film"
    if film is not None:
        raise ValueError(
            f"`film`: `--output` already names a film, '{picture}'; omit one of them, or end the "
            "output in .png"
        )
    return picture.with_suffix(".png"), picture, "output"


# --- Checks ---------------------------------------------------------------------------------------


def check_outputs(outputs: Outputs, inputs: Sequence[Path]) -> None:
    """Check that all outputs can be written, and that none would overwrite an input or another output.

    Args:
      outputs: the files that the run writes.
      inputs: paths of all files that the run reads.

    Raises:
      ValueError: if a path cannot be used, if an interval is below 1 update, or if the length of the
        film is out of range. The message names the option.
    """
    images.check_output(outputs.picture, overwrite=outputs.overwrite, argument="output")
    # `-o photo.webp` writes a film, and its last picture to photo.png. If photo.png is an input, the
    # user may have wanted only a picture, so the error message says how to get one.
    film = outputs.film if outputs.film_option == "output" else None
    webp = film is not None and film.suffix.lower() == ".webp"
    hint = ", or add `--format webp` for a picture in place of a film" if webp else ""
    refuse_inputs(outputs.picture, inputs, "output", hint=hint)
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
    _checks.number("film_seconds", outputs.film_seconds, above=0, most=films.LONGEST)


def refuse_inputs(path: Path, inputs: Iterable[Path], argument: str, *, hint: str = "") -> None:
    """Refuse an output that is the same file as an input or another output.

    Args:
      path: path of the output.
      inputs: paths of the inputs and of other outputs.
      argument: name of the option with the path of the output, used in the error message.
      hint: what else the user can do, for the end of the message.

    Raises:
      ValueError: if `path` leads to the same file as one of the `inputs`.
    """
    for source in inputs:
        same = path.absolute() == source.absolute()
        if same or (path.exists() and source.exists() and path.samefile(source)):
            raise ValueError(
                f"`{argument}`: '{path}' is also another input or output; choose another{hint}"
            )


def frame_file(step: int) -> str:
    """Return the name of the frame that shows the canvas after a number of updates.

    Example:
      >>> frame_file(50)
      'step_00050.png'
    """
    return f"step_{step:05d}.png"


def note_on_old_frames(outputs: Outputs, total: int) -> list[str]:
    """Return a note if the folder for frames has frames of an earlier run, else an empty list.

    A new run replaces the frames with its own numbers of updates. The others are kept, since they are
    results; the note names them, since a film made of the folder's pictures would show both runs.

    Args:
      outputs: the files that a new run writes.
      total: the number of updates of the run.
    """
    if outputs.frames is None:
        return []
    assert outputs.stride is not None
    old = sorted(outputs.frames.glob("step_*.png"))
    replaced = {frame_file(step) for step in (*range(0, total, outputs.stride), total)}
    stay = [path.name for path in old if path.name not in replaced]
    if stay:
        return [
            f"'{outputs.frames}' has frames of an earlier run that this run does not replace, "
            f"{few(stay)}; remove them before you make a film of the folder"
        ]
    if old:
        return [
            f"'{outputs.frames}' has frames of an earlier run, {old[0].name} to {old[-1].name}; this "
            "run replaces them one by one, unless it is stopped before"
        ]
    return []


def refuse_among_frames(folder: Path, others: Iterable[Path]) -> None:
    """Refuse a folder for frames if a frame would overwrite another file of the run.

    Args:
      folder: the folder for frames, numbered pictures of the run such as step_00100.png.
      others: paths of the inputs and of other outputs.

    Raises:
      ValueError: if one of `others` is in the folder and has the name of a frame.
    """
    for other in others:
        inside = other.absolute().parent.resolve() == folder.absolute().resolve()
        if inside and other.match("step_*.png"):
            raise ValueError(
                f"`frames`: a frame would replace '{other}', which is another input or output; "
                "name another folder"
            )


def check_file(path: Path, argument: str, *, overwrite: bool = True) -> None:
    """Refuse, with ValueError, a path that cannot be written to, or whose file must not be replaced.

    Args:
      path: path of an output.
      argument: name of the option with this path, used in the error message.
      overwrite: whether an existing file may be replaced.
    """
    if path.exists() and not path.is_dir() and not overwrite:
        raise ValueError(f"`{argument}`: '{path}' exists; choose another name or `--overwrite`")
    _files.check_destination(path, argument=argument)


def check_folder(path: Path, argument: str) -> None:
    """Refuse, with ValueError, a path that is a file, or a folder that cannot be written to or made.

    Args:
      path: path of the folder; its parent folder must exist.
      argument: name of the option with this path, used in the error message.
    """
    if not path.exists():
        _files.check_destination(path, argument=argument)
    elif not path.is_dir():
        raise ValueError(f"`{argument}`: '{path}' is a file; name a folder")
    elif not os.access(path, os.W_OK):
        raise ValueError(f"`{argument}`: the folder '{path}' is not writable")
