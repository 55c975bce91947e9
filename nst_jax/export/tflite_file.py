"""Files of TensorFlow Lite: one program with its weights.

JAX's own jax2tf converts the program to TensorFlow, and TensorFlow's converter writes the file.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax.export.flat import flattened_program
from nst_jax.export.models import Program, Specs

METADATA_NAME = "nst_jax"  # name of the file's metadata entry, a JSON text in UTF-8


def write_tflite(
    path: Path,
    program: Program,
    inputs: Specs,
    weights: Mapping[str, np.ndarray],
    encoding: str,
    metadata: Mapping[str, Any],
) -> None:
    """Write a TensorFlow Lite file with a program and its weights.

    Args:
      path: the file to write.
      program: a pure function of weights and inputs.
      inputs: the shapes and dtypes of the program's inputs, by name; no size may be symbolic.
      weights: the weights by name, float32.
      encoding: in what form TensorFlow's converter stores the weights: `"float32"`, `"float16"` or
        `"int8"`. With `"int8"`, the converted program also rounds the inputs of convolutions to 8 bits,
        by a scale that it computes anew for each picture.
      metadata: JSON values to store in the file, by name.
    """
    # TensorFlow prints messages when it is imported, unless this variable was set before the import.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf
    from jax.experimental import jax2tf

    flat = flattened_program(program, inputs, weights)
    specs = [tf.TensorSpec(spec.shape, spec.dtype, key) for key, spec in flat.inputs.items()]

    def call(*arrays: Any) -> dict[str, Any]:
        found = jax2tf.convert(flat.call, with_gradient=False)(*arrays)
        return dict(zip(flat.outputs, found, strict=True))

    module = tf.Module()
    module.call = tf.function(call, input_signature=specs, autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [module.call.get_concrete_function()], module
    )
    if encoding != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if encoding == "float16":
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(_with_metadata(bytes(converter.convert()), metadata))


def _with_metadata(data: bytes, metadata: Mapping[str, Any]) -> bytes:
    """Return the bytes of a TensorFlow Lite file with metadata added.

    All metadata are added as JSON in the entry `METADATA_NAME`. The value of their key "summary" also
    becomes the file's description.
    """
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(data))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(json.dumps(metadata, ensure_ascii=False).encode(), np.uint8)
    entry.name, entry.buffer = METADATA_NAME, len(model.buffers)
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or []), entry]
    model.description = metadata["summary"]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))
