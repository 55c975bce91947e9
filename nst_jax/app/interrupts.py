"""How Ctrl-C, SIGTERM and SIGHUP end a run: at once, or after saving if there is something to save.

A process gets SIGHUP when its terminal is closed.

Python runs the handler of a signal in the main thread, and only between two bytecode instructions.
So no handler runs while the main thread waits for one long call, such as a compilation or the decoding
of a large picture. Therefore the command line has a second thread, which gets every signal at once.
"""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, NoReturn

from nst_jax import _files
from nst_jax.app.messages import PROGRAM

# The signals that stop a run; Windows has no SIGHUP.
STOPPING = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# Seconds that the main thread gets to handle the first signal if the run has nothing to save yet. If
# the signal's handler has not started by then, the thread of `_Listener` ends the process.
PATIENCE = 0.5
# Python ignores a KeyboardInterrupt that is raised in a callback of the garbage collector or in a
# destructor. `_raise_again` raises it once more after this many seconds. By then, the callback or the
# destructor should have ended.
CALLBACK_SECONDS = 0.01
# Time limit in seconds for the last work before the process ends, such as removing unfinished files.
TIDYING_SECONDS = 1.0

# Whether this process runs the command line and nothing else, so that its signal handlers may be
# replaced.
_in_charge = False
_listener: "_Listener | None" = None
_raised: int = signal.SIGINT  # see `raised_signal`
# Whether a thread may still be running, for instance compiling, although nobody needs its result. If
# so, the command line ends without waiting for the thread; see `leave_threads`.
threads_left = False
# Functions that are called before this process ends without Python's clean-up, as after a signal.
_before_exit: list[Callable[[], None]] = []


def exit_on_interrupt() -> None:
    """Make Ctrl-C exit at once, unless this process already ignores Ctrl-C or has its own handler.

    The program calls this function before slow imports, since imported code might catch a
    KeyboardInterrupt and go on. The function also notes that this process runs the command line and
    nothing else (see `is_in_charge`), and starts the thread of `_Listener`.
    """
    global _in_charge, _listener
    _in_charge = True
    if sys.unraisablehook is sys.__unraisablehook__:
        sys.unraisablehook = _raise_again
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _exit)
    if _listener is None and threading.current_thread() is threading.main_thread():
        _listener = _Listener()
        _listener.leave = _saying_interrupted


def is_in_charge() -> bool:
    """Return whether this process runs the command line and nothing else.

    If so, settings of the whole process may be changed, such as those of the garbage collector.
    """
    return _in_charge


def exit_on_signals() -> None:
    """Make SIGTERM and SIGHUP exit as Ctrl-C does: at once, after unfinished files are removed.

    Commands that write their files only at the end call this function. It is also called before a
    preview may replace an earlier picture, which is put back if a signal comes. Signals that the
    process ignores stay ignored. Nothing is changed if this process does not run the command line, or
    if this is not its main thread.
    """
    if not _in_charge or threading.current_thread() is not threading.main_thread():
        return
    for number in STOPPING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def raise_on_interrupt() -> None:
    """Make Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt.

    Commands call this function if they have something to do after an interruption, such as reporting
    which pictures are finished. Signals that the process ignores stay ignored. If this process does not
    run the command line, nothing is changed.
    """
    if not _in_charge:
        return
    if _listener is not None:
        _listener.leave = None
    if signal.getsignal(signal.SIGINT) is _exit:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in STOPPING:
        if signal.getsignal(number) in (signal.SIG_DFL, _exit):
            signal.signal(number, _raise)


def raised_signal() -> int:
    """Return the number of the signal that `raise_on_interrupt` turned into KeyboardInterrupt.

    It is that of Ctrl-C if no other signal came.
    """
    return _raised


def _raise(number: int, frame: Any) -> NoReturn:
    global _raised
    del frame
    _raised = number
    signal.signal(number, signal.SIG_IGN if _is_hangup(number) else _end_at_once)
    raise KeyboardInterrupt


