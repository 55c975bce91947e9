"""Write `strotss_golden.json`: the losses of STROTSS, computed by PyTorch in float64.

Run `python -m tests.make_strotss_golden`; it needs the extra `parity`. The method is that of
`torch_strotss.py`, which shares nothing with the package; only the weights, the two pictures at each
scale and the random places come from it. Run it only if that method changes, never to make a test pass.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from nst_jax import images, weights
from nst_jax.images import resizing
from nst_jax.losses import random_pixels, random_places
from tests.make_torch_golden import encoded, layers
from tests.torch_recipes import as_weights
from tests.torch_strotss import run

GOLDEN = Path(__file__).with_name("strotss_golden.json")
# Sizes of content and style, and updates. Odd between poolings; the style's proportions are others
# than the content's. Only the last pictures have more pixels than are drawn; they take the most time.
SIZES = (((16, 18), (16, 17), 12), ((17, 21), (18, 17), 11), ((34, 42), (33, 34), 2))
# A hundredth of the source's. With those, differences of rounding grow so fast (nearest neighbours
# change, and the first steps of RMSprop have the length of the rate, however small the gradient is)
# that after 15 updates even two runs of the same program have nothing but the method in common.
RATES = (1e-5, 2e-5)
ALPHA = 4.0  # 4, 2, 1: the palette's weight is 1/4, 1/2, 1
PERTURBATION = 1e-15


def pictures():
    """Return (content, style, updates) of each scale, float32 arrays."""
    return [
        (
            np.asarray(resizing.antialiased(images.sample("chelsea"), content)),
            np.asarray(resizing.antialiased(images.sample("starry_night"), style)),
            updates,
        )
        for content, style, updates in SIZES
    ]


def places(update, shape):
    """Return the places of an update, by the package's rule for keys."""
    return np.asarray(random_places(update, shape, 1024))


def pixels(draw, shape):
    """Return the places of a draw from the style, by the package's rule for keys."""
    return np.asarray(random_pixels(draw, shape, 1000))


def losses(scales, *, perturbation=0.0):
    """Return the losses in float64; `perturbation` is a relative change of the coarsest content."""
    weights64 = as_weights(layers(), torch.float64)
    if perturbation:
        noise = np.random.default_rng(0).choice((-1.0, 1.0), scales[0][0].shape)
        first = scales[0][0].astype(np.float64) * (1 + perturbation * noise)
        scales = [(first, *scales[0][1:]), *scales[1:]]
    return run(weights64, scales, ALPHA, RATES, places, pixels)


def golden():
    """Return the content of the file."""
    torch.set_num_threads(1)
    scales = pictures()
    plain = losses(scales)
    perturbed = losses(scales, perturbation=PERTURBATION)
    change = np.abs(np.subtract(perturbed, plain))[:, 0] / np.asarray(plain)[:, 0]
    return {
        "maker": "python -m tests.make_strotss_golden",
        "what": "losses of the canvases after 0 to 25 updates, by independent PyTorch code in float64: "
        "total, then self-similarity, transport, moments and palette without weights",
        "weights": {"name": weights.read_info().name, "digest": weights.read_info().digest},
        "versions": {name: version(name) for name in ("torch", "numpy", "jax")},
        "machine": f"{platform.machine()}, cpu",
        "sensitivity": [float(f"{value:.1e}") for value in change],
        "alpha": ALPHA,
        "rates": RATES,
        "scales": [
            {"content": encoded(content), "style": encoded(style), "updates": updates}
            for content, style, updates in scales
        ],
        "losses": plain,
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
