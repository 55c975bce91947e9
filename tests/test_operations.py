"""The count of a run's operations: against XLA's own count, and how it grows with sizes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import nst_jax as nst
from nst_jax import losses, recipes, run_scales
from nst_jax.scaling import loss_costs, tile_grid
from nst_jax.scaling.operations import (
    measuring_operations,
    run_operations,
    scale_operations,
    update_operations,
)
from tests import small

pytestmark = pytest.mark.optimized


def network(recipe, **fields):
    return replace(recipe, network=replace(recipe.network, **fields))


def large(recipe=recipes.DEFAULT, side=1024, platform="cpu"):
    """Return the operations of an update without what does not depend on size."""
    both = (update_operations((h, side), recipe, platform) for h in (side, 2 * side))
    one, two = both
    return two - one


def test_it_is_what_xla_counts(params):
    """Three layers with Gram matrices at two sizes, whose difference has no constant part."""
    recipe = recipes.as_arrays(small.shallow(recipes.TF).bare())

    def counted(shape):
        image = jax.ShapeDtypeStruct((*shape, 3), jnp.float32)
        targets = jax.eval_shape(nst.measure, params, image, image, recipe)

        def loss(image, targets):
            return nst.losses_of(params, image, targets, recipe).total

        lowered = jax.jit(jax.value_and_grad(loss)).lower(image, targets)
        return lowered.compile().cost_analysis()["flops"]

    def ours(shape):
        return update_operations(shape, recipe, "cpu")

    shapes = (64, 64), (64, 96)
    assert ours(shapes[1]) - ours(shapes[0]) == pytest.approx(
        counted(shapes[1]) - counted(shapes[0]), rel=0.1
    )


def test_it_grows_with_the_pixels_but_for_what_every_update_costs():
    small, twice = (update_operations((128, w), recipes.DEFAULT, "cpu") for w in (128, 256))
    assert 1 < twice / small < 2
    assert large() == pytest.approx(1024**2 * (twice - small) / 128**2)


def test_computing_again_is_half_as_much_more_where_the_device_does_it():
    again = network(recipes.DEFAULT, remat=True)
    assert large(again, platform="gpu") == pytest.approx(1.5 * large(platform="gpu"))
    assert large(again) == large()


def test_tiles_go_forward_twice_and_their_halos_count():
    cut = network(recipes.DEFAULT, tile=512)
    shape = (2048, 2048)
    grid = tile_grid.grid_of(shape, cut.terms.taps, cut.network)
    halos = grid.count * grid.window[0] * grid.window[1] / 2048**2
    assert halos > 1.2
    whole = update_operations(shape, recipes.DEFAULT, "cpu")
    ratio = update_operations(shape, cut, "cpu") / whole
    assert ratio == pytest.approx(1.5 * halos, rel=0.02)
    smaller = update_operations(shape, network(cut, tile=128), "cpu")
    assert smaller > 1.5 * ratio * whole


def test_a_run_is_the_updates_of_its_scales():
    scales = run_scales.scales_up_to((512, 512), [(512, 512)], recipes.DEFAULT)
    each = scale_operations(scales, recipes.DEFAULT, "cpu")
    assert each == sorted(each) and len(each) == len(scales) > 1
    whole = run_operations(scales, recipes.DEFAULT, "cpu")
    assert each[0] * 90 < whole < each[-1] * 90


def test_measuring_is_one_forward_pass_of_each_picture_by_hand():
    recipe = small.shallow(content_taps=("relu1_2",), style_taps=("relu1_1", "relu2_1"))
    scale = run_scales.Scale((32, 48), ((256, 32), (16, 16)), 5)
    content = 32 * 48 * 9 * (3 * 64 + 64 * 64)

    def style(pixels):
        whole = 9 * (3 * 64 + 64 * 64) + 64 * 64
        return pixels * whole + pixels // 4 * (9 * 64 * 128 + 128 * 128)

    expected = 2 * (content + style(256 * 32) + style(16 * 16))
    assert measuring_operations(scale, recipe) == expected
    cut = replace(recipe, network=replace(recipe.network, tile=16))
    assert measuring_operations(scale, cut) > expected  # halos are computed in several tiles


# --- Style losses ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "products"),
    [
        # 12 rounds of 3 products; two around the root, and two more for their gradient.
        (losses.WASSERSTEIN_RELATIVE, 12 * 3 + 2 + 2),
        # The gradient takes 12 more rounds of 3 products.
        (losses.WASSERSTEIN_ABSOLUTE, 12 * 3 + 2 + 12 * 3 + 2),
        (losses.MEAN_AND_COVARIANCE, 0),
    ],
)
def test_the_products_of_a_distance_are_counted_once_whatever_the_size(loss, products):
    gram, gaussian = (small.shallow(style_loss=one) for one in (losses.GRAM_MEAN_SQUARE, loss))
    expected = products * 2 * (64**3 + 128**3)
    for shape in ((64, 64), (128, 256)):
        for recipe in (gaussian, network(gaussian, tile=32)):
            plain = replace(recipe, terms=gram.terms)
            found = update_operations(shape, recipe, "cpu")
            assert found - update_operations(shape, plain, "cpu") == expected


def sorted_maps(features, products):
    return jnp.sort(features.reshape(-1, features.shape[-1]), axis=0)


def sorted_distance(canvas, style, extent):
    return jnp.mean(jnp.square(jnp.sort(2 * canvas, axis=0) - style))


def test_a_loss_of_ones_own_is_counted_by_what_it_does():
    own = losses.StyleLoss(sorted_maps, lambda sums, count: sums, sorted_distance, additive=False)
    (cost, larger) = (loss_costs.distance_cost(own, side, 8, 4) for side in (8, 16))
    assert cost.operations >= loss_costs.ACCESS * 64 * 4 * 6
    assert 6 * larger.operations == 2 * 7 * cost.operations
    assert cost.memory >= 64 * 4 * 4 and larger.memory == 2 * cost.memory
    assert loss_costs.sum_operations(own, 4) == 0


def test_sorts_and_searches_count_by_the_number_of_features():
    sliced, histograms = (
        loss_costs.distance_cost(loss, 64, 64, 64)
        for loss in (losses.SLICED_WASSERSTEIN, losses.CHANNEL_HISTOGRAMS)
    )
    numbers, bits = 64 * 64 * 64, 12
    # Sorted are the projections of canvas and style, searched are those of the canvas.
    least = 3 * bits * loss_costs.ACCESS * numbers + 3 * 2 * 64 * numbers
    assert least < sliced.operations < 1.5 * least
    assert 2 * bits < histograms.operations / loss_costs.ACCESS / numbers < 3 * bits
    whole = loss_costs.distance_cost(losses.SLICED_WASSERSTEIN, 1024, 1024, 64).memory
    assert whole < 5 * 4 * 64 * 1024**2  # not one copy of the features for each direction's numbers


def test_self_similarity_counts_its_products_but_no_more_for_a_larger_picture():
    one, large = (
        loss_costs.content_cost(losses.CONTENT_SELF_SIMILARITY, side, side, 64)
        for side in (32, 256)
    )
    assert one == large and one.operations == 4 * 2 * 64 * 1024**2
    recipe = small.shallow(content_loss=losses.CONTENT_SELF_SIMILARITY)
    found, plain = (update_operations((64, 64), r, "cpu") for r in (recipe, small.shallow()))
    assert found - plain == 4 * 2 * 128 * 1024**2
