"""The documents are under test: every docstring's example, and the README's Python."""

import ast
import doctest
import importlib
import re
from pathlib import Path

import pytest
from PIL import Image

import nst_jax as nst
from docs import recipes_page
from nst_jax import images, recipes

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_name(path):
    """Return `"vgg.network"` for `nst_jax/vgg/network.py`."""
    parts = path.relative_to(ROOT / "nst_jax").with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def examples():
    """Yield every docstring that holds an example: module, name, text.

    Read from the source: a finder that looks at objects misses what a decorator has wrapped.
    """
    for path in sorted((ROOT / "nst_jax").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in (tree, *ast.walk(tree)):
            if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
                text = ast.get_docstring(node)
                if text and ">>>" in text:
                    yield module_name(path), getattr(node, "name", "module"), text


FOUND = {f"{module}.{name}": (module, text) for module, name, text in examples()}


def test_the_examples_are_found():
    assert {
        "losses.gram",
        "vgg.network.features",
        "painting.stylize",
        "batches.stylize_many",
    } <= set(FOUND)


# The README's Python does the same, and `test_checkpoints`.
COVERED = {"checkpoints.save", "batches.stylize_many", "painting.paint", "painting.stylize"}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in COVERED else n for n in FOUND]
)
def test_an_example_runs_and_gives_what_it_shows(name):
    module, text = FOUND[name]
    names = dict(vars(importlib.import_module(f"nst_jax.{module}")))
    test = doctest.DocTestParser().get_doctest(text, names, name, None, 0)
    said = []
    doctest.DocTestRunner(optionflags=FLAGS).run(test, out=said.append)
    assert test.examples and not said, "".join(said)


def test_the_page_of_the_recipes_is_what_its_script_writes():
    assert recipes_page.PAGE.read_text() == recipes_page.page()


def test_the_page_has_every_recipe_and_its_picture():
    text = recipes_page.PAGE.read_text()
    assert set(recipes_page.NOTES) == set(recipes.PRESETS)
    for name in recipes.PRESETS:
        assert f"\n## {name}\n" in text
        with Image.open(recipes_page.FOLDER / f"{name}.jpg") as picture:
            assert picture.size == (256, 170)


@pytest.mark.slow
def test_the_readmes_python_runs(tmp_path, monkeypatch, capsys):
    """Two steps at 48 px of what it shows at full length, on two samples under its file names."""
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert blocks
    for name, sample in (("photo.jpg", "chelsea"), ("painting.jpg", "starry_night")):
        (tmp_path / name).write_bytes(images.SAMPLES[sample].read_bytes())
    for verb in ("stylize", "paint", "stylize_many"):
        monkeypatch.setattr(nst, verb, shortened(getattr(nst, verb)))
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["image"].shape == (32, 48, 3)
    assert (tmp_path / "result.png").exists()
    assert len(names["images"]) == 3
    assert re.match(r"0 \d", capsys.readouterr().out)


def shortened(verb):
    return lambda *args, **options: verb(*args, **{"size": 48, "steps": 2, **options})
