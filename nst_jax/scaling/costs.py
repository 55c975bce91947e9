"""What a run costs, from shapes alone: bytes of memory and number of arithmetic operations.

Nothing is compiled or run. Memory is counted buffer by buffer along the forward and the backward pass
through the network's layers. Operations are those of the convolutions, forward and backward, and of the
Gram matrices.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, recipes, vgg
from nst_jax._types import Shape
from nst_jax.prepare import Scale
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import tiles
from nst_jax.scaling.bands import Bands, bands_of
from nst_jax.scaling.sharding import abstract_mesh
from nst_jax.vgg import layers, winograd

FLOAT32 = 4  # bytes of one float32 element
PLATFORMS = ("cpu", "gpu", "tpu")

# --- Memory ---------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """Estimated peak memory of a run on one device, in bytes.

    Attributes:
      shape: (height, width) of the canvas.
      pictures: number of pictures painted at once.
      weights: kernels and biases down to the deepest tap, transposed and Winograd kernels included.
      activations: activations of the network while it computes loss and gradient, or while it computes
        the largest style's statistics, whichever is more.
      state: canvases and the optimiser's state.
      targets: the content's features and the style's statistics.
    """

    shape: Shape
    pictures: int
    weights: int
    activations: int
    state: int
    targets: int

    @property
    def total(self) -> int:
        """Sum of all parts, in bytes."""
        return self.weights + self.activations + self.state + self.targets

    @property
    def per_pixel(self) -> float:
        """Bytes per pixel of the canvases, without `weights`, which hardly depend on the size."""
        height, width = self.shape
        return (self.total - self.weights) / (self.pictures * height * width)


def estimate_memory(
    shape: Shape,
    *,
    recipe: Recipe = recipes.DEFAULT,
    style_shapes: Sequence[Shape] | None = None,
    pictures: int = 1,
    devices: int = 1,
    platform: str | None = None,
) -> Footprint:
    """Estimate the peak memory of a run before anything is compiled.

    The estimate is meant to be within 20 % of XLA's count for the compiled loop. Python, JAX itself and
    the pictures as they were read are not counted; they take some hundred megabytes more.

    Args:
      shape: (height, width) of the canvas at its final size.
      recipe: only its taps and losses, network and optimiser matter, not its size rules. If
        `network.tile` cuts the canvas into tiles, activations are those of one tile.
      style_shapes: (height, width) of each style; None means the canvas' shape.
      pictures: number of pictures painted at once; more than one with `stylize_many`.
      devices: number of devices that share each canvas; the estimate is for one of them.
      platform: "cpu", "gpu" or "tpu"; None is JAX's default. A run on a CPU also stores Winograd
        kernels, and its convolutions need other buffers.

    Returns:
      The `Footprint`: its parts, `total` and `per_pixel`.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if a side is under 16 px, `pictures` or `devices` is under 1, or the recipe cannot be
        run.

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
    if platform is None:
        platform = jax.default_backend()
    if platform not in PLATFORMS:
        raise ValueError(f"`platform`: expected 'cpu', 'gpu' or 'tpu', got {platform!r}")
    on_cpu = platform == "cpu"
    bands = _bands(shape, recipe, devices)
    window = _blocks(tiles.window_of(shape, recipe.terms.taps, recipe.network, bands), recipe)
    own_shape = shape if bands is None else (bands.band_height, shape[1])
    measuring = max(_peak_of_measuring(style, recipe, devices) for style in styles)
    return Footprint(
        shape=shape,
        pictures=pictures,
        weights=_bytes_of_weights(window, recipe, on_cpu),
        activations=max(pictures * _peak_of_loop(window, recipe, on_cpu), measuring),
        state=pictures * _bytes_of_state(own_shape, recipe, is_tiled(shape, recipe, devices)),
        targets=pictures * _bytes_of_targets(_blocks(own_shape, recipe), recipe),
    )


def _bands(shape: Shape, recipe: Recipe, devices: int) -> Bands | None:
    return bands_of(abstract_mesh(devices), shape, recipe.network)


