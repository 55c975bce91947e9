"""Style losses that compare positions of the canvas with the most similar positions of the style.

The canvas is the picture that is optimised. The losses are the two of Neural Neighbor Style Transfer
(NNST), `NEAREST_HYPERCOLUMNS` and `NEAREST_BY_TAP`. Both compare feature vectors of the canvas, each
with its match: the vector of the style at the smallest angle to it. (`NEAREST_BY_TAP` leaves out some
rows and columns of large feature maps.) A match may lie anywhere in the style, so pictures are not
computed in tiles: the losses read the features of whole pictures, at all style taps (the layers that
the style loss reads).

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

# The features of each style picture are computed for the picture as it is, and for the picture rotated
# by 90, 180 and 270 degrees.
QUARTER_TURNS = (0, 1, 2, 3)

# A hypercolumn is a vector with the features of all style layers at one place. There is one for each
# square of the picture with this side in px.
COARSER = 4

# For predictions of memory: what loss and gradient of `NEAREST_HYPERCOLUMNS` take, as a multiple of the
# memory of all hypercolumns of the canvas. The number was found from the memory that XLA reports.
UPDATE_COPIES = 4

# To save time, `NEAREST_BY_TAP` compares only every s-th row and column of a layer's features. The
# stride s is the longer side of the canvas' features divided by this number and rounded down, but at
# least 1. The first row and column are drawn at random in each update.
LINES = 64

# The key under which the target of `NEAREST_HYPERCOLUMNS` contains the hypercolumns of the style.
COLUMNS = "hypercolumns"

# `NEAREST_BY_TAP` computes the distances between the vectors of canvas and style in blocks. This is the
# largest number of distances in a block. It is less than `neighbours.BLOCK`, since XLA may compute a
# block for each tap (layer) at the same time.
BLOCK_OF_TAP = 2**22

# For predictions of memory: at one tap (layer), `NEAREST_BY_TAP` and its gradient need this many times
# the memory of the compared vectors of canvas and style. The distances need memory in addition.
TAP_COPIES = 2

# --- Fixed matches of hypercolumns ----------------------------------------------------------------


def hypercolumn_shape(shape: Shape) -> Shape:
    """Return how many rows and how many columns of hypercolumns a picture has.

    A hypercolumn is a vector with the features of all style layers at one place of a picture. `shape`
    is the (height, width) of the picture in px.
    """
    return max(1, shape[0] // COARSER), max(1, shape[1] // COARSER)


def hypercolumn_count(shape: Shape) -> int:
    """Return the number of hypercolumns of a picture.

    A hypercolumn is a vector with the features of all style layers at one place of a picture. `shape`
    is the (height, width) of the picture in px.
    """
    down, across = hypercolumn_shape(shape)
    return down * across


def hypercolumn_vectors(
    features: Features, shape: Shape, products: lax.Precision
) -> Float[Array, "n channels"]:
    """Return the hypercolumns of a picture as the rows of a matrix.

    A hypercolumn is a vector with the features of all style layers at one place of a picture.

    Args:
      features: features of the picture at each style tap (layer).
      shape: (height, width) of the picture in px.
      products: the precision of matrix products.
    """
    found = hypercolumns(list(features.values()), hypercolumn_shape(shape), products)
    return found.reshape(-1, found.shape[-1])


def all_hypercolumns(
    pictures: Sequence[Features], shapes: Sequence[Shape], products: lax.Precision
) -> dict[str, Float[Array, "n channels"]]:
    """Return the target of `NEAREST_HYPERCOLUMNS`: the hypercolumns of all pictures of the style.

    A hypercolumn is a vector with the features of all style layers at one place of a picture.

    Args:
      pictures: for each picture, its features at each style tap (layer).
      shapes: (height, width) of each picture in px.
      products: the precision of matrix products.

    Returns:
      A dictionary with the single key `COLUMNS`, whose array has one hypercolumn in each row.
    """
    pairs = zip(pictures, shapes, strict=True)
    rows = [hypercolumn_vectors(*pair, products) for pair in pairs]
    return {COLUMNS: jnp.concatenate(rows)}


def hypercolumn_matches(
    features: Features, shape: Shape, style: Mapping[str, Array], products: lax.Precision
) -> Int[Array, " n"]:
    """Return for each hypercolumn of a picture the index of the nearest hypercolumn of the style.

    A hypercolumn is a vector with the features of all style layers at one place of a picture. First the
    hypercolumns of the picture and those of the style are centred: the mean of either set is subtracted
    from each vector in the set. Of the centred vectors, the nearest is the one at the smallest angle.

    Args:
      features: features of the picture at each style tap (layer).
      shape: (height, width) of the picture in px.
      style: the result of `all_hypercolumns`.
      products: the precision of matrix products.
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
    """Return the mean cosine distance of the canvas' hypercolumns to their matches in the style.

    The distance is divided into one term for each tap (layer); the terms add up to the distance.

    A hypercolumn is a vector with the features of all style layers at one place of a picture. The
    canvas is the picture that is optimised.

    Args:
      features: features of the canvas at each style tap (layer).
      shape: (height, width) of the canvas in px.
      style: the result of `all_hypercolumns`.
      matches: the result of `hypercolumn_matches`.
      step: not used; `distance_to_nearest`, which has the same arguments, needs it.
      products: the precision of matrix products.

    Returns:
      For each tap its term, a scalar; see `neighbours.cosine_shares`.
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
    """Return the memory and the number of operations that `NEAREST_HYPERCOLUMNS` needs.

    Args:
      features: arrays with the shapes of the canvas' features at each style tap (layer).
      shape: (height, width) of the canvas in px.
      pictures: the features of each picture of the style; not used, since `shapes` says enough.
      shapes: (height, width) in px of each picture of the style.
    """
    del pictures
    down, across = hypercolumn_shape(shape)
    count, others = down * across, sum(map(hypercolumn_count, shapes))
    channels = sum(one.shape[-1] for one in features.values())
    # The number of multiplications with which `hypercolumns` interpolates. For each layer, it computes
    # two matrix products: one resizes the height, the other the width.
    resizing = sum(
        down * one.shape[1] * one.shape[2] * (one.shape[0] + across) for one in features.values()
    )
    rows = 4 * count * channels
    return MatchingCosts(
        target_bytes=4 * others * channels,
        update_bytes=UPDATE_COPIES * rows,
        # There are as many additions as multiplications, and the gradient takes as many of both as the
        # loss: hence 4 times the number of multiplications.
        update_operations=4.0 * resizing,
        # The memory of the hypercolumns of all style pictures before they are concatenated. The array
        # that results is counted by `target_bytes` above; both are in memory at the same time.
        measure_bytes=4 * others * channels,
        # The memory of the style's vectors at unit length, of the canvas' vectors (once as they are,
        # and once with their mean subtracted), and of one block of cosines.
        match_bytes=4 * others * channels + 2 * rows + 4 * min(max(BLOCK, others), count * others),
        match_operations=2.0 * resizing + 2.0 * count * others * channels,
    )


# --- Matches found anew in each update, tap by tap ------------------------------------------------


def maps_by_tap(
    pictures: Sequence[Features], shapes: Sequence[Shape], products: lax.Precision
) -> dict[str, tuple[Array, ...]]:
    """Return the target of `NEAREST_BY_TAP`: tap (layer) -> the features of each picture.

    `pictures` has one entry for each style picture in each of its four orientations: a dictionary from
    taps to features. The other arguments are not used; `all_hypercolumns`, which has the same
    arguments, needs them.
    """
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
    """Return, by layer, the mean cosine distance of the canvas' vectors to the style's nearest ones.

    At each layer, every s-th row and column of features is read. The stride s is 1 if the canvas'
    features have fewer than 128 rows and columns. Otherwise s is such that 64 to 95 rows or columns are
    read along the longer side. The first row and column to read are drawn at random in each update, and
    are the same for canvas and style. Before they are compared, the vectors of the canvas are centred,
    which means that their mean is subtracted from each; so are those of the style.

    This departs from the code of the paper's authors in two ways. At a layer with at most 64 rows and
    columns, their code compares the vectors of the preceding layer, apparently by mistake; here those
    of the layer itself are compared. For some random first rows or columns, their code reads one more
    row or column than for others; here the number is always the same.

    Args:
      features: features of the canvas at each style tap (layer).
      shape: not used.
      style: the features of all style pictures at each style tap, as `maps_by_tap` returns them.
      matches: not used; the nearest vectors are sought anew in each update.
      step: number of the update, which determines the random first row and column.
      products: the precision of the inner products.
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
    """Return the vectors at every `stride`th row and column of features [h, w, c].

    `first` has the indices of the first row and of the first column, both less than `stride`. Since
    `jax.jit` needs fixed shapes, the result has the same number of rows and columns for every `first`;
    `grid_lines` leaves out a last row or column that exists only for a small `first`.
    """
    rows, columns = (grid_lines(first[axis], features.shape[axis], stride) for axis in (0, 1))
    return features[rows][:, columns].reshape(-1, features.shape[-1])


