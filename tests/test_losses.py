"""Losses: textbook facts, values computed by hand, published formulas, gradients of the papers."""

import copy
import pickle
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import additivity, losses, provenance, recipes
from nst_jax.losses import gram, gram_products
from nst_jax.recipes import toml
from tests import reference, small


def features(seed, *shape):
    """Return random features, some of them zero as after a ReLU."""
    return jnp.asarray(np.maximum(np.random.default_rng(seed).normal(size=shape), 0))


# --- Gram matrices --------------------------------------------------------------------------------


def test_twenty_maps_of_8x8_give_rows_of_64_and_a_20x20_gram():
    maps = features(0, 8, 8, 20)
    rows = maps.reshape(64, 20).T
    assert rows.shape == (20, 64)
    assert_allclose(gram(maps), rows @ rows.T, rtol=1e-5, atol=1e-5)
    assert gram(maps).shape == (20, 20)


def test_entry_4_2_is_the_product_of_maps_4_and_2():
    maps = features(1, 4, 4, 8)
    assert gram(maps).shape == (8, 8)
    assert_allclose(gram(maps)[4, 2], jnp.vdot(maps[..., 4], maps[..., 2]), rtol=1e-5)


def test_grams_size_does_not_depend_on_the_picture():
    assert gram(features(2, 3, 5, 6)).shape == gram(features(2, 30, 50, 6)).shape == (6, 6)


def test_gram_over_positions_is_the_mean_of_outer_products():
    maps = features(3, 5, 7, 4)
    mean = jnp.mean(jax.vmap(jnp.outer)(maps.reshape(35, 4), maps.reshape(35, 4)), axis=0)
    assert losses.positions(maps) == 35
    assert_allclose(losses.GRAM_MEAN_SQUARE.measure(maps), mean, rtol=1e-5)


def test_gram_does_not_depend_on_the_order_of_positions(key):
    maps = features(4, 6, 7, 5)
    shuffled = jax.random.permutation(key, maps.reshape(42, 5)).reshape(maps.shape)
    assert_allclose(gram(maps), gram(shuffled), rtol=1e-5)


def test_gram_is_symmetric_and_has_no_negative_eigenvalue():
    # More channels than positions: 8 eigenvalues are zero, and are computed as such up to rounding.
    matrix = np.asarray(gram(features(5, 3, 4, 20)), np.float64)
    assert_array_equal(matrix, matrix.T)
    values = np.linalg.eigvalsh(matrix)
    assert values.min() > -1e-6 * values.max()


def test_gram_is_the_same_eager_compiled_and_mapped():
    batch = features(6, 3, 5, 6, 4)
    eager = gram(batch)
    assert_allclose(jax.jit(gram)(batch), eager, rtol=1e-6)
    assert_allclose(jax.vmap(gram)(batch), eager, rtol=1e-6)
    assert_allclose(jnp.stack([gram(x) for x in batch]), eager, rtol=1e-6)


def test_the_gradient_rule_of_gram_agrees_with_autodiff(x64):
    maps, weights = features(7, 2, 5, 6, 4), small.noise(8, 2, 4, 4)

    def plain(x):
        return jnp.einsum("...hwc,...hwd->...cd", x, x)

    def loss(gram):
        return lambda x: jnp.sum(weights * jnp.sin(gram(x)))  # a cotangent that is not symmetric

    assert maps.dtype == jnp.float64
    ours, theirs = (jax.jit(jax.grad(loss(each)))(maps) for each in (gram, plain))
    assert_allclose(ours, theirs, rtol=1e-12)