def is_tiled(shape: Shape, recipe: Recipe, devices: int = 1) -> bool:
    """Return whether a device computes its part of a picture in more than one tile."""
    bands = _bands(shape, recipe, devices)
    grid = tiles.grid_of(shape, recipe.terms.taps, recipe.network, bands)
    return grid is not None and grid.count_per_device > 1


def _checked_shape(argument: str, shape: Any) -> Shape:
    if not isinstance(shape, Iterable) or isinstance(shape, (str, bytes)):
        raise TypeError(f"`{argument}`: expected (height, width), got {shape!r}")
    sides = tuple(shape)
    if len(sides) != 2:
        raise ValueError(f"`{argument}`: expected (height, width), got {len(sides)} numbers")
    for side in sides:
        _checks.whole(argument, side, least=vgg.SMALLEST)
    return int(sides[0]), int(sides[1])


def _checked_shapes(shapes: Any) -> list[Shape]:
    if not isinstance(shapes, (list, tuple)):
        raise TypeError(f"`style_shapes`: expected a list of (height, width), got {shapes!r}")
    if not shapes:
        raise ValueError("`style_shapes`: is empty; give at least one (height, width)")
    return [_checked_shape(f"style_shapes[{index}]", shape) for index, shape in enumerate(shapes)]


# --- Memory of the network ------------------------------------------------------------------------


class Layer(NamedTuple):
    """One convolution of the network, and the size of its output for a given picture."""

    name: str
    height: int
    width: int
    channels_in: int
    channels: int
    content: bool  # whether a content tap reads its output
    style: bool  # whether a style tap reads its output

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
        """Number of elements that the taps keep for the gradient, in addition to the output.

        A content tap keeps the difference between features and target. A style tap keeps the features
        as a matrix, or the gradient with respect to them. Neither tap can reuse the output's
        buffer, since the gradient of the ReLU still reads the output.
        """
        return (self.content + self.style) * self.output

    @property
    def winograd(self) -> bool:
        """Whether a CPU computes this layer by Winograd convolution."""
        return winograd.pays(self.height, self.width, self.channels_in, self.channels)


Blocks = list[list[Layer]]


def _blocks(shape: Shape, recipe: Recipe) -> Blocks:
    """Return the layers down to the deepest tap, by block, for a picture of this (height, width)."""
    terms, (height, width) = recipe.terms, shape
    content = {vgg.layer_of(tap) for tap in terms.content_taps}
    style = {vgg.layer_of(tap) for tap in terms.style_taps}
    names = list(vgg.LAYERS)
    deepest = max(names.index(name) for name in content | style)
    blocks: Blocks = []
    for name in names[: deepest + 1]:
        if name.endswith("_1"):
            blocks.append([])
        times = vgg.halvings(name)
        size = [vgg.halved(side, times, recipe.network.ceil) for side in (height, width)]
        taps = name in content, name in style
        blocks[-1].append(Layer(name, size[0], size[1], *vgg.LAYERS[name], *taps))
    return blocks


def layers_of(shape: Shape, recipe: Recipe) -> list[Layer]:
    """Return the convolutions down to the deepest tap, for a picture of this (height, width)."""
    return [layer for block in _blocks(shape, recipe) for layer in block]


def _bytes_each(recipe: Recipe) -> int:
    """Return the number of bytes of one element of the activations."""
    return recipe.network.precision.activations_of(jnp.float32).itemsize


