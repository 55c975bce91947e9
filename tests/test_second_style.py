"""Runs with losses that sort features, and with a second style loss at other taps."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, optimizers, provenance, recipes
from nst_jax.recipes import toml
from nst_jax.scaling.operations import style_operations, update_operations
from nst_jax.targets import stacked_targets
from tests import small

# Losses of two updates differ by the directions alone, so the guarded L-BFGS might refuse good updates.
SLICED = small.shallow(style_loss=losses.SLICED_WASSERSTEIN, tv_weight=0.0).replace(
    optimizer=optimizers.Adam(learning_rate=0.02)
)
HISTOGRAMS = recipes.SecondStyle(
    taps=("relu1_1", "relu1_2"),
    layer_weights=(0.5, 0.25),
    loss=losses.CHANNEL_HISTOGRAMS,
    weight=0.1,
)
GRAMS = replace(HISTOGRAMS, loss=losses.GRAM_PAPER)

measure, losses_of = jax.jit(nst.measure), jax.jit(nst.losses_of)


# --- Losses that sort -----------------------------------------------------------------------------


def test_targets_keep_the_styles_features(params, content, style):
    targets = jax.eval_shape(nst.measure, params, content, [style, style[:20]], SLICED)
    kept = targets.style["relu2_1"]
    assert kept.values.shape == (2, 14 * 10, 128) and kept.counts.shape == (2,)


def test_directions_are_new_in_every_update_of_a_run(params, content, style):
    targets = measure(params, content, style, SLICED)
    state = nst.init(content, SLICED)
    step = jax.jit(nst.step)
    for number in range(2):
        image = jnp.asarray(state.pending)
        decoded = SLICED.descent.coordinates.decode(image)
        state = step(params, state, targets, SLICED)
        same = losses_of(params, decoded, targets, SLICED, step=number)
        other = losses_of(params, decoded, targets, SLICED, step=number + 1)
        for tap, loss in same.style_layers.items():
            assert_allclose(state.losses.style_layers[tap], loss, rtol=1e-4)
            assert abs(other.style_layers[tap] - loss) > 1e-2 * loss


def test_a_batch_of_styles_of_several_sizes_is_painted_as_each_alone(params, content, style):
    recipe = replace(SLICED, descent=replace(SLICED.descent, steps=2))
    styles = [[style[:18], style[:, :17]], style[:16, :16]]
    many = nst.stylize_many(params, content, styles, recipe=recipe)
    alone = nst.stylize(params, content, styles[1], recipe=recipe)
    assert_allclose(many[1], alone, atol=2e-3)
    assert np.abs(many[0] - many[1]).max() > 1e-2


def test_targets_of_styles_and_blends_of_several_sizes_are_stacked(params, content, style):
    both = small.shallow(style_loss=losses.CHANNEL_HISTOGRAMS)
    targets = [
        measure(params, content, styles, both)
        for styles in (style, style[:16, :16], [style[:18], style[:, :17]])
    ]
    stacked = stacked_targets([one.style for one in targets])
    for place, one in enumerate(targets):
        filled = one._replace(style=jax.tree.map(lambda x, i=place: x[i], stacked))
        assert filled.style["relu1_1"].ordered.shape == (2, 64, 560)
        expected = losses_of(params, content[::-1], one, both).style
        assert_allclose(losses_of(params, content[::-1], filled, both).style, expected, rtol=1e-5)


def test_shorter_targets_are_filled_up_with_zeros():
    one, two = jnp.ones((1, 2)), jnp.ones((2, 1))
    found = stacked_targets([{"relu1_1": one}, {"relu1_1": two}])["relu1_1"]
    assert_array_equal(found, [[[1, 1], [0, 0]], [[1, 0], [1, 0]]])


@pytest.mark.parametrize("kind", ["content_loss", "style_loss"])
def test_a_loss_that_sorts_or_compares_positions_is_refused_in_tiles(kind):
    loss = {
        "content_loss": losses.CONTENT_SELF_SIMILARITY,
        "style_loss": losses.SLICED_WASSERSTEIN,
    }[kind]
    recipe = recipes.check(small.shallow(**{kind: loss}))
    cut = replace(recipe, network=replace(recipe.network, tile=96))
    with pytest.raises(ValueError, match=rf"^`tile`: got 96, but `{kind}` is not additive"):
        recipes.check(cut)


def test_bands_are_refused_for_a_second_style_that_is_not_additive():
    with pytest.raises(ValueError, match=r"^`devices`: `second_style.loss` is not additive"):
        nst.plan((64, 64), (64, 64), recipe=nst.recipes.HISTOGRAM, size=64, devices=2)


def test_the_memory_of_kept_styles_is_counted():
    shape = (256, 256)
    estimate = nst.estimate_memory(shape, recipe=SLICED, style_shapes=[(512, 512)], platform="cpu")
    content = 128 * 128 * 128
    style = 512 * 512 * 64 + 256 * 256 * 128
    assert 0 <= estimate.targets - 4 * (content + style) < 100
    blend = SLICED.replace(style_shares=(0.5, 0.3, 0.2))
    three = nst.estimate_memory(shape, recipe=blend, style_shapes=[(512, 512), (64, 64)])
    assert 0 <= three.targets - 4 * (content + 3 * style) < 200
    grams = nst.estimate_memory(
        shape, recipe=small.shallow(), style_shapes=[(512, 512)], platform="cpu"
    )
    assert grams.targets == 4 * (content + 64**2 + 128**2)


# --- A second style loss --------------------------------------------------------------------------


def test_a_second_style_loss_adds_to_the_first(params, content, style):
    first = small.shallow(style_weight=3.0, tv_weight=0.0)
    second = small.shallow(
        style_taps=HISTOGRAMS.taps,
        style_layer_weights=HISTOGRAMS.layer_weights,
        style_loss=HISTOGRAMS.loss,
        style_weight=3.0 * 0.1,
        tv_weight=0.0,
    )
    both = first.replace(second_style=HISTOGRAMS)
    image = content[::-1]
    apart, other, found = (
        losses_of(params, image, measure(params, content, style, recipe), recipe)
        for recipe in (first, second, both)
    )
    expected = apart.style_layers | {
        f"second_{tap}": loss for tap, loss in other.style_layers.items()
    }
    assert found.style_layers.keys() == expected.keys()
    for name, loss in expected.items():
        assert_allclose(found.style_layers[name], loss, rtol=1e-5)
    assert_allclose(found.style, apart.style + other.style, rtol=1e-5)
    assert_allclose(found.total, apart.content + found.style, rtol=1e-5)


def test_a_second_style_loss_reads_taps_of_its_own():
    terms = small.shallow().replace(second_style=HISTOGRAMS).terms
    assert terms.taps == ("relu2_1", "relu1_1", "relu1_2")
    assert [part.name for part in terms.style_parts] == [
        "relu1_1",
        "relu2_1",
        "second_relu1_1",
        "second_relu1_2",
    ]
    assert not terms.additive
    assert small.shallow().replace(second_style=GRAMS).terms.additive


def test_two_additive_style_losses_are_exact_in_tiles(params, content, style):
    recipe = small.shallow(second_style=GRAMS)
    canvas = jnp.asarray(small.picture("chelsea", 48, 80))
    cut = replace(recipe, network=replace(recipe.network, tile=32))
    targets = measure(params, canvas, canvas[:40, :64], recipe)
    by_tiles = measure(params, canvas, canvas[:40, :64], cut)
    for whole, tiled in zip(*map(jax.tree.leaves, (targets.style, by_tiles.style)), strict=True):
        assert_allclose(tiled, whole, rtol=1e-4, atol=1e-5 * np.abs(whole).max())

    def gradient(recipe):
        return jax.jit(
            jax.value_and_grad(lambda x: nst.losses_of(params, x, targets, recipe).style)
        )(canvas[::-1])

    (loss, whole), (same, tiled) = gradient(recipe), gradient(cut)
    assert_allclose(same, loss, rtol=1e-5)
    assert_allclose(tiled, whole, atol=1e-4 * np.abs(whole).max())


def test_the_weights_of_a_second_style_loss_are_numbers_of_a_sweep(params, content, style):
    recipe = small.quickest(steps=2).replace(second_style=HISTOGRAMS)
    weights = jnp.asarray([0.0, 100.0])
    found = nst.stylize_many(
        params, content, style, recipe=recipe.replace(second_style__weight=weights)
    )
    for image, weight in zip(found, (0.0, 100.0), strict=True):
        alone = nst.stylize(
            params, content, style, recipe=recipe.replace(second_style__weight=weight)
        )
        assert_allclose(image, alone, atol=2e-3)
    assert np.abs(found[0] - found[1]).max() > 1e-2


def test_a_recipe_without_second_style_has_the_leaves_and_settings_that_it_had():
    recipe = small.shallow()
    assert len(jax.tree.leaves(recipe.replace(second_style=HISTOGRAMS))) == (
        len(jax.tree.leaves(recipe)) + 3
    )
    assert "second_style" not in toml.to_toml(recipe)
    assert not any("second_style" in key for key in provenance.of_recipe(recipe))


def test_a_second_style_loss_is_written_and_read():
    recipe = recipes.check(recipes.TF.replace(second_style=HISTOGRAMS))
    text = toml.to_toml(recipe)
    assert '[terms.second_style]\ntaps = ["relu1_1", "relu1_2"]' in text
    assert 'loss = "channel_histograms"' in text
    assert toml.from_toml(text) == recipe
    settings = provenance.of_recipe(recipe)
    assert settings["terms.second_style.loss"] == "channel_histograms"
    assert settings["terms.second_style.layer_weights"] == [0.5, 0.25]
    short = 'base = "tf"\n[terms.second_style]\ntaps = ["relu1_1"]\nlayer_weights = [2.0]'
    assert toml.from_toml(short).terms.second_style.loss is losses.GRAM_MEAN_SQUARE
    changed = toml.with_values(recipe, {"terms.second_style.weight": "0.7"})
    assert changed.terms.second_style.weight == 0.7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"taps": ("relu9_1", "relu1_1")}, "`second_style.taps`: .*relu9_1"),
        ({"layer_weights": (1.0,)}, "`second_style.layer_weights`: .*2"),
        ({"layer_weights": (1.0, -1.0)}, "`second_style.layer_weights`: "),
        ({"weight": -1.0}, "`second_style.weight`: "),
    ],
)
def test_a_faulty_second_style_loss_is_refused(change, message):
    recipe = recipes.TF.replace(second_style=replace(HISTOGRAMS, **change))
    with pytest.raises(ValueError, match=f"^{message}"):
        recipes.check(recipe)


def test_a_file_with_a_faulty_second_style_loss_is_refused_by_its_full_key():
    text = 'base = "tf"\n[terms.second_style]\ntaps = ["relu1_1"]\nlayer_weights = [1.0, 2.0]'
    with pytest.raises(ValueError, match=r"^`recipe`: `terms\.second_style\.layer_weights`: "):
        toml.from_toml(text)


def test_something_else_than_a_second_style_loss_is_refused(as_users_do):
    with pytest.raises(TypeError, match="^`second_style`: expected a `SecondStyle`"):
        recipes.check(recipes.TF.replace(second_style=losses.CHANNEL_HISTOGRAMS))
    with pytest.raises(TypeError, match="^`loss`: expected a style loss of"):
        recipes.check(recipes.TF.replace(second_style=replace(HISTOGRAMS, loss=3)))


def test_histograms_as_second_style_loss_are_refused_in_tiles():
    recipe = recipes.TF.replace(second_style=HISTOGRAMS)
    cut = replace(recipe, network=replace(recipe.network, tile=208))
    with pytest.raises(ValueError, match=r"^`tile`: got 208, but `second_style.loss` is not"):
        recipes.check(cut)


def test_the_work_of_a_second_style_loss_is_counted():
    first = small.shallow()
    both = first.replace(second_style=GRAMS)
    shape = (128, 128)
    assert update_operations(shape, both, "cpu") > update_operations(shape, first, "cpu")
    assert style_operations(shape, both) > style_operations(shape, first)
    memory = [nst.estimate_memory(shape, recipe=recipe).targets for recipe in (first, both)]
    assert memory[1] - memory[0] == 4 * 2 * 64**2
