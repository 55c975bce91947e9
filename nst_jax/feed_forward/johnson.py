"""The network that `nst_jax.train` trains: that of Johnson et al. 2016, for several styles.

One network paints in all styles that it was trained on. All styles share the convolutions, but after
each convolution an instance norm has its own scale (gamma) and shift (beta) for each style. In a
mixture of styles, the gammas and betas of the styles are mixed (Dumoulin et al. 2017).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import divided_size, sizes_of_array
from nst_jax._types import FeatureMap, Image, RealSize
from nst_jax.feed_forward.layers import (
    Convolution2D,
    NewFeatures,
    cropped,
    normed,
    reflect_sized_to_multiple,
    reflect_to_multiple,
    upsample,
)
from nst_jax.feed_forward.transformer import TransformerLayers, transformer_layers
from nst_jax.vgg.layers.convolution import KERNEL
from nst_jax.vgg.layers.relus import relu
from nst_jax.vgg.precision import FLOAT32, AnyPrecision, Precision, precision_on

# Numbers of channels of the features that have the full, half and a quarter of the picture's height and
# width. All can be multiplied by a factor, the argument `width` of `fresh_params`.
CHANNELS = (32, 64, 128)
BLOCKS = 5  # default number of residual blocks, all at a quarter of the picture's height and width
DIVISOR = 4  # the network halves both sides twice, so pictures are padded to a multiple of 4 px
SMALLEST = 16  # least number of px that each side of a picture must have

Shares = Float[Array, "*#batch styles"]  # weight of each style in a mixture; their sum is 1


# Name of a layer or residual block of the network `Johnson` -> its parameters.
LayerParams: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class StyleNetwork:
    """A trained network: its parameters, and the names of its styles.

    Compiled functions get only `params`, so networks that differ only in `styles` share a program.

    Attributes:
      params: parameters of `Johnson`: name of a layer or residual block -> its parameters. A layer has
        `{"conv": {"kernel"}, "gamma", "beta"}`, where gamma and beta are [styles, channels]. A residual
        block has two such layers, `{"first", "second"}`.
      styles: names of the styles, in the order of the rows of `gamma` and `beta`.
    """

    params: LayerParams
    styles: tuple[str, ...]


# --- The module -----------------------------------------------------------------------------------

# Names in the dictionary of parameters: `ENCODER` are the layers before the residual blocks, `DECODER`
# those after them. `GAMMA` and `BETA` are the scale and shift of an instance norm.
ENCODER = ("encode1", "encode2", "encode3")
DECODER = ("decode1", "decode2", "decode3")
GAMMA, BETA = "gamma", "beta"
BLOCK = "block"  # residual blocks are named "block1", "block2" and so on


class StyledConvolution(nn.Module):
    """A convolution, followed by instance norm with the scale and shift of a mixture of styles.

    The convolution has no bias, since the norm would subtract it again. The argument `size` of a call
    is not the attribute `size`. It is the (height, width) of features that lie at the top left of a
    larger array `x`; None means that the features fill `x`.

    Attributes:
      channels: number of channels of the result.
      size: side of the kernel in px, odd.
      stride: px from the start of one window to the start of the next.
      products: the precision with which the device shall compute products.
    """

    channels: int
    size: int = 3
    stride: int = 1
    products: lax.Precision = FLOAT32.products

    @nn.compact
    def __call__(self, x: FeatureMap, shares: Shares, size: RealSize | None = None) -> NewFeatures:
        y = Convolution2D(
            self.channels,
            self.size,
            self.stride,
            use_bias=False,
            products=self.products,
            name="conv",
        )(x, size)
        size = None if size is None else divided_size(size, self.stride)
        table = (shares.shape[-1], self.channels)
        gamma = self.param(GAMMA, nn.initializers.ones_init(), table)
        beta = self.param(BETA, nn.initializers.zeros_init(), table)
        return normed(y, _mixed(shares, gamma), _mixed(shares, beta), size)


def _mixed(shares: Shares, table: Float[Array, "styles c"]) -> Array:
    return jnp.matmul(shares, table, precision=lax.Precision.HIGHEST)


class Residual(nn.Module):
    """A residual block: two convolutions with norms, whose result is added to the block's input.

    Attributes:
      products: the precision with which the device shall compute products.
    """

    products: lax.Precision = FLOAT32.products

    @nn.compact
    def __call__(self, x: FeatureMap, shares: Shares, size: RealSize | None = None) -> FeatureMap:
        channels = x.shape[-1]
        first = StyledConvolution(channels, products=self.products, name="first")
        second = StyledConvolution(channels, products=self.products, name="second")
        return x + second(relu(first(x, shares, size)), shares, size)


class Johnson(nn.Module):
    """The network that paints: three convolutions, residual blocks, and three further convolutions.

    A call takes pictures in [0, 1] and the weights of the styles, and returns pictures of the same
    shape in [0, 1]. Sides must be multiples of 4 px. If pictures lie at the top left of larger arrays,
    `size` is their (height, width); both numbers must be multiples of 4 px as well.

    The network is that of Johnson et al. 2016, with changes that are taken from Dumoulin et al. 2017.
    Borders are mirrored. Sides are doubled by repeating pixels before a convolution, since Johnson's
    transposed convolutions leave a chequered pattern. Norms take their statistics from each picture
    instead of a batch. There is a norm after the last convolution, too, and a sigmoid maps its result
    to [0, 1].

    Attributes:
      styles: number of styles.
      channels: numbers of channels of the features that have the full, half and a quarter of the
        picture's height and width.
      blocks: number of residual blocks.
      precision: precision of products, and dtype of activations; norms are computed in float32.

    References:
      Johnson, Alahi, Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution",
      2016; Dumoulin, Shlens, Kudlur, "A Learned Representation for Artistic Style", 2017.
    """

    styles: int
    channels: tuple[int, int, int] = CHANNELS
    blocks: int = BLOCKS
    precision: Precision = FLOAT32

    @nn.compact
    def __call__(self, images: Image, shares: Shares, size: RealSize | None = None) -> NewFeatures:
        wide, middle, deep = self.channels
        products = self.precision.products

        def layer(name: str, x: Array, channels: int, **settings: Any) -> Array:
            found = StyledConvolution(channels, products=products, name=name, **settings)
            return found(x, shares, size_of(x))

        def size_of(x: Array) -> RealSize | None:
            """Return the (height, width) of the picture's features in `x`; None if they fill `x`."""
            return None if size is None else size // (images.shape[-3] // x.shape[-3])

        x = images.astype(self.precision.activations_of(images.dtype))
        x = relu(layer(ENCODER[0], x, wide, size=9))
        x = relu(layer(ENCODER[1], x, middle, stride=2))
        x = relu(layer(ENCODER[2], x, deep, stride=2))
        for number in range(1, self.blocks + 1):
            x = Residual(products, name=f"{BLOCK}{number}")(x, shares, size_of(x))
        x = relu(layer(DECODER[0], upsample(x), middle))
        x = relu(layer(DECODER[1], upsample(x), wide))
        x = layer(DECODER[2], x, 3, size=9)
        return nn.sigmoid(x.astype(images.dtype))


