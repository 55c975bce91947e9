"""Resizing of images by pure JAX functions. Filters that need Pillow are in `eight_bit`."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nst_jax._types import AnyImage, Resized, Shape


def antialiased(image: AnyImage, shape: Shape) -> Resized:
    """Resize with a Lanczos filter that widens on reduction, so that fine texture does not alias.

    Args:
      image: [*batch, h, w, 3] in [0, 1].
      shape: the new (height, width).

    Returns:
      [*batch, height, width, 3] in [0, 1]; the filter's overshoot is clipped.
    """
    return jnp.clip(_resized(image, shape, "lanczos3", antialias=True), 0.0, 1.0)


def bilinear(image: AnyImage, shape: Shape) -> Resized:
    """Resize as `tf.image.resize` does by default: bilinear, half-pixel centres, no antialiasing."""
    return _resized(image, shape, "linear", antialias=False)


def enlarge(image: Float[Array, "*batch h w 3"], shape: Shape) -> Resized:
    """Resize the image of a canvas bicubically to a finer scale; values outside [0, 1] are kept."""
    return _resized(image, shape, "cubic", antialias=True)


def _resized(image: AnyImage, shape: Shape, method: str, antialias: bool) -> Resized:
    if image.shape[-3:-1] == shape:
        return jnp.asarray(image)
    new = (*image.shape[:-3], *shape, image.shape[-1])
    # `resize` computes matrix products, for which accelerators would otherwise use fewer bits.
    return jax.image.resize(
        image, new, method, antialias=antialias, precision=jax.lax.Precision.HIGHEST
    )
