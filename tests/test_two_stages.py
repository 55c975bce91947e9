"""Fine and coarse styles in two stages: by `combined_style`, `--style-fine`, and two commands."""

import inspect
import json
import os
import pickle
import shlex
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from docs import controls_page
from nst_jax import (
    batch_fine_styles,
    batch_members,
    batches,
    descent,
    images,
    losses,
    optimizers,
    painting,
    planned_painting,
    recipes,
    run_scales,
    vgg,
)
from nst_jax.app import arguments, cache, fine_style, stylize
from nst_jax.app.batch import command as batch_command
from nst_jax.app.sweep import command as sweep_command
from nst_jax.images import resizing
from nst_jax.recipes import starts
from tests import small
from tests.shell import caller, refused

TAPS = ("relu1_1", "relu2_1")


def documented():
    """Return the recipe of the documented command."""
    _, _, _, *words = shlex.split(controls_page.OTHERS["mixed"])
    found: dict[str, list[str]] = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        found.setdefault(flag.removeprefix("--").replace("-", "_"), []).append(value)
    return arguments.recipe_of(
        arguments.Changes(
            recipe=found["recipe"][0],
            values=tuple(found["set"]),
            steps=int(found["steps"][0]),
            content_weight=float(found["content_weight"][0]),
            content_layer=tuple(found["content_layer"]),
            style_layer=tuple(found["style_layer"]),
            colors=found["colors"][0],
        )
    )


def test_the_first_stage_has_the_constants_of_the_notebook():
    recipe = documented()
    assert recipe.terms.style_taps == TAPS
    assert recipe.terms.style_layer_weights == (1e3 / 2, 1e3 / 2) and recipe.terms.style_weight == 1
    assert recipe.terms.style_loss is losses.GRAM_MEAN_SQUARE
    assert recipe.terms.content_weight == 0 and recipe.terms.tv_weight == 0
    assert (recipe.pictures.colors, recipe.pictures.color_map) == ("content", "pca")
    assert isinstance(recipe.pictures.start, starts.FromContent)


def test_the_named_recipe_is_that_of_the_documented_command():
    own, command = recipes.GATYS_FINE_STYLE, documented()
    assert own.terms == command.terms and own.descent == command.descent
    assert own.network == command.network
    size = command.pictures.size
    assert replace(own.pictures, size=size) == replace(command.pictures, style_size=None)
    assert own.pictures.size == recipes.sizes.Area(512)


def test_combining_is_a_run_of_that_recipe(params):
    coarse, fine = small.picture("starry_night", 24, 32), small.picture("gravel", 32, 24)
    recipe = SHORT
    found = nst.combined_style(params, coarse, fine, recipe=recipe, size="32x24", steps=2)
    assert found.shape == (24, 32, 3)
    default = inspect.signature(nst.combined_style).parameters["recipe"].default
    assert default is recipes.GATYS_FINE_STYLE
    same = nst.stylize(params, coarse, fine, recipe=recipe, size="32x24", steps=2)
    assert_array_equal(found, same)
    with pytest.raises(ValueError, match="`fine`: expected"):
        nst.combined_style(params, coarse, np.zeros((24, 24, 2)))


def test_a_picture_has_no_structure_to_give_to_itself(params, content, style, call):
    with pytest.raises(
        ValueError, match="^`fine`: is the same picture as `coarse`, so there is no"
    ):
        nst.combined_style(params, style, style)
    for fine, name in ((style, "style_fine"), ([None, style], r"style_fine\[1\]")):
        with pytest.raises(
            ValueError, match=f"^`{name}`: is the same picture as its style, .* None"
        ):
            nst.stylize_many(params, content, style, recipe=small.quickest(), style_fine=fine)
    found = call("stylize", "photo.png", "art.png", *RUN, "--style-fine", "art.png", "-o", "a.png")
    assert found[0] == 2 and not os.path.exists("a.png")
    assert "`--style-fine`: art.png is the same picture as the style art.png, which so" in found[2]
    run = ("batch", "photo.png", "--styles", "art.png", "--style-fine", "art.png", "-q")
    code, _, told = call(*run, "--recipe", "tiny", "--no-cache", "-o", "out")
    assert code == 1 and told.count("`--style-fine`: art.png is the same picture as the style") == 1


# --- Many pictures --------------------------------------------------------------------------------


