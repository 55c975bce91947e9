"""The network's layers with their sizes and losses, for estimates of memory and operations.

A tap is a point before or after a layer's ReLU, at which losses read activations (features).
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nst_jax import _checks, correspondence, vgg
from nst_jax._types import Shape
from nst_jax.controls.regions import held_tap
from nst_jax.losses import (
    PIXELS,
    ContentLoss,
    JointContentLoss,
    MatchingCosts,
    MatchingLoss,
    StyleLoss,
)
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.array_bytes import size_in_bytes
from nst_jax.scaling.loss_costs import LossCost, content_cost, distance_cost
from nst_jax.vgg import winograd


class Layer(NamedTuple):
    """One convolution of the network, and the size of its output for a given picture."""

    name: str  # such as "conv1_1"
    height: int  # number of rows of the input, and of the output
    width: int  # number of columns of the input, and of the output
    channels_in: int  # number of channels of the input
    channels: int  # number of channels of the output
    content: tuple[ContentLoss, ...]  # the content losses that read this layer's output
    style: tuple[StyleLoss, ...]  # the style losses that read this layer's output

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def output(self) -> int:
        """Number of elements of the output."""
        return self.positions * self.channels

    @property
    def input(self) -> int:
        """Number of elements of the input."""
        return self.positions * self.channels_in

    @property
    def tapped(self) -> int:
        """Number of elements that the losses at this layer keep for the gradient, beside the output.

        A content loss keeps the difference between features and target. A style loss keeps the features
        as a matrix and, later in its place, the gradient with respect to the features. None of these
        arrays can reuse the output's buffer, since the gradient of the ReLU still reads the output.
        """
        return (len(self.content) + len(self.style)) * self.output

    @property
    def winograd(self) -> bool:
        """Whether a CPU computes this layer by Winograd convolution in updates (never for targets)."""
        return winograd.pays(self.height, self.width, self.channels_in, self.channels)


Blocks = list[list[Layer]]  # the layers by block; a block is the layers between two poolings


def held_taps(recipe: Recipe, protected: bool) -> tuple[str, ...]:
    """Return the tap (layer) of the second content loss that a run with a protected part has.

    A protected part of the picture is to stay as it is in the content, and this loss compares only that
    part. The result is a tuple with one tap. The tuple is empty if no part is protected, or if the
    recipe's content loss cannot be limited to a part of the picture.
    """
    terms = recipe.terms
    return (held_tap(terms.taps),) if protected and terms.content_loss.additive else ()


def blocks_of(shape: Shape, recipe: Recipe, regions: int = 1, protected: bool = False) -> Blocks:
    """Return the layers down to the deepest tap, by block, for a picture of this (height, width).

    A block is the layers between two poolings. Each layer lists the losses that read it, except a
    `MatchingLoss` and a `JointContentLoss`, which read all their taps together. With several regions, a
    style loss is listed once for each region, since it is computed for each of them. If a part of the
    picture is protected (it stays as in the content), the content loss is listed once more, at the tap
    that `held_taps` returns, if any.
    """
    terms, (height, width) = recipe.terms, shape
    content = [vgg.layer_of(tap) for tap in dict.fromkeys(terms.content_taps)]
    content += [vgg.layer_of(tap) for tap in held_taps(recipe, protected)]
    by_tap = (terms.content_loss,) if isinstance(terms.content_loss, ContentLoss) else ()
    style = [(vgg.layer_of(part.tap), part.loss) for part in terms.style_parts]
    names = list(vgg.LAYERS)
    deepest = max(names.index(vgg.layer_of(tap)) for tap in terms.taps)
    blocks: Blocks = []
    for name in names[: deepest + 1]:
        if name.endswith("_1"):
            blocks.append([])
        times = vgg.halvings(name)
        size = [vgg.halved(side, times, recipe.network.ceil) for side in (height, width)]
        losses = (
            by_tap * content.count(name),
            tuple(loss for layer, loss in style if layer == name) * regions,
        )
        blocks[-1].append(Layer(name, size[0], size[1], *vgg.LAYERS[name], *losses))
    return blocks


def layers_of(shape: Shape, recipe: Recipe, regions: int = 1) -> list[Layer]:
    """Return the convolutions down to the deepest that a loss reads, as one list.

    The arguments are those of `blocks_of`. The layers are those of a run without a protected part.
    """
    return [layer for block in blocks_of(shape, recipe, regions) for layer in block]


def needed_for(taps: Iterable[str], shape: Shape, recipe: Recipe) -> list[Layer]:
    """Return the layers that must be computed for `taps`: all down to the deepest tap.

    Args:
      taps: names of taps.
      shape: (height, width) of the picture, which decides the sizes of the layers.
      recipe: the recipe of the run. Each `Layer` lists those of the recipe's losses that read it.
    """
    names = list(vgg.LAYERS)
    deepest = max(names.index(vgg.layer_of(tap)) for tap in taps)
    return layers_of(shape, recipe)[: deepest + 1]


def costs_of_losses(needed: Iterable[Layer], part: Callable[[LossCost], int]) -> list[int]:
    """Return the number of operations, or the bytes of memory, of each loss at each layer it reads.

    A style loss first sums its statistic, such as a Gram matrix, over the positions of the features.
    This sum is not included; `loss_costs.sum_operations` counts it.

    Args:
      needed: the layers, each with the losses that read it.
      part: function that returns the wanted number of a `LossCost`: its operations or its memory.
    """
    found = []
    for layer in needed:
        size = layer.height, layer.width, layer.channels
        found += [part(content_cost(loss, *size)) for loss in layer.content]
        found += [part(distance_cost(loss, *size)) for loss in layer.style]
    return found


def features_at(tap: str, picture: Shape, recipe: Recipe) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of the features at a tap (layer), for a picture's (height, width)."""
    size = vgg.feature_shape(tap, *picture, recipe.network.ceil)
    channels = vgg.LAYERS[vgg.layer_of(tap)][1]
    dtype = recipe.network.precision_on().activations_of(jnp.float32)
    return jax.ShapeDtypeStruct((*size, channels), dtype)


