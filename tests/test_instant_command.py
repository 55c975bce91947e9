"""The command `instant`: its files, messages and exit codes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from PIL import Image

import nst_jax as nst
from nst_jax import _files, feed_forward, images
from nst_jax.app import cli, interrupts, preview, programs
from nst_jax.app.outputs import Outputs
from nst_jax.feed_forward import (
    given_styles,
    instant_controls,
    instant_painter,
    johnson,
    style_names,
)
from nst_jax.scaling import chunk_size
from tests import small
from tests.shell import caller, pixels, refused, write_pictures

SIZE = ["--size", "40"]  # small, and for all pictures of one shape the same program
STYLE = ["--style-size", "long:32"]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in a new folder with a few pictures."""
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(45, 60), art=(50, 50), other=(50, 50))
    return tmp_path


@pytest.fixture
def call(capsys):
    """Run the command in this process; return its exit code, standard output and error."""
    return caller(capsys, "instant")


def expected(style, **options):
    return images.to_uint8(nst.instant("photo.png", style, size=40, **options))


# --- One picture ----------------------------------------------------------------------------------


def test_a_picture_in_the_style_of_another(call):
    code, out, err = call("photo.png", "art.png", *SIZE, *STYLE)
    assert (code, out) == (0, "photo_art.png\n")
    assert err.startswith("device      cpu\nweights     arbitrary, ")
    found = pixels("photo_art.png").astype(int)
    assert np.abs(found - expected("art.png", style_size="long:32")).max() <= 1


def test_a_picture_in_a_named_style(call):
    assert call("photo.png", "mosaic", *SIZE, "-o", "out.png", "-q") == (0, "", "")
    assert np.abs(pixels("out.png").astype(int) - expected("mosaic")).max() <= 1
    assert call("photo.png", "15", *SIZE, "-q")[0] == 0
    assert Path("photo_mosaic.png").exists()


@pytest.mark.parametrize("words", [("-", "art.png"), ("photo.png", "-")])
def test_standard_input_and_output(capfd, monkeypatch, words):
    with open("photo.png") as photo, open("out.jpg", "w") as output:
        monkeypatch.setattr(sys, "stdin", photo)
        monkeypatch.setattr(sys, "stdout", output)
        code = cli.main(["instant", *words, *SIZE, *STYLE, "-o", "-", "--format", "jpg"])
    err = capfd.readouterr().err
    assert code == 0 and "standard input" in err and "picture" not in err.split("done in")[1]
    facts = images.read_metadata("out.jpg")
    role = "content" if words[0] == "-" else "style"
    assert facts["inputs"][role]["name"] == "standard input"
    assert facts["inputs"][role]["digest"] == images.glance("photo.png").digest
    assert pixels("out.jpg").shape == (30, 40, 3)
    assert sorted(os.listdir()) == ["art.png", "other.png", "out.jpg", "photo.png"]


@pytest.mark.parametrize(
    ("size", "expected"), [("40", (300, 300)), ("38x30mm@27", (27, 27))], ids=["content", "paper"]
)
def test_a_result_states_a_resolution(call, size, expected):
    images.save("photo.png", pixels("photo.png"), dpi=300)
    assert call("photo.png", "mosaic", "--size", size, "-o", "out.jpg", "-q")[0] == 0
    assert images.read("out.jpg").dpi == expected
    assert pixels("out.jpg").shape == (30, 40, 3)


def test_several_results_do_not_go_to_standard_output(call):
    refused(
        call("photo.png", "--styles", "mosaic", "-o", "-"), "`--output`: standard output takes one"
    )
    refused(call("-", "--styles", "mosaic", "-o", "out"), "`CONTENT`: `-` is one picture")


def test_names_and_pictures_are_mixed_by_shares(call):
    assert call("photo.png", "mosaic:0.25", "waves:0.75", *SIZE, "-o", "a.png", "-q")[0] == 0
    mixture = expected({"mosaic": 0.25, "waves": 0.75})
    assert np.abs(pixels("a.png").astype(int) - mixture).max() <= 1
    words = ("art.png:3", "other.png:1", *SIZE, *STYLE, "--strength", "0.5", "-o", "b.png", "-q")
    assert call("photo.png", *words)[0] == 0
    blend = expected({"art.png": 3, "other.png": 1}, style_size="long:32", strength=0.5)
    assert np.abs(pixels("b.png").astype(int) - blend).max() <= 1


def test_a_picture_by_a_trained_network(call):
    params = johnson.fresh_params(jax.random.key(0), 1, width=0.25, blocks=1)
    feed_forward.save_network("wave.h5", johnson.StyleNetwork(params, ("wave",)))
    assert call("photo.png", "wave.h5", *SIZE, "-q")[0] == 0
    assert np.abs(pixels("photo_wave.png").astype(int) - expected("wave.h5")).max() <= 1
    facts = images.read_metadata("photo_wave.png")
    assert facts["network"] == "trained" and facts["styles"] == {"wave": 1.0}
    refused(
        call("photo.png", "wave.h5", "--strength", "0.5"), "`--strength`: is for style pictures"
    )
    said = "`STYLE`: there is no style in 'wave.h5' named 'mosaic'; expected one of 'wave'"
    refused(call("photo.png", "wave.h5", "mosaic"), said)
    refused(
        call("photo.png", "art.png", "wave.h5"), "`STYLE`: 'wave.h5' is a trained network, which"
    )
    refused(call("photo.png", "wave.h5:0.5"), "`STYLE`: 'wave.h5' is a trained network, which")
    refused(call("no.png", "none.h5"), "`STYLE`: 'none.h5' does not exist")


