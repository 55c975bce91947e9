"""Schedules: the scales (resolutions) of a run, coarse to fine, and the number of updates at each."""

from dataclasses import dataclass

import jax

from nst_jax._types import Shape


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OneScale:
    """All updates are made at the final size."""

    def plan(self, shape: Shape, steps: int) -> tuple[tuple[Shape, int], ...]:
        """Return one scale: the final (height, width) of the canvas, and all updates."""
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

    def plan(self, shape: Shape, steps: int) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width), number of updates) of each scale; the updates sum to `steps`."""
        scales = ladder(shape, int(self.smallest))[-max(1, steps) :]
        weights = [float(self.share) ** -index for index in range(len(scales))]
        ends = [round(steps * sum(weights[: i + 1]) / sum(weights)) for i in range(len(scales))]
        # At least one update per scale, so that even a short run reaches the final size.
        ends = [max(end, i + 1) for i, end in enumerate(ends)]
        ends = [min(end, steps - (len(scales) - 1 - i)) for i, end in enumerate(ends)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(zip(scales, counts, strict=True))


# Schedules by the names that recipe files use.
SCHEDULES = {schedule.__name__: schedule for schedule in (OneScale, CoarseToFine)}


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
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= 16:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))
