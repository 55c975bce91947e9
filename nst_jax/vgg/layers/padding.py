"""Paddings: each pads features in its own way at their borders, and convolves them."""

from collections.abc import Callable
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import FeatureMap
from nst_jax.vgg.layers.convolution import Forms, conv3x3
from nst_jax.vgg.precision import FLOAT32

PICTURE_CHANNELS = 3  # number of input channels, by which the first layer is recognised

Kernel: TypeAlias = Float[Array, "3 3 c o"]

Convolved: TypeAlias = Float[Array, "*batch h w o"]

# A function that pads the features and convolves them. Its arguments are the features, the kernel,
# other forms of the kernel (such as the transposed one) or None, and the precision of products; see
# `conv3x3`.
Padding: TypeAlias = Callable[[FeatureMap, Kernel, Forms | None, lax.Precision], Convolved]


def zero_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve features with zeros beyond the border, as every published VGG-19 does.

    The arguments of this and of all other paddings are those of `conv3x3`.
    """
    return conv3x3(x, kernel, forms, products)


def replicate_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with the border pixels repeated once beyond the border; arguments as in `conv3x3`."""
    return _convolve_padded("edge", x, kernel, forms, products)


def replicate_first(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with border pixels repeated in the first layer, and with zeros in all other layers.

    The first layer usually reads pixels with the mean colour subtracted, in which 0 is a grey. There,
    zeros beyond the border would act like a grey frame around every picture, which shows in the result.
    The first layer is recognised by its three input channels. For the arguments, see `conv3x3`.
    """
    first = kernel.shape[2] == PICTURE_CHANNELS
    return (replicate_padded if first else zero_padded)(x, kernel, forms, products)


def reflect_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve features that are mirrored at their border pixels; see `conv3x3` for the arguments.

    If a side of `x` has only 1 px, which cannot be mirrored, border pixels are repeated at all borders.
    """
    # Each side is compared with 1 alone: `min(sides) > 1` would compare the sides with each other,
    # which fails for the symbolic sizes of `jax.export`.
    mode = "reflect" if all(side > 1 for side in x.shape[1:3]) else "edge"
    return _convolve_padded(mode, x, kernel, forms, products)


def wrap_padded(
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None = None,
    products: lax.Precision = FLOAT32.products,
) -> Convolved:
    """Convolve with circular padding: beyond each border, the features of the opposite border follow.

    If a picture is shifted cyclically, its features are shifted with it. This holds if the shift and
    both sides of the picture are multiples of 2^n px, where n is the number of poolings before the
    features. For the arguments, see `conv3x3`.
    """
    return _convolve_padded("wrap", x, kernel, forms, products)


def _convolve_padded(
    mode: str, x: FeatureMap, kernel: Kernel, forms: Forms | None, products: lax.Precision
) -> Convolved:
    # `conv3x3` is used so that its gradient rule serves all paddings. It pads with zeros once more,
    # which affects only the outermost ring of its result; that ring is cropped.
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
    return conv3x3(padded, kernel, forms, products)[:, 1:-1, 1:-1, :]


# Paddings by the names that recipe files use for them.
PADDINGS = {
    "zero": zero_padded,
    "replicate": replicate_padded,
    "replicate_first": replicate_first,
    "reflect": reflect_padded,
    "wrap": wrap_padded,
}
