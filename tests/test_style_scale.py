"""`style_scale`: factors of the styles' sizes, in Python, recipes, records and at the command line."""

import itertools
import json
import math
import re

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from nst_jax import batch_members, batch_plans, provenance, recipes, run_errors, run_scales
from nst_jax.feed_forward import training_job
from nst_jax.recipes import changes, sizes, toml
from nst_jax.scaling.plan import plan_scales
from tests import small
from tests.shell import caller, refused, write_pictures

FAST = small.quickest(steps=2)


def scaled(recipe, *factors):
    return changes.with_options(recipe, style_scale=list(factors))


# --- Sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "factor", "expected"),
    [
        (sizes.LongEdge(100), 1.5, (75, 150)),
        (sizes.ShortEdge(100), 0.5, (50, 100)),
        (sizes.Exact(40, 30), 2, (80, 60)),
        (sizes.AsIs(), 0.1, (30, 60)),
        (sizes.LikeContent(), 1.5, (90, 120)),
        (sizes.LongEdge(100), 1, (50, 100)),
    ],
)
def test_sizes_by_hand(rule, factor, expected):
    recipe = recipes.TF.replace(pictures__size=sizes.LongEdge(80), pictures__style_size=rule)
    canvas, style = run_scales.final_shapes((300, 400), (300, 600), scaled(recipe, factor))
    assert canvas == (60, 80)
    assert style == expected


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.25, 1.5, 2])
def test_the_longer_side_is_that_of_neural_style(factor):
    """jcjohnson/neural-style: `math.ceil(style_scale * image_size)`, here of whole products."""
    recipe = scaled(changes.with_sizes(recipes.DEFAULT, 512), factor)
    _, style = run_scales.final_shapes((300, 400), (333, 500), recipe)
    assert max(style) == math.ceil(factor * 512)
    assert style == sizes.LongEdge(round(factor * 512)).shape(333, 500)


def test_each_style_may_have_its_own_factor_at_every_scale():
    recipe = scaled(changes.with_sizes(recipes.DEFAULT, 512), 1, 0.5)
    scales = run_scales.scales_of((400, 400), [(400, 400), (400, 400)], recipe)
    assert len(scales) > 1
    for scale in scales:
        first, second = scale.style_shapes
        assert first == scale.shape and second == (scale.shape[0] // 2, scale.shape[1] // 2)


def test_a_size_that_becomes_too_small_is_refused_with_the_factor():
    recipe = scaled(changes.with_sizes(recipes.DEFAULT, 100), 0.1)
    with pytest.raises(
        ValueError, match=r"^`style_scale`: 0.1 makes 10x10 px .*longer side 100 px"
    ):
        run_scales.scales_of((200, 200), [(200, 200)], recipe)


@pytest.mark.parametrize(
    "rule",
    [
        *(pytest.param(sizes.LongEdge(side), marks=pytest.mark.long) for side in (64, 100)),
        sizes.ShortEdge(40),
    ],
)
def test_the_factor_that_a_message_advises_is_accepted(rule):
    """Such as for a style of 137x106 px at 64 px: by the quotient of the sides it would be 0.32."""
    recipe = recipes.DEFAULT.replace(pictures__size=rule)
    checked, styles = 0, [*itertools.product(range(41, 200, 16), repeat=2), (106, 137)]
    for style in styles:
        try:
            run_scales.final_shapes((200, 200), style, scaled(recipe, 0.2))
        except ValueError as why:
            if not (advised := re.search(r"so choose ([\d.]+) or more$", str(why))):
                continue  # a style that is too small without the factor, too
            least = float(advised[1])
            for factor in (least, least + 0.01):
                shape = run_scales.final_shapes((200, 200), style, scaled(recipe, factor))[1]
                assert min(shape) >= 16
            assert least < 1.05 * 16 / min(rule.shape(*style)) + 0.001
            checked += 1
    assert checked > 40


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "`style_scale`: expected more than 0, got 0"),
        (-1.5, ValueError, "`style_scale`: expected more than 0"),
        (math.nan, ValueError, "`style_scale`: expected a finite number"),
        ("large", TypeError, "`style_scale`: expected a number, got 'large'"),
        ([], TypeError, "`style_scale`: expected a number, or one for each style"),
        ([1, 2, 3], ValueError, "`style_scale`: expected one number .* each of the 1, got 3"),
    ],
)
@pytest.mark.usefixtures("as_users_do")
def test_bad_factors_are_refused(params, content, style, value, error, message):
    with pytest.raises(error, match=message):
        nst.stylize(params, content, style, recipe=FAST, style_scale=value)


