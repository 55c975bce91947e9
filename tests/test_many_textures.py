"""Textures, which have no content, in manifests of `batch` and in `stylize_many`."""

import json
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nst_jax as nst
from nst_jax import images, recipes
from nst_jax.controls.given import Protect
from nst_jax.recipes import starts
from tests import small
from tests.shell import caller, pixels, refused, write_pictures

SHALLOW = small.quickest(recipes.GATYS_TEXTURE, steps=2).replace(start=starts.MeanNoise(1.0))
TINY = replace(SHALLOW, name="tiny")
STYLES = [small.picture("starry_night", 48, 64), small.picture("gravel", 40, 40)]
OPTIONS = {"recipe": SHALLOW, "size": "32x24"}


# --- In `stylize_many` ----------------------------------------------------------------------------


@pytest.mark.long
def test_many_textures_are_those_of_single_calls(params):
    keys = jax.random.split(jax.random.key(5), 2)
    found = nst.stylize_many(params, None, STYLES, key=keys, **OPTIONS)
    assert found.shape == (2, 24, 32, 3)
    for image, style, key in zip(found, STYLES, keys, strict=True):
        assert_allclose(image, nst.texture(params, style, key=key, **OPTIONS), atol=1e-5)
    with pytest.raises(AssertionError):
        assert_allclose(found[0], nst.texture(params, STYLES[0], key=keys[1], **OPTIONS), atol=1e-2)


def test_without_keys_textures_draw_from_a_key_of_their_own_each(params):
    found = nst.stylize_many(params, None, STYLES, key=jax.random.key(3), **OPTIONS)
    for place, (image, style) in enumerate(zip(found, STYLES, strict=True)):
        key = jax.random.fold_in(jax.random.key(3), place)
        assert_allclose(image, nst.texture(params, style, key=key, **OPTIONS), atol=1e-5)


def test_textures_have_the_sizes_of_their_styles_and_borders_that_meet(params):
    options = {"recipe": SHALLOW.replace(size=recipes.sizes.AsIs()), "seamless": True}
    keys = jax.random.split(jax.random.key(5), 2)
    found = nst.stylize_many(params, None, STYLES, key=keys, **options)
    assert [image.shape[:2] for image in found] == [(48, 64), (48, 48)]  # multiples of 16 px
    for image, style, key in zip(found, STYLES, keys, strict=True):
        assert_allclose(image, nst.texture(params, style, key=key, **options), atol=1e-5)


def test_another_style_or_key_of_textures_compiles_nothing(params, compilations):
    keys = jax.random.split(jax.random.key(5), 2)
    nst.stylize_many(params, None, [STYLES[0]] * 2, key=keys, **OPTIONS)
    other = [STYLES[0][::-1].copy(), STYLES[0][:, ::-1].copy()]
    keys = jax.random.split(jax.random.key(6), 2)
    before = compilations()
    nst.stylize_many(params, None, other, key=keys, **OPTIONS)
    assert compilations() == before


def test_pictures_with_a_content_take_an_array_of_keys(params):
    content, style = small.picture("chelsea", 24, 32), STYLES[0]
    recipe = small.quickest(steps=2)
    keys = jax.random.split(jax.random.key(5), 2)
    options = {"recipe": recipe, "init": starts.Noise()}
    found = nst.stylize_many(params, content, style, key=keys, **options)
    assert len(found) == 2
    for image, key in zip(found, keys, strict=True):
        assert_allclose(image, nst.stylize(params, content, style, key=key, **options), atol=1e-5)


