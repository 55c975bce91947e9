"""`nnst`: against independent PyTorch code, and in every public function."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import (
    losses,
    planned_painting,
    provenance,
    recipes,
    run_scales,
)
from nst_jax.app import programs
from nst_jax.app.batch import groups
from nst_jax.app.batch.entries import Entry
from nst_jax.optimizers import Adam
from nst_jax.recipes import changes, schedules, sizes, toml
from nst_jax.vgg.taps import feature_shape
from tests import multiscale_checks, multiscale_golden, small

NNST = recipes.NNST
TAPS = ("relu1_1", "relu2_1")


def shallow(**changes):
    """Return a variant of `nnst` that needs three convolutions, at 16, 32 and 32 px, 2 updates each."""
    values = {
        "content_taps": ("relu2_1",),
        "style_taps": TAPS,
        "style_layer_weights": (1.0, 1.0),
        "size": sizes.AsIs(),
        "schedule": schedules.Halvings(smallest=16, passes=2),
        "pyramid_levels": 3,
        "steps": 6,
    }
    return NNST.replace(**(values | changes))


@pytest.fixture(scope="module")
def pair():
    """Return a content of 32 x 40 px, and a style."""
    return small.picture("chelsea", 32, 40), small.picture("starry_night", 36, 32)


@pytest.fixture(scope="module")
def painted(params, pair):
    return nst.stylize(params, *pair, recipe=shallow())


# --- Against PyTorch ------------------------------------------------------------------------------

GOLDEN = multiscale_golden.read("nearest_golden.json")


_match = jax.jit(nst.match, static_argnames="first")


def run_of_golden(params, first):
    """Return the losses of the `first` scales' canvases by the functions of one canvas, in float64."""
    scales = GOLDEN["scales"]
    shapes = multiscale_golden.shapes_of(GOLDEN)
    recipe = NNST.replace(pyramid_levels=3, search_content=GOLDEN["alpha"])
    core, history, image = recipes.as_arrays(recipe.bare(), jnp.float64), [], None
    for index, scale in enumerate(scales[:first]):
        content, style = (
            multiscale_golden.decoded(scale["content"]),
            multiscale_golden.decoded(scale["style"]),
        )
        here, last = core.at(index, shapes), index == len(scales) - 1
        targets = multiscale_golden.measure(params, content, style, here)
        image = content if image is None else multiscale_golden.bilinear(image, shapes[index])
        state = _match(
            params, multiscale_golden.init(image, here), targets, content, here, first=index == 0
        )
        evaluations = scale["updates"] + last
        state, found = multiscale_golden.run(params, state, targets, here, evaluations)
        history.extend(np.asarray(found.total)[:evaluations])
        image = multiscale_golden.canvas_image(state, here)
    return history


def test_the_golden_file_describes_itself():
    multiscale_golden.check_that_it_describes_itself(GOLDEN)
    levels = [
        NNST.replace(pyramid_levels=3).at(i, [(17, 21), (35, 43), (35, 43)]) for i in range(3)
    ]
    assert [recipe.descent.pyramid_levels for recipe in levels] == GOLDEN["levels"]


@pytest.mark.optimized
@pytest.mark.parametrize("first", [2, pytest.param(3, marks=pytest.mark.long)])
def test_a_run_in_float64_is_torchs(first, params64, x64):
    found = run_of_golden(params64, first)
    assert_allclose(found, GOLDEN["losses"][: len(found)], rtol=1e-6)
    assert len(found) == sum(scale["updates"] for scale in GOLDEN["scales"][:first]) + (first == 3)


@pytest.mark.torch
def test_the_golden_file_is_what_torch_computes(torch):
    from tests import make_nearest_golden as maker

    first, *_ = multiscale_golden.pictures(maker.SIZES)
    found = maker.losses([(*first[:2], 2), (*first[:2], 1)])
    # The pictures are resized in float32, whose rounding depends on the processor.
    assert_allclose(found[:2], GOLDEN["losses"][:2], rtol=1e-6)


