"""Poolings of 2 x 2 windows: maximum, also together with the ReLU before it, mean and L2 norm."""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType
from jaxtyping import Array, Float, Shaped, UInt8

from nst_jax._types import FeatureMap, sum_dtype
from nst_jax.vgg.layers.cpu_loops import as_bits, from_bits, stored_bytes
from nst_jax.vgg.layers.relus import relu

Pooled: TypeAlias = Float[Array, "*batch h2 w2 c"]

# For each 2 x 2 window, the index (0 to 3 in reading order) of its first maximum, which gets the
# gradient of max pooling. The index is `_NO_WINNER` if a ReLU before the pooling leaves no positive
# value in the window.
Winners: TypeAlias = UInt8[Array, "*batch h2 w2 c"]

# A function of (features, `ceil`) that pools 2 x 2 windows. If `ceil` is True, the last row or column
# of an odd side is pooled by itself; if it is False, that row or column is dropped.
Pool: TypeAlias = Callable[[FeatureMap, bool], Pooled]


# --- Windows --------------------------------------------------------------------------------------


def _window_members(x: FeatureMap) -> tuple[Pooled, Pooled, Pooled, Pooled]:
    """Return four arrays: the first members (pixels) of all 2 x 2 windows, the second ones, and so on.

    The windows are those of pooling, and their members are in reading order. The sides of `x` must be
    even; the sides of the four arrays are half as long.
    """
    return x[:, ::2, ::2], x[:, ::2, 1::2], x[:, 1::2, ::2], x[:, 1::2, 1::2]


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


# --- Maximum --------------------------------------------------------------------------------------


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


@jax.custom_jvp
def _to_winners_on_cpu(index: Winners, g: Pooled) -> FeatureMap:
    """Return `_to_winners(index, g)` for a CPU.

    The next convolution reads the result in a loop. Where that reads bits, these are chosen here, so
    that there is no array of 16-bit floats beside that of their bits.
    """
    return from_bits(_to_winners(index, as_bits(g)), g.dtype)


@_to_winners_on_cpu.defjvp
def _derivative_of_winners(
    primals: tuple[Winners, Pooled], tangents: tuple[Any, Pooled]
) -> tuple[FeatureMap, FeatureMap]:
    # `_to_winners_on_cpu` may pass values through integers, so JAX would find a derivative of 0.
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
        index = stored_bytes(lambda part: _positive_winners(part)[1], x, window=2)
        return _max_of_positive(x, on_cpu), index
    return lax.optimization_barrier(_positive_winners(x))


def _positive_backward(on_cpu: bool, index: Winners, g: Pooled) -> tuple[FeatureMap]:
    return ((_to_winners_on_cpu if on_cpu else _to_winners)(index, g),)


_max_of_positive.defvjp(_positive_forward, _positive_backward)


def max_pool(x: FeatureMap, ceil: bool) -> Pooled:
    """Return the maximum of each 2 x 2 window; a window's gradient goes to the first of its maxima."""
    return _max_of_windows(_fit_to_windows(x, ceil, -jnp.inf))


def pool_relu(x: FeatureMap, pool: Pool, ceil: bool, *, on_cpu: bool = False) -> Pooled:
    """Return `pool(relu(x), ceil)`, for layers at which only the pooling reads the ReLU's result.

    With `max_pool`, the gradient rule stores one byte for each window, and not the ReLU's result. A
    program for a CPU needs `on_cpu` for that; see `stored_bytes`.
    """
    if pool is max_pool:
        return _max_of_positive(_fit_to_windows(x, ceil, -jnp.inf), on_cpu)
    return pool(relu(x), ceil)


# --- Mean and norm --------------------------------------------------------------------------------


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


# Poolings by the names that recipe files use for them.
POOLS = {
    "max": max_pool,
    "average": average_pool,
    "scaled_average": scaled_average_pool,
    "l2": l2_pool,
}
