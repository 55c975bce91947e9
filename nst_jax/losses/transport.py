"""The losses of STROTSS: relaxed transport, moments and palette of features at random places.

A vector has all taps' features at one place of a picture, after its three colours. The style loss
compares the vectors of the canvas at random places with those of the style, as two sets. The content
loss compares which of the canvas' places look alike with which places of the content do.

References:
  Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity",
  2019; nkolkin13/STROTSS @ 9a1543a3.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import Features, Scalar, Shape
from nst_jax.losses.kinds import PIXELS, JointContentLoss, MatchingCosts, MatchingLoss
from nst_jax.losses.many_taps import sampled
from nst_jax.losses.neighbours import Others, Vectors, cosine_shares, unit
from nst_jax.losses.places import number_of_places, random_pixels, random_places
from nst_jax.losses.self_similarity import self_similarity_distance
from nst_jax.losses.squares import absolute
from nst_jax.vgg.taps import halvings, layer_of

# The orthogonal basis in which colours are compared: the axis of greys, and two across it.
COLOUR_BASIS = np.array(
    (
        (0.57735, 0.57735, 0.57735),
        (-0.57735, 0.788675, -0.211325),
        (-0.57735, -0.211325, 0.788675),
    )
)

CLOSEST = 1e-5  # squared distances of colours below this count as this, which has a finite gradient

# --- Losses of two sets ---------------------------------------------------------------------------


def relaxed_transport(
    vectors: Vectors, others: Others, products: lax.Precision = lax.Precision.HIGHEST
) -> Scalar:
    """Return the relaxed earth mover's distance of two sets of vectors, by the cosine distance.

    Transport has to empty one set and to fill the other. If only one of these demands is kept, every
    vector goes to its nearest one, and the cost is the mean distance to the nearest. The larger of the
    two costs is a lower bound of the earth mover's distance.

    Only the indices of the nearest vectors come from the matrix of all distances, of which no gradient
    is kept; see the module `neighbours`.

    Args:
      vectors: [n, c].
      others: [m, c].
      products: the precision of the inner products.

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
    fixed, wanted = (unit(lax.stop_gradient(rows)) for rows in (vectors, others))
    cosines = jnp.einsum("nc,mc->nm", fixed, wanted, precision=products)
    sizes = (vectors.shape[-1],)
    (there,) = cosine_shares(vectors, others[jnp.argmax(cosines, axis=1)], sizes)
    (back,) = cosine_shares(vectors[jnp.argmax(cosines, axis=0)], others, sizes)
    return jnp.maximum(jnp.mean(there), jnp.mean(back))


def mean_and_spread(
    rows: Vectors, products: lax.Precision = lax.Precision.HIGHEST
) -> tuple[Float[Array, " c"], Float[Array, "c c"]]:
    """Return the mean and the covariance of a set of vectors [n, c]: sums divided by n."""
    mean = jnp.mean(rows, axis=0)
    away = rows - mean[None]
    return mean, jnp.einsum("nc,nd->cd", away, away, precision=products) / len(rows)


def moment_distance(
    moments: tuple[Float[Array, " c"], Float[Array, "c c"]],
    others: tuple[Float[Array, " c"], Float[Array, "c c"]],
) -> Scalar:
    """Return the mean absolute difference of two means plus that of two covariances.

    Args:
      moments: the result of `mean_and_spread` for one set of vectors.
      others: that for the other set.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import mean_and_spread, moment_distance
      >>> rows = jnp.array([[0.0], [2.0]])
      >>> own, moved, wider = (mean_and_spread(each) for each in (rows, rows + 3, 2 * rows))
      >>> float(moment_distance(own, moved)), float(moment_distance(own, wider))
      (3.0, 4.0)
    """
    means, covariances = (absolute(a - b) for a, b in zip(moments, others, strict=True))
    return jnp.mean(means) + jnp.mean(covariances)


def palette_transport(colours: Float[Array, "n 3"], others: Float[Array, "m 3"]) -> Scalar:
    """Return the relaxed earth mover's distance of two sets of colours.

    The distance of two colours is their cosine distance plus sqrt(d² / 3), where d is their Euclidean
    distance, both in a basis whose first axis is that of the greys.

    Args:
      colours: RGB [n, 3].
      others: RGB [m, 3].

    Returns:
      The distance. For equal sets it is sqrt(1e-5 / 3), since d² counts as 1e-5 at least.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import palette_transport
      >>> round(float(palette_transport(jnp.ones((1, 3)), jnp.ones((2, 3)) / 2)), 3)
      0.5
    """
    basis = jnp.asarray(COLOUR_BASIS.T, colours.dtype)
    # Three products for each pair: exact ones cost nothing.
    ours, theirs = (
        jnp.matmul(rows, basis, precision=lax.Precision.HIGHEST) for rows in (colours, others)
    )

    def costs(one: Array, other: Array) -> Array:
        (cosine,) = cosine_shares(one, other, (3,))
        squared = jnp.sum(jnp.square(one - other), axis=-1)
        return cosine + jnp.sqrt(jnp.maximum(squared, CLOSEST) / 3)

    # As in `relaxed_transport`, the matrix of all costs only gives the indices of the least ones.
    a, b = lax.stop_gradient(ours), lax.stop_gradient(theirs)
    cosines = jnp.einsum("nc,mc->nm", unit(a), unit(b), precision=lax.Precision.HIGHEST)
    away = sum(jnp.square(a[:, None, axis] - b[None, :, axis]) for axis in range(3))
    matrix = 1 - cosines + jnp.sqrt(jnp.maximum(away, CLOSEST) / 3)
    there = costs(ours, theirs[jnp.argmin(matrix, axis=1)])
    back = costs(ours[jnp.argmin(matrix, axis=0)], theirs)
    return jnp.maximum(jnp.mean(there), jnp.mean(back))


