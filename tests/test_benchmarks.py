"""The benchmarks run, and say what they measured and where. No time is asserted."""

import ast
import json
import math
import os
import pickle
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import ClassVar

import jax
import numpy as np
import pytest
from click.testing import CliRunner
from jax.experimental.compilation_cache import compilation_cache

import nst_jax as nst
from benchmarks import (
    __main__,
    agreement,
    batch,
    buckets,
    compile,
    engine,
    export,
    gallery,
    gpu,
    harness,
    head_start,
    instant,
    loop,
    overlap,
    pastiche,
    peers,
    plots,
    problems,
    pytorch,
    quality,
    step,
    style_losses,
    tensorflow_tutorial,
    tiles,
    time_to_loss,
    wall,
    ways,
)
from benchmarks.__main__ import CASES, RESULTS, case_module, main, plan_of
from benchmarks.apart import Apart
from benchmarks.harness import Plan
from benchmarks.report import TABLES, gpu_cells, number, report
from nst_jax.app.batch import groups

pytestmark = pytest.mark.optimized

# The command line with a recipe that needs one convolution of the sixteen.
SHALLOW_MAIN = """
import sys
from nst_jax import recipes
from nst_jax.app import cli
terms = recipes.Terms(
    content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
)
recipes.PRESETS["default"] = recipes.Recipe(name="default", terms=terms)
sys.exit(cli.main())
"""
SHALLOW = nst.recipes.Recipe(
    name="default",
    terms=nst.recipes.Terms(
        content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
    ),
)
TINY = Plan(sizes=(32,), repeats=1, steps=1, batches=(2,), picture_steps=2)
SIDES = {"tiles": 96, "beyond": 48, "quality": 96, "strength": 96}  # the least that are cut


def with_taps(recipe, content, *style):
    taps = {"content_taps": (content,), "style_taps": style}
    weights = {"content_layer_weights": (1.0,), "style_layer_weights": (1.0,) * len(style)}
    return replace(recipe, terms=replace(recipe.terms, **taps, **weights))


@pytest.fixture
def shallow(monkeypatch):
    """The recipes with two early taps, which compile fast, and no peer."""

    def cut(recipe):
        return with_taps(recipe, "relu2_1", "relu1_1")

    for module in (step, loop, ways, tiles, compile, batch, peers):
        monkeypatch.setattr(module, "ADAM", cut(problems.ADAM))
    for module in (step, compile, buckets):
        monkeypatch.setattr(module, "LBFGS", cut(problems.LBFGS))
    few = {name: cut(nst.recipes.PRESETS[name]) for name in ("default", "tf")}
    monkeypatch.setattr(agreement, "RECIPES", few)
    monkeypatch.setattr(style_losses, "RECIPE", cut(style_losses.RECIPE))
    for module in (wall, overlap):
        monkeypatch.setattr(module, "PROGRAM", ("-c", SHALLOW_MAIN))
    monkeypatch.setattr(overlap, "RECIPE", SHALLOW)
    for module in (time_to_loss, instant):
        monkeypatch.setattr(module, "OBJECTIVE", cut(nst.recipes.GRAM))
    monkeypatch.setattr(head_start, "RECIPES", {"gram": cut(nst.recipes.GRAM)})
    monkeypatch.setattr(instant, "TF", cut(nst.recipes.TF))
    stablehlo = {"stablehlo": export.RUNTIMES["stablehlo"]}  # others need much time and memory
    monkeypatch.setattr(export, "RUNTIMES", stablehlo)
    monkeypatch.setattr(pytorch, "has_torch", lambda: False)
    monkeypatch.setattr(tensorflow_tutorial, "has_tensorflow", lambda: False)
    monkeypatch.setattr(pastiche, "command", lambda: None)
    # The other tests' programs live in those caches.
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


def spreads(value):
    """Find every spread in a record."""
    if isinstance(value, dict):
        if "samples" in value:
            yield value
        for part in value.values():
            yield from spreads(part)
    elif isinstance(value, list):
        for part in value:
            yield from spreads(part)


def check(entry):
    """Check a record against its schema."""
    assert set(entry) == {
        "schema", "case", "question", "date", "quick", "device", "versions", "source", "plan",
        "notes", "rows",
    }  # fmt: skip
    assert entry["schema"] == harness.SCHEMA
    assert set(entry["device"]) == {"platform", "kind", "count", "processor", "cores"}
    assert {"python", "jax", "jaxlib", "flax", "optax", "numpy"} <= set(entry["versions"])
    assert set(entry["source"]) == {"commit", "clean"}
    assert entry["rows"]
    for row in entry["rows"]:
        side = SIDES.get(entry["case"], 32)
        is_command = entry["case"] == "wall" or row.get("what", "").startswith("command")
        if entry["case"] == "quality":
            assert row["size"] == [64, 96]
            losses = [figures["final_loss"] for figures in row["recipes"].values()]
        elif entry["case"] == "strength":
            assert row["size"] == [72, 96] and row["way"][0] == 0 and row["way"][-1] == 1
            losses = row["way"]
        elif entry["case"] == "export":
            assert row["size"] == [32, 32]
            files = [file for encodings in row["formats"].values() for file in encodings.values()]
            assert all(file["bytes"] > 1e5 for file in files)
            losses = [file["largest_error"] for file in files]
        elif entry["case"] == "start":
            assert row["size"] == [21, 32]
            losses = []  # its pictures are compared with those of the functions elsewhere
        elif entry["case"] == "agreement":
            assert row["size"] == [31, 31] or tuple(row["size"]) in agreement.SMALL
            # In float32, one update of Adam enlarges a change in the start's last bits beyond 1e-3.
            most = {"float32": 1e-2, "float64": 1e-9}[row["dtype"]]
            found = [one for run in row["differences"].values() for one in run.values()]
            assert len(found) >= 12 and all(math.isfinite(one) for one in found)
            assert all(0 <= one < most for one in row["differences"]["bucket"].values())
            losses = [row["final_loss"]]
        elif entry["case"] == "overlap":
            assert row["size"] == [32, 32] and row["photograph"] == [192, 192]
            assert row["pictures"] == 2 * row["pictures_at_once"] == 16
            assert set(row["seconds_per_picture"]) == set(overlap.PARTS)
            assert len(row["hidden"]["rounds"]) == entry["plan"]["repeats"]
            losses = [row["final_loss"], *row["hidden"]["rounds"]]
        else:
            assert row["size"] == ([21, 32] if is_command else [side, side])
            losses = row["outcome"]["losses"].values() if "outcome" in row else [row["final_loss"]]
        assert all(math.isfinite(loss) for loss in losses)
    found = list(spreads(entry["rows"]))
    assert found or entry["case"] in {"time_to_loss", "engine", "strength", "agreement"}
    for spread in found:
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
        assert len(spread["samples"]) == entry["plan"]["repeats"]


