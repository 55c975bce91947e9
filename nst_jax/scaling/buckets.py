"""Buckets: arrays of one size at each scale, in which pictures of several sizes are painted.

A bucket is a choice of arrays for a group of runs: the real pictures lie at their top left, and one
program for each scale serves all of them; see `nst_jax._real_size`. Larger arrays add pixels to paint,
and save programs to compile.
"""

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from nst_jax import prepare
from nst_jax._types import Shape
from nst_jax.prepare import Scale
from nst_jax.recipes.checking import check_descent_in_bucket, check_in_bucket
from nst_jax.recipes.recipe import Recipe
from nst_jax.vgg.taps import SMALLEST

OFF = "off"  # each shape of canvas has programs of its own
AUTO: Literal["auto"] = "auto"  # whatever takes the fewest seconds; see `bucket_choice`

Chosen: TypeAlias = (
    int | Literal["auto"] | None
)  # side of a bucket in px, `AUTO`, or None for `OFF`
Scales = tuple[Scale, ...]  # of one run, coarse to fine


def checked_bucket(bucket: Any) -> Chosen:
    """Return the side of a bucket in px, "auto", or None for "off".

    Raises:
      TypeError: if it is neither text nor a whole number.
      ValueError: if it is another text, or no multiple of 16 px.

    Example:
      >>> checked_bucket("off"), checked_bucket("auto"), checked_bucket(256)
      (None, 'auto', 256)
    """
    if isinstance(bucket, str) and bucket in (OFF, AUTO):
        return None if bucket == OFF else AUTO
    if isinstance(bucket, bool) or not isinstance(bucket, (int, np.integer)):
        kind = ValueError if isinstance(bucket, str) else TypeError
        raise kind(
            f'`bucket`: expected "auto", "off" or a number of pixels such as 256, got {bucket!r}'
        )
    side = int(bucket)
    if side < SMALLEST or side % SMALLEST:
        nearest = max(SMALLEST, round(side / SMALLEST) * SMALLEST)
        raise ValueError(
            f"`bucket`: expected a multiple of {SMALLEST} px, got {side}; {nearest} is the nearest"
        )
    return side


def check_run_in_bucket(
    recipe: Recipe, scales: Sequence[Scale], *, controlled: bool, bands: bool = False
) -> None:
    """Refuse a run that is not exact in a bucket, or for which nobody has made it so.

    Raises:
      ValueError: the message says what stands in the way.
    """
    check_in_bucket(recipe, controlled=controlled, bands=bands)
    check_descent_in_bucket(recipe.descent)
    if recipe.descent.carries and len(scales) > 1:
        raise ValueError(
            "`bucket`: the optimiser carries its averages from scale to scale, which it cannot do in a "
            'bucket; use "off"'
        )


def can_lie_in_bucket(recipe: Recipe, scales: Sequence[Scale], *, controlled: bool) -> bool:
    """Return whether `check_run_in_bucket` accepts a run on devices that share no canvas."""
    try:
        check_run_in_bucket(recipe, scales, controlled=controlled)
    except ValueError:
        return False
    return True


class Bucket(NamedTuple):
    """The arrays of a bucket at each scale, and the runs that it holds."""

    # As of one run: at each scale the shape of the arrays of canvases and contents, the one shape of
    # the arrays of styles, and the number of updates.
    scales: Scales
    runs: tuple[int, ...]  # their indices
    exact: bool = False  # whether all canvases have the shape of these arrays, without any padding


def buckets_of(side: int, runs: Sequence[Scales], recipe: Recipe) -> list[Bucket]:
    """Return the buckets of runs whose canvases lie in squares of one side.

    The arrays of the coarser scales, and those of styles, are squares too, whose sides follow from
    `side` and from the recipe's schedule, so that other pictures need no other programs. A style that
    is larger than the canvas has a square of a multiple of that side. Runs whose numbers of scales or
    updates differ have buckets of their own.

    Args:
      side: of the canvas at the final scale, in px; a multiple of 16.
      runs: the scales of each run, with the real sizes.
      recipe: the recipe of all runs.

    Raises:
      ValueError: if a canvas is larger than the bucket.

    Example:
      >>> from nst_jax import recipes
      >>> from nst_jax.prepare import scales_of
      >>> recipe = recipes.GRAM.replace(size=96)
      >>> runs = [scales_of(shape, [(80, 100)], recipe) for shape in ((300, 450), (450, 300))]
      >>> [(bucket.scales[0].shape, bucket.runs) for bucket in buckets_of(96, runs, recipe)]
      [((96, 96), (0, 1))]
    """
    longest = max(max(scales[-1].shape) for scales in runs)
    if longest > side:
        raise ValueError(
            f"`bucket`: a picture of {longest} px on the longer side does not fit into {side} px; give "
            f"{rounded_up(longest)} or more, or a smaller `size`"
        )
    alike: dict[tuple[int, ...], list[int]] = {}
    for index, scales in enumerate(runs):
        alike.setdefault(tuple(scale.steps for scale in scales), []).append(index)
    return [
        Bucket(_arrays(side, [runs[index] for index in some], recipe), tuple(some))
        for some in alike.values()
    ]


def rounded_up(side: int, step: int = SMALLEST) -> int:
    """Return the smallest multiple of `step` that is not less than `side`."""
    return -(-side // step) * step


def _arrays(side: int, runs: Sequence[Scales], recipe: Recipe) -> Scales:
    """Return the shapes of the arrays of a bucket for runs with the same updates at each scale."""
    square = prepare.scales_up_to((side, side), [(side, side)], recipe)
    found = []
    for index, first in enumerate(runs[0]):
        largest = max(max(scales[index].shape) for scales in runs)
        # A schedule may have another number of scales for a square of this side.
        planned = max(square[index].shape) if len(square) == len(runs[0]) else 0
        canvas = side if index == len(runs[0]) - 1 else rounded_up(max(largest, planned))
        styles = max(max(shape) for scales in runs for shape in scales[index].style_shapes)
        style = rounded_up(styles, canvas)
        found.append(Scale((canvas, canvas), ((style, style),), first.steps))
    return tuple(found)


def added_pixels(bucket: Bucket, runs: Sequence[Scales]) -> float:
    """Return the share of pixels that a bucket adds at its final scale: 0.5 for half as many more."""
    real = sum(_area(runs[index][-1].shape) for index in bucket.runs)
    return len(bucket.runs) * _area(bucket.scales[-1].shape) / real - 1


def _area(shape: Shape) -> int:
    return shape[0] * shape[1]
