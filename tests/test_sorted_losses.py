"""Losses that sort features: sliced Wasserstein and channel histograms, by other implementations."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.test_util import check_grads
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import losses
from nst_jax.losses import samples
from tests import small

SLICED, HISTOGRAMS = losses.SLICED_WASSERSTEIN, losses.CHANNEL_HISTOGRAMS
BOTH = pytest.mark.parametrize("loss", [SLICED, HISTOGRAMS], ids=["sliced", "histograms"])
STEP = 3


def features(seed, *shape):
    """Return random features, about half of them zero as after a ReLU."""
    return jnp.maximum(small.noise(seed, *shape), 0)


def blended_target(loss, styles, shares=(1.0,)):
    measured = [loss.measure(style) for style in styles]
    return loss.target(loss.blend(measured, shares) if len(styles) > 1 else measured[0])


def distance(loss, canvas, *styles, shares=(1.0,), step=STEP):
    extent = losses.Extent(losses.positions(canvas), losses.positions(canvas), step)
    return loss.distance(loss.measure(canvas), blended_target(loss, styles, shares), extent)


def rows(features):
    return np.asarray(features, np.float64).reshape(-1, features.shape[-1])


def projections(features, step=STEP):
    channels = features.shape[-1]
    return rows(features) @ np.asarray(losses.random_directions(step, channels, jnp.float64)).T


def levels(count):
    return (np.arange(count) + 0.5) / count


# --- Order ----------------------------------------------------------------------------------------

AWKWARD = [0.0, -0.0, 1.5, -1.5, 3e38, -3e38, np.inf, -np.inf, 1e-30, 1.5, 1.5, 0.0, -2.0]


def test_numbers_are_put_in_order_whatever_their_signs_and_sizes():
    values = jnp.asarray([AWKWARD, AWKWARD[::-1]], jnp.float32)
    assert_array_equal(samples.in_order(values), np.sort(values, axis=1))


@pytest.mark.parametrize("length", [1, 2, 3, 8, 17, 64, 65])
def test_ranks_are_scipys(length):
    values = jnp.asarray(np.random.default_rng(length).integers(-3, 4, (5, length)), jnp.float32)
    found = samples.ranks(values)
    average = scipy.stats.rankdata(values, method="average", axis=1) - 1
    assert_array_equal(found.first, scipy.stats.rankdata(values, method="min", axis=1) - 1)
    assert_array_equal(found.as_given(found.middle), average)
    assert_array_equal(found.ordered, np.sort(values, axis=1))


@pytest.mark.parametrize(("own", "other"), [(7, 7), (7, 20), (20, 7), (5, 1), (1, 6)])
def test_quantiles_are_numpys_by_hazens_rule(own, other, x64):
    ordered = jnp.sort(small.noise(own, 3, other))
    places = jnp.arange(own, dtype=float)[None]
    found = samples.quantiles(ordered, jnp.asarray(float(other)), places, own)
    expected = np.quantile(ordered, levels(own), axis=1, method="hazen").T
    assert_allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_group_sizes_divide_the_number_of_rows_and_bound_what_is_sorted_at_once():
    assert samples.group_size(64, 100, 50) == 64
    assert samples.group_size(64, 2**17) == 16 and samples.group_size(60, 2**17) == 15
    assert samples.group_size(64, 100, 2**22) == 1


# --- Sliced Wasserstein ---------------------------------------------------------------------------


def test_sliced_wasserstein_is_the_mean_square_of_sorted_projections(x64):
    canvas, style = features(0, 6, 7, 5), features(1, 3, 14, 5)
    sorted_projections = (np.sort(projections(one), axis=0) for one in (canvas, style))
    expected = np.mean(np.subtract(*sorted_projections) ** 2)
    assert_allclose(distance(SLICED, canvas, style), expected, rtol=1e-12)


def test_sliced_wasserstein_and_its_gradient_are_torchs(torch, x64):
    canvas, style = features(2, 6, 7, 5), features(3, 6, 7, 5)
    directions = torch.tensor(np.asarray(losses.random_directions(STEP, 5, jnp.float64)))
    mine, other = (torch.tensor(rows(one).T, requires_grad=True) for one in (canvas, style))
    ordered = (
        torch.sort(torch.einsum("dn,md->mn", one, directions)).values for one in (mine, other)
    )
    expected = torch.mean((next(ordered) - next(ordered)) ** 2)
    expected.backward()
    found, gradient = jax.value_and_grad(lambda x: distance(SLICED, x, style))(canvas)
    assert_allclose(found, expected.item(), rtol=1e-12)
    assert_allclose(rows(gradient), mine.grad.numpy().T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("shape", [(2, 3, 4), (9, 8, 4)], ids=["smaller", "larger"])
def test_a_style_of_another_size_is_compared_by_its_quantiles(shape, x64):
    canvas, style = features(4, 5, 6, 4), features(5, *shape)
    wanted = np.quantile(projections(style), levels(30), axis=0, method="hazen")
    expected = np.mean((np.sort(projections(canvas), axis=0) - wanted) ** 2)
    assert_allclose(distance(SLICED, canvas, style), expected, rtol=1e-12)


def test_sliced_wasserstein_by_hand():
    # One channel, so that the only directions are 1 and -1: (1 - 2)² and (4 - 7)².
    canvas, style = jnp.asarray([[[4.0], [1.0]]]), jnp.asarray([[[2.0], [7.0]]])
    assert distance(SLICED, canvas, style) == (1 + 9) / 2


def test_the_gradient_of_sliced_wasserstein_agrees_with_finite_differences(x64):
    canvas, style = small.noise(6, 4, 3, 5), small.noise(7, 5, 4, 5)
    check_grads(lambda x: distance(SLICED, x, style), (canvas,), order=1, modes="rev", rtol=1e-6)


def test_directions_are_unit_vectors_and_new_in_every_update():
    first, second = (losses.random_directions(step, 32) for step in (1, 2))
    assert_allclose(jnp.linalg.norm(first, axis=1), 1, rtol=1e-6)
    assert np.abs(np.sum(np.asarray(first) * np.asarray(second), axis=1)).max() < 0.9
    assert_array_equal(losses.random_directions(jnp.int32(1), 32), first)


def test_directions_are_uniform_on_the_sphere():
    found = np.concatenate([losses.random_directions(step, 64) for step in range(8)])
    assert_allclose(found.T @ found / len(found), np.eye(64) / 64, atol=0.25 / 64)


def test_directions_are_the_same_in_both_precisions(x64):
    wide, narrow = (losses.random_directions(5, 16, dtype) for dtype in (jnp.float64, jnp.float32))
    assert wide.dtype == jnp.float64 and narrow.dtype == jnp.float32
    assert_allclose(wide, narrow, rtol=1e-6, atol=1e-7)


def test_the_mean_over_many_updates_is_what_two_clouds_have_by_calculation():
    # Two clouds that are points: the mean squared length of a difference v along a random direction
    # in C dimensions is |v|² / C.
    canvas, style = jnp.zeros((2, 2, 8)), jnp.full((3, 2, 8), 2.0)
    found = jax.vmap(lambda step: distance(SLICED, canvas, style, step=step))(jnp.arange(500))
    assert_allclose(np.mean(found), 4 * 8 / 8, rtol=0.05)


def test_another_number_of_the_update_compiles_nothing(compilations):
    canvas, style = features(8, 4, 5, 3), features(9, 4, 5, 3)
    loss = jax.jit(lambda step: distance(SLICED, canvas, style, step=step))
    first, before = float(loss(jnp.int32(1))), compilations()
    assert float(loss(jnp.int32(2))) != first
    assert compilations() == before


def test_projections_sorted_in_groups_give_the_same(monkeypatch, x64):
    canvas, style = features(10, 4, 6, 6), features(11, 5, 6, 6)

    def both(loss):
        return jax.value_and_grad(lambda x: distance(loss, x, style))(canvas)

    whole = [both(SLICED), both(HISTOGRAMS)]
    monkeypatch.setattr(samples, "AT_ONCE", 70)
    assert samples.group_size(6, 24, 30) == 2
    for mine, other in zip(
        jax.tree.leaves([both(SLICED), both(HISTOGRAMS)]), jax.tree.leaves(whole), strict=True
    ):
        assert_allclose(mine, other, rtol=1e-12, atol=1e-15)


def test_equal_positions_of_a_flat_canvas_get_equal_gradients():
    canvas, style = jnp.full((4, 5, 6), 0.5), features(12, 4, 5, 6)
    gradient = jax.grad(lambda x: distance(SLICED, x, style))(canvas)
    assert np.ptp(np.asarray(gradient), axis=(0, 1)).max() == 0 and np.abs(gradient).max() > 0


# --- Channel histograms ---------------------------------------------------------------------------


def matched(channel, style):
    """Return a channel with the style's distribution: the quantile at the middle level of each value."""
    level = (scipy.stats.rankdata(channel, method="average") - 0.5) / len(channel)
    return np.quantile(style, level, method="hazen")


