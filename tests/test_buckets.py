"""`stylize_many(..., bucket=)`: pictures of several sizes in arrays of one size, by one program."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import (
    _compile,
    batch_members,
    batch_plans,
    batch_programs,
    canvas,
    controls,
    images,
    measuring,
    optimizers,
    planned_batches,
    planned_painting,
    prepare,
    recipes,
    run_scales,
    vgg,
)
from nst_jax._real_size import padded
from nst_jax.app import plan_report
from nst_jax.app.batch import groups, introduction
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.group_painting import plan_group
from nst_jax.app.batch.job import BatchJob
from nst_jax.batch_members import members_of
from nst_jax.controls.given import BatchControls
from nst_jax.finisher import Finisher
from nst_jax.images import on_host
from nst_jax.recipes import sizes
from nst_jax.run_scales import scales_of
from nst_jax.scaling import bucket_choice, buckets, capacity, operations
from nst_jax.scaling.bucket_plans import plan_bucket
from nst_jax.vgg import layers
from tests import small, test_cli
from tests.shell import pixels, refused, write_pictures

here, call = test_cli.here, test_cli.call  # fixtures: a folder with pictures, and the command line

SHAPES = ((48, 40), (40, 48), (37, 45))


def two_scales(recipe=recipes.GRAM, **terms):
    """Return a recipe of two scales whose canvases have 48 px on the longer side."""
    recipe = small.shallow(recipe, steps=4, **terms)
    return replace(
        recipe,
        pictures=recipes.Pictures(size=sizes.LongEdge(48)),
        descent=replace(recipe.descent, schedule=recipes.CoarseToFine(smallest=24, share=1.0)),
    )


def contents(shapes=SHAPES):
    return [small.picture("chelsea", *shape) for shape in shapes]


@pytest.fixture(scope="module")
def styles():
    return [small.picture("starry_night", 40, 33)]


@pytest.mark.parametrize(
    "optimizer",
    [  # Adam compiles in half the time of L-BFGS
        optimizers.Adam(learning_rate=0.02),
        pytest.param(optimizers.LBFGS(levels=2), marks=pytest.mark.slow),
    ],
)
def test_pictures_of_several_sizes_are_those_painted_alone(params, styles, compilations, optimizer):
    taps = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",), "style_layer_weights": (1.0,)}
    recipe = two_scales(**taps).replace(optimizer=optimizer)
    recipe = replace(recipe, network=vgg.Network(padding=layers.reflect_padded))
    pictures, others = contents(SHAPES[1:]), contents(((33, 48), (48, 38)))
    found = nst.stylize_many(params, pictures, styles, recipe=recipe, bucket=48)
    alone = nst.stylize_many(params, pictures[1:], styles, recipe=recipe)
    assert [image.shape[:2] for image in found] == [(40, 48), (39, 48)]
    for one, other in zip(found[1:], alone, strict=True):
        # Rounding errors of float32 grow from update to update.
        assert float(jnp.max(jnp.abs(one - other))) < 0.01
        assert float(jnp.mean(jnp.abs(one - other))) < 1e-4
    before = compilations()
    nst.stylize_many(params, others, styles, recipe=recipe, bucket=48)
    assert compilations() == before  # other sizes in a bucket compile nothing
    # Tiny pictures cost less than compiling, so by cost they lie in the same arrays.
    by_cost = nst.stylize_many(params, pictures, styles, recipe=recipe, bucket="auto")
    assert compilations() == before
    for one, other in zip(by_cost, found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_contents_of_a_generator_and_a_plan_of_many(params, styles):
    taps = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",), "style_layer_weights": (1.0,)}
    recipe = two_scales(**taps).replace(optimizer=small.ADAM)
    pictures = contents(SHAPES[:2])
    by_cost = nst.stylize_many(params, iter(pictures), iter(styles), recipe=recipe, bucket="auto")
    found = nst.stylize_many(params, pictures, styles, recipe=recipe, bucket=48)
    own = {"style_scale": [1.0, 1.0], "recipe": recipe, "bucket": 48}
    each = nst.stylize_many(params, iter(pictures), iter(styles), **own)
    plan = nst.plan((48, 48), (40, 33), recipe=recipe, pictures=2, bucket=48)
    assert plan.in_bucket and plan.real is None
    planned = nst.stylize_many(params, pictures, styles, plan=plan)
    for one, *others in zip(found, planned, by_cost, each, strict=True):
        for other in others:
            np.testing.assert_array_equal(one, other)
    with pytest.raises(ValueError, match="^`bucket`: `plan` contains it"):
        nst.stylize_many(params, pictures, styles, plan=plan, bucket=48)
    small_plan = nst.plan((32, 24), (40, 33), recipe=recipe.replace(size=32), pictures=2, bucket=32)
    with pytest.raises(ValueError, match="^`plan`: picture 0 (needs|has) "):
        batch_plans.check_run_in_plan(small_plan, 0, RUNS[0])
    with pytest.raises(ValueError, match="`plan`: picture 1 has .* updates at its scales"):
        batch_plans.check_run_in_plan(plan, 1, RUNS[0][1:])
    one_shape = nst.plan((48, 48), (40, 33), recipe=recipe, pictures=2, bucket="auto")
    assert not one_shape.in_bucket and one_shape.pictures == 2


@pytest.mark.long
@pytest.mark.parametrize("name", ["default", "tf", "jcjohnson", "coursera-v1", "keras-io"])
def test_published_recipes_in_a_bucket(params, styles, name):
    recipe = two_scales(recipes.PRESETS[name])
    found = nst.stylize_many(params, contents(), styles, recipe=recipe, bucket=64)
    alone = nst.stylize_many(params, contents(), styles, recipe=recipe)
    for one, other in zip(found, alone, strict=True):
        assert float(jnp.mean(jnp.abs(one - other))) < 1e-4


def test_by_cost_pictures_of_one_shape_are_painted_as_without_a_bucket(params, styles):
    recipe = small.quickest()
    pictures = contents(((33, 20), (33, 20)))
    expected = nst.stylize_many(params, pictures, styles, recipe=recipe, steps=2)
    found = nst.stylize_many(params, pictures, styles, recipe=recipe, steps=2, bucket="auto")
    np.testing.assert_array_equal(found, expected)


def test_by_cost_one_program_changes_the_colours_of_all_longer_sides(compilations):
    recipe = one_tap().replace(colors="content", size="as-is")

    def prepared(*shapes):
        pictures = [small.picture("chelsea", *shape) for shape in shapes]
        styles = [[small.picture("starry_night", 40, 33)]]
        options = {"given": BatchControls(), "on_host": True}
        return members_of(pictures, styles, recipe, **options)

    others = (33, 20), (20, 47), (50, 64)
    for shape in others:  # this reads and resizes the sample
        small.picture("chelsea", *shape)
    prepared((60, 40), (60, 33))
    before = compilations()
    several = prepared(*others)
    assert compilations() == before
    for one, shape in zip(several, others, strict=True):
        (alone,) = prepared(shape)
        np.testing.assert_allclose(one.prepared.styles[0], alone.prepared.styles[0], atol=1e-5)


def test_by_cost_what_no_bucket_holds_fills_its_arrays(params):
    members = [
        batch_members.Member(index, index, 0, prepare.Prepared(None, (), run, None), None)
        for index, run in enumerate(RUNS)
    ]
    controlled = members[0].prepared._replace(controls=object())
    mixed = [members[0]._replace(prepared=controlled), *members[1:]]
    for some, recipe, expected in (
        (members, two_scales(), [(True, (0, 1, 2))]),
        (mixed, two_scales(), [(True, (0, 1, 2))]),
        (members, two_scales(recipes.HISTOGRAM), [(False, (0,)), (False, (1,)), (False, (2,))]),
    ):
        plans = batch_plans.plan_by_cost(some, recipe)
        found = [(plan.in_bucket, tuple(one.place for one in own)) for plan, own in plans]
        assert found == expected


RUNS = [scales_of(shape, [(40, 33)], two_scales()) for shape in SHAPES]


def test_a_bucket_has_the_scales_of_the_recipe():
    (bucket,) = buckets.buckets_of(64, RUNS, two_scales())
    assert [scale.shape for scale in bucket.scales] == [(32, 32), (64, 64)]
    assert [scale.steps for scale in bucket.scales] == [scale.steps for scale in RUNS[0]]
    assert bucket.runs == (0, 1, 2)


@pytest.mark.parametrize(
    ("bucket", "error", "message"),
    [
        (32, ValueError, "a picture of 48 px .* does not fit into 32 px; give 48 or more"),
        (50, ValueError, "expected a multiple of 16 px, got 50; 48 is the nearest"),
        (0, ValueError, "expected a multiple of 16 px, got 0; 16 is the nearest"),
        ("some", ValueError, 'expected "auto", "off" or a number of pixels such as 256'),
        (48.0, TypeError, 'expected "auto", "off" or a number of pixels'),
    ],
)
def test_buckets_that_cannot_be_used(as_users_do, params, styles, bucket, error, message):
    with pytest.raises(error, match=f"^`bucket`: {message}"):
        nst.stylize_many(params, contents(), styles, recipe=two_scales(), bucket=bucket)


def test_what_is_not_exact_in_a_bucket_is_refused(params, styles):
    cases = {
        "`style_loss` is no sum": {"recipe": recipes.NNST.replace(size=48)},
        "carries its averages": {"recipe": two_scales(recipes.CROWSONKB)},
        "optax rule": {"recipe": two_scales().replace(optimizer=optimizers.Optax(_rule()))},
    }
    for message, given in cases.items():
        options = {"contents": contents(), "recipe": two_scales(), "bucket": 48, **given}
        with pytest.raises(ValueError, match=f'^`bucket`: .*{message}.*use "off"$'):
            nst.stylize_many(params, styles=styles, **options)


def _left_half(height=48, width=40):
    mask = np.zeros((height, width), np.float32)
    mask[:, : width // 2] = 1
    mask[: height // 4] = 0.6
    return mask


def _rule():
    import optax

    return optax.sgd(0.1)


@pytest.mark.parametrize("resize", on_host.KNOWN)
def test_resizing_on_the_host_is_that_of_the_filters(resize):
    drawn = np.random.default_rng(0).random((33, 20, 3)).astype(np.float32)
    for shape in ((64, 39), (17, 13), (33, 40)):
        expected = resize(jnp.asarray(drawn), shape)
        np.testing.assert_allclose(
            on_host.resized_on_host(drawn, shape, resize), expected, atol=3e-6
        )


# --- One picture ----------------------------------------------------------------------------------


def one_tap():
    """Return a recipe of two scales that needs one convolution."""
    taps = {"content_taps": ("relu1_1",), "style_taps": ("relu1_1",), "style_layer_weights": (1.0,)}
    return two_scales(**taps)


@pytest.fixture
def on_accelerator(monkeypatch):
    """Let plans and resizing believe that the CPU is an accelerator."""
    monkeypatch.setattr(capacity, "platform_of", lambda device=None: "gpu")
    monkeypatch.setattr(prepare, "default_platform", lambda: "gpu")


@pytest.fixture
def with_compiler_options(monkeypatch):
    """Compile with an option, as on a GPU; `jax.jit` takes none within a function that is traced."""
    monkeypatch.setattr(_compile, "OPTIONS", {"cpu": {"xla_llvm_disable_expensive_passes": False}})
    _compile._options.cache_clear()
    for program in (*canvas.PROGRAMS, *measuring.PROGRAMS, canvas._style_targets):
        if isinstance(program, _compile.Jitted):
            monkeypatch.setattr(program, "_programs", _compile.RecentPrograms())
    yield
    monkeypatch.undo()
    _compile._options.cache_clear()


def test_on_an_accelerator_all_scales_share_one_square(on_accelerator, monkeypatch):
    recipe = one_tap()
    found = nst.plan((37, 45), (40, 33), recipe=recipe)
    assert found.in_bucket and {scale.shape for scale in found.scales} == {(48, 48)}
    assert [scale.shape for scale in found.real_scales] == [(20, 24), (39, 48)]
    given = nst.plan((37, 45), (40, 33), recipe=recipe, bucket=64)
    assert {scale.shape for scale in given.scales} == {(64, 64)}
    # Several pictures, `bucket="off"`, other losses, tiles or a large picture: no such square.
    for options in (
        {"pictures": 2},
        {"bucket": "off"},
        {"recipe": replace(recipes.HISTOGRAM, pictures=recipe.pictures)},
        {"tile": 32},
        {"size": "long:1040"},
    ):
        assert not nst.plan((37, 45), (40, 33), **{"recipe": recipe} | options).in_bucket, options
    monkeypatch.undo()
    assert not nst.plan((37, 45), (40, 33), recipe=recipe).in_bucket


def test_the_start_line_says_that_all_scales_share_a_program(on_accelerator):
    found = nst.plan((37, 45), (40, 33), recipe=one_tap())
    line = plan_report.bucket_line([found.real_scales], [found.scales])
    assert line == (
        "1 shape, padded to 48x48 px: 1 program for all scales; 23% more pixels to compute"
    )


def test_on_an_accelerator_one_program_paints_all_scales_and_shapes(
    params, styles, on_accelerator, compilations
):
    recipe, (content, other) = one_tap(), contents(((37, 45), (48, 38)))
    found = nst.stylize(params, content, styles, recipe=recipe)
    expected = nst.stylize(params, content, styles, recipe=recipe, bucket="off")
    assert float(jnp.max(jnp.abs(found - expected))) < 0.01
    before = compilations()
    nst.stylize(params, other, styles, recipe=recipe)
    assert compilations() == before


def test_on_an_accelerator_the_first_programs_are_compiled_while_targets_are_measured(
    params, styles, on_accelerator, compilations, with_compiler_options
):
    recipe, (content, _) = one_tap(), contents(((37, 45), (48, 38)))
    recipe = recipe.replace(network__pool=layers.average_pool)  # no other test has its programs
    plan, made = nst.plan(content, styles, recipe=recipe), []

    def begin(work):
        before = compilations()
        found = work()
        made.append(compilations() - before)
        return lambda: found

    def paint():
        return planned_painting.paint_planned(
            params, content, styles, plan, init=None, key=None, every=2, begin=begin
        )

    before = len(canvas.PROGRAMS.run._programs)
    shots = list(paint())
    assert made[0] >= 3  # `init`, the loop and `picture`
    # The run itself uses the loop that was compiled ahead, so there is one more in all.
    assert len(canvas.PROGRAMS.run._programs) == before + 1
    expected = nst.paint(params, content, styles, recipe=recipe).finish()
    np.testing.assert_array_equal(shots[-1].image, expected.image)


def test_a_run_is_resumed_in_the_array_of_its_checkpoint(params, styles, on_accelerator):
    recipe, (content, _) = one_tap(), contents(((37, 45), (48, 38)))
    run = nst.paint(params, content, styles, recipe=recipe, every=2)
    next(run), next(run)
    checkpoint, whole = run.checkpoint(), run.finish()
    again = nst.paint(params, content, styles, recipe=recipe, resume=checkpoint).finish()
    np.testing.assert_array_equal(again.image, whole.image)
    exact = nst.paint(params, content, styles, recipe=recipe, bucket="off", every=2)
    next(exact), next(exact)
    checkpoint, whole = exact.checkpoint(), exact.finish()
    again = nst.paint(params, content, styles, recipe=recipe, resume=checkpoint).finish()
    np.testing.assert_array_equal(again.image, whole.image)


def test_a_run_of_an_accelerator_is_resumed_on_a_cpu(params, styles, on_accelerator, monkeypatch):
    recipe, (content, _) = one_tap(), contents(((37, 45), (48, 38)))
    run = nst.paint(params, content, styles, recipe=recipe, precision="float32", every=1)
    checkpoint = next(run) and run.checkpoint()
    whole = run.finish()
    monkeypatch.undo()
    again = nst.paint(params, content, styles, recipe=recipe, resume=checkpoint)
    assert {scale.shape for scale in again._canvas.plan.scales} == {(48, 48)}
    np.testing.assert_allclose(again.finish().image, whole.image, atol=1e-5)
    # With a bucket that the user names, the arrays are those of the checkpoint, too.
    given = nst.plan(
        (37, 45), (40, 33), recipe=recipe, precision="float32", bucket=48, resume=checkpoint
    )
    assert {scale.shape for scale in given.scales} == {(48, 48)}
    with pytest.raises(ValueError, match="^`resume`: .* array of 48 px.*; resume it with one dev"):
        nst.paint(params, content, styles, recipe=recipe, resume=checkpoint, devices=2)


def test_a_run_of_a_cpu_in_a_bucket_is_resumed_on_an_accelerator(params, styles, monkeypatch):
    recipe, (content, _) = one_tap(), contents(((37, 45), (48, 38)))
    options = {"recipe": recipe, "precision": "float32", "bucket": 48}
    run = nst.paint(params, content, styles, every=1, **options)
    checkpoint = next(run) and run.checkpoint()
    whole = run.finish()
    monkeypatch.setattr(capacity, "platform_of", lambda device=None: "gpu")
    again = nst.paint(params, content, styles, resume=checkpoint, **options)
    assert len({scale.shape for scale in again._canvas.plan.scales}) == 2
    np.testing.assert_array_equal(again.finish().image, whole.image)


def test_programs_are_compiled_ahead_only_if_memory_holds_two_runs(params, styles, on_accelerator):
    recipe, (content, _) = one_tap(), contents(((37, 45), (48, 38)))
    begun = []
    for factor, expected in ((3.0, 1), (1.5, 0)):
        plan = nst.plan(content, styles, recipe=recipe)
        plan = replace(plan, available=int(factor * plan.footprint.total * capacity.MARGIN))
        begun.clear()
        planned_painting.paint_planned(
            params, content, styles, plan, init=None, key=None, every=2, begin=begun.append
        )
        assert len(begun) == expected


def test_on_an_accelerator_pictures_are_resized_as_on_a_cpu(monkeypatch, compilations):
    image, recipe = small.picture("chelsea", 61, 83), recipes.DEFAULT
    array = jax.device_put(image)
    expected = [prepare.at_scale(array, (40, 53)), prepare.resized(image, (33, 47), recipe)]
    monkeypatch.setattr(prepare, "default_platform", lambda: "gpu")
    before = compilations()
    found = [prepare.at_scale(array, (40, 53)), prepare.resized(image, (33, 47), recipe)]
    assert compilations() == before
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype == jnp.float32
        np.testing.assert_allclose(one, other, atol=5e-6)


def test_one_picture_in_a_bucket_is_the_one_without(params, styles, compilations):
    recipe, (content, other) = one_tap(), contents(((37, 45), (48, 38)))
    found = nst.paint(params, content, styles, recipe=recipe, bucket=48, every=3)
    shots = list(found)
    assert [shot.image.shape for shot in shots] == [(20, 24, 3), (39, 48, 3), (39, 48, 3)]
    assert [scale.shape for scale in found.scales] == [(20, 24), (39, 48)]
    last = nst.paint(params, content, styles, recipe=recipe).finish()
    assert float(jnp.max(jnp.abs(shots[-1].image - last.image))) < 0.01
    assert float(jnp.mean(jnp.abs(shots[-1].image - last.image))) < 1e-4
    np.testing.assert_allclose(shots[-1].losses.total, last.losses.total, rtol=1e-3)
    before = compilations()
    nst.stylize(params, other, styles, recipe=recipe, bucket=48)
    assert compilations() == before  # another size in a bucket compiles nothing
    exact = nst.stylize(params, content, styles, recipe=recipe, bucket="auto")
    np.testing.assert_array_equal(exact, last.image)


def every_control(content, styles):
    """Return a region with a masked style, a protected part and a transparent part of a content."""
    style, half = styles[0], _left_half(*content.shape[:2])
    return {
        "regions": [controls.Region(half, style[:, ::-1], _left_half(*style.shape[:2]))],
        "protect": controls.Protect(half[::-1, ::-1], 0.5),
        "opacity": np.clip(half[:, ::-1] + 0.3, 0, 1),
    }


ONE_CONTROL = ("protect",)
FINISHED = [
    ({"realism": 0.7}, ("regions", "protect", "opacity")),
    ({"colors": "content"}, ("regions", "protect", "opacity")),
    ({"colors": "palette"}, ONE_CONTROL),  # one of the colours that change after the updates
    ({"colors": "palette", "realism": 0.3}, ("protect", "opacity")),
    ({"colors": "luminance"}, ONE_CONTROL),
    ({"colors": "content-after", "realism": 0.3}, ()),
    ({"colors": "palette"}, ()),
]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        *FINISHED[:2],  # by the same programs
        pytest.param(*FINISHED[2], marks=pytest.mark.slow),
        *(pytest.param(*case, marks=pytest.mark.long) for case in FINISHED[3:]),
    ],
)
def test_controls_and_colours_in_a_bucket_are_those_without(
    params, styles, compilations, options, names
):
    # Adam compiles in half the time of L-BFGS, whose updates in a bucket are compared above.
    recipe = one_tap().replace(optimizer=optimizers.Adam(learning_rate=0.02))
    content, other = contents(((37, 45), (48, 38)))
    terms = replace(recipe.terms, matting_weight=0.1, region_reach="simple")
    options = {**options, "recipe": replace(recipe, terms=terms)}

    def painted(picture, **more):
        given = every_control(picture, styles)
        return nst.stylize(
            params, picture, styles, **options, **{name: given[name] for name in names}, **more
        )

    found, alone = painted(content, bucket=48), painted(content)
    # Rounding errors of float32 grow from update to update, and those of masks are up to 2^-16.
    assert found.shape == alone.shape and float(jnp.max(jnp.abs(found - alone))) < 1e-3
    before = compilations()
    painted(other, bucket=48)
    assert compilations() == before  # another size in a bucket compiles nothing


@pytest.mark.long
def test_realism_in_an_array_has_one_program_for_all_radii_of_its_filter(compilations):
    """The radius is 1/32 of the picture's longer side: 3, 3 and 2 px for these three pictures."""
    recipe = replace(one_tap(), pictures=recipes.Pictures(size=sizes.AsIs(), realism=0.5))
    arrays, compiled = run_scales.Scale((96, 104), ((96, 104),), 1), []
    for shape in ((96, 104), (80, 99), (66, 60)):
        content, painted = small.picture("chelsea", *shape), small.picture("starry_night", *shape)
        prepared = prepare.prepare_pictures(content, painted, recipe, None)
        scale = prepared.scales[-1]
        wide = jnp.asarray(padded(painted, arrays.shape))
        before = compilations()
        found = Finisher(prepared, recipe).in_arrays(wide, scale, arrays)
        compiled.append(compilations() - before)
        alone = Finisher(prepared, recipe)(jnp.asarray(painted), scale)
        np.testing.assert_allclose(found, alone, atol=1e-5)
    assert compiled[0] > 0 and compiled[1:] == [0, 0]


def test_a_batch_of_masked_pictures_in_a_bucket(params, styles, compilations):
    recipe, pictures = one_tap().replace(optimizer=small.ADAM), contents(SHAPES[1:])
    each = [every_control(picture, styles) for picture in pictures]
    regions = [each[0]["regions"][0]]
    masks = [one["regions"][0].mask for one in each]
    together = {
        "regions": [replace(regions[0], mask=masks)],
        "protect": controls.Protect([one["protect"].mask for one in each], 0.5),
        "opacity": [each[0]["opacity"], None],
    }
    found = nst.stylize_many(params, pictures, styles, recipe=recipe, bucket=48, **together)
    for picture, one, image in zip(pictures, each, found, strict=True):
        given = one if picture is pictures[0] else {**one, "opacity": None}
        alone = nst.stylize(params, picture, styles, recipe=recipe, bucket=48, **given)
        assert float(jnp.max(jnp.abs(image - alone))) < 1e-3
    by_cost = nst.stylize_many(params, pictures, styles, recipe=recipe, bucket="auto", **together)
    for one, other in zip(by_cost, found, strict=True):
        np.testing.assert_array_equal(one, other)
    others = contents(((33, 48), (48, 38)))
    masks = [every_control(picture, styles) for picture in others]
    together = {
        "regions": [replace(regions[0], mask=[one["regions"][0].mask for one in masks])],
        "protect": controls.Protect([one["protect"].mask for one in masks], 0.5),
        "opacity": [masks[0]["opacity"], None],
    }
    before = compilations()
    nst.stylize_many(params, others, styles, recipe=recipe, bucket=48, **together)
    assert compilations() == before  # other sizes of pictures and masks compile nothing


