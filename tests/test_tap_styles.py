"""`tap_styles`: single taps whose style comes from a picture of its own."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import losses, provenance, recipes
from nst_jax.recipes import changes, toml
from nst_jax.recipes.schedules import CoarseToFine
from nst_jax.style_statistics import blend
from tests import small
from tests.shell import caller, refused, write_pictures

TAPS = ("relu1_1", "preact1_1")
FAST = small.quickest(steps=3, style_taps=TAPS)
measure = jax.jit(nst.measure)  # eager operations would be compiled one by one


@pytest.fixture(scope="module")
def fine():
    return jnp.asarray(small.picture("starry_night", 40, 36)[:, ::-1])


def with_taps(recipe, *taps):
    return changes.with_tap_styles(recipe, dict.fromkeys(taps, 0))[0]


# --- Statistics -----------------------------------------------------------------------------------


def gram64(params, picture, tap):
    """Return the Gram matrix of a tap's features, in NumPy and float64."""
    features = jax.jit(nst.features, static_argnums=2)
    found = np.asarray(features(params, jnp.asarray(picture), (tap,))[tap], np.float64)
    rows = found.reshape(-1, found.shape[-1])
    return rows.T @ rows / len(rows)


def test_the_loss_at_a_tap_compares_with_its_own_picture(params, content, style, fine):
    recipe = with_taps(FAST, "relu1_1").replace(style_loss=losses.GRAM_MEAN_SQUARE)
    targets = measure(params, content, [style, fine], recipe)
    found = jax.jit(nst.losses_of)(params, content, targets, recipe)
    for tap, weight, picture in (("relu1_1", 1e-1, fine), ("preact1_1", 1e-2, style)):
        difference = gram64(params, content, tap) - gram64(params, picture, tap)
        expected = recipe.terms.style_weight * weight * np.mean(difference**2)
        assert_allclose(float(found.style_layers[tap]), expected, rtol=1e-4)


def test_taps_without_a_picture_of_their_own_have_the_blend(params, content, style, fine):
    shared = FAST.replace(style_shares=(0.25, 0.75))
    other = np.flip(style, 0)
    blend = measure(params, content, [style, other], shared).style
    alone = measure(params, content, fine, FAST).style
    both = measure(params, content, [style, other, fine], with_taps(shared, "preact1_1")).style
    assert_array_equal(both["relu1_1"], blend["relu1_1"])
    assert_array_equal(both["preact1_1"], alone["preact1_1"])


def test_both_style_losses_of_a_tap_have_its_picture(params, content, style, fine):
    second = recipes.SecondStyle(
        taps=("relu1_1", "preact1_1"), layer_weights=(1.0, 1.0), loss=losses.CHANNEL_HISTOGRAMS
    )
    recipe = FAST.replace(second_style=second)
    found = measure(params, content, [style, fine], with_taps(recipe, "relu1_1")).style
    alone = {
        name: measure(params, content, picture, recipe).style
        for name, picture in (("style", style), ("fine", fine))
    }
    for name, source in (
        ("relu1_1", "fine"), ("second_relu1_1", "fine"),
        ("preact1_1", "style"), ("second_preact1_1", "style"),
    ):  # fmt: skip
        for one, other in zip(
            jax.tree.leaves(found[name]), jax.tree.leaves(alone[source][name]), strict=True
        ):
            assert_array_equal(one, other)


def test_blend_does_not_depend_on_the_order_of_the_taps():
    terms = recipes.Terms(style_taps=("relu1_1", "preact1_1", "relu3_1"))
    terms = recipes.Terms(
        style_taps=terms.style_taps,
        style_layer_weights=(1.0,) * 3,
        tap_styles=("relu3_1", "relu1_1"),
    )
    statistics = [dict.fromkeys(terms.style_taps, n) for n in (1, 2, 3)]
    assert blend(statistics, (1.0,), terms) == {"relu1_1": 3, "preact1_1": 1, "relu3_1": 2}


# --- Runs -----------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_run_with_the_same_picture_everywhere_is_the_run_without(params, content, style):
    plain = nst.stylize(params, content, style, recipe=FAST)
    taps = {"relu1_1": style, "preact1_1": style}
    assert_array_equal(nst.stylize(params, content, style, recipe=FAST, tap_styles=taps), plain)


def test_the_picture_of_a_tap_changes_the_result(params, content, style, fine):
    one = nst.stylize(params, content, style, recipe=FAST, tap_styles={"block1_conv1": fine})
    assert np.abs(one - nst.stylize(params, content, style, recipe=FAST)).max() > 1e-3


