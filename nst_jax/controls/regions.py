"""Regions with styles of their own, protected parts, transparent parts: as given, and as measured.

The style loss of a region compares the statistic of the canvas over the region with that of the
region's style. A position counts T² times, with T the region's mask at the tap, and sums are divided by
the sum of T². So a statistic is still made of sums over positions, and canvases that are computed in
tiles or bands still get the same losses.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import Guides, KeptContent, Shape
from nst_jax.controls import masks
from nst_jax.vgg.taps import TAPS

# --- As given -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=False)
class Region:
    """A part of the content that gets a style of its own.

    Attributes:
      mask: which pixels of the content are in the region: [h, w] in [0, 1], with the content's
        proportions; see `masks.checked_mask`.
      style: [h', w', 3] in [0, 1], or uint8, of any size.
      style_mask: which pixels of the style count, [h'', w''] with the style's proportions; None: all.
      weight: weight of this region's style loss, relative to those of the other regions and of the
        default style, which is 1. They are divided by their sum.

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
      mask: which pixels are protected: [h, w] in [0, 1], with the content's proportions.
      amount: from 0 (not at all) to 1. With 1, pixels whose mask is 1 are the content's, bit for bit.
    """

    mask: Any
    amount: Any = 1.0


class Given(NamedTuple):
    """What a caller gave, checked, on the host."""

    regions: tuple[Region, ...] = ()
    protect: Protect | None = None
    opacity: np.ndarray | None = None  # of the content, [h, w]
    style_opacities: tuple[
        np.ndarray | None, ...
    ] = ()  # of each style, [h, w]; () if all are opaque

    @property
    def argument(self) -> str:
        """The name of an argument that was given, for messages."""
        if self.regions:
            return "regions"
        if self.protect is not None:
            return "protect"
        return "opacity" if self.opacity is not None else "style_opacity"

    @property
    def soft(self) -> bool:
        """Whether opacities or the amount of protection have values between 0 and 1.

        Then a position of a tap may count in part, even if the masks of regions are made binary.
        """
        amount = 0 if self.protect is None else self.protect.amount
        opacities = (self.opacity, *self.style_opacities)
        partly = any(one is not None and ((one > 0) & (one < 1)).any() for one in opacities)
        return partly or bool(np.any((np.asarray(amount) > 0) & (np.asarray(amount) < 1)))

    @property
    def style_shapes(self) -> list[Shape]:
        """(height, width) of each region's style."""
        return [(region.style.shape[0], region.style.shape[1]) for region in self.regions]

    def facts(self) -> dict[str, Any]:
        """Return all masks, pictures and numbers by name; two runs are the same only if these are."""
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
    """Check regions, protection and opacities against the sizes of content and styles.

    Args:
      content: (height, width) of the content.
      styles: (height, width) of each style.
      regions: a list of `Region`; None: no region.
      protect: a `Protect`, or None.
      opacity: the content's, [h, w] in [0, 1], or None if it is opaque.
      style_opacity: the style's, or a list with one or None for each style.

    Returns:
      What was given with masks as float32 [h, w], or None if nothing was given.

    Raises:
      TypeError: if a value is of another type.
      ValueError: if a mask is not a valid mask, is empty, or has other proportions than its picture;
        if there are too many regions; and if a weight or an amount is out of range.
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
    if regions is None:
        return ()
    if not isinstance(regions, (list, tuple)):
        raise TypeError(
            f"`regions`: expected a list of `nst_jax.controls.Region`, got {type(regions).__name__}"
        )
    found = []
    for index, region in enumerate(regions):
        name = f"regions[{index}]"
        _checks.instance(name, region, Region, "`nst_jax.controls.Region(mask, style)` makes one")
        style = _checks.image(f"{name}.style", region.style)
        mask = _checked_mask(f"{name}.mask", region.mask, content, "the content")
        style_mask = region.style_mask
        if style_mask is not None:
            shape = style.shape[0], style.shape[1]
            style_mask = _checked_mask(f"{name}.style_mask", style_mask, shape, "the style")
        _checks.number(f"{name}.weight", region.weight, least=0)
        found.append(Region(mask, style, style_mask, region.weight))
    if len(found) >= MOST_REGIONS:
        raise ValueError(
            f"`regions`: got {len(found)}, and at most {MOST_REGIONS - 1} are possible; each takes "
            "time and memory in every update"
        )
    return tuple(found)


MOST_REGIONS = 16  # with that of the default style


def _checked_protect(content: Shape, protect: Any) -> Protect:
    _checks.instance("protect", protect, Protect, "`nst_jax.controls.Protect(mask)` makes one")
    mask = _checked_mask("protect.mask", protect.mask, content, "the content")
    check_amount("protect.amount", protect.amount)
    return Protect(mask, protect.amount)


def check_amount(argument: str, amount: Any) -> None:
    """Refuse an amount of protection that is not a number from 0 to 1."""
    _checks.number(argument, amount, least=0)
    if np.max(amount) > 1:
        raise ValueError(f"`{argument}`: expected 0 to 1, got {amount:g}")


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
    """Return whether a value is several masks: a list, [n, h, w], or [n, h, w, 1 or 3]."""
    if isinstance(mask, (list, tuple)):
        return True
    shape = np.shape(mask)
    return len(shape) == 4 or (len(shape) == 3 and shape[-1] not in (1, 3))


class BatchControls(NamedTuple):
    """What a caller gave for the pictures of a batch; see `batches.stylize_many`."""

    regions: Any = None  # masks may be batches, weights arrays [n]
    protect: Any = None  # likewise
    opacity: Any = None  # one for each content, or a single one
    style_opacity: Any = None  # one for each entry of the styles, or a single one

    def lengths(self) -> dict[str, int]:
        """Return the number of pictures for which values are given, by the names of these values."""
        values: dict[str, Any] = {}
        regions = self.regions if isinstance(self.regions, (list, tuple)) else ()
        for index, region in enumerate(regions):
            values[f"regions[{index}].mask"] = getattr(region, "mask", None)
            values[f"regions[{index}].weight"] = getattr(region, "weight", None)
        values["protect.mask"] = getattr(self.protect, "mask", None)
        values["protect.amount"] = getattr(self.protect, "amount", None)
        values |= {"opacity": self.opacity, "style_opacity": self.style_opacity}
        return {name: len(value) for name, value in values.items() if _is_several(value)}

    def checked(self, index: int, content: Shape, styles: Sequence[Shape]) -> Given | None:
        """Return what picture number `index` gets, checked as by `checked_controls`."""

        def one(value: Any) -> Any:
            return value[index % len(value)] if _is_several(value) else value

        regions, protect = self.regions, self.protect
        if isinstance(protect, Protect):
            protect = Protect(one(protect.mask), one(protect.amount))
        if isinstance(regions, (list, tuple)):
            regions = [
                Region(one(each.mask), each.style, each.style_mask, one(each.weight))
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
    """Return whether a value has an item for each picture of a batch."""
    return value is not None and (is_batch(value) or np.ndim(value) == 1)


# --- Colour-coded maps ----------------------------------------------------------------------------

# Smallest share of the content's map that a colour must cover to define a region. Pixels of rarer
# colours, as along smoothed edges, belong to the region with the nearest colour.
LEAST_SHARE = 0.005

# Largest distance of a pixel of a style's map to the colour of its region, in 8-bit levels of RGB.
# Pixels farther from all of these colours belong to no region.
FARTHEST = 48


def regions_of_maps(
    content_map: Any,
    style_map: Any,
    style: Any,
    *,
    argument: str = "regions",
) -> list[Region]:
    """Return the regions that two colour-coded maps describe: equal colours belong together.

    A colour of the content's map is that of a region if it covers at least 1/200 of the map; other
    pixels, such as those of smoothed edges, belong to the region of the nearest colour.

    Args:
      content_map: [h, w, 3] in [0, 1], drawn over the content in plain colours.
      style_map: [h', w', 3] in [0, 1], drawn over the style in the same colours. Pixels of other
        colours belong to no region.
      style: the style, [h'', w'', 3] in [0, 1].
      argument: the caller's name for the maps, used in messages.

    Returns:
      One region for each colour, those that cover more of the content first.

    Raises:
      TypeError: if a map is no array.
      ValueError: if a map is no picture, if the content's map has no plain colours or too many, and if
        the style's map lacks one of them.

    Example:
      >>> import numpy as np
      >>> from nst_jax import controls, images
      >>> left = np.zeros((30, 45, 3))
      >>> left[:, :20] = [1, 0, 0]
      >>> red_and_black = controls.regions_of_maps(left, left, images.sample("starry_night"))
      >>> [int(region.mask.sum()) for region in red_and_black]
      [750, 600]
    """
    here, there = _levels(argument, content_map), _levels(argument, style_map)
    colours, counts = np.unique(here.reshape(-1, 3), axis=0, return_counts=True)
    most = np.argsort(-counts, kind="stable")
    plain = colours[most][counts[most] >= LEAST_SHARE * counts.sum()]
    if not 1 <= len(plain) < MOST_REGIONS:
        count = f"{len(plain)} plain colours" if len(plain) else "no plain colours"
        raise ValueError(
            f"`{argument}`: the content's map has {count}; expected 1 to {MOST_REGIONS - 1}, one for "
            "each region: draw it in plain colours without shading, and save it as PNG"
        )
    nearest = _nearest(here, plain)[0]
    nearest_there, distance = _nearest(there, plain)
    regions: list[Region] = []
    for index, colour in enumerate(plain):
        style_mask = (nearest_there == index) & (distance <= FARTHEST)
        if not style_mask.any():
            code = "".join(f"{level:02x}" for level in colour)
            raise ValueError(
                f"`{argument}`: the style's map has no pixel of the colour #{code}, which is in the "
                "content's map; draw that part of the style in it"
            )
        regions.append(
            Region((nearest == index).astype(np.float32), style, style_mask.astype(np.float32))
        )
    return regions


def _levels(argument: str, picture: Any) -> np.ndarray:
    return np.round(_checks.image(argument, picture) * 255).astype(np.int32)


def _nearest(picture: np.ndarray, colours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return for each pixel the index of the nearest colour, and the distance to it."""
    best = np.zeros(picture.shape[:2], np.int32)
    least = np.full(picture.shape[:2], np.inf)
    for index, colour in enumerate(colours):
        distance = np.sqrt(np.square(picture - colour).sum(-1))
        best, least = (
            np.where(distance < least, index, best),
            np.minimum(distance, least),
        )
    return best, least