def test_many_pictures_are_painted_in_the_styles_that_are_combined_by_hand(
    params, content, style, monkeypatch
):
    recipe = small.quickest()
    combine = partial(nst.combined_style, recipe=recipe, steps=3)
    monkeypatch.setattr(batch_fine_styles, "combined_style", combine)
    fine = [small.picture("gravel", 24, 32), None, small.picture("chelsea", 24, 32)]
    by_hand = [style if one is None else combine(params, style, one, size="20x28") for one in fine]
    wanted = nst.stylize_many(params, content, by_hand, recipe=recipe)
    found = nst.stylize_many(params, content, style, recipe=recipe, style_fine=fine)
    assert_array_equal(found, wanted)
    assert min(np.abs(found[0] - other).max() for other in found[1:]) > 1e-3


def test_equal_styles_and_fine_pictures_are_as_many_results(params, content, style, monkeypatch):
    recipe, made = small.quickest(steps=1), []

    def combined(params, coarse, fine, **options):
        made.append(options["size"])
        return np.full((28, 20, 3), 0.5, np.float32)

    monkeypatch.setattr(batch_fine_styles, "combined_style", combined)
    fine = small.picture("gravel", 24, 32)
    many = partial(nst.stylize_many, params, recipe=recipe)
    for styles, fines in [([style], [fine] * 2), ([style] * 2, fine), ([style] * 2, [fine] * 2)]:
        found = many([content], styles, style_fine=fines)
        assert len(found) == 2
        assert_array_equal(found[0], found[1])
    assert made == ["20x28"] * 3  # once for each call


def test_a_style_is_combined_once_for_each_fine_picture_and_size(
    params, content, style, monkeypatch
):
    made = []

    def combined(params, coarse, fine, **options):
        assert_array_equal(coarse, style)
        made.append((round(float(fine.mean()), 3), *options.values()))
        width, height = map(int, options["size"].split("x"))
        return np.full((height, width, 3), 0.1 * len(made), np.float32)

    monkeypatch.setattr(batch_fine_styles, "combined_style", combined)
    recipe, tap = small.shallowest(), small.picture("chelsea", 20, 20)
    fine = [np.full((24, 32, 3), grey, np.float32) for grey in (0.25, 0.5, 0.25)] + [None]
    fine, styles = batch_fine_styles.checked_fine_styles(
        fine, [np.asarray(content)], [[np.asarray(style)]], None
    )
    styles = [[*one, tap] for one in styles]
    recipe, _ = recipes.changes.with_tap_styles(recipe, {"relu1_1": tap})
    scales = [(1.0, 1.0), (1.0, 1.0), (1.5, 1.0), (1.0, 1.0)]
    members = batch_members.members_of(content, styles, recipe, style_scale=scales)
    combine = batch_fine_styles.with_fine_structures
    found, sizes = combine(params, styles, fine, members, "bfloat16", 32)
    wanted = [(0.25, "20x28"), (0.5, "20x28"), (0.25, "30x42")]
    assert made == [(*one, "bfloat16", 32) for one in wanted]
    assert sizes == [[(28, 20), (20, 20)]] * 4
    again = batch_members.members_of(
        content, found, recipe, style_scale=scales, style_originals=sizes
    )
    for one, other, grey in zip(members, again, (0.1, 0.2, 0.3, None), strict=True):
        assert one.prepared.scales == other.prepared.scales
        wanted = style if grey is None else np.full_like(one.prepared.styles[0], grey)
        assert_array_equal(other.prepared.styles[0], wanted)
        assert_array_equal(other.prepared.styles[1], tap)
    # All pictures have the same combined style, so there is one entry for all.
    found, sizes = combine(params, styles[:1], fine[:1], members[:2], None, None)
    assert len(found) == len(sizes) == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((24, 24, 2)), "`style_fine`: expected"),
        (np.full((6, 7, 3), 0.5), "`style_fine`: 7x6 px is too small"),
        ([None, np.full((6, 7, 3), 0.5)], r"`style_fine\[1\]`: 7x6 px is too small"),
        ([None, None], "`style_fine`: has no picture; leave it out"),
        (np.full((3, 24, 24, 3), 0.5), "`style_fine`: expected one picture, .* 2 contents, got 3"),
    ],
)
def test_bad_fine_pictures_of_many_are_refused(params, content, style, given, message):
    with pytest.raises(ValueError, match=message):
        nst.stylize_many(params, [content, content], style, style_fine=given)


