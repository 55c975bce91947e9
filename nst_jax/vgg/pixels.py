"""Pixel conventions: the maps from sRGB in [0, 1] to the pixels that a network was trained on."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import Image

CHANNELS = 3  # red, green, blue


@dataclass(frozen=True)
class Pixels:
    """A pixel convention: an affine map of each sRGB channel, and the order of the channels.

    `encode` computes `(image * scale - shift) / spread`, and reverses the channels if `bgr`.

    Attributes:
      name: name of the convention in recipe files and in `Params.pixels`.
      scale: the number by which sRGB in [0, 1] is multiplied first.
      shift: the numbers that are then subtracted from the channels, in RGB order.
      spread: the numbers by which the channels are finally divided, in RGB order.
      bgr: whether the order of the channels is blue, green, red.
    """

    name: str
    scale: float
    shift: tuple[float, float, float]
    spread: tuple[float, float, float]
    bgr: bool

    def __post_init__(self) -> None:
        """Refuse numbers for more or fewer than three channels."""
        for name in ("shift", "spread"):
            values = getattr(self, name)
            # The numbers in a tuple may be tracers, of which NumPy makes no array.
            listed = isinstance(values, (tuple, list))
            if ((len(values),) if listed else np.shape(values)) != (CHANNELS,):
                raise ValueError(
                    f"`{name}`: expected three numbers, for red, green and blue, got "
                    f"{_checks.shown(values)}"
                )

    def encode(self, image: Image) -> Float[Array, "*batch h w 3"]:
        """Map an sRGB image in [0, 1] to pixels of this convention, in the dtype of the image.

        A NumPy image of float64 becomes float32, unless JAX's 64-bit types are enabled.
        """
        image = jnp.asarray(image)
        shift, spread = _like(self.shift, image), _like(self.spread, image)
        pixels = (image * self.scale - shift) / spread
        return pixels[..., ::-1] if self.bgr else pixels

    def decode(self, pixels: Float[Array, "*batch h w 3"]) -> Image:
        """Map pixels of this convention back to an sRGB image, nominally in [0, 1]."""
        pixels = jnp.asarray(pixels)
        shift, spread = _like(self.shift, pixels), _like(self.spread, pixels)
        rgb = pixels[..., ::-1] if self.bgr else pixels
        return (rgb * spread + shift) / self.scale


def _like(channels: tuple[float, float, float], image: Array) -> Array:
    """Return `channels` as an array [1, ..., 1, 3] of the rank and dtype of `image`."""
    return jnp.asarray(channels, image.dtype).reshape((1,) * (image.ndim - 1) + (3,))


# The convention of the original VGG-19, trained in Caffe: BGR in 0..255 minus ImageNet's mean colour,
# not divided by standard deviations.
CAFFE_BGR = Pixels("caffe-bgr", 255.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), True)

# The convention of torchvision's own VGG-19: RGB in [0, 1], normalised by ImageNet's mean and standard
# deviation.
TORCHVISION = Pixels("torchvision", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), False)

# RGB in [0, 1] unchanged. The recipe `coursera-tf2` feeds this to a network that was trained on
# caffe-bgr, as the exercise of deeplearning.ai's course on Coursera does.
RAW = Pixels("raw", 1.0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), False)

# The convention of jcjohnson's neural-style in Torch7: like caffe-bgr, but [0, 1] is multiplied by 256
# instead of 255.
CAFFE_BGR_256 = Pixels("caffe-bgr-256", 256.0, (123.68, 116.779, 103.939), (1.0, 1.0, 1.0), True)


PIXELS = {pixels.name: pixels for pixels in (CAFFE_BGR, TORCHVISION, RAW, CAFFE_BGR_256)}
