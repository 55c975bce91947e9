"""Records of a run as plain data: for the metadata of pictures, for logs and for checkpoints.

A record is a dictionary that says what a result depends on: recipe, pictures, sizes, weights,
versions, device. It consists of strings, numbers, truth values, None, lists and dictionaries, and
contains neither times nor paths. So repeating a run with the same device and packages gives the same
record, unless less memory is available and the picture is therefore computed in tiles (parts) of
another size.
"""

import hashlib
import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any, Protocol, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._types import ADDED_LATER, Losses, Params
from nst_jax._version import __version__
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.walk import Item, name_to_show, walk, walk_item
from nst_jax.run_scales import Scale
from nst_jax.vgg.pixels import Pixels
from nst_jax.vgg.precision import Auto, Precision
from nst_jax.weights.params import WeightsInfo, digest

# `of_recipe` records a value of a recipe only if the value's key, such as "terms.style_weight", begins
# with one of these prefixes. So the recipe's name, source and family of weights are not recorded: their
# keys ("name", "source", "family") have none of these prefixes.
GROUPS = ("pictures.", "network.", "terms.", "descent.")

# The default of the arguments `controls`: an empty dictionary, for a run without masks and `strength`.
# Masks give parts of the picture a style of their own, protect parts of the content, or mark
# transparent parts.
NO_CONTROLS: Mapping[str, Any] = MappingProxyType({})


def strength_facts(strength: float | None) -> dict[str, Any]:
    """Return a record of the argument `strength` of `stylize`; empty if it was not given (None).

    The record of a run needs the strength, since the run's recipe contains only the value that follows
    from it: in most recipes the style weight, in some the weight `search_content`.

    Example:
      >>> strength_facts(0.6), strength_facts(None)
      ({'strength': 0.6}, {})
    """
    return {} if strength is None else {"strength": strength}


# The packages whose versions are recorded, in addition to the versions of Python and nst_jax.
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "pillow")


@runtime_checkable
class Named(Protocol):
    """An input file with the two properties that are recorded: its name without folder, and a hash."""

    @property
    def name(self) -> str:
        """The file's name, without folders."""
        ...

    @property
    def digest(self) -> str:
        """A hash of the file's content."""
        ...


def of_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return all settings of a recipe as plain data, but not its name, source and family of weights.

    Args:
      recipe: any recipe.

    Returns:
      A dictionary from keys such as `"terms.style_weight"` to a number, a truth value, a string, a list
      or None, in the order of the recipe's fields. Functions, losses and objects are represented by
      their names. The key `network.accelerator_precision` is left out unless the precision is `AUTO`,
      since the field has an effect only then. A field that was added to recipes when there were records
      already (`ADDED_LATER`) is left out while it has its default. So a run that does not use the field
      has the same record as before.

    Example:
      >>> from nst_jax import recipes
      >>> of_recipe(recipes.TF)["descent.optimizer.learning_rate"]
      0.02
    """
    found = dict(_settings(item for item in walk(recipe) if item.key.startswith(GROUPS)))
    if not isinstance(recipe.network.precision, Auto):
        del found["network.accelerator_precision"]
    return found


def _settings(items: Iterable[Item]) -> Iterator[tuple[str, Any]]:
    """Yield the settings of a recipe that go into records, as pairs (key, value as plain data)."""
    for item in items:
        value = item.value
        if _left_out(item):
            continue
        if hasattr(value, "_fields"):
            # A loss is a tuple of functions. If it has no name, its functions are recorded instead,
            # since `items` contains each of them, too.
            if item.name is not None:
                yield item.key, item.name
        elif isinstance(value, (Pixels, Precision, Auto)):
            yield item.key, value.name
        elif is_dataclass(value):
            yield item.key, type(value).__name__
        elif callable(value):
            yield item.key, getattr(value, "__name__", type(value).__name__)
        elif isinstance(value, (list, tuple)):
            yield item.key, [_plain(part) for part in value]
        else:
            yield item.key, _plain(value)


def _left_out(item: Item) -> bool:
    """Return whether records leave out a setting: one with the mark `ADDED_LATER`, at its default.

    Such a setting was added to recipes when there were records already. Since it is left out at its
    default, a run that does not use it has the same record as before the setting existed.
    """
    field = item.field
    return field is not None and ADDED_LATER in field.metadata and _is(item.value, field.default)


def _is(value: Any, default: Any) -> bool:
    """Return whether a setting has its default value: the same object, or an equal number or string.

    Values of different types, such as 1 and 1.0, are not equal here.
    """
    plain = type(value) is type(default) and isinstance(value, (bool, int, float, str))
    return value is default or (plain and bool(value == default))


def _plain(value: Any) -> Any:
    """Return an array as a number or as nested lists of numbers; any other value unchanged."""
    return np.asarray(value).tolist() if hasattr(value, "dtype") else value


def of_losses(found: Losses) -> dict[str, Any]:
    """Return the losses of one canvas as plain numbers; those that are not finite are None."""
    matting = {} if found.matting is None else {"matting": _finite(found.matting)}
    return {
        "total": _finite(found.total),
        "content": _finite(found.content),
        "style": _finite(found.style),
        "tv": _finite(found.tv),
        **matting,
        "style_layers": {tap: _finite(value) for tap, value in found.style_layers.items()},
    }


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def of_scales(scales: Sequence[Scale]) -> list[dict[str, Any]]:
    """Return for each resolution of a run, coarse to fine, the sizes in px and the number of updates.

    The sizes are those of the canvas and of the styles, each as [width, height].
    """
    return [
        {"size": _size(s.shape), "style_sizes": _sizes(s.style_shapes), "steps": s.steps}
        for s in scales
    ]


def _size(shape: tuple[int, int]) -> list[int]:
    return [shape[1], shape[0]]


def _sizes(shapes: Sequence[tuple[int, int]]) -> list[list[int]]:
    return [_size(shape) for shape in shapes]


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that a result depends on."""
    own = {"nst_jax": __version__, "python": platform.python_version()}
    return own | {name: metadata.version(name) for name in PACKAGES}


