"""The matrix products of which Gram matrices and their gradients consist.

On a CPU, products of 16-bit floats are computed strip by strip of rows: XLA's CPU compiler computes
them in float32, so that products of whole features would need float32 copies of the features and of the
result.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int, UInt16

from nst_jax._types import FeatureMap, Gram, sum_dtype

# A strip has about this many positions, or one row if that has more.
STRIP_POSITIONS = 4096


def gram_product(features: FeatureMap, products: lax.Precision) -> Gram:
    """Return FᵀF in float32 at least, where F is the features as a matrix [positions, channels].

    Args:
      features: [*batch, h, w, c].
      products: precision that the matrix product requests from the device.
    """
    if not _may_be_in_strips(features):
        return _gram_at_once(features, products)
    cpu, default = (partial(form, products=products) for form in (_gram_in_strips, _gram_at_once))
    return lax.platform_dependent(features, cpu=cpu, default=default)


def times_matrix(features: FeatureMap, matrix: Gram, products: lax.Precision) -> FeatureMap:
    """Return F S in the dtype of the features, where F is the features as a matrix, and S is `matrix`.

    Args:
      features: [*batch, h, w, c].
      matrix: [*batch, c, c], of the same dtype.
      products: precision that the matrix product requests from the device.
    """
    if not _may_be_in_strips(features):
        return _times_at_once(features, matrix, products)
    cpu, default = (partial(form, products=products) for form in (_times_in_strips, _times_at_once))
    return lax.platform_dependent(features, matrix, cpu=cpu, default=default)


def _may_be_in_strips(features: FeatureMap) -> bool:
    # Sizes may be symbolic (see `jax.export`), from which no number of strips can be computed.
    return features.dtype.itemsize == 2 and all(isinstance(side, int) for side in features.shape)


# --- At once --------------------------------------------------------------------------------------


def _gram_at_once(features: FeatureMap, products: lax.Precision) -> Gram:
    wide = sum_dtype(features.dtype)
    return jnp.einsum(
        "...hwc,...hwd->...cd", features, features, precision=products, preferred_element_type=wide
    )


def _times_at_once(features: FeatureMap, matrix: Gram, products: lax.Precision) -> FeatureMap:
    return jnp.einsum("...hwc,...cd->...hwd", features, matrix, precision=products)


# --- In strips ------------------------------------------------------------------------------------


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _gram_in_strips(features: FeatureMap, products: lax.Precision) -> Gram:
    (rows, count), bits = _strips(features), _bits_of(features)

    def add_strip(index: Array, total: Array) -> Array:
        start, strip = _strip(bits, index, rows, features.dtype)
        if features.shape[-3] % rows:
            # The last strip overlaps the one before, whose rows must not be added twice.
            new = start + jnp.arange(rows) >= index * rows
            strip = jnp.where(new[:, None, None], strip, jnp.zeros_like(strip))
        return total + _gram_at_once(strip, products)

    pictures, channels = bits.shape[0], bits.shape[3]
    # These zeros depend on the features: constants would be in memory from the beginning on.
    zero = 0 * bits[:, 0, :1, :1].astype(jnp.float32)
    total = jnp.broadcast_to(zero, (pictures, channels, channels))
    total = lax.fori_loop(0, count, add_strip, total)
    return total.reshape(*features.shape[:-3], channels, channels)


@_gram_in_strips.defjvp
def _derivative_of_gram(
    products: lax.Precision, primals: tuple[FeatureMap], tangents: tuple[FeatureMap]
) -> tuple[Gram, Gram]:
    # `_gram_in_strips` passes values through integers, so JAX would find a derivative of 0.
    at_once = partial(_gram_at_once, products=products)
    return _gram_in_strips(*primals, products), jax.jvp(at_once, primals, tangents)[1]


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _times_in_strips(features: FeatureMap, matrix: Gram, products: lax.Precision) -> FeatureMap:
    (rows, count), bits = _strips(features), _bits_of(features)
    matrices = matrix.reshape(-1, *matrix.shape[-2:])

    def add_strip(index: Array, found: Array) -> Array:
        start, strip = _strip(bits, index, rows, features.dtype)
        part = _bits_of(_times_at_once(strip, matrices, products))
        return lax.dynamic_update_slice_in_dim(found, part, start, axis=1)

    # All of `found` is overwritten. It depends on both arguments so that it is made when it is needed.
    found = bits[:, :1, :1, :1] ^ lax.bitcast_convert_type(matrices[:, :1, :1, None], jnp.uint16)
    found = lax.fori_loop(0, count, add_strip, jnp.broadcast_to(found, bits.shape))
    return lax.bitcast_convert_type(found, features.dtype).reshape(features.shape)


@_times_in_strips.defjvp
def _derivative_of_times(
    products: lax.Precision, primals: tuple[FeatureMap, Gram], tangents: tuple[FeatureMap, Gram]
) -> tuple[FeatureMap, FeatureMap]:
    # As in `_derivative_of_gram`, values pass through integers.
    at_once = partial(_times_at_once, products=products)
    return _times_in_strips(*primals, products), jax.jvp(at_once, primals, tangents)[1]


def _strips(features: FeatureMap) -> tuple[int, int]:
    """Return the number of rows of a strip, and the number of strips.

    There are at least two strips if there are two rows. XLA would compute a single one outside of a
    loop, and would keep the float32 copy of the features for the gradient.
    """
    height, width = features.shape[-3:-1]
    rows = max(1, min(STRIP_POSITIONS // width, -(-height // 2)))
    return rows, -(-height // rows)


def _bits_of(features: FeatureMap) -> UInt16[Array, "n h w c"]:
    """Return the bits of features [*batch, h, w, c] as integers.

    Of integers, XLA's CPU compiler reads and writes a part without copying the whole.
    """
    x = features.reshape(-1, *features.shape[-3:])
    return lax.bitcast_convert_type(x, jnp.uint16)


def _strip(
    bits: UInt16[Array, "n h w c"], index: Array, rows: int, dtype: jnp.dtype
) -> tuple[Int[Array, ""], Float[Array, "n s w c"]]:
    """Return the first row of the strip with this index, and the strip's features.

    If the rows of all strips are more than those of the features, the last strip is moved up until it
    ends at the last row.
    """
    start = jnp.minimum(index * rows, bits.shape[1] - rows)
    strip = lax.dynamic_slice_in_dim(bits, start, rows, axis=1)
    return start, lax.bitcast_convert_type(strip, dtype)