@pytest.mark.optimized
@pytest.mark.parametrize("how", [pytest.param("tiles", marks=pytest.mark.long), "bands"])
def test_tiles_and_bands_paint_the_same(params, how):
    pictures = [small.picture("chelsea", 96, 80), *(small.picture("starry_night", 96, 96),) * 2]
    content, style, fine = pictures[0], pictures[1], pictures[2][::-1].copy()
    options = {"recipe": FAST.replace(steps=1), "tap_styles": {"relu1_1": fine}}
    whole = nst.stylize(params, content, style, **options)
    cut = {"tile": 32} if how == "tiles" else {"devices": 2}
    assert_allclose(nst.stylize(params, content, style, **options, **cut), whole, atol=1e-6)


def test_a_batch_is_its_pictures_one_by_one(params, content, style, fine):
    recipe = FAST.replace(style_weight=np.array([1.0, 50.0]))
    taps = {"relu1_1": fine}
    batch = nst.stylize_many(params, content, style, recipe=recipe, tap_styles=taps)
    for image, weight in zip(batch, (1.0, 50.0), strict=True):
        single = FAST.replace(style_weight=weight)
        one = nst.stylize(params, content, style, recipe=single, tap_styles=taps)
        assert_allclose(image, one, atol=1e-5)


def test_a_resumed_run_over_scales_is_the_whole_run(params, style, fine):
    content = small.picture("chelsea", 48, 64)
    recipe = FAST.replace(schedule=CoarseToFine(smallest=32), steps=4)
    options = {"recipe": recipe, "tap_styles": {"relu1_1": fine}}
    whole = nst.paint(params, content, style, **options).finish()
    shots = nst.paint(params, content, style, every=1, **options)
    saved = next(shots.checkpoint() for shot in shots if shot.step == 2)
    assert saved.facts["terms.tap_styles"] == ["relu1_1"]
    resumed = nst.paint(params, content, style, resume=saved, **options).finish()
    assert_array_equal(resumed.image, whole.image)
    with pytest.raises(ValueError, match="style 2"):
        nst.paint(
            params, content, style, resume=saved, recipe=recipe, tap_styles={"relu1_1": fine / 2}
        )
    with pytest.raises(ValueError, match="terms.tap_styles"):
        nst.paint(
            params, content, style, resume=saved, recipe=recipe, tap_styles={"preact1_1": fine}
        )


def test_another_picture_of_the_same_size_compiles_nothing(params, content, style, compilations):
    other = style * 0.5  # which compiles a program of its own
    nst.stylize(params, content, style, recipe=FAST, tap_styles={"relu1_1": style})
    before = compilations()
    nst.stylize(params, content, style, recipe=FAST, tap_styles={"relu1_1": other})
    assert compilations() == before


def test_a_plan_contains_the_taps_and_counts_their_pictures(params, content, style, fine):
    taps = {"relu1_1": fine.shape[:2]}
    plan = nst.plan(content, style, recipe=FAST, tap_styles=taps)
    assert plan.scales[-1].style_shapes == (style.shape[:2], fine.shape[:2])
    direct = nst.stylize(params, content, style, recipe=FAST, tap_styles={"relu1_1": fine})
    planned = nst.stylize(params, content, style, plan=plan, tap_styles={"relu1_1": fine})
    assert_array_equal(planned, direct)
    with pytest.raises(
        ValueError, match="`tap_styles`: are for preact1_1, and `plan` was made with"
    ):
        nst.stylize(params, content, style, plan=plan, tap_styles={"preact1_1": fine})
    with pytest.raises(ValueError, match=r"`style`: expected at least 2 pictures, .* for relu1_1"):
        nst.stylize(params, content, style, plan=plan)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        ({"relu9_1": 0}, ValueError, "`tap_styles`: "),
        (
            {"relu4_2": 0},
            ValueError,
            "`tap_styles`: relu4_2 is no style layer .* relu1_1, preact1_1",
        ),
        ({"relu1_1": "fine.jpg"}, TypeError, r"`tap_styles\['relu1_1'\]`: expected an array"),
        ([0], TypeError, "`tap_styles`: expected a dictionary"),
    ],
)
def test_bad_taps_are_refused(params, content, style, value, error, message):
    with pytest.raises(error, match=message):
        nst.stylize(params, content, style, recipe=FAST, tap_styles=value)


def test_recipes_record_their_taps():
    recipe = with_taps(recipes.GRAM, "relu1_1")
    assert "terms.tap_styles" not in provenance.of_recipe(recipes.GRAM)
    assert provenance.of_recipe(recipe)["terms.tap_styles"] == ["relu1_1"]
    assert toml.from_toml(toml.to_toml(recipe)).terms.tap_styles == ("relu1_1",)
    with pytest.raises(ValueError, match="`terms.tap_styles`: relu4_2 is no style layer"):
        toml.from_toml('base = "gram"\n[terms]\ntap_styles = ["relu4_2"]')


