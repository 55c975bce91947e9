"""ReLUs, and their gradients, which differ in what is kept for them until the backward pass.

`relu` is for any device. `relu_by_signs` and `relu_in_place` take its place in programs for a CPU.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool

from nst_jax._types import FeatureMap
from nst_jax.vgg.layers.cpu_loops import as_bits, by_halves, from_bits

Signs: TypeAlias = Bool[Array, "n h w c"]


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
    """Return max(x, 0), and where it is positive, computed in one loop; see `by_halves`."""
    rows, half = x.shape[1], -(-x.shape[1] // 2)

    def change_half(number: Array, found: tuple[Array, Signs]) -> tuple[Array, Signs]:
        start = number * (rows - half)
        part = lax.dynamic_slice_in_dim(found[0], start, half, axis=1)
        y = jnp.maximum(from_bits(part, x.dtype), 0)
        return (
            lax.dynamic_update_slice_in_dim(found[0], as_bits(y), start, axis=1),
            lax.dynamic_update_slice_in_dim(found[1], y > 0, start, axis=1),
        )

    read = as_bits(x)
    # The signs depend on `x` so that they are made only when they are needed.
    signs = jnp.broadcast_to(read[:, :1, :1] > 0, x.shape)
    y, signs = lax.fori_loop(0, 2, change_half, (read, signs))
    return from_bits(y, x.dtype), signs


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
    return by_halves(lambda part: jnp.maximum(part, 0), x)


@_relu_by_halves.defjvp
def _derivative_of_relu(
    primals: tuple[FeatureMap], tangents: tuple[FeatureMap]
) -> tuple[FeatureMap, FeatureMap]:
    # `by_halves` may pass values through integers, so JAX would find a derivative of 0.
    y = _relu_by_halves(*primals)
    return y, jnp.where(y > 0, tangents[0], jnp.zeros_like(y))


@jax.custom_jvp
def _sum_where_positive(y: FeatureMap, g: FeatureMap, of_losses: FeatureMap) -> FeatureMap:
    """Return `g + of_losses` where `y` is positive, and 0 elsewhere."""

    def total(y: FeatureMap, g: FeatureMap, of_losses: FeatureMap) -> FeatureMap:
        return jnp.where(y > 0, g + of_losses, jnp.zeros_like(g))

    return by_halves(total, y, g, of_losses)


@_sum_where_positive.defjvp
def _derivative_of_sum(
    primals: tuple[FeatureMap, ...], tangents: tuple[FeatureMap, ...]
) -> tuple[FeatureMap, FeatureMap]:
    y, (_, of_next, of_losses) = primals[0], tangents
    return _sum_where_positive(*primals), jnp.where(y > 0, of_next + of_losses, jnp.zeros_like(y))
