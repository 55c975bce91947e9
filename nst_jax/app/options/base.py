"""How options are declared: decorators that put an option into a group of `--help`; some defaults."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import click

from nst_jax.app import parsing

Decorator: TypeAlias = Callable[[Any], Any]

FILE = parsing.FilePath(path_type=Path)
STYLE_FILE, NUMBERS = parsing.StyleFile(), parsing.Numbers()

# Defaults that help texts state. A test compares the next three with the recipe `default`.
DEFAULT_SIZE, DEFAULT_STEPS, DEFAULT_PRECISION = "512", "90", "auto"
FILM_SECONDS = 8.0  # length of a film; a test compares it with `films.SECONDS`
DEMO_SIZE = "256"  # pixels; painted in about a minute on two CPU cores
# Defaults of `sweep`; the size is in pixels. The ratios (content to style weight) in Gatys et al. 2015
# refer to the losses of that paper, so the recipe is that paper's.
SWEEP_RECIPE, SWEEP_SIZE = "gatys-2015", "128"

RECIPES = "the recipe's"  # the default of an option, in help texts, if the recipe decides on it


def _in_group(group: str) -> Callable[..., Decorator]:
    return partial(click.option, cls=parsing.Option, group=group)


look = _in_group(parsing.LOOK)
size = _in_group(parsing.SIZE)
output = _in_group(parsing.OUTPUT)
memory = _in_group(parsing.MEMORY)
expert = _in_group(parsing.EXPERT)
option = _in_group(parsing.OTHER)


def all_of(*decorators: Decorator) -> Decorator:
    """Combine arguments and options; help lists them in this order within each group."""

    def decorate(command: Any) -> Any:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate
