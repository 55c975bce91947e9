"""Resolutions: what files state, sizes given as paper, and what the files of results state."""

import io

import numpy as np
import PIL.Image
import pytest
from PIL import ExifTags

from nst_jax import images, recipes
from nst_jax.app.writing import dpi_of
from nst_jax.recipes import sizes
from nst_jax.recipes.sizes import LongEdge, Paper, with_size
from tests import typechecker

PIXELS = np.random.default_rng(0).integers(0, 256, (17, 23, 3), dtype=np.uint8)


def pillow_file(format, **options):
    file = io.BytesIO()
    PIL.Image.fromarray(PIXELS).save(file, format, **options)
    return file.getvalue()


# --- Files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
@pytest.mark.parametrize("dpi", [300, 72.0, (300, 150)])
def test_what_is_written_is_read_again_and_by_pillow(format, dpi):
    file = io.BytesIO()
    images.save(file, PIXELS, format=format, dpi=dpi, metadata={"steps": 3})
    data = file.getvalue()
    expected = dpi if isinstance(dpi, tuple) else (dpi, dpi)
    # A PNG has whole pixels per metre: 0.0254 dpi is one of them.
    assert images.read(data).dpi == pytest.approx(expected, abs=0.0254 / 2)
    assert images.read_metadata(data) == {"steps": 3}
    with PIL.Image.open(io.BytesIO(data)) as opened:
        if format == "webp":
            exif = opened.getexif()
            assert exif[ExifTags.Base.ResolutionUnit] == 2
            found = exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]
        else:
            found = opened.info["dpi"]
        assert [float(one) for one in found] == pytest.approx(expected, abs=0.0254 / 2)
        if format != "jpeg":
            assert np.array_equal(np.asarray(opened), PIXELS)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp", "tiff"])
def test_without_a_resolution_none_is_stated(format):
    file = io.BytesIO()
    images.save(file, PIXELS, format=format)
    assert images.read(file.getvalue()).dpi is None


def exif_of(unit, across=300.0, down=200.0, orientation=1):
    exif = PIL.Image.Exif()
    exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = across, down
    exif[ExifTags.Base.ResolutionUnit] = unit
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (pillow_file("PNG", dpi=(300, 200)), (300, 200)),
        (pillow_file("JPEG", dpi=(300, 200)), (300, 200)),
        (pillow_file("TIFF", dpi=(300, 200)), (300, 200)),
        (pillow_file("BMP", dpi=(300, 200)), (300, 200)),
        (pillow_file("WEBP", exif=exif_of(2)), (300, 200)),
        (pillow_file("WEBP", exif=exif_of(3)), (762, 508)),  # per centimetre
        (pillow_file("WEBP", exif=exif_of(2, orientation=6)), (200, 300)),  # turned upright
        (pillow_file("PNG", dpi=(300, 200), exif=exif_of(2, orientation=8)), (200, 300)),
        (pillow_file("WEBP", exif=exif_of(2, 0.0, 0.0)), None),
        (pillow_file("WEBP", exif=exif_of(2, 1e9, 1e9)), None),
        (pillow_file("WEBP", exif=b"Exif\0\0damaged"), None),
        (pillow_file("JPEG"), None),
        (pillow_file("GIF"), None),
    ],
)
def test_resolutions_of_other_programs_files(data, expected):
    found = images.read(data).dpi
    assert found is None if expected is None else found == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("dpi", [0, -1, np.nan, np.inf, 1e6, "300", (1, 2, 3), (300, 0), True])
def test_what_is_no_resolution_is_refused(dpi):
    file = io.BytesIO()
    with typechecker.paused(), pytest.raises(ValueError, match="^`dpi`: expected "):
        images.save(file, PIXELS, format="png", dpi=dpi)
    assert not file.getvalue()


