"""Records of kept programs, by which `batch --bucket auto` chooses among programs on disk."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from nst_jax import batch_programs, recipes
from nst_jax.app import cache, program_keys, programs
from nst_jax.app.batch import groups, kept_groups
from nst_jax.app.batch.entries import Entry
from nst_jax.run_scales import Scale
from nst_jax.scaling.bucket_choice import KeptPrograms
from tests.shell import write_pictures
from tests.test_buckets import entry
from tests.test_programs import Foreign
from tests.test_warming import SHALLOW, start_and_listen

pytestmark = pytest.mark.optimized

RECIPE = recipes.GRAM
FIXED = (False,) * 60
ARRAYS = (Scale((32, 48), ((64, 64),), 0), Scale((64, 96), ((96, 96),), 0))
SIZES = KeptPrograms(ARRAYS, 3, exact=False)


def picture(recipe=RECIPE, controls=None):
    """Return a picture of a batch; the records depend on its recipe, and on whether it has masks."""
    paths = Path("content.png"), (Path("style.png"),), Path("result.png")
    return Entry(1, *paths, recipe, ARRAYS, (), controls=controls)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Return a folder in which jax seems to keep one program."""
    monkeypatch.setattr(cache, "programs_folder", lambda: tmp_path / cache.TRACED)
    monkeypatch.setattr(kept_groups, "programs_folder", cache.programs_folder)
    monkeypatch.setattr(
        programs,
        "files_in_use",
        lambda compiled: frozenset({"jit_run_many-1-cache", "nst_jax/run"}),
    )
    (tmp_path / cache.TRACED).mkdir()
    (tmp_path / "jit_run_many-1-cache").touch()
    (tmp_path / "nst_jax" / "run").touch()
    return tmp_path


def record(kept=SIZES, recipe=RECIPE, varying=FIXED, **options):
    kept_groups.record_group(kept, recipe, varying, batch_programs.PROGRAMS, **options)


def known(entry=None, varying=FIXED, **options):
    return kept_groups.kept_programs(entry or picture(), varying, **options)


def test_a_record_is_read_as_it_was_written(place):
    assert known() == []
    record()
    exact = KeptPrograms(ARRAYS[1:], 1, exact=True)
    record(exact)
    assert sorted(known()) == sorted([SIZES, exact]) and known() == known()
    assert len(list(place.glob("nst_jax/groups/*"))) == 2  # nothing half-written


@pytest.mark.parametrize("gone", ["jit_run_many-1-cache", "nst_jax/run"])
def test_a_record_without_its_programs_does_not_count(place, gone):
    record()
    assert known() == [SIZES]
    (place / gone).unlink()
    assert known() == []


def test_a_damaged_record_does_not_count(place):
    record()
    (path,) = place.glob("nst_jax/groups/*")
    facts = json.loads(path.read_text())
    for text in ("", "[]", "{}", "null", json.dumps(facts | {"arrays": 3})):
        path.write_text(text)
        assert known() == []
    record()
    assert known() == [SIZES]


def test_a_record_counts_for_the_same_programs_only(place, monkeypatch):
    del place
    record()
    # Numbers that a program takes as arguments, the name, the size and the updates change no program.
    same = RECIPE.replace(name="x", size=99, steps=7, style_weight=3.0, content_weight=2.0)
    assert known(picture(same)) == [SIZES]
    others = [
        picture(RECIPE.replace(precision="bfloat16")),
        picture(RECIPE.replace(pool="avg")),
        picture(recipes.TF),
        picture(controls={"protect": None}),
    ]
    assert [known(other) for other in others] == [[]] * len(others)
    assert known(varying=(True, *FIXED[1:])) == [] and known(chunk=2) == []
    monkeypatch.setattr(program_keys, "_surroundings", lambda: ["another version"])
    assert known() == []


def test_without_a_folder_nothing_is_recorded(place, monkeypatch):
    monkeypatch.setattr(kept_groups, "programs_folder", lambda: None)
    record()
    assert known() == [] and not list(place.glob("nst_jax/groups/*"))


def test_a_program_with_a_users_optimiser_is_not_recorded(place):
    recipe = replace(RECIPE, descent=replace(RECIPE.descent, optimizer=Foreign()))
    record(recipe=recipe)
    assert known(picture(recipe)) == [] and not list(place.glob("nst_jax/groups/*"))


def test_the_rest_of_a_batch_that_was_stopped_is_painted_in_the_same_arrays():
    twelve = [(48, 18 + 2 * number) for number in range(6)]
    twelve += [(width, height) for height, width in twelve]
    entries = [entry(number, twelve[number % 12]) for number in range(24)]
    first, *_ = groups.form_groups(entries, "cpu", bucket="auto")
    assert first.arrays is not None and first.arrays[-1].shape == (48, 48)
    upright = [one for one in entries if one.scales[-1].shape[0] == 48][: len(first.entries)]
    assert len(upright) == len(first.entries)
    (own,) = groups.form_groups(upright, "cpu", bucket="auto")
    assert own.arrays is not None and own.arrays[-1].shape == (48, 32)
    (again,) = groups.form_groups(
        upright, "cpu", bucket="auto", kept=lambda picture, varying: [first.programs]
    )
    assert again.arrays == first.arrays


def batch(folder, *words):
    """Run `batch --bucket auto` in a process; return its start line, and programs made and loaded."""
    same = ["--styles", "art.png", *SHALLOW, "--steps", "4", "--size", "40"]
    done, made, loaded = start_and_listen(folder, "batch", *words, *same)
    line = re.search(r"^ *bucket +(.*?)\n *memory", done.stderr, re.MULTILINE | re.DOTALL)
    return " ".join(line[1].split()) if line else "", made, loaded, done.stderr


PICTURES = ("one.png", "two.png", "three.png", "four.png")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_pictures(one=(48, 36), two=(40, 30), three=(31, 40), four=(37, 40), art=(40, 33))
    return tmp_path


@pytest.mark.slow
def test_a_later_batch_takes_the_programs_that_are_kept(folder):
    cold, made, _, _ = batch(folder, *PICTURES, "-o", "out", "--bucket", "auto")
    assert made > 0 and "1 program for each scale" in cold and "kept" not in cold
    warm, made, loaded, _ = batch(folder, *PICTURES, "-o", "again", "--bucket", "auto")
    assert made == 0 and loaded > 0
    assert warm == cold.replace("for each scale", "for each scale, 1 kept from earlier runs")
    # A picture of the batch that is missing is painted in the same arrays, and finished ones are found.
    (Path("out") / "two_art.png").unlink()
    _, _, _, said = batch(folder, *PICTURES, "-o", "out", "--bucket", "auto")
    assert "3 more are finished and skipped" in said
    assert len(list(Path("out").glob("*_art.png"))) == 4
    # Without the compiled programs, the traced ones alone are no programs.
    for path in Path("cache").rglob("jit_run_many-*-cache"):
        path.unlink()
    again, made, _, _ = batch(folder, *PICTURES, "-o", "third", "--bucket", "auto")
    assert again == cold and made > 0


@pytest.mark.long
def test_kept_programs_of_each_shape_are_better_than_a_bucket(folder):
    batch(folder, *PICTURES, "-o", "off", "--bucket", "off")
    line, made, _, _ = batch(folder, *PICTURES, "-o", "auto", "--bucket", "auto")
    assert line.startswith("none, 3 shapes") and "3 programs for each scale, 3 kept" in line
    assert made == 0
