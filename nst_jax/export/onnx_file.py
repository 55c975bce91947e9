"""Write a program with its weights as an ONNX file, for onnxruntime and other runtimes.

The package jax2onnx converts the program, as JAX has traced it, to ONNX.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.extend.core import jaxpr_as_fun
from jax.interpreters import partial_eval

from nst_jax.export.encodings import CODES, SCALES, TABLE, decoded_weights
from nst_jax.export.flat import FlatProgram, flattened_program
from nst_jax.export.models import Program, Specs

OPSET = 18  # version of ONNX's set of operators that the file uses; runtimes since 2023 support it


def write_onnx(
    path: Path,
    name: str,
    program: Program,
    inputs: Specs,
    stored: Mapping[str, np.ndarray],
    metadata: Mapping[str, Any],
) -> None:
    """Write an ONNX file with a program and its weights.

    Args:
      path: the file to write.
      name: the program's name in the file.
      program: the program.
      inputs: the shapes and dtypes of the program's inputs, by name. If heights and widths are
        symbolic, the program in the file takes pictures of any size.
      stored: the weights as arrays of float32, float16 or 8 bits, from `encodings.encoded_weights`.
      metadata: JSON values by name, which the file contains as text. One of them, `summary`, becomes
        the description of the program.

    Raises:
      ValueError: if jax2onnx cannot convert the program.
    """
    import onnx

    # The program is converted with decoded weights (float32). Afterwards, `_store` replaces them by the
    # encoded arrays, and adds operators that decode these. If JAX's program decoded them instead,
    # jax2onnx would compute parts of the decoding during the conversion. It would write the results
    # into the file, too, and so make the file larger.
    weights = {key: np.asarray(array) for key, array in decoded_weights(stored).items()}
    model = _converted(name, flattened_program(program, inputs, weights))
    _store(model.graph, weights, stored)
    # The shapes of intermediate results are left out, since runtimes compute them themselves.
    del model.graph.value_info[:]
    onnx.helper.set_model_props(model, _as_text(metadata))
    model.doc_string = metadata["summary"]
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def _converted(name: str, flat: FlatProgram) -> Any:
    from jax2onnx import to_onnx

    shapes = list(flat.inputs.values())
    # jax2onnx is given a program that JAX has traced already. If it traced the function itself, it
    # would replace some of JAX's functions by its own, and so convert a different program. `dce_jaxpr`
    # removes operations whose results are not used, such as the gradients of VGG's kernels, which the
    # custom gradient of a convolution computes besides the gradient of the picture.
    traced = jax.make_jaxpr(flat.call)(*shapes)
    used, _ = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(flat.outputs), instantiate=True)
    try:
        return to_onnx(
            jaxpr_as_fun(traced.replace(jaxpr=used)),
            shapes,
            model_name=name,
            opset=OPSET,
            input_names=list(flat.inputs),
            output_names=list(flat.outputs),
        )
    except Exception as error:  # jax2onnx raises errors of any type for what it cannot convert
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        is_open = any(not isinstance(side, int) for shape in shapes for side in shape.shape)
        said = (
            f"`shape`: jax2onnx cannot convert {name!r} for the size 'any' ({reason}); give a size"
            if is_open
            else f"`to`: jax2onnx cannot convert {name!r} ({reason})"
        )
        raise ValueError(f"{said}, or take stablehlo") from error


def _store(graph: Any, weights: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> None:
    """Replace the decoded weights in an ONNX graph by encoded arrays and operators that decode them.

    The graph has the weights under names of its own, so they are found in it by their values.

    Args:
      graph: the ONNX graph, which is changed in place.
      weights: the decoded weights, by name.
      stored: the encoded weights, from `encodings.encoded_weights`.
    """
    from onnx import numpy_helper

    names = {
        _key(array): name
        for name, array in weights.items()
        if name not in stored or stored[name].dtype != array.dtype
    }
    kept, nodes = [], []
    for tensor in graph.initializer:
        name = names.get(_key(numpy_helper.to_array(tensor)))
        if name is None:
            kept.append(tensor)
        else:
            parts, decoding = _decoding(tensor.name, name, stored)
            kept += parts
            nodes += decoding
    nodes += graph.node
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


def _key(array: np.ndarray) -> tuple[Any, ...]:
    return array.dtype.name, array.shape, array.tobytes()


def _decoding(
    output: str, name: str, stored: Mapping[str, np.ndarray]
) -> tuple[list[Any], list[Any]]:
    """Return the ONNX tensors with a kernel's encoded arrays, and the operators that decode them.

    A kernel is stored in float16, as codes with scales, or as codes that index a table of values.

    Args:
      output: the kernel's name in the graph, which the decoded kernel keeps.
      name: the kernel's name in the weights, such as `"conv1_1/kernel"`.
      stored: the encoded arrays of all weights, by name, from `encodings.encoded_weights`.
    """
    from onnx import TensorProto, helper, numpy_helper

    def tensor(part: str) -> Any:
        return numpy_helper.from_array(stored[part], f"{output}/{part}")

    if name in stored:  # the kernel is stored in float16, as a single array
        half = tensor(name)
        return [half], [helper.make_node("Cast", [half.name], [output], to=TensorProto.FLOAT)]
    codes = tensor(f"{name}/{CODES}")
    if f"{name}/{SCALES}" in stored:
        scales, axis = tensor(f"{name}/{SCALES}"), len(codes.dims) - 1
        node = helper.make_node("DequantizeLinear", [codes.name, scales.name], [output], axis=axis)
        return [codes, scales], [node]
    table, indices = tensor(f"{name}/{TABLE}"), f"{output}/indices"
    return [codes, table], [
        helper.make_node("Cast", [codes.name], [indices], to=TensorProto.INT32),
        helper.make_node("Gather", [table.name, indices], [output]),
    ]


def _as_text(metadata: Mapping[str, Any]) -> dict[str, str]:
    """Return metadata with all values as strings, as ONNX requires; numbers, lists etc. become JSON."""
    return {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
