"""A canvas in bands over several devices has the same losses, gradient and pictures as on one."""

import re
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from nst_jax import optimizers, planned_painting, recipes
from nst_jax.scaling import bands, footprint, sharding, tile_grid
from nst_jax.vgg import layers
from tests import small
from tests.test_sharding import simulated
from tests.test_tiles import DEEP, HIGHER, apart, network, pictures

DEVICES = jax.devices()[:2]
MESH = sharding.mesh_of(DEVICES, axis=sharding.BANDS)


@jax.jit
def found(params, image, content, style, recipe, split=None):
    """Return style targets, losses and the gradient to the picture, with the canvas split in bands."""
    targets = nst.measure(params, content, style, recipe, bands=split)

    def total(image):
        canvas = bands.with_padding(image, split)
        result = nst.losses_of(params, canvas, targets, recipe, bands=split)
        return result.total, result

    return targets.style, *jax.value_and_grad(total, has_aux=True)(image)


def over_devices(recipe, shape):
    return bands.bands_of(MESH, shape, recipe.network)


def everywhere(tree):
    return sharding.replicate(tree, MESH)


# --- Against one device ---------------------------------------------------------------------------

CASES = {
    "odd sides": ((131, 53), {}),
    "odd sides kept by the pooling": ((147, 45), {"ceil": True}),
    "average pooling": ((99, 40), {"pool": layers.average_pool, "ceil": True}),
    "repeated border in the first layer": (
        (131, 53),
        {"padding": layers.replicate_first, "pool": layers.scaled_average_pool},
    ),
    "l2 pooling": (
        (131, 53),
        {"padding": layers.replicate_first, "pool": layers.l2_pool, "ceil": True},
    ),
    "mirrored border": ((131, 53), {"padding": layers.reflect_padded}),
    "in tiles": ((203, 85), {"tile": 32}),
    "a last tile without rows": ((130, 40), {"tile": 32}),
    "l2 pooling at higher taps": (
        (131, 53),
        {"padding": layers.replicate_first, "pool": layers.l2_pool, "ceil": True},
    ),
    "a last tile without rows at higher taps": ((130, 40), {"tile": 32}),
}
QUICK = ("in tiles",)
# The other poolings keep odd sides, too, and `in tiles` has odd sides; averages over windows are scaled
# in `repeated border in the first layer`.
REPEATED = (
    *("odd sides", "odd sides kept by the pooling", "average pooling"),
    *("repeated border in the first layer", "mirrored border"),  # `l2 pooling` has the first, too
    *("l2 pooling", "a last tile without rows"),  # behind two poolings instead of one
)


@pytest.mark.optimized
@pytest.mark.parametrize(
    "name",
    [
        *QUICK,
        *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n not in QUICK + REPEATED),
        *(pytest.param(n, marks=pytest.mark.long) for n in REPEATED),
    ],
)
def test_bands_give_the_losses_of_the_whole_picture(name, params64, x64):
    shape, changes = CASES[name]
    higher = name.endswith("at higher taps")
    recipe = recipes.as_arrays(network(HIGHER if higher else DEEP, **changes), jnp.float64)
    whole = found(params64, *pictures(*shape), network(recipe, tile=0))
    split = found(
        everywhere(params64), *everywhere(pictures(*shape)), recipe, over_devices(recipe, shape)
    )
    assert apart(*jax.tree.map(np.asarray, (whole, split))) < 1e-10


@pytest.mark.slow
def test_halos_may_extend_beyond_the_next_device():
    simulated("""
from tests import test_bands, test_tiles as t
mesh = sharding.mesh_of("all", axis=sharding.BANDS)
deep = small.shallow(content_taps=("relu4_2",), style_taps=("relu1_1", "relu5_1"), tv_weight=1e3)
shape, images = (203, 40), t.pictures(203, 40)
whole = test_bands.found(params, *images, deep)
there = sharding.replicate((params, images), mesh)
bands = test_bands.bands.bands_of(mesh, shape, deep.network)
split = test_bands.found(there[0], *there[1], deep, bands)
grid = test_bands.tile_grid.grid_of(shape, deep.terms.taps, deep.network, bands)
assert max(grid.reach) > 2 * bands.band_height
assert t.apart(*jax.tree.map(np.asarray, (whole, split))) < 1e-5
""")


# --- Whole runs -----------------------------------------------------------------------------------

