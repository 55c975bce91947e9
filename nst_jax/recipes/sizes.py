"""Size rules: to what size pictures are resized before painting.

A rule is a small dataclass whose numbers are pytree leaves; its `shape(height, width)` returns the new
(height, width).
"""

import bisect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

from nst_jax import _checks
from nst_jax._types import Shape

Rounding: TypeAlias = Callable[[int, int, int, int], Shape]


@runtime_checkable
class SizeRule(Protocol):
    """Interface of a size rule, which computes the size that a picture is resized to."""

    def shape(self, height: int, width: int) -> Shape:
        """Return the new (height, width) of a picture that has this height and width."""
        ...

    def resized(self, pixels: int) -> "SizeRule":
        """Return the same rule with its number replaced: `LongEdge(512)` becomes `LongEdge(pixels)`."""
        ...


# --- Rounding -------------------------------------------------------------------------------------

# A size rule gives one side of a picture a new length. A rounding is a function that computes the new
# (height, width) of the picture, with the aspect ratio kept: `edge` is the old length of that side,
# `size` the new one.


def nearest(height: int, width: int, size: int, edge: int) -> Shape:
    """Multiply both sides by `size` / `edge` and round to the nearest pixel."""
    return max(1, round(height * size / edge)), max(1, round(width * size / edge))


def truncated(height: int, width: int, size: int, edge: int) -> Shape:
    """Multiply both sides by `size`, divide by `edge`, round down, as torchvision's `Resize` does."""
    return max(1, int(size * height / edge)), max(1, int(size * width / edge))


def truncated_float32(height: int, width: int, size: int, edge: int) -> Shape:
    """Multiply both sides by `size` / `edge` in float32 and round down, as in TensorFlow's tutorial."""
    scale = np.float32(size) / np.float32(edge)
    return max(1, int(np.float32(height) * scale)), max(1, int(np.float32(width) * scale))


def truncated_scale(height: int, width: int, size: int, edge: int) -> Shape:
    """Multiply both sides by the quotient `size` / `edge` and round down, as neural-style-pt does.

    The quotient is rounded to a float, so the result may be 1 px less than that of `truncated`.
    """
    scale = float(size) / edge
    return max(1, int(scale * height)), max(1, int(scale * width))


