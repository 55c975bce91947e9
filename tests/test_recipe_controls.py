"""Recipe files that name pictures: masks of regions and protected parts, styles of single layers."""

import json
import os
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import images, recipes
from nst_jax.app import arguments
from nst_jax.app.recipe_controls import controls_of_recipe
from nst_jax.recipes import sizes, toml
from tests import small
from tests.shell import caller, refused
from tests.test_region_runs import BLUE, HEIGHT, RED, TINY, WIDTH, box, left, map_of

SAME = {"rtol": 0, "atol": 1.5 / 255}  # 8 bits, painted by programs of other batch sizes

MASKS = """
base = "tiny"
strength = 0.9
[controls]
region = "left.png:red.png:2"
protect = "box.png:0.5"
"""


def grey(mask):
    """Return a mask as a picture."""
    return np.repeat(mask[..., None], 3, -1).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Work beside a folder `looks` with recipe files, masks and styles."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY.replace(size=sizes.LongEdge(64), steps=2))
    Path("looks").mkdir()
    photo = small.picture("chelsea", HEIGHT, WIDTH)
    pictures = {
        "photo": photo,
        "other": photo[::-1],
        "blue": BLUE,
        "upside": grey(box()[::-1]),
        "looks/left": grey(left()),
        "looks/box": grey(box()),
        "looks/red": RED,
        "looks/map": map_of(left(), HEIGHT, WIDTH).round(),
        "looks/style_map": map_of(left(0.5, 40, 36), 40, 36).round(),
    }
    for name, picture in pictures.items():
        images.save(f"{name}.png", np.ascontiguousarray(picture, np.float32))
    Path("looks/masks.toml").write_text(MASKS)
    maps = 'regions = ["map.png", "style_map.png"]\nstyle_layer = { relu1_1 = "red.png" }'
    Path("looks/maps.toml").write_text(f'base = "tiny"\n[controls]\n{maps}\n')
    return tmp_path


@pytest.fixture
def stylize(capsys, folder):
    def run(*flags, content="photo.png"):
        words = ("stylize", content, "blue.png", "-o", "a.png", "-q", "--overwrite")
        code, _, told = caller(capsys, *words)(*flags)
        assert code == 0, told
        return images.load("a.png")

    return run


FLAGS = (
    *("--recipe", "tiny", "--strength", "0.9"),
    *("--region", "looks/left.png:looks/red.png:2", "--protect", "looks/box.png:0.5"),
)


def test_a_file_is_what_its_options_are(stylize):
    found = stylize("--recipe", "looks/masks.toml")
    facts = images.read_metadata("a.png")
    assert_array_equal(found, stylize(*FLAGS))
    expected = images.read_metadata("a.png")
    assert {"region_1_mask", "region_1_style", "protect"} <= set(facts["inputs"])
    del facts["recipe"], expected["recipe"]  # the names of the two recipes
    assert facts == expected


def test_a_file_with_colour_coded_maps_paints_as_the_option_does(stylize):
    table = 'base = "tiny"\n[controls]\nregions = ["map.png", "style_map.png"]\n'
    Path("looks/two_maps.toml").write_text(table)
    found = stylize("--recipe", "looks/two_maps.toml")
    inputs = images.read_metadata("a.png")["inputs"]
    assert {"map_of_content", "map_of_style"} <= set(inputs)
    assert inputs["map_of_style"]["name"] == "style_map.png"
    maps = ("--regions", "looks/map.png", "looks/style_map.png")
    assert_array_equal(found, stylize("--recipe", "tiny", *maps))
    assert np.abs(found - stylize("--recipe", "tiny")).max() > 0.01


def test_an_option_takes_the_place_of_what_the_file_says(stylize):
    found = stylize("--recipe", "looks/masks.toml", "--protect", "upside.png")
    flags = (*FLAGS[:-1], "upside.png")
    assert_array_equal(found, stylize(*flags))
    maps = ("--regions", "looks/map.png", "looks/style_map.png")
    stylize("--recipe", "looks/masks.toml", *maps)
    inputs = images.read_metadata("a.png")["inputs"]
    assert "map_of_content" in inputs and "protect" in inputs and "region_1_mask" not in inputs


