"""Losses that sort features: sliced Wasserstein and channel histograms, against other code."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import losses
from nst_jax.losses import histograms, samples, sliced
from tests import small

SLICED, HISTOGRAMS = losses.SLICED_WASSERSTEIN, losses.CHANNEL_HISTOGRAMS
SLICED_SCALED = losses.SLICED_WASSERSTEIN_GRADIENT_SCALED
HISTOGRAMS_SCALED = losses.CHANNEL_HISTOGRAMS_GRADIENT_SCALED
BOTH = pytest.mark.parametrize("loss", [SLICED, HISTOGRAMS], ids=["sliced", "histograms"])
SCALED = pytest.mark.parametrize(
    "loss", [SLICED_SCALED, HISTOGRAMS_SCALED], ids=["sliced", "histograms"]
)
ALL = pytest.mark.parametrize(
    "loss",
    [SLICED, HISTOGRAMS, SLICED_SCALED, HISTOGRAMS_SCALED],
    ids=["sliced", "histograms", "sliced, scaled", "histograms, scaled"],
)
STEP = 3
SHAPE, SMALLER, LARGER = (5, 6, 4), (3, 3, 4), (9, 8, 4)


def features(seed, *shape):
    """Return random features, about half of them zero as after a ReLU."""
    return jnp.asarray(np.maximum(np.random.default_rng(seed).normal(size=shape), 0))


def blended_target(loss, styles, shares=(1.0,)):
    measured = [loss.measure(style) for style in styles]
    return loss.target(loss.blend(measured, shares) if len(styles) > 1 else measured[0])


@partial(jax.jit, static_argnums=0)
def value_and_gradient(loss, canvas, *styles, shares=(1.0,), step=STEP):
    """Return the loss and its gradient; compiled, so that tests with equal shapes share a program."""

    def distance(canvas):
        extent = losses.Extent(losses.positions(canvas), losses.positions(canvas), step)
        return loss.distance(loss.measure(canvas), blended_target(loss, styles, shares), extent)

    return jax.value_and_grad(distance)(canvas)


def distance(loss, canvas, *styles, **options):
    return value_and_gradient(loss, canvas, *styles, **options)[0]


def rows(features):
    return np.asarray(features, np.float64).reshape(-1, features.shape[-1])


def projections(features, step=STEP):
    channels = features.shape[-1]
    return rows(features) @ np.asarray(losses.random_directions(step, channels, jnp.float64)).T


def levels(count):
    return (np.arange(count) + 0.5) / count


# --- Sorting and quantiles ------------------------------------------------------------------------

AWKWARD = [0.0, -0.0, 1.5, -1.5, 3e38, -3e38, np.inf, -np.inf, 1e-30, 1.5, 1.5, 0.0, -2.0]


def test_numbers_are_put_in_order_whatever_their_signs_and_sizes():
    values = jnp.asarray([AWKWARD, AWKWARD[::-1]], jnp.float32)
    assert_array_equal(samples.in_order(values), np.sort(values, axis=1))


@pytest.mark.parametrize(
    "length", [1, 2, 17, 64, *(pytest.param(n, marks=pytest.mark.long) for n in (3, 8, 65))]
)
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
    assert samples.group_size(64, 100, 50) == 32 and samples.group_size(3, 100, 50) == 1
    assert samples.group_size(64, 2**17) == 16 and samples.group_size(60, 2**17) == 15
    assert samples.group_size(64, 100, 2**22) == 1


# --- Sliced Wasserstein ---------------------------------------------------------------------------


@pytest.mark.torch
def test_sliced_wasserstein_and_its_gradient_are_torchs(torch, x64):
    # The source's formula, with our directions: both are projected and sorted.
    canvas, style = features(2, *SHAPE), features(3, *SHAPE)
    directions = torch.tensor(np.asarray(losses.random_directions(STEP, 4, jnp.float64)))
    mine, other = (torch.tensor(rows(one).T, requires_grad=True) for one in (canvas, style))
    ordered = [
        torch.sort(torch.einsum("dn,md->mn", one, directions)).values for one in (mine, other)
    ]
    expected = torch.mean((ordered[0] - ordered[1]) ** 2)
    expected.backward()
    found, gradient = value_and_gradient(SLICED, canvas, style)
    assert_allclose(found, expected.item(), rtol=1e-12)
    assert_allclose(rows(gradient), mine.grad.numpy().T, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("shape", [SHAPE, SMALLER, LARGER], ids=["equal", "smaller", "larger"])
def test_sliced_wasserstein_is_the_mean_square_of_quantiles_on_all_directions(shape, x64):
    canvas, style = features(4, *SHAPE), features(5, *shape)
    wanted = np.quantile(projections(style), levels(30), axis=0, method="hazen")
    expected = np.mean((np.sort(projections(canvas), axis=0) - wanted) ** 2)
    assert_allclose(distance(SLICED, canvas, style), expected, rtol=1e-12)


def test_sliced_wasserstein_by_hand():
    # One channel, so that the only directions are 1 and -1: (1 - 2)² and (4 - 7)².
    canvas, style = jnp.asarray([[[4.0], [1.0]]]), jnp.asarray([[[2.0], [7.0]]])
    assert distance(SLICED, canvas, style) == (1 + 9) / 2


def test_the_gradient_of_sliced_wasserstein_agrees_with_finite_differences(x64):
    canvas, style, along = (small.noise(seed, *SHAPE) for seed in (6, 7, 8))
    far, near = (distance(SLICED, canvas + step * along, style) for step in (1e-6, -1e-6))
    gradient = value_and_gradient(SLICED, canvas, style)[1]
    assert_allclose((far - near) / 2e-6, jnp.vdot(gradient, along), rtol=1e-6)


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


def test_the_mean_over_many_updates_is_what_two_points_have_by_calculation():
    # The mean square of a vector's component on a random direction in C dimensions is its square / C.
    canvas, style = jnp.zeros(SHAPE), jnp.full(SMALLER, 2.0)
    found = [distance(SLICED, canvas, style, step=step) for step in range(500)]
    assert_allclose(np.mean(found), 2.0**2, rtol=0.05)


def test_another_number_of_the_update_compiles_nothing(compilations):
    canvas, style = features(8, *SHAPE), features(9, *SHAPE)
    first, before = float(distance(SLICED, canvas, style, step=1)), compilations()
    second, after = float(distance(SLICED, canvas, style, step=2)), compilations()
    assert first != second and after == before


@ALL
def test_rows_sorted_in_groups_give_the_same(loss, monkeypatch, x64):
    canvas, style = features(10, *SHAPE), features(11, *LARGER)
    grouped = value_and_gradient(loss, canvas, style)
    assert samples.group_size(4, 30, 72) == 2
    for module in (sliced, histograms):
        monkeypatch.setattr(module, "group_size", lambda rows, *lengths: rows)
    whole = value_and_gradient.__wrapped__(loss, canvas, style)
    for mine, other in zip(grouped, whole, strict=True):
        assert_allclose(mine, other, rtol=1e-12, atol=1e-15)


def test_equal_positions_of_a_flat_canvas_get_equal_gradients():
    canvas, style = jnp.full(SHAPE, 0.5), features(12, *SHAPE)
    gradient = value_and_gradient(SLICED, canvas, style)[1]
    assert np.ptp(np.asarray(gradient), axis=(0, 1)).max() == 0 and np.abs(gradient).max() > 0


# --- Channel histograms ---------------------------------------------------------------------------


def matched(channel, style):
    """Return a channel with the style's distribution: the quantiles at the levels of its values."""
    level = (scipy.stats.rankdata(channel, method="average") - 0.5) / len(channel)
    return np.quantile(style, level, method="hazen")


