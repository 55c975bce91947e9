"""Canvases whose borders meet: in tiles and in bands they give what one piece gives."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import (
    controls,
    dreams,
    losses,
    optimizers,
    picture_sums,
    recipes,
    run_scales,
    texturing,
)
from nst_jax.recipes import starts
from nst_jax.scaling import (
    bands,
    capacity,
    operations,
    plan,
    sharding,
    tile_choice,
    tile_grid,
    tiles,
)
from nst_jax.vgg import layers
from tests import small, test_bands, test_tiles
from tests.test_sharding import simulated
from tests.test_tiles import apart, network, pictures

DEVICES = jax.devices()[:2]
MESH = sharding.mesh_of(DEVICES, axis=sharding.BANDS)
STYLE = small.picture("starry_night", 48, 64)

WRAPPED = network(test_tiles.DEEP, padding=layers.wrap_padded)
HIGHER = network(test_tiles.HIGHER, padding=layers.wrap_padded)
SHALLOW = small.shallow(recipes.GATYS_TEXTURE, steps=2).replace(
    start=starts.MeanNoise(1.0), optimizer=optimizers.Adam(learning_rate=0.02)
)


def as_float64(recipe=WRAPPED, **changes):
    return recipes.as_arrays(network(recipe, **changes), jnp.float64)


def cut_of(shape, recipe, split=None):
    return tile_grid.grid_of(shape, recipe.terms.taps, recipe.network, split)


# --- Tiles compared with the whole picture --------------------------------------------------------

# Shape of the canvas, the network's settings, and which axes are cut: down and across.
CASES = {
    "both sides": ((128, 96), {"tile": 32}, (True, True)),
    "a shorter last core": ((144, 112), {"tile": 32}, (True, True)),
    "the same at higher taps": ((144, 112), {"tile": 32, "recipe": HIGHER}, (True, True)),
    "the width alone": ((48, 160), {"tile": 32}, (False, True)),
    "a height of no multiple of 16": ((101, 128), {"tile": 32}, (False, True)),
    "a width of no multiple of 16": ((128, 101), {"tile": 32, "ceil": True}, (True, False)),
    "average pooling": ((112, 112), {"tile": 32, "pool": layers.average_pool}, (True, True)),
    "computed again": ((96, 96), {"tile": 32, "remat": True}, (True, True)),
}
# One case is cut both ways with a shorter last core; the others differ in one point each.
QUICK = ("the same at higher taps",)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.long) for n in CASES]
)
def test_tiles_are_the_whole_picture(name, params64, x64):
    shape, changes, wraps = CASES[name]
    recipe = as_float64(**changes)
    whole = test_tiles.found(params64, *pictures(*shape), network(recipe, tile=0))
    grid = cut_of(shape, recipe)
    assert (grid.down.wraps, grid.across.wraps) == wraps
    assert grid.count > 1
    assert apart(whole, test_tiles.found(params64, *pictures(*shape), recipe)) < 1e-10


@pytest.mark.long
def test_windows_with_zeros_beyond_the_border_have_other_losses(params64, x64, monkeypatch):
    """The comparisons above notice errors at the picture's border."""
    recipe = as_float64()
    whole = test_tiles.found(params64, *pictures(128, 112), recipe)

    def not_round(image, grid):
        down, across = grid.margins
        return jnp.pad(image, ((down, down), (across, across), (0, 0)))

    monkeypatch.setattr(tiles, "surrounded", not_round)
    cut = test_tiles.found(params64, *pictures(128, 112), network(recipe, tile=32))
    assert apart(whole, cut) > 1e-4