# --- Runs -----------------------------------------------------------------------------------------


def test_a_factor_is_the_size_that_it_makes(params, content, style):
    recipe = changes.with_sizes(FAST, 32, 40)
    one = nst.stylize(params, content, style, recipe=recipe, style_scale=0.75)
    other = nst.stylize(params, content, style, recipe=recipe, style_size=30)
    assert_array_equal(one, other)
    whole = nst.stylize(params, content, style, recipe=recipe)
    assert np.abs(np.subtract(one, whole)).max() > 0
    assert_array_equal(whole, nst.stylize(params, content, style, recipe=recipe, style_scale=1))


@pytest.mark.usefixtures("as_users_do")
def test_a_batch_is_its_pictures_one_by_one(params, content, style):
    styles = [[style, np.flip(style, 0)], [np.flip(style, 1), style]]
    options = {"recipe": FAST, "style_scale": (0.8, 1)}
    batch = nst.stylize_many(params, content, styles, **options)
    for image, blend in zip(batch, styles, strict=True):
        one = nst.stylize(params, content, blend, **options)
        np.testing.assert_allclose(image, one, atol=1e-5)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("kind", [list, np.asarray])
def test_each_picture_of_a_batch_may_have_its_own_factor(params, content, style, kind):
    factors = [1.0, 0.8, 0.9, 0.8]
    batch = nst.stylize_many(params, content, style, recipe=FAST, style_scale=kind(factors))
    assert len(batch) == 4
    for image, factor in zip(batch, factors, strict=True):
        one = nst.stylize(params, content, style, recipe=FAST, style_scale=factor)
        np.testing.assert_allclose(image, one, atol=1e-5)
    assert np.abs(batch[0] - batch[1]).max() > 1e-3


@pytest.mark.usefixtures("as_users_do")
def test_each_blend_of_a_batch_may_have_its_own_factors(params, content, style):
    blend, rows = [style, np.flip(style, 0)], [[0.8, 1.0], [1.0, 0.9]]
    options = {"recipe": FAST.replace(colors="content")}
    batch = nst.stylize_many(params, content, [blend], style_scale=np.array(rows), **options)
    listed = nst.stylize_many(params, content, [blend], style_scale=rows, **options)
    assert_array_equal(batch, listed)
    for image, row in zip(batch, rows, strict=True):
        one = nst.stylize(params, content, blend, style_scale=row, **options)
        np.testing.assert_allclose(image, one, atol=1e-5)


def test_a_loss_that_matches_positions_paints_each_size_of_a_style_by_itself(content, style):
    groups = {}
    for recipe in (FAST, recipes.NNST.replace(size=sizes.AsIs())):
        members = batch_members.members_of(
            [content] * 4, style, recipe, style_scale=[(1.0,), (0.8,), (1.0,), (0.9,)]
        )
        found = batch_plans.by_shape(members, recipe)
        groups[recipe.name] = [[member.place for member in group] for group in found]
    assert groups == {"shallow": [[0, 1, 2, 3]], "nnst": [[0, 2], [1], [3]]}


