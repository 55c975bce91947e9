"""Resizing against NumPy, by its laws, and the ladder of scales."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import recipes
from nst_jax.images import resizing
from nst_jax.optimizers.lbfgs import multilevel
from tests import reference, small


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


@pytest.mark.parametrize("resize", [resizing.antialiased, resizing.bilinear, resizing.enlarge])
def test_a_picture_at_its_own_size_is_itself(resize, content):
    assert_array_equal(resize(content, (24, 32)), content)


@pytest.mark.parametrize("resize", [resizing.antialiased, resizing.bilinear, resizing.enlarge])
@pytest.mark.parametrize("shape", [(12, 16), (31, 47)])
def test_an_even_picture_stays_even(resize, shape):
    assert_allclose(resize(jnp.full((24, 32, 3), 0.25), shape), 0.25, atol=1e-6)


def test_antialiased_stays_within_the_range_and_enlarge_does_not():
    edge = jnp.zeros((16, 16, 3)).at[:, 8:].set(1.0)
    assert resizing.antialiased(edge, (40, 40)).min() >= 0
    assert resizing.antialiased(edge, (40, 40)).max() <= 1
    assert resizing.enlarge(edge, (40, 40)).max() > 1.01


@pytest.mark.parametrize("resize", [resizing.antialiased, resizing.bilinear, resizing.enlarge])
def test_resizing_is_the_same_compiled_and_mapped_and_over_a_batch(resize, content):
    batch = jnp.stack([content, content[::-1]])
    whole = resize(batch, (18, 20))
    assert whole.shape == (2, 18, 20, 3)
    assert_allclose(jax.jit(resize, static_argnums=1)(batch, (18, 20)), whole, atol=1e-6)
    assert_allclose(jax.vmap(lambda x: resize(x, (18, 20)))(batch), whole, atol=1e-6)


def test_resizing_follows_the_dtype(x64):
    for dtype in ("float32", "float64"):
        image = jax.ShapeDtypeStruct((16, 16, 3), dtype)
        for resize in (resizing.antialiased, resizing.bilinear, resizing.enlarge):
            assert jax.eval_shape(lambda x, f=resize: f(x, (20, 20)), image).dtype == dtype


@pytest.mark.parametrize(
    ("shape", "smallest", "expected"),
    [
        ((384, 512), 128, [(96, 128), (192, 256), (384, 512)]),
        ((100, 120), 128, [(100, 120)]),
        ((20, 600), 128, [(20, 600)]),  # half of it would be under 16 px high
        ((33, 257), 128, [(16, 128), (33, 257)]),
    ],
)
def test_the_ladder_doubles_up_to_the_final_shape(shape, smallest, expected):
    assert list(recipes.ladder(shape, smallest)) == expected


def test_a_ladder_may_climb_in_smaller_steps():
    scales = recipes.ladder((400, 400), 200, ratio=2**0.5)
    assert scales == ((200, 200), (283, 283), (400, 400))


# --- Levels ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 14, 2), (16, 5, 1)])
@pytest.mark.parametrize("levels", [1, 3])
def test_multilevel_is_symmetric_and_positive_definite(shape, levels, x64):
    size = int(np.prod(shape))
    basis = jnp.eye(size).reshape(size, *shape)
    matrix = jax.vmap(lambda x: multilevel(x, levels, 0.3))(basis).reshape(size, size)
    assert_allclose(matrix, matrix.T, atol=1e-14)
    assert np.linalg.eigvalsh(matrix).min() >= 1 - 1e-12  # the finest level is the identity


def test_multilevel_sums_linear_interpolations_of_what_their_transposes_sum(x64):
    def enlarged(coarse):
        return jax.image.resize(coarse, (16, 12, 2), "linear", antialias=False)

    x = jax.random.normal(jax.random.key(0), (16, 12, 2))
    (coarse,) = jax.linear_transpose(enlarged, jnp.zeros((8, 6, 2)))(x)
    found = multilevel(x, 1, 0.7)
    # Beyond the border ours has nothing and `resize` repeats.
    assert_allclose(found[3:-3, 3:-3], (x + 0.7 * enlarged(coarse))[3:-3, 3:-3], rtol=1e-12)


def test_no_levels_are_the_picture_itself():
    x = jax.random.normal(jax.random.key(0), (8, 8, 3))
    assert multilevel(x, 0) is x
