"""Write `strotss_golden.json`: the losses of STROTSS, computed by PyTorch in float64.

Run `python -m tests.make_strotss_golden`; it needs the extra `parity`. The method is that of
`torch_strotss.py`, which shares nothing with the package; only the weights, the two pictures at each
scale and the random places come from it. Run it only if that method changes, never to make a test pass.
"""

import json
from pathlib import Path

import numpy as np

from nst_jax.losses import random_pixels, random_places
from tests import multiscale_golden
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


def places(update, shape):
    """Return the places of an update, by the package's rule for keys."""
    return np.asarray(random_places(update, shape, 1024))


def pixels(draw, shape):
    """Return the places of a draw from the style, by the package's rule for keys."""
    return np.asarray(random_pixels(draw, shape, 1000))


def losses(scales):
    """Return the losses of all canvases in float64."""
    return run(multiscale_golden.weights64(), scales, ALPHA, RATES, places, pixels)


def golden():
    """Return the content of the file."""
    return multiscale_golden.golden(
        "make_strotss_golden",
        multiscale_golden.pictures(SIZES),
        losses,
        losses_are=": total, then self-similarity, transport, moments and palette without weights",
        alpha=ALPHA,
        rates=RATES,
    )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
