"""Starts, which make the initial canvas: dataclasses called as (content, style, key) -> image.

`content` is the resized content [h, w, 3], `style` has any size, `key` is a JAX random key. All starts
return an image [h, w, 3], except `Instant`, in whose place the run itself paints an image; only starts
that draw noise use the key. Starts without numbers are dataclasses too, so that all starts can be
registered, compared and written to files alike.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._types import Image, StyleImage
from nst_jax.images.resizing import antialiased, finest_detail

IMAGENET_MEAN = np.asarray((123.68, 116.779, 103.939))  # mean colour of ImageNet, RGB in 0..255


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
    """The style picture, resized to the content's shape."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        height, width, _ = content.shape
        return antialiased(style, (height, width))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blank:
    """A uniform middle grey."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.full_like(content, 0.5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """White noise with the style's mean and deviation in each channel, clipped to [0, 1].

    So the canvas has the style's colours at once; from grey noise it would need many updates for them.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        mean = jnp.mean(style, axis=(0, 1), keepdims=True)
        deviation = jnp.std(style, axis=(0, 1), keepdims=True)
        noise = jax.random.normal(key, content.shape, content.dtype)
        return jnp.clip(mean + deviation * noise, 0.0, 1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WhiteNoise:
    """Uniform noise in [0, 1), independent in every channel of every pixel."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        return jax.random.uniform(key, content.shape, content.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanNoise:
    """ImageNet's mean colour plus normal noise of a small `deviation`, the start of neural-style.

    neural-style and its ports draw the noise in the pixels of their network, where black and white
    differ by `white`, not by 1.

    Attributes:
      deviation: standard deviation of the noise, in the network's pixels.
      white: the value of white in the network's pixels, if black is 0.
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
class StyleMeanNoise:
    """The style's mean colour plus normal noise of a small `deviation`, a start for textures.

    Attributes:
      deviation: standard deviation of the noise, where black is 0 and white is 1.
    """

    deviation: float = 0.01

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        mean = jnp.mean(style, axis=(0, 1), keepdims=True)
        return mean + self.deviation * jax.random.normal(key, content.shape, content.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StyleMeanDetail:
    """The style's mean colour plus the finest detail of the content, the start of STROTSS.

    The detail is the finest level of the content's Laplacian pyramid, see `images.resizing`.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return jnp.mean(style, axis=(0, 1), keepdims=True) + finest_detail(content)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blend:
    """`(1 - ratio) * content + ratio * noise`, where `Noise` draws the noise."""

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
    """`(1 - ratio) * content + ratio * noise` in the network's pixels, with NumPy's legacy generator.

    This is the start of Coursera's TF1 notebook. The noise is uniform in [-amplitude, amplitude) around
    ImageNet's mean. It is drawn from a generator seeded with `seed`, after two normal numbers, since
    the notebook draws those first; the key is not used. Not traceable, since NumPy draws on the host.
    """

    ratio: float = 0.6
    amplitude: float = 20.0
    seed: int = 3

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.asarray((self.pixels(content) + IMAGENET_MEAN) / 255, content.dtype)

    def pixels(self, content: Image) -> Float[np.ndarray, "h w 3"]:
        """Return the notebook's initial canvas bit for bit: float32 RGB, mean colour subtracted.

        Before the subtraction, the colours are in 0..255. An image in [0, 1] cannot represent these
        pixels exactly; a canvas in network pixels can.
        """
        generator = np.random.RandomState(int(self.seed))
        generator.randn(2)
        noise = generator.uniform(-self.amplitude, self.amplitude, (1, *content.shape))[0]
        bytes_ = np.asarray(content, np.float64) * 255
        whole = np.round(bytes_)
        # In the source, 8-bit pixels are whole numbers; here float32 puts them up to 2e-5 off.
        picture = np.where(np.abs(bytes_ - whole) < 5e-5, whole, bytes_) - IMAGENET_MEAN
        # The source has the noise in float32, adds it in float64 and casts the sum to float32.
        blend = noise.astype(np.float32) * np.float32(self.ratio) + picture * (1 - self.ratio)
        return blend.astype(np.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Instant:
    """The content as the feed-forward networks of `nst_jax.instant` paint it, as a head start.

    The network needs all styles and their shares, but a start receives only the first style. So the run
    makes the picture itself, and does not call this start.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del content, style, key
        raise TypeError(
            "`Instant`: names the picture from which a run starts, and makes none by itself; "
            "`nst_jax.instant(content, style)` makes one"
        )


# Starts by the names that recipe files use.
STARTS = {
    start.__name__: start
    for start in (
        FromContent,
        FromStyle,
        Blank,
        Noise,
        WhiteNoise,
        MeanNoise,
        StyleMeanNoise,
        StyleMeanDetail,
        Blend,
        SeededBlend,
        Jitter,
        Instant,
    )
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SameStart:
    """A start that uses its own key, not the caller's, so that all canvases get the same noise."""

    start: Any
    key: Array

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return self.start(content, style, self.key)


def same_start(start: Any, seed: int) -> Any:
    """Return a start that draws the same noise for all canvases, with a key made from `seed`.

    `SeededBlend`, `Instant`, a picture and None use no key and are returned unchanged.
    """
    if not callable(start) or isinstance(start, (SeededBlend, Instant)):
        return start
    return SameStart(start, jax.random.key(seed))
