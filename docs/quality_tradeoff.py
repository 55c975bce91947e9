"""Whether `default` trades nearness to the photograph for nearness to the style better than others.

A section of `quality.md`, see `quality_page`. It is made of the record of `strength`, which has several
recipes with nine style weights each, and of pictures by `default` with another style weight in the
record of `quality`, if there are any.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

import nst_jax as nst
from docs.quality_aims import AIMS, OF, OURS, Aim, ahead, placed_before
from docs.wording import in_words, plural

STRENGTH = Path(__file__).resolve().parent.parent / "benchmarks" / "results" / "strength-cpu.json"
VARIANTS = (
    f"{OURS}@style"  # names of contestants that are `default` with another style weight begin so
)

Json = dict[str, Any]


def section(rows: Sequence[Json], blind: Sequence[Json] = (), strength: Path = STRENGTH) -> str:
    """Return the section as Markdown.

    Args:
      rows: the rows of one canvas, some of them with a variant of `default`; none if there is no such
        canvas.
      blind: the counts of blind verdicts.
      strength: the record of `strength`.
    """
    record = json.loads(strength.read_text("utf-8"))
    by_weight = [_by_weight(rows, blind)] if variants(rows) else []
    return "\n".join((TITLE, _at_equal_ssim(record), *by_weight))


TITLE = """## At the same nearness to the photograph

On a pair where neither of two recipes is ahead, one is nearer to the style and the other to the
photograph. That alone says little: with more style weight, any recipe comes nearer to the style and
farther from the photograph. So the question is who is nearer to the style at the same SSIM.
"""


BY_WEIGHT = """### With another style weight