def test_a_file_and_a_row_of_a_manifest_name_several_masks(capsys, stylize):
    both = ("--protect", "looks/box.png:0.5", "--protect", "upside.png:0.5")
    expected = stylize("--recipe", "tiny", *both)
    one = stylize("--recipe", "tiny", *both[:2])
    assert np.abs(expected - one).max() > 0.01
    table = '[controls]\nprotect = ["box.png:0.5", "../upside.png:0.5"]\n'
    Path("looks/both.toml").write_text(f'base = "tiny"\n{table}')
    assert_array_equal(stylize("--recipe", "looks/both.toml"), expected)
    Path("jobs.csv").write_text(
        "content,style,recipe,protect\n"
        "photo.png,blue.png,tiny,looks/box.png:0.5;upside.png:0.5\n"
        "photo.png,blue.png,tiny,looks/box.png;upside.png:0.5\n"
    )
    refused_row = "all masks are protected by one amount, got 1 and 0.5"
    batch = caller(capsys, "batch", "jobs.csv", "-o", "out", "-q")
    refused(batch(), "row 2 of 'jobs.csv': column `protect`: ", refused_row)
    first, second, _ = Path("jobs.csv").read_text().splitlines()
    Path("jobs.csv").write_text(f"{first}\n{second}\n")
    assert batch()[0] == 0
    assert_allclose(images.load("out/photo_blue.png"), expected, **SAME)


def test_a_sweep_and_a_plan_have_the_controls_of_the_file(capsys, stylize):
    words = ("photo.png", "blue.png", "--recipe", "looks/masks.toml")
    code, _, told = caller(capsys, "sweep", *words)("--tv-weight", "0,1", "-o", "grid.png", "-q")
    assert code == 0, told
    assert "region_1_mask" in images.read_metadata("grid.png")["inputs"]
    code, planned, _ = caller(capsys, "plan", *words)("--json", "--no-cache")
    assert code == 0
    options = (*FLAGS[:2], *FLAGS[4:], "--json", "--no-cache")
    code, by_flags, _ = caller(capsys, "plan", "photo.png", "blue.png")(*options)
    assert code == 0
    found, expected = (json.loads(text) for text in (planned, by_flags))
    for part in ("total", "untiled", "targets"):  # not what is available, which changes meanwhile
        assert found["memory"][part] == expected["memory"][part]
    assert found["scales"] == expected["scales"]
    code, plain, _ = caller(capsys, "plan", "photo.png", "blue.png")(*FLAGS[:2], "--json")
    assert found["memory"]["total"] > json.loads(plain)["memory"]["total"]


def test_a_plan_refuses_the_masks_that_stylize_refuses_with_the_same_messages(capsys, folder):
    wide = grey(np.ones((8, 64)))
    images.save("wide.png", wide)
    images.save("black.png", 0 * wide)
    images.save("band.png", images.load("looks/map.png")[:8])
    faulty = ["no.png", "looks", "photo.png", "wide.png", "black.png"]
    good, style = "looks/left.png", "looks/red.png"
    options = [
        *(("--region", f"{mask}:{style}") for mask in faulty),
        *(("--region", f"{good}:{style}:{mask}") for mask in faulty),
        *(("--region", f"{good}:{style}" + end) for end in (":-1", ":1e31")),
        ("--region", f"{good}:no.png"),
        *(("--protect", mask) for mask in faulty),
        ("--protect", good, "--protect", "wide.png"),
        *(("--regions", name, "looks/style_map.png") for name in ("no.png", "band.png")),
        *(("--regions", "looks/map.png", name) for name in ("no.png", "band.png")),
        ("--regions", "looks/map.png", "looks/style_map.png", "--region", f"{good}:{style}"),
    ]
    pair = ("photo.png", "blue.png", "--recipe", "tiny")
    for words in options:
        planned, painted = (caller(capsys, name, *pair)(*words) for name in ("plan", "stylize"))
        refused(planned, f"`{words[0]}")
        assert planned == painted, words


