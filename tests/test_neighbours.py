"""Losses of whole sets of feature vectors: against NumPy, SciPy and PyTorch in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist

from nst_jax import losses
from nst_jax.losses import grids
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


def test_sampled_features_are_interpolated_by_hand(x64):
    picture, deep = maps(0, 8, 6, 2), maps(1, 4, 3, 3)
    found = losses.sampled([picture, deep], jnp.asarray([[3, 4], [7, 5]]), (1, 2))
    a, b = np.asarray(picture), np.asarray(deep)
    assert_allclose(found[:, :2], [a[3, 4], a[7, 5]])
    # (3, 4) / 2 is half-way between the lines 1 and 2; (7, 5) / 2 is beyond the last lines, 3 and 2.
    assert_allclose(found[0, 2:], (b[1, 2] + b[2, 2]) / 2)
    assert_allclose(found[1, 2:], b[3, 2])


def test_the_gradient_of_sampled_features_adds_up_at_shared_positions(x64):
    places = jnp.asarray([[0, 0], [0, 1], [0, 1]])
    slope = jax.grad(lambda x: jnp.sum(losses.sampled([x], places, (2,))))(maps(0, 2, 2, 1))
    assert_allclose(slope[..., 0], [[2.0, 1.0], [0.0, 0.0]])


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
        jax.value_and_grad(f, (0, 1))(x, y) for f in (losses.nearest_distance, directly)
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
@pytest.mark.parametrize(
    "loss", [losses.nearest_distance, losses.relaxed_transport, losses.moment_distance]
)
def test_compiled_and_mapped_losses_are_the_eager_ones(loss, wrapped):
    x, y = maps(0, 6, 4), maps(1, 9, 4)
    assert_allclose(wrapped(loss)(x, y), loss(x, y), rtol=1e-5)


# --- Transport, moments, palette -------------------------------------------------------------------


def test_relaxed_transport_is_the_larger_mean_of_minima(x64):
    x, y = maps(0, 6, 4), maps(1, 9, 4)
    cost = cdist(x, y, "cosine")
    expected = max(cost.min(1).mean(), cost.min(0).mean())
    assert_allclose(losses.relaxed_transport(x, y), expected, rtol=1e-12)
    assert_allclose(losses.relaxed_transport(y, x), expected, rtol=1e-12)


def test_relaxed_transport_is_at_most_the_earth_movers_distance(x64):
    from scipy.optimize import linear_sum_assignment

    x, y = maps(0, 8, 4), maps(1, 8, 4)
    cost = cdist(x, y, "cosine")
    exact = cost[linear_sum_assignment(cost)].mean()
    assert 0 < losses.relaxed_transport(x, y) <= exact


def test_moments_are_numpys(x64):
    x, y = maps(0, 6, 4), maps(1, 9, 4)
    means = np.abs(np.mean(x, 0) - np.mean(y, 0)).mean()
    covariances = np.abs(np.cov(x, rowvar=False) - np.cov(y, rowvar=False)).mean()
    assert_allclose(losses.moment_distance(x, y), means + covariances, rtol=1e-12)


def test_the_palette_is_scipys(x64):
    x, y = (jnp.asarray(np.random.default_rng(seed).random((n, 3))) for seed, n in ((0, 5), (1, 7)))
    basis = np.array(
        [
            [0.57735, 0.57735, 0.57735],
            [-0.57735, 0.788675, -0.211325],
            [-0.57735, -0.211325, 0.788675],
        ]
    )
    a, b = np.asarray(x) @ basis.T, np.asarray(y) @ basis.T
    cost = cdist(a, b, "cosine") + np.sqrt(np.maximum(cdist(a, b) ** 2, 1e-5) / 3)
    expected = max(cost.min(1).mean(), cost.min(0).mean())
    assert_allclose(losses.palette_transport(x, y), expected, rtol=1e-12)


def test_equal_palettes_have_a_finite_gradient():
    x = jnp.ones((3, 3)) / 2
    value, slope = jax.value_and_grad(losses.palette_transport)(x, x)
    assert_allclose(value, np.sqrt(1e-5 / 3), rtol=1e-3)
    assert np.isfinite(slope).all()


# --- Grids ----------------------------------------------------------------------------------------


def test_grid_lines_are_every_stride_th():
    for first in range(4):
        assert grids.grid_lines(first, 19, 4).tolist() == [first + 4 * i for i in range(4)]
    assert grids.grid_lines(0, 3, 1).tolist() == [0, 1, 2]


def test_random_places_are_different_places_of_one_grid_for_ten_updates():
    shape = (300, 500)  # stride 3
    taken = [np.asarray(grids.random_places(step, shape, 64)) for step in (10, 11, 19, 20)]
    for places in taken:
        assert len({tuple(place) for place in places}) == 64
        assert (places >= 0).all() and (places < shape).all()
        assert len({tuple(place % 3) for place in places}) == 1
    firsts = [tuple(places[0] % 3) for places in taken]
    assert firsts[0] == firsts[1] == firsts[2]
    assert not np.array_equal(taken[0], taken[1])


def test_grids_are_drawn_anew_every_ten_updates():
    firsts = {
        tuple(np.asarray(grids.random_places(10 * i, (600, 600), 1))[0] % 4) for i in range(9)
    }
    assert len(firsts) > 3


def test_places_are_spread_evenly():
    places = np.asarray(grids.random_places(5, (256, 256), 4096))
    for axis in (0, 1):
        counts = np.histogram(places[:, axis], bins=4, range=(0, 256))[0]
        # 1024 are expected in a quarter; the deviation of a draw of a quarter is 24.
        assert abs(counts - 1024).max() < 5 * 24


def test_a_number_of_update_compiles_nothing_anew(compilations):
    run = jax.jit(lambda step: grids.random_places(step, (40, 50), 100))
    first = np.asarray(run(jnp.int32(0)))
    before = compilations()
    assert not np.array_equal(first, run(jnp.int32(1)))
    assert compilations() == before
