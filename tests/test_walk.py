"""The walk over a recipe: every field once, by its key, with the name of what is in it."""

from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial

import jax
import numpy as np
import pytest

from nst_jax import losses, optimizers, provenance, vgg
from nst_jax._types import ADDED_LATER
from nst_jax.optimizers import Adam
from nst_jax.recipes import PRESETS, TF, Recipe, filters, sizes, walk

OWN_LOSS = losses.StyleLoss(losses.gram, losses.mean_over_positions, lambda one, other, extent: 0.0)


def at(record, key):
    for name in key.split("."):
        record = getattr(record, name)
    return record


@pytest.mark.parametrize("name", PRESETS)
def test_every_entry_is_what_its_key_says(name):
    items = list(walk.walk(PRESETS[name]))
    keys = [item.key for item in items]
    assert len(set(keys)) == len(keys)
    assert all(at(PRESETS[name], item.key) is item.value for item in items)
    assert set(keys) <= set(walk.possible_keys(Recipe))


@pytest.mark.parametrize("name", PRESETS)
def test_every_number_is_walked_over(name):
    paths = jax.tree_util.tree_leaves_with_path(PRESETS[name])
    leaves = {jax.tree_util.keystr(path).lstrip(".").partition("[")[0] for path, _ in paths}
    assert leaves <= {item.key for item in walk.walk(PRESETS[name])}


@pytest.mark.parametrize("name", PRESETS)
def test_what_a_preset_is_made_of_has_names(name):
    chosen = [item for item in walk.walk(PRESETS[name]) if item.choice is not None]
    assert chosen
    for item in chosen:
        assert item.value is None or item.name in item.choice.named


def test_a_thing_known_by_its_name_has_no_parts():
    keys = [item.key for item in walk.walk(TF)]
    assert "network.precision" in keys and "network.precision.products" not in keys
    assert "terms.style_loss" in keys and "terms.style_loss.sums" not in keys
    assert "descent.optimizer.b1" in keys


def test_a_loss_without_a_name_is_walked_over_by_its_functions():
    recipe = TF.replace(style_loss=OWN_LOSS)
    keys = [item.key for item in walk.walk(recipe) if item.key.startswith("terms.style_loss")]
    parts = [f for f in OWN_LOSS._fields if f != "masked_sums"]  # which this loss lacks
    assert keys == ["terms.style_loss", *(f"terms.style_loss.{f}" for f in parts)]
    settings = provenance.of_recipe(recipe)
    assert "terms.style_loss" not in settings and settings["terms.style_loss.sums"] == "gram"


@pytest.mark.parametrize("name", PRESETS)
def test_settings_have_every_key_of_the_walk(name):
    walked = [item for item in walk.walk(PRESETS[name]) if "." in item.key]
    # Fields that are newer than the first records are recorded where they are set.
    newer = {item.key for item in walked if ADDED_LATER in item.field.metadata}
    unset = {item.key for item in walked if item.key in newer and item.value == item.field.default}
    assert list(provenance.of_recipe(PRESETS[name])) == [
        item.key for item in walked if item.key not in unset
    ]
    assert newer >= {"terms.second_style", "descent.enlarge", "descent.average_decay"}


def test_a_newer_field_is_recorded_where_it_is_set():
    set_all = TF.replace(
        second_style=PRESETS["histogram"].terms.second_style,
        optimizer=Adam(carry=True),
        enlarge=filters.torch_bicubic,
        pyramid_levels=5,
        average_decay=0.99,
        one_pyramid=True,
        colors="palette",
        color_map="pca",
        chroma_space="ycbcr",
        realism=0.5,
        style_scale=(2.0,),
        tap_styles=("relu1_1",),
        matting_weight=1.0,
        region_reach="all",
        region_growth=2,
        search_content=0.5,
        last_style_loss=losses.GRAM_PAPER,
        content_against_style=16.0,
        last_learning_rate=0.01,
        content_detail=True,
    )
    found, walked = provenance.of_recipe(set_all), walk.walk(set_all)
    assert list(found) == [item.key for item in walked if "." in item.key]
    assert found["descent.enlarge"] == "torch_bicubic" and found["descent.optimizer.carry"] is True
    assert found["descent.pyramid_levels"] == 5 and found["descent.average_decay"] == 0.99
    assert found["terms.last_style_loss"] == "gram_paper" and found["terms.search_content"] == 0.5
    assert found["pictures.colors"] == "palette" and found["descent.one_pyramid"] is True


@dataclass(frozen=True)
class Own:
    number: float = 1.0
    inner: optimizers.Adam = optimizers.Adam()


def test_settings_of_a_rule_of_ones_own_are_those_of_its_fields():
    settings = provenance.of_recipe(replace(TF, descent=replace(TF.descent, optimizer=Own())))
    assert settings["descent.optimizer"] == "Own"
    assert settings["descent.optimizer.number"] == 1.0
    assert settings["descent.optimizer.inner"] == "Adam"
    assert settings["descent.optimizer.inner.b1"] == 0.9


def test_settings_of_pixels_of_ones_own_are_their_name():
    pixels = vgg.Pixels("mine", 2.0, (0.0,) * 3, (1.0,) * 3, False)
    settings = provenance.of_recipe(TF.replace(coordinates=pixels))
    assert settings["descent.coordinates"] == "mine"


@pytest.mark.parametrize(
    ("thing", "name"),
    [
        (sizes.LongEdge(3), "LongEdge"),
        (sizes.LongEdge, "LongEdge"),
        (filters.bilinear, "bilinear"),
        (lambda: 0, "<lambda>"),
        (partial(filters.bilinear), "partial(bilinear)"),
        (partial(partial, filters.bilinear), "partial(partial)"),
        (OWN_LOSS, "StyleLoss"),
        (jax.jit(filters.bilinear), "bilinear"),
        (3, "3"),
    ],
)
def test_things_are_shown_by_name(thing, name):
    assert walk.name_to_show(thing) == name


def test_nothing_differs_from_itself():
    for recipe in (*PRESETS.values(), Recipe()):
        assert not list(walk.differences(recipe, recipe))
        assert not list(walk.differences(recipe, replace(recipe)))


def test_differences_are_as_small_as_possible():
    other = TF.replace(b1=0.5, size=sizes.ShortEdge(512), style_loss=OWN_LOSS, steps=3)
    assert [item.key for item in walk.differences(other, TF)] == [
        "pictures.size",
        "terms.style_loss",
        "descent.optimizer.b1",
        "descent.steps",
    ]


def test_arrays_differ_from_all_but_themselves():
    array = np.ones(3)
    one = TF.replace(style_weight=array)
    assert not list(walk.differences(one, TF.replace(style_weight=array)))
    assert list(walk.differences(one, TF.replace(style_weight=array.copy())))


def test_every_class_with_keys_is_a_dataclass():
    for choice in walk.CHOICES:
        assert choice.has_keys == all(isinstance(thing, type) for thing in choice.named.values())
        if choice.has_keys:
            assert all(is_dataclass(kind) for kind in choice.named.values())
            assert all(isinstance(fields(kind), tuple) for kind in choice.named.values())