def test_rows_of_a_batch_have_the_controls_of_their_recipe_files(capsys, stylize):
    Path("jobs.csv").write_text(
        "content,style,recipe,protect,overrides,output\n"
        "photo.png,blue.png,looks/masks.toml,,,one.png\n"
        "other.png,blue.png,looks/masks.toml,upside.png,strength=0.85,two.png\n"
        "photo.png,blue.png,tiny,,strength=0.5,three.png\n"
    )
    batch = caller(capsys, "batch", "jobs.csv", "-o", "out", "-q", "--overwrite")
    code, _, told = batch()
    assert code == 0, told
    first, third = (images.read_metadata(f"out/{name}.png") for name in ("one", "three"))
    assert_allclose(images.load("out/one.png"), stylize(*FLAGS), **SAME)
    own = stylize(*FLAGS[:-1], "upside.png", content="other.png")
    assert_allclose(images.load("out/two.png"), own, **SAME)
    assert "protect" in first["inputs"] and "protect" not in third["inputs"]
    plain = stylize("--recipe", "tiny", "--strength", "0.5")
    assert_allclose(images.load("out/three.png"), plain, **SAME)


@pytest.mark.long
def test_a_file_gives_single_layers_their_styles(capsys, stylize):
    found = controls_of_recipe("looks/maps.toml")
    assert found["style_layer"] == ("relu1_1=looks/red.png",)
    text = 'base = "tiny"\n[controls.style_layer]\nrelu1_1 = "red.png"\n'
    Path("looks/layer.toml").write_text(text)
    painted = stylize("--recipe", "looks/layer.toml")
    assert_array_equal(
        painted, stylize("--recipe", "tiny", "--style-layer", "relu1_1=looks/red.png")
    )
    words = ("photo.png", "--styles", "blue.png", "-o", "out", "-q")
    code, _, told = caller(capsys, "batch", *words)("--recipe", "looks/layer.toml")
    assert code == 0, told
    assert_allclose(images.load("out/photo_blue.png"), painted, **SAME)


def test_a_file_is_shown_and_read_in_python(capsys, folder):
    code, text, _ = caller(capsys, "recipes", "show")("looks/maps.toml")
    assert code == 0 and "[controls.style_layer]" in text
    recipe, controls = toml.recipe_and_controls(text)
    assert controls == tomllib.loads(Path("looks/maps.toml").read_text())["controls"]
    assert toml.to_toml(recipe, controls) == text
    with pytest.raises(ValueError, match="`recipe`: its table `controls` names pictures"):
        toml.from_toml(text)


@pytest.mark.parametrize("ending", ["", '[controls]\nprotect = "box.png"\n'])
def test_a_recipe_that_comes_through_a_pipe_is_read_once(capsys, folder, ending):
    def plan(*words):
        code, text, told = caller(capsys, "plan", "photo.png", "blue.png", "--size", "48")(*words)
        assert code == 0, told
        return text

    os.mkfifo("looks/pipe.toml")
    text = f'base = "tf"\nname = "piped"\n{ending}'
    writer = threading.Thread(target=lambda: Path("looks/pipe.toml").write_text(text), daemon=True)
    writer.start()
    words = ("--recipe", "looks/pipe.toml", "--json")
    found = plan(*words)
    writer.join(timeout=10)
    Path("looks/file.toml").write_text(text)
    expected = plan("--recipe", "looks/file.toml", "--json")
    found, expected = (json.loads(text) for text in (found, expected))
    assert found["recipe"] == expected["recipe"] == "piped"
    assert found["scales"] == expected["scales"]
    assert found["memory"]["total"] == expected["memory"]["total"]


def test_a_dash_in_a_file_is_a_file_beside_it(folder):
    Path("dash.toml").write_text('[controls]\nstyle_fine = "-"\nstyle_layer = { relu1_1 = "-" }\n')
    Path("-").write_bytes(Path("blue.png").read_bytes())
    found = controls_of_recipe("./dash.toml")
    dash = (folder / "-").absolute()
    assert found["style_fine"] == dash
    assert arguments.tap_files(found["style_layer"]) == {"relu1_1": dash}