@pytest.mark.parametrize("shape", [(6, 5, 4), (4, 3, 4), (9, 8, 4)], ids=["equal", "less", "more"])
def test_channel_histograms_are_matched_channel_by_channel(shape, x64):
    canvas, style = features(13, 6, 5, 4), features(14, *shape)
    mine, other = rows(canvas), rows(style)
    wanted = np.stack([matched(mine[:, c], other[:, c]) for c in range(4)], axis=1)
    found, gradient = jax.value_and_grad(lambda x: distance(HISTOGRAMS, x, style))(canvas)
    assert_allclose(found, np.mean((mine - wanted) ** 2), rtol=1e-12)
    assert_allclose(rows(gradient), 2 * (mine - wanted) / mine.size, rtol=1e-9, atol=1e-15)


def test_matched_channels_are_those_of_255_bins_to_within_the_width_of_a_bin(x64):
    # Matching as the source does it: cumulative histograms of 255 bins, compared bin by bin.
    generator = np.random.default_rng(15)
    canvas, style = generator.uniform(0, 2, 40_000), generator.gamma(2, 1, 40_000)
    inner = np.histogram_bin_edges(style, 255)
    shares, _ = np.histogram(style, inner)
    own = np.histogram_bin_edges(canvas, 255)
    places = np.clip(np.digitize(canvas, own) - 1, 0, 254)
    cumulative = np.cumsum(np.histogram(canvas, own)[0]) / canvas.size
    binned = np.interp(cumulative, np.cumsum(shares) / style.size, inner[1:])[places]
    target = blended_target(HISTOGRAMS, [jnp.asarray(style).reshape(200, 200, 1)])
    found = losses.matched_channels(jnp.asarray(canvas)[None], target)[0]
    usual = np.abs(canvas - 1) < 0.9  # the extremes of a long tail are further apart than a bin
    assert np.abs(found - binned)[usual].max() < inner[1] - inner[0]


