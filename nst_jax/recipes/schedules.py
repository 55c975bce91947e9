"""Schedules: the scales (resolutions) of a run, coarse to fine, and the number of updates at each."""

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import jax

from nst_jax._types import Shape
from nst_jax.vgg.taps import SMALLEST


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OneScale:
    """All updates are made at the final size."""

    from_originals: ClassVar[bool] = False

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return one scale: the final (height, width) of the canvas, and all updates."""
        del original
        return ((shape, steps),)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CoarseToFine:
    """Scales from coarse to the final size, each twice as large as the one before.

    Each scale gets 1 / `share` of the updates of the one before, but at least one update; a run with
    fewer updates than scales leaves out the coarsest scales.

    Attributes:
      smallest: lower limit of the coarsest scale's longer side, in px; if half the final longer side is
        below the limit, the final size is the only scale.
      share: ratio of the updates at a scale to those at the next finer scale.
    """

    smallest: int = 128
    share: float = 2.0
    from_originals: ClassVar[bool] = False

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width), number of updates) of each scale; the updates sum to `steps`."""
        del original
        scales = ladder(shape, int(self.smallest))[-max(1, steps) :]
        weights = [float(self.share) ** -index for index in range(len(scales))]
        return tuple(zip(scales, _counts(weights, steps), strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class GeometricScales:
    """Scales from coarse to the final size, at any ratio; the first gets its own number of updates.

    The longer side of the k-th scale from the end is the final one divided by 2^(k / `per_halving`) and
    rounded. `first` and `later` are the updates of the first scale and of each later one, if their sum
    is the run's number of updates; any other number is divided in the same proportion, each scale
    getting at least one update. A run with fewer updates than scales leaves out the coarsest scales.

    Attributes:
      per_halving: number of scales within which the size halves: 1 gives the ratio 2, and 2 gives √2.
      smallest: lower limit of the coarsest scale's longer side, in px; its shorter side has at least
        16 px. If no scale but the final one fulfils this, it is the only one.
      first: updates at the coarsest scale.
      later: updates at each later scale.

    Example:
      >>> from nst_jax.recipes.schedules import GeometricScales
      >>> GeometricScales().plan((384, 512), steps=3000)
      (((96, 128), 1000), ((136, 181), 500), ((192, 256), 500), ((272, 362), 500), ((384, 512), 500))

    References:
      github.com/crowsonkb/style-transfer-pytorch, whose default numbers are the defaults here.
    """

    per_halving: float = 2.0
    smallest: int = 128
    first: int = 1000
    later: int = 500
    # The size of a picture at each scale is computed from its original size, which avoids rounding
    # twice.
    from_originals: ClassVar[bool] = True

    def plan(
        self, shape: Shape, steps: int, original: Shape | None = None
    ) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width), number of updates) of each scale; the updates sum to `steps`.

        Args:
          shape: the final (height, width) of the canvas.
          steps: number of updates of the run.
          original: (height, width) of the content before it was resized.
        """
        scales, longer = [shape], max(shape)
        while True:
            longer = round(max(shape) / 2 ** (len(scales) / float(self.per_halving)))
            smaller = at_longer_side(longer, shape, original)
            if longer < int(self.smallest) or min(smaller) < SMALLEST:
                break
            scales.append(smaller)
        # Small scales with a ratio near 1 may be equal after rounding; each size is kept once.
        distinct = list(dict.fromkeys(reversed(scales)))[-max(1, steps) :]
        weights = [float(self.first), *[float(self.later)] * (len(distinct) - 1)]
        return tuple(zip(distinct, _counts(weights, steps), strict=True))


def _counts(weights: list[float], steps: int) -> list[int]:
    """Divide `steps` updates among scales in proportion to weights, with at least one for each."""
    scales = len(weights)
    ends = [round(steps * sum(weights[: i + 1]) / sum(weights)) for i in range(scales)]
    # At least one update per scale, so that even a short run reaches the final size.
    ends = [max(end, i + 1) for i, end in enumerate(ends)]
    ends = [min(end, steps - (scales - 1 - i)) for i, end in enumerate(ends)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


Schedule: TypeAlias = OneScale | CoarseToFine | GeometricScales

# Schedules by the names that recipe files use.
SCHEDULES = {schedule.__name__: schedule for schedule in (OneScale, CoarseToFine, GeometricScales)}


def at_longer_side(longer: int, final: Shape, original: Shape | None = None) -> Shape:
    """Return a picture's (height, width) with a given longer side, rounded once.

    Args:
      longer: the longer side, in px.
      final: the picture's final (height, width).
      original: its (height, width) as it was read. It gives the proportions if the final size has them
        up to rounding; else `final` gives them.
    """

    def sized(shape: Shape, side: int) -> Shape:
        return max(1, round(side * shape[0] / max(shape))), max(
            1, round(side * shape[1] / max(shape))
        )

    kept = original is not None and sized(original, max(final)) == final
    return sized(original if kept and original is not None else final, longer)


def ladder(shape: Shape, smallest: int, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Return the sizes of the scales, coarse to fine, each `ratio` times the one before, up to `shape`.

    Args:
      shape: the final (height, width).
      smallest: lower limit of a scale's longer side, in px; that of the shorter side is 16 px. Only
        `shape` itself may be smaller.
      ratio: how many times larger a scale is than the one before; more than 1.

    Returns:
      (height, width) of each scale.

    Example:
      >>> from nst_jax.recipes.schedules import ladder
      >>> ladder((384, 512), smallest=128)
      ((96, 128), (192, 256), (384, 512))
    """
    scales = [shape]
    factor = 1.0 / ratio
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= SMALLEST:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))