@pytest.mark.parametrize("shape", [SHAPE, SMALLER, LARGER], ids=["equal", "smaller", "larger"])
def test_channel_histograms_are_matched_channel_by_channel(shape, x64):
    canvas, style = features(13, *SHAPE), features(14, *shape)
    mine, other = rows(canvas), rows(style)
    wanted = np.stack([matched(mine[:, c], other[:, c]) for c in range(4)], axis=1)
    found, gradient = value_and_gradient(HISTOGRAMS, canvas, style)
    assert_allclose(found, np.mean((mine - wanted) ** 2), rtol=1e-12)
    assert_allclose(rows(gradient), 2 * (mine - wanted) / mine.size, rtol=1e-9, atol=1e-15)


def test_matched_channels_are_those_of_255_bins_to_within_three_bins(x64):
    # As in the sources: cumulative histograms of 255 bins, one interpolated at the shares of the other.
    generator = np.random.default_rng(15)
    canvas, style = generator.uniform(0, 2, 40_000), generator.uniform(0, 1, 40_000)
    style = 3 + style + 0.1 * np.sin(2 * np.pi * style)
    (own, ends), (others, edges) = np.histogram(canvas, 255), np.histogram(style, 255)
    shares = np.cumsum(own) / canvas.size
    bins = np.clip(np.digitize(canvas, ends) - 1, 0, 254)
    binned = np.interp(shares, np.cumsum(others) / style.size, edges[1:])[bins]
    target = blended_target(HISTOGRAMS, [jnp.asarray(style).reshape(200, 200, 1)])
    found = losses.matched_channels(jnp.asarray(canvas)[None], target)[0]
    # Within one bin of the canvas, the style's quantiles change by up to 1.6 of its bins.
    assert np.abs(found - binned).max() < 3 * (edges[1] - edges[0])
    assert np.abs(canvas / 2 + 3 - binned).max() > 20 * (edges[1] - edges[0])


