"""The feed-forward network `arbitrary`, which paints in the style of any picture, in NumPy.

This module is for the first picture of a process. JAX compiles a network for seconds before it can
paint with it for the first time. NumPy compiles nothing, and at the size of a preview it needs only
tenths of a second. At larger sizes, and from the second picture on, the compiled network of
`feed_forward.arbitrary` is faster.

NumPy and JAX paint the same pictures, up to rounding: values from 0 to 1 differ by at most 1e-5. The
tables of layers are imported from `feed_forward.arbitrary`. Features are stored as [c, h, w],
since NumPy is fast along long rows.
"""

from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float
from numpy.lib.stride_tricks import sliding_window_view

from nst_jax._types import HostImage, Params
from nst_jax.feed_forward.arbitrary import ARCHITECTURE, BLOCKS, LAYERS
from nst_jax.feed_forward.layers import EPSILON
from nst_jax.feed_forward.transformer import DIVISOR, TransformerLayer
from nst_jax.vgg.layers.convolution import BIAS, KERNEL
from nst_jax.weights.params import load_params_of

Planes: TypeAlias = Float[np.ndarray, "_ _ _"]  # [c, h, w], features of one picture
Kernel: TypeAlias = Float[np.ndarray, "kh kw i o"]


# Products of matrices are computed in blocks of at most this many multiplications, or of one column if
# a column takes more. OpenBLAS divides larger products among threads that wait for each other in busy
# loops. If the cores have other work, this takes several times the processor time of one thread.
BLOCK = 2**18


def load_arbitrary_on_host() -> Params:
    """Read and verify the weights of `arbitrary` in the package, as NumPy arrays, without using JAX."""
    return load_params_of(ARCHITECTURE, on_host=True)


# --- The style predictor and the transformer ------------------------------------------------------


def style_vector_on_host(params: Params, style: HostImage) -> Float[np.ndarray, "100"]:
    """Predict the style vector of a picture: 100 numbers that describe the style of the picture.

    `arbitrary.style_vector` does the same with JAX.

    Args:
      params: weights from `load_arbitrary_on_host`.
      style: [h, w, 3] in [0, 1], of any size from 16 px.

    Example:
      >>> import nst_jax as nst
      >>> style = nst.images.sample("starry_night")[:64, :64]
      >>> style_vector_on_host(load_arbitrary_on_host(), style).shape
      (100,)
    """
    layers = params.layers["predictor"]
    x = _relu6(_with_zeros(layers["stem"], _planes(style), stride=2))
    x = _relu6(_depthwise(layers["block0_depthwise"], x))
    x = _pointwise(layers["block0_project"], x)
    for number, (channels, stride) in enumerate(BLOCKS, 1):
        y = _relu6(_pointwise(layers[f"block{number}_expand"], x))
        y = _relu6(_depthwise(layers[f"block{number}_depthwise"], y, stride))
        y = _pointwise(layers[f"block{number}_project"], y)
        x = x + y if stride == 1 and channels == len(x) else y
    mean = _relu6(_pointwise(layers["head"], x)).mean(axis=(1, 2))
    vector: np.ndarray = mean @ layers["vector"][KERNEL]
    return vector


def stylize_on_host(
    params: Params, content: HostImage, vector: Float[np.ndarray, "100"]
) -> HostImage:
    """Paint a picture in the style that a style vector describes, as `arbitrary.stylize_with` does.

    Args:
      params: weights from `load_arbitrary_on_host`.
      content: [h, w, 3] in [0, 1], of any size from 16 px.
      vector: the style vector, from `style_vector_on_host`, or a weighted mean of several.

    Returns:
      The picture, of the size of the content, in [0, 1].

    Example:
      >>> import nst_jax as nst
      >>> params = load_arbitrary_on_host()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> vector = style_vector_on_host(params, style[:64, :64])
      >>> stylize_on_host(params, content[:64, :62], vector).shape
      (64, 62, 3)
    """
    height, width = content.shape[:2]
    x = _planes(content)
    x = np.pad(x, ((0, 0), (0, -height % DIVISOR), (0, -width % DIVISOR)), mode="reflect")
    before = x
    for layer in LAYERS:
        before = x if layer.begins else before
        x = _activated(layer, _layer(params, layer, x, vector), before)
    return np.ascontiguousarray(np.moveaxis(x[:, :height, :width], 0, -1))


def _layer(params: Params, layer: TransformerLayer, x: Planes, vector: np.ndarray) -> Planes:
    """Return a layer's features before the activation: after upsampling, convolution and instance norm.

    Some layers have no upsampling or no norm. `x` is the input of the layer. The gamma and beta of the
    norm are affine functions of the style vector, `vector`.
    """
    weights, conditions = params.layers["transformer"][layer.name], params.layers["conditions"]
    if layer.upsampled:
        x = x.repeat(2, axis=1).repeat(2, axis=2)
    margin = layer.size // 2
    x = np.pad(x, ((0, 0), (margin, margin), (margin, margin)), mode="reflect")
    y = _convolved(x, weights[KERNEL], layer.stride)
    if not layer.normed:
        return y + weights[BIAS][:, None, None]
    gamma, beta = (
        vector @ affine[KERNEL] + affine[BIAS]
        for affine in (conditions[f"{layer.name}_{part}"] for part in ("gamma", "beta"))
    )
    y -= y.mean(axis=(1, 2), keepdims=True)
    variance = np.square(y).mean(axis=(1, 2))
    y *= (gamma / np.sqrt(variance + np.float32(EPSILON)))[:, None, None]
    y += beta[:, None, None]
    return y


