"""How near the pictures of recipes are to content and style, and what artefacts they have."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import PAIRS, Pair

QUESTION = "What raters say of the pictures of recipes, on one canvas, and how long they take"
# All presets would take days on a CPU: `sliced-wasserstein` alone makes 4096 updates.
FULL = Plan(sizes=(256,), repeats=1, steps=0, pairs=3, recipes=("default", "gram", "gatys-pytorch"))
QUICK = Plan(sizes=(96,), repeats=1, steps=2, recipes=("default", "gatys-pytorch"))

WARM_UP = 4  # updates, of which each scale of a schedule gets one at least

Ratings = dict[str, float]


def measure(plan: Plan) -> Findings:
    """Paint every pair of pictures by every recipe, and rate the results.

    The canvas has the same size for all recipes: the longer side of the content, and of the style, is
    that of the plan. Gram matrices and Gaussians are compared at the taps that none of the recipes
    reads. The content, and a part of the style with the shape of the canvas, are rated as if they were
    results: figures are held against theirs.
    """
    params, predictor = nst.load_params(), nst.feed_forward.load_arbitrary()
    recipes = {
        name: nst.recipes.named(name).replace(steps=plan.steps)
        if plan.steps
        else nst.recipes.named(name)
        for name in plan.recipes
    }
    rate = partial(
        jax.jit(
            nst.raters.rate,
            static_argnames="taps",
            compiler_options=dict(nst.compiler_options()),
        ),
        params,
        predictor,
        taps=nst.raters.unused_taps(*recipes.values()),
    )
    rows = [
        _row(params, pair, size, recipes, rate, plan.repeats)
        for size in plan.sizes
        for pair in PAIRS[: plan.pairs]
    ]
    notes = [
        "seconds are those of `paint`, compiled before",
        "a rater marked * is judge and party: what it measures is near to what the recipe minimises",
        "compare figures of one pair and canvas only; docs/raters.md says what they can tell",
    ]
    return Findings(rows, notes)


def _row(
    params: nst.Params,
    pair: Pair,
    size: int,
    recipes: Mapping[str, nst.recipes.Recipe],
    rate: Any,
    repeats: int,
) -> dict[str, Any]:
    content, style = map(nst.images.sample, pair)

    def painted(recipe: nst.recipes.Recipe) -> nst.Snapshot:
        shots = nst.paint(
            params, content, style, recipe=recipe, size=f"long:{size}", style_size=f"long:{size}"
        )
        return shots.finish()

    def rated(picture: Any) -> Ratings:
        return {
            name: float(value) for name, value in rate(picture, content, style)._asdict().items()
        }

    for recipe in recipes.values():  # so that all programs are compiled
        painted(recipe.replace(steps=min(WARM_UP, recipe.descent.steps)))
    contestants = {name: partial(painted, recipe) for name, recipe in recipes.items()}
    seconds, last = harness.alternate(contestants, repeats, warmups=0)
    shape = nst.recipes.sizes.LongEdge(size).shape(*content.shape[:2])
    return {
        "pair": list(pair),
        "size": list(shape),
        "anchors": {
            "the content itself": rated(nst.recipes.filters.antialiased(content, shape)),
            "a part of the style": rated(
                nst.recipes.filters.antialiased(part(style, shape), shape)
            ),
        },
        "recipes": {
            name: {
                "updates": last[name].step,
                "final_loss": float(last[name].losses.total),
                "seconds": harness.spread(seconds[name]),
                "taps": list(rate.keywords["taps"]),
                "parties": nst.raters.parties(recipe),
                "ratings": rated(last[name].image),
            }
            for name, recipe in recipes.items()
        },
    }


def part(image: Any, shape: tuple[int, int]) -> Any:
    """Return the largest part in the middle of an image whose sides have the ratio of `shape`."""
    factor = min(have / want for have, want in zip(image.shape, shape, strict=False))
    height, width = (round(side * factor) for side in shape)
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]
