"""The self-similarity content loss: which positions of a picture look alike, and to what degree."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.kinds import ContentLoss
from nst_jax.losses.squares import absolute
from nst_jax.losses.sums import at_least_float32, unchanged

GRID = 32  # most positions along each side that are compared

# Squared length under which a vector counts as zero, and has no direction.
SHORTEST = 1e-12

# Least mean cosine distance from a position to all others by which the distances are divided. Distances
# between equal features are rounding errors of some 1e-7 in float32; divided by their own sum, they
# would become as large as true distances.
LEAST = 1e-4


def grid_of_positions(features: FeatureMap) -> Float[Array, "*batch n c"]:
    """Return the features on a regular grid of at most `GRID` x `GRID` positions, as rows.

    Args:
      features: [*batch, h, w, c].
    """
    down, across = (_every(side) for side in features.shape[-3:-1])
    chosen = features[..., down, across, :]
    return chosen.reshape(*chosen.shape[:-3], -1, chosen.shape[-1])


def _every(side: int) -> slice:
    """Return at most `GRID` evenly spaced places along a side, centred on the side."""
    stride = -(-side // GRID)
    return slice((side - 1) % stride // 2, None, stride)


def cosine_distances(rows: Float[Array, "*batch n c"]) -> Float[Array, "*batch n n"]:
    """Return 1 - cos of the angle between each two of n vectors; it is 1 for a vector of zeros.

    The cosine with a vector that is shorter than 1e-6 comes out as almost 0.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import cosine_distances
      >>> cosine_distances(jnp.asarray([[2.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])).tolist()
      [[0.0, 1.0, 2.0], [1.0, 0.0, 1.0], [2.0, 1.0, 0.0]]
    """
    squares = jnp.sum(jnp.square(rows), axis=-1, keepdims=True)
    # Squared lengths up to `SHORTEST` are replaced by 1, which keeps result and gradient finite.
    unit = rows * lax.rsqrt(jnp.where(squares > SHORTEST, squares, 1.0))
    return 1 - jnp.einsum("...ic,...jc->...ij", unit, unit, precision=lax.Precision.HIGHEST)


def self_similarity_distance(
    canvas: Float[Array, "*batch n c"], content: Float[Array, "*batch n c"]
) -> Scalar:
    """Return how much the similarities between n positions differ in canvas and content.

    D is the matrix of `cosine_distances` between the positions, each column divided by its sum. The
    loss is sum(|D_canvas - D_content|) / n: the distance of two columns, from 0 to 2, averaged over the
    columns. It does not change if all features are multiplied by a number. The loss asks which parts of
    a picture are alike, not what they look like.

    Departure from the source: columns are divided by `LEAST` times n if their sum is less, so that a
    flat picture gives no division by zero.

    Args:
      canvas: features at n positions.
      content: features of the content at the same positions.

    Returns:
      The loss, a scalar for each picture.

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
    """Return `self_similarity_distance` of two pictures' features [*batch, h, w, c] at one tap.

    At most 32 x 32 positions, on a regular grid, are compared, so that memory does not grow with the
    picture. (The source draws 1024 positions anew in each update, and concatenates the features of all
    taps.)
    """
    return self_similarity_distance(
        *(grid_of_positions(at_least_float32(features)) for features in (canvas, content))
    )


CONTENT_SELF_SIMILARITY = ContentLoss(self_similarity_on_grid, unchanged, additive=False)
