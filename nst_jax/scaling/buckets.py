"""Buckets: arrays of one size, in which pictures of several smaller sizes are painted.

XLA compiles a program for one size of arrays, so each new size of a picture would need new programs. In
a bucket, every picture lies at the top left of an array of the bucket's size, and the rest of the array
is padding; see `nst_jax._real_size`. One compiled program for each scale (resolution of a
coarse-to-fine run) then serves all pictures. But the padding is computed as well: the larger a bucket,
the more sizes share its programs, and the more pixels of padding are computed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from nst_jax import _checks, run_scales
from nst_jax.recipes.checking import check_descent_in_bucket, check_in_bucket
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.vgg.taps import SMALLEST

# Two values of the argument `bucket` of `stylize`, `stylize_many` and `instant_many`. With "off", every
# picture fills its arrays, so each shape of picture needs its own compiled programs. With "auto",
# arrays are larger than the pictures where that should save time: `plan_in_arrays` in
# `scaling.bucket_plans` decides it for `stylize`, and the module `bucket_choice` for many pictures.
OFF = "off"
AUTO: Literal["auto"] = "auto"

# The argument `bucket` after its check: the side in px of square arrays in which pictures of several
# sizes lie; or "auto"; or None for "off".
Chosen: TypeAlias = int | Literal["auto"] | None

# Largest side in px of square arrays that have one size at all scales of a run, so that all scales
# share their programs. A single picture on one accelerator lies in such arrays if it is small enough,
# unless `bucket` is "off" or a side above this limit, or the recipe or the memory does not allow arrays
# that are larger than the picture. On an accelerator, compiling the programs of one scale takes several
# seconds (8 s on an H100), and painting up to this size about a second. In larger arrays, computing the
# padding at the coarser scales would take more time than compiling fewer programs saves.
LARGEST_SHARED = 1024
Scales = tuple[Scale, ...]  # all scales of one run, coarse to fine


def checked_bucket(bucket: Any) -> Chosen:
    """Check the argument `bucket`, and return it, with None in place of "off".

    A number is the side in px of the square arrays in which pictures of several sizes lie.

    Raises:
      TypeError: if `bucket` is neither a string nor a whole number.
      ValueError: if `bucket` is a string other than "off" and "auto", or a number that is not a
        positive multiple of 16.

    Example:
      >>> checked_bucket("off"), checked_bucket("auto"), checked_bucket(256)
      (None, 'auto', 256)
    """
    if isinstance(bucket, str) and bucket in (OFF, AUTO):
        return None if bucket == OFF else AUTO
    if isinstance(bucket, bool) or not isinstance(bucket, (int, np.integer)):
        kind = ValueError if isinstance(bucket, str) else TypeError
        raise kind(
            '`bucket`: expected "auto", "off" or a number of pixels such as 256, got '
            f"{_checks.shown(bucket)}"
        )
    side = int(bucket)
    if side < SMALLEST or side % SMALLEST:
        nearest = max(SMALLEST, round(side / SMALLEST) * SMALLEST)
        raise ValueError(
            f"`bucket`: expected a multiple of {SMALLEST} px, got {side}; {nearest} is the nearest"
        )
    return side


def check_run_in_bucket(recipe: Recipe, scales: Sequence[Scale], *, bands: bool = False) -> None:
    """Refuse a run whose losses or updates would change if its pictures lay in larger arrays.

    Args:
      recipe: the recipe of the run.
      scales: the scales of the run, coarse to fine.
      bands: whether several devices compute each picture together, each a horizontal band of it. This
        is impossible in larger arrays, so True is refused.

    Raises:
      ValueError: if the recipe, the number of scales or `bands` prevents a bucket; the message says
        which.
    """
    check_in_bucket(recipe, bands=bands)
    check_descent_in_bucket(recipe.descent)
    if recipe.descent.carries and len(scales) > 1:
        raise ValueError(
            "`bucket`: the optimiser carries its averages from scale to scale, which it cannot do in a "
            'bucket; use "off"'
        )


def can_lie_in_bucket(recipe: Recipe, scales: Sequence[Scale]) -> bool:
    """Return whether the pictures of a run may lie in larger arrays: see `check_run_in_bucket`.

    It is assumed that one device computes each picture.
    """
    try:
        check_run_in_bucket(recipe, scales)
    except ValueError:
        return False
    return True


class Bucket(NamedTuple):
    """The sizes of arrays at each scale (resolution), and the runs whose pictures lie in them."""

    # One `Scale` for each scale of the runs. Its sizes are those of the arrays, not of the pictures:
    # `shape` is that of the arrays for canvases and contents. `style_shapes` has the shape of the
    # arrays for styles, repeated as often as the run with the most styles has styles, since each style
    # takes time and memory of its own. `steps` is the number of updates, as in the runs.
    scales: Scales
    # The runs of this bucket, each of which paints one picture: their indices in the list of all runs,
    # which was divided into buckets.
    runs: tuple[int, ...]
    exact: bool = False  # whether all canvases have the shape of these arrays, without any padding


def buckets_of(
    side: int, runs: Sequence[Scales], recipe: Recipe, *, one_size: bool = False
) -> list[Bucket]:
    """Divide the runs of several pictures into buckets, each with arrays in which its pictures lie.

    The runs of a bucket have the same number of updates at each scale; runs that differ in these
    numbers get different buckets.

    All arrays are squares. At the coarser scales, the side of the arrays for canvases follows from
    `side` and the recipe's schedule (rounded up to a multiple of 16 px, and larger only where a canvas
    would not fit). The side of the arrays for styles is the smallest multiple of the canvas array's
    side at that scale into which all styles fit. So the sizes, and thus the compiled programs, usually
    stay the same when other pictures are painted.

    Args:
      side: side of the square for the canvas at the final scale, in px; a multiple of 16.
      runs: the scales of each run, with the sizes of its pictures, not of arrays that contain them.
      recipe: the recipe of all runs.
      one_size: whether the arrays for canvases have the side `side` at the coarser scales, too, so that
        all scales use the same compiled programs.

    Raises:
      ValueError: if the final canvas of a run is larger than `side`.

    Example:
      >>> from nst_jax import recipes
      >>> from nst_jax.run_scales import scales_of
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
        Bucket(_arrays(side, [runs[index] for index in some], recipe, one_size), tuple(some))
        for some in alike.values()
    ]


