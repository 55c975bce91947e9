"""Whole runs with regions, protected and transparent parts: in Python and at the command line."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import controls, images, losses, optimizers, recipes
from nst_jax.control_checks import RegionLeftOut
from nst_jax.controls import Protect, Region
from nst_jax.recipes import sizes, starts
from tests import shell, small
from tests.shell import caller

HEIGHT, WIDTH = 48, 64
TINY = replace(
    small.shallow(
        steps=6,
        style_taps=("relu1_1", "relu1_2"),
        content_taps=("relu1_2",),
        style_layer_weights=(1.0, 1.0),
    ).replace(optimizer=small.ADAM),
    name="tiny",
)
# Two scales, and an optimiser over the levels of a pyramid, which moves pixels without a gradient, too.
SCALED = TINY.replace(
    name="scaled",
    schedule=recipes.CoarseToFine(smallest=24),
    optimizer=optimizers.LBFGS(levels=2),
)


def plain(*colour, height=32, width=36):
    """Return a picture of one colour with some noise."""
    noise = np.random.default_rng(0).normal(0, 0.02, (height, width, 1))
    return np.clip(np.asarray(colour) + noise, 0, 1).astype(np.float32)


RED, BLUE = plain(0.8, 0.1, 0.1), plain(0.1, 0.1, 0.8, height=40)


def left(share=0.5, height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.float32)
    mask[:, : int(share * width)] = 1
    return mask


def box():
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[8:30, 20:50] = 1
    return mask


@pytest.fixture(scope="module")
def photo():
    return small.picture("chelsea", HEIGHT, WIDTH)


# --- Properties of results ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe",
    [TINY, pytest.param(SCALED, marks=pytest.mark.long)],
    ids=lambda recipe: recipe.name,
)
def test_protected_pixels_are_the_contents_bit_for_bit(params, photo, recipe):
    mask = box()
    for shot in nst.paint(
        params, photo, RED, recipe=recipe, init=starts.Noise(), protect=Protect(mask), every=2
    ):
        if shot.image.shape == photo.shape:
            assert_array_equal(np.asarray(shot.image)[mask == 1], photo[mask == 1])
            assert np.abs(np.asarray(shot.image) - photo)[mask == 0].mean() > 0.05
    assert shot.image.shape == photo.shape


def test_an_amount_between_moves_pixels_less(params, photo):
    def moved(amount):
        image = nst.stylize(params, photo, RED, recipe=TINY, protect=Protect(box(), amount))
        return np.abs(np.asarray(image) - photo)[box() == 1].mean()

    free, half, kept = map(moved, (0.0, 0.6, 1.0))
    assert kept == 0 < half < 0.8 * free


def test_swapped_regions_swap_the_colours_of_the_result(params, photo):
    # With levels of a pyramid, the colour of a whole part moves in few updates.
    optimizer = recipes.GRAM.descent.optimizer
    recipe = TINY.replace(content_weight=0.0, steps=20, optimizer=optimizer)

    def colours(style, other):
        image = nst.stylize(params, photo, other, recipe=recipe, regions=[Region(left(), style)])
        image = np.asarray(image)
        return image[:, :26].mean((0, 1)), image[:, 38:].mean((0, 1))

    here, there = colours(RED, BLUE)
    swapped_here, swapped_there = colours(BLUE, RED)
    for found, style in ((here, RED), (there, BLUE), (swapped_here, BLUE), (swapped_there, RED)):
        near, far = (
            np.linalg.norm(found - one.mean((0, 1)))
            for one in (style, BLUE if style is RED else RED)
        )
        assert near < far / 3


@pytest.mark.long
def test_a_weight_of_zero_leaves_the_region_out(params, photo):
    zero = nst.stylize(params, photo, BLUE, recipe=TINY, regions=[Region(left(), RED, weight=0)])
    other = nst.stylize(params, photo, BLUE, recipe=TINY, regions=[Region(left(), BLUE, weight=0)])
    assert_allclose(zero, other, atol=1e-6)


def test_without_controls_nothing_changes(params, photo):
    image = nst.stylize(params, photo, RED, recipe=TINY)
    same = nst.stylize(
        params, photo, RED, recipe=TINY, regions=[], opacity=np.ones((HEIGHT, WIDTH))
    )
    assert_array_equal(image, same)


# --- Batches, devices, checkpoints, plans ---------------------------------------------------------


def test_a_batch_is_what_single_pictures_are(params, photo):
    masks, weights, amounts = [left(), left(0.7)], np.array([1.0, 3.0]), np.array([1.0, 0.4])
    scaled = SCALED.replace(optimizer=optimizers.Adam(learning_rate=0.02))  # compiles sooner
    many = nst.stylize_many(
        params,
        photo,
        BLUE,
        recipe=scaled,
        regions=[Region(np.stack(masks), RED, weight=weights)],
        protect=Protect(box(), amounts),
    )
    for index, image in enumerate(many):
        one = nst.stylize(
            params,
            photo,
            BLUE,
            recipe=scaled,
            regions=[Region(masks[index], RED, weight=weights[index])],
            protect=Protect(box(), amounts[index]),
        )
        assert_allclose(image, one, atol=2e-4)
    assert_array_equal(np.asarray(many[0])[box() == 1], photo[box() == 1])


def test_each_picture_of_a_batch_may_have_its_own_mask_of_a_regions_style(params, photo):
    masks = [left(0.5, *RED.shape[:2]), 1 - left(0.5, *RED.shape[:2])]
    styles = np.where(masks[0][..., None] > 0, RED, 1 - np.asarray(RED)).astype(np.float32)
    many = nst.stylize_many(
        params, photo, BLUE, recipe=TINY, regions=[Region(left(), styles, style_mask=masks)]
    )
    for image, mask in zip(many, masks, strict=True):
        region = Region(left(), styles, style_mask=mask)
        one = nst.stylize(params, photo, BLUE, recipe=TINY, regions=[region])
        assert_allclose(image, one, atol=2e-4)
    assert np.abs(np.subtract(*many)).max() > 0.01


@pytest.mark.long
def test_opacities_of_a_batch_belong_to_its_pictures(params, photo):
    opacity = [left(), None]
    many = nst.stylize_many(params, [photo, photo], RED, recipe=TINY, opacity=opacity)
    for image, own in zip(many, opacity, strict=True):
        assert_allclose(image, nst.stylize(params, photo, RED, recipe=TINY, opacity=own), atol=2e-4)
    assert np.abs(np.asarray(many[0]) - np.asarray(many[1])).max() > 0.01


def test_styles_of_a_batch_have_their_own_opacities(params, photo):
    style = np.concatenate([plain(0.8, 0.1, 0.1, height=40), plain(0.1, 0.1, 0.8, height=40)], 1)
    opacity = [left(0.5, 40, 72), None, 1 - left(0.5, 40, 72)]
    options = {"recipe": TINY.replace(optimizer=optimizers.Adam(learning_rate=0.02))}
    many = nst.stylize_many(params, photo, [style] * 3, style_opacity=opacity, **options)
    for image, own in zip(many, opacity, strict=True):
        alone = nst.stylize(params, photo, style, style_opacity=own, **options)
        assert_allclose(image, alone, atol=2e-4)
    red, both, blue = (np.asarray(image).mean((0, 1)) for image in many)
    assert red[0] > both[0] > blue[0] and red[2] < both[2] < blue[2]


def test_a_batch_needs_as_many_masks_as_pictures(params, photo):
    region = Region([left()] * 3, RED)
    with pytest.raises(ValueError, match=r"2 contents, 1 styles, 3 regions\[0\].mask do not fit"):
        nst.stylize_many(params, [photo, photo], RED, recipe=TINY, regions=[region])


@pytest.mark.parametrize(
    ("cut", "more"),
    [
        ({"devices": 2}, {}),
        pytest.param({"tile": 32}, {}, marks=pytest.mark.long),  # the next has more
        ({"tile": 32}, {"colors": "luminance", "realism": 0.3, "style_scale": 1.5}),
    ],
    ids=["bands", "tiles", "tiles with colours, realism and larger styles"],
)
@pytest.mark.filterwarnings("ignore::nst_jax.run_errors.StyleEnlarged")
def test_bands_and_tiles_paint_the_same_picture(params, photo, cut, more):
    opacity = 1 - left(0.2)
    given = {
        "regions": [Region(left(), RED)],
        "protect": Protect(box(), 0.7),
        "opacity": opacity,
        "style_opacity": left(0.8, 40, 36),
    }
    adam = TINY.replace(optimizer=optimizers.Adam(learning_rate=0.02))
    given |= more
    whole = nst.stylize(params, photo, BLUE, recipe=adam, **given)
    split = nst.stylize(params, photo, BLUE, recipe=adam, **cut, **given)
    assert_allclose(split, whole, atol=1e-5)


def test_a_run_resumes_with_its_masks_only(params, photo):
    scaled = SCALED.replace(optimizer=small.ADAM)  # compiles sooner
    given = {"regions": [Region(left(), RED)], "protect": Protect(box(), 0.7)}
    shots = nst.paint(params, photo, BLUE, recipe=scaled, every=4, **given)
    next(shots)
    next(shots)
    saved = shots.checkpoint()
    whole = shots.finish().image
    rest = nst.paint(params, photo, BLUE, recipe=scaled, resume=saved, **given).finish()
    assert_array_equal(rest.image, whole)
    for name, other in {
        "region 1": {"regions": [Region(left(0.4), RED)]},
        "region 1 weight": {"regions": [Region(left(), RED, weight=2.0)]},
        "region 1 style mask": {"regions": [Region(left(), RED, left(0.5, 32, 36))]},
        "protect amount": {"protect": Protect(box(), 0.8)},
        "protect": {"protect": None},
        "opacity": {"opacity": 1 - left(0.2)},
        "region 1 style": {"regions": [Region(left(), RED**2)]},
        "opacity of style 1": {"style_opacity": left(0.8, 40, 36)},
        "terms.style_weight": {"strength": 0.5},
    }.items():
        with pytest.raises(ValueError, match=f"the checkpoint is of another run: {name} was"):
            nst.paint(params, photo, BLUE, recipe=scaled, resume=saved, **(given | other))


def test_another_mask_weight_or_amount_compiles_nothing(params, photo, compilations):
    def run(share, weight, amount):
        region, protect = Region(left(share), RED, weight=weight), Protect(box(), amount)
        nst.stylize(params, photo, BLUE, recipe=TINY, regions=[region], protect=protect)
        return compilations()

    assert run(0.5, 1, 1.0) == run(0.3, 2.5, 0.4)


def test_other_masks_and_strengths_of_a_batch_compile_nothing(params, photo, compilations):
    def run(shares, weights, amount, strength):
        region = Region(np.stack([left(share) for share in shares]), RED, weight=np.array(weights))
        nst.stylize_many(
            params, [photo, photo[::-1]], BLUE, recipe=TINY, regions=[region],
            protect=Protect(box(), amount), strength=np.array(strength),
        )  # fmt: skip
        return compilations()

    assert run((0.5, 0.6), (1.0, 2.0), 1.0, (0.2, 0.6)) == run(
        (0.3, 0.4), (3.0, 0.5), 0.4, (0.5, 1)
    )


def test_another_strength_compiles_nothing(params, photo, compilations):
    def run(strength):
        nst.stylize(params, photo, BLUE, recipe=TINY, strength=strength)
        return compilations()

    assert run(0.3) == run(0.6)


def test_a_plan_counts_the_styles_and_statistics_of_regions():
    one = nst.plan((3000, 4000), (600, 800), size=2048, platform="cpu", memory=10**11)
    more = nst.plan(
        (3000, 4000),
        (600, 800),
        size=2048,
        platform="cpu",
        memory=10**11,
        regions=[Region(None, RED), (900, 900)],
    )
    assert len(more.scales[-1].style_shapes) == 3 and more.scales[-1].regions == 3
    assert more.footprint.total > one.footprint.total
    assert more.operations > one.operations


# --- Errors and notes -----------------------------------------------------------------------------

OWN = losses.StyleLoss(losses.gram, losses.mean_over_positions, losses.gram_mean_square)
SORTED = TINY.replace(style_loss=losses.SLICED_WASSERSTEIN)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"regions": Region(left(), RED)}, r"`regions`: expected a list of .*Region"),
        ({"regions": [left()]}, r"`regions\[0\]`: expected Region, got ndarray"),
        ({"regions": [Region(left(), RED)] * 16}, "`regions`: got 16, and at most 15"),
        ({"regions": [Region(left() * 0, RED)]}, r"`regions\[0\].mask`: is empty"),
        ({"regions": [Region(left(height=60), RED)]}, r"`regions\[0\].mask`: a mask of 64x60 px"),
        ({"regions": [Region(left(), RED, left())]}, r"`regions\[0\].style_mask`: a mask of 64x48"),
        (
            {"regions": [Region(left(), RED, weight=-1)]},
            r"`regions\[0\].weight`: expected 0 or more",
        ),
        ({"regions": [Region(left(), RED[:8])]}, r"`regions\[0\].style`: 36x8 px becomes"),
        ({"protect": box()}, "`protect`: expected Protect, got ndarray"),
        (
            {"protect": Protect(box(), 1.5)},
            r"`protect.amount`: expected 0 to 1 \(1 keeps the content\), got 1.5",
        ),
        (
            {"protect": Protect(box(), np.array([0.2, 0.5]))},
            r"`protect.amount`: expected one number, got an array of the shape \[2\]; ",
        ),
        (
            {"protect": Protect(np.ones((HEIGHT, WIDTH)))},
            "`protect`: at 64x48 px, what is not protected is too small or too thin for every layer",
        ),
        (
            {"regions": [Region(box(), RED, weight=np.array([1.0, 2.0]))]},
            r"`regions\[0\].weight`: expected one number, got an array of the shape \[2\]; ",
        ),
        ({"opacity": np.zeros((HEIGHT, WIDTH))}, "`opacity`: all of the content is transparent"),
        ({"style_opacity": [None, None]}, "`style_opacity`: expected one for each of the 1 styles"),
        (
            {"protect": Protect(box()), "recipe": SORTED},
            "`protect`: `style_loss` of .* not additive",
        ),
        (
            {"protect": Protect(box(), 0.5), "recipe": TINY.replace(style_loss=OWN)},
            "`protect`: `style_loss` has no `masked_sums`",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(params, photo, given, message):
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        nst.stylize(params, photo, BLUE, **{"recipe": TINY, **given})


@pytest.mark.parametrize("control", ["regions", "opacity"])
def test_a_loss_of_a_users_own_can_be_masked_by_zeros_and_ones(params, photo, control):
    soft_edge = np.clip(left() + 0.3 * box(), 0, 1)  # becomes 0 or 1 at each layer
    given = {"regions": [Region(left(), RED)], "opacity": soft_edge}[control]
    own = TINY.replace(style_loss=OWN)
    known = TINY.replace(style_loss=losses.GRAM_MEAN_SQUARE)
    images = [
        nst.stylize(params, photo, BLUE, recipe=recipe, **{control: given})
        for recipe in (own, known)
    ]
    assert_allclose(*images, atol=1e-5)
    assert ((soft_edge > 0) & (soft_edge < 1)).any() and not np.allclose(images[0], photo)


def test_a_region_too_small_for_a_layer_is_noted(params, photo):
    recipe = TINY.replace(region_growth=0)

    def painted(side):
        tiny = np.zeros((HEIGHT, WIDTH))
        tiny[20 : 20 + side, 20 : 20 + side] = 1
        nst.stylize(params, photo, BLUE, recipe=recipe, regions=[Region(tiny, RED)])

    # A position of relu1_1 sees 3 x 3 px, one of relu1_2 sees 5 x 5.
    with pytest.warns(RegionLeftOut, match=r"`regions\[0\]`: at 64x48 px, .* thin for relu1_2"):
        painted(4)
    with pytest.raises(ValueError, match=r"`regions\[0\]`: at 64x48 px, .* every layer of the"):
        painted(2)


def test_an_unknown_reach_suggests_the_nearest():
    with pytest.raises(ValueError, match="`region_reach`: .* 'insid'; did you mean 'inside'?"):
        recipes.check(TINY.replace(region_reach="insid"))


# --- Colour-coded maps ----------------------------------------------------------------------------


def map_of(mask, height, width):
    """Return a map in red and blue whose border has mixed colours, as smoothed edges have."""
    drawn = np.where(mask[..., None] > 0, [1.0, 0, 0], [0, 0, 1.0])
    return np.asarray(images.resizing.antialiased(drawn.astype(np.float32), (height, width)))


def test_maps_pair_equal_colours():
    style = plain(0.5, 0.5, 0.5, height=40, width=50)
    found = controls.regions_of_maps(
        map_of(left(0.3), HEIGHT, WIDTH), map_of(left(0.6, 40, 50), 40, 50), style
    )
    blue, red = found  # that which covers more comes first
    assert_allclose(red.mask + blue.mask, np.ones((HEIGHT, WIDTH)))
    assert_allclose(red.mask[:, :18], 1)
    assert_allclose(red.style_mask[:, :28], 1)
    assert_allclose(blue.style_mask[:, 32:], 1)


@pytest.mark.parametrize(
    ("content_map", "style_map", "message"),
    [
        (small.picture("chelsea", 48, 64), RED, "the content's map has no plain colours"),
        (
            map_of(left(), 48, 64),
            plain(1, 0, 0),
            "the style's map has no pixel of the colour #0000ff",
        ),
    ],
)
def test_maps_that_cannot_be_read_are_refused(content_map, style_map, message):
    with pytest.raises(ValueError, match=f"^`regions`: {message}"):
        controls.regions_of_maps(content_map, style_map, RED)


# --- Command line ---------------------------------------------------------------------------------


@pytest.fixture
def call(capsys, tmp_path, monkeypatch, photo):
    """Run `nst-jax` in a folder with pictures and masks; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY.replace(size=sizes.LongEdge(64), steps=2))
    pictures = {
        "photo": photo,
        "red": RED,
        "blue": BLUE,
        "face": np.repeat(box()[..., None], 3, -1),
        "left": np.repeat(left()[..., None], 3, -1),
        "black": np.zeros((HEIGHT, WIDTH, 3)),
        "wide": np.ones((30, WIDTH, 3)),
        "map": map_of(left(), HEIGHT, WIDTH).round(),
        "style_map": map_of(left(0.5, 40, 36), 40, 36).round(),
    }
    for name, picture in pictures.items():
        images.save(f"{name}.png", picture.astype(np.float32))
    images.save("hole.png", photo, alpha=1 - box())
    images.save("drawn.png", np.zeros((HEIGHT, WIDTH, 3), np.float32), alpha=box())
    return caller(capsys, "stylize", "photo.png", "blue.png", "--recipe", "tiny", "-o", "out.png")


