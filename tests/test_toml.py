"""Recipes as TOML: what is written can be read, and bad values are refused by their keys."""

import tomllib
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from typing import ClassVar, get_args, get_origin

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nst_jax import losses, optimizers, provenance, recipes, vgg
from nst_jax.recipes import DEFAULT, PRESETS, TF, filters, sizes, starts, tables, walk
from nst_jax.recipes.toml import from_toml, to_toml, with_value, with_values
from nst_jax.vgg import layers


def changed(group, recipe=TF, **values):
    return replace(recipe, **{group: replace(getattr(recipe, group), **values)})


def made(kind):
    """Make a choice whose numbers are none of its defaults'."""
    numbers = {f.name: 17 + i for i, f in enumerate(fields(kind)) if f.type is int}
    numbers |= {f.name: 1 / (3 + i) for i, f in enumerate(fields(kind)) if f.type is float}
    return kind(**numbers)


def variants():
    """Yield recipes that between them have every choice there is."""
    for name, rule in sizes.SIZE_RULES.items():
        beside = hasattr(rule, "beside")
        yield name, changed("pictures", **{"style_size" if beside else "size": made(rule)})
    for name, rounding in sizes.ROUNDINGS.items():
        yield name, changed("pictures", size=sizes.ShortEdge(100, rounding))
    for name, start in starts.STARTS.items():
        yield name, changed("pictures", start=made(start))
    for name, rule in optimizers.OPTIMIZERS.items():
        yield name, changed("descent", optimizer=made(rule), clip=False)
    for name, schedule in recipes.SCHEDULES.items():
        yield name, changed("descent", schedule=made(schedule))
    groups = [
        ("pictures", "resize", filters.FILTERS),
        ("network", "pool", layers.POOLS),
        ("network", "padding", layers.PADDINGS),
        ("network", "pixels", vgg.PIXELS),
        ("terms", "content_loss", losses.CONTENT_LOSSES),
        ("terms", "style_loss", losses.STYLE_LOSSES),
        ("terms", "variation", losses.VARIATIONS),
        ("descent", "coordinates", vgg.PIXELS),
        ("descent", "enlarge", filters.ENLARGEMENTS),
    ]
    for group, field, named in groups:
        for name, thing in named.items():
            others = {}
            if isinstance(thing, losses.JointContentLoss):  # it needs a style loss that matches
                others["style_loss"] = losses.RELAXED_TRANSPORT
            parts = getattr(others.get("style_loss", thing), "parts", ())
            if parts:  # each has a weight
                others["style_layer_weights"] = (1.0,) * len(parts)
            yield f"{field} {name}", changed(group, **{field: thing}, **others)

    adam = optimizers.Adam(carry=True)
    yield "carried moments", changed("descent", optimizer=adam)
    yield "an average", changed("descent", average_decay=0.9)
    yield "levels", changed("descent", pyramid_levels=5)


VARIANTS = dict(variants())


def refused(text, *words):
    """Check that a file was refused in one line that has these words."""
    with pytest.raises(ValueError) as caught:
        from_toml(text, argument="file")
    said = str(caught.value)
    assert said.startswith("`file`: ") and "\n" not in said
    for word in words:
        assert word in said


# --- Writing and reading back ---------------------------------------------------------------------


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_comes_back(name):
    text = to_toml(PRESETS[name])
    assert from_toml(text) == PRESETS[name]
    assert to_toml(from_toml(text)) == text
    assert text.startswith("# ") and text.endswith("\n")
    assert provenance.of_recipe(from_toml(text)) == provenance.of_recipe(PRESETS[name])


@pytest.mark.parametrize("name", VARIANTS)
def test_every_choice_comes_back(name):
    assert from_toml(to_toml(VARIANTS[name])) == VARIANTS[name]


def test_floats_come_back_bit_by_bit_and_whole_numbers_stay_whole():
    weights = (0.1 + 0.2, 1e-320, 1e300, 5, 1e22)
    found = from_toml(to_toml(changed("terms", style_layer_weights=weights, style_weight=3)))
    assert found.terms.style_layer_weights == weights
    assert [type(weight) for weight in found.terms.style_layer_weights] == [*map(type, weights)]
    assert isinstance(found.terms.style_weight, int)


def test_an_arrays_number_is_a_number():
    recipe = changed("terms", style_weight=jnp.float32(0.1), tv_weight=np.float64(3))
    assert from_toml(to_toml(recipe)).terms.style_weight == float(np.float32(0.1))


def test_any_text_comes_back():
    source = 'a "quoted" \\ back\tslash\nline \x00\x7f\x1b é 漢 😀 # [terms]'
    assert from_toml(to_toml(replace(TF, source=source))).source == source


