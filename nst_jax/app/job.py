"""Jobs: the checked inputs and options of a command. The base class, and the job of one picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nst_jax import checkpoints, images, prepare
from nst_jax._types import Checkpoint
from nst_jax.app.outputs import Outputs
from nst_jax.provenance import Named, roles
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import sharding
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import Devices


@dataclass(frozen=True, kw_only=True)
class Job:
    """The options that all commands that paint have in common.

    Attributes:
      seed: the seed of the random key from which starts draw noise.
      init: a start, a picture to start from, or None for the recipe's start.
      init_file: the file that `init` was read from, or None.
      metadata: whether settings are embedded in results.
    """

    seed: int = 0
    init: Any = None
    init_file: Named | None = None
    metadata: bool = True


@dataclass(frozen=True, kw_only=True)
class PictureJob(Job):
    """One picture to paint.

    Attributes:
      content: the content picture.
      styles: the style picture, or several to blend.
      plan: the plan of the run.
      outputs: where its results go.
      resume: the checkpoint from which the run resumes, or None.
    """

    content: images.Picture
    styles: tuple[images.Picture, ...]
    plan: Plan
    outputs: Outputs
    resume: Checkpoint | None = None

    @property
    def inputs(self) -> dict[str, Any]:
        """The files that the result depends on, by role."""
        return roles(self.content, self.styles, self.init_file)


def picture_job(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    outputs: Outputs,
    *,
    resume: Checkpoint | None = None,
    devices: Devices = None,
    **options: Any,
) -> PictureJob:
    """Make the job of one picture and its plan.

    Args:
      content: the content picture.
      styles: the style picture, or several to blend.
      recipe: the recipe with every flag applied.
      outputs: where the results go.
      resume: the checkpoint from which the run resumes, or None.
      devices: the devices that share the canvas, as in `nst_jax.stylize`.
      **options: other fields of `Job`.

    Raises:
      ValueError: naming a picture that would become too small, or too large for its format; if the
        recipe has shares for another number of styles; or if the run does not fit into memory even in
        the smallest tiles.
    """
    shapes = [style.image.shape[:2] for style in styles]
    recipe = checkpoints.with_memory_choices_of(recipe, resume)
    scales = prepare.scales_of(content.image.shape[:2], shapes, recipe)
    images.check_fits(outputs.picture, scales[-1].shape, argument="output")
    plan = plan_scales(
        recipe,
        scales,
        mesh=sharding.mesh_of(devices, axis=sharding.BANDS),
        # A checkpoint may be resumed on a machine with more memory, and must be the same run there.
        may_shorten_history=outputs.checkpoint is None,
    )
    return PictureJob(
        content=content,
        styles=tuple(styles),
        plan=plan,
        outputs=outputs,
        resume=resume,
        metadata=outputs.metadata,
        **options,
    )