def _activated(layer: TransformerLayer, y: Planes, before: Planes) -> Planes:
    """Return the output of a layer: its features `y`, after convolution and norm, are activated.

    The final layer has a sigmoid, all others a ReLU, except a layer that ends a residual block. Such a
    layer has no activation; `before`, the input of the block, is added instead. `y` may be overwritten.
    """
    if layer.final:
        # The sigmoid of y, computed by `tanh`, since `exp(-y)` would overflow for large negative y.
        half: Planes = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * y)
        return half
    return before + y if layer.ends else np.maximum(y, 0, out=y)


# --- Layers ---------------------------------------------------------------------------------------


def _planes(picture: HostImage) -> Planes:
    return np.ascontiguousarray(np.moveaxis(np.asarray(picture, np.float32), -1, 0))


def _relu6(x: Planes) -> Planes:
    return np.clip(x, 0, 6, out=x)


def _pointwise(weights: Any, x: Planes) -> Planes:
    """Convolve with a kernel of 1 x 1 px, and add a bias."""
    y = _product(weights[KERNEL][0, 0].T, x.reshape(len(x), -1)).reshape(-1, *x.shape[1:])
    y += weights[BIAS][:, None, None]
    return y


def _with_zeros(weights: Any, x: Planes, *, stride: int) -> Planes:
    """Compute a convolution with TensorFlow's zero padding `SAME`, and add a bias."""
    y = _convolved(_padded_same(x, len(weights[KERNEL]), stride), weights[KERNEL], stride)
    return y + weights[BIAS][:, None, None]


def _depthwise(weights: Any, x: Planes, stride: int = 1) -> Planes:
    """Compute a depthwise convolution with TensorFlow's zero padding `SAME`, and add a bias."""
    kernel = weights[KERNEL][:, :, 0]
    height, width = (-(-side // stride) for side in x.shape[1:])
    padded = _padded_same(x, len(kernel), stride)
    y = np.empty((len(x), height, width), np.float32)
    y[:] = weights[BIAS][:, None, None]
    product = np.empty_like(y)
    for row, factors in enumerate(kernel):
        for column, factor in enumerate(factors):
            rows = slice(row, row + stride * (height - 1) + 1, stride)
            columns = slice(column, column + stride * (width - 1) + 1, stride)
            y += np.multiply(padded[:, rows, columns], factor[:, None, None], out=product)
    return y


def _padded_same(x: Planes, side: int, stride: int) -> Planes:
    """Add the zeros of TensorFlow's padding `SAME` for a kernel of `side` x `side` px."""
    margins = [(0, 0)]
    for size in x.shape[1:]:
        zeros = max(0, stride * (-(-size // stride) - 1) + side - size)
        margins.append((zeros // 2, zeros - zeros // 2))
    return np.pad(x, margins)


def _convolved(x: Planes, kernel: Kernel, stride: int) -> Planes:
    """Convolve features with a kernel, without padding.

    One matrix product computes what each row of the kernel contributes to the result; the contributions
    are then added. So the features are copied only once for each column of the kernel, not once for
    each of its pixels.
    """
    side, _, inputs, outputs = kernel.shape
    height, width = ((size - side) // stride + 1 for size in x.shape[1:])
    # [inputs, rows of `x`, width, side]
    windows = sliding_window_view(x, side, axis=2)[:, :, ::stride]
    columns = np.ascontiguousarray(np.moveaxis(windows, -1, 1)).reshape(inputs * side, -1)
    factors = kernel.transpose(0, 3, 2, 1).reshape(side * outputs, inputs * side)
    rows = _product(factors, columns).reshape(side, outputs, x.shape[1], width)
    last = stride * (height - 1) + 1
    y = rows[0][:, :last:stride].copy()
    for row in range(1, side):
        y += rows[row][:, row : row + last : stride]
    return y


def _product(
    left: Float[np.ndarray, "m k"], right: Float[np.ndarray, "k n"]
) -> Float[np.ndarray, "m n"]:
    """Return `left @ right`, computed in blocks of columns.

    The blocks are so small that OpenBLAS does not divide them among threads that wait for each other.
    """
    rows, inner = left.shape
    count, size = right.shape[1], max(1, BLOCK // (rows * inner))
    blocks = count // size
    whole, found = blocks * size, np.empty((rows, count), np.float32)
    left = np.ascontiguousarray(left)
    np.matmul(
        left,
        right[:, :whole].reshape(inner, blocks, size).swapaxes(0, 1),
        out=found[:, :whole].reshape(rows, blocks, size).swapaxes(0, 1),
    )
    np.matmul(left, right[:, whole:], out=found[:, whole:])
    return found
