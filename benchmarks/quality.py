"""How near the pictures of recipes are to content and style, and what artefacts they have."""

import itertools
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import click
import jax

import nst_jax as nst
from benchmarks import equal_time, gallery, harness, merging
from benchmarks.gallery import Contestant, Gallery, Painted
from benchmarks.harness import Findings, Plan
from benchmarks.problems import PAIRS, Pair

QUESTION = "What raters say of the pictures of recipes, on one canvas"
# All presets would take days on a CPU: `sliced-wasserstein` alone makes 4096 updates.
FULL = Plan(sizes=(256,), repeats=1, steps=0, pairs=3, recipes=("default", "gram", "gatys-pytorch"))
QUICK = Plan(sizes=(96,), repeats=1, steps=2, recipes=("default", "gatys-pytorch"))

OF_ROW = ("crop", "digests")  # facts of a picture that its row has
LIKENESS = ("ssim", "self_similarity", "gradients")  # the raters of content

Ratings = dict[str, float]
Row = dict[str, Any]


def measure(plan: Plan) -> Findings:
    """Paint every pair of pictures by every contestant, and rate the results.

    The canvas has the same size for all: the longer side of the content, and of the style, is that of
    the plan. Gram matrices and Gaussians are compared at the taps that none of the recipes reads. The
    content, and a part of the style with the shape of the canvas, are rated as if they were results:
    figures are held against theirs. Everything is rounded to 8 bits first.

    If the plan names a folder in which pictures are kept, those in it are not painted again, and all of
    them are rated, also those of contestants that the plan does not name. They may come from several
    machines; each has its own facts. One that cannot be rated is named in a note. Taps are chosen for
    the recipes that the plan names, too, so that their pictures can be added later.

    A row has the digests of its content and style, by which other files of the same name are refused
    later. If the plan names a record, its rows stay, but for pictures that are rated anew.

    Raises:
      ValueError: if there is no picture to rate, and if the record's ratings are of another kind.
    """
    params, kept = nst.load_params(), Gallery(plan.keep) if plan.keep else None
    left_out = _fill(kept, params, plan) if kept and plan.paint else []
    record = json.loads(plan.add_to.read_text("utf-8")) if plan.add_to else None
    old = merging.with_machines(record) if record else []
    entries = _entries_of(kept, plan, left_out, old) if kept else _painted_now(params, plan)
    names = {
        *plan.recipes,
        *(name for painted in entries.values() for name in painted),
        *(name for row in old for name in row["recipes"]),
    }
    everyone = {name: gallery.contestant(name, plan.steps) for name in sorted(names)}
    recipes = [each.recipe for each in everyone.values() if each.recipe is not None]
    taps = nst.raters.unused_taps(*recipes)
    digests = {pair: gallery.digests(pair, plan.pictures) for pair, _ in entries}
    merging.check_same_taps(old, taps)
    for pair, size in entries:
        merging.check_same_digests(old, size, plan.crop, digests[pair])
    rate = partial(_rated, _compiled_rate(params), taps)
    rows = [
        _row(rate, taps, plan, pair, size, everyone, painted)
        | {"digests": digests[pair]}
        | _preparation(plan, pair)
        for (pair, size), painted in entries.items()
    ]
    for row in rows:
        pair, size = (row["pair"][0], row["pair"][1]), max(row["size"])
        for name, figures in row["recipes"].items():
            sizes = [each for one, each in entries if one == pair and name in entries[one, each]]
            if min(sizes) < size:
                figures["reduced"] = _reduced(rate, plan, pair, min(sizes), name, entries, size)
    if old and not merging.checked_anchors(old, rows):
        _check_by_rating(rate, plan, old)
    notes = [
        f"Gram matrices and Gaussians are compared at {', '.join(taps)}, which no recipe here reads",
        "pictures were kept, with their seconds, compiled before"
        if kept
        else "seconds are those of `paint`, compiled before",
        "a rater marked * is biased: what it measures is near to what the recipe minimises",
        "compare figures of one pair and canvas only; docs/raters.md says what they can tell",
        *(
            f"{':'.join(pair)} at {size} px by {name}: {_in_words(one.facts)}"
            for (pair, size), painted in entries.items()
            for name, one in painted.items()
            if equal_time.misses(one.facts)
        ),
        *left_out,
    ]
    return Findings(merging.merged(old, rows), notes)