# --- As arrays ------------------------------------------------------------------------------------


class Controls(NamedTuple):
    """Masks and numbers of the controls of one canvas at one size: arrays, for traced functions."""

    masks: Float[Array, "*batch h w r"]  # of the regions, without that of the default style
    weights: Float[Array, "*batch r1"]  # of the r + 1 style losses, that of the default style first
    # A mask [h', w'] for each style, then for each region's style; None: all of the style counts.
    style_masks: tuple[Any, ...]
    opacity: Any  # [h, w] of the content; None if it is opaque
    protect: Any  # [h, w], or None
    amount: Float[Array, "*batch"]  # of protection

    @property
    def regions(self) -> int:
        """Number of regions, counting that of the default style."""
        return int(self.masks.shape[-1]) + 1


def controls_of(given: Given, canvas: Shape, styles: Sequence[Shape]) -> Controls:
    """Return what was given as arrays, resized to the canvas and to the styles.

    Args:
      given: the checked values.
      canvas: (height, width) of the canvas.
      styles: (height, width) of each style, then of each region's.
    """
    own = len(styles) - len(given.regions)
    opacities = given.style_opacities or (None,) * own
    style_masks = (*opacities, *(region.style_mask for region in given.regions))
    drawn = [resized_mask(region.mask, canvas) for region in given.regions]
    protect = given.protect
    return Controls(
        masks=jnp.stack(drawn, -1) if drawn else jnp.zeros((*canvas, 0), jnp.float32),
        weights=jnp.asarray([1.0, *(region.weight for region in given.regions)], jnp.float32),
        style_masks=tuple(
            None if mask is None else resized_mask(mask, shape)
            for mask, shape in zip(style_masks, styles, strict=True)
        ),
        opacity=None if given.opacity is None else resized_mask(given.opacity, canvas),
        protect=None if protect is None else resized_mask(protect.mask, canvas),
        amount=jnp.asarray(0.0 if protect is None else protect.amount, jnp.float32),
    )


