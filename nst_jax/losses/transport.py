"""STROTSS' losses between sets of vectors: relaxed transport, moments, palette.

Every function compares vectors [n, c] of the canvas with vectors [m, c] of the style.

References:
  Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity",
  2019; nkolkin13/STROTSS @ 9a1543a3.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import Scalar
from nst_jax.losses.neighbours import BLOCK, Others, Vectors, nearest_distance, unit
from nst_jax.losses.squares import absolute

# The orthogonal basis in which palettes are compared: the axis of greys, and two across it.
PALETTE_BASIS = np.array(
    (
        (0.57735, 0.57735, 0.57735),
        (-0.57735, 0.788675, -0.211325),
        (-0.57735, -0.211325, 0.788675),
    )
)

CLOSEST = 1e-5  # squared distances of colours below this count as this, which has a finite gradient


def relaxed_transport(
    vectors: Vectors,
    others: Others,
    products: lax.Precision = lax.Precision.HIGHEST,
    *,
    block: int = BLOCK,
) -> Scalar:
    """Return the relaxed earth mover's distance of two sets of vectors, by the cosine distance.

    Transport must move all of both sets. If only one of both demands is kept, every vector goes to its
    nearest one, and the cost is the mean distance to the nearest. The larger of the two costs is a
    lower bound of the earth mover's distance.

    Args:
      vectors: [n, c].
      others: [m, c].
      products: the precision of the inner products.
      block: the largest number of distances in memory at once. Static.

    Returns:
      max(mean over vectors of the distance to the nearest of others, and the reverse).

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import relaxed_transport
      >>> float(relaxed_transport(jnp.array([[1.0, 0.0]]), jnp.eye(2)))
      0.5

    References:
      Kusner, Sun, Kolkin, Weinberger, "From word embeddings to document distances", 2015.
    """
    there = nearest_distance(vectors, others, products, block=block)
    back = nearest_distance(others, vectors, products, block=block)
    return jnp.maximum(there, back)


def moment_distance(
    vectors: Vectors, others: Others, products: lax.Precision = lax.Precision.HIGHEST
) -> Scalar:
    """Return the mean absolute difference of the means plus that of the covariances of two sets.

    Args:
      vectors: [n, c].
      others: [m, c].
      products: the precision of the covariances.

    Returns:
      mean |mean difference| + mean |covariance difference|. The sums behind a covariance are divided by
      the number of vectors minus one.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import moment_distance
      >>> rows = jnp.array([[0.0], [2.0]])
      >>> float(moment_distance(rows, rows + 3)), float(moment_distance(rows, 2 * rows))
      (3.0, 7.0)
    """
    (mean, covariance), (other_mean, other_covariance) = (
        _moments(rows, products) for rows in (vectors, others)
    )
    return jnp.mean(absolute(mean - other_mean)) + jnp.mean(absolute(covariance - other_covariance))


def _moments(
    rows: Vectors, products: lax.Precision
) -> tuple[Float[Array, " c"], Float[Array, "c c"]]:
    mean = jnp.mean(rows, axis=0)
    away = rows - mean[None]
    covariance = jnp.einsum("nc,nd->cd", away, away, precision=products) / max(len(rows) - 1, 1)
    return mean, covariance


def palette_transport(colours: Float[Array, "n 3"], others: Float[Array, "m 3"]) -> Scalar:
    """Return the relaxed earth mover's distance of two sets of colours.

    The distance of two colours is their cosine distance plus sqrt(d² / 3), where d is their Euclidean
    distance, in a basis whose first axis is that of the greys.

    Args:
      colours: RGB [n, 3].
      others: RGB [m, 3].

    Returns:
      The distance; 0 for equal sets, except for sqrt(1e-5 / 3), the least that d counts.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import palette_transport
      >>> round(float(palette_transport(jnp.ones((1, 3)), jnp.ones((2, 3)) / 2)), 3)
      0.5
    """
    basis = jnp.asarray(PALETTE_BASIS.T, colours.dtype)
    # Three products for each pair: exact ones cost nothing.
    ours, theirs = (
        jnp.matmul(rows, basis, precision=lax.Precision.HIGHEST) for rows in (colours, others)
    )
    cosine = 1 - jnp.einsum("nc,mc->nm", unit(ours), unit(theirs), precision="highest")
    squared = jnp.sum(jnp.square(ours[:, None] - theirs[None]), axis=-1)
    cost = cosine + jnp.sqrt(jnp.maximum(squared, CLOSEST) / 3)
    return jnp.maximum(jnp.mean(jnp.min(cost, axis=1)), jnp.mean(jnp.min(cost, axis=0)))
