"""Several devices, simulated in another process, give what one gives, and do not communicate."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh

import nst_jax as nst
from nst_jax._real_size import stacked
from nst_jax.scaling import bucket_plans, chunk_size, sharding
from tests import small

DEVICES = 4


def simulated(code):
    """Run Python code with several simulated devices."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)]),
    }
    found = subprocess.run(
        [sys.executable, "-W", "error", "-c", PREAMBLE + code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout


PREAMBLE = """
import re
from dataclasses import replace
import jax, jax.numpy as jnp, numpy as np
import nst_jax as nst
from nst_jax import batch_canvas, batches
from nst_jax.scaling import sharding
from tests import small
params = nst.load_params()
names = ("chelsea", "starry_night", "gravel")
contents = [small.picture(names[i % 3], 24, 32)[:: 1 - 2 * (i // 3)] for i in range(5)]
style = small.picture("starry_night", 28, 20)
"""


def test_a_batch_over_devices_is_the_batch_and_its_step_does_not_communicate():
    simulated("""
recipe = small.shallowest(steps=3)
texts = []
run = batch_canvas.PROGRAMS.run

def spied(*args, **options):
    texts.append(run.lower(*args, **options).compile().as_text())
    return run(*args, **options)

one = nst.stylize_many(params, contents, style, recipe=recipe)
batch_canvas.PROGRAMS = batch_canvas.PROGRAMS._replace(run=spied)
many = nst.stylize_many(params, contents, style, recipe=recipe, devices="all")
assert many.shape == one.shape == (5, 24, 32, 3)
np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
assert len(many.devices()) == 1
talk = re.compile(r"all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter")
assert texts and "num_partitions=4" in texts[0].splitlines()[0]
assert not talk.search(texts[0])
""")


@pytest.mark.slow
def test_what_breaks_on_one_device_is_named_and_the_rest_is_good():
    simulated("""
import warnings
from nst_jax import optimizers, recipes
recipe = small.shallowest(steps=3)
rates = np.asarray([0.01, 1e30, 0.02, 0.03, 0.04], np.float32)
rule = optimizers.Adam(learning_rate=rates)
recipe = replace(recipe, descent=replace(recipe.descent, optimizer=rule))
found = []
for devices in (None, 4):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        images = nst.stylize_many(params, contents, style, recipe=recipe, devices=devices)
    (warning,) = [w.message for w in caught if isinstance(w.message, batches.PicturesDiverged)]
    found.append((np.asarray(images), warning.pictures))
(one, broken), (many, broken_too) = found
assert broken == broken_too and set(broken) == {1}
np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
""")


@pytest.mark.long
def test_sweeps_several_scales_and_chunks_over_devices():
    simulated("""
from nst_jax import recipes
scales = recipes.CoarseToFine(smallest=16, share=1.0)
recipe = small.shallow(steps=4)
recipe = replace(recipe, descent=replace(recipe.descent, schedule=scales))
terms = replace(recipe.terms, style_weight=jnp.array([0.01, 0.1, 1.0, 10.0, 100.0]))
recipe = replace(recipe, terms=terms)
one = nst.stylize_many(params, contents[0], style, recipe=recipe)
for options in ({"devices": jax.devices()[1:4]}, {"devices": 4, "chunk": 4}):
    many = nst.stylize_many(params, contents[0], style, recipe=recipe, **options)
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-5)
cut = nst.stylize_many(params, contents[0], style, recipe=recipe, devices=2, tile=16)
np.testing.assert_allclose(cut, one, rtol=0, atol=2e-4)
""")


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("both", "`devices`: expected 'all' or a number, got 'both'"),
        (0, "`devices`: expected 1 or more, got 0"),
        (99, r"`devices`: this machine has 2 of the kind 'cpu', got 99; take fewer, or 'all'"),
        ([], "`devices`: expected 'all', a number or a list of `jax.Device`"),
        (2.0, "`devices`: expected 'all', a number or a list of `jax.Device`, got 2.0"),
        ([3], "`devices`: expected Device, got int"),
    ],
)
def test_what_are_no_devices_is_refused(devices, message, params):
    content = small.picture("chelsea", 24, 32)
    with pytest.raises((TypeError, ValueError), match=message):
        nst.stylize_many(params, content, content, devices=devices)


def test_one_device_needs_no_mesh_only_where_jax_computes_anyway():
    first, second = jax.devices()[:2]

    def device_of(devices, **options):
        meshes = sharding.mesh_of(devices, **options), sharding.mesh_of_batch(devices, **options)
        found, of_batch = (mesh and mesh.devices.tolist() for mesh in meshes)
        assert found == of_batch
        return found

    assert device_of([first]) is device_of(1) is device_of(None) is None
    assert device_of([second]) == [second]
    assert device_of([first], weights_on=first) is None
    assert device_of([first], weights_on=second) == device_of(1, weights_on=second) == [first]
    assert device_of(None, weights_on=second) is None
    with jax.default_device(second):
        assert device_of([second]) is None
        assert device_of([first]) == device_of(1) == [first]
        assert device_of([second], weights_on=first) == [second]
    with jax.default_device("cpu"):
        assert device_of([first]) is None


