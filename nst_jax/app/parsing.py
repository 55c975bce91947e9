"""Parsing of the command line into values, and the layout of its help.

Built on click. Imports nothing that takes long to load, since even `--help` imports this module.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import click
from click.shell_completion import CompletionItem

from nst_jax.app.messages import BadInput, as_flags, as_typed, did_you_mean

StyleShare: TypeAlias = tuple[Path, float | None]  # a style file, and its share if one was given


def parse_path(text: str) -> Path:
    """Return a path as typed; `./-` becomes absolute, since only `-` alone is a standard stream.

    Example:
      >>> parse_path("-").name, parse_path("./-").is_absolute()
      ('-', True)
    """
    path = Path(text)
    return Path.cwd() / path if path == Path("-") and text != "-" else path


def parse_style(text: str, folder: Path = Path()) -> StyleShare:
    """Parse FILE or FILE:SHARE.

    Args:
      text: the argument as typed.
      folder: the folder to which a relative path is relative.

    Returns:
      The path of the style, and its share or None.

    Raises:
      ValueError: if what follows the colon is no number, but what comes before it is a file.

    Example:
      >>> parse_style("wave.jpg:0.7")[1], parse_style("wave.jpg")[1]
      (0.7, None)
    """
    path, colon, share = text.rpartition(":")
    try:
        if not (path and colon) or (folder / text).exists():  # a file name may contain a colon
            return folder / parse_path(text), None
        return folder / parse_path(path), float(share)
    except (ValueError, OSError):  # not a number, or not a possible file name
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
    """The files of a region, and the weight of its style loss."""

    mask: Path
    style: Path
    style_mask: Path | None = None
    weight: float = 1.0

    @property
    def paths(self) -> list[Path]:
        """The paths of all files of the region."""
        more = [] if self.style_mask is None else [self.style_mask]
        return [self.mask, self.style, *more]


REGION_FORM = "CONTENT_MASK:STYLE[:STYLE_MASK][:WEIGHT]"


def parse_region(text: str, folder: Path = Path()) -> RegionFiles:
    """Parse CONTENT_MASK:STYLE[:STYLE_MASK][:WEIGHT].

    Args:
      text: the value as typed; a last part that is a number is the weight.
      folder: the folder to which relative paths are relative.

    Raises:
      ValueError: if there are too few or too many parts.

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
    """The mask of a protected part, and the amount of protection, from 0 to 1."""

    mask: Path
    amount: float = 1.0


def parse_protect(text: str, folder: Path = Path()) -> ProtectFile:
    """Parse MASK or MASK:AMOUNT.

    Example:
      >>> parse_protect("face.png:0.5").amount, parse_protect("face.png").amount
      (0.5, 1.0)
    """
    path, colon, amount = text.rpartition(":")
    number = as_number(amount)
    if not (path and colon) or number is None:
        return ProtectFile(folder / text)
    return ProtectFile(folder / path, number)


def as_number(text: str) -> float | None:
    """Return the number that a text is; None if it is none."""
    try:
        return float(text)
    except ValueError:
        return None


# --- Types of values ------------------------------------------------------------------------------


class FilePath(click.Path):
    """Type of a path; `-` is a standard stream, where the command takes one."""

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return parse_path(value) if isinstance(value, str) else value