# --- Functions of the weights ---------------------------------------------------------------------


def fresh_params(
    key: Array, styles: int, *, width: float = 1.0, blocks: int = BLOCKS
) -> LayerParams:
    """Draw the random parameters from which a training starts.

    Args:
      key: a JAX random key.
      styles: number of styles.
      width: factor by which the numbers of channels of Johnson's network are multiplied. The number of
        parameters grows with the square of this factor.
      blocks: number of residual blocks.

    Returns:
      Parameters of `Johnson`, float32.

    Raises:
      TypeError: if `width` is not a number, or if `styles` or `blocks` is not a whole number.
      ValueError: if `width` is not above 0, or if `styles` or `blocks` is under 1.

    Example:
      >>> import jax
      >>> fresh_params(jax.random.key(0), 1, width=0.25)["encode3"]["conv"]["kernel"].shape
      (3, 3, 16, 32)
    """
    _checks.whole("styles", styles, least=1)
    _checks.number("width", width, above=0)
    _checks.whole("blocks", blocks, least=1)
    wide, middle, deep = (max(1, round(width * count)) for count in CHANNELS)
    shapes = _shapes(Johnson(styles, (wide, middle, deep), blocks))
    # All random numbers are drawn by a single call, since a program that calls the random generator
    # once for each layer takes half a minute to compile.
    leaves = jax.tree_util.tree_leaves_with_path(shapes)
    kernels = [leaf.size for path, leaf in leaves if path[-1].key == KERNEL]
    numbers = jnp.split(
        jax.random.normal(key, (sum(kernels),), jnp.float32), np.cumsum(kernels)[:-1]
    )
    draw = iter(numbers)

    def fresh(path: Any, shape: jax.ShapeDtypeStruct) -> Array:
        if path[-1].key != KERNEL:
            return jnp.full(shape.shape, path[-1].key == GAMMA, shape.dtype)
        inputs = math.prod(shape.shape[:-1])
        # The numbers are normally distributed, with the standard deviation sqrt(2 / inputs) of He et
        # al. 2015, "Delving Deep into Rectifiers", for layers before a ReLU.
        return next(draw).reshape(shape.shape) * math.sqrt(2 / inputs)

    return jax.tree_util.tree_map_with_path(fresh, shapes)


