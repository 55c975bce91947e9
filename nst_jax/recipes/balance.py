"""How much a recipe weighs style against content, in one unit for all recipes.

Sources define their losses differently, so their weights cannot be compared. Here every style loss
is written as a multiple of S = |dG|² / N⁴, the mean square of the Gram matrix divided by positions
and channels, and every content loss as a multiple of K = mean(dF²). The balance is the factor of S,
averaged over the style taps, divided by the factor of K. In this unit neural-style has 20:1, Gatys'
code and pastiche 1000:1. S grows with the fourth power of the features and K with the second, so
balances can be compared only among recipes whose features are of one magnitude: with the same
family of weights and the same network pixels.
"""

import math

import jax.numpy as jnp

from nst_jax._types import Shape
from nst_jax.losses import Extent
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.taps import LAYERS, layer_of

PHOTO = (768, 1024)  # size of the picture for losses that depend on it, before the size rule


def balance(recipe: Recipe, photo: Shape = PHOTO) -> float:
    """Return style over content in the common unit.

    Losses that grow with the picture or the layer are evaluated for the canvas that the recipe's size
    rule makes of `photo`.

    Args:
      recipe: a recipe whose numbers are numbers.
      photo: (height, width) before the size rule.

    Returns:
      The ratio; infinite if the recipe has no content term.

    Example:
      >>> from nst_jax import recipes
      >>> [round(balance(recipes.named(name))) for name in ("jcjohnson", "pastiche", "default")]
      [20, 1000, 50]
    """
    height, width = recipe.pictures.size.shape(*photo)
    terms = recipe.terms
    style = [
        float(weight) * _style_factor(recipe, tap, (height, width))
        for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True)
    ]
    content = [
        float(weight) * _content_factor(recipe, tap, (height, width))
        for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True)
    ]
    above = float(terms.style_weight) * sum(style) / len(style)
    below = float(terms.content_weight) * sum(content)
    return above / below if below else float("inf")


def _positions(tap: str, shape: Shape, ceil: bool) -> Shape:
    """Return the (height, width) of a tap's features."""
    height, width = shape
    for _ in range(int(layer_of(tap)[4]) - 1):
        height, width = ((height + ceil) // 2, (width + ceil) // 2)
    return height, width


def _style_factor(recipe: Recipe, tap: str, shape: Shape) -> float:
    """Return the style loss of a tap for S = 1; every published loss is a multiple of S."""
    channels = LAYERS[layer_of(tap)][1]
    height, width = _positions(tap, shape, recipe.network.ceil)
    ones = jnp.ones((channels, channels))
    extent = Extent(height * width, shape[0] * shape[1])
    loss = recipe.terms.style_loss.distance(ones, jnp.zeros_like(ones), extent)
    return float(loss) * channels**2  # here mean(dG²) is 1, so S is 1 / N²


def _content_factor(recipe: Recipe, tap: str, shape: Shape) -> float:
    """Return the content loss of a tap for K = 1."""
    height, width = _positions(tap, shape, recipe.network.ceil)
    # Evaluated for one number and for two, which shows whether it is a mean, a sum, or in between.
    one, two = (
        float(recipe.terms.content_loss(jnp.ones((1, 1, n)), jnp.zeros((1, 1, n)))) for n in (1, 2)
    )
    return one * (height * width * LAYERS[layer_of(tap)][1]) ** math.log2(two / one)
