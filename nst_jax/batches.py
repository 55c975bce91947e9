"""`stylize_many`: many canvases in one compiled program, as a `vmap` over targets and numbers."""

import warnings
from collections import defaultdict
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from nst_jax import checks, optimize, prepare, recipes
from nst_jax._types import Image, Losses, Params, State, StyleImage, Targets
from nst_jax.pyramid import enlarge
from nst_jax.recipes import Recipe
from nst_jax.sizes import Size
from nst_jax.targets import measure_content, measure_style
from nst_jax.verbs import settled

Axes = tuple[int | None, ...]  # one for each leaf of the recipe


class Row(NamedTuple):
    """One picture of a batch."""

    place: int  # in the result
    content: int  # which of the contents; rows that share one share what is measured of it
    style: int  # which of the styles
    prepared: prepare.Prepared
    key: Array


class RowsDiverged(RuntimeWarning):
    """Pictures of a batch whose losses stopped being finite.

    A warning, not an exception: the other pictures are good, and a sweep may well overshoot.

    Attributes:
      rows: index of a picture to the update whose losses were not finite.
    """

    def __init__(self, rows: dict[int, int]):
        listed = ", ".join(f"{row} (after {step} updates)" for row, step in sorted(rows.items()))
        super().__init__(
            f"the losses of these pictures stopped being finite: {listed}; "
            "their last finite canvases are returned"
        )
        self.rows = rows


def stylize_many(
    params: Params,
    contents: Any,
    styles: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    init: Any = None,
    key: Array | None = None,
) -> Image | list[Image]:
    """Stylise many pictures at once, each as `stylize` would.

    n contents meet n styles pairwise; a single content or style serves all; and numbers of the
    recipe (weights, per-layer weights, learning rate) may be arrays [n], which gives a sweep. The
    canvases of one shape share one compiled program; styles keep their own sizes.

    Args:
      params: weights from `nst_jax.load_params`.
      contents: one image [h, w, 3], a batch [n, h, w, 3], or a sequence of images of any sizes.
      styles: the same.
      recipe: as in `stylize`; numbers of its `terms` and `descent.optimizer` may be arrays [n].
      size: as in `stylize`, for every picture.
      style_size: as in `stylize`.
      steps: as in `stylize`.
      init: one start for all: a function of `nst_jax.starts`, or an image.
      key: a JAX random key; picture i draws from `jax.random.fold_in(key, i)`.

    Returns:
      [n, h, w, 3] float32 in [0, 1] if all canvases have one shape, else a list in order. A picture
      whose losses stop being finite is its last finite canvas; a `RowsDiverged` warning names it.

    Raises:
      TypeError: if an argument is of the wrong kind.
      ValueError: if an argument cannot be used, or the numbers of contents, styles and recipe
        values do not fit together.

    Example:
      >>> import jax.numpy as jnp
      >>> from dataclasses import replace
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> content, style = nst.images.sample("chelsea"), nst.images.sample("starry_night")
      >>> terms = replace(nst.recipes.DEFAULT.terms, style_weight=jnp.array([0.1, 1.0, 10.0]))
      >>> sweep = replace(nst.recipes.DEFAULT, terms=terms)
      >>> nst.stylize_many(params, content, style, recipe=sweep, size=48, steps=2).shape
      (3, 32, 48, 3)
    """
    checks.instance("params", params, Params, "`nst_jax.load_params()` gives them")
    recipe = settled(recipe, size, style_size, steps)
    checks.start("init", init)
    contents, styles = checks.images("contents", contents), checks.images("styles", styles)
    count = _count(contents, styles, recipe)
    key = jax.random.key(0) if key is None else key
    rows = _rows(contents, styles, recipe, count, key)
    images: list[Any] = [None] * count
    broken: dict[int, int] = {}
    for group in _by_shape(rows):
        for row, image, broke_at in zip(
            group, *_stylize_group(params, group, recipe, init), strict=True
        ):
            images[row.place] = image
            if broke_at >= 0:
                broken[row.place] = broke_at
    if broken:
        warnings.warn(RowsDiverged(broken), stacklevel=2)
    return jnp.stack(images) if len({image.shape for image in images}) == 1 else images


def _count(contents: list[np.ndarray], styles: list[np.ndarray], recipe: Recipe) -> int:
    sizes = {"contents": len(contents), "styles": len(styles)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf) == 0:
            continue
        name = jax.tree_util.keystr(path).lstrip(".")
        if np.ndim(leaf) > 1 or not name.startswith(("terms.", "descent.optimizer.")):
            raise ValueError(
                f"`recipe`: `{name}` may not be an array of shape {list(np.shape(leaf))}; "
                "a sweep is an array [n] in `terms` or `descent.optimizer`"
            )
        sizes[f"recipe.{name}"] = len(leaf)
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"`stylize_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1


