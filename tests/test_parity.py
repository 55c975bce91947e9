"""Agreement with PyTorch, an independent implementation: taps, gradients, whole runs of L-BFGS."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import recipes
from nst_jax.vgg import TAPS, layers
from tests import presets, reference, small
from tests.test_vgg import NETWORKS, all_taps

pytestmark = pytest.mark.torch

OFTEN = ("max-floor-zero", "max-ceil-replicate", "average-floor-reflect", "l2-ceil-first")


def tensor(torch, array):
    """Return [h, w, c] as [1, c, h, w]."""
    return torch.tensor(np.asarray(array, np.float64)).permute(2, 0, 1)[None].contiguous()


def torch_features(torch, params, x, *, kind="max", ceil=False, padding="constant", deepest=None):
    """Return torch's activations of network pixels [1, 3, h, w], tap by tap."""
    functional, found = torch.nn.functional, {}
    pool = {
        "max": partial(functional.max_pool2d, ceil_mode=ceil),
        "average": partial(functional.avg_pool2d, ceil_mode=ceil, count_include_pad=False),
        "scaled_average": lambda x, k, s: 2 * functional.avg_pool2d(x, k, s, ceil_mode=ceil),
        "l2": lambda x, k, s: 0.78 * functional.lp_pool2d(x, 2.0, k, s, ceil_mode=ceil),
    }[kind]
    for name, layer in params.layers.items():
        if name.endswith("_1") and name != "conv1_1":
            x = pool(x, 2, 2)
        kernel = torch.tensor(np.asarray(layer["kernel"], np.float64)).permute(3, 2, 0, 1)
        bias = torch.tensor(np.asarray(layer["bias"], np.float64))
        mode = {"edge": "replicate"}.get(padding, padding)
        if padding == "edge first":
            mode = "replicate" if name == "conv1_1" else "constant"
        x = functional.conv2d(functional.pad(x, (1, 1, 1, 1), mode=mode), kernel, bias)
        found[name.replace("conv", "preact")] = x
        x = functional.relu(x)
        found[name.replace("conv", "relu")] = x
        if name.replace("conv", "relu") == deepest:
            break
    return found


@pytest.mark.parametrize(
    "name",
    [
        # Between them these have every border, both roundings, and three of four poolings; the fourth
        # is compared alone, below.
        n if n in OFTEN else pytest.param(n, marks=pytest.mark.long)
        for n in NETWORKS
    ],
)
def test_every_tap_agrees_with_torch(name, torch, params, params64, x64):
    network, settings = NETWORKS[name]
    picture = small.picture("chelsea", 37, 50)
    found = all_taps(params64, jnp.asarray(picture, jnp.float64), network)
    pixels = tensor(torch, reference.pixels(picture))
    expected = torch_features(torch, params, pixels, **settings)
    for tap in TAPS:
        theirs = expected[tap][0].permute(1, 2, 0).numpy()
        # Float64 rounds at 1e-16; sixteen layers of sums of up to 4608 products.
        assert_allclose(found[tap], theirs, rtol=0, atol=1e-12 * np.abs(theirs).max(), err_msg=tap)


@pytest.mark.parametrize("ceil", [False, True])
def test_ties_in_a_window_have_the_gradient_of_torch(torch, ceil):
    # Small whole numbers tie in most windows; random weights show which of them gets the gradient.
    rng = np.random.default_rng(0)
    x = rng.integers(0, 3, (7, 9, 4)).astype(np.float64)
    theirs = tensor(torch, x).requires_grad_()
    pooled = torch.nn.functional.max_pool2d(theirs, 2, 2, ceil_mode=ceil)
    weights = rng.normal(size=pooled.shape)
    (pooled * torch.tensor(weights)).sum().backward()
    cotangent = jnp.asarray(weights.transpose(0, 2, 3, 1), jnp.float32)
    _, pull = jax.vjp(lambda x: layers.max_pool(x, ceil), jnp.asarray(x, jnp.float32)[None])
    assert_array_equal(
        pull(cotangent)[0][0], theirs.grad[0].permute(1, 2, 0).numpy().astype(np.float32)
    )


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("kind", ["average", "scaled_average", "l2"])
def test_poolings_have_the_gradient_of_torch(torch, kind, ceil, x64):
    functional = torch.nn.functional
    x = np.maximum(np.random.default_rng(0).normal(size=(7, 9, 4)), 0)
    x[:2, :2] = 0  # a window of zeros, at which an L2 norm has no derivative
    theirs = tensor(torch, x).requires_grad_()
    pooled = {
        "average": lambda: functional.avg_pool2d(theirs, 2, ceil_mode=ceil),
        "scaled_average": lambda: 2 * functional.avg_pool2d(theirs, 2, ceil_mode=ceil),
        "l2": lambda: 0.78 * functional.lp_pool2d(theirs, 2.0, 2, ceil_mode=ceil),
    }[kind]()
    weights = np.random.default_rng(1).normal(size=pooled.shape)
    (pooled * torch.tensor(weights)).sum().backward()
    found, pull = jax.vjp(lambda x: layers.POOLS[kind](x, ceil), jnp.asarray(x)[None])
    expected = pooled.detach().numpy().transpose(0, 2, 3, 1)
    assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
    gradient = pull(jnp.asarray(weights.transpose(0, 2, 3, 1)))[0][0]
    assert_allclose(gradient, theirs.grad[0].permute(1, 2, 0).numpy(), rtol=1e-12, atol=1e-14)
    assert kind != "l2" or not np.any(gradient[:2, :2])


