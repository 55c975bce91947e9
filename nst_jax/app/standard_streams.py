"""`-` in place of a file: a picture from standard input, and the result to standard output."""

import io
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from nst_jax import _files
from nst_jax.app.messages import print_message
from nst_jax.app.outputs import STANDARD
from nst_jax.images.sources import BinaryReader, Source, read_to_end
from nst_jax.images.writing import BinaryWriter, write_all

BROKEN_PIPE = (
    141  # exit code if nobody reads the result, as of programs that SIGPIPE ends: 128 + 13
)
NAME = "standard input"  # of the picture, in messages and in embedded settings
DEFAULT_FORMAT = "png"
# Options that name files which must be files: they are read again, appended to, or hold many pictures.
FILES_ONLY = ("checkpoint", "log", "frames")

_given: bytes | None = None  # what standard input had, while a command runs that reads it


class _StandardInput(io.BytesIO):
    """The bytes of standard input as a file object with a name."""

    name = NAME


def source(path: Path) -> Source:
    """Return from what a picture is read: the path itself, or what standard input had if it is `-`."""
    if path != STANDARD or _given is None:
        return path
    return _StandardInput(_given)


def with_streams(
    command: Callable[[dict[str, Any]], int],
    inputs: Mapping[str, Sequence[Path]],
    chosen: dict[str, Any],
) -> int:
    """Run a command, of whose pictures one may be `-`, and whose result may go to `-`.

    Args:
      command: takes the options, and returns the exit code.
      inputs: the pictures that the command reads, by the name of their argument.
      chosen: the options; `output` may be `-`, and `suffix` is the format of the result then.

    Returns:
      The exit code of the command; `BROKEN_PIPE` if nobody reads the result; 1 if it cannot be written.

    Raises:
      ValueError: if two pictures are `-`, if standard input is a terminal, closed or empty, if standard
        output is a terminal or closed, and for options that do not suit `-`.
    """
    _check_options(chosen)
    to_output = chosen["output"] == STANDARD
    if to_output:
        _check_output(chosen)
    with _read_input(inputs):
        return _to_output(command, chosen) if to_output else command(chosen)


def _check_options(chosen: Mapping[str, Any]) -> None:
    for name in FILES_ONLY:
        if chosen.get(name) == STANDARD:
            raise ValueError(
                f"`{name}`: cannot be `-`; name a file, or `./-` for a file of that name"
            )


# --- Standard input -------------------------------------------------------------------------------


@contextmanager
def _read_input(inputs: Mapping[str, Sequence[Path]]) -> Iterator[None]:
    """Context manager: read standard input if a picture is `-`; `source` returns it in this context."""
    global _given
    asked = [argument for argument, paths in inputs.items() for path in paths if path == STANDARD]
    if not asked:
        yield
        return
    if len(asked) > 1:
        raise ValueError(
            f"`{asked[1]}`: only one picture can be `-`, since standard input is read once; name files "
            "for the others"
        )
    _given = _all_of_input(asked[0])
    try:
        yield
    finally:
        _given = None


def _all_of_input(argument: str) -> bytes:
    stream: Any = sys.stdin
    if stream is None or stream.closed:
        raise ValueError(f"`{argument}`: standard input is closed; name a file")
    if stream.isatty():
        raise ValueError(
            f"`{argument}`: standard input is a terminal; pipe a picture into the command, or name a "
            "file"
        )
    reader: BinaryReader = stream.buffer
    data = read_to_end(reader, NAME, argument)
    if not data:
        raise ValueError(f"`{argument}`: standard input is empty; did the command before it fail?")
    return data


# --- Standard output ------------------------------------------------------------------------------


def _check_output(chosen: Mapping[str, Any]) -> None:
    if sys.stdout is None:
        raise ValueError("`output`: standard output is closed; name a file")
    if sys.stdout.isatty():
        raise ValueError(
            "`output`: standard output is a terminal, which shows no picture; write `-o - > out.png` "
            "or name a file"
        )
    if chosen.get("every") is not None and chosen.get("frames") is None:
        raise ValueError(
            "`every`: standard output takes one picture, at the end; omit it, or add `--frames DIR`"
        )


def _to_output(command: Callable[[dict[str, Any]], int], chosen: dict[str, Any]) -> int:
    """Run a command into a temporary file, and copy that to standard output, also after a failure.

    The file lets a run write what it has when it is stopped or fails, as into any other file.
    """
    folder = tempfile.mkdtemp(prefix="nst-jax-")
    picture = Path(folder, f"picture.{chosen['suffix'] or DEFAULT_FORMAT}")
    _files.mark_unfinished(picture)  # removed also if a second Ctrl-C ends the process at once
    try:
        with _claimed_output() as output:
            code = 1
            try:
                code = command(chosen | {"output": picture, "suffix": None, "prints_path": False})
            finally:
                problem = _copy(picture, output)
    finally:
        if not picture.exists():
            shutil.rmtree(folder, ignore_errors=True)
    if problem is None:
        return code
    if problem:
        print_message("error", problem)
        return 1
    return BROKEN_PIPE


def _copy(picture: Path, output: BinaryWriter) -> str | None:
    """Copy a file, if there is one, and remove it; return what went wrong, "" if nobody reads."""
    try:
        data = picture.read_bytes()
    except FileNotFoundError:  # nothing was painted; or another process of the cluster writes
        return None
    try:
        write_all(output, data)
    except BrokenPipeError:
        picture.unlink()
        return ""
    except OSError as error:
        reason = _files.reason_of(error)
        return f"cannot write to standard output: {reason}; the picture is in '{picture}'"
    picture.unlink()
    return None


@contextmanager
def _claimed_output() -> Iterator[BinaryWriter]:
    """Context manager: yield standard output for the picture; all else that is printed goes to stderr.

    That includes what libraries print without Python, by the number of the file.
    """
    stream: Any = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            number = stream.fileno()
        except (OSError, AttributeError):  # a stream of Python only, as in tests
            yield stream.buffer
            return
        stream.flush()
        with open(os.dup(number), "wb", buffering=0) as kept:
            _redirect(number)
            try:
                yield kept
            finally:
                os.dup2(kept.fileno(), number)


def _redirect(number: int) -> None:
    """Let a file number lead to standard error, or nowhere if that is closed."""
    with suppress(OSError):
        os.dup2(2, number)
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)
