"""`stylize` and `paint`: when snapshots come, the caller's arrays, how runs start and end."""

import itertools
import pickle
import re
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import descent, optimize, optimizers, planned_painting, recipes, run_scales
from nst_jax.recipes import CoarseToFine, starts, toml
from tests import small

FAST = small.shallowest()
# 48 x 64 px after 24 x 32 px, the size of the other tests' pictures.
TWO_SCALES = replace(
    FAST, descent=replace(FAST.descent, schedule=CoarseToFine(smallest=32, share=2.0))
)
BREAKS = replace(FAST, descent=replace(FAST.descent, optimizer=optimizers.Adam(learning_rate=1e30)))


@pytest.fixture(scope="module")
def large():
    return jnp.asarray(small.picture("chelsea", 48, 64))


def pace(params, content, style, **options):
    return [shot.step for shot in nst.paint(params, content, style, recipe=FAST, **options)]


# --- Snapshots ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (4, 2, [0, 2, 4]),
        (5, 2, [0, 2, 4, 5]),
        (3, 1, [0, 1, 2, 3]),
        (1, 50, [0, 1]),
        (7, [1, 4, 1, 1], [0, 1, 5, 6, 7]),
        (7, [2, 3], [0, 2, 5, 7]),
        (7, [], [0, 7]),
        (7, itertools.count(1), [0, 1, 3, 6, 7]),
    ],
)
def test_snapshots_come_at_zero_then_every_then_at_the_end(
    params, content, style, steps, every, expected
):
    assert pace(params, content, style, steps=steps, every=every) == expected


def test_chunks_longer_than_the_loops_capacity_are_joined(params, content, style):
    steps = optimize.CAPACITY + 20
    *_, last = nst.paint(params, content, style, recipe=FAST, steps=steps, every=steps)
    assert last.step == steps
    assert last.history.total.shape == (steps,)  # the start came with the first snapshot


def test_history_has_every_canvas_once(params, content, style):
    shots = list(nst.paint(params, content, style, recipe=FAST, steps=5, every=2))
    assert [len(shot.history.total) for shot in shots] == [1, 2, 2, 1]
    for shot in shots:
        assert shot.history.total[-1] == shot.losses.total
        assert list(shot.history.style_layers) == ["preact1_1", "relu1_1"]


def test_history_does_not_depend_on_when_one_looks(params, content, style):
    def totals(every):
        shots = nst.paint(params, content, style, recipe=FAST, steps=6, every=every)
        return np.concatenate([shot.history.total for shot in shots])

    assert_array_equal(totals(1), totals(4))


def test_several_scales_count_on_and_have_n_plus_1_losses_in_all(params, large, style):
    shots = list(nst.paint(params, large, style, recipe=TWO_SCALES, steps=6, every=1))
    assert [shot.step for shot in shots] == [0, 1, 2, 3, 4, 5, 6]
    assert [shot.scale for shot in shots] == [0, 0, 0, 0, 1, 1, 1]
    assert [shot.image.shape for shot in shots] == [(24, 32, 3)] * 4 + [(48, 64, 3)] * 3
    assert sum(len(shot.history.total) for shot in shots) == 7


def test_a_chunk_may_span_scales(params, large, style):
    shots = list(nst.paint(params, large, style, recipe=TWO_SCALES, steps=6, every=50))
    assert [(shot.step, shot.scale) for shot in shots] == [(0, 0), (6, 1)]
    assert shots[1].history.total.shape == (6,)
    each = nst.paint(params, large, style, recipe=TWO_SCALES, steps=6, every=1)
    assert_array_equal(
        np.concatenate([shot.history.total for shot in shots]),
        np.concatenate([shot.history.total for shot in each]),
    )


def test_even_one_step_reaches_the_final_size(params, large, style):
    assert nst.stylize(params, large, style, recipe=TWO_SCALES, steps=1).shape == large.shape


# --- The caller's arrays --------------------------------------------------------------------------


def test_the_callers_arrays_are_valid_and_unchanged_after_a_run(params, content, style):
    key, start = jax.random.key(3), jnp.flip(content, 0)
    given = (params, content, style, start)
    before = [np.array(x) for x in jax.tree.leaves(given)]
    options = {"recipe": FAST, "init": start, "key": key, "steps": 3}
    for _ in nst.paint(params, content, style, every=1, **options):
        pass
    for now, then in zip(jax.tree.leaves(given), before, strict=True):
        assert not now.is_deleted()
        assert_array_equal(now, then)
    assert not key.is_deleted()


def test_yielded_snapshots_stay_as_they_were(params, content, style):
    shots, copies = [], []
    for shot in nst.paint(params, content, style, recipe=FAST, steps=4, every=1):
        shots.append(shot)
        copies.append(jax.tree.map(np.array, shot))
    for shot, copy in zip(shots, copies, strict=True):
        for now, then in zip(jax.tree.leaves(shot), jax.tree.leaves(copy), strict=True):
            assert_array_equal(now, then)
    assert np.abs(shots[-1].image - shots[0].image).max() > 0.01


