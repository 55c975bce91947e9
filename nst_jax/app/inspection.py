"""The commands that show settings, recipes and weights, or convert weights files; they paint nothing.

They are `info`, `recipes` and `weights`. Each function imports what it needs when it is called, so that
`nst-jax info`, for instance, does not have to wait for the import of optax.
"""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nst_jax.app.messages import print_lines


def print_settings(path: Path, *, as_json: bool) -> None:
    """Print the settings embedded in a picture or a film, or what a style file says of its training.

    Args:
      path: path of the picture or film, or of a style file (.h5), which `train` writes.
      as_json: whether to print JSON; JSON is also printed if standard output is not a terminal.

    Raises:
      ValueError: if the file cannot be read or is damaged, or is a picture or film without settings.
    """
    settings = _facts_of_style(path) if path.suffix.lower() == ".h5" else _settings_of_picture(path)
    if as_json or not sys.stdout.isatty():
        print_lines(*json.dumps(settings, indent=2).split("\n"))
    else:
        _print_items(settings)


def _settings_of_picture(path: Path) -> Mapping[str, Any]:
    from nst_jax import images

    settings = images.read_metadata(path, argument="path")
    if not settings:
        raise ValueError(
            f"`path`: '{path}' has no settings of nst-jax embedded; it was painted by "
            "another program or with `--no-metadata`, or a program has removed them"
        )
    return settings


def _facts_of_style(path: Path) -> Mapping[str, Any]:
    from nst_jax.feed_forward import style_files

    found = style_files.read_style_file(path, argument="path")
    return {"digest": found.digest, **found.facts}


def list_recipes() -> None:
    """Print name, main settings and source of all presets, which are the recipes of this package."""
    from nst_jax.recipes.balance import balance
    from nst_jax.recipes.presets import PRESETS
    from nst_jax.weights.params import read_info

    family = read_info().family
    for recipe in PRESETS.values():
        optimizer = type(recipe.descent.optimizer).__name__
        facts = f"{optimizer}, {recipe.descent.updates_in_words}, {recipe.pictures.size}"
        weight = balance(recipe)
        if weight == float("inf"):
            facts += ", style only"
        elif weight is not None:
            facts += f", style to content {float(f'{weight:.2g}'):g}:1"
        facts += f", {recipe.network.accelerator_precision.name} on an accelerator"
        if recipe.family != family:
            facts += f"; approximate, the source ran on {recipe.family}"
        print_lines(f"{recipe.name:<18} {facts}", f"{'':<18} {recipe.source}")


def show_recipe(recipe: str) -> None:
    """Print a recipe as TOML.

    Args:
      recipe: the name of a preset, or the path of a recipe file.
    """
    from nst_jax.app import recipe_files
    from nst_jax.recipes import toml

    path = recipe_files.recipe_file(recipe)
    read = recipe_files.read_recipe(path) if path else (recipe_files.named_or_read(recipe), {})
    text = toml.to_toml(*read)
    # `print_lines` escapes some characters. Its escapes are also those of TOML, so what is printed is
    # valid TOML.
    print_lines(*text.removesuffix("\n").split("\n"))


def describe_weights(weights: Path | None) -> None:
    """Verify a weights file and print its description.

    Args:
      weights: path of the file. None means the file with VGG-19 that `stylize` uses by default; in this
        case the other weights files of the package are listed too.

    Raises:
      ValueError: if the file is missing, damaged or not a weights file, or if its weights are those of
        a network that this version of the package does not know.
    """
    from nst_jax.feed_forward import arbitrary, styles26
    from nst_jax.weights.params import (
        VGG19,
        embedded_file,
        file_of_vgg19,
        load_params,
        load_params_of,
        read_info,
    )

    others = {one.name: one for one in (arbitrary.ARCHITECTURE, styles26.ARCHITECTURE)}
    path = file_of_vgg19(weights)
    info = read_info(weights)
    if info.network == VGG19:
        load_params(weights)
    elif info.network in others:
        load_params_of(others[info.network], path)
    else:
        raise ValueError(
            f"`weights`: '{path}' has weights of the network {info.network!r}, which this version "
            "does not know; update nst-jax"
        )
    facts = info._asdict()
    layers = facts.pop("layers")
    _print_items(facts | {"layers": f"{len(layers)}, {layers[0]} to {layers[-1]}"})
    print_lines("verified = digest, names and shapes")
    if weights is None:
        for one in others.values():
            found = read_info(embedded_file(one))
            about = f"{one.title}, {found.parameters} parameters, {found.licence}"
            print_lines(f"also in the package: {embedded_file(one)}: {about}")


def convert_weights(source: Path, destination: Path, *, overwrite: bool, **options: Any) -> None:
    """Convert a weights file of another program to this package's format, and describe the new file.

    Args:
      source: path of the file to convert.
      destination: path of the file to write.
      overwrite: whether an existing file may be replaced.
      **options: the arguments `encoding`, `family` and `pixels` of `nst_jax.weights.convert.convert`;
        None stands for the default of each.
    """
    from nst_jax import _files
    from nst_jax.app import interrupts, outputs
    from nst_jax.weights import convert

    interrupts.exit_on_signals()
    outputs.check_file(destination, "destination", overwrite=overwrite)
    _files.remove_leftovers([destination])
    made = convert.convert(source, destination, **options)
    print_lines(f"{destination}: {made.family}, {made.pixels}, {made.encoding}, {made.digest}")


def _print_items(items: Mapping[str, Any], prefix: str = "") -> None:
    for key, value in items.items():
        if isinstance(value, Mapping):
            _print_items(value, f"{prefix}{key}.")
        else:
            print_lines(f"{prefix}{key} = {'none' if value is None else value}")
