"""Memory that convolutions and matrix products of the network take besides their results."""

from collections.abc import Iterable
from dataclasses import replace

from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.array_bytes import FLOAT32_BYTES, bytes_per_activation
from nst_jax.scaling.layer_table import Layer
from nst_jax.vgg import layers, winograd


def bytes_besides_result(
    layer: Layer, into: int, out: int, recipe: Recipe, on_cpu: bool, *, direct: bool = False
) -> int:
    """Return the bytes that a convolution needs besides its result.

    A direct convolution reads a copy of its input: the output of a ReLU in the forward pass, a gradient
    in the backward pass. On a CPU, XLA does not count this copy; `bytes_of_workspace` does. Winograd
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
    each = bytes_per_activation(recipe)
    if recipe.network.padding is not layers.zero_padded:
        # Other paddings than zeros need two more arrays: the padded input, and the result before its
        # border is cropped.
        padded = layer.positions * (into + out) * each
        plain = replace(recipe, network=replace(recipe.network, padding=layers.zero_padded))
        return padded + bytes_besides_result(layer, into, out, plain, on_cpu, direct=direct)
    if not on_cpu:
        return layer.positions * into * each
    widened = 0 if each == FLOAT32_BYTES else layer.positions * (into + out) * FLOAT32_BYTES
    if direct or not layer.winograd:
        return widened
    _, count = winograd.strips(1, layer.height, layer.width)
    covered = _covered(layer)
    half = winograd.WINDOW / winograd.PATCH
    whole = half**2
    factors = whole * into * each
    pairs = (
        half * into * FLOAT32_BYTES + factors,
        factors + whole * out * FLOAT32_BYTES,
        (half + whole) * out * FLOAT32_BYTES,
    )
    # If there are several strips, only one at a time is converted to float32. So no float32 copy of the
    # whole input and output (`widened`) is counted then.
    return int(covered * max(pairs)) + (widened if count == 1 else 0)


def bytes_of_workspace(
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
    each, most = bytes_per_activation(recipe), 0
    for layer in computed:
        widest = layer.channels_in if measuring else max(layer.channels_in, layer.channels)
        if measuring or not layer.winograd:
            copied = layer.positions * widest * FLOAT32_BYTES
        else:
            copied = int(_covered(layer) * (winograd.WINDOW / winograd.PATCH) ** 2) * widest * each
        most = max(most, copied, bool(layer.style) * layer.output * each)
    return most


def _covered(layer: Layer) -> int:
    """Return the number of positions that the patches of a strip of Winograd convolution cover."""
    rows, _ = winograd.strips(1, layer.height, layer.width)
    return rows * -(-layer.width // winograd.PATCH) * winograd.PATCH