# --- Command line ---------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(32, 48), art=(40, 40), fine=(48, 32))
    monkeypatch.setitem(recipes.PRESETS, "tiny", small.quickest(style_taps=TAPS))
    return caller(capsys)


RUN = ("--recipe", "tiny", "--steps", "1", "--no-cache")
PAIR = ("photo.png", "art.png", *RUN)


def settings(call, path):
    return json.loads(call("info", path, "--json")[1])


def test_stylize_takes_a_picture_for_a_layer(call):
    words = ("--style-layer", "relu1_1=fine.png")
    code, out, err = call("stylize", *PAIR, *words)
    assert code == 0, err
    assert out == "photo_art.png\n" and "for relu1_1" in err
    facts = settings(call, "photo_art.png")
    assert facts["inputs"]["style_2"]["name"] == "fine.png"
    assert facts["settings"]["terms.tap_styles"] == ["relu1_1"]
    assert facts["settings"]["terms.style_taps"] == ["relu1_1", "preact1_1"]
    params = nst.load_params()
    photo, art, fine = (nst.images.load(f"{name}.png") for name in ("photo", "art", "fine"))
    image = nst.stylize(
        params, photo, art, recipe=FAST.replace(steps=1), tap_styles={"relu1_1": fine}
    )
    assert_allclose(nst.images.load("photo_art.png"), image, atol=0.51 / 255)


def test_a_layer_may_have_both_a_weight_and_a_picture(call):
    words = ("--style-layer", "relu1_1=0.5:fine.png", "--style-layer", "relu1_2=2")
    code, _, err = call("stylize", *PAIR, *words, "-o", "x.png")
    assert code == 0, err
    found = settings(call, "x.png")["settings"]
    assert found["terms.style_taps"] == ["relu1_1", "relu1_2"]
    assert found["terms.style_layer_weights"] == [0.5, 2]
    assert found["terms.tap_styles"] == ["relu1_1"]


@pytest.mark.slow
def test_batches_take_pictures_for_layers_by_flag_and_by_row(call):
    with open("jobs.csv", "w") as file:
        file.write("content,style,output\n")
        file.write("photo.png,art.png;preact1_1=fine.png,one.png\n")
        file.write("photo.png,art.png,two.png\n")
    assert call("batch", "jobs.csv", *RUN, "-o", "out")[0] == 0
    one, two = (settings(call, f"out/{name}.png") for name in ("one", "two"))
    assert one["settings"]["terms.tap_styles"] == ["preact1_1"]
    assert one["inputs"]["style_2"]["name"] == "fine.png"
    assert "terms.tap_styles" not in two["settings"] and "style_2" not in two["inputs"]
    listed = map(json.loads, Path("out/results.jsonl").read_text().splitlines())
    assert {record["style"] for record in listed} == {"art.png", "art.png;preact1_1=fine.png"}
    words = ("--styles", "art.png", "fine.png", "--style-layer", "relu1_1=fine.png")
    code, _, err = call("batch", "photo.png", *words, *RUN, "-o", "more")
    assert code == 0, err
    assert settings(call, "more/photo_art.png")["settings"]["terms.tap_styles"] == ["relu1_1"]


def test_plan_counts_the_picture_of_a_layer(call):
    words = ("--style-layer", "relu1_1=fine.png", "--json")
    code, out, _ = call("plan", *PAIR, *words)
    assert code == 0
    assert json.loads(out)["scales"][-1]["style_sizes"] == [[40, 40], [32, 48]]
    code, out, _ = call("plan", *RUN, "--shape", "64x48", *words)
    assert json.loads(out)["scales"][-1]["style_sizes"] == [[64, 48]] * 2


def test_bad_pictures_for_layers_are_refused(call):
    pair = ("stylize", *PAIR, "--style-layer")
    refused(call(*pair, "relu1_1=fin.png"), "`--style-layer`: expected NAME=WEIGHT", "'fin.png'")
    refused(call(*pair, "relu1_1=x:fine.png"), "`--style-layer`: expected NAME=WEIGHT")
    refused(
        call(*pair, "relu4_1=fine.png"), "`--style-layer`: relu4_1 has a picture", "as in 0.2:FILE"
    )
    refused(call(*pair, "relu1_1=-2:fine.png"), "`--style-layer`: expected 0 or more")
    train = ("train", "art.png", "--photos", "photo.png", "-o", "s.h5", "--recipe", "tiny")
    refused(call(*train, "--style-layer", "relu1_1=fine.png"), "no layer has a style of its own")
