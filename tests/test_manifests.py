"""Batches: manifests, folders and globs; finished pictures, failures, shards, interruptions and Ray."""

import glob
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nst_jax import _files, _memory, images, optimizers, planned_batches, run_scales
from nst_jax._types import Losses
from nst_jax.app import arguments, messages, parsing
from nst_jax.app.batch import (
    group_painting,
    groups,
    job,
    local,
    manifests,
    results,
    row_recipes,
    rows,
)
from nst_jax.app.batch.destinations import check_destinations, destinations
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.shards import Shard, rows_of_shard
from nst_jax.vgg import layers
from tests import test_cli
from tests.shell import pixels, refused
from tests.test_cli import TINY, lines

here, call = test_cli.here, test_cli.call  # fixtures: a folder with pictures, and the command line


def csv(*rows, name="jobs.csv"):
    Path(name).write_text("\n".join(rows) + "\n")
    return name


def listed(folder="out", name="results.jsonl"):
    """Return the last record of each row."""
    return {record["row"]: record for record in lines(f"{folder}/{name}")}


def entry(number=1, recipe=TINY, shape=(30, 40), output="x.png"):
    scale = run_scales.Scale(shape, ((40, 40),), recipe.descent.steps)
    seen = (images.Glance(shape, "c", "0"), images.Glance((40, 40), "s", "1"))
    return Entry(number, Path("c"), (Path("s"),), Path(output), recipe, (scale,), seen)


def test_whole_numbers_may_be_stored_as_floats(here):
    """A column of pandas with empty cells holds floats."""
    cells = '"size": 32.0, "seed": 3.0, "tile_seamless": 1.0'
    Path("jobs.jsonl").write_text(f'{{"style": "b.jpg", {cells}}}\n')
    (row,) = manifests.read_manifest(Path("jobs.jsonl"))
    assert (row.size, row.seed, row.tile_seamless) == ("32", 3, True)


# --- Reading manifests ----------------------------------------------------------------------------

ROWS = [
    {"content": "a.jpg", "style": "b.jpg"},
    {
        "content": "a.jpg",
        "style": ["b.jpg:0.7", "c.jpg:0.3"],
        "output": "x.webp",
        "recipe": "own.toml",
        "overrides": ["terms.style_weight=3", "descent.optimizer=Adam"],
    },
]
AS_CSV = (
    "content,style,output,recipe,overrides",
    "a.jpg,b.jpg,,,",
    "",
    "a.jpg,b.jpg:0.7; c.jpg:0.3,x.webp,own.toml,terms.style_weight=3;descent.optimizer=Adam",
)


def same_rows(found, folder):
    first, second = (row._replace(location="") for row in found)
    a, b, c = (folder / name for name in ("a.jpg", "b.jpg", "c.jpg"))
    assert first == manifests.ManifestRow(1, a, ((b, None),))
    assert second == manifests.ManifestRow(
        2,
        a,
        ((b, 0.7), (c, 0.3)),
        output="x.webp",
        recipe=str(folder / "own.toml"),
        overrides=("terms.style_weight=3", "descent.optimizer=Adam"),
    )


def test_csv_and_jsonl_are_read_alike(here):
    Path("sub").mkdir()
    csv("\ufeff" + AS_CSV[0], *AS_CSV[1:], name="sub/jobs.csv")
    same_rows(manifests.read_manifest(Path("sub/jobs.csv")), Path("sub"))
    Path("jobs.jsonl").write_text("\n\n".join(map(json.dumps, ROWS)))
    same_rows(manifests.read_manifest(here / "jobs.jsonl"), here)
    changed = {"terms.style_weight": 3, "descent.optimizer": "Adam"}
    changed_rows = [ROWS[0], ROWS[1] | {"overrides": changed}]
    Path("jobs.jsonl").write_text("\n".join(map(json.dumps, changed_rows)))
    same_rows(manifests.read_manifest(here / "jobs.jsonl"), here)


def test_parquet_is_read_like_the_others(here):
    pyarrow = pytest.importorskip("pyarrow", reason="install the extra `parquet`")
    from pyarrow import parquet

    columns = {name: [row.get(name) for row in ROWS] for name in manifests.COLUMNS}
    columns["style"][0] = [columns["style"][0]]  # a column has one type
    table = pyarrow.table(columns)
    parquet.write_table(table, "jobs.parquet")
    same_rows(manifests.read_manifest(here / "jobs.parquet"), here)
    Path("jobs.parquet").write_text("no")
    with pytest.raises(ValueError, match=r"`contents`: 'jobs.parquet': is not Parquet"):
        manifests.read_manifest(Path("jobs.parquet"))


def test_file_names_may_contain_semicolons_and_colons(here):
    for name in ("a;b.png", "wave:2"):
        shutil.copy("art.png", name)
    csv("content,style", "photo.png,a;b.png", "photo.png,wave:2", "photo.png,art.png:2")
    styles = [row.styles for row in manifests.read_manifest(here / "jobs.csv")]
    assert styles == [
        ((here / n, s),) for n, s in [("a;b.png", None), ("wave:2", None), ("art.png", 2.0)]
    ]


def test_names_of_masks_may_contain_semicolons(here):
    for name in ("a;b.png", "left;.png"):
        shutil.copy("art.png", name)
    csv(
        "content,style,region,regions,protect",
        "photo.png,art.png,a;b.png:art.png:2,,a;b.png:0.5",
        "photo.png,art.png,photo.png:art.png;other.png:art.png,,photo.png;other.png",
        "photo.png,art.png,,a;b.png;left;.png,a;b.png",
        "photo.png,art.png,,photo.png; art.png,",
    )
    first, second, third, fourth = manifests.read_manifest(here / "jobs.csv")
    assert first.regions == (parsing.RegionFiles(here / "a;b.png", here / "art.png", None, 2.0),)
    assert first.protect == parsing.ProtectFile(here / "a;b.png", 0.5)
    assert [region.mask.name for region in second.regions] == ["photo.png", "other.png"]
    assert [mask.name for mask in second.protect.masks] == ["photo.png", "other.png"]
    assert third.region_maps == (here / "a;b.png", here / "left;.png")
    assert third.protect == parsing.ProtectFile(here / "a;b.png")
    assert fourth.region_maps == (here / "photo.png", here / "art.png")


