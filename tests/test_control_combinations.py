"""Controls together: colours, realism, regions, protection, transparent parts, styles of taps."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import nst_jax as nst
from nst_jax import batch_members, controls, images, optimizers, prepare, recipes, texturing
from nst_jax.app import controls as files_of_controls
from nst_jax.app import mask_files, preview
from nst_jax.app.controls import why_transparent_counts
from nst_jax.controls import Protect, Region, color, finishing
from nst_jax.controls.given import BatchControls
from nst_jax.finisher import Finisher
from nst_jax.recipes import sizes
from tests import small
from tests.shell import caller, refused

HEIGHT, WIDTH = 32, 48
TINY = replace(small.quickest(steps=2, style_layer_weights=(1.0, 1.0)), name="tiny")
PAIR = TINY.replace(style_shares=(1.0, 3.0))


def box():
    mask = np.zeros((HEIGHT, WIDTH), np.float32)
    mask[4:20, 10:40] = 1
    return mask


def upper(height=HEIGHT, width=WIDTH):
    mask = np.zeros((height, width), np.float32)
    mask[: height // 2] = 1
    return mask


@pytest.fixture(scope="module")
def photo():
    return small.picture("chelsea", HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def night():
    return small.picture("starry_night", 30, 34)


@pytest.fixture(scope="module")
def gravel():
    return small.picture("gravel", 28, 36)


# --- Protected parts with colours and realism -----------------------------------------------------


@pytest.mark.parametrize(
    "colors",
    [
        colors if colors == "luminance" else pytest.param(colors, marks=pytest.mark.long)
        for colors in controls.COLORS
    ],
)
def test_protected_pixels_are_the_contents_whatever_is_finished(
    params, photo, night, gravel, colors
):
    regions = [] if colors == "palette" else [Region(upper(), gravel, upper(28, 36))]
    image = nst.stylize(
        params,
        photo,
        [night, gravel],
        recipe=PAIR,
        colors=colors,
        realism=0.5,
        style_scale=0.8,
        protect=Protect(box()),
        regions=regions,
    )
    assert_array_equal(np.asarray(image)[box() == 1], photo[box() == 1])
    assert np.abs(np.asarray(image) - photo)[box() == 0].mean() > 1e-3


@pytest.mark.parametrize("colors", [pytest.param("style", marks=pytest.mark.long), "palette"])
def test_the_canvas_behind_a_protected_part_shows_nowhere(photo, night, colors):
    kept = controls.regions.KeptContent(
        jnp.asarray(photo), jnp.broadcast_to(box()[..., None], photo.shape)
    )
    noise = np.random.default_rng(0).uniform(size=photo.shape).astype(np.float32)
    one = jnp.asarray(photo[:, ::-1])
    other = jnp.where(kept.share == 1, noise, one)
    palette = controls.mixed_palette([jnp.asarray(night)], jnp.ones(1))

    @jax.jit
    def shown_of(image):
        finish = {"colors": colors, "space": "oklab", "kept": kept}
        return controls.with_kept(
            controls.finished(image, kept.content, palette, 0.7, **finish), kept
        )

    shown = [shown_of(image) for image in (one, other)]
    assert_allclose(*shown, atol=1e-6)
    assert np.abs(np.asarray(shown[0]) - one)[box() == 0].max() > 0.01


def test_a_little_realism_is_nearly_none_where_a_part_is_half_protected(params, photo, night):
    recipe = TINY.replace(optimizer=optimizers.Adam(learning_rate=0.02))  # compiles sooner
    given = {"recipe": recipe, "protect": Protect(box(), 0.5)}
    found = [nst.stylize(params, photo, night, realism=realism, **given) for realism in (0.0, 1e-4)]
    assert_allclose(*found, atol=2e-4)


# --- Transparent parts and colours ----------------------------------------------------------------


def torn(picture, opacity):
    """Return a picture with other pixels, white, where it is transparent."""
    return np.where(opacity[..., None] > 0, picture, 1).astype(np.float32)


def test_transparent_pixels_do_not_count_in_means_and_covariances(photo, night):
    opacity = upper(*night.shape[:2])
    height = night.shape[0] // 2
    for found, wanted in (
        (color.color_moments(night, opacity), color.color_moments(night[:height])),
        (
            controls.mixed_palette([jnp.asarray(night)], jnp.ones(1), [jnp.asarray(opacity)]),
            controls.mixed_palette([jnp.asarray(night[:height])], jnp.ones(1)),
        ),
        (
            color.with_colors_of(photo, night, other_opacity=opacity),
            color.with_colors_of(photo, night[:height]),
        ),
        (
            color.matched_luminance(night, photo, opacity=opacity)[:height],
            color.matched_luminance(night[:height], photo),
        ),
    ):
        jax.tree.map(lambda one, other: assert_allclose(one, other, atol=1e-5), found, wanted)


@pytest.mark.parametrize(
    "colors",
    ["luminance", *(pytest.param(x, marks=pytest.mark.long) for x in ("content", "palette"))],
)
def test_colours_behind_transparency_change_nothing(photo, night, colors):
    hole, style_hole = 1 - box(), upper(*night.shape[:2])
    given = controls.checked_controls(
        photo.shape[:2], [night.shape[:2]], opacity=hole, style_opacity=style_hole
    )
    recipe = TINY.replace(colors=colors)

    def seen(value):
        """Return the recoloured style, and a finished picture, where something is opaque."""
        content = np.where(hole[..., None] > 0, photo, np.asarray(value, np.float32))
        style = np.where(style_hole[..., None] > 0, night, np.asarray(value, np.float32))
        prepared = prepare.prepare_pictures(content, style, recipe, given)
        finish = Finisher(prepared, recipe)
        image = finish(jnp.asarray(photo[::-1]), prepared.scales[-1])
        return np.asarray(prepared.styles[0])[style_hole > 0], np.asarray(image)[26:]

    # Rows from 26 on are farther from what is transparent than the palette's filter reaches.
    for one, other in zip(seen([1.0, 1.0, 1.0]), seen([0.9, 0.1, 0.0]), strict=True):
        assert_allclose(one, other, atol=1e-5)


@pytest.mark.long
def test_a_batch_recolours_each_picture_by_its_own_opacity(params, photo, night):
    opacity = [upper(), None, 1 - upper()]
    many = nst.stylize_many(
        params, [photo] * 3, night, recipe=TINY, colors="content", opacity=opacity
    )
    for image, own in zip(many, opacity, strict=True):
        one = nst.stylize(params, photo, night, recipe=TINY, colors="content", opacity=own)
        assert_allclose(image, one, atol=2e-4)
    assert np.abs(np.asarray(many[0]) - np.asarray(many[2])).max() > 1e-3


# --- Colours of regions ---------------------------------------------------------------------------


def numpy_moments(picture, mask):
    """Return mean and covariance of the colours of a picture, each pixel counted by a mask."""
    weights = (mask / mask.sum()).reshape(-1)
    colours = picture.reshape(-1, 3).astype(np.float64)
    mean = weights @ colours
    return mean, (weights[:, None] * (colours - mean)).T @ (colours - mean)


def mild(picture):
    """Return a picture of little contrast, so that recoloured styles need no clipping."""
    return (0.45 + 0.1 * picture).astype(np.float32)


def test_a_region_gets_the_colours_that_the_photo_has_there(photo, night, gravel):
    content, part, opacity = mild(photo), 0.75 * box(), upper(HEIGHT, WIDTH)
    given = controls.checked_controls(
        content.shape[:2], [night.shape[:2]], regions=[Region(part, gravel)], opacity=opacity
    )
    recipe = TINY.replace(colors="content")
    found = prepare.prepare_pictures(content, night, recipe, given)
    expected = numpy_moments(content, (1 - part) * opacity), numpy_moments(content, part * opacity)
    for style, moments in zip((*found.styles, *found.region_styles), expected, strict=True):
        whole = np.ones(style.shape[:2])
        for one, other in zip(numpy_moments(np.asarray(style), whole), moments, strict=True):
            assert_allclose(one, other, atol=1e-4)
    # The two parts of the photo differ in their colours, so the test above tells them apart.
    assert np.abs(expected[0][0] - expected[1][0]).max() > 2e-3


def test_luminance_is_matched_within_the_region(photo, night, gravel):
    given = controls.checked_controls(
        photo.shape[:2], [night.shape[:2]], regions=[Region(box(), gravel)]
    )
    recipe = TINY.replace(colors="luminance")
    found = prepare.prepare_pictures(mild(photo), night, recipe, given)
    inside = np.asarray(found.content)[4:20, 10:40]
    assert_allclose(np.mean(found.region_styles[0]), inside.mean(), atol=1e-4)
    assert_allclose(np.std(found.region_styles[0]), inside.std(), atol=1e-3)


def test_regions_that_cover_everything_leave_the_other_style_finite(photo, night, gravel):
    everything = np.ones((HEIGHT, WIDTH), np.float32)
    given = controls.checked_controls(
        photo.shape[:2], [night.shape[:2]], regions=[Region(everything, gravel)]
    )
    found = prepare.prepare_pictures(photo, night, TINY.replace(colors="content"), given)
    plain = prepare.prepare_pictures(photo, night, TINY.replace(colors="content"))
    assert_allclose(found.styles[0], plain.styles[0], atol=1e-5)


def test_a_batch_recolours_each_picture_by_its_own_region(photo, night, gravel):
    masks = np.stack([upper(HEIGHT, WIDTH), 1 - upper(HEIGHT, WIDTH)])
    recipe = TINY.replace(colors="content")
    members = batch_members.members_of(
        [photo], night, recipe, given=BatchControls(regions=[Region(masks, gravel)])
    )
    for member, mask in zip(members, masks, strict=True):
        given = controls.checked_controls(
            photo.shape[:2], [night.shape[:2]], regions=[Region(mask, gravel)]
        )
        alone = prepare.prepare_pictures(photo, night, recipe, given)
        assert_allclose(member.prepared.region_styles[0], alone.region_styles[0], atol=1e-6)
    first, second = (np.asarray(member.prepared.region_styles[0]) for member in members)
    assert np.abs(first - second).max() > 1e-2


# --- Styles of single taps ------------------------------------------------------------------------


@pytest.mark.long
def test_the_palette_is_of_the_styles_that_have_shares(params, photo, night, gravel):
    red = np.zeros_like(gravel) + np.float32([0.9, 0.1, 0.1])
    given = {"recipe": PAIR.replace(style_weight=0.0), "colors": "palette"}
    plain = nst.stylize(params, photo, [night, gravel], init=photo, **given)
    tapped = nst.stylize(
        params, photo, [night, gravel], init=photo, tap_styles={"relu1_1": red}, **given
    )
    assert_allclose(plain, tapped, atol=1e-5)


# --- Textures, which have no content --------------------------------------------------------------


def test_a_texture_has_nothing_of_a_contents_colours_and_edges():
    plain = texturing.of_texture(TINY)
    changed = TINY.replace(colors="palette", realism=0.5, matting_weight=10.0)
    assert texturing.of_texture(changed) == plain


# --- Command line ---------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path, monkeypatch, photo, night, gravel):
    """Go to a folder with pictures and masks."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY.replace(size=sizes.LongEdge(48)))
    for name, picture in {"photo": photo, "night": night, "gravel": gravel}.items():
        images.save(f"{name}.png", picture)
    for name, mask in {"box": box(), "upper": upper()}.items():
        images.save(f"{name}.png", np.repeat(mask[..., None], 3, -1))
    images.save("hole.png", photo, alpha=1 - box())
    images.save("night_hole.png", night, alpha=upper(30, 34))
    return tmp_path


def two_bit_png(levels):
    """Return the bytes of a grey PNG of 2 bits, which Pillow does not write."""
    rows = b"".join(
        b"\0" + bytes((row.reshape(-1, 4) << np.array([6, 4, 2, 0])).sum(1).astype(np.uint8))
        for row in levels.astype(np.int64)
    )

    def chunk(kind, data):
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    height, width = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 2, 0, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def test_masks_of_any_depth_and_orientation_are_the_same_mask(folder):
    levels = (box() * 255).astype(np.uint8)
    turned = Image.Exif()
    turned[0x112] = 6  # the camera lay on its side
    Image.fromarray(levels > 0).save("1.png")
    Path("2.png").write_bytes(two_bit_png(box() * 3))
    Image.fromarray(levels.astype(np.uint16) * 257).save("16.png")
    Image.fromarray(levels).convert("P").save("palette.png")
    Image.fromarray(np.rot90(levels)).save("turned.png", exif=turned)
    for name in ("1", "2", "16", "palette", "turned"):
        mask = mask_files.mask_of(images.read(f"{name}.png"), "protect")
        assert_array_equal(mask, box())


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            "stylize photo.png night.png --recipe nnst --region box.png:gravel.png",
            "`--region`: `style_loss`",
        ),
        ("plan photo.png night.png --recipe nnst --protect box.png", "`--protect`: `style_loss`"),
        (
            "plan photo.png night.png --colors palette --region box.png:gravel.png",
            "`--colors`: 'palette' moves the whole picture",
        ),
        (
            "plan photo.png night.png --style-layer relu1_1=gravel.png --protect box.png",
            "`--protect`: masks are not applied",
        ),
    ],
)
def test_what_cannot_go_together_is_one_line(capsys, folder, flags, message):
    command, *words = flags.split()
    refused(caller(capsys, command)(*words), message)


