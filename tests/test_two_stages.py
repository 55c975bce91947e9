"""Fine and coarse styles in two stages: the first command of docs/controls.md makes the mixture."""

import shlex

import jax
import numpy as np
import pytest

import nst_jax as nst
from docs import controls_page
from nst_jax import losses, recipes, vgg
from nst_jax.app import arguments
from nst_jax.images import resizing
from nst_jax.recipes import starts
from tests import small

TAPS = ("relu1_1", "relu2_1")


def documented():
    """Return the recipe of the documented command."""
    _, _, _, *words = shlex.split(controls_page.OTHERS["mixed"])
    found: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        found.setdefault(flag.removeprefix("--").replace("-", "_"), []).append(value)
    return arguments.recipe_of(
        arguments.Changes(
            recipe=found["recipe"][0],
            values=tuple(found["set"]),
            steps=int(found["steps"][0]),
            content_weight=float(found["content_weight"][0]),
            content_layer=tuple(found["content_layer"]),
            style_layer=tuple(found["style_layer"]),
            colors=found["colors"][0],
        )
    )


def test_the_first_stage_has_the_constants_of_the_notebook():
    recipe = documented()
    assert recipe.terms.style_taps == TAPS
    assert recipe.terms.style_layer_weights == (1e3 / 2, 1e3 / 2) and recipe.terms.style_weight == 1
    assert recipe.terms.style_loss is losses.GRAM_MEAN_SQUARE
    assert recipe.terms.content_weight == 0 and recipe.terms.tv_weight == 0
    assert (recipe.pictures.colors, recipe.pictures.color_map) == ("content", "pca")
    assert isinstance(recipe.pictures.start, starts.FromContent)


@pytest.mark.slow
def test_the_mixture_has_the_fine_structure_of_one_and_the_shapes_of_the_other(params):
    coarse, fine = small.picture("starry_night", 48, 64), small.picture("gravel", 48, 64)
    recipe = documented().replace(steps=60, size=recipes.sizes.AsIs())
    mixed = np.asarray(nst.stylize(params, coarse, fine, recipe=recipe))
    seen = np.clip(nst.controls.with_colors_of(fine, coarse, "pca"), 0, 1)

    def grams(picture):
        """Return the Gram matrices of a picture, divided by the number of positions."""
        found = jax.jit(vgg.features, static_argnums=2)(params, picture, TAPS)
        each = [
            np.asarray(found[tap], np.float64).reshape(-1, found[tap].shape[-1]) for tap in TAPS
        ]
        return [one.T @ one / len(one) for one in each]

    for ours, before, wanted in zip(grams(mixed), grams(coarse), grams(seen), strict=True):
        assert np.mean((ours - wanted) ** 2) < 0.1 * np.mean((before - wanted) ** 2)
    # Reduced to 8 x 6 px, nothing but the coarse shapes is left.
    small_mixed, small_coarse, small_fine = (
        np.asarray(resizing.antialiased(one, (6, 8))).mean(-1).ravel()
        for one in (mixed, coarse, seen)
    )
    assert np.corrcoef(small_mixed, small_coarse)[0, 1] > 0.9
    assert abs(np.corrcoef(small_mixed, small_fine)[0, 1]) < 0.5