def paint_only(plan: Plan) -> None:
    """Paint what is not kept yet, without rating it; a picture that fails does not end the others.

    Sizes come in the order of the plan, then contestants, then pairs. If the plan has seconds, no
    picture is begun after them.

    Raises:
      ValueError: if something was not painted; the message counts and names it.
    """
    if plan.keep is None:
        raise ValueError("`keep`: there is nowhere to put the pictures; name a folder")
    failed = _fill(Gallery(plan.keep), nst.load_params(), plan)
    if failed:
        raise ValueError(f"{len(failed)} pictures were not painted: {'; '.join(failed)}")


Entries = dict[str, Painted]  # name of a contestant -> its picture of one pair


def _pairs(plan: Plan) -> Sequence[Pair]:
    return plan.named_pairs or PAIRS[: plan.pairs]


def _named(plan: Plan) -> list[Contestant]:
    return [gallery.contestant(name, plan.steps) for name in plan.recipes]


def _pictures(plan: Plan, pair: Pair, size: int) -> tuple[Any, Any]:
    """Return the content and the style of a pair, as contestants are given them."""
    content, style = (
        gallery.prepared(gallery.found(name, plan.pictures), size, plan.crop) for name in pair
    )
    return content, style


def _painted_now(params: nst.Params, plan: Plan) -> dict[tuple[Pair, int], Entries]:
    """Paint all pairs in all sizes by all contestants of the plan."""
    return {
        (pair, size): _timed(params, _pictures(plan, pair, size), size, _named(plan), plan.repeats)
        for pair in _pairs(plan)
        for size in plan.sizes
    }


def _fill(kept: Gallery, params: nst.Params, plan: Plan) -> list[str]:
    """Paint what is not kept yet, contestant by contestant, and keep it; return what failed."""
    end = time.monotonic() + (plan.seconds or math.inf)
    failed, painter = [], _Painter(kept, params, plan)
    for size, each, pair in itertools.product(plan.sizes, _named(plan), _pairs(plan)):
        what = kept.path(pair, size, each.name).stem
        one = kept.get(pair, size, each.name)
        if one is not None:
            there = one.facts.get("device")
            if each.clock and there not in (None, harness.device()):
                click.echo(
                    f"  {what}: is kept from {harness.device_in_words(there)}, where "
                    f"{one.facts['updates']} updates fitted into the time; to paint it on this device, "
                    "keep the pictures in another folder",
                    err=True,
                )
            continue
        if time.monotonic() > end:
            failed.append(f"{what}: no time was left")
            continue
        try:
            painted = painter(each, pair, size)
            if kept.get(pair, size, each.name) is None:  # as before, in another process, too
                kept.put(pair, size, each.name, painted)
            click.echo(f"  {what}: {_in_words(painted.facts)}", err=True)
        except Exception as error:  # one failure must not lose the others, which take hours
            failed.append(f"{what}: {_first_line(error)}")
            click.echo(f"  {failed[-1]}", err=True)
    return failed


