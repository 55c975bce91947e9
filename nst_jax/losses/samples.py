"""Features as samples of a distribution: kept whole, sorted, and compared rank by rank.

Two distributions of numbers are compared in order: the smallest number with the smallest, the median
with the median. The function that gives the number at each level between 0 and 1 is the quantile
function; the squared Wasserstein-2 distance of two distributions of numbers is the mean squared
difference of their quantile functions.
"""

import operator
from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from nst_jax._types import FeatureMap, Scalar
from nst_jax.losses.sums import as_float


class Samples(NamedTuple):
    """The features of one or several pictures at one tap, position by position, without their places.

    Pictures of different sizes are filled up with zeros at the end; `counts` says where these begin.
    """

    values: Float[Array, "n k c"]  # features of n pictures at k positions, in the network's dtype
    counts: Float[Array, " n"]  # number of positions of each picture
    shares: Float[Array, " n"]  # weights of the pictures, which sum to 1


def positions_as_rows(features: FeatureMap, products: lax.Precision) -> Float[Array, "k c"]:
    """Return the features [h, w, c] as one row for each position."""
    del products
    return features.reshape(-1, features.shape[-1])


def samples_of(rows: Float[Array, "k c"], count: int) -> Samples:
    """Return the features of one picture, given as one row for each of its positions."""
    dtype = jnp.promote_types(rows.dtype, jnp.float32)
    return Samples(rows[None], jnp.full(1, as_float(count), dtype), jnp.ones(1, dtype))


def blended_samples(parts: Sequence[Samples], weights: Sequence[Scalar | float]) -> Samples:
    """Return the samples of several pictures, side by side, with their weights.

    A loss then uses the weighted mean of the pictures' quantile functions. The distribution that has
    this quantile function is their barycentre: no other is nearer to all of them, by the weighted mean
    of the squared Wasserstein-2 distances. And the squared distance to it has the same gradient as the
    weighted mean of the squared distances to the single pictures, which is what blending means for
    every other squared loss too.

    Args:
      parts: the samples of each picture.
      weights: weights of the pictures, which sum to 1.

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


AT_ONCE = 2**21  # largest number of numbers sorted at once, to bound the memory for sorting


def group_size(rows: int, *lengths: int) -> int:
    """Return how many rows of numbers are sorted at once: a divisor of `rows`, limited by `AT_ONCE`.

    Args:
      rows: number of rows.
      lengths: how many numbers a row has. With symbolic lengths (see `jax.export`), all rows are sorted
        at once.
    """
    if not all(isinstance(length, int) for length in lengths):
        return rows
    most = max(1, AT_ONCE // max(lengths))
    return max(n for n in range(1, rows + 1) if rows % n == 0 and n <= most)


# --- Order ----------------------------------------------------------------------------------------

# Floating-point numbers are mapped to integers in the same order and sorted as such, since XLA on a CPU
# sorts integers in a quarter of the time. The place of each number in the order is found by a binary
# search among the sorted ones; on a CPU, sorting pairs of number and index would take longer.


def _as_integers(values: Array) -> Array:
    """Return integers in the same order as these floating-point numbers; 0 and -0 give the same."""
    kind = {4: jnp.int32, 8: jnp.int64}[values.dtype.itemsize]
    return _flipped(lax.bitcast_convert_type(jnp.where(values == 0, 0.0, values), kind))


def _as_floats(integers: Array, dtype: Any) -> Array:
    """Return the floating-point numbers of which `_as_integers` made these integers."""
    return lax.bitcast_convert_type(_flipped(integers), dtype)


def _flipped(bits: Array) -> Array:
    """Return the bits of a number; if its sign bit is set, all other bits are inverted."""
    return jnp.where(bits < 0, bits ^ jnp.iinfo(bits.dtype).max, bits)


def in_order(values: Float[Array, "d k"]) -> Float[Array, "d k"]:
    """Return each row in ascending order."""
    return _as_floats(jnp.sort(_as_integers(values), axis=-1, stable=False), values.dtype)


def in_order_up_to(values: Float[Array, "d k"], count: Float[Array, ""]) -> Float[Array, "d k"]:
    """Return the first `count` numbers of each row in ascending order; what follows has no meaning."""
    last = float(jnp.finfo(values.dtype).max)
    index = jnp.arange(values.shape[-1], dtype=count.dtype)
    return in_order(jnp.where((index < count)[None], values, last))


class Ranks(NamedTuple):
    """Rows of numbers in order, and the place of each number in that order.

    Equal numbers share a run of places in the order.
    """

    ordered: Float[Array, "d m"]  # each row in ascending order
    first: Int[Array, "d m"]  # for each number as given, the first place of its run
    middle: Float[Array, "d m"]  # at the first place of each run, the middle of the run

    def as_given(self, at_first_places: Float[Array, "d m"]) -> Float[Array, "d m"]:
        """Return, for each number as given, what was computed for the first place of its run."""
        return jnp.take_along_axis(at_first_places, self.first, axis=1, mode="promise_in_bounds")


def ranks(values: Float[Array, "d m"]) -> Ranks:
    """Return the order of each row, and the rank of each number in its row."""
    given = _as_integers(values)
    ordered = jnp.sort(given, axis=-1, stable=False)
    size = ordered.shape[-1]
    place = lax.broadcasted_iota(jnp.int32, ordered.shape, 1)
    starts = jnp.where(ordered[:, 1:] != ordered[:, :-1], place[:, 1:], size)
    ends = lax.cummin(starts, axis=1, reverse=True)  # where the next run begins
    ends = jnp.concatenate([ends, jnp.full_like(place[:, :1], size)], axis=1)
    middle = (place + (ends - 1)).astype(values.dtype) / 2
    return Ranks(_as_floats(ordered, values.dtype), _first_places(ordered, given), middle)


def _first_places(ordered: Int[Array, "d m"], wanted: Int[Array, "d m"]) -> Int[Array, "d m"]:
    """Return how many numbers of an ordered row are smaller than each wanted one: a binary search."""
    size = ordered.shape[-1]
    # A size that is symbolic (see `jax.export`) may need all bits of an index.
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
    """Return the quantiles that correspond to places among `size` ordered numbers.

    The number at index i of n ordered numbers has the level (i + 1/2) / n; between the levels of two
    neighbours, quantiles are interpolated linearly, and beyond the outermost levels they stay constant.
    If `size` equals `count`, a whole place i gives exactly number i of a row.

    Args:
      ordered: rows of numbers in ascending order, of which the first `count` are valid.
      count: number of valid numbers in each row.
      places: indices from 0 to size - 1, which may be fractional.
      size: number of the ordered numbers among which `places` are indices.

    References:
      Hazen's rule, number 5 in Hyndman, Fan, "Sample quantiles in statistical packages", 1996.
    """
    last = count - 1
    index = jnp.clip((places + 0.5) * (count / as_float(size)) - 0.5, 0, last)
    lower = jnp.floor(index)

    def at(whole: Array) -> Array:
        chosen = jnp.broadcast_to(whole.astype(jnp.int32), (ordered.shape[0], whole.shape[1]))
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
    """Return the weighted mean of the quantiles of n pictures; see `quantiles` and `Samples`."""
    found = [shares[n] * quantiles(rows, counts[n], places, size) for n, rows in enumerate(ordered)]
    return reduce(operator.add, found)
