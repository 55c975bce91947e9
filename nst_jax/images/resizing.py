"""Resize images by pure JAX functions. Filters that need Pillow are in `eight_bit`."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._types import AnyImage, Resized, Shape


def antialiased(image: AnyImage, shape: Shape) -> Resized:
    """Resize an image with a Lanczos filter, which is widened for reduction to avoid aliasing.

    Args:
      image: [*batch, h, w, 3] in [0, 1].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, 3] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(image, shape, "lanczos3", antialias=True), 0.0, 1.0)


def antialiased_masks(masks: Float[Array | np.ndarray, "h w n"], shape: Shape) -> Array:
    """Resize masks or opacities as `antialiased` resizes images.

    Args:
      masks: [h, w, n] in [0, 1].
      shape: the new (height, width).

    Returns:
      [height, width, n] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(masks, shape, "lanczos3", antialias=True), 0.0, 1.0)


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
    height, width, _ = image.shape
    half = bilinear(image, (max(1, height // 2), max(1, width // 2)))
    return image - bilinear(half, (height, width))


def enlarge(image: Float[Array, "*batch h w 3"], shape: Shape) -> Resized:
    """Enlarge an image to (height, width) bicubically; values outside [0, 1] are not clipped.

    By default, this filter enlarges the picture being optimised from one scale (resolution) to the
    next.
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
    if image.shape[-3:-1] == shape:
        return jnp.asarray(image)
    new = (*image.shape[:-3], *shape, image.shape[-1])
    # `resize` computes matrix products; without `precision`, accelerators would use fewer bits for
    # them.
    return jax.image.resize(
        image, new, method, antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )
