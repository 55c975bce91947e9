"""The loop: what a state means, one program for any number of steps, nothing leaves the device."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, optimize, optimizers, recipes, vgg
from tests import small

step, run = jax.jit(optimize.step), jax.jit(optimize.run)
measure, losses_of = jax.jit(nst.measure), jax.jit(nst.losses_of)


def core(recipe=recipes.DEFAULT, *, optimizer=None, **terms):
    """Return a shallow recipe as the compiled programs see it."""
    recipe = small.shallow(recipe, **terms)
    if optimizer is not None:
        recipe = replace(recipe, descent=replace(recipe.descent, optimizer=optimizer))
    return recipes.as_arrays(recipe.bare())


def test_n_steps_are_n_single_steps(params, content, style):
    recipe = core()
    targets, start = measure(params, content, style, recipe), nst.init(content, recipe)
    together, history = run(params, start, targets, recipe, 6)
    state, totals = start, []
    for _ in range(6):
        state = step(params, state, targets, recipe)
        totals.append(state.losses.total)
    # Compiled apart, the same operations fuse otherwise; six steps grow float32's 1e-7 a little.
    assert_allclose(history.total[:6], totals, rtol=1e-4)
    assert_allclose(together.canvas, state.canvas, atol=1e-4)
    assert together.step == state.step == 5


def test_two_runs_are_one_long_run(params, content, style):
    recipe = core()
    targets, start = measure(params, content, style, recipe), nst.init(content, recipe)
    whole, _ = run(params, start, targets, recipe, 6)
    half, _ = run(params, start, targets, recipe, 2)
    rest, _ = run(params, half, targets, recipe, 4)
    for mine, other in zip(jax.tree.leaves(rest), jax.tree.leaves(whole), strict=True):
        assert_array_equal(mine, other)  # the same program, so to the bit


def count_of_updates(canvas, style, extent):
    return extent.step + 0 * jnp.sum(canvas)


def test_a_style_loss_is_told_the_number_of_the_update(params, content, style):
    counting = losses.GRAM_MEAN_SQUARE._replace(distance=count_of_updates)
    recipe = core(
        style_loss=counting,
        style_weight=1.0,
        style_layer_weights=(0.5, 0.5),
        optimizer=optimizers.Adam(),
    )
    targets = measure(params, content, style, recipe)
    half, first = run(params, nst.init(content, recipe), targets, recipe, 2)
    _, then = run(params, half, targets, recipe, 3)
    assert_array_equal([*first.style[:2], *then.style[:3]], [0, 1, 2, 3, 4])
    assert losses_of(params, content, targets, recipe).style == 0
    many = jax.vmap(lambda number: nst.losses_of(params, content, targets, recipe, step=number))
    assert_array_equal(many(jnp.arange(3)).style, [0, 1, 2])


@pytest.mark.parametrize("coordinates", [vgg.RAW, vgg.CAFFE_BGR, vgg.TORCHVISION])
def test_a_fresh_state_has_measured_nothing(content, coordinates):
    recipe = core()
    recipe = replace(recipe, descent=replace(recipe.descent, coordinates=coordinates))
    state = nst.init(content, recipe)
    assert state.step == -1 and state.broke_at == -1 and np.isnan(state.losses.total)
    assert_allclose(state.pending, coordinates.encode(content))
    # Float32 at 255 rounds at 1.5e-5, which is 6e-8 of the range.
    assert_allclose(optimize.picture(state, recipe), content, atol=3e-7)


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [((24, 32), "float32", r"\[24, 32\]"), ((24, 32, 3), "uint8", "divide it by 255")],
)
def test_a_state_wants_one_image(shape, dtype, message, as_users_do):
    with pytest.raises(ValueError, match=f"`image`: expected .*{message}"):
        nst.init(jnp.zeros(shape, dtype), core())


def test_step_zero_measures_the_start(params, content, style):
    recipe = core()
    targets = measure(params, content[::-1], style, recipe)
    state = step(params, nst.init(content, recipe), targets, recipe)
    assert state.step == 0
    assert_array_equal(state.canvas, content)
    expected = losses_of(params, content, targets, recipe)
    assert_allclose(state.losses.total, expected.total, rtol=1e-5)
    assert np.abs(state.pending - state.canvas).max() > 0


@pytest.mark.parametrize(
    "rule",
    [
        optimizers.LBFGS(),
        pytest.param(optimizers.Adam(), marks=pytest.mark.long),
        optimizers.TorchLBFGS(),
    ],
)
def test_losses_are_those_of_the_canvas_that_is_kept(params, content, style, rule):
    recipe = core(optimizer=rule)
    targets = measure(params, content, style, recipe)
    state, history = run(params, nst.init(content, recipe), targets, recipe, 5)
    expected = losses_of(params, state.canvas, targets, recipe)
    assert_allclose(state.losses.total, expected.total, rtol=1e-5)
    assert history.total[4] == state.losses.total


def test_losses_fall_and_parts_sum_to_the_total(params, content, style):
    recipe = core(tv_weight=1e4)
    targets = measure(params, content, style, recipe)
    _, history = run(params, nst.init(content, recipe), targets, recipe, 20)
    history = jax.tree.map(lambda x: x[:20], history)
    assert history.total[-1] < 0.9 * history.total[0]
    assert min(history.tv[-1], history.content[-1], history.style[-1]) > 0
    assert_allclose(history.content + history.style + history.tv, history.total, rtol=1e-6)
    assert_allclose(sum(history.style_layers.values()), history.style, rtol=1e-6)


def test_history_beyond_the_steps_is_unknown_and_ends_at_capacity(params, content, style):
    recipe = core()
    targets, start = measure(params, content, style, recipe), nst.init(content, recipe)
    _, history = run(params, start, targets, recipe, 3)
    assert history.total.shape == (optimize.CAPACITY,)
    assert np.isfinite(history.total[:3]).all() and np.isnan(history.total[3:]).all()
    state, history = run(params, start, targets, recipe, optimize.CAPACITY + 9)
    assert state.step == optimize.CAPACITY - 1  # the start is step 0
    assert np.isfinite(history.total).all()


# --- Constraint -----------------------------------------------------------------------------------


def test_clip_keeps_every_canvas_within_the_picture_range(params, content, style):
    coordinates = vgg.CAFFE_BGR
    rule = optimizers.Adam(learning_rate=0.5 * coordinates.scale)
    recipe = core(recipes.TF, optimizer=rule)
    recipe = replace(recipe, descent=replace(recipe.descent, coordinates=coordinates))
    targets = measure(params, content, style, recipe)
    state, _ = run(params, nst.init(content, recipe), targets, recipe, 4)
    image = coordinates.decode(state.pending)
    # Float32 at 255 rounds at 1.5e-5, which is 6e-8 of the range.
    assert image.min() >= -1e-6 and image.max() <= 1 + 1e-6
    assert np.mean((image < 1e-3) | (image > 1 - 1e-3)) > 0.05  # the steps did reach beyond


def test_without_clip_the_canvas_may_leave_the_range_and_the_picture_may_not(
    params, content, style
):
    recipe = core(optimizer=optimizers.Adam(learning_rate=0.5))
    targets = measure(params, content, style, recipe)
    state, _ = run(params, nst.init(content, recipe), targets, recipe, 4)
    assert optimize.canvas_image(state, recipe).max() > 1.1
    picture = optimize.picture(state, recipe)
    assert picture.min() >= 0 and picture.max() <= 1


# --- Divergence -----------------------------------------------------------------------------------


def diverging(params, content, style, rule, steps):
    recipe = core(optimizer=rule)
    targets = measure(params, content, style, recipe)
    return run(params, nst.init(content, recipe), targets, recipe, steps)


@pytest.mark.parametrize(
    "rule", [optimizers.Adam(learning_rate=1e30), optimizers.TorchLBFGS(learning_rate=1e30)]
)
def test_an_unguarded_run_that_breaks_keeps_its_last_finite_canvas(params, content, style, rule):
    state, history = diverging(params, content, style, rule, 4)
    assert state.broke_at == 1
    assert_array_equal(state.canvas, content)
    assert np.isfinite(history.total[0]) and not np.isfinite(history.total[1])


def test_a_guarded_run_cannot_break(params, content, style):
    rule = optimizers.LBFGS(radius=1e25, largest_radius=1e30)
    state, history = diverging(params, content, style, rule, 6)
    assert state.broke_at == -1
    assert np.isfinite(history.total[:6]).all() and np.isfinite(state.canvas).all()


def test_a_start_that_is_not_finite_breaks_any_run(params, content, style):
    recipe = core()
    targets = measure(params, content, style, recipe)
    state, _ = run(params, nst.init(content * jnp.nan, recipe), targets, recipe, 2)
    assert state.broke_at == 0


# --- The compiled loop ----------------------------------------------------------------------------


def test_nothing_leaves_the_device_inside_the_loop(params, content, style):
    for recipe in map(core, recipes.PRESETS.values()):
        targets = jax.eval_shape(nst.measure, params, content, style, recipe)
        state = jax.eval_shape(nst.init, content, recipe)
        match = partial(nst.match, first=True)
        state = jax.eval_shape(match, params, state, targets, content, recipe)
        jaxpr = jax.make_jaxpr(optimize.run)(params, state, targets, recipe, 5)
        found = {equation.primitive.name for equation in small.primitives(jaxpr.jaxpr)}
        assert "while" in found and "conv_general_dilated" in found
        assert not {name for name in found if "callback" in name or "feed" in name}
        assert not found & {"debug_print", "device_put", "io_effect"}


def test_the_loop_holds_no_picture_or_weights_as_constants(params, content, style):
    recipe = core()
    targets, state = measure(params, content, style, recipe), nst.init(content, recipe)
    jaxpr = jax.make_jaxpr(optimize.run)(params, state, targets, recipe, 5)
    assert sum(np.size(constant) for constant in jaxpr.consts) < 100


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_a_picture_of_16_bits_is_optimised_in_float32(params, content, style, dtype):
    recipe = recipes.as_arrays(small.quickest(recipes.TF_TV).bare())
    narrow = content.astype(dtype)
    targets = measure(params, content, style, recipe)
    state, history = run(params, nst.init(narrow, recipe), targets, recipe, 3)
    wide, expected = run(params, nst.init(narrow.astype("float32"), recipe), targets, recipe, 3)
    assert_array_equal(state.canvas, wide.canvas)
    assert_array_equal(history.total, expected.total)
    assert np.isfinite(history.total[:3]).all()


def test_the_loop_follows_the_dtype_of_the_picture(params, content, style, x64):
    for dtype in (jnp.float32, jnp.float64):
        recipe = recipes.as_arrays(small.shallow(recipes.TF_TV).bare(), dtype)
        pictures = (x.astype(dtype) for x in (content, style))
        targets = jax.eval_shape(nst.measure, params, *pictures, recipe)
        start = jax.eval_shape(nst.init, content.astype(dtype), recipe)
        state, history = jax.eval_shape(optimize.run, params, start, targets, recipe, 5)
        kinds = {leaf.dtype for leaf in jax.tree.leaves((state, history))}
        assert kinds == {np.dtype(dtype), np.dtype("int32")}
