"""Write `quality_golden.json`: runs of style transfers beyond Gram matrices, computed by PyTorch.

Run `python -m tests.make_quality_golden`; it needs the extra `parity` and some minutes. The recipes are
those of `torch_quality_recipes.py`, which shares nothing with the package; only the weights, the
pictures and the rule for random directions come from it. Run it only if these recipes change, never to
make a test pass.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import torch
from PIL import Image

from nst_jax import images, weights
from tests import torch_quality_recipes as sources
from tests.make_torch_golden import (
    PERTURBATION,
    described,
    eight_bit,
    encoded,
    layers,
)
from tests.torch_recipes import as_weights, batch, to_tensor

GOLDEN = Path(__file__).with_name("quality_golden.json")
FIELDS = ("total", "content", "style", "tv")
STEPS = 25

# The content is enlarged at the last scale, the first style is not: the source's rule.
PICTURES = {
    "content": ("chelsea", 45, 61),
    "style": ("starry_night", 37, 57),
    "another style": ("gravel", 50, 40),
    "small content": ("chelsea", 24, 32),
    "small style": ("starry_night", 24, 32),
    "odd content": ("chelsea", 21, 29),
    "odd style": ("starry_night", 21, 29),
}

# The whole of crowsonkb's network costs seconds an update, because of two matrices of 512 x 512; three
# taps cost a tenth of it, and are run with two styles.
CROWSONKB = {
    "crowsonkb": {"smallest": 32, "size": 64, "updates": (11, 7, 7)},
    "crowsonkb, three taps": {
        "smallest": 24,
        "size": 48,
        "updates": (11, 7, 7),
        "shares": (2.0, 1.0),
        "content_tap": "r32",
        "style_taps": {"r11": 256, "r21": 64, "r31": 16},
    },
}
MEASURED_AT = 256  # px, the longer side of the pictures on which layer weights are measured


def sample(pictures, name):
    """Return one of the small pictures as the network gets it, RGB in [0, 1]."""
    return to_tensor(pictures[name])


def directions(step, name, channels):
    """Return random directions by the rule of `losses.random_directions`, normalised by NumPy."""
    del name
    key = jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), step)
    drawn = np.asarray(jax.random.normal(key, (channels, channels), "float32"), np.float64)
    return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)


def mean_activations(features_of):
    """Return the mean activation of each tap over the sample pictures, their longer side at 256 px.

    Args:
      features_of: function of an 8-bit picture [h, w, 3]; returns a tensor for each tap, of any shape.
    """
    means = []
    for name in ("chelsea", "starry_night", "gravel"):
        picture = Image.fromarray(images.to_uint8(images.sample(name)))
        sides = np.asarray(picture.size) * MEASURED_AT / max(picture.size)
        resized = picture.resize([round(side) for side in sides], Image.Resampling.LANCZOS)
        with torch.no_grad():
            means.append([tap.mean().item() for tap in features_of(np.asarray(resized))])
    return np.mean(means, axis=0)


def sliced_layer_weights(weights):
    """Return a weight for each tap of `sliced-wasserstein`, in place of the source's weights file.

    The source's network is scaled so that its activations are about 1 in every layer. Here a layer's
    loss is divided by the square of its mean activation over the sample pictures, which gives the loss
    of features divided by that mean. Three digits are kept.
    """

    def taps(picture):
        found = sources.sliced_features(weights, batch(to_tensor(picture), weights))
        return [found[tap] for tap in sources.SLICED]

    return [float(f"{mean**-2:.3g}") for mean in mean_activations(taps)]


def crowsonkb(name, pictures, weights, **options):
    """Return the run of one of `CROWSONKB`."""
    settings = dict(CROWSONKB[name])
    prepared = crowsonkb_pictures(name, pictures)
    for key in ("smallest", "size"):
        settings.pop(key)
    return sources.crowsonkb(weights, prepared, settings.pop("updates"), **settings, **options)


def crowsonkb_pictures(name, pictures):
    """Return (content, styles) of each scale."""
    settings = CROWSONKB[name]
    styles = [pictures["style"], pictures["another style"]][: len(settings.get("shares", (1.0,)))]
    return sources.crowsonkb_pictures(
        pictures["content"], styles, settings["smallest"], settings["size"]
    )


def start_of_texture(style):
    """Return the style's mean colour plus normal noise; not the source's random numbers."""
    noise = np.random.default_rng(0).normal(size=style.shape)
    return style.mean(axis=(0, 1), keepdims=True) + 0.01 * noise


def sliced_wasserstein(pictures, weights, layer_weights, *, steps=STEPS, **options):
    """Return the run of `sliced-wasserstein`."""
    style = sample(pictures, "small style")
    return sources.sliced_wasserstein(
        weights, style, start_of_texture(style), steps, directions, layer_weights, **options
    )


def histogram(pictures, weights, *, steps=STEPS, **options):
    """Return the run of `histogram`."""
    both = sample(pictures, "odd content"), sample(pictures, "odd style")
    return sources.histogram(weights, *both, steps, **options)


def losses(run):
    """Return field -> losses of every canvas."""
    return dict(zip(FIELDS, map(list, zip(*run.losses, strict=True)), strict=True))


def entry(run, perturbed):
    """Return the entry for a run, and for the same run from changed pixels."""
    one, other = (np.asarray(losses(each)["total"]) for each in (run, perturbed))
    return {
        "float64": losses(run),
        "picture": encoded(run.picture[::2, ::2]),
        "sensitivity": [float(f"{value:.1e}") for value in np.abs(other / one - 1)],
    }


def both(run):
    """Return the entry for a function that makes a run."""
    return entry(run(), run(perturbation=PERTURBATION))


def golden():
    """Return the content of the file."""
    torch.set_num_threads(1)
    pictures = {name: eight_bit(*PICTURES[name]) for name in PICTURES}
    weights64 = as_weights(layers(), torch.float64)
    layer_weights = sliced_layer_weights(as_weights(layers(), torch.float32))
    runs = {
        name: CROWSONKB[name]
        | {
            "prepared": [
                {"content": described(content), "styles": [described(style) for style in styles]}
                for content, styles in crowsonkb_pictures(name, pictures)
            ]
        }
        | both(lambda name=name, **options: crowsonkb(name, pictures, weights64, **options))
        for name in CROWSONKB
    }
    runs["sliced-wasserstein"] = {
        "layer_weights": layer_weights,
        "start": encoded(start_of_texture(sample(pictures, "small style"))),
    } | both(lambda **options: sliced_wasserstein(pictures, weights64, layer_weights, **options))
    runs["histogram"] = both(lambda **options: histogram(pictures, weights64, **options))
    return {
        "maker": "python -m tests.make_quality_golden",
        "what": "weighted losses of every canvas, and every second pixel of the result, by independent "
        "PyTorch code in float64",
        "sensitivity": f"relative change of the total if the start's pixels change by {PERTURBATION}",
        "directions": "row by row normal numbers of jax.random.normal in float32, with the key "
        "fold_in(key(0, impl='threefry2x32'), number of the update), divided by their length",
        "steps": STEPS,
        "weights": {"name": weights.read_info().name, "digest": weights.read_info().digest},
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow", "jax")},
        "machine": f"{platform.machine()}, cpu",
        "pictures": {
            name: {"sample": PICTURES[name][0]} | encoded(picture)
            for name, picture in pictures.items()
        },
        "recipes": runs,
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
