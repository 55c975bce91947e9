"""Parsing of the words of a command line into values.

The module is built on click. It imports nothing that takes long to load, since even `--help` needs it.
"""

import errno
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
from click.shell_completion import CompletionItem

# The path of a style, and its share, which is its weight if several styles are blended. The share is
# None if none was typed.
StyleShare: TypeAlias = tuple[Path, float | None]


def parse_path(text: str) -> Path:
    """Return the path that a typed text means; only the text `-` gives `Path("-")`.

    `Path("-")` means standard input or output. `Path("./-")`, which means a file, is equal to it. So
    for `./-` the absolute path of this file is returned.

    Example:
      >>> parse_path("-").name, parse_path("./-").is_absolute()
      ('-', True)
    """
    path = Path(text)
    return Path.cwd() / path if path == Path("-") and text != "-" else path


def parse_style(text: str, folder: Path = Path()) -> StyleShare:
    """Parse a style, typed as FILE or FILE:SHARE.

    The share is the weight of the style if several styles are blended.

    Args:
      text: the text that was typed.
      folder: the folder from which a relative path starts.

    Returns:
      The path of the style, and its share, which is None if the text has none.

    Raises:
      ValueError: if the text after the last colon is no number, and the text before this colon is the
        name of an existing file, but the whole text is not.

    Example:
      >>> parse_style("wave.jpg:0.7")[1], parse_style("wave.jpg")[1]
      (0.7, None)
    """
    path, colon, share = text.rpartition(":")
    try:
        # There is no share if there is no colon, or if the colon is a part of a file's name.
        if not (path and colon) or (folder / text).exists():
            return folder / parse_path(text), None
        return folder / parse_path(path), float(share)
    except (ValueError, OSError):  # `share` is no number, or `text` cannot be a file name
        if _is_file(folder / path):
            raise ValueError(
                f"`style`: {share!r} is no share of '{path}'; a share is a number, as in '{path}:0.7'"
            ) from None
        return folder / text, None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (ValueError, OSError):
        return False


class RegionFiles(NamedTuple):
    """A region as users type it: the paths of its files, and its weight.

    A region is a part of the content with a style of its own.
    """

    mask: Path  # picture that is white where the region is in the content
    style: Path  # the style picture of the region
    # Picture that is white in those parts of `style` whose style is used; None uses all of `style`.
    style_mask: Path | None = None
    # Weight of the region's style loss, relative to that of the default style, which is 1. The default
    # style is the style of all pixels outside the regions.
    weight: float = 1.0

    @property
    def paths(self) -> list[Path]:
        """The paths of the region's mask, style picture and, if there is one, style mask."""
        more = [] if self.style_mask is None else [self.style_mask]
        return [self.mask, self.style, *more]


REGION_FORM = "MASK:STYLE[:STYLE_MASK][:WEIGHT]"


def parse_region(text: str, folder: Path = Path()) -> RegionFiles:
    """Parse a region, typed as MASK:STYLE[:STYLE_MASK][:WEIGHT].

    A region is a part of the content with a style of its own. The content mask is white in the region,
    the style mask in the parts of the style that are used. The weight is that of the region's style
    loss.

    Args:
      text: the text that was typed. If there are more than two parts, and the last one is a number, it
        is the weight.
      folder: the folder from which relative paths start.

    Raises:
      ValueError: if a part is empty, or there are too few or too many parts.

    Example:
      >>> found = parse_region("sky.png:wave.jpg:2")
      >>> found.style.name, found.style_mask, found.weight
      ('wave.jpg', None, 2.0)
    """
    parts = text.split(":")
    weight = 1.0
    if len(parts) > 2 and (number := as_number(parts[-1])) is not None:
        weight, parts = number, parts[:-1]
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise ValueError(
            f"expected {REGION_FORM}, such as sky.png:wave.jpg, got {text!r}; names of files must not "
            "contain colons"
        )
    mask, style, *rest = (folder / part for part in parts)
    return RegionFiles(mask, style, rest[0] if rest else None, weight)


