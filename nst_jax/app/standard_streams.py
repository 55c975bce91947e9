"""Read a picture named `-` from standard input, and write a result named `-` to standard output."""

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
from nst_jax.app import interrupts
from nst_jax.app.messages import print_message
from nst_jax.app.outputs import STANDARD
from nst_jax.images.sources import BinaryReader, Source, read_to_end
from nst_jax.images.writing import BinaryWriter, write_all

# Exit code if nobody reads the result from standard output: 128 + 13, like that of programs that are
# ended by SIGPIPE, the signal with the number 13.
BROKEN_PIPE = 141
# Name of a picture that is read from standard input, in messages and in the result's metadata.
NAME = "standard input"
# Format of the picture on standard output, if the option `suffix` names none.
DEFAULT_FORMAT = "png"

# The bytes of standard input while a command runs that reads a picture from there (`-`); else None.
_given: bytes | None = None


class _StandardInput(io.BytesIO):
    """A file object with the bytes from standard input, and a name for messages."""

    name = NAME


def source(path: Path) -> Source:
    """Return what a picture is read from: its path, or for `-` a file object with standard input.

    `-` stays the path of a file if the command that runs does not read standard input.
    """
    if path != STANDARD or _given is None:
        return path
    return _StandardInput(_given)


def with_streams(
    command: Callable[[dict[str, Any]], int],
    inputs: Mapping[str, Sequence[Path]],
    chosen: dict[str, Any],
) -> int:
    """Run a command that may read one picture from standard input and write to standard output.

    Args:
      command: a function that takes the values of the options, and returns the exit code.
      inputs: paths of the pictures that the command reads, by the names of its arguments. One of the
        paths may be `-`.
      chosen: the values of the options. `output` may be `-`; then `suffix` is the format of the result,
        such as "jpg", or None for `DEFAULT_FORMAT`.

    Returns:
      The exit code of the command, with two exceptions: `BROKEN_PIPE` if nobody reads the result from
      standard output, and 1 if it cannot be written there for another reason.

    Raises:
      ValueError: if two pictures are `-`; if standard input is needed but is a terminal, closed or
        empty; if standard output is needed but is a terminal or closed; and for options that cannot be
        used with an output to `-`.
    """
    to_output = chosen["output"] == STANDARD
    if to_output:
        _check_output(chosen)
    with _read_input(inputs):
        return _to_output(command, chosen) if to_output else command(chosen)


# --- Standard input -------------------------------------------------------------------------------


@contextmanager
def _read_input(inputs: Mapping[str, Sequence[Path]]) -> Iterator[None]:
    """Context manager: if a picture is `-`, read standard input, which `source` then returns.

    Args:
      inputs: name of an argument -> the paths of its pictures.

    Raises:
      ValueError: if several pictures are `-`, or if standard input is a terminal, closed or empty.
    """
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
    """Run a command that writes to a temporary file, then copy this file to standard output.

    The file is copied even if the command fails: a run that is stopped or fails writes the picture that
    it has so far.
    """
    folder = tempfile.mkdtemp(prefix="nst-jax-")
    picture = Path(folder, f"picture.{chosen['suffix'] or DEFAULT_FORMAT}")
    # A signal may end the process without running the `finally` below.
    forget = interrupts.call_before_exit(lambda: shutil.rmtree(folder, ignore_errors=True))
    try:
        with _claimed_output() as output:
            code = 1
            try:
                changed = {"output": picture, "suffix": None, "still": True, "prints_path": False}
                code = command(chosen | changed)
            finally:
                problem = _copy(picture, output)
    finally:
        forget()  # from now on, a picture that could not be copied stays, as the message says
        if not picture.exists():
            shutil.rmtree(folder, ignore_errors=True)
    if problem is None:
        return code
    if problem:
        print_message("error", problem)
        return 1
    return BROKEN_PIPE


def _copy(picture: Path, output: BinaryWriter) -> str | None:
    """Copy a picture file to standard output, and remove the file.

    Returns:
      None if the file was copied or does not exist; "" if nobody reads standard output; an error
      message if writing to standard output fails for another reason. In the last case the file is kept.
    """
    try:
        data = picture.read_bytes()
    except FileNotFoundError:
        # No picture was painted, or another process of `--cluster` writes it.
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
    """Context manager: reserve standard output for the picture, and yield it as a binary file.

    Meanwhile all text that is printed goes to standard error, even what libraries in C write directly
    to the file descriptor of standard output.
    """
    stream: Any = sys.stdout
    with redirect_stdout(sys.stderr):
        try:
            number = stream.fileno()
        except (OSError, AttributeError):  # the stream has no file descriptor, as in tests
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
    """Redirect a file descriptor to standard error, or to nowhere if standard error is closed."""
    with suppress(OSError):
        os.dup2(2, number)
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), number)
