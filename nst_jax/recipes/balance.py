"""The balance of a recipe: how much it weighs style against content, as a number that can be compared.

The sources of recipes define their losses differently, so their weights cannot be compared. But many
style losses are multiples of S = mean((dG / N)²), and many content losses multiples of K = mean(dF²),
and the factors can be compared. dG is the difference of two Gram matrices at one tap (a layer that a
loss reads): that of the canvas (the picture being optimised) and that of the style. Each is divided by
the number of positions. N is the number of channels, and dF is the difference of the features of canvas
and content. The balance is the quotient of two factors in the total loss: that of S, averaged over the
style taps, divided by that of K, summed over the content taps. It is 20:1 for the program neural-style,
and 1000:1 for Gatys' code and the program pastiche.

S grows with the fourth power of the features and K with the second, so balances can be compared only
among recipes whose features have the same magnitude: those with network weights of the same origin,
such as Caffe's VGG-19, and the same pixel convention. Other losses, such as the Wasserstein-2 distance
or sum(d²) / sum|d| of differences d, are no multiples of S or K; a recipe with such a loss has no
balance.
"""

import math

import jax.numpy as jnp

from nst_jax._types import Shape
from nst_jax.losses import (
    AnyStyleLoss,
    Extent,
    StyleLoss,
    gram,
    squared_feature_differences,
    statistic_itself,
)
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import new_shape
from nst_jax.vgg.taps import LAYERS, feature_shape, layer_of

# (height, width) in px of the content picture for which a balance is computed by default, before the
# recipe's size rule resizes it. The size matters only to losses that grow with it.
PHOTO = (768, 1024)


def balance(recipe: Recipe, photo: Shape = PHOTO) -> float | None:
    """Return the balance of a recipe: how much it weighs style against content.

    The balance is the factor of S = mean((dG / N)²) in the total loss, averaged over the style taps,
    divided by the factor of K = mean(dF²), summed over the content taps. Here dG is the difference of
    the Gram matrices of canvas and style, N the number of channels, and dF the difference of the
    features of canvas and content; see the module's docstring. If a loss grows with the size of the
    picture or of a layer's features, it is evaluated for the size that the recipe's size rule gives to
    `photo`.

    Args:
      recipe: a recipe whose values are numbers, and not arrays of several values.
      photo: (height, width) in px of a content picture, before the size rule resizes it.

    Returns:
      The balance; infinite if the recipe's content weight is 0; None if its style loss is no multiple
      of S or its content loss no multiple of K.

    Example:
      >>> from nst_jax import recipes
      >>> [round(balance(recipes.named(name))) for name in ("jcjohnson", "pastiche", "gram")]
      [20, 1000, 50]
    """
    height, width = new_shape(recipe.pictures.size, photo)
    terms = recipe.terms
    squared = getattr(terms.content_loss, "sums", None) is squared_feature_differences
    if not (squared and _is_squared(terms.style_loss)):
        return None
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


def _is_squared(loss: AnyStyleLoss) -> bool:
    """Return whether a style loss is a multiple of the squared difference of two Gram matrices."""
    if (
        not isinstance(loss, StyleLoss)
        or loss.sums is not gram
        or loss.target is not statistic_itself
    ):
        return False
    one, extent = jnp.ones((2, 2)), Extent(1, 1)
    single, double = (float(loss.distance(n * one, 0 * one, extent)) for n in (1, 2))
    return math.isclose(double, 4 * single)


def _style_factor(recipe: Recipe, tap: str, shape: Shape) -> float:
    """Return the factor of S in the style loss at a tap, before any weight multiplies the loss.

    S is mean((dG / N)²), where dG is the difference of the Gram matrices of canvas and style, each
    divided by the number of positions, and N is the number of channels. `shape` is the (height, width)
    of the canvas in px.
    """
    channels = LAYERS[layer_of(tap)][1]
    height, width = feature_shape(tap, *shape, recipe.network.ceil)
    ones = jnp.ones((channels, channels))
    extent = Extent(height * width, shape[0] * shape[1])
    loss = recipe.terms.statistic_loss.distance(ones, jnp.zeros_like(ones), extent)
    # The matrix of ones and that of zeros differ by dG = 1 everywhere. With N channels,
    # S = mean((dG / N)²) is 1 / N² for them, so the factor of S is the loss times N².
    return float(loss) * channels**2


def _content_factor(recipe: Recipe, tap: str, shape: Shape) -> float:
    """Return the number f such that the content loss at a tap, without any weight, is f times K.

    K is mean(dF²), where dF is the difference of the features of canvas and content. `shape` is the
    (height, width) of the canvas in px.
    """
    height, width = feature_shape(tap, *shape, recipe.network.ceil)
    # All features differ by dF = 1, so K is 1 and the loss is f. It is computed for one feature and for
    # two. The ratio of these two losses gives the power of the number of features to which f is
    # proportional: if the loss is a mean, f stays the same; if it is a sum, f doubles. From the power
    # follows f for the whole feature map.
    one, two = (
        float(recipe.terms.content_loss_by_tap(jnp.ones((1, 1, n)), jnp.zeros((1, 1, n))))
        for n in (1, 2)
    )
    return one * (height * width * LAYERS[layer_of(tap)][1]) ** math.log2(two / one)
