"""Hypercolumns and nearest neighbours: against SciPy and PyTorch in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from nst_jax import losses
from nst_jax.losses import matching
from nst_jax.losses.neighbours import SHORTEST, centred, unit
from tests import small


def maps(seed, *shape):
    """Return random features, many of them zero as after a ReLU, but no vector of zeros."""
    return jnp.maximum(small.noise(seed, *shape), 0) + 0.01


# --- Hypercolumns ---------------------------------------------------------------------------------

SHAPES = ((9, 12, 4), (5, 6, 8), (2, 3, 3), (1, 1, 5))


@pytest.mark.torch
@pytest.mark.parametrize("shape", [(3, 4), (9, 12), (17, 30), (1, 1)])
def test_hypercolumns_are_torchs_aligned_corners(shape, torch, x64):
    features = [maps(seed, *each) for seed, each in enumerate(SHAPES)]
    theirs = [
        torch.nn.functional.interpolate(
            torch.tensor(np.asarray(one)).permute(2, 0, 1)[None] / one.shape[-1],
            shape,
            mode="bilinear",
            align_corners=True,
        )
        for one in features
    ]
    expected = torch.cat(theirs, dim=1)[0].permute(1, 2, 0).numpy()
    assert_allclose(losses.hypercolumns(features, shape), expected, rtol=1e-12, atol=1e-12)


def test_hypercolumns_of_a_batch_are_those_of_its_members():
    batch = [maps(seed, 2, *each) for seed, each in enumerate(SHAPES)]
    found = losses.hypercolumns(batch, (3, 4))
    for index in range(2):
        one = losses.hypercolumns([each[index] for each in batch], (3, 4))
        assert_allclose(found[index], one, rtol=1e-5, atol=1e-6)


def test_hypercolumns_have_float32_at_least():
    assert losses.hypercolumns([jnp.ones((2, 2, 3), jnp.bfloat16)], (4, 4)).dtype == jnp.float32


# --- Nearest neighbours ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 7, 40, 10**6])
def test_the_nearest_are_scipys_in_blocks_of_any_size(block, x64):
    x, y = maps(0, 23, 5), maps(1, 11, 5)
    expected = np.argmin(cdist(np.asarray(x), np.asarray(y), "cosine"), axis=1)
    found = losses.nearest_indices(x, y, block=block)
    assert_array_equal(found, expected)
    assert found.dtype == jnp.int32


def test_of_equal_distances_the_first_is_taken():
    assert losses.nearest_indices(jnp.ones((2, 3)), jnp.ones((4, 3))).tolist() == [0, 0]


def test_the_search_does_not_keep_all_distances_at_once():
    rows, columns, block = 512, 256, 2**12
    shapes = [jax.ShapeDtypeStruct((n, 8), jnp.float32) for n in (rows, columns)]
    jaxpr = jax.make_jaxpr(lambda x, y: losses.nearest_indices(x, y, block=block))(*shapes)
    made = [out.aval.size for e in small.primitives(jaxpr.jaxpr) for out in e.outvars]
    assert rows * columns not in made
    assert max(made) == block


def test_shares_of_taps_add_up_to_the_cosine_distance(x64):
    x, y = maps(0, 6, 9), maps(1, 6, 9)
    shares = losses.cosine_shares(x, y, (4, 3, 2))
    assert [share.shape for share in shares] == [(6,)] * 3
    assert_allclose(sum(shares), np.diag(cdist(x, y, "cosine")), rtol=1e-12)


def test_the_gradient_of_the_least_distance_is_that_of_all_distances(x64):
    x, y = maps(0, 6, 4), maps(1, 9, 4)

    def directly(x, y):
        return jnp.mean(jnp.min(1 - unit(x) @ unit(y).T, axis=1))

    ours, theirs = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(x, y) for f in (losses.nearest_distance, directly)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-10, atol=1e-14), ours, theirs)


def test_zeros_have_a_finite_gradient():
    zeros = jnp.zeros((3, 4))
    value, slope = jax.value_and_grad(losses.nearest_distance)(zeros, maps(0, 5, 4))
    assert np.isfinite(value) and np.isfinite(slope).all()


def test_short_vectors_are_divided_by_the_shortest_length():
    short = jnp.asarray([[SHORTEST / 2, 0.0], [3.0, 4.0]])
    assert_allclose(unit(short), [[0.5, 0.0], [0.6, 0.8]], rtol=1e-6)


def test_centred_vectors_have_the_mean_zero(x64):
    assert_allclose(jnp.mean(centred(maps(0, 7, 3)), axis=0), np.zeros(3), atol=1e-15)


@pytest.mark.parametrize(
    "wrapped", [jax.jit, lambda f: lambda x, y: jax.vmap(f)(x[None], y[None])[0]]
)
def test_a_compiled_and_mapped_distance_is_the_eager_one(wrapped):
    x, y = maps(0, 6, 4), maps(1, 9, 4)
    expected = losses.nearest_distance(x, y)
    assert_allclose(wrapped(losses.nearest_distance)(x, y), expected, rtol=1e-5)


# --- Grids ----------------------------------------------------------------------------------------


def test_grid_lines_are_every_stride_th():
    for first in range(4):
        assert matching.grid_lines(first, 19, 4).tolist() == [first + 4 * i for i in range(4)]
    assert matching.grid_lines(0, 3, 1).tolist() == [0, 1, 2]
    assert matching.grid_lines(2, 2, 3).tolist() == [1]
