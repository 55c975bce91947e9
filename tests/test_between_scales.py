"""What happens between scales: their sizes, what one leaves to the next, and averages of canvases."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import (
    checkpoints,
    optimize,
    optimizers,
    planned_painting,
    provenance,
    recipes,
    run_scales,
)
from nst_jax.images import resizing
from nst_jax.recipes import GeometricScales, sizes
from nst_jax.scaling import footprint
from tests import small
from tests.test_parity import tensor, torch_targets, torch_total

ADAM = optimizers.Adam(learning_rate=0.02, b1=0.9, b2=0.99, carry=True)
SCALES = GeometricScales(smallest=30, first=6, later=4)
ALL = small.shallowest(recipes.TF, style_weight=1.0)
ALL = replace(
    ALL,
    descent=replace(
        ALL.descent,
        optimizer=ADAM,
        clip=True,
        steps=10,
        schedule=SCALES,
        enlarge=resizing.torch_bicubic,
        average_decay=0.9,
    ),
)


def descent(**changes):
    return replace(ALL, descent=replace(ALL.descent, **changes))


RECIPES = {
    "all": ALL,
    "levels": descent(pyramid_levels=3, clip=False),
    "only carried": descent(average_decay=None, enlarge=resizing.enlarge),
    "only averaged": descent(optimizer=replace(ADAM, carry=False)),
    "rmsprop over levels": descent(
        optimizer=optimizers.RMSprop(learning_rate=2e-3), pyramid_levels=3, average_decay=None
    ),
}


@pytest.fixture(scope="module")
def large():
    return small.picture("chelsea", 36, 48)  # and at the scale before, 26 x 34


@pytest.fixture(scope="module")
def art():
    return small.picture("starry_night", 33, 48)


# --- Sizes ----------------------------------------------------------------------------------------


def published(size, original, smallest=128):
    """Return the sizes of crowsonkb's scales as (height, width), coarse to fine."""
    longer, found, index = size, set(), 0
    while longer >= smallest:
        found.add(longer)
        index += 1
        longer = round(size / pow(2, index / 2))
    height, width = original
    return [
        (round(side * height / width), side)
        if width >= height
        else (side, round(side * width / height))
        for side in sorted(found)
    ]


@pytest.mark.parametrize("original", [(600, 800), (1000, 667), (333, 500), (500, 500)])
def test_sizes_are_those_of_the_source_rounded_once(original):
    recipe = replace(
        recipes.TF, descent=replace(recipes.TF.descent, schedule=GeometricScales(), steps=3000)
    )
    for size in (128, 129, 255, 256, 333, 500, 511, 512, 513, 700, 1023, 1024):
        of_size = recipe.replace(pictures__size=sizes.LongEdge(size))
        scales = run_scales.scales_of(original, [original[::-1]], of_size)
        assert [scale.shape for scale in scales] == published(size, original), size
        styles = [scale.style_shapes[0] for scale in scales]
        assert styles == published(size, original[::-1]), size


def test_512_px_are_the_published_scales_and_updates():
    plan = GeometricScales().plan((512, 512), 3000)
    assert [shape[0] for shape, _ in plan] == [128, 181, 256, 362, 512]
    assert [count for _, count in plan] == [1000, 500, 500, 500, 500]


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        (100, [100]),
        (128, [128]),
        (181, [128, 181]),
        (256, [128, 181, 256]),
        (362, [128, 181, 256, 362]),
        (512, [128, 181, 256, 362, 512]),
        (1024, [128, 181, 256, 362, 512, 724, 1024]),
    ],
)
def test_crowsonkb_makes_as_many_updates_as_its_source_at_every_size(size, sides):
    # The source: `initial_iterations` 1000 at the coarsest scale, `iterations` 500 at each other one.
    updates = [1000] + [500] * (len(sides) - 1)
    recipe = recipes.CROWSONKB.replace(size=size)
    scales = run_scales.scales_of((600, 800), [(800, 600)], recipe)
    assert [(max(scale.shape), scale.steps) for scale in scales] == list(
        zip(sides, updates, strict=True)
    )
    shape = scales[-1].shape
    assert recipe.descent.updates_at(shape) == sum(updates)
    # A number of updates is the total, in the same proportion.
    scales = run_scales.scales_of((600, 800), [(800, 600)], recipe.replace(steps=200))
    part = 200 / (len(sides) + 1)
    assert sum(scale.steps for scale in scales) == 200
    for scale, of_part in zip(scales, [2] + [1] * (len(sides) - 1), strict=True):
        assert abs(scale.steps - of_part * part) <= 1