@pytest.mark.parametrize(
    "name", [name for name in losses.VARIATIONS if not name.startswith("nine_point")]
)
def test_every_variation_goes_round_the_border_in_tiles(name, x64):
    variation, (image, *_) = losses.VARIATIONS[name], pictures(80, 70)
    grid = tile_grid.grid_of(
        (80, 70), ["relu1_2"], nst.vgg.Network(tile=16, padding=layers.wrap_padded)
    )
    assert grid.down.wraps and not grid.across.wraps
    wide = tiles.surrounded(image, grid)

    def of_tile(index):
        own = tiles.own_pixels(grid, index)
        window = tiles.window(wide, grid, index)
        return variation.sums(*picture_sums._wrapped(window, own, (True, False)))

    whole = variation.sums(*picture_sums._wrapped(image))
    expected = variation.value(whole, (80, 70))
    assert_allclose(variation.value(tiles.summed(grid, of_tile), (80, 70)), expected, rtol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("tile", [0, 32])
def test_a_cyclic_shift_of_the_canvas_shifts_the_gradient(tile, params64, x64):
    """A shift by a multiple of 16 px that is none of the tile: other windows see other pixels."""
    recipe = as_float64(tile=tile)
    content, canvas, style = pictures(112, 96)
    targets = jax.jit(nst.measure)(params64, jnp.full_like(content, 0.5), style, recipe)
    # A grey content has the same features everywhere, so the whole loss is that of a shifted canvas.
    value_and_gradient = jax.jit(
        jax.value_and_grad(lambda image: nst.losses_of(params64, image, targets, recipe).total)
    )
    value, gradient = value_and_gradient(canvas)
    shifted_value, shifted = value_and_gradient(jnp.roll(canvas, (16, -16), (0, 1)))
    assert_allclose(shifted_value, value, rtol=1e-10)
    difference = np.abs(shifted - jnp.roll(gradient, (16, -16), (0, 1))).max()
    assert np.abs(gradient).max() > 0 and difference < 1e-9 * np.abs(gradient).max()


# --- Geometry -------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [96, 112, 160, 272, 304])
@pytest.mark.parametrize("tile", [32, 48])
def test_windows_go_round_and_hold_their_cores_and_halos(side, tile):
    network_of = nst.vgg.Network(tile=tile, padding=layers.wrap_padded)
    axis = tile_grid.grid_of((side, side), ["relu3_1"], network_of).down
    assert axis.wraps and axis.count > 1
    assert axis.core <= tile and axis.window == axis.core + 2 * axis.halo < side
    owners = np.zeros(side, int)
    for index in range(axis.count):
        origin = int(axis.origin(index))
        assert origin % 16 == 0 and -axis.halo <= origin <= side - axis.core - axis.halo
        own = np.flatnonzero(tiles._own_lines(axis, index)) + origin
        assert origin + axis.halo <= own[0] and own[-1] < origin + axis.window - axis.halo
        owners[own] += 1
    assert_array_equal(owners, 1)


# --- Bands over several devices -------------------------------------------------------------------

BAND_CASES = {
    "bands of full height": ((96, 53), {}),
    "rows of zeros in the last band": ((112, 53), {}),
    "in tiles": ((208, 96), {"tile": 32}),
    "in tiles at higher taps": ((208, 96), {"tile": 32, "recipe": HIGHER}),
    "a last tile without rows": ((144, 96), {"tile": 32}),
    "l2 pooling": ((80, 48), {"pool": layers.l2_pool, "ceil": True}),
}


# The last band has rows of zeros in tiles, too.
QUICK_BANDS = ("in tiles at higher taps",)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name",
    [n if n in QUICK_BANDS else pytest.param(n, marks=pytest.mark.long) for n in BAND_CASES],
)
def test_bands_give_the_losses_of_the_whole_picture(name, params64, x64):
    shape, changes = BAND_CASES[name]
    recipe = as_float64(**changes)
    whole = test_bands.found(params64, *pictures(*shape), network(recipe, tile=0))
    split = bands.bands_of(MESH, shape, recipe.network)
    everywhere = partial(sharding.replicate, mesh=MESH)
    cut = test_bands.found(everywhere(params64), *everywhere(pictures(*shape)), recipe, split)
    assert apart(*jax.tree.map(np.asarray, (whole, cut))) < 1e-10


# That rows are of the other end where a halo is longer than the picture is checked by numbers below.
@pytest.mark.slow
@pytest.mark.parametrize("height", [160, pytest.param(64, marks=pytest.mark.long)])
def test_halos_may_extend_around_the_picture_and_beyond(height):
    """Four bands of 48 rows for 160 rows: the last has 16 rows, and a halo is longer than the rest."""
    simulated(
        f"height = {height}"
        + """
from nst_jax.vgg import layers
from tests import test_bands, test_tiles as t
mesh = sharding.mesh_of("all", axis=sharding.BANDS)
deep = small.shallow(content_taps=("relu4_2",), style_taps=("relu1_1", "relu5_1"), tv_weight=1e3)
deep = t.network(deep, padding=layers.wrap_padded)
shape, images = (height, 48), t.pictures(height, 48)
whole = test_bands.found(params, *images, deep)
there = sharding.replicate((params, images), mesh)
bands = test_bands.bands.bands_of(mesh, shape, deep.network)
split = test_bands.found(there[0], *there[1], deep, bands)
grid = test_bands.tile_grid.grid_of(shape, deep.terms.taps, deep.network, bands)
assert grid.down.wraps and max(grid.reach) > bands.band_height
assert t.apart(*jax.tree.map(np.asarray, (whole, split))) < 1e-5
"""
    )


