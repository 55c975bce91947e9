"""How pictures change with the style weight, and the dial `--strength` that is made from it.

The pairs are of the package's samples and, if the variable `NST_JAX_PICTURES` names a folder, of the
pictures there that `PAIRS` names: photographs and paintings, as JPEG files.
"""

import os
from collections.abc import Sequence
from functools import partial
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks.gallery import part
from benchmarks.harness import Findings, Plan
from benchmarks.problems import Pair

QUESTION = "How the pictures of a recipe change with its style weight"
FULL = Plan(
    sizes=(128,), repeats=1, steps=30, pairs=12, recipes=("default", "gram", "gatys-pytorch")
)
QUICK = Plan(sizes=(96,), repeats=1, steps=2, pairs=1, recipes=("gram",))

# The style weight is the recipe's own times 10 to the power of each of these.
EXPONENTS = (-3.0, -2.5, -2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)

PAIRS: tuple[Pair, ...] = (
    ("chelsea", "starry_night"),
    ("tuebingen", "the_scream"),
    ("turtle", "great_wave"),
    ("chelsea", "kandinsky_composition_7"),
    ("tuebingen", "shipwreck_turner"),
    ("turtle", "gravel"),
    ("chelsea", "great_wave"),
    ("tuebingen", "starry_night"),
    ("turtle", "the_scream"),
    ("chelsea", "gravel"),
    ("tuebingen", "kandinsky_composition_7"),
    ("turtle", "shipwreck_turner"),
)
PROPORTIONS = (3, 4)  # all pictures are cut to these, so that one program paints all pairs

# The raters that say how near a picture is to the style, and how near to the content.
STYLE = ("style_vector", "gram", "wasserstein")
CONTENT = ("ssim", "gradients", "self_similarity")

Row = dict[str, Any]


# --- The measurement ------------------------------------------------------------------------------


def measure(plan: Plan) -> Findings:
    """Paint each pair with all style weights, and rate the pictures and the photo itself."""
    params, predictor = nst.load_params(), nst.feed_forward.load_arbitrary()
    rows, absent = [], []
    for pair in PAIRS[: plan.pairs]:
        if any(_file(name) is None for name in pair):
            absent.append(" with ".join(pair))
            continue
        for name in plan.recipes:
            recipe = nst.recipes.named(name)
            recipe = recipe.replace(steps=plan.steps) if plan.steps else recipe
            rows.append(row_of(params, predictor, recipe, pair, plan.sizes[0]))
    notes = [
        "of each list, the first is for the photo itself, the others for rising style weights",
        "a pair's share of the way is the mean of the shares in pixels, in style and in content",
    ]
    if absent:
        notes.append(f"not measured, as a picture is missing: {', '.join(absent)}")
    return Findings(rows, notes)


def row_of(
    params: nst.Params, predictor: nst.Params, recipe: nst.recipes.Recipe, pair: Pair, size: int
) -> Row:
    """Paint one pair with all style weights in one batch, and rate the pictures."""
    content, style = map(picture, pair)
    rate = partial(_rate, params, predictor, taps=nst.raters.unused_taps(recipe))
    pictures = painted(params, recipe, content, style, size, EXPONENTS)
    photo = np.asarray(nst.recipes.filters.antialiased(content, pictures[0].shape[:2]))
    every = [photo, *pictures]
    ratings = [rate(picture, content, style)._asdict() for picture in every]
    row = {
        "recipe": recipe.name,
        "updates": recipe.descent.updates_at(photo.shape[:2]),
        "pair": list(pair),
        "size": list(photo.shape[:2]),
        "exponents": list(EXPONENTS),
        # The mean absolute difference of each picture from the one before.
        "differences": _short([np.abs(one - two).mean() for one, two in pairwise(every)]),
        "ratings": {name: _short([one[name] for one in ratings]) for name in (*STYLE, *CONTENT)},
    }
    return row | {"way": _short(list(way(row)))}


def painted(
    params: nst.Params,
    recipe: nst.recipes.Recipe,
    content: Any,
    style: Any,
    size: int,
    exponents: Sequence[float],
) -> list[np.ndarray]:
    """Paint a pair once for each exponent: with the recipe's style weight times 10 to its power."""
    weights = float(recipe.terms.style_weight) * 10.0 ** np.asarray(exponents)
    found = nst.stylize_many(
        params,
        content,
        style,
        recipe=recipe.replace(style_weight=weights),
        size=f"long:{size}",
        style_size=f"long:{size}",
    )
    return [np.asarray(image) for image in found]


_rate = jax.jit(
    nst.raters.rate, static_argnames="taps", compiler_options=dict(nst.compiler_options())
)


def _short(values: Any) -> list[float]:
    """Return numbers to four significant digits, so that the record stays small."""
    return [float(f"{float(value):.4g}") for value in values]


def _file(name: str) -> Path | None:
    """Return the file of a picture; None if there is none."""
    if name in nst.images.SAMPLES:
        return nst.images.SAMPLES[name]
    path = Path(os.environ.get("NST_JAX_PICTURES", os.devnull), f"{name}.jpg")
    return path if path.is_file() else None


