"""Nearest neighbours of feature vectors by the cosine of their angle, in bounded memory.

The cosine distance of two vectors is 1 - cos of their angle. Here it is computed as half the squared
distance of the two vectors after each is divided by its length. There are two reasons: the result is
accurate for nearly equal vectors, too; and it is a sum over channels. If a vector consists of the
channels of several taps (layers), this sum can be split into a share for each tap.

The search for the nearest of many vectors needs no gradient: the gradient of a minimum is the gradient
of the smallest term. So the losses here first find the index of the nearest vector, and then
differentiate only the distance to that vector. No matrix of all distances is kept for the gradient.
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

# Vectors shorter than this are divided by this number and not by their length, which may be 0.
SHORTEST = 1e-4
# Largest number of distances in memory at once, unless a caller gives another: 64 MiB of float32.
BLOCK = 2**24


def unit(vectors: Vectors) -> Vectors:
    """Return vectors divided by their lengths; those shorter than `SHORTEST` are divided by `SHORTEST`.

    So the gradient is finite even for a vector of zeros.
    """
    squares = jnp.sum(jnp.square(vectors), axis=-1, keepdims=True)
    return vectors / jnp.sqrt(jnp.maximum(squares, SHORTEST**2))


def centred(vectors: Vectors) -> Vectors:
    """Return n vectors with their mean subtracted from each."""
    return vectors - jnp.mean(vectors, axis=0, keepdims=True)


def nearest_indices(
    vectors: Vectors,
    others: Others,
    products: lax.Precision = lax.Precision.HIGHEST,
    *,
    block: int = BLOCK,
) -> Indices:
    """Return for each vector the index of the one among `others` at the least cosine distance.

    The distances are computed for some of the `vectors` at a time. So at most `block` distances exist
    at once, or m distances if m is larger than `block`. The result has no gradient.

    Args:
      vectors: n vectors [n, c].
      others: m vectors [m, c], among which the nearest ones are sought.
      products: the precision of the inner products.
      block: the largest number of distances in memory at once, unless m is larger. Static.

    Returns:
      [n] indices, int32. Among several vectors at an equal distance, the first is chosen.

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
        # The nearest key is the one with the largest cosine. The queries need not be divided by their
        # lengths, since that would change all cosines of a query by the same factor.
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
    """Return the cosine distance of each vector to its partner, split into a part for each tap (layer).

    Args:
      vectors: [n, c]; each vector has the channels of all taps (layers), one tap after the other.
      partners: [n, c]; vector i is compared with partner i.
      sizes: the number of channels of each tap; the sum of these numbers is c.

    Returns:
      For each tap an array [n]: half the squared distance of vector and partner, both at unit length,
      in the channels of this tap. Over all taps these shares add up to 1 - cos of the angle, except
      for vectors shorter than `SHORTEST`, which `unit` does not bring to unit length.

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
    """Return the mean over `vectors` of the cosine distance to the nearest one of `others`.

    The function is differentiable in `vectors` and in `others`. The gradient treats the choice of the
    nearest vectors as constant.

    Args:
      vectors: n vectors [n, c].
      others: m vectors [m, c], among which the nearest ones are sought.
      products: the precision of the inner products.
      block: the largest number of distances in memory at once, unless m is larger. Static.

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
