"""The recorded speeds of earlier runs, and the estimates made from them."""

import json
from dataclasses import replace

import pytest

from nst_jax import recipes
from nst_jax.app import cache, rates
from nst_jax.app.batch import groups
from nst_jax.app.timing import Timed
from nst_jax.scaling import operations, sharding
from nst_jax.scaling.bucket_choice import COMPILING_OF_BUCKET
from tests import small
from tests.test_precision import at

TF = small.plan_of(recipes.TF, (64, 64))


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "programs_folder", lambda: tmp_path / "programs")
    return tmp_path / "programs" / rates.FILE


def known_rate(plan):
    """Return the operations per second that a plan's likely time assumes, and the number of runs."""
    found = rates.expected(plan)
    if found is None:
        return None
    operations = plan.operations + sum(plan.measuring_operations)
    return operations / found.likely, found.runs


def test_nothing_is_known_before_a_run():
    assert rates.rates_are_kept() and known_rate(TF) is None


def test_the_known_rate_is_the_median_of_the_last_runs(place):
    for speed in (4.0, 1.0, 2.0):
        rates.record_rate(TF, Timed(speed * 1e9 * 2, 2.0))
    assert known_rate(TF) == pytest.approx((2e9, 3))
    for _ in range(rates.MOST):
        rates.record_rate(TF, Timed(8e9, 1.0))
    assert known_rate(TF) == pytest.approx((8e9, rates.MOST))
    assert [path.name for path in place.parent.iterdir()] == [rates.FILE]  # nothing half-written


def test_each_precision_has_its_own_rate(place):
    rates.record_rate(TF, Timed(3e9, 3.0))
    assert known_rate(small.plan_of(at("bfloat16", recipes.TF), (64, 64))) is None
    assert known_rate(small.plan_of(recipes.TF.replace(name="another"), (64, 64))) == pytest.approx(
        (1e9, 1)
    )
    (key,) = json.loads(place.read_text())
    assert "cpu" in key and "float32" in key


def test_bands_have_their_own_rate():
    rates.record_rate(TF, Timed(3e9, 3.0))
    shared = small.plan_of(recipes.TF, (64, 64), mesh=sharding.abstract_mesh(2))
    assert known_rate(shared) is None
    rates.record_rate(shared, Timed(1e9, 2.0))
    assert known_rate(shared) == pytest.approx((5e8, 1)) and known_rate(TF) == pytest.approx(
        (1e9, 1)
    )


def test_a_run_in_a_bucket_counts_as_one_in_arrays_that_its_picture_fills(monkeypatch):
    slower = 1.5
    monkeypatch.setattr(rates, "TIME_IN_BUCKET", slower)
    in_bucket = replace(TF, in_bucket=True)
    rates.record_rate(in_bucket, Timed(3e9, 3.0))
    assert 1 / rates.known_costs(TF.recipe, "cpu").operation == pytest.approx(slower * 1e9)
    assert rates.known_paces(TF) == pytest.approx((1e-9 / slower,) * 2)
    assert rates.known_paces(in_bucket) == pytest.approx((1e-9, 1e-9))
    assert rates.expected(in_bucket).updates.most == pytest.approx(TF.operations / 1e9)


def test_a_program_of_a_bucket_counts_as_more_than_one():
    """By hand: 2 scales of a shape with arrays of its own, and 3 scales of a bucket."""
    programs = groups.compiled_programs({(0, True): 2, (1, False): 3})
    assert programs == pytest.approx(2 + 3 * COMPILING_OF_BUCKET)
    rates.record_compiling([TF.recipe], 10.0 * programs, programs)
    assert rates.known_costs(TF.recipe, "cpu").program == pytest.approx(10.0)


