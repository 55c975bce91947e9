"""What style losses cost, kept between starts of the command line."""

import pytest

import nst_jax as nst
from nst_jax import losses
from nst_jax.app import kept_costs as kept
from nst_jax.scaling import loss_costs
from nst_jax.vgg.taps import LAYERS, layer_of
from tests import small

RECIPE = small.shallow(style_loss=losses.WASSERSTEIN_RELATIVE)
COUNTED = (loss_costs._distance_cost, loss_costs._target, loss_costs._target_bytes)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Return a function that plans as a new start does; it returns the plan and what was counted."""
    monkeypatch.setattr(kept, "programs_folder", lambda: tmp_path)
    picture = small.picture("chelsea", 32, 40)

    def planned(recipe):
        monkeypatch.setattr(loss_costs, "_recalled", {})
        for function in COUNTED:
            function.cache_clear()
        with kept.kept_costs(recipe):
            plan = nst.plan(picture, picture, recipe=recipe)
            return plan, sum(function.cache_info().misses for function in COUNTED)

    return planned


def test_a_second_start_counts_no_style_loss_and_plans_the_same(start, tmp_path):
    first, counted = start(RECIPE)
    second, again = start(RECIPE)
    assert counted > 0 and again == 0
    assert second.footprint == first.footprint and second.operations == first.operations
    (tap, *_) = RECIPE.terms.style_taps
    expected = loss_costs._distance_cost(
        losses.WASSERSTEIN_RELATIVE, 1, 1, LAYERS[layer_of(tap)][1]
    )
    found = loss_costs.distance_cost(losses.WASSERSTEIN_RELATIVE, 9, 9, LAYERS[layer_of(tap)][1])
    assert found == expected and found.operations > 0


def test_costs_that_are_damaged_are_counted_again(start, tmp_path):
    first, counted = start(RECIPE)
    (path,) = (tmp_path / kept.FOLDER).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"0", b"1"))
    second, again = start(RECIPE)
    assert again == counted and path.read_bytes() == whole
    assert second.footprint == first.footprint


def test_costs_of_other_losses_are_in_other_files(start, tmp_path):
    start(RECIPE)
    other = small.shallow(style_loss=losses.GRAM_PAPER)
    plan, counted = start(other)
    assert counted > 0 and plan.footprint == nst.plan((32, 40), (32, 40), recipe=other).footprint
    assert len(list((tmp_path / kept.FOLDER).iterdir())) == 2


def test_costs_of_a_loss_of_ones_own_are_not_kept(start, tmp_path):
    def distance(canvas, style, extent):
        return losses.GRAM_PAPER.distance(canvas, style, extent)

    own = losses.GRAM_PAPER._replace(distance=distance)
    counted = [start(small.shallow(style_loss=own))[1] for _ in range(2)]
    assert counted[0] == counted[1] > 0
    assert not (tmp_path / kept.FOLDER).exists()


def test_nothing_is_planned_by_costs_of_a_run_that_was_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "programs_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="too large"), kept.kept_costs(RECIPE):
        raise ValueError("too large")
    assert not (tmp_path / kept.FOLDER).exists()
