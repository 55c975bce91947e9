"""One pair of pictures, many numbers: plan a grid, paint it with one program, write it labelled.

A sweep has one or two axes. Their values become arrays in the recipe, one number per canvas, so
that all canvases are a `vmap` of one program; where not all fit into memory at once, the same
program runs group by group.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import _checks, batches, images, prepare, provenance, recipes, vgg
from nst_jax._types import Params
from nst_jax.app import plan
from nst_jax.app.progress import Course, Display, Load, painted_together, problem
from nst_jax.app.single import save, surroundings, tell_family
from nst_jax.app.timing import CompileClock
from nst_jax.images import sheets
from nst_jax.recipes import changes
from nst_jax.recipes.presets import Recipe
from nst_jax.recipes.starts import same_start
from nst_jax.scaling import chunks, sharding
from nst_jax.scaling.chunks import group_size
from nst_jax.weights.params import WeightsInfo

# What can be swept. Of two, the first in this order makes the rows; what the last is set from
# comes before it.
TITLES = {
    "layers": "style layers",
    "style_weight": "style weight",
    "tv_weight": "weight of total variation",
    "learning_rate": "learning rate",
    "ratio": "content weight / style weight",
}

SETS = ("cumulative", "single")  # sets of style layers that have a name


class Axis(NamedTuple):
    """One thing that is swept, and its values."""

    name: str  # a key of `TITLES`
    values: tuple[Any, ...]  # numbers; or sets of style taps, each a tuple
    labels: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A grid to paint; everything is checked.

    Attributes:
      content: the content picture.
      styles: the style picture, or several to blend.
      rows: the axis down, or None for a single row.
      columns: the axis across.
      recipe: with every flag in it; swept numbers are arrays, one number per canvas.
      labels: what tells each canvas from the others, row by row.
      output: where the grid goes.
      scales: of every canvas.
      overwrite: whether an existing file may be replaced.
      metadata: whether settings are embedded.
      seed: of the random key that all canvases start from.
      init: a start, a picture, or None for the recipe's.
      init_file: where `init` was read from, if it was.
      chunk: canvases at once, at most; None is as many as memory holds.
      devices: that share them; None is one. See `nst_jax.scaling.sharding.mesh_of_batch`.
      rows_over: how many of the devices share the rows of each.
    """

    content: images.Picture
    styles: tuple[images.Picture, ...]
    rows: Axis | None
    columns: Axis
    recipe: Recipe
    labels: tuple[str, ...]
    output: Path
    scales: tuple[prepare.Scale, ...]
    overwrite: bool = True
    metadata: bool = True
    seed: int = 0
    init: Any = None
    init_file: images.Picture | None = None
    chunk: int | None = None
    devices: Any = None
    rows_over: int = 1

    @property
    def what(self) -> str:
        """The pictures, in words."""
        return f"{self.content.name} with {' and '.join(style.name for style in self.styles)}"


class Painted(NamedTuple):
    """One canvas of a sweep."""

    cell: int  # row by row
    image: np.ndarray
    problem: str  # what went wrong, if anything did


# --- Axes -----------------------------------------------------------------------------------------


