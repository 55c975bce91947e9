"""Operations and memory that a loss takes at one tap (layer), counted in its jaxpr.

JAX makes a jaxpr of every loss, so the losses of users are counted like those of the package. Of the
operations, only products of matrices, sorts and gathers are counted: the others are mostly elementwise,
and take under a hundredth of the network's time. The memory is that of the results of these three kinds
of operations and of loops.
"""

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from nst_jax.losses.kinds import ContentLoss, Extent, StyleLoss


class LossCost(NamedTuple):
    """Operations and memory of a content loss, or of a style loss' distance to its target, at one tap.

    The sums over positions from which a style loss computes its statistics are not included;
    `sum_operations` counts them.

    Attributes:
      operations: number of operations of the loss or distance and of its gradient.
      memory: bytes of the results of all matrix products, sorts, gathers and loops in the loss or
        distance and in its gradient. XLA fuses elementwise operations, so that their results take no
        memory of their own.
    """

    operations: int
    memory: int


def sum_operations(loss: StyleLoss, channels: int) -> int:
    """Return how many operations a style loss's `sums` takes for each position of the features.

    For a Gram matrix, for instance, `sums` adds up the products of all pairs of channels over the
    positions. Elementwise operations and those of the gradient are not counted.

    Args:
      loss: the style loss.
      channels: number of channels of the features.

    Example:
      >>> from nst_jax.losses import GRAM_PAPER
      >>> sum_operations(GRAM_PAPER, 64)  # one product and one sum for each of 64x64 entries
      8192
    """
    return _cached(_sum_operations, loss, channels)


def distance_cost(loss: StyleLoss, height: int, width: int, channels: int) -> LossCost:
    """Return the cost of a style loss' distance to its target, for features [height, width, channels].

    The gradient of the distance is included. Elementwise operations are not counted, so the distance
    of Gram matrices costs 0. `WASSERSTEIN_RELATIVE` takes roots of matrices by products of matrices,
    which are counted.

    Example:
      >>> from nst_jax.losses import GRAM_PAPER, WASSERSTEIN_RELATIVE
      >>> distance_cost(GRAM_PAPER, 8, 8, 64)
      LossCost(operations=0, memory=0)
      >>> distance_cost(WASSERSTEIN_RELATIVE, 8, 8, 64).operations // (2 * 64**3)  # 64x64 products
      40
    """
    # An additive loss computes its distance from sums over positions, whose shapes do not depend on the
    # number of positions. So the cost is that for one position, and all sizes share one cache entry.
    if loss.additive:
        height = width = 1
    return _cached(_distance_cost, loss, height, width, channels)


def target(loss: StyleLoss, features: jax.ShapeDtypeStruct, *, styles: int) -> Any:
    """Return the shapes and types of a style loss' target for a blend of several styles.

    The target is what the loss compares the canvas with, such as a Gram matrix. Its shapes tell how
    much memory it takes.

    Args:
      loss: the style loss.
      features: the shape [h, w, c] and the type of the features of each style.
      styles: number of styles that are blended.

    Example:
      >>> from nst_jax.losses import GRAM_PAPER
      >>> target(GRAM_PAPER, jax.ShapeDtypeStruct((8, 8, 64), "float32"), styles=2).shape
      (64, 64)
    """
    height, width, channels = features.shape
    if loss.additive:
        height = width = 1
    return _cached(_target, loss, height, width, channels, features.dtype.name, styles)


def target_bytes(loss: StyleLoss, features: jax.ShapeDtypeStruct, *, styles: int) -> int:
    """Return the bytes of what `target` describes; the arguments are those of `target`.

    Example:
      >>> from nst_jax.losses import GRAM_PAPER
      >>> target_bytes(GRAM_PAPER, jax.ShapeDtypeStruct((8, 8, 64), "float32"), styles=2) // 64**2
      4
    """
    height, width, channels = features.shape
    if loss.additive:
        height = width = 1
    return _cached(_target_bytes, loss, height, width, channels, features.dtype.name, styles)


class AdditiveCosts(NamedTuple):
    """What is counted of an additive style loss at one tap: `distance_cost` and `target_bytes`.

    They are the same for all sizes of pictures, since the loss is computed from sums over positions.
    """

    operations: int
    memory: int
    target: int


def additive_costs(loss: StyleLoss, features: jax.ShapeDtypeStruct, styles: int) -> AdditiveCosts:
    """Count an additive style loss at one tap; the arguments are those of `target`."""
    distance = distance_cost(loss, *features.shape)
    return AdditiveCosts(*distance, target_bytes(loss, features, styles=styles))


def recall_additive(
    loss: StyleLoss, features: jax.ShapeDtypeStruct, styles: int, costs: AdditiveCosts
) -> None:
    """Let this process use costs that `additive_costs` has returned in an earlier one.

    Counting takes hundredths of a second for each number of channels, since JAX traces the loss.
    """
    channels, dtype = features.shape[-1], features.dtype.name
    _recalled[_distance_cost, loss, 1, 1, channels] = LossCost(costs.operations, costs.memory)
    _recalled[_target_bytes, loss, 1, 1, channels, dtype, styles] = costs.target


def content_cost(loss: ContentLoss, height: int, width: int, channels: int) -> LossCost:
    """Return the cost of a content loss and its gradient, for features [height, width, channels].

    Elementwise operations are not counted, so the cost of a plain squared difference is 0. In the
    example, the self-similarity takes four products of 64 x 64 matrices (8 * 8 positions, 64 channels),
    each of 2 * 64**3 operations.

    Example:
      >>> from nst_jax.losses import CONTENT_MEAN_SQUARE, CONTENT_SELF_SIMILARITY
      >>> content_cost(CONTENT_MEAN_SQUARE, 8, 8, 64)
      LossCost(operations=0, memory=0)
      >>> content_cost(CONTENT_SELF_SIMILARITY, 8, 8, 64).operations // (2 * 64**3)  # 64x64 products
      4
    """
    return _cached(_content_cost, loss, height, width, channels)


