"""Estimates of the bytes of memory that a run takes, computed from the shapes of its arrays alone.

Nothing is compiled or run. `estimate_memory` adds up what other modules count: `gradient_memory`,
`measuring_memory` and `stored_memory`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nst_jax import _checks, losses, recipes, vgg
from nst_jax._types import Shape
from nst_jax.controls import finishing
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import tile_grid
from nst_jax.scaling.array_bytes import bytes_of_picture
from nst_jax.scaling.bands import planned_bands
from nst_jax.scaling.convolution_memory import bytes_of_workspace
from nst_jax.scaling.gradient_memory import peak_of_gradient, peak_of_matting
from nst_jax.scaling.layer_table import blocks_of, joint_content_costs, matching_costs
from nst_jax.scaling.measuring_memory import memory_of_measuring
from nst_jax.scaling.stored_memory import (
    bytes_of_state,
    bytes_of_targets,
    bytes_of_weights,
    bytes_of_widened_targets,
)
from nst_jax.vgg.precision import default_platform

PLATFORMS = ("cpu", "gpu", "tpu")


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Estimated peak memory of a run on one device; all attributes but the first two are in bytes.

    Attributes:
      shape: (height, width) in px of the canvas, the picture that is optimised.
      pictures: number of pictures painted at once.
      weights: kernels and biases down to the deepest layer that a loss reads, transposed kernels and
        Winograd kernels included.
      activations: the largest of four numbers: activations of the network while it computes loss and
        gradient; activations while it computes the statistics of the largest style; arrays of the
        matting Laplacian; arrays of the guided filter that restores the content's edges (the recipe's
        `realism`). These are never needed at once.
      workspace: copies of activations that the code for convolutions and products on a CPU makes while
        it computes, and which XLA does not count; 0 on other platforms.
      state: canvases, the optimiser's state, and the copies that an update makes of them.
      targets: the content's features and the targets of the style loss; the masks of regions; the mask
        of a protected part, and the content that is kept there.
      inputs: the contents and the styles, resized.
    """

    shape: Shape
    pictures: int
    weights: int
    activations: int
    workspace: int
    state: int
    targets: int
    inputs: int

    @property
    def total(self) -> int:
        """Sum of all parts, in bytes."""
        of_network = self.weights + self.activations + self.workspace
        return of_network + self.state + self.targets + self.inputs

    @property
    def per_pixel(self) -> float:
        """Bytes per pixel of the canvases, without `weights` and `inputs`."""
        height, width = self.shape
        return (self.total - self.weights - self.inputs) / (self.pictures * height * width)