def test_a_size_that_is_kept_once_gets_its_updates_once():
    plan = GeometricScales(per_halving=16, smallest=16, first=7, later=3).counted_plan((20, 20))
    assert plan == (((16, 16), 7), *(((side, side), 3) for side in (17, 18, 19, 20)))


@pytest.mark.parametrize("steps", [1, 3, 10, 3001])
@pytest.mark.parametrize("shape", [(20, 20), (384, 512), (1000, 3000), (17, 900)])
@pytest.mark.parametrize("per_halving", [0.5, 2, 16])
def test_steps_add_up_in_proportion_and_end_at_the_final_size(shape, steps, per_halving):
    plan = GeometricScales(per_halving=per_halving, smallest=64).plan(shape, steps)
    assert plan[-1][0] == shape and sum(count for _, count in plan) == steps
    assert all(count >= 1 for _, count in plan) and min(map(min, (s for s, _ in plan))) >= 16
    assert list(plan) == sorted(plan, key=lambda scale: max(scale[0]))
    if steps > 100 * len(plan):
        first, *later = [count for _, count in plan]
        assert all(abs(count * 2 - first) <= 3 for count in later)


def test_any_ratio_may_be_given_and_a_size_that_was_not_kept_gives_the_proportions():
    plan = GeometricScales(per_halving=1).plan((300, 400), 9)
    assert [shape for shape, _ in plan] == [(150, 200), (300, 400)]
    # The canvas is square though the content is not, as with an exact size.
    plan = GeometricScales().plan((300, 300), 9, original=(600, 800))
    assert [shape for shape, _ in plan] == [(150, 150), (212, 212), (300, 300)]


# --- A run against torch --------------------------------------------------------------------------


def torch_run(torch, params, contents, styles, recipe, steps):
    """Run crowsonkb's loop: Adam carried over scales, clamped; return each average, and the losses."""
    interpolate, decay = torch.nn.functional.interpolate, recipe.descent.average_decay
    # Coordinates are sRGB; the network's are BGR, 0 to 255, minus the mean.
    mean = torch.tensor([103.939, 116.779, 123.68], dtype=torch.float64)[None, :, None, None]
    image = tensor(torch, contents[0])
    averages, losses, before = [], [], None
    for content, style, count in zip(contents, styles, steps, strict=True):
        shape = content.shape[:2]
        image = interpolate(image.detach(), shape, mode="bicubic").clamp(0, 1).requires_grad_()
        targets = torch_targets(torch, params, content, style, recipe, "relu2_1")
        rule = torch.optim.Adam([image], lr=0.02, betas=(0.9, 0.99), eps=1e-8)
        if before is not None:
            (state,) = before["state"].values()
            state["exp_avg"] = interpolate(state["exp_avg"], shape, mode="bicubic")
            state["exp_avg_sq"] = interpolate(state["exp_avg_sq"], shape, mode="bilinear").relu()
            rule.load_state_dict(before)
        value, left = (1 - decay) * image.detach(), decay
        for _ in range(count):
            rule.zero_grad()
            pixels = image.flip(1) * 255 - mean
            total = torch_total(torch, params, pixels, targets, recipe)
            losses.append(total.item())
            total.backward()
            rule.step()
            with torch.no_grad():
                image.clamp_(0, 1)
                value, left = decay * value + (1 - decay) * image, decay * left
        image = value / (1 - left)
        averages.append(image[0].permute(1, 2, 0).numpy())
        before = rule.state_dict()
    return averages, losses


