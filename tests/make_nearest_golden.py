"""Write `nearest_golden.json`: the losses of Neural Neighbor Style Transfer, computed by PyTorch.

Run `python -m tests.make_nearest_golden`; it needs the extra `parity`. The method is that of
`torch_nearest.py`, which shares nothing with the package; only the weights, the two pictures at each
scale and the random numbers of the final pass come from it. Run it only if that method changes, never
to make a test pass.
"""

import json
import platform
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
import torch

from nst_jax import images, weights
from nst_jax.images import resizing
from tests.make_torch_golden import encoded, layers
from tests.torch_nearest import run
from tests.torch_recipes import as_weights

GOLDEN = Path(__file__).with_name("nearest_golden.json")
# Sizes of content and style, and updates: two scales and the final pass. Odd between poolings; the
# style's proportions are others than the content's.
SIZES = (((17, 21), (16, 26), 9), ((35, 43), (32, 53), 8), ((35, 43), (32, 53), 8))
LEVELS = (2, 3, 3)
ALPHA = 0.75
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


def firsts(update, tap, stride):
    """Return the first row and column of a grid, by the package's rule for keys."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), update), tap)
    return np.asarray(jax.random.randint(key, (2,), 0, stride))


def losses(scales, *, perturbation=0.0):
    """Return the losses in float64; `perturbation` is a relative change of the coarsest content."""
    weights64 = as_weights(layers(), torch.float64)
    if perturbation:
        noise = np.random.default_rng(0).choice((-1.0, 1.0), scales[0][0].shape)
        first = scales[0][0].astype(np.float64) * (1 + perturbation * noise)
        scales = [(first, *scales[0][1:]), *scales[1:]]
    return run(weights64, scales, LEVELS, ALPHA, firsts)


def golden():
    """Return the content of the file."""
    torch.set_num_threads(1)
    scales = pictures()
    plain = losses(scales)
    perturbed = losses(scales, perturbation=PERTURBATION)
    change = np.abs(np.subtract(perturbed, plain)) / plain
    return {
        "maker": "python -m tests.make_nearest_golden",
        "what": "losses of the canvases after 0 to 25 updates, by independent PyTorch code in float64",
        "weights": {"name": weights.read_info().name, "digest": weights.read_info().digest},
        "versions": {name: version(name) for name in ("torch", "numpy", "jax")},
        "machine": f"{platform.machine()}, cpu",
        "sensitivity": [float(f"{value:.1e}") for value in change],
        "levels": LEVELS,
        "alpha": ALPHA,
        "scales": [
            {"content": encoded(content), "style": encoded(style), "updates": updates}
            for content, style, updates in scales
        ],
        "losses": plain,
    }


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
