"""Resize filters, for pictures before painting, and for the canvas between scales (resolutions).

A filter is a function (image, (height, width)) -> image, where (height, width) is the size of the
result in px. The image is [*batch, h, w, 3], but only [h, w, 3] for the filters of Pillow.
"""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp

from nst_jax._types import AnyImage, Image, Resized, Shape
from nst_jax.images.resizing import antialiased, bilinear, enlarge, torch_bicubic

Resize: TypeAlias = Callable[[AnyImage, Shape], Resized]

# A filter that resizes the canvas, the picture that is optimised, from one scale (resolution) to the
# next. It is traceable by JAX, and does not clip values outside [0, 1].
Enlargement: TypeAlias = Callable[[Image, Shape], Resized]


def pillow_bilinear(image: AnyImage, shape: Shape) -> Resized:
    """Round a picture to 8 bits and resize it with Pillow's BILINEAR, which antialiases reductions.

    Not traceable, since Pillow runs on the host. Rounding leaves pictures from 8-bit files unchanged.
    """
    from nst_jax import images  # Pillow is loaded at the first call, not with this module

    return jnp.asarray(images.bilinear_8bit(image, shape))


def pillow_bicubic(image: AnyImage, shape: Shape) -> Resized:
    """Round a picture to 8 bits and resize it with Pillow's BICUBIC, the default filter of Pillow.

    Not traceable, since Pillow runs on the host. Rounding leaves pictures from 8-bit files unchanged.
    """
    from nst_jax import images  # Pillow is loaded at the first call, not with this module

    return jnp.asarray(images.bicubic_8bit(image, shape))


def pillow_nearest(image: AnyImage, shape: Shape) -> Resized:
    """Round a picture to 8 bits and resize it with Pillow's NEAREST.

    Not traceable, since Pillow runs on the host. Rounding leaves pictures from 8-bit files unchanged.
    """
    from nst_jax import images  # Pillow is loaded at the first call, not with this module

    return jnp.asarray(images.nearest_8bit(image, shape))


def old_pillow_bilinear(image: AnyImage, shape: Shape) -> Resized:
    """Round a picture to 8 bits and resize it with the BILINEAR of Pillow before 2.7 (January 2015).

    This filter does not antialias; see `images.old_bilinear_8bit`. Not traceable, since it runs on the
    host.
    """
    from nst_jax import images  # Pillow is loaded at the first call, not with this module

    return jnp.asarray(images.old_bilinear_8bit(image, shape))


# The filters that resize pictures before painting, by their names in recipe files (TOML).
FILTERS = {
    resize.__name__: resize
    for resize in (
        antialiased,
        bilinear,
        pillow_bilinear,
        pillow_bicubic,
        pillow_nearest,
        old_pillow_bilinear,
    )
}

# The filters that resize the canvas to the next scale (resolution), by their names in recipe files.
ENLARGEMENTS: dict[str, Enlargement] = {
    "bicubic": enlarge,
    "torch_bicubic": torch_bicubic,
    "bilinear": bilinear,
}
