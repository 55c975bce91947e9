"""Ctrl-C, SIGTERM and SIGHUP: an immediate exit before there is anything to save, then orderly stops.

A process gets SIGHUP when its terminal is closed.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, NoReturn

from nst_jax.app.messages import PROGRAM

# Windows has no SIGHUP.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


_in_charge = False  # whether this process runs the command line and nothing else


def exit_on_interrupt() -> None:
    """Make Ctrl-C exit at once, unless this process already ignores or handles it.

    Call it before slow imports, since imported code might swallow a KeyboardInterrupt.
    """
    global _in_charge
    _in_charge = True
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)


def raise_on_interrupt() -> None:
    """Make Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, so that finished work is reported."""
    if not _in_charge:
        return
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


def _raise(number: int, frame: Any) -> NoReturn:
    del frame
    signal.signal(number, signal.SIG_DFL)  # a second signal ends the process at once
    raise KeyboardInterrupt


def _exit(number: int, frame: Any) -> None:
    del frame
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{PROGRAM}: interrupted\n")
    exit_at_once(128 + number)


def exit_at_once(code: int) -> NoReturn:
    """Exit without Python's clean-up, in which an interrupted jax may crash."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed, or a pipe that nobody reads
            stream.flush()
    os._exit(code)


# --- While a picture is painted ---------------------------------------------------------------------


class Interrupts(AbstractContextManager):
    """Context manager that turns Ctrl-C, SIGTERM and SIGHUP into a request to stop.

    Before `defer` is called, a signal ends the run at once: `abandon` is called, then the handler that
    was installed before, and if that returns, KeyboardInterrupt is raised. After `defer`, a signal
    is only recorded in the attribute `signal`. A signal that comes again ends the process at once.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._abandon, self._deferred = abandon, False
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # An ignored signal stays ignored, as `nohup` and background jobs of a shell intend.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._receive)

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: Any) -> None:
        self.signal = number
        signal.signal(number, signal.SIG_DFL)
        if not self._deferred:
            self._abandon()
            if callable(self._old[number]):
                self._old[number](number, frame)
            raise KeyboardInterrupt

    def defer(self) -> None:
        """From here on only record signals, since there is now a canvas that can be saved."""
        self._deferred = True
