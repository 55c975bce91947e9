"""How each row of a batch ended: the result manifest, and which pictures are finished already.

The result manifest is JSON lines, one for each row as it ends, appended, so that it can be read at
any moment and after any end. Of a row that several starts came by, the last line holds:

    {"row": 3, "content": "photos/c.jpg", "style": "a.jpg", "output": "out/c_a.png", "status": "done",
     "error": null, "seconds": 4.1, "losses": {"total": ..., "content": ..., ...}}

`status` is `done`, `skipped` (it was finished before), `diverged` (the losses stopped being finite;
the output is the last finite canvas) or `failed` (there is no output). `seconds` is the row's share
of the time that its group was painted in, compiling included.
"""

import json
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import images
from nst_jax.app import outputs

# How a picture is computed, which does not change it but for rounding.
ANY_WAY = ("network.tile", "network.remat")


class Record(NamedTuple):
    """How one row ended."""

    row: int
    content: str
    style: str
    output: str
    status: str
    error: str | None = None
    seconds: float = 0.0
    losses: dict[str, Any] | None = None

    @property
    def good(self) -> bool:
        """Whether the picture is there and whole."""
        return self.status in ("done", "skipped")


class Results(AbstractContextManager):
    """Takes the records of a batch and writes them down as they come, from any thread.

    Args:
      path: of the result manifest; lines are added to what is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._lock = threading.Lock()
        _drop_torn_line(path)
        # Unbuffered and appending: a line is one write, whole even if the process ends right after.
        self._file = path.open("ab", buffering=0)

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Take one record."""
        line = json.dumps(record._asdict(), ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock:
            self.records.append(record)
            # A name that is no text in the system's encoding must not lose the line.
            self._file.write(line.encode("utf-8", "backslashreplace"))


def _drop_torn_line(path: Path) -> None:
    """Take away a last line that a machine's end left incomplete."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def check(path: Path) -> None:
    """Refuse a result manifest that cannot be added to.

    Raises:
      ValueError: if it cannot be written, or is a file of another kind.
    """
    if path.parent.exists():
        outputs.check_file(path, "output")
    if not path.exists() or not path.stat().st_size:
        return
    try:
        with path.open("rb") as file:
            first = json.loads(file.readline(2**20))
        ours = isinstance(first, dict) and set(Record._fields) <= set(first)
    except (OSError, ValueError, RecursionError):
        ours = False
    if not ours:
        raise ValueError(
            f"`output`: results are listed in '{path}', which is a file of another kind; move it, or "
            "choose another folder"
        )


# --- What is finished -----------------------------------------------------------------------------


def finished(output: Path, asked: dict[str, Any]) -> dict[str, Any] | None:
    """Return what is embedded in a finished picture; None if there is none.

    A picture is finished if it can be read whole and its settings say so and are those asked for:
    recipe, sizes, seed, weights, and names and digests of content and styles. Device and versions may
    be others, and tiles.

    Args:
      output: where it would be.
      asked: `settings.of_picture`.

    Returns:
      All that is embedded, or None.
    """
    if not output.is_file():
        return None
    try:
        told = images.read_metadata(output)
    except ValueError:  # damaged, or no picture
        return None
    if told is None or told.get("finished") is not True:
        return None
    wanted = json.loads(json.dumps(asked))  # as it comes back from a file
    return (
        told if _without_ways(wanted) == _without_ways({n: told.get(n) for n in wanted}) else None
    )


def _without_ways(asked: dict[str, Any]) -> dict[str, Any]:
    told = asked.get("settings")
    if not isinstance(told, dict):
        return asked
    return asked | {"settings": {name: told[name] for name in told if name not in ANY_WAY}}