def rounded_up(side: int, step: int = SMALLEST) -> int:
    """Return the smallest multiple of `step` that is not less than `side`."""
    return -(-side // step) * step


def _arrays(side: int, runs: Sequence[Scales], recipe: Recipe, one_size: bool) -> Scales:
    """Return, for each scale, the sizes of the square arrays that can hold the pictures of all `runs`.

    Args:
      side: side in px of the arrays for canvases at the final scale.
      runs: the scales of each run of one bucket. The runs have equal numbers of updates at each scale.
      recipe: the recipe of all runs.
      one_size: whether the arrays for canvases have the side `side` at all scales.

    Returns:
      One `Scale` for each scale, with the sizes of the arrays: the field `scales` of a `Bucket`.
    """
    square = run_scales.scales_up_to((side, side), [(side, side)], recipe)
    found = []
    for index, first in enumerate(runs[0]):
        largest = max(max(scales[index].shape) for scales in runs)
        # At a coarser scale, the array for canvases also holds a square canvas whose final side is
        # `side`. But the recipe's schedule may give this square another number of scales than the
        # pictures of the runs. Then the square is ignored.
        planned = max(square[index].shape) if len(square) == len(runs[0]) else 0
        final = index == len(runs[0]) - 1
        canvas = side if final or one_size else rounded_up(max(largest, planned))
        styles = max(max(shape) for scales in runs for shape in scales[index].style_shapes)
        style = rounded_up(styles, canvas)
        count = most_styles(scales[index] for scales in runs)
        found.append(
            Scale(
                (canvas, canvas),
                ((style, style),) * count,
                first.steps,
                max(scales[index].regions for scales in runs),
                any(scales[index].protected for scales in runs),
            )
        )
    return tuple(found)


def most_styles(scales: Iterable[Scale]) -> int:
    """Return the largest number of styles at any scale; styles of layers and of regions count, too."""
    return max(len(scale.style_shapes) for scale in scales)