def test_a_run_in_a_bucket_resumes_in_it_only(params, styles):
    recipe, (content,) = one_tap(), contents(SHAPES[2:])
    options = {"recipe": recipe, "bucket": 48, "every": 1}
    whole = nst.paint(params, content, styles, **options).finish()
    for updates in (1, 3):  # at the first scale, and at the second one
        shots = nst.paint(params, content, styles, **options)
        for _ in range(updates + 1):
            next(shots)
        checkpoint = shots.checkpoint()
        rest = nst.paint(params, content, styles, **options, resume=checkpoint).finish()
        np.testing.assert_array_equal(rest.image, whole.image)
        np.testing.assert_array_equal(rest.history.total, whole.history.total)
    for other in ("off", 64):
        with pytest.raises(ValueError, match="^`resume`: .* another run: .*bucket was"):
            nst.paint(params, content, styles, recipe=recipe, bucket=other, resume=checkpoint)
    with pytest.raises(
        ValueError, match="^`resume`: the checkpoint is at 48x39 after 3 updates of"
    ):
        nst.paint(params, content, styles, **options, steps=8, resume=checkpoint)


def test_a_checkpoint_in_a_bucket_is_read_as_it_was_written(params, styles, tmp_path):
    recipe, (content,) = one_tap(), contents(SHAPES[2:])
    shots = nst.paint(params, content, styles, recipe=recipe, bucket=48, every=3)
    next(shots)
    nst.checkpoints.save(tmp_path / "run.h5", shots.checkpoint())
    found = nst.checkpoints.load(tmp_path / "run.h5")
    assert found.facts == shots.checkpoint().facts
    # The sizes are those of the picture; those of the arrays are among the facts.
    assert [scale["size"] for scale in found.scales] == [[24, 20], [48, 39]]
    assert found.facts["bucket"] == "32x32, 48x48 px"
    for bucket, said in (
        ("48x48 px", "1 scales, expected 2"),
        ("40x32, 48x48 px", r"\[32, 40, 3\]"),
    ):
        wrong = found._replace(facts=found.facts | {"bucket": bucket})
        nst.checkpoints.save(tmp_path / "wrong.h5", wrong)
        with pytest.raises(ValueError, match=f"damaged .*{said}"):
            nst.checkpoints.load(tmp_path / "wrong.h5")


