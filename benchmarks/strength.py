"""How style and content change with the style weight, and the dial that makes equal steps look equal.

    python -m benchmarks.strength --out strength.json              # ten pairs at 256 px
    python -m benchmarks.strength --size 96 --steps 3 --pairs 1    # to try it

`--strength` multiplies the style weight by 100^(2S - 1), so by 10^e with e from -2 to 2. For each pair
of pictures this paints a sweep over e, measures how near each result is to the style and the content,
and adds both up to one number, the progress from one end of the sweep to the other. The mean over the
pairs, made monotone, is inverted: at which e is the progress 0, 0.1, ... 1 of the way? A table of these
is the dial. Nothing here changes the package.
"""

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness

EXPONENTS = tuple(np.arange(-3, 3.01, 0.5).tolist())
STOPS = tuple(np.linspace(0, 1, 11).round(2).tolist())  # strengths at which the dial is tabulated

# Part of the sample pictures: fractions of the width, from and to.
Part = tuple[str, float, float]
PAIRS: tuple[tuple[Part, Part], ...] = (
    (("chelsea", 0, 1), ("starry_night", 0, 1)),
    (("chelsea", 0, 1), ("gravel", 0, 1)),
    (("starry_night", 0, 1), ("gravel", 0, 1)),
    (("gravel", 0, 1), ("starry_night", 0, 1)),
    (("chelsea", 0, 0.6), ("starry_night", 0.4, 1)),
    (("chelsea", 0.4, 1), ("starry_night", 0, 0.6)),
    (("chelsea", 0.2, 0.8), ("gravel", 0, 0.5)),
    (("starry_night", 0, 0.6), ("gravel", 0.5, 1)),
    (("starry_night", 0.4, 1), ("chelsea", 0, 1)),
    (("gravel", 0, 0.6), ("chelsea", 0.3, 1)),
)

# The dial begins where this share of the way to the style is gone, and ends where the structural
# similarity to the content falls below this value.
HINT, SHOWN = 0.05, 0.2


# --- The fit --------------------------------------------------------------------------------------


def progress(style: Sequence[float], content: Sequence[float]) -> np.ndarray:
    """Return how far each picture of a sweep is on the way from its first to its last one.

    Args:
      style: distance of each picture to the style, which falls along the sweep.
      content: distance of each picture to the content, which rises.

    Returns:
      The mean of both shares of the way, 0 for the first picture and 1 for the last.
    """

    def share(values: Sequence[float]) -> np.ndarray:
        array = np.asarray(values, float)
        return (array - array[0]) / (array[-1] - array[0])

    return (share(style) + share(content)) / 2


def monotone(values: Sequence[float]) -> np.ndarray:
    """Return the nearest sequence, in squared distance, that never falls.

    References:
      Ayer and others, "An Empirical Distribution Function for Sampling with Incomplete Information",
      1955: neighbours that fall are pooled to their mean.
    """
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (mean, count), (last, more) = blocks[-2:]
            blocks[-2:] = [((mean * count + last * more) / (count + more), count + more)]
    return np.concatenate([np.full(count, mean) for mean, count in blocks])


def dial(
    exponents: Sequence[float], values: Sequence[float], ends: tuple[float, float]
) -> list[float]:
    """Return the exponent for each of `STOPS`, so that the progress rises evenly between the ends.

    Args:
      exponents: the exponents of the sweep, rising.
      values: the progress at each of them.
      ends: the exponents of strength 0 and 1.
    """
    level = monotone(values)
    first, last = np.interp(ends, exponents, level)
    inside = [e for e in exponents if ends[0] < e < ends[1]]
    knots = np.asarray([ends[0], *inside, ends[1]])
    heights = np.interp(knots, exponents, level)
    # Where the progress stands still, the smallest exponent is taken.
    distinct = np.concatenate([[True], np.diff(heights) > 0])
    wanted = first + np.asarray(STOPS) * (last - first)
    return np.interp(wanted, heights[distinct], knots[distinct]).tolist()


def unevenness(
    exponents: Sequence[float], values: Sequence[float], stops: Sequence[float]
) -> float:
    """Return the largest step of the progress from one stop to the next, over the mean step."""
    steps = np.diff(np.interp(stops, exponents, values))
    return float(np.max(steps) / np.mean(steps))


