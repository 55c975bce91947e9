"""The command `sweep`: paint one content and style with many values of one or two settings, as a grid.

A sweep has one or two axes; an axis is a setting of the recipe with its values. Each canvas (a picture
that is painted) gets one value of each axis. In the recipe, the setting becomes an array with one
number for each canvas, so that one program, under `vmap`, paints many canvases. (If sets of style
layers are swept, the weight of each layer becomes an array.)

The canvases are painted in groups of equal size, so that all groups run the same program. The larger a
group, the less time each canvas takes, but only up to a certain size. So the size of the groups is the
largest divisor of the number of canvases that is not above that size. A group that does not fit into
memory is divided further.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nst_jax import _checks, _files, images, provenance, run_scales, vgg
from nst_jax._types import Params
from nst_jax.app.compiling_ahead import Ahead
from nst_jax.app.controls import ReadControls, given_of
from nst_jax.app.introduction import (
    finishing_lines,
    introduce,
    strength_words,
    style_scale_notes,
)
from nst_jax.app.job import Job
from nst_jax.app.messages import as_flags, naming_style
from nst_jax.app.plan_report import bucket_line, memory_line, precision_line, px
from nst_jax.app.programs import compiled_of_batch
from nst_jax.app.progress import STALLED, BatchProgress, Display, GroupWork, divergence, stalled
from nst_jax.app.timing import CompileClock
from nst_jax.app.watch import PollingWatch
from nst_jax.app.writing import where_instead, write_picture
from nst_jax.batch_members import members_of
from nst_jax.control_checks import check_controls, notes_on_regions
from nst_jax.controls.given import BatchControls, Given
from nst_jax.descent import intervals_of, remedy_at_rest
from nst_jax.images import sheets
from nst_jax.planned_batches import paint_batch
from nst_jax.provenance import roles
from nst_jax.recipes.changes import with_learning_rate
from nst_jax.recipes.checking import check
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.starts import same_start
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_plans import plan_bucket
from nst_jax.scaling.chunk_size import worthwhile_divisor
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import Devices
from nst_jax.weights.params import WeightsInfo

# The settings that can be swept, and their titles in the grid. If two are swept, the first in this
# order makes the rows. The settings are applied in this order, too: `ratio` comes after `style_weight`,
# since it sets the content weight to a multiple of the new style weight.
TITLES = {
    "layers": "style layers",
    "style_weight": "style weight",
    "tv_weight": "weight of total variation",
    "learning_rate": "learning rate",
    "ratio": "content weight / style weight",
}

# Words that `--layers` takes in place of names of layers. "cumulative" means the first style layer, the
# first two, and so on up to all of them; "single" means each layer alone.
SETS = ("cumulative", "single")


class Axis(NamedTuple):
    """A setting that a sweep varies, and its values."""

    name: str  # a key of `TITLES`
    values: tuple[Any, ...]  # numbers, or sets of layers: tuples of names of style layers
    labels: tuple[str, ...]  # for each value, the text that the grid shows


@dataclass(frozen=True, kw_only=True)
class SweepJob(Job):
    """The checked inputs and options of a sweep, which paints many pictures (canvases) in one grid.

    Attributes:
      content: the content picture.
      styles: the style picture, or several to blend.
      rows: the axis with one value for each row, or None for a single row.
      columns: the axis with one value for each column.
      labels: for each canvas, row by row, its swept values as text.
      plan: the plan of one group: the canvases that are painted together. In its recipe, however, swept
        numbers are arrays with one number for each canvas of the whole grid.
      scales: the scales (resolution levels), with the sizes of each canvas. With `--bucket`, canvases
        lie in larger arrays, and `plan` has the sizes of these arrays instead.
      controls: regions with styles of their own, and the protected part, which stays as it is in the
        content; the same for all canvases.
      given: `controls` after their check, with the opacities of the pictures; None if there are no
        regions and no protected part, and all pictures are opaque.
      notes: what the user should know about `controls` and about transparent pictures.
      combined: the first style with the fine structure of another picture (`--style-fine`), [h, w, 3]
        at the final size, for all canvases; None if the first style is used as read.
      strength: the strength, 0 to 1, from `--strength`, `--set` or the recipe file; it has changed the
        style weight of all canvases. None if none was given.
      output: path of the grid's picture.
      overwrite: whether an existing file at `output` may be replaced.
    """

    content: images.Picture
    styles: tuple[images.Picture, ...]
    rows: Axis | None
    columns: Axis
    labels: tuple[str, ...]
    plan: Plan
    scales: tuple[run_scales.Scale, ...]
    controls: ReadControls = ReadControls()
    given: Given | None = None
    notes: tuple[str, ...] = ()
    combined: Float[np.ndarray, "h w 3"] | None = None
    strength: float | None = None
    output: Path
    overwrite: bool = True

    @property
    def pair(self) -> str:
        """The names of content and styles as text, such as "cat.jpg with sea.jpg"."""
        return f"{self.content.name} with {' and '.join(style.name for style in self.styles)}"


class PaintedCell(NamedTuple):
    """One painted picture of a sweep, its place in the grid, and what went wrong."""

    cell: int  # index in the grid, counted row by row from 0
    image: np.ndarray
    problem: str  # a message if losses were not finite or nothing was painted; else empty


# --- Axes -----------------------------------------------------------------------------------------


def layer_sets(text: str, taps: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the sets of style layers that `--layers` asks for.

    Args:
      text: `"cumulative"` (sets of the first layer, of the first two, and so on up to all layers),
        `"single"` (each layer alone), or sets separated by commas, each with `+` between its layers,
        such as `"relu1_1,relu1_1+relu2_1"`. In such sets, other names that `vgg.resolve_taps` accepts
        can be used, too, such as `"r21"` for `"relu2_1"`.
      taps: the names of the recipe's style layers, which are those that its style loss reads.

    Returns:
      The sets, each in the order of `taps`.

    Raises:
      ValueError: if `text` is an unknown word, names a layer that is not in `taps`, or names a layer
        twice in one set.

    Example:
      >>> layer_sets("cumulative", ("relu1_1", "relu2_1"))
      (('relu1_1',), ('relu1_1', 'relu2_1'))
      >>> layer_sets("r21,r21+r11", ("relu1_1", "relu2_1"))
      (('relu2_1',), ('relu1_1', 'relu2_1'))
    """
    if text == "cumulative":
        return tuple(tuple(taps[: count + 1]) for count in range(len(taps)))
    if text == "single":
        return tuple((tap,) for tap in taps)
    if not any(sign.isdigit() for sign in text):
        raise _checks.unknown("layers", text, SETS, "kind of sets")
    found = []
    for part in text.split(","):
        chosen = vgg.resolve_taps(part.split("+"), argument="layers")
        for tap in chosen:
            if tap not in taps:
                raise _checks.unknown("layers", tap, taps, "style layer in the recipe")
        found.append(tuple(tap for tap in taps if tap in chosen))
    return tuple(found)