def test_options_of_controls_reach_the_run(call, photo):
    code, _, told = call("--region", "left.png:red.png:2", "--protect", "face.png")
    assert code == 0, told
    assert "region 1 mask   left.png" in told and "protect         face.png" in told
    assert_array_equal(images.load("out.png")[box() == 1], images.load("photo.png")[box() == 1])
    found = images.read_metadata("out.png")
    assert found["regions"] == [{"weight": 2.0}] and found["protect"] == {"amount": 1.0}
    names = {role: file["name"] for role, file in found["inputs"].items()}
    assert names["region_1_style"] == "red.png" and names["region_1_mask"] == "left.png"


def _inner(mask):
    """Return where a mask [h, w] is 1 and so are the eight pixels around it, as an array of bool."""
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(mask, 1), (3, 3))
    return windows.min((2, 3)) == 1


def test_several_masks_protect_what_is_white_in_any(call, params):
    other = np.zeros((HEIGHT, WIDTH), np.float32)
    other[2:12, 48:60] = 1
    large = np.kron(other, np.ones((2, 2), np.float32))  # a mask of twice the size
    images.save("other.png", np.repeat(other[..., None], 3, -1))
    images.save("large.png", np.repeat(large[..., None], 3, -1))
    code, _, told = call("--protect", "face.png:0.5", "--protect", "other.png:0.5")
    assert code == 0, told
    assert re.search("^protect +face.png$", told, re.M)
    assert re.search("^protect 2 +other.png$", told, re.M)
    both = controls.Protect(np.maximum(images.load("face.png")[..., 0], other), 0.5)
    found, metadata = images.load("out.png"), images.read_metadata("out.png")
    assert metadata["protect"] == {"amount": 0.5}
    assert metadata["inputs"]["protect_2"]["name"] == "other.png"
    expected = nst.stylize(
        params,
        images.load("photo.png"),
        images.load("blue.png"),
        recipe=recipes.PRESETS["tiny"],
        protect=both,
    )
    assert_allclose(found, expected, rtol=0, atol=1 / 255)
    code, _, told = call("--protect", "face.png", "--protect", "large.png", "--overwrite", "-q")
    assert code == 0, told
    photo, found = images.load("photo.png"), images.load("out.png")
    # `face.png` was resized to the size of `large.png`, so pixels at its border are not quite inside.
    for inner in ((slice(3, 11), slice(49, 59)), _inner(box())):
        assert_array_equal(found[inner], photo[inner])
    outside = (box() == 0) & (other == 0)
    assert np.abs(found - photo)[outside].max() > 0.05


