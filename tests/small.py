"""Small recipes and pictures, so that most tests cost milliseconds."""

from contextlib import contextmanager
from dataclasses import replace
from functools import cache

import jax
import numpy as np

from nst_jax import images, optimizers, recipes
from nst_jax.images import resizing
from nst_jax.recipes import sizes
from nst_jax.scaling import plan


@contextmanager
def double():
    """Let arrays be float64."""
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", False)


@cache
def picture(name, height, width):
    """Return a sample picture at a small size, as a read-only host array."""
    array = np.array(resizing.antialiased(images.sample(name), (height, width)))
    array.flags.writeable = False
    return array


def noise(seed, *shape):
    """Return normal noise, float64 if JAX allows it and else float32; NumPy draws it."""
    return jax.numpy.asarray(np.random.default_rng(seed).normal(size=shape))


def shallow(recipe=recipes.GRAM, *, steps=4, levels=0, **terms):
    """Return a recipe that needs only three of VGG-19's 16 convolutions, and resizes no picture.

    Args:
      recipe: the recipe to vary.
      steps: number of updates, all at one scale.
      levels: the most levels of an L-BFGS over a pyramid. Without levels, its loop compiles in two
        thirds of the time; tests of its updates on several devices or in buckets have some.
      **terms: further fields of the recipe's terms to replace.
    """
    taps = {
        "content_taps": ("relu2_1",),
        "content_layer_weights": (1.0,),
        "style_taps": ("relu1_1", "relu2_1"),
        "style_layer_weights": (1e-1, 1e-2),
    }
    if getattr(
        recipe.terms.style_loss, "parts", ()
    ):  # these have weights of their own, the taps none
        taps["style_layer_weights"] = recipe.terms.style_layer_weights
    optimizer = recipe.descent.optimizer
    if isinstance(optimizer, optimizers.LBFGS):
        optimizer = replace(optimizer, levels=min(optimizer.levels, levels))
    return replace(
        recipe,
        name="shallow",
        pictures=recipes.Pictures(size=sizes.AsIs()),
        terms=replace(recipe.terms, **(taps | terms)),
        descent=replace(
            recipe.descent, optimizer=optimizer, steps=steps, schedule=recipes.OneScale()
        ),
    )


def shallowest(recipe=recipes.GRAM, *, steps=4, levels=0, **terms):
    """Return a recipe that needs one convolution; for tests of neither depth nor pooling."""
    taps = {"content_taps": ("relu1_1",), "style_taps": ("preact1_1", "relu1_1")}
    return shallow(recipe, steps=steps, levels=levels, **(taps | terms))


# A run by Adam compiles in half the time of one by L-BFGS. For tests of anything but the updates.
ADAM = optimizers.Adam(learning_rate=0.03)


def quickest(recipe=recipes.GRAM, **options):
    """Return `shallowest` with Adam."""
    return shallowest(recipe, **options).replace(optimizer=ADAM)


def plan_of(recipe, shape, **options):
    """Return the plan of a run on a canvas of this (height, width), with styles of the same size."""
    return plan.plan_scales(recipe, plan.scales_of_canvas(recipe, shape), **options)


# Flags of `stylize` that let any recipe compile quickly. Adam takes half the time of L-BFGS.
SHALLOW_FLAGS = (
    *("--content-layer", "relu1_1=1"),
    *("--style-layer", "relu1_1=1"),
    *("--set", "descent.schedule=OneScale"),
    *("--set", "descent.optimizer=Adam"),
)


def primitives(jaxpr):
    """Yield the equations of a jaxpr and of all jaxprs inside it."""
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                if hasattr(inner, "jaxpr"):
                    yield from primitives(inner.jaxpr)
                elif hasattr(inner, "eqns"):
                    yield from primitives(inner)