def test_the_styles_of_a_trained_network_are_named(call):
    params = johnson.fresh_params(jax.random.key(0), 2, width=0.25, blocks=1)
    # Fresh networks paint all styles alike.
    params = jax.tree.map(
        lambda a: a * np.float32([[1.0], [0.5]]) if a.shape[0] == 2 else a, params
    )
    names = ("wave", "night")
    feed_forward.save_network("two.h5", johnson.StyleNetwork(params, names))

    def painted(shares):
        return expected("two.h5", shares=shares)

    assert np.abs(painted({"wave": 1}) - painted({"night": 1})).max() > 3
    refused(
        call("photo.png", "two.h5", *SIZE),
        "`STYLE`: 'two.h5' has 2 styles: wave, night; write the name of one behind it, or of several "
        "with shares, such as wave:0.7 night:0.3",
    )
    assert call("photo.png", "two.h5", "night", *SIZE, "-q")[0] == 0
    assert np.abs(pixels("photo_two_night.png").astype(int) - painted({"night": 1})).max() <= 1
    assert images.read_metadata("photo_two_night.png")["styles"] == {"night": 1.0}
    assert call("photo.png", "two.h5", "wave:3", "night:1", *SIZE, "-q", "-o", "mixed.png")[0] == 0
    mixed = painted({"wave": 3, "night": 1})
    assert np.abs(pixels("mixed.png").astype(int) - mixed).max() <= 1
    assert images.read_metadata("mixed.png")["styles"] == {"wave": 0.75, "night": 0.25}
    said = "`STYLE`: there is no style in 'two.h5' named 'nigth'; did you mean 'night'?"
    refused(call("photo.png", "two.h5", "nigth"), said)
    refused(call("photo.png", "two.h5", "wave", "wave"), "`STYLE`: a style is given twice")
    assert call("photo.png", "--styles", "two.h5", *SIZE, "-q", "-o", "each")[0] == 0
    for name in names:
        found = pixels(f"each/photo_two_{name}.png").astype(int)
        assert np.abs(found - painted({name: 1})).max() <= 1
    records = map(json.loads, Path("each/results.jsonl").read_text("utf-8").splitlines())
    assert [one["style"] for one in records] == ["two.h5;wave:1", "two.h5;night:1"]


def test_the_settings_are_embedded(call):
    call("photo.png", "art.png", *SIZE, *STYLE, "--strength", "0.5", "-q")
    facts = images.read_metadata("photo_art.png")
    assert facts["command"] == "instant" and facts["network"] == "arbitrary"
    assert facts["size"] == [40, 30] and facts["style_sizes"] == [[32, 32]]
    assert facts["strength"] == 0.5 and facts["finished"] is True
    assert facts["inputs"]["style"]["digest"] == images.glance("art.png").digest
    assert len(facts["weights"]["digest"]) == 64
    call("photo.png", "mosaic", *SIZE, "-q")
    assert images.read_metadata("photo_mosaic.png")["styles"] == {"mosaic": 1.0}
    call("photo.png", "mosaic", *SIZE, "-q", "--no-metadata", "-o", "bare.png")
    assert images.read_metadata("bare.png") is None


def test_orientation_and_transparency_are_those_of_the_photo(call):
    grey = Image.fromarray(pixels("photo.png")).convert("RGBA")
    grey.putalpha(Image.fromarray(np.tile(np.arange(60, dtype=np.uint8) * 4, (45, 1))))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    grey.save("turned.png", exif=exif)
    assert call("turned.png", "mosaic", *SIZE, "-o", "out.png", "-q")[0] == 0
    found = pixels("out.png")
    assert found.shape == (40, 30, 4)
    assert found[0, 0, 3] < 20 and found[-1, 0, 3] > 220


def test_no_overwrite_keeps_a_file(call):
    Path("out.png").write_bytes(b"mine")
    result = call("photo.png", "mosaic", *SIZE, "-o", "out.png", "--no-overwrite")
    refused(result, "`--output`: 'out.png' exists")
    assert Path("out.png").read_bytes() == b"mine"


def test_traced_programs_are_kept_between_starts(tmp_path, content, style):
    kept = programs.instant_kept_in(tmp_path / "programs")
    for _ in range(2):
        painter = instant_painter.InstantPainter(programs=kept)
        parsed = given_styles.ParsedStyle((np.asarray(style),), np.ones(1, np.float32))
        (image,) = painter.paint([painter.request(np.asarray(content), parsed)])
        kept = programs.instant_kept_in(tmp_path / "programs")
    names = sorted(path.name.split("-")[0] for path in (tmp_path / "programs").iterdir())
    assert names == ["style_vector", "stylize_with"]
    single = nst.instant(content, style, size="as-is", style_size="as-is")
    assert np.abs(np.asarray(image) - single).max() < 1e-5


# --- All styles -----------------------------------------------------------------------------------


def test_list_prints_every_style_with_its_number(call):
    code, out, _ = call("--list")
    lines = out.splitlines()
    assert code == 0 and len(lines) == 26
    for number, (name, line) in enumerate(zip(style_names.NAMES, lines, strict=True)):
        assert line.split()[:2] == [str(number), name]


def test_list_with_a_picture_draws_it_in_all_styles(call):
    code, out, _ = call("--list", "photo.png", *SIZE)
    assert (code, out) == (0, "photo_styles.png\n")
    sheet = pixels("photo_styles.png")
    assert sheet.shape[1] >= 6 * 40 and sheet.shape[0] >= 5 * 30
    first = expected("ochre")
    assert np.abs(sheet[8:38, 8:48].astype(int) - first).max() <= 1
    assert images.read_metadata("photo_styles.png")["contact_sheet"] == 26


# --- Many pictures --------------------------------------------------------------------------------


def rows(folder):
    listing = (Path(folder) / "results.jsonl").read_text().splitlines()
    return [json.loads(line) for line in listing]


