"""What compiles, and what does not: a second call, another number, another length."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import optimizers
from nst_jax.recipes import sizes
from tests import small

pytestmark = pytest.mark.optimized

FAST = small.shallowest()


@pytest.fixture(scope="module")
def warm(params, content, style):
    """Compile everything once."""
    last(params, content, style, FAST, steps=7, every=2)


def last(params, content, style, recipe, **options):
    *_, shot = nst.paint(params, content, style, recipe=recipe, **options)
    return shot


def with_terms(**terms):
    return replace(FAST, terms=replace(FAST.terms, **terms))


def with_rule(**numbers):
    rule = replace(FAST.descent.optimizer, **numbers)
    return replace(FAST, descent=replace(FAST.descent, optimizer=rule))


CHANGES = {
    "nothing": (FAST, {}),
    "a weight": (with_terms(style_weight=3.0), {}),
    "a whole number for a weight": (with_terms(style_weight=3), {}),
    "a NumPy number for a weight": (with_terms(style_weight=np.float64(3)), {}),
    "a device array for a weight": (with_terms(style_weight=jnp.asarray(3.0)), {}),
    "a weight of nothing": (with_terms(content_weight=0.0, tv_weight=0), {}),
    "a layer's weight": (with_terms(style_layer_weights=(0.3, 2)), {}),
    "a radius": (with_rule(radius=0.01, slack=0), {}),
    "the steps": (FAST, {"steps": 9, "every": 4}),
    "the recipe's steps": (replace(FAST, descent=replace(FAST.descent, steps=5)), {}),
    "a snapshot every step": (FAST, {"steps": 3, "every": 1}),
    "the name and source": (replace(FAST, name="mine", source="me"), {}),
    "a size rule that says the same": (
        replace(FAST, pictures=replace(FAST.pictures, size=sizes.LongEdge(32))),
        {"style_size": "as-is"},
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_compiles_nothing(change, warm, params, content, style, compilations):
    recipe, options = CHANGES[change]
    before = compilations()
    last(params, content, style, recipe, **options)
    assert compilations() == before


def test_another_picture_of_the_same_size_compiles_nothing(
    warm, params, content, style, compilations
):
    flipped = np.flip(np.asarray(content), 0), np.flip(np.asarray(style), 1)
    before = compilations()
    nst.stylize(params, *flipped, recipe=FAST)
    assert compilations() == before


def test_the_counter_does_count(warm, params, style, compilations):
    before = compilations()
    last(params, style, style, FAST, steps=1)  # another canvas shape
    assert compilations() > before


@pytest.mark.slow
def test_a_sweep_is_one_program_whatever_its_numbers(params, content, style, compilations):
    def sweep(weights, steps):
        recipe = small.shallowest(steps=steps, style_weight=np.asarray(weights))
        return nst.stylize_many(params, content, style, recipe=recipe)

    sweep([0.1, 0.2], 2)
    before = compilations()
    sweep([0.3, 4.0], 2)
    sweep([0.3, 4], 3)
    assert compilations() == before


def test_a_rules_other_numbers_are_the_same_program(params, content, style, compilations):
    def run(**numbers):
        recipe = replace(
            FAST, descent=replace(FAST.descent, optimizer=optimizers.KerasAdam(**numbers))
        )
        return nst.stylize(params, content, style, recipe=recipe)

    run(learning_rate=0.02)
    before = compilations()
    run(learning_rate=0.01, b1=0.5, eps=0.1)
    assert compilations() == before
