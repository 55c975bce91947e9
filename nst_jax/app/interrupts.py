"""Ctrl-C outside a run: exit at once while nothing is worth saving, and later raise an exception.

`nst_jax.app.single` handles Ctrl-C within a run.
"""

import os
import signal
import sys
from typing import Any, NoReturn

from nst_jax.app.parsing import PROGRAM


def exit_on_interrupt() -> None:
    """Make Ctrl-C exit at once, unless this process already ignores or handles it.

    While modules are imported an exception may be swallowed, so none is raised then.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Make Ctrl-C raise KeyboardInterrupt from here on, so that finished work can be reported."""
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _exit(number: int, frame: Any) -> None:
    del frame
    sys.stderr.write(f"{PROGRAM}: interrupted\n")
    exit_at_once(128 + number)


def exit_at_once(code: int) -> NoReturn:
    """Exit without Python's clean-up, in which an interrupted jax may crash."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