def resized_controls(controls: Controls, canvas: Shape, styles: Sequence[Shape]) -> Controls:
    """Return controls resized to another size of the canvas and of the styles."""
    drawn = controls.masks
    return controls._replace(
        masks=masks.resized_masks(drawn, canvas) if drawn.shape[:2] != canvas else drawn,
        style_masks=tuple(
            None if mask is None else resized_mask(mask, shape)
            for mask, shape in zip(controls.style_masks, styles, strict=True)
        ),
        opacity=None if controls.opacity is None else resized_mask(controls.opacity, canvas),
        protect=None if controls.protect is None else resized_mask(controls.protect, canvas),
    )


def resized_mask(mask: Any, shape: Shape) -> Float[Array, "h w"]:
    """Return a mask [h, w] resized to (height, width); unchanged if it has that size."""
    if mask.shape == tuple(shape):
        return jnp.asarray(mask)
    return masks.resized_masks(jnp.asarray(mask)[..., None], shape)[..., 0]


# --- At taps --------------------------------------------------------------------------------------


class Reach(NamedTuple):
    """How masks reach taps; static. See `masks.at_taps`."""

    reach: str = "inside"
    growth: int = 3
    ceil: bool = False

    def at_taps(self, drawn: Float[Array, "h w n"], taps: Sequence[str]) -> dict[str, Any]:
        """Return masks [h, w, n] at taps."""
        return masks.at_taps(drawn, taps, reach=self.reach, growth=self.growth, ceil=self.ceil)


