"""Targets: what is measured, of which picture, at which taps."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, measuring, optimizers, recipes
from nst_jax.style_statistics import blend
from tests import reference, small

measure = jax.jit(nst.measure)


def test_targets_are_features_of_the_content_and_mean_grams_of_the_style(params, content, style):
    targets = measure(params, content, style, small.shallow())
    of_content, of_style = (
        reference.features(params, reference.pixels(x), deepest="relu2_1") for x in (content, style)
    )
    assert set(targets.content) == {"relu2_1"} and set(targets.style) == {"relu1_1", "relu2_1"}
    expected = of_content["relu2_1"]
    assert_allclose(targets.content["relu2_1"], expected, rtol=0, atol=1e-5 * expected.max())
    for tap, gram in targets.style.items():
        expected = reference.raw_gram(of_style[tap]) / of_style[tap][..., 0].size
        assert_allclose(gram, expected, rtol=0, atol=1e-5 * expected.max())


def test_targets_have_the_same_shapes_whatever_the_styles_size(params, content):
    def shapes(height, width):
        style = jax.ShapeDtypeStruct((height, width, 3), jnp.float32)
        targets = jax.eval_shape(nst.measure, params, content, style, recipes.DEFAULT)
        return jax.tree.map(lambda x: x.shape, targets)

    assert shapes(16, 16) == shapes(40, 23)
    assert shapes(16, 16).style["relu5_1"].root == (512, 512)


def test_a_mirrored_style_is_nearly_the_same_style(params, content, style):
    # Not exactly, since the network's kernels are not symmetric.
    there, back = (
        measure(params, content, x, small.shallow()).style["relu1_1"]
        for x in (style, style[:, ::-1])
    )
    assert np.linalg.norm(there - back) < 0.2 * np.linalg.norm(there)


def test_measuring_is_the_same_compiled(params, content, style):
    recipe = small.shallow()
    eager = nst.measure(params, content, style, recipe)
    compiled = measure(params, content, style, recipe)
    for mine, other in zip(jax.tree.leaves(eager), jax.tree.leaves(compiled), strict=True):
        assert_allclose(mine, other, rtol=0, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("recipe", [recipes.GRAM, recipes.STROTSS], ids=lambda one: one.name)
def test_targets_and_losses_of_numpys_float64_are_those_of_float32(params, recipe, as_users_do):
    """Without a warning of JAX, which would be an error here."""
    recipe = small.shallowest(recipe)
    picture = small.picture("chelsea", 32, 32)
    found, expected = (
        nst.losses_of(params, one, nst.measure(params, one, one[::-1], recipe), recipe)
        for one in (np.asarray(picture, np.float64), picture)
    )
    for mine, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert_array_equal(mine, other, strict=True)


def test_targets_do_not_depend_on_weights(params, content, style):
    light, heavy = (
        measure(params, content, style, recipes.as_arrays(small.shallow(style_weight=w).bare()))
        for w in (0.0, 1e6)
    )
    for mine, other in zip(jax.tree.leaves(light), jax.tree.leaves(heavy), strict=True):
        assert_array_equal(mine, other)


# --- Several styles -------------------------------------------------------------------------------


def test_a_blend_is_the_weighed_mean_whatever_the_sum_of_shares(params, content, style):
    others = [style, style[:20, ::-1]]
    alone = [measure(params, content, one, small.shallow()).style for one in others]
    recipe = small.shallow(style_shares=(6.0, 2.0))
    blended = measure(params, content, others, recipe).style
    for tap, gram in blended.items():
        assert_allclose(gram, 0.75 * alone[0][tap] + 0.25 * alone[1][tap], rtol=1e-5)


NO_SHARE = "are all 0, so no style remains; give one style a share"


@pytest.mark.parametrize(
    ("shares", "what"),
    [
        ((0.0, 0.0), NO_SHARE),
        ((0, np.float32(0)), NO_SHARE),
        ((jnp.zeros(()), 0.0), NO_SHARE),
        ((1e-31, 1e-31), NO_SHARE),
        ((1.0, -1.0), "expected 0 or more, got -1.0"),
        ((3.0, np.float32(-1)), "expected 0 or more, got -1.0"),
        ((np.nan, 1.0), "expected a finite number, got nan"),
        ((jnp.float32(np.inf), 1.0), "expected a finite number, got inf"),
        ((np.float32(3e38), np.float32(3e38)), r"expected less than 1e\+30, got 3e\+38"),
    ],
)
@pytest.mark.parametrize("of", [lambda function: function, jax.jit], ids=["eager", "compiled"])
def test_shares_by_which_no_blend_is_made_are_refused(params, content, of, shares, what):
    recipe = small.shallow(style_shares=shares)
    measure = of(lambda style: nst.measure(params, content, [style, style], recipe))
    with pytest.raises(ValueError, match=rf"^`recipe.terms.style_shares`: {what}(\n|$)"):
        measure(content)
    with pytest.raises(ValueError, match=f"^`style_shares`: {what}$"):
        recipes.check(recipe)


def test_a_known_share_beside_a_traced_one_is_checked(params, content):
    def targets(share):
        recipe = small.shallow(style_shares=(share, -1.0))
        return nst.measure(params, content, [content, content], recipe)

    with pytest.raises(ValueError, match=r"^`recipe.terms.style_shares`: expected 0 or more"):
        jax.eval_shape(targets, 2.0)


def test_shares_that_are_traced_or_not_used_may_be_0(params, content):
    def shapes(style, recipe, share):
        recipe = replace(recipe, terms=replace(recipe.terms, style_shares=(share, 0.0)))
        return nst.measure(params, content, [style, style], recipe).style

    assert jax.eval_shape(shapes, content, small.shallow(), 0.0).keys() == {"relu1_1", "relu2_1"}
    single = small.shallow(style_shares=(0.0,))
    assert_allclose(
        measure(params, content, content, single).style["relu1_1"],
        measure(params, content, content, small.shallow()).style["relu1_1"],
    )
    matched = partial(shapes, recipe=small.shallow(recipes.NNST), share=0.0)
    assert jax.eval_shape(matched, content)


def test_one_share_for_several_styles_is_as_many_alike():
    terms = recipes.Terms(style_taps=("relu1_1",))
    found = blend([{"relu1_1": jnp.asarray(value)} for value in (1.0, 2.0, 6.0)], (0.3,), terms)
    assert_allclose(found["relu1_1"], 3.0, rtol=1e-6)


def test_a_single_style_is_left_as_it_is():
    statistic = {"tap": jnp.asarray(0.1)}
    assert blend([statistic], (7.0,), recipes.Terms()) is statistic


def test_as_many_styles_as_shares_are_asked_for(as_users_do, params, content, style):
    recipe = small.shallow(style_shares=(0.5, 0.5))
    for styles in ([style], style, [style] * 3):
        with pytest.raises(ValueError, match="^`style`: expected 2 pictures"):
            nst.measure(params, content, styles, recipe)
    with pytest.raises(ValueError, match="^`style`: is empty"):
        nst.measure(params, content, [], recipe)


def test_a_blend_pulls_as_the_average_of_its_styles_does(x64, params64, content, style):
    content, style = (jnp.asarray(np.asarray(image, np.float64)) for image in (content, style))
    styles, shares = [style, style[::-1, :16]], (0.7, 0.3)
    image = content[::-1]

    @jax.jit
    def gradient(style, recipe):
        targets = nst.measure(params64, content, style, recipe)
        return jax.grad(lambda x: nst.losses_of(params64, x, targets, recipe).style)(image)

    blended = gradient(styles, small.shallow(style_shares=shares))
    apart = sum(w * gradient(s, small.shallow()) for w, s in zip(shares, styles, strict=True))
    assert_allclose(blended, apart, rtol=1e-9, atol=1e-12 * np.abs(apart).max())


# --- Targets that a loss computes from the statistic ----------------------------------------------


def roots(statistic):
    return {"root": jnp.sqrt(jnp.maximum(statistic, 0)), "trace": jnp.trace(statistic)}


def root_distance(canvas, style, extent):
    root = jnp.sqrt(jnp.maximum(canvas, 1e-6))
    return jnp.mean(jnp.square(root - style["root"])) + jnp.square(
        jnp.trace(canvas) / style["trace"] - 1
    )


ROOTS = losses.GRAM_MEAN_SQUARE._replace(distance=root_distance, target=roots)


def test_the_target_is_made_of_the_blended_statistic(params, content, style):
    others, shares = [style, style[:20, ::-1]], (6.0, 2.0)
    plain = measure(params, content, others, small.shallow(style_shares=shares)).style
    recipe = small.shallow(style_shares=shares, style_loss=ROOTS)
    whole = measure(params, content, others, recipe).style
    pieces = measuring.Measuring(params, recipes.as_arrays(recipe.bare()), None)
    by_piece = measuring.targets_of(pieces, content, others).style
    for tap, gram in plain.items():
        for found in (whole[tap], by_piece[tap]):
            assert set(found) == {"root", "trace"}
            assert_allclose(found["root"], np.sqrt(np.maximum(gram, 0)), rtol=1e-3, atol=1e-5)
            assert_allclose(found["trace"], np.trace(gram), rtol=1e-5)


def test_a_batch_makes_the_targets_of_single_runs(params, content, style):
    others = [style, 1 - style]
    recipe = small.shallow(
        steps=3,
        style_loss=ROOTS,
        style_weight=1e8,
        style_shares=(np.float32([0.2, 0.9]), np.float32([0.8, 0.1])),
    ).replace(optimizer=optimizers.Adam(eps=1e-3))
    batch = nst.stylize_many(params, content, [others], recipe=recipe)
    for place, image in enumerate(batch):
        one = recipe.replace(style_shares=tuple(float(x[place]) for x in recipe.terms.style_shares))
        assert_allclose(image, nst.stylize(params, content, others, recipe=one), atol=1e-4)
    assert np.max(np.abs(batch[0] - batch[1])) > 1e-3
