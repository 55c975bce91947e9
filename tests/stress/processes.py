"""Other processes: one in which trials read files, and the program as users start it."""

import contextlib
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
import warnings

STARTING_SECONDS = 300.0  # time limit for starting a process and importing jax, on a busy machine
PROGRAM_SECONDS = 300.0  # time limit for a run of the program


class Worker:
    """A process that calls functions for the tests.

    If a call hangs, which no signal and no thread may interrupt inside HDF5, or crashes, then only that
    call fails; the next call starts a new process.
    """

    def __init__(self):
        self._process = self._end = None

    def call(self, function, *args, seconds):
        """Call a function of a module there, and return what it returns.

        Args:
          function: the function; as its arguments and its result, it is pickled.
          *args: its arguments.
          seconds: time limit.

        Raises:
          AssertionError: if it raises an error, crashes, or has not returned in time.
        """
        if self._process is None:
            self._start()
        self._end.send((function, args))
        if not self._end.poll(seconds):
            self._process.terminate()  # its handler in C prints where it hangs, and ends it
            self._process.join(5)
            self.stop()
            raise AssertionError(f"{function.__name__} has not returned after {seconds:.0f} s")
        try:
            good, answer = self._end.recv()
        except EOFError:
            self._process.join(5)
            code = self._process.exitcode
            self.stop()
            raise AssertionError(f"{function.__name__} ended its process: {code}") from None
        if good:
            return answer
        raise AssertionError(f"in the other process:\n{answer}")

    def _start(self):
        context = multiprocessing.get_context("spawn")
        self._end, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        assert self._end.poll(STARTING_SECONDS) and self._end.recv() == "ready"

    def stop(self):
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._end.close()
            self._process = None


def _serve(end):
    faulthandler.register(signal.SIGTERM, chain=True)
    faulthandler.enable()
    import tests.stress.trials  # noqa: F401  # what most calls need, before the first time limit

    end.send("ready")
    with contextlib.suppress(EOFError):
        while True:
            function, args = end.recv()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    answer = True, function(*args)
            except BaseException:
                answer = False, traceback.format_exc()
            end.send(answer)


class Program:
    """Starts the program in a folder, on one device, as from a shell.

    Attributes:
      folder: the current folder of its processes.
    """

    def __init__(self, folder, cache):
        """Make it.

        Args:
          folder: the current folder of its processes.
          cache: the user's home and cache folder, where compiled programs are kept.
        """
        self.folder = folder
        self._environment = os.environ | {
            "XLA_FLAGS": "",
            "HOME": str(cache),
            "XDG_CACHE_HOME": str(cache),
            "PYTHONPATH": os.pathsep.join(place or os.getcwd() for place in sys.path),
        }
        self._environment.pop("JAX_ENABLE_COMPILATION_CACHE")

    def start(self, *argv, cwd=None, after="", **options):
        """Start a process.

        Args:
          *argv: the words after the program's name.
          cwd: another current folder.
          after: commands of the shell before it, such as `ulimit -n 20`.
          **options: more options of `subprocess.Popen`.
        """
        words = [sys.executable, "-m", "nst_jax", *map(str, argv)]
        if after:
            words = ["sh", "-c", f'{after} && exec "$@"', "sh", *words]
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
        } | options
        # Under `nohup` SIGHUP is ignored, which a process inherits.
        before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        try:
            return subprocess.Popen(
                words,
                cwd=cwd or self.folder,
                env=self._environment,
                encoding="utf-8",
                errors="backslashreplace",
                **options,
            )
        finally:
            signal.signal(signal.SIGHUP, before)

    def finish(self, *argv, codes=(0,), seconds=PROGRAM_SECONDS, **options):
        """Run the program to its end; assert its exit code, and that no traceback is shown.

        Returns:
          The exit code, and what it printed on standard output and on standard error.
        """
        process = self.start(*argv, **options)
        out, err = ended(process, argv, seconds)
        assert process.returncode in codes, (argv, process.returncode, err)
        assert "Traceback" not in err, (argv, err)
        return process.returncode, out, err

    def begun(self, *argv, line):
        """Start a process whose standard error goes to a file; wait until a line has this text.

        Returns:
          The process, which may have ended, and the path of that file.
        """
        shown = self.folder.with_name(f"{self.folder.name}.err")
        with shown.open("wb") as file:
            process = self.start(*argv, stderr=file, stdout=subprocess.DEVNULL)
        limit = time.monotonic() + PROGRAM_SECONDS
        while process.poll() is None and line not in shown.read_text("utf-8", "replace"):
            if time.monotonic() > limit:
                process.kill()
                raise AssertionError(f"{argv} has not printed {line!r}: {shown.read_text()}")
            time.sleep(0.01)
        return process, shown


def ended(process, argv, seconds=PROGRAM_SECONDS):
    """Wait for the end of a process; if it hangs, end it and fail, naming its command line."""
    try:
        return process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise AssertionError(f"{argv} has not ended after {seconds:.0f} s") from None
