"""Loops that keep XLA's CPU compiler from copying arrays, and from keeping larger ones than needed.

That compiler ignores `lax.optimization_barrier`. Where the gradient reads a result that is cheap to
compute, it computes the result again, and keeps for that what the result was computed from. It does
not compute a loop again.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, UInt8

from nst_jax._types import FeatureMap

Bytes: TypeAlias = Bool[Array, "n h2 w2 c"] | UInt8[Array, "n h2 w2 c"]


def by_halves(function: Callable[..., FeatureMap], x: FeatureMap, *others: FeatureMap) -> Array:
    """Return `function(x, *others)` for an elementwise function, computed in two halves of the rows.

    In a loop, XLA's CPU compiler writes the result into the memory of `x` if nothing else reads `x`
    later. It neither computes a loop again nor keeps what the loop was computed from. The values may
    pass through integers, so a caller that is differentiated needs a derivative rule of its own.
    """
    rows, dtype = x.shape[1], x.dtype
    half = -(-rows // 2)
    read = [as_bits(other) for other in others]

    def change_half(number: Array, found: Array) -> Array:
        start = number * (rows - half)
        old, *parts = (
            from_bits(lax.dynamic_slice_in_dim(one, start, half, axis=1), dtype)
            for one in (found, *read)
        )
        new = function(old, *parts)
        if rows % 2:
            # The halves share a row, which the first half has changed.
            new = jnp.where((jnp.arange(half) >= number)[:, None, None], new, old)
        return lax.dynamic_update_slice_in_dim(found, as_bits(new), start, axis=1)

    return from_bits(lax.fori_loop(0, 2, change_half, as_bits(x)), dtype)


def as_bits(x: FeatureMap) -> Array:
    """Return the bits of 16-bit floats as integers, for a loop, and other features unchanged.

    To read or write a part of an array of 16-bit floats, as a loop does, XLA's CPU compiler would make
    a float32 copy of the whole.
    """
    return lax.bitcast_convert_type(x, jnp.uint16) if x.dtype.itemsize == 2 else x


def from_bits(bits: Array, dtype: Any) -> FeatureMap:
    """Return the features, of type `dtype`, from what `as_bits` has made of them."""
    return lax.bitcast_convert_type(bits, dtype) if dtype.itemsize == 2 else bits


def stored_bytes(
    function: Callable[[FeatureMap], Bytes], x: FeatureMap, *, window: int = 1
) -> Bytes:
    """Return `function(x)`, an array of bytes that XLA's CPU compiler keeps for the gradient.

    Without the loop, the compiler would keep `x`, which is larger, and compute the result again. The
    loop has two halves of the rows; those of an odd number of rows overlap.

    Args:
      function: the function. It also takes a part of the rows of `x`, and then returns its rows.
      x: features [n, h, w, c].
      window: the result has a row, and a column, for so many of `x`.
    """
    n, height, width, channels = x.shape
    rows = height // window
    half = -(-rows // 2)
    read = as_bits(x)

    def add_half(number: Array, found: Array) -> Array:
        start = number * (rows - half)
        part = lax.dynamic_slice_in_dim(read, window * start, window * half, axis=1)
        part = from_bits(part, x.dtype)
        return lax.dynamic_update_slice_in_dim(found, function(part), start, axis=1)

    # All of `found` is overwritten. It depends on `x` so that it is made only when it is needed.
    kind = jax.eval_shape(function, x).dtype
    found = (read[:, :1, :1] > 0).astype(kind)
    found = jnp.broadcast_to(found, (n, rows, width // window, channels))
    return lax.fori_loop(0, 2, add_half, found)
