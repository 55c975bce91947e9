"""Memory of computing the statistics of a style, such as Gram matrices, before the first update."""

import math
from collections.abc import Sequence

from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import tile_grid
from nst_jax.scaling.array_bytes import FLOAT32_BYTES, bytes_per_activation
from nst_jax.scaling.bands import planned_bands
from nst_jax.scaling.convolution_memory import bytes_besides_result, bytes_of_workspace
from nst_jax.scaling.layer_table import Layer, needed_for

# Number of copies of a layer's features that XLA holds, besides the features, while it computes their
# Gram matrix.
COPIES_FOR_GRAM = 2


def memory_of_measuring(
    shape: Shape, recipe: Recipe, devices: int, on_cpu: bool
) -> tuple[int, int]:
    """Return two numbers of bytes: the peak of computing the statistics of a style, and its workspace.

    `convolution_memory.bytes_of_workspace` says what the workspace is. If the style, of this (height,
    width), is cut into tiles, both numbers are those of one tile.
    """
    taps = recipe.terms.every_style_tap
    bands = planned_bands(shape, recipe, devices)
    grid = tile_grid.style_grid_of(shape, taps, recipe.network, bands)
    window, share = shape, 1.0
    if grid is not None:
        window = grid.window
        share = grid.down.core * grid.across.core / math.prod(window)
    computed = needed_for(taps, window, recipe)
    if on_cpu and bytes_per_activation(recipe) < FLOAT32_BYTES:
        peak = _peak_of_measuring_in_strips(computed, recipe)
    else:
        peak = _peak_of_measuring(computed, recipe, on_cpu, share)
    return peak, bytes_of_workspace(computed, recipe, on_cpu, measuring=True)


def _peak_of_measuring(
    computed: Sequence[Layer], recipe: Recipe, on_cpu: bool, share: float
) -> int:
    """Return the peak bytes of computing the statistics of a style, without the workspace.

    XLA may make the Gram matrix of a layer after it has computed the next layer. So what the Gram
    matrix needs is counted together with the memory of the next layer. It needs the layer's features,
    and `COPIES_FOR_GRAM` copies of those positions that the statistics are of.

    Args:
      computed: the layers that are computed, for the whole style or the window of a tile.
      recipe: the recipe of the run.
      on_cpu: whether the run is on a CPU.
      share: the share of the positions that the statistics are of: 1, or that of a tile's core in its
        window.
    """
    each, peak, given = bytes_per_activation(recipe), 0, 0.0
    for layer in computed:
        given = given or layer.input
        work = bytes_besides_result(
            layer, layer.channels_in, layer.channels, recipe, on_cpu, direct=True
        )
        peak = max(peak, int((given + layer.output) * each) + work)
        given = (1 + COPIES_FOR_GRAM * share) * layer.output if layer.style else 0.0
        peak = max(peak, int(given * each))
    return peak


def _peak_of_measuring_in_strips(computed: Sequence[Layer], recipe: Recipe) -> int:
    """Return the peak bytes of computing the statistics of a style in 16-bit floats on a CPU.

    Gram matrices are computed in strips, which need no copies of all features. XLA makes float32 copies
    of all kernels at the beginning.
    """
    kernels = sum(9 * layer.channels_in * layer.channels * FLOAT32_BYTES for layer in computed)
    ends = ((layer, layer.channels_in, layer.channels) for layer in computed)
    return kernels + max(
        bytes_besides_result(*end, recipe, on_cpu=True, direct=True) for end in ends
    )
