"""`stylize_many`: rows are single runs, whatever is shared, swept, sized or broken."""

import pickle
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import optimizers, recipes, run_scales
from nst_jax.images import resizing
from nst_jax.recipes import sizes, starts
from tests import small

ADAM = optimizers.Adam(learning_rate=0.02, eps=1e-3)
LBFGS = small.shallowest(steps=3)
FAST = replace(LBFGS, descent=replace(LBFGS.descent, optimizer=ADAM))
WEIGHTS = np.asarray([0.01, 0.1, 1.0], np.float32)

# A batch and a single run are two programs: their sums differ in order, and three updates carry
# float32's 1e-7 of the largest gradient to some 1e-5 of a picture's range.
SAME = {"rtol": 0, "atol": 1e-4}


@pytest.fixture(scope="module")
def contents():
    picture = small.picture("chelsea", 24, 32)
    return np.stack([picture, picture[::-1], picture[:, ::-1]])


@pytest.fixture(scope="module")
def styles():
    picture = small.picture("starry_night", 28, 20)
    # The third has another size.
    return [picture, picture[::-1], small.picture("starry_night", 20, 26)]


def with_rate(rate):
    rule = replace(ADAM, learning_rate=rate)
    return replace(FAST, descent=replace(FAST.descent, optimizer=rule))


def with_terms(**terms):
    return replace(FAST, terms=replace(FAST.terms, **terms))


def single(params, content, style, recipe=FAST, **options):
    return nst.stylize(params, content, style, recipe=recipe, **options)


# --- Rows -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_n_contents_meet_n_styles_pairwise(params, contents, styles):
    images = nst.stylize_many(params, contents, styles, recipe=LBFGS)
    assert images.shape == contents.shape and images.dtype == jnp.float32
    for image, content, style in zip(images, contents, styles, strict=True):
        assert_allclose(image, single(params, content, style, LBFGS), **SAME)


@pytest.mark.long
def test_one_style_serves_all_contents(params, contents, styles):
    images = nst.stylize_many(params, contents, styles[2], recipe=FAST)
    for image, content in zip(images, contents, strict=True):
        assert_allclose(image, single(params, content, styles[2]), **SAME)


def test_one_content_meets_many_styles(params, contents, styles):
    images = nst.stylize_many(params, contents[0], styles, recipe=FAST)
    for image, style in zip(images, styles, strict=True):
        assert_allclose(image, single(params, contents[0], style), **SAME)


def test_a_batch_of_one_keeps_its_axis(params, styles):
    images = nst.stylize_many(params, small.picture("chelsea", 20, 20), styles[0], recipe=FAST)
    assert images.shape == (1, 20, 20, 3)


def test_rows_do_not_depend_on_their_neighbours(params, contents, styles):
    images = nst.stylize_many(params, contents, styles, recipe=FAST)
    order = [2, 0, 1]
    again = nst.stylize_many(params, contents[order], [styles[i] for i in order], recipe=FAST)
    assert_allclose(again, images[jnp.asarray(order)], **SAME)


def test_contents_of_several_sizes_are_grouped_and_come_back_in_order(params, contents, styles):
    mixed = [contents[0], small.picture("chelsea", 20, 20), contents[1], contents[2]]
    paired = [styles[0], styles[1], styles[2], styles[0]]
    images = nst.stylize_many(params, mixed, paired, recipe=FAST)
    assert isinstance(images, list)
    assert [image.shape for image in images] == [picture.shape for picture in mixed]
    for image, content, style in zip(images, mixed, paired, strict=True):
        assert_allclose(image, single(params, content, style), **SAME)


@pytest.mark.long
def test_several_scales_are_climbed_together(params, styles):
    recipe = replace(
        FAST, descent=replace(FAST.descent, schedule=recipes.CoarseToFine(smallest=24, share=2.0))
    )
    large = small.picture("chelsea", 40, 52)
    pair = np.stack([large, large[::-1]])
    images = nst.stylize_many(params, pair, styles[:2], recipe=recipe)
    for image, content, style in zip(images, pair, styles, strict=False):
        assert_allclose(image, single(params, content, style, recipe), **SAME)


def test_the_callers_arrays_stay_valid(params, contents, styles):
    given = jnp.asarray(contents)
    nst.stylize_many(params, given, jnp.asarray(styles[0]), recipe=FAST)
    assert_array_equal(given, contents)
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(params))


# --- Starts ---------------------------------------------------------------------------------------


def test_every_row_draws_its_own_noise_from_the_key(params, contents, styles):
    key = jax.random.key(7)
    images = nst.stylize_many(
        params, contents[0], [styles[0]] * 3, recipe=FAST, init=starts.Noise(), key=key
    )
    assert np.abs(images[0] - images[1]).max() > 0.01
    second = single(
        params, contents[0], styles[0], init=starts.Noise(), key=jax.random.fold_in(key, 1)
    )
    assert_allclose(images[1], second, **SAME)


def test_a_picture_may_be_the_start_of_all(params, contents, styles):
    images = nst.stylize_many(params, contents, styles[0], recipe=FAST, init=contents[1])
    for image, content in zip(images, contents, strict=True):
        assert_allclose(image, single(params, content, styles[0], init=contents[1]), **SAME)


# --- Sweeps ---------------------------------------------------------------------------------------


def test_arrays_of_weights_are_a_sweep_side_by_side(params, contents, styles):
    layer = WEIGHTS[::-1]
    recipe = with_terms(style_weight=WEIGHTS, style_layer_weights=(0.1, layer))
    images = nst.stylize_many(params, contents[0], styles[0], recipe=recipe)
    assert images.shape == (3, 24, 32, 3)
    for image, weight, other in zip(images, WEIGHTS, layer, strict=True):
        one = with_terms(style_weight=float(weight), style_layer_weights=(0.1, float(other)))
        assert_allclose(image, single(params, contents[0], styles[0], one), **SAME)
    assert np.abs(images[0] - images[2]).max() > 0.01


@pytest.mark.slow
def test_a_learning_rate_may_be_swept_over_pairs(params, contents, styles):
    rates = np.asarray([0.001, 0.01, 0.02], np.float32)
    images = nst.stylize_many(params, contents, styles, recipe=with_rate(rates))
    for image, content, style, rate in zip(images, contents, styles, rates, strict=True):
        recipe = with_rate(float(rate))
        assert_allclose(image, single(params, content, style, recipe), **SAME)


# --- Divergence -----------------------------------------------------------------------------------


def test_a_row_that_diverges_leaves_the_others_as_they_were_to_the_bit(params, contents, styles):
    def run(rates):
        recipe = with_rate(np.asarray(rates, np.float32))
        return nst.stylize_many(params, contents, styles, recipe=recipe)

    good = run([0.01, 0.01, 0.02])
    with pytest.warns(RuntimeWarning, match=r"1 \(after 1 updates\); their last finite") as caught:
        broken = run([0.01, 1e30, 0.02])
    assert caught[0].message.pictures == {1: 1}
    assert_array_equal(broken[0], good[0])
    assert_array_equal(broken[2], good[2])
    assert_array_equal(broken[1], contents[1])  # its last finite canvas is its start


@pytest.mark.slow
def test_a_row_that_breaks_on_a_coarse_scale_stays_as_it_was(params, styles):
    schedule = recipes.CoarseToFine(smallest=24, share=2.0)
    recipe = with_rate(np.asarray([0.01, 1e30], np.float32))
    recipe = replace(recipe, descent=replace(recipe.descent, schedule=schedule, steps=5))
    large = small.picture("chelsea", 40, 52)
    with pytest.warns(nst.batches.PicturesDiverged) as caught:
        images = nst.stylize_many(params, large, styles[0], recipe=recipe)
    assert caught[0].message.pictures == {1: 1}
    start = resizing.antialiased(large, (20, 26))
    kept = np.clip(resizing.enlarge(start, (40, 52)), 0, 1)
    assert_allclose(images[1], kept, rtol=0, atol=1e-6)


def test_it_tells_how_far_it_is(params, contents, styles):
    told = []
    images = nst.stylize_many(
        params,
        contents,
        styles,
        recipe=FAST,
        steps=5,
        every=4,
        progress=lambda *far: told.append(far),
    )
    # The start alone, then every four updates, then the rest.
    assert told == [(1, 6), (5, 6), (6, 6)]
    assert_array_equal(images, nst.stylize_many(params, contents, styles, recipe=FAST, steps=5))


def test_progress_is_told_at_the_end_of_each_scale(params, contents, styles):
    descent = replace(FAST.descent, schedule=recipes.CoarseToFine(smallest=32, share=1.0))
    recipe, told = replace(FAST, descent=descent), []
    options = {"recipe": recipe, "size": 64, "steps": 6}
    nst.stylize_many(params, contents, styles, progress=lambda *far: told.append(far), **options)
    scales = nst.plan(contents[0], styles[0], **options).scales
    assert len(scales) == 2
    # The update that enlarges the canvas belongs to the coarser scale and ends it.
    assert told == [(1, 7), (scales[0].steps, 7), (7, 7)]


def test_what_the_listener_raises_ends_the_work(params, contents, styles):
    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nst.stylize_many(params, contents, styles, recipe=FAST, progress=stop)