def test_factors_that_give_equal_sizes_share_their_programs(params, content, style, compilations):
    both = [0.8, 1.0]
    nst.stylize_many(params, content, style, recipe=FAST, style_scale=both * 2)
    before = compilations()
    nst.stylize_many(params, content, style, recipe=FAST, style_scale=both[::-1] * 2)
    assert compilations() == before


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ([1.0, 0.0], ValueError, r"`style_scale\[1\]`: expected more than 0"),
        (np.array([1.0, math.nan]), ValueError, r"`style_scale\[1\]`: expected a finite number"),
        ([1.0, "large"], TypeError, r"`style_scale\[1\]`: expected a number, got 'large'"),
        ([[], [1.0]], ValueError, r"`style_scale\[0\]`: expected a number, or one for each style"),
        (np.ones((2, 1, 1)), ValueError, r"`style_scale\[0\]`: .* an array of shape \[1, 1\]"),
        ([[1.0, 1.0], 1.0], ValueError, "`style_scale`: expected one number .* of the 1, got 2"),
        ([1.0, 1.0, 0.8], ValueError, "2 contents, 1 styles, 3 style_scale do not fit together"),
    ],
)
@pytest.mark.usefixtures("as_users_do")
def test_bad_factors_of_a_batch_are_refused(params, content, style, value, error, message):
    with pytest.raises(error, match=message):
        nst.stylize_many(params, [content] * 2, style, recipe=FAST, style_scale=value)


def test_styles_that_are_enlarged_beyond_their_pixels_are_reported(params, content, style):
    said = r"`style_scale` 2 enlarges a style of 20x28 px to 40x56 px"
    with pytest.warns(run_errors.StyleEnlarged, match=said):
        nst.stylize(params, content, style, recipe=FAST, style_scale=2)
    with pytest.warns(run_errors.StyleEnlarged, match=said):
        nst.stylize_many(params, [content, content], style, recipe=FAST, style_scale=2)
    reduced = changes.with_sizes(FAST, None, 24)
    nst.stylize(params, content, content, recipe=reduced, style_scale=1.25)  # warnings are errors


def test_a_plan_counts_the_styles_at_their_sizes():
    shapes = (512, 512), (2000, 2000)
    plans = {
        factor: nst.plan(*shapes, size=512, style_scale=factor, platform="cpu", memory=10**11)
        for factor in (0.5, 1, 3)
    }
    assert [plan.scales[-1].style_shapes[0][0] for plan in plans.values()] == [256, 512, 1536]
    assert plans[3].footprint.total > 1.5 * plans[1].footprint.total
    assert plans[3].footprint == nst.estimate_memory(
        (512, 512), recipe=plans[3].recipe, style_shapes=[(1536, 1536)], platform="cpu"
    )


def test_programs_do_not_depend_on_factors(params, content, style, compilations):
    recipe = changes.with_sizes(FAST, None, 30)
    assert jax.tree.structure(scaled(recipe, 0.9).bare()) == jax.tree.structure(FAST.bare())
    nst.stylize(params, content, content, recipe=recipe)
    before = compilations()
    same = recipe.replace(pictures__style_size=sizes.LongEdge(24))
    nst.stylize(params, content, content, recipe=same, style_scale=1.25)
    assert compilations() == before


# --- Records --------------------------------------------------------------------------------------


def test_a_factor_is_recorded_where_it_is_set(params, content, style):
    assert "pictures.style_scale" not in provenance.of_recipe(recipes.DEFAULT)
    assert provenance.of_recipe(scaled(FAST, 1.5, 2))["pictures.style_scale"] == [1.5, 2]
    shots = nst.paint(params, content, style, recipe=FAST, style_scale=0.8, every=1)
    next(shots)
    saved = shots.checkpoint()
    assert saved.facts["pictures.style_scale"] == [0.8]
    with pytest.raises(ValueError, match="pictures.style_scale"):
        nst.paint(params, content, style, recipe=FAST, style_scale=0.9, resume=saved)
    resumed = nst.paint(params, content, style, recipe=FAST, style_scale=0.8, resume=saved)
    assert_array_equal(resumed.finish().image, shots.finish().image)


