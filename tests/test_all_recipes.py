"""The page `docs/all_recipes.md`, its record and its sheets."""

import itertools
import re

import numpy as np
import pytest

import nst_jax as nst
from benchmarks import equal_time, gallery, plots
from benchmarks.gallery import INSTANT, Gallery, Painted
from docs import all_recipes_page as page
from docs import gallery_sources, quality_page


@pytest.fixture(scope="module")
def rows():
    return page.rows_of(page.entry_of())


def test_the_page_is_that_of_the_record():
    text = page.PAGE.read_text()
    assert text == page.page()
    assert "{" not in text and "}" not in text
    shown = set(re.findall(r"\]\(all_recipes/([^)]+)\)", text))
    assert {path.name for path in page.FOLDER.iterdir()} == shown
    for name in shown:
        assert (page.FOLDER / name).stat().st_size <= page.LARGEST, name


def test_every_recipe_painted_every_pair_in_about_the_same_time(rows):
    expected = {*page.recipes(), INSTANT}
    assert expected | {*page.TEXTURES, page.DIVERGES} == {*nst.recipes.PRESETS, INSTANT}
    assert len(rows) >= 6
    for row in rows:
        assert set(row["recipes"]) == expected
        for name, one in row["recipes"].items():
            if name not in ("default", INSTANT):
                ratio = equal_time.taken(one) / one["time_of"]["seconds"]
                assert 0.5 < ratio < 1.5, (row["pair"], name)


def test_recipes_that_are_left_out_look_at_no_photograph():
    for name in nst.recipes.PRESETS:
        terms = nst.recipes.named(name).terms
        # Losses that match features get the photograph's from `match`.
        looks = terms.content_weight != 0 or isinstance(terms.style_loss, nst.losses.MatchingLoss)
        assert looks == (name not in page.TEXTURES), name


def test_pictures_of_the_page_are_those_of_the_gallery(rows):
    for row in rows:
        assert set(row["pair"]) <= set(gallery_sources.SOURCES)
        assert f"{row['pair'][0]}, {row['pair'][1]}" in page.PAGE.read_text()
        for name in set(row["pair"]) & set(nst.images.SAMPLES):
            assert gallery.digest(nst.images.sample(name)) == row["digests"][name]


def test_recipes_are_ordered_by_their_median_distance_to_the_style(rows):
    table = page._by_recipe(rows).splitlines()[2:]
    medians = []
    for line in table:
        cells = [float(cell.split("/")[0].strip("*")) for cell in line.strip("| ").split(" | ")[1:]]
        assert len(cells) == len(rows)
        medians.append(np.median(cells))
    assert len(table) == len(rows[0]["recipes"])
    assert np.all(np.diff(medians) >= -0.01)  # cells are rounded


def test_a_front_of_medians_has_a_named_point_for_each_contestant():
    def row(**rated):
        ratings = {
            name: {"ratings": {"style_vector": style, "ssim": ssim}}
            for name, (style, ssim) in rated.items()
        }
        return {"size": [144, 192], "recipes": ratings}

    rows = [row(a=(1.0, 0.5), b=(2.0, 0.2)), row(a=(3.0, 0.7), b=(0, 0)), row(a=(9, 0.6), b=(1, 0))]
    panel = plots.median_front_panel(rows)
    assert panel.named and panel.title == "median of 3 pairs, 192 px"
    assert [line.label for line in panel.lines] == ["a", "b"]
    points = [(line.x[0], line.y[0]) for line in panel.lines]
    np.testing.assert_allclose(points, [(3.0, 0.4), (1.0, 1.0)])


def test_a_caption_says_how_early_a_recipe_was_stopped(rows):
    made = {name: {"updates": 76} for name in ("crowsonkb", "default")} | {"gram": {"updates": 172}}
    row = rows[0] | {"recipes": made}
    assert page._caption(row, "crowsonkb") == "crowsonkb, 76 of 1500"
    assert page._caption(row, "default") == "default, 76 of 90"
    assert page._caption(row, "gram") == "gram"
    assert page._caption(row, INSTANT) == INSTANT


def test_names_stand_beside_the_points_of_a_front(tmp_path):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    lines = [plots.Line("low", [0.2], [0.1]), plots.Line("high", [0.8], [0.9])]
    near = [plots.Line(f"beside others {place}", [0.5 + place / 100], [0.5]) for place in range(3)]
    plots._name_points(axes, [*lines, *near])
    found = {text.get_text(): text for text in axes.texts}
    assert {name: found[name].xy for name in ("low", "high")} == {
        "low": (0.2, 0.1),
        "high": (0.8, 0.9),
    }
    assert len(axes.texts) == len(found) == 5
    boxes = [text.get_window_extent() for text in axes.texts]
    for one, other in itertools.combinations(boxes, 2):
        assert not one.overlaps(other)
    lines = [plots.Line("a", [1.0], [0.5]), plots.Line("b", [2.0], [0.6])]
    path = plots.drawn([plots.Panel("t", "x", "y", lines, named=True)], tmp_path / "front.png")
    assert nst.images.load(path).shape[1] > 800


def test_pictures_are_drawn_from_the_folders_of_the_record(rows, tmp_path):
    row, kept = rows[0], Gallery(tmp_path)
    pair, size, name = tuple(row["pair"]), max(row["size"]), "gram@default-time"
    image = np.full((*row["size"], 3), 0.25, np.float32)
    for crop in (None, "16:9"):  # not that of the record
        with pytest.raises(ValueError, match=f"^`keep`: no folder has the picture of .* by {name}"):
            quality_page.painted([kept], row, name)
        kept.put(pair, size, name, Painted(image, {"crop": crop}))
    kept.put(pair, size, name, Painted(image, {"crop": "4:3"}))
    np.testing.assert_allclose(quality_page.painted([kept], row, name), image, atol=1 / 255)


def test_the_page_of_quality_names_what_is_only_on_this_page():
    found = quality_page._unmeasured([], elsewhere={"tf@default-time", "default"})
    line = "- Recipes that are only on [the page of all recipes](all_recipes.md), in equal time: "
    assert f"{line}`default`, `tf`." in found
    others = next(line for line in found.splitlines() if line.startswith("- All other recipes"))
    assert "`gram`" in others and "`tf`" not in others


def test_the_answer_counts_what_the_tables_count(rows):
    in_time = [
        row | {"recipes": {name: one for name, one in row["recipes"].items() if name != INSTANT}}
        for row in rows
    ]
    counts = quality_page.counts_table(in_time).splitlines()[2:]
    cells = np.array([[int(cell) for cell in line.strip("| ").split(" | ")[1:]] for line in counts])
    pairs, ahead, behind, nearer, farther = cells.sum(axis=0)
    said = page.answer(in_time, [])
    every = np.sum(cells[:, 1] == len(rows))
    assert f"in {ahead} of {pairs} cases, and on all pairs ahead of {every} recipes" in said
    assert f"behind in {behind or 'none'}." in said
    assert f"style in {nearer} of them, the other in {farther}." in said
    verdict = {"first": {"default": [3, 4], "p": [1, 4]}, "verdicts": 4}
    assert page.answer(in_time, [verdict]).endswith(
        " Judges who saw no names placed `default` first among two recipes in 3 of 4 verdicts."
    )
    assert f"`{INSTANT}`*" in quality_page.counts_table(rows)
