"""Convolution, ReLU, padding and pooling, as pure functions; some have gradient rules of their own.

A gradient rule is written by hand where that of automatic differentiation is slower, needs more memory,
or differs from torch's.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Bool, Float, UInt8

from nst_jax._types import FeatureMap, sum_dtype
from nst_jax.vgg import winograd
from nst_jax.vgg.precision import FLOAT32

# --- Convolution ----------------------------------------------------------------------------------

KERNEL, BIAS = "kernel", "bias"

# Names of the forms of a kernel: arrays that are computed from the kernel once and stored beside it.
# They are the transposed kernel, for the gradient, and both kernels transformed for Winograd
# convolution.
TRANSPOSED, WINOGRAD, WINOGRAD_TRANSPOSED = "transposed", "winograd", "winograd_transposed"

Forms: TypeAlias = Mapping[str, Array]  # name of a form -> the array


def _convolve(
    x: Float[Array, "n h w i"], kernel: Float[Array, "3 3 i o"], products: lax.Precision
) -> Float[Array, "n h w o"]:
    return lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=products,
    )


@jax.jit
def transpose(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "3 3 o i"]:
    """Return the kernel of the transposed convolution: flipped, with the two channel axes swapped."""
    return jnp.swapaxes(kernel[::-1, ::-1], 2, 3)


def conv3x3(
    x: Float[Array, "n h w i"],
    kernel: Float[Array, "3 3 i o"],
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Float[Array, "n h w o"]:
    """Convolve features with a 3 x 3 kernel, with zero padding 1 and stride 1.

    The gradient with respect to `x` is the same kind of convolution, with the transposed kernel, and is
    computed in this form. Automatic differentiation would write it as another expression, which XLA's
    CPU compiler does not recognise as a convolution inside a loop body, and which takes about three
    times as long.

    Args:
      x: the features, [n, h, w, i].
      kernel: the layer's weights, [3, 3, i, o].
      forms: the kernel transposed, and perhaps transformed for Winograd convolution, as
        `kernel_forms.with_forms` computes them once before a loop. If None or empty, this function
        computes the transposed kernel itself.
      products: the precision of products that the convolution requests from the device.

    Returns:
      [n, h, w, o]. It is computed by Winograd convolution if `forms` contains the kernel transformed
      for that, and `winograd.pays` says that this is faster for a layer of this size.
    """
    return _conv3x3(products, x, kernel, forms or {TRANSPOSED: transpose(kernel)})


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _conv3x3(products: lax.Precision, x: Array, kernel: Array, forms: Forms) -> Array:
    if WINOGRAD in forms and winograd.pays(*x.shape[1:3], *kernel.shape[2:]):
        return winograd.convolve(x, forms[WINOGRAD])
    return _convolve(x, kernel, products)


def _conv3x3_forward(
    products: lax.Precision, x: Array, kernel: Array, forms: Forms
) -> tuple[Array, tuple[Array, Array, Forms]]:
    return _conv3x3(products, x, kernel, forms), (x, kernel, forms)


def _conv3x3_backward(
    products: lax.Precision, saved: tuple[Array, Array, Forms], g: Array
) -> tuple[Array, Array, None]:
    x, kernel, forms = saved
    if WINOGRAD_TRANSPOSED in forms and winograd.pays(*g.shape[1:3], *kernel.shape[2:]):
        input_gradient = winograd.convolve(g, forms[WINOGRAD_TRANSPOSED])
    else:
        input_gradient = _convolve(g, forms[TRANSPOSED], products)
    _, weight_gradient = jax.vjp(lambda k: _convolve(x, k, products), kernel)
    # The transposed and transformed kernels in `forms` get no gradient: they are computed from
    # `kernel`, which already gets the whole gradient here.
    return input_gradient, weight_gradient(g)[0], None


_conv3x3.defvjp(_conv3x3_forward, _conv3x3_backward)


# --- ReLU -----------------------------------------------------------------------------------------

Signs: TypeAlias = Bool[Array, "n h w c"]

Bytes: TypeAlias = Bool[Array, "n h2 w2 c"] | UInt8[Array, "n h2 w2 c"]


@jax.custom_vjp
def relu(x: FeatureMap) -> FeatureMap:
    """Return max(x, 0), with a gradient that is computed from the result, and is 0 where x is 0.

    The gradient of `jax.nn.relu` reads x. So x would be kept for the backward pass, beside the result
    wherever a loss or a convolution needs the result, too. Here only the result is kept.
    """
    return jnp.maximum(x, 0)


def _relu_forward(x: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
    # Without the barrier, XLA would compute y from x again wherever y is read, and keep x for that.
    y = lax.optimization_barrier(relu(x))
    return y, y


def _relu_backward(y: FeatureMap, g: FeatureMap) -> tuple[FeatureMap]:
    return (jnp.where(y > 0, g, jnp.zeros_like(g)),)


relu.defvjp(_relu_forward, _relu_backward)


@jax.custom_vjp
def relu_by_signs(x: FeatureMap) -> FeatureMap:
    """Return max(x, 0), as `relu`, for a CPU and for results that no loss reads.

    For the gradient, one byte for each number is kept: whether it is positive.
    """
    return jnp.maximum(x, 0)


def _signs_forward(x: FeatureMap) -> tuple[FeatureMap, Signs]:
    return relu_by_signs(x), _stored(lambda part: part > 0, x)


def _signs_backward(positive: Signs, g: FeatureMap) -> tuple[FeatureMap]:
    return (jnp.where(positive, g, jnp.zeros_like(g)),)


relu_by_signs.defvjp(_signs_forward, _signs_backward)


def _stored(function: Callable[[FeatureMap], Bytes], x: FeatureMap, *, window: int = 1) -> Bytes:
    """Return `function(x)`, an array of bytes that XLA's CPU compiler keeps for the gradient.

    That compiler ignores barriers. Where the gradient reads a result that is cheap to compute, it
    computes the result again, and keeps `x` for that, which is larger. But it does not compute a loop
    again. So the result is computed in a loop, in two halves; those of an odd number of rows overlap.

    Args:
      function: the function. It also takes a part of the rows of `x`, and then returns its rows.
      x: features [n, h, w, c].
      window: the result has a row, and a column, for so many of `x`.
    """
    n, height, width, channels = x.shape
    rows = height // window
    half = -(-rows // 2)
    # To read a part of an array of 16-bit floats, the compiler would make a float32 copy of the whole.
    narrow = x.dtype.itemsize == 2
    bits = lax.bitcast_convert_type(x, jnp.uint16) if narrow else x

    def add_half(number: Array, found: Array) -> Array:
        start = number * (rows - half)
        part = lax.dynamic_slice_in_dim(bits, window * start, window * half, axis=1)
        part = lax.bitcast_convert_type(part, x.dtype) if narrow else part
        return lax.dynamic_update_slice_in_dim(found, function(part), start, axis=1)

    # All of `found` is overwritten. It depends on `x` so that it is made only when it is needed.
    kind = jax.eval_shape(function, x).dtype
    found = (bits[:, :1, :1] > 0).astype(kind)
    found = jnp.broadcast_to(found, (n, rows, width // window, channels))
    return lax.fori_loop(0, 2, add_half, found)


# --- Padding, pooling -----------------------------------------------------------------------------

PICTURE_CHANNELS = 3  # number of input channels, by which the first layer is recognised

Kernel: TypeAlias = Float[Array, "3 3 c o"]

Convolved: TypeAlias = Float[Array, "*batch h w o"]

Pooled: TypeAlias = Float[Array, "*batch h2 w2 c"]

# For each 2 x 2 window, the index (0 to 3 in reading order) of its first maximum, which gets the
# gradient of max pooling. The index is `_NO_WINNER` if a ReLU before the pooling leaves no positive
# value in the window.
Winners: TypeAlias = UInt8[Array, "*batch h2 w2 c"]

# A function that pads the features and convolves them. Its arguments are the features, the kernel,
# other forms of the kernel (such as the transposed one) or None, and the precision of products; see
# `conv3x3`.
Padding: TypeAlias = Callable[[FeatureMap, Kernel, Forms | None, lax.Precision], Convolved]

# A function of (features, `ceil`) that pools 2 x 2 windows. If `ceil` is True, the last row or column
# of an odd side is pooled by itself; if it is False, that row or column is dropped.
Pool: TypeAlias = Callable[[FeatureMap, bool], Pooled]


def zero_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve features with zeros beyond the border, as every published VGG-19 does.

    The arguments of this and of all other paddings are those of `conv3x3`.
    """
    return conv3x3(x, kernel, forms, products)


def replicate_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with the border pixels repeated once beyond the border; arguments as in `conv3x3`."""
    return _convolve_padded("edge", x, kernel, forms, products)


def replicate_first(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with border pixels repeated in the first layer, and with zeros in all other layers.

    The first layer usually reads pixels with the mean colour subtracted, in which 0 is a grey. There,
    zeros beyond the border would act like a grey frame around every picture, which shows in the result.
    The first layer is recognised by its three input channels. For the arguments, see `conv3x3`.
    """
    first = kernel.shape[2] == PICTURE_CHANNELS
    return (replicate_padded if first else zero_padded)(x, kernel, forms, products)


def reflect_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve features that are mirrored at their border pixels; see `conv3x3` for the arguments.

    If a side of `x` has only 1 px, which cannot be mirrored, border pixels are repeated at all borders.
    """
    # Each side is compared with 1 alone: `min(sides) > 1` would compare the sides with each other,
    # which fails for the symbolic sizes of `jax.export`.
    mode = "reflect" if all(side > 1 for side in x.shape[1:3]) else "edge"
    return _convolve_padded(mode, x, kernel, forms, products)


def wrap_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with circular padding: beyond each border, the features of the opposite border follow.

    If a picture is shifted cyclically, its features are shifted with it. This holds if the shift and
    both sides of the picture are multiples of 2^n px, where n is the number of poolings before the
    features. For the arguments, see `conv3x3`.
    """
    return _convolve_padded("wrap", x, kernel, forms, products)