HEAD = "content,style,output,recipe,overrides"
BAD = {
    "no rows": (["content,style"], "'jobs.csv': has no rows"),
    "empty": ([""], "no column 'style'"),
    "missing column": (["content,output", "photo.png,x.png"], "no column 'style'"),
    "short row": (["content,style", "photo.png"], "row 1", "has no style"),
    "unknown column": (["content,style,outptu", "a,b,c"], "'outptu'", "'output'"),
    "semicolons": (["content;style", "a;b"], "'content;style'", "separate the columns by commas"),
    "column twice": (["content,style,style", "a,b,c"], "'style' twice"),
    "too many cells": (["content,style", "photo.png,art.png,x"], "row 1", "3 cells for 2"),
    "no style": ([HEAD, "photo.png,,,,"], "row 1", "style"),
    "quotes": (["content,style", '"photo.png,art.png'], "is not CSV"),
    "recipe": ([HEAD, "photo.png,art.png,,tini,"], "row 1", "`recipe`", "'tiny'"),
    "recipe file": ([HEAD, "photo.png,art.png,,no.toml,"], "row 1", "`recipe`", "no.toml"),
    "override": (
        [HEAD, "photo.png,art.png,,,descent.steps=0"],
        "row 1",
        "`overrides`",
        "descent.steps",
    ),
    "two overrides": (
        [HEAD, "photo.png,art.png,,,descent.steps=2 terms.tv_weight=3"],
        "row 1",
        "`overrides`",
        "sets terms.tv_weight too, after a space; write semicolons between them",
    ),
    "no override": ([HEAD, "photo.png,art.png,,,steps"], "row 1", "`overrides`", "KEY=VALUE"),
    "share": ([HEAD, "photo.png,art.png:1;other.png,,,"], "row 1", "'other.png' has no share"),
    "shares": ([HEAD, 'photo.png,art.png,,,"terms.style_shares=1.0,2.0"'], "row 1", "2 pictures"),
    "output twice": (
        [HEAD, "photo.png,art.png,x.png,,", "other.png,art.png,,,", "photo.png,art.png,./x.png,,"],
        "row 3",
        "row 1",
        "./x.png",
    ),
    "capitals": (
        [HEAD, "photo.png,art.png,Cat.png,,", "other.png,art.png,cat.png,,"],
        "row 2",
        "'cat.png' differs only in capitals from 'Cat.png', the output of row 1",
    ),
    "suffix": ([HEAD, "photo.png,art.png,x.gif,,"], "row 1", ".gif"),
    "outside": ([HEAD, "photo.png,art.png,../x.png,,"], "row 1", "'../x.png' is outside", "'out'"),
    "absolute": ([HEAD, "photo.png,art.png,/tmp/no/x.png,,"], "row 1", "--outputs-anywhere"),
    "in the results": (
        [HEAD, "photo.png,art.png,results.jsonl/x.png,,"],
        "row 1",
        "'out/results.jsonl/x.png' is in 'results.jsonl', and this is where the batch writes",
    ),
    "in an output": (
        [HEAD, "photo.png,art.png,a.png/deep/x.png,,", "photo.png,art.png,a.png,,"],
        "row 1",
        "'out/a.png/deep/x.png' is in 'a.png', and this is the output of row 2; choose another",
    ),
    "in an output but for capitals": (
        [HEAD, "photo.png,art.png,a.png/x.png,,", "other.png,art.png,A.png,,"],
        "row 1",
        "'out/a.png/x.png' is in 'a.png', and this differs only in capitals from 'A.png', which is the "
        "output of row 2, and many file systems take both for one; choose another folder",
    ),
    "in the results but for capitals": (
        [HEAD, "photo.png,art.png,Results.jsonl/x.png,,"],
        "row 1",
        "this differs only in capitals from 'results.jsonl', which is where the batch writes",
    ),
    "over the results": ([HEAD, "photo.png,art.png,results.jsonl,,"], "row 1", "results.jsonl"),
}


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_a_bad_manifest_is_refused_before_the_work(call, case):
    rows, *words = case
    before = [*os.listdir(), "jobs.csv"]
    refused(call("batch", csv(*rows), "-o", "out", "--recipe", "tiny"), "`", *words)
    assert sorted(os.listdir()) == sorted(before)


def test_outputs_elsewhere_are_checked_as_well(call):
    for output, said in (("../photo.png/x.png", "photo.png"), ("../art.png", "is an input")):
        jobs = csv(HEAD, f"photo.png,art.png,{output},,")
        refused(call("batch", jobs, "-o", "out", "--outputs-anywhere"), "row 1", said)


@pytest.mark.parametrize(
    ("folder", "output", "said"),
    [
        (
            "out.png",
            "../out.png",
            "'out.png' is a folder in which the batch writes 'results.jsonl'",
        ),
        (
            "out.png",
            "../Out.png",
            "'Out.png' differs only in capitals from 'out.png', which is a folder in which",
        ),
    ],
)
def test_an_output_may_not_be_the_folder_of_the_results(call, folder, output, said):
    jobs = csv(HEAD, f"photo.png,art.png,{output},,")
    before = os.listdir()
    told = call("batch", jobs, "-o", folder, "--recipe", "tiny", "--outputs-anywhere")
    refused(told, "row 1", f"`output`: {said}", "choose another name")
    assert os.listdir() == before


def test_an_output_behind_a_link_is_elsewhere(call):
    Path("victim").mkdir()
    Path("out").mkdir()
    Path("out/sub").symlink_to("../victim")
    Path("out/own.png").symlink_to("../victim/x.png")
    for output in ("sub/x.png", "own.png"):
        jobs = csv(HEAD, f"photo.png,art.png,{output},,")
        refused(call("batch", jobs, "-o", "out", "--recipe", "tiny"), "row 1", "is outside")
    Path("link").symlink_to("out")  # the folder itself may be a link
    found = manifests.read_manifest(Path(csv(HEAD, "photo.png,art.png,in.png,,")))
    assert destinations(found, Path("link"), "png") == [Path("link/in.png")]
    assert destinations(manifests.read_manifest(Path(jobs)), Path("/"), "png")


def test_an_output_elsewhere_is_painted_if_that_is_allowed(call):
    jobs = csv(HEAD, "photo.png,art.png,../own.png,,descent.steps=1")
    argv = ["-o", "out", "--recipe", "tiny", "--outputs-anywhere", "-q"]
    assert call("batch", jobs, *argv)[0] == 0
    assert Path("own.png").exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("{", ["row 1", "not JSON"]),
        ("[1]", ["row 1", "not an object"]),
        ('{"content": 3, "style": "b"}', ["row 1", "`content`", "expected text"]),
        (r'{"content": "\ud800", "style": "b"}', ["row 1", "`content`", "half a character"]),
        (r'{"content": "a", "style": ["\ud800"]}', ["row 1", "`style`", r"'\ud800'"]),
        (r'{"content": "a", "style": "b", "output": "\udfff.png"}', ["row 1", "`output`"]),
        ('{"content": "a"}', ["row 1", "no column 'style'"]),
        (
            '{"style": "b", "seed": 1.5}',
            ["row 1", "`seed`: expected a whole number from 0 to 4294967295, got 1.5"],
        ),
        ('{"style": "b", "size": 32.5}', ["row 1", "': column `size`: expected text, got 32.5"]),
        (
            '{"content": "a", "style": "b", "protect": 1}',
            ["row 1", "': column `protect`: expected text, got 1"],
        ),
        ('{"content": "a", "style": []}', ["row 1", "has no style"]),
    ],
)
def test_a_bad_line_is_refused(call, line, words):
    Path("jobs.jsonl").write_text(line)
    refused(call("batch", "jobs.jsonl", "-o", "out"), "`CONTENTS`", *words)


