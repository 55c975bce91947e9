"""Programs (exported functions) in the form that ONNX and TensorFlow Lite need.

In files of these formats, all inputs and outputs of a program are single arrays, and the weights are
constants of the program. A `Program` of this package, in contrast, may take and return dictionaries of
arrays, and takes the weights as an argument.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax.checkpoints.leaves import named_leaves
from nst_jax.export.encodings import decoded_weights
from nst_jax.export.models import Program, Specs


class FlatProgram(NamedTuple):
    """A program whose inputs and outputs are single arrays, and whose weights are constants."""

    call: Callable[..., tuple[Any, ...]]  # function of the input arrays; returns the output arrays
    # Name of an input -> its shape and dtype, in the order of the arguments of `call`.
    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: tuple[str, ...]  # names of the outputs, in the order in which `call` returns them


def flattened_program(
    program: Program, inputs: Specs, stored: Mapping[str, np.ndarray]
) -> FlatProgram:
    """Return a program as a function of arrays only, with the weights as its constants.

    Args:
      program: a function of weights and inputs, which may be dictionaries of arrays.
      inputs: the shapes and dtypes of the program's inputs, by name.
      stored: the weights as `encodings.encoded_weights` returns them, for example with kernels in 8
        bits. The returned function contains these arrays as constants, and decodes them to float32.

    Returns:
      The function, with the names of its inputs and outputs. For an array that was in a dictionary, the
      names of both are joined: `"state/canvas"` is the array "canvas" of the dictionary "state".
    """
    structure = jax.tree.structure(tuple(inputs.values()))

    def call(*arrays: Any) -> tuple[Any, ...]:
        found = program.call(decoded_weights(stored), *jax.tree.unflatten(structure, arrays))
        return tuple(by_path(found).values())

    return FlatProgram(call, by_path(inputs), tuple(by_path(outputs_of(program, inputs, stored))))


def outputs_of(program: Program, inputs: Specs, stored: Mapping[str, np.ndarray]) -> Specs:
    """Return the shapes and dtypes of a program's outputs, by name; nothing is computed.

    Args:
      program: the program.
      inputs: the shapes and dtypes of the program's inputs, by name.
      stored: the weights as `encodings.encoded_weights` returns them.
    """
    found: Specs = jax.eval_shape(
        lambda *inputs: program.call(decoded_weights(stored), *inputs), *inputs.values()
    )
    return found


def by_path(specs: Specs) -> dict[str, Any]:
    """Return nested dictionaries of arrays (or of their shapes) as one flat dictionary.

    In its keys, the names of dictionary and array are joined: `"state/canvas"` is the array "canvas" of
    the dictionary "state".
    """
    return {
        f"{name}/{inner}" if inner else name: leaf
        for name, spec in specs.items()
        for inner, leaf in named_leaves(spec).items()
    }