# Those that start processes or compile several programs are slow.
SLOW = {"step", "batch"}
LONG = {"wall", "memory", "time_to_loss", "engine", "beyond", "loop", "ways", "compile", "tiles"}
LONG |= {"peers", "gpu", "quality", "strength", "instant", "head_start", "export", "buckets"}
LONG |= {"start", "agreement", "style_losses", "overlap"}
MARKS = dict.fromkeys(SLOW, pytest.mark.slow) | dict.fromkeys(LONG, pytest.mark.long)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=MARKS[name]) if name in MARKS else name for name in CASES]
)
def test_case_is_measured_written_and_reported(name, shallow, monkeypatch, tmp_path):
    recipes = ("gram",) if name == "strength" else ()
    plan = replace(TINY, sizes=(SIDES.get(name, 32),), recipes=recipes)
    monkeypatch.setattr(case_module(name), "QUICK", plan)
    runner = CliRunner()
    done = runner.invoke(main, [name, "--quick", "--out", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    (path,) = tmp_path.glob("*.json")
    assert path.name.startswith(f"{name}-") and path.stem.endswith("-quick")
    entry = json.loads(path.read_text("utf-8"))
    check(entry)
    drawn = runner.invoke(main, ["report", "--quick", "--out", str(tmp_path)]).output
    header = TABLES[name][0]
    lines = [line for line in drawn.splitlines() if line.startswith("|")]
    assert len(lines) >= 2 + len(entry["rows"])
    assert all(line.count("|") == len(header) + 1 for line in lines)
    assert entry["versions"]["jaxlib"] in drawn


def test_compiling_is_timed_without_the_cache_on_disk(settings, monkeypatch, tmp_path):
    jax.config.update("jax_enable_compilation_cache", True)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    compilation_cache.reset_cache()

    def kept(*_):
        jax.clear_caches()
        jax.jit(lambda x: x * 3 + len(calls))(1.5).block_until_ready()
        calls.append(len(list(tmp_path.iterdir())))
        return {"kept": calls[-1]}

    calls = []
    before = kept()  # JAX has now decided to use the cache
    monkeypatch.setattr(compile, "_row", kept)
    rows = compile.measure(replace(TINY, sizes=(16,), repeats=1)).rows
    assert before["kept"] > 0 and rows == [before] * len(rows)
    assert kept()["kept"] > before["kept"]  # the cache is used again


def test_what_cannot_be_exported_here_is_said(monkeypatch):
    monkeypatch.setattr(export.util, "find_spec", lambda name: None)
    monkeypatch.setattr(export, "_cases", lambda size: {"none": None})
    monkeypatch.setattr(export, "_formats", lambda case, size, runtimes, plan: list(runtimes))
    found = export.measure(TINY)
    assert found.rows == [{"size": [32, 32], "model": "none", "formats": ["stablehlo"]}]
    _, onnx, tflite = found.notes
    advice = "jax2onnx, onnxruntime missing; `pip install 'nst-jax[onnx]'`"
    assert onnx == f"onnx is not measured: {advice}"
    assert tflite.startswith("tflite is not measured: tensorflow, ai_edge_litert missing; `pip")
    assert found.packages == ()


@pytest.mark.parametrize(("whole", "share"), [(8.0, 1.0), (10.0, 0.5), (12.0, 0.0), (14.0, -0.5)])
def test_what_is_hidden_of_reading_and_writing(whole, share):
    parts = {"reading": 3.0, "painting": 8.0, "writing": 1.0}
    assert overlap.hidden(parts, whole) == share


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("size", [32, 256, 512, 1024])
def test_pictures_are_painted_alone_in_the_groups_of_the_command(size, platform, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    assert overlap.size_of_groups(size) == groups.most_at_once((size, size), platform)


def test_an_overlap_of_different_work_is_refused(tmp_path):
    nst.images.save(tmp_path / "photo1_style.png", np.full((16, 16, 3), 0.5))
    overlap.check_same({"photo1": np.full((16, 16, 3), 0.51)}, tmp_path)
    with pytest.raises(RuntimeError, match=r"photo1_style.png' by `batch` differs by 0\.098"):
        overlap.check_same({"photo1": np.full((16, 16, 3), 0.6)}, tmp_path)


def test_a_head_start_is_counted_at_the_full_size_only():
    totals = np.array([9.0, 1.0, 7.0, 3.0, 2.0])
    assert head_start.updates_to(totals, 3.0, first=2) == 3
    assert head_start.updates_to(totals, 3.0, first=0) == 1
    assert head_start.updates_to(totals, 1.5, first=2) is None
    assert len(set(head_start.ALL_PAIRS)) == 6


@pytest.mark.torch
def test_torch_takes_the_same_steps(params):
    pytest.importorskip("torch", reason="install the extra `parity`")
    recipe = with_taps(problems.ADAM, "relu2_2", "relu1_1", "relu3_1")
    task = problems.problem(params, recipe, 32)
    own = problems.Loop(task)
    ours = np.asarray(own.advance(step.FIRST).total)
    judge = peers.judge_of(task)
    for variant in pytorch.variants("cpu", compiled=False):
        loop = pytorch.TorchLoop(task, variant)
        tolerance = step.TOLERANCE if variant.precision == "float32" else 2e-2
        np.testing.assert_allclose(loop.advance(step.FIRST), ours, rtol=tolerance)
        # The canvases after as many updates, which neither has measured yet.
        finals = [judge(peers._picture(each)) for each in (own, loop)]
        np.testing.assert_allclose(finals[1], finals[0], rtol=tolerance)
    np.testing.assert_allclose(own.advance(1).total[0], finals[0], rtol=1e-4)


@pytest.mark.torch
def test_torch_paints_the_same_picture_by_crowsonkb(params):
    pytest.importorskip("torch", reason="install the extra `parity`")
    from benchmarks import torch_crowsonkb

    # Two scales: Adam's moments and the average of the first one begin the second one.
    recipe = with_taps(nst.recipes.CROWSONKB, "relu2_1", "relu1_1", "relu2_1")
    recipe = recipe.replace(smallest=20, first=3, later=2)
    pair = problems.pictures(32)
    scales = torch_crowsonkb.scales_of(recipe, *pair)
    assert [(scale.content.shape[0], scale.updates) for scale in scales] == [(23, 3), (32, 2)]
    theirs = torch_crowsonkb.Painter(params, recipe).paint(scales)
    options = {"size": "as-is", "bucket": "off", "precision": "float32", "every": 5}
    ours = nst.paint(params, *pair, recipe=recipe, **options).finish()
    np.testing.assert_allclose(theirs.losses, ours.history.total, rtol=2e-5)
    np.testing.assert_allclose(theirs.image, ours.image, rtol=0, atol=2e-5)


@pytest.fixture
def tensorflow():
    """TensorFlow, which no extra installs: these tests run where a user has installed it."""
    with warnings.catch_warnings(action="ignore"):  # those of TensorFlow's own import
        return pytest.importorskip("tensorflow")


def test_tensorflows_tutorial_takes_the_same_steps(params, tensorflow):
    recipe = with_taps(problems.ADAM, "relu2_2", "relu1_1", "relu3_1")
    task = tensorflow_tutorial.with_its_rule(problems.problem(params, recipe, 33))
    own = problems.Loop(task)
    ours = np.asarray(own.advance(step.FIRST).total)
    judge = peers.judge_of(task)
    for variant in tensorflow_tutorial.variants("cpu"):
        loop = tensorflow_tutorial.TensorFlowLoop(task, variant)
        tolerance = step.TOLERANCE if variant.precision == "float32" else 2e-2
        np.testing.assert_allclose(loop.advance(step.FIRST), ours, rtol=tolerance)
        finals = [judge(peers._picture(each)) for each in (own, loop)]
        np.testing.assert_allclose(finals[1], finals[0], rtol=tolerance)


@pytest.mark.slow
def test_tensorflows_tutorial_is_a_contestant(shallow, tensorflow, monkeypatch):
    monkeypatch.setattr(tensorflow_tutorial, "has_tensorflow", lambda: True)
    # With a style loss as weak as in `shallow`, the first gradient would be as small as the rounding
    # difference between XLA's features of the content and TensorFlow's eager ones, its targets.
    monkeypatch.setattr(peers, "ADAM", with_taps(problems.ADAM, "relu2_2", "relu1_1", "relu3_1"))
    found = peers.measure(TINY)
    assert any(name.startswith("tensorflow") for name in found.packages)
    assert peers.REFERENCES in found.notes
    (row,) = found.rows
    theirs = [name for name in row["contestants"] if not name.startswith(peers.OURS)]
    assert theirs == list(map(str, tensorflow_tutorial.variants("cpu")))
    held = {name: figures["reference_loss"] for name, figures in row["contestants"].items()}
    assert {held[name] for name in held if name not in theirs} == {row["final_loss"]}
    assert len({held[name] for name in theirs}) == 1
    assert row["best_peer"] in theirs


def test_an_absent_tensorflow_is_noted(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # as if there were none
    monkeypatch.setattr(pytorch, "has_torch", lambda: False)
    asked = []
    monkeypatch.setattr(peers, "_row", lambda *arguments: asked.append(arguments) or ({}, []))
    found = peers.measure(TINY)
    assert [arguments[-2:] for arguments in asked] == [(False, False)]
    assert found.notes == [pytorch.ABSENT, tensorflow_tutorial.ABSENT]
    assert found.packages == ()


def test_tensorflows_tutorial_is_held_to_its_own_rule():
    task = problems.Problem(None, None, None, {}, nst.recipes.as_arrays(problems.ADAM.bare()))
    with pytest.raises(TypeError, match="`problem`: its rule is Adam, the tutorial's is KerasAdam"):
        tensorflow_tutorial.check_rule(task)
    found = tensorflow_tutorial.with_its_rule(task)
    tensorflow_tutorial.check_rule(found)
    assert found.recipe.descent == nst.recipes.as_arrays(nst.recipes.TF.bare()).descent
    assert isinstance(found.recipe.descent.optimizer, nst.optimizers.KerasAdam)
    assert found.recipe.terms is task.recipe.terms and found.targets is task.targets
    names = [str(variant) for variant in tensorflow_tutorial.variants("gpu")]
    assert len(set(names)) == 6 and all(name.startswith("tensorflow, ") for name in names)
    assert not any("tensorfloat32" in str(each) for each in tensorflow_tutorial.variants("cpu"))


@pytest.mark.parametrize(("platform", "ways"), [("cpu", 1), ("gpu", 2)])
def test_torch_is_tried_in_every_way_a_user_would(platform, ways):
    found = pytorch.variants(platform, compiled=True)
    compiled = [variant for variant in found if variant.compiled]
    precisions = {variant.precision for variant in found}
    assert ("tensorfloat32" in precisions) == (platform == "gpu")
    assert {"float32", "bfloat16 autocast"} <= precisions
    assert len(compiled) == ways * len(precisions)
    assert len(set(map(str, found))) == len(found) == (2 + ways) * len(precisions)
    assert not any(v.compiled for v in pytorch.variants(platform, compiled=False))


def test_a_peer_that_does_not_start_is_noted_and_an_error_of_ours_is_raised():
    def fails():
        raise RuntimeError("no compiler\nmore of it")

    class Stands:
        def advance(self, steps):
            assert steps == 1

    loops, seconds, notes = peers.started({"nst_jax, float32": Stands, "torch, compiled": fails})
    assert list(loops) == list(seconds) == ["nst_jax, float32"]
    assert notes == ["torch, compiled was not measured: no compiler"]
    with pytest.raises(RuntimeError, match="no compiler"):
        peers.started({"nst_jax, float32": fails})


def test_only_what_ends_where_float32_ends_is_compared():
    finals = {"nst_jax, float32": 100.0, "torch, bfloat16": 101.5, "torch, float32, eager": 100.5}
    ends = {name: peers.within(finals, name, "nst_jax, float32") for name in finals}
    assert list(ends.values()) == [True, False, True]
    references = dict.fromkeys(finals, "nst_jax, float32")
    peers.check_parity(finals, references)
    with pytest.raises(RuntimeError, match="eager: its final loss is nan"):
        peers.check_parity(finals | {"torch, float32, eager": math.nan}, references)
    # A peer with another update rule ends elsewhere; it is compared with our run by that rule.
    finals |= {"tensorflow, float32, tf.function": 90.5, peers.TUTORIAL: 90.0}
    references["tensorflow, float32, tf.function"] = peers.TUTORIAL
    peers.check_parity(finals, references)
    with pytest.raises(RuntimeError, match="tf.function: its final loss is 90.5, that of nst_jax"):
        peers.check_parity(finals | {peers.TUTORIAL: 80.0}, references)
    seconds = {"a": [2.0, 2.0], "b": [1.0, 1.0], "c": [3.0, 4.0], "d": [9.0, 9.0]}
    best = peers.comparison(seconds, ["a", "b"])
    assert (best["best"], best["best_peer"]) == ("b", "c")
    assert best["speed_against_peer"]["samples"] == [3.0, 4.0]
    assert peers.comparison({"a": [1.0]}, ["a"]) == {}


# --- Against pastiche -----------------------------------------------------------------------------


@pytest.mark.parametrize("needed", [1, 3, 17, 40, 400])
def test_the_fewest_updates_are_found(needed):
    found, tried = wall.fewest(lambda steps: 1e6 / steps**1.5, 1e6 / needed**1.5, 20, 500)
    assert needed <= found <= max(1.15 * needed, needed + 1)
    assert len(tried) <= 12 and found in [steps for steps, _ in tried]


def test_a_loss_out_of_reach_is_not_claimed():
    found, tried = wall.fewest(lambda steps: 1.0 + 1 / steps, 0.5, 10, 60)
    assert found is None
    assert [steps for steps, _ in tried] == [10, 20, 40, 60]
    with pytest.raises(RuntimeError, match="different losses"):
        wall.check_reached([0.9, 1.2], 1.0)


def test_the_flags_give_the_engine_of_default():
    words = wall.engine(nst.recipes.GRAM.descent)
    assert set(words[::2]) == {"--set"}
    values = dict(word.removeprefix("descent.").split("=") for word in words[1::2])
    assert values["optimizer.kind"] == "LBFGS" and values["schedule.kind"] == "CoarseToFine"
    assert float(values["optimizer.slack"]) == nst.recipes.DEFAULT.descent.optimizer.slack
    assert values["coordinates"] == "raw" and values["clip"] == "false"
    assert "steps" not in values


def test_what_pastiche_prints_is_read():
    text = "seed: 2\nstep elapsed loss\n---- ------- ----\n0    15.5    93.50\n100  20.0    1.25"
    assert pastiche.printed(text) == [[0, 15.5, 93.5], [100, 20.0, 1.25]]


def test_a_pastiche_that_is_named_has_to_be_there(monkeypatch, tmp_path):
    monkeypatch.setenv(pastiche.VARIABLE, str(tmp_path / "none"))
    with pytest.raises(RuntimeError, match=pastiche.VARIABLE):
        pastiche.command()
    monkeypatch.delenv(pastiche.VARIABLE)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pastiche.command() is None


# --- Loss over time -------------------------------------------------------------------------------


def test_engines_differ_in_their_descent_alone():
    found = time_to_loss.engines(256, 100)
    assert len(found) == 2 * len(time_to_loss.RULES)
    assert {recipe.terms for recipe in found.values()} == {nst.recipes.GRAM.terms}
    firsts = {time_to_loss.first_at_full_size(recipe, 256) for recipe in found.values()}
    assert firsts == {0, 50}
    assert len(time_to_loss.engines(24, 4)) == len(time_to_loss.RULES)  # 12 px are too few
    assert time_to_loss.seconds_to([1.0, 2.0, 3.0], [9.0, 4.0, 5.0], 5.0) == 2.0
    assert time_to_loss.seconds_to([1.0], [9.0], 5.0) is None


def test_candidates_are_given_the_same_work():
    found = engine.engines(512, 57)
    assert {name: recipe.descent.steps for name, recipe in found.items()} == {
        "4 levels, one scale": 57,
        "no levels, from 128 px": 130,
        "4 levels, from 128 px": 130,
        "no levels, from 256 px": 91,
        "4 levels, from 256 px": 91,
    }
    ours = nst.recipes.DEFAULT.descent
    assert ours in [replace(recipe.descent, steps=ours.steps) for recipe in found.values()]


# --- Quality --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "shape", "expected"),
    [
        ((60, 90), (20, 40), (45, 90)),
        ((60, 90), (40, 20), (60, 30)),
        ((60, 90), (120, 180), (60, 90)),
    ],
)
def test_a_part_of_a_style_has_the_shape_of_the_canvas(image, shape, expected):
    pixels = np.arange(np.prod(image)).reshape(*image, 1)
    found = gallery.part(pixels, shape)
    assert found.shape == (*expected, 1)
    middle = [(side - want) // 2 for side, want in zip(image, expected, strict=True)]
    assert found[0, 0, 0] == pixels[tuple(middle)][0]


def test_a_biased_rater_is_marked():
    names = nst.raters.Rating._fields
    ratings = dict.fromkeys(names, 0.5)
    figures = {"updates": 3, "seconds": harness.spread([1.0]), "ratings": ratings}
    biased = nst.raters.biased_raters(nst.recipes.TF)
    row = {
        "pair": ["a", "b"],
        "size": [64, 96],
        "anchors": {"the content itself": ratings},
        "recipes": {"tf": figures | {"parties": biased}},
    }
    header, cells = TABLES["quality"]
    anchor, rated = cells(row)
    assert len(header) == len(anchor) == len(rated) == 5 + len(names)
    assert not any("*" in text for text in anchor)
    marked = {name for name, text in zip(names, rated[5:], strict=True) if text == "0.500*"}
    assert marked == set(biased) and marked


# --- Plots ----------------------------------------------------------------------------------------


def records():
    """Records of a made-up machine, as short as they may be."""

    def engine(*points):
        seconds, totals = zip(*points, strict=True)
        return {"seconds": list(seconds), "totals": list(totals)}

    curves = {"a, one scale": engine((1, 8.0), (2, 4.0)), "a, coarse to fine": engine((2, 1.0))}
    others = {"a, one scale": engine((1, 8.0), (3, 2.0)), "a, coarse to fine": engine((2, 2.0))}
    rows = [
        {"pair": ["x", "y"], "size": [8, 8], "start": 8.0, "floor": 1.0, "engines": curves},
        {"pair": ["y", "x"], "size": [8, 8], "start": 8.0, "floor": 2.0, "engines": others},
    ]
    rate = {"megapixel_iterations_per_second": harness.spread([1.0, 2.0, 4.0])}
    steps = [{"recipe": "r", "size": [n, n], "contestants": {"nst_jax": rate}} for n in (16, 8)]
    memory = [
        {"recipe": "r", "size": [n, n], "gradient_bytes_per_pixel": 100.0 + n} for n in (16, 8)
    ]
    machine = {"device": {"kind": "NVIDIA X"}, "quick": False}
    cases = {"time_to_loss": rows, "step": steps, "memory": memory}
    return [machine | {"case": case, "rows": rows} for case, rows in cases.items()]


def test_what_is_drawn_is_what_was_measured():
    found, missing = plots.figures(records())
    assert set(found) == {f"{name}-nvidia-x" for name in ("loss", "floor", "scaling", "memory")}
    absent = [f"{name}: no record of `engine` on nvidia-x" for name in ("engine", "engine-floor")]
    assert missing == absent
    assert [len(panels) for panels in found.values()] == [2, 1, 1, 1]
    one_scale, coarse = found["floor-nvidia-x"][0].lines
    assert one_scale.x == [1, 2, 3]
    np.testing.assert_allclose(one_scale.y, [32**0.5, 16**0.5, 4**0.5])
    assert (coarse.x, coarse.y) == ([2], [1.0])
    (line,) = found["scaling-nvidia-x"][0].lines
    assert (line.x, line.y, line.least, line.most) == ([8, 16], [2, 2], [1, 1], [4, 4])
    (line,) = found["memory-nvidia-x"][0].lines
    assert (line.x, line.y) == ([8, 16], [108, 116])


def test_a_figure_without_a_record_is_named():
    found, missing = plots.figures(records()[:1])
    assert set(found) == {"loss-nvidia-x", "floor-nvidia-x"}
    assert [line.partition(":")[0] for line in missing] == [
        "engine",
        "engine-floor",
        "scaling",
        "memory",
    ]


def test_the_committed_records_make_every_figure():
    found, missing = plots.figures(harness.read(RESULTS, quick=False))
    assert missing == []
    assert {name.partition("-")[0] for name in found} == {
        "loss",
        "floor",
        "engine",
        "scaling",
        "memory",
        "quality",
    }


@pytest.mark.slow
def test_figures_are_drawn(tmp_path):
    pytest.importorskip("matplotlib", reason="install the extra `bench`")
    paths, _ = plots.draw(records(), tmp_path)
    assert len(paths) == 4
    for path in paths:
        assert nst.images.load(path).std() > 0.01


# --- A process apart ------------------------------------------------------------------------------


def test_a_process_apart_returns_results_and_says_what_failed():
    with Apart() as apart:
        own = apart.call(os.getpid)
        assert own not in (os.getpid(), None)
        with pytest.raises(RuntimeError, match="ValueError: invalid literal for int"):
            apart.call(partial(int, "x"))
        assert apart.call(os.getpid) == own
        with pytest.raises(RuntimeError, match="its process ended with exit code 3"):
            apart.call(partial(os._exit, 3))
        assert apart.call(os.getpid) not in (own, os.getpid())


def test_a_process_apart_that_takes_too_long_is_stopped_with_what_it_started(tmp_path):
    place = tmp_path / "pid"
    script = f"echo $$ > {place}.part; mv {place}.part {place}; exec sleep 600"
    with Apart() as apart:
        apart.call(os.getpid)
        with pytest.raises(RuntimeError, match="stopped after 5 s"):
            apart.call(partial(subprocess.run, ["sh", "-c", script]), 5.0)
        wait_until(lambda: not _is_running(int(place.read_text())))
        assert apart.call(partial(abs, -2), 60.0) == 2


def test_a_process_apart_ends_if_the_one_that_started_it_is_killed(tmp_path):
    place = tmp_path / "pid"
    script = f"echo $$ > {place}.part; mv {place}.part {place}; exec sleep 600"
    program = (
        "import functools, subprocess; from benchmarks.apart import Apart; "
        f"Apart().call(functools.partial(subprocess.run, ['sh', '-c', {script!r}]))"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=harness.ROOT)
    wait_until(place.exists)
    started = int(place.read_text())
    assert _is_running(started)
    starter.kill()
    starter.wait()
    wait_until(lambda: not _is_running(started))


def wait_until(holds):
    ended = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < ended
        time.sleep(0.05)


def _is_running(pid):
    """Return whether a process runs; a zombie, which only waits to be reaped, does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


# --- A GPU in eight minutes -----------------------------------------------------------------------


def figures(**more):
    return {"size": [32, 32], "seconds": harness.spread([1.0]), "final_loss": 1.0} | more


class Here:
    """In place of `Apart`: calls functions in this process."""

    limits: ClassVar[list] = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def call(self, function, seconds=None):
        self.limits.append(seconds)
        return function()


@pytest.fixture
def few_tasks(monkeypatch):
    """The case `gpu` with four tasks, of which one fails and one diverges; no peer."""

    def fails():
        raise ValueError("no such kernel\nmore of it")

    tasks = [("one", figures), ("two", fails), ("three", partial(figures, final_loss=math.nan))]
    monkeypatch.setattr(gpu, "_tasks", lambda plan, torch: [*tasks, ("four", figures)])
    monkeypatch.setattr(gpu, "Apart", Here)
    monkeypatch.setattr(Here, "limits", [])
    monkeypatch.setattr(pytorch, "has_torch", lambda: False)
    monkeypatch.setattr(jax, "clear_caches", lambda: None)


def test_of_a_gpu_all_is_recorded_that_did_not_fail(few_tasks):
    first, *_, last = gpu.measure(TINY)
    assert [row["what"] for row in first.rows] == ["one"]
    assert [row["what"] for row in last.rows] == ["one", "four"]
    ends = "not measured, as the run ended before: "
    assert first.notes == [pytorch.ABSENT, *(ends + name for name in ("two", "three", "four"))]
    absent, failed, diverged = last.notes
    assert absent == pytorch.ABSENT
    assert failed == "two was not measured: no such kernel"
    assert diverged.startswith("three was not measured: Out of range float values are not JSON")
    assert set(Here.limits[1:]) == {None}


def test_of_a_gpu_nothing_is_measured_beyond_the_time(few_tasks, monkeypatch):
    clock = iter((0.0, 100.0, 350.0, 480.0, 481.0))
    monkeypatch.setattr(gpu.time, "monotonic", lambda: next(clock))
    *_, last = gpu.measure(replace(TINY, seconds=480))
    # Importing torch; then a third of the time at most, and what is left.
    assert Here.limits == [120.0, 160.0, 130.0]
    assert last.notes[2:] == [f"not measured for lack of time: {n}" for n in ("three", "four")]


def test_a_torch_that_cannot_be_imported_is_noted(few_tasks, monkeypatch):
    def fails():
        raise RuntimeError("OSError: libcudnn.so.9: cannot open shared object file")

    monkeypatch.setattr(pytorch, "has_torch", fails)
    *_, last = gpu.measure(TINY)
    assert last.notes[0].startswith("torch was not measured: OSError: libcudnn")
    assert [row["what"] for row in last.rows] == ["one", "four"]
    assert last.packages == ()


def test_what_is_measured_on_a_gpu_can_be_sent_to_another_process(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    tasks = list(gpu._tasks(gpu.GPU, True))
    assert len(tasks) == 21
    names = [name for name, _ in tasks]
    assert names[0] == "step, bfloat16" and names[-1] == "command, float32"
    of_torch = [index for index, name in enumerate(names) if name.startswith("torch")]
    assert len(of_torch) == 6
    painted = ["picture by `crowsonkb`, PyTorch", "picture by `crowsonkb`, tensorfloat32"]
    assert names[of_torch[3] + 1 : of_torch[4]] == painted  # between eager and compiled steps
    alone = [name for name, _ in gpu._tasks(gpu.GPU, False)]
    assert painted[1] in alone and painted[0] not in alone
    for _, task in tasks:
        again = pickle.loads(pickle.dumps(task))
        assert (again.func, again.args) == (task.func, task.args)


def test_a_whole_picture_of_a_gpu_has_its_seconds_in_the_table():
    row = {"what": "picture", "size": [32, 32], "picture_seconds": 12.34, "final_loss": 1.0}
    (cells,) = gpu_cells(row | {"updates": 2, "compile_seconds": 5.0})
    assert cells == ("picture", "32×32", "12.3", "", "5.00", "", "1.00")


def test_what_was_found_before_a_run_ended_is_recorded_and_a_table_is_last(
    few_tasks, monkeypatch, tmp_path
):
    def interrupted():
        raise KeyboardInterrupt

    tasks = [("one", figures), ("two", interrupted)]
    monkeypatch.setattr(gpu, "_tasks", lambda plan, torch: tasks)
    words = ["gpu", "--quick", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 1
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("-quick.json.unfinished")
    entry = json.loads(path.read_text("utf-8"))
    assert [row["what"] for row in entry["rows"]] == ["one"]
    assert entry["notes"][-1] == "not measured, as the run ended before: two"
    tasks.pop()
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0
    table, _, _ = done.stdout.partition("\n\nMedian")
    assert table.splitlines()[-1].startswith("| one | 32×32 | 1.00")


# --- The harness ----------------------------------------------------------------------------------


def test_different_work_is_not_compared():
    with pytest.raises(RuntimeError, match="differ from ours"):
        step._check_parity({"torch": 0.5})
    with pytest.raises(RuntimeError, match="not compared"):
        step._check_parity({"torch": math.nan})


def test_the_contestants_take_turns():
    turns = []
    seconds, results = harness.alternate(
        {name: lambda name=name: turns.append(name) or name for name in "ab"}, 2, warmups=1
    )
    assert "".join(turns) == "ababab"
    assert {name: len(times) for name, times in seconds.items()} == {"a": 2, "b": 2}
    assert results == {"a": "a", "b": "b"}


def test_turns_are_timed_by_the_clock_that_is_given():
    ticks = iter([0.0, 1.0, 1.0, 3.0, 3.0, 7.0, 7.0, 15.0])
    work = {name: lambda: None for name in "ab"}
    seconds, _ = harness.alternate(work, 2, warmups=0, clock=partial(next, ticks))
    assert seconds == {"a": [1.0, 4.0], "b": [2.0, 8.0]}


def test_ratios_are_taken_round_by_round():
    assert harness.ratio([2.0, 6.0, 3.0], [1.0, 2.0, 3.0])["samples"] == [2.0, 3.0, 1.0]
    assert harness.spread([3.0, 1.0, 2.0])["median"] == 2.0


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(harness, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert harness.source() == {"commit": None, "clean": None}


def test_full_results_and_quick_ones_stay_apart(tmp_path):
    row = {"size": [16, 16], "rows": []}
    for quick in (False, True):
        entry = {"schema": harness.SCHEMA, "case": "step", "quick": quick, **row}
        harness.write(entry, harness.path_of("step", "NVIDIA H100", quick, tmp_path))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-nvidia-h100-quick.json", "step-nvidia-h100.json"]
    assert [entry["quick"] for entry in harness.read(tmp_path)] == [False]


@pytest.mark.parametrize("loss", [1.01, math.nan])
def test_different_losses_are_not_compared(loss):
    harness.check_equal({"a": 1.0, "b": 1.00001}, "a")
    with pytest.raises(RuntimeError, match="b: ends at"):
        harness.check_equal({"a": 1.0, "b": loss}, "a")


def test_plain_ways_compute_the_same():
    x = jax.random.normal(jax.random.key(0), (1, 7, 6, 3))
    for ceil in (False, True):
        ours, plain = (
            jax.vjp(lambda x, pool=pool, ceil=ceil: pool(x, ceil), x)
            for pool in (nst.vgg.layers.max_pool, ways.window_pool)
        )
        np.testing.assert_array_equal(ours[0], plain[0])
        np.testing.assert_array_equal(ours[1](ours[0])[0], plain[1](plain[0])[0])
    grams = (
        jax.value_and_grad(lambda x, gram=gram: (gram(x) ** 2).sum())(x)
        for gram in (nst.losses.gram, lambda x: ways.autodiff_gram(x, jax.lax.Precision.HIGHEST))
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), *grams)


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema"):
        harness.read(tmp_path)


@pytest.mark.parametrize("sizes", ["8", "x", "256;512"])
def test_bad_sizes_are_named(sizes, tmp_path):
    done = CliRunner().invoke(main, ["step", "--sizes", sizes, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--sizes" in done.output and sizes in done.output


@pytest.mark.parametrize("peers", ["8", "256:", "256:0", "256:1:2", ":5", "256,"])
def test_bad_peers_are_named(peers, tmp_path):
    done = CliRunner().invoke(main, ["wall", "--peers", peers, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--peers" in done.output and peers in done.output


@pytest.fixture
def plans(monkeypatch):
    """The plan of each case that the command line would measure; nothing is measured."""
    found = {}

    def measure(name, plan, out, quick, **options):
        found[name] = plan
        return out

    monkeypatch.setattr(__main__, "measure", measure)
    return found


def test_peers_are_for_wall(plans, tmp_path):
    words = ["--peers", "64, 128:30", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, ["step", "wall", *words]).exit_code == 0
    assert plans["wall"].peers == ((64, pastiche.STEPS), (128, 30))
    assert plans["step"].peers == ()
    done = CliRunner().invoke(main, ["step", *words])
    assert done.exit_code == 2 and "--peers" in done.output


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["time_to_loss", "--repeats", "3"], "--repeats"),
        (["step", "--seconds", "60"], "--seconds"),
    ],
)
def test_options_that_no_named_case_reads_are_refused(words, option, tmp_path):
    done = CliRunner().invoke(main, [*words, "--out", str(tmp_path)])
    assert done.exit_code == 2 and option in done.output


def test_only_the_cases_that_read_an_option_get_it(plans, tmp_path):
    words = ["step", "engine", "gpu", "--repeats", "7", "--seconds", "60", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert [plans[name].repeats for name in ("step", "engine", "gpu")] == [7, 1, 7]
    assert [plans[name].seconds for name in ("step", "engine", "gpu")] == [0, 0, 60]


def test_pastiche_runs_where_it_is_asked_to(monkeypatch):
    runs = []

    def against(peer, size, steps, repeats, folder):
        runs.append((size, steps))
        return None, ""

    monkeypatch.setattr(pastiche, "command", lambda: "pastiche")
    monkeypatch.setattr(wall, "_row", lambda size, plan, folder: {"size": size})
    monkeypatch.setattr(wall, "_against", against)
    plan = Plan(sizes=(32, 48), peer_steps=7)
    assert [row["size"] for row in wall.measure(plan).rows] == [32, 48]
    assert runs == [(32, 7), (48, 7)]
    wall.measure(replace(plan, peers=((64, 3),)))
    assert runs[2:] == [(64, 3)]


def test_a_case_that_fails_does_not_take_the_others_with_it(monkeypatch, tmp_path):
    ran = []

    def measure(name, plan, out, quick, **options):
        ran.append(name)
        if name == "loop":
            raise RuntimeError("out of memory")
        return out

    monkeypatch.setattr(__main__, "measure", measure)
    done = CliRunner().invoke(main, ["all", "loop", "--quick", "--out", str(tmp_path)])
    assert ran == list(CASES)
    assert done.exit_code == 1
    assert "out of memory" in done.output and "not measured: loop" in done.output


def test_a_record_is_replaced_only_by_one_that_has_as_much(monkeypatch, tmp_path):
    rows = [{"size": [32, 32], "model": "m", "formats": {}}]
    measured = []

    def measure(plan):
        measured.append(plan)
        return harness.Findings(rows)

    monkeypatch.setattr(export, "measure", measure)
    path = harness.path_of("export", harness.device()["kind"], False, tmp_path)

    def run(*words):
        return CliRunner().invoke(main, ["export", "--out", str(tmp_path), *words])

    assert run("--sizes", "32,64").exit_code == 0
    first = json.loads(path.read_bytes())
    for change, words, lost in (
        ({}, ["--sizes", "32"], "the figures at 64 px"),
        ({"device": first["device"] | {"processor": "a Xeon"}}, [], "another processor, a Xeon"),
        ({"blind": [{"sheets": 10}]}, [], "what judges said"),
    ):
        harness.write(first | change, path)
        done = run(*(words or ["--sizes", "32,64"]))
        assert done.exit_code == 1 and lost in done.output and "--replace" in done.output
        assert json.loads(path.read_bytes()) == first | change
        assert len(measured) == 1  # it is refused before anything is measured
    assert run("--sizes", "32", "--replace").exit_code == 0
    assert json.loads(path.read_bytes())["plan"]["sizes"] == [32]


def test_a_run_that_measures_less_leaves_the_record(monkeypatch, tmp_path):
    rows = [{"size": [32, 32], "model": "m", "formats": {}}] * 2
    monkeypatch.setattr(export, "measure", lambda plan: harness.Findings(rows))
    path = harness.path_of("export", harness.device()["kind"], True, tmp_path)
    words = ["export", "--quick", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    before = path.read_bytes()
    rows = rows[:1]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1 and "has 2 rows, and 1 were measured" in done.output
    rows = []
    done = CliRunner().invoke(main, [*words, "--replace"])
    assert done.exit_code == 1 and "nothing was measured" in done.output
    assert path.read_bytes() == before


def test_a_rating_of_other_pictures_leaves_the_record(monkeypatch, tmp_path):
    def row(*names):
        return {"pair": ["a", "b"], "size": [32, 32], "recipes": {name: {} for name in names}}

    rows = [row("default", "gram")]
    monkeypatch.setattr(quality, "measure", lambda plan: harness.Findings(rows))
    path = harness.path_of("quality", harness.device()["kind"], True, tmp_path)
    monkeypatch.setattr(__main__, "report", lambda entries: "")
    words = ["quality", "--quick", "--out", str(tmp_path)]
    assert CliRunner().invoke(main, words).exit_code == 0
    before = path.read_bytes()
    rows = [row("default", "nnst")]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 1
    assert "has pictures that were not rated now, such as a:b by gram" in done.output
    assert path.read_bytes() == before
    rows = [row("default", "gram", "nnst")]
    assert CliRunner().invoke(main, words).exit_code == 0
    assert path.read_bytes() != before


def test_a_table_is_printed_once(monkeypatch, tmp_path):
    def measure(plan):
        return harness.Findings([{"size": [32, 32], "model": "m", "formats": {}}])

    monkeypatch.setattr(export, "measure", measure)
    for words in (["export"], ["export", "report"], ["report", "export"], ["report"]):
        folder = tmp_path / "-".join(words)
        if words == ["report"]:
            folder = tmp_path / "export"
        done = CliRunner().invoke(main, [*words, "--quick", "--out", str(folder)])
        assert done.exit_code == 0, done.output
        assert done.output.count("### export (quick pass") == 1


def test_plots_need_the_report(tmp_path):
    done = CliRunner().invoke(main, ["step", "--plots", str(tmp_path)])
    assert done.exit_code == 2 and "--plots" in done.output


def test_accelerators_have_plans_of_their_own(monkeypatch):
    assert plan_of(step, False) is step.FULL
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert plan_of(step, False) is step.GPU
    assert plan_of(step, True) is step.QUICK
    assert plan_of(compile, False) is compile.FULL


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.6234, "0.623"), (12.0, "12.0"), (123.4, "123"), (2.231e8, "2.23e+08"), (15277.0, "15277")],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


def test_committed_results_can_be_reported():
    assert isinstance(report(harness.read(harness.ROOT / "benchmarks" / "results")), str)


@pytest.mark.parametrize(
    "path", sorted((harness.ROOT / "benchmarks").glob("*.py")), ids=lambda path: path.name
)
def test_only_public_names_are_used(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("nst_jax")
        if isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "nst":
            assert node.attr in (*nst.__all__, "__version__")
