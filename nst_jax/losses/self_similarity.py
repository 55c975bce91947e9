"""The self-similarity content loss: it compares how alike the positions of a picture are to each other.

The features of the canvas (the picture that is optimised) and those of the content are never compared
directly. For each picture, a matrix of the distances between the features at its own positions is
computed, and the loss is the difference of these two matrices.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.kinds import ContentLoss
from nst_jax.losses.squares import absolute
from nst_jax.losses.sums import at_least_float32, unchanged

GRID = 32  # the largest number of positions along each side of the features that are compared

# A vector whose squared length is at most this is not divided by its length, since it may be a vector
# of zeros, which has no direction.
SHORTEST = 1e-12

# The distances from a position to all n positions are divided by their sum, or by n times this number
# if the sum is less. Without this bound, the distances between equal features, which are rounding
# errors of some 1e-7 in float32, would become as large as true distances.
LEAST = 1e-4


def grid_of_positions(features: FeatureMap) -> Float[Array, "*batch n c"]:
    """Return features at the positions of a regular grid, as a matrix with one row for each position.

    The grid has at most `GRID` x `GRID` positions. This limits memory and time, since the loss compares
    each of these positions with all others.

    Args:
      features: [*batch, h, w, c], the features at one layer.
    """
    down, across = (_every(side) for side in features.shape[-3:-1])
    chosen = features[..., down, across, :]
    return chosen.reshape(*chosen.shape[:-3], -1, chosen.shape[-1])


def _every(side: int) -> slice:
    """Return a slice that takes at most `GRID` of `side` positions, evenly spaced and centred."""
    stride = -(-side // GRID)
    return slice((side - 1) % stride // 2, None, stride)


def cosine_distances(rows: Float[Array, "*batch n c"]) -> Float[Array, "*batch n n"]:
    """Return 1 - cos of the angle between each two of n vectors [n, c].

    A vector of zeros has the distance 1 to every vector. A vector shorter than 1e-6 has nearly the
    distance 1 to every vector: since it is not divided by its length, its inner products with other
    vectors stay close to 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import cosine_distances
      >>> cosine_distances(jnp.asarray([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])).tolist()
      [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    # Squared lengths up to `SHORTEST` are replaced by 1, since a division by 0 would make the result
    # or its gradient NaN.
    unit = rows * lax.rsqrt(jnp.where(squares > SHORTEST, squares, 1.0))
    return 1 - jnp.einsum("...ic,...jc->...ij", unit, unit, precision=lax.Precision.HIGHEST)


def self_similarity_distance(
    canvas: Float[Array, "*batch n c"], content: Float[Array, "*batch n c"]
) -> Scalar:
    """Return how much the similarities among n positions differ between canvas and content.

    D is the [n, n] matrix of `cosine_distances` between the positions of a picture, with each column
    divided by the sum of the column. The loss is sum(|D_canvas - D_content|) / n. This is the mean
    over columns of the L1 distance, from 0 to 2, between a column of one matrix and the same column of
    the other. The loss does not change if all features are multiplied by a positive number. It
    depends on which parts of a picture are alike, not on what they look like.

    Departure from the source: a column whose sum is less than `LEAST` times n is divided by `LEAST`
    times n, so that a picture of a single colour, whose distances are all 0, causes no division by 0.

    Args:
      canvas: features of the canvas at n positions, [*batch, n, c].
      content: features of the content at the same positions, [*batch, n, c].

    Returns:
      The loss, a scalar for each picture of the batch.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import self_similarity_distance
      >>> rows = jnp.asarray([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
      >>> [round(float(self_similarity_distance(x, rows)), 2) for x in (3 * rows, rows[::-1])]
      [0.0, 0.73]

    References:
      Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity",
      2019, eq. 4; nkolkin13/STROTSS.
    """

    def shares(rows: Array) -> Array:
        distances = cosine_distances(rows)
        total = jnp.sum(distances, axis=-2, keepdims=True)
        return distances / jnp.maximum(total, LEAST * rows.shape[-2])

    difference = absolute(shares(canvas) - shares(content))
    return jnp.sum(difference, axis=(-1, -2)) / canvas.shape[-2]


def self_similarity_on_grid(canvas: FeatureMap, content: FeatureMap) -> Scalar:
    """Return the self-similarity loss of two pictures, given their features at one tap (layer).

    `canvas` and `content` are these features, [*batch, h, w, c]. `self_similarity_distance` defines the
    loss. Only the positions of a regular grid, at most 32 x 32, are compared, so that memory does not
    grow with the picture. The source, nkolkin13/STROTSS, differs: it draws 1024 positions anew in each
    update, and compares the features of all taps together, as `transport.self_similarity_at_places`
    does.
    """
    return self_similarity_distance(
        *(grid_of_positions(at_least_float32(features)) for features in (canvas, content))
    )


# The self-similarity loss at one tap. It compares each position with all others, so it is not a sum
# over positions: `additive` is False.
CONTENT_SELF_SIMILARITY = ContentLoss(self_similarity_on_grid, unchanged, additive=False)