def nearest_costs(
    features: Mapping[str, Any],
    shape: Shape,
    pictures: Sequence[Mapping[str, Any]],
    shapes: Sequence[Shape],
) -> MatchingCosts:
    """Return the memory and the number of operations that `NEAREST_BY_TAP` needs.

    Two arguments are not used: every function that serves as `MatchingLoss.costs` gets all four.

    Args:
      features: arrays with the shapes of the canvas' features at each style tap (layer).
      shape: (height, width) of the canvas in px; not used.
      pictures: for each picture of the style, arrays with the shapes of its features at each style tap.
      shapes: (height, width) in px of each picture of the style; not used.
    """
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


# The loss of NNST at its successive resolutions (scales). A hypercolumn is a vector with the features
# of all style layers at one place. The nearest hypercolumns of the style are found at the beginning of
# a scale and then stay fixed.
NEAREST_HYPERCOLUMNS = MatchingLoss(
    all_hypercolumns,
    distance_to_matches,
    hypercolumn_matches,
    hypercolumn_count,
    hypercolumn_costs,
    QUARTER_TURNS,
)

# The loss of NNST's final pass at the full resolution: each layer is compared by itself, and the
# nearest vectors are sought anew in every update.
NEAREST_BY_TAP = MatchingLoss(
    maps_by_tap, distance_to_nearest, costs=nearest_costs, turns=QUARTER_TURNS
)
