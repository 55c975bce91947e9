"""Write `strotss_golden.json`: the losses of STROTSS, computed by PyTorch in float64.

Run `python -m tests.make_strotss_golden`; it needs the extra `parity`. The method is that of
`torch_strotss.py`, which shares nothing with the package; only the weights, the two pictures at each
scale and the random places come from it. Run it only if that method changes, never to make a test pass.
"""

import functools
import json
from pathlib import Path

import numpy as np

from nst_jax.losses import random_pixels, random_places
from tests import multiscale_golden, torch_multiscale
from tests.make_quality_golden import mean_activations
from tests.torch_strotss import TAPS, run

GOLDEN = Path(__file__).with_name("strotss_golden.json")
# Sizes of content and style, and updates. Sides become odd between poolings, and the style's
# proportions differ from the content's. Only the last pictures have more pixels than are sampled; they
# take the most time.
SIZES = (((16, 18), (16, 17), 12), ((17, 21), (18, 17), 11), ((34, 42), (33, 34), 2))
# A thousandth of the source's. With the source's rates, rounding errors grow so fast (nearest
# neighbours change, and the first steps of RMSprop have the length of the rate, however small the
# gradient is) that after 15 updates even two runs of the same program give quite different losses.
RATES = (1e-6, 2e-6)
ALPHA = 4.0  # 4, 2, 1: the palette's weight is 1/4, 1/2, 1


def places(update, shape):
    """Return the places of an update, by the package's rule for keys."""
    return np.asarray(random_places(update, shape, 1024))


def pixels(draw, shape):
    """Return the places of a draw from the style, by the package's rule for keys."""
    return np.asarray(random_pixels(draw, shape, 1000))


ALL_TAPS = tuple(
    f"r{block}{index + 1}"
    for block, count in enumerate(torch_multiscale.BLOCKS, 1)
    for index in range(count)
)


def layer_means(weights):
    """Return the mean activation of each layer over the sample pictures; three digits are kept."""

    def taps(picture):
        one = torch_multiscale.as_picture(picture / 255, weights[0][0].dtype)
        return torch_multiscale.features(weights, one, ALL_TAPS)

    found = (float(f"{mean:.3g}") for mean in mean_activations(taps))
    return dict(zip(ALL_TAPS, found, strict=True))


@functools.cache
def units():
    """Return the number by which the features of each tap of STROTSS are divided."""
    means = layer_means(multiscale_golden.weights64())
    return {tap: means[tap] for tap in TAPS}


def losses(scales):
    """Return the losses of all canvases in float64."""
    weights = multiscale_golden.weights64()
    return run(weights, scales, ALPHA, RATES, places, pixels, tuple(units().values()))


def golden():
    """Return the content of the file."""
    return multiscale_golden.golden(
        "make_strotss_golden",
        multiscale_golden.pictures(SIZES),
        losses,
        losses_are=": total, then self-similarity, transport, moments and palette without weights",
        alpha=ALPHA,
        rates=RATES,
        units=units(),
    )


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