@pytest.mark.parametrize(
    ("size", "name"), [("64", "column `size`"), (None, "`--size`")], ids=["column", "option"]
)
def test_a_message_names_the_column_of_a_size_wherever_it_names_the_size(size, name):
    row = manifests.ManifestRow(2, None, (), location="row 2 of 'jobs.csv'", size=size)
    for begin in ("`size`: 8 px is too small", "`style`: 8x8 px is too small"):
        with pytest.raises(ValueError) as caught, manifests.naming_row(row):
            raise ValueError(f"{begin}; choose a larger `size`, or a `style_size`")
        told = messages.as_flags(str(caught.value))
        start = begin.replace("`size`", name)
        said = f"{start}; choose a larger {name}, or a `--style-size`"
        assert told == f"`contents`: row 2 of 'jobs.csv': {said}"


def test_options_that_exclude_each_other_are_refused(call):
    csv("content,style", "photo.png,art.png")
    out = ("-o", "out")
    refused(call("batch", "no.csv", *out), "`CONTENTS`", "no.csv", "no such file")
    refused(
        call("batch", "jobs.csv", "photo.png", *out),
        "`CONTENTS`",
        "so it must be the only one; leave out",
    )
    refused(call("batch", "jobs.csv", "--styles", "art.png", *out), "`--styles`", "manifest")
    refused(call("batch", "jobs.csv", "--sheet", *out), "`--sheet`", "manifest")
    refused(call("batch", "jobs.csv", "--pair", "zip", *out), "`--pair`", "manifest")
    refused(call("batch", "jobs.csv", "--recipe", "tini", *out), "`--recipe`", "'tiny'")
    refused(call("batch", "photo.png", *out), "`--styles`", "missing")
    for shard in ("0/2", "3/2", "1/0", "half"):
        refused(call("batch", "jobs.csv", "--shard", shard, *out), "`--shard`", shard)
    crossed = ("photo.png", "--styles", "art.png")
    refused(call("batch", *crossed, *out, "--shard", "1/2", "--sheet"), "`--sheet`", "--shard")
    refused(call("batch", ".", "--styles", "art.png", "-o", "../" + Path.cwd().name), "`--output`")
    Path("out").mkdir()
    Path("out/results.jsonl").write_text("precious\n")
    refused(call("batch", *crossed, *out), "`--output`", "results.jsonl", "another kind")
    assert Path("out/results.jsonl").read_text() == "precious\n"


@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("ray", ["photo.png", "--styles", "art.png", "--runner", "ray"], "nst-jax[ray]"),
        ("pyarrow", ["jobs.parquet"], "nst-jax[parquet]"),
    ],
)
def test_a_missing_extra_is_named(call, monkeypatch, module, words, said):
    Path("jobs.parquet").touch()
    monkeypatch.setitem(sys.modules, module, None)
    refused(call("batch", *words, "-o", "out"), said)


# --- Folders and globs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "path", "found"),
    [
        ("photos/*.png", "photos/x.png", True),
        ("photos/*.png", "photos/x.jpg", False),  # as with `--format jpg`
        ("photos/*.png", "photos/sub/x.png", False),
        ("photos/*.png", "other/x.png", False),
        ("photos/*.png", "photos/.x.png", False),  # globs pass over hidden files
        ("photos/.*.png", "photos/.x.png", True),
        ("photos/?.png", "photos/cat.png", False),
        ("./photos/../photos/*", "photos/x.png", True),
        ("photos/*.png", "link/x.png", True),  # `link` leads to `photos`
        ("link/*.png", "photos/x.png", True),
        ("*/*.png", "link/x.png", True),
        ("*.png", "x.png", True),
        ("*.png", "photos/x.png", False),
        ("photos/**/*.png", "photos/x.png", True),
        ("photos/**/*.png", "photos/new/deep/x.png", True),
        ("photos/**/*.png", "photos/.hidden/x.png", False),
        ("photos/**", "photos/new/x.png", True),
        ("**/sub/*.png", "photos/sub/x.png", True),
        ("photos/*/x.png", "photos/new/x.png", True),
        ("photos/*/x.png", "photos/new/y.png", False),
        ("photos", "photos/x.png", True),
        ("photos", "photos/sub/x.png", False),
        ("photo.png", "photo.png", False),  # a file finds nothing
        ("p[1]", "p[1]/x.png", True),  # a folder with such a name is no glob
        ("p[1]/*.png", "p1/x.png", True),
    ],
)
def test_results_that_the_words_would_find_are_known(here, word, path, found):
    for folder in ("photos/sub", "photos/.hidden", "photos/new/deep", "other", "p[1]", "p1"):
        Path(folder).mkdir(parents=True)
    Path("photos/one.png").touch()
    Path("link").symlink_to("photos")
    word_for = rows.finder([Path("art.png"), Path(word)])
    assert word_for(Path(path)) == (Path(word) if found else None)
    if path != word:  # `expanded` finds it if and only if it was foretold
        shutil.copy("art.png", path)
        given = rows.expanded([Path(word)], "contents") if glob.glob(word, recursive=True) else []
        places = [os.path.realpath(other) for other, _ in given]
        assert (os.path.realpath(path) in places) is found


def test_results_that_a_glob_would_find_are_refused(call):
    Path("photos").mkdir()
    shutil.copy("photo.png", "photos/a.png")
    argv = ["--styles", "art.png", "-o", "photos", "--recipe", "tiny"]
    said = (
        "`--output`: 'photos/a_art.png' would be found by 'photos/*.png', so the results would be "
        "inputs of the next run; choose another folder"
    )
    refused(call("batch", "photos/*.png", *argv), said)
    assert os.listdir("photos") == ["a.png"]
    # Results of another format are not found; but the contact sheet is.
    more = ["--format", "jpg", "--sheet"]
    refused(call("batch", "photos/*.png", *argv, *more), said.replace("a_art", "sheet"))
    refused(call("batch", "art.png", "--styles", "photos/*g", *argv[2:]), "'photos/*g'")
    for _ in range(2):  # the same command started again resumes
        code, _, err = call("batch", "photos/*.png", *argv, "--format", "jpg")
        assert code == 0, err
    assert set(os.listdir("photos")) == {"a.png", "a_art.jpg", "results.jsonl"}
    assert listed("photos")[1]["status"] == "skipped"