def test_what_cannot_be_combined_is_refused_before_any_work(params, content, style, monkeypatch):
    monkeypatch.setattr(batch_fine_styles, "combined_style", None)
    recipe, gravel = small.shallowest(), small.picture("gravel", 24, 32)
    with pytest.raises(ValueError, match="`style_fine`: gives its structure to one style, and 2 a"):
        nst.stylize_many(params, content, [[style, content]], style_fine=gravel)
    plan = nst.plan(content, style, recipe=recipe, pictures=2)
    with pytest.raises(ValueError, match="`style_fine`: cannot be used with `plan`; combine"):
        nst.stylize_many(params, content, style, plan=plan, style_fine=gravel)
    options = {"recipe": recipe, "opacity": np.ones((5, 40))}
    with pytest.raises(ValueError, match="`opacity`"):
        nst.stylize_many(params, content, style, style_fine=gravel, **options)


# --- Command line ---------------------------------------------------------------------------------


SHORT = recipes.GATYS_FINE_STYLE.replace(steps=3, optimizer=small.ADAM)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, sample, shape in (
        ("photo", "chelsea", (32, 48)),
        ("art", "starry_night", (60, 40)),
        ("fine", "gravel", (50, 50)),
    ):
        images.save(f"{name}.png", small.picture(sample, *shape))
    tiny = small.shallow(steps=2).replace(size=recipes.sizes.LongEdge(48), optimizer=small.ADAM)
    monkeypatch.setitem(recipes.PRESETS, "tiny", replace(tiny, name="tiny"))
    monkeypatch.setattr(fine_style, "GATYS_FINE_STYLE", SHORT)
    return caller(capsys)


RUN = ("--recipe", "tiny", "--no-cache", "--overwrite")


def test_one_command_does_what_two_do(call, params):
    code, _, told = call(
        "stylize", "photo.png", "art.png", "--style-fine", "fine.png", *RUN, "-o", "one.png"
    )
    assert code == 0, told
    assert "art.png gets the structure of fine.png at 32x48 px" in told
    art, fine = images.load("art.png"), images.load("fine.png")
    combined = nst.combined_style(params, art, fine, size="32x48", recipe=SHORT)
    images.save("combined.png", combined)
    assert call("stylize", "photo.png", "combined.png", *RUN, "-o", "two.png")[0] == 0
    assert_array_equal(images.load("one.png"), images.load("two.png"))
    plain = call("stylize", "photo.png", "art.png", *RUN, "-o", "plain.png")
    assert plain[0] == 0
    assert np.abs(images.load("one.png") - images.load("plain.png")).max() > 0.01
    facts = images.read_metadata("one.png")
    assert facts["inputs"]["style"]["name"] == "art.png"
    assert facts["inputs"]["fine_style"]["name"] == "fine.png"
    assert facts["fine_style"]["size"] == [32, 48] and facts["fine_style"]["steps"] == 3
    assert facts["fine_style"]["recipe"] == "gatys-fine-style"


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "shape", "factor", "sized"),
    [
        # The factor would be applied to the result of the factor.
        (recipes.sizes.LongEdgeUpTo(512), (60, 40), 1.5, (90, 60)),
        # The rule and the factor make 60 x 40 px of 60 x 41 px.
        (recipes.sizes.LongEdge(48, recipes.sizes.truncated_scale), (63, 44), 1.25, (60, 41)),
    ],
)
def test_the_size_rule_of_the_style_is_applied_once(
    call, params, monkeypatch, rule, shape, factor, sized
):
    images.save("art.png", small.picture("starry_night", *shape))
    ruled = recipes.PRESETS["tiny"].replace(style_size=rule)
    monkeypatch.setitem(recipes.PRESETS, "tiny", ruled)
    (height, width), (h, w) = shape, sized
    code, _, told = call(
        *("stylize", "photo.png", "art.png", "--style-fine", "fine.png", *RUN),
        *("--style-scale", factor, "-o", "one.png"),
    )
    assert code == 0, told
    assert f"art.png gets the structure of fine.png at {w}x{h} px" in told
    assert f"art.png, {width}x{height} px -> {w}x{h} px" in told
    enlarged = f"`--style-scale` {factor:g} enlarges a style of {width}x{height} px to {w}x{h} px"
    assert (enlarged in told) == (max(sized) > max(shape))
    facts = images.read_metadata("one.png")
    assert facts["fine_style"]["size"] == [w, h] == facts["scales"][-1]["style_sizes"][0]
    art, fine = images.load("art.png"), images.load("fine.png")
    combined = nst.combined_style(params, art, fine, size=f"{w}x{h}", recipe=SHORT)
    images.save("combined.png", combined)
    plain = ("stylize", "photo.png", "combined.png", *RUN, "--style-size", "as-is", "-o", "two.png")
    assert call(*plain)[0] == 0
    assert_array_equal(images.load("one.png"), images.load("two.png"))


