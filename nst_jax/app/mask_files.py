"""Pictures as masks, and the checks that masks and maps have the proportions of their pictures."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float

from nst_jax._types import Shape
from nst_jax.app.control_files import argument_of
from nst_jax.controls import masks, regions
from nst_jax.images import Picture

# A picture counts as grey if the channels of each pixel, in [0, 1], differ by at most this. In a grey
# picture that was stored as JPEG, they differ a little.
COLOURED = 0.1


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
            check_one_style(len(styles))
            check_style_mask(seen, styles[0], "region_maps")
        elif role.endswith("_style_mask"):
            check_style_mask(seen, masks_seen[role.removesuffix("_mask")])


def check_style_mask(
    mask: tuple[str, Shape], style: tuple[str, Shape], argument: str = "regions"
) -> None:
    """Refuse a mask whose proportions are not those of its style.

    Both are given as pairs (name, (height, width)). `argument` is the option that gives the mask, named
    in error messages.
    """
    masks.check_proportions(argument, mask[1], style[1], f"the style {style[0]!r}", name=mask[0])


def check_one_style(count: int) -> None:
    """Refuse `region_maps` beside several styles: the second map is drawn over one style.

    `count` is the number of styles of the run.
    """
    if count > 1:
        raise ValueError(
            f"`region_maps`: the second map is drawn over one style, and {count} are given; name one, "
            "or use `--region` with the style of each region"
        )


def _is_of_content(role: str) -> bool:
    """Return whether a file with a role such as "region_1_mask" is a mask or map of the content."""
    if role.startswith("region"):
        return role.endswith("_mask") and not role.endswith("_style_mask")
    return role.startswith("protect") or role == "map_of_content"
