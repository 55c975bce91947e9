"""Regions and protected parts at the command line for many pictures: `batch`, manifests, `sweep`."""

import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir, nullcontext
from pathlib import Path

import click
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from nst_jax import images, recipes
from nst_jax.app import declarations, messages, recipe_controls
from nst_jax.app.batch import groups, local, manifests, on_ray, rows
from nst_jax.app.sweep import command as sweep_command
from nst_jax.recipes import sizes
from tests.shell import caller, refused
from tests.test_region_runs import BLUE, HEIGHT, RED, TINY, WIDTH, box, left, map_of

SAME = {
    "rtol": 0,
    "atol": 1.5 / 255,
}  # pictures of 8 bits, painted by programs of other batch sizes


def grey(mask):
    """Return a mask as a picture."""
    return np.repeat(mask[..., None], 3, -1).astype(np.float32)


@pytest.fixture
def folder(tmp_path, monkeypatch, photo):
    """Work in a folder with two photos, a mask for each in `faces`, and maps."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(recipes.PRESETS, "tiny", TINY.replace(size=sizes.LongEdge(64), steps=2))
    for name in ("photos", "faces"):
        Path(name).mkdir()
    pictures = {
        "photos/one": photo,
        "photos/two": photo[::-1],
        "faces/one": grey(box()),
        "faces/two": grey(box()[::-1]),
        "left": grey(left()),
        "black": grey(0 * left()),
        "wide": np.ones((30, WIDTH, 3), np.float32),
        "red": RED,
        "blue": BLUE,
        "map": map_of(left(), HEIGHT, WIDTH).round(),
        "style_map": map_of(left(0.5, 40, 36), 40, 36).round(),
    }
    for name, picture in pictures.items():
        images.save(f"{name}.png", np.ascontiguousarray(picture, np.float32))


@pytest.fixture(scope="module")
def photo():
    from tests import small

    return small.picture("chelsea", HEIGHT, WIDTH)


@pytest.fixture
def batch(capsys, folder):
    return caller(capsys, "batch", "--recipe", "tiny", "-o", "out", "-q")


@pytest.fixture
def alone(capsys, folder):
    def painted(content, *flags):
        words = ("stylize", content, "blue.png", "--recipe", "tiny", "-o", "alone.png", "-q")
        code, _, told = caller(capsys, *words)(*flags, "--overwrite")
        assert code == 0, told
        return images.load("alone.png")

    return painted


# --- Batches --------------------------------------------------------------------------------------


def test_a_batch_has_one_region_and_a_folder_of_protected_parts(batch, alone):
    flags = ("--region", "left.png:red.png:2")
    code, _, told = batch("photos", "--styles", "blue.png", *flags, "--protect", "faces")
    assert code == 0, told
    for name, mask in (("one", box()), ("two", box()[::-1])):
        found = images.load(f"out/{name}_blue.png")
        content = images.load(f"photos/{name}.png")
        assert_array_equal(found[mask == 1], content[mask == 1])
        assert np.abs(found - content)[mask == 0].max() > 0.05
        facts = images.read_metadata(f"out/{name}_blue.png")
        assert facts["inputs"]["protect"]["name"] == f"{name}.png"
        assert facts["regions"] == [{"weight": 2.0}] and facts["protect"] == {"amount": 1.0}
    own = alone("photos/two.png", *flags, "--protect", "faces/two.png")
    assert_allclose(found, own, **SAME)


def test_actors_in_another_folder_paint_with_the_controls_of_their_rows(batch, alone, monkeypatch):
    """What Ray sends to its actors, painted by an actor of this process in another folder."""

    def paint(params, weights, album, display, report):
        formed = groups.form_groups(album.entries, "cpu")
        sent = pickle.dumps(on_ray._actor_inputs(params, weights, album, formed))
        with chdir("/"):
            actor = on_ray.Painter(pickle.loads(sent))
            records = actor({"group": np.arange(len(formed))})["records"]
        for text in records:
            entries = {entry.number: entry for entry in album.entries}
            report(on_ray._with_typed_paths(json.loads(text), entries))

    for name, fake in {
        "check_installed": lambda: None,
        "connected": nullcontext,
        "platform": lambda: "cpu",
        "paint_on_ray": paint,
    }.items():
        monkeypatch.setattr(on_ray, name, fake)
    flags = ("--region", "left.png:red.png:2", "--colors", "content", "--realism", "0.5")
    words = ("photos", "--styles", "blue.png", "--runner", "ray", "--protect", "faces:0.5")
    code, _, told = batch(*words, *flags)
    assert code == 0, told
    own = alone("photos/two.png", *flags, "--protect", "faces/two.png:0.5")
    assert_allclose(images.load("out/two_blue.png"), own, **SAME)
    facts = images.read_metadata("out/two_blue.png")
    assert facts["protect"] == {"amount": 0.5} and facts["regions"] == [{"weight": 2.0}]
    assert facts["settings"]["pictures.colors"] == "content"


def test_a_manifest_has_colour_coded_maps(batch, alone):
    Path("jobs.csv").write_text(
        "content,style,regions\nphotos/one.png,blue.png,map.png;style_map.png\n"
    )
    code, _, told = batch("jobs.csv")
    assert code == 0, told
    own = alone("photos/one.png", "--regions", "map.png", "style_map.png")
    assert_allclose(images.load("out/one_blue.png"), own, **SAME)
    inputs = images.read_metadata("out/one_blue.png")["inputs"]
    assert inputs["map_of_style"]["name"] == "style_map.png"
    assert batch("jobs.csv")[0] == 0
    assert '"skipped"' in Path("out/results.jsonl").read_text()  # the same maps: finished


def test_a_rows_own_controls_take_the_place_of_the_flags(folder):
    Path("jobs.jsonl").write_text(
        '{"content": "photos/one.png", "style": "blue.png", "region": "left.png:blue.png"}\n'
        '{"content": "photos/one.png", "style": "blue.png", "regions": ["map.png", "style_map.png"]}\n'
        '{"content": "photos/two.png", "style": "blue.png", "protect": "left.png:0.5"}\n'
    )
    given = {
        "regions": (manifests.parsing.parse_region("faces:red.png"),),
        "protect": manifests.parsing.parse_protect("faces:0.25"),
    }
    first, second, third = rows.with_controls(manifests.read_manifest(Path("jobs.jsonl")), given)
    assert [region.style.name for region in first.regions] == ["blue.png"]
    assert second.regions == () and [path.name for path in second.region_maps] == [
        "map.png",
        "style_map.png",
    ]
    assert first.protect == manifests.parsing.ProtectFile(Path("faces/one.png"), 0.25)
    assert second.protect == first.protect
    assert third.protect is not None and third.protect.amount == 0.5
    assert third.regions[0].mask == Path("faces/two.png")


def test_maps_of_a_batch_may_be_folders(folder):
    maps = Path("photos"), Path("style_map.png")  # any pictures do, since none is opened
    found = rows.with_controls(
        rows.paired([Path("photos")], [Path("blue.png")], zipped=False), {"region_maps": maps}
    )
    assert [row.region_maps[0].name for row in found] == ["one.png", "two.png"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--protect black.png", "`--protect`: the mask 'black.png' is empty"),
        ("--protect none.png", "`--protect`: there is no file 'none.png'"),
        ("--protect faces:2", "`--protect`: expected 0 to 1 (1 keeps the content), got 2"),
        ("--region left.png:red.png:faces", "`--region`: 'faces' is a folder"),
        ("--region left.png", "`--region`: expected MASK:STYLE"),
        ("--region left.png:none.png", "`--region`: there is no file 'none.png'"),
        (
            "--regions map.png style_map.png --region left.png:red.png",
            "`--regions`: has all regions of a picture",
        ),
        (
            "--protect left.png --recipe sliced-wasserstein",
            "`--protect`: `style_loss` of recipe 'sliced-wasserstein'",
        ),
        ("--region left.png:red.png --colors palette", "`--colors`: 'palette' moves the whole"),
        (
            "--region left.png:red.png:left.png",
            "`--region`: the mask 'left.png' of 64x48 px has other proportions than the style",
        ),
        ("--region left.png:red.png " * 16, "`--region`: got 16, and at most 15 are possible"),
    ],
)
def test_bad_controls_of_a_batch_are_one_line(batch, flags, message):
    refused(batch("photos", "--styles", "blue.png", *flags.split()), message)
    assert not Path("out").exists()


def test_a_folder_needs_one_mask_for_each_photo(batch):
    Path("faces/two.png").rename("faces/deux.png")
    words = ("photos", "--styles", "blue.png", "--protect", "faces")
    refused(
        batch(*words),
        "`--protect`: folder 'faces' has no picture named as 'photos/two.png'; add 'two.png'",
    )
    Path("faces/deux.png").rename("faces/one.jpg")
    refused(batch(*words), "has several pictures named as 'photos/one.png': one.jpg and one.png")


def test_a_damaged_mask_in_a_folder_is_named_by_its_option(batch):
    Path("faces/one.png").write_bytes(b"no picture")
    found = batch("photos/one.png", "--styles", "blue.png", "--protect", "faces")
    refused(found, "`--protect`: ", "one.png")


def test_a_mask_of_other_proportions_fails_its_row_only(batch):
    images.save("photos/wide.png", np.full((30, WIDTH, 3), 0.5, np.float32))
    code, _, told = batch("photos", "--styles", "blue.png", "--protect", "left.png")
    assert (
        code == 1
        and told.count(
            "the mask 'left.png' of 64x48 px has other proportions than the content 'wide"
        )
        == 1
    )
    assert sorted(path.name for path in Path("out").glob("*.png")) == [
        "one_blue.png",
        "two_blue.png",
    ]


def test_a_rows_bad_mask_of_a_style_is_found_before_any_row_is_painted(batch, monkeypatch):
    monkeypatch.setattr(local, "paint_group", None)  # painting would raise TypeError
    many = ";".join(["left.png:red.png"] * 16)
    Path("jobs.csv").write_text(
        "content,style,region,regions\n"
        "photos/one.png,blue.png,left.png:red.png:left.png,\n"
        "photos/one.png,blue.png,,map.png;left.png\n"
        f"photos/one.png,blue.png,{many},\n"
    )
    code, _, told = batch("jobs.csv")
    assert code == 1, told
    assert "`region`: the mask 'left.png' of 64x48 px has other proportions than the style" in told
    assert "`regions`: the mask 'left.png' of 64x48 px has other proportions than the style" in told
    assert "`region`: got 16, and at most 15 are possible" in told


def test_every_command_notes_a_region_that_a_layer_leaves_out(capsys, folder):
    tiny = np.zeros((HEIGHT, WIDTH), np.float32)
    tiny[20:24, 20:24] = 1  # a position of relu1_2 sees 5 x 5 px
    images.save("tiny.png", grey(tiny))
    flags = ("--recipe", "tiny", "--set", "terms.region_growth=0", "--size", "64")
    flags += ("--region", "tiny.png:red.png")
    said = "`--region[0]`: at 64x48 px, the region is too small or too thin for relu1_2"
    for command, name in (
        (("stylize", "photos/one.png", "blue.png", "-o", "out.png"), ""),
        (("sweep", "photos/one.png", "blue.png", "--style-weight", "1,2", "-o", "grid.png"), ""),
        (("batch", "photos/one.png", "--styles", "blue.png", "-o", "out"), "one_blue.png: "),
    ):
        code, _, told = caller(capsys, *command)(*flags)
        assert code == 0, told
        assert told.count(f"note: {name}{said}") == 1, told


def test_a_warning_has_the_names_that_the_user_typed(batch):
    images.save("photos/wide.png", np.full((30, WIDTH, 3), 0.5, np.float32))
    for flags, name in (
        (("--region", "left.png:red.png"), "`--region`"),
        (("--regions", "map.png", "style_map.png"), "`--regions`"),
    ):
        code, _, told = batch("photos", "--styles", "blue.png", *flags)
        said = f"out/wide_blue.png: {name}: the mask"
        assert code == 1 and f"warning: {said}" in told
        errors = [
            json.loads(line)["error"] for line in Path("out/results.jsonl").read_text().splitlines()
        ]
        assert any(error and error.startswith(f"{name}: the mask") for error in errors)
    Path("jobs.csv").write_text("content,style,region\nphotos/wide.png,blue.png,left.png:red.png\n")
    code, _, told = batch("jobs.csv", "-o", "rows")
    assert code == 1, told
    assert "rows/wide_blue.png: `region`: the mask" in told
    Path("look.toml").write_text('base = "tiny"\n[controls]\nregion = "left.png:red.png"\n')
    code, _, told = batch("photos", "--styles", "blue.png", "--recipe", "look.toml")
    assert code == 1 and "out/wide_blue.png: `--recipe`: 'look.toml': `controls.region`" in told


@pytest.mark.parametrize(
    ("columns", "name"), [(None, "--region[0]"), (recipe_controls.MASKS, "region[0]")]
)
def test_any_thread_can_name_what_the_user_typed(columns, name):
    with click.Context(declarations.cli.commands["batch"]):
        named = messages.naming_as_typed(columns)
    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(named, "`regions[0]`: is empty; choose a larger `size`").result()
    assert found == f"`{name}`: is empty; choose a larger `--size`"


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("map.png", "`regions`: expected two colour-coded pictures, MAP;STYLE_MAP, got 'map.png'"),
        ("map.png;none.png", "none.png"),
        ("map.png;style_map.png", "the second map is drawn over one style, and 2 are given"),
    ],
)
def test_maps_of_a_manifest_that_cannot_be_used(batch, cell, message):
    style = "red.png;blue.png" if "over one" in message else "blue.png"
    Path("jobs.csv").write_text(f"content,style,regions\nphotos/one.png,{style},{cell}\n")
    code, _, told = batch("jobs.csv")
    assert code in (1, 2) and message in told and told.count("\n") == 1


# --- Sweeps ---------------------------------------------------------------------------------------


def test_a_sweep_keeps_what_is_protected_in_every_cell(capsys, folder, monkeypatch):
    found, paint = [], sweep_command.paint_sweep

    def noted(*arguments):
        for cell in paint(*arguments):
            found.append(cell.image)
            yield cell

    monkeypatch.setattr(sweep_command, "paint_sweep", noted)
    run = caller(capsys, "sweep", "photos/one.png", "blue.png", "--recipe", "tiny", "-q")
    flags = ("--region", "left.png:red.png", "--protect", "faces/one.png", "--size", "64")
    code, _, told = run("--style-weight", "0,1", *flags, "-o", "grid.png")
    assert code == 0, told
    content = images.load("photos/one.png")
    for image in found:
        assert_allclose(image[box() == 1], content[box() == 1], atol=1e-6)
    assert len(found) == 2 and np.abs(found[0] - found[1]).max() > 0.01
    # The left half is painted in red, the right half in blue.
    half, kept = WIDTH // 2, box() == 0
    red, blue = (
        found[1][:, part][kept[:, part]].mean(0) for part in (slice(half), slice(half, None))
    )
    before = content.mean((0, 1))
    assert (red - before)[0] > (blue - before)[0] and (blue - before)[2] > (red - before)[2]
    facts = images.read_metadata("grid.png")
    assert facts["protect"] == {"amount": 1.0} and facts["regions"] == [{"weight": 1.0}]
    assert facts["inputs"]["region_1_style"]["name"] == "red.png"


def test_bad_controls_of_a_sweep_are_one_line(capsys, folder):
    run = caller(capsys, "sweep", "photos/one.png", "blue.png", "--ratio", "1")
    refused(run("--protect", "wide.png"), "`--protect`: the mask 'wide.png' of 64x30 px has other")
    refused(run("--region", "black.png:red.png"), "`--region`: the mask 'black.png' is empty")
    refused(run("--protect", "left.png", "-o", "left.png"), "left.png")
