"""Tiles give what the whole picture gives: statistics, losses, gradient, pictures."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import losses, recipes, run_scales, vgg
from nst_jax.scaling import capacity, tile_grid, tiles
from nst_jax.scaling.plan import plan_scales
from nst_jax.vgg import layers, precision
from tests import small

DEEP = small.shallow(content_taps=("relu3_1",), style_taps=("relu1_1", "preact3_2"), tv_weight=1e3)
# Taps behind one pooling instead of two compile in half the time.
HIGHER = DEEP.replace(content_taps=("relu2_1",), style_taps=("relu1_1", "preact2_1"))


def network(recipe, **changes):
    return replace(recipe, network=replace(recipe.network, **changes))


@partial(jax.jit, static_argnames="gradient")
def found(params, image, content, style, recipe, gradient=True):
    """Return targets, losses and the gradient to the image."""
    targets = nst.measure(params, content, style, recipe)

    def total(image):
        result = nst.losses_of(params, image, targets, recipe)
        return result.total, result

    return targets, *jax.value_and_grad(total, has_aux=True)(image)


def apart(one, other):
    """Return the largest distance of two trees' leaves in the L2 norm, relative."""
    distances = jax.tree.map(
        lambda a, b: float(jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(a), 1e-30)),
        one,
        other,
    )
    return max(jax.tree.leaves(distances))


def pictures(height, width, style=(70, 53)):
    rng = np.random.default_rng(0)
    shapes = (height, width, 3), (height, width, 3), (*style, 3)
    return [jnp.asarray(rng.random(shape)) for shape in shapes]


# --- Compared with the whole picture --------------------------------------------------------------

CASES = {
    "even": ((128, 96), 32, {}),
    "odd sides": ((129, 111), 32, {}),
    "odd sides kept by the pooling": ((131, 101), 32, {"ceil": True}),
    "average pooling": ((115, 87), 32, {"pool": layers.average_pool, "ceil": True}),
    "repeated border in the first layer": (
        (131, 101),
        32,
        {"padding": layers.replicate_first, "pool": layers.scaled_average_pool},
    ),
    "l2 pooling": (
        (131, 101),
        32,
        {"padding": layers.replicate_first, "pool": layers.l2_pool, "ceil": True},
    ),
    "mirrored border": ((99, 118), 32, {"padding": layers.reflect_padded}),
    "one long side": ((40, 203), 32, {}),
    "computed again": ((96, 97), 32, {"remat": True}),
}


QUICK = ("l2 pooling",)
# The others have odd sides, too; canvases that are cut one way only are compared in `test_bands.py`.
# Two have their borders at shallow taps below.
REPEATED = (
    *("even", "odd sides", "odd sides kept by the pooling", "one long side", "average pooling"),
    *("mirrored border", "repeated border in the first layer"),
    "computed again",
)
COST = dict.fromkeys(REPEATED, pytest.mark.long) | dict.fromkeys(QUICK, ())


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=COST.get(n, pytest.mark.slow)) for n in CASES]
)
def test_tiles_are_the_whole_picture(name, params64, x64):
    shape, tile, changes = CASES[name]
    recipe = recipes.as_arrays(network(DEEP, **changes), jnp.float64)
    whole = found(params64, *pictures(*shape), recipe)
    cut = network(recipe, tile=tile)
    assert tile_grid.grid_of(shape, recipe.terms.taps, cut.network).count > 3
    assert apart(whole, found(params64, *pictures(*shape), cut)) < 1e-10


@pytest.mark.optimized
def test_a_mirrored_border_with_activations_computed_again_in_tiles(params64, x64):
    changes = {"padding": layers.reflect_padded, "pool": layers.scaled_average_pool, "remat": True}
    recipe = recipes.as_arrays(network(HIGHER, **changes), jnp.float64)
    cut = network(recipe, tile=16)
    assert tile_grid.grid_of((75, 61), recipe.terms.taps, cut.network).count > 3
    whole = found(params64, *pictures(75, 61), recipe)
    assert apart(whole, found(params64, *pictures(75, 61), cut)) < 1e-10