def test_a_row_that_stalls_is_named_and_the_others_are_as_they_were(params, contents, styles):
    weights = np.asarray(
        [0.01, 1e25, 0.1], np.float32
    )  # squares of the second's slopes are infinite
    with pytest.warns(nst.batches.PicturesStalled, match="these pictures: 1;") as caught:
        images = nst.stylize_many(
            params, contents, styles, recipe=with_terms(style_weight=weights), steps=2
        )
    assert caught[0].message.pictures == {1}
    assert pickle.loads(pickle.dumps(caught[0].message)).pictures == {1}
    assert_array_equal(images[1], contents[1])
    good = nst.stylize_many(
        params, contents, styles, recipe=with_terms(style_weight=weights.clip(max=1)), steps=2
    )
    assert_array_equal(images[::2], good[::2])


def test_nothing_is_said_where_nothing_diverges(params, contents, styles):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        images = nst.stylize_many(params, contents, styles, recipe=FAST)
    assert np.isfinite(images).all()


# --- Chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by_hand", [True, False], ids=["asked for", "short of memory"])
def test_chunks_give_what_all_at_once_give(params, contents, styles, monkeypatch, by_hand):
    recipe = with_rate(np.asarray([0.01, 1e30, 0.02], np.float32))
    told = []

    def run(**options):
        with pytest.warns(nst.batches.PicturesDiverged) as caught:
            images = nst.stylize_many(
                params, contents, styles, recipe=recipe, init=starts.Noise(), **options
            )
        return images, caught[0].message.pictures

    whole, broken = run()
    if not by_hand:
        one = nst.estimate_memory((24, 32), recipe=FAST, style_shapes=[(28, 20), (20, 26)])
        # One and a half, and the margin.
        there = round(nst.scaling.capacity.MARGIN * (1.5 * one.total - 0.5 * one.weights))
        monkeypatch.setattr(nst.scaling.capacity, "available", lambda device: there)
    chunked = {"chunk": 1} if by_hand else {}
    parts, broken_too = run(every=3, progress=lambda *far: told.append(far), **chunked)
    assert_allclose(parts, whole, **SAME)
    assert broken == broken_too == {1: 1}
    # Three chunks of one, each of the start and three updates.
    assert told == [(1, 12), (4, 12), (5, 12), (8, 12), (9, 12), (12, 12)]


@pytest.mark.parametrize(
    ("chunk", "kind", "message"),
    [
        (0, ValueError, "`chunk`: expected 1 or more, got 0"),
        (1.5, TypeError, "`chunk`: expected a"),
    ],
)
def test_no_pictures_at_once_are_refused(as_users_do, params, contents, chunk, kind, message):
    with pytest.raises(kind, match=message):
        nst.stylize_many(params, contents, contents, recipe=FAST, chunk=chunk)


# --- Blends ---------------------------------------------------------------------------------------


def test_a_style_blended_with_itself_is_that_style(params, contents, styles):
    blended = single(params, contents[0], [styles[0], styles[0]])
    assert_allclose(blended, single(params, contents[0], styles[0]), **SAME)


@pytest.mark.long
def test_a_share_of_nothing_leaves_the_other_style(params, contents, styles):
    recipe = with_terms(style_shares=(0.0, 2.0))
    blended = single(params, contents[0], (styles[1], styles[2]), recipe)
    assert_allclose(blended, single(params, contents[0], styles[2]), **SAME)
    assert not np.allclose(blended, single(params, contents[0], styles[1]), **SAME)


def test_blends_may_differ_from_row_to_row(params, contents, styles):
    blends = [styles[:2], [styles[2]], styles[1:]]
    images = nst.stylize_many(params, contents, blends, recipe=FAST)
    for image, content, blended in zip(images, contents, blends, strict=True):
        assert_allclose(image, single(params, content, blended), **SAME)


@pytest.mark.slow
def test_shares_may_be_swept(params, contents, styles, compilations):
    def sweep(*shares):
        recipe = with_terms(style_shares=tuple(np.asarray(share) for share in shares))
        return nst.stylize_many(params, contents[0], [styles[:2]], recipe=recipe)

    images = sweep([1.0, 0.5, 0.1], 0.5)
    before = compilations()
    sweep([0.2, 0.5, 3.0], 1)
    assert compilations() == before
    for image, share in zip(images, (1.0, 0.5, 0.1), strict=True):
        one = single(params, contents[0], styles[:2], with_terms(style_shares=(share, 0.5)))
        assert_allclose(image, one, **SAME)
    assert not np.allclose(images[0], images[2], **SAME)