class _Painter:
    """Paints pictures that are kept, each with programs that are compiled before."""

    def __init__(self, kept: Gallery, params: nst.Params, plan: Plan):
        self.kept, self.params, self.plan = kept, params, plan
        self.warm: set[Any] = set()
        self.fitted: dict[Any, int] = {}  # updates that fitted into a time, for the last pair
        self.failed: dict[tuple[str, Pair, int], str] = {}

    def __call__(self, each: Contestant, pair: Pair, size: int) -> Painted:
        """Paint a pair; a contestant that paints in the time of another one needs that one's first.

        What failed is not tried again, since many may need it.
        """
        what = each.name, pair, size
        if what in self.failed:
            raise ValueError(f"`equal_time`: {each.name} failed: {self.failed[what]}")
        try:
            return self._paint(each, pair, size)
        except Exception as error:
            self.failed[what] = _first_line(error)
            raise

    def _paint(self, each: Contestant, pair: Pair, size: int) -> Painted:
        budget = self.budget(each.clock, pair, size) if each.clock else None
        content, style = _pictures(self.plan, pair, size)
        given = self.params, content, style, f"long:{size}"
        # The shapes are those of the files unless they are cropped; the size is that of the canvas.
        programs = gallery.own_and_clock(each.name)[0], size, content.shape, style.shape
        if programs not in self.warm:
            what = self.kept.path(pair, size, each.name).stem
            seconds, _ = harness.timed(partial(each.warm_up, *given))
            click.echo(f"  {what}: {seconds:.1f} s to compile and begin", err=True)
            self.warm.add(programs)
        if budget is None:
            painted = each.paint(*given)
        else:
            own, key = each.updates_by_scale(content, f"long:{size}"), (each.name, programs)
            painted = equal_time.paint(
                budget,
                own,
                lambda updates: each.with_updates(updates).paint(*given),
                self.fitted.get(key),
            )
            self.fitted[key] = painted.facts["updates"]
        facts = {
            "crop": self.plan.crop,
            "at_once": self.plan.at_once,
            "digests": gallery.digests(pair, self.plan.pictures),
        }
        return painted._replace(facts=painted.facts | facts)

    def budget(self, clock: str, pair: Pair, size: int) -> dict[str, Any]:
        """Return the time that a contestant takes on this device, as `time_of`.

        Its `seconds` are those of `equal_time.taken`; `commit` is that at which they were measured. If
        its kept picture has no such time, it is painted again. The kept picture stays, and its facts
        get the time.
        """
        one = self.kept.get(pair, size, clock)
        if one is not None and (said := _of_other_pictures(one.facts, pair, self.plan)):
            raise ValueError(
                f"`equal_time`: kept {clock} cannot be used: {said}; keep the pictures in another "
                "folder"
            )
        each = gallery.contestant(clock, one.facts["updates"] if one else self.plan.steps)
        measured = self._time_here(each, one)
        if measured is None:
            again = self(each, pair, size)
            now = self.kept.get(pair, size, clock)  # another process may have painted it meanwhile
            measured = self._time_here(each, now)
            if now is None:
                self.kept.put(pair, size, clock, again)
            elif measured is None:
                others = [*now.facts.get("other_times", ()), merging.time_of(again.facts)]
                self.kept.put_facts(pair, size, clock, now.facts | {"other_times": others})
            measured = measured or again.facts
        return {
            "name": clock,
            "seconds": equal_time.taken(measured),
            "commit": measured.get("commit"),
        }

    def _time_here(self, each: Contestant, one: Painted | None) -> dict[str, Any] | None:
        if one is None:
            return None
        return equal_time.time_here(one.facts, each.precision, self.plan.at_once)


def _first_line(error: Exception) -> str:
    line = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {line[:240]}"


def _of_other_pictures(facts: Mapping[str, Any], pair: Pair, plan: Plan) -> str:
    """Say that a kept picture was painted with another crop, or from other files of the same names.

    Empty if it was not. Facts that were written before digests were do not tell of other files.
    """
    if facts.get("crop") != plan.crop:
        return f"it was painted with `--crop {facts.get('crop')}`, not {plan.crop}"
    now = gallery.digests(pair, plan.pictures)
    return merging.difference(facts.get("digests", now), now, "when it was painted")


def _in_words(facts: Mapping[str, Any]) -> str:
    text = f"{facts['seconds']['median']:.3g} s"
    if "time_of" not in facts:
        return text
    of = facts["time_of"]
    ratio = equal_time.taken(facts) / of["seconds"]
    return f"{text}, {facts['updates']} updates in {ratio:.2f} of the time of {of['name']}"


def _entries_of(
    kept: Gallery, plan: Plan, left_out: list[str], old: Sequence[Row] = ()
) -> dict[tuple[Pair, int], Entries]:
    """Return the kept pictures that can be rated, and add a line for each other one to `left_out`.

    Args:
      kept: the folder of pictures.
      plan: its sizes, pairs and crop.
      left_out: the lines of what was not painted.
      old: the rows of the record to which ratings are added.
    """
    found: dict[tuple[Pair, int], Entries] = {}
    for size in plan.sizes:
        for pair in plan.named_pairs or kept.pairs(size):
            for name in kept.names(pair, size):
                what = kept.path(pair, size, name).stem
                try:
                    gallery.contestant(name)
                    _pictures(plan, pair, size)
                    one = kept.get(pair, size, name)
                except ValueError as error:
                    left_out.append(f"{what} was not rated: {error}")
                    continue
                if one is None:
                    left_out.append(f"{what} was not rated: its facts are missing")
                elif said := _of_other_pictures(one.facts, pair, plan):
                    left_out.append(f"{what} was not rated: {said}")
                else:
                    found.setdefault((pair, size), {})[name] = one
    for (pair, size), painted in list(found.items()):
        before = merging.figures_of(old, pair, size, plan.crop)
        facts = {name: one.facts for name, one in painted.items()}
        for name, said in merging.not_addable(before, facts).items():
            left_out.append(f"{kept.path(pair, size, name).stem} was not rated: {said}")
            del painted[name]
        if not painted:
            del found[pair, size]
    for line in left_out:
        click.echo(f"  {line}", err=True)
    if not found:
        sizes = ", ".join(map(str, plan.sizes))
        raise ValueError(
            f"`keep`: has no picture to rate at {sizes} px; paint some first, without --no-paint"
        )
    return found


