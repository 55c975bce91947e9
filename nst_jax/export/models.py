"""The description of what is exported: a `Model`, with its weights, its programs, and metadata.

A `Program` is a pure function of the model's weights and of input arrays with names. Files of all
formats are written from this description. The height and the width of an input picture have names, such
as `"height"`. A height or width is either a number of pixels, or a symbolic size of `jax.export`, which
stands for any number of pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks
from nst_jax._types import Params
from nst_jax.checkpoints.leaves import named_leaves
from nst_jax.vgg.taps import SMALLEST
from nst_jax.weights.params import WeightsInfo

# Keys of `Sizes` for the height and width of the picture that a program paints, or whose features it
# computes.
HEIGHT, WIDTH = "height", "width"
# Keys of `Sizes` for the height and width of a style picture.
STYLE_HEIGHT, STYLE_WIDTH = "style_height", "style_width"
SIDES, STYLE_SIDES = (HEIGHT, WIDTH), (STYLE_HEIGHT, STYLE_WIDTH)

# Name of a side, such as "height" -> its length: a number of px, or a symbolic size of `jax.export`.
Sizes: TypeAlias = Mapping[str, Any]

Weights: TypeAlias = Mapping[str, Any]  # name of an array, such as "conv1_1/kernel" -> the array

# Inputs or outputs of a program: name -> an array, or its shape and dtype (`jax.ShapeDtypeStruct`), or
# a dictionary of such values.
Specs: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Program:
    """A pure function that is exported.

    Attributes:
      call: the function, of (weights, *inputs). It returns a dictionary from the names of the outputs
        to arrays, or to dictionaries of arrays.
      inputs: a function of `Sizes`, the lengths of the sides of pictures. It returns the shapes and
        dtypes of the inputs by name, in the order of the arguments of `call`.
      sides: the keys of `Sizes` on which the shapes of the inputs depend.
      smallest: smallest length in px of a side for which the program can be exported with fixed sizes.
      smallest_of_any: smallest length in px of a side with which the program can be called if it is
        exported for symbolic sizes.
      about: name of an input or output -> a phrase that says what it is.
    """

    call: Callable[..., Specs]
    inputs: Callable[[Sizes], Specs]
    sides: tuple[str, ...] = SIDES
    smallest: int = SMALLEST
    smallest_of_any: int = SMALLEST
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is exported to one file: programs, and the weights that they share.

    Attributes:
      name: a short name, such as `"styles26"`, for the metadata of the file and for messages.
      summary: a phrase that says what the programs do.
      programs: the programs by name. The first is the main one, which is written by default in formats
        with one program in a file.
      weights: the arrays that the programs need, by name, such as `"conv1_1/kernel"`.
      facts: JSON values for the metadata of the file, such as the origin of the weights, the names of
        the styles, or the settings of the recipe.
      style_shape: default (height, width) in px of style pictures, for export with fixed sizes; None
        means the size of the picture that is painted.
      open_in_onnx: whether jax2onnx can convert all programs for symbolic sizes.
    """

    name: str
    summary: str
    programs: Mapping[str, Program]
    weights: Mapping[str, np.ndarray]
    facts: Mapping[str, Any]
    style_shape: tuple[int, int] | None = None
    open_in_onnx: bool = True


def picture_of(sides: tuple[str, ...], sizes: Sizes) -> jax.ShapeDtypeStruct:
    """Return the shape and dtype of a picture [height, width, 3] as an input of a program.

    Args:
      sides: the names of its height and width, such as `SIDES`.
      sizes: maps each of these names to the length of the side: px, or a symbolic size.
    """
    return jax.ShapeDtypeStruct((*(sizes[side] for side in sides), 3), jnp.float32)


def named_weights(layers: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return nested dictionaries of arrays as one flat dictionary of NumPy arrays.

    Its keys are names such as `"conv1_1/kernel"`, for the array "kernel" of the dictionary "conv1_1".
    """
    return {name: np.asarray(leaf) for name, leaf in named_leaves(dict(layers)).items()}


def nested_weights(weights: Weights) -> dict[str, Any]:
    """Return a flat dictionary with names such as `"conv1_1/kernel"` as nested dictionaries.

    This is the inverse of `named_weights`.
    """
    found: dict[str, Any] = {}
    for name, array in weights.items():
        *path, last = name.split("/")
        inner = found
        for part in path:
            inner = inner.setdefault(part, {})
        inner[last] = array
    return found


def with_weights(params: Params, weights: Weights) -> Params:
    """Return a copy of `params` whose arrays are those of `weights`.

    The keys of `weights` are names such as `"conv1_1/kernel"`.
    """
    return replace(params, layers=nested_weights(weights))


def of_weights(info: WeightsInfo) -> dict[str, Any]:
    """Return what the metadata of an exported file says about the file from which the weights came.

    Raises:
      TypeError: if `info` is not a `WeightsInfo`.
    """
    _checks.instance("info", info, WeightsInfo, "`nst_jax.weights.read_info(path)` gives one")
    return {
        "origin": info.origin,
        "licence": info.licence,
        "family": info.family,
        "digest": info.digest,
    }