def test_a_start_from_the_style_is_from_the_first(params, contents, styles):
    found = nst.paint(params, contents[0], styles[1:], recipe=FAST, init=starts.FromStyle())
    alone = nst.paint(params, contents[0], styles[1], recipe=FAST, init=starts.FromStyle())
    assert_array_equal(next(found).image, next(alone).image)


@pytest.mark.parametrize(
    ("shares", "count", "message"),
    [
        ((0.5, 0.5), 1, "expected 2 pictures, as many as the recipe's `style_shares`, got 1"),
        ((0.5, 0.5), 3, "expected 2 pictures, as many as the recipe's `style_shares`, got 3"),
        ((0.0, 0.0), 2, "are all 0"),
        ((1.0, -0.5), 2, "expected 0 or more, got -0.5"),
        ((1.0, float("nan")), 2, "expected a finite number"),
        ((1e60, 1e60), 2, "expected less than 1e\\+30"),
        ((1e-60, 1e-60), 2, "are all 0"),
    ],
)
def test_shares_that_cannot_work_are_refused(
    as_users_do, params, contents, styles, shares, count, message
):
    recipe = with_terms(style_shares=shares)
    with pytest.raises(ValueError, match=message):
        single(params, contents[0], styles[:count], recipe)
    with pytest.raises(ValueError, match=message):
        nst.stylize_many(params, contents, [styles[:count]], recipe=recipe)


def test_shares_that_do_not_fit_together_are_refused(as_users_do, params, contents, styles):
    recipe = with_terms(style_shares=(np.ones(3), np.ones(2)))
    with pytest.raises(ValueError, match="3 recipe.terms.style_shares.* do not fit together"):
        nst.stylize_many(params, contents, [styles[:2]], recipe=recipe)


def test_a_list_that_is_no_blend_is_told_how_to_be_one(as_users_do, params, contents, styles):
    recipe = with_terms(style_shares=(0.5, 0.5))
    with pytest.raises(ValueError, match=r"a blend is a list within the list, `\[\[a, b\]\]`"):
        nst.stylize_many(params, contents[0], styles[:2], recipe=recipe)


# --- Arguments that are refused --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents_count", "styles_count", "weights", "message"),
    [
        (2, 3, 1.0, "2 contents, 3 styles do not fit together"),
        (3, 1, WEIGHTS[:2], "3 contents, 1 styles, 2 recipe.terms.style_weight do not fit"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(
    params, contents, styles, contents_count, styles_count, weights, message
):
    with pytest.raises(ValueError, match=message):
        nst.stylize_many(
            params,
            contents[:contents_count],
            styles[:styles_count],
            recipe=with_terms(style_weight=weights),
        )


def test_what_cannot_be_swept_is_refused(params, contents, styles):
    empty = with_terms(style_weight=np.zeros(0, np.float32))
    with pytest.raises(
        ValueError, match="`recipe`: `terms.style_weight` is an empty array; give a"
    ):
        nst.stylize_many(params, contents, styles, recipe=empty)
    square = with_terms(style_weight=np.ones((2, 2), np.float32))
    with pytest.raises(
        ValueError, match=r"`terms.style_weight` may not be an array of shape \[2, 2\]"
    ):
        nst.stylize_many(params, contents, styles, recipe=square)
    blend = starts.Blend(np.asarray([0.1, 0.2, 0.3]))
    pictures = replace(FAST.pictures, start=blend)
    with pytest.raises(ValueError, match="`pictures.start.ratio` may not be an array"):
        nst.stylize_many(params, contents, styles, recipe=replace(FAST, pictures=pictures))


def test_a_style_has_its_own_size_beside_each_content(params, styles):
    recipe = replace(FAST, pictures=replace(FAST.pictures, style_size=sizes.LikeContent()))
    mixed = [small.picture("chelsea", 24, 32), small.picture("chelsea", 20, 20)]
    images = nst.stylize_many(params, mixed, styles[:1], recipe=recipe)
    for image, content in zip(images, mixed, strict=True):
        assert_allclose(image, single(params, content, styles[0], recipe), **SAME)


def test_canvases_that_begin_at_other_sizes_are_not_painted_together():
    last = run_scales.Scale((32, 48), ((20, 20),), 1)
    one = (run_scales.Scale((16, 24), ((20, 20),), 1), last)
    other = (run_scales.Scale((17, 24), ((20, 21),), 1), last)
    assert run_scales.shapes_of(one, FAST) != run_scales.shapes_of(other, FAST)
    # The sizes of styles matter only to a loss that matches positions.
    styled = (one[0]._replace(style_shapes=((20, 21),)), last)
    assert run_scales.shapes_of(one, FAST) == run_scales.shapes_of(styled, FAST)
    assert run_scales.shapes_of(one, recipes.NNST) != run_scales.shapes_of(styled, recipes.NNST)