def test_paintings_of_a_training_have_factors_too(params):
    recipe = scaled(changes.with_sizes(FAST, None, 64), 1, 0.5)
    painting = small.picture("starry_night", 64, 48)
    job = training_job.TrainingJob(
        paintings={"one": painting, "other": painting},
        found=training_job.Found((), ()),
        recipe=recipe,
        steps=1, batch=1, crop=32, width=1.0, blocks=1, learning_rate=1e-3, every=1,
        key=jax.random.key(0),
        mesh=None,
    )  # fmt: skip
    assert job.style_shapes == {"one": (64, 48), "other": (32, 24)}
    with pytest.raises(ValueError, match="`style_scale`: expected one number .* each of the 1"):
        nst.train(params, [painting], [painting], recipe=recipe)


def test_recipe_files_have_factors():
    text = toml.to_toml(scaled(recipes.DEFAULT, 1.5, 0.5))
    assert "style_scale = [1.5, 0.5]" in text
    assert toml.from_toml(text).pictures.style_scale == (1.5, 0.5)
    assert "style_scale" not in toml.to_toml(recipes.DEFAULT)
    assert toml.with_values(FAST, {"pictures.style_scale": "1.5"}).pictures.style_scale == (1.5,)
    with pytest.raises(ValueError, match="`pictures.style_scale`: expected more than 0"):
        toml.from_toml("[pictures]\nstyle_scale = [0.0]")


# --- Command line ---------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(32, 48), art=(60, 40), other=(48, 48))
    monkeypatch.setitem(recipes.PRESETS, "tiny", small.quickest())
    return caller(capsys)


RUN = ("--recipe", "tiny", "--size", "48", "--steps", "1", "--no-cache")


@pytest.mark.parametrize(
    ("styles", "factors", "message"),
    [
        (
            ("art.png",),
            "1e5",
            "`--style-scale`: 100000 makes 3.*00000 px of the style; measuring it",
        ),
        (
            ("art.png", "other.png"),
            "1,1e5",
            r"`--style-scale`: 100000 makes 4800000x4800000 px of style\[1\]; measuring",
        ),
        (
            ("art.png", "other.png"),
            "1,0.1",
            r"`--style-scale`: 0.1 makes 5x5 px of style\[1\], which has 48x48 px by the size rule .* "
            r"so choose 0\.334 or more \('other.png'\)",
        ),
        (("art.png",), "0.1", r"`--style-scale`: 0.1 makes .* px of the style.*\('art.png'\)"),
    ],
)
def test_a_factor_that_makes_a_style_too_large_or_too_small_is_named(
    call, styles, factors, message
):
    code, _, told = call("stylize", "photo.png", *styles, *RUN, "--style-scale", factors)
    assert code == 2 and re.search(f"error: {message}", told), told
    assert f"('{styles[-1]}')" in told and told.count("\n") == 1


def test_the_largest_factor_that_fits_is_named():
    recipe = scaled(recipes.GRAM, 1.0, 40.0)
    scale = run_scales.Scale((64, 64), ((300, 300), (4000, 2000)), 1)
    with pytest.raises(
        ValueError, match=r"`style_scale`: 40 makes 2000x4000 px of style\[1\]"
    ) as why:
        plan_scales(recipe, [scale], memory=300 * 10**6, platform="cpu")
    factor = float(re.search(r"up to ([\d.]+) fits", str(why.value))[1])
    small_enough = round(4000 * factor / 40), round(2000 * factor / 40)
    fits = scale._replace(style_shapes=((300, 300), small_enough))
    plan_scales(recipe, [fits], memory=300 * 10**6, platform="cpu")