def test_rows_around_the_picture_are_those_of_its_other_end():
    """By numbers of rows: with rows of zeros in the last band, and a reach longer than the picture."""
    height, above, below = 80, 96, 176
    split = bands.Bands(MESH, height, 48)
    picture = jnp.broadcast_to(jnp.arange(height, dtype=jnp.float32)[:, None, None], (height, 2, 3))

    @jax.jit
    def around(picture):
        padded = bands.with_padding(picture, split)
        on_device = partial(bands.with_neighbours_around, above=above, below=below, bands=split)
        return bands.map_bands(on_device, split, (True,), split_out=True)(padded)

    slabs = np.asarray(around(sharding.replicate(picture, MESH))).reshape(2, -1, 2, 3)
    for device, slab in enumerate(slabs):
        rows = np.arange(device * 48 - above, device * 48 + 48 + below) % height
        assert_array_equal(slab, np.broadcast_to(rows[:, None, None], slab.shape))


# --- Whole runs -----------------------------------------------------------------------------------

SCALES = replace(
    SHALLOW,
    descent=replace(SHALLOW.descent, steps=4, schedule=recipes.CoarseToFine(smallest=48)),
)


def textured(params, recipe=SHALLOW, size="112x96", **options):
    return nst.texture(
        params, STYLE, recipe=recipe, seamless=True, size=size, key=jax.random.key(2), **options
    )


@pytest.mark.parametrize(
    "options",
    [
        {"tile": 32},
        pytest.param({"devices": 2}, marks=pytest.mark.long),
        pytest.param({"devices": 2, "tile": 32}, marks=pytest.mark.long),
    ],
    ids=str,
)
def test_a_texture_from_coarse_to_fine_is_the_same_in_parts(options, params):
    whole = textured(params, SCALES)
    assert_allclose(textured(params, SCALES, **options), whole, rtol=0, atol=1e-5)


def test_another_seed_and_weight_compile_nothing_in_tiles(params, compilations):
    gravel = small.picture("gravel", 48, 64)
    first = textured(params, tile=32)
    before = compilations()
    recipe = SHALLOW.replace(style_weight=3.0, style_layer_weights=(0.3, 0.2))
    other = nst.texture(
        params,
        gravel,
        recipe=recipe,
        seamless=True,
        size="112x96",
        key=jax.random.key(7),
        tile=32,
    )
    assert compilations() == before
    assert np.abs(other - first).max() > 0


def test_masks_and_protected_parts_in_tiles(params):
    content = small.picture("chelsea", 96, 112)
    # Poolings at the border are compared above; Adam compiles in half the time of L-BFGS.
    taps = {"content_taps": ("relu1_2",), "style_taps": ("relu1_1", "relu1_2")}
    recipe = network(small.shallow(steps=3, **taps), padding=layers.wrap_padded)
    recipe = recipe.replace(optimizer=optimizers.Adam(learning_rate=0.02))
    mask, above = np.zeros((2, 96, 112), np.float32)
    mask[:, 60:] = above[:30] = 1
    options = {
        "recipe": recipe,
        "regions": [controls.Region(mask, small.picture("gravel", 40, 48))],
        "protect": controls.Protect(above, 0.5),
    }
    whole = nst.stylize(params, content, STYLE, **options)
    cut = nst.stylize(params, content, STYLE, tile=32, **options)
    assert_allclose(cut, whole, rtol=0, atol=1e-5)


@pytest.mark.long
def test_a_batch_in_tiles_is_the_same(params):
    contents = [small.picture("chelsea", 96, 80), small.picture("gravel", 96, 80)]
    recipe = network(small.shallow(steps=3), padding=layers.wrap_padded)
    whole = nst.stylize_many(params, contents, STYLE, recipe=recipe)
    cut = nst.stylize_many(params, contents, STYLE, recipe=recipe, tile=16)
    assert_allclose(cut, whole, rtol=0, atol=1e-5)