def axis_of(name: str, value: Any, recipe: Recipe) -> Axis:
    """Return the axis of the grid that an option of the command gives: a setting and its values.

    An axis with a single value is not swept: all canvases get this value.

    Args:
      name: a key of `TITLES`.
      value: numbers, or the text of `--layers`.
      recipe: the recipe, from whose style layers `--layers` selects.

    Returns:
      The axis.

    Raises:
      ValueError: if there are no values, or if a number or a layer cannot be used.
    """
    if name == "layers":
        sets = layer_sets(value, recipe.terms.style_taps)
        return Axis(name, sets, tuple(map(_short, sets)))
    values = tuple(value)
    if not values:
        raise ValueError(f"`{name}`: is empty; give at least one number")
    _checks.number(name, np.asarray(values), least=0)
    return Axis(name, values, _numerals(values))


def _short(taps: Sequence[str]) -> str:
    """Return the names of several layers, shortened: "relu1_1 +2_1" for `("relu1_1", "relu2_1")`."""
    first, *others = taps
    kind = first.rstrip("0123456789_")
    return " +".join([first, *(tap.removeprefix(kind) for tap in others)])


def _numerals(values: Sequence[float]) -> tuple[str, ...]:
    """Return numbers as text, for the labels of an axis: in Python's format `g`, such as "0.5".

    If this format gives any of them an exponent, all but 0 get one, such as "1e-5", so that the labels
    look alike.
    """
    plain = tuple(f"{value:g}" for value in values)
    if not any("e" in text for text in plain):
        return plain
    return tuple(
        np.format_float_scientific(float(text), trim="-", exp_digits=1) if value else "0"
        for value, text in zip(values, plain, strict=True)
    )