def test_folders_and_globs_are_expanded(call):
    Path("in/deep").mkdir(parents=True)
    for name in ("b.png", "A.JPG", ".hidden.png", "notes.txt", "deep/c.png"):
        shutil.copy("photo.png", f"in/{name}")
    folder, pattern, word = Path("in"), Path("in/**/*.png"), Path("art.png")
    found = rows.expanded([folder, pattern, word], "contents")
    typed = [(str(path), own) for path, own in found]
    inside = [("in/A.JPG", False), ("in/b.png", False)]
    assert typed == [*inside, ("in/b.png", False), ("in/deep/c.png", False), ("art.png", True)]
    crossed = rows.paired([folder], [word], zipped=False)
    assert [(row.typed, row.number) for row in crossed] == [(False, 1), (False, 2)]
    Path("none").mkdir()
    refused(call("batch", "none", "--styles", "art.png", "-o", "out"), "`CONTENTS`", "no pictures")
    Path("none/a.HEIC").touch()
    refused(call("batch", "none", "--styles", "art.png", "-o", "out"), "only 1 .heic (HEIC is")
    refused(call("batch", "a*.jpg", "--styles", "x", "-o", "out"), "`CONTENTS`", "no file matches")


def test_what_is_passed_over_in_folders_is_said(call):
    Path("in/deep").mkdir(parents=True)
    shutil.copy("photo.png", "in/a.png")
    for name in ("a.MOV", "b.mov", "c.heic", "README", ".hidden"):
        Path("in", name).touch()
    (note,) = rows.notes_on_folders([Path("in"), Path("in"), Path("in/deep"), Path("art.png")])
    assert note.startswith("passed over in 'in': 1 .heic, 2 .mov, 1 without a suffix (HEIC")
    code, _, err = call("batch", "in", "--styles", "art.png", "-o", "out", "--recipe", "tiny")
    assert code == 0 and f"note: {note}" in " ".join(err.split())


def test_a_link_that_leads_to_itself_is_no_file_of_its_folder(here):
    Path("in").mkdir()
    Path("in/loop.txt").symlink_to("loop.txt")
    Path("in/gone.txt").symlink_to("missing.txt")
    assert rows.notes_on_folders([Path("in")]) == []
    Path("in/notes.txt").touch()
    assert rows.notes_on_folders([Path("in")]) == ["passed over in 'in': 1 .txt"]


def test_a_number_in_a_name_is_tried_once(here):
    asked = [row_of(i) for i in range(1, 6)]
    asked[3] = asked[3]._replace(output="a_b-2.png")
    found = destinations(asked, Path("out"), "png")
    assert [path.name for path in found] == [
        "a_b.png", "a_b-3.png", "a_b-4.png", "a_b-2.png", "a_b-5.png"
    ]  # fmt: skip


def test_results_of_pictures_with_long_names(here):
    content, style = Path("a" * 150 + ".png"), Path("b" * 150 + ".png")
    long = row_of(1)._replace(content=content, styles=((style, None),))
    beside = row_of(3)._replace(content=Path("c" * 99), styles=((style, None),))
    found = destinations([long, long, row_of(1), beside, beside], Path("out"), "png")
    name = "a" * 150 + "_" + "b" * 49
    digest = hashlib.sha256(f"{'a' * 150}_{'b' * 150}".encode()).hexdigest()[:8]
    assert [path.name for path in found[:4]] == [
        f"{name}-{digest}.png", f"{name}-{digest}-2.png", "a_b.png", f"{'c' * 99}_{'b' * 150}.png"
    ]  # fmt: skip
    assert all(len(path.name) <= 255 for path in found) and len(set(found)) == 5
    check_destinations([(long, path) for path in found], more=[], inputs=[content, style])
    with pytest.raises(ValueError, match=r"cannot write 'x*.png': .*; choose a shorter name$"):
        check_destinations([(long, Path("new", "x" * 300 + ".png"))], more=[], inputs=[])


def test_a_batch_of_pictures_with_long_names(call):
    content, style = "a" * 150 + ".png", "b" * 150 + ".png"
    shutil.copy("photo.png", content)
    shutil.copy("art.png", style)
    Path("more").mkdir()
    shutil.copy("photo.png", f"more/{content}")
    argv = ["batch", content, "photo.png", f"more/{content}", "--styles", style, "-o", "out"]
    code, _, err = call(*argv, "--recipe", "tiny", "--steps", "1")
    assert code == 0
    names = [name for name in os.listdir("out") if name.endswith(".png")]
    (second,) = (name for name in names if name.endswith("-2.png"))
    assert len(names) == 3 and f"photo_{'b' * 150}.png" in names
    assert f"{second} is more/{content} with {style}" in " ".join(err.split())
    assert second.replace("-2.png", ".png") in names


def test_a_folder_is_tested_by_one_file_and_every_name_is_checked(here, monkeypatch):
    made, real = [], _files.temporary_path
    monkeypatch.setattr(_files, "temporary_path", lambda path: made.append(path) or real(path))
    names = [f"out/{folder}/{i}.png" for folder in ("", "new", "new/deep") for i in range(5)]
    files = [(row_of(i), Path(name)) for i, name in enumerate(names, 1)]
    check_destinations(files, more=[], inputs=[])
    assert len(made) == 1  # all are under `out` once it exists, whose nearest folder is this one
    for name in ("out/x.gif", "out/" + "x" * 300 + ".png", "photo.png"):
        with pytest.raises(ValueError, match="^`output`:"):
            check_destinations(
                [*files, (row_of(99), Path(name))], more=[], inputs=[Path("photo.png")]
            )


# --- Buckets and shards ---------------------------------------------------------------------------


def varied(**numbers):
    return replace(TINY, terms=replace(TINY.terms, **numbers))


def test_recipes_that_differ_by_numbers_share_a_program():
    rule = replace(TINY.descent, optimizer=optimizers.Adam(learning_rate=0.5))
    recipe_rows = [TINY, varied(style_weight=3.0), replace(TINY, descent=rule, name="else")]
    (group,) = groups.form_groups([entry(i, r) for i, r in enumerate(recipe_rows)], "cpu")
    joined = groups.joint_recipe(group.entries, group.varying)
    np.testing.assert_array_equal(joined.terms.style_weight, [1, 3, 1])
    np.testing.assert_array_equal(joined.descent.optimizer.learning_rate, [0.02, 0.02, 0.5])
    assert np.ndim(joined.terms.content_weight) == 0
    # One of them alone runs the same program: its numbers are arrays of one.
    assert groups.joint_recipe(group.entries[:1], group.varying).terms.style_weight.shape == (1,)


@pytest.mark.parametrize(
    "other",
    [
        replace(TINY, network=replace(TINY.network, pool=layers.average_pool)),
        replace(TINY, descent=replace(TINY.descent, steps=6)),
        varied(style_taps=("relu1_1",), style_layer_weights=(1.0,)),
        varied(style_shares=(1.0, 2.0)),
        replace(TINY, pictures=replace(TINY.pictures, start=arguments.START_NAMES["noise"]())),
    ],
)
def test_recipes_that_differ_in_structure_do_not_share_a_program(other):
    assert len(groups.alike_of([entry(1), entry(2, other)])) == 2


def row_of(number, recipe=None, *overrides):
    return manifests.ManifestRow(
        number, Path("a.png"), ((Path("b.png"), None),), recipe=recipe, overrides=overrides
    )


@pytest.mark.parametrize("parts", [1, 2, 4, 7, 100, 130])
def test_every_row_is_in_exactly_one_shard(parts):
    asked = [row_of(i, ("tf", "default")[i % 2]) for i in range(1, 101)]
    shards = [rows_of_shard(asked, Shard(i, parts)) for i in range(1, parts + 1)]
    assert sorted(row.number for part in shards for row in part) == list(range(1, 101))
    assert all(part == sorted(part) for part in shards)
    sizes = [len(part) for part in shards]
    assert max(sizes) - min(sizes) <= groups.MOST_PICTURES and (parts <= 100) == (min(sizes) > 0)


def test_rows_that_one_program_can_paint_are_in_one_shard():
    asked = [
        row_of(i, ("tf", "default")[i % 2], f"terms.tv_weight={i}", f"descent.steps={i // 2 % 2}")
        for i in range(32)
    ]
    shards = [rows_of_shard(asked, Shard(i, 4)) for i in (1, 2, 3, 4)]
    assert [{row.recipe for row in part} for part in shards] == [{"tf"}, {"tf"}, *[{"default"}] * 2]


def test_a_shard_opens_and_checks_only_its_own_rows(here, monkeypatch):
    asked = [row_of(i, "tiny", "terms.style_weight=nonsense") for i in range(1, 21)]
    pair = Path("photo.png"), ((Path("art.png"), None),)
    asked += [manifests.ManifestRow(i, *pair, recipe="tiny") for i in (21, 22)]
    opened, real = [], images.glance

    def glance(path, **options):
        opened.append(path)
        return real(path, **options)

    monkeypatch.setattr(images, "glance", glance)
    changes, out, last = arguments.Changes(), Path("out"), Shard(11, 11)
    made = job.batch_job(asked, changes, out, "png", shard=last)
    assert [entry.number for entry in made.entries] == [21, 22]
    assert opened == [Path("photo.png"), Path("art.png")]
    with pytest.raises(ValueError, match="`overrides`"):
        job.batch_job(asked, changes, out, "png", shard=Shard(1, 11))
    # An output that is an input of another shard, or an output of one, is refused by every shard.
    asked[-1] = asked[-1]._replace(output="taken.png")
    for other in ({"content": Path("out/taken.png")}, {"output": "taken.png"}):
        clash = [asked[0]._replace(**other), *asked[1:]]
        with pytest.raises(ValueError, match="is an input|is also the output"):
            job.batch_job(clash, changes, out, "png", shard=last)


def test_rows_that_differ_by_numbers_are_planned_once(here, monkeypatch):
    overrides = [(f"terms.style_weight={weight}",) for weight in range(1, 6)]
    overrides += [("network.pool=average",), ("terms.style_weight=9", "network.pool=average")]
    asked = [
        manifests.ManifestRow(
            number,
            Path("photo.png"),
            ((Path("art.png"), None),),
            "row",
            f"{number}.png",
            "tiny",
            more,
        )
        for number, more in enumerate(overrides, 1)
    ]
    calls = {"plan_scales": 0, "_base_of": 0}

    def counted(module, name):
        real = getattr(module, name)

        def count(*args, **options):
            calls[name] += 1
            return real(*args, **options)

        monkeypatch.setattr(module, name, count)

    counted(job, "plan_scales")
    counted(row_recipes, "_base_of")
    made = job.batch_job(asked, arguments.Changes(), Path("out"), "png")
    assert calls == {"plan_scales": 2, "_base_of": 1}
    weights = [entry.recipe.terms.style_weight for entry in made.entries]
    assert weights == [1, 2, 3, 4, 5, TINY.terms.style_weight, 9]
    pools = [entry.recipe.network.pool for entry in made.entries]
    assert pools[0] == TINY.network.pool and pools[5] == pools[6] != pools[0]


def test_a_row_that_does_not_fit_is_refused_alone(here, monkeypatch):
    real = job.plan_scales

    def plan(recipe, scales, **options):
        if scales[-1].shape[1] > 50:
            raise ValueError("too large")
        return real(recipe, scales, **options)

    monkeypatch.setattr(job, "plan_scales", plan)
    asked = [
        manifests.ManifestRow(
            number,
            Path("photo.png"),
            ((Path("art.png"), None),),
            "row",
            None,
            "tiny",
            (f"pictures.size.pixels={size}",),
        )
        for number, size in enumerate((40, 60, 40), 1)
    ]
    made = job.batch_job(asked, arguments.Changes(), Path("out"), "png")
    assert [entry.number for entry in made.entries] == [1, 3]
    assert [(record.row, record.error) for record in made.bad] == [
        (2, "too large ('photo.png' with 'art.png')")
    ]


def test_rows_that_cannot_be_painted_are_reported_by_one_shard(here):
    missing = [
        manifests.ManifestRow(i, Path(f"no{i}.png"), ((Path("art.png"), None),))
        for i in range(1, 6)
    ]
    reported = [
        [
            record.row
            for record in job.batch_job(
                missing, arguments.Changes(), Path("out"), "png", shard=Shard(number, 2)
            ).bad
        ]
        for number in (1, 2)
    ]
    assert reported == [[1, 2, 5], [3, 4]]


# --- Painting -------------------------------------------------------------------------------------

JOBS = (
    HEAD,
    "photo.png,art.png,,,",
    "broken.png,art.png,,,",
    "other.png,art.png,sub/heavy.png,own.toml,terms.style_weight=3",
    "missing.png,art.png,,,",
)


def write_cut(path):
    """Write a picture whose damage only decoding finds: a JPEG that ends within its pixels."""
    with Image.open("photo.png") as photo:
        photo.convert("RGB").save(path, "JPEG")
    Path(path).write_bytes(Path(path).read_bytes()[:-50])