# --- The style loss -------------------------------------------------------------------------------

PLACES = 1024  # most places of the canvas and of the content that are read in one update

# The style is read at `DRAWS` times so many places, at the beginning of a scale. Each draw takes no
# pixel twice, but several draws may take the same.
PLACES_OF_STYLE = 1000
DRAWS = 5

PARTS = ("transport", "moments", "palette")


def shrink_of(name: str) -> int:
    """Return how many lines of a picture a line of the features stands for, by their name."""
    return 1 if name == PIXELS else 1 << halvings(layer_of(name))


def vectors_at(
    features: Features, places: Int[Array, "n 2"], share: float, *, between: bool = True
) -> Float[Array, "n c"]:
    """Return the colours and the features at places as vectors; features are multiplied by `share`."""
    found = sampled(
        list(features.values()), places, [shrink_of(name) for name in features], between=between
    )
    return jnp.concatenate([found[:, :3], share * found[:, 3:]], axis=-1)


def style_at_places(
    pictures: Sequence[Features],
    shapes: Sequence[Shape],
    products: lax.Precision,
    *,
    unit: float,
) -> dict[str, Array]:
    """Return the vectors of the styles at random places, with their mean and covariance.

    Args:
      pictures: features by tap of each style, with the picture itself under `PIXELS`.
      shapes: (height, width) of each.
      products: the precision of matrix products.
      unit: by which the features are divided; see `MatchingLoss.with_pixels`.
    """
    found = [
        vectors_at(
            features,
            random_pixels(DRAWS * index + draw, shape, PLACES_OF_STYLE),
            1 / unit,
            between=False,
        )
        for index, (features, shape) in enumerate(zip(pictures, shapes, strict=True))
        for draw in range(DRAWS)
    ]
    vectors = jnp.concatenate(found)
    mean, covariance = mean_and_spread(vectors, products)
    return {"vectors": vectors, "mean": mean, "covariance": covariance}


def transport_distances(
    features: Features,
    shape: Shape,
    style: Mapping[str, Array],
    matches: None,
    step: Int[Array, ""] | int,
    products: lax.Precision,
    *,
    unit: float,
) -> dict[str, Scalar]:
    """Return the three parts of STROTSS' style loss, by name; see `PARTS`.

    References:
      Those of the module.
    """
    del matches
    vectors = vectors_at(features, random_places(step, shape, PLACES), 1 / unit)
    moments = mean_and_spread(vectors, products)
    return {
        "transport": relaxed_transport(vectors, style["vectors"], products),
        "moments": moment_distance(moments, (style["mean"], style["covariance"])),
        "palette": palette_transport(vectors[:, :3], style["vectors"][:, :3]),
    }


def transport_costs(
    features: Mapping[str, Any],
    shape: Shape,
    pictures: Sequence[Mapping[str, Any]],
    shapes: Sequence[Shape],
) -> MatchingCosts:
    """Return the costs of `RELAXED_TRANSPORT`."""
    del pictures
    ours = number_of_places(shape, PLACES)
    theirs = DRAWS * sum(min(PLACES_OF_STYLE, height * width) for height, width in shapes)
    channels = sum(one.shape[-1] for one in features.values())
    vectors = 4 * (ours + theirs) * channels
    return MatchingCosts(
        target_bytes=4 * channels * (theirs + 1 + channels),
        update_bytes=VECTOR_COPIES * vectors
        + 4 * MATRIX_COPIES * ours * theirs
        + 4 * COVARIANCE_COPIES * channels**2,
        # The cosines; the covariance, whose gradient takes another product of that size.
        update_operations=2.0 * ours * theirs * channels + 4.0 * ours * channels**2,
        measure_bytes=4 * channels * (theirs + channels),
    )


# How many arrays of the size of all vectors, of all distances and of the covariance exist while loss
# and gradient are computed, as the memory that XLA reports shows.
VECTOR_COPIES = 3
MATRIX_COPIES = 2
COVARIANCE_COPIES = 2

RELAXED_TRANSPORT = MatchingLoss(
    style_at_places,
    transport_distances,
    costs=transport_costs,
    parts=PARTS,
    with_pixels=True,
)


# --- The content loss -----------------------------------------------------------------------------


def self_similarity_at_places(
    canvas: Features, content: Features, shape: Shape, step: Int[Array, ""] | int, *, unit: float
) -> Scalar:
    """Return `self_similarity_distance` of canvas and content at the places of the style loss.

    Args:
      canvas: features by tap, with the picture itself under `PIXELS`.
      content: those of the content.
      shape: (height, width) of both.
      step: number of the update, which decides on the places.
      unit: by which the features are divided; see `MatchingLoss.with_pixels`.
    """
    places = random_places(step, shape, PLACES)
    ours, theirs = (vectors_at(found, places, 1 / unit) for found in (canvas, content))
    return self_similarity_distance(ours, lax.stop_gradient(theirs))


def self_similarity_costs(features: Mapping[str, Any], shape: Shape) -> MatchingCosts:
    """Return the costs of `CONTENT_SELF_SIMILARITY_AT_PLACES`."""
    count = number_of_places(shape, PLACES)
    channels = sum(one.shape[-1] for one in features.values())
    return MatchingCosts(
        target_bytes=0,  # the content's features are counted as those of every content loss
        update_bytes=4 * count * (4 * count + 2 * channels),
        # The distances of the canvas, those of the content, and twice as much for the gradient.
        update_operations=4 * 2.0 * count * count * channels,
    )


CONTENT_SELF_SIMILARITY_AT_PLACES = JointContentLoss(
    self_similarity_at_places, self_similarity_costs
)