# Strips of two rows, the last of which overlaps the one before; strips of a single row; a single strip.
@pytest.mark.parametrize("shape", [(2, 7, 6, 4), (3, 20, 4), (1, 9, 5)], ids=str)
def test_gram_in_strips_on_a_cpu_is_that_of_the_whole(monkeypatch, shape):
    monkeypatch.setattr(gram_products, "STRIP_POSITIONS", 12)
    maps = features(9, *shape).astype(jnp.bfloat16)
    weights = small.noise(10, *shape[:-3], shape[-1], shape[-1]).astype(jnp.float32)

    def found(x):
        """Return the Gram matrix, the gradient of a loss, and that of a sum of this gradient."""

        def loss(x):
            return jnp.sum(weights * jnp.square(gram(x)))

        return gram(x), jax.grad(loss)(x), jax.grad(lambda x: jnp.sum(jax.grad(loss)(x)))(x)

    ours, whole = jax.jit(found)(maps), jax.jit(found)(maps.astype(jnp.float32))
    assert ours[0].dtype == jnp.float32
    assert_allclose(ours[0], whole[0], rtol=1e-6)
    for one, other in zip(ours[1:], whole[1:], strict=True):
        assert one.dtype == jnp.bfloat16
        # The cotangent and the result have 8 bits.
        largest = jnp.max(jnp.abs(other))
        assert_allclose(one.astype(jnp.float32) / largest, other / largest, atol=2**-6)


# --- Style losses ---------------------------------------------------------------------------------


@partial(jax.jit, static_argnums=0)  # eager operations would be compiled one by one
def style_loss(loss, canvas, style):
    extent = losses.Extent(losses.positions(canvas), pixels=4 * losses.positions(canvas))
    return loss.distance(loss.measure(canvas), loss.measure(style), extent)


def test_gram_paper_is_E(x64):
    canvas, style = features(9, 5, 7, 6), features(10, 5, 7, 6)
    assert_allclose(
        style_loss(losses.GRAM_PAPER, canvas, style),
        reference.paper_style_loss(np.asarray(canvas), np.asarray(style)),
        rtol=1e-12,
    )


def test_gram_mean_square_is_4_E(x64):
    canvas, style = features(9, 5, 7, 6), features(10, 5, 7, 6)
    assert_allclose(
        style_loss(losses.GRAM_MEAN_SQUARE, canvas, style),
        4 * reference.paper_style_loss(np.asarray(canvas), np.asarray(style)),
        rtol=1e-12,
    )


@pytest.mark.parametrize(
    ("loss", "published"),
    [
        # jcjohnson, neural-style-pt, PyTorch's tutorial: R / (N M), then the mean of squares.
        (losses.GRAM_PER_CHANNEL, lambda d, n, m, p: np.mean((d / (n * m)) ** 2)),
        # Udacity: the mean of squares of R, divided by N M.
        (losses.GRAM_UNDIVIDED, lambda d, n, m, p: np.mean(d**2) / (n * m)),
        # keras.io: the sum of squares of R, with 3 channels and the picture's pixels.
        (losses.GRAM_BY_IMAGE, lambda d, n, m, p: np.sum(d**2) / (4 * 3**2 * p**2)),
    ],
    ids=["per-channel", "undivided", "by-image"],
)
def test_published_style_losses_of_raw_grams(loss, published, x64):
    canvas, style = features(9, 5, 7, 6), features(10, 5, 7, 6)
    raw = reference.raw_gram(np.asarray(canvas)) - reference.raw_gram(np.asarray(style))
    expected = published(raw, n=6, m=35, p=140)
    assert_allclose(style_loss(loss, canvas, style), expected, rtol=1e-12)


def test_gram_mean_square_by_hand():
    # One position, two maps: R(canvas) = [[1, 2], [2, 4]], R(style) = [[1, 0], [0, 0]].
    canvas, style = jnp.asarray([[[1.0, 2.0]]]), jnp.asarray([[[1.0, 0.0]]])
    assert style_loss(losses.GRAM_MEAN_SQUARE, canvas, style) == (0 + 4 + 4 + 16) / 4
    assert style_loss(losses.GRAM_PAPER, canvas, style) == (0 + 4 + 4 + 16) / (4 * 2**2 * 1**2)


def test_a_style_of_another_size_is_compared_position_for_position():
    # A picture repeated once has twice the sum and the same mean.
    once = features(11, 4, 5, 3)
    twice = jnp.concatenate([once, once])
    assert style_loss(losses.GRAM_MEAN_SQUARE, once, twice) < 1e-12