def test_the_histogram_of_matched_channels_is_the_styles():
    canvas, style = small.noise(16, 1, 60), features(17, 5, 12, 1)
    found = losses.matched_channels(canvas, blended_target(HISTOGRAMS, [style]))
    assert_array_equal(np.sort(found[0]), np.sort(np.ravel(style)))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_pictures_with_equal_histograms_have_no_loss_whatever_their_size(times):
    style = features(18, 4, 5, 6)
    turned = jnp.concatenate([style[::-1, ::-1]] * times)
    assert distance(HISTOGRAMS, turned, style) < 1e-12
    assert distance(HISTOGRAMS, style, turned) < 1e-12


def test_equal_values_stay_equal():
    found = losses.matched_channels(
        jnp.asarray([[0.0, 5.0, 0.0, -0.0]]),
        blended_target(HISTOGRAMS, [jnp.asarray([[[1.0], [2.0], [3.0], [4.0]]])]),
    )
    assert_array_equal(found, [[2.0, 4.0, 2.0, 2.0]])


# --- Both -----------------------------------------------------------------------------------------


@BOTH
def test_sorted_losses_are_the_same_eager_compiled_and_mapped(loss):
    canvases, styles = features(19, 3, 4, 5, 6), features(20, 3, 4, 6, 6)

    def both(canvas, style):
        return jax.value_and_grad(lambda x: distance(loss, x, style))(canvas)

    eager = [both(canvas, style) for canvas, style in zip(canvases, styles, strict=True)]
    stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *eager)
    compiled = jax.tree.map(lambda *parts: jnp.stack(parts), *map(jax.jit(both), canvases, styles))
    for found in (
        compiled,
        jax.vmap(both)(canvases, styles),
        jax.jit(jax.vmap(both))(canvases, styles),
    ):
        assert_allclose(found[0], stacked[0], rtol=1e-5)
        assert_allclose(found[1], stacked[1], rtol=1e-5, atol=1e-6 * np.abs(stacked[1]).max())


