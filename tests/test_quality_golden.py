"""Presets beyond Gram matrices compute what their sources compute: against a file written by PyTorch.

Neither torch nor a network is needed here; `make_quality_golden.py` says how the file came to be.
"""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_less

import nst_jax as nst
from nst_jax import images, optimize, recipes
from nst_jax.weights import read_info
from tests.test_torch_golden import decoded

pytestmark = pytest.mark.optimized

GOLDEN = json.loads(Path(__file__).with_name("quality_golden.json").read_text())
ENTRIES, STEPS = GOLDEN["recipes"], GOLDEN["steps"]
FIELDS = ("total", "content", "style", "tv")

_measure, _run = jax.jit(nst.measure), jax.jit(nst.run)


def pixels(name):
    """Return one of the file's pictures, RGB in [0, 1]."""
    return np.float32(decoded(GOLDEN["pictures"][name])) / np.float32(255)


def trusted(entry):
    """Return up to which canvas rounding, amplified, stays far below the tolerance of `check`."""
    return next((i for i, s in enumerate(entry["sensitivity"]) if s > 1e-9), len(total_of(entry)))


def total_of(entry):
    return np.asarray(entry["float64"]["total"])


def check(found, picture, entry, *, rtol=1e-6):
    """Compare the losses of every canvas, and every second pixel of the result.

    Canvases that are not `trusted` are left out, and then the result is, too.
    """
    count = trusted(entry)
    total = total_of(entry)[:count]
    for field in FIELDS:
        ours = np.asarray(found[field])[:count]
        theirs = np.asarray(entry["float64"][field])[:count]
        assert len(ours) == count
        # A loss that is 0 is compared with the total.
        slack = np.where(theirs == 0, rtol * total, 0)
        assert_array_less(np.abs(ours - theirs), rtol * np.abs(theirs) + slack + 1e-300, field)
    if count == len(total_of(entry)):
        assert_allclose(picture[::2, ::2], decoded(entry["picture"]), rtol=0, atol=rtol)


def run(params, recipe, content, style, start, count):
    """Return field -> losses of the first `count` canvases, the start among them, and the last."""
    core = recipes.as_arrays(recipe.bare(), jnp.float64)
    content, style, start = (jnp.asarray(each, jnp.float64) for each in (content, style, start))
    targets = _measure(params, content, style, core)
    state, history = _run(params, nst.init(start, core), targets, core, count)
    losses = {field: getattr(history, field)[:count] for field in FIELDS}
    return losses, np.asarray(optimize.picture(state, core))


def test_the_file_describes_itself():
    for entry in ("maker", "what", "sensitivity", "directions", "weights", "versions", "machine"):
        assert GOLDEN[entry]
    assert GOLDEN["weights"]["digest"] == read_info().digest
    for entry in ENTRIES.values():
        (count,) = {len(entry["float64"][field]) for field in FIELDS}
        assert count == sum(entry.get("updates", [STEPS + 1]))
    # L-BFGS without a line search, on directions that change in every update, amplifies rounding errors
    # to 1e-4 in 25 updates, in torch too.
    for name, entry in ENTRIES.items():
        everything = len(total_of(entry))
        assert trusted(entry) == (14 if name == "sliced-wasserstein" else everything)


# --- crowsonkb ------------------------------------------------------------------------------------

CROWSONKB = tuple(name for name in ENTRIES if name.startswith("crowsonkb"))


def source_of(entry):
    """Return the preset with the source's weight of the variation, and an entry's sizes and taps."""
    style_weights = entry.get("style_taps")
    changes = {"tv_weight": 2.0, "size": entry["size"], "style_size": entry["size"]}
    changes["style_shares"] = tuple(entry.get("shares", (1.0,)))
    if style_weights is not None:
        taps = tuple(f"relu{tap[1]}_{tap[2]}" for tap in style_weights)
        weights = tuple(weight / sum(style_weights.values()) for weight in style_weights.values())
        content = entry["content_tap"]
        changes |= {"style_taps": taps, "style_layer_weights": weights}
        changes["content_taps"] = (f"relu{content[1]}_{content[2]}",)
    first, later, *_ = entry["updates"]
    schedule = {"smallest": entry["smallest"], "first": first, "later": later}
    return recipes.CROWSONKB.replace(steps=sum(entry["updates"]), **changes, **schedule)


