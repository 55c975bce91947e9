"""Compute the arrays that the losses need for regions, protected parts and transparent parts.

A region is a part of the content that has a style of its own. All other pixels have the default style,
and count as one more region. The style loss of a region compares two statistics, such as Gram matrices:
that of the canvas (the picture being optimised) over the region, and that of the region's style.

A tap is a layer whose features a loss reads. A statistic at a tap is made of sums over the positions
of the features. In these sums, a position counts T² times, where T is the value of the region's mask
there; for example, a Gram matrix is that of the features multiplied by T. If the canvas is computed in
parts (see `nst_jax.scaling`), the sums over the parts are added first. At the end, they are divided by
the sum of T² over the whole canvas.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import cut, padded
from nst_jax._types import Guides, KeptContent, RealSize, Shape
from nst_jax.controls import masks
from nst_jax.controls.given import Given
from nst_jax.vgg.taps import TAPS

# --- Masks of pixels ------------------------------------------------------------------------------


class Controls(NamedTuple):
    """The regions, protected part and opacities for a canvas (picture being optimised) of one size.

    All pixels outside the regions have the default style, and count as one more region. The same things
    are in `given.Given` as the caller gave them; here they have been resized to the canvas, and can be
    arguments of traced functions. They are JAX arrays, or NumPy arrays where nothing is to be compiled
    for the size of the canvas.
    """

    # Masks of the r regions. The pixels outside them, which have the default style, have no mask here.
    masks: Float[Array | np.ndarray, "*batch h w r"]
    # Weights of the r + 1 style losses, that of the default style first.
    weights: Float[Array | np.ndarray, "*batch r1"]
    # A mask [h', w'] for each default style (if there are several, they are blended), then one for each
    # region's style. None in place of a mask means that all pixels of the style count.
    style_masks: tuple[Any, ...]
    opacity: Any  # opacity [h, w] of the content; None if it is opaque
    protect: Any  # mask [h, w] of the protected part; None if nothing is protected
    amount: Float[Array | np.ndarray, "*batch"]  # strength of the protection, 0 to 1

    @property
    def regions(self) -> int:
        """The number of regions, including the pixels with the default style as one region."""
        return int(self.masks.shape[-1]) + 1


def controls_of(
    given: Given, canvas: Shape, styles: Sequence[Shape], *, on_host: bool = False
) -> Controls:
    """Convert regions, protected part and opacities to arrays for pictures of the given sizes.

    Args:
      given: the regions, protected part and opacities, as `given.checked_controls` returns them.
      canvas: (height, width) of the canvas (the picture being optimised).
      styles: (height, width) of each default style (a style of the pixels outside all regions), then of
        each region's style.
      on_host: whether the arrays are NumPy arrays, made without compiling a program for their sizes;
        otherwise they are JAX arrays.
    """
    own = len(styles) - len(given.regions)
    opacities = given.style_opacities or (None,) * own
    style_masks = (*opacities, *(region.style_mask for region in given.regions))
    resize: Any = _resized_mask_on_host if on_host else resized_mask
    drawn = [resize(region.mask, canvas) for region in given.regions]
    protect = given.protect
    numpy: Any = np if on_host else jnp
    return Controls(
        masks=numpy.stack(drawn, -1) if drawn else numpy.zeros((*canvas, 0), np.float32),
        weights=numpy.asarray([1.0, *(region.weight for region in given.regions)], np.float32),
        style_masks=tuple(
            None if mask is None else resize(mask, shape)
            for mask, shape in zip(style_masks, styles, strict=True)
        ),
        opacity=None if given.opacity is None else resize(given.opacity, canvas),
        protect=None if protect is None else resize(protect.mask, canvas),
        amount=numpy.asarray(0.0 if protect is None else protect.amount, np.float32),
    )


def resized_controls(controls: Controls, canvas: Shape, styles: Sequence[Shape]) -> Controls:
    """Resize the masks of regions, protected part and opacities to another size of the pictures.

    Args:
      controls: the arrays to resize. NumPy arrays are resized by NumPy.
      canvas: the new (height, width) of the canvas (the picture being optimised).
      styles: the new (height, width) of each default style (a style of the pixels outside all regions),
        then of each region's style.
    """
    drawn = controls.masks
    on_host = isinstance(drawn, np.ndarray)
    resize: Any = _resized_mask_on_host if on_host else resized_mask
    resize_all: Any = masks.resized_masks_on_host if on_host else masks.resized_masks
    return controls._replace(
        masks=resize_all(drawn, canvas) if drawn.shape[:2] != tuple(canvas) else drawn,
        style_masks=tuple(
            None if mask is None else resize(mask, shape)
            for mask, shape in zip(controls.style_masks, styles, strict=True)
        ),
        opacity=None if controls.opacity is None else resize(controls.opacity, canvas),
        protect=None if controls.protect is None else resize(controls.protect, canvas),
    )


def controls_on_host(controls: Controls) -> Controls:
    """Return controls (masks, opacities and weights) with NumPy arrays in place of JAX arrays.

    `resized_controls` then resizes the masks by NumPy, so that JAX compiles nothing for their sizes.
    """
    return jax.tree.map(np.asarray, controls)


def padded_controls(controls: Controls, canvas: Shape, styles: Sequence[Shape]) -> Controls:
    """Return controls whose masks lie at the top left of larger arrays, which are 0 elsewhere.

    Pictures of several sizes can lie in arrays of one size, and so share compiled programs.

    Args:
      controls: the masks, with the weights of the regions, as NumPy arrays.
      canvas: (height, width) of the array in which the canvas (the picture being optimised) lies.
      styles: (height, width) of the array of each default style (a style of the pixels outside all
        regions), then of each region's style.
    """

    def wide(mask: Any, shape: Shape) -> Any:
        return None if mask is None else jnp.asarray(padded(mask, shape))

    return controls._replace(
        masks=wide(controls.masks, canvas),
        weights=jnp.asarray(controls.weights),
        style_masks=tuple(map(wide, controls.style_masks, styles)),
        opacity=wide(controls.opacity, canvas),
        protect=wide(controls.protect, canvas),
        amount=jnp.asarray(controls.amount),
    )


def resized_mask(mask: Any, shape: Shape) -> Float[Array, "h w"]:
    """Resize a mask [h, w] to `shape`, a (height, width); return it unchanged if it has that size."""
    if mask.shape == tuple(shape):
        return jnp.asarray(mask)
    return masks.resized_masks(jnp.asarray(mask)[..., None], shape)[..., 0]


def _resized_mask_on_host(mask: Any, shape: Shape) -> Float[np.ndarray, "h w"]:
    """Return a mask [h, w] resized to `shape`, as `resized_mask` does by JAX, but by NumPy."""
    mask = np.asarray(mask)
    if mask.shape == tuple(shape):
        return mask
    return masks.resized_masks_on_host(mask[..., None], shape)[..., 0]


# --- Masks of features at taps --------------------------------------------------------------------


class Reach(NamedTuple):
    """Arguments of `masks.at_taps`, which makes masks of the features at taps (layers).

    They are static under `jit`.
    """

    # Which positions belong to a mask. "inside": those whose whole receptive field lies in the mask of
    # pixels. "all": those with at least one pixel of their receptive field in that mask. "simple": the
    # mask of pixels is only resized.
    reach: str = "inside"
    growth: int = 3  # number of positions by which the mask is then extended, except with "simple"
    ceil: bool = False  # whether poolings keep an odd last row and column

    def at_taps(
        self, drawn: Float[Array, "h w n"], taps: Sequence[str], size: RealSize | None = None
    ) -> dict[str, Any]:
        """Make masks of the features at each tap (layer), [h', w', n], from masks of pixels, [h, w, n].

        If the masks lie in larger arrays, `size` is their own (height, width); else it is None.
        """
        return masks.at_taps(
            drawn, taps, reach=self.reach, growth=self.growth, ceil=self.ceil, size=size
        )


def shares_of_pixels(drawn: Float[Array, "h w r"]) -> Float[Array, "h w r1"]:
    """Return the share of each region in each pixel, that of the default style first.

    The shares of a pixel sum to 1. Where the sum of the masks is more than 1, the masks are divided by
    their sum. Where it is less, the default style has the rest.

    Args:
      drawn: masks of the r regions, [h, w, r] in [0, 1], without that of the default style.

    Returns:
      The shares, [h, w, r + 1]; index 0 of the last axis is the default style.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import shares_of_pixels
      >>> shares_of_pixels(jnp.array([[[1.0, 1.0], [0.25, 0.0], [0.0, 0.0]]])).tolist()
      [[[0.0, 0.5, 0.5], [0.75, 0.25, 0.0], [1.0, 0.0, 0.0]]]
    """
    _checks.not_keys("drawn", drawn, "an array [height, width, regions]")
    total = jnp.sum(drawn, axis=-1, keepdims=True)
    return jnp.concatenate([jnp.maximum(1 - total, 0), drawn / jnp.maximum(total, 1)], axis=-1)


def content_parts(controls: Controls) -> tuple[Any, ...]:
    """Return, for each style, the pixels of the content whose colours the style is matched to.

    All default styles, which are blended at the pixels outside all regions, get the same pixels.
    Transparent pixels count for no style. If regions cover the whole content, no pixel is left for a
    default style, and a mean over its pixels would be 0/0. So all opaque pixels then count for it; this
    changes no result, since that style is not painted.

    Returns:
      For each entry of `controls.style_masks` (one for each style), the weights of the content's
      pixels, [h, w] in [0, 1]; None if the content has neither regions nor transparent pixels.
    """
    own = len(controls.style_masks) - controls.regions + 1
    if controls.regions == 1:
        return (controls.opacity,) * own
    shares = shares_of_pixels(jnp.asarray(controls.masks))
    if controls.opacity is not None:
        shares = shares * controls.opacity[..., None]
    rest, *others = jnp.moveaxis(shares, -1, 0)
    opaque = jnp.ones_like(rest) if controls.opacity is None else controls.opacity
    rest = jnp.where(jnp.sum(rest) > 0, rest, opaque)
    return (*(rest,) * own, *others)


def canvas_masks(
    controls: Controls, taps: Sequence[str], reach: Reach, size: RealSize | None = None
) -> dict[str, Array]:
    """Return, by tap (layer), the masks T of the canvas' features, [h', w', r + 1].

    The first mask is that of the pixels outside all r regions, which get the default style; the others
    are those of the regions. In what follows, the pixels outside all regions count as a region too.

    `masks.at_taps` makes the masks T from the masks of pixels in `controls`. Unless `reach.reach` is
    "simple", the masks of pixels are first made binary: a pixel belongs only to the region that has the
    largest share in it, or to several regions if these have equally large shares. Transparent pixels
    belong to no region. At protected positions, T is multiplied by 1 - amount, where `controls.amount`
    says how strongly they are protected. If the canvas (the picture being optimised) lies in a larger
    array, `size` is its real (height, width), and the masks are 0 outside.
    """
    shares = shares_of_pixels(jnp.asarray(controls.masks))
    if reach.reach != "simple":
        shares = (shares >= jnp.max(shares, axis=-1, keepdims=True)).astype(shares.dtype)
    if controls.opacity is not None:
        shares = shares * controls.opacity[..., None]
    found = reach.at_taps(shares, taps, size)
    if controls.protect is None:
        return found
    free = reach.at_taps(1 - controls.protect[..., None], taps, size)
    return {tap: mask * (1 - controls.amount * (1 - free[tap])) for tap, mask in found.items()}


def style_masks_at(
    mask: Float[Array, "h w"], taps: Sequence[str], reach: Reach, size: RealSize | None = None
) -> dict[str, Array]:
    """Return tap (layer) -> the values T [h', w'] of a style's mask at the positions of the features.

    Args:
      mask: the mask of the style's pixels, with values in [0, 1].
      taps: names of the taps.
      reach: how masks at the taps are made from the mask of the pixels.
      size: (height, width) of the style if it lies at the top left of a larger array, else None.
    """
    found = reach.at_taps(mask[..., None], taps, size)
    return {tap: one[..., 0] for tap, one in found.items()}


def total(mask: Float[Array, "h w *n"]) -> Float[Array, "*n"]:
    """Return the sum of T² over the positions of masks T [h, w, ...].

    A position has the weight T² in a region's statistics. So to get means over a region, sums over
    positions are divided by this sum, not by the number of positions.
    """
    return jnp.sum(jnp.square(mask), axis=(0, 1))


def guides_of(
    at_taps: Mapping[str, Array],
    weights: Float[Array, " r1"],
    style_totals: Mapping[str, Float[Array, " r1"]],
    held: Mapping[str, Array],
) -> Guides:
    """Return what the losses need for regions: masks T, sums of T², and normalised weights, by tap.

    T is the value of a mask at a position of the features. If a region is empty at a tap, in the canvas
    (the picture being optimised) or in its style, it has weight 0 at this tap.

    Args:
      at_taps: for each tap (layer) of the style loss, the masks T from `canvas_masks`, [h', w', r + 1]:
        one for the pixels outside all regions, and one for each of the r regions. The features at the
        tap have the size (h', w').
      weights: weights of the regions' style losses, [r + 1].
      style_totals: by tap, the sum of T² over each region's style, [r + 1]. Only whether a sum is 0
        matters, so for a style without a mask any positive number will do.
      held: from `held_at`: the square roots of the weights that positions have in the content loss for
        protected parts.
    """
    totals = {tap: total(mask) for tap, mask in at_taps.items()}
    shares = {}
    for tap, found in totals.items():
        present = jnp.where((found > 0) & (style_totals[tap] > 0), weights, 0)
        shares[tap] = present / jnp.maximum(jnp.sum(present), jnp.finfo(present.dtype).tiny)
    # Sums over an empty region are 0; they are divided by 1, since 0 / 0 would be NaN.
    safe = {tap: jnp.where(found > 0, found, 1) for tap, found in totals.items()}
    return Guides(masks=dict(at_taps), totals=safe, shares=shares, held=dict(held))


# --- Protection -----------------------------------------------------------------------------------

# A further content loss keeps protected parts of the canvas near the content. It is computed at one
# tap (layer): the first of `HELD_TAPS` that is no deeper than the recipe's deepest tap. So no further
# layers of the network need to be computed for this loss.
HELD_TAPS = ("relu2_2", "relu1_2", "relu1_1", "preact1_1")


def held_tap(taps: Sequence[str]) -> str:
    """Return the tap (layer) at which the content loss for protected parts is computed.

    It is the first of `HELD_TAPS` whose depth is at most that of the deepest of `taps`, the taps at
    which the other losses of the recipe read features.

    Example:
      >>> from nst_jax.controls.regions import held_tap
      >>> held_tap(["relu1_1", "relu4_2"]), held_tap(["relu2_1"])
      ('relu2_2', 'relu1_2')
    """
    deepest = max(map(TAPS.index, taps))
    return next(tap for tap in HELD_TAPS if TAPS.index(tap) <= deepest)


def held_at(
    controls: Controls, taps: Sequence[str], reach: Reach, size: RealSize | None = None
) -> dict[str, Any]:
    """Return how much each position counts in the content loss for protected parts.

    The mask of the protected part is resized to the features at the tap (layer) that `held_tap`
    returns. The weight of a position is the value of this mask times `controls.amount`, which says how
    strongly the part is protected.

    Of `reach`, only the field `ceil` is used. If the canvas lies in a larger array, `size` is its own
    (height, width); else it is None.

    Returns:
      A dictionary with this tap as its only key, and with the square roots of the weights, [h', w', 1],
      as its value. (The loss multiplies features by these numbers and then squares differences, so each
      squared difference has its weight.) The dictionary is empty if nothing is protected.
    """
    if controls.protect is None:
        return {}
    tap = held_tap(taps)
    found = reach._replace(reach="simple").at_taps(controls.protect[..., None], [tap], size)
    return {tap: jnp.sqrt(controls.amount * found[tap])}


def kept_of(
    content: Float[Array, "h w 3"], controls: Controls, size: RealSize | None = None
) -> KeptContent | None:
    """Return the content, and its share in each pixel of the result; None if nothing is protected.

    If the content lies in a larger array, `size` is its real (height, width). Outside the content, both
    returned arrays are 0 then.
    """
    if controls.protect is None:
        return None
    share = jnp.broadcast_to((controls.amount * controls.protect)[..., None], content.shape)
    if size is None:
        return KeptContent(content, share)
    return KeptContent(cut(content, size), cut(share, size))


def with_kept(image: Float[Array, "h w 3"], kept: KeptContent | None) -> Float[Array, "h w 3"]:
    """Return a picture with the content mixed in at protected pixels: (1 - k) image + k content.

    Here k is the share of the content in a pixel: more than 0 in a protected part, and 0 elsewhere.
    During a run, `image` is the canvas, and the losses are computed from the mixture. So the gradient
    with respect to the canvas is 1 - k times that with respect to the mixture. Whatever the optimiser,
    a pixel of the mixture changes 1 - k times as much as that of the canvas.

    Scaling the gradient by 1 - k without mixing would be worse. L-BFGS needs the gradient of a
    function, and in general no function has the scaled gradient. And where k is less than 1, the
    scaling would hardly change Adam's updates, since Adam divides by the gradient's size.

    Args:
      image: the picture, [h, w, 3], such as the canvas.
      kept: the content and its share, from `kept_of`; None returns `image` unchanged.

    Returns:
      [h, w, 3].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import with_kept
      >>> from nst_jax._types import KeptContent
      >>> share = jnp.array([[[0.0] * 3, [0.5] * 3, [1.0] * 3]])
      >>> with_kept(jnp.ones((1, 3, 3)), KeptContent(jnp.zeros((1, 3, 3)), share))[..., 0].tolist()
      [[1.0, 0.5, 0.0]]
    """
    _checks.not_keys("image", image, "an array [height, width, 3]")
    if kept is None:
        return image
    return (1 - kept.share) * image + kept.share * kept.content
