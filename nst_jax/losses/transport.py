"""The losses of STROTSS (Style Transfer by Relaxed Optimal Transport and Self-Similarity).

STROTSS has a style loss and a content loss. Both read vectors at random places of a picture. A vector
is the colour at one place, followed by the features of all taps (layers) at this place. The style loss
compares two sets of vectors, those of the canvas (the picture that is optimised) and those of the
style, by relaxed optimal transport, by their moments and by their colours. The content loss compares
how alike the places of a picture are to each other: it is small if places that are alike in the content
are alike in the canvas, too.

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

# The basis in which STROTSS' code compares colours, one vector in each row; the first is the axis of
# greys. The basis is orthonormal, so it changes distances only by rounding errors. It is used here so
# that these errors are the same as in STROTSS' code.
COLOUR_BASIS = np.array(
    (
        (0.57735, 0.57735, 0.57735),
        (-0.57735, 0.788675, -0.211325),
        (-0.57735, -0.211325, 0.788675),
    )
)

# A squared distance of two colours that is less than this number is replaced by it, since the gradient
# of the square root would be infinite at 0.
CLOSEST = 1e-5

# --- Distances of two sets of vectors -------------------------------------------------------------


def relaxed_transport(
    vectors: Vectors, others: Others, products: lax.Precision = lax.Precision.HIGHEST
) -> Scalar:
    """Return the relaxed earth mover's distance of two sets of vectors, by the cosine distance.

    The earth mover's distance is the least cost of a transport that empties one set and fills the
    other. If the transport only has to empty the first set, each vector of the first set goes to the
    nearest vector of the second set. If it only has to fill the second set, each vector of the second
    set comes from the nearest vector of the first set. In both cases the cost is the mean cosine
    distance to the nearest vector. The larger of the two costs is a lower bound of the earth mover's
    distance.

    The matrix of all distances only serves to find the indices of the nearest vectors. It is not kept
    for the gradient; see the module `neighbours`.

    Args:
      vectors: the first set, [n, c].
      others: the second set, [m, c].
      products: the precision of the inner products.

    Returns:
      The larger of the two costs, a scalar from 0 to 2.

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
    """Return the mean and the covariance of a set of vectors [n, c].

    The covariance is the sum of the outer products of the deviations from the mean, divided by n and
    not by n - 1.
    """
    mean = jnp.mean(rows, axis=0)
    away = rows - mean[None]
    return mean, jnp.einsum("nc,nd->cd", away, away, precision=products) / len(rows)


def moment_distance(
    moments: tuple[Float[Array, " c"], Float[Array, "c c"]],
    others: tuple[Float[Array, " c"], Float[Array, "c c"]],
) -> Scalar:
    """Return the mean absolute difference of two mean vectors, plus that of two covariance matrices.

    Args:
      moments: mean [c] and covariance [c, c] of one set of vectors, from `mean_and_spread`.
      others: mean and covariance of the other set.

    Returns:
      The sum, a scalar.

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

    The cost of moving one colour to another is their cosine distance plus sqrt(d² / 3), where d is
    their Euclidean distance. Both distances are computed in `COLOUR_BASIS`, as in STROTSS' code.
    `relaxed_transport` explains the relaxed earth mover's distance.

    Args:
      colours: the first set, RGB [n, 3].
      others: the second set, RGB [m, 3].

    Returns:
      The distance, a scalar. For equal sets it is sqrt(1e-5 / 3) and not 0, since a d² below 1e-5 is
      replaced by 1e-5.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import palette_transport
      >>> round(float(palette_transport(jnp.ones((1, 3)), jnp.ones((2, 3)) / 2)), 3)
      0.5
    """
    basis = jnp.asarray(COLOUR_BASIS.T, colours.dtype)
    # Matrix products of only three channels take hardly any time even in the highest precision. So the
    # precision is no argument here, unlike in `relaxed_transport`.
    ours, theirs = (
        jnp.matmul(rows, basis, precision=lax.Precision.HIGHEST) for rows in (colours, others)
    )

    def costs(one: Array, other: Array) -> Array:
        (cosine,) = cosine_shares(one, other, (3,))
        squared = jnp.sum(jnp.square(one - other), axis=-1)
        return cosine + jnp.sqrt(jnp.maximum(squared, CLOSEST) / 3)

    # The costs of all pairs only serve to find the nearest colours, so they need no gradient. Then
    # `costs` computes the costs of the nearest pairs again, with a gradient.
    a, b = lax.stop_gradient(ours), lax.stop_gradient(theirs)
    cosines = jnp.einsum("nc,mc->nm", unit(a), unit(b), precision=lax.Precision.HIGHEST)
    away = sum(jnp.square(a[:, None, axis] - b[None, :, axis]) for axis in range(3))
    matrix = 1 - cosines + jnp.sqrt(jnp.maximum(away, CLOSEST) / 3)
    there = costs(ours, theirs[jnp.argmin(matrix, axis=1)])
    back = costs(ours[jnp.argmin(matrix, axis=0)], theirs)
    return jnp.maximum(jnp.mean(there), jnp.mean(back))