def test_a_plan_knows_the_memory_of_realism():
    # In small tiles, the painting of a large picture takes less than the filter of `realism`.
    shape, tiled = (1024, 768), TINY.replace(tile=32)
    plain, filtered = (
        nst.estimate_memory(shape, recipe=recipe, style_shapes=[(64, 64)]).activations
        for recipe in (tiled, tiled.replace(realism=0.5))
    )
    assert plain < filtered == finishing.filter_memory(*shape)


def test_transparent_parts_beside_styles_of_taps_count_as_white_and_a_note_says_so(capsys, folder):
    stylize = caller(
        capsys, "stylize", "hole.png", "night_hole.png", "--recipe", "tiny", "-o", "a.png"
    )
    code, _, told = stylize("--style-layer", "relu1_1=gravel.png", "--colors", "palette")
    assert (
        code == 0
        and "transparent parts are painted as if they were white, since a layer has" in told
    )
    assert_array_equal(images.read("a.png").alpha, images.read("hole.png").alpha)


def test_maps_leave_out_the_transparent_parts_of_their_style(folder):
    colours = np.where(upper()[..., None] > 0, [1.0, 0, 0], [0, 0, 1.0]).astype(np.float32)
    style_colours = np.full((30, 34, 3), [1.0, 0, 0], np.float32)
    style_colours[:, :10] = [0, 0, 1.0]
    images.save("map.png", colours)
    images.save("style_map.png", style_colours)
    chosen = {"region_maps": (Path("map.png"), Path("style_map.png"))}
    found = files_of_controls.read_controls(chosen, [images.read("night_hole.png")])
    for region in found.regions:
        assert region.style_mask[:15].max() == 1 and region.style_mask[15:].max() == 0


