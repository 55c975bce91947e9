"""The architecture that the networks `arbitrary` and `styles26`, both by Magenta, have in common.

A network is described by a table of its layers, a tuple of `TransformerLayer`. Both networks shrink a
picture to a quarter of its height and width, apply residual blocks, and enlarge the result again.
Borders are mirrored before every convolution. If the table says so, a convolution is followed by an
instance norm, whose scales and shifts (gammas and betas) depend on the style. The last step of a layer
is a ReLU, with two exceptions: the layer that ends a residual block adds the block's input, and the
last layer of the network applies a sigmoid. The networks differ in their numbers of channels and of
residual blocks, and in how the gammas and betas (the `Conditions`) are computed.

The architecture is that of Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style",
2017, and of their code, `image_stylization` in github.com/magenta/magenta.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import RealSizes, divided_size
from nst_jax._types import FeatureMap, Params, RealSize
from nst_jax.feed_forward.layers import (
    Convolution2D,
    NewFeatures,
    cropped,
    normed,
    reflect_sized_to_multiple,
    reflect_to_multiple,
    upsample,
)
from nst_jax.losses import at_least_float32
from nst_jax.vgg.precision import FLOAT32, AnyPrecision, Precision, precision_on

DIVISOR = 4  # the networks halve both sides twice, so pictures are padded to a multiple of 4 px

SMALLEST = 16  # smallest side, in px, of a picture that the networks accept


@dataclass(frozen=True)
class TransformerLayer:
    """One layer of a network: a convolution, and what is done before and after it.

    Attributes:
      name: the layer's name in the parameters.
      channels: number of channels of the result.
      size: side of the kernel in px.
      stride: px from the start of one window to the start of the next.
      upsampled: whether the height and width of the input are doubled before the convolution.
      normed: whether an instance norm follows the convolution; if not, the convolution has a bias.
      begins: whether a residual block begins with this layer.
      ends: whether a residual block ends with this layer; if so, the block's input is added in place of
        a ReLU.
      final: whether this is the last layer, whose result is the picture; it has a sigmoid in place of a
        ReLU.
    """

    name: str
    channels: int
    size: int = 3
    stride: int = 1
    upsampled: bool = False
    normed: bool = True
    begins: bool = False
    ends: bool = False
    final: bool = False


TransformerLayers: TypeAlias = tuple[TransformerLayer, ...]

# Name of a layer -> gammas and betas [n, c] of its instance norm, for each of n pictures.
Conditions: TypeAlias = Mapping[str, tuple[Float[Array, "n _"], Float[Array, "n _"]]]


def transformer_layers(
    contract: tuple[int, int, int], expand: tuple[int, int], *, blocks: int, contract_normed: bool
) -> TransformerLayers:
    """Return the layers of a style transfer network of Magenta's architecture.

    Args:
      contract: numbers of channels of the first three convolutions, of which the last two shrink the
        picture.
      expand: numbers of channels of the two convolutions that enlarge the picture again; after them
        comes a last convolution with three channels.
      blocks: number of residual blocks.
      contract_normed: whether an instance norm follows each of the three convolutions of `contract`.

    Returns:
      The layers, in their order.

    Example:
      >>> table = transformer_layers((8, 16, 32), (16, 8), blocks=1, contract_normed=False)
      >>> [layer.name for layer in table[2:6]]
      ['contract3', 'residual1_1', 'residual1_2', 'expand1']
    """
    first, second, third = contract
    table = [
        TransformerLayer("contract1", first, size=9, normed=contract_normed),
        TransformerLayer("contract2", second, stride=2, normed=contract_normed),
        TransformerLayer("contract3", third, stride=2, normed=contract_normed),
    ]
    for block in range(1, blocks + 1):
        table.append(TransformerLayer(f"residual{block}_1", third, begins=True))
        table.append(TransformerLayer(f"residual{block}_2", third, ends=True))
    table.append(TransformerLayer("expand1", expand[0], upsampled=True))
    table.append(TransformerLayer("expand2", expand[1], upsampled=True))
    table.append(TransformerLayer("expand3", 3, size=9, final=True))
    return tuple(table)


class StyleTransformer(nn.Module):
    """The network that paints pictures; the gammas and betas of its instance norms determine the style.

    A call takes pictures [n, h, w, 3] in [0, 1], of any size from 16 px, and the gammas and betas. It
    returns pictures of the same size and dtype. Sides that are not multiples of 4 px are extended by
    mirroring, and the result is cropped to the original size.

    If a call is given `size`, pictures of this (height, width) fill only the top left part of
    `content`, so that one compiled program serves pictures of several sizes. The sides of `content`
    must then be multiples of 4 px. The result has the painted pictures at the top left, and arbitrary
    values elsewhere.

    Attributes:
      layers: the network's layers, in their order.
      precision: precision of products and activations.
    """

    layers: TransformerLayers
    precision: Precision = FLOAT32

    @nn.compact
    def __call__(
        self,
        content: Float[Array, "n h w 3"],
        conditions: Conditions,
        size: RealSize | None = None,
    ) -> Float[Array, "n h w 3"]:
        height, width = content.shape[1:3]
        if size is None:
            x = reflect_to_multiple(content, DIVISOR)
        else:
            x, size = reflect_sized_to_multiple(content, DIVISOR, size)
        x = x.astype(self.precision.activations_of(content.dtype))
        before = x
        for layer in self.layers:
            before = x if layer.begins else before
            if layer.upsampled:
                x, size = upsample(x), None if size is None else 2 * size
            y = self._convolved(layer, x, size)
            size = None if size is None else divided_size(size, layer.stride)
            norm = conditions[layer.name] if layer.normed else None
            x = activated(layer, normed(widened(layer, y), *norm, size) if norm else y, before)
        return cropped(x, height, width).astype(content.dtype)

    def _convolved(
        self, layer: TransformerLayer, x: FeatureMap, size: RealSize | None
    ) -> NewFeatures:
        module = Convolution2D(
            layer.channels,
            layer.size,
            layer.stride,
            use_bias=not layer.normed,
            products=self.precision.products,
            name=layer.name,
        )
        return module(x, size)


def widened(layer: TransformerLayer, y: FeatureMap) -> FeatureMap:
    """Return the features `y` of a layer, converted to at least float32 if it is the last layer.

    The norm and the sigmoid of this layer are then computed in float32. So the picture is not rounded
    to bfloat16, even if activations are.
    """
    return at_least_float32(y) if layer.final else y


def activated(layer: TransformerLayer, y: FeatureMap, before: Array) -> FeatureMap:
    """Return the output of a layer, given its features after convolution and norm.

    Args:
      layer: the layer.
      y: the layer's features after convolution and norm.
      before: the input of the current residual block; used only if the block ends with this layer.

    Returns:
      `before + y` if a residual block ends with the layer, the sigmoid of `y` if it is the network's
      last layer, and the ReLU of `y` for all other layers.
    """
    if layer.final:
        return jax.nn.sigmoid(y)
    return before + y if layer.ends else jnp.maximum(y, 0)


def kernel_shapes(layers: TransformerLayers) -> dict[str, tuple[int, ...]]:
    """Return a dictionary from names of kernels, such as `"transformer/expand1"`, to their shapes.

    A shape is (height, width, input channels, output channels).
    """
    shapes: dict[str, tuple[int, ...]] = {}
    channels = 3
    for layer in layers:
        shapes[f"transformer/{layer.name}"] = (layer.size, layer.size, channels, layer.channels)
        channels = layer.channels
    return shapes


# --- What the networks' public functions share ----------------------------------------------------


def painted(
    layers: TransformerLayers,
    params: Params,
    content: Float[Array, "n h w 3"],
    conditions: Conditions,
    precision: AnyPrecision,
    sizes: RealSizes | None = None,
) -> Float[Array, "n h w 3"]:
    """Paint pictures with one of Magenta's networks.

    Args:
      layers: the network's layers, in their order.
      params: weights; `params.layers["transformer"]` has the network's parameters.
      content: pictures in [0, 1].
      conditions: gammas and betas of the instance norms, by name of the layer.
      precision: precision of products and activations, or `AUTO`, which depends on the device.
      sizes: the (height, width) of each picture, if the pictures lie at the top left of `content`; the
        sides of `content` are then multiples of 4 px. None if the pictures fill `content`.

    Returns:
      The painted pictures, of the shape and dtype of `content`. With `sizes`, the values outside the
      pictures are arbitrary.
    """
    transformer = StyleTransformer(layers, precision_on(precision))
    variables = {"params": params.layers["transformer"]}
    if sizes is None:
        image: Any = transformer.apply(variables, content, conditions)
        return image

    def one(content: Array, conditions: Any, size: RealSize) -> Any:
        alone = jax.tree.map(lambda numbers: numbers[None], conditions)
        return transformer.apply(variables, content[None], alone, size)[0]

    found: Any = jax.vmap(one)(content, conditions, sizes)
    return found


def flattened(argument: str, images: Any) -> tuple[tuple[int, ...], Float[Array, "n h w 3"]]:
    """Check pictures, and combine the axes of their batch to a single axis.

    Args:
      argument: the caller's name for the pictures, shown in error messages.
      images: the pictures, [*batch, h, w, 3].

    Returns:
      The shape of the batch, and the pictures as [n, h, w, 3].

    Raises:
      TypeError: if `images` is not an array.
      ValueError: if `images` has another shape, a side under 16 px, or numbers that are not floating
        point.
    """
    _checks.array(argument, images, "the order is (params, pictures, condition)")
    _checks.image_shape(argument, images.shape, smallest=SMALLEST)
    _checks.floating(argument, images.dtype)
    flat = jnp.asarray(images).reshape(-1, *images.shape[-3:])
    return tuple(images.shape[:-3]), flat


def check_network(params: Any, path: str, loader: str, *, argument: str = "params") -> None:
    """Raise an error if weights are of another network than expected.

    Args:
      params: the weights.
      path: path of parameters that the expected network has, such as "conditions/contract1". Weights
        that lack them are refused.
      loader: name of the function of `nst_jax.feed_forward` that loads the right weights, for messages.
      argument: the caller's name for the weights, used in messages.

    Raises:
      TypeError: if `params` is not a `Params`.
      ValueError: if the weights have no parameters at `path`.
    """
    _checks.instance(argument, params, Params, f"`nst_jax.feed_forward.{loader}()` gives them")
    layers: Any = params.layers
    for name in path.split("/"):
        if name not in layers:
            raise ValueError(
                f"`{argument}`: these weights are of another network, of the family {params.family!r}; "
                f"`nst_jax.feed_forward.{loader}()` gives those that fit"
            )
        layers = layers[name]
