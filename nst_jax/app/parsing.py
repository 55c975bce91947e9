"""How the command line is read, and what is said when it cannot be: click with one-line messages."""

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

Share = tuple[Path, float | None]  # a style, and how much of it where that was said


def share_of(text: str, folder: Path = Path()) -> Share:
    """Return the style that FILE or FILE:SHARE names, and its share if it has one.

    Args:
      text: as typed.
      folder: what a relative path starts from.

    Returns:
      The path, and the share or None.

    Example:
      >>> share_of("wave.jpg:0.7")[1], share_of("wave.jpg")[1]
      (0.7, None)
    """
    path, colon, share = text.rpartition(":")
    try:
        if not (path and colon) or (folder / text).exists():  # a name may well hold a colon
            return folder / text, None
        return folder / path, float(share)
    except (ValueError, OSError):  # no number, or no possible name
        return folder / text, None


class BadInput(click.ClickException):
    """What the door refused, naming the argument as it was typed."""


class Command(click.Command):
    """A command that names arguments in the door's messages as they are typed."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, TypeError) as error:
            found = re.match(r"`([\w ]+)(\[\d+\])?`", str(error))
            if found is None:  # not from the door
                raise
            typed = {param.name: _typed(param) for param in self.params}
            name = typed.get(found[1], found[1]) + (found[2] or "")
            raise BadInput(f"`{name}`{as_flags(str(error)[found.end() :])}") from error


ADVICE = ("size", "tile", "chunk", "precision", "optimizer")  # what a message may propose


def as_flags(message: str) -> str:
    """Return a message that proposes options with these as they are typed.

    Example:
      >>> as_flags("smaller: `tile` auto or `descent.optimizer.history=5`")
      'smaller: `--tile` auto or `--set descent.optimizer.history=5`'
    """
    flags = re.sub(f"`({'|'.join(ADVICE)})`", r"`--\1`", message)
    return re.sub(r"`([a-z]+(?:\.[a-z_]+)+=)", r"`--set \1", flags)


class Variadic(Command):
    """A command whose option `--styles` takes every word up to the next option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # click's options take a fixed number of words, but may be repeated: so repeat it.
        spread: list[str] = []
        taking = False
        for word in args:
            if word.startswith("-") and len(word) > 1:
                option, _, first = word.partition("=")
                taking = option == "--styles"
                spread += ["--styles", first] if taking and first else [] if taking else [word]
            else:
                spread += ["--styles", word] if taking else [word]
        return super().parse_args(ctx, spread)


class Commands(click.Group):
    """A group that suggests the nearest command."""

    command_class = Command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            known = self.list_commands(ctx)
            hint = _did_you_mean(args[0], known) or f"expected one of {', '.join(known)}"
            raise BadInput(f"`{ctx.command_path}`: there is no command {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


Commands.group_class = Commands


def usage_message(error: click.UsageError) -> str:
    """Return one line for what click could not read."""
    help_line = f"`{error.ctx.command_path if error.ctx else 'nst-jax'} --help` shows what there is"
    if isinstance(error, click.NoSuchOption):
        known = [name for p in error.ctx.command.params for name in p.opts] if error.ctx else []
        hint = _did_you_mean(error.option_name, known) or help_line
        return f"`{error.option_name}`: there is no such option; {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"`{_typed(error.param)}`: is missing; {help_line}"
    message = error.message.rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"`{_typed(error.param)}`: {message}"
    return f"{message}; {help_line}"


def _typed(param: click.Parameter) -> str:
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name.strip("[].")


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else ""
