"""Style losses that compare single positions of the canvas with those of the style (`MatchingLoss`).

Other style losses compare statistics of all positions, such as Gram matrices. The functions of this
module compute the targets, the matches (the nearest neighbours in the style) and the distances of a
`MatchingLoss`; the modules `measuring`, `targets`, `objective` and `optimize` call them.
`content_distance` computes a content loss that reads all its layers together (`JointContentLoss`). Any
two positions may be compared. So all functions need the features of whole pictures, never those of
parts that are computed one by one or on several devices.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from nst_jax import _checks, vgg
from nst_jax._types import Features, Image, Params, Scalar, Shape
from nst_jax.images.resizing import finest_detail
from nst_jax.loss_results import (
    fault_of_count,
    fault_of_distances,
    fault_of_matches,
    fault_of_number,
    fault_of_target,
)
from nst_jax.losses import PIXELS, JointContentLoss, MatchingLoss
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.pixels import CAFFE_BGR, TORCHVISION
from nst_jax.vgg.pixels import PIXELS as CONVENTIONS
from nst_jax.vgg.taps import layer_of


def matching_loss(recipe: Recipe) -> MatchingLoss:
    """Return a recipe's style loss, which must be a `MatchingLoss`."""
    loss = recipe.terms.style_loss
    assert isinstance(loss, MatchingLoss)
    return loss


# The mean activation after the ReLU of each layer of VGG-19 with the weights in this package. Features
# are divided by it, see `units_of`. The mean is taken over the sample pictures in this package, each
# with the longer side 256 px. `layer_means` of `tests/make_strotss_golden.py` measures the means; three
# digits are kept. The recipe `SLICED_WASSERSTEIN` does not use these means: its pooling and padding
# differ, so its layer weights are made from other means.
MEAN_ACTIVATIONS = {
    "conv1_1": 22.4, "conv1_2": 101.0,
    "conv2_1": 135.0, "conv2_2": 123.0,
    "conv3_1": 127.0, "conv3_2": 165.0, "conv3_3": 337.0, "conv3_4": 489.0,
    "conv4_1": 475.0, "conv4_2": 294.0, "conv4_3": 158.0, "conv4_4": 38.3,
    "conv5_1": 39.0, "conv5_2": 16.3, "conv5_3": 6.86, "conv5_4": 1.14,
}  # fmt: skip


def units_of(params: Params, taps: Iterable[str]) -> dict[str, float]:
    """Return the number by which the features of each tap (layer) are divided.

    STROTSS joins the colour and the features of all layers at a place into one vector. So a layer with
    larger features counts more in the dot products of these vectors. The authors' code ran on
    torchvision's weights, whose features are used as they are: the result is 1 for every tap. With
    other weights, the features of each layer are divided by the layer's mean activation over sample
    pictures, so that their mean is about 1. The means were measured with the weights in this package,
    for which white minus black is 255 in each channel of the network's input. If this difference is r
    for the given weights, the means are multiplied by r / 255.

    Args:
      params: the weights of the network; their pixel convention tells whether they are torchvision's.
      taps: names of taps. A tap before a ReLU gets the number of the tap after it.

    Returns:
      tap -> number.
    """
    if params.pixels == TORCHVISION.name:
        return dict.fromkeys(taps, 1.0)
    contrast = CONVENTIONS[params.pixels].scale / CAFFE_BGR.scale
    return {tap: MEAN_ACTIVATIONS[layer_of(tap)] * contrast for tap in taps}


def with_pixels(picture: Image, features: Features) -> Features:
    """Return `features` with the picture itself as an additional first entry, named `losses.PIXELS`."""
    return {PIXELS: picture, **features}


def turned_shapes(shapes: Sequence[Shape], loss: MatchingLoss) -> list[Shape]:
    """Return the (height, width) of each picture that the loss reads: every style in every rotation.

    Args:
      shapes: (height, width) of each style.
      loss: its `turns` are the rotations of the styles, as multiples of 90°.
    """
    return [
        (width, height) if turn % 2 else (height, width)
        for height, width in shapes
        for turn in loss.turns
    ]