def shares_of_pixels(drawn: Float[Array, "h w r"]) -> Float[Array, "h w r1"]:
    """Return the share of each region in each pixel, that of the default style first.

    Shares sum to 1 in each pixel. Where the masks' sum is over 1, they are divided by it; where it is
    below 1, the default style has the rest.

    Args:
      drawn: the masks of the regions, r of them, without that of the default style.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import shares_of_pixels
      >>> shares_of_pixels(jnp.array([[[1.0, 1.0], [0.25, 0.0], [0.0, 0.0]]])).tolist()
      [[[0.0, 0.5, 0.5], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]]
    """
    total = jnp.sum(drawn, axis=-1, keepdims=True)
    return jnp.concatenate([jnp.maximum(1 - total, 0), drawn / jnp.maximum(total, 1)], axis=-1)


def canvas_masks(controls: Controls, taps: Sequence[str], reach: Reach) -> dict[str, Array]:
    """Return T of each region at the style taps, [h', w', r1], that of the default style first.

    T is the mask of a region at a tap. Unless the reach is "simple", a pixel belongs to the region that
    has the largest share in it; if several have the largest share, it belongs to all of these.
    Transparent pixels belong to none. At protected positions, T is multiplied by 1 - amount.
    """
    shares = shares_of_pixels(controls.masks)
    if reach.reach != "simple":
        shares = (shares >= jnp.max(shares, axis=-1, keepdims=True)).astype(shares.dtype)
    if controls.opacity is not None:
        shares = shares * controls.opacity[..., None]
    found = reach.at_taps(shares, taps)
    if controls.protect is None:
        return found
    free = reach.at_taps(1 - controls.protect[..., None], taps)
    return {tap: mask * (1 - controls.amount * (1 - free[tap])) for tap, mask in found.items()}


def style_masks_at(
    mask: Float[Array, "h w"], taps: Sequence[str], reach: Reach
) -> dict[str, Array]:
    """Return T, the mask of one style, at the style taps, [h', w']."""
    return {tap: found[..., 0] for tap, found in reach.at_taps(mask[..., None], taps).items()}


def total(mask: Float[Array, "h w *n"]) -> Float[Array, "*n"]:
    """Return the sum of T² over positions."""
    return jnp.sum(jnp.square(mask), axis=(0, 1))