# --- Rules ----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LongEdge:
    """The longer side becomes `pixels`; the aspect ratio is kept."""

    pixels: int = 512
    rounding: Rounding = field(default=nearest, metadata={"static": True})

    def shape(self, height: int, width: int) -> Shape:
        return self.rounding(height, width, int(self.pixels), max(height, width))

    def resized(self, pixels: int) -> "LongEdge":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"longer side {self.pixels} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShortEdge:
    """The shorter side becomes `pixels`; the aspect ratio is kept."""

    pixels: int = 512
    rounding: Rounding = field(default=nearest, metadata={"static": True})

    def shape(self, height: int, width: int) -> Shape:
        return self.rounding(height, width, int(self.pixels), min(height, width))

    def resized(self, pixels: int) -> "ShortEdge":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"shorter side {self.pixels} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Area:
    """The area becomes that of a square with side `pixels`; the aspect ratio is kept."""

    pixels: int = 512

    def shape(self, height: int, width: int) -> Shape:
        factor = int(self.pixels) / math.sqrt(height * width)
        return max(1, round(height * factor)), max(1, round(width * factor))

    def resized(self, pixels: int) -> "Area":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"area of {self.pixels} x {self.pixels} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Exact:
    """The size becomes exactly `height` x `width`, as in some courses; the aspect ratio may change."""

    height: int
    width: int

    def shape(self, height: int, width: int) -> Shape:
        del height, width
        return int(self.height), int(self.width)

    def resized(self, pixels: int) -> "Exact":
        """Set the longer side to `pixels`; the rule's own aspect ratio is kept."""
        long = max(self.height, self.width)
        return Exact(round(self.height * pixels / long), round(self.width * pixels / long))

    def __str__(self) -> str:
        return f"exactly {self.width} x {self.height} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Height:
    """The height becomes `pixels`; the aspect ratio is kept."""

    pixels: int = 400
    rounding: Rounding = field(default=truncated, metadata={"static": True})

    def shape(self, height: int, width: int) -> Shape:
        return self.rounding(height, width, int(self.pixels), height)

    def resized(self, pixels: int) -> "Height":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"height {self.pixels} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ShortEdgeUpTo:
    """The shorter side becomes the longer one's length, but `pixels` at most; the aspect ratio is kept.

    So a picture whose shorter side is below `pixels` is enlarged, unless it is square. Udacity's
    notebook means to limit the size, but passes the length of the longer side to `Resize`, which sets
    the shorter one.
    """

    pixels: int = 400
    rounding: Rounding = field(default=truncated, metadata={"static": True})

    def shape(self, height: int, width: int) -> Shape:
        size = min(int(self.pixels), max(height, width))
        return self.rounding(height, width, size, min(height, width))

    def resized(self, pixels: int) -> "ShortEdgeUpTo":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"shorter side {self.pixels} px at most"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LongEdgeUpTo:
    """The longer side becomes `pixels`, unless it is shorter already; the aspect ratio is kept."""

    pixels: int = 512
    rounding: Rounding = field(default=nearest, metadata={"static": True})

    def shape(self, height: int, width: int) -> Shape:
        size = min(int(self.pixels), max(height, width))
        return self.rounding(height, width, size, max(height, width))

    def resized(self, pixels: int) -> "LongEdgeUpTo":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"longer side {self.pixels} px at most"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PixelCount:
    """The area becomes that of a square with side `pixels`; the width follows from the rounded height.

    This is pastiche's rule; `Area` computes and rounds the sides independently.
    """

    pixels: int = 500

    def shape(self, height: int, width: int) -> Shape:
        return _of_area(int(self.pixels) ** 2, height, width)

    def resized(self, pixels: int) -> "PixelCount":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"area of {self.pixels} x {self.pixels} px"


def _of_area(area: int, height: int, width: int) -> Shape:
    rows = max(1, round(math.sqrt(area * height / width)))
    return rows, max(1, round(width / height * rows))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Paper:
    """The largest size that fits on a sheet of paper, turned as the picture is; proportions are kept.

    Attributes:
      long: longer side of the sheet, in pixels.
      short: shorter side of the sheet, in pixels.
      dpi: pixels per inch at which the picture is to be printed, which its file states.
    """

    long: int
    short: int
    dpi: int = 300

    def shape(self, height: int, width: int) -> Shape:
        factor = min(self.long / max(height, width), self.short / min(height, width))
        # To the nearest pixel, which is never beyond the sheet, whose sides are whole pixels.
        return max(1, round(height * factor)), max(1, round(width * factor))

    def resized(self, pixels: int) -> "Paper":
        """Set the longer side of the sheet to `pixels`: the same paper at another resolution."""
        short = max(1, round(self.short * pixels / self.long))
        return Paper(pixels, short, max(SMALLEST, round(self.dpi * pixels / self.long)))

    def __str__(self) -> str:
        return f"inside {self.long} x {self.short} px, {self.dpi} dpi"


class _BesideContent:
    """Base class of the rules that give a style a size depending on the canvas' size.

    These rules have a method `beside(canvas, height, width)`, which computes the style's size; `shape`,
    which is not given the canvas' size, raises a ValueError.
    """

    def shape(self, height: int, width: int) -> Shape:
        raise ValueError("`size`: this rule is for styles; choose another for the canvas")

    def resized(self, pixels: int) -> LongEdge:
        """Return `LongEdge(pixels)`, since this rule has no number to replace."""
        return LongEdge(pixels)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LikeContent(_BesideContent):
    """A rule for styles: they get exactly the canvas' size, so their aspect ratio may change."""

    def beside(self, canvas: Shape, height: int, width: int) -> Shape:
        """Return the new (height, width) of a style; `canvas` is the (height, width) of the canvas."""
        del height, width
        return canvas

    def __str__(self) -> str:
        return "the canvas' size"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PixelsOfContent(_BesideContent):
    """A rule for styles: they get as many pixels as the canvas; their aspect ratio is kept."""

    def beside(self, canvas: Shape, height: int, width: int) -> Shape:
        """Return the new (height, width) of a style; `canvas` is the (height, width) of the canvas."""
        return _of_area(canvas[0] * canvas[1], height, width)

    def __str__(self) -> str:
        return "the canvas' area"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AsIs:
    """Every picture keeps its size."""

    def shape(self, height: int, width: int) -> Shape:
        return height, width

    def resized(self, pixels: int) -> LongEdge:
        """Return `LongEdge(pixels)`, since this rule has no number to replace."""
        return LongEdge(pixels)

    def __str__(self) -> str:
        return "as it is"


