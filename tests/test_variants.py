"""Recipes as values: variants in one line, a short text, pickles and copies."""

import copy
import pickle
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax import losses, optimizers, recipes, vgg
from nst_jax.recipes import DEFAULT, PRESETS, TF, Recipe, sizes, starts
from nst_jax.vgg import layers
from tests.test_toml import VARIANTS


def changed(group, recipe=TF, **values):
    return replace(recipe, **{group: replace(getattr(recipe, group), **values)})


# --- `Recipe.replace` -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "variant"),
    [
        ({}, TF),
        ({"style_weight": 3}, changed("terms", style_weight=3)),
        ({"terms__style_weight": 3}, changed("terms", style_weight=3)),
        ({"terms.style_weight": 3}, changed("terms", style_weight=3)),
        ({"steps": 200}, changed("descent", steps=200)),
        ({"name": "mine"}, replace(TF, name="mine")),
        ({"content_taps": ("relu3_2",)}, changed("terms", content_taps=("relu3_2",))),
        ({"pool": layers.average_pool}, changed("network", pool=layers.average_pool)),
        ({"network": vgg.Network(ceil=True)}, replace(TF, network=vgg.Network(ceil=True))),
        ({"start": starts.Noise()}, changed("pictures", start=starts.Noise())),
        ({"style_loss": losses.GRAM_PAPER}, changed("terms", style_loss=losses.GRAM_PAPER)),
        (
            {"learning_rate": 0.5},
            changed("descent", optimizer=replace(TF.descent.optimizer, learning_rate=0.5)),
        ),
        (
            {"learning_rate": 0.5, "optimizer": optimizers.Adam()},
            changed("descent", optimizer=optimizers.Adam(learning_rate=0.5)),
        ),
        (
            {"pictures__size__pixels": 64},
            changed("pictures", size=sizes.LongEdge(64, sizes.truncated_float32)),
        ),
        ({"size__pixels": 64}, changed("pictures", size=replace(TF.pictures.size, pixels=64))),
        ({"size": 64}, changed("pictures", size=replace(TF.pictures.size, pixels=64))),
        ({"size": "as-is"}, changed("pictures", size=sizes.AsIs())),
        ({"size": sizes.Area(64)}, changed("pictures", size=sizes.Area(64))),
        ({"style_size": 64}, changed("pictures", style_size=replace(TF.pictures.size, pixels=64))),
        ({"style_size": None}, TF),
    ],
)
def test_a_variant_in_one_line(values, variant):
    assert TF.replace(values) == variant
    if not any("." in name for name in values):
        assert TF.replace(**values) == variant


def test_names_and_keys_go_together():
    found = TF.replace({"network.ceil": True}, style_weight=3)
    assert found.network.ceil and found.terms.style_weight == 3


def test_a_sweep_is_an_array():
    weights = np.asarray([1.0, 2.0])
    assert TF.replace(style_weight=weights).terms.style_weight is weights