def test_a_manifest_is_painted_and_resumed(call):
    write_cut("broken.png")
    Path("own.toml").write_text('base = "tiny"\nname = "own"')
    argv = ("-o", "out", "--recipe", "tiny", "--init", "noise", "--seed", "7")
    code, out, err = call("batch", csv(*JOBS), *argv)
    assert code == 1 and out == "out\n"
    assert "warning: out/missing_art.png: `content`: there is no file 'missing.png'" in err
    found = listed()
    ends = {row: (record["status"], record["output"]) for row, record in found.items()}
    assert ends == {
        1: ("done", "out/photo_art.png"),
        2: ("failed", "out/broken_art.png"),
        3: ("done", "out/sub/heavy.png"),
        4: ("failed", "out/missing_art.png"),
    }
    assert "truncated" in found[2]["error"] and found[1]["error"] is None
    assert not Path("out/broken_art.png").exists()
    assert found[3]["losses"]["total"] > 0 and found[3]["seconds"] > 0
    facts = json.loads(call("info", "out/sub/heavy.png")[1])
    assert facts["losses"] == found[3]["losses"]
    assert facts["settings"]["terms.style_weight"] == 3 and facts["recipe"] == "own"
    assert facts["settings"]["pictures.start"] == "Noise" and facts["seed"] == 7

    # Started again: finished pictures are skipped, also with `--no-overwrite`.
    before = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")}
    for more in ([], ["--no-overwrite"]):
        code, _, err = call("batch", "jobs.csv", *argv, *more)
        assert code == 1 and "2 more are finished and skipped" in err
        assert {row: r["status"] for row, r in listed().items()}[1] == "skipped"
        assert listed()[1]["losses"] == found[1]["losses"]
    assert {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.png")} == before

    # Pictures whose recipe has changed or whose file is damaged are painted again.
    csv(*JOBS[:3], JOBS[3].replace("=3", "=4"), name="jobs.csv")
    whole = Path("out/photo_art.png").read_bytes()
    flipped = whole[-40] ^ 1  # one bit of the pixels
    Path("out/photo_art.png").write_bytes(whole[:-40] + bytes([flipped]) + whole[-39:])
    refused(
        call("batch", "jobs.csv", *argv, "--no-overwrite"), "`--output`", "photo_art.png", "row 1"
    )
    assert call("batch", "jobs.csv", *argv, "-q")[0] == 1
    assert {row: r["status"] for row, r in listed().items() if row in (1, 3)} == {
        1: "done",
        3: "done",
    }
    assert Path("out/photo_art.png").read_bytes() == whole
    facts = json.loads(call("info", "out/sub/heavy.png")[1])
    assert facts["settings"]["terms.style_weight"] == 4


def test_a_file_that_is_not_ours_is_replaced_only_on_request(call):
    argv = ["batch", "photo.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny"]
    output = Path("out/photo_art.png")
    output.parent.mkdir()
    for content in (Path("other.png").read_bytes(), b"not a picture", b""):
        output.write_bytes(content)
        refused(call(*argv), "`--output`", "did not write", "`--overwrite`", "row 1")
        assert output.read_bytes() == content and os.listdir("out") == ["photo_art.png"]
    assert call(*argv, "--steps", "1", "-q", "--overwrite", "--no-metadata")[0] == 0
    # Without metadata it is known by the result manifest; with other settings it is replaced.
    assert call(*argv, "--steps", "1", "-q")[0] == 0
    Path("out/results.jsonl").unlink()
    whole = output.read_bytes()
    output.write_bytes(whole[:-99])  # its metadata still say which program wrote it
    assert call(*argv, "--steps", "1", "-q")[0] == 0 and output.read_bytes() == whole


def test_only_a_contact_sheet_is_replaced_by_one_unless_requested(here):
    asked, out, sheet = [row_of(1)], Path("out"), Path("out/sheet.png")
    asked = [asked[0]._replace(content=Path("photo.png"), styles=((Path("art.png"), None),))]
    out.mkdir()

    def checked(**options):
        return job.batch_job(asked, arguments.Changes(), out, "png", sheet=True, **options)

    for painted in (
        None,
        {"recipe": "tiny", "finished": True},
    ):  # somebody's picture; a painted one
        images.save(sheet, images.load("other.png"), metadata=painted)
        before = sheet.read_bytes()
        for overwrite in (None, False):
            said = (
                "sheet.png' exists and is no contact sheet of this program; choose another folder"
            )
            with pytest.raises(ValueError, match=said):
                checked(overwrite=overwrite)
        assert checked(overwrite=True).sheet == sheet and sheet.read_bytes() == before
    images.save(sheet, images.load("other.png"), metadata={"contact_sheet": 1})
    for overwrite in (None, False, True):
        assert checked(overwrite=overwrite).sheet == sheet


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_among_the_results_is_not_waited_for(here):
    Path("out").mkdir()
    os.mkfifo("out/results.jsonl")
    with pytest.raises(ValueError, match="`output`: 'out/results.jsonl' is no regular file"):
        results.check_listing(Path("out/results.jsonl"))
    assert results.written_before(Path("out")) == set()


def test_a_result_that_takes_too_much_memory_to_decode_is_not_finished(here, monkeypatch):
    images.save("x.png", np.zeros((80, 100, 3)), metadata={"finished": True})
    assert results.read_if_finished(Path("x.png"), {}) is not None
    monkeypatch.setattr(_memory, "of_this_machine", lambda: 80_000)
    assert results.read_if_finished(Path("x.png"), {}) is None
    assert results.is_ours(Path("x.png"), set())


CHANGES = {
    "recipe": lambda e: e._replace(recipe=varied(style_weight=2.0)),
    "size": lambda e: e._replace(scales=(run_scales.Scale((30, 41), ((40, 40),), 5),)),
    "content": lambda e: e._replace(seen=(e.seen[0]._replace(digest="2"), e.seen[1])),
    "style": lambda e: e._replace(seen=(e.seen[0], e.seen[1]._replace(name="t"))),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_picture_is_finished_if_it_was_painted_as_requested(here, change):
    from nst_jax.weights import read_info

    weights, batch = read_info(), job.BatchJob(entries=(), folder=Path())
    first = entry()
    facts = job.requested_settings(first, batch, weights)
    image = np.zeros((30, 40, 3), np.float32)
    images.save("x.png", image, metadata=facts | {"finished": True, "versions": {"jax": "0"}})
    rest = replace(batch, entries=(first, change(first)))
    left, records = job.unfinished(rest, weights)
    cut = replace(first.recipe.network, tile=128, remat=True)  # does not change the picture
    tiled = first._replace(recipe=replace(first.recipe, network=cut))
    assert job.unfinished(replace(rest, entries=(tiled,)), weights)[0].entries == ()
    assert left.entries == rest.entries[1:] and [r.status for r in records] == ["skipped"]
    seeded = replace(batch, entries=(first,), seed=1)
    assert job.unfinished(seeded, weights)[0].entries == (first,)
    seeded = replace(batch, entries=(first._replace(seed=1),))
    assert job.unfinished(seeded, weights)[0].entries == seeded.entries
    images.save("x.png", image, metadata=facts | {"finished": False})
    assert job.unfinished(rest, weights)[0].entries == rest.entries


def test_a_group_that_fails_is_painted_one_by_one(monkeypatch, as_users_do):
    def failing(params, plans, **options):
        ((plan, members),) = plans
        assert plan.pictures == len(members)
        if len(members) > 1 or members[0].prepared.content.mean() > 1.5 / 255:
            raise RuntimeError("out of memory")
        return planned_batches.PaintedBatch(
            {0: None}, {0: Losses(1.0, 0.5, 0.5, 0.0, {})}, {}, set(), {}
        )

    monkeypatch.setattr(group_painting, "paint_batch", failing)
    picture = images.sample_picture("gravel")
    loaded = [
        group_painting.Loaded(
            entry(i), picture._replace(image=np.full((30, 40, 3), level, np.uint8)), (picture,)
        )
        for i, level in ((1, 1), (2, 2), (3, 1))
    ]
    (group,) = groups.form_groups([one.entry for one in loaded], "cpu")
    batch = job.BatchJob(entries=(), folder=Path())

    class Progress:
        report = None

        def __iter__(self):
            return iter(())

    canvases, failed = group_painting.paint_group(None, loaded, group, batch, Progress())
    assert [canvas.loaded.entry.number for canvas in canvases] == [1, 3]
    assert [(record.row, record.status) for record in failed] == [(2, "failed")]
    assert failed[0].error == "RuntimeError: out of memory"


def test_reading_and_writing_overlap_with_painting(monkeypatch, as_users_do):
    happened = {name: threading.Event() for name in ("read 1", "written 0")}
    parts = [groups.Group((entry(i),), ()) for i in range(3)]

    def read(group, known):
        if group is parts[1]:
            happened["read 1"].set()
        return [group_painting.Loaded(group.entries[0], None, ())], []

    def painted(params, loaded, *others):
        # Each event happens in time only if the other threads work while this one waits.
        wait = {0: "read 1", 1: "written 0"}.get(loaded[0].entry.number)
        assert wait is None or happened[wait].wait(30)
        return [group_painting.PaintedPicture(loaded[0], None, None, None, False, None, 0.0)], []

    def write(canvas, batch, weights):
        if canvas.loaded.entry.number == 0:
            happened["written 0"].set()
        return job.record_of(canvas.loaded.entry, "done")

    class Progress:
        def end_group(self):
            pass

    for name, stand_in in {"read_group": read, "paint_group": painted, "write": write}.items():
        monkeypatch.setattr(local, name, stand_in)
    records = []
    local.paint_groups(None, None, None, parts, Progress(), records.append)
    assert [record.row for record in records] == [0, 1, 2]


def test_a_file_that_rows_with_masks_share_is_read_once(call, monkeypatch):
    Image.new("L", (60, 45), 255).save("mask.png")
    Image.new("L", (50, 50), 255).save("style_mask.png")
    read, glanced, groups_seen = [], [], []

    def counted(made, real):
        return lambda path, **options: made.append(Path(path).name) or real(path, **options)

    monkeypatch.setattr(images, "read", counted(read, images.read))
    monkeypatch.setattr(images, "glance", counted(glanced, images.glance))

    def painted(params, loaded, *others):
        groups_seen.append(loaded)
        return [], []

    monkeypatch.setattr(local, "paint_group", painted)
    region = "mask.png:art.png:style_mask.png"
    argv = ["photo.png", "other.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny", "-q"]
    call("batch", *argv, "--region", region, "--protect", "mask.png")
    assert [len(loaded) for loaded in groups_seen] == [1, 1]  # each row alone, for its masks
    # The masks are also checked once for each option, before any picture is painted.
    often = {name: read.count(name) for name in set(read)}
    assert often == {
        "photo.png": 1,
        "other.png": 1,
        "art.png": 1,
        "mask.png": 3,
        "style_mask.png": 2,
    }
    assert glanced.count("style_mask.png") == 1


def test_an_incomplete_last_line_is_dropped(here):
    record = job.record_of(entry(), "done")
    with results.Results(Path("results.jsonl")) as listed:
        listed.add(record)
    with Path("results.jsonl").open("a") as file:
        file.write('{"row": 2, "cont')
    with results.Results(Path("results.jsonl")) as listed:
        listed.add(record._replace(row=3, content="\udcff"))
    assert [line["row"] for line in lines("results.jsonl")] == [1, 3]


# --- Results that are deleted or blocked during a batch -----------------------------------------------

PAIRS = ["batch", "photo.png", "art.png", "--styles", "art.png", "-o", "out", "--recipe", "tiny"]


def after_first_picture(monkeypatch, happening):
    """Let something happen after the first picture of a batch was written."""
    write, seen = local.write, []

    def written(*arguments):
        record = write(*arguments)
        if not seen:
            seen.append(record)
            happening()
        return record

    monkeypatch.setattr(local, "write", written)
    return seen


def test_a_folder_deleted_meanwhile_is_a_failure_of_what_was_in_it(call, monkeypatch):
    with monkeypatch.context() as patched:
        seen = after_first_picture(patched, lambda: shutil.rmtree("out"))
        code, _, err = call(*PAIRS, "-q", "--sheet")
    (first,) = seen
    said = "was deleted after it was written; start the batch again to paint it anew"
    assert code == 1 and err == f"nst-jax: warning: {first.output}: {said}\n"
    assert {row: line["status"] for row, line in listed().items()} == {1: "failed", 2: "done"}
    assert lines("out/results.jsonl")[0]["status"] == "done"  # all lines are there again
    assert not Path(first.output).exists() and len(list(Path("out").glob("*.png"))) == 2
    assert call(*PAIRS, "-q")[0] == 0
    assert {row: line["status"] for row, line in listed().items()} == {1: "done", 2: "skipped"}


def test_rows_that_cannot_be_written_go_elsewhere(call, monkeypatch):
    def block():
        shutil.rmtree("out")
        Path("out").write_bytes(b"")  # so that the folder cannot be made again

    with monkeypatch.context() as patched:
        seen = after_first_picture(patched, block)
        code, _, err = call(*PAIRS, "-q")
    (picture,) = Path().absolute().glob("art_art-*.png")
    (results_file,) = Path().absolute().glob("results-*.jsonl")
    vanished, second, problem = err.splitlines()
    assert code == 1 and seen[0].output in vanished and "was deleted" in vanished
    said = f"cannot write 'out/art_art.png': File exists; the picture is in '{picture}'"
    assert second == f"nst-jax: warning: out/art_art.png: {said}"
    assert images.read_metadata(picture)["finished"] is True
    assert problem.startswith("nst-jax: error: cannot write 'out/results.jsonl': ")
    assert problem.endswith(f"; the results are in '{results_file}'")
    assert [line["status"] for line in lines(results_file)] == ["done", "failed", "failed"]


def test_a_result_manifest_that_cannot_be_written_is_tried_again(here, monkeypatch):
    append, full = results._append, [True]

    class Full:
        """A disk that takes the beginning of a line and no more."""

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if len(data) < 9:
                raise OSError(28, "No space left on device")
            return self.file.write(data[: len(data) // 2])

    def filling(file, line):
        append(Full(file) if full else file, line)

    monkeypatch.setattr(results, "_append", filling)
    record, path = job.record_of(entry(), "done"), Path("results.jsonl")
    with results.Results(path) as listed:
        listed.add(record)
        assert path.read_bytes() == b""
        full.clear()
        listed.add(record._replace(row=2))
        assert [line["row"] for line in lines(path)] == [1, 2]
        full.append(True)
        listed.add(record._replace(row=3))
    found = listed.ensure_saved().rpartition(" in '")[2].removesuffix("'")
    assert listed.ensure_saved().startswith(
        "cannot write 'results.jsonl': No space left on device; "
    )
    assert [line["row"] for line in lines(found)] == [1, 2, 3]
    assert [line["row"] for line in lines(path)] == [1, 2]


def test_two_batches_cannot_share_a_result_manifest(call):
    Path("out").mkdir()
    with _files.reserved("out/results.jsonl"):
        refused(call(*PAIRS), "`--output`", "'out/results.jsonl' is in use by another run")
        assert call(*PAIRS, "-q", "--steps", "1", "--shard", "1/2")[0] == 0
    assert len(list(Path("out").glob("*.png"))) == 1


# --- Killed and resumed ---------------------------------------------------------------------------


@pytest.fixture
def start():
    """Start a batch in another process, which is killed when the test ends."""
    started = []

    def run(*argv):
        words = [sys.executable, "-c", test_cli.TINY_MAIN, "batch", *argv, "--recipe", "tiny"]
        process = subprocess.Popen(
            words, stderr=subprocess.PIPE, text=True, env=test_cli.ENVIRONMENT
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.communicate()


def many(count, steps):
    """Write a manifest of several shapes and weights."""
    rows = [
        f"{'photo' if i % 3 else 'art'}.png,art.png,{i}.png,,descent.steps={steps};terms.tv_weight={i}"
        for i in range(count)
    ]
    return csv(HEAD, *rows)


def wait_for(listing, rows, process):
    """Wait until a result manifest has so many lines."""
    limit = time.monotonic() + 240
    while time.monotonic() < limit and process.poll() is None:
        if listing.exists() and listing.read_bytes().count(b"\n") >= rows:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate(timeout=60)[1])


def all_whole(count):
    for i in range(count):
        facts = images.read_metadata(f"out/{i}.png")  # decodes all of it
        assert facts["finished"] is True and facts["settings"]["terms.tv_weight"] == i
    ends = [listed()[row]["status"] for row in range(1, count + 1)]
    assert set(ends) <= {"done", "skipped"}
    assert not list(Path("out").glob(".*"))  # no temporary files either


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
@pytest.mark.parametrize("seed", range(1))
def test_a_killed_batch_is_resumed(start, seed):
    many(24, 40)
    process, chance = start("jobs.csv", "-o", "out", "-q"), random.Random(seed)
    wait_for(Path("out/results.jsonl"), chance.choice([0, 1, 4, 8]), process)
    time.sleep(chance.uniform(0, 0.5))
    assert process.poll() is None  # it has three groups of eight, so it is still running
    process.kill()
    process.communicate(timeout=60)
    before = {path.name: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    done = {record["row"] for record in lines("out/results.jsonl")}  # every line is whole
    assert {f"{row - 1}.png" for row in done} <= set(before)
    process = start("jobs.csv", "-o", "out", "-q")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    all_whole(24)
    after = {name: Path("out", name).stat().st_mtime_ns for name in before}
    assert after == before  # finished pictures were not painted again


@pytest.mark.slow
def test_shards_paint_all(call):
    many(20, 1)
    argv = ("jobs.csv", "-o", "out", "--recipe", "tiny", "-q")
    for number in (1, 2):
        assert call("batch", *argv, "--shard", f"{number}/2") == (0, "", "")
    parts = [listed(name=f"results-{number}-of-2.jsonl") for number in (1, 2)]
    assert not set(parts[0]) & set(parts[1]) and len(parts[0]) + len(parts[1]) == 20
    assert call("batch", *argv) == (0, "", "")
    all_whole(20)
    assert {record["status"] for record in listed().values()} == {"skipped"}


@pytest.mark.long
def test_rows_equal_pictures_painted_one_by_one(call):
    rows = ["photo.png,art.png:3;other.png:1,a.png,", "other.png,art.png:2;photo.png:5,b.png,"]
    csv("content,style,output,overrides", rows[0], rows[1] + "terms.style_weight=3")
    argv = ("--recipe", "tiny", "--init", "noise", "--seed", "7", "-q")
    assert call("batch", "jobs.csv", "-o", "out", *argv) == (0, "", "")
    alone = {
        "a.png": ("photo.png", "art.png:3", "other.png:1"),
        "b.png": ("other.png", "art.png:2", "photo.png:5", "--set", "terms.style_weight=3"),
    }
    for name, words in alone.items():
        assert call("stylize", *words, *argv, "-o", name) == (0, "", "")
        # This includes the noise: no picture depends on the others.
        assert abs(pixels(f"out/{name}").astype(int) - pixels(name)).max() <= 1
    assert listed()[1]["style"] == "art.png:3;other.png:1"


# --- Ray ------------------------------------------------------------------------------------------


def actors_below(pid):
    """Return the ids of the painting actors among the descendants of a process."""
    parents, found = {}, []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "stat").read_text().rpartition(")")[2].split()
            name = (folder / "cmdline").read_bytes()
        except OSError:  # gone by now
            continue
        parents[int(folder.name)] = int(status[1])
        if name.startswith(b"ray::") and b"Painter" in name:
            found.append(int(folder.name))

    def is_below(child):
        while child in parents:
            child = parents[child]
            if child == pid:
                return True
        return False

    return [child for child in found if is_below(child)]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_ray_paints_all_though_an_actor_dies(start):
    pytest.importorskip("ray", reason="install the extra `ray`")
    write_cut("broken.png")
    with Path(many(24, 40)).open("a") as file:
        file.write("broken.png,art.png,broken_out.png,,\n")
    process = start("jobs.csv", "-o", "out", "--runner", "ray")
    wait_for(Path("out/results.jsonl"), 8, process)
    (actor,) = actors_below(process.pid)
    os.kill(actor, signal.SIGKILL)
    _, err = process.communicate(timeout=400)
    assert process.returncode == 1 and "Traceback" not in err, err
    (warning,) = [line for line in err.splitlines() if "warning" in line]
    assert "broken_out.png: `content`:" in warning and "truncated" in warning
    assert listed()[25]["status"] == "failed"
    assert listed()[25]["output"] == "out/broken_out.png"
    all_whole(24)
    # The same picture painted without Ray.
    csv(HEAD, "photo.png,art.png,1.png,,descent.steps=40;terms.tv_weight=1", name="one.csv")
    process = start("one.csv", "-o", "one", "-q")
    assert process.wait(timeout=240) == 0
    assert abs(pixels("one/1.png").astype(int) - pixels("out/1.png")).max() <= 1
