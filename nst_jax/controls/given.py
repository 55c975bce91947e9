"""The regions, protected parts and opacities that callers pass, and the checks of their values."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _checks
from nst_jax._types import Shape
from nst_jax.controls import masks


@dataclass(frozen=True, eq=False, kw_only=False)
class Region:
    """A part of the content that gets a style of its own.

    Attributes:
      mask: which pixels of the content are in the region: [h, w] in [0, 1], with the content's
        proportions; see `masks.checked_mask`.
      style: the region's style picture, [h', w', 3] in [0, 1], or uint8, of any size.
      style_mask: which pixels of the style count, [h'', w''] in [0, 1], with the style's proportions;
        None means all.
      weight: weight of this region's style loss, relative to those of the other regions and to that of
        the default style (the style of all other pixels), which is 1. All these weights are divided by
        their sum.

    Example:
      >>> import numpy as np
      >>> from nst_jax import controls, images
      >>> sky = np.zeros((300, 451))
      >>> sky[:120] = 1
      >>> controls.Region(sky, images.sample("starry_night"), weight=2).weight
      2
    """

    mask: Any
    style: Any
    style_mask: Any = None
    weight: Any = 1.0


@dataclass(frozen=True, eq=False)
class Protect:
    """A part of the content that stays as it is.

    Attributes:
      mask: which pixels are protected: [h, w] in [0, 1], with the content's proportions. To protect
        two parts, join their masks by `np.maximum`.
      amount: how strongly they are protected, from 0 (not at all) to 1. With 1, pixels whose mask is 1
        are those of the content, bit for bit.
    """

    mask: Any
    amount: Any = 1.0


class Given(NamedTuple):
    """The regions, protected part and opacities that a caller gave, checked, with masks in NumPy."""

    regions: tuple[Region, ...] = ()
    protect: Protect | None = None
    opacity: np.ndarray | None = None  # of the content, [h, w]; None if it is opaque
    # The opacity [h, w] of each style, or None for an opaque one; () if all styles are opaque.
    style_opacities: tuple[np.ndarray | None, ...] = ()

    @property
    def argument(self) -> str:
        """The name of an argument that the caller gave, for error messages.

        If the caller gave several, it is the first in the order of the fields above.
        """
        if self.regions:
            return "regions"
        if self.protect is not None:
            return "protect"
        return "opacity" if self.opacity is not None else "style_opacity"

    @property
    def soft(self) -> bool:
        """Whether the amount of protection is strictly between 0 and 1.

        With such an amount, the masks for feature maps have values between 0 and 1, even if the recipe
        makes the masks of regions and of opaque parts 0 or 1 at each layer. Not every style loss can
        use such masks; see `control_checks.check_controls`.
        """
        amount = np.asarray(0 if self.protect is None else self.protect.amount)
        return bool(np.any((amount > 0) & (amount < 1)))

    @property
    def style_shapes(self) -> list[Shape]:
        """The (height, width) of each region's style."""
        return [(region.style.shape[0], region.style.shape[1]) for region in self.regions]

    def facts(self) -> dict[str, Any]:
        """Return all masks, pictures and numbers by name, without those that are None.

        A checkpoint records these values, arrays as hashes, since only a run with the same values may
        resume it.
        """
        found: dict[str, Any] = {}
        for number, region in enumerate(self.regions, 1):
            found |= {
                f"region {number}": region.mask,
                f"region {number} style": region.style,
                f"region {number} style mask": region.style_mask,
                f"region {number} weight": region.weight,
            }
        if self.protect is not None:
            found |= {"protect": self.protect.mask, "protect amount": self.protect.amount}
        found["opacity"] = self.opacity
        for number, opacity in enumerate(self.style_opacities, 1):
            found[f"opacity of style {number}"] = opacity
        return {name: value for name, value in found.items() if value is not None}


