"""What a visitor can download: a picture with its inputs and its command line, or a film of a run.

A visitor is somebody who uses the web page. A run is the painting of one picture by optimisation, which
a visitor began. Of each run, the pictures after some of its updates are kept.
"""

import io
import zipfile
from pathlib import Path

import numpy as np

from nst_jax import images
from nst_jax.app.web import settings
from nst_jax.app.web.run import Run, RunPicture, RunState
from nst_jax.images import films

SECONDS = 6.0  # length of a film, in seconds
FILMS = {"gif": "image/gif", "webp": "image/webp"}  # formats of films, and their media types


def command_of(run: Run, step: int | None = None) -> dict[str, str]:
    """Return the command line that makes a picture of a run, and sentences about it.

    Args:
      run: the run.
      step: which picture: the one after this number of updates; None is the run's last picture.

    Returns:
      A dict of four texts. "command" is the command line, and "where" is a sentence that names the file
      of the picture that the command writes. "start" has the command lines, one in each line, that make
      the picture from which the run starts, and "start_note" is a sentence about them. Both are empty
      if the run starts as its recipe says.
    """
    kept = run.picture(step)
    if kept is None or is_finished(run, kept):
        line, where = settings.command_line(run.words), f"The picture is {settings.OUTPUT}."
    else:
        line = settings.command_line(settings.frames_words(run.words, kept.step))
        name = settings.frame_name(kept.step)
        count = "1 update" if kept.step == 1 else f"{kept.step} updates"
        where = f"The picture after {count} is {name}; {settings.OUTPUT} is finished."
    return {
        "command": line,
        "where": where,
        "start": "\n".join(run.start_lines),
        "start_note": _start_note(run),
    }


def _start_note(run: Run) -> str:
    if not run.start_lines:
        return ""
    masks = any(flag in line for line in run.start_lines for flag in ("--protect", "--region"))
    return (
        "One command is not enough, since this painting starts from a picture of an earlier one: the "
        "lines before the last make that picture"
        f"{', with the masks as they were then' if masks else ''}."
    )


def is_finished(run: Run, kept: RunPicture) -> bool:
    """Return whether a picture of a run is its final result, painted with all updates."""
    return run.state is RunState.DONE and kept.step == run.progress.total


def start_lines_of(run: Run, kept: RunPicture, name: str) -> list[str]:
    """Return command lines that, run one after the other, make a picture of a run again.

    They begin with those for the picture from which the run started, if it started from one.

    Args:
      run: the run.
      kept: the picture to make again.
      name: name of the file to which the command lines write the picture.
    """
    step = None if is_finished(run, kept) else kept.step
    return [*run.start_lines, *settings.start_lines(run.words, step, name)]


def archive_of(run: Run, kept: RunPicture) -> bytes:
    """Return the bytes of a ZIP archive with a picture of a run and all that is needed to paint it.

    The archive has the picture, a script with the command line that paints it, and the files that this
    command line reads.

    Args:
      run: the run that painted the picture.
      kept: the file of the picture, and the number of updates after which it was saved.

    Raises:
      FileNotFoundError: if the file of the picture or of an input has been deleted.
    """
    said = command_of(run, kept.step)
    script = f"#!/bin/sh\n# {said['where']}\n{said['command']}\n"
    if run.start_lines:
        made = "".join(f"#   {line}\n" for line in run.start_lines)
        script += f"\n# The picture from which it starts is in this folder; it was made by:\n{made}"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for path in files_to_take(run):
            archive.write(path, path.name)
        archive.write(kept.path, f"painted_after_{kept.step}.png")
        archive.writestr("command.sh", script)
    return file.getvalue()


def files_to_take(run: Run) -> list[Path]:
    """Return the paths of the files that the command line of a run reads."""
    return [run.folder / name for name in sorted(run.files)]


def film_of(run: Run, kind: str) -> bytes:
    """Return a film of the pictures of a run, as the bytes of a file.

    Args:
      run: the run.
      kind: the format, a key of `FILMS`.

    Raises:
      FileNotFoundError: if the file of a picture has been deleted meanwhile.
      ValueError: if the file of a picture is damaged, or if the run has no picture.
    """
    file = io.BytesIO()
    frames = (_read(one.path) for one in run.kept)
    films.save(file, frames, seconds=SECONDS, format=kind)
    return file.getvalue()


def _read(path: Path) -> np.ndarray:
    """Return the picture in a file; raise FileNotFoundError, not ValueError, if there is no file."""
    try:
        return images.load(path)
    except ValueError:
        if not path.exists():
            raise FileNotFoundError(path) from None
        raise
