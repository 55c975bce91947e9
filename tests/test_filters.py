"""The resize filters of recipes that work on 8-bit pixels, against Pillow's and by hand."""

import math

import numpy as np
import pytest
from PIL import Image as Pillow

from nst_jax import images
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
