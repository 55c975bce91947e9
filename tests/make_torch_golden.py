"""Write `torch_golden.json`: the losses of five published style transfers, computed by PyTorch.

Run `python -m tests.make_torch_golden`; it needs the extra `parity`. The recipes are those
of `torch_recipes.py`, which shares nothing with the package; only the weights and the two pictures
come from it. Run it only if these recipes change, never to make a test pass.
"""

import hashlib
import json
import platform
from base64 import b64encode
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import nst_jax as nst
from nst_jax import images, weights
from tests.torch_recipes import SOURCES, as_weights, coursera_tf2_start

GOLDEN = Path(__file__).with_name("torch_golden.json")
STEPS, SEED = 25, 0
# Sides for which truncation and rounding differ (61 px * (512 / 61) is 511 in float32), which become
# odd between poolings, and which end as two positions in the deepest block.
PICTURES = {"content": ("chelsea", 45, 61), "style": ("starry_night", 37, 57)}
SIZES = {
    "udacity": 24,
    "gatys-pytorch": 24,
    "tf": 33,
    "coursera-tf2": 32,
    "pytorch-tutorial": 24,
}
# Not run in float32: L-BFGS without a line search divides by differences of gradients.
LBFGS = ("gatys-pytorch", "pytorch-tutorial")
FIELDS = ("total", "content", "style")
# The exact values of the constants that gatys-pytorch's notebook rounds to eight digits.
CAFFE_MEANS = (103.939 / 255, 116.779 / 255, 123.68 / 255)
PERTURBATION = 1e-15  # of the start's pixels, a few times the last bit of float64


def eight_bit(name, height, width):
    """Return a sample picture of this size in 8 bits, as a file contains it."""
    picture = Image.fromarray(images.to_uint8(images.sample(name)))
    return np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS))


def layers():
    """Return the embedded weights as pairs (kernel, bias), conv1_1 first."""
    found = nst.load_params().layers
    return [(found[name]["kernel"], found[name]["bias"]) for name in sorted(found)]


def encoded(array):
    """Return an array as text."""
    array = np.ascontiguousarray(array)
    return {
        "dtype": array.dtype.str,
        "shape": list(array.shape),
        "base64": b64encode(array.tobytes()).decode(),
    }


def described(pixels, stride=1):
    """Return an entry for prepared pixels: a digest if they are 8-bit, else every `stride`th pixel."""
    whole = np.rint(pixels * 255).astype(np.uint8)
    described = {"shape": list(pixels.shape)}
    # The product in convert_image_dtype may differ from the quotient in the last bit.
    if np.allclose(whole / 255, pixels, rtol=0, atol=1e-7):
        return described | {"sha256": hashlib.sha256(whole.tobytes()).hexdigest()}
    return described | {"stride": stride, "pixels": encoded(pixels[::stride, ::stride])}


def prepared(name, pictures, size, stride=1):
    """Return the entry for a recipe's pictures at a size."""
    both = SOURCES[name].pictures(*pictures, size)
    return {"size": size} | {
        field: described(pixels, stride)
        for field, pixels in zip(("content", "style"), both, strict=True)
    }


def start_of(name, content):
    """Return the image that a run starts from."""
    return coursera_tf2_start(content, SEED) if name == "coursera-tf2" else content


def losses(name, pictures, weights, *, steps=STEPS, perturbation=0.0, **options):
    """Return field -> losses of the start and of the canvases after each update.

    `perturbation` is a relative change of the start's pixels; `options` are passed to the recipe.
    """
    source = SOURCES[name]
    content, style = source.pictures(*pictures, SIZES[name])
    start = start_of(name, content)
    if perturbation:
        noise = np.random.default_rng(SEED).choice((-1.0, 1.0), start.shape)
        start = start.astype(np.float64) * (1 + perturbation * noise)
    history = source.run(weights, content, style, start, steps, **options)
    return dict(zip(FIELDS, map(list, zip(*history, strict=True)), strict=True))


def sensitivity(plain, perturbed):
    """Return the relative difference of two runs, evaluation by evaluation."""
    one, other = (np.asarray(run["total"]) for run in (plain, perturbed))
    return [float(f"{value:.1e}") for value in np.abs(other - one) / one]


def entry(name, pictures, weights64, weights32):
    """Return the entry for one recipe."""
    double = losses(name, pictures, weights64)
    perturbed = losses(name, pictures, weights64, perturbation=PERTURBATION)
    content, _ = SOURCES[name].pictures(*pictures, SIZES[name])
    single = losses(name, pictures, weights32, steps=0 if name in LBFGS else STEPS)
    found = {
        "prepared": prepared(name, pictures, SIZES[name]),
        "published": prepared(name, pictures, SOURCES[name].size, stride=64),
        "start": encoded(start_of(name, content)) if name == "coursera-tf2" else "content",
        "float64": double,
        "sensitivity": sensitivity(double, perturbed),
        "float32": single,
    }
    if name == "gatys-pytorch":
        found["float64 at Caffe's means"] = losses(name, pictures, weights64, mean=CAFFE_MEANS)
    return found


def golden():
    """Return the content of the file."""
    torch.set_num_threads(1)
    pictures = [eight_bit(*PICTURES[field]) for field in PICTURES]
    weights64, weights32 = (as_weights(layers(), dtype) for dtype in (torch.float64, torch.float32))
    return {
        "maker": "python -m tests.make_torch_golden",
        "what": "weighted losses of the canvases after 0 to 25 updates, by independent PyTorch code",
        "sensitivity": f"relative change of the total if the start's pixels change by {PERTURBATION}",
        "steps": STEPS,
        "seed": SEED,
        "weights": {"name": weights.read_info().name, "digest": weights.read_info().digest},
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow")},
        "machine": f"{platform.machine()}, cpu",
        "pictures": {
            field: {"sample": PICTURES[field][0]} | encoded(picture)
            for field, picture in zip(PICTURES, pictures, strict=True)
        },
        "recipes": {name: entry(name, pictures, weights64, weights32) for name in SOURCES},
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
