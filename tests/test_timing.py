"""Lengths of intervals, estimates, laps and the compile clock."""

import threading
import time

import jax
import pytest

from nst_jax.app.formatting import duration, span
from nst_jax.app.timing import CompileClock, IntervalChooser, Range, Stopwatch
from nst_jax.run_scales import Scale
from nst_jax.scaling.operations import fixed_pixels

pytestmark = pytest.mark.optimized

SCALES = (Scale((10, 10), ((10, 10),), 8), Scale((20, 20), ((20, 20),), 5))


def driven(chooser, seconds):
    """Return the steps at which `paint` would yield, if an update of scale i took `seconds[i]`."""
    steps = [0]
    chooser.advance(0, 0.0)
    while steps[-1] < chooser.total:
        last = steps[-1]
        steps.append(min(last + next(chooser), chooser.total))
        chooser.advance(steps[-1], (steps[-1] - last) * seconds[chooser.scale_of(steps[-1])])
    next(chooser)  # `paint` draws once more after the last interval
    return steps


def test_stops_at_multiples_and_at_the_end_of_a_scale():
    assert driven(IntervalChooser(SCALES, every=3), [1e-3, 1e-3]) == [0, 1, 3, 6, 7, 8, 9, 12, 13]


def test_intervals_take_about_a_second():
    one = (Scale((10, 10), ((10, 10),), 30),)
    assert driven(IntervalChooser(one), [0.1]) == [0, 1, 11, 21, 30]
    assert driven(IntervalChooser(one), [5.0]) == list(range(31))
    assert driven(IntervalChooser(one, every=4), [0.3])[:6] == [0, 1, 4, 7, 8, 11]


def test_one_step():
    assert driven(IntervalChooser((Scale((10, 10), ((10, 10),), 1),)), [1.0]) == [0, 1]


def test_scale_of_a_canvas():
    chooser = IntervalChooser(SCALES)
    assert [chooser.scale_of(step) for step in (0, 7, 8, 13)] == [0, 0, 1, 1]


def test_estimate_grows_with_the_area():
    sizes = [(128, 256), (256, 512)]
    chooser = IntervalChooser([Scale(size, (size,), 8) for size in sizes])
    assert chooser.range_left() is None
    chooser.advance(0, 0.0)
    chooser.advance(1, 0.5)
    # 6 more updates here, 9 at four times the area; half of a small step does not depend on it.
    fixed = fixed_pixels("cpu")
    ratio = (4 * 128 * 256 + fixed) / (128 * 256 + fixed)
    left = 6 * 0.5 + 9 * 0.5 * ratio
    # The next scale compiles while this one's seven updates run.
    assert chooser.range_left(2.0) == pytest.approx((left, left))
    later = left + 5.0 - 7 * 0.5
    assert chooser.range_left(5.0) == pytest.approx((later, later))
    chooser.advance(16, 1.0)
    assert chooser.range_left(2.0) == (0, 0)


def test_laps_leave_out_compilation():
    class Compiling:
        seconds = 0.0

    times = iter([10.0, 13.0, 14.0])
    watch = Stopwatch(Compiling, lambda: next(times))
    assert watch.lap() == (0.0, 0.0)
    Compiling.seconds = 2.0
    assert watch.lap() == (0.0, 1.0)
    assert watch.lap() == (1.0, 1.0)
    assert watch.elapsed == 2.0


def test_compile_clock_counts_nested_events_once():
    with CompileClock() as clock:
        jax.monitoring.record_event_duration_secs("/jax/core/compile/inner", 0.25)
        jax.monitoring.record_event_duration_secs("/jax/core/compile/outer", 1.0)
        jax.monitoring.record_event_duration_secs("/jax/elsewhere", 4.0)
        assert clock.seconds == pytest.approx(1.0, abs=1e-3)
    jax.monitoring.record_event_duration_secs("/jax/core/compile/late", 8.0)
    assert clock.seconds == pytest.approx(1.0, abs=1e-3)


def test_compile_clock_hears_jax():
    with CompileClock() as clock:
        jax.jit(lambda x: x * 3 + 1)(2.0)
        assert clock.seconds > 0


def test_compile_clock_counts_another_thread_only_while_this_one_waits():
    def compiling():
        jax.monitoring.record_event_duration_secs("/jax/core/compile/behind", 16.0)

    with CompileClock() as clock:
        thread = threading.Thread(target=compiling)
        thread.start()
        thread.join()
        assert clock.seconds == 0
        with clock.waiting():
            jax.monitoring.record_event_duration_secs("/jax/core/compile/within", 0.0)
            time.sleep(0.01)
        assert 0.01 <= clock.seconds < 16


def test_duration():
    assert [duration(s) for s in (0, 9.94, 59.4, 60, 3599, 7260)] == [
        "0.0 s", "9.9 s", "59 s", "1 min 0 s", "59 min 59 s", "2 h 1 min",
    ]  # fmt: skip


# --- Ranges of the time left ----------------------------------------------------------------------


def test_what_is_left_is_a_range_of_the_last_paces():
    chooser = IntervalChooser([Scale((32, 32), ((32, 32),), 100)], costs=[2.0])
    assert chooser.range_left() is None
    for step, seconds in ((1, 9.0), (2, 1.0), (4, 6.0), (5, 2.0), (6, 2.0), (8, 4.0)):
        chooser.advance(step, seconds)
    # The first lap of nine seconds is the sixth last; the others took 1 to 3 seconds for an update.
    assert chooser.range_left() == pytest.approx((92.0, 276.0))


def test_earlier_runs_widen_the_range_of_the_first_laps_only():
    scales = [Scale((32, 32), ((32, 32),), 100)]
    chooser = IntervalChooser(scales, costs=[2.0], expected=Range(0.25, 4.0))
    chooser.advance(1, 3.0)
    assert chooser.range_left() == pytest.approx((99 * 0.5, 99 * 8.0))
    for step in range(2, 6):
        chooser.advance(step, 3.0)
    assert chooser.range_left() == pytest.approx((95 * 3.0, 95 * 3.0))


def test_a_new_scale_has_paces_of_its_own():
    scales = [Scale((16, 16), ((16, 16),), 4), Scale((32, 32), ((32, 32),), 10)]
    chooser = IntervalChooser(scales, costs=[1.0, 4.0])
    chooser.advance(1, 100.0)
    chooser.advance(5, 8.0)
    assert chooser.range_left() == pytest.approx((18.0, 18.0))


def test_measuring_the_next_scale_counts_as_far_as_it_outlasts_this_one():
    scales = [Scale((16, 16), ((16, 16),), 4), Scale((32, 32), ((32, 32),), 10)]
    chooser = IntervalChooser(scales, costs=[1.0, 4.0])
    chooser.advance(1, 2.0)
    updates = 2 * 2.0 + 11 * 8.0  # three at the coarser scale, the last of which is the enlargement
    assert chooser.range_left(1.0, [99.0, 4.0]) == pytest.approx((updates, updates))
    assert chooser.range_left(1.0, [99.0, 40.0]) == pytest.approx([updates + 41.0 - 3 * 2.0] * 2)


def test_spans():
    pairs = [(1, 1.04), (12, 19), (50, 80), (3.21, 59), (5000, 9000)]
    assert [span(*pair) for pair in pairs] == [
        "about 1.0 s", "12 to 19 s", "50 s to 1 min 20 s", "3.2 to 59 s", "1 h 23 min to 2 h 30 min",
    ]  # fmt: skip