STYLE_LOSSES = sorted(item for item in losses.STYLE_LOSSES.items() if item[1].additive)
CONTENT_LOSSES = sorted(item for item in losses.CONTENT_LOSSES.items() if item[1].additive)
QUICK = ("gram_by_image", "wasserstein_relative")
# Other Gram losses differ in a factor.
OTHERS = dict.fromkeys(
    ("gram_paper", "mean_and_covariance", "wasserstein_absolute"), pytest.mark.slow
)


@pytest.mark.optimized
@pytest.mark.parametrize(
    ("style_loss", "content_loss"),
    [
        pytest.param(
            STYLE_LOSSES[i][0],
            CONTENT_LOSSES[i % len(CONTENT_LOSSES)][0],
            marks=[]
            if STYLE_LOSSES[i][0] in QUICK
            else [OTHERS.get(STYLE_LOSSES[i][0], pytest.mark.long)],
        )
        for i in range(len(STYLE_LOSSES))
    ],
)
def test_every_additive_loss_is_a_sum_over_tiles(style_loss, content_loss, params64, x64):
    terms = {
        "style_loss": losses.STYLE_LOSSES[style_loss],
        "content_loss": losses.CONTENT_LOSSES[content_loss],
    }
    # Where poolings lie between the taps is compared above.
    shallow = small.shallow(content_taps=("relu1_2",), style_taps=("relu1_1", "relu1_2"), **terms)
    recipe = recipes.as_arrays(shallow, jnp.float64)
    whole = found(params64, *pictures(75, 70), recipe)
    assert apart(whole, found(params64, *pictures(75, 70), network(recipe, tile=16))) < 1e-10


@pytest.mark.long
@pytest.mark.parametrize("name", ["default", "gatys-2015"])
def test_presets_in_tiles_to_a_hundred_thousandth_in_float32(name, params):
    recipe = recipes.as_arrays(recipes.named(name).bare())
    images = [image.astype(jnp.float32) for image in pictures(305, 299, (170, 301))]
    whole = found(params, *images, recipe)
    cut = found(params, *images, network(recipe, tile=128))
    assert apart(whole[0].style, cut[0].style) < 1e-5
    assert_allclose(cut[1][0], whole[1][0], rtol=1e-5)
    assert apart(whole[2], cut[2]) < 1e-5


@pytest.mark.long
def test_bfloat16_in_tiles(params):
    recipe = recipes.as_arrays(network(DEEP, precision=precision.BFLOAT16))
    images = [image.astype(jnp.float32) for image in pictures(129, 111)]
    whole, cut = found(params, *images, recipe), found(params, *images, network(recipe, tile=32))
    # Features are the same bits; float32 sums and the Gram gradient's bfloat16 round differently.
    assert_allclose(cut[1][0], whole[1][0], rtol=1e-4)
    assert apart(whole[2], cut[2]) < 2e-2


@pytest.mark.parametrize("name", losses.VARIATIONS)
def test_every_variation_is_a_sum_over_tiles(name, x64):
    variation, (image, *_) = losses.VARIATIONS[name], pictures(83, 70)
    grid = tile_grid.grid_of((83, 70), ["relu1_2"], vgg.Network(tile=16))

    def of_tile(index):
        window = tiles.window(image, grid, index)
        return variation.sums(window, tiles.own_pixels(grid, index))

    value = variation.value(tiles.summed(grid, of_tile), (83, 70))
    assert_allclose(value, variation(image), rtol=1e-12)


@pytest.mark.optimized
def test_tiles_without_halos_have_other_losses(params64, x64, monkeypatch):
    """The comparisons above notice errors at a tile's edge."""
    recipe = recipes.as_arrays(DEEP, jnp.float64)
    whole = found(params64, *pictures(128, 96), recipe)
    monkeypatch.setattr(tile_grid, "halo_of", lambda taps: 0)
    # A tile size that no other test uses, so that it is traced anew.
    assert apart(whole, found(params64, *pictures(128, 96), network(recipe, tile=64))) > 1e-4


