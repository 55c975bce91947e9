"""The result manifest, which records how each row of a batch ended, and a check for finished pictures.

The result manifest is a file of JSON lines. A line is appended when a row ends, so the file is complete
and readable at any time, also after a crash. If a batch is started several times, a row has several
lines, of which the last counts. A line looks like this:

    {"row": 3, "content": "photos/c.jpg", "style": "a.jpg", "output": "out/c_a.png", "status": "done",
     "error": null, "seconds": 4.1, "losses": {"total": ..., "content": ..., ...}}

`status` is `done`, `skipped` (the picture was finished before), `diverged` (the losses stopped being
finite; the output is the last finite canvas), `stalled` (no update changed the losses; the output is as
it started) or `failed` (there is no output). `seconds` is the time that it took to paint the row's
group (the pictures that are painted together), including compilation, divided by the number of pictures
in the group.
"""

import json
import os
import threading
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import images
from nst_jax.app import outputs
from nst_jax.images import reading

LISTING = "results"  # stem of the result manifest's name

# Settings of a finished picture that may differ from the requested ones, since they change pictures
# only by rounding errors.
IGNORED_SETTINGS = ("network.tile", "network.remat")


class Record(NamedTuple):
    """How one row of a batch ended; becomes a line of the result manifest."""

    row: int  # number of the row, from 1
    content: str
    style: str
    output: str
    status: str  # "done", "skipped", "diverged", "stalled" or "failed"
    error: str | None = None
    seconds: float = 0.0
    losses: dict[str, Any] | None = None

    @property
    def good(self) -> bool:
        """Whether the row's picture is finished."""
        return self.status in ("done", "skipped")


class Results(AbstractContextManager):
    """Collects the records of a batch and appends them to the result manifest, from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._lock = threading.Lock()
        _drop_torn_line(path)
        # Unbuffered, so that each line is one write and stays complete if the process dies after it.
        self._file = path.open("ab", buffering=0)

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def add(self, record: Record) -> None:
        """Append a record to `records` and to the result manifest."""
        line = json.dumps(record._asdict(), ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock:
            self.records.append(record)
            # A file name may contain bytes that are not UTF-8; they are escaped, so writing succeeds.
            self._file.write(line.encode("utf-8", "backslashreplace"))


def _drop_torn_line(path: Path) -> None:
    """Remove the last line of a file if it is incomplete, as after a crash."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def check_listing(path: Path) -> None:
    """Refuse a result manifest to which no records can be appended.

    Raises:
      ValueError: if the file cannot be written, or if it exists and is not a result manifest.
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
            f"`output`: results are recorded in '{path}', which is a file of another kind; move it, or "
            "choose another folder"
        )


# --- Finished pictures ----------------------------------------------------------------------------


def read_if_finished(output: Path, requested: dict[str, Any]) -> dict[str, Any] | None:
    """Return the metadata of a picture if it is finished, else None.

    A picture is finished if its file is complete and its metadata contain `"finished": true` and agree
    with the requested recipe, sizes, seed, weights, and names and digests of the input files. Device,
    versions, tiles and rematerialisation may differ.

    Args:
      output: path of the picture.
      requested: the requested settings, from `provenance.of_picture`.

    Returns:
      All metadata of the picture, or None if it is not finished.
    """
    if not output.is_file():
        return None
    try:
        metadata = images.read_metadata(output)
    except ValueError:  # damaged, or not a picture
        return None
    if metadata is None or metadata.get("finished") is not True:
        return None
    wanted = json.loads(json.dumps(requested))  # tuples become lists, as in the embedded metadata
    present = {name: metadata.get(name) for name in wanted}
    return metadata if _comparable(wanted) == _comparable(present) else None


def written_before(folder: Path) -> set[str]:
    """Return the real paths of all pictures that a folder's result manifests record as not failed."""
    found = set()
    for path in folder.glob(f"{LISTING}*.jsonl"):
        with suppress(OSError), path.open("rb") as file:
            for line in file:
                with suppress(ValueError, RecursionError, TypeError, KeyError):
                    record = json.loads(line)
                    if isinstance(record, dict) and record.get("status") != "failed":
                        found.add(os.path.realpath(record["output"]))
    return found


def is_ours(path: Path, written: set[str]) -> bool:
    """Return whether this program wrote a file: its settings are embedded, or a manifest records it.

    Args:
      path: an existing file.
      written: from `written_before`.
    """
    return os.path.realpath(path) in written or reading.has_settings(path)


def _comparable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without the settings in `IGNORED_SETTINGS`."""
    settings = metadata.get("settings")
    if not isinstance(settings, dict):
        return metadata
    kept = {name: value for name, value in settings.items() if name not in IGNORED_SETTINGS}
    return metadata | {"settings": kept}
