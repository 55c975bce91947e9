"""The gallery: its page, the sizes and settings of its pictures, and the readers of its sources."""

import io
import json
import re
import shlex
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from docs import gallery_page, gallery_sources
from docs.gallery_sources import Piece
from nst_jax.app import cli
from tests import small
from tests.test_docs import QUICK, REGIONS

ROOT = Path(__file__).parents[1]


def test_the_page_is_what_its_script_writes():
    assert gallery_page.PAGE.read_text() == gallery_page.page()


def test_there_are_sixteen_pictures_of_several_kinds_of_which_the_readme_shows_six():
    entries = gallery_page.ENTRIES
    assert len(entries) >= 16 and len({entry.kind for entry in entries.values()}) >= 6
    readme = (ROOT / "README.md").read_text()
    assert sum(f"docs/gallery/{name}.jpg" in readme for name in entries) == 6


@pytest.mark.parametrize("name", gallery_page.ENTRIES)
def test_a_picture_was_made_by_the_command_below_it(name):
    path = gallery_page.FOLDER / f"{name}.jpg"
    assert path.stat().st_size <= gallery_page.LARGEST
    assert json.loads(gallery_page.MEASURED.read_text())[name]["command"] == (
        gallery_page.command(name)
    )
    size = gallery_page.command(name).split("--size ")[1].split()[0]
    with Image.open(path) as picture:
        assert max(picture.size) == max(map(int, size.split("x")))


