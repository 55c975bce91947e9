"""The presets' objectives at full depth in float64 on small pictures, each compiled once."""

from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import nst_jax as nst
from nst_jax import recipes
from nst_jax.losses import TOTAL_VARIATION
from tests import small


class Case(NamedTuple):
    """A preset's objective as a function of the canvas, and a canvas to evaluate it at."""

    content: np.ndarray
    style: np.ndarray
    image: np.ndarray
    canvas: np.ndarray  # the image in the recipe's coordinates
    targets: nst.Targets
    value_and_gradient: Any  # canvas -> (total, losses), gradient


def _value_and_gradient(params, canvas, targets, recipe):
    def total(canvas):
        image = recipe.descent.coordinates.decode(canvas)
        losses = nst.losses_of(params, image, targets, recipe)
        return losses.total, losses

    return jax.value_and_grad(total, has_aux=True)(canvas)


_compiled = jax.jit(_value_and_gradient)
_measure = jax.jit(nst.measure)


@cache
def pictures():
    """Return content, style and image as float64 host arrays."""
    content, style = small.picture("chelsea", 33, 50), small.picture("starry_night", 37, 34)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, content.shape)
    image = np.clip(content + noise, 0.02, 0.98)
    return content.astype(np.float64), style.astype(np.float64), image.astype(np.float64)


def case(params, name):
    """Return a preset's case; call it where arrays may be float64."""
    content, style, image = pictures()
    recipe = recipes.as_arrays(recipes.PRESETS[name].bare(), jnp.float64)
    # What `measure` does not depend on is made equal, so that the presets share its program.
    descent = recipes.as_arrays(recipes.TF.bare(), jnp.float64).descent
    plain = replace(recipe, terms=replace(recipe.terms, variation=TOTAL_VARIATION), descent=descent)
    targets = _measure(params, jnp.asarray(content), jnp.asarray(style), plain)
    return Case(
        content,
        style,
        image,
        np.asarray(recipe.descent.coordinates.encode(jnp.asarray(image))),
        targets,
        lambda canvas: _compiled(params, jnp.asarray(canvas), targets, recipe),
    )