class ProtectFile(NamedTuple):
    """The protected part of a content as users type it: the paths of its masks, and the amount.

    A protected part of the picture stays as it is in the content.
    """

    mask: Path  # picture that is white where the content is protected
    amount: float = 1.0  # from 0 (no protection) to 1 (the content stays as it is)
    more: tuple[Path, ...] = ()  # further masks; what is white in any mask is protected

    @property
    def masks(self) -> tuple[Path, ...]:
        """The paths of all masks."""
        return (self.mask, *self.more)

    def with_masks(self, change: Callable[[Path], Path]) -> "ProtectFile":
        """Return the same part with other paths: `change` is applied to the path of each mask."""
        first, *more = map(change, self.masks)
        return self._replace(mask=first, more=tuple(more))


def parse_protect(text: str, folder: Path = Path()) -> ProtectFile:
    """Parse a protected part, typed as MASK or MASK:AMOUNT.

    A protected part of the picture stays as it is in the content, wholly or by the given amount.

    Args:
      text: the text that was typed. If the part after the last colon is no number, all of the text is
        the path of the mask.
      folder: the folder from which a relative path starts.

    Raises:
      ValueError: if the text is empty.

    Example:
      >>> parse_protect("face.png:0.5").amount, parse_protect("face.png").amount
      (0.5, 1.0)
    """
    if not text:  # `Path("")` would mean the current folder
        raise ValueError("expected MASK[:AMOUNT], such as face.png:0.5, got ''")
    path, colon, amount = text.rpartition(":")
    number = as_number(amount)
    if not (path and colon) or number is None:
        return ProtectFile(folder / text)
    return ProtectFile(folder / path, number)


def joined_protect(parts: Sequence[ProtectFile]) -> ProtectFile | None:
    """Return several protected parts as one, whose masks are those of all parts; None without parts.

    Args:
      parts: the protected parts, which keep the content. All must have the same amount of protection
        (`ProtectFile.amount`, from 0 to 1), since the result has a single amount for all its masks.

    Raises:
      ValueError: if two parts have different amounts.

    Example:
      >>> joined_protect([parse_protect("anna.png:0.5"), parse_protect("ben.png:0.5")]).amount
      0.5
    """
    if not parts:
        return None
    first, amounts = parts[0], [part.amount for part in parts]
    if len(set(amounts)) > 1:
        raise ValueError(
            f"all masks are protected by one amount, got {' and '.join(f'{a:g}' for a in amounts)}; "
            "give each the same"
        )
    return first._replace(more=tuple(path for part in parts for path in part.masks)[1:])


def as_number(text: str) -> float | None:
    """Return the number that is written in a text; None if the text is not a number."""
    try:
        return float(text)
    except ValueError:
        return None


# --- Types of values ------------------------------------------------------------------------------

EMPTY = "is empty; name a file or a folder ('.' is the current folder)"  # message on an empty path
# Message on a path that is `-`.
STREAM = (
    "cannot be `-`, standard input or output; name a file or a folder (`./-` if it is called so)"
)


def _why_refused(text: str, path: Path, *, allow_dash: bool) -> str:
    """Return why a typed text cannot be the path of a file; "" if it can.

    Args:
      text: the text.
      path: the path that the text means. It differs from the text if a share follows the path.
      allow_dash: whether the path may be `-`, which means standard input or output.
    """
    if not text:  # `Path("")` would mean the current folder
        return EMPTY
    if path == Path("-") and not allow_dash:
        return STREAM
    try:
        path.lstat()
    except (OSError, ValueError) as error:
        if not isinstance(error, OSError) or error.errno in (errno.ENAMETOOLONG, errno.EINVAL):
            reason = error.strerror if isinstance(error, OSError) else str(error)
            name, remedy = path.name, "choose another name"
            if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
                name, remedy = max(path.parts, key=len), "choose a shorter name"
            return f"{name[:40]!r}... cannot be the name of a file: {reason}; {remedy}"
    return ""


