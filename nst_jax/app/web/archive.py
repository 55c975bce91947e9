"""What a visitor takes home: the picture, its inputs and the command line in one archive, a film."""

import io
import zipfile
from pathlib import Path
from typing import Any

from nst_jax import images
from nst_jax.app.web import settings
from nst_jax.app.web.run import Run, RunPicture, RunState

SECONDS = 6.0  # length of a film
FILMS = {"gif": "image/gif", "webp": "image/webp"}  # formats offered, and their media types


def command_of(run: Run, step: int | None = None) -> dict[str, str]:
    """Return the command line that makes a picture of a run, and a sentence that says where it is.

    Args:
      run: the run.
      step: number of updates of the picture; None is the last picture that is kept.
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
    """Return a ZIP with a picture of a run, the files that its command line reads, and that line.

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
    """Return the files that the command line of a run reads."""
    return [run.folder / name for name in sorted(run.files)]


def can_film() -> bool:
    """Return whether this installation writes films."""
    return _films() is not None


def film_of(run: Run, kind: str) -> bytes:
    """Return a film of the pictures of a run, as a file of a format in `FILMS`."""
    films = _films()
    file = io.BytesIO()
    frames = (images.load(one.path) for one in run.kept)
    films.save(file, frames, seconds=SECONDS, format=kind)
    return file.getvalue()


def _films() -> Any:
    return getattr(images, "films", None)
