"""Sizes of pictures for which programs are exported: numbers of pixels, or symbolic sizes.

A program that is exported for symbolic sizes (`jax.export.symbolic_shape`) takes pictures of any size.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import jax
import numpy as np
from jax import export

from nst_jax import _checks
from nst_jax.export.models import SIDES, STYLE_SIDES, Model, Program

ANY = "any"  # in arguments and metadata, the value of a size that stands for pictures of any size

# The error that JAX raises while it traces a function, if it cannot decide a comparison of symbolic
# sizes, such as which of two is larger. Newer versions of JAX have this class in `jax.errors`, older
# versions in `jax.core`.
_NAME = "InconclusiveDimensionOperation"
_Undecided: type[Exception] = getattr(jax.errors, _NAME, None) or getattr(jax.core, _NAME)

SizeOrAny: TypeAlias = tuple[int, int] | str  # (height, width) in px, or "any"


def sizes_of(program: Program, shape: SizeOrAny, style_shape: SizeOrAny) -> dict[str, Any]:
    """Return the heights and widths of the input pictures for which a program is exported.

    Args:
      program: the program; its `sides` are the names of the heights and widths of its inputs.
      shape: (height, width) in px of the picture, or `"any"` for symbolic sizes.
      style_shape: (height, width) in px of the style picture, or `"any"`; used only by programs that
        take a style picture.

    Returns:
      A dictionary from each name in `program.sides`, such as `"height"`, to a number of pixels or a
      symbolic size.
    """
    chosen: dict[str, Any] = {
        side: ANY if both == ANY else both[index]
        for both, sides in ((shape, SIDES), (style_shape, STYLE_SIDES))
        for index, side in enumerate(sides)
        if side in program.sides
    }
    return chosen | _symbolic(program, [side for side, size in chosen.items() if size == ANY])


def _symbolic(program: Program, sides: list[str]) -> dict[str, Any]:
    if not sides:
        return {}
    # All symbolic sizes are made in one call. Those of several calls have different scopes, and JAX
    # cannot use sizes of different scopes in one program.
    least = [f"{side} >= {program.smallest_of_any}" for side in sides]
    return dict(zip(sides, export.symbolic_shape(", ".join(sides), constraints=least), strict=True))


def check_sizes(model: Model, shape: SizeOrAny, style_shape: SizeOrAny) -> None:
    """Raise an error unless each size is `"any"`, or a (height, width) that is large enough.

    Args:
      model: the model; a size must be large enough for all its programs.
      shape: (height, width) in px of the picture, or `"any"`.
      style_shape: (height, width) in px of the style picture, or `"any"`.

    Raises:
      ValueError: if a size cannot be used; the message names the argument.
    """
    least = max(program.smallest for program in model.programs.values())
    for argument, both in (("shape", shape), ("style_shape", style_shape)):
        if both == ANY:
            continue
        if isinstance(both, str) or not _is_shape(both):
            raise ValueError(
                f"`{argument}`: expected (height, width) in pixels, or 'any', got {_checks.shown(both)}"
            )
        height, width = both
        if min(height, width) < least:
            raise ValueError(
                f"`{argument}`: {width}x{height} px is too small; {model.name!r} needs at least "
                f"{least} px on each side"
            )


def plain_shape(shape: Any) -> Any:
    """Return a (height, width) of NumPy's integers, or an array of both, as a tuple of `int`.

    Other values are returned as they are; `check_sizes` checks them.
    """
    if isinstance(shape, (np.ndarray, jax.Array)):
        shape = np.asarray(shape).tolist()
    if not isinstance(shape, (tuple, list)):
        return shape
    return tuple(int(side) if isinstance(side, np.integer) else side for side in shape)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) for side in value)
    )


@contextmanager
def any_size_allowed(name: str) -> Iterator[None]:
    """Replace JAX's error about symbolic sizes, in a `with` block, by one that says what to do.

    JAX raises the error while it traces a program, if what the program computes depends on the value of
    a symbolic size, for example on which of two sizes is larger.

    Args:
      name: the model's name, for the message.

    Raises:
      ValueError: in place of JAX's error.
    """
    try:
        yield
    except _Undecided as error:
        reason = next(iter(str(error).splitlines())).rstrip(".")
        raise ValueError(
            f"`shape`: {name!r} cannot be exported for the size 'any', since what it computes depends "
            f"on the size ({reason}); give a size"
        ) from error


def size_text(shape: SizeOrAny) -> str:
    """Return a size as text, as on the command line: the width first, such as "384x256", or "any"."""
    return ANY if isinstance(shape, str) else f"{shape[1]}x{shape[0]}"