def module_of(params: LayerParams) -> Johnson:
    """Return the Flax module `Johnson` that has the given parameters.

    Its numbers of styles, channels and residual blocks are found from `params`.
    """
    styles, _ = params[ENCODER[0]][GAMMA].shape
    wide, middle, deep = (params[name][GAMMA].shape[-1] for name in ENCODER)
    blocks = sum(name.startswith(BLOCK) for name in params)
    return Johnson(styles, (wide, middle, deep), blocks)


def layer_table_of(params: LayerParams) -> TransformerLayers:
    """Return a table of the network's layers, by which its memory is estimated.

    The table is made as that of one of Magenta's networks, which have layers of the same kinds in the
    same order. Only the names of the layers differ from those in `params`.

    Example:
      >>> import jax
      >>> [layer.channels for layer in layer_table_of(fresh_params(jax.random.key(0), 1, blocks=1))]
      [32, 64, 128, 128, 128, 64, 32, 3]
    """
    module = module_of(params)
    wide, middle, _ = module.channels
    return transformer_layers(
        module.channels, (middle, wide), blocks=module.blocks, contract_normed=True
    )


def expected_shapes(params: LayerParams) -> Any:
    """Return the shapes and dtypes that parameters should have, for comparison with those of a file.

    Args:
      params: the parameters in the file, some of which may be wrong. `module_of` finds the network's
        numbers of styles, channels and residual blocks from them.

    Returns:
      The right parameters of this network, with a `jax.ShapeDtypeStruct` in place of each array.
    """
    return _shapes(module_of(params))


def _shapes(module: Johnson) -> Any:
    image = jnp.zeros((SMALLEST, SMALLEST, 3))
    found = jax.eval_shape(
        lambda: module.init(jax.random.key(0), image, jnp.ones(module.styles))["params"]
    )
    # With `jax_enable_x64`, Flax's initializers make float64.
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float32), found)


