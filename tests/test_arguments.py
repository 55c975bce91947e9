"""What the flags of the command line make of a recipe, and under which name they are refused."""

import pytest

from nst_jax import optimizers, recipes, vgg
from nst_jax.app import arguments
from nst_jax.app.arguments import Changes, recipe_of
from nst_jax.recipes import DEFAULT, TF, sizes, walk
from nst_jax.vgg import layers


def test_the_flags_and_recipe_keys_in_the_table_exist():
    assert set(arguments.KEYS) <= set(Changes._fields)
    assert set(arguments.KEYS.values()) <= set(walk.possible_keys(recipes.Recipe))


@pytest.mark.parametrize(
    ("changes", "values"),
    [
        ({}, {}),
        ({"content_weight": 0.0}, {"content_weight": 0.0}),
        ({"style_weight": 3.0}, {"style_weight": 3.0}),
        ({"tv_weight": 0.5}, {"tv_weight": 0.5}),
        ({"style_shares": (1.0, 2.0)}, {"style_shares": (1.0, 2.0)}),
        ({"steps": 7}, {"steps": 7}),
        ({"learning_rate": 0.3}, {"learning_rate": 0.3}),
        ({"pool": "average"}, {"pool": layers.average_pool}),
        ({"precision": "bfloat16"}, {"precision": vgg.precision.BFLOAT16}),
        ({"precision": "auto"}, {"precision": vgg.precision.AUTO}),
        ({"tile": "160"}, {"tile": 160}),
        ({"tile": "off"}, {"tile": 0}),
        ({"tile": "auto"}, {"tile": None}),
        ({"values": ("network.tile=160",), "tile": "auto"}, {"tile": None}),
        ({"values": ("terms.style_weight=5",), "style_weight": 3.0}, {"style_weight": 3.0}),
        ({"style_weight": 3.0, "strength": 0.0}, {"style_weight": 3.0 * 0.003}),
        (
            {"values": ("pictures.color_map=pca",), "colors": "content"},
            {"colors": "content", "color_map": "pca"},
        ),
        (  # strength 0 multiplies by 0.003
            {"values": ("strength=0", "terms.style_weight=5"), "style_weight": 3.0},
            {"style_weight": 3.0 * 0.003},
        ),
        ({"values": ("strength=0", "terms.style_weight=5")}, {"style_weight": 5 * 0.003}),
        ({"values": ("strength=0.5",), "strength": 0.0}, {"style_weight": 0.01 * 0.003}),
        ({"size": "64"}, {"size": 64}),
        ({"size": "64", "style_size": "as-is"}, {"size": 64, "style_size": sizes.AsIs()}),
        (
            {"style_layer": ("r11=0.5", "relu2_1")},
            {"style_taps": ("relu1_1", "relu2_1"), "style_layer_weights": (0.5, 1.0)},
        ),
        (
            {"optimizer": "adam", "learning_rate": 0.3},
            {"optimizer": optimizers.Adam(learning_rate=0.3)},
        ),
    ],
)
def test_flags_are_changes_of_values(changes, values):
    assert recipe_of(Changes(recipe="tf", **changes)) == TF.replace(values)


def optimizer_of(name, *values, **more):
    return recipe_of(Changes(optimizer=name, values=values, **more)).descent.optimizer


def test_single_values_change_the_optimizer_of_its_flag():
    assert optimizer_of("LBFGS", "descent.optimizer.history=5") == optimizers.LBFGS(history=5)
    whole = ("descent.optimizer=RMSprop", "descent.optimizer.learning_rate=0.5")
    assert optimizer_of("Adam", *whole[1:]) == optimizers.Adam(learning_rate=0.5)
    assert optimizer_of("Adam", *whole) == optimizers.Adam(learning_rate=0.5)  # the flag overrides
    assert optimizer_of("Adam", *whole, learning_rate=2.0) == optimizers.Adam(learning_rate=2.0)
    with pytest.raises(ValueError, match="^`values`: .*'descent.optimizer.history'"):
        optimizer_of("Adam", "descent.optimizer.history=5")
    # Values that the recipe's own optimiser, LBFGS, refuses.
    averaged = recipe_of(Changes(optimizer="Adam", values=("descent.average_decay=0.5",)))
    assert averaged == DEFAULT.replace(optimizer=optimizers.Adam(), average_decay=0.5)
    # A refused optimiser has the name of its flag, and step lengths suit the new coordinates.
    with pytest.raises(ValueError, match="^`optimizer`: LBFGS "):
        optimizer_of("LBFGS", "terms.style_weight=3", recipe="tf")
    for raw in ("raw", '"raw"'):  # quotation marks are optional
        raw_adam = (f"descent.coordinates={raw}", "descent.optimizer.b1=0.5")
        assert optimizer_of("Adam", *raw_adam, recipe="gatys-pytorch") == optimizers.Adam(b1=0.5)
    said = (
        "^`values`: `descent.coordinates`: there is no pixel convention 'raww'; did you mean 'raw'"
    )
    with pytest.raises(ValueError, match=said):
        optimizer_of("Adam", "descent.coordinates=raww", recipe="tf")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"recipe": "nnst", "values": ("terms.tv_weight=1",)}, "`optimizer`: LBFGS undoes bad"),
        (  # the recipe clips, which LBFGS refuses first
            {"recipe": "crowsonkb", "values": ("descent.clip=false",)},
            "`optimizer`: LBFGS undoes updates that raise",
        ),
        (
            {"values": ("descent.last_learning_rate=1",)},
            "`values`: `descent.last_learning_rate`: LBFGS has no",
        ),
        (
            {"values": ("descent.average_decay=0.5",)},
            "`values`: `descent.average_decay`: LBFGS undoes updates that raise",
        ),
        ({"values": ("descent.clip=true",)}, "`optimizer`: LBFGS undoes bad updates exactly"),
        (
            {"values": ("descent.clip=true",), "optimizer": None},
            "`values`: `descent.optimizer`: LBFGS undoes bad updates exactly",
        ),
        (
            {"values": ("descent.schedule=OneScale",), "recipe": "crowsonkb", "optimizer": "Adam"},
            "`values`: `descent.steps`: None leaves",
        ),
        ({"values": ("terms.tv_weight=1",), "colors": "red"}, "`colors`: there is no choice"),
    ],
)
def test_a_value_that_set_does_not_have_is_refused_by_the_flag_that_excludes_it(changes, said):
    with pytest.raises(ValueError) as caught:
        recipe_of(Changes(**{"optimizer": "LBFGS", **changes}))
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(("quality", "steps"), [("draft", 30), ("good", 90), ("best", 300)])
def test_a_quality_is_a_number_of_updates(quality, steps):
    assert recipe_of(Changes(quality=quality)) == DEFAULT.replace(steps=steps)


