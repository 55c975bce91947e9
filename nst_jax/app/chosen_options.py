"""What the options of a command choose: its recipe, seed, input files, outputs, weights and display.

`chosen` maps the names of a command's options to their values. A run is the painting of one picture. A
bucket is a square array in which canvases of different shapes may lie, so that they share compiled
programs.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import click

from nst_jax import images
from nst_jax.app import arguments, cache, recipe_files
from nst_jax.app.outputs import Outputs, picture_and_film
from nst_jax.app.parsing import StyleShare
from nst_jax.app.progress import Display
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, sharding
from nst_jax.weights import params
from nst_jax.weights.params import WeightsInfo

Chosen: TypeAlias = dict[str, Any]


def chosen_changes(chosen: Mapping[str, Any]) -> arguments.Changes:
    """Return the values of those options that change a recipe."""
    return arguments.Changes(**{n: chosen[n] for n in arguments.Changes._fields if n in chosen})


def chosen_recipe(chosen: Chosen, styles: Sequence[StyleShare]) -> Recipe:
    """Return the recipe that the options describe, with the weights by which styles are blended."""
    return arguments.recipe_of(
        chosen_changes(chosen | {"style_shares": arguments.shares_of(styles)}), controls=True
    )


def chosen_strength(chosen: Chosen) -> float | None:
    """Return the strength that `chosen_recipe` applies; None if it applies none.

    A strength, from 0 to 1, changes how strong the style is; see `recipes.with_strength`. It is the
    value of `--strength`, or else that in `--set`, or else that in the recipe file.
    """
    return arguments.recipe_and_strength_of(chosen_changes(chosen), controls=True)[1]


def chosen_tap_files(chosen: Mapping[str, Any]) -> list[Path]:
    """Return the paths of the style pictures that `--style-layer` gives for single layers."""
    return list(arguments.tap_files(chosen["style_layer"]).values())


def chosen_seed(chosen: Mapping[str, Any], recipe: Recipe) -> int:
    """Return the seed, 0 by default.

    Raises:
      ValueError: if `--seed` is given, but the recipe's start (initial picture) has a seed of its own
        and `--init` does not replace this start.
    """
    start = recipe.pictures.start
    if chosen["seed"] is None:
        return 0
    if chosen["init"] is None and isinstance(start, starts.SeededBlend):
        raise ValueError(
            f"`seed`: recipe {recipe.name!r} draws its start from its source's own seed, "
            f"{start.seed}; omit `--seed`, or choose another start with `--init`"
        )
    return chosen["seed"]


def chosen_bucket(chosen: Mapping[str, Any]) -> buckets.Chosen:
    """Return the value of `--bucket`, checked, for `stylize`, `plan` and `batch`.

    A bucket is a square array in which pictures of different shapes are painted, so that they share
    compiled programs.

    Returns:
      The side of the buckets in px; "auto" if the sides are chosen later, when the shapes of the
      pictures are known; None if there are no buckets.

    Raises:
      ValueError: if the value is neither "auto", "off" nor a positive multiple of 16; and if a bucket
        is asked for with `--runner ray` or with several devices for each picture (`--bands`).
    """
    bucket = buckets.checked_bucket(chosen["bucket"])
    for name, unset in (("runner", "local"), ("bands", 1)):
        if bucket is not None and chosen.get(name, unset) != unset:
            raise ValueError(f"`bucket`: cannot be used with `--{name} {chosen[name]}`; omit one")
    return bucket


def chosen_bucket_of_picture(chosen: Mapping[str, Any]) -> int | None:
    """Return the value of `--bucket` for `sweep` and `warm`: a side in px; None for "off" and "auto".

    A bucket is a square array in which pictures of different shapes are painted, so that they share
    compiled programs. With None, `sweep` uses no bucket: it paints one content with many settings, so
    all canvases have the same shape. `warm`, which refuses "off", then takes the side from the recipe
    or from `--size`.
    """
    bucket = chosen_bucket(chosen)
    return None if bucket == buckets.AUTO else bucket


def other_inputs(chosen: Mapping[str, Any], init_file: images.Picture | None) -> list[Path]:
    """Return the paths of the initial picture, the recipe file and the weights file of a command.

    No output may replace these files. The weights file is the one that `weights_file` returns. Files
    that are not given are left out. Masks are not among the returned paths.

    Args:
      chosen: the options of the command.
      init_file: the picture that `--init` names; None if `--init` names no file.
    """
    start = None if init_file is None else Path(chosen["init"])
    files = (start, chosen_recipe_file(chosen), weights_file(chosen))
    return [path for path in files if path is not None]


def weights_file(chosen: Mapping[str, Any]) -> Path | None:
    """Return the path of the weights file that the user named, or None.

    The option `--weights` names it or, without this option, the environment variable `NST_JAX_WEIGHTS`.
    """
    path = chosen["weights"] or os.environ.get(params.VARIABLE)
    return Path(path) if path else None


def begun_display(chosen: Mapping[str, Any]) -> Display:
    """Apply `--cache` and `--quiet`: set up the cache of compiled programs; return the display.

    The display shows the progress of a run.
    """
    display = Display(chosen["quiet"])
    if problem := cache.set_cache(chosen["cache"]):
        display.say(f"note: {problem}")
    # Until the command ends, entries of the cache that cannot be read are deleted and reported.
    click.get_current_context().with_resource(cache.mended(display.say))
    return display


def check_weights(chosen: Mapping[str, Any]) -> None:
    """Refuse a weights file that the user named and that cannot be used.

    Commands call this before they read pictures and plan the run, which may take long. The weights of
    the package need no such check.

    Raises:
      ValueError: if the file is missing, damaged, or of another network or version.
    """
    if weights_file(chosen) is not None:
        params.load_params(chosen["weights"])


def loaded_weights(chosen: Mapping[str, Any]) -> tuple[Any, WeightsInfo, Display]:
    """Return the weights, the description of their file, and a display for the progress of a run.

    The cache of compiled programs is switched on or off, too, as `--cache` says.
    """
    display = begun_display(chosen)
    return params.load_params(chosen["weights"]), params.read_info(chosen["weights"]), display


def chosen_outputs(chosen: Mapping[str, Any], name: Path) -> Outputs:
    """Return the files that a run writes, and how it writes them.

    Args:
      chosen: the options of the command.
      name: path of the picture if no option gives one.

    Raises:
      ValueError: if two options name a film, or if the length of a film is given without a film.
    """
    return Outputs(
        **picture_outputs(chosen, name),
        log=chosen["log"],
        checkpoint=chosen["checkpoint"],
        checkpoint_every=chosen["checkpoint_every"],
        resume=chosen["resume"],
    )


def picture_outputs(chosen: Mapping[str, Any], name: Path) -> dict[str, Any]:
    """Return the fields of `Outputs`, the files to write, for the result, the film and the frames.

    Frames are numbered pictures of the canvas during the run.

    Args:
      chosen: the options of the command.
      name: path of the resulting picture if no option gives one.

    Raises:
      ValueError: if two options name a film, or if the length of a film is given without a film.
    """
    still = chosen["suffix"] == "webp" or chosen.get("still", False)
    picture, film, option = picture_and_film(chosen["output"], chosen["film"], name, still=still)
    if film is None and chosen["film_seconds"] is not None:
        raise ValueError("`film_seconds`: there is no film; name one with `--film`")
    return {
        "picture": picture,
        "film": film,
        "film_option": option,
        **({} if chosen["film_seconds"] is None else {"film_seconds": chosen["film_seconds"]}),
        "overwrite": chosen["overwrite"],
        "metadata": chosen["metadata"],
        "every": chosen["every"],
        "frames": chosen["frames"],
    }


def chosen_recipe_file(chosen: Mapping[str, Any]) -> Path | None:
    """Return the path of the recipe file that `--recipe` names; None if it names none."""
    return None if chosen["recipe"] is None else recipe_files.recipe_file(chosen["recipe"])


def check_devices(chosen: Mapping[str, Any]) -> Any:
    """Return the mesh of devices that `--devices` and `--bands` ask for.

    `--devices` says how many devices to use, `--bands` how many of them share each picture.
    The result is None for one device. It is None also with `--runner ray`, since Ray gives each device
    pictures of its own.

    Raises:
      ValueError: if Ray is used together with `--devices` or `--bands`, if there are too few devices,
        or if the number of devices is not a multiple of `--bands`.
    """
    if chosen.get("runner") == "ray":
        for name, unset in (("devices", None), ("bands", 1)):
            if chosen[name] != unset:
                raise ValueError(f"`{name}`: Ray gives each device its own actor; omit this option")
        return None
    return sharding.mesh_of_batch(chosen["devices"], chosen["bands"])