def test_style_sums_add_over_pixels():
    whole = features(12, 8, 6, 5)
    loss = losses.GRAM_MEAN_SQUARE
    halves = loss.sums(whole[:3]) + loss.sums(whole[3:])
    assert_allclose(loss.statistic(halves, losses.positions(whole)), loss.measure(whole), rtol=1e-5)


# --- Whether a loss is additive -------------------------------------------------------------------

REGISTRIES = {
    "content_loss": losses.CONTENT_LOSSES,
    "style_loss": losses.STYLE_LOSSES,
    "variation": losses.VARIATIONS,
}
NAMED = [(kind, name) for kind, registry in REGISTRIES.items() for name in registry]


def sorted_projections(features, products):
    """Return all positions, projected on a few directions and sorted: no sum over positions."""
    channels = features.shape[-1]
    directions = jnp.asarray(np.random.default_rng(0).normal(size=(channels, 4)), jnp.float32)
    return jnp.sort(features.reshape(-1, channels) @ directions, axis=0)


def sorted_statistic(sums, count):
    return sums


def sorted_distance(canvas, style, extent):
    return jnp.mean(jnp.square(canvas - style))


SLICED = losses.StyleLoss(sorted_projections, sorted_statistic, sorted_distance, additive=False)


def means(features, products):
    return jnp.mean(features, axis=(-3, -2))


def neighbours(features, products):
    return jnp.einsum("hwc,hwd->cd", features[1:], features[:-1])


def logarithms(canvas, content):
    return jnp.log(jnp.sum(jnp.square(canvas - content)))


def largest_difference(image, where=None):
    return jnp.max(jnp.abs(image[1:] - image[:-1]))


def mask_ignored(image, where=None):
    return losses.squared_differences(image)


def wide_features_only(features, products):
    return jnp.sum(features @ jnp.ones((512, 3)), axis=(0, 1))


NOT_ADDITIVE = {
    "sorted": ("style_loss", SLICED._replace(additive=True), r"shape \[48, 4\] .* \[24, 4\]"),
    "mean": (
        "style_loss",
        losses.GRAM_PAPER._replace(sums=means),
        "positions of zeros change its sums",
    ),
    "neighbours": (
        "style_loss",
        losses.GRAM_PAPER._replace(sums=neighbours),
        "sums over two halves of random features do not add up",
    ),
    "logarithm": (
        "content_loss",
        losses.CONTENT_SUM_SQUARE._replace(sums=logarithms),
        "sums over two halves",
    ),
    "maximum": (
        "variation",
        losses.POWER_VARIATION._replace(sums=largest_difference),
        "sums over two halves",
    ),
    "mask ignored": (
        "variation",
        losses.MEAN_VARIATION._replace(sums=mask_ignored),
        "sums over two halves",
    ),
}


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_the_packages_own_losses_say_rightly_whether_they_are_additive(kind, name):
    loss = REGISTRIES[kind][name]
    assert loss.additive == (additivity._not_additive(loss) == "")


@pytest.mark.parametrize("name", NOT_ADDITIVE)
def test_a_loss_that_wrongly_says_it_is_additive_is_refused(name):
    argument, loss, message = NOT_ADDITIVE[name]
    with pytest.raises(ValueError, match=rf"^`{argument}`: .*{message}.*`additive=False`"):
        additivity.check_additive(argument, loss)
    recipe = replace(recipes.TF, terms=replace(recipes.TF.terms, **{argument: loss}))
    with pytest.raises(ValueError, match=rf"^`{argument}`: .*`additive=False`"):
        recipes.check(recipe)
    additivity.check_additive(argument, loss._replace(additive=False))


def test_a_loss_is_evaluated_once_and_the_packages_own_never(compilations):
    own = losses.GRAM_PAPER._replace(sums=lambda features, products: gram(features))
    additivity.check_additive("style_loss", own)
    before = compilations()
    for loss in (own, *additivity.BUILT_IN):
        additivity.check_additive("style_loss", loss)
    assert compilations() == before