def _work(layer: Layer, into: int, out: int, recipe: Recipe, on_cpu: bool) -> int:
    """Return the bytes that a convolution from `into` to `out` channels needs besides its result.

    A direct convolution reads a copy of its input: the output of a ReLU in the forward pass, a gradient
    in the backward pass. Winograd convolution makes several buffers one after the other, two of which
    exist at a time; see `winograd.convolve`. For every pixel that the patches cover, a buffer has 6/4
    elements per channel once the rows are transformed, and 36/16 once the columns are transformed too;
    the products have 36/16. A CPU convolves in float32 even if the activations have fewer bits; only
    the factors of Winograd's products then have fewer bits as well.
    """
    each = _bytes_each(recipe)
    if not on_cpu:
        return layer.positions * into * each
    widened = 0 if each == FLOAT32 else layer.positions * (into + out) * FLOAT32
    if not layer.winograd:
        return layer.positions * into * each + widened
    tile, window = winograd.PATCH, winograd.WINDOW
    covered = -(-layer.height // tile) * -(-layer.width // tile) * tile**2
    half, whole = window / tile, (window / tile) ** 2
    factors = whole * into * each
    pairs = (
        half * into * FLOAT32 + factors,
        factors + whole * out * FLOAT32,
        (half + whole) * out * FLOAT32,
    )
    return int(covered * max(pairs)) + widened


def _peak_of_loop(blocks: Blocks, recipe: Recipe, on_cpu: bool) -> int:
    """Return the peak bytes of one evaluation of loss and gradient.

    With `network.remat`, the backward pass computes a block's activations, and what its taps keep for
    the gradient, again from the block's input.
    """
    each = _bytes_each(recipe)
    # XLA's CPU compiler merges computations that occur twice, so `remat` has no effect on a CPU.
    remat = recipe.network.remat and not on_cpu
    # The gradient of max pooling reads the pooled output; the gradient of average pooling does not.
    keeps_pooled = recipe.network.pool is not layers.average_pool
    inputs = [block[0].input * (keeps_pooled or remat) for block in blocks]
    inputs[0] = 0  # the first block's input is the canvas, which is part of the state
    peak = kept = 0
    for block, pooled in zip(blocks, inputs, strict=True):
        kept += pooled * each
        for layer in block:
            work = _work(layer, layer.channels_in, layer.channels, recipe, on_cpu)
            # A Gram matrix multiplies the features by their transpose, which is a copy.
            work = max(work, layer.style * layer.output * each)
            peak = max(peak, kept + layer.output * each + work)
            kept += (layer.output + layer.tapped) * each
        kept -= sum(layer.output + layer.tapped for layer in block) * each * remat
    for block, pooled in zip(reversed(blocks), reversed(inputs), strict=True):
        kept += sum(layer.output + layer.tapped for layer in block) * each * remat
        for layer in reversed(block):
            work = _work(layer, layer.channels, layer.channels_in, recipe, on_cpu)
            # `work` counts the gradient at the output; the gradient at the input is another buffer.
            peak = max(peak, kept + layer.input * each + work)
            kept -= (layer.output + layer.tapped) * each
        kept -= pooled * each
    return peak


def _peak_of_measuring(shape: Shape, recipe: Recipe, devices: int) -> int:
    """Return the peak bytes of the computation of a style's statistics.

    Without a gradient, activations are freed once the next layer is computed; only the outputs of
    content taps are counted as kept.
    """
    bands = _bands(shape, recipe, devices)
    window = tiles.window_of(shape, recipe.terms.taps, recipe.network, bands)
    peak = kept = 0
    for layer in layers_of(window, recipe):
        copies = 1 + layer.style
        peak = max(peak, kept + layer.input + copies * layer.output)
        kept += layer.content * layer.output
    return peak * _bytes_each(recipe)


# --- Memory of everything else --------------------------------------------------------------------


def _bytes_of_weights(blocks: Blocks, recipe: Recipe, on_cpu: bool) -> int:
    """Return the bytes of kernels, plain, transposed and (on a CPU) for Winograd, and of biases."""
    total, each = 0, _bytes_each(recipe)
    for layer in (layer for block in blocks for layer in block):
        kernel = layer.channels_in * layer.channels
        total += 2 * 9 * kernel * each + layer.channels * FLOAT32  # the kernel and its transpose
        if on_cpu and layer.winograd:
            total += 2 * winograd.WINDOW**2 * kernel * each
    return total


def _bytes_of_state(shape: Shape, recipe: Recipe, tiled: bool) -> int:
    """Return the bytes of the loop's `State` and of the copies that an update makes.

    Arrays of the canvas' shape exist twice while an update replaces them; the ring buffers of L-BFGS
    are updated in place. With tiles, only two more arrays of that shape exist at a time: the gradient,
    which is complete before the update replaces anything, and one copy.
    """
    canvas = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    # In a sweep, the optimiser's numbers are arrays of values; every value gives the same shapes.
    rule = jax.tree.map(lambda n: np.ravel(n)[0] if np.ndim(n) else n, recipe.descent.optimizer)
    memory = jax.eval_shape(rule.transformation().init, canvas)
    leaves = [canvas, canvas, *jax.tree.leaves(memory)]  # `State.canvas`, `State.pending`, ...
    copies = [leaf for leaf in leaves if leaf.shape == canvas.shape]
    if tiled:
        copies = copies[:2]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in (*leaves, *copies))