def estimate_memory(
    shape: Shape,
    *,
    recipe: Recipe = recipes.DEFAULT,
    style_shapes: Sequence[Shape] | None = None,
    pictures: int = 1,
    devices: int = 1,
    platform: str | None = None,
    regions: int = 1,
    protected: bool = False,
) -> Footprint:
    """Estimate the peak memory of a run before anything is compiled.

    Without `workspace`, the estimate is meant to be within 20 % of XLA's count for the compiled loop,
    or for computing the styles' statistics if that takes more. Python, JAX itself, compiling, compiled
    programs and the pictures as they were read are not counted. They take some hundred megabytes more,
    which, except for the pictures, hardly depends on the size of the canvas.

    Args:
      shape: (height, width) of the canvas at its final size.
      recipe: the recipe; its rules for sizes of pictures are not used, since `shape` is given. If
        `network.tile` cuts the canvas into tiles, activations are those of one tile.
      style_shapes: (height, width) of each style that is read; None means one style of the canvas'
        shape. The largest of them decides how much memory it takes to compute their statistics. Each
        picture is assumed to blend as many styles as the recipe's `style_shares` has numbers. But for a
        `MatchingLoss`, which compares single positions of canvas and style, it is assumed to blend all
        styles in `style_shapes`.
      pictures: number of pictures painted at once; more than one with `stylize_many`.
      devices: number of devices that share each canvas; the estimate is for one of them.
      platform: "cpu", "gpu" or "tpu"; None is JAX's default. On a CPU, Winograd kernels are stored as
        well, and convolutions need other buffers. If the recipe's precision is `AUTO`, it depends on
        the platform.
      regions: number of regions with styles of their own, plus one for the region of the default style.
      protected: whether a part of the content is protected, that is, stays as it is.

    Returns:
      The `Footprint`: its parts, `total` and `per_pixel`.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if a shape is not two sides of at least 16 px, `style_shapes` is empty, `pictures`,
        `devices` or `regions` is under 1, `platform` is unknown, or the recipe cannot be run.

    Example:
      >>> import nst_jax as nst
      >>> small = nst.estimate_memory((256, 256), platform="cpu")
      >>> large = nst.estimate_memory((512, 512), platform="cpu")
      >>> f"{small.total / 1e9:.1f} GB, {large.total / 1e9:.1f} GB"
      '0.7 GB, 1.1 GB'
      >>> large.weights / small.weights < 1.2, large.per_pixel / small.per_pixel < 1.1
      (True, True)
    """
    recipe = recipes.check(recipe)
    shape = _checked_shape("shape", shape)
    styles = [shape] if style_shapes is None else _checked_shapes(style_shapes)
    _checks.whole("pictures", pictures, least=1)
    _checks.whole("devices", devices, least=1)
    _checks.whole("regions", regions, least=1)
    if platform is None:
        platform = default_platform()
    if platform not in PLATFORMS:
        raise ValueError(
            f"`platform`: expected 'cpu', 'gpu' or 'tpu', got {_checks.shown(platform)}"
        )
    recipe = recipe.resolved(platform)
    on_cpu = platform == "cpu"
    bands = planned_bands(shape, recipe, devices)
    window_shape = tile_grid.window_of(shape, recipe.terms.taps, recipe.network, bands)
    window = blocks_of(window_shape, recipe, regions, protected)
    own_shape = shape if bands is None else (bands.band_height, shape[1])
    state = bytes_of_state(own_shape, recipe, tile_grid.is_tiled(shape, recipe, devices))

    def footprint(recipe: Recipe) -> Footprint:
        masked = regions > 1 or protected
        loop = peak_of_gradient(window, recipe, on_cpu, masked)
        if on_cpu:
            loop += bytes_of_widened_targets(styles, recipe)
        loop = max(loop, peak_of_matting(own_shape, recipe))
        computed = [layer for block in window for layer in block]
        workspace = bytes_of_workspace(computed, recipe, on_cpu)
        measuring, copies = max(
            (memory_of_measuring(style, recipe, devices, on_cpu) for style in styles), key=sum
        )
        if isinstance(recipe.terms.style_loss, losses.MatchingLoss):
            # A `MatchingLoss` compares feature vectors at single positions of canvas and style, instead
            # of statistics over all positions. It makes further arrays from the features, such as
            # vectors of unit length, and states itself how many bytes these arrays take.
            costs = matching_costs(shape, styles, recipe)
            loop += costs.update_bytes + joint_content_costs(shape, recipe).update_bytes
            loop = max(loop, costs.match_bytes)
            measuring += costs.measure_bytes
        filters = np.any(recipe.pictures.realism)
        filtering = finishing.filter_memory(*shape) if filters else 0
        phases = (pictures * loop, pictures * workspace), (measuring, copies), (filtering, 0)
        activations, workspace = max(phases, key=sum)
        return Footprint(
            shape=shape,
            pictures=pictures,
            weights=bytes_of_weights(window, recipe, on_cpu),
            activations=activations,
            workspace=workspace,
            state=pictures * state,
            targets=pictures * bytes_of_targets(own_shape, styles, recipe, regions, protected),
            inputs=pictures * bytes_of_picture(shape) + sum(map(bytes_of_picture, styles)),
        )

    return max(map(footprint, _with_each_loss(recipe)), key=lambda found: found.total)


def _with_each_loss(recipe: Recipe) -> list[Recipe]:
    """Return copies of the recipe, one for each style loss that it may use at the final size.

    A recipe may have another style loss at the last scale (resolution) than at the scales before it.
    The scale before the last may have the final size, too. Then both losses are used at this size, and
    the larger of their footprints counts. Each copy has one of these losses for all scales.
    """
    terms, last = recipe.terms, recipe.terms.last_style_loss
    each = [terms.style_loss] if last is None else [terms.style_loss, last]
    return [
        replace(recipe, terms=replace(terms, style_loss=loss, last_style_loss=None))
        for loss in each
    ]


def _checked_shape(argument: str, shape: Any) -> Shape:
    if not isinstance(shape, Iterable) or isinstance(shape, (str, bytes)):
        raise TypeError(f"`{argument}`: expected (height, width), got {_checks.shown(shape)}")
    sides = tuple(shape)
    if len(sides) != 2:
        raise ValueError(f"`{argument}`: expected (height, width), got {len(sides)} numbers")
    for side in sides:
        _checks.whole(argument, side, least=vgg.SMALLEST)
    return int(sides[0]), int(sides[1])


def _checked_shapes(shapes: Any) -> list[Shape]:
    if not isinstance(shapes, (list, tuple)):
        raise TypeError(
            f"`style_shapes`: expected a list of (height, width), got {_checks.shown(shapes)}"
        )
    if not shapes:
        raise ValueError("`style_shapes`: is empty; give at least one (height, width)")
    return [_checked_shape(f"style_shapes[{index}]", shape) for index, shape in enumerate(shapes)]
