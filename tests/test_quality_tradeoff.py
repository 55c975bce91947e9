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
    lines = quality_tradeoff.section(ROWS, record).splitlines()
    assert "| against | `default` ahead | `default@style3` ahead |" in lines
    assert "| `gatys` | 0 of 1 | 1 of 1 |" in lines
    assert "| `gram` | 0 of 1 | 0 of 1 |" in lines
    assert "| `gram` | 1 of 2 | 1 | 2.00 | 1.50 |" in lines
