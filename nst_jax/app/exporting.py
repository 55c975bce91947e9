"""The work of the command `export`: writing a model as a file that runs without this package."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from nst_jax import _checks, _files
from nst_jax.app import arguments, outputs
from nst_jax.app.formatting import amount
from nst_jax.app.interrupts import exit_on_signals
from nst_jax.app.messages import print_lines
from nst_jax.export import saving
from nst_jax.export.feed_forward_models import arbitrary_model, styles26_model, trained_model
from nst_jax.export.models import Model
from nst_jax.export.vgg_models import features_model, step_model
from nst_jax.feed_forward import load_arbitrary, load_styles26
from nst_jax.feed_forward.style_files import read_style_file
from nst_jax.recipes import toml
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.walk import differences
from nst_jax.weights.params import load_params, read_info

# The type of an entry of `MODELS`: a function that makes a model from the values of the command's
# options, and the names of the options that this function reads.
ModelEntry: TypeAlias = tuple[Callable[[Mapping[str, Any]], Model], tuple[str, ...]]


def export(model: str, chosen: Mapping[str, Any]) -> None:
    """Write a model to a file, and print a description of this file.

    Args:
      model: a key of `MODELS`, or the path of a style file that `nst-jax train` wrote.
      chosen: the values of the command's options.

    Raises:
      ValueError: for an unknown model, format, encoding, program, recipe or layer; for a damaged style
        file or weights file; for an option that the model does not use; for a path that cannot be
        written to; if the format or the model does not support the chosen size; if the model cannot be
        exported with this recipe, with this encoding or to this format; or if writing the format needs
        a package that is not installed.
      OSError: if the disk fails or is full.
    """
    exit_on_signals()
    path: Path = chosen["output"]
    outputs.check_file(path, "output", overwrite=chosen["overwrite"])
    saving.check_suffix(path, chosen["to"], argument="output")
    build, used = _found(model)
    for name in ("recipe", "values", "taps", "weights"):
        if chosen[name] and name not in used:
            raise ValueError(f"`{name}`: {model!r} does not use it; leave it out")
    _files.remove_leftovers([path])
    facts = saving.save(
        path,
        build(chosen),
        **{name: chosen[name] for name in ("to", "shape", "style_shape", "encoding", "program")},
    )
    size = amount(path.stat().st_size)
    sides = "any size" if facts["size"] == "any" else f"{facts['size']} px"
    print_lines(f"{path}: {facts['summary']}; {chosen['to']}, {sides}, {facts['encoding']}, {size}")
    for name, program in facts["programs"].items():
        print_lines(
            f"  {name}: {_signature(program['inputs'])} -> {_signature(program['outputs'])}"
        )


def _found(model: str) -> ModelEntry:
    """Return the entry of `MODELS` for a model's name; make one for the path of a trained network."""
    if model in MODELS:
        return MODELS[model]
    if Path(model).suffix or Path(model).exists():
        return (lambda _: trained_model(read_style_file(model, argument="model"))), ()
    raise _checks.unknown("model", model, MODELS, "model or style file")


def _signature(described: list[Mapping[str, Any]]) -> str:
    """Return the names and shapes of a program's inputs or outputs as text.

    Arrays in a dictionary have names such as "params/kernel". They are not listed but counted.

    Args:
      described: for each array, a mapping with its "name" and its "shape".
    """
    found: dict[str, str] = {}
    counts: dict[str, int] = {}
    for each in described:
        name, inside, _ = each["name"].partition("/")
        counts[name] = counts.get(name, 0) + 1
        sides = ", ".join(map(str, each["shape"]))
        found[name] = f"{name} ({counts[name]} arrays)" if inside else f"{name} [{sides}]"
    return ", ".join(found.values())


# --- Models ---------------------------------------------------------------------------------------


def _recipe(chosen: Mapping[str, Any]) -> Recipe:
    changes = arguments.Changes(recipe=chosen["recipe"], values=chosen["values"])
    return arguments.recipe_of(changes)


def _features(chosen: Mapping[str, Any]) -> Model:
    recipe = _recipe(chosen)
    _check_used_by_features(recipe, chosen)
    return features_model(
        load_params(chosen["weights"]),
        taps=chosen["taps"] or recipe.terms.taps,
        network=recipe.network,
        info=read_info(chosen["weights"]),
    )


# The fields of a recipe's network that change the exported features. The others say how a run paints:
# tiles, and what an automatic precision means, which is always float32 in a file.
_OF_NETWORK = tuple(
    f"network.{name}" for name in ("pool", "ceil", "padding", "pixels", "precision", "remat")
)

# For each key with taps of a recipe: the keys that `--set` must change together with it, since a recipe
# has a weight for each tap, and since taps with a style of their own are style taps.
_TAPS = {
    "terms.content_taps": ("terms.content_layer_weights",),
    "terms.style_taps": ("terms.style_layer_weights", "terms.tap_styles"),
    "terms.second_style": ("terms.tap_styles",),  # a whole table
    "terms.second_style.taps": ("terms.second_style.layer_weights", "terms.tap_styles"),
}


def _check_used_by_features(recipe: Recipe, chosen: Mapping[str, Any]) -> None:
    """Refuse values of `--set` without effect: `features` uses a recipe's network, and its taps.

    Args:
      recipe: the recipe with the values of `--set`.
      chosen: the values of the command's options. If they have taps, those of the recipe are not used.
    """
    before = _recipe({**chosen, "values": ()})
    changed = [item.key for item in differences(before, recipe)]
    # A strength changes other keys, which the user did not set.
    strength = toml.STRENGTH in arguments.by_key(chosen["values"])
    used: set[str] = set()
    if not chosen["taps"] and recipe.terms.taps != before.terms.taps:
        for taps in _TAPS.keys() & set(changed):
            used |= {taps, *_TAPS[taps]}
    for key in [*([toml.STRENGTH] if strength else []), *changed]:
        if key not in used and not key.startswith(_OF_NETWORK):
            raise ValueError(f"`values`: 'features' does not use {key}; leave it out")


def _step(chosen: Mapping[str, Any]) -> Model:
    info = read_info(chosen["weights"])
    return step_model(load_params(chosen["weights"]), _recipe(chosen), info=info)


def _arbitrary(chosen: Mapping[str, Any]) -> Model:
    del chosen
    return arbitrary_model(load_arbitrary())


def _styles26(chosen: Mapping[str, Any]) -> Model:
    del chosen
    return styles26_model(load_styles26())


# The models that can be exported by name, under the names that the command accepts. A network that
# `nst-jax train` wrote to a file is exported by the file's path, see `_found`.
MODELS: Mapping[str, ModelEntry] = {
    "arbitrary": (_arbitrary, ()),
    "styles26": (_styles26, ()),
    "features": (_features, ("recipe", "values", "taps", "weights")),
    "step": (_step, ("recipe", "values", "weights")),
}