@pytest.mark.long
@REGIONS
@pytest.mark.parametrize("name", gallery_page.ENTRIES)
def test_a_command_runs_as_it_stands_on_smaller_pictures(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = shlex.split(gallery_page.command(name))[1:]
    inputs = [one for word in words[1:-2] for one in word.split(":") if one.endswith(".png")]
    for file in inputs:
        picture = small.picture("chelsea" if file == words[1] else "starry_night", 48, 64)
        if file in gallery_page.MASKS:
            picture = np.zeros((48, 64, 3), np.float32)
            picture[:, :32] = 1
        nst.images.save(file, picture)
    fewer = QUICK if words[0] == "stylize" else []
    if "--quality" in words:  # a number of updates, as `QUICK` has it
        place = words.index("--quality")
        del words[place : place + 2]
    size = words.index("--size") + 1
    assert cli.main([*words[:size], "48", *words[size + 1 :], *fewer, "--quiet"]) == 0
    with Image.open(words[-1]) as picture:
        assert max(picture.size) == 48


def test_nothing_is_left_of_pictures_that_are_not_on_the_page():
    kept = {path.stem for path in gallery_page.FOLDER.glob("*.jpg")}
    assert kept == {*gallery_page.ENTRIES, "photographs", "paintings"}
    assert set(json.loads(gallery_page.MEASURED.read_text())) == set(gallery_page.ENTRIES)


def test_every_source_that_is_used_is_named_in_the_notice():
    notice = (ROOT / "NOTICE").read_text()
    for name in gallery_page.used():
        source = gallery_sources.SOURCES[name]
        assert source.package == gallery_sources.SAMPLE or source.sha256 in notice, name
        assert source.author.split(",")[0] in notice, name


def test_commands_name_pictures_and_masks_that_exist():
    for entry in gallery_page.ENTRIES.values():
        words = entry.words.replace(":", " ").split()
        for file in (word for word in words if word.endswith(".png")):
            assert Path(file).stem in gallery_sources.SOURCES or file in gallery_page.MASKS


def test_a_mask_has_the_size_of_its_photograph_and_is_white_inside(tmp_path):
    Image.new("RGB", (512, 512)).save(tmp_path / "photo.png")
    mask = np.asarray(gallery_page.mask("face.png", tmp_path / "photo.png"))
    assert mask.shape == (512, 512)
    assert mask[117, 225] == 255 and mask[400, 400] == 0


# --- Where the pictures come from -----------------------------------------------------------------


def qt_resources(files):
    """Return a file of Qt's resource system, version 2: a folder with the given files."""
    names, contents = b"", b""
    entries = [struct.pack(">IHIIQ", 0, 2, len(files), 1, 0)]
    for name, (flags, content) in files.items():
        entries.append(struct.pack(">IHHHIQ", len(names), flags, 0, 0, len(contents), 0))
        names += struct.pack(">HI", len(name), 0) + name.encode("utf-16-be")
        contents += struct.pack(">I", len(content)) + content
    tree = b"".join(entries)
    places = (20, 20 + len(tree), 20 + len(tree) + len(contents))
    return b"qres" + struct.pack(">IIII", 2, *places) + tree + contents + names


def test_resources_are_read_plain_and_compressed():
    text = b"a text " * 20
    packed = struct.pack(">I", len(text)) + zlib.compress(text)
    data = qt_resources({"plain.txt": (0, text), "packed.txt": (1, packed), "empty": (0, b"")})
    assert gallery_sources.resources(data) == {"plain.txt": text, "packed.txt": text, "empty": b""}


def test_another_file_is_no_file_of_resources():
    with pytest.raises(ValueError, match="does not begin with qres"):
        gallery_sources.resources(b"RIFF" + bytes(40))


BOARD = """
import QtQuick 2.12
QtObject {
   property var levels : [
      { "pixmapfile" : "image/bg.svg", "type" : "SHAPE", "width": 80, "height": 60 },
      { "pixmapfile" : "image/left.webp",
        "x" : "0.25",
        "y" : "0.5" },
      { "pixmapfile" : "image/right.webp", "x" : "0.75", "y" : "0.5" }
   ]
}
"""


def test_a_board_says_where_pieces_belong():
    size, pieces = gallery_sources.pieces(BOARD)
    assert size == (80, 60)
    assert pieces == [Piece("left.webp", 0.25, 0.5), Piece("right.webp", 0.75, 0.5)]


def test_a_painting_is_put_together_from_its_pieces():
    painting = np.zeros((40, 80, 4), np.uint8)
    painting[..., 0] = np.arange(80)
    painting[..., 3] = 255
    left, right = painting[:, :44].copy(), painting[:, 36:].copy()
    left[:20, 40:, 3] = 0  # interlocking edges, which overlap nowhere
    left[20:, 36:, 3] = 0
    right[:20, :4, 3] = 0
    right[20:, :0, 3] = 0
    parts = [
        (Piece("left", 22 / 80, 0.5), Image.fromarray(left)),
        (Piece("right", 58 / 80, 0.5), Image.fromarray(right)),
    ]
    found = np.asarray(gallery_sources.put_together((80, 60), parts))
    border = gallery_sources.BORDER
    assert found.shape == (40 - 2 * border, 80 - 2 * border, 3)
    assert np.array_equal(found[..., 0], painting[border:-border, border:-border, 0])


def test_a_missing_package_is_named_with_the_next_move(tmp_path):
    with pytest.raises(ValueError, match=r"`--debian`: .*`apt-get install gcompris-qt-data`"):
        gallery_sources.read("wave", tmp_path)


def test_another_version_of_a_picture_is_refused(tmp_path):
    source = gallery_sources.SOURCES["fig"]
    path = tmp_path / source.file
    path.parent.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32)).save(buffer, "JPEG")
    path.write_bytes(buffer.getvalue())
    with pytest.raises(ValueError, match="fig: lomiri-wallpapers.* has another picture"):
        gallery_sources.read("fig", tmp_path)


def test_the_samples_are_read_as_they_are(tmp_path):
    found = np.asarray(gallery_sources.read("chelsea", tmp_path)) / 255
    assert np.allclose(found, nst.images.sample("chelsea"), atol=1e-6)


def test_a_jpeg_is_written_as_large_as_allowed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    gallery_page.write_jpeg(Image.fromarray(noise), tmp_path / "a.jpg", 30_000)
    assert 15_000 < (tmp_path / "a.jpg").stat().st_size <= 30_000
    with pytest.raises(ValueError, match=r"b\.jpg does not fit into 100 bytes"):
        gallery_page.write_jpeg(Image.fromarray(noise), tmp_path / "b.jpg", 100)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pictures", "out", "--debian", "nowhere"], "pip install|apt-get install"),
        (["paint", "out", "wavy"], "`NAME`: no picture 'wavy'; there are"),
    ],
)
def test_bad_arguments_are_one_line(words, said, monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["gallery_page", *words])
    with pytest.raises(SystemExit, match="2"):
        gallery_page.main()
    assert re.search(said, capsys.readouterr().err)
