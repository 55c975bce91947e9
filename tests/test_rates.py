"""The recorded speeds of earlier runs, and the estimates made from them."""

import json
from dataclasses import replace

import pytest

from nst_jax import recipes
from nst_jax.app import plan, programs
from nst_jax.app.timing import Timed
from nst_jax.scaling import sharding
from nst_jax.scaling.tiles import rows_of
from tests.test_precision import at

TF = recipes.TF


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(programs, "programs_folder", lambda: tmp_path / "programs")
    return tmp_path / "programs" / plan.RATES_FILE


def test_nothing_is_known_before_a_run():
    assert plan.rates_are_kept() and plan.known_rate(TF) is None


def test_the_known_rate_is_the_median_of_the_last_runs(place):
    for speed in (4.0, 1.0, 2.0):
        plan.record_rate(TF, Timed(speed * 1e9 * 2, 2.0))
    assert plan.known_rate(TF) == (2e9, 3)
    for _ in range(plan.MOST_RATES):
        plan.record_rate(TF, Timed(8e9, 1.0))
    assert plan.known_rate(TF) == (8e9, plan.MOST_RATES)
    assert [path.name for path in place.parent.iterdir()] == [
        plan.RATES_FILE
    ]  # nothing half-written


def test_each_precision_has_its_own_rate(place):
    plan.record_rate(TF, Timed(3e9, 3.0))
    assert plan.known_rate(at("bfloat16", TF)) is None
    assert plan.known_rate(replace(TF, name="another")) == (1e9, 1)
    (key,) = json.loads(place.read_text())
    assert "cpu" in key and "float32" in key


def test_bands_have_their_own_rate():
    plan.record_rate(TF, Timed(3e9, 3.0))
    shared = replace(TF, rows=rows_of(sharding.abstract_mesh(2), (64, 64), TF.network))
    assert plan.known_rate(shared) is None
    plan.record_rate(shared, Timed(1e9, 2.0))
    assert plan.known_rate(shared) == (5e8, 1) and plan.known_rate(TF) == (1e9, 1)


def test_runs_that_are_too_short_are_not_recorded(place):
    plan.record_rate(TF, Timed(1e9, plan.LEAST_TIMED_SECONDS / 2))
    plan.record_rate(TF, Timed(0.0, 5.0))
    assert not place.exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 3}', "\x00"])
def test_an_invalid_file_is_ignored_and_replaced(place, text):
    place.parent.mkdir()
    place.write_text(text)
    assert plan.known_rate(TF) is None
    plan.record_rate(TF, Timed(2e9, 2.0))
    assert plan.known_rate(TF) == (1e9, 1)


def test_invalid_rates_in_a_file_are_ignored(place):
    plan.record_rate(TF, Timed(2e9, 2.0))
    found = json.loads(place.read_text())
    (key,) = found
    place.write_text(json.dumps({key: [-1.0, "fast", None, float("nan"), 1e9]}))
    assert plan.known_rate(TF) == (1e9, 1)


def test_without_a_folder_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr(programs, "programs_folder", lambda: None)
    plan.record_rate(TF, Timed(2e9, 2.0))
    assert not plan.rates_are_kept() and plan.known_rate(TF) is None


def test_a_folder_that_cannot_be_written_loses_only_the_rate(place):
    place.parent.write_text("")  # a file in its place
    plan.record_rate(TF, Timed(2e9, 2.0))
    assert plan.known_rate(TF) is None