def _raise_again(ignored: Any) -> None:
    """Raise KeyboardInterrupt once more in the main thread if Python had to ignore it.

    `exit_on_interrupt` makes Python call this function for every exception that it has to ignore. The
    handler of a signal may run within a callback of the garbage collector (JAX has one) or within a
    destructor. There Python only prints an exception and goes on, as if no signal had come.

    Args:
      ignored: what Python passes to `sys.unraisablehook`: the exception that was ignored.
    """
    if not issubclass(ignored.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(ignored)
        return
    # The exception is raised again a little later, by a timer, since the callback or destructor should
    # have ended by then.
    timer = threading.Timer(CALLBACK_SECONDS, _interrupt_main_thread)
    timer.daemon = True
    timer.start()


def _interrupt_main_thread() -> None:
    # On a busy machine, `_raise_again` may still be running. An exception raised there would be lost.
    while _is_raising_again():
        time.sleep(CALLBACK_SECONDS)
    # `_thread.interrupt_main` would simulate a SIGINT. `_Listener` would take it for a second Ctrl-C,
    # and end the process.
    ident = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(KeyboardInterrupt))


def _is_raising_again() -> bool:
    """Return whether the main thread is within `_raise_again`."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    while frame is not None and frame.f_code is not _raise_again.__code__:
        frame = frame.f_back
    return frame is not None


def _exit(number: int, frame: Any) -> None:
    del frame
    _say_interrupted()
    exit_at_once(128 + number)


def _saying_interrupted() -> Callable[[], None]:
    return _say_interrupted


def _say_interrupted() -> None:
    with suppress(OSError, AttributeError):
        sys.stderr.write(f"{PROGRAM}: interrupted\n")


def exit_at_once(code: int) -> NoReturn:
    """Remove unfinished files and exit, without the clean-up that Python does at its end.

    During that clean-up, JAX may crash if it was interrupted at work. The functions that
    `call_before_exit` was given are called first.

    Args:
      code: the exit code.
    """
    _tidy()
    for stream in (sys.stdout, sys.stderr):
        # A stream may be None or closed, or a pipe that nobody reads.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)


def call_before_exit(work: Callable[[], None]) -> Callable[[], None]:
    """Have `work` called before this process ends without Python's clean-up, as after a signal.

    Args:
      work: a function that takes a moment at most. It may be called by any thread.

    Returns:
      A function without arguments that cancels this: once it is called, `work` will not be called.
    """
    _before_exit.append(work)
    return lambda: _before_exit.remove(work)


def _tidy() -> None:
    """Call the functions that `call_before_exit` was given, and remove unfinished files."""
    for work in tuple(_before_exit):
        with suppress(Exception):
            work()
    _files.remove_unfinished()


def leave_threads() -> None:
    """Make the command line end by `exit_at_once`, without waiting for threads that are still working.

    A thread may for example compile a program that is no longer needed.
    """
    global threads_left
    threads_left = True


def _is_hangup(number: int) -> bool:
    """Return whether a signal is SIGHUP. A shell may send it twice; callers ignore the second one."""
    return number == getattr(signal, "SIGHUP", None)


def _end_at_once(number: int, frame: Any = None) -> NoReturn:
    """Show the cursor, remove unfinished files, and end this process, whatever its other threads do."""
    del frame
    _end_after(_show_cursor, number)


def _show_cursor() -> None:
    if os.isatty(2):
        os.write(2, b"\x1b[?25h")  # shows the cursor, which a progress bar hides


def _end_after(work: Callable[[], Any], number: int) -> NoReturn:
    """Tidy up and call `work`, then end this process with exit code 128 + `number`.

    Tidying up means to call the functions that `call_before_exit` was given, and to remove unfinished
    files. `number` is the number of the signal that ends the process. Tidying up and `work` may fail or
    never end, for instance if nobody reads a pipe to which `work` writes. So they run in a thread of
    their own, for at most `TIDYING_SECONDS`.
    """

    def tidy() -> None:
        with suppress(BaseException):
            _tidy()
            work()

    try:
        thread = threading.Thread(target=tidy, daemon=True)
        thread.start()
        thread.join(TIDYING_SECONDS)
    finally:  # the process must end even if no thread can be started, as while Python is exiting
        os._exit(128 + number)


class _Listener:
    """A thread that learns of every stopping signal at once, even while the main thread is busy.

    Python writes the number of each signal for which it has a handler to a socket, from which this
    thread reads. The first signal ends the process after `PATIENCE` seconds if there is nothing to save
    and the main thread has not answered by then. After the first signal, any further Ctrl-C or SIGTERM
    ends the process at once.

    Attributes:
      leave: a function that is called if the main thread has not answered the first signal in time. It
        returns a function with the work that remains before the process is ended, or None if the main
        thread has answered meanwhile. While `leave` itself is None, the main thread may take all the
        time that it needs, for instance to save something.
    """

    def __init__(self) -> None:
        self.leave: Callable[[], Callable[[], None] | None] | None = None
        self._first: int | None = None
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        # A forked child inherits the socket. The function registered here stops the child from writing
        # the numbers of its own signals to the socket, where this process would read them.
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))
        threading.Thread(target=self._listen, name="signals", daemon=True).start()

    def _listen(self) -> None:
        while True:
            try:
                numbers = self._receiver.recv(64)  # one byte for each signal: its number
            except TimeoutError:
                self._receiver.settimeout(None)
                self._lose_patience()
                continue
            for number in numbers:
                if number in STOPPING:
                    self._hear(number)

    def _hear(self, number: int) -> None:
        if self._first is None:
            self._first = number
            self._receiver.settimeout(PATIENCE)
        elif not _is_hangup(number):
            _end_at_once(number)

    def _lose_patience(self) -> None:
        leave, number = self.leave, self._first
        work = None if leave is None else leave()
        if work is not None and number is not None:
            _end_after(work, number)


# --- While a picture is painted ---------------------------------------------------------------------


class Interrupts(AbstractContextManager):
    """Context manager in which Ctrl-C, SIGTERM and SIGHUP end a run, or ask it to end.

    Before `defer` is called, the first signal ends the run at once: `abandon` is called, then the
    handler that the signal had before this context, if that is a function. If it is not, or if it
    returns, KeyboardInterrupt is raised. After `defer` was called, the first signal is only recorded in
    `signal`, and the run has to end itself. Once a signal has come, Ctrl-C or SIGTERM ends the process
    at once.

    Attributes:
      signal: number of the first signal; None if there was none.
    """

    def __init__(self, abandon: Callable[[], None], *, alone: bool = True) -> None:
        """Install handlers for the signals in `STOPPING`, if this is the main thread.

        Args:
          abandon: a function that is called if a signal ends the run before `defer` is called.
          alone: whether this process paints alone. If so, another thread may end it when the main
            thread takes too long to answer the first signal. If not, the main thread gets all the time
            that it needs, since it has to tell other processes that the run ends.
        """
        self.signal: int | None = None
        self._abandon, self._deferred = abandon, False
        # The main thread and the thread of `_Listener` could both end the run on a first signal; only
        # the thread that takes this lock may do so. The lock is taken once, and never released. If
        # `defer` takes it, neither thread ends the run on a first signal afterwards.
        self._claim = threading.Lock()
        self._old: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in STOPPING:
                # An ignored signal stays ignored, as `nohup` and background jobs of a shell intend.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._old[number] = signal.signal(number, self._receive)
        self._leave_before = None if _listener is None else _listener.leave
        if _listener is not None:
            _listener.leave = self._leave if alone else None

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        if _listener is not None:
            _listener.leave = self._leave_before if self.signal is None else None

    def _receive(self, number: int, frame: Any) -> None:
        if self.signal is not None:
            if not _is_hangup(number):
                _end_at_once(number)
            return
        self.signal = number
        if self._deferred:
            return
        self._take_claim()
        if _listener is not None:
            _listener.leave = None
        self._abandon()
        if callable(self._old[number]):
            self._old[number](number, frame)
        raise KeyboardInterrupt

    def _leave(self) -> Callable[[], None] | None:
        """Return a function with the work to be done before `_Listener` ends the process.

        Return None if the main thread is ending the run already, or if it has just called `defer`. Then
        `_Listener` must not end the process.
        """
        if not self._claim.acquire(blocking=False):
            return None

        def work() -> None:
            self._abandon()
            _say_interrupted()

        return work

    def _take_claim(self) -> None:
        while not self._claim.acquire(blocking=False):
            # The thread of `_Listener` has the lock, and is about to end this process.
            time.sleep(1)

    def defer(self) -> None:
        """From now on, only record a first signal, so that it does not end the run.

        The run calls this method as soon as there is something to save. Afterwards, the run itself
        looks at `signal` from time to time; if there was a signal, it saves its work and ends.
        """
        if self._deferred:
            return
        # A signal can interrupt this thread at any time and run `_receive` in it. If this thread held
        # the lock `_claim` then, `_receive` would wait for it for ever. So `_deferred` is set first:
        # with it, `_receive` does not take the lock.
        self._deferred = True
        self._take_claim()
        if _listener is not None:
            _listener.leave = None