@pytest.mark.parametrize(
    ("factors", "shapes", "message"),
    [
        # A batch has the shapes of the styles of all its pictures: more than it has factors, or fewer.
        ((1.0, 40.0), ((300, 300), (200, 100), (4000, 2000)), "40 makes 2000x4000 px of a style;"),
        ((40.0, 1.0, 40.0), ((300, 300), (4000, 2000)), "40 makes 2000x4000 px of a style;"),
        ((40.0, 1.0), ((4000, 4000),), "40 makes 4000x4000 px of a style;"),
        ((40.0,), ((300, 300), (4000, 2000)), "40 makes 2000x4000 px of a style;"),
        ((40.0,), ((4000, 2000),), "40 makes 2000x4000 px of the style;"),
    ],
)
def test_the_factor_of_a_style_too_large_is_named_in_a_batch(factors, shapes, message):
    recipe = scaled(recipes.GRAM, *factors)
    scale = run_scales.Scale((64, 64), shapes, 1)
    with pytest.raises(ValueError, match=f"^`style_scale`: {message} measuring"):
        plan_scales(recipe, [scale], memory=300 * 10**6, platform="cpu")


def test_a_batch_plans_for_the_styles_of_its_first_picture_and_then_all_others():
    a, b, c, d = ((side, 20) for side in (30, 20, 40, 25))
    runs = [[run_scales.Scale((64, 64), shapes, 1)] for shapes in ((a, b), (a, a), (c, b, d))]
    assert run_scales.style_shapes_of_all(runs) == (a, b, c, d)
    assert run_scales.style_shapes_of_all(runs[1:]) == (a, a, c, b, d)


def test_stylize_scales_its_styles_and_records_it(call):
    code, _, err = call(
        "stylize",
        "photo.png",
        "art.png",
        "other.png",
        *RUN,
        "--style-scale",
        "0.5,1.5",
        "-o",
        "a.png",
    )
    assert code == 0, err
    assert "times 0.5" in err and "times 1.5" in err
    assert "note: `--style-scale` 1.5 enlarges a style of 48x48 px to 72x72 px" in err
    facts = json.loads(call("info", "a.png", "--json")[1])
    assert facts["settings"]["pictures.style_scale"] == [0.5, 1.5]
    assert facts["style_sizes"] == [[16, 24], [72, 72]]


@pytest.mark.long
def test_a_batch_scales_its_styles_by_flag_and_by_row(call):
    with open("jobs.csv", "w") as file:
        file.write("content,style,output,overrides\n")
        file.write("photo.png,art.png,one.png,pictures.style_scale=1.5\n")
        file.write("photo.png,art.png,two.png,\n")
    code, _, err = call("batch", "jobs.csv", *RUN, "--style-scale", "0.5", "-o", "out")
    assert code == 0, err
    assert "note: `--style-scale` enlarges art.png beyond the pixels" in err
    sizes_of = {
        name: json.loads(call("info", f"out/{name}.png", "--json")[1])["style_sizes"]
        for name in ("one", "two")
    }
    assert sizes_of == {"one": [[48, 72]], "two": [[16, 24]]}


def test_plan_and_bad_input(call):
    code, out, _ = call("plan", "photo.png", "art.png", *RUN, "--style-scale", "2", "--json")
    assert code == 0 and json.loads(out)["scales"][-1]["style_sizes"] == [[64, 96]]
    code, out, _ = call("plan", "--shape", "512x512", "--style-scale", "2", "--json")
    assert code == 0 and json.loads(out)["scales"][-1]["style_sizes"] == [[1024, 1024]]
    pair = ("stylize", "photo.png", "art.png", *RUN)
    refused(call(*pair, "--style-scale", "1,2"), "`--style-scale`: expected one number", "got 2")
    refused(call(*pair, "--style-scale", "0"), "`--style-scale`: expected more than 0")
    refused(call(*pair, "--style-scale", "big"), "`--style-scale`: expected numbers")