def test_a_plan_may_be_that_of_a_bucket(params, styles):
    recipe, (content,) = one_tap(), contents(SHAPES[2:])
    plan = nst.plan(content, styles, recipe=recipe, bucket=48)
    assert plan.scales[-1].shape == (48, 48) and plan.real_scales[-1].shape == (39, 48)
    exact = nst.plan(content, styles, recipe=recipe, bucket="auto")
    assert plan.footprint.activations > exact.footprint.activations
    assert plan.operations > exact.operations and exact.real_scales == exact.scales
    found = nst.stylize(params, content, styles, plan=plan)
    expected = nst.stylize(params, content, styles, recipe=recipe, bucket=48)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(ValueError, match="^`bucket`: `plan` contains it"):
        nst.stylize(params, content, styles, plan=plan, bucket=48)
    with pytest.raises(ValueError, match='^`bucket`: .*devices.*use "off"$'):
        nst.plan(content, styles, recipe=recipe, bucket=48, pictures=2, devices=2, bands=2)
    with pytest.raises(ValueError, match="^`plan`: was made for a canvas of 48x39 px"):
        nst.stylize(params, contents(SHAPES[:1])[0], styles, plan=plan)


def test_more_padding_than_memory_is_refused(styles):
    for side, memory in ((16384, 4 * 10**9), (2048, 3 * 10**9)):
        with pytest.raises(ValueError, match='^`bucket`: .* GB.*; use a smaller bucket .*"off"$'):
            nst.plan((48, 40), styles, recipe=one_tap(), bucket=side, memory=memory, platform="cpu")