def picture(name: str) -> Any:
    """Return the middle of a picture, cut to `PROPORTIONS`, at 256 x 192 px."""
    path = _file(name)
    assert path is not None
    down, across = PROPORTIONS
    cut = part(np.asarray(nst.images.load(path)), PROPORTIONS)
    return nst.recipes.filters.antialiased(cut, (64 * down, 64 * across))


# --- The way from photo to style ------------------------------------------------------------------


def way(row: Row) -> np.ndarray:
    """Return how far each picture of a row is on the way from the photo to the last picture.

    It is the mean of three shares of this way, each 0 for the photo and 1 for the last picture: of the
    differences in pixels from each picture to the next, added up; of the distances to the style, the
    mean over `STYLE`; and of the distances to the content, the mean over `CONTENT`.

    Args:
      row: a row of `measure`.

    Returns:
      [1 + number of style weights], of which the first is 0 and the last 1.
    """

    def share(values: Sequence[float]) -> np.ndarray:
        array = np.asarray(values, float)
        return (array - array[0]) / (array[-1] - array[0])

    pixels = share([0.0, *np.cumsum(row["differences"])])
    style, content = (
        np.mean([share(row["ratings"][name]) for name in names], axis=0)
        for names in (STYLE, CONTENT)
    )
    return np.mean([pixels, style, content], axis=0)


def fitted(rows: Sequence[Row]) -> tuple[float, float]:
    """Fit the curve of `nst_jax.recipes.strength` to rows of one recipe, by least squares.

    The curve is divided by its value at the last style weight of a row, as the way is.

    Returns:
      HALF, the factor of the style weight at which half of the way is gone; and STEEPNESS.
    """
    # Every pair of these values is tried, so that the fit cannot stay in a local minimum.
    halves, steepnesses = np.arange(-3.0, 1.0, 0.01), np.arange(0.2, 2.0, 0.005)
    error = np.zeros((len(steepnesses), len(halves)))
    for row in rows:
        away = halves[:, None] - np.asarray(row["exponents"], float)[None]
        curve = 1 / (1 + 10 ** (steepnesses[:, None, None] * away[None]))
        share = curve / curve[..., -1:]
        error += np.square(share - way(row)[1:]).sum(axis=-1)
    first, second = np.unravel_index(np.argmin(error), error.shape)
    return float(10 ** halves[second]), float(steepnesses[first])


def way_at(row: Row, factors: Sequence[float]) -> np.ndarray:
    """Return the measured way of a row at factors of the style weight, [n] in [0, 1].

    Between two weights that were painted, it is interpolated linearly in the logarithm of the weight,
    so nothing is assumed of its shape.

    Raises:
      ValueError: for a factor beyond the weights that were painted.
    """
    exponents, wanted = np.asarray(row["exponents"], float), np.log10(np.asarray(factors, float))
    slack = 1e-9  # of rounding errors
    if wanted.min() < exponents[0] - slack or wanted.max() > exponents[-1] + slack:
        raise ValueError(
            f"`factors`: expected 10^{exponents[0]:g} to 10^{exponents[-1]:g}, which were painted"
        )
    return np.interp(wanted, exponents, way(row)[1:])


def steps_of_dial(row: Row, count: int = 5) -> np.ndarray:
    """Return the shares of the way that equal steps of the dial `strength` go on one pair, measured.

    The steps are between strength 0 and that of the largest weight that was painted. If strength 0 is a
    smaller weight than any that was painted, they begin at the strength of the smallest.

    Returns:
      [count] shares; they are equal if the dial is even on this pair.
    """
    dial = nst.recipes.strength
    least, most = (dial.strength_of(10.0 ** row["exponents"][index]) for index in (0, -1))
    stops = np.linspace(max(0.0, least), min(1.0, most), count + 1)
    return np.diff(way_at(row, [dial.factor_of(stop) for stop in stops]))


def evenest(rows: Sequence[Row], count: int = 5, apart: float = 0.05) -> tuple[float, float]:
    """Return how even a dial could be that is the same for all pairs.

    Every dial is tried whose ends are those of `steps_of_dial`, and whose inner stops are powers of ten
    with exponents that are whole multiples of `apart`.

    Args:
      rows: rows of one recipe, painted with the same style weights.
      count: number of equal steps of the dial.
      apart: distance between neighbouring exponents.

    Returns:
      Two ratios of the largest to the smallest step, each by the dial for which it is least: the ratio
      on the pair where it is largest, and the median over the pairs.
    """
    dial = nst.recipes.strength
    exponents = rows[0]["exponents"]
    first = max(exponents[0], float(np.log10(dial.SMALLEST)))
    last = min(exponents[-1], float(np.log10(dial.factor_of(1))))
    inner = np.arange(np.floor(first / apart) + 1, last / apart) * apart
    stops = np.array([(first, *chosen, last) for chosen in combinations(inner, count - 1)])
    evenness = []  # the smallest step divided by the largest, [dials] for each pair
    for row in rows:
        steps = np.diff(np.interp(stops, exponents, way(row)[1:]), axis=-1)
        evenness.append(steps.min(axis=-1) / steps.max(axis=-1))
    worst, median = np.min(evenness, axis=0), np.median(evenness, axis=0)
    return float(1 / worst.max()), float(1 / median.max())
