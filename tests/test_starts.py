"""What a canvas starts from."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import batch_canvas, prepare, recipes, vgg
from nst_jax.recipes import starts
from nst_jax.recipes.starts_on_host import image_on_host
from tests import small

STARTS = [
    starts.FromContent(),
    starts.FromStyle(),
    starts.Blank(),
    starts.Noise(),
    starts.WhiteNoise(),
    starts.MeanNoise(),
    starts.StyleMeanNoise(),
    starts.Blend(0.6),
    starts.Jitter(0.25),
]
drawn = [
    starts.Noise(),
    starts.WhiteNoise(),
    starts.MeanNoise(5.0),
    starts.StyleMeanNoise(0.05),
    starts.Blend(0.6),
    starts.Jitter(0.25),
]
name = repr


@pytest.mark.parametrize("start", STARTS, ids=name)
def test_a_start_has_the_contents_shape_and_dtype_and_stays_in_range(start, content, style, key):
    image = start(content, style, key)
    assert image.shape == content.shape and image.dtype == content.dtype
    assert image.min() >= 0 and image.max() <= 1


@pytest.mark.parametrize("start", STARTS, ids=name)
def test_a_start_can_be_traced(start, content, style, key):
    compiled = jax.jit(lambda *args: start(*args))(content, style, key)
    assert_allclose(compiled, start(content, style, key), atol=1e-6)


def test_content_is_the_content(content, style, key):
    assert_array_equal(starts.FromContent()(content, style, key), content)


def test_style_is_brought_to_the_contents_shape(content, key):
    assert_array_equal(starts.FromStyle()(content, content[::-1], key), content[::-1])


def test_blank_is_middle_grey(content, style, key):
    assert_array_equal(starts.Blank()(content, style, key), np.full(content.shape, 0.5))


def test_noise_has_the_styles_colours(key):
    # Colours far from 0 and 1, so that nothing is clipped.
    style = jnp.asarray([[[0.3, 0.5, 0.6]], [[0.4, 0.5, 0.7]]])
    image = starts.Noise()(jnp.zeros((100, 100, 3)), style, key)
    # 10 000 draws: the error of the mean is a hundredth of the deviation, 0.05.
    assert_allclose(jnp.mean(image, axis=(0, 1)), [0.35, 0.5, 0.65], atol=3e-3)
    assert_allclose(jnp.std(image, axis=(0, 1)), [0.05, 0.0, 0.05], atol=3e-3)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 1.0])
def test_blend_mixes_content_and_noise(ratio, content, style, key):
    noise = starts.Noise()(content, style, key)
    expected = (1 - ratio) * content + ratio * noise
    assert_allclose(starts.Blend(ratio)(content, style, key), expected, atol=1e-6)


def test_jitter_moves_pixels_by_at_most_its_amplitude_both_ways(content, style, key):
    moved = starts.Jitter(0.1)(content, style, key) - content
    assert -0.1 <= moved.min() < -0.09 and 0.09 < moved.max() <= 0.1 + 1e-6


@pytest.mark.parametrize("start", drawn, ids=name)
def test_noise_depends_on_the_key(start, content, style):
    first, again, other = (start(content, style, jax.random.key(seed)) for seed in (0, 0, 1))
    assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01


def test_mean_noise_is_the_networks_zero_but_for_a_little(content, style, key):
    for white, pixels in ((255.0, vgg.CAFFE_BGR), (256.0, vgg.CAFFE_BGR_256)):
        image = starts.MeanNoise(deviation=0.5, white=white)(content, style, key)
        noise = pixels.encode(image)
        # 2304 draws: the error of the deviation is about 2 %; float32 rounds 255 to 1.5e-5.
        assert_allclose(jnp.std(noise), 0.5, rtol=0.08)
        assert_allclose(jnp.mean(noise), 0.0, atol=0.05)


def test_style_mean_noise_is_the_styles_colour_but_for_a_little(content, style, key):
    image = starts.StyleMeanNoise(deviation=0.02)(content, style, key)
    noise = np.asarray(image) - np.mean(np.asarray(style, np.float64), axis=(0, 1))
    # 768 draws for each channel: the error of the mean is about 7e-4, that of the deviation 3 %.
    assert_allclose(np.mean(noise, axis=(0, 1)), np.zeros(3), atol=3e-3)
    assert_allclose(np.std(noise, axis=(0, 1)), np.full(3, 0.02), rtol=0.1)


def test_the_courses_start_is_numpys_legacy_draw(content, style, key):
    image = starts.SeededBlend()(content, style, key)
    generator = np.random.RandomState(3)  # what `np.random.seed` seeds
    generator.randn(), generator.randn()
    noise = generator.uniform(-20, 20, (1, *content.shape)).astype("float32")
    means = np.array([123.68, 116.779, 103.939]).reshape((1, 1, 1, 3))
    notebook = noise * 0.6 + (np.asarray(content, np.float64)[None] * 255 - means) * (1 - 0.6)
    # As float32 in [0, 1], whose rounding error of 6e-8 is 1.5e-5 of 255.
    assert_allclose(vgg.CAFFE_BGR.encode(image)[..., ::-1], notebook[0], atol=5e-5)


def test_the_courses_start_is_bit_by_bit_the_notebooks(content):
    eight = np.round(np.asarray(content) * 255).astype(np.uint8)
    generator = np.random.RandomState(3)  # what `np.random.seed` seeds
    generator.randn(), generator.randn()
    noise = generator.uniform(-20, 20, (1, *eight.shape)).astype("float32")
    means = np.array([123.68, 116.779, 103.939]).reshape((1, 1, 1, 3))
    notebook = (noise * 0.6 + (eight[None] - means) * (1 - 0.6)).astype("float32")
    recipe = recipes.COURSERA_TF1
    read = jnp.asarray(eight.astype(np.float32) / 255)
    canvas = prepare.exact_canvas(read, recipe, None)
    assert canvas.dtype == np.float32
    assert_array_equal(canvas[..., ::-1], notebook[0])
    assert prepare.exact_canvas(read, recipes.TF, None) is None
    assert prepare.exact_canvas(read, recipe, starts.FromContent()) is None


@pytest.mark.slow
def test_a_run_starts_from_the_courses_canvas_to_the_bit(params, content, style, key, monkeypatch):
    recipe = small.shallowest(recipes.COURSERA_TF1, steps=1)
    recipe = replace(
        recipe, pictures=replace(recipe.pictures, start=(start := starts.SeededBlend()))
    )
    shown = next(nst.paint(params, content, style, recipe=recipe)).image
    exact = prepare.exact_canvas(jnp.asarray(content), recipe, None)
    decode = jax.jit(lambda canvas: jnp.clip(vgg.CAFFE_BGR.decode(canvas), 0.0, 1.0))
    assert_array_equal(shown, decode(exact))
    image = starts.SeededBlend()(jnp.asarray(content), jnp.asarray(style), key)
    rounded = vgg.CAFFE_BGR.encode(image)
    assert not np.array_equal(rounded, exact) and not np.array_equal(shown, decode(rounded))
    given = []
    run = batch_canvas.PROGRAMS.run

    def noted(*args, **options):
        given.append(np.asarray(args[1].pending))
        return run(*args, **options)

    monkeypatch.setattr(batch_canvas, "PROGRAMS", batch_canvas.PROGRAMS._replace(run=noted))
    for styles, init in (([style, style], None), (style, starts.same_start(start, 7))):
        nst.stylize_many(params, content, styles, recipe=recipe, init=init)
        for canvas in given[0]:  # the first call of the loop measures the start
            assert_array_equal(canvas, exact)
        given.clear()


def test_numbers_of_starts_are_leaves():
    assert jax.tree.leaves(starts.Blend(0.3)) == [0.3]
    assert jax.tree.leaves(starts.Jitter(0.1)) == [0.1]


# --- Checks ---------------------------------------------------------------------------------------

FAST = small.quickest(recipes.TF, steps=1)
WRONG = [
    (
        starts.Blend(5),
        ValueError,
        r"`ratio`: expected 0 to 1 \(0 is the content, 1 is noise\), got 5",
    ),
    (starts.Blend("a"), TypeError, "`ratio`: expected a number, got 'a'"),
    (starts.MeanNoise(-1), ValueError, "`deviation`: expected 0 or more, got -1"),
    (starts.MeanNoise(white=0), ValueError, "`white`: expected more than 0, got 0"),
    (starts.Jitter(np.nan), ValueError, "`amplitude`: expected a finite number, got nan"),
    (starts.SeededBlend(seed=-3), ValueError, "`seed`: expected 0 or more, got -3"),
    (
        starts.SeededBlend(seed=2**32),
        ValueError,
        "`seed`: expected less than 4294967296, got 4294967296",
    ),
    (starts.SeededBlend(seed=1.5), TypeError, "`seed`: expected a whole number, got 1.5"),
    (starts.same_start(starts.Blend(2), 0), ValueError, "`ratio`: .* got 2"),
]


@pytest.mark.parametrize(("start", "error", "message"), WRONG, ids=name)
def test_numbers_of_a_start_are_checked_in_a_recipe_and_as_init(
    start, error, message, params, content, style
):
    with pytest.raises(error, match=f"^{message}"):
        recipes.check(recipes.TF.replace(start=start))
    for verb in (nst.paint, nst.stylize_many):
        with pytest.raises(error, match=f"^{message}"):
            verb(params, content, style, recipe=FAST, init=start)


class MyNoise(starts.Noise):
    """A start of a user's own, which is no pytree."""