def _convolve_padded(
    mode: str, x: FeatureMap, kernel: Kernel, forms: Forms | None, products: lax.Precision
) -> Convolved:
    # `conv3x3` is used so that its gradient rule serves all paddings. It pads with zeros once more,
    # which affects only the outermost ring of its result; that ring is cropped.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    return conv3x3(padded, kernel, forms, products)[:, 1:-1, 1:-1, :]


def _window_members(x: FeatureMap) -> tuple[Pooled, Pooled, Pooled, Pooled]:
    """Return four arrays: the first members (pixels) of all 2 x 2 windows, the second ones, and so on.

    The windows are those of pooling, and their members are in reading order. The sides of `x` must be
    even; the sides of the four arrays are half as long.
    """
    return x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]


# Value in `Winners` for a window in which no number is positive: the ReLU makes all four 0, so none of
# them gets a gradient.
_NO_WINNER = 4


def _winners(x: FeatureMap) -> tuple[Pooled, Winners]:
    """Return the maximum of each 2 x 2 window, and which of the window's positions has it.

    The four positions are numbered 0 to 3 in reading order; of equal maxima, the first counts.
    """
    a, b, c, d = _window_members(x)
    largest = jnp.maximum(jnp.maximum(a, b), jnp.maximum(c, d))
    index = jnp.full(largest.shape, 3, jnp.uint8)
    for number, member in ((2, c), (1, b), (0, a)):
        index = jnp.where(member == largest, jnp.uint8(number), index)
    return largest, index


