"""`nst.plan` from Python, and `plan=` of the functions that paint."""

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import canvas, given_plans, planned_painting
from nst_jax.scaling import capacity, tile_choice
from tests import small
from tests.test_plans import exhaust
from tests.test_sharding import simulated

RECIPE = small.shallowest(nst.recipes.TF, steps=3)
OPTIONS = {"recipe": RECIPE, "size": 32, "style_size": 24, "steps": 2, "tile": 16}


def test_a_plan_paints_what_its_options_paint(params, content, style, compilations):
    planned = nst.plan(content.shape[:2], style.shape[:2], **OPTIONS)
    image = nst.stylize(params, content, style, **OPTIONS)
    before = compilations()
    assert_array_equal(nst.stylize(params, content, style, plan=planned), image)
    assert compilations() == before
    last = nst.paint(params, content, style, plan=planned, every=1).finish()
    assert_array_equal(last.image, image)


def test_a_plan_paints_a_batch(params, content, style):
    pair = [content, content[:, ::-1]]
    planned = nst.plan(content, style, pictures=2, chunk=1, **OPTIONS)
    assert planned.chunk == 1
    images = nst.stylize_many(params, pair, style, plan=planned)
    assert_array_equal(images, nst.stylize_many(params, pair, style, chunk=1, **OPTIONS))


def test_sizes_may_be_of_any_integer_type(content, style):
    sides = [tuple(map(np.int64, picture.shape[:2])) for picture in (content, style)]
    planned = nst.plan(*sides, recipe=RECIPE)
    assert planned.scales == nst.plan(content, style, recipe=RECIPE).scales
    blend = nst.plan(sides[0], sides[1:] * 2, recipe=RECIPE)
    assert blend.scales[-1].style_shapes == planned.scales[-1].style_shapes * 2


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"plan": "fast"}, TypeError, "`plan`: expected Plan, got str"),
        ({"size": 40}, ValueError, "`size`: `plan` contains it; give it to `nst_jax.plan` instead"),
        ({"recipe": RECIPE}, ValueError, "`recipe`: `plan` contains it"),
        ({"devices": 1}, ValueError, "`devices`: `plan` contains it"),
    ],
)
@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_a_plan_contains_the_options(
    as_users_do, verb, params, content, style, options, kind, message
):
    planned = {"plan": nst.plan(content, style, recipe=RECIPE)}
    with pytest.raises(kind, match=message):
        verb(params, content, style, **planned | options)


def test_chunk_and_bands_are_in_the_plan_of_a_batch(params, content, style):
    planned = nst.plan(content, style, recipe=RECIPE)
    for name in ("chunk", "bands"):
        with pytest.raises(ValueError, match=f"`{name}`: `plan` contains it"):
            nst.stylize_many(params, content, style, plan=planned, **{name: 2})


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_a_plan_for_other_sizes_is_refused(verb, params, content, style):
    planned = nst.plan((48, 64), style, recipe=RECIPE)
    with pytest.raises(
        ValueError, match=r"`plan`: was made for a canvas of 64x48 px, but .* 32x24 px"
    ):
        verb(params, content, style, plan=planned)


@pytest.mark.parametrize("verb", [nst.stylize, nst.paint, nst.stylize_many])
def test_a_plan_for_another_platform_is_refused(verb, params, content, style):
    other = "gpu" if jax.default_backend() == "cpu" else "cpu"
    planned = nst.plan(content, style, recipe=RECIPE, platform=other)
    with pytest.raises(
        ValueError, match=rf"`plan`: was made for the platform '{other}', but '.*\)`$"
    ):
        verb(params, content, style, plan=planned)


@pytest.mark.parametrize("committed", [False, True])
def test_weights_decide_on_the_platform_only_if_they_are_committed(
    committed, params, content, style, monkeypatch
):
    """Uncommitted arrays are computed on the default device."""
    other = "gpu" if jax.default_backend() == "cpu" else "cpu"
    elsewhere = SimpleNamespace(platform=other)
    planned = nst.plan(content, style, recipe=RECIPE)
    monkeypatch.setattr(capacity, "default_device", lambda: elsewhere)
    here = jax.devices()[0]
    kernels = jax.device_put(params.layers["conv1_1"]["kernel"], here if committed else None)
    layers = dict(params.layers) | {"conv1_1": params.layers["conv1_1"] | {"kernel": kernels}}
    weights = replace(params, layers=layers)
    assert capacity.device_of(weights) == (here if committed else None)
    options = [nst.recipes.DEFAULT, *[None] * (len(given_plans.OPTIONS) - 1)]
    given = (planned, options, weights)
    if committed:
        given_plans.check_given_plan(*given)
        return
    with pytest.raises(
        ValueError, match=f"for the platform '{planned.platform}', but '{other}' pai"
    ):
        given_plans.check_given_plan(*given)


