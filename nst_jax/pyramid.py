"""Resizing of arrays, and the ladder of scales. Pure."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._types import Resized

Shape = tuple[int, int]  # height, width
Picture: TypeAlias = Float[Array | np.ndarray, "*batch h w 3"]  # an Image, here or on the host


def antialiased(image: Picture, shape: Shape) -> Resized:
    """Resize with a Lanczos filter that widens on reduction, so that fine texture does not alias.

    Args:
      image: [*batch, h, w, 3] in [0, 1].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, 3] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(image, shape, "lanczos3", antialias=True), 0.0, 1.0)


def bilinear(image: Picture, shape: Shape) -> Resized:
    """Resize as `tf.image.resize` does by default: bilinear, half-pixel centres, no antialiasing."""
    return _resized(image, shape, "linear", antialias=False)


def enlarge(canvas: Float[Array, "*batch h w 3"], shape: Shape) -> Resized:
    """Carry a canvas up to the next scale, bicubically; any coordinates, nothing is clipped."""
    return _resized(canvas, shape, "cubic", antialias=True)


def _resized(image: Picture, shape: Shape, method: str, antialias: bool) -> Resized:
    if image.shape[-3:-1] == shape:
        return jnp.asarray(image)
    new = (*image.shape[:-3], *shape, image.shape[-1])
    # Weights and sums in full float32: accelerators would otherwise use fewer bits.
    return jax.image.resize(
        image, new, method, antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )


def ladder(shape: Shape, smallest: int, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Return the scales from coarse to fine, each `ratio` times the one before, ending at `shape`.

    Args:
      shape: the final (height, width).
      smallest: no scale's longer side is below this, unless `shape` itself is.
      ratio: how much a scale is larger than the one before, over 1.

    Returns:
      (height, width) per scale.

    Example:
      >>> from nst_jax.pyramid import ladder
      >>> ladder((384, 512), smallest=128)
      ((96, 128), (192, 256), (384, 512))
    """
    scales = [shape]
    factor = 1.0 / ratio
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= 16:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))