def _to_winners(index: Winners, g: Pooled) -> FeatureMap:
    """Turn the gradient `g` for the result of max pooling into the gradient for its input.

    A window has 2 x 2 members, numbered 0 to 3. Its gradient goes to the member whose number is in
    `index`, or to none if `index` has `_NO_WINNER`; all other members get 0. Of equal maxima, the first
    gets the gradient, as in torch; automatic differentiation of `jnp.maximum` would divide it among
    them.
    """
    # The numbers of a window's members, for an array [n, h, 2, w, 2, c] whose axes of length 2 are the
    # rows and columns of a window.
    members = jnp.arange(4, dtype=jnp.uint8).reshape(1, 1, 2, 1, 2, 1)
    wins = index[:, :, None, :, None, :] == members
    spread = jnp.where(wins, g[:, :, None, :, None, :], jnp.zeros((), g.dtype))
    return _windows_joined(spread, g)


def _windows_joined(members: Float[Array, "n h2 2 w2 2 c"], pooled: Pooled) -> FeatureMap:
    """Return the members (pixels) of all windows as one picture, [n, 2 * h2, 2 * w2, c].

    `pooled`, [n, h2, w2, c], is distributed over devices as the result shall be. If the axes of the
    mesh are explicit, JAX must be told so. With other axes, the type of `pooled` does not say how it is
    distributed, and JAX finds the layout itself.
    """
    n, height, width, channels = pooled.shape
    sharding = jax.typeof(pooled).sharding
    explicit = AxisType.Explicit in sharding.mesh.axis_types
    shape = (n, 2 * height, 2 * width, channels)
    return lax.reshape(members, shape, out_sharding=sharding if explicit else None)


@jax.custom_vjp
def _max_of_windows(x: FeatureMap) -> Pooled:
    return _winners(x)[0]


def _max_forward(x: FeatureMap) -> tuple[Pooled, Winners]:
    # The barrier makes XLA keep the indices for the gradient, a byte for each window. Without it, XLA
    # would keep x, which is larger, and compute the indices again.
    return lax.optimization_barrier(_winners(x))


def _max_backward(index: Winners, g: Pooled) -> tuple[FeatureMap]:
    return (_to_winners(index, g),)


_max_of_windows.defvjp(_max_forward, _max_backward)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _max_of_positive(x: FeatureMap, on_cpu: bool) -> Pooled:
    return _winners(jnp.maximum(x, 0))[0]


def _positive_winners(x: FeatureMap) -> tuple[Pooled, Winners]:
    largest, index = _winners(jnp.maximum(x, 0))
    return largest, jnp.where(largest > 0, index, jnp.uint8(_NO_WINNER))


def _positive_forward(x: FeatureMap, on_cpu: bool) -> tuple[Pooled, Winners]:
    if on_cpu:
        index = _stored(lambda part: _positive_winners(part)[1], x, window=2)
        return _max_of_positive(x, on_cpu), index
    return lax.optimization_barrier(_positive_winners(x))


def _positive_backward(on_cpu: bool, index: Winners, g: Pooled) -> tuple[FeatureMap]:
    return (_to_winners(index, g),)


_max_of_positive.defvjp(_positive_forward, _positive_backward)