def test_a_plan_with_weights_is_for_the_device_that_they_are_on(
    params, content, style, monkeypatch
):
    first, second = jax.devices()[:2]
    asked = []
    monkeypatch.setattr(capacity, "available", lambda device=None: asked.append(device) or 10**10)
    monkeypatch.setattr(capacity, "default_device", lambda: SimpleNamespace(platform="tpu"))
    here = first.platform
    with_weights = partial(nst.plan, content, style, recipe=RECIPE)
    planned = with_weights(params=jax.device_put(params, second))
    assert planned.platform == capacity.platform_of(second) and planned.here
    assert asked == [second] and planned.available == 10**10 and planned.mesh is None
    assert with_weights(params=jax.device_put(params, second), platform=here).here
    assert not with_weights(params=jax.device_put(params, second), platform="tpu").here
    assert with_weights(params=params).platform == with_weights().platform == "gpu"


def test_a_plan_with_weights_names_the_devices_that_a_run_would(params, content, style):
    first, second = jax.devices()[:2]
    for pictures in (1, 2):
        plan = partial(nst.plan, content, style, recipe=RECIPE, pictures=pictures, devices=1)
        assert plan().mesh is plan(params=params).mesh is None
        assert plan(params=jax.device_put(params, first)).mesh is None
        mesh = plan(params=jax.device_put(params, second)).mesh
        assert mesh.devices.tolist() == [first]


def test_weights_of_no_use_to_a_plan_are_refused(as_users_do, params, content, style):
    plan = partial(nst.plan, content, style, recipe=RECIPE)
    with pytest.raises(TypeError, match="^`params`: expected Params, got str; `nst_jax.load_par"):
        plan(params="weights.h5")
    with pytest.raises(ValueError, match="^`params`: expected the weights of VGG-19, got those of"):
        plan(params=nst.feed_forward.load_arbitrary())
    with pytest.raises(TypeError, match="^`params`: got a tracer"):
        jax.jit(lambda params: plan(params=params).updates)(params)


def test_a_plan_for_another_number_of_pictures_is_refused(params, content, style):
    planned = nst.plan(content, style, recipe=RECIPE, pictures=2)
    with pytest.raises(ValueError, match="`plan`: is for a batch of 2; make it without `pictures`"):
        nst.stylize(params, content, style, plan=planned)
    with pytest.raises(ValueError, match=r"`plan`: is for 2 pictures and 1 were given"):
        nst.stylize_many(params, content, style, plan=planned)


def test_a_plan_for_one_picture_on_several_devices_paints_no_batch():
    simulated("""
params, grey = nst.load_params(), np.full((32, 32, 3), 0.5, np.float32)
try:
    nst.stylize_many(params, grey, grey, plan=nst.plan(grey, grey, devices=2))
except ValueError as error:
    assert "`plan`: lets several devices share one picture" in str(error), error
else:
    raise AssertionError("not refused")
""")


def test_a_plan_for_a_run_that_resumes_keeps_its_tiles(as_users_do, params, content, style):
    shots = nst.paint(params, content, style, recipe=RECIPE, tile=16)
    next(shots)
    checkpoint, whole = shots.checkpoint(), shots.finish()
    planned = nst.plan(content, style, recipe=RECIPE, resume=checkpoint)
    assert planned.recipe.network.tile == 16
    last = nst.paint(params, content, style, plan=planned, resume=checkpoint).finish()
    assert_array_equal(last.image, whole.image)
    with pytest.raises(TypeError, match="`resume`: expected Checkpoint, got str"):
        nst.plan(content, style, resume="run.h5")


def test_memory_that_runs_out_while_a_snapshot_is_made_is_explained(
    params, content, style, monkeypatch
):
    monkeypatch.setattr(planned_painting, "PROGRAMS", canvas.PROGRAMS._replace(picture=exhaust))
    with pytest.raises(nst.OutOfMemory, match="32x24 px takes .* by estimate"):
        next(nst.paint(params, content, style, recipe=RECIPE))


def test_arguments_are_checked_before_memory(params, content, style, monkeypatch):
    monkeypatch.setattr(capacity, "available", lambda device=None: 1000)
    with pytest.raises(ValueError, match="`size`: 32x24 px takes"):
        nst.paint(params, content, style, recipe=RECIPE)
    sweep = RECIPE.replace(style_weight=np.ones(2, np.float32))
    with pytest.raises(ValueError, match="`recipe`"):
        nst.paint(params, content, style, recipe=sweep)
    with pytest.raises(TypeError, match="`init`"):
        nst.paint(params, content, style, recipe=RECIPE, init="content")


def test_a_plan_knows_whether_it_is_for_this_machine(content, style):
    assert nst.plan(content, style, recipe=RECIPE).here
    assert nst.plan(content, style, recipe=RECIPE, memory=10**9).here
    assert nst.plan(content, style, recipe=RECIPE, platform=jax.default_backend()).here
    elsewhere = nst.plan(content, style, recipe=RECIPE, platform="tpu")
    assert not elsewhere.here and elsewhere.available is None and elsewhere.platform == "tpu"


def test_memory_savers_take_less_and_less(content, style):
    candidates = tile_choice.memory_savers(replace(RECIPE, name="large"), 1024, "gpu")
    footprints = [
        nst.estimate_memory((1024, 1024), recipe=one, platform="gpu").total for one in candidates
    ]
    assert footprints == sorted(footprints, reverse=True) and len(footprints) > 2