# --- Geometry -------------------------------------------------------------------------------------


@pytest.mark.optimized
@pytest.mark.parametrize(
    "tap", ["relu2_2", *(pytest.param(f"relu{b}_1", marks=pytest.mark.slow) for b in (1, 4))]
)
def test_the_halo_is_what_a_feature_sees(tap, params64, x64):
    """By the gradient of one feature: nothing beyond the halo, something at the radius."""
    side = 128
    block = int(tap[4])
    stride, middle = 2 ** (block - 1), side // 2 // 2 ** (block - 1)

    def feature(image):
        ones = nst.Params(
            {
                name: {k: jnp.abs(v) for k, v in layer.items()}
                for name, layer in params64.layers.items()
            },
            params64.family,
            "raw",
        )
        pool = vgg.Network(pool=layers.average_pool)  # all of a window's pixels count
        return nst.features(ones, image, [tap], network=pool)[tap][middle, middle].sum()

    seen = jax.jit(jax.grad(feature))(jnp.ones((side, side, 3)))
    lines = np.flatnonzero(np.abs(np.asarray(seen)).sum(axis=(1, 2)))
    first, last = middle * stride, middle * stride + stride - 1
    radius = first - lines.min()
    assert lines.max() - last == radius
    assert radius <= vgg.halo_of([tap]) < radius + 16


@pytest.mark.parametrize("side", [97, 131, 160, 257, 300])
@pytest.mark.parametrize("tile", [32, 48])
def test_windows_stay_inside_and_hold_their_cores_and_halos(side, tile):
    axis = tile_grid.grid_of((side, side), ["relu3_1"], vgg.Network(tile=tile)).down
    assert axis.halo == 16 and axis.count > 1
    assert (axis.count - 1) * axis.core < side <= axis.count * axis.core
    for index in range(axis.count):
        origin = int(axis.origin(index))
        first, last = index * axis.core, min(side, (index + 1) * axis.core)
        assert origin % 16 == 0
        assert 0 <= origin <= max(0, first - axis.halo)
        assert min(side, last + axis.halo) <= origin + axis.window <= side


@pytest.mark.parametrize(
    ("side", "core", "window"),
    [
        (4096, 2048, 2144),  # of two, each has a halo on one side
        (2256, 1136, 1232),  # as wide as the other, not 2048 and 208
        (4288, 2144, 2240),  # no wider than a tile between two halos
        (4304, 1440, 1632),  # three: what they need, on the grid
        (4303, 1440, 1647),  # the last ends with the picture
        (8192, 2048, 2240),
    ],
)
def test_cores_are_of_one_size_and_windows_no_larger_than_they_need(side, core, window):
    axis = tile_grid.grid_of((side, side), recipes.TF.terms.taps, vgg.Network(tile=2048)).across
    assert (axis.halo, axis.core, axis.window) == (96, core, window)


def test_no_window_is_larger_than_a_tile_and_its_halos():
    for side in range(2256, 9000, 37):
        axis = tile_grid.grid_of((side, side), recipes.TF.terms.taps, vgg.Network(tile=2048)).across
        assert axis.window < 2048 + 2 * 96 + 16, side
        assert axis.count <= -(-side // 2048), side


def test_a_picture_no_larger_than_a_tile_is_whole():
    taps = DEEP.terms.taps
    assert tile_grid.grid_of((64, 48), taps, vgg.Network(tile=64)) is None
    assert tile_grid.grid_of((640, 480), taps, vgg.Network()) is None
    # The halos reach all of it.
    assert tile_grid.grid_of((100, 90), taps, vgg.Network(tile=64)) is None


# --- Whole runs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [
        pytest.param(recipes.GRAM, marks=pytest.mark.long),
        pytest.param(recipes.TF, marks=pytest.mark.long),
    ],  # a batch has the first, below
    ids=lambda r: r.name,
)
def test_a_picture_painted_in_tiles_is_the_same(recipe, params):
    content, style = small.picture("chelsea", 100, 90), small.picture("starry_night", 64, 60)
    recipe = small.shallowest(recipe, steps=3)
    whole, cut = (
        nst.stylize(params, content, style, recipe=recipe, tile=tile) for tile in ("off", 32)
    )
    assert_allclose(cut, whole, rtol=0, atol=2e-4)


