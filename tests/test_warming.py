"""The command `warm`: programs compiled ahead of later commands, which then compile nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from nst_jax import images, recipes
from nst_jax.app import cache, warming
from nst_jax.app.batch import command, compiling, groups
from nst_jax.app.batch.entries import Entry
from nst_jax.run_scales import scales_of
from nst_jax.weights import params
from tests import small, test_cli
from tests.shell import refused, write_pictures

pytestmark = pytest.mark.optimized

here, call = test_cli.here, test_cli.call  # fixtures: a folder with pictures, and the command line

SHALLOW = ["--recipe", "gram", "--style-layer", "relu1_1=1", "--content-layer", "relu1_1=1"]
SCHEDULE = {"descent.schedule": "CoarseToFine", "descent.schedule.smallest": "24"}  # two scales
SHALLOW += [word for item in SCHEDULE.items() for word in ("--set", "=".join(item))]
SHALLOW += ["--set", "descent.optimizer=Adam"]  # it compiles in half the time of L-BFGS
# Runs command lines, and says how many programs jax compiled and how many it loaded.
LISTEN = """
import json
import sys
import jax
from nst_jax.app import cli
seen = []
jax.monitoring.register_event_listener(lambda event, **_: seen.append(event.rpartition("/")[2]))
codes = [cli.main(words) for words in json.loads(sys.argv[1])]
asked, loaded = seen.count("compile_requests_use_cache"), seen.count("cache_hits")
print("programs", asked - loaded, loaded, file=sys.stderr)
sys.exit(max(codes))
"""


def start(folder, *commands, **variables):
    """Run command lines in one new process; return its output, and programs made and loaded.

    `variables` are further variables of the process's environment.
    """
    done, made, loaded = listen(folder, commands, variables)
    return done.stdout, made, loaded


def start_and_listen(folder, *words):
    """Run one command line in a new process; return the process, and programs made and loaded."""
    return listen(folder, [words], {})


def listen(folder, commands, variables):
    """Do what `start` does, but return the ended process in place of its output."""
    commands = [[str(word) for word in words] for words in commands]
    unset = ("JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment |= {
        "XDG_CACHE_HOME": str(folder / "cache"),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        **variables,
    }
    done = subprocess.run(
        [sys.executable, "-c", LISTEN, json.dumps(commands)],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    made, loaded = re.search(r"programs (\d+) (\d+)$", done.stderr.strip()).groups()
    return done, int(made), int(loaded)


@pytest.mark.slow
def test_after_warming_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), wide=(33, 60), art=(50, 44))
    warm = ["warm", *SHALLOW, "--size", 60, "--batch", 2, "--batch", 1]
    out, made, _ = start(tmp_path, warm)
    assert made > 0 and "--size 60 --bucket 64" in out
    files, new = map(
        int, re.search(r"has (\d+) files of programs.* (\d+) of them new", out).groups()
    )
    assert files == new > 0 and re.search(r"files of programs, [\d.]+ [kM]B;", out)
    pictures = ["tall.png", "wide.png"]
    options = ["--size", 60, "--bucket", 64, "--steps", 20, *SHALLOW]
    later = (
        ["stylize", "tall.png", "art.png", "-o", "one.png", *options],
        ["stylize", "wide.png", "art.png", "-o", "two.png", *options],
        ["batch", *pictures, "--styles", "art.png", "-o", "out", *options],
        ["batch", "wide.png", "--styles", "art.png", "-o", "alone", *options],
        warm,
    )
    out, made, loaded = start(tmp_path, *later)
    assert made == 0 and loaded > 0 and "none of them new" in out
    assert len(list(tmp_path.glob("out/*.png"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize("init", ["noise", pytest.param("instant", marks=pytest.mark.long)])
def test_after_warming_a_start_nothing_is_compiled(tmp_path, monkeypatch, init):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), wide=(33, 60), art=(50, 44), long=(30, 59))
    same = [*SHALLOW, "--size", 60, "--init", init]
    _, made, _ = start(tmp_path, ["warm", *same])
    assert made > 0
    options = ["--bucket", 64, "--steps", 4, *same]
    later = (
        ["stylize", "tall.png", "art.png", "-o", "one.png", *options],
        ["stylize", "wide.png", "long.png", "-o", "two.png", *options],
    )
    _, made, loaded = start(tmp_path, *later)
    assert made == 0 and loaded > 0


@pytest.mark.slow
def test_after_warming_a_folder_that_jax_was_told_nothing_is_compiled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), art=(50, 44))
    told = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "told")}
    words = ["--recipe", "tf", "--style-layer", "relu1_1=1", "--content-layer", "relu1_1=1"]
    out, made, _ = start(tmp_path, ["warm", *words, "--size", 32], **told)
    assert made > 0 and f"{tmp_path / 'told'} has" in out
    words += ["--size", 32, "--bucket", 32, "--steps", 2, "-o", "one.png"]
    _, made, loaded = start(tmp_path, ["stylize", "tall.png", "art.png", *words], **told)
    assert made == 0 and loaded > 0


@pytest.mark.slow
def test_after_compiling_only_a_batch_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(one=(48, 36), two=(40, 30), three=(31, 40), art=(40, 33))
    pictures = [f"{name}.png" for name in ("one", "two", "three")]
    words = ["batch", *pictures, "--styles", "art.png", *SHALLOW, "--steps", 4, "--size", 32]
    words += ["--bucket", "auto", "-o", "out"]
    said, made, _ = start(tmp_path, [*words, "--compile-only"])
    assert made > 0 and "files of programs" in said and not (tmp_path / "out").exists()
    _, made, loaded = start(tmp_path, words)
    assert made == 0 and loaded > 0
    assert len(list((tmp_path / "out").glob("*_art.png"))) == 3


@pytest.mark.slow
def test_after_compiling_only_a_batch_in_two_stages_compiles_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(one=(48, 36), two=(40, 30), art=(40, 33), fine=(30, 36))
    words = ["batch", "one.png", "two.png", "--styles", "art.png", *SHALLOW, "--steps", 4]
    words += ["--size", 32, "--style-fine", "fine.png", "-o", "out"]
    _, made, _ = start(tmp_path, [*words, "--compile-only"])
    assert made > 0 and not (tmp_path / "out").exists()
    _, made, loaded = start(tmp_path, words)
    assert made == 0 and loaded > 0
    assert len(list((tmp_path / "out").glob("*_art.png"))) == 2


@pytest.fixture
def compiled(monkeypatch, tmp_path):
    """Pretend that programs are kept; return the numbers of the rows whose programs are compiled."""
    rows = []

    def compile_groups(params, job, parts, display):
        del params, job, display
        rows.extend(entry.number for group in parts for entry in group.entries)

    monkeypatch.setattr(compiling, "compile_groups", compile_groups)
    monkeypatch.setattr(cache, "folder_to_warm", lambda: tmp_path)
    return rows


def test_compiling_only_leaves_out_what_is_finished(call, here, compiled):
    del here
    write_pictures(one=(48, 36), two=(40, 30))
    words = ["batch", "*.png", "--styles", "photo.png", *SHALLOW[:6], "--steps", 1, "--size", 32]
    words += ["-o", "out"]
    first = ["batch", "one.png", *words[2:]]
    code, _, err = call(*first)
    assert code == 0, err
    code, _, err = call("batch", "one.png", "two.png", *words[2:], "--compile-only")
    assert (code, compiled) == (0, [2]), err
    compiled.clear()
    code, _, err = call(*first, "--compile-only", "--overwrite")
    assert (code, compiled) == (0, [1]), err


def test_compiling_only_reports_what_cannot_be_painted(call, here, compiled):
    Path("jobs.csv").write_text("content,style\nphoto.png,art.png\nphoto.png,none.png\n")
    code, _, err = call("batch", "jobs.csv", *SHALLOW[:6], "-o", "out", "--compile-only")
    assert (code, compiled) == (1, [1])
    assert "warning: out/photo_none.png: `style`: there is no file" in err
    rows = "".join(f"photo.png,none{number}.png\n" for number in range(command.MOST_WARNINGS + 2))
    Path("jobs.csv").write_text(f"content,style\n{rows}")
    code, _, err = call("batch", "jobs.csv", "-o", "out", "--compile-only")
    assert code == 1 and err.strip().endswith("warning: 2 more rows have warnings")
    assert not (here / "out").exists()


def test_compiling_only_without_a_cache_is_refused(call, here, monkeypatch):
    del here
    monkeypatch.setattr(params, "load_params", lambda path: pytest.fail("weights are loaded"))
    words = ("batch", "photo.png", "--styles", "art.png", "-o", "out", "--compile-only")
    found = call(*words, "--no-cache")
    refused(found, "`--compile-only`", "which `--no-cache` switches off; omit one of the two")


def test_compiling_only_needs_a_cache(call, here):
    del here
    code, _, err = call("batch", "photo.png", "--styles", "art.png", "-o", "out", "--compile-only")
    assert code == 1 and "compiled programs are not kept" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "finish",
    [
        pytest.param(["--colors", "palette", "--realism", 0.3], marks=pytest.mark.slow),
        pytest.param(["--colors", "content"], marks=pytest.mark.long),
    ],
)
def test_after_warming_instant_compiles_nothing(tmp_path, monkeypatch, finish):
    monkeypatch.chdir(tmp_path)
    write_pictures(tall=(60, 41), wide=(33, 60), small=(21, 22), art=(32, 32), long=(30, 59))
    options = ["--size", 32, "--precision", "tensorfloat32"]
    warm = ["warm", "--instant", *options]
    for words in ([*warm, "--batch", 3], [*warm, *finish]):
        _, made, _ = start(tmp_path, words)
        assert made > 0, words
    several = ["tall.png", "wide.png", "small.png", "-o", "out"]
    later = [
        ["tall.png", "waves", "-o", "one.png"],
        [*several, "--styles", "waves"],
        [*several, "--styles", "art.png", "--strength", 0.5],
        ["small.png", "long.png", "-o", "two.png"],
        ["wide.png", "long.png", "-o", "finished.png", *finish],
    ]
    _, made, loaded = start(
        tmp_path, *(["instant", *words, *options, "--bucket", 32] for words in later)
    )
    assert made == 0 and loaded > 0
    assert len(list(tmp_path.glob("out/*.png"))) == 6


def test_the_side_of_a_bucket_is_that_of_its_pictures():
    assert warming.side_of(recipes.GRAM.replace(size=512)) == 512
    assert warming.side_of(recipes.GRAM.replace(size=500)) == 512
    assert warming.side_of(recipes.GRAM.replace(size=500), 1024) == 1024


def test_the_side_of_a_bucket_of_instant_is_that_of_its_pictures():
    assert warming.side_of_instant("500") == 512
    assert warming.side_of_instant("500", 1024) == 1024
    assert warming.side_of_instant("short:64", 128) == 128
    with pytest.raises(ValueError, match="^`bucket`: is missing"):
        warming.side_of_instant("short:64")


@pytest.mark.parametrize(
    ("count", "side", "sizes", "of_instant"),
    [
        (1, 512, [1], [1]),
        (2, 64, [2], [1, 2]),
        (8, 256, [8], [1, 8]),
        (9, 256, [5, 4], [1, 5]),
        (3, 512, [2, 1], [1]),
        (4, 512, [2], [1, 2]),
        (20, 64, [7, 6], [1, 20]),
    ],
)
def test_what_is_compiled_for_many_pictures_is_what_a_cpu_paints_at_once(
    count, side, sizes, of_instant
):
    assert warming.sizes_of_batches((count,), side) == sizes
    assert warming.sizes_of_batches((count, count), side) == sizes
    assert warming.sizes_of_instant((count,), side) == of_instant


@pytest.mark.parametrize(("count", "side"), [(9, 256), (3, 512), (4, 32)])
def test_groups_of_a_batch_have_the_sizes_that_were_compiled(count, side):
    recipe = recipes.GRAM.replace(size=side)
    scales = scales_of((side, side), [(side, side)], recipe)
    glances = (images.Glance((side, side), "a.png", "0"),) * 2
    entries = [
        Entry(number, Path("a.png"), (Path("b.png"),), Path("c.png"), recipe, scales, glances)
        for number in range(1, count + 1)
    ]
    formed = groups.form_groups(entries, "cpu", bucket=side)
    painted = {len(group.entries) for group in formed}
    assert painted == set(warming.sizes_of_batches((count,), side))


@pytest.fixture
def instant_warmed(call, here, monkeypatch):
    """Return a function that calls `warm --instant`, and returns what would be compiled."""
    del here
    found = []
    monkeypatch.setattr(warming, "compile_instant", lambda *asked: found.append(asked[:-1]))
    monkeypatch.setattr(cache, "cache_enabled", lambda: True)
    monkeypatch.setattr(cache, "programs_folder", lambda: Path("kept") / cache.TRACED)

    def run(*words):
        code, out, err = call("warm", "--instant", *words)
        assert code == 0, err
        return out, *found.pop()

    return run


def test_options_of_instant_reach_what_is_compiled(instant_warmed):
    out, squares, precision, style_size, recipe = instant_warmed("--size", 32)
    assert (squares, precision.name, style_size) == ({32: [1]}, "float32", None)
    assert (recipe.pictures.colors, recipe.pictures.realism) == ("style", 0)
    assert "--size 32 --bucket 32" in out
    words = ["--size", 250, "--size", 512, "--batch", 4, "--precision", "bfloat16"]
    words += ["--style-size", 128, "--colors", "palette", "--realism", 0.5]
    out, squares, precision, style_size, recipe = instant_warmed(*words)
    assert (recipe.pictures.colors, recipe.pictures.realism) == ("palette", 0.5)
    assert squares == {256: [1, 4], 512: [1, 2]}
    assert (precision.name, style_size) == ("bfloat16", "128")
    assert "--size 250 --bucket 256\n" in out and "--size 512 --bucket 512\n" in out


def test_instant_reads_no_weights_of_vgg(instant_warmed, monkeypatch):
    monkeypatch.setattr(params, "load_params", lambda path: pytest.fail("weights were read"))
    monkeypatch.setattr(warming, "load_params", params.load_params)
    monkeypatch.setenv("NST_JAX_WEIGHTS", "missing.h5")
    assert instant_warmed("--size", 32)[1] == {32: [1]}


@pytest.mark.parametrize(
    "words",
    [
        ("--recipe", "gram"),
        ("--init", "noise"),
        ("--set", "descent.steps=3"),
        ("--pool", "max"),
        ("--weights", "vgg.h5"),
        ("--tile", "auto"),
    ],
)
def test_options_without_a_use_for_instant_are_refused(call, here, words):
    del here
    refused(call("warm", "--instant", *words), f"`{words[0]}`", "omit it")


@pytest.mark.parametrize(
    ("steps", "schedule"),
    [
        (40, recipes.CoarseToFine(smallest=16)),
        (None, recipes.GeometricScales(per_halving=1, smallest=32, first=20, later=10)),
    ],
)
def test_one_update_at_each_scale_is_enough(steps, schedule):
    recipe = small.shallow(recipes.GRAM, steps=steps).replace(size=64, schedule=schedule)
    alone, together = warming.wanted_of(warming.Square(recipe, 64, (3,)))
    whole = scales_of((64, 64), [(64, 64)], recipe)
    assert [one.shape for one in alone.plan.scales] == [one.shape for one in whole]
    assert len(whole) > 1 and all(scale.steps for scale in alone.plan.scales)
    assert alone.plan.updates < sum(scale.steps for scale in whole)
    assert (alone.at_once, alone.plan.pictures) == (None, 1)
    assert (together.at_once, together.plan.pictures) == (3, 3)


def test_styles_of_single_layers_in_a_recipe_file_are_warmed(call, here, monkeypatch):
    del here
    Path("layer.toml").write_text('base = "gram"\n[controls.style_layer]\nrelu3_1 = "art.png"\n')
    recipes_of = []
    monkeypatch.setattr(warming, "wanted_of", lambda one: recipes_of.append(one.recipe) or [])
    call("warm", "--recipe", "layer.toml", "--size", 32)
    assert [recipe.terms.tap_styles for recipe in recipes_of] == [("relu3_1",)]


def test_what_cannot_be_warmed_is_said_in_one_line(call, here):
    del here
    refused(call("warm", "--size", "short:64"), "`--bucket`", "give the longest that shall fit")
    refused(call("warm", "--bucket", 50), "`--bucket`", "multiple of 16 px, got 50; 48 is")
    refused(call("warm", "--bucket", "off"), "`--bucket`", "omit it, or", "`batch --compile-only`")
    refused(call("warm", "--instant", "--bucket", "off"), "`--bucket`", "for buckets; omit it\n")
    refused(call("warm", "--size", 64, "--bucket", 32), "`--bucket`", "give 64 or more")
    refused(
        call("warm", "--recipe", "nnst", "--size", 64),
        "`--recipe`",
        "no sum over positions",
        "choose another recipe",
    )
    refused(call("warm", "--init", "photo.png"), "`--init`", "no programs of its own")
    refused(call("warm", "--batch", 0), "--batch", "x>=1")
    words = ["--instant", "--size", 64, "--bucket", 32]
    refused(call("warm", *words), "`--bucket`", "give 64 or more")
    refused(call("warm", "--instant", "--precision", "half"), "`--precision`", "half")
    refused(call("warm", "--instant", "--style-size", "big"), "`--style-size`", "big")
    Path("region.toml").write_text('base = "gram"\n[controls]\nregion = "sky.png:stars.jpg"\n')
    refused(call("warm", "--recipe", "region.toml"), "`--recipe`", "its `controls.region`")
    Path("maps.toml").write_text('base = "gram"\n[controls]\nregions = ["a.png", "b.png"]\n')
    refused(call("warm", "--recipe", "maps.toml"), "`--recipe`", "its `controls.regions`")
    Path("face.toml").write_text('base = "gram"\n[controls]\nprotect = "face.png"\n')
    refused(
        call("warm", "--recipe", "face.toml"), "`controls.protect`", "name a recipe file without"
    )
    code, _, err = call("warm", "--size", 32)  # the tests switch the cache off
    assert code == 1 and "compiled programs are not kept" in err and err.count("\n") == 1
