"""What is exported: a model, with its weights, its programs and facts for the file's metadata.

A program is a pure function of the model's weights and of arrays with names, so that every format can
be written from the same description. The sides of pictures have names too, such as `"height"`; the
length of each is a number of pixels or a symbolic size of `jax.export`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax._types import Params
from nst_jax.checkpoints import named_leaves
from nst_jax.vgg.taps import SMALLEST
from nst_jax.weights.params import WeightsInfo

# Names of the sides of the picture that is painted, or whose features are computed.
HEIGHT, WIDTH = "height", "width"
# Names of the sides of a style picture.
STYLE_HEIGHT, STYLE_WIDTH = "style_height", "style_width"
SIDES, STYLE_SIDES = (HEIGHT, WIDTH), (STYLE_HEIGHT, STYLE_WIDTH)

Sizes: TypeAlias = Mapping[str, Any]  # name of a side -> number of px, or a symbolic size

Weights: TypeAlias = Mapping[str, Any]  # name of an array, such as "conv1_1/kernel" -> the array

Specs: TypeAlias = dict[str, Any]  # name -> ShapeDtypeStruct, or a dictionary of them


@dataclass(frozen=True, kw_only=True)
class Program:
    """A pure function that is exported.

    Attributes:
      call: function of (weights, *inputs); returns a dictionary from names to arrays, or to
        dictionaries of arrays.
      inputs: function of the sizes; returns the shapes of the inputs by name, in their order.
      sides: names of the sizes on which the inputs depend.
      smallest: least length in px that a picture's sides may have, if the sizes are numbers.
      smallest_of_any: the same if the sizes are symbolic.
      about: one phrase on each input and output, by name.
    """

    call: Callable[..., Specs]
    inputs: Callable[[Sizes], Specs]
    sides: tuple[str, ...] = SIDES
    smallest: int = SMALLEST
    smallest_of_any: int = SMALLEST
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """Programs that share their weights.

    Attributes:
      name: what the command line calls it.
      summary: one sentence on what it does.
      programs: the programs by name; the first is the main one.
      weights: the arrays that the programs need, by name.
      facts: JSON values for the metadata of the file, such as the origin of the weights, the names of
        the styles, or the settings of the recipe.
      style_shape: default (height, width) in px of style pictures, if the picture that is painted has
        a fixed size; None means that same size.
      open_in_onnx: whether jax2onnx can convert every program with symbolic sizes.
    """

    name: str
    summary: str
    programs: Mapping[str, Program]
    weights: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    style_shape: tuple[int, int] | None = None
    open_in_onnx: bool = True


def picture_of(sides: tuple[str, ...], sizes: Sizes) -> jax.ShapeDtypeStruct:
    """Return the shape of a picture whose sides have these names."""
    return jax.ShapeDtypeStruct((*(sizes[side] for side in sides), 3), jnp.float32)


def named_weights(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return nested parameters as arrays on the host by name, such as `"conv1_1/kernel"`."""
    return {name: np.asarray(leaf) for name, leaf in named_leaves(dict(layers)).items()}


def nested_weights(weights: Weights) -> dict[str, Any]:
    """Return named arrays as nested dictionaries: the inverse of `named_weights`."""
    found: dict[str, Any] = {}
    for name, array in weights.items():
        *path, last = name.split("/")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = array
    return found


def with_weights(params: Params, weights: Weights) -> Params:
    """Return `params` with the arrays of `weights`, which have the names that `named_weights` gives."""
    return replace(params, layers=nested_weights(weights))


def of_weights(info: WeightsInfo) -> dict[str, Any]:
    """Return what the metadata of an exported file says of a weights file."""
    return {
        "origin": info.origin,
        "licence": info.licence,
        "family": info.family,
        "digest": info.digest,
    }