def test_the_first_stage_computes_as_the_second(call, tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "programs_folder", lambda: tmp_path / "kept")
    monkeypatch.setattr(fine_style, "UPDATES", 1)
    plans, paint = [], planned_painting.paint_planned

    def planned(params, content, style, plan, **options):
        plans.append(plan)
        return paint(params, content, style, plan, **options)

    monkeypatch.setattr(planned_painting, "paint_planned", planned)
    options = ("--precision", "bfloat16", "--tile", "32", "--style-fine", "fine.png")
    code, _, told = call("stylize", "photo.png", "art.png", *RUN, *options, "-o", "a.png")
    assert code == 0, told
    first, second = (plan.recipe.network for plan in plans)
    assert first.precision == second.precision == vgg.precision.BFLOAT16
    assert first.tile == second.tile == 32
    # Each stage has a program of its own for its updates, and both are stored.
    assert len(list((tmp_path / "kept").glob("run-*"))) == 2


def test_a_sweep_combines_its_style_once_for_all_canvases(call, monkeypatch):
    # If it were applied to the combined style as well, the factor would enlarge it once more.
    fine = ("--style-fine", "fine.png", "--style-size", "as-is", "--style-scale", 1.5)
    found, paint = [], sweep_command.paint_sweep

    def noted(*arguments):
        for cell in paint(*arguments):
            found.append(cell.image)
            yield cell

    monkeypatch.setattr(sweep_command, "paint_sweep", noted)
    run = ("sweep", "photo.png", "art.png", *RUN, "--size", "48", *fine)
    code, _, told = call(*run, "--style-weight", "1,100", "-o", "grid.png")
    assert code == 0, told
    assert told.count("art.png gets the structure of fine.png at 60x90 px") == 1
    facts = images.read_metadata("grid.png")
    assert facts["fine_style"]["size"] == [60, 90] == facts["scales"][-1]["style_sizes"][0]
    assert facts["inputs"]["fine_style"]["name"] == "fine.png"
    for weight, image in zip(("1", "100"), found, strict=True):
        flags = ("--size", "48", *fine, "--style-weight", weight, "-o", "one.png")
        assert call("stylize", "photo.png", "art.png", *RUN, *flags)[0] == 0
        assert_allclose(image, images.load("one.png"), rtol=0, atol=1.5 / 255)
    refused(
        call(*run[:3], "fine.png", *run[3:], "--ratio", "1"), "gives its structure to one style"
    )


def test_a_batch_combines_each_style_once(call):
    images.save("turned.png", small.picture("chelsea", 32, 48)[:, ::-1])
    images.save("tall.png", small.picture("chelsea", 48, 32))
    fine = ("--style-fine", "fine.png", "--style-size", "as-is", "--style-scale", 1.5)
    run = ("batch", "photo.png", "turned.png", "tall.png", "--styles", "art.png", *fine)
    code, _, told = call(*run, "--recipe", "tiny", "--no-cache", "-o", "out")
    assert code == 0, told
    assert told.count("art.png gets the structure of fine.png") == 1
    for name in ("photo", "turned", "tall"):
        words = ("stylize", f"{name}.png", "art.png", *RUN, *fine, "-o", "one.png")
        assert call(*words)[0] == 0
        found = images.load(f"out/{name}_art.png")
        assert_allclose(found, images.load("one.png"), rtol=0, atol=1.5 / 255)
        facts = images.read_metadata(f"out/{name}_art.png")
        assert facts["fine_style"]["size"] == [60, 90]
        assert facts["inputs"]["fine_style"]["name"] == "fine.png"
    again = ("--recipe", "tiny", "--no-cache", "-o", "out")
    code, _, told = call(*run, *again)
    assert code == 0 and "all 3 pictures are finished" in told
    images.save("fine.png", small.picture("chelsea", 50, 50))
    code, _, told = call(*run, *again)  # another fine picture is another run
    assert code == 0 and told.count("gets the structure") == 1
    with pytest.raises(ValueError, match="^`style_fine`: cannot be used with `--runner ray`"):
        fine_style.check_fine_style(
            {"style_fine": "fine.png", "runner": "ray"}, [(Path("art.png"), None)]
        )