def test_a_loss_that_cannot_be_hashed_is_checked_all_the_same():
    class Sums:
        __hash__ = None

        def __call__(self, features, products):
            return means(features, products)

    with pytest.raises(ValueError, match="positions of zeros"):
        additivity.check_additive("style_loss", losses.GRAM_PAPER._replace(sums=Sums()))


def test_a_loss_for_other_features_than_the_checks_is_accepted():
    additivity.check_additive("style_loss", losses.GRAM_PAPER._replace(sums=wide_features_only))


NO_NUMBERS = {
    "a vector": (lambda *_: jnp.ones(3), r"an array of float32 of the shape \[3\]"),
    "one axis of 1": (lambda *_: jnp.ones(1), r"an array of float32 of the shape \[1\]"),
    "a count": (lambda *_: jnp.ones((), jnp.int32), r"an array of int32 of the shape \[\]"),
    "nothing": (lambda *_: None, "None"),
    "a tuple": (lambda *_: (jnp.ones(()),), "a tuple"),
}


@pytest.mark.parametrize("name", NO_NUMBERS)
def test_a_loss_that_is_not_one_number_is_refused(name, as_users_do):
    function, message = NO_NUMBERS[name]
    for argument, loss in {
        "style_loss": losses.GRAM_PAPER._replace(distance=function),
        "content_loss": losses.CONTENT_MEAN_SQUARE._replace(value=function),
        "variation": losses.TOTAL_VARIATION._replace(value=function),
    }.items():
        for one in (loss, loss._replace(additive=False)):
            with pytest.raises(
                TypeError, match=rf"^`{argument}`: .* returned {message}, expected one"
            ):
                recipes.check(recipes.TF.replace({f"terms.{argument}": one}))
    second = recipes.SecondStyle(loss=losses.GRAM_PAPER._replace(distance=function))
    with pytest.raises(TypeError, match="^`second_style.loss`: `distance` returned"):
        recipes.check(recipes.TF.replace(second_style=second))


def test_a_loss_may_be_a_python_number_and_one_for_other_features_is_not_checked():
    additivity.check_scalar("variation", losses.TOTAL_VARIATION._replace(value=lambda *_: 0))
    for number in (0.0, 1):
        loss = losses.GRAM_PAPER._replace(distance=lambda *_, number=number: number)
        additivity.check_scalar("style_loss", loss)
    wide = losses.GRAM_PAPER._replace(sums=wide_features_only, distance=lambda *_: None)
    additivity.check_scalar("style_loss", wide)


@pytest.mark.parametrize("transform", [jax.jit, jax.vmap, jax.grad], ids=["jit", "vmap", "grad"])
def test_the_check_runs_while_jax_is_tracing(transform):
    bad = losses.GRAM_PAPER._replace(sums=lambda features, products: means(features, products))
    good = losses.GRAM_PAPER._replace(sums=lambda features, products: gram(features))

    def traced(x):
        additivity.check_additive("style_loss", good)
        with pytest.raises(ValueError, match="positions of zeros"):
            additivity.check_additive("style_loss", bad)
        return x

    transform(traced)(jnp.ones((2,)) if transform is not jax.grad else 1.0)


def test_a_loss_that_is_not_additive_works_on_whole_pictures_and_is_refused_in_tiles(
    params, content
):
    style = jnp.asarray(small.picture("starry_night", *content.shape[:2]))
    recipe = small.shallow(style_loss=SLICED)
    assert not recipe.terms.additive and small.shallow().terms.additive
    recipe = recipes.check(recipe)
    losses_of = jax.jit(nst.losses_of)
    targets = jax.jit(nst.measure)(params, content, style, recipe)
    found = losses_of(params, content, targets, recipe)
    same = losses_of(params, style, targets, recipe)
    assert np.isfinite(found.style) and found.style > 1e3 * same.style

    cut = replace(recipe, network=replace(recipe.network, tile=96))
    message = r"^`tile`: got 96, but `style_loss` is not additive.*`tile` off"
    for refusing in (
        lambda: recipes.check(cut),
        lambda: nst.measure(params, content, style, cut),
        lambda: nst.losses_of(params, content, targets, cut),
    ):
        with pytest.raises(ValueError, match=message):
            refusing()


