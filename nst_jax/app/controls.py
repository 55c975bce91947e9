"""The masks and styles of regions, and the masks of protected parts, read from files that options name.

A region is a part of the content that gets a style of its own; a protected part stays as it is in the
content. Both are called controls. This module also checks them, and adds the opacities of the pictures,
since most style losses leave out transparent parts.

Regions are given in one of two ways: by a mask and a style picture for each region (`--region`, here
`regions`), or by two colour-coded maps (`--regions`, here `region_maps`). One map is drawn over the
content and one over the style. A part of the content gets the style of that part of the style picture
which has the same colour in its map.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float

from nst_jax import images
from nst_jax._types import Shape
from nst_jax.app.parsing import ProtectFile, RegionFiles
from nst_jax.control_checks import check_controls, style_loss_of_all_positions
from nst_jax.controls import Protect, Region, masks, regions, regions_of_maps
from nst_jax.controls.given import (
    Given,
    check_amount,
    check_number_of_regions,
    check_weight,
    checked_controls,
)
from nst_jax.images import Picture
from nst_jax.images.folders import pictures_in
from nst_jax.recipes.recipe import Recipe


@contextmanager
def naming_style(names: Sequence[str]) -> Iterator[None]:
    """Context manager: add the file name of a style to an error message about the style's size.

    Args:
      names: the names of the style files, first those that are blended, then those of regions (parts
        of the content with a style of their own).
    """
    try:
        yield
    except ValueError as error:
        if (found := _STYLE.match(str(error))) is None:
            raise
        index = int(found["of"] or found["scaled"] or 0)
        raise ValueError(f"{error} ('{names[index]}')") from None


# The beginning of a message about the size of a style: the style itself is too small, or `style_scale`
# makes it too small or too large. If there are several styles, an index follows `style`.
_STYLE = re.compile(
    r"`style(\[(?P<of>\d+)\])?`: \d+x\d+ px "
    r"|`style_scale`: \S+ makes \S+ px of (the )?style(\[(?P<scaled>\d+)\])?[,;]"
)


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


def roles_of(chosen: Mapping[str, Any]) -> dict[str, Path]:
    """Return the paths of the files for regions and for the protected part, by their use.

    A region has a style of its own; the protected part stays as it is in the content. The keys are
    names such as "region_1_mask", "region_1_style", "map_of_content" or "protect".

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
    """
    found: dict[str, Path] = {}
    if chosen["region_maps"]:
        found["map_of_content"], found["map_of_style"] = chosen["region_maps"]
    named: Sequence[RegionFiles] = chosen["regions"]
    for number, region in enumerate(named, 1):
        found |= {f"region_{number}_mask": region.mask, f"region_{number}_style": region.style}
        if region.style_mask is not None:
            found[f"region_{number}_style_mask"] = region.style_mask
    if chosen["protect"] is not None:
        found |= dict(zip(protect_roles(chosen["protect"]), chosen["protect"].masks, strict=True))
    return found


def protect_roles(protect: ProtectFile) -> list[str]:
    """Return the keys of `roles_of` for the protected part's masks: "protect", "protect_2", ..."""
    return ["protect", *(f"protect_{number}" for number in range(2, len(protect.masks) + 1))]


def argument_of(role: str) -> str:
    """Return the name of the option that gives the file with a role such as "region_1_style"."""
    if role.startswith("protect"):
        return "protect"
    if role.startswith("map"):
        return "region_maps"
    return "regions"


def files_of(chosen: Mapping[str, Any]) -> list[Path]:
    """Return the paths of all files and folders that the options name for regions and protected parts.

    The files are masks, colour-coded maps, and the regions' style pictures. The folders contain masks
    or maps. With these paths, callers check that no result would be written over one of the files.

    Args:
      chosen: the values of the command's options.
    """
    found = [path for region in chosen.get("regions") or () for path in region.paths]
    found += chosen.get("region_maps") or ()
    protect = chosen.get("protect")
    return [*found, *(protect.masks if protect is not None else ())]


