"""How much arithmetic a run is, told beforehand from shapes alone.

Counted from the network's block table: the convolutions forward and back, and the Gram matrices of
style taps. Nothing is compiled or run here. Seconds are these over what a device does in a second,
which only a run on it can tell.
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
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import tiles
from nst_jax.scaling.sharding import Rows
from nst_jax.vgg import layers, winograd


@dataclass(frozen=True, kw_only=True)
class Footprint:
    """What the compiled loop of a run holds at its peak, in bytes.

    Attributes:
      shape: (height, width) of the canvas.
      pictures: painted at once.
      weights: kernels and biases down to the deepest tap, and the forms that are made of them.
      activations: what loss and gradient hold of the network; or what measuring the largest style
        holds, if that is more.
      state: canvases and the optimiser's memory.
      targets: what the canvases are compared with.
    """

    shape: Shape
    pictures: int
    weights: int
    activations: int
    state: int
    targets: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.activations + self.state + self.targets

    @property
    def per_pixel(self) -> float:
        """Bytes for each pixel of the canvases, the weights apart, which no canvas changes."""
        height, width = self.shape
        return (self.total - self.weights) / (self.pictures * height * width)


def estimate_memory(
    shape: Shape,
    *,
    recipe: Recipe = recipes.DEFAULT,
    style_shapes: Sequence[Shape] | None = None,
    pictures: int = 1,
    platform: str | None = None,
) -> Footprint:
    """Estimate the peak memory of a run before anything is compiled.

    It is meant to be within 20 % of what XLA says of the compiled loop. Python, jax itself and the
    pictures as they were read are not in it: a process holds some hundred megabytes more.

    Args:
      shape: (height, width) of the canvas at its final size.
      recipe: taps, network and optimiser count; no size rule does. Where `network.tile` cuts the
        canvas, the network's share is that of a tile. Where `rows` lays it over several devices, all
        is of one of them.
      style_shapes: (height, width) of each style; None is the canvas' shape.
      pictures: painted at once, as `stylize_many` does.
      platform: "cpu", "gpu" or "tpu"; None is jax's default. Processors hold more forms of the
        kernels and need other buffers.

    Returns:
      The `Footprint`: its parts, `total` and `per_pixel`.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if a side is under 16 px, there are no pictures, or the recipe cannot be run.

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
    shape = _checked("shape", shape)
    styles = [shape] if style_shapes is None else _checked_all(style_shapes)
    _checks.whole("pictures", pictures, least=1)
    if platform is None:
        platform = jax.default_backend()
    if platform not in ("cpu", "gpu", "tpu"):
        raise ValueError(f"`platform`: expected 'cpu', 'gpu' or 'tpu', got {platform!r}")
    on_processor = platform == "cpu"
    seen = _blocks(_window(shape, recipe), recipe)
    loop = pictures * _loop(seen, recipe, on_processor)
    measuring = max(_forward(_blocks(_window(style, recipe), recipe), recipe) for style in styles)
    return Footprint(
        shape=shape,
        pictures=pictures,
        weights=_weights(seen, recipe, on_processor),
        activations=max(loop, measuring),
        state=pictures * _state(_share(shape, recipe), recipe, in_tiles=in_tiles(shape, recipe)),
        targets=pictures * _targets(_blocks(_share(shape, recipe), recipe), recipe),
    )


def _window(shape: Shape, recipe: Recipe) -> Shape:
    """Return what the network sees of a picture at a time."""
    return tiles.window_of(shape, recipe.terms.taps, recipe.network, _rows(shape, recipe))


def _rows(shape: Shape, recipe: Recipe) -> Rows | None:
    return recipe.rows and tiles.rows_of(recipe.rows.mesh, shape, recipe.network)


def in_tiles(shape: Shape, recipe: Recipe) -> bool:
    """Say whether a device looks at its part of a picture in more than one piece."""
    rows = _rows(shape, recipe)
    grid = tiles.grid_of(shape, recipe.terms.taps, recipe.network, rows)
    return grid is not None and grid.own > 1


def _share(shape: Shape, recipe: Recipe) -> Shape:
    """Return what a device keeps of a picture."""
    rows = _rows(shape, recipe)
    return shape if rows is None else (rows.share, shape[1])


def _checked(argument: str, shape: Any) -> Shape:
    if not isinstance(shape, Iterable) or isinstance(shape, (str, bytes)):
        raise TypeError(f"`{argument}`: expected (height, width), got {shape!r}")
    sides = tuple(shape)
    if len(sides) != 2:
        raise ValueError(f"`{argument}`: expected (height, width), got {len(sides)} numbers")
    for side in sides:
        _checks.whole(argument, side, least=vgg.SMALLEST)
    return int(sides[0]), int(sides[1])


