"""The fit of `benchmarks.strength`: a dial along which progress rises evenly."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from benchmarks import strength


def test_the_nearest_sequence_that_never_falls_by_brute_force():
    values = [0.0, 3.0, 1.0, 2.0, 5.0, 4.0]
    found = strength.monotone(values)
    assert_allclose(found, [0, 2, 2, 2, 4.5, 4.5])
    grid = np.linspace(0, 5, 11)
    every = np.array(np.meshgrid(*[grid] * 6)).T.reshape(-1, 6)
    rising = every[np.all(np.diff(every, axis=1) >= 0, axis=1)]
    best = np.min(np.sum((rising - values) ** 2, axis=1))
    assert np.sum((found - values) ** 2) <= best + 1e-12


def test_progress_goes_from_0_to_1():
    found = strength.progress([4.0, 3.0, 2.0], [0.0, 0.2, 0.8])
    assert_allclose(found, [0, (0.5 + 0.25) / 2, 1])


@pytest.mark.parametrize("power", [1.0, 3.0])
def test_along_the_dial_progress_rises_evenly(power):
    exponents = strength.EXPONENTS
    values = ((np.asarray(exponents) + 3) / 6) ** power
    stops = strength.dial(exponents, values, (-3.0, 3.0))
    assert stops[0] == -3 and stops[-1] == 3 and np.all(np.diff(stops) > 0)
    assert_allclose(strength.unevenness(exponents, values, stops), 1, atol=1e-9)
    even = strength.unevenness(exponents, values, np.linspace(-3, 3, 11))
    assert even == pytest.approx(1) if power == 1 else even > 1.5


def test_the_dial_begins_and_ends_where_it_is_told_to():
    values = np.linspace(0, 1, len(strength.EXPONENTS))
    stops = strength.dial(strength.EXPONENTS, values, (-1.0, 2.0))
    assert_allclose(stops, np.linspace(-1, 2, 11))
    flat = np.asarray([0.0] * 6 + [0.5] + [1.0] * 6)
    assert np.all(np.diff(strength.dial(strength.EXPONENTS, flat, (-2.0, 2.0))) >= 0)