@pytest.mark.parametrize("factor", [5, 16])  # in tiles the style fits, or not even in tiles
def test_a_style_that_fits_in_no_bucket_is_named(factor):
    options = {"recipe": recipes.GRAM, "size": 256, "bucket": 256, "platform": "cpu"}
    for argument, given, styles in (
        ("style_size", {"style_size": 250 * factor}, (256, 200)),
        ("style_scale", {"style_scale": factor}, [(256, 200), (200, 256)]),
    ):
        said = f"^`{argument}`: .* px.* GB.*; use a smaller `{argument}`, or `bucket` off$"
        with pytest.raises(ValueError, match=said):
            nst.plan((256, 170), styles, **options, **given, memory=86 * 10**7)


def test_every_style_in_a_bucket_counts(on_accelerator):
    """Styles of pictures, of layers and of regions: all are measured and kept, each in an array."""
    content, style, recipe = (48, 40), (48, 33), two_scales()

    def planned(styles, **options):
        return nst.plan(content, styles, recipe=recipe, **options)

    one = planned([style])
    for more in (
        planned([style] * 3),
        planned([style], regions=[style, style]),
        planned([style], tap_styles={"relu1_1": style, "relu2_1": style}),
        planned([style] * 3, pictures=2, bucket=48),
    ):
        assert more.in_bucket and {scale.shape for scale in more.scales[-1:]} == {(48, 48)}
        count = more.footprint.pictures
        # float32 of three channels, the canvas of each picture and the styles, in squares of 48 px
        assert more.footprint.inputs == 12 * 48**2 * (count + 3)
        assert one.footprint.inputs == 12 * 48**2 * (1 + 1)
    measured = zip(
        planned([style] * 3).measuring_operations, one.measuring_operations, one.scales, strict=True
    )
    for three, single, scale in measured:
        extra = 2 * operations.style_operations(scale.style_shapes[0], recipe)
        assert three - single == pytest.approx(extra) and extra > 0


