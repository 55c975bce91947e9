"""Size rules: the published sizes of known pictures, and what a caller may give."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nst_jax as nst
from nst_jax import recipes, texturing
from nst_jax.recipes import sizes
from nst_jax.recipes.sizes import Area, AsIs, Exact, LongEdge, ShortEdge, with_size


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(768, 1024, (512, 682)), (768, 970, (512, 646))],
    ids=["tuebingen", "starry-night"],
)
def test_gatys_pytorch_gives_the_sizes_of_its_notebook(height, width, expected):
    assert recipes.GATYS_PYTORCH.pictures.size.shape(height, width) == expected


def test_tf_truncates_in_float32():
    rule = recipes.TF.pictures.size
    assert rule.shape(768, 1024) == (384, 512)
    assert rule.shape(333, 500) == (340, 512)  # 340.99 is cut
    # Where float64's product stays under a whole number and float32's does not, and conversely.
    differing = [
        (side, edge)
        for edge in range(513, 1200)
        for side in range(16, edge, 7)
        if rule.shape(side, edge)[0] != int(side * (512 / edge))
    ]
    assert differing
    for side, edge in differing[:20]:
        scale = np.float32(512) / np.float32(edge)
        assert rule.shape(side, edge) == (
            int(np.float32(side) * scale),
            int(np.float32(edge) * scale),
        )


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("udacity", (540, 800), (400, 592)),  # octopus.jpg
        (
            "udacity",
            (263, 192),
            (360, 263),
        ),  # both sides under 400: the shorter one gets the longer one's length
        ("keras-io", (607, 910), (400, 599)),  # paris.jpg
        ("coursera-tf1", (300, 400), (300, 400)),
        ("pytorch-tutorial", (600, 444), (691, 512)),
        ("gatys-pytorch-800", (768, 1024), (800, 1066)),
        ("neural-style-pt", (768, 1024), (384, 512)),
        ("pastiche", (768, 1024), (433, 577)),
    ],
)
def test_published_sizes_of_other_presets(name, size, expected):
    assert recipes.PRESETS[name].pictures.size.shape(*size) == expected


def test_neural_style_pt_truncates_after_the_scale():
    rule = recipes.NEURAL_STYLE_PT.pictures.size
    differing = [edge for edge in range(513, 1200) if rule.shape(edge, edge - 1)[0] != 512]
    assert differing  # there 512 / edge * edge is a little under 512
    assert all(rule.shape(edge, edge - 1)[0] == 511 for edge in differing)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [(sizes.LikeContent(), (30, 50)), (sizes.PixelsOfContent(), (55, 28))],
)
def test_a_style_may_follow_the_canvas(rule, expected):
    assert rule.beside((30, 50), 200, 100) == expected
    with pytest.raises(ValueError, match="`size`: this rule is for styles"):
        rule.shape(200, 100)
    assert rule.resized(64) == LongEdge(64)


def test_coursera_squashes():
    assert recipes.COURSERA_TF2.pictures.size.shape(300, 400) == (400, 400)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (LongEdge(100), (50, 100)),
        (ShortEdge(100), (100, 200)),
        (Area(100), (71, 141)),
        (Exact(30, 40), (30, 40)),
        (AsIs(), (300, 600)),
    ],
)
def test_rules_by_hand(rule, expected):
    assert rule.shape(300, 600) == expected
    transposed = rule.shape(600, 300)
    assert transposed == (
        expected[::-1] if not isinstance(rule, Exact) else expected
    ) or isinstance(rule, AsIs)


def test_a_longer_side_may_have_an_upper_limit():
    rule = sizes.LongEdgeUpTo(512)
    assert rule.shape(300, 600) == (256, 512) and rule.shape(600, 300) == (512, 256)
    assert rule.shape(300, 511) == (300, 511) and rule.shape(20, 30) == (20, 30)
    assert with_size(rule, 256) == sizes.LongEdgeUpTo(256)


def test_small_pictures_are_enlarged_too():
    assert LongEdge(512).shape(100, 50) == (512, 256)


def test_nothing_becomes_less_than_a_pixel():
    for rule in (LongEdge(16), Area(16), LongEdge(16, sizes.truncated), recipes.TF.pictures.size):
        assert min(rule.shape(1, 100_000)) >= 1


def test_a_rules_number_is_a_leaf_and_its_rounding_is_not():
    assert jax.tree.leaves(ShortEdge(300, sizes.truncated)) == [300]
    assert jax.tree.structure(ShortEdge(1)) != jax.tree.structure(ShortEdge(1, sizes.truncated))


# --- Sizes that a caller may give -----------------------------------------------------------------

RULE = ShortEdge(512, sizes.truncated)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (None, RULE),
        (256, replace(RULE, pixels=256)),
        (np.int64(256), replace(RULE, pixels=256)),
        ("256", replace(RULE, pixels=256)),
        ("long:300", LongEdge(300)),
        ("short:300", ShortEdge(300)),
        ("area:300", Area(300)),
        ("400x300", Exact(300, 400)),
        (" AS-IS ", AsIs()),
        (Area(99), Area(99)),
    ],
)
def test_a_number_keeps_the_rules_meaning_and_text_replaces_it(said, expected):
    assert with_size(RULE, said) == expected


def test_a_number_given_to_a_squash_is_its_longer_side():
    assert with_size(Exact(400, 400), 100) == Exact(100, 100)
    assert with_size(Exact(300, 400), 200) == Exact(150, 200)


def test_a_number_given_to_as_is_is_a_longer_side():
    assert with_size(AsIs(), 64) == LongEdge(64)


@pytest.mark.parametrize(
    "said", [15, 70_000, "15", "long:15", "10x400", "as is", "", "512px", "-5"]
)
def test_what_is_no_size_is_refused(said):
    with pytest.raises(ValueError, match="^`style_size`: expected"):
        with_size(RULE, said, argument="style_size")


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize("said", [True, 2.5, [512], b"512"])
def test_what_is_no_kind_of_size_is_refused(said):
    with pytest.raises(TypeError, match="^`size`: expected a number of pixels, 'long:N'"):
        with_size(RULE, said)


@pytest.mark.parametrize(
    "rule", [LongEdge(), sizes.LongEdgeUpTo(), ShortEdge(), Area(), Exact(3, 4), AsIs()]
)
def test_every_rule_has_a_text_and_follows_the_protocol(rule):
    assert isinstance(rule, sizes.SizeRule)
    assert len(str(rule)) > 4 and "(" not in str(rule)


# --- Rules of users -------------------------------------------------------------------------------


@jax.tree_util.register_static
@dataclass(frozen=True)
class Own:
    """A rule that returns what it is told to."""

    found: Any

    def shape(self, height, width):
        return self.found

    def resized(self, pixels):
        return self.found


@pytest.mark.parametrize("found", [None, 32, (32,), (32.0, 24.0), "32x24", (1, 2, 3)])
def test_what_an_own_rule_returns_is_checked(found, as_users_do):
    recipe, picture = recipes.GRAM.replace(size=64), np.zeros((40, 48, 3), np.float32)
    message = (
        r"`: for a picture of 48x40 px, the size rule \(Own\(.*\)\) returned .*two whole numbers"
    )
    for name in ("size", "style_size"):
        with pytest.raises(TypeError, match=f"^`{name}{message}"):
            nst.plan((40, 48), (40, 48), recipe=recipe.replace({f"pictures.{name}": Own(found)}))
        with pytest.raises(TypeError, match=f"^`{name}{message}"):
            nst.instant(picture, picture, **{name: Own(found)})
    with pytest.raises(TypeError, match=f"^`size{message}"):
        texturing.canvas_shape(None, (40, 48), recipe.replace(size=Own(found)))
    with pytest.raises(TypeError, match="^`size`: the method `resized` .*; expected a size rule"):
        with_size(Own(found), 64)


def test_an_own_rule_may_return_any_whole_numbers():
    for found in ([32, 24], (np.int64(32), jnp.asarray(24)), np.asarray([32, 24])):
        shape = sizes.new_shape(Own(found), (40, 48))
        assert shape == (32, 24) and all(type(side) is int for side in shape)


def test_the_class_of_a_rule_is_refused(as_users_do):
    for refusing in (
        lambda: with_size(LongEdge(64), LongEdge),
        lambda: recipes.check(recipes.GRAM.replace(size=LongEdge)),
    ):
        with pytest.raises(TypeError, match=r"^`size`: .*got the class \w+; write `LongEdge\(\)`"):
            refusing()
