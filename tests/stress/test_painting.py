"""All recipes, precisions and starts at 48 px."""

import datetime
import functools
import itertools

import jax
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import recipes
from nst_jax.recipes import starts
from nst_jax.vgg.precision import PRECISIONS
from tests import small
from tests.stress import trials as stress

STARTS = {"of the recipe": None} | {name: start() for name, start in starts.STARTS.items()}
# Starts vary first: they change the canvas and compile nothing anew.
COMBINATIONS = list(itertools.product(sorted(recipes.PRESETS), PRECISIONS, STARTS))
STRIDE = 97  # a prime, so that a few combinations in a row differ in all three
PAINTING_SECONDS = 300.0


@functools.cache
def params():
    return nst.load_params()


PAINTED, DIVERGED = "painted", "diverged, last finite canvas kept"
ENDINGS = {PAINTED, DIVERGED}


def paint(recipe, precision, start, seed):
    """Paint two updates, and return how that ended."""
    run = nst.paint(
        params(),
        small.picture("chelsea", 32, 48),
        small.picture("starry_night", 40, 48),
        recipe=recipes.PRESETS[recipe],
        size=48,
        steps=2,
        precision=precision,
        init=STARTS[start],
        key=jax.random.key(seed),
    )
    last = run.finish()
    image = np.asarray(last.image)
    assert max(image.shape[:2]) >= 48 and image.shape[2] == 3
    assert np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1
    if last.broke_at >= 0:
        return DIVERGED
    assert last.step == 2 and np.isfinite(last.losses.total)
    return PAINTED


def tried(worker, name, combinations):
    """Let another process paint each combination; return how many ended in which way."""

    def trial(rng, number):
        try:
            return worker.call(paint, *combinations[number], number, seconds=PAINTING_SECONDS)
        except BaseException as error:
            error.add_note(f"recipe, precision and start: {', '.join(combinations[number])}")
            raise

    return stress.run(name, len(combinations), trial)


def test_a_few_recipes_precisions_and_starts(worker):
    # Others every day; a failure names the combination, and the full form has it too.
    first = datetime.date.today().toordinal()
    count = len(COMBINATIONS)
    few = [COMBINATIONS[first * STRIDE % count]]
    found = tried(worker, "recipes, precisions and starts", few)
    assert sum(found.values()) == 1 and found.keys() <= ENDINGS


@pytest.mark.stress
@pytest.mark.parametrize("recipe", sorted(recipes.PRESETS))
def test_all_precisions_and_starts(worker, recipe):
    combinations = [each for each in COMBINATIONS if each[0] == recipe]
    assert len(combinations) == len(PRECISIONS) * len(STARTS)
    found = tried(worker, f"precisions and starts, {recipe}", combinations)
    assert sum(found.values()) == len(combinations) and found.keys() <= ENDINGS