def device() -> dict[str, str]:
    """Return platform and kind of this process' first device, such as "gpu" and "NVIDIA H200"."""
    first = jax.local_devices()[0]
    return {"platform": first.platform, "kind": first.device_kind}


def device_words(device: Mapping[str, str]) -> str:
    """Return a device's platform and kind as text, such as "gpu (NVIDIA H100)".

    The kind is left out if it is the same text, as "cpu" for a CPU, or not known.

    Args:
      device: the "platform" and the "kind" of the device.
    """
    platform, kind = device.get("platform", "another device"), device.get("kind", "")
    return platform if kind in ("", platform) else f"{platform} ({kind})"


def of_picture(
    recipe: Recipe,
    scales: Sequence[Scale],
    *,
    seed: int,
    inputs: Mapping[str, Named],
    weights: WeightsInfo,
    controls: Mapping[str, Any] = NO_CONTROLS,
) -> dict[str, Any]:
    """Return everything that a picture depends on, except the device and the package versions.

    Args:
      recipe: the recipe that is run, with every command-line flag applied.
      scales: the scales of the run, which are the resolutions at which the canvas is optimised in turn.
      seed: the seed of the run's random key.
      inputs: maps each role (`"content"`, `"style"`, ...) to the name and hash of its file.
      weights: description of the weights file.
      controls: further facts by name: the argument `strength`, if it was given; and numbers that belong
        to masks, such as the weights of regions with a style of their own. Empty if there are none.

    Returns:
      A dictionary of strings, numbers, truth values, None, lists and dictionaries. Repeating a run
      gives an equal one, unless its tiles (the parts in which a picture is computed) differ in size.
    """
    return {
        "recipe": recipe.name,
        "source": recipe.source,
        "size": _size(scales[-1].shape),
        "style_sizes": _sizes(scales[-1].style_shapes),
        "rule": str(recipe.pictures.size),
        "filter": name_to_show(recipe.pictures.resize),
        "scales": of_scales(scales),
        "steps": sum(scale.steps for scale in scales),
        "seed": seed,
        "precision": recipe.network.precision.name,
        "inputs": {
            role: {"name": file.name, "digest": file.digest} for role, file in inputs.items()
        },
        "weights": {
            "family": weights.family,
            "pixels": weights.pixels,
            "encoding": weights.encoding,
            "digest": weights.digest,
        },
        "settings": of_recipe(recipe),
        **controls,
    }


def of_run(
    recipe: Recipe,
    scales: Sequence[Scale],
    *,
    seed: int,
    inputs: Mapping[str, Named],
    weights: WeightsInfo,
    controls: Mapping[str, Any] = NO_CONTROLS,
) -> dict[str, Any]:
    """Return everything that a picture depends on.

    This is the record of `of_picture`, with the device and the package versions added.
    """
    asked = of_picture(recipe, scales, seed=seed, inputs=inputs, weights=weights, controls=controls)
    return asked | {"device": device(), "versions": versions()}


def of_identity(
    params: Params,
    pictures: Mapping[str, Any],
    recipe: Recipe,
    init: Any,
    key: Any,
    controls: Mapping[str, Any] = NO_CONTROLS,
) -> dict[str, Any]:
    """Return everything that a run's results depend on, except its device and its number of updates.

    A run may resume a checkpoint only if this dictionary equals the one in the checkpoint.

    Args:
      params: the weights of the network.
      pictures: maps each role (`"content"`, `"style"`, ...) to its picture [h, w, 3], before resizing.
      recipe: the recipe that is run; its `steps` are left out.
      init: the picture or function that replaces the recipe's first canvas; None if the recipe's is
        used.
      key: the random key.
      controls: the masks of the content and the styles, and the pictures and numbers that belong to
        them, by name.

    Returns:
      A dictionary of JSON values by name: the recipe's settings, the numbers in `controls`, the hashes
      of all arrays, the random key, and the versions of the packages.
    """
    found = of_recipe(recipe)
    del found["descent.steps"]
    found |= {role: _digest(picture) for role, picture in pictures.items()}
    found |= {
        name: _digest(value) if np.ndim(value) > 1 else _plain(value)
        for name, value in controls.items()
    }
    if callable(init):
        found |= dict(_settings(walk_item(Item("init", init))))
    elif init is not None:
        found["init"] = _digest(init)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    found["key"] = np.asarray(jax.random.key_data(key) if typed else key).tolist()
    found["weights"] = digest(params)
    found |= {f"version of {name}": v for name, v in versions().items() if name != "python"}
    return json.loads(json.dumps(found, default=str))


def _digest(picture: Any) -> str:
    """Return a hash of the dtype, shape and numbers of an array, such as a picture."""
    array = np.ascontiguousarray(picture)
    sha = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    sha.update(array.data)
    return sha.hexdigest()


# What represents an input file: the picture read from it, or a `Named` with the file's name and hash.
File = TypeVar("File")


def roles(content: File, styles: Sequence[File], init: File | None) -> dict[str, File]:
    """Return the input files of a result by their roles: content, style, style_2, ..., init.

    Args:
      content: the content's file.
      styles: the file of each style.
      init: the file of the picture that the run started from; None if it did not start from a file.
    """
    names = ["style", *(f"style_{number}" for number in range(2, len(styles) + 1))]
    found = {"content": content, **dict(zip(names, styles, strict=True))}
    return found | ({"init": init} if init is not None else {})
