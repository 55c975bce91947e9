"""Regions with styles of their own, protected and transparent parts: as arrays, and at the taps.

The style loss of a region compares the statistic of the canvas over the region with that of the
region's style. A position counts T² times, with T the region's mask at the tap, and sums are divided by
the sum of T². So a statistic is still made of sums over positions, and canvases that are computed in
tiles or bands still get the same losses.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from nst_jax._types import Guides, KeptContent, Shape
from nst_jax.controls import masks
from nst_jax.controls.given import Given
from nst_jax.vgg.taps import TAPS

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


def content_parts(controls: Controls) -> tuple[Any, ...]:
    """Return how much each pixel of the content belongs to each style, then to each region's style.

    Transparent pixels belong to none. If regions cover the whole content, so that no pixel is left to
    the style of the other pixels, all opaque pixels count for this style, which is not painted anyway.

    Returns:
      [h, w] in [0, 1] for each entry of `controls.style_masks`; None where all pixels count alike.
    """
    own = len(controls.style_masks) - controls.regions + 1
    if controls.regions == 1:
        return (controls.opacity,) * own
    shares = shares_of_pixels(controls.masks)
    if controls.opacity is not None:
        shares = shares * controls.opacity[..., None]
    rest, *others = jnp.moveaxis(shares, -1, 0)
    opaque = jnp.ones_like(rest) if controls.opacity is None else controls.opacity
    rest = jnp.where(jnp.sum(rest) > 0, rest, opaque)
    return (*(rest,) * own, *others)


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