OPTIMIZERS = {
    "adam": optimizers.Adam(learning_rate=0.02),
    "keras' adam": optimizers.KerasAdam(learning_rate=0.02),
    "torch's l-bfgs": optimizers.TorchLBFGS(),
    "l-bfgs": optimizers.LBFGS(),
    "l-bfgs over levels": optimizers.LBFGS(levels=3),
}


@pytest.mark.parametrize(
    "rule",
    [name if name == "adam" else pytest.param(name, marks=pytest.mark.long) for name in OPTIMIZERS],
)
def test_several_devices_paint_the_picture_of_one(rule, params):
    # TorchLBFGS takes full steps without a line search, so a difference of 1e-7 in the content grows
    # to 1e-3 in the fourth canvas.
    recipe = small.shallow(steps=2 if rule == "torch's l-bfgs" else 4)
    descent = replace(recipe.descent, optimizer=OPTIMIZERS[rule], clip=False)
    recipe = replace(recipe, descent=descent)
    content, style = small.picture("chelsea", 75, 40), small.picture("gravel", 30, 40)
    one = nst.stylize(params, content, style, recipe=recipe)
    split = nst.stylize(params, content, style, recipe=recipe, devices=DEVICES)
    assert split.shape == one.shape
    assert len(split.devices()) == 1
    assert_allclose(split, one, rtol=0, atol=1e-5)


@pytest.mark.long
def test_scales_and_tiles_in_bands(params):
    content, style = small.picture("chelsea", 150, 100), small.picture("gravel", 90, 120)
    schedule = recipes.CoarseToFine(smallest=64)
    recipe = small.shallow(steps=6)
    recipe = replace(recipe, descent=replace(recipe.descent, schedule=schedule))
    one = nst.stylize(params, content, style, recipe=recipe, size="as-is")
    split = nst.stylize(params, content, style, recipe=recipe, size="as-is", devices=2, tile=32)
    assert_allclose(split, one, rtol=0, atol=2e-5)


@pytest.mark.optimized
def test_a_step_exchanges_rows_and_sums_but_gathers_nothing(params):
    texts, run = [], planned_painting.PROGRAMS.run

    def spied(*arguments, **options):
        texts.append(run.lower(*arguments, **options).compile().as_text())
        raise InterruptedError  # it need not be compiled once more

    recipe = small.shallow(steps=1)
    content, style = small.picture("chelsea", 75, 40), small.picture("gravel", 30, 40)
    plan = nst.plan(content, style, recipe=recipe, devices=DEVICES)
    shots = planned_painting.paint_planned(
        params,
        content,
        style,
        plan,
        init=None,
        key=None,
        every=1,
        programs=planned_painting.PROGRAMS._replace(run=spied),
    )
    with pytest.raises(InterruptedError):
        next(shots)
    said = set(
        re.findall(
            r"\b(all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter)(?:-start)?\(",
            texts[0],
        )
    )
    assert "num_partitions=2" in texts[0].splitlines()[0]
    assert said == {"all-reduce", "collective-permute"}


def test_a_state_is_sharded_over_the_devices(params):
    recipe = recipes.as_arrays(small.shallow().bare())
    split = over_devices(recipe, (75, 40))
    state = jax.jit(nst.init)(everywhere(jnp.zeros((75, 40, 3))), recipe, bands=split)
    for leaf in jax.tree.leaves(state):
        if leaf.ndim >= 3:
            assert leaf.shape[-3] == 96
            assert leaf.addressable_shards[0].data.shape[-3] == 48


