"""Ctrl-C and SIGTERM: an immediate exit before there is anything to save, later an orderly stop."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, NoReturn

from nst_jax.app.messages import PROGRAM


def exit_on_interrupt() -> None:
    """Make Ctrl-C exit at once, unless this process already ignores or handles it.

    Call it before slow imports, since imported code might swallow a KeyboardInterrupt.
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


# --- While a picture is painted ---------------------------------------------------------------------


class Interrupts(AbstractContextManager):
    """Context manager that turns Ctrl-C and SIGTERM into a request to stop.

    Before `defer` is called, a signal ends the run at once: `abandon` is called, then the handler that
    was installed before, and if that returns, KeyboardInterrupt is raised. After `defer`, a signal
    is only recorded in the attribute `signal`. A second signal always ends the process at once.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._abandon, self._deferred = abandon, False
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
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