def test_a_batch_whose_first_stage_fails_names_the_reason(call, monkeypatch):
    wild = optimizers.Adam(learning_rate=1e30)
    monkeypatch.setattr(
        fine_style, "GATYS_FINE_STYLE", fine_style.GATYS_FINE_STYLE.replace(optimizer=wild)
    )
    run = ("batch", "photo.png", "--styles", "art.png", "--style-fine", "fine.png", "-q")
    code, _, told = call(*run, "--recipe", "tiny", "--no-cache", "-o", "out")
    assert (
        code == 1
        and told.count("`--style-fine`: the losses, or their gradient, are not finite after") == 1
    )


def test_a_first_stage_that_changes_nothing_is_refused(call, params, monkeypatch):
    still = fine_style.GATYS_FINE_STYLE.replace(optimizer=optimizers.Adam(learning_rate=1e-30))
    monkeypatch.setattr(fine_style, "GATYS_FINE_STYLE", still)
    art, fine = images.load("art.png"), images.load("fine.png")
    with pytest.raises(nst.Stalled):
        nst.combined_style(params, art, fine, recipe=still, size="32x48")
    found = call("stylize", "photo.png", "art.png", *RUN, "--style-fine", "fine.png", "-o", "a.png")
    assert found[0] == 1 and not os.path.exists("a.png")
    why = "the losses after 3 updates of the style are those of the start"
    assert f"`--style-fine`: {why}, so it got no other structure" in found[2]


def test_a_first_stage_that_diverges_ends_as_any_run_that_does(call, monkeypatch):
    wild = optimizers.Adam(learning_rate=1e30)
    broken = fine_style.GATYS_FINE_STYLE.replace(optimizer=wild)
    monkeypatch.setattr(fine_style, "GATYS_FINE_STYLE", broken)
    found = call("stylize", "photo.png", "art.png", *RUN, "--style-fine", "fine.png", "-o", "a.png")
    assert found[0] == 1 and not os.path.exists("a.png")
    assert "error: `--style-fine`: the losses, or their gradient, are not finite after" in found[2]


# --- A coarse picture that is flat over large areas ------------------------------------------------


def strokes_on_white(height, width):
    """Return a picture [height, width, 3] that is white but for six short dark strokes."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    found = np.ones((height, width, 3), np.float32)
    for _ in range(6):
        cx, cy, angle = rng.uniform(0, (width, height, np.pi))
        along = (x - cx) * np.cos(angle) + (y - cy) * np.sin(angle)
        across = (x - cx) * np.sin(angle) - (y - cy) * np.cos(angle)
        found[(np.abs(across) < 1.5) & (np.abs(along) < 15)] = rng.uniform(0, 0.6, 3)
    return found


def unguarded(recipe, steps):
    """Return the recipe with torch's L-BFGS, which comes to rest on these pictures."""
    pixels = recipes.GATYS_PYTORCH.descent
    return recipe.replace(optimizer=pixels.optimizer, coordinates=pixels.coordinates, steps=steps)


def test_strokes_on_white_get_the_structure_of_pebbles(params):
    coarse, fine = strokes_on_white(48, 72), small.picture("gravel", 48, 72)
    recipe = recipes.GATYS_FINE_STYLE
    last = nst.paint(params, coarse, fine, recipe=recipe, size="72x48", steps=30).finish()
    totals = np.asarray(last.history.total)
    assert totals[-1] < 0.01 * totals[0]
    assert descent.rest_of(totals, [run_scales.Scale((48, 72), ((48, 72),), 30)]) is None
    image = np.asarray(last.image)
    bare = (coarse == 1).all(-1)
    assert image[bare].std() > 0.03  # the white parts are no longer flat


