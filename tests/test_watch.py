"""Waiting that signals can interrupt, and the times of measuring."""

import signal
import threading
from types import SimpleNamespace

import pytest

from nst_jax.app.progress import Display
from nst_jax.app.timing import Stopwatch, Timed
from nst_jax.app.watch import MeasuringWatch, PollingWatch


class Late:
    """An array that is ready when it has been asked a number of times."""

    def __init__(self, looks=3):
        self._looks = looks

    def is_ready(self):
        self._looks -= 1
        return self._looks <= 0

    def block_until_ready(self):
        assert self._looks <= 0
        return self


def test_it_looks_until_everything_is_computed():
    looks = []
    PollingWatch(lambda: looks.append(1)).wait({"a": Late(), "b": [Late(5)]})
    assert len(looks) == 6


def test_a_signal_ends_waiting():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        watch = PollingWatch(lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            watch.wait(Late(10**9))
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.fixture
def compiling():
    return SimpleNamespace(seconds=0.0, waits=[])


def watched(compiling, times, operations=100.0):
    times = iter(times)
    return MeasuringWatch(compiling, Display(quiet=True), operations, lambda: next(times))


def test_a_run_that_shall_end_measures_no_further(compiling):
    watch = watched(compiling, [0.0])
    watch.stopped = lambda: True
    with pytest.raises(KeyboardInterrupt):
        watch.wait_for_piece(Late(), 30.0)


def test_pieces_add_up_and_are_no_part_of_the_laps(compiling):
    watch = watched(compiling, [1.0, 3.0, 10.0, 14.0])
    laps = Stopwatch(compiling, iter([0.0, 20.0]).__next__, measuring=lambda: watch.seconds)
    laps.lap()
    for operations in (30.0, 50.0):
        watch.wait_for_piece([], operations)
    assert watch.timed == Timed(80.0, 6.0) and watch.seconds == 6.0
    assert laps.lap().seconds == 14.0


def test_what_another_thread_measures_counts_while_this_one_waits_for_it(compiling):
    watch = watched(compiling, [5.0, 9.0])
    thread = threading.Thread(target=watch.wait_for_piece, args=([], 10.0))
    thread.start()
    thread.join()
    assert watch.seconds == 0 and watch.timed == (0, 0)
    compiling.waits = [(1.0, 2.0), (7.0, 12.0)]
    assert watch.seconds == watch.seconds_elsewhere == 2.0
