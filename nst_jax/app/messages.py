"""The wording of errors about flags and other words on the command line.

Built on click. Nothing heavy is imported here, since `--help` needs this module.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches

import click

PROGRAM = "nst-jax"


class BadInput(click.ClickException):
    """A refusal that names the argument as it was typed."""


def print_message(kind: str, text: str) -> None:
    """Print one line on standard error, such as "nst-jax: error: ...", if it can be written."""
    with suppress(OSError, ValueError):  # a full disk, a pipe that nobody reads, a closed terminal
        click.echo(f"{PROGRAM}: {kind}: {text}", err=True)


SUGGESTED = ("size", "tile", "chunk", "precision", "optimizer")  # options that messages may suggest


def as_flags(message: str) -> str:
    """Write the options that a message suggests as they are typed.

    Example:
      >>> as_flags("smaller: `tile` auto or `descent.optimizer.history=5`")
      'smaller: `--tile` auto or `--set descent.optimizer.history=5`'
    """
    flags = re.sub(f"`({'|'.join(SUGGESTED)})`", r"`--\1`", message)
    return re.sub(r"`([a-z]+(?:\.[a-z_]+)+=)", r"`--set \1", flags)


def usage_message(error: click.UsageError) -> str:
    """Return one line for words that click could not parse."""
    path = error.ctx.command_path if error.ctx else PROGRAM
    help_line = f"`{path} --help` lists the options"
    if isinstance(error, click.NoSuchOption):
        known = [name for p in error.ctx.command.params for name in p.opts] if error.ctx else []
        hint = did_you_mean(error.option_name, known) or help_line
        return f"`{error.option_name}`: there is no such option; {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"`{as_typed(error.param)}`: is missing; {help_line}"
    message = error.message.rstrip(".")
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"`{as_typed(error.param)}`: {message}"
    return f"{message}; {help_line}"


def as_typed(param: click.Parameter) -> str:
    """Return a parameter's name as it is typed."""
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.human_readable_name.strip("[].")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a question that suggests the nearest known name, or nothing if none is near."""
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else ""
