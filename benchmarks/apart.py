"""Runs functions in a process of their own, which may crash, hang or be stopped."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any


class Apart(AbstractContextManager):
    """Calls functions one after the other in a second process, which keeps compiled programs.

    If the process crashes, or a call takes too long, the next call starts a new process. If the process
    that calls ends, even by a signal, the second one ends, too, with all that it has started.
    """

    def __init__(self) -> None:
        self._process: Any = None
        self._connection: Any = None

    def __exit__(self, *exception: object) -> None:
        self._stop()

    def call(self, function: Callable[[], Any], seconds: float | None = None) -> Any:
        """Return the result of a function that is called in the second process.

        Args:
          function: a function that can be pickled, such as a `partial` of a function of a module.
          seconds: after so many seconds the process is stopped, with all that it has started; None sets
            no limit.

        Raises:
          RuntimeError: if the function raises an exception, with the type and the first line of it; if
            the process ends, with its exit code; or if the time is over.
        """
        if self._process is None:
            self._start()
        try:
            self._connection.send(function)
            if not self._connection.poll(seconds):
                self._stop()
                raise RuntimeError(f"stopped after {seconds:.0f} s")
            worked, result = self._connection.recv()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            code = self._stop()
            raise RuntimeError(f"its process ended with exit code {code}") from None
        except BaseException:
            self._stop()  # the process may be in the middle of a call
            raise
        if not worked:
            raise RuntimeError(result)
        return result

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would share JAX's threads and locks
        self._connection, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs,), daemon=False)
        process.start()
        self._process = process
        theirs.close()  # so that the end of the process ends the connection

    def _stop(self) -> int | None:
        """End the process and all that it has started, if there is one; return its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        self._connection.close()
        process.join(1)  # a process that has crashed, or waits for a call, ends by itself
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()  # it may have begun so recently that it has no group yet
        process.join()
        return process.exitcode


def _serve(connection: Any) -> None:
    """Call the functions that arrive, and send their results, until the connection is closed."""
    os.setsid()  # a group of its own, which is stopped as a whole
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            function = connection.recv()
        except EOFError:
            return
        try:
            answer = True, function()
        except Exception as error:
            lines = str(error).strip().splitlines() or [""]
            answer = False, f"{type(error).__name__}: {lines[0][:120]}"
        connection.send(answer)


def _end_with_parent() -> None:
    """Wait until the parent process has ended, then kill this process and all that it has started.

    A signal that ends the parent does not reach this process, which has a group of its own.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.killpg(0, signal.SIGKILL)
