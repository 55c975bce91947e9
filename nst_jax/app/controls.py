"""The masks and styles of regions, and the masks of protected parts, read from files that options name.

A region is a part of the content that gets a style of its own; a protected part stays as it is in the
content. Both are called controls. This module also checks them, and adds the opacities of the pictures,
since most style losses leave out transparent parts.

Regions are given in one of two ways: by a mask and a style picture for each region (`--region`, here
`regions`), or by two colour-coded maps (`--regions`, here `region_maps`). One map is drawn over the
content and one over the style. A part of the content gets the style of that part of the style picture
which has the same colour in its map.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from nst_jax import images
from nst_jax._types import Shape
from nst_jax.app.control_files import argument_of, check_alone, protect_roles, roles_of
from nst_jax.app.mask_files import (
    check_masks_of_content,
    check_masks_of_styles,
    check_one_style,
    check_style_mask,
    mask_of,
    union_of_masks,
)
from nst_jax.app.parsing import ProtectFile, RegionFiles
from nst_jax.control_checks import check_controls, style_loss_of_all_positions
from nst_jax.controls import Protect, Region, regions, regions_of_maps
from nst_jax.controls.given import (
    Given,
    check_amount,
    check_number_of_regions,
    check_weight,
    checked_controls,
)
from nst_jax.images import Picture
from nst_jax.recipes.recipe import Recipe


class ReadControls(NamedTuple):
    """The regions of a content (areas with a style of their own), its protected part, and their files.

    The protected part stays as it is in the content.
    """

    regions: tuple[Region, ...] = ()
    protect: Protect | None = None  # the protected part; None if there is none
    # The pictures that were read from the files, by keys such as "region_1_mask" or "protect".
    files: Mapping[str, Picture] = {}
    # With `--style-fine`, which combines the style from two pictures: facts on this step, for the
    # metadata of the result. Otherwise empty.
    combined: Mapping[str, Any] = {}

    def region_styles(self, styles: Sequence[Picture]) -> list[Picture]:
        """Return the style picture of each region.

        If the regions come from colour-coded maps, each region has the run's only style picture.

        Args:
          styles: the style pictures of the run.
        """
        if "map_of_style" in self.files:
            return list(styles[:1]) * len(self.regions)
        return [self.files[f"region_{number}_style"] for number in range(1, len(self.regions) + 1)]

    def facts(self) -> dict[str, Any]:
        """Return the settings of regions, protected part and combined style, for a picture's metadata.

        These are the weights of the regions, and the amount by which the protected part keeps the
        content. With `--style-fine`, they are also the recipe, the size and the number of updates with
        which the style was combined from two pictures.
        """
        return numbers_of(self.regions, self.protect) | dict(self.combined)


def numbers_of(
    regions: Sequence[Region | RegionFiles], protect: Protect | ProtectFile | None
) -> dict[str, Any]:
    """Return the weights of regions and the amount of a protected part, for a picture's metadata.

    In the returned dict, "regions" has the weight of each region's style loss. "protect" has the amount
    by which the part stays as it is in the content, from 0 (not at all) to 1 (fully). The first key is
    left out without regions, and the second without a protected part.
    """
    found: dict[str, Any] = {}
    if regions:
        found["regions"] = [{"weight": region.weight} for region in regions]
    if protect is not None:
        found["protect"] = {"amount": protect.amount}
    return found


# A function that reads a picture, called as `read(path, argument="regions")`.
Read: TypeAlias = Callable[..., Picture]


def read_controls(
    chosen: Mapping[str, Any], styles: Sequence[Picture], *, read: Read = images.read
) -> ReadControls:
    """Read the masks, maps and styles that the options name.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
      styles: the style pictures of the run. `region_maps` names two colour-coded maps, the first of the
        content and the second of the style picture, so with it there must be only one style.
      read: reads a picture, as `images.read` does; a function that keeps pictures reads each only once.

    Raises:
      ValueError: if a file is no picture or no mask; if the mask or map of a style has other
        proportions than the style, or the masks of the protected part differ in proportions; if both
        `regions` and `region_maps` are given; if `region_maps` are given with several styles; if the
        content's map has no plain colours or too many, or the style's map lacks one of them; or if the
        amount of protection is out of range. The message names the option.
    """
    named: Sequence[RegionFiles] = chosen.get("regions") or ()
    maps, protect = chosen.get("region_maps"), chosen.get("protect")
    files: dict[str, Picture] = {}
    found: list[Region] = []
    if maps:
        check_alone(chosen)
        found = _regions_of_maps(maps, styles, files, read)
    for number, region in enumerate(named, 1):
        found.append(_region(region, f"region_{number}", files, read))
    protected = None if protect is None else _protect(protect, files, read)
    return ReadControls(tuple(found), protected, files)


def _regions_of_maps(
    maps: Sequence[Path], styles: Sequence[Picture], files: dict[str, Picture], read: Read
) -> list[Region]:
    check_one_style(len(styles))
    here, there = (read(path, argument="region_maps") for path in maps)
    files |= {"map_of_content": here, "map_of_style": there}
    style = styles[0].image
    check_style_mask(
        (there.name, there.image.shape[:2]), (styles[0].name, style.shape[:2]), "region_maps"
    )
    found = regions_of_maps(here.image, there.image, style, argument="region_maps")
    opacity = styles[0].alpha
    return [
        replace(region, style_mask=_opaque_part(region.style_mask, opacity)) for region in found
    ]


def _region(named: RegionFiles, role: str, files: dict[str, Picture], read: Read) -> Region:
    files[f"{role}_mask"] = read(named.mask, argument="regions")
    mask = mask_of(files[f"{role}_mask"], "regions")
    style = read(named.style, argument="regions")
    files[f"{role}_style"] = style
    style_mask = None
    if named.style_mask is not None:
        files[f"{role}_style_mask"] = read(named.style_mask, argument="regions")
        style_mask = mask_of(files[f"{role}_style_mask"], "regions")
        name, shape = files[f"{role}_style_mask"].name, style.image.shape[:2]
        check_style_mask((name, style_mask.shape), (style.name, shape))
    return Region(mask, style.image, _opaque_part(style_mask, style.alpha), named.weight)


def _opaque_part(
    mask: np.ndarray | None, opacity: np.ndarray | None
) -> Float[np.ndarray, "h w"] | None:
    """Return a mask that says how much each pixel of a style counts, [h, w] in [0, 1].

    This is the product of the style's mask and its opacity. If only one of the two is given, it is
    returned as it is; if neither is given, None is returned.

    Args:
      mask: the style's mask that the user gave, [h', w'] in [0, 1], or None. It is resized to the size
        of `opacity`.
      opacity: the style's alpha channel, [h, w] in [0, 1], or None if the style is opaque.
    """
    if mask is None or opacity is None:
        return opacity if mask is None else mask
    return np.asarray(regions.resized_mask(mask, opacity.shape)) * opacity


def _protect(named: ProtectFile, files: dict[str, Picture], read: Read) -> Protect:
    found = [read(path, argument="protect") for path in named.masks]
    files |= dict(zip(protect_roles(named), found, strict=True))
    check_amount("protect", named.amount)
    return Protect(union_of_masks(found, "protect"), named.amount)


def shapes_of_region_styles(chosen: Mapping[str, Any], styles: Sequence[Shape]) -> list[Shape]:
    """Return (height, width) of each region's style, without decoding the styles.

    Only colour-coded maps are decoded, to count the regions in them. The style of all these regions is
    the run's only style.

    Args:
      chosen: the values of the options `regions` and `region_maps`.
      styles: (height, width) of the run's styles.

    Raises:
      ValueError: if a file cannot be read; if `region_maps` are given with several styles; or if the
        content's map has no plain colours or too many, or the style's map lacks one of them. The
        message names the option.
    """
    if maps := chosen.get("region_maps"):
        check_one_style(len(styles))
        here, there = (images.load(path, argument="region_maps") for path in maps)
        unread = np.zeros((1, 1, 3), np.float32)
        return [styles[0]] * len(regions_of_maps(here, there, unread, argument="region_maps"))
    named: Sequence[RegionFiles] = chosen.get("regions") or ()
    return [images.glance(region.style, argument="regions").shape for region in named]


def given_of(
    read: ReadControls, content: Picture, styles: Sequence[Picture], recipe: Recipe
) -> tuple[Given | None, list[str]]:
    """Check regions and the protected part against the pictures, and add the pictures' opacities.

    Args:
      read: the regions (parts of the content with a style of their own) and the protected part (which
        keeps the content), from `read_controls`.
      content: the content picture. The style loss leaves out its transparent parts.
      styles: the style pictures. Their transparent parts are no part of the style.
      recipe: the recipe. If its losses cannot leave out parts of a picture, transparent parts count as
        white instead.

    Returns:
      The checked regions and protected part with the opacities; None if there are no regions, no
      protected part, and no transparent parts that the losses leave out. And notes to show to the user.

    Raises:
      ValueError: if a mask has other proportions than its picture or is empty, if there are too many
        regions, or if a weight or an amount of protection is out of range.
    """
    opacities = [style.alpha for style in styles]
    notes = []
    reason = why_transparent_counts(recipe)
    if reason and any(alpha is not None for alpha in (content.alpha, *opacities)):
        notes.append(f"transparent parts are painted as if they were white, since {reason}")
        content, opacities = content._replace(alpha=None), []
    check_masks_of_content(
        {role: (file.name, file.image.shape[:2]) for role, file in read.files.items()},
        (content.name, content.image.shape[:2]),
    )
    given = checked_controls(
        content.image.shape[:2],
        [style.image.shape[:2] for style in styles],
        regions=read.regions or None,
        protect=read.protect,
        opacity=content.alpha,
        style_opacity=opacities or None,
    )
    return given, notes


def why_transparent_counts(recipe: Recipe) -> str:
    """Return the reason why a recipe's style losses cannot leave out transparent parts of pictures.

    The text is empty if the losses can leave such parts out.
    """
    if style_loss_of_all_positions(recipe) is not None:
        return "the style loss of this recipe cannot leave out parts of a picture"
    if recipe.terms.tap_styles:
        return "a layer has a style of its own, beside which no part can be left out"
    return ""


# --- Checks before a run --------------------------------------------------------------------------


def check_planned(chosen: Mapping[str, Any], recipe: Recipe) -> None:
    """Refuse regions or a protected part if the recipe does not allow them.

    A region has a style of its own; the protected part stays as it is in the content. No picture is
    needed for this check, so it is made before any picture is decoded.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
      recipe: the recipe of the run.

    Raises:
      ValueError: if there are too many regions; if a style loss of the recipe cannot leave out parts of
        a picture; if masks with values between 0 and 1 are needed, and a style loss takes only 0 and 1;
        if the recipe has styles for single layers (`tap_styles`), to which masks are not applied; or if
        there are regions and the recipe has the colours "palette".
    """
    named = chosen.get("regions") or chosen.get("region_maps") or ()
    check_number_of_regions(len(named))
    protect: ProtectFile | None = chosen.get("protect")
    if named or protect is not None:
        part = Region(mask=None, style=None)
        amount = None if protect is None else Protect(mask=None, amount=protect.amount)
        check_controls(Given(regions=(part,) * len(named), protect=amount), recipe)


def check_files(chosen: Mapping[str, Any]) -> None:
    """Check the files for regions and the protected part that many pictures share.

    A region has a style of its own; the protected part stays as it is in the content. The check is done
    before any picture is painted. If an option names a folder, the files in it are not checked.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.

    Raises:
      ValueError: if a file cannot be read; if there are too many regions; if a mask is in colours, has
        transparent parts or is black everywhere; if the mask of a region's style has other proportions
        than that style; if two masks of the protected part differ in proportions; or if a weight or an
        amount of protection is out of range. The message names the option.
    """
    named: Sequence[RegionFiles] = chosen.get("regions") or ()
    check_number_of_regions(len(named))
    for index, region in enumerate(named):
        check_weight(f"regions[{index}].weight", region.weight)
        # Only the mask of the content may be a folder, with a mask for each content.
        if not region.mask.is_dir():
            mask_of(images.read(region.mask, argument="regions"), "regions")
        style = images.glance(region.style, argument="regions")
        if region.style_mask is not None:
            picture = images.read(region.style_mask, argument="regions")
            mask = mask_of(picture, "regions")
            check_style_mask((picture.name, mask.shape), (style.name, style.shape))
    for path in chosen.get("region_maps") or ():
        if not path.is_dir():
            images.glance(path, argument="region_maps")
    protect: ProtectFile | None = chosen.get("protect")
    if protect is not None:
        check_amount("protect", protect.amount)
        found = [
            images.read(path, argument="protect") for path in protect.masks if not path.is_dir()
        ]
        if found:
            union_of_masks(found, "protect")


def check_with_pictures(
    chosen: Mapping[str, Any], content: images.Glance, styles: Sequence[images.Glance]
) -> None:
    """Check the files for regions and the protected part against pictures that are not decoded.

    The checks are those that a run makes of the same files, with the same messages.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
      content: the content picture.
      styles: the style pictures.

    Raises:
      ValueError: as in `read_controls`; and if a mask has other proportions than its picture. Faults of
        colour-coded maps that only decoding finds are left to `shapes_of_region_styles`.
    """
    check_alone(chosen)
    seen = {
        role: images.glance(path, argument=argument_of(role))
        for role, path in roles_of(chosen).items()
    }
    check_files(chosen)
    named = {role: (one.name, one.shape) for role, one in seen.items()}
    check_masks_of_styles(named, [(style.name, style.shape) for style in styles])
    check_masks_of_content(named, (content.name, content.shape))
