"""The objective of every preset: its published formula, and its gradient."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import losses, recipes, vgg
from nst_jax.vgg import layers
from tests import presets, reference, small

measure, losses_of = jax.jit(nst.measure), jax.jit(nst.losses_of)

STYLE = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


def mean_gram(f):
    return reference.raw_gram(f) / f[..., 0].size


def gatys_pytorch(canvas, content, style, image):
    difference = canvas["relu4_2"] - content["relu4_2"]
    shares = [
        1e3
        / canvas[tap].shape[-1] ** 2
        * np.mean((mean_gram(canvas[tap]) - mean_gram(style[tap])) ** 2)
        for tap in STYLE
    ]
    return np.mean(difference**2), shares, 0.0


def gram(canvas, content, style, image):
    content_loss, shares, _ = gatys_pytorch(canvas, content, style, image)
    smoothness = np.mean(np.diff(image, axis=0) ** 2) + np.mean(np.diff(image, axis=1) ** 2)
    return content_loss, [0.05 * share for share in shares], 1e7 * smoothness


def tf(canvas, content, style, image):
    difference = canvas["relu5_2"] - content["relu5_2"]
    shares = [
        1e-2 / 5 * np.mean((mean_gram(canvas[tap]) - mean_gram(style[tap])) ** 2) for tap in STYLE
    ]
    return 1e4 * np.mean(difference**2), shares, 0.0


def tf_tv(canvas, content, style, image):
    return *tf(canvas, content, style, image)[:2], 30 * reference.total_variation(image)


def coursera_tf2(canvas, content, style, image):
    height, width, channels = canvas["relu5_4"].shape
    difference = canvas["relu5_4"] - content["relu5_4"]
    shares = [40 * 0.2 * reference.paper_style_loss(canvas[tap], style[tap]) for tap in STYLE]
    return 10 * np.sum(difference**2) / (4 * height * width * channels), shares, 0.0


FORMULAS = {
    "gram": gram,
    "gatys-pytorch": gatys_pytorch,
    "tf": tf,
    "tf-tv": tf_tv,
    "coursera-tf2": coursera_tf2,
}


# Presets whose whole runs are compared with independent code elsewhere; of `tf-tv`, not its variation.
COVERED = {"gatys-pytorch", "tf", "tf-tv", "coursera-tf2"}
# `gram` and `tf-tv` have the losses of the first two, and variation besides; torch computes the third.
REPEATED = {"gatys-pytorch", "tf", "coursera-tf2"}


def cost_of(name):
    """Return the marks of a preset's tests."""
    if name in REPEATED:
        return [pytest.mark.long]
    return [pytest.mark.slow] if name in COVERED else []


CASES = [pytest.param(name, marks=cost_of(name)) for name in FORMULAS]


@pytest.fixture(scope="module", params=CASES)
def name(request):
    """Return the presets one by one; pytest runs all tests of one before those of the next."""
    return request.param


def test_the_formulas_are_presets():
    assert set(FORMULAS) <= set(recipes.PRESETS)


@pytest.fixture(scope="module")
def activations(params):
    """Return a function from pixels to NumPy's activations of content, style and image."""

    @cache
    def of(pixels):
        return [
            reference.features(params, reference.pixels(picture, pixels))
            for picture in presets.pictures()
        ]

    return of


def test_a_presets_losses_are_its_sources(name, activations, params64, x64):
    case = presets.case(params64, name)
    pixels = "raw" if name == "coursera-tf2" else "caffe-bgr"
    content, style, canvas = activations(pixels)
    content_loss, shares, tv = FORMULAS[name](canvas, content, style, case.image)
    (_, found), _ = case.value_and_gradient(case.canvas)
    # Float64 throughout; dG cancels some three of its sixteen digits.
    assert_allclose(found.content, content_loss, rtol=1e-10)
    assert_allclose([found.style_layers[tap] for tap in STYLE], shares, rtol=1e-10)
    assert_allclose(found.style, sum(shares), rtol=1e-10)
    assert_allclose(found.tv, tv, rtol=1e-10)
    assert_allclose(found.total, content_loss + sum(shares) + tv, rtol=1e-10)


def test_a_presets_gradient_is_its_finite_difference(name, params64, x64):
    case = presets.case(params64, name)
    _, gradient = case.value_and_gradient(case.canvas)
    noise = np.random.default_rng(1).normal(size=case.canvas.shape)
    direction = noise + gradient / np.std(gradient)  # noise alone would be orthogonal to it
    # 1e-7 of the coordinates' range: few kinks lie within, and rounding costs 1e-16 / 1e-7.
    spacing = 1e-7 * float(np.ptp(case.canvas))
    (above, _), _ = case.value_and_gradient(case.canvas + spacing * direction)
    (below, _), _ = case.value_and_gradient(case.canvas - spacing * direction)
    slope = float(np.vdot(gradient, direction))
    assert_allclose((above - below) / (2 * spacing), slope, rtol=1e-6)


@jax.jit
def total_and_gradient(params, image, style, recipe):
    """Return the loss of a picture against itself and a style, and its gradient."""
    targets = measure(params, image, style, recipe)
    return jax.value_and_grad(lambda x: losses_of(params, x, targets, recipe).total)(image)


