"""The names of the 26 styles, and mixtures of them."""

import numpy as np
import pytest

from nst_jax.feed_forward import style_names, styles26
from nst_jax.feed_forward.style_names import NAMES


def test_there_is_one_name_for_each_style_of_the_network():
    assert len(NAMES) == styles26.STYLES == len(set(NAMES))
    assert all(name.isalpha() and name.islower() and len(name) <= 10 for name in NAMES)
    assert all(style_names.LOOKS.values())


def test_a_style_has_a_name_and_a_number():
    for number, name in enumerate(NAMES):
        for style in (name, name.upper(), f" {name} ", number, np.int64(number), str(number)):
            assert style_names.number_of(style) == number


@pytest.mark.parametrize(
    ("style", "said"),
    [
        ("mosiac", "there is no style 'mosiac'; did you mean 'mosaic'?"),
        ("wave", "did you mean 'waves'?"),
        ("xyzzy", "expected one of 'ochre', 'comic'"),
        (26, "there is no style 26; they are numbered 0 to 25"),
        ("99", "there is no style 99; they are numbered 0 to 25"),
        (-1, "there is no style -1"),
        (True, "there is no style True"),
    ],
)
def test_an_unknown_style_is_refused_with_the_nearest_name(style, said):
    with pytest.raises(ValueError, match="`style`: ") as error:
        style_names.number_of(style)
    assert said in str(error.value)
    assert not style_names.is_name(style)


def test_shares_add_up_to_one():
    shares = style_names.mixture_of({"waves": 3, 15: 1, "comic": 0})
    assert shares.dtype == np.float32 and shares.shape == (26,)
    assert shares[24] == 0.75 and shares[15] == 0.25 and np.count_nonzero(shares) == 2


@pytest.mark.parametrize(
    ("styles", "said"),
    [
        ({"mosaic": 1, 15: 1}, "'mosaic' is given twice"),
        ({"mosaic": 0}, "all shares are 0"),
        ({"mosaic": -1, "waves": 2}, "expected 0 or more, got -1"),
        ({"mosaic": float("nan")}, "expected a finite number"),
        ({"mosaic": 1e308, "waves": 1e308}, "expected less than 1e+30, got 1e+308"),
        ({}, "all shares are 0"),
    ],
)
def test_a_mixture_that_means_nothing_is_refused(styles, said):
    with pytest.raises(ValueError, match="`style`: ") as error:
        style_names.mixture_of(styles)
    assert said in str(error.value)