def test_speeds_in_another_unit_are_ignored(place, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(rates, "UNIT", rates.UNIT - 1)
        rates.record_rate(TF, Timed(3e9, 3.0))
    assert place.exists() and known_rate(TF) is None


def test_the_unit_of_speeds_is_still_that_of_its_version():
    """If these numbers change, raise `rates.UNIT` with them."""
    pixels = operations.FIXED_PIXELS, operations.FIXED_PIXELS_ELSEWHERE
    assert rates.UNIT == 3 and pixels == ({"cpu": 2**11}, 2**15)


def test_runs_that_are_too_short_are_not_recorded(place):
    rates.record_rate(TF, Timed(1e9, rates.LEAST_SECONDS / 2))
    rates.record_rate(TF, Timed(0.0, 5.0))
    assert not place.exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a": 3}', "\x00"])
def test_an_invalid_file_is_ignored_and_replaced(place, text):
    place.parent.mkdir()
    place.write_text(text)
    assert known_rate(TF) is None
    rates.record_rate(TF, Timed(2e9, 2.0))
    assert known_rate(TF) == pytest.approx((1e9, 1))


def test_invalid_rates_in_a_file_are_ignored(place):
    rates.record_rate(TF, Timed(2e9, 2.0))
    found = json.loads(place.read_text())
    (key,) = found
    place.write_text(json.dumps({key: [-1.0, "fast", None, float("nan"), 1e9]}))
    assert known_rate(TF) == pytest.approx((1e9, 1))


def test_without_a_folder_nothing_is_recorded(monkeypatch):
    monkeypatch.setattr(cache, "programs_folder", lambda: None)
    rates.record_rate(TF, Timed(2e9, 2.0))
    assert not rates.rates_are_kept() and known_rate(TF) is None


def test_a_folder_that_cannot_be_written_loses_only_the_rate(place):
    place.parent.write_text("")  # a file in its place
    rates.record_rate(TF, Timed(2e9, 2.0))
    assert known_rate(TF) is None


# --- Estimates of durations -----------------------------------------------------------------------


def test_a_range_and_its_middle_come_from_the_last_runs():
    updates, measuring = TF.operations, sum(TF.measuring_operations)
    for seconds in (2.0, 8.0, 4.0):
        rates.record_rate(TF, Timed(updates, seconds), Timed(measuring, 3 * seconds), seconds / 2)
    found = rates.expected(TF)
    assert found.runs == 3 and found.whole
    assert found.updates == pytest.approx((2.0, 8.0))
    assert found.measuring == pytest.approx((6.0, 24.0))
    assert (found.least, found.likely, found.most) == pytest.approx((9.0, 18.0, 36.0))
    assert rates.known_paces(TF) == pytest.approx((2.0 / updates, 8.0 / updates))


def test_before_measuring_was_timed_it_is_as_fast_as_the_updates():
    rates.record_rate(TF, Timed(TF.operations, 2.0))
    found, both = rates.expected(TF), TF.operations + sum(TF.measuring_operations)
    assert found.most == pytest.approx(2.0 * both / TF.operations) and not found.whole


def test_measuring_that_is_too_short_is_not_recorded(place):
    rates.record_rate(TF, Timed(3e9, 3.0), Timed(1e9, rates.LEAST_SECONDS / 2), 1.0)
    assert len(json.loads(place.read_text())) == 2


def test_nothing_is_expected_before_a_run():
    assert rates.expected(TF) is None and rates.known_paces(TF) is None


def test_the_pace_of_a_kind_of_training_is_known_from_earlier_ones(place):
    kind = "training, float32, 4 of 256 px"
    assert rates.known_training(kind) is None
    for seconds in (0.5, 0.25, 2.0):
        rates.record_training(kind, seconds)
    assert rates.known_training(kind) == (0.25, 2.0)
    assert rates.known_training("training, float32, 8 of 256 px") is None
    (key,) = json.loads(place.read_text())
    assert "cpu" in key and kind in key
    rates.record_rate(TF, Timed(8e9, 1.0))  # which is kept beside it
    assert known_rate(TF) == pytest.approx((8e9, 1)) and rates.known_training(kind) == (0.25, 2.0)