def test_the_losses_of_the_pictures_themselves_are_zero_with_a_finite_gradient(params):
    grey = jnp.full((16, 16, 3), 0.5)
    recipe = small.shallow(recipes.TF_TV)

    value, gradient = total_and_gradient(params, grey, grey, recipe)
    assert value == 0
    assert np.array_equal(gradient, np.zeros(grey.shape))


def test_black_pictures_have_finite_losses_and_gradients(params, style):
    recipe = small.shallow(recipes.TF_TV)
    black = jnp.zeros((16, 16, 3))

    value, gradient = total_and_gradient(params, black, style[:16, :16], recipe)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_the_parts_sum_to_the_total(params, content, style):
    recipe = small.shallow(recipes.TF_TV)
    targets = measure(params, content, style, recipe)
    found = losses_of(params, content[::-1], targets, recipe)
    assert found.tv > 0 and found.content > 0 and found.style > 0
    assert_allclose(sum(found.style_layers.values()), found.style, rtol=1e-6)
    assert_allclose(found.content + found.style + found.tv, found.total, rtol=1e-6)


def test_losses_are_the_same_compiled_and_mapped(params, content, style):
    recipe = small.shallow()
    targets = measure(params, content, style, recipe)
    batch = jnp.stack([content, content[::-1]])
    many = jax.jit(jax.vmap(nst.losses_of, in_axes=(None, 0, None, None)))
    mapped = many(params, batch, targets, recipe)
    for row, image in enumerate(batch):
        one = losses_of(params, image, targets, recipe)
        for field in ("total", "style"):
            assert_allclose(getattr(mapped, field)[row], getattr(one, field), rtol=1e-5)
    # At the content itself the content loss is rounding, in both.
    assert mapped.content[0] < 1e-6 * mapped.content[1]


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("image", "said"),
    [
        (
            np.zeros((32, 32), np.float32),
            r"`image`: expected an image \[.*, got shape \[32, 32\]",
        ),
        (np.zeros((32, 32, 3), np.int32), "`image`: expected floating point .* got int32"),
        (np.zeros((2, 32, 32, 3), np.float32), "`image`: expected one image .*`jax.vmap` takes a"),
    ],
)
def test_an_image_of_another_kind_is_refused(params, content, style, image, said):
    targets = nst.measure(params, content, style, nst.recipes.TF)
    with pytest.raises(ValueError, match=f"^{said}"):
        nst.losses_of(params, image, targets, nst.recipes.TF)


def test_targets_of_another_size_are_refused(params, content, style):
    recipe = small.shallow()
    targets = jax.eval_shape(nst.measure, params, content[:16], style, recipe)
    with pytest.raises(
        ValueError, match=r"`image`: its features at relu2_1 have shape \[12, 16, 128\], but those"
    ):
        jax.eval_shape(nst.losses_of, params, content, targets, recipe)


def test_a_tap_may_serve_content_and_style_at_once(params, content, style):
    recipe = small.shallow(
        content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
    )
    targets = measure(params, content, style, recipe)
    found = losses_of(params, content, targets, recipe)
    assert found.content == 0 and list(found.style_layers) == ["relu1_1"]


@pytest.mark.slow
def test_several_content_taps_are_weighted_and_summed(params, content, style):
    taps = ("relu1_1", "relu1_2")

    def content_loss(**terms):
        recipe = small.shallow(**terms)
        targets = measure(params, content, style, recipe)
        return losses_of(params, content[::-1], targets, recipe).content

    both = content_loss(content_taps=taps, content_layer_weights=(2.0, 3.0), content_weight=5.0)
    each = [content_loss(content_taps=(tap,)) for tap in taps]
    assert_allclose(both, 5 * (2 * each[0] + 3 * each[1]), rtol=1e-5)


def test_the_papers_objective_with_average_pooling(params, params64, x64):
    recipe = small.shallow(
        content_loss=losses.CONTENT_HALF_SUM_SQUARE,
        content_weight=1e-3,
        style_weight=1.0,
        tv_weight=0.0,
        style_loss=losses.GRAM_PAPER,
        style_layer_weights=(0.5, 0.5),
    )
    recipe = replace(recipe, network=vgg.Network(pool=layers.average_pool, ceil=True))
    content, style = small.picture("chelsea", 17, 23), small.picture("starry_night", 19, 16)
    image = np.asarray(content, np.float64)[::-1]
    targets = measure(params64, *(jnp.asarray(x, jnp.float64) for x in (content, style)), recipe)
    found = losses_of(params64, jnp.asarray(image), targets, recipe)
    f, p, a = (
        reference.features(
            params, reference.pixels(x), kind="average", ceil=True, deepest="relu2_1"
        )
        for x in (image, content, style)
    )
    assert_allclose(
        found.content, 1e-3 * np.sum((f["relu2_1"] - p["relu2_1"]) ** 2) / 2, rtol=1e-10
    )
    style_loss = sum(reference.paper_style_loss(f[t], a[t]) / 2 for t in ("relu1_1", "relu2_1"))
    assert_allclose(found.style, style_loss, rtol=1e-10)
