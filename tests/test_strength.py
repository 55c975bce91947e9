"""`strength`: equal steps, an inverse, and constants from the record of what was measured."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

import nst_jax as nst
from benchmarks import strength as measured
from docs import controls_page
from nst_jax import images, recipes
from nst_jax.app.arguments import Changes, recipe_of
from nst_jax.app.batch.manifests import ManifestRow
from nst_jax.app.batch.row_recipes import recipes_of
from nst_jax.app.introduction import weight_line
from nst_jax.recipes import strength, toml
from nst_jax.recipes.balance import balance
from nst_jax.recipes.changes import with_strength
from tests import small
from tests.shell import caller, refused, write_pictures

RECORD = Path(measured.__file__).parent / "results" / "strength-cpu.json"
STOPS = np.linspace(0, 1, 11)


@pytest.fixture(scope="module")
def rows():
    return json.loads(RECORD.read_text("utf-8"))["rows"]


# --- The scale of `strength` ----------------------------------------------------------------------


def test_the_dial_spans_what_it_says():
    assert strength.factor_of(0) == strength.SMALLEST == 0.003
    assert strength.factor_of(strength.OWN) == 1
    assert 5 < strength.factor_of(1) < 30


def test_the_dial_grows_and_has_an_inverse():
    factors = np.array([strength.factor_of(stop) for stop in STOPS])
    assert (np.diff(np.log(factors)) > 0.1).all()
    assert_allclose([strength.strength_of(factor) for factor in factors], STOPS, atol=1e-12)
    # Around the two values that are returned without rounding errors, nothing jumps.
    for stop in (0.0, strength.OWN):
        assert_allclose(strength.factor_of(stop + 1e-9), strength.factor_of(stop), rtol=1e-6)


def test_equal_steps_are_equal_shares_of_the_way():
    def way(factor):  # the curve of the module's docstring
        return 1 / (1 + (strength.HALF / factor) ** strength.STEEPNESS)

    shares = np.diff([way(strength.factor_of(stop)) for stop in STOPS])
    assert_allclose(shares, shares[0], rtol=1e-9)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_strength_beyond_the_dial_is_refused(value):
    with pytest.raises(ValueError, match="`strength`: expected"):
        with_strength(recipes.DEFAULT, value)


def test_strength_multiplies_the_style():
    assert with_strength(recipes.GRAM, strength.OWN) == recipes.GRAM
    for value in (0.0, 0.35, 1.0):
        changed = with_strength(recipes.GRAM, value)
        expected = strength.factor_of(value) * balance(recipes.GRAM)
        assert_allclose(balance(changed), expected, rtol=1e-6)
        assert changed.terms.content_weight == recipes.GRAM.terms.content_weight


# --- Constants and the measurements behind them ---------------------------------------------------


def test_the_constants_come_from_the_record(rows):
    of_default = [row for row in rows if row["recipe"] == "default"]
    half, steepness = measured.fitted(of_default)
    assert f"{half:.1g}" == f"{strength.HALF:g}"
    assert f"{steepness:.1g}" == f"{strength.STEEPNESS:g}"


def test_the_dial_is_more_even_than_powers_of_the_weight_on_every_pair(rows):
    """How evenly five steps divide the way from photo to style, by the curve fitted to each pair."""
    stops = np.linspace(0, 1, 6)
    dials = {
        "even": np.array([strength.factor_of(stop) for stop in stops]),
        "powers": 100 ** (2 * stops - 1),  # 0.01 to 100 times the recipe's own weight
    }
    for row in rows:
        if row["recipe"] == "gatys-pytorch":  # too near to the strong end, as the page says
            continue
        half, steepness = measured.fitted([row])
        largest = {}
        for name, factors in dials.items():
            steps = np.diff(1 / (1 + (half / factors) ** steepness))
            largest[name] = steps.max() / steps.min()
        assert largest["even"] < largest["powers"] / 2.5


def ratio(steps):
    return steps.max() / steps.min()


def of_powers(row, count=5):
    """Return the measured steps of a dial in powers of the weight, over the range of `strength`."""
    first, last = (10.0 ** row["exponents"][index] for index in (0, -1))
    ends = max(first, strength.SMALLEST), min(last, strength.factor_of(1))
    return np.diff(measured.way_at(row, np.geomspace(*ends, count + 1)))


def test_five_steps_of_the_dial_as_they_were_measured(rows):
    """Without any curve: the measured shares of the way from photo to style, interpolated."""
    rows = [row for row in rows if row["recipe"] == "default"]
    dial = [ratio(measured.steps_of_dial(row)) for row in rows]
    powers = [ratio(of_powers(row)) for row in rows]
    assert len(rows) >= 10
    assert np.mean(dial) < np.mean(powers) / 1.5 and max(dial) < max(powers) / 2
    text = " ".join(controls_page.PAGE.read_text("utf-8").split())
    assert f"{min(dial):.1f} to {max(dial):.1f} times as large as the smallest one" in text
    same_factor = f"it would be {min(powers):.1f} to {max(powers):.1f} times"
    assert f"multiplied the weight by the same factor instead, {same_factor}" in text
    worst, median = measured.evenest(rows)
    assert median < np.median(dial) < 1.25 * median and worst < max(dial) < 1.4 * worst
    assert f"a largest step of {worst:.1f} times the smallest; the one" in text
    assert f"with the least median has a median of {median:.1f}" in text


def test_the_evenest_dial_of_pairs_that_agree_has_equal_steps():
    exponents = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)
    shares = np.array([0.0, 0.0, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0])

    def row(shares):
        return {
            "exponents": exponents,
            "differences": list(np.diff(shares)),
            "ratings": {name: list(1 - shares) for name in (*measured.STYLE, *measured.CONTENT)},
        }

    # From 10^-2 to 10^1 in three steps: the way is 1/3 and 2/3 done at 10^-1.17 and 10^-0.33, and the
    # stops nearest to these divide it as 0.32, 0.36, 0.32, or 0.36, 0.32, 0.32.
    same = measured.evenest([row(shares)] * 3, count=3, apart=0.1)
    assert_allclose(same, [0.36 / 0.32] * 2, rtol=1e-6)
    # No dial is even on two pairs that change at different weights.
    other = np.array([0.0, 0.0, 0.0, 0.1, 0.2, 0.4, 0.7, 1.0])
    worst, median = measured.evenest([row(shares), row(other)], count=3, apart=0.1)
    assert worst > 1.5 and median > 1.2


def test_measured_steps_are_those_of_the_ways_that_were_measured():
    exponents = (-2.0, -1.0, 0.0, 1.0)
    shares = np.array([0.0, 0.2, 0.6, 0.9, 1.0])
    row = {
        "exponents": exponents,
        "differences": list(np.diff(shares)),
        "ratings": {name: list(1 - shares) for name in (*measured.STYLE, *measured.CONTENT)},
    }
    assert_allclose(measured.way_at(row, [0.01, 10**-1.5, 1, 10]), [0.2, 0.4, 0.9, 1.0])
    with pytest.raises(ValueError, match=r"`factors`: expected 10\^-2 to 10\^1"):
        measured.way_at(row, [0.001])
    steps = measured.steps_of_dial(row, 4)
    # From the smallest weight that was painted, which is beyond strength 0, to the largest.
    stops = np.linspace(strength.strength_of(0.01), strength.strength_of(10), 5)
    factors = [strength.factor_of(stop) for stop in stops]
    assert_allclose(steps, np.diff(np.interp(np.log10(factors), exponents, shares[1:])))
    assert_allclose(steps.sum(), 0.8)


def test_the_fit_finds_the_curve_that_made_the_numbers():
    exponents = (-2.0, -1.0, 0.0, 1.0)
    factors = 10.0 ** np.array(exponents)
    half, steepness = 10**-1.3, 0.8  # values that the fit tries
    curve = 1 / (1 + (half / factors) ** steepness)
    shares = [0.0, *(curve / curve[-1])]
    row = {
        "exponents": exponents,
        "differences": list(np.diff(shares)),
        "ratings": {
            **{name: [5 - 2 * share for share in shares] for name in measured.STYLE},
            **{name: [1 - share / 2 for share in shares] for name in measured.CONTENT},
        },
    }
    assert_allclose(measured.way(row), shares, atol=1e-12)
    assert_allclose(measured.fitted([row]), (half, steepness), rtol=1e-9)


# --- What is printed and recorded -----------------------------------------------------------------


def test_the_start_says_what_a_strength_means():
    assert weight_line(recipes.GRAM) == {} == weight_line(recipes.GATYS_TEXTURE)
    changed = with_strength(recipes.GRAM, 0.5)
    factor = strength.factor_of(0.5)
    assert weight_line(changed) == {
        "style weight": f"{factor:.3g} times the recipe's own, against the content (strength 0.5); "
        f"style to content {50 * factor:.3g}:1"
    }
    words = weight_line(recipes.DEFAULT.replace(content_weight=1e-4))["style weight"]
    assert words == "1e+04 times the recipe's own, against the content"


def test_the_start_says_what_the_dial_of_a_file_of_another_name_means():
    changed = with_strength(recipes.GRAM.replace(name="mine"), 0.5)
    factor = strength.factor_of(0.5)
    assert weight_line(changed) == {}
    assert weight_line(changed, 0.5) == {
        "strength": f"0.5, which is {factor:.3g} times the recipe's own style weight; style to content "
        f"{50 * factor:.3g}:1"
    }
    assert weight_line(with_strength(recipes.NNST, 0.0), 0.0)["strength"].startswith(
        "0: nearest neighbours in the style are sought for a mixture of 1 of the photo and 0 of"
    )


def test_results_say_the_strength_and_finished_pictures_are_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    tiny = small.quickest(steps=2).replace(name="tiny")
    monkeypatch.setitem(recipes.PRESETS, "tiny", tiny)
    write_pictures(photo=(32, 40), style=(32, 32))
    Path("mine.toml").write_text('base = "tiny"\nname = "mine"\nstrength = 0.4\n')

    def run(*words):
        code, _, told = caller(capsys, *words)("--overwrite")
        assert code == 0, told
        return told

    def recorded(path):
        return images.read_metadata(path).get("strength")

    one = ("stylize", "photo.png", "style.png", "-o", "one.png")
    assert re.search(
        "^strength +0.4, which is 0.0685 times", run(*one, "--recipe", "mine.toml"), re.M
    )
    assert recorded("one.png") == 0.4
    run(*one, "--recipe", "mine.toml", "--strength", "0.85")
    assert recorded("one.png") == 0.85
    run(*one, "--recipe", "tiny")
    assert recorded("one.png") is None
    grid = ("sweep", "photo.png", "style.png", "--tv-weight", "0,1", "-o", "grid.png")
    told = run(*grid, "--recipe", "tiny", "--strength", "0.6")
    assert recorded("grid.png") == 0.6 and re.search("^strength +0.6, which is", told, re.M)
    Path("jobs.csv").write_text(
        "content,style,overrides\nphoto.png,style.png,strength=0.2\nphoto.png,style.png,\n"
    )
    rows = ("batch", "jobs.csv", "--recipe", "tiny", "-o", "out")
    told = run(*rows)
    assert recorded("out/photo_style.png") == 0.2 and recorded("out/photo_style-2.png") is None
    assert re.search(r"^strength +0.2, which is .*; the recipe's own weights \(1\)", told, re.M)
    assert caller(capsys, *rows)()[0] == 0
    assert Path("out/results.jsonl").read_text().count('"skipped"') == 2


def test_the_page_says_what_strengths_mean():
    text = controls_page.PAGE.read_text("utf-8")
    lines = text.split("| `--strength` |")[1].split("\n\n")[0].splitlines()[2:]
    assert len(lines) >= 5
    for line in lines:
        value, factor, weight = (cell.strip() for cell in line.strip("|").split("|"))
        expected = strength.factor_of(float(value))
        assert factor == f"{expected:.3g}"
        assert weight == f"{balance(recipes.GRAM) * expected:.3g}:1"


def test_an_array_of_strengths_is_each_of_them():
    values = np.array([0.0, 0.2, strength.OWN, 1.0])
    assert_allclose(strength.factor_of(values), [strength.factor_of(float(v)) for v in values])
    for recipe, name in ((recipes.GRAM, "style_weight"), (recipes.NNST, "search_content")):
        each = [getattr(with_strength(recipe, float(v)).terms, name) for v in values]
        assert_allclose(getattr(with_strength(recipe, values).terms, name), each, atol=1e-12)
    with pytest.raises(ValueError, match="`strength`: expected 0 to 1 .* got 1.5"):
        strength.factor_of(np.array([0.2, 1.5]))
    with pytest.raises(ValueError, match="`strength`: expected numbers from 0 to 1, got an empty"):
        strength.factor_of(np.array([]))


def test_a_batch_has_a_strength_for_each_picture(params, content, style, as_users_do):
    recipe, values = small.quickest(steps=2), np.array([0.2, 0.9])
    many = nst.stylize_many(params, content, style, recipe=recipe, strength=values)
    for image, value in zip(many, values, strict=True):
        one = nst.stylize(params, content, style, recipe=recipe, strength=float(value))
        assert_allclose(image, one, atol=1e-5)
        same = nst.stylize(params, content, style, recipe=with_strength(recipe, float(value)))
        assert_allclose(one, same, atol=0)
    planned = nst.plan(content, style, recipe=recipe, strength=0.2)
    assert_allclose(nst.stylize(params, content, style, plan=planned), many[0], atol=1e-5)
    with pytest.raises(ValueError, match="`strength`: expected one number for one picture"):
        nst.stylize(params, content, style, recipe=recipe, strength=values)
    with pytest.raises(ValueError, match="`strength`: `plan` contains it"):
        nst.stylize(params, content, style, plan=planned, strength=0.2)


def test_recipe_files_and_overrides_have_a_strength():
    text = 'base = "gram"\nstrength = 0.4\n[terms]\nstyle_weight = 2.0'
    assert toml.from_toml(text).terms.style_weight == 2 * strength.factor_of(0.4)
    changed = toml.with_values(recipes.GRAM, {"strength": "0.4"})
    assert changed == with_strength(recipes.GRAM, 0.4)
    changed = toml.with_values(recipes.GRAM, {"strength": "0.4", "terms.style_weight": "2"})
    assert changed == with_strength(recipes.GRAM.replace(style_weight=2.0), 0.4)
    with pytest.raises(ValueError, match="'strenght'; did you mean 'strength'?"):
        toml.with_values(recipes.GRAM, {"strenght": "0.5"})
    for value, message in (("2", "`strength`: expected 0 to 1"), ("much", "expected a number")):
        with pytest.raises(ValueError, match=message):
            toml.with_values(recipes.GRAM, {"strength": value})
    with pytest.raises(ValueError, match="`recipe`: `strength`: expected 0 to 1"):
        toml.from_toml("strength = 1.5")


@pytest.mark.parametrize(
    ("flag", "values", "row", "expected"),
    [
        (None, (), (), 0.2),
        (None, ("strength=0.3",), (), 0.3),
        (0.4, ("strength=0.3",), (), 0.4),
        (0.4, ("strength=0.3",), ("strength=0.5",), 0.5),
        (None, (), ("strength=0.85",), 0.85),
        (0.2, (), (), 0.2),
    ],
)
def test_the_innermost_strength_is_applied_once(tmp_path, flag, values, row, expected):
    path = tmp_path / "weak.toml"
    path.write_text('base = "gram"\nstrength = 0.2\n[terms]\nstyle_weight = 2.0')
    changes = Changes(recipe=str(path), strength=flag, values=values)
    rows = [ManifestRow(1, Path("a.png"), ((Path("b.png"), None),), "row 1", overrides=row)]
    weight = 2 * strength.factor_of(expected)
    ((found, found_strength),) = recipes_of(rows, changes)
    assert found_strength == expected
    assert_allclose(found.terms.style_weight, weight, rtol=1e-12)
    if not row:
        assert_allclose(recipe_of(changes).terms.style_weight, weight, rtol=1e-12)


@pytest.mark.parametrize("flag", ["--style-weight", "--ratio"])
def test_a_sweep_of_the_weight_has_no_strength(tmp_path, monkeypatch, capsys, flag):
    monkeypatch.chdir(tmp_path)
    write_pictures(photo=(40, 50), art=(40, 40))
    call = caller(capsys, "sweep", "photo.png", "art.png")
    refused(call(flag, "1,2", "--strength", "0.3"), "sets the style weight, as does", flag)
    refused(call(flag, "1,2", "--set", "strength=0.3"), f"`{flag}`: the recipe", "has a strength")