@pytest.mark.parametrize(("kind", "name"), NAMED)
def test_losses_can_be_pickled_and_copied(kind, name):
    loss = REGISTRIES[kind][name]
    for other in (pickle.loads(pickle.dumps(loss)), copy.deepcopy(loss)):
        assert other == loss and hash(other) == hash(loss)
        recipe = replace(recipes.TF, terms=replace(recipes.TF.terms, **{kind: other}))
        assert toml.to_toml(recipe).count(f'"{name}"') == 1
        assert provenance.of_recipe(recipe)[f"terms.{kind}"] == name


# --- Content losses -------------------------------------------------------------------------------


def test_content_losses_by_hand():
    canvas = jnp.asarray([[[1.0, 2.0], [3.0, 4.0]]])  # [1, 2, 2]
    content = jnp.asarray([[[1.0, 0.0], [0.0, 0.0]]])  # squares: 0, 4, 9, 16
    assert losses.CONTENT_MEAN_SQUARE(canvas, content) == 29 / 4
    assert losses.CONTENT_QUARTER_MEAN_SQUARE(canvas, content) == 29 / (4 * 1 * 2 * 2)
    assert losses.CONTENT_HALF_SUM_SQUARE(canvas, content) == 29 / 2
    assert losses.CONTENT_SUM_SQUARE(canvas, content) == 29
    assert losses.CONTENT_HALF_OVER_ROOT(canvas, content) == 29 / (2 * (1 * 2 * 2) ** 0.5)


@pytest.mark.parametrize(
    "loss",
    [
        losses.CONTENT_MEAN_SQUARE,
        losses.CONTENT_QUARTER_MEAN_SQUARE,
        losses.CONTENT_HALF_SUM_SQUARE,
        losses.CONTENT_SUM_SQUARE,
        losses.CONTENT_RELATIVE,
        losses.CONTENT_GRADIENT_SCALED,
    ],
)
def test_content_losses_are_the_same_eager_compiled_and_mapped(loss):
    a, b = features(13, 3, 4, 5, 6), features(14, 3, 4, 5, 6)
    eager = loss(a, b)
    assert eager.shape == (3,)
    assert_allclose(jax.jit(lambda a, b: loss(a, b))(a, b), eager, rtol=1e-6)
    assert_allclose(jax.vmap(loss)(a, b), eager, rtol=1e-6)


# --- The papers' gradients, equations 2 and 6 -----------------------------------------------------


def test_the_contents_gradient_is_F_minus_P_where_F_is_positive(x64):
    before, p = small.noise(15, 4, 5, 6), small.noise(16, 4, 5, 6)
    f = jax.nn.relu(before)
    gradient = jax.jit(jax.grad(lambda x: losses.CONTENT_HALF_SUM_SQUARE(jax.nn.relu(x), p)))(
        before
    )
    assert_allclose(gradient, np.where(f > 0, f - p, 0), rtol=1e-12)


def test_the_styles_gradient_is_G_minus_A_times_F_where_F_is_positive(x64):
    before, painting = small.noise(17, 4, 5, 6), features(18, 4, 5, 6)
    f, n, m = jax.nn.relu(before), 6, 20
    gradient = jax.jit(jax.grad(lambda x: style_loss(losses.GRAM_PAPER, jax.nn.relu(x), painting)))(
        before
    )
    rows = np.asarray(f).reshape(m, n).T
    by_paper = (reference.raw_gram(np.asarray(f)) - reference.raw_gram(np.asarray(painting))) @ rows
    expected = np.where(rows > 0, by_paper / (n**2 * m**2), 0).T.reshape(f.shape)
    assert_allclose(gradient, expected, rtol=1e-10, atol=1e-16)


# --- Variation ------------------------------------------------------------------------------------