def _timed(
    params: nst.Params,
    pictures: tuple[Any, Any],
    size: int,
    named: Sequence[Contestant],
    repeats: int,
) -> Entries:
    """Paint a pair in turn by all contestants, and add their seconds to the facts."""
    content, style = pictures
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
    taps: tuple[str, ...],
    plan: Plan,
    pair: Pair,
    size: int,
    everyone: Mapping[str, Contestant],
    painted: Entries,
) -> Row:
    content, style = _pictures(plan, pair, size)
    shape = nst.recipes.sizes.LongEdge(size).shape(*content.shape[:2])
    held = gallery.anchors(content, style, shape)
    click.echo(f"  rating {', '.join(painted)} of {':'.join(pair)} at {size} px", err=True)
    return {
        "pair": list(pair),
        "size": list(shape),
        "crop": plan.crop,
        "taps": list(taps),
        "anchors": {name: rate(image, content, style) for name, image in held.items()},
        "recipes": {
            name: {
                **{name: value for name, value in one.facts.items() if name not in OF_ROW},
                "parties": everyone[name].biased_raters,
                "ratings": rate(one.image, content, style),
            }
            for name, one in painted.items()
        },
    }


def _preparation(plan: Plan, pair: Pair) -> Row:
    """Return how the pictures of a pair were prepared, if they are not all samples of the package."""
    own = all(name in nst.images.SAMPLES for name in pair)
    return {} if own or not plan.prepared else {"prepared": plan.prepared}


def _reduced(
    rate: Any,
    plan: Plan,
    pair: Pair,
    size: int,
    name: str,
    entries: Mapping[tuple[Pair, int], Entries],
    larger: int,
) -> Row:
    """Reduce a contestant's larger picture to the size of its smallest, rate it, and compare the two.

    Returns:
      `to`: the canvas. `ratings`: those of the reduced picture. `likeness`: the raters of content, with
      the smallest picture in place of the photograph.
    """
    content, style = _pictures(plan, pair, size)
    small, large = (entries[pair, each][name].image for each in (size, larger))
    shape = small.shape[:2]
    reduced = gallery.as_saved(nst.recipes.filters.antialiased(large, shape))
    likeness = rate(reduced, small, style)
    return {
        "to": list(shape),
        "ratings": rate(reduced, content, style),
        "likeness": {rater: likeness[rater] for rater in LIKENESS},
    }


def _check_by_rating(rate: Any, plan: Plan, old: Sequence[Row]) -> None:
    """Rate the anchors of a row whose pictures are here again, and compare them with the record's."""
    others: list[ValueError] = []
    for row in old:
        pair, size = (row["pair"][0], row["pair"][1]), max(row["size"])
        then = replace(plan, crop=row["crop"])
        try:
            content, style = _pictures(then, pair, size)
        except ValueError:  # its pictures are on another machine
            continue
        try:
            digests = gallery.digests(pair, plan.pictures)
            merging.check_same_digests([row], size, row["crop"], digests)
        except ValueError as error:  # others of the same name are here
            others.append(error)
            continue
        held = gallery.anchors(content, style, (row["size"][0], row["size"][1]))
        again = {name: rate(image, content, style) for name, image in held.items()}
        merging.check_same_anchors(row, row | {"anchors": again})
        return
    if others:
        raise others[0]
    raise ValueError(
        "`add`: none of the record's pictures are here, so that its ratings cannot be checked; name "
        "their folder by --pictures"
    )