def test_python_warns_of_runs_that_come_to_rest(params):
    coarse, fine = strokes_on_white(48, 72), small.picture("gravel", 48, 72)
    stuck = unguarded(recipes.GATYS_FINE_STYLE, 30)
    with pytest.warns(painting.CameToRest, match="not changed since update .* of 30") as caught:
        nst.combined_style(params, coarse, fine, recipe=stuck, size="72x48")
    warning = caught[0].message
    assert "`descent.optimizer=LBFGS`" in str(warning)
    assert str(pickle.loads(pickle.dumps(warning))) == str(warning)
    with pytest.warns(batches.PicturesAtRest, match="hardly painted: 0: the loss") as caught:
        nst.stylize_many(params, coarse, fine, recipe=stuck, size="72x48")
    (rest,) = caught[0].message.pictures.values()
    assert rest.after < 10 and 0.95 < rest.share < 1
    assert str(pickle.loads(pickle.dumps(caught[0].message))) == str(caught[0].message)


def test_a_first_stage_that_comes_to_rest_is_told(call, monkeypatch):
    stuck = unguarded(fine_style.GATYS_FINE_STYLE, 30)
    monkeypatch.setattr(fine_style, "GATYS_FINE_STYLE", stuck)
    images.save("white.png", strokes_on_white(48, 72))
    images.save("wide.png", small.picture("chelsea", 48, 72))
    images.save("pebbles.png", small.picture("gravel", 48, 72))
    fine = ("--style-fine", "pebbles.png", "--style-size", "as-is")
    code, _, told = call("stylize", "wide.png", "white.png", *RUN, *fine, "-o", "a.png", "-q")
    assert code == 0, told
    assert "warning: `--style-fine`: the loss has not changed since update" in told
    assert "white.png hardly got the structure of pebbles.png; choose another picture" in told


def test_a_run_that_comes_to_rest_is_told(call, monkeypatch):
    stuck = unguarded(recipes.GATYS_FINE_STYLE, 30)
    monkeypatch.setitem(recipes.PRESETS, "stuck", stuck)
    images.save("white.png", strokes_on_white(48, 72))
    images.save("pebbles.png", small.picture("gravel", 48, 72))
    run = ("stylize", "white.png", "pebbles.png", "--recipe", "stuck", "--size", "72x48")
    code, printed, told = call(*run, "--no-cache", "-o", "a.png", "-q")
    assert code == 0 and os.path.exists("a.png"), (printed, told)
    assert "warning: the loss has not changed since update" in told and "of 30" in told
    assert "a.png is hardly painted: try" in told
    remedy = ("--set", "descent.optimizer=LBFGS", "--set", "descent.coordinates=raw")
    assert " ".join(remedy[:2]) in told and " ".join(remedy[2:]) in told
    code, _, told = call(*run, *remedy, "--no-cache", "-o", "b.png", "-q")
    assert code == 0 and "warning" not in told
    batch = ("batch", "white.png", "--styles", "pebbles.png", *run[3:], "--no-cache", "-q")
    code, _, told = call(*batch, "-o", "out")
    assert code == 0 and "out/white_pebbles.png: the loss has not changed since update" in told


@pytest.mark.slow
def test_a_combined_style_is_part_of_a_runs_identity(call):
    run = ("stylize", "photo.png", "art.png", *RUN, "-o", "a.png", "--checkpoint", "a.h5")
    fine = ("--style-fine", "fine.png")
    assert call(*run, *fine)[0] == 0
    assert call(*run, *fine, "--resume", "--steps", "4")[0] == 0
    assert images.read_metadata("a.png")["steps_done"] == 4
    code, _, told = call(*run, "--resume", "--steps", "6")
    assert code == 2 and "checkpoint is of another run: style was" in told


def test_a_recipe_file_names_the_fine_picture(call):
    with open("look.toml", "w") as file:
        file.write('base = "tiny"\n[controls]\nstyle_fine = "fine.png"\n')
    look = ("--recipe", "look.toml", "--overwrite", "--no-cache", "-q")
    assert call("stylize", "photo.png", "art.png", *look, "-o", "a.png")[0] == 0
    assert "fine_style" in images.read_metadata("a.png")
    plan = call("plan", "photo.png", "art.png", "--recipe", "look.toml")
    refused(plan, "`--recipe`: 'look.toml'", "is for the commands stylize, batch and sweep")


