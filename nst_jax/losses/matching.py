"""Style losses that match positions: every position of the canvas with the nearest one of the style.

These are the two losses of Neural Neighbor Style Transfer (NNST). Both compare each feature vector of
the canvas with the most similar vector of the style, by the cosine of their angle. They need whole
pictures, and the features of all style taps.

References:
  Kolkin, Kucera, Paris, Sykora, Shechtman, Shakhnarovich, "Neural Neighbor Style Transfer", 2022;
  nkolkin13/NeuralNeighborStyleTransfer @ 290976ab.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import Features, Scalar, Shape
from nst_jax.losses.kinds import MatchingCosts, MatchingLoss
from nst_jax.losses.many_taps import hypercolumns
from nst_jax.losses.neighbours import (
    BLOCK,
    centred,
    cosine_shares,
    nearest_distance,
    nearest_indices,
)
from nst_jax.losses.places import grid_lines, key_of
from nst_jax.losses.sums import at_least_float32

QUARTER_TURNS = (0, 1, 2, 3)

COARSER = 4  # hypercolumns have a position for every 4 x 4 px of the picture

# How many arrays of the size of all hypercolumns of the canvas exist while loss and gradient are
# computed, as the memory that XLA reports shows.
UPDATE_COPIES = 4

LINES = (
    64  # about how many lines (rows or columns) of a tap's longer side are compared in one update
)

COLUMNS = "hypercolumns"  # name of the target of `NEAREST_HYPERCOLUMNS`

# Number of distances of one tap in memory at once. It is less than `BLOCK`, since XLA may compute all
# taps at the same time.
BLOCK_OF_TAP = 2**22

# How many arrays of the size of a tap's samples of canvas and style exist at a time.
TAP_COPIES = 2

# --- Fixed matches of hypercolumns ----------------------------------------------------------------


def hypercolumn_shape(shape: Shape) -> Shape:
    """Return how many hypercolumns (down, across) a picture of this (height, width) has."""
    return max(1, shape[0] // COARSER), max(1, shape[1] // COARSER)


def hypercolumn_count(shape: Shape) -> int:
    """Return how many hypercolumns a picture of this (height, width) has."""
    down, across = hypercolumn_shape(shape)
    return down * across


def hypercolumn_vectors(
    features: Features, shape: Shape, products: lax.Precision
) -> Float[Array, "n channels"]:
    """Return the hypercolumns of a picture of this (height, width), one per row."""
    found = hypercolumns(list(features.values()), hypercolumn_shape(shape), products)
    return found.reshape(-1, found.shape[-1])


def all_hypercolumns(
    pictures: Sequence[Features], shapes: Sequence[Shape], products: lax.Precision
) -> dict[str, Float[Array, "n channels"]]:
    """Return the hypercolumns of all pictures of the style, one per row, under the key `COLUMNS`."""
    pairs = zip(pictures, shapes, strict=True)
    rows = [hypercolumn_vectors(*pair, products) for pair in pairs]
    return {COLUMNS: jnp.concatenate(rows)}


def hypercolumn_matches(
    features: Features, shape: Shape, style: Mapping[str, Array], products: lax.Precision
) -> Int[Array, " n"]:
    """Return for each hypercolumn of a picture the index of the nearest one of the style.

    From each vector, the mean of its set (picture or style) is subtracted first. The nearest vector is
    the one at the smallest angle after that.
    """
    vectors = hypercolumn_vectors(features, shape, products)
    return nearest_indices(centred(vectors), centred(style[COLUMNS]), products)


def distance_to_matches(
    features: Features,
    shape: Shape,
    style: Mapping[str, Array],
    matches: Int[Array, " n"],
    step: Any,
    products: lax.Precision,
) -> dict[str, Scalar]:
    """Return the mean cosine distance of hypercolumns to their matches, split into shares of the taps.

    The shares add up to the distance.
    """
    del step
    vectors = hypercolumn_vectors(features, shape, products)
    partners = style[COLUMNS][matches]
    sizes = [one.shape[-1] for one in features.values()]
    shares = cosine_shares(vectors, lax.stop_gradient(partners), sizes)
    return {tap: jnp.mean(share) for tap, share in zip(features, shares, strict=True)}


def hypercolumn_costs(
    features: Mapping[str, Any],
    shape: Shape,
    pictures: Sequence[Mapping[str, Any]],
    shapes: Sequence[Shape],
) -> MatchingCosts:
    """Return the costs of `NEAREST_HYPERCOLUMNS`."""
    del pictures
    down, across = hypercolumn_shape(shape)
    count, others = down * across, sum(map(hypercolumn_count, shapes))
    channels = sum(one.shape[-1] for one in features.values())
    # Interpolation multiplies by a matrix along each axis, for the value and for the gradient.
    resizing = sum(
        down * one.shape[1] * one.shape[2] * (one.shape[0] + across) for one in features.values()
    )
    rows = 4 * count * channels
    return MatchingCosts(
        target_bytes=4 * others * channels,
        update_bytes=UPDATE_COPIES * rows,
        update_operations=4.0 * resizing,
        measure_bytes=4 * others * channels,  # the vectors before they are concatenated
        # The style's vectors at unit length, the canvas' as features and centred, a block of cosines.
        match_bytes=4 * others * channels + 2 * rows + 4 * min(max(BLOCK, others), count * others),
        match_operations=2.0 * resizing + 2.0 * count * others * channels,
    )


# --- Moving matches, tap by tap -------------------------------------------------------------------


def maps_by_tap(
    pictures: Sequence[Features], shapes: Sequence[Shape], products: lax.Precision
) -> dict[str, tuple[Array, ...]]:
    """Return the features of all pictures of the style, by tap."""
    del shapes, products
    return {tap: tuple(found[tap] for found in pictures) for tap in pictures[0]}


def distance_to_nearest(
    features: Features,
    shape: Shape,
    style: Mapping[str, Sequence[Array]],
    matches: None,
    step: Int[Array, ""] | int,
    products: lax.Precision,
) -> dict[str, Scalar]:
    """Return for each tap the mean cosine distance of the canvas' vectors to the style's nearest.

    If the features of a tap have more than 64 lines (rows or columns) along the longer side, about 64
    are read, at equal distances from a random first line. This line is drawn for each update, and is
    the same for canvas and style. From both sets of vectors their mean is subtracted.

    Departures from the source: at taps with at most 64 lines its code compares, apparently by mistake,
    the samples of the tap before; here such taps are compared whole. And its code reads one line more
    where the first line leaves room for it; here the number of lines is always the same.
    """
    del shape, matches
    key = key_of(step)
    found = {}
    for index, (tap, canvas) in enumerate(features.items()):
        stride = max(1, max(canvas.shape[:2]) // LINES)
        first = jax.random.randint(jax.random.fold_in(key, index), (2,), 0, stride)
        vectors, *others = (
            _on_grid(at_least_float32(one), first, stride) for one in (canvas, *style[tap])
        )
        found[tap] = nearest_distance(
            centred(vectors),
            lax.stop_gradient(centred(jnp.concatenate(others))),
            products,
            block=BLOCK_OF_TAP,
        )
    return found


def _on_grid(features: Array, first: Int[Array, "2"], stride: int) -> Float[Array, "n c"]:
    """Return the vectors at the crossings of every `stride`th row with every `stride`th column."""
    rows, columns = (grid_lines(first[axis], features.shape[axis], stride) for axis in (0, 1))
    return features[rows][:, columns].reshape(-1, features.shape[-1])


def nearest_costs(
    features: Mapping[str, Any],
    shape: Shape,
    pictures: Sequence[Mapping[str, Any]],
    shapes: Sequence[Shape],
) -> MatchingCosts:
    """Return the costs of `NEAREST_BY_TAP`."""
    del shape, shapes
    products, memory = 0.0, 0
    for tap, canvas in features.items():
        stride = max(1, max(canvas.shape[:2]) // LINES)

        def on_grid(one: Any, stride: int = stride) -> int:
            down, across = (max(1, side // stride) for side in one.shape[:2])
            return down * across

        count, others = on_grid(canvas), sum(on_grid(found[tap]) for found in pictures)
        products += 2.0 * count * others * canvas.shape[2]
        vectors = 4 * (count + others) * canvas.shape[2]
        memory += 4 * min(max(BLOCK_OF_TAP, others), count * others) + TAP_COPIES * vectors
    kept = [one for found in pictures for one in found.values()]
    return MatchingCosts(
        target_bytes=sum(one.size * one.dtype.itemsize for one in kept),
        update_bytes=memory,
        update_operations=products,
    )


# The loss of NNST's scales: matches are found at the beginning of a scale and then fixed.
NEAREST_HYPERCOLUMNS = MatchingLoss(
    all_hypercolumns,
    distance_to_matches,
    hypercolumn_matches,
    hypercolumn_count,
    hypercolumn_costs,
    QUARTER_TURNS,
)

# The loss of NNST's final pass: tap by tap, with the nearest vectors sought in every update.
NEAREST_BY_TAP = MatchingLoss(
    maps_by_tap, distance_to_nearest, costs=nearest_costs, turns=QUARTER_TURNS
)
