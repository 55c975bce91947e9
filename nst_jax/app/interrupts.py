"""Ctrl-C and SIGTERM while a picture is painted."""

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any


class Interrupts(AbstractContextManager):
    """Context manager that turns Ctrl-C and SIGTERM into a request to stop.

    Before `defer` is called, a signal ends the run at once: `abandon` is called, then the handler that
    was installed before, and if that returns, KeyboardInterrupt is raised. After `defer`, a signal is
    only recorded in `signal`. A second signal always ends the process at once.
    """

    def __init__(self, abandon: Callable[[], None]) -> None:
        self.signal: int | None = None
        self._abandon, self._deferred = abandon, False
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                # `nohup` and background jobs of a shell ignore signals on purpose.
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
        """Only record signals from here on, since there is a canvas to keep."""
        self._deferred = True
