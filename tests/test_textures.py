"""`texture`: pictures without content, of any size, with borders that meet."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, optimizers, picture_sums, planned_painting, recipes, texturing
from nst_jax.recipes import sizes, starts
from nst_jax.vgg import layers
from tests import small
from tests.shell import caller, pixels, refused, write_pictures

STYLE = small.picture("starry_night", 48, 64)

# Three convolutions deep, with a pooling, and quick to optimise.
SHALLOW = small.shallow(recipes.GATYS_TEXTURE, steps=2)
SHALLOW = SHALLOW.replace(start=starts.MeanNoise(1.0))


def seamless(recipe):
    return texturing.of_texture(recipe, seamless=True)


# --- Borders that meet ----------------------------------------------------------------------------


def test_wrapped_convolution_by_brute_force(x64):
    x, kernel = small.noise(0, 1, 4, 5, 3), small.noise(1, 3, 3, 3, 2)
    expected = np.zeros((1, 4, 5, 2))
    for row, column, down, across in np.ndindex(4, 5, 3, 3):
        pixel = np.asarray(x)[0, (row + down - 1) % 4, (column + across - 1) % 5]
        expected[0, row, column] += pixel @ np.asarray(kernel)[down, across]
    assert_allclose(layers.wrap_padded(x, kernel), expected, rtol=1e-12)


@pytest.mark.torch
def test_wrapped_convolution_is_that_of_torch(torch, x64):
    x, kernel = small.noise(0, 2, 6, 8, 3), small.noise(1, 3, 3, 3, 4)
    convolve = torch.nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular", bias=False).double()
    weights = torch.tensor(np.asarray(kernel)).permute(3, 2, 0, 1)
    convolve.weight = torch.nn.Parameter(weights, requires_grad=False)
    found = convolve(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    assert_allclose(layers.wrap_padded(x, kernel), found.numpy(), rtol=1e-10)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "pool", [layers.average_pool, pytest.param(layers.max_pool, marks=pytest.mark.long)]
)
def test_a_cyclic_shift_of_the_canvas_shifts_the_gradient(params64, x64, pool):
    """The deepest tap, relu4_4, lies behind three poolings, so 16 px are two of its positions."""
    variant = recipes.GATYS_TEXTURE.replace(
        tv_weight=1e-3, variation=losses.TOTAL_VARIATION, pool=pool
    )
    recipe = recipes.as_arrays(seamless(variant).bare(), jnp.float64)
    canvas = jnp.asarray(small.picture("chelsea", 48, 64), jnp.float64)
    style = jnp.asarray(small.picture("starry_night", 32, 32), jnp.float64)
    targets = jax.jit(nst.measure)(params64, jnp.full_like(canvas, 0.5), style, recipe)

    @jax.jit
    def value_and_gradient(image):
        return jax.value_and_grad(
            lambda image: nst.losses_of(params64, image, targets, recipe).total
        )(image)

    value, gradient = value_and_gradient(canvas)
    assert np.abs(gradient).max() > 0
    shifted_value, shifted = value_and_gradient(jnp.roll(canvas, (16, -16), (0, 1)))
    assert_allclose(shifted_value, value, rtol=1e-10)
    difference = np.abs(shifted - jnp.roll(gradient, (16, -16), (0, 1))).max()
    assert difference < 1e-9 * np.abs(gradient).max()


def test_without_wrapping_a_shift_changes_the_loss(params, content):
    recipe = SHALLOW
    canvas = jnp.asarray(small.picture("chelsea", 32, 32))
    targets = jax.jit(nst.measure)(params, canvas, jnp.asarray(STYLE), recipe)
    losses_of = jax.jit(nst.losses_of)
    value = losses_of(params, canvas, targets, recipe).style
    shifted = losses_of(params, jnp.roll(canvas, 16, 0), targets, recipe).style
    assert abs(shifted / value - 1) > 1e-4


@pytest.mark.parametrize(
    ("variation", "function"),
    [
        (losses.TOTAL_VARIATION, lambda down, right: np.abs(down).sum() + np.abs(right).sum()),
        (losses.SQUARE_VARIATION, lambda down, right: (down**2).sum() + (right**2).sum()),
        (losses.POWER_VARIATION, lambda down, right: ((down**2 + right**2) ** 1.25).sum()),
    ],
)
def test_variation_goes_round_the_border(x64, variation, function):
    image = small.noise(3, 5, 7, 3)
    value = variation.value(variation.sums(*picture_sums._wrapped(image)), (5, 7))
    plain = np.asarray(image)
    expected = function(np.roll(plain, -1, 0) - plain, np.roll(plain, -1, 1) - plain)
    assert_allclose(value, expected, rtol=1e-12)


def seams(image):
    """Return how much opposite borders differ, in units of the difference of inner neighbours."""
    image = np.asarray(image, np.float64)
    down, across = np.abs(np.diff(image, axis=0)), np.abs(np.diff(image, axis=1))
    return (
        np.abs(image[0] - image[-1]).mean() / down.mean(),
        np.abs(image[:, 0] - image[:, -1]).mean() / across.mean(),
    )


def test_the_borders_of_the_result_meet(params):
    style = nst.images.sample("starry_night")
    recipe = SHALLOW.replace(
        style_taps=("relu1_1", "relu1_2", "relu2_2"), style_layer_weights=(1.0, 1.0, 1.0), steps=40
    )
    options = {"recipe": recipe, "size": "48x32", "style_size": 96}
    meeting = seams(nst.texture(params, style, seamless=True, **options))
    apart = seams(nst.texture(params, style, **options))
    assert max(meeting) < 1.35
    assert min(apart) > max(meeting) and max(apart) > 2 * max(meeting)


def test_a_variation_that_repeats_the_border_is_refused_where_borders_meet(params):
    with pytest.raises(ValueError, match="`variation`: nine_point_variation repeats the border"):
        nst.texture(params, STYLE, recipe=recipes.CROWSONKB, seamless=True)


# --- Textures -------------------------------------------------------------------------------------


# The others do the same with other numbers; they are tried before a release.
OFTEN = ("default", "gram", "gatys-texture", "tf", "nnst")


@pytest.mark.parametrize(
    "name",
    [
        name if name in OFTEN else pytest.param(name, marks=pytest.mark.long)
        for name in recipes.PRESETS
    ],
)
def test_every_recipe_makes_textures(name):
    recipe = texturing.of_texture(recipes.PRESETS[name])
    assert isinstance(recipe.pictures.start, texturing.NOISE)
    assert recipe.terms.content_weight == 0
    assert recipe.terms.style_parts == recipes.PRESETS[name].terms.style_parts
    assert recipe.descent == recipes.PRESETS[name].descent


def test_constants_of_the_source():
    """leongatys/DeepTextures, Example.ipynb: five equal weights, m = 20, 2000 updates, 256 px."""
    recipe = recipes.GATYS_TEXTURE
    assert len(recipe.terms.style_taps) == 5 and set(recipe.terms.style_layer_weights) == {1.0}
    assert recipe.descent.steps == 2000 and recipe.descent.optimizer.history == 20
    assert recipe.pictures.size.shape(512, 512) == (256, 256)
    assert recipe.network.pool is layers.average_pool
    assert (
        texturing.of_texture(recipe).replace(content_loss=recipe.terms.content_loss).terms
        == recipe.terms
    )


@pytest.mark.parametrize(
    ("size", "meets", "expected"),
    [
        (None, False, (222, 296)),
        (None, True, (224, 304)),
        (64, True, (64, 64)),
        ("64", False, (64, 64)),
        ("100x50", False, (50, 100)),
        ("96x48", True, (48, 96)),
    ],
)
def test_sizes(size, meets, expected):
    recipe = texturing.of_texture(recipes.GATYS_TEXTURE, seamless=meets)
    assert texturing.canvas_shape(size, (300, 400), recipe) == expected


@pytest.mark.parametrize(
    ("size", "meets", "message"),
    [
        ("wide", False, "`size`: expected WIDTHxHEIGHT such as 1024x512"),
        ("long:512", False, "`size`: expected WIDTHxHEIGHT"),
        (8, False, "`size`: expected 16 to 65536, got 8"),
        ("100x50", True, "multiples of 16 px .* got 100x50; 96x48 is the nearest"),
    ],
)
def test_bad_sizes_are_refused(params, size, meets, message):
    with pytest.raises(ValueError, match=message):
        nst.texture(params, STYLE, recipe=SHALLOW, size=size, seamless=meets)


def test_the_style_keeps_its_size_whatever_that_of_the_texture():
    recipe = texturing.with_canvas_as_it_is(texturing.of_texture(recipes.GATYS_TEXTURE))
    canvas, style = nst.run_scales.final_shapes((1024, 512), (300, 400), recipe)
    assert canvas == (1024, 512) and style == sizes.Area(256).shape(300, 400)


def test_the_key_decides_on_the_texture(params):
    options = {"recipe": SHALLOW, "size": "32x48"}
    one = nst.texture(params, STYLE, key=jax.random.key(3), **options)
    assert one.shape == (48, 32, 3) and float(one.min()) >= 0 and float(one.max()) <= 1
    assert_array_equal(nst.texture(params, STYLE, key=jax.random.key(3), **options), one)
    other = nst.texture(params, STYLE, key=jax.random.key(4), **options)
    assert np.abs(other - one).max() > 0


def test_the_texture_comes_to_have_the_styles_statistics(params):
    recipe = SHALLOW.replace(
        optimizer=optimizers.LBFGS(radius=0.02, largest_radius=0.2, slack=0.1, history=10), steps=30
    )
    shots = nst.paint(
        params,
        texturing.blank((32, 32)),
        STYLE,
        recipe=texturing.with_canvas_as_it_is(texturing.of_texture(recipe)),
        every=30,
    )
    first, last = list(shots)
    assert float(last.losses.style) < 0.02 * float(first.losses.style)
    assert float(last.losses.total) == float(last.losses.style)


# --- Command line ---------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(art=(60, 40))
    tiny = replace(
        SHALLOW, name="tiny", pictures=replace(SHALLOW.pictures, size=sizes.LongEdge(48))
    )
    monkeypatch.setitem(recipes.PRESETS, "tiny", tiny)
    return caller(capsys, "texture")


RUN = ("--recipe", "tiny", "--steps", "2", "--no-cache")


def test_the_command_paints_what_python_paints(call, params):
    words = ("--size", "48x32", "--seed", "3", "--tile-seamless", "--style-scale", "0.9")
    code, out, err = call("art.png", *RUN, *words)
    assert code == 0, err
    assert out == "art_texture.png\n"
    image = nst.texture(
        params,
        nst.images.load("art.png"),
        size="48x32",
        key=jax.random.key(3),
        seamless=True,
        style_scale=0.9,
        recipe=recipes.named("tiny"),
        steps=2,
    )
    assert_allclose(nst.images.load("art_texture.png"), image, atol=0.51 / 255)


@pytest.mark.long
def test_tiles_and_devices_of_the_command_give_the_same_texture(call, monkeypatch):
    plans, paint = [], planned_painting.paint_planned

    def planned(params, content, style, plan, **options):
        plans.append((plan.recipe.network.tile, plan.devices))
        return paint(params, content, style, plan, **options)

    monkeypatch.setattr(planned_painting, "paint_planned", planned)
    words = ("art.png", *RUN, "--size", "64x48", "--tile-seamless", "-q")
    assert call(*words, "-o", "whole.png")[0] == 0
    code, _, told = call(*words, "--tile", "32", "--devices", "2", "-o", "parts.png")
    assert code == 0, told
    assert plans[1] == (32, 2) and plans[0][1] == 1
    assert np.abs(pixels("parts.png").astype(int) - pixels("whole.png")).max() <= 1


def test_settings_are_embedded_and_runs_resume(call, capsys):
    keep = ("--checkpoint", "run.h5", "--size", "32", "-q")
    assert call("art.png", *RUN, *keep, "-o", "a.png")[0] == 0
    assert call("art.png", *RUN[:3], "4", "--no-cache", *keep, "--resume", "-o", "b.png")[0] == 0
    assert call("art.png", *RUN[:3], "4", "--no-cache", "--size", "32", "-q", "-o", "c.png")[0] == 0
    assert_array_equal(pixels("b.png"), pixels("c.png"))
    info = caller(capsys, "info")
    facts = json.loads(info("a.png", "--json")[1])
    assert facts["size"] == [32, 32] and facts["settings"]["terms.content_weight"] == 0
    assert facts["inputs"]["content"]["name"] == "blank 32x32"
    assert facts["settings"]["network.padding"] == "zero_padded"


def test_bad_input(call):
    refused(call("art.png", "--size", "wide"), "`--size`: expected WIDTHxHEIGHT")
    refused(call("art.png", "--size", "50x50", "--tile-seamless"), "`--size`", "48x48")
    refused(call("none.png"), "`STYLE`", "none.png")
    refused(call(), "`STYLE`: is missing")
    refused(call("art.png", "--tile-seamless", "--recipe", "crowsonkb"), "nine_point_variation")
    refused(call("art.png", "-o", "art.png"), "`--output`")