# --- The style loss -------------------------------------------------------------------------------

# Largest number of random pixels of the canvas (the picture that is optimised) at which STROTSS' style
# loss and content loss read colours and features in an update. The content loss reads the same pixels
# of the content, too.
PLACES = 1024

# At the beginning of each scale (resolution), `DRAWS` random samples of the pixels of a style are
# drawn. The colours and features of all samples together are what the canvas is compared with. A sample
# has up to `PLACES_OF_STYLE` pixels, all different; two samples may have pixels in common.
PLACES_OF_STYLE = 1000
DRAWS = 5

# The names of the three terms of the style loss. With this loss, the recipe's `style_layer_weights` are
# not weights of layers, but the weights of these terms, in this order.
PARTS = ("transport", "moments", "palette")


def shrink_of(name: str) -> int:
    """Return how many rows of the picture one row of features stands for: 4 after two poolings.

    `name` is the name of a layer, or `PIXELS` for the picture itself.
    """
    return 1 if name == PIXELS else 1 << halvings(layer_of(name))


def vectors_at(
    features: Features,
    places: Int[Array, "n 2"],
    units: Mapping[str, float],
    *,
    between: bool = True,
) -> Float[Array, "n c"]:
    """Return the colour and the features at each place as one vector.

    Args:
      features: features by layer, preceded by the picture itself under the key `PIXELS`.
      places: [n, 2], the (row, column) of each place in px.
      units: for each layer, the number by which its features are divided; colours stay as they are.
      between: whether features are interpolated linearly between the pixels of a feature map. If False,
        the coordinates of each place in the feature map are rounded down instead.

    Returns:
      The vectors, one in each row.
    """
    found = sampled(
        list(features.values()), places, [shrink_of(name) for name in features], between=between
    )
    shares = [
        np.full(one.shape[-1], 1.0 if name == PIXELS else 1 / units[name])
        for name, one in features.items()
    ]
    return found * jnp.asarray(np.concatenate(shares), found.dtype)[None]


