"""The part `Descent` of a recipe: the optimiser, the updates, and the scales at which they are made."""

from dataclasses import dataclass

import jax
import optax

from nst_jax import optimizers, vgg
from nst_jax._types import Shape
from nst_jax.images.resizing import enlarge
from nst_jax.optimizers.laplacian import over_pyramid
from nst_jax.recipes import filters
from nst_jax.recipes.fields import added_later, static
from nst_jax.recipes.schedules import OneScale, Schedule, counted


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the canvas is optimised.

    Attributes:
      optimizer: an update rule of `nst_jax.optimizers`.
      coordinates: the pixel convention of the canvas that the optimiser updates, such as RGB in [0, 1]
        or the pixels that the network reads. The choice matters, since updates of Adam and L-BFGS
        depend on the range of the pixels. Static.
      clip: whether the canvas is clipped to [0, 1] sRGB after every update. Static.
      steps: number of updates, summed over all scales (resolutions). None leaves the numbers to the
        schedule, which must have some of its own, as `GeometricScales` does; the sum then depends on
        the size of the canvas.
      schedule: the scales, and how the updates are divided among them.
      enlarge: how a canvas is resized to the next scale, one of `recipes.filters.ENLARGEMENTS`. Static.
      pyramid_levels: if 0, the optimiser updates pixels. If it is another number, the optimiser updates
        the levels of a Laplacian pyramid with this number of halvings, and the canvas is the picture
        that these levels add up to. This is not possible with a guarded optimiser (one that undoes
        updates that raise the loss). Static. See `nst_jax.optimizers.laplacian`.
      one_pyramid: if True, `pyramid_levels` is the number of halvings at the final size. A scale of
        half that size has one halving fewer, a scale of a quarter of that size two fewer, and so on;
        every scale has at least one. If False, every scale has `pyramid_levels` halvings. Without a
        pyramid, it changes nothing. If the numbers of halvings differ, `Adam` cannot carry its means
        from scale to scale. Static.
      average_decay: if not None, the result is a weighted average of all canvases of the last scale,
        including the one with which it begins. The weight of a canvas is `average_decay` times the
        weight of the next canvas, and the weights always sum to 1. Each scale has an average of its
        own, from which the next scale starts. Snapshots show the average; their losses, and the losses
        in logs, are those of the canvas that the optimiser updates. The optimiser must not be guarded.
      last_learning_rate: if not None, the optimiser's learning rate at the last scale.
      content_detail: if True, the finest level of the content's Laplacian pyramid is added to the
        canvas at the beginning of each scale but the first and the last, as in the recipe `strotss`.
        Static.
    """

    optimizer: optimizers.Optimizer = optimizers.LBFGS()
    coordinates: vgg.Pixels = static(vgg.RAW)
    clip: bool = static(False)
    steps: int | None = 300
    schedule: Schedule = OneScale()
    enlarge: filters.Enlargement = added_later(enlarge, static=True)
    pyramid_levels: int = added_later(0, static=True)
    one_pyramid: bool = added_later(False, static=True)
    average_decay: float | None = added_later(None)
    last_learning_rate: float | None = added_later(None)
    content_detail: bool = added_later(False, static=True)

    @property
    def carries(self) -> bool:
        """Whether each scale (resolution) begins with the optimiser's last state at the scale before.

        If not, the optimiser starts anew at each scale.
        """
        return bool(getattr(self.optimizer, "carry", False))

    def plan(self, shape: Shape, original: Shape | None = None) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          original: (height, width) in px of the content before any resizing; None if it is not known.

        Raises:
          ValueError: if `steps` is None, and the schedule has no numbers of updates of its own.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.CROWSONKB.descent.plan((170, 181))
          (((120, 128), 1000), ((170, 181), 500))
        """
        if self.steps is not None:
            return self.schedule.plan(shape, int(self.steps), original)
        return counted(self.schedule).counted_plan(shape, original)

    def updates_at(self, shape: Shape) -> int:
        """Return the number of updates of all scales, for a canvas with this final (height, width)."""
        return sum(updates for _, updates in self.plan(shape))

    @property
    def updates_in_words(self) -> str:
        """The number of updates as text, such as "300 updates".

        If it depends on the size of the canvas, the text has the numbers at the scales.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.TF.descent.updates_in_words
          '1003 updates'
          >>> recipes.CROWSONKB.descent.updates_in_words
          '1000 updates at the coarsest scale, 500 at each later one'
        """
        if self.steps is not None:
            return f"{self.steps} updates"
        return counted(self.schedule).counts_in_words()

    def transformation(self, height: int | None = None) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation that updates the canvas.

        Args:
          height: number of rows of the canvas, if the array that is updated has rows of padding below
            them; None if there is no padding. It is used only if `pyramid_levels` is not 0.

        Raises:
          TypeError: if an optimiser of a user's own makes no transformation. The `init` of the result
            raises it if the updates of that transformation cannot be used.
        """
        rule = optimizers.rules.checked_transformation(self.optimizer)
        return over_pyramid(rule, self.pyramid_levels, height) if self.pyramid_levels else rule
