"""What style losses cost, kept between starts of the command line."""

import pytest

import nst_jax as nst
from nst_jax import losses
from nst_jax.app import kept_costs as kept
from nst_jax.app import program_keys
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


def test_a_run_that_is_refused_writes_no_costs(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "programs_folder", lambda: tmp_path)
    with pytest.raises(ValueError, match="too large"), kept.kept_costs(RECIPE):
        raise ValueError("too large")
    assert not (tmp_path / kept.FOLDER).exists()


def test_a_package_in_an_archive_keeps_no_costs(start, tmp_path, monkeypatch):
    # Its source cannot be hashed, so other versions of it would find the costs under the same key.
    monkeypatch.setattr(program_keys, "PACKAGE", tmp_path / "nst_jax.zip" / "nst_jax")
    counted = [start(RECIPE)[1] for _ in range(2)]
    assert counted[0] == counted[1] > 0
    assert not (tmp_path / kept.FOLDER).exists()


@pytest.mark.parametrize("content", [b"", b"1", b"\0" * 99])
def test_costs_in_a_file_that_is_cut_or_foreign_are_counted_again(start, tmp_path, content):
    _, counted = start(RECIPE)
    (path,) = (tmp_path / kept.FOLDER).iterdir()
    whole = path.read_bytes()
    path.write_bytes(content)
    assert start(RECIPE)[1] == counted and path.read_bytes() == whole


def test_costs_that_cannot_be_written_are_counted_at_each_start(start, tmp_path):
    (tmp_path / kept.FOLDER).write_text("a file in place of the folder")
    counted = [start(RECIPE)[1] for _ in range(2)]
    assert counted[0] == counted[1] > 0


@pytest.mark.parametrize("name", losses.names.STATISTIC_LOSSES)
def test_a_plan_by_recalled_costs_is_that_by_counted_ones(start, name):
    recipe = small.shallow(style_loss=losses.names.STYLE_LOSSES[name])
    (first, _), (second, _) = start(recipe), start(recipe)
    assert second.footprint == first.footprint and second.operations == first.operations