Would a larger style weight reach the aims that are missed? {meaning}. At {size} px, it is ahead on so
many pairs, and judges of blind sheets preferred it in so many verdicts:
"""

KEPT = " Therefore the weight of `default` was left as it is."


def variants(rows: Sequence[Json]) -> list[str]:
    """Return the names of the contestants that are `default` with another style weight."""
    return sorted({name for row in rows for name in row["recipes"] if name.startswith(VARIANTS)})


def _by_weight(rows: Sequence[Json], blind: Sequence[Json]) -> str:
    names = (OURS, *variants(rows))
    with_all = [row for row in rows if set(names) <= set(row["recipes"])]
    others = sorted({name for row in with_all for name in row["recipes"]} - set(names))
    longer = max(rows[0]["size"])
    sheets = [counts for counts in blind if counts["sizes"] == [longer]]
    meaning = "; ".join(
        f"`{name}` is `{OURS}` with {name.removeprefix(VARIANTS)} times its style weight"
        for name in names[1:]
    )
    columns = [f"`{name}` ahead" for name in names] + [f"verdicts for `{name}`" for name in names]
    lines = [
        BY_WEIGHT.format(size=longer, meaning=meaning),
        f"| against | {' | '.join(columns)} |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for other in others:
        by_raters = (ahead(with_all, name, other) for name in names)
        by_judges = (placed_before(sheets, name, other)[:2] for name in names)
        cells = [f"{won} of {of}" if of else "" for won, of in (*by_raters, *by_judges)]
        lines.append(f"| `{other}` | {' | '.join(cells)} |")
    lines += ["", *(_concluded(name, with_all, sheets) for name in names[1:])]
    return "\n".join(lines) + "\n"


def _concluded(variant: str, rows: Sequence[Json], sheets: Sequence[Json]) -> str:
    """Say what raters and judges find of a variant of `default`, and what that means for the choice.

    Args:
      variant: name of the variant.
      rows: the rows of the pairs that the variant painted.
      sheets: the counts of blind verdicts.
    """
    wins, of, _ = placed_before(sheets, OURS, variant)
    if not of:
        return f"No judge has compared `{OURS}` with `{variant}`."
    reached = [
        f"`{aim.other}`"
        for aim in AIMS
        if _reaches(variant, rows, aim) and not _reaches(OURS, rows, aim)
    ]
    by_raters = (
        f"By raters, `{variant}` reaches {plural(len(reached), 'the aim')} against "
        f"{in_words(reached)}, which `{OURS}` misses. "
        if reached
        else ""
    )
    by_judges = (
        f"Side by side, judges preferred `{OURS}` to `{variant}` in {wins} of {of} verdicts."
    )
    return f"{by_raters}{by_judges}{KEPT if 2 * wins > of else ''}"


def _reaches(name: str, rows: Sequence[Json], aim: Aim) -> bool:
    """Return whether a contestant is ahead on as many pairs as an aim wants of `default`."""
    count, of = ahead(rows, name, aim.other, ties=aim.ties)
    return count * OF >= aim.pairs * max(OF, of)


# --- At equal nearness to the photograph ----------------------------------------------------------


def style_at(ssim: float, curve: Sequence[tuple[float, float]]) -> float | None:
    """Return a recipe's distance to the style at an SSIM; None if none of its weights has that.

    Args:
      ssim: the structural similarity to the photograph.
      curve: (SSIM, distance of style vectors) of the recipe with several weights, by rising weight.

    Example:
      >>> style_at(0.5, [(0.8, 2.0), (0.6, 1.0), (0.4, 0.5)])
      0.75
    """
    for (before, far), (after, near) in pairwise(curve):
        if before >= ssim >= after and before > after:
            return far + (near - far) * (before - ssim) / (before - after)
    return None


def equal_ssim(rows: Sequence[Json], other: str) -> list[tuple[float, float]]:
    """Return the distances to the style of another recipe, and of `default` at the same SSIM.

    Args:
      rows: of the record of `strength`.
      other: the other recipe, with its own style weight.

    Returns:
      A tuple for each pair whose SSIM lies between those that `default` reaches.
    """
    by_pair: dict[tuple[str, ...], Json] = {}
    for row in rows:
        by_pair.setdefault(tuple(row["pair"]), {})[row["recipe"]] = row
    found = []
    for recipes in by_pair.values():
        if {OURS, other} <= set(recipes):
            theirs, curve = _curve(recipes[other]), _curve(recipes[OURS])
            # The first rating is that of the photograph itself.
            ssim, style = theirs[1 + recipes[other]["exponents"].index(0.0)]
            ours = style_at(ssim, curve)
            if ours is not None:
                found.append((style, ours))
    return found


def _curve(row: Json) -> list[tuple[float, float]]:
    return list(zip(row["ratings"]["ssim"], row["ratings"]["style_vector"], strict=True))


CONDITIONS = """\
A [record](../benchmarks/results/strength-cpu.json) of `python -m benchmarks strength` has pictures of
each recipe at {size} px with nine style weights, from a thousandth to ten times its own. All made
{steps} updates (by their own settings: {own}), so this says nothing of finished pictures.

The other recipe has its own weight. Its SSIM on a pair is the one at which both are compared. The
distance of `{ours}` to the style at that SSIM is interpolated between two of its weights. A pair is
left out if even with ten times its weight `{ours}` has a higher SSIM. Recipes that are not in the
table were not measured like this.
"""


def _at_equal_ssim(record: Json) -> str:
    rows, plan = record["rows"], record["plan"]
    names = dict.fromkeys(row["recipe"] for row in rows if row["recipe"] != OURS)
    own = ", ".join(f"`{name}` {nst.recipes.named(name).descent.steps}" for name in (OURS, *names))
    lines = [
        CONDITIONS.format(ours=OURS, size=plan["sizes"][0], steps=plan["steps"], own=own),
        f"| against | pairs compared | `{OURS}` nearer to the style on | mean distance of the other |"
        f" mean distance of `{OURS}` |",
        "|---|---|---|---|---|",
    ]
    for name in names:
        found = equal_ssim(rows, name)
        of = sum(row["recipe"] == name for row in rows)
        nearer = sum(ours < theirs for theirs, ours in found)
        theirs, ours = (fmean(one[place] for one in found) for place in (0, 1))
        cells = [f"{len(found)} of {of}", str(nearer), f"{theirs:.2f}", f"{ours:.2f}"]
        lines.append(f"| `{name}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
