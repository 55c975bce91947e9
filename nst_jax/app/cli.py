"""The command line as a program: JAX's environment, errors as one line, and the exit codes.

`nst_jax.app.declarations` has its commands.
"""

import os
import re
import sys
import time
from collections.abc import Sequence

import click

from nst_jax.app import interrupts, messages
from nst_jax.app.declarations import cli
from nst_jax.app.messages import PROGRAM
from nst_jax.app.options import shared

DEBUG = "NST_JAX_DEBUG"  # environment variable: if set, tracebacks of unexpected errors are shown
PLATFORMS = "JAX_PLATFORMS"  # environment variable: the platforms that JAX uses, such as cpu
PROMOTION = "JAX_NUMPY_DTYPE_PROMOTION"  # environment variable: "strict" forbids mixing dtypes
ALLOCATION = "XLA_PYTHON_CLIENT_"  # prefix of environment variables on how JAX allocates GPU memory
# Name of the class `nst_jax.scaling.capacity.OutOfMemory`. Errors of this class are recognised by its
# name, since importing the class would import JAX, which is slow.
OUT_OF_MEMORY = "OutOfMemory"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
      argv: the words after the program's name. None means the words with which this process was
        started.

    Returns:
      The exit code: 0 if all went well, 1 if the run failed, 2 for bad input, 130 after Ctrl-C, 143
      after SIGTERM, 129 after SIGHUP, 141 if nobody reads the picture on standard output. Some commands
      report what is finished when they are stopped: `batch`, `sweep`, and `instant` with several
      pictures. These return 130 after SIGTERM and SIGHUP, too.
    """
    if argv is not None:
        return _call(argv)
    interrupts.exit_on_interrupt()
    _allocate_gpu_memory_on_demand()
    _allow_promotion()
    _silence_xla()
    code = _call(None)
    if code or interrupts.threads_left:
        # A run that ended early may have a thread that is still compiling. Then Python's clean-up,
        # which `exit_at_once` leaves out, would wait for the thread or might crash.
        interrupts.exit_at_once(code)
    return code


def _allocate_gpu_memory_on_demand() -> None:
    """Let JAX allocate GPU memory as a run needs it, unless an environment variable is about this.

    These variables are those whose names begin with `ALLOCATION`; if any is set, nothing is changed.

    By default, JAX reserves three quarters of a GPU's memory when it starts, even for a small picture.
    A desktop that is drawn by the same GPU may then lack memory. The disadvantage of allocating on
    demand is fragmentation, which `capacity.available` takes into account. The limit on JAX's memory
    (`XLA_PYTHON_CLIENT_MEM_FRACTION`) stays at three quarters.
    """
    if not any(name.startswith(ALLOCATION) for name in os.environ):
        os.environ[f"{ALLOCATION}PREALLOCATE"] = "false"


def _allow_promotion() -> None:
    """Let JAX mix dtypes even if the environment forbids it.

    Users set `JAX_NUMPY_DTYPE_PROMOTION` to "strict" for their own code, not for this program.
    """
    if PROMOTION in os.environ:
        os.environ[PROMOTION] = "standard"


def _silence_xla() -> None:
    """Keep the messages of XLA from the terminal, unless the environment or `--xla-logs` asks for them.

    XLA reports harmless events as errors: that compiling is slow, or that one of many algorithms that
    XLA tries needs too much memory. An error that ends a run is raised as an exception, which is shown
    in any case. The environment variable `TF_CPP_MIN_LOG_LEVEL`, which selects the messages, must be
    set before JAX is imported, since JAX reads it then.
    """
    os.environ.setdefault(shared.XLA_LOGS, "3")  # level 3 shows only errors that end the process


def _call(argv: Sequence[str] | None) -> int:
    """Run the command line, print an error as one line, and return the exit code.

    If the environment variable named by `DEBUG` is set, an unexpected error is raised instead.
    """
    try:
        begun = time.perf_counter()  # taken here, so that the run's duration includes slow imports
        code = cli.main(args=argv, prog_name=PROGRAM, standalone_mode=False, obj=begun)
    except click.UsageError as error:
        return _fail(messages.usage_message(error), 2)
    except messages.BadInput as error:
        return _fail(error.message, 2)
    except click.Abort:  # click raises it in place of KeyboardInterrupt
        messages.print_lines(f"{PROGRAM}: interrupted", err=True)
        return 130
    except messages.NotPrinted as error:
        return _fail(f"cannot write to standard output: {error.strerror}", 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        if problem := _device_problem():
            return _fail(problem, 2)
        first = next(iter(str(error).splitlines()), "")
        if problem := _jax_variable_problem(first):
            return _fail(problem, 2)
        if type(error).__name__ == OUT_OF_MEMORY:  # the error's message already says what to do
            return _fail(messages.as_flags(first), 1)
        if isinstance(error, MemoryError):
            return _fail(
                "there is too little memory; use smaller pictures or files, or stop other programs",
                1,
            )
        kind = "" if isinstance(error, OSError) and first else type(error).__name__
        what = ": ".join(filter(None, (kind, first)))
        return _fail(f"{what}; to see where, set the environment variable {DEBUG}=1", 1)
    return code if isinstance(code, int) else 0


def _jax_variable_problem(text: str) -> str:
    """Return an error message if `text`, that of an error, refuses the value of a variable of JAX.

    JAX reads its settings from environment variables when it is imported.
    """
    found = re.search(r"for JAX flag (\w+)", text)
    name = found[1].upper() if found else ""
    if name not in os.environ:
        return ""
    return (
        f"`{name}`: jax refuses the value {os.environ[name]!r}; give another, or unset the variable"
    )


def _device_problem() -> str:
    """Return an error message if JAX finds no device of the platforms in `JAX_PLATFORMS`, else "".

    If JAX was not imported yet, it cannot be the cause of a failure, so the result is "" as well.
    """
    chosen = os.environ.get(PLATFORMS)
    if not chosen or "jax" not in sys.modules:
        return ""
    try:
        sys.modules["jax"].devices()
    except Exception:  # the class of the error that JAX raises depends on the platform
        return (
            f"`{PLATFORMS}`: jax finds no device for {chosen!r}; name a platform that this machine and "
            "its jax have, such as cpu, or unset the variable"
        )
    return ""


def _fail(message: str, code: int) -> int:
    messages.print_message("error", " ".join(message.split()))
    return code
