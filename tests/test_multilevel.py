"""L-BFGS' sum over halvings of the canvas: symmetric, positive definite, linear interpolations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose

from nst_jax.optimizers.lbfgs import multilevel


@pytest.mark.parametrize("shape", [(8, 8, 1), (9, 14, 2), (16, 5, 1)])
@pytest.mark.parametrize("levels", [1, 3])
def test_multilevel_is_symmetric_and_positive_definite(shape, levels, x64):
    size = int(np.prod(shape))
    basis = jnp.eye(size).reshape(size, *shape)
    matrix = jax.jit(jax.vmap(lambda x: multilevel(x, levels, 0.3)))(basis).reshape(size, size)
    assert_allclose(matrix, matrix.T, atol=1e-14)
    assert np.linalg.eigvalsh(matrix).min() >= 1 - 1e-12  # the finest level is the identity


def test_multilevel_sums_linear_interpolations_of_what_their_transposes_sum(x64):
    @jax.jit
    def enlarged(coarse):
        return jax.image.resize(coarse, (16, 12, 2), "linear", antialias=False)

    x = jax.random.normal(jax.random.key(0), (16, 12, 2))
    (coarse,) = jax.linear_transpose(enlarged, jnp.zeros((8, 6, 2)))(x)
    found = jax.jit(lambda x: multilevel(x, 1, 0.7))(x)
    # Beyond the border ours has nothing and `resize` repeats.
    assert_allclose(found[3:-3, 3:-3], (x + 0.7 * enlarged(coarse))[3:-3, 3:-3], rtol=1e-12)


def test_no_levels_are_the_picture_itself():
    x = jax.random.normal(jax.random.key(0), (8, 8, 3))
    assert multilevel(x, 0) is x