def test_every_style_counts_in_the_memory_of_a_batch(tmp_path):
    """Of three pictures with three styles each, whose arrays are 48 px squares, by hand."""
    blend = one_tap().replace(style_shares=(1.0, 1.0, 1.0))
    style = (48, 33)
    shapes = [(48, 40), (40, 48), (36, 48)]
    of_one = 12 * 48**2  # bytes in float32 of three channels
    runs = [scales_of(shape, [style] * 3, blend) for shape in shapes]
    (square,) = buckets.buckets_of(48, runs, blend)
    costs = bucket_choice.Costs(1.0, 1e-15)
    (chosen,) = bucket_choice.chosen_buckets(runs, blend, costs, "cpu")
    found = [square.scales, chosen.scales]
    for arrays in found:
        assert arrays[-1].shape == (48, 48) and arrays[-1].style_shapes == ((48, 48),) * 3
        plan = plan_bucket(blend, arrays, pictures=3)
        assert plan.footprint.inputs == of_one * (3 + 3)
    # The same numbers, as the batches from Python and of the command line get them.
    members = [
        batch_members.Member(index, index, 0, prepare.Prepared(None, (), run, None), None)
        for index, run in enumerate(runs)
    ]
    for plans in (
        batch_plans.plan_in_buckets(48, members, blend),
        batch_plans.plan_by_cost(members, blend),
    ):
        ((plan, _),) = plans
        assert plan.in_bucket and plan.footprint.inputs == of_one * (3 + 3)
    entries = [
        entry(number, shape)._replace(recipe=blend, scales=run)
        for number, (shape, run) in enumerate(zip(shapes, runs, strict=True))
    ]
    job = BatchJob(entries=tuple(entries), folder=tmp_path, seed=0)
    for bucket in (48, "auto"):
        (group,) = groups.form_groups(entries, "cpu", bucket=bucket)
        assert group.arrays is not None
        assert plan_group(group, job).footprint.inputs == of_one * (3 + 3)


def test_blended_styles_are_painted_by_a_plan_of_a_bucket(params, styles):
    recipe, others = one_tap(), [*styles, small.picture("chelsea", 30, 40)]
    pictures = contents(SHAPES[1:])
    plan = nst.plan((48, 48), others, recipe=recipe, pictures=2, bucket=48)
    assert [len(scale.style_shapes) for scale in plan.scales] == [2, 2]
    found = nst.stylize_many(params, pictures, [others] * 2, plan=plan)
    expected = nst.stylize_many(params, pictures, [others] * 2, recipe=recipe, bucket=48)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("count", "shape", "what"),
    [
        (1, (341, 512), "512x341 px in an array of 512x512 px takes"),
        (1, (512, 512), "512x512 px takes"),
        (2, (341, 512), "2 pictures of 512x341 px in arrays of 512x512 px take"),
        (2, None, "2 pictures in arrays of 512x512 px take"),
    ],
)
def test_out_of_memory_in_a_bucket_names_the_picture_and_the_bucket(count, shape, what):
    footprint = nst.estimate_memory((512, 512), pictures=count, platform="cpu")
    said = rf"^`size`: .*: {what} .*; choose `bucket` off, a smaller size"
    explaining = capacity.explaining_out_of_memory(
        footprint, None, None, shape=shape, in_bucket=True
    )
    with pytest.raises(nst.OutOfMemory, match=said), explaining:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")


