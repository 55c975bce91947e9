"""How near the pictures of recipes are to content and style, and what artefacts they have."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import click
import jax

import nst_jax as nst
from benchmarks import gallery, harness
from benchmarks.gallery import Contestant, Gallery, Painted
from benchmarks.harness import Findings, Plan
from benchmarks.problems import PAIRS, Pair

QUESTION = "What raters say of the pictures of recipes, on one canvas"
# All presets would take days on a CPU: `sliced-wasserstein` alone makes 4096 updates.
FULL = Plan(sizes=(256,), repeats=1, steps=0, pairs=3, recipes=("default", "gram", "gatys-pytorch"))
QUICK = Plan(sizes=(96,), repeats=1, steps=2, recipes=("default", "gatys-pytorch"))

Ratings = dict[str, float]


def measure(plan: Plan) -> Findings:
    """Paint every pair of pictures by every contestant, and rate the results.

    The canvas has the same size for all: the longer side of the content, and of the style, is that of
    the plan. Gram matrices and Gaussians are compared at the taps that none of the recipes reads. The
    content, and a part of the style with the shape of the canvas, are rated as if they were results:
    figures are held against theirs. Everything is rounded to 8 bits first.

    If the plan names a folder in which pictures are kept, those in it are not painted again, and all of
    them are rated, also those of contestants that the plan does not name. Of these, the seconds of the
    processor are known, for pictures may be painted while the machine does other work.
    """
    pairs = plan.named_pairs or PAIRS[: plan.pairs]
    pictures = {name: gallery.found(name, plan.pictures) for pair in pairs for name in pair}
    named = [gallery.contestant(name, plan.steps) for name in plan.recipes]
    params, kept = nst.load_params(), Gallery(plan.keep) if plan.keep else None
    if kept:
        if plan.paint:
            _fill(kept, params, pairs, plan.sizes, pictures, named)
        entries = {pair: _entries_of(kept, pair, plan.sizes) for pair in pairs}
    else:
        entries = {
            pair: {size: _timed(params, pictures, pair, size, named, plan.repeats)
                   for size in plan.sizes}
            for pair in pairs
        }  # fmt: skip
    everyone = {
        name: gallery.contestant(name, plan.steps)
        for sized in entries.values()
        for painted in sized.values()
        for name in painted
    }
    recipes = [each.recipe for each in everyone.values() if each.recipe is not None]
    taps = nst.raters.unused_taps(*recipes)
    rate = partial(_rated, _compiled_rate(params), taps)
    rows = [
        _row(rate, pictures, pair, size, everyone, painted)
        for pair, sized in entries.items()
        for size, painted in sized.items()
    ]
    notes = [
        f"Gram matrices and Gaussians are compared at {', '.join(taps)}, which no recipe here reads",
        "pictures were kept, with the processor's seconds, compiled before"
        if kept
        else "seconds are those of `paint`, compiled before",
        "a rater marked * is biased: what it measures is near to what the recipe minimises",
        "compare figures of one pair and canvas only; docs/raters.md says what they can tell",
    ]
    return Findings(rows, notes)


Entries = dict[str, Painted]  # name of a contestant -> its picture of one pair


def _fill(
    kept: Gallery,
    params: nst.Params,
    pairs: Sequence[Pair],
    sizes: Sequence[int],
    pictures: Mapping[str, Any],
    named: Sequence[Contestant],
) -> None:
    """Paint what is not kept yet, contestant by contestant, and keep it."""
    for each in named:
        for size in sizes:
            for pair in pairs:
                if kept.get(pair, size, each.name) is None:
                    content, style = (pictures[name] for name in pair)
                    each.warm_up(params, content, style, f"long:{size}")
                    painted = each.paint(params, content, style, f"long:{size}")
                    kept.put(pair, size, each.name, painted)
                    click.echo(f"  {kept.path(pair, size, each.name).stem}", err=True)


def _entries_of(kept: Gallery, pair: Pair, sizes: Sequence[int]) -> dict[int, Entries]:
    found: dict[int, Entries] = {}
    for size in sizes:
        names = kept.names(pair, size)
        pictures = {name: kept.get(pair, size, name) for name in names}
        found[size] = {name: one for name, one in pictures.items() if one is not None}
        if not found[size]:
            raise ValueError(
                f"`keep`: has no picture of {':'.join(pair)} at {size} px; paint some first, without "
                "--no-paint"
            )
    return found


def _timed(
    params: nst.Params,
    pictures: Mapping[str, Any],
    pair: Pair,
    size: int,
    named: Sequence[Contestant],
    repeats: int,
) -> Entries:
    """Paint a pair in turn by all contestants, and add their seconds to the facts."""
    content, style = (pictures[name] for name in pair)
    for each in named:  # so that all programs are compiled
        each.warm_up(params, content, style, f"long:{size}")
    work = {
        each.name: partial(each.paint, params, content, style, f"long:{size}") for each in named
    }
    seconds, last = harness.alternate(work, repeats, warmups=0)
    return {
        name: Painted(
            gallery.as_saved(painted.image),
            painted.facts | {"seconds": harness.spread(seconds[name])},
        )
        for name, painted in last.items()
    }


def _compiled_rate(params: nst.Params) -> Any:
    rate = jax.jit(
        nst.raters.rate, static_argnames="taps", compiler_options=dict(nst.compiler_options())
    )
    return partial(rate, params, nst.feed_forward.load_arbitrary())


def _rated(rate: Any, taps: tuple[str, ...], picture: Any, content: Any, style: Any) -> Ratings:
    found = rate(picture, content, style, taps=taps)._asdict()
    return {name: float(f"{float(value):.5g}") for name, value in found.items()}


def _row(
    rate: Any,
    pictures: Mapping[str, Any],
    pair: Pair,
    size: int,
    everyone: Mapping[str, Contestant],
    painted: Entries,
) -> dict[str, Any]:
    content, style = (pictures[name] for name in pair)
    shape = nst.recipes.sizes.LongEdge(size).shape(*content.shape[:2])
    held = gallery.anchors(content, style, shape)
    return {
        "pair": list(pair),
        "size": list(shape),
        "anchors": {name: rate(image, content, style) for name, image in held.items()},
        "recipes": {
            name: {
                **one.facts,
                "parties": everyone[name].biased_raters,
                "ratings": rate(one.image, content, style),
            }
            for name, one in painted.items()
        },
    }
