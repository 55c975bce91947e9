"""Write `nearest_golden.json`: the losses of Neural Neighbor Style Transfer, computed by PyTorch.

Run `python -m tests.make_nearest_golden`; it needs the extra `parity`. The method is that of
`torch_nearest.py`, which shares nothing with the package; only the weights, the two pictures at each
scale and the random numbers of the final pass come from it. Run it only if that method changes, never
to make a test pass.
"""

import json
from pathlib import Path

import jax
import numpy as np

from tests import multiscale_golden
from tests.torch_nearest import run

GOLDEN = Path(__file__).with_name("nearest_golden.json")
# Sizes of content and style, and updates: two scales and the final pass. Sides become odd between
# poolings, and the style's proportions differ from the content's.
SIZES = (((17, 21), (16, 26), 9), ((35, 43), (32, 53), 8), ((35, 43), (32, 53), 8))
LEVELS = (2, 3, 3)
ALPHA = 0.75


def firsts(update, tap, stride):
    """Return the first row and column of a grid, by the package's rule for keys."""
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), update), tap)
    return np.asarray(jax.random.randint(key, (2,), 0, stride))


def losses(scales):
    """Return the losses of all canvases in float64."""
    return run(multiscale_golden.weights64(), scales, LEVELS, ALPHA, firsts)


def golden():
    """Return the content of the file."""
    scales = multiscale_golden.pictures(SIZES)
    return multiscale_golden.golden(
        "make_nearest_golden", scales, losses, levels=LEVELS, alpha=ALPHA
    )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
