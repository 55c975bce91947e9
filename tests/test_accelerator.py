"""The subset of the tests that is run on an accelerator: every precision against float64 and NumPy.

    JAX_PLATFORMS=cuda,cpu pytest -n0 -m accelerator

On a CPU those that are not marked `long` run with the slow tests; there tensorfloat32 is computed as
float32. The references do not depend on the device: NumPy in float64, the same functions in float64, or
the same run without batch or tiles.
"""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import recipes
from nst_jax.recipes import starts
from nst_jax.scaling import capacity
from nst_jax.vgg import precision
from tests import reference, small

pytestmark = [pytest.mark.accelerator, pytest.mark.slow]

# Largest relative error of losses, and of gradients in the L2 norm, by precision. Factors are rounded
# to 24, 11 and 8 significant bits, by up to 6e-8, 5e-4 and 4e-3 of their value, in each of up to 14
# convolutions one after the other. Errors of single products mostly cancel in a loss, which is a sum
# over all of them, and less so in a gradient.
LOSS = {"float32": 2e-5, "tensorfloat32": 5e-3, "bfloat16": 2e-2}
GRADIENT = {"float32": 2e-4, "tensorfloat32": 2e-2, "bfloat16": 1e-1}

# The same for a loss with roots of matrices that have eigenvalues near zero, such as covariances of
# fewer positions than channels. There, a root has the root of its argument's error: 2.4e-4 for 6e-8. As
# above, errors cancel less in the gradient.
LOSS_OF_ROOTS, GRADIENT_OF_ROOTS = 1e-3, 5e-3

STYLE_TAPS = tuple(f"relu{block}_1" for block in range(1, 6))  # those of the recipe `tf`
CONTENT_TAP = "relu5_2"

# CI runs them on CPUs only, where tensorfloat32 is float32.
each_precision = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long if name == "tensorfloat32" else ())
        for name in precision.PRECISIONS
    ],
)


@pytest.fixture(scope="module")
def pictures():
    """Return a content, a style and a canvas between them, as NumPy arrays [32, 48, 3]."""
    content, style = (small.picture(name, 32, 48) for name in ("chelsea", "starry_night"))
    return content, style, 0.6 * content + 0.4 * style


@jax.jit
def _losses_and_gradient(params, canvas, content, style, core):
    def total(canvas):
        targets = nst.measure(params, content, style, core)
        found = nst.losses_of(params, canvas, targets, core)
        return found.total, found

    return jax.value_and_grad(total, has_aux=True)(canvas)


def total_of(params, pictures, recipe):
    """Return the losses and the gradient of the total at the canvas, computed on the default device."""
    content, style, canvas = (jnp.asarray(picture) for picture in pictures)
    core = recipes.as_arrays(recipe.bare())
    (_, found), gradient = _losses_and_gradient(params, canvas, content, style, core)
    return found, np.asarray(gradient, np.float64)


@pytest.fixture(scope="module")
def exact(params, pictures):
    """Return a function from a preset's name to its total, content loss and gradient in float64."""

    @cache
    def of(name):
        recipe = recipes.PRESETS[name].replace(precision=precision.FLOAT32)
        with small.double(), jax.default_device(jax.local_devices(backend="cpu")[0]):
            wide = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)
            given = [np.asarray(picture, np.float64) for picture in pictures]
            found, slope = total_of(wide, given, recipe)
            return float(found.total), float(found.content), slope

    return of


def relative(one, other):
    """Return the distance of two arrays in the L2 norm, as a fraction of the second's norm."""
    one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
    return np.linalg.norm(one - other) / np.linalg.norm(other)


@pytest.mark.parametrize(
    "name",
    [
        # What bfloat16 adds to float32 is compared below.
        pytest.param(name, marks=() if name == "float32" else pytest.mark.long)
        for name in precision.PRECISIONS
    ],
)
def test_losses_are_those_of_numpy(name, params, pictures):
    content, style, canvas = (
        reference.features(params, reference.pixels(picture), deepest=CONTENT_TAP)
        for picture in pictures
    )
    terms = recipes.TF.terms
    expected = terms.content_weight * np.mean((canvas[CONTENT_TAP] - content[CONTENT_TAP]) ** 2)
    for tap in STYLE_TAPS:
        one, other = (
            reference.raw_gram(maps[tap]) / maps[tap][..., 0].size for maps in (canvas, style)
        )
        expected += terms.style_weight / len(STYLE_TAPS) * np.mean((one - other) ** 2)
    found, _ = total_of(params, pictures, recipes.TF.replace(precision=precision.PRECISIONS[name]))
    assert_allclose(found.total, expected, rtol=LOSS[name])