def test_the_histogram_of_matched_channels_is_the_styles():
    canvas, style = small.noise(16, 4, 30), features(17, *SHAPE)
    found = losses.matched_channels(canvas, blended_target(HISTOGRAMS, [style]))
    assert_array_equal(np.sort(found, axis=1), np.sort(rows(style).T, axis=1))


@pytest.mark.parametrize("times", [1, 2, 3])
def test_pictures_with_equal_histograms_have_no_loss_whatever_their_size(times):
    style = features(18, *SMALLER)
    turned = jnp.concatenate([style[::-1, ::-1]] * times)
    assert distance(HISTOGRAMS, turned, style) < 1e-12
    assert distance(HISTOGRAMS, style, turned) < 1e-12


def test_equal_values_stay_equal():
    found = losses.matched_channels(
        jnp.asarray([[0.0, 5.0, 0.0, -0.0]]),
        blended_target(HISTOGRAMS, [jnp.asarray([[[1.0], [2.0], [3.0], [4.0]]])]),
    )
    assert_array_equal(found, [[2.0, 4.0, 2.0, 2.0]])


# --- Gradient-scaled squares ----------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("shape", [SHAPE, SMALLER, LARGER], ids=["equal", "smaller", "larger"])
def test_gradient_scaled_projections_are_torchs(shape, torch, x64):
    # Without equal projections, whose order torch leaves open.
    canvas, style = small.noise(34, *SHAPE), small.noise(35, *shape)
    directions = torch.tensor(np.asarray(losses.random_directions(STEP, 4, jnp.float64)))
    mine = torch.tensor(rows(canvas), requires_grad=True)
    wanted = np.quantile(projections(style), levels(30), axis=0, method="hazen")
    difference = torch.sort(mine @ directions.T, dim=0).values - torch.tensor(wanted)
    expected = (difference**2).sum() / (difference.abs().sum() + 1e-8)
    expected.backward()
    found, gradient = value_and_gradient(SLICED_SCALED, canvas, style)
    assert_allclose(found, expected.item(), rtol=1e-12)
    assert_allclose(rows(gradient), mine.grad.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.torch
@pytest.mark.parametrize("shape", [SHAPE, SMALLER, LARGER], ids=["equal", "smaller", "larger"])
def test_gradient_scaled_histograms_are_torchs(shape, torch, x64):
    canvas, style = small.noise(36, *SHAPE), small.noise(37, *shape)
    mine = torch.tensor(rows(canvas), requires_grad=True)
    order = scipy.stats.rankdata(rows(canvas), axis=0).astype(int) - 1
    quantiles = np.quantile(rows(style), levels(30), axis=0, method="hazen")
    difference = mine - torch.tensor(np.take_along_axis(quantiles, order, axis=0))
    expected = (difference**2).sum() / (difference.abs().sum() + 1e-8)
    expected.backward()
    found, gradient = value_and_gradient(HISTOGRAMS_SCALED, canvas, style)
    assert_allclose(found, expected.item(), rtol=1e-12)
    assert_allclose(rows(gradient), mine.grad.numpy(), rtol=1e-9, atol=1e-12)


@SCALED
def test_the_gradient_of_a_gradient_scaled_loss_agrees_with_finite_differences(loss, x64):
    canvas, style, along = (small.noise(seed, *SHAPE) for seed in (38, 39, 40))
    far, near = (distance(loss, canvas + step * along, style) for step in (1e-6, -1e-6))
    gradient = value_and_gradient(loss, canvas, style)[1]
    assert_allclose((far - near) / 2e-6, jnp.vdot(gradient, along), rtol=1e-6)


@SCALED
def test_a_gradient_scaled_loss_grows_like_the_features_and_its_gradient_does_not(loss, x64):
    canvas, style = features(38, *SHAPE), features(39, *SMALLER)
    value, gradient = value_and_gradient(loss, canvas, style)
    larger, same = value_and_gradient(loss, 100 * canvas, 100 * style)
    assert_allclose(larger, 100 * value, rtol=1e-8)
    assert_allclose(same, gradient, rtol=1e-7, atol=1e-12)


@SCALED
def test_equal_pictures_have_no_gradient_scaled_loss_and_no_gradient(loss):
    canvas = features(40, *SHAPE)
    value, gradient = value_and_gradient(loss, canvas, canvas)
    assert value == 0 and not np.any(gradient)


# --- All sorted losses ----------------------------------------------------------------------------


@ALL
def test_sorted_losses_are_the_same_eager_compiled_and_mapped(loss):
    canvases, styles = features(19, 3, *SHAPE), features(20, 3, *SHAPE)
    found = jax.vmap(partial(value_and_gradient, loss))(canvases, styles)
    for place in range(3):
        one = canvases[place], styles[place]
        compiled = value_and_gradient(loss, *one)
        for mine, other in zip(compiled, (x[place] for x in found), strict=True):
            assert_allclose(other, mine, rtol=1e-5, atol=1e-6 * np.abs(mine).max())
    with jax.disable_jit():
        assert_allclose(value_and_gradient(loss, *one)[0], compiled[0], rtol=1e-5)


@ALL
def test_sorted_losses_do_not_depend_on_where_features_are(loss, key):
    style = features(21, *SHAPE)
    elsewhere = jax.random.permutation(key, style.reshape(30, 4)).reshape(style.shape)
    assert distance(loss, elsewhere, style) < 1e-12
    assert distance(loss, elsewhere + 2, style) > 0.1


@ALL
@pytest.mark.parametrize("value", [0.0, 1.0, 1e18])
def test_flat_features_have_finite_losses_and_gradients(loss, value):
    flat, style = jnp.full(SHAPE, value), features(22, *SHAPE)
    for canvas, other in ((flat, style), (style, flat), (flat, flat)):
        found = value_and_gradient(loss, canvas, other)
        assert all(np.isfinite(leaf).all() for leaf in found)
    assert distance(loss, flat, flat) == 0


@ALL
def test_features_that_are_not_finite_are_not_hidden(loss):
    style = features(22, *SHAPE)
    assert not np.isfinite(distance(loss, style.at[1, 1, 1].set(jnp.nan), style))


@ALL
def test_features_in_bfloat16_are_compared_in_float32(loss):
    canvas, style = (features(seed, *SHAPE).astype(jnp.bfloat16) for seed in (23, 24))
    found, gradient = value_and_gradient(loss, canvas, style)
    expected, exact = value_and_gradient(
        loss, canvas.astype(jnp.float32), style.astype(jnp.float32)
    )
    assert found.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    assert_allclose(found, expected, rtol=1e-6)
    assert_allclose(gradient.astype(jnp.float32), exact, rtol=1e-2, atol=1e-2 * np.abs(exact).max())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_channels_of_16_bits_are_matched_in_float32(dtype):
    # In bfloat16, not all ranks of 600 values would be different numbers.
    channels = small.noise(25, 4, 600).astype(dtype)
    target = blended_target(HISTOGRAMS, [features(26, *SHAPE)])
    found = losses.matched_channels(channels, target)
    assert_array_equal(
        found, losses.matched_channels(channels.astype("float32"), target), strict=True
    )


# --- Several styles -------------------------------------------------------------------------------


@BOTH
def test_a_blend_pulls_as_the_average_of_its_styles_does(loss, x64):
    canvas, styles = features(25, *SHAPE), [features(26, *SHAPE), features(27, *SMALLER)]
    found, gradient = value_and_gradient(loss, canvas, *styles, shares=(0.7, 0.3))
    apart = [value_and_gradient(loss, canvas, style) for style in styles]
    mean = [0.7 * first + 0.3 * second for first, second in zip(*apart, strict=True)]
    assert_allclose(gradient, mean[1], rtol=1e-9, atol=1e-15)
    assert 0 < found < mean[0]


def test_a_blend_of_sliced_wasserstein_by_its_quantiles(x64):
    canvas, styles = features(25, *SHAPE), [features(26, *SHAPE), features(27, *SMALLER)]
    quantiles = [
        np.quantile(projections(one), levels(30), axis=0, method="hazen") for one in styles
    ]
    wanted = 0.7 * quantiles[0] + 0.3 * quantiles[1]
    expected = np.mean((np.sort(projections(canvas), axis=0) - wanted) ** 2)
    assert_allclose(distance(SLICED, canvas, *styles, shares=(0.7, 0.3)), expected, rtol=1e-12)


@BOTH
def test_what_fills_up_a_shorter_style_is_not_seen(loss):
    canvas, style = features(31, *SHAPE) - 0.5, features(32, *SMALLER) - 0.5
    target = blended_target(loss, [style])
    widths = ((0, 1), (0, 5), (0, 0)) if loss is SLICED else ((0, 1), (0, 0), (0, 5))
    filled = type(target)(
        jnp.pad(target[0], widths), jnp.pad(target.counts, (0, 1)), jnp.pad(target.shares, (0, 1))
    )
    found = jax.jit(loss.distance)(loss.measure(canvas), filled, losses.Extent(30, 30, STEP))
    assert_allclose(found, distance(loss, canvas, style), rtol=1e-6)


@BOTH
def test_a_sorted_loss_keeps_the_styles_features_and_says_that_it_needs_whole_pictures(loss):
    measured = loss.measure(features(33, *SHAPE).astype(jnp.bfloat16))
    assert measured.values.shape == (1, 30, 4) and measured.values.dtype == jnp.bfloat16
    assert not loss.additive


@pytest.mark.optimized
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="XLA for a GPU orders operations itself")
@pytest.mark.parametrize("loss", [SLICED, losses.SLICED_WASSERSTEIN_GRADIENT_SCALED])
def test_gradients_of_projections_take_no_memory_before_their_layer(loss):
    shape, copies, layers = (32, 64, 16), 20, 3

    def total(x, styles):
        # Work that takes `copies` arrays like `x`, before the first layer that a loss reads.
        many = jnp.sort(x[None] * jnp.arange(1.0, copies + 1)[:, None, None, None], axis=0)
        x, found = x + jax.lax.stop_gradient(many[7]), 0.0
        for style in styles:
            x = jnp.tanh(1.5 * x)
            found += loss.distance(loss.measure(x), loss.measure(style), losses.Extent(2048, 2048))
        return found

    x = jax.ShapeDtypeStruct(shape, jnp.float32)
    compiled = jax.jit(jax.value_and_grad(total)).lower(x, [x] * layers).compile()
    arrays = compiled.memory_analysis().temp_size_in_bytes / (4 * x.size)
    # A gradient of one of the layers, made at the start, would be one more array.
    assert arrays < copies + 2