@pytest.mark.torch
def test_two_scales_are_the_loop_of_the_source_in_torch(torch, params, params64, x64):
    deeper = replace(small.shallow(recipes.TF, style_weight=1.0), descent=ALL.descent)
    shapes, steps = [(24, 31), (34, 44)], [4, 3]
    contents = [np.asarray(small.picture("chelsea", *shape), float) for shape in shapes]
    styles = [
        np.asarray(small.picture("starry_night", *shape), float) for shape in [(28, 20), (40, 29)]
    ]
    averages, losses = torch_run(torch, params, contents, styles, deeper, steps)
    recipe = recipes.as_arrays(deeper.bare(), jnp.float64)
    before, ours = None, []
    for content, style, count, expected in zip(contents, styles, steps, averages, strict=True):
        content, style = jnp.asarray(content), jnp.asarray(style)
        targets = jax.jit(nst.measure)(params64, content, style, recipe)
        if before is None:
            state = nst.init(content, recipe)
        else:
            larger = optimize.enlarged(before.image, content.shape[:2], ALL.descent.enlarge, True)
            state = optimize.take_over(nst.init(larger, recipe), before.opt_state, recipe)
        state, history = jax.jit(optimize.run)(params64, state, targets, recipe, count)
        ours += list(history.total[:count])
        before = optimize.hand_over(optimize.canvas_image(state, recipe), state, recipe)
        assert_allclose(before.image, expected, rtol=0, atol=1e-9)
    assert_allclose(ours, losses, rtol=1e-9)
    assert np.abs(before.image - contents[-1]).max() > 0.02  # and it painted something


# --- Averages -------------------------------------------------------------------------------------


def canvases(params, content, style, recipe):
    """Return the canvas after each update of a run at one scale."""
    recipe = recipes.as_arrays(recipe.bare())
    targets = jax.jit(nst.measure)(params, content, style, recipe)
    state, found = nst.init(content, recipe), []
    for _ in range(6):
        state = STEP(params, state, targets, recipe)
        found.append(np.asarray(state.canvas, float))
    return found, state, recipe


STEP = jax.jit(optimize.step)


def test_the_picture_is_the_weighted_mean_of_all_canvases(params, content, style):
    found, state, recipe = canvases(params, content, style, ALL)
    weights = 0.9 ** np.arange(6)[::-1]
    expected = np.average(found, axis=0, weights=weights)
    assert_allclose(optimize.picture(state, recipe), expected, rtol=0, atol=1e-6)
    assert np.abs(expected - found[-1]).max() > 0.01
    # The next scale's start has one more, the last update, which was not measured here.
    found.append(np.asarray(state.pending, float))
    expected = np.average(found, axis=0, weights=0.9 ** np.arange(7)[::-1])
    assert_allclose(optimize.canvas_image(state, recipe), expected, rtol=0, atol=1e-6)


def test_losses_stay_those_of_the_canvas(params, content, style):
    plain, averaged = (
        nst.paint(params, content, style, recipe=descent(average_decay=decay), every=3, steps=6)
        for decay in (None, 0.9)
    )
    for one, other in zip(plain, averaged, strict=True):
        assert_array_equal(one.history.total, other.history.total)
        same = np.abs(one.image - other.image).max()
        assert same < 1e-6 if one.step == 0 else same > 0.005


def test_an_average_is_within_the_range_and_a_decay_of_0_is_the_last_canvas(params, content, style):
    plain = nst.stylize(params, content, style, recipe=descent(average_decay=None))
    last = nst.stylize(params, content, style, recipe=descent(average_decay=0.0))
    assert_allclose(last, plain, rtol=0, atol=1e-6)


def test_an_average_ends_where_the_losses_stop_being_finite(params, content, style):
    recipe = descent(optimizer=optimizers.Adam(learning_rate=1e30), clip=False)
    with pytest.raises(nst.Diverged) as stopped:
        nst.stylize(params, content, style, recipe=recipe)
    assert stopped.value.step == 1
    assert_allclose(stopped.value.image, content, atol=1e-6)


# --- Whole runs -----------------------------------------------------------------------------------


def test_a_scale_starts_from_what_the_one_before_left(params, large, art):
    shots = {shot.step: shot for shot in nst.paint(params, large, art, recipe=ALL, every=1)}
    assert [shot.scale for shot in shots.values()] == [0] * 6 + [1] * 5
    assert [shots[step].image.shape for step in (5, 6)] == [(26, 34, 3), (36, 48, 3)]
    # Without carried means, only updates at the finer scale differ, not its start.
    fresh = nst.paint(params, large, art, recipe=RECIPES["only averaged"], every=1)
    fresh = {shot.step: shot for shot in fresh}
    assert_array_equal(fresh[5].image, shots[5].image)
    assert_array_equal(fresh[6].image, shots[6].image)
    assert np.abs(fresh[7].image - shots[7].image).max() > 1e-3


