"""Features as samples of a distribution, which losses sort and compare number by number.

Losses turn the feature vectors into rows of numbers: the values of each channel, or the projections of
the vectors on each of several directions. Two rows are compared in ascending order: the smallest number
of one with the smallest of the other, median with median, and so on. The quantile function of a
distribution gives the number at each level between 0 and 1, such as the median at level 1/2. The
squared Wasserstein-2 distance of two distributions of numbers is the mean squared difference of their
quantile functions.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import FeatureMap, Scalar, sum_dtype
from nst_jax.losses.sums import as_float


class Samples(NamedTuple):
    """The features at one tap (layer) of one picture, or of several styles that are blended.

    The order of the positions has no meaning. A picture with fewer positions than the largest picture
    has zeros after its last position.
    """

    values: Float[Array, "n k c"]  # features of n pictures at k positions, in the network's dtype
    # Number of positions of each picture, without the zeros at the end; float, for use in divisions.
    counts: Float[Array, " n"]
    shares: Float[Array, " n"]  # weights of the pictures, which sum to 1


def positions_as_rows(features: FeatureMap, products: lax.Precision) -> Float[Array, "k c"]:
    """Return the features [h, w, c] as a matrix with one row for each of the h * w positions.

    `products`, the precision of matrix products, is not used, since there are none here. It is an
    argument because other functions that serve as `StyleLoss.sums` need it.
    """
    del products
    return features.reshape(-1, features.shape[-1])


def samples_of(rows: Float[Array, "k c"], count: int) -> Samples:
    """Return the `Samples` of one picture.

    Args:
      rows: the picture's features, with one row for each position.
      count: the number of positions, which is the number of rows. It is an argument because every
        function that serves as `StyleLoss.statistic` gets it.
    """
    dtype = sum_dtype(rows.dtype)
    return Samples(rows[None], jnp.full(1, as_float(count), dtype), jnp.ones(1, dtype))


def blended_samples(parts: Sequence[Samples], weights: Sequence[Scalar | float]) -> Samples:
    """Join the samples of several styles in one `Samples`, with a weight for each style.

    A loss then compares the canvas (the picture that is optimised) with the weighted mean of the
    styles' quantile functions. This mean is the quantile function of their barycentre: the distribution
    with the least weighted mean of the squared Wasserstein-2 distances to the styles. The squared
    distance to the barycentre has the same gradient as the weighted mean of the squared distances to
    the single styles. So the canvas gets the same updates as from a sum of one loss for each style,
    times the style's weight. The same holds for blends with other squared losses, such as
    `gram_mean_square`.

    Args:
      parts: the samples of each style.
      weights: weights of the styles, which sum to 1.

    References:
      Rabin, Peyré, Delon, Bernot, "Wasserstein barycenter and its application to texture mixing", 2011.
    """
    longest = max(part.values.shape[1] for part in parts)

    def filled(values: Array) -> Array:
        return jnp.pad(values, ((0, 0), (0, longest - values.shape[1]), (0, 0)))

    return Samples(
        jnp.concatenate([filled(part.values) for part in parts]),
        jnp.concatenate([part.counts for part in parts]),
        jnp.concatenate(
            [part.shares * weight for part, weight in zip(parts, weights, strict=True)]
        ),
    )


# Largest count of numbers that are sorted at once, unless a single row has more; see `group_size`. This
# limits the memory for sorting.
AT_ONCE = 2**21


def group_size(rows: int, *lengths: int) -> int:
    """Return how many rows of numbers are sorted at once, so that memory for sorting is limited.

    The result is a divisor of `rows`, so that all groups have the same size. It is the largest with
    which a group has at most `AT_ONCE` numbers in each array, or 1 if a single row has more. There are
    at least two groups if there are two rows: XLA would compute a single one outside of a loop, and
    losses at different taps (layers) would then hold their arrays at the same time.

    Args:
      rows: number of rows in each of the arrays to sort.
      lengths: for each array, how many numbers a row has. If one of these is symbolic (see
        `jax.export`), the result is `rows`: all rows are sorted at once.
    """
    if not all(isinstance(length, int) for length in lengths):
        return rows
    most = max(1, min(rows // 2, AT_ONCE // max(lengths)))
    return max(n for n in range(1, rows + 1) if rows % n == 0 and n <= most)


# --- Sorting --------------------------------------------------------------------------------------

# XLA on a CPU sorts integers in a quarter of the time that it takes to sort floating-point numbers. So
# floating-point numbers are mapped to integers whose ascending order is the same, and these integers
# are sorted. `ranks` also needs the place of each number in the sorted row. It finds the places by a
# binary search, since on a CPU sorting pairs of number and index would take longer.


def _as_integers(values: Array) -> Array:
    """Map floating-point numbers to integers: the larger of two numbers gets the larger integer.

    0 and -0 give the same integer.
    """
    kind = {4: jnp.int32, 8: jnp.int64}[values.dtype.itemsize]
    return _flipped(lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), kind))


def _as_floats(integers: Array, dtype: Any) -> Array:
    return lax.bitcast_convert_type(_flipped(integers), dtype)


def _flipped(bits: Array) -> Array:
    """Invert all bits but the sign bit of the integers whose sign bit is set.

    Floating-point numbers are stored as sign and magnitude, so the bits of negative ones, read as
    integers, are in descending order. This function makes their order ascending. It is its own inverse.
    """
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def in_order(values: Float[Array, "d k"]) -> Float[Array, "d k"]:
    """Return the numbers of each row in ascending order."""
    return _as_floats(jnp.sort(_as_integers(values), axis=-1, stable=False), values.dtype)


def in_order_up_to(values: Float[Array, "d k"], count: Float[Array, ""]) -> Float[Array, "d k"]:
    """Return `values` with the first `count` numbers of each row sorted in ascending order.

    The numbers after them are replaced by the largest finite number.
    """
    last = float(jnp.finfo(values.dtype).max)
    index = jnp.arange(values.shape[-1], dtype=count.dtype)
    return in_order(jnp.where((index < count)[None], values, last))


class Ranks(NamedTuple):
    """Rows of numbers in ascending order, and the place of each given number in its sorted row.

    A place is an index from 0 to m - 1. The consecutive places of equal numbers are called a run; a
    number that occurs once has a run of length 1. Losses treat the numbers of a run alike, as if all
    of them were at the middle of the run.
    """

    ordered: Float[Array, "d m"]  # the numbers of each row in ascending order
    first: Int[Array, "d m"]  # for each number, in the given order: the first place of its run
    # For each place of a sorted row, the middle between this place and the last place of its run. At
    # the first place of a run, this is the middle of the whole run, such as 2.5 for the places 2 and 3.
    # The entries at other places are not used: `as_given` does not read them.
    middle: Float[Array, "d m"]

    def as_given(self, at_first_places: Float[Array, "d m"]) -> Float[Array, "d m"]:
        """Bring what was computed for sorted rows back into the given order of the numbers.

        Args:
          at_first_places: what was computed for each place of the sorted rows. Only the entry at the
            first place of each run of equal numbers is read.

        Returns:
          For each number, in the given order, the entry at the first place of its run.
        """
        return jnp.take_along_axis(at_first_places, self.first, axis=1, mode="promise_in_bounds")


def ranks(values: Float[Array, "d m"]) -> Ranks:
    """Sort each row of `values`, and find the place of each number in its sorted row.

    Equal numbers have consecutive places in the sorted row. `Ranks.first` has, for each number, the
    first of these places. At this first place, `Ranks.middle` has the middle of these places.
    """
    given = _as_integers(values)
    ordered = jnp.sort(given, axis=-1, stable=False)
    size = ordered.shape[-1]
    place = lax.broadcasted_iota(jnp.int32, ordered.shape, 1)
    starts = jnp.where(ordered[:, 1:] != ordered[:, :-1], place[:, 1:], size)
    # For each place, the next place at which another number begins; `size` if there is none.
    ends = lax.cummin(starts, axis=1, reverse=True)
    ends = jnp.concatenate([ends, jnp.full_like(place[:, :1], size)], axis=1)
    middle = (place + (ends - 1)).astype(values.dtype) / 2
    return Ranks(_as_floats(ordered, values.dtype), _first_places(ordered, given), middle)


def _first_places(ordered: Int[Array, "d m"], wanted: Int[Array, "d m"]) -> Int[Array, "d m"]:
    """Return, for each number in `wanted`, how many numbers in the same row of `ordered` are smaller.

    Each row of `ordered` is in ascending order and contains the numbers of the same row of `wanted`. So
    the result is the index at which a number first occurs. It is found by a binary search.
    """
    size = ordered.shape[-1]
    # The search finds one bit of the result in each round. If the size is symbolic (see `jax.export`),
    # the result may need all 31 bits of an int32.
    bits = size.bit_length() if isinstance(size, int) else 31

    def halve(turn: Any, found: Array) -> Array:
        further = found + jnp.left_shift(1, bits - 1 - turn)
        read = jnp.minimum(further, size) - 1
        smaller = jnp.take_along_axis(ordered, read, axis=1, mode="promise_in_bounds") < wanted
        return jnp.where((further <= size) & smaller, further, found)

    return lax.fori_loop(0, bits, halve, jnp.zeros(ordered.shape, jnp.int32))


# --- Quantiles ------------------------------------------------------------------------------------


def quantiles(
    ordered: Float[Array, "d k"],
    count: Float[Array, ""],
    places: Float[Array, "#d m"],
    size: int,
) -> Float[Array, "d m"]:
    """Return the quantiles of each row of `ordered` at given levels.

    Number i of n ordered numbers, counted from 0, has the level (i + 1/2) / n. Between the levels of
    two neighbouring numbers, the quantiles are interpolated linearly; beyond the outermost levels they
    stay constant. The wanted levels are given as places in the ordered row of another picture, such as
    the canvas. That row has `size` numbers: place i stands for the level (i + 1/2) / size. If `size`
    equals `count`, a whole number i in `places` gives exactly number i of each row.

    Args:
      ordered: d rows of numbers in ascending order. In each row, only the first `count` are valid.
      count: number of valid numbers in each row.
      places: places in the other row, from 0 to size - 1, which may be fractional. They are
        [d, m], with m places for each row of `ordered`, or [1, m], with the same places for all rows.
      size: the length of the other row.

    Returns:
      For each row of `ordered`, the quantile at the level of each place, [d, m].

    References:
      Hazen's rule, number 5 in Hyndman, Fan, "Sample quantiles in statistical packages", 1996.
    """
    last = count - 1
    index = jnp.clip((places + 0.5) * (count / as_float(size)) - 0.5, 0, last)
    lower = jnp.floor(index)

    def at(whole: Array) -> Array:
        chosen = whole.astype(jnp.int32)
        if chosen.shape[0] == 1:
            # With an index for each row, XLA would keep [d, m, 2] integers during the whole run, as
            # they are the same in all updates.
            return ordered.at[:, chosen[0]].get(mode="promise_in_bounds")
        return jnp.take_along_axis(ordered, chosen, axis=1, mode="promise_in_bounds")

    below = at(lower)
    return below + (index - lower) * (at(jnp.minimum(lower + 1, last)) - below)


def blended_quantiles(
    ordered: Sequence[Float[Array, "d k"]],
    counts: Float[Array, " n"],
    shares: Float[Array, " n"],
    places: Float[Array, "#d m"],
    size: int,
) -> Float[Array, "d m"]:
    """Return the weighted mean of the quantiles of n pictures.

    Args:
      ordered: for each picture, d rows of numbers in ascending order.
      counts: for each picture, how many numbers at the beginning of each of its rows are valid.
      shares: weights of the pictures, which sum to 1.
      places: the levels of the quantiles, [d, m], or [1, m] for the same levels in all rows. A place i
        stands for the level (i + 1/2) / size.
      size: length of the sorted rows of another picture, such as the canvas, in which i is an index.

    Returns:
      The means, [d, m].
    """
    found = [shares[n] * quantiles(rows, counts[n], places, size) for n, rows in enumerate(ordered)]
    return reduce(operator.add, found)