def checked_controls(
    content: Shape,
    styles: Sequence[Shape],
    *,
    regions: Any = None,
    protect: Any = None,
    opacity: Any = None,
    style_opacity: Any = None,
) -> Given | None:
    """Check regions, protected part and opacities against the sizes of content and styles.

    Args:
      content: (height, width) of the content.
      styles: (height, width) of each style.
      regions: a list of `Region`; None means no region.
      protect: a `Protect`; None means that nothing is protected.
      opacity: the content's opacity, [h, w] in [0, 1]; None if it is opaque.
      style_opacity: the style's opacity, [h, w] in [0, 1], or a list with an opacity or None for each
        style; None if all styles are opaque.

    Returns:
      The checked values, with masks and opacities as float32 [h, w]. An opacity that is 1 everywhere
      counts as not given. The result is None if nothing was given.

    Raises:
      TypeError: if a value has the wrong type.
      ValueError: if a mask has a wrong rank, dtype or value, has no pixel inside, or has other
        proportions than its picture; if an opacity has one of these faults; if a region's style is
        not a picture; if `style_opacity` does not have one entry for each style; if there are too
        many regions; and if a weight or an amount is out of range.
    """
    found = Given(
        _checked_regions(content, regions),
        None if protect is None else _checked_protect(content, protect),
        _checked_opacity("opacity", opacity, content, "the content"),
        _checked_style_opacities(styles, style_opacity),
    )
    absent = not found.regions and not found.style_opacities
    return None if absent and found.protect is found.opacity is None else found


def _checked_regions(content: Shape, regions: Any) -> tuple[Region, ...]:
    found = []
    for index, region in enumerate(listed_regions(regions)):
        name = f"regions[{index}]"
        _checks.instance(name, region, Region, "`nst_jax.controls.Region(mask, style)` makes one")
        style = _checks.image(f"{name}.style", region.style)
        mask = _checked_mask(f"{name}.mask", region.mask, content, "the content")
        style_mask = region.style_mask
        if style_mask is not None:
            shape = style.shape[0], style.shape[1]
            style_mask = _checked_mask(f"{name}.style_mask", style_mask, shape, "the style")
        check_weight(f"{name}.weight", region.weight)
        found.append(Region(mask, style, style_mask, region.weight))
    return tuple(found)


def listed_regions(regions: Any) -> Sequence[Any]:
    """Return the regions that a caller gives, as a list or tuple; an empty one for None.

    The regions themselves are not checked.

    Raises:
      TypeError: if they are no list, tuple or None.
      ValueError: if there are more than a run can have; the message names the largest number.
    """
    if regions is None:
        return ()
    if not isinstance(regions, (list, tuple)):
        raise TypeError(
            f"`regions`: expected a list of `nst_jax.controls.Region`, got {type(regions).__name__}"
        )
    check_number_of_regions(len(regions))
    return regions


# Largest number of regions, including the region of the default style: the pixels outside all others.
MOST_REGIONS = 16


def check_number_of_regions(count: int) -> None:
    """Refuse more regions than a run can have.

    Args:
      count: number of regions that the caller gives, not counting the region of the default style.

    Raises:
      ValueError: if there are too many; the message names the largest number.
    """
    if count >= MOST_REGIONS:
        raise ValueError(
            f"`regions`: got {count}, and at most {MOST_REGIONS - 1} are possible, since each takes "
            "time and memory in every update; give fewer, or join masks that have the same style"
        )


SEVERAL = "`stylize_many` and `instant_many` take"  # in messages on an array in place of one number


def _checked_protect(content: Shape, protect: Any) -> Protect:
    _checks.instance("protect", protect, Protect, "`nst_jax.controls.Protect(mask)` makes one")
    mask = _checked_mask("protect.mask", protect.mask, content, "the content")
    check_amount("protect.amount", protect.amount)
    return Protect(mask, protect.amount)


def check_amount(argument: str, amount: Any) -> None:
    """Refuse an amount, which says how strongly pixels are protected, if it is not from 0 to 1."""
    _checks.number(argument, amount, least=0, most=1, means="1 keeps the content")
    _checks.not_array(argument, amount, SEVERAL)


def check_weight(argument: str, weight: Any) -> None:
    """Refuse a weight of a region's style loss that is not one number, or is negative or too large."""
    _checks.number(argument, weight, least=0, below=_checks.LARGEST_SHARE)
    _checks.not_array(argument, weight, SEVERAL)


def _checked_mask(argument: str, value: Any, picture: Shape, what: str) -> np.ndarray:
    mask = masks.checked_mask(argument, value)
    masks.check_proportions(argument, (mask.shape[0], mask.shape[1]), picture, what)
    return mask