def test_an_empty_recipe_file_is_refused(capsys, folder):
    Path("looks/empty.toml").write_text("\n")
    said = "`--recipe`: 'looks/empty.toml' is empty"
    refused(caller(capsys, "plan", "photo.png", "blue.png")("--recipe", "looks/empty.toml"), said)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('mask = "left.png"', "`controls.mask`: there is no key 'mask'"),
        ('region = "left.png"', "`controls.region`: expected MASK:STYLE"),
        ('regions = ["map.png"]', "`controls.regions`: expected two pictures"),
        ("protect = []", "`controls.protect`: expected MASK or MASK:AMOUNT, or a list of these"),
        (
            'protect = ["box.png:0.5", "box.png"]',
            "`controls.protect`: all masks are protected by one amount, got 0.5 and 1",
        ),
        ("protect = 1", "`controls.protect`: expected a string, got 1"),
        ('style_layer = "red.png"', "`controls.style_layer`: expected a table"),
        ('style_layer = { relu9_1 = "red.png" }', "`controls.style_layer`:"),
        ('style_layer = { relu1_1 = "none.png" }', "there is no file 'looks/none.png'"),
        ('region = "left.png:red.png"\nregions = ["a.png", "b.png"]', "has both `region` and"),
        ('protect = "none.png"', "'looks/none.png'"),
        (
            'protect = "box.png:2"',
            "`controls.protect`: expected 0 to 1 (1 keeps the content), got 2",
        ),
        ('style_layer = { relu4_4 = "red.png" }', "`controls.style_layer`: relu4_4 has a picture"),
        ('style_layer = { relu1_2 = "-1:red.png" }', "`controls.style_layer`: expected 0 or more"),
    ],
)
def test_bad_tables_are_one_line(capsys, folder, table, message):
    Path("looks/bad.toml").write_text(f'base = "tiny"\n[controls]\n{table}\n')
    words = ("photo.png", "blue.png", "--recipe", "looks/bad.toml", "-o", "b.png")
    refused(caller(capsys, "stylize")(*words), "`--recipe`: 'looks/bad.toml': ", message)


def test_messages_of_other_commands_name_the_file(capsys, folder):
    text = 'base = "tiny"\n[controls]\nstyle_layer = { relu4_4 = "red.png" }\n'
    Path("looks/layer.toml").write_text(text)
    named = "'looks/layer.toml': `controls.style_layer`: relu4_4 has a picture"
    recipe = ("--recipe", "looks/layer.toml")
    refused(caller(capsys, "texture", "blue.png")(*recipe), f"`--recipe`: {named}")
    words = ("photo.png", "--styles", "blue.png", "-o", "out")
    refused(caller(capsys, "batch", *words)(*recipe), f"`--recipe`: {named}")
    Path("jobs.csv").write_text(
        "content,style,recipe\nphoto.png,blue.png,tiny\nphoto.png,blue.png,looks/layer.toml\n"
    )
    found = caller(capsys, "batch", "jobs.csv", "-o", "out")()
    named = named.replace("looks", "./looks")
    refused(found, f"`CONTENTS`: row 2 of 'jobs.csv': `recipe`: {named}")
    # An option in place of the file's value is blamed itself.
    found = caller(capsys, "texture", "blue.png", *recipe)("--style-layer", "relu4_4=red.png")
    refused(found, "`--style-layer`:")


def test_a_layer_of_the_file_may_have_a_weight(capsys, stylize):
    text = 'base = "tiny"\n[controls]\nstyle_layer = { relu1_2 = "0.2:red.png" }\n'
    Path("looks/layer.toml").write_text(text)
    painted = stylize("--recipe", "looks/layer.toml")
    flags = ("--style-layer", "relu1_2=0.2:looks/red.png")
    assert_array_equal(painted, stylize("--recipe", "tiny", *flags))
    words = ("photo.png", "--styles", "blue.png", "-o", "out", "-q")
    code, _, told = caller(capsys, "batch", *words)("--recipe", "looks/layer.toml")
    assert code == 0, told
    assert_allclose(images.load("out/photo_blue.png"), painted, **SAME)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--region", "looks/left.png:looks/red.png"), "`--region`: names parts"),
        (("--regions", "looks/map.png", "looks/style_map.png"), "`--regions`: names parts"),
        (("--protect", "looks/box.png"), "`--protect`: names parts"),
        (("--recipe", "looks/masks.toml"), "'looks/masks.toml': `controls.region`: names parts"),
        (("--recipe", "looks/maps.toml"), "'looks/maps.toml': `controls.regions`: names parts"),
    ],
)
def test_a_plan_without_pictures_has_no_parts_of_them(capsys, folder, words, message):
    refused(caller(capsys, "plan", "--shape", "64x48")(*words), message)


def test_commands_without_these_controls_refuse_them(capsys, folder):
    said = "`--recipe`: 'looks/masks.toml'"
    refused(caller(capsys, "texture", "blue.png", "--recipe", "looks/masks.toml")(), said)
    words = ("train", "blue.png", "--photos", "photo.png", "-o", "s.h5")
    refused(caller(capsys, *words)("--recipe", "looks/masks.toml"), said, "does not use")
