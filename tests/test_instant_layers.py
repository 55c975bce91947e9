"""Layers of feed-forward networks: against NumPy and torch, at symbolic sizes, in bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax.feed_forward import layers
from tests import small


@pytest.mark.parametrize(
    ("shape", "margin"), [((2, 5, 7, 3), 1), ((9, 6, 2), 4), ((1, 2, 2, 1), 1)]
)
def test_reflected_borders_are_numpys(shape, margin):
    x = small.noise(0, *shape)
    edges = [(0, 0)] * (len(shape) - 3) + [(margin, margin)] * 2 + [(0, 0)]
    assert_array_equal(layers.reflect(x, margin), np.pad(x, edges, mode="reflect"))


@pytest.mark.parametrize("height", [16, 17, 18, 19])
@pytest.mark.parametrize("width", [20, 23])
def test_sides_become_multiples(height, width):
    x = small.noise(0, 2, height, width, 3)
    edges = ((0, 0), (0, -height % 4), (0, -width % 4), (0, 0))
    assert_array_equal(layers.reflect_to_multiple(x, 4), np.pad(x, edges, mode="reflect"))


def by_hand(x, kernel, stride):
    """Convolve [h, w, i] with [k, k, i, o] without padding, in float64."""
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], (0, 1))
    return np.einsum("hwikl,klio->hwo", windows[::stride, ::stride], kernel)


@pytest.mark.parametrize(("size", "stride"), [(1, 1), (3, 1), (3, 2), (9, 1)])
def test_a_reflected_convolution_by_hand(size, stride):
    x = small.noise(1, 2, 11, 14, 3)
    module = layers.Convolution2D(5, size, stride)
    params = module.init(jax.random.key(0), x)["params"]
    params["bias"] = small.noise(2, 5)
    margin = size // 2
    padded = np.pad(x, ((0, 0), (margin, margin), (margin, margin), (0, 0)), mode="reflect")
    expected = [
        by_hand(one, params["kernel"], stride) + np.asarray(params["bias"]) for one in padded
    ]
    assert_allclose(module.apply({"params": params}, x), expected, atol=2e-5)


def test_depthwise_and_same_padding_by_hand():
    x = small.noise(1, 6, 9, 4)
    module = layers.Convolution2D(4, 3, 2, reflected=False, depthwise=True, use_bias=False)
    params = module.init(jax.random.key(0), x)["params"]
    assert sorted(params) == ["kernel"] and params["kernel"].shape == (3, 3, 1, 4)
    padded = np.pad(x, ((0, 1), (1, 1), (0, 0)))  # TensorFlow: one more after than before
    expected = [
        by_hand(padded[..., c : c + 1], params["kernel"][..., c : c + 1], 2) for c in range(4)
    ]
    assert_allclose(
        module.apply({"params": params}, x), np.concatenate(expected, axis=-1), atol=1e-5
    )


@pytest.mark.parametrize("one_for_all", [True, False])
def test_instance_norm_by_hand(one_for_all):
    x = small.noise(3, 2, 7, 5, 4) * 3 + 10
    gamma, beta = (small.noise(seed, *(() if one_for_all else (2,)), 4) for seed in (4, 5))
    wide = np.asarray(x, np.float64)
    mean, variance = wide.mean((1, 2), keepdims=True), wide.var((1, 2), keepdims=True)
    unit = (wide - mean) / np.sqrt(variance + 1e-5)
    spread = [np.asarray(v if one_for_all else v[:, None, None]) for v in (gamma, beta)]
    assert_allclose(layers.instance_norm(x, gamma, beta), unit * spread[0] + spread[1], atol=1e-5)


def test_instance_norm_of_a_flat_picture_is_beta_with_finite_gradient():
    x, gamma, beta = jnp.full((8, 8, 2), 0.75), jnp.ones(2), jnp.array([0.25, -1.0])
    assert_array_equal(layers.instance_norm(x, gamma, beta)[3, 4], beta)
    gradient = jax.grad(lambda x: layers.instance_norm(x, gamma, beta)[0, 0, 0])(x)
    assert np.isfinite(gradient).all()


def test_instance_norm_keeps_bfloat16_but_not_its_statistics():
    x = jnp.asarray(small.noise(6, 64, 64, 2) + 30, jnp.bfloat16)
    result = layers.instance_norm(x, jnp.ones(2), jnp.zeros(2))
    assert result.dtype == jnp.bfloat16
    wide = np.asarray(x, np.float64)
    expected = (wide - wide.mean((0, 1))) / wide.std((0, 1))
    assert_allclose(
        np.asarray(result, np.float64), expected, atol=2**-7
    )  # rounded once, at the end


def test_upsampling_repeats_pixels():
    x = small.noise(7, 2, 3, 4, 2)
    assert_array_equal(layers.upsample(x), np.repeat(np.repeat(x, 2, axis=1), 2, axis=2))


def network(x):
    """A small network: a reflected border, downsampling by four, a norm, and upsampling."""
    first = jnp.full((9, 9, 3, 2), 0.01)
    middle = jnp.full((3, 3, 2, 2), 0.1)
    y = layers.conv2d(layers.reflect(layers.reflect_to_multiple(x, 4), 4), first)
    for _ in range(2):
        y = layers.conv2d(layers.reflect(y, 1), middle, stride=2)
    y = layers.instance_norm(y, jnp.ones(2), jnp.zeros(2))
    for _ in range(2):
        y = layers.conv2d(layers.reflect(layers.upsample(y), 1), middle)
    return layers.cropped(y, *x.shape[1:3])


def test_sizes_may_be_symbolic():
    sizes = export.symbolic_shape("n, h, w, 3", constraints=("h >= 16", "w >= 16"))
    exported = export.export(jax.jit(network))(jax.ShapeDtypeStruct(sizes, jnp.float32))
    called = export.deserialize(exported.serialize()).call
    for shape in ((1, 16, 16, 3), (2, 21, 30, 3)):
        x = small.noise(8, *shape)
        assert_allclose(called(x), jax.jit(network)(x), atol=1e-6)


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (3, 3), (5, 2), (5, 3), (7, 4)])
def test_same_padding_of_symbolic_sizes_is_that_of_numbers(size, stride):
    kernel = small.noise(10, size, size, 2, 3)

    def convolved(x):
        return layers.conv2d(x, kernel, stride=stride, padding="SAME")

    sizes = export.symbolic_shape("h, w, 2", constraints=("h >= 16", "w >= 16"))
    exported = export.export(jax.jit(convolved))(jax.ShapeDtypeStruct(sizes, jnp.float32))
    for shape in ((16, 17, 2), (18, 19, 2), (20, 27, 2)):
        x = small.noise(11, *shape)
        assert_allclose(exported.call(x), jax.jit(convolved)(x), atol=1e-5)


def test_batches_by_vmap_and_gradients():
    x = small.noise(9, 2, 16, 17, 3)
    rows = jax.jit(jax.vmap(lambda one: network(one[None])[0]))(x)
    assert_allclose(rows, jax.jit(network)(x), atol=1e-5)
    assert np.isfinite(jax.jit(jax.grad(lambda x: network(x).sum()))(x)).all()
