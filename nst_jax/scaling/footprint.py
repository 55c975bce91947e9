"""Estimates of the bytes of memory that a run takes, computed from the shapes of its arrays alone.

Nothing is compiled or run. Memory is counted buffer by buffer along the forward and the backward pass
through the network's layers.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, losses, recipes, vgg
from nst_jax._types import Shape
from nst_jax.controls import finishing
from nst_jax.images import resizing
from nst_jax.recipes.recipe import Recipe, StylePart
from nst_jax.run_scales import Scale
from nst_jax.scaling import loss_costs, tile_grid
from nst_jax.scaling.layer_table import (
    Blocks,
    Layer,
    blocks_of,
    costs_of_losses,
    features_at,
    held_taps,
    joint_content_costs,
    matching_costs,
    needed_for,
    planned_bands,
    size_in_bytes,
)
from nst_jax.vgg import layers, winograd
from nst_jax.vgg.precision import default_platform

FLOAT32 = 4  # bytes of one float32 element
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
    state = _bytes_of_state(own_shape, recipe, is_tiled(shape, recipe, devices))

    def footprint(recipe: Recipe) -> Footprint:
        masked = regions > 1 or protected
        loop = _peak_of_loop(window, recipe, on_cpu, masked)
        if on_cpu:
            loop += _widened_targets(styles, recipe)
        loop = max(loop, _peak_of_matting(own_shape, recipe))
        computed = [layer for block in window for layer in block]
        workspace = _workspace(computed, recipe, on_cpu)
        measuring, copies = max(
            (_measuring_of(style, recipe, devices, on_cpu) for style in styles), key=sum
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
            weights=_bytes_of_weights(window, recipe, on_cpu),
            activations=activations,
            workspace=workspace,
            state=pictures * state,
            targets=pictures * _bytes_of_targets(own_shape, styles, recipe, regions, protected),
            inputs=pictures * _bytes_of_picture(shape) + sum(map(_bytes_of_picture, styles)),
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


def _bytes_of_picture(shape: Shape) -> int:
    return 3 * FLOAT32 * shape[0] * shape[1]


# Number of float32 values per pixel in the arrays from which the matting energy and its gradient are
# computed. This energy is a loss that penalises edges which the content does not have. The number is
# large, since most of these arrays hold a window of 9 pixels for each pixel. The energy is computed
# before or after the network's pass, so its memory is not added to that of the network.
MATTING_NUMBERS = 200


def _peak_of_matting(shape: Shape, recipe: Recipe) -> int:
    if recipe.terms.matting_weight is None:
        return 0
    return MATTING_NUMBERS * FLOAT32 * shape[0] * shape[1]


# Bytes that resizing by a filter of Pillow takes for each pixel of the original picture. Most of them
# are for float32 copies that are made while the picture is rounded to 8 bits for Pillow.
PILLOW_BYTES = 40


def peak_of_resizing(old: Shape, new: Shape, resize: Any) -> int:
    """Return the bytes that resizing a picture takes besides the picture as it was read.

    Args:
      old: (height, width) of the picture as it was read.
      new: (height, width) of the resized picture.
      resize: the filter, a value of `recipes.filters.FILTERS`.
    """
    if old == new:
        return _bytes_of_picture(old)  # nothing is resized, but the picture is copied to the device
    if resize not in (resizing.antialiased, resizing.bilinear):
        return PILLOW_BYTES * old[0] * old[1] + 2 * _bytes_of_picture(new)
    # JAX resizes one axis after the other, each by a product with a matrix. For a product it may copy
    # a picture, so a copy of the larger picture is counted.
    between = min(_bytes_of_picture((old[0], new[1])), _bytes_of_picture((new[0], old[1])))
    matrices = FLOAT32 * (old[0] * new[0] + old[1] * new[1])
    sides = _bytes_of_picture(old), _bytes_of_picture(new)
    return sum(sides) + max(sides) + between + matrices


@dataclass(frozen=True)
class FileMemory:
    """The bytes of this machine's main memory that reading the picture files of a run takes.

    Attributes:
      kept: bytes of the pictures as they were read, which are kept during the run.
      peak: largest number of bytes at any time while the pictures are read and resized.
      least: the peak if the pictures were resized to the smallest size, of 16 px: what no choice of
        sizes avoids.
      largest: index of the picture whose decoding takes the most, in the order of `memory_of_files`.
    """

    kept: int
    peak: int
    least: int
    largest: int = 0


def memory_of_files(
    shapes: Sequence[Shape], decoding: Sequence[int], scale: Scale, recipe: Recipe
) -> FileMemory:
    """Return the memory that reading and resizing the pictures of a run takes.

    The peak is computed for this order: all pictures are read one after the other, and then resized one
    after the other.

    Args:
      shapes: (height, width) of the content and of each style, as they are read.
      decoding: bytes that decoding each of these files takes.
      scale: the final scale, whose sizes the pictures are resized to.
      recipe: the recipe, of which only the filter for resizing matters.
    """
    kept = reading = 0
    for (height, width), one in zip(shapes, decoding, strict=True):
        reading = max(reading, kept + one)
        kept += 3 * FLOAT32 * height * width

    def peak(sizes: Sequence[Shape]) -> int:
        most, resized = reading, 0
        for old, new in zip(shapes, sizes, strict=True):
            most = max(most, kept + resized + peak_of_resizing(old, new, recipe.pictures.resize))
            resized += 3 * FLOAT32 * new[0] * new[1]
        return most

    found = peak((scale.shape, *scale.style_shapes))
    smallest = peak([(vgg.SMALLEST, vgg.SMALLEST)] * len(shapes))
    return FileMemory(
        kept,
        found,
        # Pictures that keep their size are not resized, which may take less than resizing to 16 px.
        least=min(found, smallest),
        largest=max(range(len(decoding)), key=decoding.__getitem__, default=0),
    )


def is_tiled(shape: Shape, recipe: Recipe, devices: int = 1) -> bool:
    """Return whether each device computes its part of a picture in several tiles, one by one."""
    bands = planned_bands(shape, recipe, devices)
    grid = tile_grid.grid_of(shape, recipe.terms.taps, recipe.network, bands)
    return grid is not None and grid.count_per_device > 1


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


# --- Memory of the network ------------------------------------------------------------------------


def _bytes_each(recipe: Recipe) -> int:
    """Return the number of bytes of one element of the activations."""
    return recipe.network.precision_on().activations_of(jnp.float32).itemsize


def _work(
    layer: Layer, into: int, out: int, recipe: Recipe, on_cpu: bool, *, direct: bool = False
) -> int:
    """Return the bytes that a convolution needs besides its result.

    A direct convolution reads a copy of its input: the output of a ReLU in the forward pass, a gradient
    in the backward pass. On a CPU, XLA does not count this copy; `_workspace` does. Winograd
    convolution, which is used on CPUs only, computes patches of 4 x 4 results from windows of 6 x 6
    pixels, strip by strip of rows. It makes several buffers in turn, two of which exist at a time; see
    `winograd.convolve`. For every pixel that the patches of a strip cover, a buffer has 6/4 elements
    per channel if it is transformed along one axis only, and 36/16 if along both axes; the buffer of
    the products has 36/16, too. If the activations have fewer bits than float32, a CPU converts them to
    float32, except for the factors of Winograd's products.

    Args:
      layer: the layer of the convolution.
      into: number of channels that the convolution reads; in the backward pass, it reads the gradient
        at the layer's output.
      out: number of channels that the convolution returns.
      recipe: the recipe of the run.
      on_cpu: whether the run is on a CPU.
      direct: whether the convolution is direct even if Winograd convolution would be faster. This is
        so while the statistics of styles are computed.
    """
    each = _bytes_each(recipe)
    if recipe.network.padding is not layers.zero_padded:
        # Other paddings than zeros need two more arrays: the padded input, and the result before its
        # border is cropped.
        padded = layer.positions * (into + out) * each
        plain = replace(recipe, network=replace(recipe.network, padding=layers.zero_padded))
        return padded + _work(layer, into, out, plain, on_cpu, direct=direct)
    if not on_cpu:
        return layer.positions * into * each
    widened = 0 if each == FLOAT32 else layer.positions * (into + out) * FLOAT32
    if direct or not layer.winograd:
        return widened
    _, count = winograd.strips(1, layer.height, layer.width)
    covered = _covered(layer)
    half = winograd.WINDOW / winograd.PATCH
    whole = half**2
    factors = whole * into * each
    pairs = (
        half * into * FLOAT32 + factors,
        factors + whole * out * FLOAT32,
        (half + whole) * out * FLOAT32,
    )
    # If there are several strips, only one at a time is converted to float32. So no float32 copy of the
    # whole input and output (`widened`) is counted then.
    return int(covered * max(pairs)) + (widened if count == 1 else 0)


def _covered(layer: Layer) -> int:
    """Return the number of positions that the patches of a strip of Winograd convolution cover."""
    rows, _ = winograd.strips(1, layer.height, layer.width)
    return rows * -(-layer.width // winograd.PATCH) * winograd.PATCH


def _peak_of_loop(blocks: Blocks, recipe: Recipe, on_cpu: bool, masked: bool = False) -> int:
    """Return the peak bytes of one evaluation of loss and gradient.

    `masked` says whether style losses read features times a mask, as with regions or a protected part.

    A block is the layers between two poolings. Each block has activations, and arrays that the losses
    at its layers need for the gradient. With `network.remat`, which has no effect on a CPU, both are
    dropped after the forward pass of the block, and the backward pass computes them again from the
    input of the block.
    """
    each = _bytes_each(recipe)
    in_turn = on_cpu and _has_winograd(blocks)
    # XLA's CPU compiler merges computations that occur twice, so `remat` has no effect on a CPU.
    remat = recipe.network.remat and not on_cpu
    # With `remat`, each block's input is stored. That of the first block is the canvas, which is
    # counted already as part of the state.
    inputs = [block[0].input * each * remat for block in blocks]
    inputs[0] = 0
    keeps = [
        [_kept(*sizes, recipe, on_cpu, in_turn, masked) for sizes in zip(block, pools, strict=True)]
        for block, pools in zip(blocks, _pooled(blocks), strict=True)
    ]
    peak = kept = copy = 0
    holds_input = False
    for block, first, later in zip(blocks, inputs, keeps, strict=True):
        kept += first
        for layer, own in zip(block, later, strict=True):
            work = _work(layer, layer.channels_in, layer.channels, recipe, on_cpu)
            if on_cpu and kept:
                # XLA's CPU compiler keeps what a ReLU reads, or bytes. So what the ReLU before this
                # layer returned is one more array, unless it is kept itself. The Gram matrix of the
                # layer before may be computed after this layer, so its copy counts here, too.
                work += copy + layer.input * each * (not holds_input)
            # A Gram matrix is the product of the features and their transpose, which XLA stores as a
            # copy. One such copy is counted at each layer that a style loss of any kind reads.
            copy = bool(layer.style) * layer.output * each
            # With losses in turn, a bias is added to a copy of the output.
            work = max(work, (in_turn or bool(layer.style)) * layer.output * each)
            peak = max(peak, kept + layer.output * each + work)
            kept += own
            # In turn, what a ReLU returns takes the place of what it reads.
            holds_input = in_turn and layer is not block[-1] and _is_read(layer, recipe)
        kept -= sum(later) * remat
    # Before the backward pass, each loss compares the features or statistics of a layer with a target.
    # This takes further memory; the largest amount that one loss takes at one layer is counted.
    every = [layer for block in blocks for layer in block]
    peak = max(peak, kept + max(costs_of_losses(every, lambda cost: cost.memory), default=0))
    for block, first, later in reversed(list(zip(blocks, inputs, keeps, strict=True))):
        kept += sum(later) * remat
        for layer, own in zip(reversed(block), reversed(later), strict=True):
            work = _work(layer, layer.channels, layer.channels_in, recipe, on_cpu)
            # The gradient at the layer's input is one more buffer, of `layer.input * each` bytes.
            after = layer.input * each + work
            if in_turn:
                # The gradients of the next layer and of the losses, which become one.
                peak = max(peak, kept + (1 + len(layer.style)) * layer.output * each)
                # That gradient takes the place of what was kept. `work` of a direct convolution
                # contains it.
                after += layer.winograd * layer.output * each - own
                if recipe.network.padding is not layers.zero_padded:
                    # The gradient at the input is a sum of five arrays, since pixels near the border
                    # were also copied beyond it.
                    after = max(after, 5 * layer.input * each - own)
            peak = max(peak, kept + after)
            kept -= own
        kept -= first
    return peak


def _workspace(
    computed: Iterable[Layer], recipe: Recipe, on_cpu: bool, *, measuring: bool = False
) -> int:
    """Return the bytes that a CPU's convolutions and products allocate besides what XLA counts.

    XLA's CPU compiler passes both to another library, YNNPACK. Its code first copies ("packs") an
    operand into the order in which it reads it, and allocates memory for the copy while it runs:

    - A direct convolution copies its input, in float32.
    - A product of Winograd convolution copies the transformed pixels of a strip.
    - The Gram matrix of a layer is the product of the features and their transpose, one of which is
      copied. So is a covariance. A copy is counted at each layer that a style loss of any kind reads.

    A copy is made in pieces, of which each thread has one at a time. For a Gram matrix a piece has all
    positions and 64 channels. The whole copy is counted: it exists at once if there are as many threads
    as pieces. In the first layers, which have 64 channels and the largest copies, it is a single piece.

    XLA allocates its own buffers as one block for the whole program. So a copy adds to the peak
    wherever in the program it is made. There is one at a time, of which the largest is counted.

    Args:
      computed: the layers that are computed.
      recipe: the recipe of the run.
      on_cpu: whether the run is on a CPU; if not, the result is 0.
      measuring: whether the statistics of styles are computed, which needs no gradient and no Winograd
        convolution.
    """
    if not on_cpu:
        return 0
    each, most = _bytes_each(recipe), 0
    for layer in computed:
        widest = layer.channels_in if measuring else max(layer.channels_in, layer.channels)
        if measuring or not layer.winograd:
            copied = layer.positions * widest * FLOAT32
        else:
            copied = int(_covered(layer) * (winograd.WINDOW / winograd.PATCH) ** 2) * widest * each
        most = max(most, copied, bool(layer.style) * layer.output * each)
    return most


def _has_winograd(blocks: Blocks) -> bool:
    """Return whether a CPU computes any of the layers by Winograd convolution.

    If so, the gradients of losses are computed in turn with those of the layers, and layers that no
    loss reads store bytes; see `vgg.layers.measured_in_turn` and `vgg.layers.relu_by_signs`.
    """
    return any(layer.winograd for block in blocks for layer in block)


def _pooled(blocks: Blocks) -> list[list[int]]:
    """Return for each layer the number of elements of its output after pooling; 0 if it is not pooled.

    The result has one list for each block. (A block consists of the layers between two poolings.)
    """
    following = [*(block[0].input for block in blocks[1:]), 0]
    return [
        [0] * (len(block) - 1) + [elements]
        for block, elements in zip(blocks, following, strict=True)
    ]


def _is_read(layer: Layer, recipe: Recipe) -> bool:
    """Return whether a loss reads the layer's output; one may hold a protected part there."""
    taps = map(vgg.layer_of, recipe.terms.taps)
    return layer.name in taps or bool(layer.content) or bool(layer.style)


def _kept(
    layer: Layer, pooled: int, recipe: Recipe, on_cpu: bool, in_turn: bool, masked: bool
) -> int:
    """Return the bytes of a layer that are stored for the gradients of its ReLU, losses and pooling.

    Args:
      layer: the layer.
      pooled: number of elements of the layer's output after pooling; 0 if it is not pooled.
      recipe: the recipe of the run.
      on_cpu: whether the run is on a CPU.
      in_turn: whether gradients of losses are computed in turn; see `_has_winograd`.
      masked: whether style losses read features times a mask. These are stored for each mask, also if
        gradients are computed in turn.
    """
    each = _bytes_each(recipe)
    # For the gradient of max pooling, one byte is stored for each window. If no loss reads the layer's
    # output, that is enough for the gradient of the ReLU before the pooling, too.
    of_windows = pooled * (recipe.network.pool is layers.max_pool)
    if _is_read(layer, recipe):
        late = in_turn and not masked
        of_losses = (len(layer.content) * layer.output if late else layer.tapped) * each
        if late:
            # A loss that is no sum over positions keeps its gradient from the forward pass on. XLA adds
            # it up in float32, in an array that exists from the beginning on.
            of_losses += sum(not loss.additive for loss in layer.style) * layer.output * FLOAT32
        return layer.output * each + of_losses + of_windows
    if in_turn and not pooled:
        return layer.output
    stores_windows = of_windows and (in_turn or not on_cpu)
    return of_windows if stores_windows else of_windows + layer.output * each


def _widened_targets(styles: Sequence[Shape], recipe: Recipe) -> int:
    """Return the bytes of the float32 copies that a CPU makes of targets in 16-bit floats.

    These are targets of style losses that are no sums over positions: the features of the styles. XLA
    makes the copies before the first update, and keeps them, since all updates need them.
    """
    terms, largest = recipe.terms, max(styles, key=math.prod)
    targets = [
        loss_costs.target(
            part.loss, features_at(part.tap, largest, recipe), styles=len(terms.style_shares)
        )
        for part in terms.style_parts
        if not part.loss.additive and _bytes_each(recipe) < FLOAT32
    ]
    narrow = (leaf for leaf in jax.tree.leaves(targets) if leaf.dtype.itemsize < FLOAT32)
    return sum(leaf.size * FLOAT32 for leaf in narrow)


# Number of copies of a layer's features that XLA holds, besides the features, while it computes their
# Gram matrix.
COPIES_FOR_GRAM = 2


def _measuring_of(shape: Shape, recipe: Recipe, devices: int, on_cpu: bool) -> tuple[int, int]:
    """Return the peak bytes of computing the statistics of a style, and the `_workspace` of it.

    If the style, of this (height, width), is cut into tiles, both are those of one tile.
    """
    taps = recipe.terms.every_style_tap
    bands = planned_bands(shape, recipe, devices)
    grid = tile_grid.style_grid_of(shape, taps, recipe.network, bands)
    window, share = shape, 1.0
    if grid is not None:
        window = grid.window
        share = grid.down.core * grid.across.core / math.prod(window)
    computed = needed_for(taps, window, recipe)
    if on_cpu and _bytes_each(recipe) < FLOAT32:
        peak = _peak_of_measuring_in_strips(computed, recipe)
    else:
        peak = _peak_of_measuring(computed, recipe, on_cpu, share)
    return peak, _workspace(computed, recipe, on_cpu, measuring=True)