def shape_of(axes: Sequence[Axis]) -> tuple[Axis | None, Axis]:
    """Return the axes of the grid's rows and columns: those with several values.

    If only one axis has several values, it becomes the columns. If each axis has a single value, the
    first axis becomes the columns.

    Args:
      axes: all axes that were given, in the order of `TITLES`.

    Returns:
      The axis of the rows, or None for a single row; and the axis of the columns.

    Raises:
      ValueError: if no axis is given, or if more than two have several values.
    """
    if not axes:
        known = ", ".join(map(_flag, TITLES))
        raise ValueError(f"`ratio`: nothing is swept; give several values of one or two of {known}")
    swept = [axis for axis in axes if len(axis.values) > 1] or [axes[0]]
    if len(swept) > 2:
        one, two, three, *_ = (axis.name for axis in swept)
        raise ValueError(
            f"`{three}`: is swept beside `{_flag(one)}` and `{_flag(two)}`; a grid has two axes, so "
            "give several values of two at most"
        )
    return (swept[0], swept[1]) if len(swept) == 2 else (None, swept[0])


def _flag(name: str) -> str:
    return "--lr" if name == "learning_rate" else f"--{name.replace('_', '-')}"


def with_swept_values(
    recipe: Recipe, axes: Sequence[Axis], rows: Axis | None, columns: Axis
) -> Recipe:
    """Return the recipe with the values of all axes; swept numbers are arrays, one number per picture.

    Args:
      recipe: a recipe without arrays.
      axes: all axes that were given, in the order of `TITLES`. An axis that makes neither the rows nor
        the columns has a single value, which all pictures get.
      rows: the axis of the rows of the grid, or None for a single row.
      columns: the axis of the columns.

    Returns:
      The recipe, whose swept numbers are arrays [number of rows * number of columns], row by row.

    Raises:
      ValueError: if a learning rate is given but the optimiser has none, or if sets of layers are given
        but the style loss reads all layers together.
    """
    count = 1 if rows is None else len(rows.values)
    for axis in axes:
        if axis is columns:
            chosen = list(axis.values) * count
        elif axis is rows:
            chosen = [value for value in axis.values for _ in columns.values]
        else:
            chosen = [axis.values[0]]
        recipe = _with_value(recipe, axis.name, chosen)
    return recipe


def _with_value(recipe: Recipe, name: str, chosen: Sequence[Any]) -> Recipe:
    if name == "layers":
        return _with_layers(recipe, chosen)
    numbers: Any = np.asarray(chosen)
    numbers = numbers if len(chosen) > 1 else numbers[0]
    if name == "learning_rate":
        return with_learning_rate(recipe, numbers)
    if name == "ratio":
        name, numbers = "content_weight", numbers * np.asarray(recipe.terms.style_weight)
    return replace(recipe, terms=replace(recipe.terms, **{name: numbers}))


def _with_layers(recipe: Recipe, chosen: Sequence[Sequence[str]]) -> Recipe:
    """Turn each style layer's weight into an array with one number for each set of layers in `chosen`.

    If there is only one set, the weight stays a single number.

    Let a set have n of the recipe's N style layers. The weights of the layers in the set are multiplied
    by N / n. So the sum of the weights stays the same if all are equal in the recipe. The weights of
    the other layers are multiplied by 0.
    """
    terms = recipe.terms
    if getattr(terms.style_loss, "parts", ()):
        raise ValueError(
            "`layers`: the style loss of this recipe reads all layers together; sweep something else"
        )
    weights: list[Any] = []
    for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True):
        factors = [len(terms.style_taps) / len(taps) if tap in taps else 0.0 for taps in chosen]
        weights.append(weight * np.asarray(factors if len(factors) > 1 else factors[0]))
    return replace(recipe, terms=replace(terms, style_layer_weights=tuple(weights)))


# --- Jobs -----------------------------------------------------------------------------------------