Size: TypeAlias = int | np.integer | str | SizeRule | None


_NAMED = {"long": LongEdge, "short": ShortEdge, "area": Area}

# Sides of paper, longer one first, in millimetres: ISO 216, and the formats of North America.
PAPERS = {
    "a0": (1189, 841),
    "a1": (841, 594),
    "a2": (594, 420),
    "a3": (420, 297),
    "a4": (297, 210),
    "a5": (210, 148),
    "a6": (148, 105),
    "letter": (279.4, 215.9),
    "legal": (355.6, 215.9),
    "tabloid": (431.8, 279.4),
}
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "in": 25.4}  # in a unit of length
_PER_INCH = 25.4  # millimetres

_GRAMMAR = (
    "a number of pixels, 'long:N', 'short:N', 'area:N', 'WIDTHxHEIGHT', paper such as 'a4@150' or "
    "'20x30cm@300', or 'as-is'"
)

SMALLEST, LARGEST = 16, 65536  # px; limits of the numbers in a size rule
MOST_DPI = 4800  # finest resolution of paper, in pixels per inch; of printers, some are finer


def with_size(rule: SizeRule, size: Size, *, argument: str = "size") -> SizeRule:
    """Return a recipe's size rule, changed by the `size` that a caller of `stylize` passes.

    Args:
      rule: the recipe's size rule.
      size: None keeps the rule; a number (or its digits) replaces the rule's number, so that
        `ShortEdge(512)` becomes `ShortEdge(256)` (see each rule's `resized`); `"long:512"`,
        `"short:512"`, `"area:512"` and `"400x300"` (width x height) replace the rule; `"a4@150"` and
        `"20x30cm@300"` fit the picture on paper (a key of `PAPERS`, or sides in mm, cm or in) at a
        number of pixels per inch; `"as-is"` resizes nothing; a size rule takes the place of the
        recipe's.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The rule to use.

    Raises:
      TypeError: if `size` is neither a number, nor text, nor a size rule.
      ValueError: if `size` is text of another form, or a number is not between 16 and 65536 px.

    Example:
      >>> from nst_jax.recipes.sizes import ShortEdge, with_size
      >>> with_size(ShortEdge(512), 256)
      ShortEdge(pixels=256, ...)
      >>> with_size(ShortEdge(512), "400x300").shape(1000, 1000)
      (300, 400)
      >>> with_size(ShortEdge(512), "a4@150").shape(3000, 4000)
      (1240, 1653)
    """
    if size is None:
        return rule
    if isinstance(size, str):
        return _parsed(rule, size.strip().lower(), argument)
    if isinstance(size, (int, np.integer)) and not isinstance(size, bool):
        return rule.resized(_pixels(int(size), argument))
    if hasattr(size, "shape") and hasattr(size, "resized"):
        return size
    raise TypeError(f"`{argument}`: expected {_GRAMMAR}, got {size!r}")


def is_number(size: Size) -> bool:
    """Return whether a caller's `size` is a number of pixels, or its digits."""
    if isinstance(size, str):
        return size.strip().isdecimal()
    return isinstance(size, (int, np.integer))


