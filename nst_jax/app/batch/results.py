"""The result manifest, which records how each row of a batch ended, and a check for finished pictures.

A row is one picture of the batch; its record says how it ended. The result manifest is a file of JSON
lines, one for each record. A line is appended when a row ends, so the file is complete and readable at
any time, also after a crash. If a batch is started several times, a row has several lines, of which the
last counts. A line looks like this:

    {"row": 3, "content": "photos/c.jpg", "style": "a.jpg", "output": "out/c_a.png", "status": "done",
     "error": null, "seconds": 4.1, "losses": {"total": ..., "content": ..., ...}}

`status` is `done`, `skipped` (the picture was finished before), `diverged` (the losses stopped being
finite; the output is the last finite picture), `stalled` (no update changed the losses, so the output
shows only the initial picture) or `failed` (no picture was written to `output`, or it was deleted
during the batch). `seconds` is the time that it took to paint the row's group (the pictures that are
painted together), including compilation, divided by the number of pictures in the group.
"""

import functools
import json
import os
import threading
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar, runtime_checkable

from nst_jax import _files, _locks, images
from nst_jax.app import outputs, writing
from nst_jax.images import reading
from nst_jax.scaling.capacity import OutOfMemory

# How the file name of the result manifest begins. Text such as "-2-of-8" follows for a shard, which is
# a part of a batch that a process of its own paints.
LISTING = "results"

# A finished picture is not painted again if only these of its settings differ from the requested ones:
# they change pictures only by rounding errors.
IGNORED_SETTINGS = ("network.tile", "network.remat")

# Exceptions whose messages are clear without the name of the exception's type.
SELF_EXPLAINING = (ValueError, OSError, OutOfMemory)


class Record(NamedTuple):
    """How one row (one picture) of a batch ended; becomes a line of the result manifest."""

    row: int  # number of the row, from 1
    content: str  # path of the content; empty if the row has none, and so paints a texture
    style: str  # paths or names of the styles as one text, such as "a.jpg:0.3;b.jpg:0.7"
    output: str  # path of the result
    # "done", "skipped" (the picture was finished before), "diverged" (the losses stopped being finite),
    # "stalled" (no update changed the losses) or "failed".
    status: str
    # What went wrong; None if nothing did. A row that is "done" has an error, too, if its losses
    # stopped changing while still high.
    error: str | None = None
    # Time to paint the row's group (the pictures that are painted together), divided by the number of
    # its pictures; 0 if the row was not painted.
    seconds: float = 0.0
    # Losses of the result by name. None if they are not known: the row failed or diverged, the picture
    # was painted by `instant`, which computes no losses, or the file of a finished picture states none.
    losses: dict[str, Any] | None = None

    @property
    def good(self) -> bool:
        """Whether the picture is finished."""
        return self.status in ("done", "skipped")


def message_of(error: BaseException) -> str:
    """Return the message of an error as one line, with the name of the error's type before it.

    Errors of the types in `SELF_EXPLAINING` are clear without the name, so it is left out. If an error
    has no message, only the name is returned. Any MemoryError except `OutOfMemory` gives a fixed
    sentence instead of its own message.
    """
    if isinstance(error, MemoryError) and not isinstance(error, OutOfMemory):
        return "there is too little memory; choose a smaller size"
    lines, kind = " ".join(str(error).split()), type(error).__name__
    if not lines:
        return kind
    return lines if isinstance(error, SELF_EXPLAINING) else f"{kind}: {lines}"