def test_a_folder_in_several_styles(call):
    os.mkdir("photos")
    for name in ("a", "b"):
        os.link("photo.png", f"photos/{name}.png")
    Path("photos/c.png").write_bytes(b"no picture")
    Path("photos/notes.txt").write_text("passed over")
    argv = ("photos", "--styles", "mosaic", "24", "art.png", "-o", "out", *SIZE, "--sheet")
    code, out, err = call(*argv)
    assert code == 1 and out == "out\n"
    assert "warning: out/c_mosaic.png: `content`: 'photos/c.png'" in err
    names = {f"{a}_{b}.png" for a in "ab" for b in ("mosaic", "waves", "art")}
    assert {path.name for path in Path("out").glob("*.png")} == names | {"sheet.png"}
    assert [row["status"] for row in rows("out")].count("done") == 6
    assert np.abs(pixels("out/b_waves.png").astype(int) - expected("waves")).max() <= 1
    before = Path("out/a_art.png").stat().st_mtime_ns
    os.remove("photos/c.png")
    code, _, err = call(*argv)
    assert code == 0 and "6 of 6 pictures are finished" in err
    assert Path("out/a_art.png").stat().st_mtime_ns == before
    assert [row["status"] for row in rows("out")[-6:]] == ["skipped"] * 6


def test_a_folder_in_one_blend_and_pairs(call):
    os.mkdir("photos")
    os.link("photo.png", "photos/a.png")
    code, _, _ = call("photos", "mosaic:1", "waves:3", "-o", "out", *SIZE, "--format", "jpg", "-q")
    assert code == 0 and [path.name for path in Path("out").glob("*.jpg")] == ["a_mosaic_waves.jpg"]
    argv = ("photo.png", "photos/a.png", "--styles", "mosaic", "comic", "--pair", "zip")
    assert call(*argv, "-o", "zipped", *SIZE, "-q")[0] == 0
    assert {path.name for path in Path("zipped").glob("*.png")} == {
        "photo_mosaic.png",
        "a_comic.png",
    }


def test_in_a_bucket_a_smaller_last_group_is_filled(call, monkeypatch):
    write_pictures(**{f"q{number}": (40, 32) for number in range(3)})
    monkeypatch.setattr(chunk_size, "worthwhile_chunk", lambda shape, platform: 2)
    monkeypatch.setattr(chunk_size, "even_chunk", lambda count, most: min(count, most))
    painted, together = [], instant_painter.InstantPainter._together

    def counted(painter, requests):
        painted.append(len(requests))
        return together(painter, requests)

    monkeypatch.setattr(instant_painter.InstantPainter, "_together", counted)
    code, _, err = call("q*.png", "mosaic", *SIZE, "-o", "out", "--bucket", 48)
    assert code == 0, err
    assert painted == [2, 2] and len(rows("out")) == 3
    # 48 * 48 / (40 * 32) is 1.8.
    assert re.search("^bucket +48x48 px; 80% more pixels to compute$", err, re.MULTILINE)
    for number in range(3):
        one = images.to_uint8(nst.instant(f"q{number}.png", "mosaic", size=40)).astype(int)
        assert np.abs(pixels(f"out/q{number}_mosaic.png") - one).max() <= 1


@pytest.mark.parametrize("exhausted", [False, True])
def test_in_a_bucket_a_group_that_fails_is_painted_again_by_its_program(
    call, monkeypatch, exhausted
):
    write_pictures(**{f"q{number}": (40, 32) for number in range(3)})
    painted, together = [], instant_painter.InstantPainter._together

    def failing(painter, requests):
        painted.append(len(requests))
        if len(painted) == 1:
            raise RuntimeError("RESOURCE_EXHAUSTED: out of memory" if exhausted else "no luck")
        return together(painter, requests)

    monkeypatch.setattr(instant_painter.InstantPainter, "_together", failing)
    assert call("q*.png", "mosaic", *SIZE, "-o", "out", "--bucket", 48)[0] == 0
    # Where memory was exhausted, a single picture takes less.
    assert painted == [3, 1, 1, 1] if exhausted else painted == [3, 3, 3, 3]
    assert [row["status"] for row in rows("out")] == ["done"] * 3


def test_results_that_a_glob_would_find_are_refused(call):
    os.mkdir("photos")
    os.link("photo.png", "photos/a.png")
    said = "`--output`: 'photos/a_mosaic.png' would be found by 'photos/*.png', so the results"
    refused(call("photos/*.png", "mosaic", "-o", "photos", *SIZE), said)
    refused(
        call("other.png", "--styles", "photos/*", "mosaic", "-o", "photos", *SIZE),
        "'photos/other_a.png' would be found by 'photos/*'",
    )
    assert os.listdir("photos") == ["a.png"]
    argv = ("photos/*.png", "mosaic", "-o", "photos", "--format", "jpg", *SIZE)
    refused(call(*argv, "--sheet"), "'photos/sheet.png' would be found by 'photos/*.png'")
    assert call(*argv)[0] == 0
    code, _, err = call(*argv)
    assert code == 0 and "1 of 1 pictures are finished" in err


def test_a_strange_file_in_the_way_stops_many(call):
    os.mkdir("out")
    Path("out/photo_mosaic.png").write_bytes(b"mine")
    argv = ("photo.png", "--styles", "mosaic", "-o", "out", *SIZE)
    refused_text = "exists and this program did not write it"
    code, _, err = call(*argv)
    assert code == 2 and refused_text in err
    assert Path("out/photo_mosaic.png").read_bytes() == b"mine"
    assert call(*argv, "--overwrite")[0] == 0