def test_a_recipe_file_s_fine_picture_is_that_of_the_rows_with_this_recipe(call):
    write("look.toml", 'base = "tiny"\n[controls]\nstyle_fine = "fine.png"\n')
    images.save("other.png", small.picture("chelsea", 50, 50))
    write(
        "jobs.csv",
        "content,style,recipe,style_fine\n"
        "photo.png,art.png,look.toml,\nphoto.png,art.png,tiny,\nphoto.png,art.png,look.toml,other.png",
    )
    for recipe, second in (("tiny", None), ("look.toml", None), ("tiny", "fine.png")):
        flags = () if second is None else ("--style-fine", second)
        words = ("batch", "jobs.csv", "--recipe", recipe, *flags, "--no-cache", "-o", "out", "-q")
        code, _, told = call(*words, "--overwrite")
        assert code == 0, told
        names = (f"out/photo_art{ending}.png" for ending in ("", "-2", "-3"))
        inputs = [images.read_metadata(name)["inputs"] for name in names]
        found = [one.get("fine_style", {}).get("name") for one in inputs]
        assert found == ["fine.png", second, "other.png"]


# --- Rows of a manifest ---------------------------------------------------------------------------


def write(name, text):
    """Write a text file in this folder."""
    Path(name).write_text(text)


def test_rows_of_a_manifest_have_fine_pictures_of_their_own(call):
    images.save("turned.png", small.picture("chelsea", 32, 48)[:, ::-1])
    images.save("other.png", small.picture("chelsea", 50, 50))
    rows = {
        "a": ("photo.png", "fine.png"),
        "b": ("turned.png", "fine.png"),
        "c": ("photo.png", "other.png"),
        "d": ("photo.png", ""),
    }
    lines = [f"{content},art.png,{name}.png,{fine}" for name, (content, fine) in rows.items()]
    write("jobs.csv", "\n".join(["content,style,output,style_fine", *lines]))
    run = ("batch", "jobs.csv", "--recipe", "tiny", "--no-cache", "-o", "out")
    code, _, told = call(*run)
    assert code == 0, told
    for name in ("fine", "other"):
        assert told.count(f"art.png gets the structure of {name}.png") == 1
    for name in ("c", "d"):
        content, fine = rows[name]
        flags = ("--style-fine", fine) if fine else ()
        assert call("stylize", content, "art.png", *RUN, *flags, "-o", "one.png")[0] == 0
        found = images.load(f"out/{name}.png")
        assert_allclose(found, images.load("one.png"), rtol=0, atol=1.5 / 255)
        facts, alone = (images.read_metadata(one) for one in (f"out/{name}.png", "one.png"))
        for key in ("inputs", "fine_style"):
            assert facts.get(key) == alone.get(key)
    images.save("other.png", small.picture("chelsea", 48, 50))  # another run of the third row only
    code, _, told = call(*run)
    assert code == 0 and told.count("gets the structure") == 1
    assert statuses() == {"a": "skipped", "b": "skipped", "c": "done", "d": "skipped"}


def statuses():
    """Return the status of each picture of the result manifest, by the picture's name."""
    records = map(json.loads, Path("out/results.jsonl").read_text().splitlines())
    return {Path(one["output"]).stem: one["status"] for one in records}


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"style": "art.png;photo.png"}, "`style_fine`: gives its structure to one style, and 2"),
        ({"regions": "a.png;b.png"}, "`style_fine`: cannot be used with `--regions`"),
        ({"style_fine": ["fine.png"]}, "`style_fine`: expected text, got ['fine.png']"),
    ],
)
def test_a_row_that_contradicts_its_fine_picture_is_refused(call, cells, message):
    row = {"content": "photo.png", "style": "art.png", "style_fine": "fine.png"} | cells
    write("jobs.jsonl", json.dumps(row))
    found = call("batch", "jobs.jsonl", "--recipe", "tiny", "-o", "out")
    refused(found, "row 1 of 'jobs.jsonl': ", message)
    assert not os.path.exists("out")