def beside_exact(rule: SizeRule, content: SizeRule, canvas: Exact) -> SizeRule:
    """Return the size rule for styles in a run on a canvas of an exact size, such as 400x300.

    A style gets the size that it would have in a run in which the recipe's own rule gives a canvas as
    large. For example, if both rules are `LongEdge`, a canvas of 400x300 px gives `LongEdge(400)`.

    Args:
      rule: the recipe's rule for styles, which may be the one for contents.
      content: the recipe's rule for contents.
      canvas: the exact size.

    Returns:
      `rule` with n pixels, where n is the smallest number for which `content` with n pixels gives a
      canvas of at least that area, or the canvas' longer side if there is none. `rule` itself if it
      keeps every size (`AsIs`) or derives the style's size from the canvas.
    """
    if isinstance(rule, AsIs) or hasattr(rule, "beside"):
        return rule
    shape = canvas.shape(0, 0)

    def area(pixels: int) -> int:
        height, width = content.resized(pixels).shape(*shape)
        return height * width

    numbers = range(SMALLEST, LARGEST + 1)
    found = bisect.bisect_left(numbers, shape[0] * shape[1], key=area)
    # A size rule that is not one of this package's may give that area for no number.
    return rule.resized(numbers[found] if found < len(numbers) else max(shape))


def _parsed(rule: SizeRule, text: str, argument: str) -> SizeRule:
    if text == "as-is":
        return AsIs()
    if re.fullmatch(r"\d+", text):
        return rule.resized(_pixels(int(text), argument))
    if found := re.fullmatch(r"(\d+)x(\d+)", text):
        width, height = (_pixels(int(number), argument) for number in found.groups())
        return Exact(height, width)
    if found := re.fullmatch(r"(long|short|area):(\d+)", text):
        return _NAMED[found[1]](_pixels(int(found[2]), argument))
    if (paper := _paper(text, argument)) is not None:
        return paper
    raise ValueError(f"`{argument}`: expected {_GRAMMAR}, got {text!r}")


def _paper(text: str, argument: str) -> Paper | None:
    """Return the rule that `PAPER@DPI` or `AxBUNIT@DPI` is; None for other text."""
    name, at, resolution = text.partition("@")
    sides = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(mm|cm|in)", name)
    if name not in PAPERS and sides is None:
        if at:
            raise _checks.unknown(argument, name, [*PAPERS, "20x30cm"], "paper")
        return None
    if not re.fullmatch(r"\d+(dpi)?", resolution):
        raise ValueError(
            f"`{argument}`: {name!r} is paper, which needs pixels per inch behind it, such as "
            f"'{name}@150'; got {text!r}"
        )
    dpi = int(resolution.removesuffix("dpi"))
    if not SMALLEST <= dpi <= MOST_DPI:
        raise ValueError(f"`{argument}`: expected {SMALLEST} to {MOST_DPI} dpi, got {dpi}")
    if sides is None:
        lengths = PAPERS[name]
    else:
        one, other = (float(number) * _MILLIMETRES[sides[3]] for number in sides.groups()[:2])
        lengths = max(one, other), min(one, other)
    # Rounded down, so that nothing is cut off at the edge of the paper.
    long, short = (math.floor(length / _PER_INCH * dpi + 1e-6) for length in lengths)
    return Paper(_pixels(long, argument), _pixels(short, argument), dpi)


def _pixels(number: int, argument: str) -> int:
    if not SMALLEST <= number <= LARGEST:
        raise ValueError(f"`{argument}`: expected {SMALLEST} to {LARGEST} px, got {number}")
    return number


# Size rules and roundings by the names that recipe files use.
SIZE_RULES = {
    rule.__name__: rule
    for rule in (
        LongEdge,
        ShortEdge,
        ShortEdgeUpTo,
        LongEdgeUpTo,
        Height,
        Area,
        PixelCount,
        Exact,
        Paper,
        LikeContent,
        PixelsOfContent,
        AsIs,
    )
}

ROUNDINGS = {
    rounding.__name__: rounding
    for rounding in (nearest, truncated, truncated_scale, truncated_float32)
}