def previewed(monkeypatch, plan, styles, given=None):
    """Return the preview of a run, by a network that inverts the content."""
    painter = SimpleNamespace(
        arbitrary=None,
        bucket=None,
        request=lambda content, style, strength: content,
        paint=lambda requests: [1 - requests[0]],
    )
    monkeypatch.setattr(preview.instant_painter, "HostPainter", lambda: painter)
    content, read = images.read("photo.png"), [images.read(style) for style in styles]
    shape = plan.scales[-1].shape
    return preview._painted(content, read, plan.recipe, shape, given)


def test_a_preview_has_the_palette_of_the_styles_that_are_blended(
    folder, night, monkeypatch, as_users_do
):
    recipe = TINY.replace(colors="palette")
    plan = nst.plan((HEIGHT, WIDTH), night.shape[:2], recipe=recipe)
    wanted = previewed(monkeypatch, plan, ["night.png"])
    taps = {"relu1_1": images.load("gravel.png")}
    plan = nst.plan((HEIGHT, WIDTH), night.shape[:2], recipe=recipe, tap_styles=taps)
    found = previewed(monkeypatch, plan, ["night.png", "gravel.png"])
    assert_allclose(found, wanted, atol=1e-6)


def test_transparent_parts_count_as_white_where_the_style_loss_sees_all_positions():
    said = [
        why_transparent_counts(recipes.named(name)) for name in ("nnst", "histogram", "default")
    ]
    assert said == ["the style loss of this recipe cannot leave out parts of a picture"] * 2 + [""]


def test_a_preview_shows_what_is_protected(folder, night, monkeypatch, as_users_do):
    picture = images.read("photo.png")
    given = controls.checked_controls((HEIGHT, WIDTH), [night.shape[:2]], protect=Protect(box()))
    plan = nst.plan((HEIGHT, WIDTH), night.shape[:2], recipe=TINY.replace(realism=0.5))
    shown = previewed(monkeypatch, plan, ["night.png"], given)
    assert_allclose(shown[box() == 1], picture.image[box() == 1], atol=1e-6)
    assert np.abs(shown - picture.image)[box() == 0].max() > 0.05
