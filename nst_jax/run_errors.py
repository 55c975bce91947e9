"""The errors of runs without a result, the warnings about results, and what each advises to try."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from nst_jax import run_scales
from nst_jax._types import Image, Shape
from nst_jax.descent import Rest
from nst_jax.recipes.recipe import Recipe

# What helps most runs that fail. "Smaller weights" alone would make users of the command line think of
# `--weights`, the file of the network.
SMALLER_WEIGHTS = "smaller weights of the losses"


class _NoResult(RuntimeError):
    """Base class of the errors of runs without a result.

    `image` is the canvas (the picture that is optimised) with which the run ended; each subclass says
    which one this is.
    """

    # The beginning of the message, which each subclass sets; `{step}` stands for the number of updates.
    _what = ""

    def __init__(
        self, step: int, image: Image, remedy: str = SMALLER_WEIGHTS, what: str | None = None
    ) -> None:
        """Make an error; `what` takes the place of `_what` if it is given."""
        beginning = (self._what if what is None else what).format(step=step)
        super().__init__(f"{beginning} is in `.image`: try {remedy}")
        self.step, self.image, self._remedy, self._given = step, image, remedy, what

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.step, np.asarray(self.image), self._remedy, self._given)


class Diverged(_NoResult):
    """Raised when the losses of a run, or the values that a dream maximises, stop being finite.

    If the optimiser is guarded (it undoes updates that are too large), this error is also raised when
    only the gradient of the losses at the first canvas is not finite.

    Attributes:
      step: number of the update after which the losses were not finite; 0 for the first canvas.
      image: the last canvas whose losses were finite, [h, w, 3] in [0, 1]. If the first canvas of a
        scale (resolution) already had losses that were not finite, `image` is that first canvas.
    """

    _what = (
        "the losses, or their gradient, are not finite after {step} updates; the last finite canvas"
    )


class Stalled(_NoResult):
    """Raised when nothing was painted: at every scale (resolution), the last losses equal the first.

    Attributes:
      step: number of the last update.
      image: the canvas, in which nothing was painted, [h, w, 3] in [0, 1].
    """

    _what = (
        "the losses after {step} updates are those of the start, so nothing was painted; the canvas"
    )


class CameToRest(RuntimeWarning):
    """Warning that the loss stopped changing while still high, so that the picture is hardly painted.

    `nst_jax.descent.rest_of` has the exact condition.
    """

    def __init__(self, rest: Rest, remedy: str):
        super().__init__(f"{rest.words}, so the picture is hardly painted: try {remedy}")
        self._arguments = rest, remedy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._arguments


def remedy_for_stalled(recipe: Recipe) -> str:
    """Return advice, as a phrase for a message, for a run whose losses end as they began."""
    # A guarded optimiser undoes an update that is too large, and makes the next one smaller. If it has
    # undone all updates, the next ones may be small enough, so more updates may help.
    other = "more updates" if recipe.descent.optimizer.guarded else "a larger learning rate"
    # If the start is, for example, the style itself, the losses are no more than rounding errors.
    return (
        f"{SMALLER_WEIGHTS}, or {other}, or another style if the start looks like this one already"
    )


def remedy(recipe: Recipe) -> str:
    """Return advice, as a phrase for a message, for a run whose losses stop being finite."""
    # A guarded optimiser undoes updates that are too large. So the learning rate cannot be the cause,
    # only the loss weights can.
    if recipe.descent.optimizer.guarded:
        return SMALLER_WEIGHTS
    return f"a smaller learning rate, or {SMALLER_WEIGHTS}"


class StyleEnlarged(RuntimeWarning):
    """Warning that `style_scale` enlarges a style to more pixels than its file or array has."""


def warn_of_enlarged(
    originals: Sequence[Shape], shapes: Sequence[Shape], recipe: Recipe, *, stacklevel: int
) -> None:
    """Warn of each style that the recipe's `style_scale` makes larger than its original picture.

    `originals` and `shapes` are the (height, width) of each style before and after resizing.
    `stacklevel` is the one that the caller would pass to `warnings.warn`.
    """
    for note in run_scales.notes_on_enlarged_styles(originals, shapes, recipe):
        warnings.warn(note, StyleEnlarged, stacklevel=stacklevel + 1)
