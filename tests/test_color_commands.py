"""Colours and realism at the command line: `stylize`, batches and their manifests, `sweep`."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import nst_jax as nst
from docs import controls_page
from nst_jax.app import messages
from tests import test_cli
from tests.shell import pixels, refused
from tests.test_cli import TINY

here, call = test_cli.here, test_cli.call  # fixtures: a folder with pictures, and the command line


def painted(params, content="photo.png", **options):
    """Return what Python paints, as 8 bits."""
    pictures = nst.images.load(content), nst.images.load("art.png")
    image = nst.stylize(params, *pictures, recipe=options.pop("recipe", TINY), **options)
    return nst.images.to_uint8(np.asarray(image))


@pytest.mark.parametrize(
    "colors",
    [
        *("content", "palette"),
        *(pytest.param(name, marks=pytest.mark.long) for name in ("luminance", "content-after")),
    ],
)
def test_stylize_paints_as_python_does(colors, call, params):
    words = ("--recipe", "tiny", "--colors", colors, "--realism", "0.5", "-o", "out.png")
    code, _, err = call("stylize", "photo.png", "art.png", *words)
    assert code == 0, err
    assert_array_equal(pixels("out.png"), painted(params, colors=colors, realism=0.5))
    settings = nst.images.read_metadata("out.png")["settings"]
    assert settings["pictures.colors"] == colors and settings["pictures.realism"] == 0.5
    assert f"\n  {'colors'}" in err or "colors" in err


def test_a_recipe_file_sets_the_controls_and_options_replace_them(call, params):
    Path("mine.toml").write_text(
        'base = "tiny"\n[pictures]\ncolors = "content"\ncolor_map = "pca"\nrealism = 1\n'
    )
    assert call("stylize", "photo.png", "art.png", "--recipe", "mine.toml", "-o", "a.png")[0] == 0
    recipe = TINY.replace(color_map="pca")
    wanted = painted(params, recipe=recipe, colors="content", realism=1.0)
    assert_array_equal(pixels("a.png"), wanted)
    words = ("--recipe", "mine.toml", "--realism", "0", "-o", "b.png")
    assert call("stylize", "photo.png", "art.png", *words)[0] == 0
    assert_array_equal(pixels("b.png"), painted(params, recipe=recipe, colors="content"))


def test_rows_of_a_manifest_have_their_own_controls(call, params):
    overrides = (
        ["pictures.realism=0.5"],
        ["pictures.realism=1"],
        ["pictures.colors=palette"],
        [],
    )
    rows = [
        {"content": "photo.png", "style": "art.png", "output": f"{n}.png", "overrides": changed}
        for n, changed in enumerate(overrides)
    ]
    Path("jobs.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    code, _, err = call("batch", "jobs.jsonl", "--recipe", "tiny", "-o", "out")
    assert code == 0, err
    for number, options in enumerate(
        ({"realism": 0.5}, {"realism": 1.0}, {"colors": "palette"}, {})
    ):
        difference = pixels(f"out/{number}.png").astype(int) - painted(params, **options)
        assert np.abs(difference).max() <= 1, options
        settings = nst.images.read_metadata(f"out/{number}.png")["settings"]
        for name, value in options.items():
            assert settings[f"pictures.{name}"] == value


def test_one_style_is_recoloured_for_each_photo_of_a_batch(call, params):
    words = ("--styles", "art.png", "--recipe", "tiny", "--colors", "content", "-o", "out")
    assert call("batch", "photo.png", "other.png", *words)[0] == 0
    for name in ("photo", "other"):
        found = pixels(f"out/{name}_art.png").astype(int)
        wanted = painted(params, content=f"{name}.png", colors="content")
        assert np.abs(found - wanted).max() <= 1


def test_a_sweep_has_the_controls_in_all_its_pictures(call):
    axis = ("--recipe", "tiny", "--size", "40", "--style-weight", "1,2")
    for output, more in (("plain.png", ()), ("grey.png", ("--colors", "luminance"))):
        code, _, err = call("sweep", "photo.png", "art.png", *axis, *more, "-o", output)
        assert code == 0, err
    assert "luminance" in err
    assert (pixels("plain.png") != pixels("grey.png")).any()


BAD = {
    "a word": (
        ("--colors", "photo"),
        "`--colors`: there is no choice of colours 'photo'; expected on",
    ),
    "nearly a word": (("--colors", "luminence"), "did you mean 'luminance'?"),
    "too much": (("--realism", "2"), "`--realism`: expected 0 to 1 (0 is as painted"),
    "no number": (("--realism", "much"), "`--realism`: 'much' is not a valid float"),
    "a map for nothing": (
        ("--set", "pictures.color_map=pca"),
        "`pictures.color_map`: is the map of `colors='content'`",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused_in_one_line(case, call):
    words, message = BAD[case]
    refused(call("stylize", "photo.png", "art.png", *words), message)


def test_colors_is_what_is_suggested_for_its_misspellings():
    known = ["--colors", "--realism", "--content-weight", "--recipe", "--resume"]
    for name in ("--color", "--colours"):
        assert messages.did_you_mean(name, known) == "did you mean --colors?"


# --- The page `docs/controls.md` ------------------------------------------------------------------


def test_the_page_of_the_controls_has_every_picture_and_its_command():
    text = controls_page.PAGE.read_text()
    named = {*controls_page.OPTIONS, *controls_page.OTHERS, controls_page.STRIP}
    assert {path.name for path in controls_page.FOLDER.iterdir()} == {
        controls_page.file_of(name) for name in named
    }
    for name in named:
        assert f"](controls/{controls_page.file_of(name)})" in text
    for name in (*controls_page.OPTIONS, *controls_page.OTHERS):
        assert f"\n{controls_page.command(name)}\n" in text
    for name in controls_page.OPTIONS:
        settings = nst.images.read_metadata(controls_page.FOLDER / f"{name}.jpg")
        assert settings["recipe"] == "default" and settings["size"] == [256, 170]
    words = controls_page.command(controls_page.TILE).split()
    side, steps = (int(words[words.index(flag) + 1]) for flag in ("--size", "--steps"))
    laid = controls_page.FOLDER / controls_page.file_of(controls_page.TILE)
    settings = nst.images.read_metadata(laid)
    assert settings["size"] == [side, side] and settings["steps"] == settings["steps_done"] == steps
    copies = nst.images.load(laid)[16:, 16:]  # without the margin
    first, *others = (copies[y:, x:][:side, :side] for y in (0, side) for x in (0, side))
    assert all(
        np.abs(one - first).mean() < 0.02 for one in others
    )  # four copies, as JPEG keeps them
    cut_out = nst.images.read(controls_page.FOLDER / controls_page.file_of("transparent"))
    assert cut_out.alpha is not None and cut_out.alpha.min() == 0 and cut_out.alpha.max() == 1