def test_a_run_resumes_on_other_devices(params):
    content, style = small.picture("chelsea", 75, 40), small.picture("gravel", 30, 40)
    recipe = small.shallow(steps=4)
    whole = nst.stylize(params, content, style, recipe=recipe)
    shots = nst.paint(params, content, style, recipe=recipe, every=2, devices=DEVICES)
    next(shots), next(shots)
    checkpoint = shots.checkpoint()
    assert checkpoint.step == 2
    assert checkpoint.arrays["canvas"].shape == (75, 40, 3)
    for devices in (None, DEVICES):
        *_, last = nst.paint(
            params, content, style, recipe=recipe, resume=checkpoint, devices=devices
        )
        assert_allclose(last.image, whole, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_many_pictures_over_both_mesh_axes():
    simulated("""
recipe = small.quickest(steps=3)
contents = [one[:19] for one in contents]
texts = []
run = batch_canvas.PROGRAMS.run

def spied(*args, **options):
    texts.append(run.lower(*args, **options).compile().as_text())
    return run(*args, **options)

one = nst.stylize_many(params, contents, style, recipe=recipe, size="64x38")
batch_canvas.PROGRAMS = batch_canvas.PROGRAMS._replace(run=spied)
many = nst.stylize_many(params, contents, style, recipe=recipe, size="64x38", devices="all", bands=2)
assert many.shape == one.shape == (5, 38, 64, 3)
np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
assert "num_partitions=4" in texts[0].splitlines()[0]
assert not re.search("all-gather|all-to-all", texts[0])
try:
    nst.stylize_many(params, contents, style, recipe=recipe, devices=3, bands=2)
except ValueError as error:
    assert "3 devices cannot be divided into groups of 2" in str(error)
else:
    raise AssertionError
""")


@pytest.mark.slow
def test_starts_made_as_canvases_work_over_both_mesh_axes(params):
    blend = recipes.COURSERA_TF1.pictures.start
    recipe = small.shallowest(recipes.COURSERA_TF1, steps=2)
    recipe = replace(recipe, pictures=replace(recipe.pictures, start=blend))
    contents = [small.picture(name, 38, 64) for name in ("chelsea", "starry_night")]
    style = small.picture("gravel", 30, 40)
    one = nst.stylize_many(params, contents, style, recipe=recipe)
    many = nst.stylize_many(params, contents, style, recipe=recipe, devices=2, bands=2)
    assert_allclose(many, one, rtol=0, atol=1e-5)


# --- Checks and estimates before a run ------------------------------------------------------------


def test_more_devices_than_bands_are_refused(params):
    content, style = small.picture("chelsea", 16, 40), small.picture("gravel", 30, 40)
    with pytest.raises(
        ValueError, match=r"`devices`: 2 are too many for a picture 16 px high"
    ) as found:
        nst.stylize(params, content, style, recipe=small.shallow(), devices=2, size="as-is")
    assert str(found.value).endswith("take 1")
    with pytest.raises(ValueError, match=r"`bands`: 2 are too many for a picture 16 px high"):
        nst.stylize_many(
            params, content, style, recipe=small.shallow(), devices=2, bands=2, size="as-is"
        )


@pytest.mark.long
@pytest.mark.parametrize("tile", [0, 256])
def test_the_memory_estimate_is_that_of_each_device(tile, params):
    shape = (1024, 640)
    recipe = network(recipes.as_arrays(recipes.TF.bare()), tile=tile)
    estimate = footprint.estimate_memory(
        shape, recipe=network(recipes.TF, tile=tile) if tile else recipes.TF, devices=2
    )
    split = over_devices(recipe, shape)
    formed = nst.vgg.with_forms(
        params,
        recipe.terms.taps,
        shape=tile_grid.window_of(shape, recipe.terms.taps, recipe.network, split),
    )
    picture = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
    canvas = jnp.zeros((*shape, 3))
    state = jax.jit(nst.init)(everywhere(canvas), recipe, bands=split)
    targets = jax.eval_shape(partial(nst.measure, bands=split), params, picture, picture, recipe)
    targets = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), targets)
    lowered = planned_painting.PROGRAMS.run.lower(
        everywhere(formed), state, targets, recipe, 1, bands=split
    )
    compiled = lowered.compile()
    found = compiled.memory_analysis()
    peak = found.temp_size_in_bytes + found.argument_size_in_bytes
    assert 0.8 < estimate.total / peak < 1.2


def test_a_coarse_scale_may_need_fewer_devices(params):
    content, style = small.picture("chelsea", 20, 40), small.picture("gravel", 30, 40)
    recipe = small.shallowest(steps=3, levels=2).replace(schedule=recipes.CoarseToFine(smallest=32))
    one = nst.stylize(params, content, style, recipe=recipe, size="64x32")
    split = nst.stylize(params, content, style, recipe=recipe, size="64x32", devices=2)
    assert_allclose(split, one, rtol=0, atol=1e-5)
    many = nst.stylize_many(params, content, style, recipe=recipe, size="64x32", devices=2, bands=2)
    assert_allclose(many[0], one, rtol=0, atol=1e-5)
