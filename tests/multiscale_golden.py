"""Golden files of methods that paint coarse to fine: their makers write them, and tests read them.

A file has the two pictures and the number of updates of each scale, and the losses of all canvases that
independent PyTorch code computes in float64. Only makers need torch.
"""

import json
import platform
from base64 import b64decode
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import nst_jax as nst
from nst_jax import images, optimize, weights
from nst_jax.images import resizing
from nst_jax.recipes import filters

PERTURBATION = 1e-15  # relative; a few times the last bit of float64

# --- Writing --------------------------------------------------------------------------------------


def pictures(sizes):
    """Return (content, style, updates) of each scale, float32 arrays.

    Args:
      sizes: for each scale (height, width) of content and style, and the number of updates.
    """
    return [
        (
            np.asarray(resizing.antialiased(images.sample("chelsea"), content)),
            np.asarray(resizing.antialiased(images.sample("starry_night"), style)),
            updates,
        )
        for content, style, updates in sizes
    ]


def perturbed(scales):
    """Return the scales with each pixel of the coarsest content changed by `PERTURBATION`."""
    noise = np.random.default_rng(0).choice((-1.0, 1.0), scales[0][0].shape)
    first = scales[0][0].astype(np.float64) * (1 + PERTURBATION * noise)
    return [(first, *scales[0][1:]), *scales[1:]]


def weights64():
    """Return the embedded weights as torch's tensors in float64."""
    import torch

    from tests.make_torch_golden import layers
    from tests.torch_recipes import as_weights

    return as_weights(layers(), torch.float64)


def golden(maker, scales, losses, *, losses_are="", **options):
    """Return the content of a golden file.

    Args:
      maker: name of the module that writes it.
      scales: (content, style, updates) of each scale, as `pictures` returns them.
      losses: function from scales to the losses of all canvases, [n] or [n, parts], the total first.
      losses_are: what the losses are, if there is more than a total.
      **options: the numbers of the run, which the file has as well.
    """
    import torch

    from tests.make_torch_golden import encoded

    torch.set_num_threads(1)
    plain = losses(scales)
    totals, others = (
        np.asarray(found).reshape(len(found), -1)[:, 0]
        for found in (plain, losses(perturbed(scales)))
    )
    info = weights.read_info()
    return {
        "maker": f"python -m tests.{maker}",
        "what": "losses of the canvases after 0 to 25 updates, by independent PyTorch code in float64"
        + losses_are,
        "weights": {"name": info.name, "digest": info.digest},
        "versions": {name: version(name) for name in ("torch", "numpy", "jax")},
        "machine": f"{platform.machine()}, cpu",
        "sensitivity": [float(f"{value:.1e}") for value in np.abs(others - totals) / totals],
        **options,
        "scales": [
            {"content": encoded(content), "style": encoded(style), "updates": updates}
            for content, style, updates in scales
        ],
        "losses": plain,
    }


# --- Reading --------------------------------------------------------------------------------------

measure, init, run = jax.jit(nst.measure), jax.jit(nst.init), jax.jit(nst.run)
canvas_image = jax.jit(optimize.canvas_image)
bilinear = jax.jit(filters.bilinear, static_argnums=1)


def read(name):
    """Return the content of a golden file beside this module."""
    return json.loads(Path(__file__).with_name(name).read_text())


def decoded(entry):
    """Return the array that an entry of a file holds as text, in float64."""
    array = np.frombuffer(b64decode(entry["base64"]), entry["dtype"])
    return jnp.asarray(array.reshape(entry["shape"]), jnp.float64)


def shapes_of(golden):
    """Return (height, width) of the canvas at each scale."""
    return [tuple(scale["content"]["shape"][:2]) for scale in golden["scales"]]


def check_that_it_describes_itself(golden):
    for entry in ("maker", "what", "sensitivity", "weights", "versions", "machine"):
        assert golden[entry]
    assert golden["weights"]["digest"] == weights.read_info().digest
    assert len(golden["losses"]) == sum(scale["updates"] for scale in golden["scales"]) + 1 == 26