def test_a_batch_painted_in_tiles_is_the_same(params):
    contents = [small.picture("chelsea", 90, 80), small.picture("gravel", 90, 80)]
    style, recipe = small.picture("starry_night", 64, 60), small.shallowest(steps=3)
    single = [nst.stylize(params, content, style, recipe=recipe) for content in contents]
    together = nst.stylize_many(params, contents, style, recipe=recipe, tile=16)
    assert_allclose(together, np.stack(single), rtol=0, atol=2e-4)


def test_gradients_to_the_weights_are_refused_where_an_image_is_cut(params64, x64):
    image, content, style = pictures(75, 70)
    recipe = network(recipes.as_arrays(small.shallow(), jnp.float64), tile=16)
    targets = nst.measure(params64, content, style, recipe)
    with pytest.raises(NotImplementedError, match="only the gradient to the image is defined"):
        jax.grad(lambda p: nst.losses_of(p, image, targets, recipe).total)(params64)


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (100, "expected a multiple of 16 px, got 100; 96 is the nearest"),
        (64, "`tile`: expected 80 or more, got 64"),
        (-16, "`tile`: expected 80 or more, got -16"),
        (
            "large",
            "`tile`: expected 'auto', 'off' or a number of pixels such as 512, got 'large'",
        ),
    ],
)
def test_what_is_no_tile_is_refused(tile, message, params):
    content = small.picture("chelsea", 48, 48)
    with pytest.raises((TypeError, ValueError), match=message):
        nst.stylize(params, content, content, tile=tile)


# --- Tiles chosen by the available memory ---------------------------------------------------------


def settled(monkeypatch, there, shape=(4000, 3000), recipe=recipes.DEFAULT):
    monkeypatch.setattr(capacity, "available", lambda device=None: there)
    return plan_scales(recipe, [run_scales.Scale(shape, (shape,), 1)]).recipe.network.tile


def test_a_canvas_is_cut_only_where_memory_asks_and_no_finer_than_it_asks(monkeypatch):
    found = [settled(monkeypatch, round(there * 1e9)) for there in (64, 16, 8, 6.5)]
    assert found[0] == 0
    assert found[1] > found[2] > found[3] > 0
    assert settled(monkeypatch, None) == 0


def test_a_large_style_is_cut_though_the_canvas_is_small(monkeypatch):
    monkeypatch.setattr(capacity, "available", lambda device=None: 8 * 10**9)
    scale = run_scales.Scale((100, 100), ((6000, 6000),), 1)
    assert plan_scales(recipes.GRAM, [scale]).recipe.network.tile == 2048


def test_a_tile_that_was_asked_for_is_taken(monkeypatch):
    for tile in (0, 256):
        assert settled(monkeypatch, 10**9, recipe=network(recipes.DEFAULT, tile=tile)) == tile


def test_a_canvas_that_fits_in_no_way_is_refused_with_the_largest_that_would(monkeypatch):
    with pytest.raises(
        ValueError, match=r"`size`: 3000x4000 px takes .* up to (\d+)x(\d+) px fits"
    ):
        settled(monkeypatch, 10**9)


def test_memory_of_tiles_is_set_by_the_tile():
    def activations(side, tile):
        recipe = network(recipes.DEFAULT, tile=tile)
        return nst.estimate_memory((side, side), recipe=recipe, platform="cpu").activations

    assert activations(4096, 512) == activations(8192, 512)
    assert activations(4096, 512) < activations(4096, 0) / 20