# --- The measurement ------------------------------------------------------------------------------


def _picture(part: Part) -> np.ndarray:
    name, left, right = part
    image = np.asarray(nst.images.sample(name))
    width = image.shape[1]
    return image[:, round(left * width) : round(right * width)]


def measured(
    recipe: nst.recipes.Recipe, pair: tuple[Part, Part], size: int, params: nst.Params, rate: Any
) -> dict[str, Any]:
    """Paint a sweep over the exponents on one pair, and rate its pictures."""
    content, style = map(_picture, pair)
    weights = float(recipe.terms.style_weight) * 10.0 ** np.asarray(EXPONENTS)
    pictures = nst.stylize_many(
        params,
        content,
        style,
        recipe=recipe.replace(style_weight=weights),
        size=f"long:{size}",
        style_size=f"long:{size}",
    )
    ratings = [rate(np.asarray(picture), content, style) for picture in pictures]
    found = {
        name: [float(getattr(rating, name)) for rating in ratings]
        for name in ("wasserstein", "gram", "ssim", "self_similarity", "gradients")
    }
    near = np.diff(np.asarray(pictures), axis=0)
    return {
        "pair": pair,
        "ratings": found,
        "pixel_steps": np.abs(near).mean(axis=(1, 2, 3)).tolist(),
        "progress": progress(found["wasserstein"], [1 - value for value in found["ssim"]]).tolist(),
    }


def fitted(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the dial that the rows of `measured` give, and how even it is on each pair left out."""
    values = np.asarray([row["progress"] for row in rows])
    ssim = np.mean([row["ratings"]["ssim"] for row in rows], axis=0)
    distance = np.mean([row["ratings"]["wasserstein"] for row in rows], axis=0)
    way = monotone((distance[0] - distance) / (distance[0] - distance[-1]))
    low = float(np.interp(HINT, way, EXPONENTS))
    high = float(np.interp(-SHOWN, monotone(-ssim), EXPONENTS))
    today = [4 * stop - 2 for stop in STOPS]
    found: dict[str, Any] = {
        "ends": [low, high],
        "dial": dict(zip(STOPS, dial(EXPONENTS, values.mean(axis=0), (low, high)), strict=True)),
        "today": dict(zip(STOPS, today, strict=True)),
        "unevenness_left_out": [],
        "unevenness_today": [unevenness(EXPONENTS, row, today) for row in values],
    }
    for index in range(len(rows) if len(rows) > 1 else 0):
        others = np.delete(values, index, axis=0).mean(axis=0)
        stops = dial(EXPONENTS, others, (low, high))
        found["unevenness_left_out"].append(unevenness(EXPONENTS, values[index], stops))
    return found


def main() -> None:
    """Measure, and write the findings after each pair, so that a run may be stopped."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--recipe", default="default")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--pairs", type=int, default=len(PAIRS))
    parser.add_argument("--steps", type=int, help="updates (default: the recipe's)")
    parser.add_argument("--out", type=Path, default=Path("strength.json"))
    chosen = parser.parse_args()
    recipe = nst.recipes.named(chosen.recipe)
    if chosen.steps is not None:
        recipe = recipe.replace(steps=chosen.steps)
    params, predictor = nst.load_params(), nst.feed_forward.load_arbitrary()
    rate = partial(
        jax.jit(nst.raters.rate, static_argnames="taps"),
        params,
        predictor,
        taps=nst.raters.unused_taps(recipe),
    )
    rows: list[dict[str, Any]] = []
    for pair in PAIRS[: chosen.pairs]:
        rows.append(measured(recipe, pair, chosen.size, params, rate))
        entry = {
            "recipe": chosen.recipe,
            "size": chosen.size,
            "updates": int(recipe.descent.steps),
            "exponents": EXPONENTS,
            "source": harness.source(),
            "device": harness.device(),
            "rows": rows,
            "fit": fitted(rows),
        }
        chosen.out.write_text(json.dumps(entry, indent=1) + "\n")
        print(f"{len(rows)} of {chosen.pairs} pairs; the dial so far: {entry['fit']['dial']}")


if __name__ == "__main__":
    main()