@pytest.mark.parametrize("none", ["none", '"none"'])
def test_a_quality_goes_with_a_set_number_of_none(none):
    values = (f"descent.steps={none}", "descent.schedule=GeometricScales")
    found = recipe_of(Changes(recipe="gram", quality="draft", values=values)).descent
    expected = recipe_of(Changes(recipe="gram", quality="draft")).descent.steps
    assert (found.steps, found.schedule) == (expected, recipes.GeometricScales())
    with pytest.raises(ValueError, match="^`quality`: draft and 7 steps were given"):
        recipe_of(Changes(recipe="gram", quality="draft", values=values, steps=7))


def test_a_number_of_updates_allows_a_schedule_without_numbers_of_its_own():
    values = ("descent.schedule=OneScale",)
    found = recipe_of(Changes(recipe="crowsonkb", values=values, steps=7)).descent
    assert (found.steps, found.schedule) == (7, recipes.OneScale())
    with pytest.raises(ValueError, match="^`values`: `descent.steps`: None .* OneScale has no"):
        recipe_of(Changes(recipe="crowsonkb", values=values))
    with pytest.raises(ValueError, match="^`steps`: expected 1 or more, got 0"):
        recipe_of(Changes(recipe="crowsonkb", values=values, steps=0))


def test_no_flags_give_the_default_recipe():
    assert recipe_of(Changes()) == DEFAULT


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pool": "mx"}, "`pool`: there is no pooling 'mx'; did you mean 'max'?"),
        ({"precision": "float3"}, "`precision`: there is no precision 'float3'; did you mean"),
        (
            {"tile": "of"},
            "`tile`: expected 'auto', 'off' or a number of pixels such as 512, got 'of'",
        ),
        ({"tile": "63"}, "`tile`: expected "),
        ({"steps": 0}, "`steps`: expected 1 or more, got 0"),
        ({"style_weight": -1.0}, "`style_weight`: expected 0 or more, got -1.0"),
        ({"style_weight": float("nan")}, "`style_weight`: expected a finite number, got nan"),
        ({"tv_weight": float("inf")}, "`tv_weight`: expected a finite number, got inf"),
        ({"learning_rate": 0.0}, "`learning_rate`: expected more than 0, got 0.0"),
        ({"optimizer": "Adm"}, "`optimizer`: there is no optimizer 'Adm'; did you mean 'Adam'?"),
        ({"optimizer": "lbfgs"}, "`optimizer`: LBFGS "),
        ({"style_layer": ("relu9_1",)}, "`style_layer`: "),
        ({"strength": 2.0}, "`strength`: expected 0 to 1"),
        (
            {"values": ("terms.style_weight=1 terms.tv_weight=2",)},
            "`values`: 'terms.style_weight=1 terms.tv_weight=2' sets terms.tv_weight too, after a "
            "space; write `--set` before each",
        ),
        (
            {"recipe": "gram", "quality": "god"},
            "`quality`: there is no quality 'god'; did you mean 'good'?",
        ),
        (
            {"quality": "good", "recipe": "tf"},
            "`quality`: recipe 'tf' has the number of updates of",
        ),
        ({"quality": "good", "steps": 9}, "`quality`: good and 9 steps were given"),
        (
            {"recipe": "gram", "quality": "good", "values": ("descent.steps=9",)},
            "`quality`: good and 9 steps were given",
        ),
        ({"size": "large"}, "`size`: expected a number of pixels"),
        ({"values": ("terms.style_wieght=3",)}, "`values`: there is no key 'terms.style_wieght'"),
        (
            {"recipe": "default", "learning_rate": 0.3},
            "`learning_rate`: the optimizer of recipe 'default' is LBFGS, which has no learning rate;",
        ),
    ],
)
def test_a_bad_flag_is_refused_by_its_name(changes, message):
    with pytest.raises(ValueError) as caught:
        recipe_of(Changes(**{"recipe": "tf", **changes}))
    assert str(caught.value).startswith(message)