def sweep_job(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    values: Mapping[str, Any],
    *,
    controls: ReadControls | None = None,
    chunk: int | None = None,
    devices: Devices = None,
    bands: int = 1,
    bucket: int | None = None,
    **options: Any,
) -> SweepJob:
    """Check the inputs and options of a sweep, and plan the painting of its pictures (canvases).

    Args:
      content: the content picture.
      styles: the style picture, or several to blend.
      recipe: the recipe, with the changes by all options of the command except those in `values`.
      values: name of a setting (a key of `TITLES`) -> its values: numbers, or for "layers" the text of
        `--layers`.
      controls: regions with styles of their own, and the part that keeps the content, as they were read
        from files; None if there are none.
      chunk: largest number of canvases painted at once; None means as many as fit into memory, up to
        the number beyond which painting more at once is no faster.
      devices: the devices that share the canvases: a number of devices, "all", or a list of them. None
        means one device.
      bands: number of devices that share each canvas.
      bucket: side in px of the square array in which each canvas lies, so that a sweep of another
        picture runs the same programs; None: the canvases fill their arrays.
      **options: other fields of `SweepJob`.

    Raises:
      ValueError: if an argument cannot be used; the message names it.
    """
    axes = [axis_of(name, values[name], recipe) for name in TITLES if name in values]
    rows, columns = shape_of(axes)
    if "ratio" in values and not np.all(values.get("style_weight", recipe.terms.style_weight)):
        raise ValueError("`style_weight`: is 0, so the content weight has no ratio to it")
    recipe = check(with_swept_values(recipe, axes, rows, columns))
    shapes = [style.image.shape[:2] for style in styles]
    controls = ReadControls() if controls is None else controls
    given, notes = given_of(controls, content, styles, recipe)
    check_controls(given, recipe)
    names = [style.name for style in (*styles, *controls.region_styles(styles))]
    with naming_style(names):
        scales = run_scales.scales_of(
            content.image.shape[:2],
            shapes,
            recipe,
            region_styles=[] if given is None else given.style_shapes,
            protected=controls.protect is not None,
        )
    mesh = sharding.mesh_of_batch(devices, bands)
    labels = _labels(rows, columns)
    arrays = scales
    if bucket is not None:
        buckets.check_run_in_bucket(recipe, scales, bands=bands > 1)
        arrays = buckets.buckets_of(bucket, [scales], recipe)[0].scales
    group = worthwhile_divisor(
        len(labels),
        arrays[-1].shape,
        capacity.default_device().platform,
        sharding.pictures_in_parallel(mesh),
    )
    plan_them = plan_scales if bucket is None else plan_bucket
    with naming_style(names):
        plan = plan_them(recipe, arrays, mesh=mesh, pictures=group, chunk=chunk)
    return SweepJob(
        content=content,
        styles=tuple(styles),
        rows=rows,
        columns=columns,
        labels=labels,
        plan=plan,
        scales=scales,
        controls=controls,
        given=given,
        notes=tuple(notes),
        **options,
    )


def _labels(rows: Axis | None, columns: Axis) -> tuple[str, ...]:
    down = [""] if rows is None else [f"{TITLES[rows.name]} {label}, " for label in rows.labels]
    across = [f"{TITLES[columns.name]} {label}" for label in columns.labels]
    return tuple(one + other for one in down for other in across)


# --- Painting -------------------------------------------------------------------------------------


