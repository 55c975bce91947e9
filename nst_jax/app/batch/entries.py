"""One picture of a batch as it is planned: its files, with their sizes and digests, and its recipe."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import images, run_scales
from nst_jax.recipes.recipe import Recipe


class FineFile(NamedTuple):
    """A picture from which the style gets its fine structure, such as brushstrokes, before the run."""

    path: Path
    seen: images.Glance  # its size and digest when the batch was planned


class Entry(NamedTuple):
    """One picture to paint; its files are decoded only shortly before it is painted."""

    number: int  # number of the picture's row in the batch, from 1
    content: Path | None  # None for a texture, which has no content
    styles: tuple[Path, ...]
    output: Path
    # The recipe after all changes: by the flags of the command, and by the row's own values, such as
    # its size, the weights of its styles in their blend, and its overrides (changes KEY=VALUE).
    recipe: Recipe
    scales: tuple[run_scales.Scale, ...]  # the sizes at which it is painted, coarse to fine
    # Sizes and digests of the content and then of the styles, when the batch was planned. A file that
    # has another digest when it is read is refused. For a texture, the first entry describes the grey
    # picture that takes the place of a content.
    seen: tuple[images.Glance, ...]
    # The platform, such as "gpu", for which the precision `auto` was replaced in `recipe`; empty if the
    # precision was not `auto`, or has not been replaced yet.
    auto_on: str = ""
    # The regions (parts of the content with styles of their own) and the protected part, as options of
    # the command `stylize` give them: name of the option -> value. None if the picture has neither.
    controls: Mapping[str, Any] | None = None
    # For the files that `controls` names, such as masks: role of the file, such as "protect" -> its
    # size and digest when the batch was planned.
    masked: Mapping[str, images.Glance] = {}
    # Strength of the style, from 0 to 1, that the user gave; `recipe` has the weights that follow from
    # it. None if the user gave no strength.
    strength: float | None = None
    # The picture whose fine structure the style gets before the run; None leaves the style as it is.
    fine: FineFile | None = None
    seed: int | None = None  # seed of this picture's noise; None means the seed of the whole batch

    @property
    def every_style(self) -> tuple[images.Glance, ...]:
        """Sizes and digests of all styles: first those of `styles`, then those of the regions' styles.

        This is also the order of `Scale.style_shapes`, the sizes of the styles at a scale (resolution).
        """
        of_regions = region_styles_of(self.masked)
        if self.controls is not None and self.controls["region_maps"]:
            # One colour-coded map divides the content into regions, and another one divides the row's
            # only style into parts. A region gets the style of the part that has the same colour. So
            # the file of the row's style is also that of each region's style. `Scale.regions` counts
            # the default style, too, so 1 is subtracted.
            of_regions = [self.seen[1]] * (self.scales[-1].regions - 1)
        return (*self.seen[1:], *of_regions)


def region_styles_of(masked: Mapping[str, images.Glance]) -> list[images.Glance]:
    """Return the sizes and digests of those files that are the styles of regions.

    Args:
      masked: all files of a picture's regions (masks and styles, or two colour-coded maps) and of its
        protected part (masks): role of the file, such as "region_1_style" -> its size and digest.
    """
    return [one for role, one in masked.items() if re.fullmatch(r"region_\d+_style", role)]