def test_maps_are_an_option(call):
    assert call("--regions", "map.png", "style_map.png", "-q")[0] == 0
    assert set(images.read_metadata("out.png")["inputs"]) >= {"map_of_content", "map_of_style"}


def test_transparent_parts_stay_transparent_and_do_not_count(capsys, call):
    first = caller(capsys, "stylize", "hole.png", "blue.png", "--recipe", "tiny", "-q")
    assert first("-o", "hole_out.png")[0] == 0
    assert_array_equal(images.read("hole_out.png").alpha, images.read("hole.png").alpha)
    assert images.read_metadata("hole_out.png")["losses"]["style"] > 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--region black.png:red.png", "`--region`: the mask 'black.png' is empty"),
        (
            "--region wide.png:red.png",
            "`--region`: the mask 'wide.png' of 64x30 px has other proportions than the content "
            "'photo.png' of 64x48 px",
        ),
        ("--region photo.png:red.png", "`--region`: the mask 'photo.png' is in colours"),
        ("--region drawn.png:red.png", "`--region`: the mask 'drawn.png' has transparent parts"),
        ("--region left.png:none.png", "`--region`: there is no file 'none.png'"),
        ("--region left.png", "`--region`: expected MASK:STYLE"),
        (
            "--region left.png:red.png:left.png",
            "`--region`: the mask 'left.png' of 64x48 px has other proportions than the style "
            "'red.png'",
        ),
        ("--protect face.png:2", "`--protect`: expected 0 to 1 (1 keeps the content), got 2"),
        (
            "--protect face.png:0.5 --protect left.png",
            "`--protect`: all masks are protected by one amount, got 0.5 and 1; give each the same",
        ),
        (
            "--protect face.png --protect wide.png",
            "`--protect`: the mask 'wide.png' of 64x30 px has other proportions than the mask",
        ),
        ("--protect face.png --protect black.png", "`--protect`: the mask 'black.png' is empty"),
        (
            "--regions photo.png style_map.png",
            "`--regions`: the content's map has no plain colours",
        ),
        (
            "--regions map.png style_map.png --region left.png:red.png",
            "`--regions`: has all regions",
        ),
        ("--protect face.png --recipe sliced-wasserstein", "`--protect`: `style_loss` of recipe"),
    ],
)
def test_bad_controls_are_one_line(call, flags, message):
    code, _, told = call(*flags.split())
    assert code == 2 and told.startswith(f"nst-jax: error: {message}") and told.count("\n") == 1
    assert not Path("out.png").exists()


