"""What a recipe does to pictures before the first step, for the published recipes pixel by pixel."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image as Pillow

from nst_jax import images, prepare, recipes, run_scales
from nst_jax.images.resizing import antialiased
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.changes import with_sizes
from nst_jax.run_scales import Scale
from tests import reference, small


@pytest.fixture(scope="module")
def eight():
    """Two 8-bit pictures, as from files."""
    return tuple(
        np.round(small.picture(name, 48, 64) * 255).astype(np.uint8)
        for name in ("chelsea", "starry_night")
    )


def pillow(image, shape, resampling):
    resized = Pillow.fromarray(image).resize(shape[::-1], resampling)
    return np.asarray(resized, np.float32) / 255


@pytest.mark.parametrize("recipe", [recipes.GATYS_PYTORCH, recipes.GATYS_PYTORCH_800])
def test_gatys_pytorch_gets_old_pillows_bilinear_of_the_shorter_side(eight, recipe):
    content, style = eight
    found = prepare.prepare_pictures(content, style[:, :40], with_sizes(recipe, 20))
    assert_array_equal(found.content, images.old_bilinear_8bit(content, (20, 26)))
    # 40 x 48: the style follows its own shorter side.
    assert_array_equal(found.styles[0], images.old_bilinear_8bit(style[:, :40], (24, 20)))


def test_coursera_tf2_gets_pillows_bicubic_squashed(eight):
    found = prepare.prepare_pictures(*eight, with_sizes(recipes.COURSERA_TF2, 30))
    for image, original in zip((found.content, *found.styles), eight, strict=True):
        assert_array_equal(image, pillow(original, (30, 30), Pillow.Resampling.BICUBIC))


def test_tf_gets_tensorflows_bilinear_of_the_longer_side(eight):
    found = prepare.prepare_pictures(*eight, with_sizes(recipes.TF, 37))
    assert found.content.shape == (27, 37, 3)  # 27.75 is cut
    for image, original in zip((found.content, *found.styles), eight, strict=True):
        expected = reference.bilinear(original / 255, (27, 37))
        assert_allclose(image, expected, rtol=0, atol=1e-6)


def test_as_is_leaves_every_pixel(eight):
    for recipe in recipes.PRESETS.values():
        found = prepare.prepare_pictures(*eight, with_sizes(recipe, "as-is"))
        assert_array_equal(found.content, eight[0].astype(np.float32) / 255)
        assert_array_equal(found.styles[0], eight[1].astype(np.float32) / 255)


def test_pictures_are_float32(eight):
    found = prepare.prepare_pictures(
        eight[0].astype(np.float64) / 255, eight[1], with_sizes(recipes.TF, 32)
    )
    assert found.content.dtype == found.styles[0].dtype == jnp.float32


# --- Size of the style ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "style_size", "content_shape", "style_shape"),
    [
        (None, None, (256, 512), (512, 512)),
        (100, None, (50, 100), (100, 100)),
        (None, 100, (256, 512), (100, 100)),
        (100, "short:200", (50, 100), (200, 200)),
        ("as-is", None, (200, 400), (300, 300)),
        ("as-is", 100, (200, 400), (100, 100)),
        ("40x30", None, (30, 40), (40, 40)),
        ("40x30", 100, (30, 40), (100, 100)),
        (sizes.Exact(30, 40), np.int64(100), (30, 40), (100, 100)),
        ("40x30", "short:20", (30, 40), (20, 20)),
        ("short:40", 100, (40, 80), (100, 100)),
    ],
)
def test_the_style_follows_the_contents_rule_unless_it_has_its_own(
    size, style_size, content_shape, style_shape
):
    recipe = with_sizes(recipes.DEFAULT, size, style_size)
    assert run_scales.final_shapes((200, 400), (300, 300), recipe) == (content_shape, style_shape)


def test_a_recipes_own_style_rule_keeps_its_meaning():
    pictures = replace(recipes.DEFAULT.pictures, style_size=sizes.ShortEdge(64))
    recipe = replace(recipes.DEFAULT, pictures=pictures)
    assert with_sizes(recipe, 100).pictures.style_size == sizes.ShortEdge(100)
    assert with_sizes(recipe, 100, 80).pictures.style_size == sizes.ShortEdge(80)
    assert with_sizes(recipe).pictures.style_size == sizes.ShortEdge(64)


WIDE = (200, 400)  # (height, width) of a style, which a canvas of 96 x 72 px would squash


@pytest.mark.parametrize("name", recipes.PRESETS)
def test_an_exact_canvas_leaves_the_style_to_the_recipes_rule(name):
    recipe = recipes.PRESETS[name]
    exact, number = with_sizes(recipe, "96x72"), with_sizes(recipe, "96x72", "96")
    canvas, style = run_scales.final_shapes((300, 400), WIDE, exact)
    assert canvas == (72, 96)
    rule = recipe.pictures.style_size or recipe.pictures.size
    assert type(exact.pictures.style_size) is type(rule)
    if hasattr(rule, "beside"):  # the source gives styles the size of the canvas
        assert style == rule.beside(canvas, *WIDE)
    # A style of the content's proportions gets the canvas' area, by whichever number.
    elif not isinstance(rule, sizes.Exact):
        assert run_scales.final_shapes((300, 400), (300, 400), exact)[1] == (72, 96)
        assert style[1] == pytest.approx(2 * style[0], abs=1)
    assert run_scales.final_shapes((300, 400), WIDE, number)[1] == rule.resized(96).shape(*WIDE)


def test_a_style_that_keeps_its_size_keeps_it_beside_an_exact_canvas():
    recipe = with_sizes(recipes.DEFAULT, "as-is")
    assert run_scales.final_shapes((300, 400), WIDE, with_sizes(recipe, "96x72")) == (
        (72, 96),
        WIDE,
    )


def test_a_number_for_a_recipe_that_squashes_squashes_as_it_does():
    recipe = with_sizes(recipes.COURSERA_TF2, 40)
    assert run_scales.final_shapes((300, 400), WIDE, recipe) == ((40, 40), (40, 40))


def test_messages_name_the_size_that_was_meant():
    with pytest.raises(ValueError, match="^`style_size`: expected"):
        with_sizes(recipes.DEFAULT, 100, "huge")


# --- Scales ---------------------------------------------------------------------------------------


def test_the_style_shrinks_with_the_canvas():
    schedule = recipes.CoarseToFine(smallest=32, share=2.0)
    recipe = replace(
        recipes.DEFAULT, descent=replace(recipes.DEFAULT.descent, schedule=schedule, steps=6)
    )
    assert run_scales.scales_up_to((48, 64), [(60, 40)], recipe) == (
        Scale((24, 32), ((30, 20),), 4),
        Scale((48, 64), ((60, 40),), 2),
    )


def test_a_styles_side_never_falls_under_what_the_network_needs():
    schedule = recipes.CoarseToFine(smallest=32, share=2.0)
    recipe = replace(recipes.DEFAULT, descent=replace(recipes.DEFAULT.descent, schedule=schedule))
    assert run_scales.scales_up_to((64, 64), [(18, 100)], recipe)[0].style_shapes == ((16, 50),)


@pytest.mark.parametrize(
    ("shape", "smallest", "expected"),
    [
        ((384, 512), 128, [(96, 128), (192, 256), (384, 512)]),
        ((100, 120), 128, [(100, 120)]),
        ((20, 600), 128, [(20, 600)]),  # half of it would be under 16 px high
        ((33, 257), 128, [(16, 128), (33, 257)]),
    ],
)
def test_scales_double_up_to_the_final_shape(shape, smallest, expected):
    assert list(recipes.ladder(shape, smallest)) == expected


def test_scales_may_grow_by_a_smaller_ratio():
    for ratio in (1, 1.0000001):  # the second would be a ladder of millions of scales
        with pytest.raises(ValueError, match=f"`ratio`: expected 1.01 or more, got {ratio}"):
            recipes.ladder((400, 400), 200, ratio=ratio)
    scales = recipes.ladder((400, 400), 200, ratio=2**0.5)
    assert scales == ((200, 200), (283, 283), (400, 400))


# --- Start ----------------------------------------------------------------------------------------


def test_the_recipes_start_is_used_unless_another_is_given(content, style, key):
    recipe = recipes.COURSERA_TF2
    jittered = prepare.starting_image(content, style, recipe, None, key)
    assert_array_equal(jittered, starts.Jitter(0.25)(content, style, key))
    assert_array_equal(
        prepare.starting_image(content, style, recipe, starts.Blank(), key),
        np.full(content.shape, 0.5),
    )


def test_a_picture_as_start_is_resized_to_the_canvas(content, style, key):
    eight = np.full((50, 40, 3), 51, np.uint8)
    image = prepare.starting_image(content, style, recipes.TF, eight, key)
    assert image.shape == content.shape
    assert_allclose(image, 0.2, atol=1e-6)


@pytest.mark.parametrize("shape", [(24, 32), (48, 64), (20, 100), (7, 5)])
def test_a_picture_as_start_is_stretched_whatever_its_proportions(content, style, key, shape):
    given = small.picture("gravel", *shape)
    image = prepare.starting_image(content, style, recipes.TF, given, key)
    assert image.shape == content.shape
    assert_allclose(image, antialiased(given, content.shape[:2]), atol=1e-6)


def test_a_picture_of_the_right_size_is_not_copied_but_its_overshoot_is_clipped():
    picture = jnp.full((16, 20, 3), 0.5)
    assert prepare.at_scale(picture, (16, 20)) is picture
    bright = picture + 0.504
    assert float(prepare.at_scale(bright, (16, 20)).max()) == 1.0
