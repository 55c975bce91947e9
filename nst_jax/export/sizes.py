"""Sizes of pictures in exported programs: numbers of pixels, or symbolic sizes that stand for any."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import jax
from jax import export

from nst_jax.export.models import SIDES, STYLE_SIDES, Model, Program

ANY = "any"

# The error that JAX raises while tracing, if it cannot tell which of two symbolic sizes is larger.
# Newer versions of JAX have it in `jax.errors`, older ones in `jax.core`.
_NAME = "InconclusiveDimensionOperation"
_Undecided: type[Exception] = getattr(jax.errors, _NAME, None) or getattr(jax.core, _NAME)

SizeOrAny: TypeAlias = tuple[int, int] | str  # (height, width) in px, or "any"


def sizes_of(program: Program, shape: SizeOrAny, style_shape: SizeOrAny) -> dict[str, Any]:
    """Return the sizes that a program is exported for.

    Args:
      program: the program.
      shape: (height, width) of the picture, or `"any"` for symbolic sizes.
      style_shape: the same for the style picture.

    Returns:
      Numbers of pixels or symbolic sizes, by the names of the program's sides, such as
        `"height"`.
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
    # All in one call, since JAX can use symbolic sizes in one program only if they share a scope.
    least = [f"{side} >= {program.smallest_of_any}" for side in sides]
    return dict(zip(sides, export.symbolic_shape(", ".join(sides), constraints=least), strict=True))


def check_sizes(model: Model, shape: SizeOrAny, style_shape: SizeOrAny) -> None:
    """Refuse what is not a size, or is too small for a program of the model.

    Raises:
      ValueError: naming the argument.
    """
    least = max(program.smallest for program in model.programs.values())
    for argument, both in (("shape", shape), ("style_shape", style_shape)):
        if both == ANY:
            continue
        if isinstance(both, str) or not _is_shape(both):
            raise ValueError(
                f"`{argument}`: expected (height, width) in pixels, or 'any', got {both!r}"
            )
        height, width = both
        if min(height, width) < least:
            raise ValueError(
                f"`{argument}`: {width}x{height} px is too small; {model.name!r} needs at least "
                f"{least} px on each side"
            )


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, (tuple, list))
        and len(value) == 2
        and all(isinstance(side, int) and not isinstance(side, bool) for side in value)
    )


@contextmanager
def any_size_allowed(name: str) -> Iterator[None]:
    """Context manager: explain the error that JAX raises if a program cannot have symbolic sizes.

    Args:
      name: the model's name, for the message.

    Raises:
      ValueError: if what is traced in the block depends on how symbolic sizes compare.
    """
    try:
        yield
    except _Undecided as error:
        reason = next(iter(str(error).splitlines())).rstrip(".")
        raise ValueError(
            f"`shape`: {name!r} cannot be exported for any size, as what it computes depends on the "
            f"size ({reason}); give a size"
        ) from error


def size_text(shape: SizeOrAny) -> str:
    """Return a size as it is written on the command line, such as `384x256`, width first."""
    return ANY if isinstance(shape, str) else f"{shape[1]}x{shape[0]}"
