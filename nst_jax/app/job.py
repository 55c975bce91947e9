"""Jobs: the checked inputs and options of a command that paints.

Here are a base class, for the jobs of commands that paint by a recipe, and the job of painting one
picture. A run is the painting of one picture.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from nst_jax import checkpoints, images, run_scales
from nst_jax._types import Checkpoint, Shape
from nst_jax.app.controls import ReadControls, given_of
from nst_jax.app.messages import naming_style
from nst_jax.app.outputs import Outputs
from nst_jax.control_checks import check_controls
from nst_jax.controls.given import Given
from nst_jax.provenance import Named, roles
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, sharding
from nst_jax.scaling.bucket_plans import plan_in_arrays
from nst_jax.scaling.file_memory import memory_of_files
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import Devices


@dataclass(frozen=True, kw_only=True)
class Job:
    """The options that the commands that paint by a recipe have in common.

    A job is the checked input of such a command. Each kind of command has a subclass with its own
    inputs.

    Attributes:
      seed: seed of the random key of a run, for instance for the noise in the first canvas.
      init: what gives the first canvas (the picture that is painted): an image [h, w, 3], an instance
        of a class in `nst_jax.recipes.starts`, or None for the first canvas that the recipe names.
      init_file: the name and digest of the file from which `init` was read; None if it was not read
        from a file.
      metadata: whether the run's settings are embedded in the result pictures.
    """

    seed: int = 0
    init: Any = None
    init_file: Named | None = None
    metadata: bool = True


@dataclass(frozen=True, kw_only=True)
class PictureJob(Job):
    """The checked inputs and options of a command that paints one picture.

    Attributes:
      content: the content picture.
      styles: the style picture, or several to blend, as they were read.
      plan: what was decided about the run before it starts, such as sizes, precision and tiles.
      outputs: paths of the files that the run writes, and options for writing them.
      resume: the checkpoint from which the run resumes, or None.
      controls: the content's regions with styles of their own and its protected part (which keeps the
        content), as they were read from files.
      given: the same regions and protected part, checked, with the opacities of the pictures. Opacities
        are left out if the recipe's losses cannot use them. None if no region, protected part or
        opacity remains; an opaque picture has no opacity.
      combined: the first style combined with the fine structure of another picture, [h, w, 3] at the
        final size; the run uses it in place of `styles[0]`. None if the style is used as read.
      strength: the strength of the style (0 to 1) that has changed the plan's recipe: its style weight
        or, for some style losses, `terms.search_content`. The user gave it by `--strength`, by `--set`
        or in a recipe file. None if no strength was given.
      notes: messages that are printed before the run.
      begun: when the command began, in seconds, by `time.perf_counter`.
    """

    content: images.Picture
    styles: tuple[images.Picture, ...]
    plan: Plan
    outputs: Outputs
    resume: Checkpoint | None = None
    controls: ReadControls = ReadControls()
    given: Given | None = None
    combined: Float[np.ndarray, "h w 3"] | None = None
    strength: float | None = None
    notes: tuple[str, ...] = ()
    begun: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def painted_styles(self) -> list[Float[np.ndarray, "h w 3"]]:
        """The pixels of the styles: those of `styles`, but `combined`, if given, replaces the first."""
        read = [style.image for style in self.styles]
        return read if self.combined is None else [self.combined, *read[1:]]

    @property
    def inputs(self) -> dict[str, Any]:
        """The input files by role, such as "content", "style", "style_2", "init" or "region_1_mask"."""
        return roles(self.content, self.styles, self.init_file) | dict(self.controls.files)


def picture_job(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    outputs: Outputs,
    *,
    resume: Checkpoint | None = None,
    devices: Devices = None,
    bucket: buckets.Chosen = None,
    controls: ReadControls | None = None,
    sized: Callable[[Recipe, Shape, Given | None], None] | None = None,
    **options: Any,
) -> PictureJob:
    """Plan the painting of one picture; return the plan and all inputs as a `PictureJob`.

    Args:
      content: the content picture.
      styles: the style picture, or several to blend.
      recipe: the recipe, already changed by the flags of the command.
      outputs: paths of the files that the run writes.
      resume: the checkpoint from which the run resumes, or None.
      devices: the devices that share the picture: a number of devices, "all", or a list of them. None
        means one device.
      bucket: side, in px, of a square array (bucket) to which the picture is padded, so that pictures
        of other shapes use the same compiled programs; None for no padding. With "auto", a run that
        resumes is padded as the run that wrote the checkpoint. A new run is padded only on a single GPU
        or TPU, if the result is not too large, and if the recipe and the memory allow it. See
        `plan_in_arrays`.
      controls: the content's regions with styles of their own and its protected part (which keeps the
        content), as they were read from files; None if there are none.
      sized: a function, such as one that begins a preview, that is called as soon as the size of the
        result is known. Planning, which takes some tenths of a second, comes later. Its arguments are
        the recipe, (height, width) of the result, and the checked controls. None means that nothing is
        called.
      **options: other fields of `PictureJob`.

    Raises:
      ValueError: if a picture would become too small, or the result too large for its file format; if
        the recipe's `style_shares` (weights of the styles in their blend) are for another number of
        styles; if regions or a protected part do not suit the pictures or the recipe; if the devices
        or the bucket cannot be used; or if the run does not fit into memory even in the smallest tiles.
    """
    shapes = [style.image.shape[:2] for style in styles]
    recipe = checkpoints.with_choices_of(recipe, resume)
    controls = ReadControls() if controls is None else controls
    given, notes = given_of(controls, content, styles, recipe)
    check_controls(given, recipe)
    others = [] if given is None else given.style_shapes
    of_regions = controls.region_styles(styles)
    names = [style.name for style in (*styles, *of_regions)]
    with naming_style(names):
        scales = run_scales.scales_of(
            content.image.shape[:2],
            shapes,
            recipe,
            region_styles=others,
            protected=controls.protect is not None,
        )
    outputs.check_fits(scales[-1].shape)
    if sized is not None:
        sized(recipe, scales[-1].shape, given)
    pictures = (content, *styles, *of_regions)
    files = memory_of_files(
        [picture.image.shape[:2] for picture in pictures],
        [picture.memory for picture in pictures],
        scales[-1],
        recipe,
    )
    with naming_style(names):
        plan = plan_in_arrays(
            recipe,
            scales,
            bucket,
            resume=resume,
            files=files,
            mesh=sharding.mesh_of(devices, axis=sharding.BANDS),
            # A checkpoint can only be resumed with an L-BFGS history of the same length. So if the run
            # writes one, the length must not depend on how much memory this machine has.
            may_shorten_history=outputs.checkpoint is None,
        )
    return PictureJob(
        content=content,
        styles=tuple(styles),
        plan=plan,
        outputs=outputs,
        resume=resume,
        metadata=outputs.metadata,
        controls=controls,
        given=given,
        notes=tuple(notes),
        **options,
    )
