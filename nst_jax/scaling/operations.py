"""Number of arithmetic operations of a run, computed from the shapes of its pictures alone.

Nothing is compiled or run. The operations counted are those of the convolutions and of the losses (such
as the matrix products for Gram matrices), in the forward and in the backward pass.
"""

from collections.abc import Hashable, Iterable, Sequence

from nst_jax import losses
from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling import tile_grid
from nst_jax.scaling.bands import planned_bands
from nst_jax.scaling.layer_table import (
    Layer,
    costs_of_losses,
    joint_content_costs,
    layers_of,
    matching_costs,
    needed_for,
)
from nst_jax.scaling.loss_costs import sum_operations

# The time of an update has a part that does not depend on the number of pixels. These constants are the
# number of pixels that take as long as this part; the keys of the dictionary are JAX's names of
# platforms. On two cores of a CPU, the number is at most 2.3e3 px: that follows from the times of
# updates at 256 and 512 px in `benchmarks/results/step-cpu.json`, recipes `tf` and `gram`. The number
# for other platforms is a rough estimate.
FIXED_PIXELS: dict[Hashable, int] = {"cpu": 2**11}
FIXED_PIXELS_ELSEWHERE = 2**15


def fixed_pixels(platform: str) -> int:
    """Return how many pixels could be computed in the fixed part of an update's time.

    This part does not depend on the size of the picture. Estimates count it by adding this number to
    the pixels of the picture.

    Args:
      platform: JAX's name of the platform, such as "cpu".

    Example:
      >>> fixed_pixels("cpu"), fixed_pixels("gpu")
      (2048, 32768)
    """
    return FIXED_PIXELS.get(platform, FIXED_PIXELS_ELSEWHERE)


def update_operations(
    shape: Shape,
    recipe: Recipe,
    platform: str,
    *,
    style_shapes: Sequence[Shape] | None = None,
    devices: int = 1,
    regions: int = 1,
    pictures: int = 1,
) -> float:
    """Return the number of operations of one update: one evaluation of loss and gradient.

    Every multiplication and every addition counts as one operation. Every convolution counts as a
    direct one, even where a CPU uses Winograd's algorithm, which needs fewer operations. Of the
    losses, products of matrices, sorts and gathers count. With tiles, the distances of style losses
    count once, not once for each tile, since they are computed from the sums of all tiles. The
    optimiser's own arithmetic, under a thousandth of the total, is left out.

    Args:
      shape: (height, width) of the canvas.
      recipe: only its losses, the layers that they read, and the network matter. With tiles, there are
        more operations: the forward pass is computed twice, first for the sums that the losses need;
        and tiles overlap, since the features of a tile depend on pixels around it. `network.remat` adds
        one forward pass, except on a CPU, where XLA merges it with the first.
      platform: "cpu", "gpu" or "tpu".
      style_shapes: (height, width) of each style; None means one style of the canvas' shape. They
        matter only to style losses that compare single feature vectors (`losses.MatchingLoss`).
      devices: number of devices that share the canvas; the result is for one of them.
      regions: number of regions with styles of their own, plus one for the region of the default style.
      pictures: number of canvases of this shape that one program updates at once.

    Returns:
      Number of operations, including those for `fixed_pixels(platform)` more pixels, which stand for
      the part of the time that depends neither on the size nor on the number of pictures.

    Example:
      >>> from nst_jax import recipes
      >>> sides = (512, 1024)
      >>> small, large = (update_operations((n, n), recipes.DEFAULT, "cpu") for n in sides)
      >>> f"{small:.1e}", f"{large / small:.1f}"
      ('4.2e+11', '3.8')
    """
    network = recipe.network
    grid = tile_grid.grid_of(
        shape, recipe.terms.taps, network, planned_bands(shape, recipe, devices)
    )
    window, count = (shape, 1) if grid is None else (grid.window, grid.count_per_device)
    forward = sum(map(_forward_operations, layers_of(window, recipe, regions)))
    # The backward pass computes no gradient of the kernels, so it costs as much as the forward pass.
    once = 2 * forward
    again = (count > 1) + (network.remat and platform != "cpu")
    layers = layers_of(shape, recipe, regions)
    beside: float = sum(costs_of_losses(layers, lambda cost: cost.operations))
    if isinstance(recipe.terms.style_loss, losses.MatchingLoss):
        styles = [shape] if style_shapes is None else style_shapes
        beside += matching_costs(shape, styles, recipe).update_operations
        beside += joint_content_costs(shape, recipe).update_operations
    fixed = fixed_pixels(platform) * once / (window[0] * window[1])
    return pictures * (count * (once + again * forward) + beside) + fixed