def _peak_of_measuring(
    computed: Sequence[Layer], recipe: Recipe, on_cpu: bool, share: float
) -> int:
    """Return the peak bytes of computing the statistics of a style, without `_workspace`.

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
    each, peak, given = _bytes_each(recipe), 0, 0.0
    for layer in computed:
        given = given or layer.input
        work = _work(layer, layer.channels_in, layer.channels, recipe, on_cpu, direct=True)
        peak = max(peak, int((given + layer.output) * each) + work)
        given = (1 + COPIES_FOR_GRAM * share) * layer.output if layer.style else 0.0
        peak = max(peak, int(given * each))
    return peak


def _peak_of_measuring_in_strips(computed: Sequence[Layer], recipe: Recipe) -> int:
    """Return the peak bytes of computing the statistics of a style in 16-bit floats on a CPU.

    Gram matrices are computed in strips, which need no copies of all features. XLA makes float32 copies
    of all kernels at the beginning.
    """
    kernels = sum(9 * layer.channels_in * layer.channels * FLOAT32 for layer in computed)
    ends = ((layer, layer.channels_in, layer.channels) for layer in computed)
    return kernels + max(_work(*end, recipe, on_cpu=True, direct=True) for end in ends)


# --- Memory of everything else --------------------------------------------------------------------


def _bytes_of_weights(blocks: Blocks, recipe: Recipe, on_cpu: bool) -> int:
    """Return the bytes of the weights: biases, kernels, and the transposed kernels for the gradient.

    On a CPU, layers with Winograd convolution also have both kernels transformed for it.
    """
    total, each = 0, _bytes_each(recipe)
    for layer in (layer for block in blocks for layer in block):
        kernel = layer.channels_in * layer.channels
        total += 2 * 9 * kernel * each + layer.channels * each  # kernel, its transpose, bias
        if on_cpu and layer.winograd:
            total += 2 * winograd.WINDOW**2 * kernel * each
    return total


def _bytes_of_state(shape: Shape, recipe: Recipe, tiled: bool) -> int:
    """Return the bytes of the optimisation's `State`, and of what an update needs besides.

    If `tiled` is False, the losses are computed for the whole canvas at once, and every array of the
    canvas' shape exists twice while an update replaces it. If `tiled` is True, they are computed tile
    by tile: the gradient of the whole canvas is complete before the arrays are replaced one after the
    other. So besides the state, only two arrays of that shape exist at a time: the gradient, and the
    copy of the array that is being replaced. The arrays with the history of L-BFGS are updated in
    place.
    """
    canvas = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    # If a number of the optimiser, such as its learning rate, differs between the pictures of a batch,
    # it is an array with a value for each picture. The first value is used, as all values give the same
    # shapes.
    descent = jax.tree.map(lambda n: np.ravel(n)[0] if np.ndim(n) else n, recipe.descent)
    memory = jax.eval_shape(descent.transformation().init, canvas)
    averages = [canvas] * (descent.average_decay is not None)
    # The state has the last canvas that was accepted, the canvas whose losses are computed next, an
    # average of canvases if the recipe has an `average_decay`, and the state of the optimiser.
    leaves = [canvas, canvas, *averages, *jax.tree.leaves(memory)]
    # An update needs a second copy of every array [h, w, 3]: those of the canvas' shape, and the
    # levels of a Laplacian pyramid, if the optimiser updates these instead of pixels. With tiles, only
    # two such arrays are needed besides the state: the gradient and one copy.
    copies = [leaf for leaf in leaves if len(leaf.shape) == 3 and leaf.shape[-1] == 3]
    if tiled:
        copies = copies[:2]
    return size_in_bytes((*leaves, *copies))


def _bytes_of_targets(
    shape: Shape, styles: Sequence[Shape], recipe: Recipe, regions: int, protected: bool
) -> int:
    """Return the bytes of all targets: the content's features, the style losses' targets, and masks.

    If the size of a target depends on the size of the style, all blended styles (one for each of the
    `style_shares`) are counted with the largest size. Each region has style targets of its own. If
    there are several regions or a protected part, each region also has a mask at every style tap.

    A protected part adds two arrays of the canvas' shape: the content picture, and how much of it each
    pixel keeps. If the recipe's content loss can be limited to a part, a second content loss at one tap
    (layer) compares the protected part. Its targets are a weight for each position, and the content's
    features at this tap, which are counted once even if the first content loss reads them, too.

    Args:
      shape: (height, width) of the canvas, or of the rows of it that one device computes.
      styles: (height, width) of each style.
      recipe: the recipe.
      regions: number of regions with styles of their own, plus one for the region of the default style.
      protected: whether a part of the canvas is protected: it stays as in the content.
    """
    terms, held = recipe.terms, held_taps(recipe, protected)
    largest = max(styles, key=math.prod)

    def target(part: StylePart) -> int:
        features = features_at(part.tap, largest, recipe)
        return loss_costs.target_bytes(part.loss, features, styles=len(terms.style_shares))

    taps = dict.fromkeys((*terms.content_taps, *held))
    found = size_in_bytes([features_at(tap, shape, recipe) for tap in taps])
    found += regions * sum(map(target, terms.style_parts))
    if regions > 1 or protected:
        found += FLOAT32 * regions * _positions(terms.every_style_tap, shape, recipe)
    if protected:
        found += FLOAT32 * _positions(held, shape, recipe) + 2 * _bytes_of_picture(shape)
    if isinstance(terms.style_loss, losses.MatchingLoss):
        found += matching_costs(shape, styles, recipe).target_bytes
    if isinstance(terms.content_loss, losses.JointContentLoss):
        found += _bytes_of_picture(shape)  # the content picture, which `Targets.photo` keeps
    return found


def _positions(taps: Iterable[str], shape: Shape, recipe: Recipe) -> int:
    """Return the number of positions of the features at several taps, added up.

    `shape` is the (height, width) of the picture.
    """
    return sum(math.prod(features_at(tap, shape, recipe).shape[:2]) for tap in taps)