def test_a_larger_canvas_is_clipped_where_every_update_is(content):
    edge = jnp.zeros((16, 16, 3)).at[:, 8:].set(1.0)
    free, clipped = (optimize.enlarged(edge, (40, 40), resizing.enlarge, c) for c in (False, True))
    assert free.max() > 1.01 and free.min() < -0.01
    assert_array_equal(clipped, jnp.clip(free, 0, 1))


STOPS = [("all", stop) for stop in (0, 3, 5, 6, 8)]  # the update after the 5th enlarges the canvas
# As `all`, with less of it, or with another rule.
STOPS += [
    pytest.param(name, 5, marks=pytest.mark.long)
    for name in ("levels", "only averaged", "only carried", "rmsprop over levels")
]


@pytest.mark.parametrize(("name", "stop"), STOPS)
def test_a_run_resumes_to_the_same_bits(params, large, art, tmp_path, name, stop):
    given = {"recipe": RECIPES[name]}
    whole = nst.paint(params, large, art, every=50, **given).finish()
    for shot in (shots := nst.paint(params, large, art, every=1, **given)):
        if shot.step == stop:
            break
    checkpoints.save(tmp_path / "run.h5", shots.checkpoint())
    kept = checkpoints.load(tmp_path / "run.h5")
    assert ("average" in kept.arrays) == (RECIPES[name].descent.average_decay is not None)
    last = nst.paint(params, large, art, every=2, resume=kept, **given).finish()
    assert_array_equal(last.image, whole.image)
    for mine, other in zip(
        jax.tree.leaves(last.history), jax.tree.leaves(whole.history), strict=True
    ):
        assert_array_equal(mine, other)


def test_a_run_makes_the_updates_of_its_schedule_and_resumes(params, large, art):
    schedule = GeometricScales(smallest=30, first=3, later=2)
    counted = small.quickest(steps=None).replace(schedule=schedule)
    given = counted.replace(steps=5)
    shots = nst.paint(params, large, art, recipe=counted, every=2)
    next(shots), next(shots)
    kept = shots.checkpoint()
    last = list(shots)[-1]
    assert (last.step, last.image.shape) == (5, (36, 48, 3))
    assert [(scale["size"], scale["steps"]) for scale in kept.scales] == [
        ([34, 26], 3), ([48, 36], 2)
    ]  # fmt: skip
    assert "descent.steps" not in kept.facts
    # The same number as a total gives the same run, and resumes its checkpoint.
    assert_array_equal(nst.stylize(params, large, art, recipe=given), last.image)
    again = nst.paint(params, large, art, recipe=given, resume=kept).finish()
    assert_array_equal(again.image, last.image)
    again = nst.paint(params, large, art, recipe=counted, resume=kept).finish()
    assert_array_equal(again.image, last.image)
    more = counted.replace(later=4)
    with pytest.raises(ValueError, match="descent.schedule.later was 2, is 4"):
        nst.paint(params, large, art, recipe=more, resume=kept)


def test_no_program_is_compiled_for_another_way_to_give_the_updates(
    params, large, art, compilations
):
    counted = small.quickest(steps=None).replace(
        schedule=GeometricScales(smallest=30, first=3, later=2)
    )
    nst.stylize(params, large, art, recipe=counted)
    before = compilations()
    for other in (counted.replace(steps=4), counted.replace(first=2, later=1)):
        nst.stylize(params, large, art, recipe=other)
    assert compilations() == before


@pytest.mark.parametrize("name", ["levels", pytest.param("all", marks=pytest.mark.long)])
def test_rows_of_a_batch_are_single_runs(params, large, art, name):
    pair = [large, large[::-1]]
    images = nst.stylize_many(params, pair, art, recipe=RECIPES[name])
    for image, content in zip(images, pair, strict=True):
        assert_allclose(image, nst.stylize(params, content, art, recipe=RECIPES[name]), atol=2e-4)
    if name == "all":  # a batch over devices carries, too
        split = nst.stylize_many(params, pair, art, recipe=RECIPES[name], devices="all")
        assert_allclose(split, images, atol=2e-4)


