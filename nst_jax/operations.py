"""How much arithmetic a run is, told beforehand from shapes alone.

Counted from the network's block table: the convolutions forward and back, and the Gram matrices of
style taps. Nothing is compiled or run here. Seconds are these over what a device does in a second,
which only a run on it can tell.
"""

from collections.abc import Sequence

from nst_jax import memory, tiles
from nst_jax.memory import Layer
from nst_jax.prepare import Scale
from nst_jax.pyramid import Shape
from nst_jax.recipes import Recipe

# What an update costs at any size, as pixels; about right on a processor.
FIXED_PIXELS = 2**15


def of_update(shape: Shape, recipe: Recipe, platform: str) -> float:
    """Return the operations of one update, which is one evaluation of loss and gradient.

    Every multiplication and every addition is one. Layers are counted as if all were convolved the
    plain way: Winograd's, where it is taken, is part of how fast a processor is. The optimiser's own
    arithmetic is left out, which is under a thousandth.

    Args:
      shape: (height, width) of the canvas.
      recipe: whose taps and network count; where `rows` lays a canvas over several devices, what one
        of them does. Tiles go forward twice, the first time for the sums that the losses are made
        of, and their halos are computed for each; `network.remat` goes forward once more where the
        device does so.
      platform: "cpu", "gpu" or "tpu".

    Returns:
      Operations, with `FIXED_PIXELS` pixels' worth of them for what costs the same at any size.

    Example:
      >>> from nst_jax import recipes
      >>> small, large = (of_update((side, side), recipes.DEFAULT, "cpu") for side in (512, 1024))
      >>> f"{small:.1e}", f"{large / small:.1f}"
      ('4.5e+11', '3.7')
    """
    network, rows = recipe.network, recipe.rows
    rows = rows and tiles.rows_of(rows.mesh, shape, network)
    grid = tiles.grid_of(shape, recipe.terms.taps, network, rows)
    window, count = (shape, 1) if grid is None else (grid.window, grid.own)
    layers = memory.layers_of(window, recipe)
    forward = sum(map(_forward, layers))
    # Back to the picture, not to the kernels: as much as forward.
    once = 2 * forward
    again = (count > 1) + (network.remat and platform != "cpu")
    return count * (once + again * forward) + FIXED_PIXELS * once / (window[0] * window[1])


def _forward(layer: Layer) -> int:
    convolution = 9 * layer.channels_in * layer.channels
    gram = layer.style * layer.channels**2
    return 2 * layer.positions * (convolution + gram)


def of_scales(scales: Sequence[Scale], recipe: Recipe, platform: str) -> list[float]:
    """Return the operations of one update at each scale of a run."""
    return [of_update(scale.shape, recipe, platform) for scale in scales]


def of_run(scales: Sequence[Scale], recipe: Recipe, platform: str) -> float:
    """Return the operations of all updates of a run."""
    each = of_scales(scales, recipe, platform)
    return sum(scale.steps * one for scale, one in zip(scales, each, strict=True))