@pytest.mark.parametrize("more", [[], ["--no-overwrite"]])
def test_a_painting_is_not_replaced_by_the_contact_sheet(call, more):
    os.mkdir("out")
    images.save("out/sheet.png", images.load("photo.png"), metadata={"finished": True})
    before = Path("out/sheet.png").read_bytes()
    argv = ("photo.png", "other.png", "--styles", "mosaic", "-o", "out", *SIZE, "--sheet")
    refused(call(*argv, *more), "`--output`: 'out/sheet.png' exists and is no contact sheet")
    assert Path("out/sheet.png").read_bytes() == before and os.listdir("out") == ["sheet.png"]


# --- Controls -------------------------------------------------------------------------------------


def save_mask(path, height=45, width=60):
    """Write a mask that is white in the upper half; return its array."""
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 2] = 255
    Image.fromarray(mask).save(path)
    return mask / np.float32(255)


def test_colours_realism_and_protection_are_those_of_python(call):
    protect = nst.controls.Protect(save_mask("face.png"), 0.5)
    flags = ("--colors", "content", "--realism", "0.5", "--protect", "face.png:0.5")
    code, _, err = call("photo.png", "art.png", *SIZE, *STYLE, *flags, "-o", "out.png")
    assert code == 0 and "colors      content\nrealism     0.5\nprotect     face.png:0.5\n" in err
    wanted = expected(
        "art.png", style_size="long:32", colors="content", realism=0.5, protect=protect
    )
    assert np.abs(pixels("out.png").astype(int) - wanted).max() <= 1
    facts = images.read_metadata("out.png")
    assert (facts["colors"], facts["realism"]) == ("content", 0.5)
    assert facts["protect"] == {"amount": 0.5}
    assert facts["inputs"]["protect"]["digest"] == images.glance("face.png").digest
    assert call("photo.png", "mosaic", *SIZE, "-o", "plain.png", "-q")[0] == 0
    Image.fromarray(np.pad(np.full((9, 60), 255, np.uint8), ((36, 0), (0, 0)))).save("feet.png")
    both = ("--protect", "face.png", "--protect", "feet.png")
    code, _, err = call("photo.png", "mosaic", *SIZE, *both, "-o", "both.png")
    assert code == 0 and "protect    face.png and feet.png:1\n" in err
    resized = nst.images.resizing.antialiased(
        images.load("photo.png"), pixels("both.png").shape[:2]
    )
    kept = np.abs(images.load("both.png") - np.asarray(resized)).max((1, 2)) < 1 / 255
    assert kept[0] and kept[-1] and not kept[len(kept) * 2 // 3]
    assert images.read_metadata("both.png")["inputs"]["protect_2"]["name"] == "feet.png"
    assert not {"colors", "realism", "protect"} & set(images.read_metadata("plain.png"))


def test_transparent_parts_have_no_part_in_the_colours(call):
    alpha = np.full((50, 50), 255, np.uint8)
    alpha[:, 25:] = 0
    Image.fromarray(np.dstack([pixels("art.png"), alpha])).save("hole.png")
    assert call("photo.png", "hole.png", *SIZE, "--colors", "palette", "-o", "a.png", "-q")[0] == 0
    wanted = expected("hole.png", colors="palette", style_opacity=images.read("hole.png").alpha)
    assert np.abs(pixels("a.png").astype(int) - wanted).max() <= 1
    assert np.abs(pixels("a.png") - expected("hole.png", colors="palette").astype(int)).max() > 3


def test_each_photo_of_a_folder_has_its_mask_and_another_mask_is_another_picture(call):
    for folder in ("photos", "faces"):
        os.mkdir(folder)
    for name in ("a", "b"):
        os.link("photo.png", f"photos/{name}.png")
        save_mask(f"faces/{name}.png")
    save_mask("faces/b.png", 90, 120)
    argv = ("photos", "--styles", "mosaic", "art.png", "-o", "out", *SIZE, "-q")
    assert call(*argv, "--protect", "faces")[0] == 0
    small = images.to_uint8(given_styles.resized_content(images.load("photo.png"), 40))
    for name in ("a_mosaic", "a_art", "b_mosaic", "b_art"):
        found = pixels(f"out/{name}.png")
        assert (found[:10] == small[:10]).all() and (found[20:] != small[20:]).any()
    refused_text = "`--protect`: folder 'faces' has no picture named as 'photos/b.png'"
    os.rename("faces/b.png", "faces/c.png")
    refused(call(*argv, "--protect", "faces"), refused_text)
    before = Path("out/a_art.png").read_bytes()
    code, _, err = call(*argv[:-1], "--protect", "faces/a.png:0.5")
    assert code == 0 and "are finished" not in err  # other settings: all are painted anew
    assert Path("out/a_art.png").read_bytes() != before
    assert "4 of 4 pictures are finished" in call(*argv[:-1], "--protect", "faces/a.png:0.5")[2]


def test_the_sheet_of_all_styles_may_have_the_photos_colours(call, monkeypatch):
    seen = []
    paint = instant_controls.controlled_request

    def request(painter, content, style, recipe, given, strength):
        seen.append((recipe.pictures.colors, given is not None))
        return paint(painter, content, style, recipe, given, strength)

    monkeypatch.setattr(instant_controls, "controlled_request", request)
    save_mask("face.png")
    flags = ("--colors", "content-after", "--protect", "face.png", "-o", "all.png", "-q")
    assert call("--list", "photo.png", "--size", "32", *flags)[0] == 0
    assert seen == [("content-after", True)] * 26


# --- Bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], ["`CONTENT`: is missing", "`--list`"]),
        (["photo.png"], ["`STYLE`: is missing", "`--list`"]),
        (["photo.png", "mosiac"], ["there is no style or file 'mosiac'; did you mean 'mosaic'?"]),
        (["photo.png", "26"], ["there is no style 26; they are numbered 0 to 25"]),
        (["photo.png", "no.png"], ["`STYLE`: there is no file 'no.png'"]),
        (["no.png", "mosaic"], ["`CONTENT`: there is no file 'no.png'"]),
        (["photo.png", "mosaic", "art.png"], ["'mosaic' is one of the 26 styles and 'art.png' is"]),
        (["photo.png", "mosaic", "15"], ["'mosaic' is given twice"]),
        (["photo.png", "mosaic", "mosaic", "waves"], ["'mosaic' is given twice"]),
        (["photo.png", "mosaic:0", "waves:0"], ["all shares are 0"]),
        (["photo.png", "mosaic:1", "waves"], ["'waves' has no share"]),
        (["photo.png", "mosaic", "--strength", "0.5"], ["`--strength`: is for style pictures"]),
        (["photo.png", "mosaic", "--style-size", "64"], ["`--style-size`: is for style pictures"]),
        (
            ["photo.png", "art.png", "--strength", "2"],
            ["`--strength`: expected 0 to 1 (0 is the content's"],
        ),
        (["photo.png", "art.png", "--size", "4"], ["`--size`: expected 16 to 65536 px, got 4"]),
        (["photo.png", "art.png", "--size", "400x8"], ["`--size`"]),
        (["photo.png", "art.png", "--style-size", "x"], ["`--style-size`: expected a number of"]),
        (["photo.png", "mosaic", "--sheet"], ["`--sheet`: is for several results"]),
        (["photo.png", "mosaic", "--format", "jpg"], ["`--format`: is for several results"]),
        (["photo.png", "mosaic", "-o", "photo.png"], ["`--output`: 'photo.png' is also another"]),
        (["photo.png", "mosaic", "-o", "x.gif"], ["`--output`: pictures are not written as .gif"]),
        (["photo.png", "mosaic", "--precision", "half"], ["`--precision`: there is no precision"]),
        (["photo.png", "--styles", "mosaic"], ["`--output`: is missing; name a folder"]),
        (
            ["photo.png", "--styles", "mosiac", "-o", "out"],
            ["`--styles`: there is no style or file"],
        ),
        (["photo.png", "x.png:2", "--styles", "mosaic", "-o", "out"], ["has a share"]),
        ([".", "mosaic", "-o", "."], ["`--output`: '.' is an input folder"]),
        (
            ["photo.png", "--styles", "mosaic", "-o", "photo.png"],
            ["`--output`: 'photo.png' is a file; name a folder"],
        ),
        (
            ["photo.png", "mosaic", "--colors", "content"],
            ["`--colors`: 'content' needs the pixels"],
        ),
        (["photo.png", "art.png", "--colors", "x"], ["`--colors`: there is no choice of colours"]),
        (
            ["--list", "photo.png", "--colors", "palette"],
            ["`--colors`: 'palette' needs the pixels"],
        ),
        (
            ["photo.png", "art.png", "--realism", "2"],
            ["`--realism`: expected 0 to 1 (0 is as painted"],
        ),
        (
            ["photo.png", "art.png", "--protect", "no.png"],
            ["`--protect`: there is no file 'no.png'"],
        ),
        (
            ["photo.png", "art.png", "--protect", "art.png"],
            ["`--protect`: the mask 'art.png' is in"],
        ),
        (
            ["photo.png", "art.png", "--region", "art.png:other.png"],
            ["`--region`: there is no such option; regions are for `nst-jax stylize`"],
        ),
        (["--list", "photo.png", "--strength", "0.5"], ["`--strength`: is for style pictures"]),
        (["--list", "photo.png", "mosaic"], ["`STYLE`: `--list` shows all 26 styles"]),
        (["--list", "-o", "x.png"], ["`--output`: is for the sheet of a picture"]),
        (["--list", "."], ["`CONTENT`: '.' is not one picture"]),
        (["photo.png", "mosaic", "--pair", "zip"], ["`--pair`: is for several results; name a"]),
        (["--list", "photo.png", "--pair", "zip"], ["`--pair`: is for several results; `--list`"]),
        (["--list", "photo.png", "--sheet"], ["`--sheet`: is for several results; `--list`"]),
        (["--list", "photo.png", "--format", "jpg"], ["`--format`: is for several results"]),
    ],
)
def test_bad_input_is_refused_before_any_work(call, argv, words, monkeypatch):
    monkeypatch.setattr(instant_painter.InstantPainter, "paint", None)
    refused(call(*argv), *words)
    assert not Path("out").exists()