class Results(AbstractContextManager):
    """Collects the records of a batch and appends them to its result manifest, from any thread.

    A record says how one picture ended. The result manifest is a file with one line of JSON for each
    record. If it is deleted during the batch, it is made anew with all records so far. If it cannot be
    written to, the batch goes on, since its pictures matter more; with each later record, writing is
    tried again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: list[Record] = []
        self._lock = threading.Lock()
        self._lines: list[bytes] = []  # all lines so far, also those not in the file yet
        self._written = 0  # how many of `_lines` are in the file
        self._failure: OSError | None = None  # the error of the last attempt to write, if any
        self._file: BinaryIO | None = self._opened()

    def _opened(self) -> BinaryIO:
        _drop_torn_line(self.path)
        # Unbuffered, so that each line is one write and stays complete if the process dies after it.
        return self.path.open("ab", buffering=0)

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._write()
            if self._file is not None:
                self._file.close()

    def add(self, record: Record) -> None:
        """Append the record of a picture to `records` and to the file of records (result manifest)."""
        line = json.dumps(record._asdict(), ensure_ascii=False, allow_nan=False) + "\n"
        with self._lock:
            self.records.append(record)
            # A file name may contain bytes that are not UTF-8; they are escaped, so writing succeeds.
            self._lines.append(line.encode("utf-8", "backslashreplace"))
            self._write()

    def fail_vanished(self) -> None:
        """Record as failed every picture that was written, but whose file has been deleted since."""
        for index, record in enumerate(self.records):
            if record.status != "failed" and not os.path.lexists(record.output):
                error = "was deleted after it was written; start the batch again to paint it anew"
                self.add(record._replace(status="failed", error=error))
                self.records[index] = self.records.pop()

    def _write(self) -> None:
        """Write the lines that are not in the file yet; if that fails, keep them for the next call."""
        try:
            if self._file is not None and not _locks.is_at(self._file.fileno(), self.path):
                self._file.close()
                self._file = None
            if self._file is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._file, self._written = self._opened(), 0
            for line in self._lines[self._written :]:
                _append(self._file, line)
                self._written += 1
            self._failure = None
        except OSError as error:
            self._failure = error

    def ensure_saved(self) -> str:
        """If writing to the result manifest failed, save all records in another folder, if possible.

        The result manifest is a file with one record, of how a picture ended, in each line.

        Returns:
          Why the result manifest lacks records, and, if all records could be saved elsewhere, in which
          file; "" if the result manifest lacks none.
        """
        if self._failure is None:
            return ""
        reason = f"cannot write '{self.path}': {_files.reason_of(self._failure)}"
        found = writing.save_elsewhere(self.path, self._save_all)
        return f"{reason}; the results are in '{found}'" if found else reason

    def _save_all(self, path: Path) -> None:
        path.write_bytes(b"".join(self._lines))


def _append(file: BinaryIO, line: bytes) -> None:
    """Append a line to a file; if that fails, remove what was written of the line."""
    length = file.seek(0, os.SEEK_END)
    rest = line
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except BaseException:
        with suppress(OSError):
            file.truncate(length)
        raise


def _drop_torn_line(path: Path) -> None:
    """Remove the last line of a file if it is incomplete, as after a crash."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        data = file.read()
        if data and not data.endswith(b"\n"):
            file.truncate(data.rfind(b"\n") + 1)


def check_listing(path: Path) -> None:
    """Refuse a path for the result manifest if no records can be appended to the file there.

    A result manifest records how each picture of a batch ended.

    Raises:
      ValueError: if the file cannot be written to, or if it exists and is not a result manifest.
    """
    if path.parent.exists():
        outputs.check_file(path, "output")
    if path.exists() and not path.is_file():  # opening a pipe might wait forever
        raise ValueError(
            f"`output`: '{path}' is no regular file; move it, or choose another folder"
        )
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
      requested: the settings that the picture shall have, in the form of embedded metadata.

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


@runtime_checkable
class Result(Protocol):
    """What `divided` reads of a row (a picture of the batch): its number and its result's path."""

    @property
    def number(self) -> int:
        """Number of the picture in the batch, from 1."""
        ...

    @property
    def output(self) -> Path:
        """Path of the file to which the picture is written."""
        ...


R = TypeVar("R", bound=Result)