def paint_sweep(
    params: Params, weights: WeightsInfo, job: SweepJob, display: Display
) -> Iterator[PaintedCell]:
    """Paint the canvases of a sweep, group by group; the canvases of a group are painted together.

    Args:
      params: the weights.
      weights: description of the weights file.
      job: the inputs, options and plan, from `sweep_job`.
      display: where progress is shown.

    Yields:
      Each painted canvas, row by row of the grid, as soon as its whole group is painted.

    Raises:
      ValueError: if a region (a part of the content with its own style) is empty at every style layer.
    """
    _introduce(job, weights, display)
    _files.remove_leftovers([job.output])
    count, size, plan = len(job.labels), job.plan.pictures, job.plan
    start = plan.recipe.pictures.start if job.init is None else job.init
    start = same_start(start, job.seed)
    read = [style.image for style in job.styles]
    # `members_of` takes one list of styles for each canvas or, as here, a single list for all canvases.
    styles = [read if job.combined is None else [job.combined, *read[1:]]]
    given = Given() if job.given is None else job.given
    opacities = [list(given.style_opacities)] if given.style_opacities else None
    members = members_of(
        job.content.image,
        styles,
        plan.recipe,
        init=start,
        given=BatchControls(given.regions or None, given.protect, given.opacity, opacities),
        on_host=plan.in_bucket,
        side=max(plan.scales[-1].shape),
        style_originals=[[image.shape[:2] for image in read]],
    )
    # `notes_on_regions` also raises a ValueError if a region is empty at every style layer.
    for note in notes_on_regions(members[0].prepared, plan.recipe):
        display.say(f"note: {as_flags(note)}")
    work = [GroupWork(size, plan.scales)] * (count // size)
    with (
        CompileClock() as compiling,
        Ahead(compiling) as ahead,
        display.bar(count, "compiling"),
    ):
        progress = BatchProgress(work, compiling, display)
        compiled = compiled_of_batch(plan.mesh, ahead, display.say)
        for first in range(0, count, size):
            painted = paint_batch(
                params,
                [(plan, members[first : first + size])],
                init=start,
                intervals=intervals_of(progress),
                progress=progress.report,
                watch=PollingWatch(),
                **compiled._asdict(),
            )
            for cell, image in sorted(painted.images.items()):
                why = divergence(painted.broken.get(cell), plan.recipe)
                why = stalled(plan.recipe) if cell in painted.stalled else why
                if (rest := painted.resting.get(cell)) is not None:
                    remedy = as_flags(remedy_at_rest(plan.recipe))
                    display.say(f"note: {job.labels[cell]}: {rest.words}: try {remedy}")
                yield PaintedCell(cell, np.asarray(image), why)
            progress.end_group()


def _introduce(job: SweepJob, weights: WeightsInfo, display: Display) -> None:
    recipe = job.plan.recipe
    lines = {
        "recipe": f"{recipe.name}, {job.plan.updates} updates each",
        "precision": precision_line(job.plan),
        "pictures": job.pair,
        "canvases": f"{len(job.labels)} of {px(job.scales[-1].shape)} ({recipe.pictures.size})",
    }
    if job.plan.in_bucket:
        lines["bucket"] = bucket_line([job.scales], [job.plan.scales])
    if job.strength is not None:
        lines["strength"] = strength_words(recipe, job.strength)
    lines |= finishing_lines(recipe)
    for role, axis in (("down", job.rows), ("across", job.columns)):
        if axis is not None:
            lines[role] = f"{TITLES[axis.name]}: {', '.join(axis.labels)}"
    introduce(
        display,
        device=provenance.device(),
        weights=weights._asdict(),
        lines=lines | {"memory": memory_line(job.plan)},
        recipes=[recipe],
        notes=[
            *job.notes,
            *style_scale_notes(
                job.styles,
                job.scales[-1],
                recipe,
                of_regions=[] if job.given is None else job.given.style_shapes,
            ),
        ],
    )


# --- Writing --------------------------------------------------------------------------------------


def write_grid(job: SweepJob, weights: WeightsInfo, painted: Mapping[int, PaintedCell]) -> None:
    """Draw the painted pictures as a labelled grid, and write it; without pictures, write nothing.

    Args:
      job: the inputs, options and plan of the sweep.
      weights: description of the weights file.
      painted: maps the index of each painted cell of the grid, counted row by row, to its canvas.

    Raises:
      OSError: if the file cannot be written; the message says where the grid was written instead.
    """
    if not painted:
        return
    facts = facts_of(job, weights, painted) if job.metadata else None
    grid = drawn(job, {cell: canvas.image for cell, canvas in painted.items()})
    try:
        write_picture(job.output, grid, metadata=facts, overwrite=job.overwrite)
    except OSError as error:
        instead = where_instead(job.output, grid, "the grid", metadata=facts)
        raise OSError(f"{error}{instead}") from error


def drawn(job: SweepJob, canvases: Mapping[int, Any]) -> np.ndarray:
    """Return the labelled grid of the canvases.

    Args:
      job: the sweep, from which titles and labels are taken.
      canvases: maps the index of each painted cell of the grid, counted row by row, to its image.

    Returns:
      [h, w, 3] float32 in [0, 1].
    """
    rows, columns = job.rows, job.columns
    return sheets.labelled_grid(
        {divmod(cell, len(columns.values)): image for cell, image in canvases.items()},
        [""] if rows is None else rows.labels,
        columns.labels,
        row_title="" if rows is None else TITLES[rows.name],
        column_title=TITLES[columns.name],
        title=f"{job.pair}, {job.plan.recipe.name}, {job.plan.updates} updates",
    )


def facts_of(
    job: SweepJob, weights: WeightsInfo, painted: Mapping[int, PaintedCell]
) -> dict[str, Any]:
    """Return the metadata of the grid: settings, swept values, and the indices of canvases that failed.

    A canvas failed if it was not painted, or if its losses were not finite or never changed.

    In the settings, a swept number is a list of one number for each canvas, row by row.
    """
    inputs = roles(job.content, job.styles, job.init_file)
    facts = provenance.of_run(
        job.plan.requested,
        job.scales,
        seed=job.seed,
        inputs=inputs | dict(job.controls.files),
        weights=weights,
        controls=provenance.strength_facts(job.strength) | job.controls.facts(),
    )
    axes = {"rows": job.rows, "columns": job.columns}
    problems = {i: canvas.problem for i, canvas in painted.items() if canvas.problem}
    return facts | {
        "sweep": {
            role: None if axis is None else {"of": axis.name, "values": list(axis.values)}
            for role, axis in axes.items()
        },
        "finished": len(painted) == len(job.labels),
        "missing": [i for i in range(len(job.labels)) if i not in painted],
        "diverged": [i for i, problem in problems.items() if not problem.startswith(STALLED)],
        "stalled": [i for i, problem in problems.items() if problem.startswith(STALLED)],
    }