def test_a_damaged_picture_is_bad_input(call):
    whole = Path("photo.png").read_bytes()
    Path("photo.png").write_bytes(whole[: len(whole) // 2])
    code, _, err = call("photo.png", "mosaic", *SIZE)
    assert code == 2 and not Path("photo_mosaic.png").exists()
    assert "nst-jax: error: `CONTENT`: 'photo.png' is damaged" in err.splitlines()[-1]


# --- The preview of a run -------------------------------------------------------------------------


@pytest.fixture
def job(monkeypatch):
    """Return the arguments of `stylize` for a short run that writes the picture meanwhile."""
    recipe = nst.recipes.TF.replace(
        name="tiny",
        content_taps=("relu1_1",),
        content_layer_weights=(1.0,),
        style_taps=("relu1_1",),
        style_layer_weights=(1.0,),
        pictures__size=nst.recipes.sizes.LongEdge(40),
        steps=2,
    )
    monkeypatch.setitem(nst.recipes.PRESETS, "tiny", recipe)
    return ["stylize", "photo.png", "art.png", "--recipe", "tiny", "-o", "out.png"]


def test_a_run_that_writes_its_picture_begins_with_a_preview(job, monkeypatch, capsys):
    seen = {}

    def paint_planned(*arguments, **options):
        seen["pixels"], seen["facts"] = pixels("out.png"), images.read_metadata("out.png")
        raise KeyboardInterrupt

    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", paint_planned)
    assert cli.main([*job, "--every", "1"]) == 130
    assert "out.png shows a preview" in capsys.readouterr().err
    assert np.abs(seen["pixels"].astype(int) - expected("art.png")).max() <= 1
    assert seen["facts"]["preview"] == "arbitrary" and seen["facts"]["finished"] is False


def test_a_preview_compiles_nothing(job, monkeypatch, compilations):
    compiled, begin = [], preview.Preview.begin

    def counting(self, *arguments, **options):
        before = compilations()
        begin(self, *arguments, **options)  # with `--every` it returns when the preview is written
        compiled.append(compilations() - before)

    monkeypatch.setattr(preview.Preview, "begin", counting)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    images.save("clear.png", small.picture("chelsea", 59, 31), alpha=np.full((59, 31), 0.5))
    images.save("wide.png", small.picture("gravel", 29, 60))
    argv = ["stylize", "clear.png", "wide.png", *job[3:]]
    assert cli.main([*argv, "--every", "1"]) == 130
    assert compiled == [0] and images.read_metadata("out.png")["preview"] == "arbitrary"
    shown = images.read("out.png")
    assert shown.image.shape == (40, 21, 3) and np.abs(shown.alpha - 0.5).max() < 0.01


def test_the_preview_is_replaced_and_the_start_recorded(job):
    assert cli.main([*job, "--every", "1", "--no-overwrite", "--init", "instant", "-q"]) == 0
    facts = images.read_metadata("out.png")
    assert "preview" not in facts and facts["finished"] is True
    assert facts["settings"]["pictures.start"] == "Instant"


def test_a_run_without_such_a_picture_has_no_preview(job, monkeypatch, capsys):
    monkeypatch.setattr(preview, "_painted", None)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", lambda *args, **options: iter(()))
    cli.main(job)
    assert "preview" not in capsys.readouterr().err


def test_without_a_preview_the_run_goes_on(job, monkeypatch, capsys):
    def fail(*arguments):
        raise MemoryError("no room")

    monkeypatch.setattr(preview, "_painted", fail)
    assert cli.main([*job, "--every", "1"]) == 0
    assert "note: there is no preview: no room" in capsys.readouterr().err


def test_somebody_at_a_terminal_sees_a_preview_of_any_run(job, monkeypatch, capsys):
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", True)
    shown = Event()
    say = preview.Display.say
    monkeypatch.setattr(
        preview.Display,
        "say",
        lambda self, text: (say(self, text), "preview" in text and shown.set()),
    )

    def paint_planned(*arguments, **options):
        assert shown.wait(100)  # it is painted in another thread
        raise KeyboardInterrupt

    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", paint_planned)
    assert cli.main(job) == 130
    assert images.read_metadata("out.png")["preview"] == "arbitrary"


def no_canvas(*arguments, **options):
    """Stand for a run that is interrupted before its first canvas."""
    raise KeyboardInterrupt


@pytest.fixture
def earlier(job, monkeypatch):
    """A picture with the name of the result, and a terminal; runs wait until the preview is written."""
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", True)
    monkeypatch.setattr(preview, "PATIENCE", 100)
    Image.new("RGB", (40, 30), "red").save("out.png")
    os.chmod("out.png", 0o640)
    return Path("out.png").read_bytes()


def hidden():
    return sorted(path.name for path in Path().glob(".out*"))


def test_an_earlier_picture_comes_back_after_a_run_without_a_canvas(
    job, earlier, monkeypatch, capsys
):
    seen = []

    def paint_planned(*arguments, **options):
        seen.append(images.read_metadata("out.png")["preview"])
        raise KeyboardInterrupt

    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", paint_planned)
    changed = os.stat("out.png").st_mtime_ns
    for more in ([], ["--every", "1"]):
        assert cli.main([*job, *more]) == 130
        assert Path("out.png").read_bytes() == earlier
        assert "out.png shows a preview" in capsys.readouterr().err
    assert seen == ["arbitrary"] * 2 and hidden() == []
    assert os.stat("out.png").st_mtime_ns == changed
    assert os.stat("out.png").st_mode & 0o777 == 0o640


def test_an_earlier_picture_comes_back_if_the_run_is_refused_late(job, earlier, monkeypatch):
    def refuse(*arguments, **options):
        raise ValueError("`region`: 'sky.png' has no pixel at relu1_1")

    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", refuse)
    assert cli.main(job) == 2
    assert Path("out.png").read_bytes() == earlier and hidden() == []


def test_a_canvas_replaces_an_earlier_picture_for_good(job, earlier):
    assert cli.main(job) == 0
    assert images.read_metadata("out.png")["finished"] is True and hidden() == []


def test_the_earlier_picture_of_a_killed_run_comes_back_when_the_next_begins(
    job, earlier, monkeypatch
):
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    with monkeypatch.context() as killed:
        killed.setattr(preview.Preview, "__exit__", lambda *arguments: None)
        assert cli.main(job) == 130
    assert hidden() == [".out.png.before"] and Path("out.png").read_bytes() != earlier
    page = Path(__file__).parents[1] / "docs" / "reliability.md"
    assert "`.out.png.before`" in page.read_text()  # the page names what a kill leaves
    monkeypatch.setattr(preview, "_painted", no_canvas)  # the next run has no preview of its own
    assert cli.main(job) == 130
    assert Path("out.png").read_bytes() == earlier and hidden() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        *(pytest.param(one, marks=pytest.mark.long) for one in (signal.SIGTERM, signal.SIGHUP)),
    ],
)
def test_a_signal_brings_an_earlier_picture_back(tmp_path, number):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "out.png")
    before = (tmp_path / "out.png").read_bytes()
    screen, terminal = os.openpty()
    argv = ["stylize", "photo.png", "art.png", "--size", "160", "-o", "out.png"]
    run = subprocess.Popen(
        [sys.executable, "-m", "nst_jax", *argv],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    said = b""
    while b"shows a preview" not in said:
        said += os.read(screen, 4096)
    assert (tmp_path / "out.png").read_bytes() != before
    run.send_signal(number)  # `default` is still compiling
    with contextlib.suppress(OSError):  # the terminal is closed at the end
        while True:
            said += os.read(screen, 4096)
    assert run.wait() == 128 + number and b"interrupted" in said
    assert (tmp_path / "out.png").read_bytes() == before
    assert not list(tmp_path.glob(".out*"))
    os.close(screen)


def test_an_earlier_picture_with_a_long_name_gets_a_name_of_its_own(job, earlier, monkeypatch):
    output = Path("x" * 251 + ".png")
    _files.hidden_path(output, "before").write_bytes(earlier)
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", False)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main([*job[:-1], str(output), "--no-overwrite"]) == 130
    (beside,) = Path().glob("x*.png")
    assert beside.read_bytes() == earlier and beside.name.endswith("_before.png")
    assert not list(Path().glob(".x*"))


def test_a_run_without_a_preview_brings_an_earlier_picture_back_too(job, earlier, monkeypatch):
    Path(".out.png.before").write_bytes(earlier)
    images.save("out.png", np.zeros((16, 16, 3)), metadata={"preview": "arbitrary"})
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", False)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main(job) == 130
    assert Path("out.png").read_bytes() == earlier and hidden() == []
    # Somebody may have deleted the preview that the killed run had left.
    Path("out.png").rename(".out.png.before")
    assert cli.main(job) == 130
    assert Path("out.png").read_bytes() == earlier and hidden() == []
    # With --no-overwrite, its place stays free for the result, and it gets a name of its own.
    Path("out.png").rename(".out.png.before")
    assert cli.main([*job, "--no-overwrite"]) == 130
    assert Path("out_before.png").read_bytes() == earlier and hidden() == []
    assert not Path("out.png").exists()
    Path("out_before.png").rename("out.png")
    # A copy beside a result is what a run left that was killed just after its first canvas.
    Path(".out.png.before").write_bytes(b"older")
    assert cli.main(job) == 130
    assert Path("out.png").read_bytes() == earlier and hidden() == []


def test_an_earlier_picture_that_cannot_be_put_back_is_named(job, earlier, monkeypatch, capsys):
    def refuse(*arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    monkeypatch.setattr(preview, "os", SimpleNamespace(replace=refuse))
    assert cli.main(job) == 130
    said = " ".join(capsys.readouterr().err.split())
    assert "could not be put back as it was" in said and ".out.png.before'" in said
    assert Path(".out.png.before").read_bytes() == earlier


def test_a_picture_stays_if_its_preview_would_have_no_mark(job, earlier, monkeypatch, capsys):
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main([*job, "--no-metadata"]) == 130
    assert Path("out.png").read_bytes() == earlier
    assert "preview" not in capsys.readouterr().err


def test_a_link_to_an_earlier_picture_stays_a_link(job, earlier, monkeypatch):
    Path("pictures").mkdir()
    Path("out.png").rename("pictures/real.png")
    Path("out.png").symlink_to("pictures/real.png")
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main(job) == 130
    assert Path("out.png").is_symlink() and Path("pictures/real.png").read_bytes() == earlier


def test_without_room_for_the_earlier_picture_there_is_no_preview(
    job, earlier, monkeypatch, capsys
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main(job) == 130
    assert Path("out.png").read_bytes() == earlier
    assert "note: there is no preview: " in capsys.readouterr().err


def test_the_preview_of_an_earlier_run_is_replaced(job, monkeypatch, capsys):
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", True)
    monkeypatch.setattr(preview, "PATIENCE", 100)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    for shade in (0.25, 0.75):
        image = np.full((30, 40, 3), shade, np.float32)
        monkeypatch.setattr(preview, "_painted", lambda *arguments, image=image: image)
        assert cli.main(job) == 130
        assert abs(int(pixels("out.png")[0, 0, 0]) - 255 * shade) <= 1
    assert capsys.readouterr().err.count("out.png shows a preview") == 2
    monkeypatch.undo()
    assert cli.main([*job, "--no-overwrite"]) == 2


def test_there_is_no_preview_on_standard_output(job, monkeypatch, capsysbinary):
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", True)
    monkeypatch.setattr(preview, "_painted", None)
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", no_canvas)
    assert cli.main([*job[:-1], "-"]) == 130
    out, err = capsysbinary.readouterr()
    assert out == b"" and b"preview" not in err


# Makes a second client of the CPU jax's default backend, in place of an accelerator. For the preview,
# `platform_of` calls it a GPU. Prints on which of the two clients each kept program computed, and which
# was the default device when controls were applied to the preview, and when it was written.
ACCELERATOR = """
import sys
import jax
from jax._src import xla_bridge
from jax._src.lib import xla_client
xla_bridge.register_backend_factory("other", xla_client.make_cpu_client, priority=1000)
cpu, default = jax.local_devices(backend="cpu")[0], jax.local_devices()[0]
assert cpu.client is not default.client

from types import SimpleNamespace
from nst_jax.app import cli, preview
from nst_jax.app import kept_function
from nst_jax.recipes import PRESETS, TF
from nst_jax.scaling import capacity
preview.capacity = SimpleNamespace(platform_of=lambda: "gpu")
call, write, show = kept_function.Kept.__call__, preview.write_picture, preview.Preview._show
control = preview.instant_controls.controlled_request

def reporting(self, *arguments, **named):
    result = call(self, *arguments, **named)
    clients = {device.client for leaf in jax.tree.leaves(result) for device in leaf.devices()}
    where = [name for name, one in [("cpu", cpu), ("default", default)] if one.client in clients]
    print(self._function.__name__, *where)
    return result

def writing(*arguments, **options):
    print("preview", "cpu" if capacity.default_device() == cpu else "default")
    write(*arguments, **options)

def controlled(*arguments):
    print("controls", "cpu" if capacity.default_device() == cpu else "default")
    return control(*arguments)

def showing(self, content):
    show(self, content)
    print("waited" if self.written else "went on")
    self._pool.submit(lambda: None).result()  # let it be written before the first canvas

taps = dict(content_taps=("relu1_1",), style_taps=("relu1_1",))
PRESETS["tiny"] = TF.replace(**taps, content_layer_weights=(1.0,), style_layer_weights=(1.0,))
kept_function.Kept.__call__, preview.write_picture = reporting, writing
preview.Preview._show, preview.instant_controls.controlled_request = showing, controlled
sys.exit(cli.main(sys.argv[1:]))
"""


def test_on_an_accelerator_the_cpu_paints_the_preview_meanwhile(tmp_path):
    arguments = ["photo.png", "art.png", "--recipe", "tiny", *SIZE, "--steps", "2"]

    def painted(*options):
        found = subprocess.run(
            [sys.executable, "-c", ACCELERATOR, "stylize", *arguments, *options, "-o", "out.png"],
            env={name: os.environ[name] for name in os.environ if not name.startswith("JAX_")}
            | {"XDG_CACHE_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert found.returncode == 0, found.stderr
        return found

    def programs_of_runs():
        return {path for name in ("run", "measure_content") for path in tmp_path.rglob(f"{name}-*")}

    found = painted("--every", "1")
    lines = found.stdout.splitlines()
    assert {"controls cpu", "preview cpu", "went on"} <= set(lines)
    assert {"measure_content default", "run default"} <= set(lines)
    assert not {"controls default", "run cpu"} & set(lines)
    assert "out.png shows a preview" in found.stderr
    # A run without a preview finds the programs of a run with one.
    stored = programs_of_runs()
    assert "preview" not in painted().stderr
    assert len(stored) == 2 and programs_of_runs() == stored


def test_there_is_a_preview_if_jax_has_no_cpu(job, monkeypatch):
    asked, shown = [], Event()

    def local_devices(*, backend):
        asked.append(backend)
        raise RuntimeError("Unknown backend cpu")

    def paint_planned(*arguments, **options):
        assert shown.wait(100)  # a run on an accelerator does not wait for it
        raise KeyboardInterrupt

    say = preview.Display.say
    monkeypatch.setattr(preview, "capacity", SimpleNamespace(platform_of=lambda: "gpu"))
    monkeypatch.setattr(preview, "jax", SimpleNamespace(local_devices=local_devices))
    monkeypatch.setattr(
        preview.Display,
        "say",
        lambda self, text: (say(self, text), "preview" in text and shown.set()),
    )
    monkeypatch.setattr("nst_jax.planned_painting.paint_planned", paint_planned)
    assert cli.main([*job, "--every", "1"]) == 130
    assert asked == ["cpu"] and images.read_metadata("out.png")["preview"] == "arbitrary"


def test_a_run_that_is_done_does_not_wait_for_its_preview(job, monkeypatch):
    monkeypatch.setattr("nst_jax.app.progress.Display.is_live", True)
    monkeypatch.setattr(interrupts, "threads_left", False)
    monkeypatch.setattr(preview, "PATIENCE", 0.01)
    go_on = Event()
    monkeypatch.setattr(preview, "_painted", lambda *arguments: go_on.wait(100))
    try:
        assert cli.main(job) == 0
        assert interrupts.threads_left  # so `main` ends the process without waiting for threads
    finally:
        go_on.set()
    assert images.read_metadata("out.png")["finished"] is True


def test_a_preview_that_comes_late_replaces_no_canvas(tmp_path, as_users_do):
    begun, go_on = Event(), Event()

    def paint(*arguments):
        begun.set()
        assert go_on.wait(100)
        return np.zeros((16, 16, 3), np.float32)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preview, "_painted", paint)
        patch.setattr(preview, "PATIENCE", 0.1)
        outputs = Outputs(picture=tmp_path / "out.png")
        display = SimpleNamespace(is_live=True, say=print)
        with preview.Preview(outputs, display) as early:
            early.begin(None, [], nst.recipes.DEFAULT, (16, 16), None, inputs={})
            assert begun.is_set()
            early.accept()
            early.close()
            go_on.set()
    assert not early.written and not outputs.picture.exists()


def test_there_is_no_preview_of_a_run_that_is_refused(job, monkeypatch, capsys):
    painted = Event()

    def paint(*arguments):
        painted.set()
        return np.zeros((30, 40, 3), np.float32)

    monkeypatch.setattr(preview, "_painted", paint)

    def refuse(*arguments, **options):
        assert painted.wait(100)
        raise ValueError("`size`: needs more memory than there is")

    monkeypatch.setattr("nst_jax.app.job.plan_in_arrays", refuse)
    assert cli.main([*job, "--every", "1"]) == 2
    assert not Path("out.png").exists()
    Path("out.png").write_bytes(b"an earlier result")
    assert cli.main([*job, "--every", "1"]) == 2
    assert Path("out.png").read_bytes() == b"an earlier result"
