"""The argument `style_fine` of a batch: pictures whose fine structure the styles get before the run."""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from nst_jax import _checks
from nst_jax._types import Params, Shape
from nst_jax.batch_members import Member
from nst_jax.combining import combined_style
from nst_jax.vgg.taps import SMALLEST


def checked_fine_styles(
    given: Any,
    contents: Sequence[np.ndarray],
    styles: Sequence[list[np.ndarray]],
    plan: Any,
) -> tuple[list[np.ndarray | None], list[list[np.ndarray]]]:
    """Check `style_fine`, the pictures whose fine structure (brush strokes) the styles of a batch get.

    Args:
      given: the argument `style_fine` of `stylize_many`; None if no style gets a fine structure.
      contents: the contents of the batch.
      styles: lists of styles to blend: one list for all pictures of the batch, or one for each. Unless
        `given` is None, each list must have exactly one style.
      plan: the argument `plan`, with which `style_fine` cannot be used.

    Returns:
      The pictures in `given`, and `styles`. A style for which the first list has None keeps its own
      fine structure. If `styles` has only one list, it is repeated for each entry of `given`.

    Raises:
      TypeError: if `given` is of the wrong type.
      ValueError: if it has no pictures, its pictures cannot be used, their number does not fit the
        contents and styles, one is the same picture as its style, styles are blended, or a plan is
        given.
    """
    if given is None:
        return [None], list(styles)
    if plan is not None:
        raise ValueError(
            "`style_fine`: cannot be used with `plan`; combine the styles by `nst_jax.combined_style`, "
            "and give the results as `styles`"
        )
    found: list[np.ndarray | None]
    if isinstance(given, (list, tuple)):
        found = [
            None if one is None else _checks.image(f"style_fine[{index}]", one)
            for index, one in enumerate(given)
        ]
        if all(one is None for one in found):
            raise ValueError("`style_fine`: has no picture; leave it out")
    else:
        found = [*_checks.images("style_fine", given)]
    for index, image in enumerate(found):
        if image is not None:
            name = "style_fine" if len(found) == 1 else f"style_fine[{index}]"
            _checks.image_shape(name, image.shape, smallest=SMALLEST)
    blended = max(len(one) for one in styles)
    if blended > 1:
        raise ValueError(
            f"`style_fine`: gives its structure to one style, and {blended} are blended; give one"
        )
    for name, others in (("contents", contents), ("styles", styles)):
        if 1 not in (len(found), len(others)) and len(found) != len(others):
            raise ValueError(
                f"`style_fine`: expected one picture, or one for each of the {len(others)} {name}, "
                f"got {len(found)}"
            )
    listed = list(styles) * len(found) if len(styles) == 1 else list(styles)
    for index, (style,) in enumerate(listed):
        fine = found[index % len(found)]
        if fine is not None and np.array_equal(style, fine):
            name = "style_fine" if len(found) == 1 else f"style_fine[{index}]"
            raise ValueError(
                f"`{name}`: is the same picture as its style, which so gets no other structure; leave "
                "it out, or give a list with None for this style"
            )
    return found, listed


def with_fine_structures(
    params: Params,
    styles: Sequence[list[np.ndarray]],
    fine: Sequence[np.ndarray | None],
    members: Sequence[Member],
    precision: str | None,
    tile: int | str | None,
) -> tuple[list[list[np.ndarray]], list[list[Shape]]]:
    """Give the first style of each picture the fine structure (such as brushwork) of another picture.

    Args:
      params: VGG's weights.
      styles: lists of style pictures: one list for all pictures of the batch, or one for each.
      fine: the pictures that have the fine structure, one for all pictures of the batch or one for
        each; None leaves the first style as it is.
      members: the pictures of the batch. Each `Member` states to which final size its first style is
        resized. At this size, the style is combined with the fine structure.
      precision: as in `stylize_many`.
      tile: as in `stylize_many`.

    Returns:
      Two lists. The first has a list of style pictures for each picture of the batch. It has only one
      entry if `styles` and `fine` have one entry each and all pictures need their style at the same
      size. The second list has the same form, with the (height, width) of each style before this
      change.
    """
    known: dict[tuple[bytes, bytes, Shape], np.ndarray] = {}
    keys, found, sizes = [], [], []
    style_digests = [_digest(one[0]) for one in styles]
    fine_digests = [b"" if one is None else _digest(one) for one in fine]
    for index, member in enumerate(members):
        style, own = index % len(styles), index % len(fine)
        first, *rest = styles[style]
        shape = member.prepared.scales[-1].style_shapes[0]
        picture = fine[own]
        key = style_digests[style], fine_digests[own], shape
        if key not in known:
            known[key] = first
            if picture is not None:
                size = f"{shape[1]}x{shape[0]}"
                combined = combined_style(
                    params, first, picture, size=size, precision=precision, tile=tile
                )
                known[key] = np.asarray(combined)
        keys.append(key)
        found.append([known[key], *rest])
        sizes.append([(image.shape[0], image.shape[1]) for image in styles[style]])
    if len(styles) == len(fine) == len(set(keys)) == 1:
        return found[:1], sizes[:1]
    return found, sizes


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(f"{image.shape}".encode() + image.tobytes()).digest()