def test_total_variation_is_tensorflows():
    # tf.image.total_variation of it, worked by hand: |3-1| + |0-5| down, |5-1| + |0-3| right.
    image = (
        jnp.asarray([[1.0, 5.0], [3.0, 0.0]])[:, :, None] * jnp.asarray([1.0, 0.0, 2.0])[None, None]
    )
    assert losses.TOTAL_VARIATION(image) == (2 + 5 + 4 + 3) * (1 + 0 + 2)


def test_total_variation_sums_one_pixel_at_a_time(content):
    assert_allclose(
        losses.TOTAL_VARIATION(content),
        reference.total_variation(np.asarray(content, float)),
        rtol=1e-5,
    )


def test_mean_variation_by_hand():
    # Down: 4, 25 in two places; right: 16, 9 in two places; one channel of three is filled.
    image = (
        jnp.asarray([[1.0, 5.0], [3.0, 0.0]])[:, :, None] * jnp.asarray([1.0, 0.0, 0.0])[None, None]
    )
    assert_allclose(losses.MEAN_VARIATION(image), (4 + 25) / 6 + (16 + 9) / 6, rtol=1e-6)


def test_mean_variation_of_a_single_line_is_that_along_the_line():
    line = jnp.asarray([1.0, 5.0, 3.0])[None, :, None] * jnp.asarray([1.0, 0.0, 0.0])[None, None]
    for image in (line, jnp.swapaxes(line, 0, 1)):
        value, gradient = jax.value_and_grad(lambda image: losses.MEAN_VARIATION(image))(image)
        assert_allclose(value, (16 + 4) / 6, rtol=1e-6)
        assert_allclose(gradient.reshape(3, 3)[:, 0], np.asarray([-8, 12, -4]) / 6, rtol=1e-6)


@pytest.mark.parametrize("variation", losses.VARIATIONS.values(), ids=losses.VARIATIONS)
def test_a_single_pixel_has_no_variation(variation):
    assert variation(jnp.full((1, 1, 3), 0.5)) == 0


def test_mean_variation_does_not_grow_with_the_picture_and_the_total_does():
    tile = jnp.indices((4, 4)).sum(0)[:, :, None] % 2 * jnp.ones((1, 1, 3))
    large = jnp.tile(tile, (8, 8, 1))
    assert losses.MEAN_VARIATION(tile) == losses.MEAN_VARIATION(large) == 2
    assert losses.TOTAL_VARIATION(large) > 64 * losses.TOTAL_VARIATION(tile)


@pytest.mark.parametrize("variation", [losses.TOTAL_VARIATION, losses.MEAN_VARIATION])
def test_variations_are_the_same_eager_compiled_and_mapped(variation):
    batch = features(17, 3, 4, 5, 3)
    eager = variation(batch)
    assert eager.shape == (3,)
    assert_allclose(jax.jit(lambda image: variation(image))(batch), eager, rtol=1e-6)
    assert_allclose(jax.vmap(variation)(batch), eager, rtol=1e-6)


