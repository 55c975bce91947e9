"""The option `--style-fine`: before a run, its style gets the fine structure of a second picture.

`nst_jax.combined_style` does the same in Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from nst_jax import images, planned_painting, prepare
from nst_jax._types import Params, Shape
from nst_jax.app import cache, programs
from nst_jax.app.messages import print_message
from nst_jax.app.parsing import StyleShare
from nst_jax.app.progress import Display, loss_shares
from nst_jax.descent import has_stalled, rest_of
from nst_jax.images.eight_bit import to_uint8
from nst_jax.recipes import GATYS_FINE_STYLE
from nst_jax.recipes.changes import with_options
from nst_jax.scaling import capacity, sharding
from nst_jax.scaling.plan import Plan, plan_scales
from nst_jax.scaling.sharding import Devices

ROLE = "fine_style"  # name of the picture with the fine structure among a run's inputs

UPDATES = 10  # number of updates after which the shown progress is refreshed


class NotCombined(RuntimeError):
    """Raised if the run that combines a style fails: its losses are not finite, or never change.

    The message begins with the option, `--style-fine`. It is not a `ValueError`, since the input was
    valid: the command ends with exit code 1, as after any run that diverges.
    """


@dataclass(frozen=True)
class FineStyle:
    """Combines a style with the fine structure of another picture.

    Attributes:
      picture: the picture that has the fine structure.
      params: the weights of the network.
      devices: the devices that share the canvas, as in `nst_jax.stylize`.
      display: where progress is shown.
      precision: the value of `--precision`, which holds for this run, too; None means the recipe's.
      tile: the value of `--tile`, likewise.
    """

    picture: images.Picture
    params: Params
    devices: Devices
    display: Display
    precision: str | None = None
    tile: str | None = None

    def facts(self, shape: Shape) -> dict[str, Any]:
        """Return how a style of this (height, width) is combined, for the result's metadata."""
        recipe, (height, width) = GATYS_FINE_STYLE, shape
        numbers = {"size": [width, height], "steps": int(recipe.descent.steps)}
        return {ROLE: {"recipe": recipe.name, "source": recipe.source, **numbers}}

    def combined(self, style: images.Picture, shape: Shape) -> Float[np.ndarray, "h w 3"]:
        """Return the pixels of the style with the fine structure of `self.picture`, rounded to 8 bits.

        Because they are rounded, they are the same as if they had been written to a PNG file and read
        back.

        Args:
          style: the picture that has the coarse shapes.
          shape: (height, width) of the style at the final scale of the run.

        Returns:
          The style at this size, [h, w, 3] in [0, 1].

        Raises:
          ValueError: if the two pictures cannot be combined.
          NotCombined: if the losses stop being finite, or if they never change.
        """
        plan = self._plan(style, shape)
        recipe = plan.recipe
        size, steps = f"{shape[1]}x{shape[0]} px", int(recipe.descent.steps)
        self.display.say(f"{style.name} gets the structure of {self.picture.name} at {size}")
        shots = planned_painting.paint_planned(
            self.params,
            style.image,
            self.picture.image,
            plan,
            init=None,
            key=None,
            every=UPDATES,
            programs=programs.kept_in(cache.programs_folder(), self.display.say),
        )
        totals = []
        with self.display.bar(steps, "compiling"):
            for shot in shots:
                if shot.broke_at >= 0:
                    raise NotCombined(
                        f"`--style-fine`: the losses are not finite after {shot.broke_at} updates of "
                        "the style; choose another picture"
                    )
                totals.append(np.asarray(shot.history.total))
                words = loss_shares(shot.losses)
                self.display.move(shot.step, steps, "step of the style", words)
        if has_stalled(np.concatenate(totals), plan.scales):
            raise NotCombined(
                f"`--style-fine`: the losses after {shot.step} updates of the style are those of the "
                "start, so it got no other structure; choose another picture"
            )
        if (rest := rest_of(np.concatenate(totals), plan.scales)) is not None:
            print_message(
                "warning",
                f"`--style-fine`: {rest.words}, so {style.name} hardly got the structure of "
                f"{self.picture.name}; choose another picture",
            )
        return to_uint8(shot.image).astype(np.float32) / 255

    def _plan(self, style: images.Picture, shape: Shape) -> Plan:
        """Plan the run that combines the style, at (height, width), with the fine picture."""
        tile = self.tile
        recipe = with_options(
            GATYS_FINE_STYLE,
            f"{shape[1]}x{shape[0]}",
            precision=self.precision,
            tile=int(tile) if tile is not None and tile.isdecimal() else tile,
        )
        pictures = [picture.image.shape[:2] for picture in (style, self.picture)]
        return plan_scales(
            recipe,
            prepare.scales_of(pictures[0], pictures[1:], recipe),
            mesh=sharding.mesh_of(self.devices, axis=sharding.BANDS),
            device=capacity.device_of(self.params),
        )


def check_fine_style(chosen: Mapping[str, Any], styles: Sequence[StyleShare]) -> None:
    """Refuse `--style-fine` for several styles, and together with `--cluster` or `--regions`.

    Args:
      chosen: the options of the command.
      styles: the styles, each with its share.

    Raises:
      ValueError: if there are several styles, or one of these options; the message names it.
    """
    if chosen.get("style_fine") is None:
        return
    if len(styles) > 1:
        raise ValueError(
            f"`style_fine`: gives its structure to one style, and {len(styles)} are given; name one"
        )
    for name, flag, reason in (
        ("cluster", "--cluster", "each process would combine a style of its own"),
        ("region_maps", "--regions", "the second map is drawn over the style as it is"),
    ):
        if chosen.get(name):
            raise ValueError(
                f"`style_fine`: cannot be used with `{flag}`: {reason}; combine the style first, by "
                "`nst_jax.combined_style`, and name the result"
            )
