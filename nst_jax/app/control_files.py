"""Which files the options name for regions and protected parts, and what each of them is for.

A region is a part of the content that gets a style of its own; a protected part stays as it is in the
content. Their masks, colour-coded maps and style pictures are not read here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nst_jax.app.parsing import ProtectFile, RegionFiles
from nst_jax.images.folders import pictures_in


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


def with_files_from_folders(
    chosen: Mapping[str, Any], content: Path, styles: Sequence[Path]
) -> dict[str, Any]:
    """Return the options for one picture, with a mask or map of its own in place of each folder.

    The options are those for regions and the protected part. A region has a style of its own; the
    protected part stays as it is in the content. A map is a picture in which each colour marks a
    region. An option may name a folder in place of a mask of the content or a map. The mask (or map) of
    a content is then the file in this folder that has the same name as the content, up to the suffix.
    The map of a style has the same name as the style. The mask of a region's style is always a file.

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


def check_alone(chosen: Mapping[str, Any]) -> None:
    """Refuse `region_maps`, two colour-coded maps that show all regions, together with `regions`."""
    if chosen.get("region_maps") and chosen.get("regions"):
        raise ValueError("`region_maps`: has all regions of a picture; omit it, or omit `--region`")
