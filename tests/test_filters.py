"""The resize filters of recipes: those on 8-bit pixels, against Pillow's and by hand; users' own."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image as Pillow

import nst_jax as nst
from nst_jax import images, optimize, prepare, recipes
from nst_jax.images.on_host import resized_on_host
from nst_jax.images.resizing import antialiased
from nst_jax.recipes import filters
from tests import small


@pytest.mark.parametrize(
    ("filter_", "resampling"),
    [
        (filters.pillow_bilinear, Pillow.Resampling.BILINEAR),
        (filters.pillow_bicubic, Pillow.Resampling.BICUBIC),
    ],
)
@pytest.mark.parametrize("shape", [(11, 17), (40, 50)])
def test_pillows_filters_give_pillows_pixels(filter_, resampling, shape):
    eight = np.round(small.picture("chelsea", 24, 32) * 255).astype(np.uint8)
    expected = np.asarray(Pillow.fromarray(eight).resize(shape[::-1], resampling))
    found = np.asarray(filter_(eight.astype(np.float32) / 255, shape))
    np.testing.assert_array_equal(found, expected.astype(np.float32) / 255)


def old_pillow(picture, shape):
    """Resize 8-bit pixels [h, w, 3], one by one, as Pillow 2.6 does for BILINEAR."""
    (rows, columns, _), (height, width) = picture.shape, shape

    def at(row, column, band):
        return int(picture[min(max(row, 0), rows - 1), min(max(column, 0), columns - 1), band])

    found = np.empty((height, width, 3), np.uint8)
    for i, j, band in np.ndindex(found.shape):
        y, x = i * (rows / height) - 0.5, j * (columns / width) - 0.5
        row, column = math.floor(y), math.floor(x)
        pair = []
        for line in (row, row + 1):
            left, right = at(line, column, band), at(line, column + 1, band)
            pair.append(left + (right - left) * (x - column))
        found[i, j, band] = int(pair[0] + (pair[1] - pair[0]) * (y - row))
    return found


@pytest.mark.parametrize("shape", [(11, 17), (40, 50), (24, 9), (24, 32)])
def test_the_filter_of_old_pillow_pixel_by_pixel(shape):
    eight = np.round(small.picture("chelsea", 24, 32) * 255).astype(np.uint8)
    expected = eight if shape == (24, 32) else old_pillow(eight, shape)
    found = np.asarray(filters.old_pillow_bilinear(eight.astype(np.float32) / 255, shape))
    np.testing.assert_array_equal(found, expected.astype(np.float32) / 255)


@pytest.mark.parametrize(
    ("row", "new", "expected"),
    [
        # Positions -1/2 and 3/2. The first lies outside and has the edge's value; nothing is averaged
        # over more than two pixels, and 30.5 is truncated.
        ([0, 30, 31, 90], 2, [0, 30]),
        ([10, 250, 20, 30, 40, 50], 2, [10, 25]),  # positions -1/2 and 5/2: 250 is never seen
        ([7, 8, 9], 2, [7, 8]),  # positions -1/2 and 1
        ([0, 100], 4, [0, 0, 50, 100]),  # positions -1/2, 0, 1/2, 1
        ([9], 3, [9, 9, 9]),
    ],
)
def test_the_filter_of_old_pillow_by_hand(row, new, expected):
    across = np.asarray([row], np.float32) / 255
    for picture, shape in ((across, (1, new)), (across.T, (new, 1))):
        grey = np.rint(images.old_bilinear_8bit(picture, shape) * 255)
        assert grey.ravel().tolist() == expected
        three = np.repeat(picture[..., None], 3, -1)
        found = np.rint(np.asarray(filters.old_pillow_bilinear(three, shape)) * 255)
        assert found[..., 1].ravel().tolist() == expected


# --- Filters of users -----------------------------------------------------------------------------


class AsArray:
    """A picture of another package, of which NumPy can make an array."""

    def __init__(self, image):
        self._image = image

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._image, dtype)


GOOD = [
    np.asarray,
    lambda image: np.asarray(image, np.float64),
    lambda image: jnp.asarray(image, jnp.bfloat16),
    AsArray,
]
BAD = [
    (lambda image: None, TypeError, r"returned None, expected an array of the shape \[24, 32, 3\]"),
    (lambda image: image.tolist(), TypeError, "returned a list, expected an array of the shape"),
    (lambda image: image[:4], ValueError, r"returned an array .*\[4, 32, 3\], expected the shape"),
    (lambda image: image[..., :1], ValueError, r"returned .*\[24, 32, 1\], expected the shape"),
    (lambda image: images.to_uint8(image), ValueError, "returned an array of uint8 .* floating"),
    (lambda image: image * np.nan, ValueError, "returned NaN or infinite values"),
]


def own_filter(convert):
    """Return a filter of a user's own that returns what `convert` makes of the resized picture."""
    return lambda image, shape: convert(np.asarray(antialiased(image, shape)))


@pytest.fixture
def large():
    return small.picture("chelsea", 48, 64)


@pytest.mark.parametrize("convert", GOOD)
def test_an_own_filter_may_return_any_floating_point_array(convert, large, as_users_do):
    recipe = recipes.TF.replace(resize=own_filter(convert))
    wanted = antialiased(large, (24, 32))
    for found in (
        prepare.resized(large, (24, 32), recipe),
        prepare.resized_without_compiling(large, (24, 32), recipe),
        optimize.enlarged(jnp.asarray(large), (24, 32), own_filter(convert), False),
    ):
        assert found.dtype == np.float32
        assert_allclose(found, wanted, atol=4e-3)


@pytest.mark.parametrize(("convert", "error", "message"), BAD)
def test_what_an_own_filter_returns_is_checked(convert, error, message, params, large, as_users_do):
    own = own_filter(convert)
    recipe = recipes.TF.replace(resize=own, size="32x24", style_size="32x24")
    for resized in (prepare.resized, prepare.resized_without_compiling):
        with pytest.raises(error, match=f"^`resize`: the filter {message}"):
            resized(large, (24, 32), recipe)
    with pytest.raises(error, match=f"^`resize`: the filter {message}"):
        next(nst.paint(params, large, large, recipe=recipe))
    with pytest.raises(error, match=f"^`enlarge`: the filter {message}"):
        optimize.enlarged(jnp.asarray(large), (24, 32), own, False)
    with pytest.raises(error, match=f"^`enlarge`: the filter {message}"):
        resized_on_host(large, (24, 32), own, argument="enlarge")
