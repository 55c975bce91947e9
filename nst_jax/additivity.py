"""Checks of losses on small random features: of a user's own losses, before a run.

A loss must be a single number. A loss with `additive=True` must really be computed from sums over
positions or pixels: if a picture is computed in parts, whose sums are added, only such a loss has the
right value.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from nst_jax._types import Features, Shape
from nst_jax.loss_results import (
    fault_of_count,
    fault_of_distances,
    fault_of_matches,
    fault_of_number,
    fault_of_target,
)
from nst_jax.losses import (
    CONTENT_LOSSES,
    PIXELS,
    STYLE_LOSSES,
    VARIATIONS,
    ContentLoss,
    Extent,
    JointContentLoss,
    Loss,
    MatchingLoss,
    StyleLoss,
    Variation,
)
from nst_jax.vgg.taps import LAYERS, feature_shape, layer_of

# Losses that the checks skip at run time, since the tests of this package check them.
BUILT_IN = (*CONTENT_LOSSES.values(), *STYLE_LOSSES.values(), *VARIATIONS.values())

TOLERANCE = 1e-3  # relative error up to which sums count as equal, to allow for rounding


def check_additive(argument: str, loss: Loss) -> None:
    """Refuse a loss with `additive=True` whose `sums` are not sums over positions or pixels.

    Such a loss would silently give wrong values for a picture that is computed in parts: in tiles, or
    in bands on several devices. The check evaluates `sums` on small random features; for a loss that
    is hashable, the result is cached. A loss that cannot be evaluated on these features, for
    example because it needs another number of channels, is accepted unchecked.

    Args:
      argument: the caller's name for the loss, used in the message.
      loss: any loss; the losses of the package, and those with `additive=False`, are not evaluated.

    Raises:
      ValueError: if the sums over two halves of the features or pixels do not add up to the sums over
        all of them. For a content or style loss, also if the sums change when positions are added at
        which all features are zero. For a `Variation` (total variation loss), also if the sums change
        when a mask that is True everywhere is given.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.additivity import check_additive
      >>> from nst_jax.losses import StyleLoss, gram_mean_square, mean_over_positions
      >>> def largest(features, products):
      ...     return jnp.max(features, axis=(-3, -2))
      >>> loss = StyleLoss(largest, mean_over_positions, gram_mean_square)
      >>> check_additive("style_loss", loss._replace(additive=False))
      >>> check_additive("style_loss", loss)      # doctest: +ELLIPSIS
      Traceback (most recent call last):
      ValueError: `style_loss`: says that it is additive, but its sums over two halves of random ...
    """
    if not loss.additive or loss in BUILT_IN:
        return
    finding = _not_additive_cached(loss) if _is_hashable(loss) else _not_additive(loss)
    if finding:
        raise ValueError(
            f"`{argument}`: says that it is additive, but {finding}; declare it with "
            "`additive=False`, and pictures will be computed in one piece"
        )


def check_scalar(argument: str, loss: Loss) -> None:
    """Refuse a loss that is not one floating-point number, such as one whose mean was not taken.

    The loss is traced with small features, so nothing is computed; for a loss that is hashable, the
    result is cached. As in `check_additive`, a loss that cannot be evaluated on them is accepted
    unchecked. A `MatchingLoss` and a `JointContentLoss`, which read all layers together, are checked by
    `check_joint`, which needs to know the layers.

    Args:
      argument: the caller's name for the loss, used in the message.
      loss: any loss; the losses of the package are not traced.

    Raises:
      TypeError: if the loss is something else than an array of shape [] or a number.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.additivity import check_scalar
      >>> from nst_jax.losses import GRAM_PAPER
      >>> def distance(canvas, style, extent):
      ...     return jnp.square(canvas - style)
      >>> check_scalar("style_loss", GRAM_PAPER._replace(distance=distance))  # doctest: +ELLIPSIS
      Traceback (most recent call last):
      TypeError: `style_loss`: `distance` returned an array of float32 of the shape [64, 64], ...
    """
    if loss in BUILT_IN or isinstance(loss, (MatchingLoss, JointContentLoss)):
        return
    if finding := (_not_scalar_cached(loss) if _is_hashable(loss) else _not_scalar(loss)):
        raise TypeError(f"`{argument}`: {finding}")


def _not_scalar(loss: ContentLoss | StyleLoss | Variation) -> str:
    """Return a phrase that says what is wrong with the value of a loss, or "" if it is a number."""
    found: list[str] = []
    function = "`distance`" if isinstance(loss, StyleLoss) else "`value`"

    def evaluate(canvas: Array, other: Array) -> None:
        if isinstance(loss, Variation):
            value = loss(canvas)
        elif isinstance(loss, ContentLoss):
            value = loss(canvas, other)
        else:
            target, count = loss.target(loss.measure(other)), canvas.shape[0] * canvas.shape[1]
            step = jnp.zeros((), jnp.int32)
            value = loss.distance(loss.measure(canvas), target, Extent(count, count, step))
        found.append(fault_of_number(value, function))

    features = jax.ShapeDtypeStruct((4, 6, _channels(loss)), jnp.float32)
    try:
        jax.eval_shape(evaluate, features, features)
    except Exception:
        return ""  # as in `_not_additive`
    return found[0]


_not_scalar_cached = lru_cache(maxsize=128)(_not_scalar)


def check_joint(argument: str, loss: MatchingLoss | JointContentLoss, taps: Sequence[str]) -> None:
    """Refuse a loss that reads all layers together and whose functions return what they should not.

    As in `check_scalar`, the loss is traced with features of a small picture, the result is cached, and
    a loss that cannot be evaluated on them is accepted unchecked.

    Args:
      argument: the caller's name for the loss, used in the message.
      loss: the loss; the losses of the package are not traced.
      taps: names of the taps (layers) that the loss reads.

    Raises:
      TypeError: if `target` of a `MatchingLoss` returns no dictionary of arrays, `distances` no number
        for each tap or part, `number` no whole number, or `matches` another number of whole numbers; or
        if `distance` of a `JointContentLoss` returns no number.
    """
    if loss in BUILT_IN:
        return
    function = _joint_fault_cached if _is_hashable(loss) else _joint_fault
    if fault := function(loss, tuple(taps)):
        raise TypeError(f"`{argument}`: {fault}")


# The side, in px, of the picture with whose features `check_joint` traces a loss.
SIDE = 64


def _joint_fault(loss: MatchingLoss | JointContentLoss, taps: tuple[str, ...]) -> str:
    """Return a phrase that says what a function of a loss should not return, or "" if all is right."""
    shape, found = (SIDE, SIDE), list[str]()
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    features = {
        tap: jax.ShapeDtypeStruct(
            (*feature_shape(tap, *shape, ceil=False), LAYERS[layer_of(tap)][1]), jnp.float32
        )
        for tap in taps
    }
    units = dict.fromkeys(taps, 1.0)

    def evaluate(pixels: Array, features: Features, step: Array) -> None:
        # `jax.eval_shape` sorts the keys of dictionaries.
        both = {PIXELS: pixels, **{tap: features[tap] for tap in taps}}
        if isinstance(loss, MatchingLoss):
            found.append(_fault_of_matching(loss, both, shape, step, units))
        else:
            value = loss.distance(both, both, shape, step, units=units)
            found.append(fault_of_number(value, "`distance`"))

    try:
        jax.eval_shape(evaluate, picture, features, jax.ShapeDtypeStruct((), jnp.int32))
    except Exception:
        return ""  # as in `_not_additive`
    return found[0]


_joint_fault_cached = lru_cache(maxsize=128)(_joint_fault)


def _fault_of_matching(
    loss: MatchingLoss, both: Features, shape: Shape, step: Any, units: dict[str, float]
) -> str:
    """Call the functions of a `MatchingLoss`; return the first fault in what they return, or "".

    Args:
      loss: the loss.
      both: a picture and its features, for the canvas and for each picture of the style.
      shape: (height, width) of the picture.
      step: number of the update.
      units: by tap (layer), a number by which the features are divided.
    """
    features = {tap: one for tap, one in both.items() if tap != PIXELS}
    read = both if loss.with_pixels else features
    others: dict[str, Any] = {"units": units} if loss.with_pixels else {}
    products, count = lax.Precision.HIGHEST, len(loss.turns)
    target = loss.target([read] * count, [shape] * count, products, **others)
    if fault := fault_of_target(target):
        return fault
    matches = None
    if loss.matches is not None and loss.number is not None:
        number = loss.number(shape)
        if fault := fault_of_count(number, shape):
            return fault
        matches = loss.matches(features, shape, target, products)
        if fault := fault_of_matches(matches, number):
            return fault
    distances = loss.distances(read, shape, target, matches, step, products, **others)
    return fault_of_distances(distances, loss.parts or tuple(features))


def _channels(loss: ContentLoss | StyleLoss | Variation) -> int:
    """Return the number of channels of a picture, or of features at relu1_1, as the loss reads it."""
    return 3 if isinstance(loss, Variation) else 64


def _not_additive(loss: Loss) -> str:
    """Return a phrase for messages that says why a loss is not additive, or "" if it seems additive.

    A loss is additive if it is computed from sums over positions, so that the sums over the parts of a
    picture add up to those over the whole picture.
    """
    if isinstance(loss, (MatchingLoss, JointContentLoss)):
        return "it compares positions of a whole picture"
    try:
        # This context gives concrete values even if JAX is tracing the caller.
        with jax.ensure_compile_time_eval():
            whole, with_zeros, halves = jax.device_get(jax.jit(partial(_probe, loss))())
    except Exception:
        # The loss raised an error for the random data of `_probe`, so its sums cannot be checked. If
        # the loss is faulty, a run will raise the error again.
        return ""
    if missed := _missed([with_zeros], whole):
        what = (
            "a mask of True changes" if isinstance(loss, Variation) else "positions of zeros change"
        )
        return f"{what} its sums ({missed})"
    if missed := _missed(halves, whole):
        return (
            "its sums over two halves of random features do not add up to those over the whole "
            f"({missed})"
        )
    return ""


_not_additive_cached = lru_cache(maxsize=128)(_not_additive)


def _is_hashable(loss: Loss) -> bool:
    try:
        hash(loss)
    except TypeError:
        return False
    return True


def _probe(loss: ContentLoss | StyleLoss | Variation) -> tuple[Any, Any, tuple[Any, Any]]:
    """Return the sums of a loss for random data, for these data with zeros appended, and for each half.

    The data are features. For a `Variation`, they are pixels. To these no zeros are appended, since
    they would add differences between neighbours. Instead, the second result is for the same pixels
    with a mask that includes every pixel, being True everywhere; it must change nothing either.
    """
    random = np.random.default_rng(0)
    shape = (2, 4, 6, _channels(loss))
    canvas, other = jnp.asarray(np.maximum(random.normal(size=shape), 0), jnp.float32)
    if isinstance(loss, Variation):
        first = jnp.arange(4)[:, None] < jnp.full(6, 2)[None]
        # The picture is cut between its second and third row. Each half also gets the next row beyond
        # the cut, and a mask that leaves out the differences that start from this row. Differences
        # across the cut belong to the upper half. The lower half needs the row above the cut so that it
        # does not take the cut for the picture's border.
        halves = loss.sums(canvas[:3], first[:3]), loss.sums(canvas[1:], ~first[1:])
        return loss.sums(canvas, None), loss.sums(canvas, jnp.full((4, 6), True)), halves
    pictures = (canvas, other) if isinstance(loss, ContentLoss) else (canvas,)

    def sums(change: Callable[[Array], Array]) -> Any:
        changed = [change(picture) for picture in pictures]
        if isinstance(loss, StyleLoss):
            return loss.sums(changed[0], lax.Precision.HIGHEST)
        return loss.sums(*changed)

    return (
        sums(lambda x: x),
        sums(lambda x: jnp.concatenate([x, jnp.zeros_like(x)])),
        (sums(lambda x: x[:2]), sums(lambda x: x[2:])),
    )


def _missed(parts: Sequence[Any], whole: Any) -> str:
    """Return a phrase that says how the sum of the parts differs from the whole.

    The phrase is "" if they are equal up to the relative error `TOLERANCE`.

    Args:
      parts: pytrees of sums over parts of the data.
      whole: the pytree of the sums over all data.
    """
    structures = {jax.tree.structure(tree) for tree in (*parts, whole)}
    *added, wanted = (jax.tree.leaves(tree) for tree in (*parts, whole))
    if len(structures) > 1:
        return "they differ in structure"
    for index, leaf in enumerate(wanted):
        terms = [leaves[index] for leaves in added]
        if other := [term.shape for term in terms if term.shape != leaf.shape]:
            return f"shape {list(other[0])} instead of {list(leaf.shape)}"
        found = sum(np.asarray(term, np.float64) for term in terms)
        error = np.max(np.abs(found - np.asarray(leaf, np.float64)), initial=0)
        largest = np.max(np.abs(np.asarray(leaf, np.float64)), initial=0)
        if not error <= TOLERANCE * largest:  # unlike `error > ...`, true for NaN as well
            return f"an error of {error:.3g}, where the largest of the sums is {largest:.3g}"
    return ""
