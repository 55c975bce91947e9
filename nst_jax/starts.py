"""What a canvas starts from: small dataclasses, called with (content, style, key) -> image.

`content` is the prepared content [h, w, 3]; `style` any size; `key` a JAX random key. All give an
image [h, w, 3]; only those that draw noise use the key. They are dataclasses even where there is no
number to hold, because a recipe's field takes any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array

from nst_jax._types import Image, StyleImage
from nst_jax.pyramid import antialiased

Start: TypeAlias = Callable[[Image, StyleImage, Array], Image]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FromContent:
    """The content picture."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return content


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FromStyle:
    """The style picture, brought to the content's shape."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        height, width, _ = content.shape
        return antialiased(style, (height, width))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blank:
    """An even middle grey."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.full_like(content, 0.5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """White noise with the style's mean and deviation in each channel, clipped to [0, 1].

    Noise drawn so is already of the right colours, which plain grey noise has to be taught first.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        mean = jnp.mean(style, axis=(0, 1), keepdims=True)
        deviation = jnp.std(style, axis=(0, 1), keepdims=True)
        noise = jax.random.normal(key, content.shape, content.dtype)
        return jnp.clip(mean + deviation * noise, 0.0, 1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blend:
    """`(1 - ratio) * content + ratio * noise`, with the noise of `Noise`."""

    ratio: float = 0.6

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        return (1 - self.ratio) * content + self.ratio * Noise()(content, style, key)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Jitter:
    """The content plus uniform noise in [-amplitude, amplitude), clipped to [0, 1]."""

    amplitude: float = 0.25

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        noise = jax.random.uniform(key, content.shape, content.dtype, -1.0, 1.0)
        return jnp.clip(content + self.amplitude * noise, 0.0, 1.0)