def _fit_to_windows(x: FeatureMap, ceil: bool, fill: float) -> Pooled:
    """Make odd sides even: crop the last row or column, or with `ceil` add one filled with `fill`."""
    height, width = x.shape[1:3]
    # The new sides are written as products with 2, since sides may be symbolic (see `jax.export`): JAX
    # knows that `height // 2 * 2` is even, but not that `height - height % 2` is.
    if ceil:
        missing = [(side + 1) // 2 * 2 - side for side in (height, width)]
        edges = ((0, 0), (0, missing[0]), (0, missing[1]), (0, 0))
        return jnp.pad(x, edges, constant_values=fill)
    return x[:, : height // 2 * 2, : width // 2 * 2]


def max_pool(x: FeatureMap, ceil: bool) -> Pooled:
    """Return the maximum of each 2 x 2 window; a window's gradient goes to the first of its maxima."""
    return _max_of_windows(_fit_to_windows(x, ceil, -jnp.inf))


def pool_relu(x: FeatureMap, pool: Pool, ceil: bool, *, on_cpu: bool = False) -> Pooled:
    """Return `pool(relu(x), ceil)`, for layers at which only the pooling reads the ReLU's result.

    With `max_pool`, the gradient rule stores one byte for each window, and not the ReLU's result. A
    program for a CPU needs `on_cpu` for that; see `_stored`.
    """
    if pool is max_pool:
        return _max_of_positive(_fit_to_windows(x, ceil, -jnp.inf), on_cpu)
    return pool(relu(x), ceil)


def average_pool(x: FeatureMap, ceil: bool) -> Pooled:
    """Return the mean of each 2 x 2 window.

    With `ceil`, a border window may have fewer than four pixels; the mean is taken over those it has.
    """
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return _sum_of_windows(x, ceil) / _sum_of_windows(ones, ceil)


def _sum_of_windows(x: FeatureMap, ceil: bool) -> Pooled:
    a, b, c, d = _window_members(_fit_to_windows(x, ceil, 0.0))
    return a + b + c + d


# crowsonkb's style-transfer-pytorch multiplies the results of average pooling by `AVERAGE_SCALE`, and
# the results of L2 pooling by `L2_SCALE`. This makes activations about as large as after max pooling,
# with which the network was trained.
AVERAGE_SCALE, L2_SCALE = 2.0, 0.78


def scaled_average_pool(x: FeatureMap, ceil: bool) -> Pooled:
    """Return twice the mean of each 2 x 2 window, which is about its maximum if `x` is from a ReLU."""
    return average_pool(x, ceil) * jnp.asarray(AVERAGE_SCALE, x.dtype)


def l2_pool(x: FeatureMap, ceil: bool) -> Pooled:
    """Return 0.78 times the L2 norm of each 2 x 2 window; the gradient of a window of zeros is 0.

    With `ceil`, a border window may have fewer than four pixels. The mean square of the pixels that it
    has, times four, then takes the place of the sum of squares, as in torch's `LPPool2d`.
    """
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    norm = _norm_of_windows(_fit_to_windows(x, ceil, 0.0))
    if not ceil:
        return norm
    return norm * jnp.sqrt(4 / _sum_of_windows(ones, ceil))


@jax.custom_vjp
def _norm_of_windows(x: FeatureMap) -> Pooled:
    # Squares are summed in float32 at least: in float16, squares of large activations would overflow.
    a, b, c, d = (jnp.square(member.astype(sum_dtype(x.dtype))) for member in _window_members(x))
    return (L2_SCALE * jnp.sqrt(a + b + c + d)).astype(x.dtype)


def _norm_forward(x: FeatureMap) -> tuple[Pooled, FeatureMap]:
    return _norm_of_windows(x), x


def _norm_backward(x: FeatureMap, g: Pooled) -> tuple[FeatureMap]:
    """Return the gradient with respect to x: g * x * L2_SCALE / norm in each window.

    Here, g is the gradient with respect to the pooled result. The norm is computed again from x, which
    stays in memory anyway for the gradient of the ReLU. Automatic differentiation would divide 0 by 0
    in windows of zeros, which are common after a ReLU.
    """
    norm = jnp.sqrt(
        sum(jnp.square(member.astype(sum_dtype(x.dtype))) for member in _window_members(x))
    )
    factor = L2_SCALE * g.astype(norm.dtype) / jnp.where(norm > 0, norm, 1)
    n, height, width, channels = g.shape
    members = jnp.broadcast_to(factor[:, :, None, :, None, :], (n, height, 2, width, 2, channels))
    spread = _windows_joined(members, factor)
    return ((x.astype(norm.dtype) * spread).astype(x.dtype),)


_norm_of_windows.defvjp(_norm_forward, _norm_backward)


# Poolings and paddings by the names that recipe files use for them.
POOLS = {
    "max": max_pool,
    "average": average_pool,
    "scaled_average": scaled_average_pool,
    "l2": l2_pool,
}

PADDINGS = {
    "zero": zero_padded,
    "replicate": replicate_padded,
    "replicate_first": replicate_first,
    "reflect": reflect_padded,
    "wrap": wrap_padded,
}