def _checked_opacity(argument: str, value: Any, picture: Shape, what: str) -> np.ndarray | None:
    if value is None:
        return None
    opacity = masks.checked_mask(argument, value, empty=True)
    masks.check_proportions(argument, (opacity.shape[0], opacity.shape[1]), picture, what)
    if opacity.max() < masks.THRESHOLD:
        raise ValueError(f"`{argument}`: all of {what} is transparent; give one with opaque parts")
    return None if opacity.min() == 1 else opacity


def _checked_style_opacities(styles: Sequence[Shape], given: Any) -> tuple[np.ndarray | None, ...]:
    if given is None:
        return ()
    several = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(several) != len(styles):
        raise ValueError(
            f"`style_opacity`: expected one for each of the {len(styles)} styles, got {len(several)}"
        )
    names = (
        ["style_opacity"]
        if len(several) == 1
        else [f"style_opacity[{index}]" for index in range(len(several))]
    )
    found = tuple(
        _checked_opacity(name, opacity, shape, "the style")
        for name, opacity, shape in zip(names, several, styles, strict=True)
    )
    return () if all(opacity is None for opacity in found) else found


# --- Batches --------------------------------------------------------------------------------------


def is_batch(mask: Any) -> bool:
    """Return whether a value is several masks: a list, or an array [n, h, w] or [n, h, w, 1 or 3].

    An array with three axes whose last one has length 1 or 3 counts as a single mask [h, w, 1 or 3].
    """
    if isinstance(mask, (list, tuple)):
        return True
    shape = np.shape(mask)
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] not in (1, 3))


class BatchControls(NamedTuple):
    """The regions, protected parts and opacities that a caller gave for a batch of pictures.

    Each mask, weight, amount and opacity is either one value for all pictures, or several values, one
    for each picture, in a list or along the first axis of an array. The value in a list or array of
    length 1 is that of all pictures.
    """

    # A list of `Region`, whose `mask`, `style_mask` and `weight` may be several values.
    regions: Any = None
    protect: Any = None  # a `Protect`, whose `mask` and `amount` may be several values
    opacity: Any = None  # one opacity for all contents, or several, one for each content
    # One opacity for all styles, or one for each entry of the argument `styles` of `stylize_many`.
    style_opacity: Any = None

    def lengths(self) -> dict[str, int]:
        """Return a dictionary: name of each argument that is a list or array of values -> its length.

        The caller checks that each length is 1 or the number of pictures in the batch.

        Raises:
          ValueError: if a list or array is empty.
        """
        values: dict[str, Any] = {}
        regions = self.regions if isinstance(self.regions, (list, tuple)) else ()
        for index, region in enumerate(regions):
            values[f"regions[{index}].mask"] = getattr(region, "mask", None)
            values[f"regions[{index}].style_mask"] = getattr(region, "style_mask", None)
            values[f"regions[{index}].weight"] = getattr(region, "weight", None)
        values["protect.mask"] = getattr(self.protect, "mask", None)
        values["protect.amount"] = getattr(self.protect, "amount", None)
        values |= {"opacity": self.opacity, "style_opacity": self.style_opacity}
        lengths = {name: len(value) for name, value in values.items() if _is_several(value)}
        for name, length in lengths.items():
            if length == 0:
                raise ValueError(f"`{name}`: is empty; give one for each picture, or one for all")
        return lengths

    def checked(self, index: int, content: Shape, styles: Sequence[Shape]) -> Given | None:
        """Check the regions, protected part and opacities of picture number `index`, and return them.

        Pictures are counted from 0. `content` is the (height, width) of the picture's content, and
        `styles` lists the (height, width) of each of its styles. The result is None if nothing was
        given. The errors are those of `checked_controls`.
        """

        def one(value: Any) -> Any:
            return value[index % len(value)] if _is_several(value) else value

        regions, protect = self.regions, self.protect
        if isinstance(protect, Protect):
            protect = Protect(one(protect.mask), one(protect.amount))
        if isinstance(regions, (list, tuple)):
            regions = [
                Region(one(each.mask), each.style, one(each.style_mask), one(each.weight))
                if isinstance(each, Region)
                else each
                for each in regions
            ]
        return checked_controls(
            content,
            styles,
            regions=regions,
            protect=protect,
            opacity=one(self.opacity),
            style_opacity=one(self.style_opacity),
        )


def _is_several(value: Any) -> bool:
    """Return whether an argument is a list or array of values, one for each picture of a batch.

    A list with a single value, which holds for all pictures, counts too.
    """
    return value is not None and (is_batch(value) or np.ndim(value) == 1)