def test_a_row_whose_fine_picture_cannot_be_used_fails_alone(call):
    images.save("small.png", small.picture("gravel", 6, 7))
    images.save("thin.png", small.picture("gravel", 300, 17))
    rows = {"a": "none.png", "b": "small.png", "c": "thin.png", "d": "fine.png"}
    lines = [f"photo.png,art.png,{name}.png,{fine}" for name, fine in rows.items()]
    write("jobs.csv", "\n".join(["content,style,output,style_fine", *lines]))
    code, _, told = call("batch", "jobs.csv", "--recipe", "tiny", "--no-cache", "-o", "out", "-q")
    assert code == 1 and statuses() == {"a": "failed", "b": "failed", "c": "failed", "d": "done"}
    for said in (
        "`style_fine`: there is no file 'none.png'",
        "`style_fine`: 7x6 px is too small; the network needs at least 16 px on each side",
        "`style_fine`: 17x300 px becomes",
    ):
        assert told.count(said) == 1
    overwriting = "content,style,output,style_fine\nphoto.png,art.png,../fine.png,fine.png"
    write("jobs.csv", overwriting)
    found = call("batch", "jobs.csv", "--recipe", "tiny", "--outputs-anywhere", "-o", "out")
    refused(found, "fine.png' is an input")


@pytest.mark.parametrize("command", ["stylize", "batch", "sweep"])
def test_a_fine_picture_that_is_too_small_is_refused_before_weights_are_read(
    call, command, monkeypatch
):
    for module, name in (
        (stylize, "load_params"),
        (batch_command, "loaded_weights"),
        (sweep_command, "loaded_weights"),
    ):
        monkeypatch.setattr(module, name, lambda given: pytest.fail("weights are read"))
    images.save("tiny.png", small.picture("gravel", 6, 7))
    styles = ("--styles", "art.png") if command == "batch" else ("art.png",)
    words = (command, "photo.png", *styles, "--recipe", "tiny", "--style-fine", "tiny.png")
    words += ("--ratio", "1,2") if command == "sweep" else ()
    said = "`--style-fine`: 7x6 px is too small; the network needs at least 16 px on each side"
    refused(call(*words, "--no-cache", "-o", "out.png"), f"{said} ('tiny.png')")


def test_a_fine_picture_that_becomes_too_small_is_named(params):
    thin = images.Picture(small.picture("gravel", 300, 17), None, (), "thin.png", "")
    fine = fine_style.FineStyles()
    art = images.Picture(small.picture("starry_night", 32, 32), None, (), "art.png", "")
    with pytest.raises(ValueError, match=r"^`style_fine`: 17x300 px becomes .*'thin.png'\)$"):
        fine.combined(params, thin, art, (32, 32), lambda line: None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("other.png", "--style-fine", "fine.png"), "`--style-fine`: gives its structure to one"),
        (("--style-fine", "none.png"), "`--style-fine`: there is no file 'none.png'"),
        (("--style-fine", "fine.png", "--cluster", "a:1,2,0"), "cannot be used with `--cluster`"),
        (
            ("--style-fine", "fine.png", "--regions", "fine.png", "art.png"),
            "cannot be used with `--regions`",
        ),
        (("--style-fine", "fine.png", "-o", "fine.png"), "fine.png"),
        (("--fine", "fine.png"), "did you mean --style-fine?"),
    ],
)
def test_bad_input_is_one_line(call, words, message):
    refused(call("stylize", "photo.png", "art.png", *words), message)


@pytest.mark.slow
def test_the_mixture_has_the_fine_structure_of_one_and_the_shapes_of_the_other(params):
    coarse, fine = small.picture("starry_night", 48, 64), small.picture("gravel", 48, 64)
    recipe = documented().replace(steps=60, size=recipes.sizes.AsIs())
    mixed = np.asarray(nst.stylize(params, coarse, fine, recipe=recipe))
    seen = np.clip(nst.controls.with_colors_of(fine, coarse, "pca"), 0, 1)

    def grams(picture):
        """Return the Gram matrices of a picture, divided by the number of positions."""
        found = jax.jit(vgg.features, static_argnums=2)(params, picture, TAPS)
        each = [
            np.asarray(found[tap], np.float64).reshape(-1, found[tap].shape[-1]) for tap in TAPS
        ]
        return [one.T @ one / len(one) for one in each]

    for ours, before, wanted in zip(grams(mixed), grams(coarse), grams(seen), strict=True):
        assert np.mean((ours - wanted) ** 2) < 0.1 * np.mean((before - wanted) ** 2)
    # Reduced to 8 x 6 px, nothing but the coarse shapes is left.
    small_mixed, small_coarse, small_fine = (
        np.asarray(resizing.antialiased(one, (6, 8))).mean(-1).ravel()
        for one in (mixed, coarse, seen)
    )
    assert np.corrcoef(small_mixed, small_coarse)[0, 1] > 0.9
    assert abs(np.corrcoef(small_mixed, small_fine)[0, 1]) < 0.5