# --- Paper sizes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "long", "short", "dpi"),
    [
        # By hand: 297 mm / 25.4 mm * 150 = 1753.9, 210 / 25.4 * 150 = 1240.2, rounded down.
        ("a4@150", 1753, 1240, 150),
        ("A4@150dpi", 1753, 1240, 150),
        ("a0@72", 3370, 2383, 72),
        ("a6@300", 1748, 1240, 300),
        ("letter@300", 3300, 2550, 300),
        ("legal@100", 1400, 850, 100),
        ("tabloid@100", 1700, 1100, 100),
        ("20x30cm@300", 3543, 2362, 300),
        ("300x200mm@300", 3543, 2362, 300),
        ("8x10in@254", 2540, 2032, 254),
        ("8.5x11in@200", 2200, 1700, 200),
    ],
)
def test_paper(text, long, short, dpi):
    assert with_size(LongEdge(512), text) == Paper(long, short, dpi)


def test_iso_formats_halve():
    for number in range(6):
        long, short = sizes.PAPERS[f"a{number}"]
        assert sizes.PAPERS[f"a{number + 1}"] == (short, long // 2)


@pytest.mark.parametrize(
    ("picture", "expected"),
    [
        ((3000, 4000), (1240, 1653)),  # landscape: the shorter sides meet
        ((4000, 3000), (1653, 1240)),  # portrait
        ((1000, 3000), (584, 1753)),  # a panorama: the longer sides meet
        ((2000, 2000), (1240, 1240)),
        ((30, 40), (1240, 1653)),  # enlarged
    ],
)
def test_a_picture_fits_on_the_sheet_and_keeps_its_proportions(picture, expected):
    assert with_size(LongEdge(512), "a4@150").shape(*picture) == expected


def test_no_picture_is_larger_than_the_sheet():
    rule, rng = Paper(1753, 1240, 150), np.random.default_rng(0)
    for height, width in rng.integers(16, 5000, (500, 2)).tolist():
        shape = rule.shape(height, width)
        assert max(shape) <= 1753 and min(shape) <= 1240
        assert max(shape) == 1753 or min(shape) == 1240
        # Proportions to the nearest pixel.
        assert abs(shape[0] * width - shape[1] * height) <= 0.5 * max(height, width) + 1e-6


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a4", "`size`: 'a4' is paper, which needs pixels per inch behind it, such as 'a4@150'"),
        ("a4@", "`size`: 'a4' is paper, which needs pixels per inch"),
        ("20x30cm", "`size`: '20x30cm' is paper, which needs pixels per inch"),
        ("a4@fine", "`size`: 'a4' is paper, which needs pixels per inch .*; got 'a4@fine'"),
        ("a7@150", "`size`: there is no paper 'a7'; "),
        ("leter@150", "`size`: there is no paper 'leter'; did you mean 'letter'?"),
        ("20x30@150", "`size`: there is no paper '20x30'; .*20x30cm"),
        ("a4@9", "`size`: expected 16 to 4800 dpi, got 9"),
        ("a4@9999", "`size`: expected 16 to 4800 dpi, got 9999"),
        ("a0@4800", "`size`: expected 16 to 65536 px, got 224692"),
        ("1x1mm@100", "`size`: expected 16 to 65536 px, got 3"),
        ("a5.5", "`size`: expected a number of pixels, .*paper such as 'a4@150'"),
    ],
)
def test_bad_paper(text, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        with_size(LongEdge(512), text)


def test_paper_is_a_rule_of_a_recipe():
    recipe = recipes.changes.with_sizes(recipes.DEFAULT, "a4@150")
    rule = recipe.pictures.size
    assert rule == Paper(1753, 1240, 150) and "150 dpi" in str(rule)
    assert recipes.toml.from_toml(recipes.toml.to_toml(recipe)).pictures.size == rule
    assert rule.resized(3506) == Paper(3506, 2480, 300)  # the same paper, twice as fine


# --- Results --------------------------------------------------------------------------------------


def test_results_state_the_resolution_of_the_paper_or_else_the_contents():
    assert dpi_of(Paper(1753, 1240, 150), (300.0, 300.0)) == 150
    assert dpi_of(LongEdge(512), (300.0, 200.0)) == (300.0, 200.0)
    assert dpi_of(LongEdge(512), None) is None
