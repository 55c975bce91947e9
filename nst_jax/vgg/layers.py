"""Convolution, ReLU, padding and pooling, as pure functions; some have gradient rules of their own.

A gradient rule is written by hand where that of automatic differentiation is slower, needs more memory,
or differs from torch's.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Bool, Float, Shaped, UInt8

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
    return _relu_and_signs(x)


def _signs_backward(positive: Signs, g: FeatureMap) -> tuple[FeatureMap]:
    return (jnp.where(positive, g, jnp.zeros_like(g)),)


relu_by_signs.defvjp(_signs_forward, _signs_backward)


@jax.custom_jvp
def _relu_and_signs(x: FeatureMap) -> tuple[FeatureMap, Signs]:
    """Return max(x, 0), and where it is positive, computed in one loop; see `_by_halves`."""
    rows, half = x.shape[1], -(-x.shape[1] // 2)

    def change_half(number: Array, found: tuple[Array, Signs]) -> tuple[Array, Signs]:
        start = number * (rows - half)
        part = lax.dynamic_slice_in_dim(found[0], start, half, axis=1)
        y = jnp.maximum(_from_loops(part, x.dtype), 0)
        return (
            lax.dynamic_update_slice_in_dim(found[0], _for_loops(y), start, axis=1),
            lax.dynamic_update_slice_in_dim(found[1], y > 0, start, axis=1),
        )

    read = _for_loops(x)
    # The signs depend on `x` so that they are made only when they are needed.
    signs = jnp.broadcast_to(read[:, :1, :1] > 0, x.shape)
    y, signs = lax.fori_loop(0, 2, change_half, (read, signs))
    return _from_loops(y, x.dtype), signs


@_relu_and_signs.defjvp
def _derivative_with_signs(
    primals: tuple[FeatureMap], tangents: tuple[FeatureMap]
) -> tuple[tuple[FeatureMap, Signs], tuple[FeatureMap, Any]]:
    # Values may pass through integers, so JAX would find a derivative of 0.
    y, signs = _relu_and_signs(*primals)
    of_y = jnp.where(signs, tangents[0], jnp.zeros_like(y))
    return (y, signs), (of_y, np.zeros(signs.shape, jax.dtypes.float0))


@jax.custom_vjp
def relu_in_place(x: FeatureMap) -> tuple[FeatureMap, FeatureMap]:
    """Return max(x, 0) twice, for the next layer and for losses, as `relu` for a CPU.

    Only the result is kept for the gradient. XLA's CPU compiler ignores the barrier in `relu`: it keeps
    `x`, from which it computes the result again, and the result as the matrix that a Gram matrix is
    computed from. Here the result is computed in a loop, which overwrites `x`. The gradient overwrites
    the result in the same way. It is the sum of two, that of the next layer and that of the losses.
    """
    y = jnp.maximum(x, 0)
    return y, y


def _in_place_forward(x: FeatureMap) -> tuple[tuple[FeatureMap, FeatureMap], FeatureMap]:
    y = _relu_by_halves(x)
    return (y, y), y


def _in_place_backward(
    y: FeatureMap, gradients: tuple[FeatureMap, FeatureMap]
) -> tuple[FeatureMap]:
    return (_sum_where_positive(y, *gradients),)


relu_in_place.defvjp(_in_place_forward, _in_place_backward)


@jax.custom_jvp
def _relu_by_halves(x: FeatureMap) -> FeatureMap:
    return _by_halves(lambda part: jnp.maximum(part, 0), x)


@_relu_by_halves.defjvp
def _derivative_of_relu(
    primals: tuple[FeatureMap], tangents: tuple[FeatureMap]
) -> tuple[FeatureMap, FeatureMap]:
    # `_by_halves` may pass values through integers, so JAX would find a derivative of 0.
    y = _relu_by_halves(*primals)
    return y, jnp.where(y > 0, tangents[0], jnp.zeros_like(y))


@jax.custom_jvp
def _sum_where_positive(y: FeatureMap, g: FeatureMap, of_losses: FeatureMap) -> FeatureMap:
    """Return `g + of_losses` where `y` is positive, and 0 elsewhere."""

    def total(y: FeatureMap, g: FeatureMap, of_losses: FeatureMap) -> FeatureMap:
        return jnp.where(y > 0, g + of_losses, jnp.zeros_like(g))

    return _by_halves(total, y, g, of_losses)


@_sum_where_positive.defjvp
def _derivative_of_sum(
    primals: tuple[FeatureMap, ...], tangents: tuple[FeatureMap, ...]
) -> tuple[FeatureMap, FeatureMap]:
    y, (_, of_next, of_losses) = primals[0], tangents
    return _sum_where_positive(*primals), jnp.where(y > 0, of_next + of_losses, jnp.zeros_like(y))


def _by_halves(function: Callable[..., FeatureMap], x: FeatureMap, *others: FeatureMap) -> Array:
    """Return `function(x, *others)` for an elementwise function, computed in two halves of the rows.

    In a loop, XLA's CPU compiler writes the result into the memory of `x` if nothing else reads `x`
    later. It neither computes a loop again nor keeps what the loop was computed from.
    """
    rows, dtype = x.shape[1], x.dtype
    half = -(-rows // 2)
    read = [_for_loops(other) for other in others]

    def change_half(number: Array, found: Array) -> Array:
        start = number * (rows - half)
        old, *parts = (
            _from_loops(lax.dynamic_slice_in_dim(one, start, half, axis=1), dtype)
            for one in (found, *read)
        )
        new = function(old, *parts)
        if rows % 2:
            # The halves share a row, which the first half has changed.
            new = jnp.where((jnp.arange(half) >= number)[:, None, None], new, old)
        return lax.dynamic_update_slice_in_dim(found, _for_loops(new), start, axis=1)

    return _from_loops(lax.fori_loop(0, 2, change_half, _for_loops(x)), dtype)


def _for_loops(x: FeatureMap) -> Array:
    """Return the bits of 16-bit floats as integers, and other features unchanged.

    To read or write a part of an array of 16-bit floats, XLA's CPU compiler would make a float32 copy
    of the whole.
    """
    return lax.bitcast_convert_type(x, jnp.uint16) if x.dtype.itemsize == 2 else x


def _from_loops(read: Array, dtype: Any) -> FeatureMap:
    """Return the features of which `_for_loops` has made `read`; `dtype` is theirs."""
    return lax.bitcast_convert_type(read, dtype) if dtype.itemsize == 2 else read


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
    read = _for_loops(x)

    def add_half(number: Array, found: Array) -> Array:
        start = number * (rows - half)
        part = lax.dynamic_slice_in_dim(read, window * start, window * half, axis=1)
        part = _from_loops(part, x.dtype)
        return lax.dynamic_update_slice_in_dim(found, function(part), start, axis=1)

    # All of `found` is overwritten. It depends on `x` so that it is made only when it is needed.
    kind = jax.eval_shape(function, x).dtype
    found = (read[:, :1, :1] > 0).astype(kind)
    found = jnp.broadcast_to(found, (n, rows, width // window, channels))
    return lax.fori_loop(0, 2, add_half, found)


# --- Order of gradients ---------------------------------------------------------------------------


@jax.custom_vjp
def measured_in_turn(x: FeatureMap, measured: Any) -> tuple[FeatureMap, Any]:
    """Return both arguments; the gradient of `measured` waits for that of `x`.

    Without this function, XLA's CPU compiler computes the gradients of the losses at all layers as soon
    as it knows the losses, and keeps them until the backward pass arrives at each layer. With this
    function, they are computed when it has arrived there.

    Args:
      x: activations that the next layer reads.
      measured: what losses have computed from these activations, such as a Gram matrix: arrays in any
        structure.
    """
    return x, measured


def _in_turn_forward(x: FeatureMap, measured: Any) -> tuple[tuple[FeatureMap, Any], None]:
    return (x, measured), None


def _in_turn_backward(_: None, gradients: tuple[FeatureMap, Any]) -> tuple[FeatureMap, Any]:
    g, of_measured = gradients
    # No number is larger than infinity, so this is False. The compiler does not know that. So it must
    # compute `g` first. (It drops barriers.)
    never = jnp.any(g[:, 0, 0, 0] > jnp.inf)

    def after_g(gradient: Array) -> Array:
        if not jnp.issubdtype(gradient.dtype, jnp.inexact):
            return gradient  # integers have no gradient
        return jnp.where(never, jnp.zeros_like(gradient), gradient)

    return g, jax.tree.map(after_g, of_measured)


measured_in_turn.defvjp(_in_turn_forward, _in_turn_backward)


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


def _to_winners(
    index: Winners, g: Shaped[Array, "*batch h2 w2 c"]
) -> Shaped[Array, "*batch h w c"]:
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


def _windows_joined(
    members: Shaped[Array, "n h2 2 w2 2 c"], pooled: Shaped[Array, "n h2 w2 c"]
) -> Shaped[Array, "n h w c"]:
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


@jax.custom_jvp
def _to_winners_on_cpu(index: Winners, g: Pooled) -> FeatureMap:
    """Return `_to_winners(index, g)` for a CPU.

    The next convolution reads the result in a loop. Where that reads bits, these are chosen here, so
    that there is no array of 16-bit floats beside that of their bits.
    """
    return _from_loops(_to_winners(index, _for_loops(g)), g.dtype)


@_to_winners_on_cpu.defjvp
def _derivative_of_winners(
    primals: tuple[Winners, Pooled], tangents: tuple[Any, Pooled]
) -> tuple[FeatureMap, FeatureMap]:
    # As in `_derivative_of_relu`, values may pass through integers.
    return _to_winners_on_cpu(*primals), _to_winners(primals[0], tangents[1])


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
    return ((_to_winners_on_cpu if on_cpu else _to_winners)(index, g),)


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
