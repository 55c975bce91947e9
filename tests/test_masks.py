"""Masks: their checks, and their values at taps, against receptive fields found by brute force."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nst_jax import vgg
from nst_jax.controls import masks
from nst_jax.vgg import layers
from nst_jax.vgg.taps import LAYERS, halvings
from tests import small

DEEPEST = "relu3_2"
TAPS = ("relu1_1", "preact1_2", "relu2_1", "relu3_1", DEEPEST)


def fields(side, tap, ceil):
    """Return the first and last pixel of each position's receptive field along one side.

    Found by following a position back through the layers, one after the other.
    """
    layer = vgg.layer_of(tap)
    passed = list(LAYERS)[: list(LAYERS).index(layer) + 1]
    lengths = [side]
    for _ in range(halvings(layer)):
        lengths.append((lengths[-1] + ceil) // 2)
    found = []
    for position in range(lengths[-1]):
        first = last = position
        for name in reversed(passed):
            times = halvings(name)
            first, last = max(first - 1, 0), min(last + 1, lengths[times] - 1)
            if name.endswith("_1") and times:
                first, last = 2 * first, min(2 * last + 1, lengths[times - 1] - 1)
        found.append((first, last))
    return found


def by_hand(mask, tap, reach, ceil):
    down, across = (fields(side, tap, ceil) for side in mask.shape)
    decide = np.all if reach == "inside" else np.any
    return np.array(
        [[decide(mask[a : b + 1, c : d + 1] >= 0.5) for c, d in across] for a, b in down], float
    )


def grown(mask, radius):
    wide = np.pad(mask, radius)
    rows, columns = mask.shape
    shifts = range(2 * radius + 1)
    return np.max([wide[i : i + rows, j : j + columns] for i in shifts for j in shifts], axis=0)


def drawing(height, width):
    """Return two soft masks: a disc, and the left side with a hole of one pixel."""
    down, across = np.mgrid[:height, :width]
    disc = 1 - np.hypot(down - height * 0.45, across - width * 0.6) / (0.45 * width)
    half = np.where(across < width * 0.7, 1.0, 0.2)
    half[height // 2, 3] = 0
    return np.stack([np.clip(disc + 0.4, 0, 1), half], -1).astype(np.float32)


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("reach", ["inside", "all"])
def test_a_mask_reaches_a_tap_as_receptive_fields_say(reach, ceil):
    drawn = drawing(45, 39)
    found = masks.at_taps(jnp.asarray(drawn), TAPS, reach=reach, growth=0, ceil=ceil)
    wider = masks.at_taps(jnp.asarray(drawn), TAPS, reach=reach, growth=2, ceil=ceil)
    assert list(found) == list(TAPS)
    for tap in TAPS:
        for number in range(2):
            wanted = by_hand(drawn[..., number], tap, reach, ceil)
            np.testing.assert_array_equal(found[tap][..., number], wanted)
            np.testing.assert_array_equal(wider[tap][..., number], grown(wanted, 2))
    assert all(0 < float(found["relu2_1"][..., number].mean()) < 1 for number in range(2))


@pytest.mark.parametrize("tap", ["relu2_2", "relu4_1"])
def test_the_gradient_of_the_network_sees_the_same_pixels(params, tap):
    network = vgg.Network(pool=layers.average_pool, ceil=True)
    height, width = 35, 41
    image = jnp.asarray(np.random.default_rng(0).random((height, width, 3)), jnp.float32)
    rows, columns = vgg.feature_shape(tap, height, width, True)
    position = rows // 2, columns // 3

    @jax.jit
    @jax.grad
    def seen(image):
        found = vgg.features(params, image, [tap.replace("relu", "preact")], network=network)
        return jnp.sum(jnp.square(*found.values())[position])

    pixels = np.asarray(jnp.abs(seen(image)).sum(-1)) > 0
    one = np.zeros((rows, columns))
    one[position] = 1
    # The tap's position is reached from exactly those pixels that have a gradient.
    (down, across) = (fields(side, tap, True) for side in (height, width))
    (a, b), (c, d) = down[position[0]], across[position[1]]
    box = np.zeros((height, width), bool)
    box[a : b + 1, c : d + 1] = True
    assert not (pixels & ~box).any()
    assert (pixels.any(1) == box.any(1)).all()
    assert (pixels.any(0) == box.any(0)).all()
    mask = jnp.asarray(box[..., None], jnp.float32)
    inside = masks.at_taps(mask, [tap], growth=0, ceil=True)[tap][..., 0]
    assert inside[position] == 1
    smaller = mask.at[a].set(0)
    assert masks.at_taps(smaller, [tap], growth=0, ceil=True)[tap][position] == 0


def test_reach_inside_is_one_minus_reach_all_of_the_complement():
    drawn = jnp.asarray(drawing(40, 36).round())
    inside = masks.at_taps(drawn, TAPS, reach="inside", growth=0)
    touched = masks.at_taps(1 - drawn, TAPS, reach="all", growth=0)
    for tap in TAPS:
        np.testing.assert_array_equal(inside[tap], 1 - touched[tap])


def test_a_resized_mask_keeps_its_soft_edges():
    drawn = jnp.asarray(drawing(64, 48))
    found = masks.at_taps(drawn, TAPS, reach="simple")
    for tap, mask in found.items():
        assert mask.shape == (*vgg.feature_shape(tap, 64, 48, False), 2)
        # Away from the edges, resizing keeps the mean: it averages.
        np.testing.assert_allclose(mask.mean((0, 1)), drawn.mean((0, 1)), atol=0.02)
    assert ((found["relu3_1"] > 0.1) & (found["relu3_1"] < 0.9)).any()


def test_a_full_mask_is_full_everywhere_and_an_empty_one_nowhere():
    both = jnp.stack([jnp.ones((33, 49)), jnp.zeros((33, 49))], -1)
    for reach in masks.REACHES:
        at_taps = jax.jit(partial(masks.at_taps, taps=vgg.TAPS, reach=reach))
        for mask in at_taps(both).values():
            np.testing.assert_array_equal(mask, np.broadcast_to([1.0, 0.0], mask.shape))


def test_masks_are_traceable_and_mapped():
    drawn = jnp.stack([jnp.asarray(drawing(40, 36)), jnp.ones((40, 36, 2))])
    one = jax.jit(lambda m: masks.at_taps(m, TAPS))
    many = jax.jit(jax.vmap(one))(drawn)
    for tap in TAPS:
        np.testing.assert_array_equal(many[tap][0], one(drawn[0])[tap])
    assert one._cache_size() == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"reach": "outside"}, "`reach`: there is no reach 'outside'"),
        ({"growth": -1}, "`growth`: expected 0 or more, got -1"),
        ({"taps": ["relu9_1"]}, "`taps`: there is no VGG-19 tap 'relu9_1'"),
    ],
)
def test_what_no_mask_can_reach_is_refused(options, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        masks.at_taps(jnp.ones((32, 32, 1)), **({"taps": ["relu1_1"]} | options))


def test_a_reach_is_a_name(as_users_do):
    with pytest.raises(TypeError, match="^`reach`: expected a name such as '.*', got 3"):
        masks.at_taps(jnp.ones((32, 32, 1)), ["relu1_1"], reach=3)


def test_float64_masks_stay_float64():
    with small.double():
        found = masks.at_taps(jnp.asarray(drawing(32, 32), jnp.float64), TAPS)
        assert all(mask.dtype == jnp.float64 for mask in found.values())


# --- Checks ---------------------------------------------------------------------------------------

GREY = np.linspace(0, 1, 12).reshape(3, 4)


@pytest.mark.parametrize(
    "given",
    [GREY, GREY[..., None], np.repeat(GREY[..., None], 3, -1), GREY.astype(np.float32)],
    ids=["plain", "one channel", "three", "float32"],
)
def test_masks_are_accepted_with_one_or_three_equal_channels(given):
    found = masks.checked_mask("mask", given)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, GREY, atol=1e-7)


def test_bytes_and_truth_values_are_masks():
    assert masks.checked_mask("mask", np.array([[0, 51, 255]], np.uint8)).tolist() == [
        [0, np.float32(0.2), 1]
    ]
    assert masks.checked_mask("mask", np.array([[True, False]])).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("mask.png", "expected an array .* got str; .*images.load"),
        (np.zeros((4, 4)), "is empty, since all of it is black"),
        (np.full((4, 4), 1e-4), "is empty"),
        (np.full((4, 4), 3.0), r"expected values in \[0, 1\], got 3 to 3"),
        (np.full((4, 4), np.nan), r"expected values in \[0, 1\], got nan"),
        (np.ones((4, 4), int), "expected floating point .* got int64; scale it"),
        (np.ones((2, 4, 4)), r"expected a mask \[height, width\], got shape \[2, 4, 4\]"),
        (np.ones((0, 4)), "expected a mask .* got shape"),
        (np.stack([GREY, GREY, 1 - GREY], -1), "is in colours; .*regions_of_maps"),
    ],
)
def test_what_is_no_mask_is_refused(given, message):
    with pytest.raises((TypeError, ValueError), match=f"^`mask`: {message}"):
        masks.checked_mask("mask", given)


@pytest.mark.parametrize("mask", [(300, 451), (100, 150), (67, 101), (1201, 1804), (599, 902)])
def test_masks_of_rounded_proportions_are_accepted(mask):
    masks.check_proportions("mask", mask, (300, 451), "the content")


@pytest.mark.parametrize("mask", [(451, 300), (300, 300), (297, 451), (100, 153)])
def test_masks_of_other_proportions_are_refused(mask):
    message = f"`mask`: a mask of {mask[1]}x{mask[0]} px has other .* than the content of 451x300"
    with pytest.raises(ValueError, match=message):
        masks.check_proportions("mask", mask, (300, 451), "the content")
