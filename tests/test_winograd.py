"""Winograd convolution against direct convolution: alone, in the network and in the loop."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import batch_canvas, planned_painting, vgg
from nst_jax.vgg import layers, winograd
from tests import small


@pytest.fixture
def everywhere(monkeypatch):
    """Use Winograd convolution for every layer with enough channels, however small the picture."""
    monkeypatch.setattr(winograd, "LEAST_WORK", 0)


def random(*shape, seed=0, dtype=np.float64):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def direct(x, kernel):
    return layers.conv3x3(x, kernel)


def relative(found, wanted):
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


# --- The convolution by itself --------------------------------------------------------------------

# Pictures that are convolved in several strips -> the rows and the number of these. The last strip
# begins at row 17, 14, 5 or 16, and in all cases but the last it overlaps the strip before.
STRIPS = {(1, 41, 130): (24, 2), (2, 30, 70): (16, 2), (1, 9, 1025): (4, 3), (1, 32, 256): (16, 2)}


@pytest.mark.parametrize(
    "shape", [(1, 8, 12), (1, 7, 9), (2, 1, 1), (3, 5, 4), (1, 2, 3), (1, 16, 17), *STRIPS], ids=str
)
def test_it_agrees_with_direct_convolution(shape):
    with small.double():
        x, kernel = random(*shape, 5), random(3, 3, 5, 4, seed=1)
        found = winograd.convolve(x, winograd.transform_kernel(kernel))
        assert found.shape == (*shape, 4) and found.dtype == jnp.float64
        assert_allclose(found, direct(x, kernel), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "wanted"), STRIPS.items(), ids=str)
def test_large_pictures_are_cut_into_strips(shape, wanted):
    assert winograd.strips(*shape) == wanted


def test_a_strip_reads_zeros_beyond_the_picture_whatever_lies_there():
    """Rows at the border of the picture are read in place of the halo, and must not count."""
    x = jnp.zeros((1, 32, 256, 1)).at[0, [0, -1]].set(jnp.nan)
    found = winograd.convolve(x, winograd.transform_kernel(jnp.ones((3, 3, 1, 1))))
    # A row spoils the patches whose windows it lies in: its own patches, and no others here.
    assert_array_equal(jnp.isfinite(found[0, :, 0, 0]), [4 <= row < 28 for row in range(32)])


@pytest.mark.optimized
@pytest.mark.parametrize(("dtype", "most"), [(jnp.float32, 100), (jnp.bfloat16, 200)])
def test_strips_take_little_memory(dtype, most):
    """The buffers of the whole picture would take 1152 bytes for each pixel in float32.

    In bfloat16 there is a copy of the result, 128 bytes; a float32 copy would take 256.
    """
    x = jax.ShapeDtypeStruct((1, 256, 256, 64), dtype)
    kernel = jax.ShapeDtypeStruct((36, 64, 64), dtype)
    compiled = winograd.convolve.lower(x, kernel).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < most * 256 * 256


@pytest.mark.optimized
def test_strips_of_a_padded_picture_need_no_array_of_zeros():
    """XLA would make such an array at the beginning, and a copy of it for each convolution."""

    def three(x, kernel):
        for _ in range(3):
            padded = jnp.pad(jnp.sin(x), ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = winograd.convolve(padded, kernel)[:, 1:-1, 1:-1]
        return x

    x = jax.ShapeDtypeStruct((1, 126, 126, 64), jnp.float32)
    kernel = jax.ShapeDtypeStruct((36, 64, 64), jnp.float32)
    compiled = jax.jit(three).lower(x, kernel).compile()
    # Padded pixels and results take 264 bytes for each pixel each, and the buffers of a strip 288.
    assert compiled.memory_analysis().temp_size_in_bytes < 850 * 126 * 126


def test_a_patch_by_hand():
    """A single pixel of value 1 in a patch gives the flipped kernel around it."""
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 2, 0].set(1.0)
    kernel = jnp.arange(1.0, 10.0).reshape(3, 3, 1, 1)
    found = winograd.convolve(x, winograd.transform_kernel(kernel))[0, :, :, 0]
    wanted = [[0, 9, 8, 7], [0, 6, 5, 4], [0, 3, 2, 1], [0, 0, 0, 0]]
    assert_allclose(found, wanted, atol=1e-5)


def test_the_rounding_error_in_float32_is_small():
    x, kernel = random(1, 32, 32, 128, dtype=np.float32), random(3, 3, 128, 256, dtype=np.float32)
    with small.double():
        exact = direct(*(jnp.asarray(np.asarray(part, np.float64)) for part in (x, kernel)))
    found = winograd.convolve(x, winograd.transform_kernel(kernel))
    assert found.dtype == jnp.float32
    assert relative(found, exact) < 2e-6  # with the points 1 and 2: 2.6e-6


@pytest.mark.parametrize("shape", [(1, 9, 10), (1, 41, 130)], ids=str)
def test_vmap_agrees_with_single_calls(shape):
    x, kernel = random(3, *shape, 4, dtype=np.float32), random(3, 3, 4, 6, dtype=np.float32)
    transformed = winograd.transform_kernel(kernel)
    mapped = jax.vmap(winograd.convolve, in_axes=(0, None))(x, transformed)
    for found, one in zip(mapped, x, strict=True):
        # Rounding is relative to the largest value: how products are summed depends on the processor.
        assert relative(found, winograd.convolve(one, transformed)) < 2e-6


SIDES = {"whole": (9, 10), "strips": (41, 130)}
MOST = {"float64": 1e-13, "float32": 1e-5, "bfloat16": 0.03, "float16": 4e-3}
# Each type and each kind of shape once, and float64, which shows the smallest errors, with both.
OFTEN = {
    *itertools.product(["float64"], SIDES),
    *(("float32", "strips"), ("bfloat16", "strips"), ("float16", "whole")),
}


@pytest.mark.parametrize(
    ("dtype", "sides"),
    [
        pytest.param(*pair, marks=() if pair in OFTEN else pytest.mark.long)
        for pair in itertools.product(MOST, SIDES)
    ],
)
def test_its_gradients_are_those_of_direct_convolution(dtype, sides):
    shape, most = (1, *SIDES[sides]), MOST[dtype]
    with small.double():
        x, g = random(*shape, 4), random(*shape, 6, seed=2)
        kernel = random(3, 3, 4, 6, seed=1)

        def fast(x, kernel):
            return winograd.convolve(x, winograd.transform_kernel(kernel))

        @partial(jax.jit, static_argnums=0)
        def gradients(function, x, kernel, g):
            return jax.vjp(function, x, kernel)[1](g)

        wanted = gradients(direct, x, kernel, g)
        found = gradients(fast, x.astype(dtype), kernel.astype(dtype), g.astype(dtype))
        assert [one.dtype for one in found] == [dtype, dtype]
        for ours, reference in zip(found, wanted, strict=True):
            assert relative(ours, reference) < most


def test_an_empty_batch_gives_an_empty_result():
    kernel = winograd.transform_kernel(jnp.ones((3, 3, 2, 5)))
    assert winograd.convolve(jnp.zeros((0, 41, 130, 2)), kernel).shape == (0, 41, 130, 5)


# --- Layers, features and gradients ---------------------------------------------------------------


# Whole pictures and those in strips by turns; zeros, which most recipes have, with both.
TURNS = list(zip(layers.PADDINGS, itertools.cycle([(6, 7), (41, 130)]), strict=False))
TURNS += [("zero", sides) for sides in ((6, 7), (41, 130)) if ("zero", sides) not in TURNS]


@pytest.mark.parametrize(
    ("padding", "sides"),
    [
        pytest.param(*pair, marks=() if pair in TURNS else pytest.mark.long)
        for pair in itertools.product(layers.PADDINGS, [(6, 7), (41, 130)])
    ],
)
def test_a_layer_and_both_its_gradients_agree_with_direct_convolution(everywhere, padding, sides):
    with small.double():
        x, g = random(1, *sides, 64), random(1, *sides, 65, seed=2)
        kernel = random(3, 3, 64, 65)
        bare = nst.Params({"conv1_1": {"kernel": kernel}}, "", "")
        forms = vgg.with_forms(bare, ["relu1_1"], shape=(1, 1)).layers["conv1_1"]
        assert {layers.WINOGRAD, layers.WINOGRAD_TRANSPOSED} <= set(forms)
        forms.pop("kernel")
        pad = layers.PADDINGS[padding]
        wanted, plain = jax.vjp(pad, x, kernel)
        found, fast = jax.vjp(lambda x, kernel: pad(x, kernel, forms), x, kernel)
        assert relative(found, wanted) < 1e-13
        for ours, reference in zip(fast(g), plain(g), strict=True):
            assert relative(ours, reference) < 1e-13


@pytest.mark.parametrize("dtype", ["float64", pytest.param("bfloat16", marks=pytest.mark.long)])
def test_second_derivatives_of_a_layer_agree_with_direct_convolution(everywhere, dtype):
    with small.double():
        x, direction = random(1, 41, 130, 64), random(1, 41, 130, 64, seed=2)
        bare = nst.Params({"conv1_1": {"kernel": random(3, 3, 64, 64) / 24}}, "", "")
        wide = bare.layers["conv1_1"]["kernel"]
        cast = jax.tree.map(lambda leaf: leaf.astype(dtype), bare)
        forms = vgg.with_forms(cast, ["relu1_1"], shape=(1, 1)).layers["conv1_1"]
        kernel = forms.pop("kernel")

        @jax.jit
        def product(forms, kernel, x, direction):
            """Return a product of the Hessian matrix of a function of a layer with a direction."""

            def loss(x):
                y = layers.conv3x3(x, kernel, forms)
                return jnp.sum(y.astype(jnp.float64) ** 4) / y.size

            return jax.grad(lambda x: jnp.vdot(jax.grad(loss)(x), direction))(x)

        wanted = product(None, wide, x, direction)
        found = product(forms, kernel, x.astype(dtype), direction.astype(dtype))
        assert relative(found, wanted) < (1e-12 if dtype == "float64" else 0.05)


def test_features_use_it_where_the_parameters_contain_its_forms(everywhere, params):
    formed = vgg.with_forms(params, ["relu3_2"], shape=(48, 48))
    image = jnp.zeros((48, 48, 3))
    lowered = jax.jit(lambda p: vgg.features(p, image, ["relu3_2"])).lower(formed).as_text()
    assert lowered.count("stablehlo.convolution") == 1  # the first layer
    plain = jax.jit(lambda p: vgg.features(p, image, ["relu3_2"])).lower(params).as_text()
    assert plain.count("stablehlo.convolution") == 6


@pytest.mark.long
def test_the_gradient_of_the_objective_agrees_with_float64(everywhere, params):
    content, style = nst.images.sample("chelsea")[:96, :80], nst.images.sample("starry_night")
    recipe = nst.recipes.as_arrays(nst.recipes.DEFAULT.bare())
    image = jnp.asarray(nst.images.sample("chelsea")[100:196, 100:180])

    def gradient(params, dtype, shape):
        cast = jax.tree.map(lambda x: jnp.asarray(np.asarray(x), dtype), (params, recipe))
        pictures = [jnp.asarray(np.asarray(x), dtype) for x in (content, style[:96, :96], image)]
        targets = jax.jit(nst.measure)(cast[0], *pictures[:2], cast[1])
        formed = vgg.with_forms(cast[0], recipe.terms.taps, shape=shape)
        assert (layers.WINOGRAD in formed.layers["conv4_2"]) == (shape is not None)
        of_image = jax.grad(lambda i, p: nst.losses_of(p, i, targets, cast[1]).total)
        return np.asarray(jax.jit(of_image)(pictures[2], formed))

    with small.double():
        exact = gradient(params, np.float64, None)
        assert relative(gradient(params, np.float64, (96, 80)), exact) < 1e-12
    plain = relative(gradient(params, np.float32, None), exact)
    fast = relative(gradient(params, np.float32, (96, 80)), exact)
    assert plain < 1e-4 and fast < 1e-4


@pytest.mark.parametrize("verb", ["stylize", "stylize_many"])
def test_stylize_and_stylize_many_pass_its_forms_to_their_loops(
    everywhere, params, monkeypatch, verb
):
    """If they did not, the other tests here would say nothing about these functions."""
    given = []

    def loop(params, *rest, **options):
        given.append(params)
        raise InterruptedError  # it need not be compiled

    if verb == "stylize":
        monkeypatch.setattr(
            planned_painting, "PROGRAMS", planned_painting.PROGRAMS._replace(run=loop)
        )
    else:
        monkeypatch.setattr(batch_canvas, "PROGRAMS", batch_canvas.PROGRAMS._replace(run=loop))
    content, style = small.picture("chelsea", 24, 32), small.picture("starry_night", 28, 20)
    recipe = small.shallow(
        steps=1, style_taps=("relu1_1", "relu3_1"), style_layer_weights=(1.0, 1.0)
    )
    with pytest.raises(InterruptedError):
        getattr(nst, verb)(params, content, style, recipe=recipe)
    assert layers.WINOGRAD in given[0].layers["conv3_1"]
    assert layers.WINOGRAD not in given[0].layers["conv1_1"]


# --- Where it is used -----------------------------------------------------------------------------


def test_forms_are_made_where_they_are_faster(params):
    formed = vgg.with_forms(params, ["relu4_2", "relu5_1"], shape=(170, 256))
    fast = {name for name, layer in formed.layers.items() if layers.WINOGRAD in layer}
    deep = {f"conv{b}_{i}" for b in (3, 4) for i in (1, 2, 3, 4)}
    assert fast == {"conv1_2", "conv2_1", "conv2_2"} | deep
    assert list(formed.layers) == list(vgg.LAYERS)[:13]  # nothing below relu5_1
    assert all(layers.TRANSPOSED in layer for layer in formed.layers.values())
    small = vgg.with_forms(params, ["relu4_2", "relu5_1"], shape=(85, 128))
    assert not any(layers.WINOGRAD in layer for layer in small.layers.values())


def test_forms_are_made_once(params):
    formed = vgg.with_forms(params, ["relu3_1"], shape=(512, 512))
    again = vgg.with_forms(formed, ["relu3_1"], shape=(512, 512))
    for mine, its in zip(jax.tree.leaves(formed), jax.tree.leaves(again), strict=True):
        assert mine is its


@pytest.mark.slow
def test_a_small_canvas_uses_direct_convolution_with_the_same_parameters(params):
    formed = vgg.with_forms(params, ["relu3_1"], shape=(512, 512))
    assert layers.WINOGRAD in formed.layers["conv3_1"]
    image = jnp.asarray(nst.images.sample("chelsea")[:32, :48])
    plain = vgg.features(params, image, ["relu3_1"])
    assert_array_equal(vgg.features(formed, image, ["relu3_1"])["relu3_1"], plain["relu3_1"])


@pytest.mark.long
def test_stylize_gives_the_same_picture(everywhere, params, monkeypatch):
    content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
    recipe = replace(nst.recipes.TF, descent=replace(nst.recipes.TF.descent, steps=3))
    # Not at 64 px: there the input of a ReLU is closer to 0 than the rounding error, which changes the
    # sign of a gradient, and Adam's first update depends on signs alone.
    fast = nst.stylize(params, content, style, recipe=recipe, size=72)
    jax.clear_caches()  # `pays` is called while tracing
    monkeypatch.setattr(winograd, "LEAST_WORK", 2**60)
    plain = nst.stylize(params, content, style, recipe=recipe, size=72)
    assert not np.array_equal(fast, plain)
    assert_allclose(fast, plain, atol=2e-4)