@each_precision
@pytest.mark.parametrize("recipe", ["gram", pytest.param("default", marks=pytest.mark.long)])
def test_losses_and_gradients_are_those_of_float64(recipe, name, params, pictures, exact):
    total, content, slope = exact(recipe)
    recipe = recipes.PRESETS[recipe]
    found, gradient = total_of(
        params, pictures, recipe.replace(precision=precision.PRECISIONS[name])
    )
    assert_allclose(found.content, content, rtol=LOSS[name])
    of_total, of_gradient = LOSS[name], GRADIENT[name]
    if recipe.name == "default":
        of_total, of_gradient = max(of_total, LOSS_OF_ROOTS), max(of_gradient, GRADIENT_OF_ROOTS)
    assert_allclose(found.total, total, rtol=of_total)
    assert relative(gradient, slope) < of_gradient


@pytest.mark.parametrize("recipe", [pytest.param("default", marks=pytest.mark.long), "tf"])
def test_the_precision_of_the_platform_is_taken_unasked(recipe, params, pictures):
    recipe = recipes.PRESETS[recipe]
    named = recipe.network.precision_on(capacity.platform_of()).name
    unasked, _ = total_of(params, pictures, recipe)
    asked, _ = total_of(params, pictures, recipe.replace(precision=precision.PRECISIONS[named]))
    assert float(unasked.total) == float(asked.total)


@pytest.mark.long
@pytest.mark.parametrize("name", precision.PRECISIONS)
def test_rows_of_a_batch_are_single_runs(name, params):
    contents = [small.picture(sample, 32, 48) for sample in ("chelsea", "gravel")]
    style = small.picture("starry_night", 32, 48)
    options = {"recipe": small.shallow(recipes.TF), "precision": name}
    found = nst.stylize_many(params, contents, style, **options)
    for row, content in zip(np.asarray(found), contents, strict=True):
        alone = np.asarray(nst.stylize(params, content, style, **options))
        # Adam's first updates are as large for a small slope as for a large one, so that the sign of a
        # slope near zero, which rounding decides, moves a pixel by one learning rate.
        assert np.mean(np.abs(row - alone)) < LOSS[name] / 4


@pytest.mark.long
@pytest.mark.parametrize("name", precision.PRECISIONS)
def test_tiles_give_the_losses_and_the_gradient_of_the_whole(name, params):
    content, style = (small.picture(sample, 80, 96) for sample in ("chelsea", "starry_night"))
    recipe = small.shallow().replace(precision=precision.PRECISIONS[name])
    found = {}
    for tile in ("off", 32):
        run = nst.paint(params, content, style, recipe=recipe, tile=tile, every=2)
        found[tile] = [shot.losses.total for shot in run]
    assert_allclose(found[32], found["off"], rtol=LOSS[name])
    assert found["off"][-1] < found["off"][0]


STARTS = {
    "content": starts.FromContent(),
    "style": starts.FromStyle(),
    "noise": starts.Noise(),
    "white noise": starts.WhiteNoise(),
    "mean noise": starts.MeanNoise(),
    "instant": starts.Instant(),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n == "instant" else ()) for n in STARTS]
)
def test_a_start_is_that_of_a_cpu(name, params):
    content, style = (small.picture(sample, 32, 48) for sample in ("chelsea", "starry_night"))
    recipe = small.shallow().replace(start=STARTS[name], precision=precision.FLOAT32)
    found = first_canvas(params, content, style, recipe)
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        expected = first_canvas(params, content, style, recipe)
    assert np.isfinite(found).all() and np.std(found) > 0.01
    assert_allclose(found, expected, atol=1e-3)


def first_canvas(params, content, style, recipe):
    """Return the canvas before any update."""
    run = nst.paint(params, content, style, recipe=recipe, every=(0,), key=jax.random.key(3))
    return np.asarray(next(iter(run)).image)


# The learning rate of `keras-io` is for 400 px: at 64 px it diverges, in float32 too.
AT_SMALL_SIZES = [name for name in recipes.PRESETS if name != "keras-io"]


@pytest.mark.long
@pytest.mark.parametrize("name", AT_SMALL_SIZES)
def test_every_recipe_stays_finite(name, params):
    content, style = (small.picture(sample, 48, 64) for sample in ("chelsea", "starry_night"))
    recipe = replace(recipes.PRESETS[name], pictures=recipes.Pictures(size=recipes.sizes.AsIs()))
    shots = list(nst.paint(params, content, style, recipe=recipe, steps=8, every=4))
    assert all(np.isfinite(np.asarray(shot.image)).all() for shot in shots)
    assert np.isfinite(shots[-1].losses.total)