def divided(
    entries: Iterable[R],
    requested: Callable[[R], dict[str, Any]],
    folder: Path,
    *,
    overwrite: bool | None,
) -> tuple[list[R], list[tuple[R, dict[str, Any]]]]:
    """Divide the rows (pictures) of a batch into those to paint and those that are finished already.

    Args:
      entries: the rows.
      requested: returns the settings that a row asks for, as `read_if_finished` takes them.
      folder: the folder of the results.
      overwrite: what happens if there is a file already where the picture of a row belongs. True: the
        file is replaced; no row counts as finished. False: the row is finished if the file is the
        finished picture of this row; any other file is refused. None: as with False, but another
        picture that this program wrote is replaced.

    Returns:
      The rows to paint; and the rows whose pictures are finished, each with its picture's metadata.

    Raises:
      ValueError: if the file at the path of a row's picture is not the finished picture of this row and
        may not be replaced.
    """
    rest: list[R] = []
    finished: list[tuple[R, dict[str, Any]]] = []
    if overwrite:
        return list(entries), finished
    # The result manifests (files that list results) are read only if necessary, since a batch that
    # thousands of processes share has thousands of them.
    written = functools.cache(lambda: written_before(folder))
    for entry in entries:
        embedded = None
        if entry.output.is_file():  # checked first, since `requested` takes longer
            embedded = read_if_finished(entry.output, requested(entry))
        if embedded is not None:
            finished.append((entry, embedded))
        elif overwrite is False and os.path.lexists(entry.output):
            raise ValueError(
                f"`output`: '{entry.output}' exists but is not the finished picture of row "
                f"{entry.number}; choose another folder, or omit `--no-overwrite` to replace the file"
            )
        elif entry.output.exists() and not is_ours(entry.output, written()):
            raise ValueError(
                f"`output`: '{entry.output}' exists and this program did not write it (row "
                f"{entry.number}); choose another folder, or `--overwrite` to replace the file"
            )
        else:
            rest.append(entry)
    return rest, finished


def check_sheet(sheet: Path, *, overwrite: bool | None) -> None:
    """Refuse a path for the contact sheet that cannot be written to, or where a file would be lost.

    The contact sheet is one picture that shows all results of a batch.

    Args:
      sheet: the path.
      overwrite: True allows that any file is replaced; None and False refuse to replace a file that is
        no contact sheet of this program, such as a picture that it painted.

    Raises:
      ValueError: if the path cannot be written to, or if there is a file that may not be replaced.
    """
    if not sheet.parent.exists():
        return
    images.check_output(sheet, argument="output")
    if sheet.exists() and not overwrite and not reading.is_contact_sheet(sheet):
        raise ValueError(
            f"`output`: '{sheet}' exists and is no contact sheet of this program; choose another "
            "folder, or `--overwrite` to replace the file"
        )


def written_before(folder: Path) -> set[str]:
    """Return the paths of all results that a folder's result manifests list, except failed ones.

    A result manifest records how each picture of a batch ended. A picture for which it has several
    lines is left out only if all of them say that the picture failed. Symbolic links in the paths are
    followed.
    """
    found = set()
    for path in folder.glob(f"{LISTING}*.jsonl"):
        if not path.is_file():  # opening a pipe might wait forever
            continue
        with suppress(OSError), path.open("rb") as file:
            for line in file:
                with suppress(ValueError, RecursionError, TypeError, KeyError):
                    record = json.loads(line)
                    if isinstance(record, dict) and record.get("status") != "failed":
                        found.add(os.path.realpath(record["output"]))
    return found


def is_ours(path: Path, written: set[str]) -> bool:
    """Return whether this program wrote a file.

    It did if the file is a picture with this program's metadata, or if the result manifest (the list of
    results) of a batch says that the file was written.

    Args:
      path: an existing file.
      written: from `written_before`, the paths of results that result manifests list, except failed
        ones.
    """
    return os.path.realpath(path) in written or reading.has_metadata(path)


def _comparable(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return metadata without `IGNORED_SETTINGS`, which may differ from the requested settings."""
    settings = metadata.get("settings")
    if not isinstance(settings, dict):
        return metadata
    kept = {name: value for name, value in settings.items() if name not in IGNORED_SETTINGS}
    return metadata | {"settings": kept}