@pytest.mark.parametrize("name", ["levels", pytest.param("all", marks=pytest.mark.long)])
def test_devices_that_share_a_canvas_paint_the_same(params, name):
    content, art = small.picture("chelsea", 100, 60), small.picture("starry_night", 60, 60)
    recipe = RECIPES[name]
    recipe = replace(recipe, descent=replace(recipe.descent, schedule=GeometricScales(smallest=70)))
    whole = nst.stylize(params, content, art, recipe=recipe)
    shared = nst.paint(params, content, art, recipe=recipe, devices=2, every=3)
    parts = list(shared)
    assert_allclose(parts[-1].image, whole, atol=2e-4)
    # A run on several devices resumes from its checkpoint on one.
    again = nst.paint(params, content, art, recipe=recipe, resume=shared.checkpoint())
    assert_array_equal(again.finish().image, parts[-1].image)


def test_work_for_the_next_scale_may_begin_before_the_state_is_given_up(params, large, art):
    plan = nst.plan(large, art, recipe=ALL)
    given = {"init": None, "key": None, "every": 2}
    # Called when the result is wanted, after the loop has donated the buffers of the state.
    late = planned_painting.paint_planned(
        params, large, art, plan, begin=lambda work: work, **given
    )
    at_once = planned_painting.paint_planned(params, large, art, plan, **given)
    assert_array_equal(late.finish().image, at_once.finish().image)


@pytest.mark.long
def test_a_changed_number_compiles_nothing(params, content, style, compilations):
    nst.stylize(params, content, style, recipe=RECIPES["levels"])
    before = compilations()
    other = RECIPES["levels"].replace(average_decay=0.5, learning_rate=0.01, steps=7)
    nst.stylize(params, content, style, recipe=other)
    assert compilations() == before


def test_nothing_leaves_the_device_inside_the_loop(params, content, style):
    recipe = recipes.as_arrays(RECIPES["levels"].bare())
    targets = jax.eval_shape(nst.measure, params, content, style, recipe)
    state = jax.eval_shape(nst.init, content, recipe)
    jaxpr = jax.make_jaxpr(optimize.run)(params, state, targets, recipe, 5)
    found = {equation.primitive.name for equation in small.primitives(jaxpr.jaxpr)}
    assert not {name for name in found if "callback" in name or "feed" in name or name == "sort"}
    assert sum(np.size(constant) for constant in jaxpr.consts) < 1000


# --- Records --------------------------------------------------------------------------------------


def test_records_and_checkpoints_of_other_recipes_are_as_before(params, content, style):
    recipe = small.shallow(recipes.UDACITY, steps=2)
    shots = nst.paint(params, content, style, recipe=recipe)
    next(shots)
    kept = shots.checkpoint()
    names = {name.partition("/")[0] for name in kept.arrays}
    assert names == {"step", "canvas", "losses", "pending", "opt_state", "broke_at"}
    new = {"enlarge", "pyramid_levels", "average_decay", "carry"}
    assert not {name for name in kept.facts if name.rpartition(".")[2] in new}
    assert new == {
        name.rpartition(".")[2] for name in provenance.of_recipe(RECIPES["levels"])
    } - {name.rpartition(".")[2] for name in provenance.of_recipe(recipe)} - {
        "per_halving", "smallest", "first", "later"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"average_decay": 0.5}, "descent.average_decay was 0.9, is 0.5"),
        ({"average_decay": None}, "descent.average_decay was 0.9, is absent"),
        ({"optimizer": replace(ADAM, carry=False)}, "descent.optimizer.carry was true, is absent"),
        ({"enlarge": resizing.enlarge}, 'descent.enlarge was "torch_bicubic", is absent'),
        ({"pyramid_levels": 2}, "descent.pyramid_levels was absent, is 2"),
        ({"schedule": replace(SCALES, later=2)}, "descent.schedule.later was 4, is 2"),
    ],
)
def test_a_run_with_other_settings_does_not_resume(params, large, art, changes, said):
    shots = nst.paint(params, large, art, recipe=ALL)
    next(shots)
    with pytest.raises(ValueError, match=said):
        nst.paint(params, large, art, recipe=descent(**changes), resume=shots.checkpoint())