def _checked_all(shapes: Any) -> list[Shape]:
    if not isinstance(shapes, (list, tuple)):
        raise TypeError(f"`style_shapes`: expected a list of (height, width), got {shapes!r}")
    if not shapes:
        raise ValueError("`style_shapes`: is empty; give at least one (height, width)")
    return [_checked(f"style_shapes[{index}]", shape) for index, shape in enumerate(shapes)]


# --- The network's buffers ------------------------------------------------------------------------


class Layer(NamedTuple):
    """One convolution, as large as it is on this canvas."""

    name: str
    height: int
    width: int
    channels_in: int
    channels: int
    content: bool  # whether a tap looks at it
    style: bool

    @property
    def positions(self) -> int:
        return self.height * self.width

    @property
    def output(self) -> int:
        """Numbers in its output."""
        return self.positions * self.channels

    @property
    def input(self) -> int:
        return self.positions * self.channels_in

    @property
    def tapped(self) -> int:
        """Numbers kept beside the output for its taps.

        Of a content tap that is the difference to the target. Of a style tap it is the features as
        a matrix, or the gradient already made of them: either is another buffer, since the ReLU's
        gradient looks at the output before it.
        """
        return (self.content + self.style) * self.output

    @property
    def winograd(self) -> bool:
        """Whether a processor computes it by Winograd's way."""
        return winograd.pays(self.height, self.width, self.channels_in, self.channels)


Blocks = list[list[Layer]]


def _blocks(shape: Shape, recipe: Recipe) -> Blocks:
    """Return the layers down to the deepest tap, by block."""
    terms, (height, width) = recipe.terms, shape
    content = {vgg.layer_of(tap) for tap in terms.content_taps}
    style = {vgg.layer_of(tap) for tap in terms.style_taps}
    names = list(vgg.LAYERS)
    deepest = max(names.index(name) for name in content | style)
    blocks: Blocks = []
    for name in names[: deepest + 1]:
        if name.endswith("_1"):
            if blocks:
                up = int(recipe.network.ceil)
                height, width = (height + up) // 2, (width + up) // 2
            blocks.append([])
        taps = name in content, name in style
        blocks[-1].append(Layer(name, height, width, *vgg.LAYERS[name], *taps))
    return blocks


def layers_of(shape: Shape, recipe: Recipe) -> list[Layer]:
    """Return the convolutions down to the recipe's deepest tap, on a canvas of (height, width)."""
    return [layer for block in _blocks(shape, recipe) for layer in block]


def _bytes_each(recipe: Recipe) -> int:
    """Return the bytes of a number of the activations."""
    return recipe.network.precision.activations_of(jnp.float32).itemsize


def _work(layer: Layer, into: int, out: int, recipe: Recipe, on_processor: bool) -> int:
    """Return the bytes that a convolution holds besides its result, from `into` channels to `out`.

    The plain way reads its input after the ReLU, or its gradient, which is a copy. Winograd's way
    goes through the buffers of `winograd.convolve` one after the other, of which two are there at a
    time: 6/4 as many numbers as the tiles cover once the rows are carried over, 36/16 once the
    columns are too, the same two of the products; in float32, like all that a processor convolves,
    but for what is multiplied.
    """
    each = _bytes_each(recipe)
    if not on_processor:
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


def _loop(blocks: Blocks, recipe: Recipe, on_processor: bool) -> int:
    """Return the peak bytes of one loss and gradient.

    Args:
      blocks: of the canvas.
      recipe: whose network counts. With `remat` a block's outputs are computed again on the way
        back, from the block's input, and losses are taken inside it.
      on_processor: whether layers may take Winograd's way.
    """
    each = _bytes_each(recipe)
    # For a processor XLA merges what is computed twice, whatever the program says.
    remat = recipe.network.remat and not on_processor
    # The windows' largest are compared with their members on the way back; a mean needs nothing.
    keeps_pooled = recipe.network.pool is not layers.average_pool
    inputs = [block[0].input * (keeps_pooled or remat) for block in blocks]
    inputs[0] = 0  # the canvas itself
    peak = held = 0
    for block, pooled in zip(blocks, inputs, strict=True):
        held += pooled * each
        for layer in block:
            work = _work(layer, layer.channels_in, layer.channels, recipe, on_processor)
            # A Gram matrix is a product with the features' transpose, which is a copy.
            work = max(work, layer.style * layer.output * each)
            peak = max(peak, held + layer.output * each + work)
            held += (layer.output + layer.tapped) * each
        held -= sum(layer.output + layer.tapped for layer in block) * each * remat
    for block, pooled in zip(reversed(blocks), reversed(inputs), strict=True):
        held += sum(layer.output + layer.tapped for layer in block) * each * remat
        for layer in reversed(block):
            work = _work(layer, layer.channels, layer.channels_in, recipe, on_processor)
            # The gradient comes in, and another leaves; `work` is the one that comes in.
            peak = max(peak, held + layer.input * each + work)
            held -= (layer.output + layer.tapped) * each
        held -= pooled * each
    return peak