def test_the_original_is_unchanged():
    before = copy.deepcopy(TF)
    TF.replace(style_weight=3, learning_rate=1, size=64)
    assert before == TF


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("style_wieght", "`style_wieght`: a recipe has no field .* did you mean 'style_weight'"),
        ("terms.stile_weight", "`terms.stile_weight`: .* did you mean 'terms.style_weight'"),
        ("descent__step", "`descent__step`: .* did you mean 'descent.steps'"),
        ("zzzzzz", "`zzzzzz`: .* expected one of name, source"),
        (
            "pixels",
            "`pixels`: there are several: pictures.size.pixels, network.pixels; .*size__pixels",
        ),
        ("radius", "`radius`: the recipe has none, since its `descent.optimizer` is KerasAdam; ch"),
        ("style_size__pixels", "`style_size__pixels`: the recipe has none, .*style_size` is None"),
        ("optimizer__radius", "`optimizer__radius`: the recipe has none, since .* is KerasAdam"),
    ],
)
def test_an_unknown_or_ambiguous_name_is_refused(name, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TF.replace({name: 3})


@pytest.mark.parametrize(
    ("values", "more", "message"),
    [
        ({}, {"steps": 1, "descent__steps": 2}, "`descent__steps`: is the field of `steps`, too"),
        (
            {"descent.steps": 1},
            {"steps": 2},
            "`steps`: is the field of `descent.steps`, too; give it",
        ),
        (
            {"size.pixels": 64},
            {"size__pixels": 96},
            "`size__pixels`: is the field of `size.pixels`",
        ),
    ],
)
def test_two_values_for_one_field_are_refused(values, more, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        TF.replace(values, **more)


def test_a_keyword_replaces_a_value_of_the_same_name():
    assert TF.replace({"style_weight": 1.0}, style_weight=2.0).terms.style_weight == 2.0


@pytest.mark.parametrize("values", [3, "steps", [("steps", 3)], {3: 4}])
def test_only_a_dictionary_has_values_for_fields(values, as_users_do):
    with pytest.raises(
        TypeError, match=r"^`replace`: expected a dictionary .*replace\(steps=200\)"
    ):
        TF.replace(values)


def test_every_short_name_of_every_preset_is_found_or_ambiguous():
    for recipe in PRESETS.values():
        for name in ("style_weight", "steps", "optimizer", "size", "start", "content_taps", "pool"):
            assert recipe.replace({name: "x"} if name != "size" else {name: 64}) != recipe


@pytest.mark.parametrize("size", [512, np.int64(512), None, "512"])
def test_a_number_is_no_size_rule(size, as_users_do):
    with pytest.raises(
        TypeError, match="^`size`: expected a size rule of `nst_jax.recipes.sizes`, g"
    ):
        recipes.check(changed("pictures", size=size))


# --- The text of a recipe -------------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_its_name(name):
    assert repr(PRESETS[name]) == f"Recipe({name!r})"
    assert repr(copy.deepcopy(PRESETS[name])) == f"Recipe({name!r})"


@pytest.mark.parametrize(
    ("recipe", "text"),
    [
        (Recipe(), "Recipe()"),
        (Recipe(name="mine"), "Recipe('mine')"),
        (Recipe().replace(steps=7), "Recipe(descent.steps=7)"),
        (TF.replace(style_weight=3), "Recipe('tf', terms.style_weight=3)"),
        (TF.replace(style_weight=0.01), "Recipe('tf')"),
        (TF.replace(pool=layers.average_pool), "Recipe('tf', network.pool=average)"),
        (TF.replace(start=lambda c, s, k: c), "Recipe('tf', pictures.start=<lambda>)"),
        (TF.replace(style_weight=np.ones(3)), "Recipe('tf', terms.style_weight=float64[3])"),
        (TF.replace(style_weight=np.float32(3)), "Recipe('tf', terms.style_weight=3.0)"),
        (TF.replace(style_shares=(1, 2)), "Recipe('tf', terms.style_shares=(1, 2))"),
        (
            TF.replace(style_size=64),
            "Recipe('tf', pictures.style_size=LongEdge(pixels=64, rounding=tr",
        ),
        (
            TF.replace(optimizer=optimizers.Adam()),
            "Recipe('tf', descent.optimizer=Adam(learning_ra",
        ),
        (DEFAULT.replace(radius=1), "Recipe('default', descent.optimizer.radius=1)"),
    ],
)
def test_the_text_says_what_differs(recipe, text):
    assert repr(recipe).startswith(text)
    assert len(repr(recipe)) < 250


def test_the_text_is_short_whatever_differs():
    strange = recipes.as_arrays(DEFAULT.replace(name="mine", source="x" * 5000))
    assert len(repr(strange)) < 1000 and "more)" in repr(strange)
    assert repr(jax.tree.structure(TF)) and repr(TF.bare())


def test_the_text_of_traced_numbers_is_their_type():
    texts = []

    def traced(recipe):
        texts.append(repr(recipe))
        return recipe.terms.style_weight

    recipe = TF.replace(style_weight=jnp.float32(3))
    jax.jit(traced)(recipe)
    jax.vmap(traced, axis_size=2)(jax.tree.map(lambda n: np.full(2, n), recipe))
    jax.tree.map(lambda n: None, recipe)
    assert all("terms.style_weight=float32[]" in text for text in texts)
    assert repr(recipe) == "Recipe('tf', terms.style_weight=float32[])"


def test_equality_and_hash_are_those_of_a_frozen_dataclass():
    assert replace(TF) == TF and hash(replace(TF)) == hash(TF)
    assert TF.replace(style_weight=3) != TF


# --- Pickles and copies ---------------------------------------------------------------------------


def my_sums(features, products):
    return losses.gram(features, products)


def my_distance(canvas, style, extent):
    return losses.gram_paper(canvas, style, extent)


CUSTOM = TF.replace(
    style_loss=losses.StyleLoss(my_sums, losses.mean_over_positions, my_distance),
    style_weight=0.1 + 0.2,
)


@pytest.mark.parametrize("recipe", [*PRESETS.values(), Recipe(), CUSTOM, *VARIANTS.values()])
def test_a_recipe_survives_pickling_and_copying(recipe):
    found = [pickle.loads(pickle.dumps(recipe, protocol)) for protocol in range(2, 6)]
    for again in (*found, copy.deepcopy(recipe), copy.copy(recipe)):
        assert again == recipe and repr(again) == repr(recipe)
        assert jax.tree.structure(again) == jax.tree.structure(recipe)


READER = """
import pickle, sys
import jax
from nst_jax.recipes import PRESETS
for name, text in pickle.load(sys.stdin.buffer):
    again = pickle.loads(text)
    assert again == PRESETS[name], name
    assert jax.tree.structure(again) == jax.tree.structure(PRESETS[name]), name
    sys.stdout.buffer.write(pickle.dumps(again))
"""


def test_a_recipe_is_equal_in_another_process():
    sent = [(n, pickle.dumps(r, protocol)) for n, r in PRESETS.items() for protocol in range(2, 6)]
    done = subprocess.run(
        [sys.executable, "-c", READER], input=pickle.dumps(sent), capture_output=True, check=False
    )
    assert not done.returncode, done.stderr.decode()[-1000:]
    # Compared are copies, since a recipe may share a string with a function, and its copy does not.
    copies = [(name, pickle.loads(data)) for name, data in sent]
    assert all(copy == PRESETS[name] for name, copy in copies)
    assert done.stdout == b"".join(pickle.dumps(copy) for _, copy in copies)