def test_exactly_the_chosen_device_paints(params):
    first, second = jax.devices()[:2]
    content, style = small.picture("chelsea", 24, 32), small.picture("starry_night", 24, 32)
    options = {"recipe": small.quickest(steps=1)}
    on_second = jax.device_put(params, second)
    expected = nst.stylize(params, content, style, **options)
    assert expected.devices() == {first}

    def check(weights, devices, device, **more):
        found = nst.stylize(weights, content, style, devices=devices, **options, **more)
        assert found.devices() == {device}
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)

    for devices, device in (([first], first), (1, first), ([second], second), (None, second)):
        check(on_second, devices, device)
    check(on_second, [first], first, bucket=32)
    check(params, [second], second, bucket=32)
    many = nst.stylize_many(on_second, [content], style, devices=[first], **options)
    assert many.devices() == {first}
    np.testing.assert_allclose(many[0], expected, rtol=0, atol=1e-5)
    with jax.default_device(second):
        check(params, [first], first)
        check(params, None, second)


@pytest.mark.parametrize("colors", ["style", "palette"])
def test_pictures_in_a_bucket_return_where_others_do(params, colors):
    first, second = jax.devices()[:2]
    contents = [small.picture("chelsea", 24, 32), small.picture("chelsea", 32, 24)]
    style = small.picture("starry_night", 24, 32)
    options = {"recipe": small.quickest(steps=1), "size": "as-is", "colors": colors}
    expected = nst.stylize_many(params, contents, style, bucket=32, **options)
    on_second = jax.device_put(params, second)
    for weights, devices, device in (
        (on_second, None, second),
        (params, [second], second),
        (on_second, "all", first),
    ):
        found = nst.stylize_many(weights, contents, style, devices=devices, bucket=32, **options)
        for one, other in zip(found, expected, strict=True):
            assert one.devices() == {device}
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    alike = nst.stylize_many(on_second, contents[:1] * 2, style, bucket=32, **options)
    assert alike.shape == (2, 24, 32, 3) and alike.devices() == {second}


def test_a_quick_picture_in_a_bucket_returns_where_others_do():
    second = jax.devices()[1]
    params = jax.device_put(nst.feed_forward.load_arbitrary(), second)
    contents = [small.picture("chelsea", 24, 32), small.picture("chelsea", 32, 24)]
    style = small.picture("starry_night", 24, 32)
    for colors in ("style", "content-after"):
        options = {"params": params, "size": "as-is", "style_size": 32, "colors": colors}
        expected = nst.instant_many(contents, style, **options)
        found = nst.instant_many(contents, style, bucket=32, **options)
        for one, other in zip(found, expected, strict=True):
            assert one.devices() == other.devices() == {second}
            np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)


def test_stacked_pictures_lie_where_a_committed_one_does():
    second, images = jax.devices()[1], [np.zeros((2, 3, 3), np.float32)] * 2
    placed = jax.device_put(images[0], second)
    for given, device in (([images[0], placed], second), (images, jax.devices()[0])):
        assert stacked(given, on_host=True).devices() == {device}


def test_the_mesh_decides_on_squares_before_the_weights_device():
    weights_on, mesh = SimpleNamespace(platform="gpu"), sharding.mesh_of(2)
    assert bucket_plans._may_share(64, {"device": weights_on})
    assert not bucket_plans._may_share(64, {"device": weights_on, "mesh": mesh})


def test_devices_that_share_a_picture_give_it_the_palette_of_its_styles(params):
    content, style = small.picture("chelsea", 24, 32), small.picture("starry_night", 24, 32)
    other = small.picture("gravel", 24, 32)
    options = {"recipe": small.quickest(steps=1), "size": "as-is", "colors": "palette"}
    pictures = params, [content] * 2, [[style, other]] * 2
    expected = nst.stylize_many(*pictures, **options)
    found = nst.stylize_many(*pictures, devices="all", bands=2, **options)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_one_device_named_twice_is_refused():
    with pytest.raises(ValueError, match="is named twice"):
        sharding.mesh_of([jax.devices()[0]] * 2)


@pytest.mark.parametrize(
    ("count", "most", "devices", "size"),
    [(5, None, 1, 5), (5, None, 4, 8), (9, 8, 4, 4), (5, 5, 4, 4), (8, 1, 4, 4), (16, 8, 2, 8)],
)
def test_chunks_are_of_as_many_for_every_device(count, most, devices, size):
    mesh = AbstractMesh((devices,), (sharding.PICTURES,))
    assert chunk_size.even_chunk_over_devices(count, most, mesh) == size