def torch_total(torch, params, canvas, targets, recipe, coordinates=None):
    """Return the total of a Gram recipe on a canvas [1, 3, h, w] of RGB coordinates."""
    terms = recipe.terms
    found = torch_features(torch, params, canvas, deepest=targets["deepest"])
    total = 0.0
    for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True):
        difference = found[tap] - targets["content"][tap]
        total = total + terms.content_weight * weight * difference.pow(2).mean()
    for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True):
        rows = found[tap].flatten(2)[0]
        difference = rows @ rows.T / rows.shape[1] - targets["style"][tap]
        total = total + terms.style_weight * weight * difference.pow(2).mean()
    return total


def torch_targets(torch, params, content, style, recipe, deepest):

    def pixels(image):
        return tensor(torch, reference.pixels(image))

    of_content = torch_features(torch, params, pixels(content), deepest=deepest)
    of_style = torch_features(torch, params, pixels(style), deepest=deepest)
    grams = {
        tap: (rows := of_style[tap].flatten(2)[0]) @ rows.T / rows.shape[1]
        for tap in recipe.terms.style_taps
    }
    return {"content": of_content, "style": grams, "deepest": deepest}


@pytest.mark.parametrize("name", ["gatys-pytorch", "tf"])
def test_the_gradient_of_a_preset_agrees_with_torch(name, torch, params, params64, x64):
    case, recipe = presets.case(params64, name), recipes.PRESETS[name]
    targets = torch_targets(torch, params, case.content, case.style, recipe, "relu5_2")
    pixels = tensor(torch, reference.pixels(case.image)).requires_grad_()
    total = torch_total(torch, params, pixels, targets, recipe)
    total.backward()
    theirs = pixels.grad[0].permute(1, 2, 0).numpy()
    if name == "tf":  # its canvas is sRGB in [0, 1], not network pixels
        theirs = theirs[..., ::-1] * 255
    (value, _), gradient = case.value_and_gradient(case.canvas)
    # All in float64; the subtraction in dG loses about three of its sixteen digits.
    assert_allclose(value, total.item(), rtol=1e-10)
    assert_allclose(gradient, theirs, rtol=0, atol=1e-10 * np.abs(theirs).max())


def test_a_run_of_gatys_pytorch_agrees_with_torch(torch, params, params64, x64):
    # Small weights, so that the run does not overshoot. With the preset's own it does, to 1e9 times the
    # loss, and then rounding errors in float64 become visible after sixteen evaluations, in torch too.
    recipe = small.shallow(recipes.GATYS_PYTORCH, style_layer_weights=(1e-4, 1e-4))
    content, style = small.picture("chelsea", 20, 27), small.picture("starry_night", 24, 18)
    outer, inner = 4, 20

    targets = torch_targets(torch, params, content, style, recipe, "relu2_1")
    canvas = tensor(torch, reference.pixels(content)).requires_grad_()
    optimizer = torch.optim.LBFGS([canvas], tolerance_grad=1e-5)
    theirs = []

    def closure():
        optimizer.zero_grad()
        total = torch_total(torch, params, canvas, targets, recipe)
        total.backward()
        theirs.append(total.item())
        return total

    for _ in range(outer):
        optimizer.step(closure)

    core = recipes.as_arrays(recipe.bare(), jnp.float64)
    image = jnp.asarray(content, jnp.float64)
    ours_targets = jax.jit(nst.measure)(params64, image, jnp.asarray(style, jnp.float64), core)
    # The history of a run includes the start, so torch's last canvas is the pending one here.
    state, history = jax.jit(nst.run)(
        params64, nst.init(image, core), ours_targets, core, outer * inner
    )
    ours = np.asarray(history.total)[: outer * inner]
    assert len(theirs) == outer * inner
    # Rounding errors of 1e-16 grow along the run, to about 1e-10 here.
    assert_allclose(ours, theirs, rtol=1e-8)
    pixels = canvas.detach()[0].permute(1, 2, 0).numpy()
    assert_allclose(state.pending, pixels, rtol=0, atol=1e-8 * np.abs(pixels).max())
    assert state.broke_at == -1
