"""Resize images by pure JAX functions. Filters that need Pillow are in `eight_bit`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from nst_jax import _checks
from nst_jax._types import AnyImage, RealSize, Resized, Shape, sum_dtype

LOBES = 3  # the Lanczos filter is 0 beyond this distance, in pixels of the smaller picture
MASKS = "an array [height, width, masks]"  # what is expected for masks, as words for messages


def antialiased(image: AnyImage, shape: Shape) -> Resized:
    """Resize an image with a Lanczos filter, widened if the image gets smaller, to avoid aliasing.

    Args:
      image: [*batch, h, w, 3] in [0, 1].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, 3] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(image, shape, "lanczos3", antialias=True), 0.0, 1.0)


def antialiased_masks(masks: Float[Array | np.ndarray, "h w n"], shape: Shape) -> Array:
    """Resize masks or opacities with the Lanczos filter by which `antialiased` resizes images.

    Args:
      masks: [h, w, n] in [0, 1], n masks.
      shape: the new (height, width).

    Returns:
      [height, width, n] in [0, 1]; the filter's overshoot is clipped.
    """
    _checks.not_keys("masks", masks, MASKS)
    return jnp.clip(_resized(masks, shape, "lanczos3", antialias=True), 0.0, 1.0)


def antialiased_masks_inside(
    masks: Float[Array, "h w n"], old: RealSize, shape: Shape, new: RealSize
) -> Array:
    """Resize masks that fill only the top left part of their arrays, as `antialiased_masks` does.

    The sizes of the masks are arrays that may be traced. So one compiled program serves masks of all
    sizes that fit into the arrays.

    Args:
      masks: [h, w, n] in [0, 1], n masks.
      old: [2], the (height, width) of the part of `masks` that the masks fill.
      shape: the (height, width) of the result, into which the resized masks must fit.
      new: [2], the (height, width) to which the masks are resized.

    Returns:
      [*shape, n] in [0, 1], with zeros outside the resized masks.
    """
    _checks.not_keys("masks", masks, MASKS)
    dtype = sum_dtype(masks.dtype)
    rows, columns = (
        _lanczos_weights(masks.shape[axis], shape[axis], old[axis], new[axis], dtype)
        for axis in (0, 1)
    )
    found = jnp.einsum("yhn,hY->Yyn", masks.swapaxes(0, 1), rows, precision="highest")
    found = jnp.einsum("ywn,wX->yXn", found, columns, precision="highest")
    return jnp.clip(found, 0.0, 1.0)


def _lanczos_weights(
    length: int, new_length: int, old: Int[Array, ""], new: Int[Array, ""], dtype: Any
) -> Float[Array, "length new_length"]:
    """Return the weights with which a row (or column) of `old` pixels is resized to `new` pixels.

    Entry [i, j] is the weight of old pixel i in new pixel j, as in `jax.image.resize` with "lanczos3",
    antialiased. `length` and `new_length` are the sizes of the arrays that hold the pixels; entries
    without a pixel have the weight 0.
    """
    before, after = jnp.arange(length), jnp.arange(new_length)
    ratio = old.astype(dtype) / new.astype(dtype)
    positions = (after.astype(dtype) + 0.5) * ratio - 0.5
    distance = jnp.abs(positions[None, :] - before[:, None].astype(dtype)) / jnp.maximum(ratio, 1)
    # At distance 0, `wave` would be 0 / 0, NaN. So distances near 0 are replaced by 1 here, and their
    # weight is set to 1 afterwards.
    safe = jnp.where(distance > 1e-3, distance, 1)
    wave = LOBES * jnp.sin(jnp.pi * safe) * jnp.sin(jnp.pi * safe / LOBES) / (jnp.pi * safe) ** 2
    weights = jnp.where(distance > 1e-3, wave, 1)
    counted = (before < old)[:, None] & (after < new)[None, :] & (distance <= LOBES)
    weights = jnp.where(counted, weights, 0)
    # If the size does not change, the weights are exactly 1 and 0, without rounding errors.
    weights = jnp.where(old == new, jnp.where(counted & (distance == 0), 1.0, 0.0), weights)
    total = jnp.sum(weights, axis=0, keepdims=True)
    return weights / jnp.where(total == 0, 1, total)


def bilinear(image: AnyImage, shape: Shape) -> Resized:
    """Resize an image to (height, width) as `tf.image.resize` does by default.

    The filter is bilinear and not antialiased; the centres of pixels have half-integer coordinates.
    """
    return _resized(image, shape, "linear", antialias=False)


def finest_detail(image: Float[Array, "h w 3"]) -> Resized:
    """Return the finest level of a picture's Laplacian pyramid, [h, w, 3].

    It is the picture minus a copy that was halved in size and enlarged again, both bilinearly. Half of
    an odd side is rounded down, but is 1 px at least.
    """
    _checks.not_keys("image", image, "an array [height, width, 3]")
    height, width, _ = image.shape
    half = bilinear(image, (max(1, height // 2), max(1, width // 2)))
    return image - bilinear(half, (height, width))


def enlarge(image: Float[Array, "*batch h w 3"], shape: Shape) -> Resized:
    """Enlarge an image to (height, width) bicubically; values outside [0, 1] are not clipped.

    This is the default filter for enlarging the picture being optimised from one scale (resolution) to
    the next.
    """
    return _resized(image, shape, "cubic", antialias=True)


def torch_bicubic(
    image: Float[Array, "*batch h w c"], shape: Shape
) -> Float[Array, "*batch h2 w2 c"]:
    """Resize as torch's `interpolate(mode="bicubic")` does; values outside [0, 1] are not clipped.

    The kernel is `keys_cubic` with a = -0.75 and is not widened for reduction, the centres of pixels
    have half-integer coordinates, and border pixels are repeated beyond the border. By contrast,
    `enlarge` uses a = -0.5 and leaves out what is beyond the border.

    Args:
      image: [*batch, h, w, c].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, c].

    Example:
      >>> import jax.numpy as jnp
      >>> step = jnp.repeat(jnp.array([0.0, 1.0]), 8).reshape(1, 16, 1)
      >>> round(float(torch_bicubic(step, (1, 32)).max()), 4)
      1.1055
    """
    _checks.not_keys("image", image, "an array [..., height, width, channels]")
    for axis, length in zip((-3, -2), shape, strict=True):
        image = _bicubic_along(image, length, axis)
    return image


def _bicubic_along(image: Array, length: int, axis: int) -> Array:
    old = image.shape[axis]
    if old == length:
        return image
    positions = (np.arange(length) + 0.5) * (old / length) - 0.5
    first = np.floor(positions)
    lines = [1] * image.ndim
    lines[axis] = length

    def taken(offset: int) -> Array:
        index = np.clip(first + offset, 0, old - 1).astype(np.int32)
        weight = keys_cubic(np.abs(positions - first - offset)).reshape(lines)
        return jnp.take(image, index, axis=axis, mode="clip") * jnp.asarray(weight, image.dtype)

    return taken(-1) + taken(0) + taken(1) + taken(2)


def keys_cubic(distance: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Return Keys' cubic convolution kernel, with its parameter `a`, at distances from 0 to 2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return np.where(distance <= 1, near, far)


def _resized(image: Any, shape: Shape, method: str, antialias: bool) -> Any:
    _checks.not_keys("image", image, "an array [..., height, width, 3]")
    if image.shape[-3:-1] == shape:
        return jnp.asarray(image)
    new = (*image.shape[:-3], *shape, image.shape[-1])
    # `resize` computes matrix products, for which accelerators use fewer bits by default.
    return jax.image.resize(
        image, new, method, antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )
