"""Style transfer from any style picture, by the small version of Magenta's arbitrary stylization.

    params = feed_forward.load_arbitrary()
    vector = feed_forward.style_vector(params, style)               # [100]
    image = feed_forward.stylize_with(params, content, vector)      # [h, w, 3]

There are two networks. The predictor, a MobileNet v2, maps a style picture to a style vector of 100
numbers. The transformer paints the content; the gammas and betas (scales and shifts) of its instance
norms are affine functions of the style vector. In this small version, the transformer has a quarter of
the channels of the original. Style vectors can be mixed: the mean of several vectors mixes their
styles, and `(1 - strength) * style_vector(params, content) + strength * vector` is how the authors
weaken a style.

The weights are the 8-bit codes that Magenta published, decoded to float32. Magenta's published networks
also round activations to 8 bits; the networks here do not. If onnxruntime runs the published networks
with decoded weights and without rounding activations, its results are those of the networks here, up to
1e-5. If it runs the networks as published, its style vector differs from the one here by 1.3 % of the
vector's length (L2 norm), and its picture by 0.035 on average, where black and white differ by 1. With
activations in bfloat16 instead of float32, the style vector here changes by 5 % of its length, and the
picture by 0.002. All this was measured on the sample picture chelsea at 384 x 384 px as the content and
starry_night at 256 x 256 px as the style, which are the sizes of the published networks; the record is
`tests/instant_golden.json`.

The functions are pure, and JAX can trace them. `jax.jit(..., static_argnames="precision")` compiles one
program for each combination of shapes, which serves all styles. A batch is pictures [n, h, w, 3] with
vectors [n, 100]; `jax.vmap` over both gives the same results.

In the `Params` that `load_arbitrary` returns, the field `layers` has the parameters of three Flax
modules by these names, as nested dictionaries of float32 arrays:

* `"predictor"` for `StylePredictor`: `{"stem": {"kernel", "bias"}, ..., "vector": {"kernel"}}`;
* `"conditions"` for `StyleConditions`: `{"residual1_1_gamma": {"kernel", "bias"}, ...}`;
* `"transformer"` for `StyleTransformer`: `{"contract1": {"kernel", "bias"}, ..., "residual1_1":
  {"kernel"}, ...}`, where a convolution before an instance norm has no bias.
"""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._files import PathLike
from nst_jax._real_size import as_counts, cut, sizes_of_array
from nst_jax._types import AnyImage, FeatureMap, Image, Params, RealSize
from nst_jax.feed_forward.layers import Convolution2D, NewFeatures
from nst_jax.feed_forward.transformer import (
    DIVISOR,
    SMALLEST,
    Conditions,
    TransformerLayer,
    check_network,
    flattened,
    kernel_shapes,
    painted,
    transformer_layers,
)
from nst_jax.losses import at_least_float32
from nst_jax.vgg.precision import AUTO, FLOAT32, AnyPrecision, Precision, precision_on
from nst_jax.weights.params import Architecture, load_params_of

VECTOR = 100  # number of entries of a style vector

# The convolutions of the transformer (the network that paints), from first to last: one at the size of
# the picture, two that shrink it, two in each residual block, two that enlarge the picture again, and
# the last one.
LAYERS = transformer_layers((8, 16, 32), (16, 8), blocks=5, contract_normed=False)

# (channels, stride) of each inverted residual block of the predictor, a MobileNet v2, except the first
# block. Each block has three convolutions: one of 1 x 1 px, whose output has `EXPANSION` times as many
# channels as the block's input; a depthwise one of 3 x 3 px with the stride `stride`; and one of
# 1 x 1 px, whose output has `channels` channels.
BLOCKS = (
    (24, 2), (24, 1), (32, 2), (32, 1), (32, 1), (64, 2), (64, 1), (64, 1), (64, 1), (96, 1), (96, 1),
    (96, 1), (160, 2), (160, 1), (160, 1), (320, 1),
)  # fmt: skip
EXPANSION = 6
# If a style picture lies at the top left of a larger array, the sides of the array must be multiples of
# this number of px. The predictor halves both sides five times, and each halving needs even sides.
PREDICTOR_DIVISOR = 32
# Channels of the predictor's first convolution, of its first block, and of its last convolution.
STEM, FIRST, HEAD = 32, 16, 1280


class StylePredictor(nn.Module):
    """The network that predicts style vectors [n, 100] from style pictures [n, h, w, 3] in [0, 1].

    It is a MobileNet v2, whose last features are averaged over all positions and mapped linearly to the
    style vector. Its batch norms are folded into the kernels and biases of its convolutions.

    If a call is given `size`, pictures of this (height, width) fill only the top left part of `style`,
    so that one compiled program serves pictures of many sizes. The sides of `style` are then multiples
    of 32 px, since the network halves both sides five times.

    Attributes:
      precision: precision of the convolutions' products and of the activations.
    """

    precision: Precision = FLOAT32

    @nn.compact
    def __call__(
        self, style: Float[Array, "n h w 3"], size: RealSize | None = None
    ) -> Float[Array, "n 100"]:
        x = style.astype(self.precision.activations_of(style.dtype))
        x = _relu6(self._convolved("stem", x, STEM, side=3, stride=2, size=size))
        size = _strided(size, 2)
        x = _relu6(self._convolved("block0_depthwise", x, STEM, side=3, depthwise=True, size=size))
        x = self._convolved("block0_project", x, FIRST)
        for number, (channels, stride) in enumerate(BLOCKS, 1):
            x = self._block(f"block{number}", x, channels, stride, size)
            size = _strided(size, stride)
        x = at_least_float32(_relu6(self._convolved("head", x, HEAD)))
        if size is None:
            mean = jnp.mean(x, axis=(1, 2))
        else:
            height, width = as_counts(size, x.dtype)
            mean = jnp.sum(cut(x, size), axis=(1, 2)) / (height * width)
        return nn.Dense(VECTOR, use_bias=False, precision=FLOAT32.products, name="vector")(mean)

    def _block(
        self, name: str, x: FeatureMap, channels: int, stride: int, size: RealSize | None
    ) -> NewFeatures:
        wide = EXPANSION * x.shape[-1]
        y = _relu6(self._convolved(f"{name}_expand", x, wide))
        options = {"side": 3, "stride": stride, "depthwise": True}
        y = _relu6(self._convolved(f"{name}_depthwise", y, wide, size=size, **options))
        y = self._convolved(f"{name}_project", y, channels)
        return x + y if stride == 1 and channels == x.shape[-1] else y

    def _convolved(
        self,
        name: str,
        x: FeatureMap,
        channels: int,
        *,
        side: int = 1,
        size: RealSize | None = None,
        **options: Any,
    ) -> NewFeatures:
        products = self.precision.products
        module = Convolution2D(
            channels, side, reflected=False, products=products, name=name, **options
        )
        return module(x, size)


def _strided(size: RealSize | None, stride: int) -> RealSize | None:
    """Return the (height, width) of features after a convolution with this stride; None stays None."""
    return None if size is None else (size + stride - 1) // stride


def _relu6(x: FeatureMap) -> FeatureMap:
    return jnp.clip(x, 0, 6)


class StyleConditions(nn.Module):
    """The affine functions that map style vectors [n, 100] to the transformer's gammas and betas.

    Gammas and betas are the scales and shifts of the transformer's instance norms. They determine the
    style in which it paints.
    """

    @nn.compact
    def __call__(self, vectors: Float[Array, "n 100"]) -> Conditions:
        def affine(layer: TransformerLayer, part: str) -> Array:
            name = f"{layer.name}_{part}"
            return nn.Dense(layer.channels, precision=FLOAT32.products, name=name)(vectors)

        return {
            layer.name: (affine(layer, "gamma"), affine(layer, "beta"))
            for layer in LAYERS
            if layer.normed
        }


# --- Weights --------------------------------------------------------------------------------------


def _shapes() -> tuple[dict[str, tuple[int, ...]], dict[str, tuple[int, ...]]]:
    """Return the shapes of all kernels and those of all biases, as two dictionaries by name."""
    kernels: dict[str, tuple[int, ...]] = {
        "stem": (3, 3, 3, STEM),
        "block0_depthwise": (3, 3, 1, STEM),
        "block0_project": (1, 1, STEM, FIRST),
    }
    inputs = FIRST
    for number, (channels, _) in enumerate(BLOCKS, 1):
        wide = EXPANSION * inputs
        kernels[f"block{number}_expand"] = (1, 1, inputs, wide)
        kernels[f"block{number}_depthwise"] = (3, 3, 1, wide)
        kernels[f"block{number}_project"] = (1, 1, wide, channels)
        inputs = channels
    kernels |= {"head": (1, 1, inputs, HEAD), "vector": (HEAD, VECTOR)}
    kernels = {f"predictor/{layer}": shape for layer, shape in kernels.items()}
    for layer in LAYERS:
        if layer.normed:
            for part in ("gamma", "beta"):
                kernels[f"conditions/{layer.name}_{part}"] = (VECTOR, layer.channels)
    biases = {f"{layer}/bias": shape[-1:] for layer, shape in kernels.items()}
    del biases["predictor/vector/bias"]
    transformer = kernel_shapes(LAYERS)
    for layer in LAYERS:
        if not layer.normed:
            biases[f"transformer/{layer.name}/bias"] = (layer.channels,)
    return kernels | transformer, biases


ARCHITECTURE = Architecture(
    "arbitrary",
    "arbitrary stylization",
    *_shapes(),
    if_unfit="get it again",
    embedded="arbitrary.h5",
    digest="ac97dcee94b3ad20c0d5a7ad528a90a1b9d5cde2c63371907d00643637e196df",
)


def load_arbitrary(path: PathLike | None = None) -> Params:
    """Read and verify the weights of the two networks, predictor and transformer.

    With these two networks, a content can be painted in the style of any picture.

    Args:
      path: a weights file of these networks, or None for the one that comes with the package.

    Returns:
      The weights; the docstring of the module `nst_jax.feed_forward.arbitrary` describes them.

    Raises:
      ValueError: if the file is missing or damaged, or is no weights file of these networks.

    Example:
      >>> params = load_arbitrary()
      >>> params.family, params.layers["predictor"]["vector"]["kernel"].shape
      ('magenta-arbitrary', (1280, 100))
    """
    return load_params_of(ARCHITECTURE, path)


# --- Pure functions -------------------------------------------------------------------------------


def style_vector(
    params: Params, style: AnyImage, *, precision: AnyPrecision = AUTO, size: Any = None
) -> Float[Array, "*batch 100"]:
    """Predict the style vector of a picture: 100 numbers that describe the style of the picture.

    The network that predicts them was trained on squares of 256 px. In a larger picture, it responds to
    finer detail, so resize a style picture to about this size first.

    Args:
      params: weights from `load_arbitrary`.
      style: [*batch, h, w, 3] sRGB in [0, 1], of any size from 16 px.
      precision: precision of products and activations; `AUTO` is float32 on a CPU and tensorfloat32
        on an accelerator. Static under `jax.jit`.
      size: (height, width) of the picture, [2] or [*batch, 2], if it fills only the top left part of
        `style`, whose sides are then multiples of 32 px. It is a value at runtime, so that pictures of
        many sizes share a program. None: the picture fills `style`.

    Returns:
      Style vectors [*batch, 100], in the dtype of `style`.

    Raises:
      TypeError: if `params` is not a `Params`, or if `style` is not an array.
      ValueError: if the weights are of another network; if `style` has another shape, a side under
        16 px, or numbers that are not floating point; or if `size` is given, and it is no (height,
        width) within `style`, or a side of `style` is not a multiple of 32 px.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> from nst_jax.feed_forward import load_arbitrary, style_vector
      >>> style = nst.images.sample("starry_night")[:64, :64]
      >>> jax.jit(style_vector)(load_arbitrary(), style).shape
      (100,)

    References:
      Ghiasi, Lee, Kudlur, Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural
      artistic stylization network", 2017; github.com/magenta/magenta, arbitrary_image_stylization.
    """
    check_network(params, "predictor", "load_arbitrary")
    batch, flat = flattened("style", style)
    predictor = StylePredictor(precision_on(precision))
    variables = {"params": params.layers["predictor"]}
    vectors: Any
    if size is None:
        vectors = predictor.apply(variables, flat)
    else:
        sizes = sizes_of_array(
            size, style.shape, PREDICTOR_DIVISOR, smallest=SMALLEST, argument="style"
        )

        def vector_of(picture: Array, real: RealSize) -> Any:
            return predictor.apply(variables, picture[None], real)[0]

        vectors = jax.vmap(vector_of)(flat, sizes)
    return vectors.reshape(*batch, VECTOR).astype(style.dtype)