def test_variations_by_hand():
    # One channel in use; neighbours below differ by 3, -1 and 4, to the right by 1, 2, -3 and 7.
    rows = jnp.asarray([[0.0, 1.0, 3.0], [3.0, 0.0, 7.0]])
    image = jnp.stack([rows, jnp.zeros_like(rows), jnp.zeros_like(rows)], axis=-1)
    down, right = np.asarray([3.0, -1.0, 4.0]), np.asarray([[1.0, 2.0], [-3.0, 7.0]])
    assert losses.TOTAL_VARIATION(image) == np.abs(down).sum() + np.abs(right).sum() == 21
    assert losses.SQUARE_VARIATION(image) == 9 + 1 + 16 + 1 + 4 + 9 + 49
    # Means over all channels, of which two are even.
    assert_allclose(losses.MEAN_VARIATION(image), 26 / 9 + 63 / 12, rtol=1e-6)
    # Only the first row's first two pixels have a neighbour below and one to the right.
    assert losses.HALF_SQUARE_VARIATION(image) == ((9 + 1) + (1 + 4)) / 2
    assert_allclose(losses.POWER_VARIATION(image), 10**1.25 + 5**1.25, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("variation", losses.VARIATIONS.values(), ids=losses.VARIATIONS)
def test_variations_of_16_bits_are_summed_in_float32(variation, dtype):
    narrow = (100 * features(17, 20, 30, 3)).astype(dtype)  # float16 ends at 65504
    wide = variation(narrow.astype("float32"))
    assert variation(narrow).dtype == "float32" and jnp.isfinite(wide)
    assert_allclose(variation(narrow), wide, rtol=1e-6)


@pytest.mark.parametrize("variation", losses.VARIATIONS.values(), ids=losses.VARIATIONS)
def test_an_even_picture_has_no_variation_and_no_gradient(variation):
    even = jnp.full((5, 6, 3), 0.5)
    value, gradient = jax.jit(jax.value_and_grad(lambda image: variation(image)))(even)
    assert value == 0
    assert_array_equal(gradient, np.zeros(even.shape))


@pytest.mark.parametrize("maps", [jnp.zeros((3, 4, 5)), jnp.ones((3, 4, 5))], ids=["none", "same"])
def test_gradients_are_finite_where_there_is_nothing_to_change(maps):
    eager = style_loss.__wrapped__  # equal features have equal matrices to the bit

    def total(x):
        return (
            eager(losses.GRAM_MEAN_SQUARE, x, maps)
            + eager(losses.GRAM_PAPER, x, maps)
            + losses.CONTENT_MEAN_SQUARE(x, maps)
            + losses.CONTENT_HALF_SUM_SQUARE(x, maps)
        )

    value, gradient = jax.value_and_grad(total)(maps)
    assert value == 0
    assert_array_equal(gradient, np.zeros(maps.shape))


def padded_nine_points(image, function=np.square):
    """Return the nine-point variation, by differences in a picture that is really padded.

    `function` takes the place of the square.
    """
    padded = np.pad(np.asarray(image, float), ((1, 1), (1, 1), (0, 0)), mode="edge")
    right = padded[1:-1, 2:] - padded[1:-1, 1:-1]
    down = padded[2:, 1:-1] - padded[1:-1, 1:-1]
    falling = padded[1:, 1:] - padded[:-1, :-1]
    rising = padded[1:, :-1] - padded[:-1, 1:]
    straight = np.mean(function(right)) + np.mean(function(down))
    return 2 * (straight / 3 + (np.mean(function(falling)) + np.mean(function(rising))) / 12)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 3), (3, 1, 3), (1, 1, 3), (2, 2, 3)])
def test_nine_point_variation_is_that_of_the_padded_picture(shape, x64):
    image = small.noise(20, *shape)
    found = jax.jit(lambda image: losses.NINE_POINT_VARIATION(image))(image)
    assert_allclose(found, padded_nine_points(image), rtol=1e-13)


@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 4, 3), (1, 1, 3)])
def test_gradient_scaled_nine_point_variation_is_the_ratio_of_both_means(shape, x64):
    image = small.noise(20, *shape)
    found = jax.jit(lambda image: losses.NINE_POINT_VARIATION_GRADIENT_SCALED(image))(image)
    expected = padded_nine_points(image) / (padded_nine_points(image, np.abs) + 1e-8)
    assert_allclose(found, expected, rtol=1e-12)
    # Twice the contrast: twice the loss, the same gradient.
    gradient = jax.grad(losses.NINE_POINT_VARIATION_GRADIENT_SCALED)
    assert_allclose(gradient(2 * image), gradient(image), atol=1e-7)


def test_nine_point_variation_of_an_edge_by_hand():
    # One upright edge of height 2. Rows: 2 of 6 differences are 1. Each diagonal: 3 of 12 are 1.
    step = jnp.zeros((2, 3, 3)).at[:, 2].set(1.0)
    expected = 2 * (2 / 6 / 3 + 2 * (3 / 12) / 12)
    assert_allclose(losses.NINE_POINT_VARIATION(step), expected, rtol=1e-6)