def style_at_places(
    pictures: Sequence[Features],
    shapes: Sequence[Shape],
    products: lax.Precision,
    *,
    units: Mapping[str, float],
) -> dict[str, Array]:
    """Return the target of the style loss: vectors of the styles, their mean and their covariance.

    Each vector joins the colour and the features of all layers at a random pixel of a style.

    Args:
      pictures: for each style, its features by layer, preceded by the picture itself under the key
        `PIXELS`.
      shapes: (height, width) of each style in px.
      products: the precision of matrix products.
      units: for each layer, the number by which its features are divided.

    Returns:
      A dictionary of the vectors of all styles together, [n, c], their mean [c] and their covariance
      [c, c].
    """
    found = [
        vectors_at(
            features,
            random_pixels(DRAWS * index + draw, shape, PLACES_OF_STYLE),
            units,
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
    units: Mapping[str, float],
) -> dict[str, Scalar]:
    """Return the three terms of STROTSS' style loss, by their names in `PARTS`.

    Args:
      features: features of the canvas by layer, preceded by the canvas itself under the key `PIXELS`.
      shape: (height, width) of the canvas in px.
      style: the result of `style_at_places`.
      matches: not used; the nearest vectors are sought anew in each update.
      step: number of the update, which determines the random places of the canvas.
      products: the precision of matrix products.
      units: for each layer, the number by which its features are divided.

    References:
      Kolkin, Salavon, Shakhnarovich, "Style Transfer by Relaxed Optimal Transport and Self-Similarity",
      2019; nkolkin13/STROTSS @ 9a1543a3.
    """
    del matches
    vectors = vectors_at(features, random_places(step, shape, PLACES), units)
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
    """Return the memory and the number of operations that the style loss of STROTSS needs.

    Args:
      features: a dictionary of arrays: layer -> the canvas' features there, and `PIXELS` -> the canvas.
        Only the shapes of the arrays are used.
      shape: (height, width) of the canvas in px.
      pictures: not used; an argument since other style losses need the styles' features.
      shapes: (height, width) of each style in px.
    """
    del pictures
    ours = number_of_places(shape, PLACES)
    theirs = DRAWS * sum(min(PLACES_OF_STYLE, height * width) for height, width in shapes)
    channels = sum(one.shape[-1] for one in features.values())
    vectors = 4 * (ours + theirs) * channels
    return MatchingCosts(
        target_bytes=4 * channels * (theirs + 1 + channels),
        update_bytes=VECTOR_COPIES * vectors
        + 4 * MATRIX_COPIES * ours * theirs
        + 4 * COVARIANCE_COPIES * channels**2
        # Gradients of the features at all layers, which are computed at once.
        + sum(one.size * one.dtype.itemsize for one in features.values()),
        # The first term counts the cosines of all pairs of vectors; no gradient flows through them. The
        # second counts the covariance and its gradient: three matrix products of the same size.
        update_operations=2.0 * ours * theirs * channels + 6.0 * ours * channels**2,
        measure_bytes=4 * channels * (theirs + channels),
    )


# The memory for the loss and its gradient is the sum of four terms: the memory of all vectors times
# `VECTOR_COPIES`, the memory of the matrix of all distances times `MATRIX_COPIES`, the memory of the
# covariance times `COVARIANCE_COPIES`, and the memory of the features' gradients. The numbers were
# found from the memory that XLA reports.
VECTOR_COPIES = 3
MATRIX_COPIES = 2
COVARIANCE_COPIES = 2

# The style loss of STROTSS, whose three terms `transport_distances` computes.
RELAXED_TRANSPORT = MatchingLoss(
    style_at_places,
    transport_distances,
    costs=transport_costs,
    parts=PARTS,
    with_pixels=True,
)


# --- The content loss -----------------------------------------------------------------------------


def self_similarity_at_places(
    canvas: Features,
    content: Features,
    shape: Shape,
    step: Int[Array, ""] | int,
    *,
    units: Mapping[str, float],
) -> Scalar:
    """Return the self-similarity loss of canvas and content, at random places drawn for each update.

    As in STROTSS' code, the style loss (`transport_distances`) reads the canvas at the same places in
    the same update. For the loss, see `self_similarity.self_similarity_distance`.

    Args:
      canvas: features of the canvas by layer, preceded by the canvas itself under the key `PIXELS`.
      content: features of the content by layer, preceded by the content itself under the key `PIXELS`.
      shape: (height, width) of canvas and content in px.
      step: number of the update, which determines the random places.
      units: for each layer, the number by which its features are divided.
    """
    places = random_places(step, shape, PLACES)
    ours, theirs = (vectors_at(found, places, units) for found in (canvas, content))
    return self_similarity_distance(ours, lax.stop_gradient(theirs))


def self_similarity_costs(features: Mapping[str, Any], shape: Shape) -> MatchingCosts:
    """Return the memory and the number of operations that the content loss of STROTSS needs.

    Args:
      features: a dictionary of arrays: layer -> the canvas' features there, and `PIXELS` -> the canvas.
        Only the shapes of the arrays are used.
      shape: (height, width) of the canvas in px.
    """
    count = number_of_places(shape, PLACES)
    channels = sum(one.shape[-1] for one in features.values())
    return MatchingCosts(
        # The target consists of the features of the content. `scaling.stored_memory` counts them for
        # every content loss, so they are not counted here.
        target_bytes=0,
        # Matrices of all distances, and vectors. Their numbers were found from XLA's count of memory.
        update_bytes=4 * count * (4 * count + 6 * channels),
        # One matrix product for the distances of the canvas, one for those of the content, and two for
        # the gradient.
        update_operations=4 * 2.0 * count * count * channels,
    )


# The content loss of STROTSS, which `self_similarity_at_places` computes.
CONTENT_SELF_SIMILARITY_AT_PLACES = JointContentLoss(
    self_similarity_at_places, self_similarity_costs
)