def stylize_with(
    params: Params,
    content: AnyImage,
    vector: Float[Array | np.ndarray, "*batch 100"],
    *,
    precision: AnyPrecision = AUTO,
    size: Any = None,
) -> Image:
    """Paint pictures in the styles that style vectors describe, in one pass through the network.

    Args:
      params: weights from `load_arbitrary`.
      content: [*batch, h, w, 3] sRGB in [0, 1], of any size from 16 px.
      vector: style vectors [*batch, 100], from `style_vector`, or weighted means of several vectors.
      precision: precision of products and activations; `AUTO` is float32 on a CPU and tensorfloat32
        on an accelerator. Static under `jax.jit`.
      size: (height, width) of the picture, [2] or [*batch, 2], if it fills only the top left part of
        `content`, whose sides are then multiples of 4 px. It is a value at runtime, so that pictures of
        many sizes share a program. None: the picture fills `content`.

    Returns:
      Pictures in [0, 1], of the shape and dtype of `content`. If `size` is given, the values outside
      the picture are arbitrary.

    Raises:
      TypeError: if `params` is not a `Params`, or if `content` is not an array.
      ValueError: if the weights are of another network; if `content` has another shape, a side under
        16 px, or numbers that are not floating point; if there is not one vector for each picture; or
        if `size` is given, and it is no (height, width) within `content`, or a side of `content` is not
        a multiple of 4 px.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> from nst_jax.feed_forward import load_arbitrary, style_vector, stylize_with
      >>> params, vector_of = load_arbitrary(), jax.jit(style_vector)
      >>> content = nst.images.sample("chelsea")[:64, :64]
      >>> vector = vector_of(params, nst.images.sample("starry_night")[:64, :64])
      >>> weaker = 0.5 * vector_of(params, content) + 0.5 * vector
      >>> jax.jit(stylize_with)(params, content, weaker).shape
      (64, 64, 3)

    References:
      Ghiasi, Lee, Kudlur, Dumoulin, Shlens, "Exploring the structure of a real-time, arbitrary neural
      artistic stylization network", 2017; github.com/magenta/magenta, arbitrary_image_stylization.
    """
    check_network(params, "conditions/residual1_1_gamma", "load_arbitrary")
    batch, flat = flattened("content", content)
    _check_vectors(vector, batch)
    sizes = None
    if size is not None:
        sizes = sizes_of_array(size, content.shape, DIVISOR, smallest=SMALLEST)
    vectors = jnp.asarray(vector, at_least_float32(flat[:0]).dtype).reshape(-1, VECTOR)
    conditions = conditions_of_vectors(params, vectors)
    return painted(LAYERS, params, flat, conditions, precision, sizes).reshape(content.shape)


def conditions_of_vectors(params: Params, vectors: Float[Array, "n 100"]) -> Conditions:
    """Return the transformer's gammas and betas for n style vectors: two arrays [n, c] per norm."""
    conditions: Any = StyleConditions().apply({"params": params.layers["conditions"]}, vectors)
    return conditions


def _check_vectors(vector: Any, batch: tuple[int, ...]) -> None:
    expected = (*batch, VECTOR)
    if not hasattr(vector, "shape") or tuple(vector.shape) != expected:
        came = list(vector.shape) if hasattr(vector, "shape") else type(vector).__name__
        raise ValueError(
            f"`vector`: expected style vectors {list(expected)}, one for each picture, got {came}; "
            "`style_vector` makes one"
        )
