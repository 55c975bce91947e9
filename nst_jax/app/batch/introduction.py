"""What a batch prints before it paints: recipes, sizes, memory, buckets and notes.

A recipe has the settings of a style transfer. A bucket is a larger array in which a picture lies, so
that pictures of several sizes are painted by one compiled program.
"""

import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import jax

from nst_jax import _files, provenance, run_scales
from nst_jax.app.batch import groups
from nst_jax.app.batch.destinations import stem_of
from nst_jax.app.batch.entries import Entry
from nst_jax.app.batch.group_painting import plan_group
from nst_jax.app.batch.groups import Group
from nst_jax.app.batch.job import BatchJob
from nst_jax.app.batch.kept_groups import kept_among
from nst_jax.app.formatting import few
from nst_jax.app.introduction import introduce, strength_words
from nst_jax.app.plan_report import bucket_line, memory_line, precision_words
from nst_jax.app.progress import Display
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.walk import name_to_show
from nst_jax.scaling import buckets
from nst_jax.weights.params import WeightsInfo


def introduce_batch(
    job: BatchJob,
    weights: WeightsInfo,
    done: int,
    display: Display,
    parts: Sequence[Group] | None,
) -> None:
    """Show how many pictures will be painted, by which recipes, and how much memory that takes.

    Args:
      job: the batch without its finished pictures.
      weights: description of the weights file.
      done: number of finished pictures, which are skipped.
      display: where the lines are shown.
      parts: the groups of pictures that are painted together, from which the needed memory is
        estimated; None if other processes paint, on devices and with memory that are not known here.
    """
    entries = job.entries
    counts = Counter((e.recipe.name, sum(scale.steps for scale in e.scales)) for e in entries)
    names = [
        f"{name}, {steps} updates each" + ("" if len(counts) == 1 else f" ({count})")
        for (name, steps), count in counts.items()
    ]
    rules = {
        f"{p.size}, {name_to_show(p.resize)}; styles: {p.style_size or p.size}"
        for p in (entry.recipe.pictures for entry in entries)
    }
    precisions = Counter((e.recipe.network.precision.name, e.auto_on) for e in entries)
    precision = [
        precision_words(name, auto_on) + ("" if len(precisions) == 1 else f" ({count})")
        for (name, auto_on), count in precisions.items()
    ]
    memory = {}
    if parts is not None:
        memory = {"memory": _memory_words(job, parts)}
        one_shape = len({entry.scales[-1].shape for entry in entries}) == 1
        programs = len(groups.programs_of(parts, job.chunk, job.mesh))
        if job.bucket is not None and not (job.bucket == buckets.AUTO and one_shape):
            kept = kept_among(parts, chunk=job.chunk, mesh=job.mesh)
            loaded = len(groups.programs_of(kept, job.chunk, job.mesh))
            memory = {"bucket": _bucket_words(parts, programs, loaded), **memory}
    strengths = Counter(
        "the recipe's own weights"
        if entry.strength is None
        else strength_words(entry.recipe, entry.strength)
        for entry in entries
    )
    strength = {}
    if any(entry.strength is not None for entry in entries):
        counted = [
            words + ("" if len(strengths) == 1 else f" ({n})") for words, n in strengths.items()
        ]
        strength = {"strength": few(counted, "; ")}
    rule = f" ({rules.pop()})" if len(rules) == 1 else ""
    shapes = sorted({entry.scales[-1].shape for entry in entries}, reverse=True)
    pictures = f"{len(entries)}, to {job.folder}"
    textures = sum(entry.content is None for entry in entries)
    pictures += f"; {textures} of them textures" if textures else ""
    pictures += f"; {done} more are finished and skipped" if done else ""
    lines = {
        "recipe" if len(counts) == 1 else "recipes": few(names, "; "),
        "precision": few(precision, "; "),
        **strength,
        "sizes": few([f"{width}x{height} px" for height, width in shapes]) + rule,
        "pictures": pictures,
        **memory,
    }
    recipes: dict[str, Recipe] = {entry.recipe.name: entry.recipe for entry in entries}
    introduce(
        display,
        device=None if parts is None else provenance.device(),
        weights=weights._asdict(),
        lines=lines,
        recipes=recipes.values(),
        notes=[*_renamed(entries), *_enlarged(entries)],
    )


def _memory_words(job: BatchJob, parts: Sequence[Group]) -> str:
    """Return one line of text about the memory of the group of pictures that takes the most memory.

    The pictures of a group are painted together. If no group fits into memory, the text is "not known".
    """
    # Groups with an equal `key` take equal memory, so only one of them is planned. `key` contains the
    # structure of a recipe but not its numbers, on which memory does not depend.
    alike = {}
    for group in parts:
        first, last = group.entries[0], group.scales[-1]
        shapes = frozenset(
            shape for entry in group.entries for shape in entry.scales[-1].style_shapes
        )
        masks = first.scales[-1].regions, first.scales[-1].protected
        key = jax.tree.structure(first.recipe), last.shape, shapes, masks, len(group.entries)
        alike[key] = group
    plans = []
    for group in alike.values():
        # A group that does not fit into memory is left out here; `paint_group` reports it later.
        with suppress(ValueError):
            plans.append(plan_group(group, job))
    if not plans:
        return "not known"
    largest = max(plans, key=lambda plan: plan.footprint.total)
    words = {memory_line(plan) for plan in plans}
    return memory_line(largest) + (" at most" if len(words) > 1 else "")


def _bucket_words(parts: Sequence[Group], programs: int, kept: int = 0) -> str:
    """Return one line of text about the buckets: larger arrays, of few sizes, in which pictures lie.

    `programs` is the number of compiled programs for each scale (resolution). Of these, `kept` are on
    disk from earlier runs, so they need not be compiled again.
    """
    pairs = [(entry.scales, group.scales) for group in parts for entry in group.entries]
    runs, arrays = zip(*pairs, strict=True)
    return bucket_line(runs, arrays, programs, kept)


def _enlarged(entries: Sequence[Entry]) -> list[str]:
    """Return a list with one note on all styles that `--style-scale` enlarges beyond their own sizes.

    The list is empty if there are no such styles.
    """
    names: dict[str, None] = {}
    for entry in entries:
        if entry.recipe.pictures.style_scale is None:
            continue
        originals = [style.shape for style in entry.every_style]
        shapes = entry.scales[-1].style_shapes
        for index in run_scales.enlarged_styles(originals, shapes, entry.recipe):
            names[entry.every_style[index].name] = None
    if not names:
        return []
    return [
        f"`--style-scale` enlarges {few(list(names))} beyond the pixels they have, which blurs their "
        "fine strokes; use style pictures with more pixels for sharp ones"
    ]


def _renamed(entries: Sequence[Entry]) -> list[str]:
    """Return a note for each result to whose file name a number was added, as in `cat_night-2.png`.

    Without the number, another result of the batch would have the same file name. The note says from
    which pictures the result is painted.
    """
    notes = []
    for entry in entries:
        blended = entry.recipe.terms.blended_styles(entry.styles)
        stem = stem_of(entry.content, blended)
        number = re.search(r"-\d+$", entry.output.stem)
        suffix = entry.output.suffix
        if number and entry.output.name == _files.fitting_name(stem, number[0] + suffix):
            styles = " and ".join(map(str, entry.styles))
            what = "a texture of" if entry.content is None else f"{entry.content} with"
            notes.append(f"{entry.output.name} is {what} {styles}")
    return notes
