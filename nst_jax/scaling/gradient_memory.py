"""Memory of one evaluation of loss and gradient: activations, and what is stored for the gradient.

It is counted layer by layer along the forward and the backward pass through the network.
"""

from nst_jax import vgg
from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.array_bytes import FLOAT32_BYTES, bytes_per_activation
from nst_jax.scaling.convolution_memory import bytes_besides_result
from nst_jax.scaling.layer_table import Blocks, Layer, costs_of_losses
from nst_jax.vgg import layers


def peak_of_gradient(blocks: Blocks, recipe: Recipe, on_cpu: bool, masked: bool = False) -> int:
    """Return the peak bytes of one evaluation of loss and gradient.

    `masked` says whether style losses read features times a mask, as with regions or a protected part.

    A block is the layers between two poolings. Each block has activations, and arrays that the losses
    at its layers need for the gradient. With `network.remat`, which has no effect on a CPU, both are
    dropped after the forward pass of the block, and the backward pass computes them again from the
    input of the block.
    """
    each = bytes_per_activation(recipe)
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
            work = bytes_besides_result(layer, layer.channels_in, layer.channels, recipe, on_cpu)
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
            work = bytes_besides_result(layer, layer.channels, layer.channels_in, recipe, on_cpu)
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
    each = bytes_per_activation(recipe)
    # For the gradient of max pooling, one byte is stored for each window. If no loss reads the layer's
    # output, that is enough for the gradient of the ReLU before the pooling, too.
    of_windows = pooled * (recipe.network.pool is layers.max_pool)
    if _is_read(layer, recipe):
        late = in_turn and not masked
        of_losses = (len(layer.content) * layer.output if late else layer.tapped) * each
        if late:
            # A loss that is no sum over positions keeps its gradient from the forward pass on. XLA adds
            # it up in float32, in an array that exists from the beginning on.
            whole = sum(not loss.additive for loss in layer.style)
            of_losses += whole * layer.output * FLOAT32_BYTES
        return layer.output * each + of_losses + of_windows
    if in_turn and not pooled:
        return layer.output
    stores_windows = of_windows and (in_turn or not on_cpu)
    return of_windows if stores_windows else of_windows + layer.output * each


# Number of float32 values per pixel in the arrays from which the matting energy and its gradient are
# computed. This energy is a loss that penalises edges which the content does not have. The number is
# large, since most of these arrays hold a window of 9 pixels for each pixel. The energy is computed
# before or after the network's pass, so its memory is not added to that of the network.
MATTING_NUMBERS = 200


def peak_of_matting(shape: Shape, recipe: Recipe) -> int:
    """Return the peak bytes of the matting energy and its gradient; 0 if the recipe does without it.

    `shape` is the (height, width) of the canvas, or of the rows of it that one device computes.
    """
    if recipe.terms.matting_weight is None:
        return 0
    return MATTING_NUMBERS * FLOAT32_BYTES * shape[0] * shape[1]