def of_scales(entry):
    """Return (content, styles) for each scale, resized from the originals as the source does."""

    def resized(name, described):
        shape = tuple(described["shape"][:2])
        picture = np.asarray(recipes.CROWSONKB.pictures.resize(pixels(name), shape))
        assert hashlib.sha256(images.to_uint8(picture).tobytes()).hexdigest() == described["sha256"]
        return jnp.asarray(picture, jnp.float64)

    names = ("style", "another style")
    return [
        (
            resized("content", scale["content"]),
            [resized(*pair) for pair in zip(names, scale["styles"], strict=False)],
        )
        for scale in entry["prepared"]
    ]


@pytest.mark.parametrize("name", CROWSONKB)
def test_scales_of_crowsonkb_are_the_sources(name):
    entry, recipe = ENTRIES[name], source_of(ENTRIES[name])
    style_names = ("style", "another style")[: len(entry["prepared"][0]["styles"])]
    content, *styles = (decoded(GOLDEN["pictures"][n]).shape[:2] for n in ("content", *style_names))
    scales = nst.run_scales.scales_of(content, styles, recipe)
    assert [scale.steps for scale in scales] == entry["updates"]
    assert [list(scale.shape) for scale in scales] == [
        scale["content"]["shape"][:2] for scale in entry["prepared"]
    ]
    last = [list(shape) for shape in scales[-1].style_shapes]
    assert last == [style["shape"][:2] for style in entry["prepared"][-1]["styles"]]


def descended(params, recipe, pictures, updates):
    """Return the losses of all canvases, and the result, of a run on given pictures for each scale."""
    core = recipes.as_arrays(recipe.bare(), jnp.float64)
    found, before, state = {field: [] for field in FIELDS}, None, None
    for (content, styles), count in zip(pictures, updates, strict=True):
        targets = _measure(params, content, styles, core)
        if before is None:
            state = nst.init(content, core)
        else:
            shape, descent = content.shape[:2], recipe.descent
            start = optimize.enlarged(before.image, shape, descent.enlarge, descent.clip)
            state = optimize.take_over(nst.init(start, core), before.opt_state, core)
        state, history = _run(params, state, targets, core, count)
        for field in FIELDS:
            found[field].extend(np.asarray(getattr(history, field))[:count])
        before = optimize.hand_over(optimize.canvas_image(state, core), state, core)
    # The source's result and the next scale's start contain the last update, which is not measured.
    return found, np.clip(np.asarray(before.image), 0, 1)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n == "crowsonkb" else n for n in CROWSONKB],
)
def test_crowsonkb_is_the_source(name, params64, x64):
    # The weights are declared as torchvision's, whose pixels the source uses.
    params = replace(params64, family="vgg19-torchvision", pixels="torchvision")
    entry = ENTRIES[name]
    found = descended(params, source_of(entry), of_scales(entry), entry["updates"])
    check(*found, entry)


# --- sliced-wasserstein, histogram ----------------------------------------------------------------


def test_sliced_wasserstein_is_the_source(params64, x64):
    entry, recipe = ENTRIES["sliced-wasserstein"], recipes.SLICED_WASSERSTEIN
    assert list(recipe.terms.style_layer_weights) == entry["layer_weights"]
    content, style = pixels("small content"), pixels("small style")
    start, count = decoded(entry["start"]), trusted(entry)  # later canvases are not compared
    check(*run(params64, recipe, content, style, start, count), entry)


def test_histogram_is_the_source(params64, x64):
    content, style = pixels("odd content"), pixels("odd style")
    found = run(params64, recipes.HISTOGRAM, content, style, content, STEPS + 1)
    check(*found, ENTRIES["histogram"])


# --- The golden file ------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("name", ["crowsonkb, three taps", "sliced-wasserstein", "histogram"])
def test_the_file_is_what_torch_computes(name, torch):
    from tests import make_quality_golden as maker
    from tests.torch_recipes import as_weights

    pictures = {name: decoded(entry) for name, entry in GOLDEN["pictures"].items()}
    weights, entry, steps = as_weights(maker.layers(), torch.float64), ENTRIES[name], 3
    if name == "sliced-wasserstein":
        layers = entry["layer_weights"]
        found = maker.sliced_wasserstein(pictures, weights, layers, steps=steps)
    elif name == "histogram":
        found = maker.histogram(pictures, weights, steps=steps)
    else:
        found = maker.crowsonkb(name, pictures, weights)
    for field, values in maker.losses(found).items():
        assert_allclose(values, entry["float64"][field][: len(values)], rtol=1e-10)


@pytest.mark.torch
@pytest.mark.slow
def test_layer_weights_are_those_of_the_rule(torch):
    from tests import make_quality_golden as maker
    from tests.torch_recipes import as_weights

    found = maker.sliced_layer_weights(as_weights(maker.layers(), torch.float32))
    assert_allclose(found, ENTRIES["sliced-wasserstein"]["layer_weights"], rtol=2e-3)