def guides_of(
    at_taps: Mapping[str, Array],
    weights: Float[Array, " r1"],
    style_totals: Mapping[str, Float[Array, " r1"]],
    held: Mapping[str, Array],
) -> Guides:
    """Return the masks of a canvas with what is computed from them before the loop.

    A region that is empty at a tap, in the canvas or in its style, is left out there: its weight is 0.

    Args:
      at_taps: T of each region at the style taps, [h', w', r1].
      weights: weights of the regions' style losses.
      style_totals: sum of T² over each region's style, by tap; only whether it is 0 matters, so it may
        be any positive number for a style without a mask.
      held: what `held_at` returns.
    """
    totals = {tap: total(mask) for tap, mask in at_taps.items()}
    shares = {}
    for tap, found in totals.items():
        present = jnp.where((found > 0) & (style_totals[tap] > 0), weights, 0)
        shares[tap] = present / jnp.maximum(jnp.sum(present), jnp.finfo(present.dtype).tiny)
    # Sums over an empty region are 0, and are divided by 1.
    safe = {tap: jnp.where(found > 0, found, 1) for tap, found in totals.items()}
    return Guides(masks=dict(at_taps), totals=safe, shares=shares, held=dict(held))


# --- Protection -----------------------------------------------------------------------------------

# A further content loss holds protected parts near the content. It is computed at one tap: the first of
# these that is no deeper than the deepest tap of the recipe.
HELD_TAPS = ("relu2_2", "relu1_2", "relu1_1", "preact1_1")


def held_tap(taps: Sequence[str]) -> str:
    """Return the tap of the content loss that holds protected parts, given the recipe's taps.

    Example:
      >>> from nst_jax.controls.regions import held_tap
      >>> held_tap(["relu1_1", "relu4_2"]), held_tap(["relu2_1"])
      ('relu2_2', 'relu1_2')
    """
    deepest = max(map(TAPS.index, taps))
    return next(tap for tap in HELD_TAPS if TAPS.index(tap) <= deepest)


def held_at(controls: Controls, taps: Sequence[str], reach: Reach) -> dict[str, Any]:
    """Return the roots of the weights of positions in the content loss that holds protected parts.

    They are square roots, [h', w', 1] at the single tap of `held_tap`. A weight is the amount of
    protection times the mask, resized to the tap. Without protection, the result is empty.
    """
    if controls.protect is None:
        return {}
    tap = held_tap(taps)
    found = reach._replace(reach="simple").at_taps(controls.protect[..., None], [tap])
    return {tap: jnp.sqrt(controls.amount * found[tap])}


def kept_of(content: Float[Array, "h w 3"], controls: Controls) -> KeptContent | None:
    """Return the content and how much of it is kept in each pixel; None without protection."""
    if controls.protect is None:
        return None
    share = controls.amount * controls.protect
    return KeptContent(content, jnp.broadcast_to(share[..., None], content.shape))


def with_kept(image: Float[Array, "h w 3"], kept: KeptContent | None) -> Float[Array, "h w 3"]:
    """Return the image that a canvas shows: mixed with the content where that is protected.

    It is (1 - k) canvas + k content, with k the amount of protection of a pixel. So the gradient that
    the optimiser sees is 1 - k times that of the losses of the image. Scaling the gradient afterwards
    would be worse: it would no longer be the gradient of a function, as L-BFGS needs, and would hardly
    change Adam's updates, since Adam divides by the gradient's size. Here a pixel of the image changes
    by only 1 - k times what the canvas changes, with any optimiser.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import with_kept
      >>> from nst_jax._types import KeptContent
      >>> share = jnp.array([[[0.0] * 3, [0.5] * 3, [1.0] * 3]])
      >>> with_kept(jnp.ones((1, 3, 3)), KeptContent(jnp.zeros((1, 3, 3)), share))[..., 0].tolist()
      [[1.0, 0.5, 0.0]]
    """
    if kept is None:
        return image
    return (1 - kept.share) * image + kept.share * kept.content