class FilePath(click.Path):
    """Parameter type for a path.

    `-`, which means standard input or output, is refused unless the type is made with `allow_dash`.
    """

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        if not isinstance(value, str):
            return value
        path = parse_path(value)
        if why := _why_refused(value, path, allow_dash=self.allow_dash):
            self.fail(why, param, ctx)
        return path


class StyleFile(click.ParamType):
    """Parameter type for a style, typed as FILE or FILE:SHARE.

    The share is the weight of the style if several are blended. The value is the pair (path, share);
    the share is None if only FILE was typed. `-`, which means standard input, is refused unless the
    type is made with `allow_dash`.
    """

    name = "file"

    def __init__(self, *, allow_dash: bool = False) -> None:
        self.allow_dash = allow_dash

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Return a list with one item, which makes the shell complete names of files at the Tab key."""
        del ctx, param
        return [CompletionItem(incomplete, type="file")]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            path, share = parse_style(value)
        except ValueError as error:
            self.fail(str(error).removeprefix("`style`: "), param, ctx)
        if why := _why_refused(value, path, allow_dash=self.allow_dash):
            self.fail(why, param, ctx)
        return path, share


class RegionType(click.ParamType):
    """Parameter type for a region, typed as MASK:STYLE[:STYLE_MASK][:WEIGHT].

    A region is a part of the content with a style of its own. The value is a `RegionFiles`.
    """

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_region(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ProtectType(click.ParamType):
    """Parameter type for a protected part, typed as MASK or MASK:AMOUNT.

    A protected part of the picture stays as it is in the content, wholly or, with an AMOUNT from 0 to
    1, partly. The value is a `ProtectFile`.
    """

    name = "mask"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_protect(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


def join_protect(
    ctx: click.Context, param: click.Parameter, values: Sequence[ProtectFile]
) -> ProtectFile | None:
    """Join all values of the option `--protect` into one; the option has this function as callback."""
    try:
        return joined_protect(values)
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


class DeviceCount(click.ParamType):
    """Parameter type for a number of devices, or a word such as "all".

    The value is an int or the word; both are checked where they are used.
    """

    name = "devices"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class BucketSide(click.ParamType):
    """Parameter type of the option `--bucket`: a number of pixels, or the word "auto" or "off".

    A bucket is a square array in which pictures of different shapes are painted; the number is its
    side. The value is an int or the word; both are checked where they are used.
    """

    name = "bucket"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class Numbers(click.ParamType):
    """Parameter type for numbers separated by commas. The value is a tuple of floats."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers separated by commas, got {value!r}", param, ctx)


class Shape(click.ParamType):
    """Parameter type for a size, typed as WIDTHxHEIGHT in pixels; the value is (height, width)."""

    name = "shape"
    expected = "WIDTHxHEIGHT"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, int]:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+)x(\d+)", value.strip().lower())
        if found is None:
            self.fail(f"expected {self.expected} such as 4096x3072, got {value!r}", param, ctx)
        return int(found[2]), int(found[1])


class ShapeOrAny(Shape):
    """Parameter type for a size, typed as WIDTHxHEIGHT in pixels, or the word "any".

    The value is (height, width), or the word, which means that pictures may have any size.
    """

    expected = "WIDTHxHEIGHT or any"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value == "any" else super().convert(value, param, ctx)


DECIMAL_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class ByteCount(click.ParamType):
    """Parameter type for memory with a unit, such as 24GB or 16GiB. The value is an int, in bytes."""

    name = "bytes"

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if not isinstance(value, str):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?) *([kmgt]i?|)b", value.strip().lower())
        if found is None or not float(found[1]):
            self.fail(
                f"expected bytes with a unit such as 24GB or 16GiB, got {value!r}", param, ctx
            )
        return round(float(found[1]) * (DECIMAL_UNITS | BINARY_UNITS)[found[2]])