def with_absolute_paths(chosen: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the options that name masks, colour-coded maps and styles of regions, with absolute paths.

    The result is None if `chosen` is None. Processes on other machines, whose current folders differ,
    need absolute paths.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
    """
    if chosen is None:
        return None
    regions = [
        region._replace(
            mask=region.mask.absolute(),
            style=region.style.absolute(),
            style_mask=region.style_mask and region.style_mask.absolute(),
        )
        for region in chosen["regions"]
    ]
    protect = chosen["protect"]
    if protect is not None:
        protect = protect.with_masks(Path.absolute)
    maps = tuple(path.absolute() for path in chosen["region_maps"])
    return {"regions": tuple(regions), "region_maps": maps, "protect": protect}


def of_content(chosen: Mapping[str, Any], content: Path, styles: Sequence[Path]) -> dict[str, Any]:
    """Return the options for regions and the protected part, for one of many pictures to paint.

    A region has a style of its own; the protected part stays as it is in the content. A map is a
    picture in which each colour marks a region. An option may name a folder in place of a mask of the
    content or a map. The mask (or map) of a content is then the file in this folder that has the same
    name as the content, up to the suffix. The map of a style has the same name as the style. The mask
    of a region's style is always a file.

    Args:
      chosen: the values of the options `regions`, `region_maps` and `protect`.
      content: the path of the content from which the picture is painted.
      styles: the paths of the styles in which it is painted.

    Returns:
      The options, with paths of files in place of paths of these folders.

    Raises:
      ValueError: if a folder has no mask or map for the picture, has more than one, or cannot be read.
    """
    regions = [
        region._replace(mask=_in_folder(region.mask, content, "regions"))
        for region in chosen.get("regions") or ()
    ]
    maps = tuple(
        _in_folder(path, picture, "region_maps")
        for path, picture in zip(
            chosen.get("region_maps") or (), (content, *styles[:1]), strict=False
        )
    )
    protect: ProtectFile | None = chosen.get("protect")
    if protect is not None:
        protect = protect.with_masks(lambda path: _in_folder(path, content, "protect"))
    return {"regions": tuple(regions), "region_maps": maps, "protect": protect}


def _in_folder(path: Path, picture: Path, argument: str) -> Path:
    """Return the picture in folder `path` that has the same name as `picture` but for the suffix.

    If `path` is not a folder, it is returned as it is. `argument` names the option in error messages.

    Raises:
      ValueError: if the folder has no such picture or several, or cannot be read.
    """
    if not path.is_dir():
        return path
    found = [one for one in pictures_in(path, argument=argument) if one.stem == picture.stem]
    if len(found) == 1:
        return found[0]
    if found:
        names = " and ".join(one.name for one in found)
        raise ValueError(
            f"`{argument}`: folder '{path}' has several pictures named as '{picture}': {names}; "
            "leave one"
        )
    raise ValueError(
        f"`{argument}`: folder '{path}' has no picture named as '{picture}'; add '{picture.stem}.png', "
        "or list the pictures in a manifest, where the cells of this row may be empty"
    )


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
            _check_style_mask((picture.name, mask.shape), (style.name, style.shape))
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
        colour-coded maps that only decoding finds are left to `shapes_of_styles`.
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


def check_alone(chosen: Mapping[str, Any]) -> None:
    """Refuse `region_maps`, two colour-coded maps that show all regions, together with `regions`."""
    if chosen.get("region_maps") and chosen.get("regions"):
        raise ValueError("`region_maps`: has all regions of a picture; omit it, or omit `--region`")


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


def shapes_of_styles(chosen: Mapping[str, Any], styles: Sequence[Shape]) -> list[Shape]:
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
        _check_one_style(len(styles))
        here, there = (images.load(path, argument="region_maps") for path in maps)
        unread = np.zeros((1, 1, 3), np.float32)
        return [styles[0]] * len(regions_of_maps(here, there, unread, argument="region_maps"))
    named: Sequence[RegionFiles] = chosen.get("regions") or ()
    return [images.glance(region.style, argument="regions").shape for region in named]


def _check_one_style(count: int) -> None:
    if count > 1:
        raise ValueError(
            f"`region_maps`: the second map is drawn over one style, and {count} are given; name one, "
            "or use `--region` with the style of each region"
        )


def _regions_of_maps(
    maps: Sequence[Path], styles: Sequence[Picture], files: dict[str, Picture], read: Read
) -> list[Region]:
    _check_one_style(len(styles))
    here, there = (read(path, argument="region_maps") for path in maps)
    files |= {"map_of_content": here, "map_of_style": there}
    style = styles[0].image
    _check_style_mask(
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
        _check_style_mask((name, style_mask.shape), (style.name, shape))
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


def union_of_masks(pictures: Sequence[Picture], argument: str) -> Float[np.ndarray, "h w"]:
    """Return the union of masks, [h, w] in [0, 1]: for each pixel, the largest value in any mask.

    Args:
      pictures: the masks as they were read. If their sizes differ, the union has the size of the
        largest mask.
      argument: the name of the option that names the files, used in error messages.

    Raises:
      ValueError: if a picture is no mask, or if the proportions of two masks differ.
    """
    found = [mask_of(picture, argument) for picture in pictures]
    largest = max((mask.shape for mask in found), key=lambda shape: shape[0] * shape[1])
    for mask, picture in zip(found, pictures, strict=True):
        first = f"the mask {pictures[0].name!r}"
        masks.check_proportions(argument, mask.shape, found[0].shape, first, name=picture.name)
    sized = [
        mask if mask.shape == largest else np.asarray(regions.resized_mask(mask, largest))
        for mask in found
    ]
    return sized[0] if len(sized) == 1 else np.maximum.reduce(sized)


def mask_of(picture: Picture, argument: str) -> Float[np.ndarray, "h w"]:
    """Return a picture as a mask [h, w] in [0, 1]: 1 (white) is inside, 0 (black) outside.

    Args:
      picture: the picture that was read.
      argument: the name of the option that names its file, used in error messages.

    Raises:
      ValueError: if the picture has transparent parts or colours, or is black everywhere. The message
        names its file.
    """
    if picture.alpha is not None:
        raise ValueError(
            f"`{argument}`: the mask {picture.name!r} has transparent parts; a mask is an opaque grey "
            "picture, white where the region is"
        )
    image = picture.image
    if np.ptp(image, axis=-1).max() > COLOURED:
        raise ValueError(
            f"`{argument}`: the mask {picture.name!r} is in colours; a mask is grey, white where the "
            "region is; colour-coded maps are for `--regions`"
        )
    grey = image.mean(axis=-1)
    if grey.max() < masks.LEAST_INSIDE:
        raise ValueError(
            f"`{argument}`: the mask {picture.name!r} is empty, since all of it is black; pixels "
            "inside are white"
        )
    return masks.checked_mask(argument, np.clip(grey, 0, 1))


# A picture counts as grey if the channels of each pixel, in [0, 1], differ by at most this. In a grey
# picture that was stored as JPEG, they differ a little.
COLOURED = 0.1


def check_masks_of_content(
    masks_seen: Mapping[str, tuple[str, Shape]], content: tuple[str, Shape]
) -> None:
    """Refuse masks or a colour-coded map of other proportions than the content.

    The message names both files.

    Args:
      masks_seen: name and (height, width) of each file, by its role as in `roles_of`. Styles, and masks
        and maps of styles, are ignored.
      content: name and (height, width) of the content.
    """
    for role, (name, shape) in masks_seen.items():
        if _is_of_content(role):
            what = f"the content {content[0]!r}"
            masks.check_proportions(argument_of(role), shape, content[1], what, name=name)


def check_masks_of_styles(
    masks_seen: Mapping[str, tuple[str, Shape]], styles: Sequence[tuple[str, Shape]]
) -> None:
    """Refuse masks or a colour-coded map of other proportions than their style.

    The message names both files. A map is also refused if there are several styles.

    Args:
      masks_seen: name and (height, width) of each mask, map and style of a region, by its role, such as
        "region_1_style_mask"; see `roles_of`. Masks of the content are ignored.
      styles: name and (height, width) of each style of the run, apart from those of regions.
    """
    for role, seen in masks_seen.items():
        if role == "map_of_style":
            _check_one_style(len(styles))
            _check_style_mask(seen, styles[0], "region_maps")
        elif role.endswith("_style_mask"):
            _check_style_mask(seen, masks_seen[role.removesuffix("_mask")])


def _check_style_mask(
    mask: tuple[str, Shape], style: tuple[str, Shape], argument: str = "regions"
) -> None:
    """Refuse a mask whose proportions are not those of its style.

    Both are given as pairs (name, (height, width)). `argument` is the option that gives the mask, named
    in error messages.
    """
    masks.check_proportions(argument, mask[1], style[1], f"the style {style[0]!r}", name=mask[0])


def _is_of_content(role: str) -> bool:
    """Return whether a file with a role such as "region_1_mask" is a mask or map of the content."""
    if role.startswith("region"):
        return role.endswith("_mask") and not role.endswith("_style_mask")
    return role.startswith("protect") or role == "map_of_content"


def why_transparent_counts(recipe: Recipe) -> str:
    """Return the reason why a recipe's style losses cannot leave out transparent parts of pictures.

    The text is empty if the losses can leave such parts out.
    """
    if style_loss_of_all_positions(recipe) is not None:
        return "the style loss of this recipe cannot leave out parts of a picture"
    if recipe.terms.tap_styles:
        return "a layer has a style of its own, beside which no part can be left out"
    return ""


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