def test_a_picture_in_a_bucket_out_of_memory_is_named(params, styles, monkeypatch):
    def exhausted(*args, **options):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    options = {"recipe": one_tap(), "bucket": 48}
    monkeypatch.setattr(
        planned_painting, "PROGRAMS", planned_painting.PROGRAMS._replace(init=exhausted)
    )
    with pytest.raises(nst.OutOfMemory, match="48x39 px in an array of 48x48 px .*`bucket` off"):
        nst.stylize(params, contents(SHAPES[2:])[0], styles, **options)
    monkeypatch.setattr(planned_batches, "_painted_chunk", exhausted)
    with pytest.raises(nst.OutOfMemory, match="2 pictures in arrays of 48x48 px .*`bucket` off"):
        nst.stylize_many(params, contents(SHAPES[1:]), styles, **options)


def test_one_picture_that_no_bucket_holds_is_refused(params, styles):
    for message, given in {
        "`style_loss` is no sum": {"recipe": recipes.NNST.replace(size=48)},
        "tiles": {"tile": 32},
        "devices": {"devices": 2},
        "give 48 or more": {"bucket": 32},
    }.items():
        options = {"recipe": one_tap(), "bucket": 48, **given}
        with pytest.raises(ValueError, match=f"^`bucket`: .*{message}"):
            nst.stylize(params, contents(SHAPES[:1])[0], styles, **options)


def test_the_command_paints_in_a_bucket_and_resumes(call, here):
    words = ["stylize", "photo.png", "art.png", "--recipe", "tiny"]
    assert call(*words, "-o", "plain.png")[0] == 0
    code, _, err = call(*words, "-o", "wide.png", "--bucket", 64, "--checkpoint", "run.h5")
    assert code == 0, err
    assert "1 shape, padded to 64x64 px: 1 program for each scale" in " ".join(err.split())
    plain, wide = pixels("plain.png").astype(int), pixels("wide.png").astype(int)
    assert plain.shape == wide.shape and np.abs(plain - wide).mean() < 0.1
    facts = [images.read_metadata(f"{name}.png")["settings"] for name in ("plain", "wide")]
    assert facts[0] == facts[1]  # the bucket is no part of a picture's settings
    again = [*words, "-o", "again.png", "--steps", 7, "--checkpoint", "run.h5", "--resume"]
    code, _, err = call(*again, "--bucket", "off")
    assert code == 2 and 'another run: bucket was "64x64 px", is absent' in err
    assert call(*again)[0] == 0  # in the array of the checkpoint
    refused(call(*words, "--bucket", 50), "`--bucket`", "multiple of 16")
    refused(call(*words, "--bucket", 32), "`--bucket`", "give 48 or more")


# --- The command `batch` --------------------------------------------------------------------------


def entry(number, shape):
    recipe, style = two_scales(), (40, 33)
    seen = (images.Glance(shape, "c", "0"), images.Glance(style, "s", "1"))
    scales = scales_of(shape, [style], recipe)
    return Entry(number, Path("c"), (Path("s"),), Path("x.png"), recipe, scales, seen)


def test_pictures_of_twelve_shapes_are_groups_of_one_program():
    twelve = [(48, 32 + 2 * number) for number in range(6)]
    twelve += [(width, height) for height, width in twelve]
    entries = [entry(number, twelve[number % 12]) for number in range(24)]
    exact = groups.form_groups(entries, "cpu")
    assert len({group.scales[-1].shape for group in exact}) == 12
    formed = groups.form_groups(entries, "cpu", bucket=48)
    assert {group.scales for group in formed} == {formed[0].arrays}
    assert [scale.shape for scale in formed[0].scales] == [(32, 32), (48, 48)]
    assert len({len(group.entries) for group in formed}) == 1  # so all run the same programs
    (one,) = {group.arrays for group in groups.form_groups(entries, "cpu", bucket="auto")}
    assert [scale.shape for scale in one] == [(32, 32), (48, 48)]  # by cost it is the same
    assert introduction._bucket_words(formed, len(groups.programs_of(formed))).startswith(
        "12 shapes, padded to 48x48 px: 1 program for each scale; 30% more pixels"
    )


def test_programs_are_counted_by_the_sizes_of_chunks():
    """By hand: of 7 pictures at most 3 at once are 3 + 3 + 1, of 8 pictures 2 + 2 + 2 + 2."""
    for count, chunk, expected in ((8, None, {8}), (8, 8, {8}), (7, 3, {3, 1}), (8, 3, {2})):
        group = groups.Group(tuple(entry(number, (48, 40)) for number in range(count)), ())
        found = groups.programs_of([group], chunk)
        assert {key[2] for key in found} == expected and set(found.values()) == {2}


def test_a_loss_that_matches_has_programs_for_each_shape_of_style():
    for recipe, expected in ((two_scales(), 1), (recipes.NNST.replace(size=64), 2)):
        parts = []
        for style in ((64, 60), (64, 50)):
            scales = scales_of((64, 48), [style], recipe)
            parts.append(
                groups.Group((entry(0, (64, 48))._replace(recipe=recipe, scales=scales),), ())
            )
        assert len(groups.programs_of(parts)) == expected