class StyleFile(click.ParamType):
    """Type of an argument FILE or FILE:SHARE, whose value is the pair (path, share or None)."""

    name = "file"

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Let the shell complete names of files."""
        del ctx, param
        return [CompletionItem(incomplete, type="file")]

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_style(value)
        except ValueError as error:
            self.fail(str(error).removeprefix("`style`: "), param, ctx)


class RegionType(click.ParamType):
    """Type of an option CONTENT_MASK:STYLE[:STYLE_MASK][:WEIGHT], whose value is a `RegionFiles`."""

    name = "region"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return parse_region(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class ProtectType(click.ParamType):
    """Type of an option MASK[:AMOUNT], whose value is a `ProtectFile`."""

    name = "mask"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return parse_protect(value)


class DeviceCount(click.ParamType):
    """Type of a number of devices, or a word such as "all". Words are checked later."""

    name = "devices"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class BucketSide(click.ParamType):
    """Type of a number of pixels, or the word "auto" or "off". Words and numbers are checked later."""

    name = "bucket"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return int(value) if isinstance(value, str) and value.isdecimal() else value


class Numbers(click.ParamType):
    """Type of one number or several separated by commas, whose value is a tuple."""

    name = "numbers"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[float, ...]:
        if not isinstance(value, str):
            return value
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            self.fail(f"expected numbers separated by commas, got {value!r}", param, ctx)


class Shape(click.ParamType):
    """Type of WIDTHxHEIGHT in pixels, whose value is the pair (height, width)."""

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
    """Type of WIDTHxHEIGHT in pixels or the word "any", whose value is (height, width) or the word."""

    expected = "WIDTHxHEIGHT or any"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        return value if value == "any" else super().convert(value, param, ctx)


DECIMAL_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
BINARY_UNITS = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


class ByteCount(click.ParamType):
    """Type of a number of bytes with a unit, such as 24GB or 16GiB, whose value is an int."""

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


# --- Options and commands -------------------------------------------------------------------------

LOOK, SIZE, OUTPUT, MEMORY, EXPERT = "Look", "Size", "Output", "Memory and devices", "Expert"
OTHER = "Options"  # heading for options without a group, such as --help
GROUPS = (LOOK, SIZE, OUTPUT, MEMORY, EXPERT, OTHER)  # in the order in which help prints them


class Option(click.Option):
    """An option that is listed in one group of its command's help."""

    def __init__(self, *names: Any, group: str = OTHER, **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.group = group

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Let click add no `[required]` or `[default: ...]`: the help texts say it in words."""
        return {}


class Command(click.Command):
    """A command whose help lists options in groups and whose errors name arguments as typed."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section for each group that has options."""
        sections: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for param in self.get_params(ctx):
            # Positional arguments are left out here: the text above the options explains them.
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                sections[getattr(param, "group", OTHER)].append(record)
        for group, records in sections.items():
            if records:
                with formatter.section(group):
                    formatter.write_dl(records)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _reworded(super().get_help_option(ctx))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        typed = list(args)  # click empties `args`
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            # After a single dash, as in `-image_size`, click reads letters, and names the first one.
            words = (word.partition("=")[0] for word in typed if not word.startswith("--"))
            name = error.option_name
            whole = next((word for word in words if word.startswith(name)), name)
            raise click.NoSuchOption(whole, ctx=error.ctx) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError) as error:
            found = re.match(r"`([\w ]+)((?:\[\d+\])?(?:\.\w+)?)`", str(error))
            if found is None:  # not an error about an argument
                raise
            typed = {param.name: as_typed(param) for param in self.params}
            name = typed.get(found[1], found[1]) + (found[2] or "")
            raise BadInput(f"`{name}`{as_flags(str(error)[found.end() :])}") from error


def _reworded(help_option: click.Option | None) -> click.Option | None:
    if help_option is not None:
        help_option.help = "show this text"
    return help_option


class CommandWithLists(Command):
    """A command whose option `--styles` takes all the words up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # In click an option takes a fixed number of words but may be repeated, so `--styles a b` is
        # rewritten as `--styles a --styles b`.
        repeated: list[str] = []
        in_list = False
        for word in args:
            if word.startswith("-") and len(word) > 1:
                option, _, first = word.partition("=")
                in_list = option == "--styles"
                repeated += ["--styles", first] if in_list and first else [] if in_list else [word]
            else:
                repeated += ["--styles", word] if in_list else [word]
        return super().parse_args(ctx, repeated)


class CommandGroup(click.Group):
    """A group of commands that suggests the nearest command for an unknown one."""

    command_class = Command

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which the commands are declared."""
        return list(self.commands)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        return _reworded(super().get_help_option(ctx))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            hint = did_you_mean(args[0], known) or f"expected one of {', '.join(known)}"
            raise BadInput(f"`{ctx.command_path}`: there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


CommandGroup.group_class = CommandGroup
