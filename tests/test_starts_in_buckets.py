"""Starts of pictures in larger arrays: those of the real size, and compiled once for all sizes."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax.images import read_metadata
from nst_jax.recipes import starts, starts_on_host
from nst_jax.recipes.starts_on_host import image_on_host
from tests import small, test_cli
from tests.shell import pixels, write_pictures
from tests.test_buckets import contents, one_tap

here, call = test_cli.here, test_cli.call  # fixtures: a folder with pictures, and the command line

ARRAY = (64, 48)
SIZES = [(64, 48), (63, 47), (17, 48), (64, 16), (37, 29), (16, 16), (1, 1)]
# Starts that use the noise alone; those that use a mean over a picture as well differ by rounding.
OF_NOISE = [starts.WhiteNoise(), starts.MeanNoise(), starts.MeanNoise(0.3, 256.0)]
EVERY = [start() for start in starts.STARTS.values()]


def pictures(size):
    """Return a content of a (height, width), and a style."""
    return small.picture("chelsea", *size), small.picture("starry_night", 40, 33)


def test_every_start_but_instant_compiles_nothing_for_a_size():
    made = (*starts_on_host.ON_HOST, *starts_on_host.POINTWISE, starts.Instant)
    assert len(made) == len(starts.STARTS) and {*made} == {*starts.STARTS.values()}


@pytest.mark.long
@pytest.mark.parametrize("draw", [jax.random.normal, jax.random.uniform])
def test_noise_is_the_beginning_of_the_noise_of_a_larger_array(draw):
    for seed, size in enumerate([*SIZES, (61, 64), (48, 64)]):
        key, count = jax.random.key(seed), 3 * size[0] * size[1]
        line = draw(key, (1, ARRAY[0] * ARRAY[1] + 832, 3)).reshape(-1)  # of 3904 pixels
        assert_array_equal(line[:count].reshape(*size, 3), draw(key, (*size, 3)))


@pytest.mark.parametrize("start", OF_NOISE, ids=repr)
@pytest.mark.parametrize("size", SIZES)
def test_starts_of_noise_are_bit_by_bit_those_of_the_real_size(start, size):
    content, style = pictures(size)
    for key in (jax.random.key(7), jax.random.fold_in(jax.random.key(0), 5)):
        found = image_on_host(start, content, style, key, ARRAY)
        assert found.dtype == np.float32
        assert_array_equal(found, start(jnp.asarray(content), jnp.asarray(style), key))


@pytest.mark.parametrize("start", [one for one in EVERY if one != starts.Instant()], ids=repr)
def test_every_start_is_that_of_the_real_size(start):
    for size in SIZES[1:5]:
        content, style = pictures(size)
        key = jax.random.key(3)
        found = image_on_host(start, content, style, key, ARRAY)
        expected = start(jnp.asarray(content), jnp.asarray(style), key)
        assert found.dtype == np.float32 and found.shape == content.shape
        # Lanczos weights of float32, which resize the style of `FromStyle`, differ the most.
        assert_allclose(found, expected, atol=5e-6)
        kept = image_on_host(starts.same_start(start, 3), content, style, jax.random.key(0), ARRAY)
        assert_array_equal(kept, found)


@pytest.mark.parametrize("start", OF_NOISE, ids=repr)
def test_noise_of_other_generators_is_that_of_the_real_size(start):
    content, style = pictures((37, 29))
    for implementation in ("rbg", "unsafe_rbg"):
        key = jax.random.key(0, impl=implementation)
        found = image_on_host(start, content, style, key, ARRAY)
        assert_array_equal(found, start(jnp.asarray(content), jnp.asarray(style), key))
    with jax.threefry_partitionable(False):
        key = jax.random.key(0)
        found = image_on_host(start, content, style, key, ARRAY)
        assert_array_equal(found, start(jnp.asarray(content), jnp.asarray(style), key))


@pytest.mark.parametrize("start", [one for one in EVERY if one != starts.Instant()], ids=repr)
def test_the_start_of_another_size_compiles_nothing(start, compilations):
    first, other = pictures(SIZES[1]), pictures(SIZES[4])
    image_on_host(start, *first, jax.random.key(3), ARRAY)
    before = compilations()
    image_on_host(start, *other, jax.random.key(3), ARRAY)
    assert compilations() == before


def test_an_image_is_resized_as_without_a_bucket():
    content, style = pictures((37, 29))
    image = small.picture("gravel", 50, 44)
    found = image_on_host(image, content, style, jax.random.key(0), ARRAY)
    expected = nst.images.resizing.antialiased(jnp.asarray(image), (37, 29))
    assert_allclose(found, expected, atol=5e-6)
    with pytest.raises(ValueError, match="^`init`"):
        image_on_host(image + 1, content, style, jax.random.key(0), ARRAY)


def test_an_own_start_is_called_with_the_pictures():
    content, style = pictures((37, 29))
    found = image_on_host(lambda one, *_: 1 - one, content, style, jax.random.key(0), ARRAY)
    assert_array_equal(found, 1 - jnp.asarray(content))
    with pytest.raises(
        ValueError,
        match=r"`init`: the start returned an array .*40, 33, 3\], expected the shape \[37, 29, 3\]",
    ):
        image_on_host(lambda _, other, __: other, content, style, jax.random.key(0), ARRAY)


# --- Runs -----------------------------------------------------------------------------------------

QUICK = ("Noise", "SeededBlend")  # one of the starts that draw noise, and one made by NumPy
SLOW = ("Instant", "image")  # made by a network, and resized
# The others compile nothing for another size, as is checked one by one above.
COST = dict.fromkeys(QUICK, ()) | dict.fromkeys(SLOW, pytest.mark.slow)
INITS = [
    pytest.param(init, id=name, marks=COST.get(name, pytest.mark.long))
    for name, init in zip(
        [*starts.STARTS, "image"], [*EVERY, small.picture("gravel", 50, 44)], strict=True
    )
]


@pytest.mark.parametrize("init", INITS)
def test_another_size_in_a_bucket_compiles_nothing(params, init, compilations):
    styles, recipe = (
        [small.picture("starry_night", 40, 33)],
        one_tap().replace(optimizer=small.ADAM),
    )
    one, *others = contents(((37, 45), (48, 38), (33, 41)))
    found = nst.paint(params, one, styles, recipe=recipe, init=init, bucket=48, every=2)
    first = next(found)
    alone = next(nst.paint(params, one, styles, recipe=recipe, init=init, every=2))
    assert_allclose(first.image, alone.image, atol=2e-5)
    nst.stylize(params, one, styles, recipe=recipe, init=init, bucket=48)
    before = compilations()
    for other in others:
        nst.stylize(params, other, styles, recipe=recipe, init=init, bucket=48)
    assert compilations() == before


@pytest.mark.parametrize("init", INITS)
def test_other_sizes_in_a_bucket_of_many_compile_nothing(params, init, compilations):
    styles, recipe = (
        [small.picture("starry_night", 40, 33)],
        one_tap().replace(optimizer=small.ADAM),
    )
    options = {"recipe": recipe, "init": init, "bucket": 48, "key": jax.random.key(0)}
    pictures, alike = contents(((33, 41), (48, 32))), contents(((45, 37), (45, 37)))
    nst.stylize_many(params, contents(((37, 45), (48, 38))), styles, **options)
    before = compilations()
    assert len(nst.stylize_many(params, pictures, styles, **options)) == 2
    assert nst.stylize_many(params, alike, styles, **options).shape == (2, 48, 39, 3)
    assert compilations() == before


def test_noise_in_a_bucket_is_that_of_the_real_size_in_a_run(params):
    styles, (content,) = [small.picture("starry_night", 40, 33)], contents(((37, 45),))
    recipe = replace(one_tap(), pictures=replace(one_tap().pictures, start=starts.WhiteNoise()))
    shown = [
        next(nst.paint(params, content, styles, recipe=recipe, bucket=bucket)).image
        for bucket in (48, "off")
    ]
    assert shown[0].shape == (20, 24, 3)
    assert_array_equal(*shown)


@pytest.mark.slow
@pytest.mark.parametrize(
    "init", ["instant", *(pytest.param(n, marks=pytest.mark.long) for n in ("noise", "photo.png"))]
)
def test_batch_of_other_sizes_compiles_nothing(call, here, compilations, init):
    write_pictures(tall=(60, 41), wide=(33, 60), other=(51, 60), another=(60, 37))
    words = ["--styles", "art.png", "--recipe", "tiny", "--bucket", 64, "--init", init]
    assert call("batch", "tall.png", "wide.png", *words, "-o", "out")[0] == 0
    before = compilations()
    assert call("batch", "other.png", "another.png", *words, "-o", "out")[0] == 0
    assert compilations() == before
    assert {pixels(path).shape for path in here.glob("out/*.png")} >= {(40, 27, 3), (22, 40, 3)}
    assert read_metadata(next(here.glob("out/*.png")))["finished"]