def _rows(
    contents: list[np.ndarray], styles: list[np.ndarray], recipe: Recipe, count: int, key: Array
) -> list[Row]:
    rows = []
    for place in range(count):
        content, style = place % len(contents), place % len(styles)
        prepared = prepare.pictures(contents[content], styles[style], recipe)
        rows.append(Row(place, content, style, prepared, jax.random.fold_in(key, place)))
    return rows


def _by_shape(rows: list[Row]) -> list[list[Row]]:
    groups: dict[Any, list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.prepared.content.shape].append(row)
    return list(groups.values())


def _stylize_group(
    params: Params, rows: list[Row], recipe: Recipe, init: Any
) -> tuple[list[Image], list[int]]:
    """Run the pictures of one canvas shape; return images and where each broke, or -1."""
    core, axes = _batched_numbers(recipe, [row.place for row in rows])
    scales = rows[0].prepared.scales
    images = _starts(rows, recipe, init)
    broke_at, offset = np.full(len(rows), -1), 0
    for index, scale in enumerate(scales):
        last = index == len(scales) - 1
        targets = _targets(params, rows, index, core)
        state = _init_many(_enlarge(images, scale.shape), core, axes)
        state = _run_to(params, state, targets, core, axes, scale.steps + last)
        broken = np.asarray(state.broke_at)
        broke_at = np.where((broke_at < 0) & (broken >= 0), broken + offset, broke_at)
        offset += scale.steps
        images = _picture_many(state, core, axes, last)
    return list(images), broke_at.tolist()


def _starts(rows: list[Row], recipe: Recipe, init: Any) -> Image:
    return jnp.stack([prepare.start(*_pair(row, 0), recipe, init, row.key) for row in rows])


def _pair(row: Row, index: int) -> tuple[Image, StyleImage]:
    scale = row.prepared.scales[index]
    return (
        prepare.at_scale(row.prepared.content, scale.shape),
        prepare.at_scale(row.prepared.style, scale.style_shape),
    )


def _targets(params: Params, rows: list[Row], index: int, core: Recipe) -> Targets:
    """Measure each content and each style once, and line them up with the rows."""
    contents: dict[int, Any] = {}
    styles: dict[int, Any] = {}
    for row in rows:
        content, style = _pair(row, index)
        if row.content not in contents:
            contents[row.content] = _measure_content(params, content, core)
        if row.style not in styles:
            styles[row.style] = _measure_style(params, style, core)
    stacked = partial(jax.tree.map, lambda *parts: jnp.stack(parts))
    return Targets(
        stacked(*(contents[row.content] for row in rows)),
        stacked(*(styles[row.style] for row in rows)),
    )


def _run_to(
    params: Params, state: State, targets: Targets, core: Recipe, axes: Axes, evaluations: int
) -> State:
    while evaluations > 0:
        length = min(evaluations, optimize.CAPACITY)
        state, _ = _run_many(params, state, targets, core, length, axes)
        evaluations -= length
    return state


def _batched_numbers(recipe: Recipe, indices: list[int]) -> tuple[Recipe, Axes]:
    """Return the recipe's numbers for these rows, and which of them have a batch axis."""
    core = recipes.as_arrays(recipe.bare())
    axes = tuple(0 if leaf.ndim else None for leaf in jax.tree.leaves(core))
    # An array of one serves all rows.
    take = np.asarray(indices)
    chosen = recipes.with_numbers(
        core, lambda leaf: leaf[take % leaf.shape[0]] if leaf.ndim else leaf
    )
    return chosen, axes


def _tree(axes: Axes, recipe: Recipe) -> Recipe:
    return jax.tree.unflatten(jax.tree.structure(recipe), axes)


# Targets depend on no number of the recipe, so these see one recipe for the whole batch.
_measure_content = jax.jit(measure_content)
_measure_style = jax.jit(measure_style)
_enlarge = jax.jit(enlarge, static_argnums=1)


@partial(jax.jit, static_argnames="axes")
def _init_many(images: Image, recipe: Recipe, axes: Axes) -> State:
    return jax.vmap(optimize.init, in_axes=(0, _tree(axes, recipe)))(images, recipe)


@partial(jax.jit, static_argnames="axes", donate_argnames="state")
def _run_many(
    params: Params,
    state: State,
    targets: Targets,
    recipe: Recipe,
    steps: Int[Array, ""] | int,
    axes: Axes,
) -> tuple[State, Losses]:
    in_axes = (None, 0, 0, _tree(axes, recipe), None)
    return jax.vmap(optimize.run, in_axes=in_axes)(params, state, targets, recipe, steps)


@partial(jax.jit, static_argnames=("axes", "last"))
def _picture_many(state: State, recipe: Recipe, axes: Axes, last: bool) -> Image:
    take = optimize.picture if last else optimize.canvas_image
    return jax.vmap(take, in_axes=(0, _tree(axes, recipe)))(state, recipe)
