"""Style losses that compare positions with positions: their targets, matches and distances.

`objective` and `optimize` call these functions for a recipe whose style loss is a `MatchingLoss`. They
compute the features of whole pictures, never of tiles or bands.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nst_jax import vgg
from nst_jax._types import Features, Image, Params, Scalar, Shape
from nst_jax.images.resizing import bilinear
from nst_jax.losses import MatchingLoss
from nst_jax.recipes.recipe import Recipe

SMALLEST_HALF = 1  # px; the sides of a picture that is halved have at least this length


def matching_loss(recipe: Recipe) -> MatchingLoss:
    """Return the recipe's style loss, which must be a `MatchingLoss`."""
    loss = recipe.terms.style_loss
    assert isinstance(loss, MatchingLoss)
    return loss


def turned_shapes(shapes: Sequence[Shape], loss: MatchingLoss) -> list[Shape]:
    """Return the (height, width) of each picture that is measured: every style in every turn."""
    return [
        (width, height) if turn % 2 else (height, width)
        for height, width in shapes
        for turn in loss.turns
    ]


def measure_styles(params: Params, styles: Sequence[Any], recipe: Recipe) -> dict[str, Any]:
    """Return the target of one or several styles, each measured in all turns (by 90°) of the loss.

    Args:
      params: the weights.
      styles: pictures [h, w, 3] in [0, 1], of any sizes.
      recipe: a recipe whose style loss is a `MatchingLoss`.
    """
    loss, network = matching_loss(recipe), recipe.network
    pictures = [jnp.rot90(style, turn) for style in styles for turn in loss.turns]
    shapes = turned_shapes([(style.shape[0], style.shape[1]) for style in styles], loss)
    taps = recipe.terms.style_taps
    found = [vgg.features(params, picture, taps, network=network) for picture in pictures]
    return loss.target(found, shapes, network.precision_on().products)


def searched(start: Image, content: Image, share: Scalar | float) -> Image:
    """Return the picture whose nearest neighbours in the style are sought.

    It is share · content + (1 - share) · (start + band), where the band is the finest detail of the
    content: the content minus a copy of it that was halved and enlarged again. The canvas at the
    beginning of a scale was enlarged just before, and has no such detail of its own.

    Args:
      start: the canvas at the beginning of a scale, as an image [h, w, 3].
      content: the content, of the same size.
      share: the share of the content, from 0 to 1.

    Returns:
      [h, w, 3].
    """
    height, width, _ = content.shape
    half = bilinear(content, (max(SMALLEST_HALF, height // 2), max(SMALLEST_HALF, width // 2)))
    band = content - bilinear(half, (height, width))
    return share * content + (1 - share) * (start + band)


def find_matches(
    params: Params,
    start: Image,
    content: Image,
    target: Mapping[str, Any],
    recipe: Recipe,
    *,
    first: bool,
) -> Int[Array, " n"]:
    """Return the index of the nearest neighbour in the style for each position of the canvas.

    Args:
      params: the weights.
      start: the canvas as an image [h, w, 3] at the beginning of a scale.
      content: the content, of the same size.
      target: what `measure_styles` returned.
      recipe: a recipe whose style loss has matches.
      first: whether this is the coarsest scale, where the content alone is read.
    """
    loss, network = matching_loss(recipe), recipe.network
    assert loss.matches is not None
    picture = content if first else searched(start, content, recipe.terms.search_content)
    found = vgg.features(params, picture, recipe.terms.style_taps, network=network)
    shape = (content.shape[0], content.shape[1])
    indices: Int[Array, " n"] = loss.matches(found, shape, target, network.precision_on().products)
    return indices


def number_of_matches(shape: Shape, recipe: Recipe) -> int | None:
    """Return how many matches a canvas of this (height, width) has; None if its loss has none."""
    loss = recipe.terms.style_loss
    if not isinstance(loss, MatchingLoss) or loss.number is None:
        return None
    return loss.number(shape)


def distances(
    found: Features,
    shape: Shape,
    target: Mapping[str, Any],
    matches: Int[Array, " n"] | None,
    step: Int[Array, ""],
    recipe: Recipe,
) -> dict[str, Float[Array, ""]]:
    """Return the unweighted style loss of a canvas by tap, from its features at the style taps.

    Raises:
      ValueError: if the loss has matches and none are given.
    """
    loss, products = matching_loss(recipe), recipe.network.precision_on().products
    if loss.matches is not None and matches is None:
        raise ValueError(
            "`matches`: the style loss needs those of this scale, got None; after `nst_jax.init`, and "
            "before the first step, `nst_jax.match` finds them and puts them into the state"
        )
    features = {tap: found[tap] for tap in recipe.terms.style_taps}
    return loss.distances(features, shape, target, matches, step, products)
