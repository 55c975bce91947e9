"""The checked inputs and options of a sweep, and the plan of its groups.

The canvases are painted in groups of equal size, so that all groups run the same program. The larger a
group, the less time each canvas takes, but only up to a certain size. So the size of the groups is the
largest divisor of the number of canvases that is not above that size. A group that does not fit into
memory is divided further.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from nst_jax import images, run_scales
from nst_jax.app.controls import ReadControls, given_of
from nst_jax.app.job import Job
from nst_jax.app.messages import naming_style
from nst_jax.app.sweep.axes import TITLES, Axis, axis_of, shape_of, with_swept_values
from nst_jax.control_checks import check_controls
from nst_jax.controls.given import Given
from nst_jax.recipes.checking import check
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_plans import plan_bucket
from nst_jax.scaling.chunk_size import worthwhile_divisor
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import Devices


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