def _forward(blocks: Blocks, recipe: Recipe) -> int:
    """Return the peak bytes of measuring a picture, which keeps only what taps look at."""
    peak = held = 0
    for layer in (layer for block in blocks for layer in block):
        copies = 1 + layer.style
        peak = max(peak, held + layer.input + copies * layer.output)
        held += layer.content * layer.output
    return peak * _bytes_each(recipe)


# --- The rest -------------------------------------------------------------------------------------


def _weights(blocks: Blocks, recipe: Recipe, on_processor: bool) -> int:
    """Return the bytes of the parameters as `vgg.with_forms` makes them."""
    total, each = 0, _bytes_each(recipe)
    for layer in (layer for block in blocks for layer in block):
        kernel = layer.channels_in * layer.channels
        total += 2 * 9 * kernel * each + layer.channels * FLOAT32  # and transposed
        if on_processor and layer.winograd:
            total += 2 * winograd.WINDOW**2 * kernel * each
    return total


def _state(shape: Shape, recipe: Recipe, *, in_tiles: bool) -> int:
    """Return the bytes of a state, and of what the loop copies of it.

    What has the canvas' shape is held twice while a step replaces it; L-BFGS' rings are written in
    place. Beside tiles, whose gradient is put together before the step replaces anything, there is that
    gradient and one copy.
    """
    canvas = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    # Of a sweep's numbers any will do.
    rule = jax.tree.map(lambda n: np.ravel(n)[0] if np.ndim(n) else n, recipe.descent.optimizer)
    memory = jax.eval_shape(rule.transformation().init, canvas)
    leaves = [canvas, canvas, *jax.tree.leaves(memory)]  # the kept canvas and the pending one
    copies = [leaf for leaf in leaves if leaf.shape == canvas.shape]
    if in_tiles:
        copies = copies[:2]
    return sum(leaf.size * leaf.dtype.itemsize for leaf in (*leaves, *copies))


def _targets(blocks: Blocks, recipe: Recipe) -> int:
    """Return the bytes of the content's features and of the style's statistics."""
    layers = {layer.name: layer for block in blocks for layer in block}
    terms = recipe.terms
    content = sum(layers[vgg.layer_of(tap)].output for tap in terms.content_taps)
    statistics = [
        jax.eval_shape(terms.style_loss.measure, _features(layers[vgg.layer_of(tap)]))
        for tap in terms.style_taps
    ]
    return content * _bytes_each(recipe) + sum(
        leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(statistics)
    )


def _features(layer: Layer) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((layer.height, layer.width, layer.channels), jnp.float32)


# --- Arithmetic -----------------------------------------------------------------------------------

# What an update costs at any size, as pixels; about right on a processor.
FIXED_PIXELS = 2**15


def update_operations(shape: Shape, recipe: Recipe, platform: str) -> float:
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
      >>> small, large = (update_operations((side, side), recipes.DEFAULT, "cpu") for side in (512, 1024))
      >>> f"{small:.1e}", f"{large / small:.1f}"
      ('4.5e+11', '3.7')
    """
    network, rows = recipe.network, recipe.rows
    rows = rows and tiles.rows_of(rows.mesh, shape, network)
    grid = tiles.grid_of(shape, recipe.terms.taps, network, rows)
    window, count = (shape, 1) if grid is None else (grid.window, grid.own)
    layers = layers_of(window, recipe)
    forward = sum(map(_forward_operations, layers))
    # Back to the picture, not to the kernels: as much as forward.
    once = 2 * forward
    again = (count > 1) + (network.remat and platform != "cpu")
    return count * (once + again * forward) + FIXED_PIXELS * once / (window[0] * window[1])


def _forward_operations(layer: Layer) -> int:
    convolution = 9 * layer.channels_in * layer.channels
    gram = layer.style * layer.channels**2
    return 2 * layer.positions * (convolution + gram)


def scale_operations(scales: Sequence[Scale], recipe: Recipe, platform: str) -> list[float]:
    """Return the operations of one update at each scale of a run."""
    return [update_operations(scale.shape, recipe, platform) for scale in scales]


def run_operations(scales: Sequence[Scale], recipe: Recipe, platform: str) -> float:
    """Return the operations of all updates of a run."""
    each = scale_operations(scales, recipe, platform)
    return sum(scale.steps * one for scale, one in zip(scales, each, strict=True))


FLOAT32 = 4  # bytes