def _forward_operations(layer: Layer) -> int:
    """Return how many operations a layer's convolution and its sums, such as a Gram matrix, take.

    The sums are those of the style losses that read this layer.
    """
    convolution = 2 * 9 * layer.channels_in * layer.channels
    sums = sum(sum_operations(loss, layer.channels) for loss in layer.style)
    return layer.positions * (convolution + sums)


def content_operations(shape: Shape, recipe: Recipe, *, devices: int = 1) -> float:
    """Return the number of operations of computing the features of a content of this (height, width).

    With several devices, the result is for one of them.
    """
    # The taps (layers that are read) decide how far tiles overlap: on one device, the content loss's
    # taps; on several, all taps, since the content must be cut into the same tiles as the canvas.
    terms = recipe.terms
    deciding = terms.content_taps if devices == 1 else terms.taps
    grid = tile_grid.grid_of(shape, deciding, recipe.network, planned_bands(shape, recipe, devices))
    return _forward_to(shape, terms.content_taps, recipe, grid, style=False)


def style_operations(shape: Shape, recipe: Recipe, *, devices: int = 1) -> float:
    """Return the number of operations of computing the statistics of a style of this (height, width).

    With several devices, the result is for one of them. A `MatchingLoss` may use a style in several
    orientations; each of them counts.
    """
    taps, loss = recipe.terms.every_style_tap, recipe.terms.style_loss
    bands = planned_bands(shape, recipe, devices)
    grid = tile_grid.style_grid_of(shape, taps, recipe.network, bands)
    turns = len(loss.turns) if isinstance(loss, losses.MatchingLoss) else 1
    return turns * _forward_to(shape, taps, recipe, grid, style=True)


def _forward_to(
    shape: Shape, taps: Iterable[str], recipe: Recipe, grid: tile_grid.Grid | None, *, style: bool
) -> float:
    """Return the number of operations of a forward pass of VGG-19, over all tiles of one device.

    Args:
      shape: (height, width) of the picture.
      taps: the layers that are read; the pass ends at the deepest of them.
      recipe: the recipe of the run.
      grid: how the picture is cut into tiles; None if it is computed whole.
      style: whether sums over positions for the style losses, such as Gram matrices, are included.
    """
    window, count = (shape, 1) if grid is None else (grid.window, grid.count_per_device)
    needed = needed_for(taps, window, recipe)
    return count * sum(
        _forward_operations(layer if style else layer._replace(style=())) for layer in needed
    )


def measuring_operations(scale: Scale, recipe: Recipe, *, devices: int = 1) -> float:
    """Return the number of operations that computing the targets of the losses takes.

    Targets are what the losses compare the canvas with: the features of the content and the statistics
    of the styles. The operations that `matching_operations` counts are included. The number is for one
    scale (resolution); with several devices, for one of them.
    """
    styles = [style_operations(shape, recipe, devices=devices) for shape in scale.style_shapes]
    total = content_operations(scale.shape, recipe, devices=devices) + sum(styles)
    return total + matching_operations(scale, recipe)


def matching_operations(scale: Scale, recipe: Recipe) -> float:
    """Return the number of operations of finding the matches of a style loss, at one scale.

    A match is the index of the style's feature vector that is most similar to one of the canvas. Some
    style losses find the matches once, before the first update of a scale (resolution). For these, the
    result is the number of operations of the search and of the forward pass that computes the features
    of the canvas. For other style losses, which have no matches or find them in every update, it is 0.
    """
    loss, taps = recipe.terms.style_loss, recipe.terms.style_taps
    if not isinstance(loss, losses.MatchingLoss) or loss.matches is None:
        return 0.0
    search = matching_costs(scale.shape, scale.style_shapes, recipe).match_operations
    return _forward_to(scale.shape, taps, recipe, None, style=False) + search


def scale_operations(
    scales: Sequence[Scale],
    recipe: Recipe,
    platform: str,
    *,
    devices: int = 1,
    pictures: int = 1,
) -> list[float]:
    """Return the number of operations of one update at each scale (resolution) of a run.

    `scales` has the sizes of canvas and styles. The other arguments are those of `update_operations`.
    """
    shapes = [scale.shape for scale in scales]
    return [
        update_operations(
            scale.shape,
            recipe.at(index, shapes),
            platform,
            style_shapes=scale.style_shapes,
            devices=devices,
            regions=scale.regions,
            pictures=pictures,
        )
        for index, scale in enumerate(scales)
    ]


def run_operations(
    scales: Sequence[Scale],
    recipe: Recipe,
    platform: str,
    *,
    devices: int = 1,
    pictures: int = 1,
) -> float:
    """Return the number of operations of all updates of a run, over all scales (resolutions).

    `scales` has the sizes of canvas and styles, and the numbers of updates. The other arguments are
    those of `update_operations`.
    """
    each = scale_operations(scales, recipe, platform, devices=devices, pictures=pictures)
    return sum(scale.steps * one for scale, one in zip(scales, each, strict=True))
