"""What the command line was asked to do, checked whole before anything long begins."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nst_jax import checkpoints, images, prepare
from nst_jax._types import Checkpoint
from nst_jax.app.outputs import Outputs
from nst_jax.provenance import roles
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling import capacity, layout, sharding
from nst_jax.scaling.sharding import Devices


@dataclass(frozen=True, kw_only=True)
class Job:
    """One picture to paint; everything is checked."""

    content: images.Picture
    styles: tuple[images.Picture, ...]
    recipe: Recipe  # with every flag in it
    seed: int
    outputs: Outputs
    init: Any = None  # a start, a picture, or None for the recipe's
    init_file: images.Picture | None = None
    scales: tuple[prepare.Scale, ...]
    fit: capacity.Fit  # how it is brought into memory
    resume: Checkpoint | None = None
    devices: Devices = None  # that share its rows

    @property
    def inputs(self) -> dict[str, images.Picture]:
        """The files that the result depends on, by role."""
        return roles(self.content, self.styles, self.init_file)


# --- Jobs -----------------------------------------------------------------------------------------


def job_of(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    outputs: Outputs,
    *,
    seed: int = 0,
    init: Any = None,
    init_file: images.Picture | None = None,
    resume: Checkpoint | None = None,
    devices: Devices = None,
) -> Job:
    """Put a job together, and refuse pictures that would become too small, or too large to write.

    Raises:
      ValueError: naming the picture and the size it would have, or if the recipe has shares for
        another number of styles, or if memory does not hold it in any way.
    """
    shapes = [style.image.shape[:2] for style in styles]
    scales = prepare.scales_of(content.image.shape[:2], shapes, recipe)
    images.check_fits(outputs.picture, scales[-1].shape, argument="output")
    # What is kept may go on where there is more memory, and has to be the same run there.
    yielding = outputs.checkpoint is None
    recipe = checkpoints.with_memory_choices_of(recipe, resume)
    mesh = sharding.mesh_of(devices, axis=sharding.ROWS)
    recipe = layout.with_rows(recipe, mesh, scales[-1].shape)
    fit = capacity.fit(recipe, scales[-1], *capacity.place_of(recipe, mesh=mesh), yielding=yielding)
    return Job(
        content=content,
        styles=tuple(styles),
        recipe=layout.laid_over(fit.recipe, mesh, scales[-1].shape),
        fit=fit,
        seed=seed,
        outputs=outputs,
        init=init,
        init_file=init_file,
        scales=scales,
        resume=resume,
        devices=devices,
    )
