"""`strotss`: against independent PyTorch code, its losses against SciPy, in every public function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist

import nst_jax as nst
from nst_jax import losses, prepare, provenance, recipes, run_scales
from nst_jax.correspondence import MEAN_ACTIVATIONS, units_of
from nst_jax.images import resizing
from nst_jax.losses import places, transport
from nst_jax.recipes import changes, schedules, sizes, toml
from nst_jax.recipes.changes import with_learning_rate
from nst_jax.recipes.strength import factor_of
from nst_jax.vgg.taps import feature_shape
from tests import multiscale_checks, multiscale_golden, small
from tests.shell import caller, refused, write_pictures

STROTSS = recipes.STROTSS
TAPS = ("relu1_1", "relu2_1")


def shallow(**changes):
    """Return a variant of `strotss` that needs three convolutions, at 16 and 32 px, 3 updates each."""
    values = {
        "content_taps": TAPS,
        "content_layer_weights": (1.0, 1.0),
        "style_taps": TAPS,
        "size": sizes.AsIs(),
        "schedule": schedules.Halvings(smallest=16),
        "pyramid_levels": 2,
        "steps": 6,
    }
    return STROTSS.replace(**(values | changes))


@pytest.fixture(scope="module")
def pair():
    """Return a content of 32 x 40 px, and a style."""
    return small.picture("chelsea", 32, 40), small.picture("starry_night", 36, 32)


@pytest.fixture(scope="module")
def painted(params, pair):
    return nst.stylize(params, *pair, recipe=shallow())


# --- Against PyTorch ------------------------------------------------------------------------------

GOLDEN = multiscale_golden.read("strotss_golden.json")


def run_of_golden(params, first):
    """Return the losses of the `first` scales' canvases by the functions of one canvas, in float64.

    They are those of the golden file: the total, then each part without its weight.
    """
    scales, history, image = GOLDEN["scales"], [], None
    shapes = multiscale_golden.shapes_of(GOLDEN)
    last_rate, rate = GOLDEN["rates"]
    rates = {"learning_rate": rate, "last_learning_rate": last_rate}
    recipe = STROTSS.replace(content_against_style=GOLDEN["alpha"], **rates)
    core = recipes.as_arrays(recipe.bare(), jnp.float64)
    for index, scale in enumerate(scales[:first]):
        content, style = (
            multiscale_golden.decoded(scale["content"]),
            multiscale_golden.decoded(scale["style"]),
        )
        here, last = core.at(index, shapes), index == len(scales) - 1
        targets = multiscale_golden.measure(params, content, style, here)
        if image is None:
            image = STROTSS.pictures.start(content, style, jax.random.key(0))
        else:
            image = multiscale_golden.bilinear(image, shapes[index])
            image = image if last else image + resizing.finest_detail(content)
        evaluations = scale["updates"] + last
        state, found = multiscale_golden.run(
            params, multiscale_golden.init(image, here), targets, here, evaluations
        )
        weights = here.terms.style_weight * jnp.asarray(here.terms.style_layer_weights)
        parts = [found.style_layers[name] for name in ("transport", "moments", "palette")]
        columns = [found.total, found.content / here.terms.content_weight]
        columns += [part / weight for part, weight in zip(parts, weights, strict=True)]
        history.append(np.stack(columns, axis=1)[:evaluations])
        image = multiscale_golden.canvas_image(state, here)
    return np.concatenate(history)


def test_the_golden_file_describes_itself():
    multiscale_golden.check_that_it_describes_itself(GOLDEN)


@pytest.mark.optimized
@pytest.mark.slow  # a program of nearly the whole network in float64 for each scale
@pytest.mark.parametrize("first", [1, pytest.param(3, marks=pytest.mark.long)])
def test_a_run_in_float64_is_torchs(first, params64, x64):
    found = run_of_golden(params64, first)
    # The places of an update are taken in the order of torch's file, so only rounding differs.
    assert_allclose(found, GOLDEN["losses"][: len(found)], rtol=1e-6)
    assert len(found) == sum(scale["updates"] for scale in GOLDEN["scales"][:first]) + (first == 3)


@pytest.mark.torch
@pytest.mark.slow
def test_the_golden_file_is_what_torch_computes(torch):
    from tests import make_strotss_golden as maker

    first, *_ = multiscale_golden.pictures(maker.SIZES)
    found = maker.losses([(*first[:2], 2), (*first[:2], 1)])
    # The pictures are resized in float32, whose rounding depends on the processor.
    assert_allclose(found[:2], GOLDEN["losses"][:2], rtol=1e-6)


# --- The losses -----------------------------------------------------------------------------------


def maps(seed, *shape):
    """Return random features, many of them near zero as after a ReLU, but no vector of zeros."""
    return jnp.maximum(small.noise(seed, *shape), 0) + 0.01


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
    assert 0 < losses.relaxed_transport(x, y) <= cost[linear_sum_assignment(cost)].mean()


def test_its_gradient_is_that_of_all_distances(x64):
    x, y = maps(0, 6, 4), maps(1, 9, 4)

    def directly(x, y):
        cosines = (x / jnp.linalg.norm(x, axis=1)[:, None]) @ (
            y / jnp.linalg.norm(y, axis=1)[:, None]
        ).T
        return jnp.maximum(*(jnp.mean(jnp.min(1 - cosines, axis=axis)) for axis in (0, 1)))

    ours, theirs = (
        jax.jit(jax.value_and_grad(f, (0, 1)))(x, y) for f in (losses.relaxed_transport, directly)
    )
    jax.tree.map(lambda a, b: assert_allclose(a, b, rtol=1e-9, atol=1e-14), ours, theirs)


def test_moments_are_numpys(x64):
    x, y = maps(0, 6, 4), maps(1, 9, 4)
    means = np.abs(np.mean(x, 0) - np.mean(y, 0)).mean()
    covariances = np.cov(x, rowvar=False, ddof=0) - np.cov(y, rowvar=False, ddof=0)
    found = losses.moment_distance(losses.mean_and_spread(x), losses.mean_and_spread(y))
    assert_allclose(found, means + np.abs(covariances).mean(), rtol=1e-12)


BASIS = np.array(
    [[0.57735, 0.57735, 0.57735], [-0.57735, 0.788675, -0.211325], [-0.57735, -0.211325, 0.788675]]
)


def test_the_palette_is_scipys(x64):
    x, y = (jnp.asarray(np.random.default_rng(seed).random((n, 3))) for seed, n in ((0, 5), (1, 7)))
    a, b = np.asarray(x) @ BASIS.T, np.asarray(y) @ BASIS.T
    cost = cdist(a, b, "cosine") + np.sqrt(np.maximum(cdist(a, b) ** 2, 1e-5) / 3)
    expected = max(cost.min(1).mean(), cost.min(0).mean())
    assert_allclose(losses.palette_transport(x, y), expected, rtol=1e-12)


def test_gradients_are_finite_for_equal_sets_and_for_zeros():
    zeros, greys = jnp.zeros((3, 4)), jnp.ones((3, 3)) / 2
    for loss, x, y in (
        (losses.relaxed_transport, zeros, maps(0, 5, 4)),
        (losses.palette_transport, greys, greys),
        (losses.palette_transport, jnp.zeros((3, 3)), greys),
    ):
        value, slope = jax.jit(jax.value_and_grad(loss))(x, y)
        assert np.isfinite(value) and np.isfinite(slope).all()


def test_compiled_and_mapped_losses_are_the_eager_ones():
    x, y = maps(0, 6, 3), maps(1, 9, 3)

    def both(x, y):
        moments = losses.moment_distance(losses.mean_and_spread(x), losses.mean_and_spread(y))
        return losses.relaxed_transport(x, y), moments, losses.palette_transport(x, y)

    eager = both(x, y)
    mapped = jax.jit(jax.vmap(both))(x[None], y[None])
    for found in (jax.jit(both)(x, y), [one[0] for one in mapped]):
        assert_allclose(found, eager, rtol=1e-5)


# --- Features at places ---------------------------------------------------------------------------


def test_features_at_places_are_interpolated_by_hand(x64):
    picture, deep = maps(0, 8, 6, 2), maps(1, 4, 3, 3)
    here = jnp.asarray([[3, 4], [7, 5]])
    found = losses.sampled([picture, deep], here, (1, 2))
    a, b = np.asarray(picture), np.asarray(deep)
    assert_allclose(found[:, :2], [a[3, 4], a[7, 5]])
    # (3, 4) / 2 is half-way between the lines 1 and 2; (7, 5) / 2 is beyond the last lines, 3 and 2.
    assert_allclose(found[0, 2:], (b[1, 2] + b[2, 2]) / 2)
    assert_allclose(found[1, 2:], b[3, 2])
    below = losses.sampled([picture, deep], here, (1, 2), between=False)
    assert_allclose(below[:, 2:], [b[1, 2], b[3, 2]])


def test_the_gradient_of_sampled_features_adds_up_at_shared_positions(x64):
    here = jnp.asarray([[0, 0], [0, 1], [0, 1]])
    slope = jax.grad(lambda x: jnp.sum(losses.sampled([x], here, (2,))))(maps(0, 2, 2, 1))
    assert_allclose(slope[..., 0], [[2.0, 1.0], [0.0, 0.0]])


def test_random_places_are_different_places_of_one_grid_for_ten_updates():
    shape = (300, 500)  # stride 3
    taken = [np.asarray(losses.random_places(step, shape, 64)) for step in (10, 11, 19, 20)]
    for found in taken:
        assert len({tuple(place) for place in found}) == 64
        assert (found >= 0).all() and (found < shape).all()
        assert len({tuple(place % 3) for place in found}) == 1
    firsts = [tuple(found[0] % 3) for found in taken]
    assert firsts[0] == firsts[1] == firsts[2]
    assert not np.array_equal(taken[0], taken[1])
    assert places.number_of_places(shape, 10**6) == 100 * 166


def test_random_pixels_differ_between_draws_and_never_repeat():
    first, second = (np.asarray(losses.random_pixels(draw, (40, 30), 1000)) for draw in (0, 1))
    assert len({tuple(place) for place in first}) == 1000 and (first < (40, 30)).all()
    assert not np.array_equal(first, second)
    assert losses.random_pixels(0, (4, 5), 1000).shape == (20, 2)


def test_features_are_divided_by_their_mean_but_not_torchvisions(params):
    found = units_of(params, ("relu1_1", "preact5_3"))
    assert found == {"relu1_1": 22.4, "preact5_3": 6.86}

    def other(pixels):
        return nst.Params(params.layers, params.family, pixels)

    assert units_of(other("torchvision"), ("relu1_1", "relu5_3")) == {"relu1_1": 1, "relu5_3": 1}
    assert_allclose(units_of(other("raw"), ("relu5_3",))["relu5_3"], 6.86 / 255)


def test_every_layer_has_a_unit_and_those_of_the_golden_file_are_the_recipes(params):
    assert tuple(MEAN_ACTIVATIONS) == tuple(nst.vgg.LAYERS)
    found = units_of(params, STROTSS.terms.style_taps)
    assert list(found.values()) == list(GOLDEN["units"].values())


def test_features_at_places_are_divided_tap_by_tap(x64):
    picture, shallow_map, deep = maps(0, 8, 6, 3), maps(1, 8, 6, 2), maps(2, 4, 3, 3)
    found = {losses.PIXELS: picture, "relu1_1": shallow_map, "relu2_1": deep}
    here = jnp.asarray([[4, 2]])
    vectors = transport.vectors_at(found, here, {"relu1_1": 2.0, "relu2_1": 4.0})
    assert_allclose(
        vectors[0], [*picture[4, 2], *(shallow_map[4, 2] / 2), *(deep[2, 1] / 4)], rtol=1e-12
    )


@pytest.mark.torch
@pytest.mark.slow
def test_units_are_those_of_the_rule(torch):
    from tests import make_strotss_golden as maker

    means = maker.layer_means(multiscale_golden.weights64())
    assert_allclose(list(means.values()), list(MEAN_ACTIVATIONS.values()), rtol=2e-3)


# --- Public functions -----------------------------------------------------------------------------


def test_stylize_moves_the_picture_to_the_style(pair, painted):
    content, style = pair
    assert painted.shape == content.shape
    ours, before, theirs = (np.mean(np.asarray(x), (0, 1)) for x in (painted, content, style))
    assert np.abs(ours - theirs).max() < 0.2 * np.abs(before - theirs).max()


def test_the_scales_begin_as_in_the_source(params, pair):
    content, style = pair
    shots = nst.paint(params, content, style, recipe=shallow(), every=1)
    first = next(shots).image
    scale = run_scales.scales_of((32, 40), [(36, 32)], shallow())[0]
    assert scale.shape == first.shape[:2] == (16, 20)
    small_content = prepare.at_scale(jnp.asarray(content), scale.shape)
    small_style = prepare.at_scale(jnp.asarray(style), scale.style_shapes[0])
    detail = np.asarray(resizing.finest_detail(small_content))
    expected = np.mean(np.asarray(small_style), (0, 1)) + detail
    assert_allclose(first, np.clip(expected, 0, 1), atol=1e-5)


@pytest.mark.parametrize("stop", [2, pytest.param(5, marks=pytest.mark.long)])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(stop, params, pair, painted, tmp_path):
    multiscale_checks.check_resumed(params, pair, shallow(), painted, stop, tmp_path)


@pytest.mark.long
def test_a_batch_is_its_pictures(params, pair, painted):
    multiscale_checks.check_batch(params, pair, shallow(), painted)


@pytest.mark.long
def test_other_numbers_compile_nothing_anew(params, pair, painted, compilations):
    numbers = {"content_against_style": 3.0, "learning_rate": 1e-3, "last_learning_rate": 5e-4}
    nst.stylize(params, *pair, recipe=shallow(content_against_style=2.0))
    before = compilations()
    nst.stylize(params, *pair, recipe=shallow(**numbers))
    assert compilations() == before


def test_what_cannot_be_cut_is_refused(params, pair):
    with pytest.raises(ValueError, match="`tile`: got 128, but `content_loss` is not additive"):
        nst.stylize(params, *pair, recipe=shallow(), tile=128)
    with pytest.raises(ValueError, match="`devices`: `content_loss` is not additive"):
        nst.stylize(params, *pair, recipe=shallow(), devices=2)


def test_networks_and_exported_programs_are_refused(params, pair):
    with pytest.raises(ValueError, match=r"`recipe`: 'strotss' seeks nearest neighbours for one"):
        nst.train(params, pair[1], pair[:1], recipe=STROTSS)
    with pytest.raises(ValueError, match=r"`recipe`: 'strotss' seeks nearest neighbours in the"):
        nst.export.step_model(params, STROTSS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"style_loss": losses.GRAM_PAPER}, "`content_loss`: reads all content layers together"),
        ({"content_layer_weights": (1.0, 2.0)}, "`content_layer_weights`: the content loss reads"),
        ({"style_layer_weights": (1.0, 2.0)}, "`style_layer_weights`: expected one for each of the 3"),
        ({"content_against_style": -1.0}, "`content_against_style`: expected"),
        ({"last_learning_rate": 0.0}, "`last_learning_rate`: expected"),
        ({"optimizer": nst.optimizers.LBFGS(), "pyramid_levels": 0}, "`last_learning_rate`: LBFGS"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(values, message):
    if "style_loss" in values:
        values = values | {"style_layer_weights": (1.0, 1.0)}
    with pytest.raises(ValueError, match=message):
        recipes.check(shallow(**values))


def test_the_recipe_as_toml_and_in_a_picture():
    text = toml.to_toml(STROTSS)
    assert 'content_loss = "content_self_similarity_at_places"' in text
    assert toml.from_toml(text) == STROTSS
    found = provenance.of_recipe(STROTSS)
    assert found["terms.content_against_style"] == 16
    assert found["descent.last_learning_rate"] == 1e-3 and found["descent.content_detail"]
    assert "terms.content_against_style" not in provenance.of_recipe(recipes.TF)


def test_strength_changes_the_weight_of_the_style():
    found = changes.with_strength(STROTSS, 0.75)
    assert_allclose(found.terms.style_weight, STROTSS.terms.style_weight * factor_of(0.75))
    assert found.terms.search_content == STROTSS.terms.search_content


# --- Plans ----------------------------------------------------------------------------------------


def test_the_size_of_a_target_is_known_beforehand():
    loss, shapes = losses.RELAXED_TRANSPORT, [(48, 36), (20, 16)]
    pictures = [
        {losses.PIXELS: jax.ShapeDtypeStruct((*shape, 3), jnp.float32)}
        | {
            tap: jax.ShapeDtypeStruct((*feature_shape(tap, *shape, False), channels), jnp.bfloat16)
            for tap, channels in zip(TAPS, (64, 128), strict=True)
        }
        for shape in shapes
    ]
    target = multiscale_checks.check_target_size(
        loss, pictures, shapes, units=dict.fromkeys(TAPS, 1.0)
    )
    assert target["vectors"].shape == (5 * 1000 + 5 * 320, 195)


def test_the_plan_counts_the_products_of_the_losses():
    plan = nst.plan((512, 512), (512, 512), recipe=STROTSS, memory=64 * 10**9, platform="cpu")
    assert [scale.shape for scale in plan.scales] == [(64, 64), (128, 128), (256, 256), (512, 512)]
    assert plan.recipe.network.tile == 0
    bare = STROTSS.replace(style_loss=losses.RELAXED_TRANSPORT._replace(costs=None))
    fewer = nst.plan((512, 512), (512, 512), recipe=bare, memory=64 * 10**9, platform="cpu")
    products = 2 * 1024 * 2179 * (5000 + 3 * 2179)
    more = plan.operations_per_update[0] - fewer.operations_per_update[0]
    assert_allclose(more, products, rtol=1e-6)


@pytest.mark.optimized
@pytest.mark.slow
def test_the_estimate_of_memory_is_within_a_fifth_of_what_xla_counts(params):
    shape = (192, 256)
    at_scale = STROTSS.at(1, [(96, 128), shape])
    multiscale_checks.check_memory_estimate(params, at_scale, shape)


def test_a_learning_rate_keeps_the_ratio_of_the_last_one():
    changed = with_learning_rate(STROTSS, 2 * STROTSS.descent.optimizer.learning_rate)
    assert changed.descent.last_learning_rate == 2 * STROTSS.descent.last_learning_rate
    rates = STROTSS.descent.optimizer.learning_rate * np.array([1.0, 3.0])
    swept = with_learning_rate(STROTSS, rates)
    assert_allclose(swept.descent.last_learning_rate, [0.001, 0.003], rtol=1e-12)
    assert with_learning_rate(recipes.TF, 0.5).descent.last_learning_rate is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--style-layer relu1_1=1",
            "has weights for its parts",
        ),
        (
            "--style-layer relu1_1=art.png",
            "compares all layers together",
        ),
    ],
)
def test_layers_have_no_weights_and_no_pictures(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(40, 50), art=(40, 40))
    call = caller(capsys, "stylize", "photo.png", "art.png", "--recipe", "strotss")
    refused(call(*words.split()), said)


def test_layers_are_not_swept(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(40, 50), art=(40, 40))
    call = caller(capsys, "sweep", "photo.png", "art.png", "--recipe", "strotss")
    refused(call("--layers", "single"), "reads all layers together")