def _bytes_of_targets(blocks: Blocks, recipe: Recipe) -> int:
    """Return the bytes of the content's features and the style's statistics."""
    by_name = {layer.name: layer for block in blocks for layer in block}
    terms = recipe.terms
    content = sum(by_name[vgg.layer_of(tap)].output for tap in terms.content_taps)
    statistics = []
    for tap in terms.style_taps:
        layer = by_name[vgg.layer_of(tap)]
        features = jax.ShapeDtypeStruct((layer.height, layer.width, layer.channels), jnp.float32)
        statistics.append(jax.eval_shape(terms.style_loss.measure, features))
    return content * _bytes_each(recipe) + sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(statistics)
    )


# --- Operations -----------------------------------------------------------------------------------

# The fixed time of an update, as the number of pixels whose computation takes as long; a rough value,
# measured on a CPU.
FIXED_PIXELS = 2**15


def update_operations(shape: Shape, recipe: Recipe, platform: str, *, devices: int = 1) -> float:
    """Return the number of operations of one update: one evaluation of loss and gradient.

    Every multiplication and every addition counts as one operation. Every layer counts as a direct
    convolution, even where a CPU uses Winograd convolution and so seems to do more operations per
    second. The optimiser's own arithmetic, under a thousandth of the total, is left out.

    Args:
      shape: (height, width) of the canvas.
      recipe: only its taps and network matter. With tiles, the forward pass is computed twice, first
        for the sums that the losses need, and pixels in halos are computed in several tiles.
        `network.remat` adds one forward pass, except on a CPU.
      platform: "cpu", "gpu" or "tpu".
      devices: number of devices that share the canvas; the result is for one of them.

    Returns:
      Number of operations, including those for `FIXED_PIXELS` pixels as the fixed cost.

    Example:
      >>> from nst_jax import recipes
      >>> sides = (512, 1024)
      >>> small, large = (update_operations((n, n), recipes.DEFAULT, "cpu") for n in sides)
      >>> f"{small:.1e}", f"{large / small:.1f}"
      ('4.5e+11', '3.7')
    """
    network = recipe.network
    grid = tiles.grid_of(shape, recipe.terms.taps, network, _bands(shape, recipe, devices))
    window, count = (shape, 1) if grid is None else (grid.window, grid.count_per_device)
    forward = sum(map(_forward_operations, layers_of(window, recipe)))
    # The backward pass computes no gradient of the kernels, so it costs as much as the forward pass.
    once = 2 * forward
    again = (count > 1) + (network.remat and platform != "cpu")
    return count * (once + again * forward) + FIXED_PIXELS * once / (window[0] * window[1])


def _forward_operations(layer: Layer) -> int:
    convolution = 9 * layer.channels_in * layer.channels
    gram = layer.style * layer.channels**2
    return 2 * layer.positions * (convolution + gram)


def scale_operations(
    scales: Sequence[Scale], recipe: Recipe, platform: str, *, devices: int = 1
) -> list[float]:
    """Return the number of operations of one update at each scale (resolution) of a run."""
    return [update_operations(scale.shape, recipe, platform, devices=devices) for scale in scales]


def run_operations(
    scales: Sequence[Scale], recipe: Recipe, platform: str, *, devices: int = 1
) -> float:
    """Return the number of operations of all updates of a run, over all scales."""
    each = scale_operations(scales, recipe, platform, devices=devices)
    return sum(scale.steps * one for scale, one in zip(scales, each, strict=True))
