"""Decorators that declare an option in one of the groups of `--help`, and some defaults of options."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from nst_jax.app import command_classes, parsing

Decorator: TypeAlias = Callable[[Any], Any]

FILE, STYLE_FILE = parsing.FilePath(path_type=Path), parsing.StyleFile()
# The same for commands that read one picture from standard input, or write one to standard output: the
# path may be `-`.
FILE_OR_STREAM = parsing.FilePath(path_type=Path, allow_dash=True)
STYLE_OR_STREAM = parsing.StyleFile(allow_dash=True)
NUMBERS = parsing.Numbers()

# Defaults that help texts state. A test compares these three with the recipe `default`.
DEFAULT_SIZE, DEFAULT_STEPS, DEFAULT_PRECISION = "512", "90", "auto"
FILM_SECONDS = 8.0  # default length of a film, in seconds; a test compares it with `films.SECONDS`
# Default of `--size` in the command `demo`, in pixels. Such a picture takes about a minute on two CPU
# cores.
DEMO_SIZE = "256"
# Defaults of the command `sweep`; the size is in pixels. The recipe is that of Gatys et al. 2015, since
# users take the ratios of content to style weight (option `--ratio`) from that paper. The same ratio
# has another effect with the losses of another recipe, and also at another size: the help of `--ratio`
# says how to convert it.
SWEEP_RECIPE, SWEEP_SIZE = "gatys-2015", "128"

RECIPES = "the recipe's"  # the words in help texts for a default that the recipe decides


def _in_group(group: str) -> Callable[..., Decorator]:
    return partial(click.option, cls=command_classes.Option, group=group)


look = _in_group(command_classes.LOOK)
size = _in_group(command_classes.SIZE)
output = _in_group(command_classes.OUTPUT)
memory = _in_group(command_classes.MEMORY)
expert = _in_group(command_classes.EXPERT)
option = _in_group(command_classes.OTHER)


def all_of(*decorators: Decorator) -> Decorator:
    """Combine several declarations of arguments and options into one decorator.

    Within each group, `--help` lists the options in the order given here.
    """

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate
