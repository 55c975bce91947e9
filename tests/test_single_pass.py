"""`instant` and `instant_many`, and the start of a run that they paint."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import controls, feed_forward, prepare, recipes, run_scales, single_pass
from nst_jax.controls import Protect, color, finishing
from nst_jax.feed_forward import (
    arbitrary,
    given_styles,
    instant_painter,
    johnson,
    style_names,
    styles26,
)
from nst_jax.feed_forward.given_styles import parsed_style
from nst_jax.images import palettes, resizing
from nst_jax.recipes import starts, toml
from nst_jax.single_pass import _read_styles
from nst_jax.vgg.precision import FLOAT32
from nst_jax.weights.params import _embedded
from tests import small

# Small, so that they compile and run quickly; both sizes are used throughout, so that they do so once.
GREY = np.full((20, 24, 3), 0.5, np.float32)
KEPT = {"size": "as-is", "style_size": "as-is"}
NAMED = {"size": "as-is"}


@pytest.fixture(scope="module")
def magenta():
    return arbitrary.load_arbitrary()


@pytest.fixture(scope="module")
def twenty_six():
    return styles26.load_styles26()


@pytest.fixture(scope="module")
def other():
    return small.picture("gravel", 28, 20)


# Compiled as wholes: eager operations would be compiled one by one.
style_vector, stylize_with, stylize_mixture, stylize_trained = (
    jax.jit(function, static_argnames="precision")
    for function in (
        arbitrary.style_vector,
        arbitrary.stylize_with,
        styles26.stylize_mixture,
        johnson.stylize_trained,
    )
)
realistic, recoloured = jax.jit(controls.realistic), jax.jit(palettes.recoloured)


@jax.jit
def with_chroma_of(picture, content):
    """Return a painted picture with the content's chroma, as results have it."""
    return jnp.clip(controls.with_chroma_of(picture, content, "oklab"), 0, 1)


def vector(params, picture):
    return np.asarray(style_vector(params, jnp.asarray(picture), precision=FLOAT32))


def painted(params, content, numbers):
    numbers = jnp.asarray(numbers, jnp.float32)
    return stylize_with(params, jnp.asarray(content), numbers, precision=FLOAT32)


# --- One picture ----------------------------------------------------------------------------------


def test_a_style_picture_goes_through_the_arbitrary_network(magenta, content, style):
    image = nst.instant(content, style, **KEPT)
    assert image.shape == content.shape and image.dtype == jnp.float32
    assert_allclose(image, painted(magenta, content, vector(magenta, style)), atol=1e-5)


@pytest.mark.parametrize("strength", [0.0, 0.25])
def test_strength_interpolates_the_style_vector_from_the_contents_own(
    magenta, content, style, strength
):
    # The content's own vector is that of the content at the size that styles have by default.
    own = vector(magenta, given_styles.resized_style(np.asarray(content), None))
    numbers = (1 - strength) * own + strength * vector(magenta, style)
    image = nst.instant(content, style, strength=strength, **KEPT)
    assert_allclose(image, painted(magenta, content, numbers), atol=1e-5)


def test_style_vectors_of_a_blend_are_averaged_by_shares(magenta, content, style, other):
    numbers = 0.75 * vector(magenta, style) + 0.25 * vector(magenta, other)
    blend = nst.instant(content, [style, other], shares=(3, 1), **KEPT)
    assert_allclose(blend, painted(magenta, content, numbers), atol=1e-5)
    equal = nst.instant(content, [style, other], **KEPT)
    halves = (vector(magenta, style) + vector(magenta, other)) / 2
    assert_allclose(equal, painted(magenta, content, halves), atol=1e-5)


def test_the_vector_of_each_style_picture_is_computed_once(magenta, style, other, monkeypatch):
    seen = []

    def counted(params, picture, *, precision):
        seen.append(picture)
        return vector(params, picture)

    monkeypatch.setattr(instant_painter, "VECTORS_IN_MEMORY", 2)
    programs = instant_painter.PROGRAMS._replace(style_vector=counted)
    painter = instant_painter.InstantPainter(magenta, programs=programs)
    style, turned = np.asarray(style), np.asarray(style)[::-1]
    for picture in (style, other, style, turned, style.copy()):
        assert_array_equal(painter.vector(np.asarray(picture)), vector(magenta, picture))
    assert len(seen) == 3
    painter.vector(np.asarray(other))  # two others were used since
    assert len(seen) == 4


def test_a_name_goes_through_the_network_of_26_styles(twenty_six, content):
    shares = jax.nn.one_hot(15, 26)
    expected = stylize_mixture(twenty_six, content, shares, precision=FLOAT32)
    for style in ("mosaic", "MOSAIC", 15, "15", {"mosaic": 2.0}, ["mosaic"]):
        assert_allclose(nst.instant(content, style, **NAMED), expected, atol=1e-5)


def test_names_are_mixed_by_shares(twenty_six, content):
    shares = style_names.mixture_of({"mosaic": 0.25, "waves": 0.75})
    expected = stylize_mixture(twenty_six, content, jnp.asarray(shares), precision=FLOAT32)
    mixture = nst.instant(content, {"mosaic": 1, 24: 3}, **NAMED)
    assert_allclose(mixture, expected, atol=1e-5)
    listed = nst.instant(content, ["mosaic", "waves"], shares=(1, 3), **NAMED)
    assert_array_equal(listed, mixture)


def test_paths_are_read(tmp_path, content, style, other):
    for name, picture in {"content": content, "style": style, "other": other}.items():
        nst.images.save(tmp_path / f"{name}.png", picture)
    pictures = [nst.images.load(tmp_path / f"{n}.png") for n in ("content", "style", "other")]
    paths = [str(tmp_path / "content.png"), tmp_path / "style.png", tmp_path / "other.png"]
    by_path = nst.instant(paths[0], {paths[1]: 3, str(paths[2]): 1}, **KEPT)
    by_array = nst.instant(pictures[0], pictures[1:], shares=(3, 1), **KEPT)
    assert_array_equal(by_path, by_array)


def test_bytes_are_pictures(content, style):
    as_bytes = [np.asarray(np.round(np.asarray(p) * 255), np.uint8) for p in (content, style)]
    as_floats = [p.astype(np.float32) / 255 for p in as_bytes]
    assert_array_equal(nst.instant(*as_bytes, **KEPT), nst.instant(*as_floats, **KEPT))


@pytest.mark.parametrize("size", [40, "short:32", "area:40", "50x36", "as-is"])
def test_the_size_is_that_of_stylize(content, size):
    recipe = recipes.changes.with_options(recipes.DEFAULT, size)
    expected, _ = run_scales.final_shapes(content.shape[:2], (64, 64), recipe)
    assert given_styles.resized_content(np.asarray(content), size).shape[:2] == expected


def test_by_default_contents_are_resized_as_stylize_resizes_them_and_styles_to_256_px(monkeypatch):
    content, style = small.picture("chelsea", 30, 40), small.picture("gravel", 50, 100)
    assert given_styles.resized_content(content, None).shape == (384, 512, 3)
    resized = given_styles.resized_style(style, None)
    assert_allclose(resized, resizing.antialiased(style, (256, 512)), atol=1e-6)


def test_the_weights_can_be_given(twenty_six, content):
    doubled = replace(twenty_six, layers=jax.tree.map(lambda x: x, twenty_six.layers))
    given = nst.instant(content, "comic", params=doubled, **NAMED)
    assert_array_equal(given, nst.instant(content, "comic", **NAMED))


def test_another_style_strength_or_share_compiles_nothing(content, style, other, compilations):
    nst.instant(content, [style, other], strength=0.5, shares=(1, 2), **KEPT)
    nst.instant(content, "comic", **NAMED)
    before = compilations()
    nst.instant(content, [other, style], strength=0.25, shares=(1, 3), **KEPT)
    nst.instant(content, {"mosaic": 0.5, "waves": 0.5}, **NAMED)
    assert compilations() == before


# --- Trained networks -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def network():
    params = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1)
    return johnson.StyleNetwork(params, ("wave", "tiles"))


def test_a_trained_network_is_a_style(network, content, tmp_path):
    feed_forward.save_network(tmp_path / "styles.h5", network)
    equal = stylize_trained(network.params, content)
    assert_allclose(nst.instant(content, network, **NAMED), equal, atol=1e-5)
    assert_allclose(nst.instant(content, tmp_path / "styles.h5", **NAMED), equal, atol=1e-5)
    mostly = stylize_trained(network.params, content, jnp.array([0.25, 0.75]))
    for shares in ((1, 3), {"tiles": 3, "wave": 1}):
        found = nst.instant(content, str(tmp_path / "styles.h5"), shares=shares, **NAMED)
        assert_allclose(found, mostly, atol=1e-5)
    both = nst.instant_many(content, [network, "mosaic"], **NAMED)
    assert_allclose(both[0], equal, atol=2e-5)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("style", "options", "said"),
    [
        ("none.h5", {}, "`style`: 'none.h5' does not exist"),
        (
            "styles.h5",
            {"shares": {"waev": 1}},
            "there is no style in this file 'waev'; did you mean",
        ),
        (
            "styles.h5",
            {"shares": (1, 2, 3)},
            "`shares`: expected 2, one for each style of the network",
        ),
        ("styles.h5", {"strength": 0.5}, "`strength`: needs a style picture"),
        (["styles.h5", "mosaic"], {}, "`style`: a trained network is a style of its own"),
        ("other.h5", {}, "`style`: 'other.h5' is not a style file of nst-jax"),
    ],
)
def test_a_trained_network_that_cannot_be_used_is_refused_before_the_content_is_read(
    network, tmp_path, monkeypatch, style, options, said
):
    monkeypatch.chdir(tmp_path)
    feed_forward.save_network("styles.h5", network)
    (tmp_path / "other.h5").write_bytes(_embedded(styles26.ARCHITECTURE).path.read_bytes())
    content = GREY if "strength" in options else "no.jpg"
    with pytest.raises(ValueError, match="`s") as error:
        nst.instant(content, style, **options, **NAMED)
    assert said in str(error.value)


@pytest.mark.usefixtures("as_users_do")
def test_a_trained_network_has_a_name_for_each_style(network):
    short = replace(network, styles=("wave",))
    with pytest.raises(ValueError, match="^`style.styles`: expected 2, one name for each style of"):
        nst.instant(GREY, short, **NAMED)


# --- Many pictures --------------------------------------------------------------------------------


def test_rows_of_a_batch_equal_single_pictures(content, style, other):
    found = nst.instant_many(content, [style, other, [style, other]], shares=(1, 3), **KEPT)
    assert found.shape == (3, *content.shape)
    for image, one, shares in zip(
        found, [style, other, [style, other]], [None, None, (1, 3)], strict=True
    ):
        assert_allclose(image, nst.instant(content, one, shares=shares, **KEPT), atol=2e-5)


def test_the_nth_content_meets_the_nth_style_of_either_network(content, style):
    turned = np.asarray(content)[:, ::-1]
    found = nst.instant_many([content, turned, content], [style, "mosaic", 24], **KEPT)
    assert_allclose(found[0], nst.instant(content, style, **KEPT), atol=2e-5)
    assert_allclose(found[1], nst.instant(turned, "mosaic", **NAMED), atol=2e-5)
    assert_allclose(found[2], nst.instant(content, "waves", **NAMED), atol=2e-5)


def test_contents_of_several_shapes_give_a_list(content):
    tall = np.asarray(content).transpose(1, 0, 2)
    found = nst.instant_many([content, tall], "comic", **NAMED)
    assert [image.shape for image in found] == [content.shape, tall.shape]
    assert_allclose(found[1], nst.instant(tall, "comic", **NAMED), atol=2e-5)


def test_a_batch_array_and_strengths_are_rows_too(content, style):
    stacked = jnp.stack([content, content])
    found = nst.instant_many(stacked, style, strength=[0.25, 1.0], **KEPT)
    assert_allclose(found[0], nst.instant(content, style, strength=0.25, **KEPT), atol=2e-5)
    assert_allclose(found[1], nst.instant(content, style, **KEPT), atol=2e-5)


def test_a_smaller_last_chunk_uses_the_same_program(content, compilations):
    nst.instant_many(content, [0, 1], chunk=2, **NAMED)
    before = compilations()
    found = nst.instant_many(content, [0, 1, 2], chunk=2, **NAMED)
    assert compilations() - before <= 3  # only stacking, which is no network
    assert_allclose(found[2], nst.instant(content, 2, **NAMED), atol=2e-5)


def test_a_picture_beyond_memory_is_painted_in_strips(content, style, monkeypatch):
    whole = [nst.instant(content, style, **KEPT), nst.instant(content, "mosaic", **NAMED)]
    monkeypatch.setattr(instant_painter.strip_memory, "strip_for", lambda *args, **options: 16)
    found = nst.instant_many(content, [style, "mosaic"], **KEPT)
    assert_allclose(found[0], whole[0], atol=1e-4)
    assert_allclose(found[1], whole[1], atol=1e-4)


@pytest.mark.usefixtures("as_users_do")
def test_a_picture_beyond_all_strips_is_refused(content, monkeypatch):
    monkeypatch.setattr(instant_painter.capacity, "available", lambda *args: 10**4)
    with pytest.raises(nst.OutOfMemory, match="`size`: .* even in strips"):
        nst.instant(content, "mosaic", **NAMED)


@pytest.mark.usefixtures("as_users_do")
def test_a_trained_network_refuses_a_picture_beyond_memory(network, content, monkeypatch):
    monkeypatch.setattr(instant_painter.capacity, "available", lambda *args: 10**6)
    with pytest.raises(nst.OutOfMemory, match="`size`: .* you trained cannot paint in strips"):
        nst.instant(content, network, **NAMED)
    with pytest.raises(ValueError, match="^`bucket`: .* does not fit into memory"):
        nst.instant_many(content, network, bucket=64, **NAMED)


# --- Controls -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain(content, style):
    """The picture without controls, from which those with controls are made by hand."""
    return np.asarray(nst.instant(content, style, **KEPT))


def left(picture):
    """Return a mask of the left half of a picture."""
    mask = np.zeros(picture.shape[:2], np.float32)
    mask[:, : mask.shape[1] // 2] = 1
    return mask


def test_colours_after_painting_are_those_of_stylize(content, style, plain):
    found = nst.instant(content, style, colors="content-after", **KEPT)
    expected = with_chroma_of(plain, content)
    assert_allclose(found, expected, atol=1e-5)
    named = nst.instant(content, "mosaic", **NAMED)
    found = nst.instant(content, "mosaic", colors="content-after", **NAMED)
    expected = with_chroma_of(named, content)
    assert_allclose(found, expected, atol=1e-5)


def test_the_network_sees_recoloured_pictures(content, style):
    seen = np.clip(jax.jit(controls.with_colors_of)(style, content), 0, 1)
    found = nst.instant(content, style, colors="content", **KEPT)
    assert_allclose(found, nst.instant(content, seen, **KEPT), atol=1e-5)
    grey = color.luminance(content)
    light = np.clip(jax.jit(color.matched_luminance)(style, content), 0, 1)
    expected = with_chroma_of(nst.instant(grey, light, **KEPT), content)
    found = nst.instant(content, style, colors="luminance", **KEPT)
    assert_allclose(found, expected, atol=1e-5)


def test_the_palette_is_that_of_the_styles_by_their_shares(content, style, other):
    blend = nst.instant(content, [style, other], shares=(3, 1), **KEPT)
    both = [jnp.asarray(style), jnp.asarray(other)]
    palette = finishing.mixed_palette(both, jnp.array([3.0, 1.0]))
    found = nst.instant(content, [style, other], shares=(3, 1), colors="palette", **KEPT)
    assert_allclose(found, recoloured(blend, content, palette), atol=1e-5)


@pytest.mark.parametrize("colors", ["style", "content-after"])
def test_protected_pixels_are_the_contents(content, style, colors):
    mask, options = left(content), {"colors": colors, "realism": 0.5, **KEPT}
    free = nst.instant(content, style, **options)
    whole, half = (
        np.asarray(nst.instant(content, style, protect=Protect(mask, amount), **options))
        for amount in (1.0, 0.5)
    )
    assert_array_equal(whole[mask == 1], np.asarray(content)[mask == 1])
    assert np.abs(whole - content)[mask == 0].max() > 0.05
    far = np.s_[:, -4:]  # beyond the windows of the filter, which see the protected part
    assert_allclose(whole[far], free[far], atol=1e-5)
    assert np.abs(half - content)[mask == 1].max() > 0.01


def test_realism_is_a_share_of_the_filtered_picture(content, style, plain):
    found = nst.instant(content, style, realism=0.25, **KEPT)
    assert_allclose(found, realistic(plain, content, 0.25), atol=1e-5)


def test_transparent_parts_do_not_count_for_colours(content, style):
    own, of_style = 1 - left(content), left(style)
    recolored = jax.jit(controls.with_colors_of)
    matched = recolored(style, content, opacity=of_style, other_opacity=own)
    found = nst.instant(
        content, style, colors="content", opacity=own, style_opacity=of_style, **KEPT
    )
    assert_allclose(found, nst.instant(content, np.clip(matched, 0, 1), **KEPT), atol=1e-5)


def test_an_opacity_has_the_size_of_the_style_that_is_given(content, style):
    opacity, wide = left(style), {"size": "as-is", "style_size": "40x28"}
    resized = given_styles.resized_style(np.asarray(style), "40x28")
    smaller = np.asarray(controls.regions.resized_mask(opacity, (28, 40)))
    expected = nst.instant(content, resized, colors="content", style_opacity=smaller, **KEPT)
    found = nst.instant(content, style, colors="content", style_opacity=opacity, **wide)
    assert_allclose(found, expected, atol=1e-5)
    many = nst.instant_many(content, [style], colors="content", style_opacity=[opacity], **wide)
    assert_allclose(many[0], expected, atol=1e-5)


def test_controls_of_many_are_those_of_each(content, style):
    masks, amounts, shares = np.stack([left(content), 1 - left(content)]), [0.5, 1.0], [0.0, 0.5]
    many = nst.instant_many(
        content,
        style,
        colors="content-after",
        protect=Protect(masks, np.array(amounts)),
        realism=shares,
        **KEPT,
    )
    for found, mask, amount, realism in zip(many, masks, amounts, shares, strict=True):
        protect = Protect(mask, amount)
        alone = nst.instant(
            content, style, colors="content-after", protect=protect, realism=realism, **KEPT
        )
        assert_allclose(found, alone, atol=1e-5)


def test_another_mask_amount_or_realism_compiles_nothing(content, style, compilations):
    mask = left(content)
    nst.instant(content, style, protect=Protect(mask, 0.5), realism=0.5, **KEPT)
    before = compilations()
    nst.instant(content, style, protect=Protect(1 - mask, 0.7), realism=0.1, **KEPT)
    assert compilations() == before


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("style", "options", "said"),
    [
        (GREY, {"colors": "contnet"}, "`colors`: there is no choice of colours 'contnet'; did you"),
        (
            "mosaic",
            {"colors": "content"},
            "`colors`: 'content' needs the pixels of a style picture",
        ),
        ("mosaic", {"colors": "palette"}, "choose 'content-after'"),
        ("mosaic", {"style_opacity": GREY[..., 0]}, "`style_opacity`: is for style pictures"),
        ("mosaic", {"style_size": "bogus"}, "`style_size`: is for style pictures"),
        ("mosaic", {"strength": 0.5}, "`strength`: needs a style picture"),
        ("mosaic", {"shares": (1,)}, "`shares`: is for "),
        ({"mosaic": 1, "waves": 1}, {"shares": (1, 3)}, "`shares`: is for "),
        (GREY, {"realism": 1.5}, "`realism`: expected 0 to 1 (0 is as painted, "),
        (GREY, {"protect": Protect(np.ones((20, 20)))}, "`protect.mask`: "),
        (GREY, {"protect": Protect(np.zeros((20, 24)))}, "`protect.mask`: "),
        (GREY, {"protect": Protect(np.ones((20, 24)), 2)}, "`protect.amount`: expected 0 to 1"),
        (GREY, {"opacity": np.zeros((20, 24))}, "`opacity`: all of the content is transparent"),
    ],
)
def test_controls_without_a_meaning_are_refused(style, options, said, monkeypatch):
    monkeypatch.setattr(instant_painter.InstantPainter, "request", None)  # before any work
    monkeypatch.setattr(single_pass, "resized_content", None)
    monkeypatch.setattr(single_pass, "with_resized_pictures", None)
    with pytest.raises(ValueError) as error:
        nst.instant(GREY, style, **options)
    assert said in str(error.value)
    with pytest.raises(ValueError) as error:
        nst.instant_many([GREY, GREY], style, **options)
    assert said.replace("`style`", "`styles[0]`") in str(error.value)


@pytest.mark.usefixtures("as_users_do")
def test_a_picture_beyond_the_bucket_is_refused_before_work(monkeypatch):
    monkeypatch.setattr(single_pass, "resized_content", None)
    with pytest.raises(ValueError, match="^`bucket`: a picture of 24 px on the longer side does"):
        nst.instant_many(GREY, "mosaic", bucket=16, **NAMED)


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (
            (GREY, "mosiac"),
            {},
            "`style`: there is no style or file 'mosiac'; did you mean 'mosaic'?",
        ),
        ((GREY, "no.jpg"), {}, "`style`: there is no file 'no.jpg'; check the path"),
        (("no.jpg", "mosaic"), {}, "`content`: there is no file 'no.jpg'"),
        ((GREY, 26), {}, "`style`: there is no style 26; they are numbered 0 to 25"),
        ((GREY, []), {}, "`style`: is empty"),
        ((GREY, [GREY, "mosaic"]), {}, "'mosaic' is one of the 26 styles and a picture is not"),
        ((GREY, {"mosaic": 1, "a.jpg": 1}), {}, "'mosaic' is one of the 26 styles and 'a.jpg' is"),
        ((GREY, ["mosaic", 15]), {}, "`style`: 'mosaic' is given twice"),
        ((GREY, {"mosaic": 0}), {}, "`style`: all shares are 0"),
        ((GREY, [GREY, GREY]), {"shares": (1,)}, "`shares`: expected 2, one for each style"),
        ((GREY, [GREY, GREY]), {"shares": (0, 0)}, "`shares`: all shares are 0"),
        ((GREY, GREY), {"shares": (1,)}, "`shares`: is for a list of styles"),
        (
            (GREY, GREY),
            {"strength": 1.5},
            "`strength`: expected 0 to 1 (0 is the content's own style), got 1.5",
        ),
        (
            (GREY, GREY),
            {"strength": -0.1},
            "`strength`: expected 0 to 1 (0 is the content's own style), got -0.1",
        ),
        ((GREY, "mosaic"), {"strength": 0.5}, "`strength`: needs a style picture"),
        ((GREY, GREY), {"strength": np.array([0.5, 0.6])}, "`instant_many` takes one number for"),
        ((GREY, GREY), {"realism": np.array([])}, "`realism`: expected one number, got an array"),
        ((GREY[:8], GREY), {"size": "as-is"}, "`content`: 24x8 px becomes 24x8 px"),
        ((GREY, GREY[:8]), {"style_size": "as-is"}, "`style`: 24x8 px becomes 24x8 px"),
        ((GREY, [GREY, GREY[:8]]), {"style_size": "as-is"}, "`style[1]`: 24x8 px"),
        ((GREY, GREY), {"size": 8}, "`size`: expected 16 to 65536 px, got 8"),
        ((GREY * 255, GREY), {}, "`content`: expected values in [0, 1]"),
        ((GREY, GREY), {"precision": "float8"}, "`precision`: there is no precision 'float8'"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, options, said):
    with pytest.raises(ValueError) as error:
        nst.instant(*arguments, **options)
    assert said in str(error.value)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (
            ([GREY, GREY], ["mosaic"] * 3),
            {},
            "2 contents, 3 styles do not fit together",
        ),
        (([], "mosaic"), {}, "`contents`: is empty"),
        ((GREY, []), {}, "`styles`: is empty"),
        ((GREY, ["mosaic", "mosiac"]), {}, "`styles[1]`: there is no style or file 'mosiac'"),
        (([GREY, GREY * 255], "mosaic"), {}, "`contents[1]`: expected values in [0, 1]"),
        ((GREY, "mosaic"), {"chunk": 0}, "`chunk`: expected 1 or more, got 0"),
        ((GREY, GREY), {"strength": []}, "`strength`: expected a number, or one for each picture"),
        ((GREY, GREY), {"strength": [[0.1, 1]]}, "got an array of the shape [1, 2]"),
        ((GREY, GREY), {"realism": []}, "`realism`: expected a number, or one for each picture"),
        ((GREY, GREY), {"strength": [[0.5], 0.6]}, "`strength`: expected a number, or one for"),
        ((GREY, GREY), {"opacity": []}, "`opacity`: is empty; give one for each picture"),
    ],
)
def test_bad_input_of_many_is_refused_by_name(arguments, options, said):
    with pytest.raises(ValueError) as error:
        nst.instant_many(*arguments, **options)
    assert said in str(error.value)


@pytest.mark.usefixtures("as_users_do")
def test_weights_of_another_network_are_refused(params, twenty_six):
    with pytest.raises(ValueError, match="`params`: are weights of another network, 'vgg19-caffe'"):
        nst.instant("no.jpg", "mosaic", params=params)
    with pytest.raises(ValueError, match="`params`: .*load_arbitrary"):
        nst.instant(GREY, GREY, params=twenty_six, **KEPT)


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    "made",
    [tuple, np.asarray, jnp.asarray, iter, lambda shares: dict(enumerate(shares)).values()],
    ids=["tuple", "numpy", "jax", "iterator", "values"],
)
def test_shares_may_be_in_anything_with_an_order(made, network):
    given = partial(parsed_style, "style", ["mosaic", "waves"], style_size=None)
    assert_array_equal(given(shares=made([1, 3])).shares, given(shares=[1, 3]).shares)
    assert_array_equal(parsed_style("style", network, made([1, 3]), None).shares, [0.25, 0.75])
    many = _read_styles([["mosaic", "waves"]] * 2, made([1, 3]))
    for one in many.values():
        assert_array_equal(one.shares, given(shares=[1, 3]).shares)


def test_shares_of_many_are_those_of_lists_and_trained_networks(network):
    many = _read_styles([network, ["mosaic", "waves"], "comic"], (1, 3))
    assert_array_equal(many["styles[0]"].shares, [0.25, 0.75])
    assert_array_equal(
        many["styles[1]"].shares, parsed_style("", {"mosaic": 1, "waves": 3}, None, None).shares
    )
    assert_array_equal(many["styles[2]"].shares, parsed_style("", "comic", None, None).shares)
    (named,) = _read_styles(network, {"tiles": 3, "wave": 1}).values()
    assert_array_equal(named.shares, [0.25, 0.75])


@pytest.mark.usefixtures("as_users_do")
@pytest.mark.parametrize(
    "shares", [1, "13", {"mosaic": 1, "waves": 3}, np.ones((2, 2)), np.ones(())]
)
def test_shares_without_an_order_are_refused(shares):
    with pytest.raises(
        TypeError, match="^`shares`: expected a list with one number for each style"
    ):
        parsed_style("style", ["mosaic", "waves"], shares, None)


@pytest.mark.usefixtures("as_users_do")
def test_tracers_are_refused_by_name(twenty_six):
    grey = np.full((16, 16, 3), 0.5, np.float32)
    for argument, value, styles in (
        ("content", grey, "mosaic"),
        ("params", twenty_six, "mosaic"),
        ("shares", np.ones(2, np.float32), [grey, grey]),
    ):
        with pytest.raises(TypeError, match=f"^`{argument}`: got a tracer, as inside `jax.jit`"):
            jax.eval_shape(
                lambda value, argument=argument, styles=styles: nst.instant(
                    **({"content": grey, "style": styles} | {argument: value})
                ),
                value,
            )


@pytest.mark.usefixtures("as_users_do")
def test_a_value_of_another_type_is_refused_by_name():
    for arguments, options, said in (
        ((GREY, None), {}, "`style`: expected an array"),
        ((GREY, True), {}, "`style`: expected an array"),
        ((GREY, GREY), {"strength": "much"}, "`strength`: expected a number, got 'much'"),
    ):
        with pytest.raises(TypeError) as error:
            nst.instant(*arguments, **options)
        assert said in str(error.value)


# --- The start of a run ---------------------------------------------------------------------------

FAST = small.shallowest()
SCALED = replace(
    FAST, descent=replace(FAST.descent, schedule=recipes.CoarseToFine(smallest=32), steps=4)
)


def first(shots):
    return next(iter(shots)).image


def as_start(content, style):
    """Return what the start is: the content at the start's scale, the style at its usual size."""
    return nst.instant(content, style, size="as-is")


def test_a_run_starts_from_the_instant_picture(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST, init=starts.Instant())
    assert_allclose(first(shots), as_start(content, style), atol=1e-5)
    recipe = replace(FAST, pictures=replace(FAST.pictures, start=starts.Instant()))
    assert_array_equal(
        first(nst.paint(params, content, style, recipe=recipe)),
        first(nst.paint(params, content, style, recipe=FAST, init=starts.Instant())),
    )


def test_a_run_in_several_scales_starts_at_the_coarsest(params, style):
    content = small.picture("chelsea", 48, 64)
    shots = nst.paint(params, content, style, recipe=SCALED, init=starts.Instant())
    coarse = prepare.at_scale(jnp.asarray(content), shots.scales[0].shape)
    assert coarse.shape == (24, 32, 3)
    assert_allclose(first(shots), as_start(coarse, style), atol=1e-5)


def test_a_blend_starts_from_the_blend(params, content, style, other):
    recipe = FAST.replace(style_shares=(3.0, 1.0))
    shots = nst.paint(params, content, [style, other], recipe=recipe, init=starts.Instant())
    blend = nst.instant(content, [style, other], shares=(3, 1), size="as-is")
    assert_allclose(first(shots), blend, atol=1e-5)


def test_pictures_of_a_batch_start_as_single_ones_do(params, content, style, other):
    options = {"recipe": FAST, "steps": 1, "init": starts.Instant()}
    found = nst.stylize_many(params, content, [style, other], **options)
    for image, one in zip(found, (style, other), strict=True):
        assert_allclose(image, nst.stylize(params, content, one, **options), atol=1e-4)


def test_a_sweep_of_shares_starts_each_picture_from_its_own_blend(params, content, style, other):
    recipe = FAST.replace(style_shares=(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    options = {"steps": 1, "init": starts.Instant()}
    found = nst.stylize_many(params, content, [[style, other]], recipe=recipe, **options)
    alone = nst.stylize_many(params, content, [style, other], recipe=FAST, **options)
    assert_allclose(found, alone, atol=1e-4)


def test_the_start_is_part_of_what_a_checkpoint_belongs_to(params, content, style):
    shots = nst.paint(params, content, style, recipe=FAST, init=starts.Instant(), every=2)
    next(shots), next(shots)
    checkpoint = shots.checkpoint()
    rest = nst.paint(
        params, content, style, recipe=FAST, init=starts.Instant(), every=2, resume=checkpoint
    )
    assert_array_equal([shot.image for shot in rest][-1], list(shots)[-1].image)
    with pytest.raises(ValueError, match="`resume`: the checkpoint is of another run: init"):
        nst.paint(params, content, style, recipe=FAST, resume=checkpoint)


def test_the_start_has_a_name_in_recipe_files():
    recipe = recipes.DEFAULT.replace(pictures__start=starts.Instant())
    text = toml.to_toml(recipe)
    assert "Instant" in text
    assert toml.from_toml(text).pictures.start == starts.Instant()


def test_the_same_noise_for_all_leaves_the_start_as_it_is():
    assert starts.same_start(starts.Instant(), 3) == starts.Instant()


def test_called_by_itself_the_start_says_what_makes_the_picture(content, style, key):
    with pytest.raises(TypeError, match=r"`nst_jax.instant\(content, style\)` makes one"):
        starts.Instant()(content, style, key)
