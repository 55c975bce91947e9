"""What a visitor can download: a picture with its inputs and its command line, or a film of a run."""

import io
import zipfile
from pathlib import Path
from typing import Any

from nst_jax import images
from nst_jax.app.web import settings
from nst_jax.app.web.run import Run, RunPicture, RunState

SECONDS = 6.0  # length of a film, in seconds
FILMS = {"gif": "image/gif", "webp": "image/webp"}  # formats of films, and their media types


def command_of(run: Run, step: int | None = None) -> dict[str, str]:
    """Return the command line that makes a picture of a run, and where it writes this picture.

    Args:
      run: the run.
      step: number of updates after which the picture shows the canvas; None is the run's last picture.

    Returns:
      A dict: "command" is the command line, "where" a sentence that names the picture's file.
    """
    kept = run.picture(step)
    if kept is None or (run.state is RunState.DONE and kept.step == run.progress.total):
        line = settings.command_line(run.words)
        return {"command": line, "where": f"The picture is {settings.OUTPUT}."}
    line = settings.command_line(settings.frames_words(run.words, kept.step))
    name = settings.frame_name(kept.step)
    return {
        "command": line,
        "where": f"The picture after {kept.step} updates is {name}; {settings.OUTPUT} is finished.",
    }


def archive_of(run: Run, kept: RunPicture) -> bytes:
    """Return the bytes of a ZIP archive with a picture of a run and all that is needed to paint it.

    The archive has the picture, the files that the run's command line reads, and the command line.

    Args:
      run: the run.
      kept: the picture.

    Raises:
      FileNotFoundError: if the picture is no longer kept.
    """
    said = command_of(run, kept.step)
    script = f"#!/bin/sh\n# {said['where']}\n{said['command']}\n"
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


def can_film() -> bool:
    """Return whether this version of the package can write films."""
    return _films() is not None


def film_of(run: Run, kind: str) -> bytes:
    """Return a film of the pictures of a run, as the bytes of a file.

    Args:
      run: the run.
      kind: the format, a key of `FILMS`.

    Raises:
      FileNotFoundError: if a picture has just been deleted.
    """
    films = _films()
    file = io.BytesIO()
    frames = (images.load(one.path) for one in run.kept)
    films.save(file, frames, seconds=SECONDS, format=kind)
    return file.getvalue()


def _films() -> Any:
    return getattr(images, "films", None)