def matching_costs(shape: Shape, styles: Sequence[Shape], recipe: Recipe) -> MatchingCosts:
    """Return the memory and the operations of a style loss that compares single positions.

    Such a loss compares the feature vectors at single positions of canvas and style, while others
    compare statistics of all positions. What the passes through the network take is not included. If
    the loss has no function `costs`, only the memory of its target is known, and the rest is 0.

    Args:
      shape: (height, width) of the canvas.
      styles: (height, width) of each style.
      recipe: a recipe whose style loss is a `MatchingLoss`.
    """
    loss = correspondence.matching_loss(recipe)
    if loss.costs is None:
        return MatchingCosts(size_in_bytes(matching_target(styles, recipe)))
    shapes = correspondence.turned_shapes(styles, loss)
    canvas, *pictures = (_read_by(loss, each, recipe) for each in (shape, *shapes))
    return _checked_costs("style_loss", loss.costs(canvas, shape, pictures, shapes))


def matching_target(styles: Sequence[Shape], recipe: Recipe) -> dict[str, Any]:
    """Return the shapes and types of the target of a style loss that compares single positions.

    Args:
      styles: (height, width) of each style.
      recipe: a recipe whose style loss is a `MatchingLoss`.
    """
    loss, taps = correspondence.matching_loss(recipe), recipe.terms.style_taps
    shapes = correspondence.turned_shapes(styles, loss)
    pictures = [_read_by(loss, each, recipe) for each in shapes]
    # `units` are divisors of the features. Their values do not matter: only shapes are computed here.
    units = {"units": dict.fromkeys(taps, 1.0)} if loss.with_pixels else {}
    products = recipe.network.precision_on().products

    def target(pictures: Any) -> Any:
        return correspondence.checked_target(loss.target(pictures, shapes, products, **units))

    found: dict[str, Any] = jax.eval_shape(target, pictures)
    return found


def joint_content_costs(shape: Shape, recipe: Recipe) -> MatchingCosts:
    """Return the memory and operations of a `JointContentLoss`, which reads all content taps together.

    What the passes through the network take is not included. If the recipe has another content loss,
    all costs in the result are 0, since `costs_of_losses` counts such a loss layer by layer.
    """
    loss = recipe.terms.content_loss
    if not isinstance(loss, JointContentLoss):
        return MatchingCosts(0)
    features = _features_and_pixels(recipe.terms.content_taps, shape, recipe)
    return _checked_costs("content_loss", loss.costs(features, shape))


def _checked_costs(argument: str, costs: Any) -> MatchingCosts:
    """Return what the function `costs` of a loss returned; refuse anything but `MatchingCosts`."""
    if not isinstance(costs, MatchingCosts):
        raise TypeError(
            f"`{argument}`: `costs` returned {_checks.in_words(costs)}, expected a "
            "`nst_jax.losses.MatchingCosts`"
        )
    return costs


def _read_by(loss: MatchingLoss, shape: Shape, recipe: Recipe) -> dict[str, Any]:
    """Return the shapes and types of what a style loss reads of a picture of this (height, width)."""
    read = _features_and_pixels if loss.with_pixels else _features
    return read(recipe.terms.style_taps, shape, recipe)


def _features(taps: Iterable[str], shape: Shape, recipe: Recipe) -> dict[str, Any]:
    return {tap: features_at(tap, shape, recipe) for tap in taps}


def _features_and_pixels(taps: Iterable[str], shape: Shape, recipe: Recipe) -> dict[str, Any]:
    """Return the shapes and types of a picture and of its features at `taps`, in one dictionary.

    The key of the picture is `PIXELS`; the keys of the features are the names of the taps.
    """
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    return {PIXELS: picture, **_features(taps, shape, recipe)}