def test_memory_counts_averages_and_levels():
    def state(**changes):
        recipe = descent(**{"average_decay": None, **changes})
        return footprint.estimate_memory((512, 512), recipe=recipe, platform="cpu").state

    canvas = 512 * 512 * 3 * 4
    assert state(average_decay=0.99) - state() == 2 * canvas  # kept, and copied by an update
    # Two moments at all coarser levels are a third of those in pixels.
    assert 0.3 < (state(pyramid_levels=8) - state()) / (4 * canvas) < 0.34


# --- Bad input ------------------------------------------------------------------------------------

GUARDED = optimizers.LBFGS()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"optimizer": GUARDED, "clip": False},
            ValueError,
            "`average_decay`: LBFGS .* choose another optimizer, such as Adam, or set `descent.av",
        ),
        (
            {"optimizer": GUARDED, "clip": False, "average_decay": None, "pyramid_levels": 2},
            ValueError,
            "`pyramid_levels`: LBFGS undoes bad updates .*`optimizer.levels`",
        ),
        ({"average_decay": 1.0}, ValueError, "`average_decay`: expected less than 1, got 1"),
        ({"average_decay": -0.1}, ValueError, "`average_decay`: expected 0 or more, got -0.1"),
        ({"average_decay": "0.9"}, TypeError, "`average_decay`: expected a number, got '0.9'"),
        ({"pyramid_levels": -1}, ValueError, "`pyramid_levels`: expected 0 to 16, got -1"),
        ({"pyramid_levels": 99}, ValueError, "`pyramid_levels`: expected 0 to 16, got 99"),
        ({"pyramid_levels": 2.0}, TypeError, "`pyramid_levels`: expected a whole number, got 2.0"),
        ({"enlarge": "bilinear"}, TypeError, "`enlarge`: expected an enlargement of .*'bilinear'"),
        (
            {"optimizer": replace(ADAM, carry=1)},
            TypeError,
            "`carry`: expected True or False, got 1",
        ),
        (
            {"schedule": replace(SCALES, per_halving=0.1)},
            ValueError,
            "`per_halving`: expected 0.25 or more, got 0.1",
        ),
        (
            {"schedule": recipes.Halvings(), "steps": None},
            ValueError,
            "`steps`: None .* Halvings has none of its own; give a number .* GeometricScales, wh",
        ),
        ({"steps": None, "schedule": replace(SCALES, first=0)}, ValueError, "`first`: expected 1"),
        (
            {"steps": None, "schedule": replace(SCALES, first=np.array([1, 2]))},
            TypeError,
            "`first`: expected a whole number, got an array of int64",
        ),
        ({"schedule": replace(SCALES, first=0)}, ValueError, "`first`: expected 1 or more, got 0"),
        ({"schedule": replace(SCALES, later=1.5)}, TypeError, "`later`: expected a whole number"),
        ({"schedule": replace(SCALES, smallest=8)}, ValueError, "`smallest`: expected 16 or more"),
        (
            {"schedule": recipes.Halvings(passes=10**9)},
            ValueError,
            "`passes`: expected 1 to 100, got 1000000000",
        ),
        (
            {"schedule": recipes.Halvings},
            TypeError,
            r"`schedule`: expected .* got the class \w+; write `Halvings\(\)`",
        ),
        ({"schedule": None}, TypeError, "`schedule`: expected a schedule .* got None"),
        ({"optimizer": optimizers.Adam}, TypeError, r"`optimizer`: .* write `Adam\(\)`"),
        (
            {"optimizer": optimizers.RMSprop(alpha=1.0)},
            ValueError,
            "`alpha`: expected less than 1, got 1",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes, error, message, as_users_do):
    with pytest.raises(error, match=f"^{message}"):
        recipes.check(descent(**changes))


