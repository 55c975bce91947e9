"""Time of a picture by one pass of a feed-forward network, beside optimisation, and what is lost."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import numpy as np

import nst_jax as nst
from benchmarks import harness
from benchmarks.harness import Findings, Plan
from benchmarks.problems import FLOAT32, pictures

QUESTION = (
    "Seconds of a picture by `instant`, beside `default` and `tf` in the same process, all warm"
)
# `steps`: updates of `tf` that are timed, since all its updates would take hours at 1024 px.
FULL = Plan(sizes=(256, 512, 1024), repeats=5, steps=20)
QUICK = Plan(sizes=(48,), repeats=1, steps=2)

NAMED = "mosaic"  # one of the 26 styles; all of them take the same time
OBJECTIVE = nst.recipes.DEFAULT.replace(precision=FLOAT32)
TF = nst.recipes.TF.replace(precision=FLOAT32)


def measure(plan: Plan) -> Findings:
    """Time the networks in turn, and `default` and `tf` once, at each size."""
    params = nst.load_params()
    rows = [_row(params, size, plan) for size in plan.sizes]
    notes = [
        "the networks' times are whole calls of `nst.instant`, style vector included; those of recipes "
        "whole calls of `nst.stylize`, measuring included, one run each",
        f"of `tf`, {plan.steps} updates were timed, and the time of all of them reckoned from these",
        "losses are those of `default`'s objective for the pair; one of the 26 styles has no picture, "
        "so its style loss says nothing and is left out",
    ]
    return Findings(rows, notes)


def _row(params: nst.Params, size: int, plan: Plan) -> dict[str, Any]:
    content, style = (np.asarray(image) for image in pictures(size))
    instant = partial(nst.instant, content, size="as-is", precision="float32")
    networks: dict[str, Callable[[], Any]] = {
        "arbitrary": partial(instant, style),
        "26 styles": partial(instant, NAMED),
    }
    seconds, images = harness.alternate(networks, plan.repeats)
    measured = _losses(params, content, style, OBJECTIVE)
    found: dict[str, Any] = {
        name: {"seconds": harness.spread(seconds[name]), "losses": measured(images[name])}
        for name in networks
    }
    del found["26 styles"]["losses"]["style"], found["26 styles"]["losses"]["total"]
    found["content, unchanged"] = {"losses": measured(content)}
    paint = partial(nst.stylize, params, content, style, size="as-is")
    default = replace(OBJECTIVE, name="default")
    paint(recipe=default, steps=_fewest(default, size))  # compiles
    took, image = harness.timed(partial(paint, recipe=default))
    updates = default.descent.updates_at((size, size))
    found["default"] = {
        "seconds": harness.spread([took]),
        "updates": updates,
        "losses": measured(image),
    }
    found["tf"] = _tf(params, content, style, plan.steps)
    for name in networks:
        typical = found[name]["seconds"]["median"]
        found[name]["times_as_fast_as"] = {
            recipe: float(f"{found[recipe]['seconds']['median'] / typical:.4g}")
            for recipe in ("default", "tf")
        }
    return {"size": [size, size], "ways": found}


def _fewest(recipe: nst.recipes.Recipe, size: int) -> int:
    """Return a number of updates that reaches every scale of a recipe, so that all is compiled."""
    return 2 * len(recipe.descent.plan((size, size)))


def _tf(params: nst.Params, content: Any, style: Any, steps: int) -> dict[str, Any]:
    """Time the start and some updates of `tf`, and estimate the time of all its updates."""
    recipe, updates = TF, TF.descent.updates_at(content.shape[:2])
    options: dict[str, Any] = {"recipe": recipe, "size": "as-is", "steps": steps, "every": steps}
    list(nst.paint(params, content, style, **options))  # compiles
    shots = nst.paint(params, content, style, **options)
    before, _ = harness.timed(lambda: next(shots))
    some, _ = harness.timed(lambda: next(shots))
    return {
        "seconds": harness.spread([before + some * updates / steps]),
        "seconds_timed": {"start": before, "updates": some},
        "updates": updates,
        "updates_timed": steps,
    }


def _losses(
    params: nst.Params, content: Any, style: Any, recipe: nst.recipes.Recipe
) -> Callable[[Any], dict[str, float]]:
    """Return a function that computes the losses of a picture under a recipe's objective."""
    core = nst.recipes.as_arrays(recipe.bare())
    options = dict(nst.compiler_options())
    targets = jax.jit(nst.measure, compiler_options=options)(params, content, style, core)
    of = jax.jit(nst.losses_of, compiler_options=options)

    def measured(image: Any) -> dict[str, float]:
        losses = of(params, image, targets, core)
        return {name: float(getattr(losses, name)) for name in ("total", "content", "style", "tv")}

    return measured