def measure_styles(params: Params, styles: Sequence[Any], recipe: Recipe) -> dict[str, Any]:
    """Return the target of a `MatchingLoss`: what it compares the features of the canvas with.

    The target is computed from the features of all styles, each in all rotations.

    Args:
      params: the weights of the network.
      styles: pictures [h, w, 3] in [0, 1], of any sizes.
      recipe: a recipe whose style loss is a `MatchingLoss`. The attribute `turns` of this loss lists
        the rotations, as numbers of quarter turns.

    Returns:
      The dictionary that the function `target` of this loss returns; its keys depend on the loss.
    """
    loss, network = matching_loss(recipe), recipe.network
    pictures = [jnp.rot90(style, turn) for style in styles for turn in loss.turns]
    shapes = turned_shapes([(style.shape[0], style.shape[1]) for style in styles], loss)
    taps = recipe.terms.style_taps
    found = [vgg.features(params, picture, taps, network=network) for picture in pictures]
    products = network.precision_on().products
    if not loss.with_pixels:
        return checked_target(loss.target(found, shapes, products))
    both = [with_pixels(*pair) for pair in zip(pictures, found, strict=True)]
    return checked_target(loss.target(both, shapes, products, units=units_of(params, taps)))


def checked_target(target: Any) -> dict[str, Any]:
    """Return what the function `target` of a `MatchingLoss` returned, a dictionary of arrays.

    Raises:
      TypeError: if it is something else.
    """
    _refuse("style_loss", fault_of_target(target))
    return dict(target)


def _refuse(argument: str, fault: str) -> None:
    """Raise a TypeError that says what is wrong with the result of a loss, unless `fault` is empty."""
    if fault:
        raise TypeError(f"`{argument}`: {fault}")