def stylize_trained(
    params: LayerParams,
    content: Image,
    shares: Any = None,
    *,
    precision: AnyPrecision = FLOAT32,
    size: Any = None,
) -> Float[Array, "*pictures h w 3"]:
    """Paint pictures in the styles of a trained network, in one pass.

    JAX can trace and differentiate this function.

    Args:
      params: parameters of a network: the field `params` of a `StyleNetwork`, which `nst_jax.train` and
        `load_network` return.
      content: [*batch, h, w, 3] in [0, 1], of any size from 16 px. Sides that are not multiples of 4 px
        are extended by mirroring, and the result is cropped to the original size.
      shares: weights of the styles in a mixture, [styles] if they are the same for all pictures, else
        [*batch, styles]. If `content` is one picture and `shares` has several rows, the picture is
        painted once for each row, and the result is a batch. The weights of a mixture are divided by
        their sum, which must be positive. None means equal weights.
      precision: precision of products, and dtype of activations; `AUTO` is float32 on a CPU and
        tensorfloat32 on an accelerator. Static under `jax.jit`.
      size: (height, width) of the picture, [2] or [*batch, 2], if it fills only the top left part of
        `content`; the sides of `content` must then be multiples of 4 px. None if the picture fills all
        of `content`.

    Returns:
      [*batch, h, w, 3] in [0, 1], in the dtype of `content`. If `size` is given, the values outside the
      picture are arbitrary.

    Raises:
      TypeError: if `content` is not an array, or if `params` is a whole `StyleNetwork`.
      ValueError: if `content` is not a picture of floating point numbers, or has a side under 16 px; if
        the shape of `shares` does not fit the number of styles or the batch; if `size` is no (height,
        width) within `content`; or if, with `size`, a side of `content` is not a multiple of 4 px.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> params = fresh_params(jax.random.key(0), 2, width=0.25)
      >>> stylize_trained(params, jnp.full((30, 41, 3), 0.5), jnp.array([0.7, 0.3])).shape
      (30, 41, 3)
    """
    if isinstance(params, StyleNetwork):
        raise TypeError(
            "`params`: expected parameters of a network, got a StyleNetwork; give its field `params`"
        )
    _checks.array("content", content, "the order is stylize_trained(params, content, shares)")
    _checks.image_shape("content", content.shape, smallest=SMALLEST)
    _checks.floating("content", content.dtype)
    module = module_of(params).clone(precision=precision_on(precision))
    count = module.styles
    weights = jnp.ones(count, jnp.float32) if shares is None else jnp.asarray(shares, jnp.float32)
    if weights.ndim == 0 or weights.shape[-1] != count:
        raise ValueError(
            f"`shares`: expected {count}, one for each style of the network, got shape "
            f"{list(weights.shape)}"
        )
    weights = weights / jnp.sum(weights, axis=-1, keepdims=True)
    if weights.ndim > 1:
        content = _for_each_mixture(content, weights)
    height, width = content.shape[-3:-1]
    if size is not None:
        return _stylized_in_arrays(module, params, content, weights, size)
    padded = reflect_to_multiple(content, DIVISOR)
    found: Any = module.apply({"params": params}, padded, weights)
    return cropped(found, height, width)


def _for_each_mixture(
    content: Image, shares: Float[Array, "*rows styles"]
) -> Float[Array, "*pictures h w 3"]:
    """Repeat the content so that there is a picture for each mixture of styles, a row of `shares`.

    If `content` is a batch already, its leading axes are broadcast against those of `shares`.
    """
    batch, rows = content.shape[:-3], shares.shape[:-1]
    try:
        pictures = jnp.broadcast_shapes(batch, rows)
    except ValueError:
        raise ValueError(
            f"`shares`: expected those of each picture, {[*batch, shares.shape[-1]]}, got shape "
            f"{list(shares.shape)}; give one row of shares for each picture"
        ) from None
    return jnp.broadcast_to(content, (*pictures, *content.shape[-3:]))


def _stylized_in_arrays(
    module: Johnson, params: LayerParams, content: Image, weights: Shares, size: Any
) -> Image:
    """Paint as `stylize_trained` does, for pictures that lie at the top left of larger arrays.

    `content` is these arrays, [*batch, h, w, 3]; `size` is the (height, width) of the pictures, [2] or
    [*batch, 2].
    """
    batch = content.shape[:-3]
    flat = jnp.asarray(content).reshape(-1, *content.shape[-3:])
    sizes = sizes_of_array(size, content.shape, DIVISOR, smallest=SMALLEST)
    rows = jnp.broadcast_to(weights, (*batch, module.styles)).reshape(len(flat), -1)

    def one(content: Array, shares: Array, size: RealSize) -> Any:
        wide, size = reflect_sized_to_multiple(content, DIVISOR, size)
        return module.apply({"params": params}, wide, shares, size)

    return jax.vmap(one)(flat, rows, sizes).reshape(content.shape)