def test_host_arrays_are_not_written_to(params, style):
    content = np.array(small.picture("chelsea", 24, 32))
    before = content.copy()
    nst.stylize(params, content, np.asarray(style), recipe=FAST)
    assert_array_equal(content, before)


# --- Results --------------------------------------------------------------------------------------


def test_the_result_is_the_last_snapshot(params, content, style):
    image = nst.stylize(params, content, style, recipe=FAST, steps=4)
    *_, last = nst.paint(params, content, style, recipe=FAST, steps=4, every=3)
    assert_array_equal(image, last.image)
    assert image.dtype == jnp.float32 and image.min() >= 0 and image.max() <= 1


def test_a_run_repeats_itself_to_the_bit(params, content, style):
    options = {"recipe": FAST, "init": starts.Noise(), "key": jax.random.key(5)}
    first = nst.stylize(params, content, style, **options)
    assert_array_equal(first, nst.stylize(params, content, style, **options))
    other = nst.stylize(params, content, style, **(options | {"key": jax.random.key(6)}))
    assert np.abs(first - other).max() > 0.01


def test_uint8_pictures_are_their_fractions_of_255(params, content, style):
    eight = np.round(np.asarray(content) * 255).astype(np.uint8)
    whole = nst.stylize(params, eight, style, recipe=FAST)
    assert_array_equal(whole, nst.stylize(params, eight.astype("f") / 255, style, recipe=FAST))


def test_a_run_starts_from_the_picture_it_is_given(params, content, style):
    start = jnp.flip(content, 1)
    first = next(nst.paint(params, content, style, recipe=FAST, init=start))
    assert_array_equal(first.image, start)


def test_a_start_of_another_size_is_brought_to_the_canvas(params, content, style):
    first = next(nst.paint(params, content, style, recipe=FAST, init=style))
    assert first.image.shape == content.shape


def test_a_function_may_make_the_start(params, content, style):
    grey = next(nst.paint(params, content, style, recipe=FAST, init=starts.Blank())).image
    assert_array_equal(grey, np.full(content.shape, 0.5))


@pytest.mark.slow
def test_size_is_that_of_the_canvas_and_applies_to_the_style_too(params, content, style):
    first = next(nst.paint(params, content, style, recipe=FAST, size="short:48"))
    assert first.image.shape == (48, 64, 3)


def test_a_recipes_own_size_rule_can_be_left(params, content, style):
    recipe = replace(FAST, pictures=recipes.DEFAULT.pictures)
    first = next(nst.paint(params, content, style, recipe=recipe, size="as-is"))
    assert_array_equal(first.image, content)


def test_no_content_synthesises_texture_and_no_style_inverts_features(params, content, style):
    def last(**terms):
        recipe = small.shallow(tv_weight=0.0, **terms)
        *_, shot = nst.paint(
            params, content, style, recipe=recipe, init=starts.Noise(), steps=30, every=50
        )
        return shot

    texture, inverted = last(content_weight=0.0), last(style_weight=0.0)
    assert texture.losses.content == 0 and inverted.losses.style == 0
    assert texture.losses.total < 0.1 * texture.history.total[0]
    assert inverted.losses.total < 0.1 * inverted.history.total[0]
    assert np.mean((inverted.image - content) ** 2) < 0.5 * np.mean((texture.image - content) ** 2)


# --- Divergence -----------------------------------------------------------------------------------


def test_stylize_raises_with_the_last_finite_canvas(params, content, style):
    with pytest.raises(nst.Diverged, match="not finite after 1 updates.*smaller") as broken:
        nst.stylize(params, content, style, recipe=BREAKS, steps=3)
    assert broken.value.step == 1
    assert_array_equal(broken.value.image, content)


def test_paint_ends_with_a_snapshot_that_says_where_it_broke(params, content, style):
    *_, before, last = nst.paint(params, content, style, recipe=BREAKS, steps=9, every=3)
    assert (before.step, before.broke_at) == (0, -1)
    assert (last.step, last.broke_at) == (3, 1)
    assert not np.isfinite(last.losses.total)
    assert_array_equal(last.image, content)


STALLS = FAST.replace(optimizer=optimizers.Adam(), style_weight=1e25)  # its squares are infinite


def test_stylize_raises_where_no_update_changed_the_losses(params, content, style):
    with pytest.raises(nst.Stalled, match="after 3 updates.*nothing was painted.*smaller") as stuck:
        nst.stylize(params, content, style, recipe=STALLS, steps=3)
    assert stuck.value.step == 3
    assert_array_equal(stuck.value.image, content)
    again = pickle.loads(pickle.dumps(stuck.value))
    assert (str(again), again.step) == (str(stuck.value), 3)
    assert_array_equal(again.image, content)


