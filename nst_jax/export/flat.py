"""Programs as functions of arrays only, with the weights inside.

Files of ONNX and TensorFlow Lite need this form: the arguments of their programs are arrays, without
dictionaries, and the weights are constants of the programs.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax.checkpoints import named_leaves
from nst_jax.export.encodings import decoded_weights
from nst_jax.export.models import Program, Specs


class FlatProgram(NamedTuple):
    """A function of arrays, with the names and shapes of its inputs and the names of its outputs."""

    call: Callable[..., tuple[Any, ...]]
    inputs: dict[str, jax.ShapeDtypeStruct]
    outputs: tuple[str, ...]


def flattened_program(
    program: Program, inputs: Specs, stored: Mapping[str, np.ndarray]
) -> FlatProgram:
    """Return a program with its weights inside, whose inputs and outputs are arrays.

    Args:
      program: the program.
      inputs: the shapes of its inputs by name.
      stored: the weights as `encodings.encoded_weights` returns them; the function decodes them.

    Returns:
      The function. An array in a dictionary is named like a file in a folder: `"state/canvas"`.
    """
    structure = jax.tree.structure(tuple(inputs.values()))

    def call(*arrays: Any) -> tuple[Any, ...]:
        found = program.call(decoded_weights(stored), *jax.tree.unflatten(structure, arrays))
        return tuple(by_path(found).values())

    return FlatProgram(call, by_path(inputs), tuple(by_path(outputs_of(program, inputs, stored))))


def outputs_of(program: Program, inputs: Specs, stored: Mapping[str, np.ndarray]) -> Specs:
    """Return the shapes of what a program returns, by name."""
    found: Specs = jax.eval_shape(
        lambda *inputs: program.call(decoded_weights(stored), *inputs), *inputs.values()
    )
    return found


def by_path(specs: Specs) -> dict[str, Any]:
    """Return all arrays in `specs` by path, such as `"state/canvas"` for one inside a dictionary."""
    return {
        f"{name}/{inner}" if inner else name: leaf
        for name, spec in specs.items()
        for inner, leaf in named_leaves(spec).items()
    }