def test_means_are_not_carried_to_a_pyramid_of_more_levels(params, compilations):
    content, style = small.picture("chelsea", 60, 60), small.picture("starry_night", 60, 60)
    growing = descent(pyramid_levels=3, one_pyramid=True, clip=False)
    message = (
        "^`optimizer`: Adam with `carry=true` needs the same pyramid at all scales, got pyramids of "
        "2, 2, 3 halvings .`one_pyramid`.; set `descent.one_pyramid=false` or "
        "`descent.optimizer.carry=false`$"
    )
    before = compilations()
    for verb in (nst.stylize, lambda _, *pictures, **options: nst.plan(*pictures, **options)):
        with pytest.raises(ValueError, match=message):
            verb(params, content, style, recipe=growing)
    assert compilations() == before
    anew = growing.replace(optimizer=replace(ADAM, carry=False))
    assert len(run_scales.scales_of((60, 60), [(60, 60)], anew)) == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"pyramid_levels": 1},  # every scale has at least one halving, so all have the same number
        {"pyramid_levels": 0},
        {"pyramid_levels": 3, "schedule": recipes.OneScale()},
        {"pyramid_levels": 3, "one_pyramid": False},
    ],
)
def test_means_are_carried_where_all_scales_have_the_same_pyramid(changes):
    recipe = recipes.check(descent(**({"one_pyramid": True, "clip": False} | changes)))
    scales = run_scales.scales_of((60, 60), [(60, 60)], recipe)
    shapes = [scale.shape for scale in scales]
    states = [
        jax.eval_shape(lambda image, at=at: nst.init(image, at), jnp.zeros((*shape, 3)))
        for shape, at in ((shape, recipe.at(i, shapes)) for i, shape in enumerate(shapes))
    ]
    assert len({jax.tree.structure(state) for state in states}) == 1
    for index in range(1, len(states)):
        coarse, fine, at = states[index - 1], states[index], recipe.at(index, shapes)
        found = jax.eval_shape(
            lambda state, old, at=at: optimize.take_over(state, old, at), fine, coarse.opt_state
        )
        assert jax.tree.structure(found) == jax.tree.structure(fine)


# --- Files and keys -------------------------------------------------------------------------------


def test_keys_of_a_file_and_of_the_command_line():
    text = """base = "tf"
[descent]
pyramid_levels = 5
average_decay = 0.99
enlarge = "torch_bicubic"
schedule = {kind = "GeometricScales", first = 10, later = 5}
optimizer = {kind = "Adam", carry = true, b2 = 0.99}
"""
    found = recipes.toml.from_toml(text).descent
    assert found.optimizer == optimizers.Adam(carry=True, b2=0.99)
    assert found.schedule == GeometricScales(first=10, later=5)
    assert (found.pyramid_levels, found.average_decay) == (5, 0.99)
    assert found.enlarge is resizing.torch_bicubic
    values = {
        "descent.average_decay": "0.5",
        "descent.pyramid_levels": "3",
        "descent.optimizer": "RMSprop",
        "descent.optimizer.alpha": "0.9",
        "descent.enlarge": "bilinear",
        "network.padding": "replicate_first",
        "network.pool": "l2",
    }
    recipe = recipes.toml.with_values(recipes.TF, values)
    assert recipe.descent.average_decay == 0.5 and recipe.descent.enlarge is resizing.bilinear
    assert recipe.descent.optimizer == optimizers.RMSprop(alpha=0.9)
    off = recipes.toml.with_values(recipe, {"descent.average_decay": "none"})
    assert off.descent.average_decay is None


def test_a_file_may_leave_the_numbers_of_updates_to_the_schedule():
    text = recipes.toml.to_toml(recipes.CROWSONKB)
    assert '\nsteps = "none"\n' in text and recipes.toml.from_toml(text) == recipes.CROWSONKB
    assert provenance.of_recipe(recipes.CROWSONKB)["descent.steps"] is None
    values = {"descent.schedule": "GeometricScales", "descent.steps": "none"}
    found = recipes.toml.with_values(recipes.TF, values).descent
    assert (found.steps, found.schedule) == (None, GeometricScales())
    assert (
        recipes.toml.with_values(recipes.CROWSONKB, {"descent.steps": "200"}).descent.steps == 200
    )
    text = 'base = "crowsonkb"\n[descent]\nschedule = "Halvings"'
    assert recipes.toml.from_toml(text + "\nsteps = 9").descent.steps == 9
    with pytest.raises(ValueError, match="^`recipe`: `descent.steps`: None .* Halvings has no"):
        recipes.toml.from_toml(text)