def layer_sets(text: str, taps: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the sets of style taps that `--layers` names.

    Args:
      text: `"cumulative"` (the first tap, the first two, ... all), `"single"` (each alone), or sets
        with commas between them, such as `"relu1_1,relu1_1+relu2_1"`.
      taps: style taps of the recipe.

    Returns:
      Sets, each in the order of `taps`.

    Raises:
      ValueError: for a name that is no such word and no style tap of the recipe.

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
    """Return what a flag sweeps; with a single value it only sets it.

    Args:
      name: a key of `TITLES`.
      value: numbers, or the text of `--layers`.
      recipe: gives the style taps.

    Returns:
      The axis.

    Raises:
      ValueError: for no values and for layers that are unknown.
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
    """Name the first layer in full, and of the others only the numbers."""
    first, *others = taps
    kind = first.rstrip("0123456789_")
    return " +".join([first, *(tap.removeprefix(kind) for tap in others)])


def _numerals(values: Sequence[float]) -> tuple[str, ...]:
    """Write numbers alike: all as powers of ten if one of them needs that."""
    plain = tuple(f"{value:g}" for value in values)
    if not any("e" in text for text in plain):
        return plain
    return tuple(
        np.format_float_scientific(float(text), trim="-", exp_digits=1) if value else "0"
        for value, text in zip(values, plain, strict=True)
    )


def shape_of(axes: Sequence[Axis]) -> tuple[Axis | None, Axis]:
    """Return the axis down and the axis across: those with several values.

    Args:
      axes: of everything that was given, in the order of `TITLES`.

    Returns:
      None or the rows, and the columns.

    Raises:
      ValueError: if nothing or more than two things are swept.
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
    """Return the recipe with all values in it, one per canvas where they are swept.

    Args:
      recipe: with one number each.
      axes: in the order of `TITLES`.
      rows: the axis down, or None.
      columns: the axis across.

    Returns:
      The recipe, whose swept numbers are arrays [rows * columns].

    Raises:
      ValueError: for a learning rate where the optimiser has none.
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
        return changes.with_learning_rate(recipe, numbers)
    if name == "ratio":
        name, numbers = "content_weight", numbers * np.asarray(recipe.terms.style_weight)
    return replace(recipe, terms=replace(recipe.terms, **{name: numbers}))


def _with_layers(recipe: Recipe, chosen: Sequence[Sequence[str]]) -> Recipe:
    """Weigh the layers of each set so that together they count as all do: 1 / n each in the paper."""
    terms = recipe.terms
    weights: list[Any] = []
    for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True):
        factors = [len(terms.style_taps) / len(taps) if tap in taps else 0.0 for taps in chosen]
        weights.append(weight * np.asarray(factors if len(factors) > 1 else factors[0]))
    return replace(recipe, terms=replace(terms, style_layer_weights=tuple(weights)))


# --- Plan -----------------------------------------------------------------------------------------


def sweep_of(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    values: Mapping[str, Any],
    *,
    output: Path,
    **options: Any,
) -> Sweep:
    """Put a sweep together and check it.

    Args:
      content: the content picture.
      styles: the style picture, or several to blend.
      recipe: with every other flag in it.
      values: keys of `TITLES` to numbers, or to the text of `--layers`.
      output: where the grid goes.
      **options: other fields of `Sweep`.

    Returns:
      The sweep.

    Raises:
      ValueError: naming what cannot be used.
    """
    axes = [axis_of(name, values[name], recipe) for name in TITLES if name in values]
    rows, columns = shape_of(axes)
    if "ratio" in values and not np.all(values.get("style_weight", recipe.terms.style_weight)):
        raise ValueError("`style_weight`: is 0, and no content weight has a ratio to that")
    recipe = recipes.check(with_swept_values(recipe, axes, rows, columns))
    shapes = [style.image.shape[:2] for style in styles]
    scales = prepare.scales_of(content.image.shape[:2], shapes, recipe)
    mesh = sharding.mesh_of_batch(options.get("devices"), options.get("rows_over", 1))
    chunks.refuse(recipe, scales[-1], mesh)
    return Sweep(
        content=content,
        styles=tuple(styles),
        rows=rows,
        columns=columns,
        recipe=recipe,
        labels=_labels(rows, columns),
        output=output,
        scales=scales,
        **options,
    )


def _labels(rows: Axis | None, columns: Axis) -> tuple[str, ...]:
    down = [""] if rows is None else [f"{TITLES[rows.name]} {label}, " for label in rows.labels]
    across = [f"{TITLES[columns.name]} {label}" for label in columns.labels]
    return tuple(one + other for one in down for other in across)


# --- Paint ----------------------------------------------------------------------------------------


def paint(
    params: Params, weights: WeightsInfo, sweep: Sweep, display: Display
) -> Iterator[Painted]:
    """Paint the canvases of a sweep, group by group.

    Args:
      params: the weights.
      weights: what their file says of itself.
      sweep: checked.
      display: where to show progress.

    Yields:
      Canvases, row by row, as their groups are done.
    """
    count = len(sweep.labels)
    shared = sharding.count_of(sweep.devices, sweep.rows_over)
    size = group_size(count, sweep.scales[-1].shape, jax.local_devices()[0].platform, shared)
    introduce(sweep, weights, size, display)
    loads = [Load(size, sweep.scales)] * (count // size)
    with CompileClock() as compiling, display.bar(count, "compiling"):
        course = Course(loads, compiling, display)
        for first in range(0, count, size):
            painted = _painted(params, sweep, slice(first, first + size), course)
            for row, image in enumerate(painted.images):
                told = problem(painted.broken.get(row))
                yield Painted(first + row, np.asarray(image), told)
            course.end_load()


def _painted(params: Params, sweep: Sweep, part: slice, course: Course) -> batches.Painted:
    """Return some of the canvases, and of those that broke, which and at what update."""
    recipe = recipes.with_numbers(sweep.recipe, lambda n: n[part] if np.ndim(n) else n)
    start = sweep.recipe.pictures.start if sweep.init is None else sweep.init
    start = same_start(start, sweep.seed)
    styles = [[style.image for style in sweep.styles]]  # one blend for all
    return painted_together(
        params,
        sweep.content.image,
        styles,
        course,
        recipe=recipe,
        init=start,
        chunk=sweep.chunk,
        devices=sweep.devices,
        rows=sweep.rows_over,
    )


def introduce(sweep: Sweep, weights: WeightsInfo, size: int, display: Display) -> None:
    """Say what will be done, before it is: groups of so many canvases."""
    recipe = sweep.recipe
    group = {"chunk": sweep.chunk, "devices": sweep.devices, "rows": sweep.rows_over}
    height, width = sweep.scales[-1].shape
    lines = surroundings({"device": provenance.device(), "weights": weights._asdict()}) | {
        "recipe": f"{recipe.name}, {recipe.descent.steps} updates each",
        "pictures": sweep.what,
        "canvases": f"{len(sweep.labels)} of {width}x{height} px ({recipe.pictures.size})",
    }
    for role, axis in (("down", sweep.rows), ("across", sweep.columns)):
        if axis is not None:
            lines[role] = f"{TITLES[axis.name]}: {', '.join(axis.labels)}"
    _, lines["memory"] = plan.memory_of_group(recipe, sweep.scales[-1], size, **group)
    display.facts(lines)
    tell_family(recipe, weights.family, display)


# --- Write ----------------------------------------------------------------------------------------


def write(sweep: Sweep, weights: WeightsInfo, painted: Mapping[int, Painted]) -> None:
    """Draw the canvases that are there on a labelled grid, and write it; nothing if there are none.

    Args:
      sweep: checked.
      weights: what their file says of itself.
      painted: cells, counted row by row, to their canvases.

    Raises:
      OSError: if the place is no longer what it was when it was checked.
    """
    if not painted:
        return
    facts = facts_of(sweep, weights, painted) if sweep.metadata else None
    grid = drawn(sweep, {cell: canvas.image for cell, canvas in painted.items()})
    save(sweep.output, grid, metadata=facts, overwrite=sweep.overwrite)


def drawn(sweep: Sweep, canvases: Mapping[int, Any]) -> np.ndarray:
    """Return the labelled grid of the canvases that are there.

    Args:
      sweep: gives titles and labels.
      canvases: cells, counted row by row, to images.

    Returns:
      [h, w, 3] float32 in [0, 1].
    """
    rows, columns, recipe = sweep.rows, sweep.columns, sweep.recipe
    return sheets.labelled_grid(
        {divmod(cell, len(columns.values)): image for cell, image in canvases.items()},
        [""] if rows is None else rows.labels,
        columns.labels,
        row_title="" if rows is None else TITLES[rows.name],
        column_title=TITLES[columns.name],
        title=f"{sweep.what}, {recipe.name}, {recipe.descent.steps} updates",
    )


def facts_of(sweep: Sweep, weights: WeightsInfo, painted: Mapping[int, Painted]) -> dict[str, Any]:
    """Return what is embedded in the grid: the run's settings, the values, how each canvas ended.

    Swept numbers of the settings are lists, one number per canvas, row by row.
    """
    inputs = provenance.roles(sweep.content, sweep.styles, sweep.init_file)
    facts = provenance.of_run(
        sweep.recipe, sweep.scales, seed=sweep.seed, inputs=inputs, weights=weights
    )
    axes = {"rows": sweep.rows, "columns": sweep.columns}
    return facts | {
        "sweep": {
            role: None if axis is None else {"of": axis.name, "values": list(axis.values)}
            for role, axis in axes.items()
        },
        "finished": len(painted) == len(sweep.labels),
        "missing": [i for i in range(len(sweep.labels)) if i not in painted],
        "diverged": [cell for cell, canvas in painted.items() if canvas.problem],
    }