@BOTH
def test_sorted_losses_do_not_depend_on_where_features_are(loss, key):
    style = features(21, 6, 7, 5)
    elsewhere = jax.random.permutation(key, style.reshape(42, 5)).reshape(style.shape)
    assert distance(loss, elsewhere, style) < 1e-12
    assert distance(loss, elsewhere + 1, style) > 0.1


@BOTH
@pytest.mark.parametrize("value", [0.0, 1.0, 1e18])
def test_flat_features_have_finite_losses_and_gradients(loss, value):
    flat, style = jnp.full((4, 5, 6), value), features(22, 3, 3, 6)
    for canvas, other in ((flat, style), (style, flat), (flat, flat)):
        found = jax.value_and_grad(lambda x, s=other: distance(loss, x, s))(canvas)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert distance(loss, flat, flat) <= 1e-10 * value**2


@BOTH
def test_features_that_are_not_finite_are_not_hidden(loss):
    style = features(22, 3, 3, 6)
    assert not np.isfinite(distance(loss, style.at[1, 1, 1].set(jnp.nan), style))


@BOTH
def test_features_in_bfloat16_are_compared_in_float32(loss):
    canvas, style = (features(seed, 6, 5, 8).astype(jnp.bfloat16) for seed in (23, 24))
    wide = [one.astype(jnp.float32) for one in (canvas, style)]
    found, gradient = jax.value_and_grad(lambda x: distance(loss, x, style))(canvas)
    expected, exact = jax.value_and_grad(lambda x: distance(loss, x, wide[1]))(wide[0])
    assert found.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    assert_allclose(found, expected, rtol=1e-6)
    assert_allclose(gradient.astype(jnp.float32), exact, rtol=1e-2, atol=1e-2 * np.abs(exact).max())


@BOTH
def test_a_blend_is_compared_by_the_mean_of_its_quantiles(loss, x64):
    canvas, styles, shares = (
        features(25, 5, 6, 4),
        [features(26, 5, 6, 4), features(27, 3, 3, 4)],
        (0.7, 0.3),
    )
    found, gradient = jax.value_and_grad(lambda x: distance(loss, x, *styles, shares=shares))(
        canvas
    )
    apart = [
        jax.value_and_grad(lambda x, s=style: distance(loss, x, s))(canvas) for style in styles
    ]
    # The gradient is the mean of the gradients; the loss is less than the mean of the losses.
    assert_allclose(gradient, 0.7 * apart[0][1] + 0.3 * apart[1][1], rtol=1e-9, atol=1e-15)
    assert 0 < found < 0.7 * apart[0][0] + 0.3 * apart[1][0]


def test_a_blend_of_sliced_wasserstein_by_its_quantiles(x64):
    canvas, styles = features(28, 5, 6, 4), [features(29, 5, 6, 4), features(30, 3, 3, 4)]
    quantiles = [
        np.quantile(projections(one), levels(30), axis=0, method="hazen") for one in styles
    ]
    wanted = 0.7 * quantiles[0] + 0.3 * quantiles[1]
    expected = np.mean((np.sort(projections(canvas), axis=0) - wanted) ** 2)
    assert_allclose(distance(SLICED, canvas, *styles, shares=(0.7, 0.3)), expected, rtol=1e-12)


@BOTH
def test_what_fills_up_a_shorter_style_is_not_seen(loss):
    canvas, style = features(31, 4, 5, 3) - 0.5, features(32, 3, 4, 3) - 0.5
    target = blended_target(loss, [style])
    widths = ((0, 1), (0, 5), (0, 0)) if loss is SLICED else ((0, 1), (0, 0), (0, 5))
    filled = type(target)(
        jnp.pad(target[0], widths), jnp.pad(target.counts, (0, 1)), jnp.pad(target.shares, (0, 1))
    )
    extent = losses.Extent(20, 20, STEP)
    assert_array_equal(
        loss.distance(loss.measure(canvas), filled, extent), distance(loss, canvas, style)
    )


@BOTH
def test_a_sorted_loss_keeps_the_styles_features_and_says_that_it_needs_whole_pictures(loss):
    measured = loss.measure(features(33, 4, 5, 3).astype(jnp.bfloat16))
    assert measured.values.shape == (1, 20, 3) and measured.values.dtype == jnp.bfloat16
    assert not loss.additive