@pytest.mark.parametrize("power", [-50, 33, 80])
def test_a_common_factor_of_the_weights_changes_nothing(params, content, style, power):
    # Squares of such slopes leave the range of float32; powers of two cause no rounding.
    plain, scaled = (
        nst.stylize(params, content, style, recipe=FAST.replace(weights))
        for weights in (
            {"style_weight": w, "content_weight": w, "tv_weight": 0.0} for w in (1.0, 2.0**power)
        )
    )
    assert np.abs(plain - content).max() > 0.01
    assert_allclose(scaled, plain, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("totals", "stalled"),
    [
        ([3, 3, 3, 2, 2, 2], True),  # every scale stands still
        ([3, 3, 3, 2, 2, 1], False),
        ([3, 2, 1, 2, 2, 2], False),
        ([3, 3, 3, 0, 0, 0], False),  # nothing left to paint
        ([3, 3, 3, 2, 2, np.nan], False),
    ],
)
def test_a_run_has_stalled_if_every_scale_has(totals, stalled):
    scales = [run_scales.Scale((8, 8), ((8, 8),), steps) for steps in (3, 2)]
    assert descent.has_stalled(np.asarray(totals, float), scales) is stalled


def test_a_scale_of_one_canvas_says_nothing():
    scales = [run_scales.Scale((8, 8), ((8, 8),), steps) for steps in (1, 2)]
    assert descent.has_stalled(np.asarray([3.0, 1.0, 1.0, 1.0]), scales)
    assert not descent.has_stalled(np.asarray([3.0]), scales[:1])


@pytest.mark.parametrize(
    ("totals", "after", "share"),
    [
        ([100, 99, 99, 98] + 17 * [97], 4, 0.97),
        ([100, 99] + 19 * [2e22], 2, 2e20),
        (21 * [100.0], 0, 1),
        ([100, 99, 99, 98] + 17 * [90], None, None),  # near the goal
        (list(range(100, 89, -1)) + 10 * [97], None, None),  # less than half of the losses
        ([100, 99] + 19 * [np.nan], None, None),
        (21 * [0.0], None, None),  # nothing to do
        ([0] + 20 * [1.0], None, None),  # nothing to do at first, so there is no share
    ],
)
def test_a_run_rests_far_from_its_goal(totals, after, share):
    scales = [run_scales.Scale((8, 8), ((8, 8),), 20)]
    rest = descent.rest_of(np.asarray(totals, float), scales)
    if after is None:
        assert rest is None
    else:
        assert (rest.after, rest.updates, rest.share) == (after, 20, pytest.approx(share))


def test_a_run_rests_if_it_does_at_every_scale():
    scales = [run_scales.Scale((side, side), ((side, side),), 20) for side in (4, 8)]
    still, falling = [100.0] + 19 * [99.0], list(np.linspace(50, 10, 21))
    assert descent.rest_of(np.asarray(falling[:20] + still + [99.0]), scales) is None
    rest = descent.rest_of(np.asarray(still + still + [99.0]), scales)
    assert (rest.after, rest.updates) == (21, 40)
    told = "the loss has not changed since update 21 of 40 and is still 99 % of the first one"
    assert rest.words == told
    assert rest._replace(share=2e20).words.endswith(
        "update 21 of 40 and is 2e+20 times the first one"
    )


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_the_remedy_at_rest_is_accepted_with_every_recipe(name):
    recipe = recipes.PRESETS[name]
    settings = re.findall(r"`([\w.]+)=(\w+)`", descent.remedy_at_rest(recipe))
    assert bool(settings) is not recipe.descent.optimizer.guarded
    assert toml.with_values(recipe, dict(settings)).descent.optimizer.guarded


# --- Arguments that are refused --------------------------------------------------------------------


def test_paint_checks_at_the_call_not_at_the_first_snapshot(params, content, style):
    with pytest.raises(ValueError, match="`steps`"):
        nst.paint(params, content, style, recipe=FAST, steps=0)
    with pytest.raises(ValueError, match="`content`"):
        nst.paint(params, content * 255, style, recipe=FAST)


@pytest.mark.parametrize(
    ("every", "error"), [(0, ValueError), (-3, ValueError), (2.5, TypeError), ("5", TypeError)]
)
def test_every_is_a_whole_number_of_updates(params, content, style, every, error, as_users_do):
    with pytest.raises(error, match="`every`"):
        nst.paint(params, content, style, recipe=FAST, every=every)


def test_a_pace_that_stands_still_is_refused_when_it_does(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST, steps=4, every=[2, 0])
    assert [next(shots).step, next(shots).step] == [0, 2]
    with pytest.raises(ValueError, match="`every`: expected 1 or more, got 0"):
        next(shots)


def test_a_chunk_is_one_dispatch(params, content, style, monkeypatch):
    lengths = []
    programs = planned_painting.PROGRAMS

    def run(*arguments, **options):
        lengths.append(arguments[-1])
        return programs.run(*arguments, **options)

    monkeypatch.setattr(planned_painting, "PROGRAMS", programs._replace(run=run))
    for _ in nst.paint(params, content, style, recipe=FAST, steps=50, every=20):
        pass
    assert lengths == [1, 20, 20, 10]