@pytest.mark.long
def test_batch_paints_pictures_of_several_shapes_by_one_program(call, here):
    write_pictures(tall=(60, 41), wide=(33, 60))
    words = ["photo.png", "tall.png", "wide.png", "--styles", "art.png", "--recipe", "tiny"]
    before = len(batch_programs.PROGRAMS.run._programs)
    code, _, err = call("batch", *words, "-o", "together", "--bucket", 64)
    assert code == 0, err
    assert "3 shapes, padded to 64x64 px: 1 program for each scale" in " ".join(err.split())
    assert len(batch_programs.PROGRAMS.run._programs) == before + 1
    assert call("batch", *words, "-o", "apart", "--bucket", "off")[0] == 0
    for name in ("photo", "tall", "wide"):
        found, expected = (pixels(f"{folder}/{name}_art.png") for folder in ("together", "apart"))
        assert found.shape == expected.shape
        difference = np.abs(found.astype(int) - expected.astype(int))
        assert difference.mean() < 0.1 and difference.max() <= 3
    # Finished pictures are those of any bucket: nothing is painted again.
    assert "all 3 pictures are finished" in call("batch", *words, "-o", "together")[2]


@pytest.mark.slow
def test_batch_chooses_few_programs_for_many_shapes(call, here):
    shapes = [(60, 40 + 3 * number) for number in range(6)]
    shapes += [(width, height) for height, width in shapes]
    write_pictures(**{f"p{number}": shapes[number % 12] for number in range(24)})
    before = len(batch_programs.PROGRAMS.run._programs)
    words = [*(f"p{number}.png" for number in range(24)), "--styles", "art.png", "--recipe", "tiny"]
    code, _, err = call("batch", *words, "-o", "chosen", "--bucket", "auto")
    assert code == 0, err
    assert "12 shapes" in err and "for each scale" in err
    assert len(batch_programs.PROGRAMS.run._programs) - before <= 3  # the recipe has one scale
    assert len(list(here.glob("chosen/p*.png"))) == 24


def test_by_cost_transparent_pictures_are_painted_alone(call, here):
    write_pictures(tall=(60, 41), wide=(33, 60))
    rgba = np.dstack([pixels("wide.png"), np.full((33, 60), 255, np.uint8)])
    rgba[:10, :, 3] = 0
    Image.fromarray(rgba).save("wide.png")
    words = ["photo.png", "tall.png", "wide.png", "--styles", "art.png", "--recipe", "tiny"]
    code, _, err = call("batch", *words, "-o", "out", "--steps", 1, "--bucket", "auto")
    assert code == 0, err
    assert len(list(here.glob("out/*.png"))) == 3
    options = ("--steps", 1, "--bucket", 64, "--format", "png")
    code, _, err = call("batch", *words, "-o", "other", *options)
    assert code == 0, err
    for name in ("photo", "tall", "wide"):
        found, expected = (pixels(f"{folder}/{name}_art.png") for folder in ("other", "out"))
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 3


def test_sweeps_and_plans_of_pictures_in_a_bucket(call, here):
    words = ["photo.png", "art.png", "--recipe", "tiny", "--bucket", 64]
    code, out, err = call("plan", *words)
    assert code == 0, err
    assert "1 shape, padded to 64x64 px: 1 program for each scale" in " ".join(out.split())
    plain, wide = (
        json.loads(call("plan", *words[:-1], bucket, "--json")[1]) for bucket in ("off", 64)
    )
    assert plain["bucket"] is None and plain["scales"] == wide["scales"]
    assert [scale["size"] for scale in wide["bucket"]] == [[64, 64]]
    assert wide["memory"]["activations"] > plain["memory"]["activations"]
    assert wide["operations"] > plain["operations"]
    refused(call("plan", *words[:-1], 32), "`--bucket`", "give 48 or more")
    refused(call("sweep", *words[:-1], 50, "--ratio", "1,2"), "`--bucket`", "multiple of 16")
    refused(
        call("sweep", *words, "--ratio", "1,2", "--devices", 2, "--bands", 2),
        "`--bucket`",
        "--bands 2",
    )


@pytest.mark.slow
def test_a_sweep_in_a_bucket_is_that_without(call, here):
    words = ["sweep", "photo.png", "art.png", "--recipe", "tiny", "--ratio", "1,100", "--size", 40]
    assert call(*words, "-o", "plain.png")[0] == 0
    code, _, err = call(*words, "-o", "wide.png", "--bucket", 64)
    assert code == 0 and "1 shape, padded to 64x64 px" in " ".join(err.split())
    difference = np.abs(pixels("plain.png").astype(int) - pixels("wide.png").astype(int))
    assert difference.mean() < 0.1 and difference.max() <= 3


def test_buckets_that_batch_refuses(call, here):
    words = ["batch", "photo.png", "--styles", "art.png", "--recipe", "tiny", "-o", "out"]
    refused(call(*words, "--bucket", 50), "`--bucket`", "multiple of 16 px, got 50; 48 is")
    refused(call(*words, "--bucket", 32), "`--bucket`", "40 px", "give 48 or more")
    refused(call(*words, "--bucket", "large"), "`--bucket`", '"auto", "off" or a number of pixels')
    refused(call(*words, "--bucket", 64, "--devices", 2, "--bands", 2), "`--bucket`", "--bands 2")
    refused(call(*words, "--bucket", 64, "--recipe", "nnst"), "`--bucket`", "no sum over positions")
    refused(call(*words, "--bucket", 64, "--tile", 128), "`--bucket`", "tiles")
    assert not list(here.glob("out/*.png"))
