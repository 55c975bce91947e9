"""Schedules: the scales (resolutions) of a run, coarse to fine, and the number of updates at each.

The method `plan` of each schedule computes both for the final size of the canvas, the picture that is
optimised. At a coarser scale, the styles are smaller, too. If a schedule's `from_originals` is True, a
style has at a coarser scale the proportions of its original picture, before any resizing, as
`at_longer_side` says. If `from_originals` is False, the style has the proportions of its size at the
finest scale, which is rounded.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import jax

from nst_jax import _checks
from nst_jax._types import Shape
from nst_jax.vgg.taps import SMALLEST


@runtime_checkable
class Schedule(Protocol):
    """Interface of schedules. A schedule of a user's own may be any object that has it."""

    # Whether a style has at a coarser scale the proportions of its original picture.
    from_originals: ClassVar[bool]

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          steps: number of updates of the run.
          original: (height, width) in px of the content before any resizing; None if it is not known.
        """
        ...


@runtime_checkable
class CountedSchedule(Schedule, Protocol):
    """Interface of schedules that have a number of updates of their own for each scale.

    A recipe with such a schedule need not have a total number of updates: its `descent.steps` may be
    None. `GeometricScales` is such a schedule. One of a user's own may be any object that has this
    interface.
    """

    def counts_in_words(self) -> str:
        """Return the numbers of updates as text, such as "10 updates at each scale"."""
        ...

    def counted_plan(
        self, shape: Shape, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        The numbers of updates are those of the schedule itself.

        Args:
          shape: the final (height, width) of the canvas in px.
          original: (height, width) in px of the content before any resizing; None if it is not known.
        """
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OneScale:
    """A single scale: all updates are made at the final size of the canvas."""

    from_originals: ClassVar[bool] = False

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return a tuple of one scale, which is ((height, width) in px, number of updates).

        Args:
          shape: the final (height, width) of the canvas in px.
          steps: number of updates of the run.
          original: (height, width) of the content before any resizing; only `GeometricScales` uses it.
        """
        del original
        return ((shape, steps),)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CoarseToFine:
    """Scales from coarse to the final size; at each, the sides are twice as long as at the one before.

    Each scale gets 1 / `share` times as many updates as the scale before, but at least one. A run with
    fewer updates than scales leaves out the coarsest scales.

    Attributes:
      smallest: lower limit of the coarsest scale's longer side, in px; its shorter side has at least
        16 px. If half the final size is below a limit, the final size is the only scale.
      share: number of updates at a scale divided by the number at the next finer scale.
    """

    smallest: int = 128
    share: float = 2.0
    from_originals: ClassVar[bool] = False

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          steps: number of updates of the run, which is the sum over the scales.
          original: (height, width) of the content before any resizing; only `GeometricScales` uses it.
        """
        del original
        scales = ladder(shape, int(self.smallest))[-max(1, steps) :]
        weights = [float(self.share) ** -index for index in range(len(scales))]
        return tuple(zip(scales, _counts(weights, steps), strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GeometricScales:
    """Scales from coarse to the final size, with any constant ratio between successive scales.

    The longer side of a scale that is followed by k others is the final longer side divided by
    2^(k / `per_halving`) and rounded.

    If a recipe's `descent.steps` is None, the coarsest scale gets `first` updates, and each other scale
    `later` updates. So a larger picture, which has more scales, gets more updates. If `steps` is a
    number, that many updates are divided in proportion to `first` and `later`. But each scale gets at
    least one update. A run with fewer updates than scales leaves out the coarsest scales.

    Attributes:
      per_halving: number of scales within which the size halves: 1 gives the ratio 2, and 2 gives √2.
      smallest: lower limit of the coarsest scale's longer side, in px; its shorter side has at least
        16 px. If no coarser size is within these limits, the final size is the only scale.
      first: number of updates at the coarsest scale; with a total number, relative to `later`.
      later: number of updates at each later scale; with a total number, relative to `first`.

    Example:
      >>> from nst_jax.recipes.schedules import GeometricScales
      >>> GeometricScales().counted_plan((192, 256))
      (((96, 128), 1000), ((136, 181), 500), ((192, 256), 500))
      >>> GeometricScales().plan((192, 256), steps=200)
      (((96, 128), 100), ((136, 181), 50), ((192, 256), 50))

    References:
      github.com/crowsonkb/style-transfer-pytorch, whose default numbers are the defaults here.
    """

    per_halving: float = 2.0
    smallest: int = 128
    first: int = 1000
    later: int = 500
    # At a coarser scale, a style has the proportions of its original size. The proportions of its final
    # size differ from these, since that size is rounded.
    from_originals: ClassVar[bool] = True

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          steps: number of updates of the run, which is the sum over the scales.
          original: (height, width) in px of the content picture before it was resized; None if it is
            not known.
        """
        kept = self._sizes(shape, original)[-max(1, steps) :]
        weights = [float(self.first), *[float(self.later)] * (len(kept) - 1)]
        return tuple(zip(kept, _counts(weights, steps), strict=True))

    def counts_in_words(self) -> str:
        """Return the numbers of updates as text, for users."""
        first, later = int(self.first), int(self.later)
        return f"{first} updates at the coarsest scale, {later} at each later one"

    def counted_plan(
        self, shape: Shape, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return each scale with `first` updates if it is the coarsest, otherwise with `later` updates.

        Args:
          shape: the final (height, width) of the canvas in px.
          original: (height, width) in px of the content picture before it was resized; None if it is
            not known.

        Returns:
          ((height, width) in px, number of updates) of each scale, coarse to fine.
        """
        coarsest, *others = self._sizes(shape, original)
        return (coarsest, int(self.first)), *((size, int(self.later)) for size in others)

    def _sizes(self, shape: Shape, original: Shape | None) -> list[Shape]:
        """Return (height, width) of every scale, coarse to fine; arguments as for `counted_plan`."""
        scales, longer = [shape], max(shape)
        while True:
            longer = round(max(shape) / 2 ** (len(scales) / float(self.per_halving)))
            smaller = at_longer_side(longer, shape, original)
            if longer < int(self.smallest) or min(smaller) < SMALLEST:
                break
            scales.append(smaller)
        # If `per_halving` is large, successive small scales may have the same size after rounding. Each
        # size is kept once.
        return list(dict.fromkeys(reversed(scales)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Halvings:
    """Scales from coarse to the final size, with equally many updates at each.

    From the final size, the sides are halved again and again, rounded down, which gives the sizes of
    the coarser scales. `passes` scales have the final size itself. A run with fewer updates than scales
    leaves out the coarsest scales.

    Attributes:
      smallest: least length of a coarser scale's longer side, in px; its shorter side has at least
        16 px. A size below either limit is not used.
      passes: number of scales that have the final size, 1 to 100. Each of them begins with the result
        of the scale before, and the optimiser starts anew, unless the recipe's `descent.carries` is
        True.

    Example:
      >>> from nst_jax.recipes.schedules import Halvings
      >>> Halvings(smallest=64, passes=2).plan((93, 129), steps=60)
      (((46, 64), 20), ((93, 129), 20), ((93, 129), 20))

    References:
      github.com/nkolkin13/NeuralNeighborStyleTransfer.
    """

    smallest: int = 64
    passes: int = 1
    from_originals: ClassVar[bool] = False

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          steps: number of updates of the run, which is the sum over the scales.
          original: (height, width) of the content before any resizing; only `GeometricScales` uses it.
        """
        del original
        scales, half = [shape] * int(self.passes), (shape[0] // 2, shape[1] // 2)
        while max(half) >= int(self.smallest) and min(half) >= SMALLEST:
            scales.append(half)
            half = (half[0] // 2, half[1] // 2)
        kept = scales[::-1][-max(1, steps) :]
        return tuple(zip(kept, _counts([1.0] * len(kept), steps), strict=True))


def _counts(weights: list[float], steps: int) -> list[int]:
    """Return the number of updates at each resolution: `steps` divided in proportion to `weights`.

    Each gets at least one update. There must be at least as many updates as weights.
    """
    scales = len(weights)
    ends = [round(steps * sum(weights[: i + 1]) / sum(weights)) for i in range(scales)]
    # `ends[i]` is the number of updates up to the end of scale i. It is raised to at least i + 1, so
    # that each scale up to i can have an update. Then it is lowered so far that an update is left for
    # each scale after i. So even a short run reaches the final size.
    ends = [max(end, i + 1) for i, end in enumerate(ends)]
    ends = [min(end, steps - (scales - 1 - i)) for i, end in enumerate(ends)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def counted(schedule: Schedule) -> CountedSchedule:
    """Return a schedule that has numbers of updates of its own, which `descent.steps=None` requires.

    Raises:
      ValueError: if the schedule has none.
    """
    if isinstance(schedule, CountedSchedule):
        return schedule
    raise ValueError(
        "`steps`: None leaves the numbers of updates to the schedule, and "
        f"{type(schedule).__name__} has none of its own; give a number of updates, or the schedule "
        "GeometricScales, whose `first` and `later` are such numbers"
    )


# The schedules by their names in recipe files (TOML).
SCHEDULES = {
    schedule.__name__: schedule for schedule in (OneScale, CoarseToFine, GeometricScales, Halvings)
}


def at_longer_side(longer: int, final: Shape, original: Shape | None = None) -> Shape:
    """Return the (height, width) of a picture whose longer side gets a given length.

    If the final size is the size of the original picture, scaled and rounded to whole pixels, the
    result is computed from the proportions of the original. So it does not inherit the rounding error
    of the final size. Otherwise, or if the original size is not known, the result is computed from the
    proportions of the final size. The result is rounded to whole pixels, too.

    Args:
      longer: the new length of the longer side, in px.
      final: (height, width) of the picture at the end of the run.
      original: (height, width) of the picture before it was resized; None if it is not known.
    """

    def sized(shape: Shape, side: int) -> Shape:
        return max(1, round(side * shape[0] / max(shape))), max(
            1, round(side * shape[1] / max(shape))
        )

    kept = original is not None and sized(original, max(final)) == final
    return sized(original if kept and original is not None else final, longer)


def ladder(shape: Shape, smallest: int, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Return the sizes of a run's scales, coarse to fine; each is `ratio` times the one before.

    Args:
      shape: the final (height, width) in px, which is the size of the finest scale.
      smallest: lower limit of a scale's longer side, in px; the lower limit of its shorter side is
        16 px. The finest scale may be below these limits.
      ratio: the factor between the sides of successive scales; 1.01 or more.

    Returns:
      (height, width) in px of each scale.

    Raises:
      TypeError: if `smallest` is not a whole number, or `ratio` not a number.
      ValueError: if `smallest` is negative, or if `ratio` is below 1.01, which would give hundreds of
        scales of nearly the same size.

    Example:
      >>> from nst_jax.recipes.schedules import ladder
      >>> ladder((384, 512), smallest=128)
      ((96, 128), (192, 256), (384, 512))
    """
    _checks.whole("smallest", smallest, least=0)
    _checks.number("ratio", ratio, least=1.01)
    scales = [shape]
    factor = 1.0 / ratio
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= SMALLEST:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))