MASK = np.ones((24, 32), np.float32)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"contents": [None, STYLES[0]]}, r"`contents\[0\]`: is None; paint textures by a call of"),
        ({"contents": STYLES[0], "seamless": True}, "`seamless`: is for textures"),
        (
            {"recipe": SHALLOW.replace(content_weight=np.array([1.0, 2.0]))},
            "`recipe`: `terms.content_weight` is an array, but textures",
        ),
        ({"colors": "content"}, "`colors`: cannot be used for textures .* leave it out"),
        ({"realism": 0.5}, "`realism`: cannot be used for textures"),
        ({"strength": 0.5}, "`strength`: cannot be used for textures"),
        ({"protect": Protect(MASK)}, "`protect`: cannot be used for textures"),
        ({"opacity": MASK}, "`opacity`: cannot be used for textures .* `style_opacity`"),
        ({"style_fine": STYLES[1]}, "`style_fine`: cannot be used .* `nst_jax.combined_style`"),
        ({"init": STYLES[0]}, "`init`: textures .* start from noise"),
        ({"init": starts.FromContent()}, "`init`: textures .* start from noise"),
        ({"size": "8x8"}, "`size`: "),
        ({"size": "40x40", "seamless": True}, "`size`: "),
        ({"key": jax.random.split(jax.random.key(0), 3)}, "3"),
        (
            {"key": jax.random.split(jax.random.key(0), (2, 2))},
            "`key`: expected a random key, or an",
        ),
    ],
)
def test_what_textures_do_not_have_is_refused(params, given, message):
    arguments = {"contents": None, "styles": STYLES} | OPTIONS | given
    with pytest.raises(ValueError, match=message):
        nst.stylize_many(params, **arguments)


# --- In manifests ---------------------------------------------------------------------------------


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(24, 32), art=(30, 40), other=(48, 32))
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY)
    return caller(capsys)


def manifest(*rows):
    Path("jobs.csv").write_text("\n".join(rows) + "\n")
    return "jobs.csv"


COMMAND = ("-o", "out", "--no-cache", "-q")


def test_rows_without_a_content_are_textures(call):
    listed = manifest(
        "content,style,recipe,size,seed,tile_seamless,output",
        ",art.png,tiny,32x24,3,,",
        ",other.png,tiny,32,4,yes,sea.png",
        "photo.png,art.png,tiny,,,,",
        ",art.png:1;other.png:3,tiny,,,,",
    )
    assert call("batch", listed, *COMMAND)[0] == 0
    records = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert [record["status"] for record in sorted(records, key=lambda r: r["row"])] == ["done"] * 4
    singles = {
        "art_texture": ("art.png", "--size", "32x24", "--seed", "3"),
        "sea": ("other.png", "--size", "32", "--seed", "4", "--tile-seamless"),
        "art_other_texture": ("art.png:1", "other.png:3"),
    }
    for name, words in singles.items():
        command = ("texture", *words, "--recipe", "tiny", "-o", f"{name}.png", "--no-cache", "-q")
        assert call(*command)[0] == 0
        difference = pixels(f"out/{name}.png").astype(int) - pixels(f"{name}.png")
        assert np.abs(difference).max() <= 1  # of 255, by rounding
        one, other = images.read_metadata(f"out/{name}.png"), images.read_metadata(f"{name}.png")
        assert one["seed"] == other["seed"] and one["recipe"] == other["recipe"] == "tiny"
    assert pixels("out/photo_art.png").shape == pixels("photo.png").shape
    # Finished rows are skipped, unless something of them changed.
    before = Path("out/results.jsonl").read_text()
    code, _, error = call("batch", listed, *COMMAND[:-1])
    assert code == 0 and "finished" in error
    assert Path("out/results.jsonl").read_text().startswith(before)


@pytest.mark.long
def test_textures_of_one_size_are_painted_together(call):
    listed = manifest("style,recipe,seed", "art.png,tiny,1", "other.png,tiny,2")
    assert call("batch", listed, "--size", "32x16", *COMMAND)[0] == 0
    found = [pixels(f"out/{name}_texture.png") for name in ("art", "other")]
    assert [one.shape for one in found] == [(16, 32, 3)] * 2
    call(
        "texture",
        "other.png",
        "--recipe",
        "tiny",
        "--size",
        "32x16",
        "--seed",
        "2",
        "-q",
        "--no-cache",
    )
    assert np.abs(found[1].astype(int) - pixels("other_texture.png")).max() <= 1
    again = manifest("style,recipe,seed", "other.png,tiny,2")
    assert call("batch", again, "--size", "32x16", "-o", "alone", "--no-cache", "-q")[0] == 0
    assert_array_equal(pixels("alone/other_texture.png"), found[1])