@pytest.mark.optimized
def test_a_dream_in_tiles_is_the_same(params64, x64):
    ascent = dreams.Ascent(
        taps=("relu2_1",), weights=(1.0,), network=nst.vgg.Network(padding=layers.wrap_padded)
    )
    image = pictures(96, 80)[0]
    compute = jax.jit(dreams.ascent._excitement_and_gradient)
    cut = replace(ascent, network=replace(ascent.network, tile=16))
    whole, gradient = compute(params64, image, ascent, None)
    found, of_tiles = compute(params64, image, cut, None)
    assert_allclose([found.total, dreams.excitement(params64, image, cut).total], whole.total)
    assert_allclose(of_tiles, gradient, rtol=1e-9, atol=1e-12 * np.abs(gradient).max())


# --- Sizes, plans, refusals -----------------------------------------------------------------------


def test_coarser_scales_are_multiples_of_16_where_the_finest_is():
    recipe = replace(
        texturing.of_texture(SHALLOW, seamless=True),
        descent=replace(SHALLOW.descent, steps=100, schedule=recipes.GeometricScales(smallest=64)),
    )

    def shapes(shape, recipe):
        return [scale.shape for scale in run_scales.scales_up_to(shape, [(50, 70)], recipe)]

    assert shapes((176, 240), recipe) == [(64, 80), (96, 128), (128, 176), (176, 240)]
    assert [shape[1] for shape in shapes((176, 250), recipe)] == [88, 125, 177, 250]
    plain = network(recipe, padding=layers.zero_padded)
    assert shapes((176, 240), plain)[-2] == (125, 170)
    sizes = [
        scale.style_shapes for scale in run_scales.scales_up_to((176, 240), [(50, 70)], recipe)
    ]
    assert sizes == [
        scale.style_shapes for scale in run_scales.scales_up_to((176, 240), [(50, 70)], plain)
    ]


def test_a_canvas_that_cannot_be_cut_is_refused_with_the_nearest_size(params):
    recipe = network(small.shallow(steps=1), padding=layers.wrap_padded)
    content = small.picture("chelsea", 100, 123)
    with pytest.raises(ValueError, match=r"`tile`: .* got|123x100 px; 128x96 is the nearest"):
        nst.stylize(params, content, STYLE, recipe=recipe, tile=32)
    with pytest.raises(ValueError, match=r"`devices`: .* multiple of 16 px .* got 100; 96 is"):
        nst.stylize(params, content, STYLE, recipe=recipe, devices=2)
    with pytest.raises(ValueError, match=r"`bands`: .* multiple of 16 px .* got 100; 96 is"):
        nst.stylize_many(params, [content] * 2, STYLE, recipe=recipe, devices=2, bands=2)
    # A canvas no longer than a tile with its halos is computed in one piece anyway.
    assert (
        plan.plan_scales(
            network(recipe, tile=112), plan.scales_of_canvas(recipe, (100, 123))
        ).savings
        == []
    )


def test_a_plan_cuts_the_canvas_and_measures_the_style_in_one_piece(monkeypatch):
    recipe = texturing.of_texture(recipes.GATYS_TEXTURE, seamless=True)

    def planned(shape, style, there):
        monkeypatch.setattr(capacity, "available", lambda device=None: round(there * 1e9))
        return plan.plan_scales(recipe, [run_scales.Scale(shape, (style,), 1)])

    assert planned((4096, 3072), (256, 256), 64).recipe.network.tile == 0
    cut = planned((4096, 3072), (256, 256), 16)
    assert cut.recipe.network.tile and cut.savings and cut.fits
    assert cut.footprint.activations < cut.untiled.activations / 3
    with pytest.raises(ValueError, match="`style_size`: .* 8000x8000 px takes .* in one piece"):
        planned((1024, 1024), (8000, 8000), 8)
    with pytest.raises(ValueError, match=r"`size`: 30000x30001 px .* up to (\d+)x(\d+)") as found:
        planned((30001, 30000), (256, 256), 8)
    largest = str(found.value).partition("up to ")[2].partition(" px")[0].split("x")
    assert all(int(side) % 16 == 0 for side in largest)


def test_memory_savers_include_tiles_where_borders_meet():
    meeting = texturing.of_texture(SHALLOW, seamless=True)
    assert len(tile_choice.memory_savers(meeting, 4000, "cpu")) == len(
        tile_choice.memory_savers(SHALLOW, 4000, "cpu")
    )


def test_operations_count_the_halos_on_all_sides():
    """Of two cores, each has a halo on one side only, unless the borders meet."""
    plain = recipes.GATYS_TEXTURE
    cut = [
        operations.update_operations((1536, 1536), network(recipe, tile=1024), "cpu")
        for recipe in (plain, network(plain, padding=layers.wrap_padded))
    ]
    assert 1 < cut[1] / cut[0] < 1.2
