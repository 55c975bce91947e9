"""The benchmarks run, and say what they measured and where. No time is asserted."""

import ast
import json
import math
from dataclasses import replace

import jax
import numpy as np
import pytest
from click.testing import CliRunner

import nst_jax as nst
from benchmarks import batch, compile, harness, loop, peers, problems, step, wall
from benchmarks.__main__ import CASES, case_module, main
from benchmarks.harness import Plan
from benchmarks.report import TABLES, number, report

# The command line with a recipe that needs one convolution of the sixteen.
SHALLOW_MAIN = """
import sys
from nst_jax import cli, recipes
terms = recipes.Terms(
    content_taps=("relu1_1",), style_taps=("relu1_1",), style_layer_weights=(1.0,)
)
recipes.PRESETS["default"] = recipes.Recipe(name="default", terms=terms)
sys.exit(cli.main())
"""
TINY = Plan(sizes=(32,), repeats=1, steps=1, batches=(2,))


def with_taps(recipe, content, *style):
    taps = {"content_taps": (content,), "style_taps": style}
    weights = {"content_layer_weights": (1.0,), "style_layer_weights": (1.0,) * len(style)}
    return replace(recipe, terms=replace(recipe.terms, **taps, **weights))


@pytest.fixture
def shallow(monkeypatch):
    """The recipes with two early taps, which compile fast, and no peer."""

    def cut(recipe):
        return with_taps(recipe, "relu2_1", "relu1_1")

    for module in (step, loop, compile, batch):
        monkeypatch.setattr(module, "ADAM", cut(problems.ADAM))
    for module in (step, compile):
        monkeypatch.setattr(module, "LBFGS", cut(problems.LBFGS))
    monkeypatch.setattr(wall, "PROGRAM", ("-c", SHALLOW_MAIN))
    monkeypatch.setattr(peers, "has_torch", lambda: False)
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
    """Hold a record against its schema."""
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
        assert row["size"] == ([21, 32] if entry["case"] == "wall" else [32, 32])
        losses = row["outcome"]["losses"].values() if "outcome" in row else [row["final_loss"]]
        assert all(math.isfinite(loss) for loss in losses)
    found = list(spreads(entry["rows"]))
    assert found
    for spread in found:
        assert 0 < spread["min"] <= spread["median"] <= spread["max"]
        assert len(spread["samples"]) == entry["plan"]["repeats"]


# Those that start processes or compile several programs are slow.
SLOW = {"step", "loop", "batch", "compile", "wall", "memory"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in CASES]
)
def test_case_is_measured_written_and_reported(name, shallow, monkeypatch, tmp_path):
    monkeypatch.setattr(case_module(name), "QUICK", TINY)
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


@pytest.mark.torch
def test_torch_takes_the_same_steps(params):
    pytest.importorskip("torch", reason="install the extra `parity`")
    recipe = with_taps(problems.ADAM, "relu2_2", "relu1_1", "relu3_1")
    task = problems.problem(params, recipe, 32)
    ours = np.asarray(problems.Walk(task).advance(step.FIRST).total)
    for channels_last in (False, True):
        theirs = peers.TorchWalk(task, channels_last).advance(step.FIRST)
        np.testing.assert_allclose(theirs, ours, rtol=step.TOLERANCE)


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
        harness.write(entry | {"device": {"kind": "NVIDIA H100"}}, tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["step-nvidia-h100-quick.json", "step-nvidia-h100.json"]
    assert [entry["quick"] for entry in harness.read(tmp_path)] == [False]


def test_a_foreign_file_is_refused(tmp_path):
    (tmp_path / "old.json").write_text('{"schema": 0}')
    with pytest.raises(ValueError, match="schema"):
        harness.read(tmp_path)


@pytest.mark.parametrize("sizes", ["8", "x", "256;512"])
def test_bad_sizes_are_named(sizes, tmp_path):
    done = CliRunner().invoke(main, ["step", "--sizes", sizes, "--out", str(tmp_path)])
    assert done.exit_code == 2
    assert "--sizes" in done.output and sizes in done.output


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
