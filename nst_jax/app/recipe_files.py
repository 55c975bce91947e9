"""The value of `--recipe`: the name of a preset, or a recipe file, which is read here."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nst_jax import recipes
from nst_jax.recipes import changes as variants
from nst_jax.recipes import toml
from nst_jax.recipes.recipe import Recipe

LARGEST_RECIPE = 2**20  # a file of more bytes is refused as a recipe; usual ones have about 2000


def recipe_file(text: str) -> Path | None:
    """Return a value of `--recipe` as a path, or None if the value is the name of a preset.

    A value is a path if it ends in ".toml" or contains a path separator such as "/".
    """
    separators = filter(None, (os.sep, os.altsep))
    is_path = text.lower().endswith(".toml") or any(mark in text for mark in separators)
    return Path(text) if is_path else None


def named_or_read(text: str, controls: bool = False) -> Recipe:
    """Return the preset with the name `text`, or the recipe in the file `text`.

    A recipe whose file sets no name is named after the file, without the suffix.

    Args:
      text: the value of `--recipe`.
      controls: whether the file may have a table `controls`, which names masks and other pictures. If
        True, the caller reads the table; if False, a file with this table is refused.

    Raises:
      ValueError: for an unknown name, and for a file that is missing, unreadable or not a recipe.
    """
    recipe, strength = named_or_read_and_strength(text, controls)
    return variants.with_options(recipe, strength=strength)


def named_or_read_and_strength(text: str | None, controls: bool) -> tuple[Recipe, float | None]:
    """Return a recipe as `named_or_read` does, and its file's strength, which is not applied yet.

    A strength, from 0 to 1, says how strong the style is; see `recipes.changes.with_strength`. It is
    None for a preset, and for a file without a strength. If `text` is None, the recipe is the default.

    Raises:
      ValueError: as in `named_or_read`.
    """
    if text is None:
        return recipes.DEFAULT, None
    path = recipe_file(text)
    if path is None:
        return recipes.named(text), None
    found = _recipe_file_contents(path)
    if found.controls and not controls:
        raise ValueError(
            f"`recipe`: '{path}': its table `{toml.CONTROLS}` names pictures, which this command does "
            "not use; leave the table out"
        )
    return found.recipe, found.strength


def read_recipe(path: Path) -> tuple[Recipe, Mapping[str, Any]]:
    """Return the recipe in a file, and the file's table `controls`, which is empty if it has none.

    The table names masks and other pictures.

    Raises:
      ValueError: for a file that is missing, unreadable, empty or not a recipe.
    """
    recipe, strength, controls = _recipe_file_contents(path)
    return variants.with_options(recipe, strength=strength), controls


def _recipe_file_contents(path: Path) -> toml.RecipeFile:
    """Read a recipe file, and return its recipe, its strength of the style, and its table `controls`.

    The strength is not applied to the recipe yet. A recipe without a name is named after the file.

    Raises:
      ValueError: for a file that is missing, unreadable, empty or not a recipe.
    """
    text = _text_of(path)
    if not text.strip():
        raise ValueError(
            f"`recipe`: '{path}' is empty; write `base = \"default\"`, or omit `--recipe`"
        )
    try:
        found = toml.recipe_strength_and_controls(text)
    except ValueError as error:
        raise ValueError(f"`recipe`: '{path}': {str(error).removeprefix('`recipe`: ')}") from None
    if found.recipe.name:
        return found
    return found._replace(recipe=found.recipe.replace(name=path.stem))


def _text_of(path: Path) -> str:
    """Return the text of a recipe file, which is read only once during a command.

    A command looks several times into the file, for the recipe and for the pictures that it names. But
    a pipe, such as /dev/stdin, can be read only once.
    """
    context = click.get_current_context(silent=True)
    if context is None:
        return _text_from(path)
    texts = context.meta.setdefault(f"{__name__}.texts", {})
    if path not in texts:
        texts[path] = _text_from(path)
    return texts[path]


def _text_from(path: Path) -> str:
    try:
        with path.open("rb") as file:
            # A file such as /dev/zero never ends, so it is not read to its end. One byte more than the
            # limit shows that a file is too large.
            data = file.read(LARGEST_RECIPE + 1)
    except FileNotFoundError:
        raise ValueError(f"`recipe`: there is no file '{path}'; check the path") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ValueError(f"`recipe`: cannot read '{path}': {reason}; check the path") from None
    if len(data) > LARGEST_RECIPE:
        raise ValueError(f"`recipe`: '{path}' is too large for a recipe, which is a TOML file")
    try:
        # This encoding skips a byte order mark, which some editors write at the beginning of a file.
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"`recipe`: '{path}' is not UTF-8 text; a recipe is a TOML file") from None
