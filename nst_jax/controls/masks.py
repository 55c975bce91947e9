"""Check and resize masks of pictures, and make masks of the network's features from them.

A mask is [h, w] in [0, 1]: 1 for pixels inside the part of the picture that it marks, 0 for pixels
outside, and values between at soft edges. A mask has the proportions of its picture, and is resized
with it. A tap is a layer at which features are read. Each position of the features there depends on
many pixels, its receptive field; `at_taps` decides which positions are inside.
"""

from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._real_size import cut, halved_size
from nst_jax._types import RealSize, Shape
from nst_jax.images import on_host
from nst_jax.images.resizing import MASKS, antialiased, antialiased_masks, antialiased_masks_inside
from nst_jax.vgg.sized_layers import feature_size
from nst_jax.vgg.taps import LAYERS, feature_shape, halvings, layer_of, resolve_tap

# `at_taps` makes masks of feature maps from a mask of pixels. Its argument `reach` says which positions
# (pixels of a feature map) are inside the new mask. These are its values, with their meanings.
REACHES = {
    "inside": "positions whose whole receptive field is inside",
    "all": "positions whose receptive field has a pixel inside",
    "simple": "the mask, resized to the tap",
}

THRESHOLD = 0.5  # where a mask is made binary, pixels of at least this value are inside

# Values of a resized mask are rounded to multiples of 1 / STEPS. This removes rounding errors of the
# resizing filter, so that values far inside the area that the mask marks are exactly 1.
STEPS = 2**16

# A mask whose values are all below this, about a quarter of an 8-bit level, counts as empty.
LEAST_INSIDE = 1e-3


def checked_mask(argument: str, value: Any, *, empty: bool = False) -> np.ndarray:
    """Check a mask and return it as float32 [h, w] in [0, 1] on the host.

    Args:
      argument: the caller's name for the mask, shown in error messages.
      value: an array [h, w], [h, w, 1], or [h, w, 3] with three equal channels, as
        `nst_jax.images.load` reads a grey picture. Its dtype is floating point, with values in [0, 1],
        or bool, or uint8, which is divided by 255.
      empty: whether a mask without any pixel inside is accepted.

    Returns:
      The mask, float32 [h, w] in [0, 1].

    Raises:
      TypeError: if the value is not an array, is a JAX tracer, or has random keys of JAX.
      ValueError: for a wrong rank or dtype, for channels that differ, for values outside [0, 1], for
        NaN, for a masked array of NumPy with masked elements, and, unless `empty` is True, for a mask
        without any pixel inside.

    Example:
      >>> import numpy as np
      >>> from nst_jax.controls import masks
      >>> masks.checked_mask("mask", np.array([[0, 255]], np.uint8)).tolist()
      [[0.0, 1.0]]
    """
    _checks.not_traced(argument, value)
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        raise TypeError(
            f"`{argument}`: expected an array [height, width], got {type(value).__name__}; "
            "`nst_jax.images.load` reads a grey picture"
        )
    _checks.not_keys(argument, value, "an array [height, width]")
    _checks.not_masked(argument, value)
    array = np.asarray(value)
    if array.ndim == 3 and array.shape[-1] in (1, 3):
        if (array != array[..., :1]).any():
            raise ValueError(
                f"`{argument}`: is in colours; a mask is grey, white inside; "
                "`nst_jax.controls.regions_of_maps` reads colour-coded maps"
            )
        array = array[..., 0]
    if array.ndim != 2 or not array.size:
        raise ValueError(
            f"`{argument}`: expected a mask [height, width], got shape {list(np.shape(value))}"
        )
    if array.dtype == np.uint8:
        array = array / np.float32(255)
    elif array.dtype != np.bool_ and not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(
            f"`{argument}`: expected floating point in [0, 1], uint8 or bool, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.float32)
    low, high = float(array.min()), float(array.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise ValueError(
            f"`{argument}`: expected values in [0, 1], got {low:.4g} to {high:.4g}; 1 is inside"
        )
    if high < LEAST_INSIDE and not empty:
        raise ValueError(
            f"`{argument}`: is empty, since all of it is black; pixels inside are white"
        )
    return array


def check_proportions(
    argument: str, mask: Shape, picture: Shape, what: str, *, name: str | None = None
) -> None:
    """Refuse a mask whose proportions differ from those of its picture by more than a pixel.

    A side of the mask, or of the picture, may differ by one pixel from the length that would give both
    the same proportions, because the sides of a picture are rounded when it is reduced.

    Args:
      argument: the caller's name for the mask, shown in error messages.
      mask: (height, width) of the mask.
      picture: (height, width) of the picture.
      what: what error messages call the picture, such as "the content".
      name: the name of the mask's file, for error messages; None if it has none.

    Raises:
      ValueError: if the proportions differ by more; the message names both sizes.
    """
    (mask_height, mask_width), (height, width) = mask, picture
    # How far each of the four sides is from the length that would give mask and picture the same
    # proportions: first the sides of the mask, in its pixels; then those of the picture, in its pixels.
    apart = (
        abs(mask_height - mask_width * height / width),
        abs(mask_width - mask_height * width / height),
        abs(height - width * mask_height / mask_width),
        abs(width - height * mask_width / mask_height),
    )
    if min(apart) > 1:
        raise ValueError(
            f"`{argument}`: {'a mask' if name is None else f'the mask {name!r}'} of "
            f"{mask_width}x{mask_height} px has other proportions than {what} of"
            f" {width}x{height} px; draw it over the picture, at the picture's size"
        )


def resized_masks(masks: Float[Array, "h w n"], shape: Shape) -> Float[Array, "h2 w2 n"]:
    """Resize masks to (height, width), antialiased, and round their values to multiples of 2^-16.

    The weights of the resizing filter sum to 1 only up to rounding errors. Without the rounding to
    2^-16, pixels far inside a mask would therefore not be exactly 1.
    """
    return jnp.round(antialiased_masks(masks, shape) * STEPS) / STEPS


def resized_masks_on_host(masks: Any, shape: Shape) -> Float[np.ndarray, "h2 w2 n"]:
    """Resize masks [h, w, n] as `resized_masks` does, by NumPy, so that nothing is compiled."""
    _checks.not_keys("masks", masks, MASKS)
    found = on_host.resized_on_host(masks, shape, antialiased)
    return (np.round(found * STEPS) / STEPS).astype(np.float32)


def at_taps(
    masks: Float[Array, "h w n"],
    taps: Iterable[str],
    *,
    reach: str = "inside",
    growth: int = 3,
    ceil: bool = False,
    size: RealSize | None = None,
) -> dict[str, Float[Array, "..."]]:
    """Make masks of the features at taps (layers) from masks of pixels.

    With `"inside"`, a position of the features is inside if its whole receptive field is; what the
    network pads beyond the picture's border counts as inside. With `"all"`, a position is inside if any
    pixel of its receptive field is. In both cases, the mask of pixels is made binary first, at 0.5, and
    the area inside is finally extended by the positions that are at most `growth` rows and columns away
    from it. With `"simple"`, the mask is only resized, antialiased, and keeps its soft edges.

    Args:
      masks: [h, w, n] in [0, 1], n masks of the size of the picture.
      taps: names of the taps, such as `"relu2_1"`.
      reach: a key of `REACHES`. Static.
      growth: number of positions by which the area inside is extended, unless `reach` is `"simple"`.
        Static.
      ceil: whether poolings keep an odd last row and column; see `nst_jax.vgg.Network`. Static.
      size: the (height, width) of the picture, if the masks lie at the top left of larger arrays; it
        may be traced. None means that they fill their arrays.

    Returns:
      For each tap, [h', w', n] in [0, 1], where (h', w') is the size of the tap's features. With
      `size`, it is the size of the features of a picture that fills the array, and positions outside
      the features of the real picture are 0.

    Raises:
      TypeError: if a tap or `reach` is not a string, `growth` not a whole number, or if `masks` has
        random keys of JAX.
      ValueError: for an unknown tap or `reach`, and for a negative `growth`.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.controls import masks
      >>> half = (jnp.arange(32) < 16).astype(jnp.float32)[None, :, None] * jnp.ones((32, 1, 1))
      >>> [int(masks.at_taps(half, ["relu1_2"], reach=reach, growth=0)["relu1_2"][0].sum())
      ...  for reach in ("inside", "all")]
      [14, 18]

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling Perceptual Factors in Neural Style
      Transfer", 2017, section 4; leongatys/NeuralImageSynthesis @ cced0b97, SpatialControl.ipynb,
      `get_fm_guides`, which finds receptive fields by probing the network with noise, and uses
      `"inside"` with a growth of 3.
    """
    _checks.not_keys("masks", masks, MASKS)
    _checks.one_of("reach", reach, REACHES, "reach")
    _checks.whole("growth", growth, least=0)
    names = {tap: layer_of(tap) for tap in map(resolve_tap, taps)}
    shape = masks.shape[0], masks.shape[1]
    if reach == "simple":
        return {tap: _reduced(masks, tap, shape, ceil, size) for tap in names}
    inside = (masks >= THRESHOLD).astype(masks.dtype)
    # `spread` is 1 at positions of the current layer's features whose receptive field has a pixel that
    # is inside the mask (for "all"), or one that is outside of it (for "inside"). It is computed from
    # the `spread` of the preceding layer, since each convolution and pooling reads windows of
    # positions. It is 0 beyond the borders of the picture. So what the network pads there counts as
    # outside the mask for "all", but as inside the mask for "inside".
    spread = _cut(inside if reach == "all" else 1 - inside, size)
    layers = list(LAYERS)
    found, block = {}, 0
    for name in layers[: max(map(layers.index, names.values())) + 1]:
        if halvings(name) > block:
            spread, block = _pooled(spread, ceil), halvings(name)
            size = None if size is None else halved_size(size, ceil)
            spread = _cut(spread, size)
        spread = _cut(_dilated(spread, 1), size)  # a 3 x 3 convolution reaches 1 position further
        if name in names.values():
            own = spread if reach == "all" else _cut(1 - spread, size)
            found[name] = _cut(_dilated(own, growth), size)
    return {tap: found[name] for tap, name in names.items()}


def _cut(masks: Float[Array, "h w n"], size: RealSize | None) -> Float[Array, "h w n"]:
    """Return masks with zeros outside their top left part, the only part that the picture fills.

    `size` is the (height, width) of this part. None: the picture fills the masks, which stay unchanged.
    """
    return masks if size is None else cut(masks, size)


def _reduced(
    masks: Float[Array, "h w n"], tap: str, shape: Shape, ceil: bool, size: RealSize | None
) -> Float[Array, "h2 w2 n"]:
    """Return masks resized to the features of one tap (layer).

    `shape` is the (height, width) of the masks; the other arguments are as in `at_taps`.
    """
    array = feature_shape(tap, *shape, ceil)
    if size is None:
        return resized_masks(masks, array)
    new = feature_size(tap, size, ceil)
    found = antialiased_masks_inside(cut(masks, size), size, array, new)
    return jnp.round(found * STEPS) / STEPS


def _dilated(masks: Float[Array, "h w n"], radius: int) -> Float[Array, "h w n"]:
    """Return, for each position, the maximum of the mask within `radius` rows and columns of it."""
    if not radius:
        return masks
    side = 2 * radius + 1
    for window in ((side, 1, 1), (1, side, 1)):
        masks = lax.reduce_window(masks, -jnp.inf, lax.max, window, (1, 1, 1), "SAME")
    return masks


def _pooled(masks: Float[Array, "h w n"], ceil: bool) -> Float[Array, "h2 w2 n"]:
    """Return the largest value in each 2 x 2 window of a pooling.

    If `ceil`, an odd last row or column is pooled by itself; if not, it is dropped.
    """
    odd = [side % 2 for side in masks.shape[:2]]
    if not ceil:
        height, width = (side - rest for side, rest in zip(masks.shape[:2], odd, strict=True))
        masks = masks[:height, :width]
    edges = [(0, rest if ceil else 0) for rest in odd]
    return lax.reduce_window(masks, -jnp.inf, lax.max, (2, 2, 1), (2, 2, 1), [*edges, (0, 0)])
