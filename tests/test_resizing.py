"""Resizing of arrays: against NumPy, and its properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import prepare, recipes
from nst_jax.images import resizing
from tests import reference, small

FILTERS = [resizing.antialiased, resizing.bilinear, resizing.enlarge, resizing.torch_bicubic]


@pytest.mark.parametrize("shape", [(11, 17), (24, 32), (60, 50), (24, 9), (16, 64)])
def test_bilinear_samples_between_two_pixels_at_half_pixel_centres(shape):
    image = small.picture("chelsea", 24, 32)
    found = resizing.bilinear(image, shape)
    assert_allclose(found, reference.bilinear(image.astype(float), shape), rtol=0, atol=1e-6)


def test_bilinear_by_hand():
    row = jnp.asarray([0.0, 1.0])[None, :, None] * jnp.ones((1, 1, 3))
    assert_allclose(resizing.bilinear(row, (1, 4))[0, :, 0], [0, 0.25, 0.75, 1])
    four = jnp.asarray([0.0, 1.0, 0.0, 1.0])[None, :, None] * jnp.ones((1, 1, 3))
    # Each new pixel lies between two old ones; nothing is averaged over more than two.
    assert_allclose(resizing.bilinear(four, (1, 2))[0, :, 0], [0.5, 0.5])


def test_without_antialiasing_fine_texture_aliases_and_with_it_it_does_not():
    stripes = jnp.broadcast_to(jnp.arange(96) % 3 == 0, (16, 96)).astype(jnp.float32)
    image = stripes[:, :, None] * jnp.ones((1, 1, 3))
    aliased, smooth = resizing.bilinear(image, (16, 32)), resizing.antialiased(image, (16, 32))
    assert_allclose(smooth[:, 4:-4], 1 / 3, atol=0.01)
    assert np.abs(aliased - 1 / 3).max() > 0.3


@pytest.mark.parametrize("resize", FILTERS)
def test_a_picture_at_its_own_size_is_itself(resize, content):
    assert_array_equal(resize(content, (24, 32)), content)


@pytest.mark.parametrize("resize", FILTERS)
@pytest.mark.parametrize("shape", [(12, 16), (31, 47)])
def test_an_even_picture_stays_even(resize, shape):
    assert_allclose(resize(jnp.full((24, 32, 3), 0.25), shape), 0.25, atol=1e-6)


def test_antialiased_stays_within_the_range_and_enlarge_does_not():
    edge = jnp.zeros((16, 16, 3)).at[:, 8:].set(1.0)
    assert resizing.antialiased(edge, (40, 40)).min() >= 0
    assert resizing.antialiased(edge, (40, 40)).max() <= 1
    assert resizing.enlarge(edge, (40, 40)).max() > 1.01


@pytest.mark.parametrize("resize", FILTERS)
def test_resizing_is_the_same_compiled_and_mapped_and_over_a_batch(resize, content):
    batch = jnp.stack([content, content[::-1]])
    whole = resize(batch, (18, 20))
    assert whole.shape == (2, 18, 20, 3)
    assert_allclose(jax.jit(resize, static_argnums=1)(batch, (18, 20)), whole, atol=1e-6)
    assert_allclose(jax.vmap(lambda x: resize(x, (18, 20)))(batch), whole, atol=1e-6)


def test_resizing_follows_the_dtype(x64):
    for dtype in ("float32", "float64"):
        image = jax.ShapeDtypeStruct((16, 16, 3), dtype)
        for resize in FILTERS:
            assert jax.eval_shape(lambda x, f=resize: f(x, (20, 20)), image).dtype == dtype


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(34, 45), (60, 50), (11, 17), (24, 45)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_enlargements_are_torchs(torch, mode, shape, x64):
    image = small.noise(0, 24, 32, 3)
    theirs = torch.nn.functional.interpolate(
        torch.tensor(np.asarray(image)).permute(2, 0, 1)[None], shape, mode=mode
    )
    found = {"bicubic": resizing.torch_bicubic, "bilinear": resizing.bilinear}[mode](image, shape)
    assert_allclose(found, theirs[0].permute(1, 2, 0), rtol=0, atol=1e-12)


def test_torchs_bicubic_kernel_by_hand():
    row = jnp.asarray([0.0, 0, 1, 0, 0, 0])[None, :, None] * jnp.ones((1, 1, 3))
    # Keys' kernel with a = -3/4 at distances of 7/4, 5/4, 3/4 and 1/4 px.
    kernel = [-9 / 256, -27 / 256, 67 / 256, 225 / 256]
    expected = [0, *kernel, *reversed(kernel), 0, 0, 0]
    assert_allclose(resizing.torch_bicubic(row, (1, 12))[0, :, 0], expected, atol=1e-7)


def test_a_run_gets_float32_whether_a_picture_is_resized_or_not(x64):
    for dtype in (np.float64, np.float32):
        image = np.full((16, 20, 3), 0.5, dtype)
        for shape in ((16, 20), (18, 24)):
            for resize in (prepare.resized, prepare.resized_without_compiling):
                assert resize(image, shape, recipes.TF).dtype == jnp.float32
