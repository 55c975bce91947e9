"""The pictures that a recipe file names in its table `controls`, as values of the options of a command.

The table can have these keys. All but `style_layer` are also columns of a manifest, the table that
lists the pictures of a batch:

    [controls]
    region = ["sky.png:stars.jpg:2"]              # MASK:STYLE:WEIGHT, as after --region; one or more
    regions = ["photo_map.png", "style_map.png"]  # as after --regions, in place of `region`
    protect = "face.png:0.6"                      # MASK:AMOUNT, as after --protect
    style_layer = { relu1_1 = "pebbles.jpg" }     # a style for a layer, FILE or WEIGHT:FILE
    style_fine = "pebbles.jpg"                    # as after --style-fine

Paths are relative to the folder of the file. An option or a row of a manifest takes precedence over the
file.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nst_jax import _checks
from nst_jax.app import arguments, recipe_files
from nst_jax.app.messages import record_keys
from nst_jax.app.parsing import (
    as_number,
    joined_protect,
    parse_path,
    parse_protect,
    parse_region,
)
from nst_jax.recipes.toml import CONTROLS

# The options that define regions (parts of a picture with a style of their own). If one of them is
# given, the regions of a recipe file are not used.
REGIONS = ("regions", "region_maps")
# Options that give masks or colour-coded maps of a picture -> the key of the table `controls` that sets
# the option. In the program, the option `--region` is called "regions", and `--regions` is called
# "region_maps".
MASKS = {"regions": "region", "region_maps": "regions", "protect": "protect"}


def controls_of_recipe(recipe: str | None) -> dict[str, Any]:
    """Return the table `controls` of a recipe file, as a dict from names of options to their values.

    Args:
      recipe: the value of `--recipe`. For the name of a preset, and for None, the result is empty.

    Raises:
      ValueError: for a file that is missing, unreadable, empty or not a recipe; for an unknown key, for
        a value that its option would refuse, and if the table has both `region` and `regions`.
    """
    path = None if recipe is None else recipe_files.recipe_file(recipe)
    if path is None:
        return {}
    _, table = recipe_files.read_recipe(path)
    found: dict[str, Any] = {}
    for key, value in table.items():
        try:
            if key not in _READERS:
                raise _checks.unknown(CONTROLS, key, _READERS, "key")
            option, read = _READERS[key]
            found[option] = read(value, path.parent)
        except ValueError as error:
            text = str(error).removeprefix(f"`{CONTROLS}`: ").removeprefix("`style_layer`: ")
            raise ValueError(f"`recipe`: '{path}': `{CONTROLS}.{key}`: {text}") from None
    if all(name in found for name in REGIONS):
        raise ValueError(
            f"`recipe`: '{path}': `{CONTROLS}` has both `region` and `regions`; the maps of `regions` "
            "have all regions of a picture, so leave one out"
        )
    return found


def with_controls_of_recipe(
    chosen: Mapping[str, Any],
    read: Callable[[str | None], Mapping[str, Any]] = controls_of_recipe,
) -> dict[str, Any]:
    """Return a command's options; the recipe file's table `controls` gives those that are missing.

    The file's regions are not used if the command names regions, by `regions` or by `region_maps`. The
    options that the file gives are recorded, so that error messages on them name the file and its key.

    Args:
      chosen: the options, of which `recipe`, `regions`, `region_maps`, `protect`, `style_layer` and
        `style_fine` are read.
      read: `controls_of_recipe`, or a function that caches its results.

    Raises:
      ValueError: as in `controls_of_recipe`; and if the file has a `style_fine`, but the command has no
        such option.
    """
    found = read(chosen.get("recipe"))
    if "style_fine" in found and "style_fine" not in chosen:
        raise ValueError(
            f"`recipe`: '{chosen['recipe']}': its `{CONTROLS}.style_fine` is for the commands "
            "stylize, batch and sweep; write the combined style by `nst_jax.combined_style`, and name "
            "it as the style"
        )
    given = {name for name in found if chosen.get(name)}
    if any(chosen.get(name) for name in REGIONS):
        given |= {*REGIONS}
    used = {name: value for name, value in found.items() if name not in given}
    if used:
        keys = {option: f"{CONTROLS}.{key}" for key, (option, _) in _READERS.items()}
        record_keys(chosen["recipe"], {name: keys[name] for name in used})
    return {**chosen, **used}


def check_no_content(recipe: str | None) -> None:
    """Refuse a recipe file with regions or a protected part, for a texture, which has no content.

    A region is a part of the content with a style of its own, and a protected part keeps the content.

    Args:
      recipe: the value of `--recipe`.

    Raises:
      ValueError: if the file names regions or a protected part.
    """
    for name in ("regions", "region_maps", "protect"):
        if name in controls_of_recipe(recipe):
            raise ValueError(
                f"`recipe`: '{recipe}': its `{CONTROLS}` name parts of a content, which a texture does "
                "not have; keep only `style_layer`"
            )


def check_no_masks(recipe: str | None) -> None:
    """Refuse a recipe file with masks, for a command that compiles programs before there are pictures.

    The programs depend on which masks there are: masks of regions (parts of the content with a style of
    their own), or of the protected part (which keeps the content).

    Args:
      recipe: the value of `--recipe`.

    Raises:
      ValueError: if the file names regions or a protected part.
    """
    for name, key in MASKS.items():
        if name in controls_of_recipe(recipe):
            raise ValueError(
                f"`recipe`: '{recipe}': its `{CONTROLS}.{key}` has masks, for which no programs "
                "are compiled ahead; name a recipe file without it"
            )


def _regions(value: Any, folder: Path) -> Any:
    return tuple(parse_region(text, folder) for text in _texts(value))


def _region_maps(value: Any, folder: Path) -> Any:
    texts = _texts(value)
    if len(texts) != 2:
        raise ValueError(f"expected two pictures, [MAP, STYLE_MAP], got {_checks.shown(value)}")
    return tuple(folder / text for text in texts)


def _protect(value: Any, folder: Path) -> Any:
    texts = _texts(value)
    if not all(isinstance(text, str) and text for text in texts or [""]):
        raise ValueError(
            f"expected MASK or MASK:AMOUNT, or a list of these, got {_checks.shown(value)}"
        )
    return joined_protect([parse_protect(text, folder) for text in texts])


def _style_fine(value: Any, folder: Path) -> Any:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected the name of a picture, got {_checks.shown(value)}")
    # The name `-` alone would mean standard input. With the folder before it, it is the path of a file.
    return parse_path(os.path.join(folder, value))


def _style_layer(value: Any, folder: Path) -> Any:
    if not isinstance(value, Mapping):
        raise ValueError(
            f'expected a table such as {{ relu1_1 = "pebbles.jpg" }}, got {_checks.shown(value)}'
        )
    texts = []
    for layer, text in value.items():
        weight, colon, file = text.partition(":")
        if not (file and as_number(weight) is not None):
            weight, colon, file = "", "", text
        # In the folder `.`, a file called `0.5` gets the path `./0.5` from `os.path.join`. From `Path`
        # it would get `0.5`, which would be read as the weight of the layer.
        texts.append(f"{layer}={weight}{colon}{os.path.join(folder, file)}")
    arguments.style_layers(texts)
    return tuple(texts)


def _texts(value: Any) -> list[str]:
    if isinstance(value, Mapping):
        raise ValueError(f"expected a text or a list of texts, got {_checks.shown(dict(value))}")
    return [value] if isinstance(value, str) else list(value)


# Key of the table `controls` in a recipe file -> the name of an option, and a function that makes the
# option's value from the key's value and the folder of the file, to which paths are relative.
_READERS: dict[str, tuple[str, Callable[[Any, Path], Any]]] = {
    "region": ("regions", _regions),
    "regions": ("region_maps", _region_maps),
    "protect": ("protect", _protect),
    "style_layer": ("style_layer", _style_layer),
    "style_fine": ("style_fine", _style_fine),
}