def test_a_plan_knows_regions(capsys, call):
    plan = caller(capsys, "plan", "photo.png", "blue.png", "--recipe", "tiny")
    code, told, _ = plan("--region", "left.png:red.png")
    assert code == 0 and told.count("64x") >= 2
    most = ["--region", "left.png:red.png"] * 15
    assert plan(*most)[0] == 0
    shell.refused(plan(*most, *most[:2]), "`--region`: got 16, and at most 15 are possible")
    assert (
        nst.plan((48, 64), (32, 36), recipe=TINY, regions=[(32, 36)] * 15).scales[0].regions == 16
    )
    with pytest.raises(ValueError, match="^`regions`: got 16, and at most 15 are possible"):
        nst.plan((48, 64), (32, 36), recipe=TINY, regions=[(32, 36)] * 16)


MANIFEST = """content,style,region,protect
photo.png,blue.png,left.png:red.png:2,face.png
hole.png,blue.png,,
photo.png,red.png,,
photo.png,red.png,black.png:red.png,
"""


def test_rows_of_a_manifest_have_their_own_masks(capsys, call):
    Path("jobs.csv").write_text(MANIFEST)
    assert call("--region", "left.png:red.png:2", "--protect", "face.png", "-q")[0] == 0
    batch = caller(capsys, "batch", "jobs.csv", "--recipe", "tiny", "-o", "out")
    code, _, told = batch("-q")
    assert code == 1 and "the mask 'black.png' is empty" in told
    found, alone = images.load("out/photo_blue.png"), images.load("out.png")
    assert_allclose(found, alone, atol=1.5 / 255)
    assert_array_equal(found[box() == 1], images.load("photo.png")[box() == 1])
    metadata = images.read_metadata("out/photo_blue.png")
    assert metadata["regions"] == [{"weight": 2.0}] and metadata["protect"] == {"amount": 1.0}
    assert metadata["inputs"]["region_1_mask"]["name"] == "left.png"
    assert images.read("out/hole_blue.png").alpha is not None
    assert_array_equal(images.read("out/hole_blue.png").alpha, images.read("hole.png").alpha)
    code, _, told = batch("-q")  # what is finished is not painted again
    assert code == 1 and told.count("skipped") == 0 and Path("out/results.jsonl").exists()
    assert '"skipped"' in Path("out/results.jsonl").read_text()


@pytest.mark.long
def test_a_manifest_with_regions_may_enlarge_all_styles(capsys, call):
    Path("jobs.csv").write_text("content,style,region\nphoto.png,blue.png,left.png:red.png\n")
    code, _, told = caller(
        capsys, "batch", "jobs.csv", "--recipe", "tiny", "--style-scale", "4", "-o", "out"
    )()
    assert code == 0 and "`--style-scale` enlarges blue.png, red.png beyond" in told


def test_a_manifests_masks_are_no_destinations(capsys, call):
    Path("jobs.csv").write_text(
        "content,style,region,output\nphoto.png,blue.png,left.png:red.png,../left.png\n"
    )
    batch = caller(capsys, "batch", "jobs.csv", "--recipe", "tiny", "-o", "out")
    code, _, told = batch("--outputs-anywhere")
    assert code == 2 and "left.png" in told and told.count("\n") == 1


# --- Coarse to fine -------------------------------------------------------------------------------


def test_realism_and_transparent_parts_hold_at_every_scale(params, photo):
    """Pixels deep in a transparent part get no gradient of style; realism mixes every snapshot."""
    recipe = SCALED.replace(
        optimizer=optimizers.Adam(learning_rate=0.02),
        content_weight=0.0, tv_weight=0.0, region_growth=0,
    )  # fmt: skip
    shots = {
        realism: [
            np.asarray(shot.image)
            for shot in nst.paint(
                params,
                photo,
                BLUE,
                recipe=recipe,
                init=photo,
                opacity=left(),
                realism=realism,
                every=1,
            )
        ]
        for realism in (0.0, 0.5, 1.0)
    }
    sizes_seen = {image.shape for image in shots[0.0]}
    assert len(sizes_seen) == 2
    for shape in sizes_seen:
        same = [image for image in shots[0.0] if image.shape == shape]
        deep, seen = np.s_[:, 3 * shape[1] // 4 :], np.s_[:, : shape[1] // 2]
        for image in same[1:]:
            assert_array_equal(image[deep], same[0][deep])
        assert np.abs(same[-1][seen] - same[0][seen]).max() > 0.01
    for none, half, whole in zip(*shots.values(), strict=True):
        assert_allclose(half, (none + whole) / 2, atol=1e-5)
        assert np.abs(whole - none).max() > 1e-3  # after one small update, too
