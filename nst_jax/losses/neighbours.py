"""Nearest neighbours of feature vectors by the cosine of their angle, in bounded memory.

The cosine distance of two vectors is 1 - cos of their angle. It is half the squared distance of the two
vectors at unit length, and is computed in this way here: so it is accurate for nearly equal vectors
too, and it is a sum over channels, which can be split into shares of the taps that have these channels.

A search for the nearest of many vectors has no gradient, and needs none. The gradient of a minimum is
that of the smallest term. So the losses here first find the index of the nearest vector, then take that
vector and differentiate the distance to it alone. No matrix of all distances is kept for the gradient.
"""

from collections.abc import Sequence
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import Scalar

Vectors: TypeAlias = Float[Array, "n c"]
Others: TypeAlias = Float[Array, "m c"]
Indices: TypeAlias = Int[Array, " n"]

SHORTEST = 1e-4  # vectors shorter than this are divided by it, not by their length
BLOCK = 2**24  # number of distances in memory at once: 64 MiB of float32


def unit(vectors: Vectors) -> Vectors:
    """Return vectors divided by their lengths, or by `SHORTEST` where they are shorter.

    The gradient is finite even for a vector of zeros.
    """
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squares, SHORTEST**2))


def centred(vectors: Vectors) -> Vectors:
    """Return vectors minus their mean."""
    return vectors - jnp.mean(vectors, axis=0, keepdims=True)


def nearest_indices(
    vectors: Vectors,
    others: Others,
    products: lax.Precision = lax.Precision.HIGHEST,
    *,
    block: int = BLOCK,
) -> Indices:
    """Return for each vector the index of the one among `others` at the least cosine distance.

    The distances are computed in blocks of rows, so that at most about `block` of them exist at a time,
    or one row if there are more `others` than that. There is no gradient.

    Args:
      vectors: [n, c].
      others: [m, c].
      products: the precision of the inner products.
      block: the largest number of distances in memory at once. Static.

    Returns:
      [n] indices, int32; of several equal distances the first.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import nearest_indices
      >>> nearest_indices(jnp.array([[2.0, 1.0], [0.0, 3.0]]), jnp.eye(2)).tolist()
      [0, 1]
    """
    keys = unit(lax.stop_gradient(others))
    queries = lax.stop_gradient(vectors)
    count = len(queries)
    rows = min(count, max(1, block // len(keys)))

    def of_rows(some: Array) -> Array:
        # The length of a query does not change which key is nearest.
        cosines = jnp.einsum("nc,mc->nm", some, keys, precision=products)
        return jnp.argmax(cosines, axis=-1).astype(jnp.int32)

    blocks = -(-count // rows)
    padded = jnp.pad(queries, ((0, blocks * rows - count), (0, 0)))
    if blocks == 1:
        return of_rows(padded)
    found = lax.map(of_rows, padded.reshape(blocks, rows, -1))
    return found.reshape(-1)[:count]


def cosine_shares(
    vectors: Vectors, partners: Vectors, sizes: Sequence[int]
) -> tuple[Float[Array, " n"], ...]:
    """Return the cosine distance of each vector to its partner, as a sum of the shares of each tap.

    Args:
      vectors: [n, c].
      partners: [n, c].
      sizes: the number of channels of each tap; their sum is c.

    Returns:
      For each tap the shares [n], half the squared distance of the two unit vectors in its channels.
      They add up to 1 - cos of the angle, except for vectors shorter than `SHORTEST`, which `unit` does
      not bring to unit length.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import cosine_shares
      >>> both = cosine_shares(jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 1.0]]), (1, 1))
      >>> [float(share[0]) for share in both]
      [0.5, 0.5]
    """
    squares = jnp.square(unit(vectors) - unit(partners)) / 2
    shares, first = [], 0
    for size in sizes:
        shares.append(jnp.sum(squares[:, first : first + size], axis=-1))
        first += size
    return tuple(shares)


def nearest_distance(
    vectors: Vectors,
    others: Others,
    products: lax.Precision = lax.Precision.HIGHEST,
    *,
    block: int = BLOCK,
) -> Scalar:
    """Return the mean over vectors of the cosine distance to the nearest of others.

    Differentiable in both: the gradient is that of the distances to the nearest vectors.

    Args:
      vectors: [n, c].
      others: [m, c].
      products: as in `nearest_indices`.
      block: as in `nearest_indices`.

    Returns:
      A scalar from 0 to 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import nearest_distance
      >>> float(nearest_distance(jnp.array([[3.0, 0.0], [0.0, -1.0]]), jnp.eye(2)))
      0.5
    """
    partners = others[nearest_indices(vectors, others, products, block=block)]
    (shares,) = cosine_shares(vectors, partners, (vectors.shape[-1],))
    return jnp.mean(shares)