@pytest.mark.parametrize("words", [("--bucket", "48"), ("--devices", "2", "--bands", "2")])
def test_textures_in_buckets_and_in_bands_are_those_of_the_command(call, words):
    listed = manifest("style,recipe,seed,size", "art.png,tiny,1,48x32", "other.png,tiny,2,32x48")
    assert call("batch", listed, *words, *COMMAND)[0] == 0
    for name, seed, size in (("art", "1", "48x32"), ("other", "2", "32x48")):
        single = ("--recipe", "tiny", "--seed", seed, "--size", size, "--no-cache", "-q")
        assert call("texture", f"{name}.png", *single)[0] == 0
        here, there = f"{name}_texture.png", f"out/{name}_texture.png"
        assert np.abs(pixels(here).astype(int) - pixels(there)).max() <= 1
        one, other = images.read_metadata(here), images.read_metadata(there)
        same = ("recipe", "seed", "size", "steps", "inputs")
        assert [one[key] for key in same] == [other[key] for key in same]


def test_a_recipe_file_of_a_row_gives_a_texture_what_it_gives_the_command(call):
    """Its colours have no effect on a texture; the style of its layer has one."""
    Path("own.toml").write_text(
        'base = "tiny"\n[pictures]\ncolors = "content"\n'
        '[controls]\nstyle_layer = { relu1_1 = "other.png" }\n'
    )
    row = {"style": "art.png", "recipe": "own.toml", "size": 32, "tile_seamless": True}
    Path("jobs.jsonl").write_text(json.dumps(row))
    assert call("batch", "jobs.jsonl", *COMMAND)[0] == 0
    words = ("--recipe", "own.toml", "--size", "32", "--tile-seamless", "--no-cache", "-q")
    assert call("texture", "art.png", *words)[0] == 0
    found = pixels("out/art_texture.png").astype(int)
    assert np.abs(found - pixels("art_texture.png")).max() <= 1
    code, out, _ = call("info", "out/art_texture.png")
    assert code == 0 and "blank 32x32" in out and "other.png" in out


def test_the_command_refuses_values_without_an_effect(call):
    words = ("texture", "art.png", "--recipe", "tiny", "--set", "pictures.colors=content")
    refused(call(*words), "`--set`: pictures.colors has no effect on a texture")
    # The recipe of a texture has this very layer, since each recipe needs one.
    found = call(*words[:4], "--content-layer", "relu1_1")
    refused(found, "`--content-layer`: has no effect on a texture")


HEAD = "content,style,recipe,size,seed,tile_seamless,protect,overrides"
BAD = {
    "protect": (",art.png,tiny,,,,photo.png,", "has a protect and no content"),
    "colors": (",art.png,tiny,,,,,pictures.colors=content", "pictures.colors has no effect"),
    "seamless content": ("photo.png,art.png,tiny,,,yes,,", "`tile_seamless`: is for textures"),
    "no truth": (",art.png,tiny,,,maybe,,", "`tile_seamless`: expected true or false"),
    "seed": (",art.png,tiny,,-1,,,", "`seed`: expected a whole number"),
    "long seed": (f",art.png,tiny,,{'9' * 5000},,,", "`seed`: expected a whole number"),
    "masks": (",art.png,masks.toml,,,,,", "`controls` name parts of a content, which a texture"),
    "size": (",art.png,tiny,8x8,,,,", "': column `size`: expected 16 to "),
    "odd side": (",art.png,tiny,40x40,,yes,,", "16"),
}


@pytest.mark.parametrize(("row", "message"), BAD.values(), ids=BAD)
def test_bad_rows_are_refused_before_any_work(call, row, message):
    Path("masks.toml").write_text('base = "tiny"\n[controls]\nprotect = "photo.png"\n')
    refused(call("batch", manifest(HEAD, row), *COMMAND), "row 1 of 'jobs.csv'", message)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--init", "content"), "`--init`"),
        (
            ("--protect", "photo.png"),
            "`--protect`: is for all pictures, but this row has no content, so it is a texture and "
            "cannot have it; give it to the other rows, by the column `protect`",
        ),
        (("--strength", "0.5"), "`--strength`"),
        (("--colors", "content"), "`--colors`"),
        (("--set", "pictures.colors=content"), "`--set`: pictures.colors has no effect"),
        (("--content-layer", "relu2_1"), "`--content-layer`"),
        (("--content-layer", "relu1_1"), "`--content-layer`: has no effect on a texture"),
        (("--style-fine", "photo.png"), "`--style-fine`: is for all pictures"),
        (("--size", "long:512"), "`--size`: expected WIDTHxHEIGHT"),
    ],
)
def test_flags_that_textures_do_not_have_are_refused(call, words, message):
    listed = manifest("style,recipe", "art.png,tiny")
    refused(call("batch", listed, *words, *COMMAND), message)
