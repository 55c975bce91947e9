"""The lessons of the documentation: their parts, and that they run at a small size; by default, one.

The build of the documentation runs them at their own sizes.
"""

import re
import runpy
from pathlib import Path

import pytest

import nst_jax as nst

plt = pytest.importorskip("matplotlib.pyplot", reason="install the extra `plots`")

LESSONS = sorted((Path(__file__).parents[1] / "docs" / "lessons").glob("plot_*.py"))
PARTS = ("The picture that shows it", "The mathematics", "To try")
# The figures of each lesson.
FIGURES = {1: 3, 2: 2, 3: 2, 4: 2, 5: 2, 6: 2, 7: 2, 8: 3}
SHALLOW = ("relu1_1", "relu1_2", "relu2_1", "relu2_2", "relu3_1")


def number(path):
    """Return 3 for `plot_3_style_by_gram_matrices.py`."""
    return int(path.name.split("_")[1])


def test_there_are_eight_lessons():
    assert [number(path) for path in LESSONS] == list(range(1, 9))


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_has_its_parts(path):
    text = path.read_text()
    assert re.match(rf'r"""\n{number(path)}\. [^\n]+\n=+\n\n\*\*Claim\.\*\* ', text)
    places = [re.search(rf"^# {part}\n# -+$", text, re.MULTILINE).start() for part in PARTS]
    assert places == sorted(places)
    assert ".. math::" in text


@pytest.fixture
def smaller(monkeypatch):
    """Let pictures be of 48 px, runs of two updates, and the recipe of the lessons shallow."""
    recipe = nst.recipes.GRAM.replace(
        content_taps=("relu2_2",), style_taps=SHALLOW, schedule=nst.recipes.OneScale()
    )
    monkeypatch.setattr(nst.recipes, "GRAM", recipe)
    for verb in ("stylize", "paint", "texture"):
        monkeypatch.setattr(nst, verb, at_most(getattr(nst, verb), size=48, steps=2))
    monkeypatch.setattr(nst, "instant", at_most(nst.instant, size=48))
    yield
    plt.close("all")


def at_most(verb, **limits):
    """Return a verb that ignores the caller's options of these names."""
    return lambda *arguments, **options: verb(*arguments, **{**options, **limits})


# The build of the documentation runs all lessons at their own sizes.
@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if number(path) == 3 else pytest.mark.long, id=path.stem)
        for path in LESSONS
    ],
)
def test_a_lesson_runs_draws_and_shows_its_figures(path, smaller, monkeypatch):
    plt.switch_backend("agg")
    plt.close("all")
    shown = []  # the numbers of figures that there are at each call of `plt.show`
    monkeypatch.setattr(plt, "show", lambda: shown.append(len(plt.get_fignums())))
    runpy.run_path(str(path))
    assert shown == [FIGURES[number(path)]]
    assert len(plt.get_fignums()) == FIGURES[number(path)]
    for figure in map(plt.figure, plt.get_fignums()):
        assert all(axes.images or axes.lines or axes.patches for axes in figure.axes)
        figure.canvas.draw()  # a title or a label that cannot be drawn raises here