def searched(start: Image, content: Image, share: Scalar | float) -> Image:
    """Return the picture whose features are matched with their nearest neighbours in the style.

    It is share · content + (1 - share) · (start + detail). Here, detail is the content minus a copy of
    the content that was halved and enlarged again. It is added because `start` was just enlarged from
    a coarser scale (resolution) and so has no fine detail of its own.

    Args:
      start: the canvas at the beginning of a scale, as an image [h, w, 3].
      content: the content, of the same size.
      share: the share of the content, from 0 to 1.

    Returns:
      [h, w, 3].
    """
    return share * content + (1 - share) * (start + finest_detail(content))


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
      params: the weights of the network.
      start: the canvas as an image [h, w, 3] at the beginning of a scale (resolution).
      content: the content, of the same size.
      target: what `measure_styles` returned.
      recipe: a recipe whose style loss needs matches.
      first: whether this is the coarsest scale. There, nothing has been painted yet, so the features
        of the content alone are matched. At other scales, the features of a mixture of content and
        canvas are matched.
    """
    loss, network = matching_loss(recipe), recipe.network
    shape = (content.shape[0], content.shape[1])
    number = number_of_matches(shape, recipe)
    assert loss.matches is not None and number is not None
    picture = content if first else searched(start, content, recipe.terms.search_content)
    found = vgg.features(params, picture, recipe.terms.style_taps, network=network)
    indices = loss.matches(found, shape, target, network.precision_on().products)
    _refuse("style_loss", fault_of_matches(indices, number))
    # With another type, programs that were compiled ahead, for int32, would be compiled again.
    return jnp.asarray(indices, jnp.int32)


def number_of_matches(shape: Shape, recipe: Recipe) -> int | None:
    """Return the number of matches that are found for a canvas at the beginning of a scale.

    A match belongs to one position of the canvas: it is the index of the most similar position in the
    style. It stays fixed during the scale (resolution). The result is None if the recipe's style loss
    has no such matches.

    Args:
      shape: (height, width) of the canvas.
      recipe: a recipe with any style loss.

    Raises:
      TypeError, ValueError: as in `check_numbers_of_matches`.
    """
    return _counted(recipe.terms.style_loss, shape)


def check_numbers_of_matches(shapes: Sequence[Shape], recipe: Recipe) -> None:
    """Refuse a recipe whose style loss does not give a number of matches at every scale of a run.

    A user's own `MatchingLoss.number` may fail for the size of one scale only. The run would then end
    at this scale, after the coarser ones are painted. So this function is called before the run.

    Args:
      shapes: (height, width) of the canvas at each scale, coarse to fine.
      recipe: a recipe with any style loss.

    Raises:
      TypeError: if `number` returns no whole number from 1.
      ValueError: if `number` raises an error.
    """
    for scale, shape in enumerate(shapes):
        place = f", the size at scale {scale + 1} of {len(shapes)}"
        _counted(recipe.at(scale, shapes).terms.style_loss, shape, place)


def _counted(loss: Any, shape: Shape, place: str = "") -> int | None:
    """Return the number of matches of a style loss for a canvas; None if the loss has no matches.

    Args:
      loss: any style loss.
      shape: (height, width) of the canvas.
      place: where in the run this size occurs, as words for a message.

    Raises:
      TypeError: if the loss' `number` returns no whole number from 1.
      ValueError: if `number` raises an error.
    """
    if not isinstance(loss, MatchingLoss) or loss.number is None:
        return None
    try:
        number = loss.number(shape)
    except Exception as error:
        raise ValueError(
            f"`style_loss`: `number` fails for a canvas of {shape[1]}x{shape[0]} px{place}: "
            f"{type(error).__name__}: {_checks.one_line(str(error))}; mend `number`, or choose another "
            "size"
        ) from error
    _refuse("style_loss", fault_of_count(number, shape))
    return int(number)


def distances(
    params: Params,
    image: Image,
    found: Features,
    target: Mapping[str, Any],
    matches: Int[Array, " n"] | None,
    step: Int[Array, ""],
    recipe: Recipe,
) -> dict[str, Float[Array, ""]]:
    """Return the terms of a canvas' style loss, without their weights, as a dictionary of scalars.

    There is one term for each style tap (layer); or one for each name in `parts` of the loss, if it has
    such names. The keys are the taps, or these names.

    Args:
      params: the weights of the network.
      image: the canvas as an image [h, w, 3].
      found: the features of the canvas at the style taps.
      target: what `measure_styles` returned.
      matches: what `find_matches` returned; None if the loss needs no matches.
      step: number of updates made at the current scale (resolution); 0 for the first canvas.
      recipe: a recipe whose style loss is a `MatchingLoss`.

    Raises:
      TypeError: if a user's own loss returns no number for a term.
      ValueError: if the loss needs matches, and none or those of a canvas of another size are given.
    """
    loss, products = matching_loss(recipe), recipe.network.precision_on().products
    if loss.matches is not None and matches is None:
        raise ValueError(
            "`matches`: the style loss needs those of this scale, got None; after `nst_jax.init`, and "
            "before the first step, `nst_jax.match` finds them and puts them into the state"
        )
    shape = (image.shape[0], image.shape[1])
    if matches is not None:
        _check_number(matches, shape, recipe)
    features = {tap: found[tap] for tap in recipe.terms.style_taps}
    others: dict[str, Any] = {}
    if loss.with_pixels:
        features = with_pixels(image, features)
        others["units"] = units_of(params, recipe.terms.style_taps)
    terms = loss.distances(features, shape, target, matches, step, products, **others)
    _refuse("style_loss", fault_of_distances(terms, recipe.terms.style_names))
    return terms


def _check_number(matches: Array, shape: Shape, recipe: Recipe) -> None:
    """Refuse matches of a canvas with another number of positions than one of this (height, width)."""
    number = number_of_matches(shape, recipe)
    if number is not None and matches.shape != (number,):
        raise ValueError(
            f"`matches`: a canvas of {shape[1]}x{shape[0]} px needs {number}, got an array of the "
            f"shape {list(matches.shape)}; `nst_jax.match` finds those of this canvas"
        )


def content_distance(
    params: Params,
    image: Image,
    found: Features,
    photo: Image | None,
    content: Features,
    step: Int[Array, ""],
    recipe: Recipe,
) -> Float[Array, ""]:
    """Return the unweighted content loss of a canvas, for a loss that uses all content layers at once.

    Args:
      params: the weights of the network.
      image: the canvas as an image [h, w, 3].
      found: the features of the canvas at the content layers.
      photo: the content picture, of the same size.
      content: the features of the content at the content layers.
      step: number of updates made at the current scale (resolution); 0 for the first canvas.
      recipe: a recipe whose content loss is a `JointContentLoss`.

    Raises:
      TypeError: if a user's own loss returns no number.
      ValueError: if `photo` is None.
    """
    loss = recipe.terms.content_loss
    assert isinstance(loss, JointContentLoss)
    if photo is None:
        raise ValueError(
            "`targets`: have no photo for `content_loss`; measure them with the same recipe"
        )
    taps = recipe.terms.content_taps
    ours = with_pixels(image, {tap: found[tap] for tap in taps})
    theirs = with_pixels(photo, {tap: content[tap] for tap in taps})
    shape = (image.shape[0], image.shape[1])
    units = units_of(params, taps)
    distance: Float[Array, ""] = loss.distance(ours, theirs, shape, step, units=units)
    _refuse("content_loss", fault_of_number(distance, "`distance`"))
    return distance
