"""Signals end the process even while C code keeps the main thread from running Python."""

import os
import signal
import subprocess
import sys
import time

import pytest

from nst_jax import _files

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")

# The call of `hashlib` lasts for minutes; Python runs no handler of a signal before it returns. But
# it runs one during `sleep`.
BUSY = """
import hashlib, signal, sys, time
from pathlib import Path
from nst_jax import _files
from nst_jax.app import interrupts

# A shell may have started the tests with signals ignored, which a process inherits.
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
interrupts.exit_on_interrupt()
if "run" in sys.argv:
    running = interrupts.Interrupts(lambda: print("abandoned", flush=True))
if "deferred" in sys.argv:
    running.defer()
if "exit" in sys.argv:
    interrupts.exit_on_signals()
if "raise" in sys.argv:
    interrupts.raise_on_interrupt()
with _files.reserved("run.h5"), _files.atomic(Path("picture.png")):
    print("ready", flush=True)
    if "sleep" in sys.argv:
        time.sleep(600)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""


# The handler of the signal runs within callbacks of the garbage collector, where Python ignores
# exceptions: in the one that sends the signal, and in the next one too.
COLLECTING = """
import gc, os, signal, sys, threading, time
from nst_jax.app import interrupts

class SlowTimer(threading.Timer):
    def start(self):
        super().start()
        time.sleep(float(sys.argv[1]))

threading.Timer = SlowTimer
signal.signal(signal.SIGTERM, signal.SIG_DFL)
interrupts.exit_on_interrupt()
interrupts.raise_on_interrupt()
calls = []

def callback(phase, info):
    calls.append(phase)
    if len(calls) == 1:
        os.kill(os.getpid(), signal.SIGTERM)
    if len(calls) <= 2:
        time.sleep(0.05)

gc.callbacks.append(callback)
try:
    gc.collect()
    for _ in range(500):
        time.sleep(0.01)
    print("went on")
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.fixture
def busy(tmp_path):
    """Return a function that signals a busy process; it returns the exit code and the output."""
    begun = []

    def run(how, *numbers):
        process = subprocess.Popen(
            [sys.executable, "-c", BUSY, *how],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": os.getcwd()},
        )
        begun.append(process)
        process.stdout.readline()
        time.sleep(0.1)  # until it is in the long call
        for index, number in enumerate(numbers):
            if index:
                with pytest.raises(subprocess.TimeoutExpired):
                    process.wait(0.7)  # longer than the program waits for an answer
            process.send_signal(number)
        out, _ = process.communicate(timeout=10)
        assert os.listdir(tmp_path) == []
        return process.returncode, out.splitlines()

    yield run
    for process in begun:
        process.kill()
        process.wait()


@pytest.mark.parametrize("how", [[], ["sleep"]], ids=["busy", "sleeping"])
def test_the_first_signal_ends_what_has_nothing_to_save(busy, how):
    assert busy(how, signal.SIGINT) == (130, ["nst-jax: interrupted"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("how", [["exit"], ["exit", "sleep"]], ids=["busy", "sleeping"])
def test_the_first_signal_ends_a_command_that_writes_at_its_end(busy, how, name):
    number = getattr(signal, name)
    assert busy(how, number) == (128 + number, ["nst-jax: interrupted"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_ends_a_run_without_a_canvas(busy, name):
    number = getattr(signal, name)
    assert busy(["run"], number) == (128 + number, ["abandoned", "nst-jax: interrupted"])


@pytest.mark.parametrize("how", [["run", "deferred"], ["raise"]], ids=["picture", "batch"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_the_second_signal_always_ends_at_once(busy, how, name):
    number = getattr(signal, name)
    assert busy(how, number, number) == (128 + number, [])


def test_a_terminal_that_hangs_up_twice_asks_once(busy):
    found = busy(["run", "deferred"], signal.SIGHUP, signal.SIGHUP, signal.SIGTERM)
    assert found == (128 + signal.SIGTERM, [])


def test_what_is_being_written_can_be_removed(tmp_path):
    def interrupted():
        with _files.atomic(tmp_path / "a.txt") as part:
            part.write_text("half")
            _files.remove_unfinished()

    with pytest.raises(FileNotFoundError):
        interrupted()
    assert os.listdir(tmp_path) == []


# The second number is longer than the delay of the timer, as on a busy machine.
@pytest.mark.parametrize("seconds", [0, 0.1])
def test_a_signal_during_a_garbage_collection_is_not_lost(seconds):
    child = subprocess.run(
        [sys.executable, "-c", COLLECTING, str(seconds)],
        capture_output=True,
        text=True,
        timeout=60,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    assert (child.returncode, child.stdout, child.stderr) == (0, "interrupted\n", "")