class MyBlend(starts.Blend):
    """A start of a user's own, whose number may be anything."""


@pytest.mark.parametrize("start", [MyNoise(), MyBlend(-2)], ids=name)
def test_a_subclass_of_a_start_is_a_start_of_a_users_own(start, params, content, style, key):
    starts.check_start_or_image("init", start)
    assert recipes.check(FAST.replace(start=start)).pictures.start is start
    images = nst.paint(params, content, style, recipe=FAST, init=start)
    assert np.isfinite(images.finish().image).all()


def test_the_name_of_a_start_is_refused_with_the_start(params, content, style):
    for name, start in (("noise", "Noise"), ("from_content", "FromContent")):
        with pytest.raises(TypeError, match=rf"^`init`: .*'{name}'; .*starts.{start}\(\)` is a"):
            nst.paint(params, content, style, recipe=FAST, init=name)


def test_what_is_no_start_is_refused(params, content, style):
    sweep = starts.Blend(np.asarray([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"^`ratio`: expected one number, .*shape \[2\]; all"):
        nst.paint(params, content, style, recipe=FAST, init=sweep)
    with pytest.raises(TypeError, match=r"^`start`: .*got the class \w+; write `Blend\(\)`"):
        recipes.check(FAST.replace(start=starts.Blend))
    for no_start in (None, 3, np.zeros((8, 8, 3))):
        with pytest.raises(TypeError, match="^`start`: expected a start of .*`init=`"):
            recipes.check(FAST.replace(start=no_start))


@pytest.mark.parametrize(
    ("convert", "error", "message"),
    [
        (lambda image: None, TypeError, r"returned None, expected an array of the shape \["),
        (lambda image: image.tolist(), TypeError, "returned a list, expected an array"),
        (lambda image: image[:4], ValueError, r"returned an array .*, expected the shape \["),
        (lambda image: (image * 255).astype(np.uint8), ValueError, "returned an array of uint8"),
        (lambda image: image * np.nan, ValueError, "returned NaN or infinite values"),
    ],
)
def test_what_an_own_start_returns_is_checked(convert, error, message, params, content, style, key):
    def own(content, style, key):
        return convert(np.asarray(content))

    for start in (own, starts.same_start(own, 0)):
        with pytest.raises(error, match=f"^`init`: the start {message}"):
            prepare.starting_image(content, style, FAST, start, key)
    with pytest.raises(error, match=f"^`init`: the start {message}"):
        image_on_host(own, content, style, key, (64, 64))
    with pytest.raises(error, match=f"^`init`: the start {message}"):
        next(nst.paint(params, content, style, recipe=FAST.replace(start=own)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_an_own_start_may_return_another_floating_point_type(dtype, content, style, key):
    def own(content, style, key):
        return np.asarray(content, dtype)

    found = prepare.starting_image(content, style, FAST, own, key)
    assert found.dtype == content.dtype
    assert_allclose(found, content, atol=4e-3)
    assert image_on_host(own, content, style, key, (64, 64)).dtype == np.float32


def test_an_own_start_can_be_traced(content, style, key):
    traced = jax.jit(lambda *args: starts.called(lambda content, *_: 1 - content, *args))
    assert_allclose(traced(content, style, key), 1 - content)
