"""What a canvas starts from: small dataclasses, called with (content, style, key) -> image.

`content` is the prepared content [h, w, 3]; `style` any size; `key` a JAX random key. All give an
image [h, w, 3]; only those that draw noise use the key. They are dataclasses even where there is no
number to hold, because a recipe's field takes any of them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._types import Image, StyleImage
from nst_jax.images.resizing import antialiased

IMAGENET_MEAN = np.asarray((123.68, 116.779, 103.939))  # of ImageNet, RGB, 0..255


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
class WhiteNoise:
    """Uniform noise in [0, 1), every channel of every pixel on its own."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        return jax.random.uniform(key, content.shape, content.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanNoise:
    """ImageNet's mean colour plus normal noise of a small `deviation`, as neural-style starts.

    The sources draw `deviation` times a normal number in the network's pixels, 0..`white` minus the
    mean; here it is in the same unit.
    """

    deviation: float = 1e-3
    white: float = 255.0

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        mean = jnp.asarray(IMAGENET_MEAN, content.dtype)
        noise = jax.random.normal(key, content.shape, content.dtype)
        return (mean[None, None] + self.deviation * noise) / self.white


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


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SeededBlend:
    """`(1 - ratio) * content + ratio * noise` in the network's pixels, by NumPy's old generator.

    The noise is uniform in [-amplitude, amplitude) around ImageNet's mean. It is the first draw of
    its size from NumPy's legacy generator seeded with `seed`, after two single normal draws that the
    course's notebook makes before; the key is not used. Not traceable: it draws on the host.
    """

    ratio: float = 0.6
    amplitude: float = 20.0
    seed: int = 3

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.asarray((self.pixels(content) + IMAGENET_MEAN) / 255, content.dtype)

    def pixels(self, content: Image) -> Float[np.ndarray, "h w 3"]:
        """Return the start bit by bit as the notebook has it: RGB, 0..255 minus the mean, float32.

        An image in [0, 1] cannot hold it exactly, so a canvas in the network's pixels takes this.
        """
        generator = np.random.RandomState(int(self.seed))
        generator.randn(2)
        noise = generator.uniform(-self.amplitude, self.amplitude, (1, *content.shape))[0]
        bytes_ = np.asarray(content, np.float64) * 255
        whole = np.round(bytes_)
        # A picture of whole 255ths is up to 2e-5 off them in float32; the source's is read from 8 bits.
        picture = np.where(np.abs(bytes_ - whole) < 5e-5, whole, bytes_) - IMAGENET_MEAN
        # The source keeps the noise in float32, and the sum until it becomes the variable in float64.
        blend = noise.astype(np.float32) * np.float32(self.ratio) + picture * (1 - self.ratio)
        return blend.astype(np.float32)


# What recipes may name.
STARTS = {
    start.__name__: start
    for start in (
        FromContent,
        FromStyle,
        Blank,
        Noise,
        WhiteNoise,
        MeanNoise,
        Blend,
        SeededBlend,
        Jitter,
    )
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SameStart:
    """A start that draws from one key for all canvases: no picture depends on the others."""

    start: Any
    key: Array

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return self.start(content, style, self.key)


def same_start(start: Any, seed: int) -> Any:
    """Return a start that is the same for all canvases; pictures and those without a key are."""
    if not callable(start) or isinstance(start, SeededBlend):
        return start
    return SameStart(start, jax.random.key(seed))