def test_the_layout():
    found = tomllib.loads(to_toml(recipes.COURSERA_TF2))
    assert list(found) == ["name", "source", "family", "pictures", "network", "terms", "descent"]
    assert found["pictures"]["size"] == {"kind": "Exact", "height": 400, "width": 400}
    assert found["network"]["pixels"] == "raw" and "style_size" not in found["pictures"]
    assert found["descent"]["coordinates"] == "raw" and found["descent"]["schedule"] == "OneScale"


def kinds():
    """Return every dataclass that a recipe may be made of."""
    found = [recipes.Recipe, *(type(getattr(TF, group.name)) for group in fields(recipes.Recipe))]
    chosen = [thing for choice in walk.CHOICES for thing in choice.named.values()]
    return [kind for kind in (*found, *chosen) if isinstance(kind, type) and is_dataclass(kind)]


@pytest.mark.parametrize("kind", kinds())
def test_every_field_of_a_recipe_is_of_a_type_that_files_know(kind):
    for entry in fields(kind):
        declared, _ = walk.declared_type(entry.type)
        one = get_args(declared)[0] if get_origin(declared) is tuple else declared
        known = walk.choice_of(one) or one in tables.WORDS
        assert known or is_dataclass(one), entry


def test_what_has_no_name_is_not_written():
    def my_variation(image):
        return image.sum()

    with pytest.raises(ValueError, match=r"^`terms.variation`: .*my_variation.*total_variation"):
        to_toml(changed("terms", variation=my_variation))
    with pytest.raises(ValueError, match=r"^`pictures.start`: <lambda> is not .*FromStyle"):
        to_toml(changed("pictures", start=lambda content, style, key: content))
    with pytest.raises(
        ValueError, match=r"^`pictures.resize`: partial\(bilinear\) is not .*pillow"
    ):
        to_toml(changed("pictures", resize=partial(filters.bilinear)))
    with pytest.raises(ValueError, match=r"^`terms.style_weight`: contains 3 numbers"):
        to_toml(changed("terms", style_weight=np.ones(3)))


@dataclass(frozen=True)
class Mine:
    """A size rule, a start and an optimiser."""

    number: float = 1.0
    guarded: ClassVar[bool] = False

    def shape(self, height, width):
        return height, width

    def resized(self, pixels):
        return self

    def __call__(self, content, style, key):
        return content

    def transformation(self):
        return optimizers.Adam().transformation()

    def accepted(self, opt_state):
        return True


@pytest.mark.parametrize("key", ["pictures.size", "pictures.start", "descent.optimizer"])
def test_a_rule_of_ones_own_is_refused_by_its_class(key):
    with pytest.raises(ValueError, match=f"^`{key}`: Mine is not registered, and a file can only "):
        to_toml(TF.replace({key: Mine()}))


def test_an_optax_rule_is_refused_by_name():
    with pytest.raises(ValueError, match=r"^`descent.optimizer`: Optax is not registered"):
        to_toml(TF.replace(optimizer=optimizers.Optax(optax.sgd(0.1))))


def test_only_recipes_are_taken(as_users_do):
    with pytest.raises(TypeError, match="`recipe`: expected Recipe, got str"):
        to_toml("tf")
    with pytest.raises(TypeError, match="`recipe`: expected Recipe, got str"):
        with_values("tf", {})


# --- Reading --------------------------------------------------------------------------------------


def test_what_is_absent_has_its_default():
    assert from_toml("") == recipes.Recipe()
    found = from_toml('[descent.optimizer]\nkind = "Adam"\nb1 = 0.5')
    assert found.descent == recipes.Descent(optimizer=optimizers.Adam(b1=0.5))


def test_a_base_is_changed_in_place():
    text = 'base = "tf"\nname = "mine"\n[descent.optimizer]\nlearning_rate = 0.5'
    optimizer = replace(TF.descent.optimizer, learning_rate=0.5)
    assert from_toml(text) == replace(changed("descent", optimizer=optimizer), name="mine")


def test_a_kind_starts_from_its_own_defaults():
    text = 'base = "tf"\n[descent.optimizer]\nkind = "KerasAdam"\nlearning_rate = 0.5'
    assert from_toml(text).descent.optimizer == optimizers.KerasAdam(learning_rate=0.5)
    assert from_toml('base = "tf"\ndescent.optimizer = "KerasAdam"').descent.optimizer.eps == 1e-7


def test_what_may_be_none_can_be_made_so():
    assert recipes.KERAS_IO.pictures.style_size is not None
    found = from_toml('base = "keras-io"\n[pictures]\nstyle_size = "none"')
    assert found.pictures.style_size is None


def test_taps_get_our_names():
    text = "[terms]\ncontent_taps = ['block5_conv2']"
    assert from_toml(text).terms.content_taps == ("relu5_2",)


BAD = {
    "key": ("[terms]\nstyle_wieght = 3", "'terms.style_wieght'", "'terms.style_weight'"),
    "key at the top": ("style_wieght = 3", "'style_wieght'", "'terms.style_weight'"),
    "key in another table": ("[descent]\nstyle_weight = 3", "'terms.style_weight'"),
    "key of nothing": ("terms.zzz = 3", "'terms.zzz'", "expected one of terms.content_taps"),
    "table": ("[term]\nstyle_weight = 3", "'term'", "'terms'"),
    "kind's key": (
        "[descent.optimizer]\nlearning_rat = 3\nkind = 'Adam'",
        "there is no Adam key",
        "'descent.optimizer.learning_rate'",
    ),
    "another kind's key": ("descent.optimizer.b1 = 3", "LBFGS", "one of descent.optimizer.kind"),
    "key of a kind without": ("pictures.start.seed = 3", "one of pictures.start.kind"),
    "key of a name": ("pictures.resize.size = 3", "`pictures.resize.size`", "no keys"),
    "choice": ("terms.variation = 'total_variaton'", "`terms.variation`", "'total_variation'"),
    "kind": ("descent.optimizer = {kind = 'LBFSG'}", "`descent.optimizer`", "'LBFGS'"),
    "choice by number": ("descent.optimizer = 3", "`descent.optimizer`", "one of Adam", "3"),
    "kind by number": ("descent.optimizer.kind = 3", "`descent.optimizer.kind`", "a string"),
    "no kind": ("pictures.style_size.pixels = 30", "`pictures.style_size.kind`", "LongEdge"),
    "no default": ("pictures.size = {kind = 'Exact', width = 30}", "`pictures.size.height`"),
    "no default by name": ("pictures.size = 'Exact'", "`pictures.size.height`", "missing"),
    "no table": ("terms = 3", "`terms`", "table", "3"),
    "no list": ("terms.style_taps = 'relu1_1'", "`terms.style_taps`", "list", "relu1_1"),
    "item": ("terms.style_layer_weights = [1, '2']", "`terms.style_layer_weights`", "'2'"),
    "no string": ("name = 3", "`name`", "a string", "3"),
    "no truth": ("descent.clip = 1", "`descent.clip`", "true or false", "1"),
    "no number": ("terms.style_weight = '3'", "`terms.style_weight`", "a number", "'3'"),
    "truth for a number": ("terms.style_weight = true", "`terms.style_weight`", "True"),
    "fraction": ("descent.steps = 10.0", "`descent.steps`", "a whole number", "10.0"),
    "not finite": ("terms.style_weight = inf", "`terms.style_weight`", "finite", "inf"),
    "beyond floats": (f"terms.style_weight = 1{'0' * 400}", "`terms.style_weight`", "finite"),
    "date": ("descent.steps = 2015-08-26", "`descent.steps`", "whole number", "2015"),
    "base": ("base = 'gatys-pytorc'", "`base`", "'gatys-pytorch'"),
    "base by number": ("base = 3", "`base`", "a string"),
    "base misspelt": ("bse = 'tf'", "'bse'", "'base'"),
    "syntax": ("name = 'x'\n\nsource = = 3", "TOML", "line 3"),
    "end": ("name = 'x'\nsource =", "TOML", "line 2"),
    "twice": ("name = 'x'\nname = 'y'", "TOML", "line 2"),
    "deep": ("name = " + "[" * 100000, "TOML", "deep"),
    "long number": ("descent.steps = 1" + "0" * 10000, "TOML", "long"),
    # What the recipe's own check refuses.
    "tap": ("terms.style_taps = ['relu9_1']", "`terms.style_taps`", "'relu9_1'"),
    "weights": ("terms.style_taps = ['relu1_1']", "`terms.style_layer_weights`", "got 5"),
    "negative": ("terms.tv_weight = -1", "`terms.tv_weight`", "-1"),
    "no steps": ("descent.steps = 0", "`descent.steps`", "1 or more"),
    "rate": ("descent.optimizer = {kind = 'Adam', b1 = 1}", "`descent.optimizer.b1`", "less"),
    "scale": (
        "descent.schedule = {kind = 'CoarseToFine', smallest = 3}",
        "`descent.schedule.smallest`",
        "16 or more",
    ),
    "small": ("pictures.size.pixels = 3", "`pictures.size`", "expected 16 to 65536"),
    "large": ("pictures.size.pixels = 100000", "`pictures.size`", "expected 16 to 65536"),
    "style's rule": ("pictures.size = 'LikeContent'", "`pictures.size`", "LikeContent"),
    "start": ("pictures.start = {kind = 'Blend', ratio = -1}", "`pictures.start.ratio`", "-1"),
    "clip": ("descent.clip = true", "`descent.clip`", "LBFGS"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_meant_is_refused_by_its_key(case):
    refused(*case)


# --- Setting single values ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "recipe"),
    [
        ({"terms.style_weight": "3"}, changed("terms", style_weight=3)),
        ({"terms.style_weight": " 1e-3 "}, changed("terms", style_weight=1e-3)),
        ({"descent.steps": "100"}, changed("descent", steps=100)),
        ({"descent.clip": "false"}, changed("descent", clip=False)),
        ({"network.pool": "average"}, changed("network", pool=layers.average_pool)),
        ({"network.pool": '"average"'}, changed("network", pool=layers.average_pool)),
        ({"network.pixels": "raw"}, changed("network", pixels=vgg.RAW)),
        ({"terms.content_taps": "relu4_2"}, changed("terms", content_taps=("relu4_2",))),
        ({"terms.content_taps": "['relu4_2']"}, changed("terms", content_taps=("relu4_2",))),
        (
            {"terms.style_taps": "relu1_1, r21", "terms.style_layer_weights": "1,0.5"},
            changed("terms", style_taps=("relu1_1", "relu2_1"), style_layer_weights=(1, 0.5)),
        ),
        (
            {"terms.style_layer_weights": "1", "terms.style_taps": "relu1_1"},
            changed("terms", style_taps=("relu1_1",), style_layer_weights=(1,)),
        ),
        (
            {"descent.optimizer.learning_rate": "0.5"},
            changed("descent", optimizer=replace(TF.descent.optimizer, learning_rate=0.5)),
        ),
        (
            {"descent.optimizer": "Adam", "descent.optimizer.b1": "0.5"},
            changed("descent", optimizer=optimizers.Adam(b1=0.5)),
        ),
        (
            {"descent.optimizer": "{kind = 'Adam', b1 = 0.5}"},
            changed("descent", optimizer=optimizers.Adam(b1=0.5)),
        ),
        ({"descent.optimizer.kind": "Adam"}, changed("descent", optimizer=optimizers.Adam())),
        ({"pictures.size": "AsIs"}, changed("pictures", size=sizes.AsIs())),
        ({"pictures.style_size": "AsIs"}, changed("pictures", style_size=sizes.AsIs())),
        ({"pictures.style_size": "none"}, TF),
        ({"name": "7"}, replace(TF, name="7")),
        ({"source": "one, two = three"}, replace(TF, source="one, two = three")),
        ({}, TF),
    ],
)
def test_values_are_set(values, recipe):
    assert with_values(TF, values) == recipe


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("terms.style_wieght", "3", ["'terms.style_wieght'", "'terms.style_weight'"]),
        ("style_weight", "3", ["'style_weight'", "'terms.style_weight'"]),
        ("terms.style_weight.x", "3", ["`terms.style_weight`", "a number"]),
        ("terms", "3", ["`terms`", "table"]),
        ("base", "tf", ["'base'"]),
        ("terms.style_weight", "much", ["`terms.style_weight`", "a number", "'much'"]),
        ("terms.style_weight", "", ["`terms.style_weight`", "''"]),
        ("terms.style_weight", "3\nname = 'x'", ["`terms.style_weight`", "a number"]),
        ("terms.style_taps", "", ["`terms.style_taps`", "at least one"]),
        ("terms.style_taps", "relu1_1", ["`terms.style_layer_weights`", "got 5"]),
        ("descent.steps", "1.5", ["`descent.steps`", "1.5"]),
        ("descent.optimizer", "Adm", ["`descent.optimizer`", "'Adam'"]),
        ("descent.optimizer", "LBFGS", ["`descent.clip`", "LBFGS"]),
        ("descent.optimizer.radius", "3", ["KerasAdam", "'descent.optimizer.radius'"]),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(key, text, words):
    with pytest.raises(ValueError) as caught:
        with_values(TF, {key: text}, argument="set")
    assert str(caught.value).startswith("`set`: ")
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("network.pool", "mx", "`pool`: there is no pooling 'mx'; did you mean 'max'?"),
        ("terms.style_weight", "3", "`pool`: expected a number, got '3'"),
        ("descent.steps", 1.5, "`pool`: expected a whole number, got 1.5"),
    ],
)
def test_one_value_is_refused_under_the_callers_name(key, value, message):
    with pytest.raises(ValueError) as caught:
        with_value(TF, key, value, argument="pool")
    assert str(caught.value) == message


def test_the_original_stays():
    before = to_toml(DEFAULT)
    with_values(DEFAULT, {"terms.style_weight": "3", "descent.optimizer.radius": "0.1"})
    assert to_toml(DEFAULT) == before