# --- The losses -----------------------------------------------------------------------------------


def unit(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-4)


def test_the_loss_by_tap_is_numpys_on_a_random_grid(x64):
    canvas = {"a": small.noise(0, 200, 130, 3), "b": small.noise(1, 20, 30, 4)}
    style = {"a": (small.noise(2, 130, 200, 3), small.noise(3, 200, 130, 3)), "b": (canvas["b"],)}
    precise = jax.lax.Precision.HIGHEST
    found = losses.NEAREST_BY_TAP.distances(canvas, (200, 130), style, None, 7, precise)
    for index, (tap, stride) in enumerate((("a", 3), ("b", 1))):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 7), index)
        first = np.asarray(jax.random.randint(key, (2,), 0, stride))

        def vectors(one, first=first, stride=stride):
            height, width, channels = one.shape
            down, across = height // stride * stride, width // stride * stride
            grid = np.asarray(one)[:, first[1] :: stride][first[0] :: stride]
            return grid[: down // stride, : across // stride].reshape(-1, channels)

        ours = vectors(canvas[tap])
        theirs = np.concatenate([vectors(one) for one in style[tap]])
        cosine = unit(ours - ours.mean(0)) @ unit(theirs - theirs.mean(0)).T
        assert_allclose(found[tap], np.mean(1 - cosine.max(1)), rtol=1e-10, atol=1e-14)


def test_hypercolumns_that_the_style_has_are_found_in_another_turn():
    features = {"a": small.noise(0, 8, 8, 5), "b": small.noise(1, 4, 4, 6)}
    turned = jax.tree.map(jnp.rot90, features)
    precise = jax.lax.Precision.HIGHEST
    target = losses.NEAREST_HYPERCOLUMNS.target([turned], [(32, 32)], precise)
    found = losses.NEAREST_HYPERCOLUMNS.matches(features, (32, 32), target, precise)
    assert_array_equal(found.reshape(8, 8), np.rot90(np.arange(64).reshape(8, 8), -1))
    apart = losses.NEAREST_HYPERCOLUMNS.distances(features, (32, 32), target, found, 0, precise)
    assert_allclose(sum(apart.values()), 0, atol=1e-6)


def test_a_state_without_matches_is_refused(params, pair):
    content, style = map(jnp.asarray, pair)
    recipe = shallow().at(0, [(32, 40)] * 2)
    targets = multiscale_golden.measure(params, content, style, recipe)
    with pytest.raises(ValueError, match=r"`matches`: .* got None; .* `nst_jax.match`"):
        nst.run(params, nst.init(content, recipe), targets, recipe, 1)


def test_a_loss_without_matches_leaves_the_state_as_it_is(params, pair):
    content, style = map(jnp.asarray, pair)
    recipe = shallow().at(1, [(32, 40)] * 2)
    targets = multiscale_golden.measure(params, content, style, recipe)
    state = nst.init(content, recipe)
    assert nst.match(params, state, targets, content, recipe, first=False) is state
    assert nst.match(params, state, targets, content, recipes.TF, first=False) is state


# --- Scales ---------------------------------------------------------------------------------------


def test_the_published_scales_and_updates():
    scales = run_scales.scales_of((768, 1024), [(600, 800)], NNST)
    assert [(scale.shape, scale.steps) for scale in scales] == [
        ((48, 64), 200),
        ((96, 128), 200),
        ((192, 256), 200),
        ((384, 512), 200),
        ((384, 512), 200),
    ]
    at = [NNST.at(index, [scale.shape for scale in scales]) for index in range(5)]
    assert [one.descent.pyramid_levels for one in at] == [5, 6, 7, 8, 8]
    assert [one.terms.style_loss for one in at] == [losses.NEAREST_HYPERCOLUMNS] * 4 + [
        losses.NEAREST_BY_TAP
    ]
    assert NNST.descent.optimizer == Adam(learning_rate=2e-3)


def test_halves_are_rounded_down_until_a_side_is_too_short():
    plan = schedules.Halvings(smallest=16).plan((67, 131), 100)
    assert [shape for shape, _ in plan] == [(16, 32), (33, 65), (67, 131)]
    assert sum(steps for _, steps in plan) == 100
    assert schedules.Halvings(passes=2).plan((64, 64), 1) == (((64, 64), 1),)


# --- Public functions -----------------------------------------------------------------------------


def test_stylize_moves_the_picture_towards_the_style(params, pair, painted):
    content = pair[0]
    assert painted.shape == content.shape
    assert not np.allclose(painted, content, atol=0.02)
    # Its colours are within the range of the style's.
    plain = nst.stylize(params, *pair, recipe=shallow(colors="style"))
    assert not np.allclose(plain, painted, atol=0.01)


def test_snapshots_show_losses_that_fall_at_each_scale(params, pair):
    recipe = shallow(steps=30)
    shots = nst.paint(params, *pair, recipe=recipe, every=1)
    totals = np.asarray(shots.finish().history.total)
    assert len(totals) == 31
    for first, last in ((0, 9), (10, 19), (20, 30)):
        assert totals[last] < totals[first]
    assert [scale.shape for scale in shots.scales] == [(16, 20), (32, 40), (32, 40)]


@pytest.mark.parametrize(
    "stop", [5, *(pytest.param(stop, marks=pytest.mark.long) for stop in (1, 3))]
)
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(stop, params, pair, painted, tmp_path):
    multiscale_checks.check_resumed(params, pair, shallow(), painted, stop, tmp_path)


def test_a_batch_is_its_pictures(params, pair, painted):
    multiscale_checks.check_batch(params, pair, shallow(), painted)


@pytest.mark.long
def test_styles_of_a_batch_may_differ_in_size(params, pair):
    content, style = pair
    wide = small.picture("gravel", 20, 44)
    recipe = shallow(schedule=recipes.OneScale(), last_style_loss=None, steps=2)
    found = nst.stylize_many(params, [content] * 2, [style, wide], recipe=recipe)
    for image, one in zip(found, (style, wide), strict=True):
        assert_allclose(image, nst.stylize(params, content, one, recipe=recipe), atol=2e-3)


@pytest.mark.long
def test_a_sweep_of_the_content_in_the_search(params, pair):
    shares = jnp.asarray([0.0, 1.0])
    found = nst.stylize_many(params, *pair, recipe=shallow(search_content=shares))
    for share, image in zip(shares, found, strict=True):
        alone = nst.stylize(params, *pair, recipe=shallow(search_content=float(share)))
        assert_allclose(image, alone, atol=2e-3)


@pytest.mark.long
def test_several_styles_are_one_set(params, pair, painted):
    content, style = pair
    assert_allclose(
        nst.stylize(params, content, [style, style], recipe=shallow()), painted, atol=2e-3
    )
    with pytest.raises(ValueError, match=r"`style_shares`: got 2, but a loss that seeks"):
        nst.stylize(params, content, [style] * 2, recipe=shallow(style_shares=(1.0, 2.0)))


def test_a_share_over_one_is_refused(params, pair):
    with pytest.raises(ValueError, match=r"`search_content`: expected 0 to 1 \(the .*\), got 1.5"):
        nst.stylize(params, *pair, recipe=shallow(search_content=1.5))


def test_what_cannot_be_cut_is_refused(params, pair):
    with pytest.raises(ValueError, match="`tile`: got 128, but `style_loss` is not additive"):
        nst.stylize(params, *pair, recipe=shallow(), tile=128)
    with pytest.raises(ValueError, match="`devices`: `style_loss` is not additive"):
        nst.stylize(params, *pair, recipe=shallow(), devices=2)


def test_other_numbers_compile_nothing_anew(params, pair, compilations):
    nst.stylize(params, *pair, recipe=shallow())
    before = compilations()
    nst.stylize(
        params, *pair, recipe=shallow(learning_rate=1e-3, search_content=0.5, style_weight=2.0)
    )
    assert compilations() == before


def test_the_recipe_as_toml_and_in_a_picture():
    text = toml.to_toml(NNST)
    assert 'style_loss = "nearest_hypercolumns"' in text
    assert toml.from_toml(text) == NNST
    with pytest.raises(ValueError, match="`terms.second_style.loss`|nearest_by_tap"):
        toml.from_toml('[terms.second_style]\ntaps = ["relu1_1"]\nloss = "nearest_by_tap"')
    found = provenance.of_recipe(NNST)
    assert found["terms.last_style_loss"] == "nearest_by_tap"
    assert "terms.search_content" not in found  # the default, and newer than records of runs
    assert provenance.of_recipe(shallow(search_content=0.5))["terms.search_content"] == 0.5
    assert found["pictures.colors"] == "palette"
    assert "terms.last_style_loss" not in provenance.of_recipe(recipes.TF)


@pytest.mark.parametrize(("strength", "share"), [(0, 1), (0.425, 0.875), (0.85, 0.75), (1, 0)])
def test_strength_changes_what_is_searched(strength, share):
    found = changes.with_strength(NNST, strength)
    assert_allclose(found.terms.search_content, share)
    assert found.terms.style_weight == NNST.terms.style_weight


def test_a_loss_with_matches_says_how_many(params, pair):
    half = losses.NEAREST_HYPERCOLUMNS._replace(number=None)
    with pytest.raises(ValueError, match="`style_loss`: expected a `MatchingLoss` with both"):
        nst.stylize(params, *pair, recipe=shallow(style_loss=half))


def own(**functions):
    """Return a loss of a user's own, with some of its functions replaced."""
    return losses.NEAREST_HYPERCOLUMNS._replace(**functions)


def changed(function, change):
    """Return a function that changes what another one returns."""
    return lambda *given, **named: change(function(*given, **named))


OF_NNST = losses.NEAREST_HYPERCOLUMNS
FAULTS = {
    "a target of a list": (
        own(target=changed(OF_NNST.target, lambda found: list(found.values()))),
        "`target` returned a list, expected a dictionary of arrays",
    ),
    "a target of text": (
        own(target=changed(OF_NNST.target, lambda found: found | {"note": "mine"})),
        "`target` returned a str in 'note', expected a dictionary of arrays",
    ),
    "half a number of matches": (
        own(number=lambda shape: shape[0] * shape[1] / 16),
        "`number` returned .*px, expected a whole number from 1",
    ),
    "too few matches": (
        own(matches=changed(OF_NNST.matches, lambda found: found[1:])),
        r"`matches` returned an array of int32 .*, expected \d+ whole numbers, as many as `number`",
    ),
    "matches of floats": (
        own(matches=changed(OF_NNST.matches, lambda found: found * 1.0)),
        r"`matches` returned an array of float32 .*, expected \d+ whole numbers",
    ),
    "distances of a list": (
        own(distances=changed(OF_NNST.distances, lambda found: list(found.values()))),
        "`distances` returned a list, expected a dictionary .* relu1_1, relu2_1",
    ),
    "a distance too few": (
        own(distances=changed(OF_NNST.distances, lambda found: {"relu1_1": found["relu1_1"]})),
        "`distances` returned nothing for relu2_1, expected a number for each of relu1_1, relu2_1",
    ),
    "a distance for each position": (
        own(distances=lambda features, *_: {tap: x[..., 0] for tap, x in features.items()}),
        r"`distances`, for relu1_1, returned an array of \w+ of the .*, expected one floating-point",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_an_own_loss_returns_is_checked(name, params, pair, as_users_do):
    loss, message = FAULTS[name]
    with pytest.raises(TypeError, match=f"^`style_loss`: {message}"):
        recipes.check(shallow(style_loss=loss))
    with pytest.raises(TypeError, match=f"^`last_style_loss`: {message}"):
        recipes.check(shallow(last_style_loss=loss))
    recipe = shallow(style_loss=loss, last_style_loss=None)

    def first_step(params, content, style):
        targets = nst.measure(params, content, style, recipe)
        state = nst.match(params, nst.init(content, recipe), targets, content, recipe, first=True)
        return nst.step(params, state, targets, recipe)

    with pytest.raises(TypeError, match=f"^`style_loss`: {message}"):
        jax.eval_shape(first_step, params, *map(jnp.asarray, pair))


NUMBER = losses.NEAREST_HYPERCOLUMNS.number


def only_small(shape):
    """Fail, over several lines, for the size of the last two scales only."""
    if shape[0] == 32:
        raise RuntimeError("too\n  large")
    return NUMBER(shape)


@pytest.mark.parametrize(
    ("number", "error", "message"),
    [
        (
            only_small,
            ValueError,
            r"`number` fails for a canvas of 40x32 px, the size at scale 2 of 3: RuntimeError: too "
            "large; mend `number`",
        ),
        (
            lambda shape: NUMBER(shape) if shape[0] != 32 else 0,
            TypeError,
            "`number` returned 0 for a canvas of 40x32 px, expected a whole number from 1",
        ),
    ],
)
def test_an_own_number_of_matches_is_asked_for_every_scale_before_the_run(
    params, pair, number, error, message, as_users_do
):
    recipe = recipes.check(shallow(style_loss=own(number=number)))  # its check asks at 64 px only
    for refused in (
        lambda: nst.plan(*pair, recipe=recipe),
        lambda: next(iter(nst.paint(params, *pair, recipe=recipe))),
        lambda: nst.stylize_many(params, [pair[0]], pair[1], recipe=recipe),
    ):
        with pytest.raises(error, match=f"^`style_loss`: {message}") as caught:
            refused()
        assert "\n" not in str(caught.value)


def test_an_own_content_loss_is_one_number(as_users_do):
    strotss = recipes.STROTSS.terms.content_loss
    loss = strotss._replace(distance=changed(strotss.distance, lambda found: found[None]))
    with pytest.raises(
        TypeError, match=r"^`content_loss`: `distance` returned an array .* \[1\], exp"
    ):
        recipes.check(recipes.STROTSS.replace(content_loss=loss))


def test_the_costs_of_an_own_loss_are_costs(as_users_do):
    recipe = shallow(style_loss=own(costs=lambda *_: 5), last_style_loss=None)
    with pytest.raises(
        TypeError, match="^`style_loss`: `costs` returned an int, expected a `nst_jax"
    ):
        nst.plan((32, 40), (36, 32), recipe=recipe)


def test_an_own_loss_that_is_right_paints_the_same(params, pair, painted):
    # Its matches are of another type, its numbers are NumPy's, and its target has a part of its own.
    loss = own(
        number=changed(OF_NNST.number, np.int64),
        matches=changed(OF_NNST.matches, lambda found: found.astype(jnp.uint32)),
        target=changed(OF_NNST.target, lambda found: found | {"further": jnp.zeros(3)}),
    )
    assert_allclose(nst.stylize(params, *pair, recipe=shallow(style_loss=loss)), painted, atol=1e-6)


@pytest.mark.long
def test_kept_programs_paint_the_same_bits(params, pair, painted, tmp_path):
    plan = nst.plan(*pair, recipe=shallow())

    def again():
        options = {"init": None, "key": None, "every": 10, "programs": programs.kept_in(tmp_path)}
        return list(planned_painting.paint_planned(params, *pair, plan, **options))[-1].image

    assert_array_equal(again(), painted)
    files = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    kinds = [name.split("-")[0] for name in files]
    # Two scales with matches, and the final pass.
    counts = {"match": 2, "measure_content": 3, "measure_styles": 3, "run": 3}
    assert {kind: kinds.count(kind) for kind in kinds} == counts
    assert_array_equal(again(), painted)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_networks_and_exported_programs_are_refused(params, pair):
    with pytest.raises(
        ValueError, match=r"`recipe`: 'nnst' seeks nearest neighbours for one canvas"
    ):
        nst.train(params, pair[1], pair[:1], recipe=NNST)
    with pytest.raises(ValueError, match=r"`recipe`: 'nnst' seeks nearest neighbours in the style"):
        nst.export.step_model(params, NNST)


def test_pictures_whose_styles_differ_in_size_are_not_painted_together(pair):
    content, style = pair
    narrow = np.ascontiguousarray(style[:, :24])
    members = [(content, style), (content, narrow), (content, style)]
    entries = []
    for number, (one, other) in enumerate(members):
        scales = run_scales.scales_of(one.shape[:2], [other.shape[:2]], shallow())
        here = Path()
        entries.append(Entry(number, here, (here,), here, shallow(), scales, ()))
    buckets = groups.alike_of(entries)
    assert [[entry.number for entry in bucket.entries] for bucket in buckets] == [[0, 2], [1]]


# --- Plans ----------------------------------------------------------------------------------------


def test_the_plan_counts_the_vectors_of_the_style():
    plan = nst.plan((512, 512), (512, 512), recipe=NNST, memory=64 * 10**9, platform="cpu")
    vectors = 4 * 128 * 128 * matching_channels() * 4  # four turns, float32
    assert plan.footprint.targets > vectors
    assert plan.recipe.network.tile == 0
    # 16384 vectors of the canvas with 65536 of the style, 2688 numbers each.
    products = 2 * 16384 * 65536 * 2688
    assert products < plan.measuring_operations[3] < 1.5 * products
    assert plan.measuring_operations[4] < products / 4


@pytest.mark.parametrize("loss", [losses.NEAREST_HYPERCOLUMNS, losses.NEAREST_BY_TAP])
def test_the_size_of_a_target_is_known_beforehand(loss):
    shapes = [(48, 36), (36, 48), (32, 32)]
    pictures = [
        {
            tap: jax.ShapeDtypeStruct((*feature_shape(tap, *shape, False), channels), jnp.bfloat16)
            for tap, channels in zip(TAPS, (64, 128), strict=True)
        }
        for shape in shapes
    ]
    multiscale_checks.check_target_size(loss, pictures, shapes)


def test_a_loss_without_costs_counts_its_target():
    plain = losses.NEAREST_HYPERCOLUMNS._replace(costs=None)
    with_costs, without = (
        nst.estimate_memory((64, 64), recipe=shallow(style_loss=loss, last_style_loss=None))
        for loss in (losses.NEAREST_HYPERCOLUMNS, plain)
    )
    assert with_costs.targets == without.targets
    assert with_costs.activations > without.activations


def matching_channels():
    return sum({"1": 64, "2": 128, "3": 256, "4": 512}[tap[4]] for tap in NNST.terms.style_taps)


def test_a_run_that_does_not_fit_is_refused_with_a_size_that_does():
    with pytest.raises(ValueError, match=r"`size`: .* up to \d+x\d+ px fits"):
        nst.plan(
            (2048, 2048), (2048, 2048), recipe=NNST, size=2048, memory=8 * 10**9, platform="cpu"
        )


@pytest.mark.optimized
@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, pytest.param(2, marks=pytest.mark.long)])
def test_the_estimate_of_memory_is_within_a_fifth_of_what_xla_counts(scale, params):
    shape = (192, 256)
    at_scale = NNST.at(scale, [(96, 128), shape, shape])
    multiscale_checks.check_memory_estimate(params, at_scale, shape)