def _cached(function: Callable[..., Any], loss: StyleLoss | ContentLoss, *others: Any) -> Any:
    """Call a function that has an `lru_cache`, unless its result is recalled from an earlier process.

    For a loss that cannot be hashed, all caches are bypassed.
    """
    try:
        hash(loss)
    except TypeError:
        return function.__wrapped__(loss, *others)  # type: ignore[attr-defined]
    known = _recalled.get((function, loss, *others))
    return function(loss, *others) if known is None else known


# Results that an earlier process has counted: a function that `_cached` calls, with its arguments ->
# its result. Only the losses of this package are in it, so it stays small.
_recalled: dict[tuple[Any, ...], Any] = {}


@lru_cache(maxsize=256)
def _sum_operations(loss: StyleLoss, channels: int) -> int:
    jaxpr = jax.make_jaxpr(lambda x: loss.sums(x, lax.Precision.HIGHEST))(_features(1, 1, channels))
    return sum(times * _operations(equation) for equation, times in _equations(jaxpr.jaxpr))


@lru_cache(maxsize=256)
def _distance_cost(loss: StyleLoss, height: int, width: int, channels: int) -> LossCost:
    statistic = jax.eval_shape(loss.measure, _features(height, width, channels))
    made = jax.eval_shape(loss.target, statistic)

    def distance(statistic: Any, target: Any, step: Any) -> Any:
        return loss.distance(statistic, target, Extent(height * width, height * width, step))

    gradient = jax.value_and_grad(distance, allow_int=True)
    step = jax.ShapeDtypeStruct((), jnp.int32)
    return _cost(jax.make_jaxpr(gradient)(statistic, made, step).jaxpr)


@lru_cache(maxsize=256)
def _target(
    loss: StyleLoss, height: int, width: int, channels: int, dtype: str, styles: int
) -> Any:
    """Return the shapes and types of the arrays that `loss.target` returns for a number of styles.

    The results are cached, since tracing a loss takes time.
    """

    def made(features: Any) -> Any:
        statistics = [loss.measure(features) for _ in range(styles)]
        # `style_statistics.blend` returns the statistics of a single style unchanged, so this line
        # does, too.
        one = loss.blend(statistics, [1 / styles] * styles) if styles > 1 else statistics[0]
        return loss.target(one)

    return jax.eval_shape(made, _features(height, width, channels, dtype))


@lru_cache(maxsize=256)
def _target_bytes(loss: StyleLoss, *others: Any) -> int:
    arrays = jax.tree.leaves(_cached(_target, loss, *others))
    return sum(array.size * array.dtype.itemsize for array in arrays)


@lru_cache(maxsize=256)
def _content_cost(loss: ContentLoss, height: int, width: int, channels: int) -> LossCost:
    features = _features(height, width, channels)
    gradient = jax.value_and_grad(lambda canvas, content: loss(canvas, content))
    return _cost(jax.make_jaxpr(gradient)(features, features).jaxpr)


def _cost(jaxpr: Any) -> LossCost:
    found = list(_equations(jaxpr))
    return LossCost(
        operations=sum(times * _operations(equation) for equation, times in found),
        memory=sum(_bytes(equation) for equation, _ in found),
    )


def _features(
    height: int, width: int, channels: int, dtype: str = "float32"
) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((height, width, channels), dtype)


# --- Reading a jaxpr ------------------------------------------------------------------------------


def _equations(jaxpr: Any, times: int = 1) -> Iterator[tuple[Any, int]]:
    """Yield each equation of a jaxpr, and of the jaxprs inside it, with how often it is computed.

    The body of a `while` loop counts once, since the jaxpr does not say how often the body runs.
    """
    for equation in jaxpr.eqns:
        yield equation, times
        inside = times * equation.params.get("length", 1) if _is_scan(equation) else times
        for value in equation.params.values():
            for inner in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(inner, "jaxpr", inner)
                if hasattr(inner, "eqns"):
                    yield from _equations(inner, inside)


# One comparison of a sort, or one read of a gather, takes as long as this number of operations of the
# network, since it accesses memory irregularly. The number is a rough measurement on a CPU.
ACCESS = 300


def _is_scan(equation: Any) -> bool:
    return bool(equation.primitive.name == "scan")


def _operations(equation: Any) -> int:
    """Estimate the operations of a jaxpr's equation; 0 if it is no matrix product, sort or gather."""
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        sides = equation.invars[0].aval.shape
        return 2 * equation.outvars[0].aval.size * math.prod(sides[axis] for axis in contracted)
    if equation.primitive.name == "sort":
        sorted_array = equation.invars[0].aval
        length = sorted_array.shape[equation.params["dimension"]]
        return ACCESS * sorted_array.size * (length - 1).bit_length()
    if equation.primitive.name == "gather":
        return ACCESS * equation.outvars[0].aval.size // math.prod(equation.params["slice_sizes"])
    return 0


def _bytes(equation: Any) -> int:
    """Return the bytes of an equation's results; 0 unless it is a matrix product, sort, gather or loop.

    XLA fuses other operations, so that their results take no memory of their own.
    """
    if equation.primitive.name not in ("dot_general", "sort", "gather", "scan", "while"):
        return 0
    return sum(v.aval.size * v.aval.dtype.itemsize for v in equation.outvars)
