"""Make the initial canvas of a picture in a larger array, by programs that serve many picture sizes.

So that one compiled program serves pictures of many shapes, a run can paint a picture at the top left
of a larger array. A start is the function that makes the initial canvas; see `starts`. Most starts
compute each pixel by itself, from the content's pixel, from noise, and from the mean and deviation of
the style. Such a start is called with the pixels of the content as one line, which is filled up to the
number of pixels of the larger array. So its programs serve all pictures in arrays of this size. The
images of the starts in `ON_HOST` are computed by NumPy, which compiles nothing. A start of a user's own
is called with the picture as it is, so programs may have to be compiled for the picture's size.

The noise is bit for bit that of a picture in an array of its own size. JAX's default generator is
counter-based: number k of an array, in the order of memory, depends on the key and on k alone. So the
first numbers that are drawn for the line are those that would be drawn for the picture. With other
generators, or with JAX's option `jax_threefry_partitionable` off, this is not so. Then every start that
is not in `ON_HOST` is called with the picture as it is, and programs are compiled for its size.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jaxtyping import Array

from nst_jax import _checks
from nst_jax._types import HostImage, Shape
from nst_jax.images.on_host import at_scale_on_host, resized_on_host
from nst_jax.images.resizing import bilinear
from nst_jax.recipes import starts

# JAX's name for its default random generator. If the option `jax_threefry_partitionable` is on (the
# default), number k depends only on the key and on k. So a picture gets the same noise in a longer
# array; see `_counts`.
COUNTING = "threefry2x32"

# The starts (functions that make the initial canvas) that compute each pixel by itself, and use nothing
# of the style but the mean and the standard deviation of its colours.
POINTWISE = (
    starts.Blank,
    starts.Noise,
    starts.WhiteNoise,
    starts.MeanNoise,
    starts.StyleMeanNoise,
    starts.Blend,
    starts.Jitter,
)


def image_on_host(init: Any, content: Any, style: Any, key: Array, array: Shape) -> HostImage:
    """Make the image from which a run starts, for a picture at the top left of a larger array.

    Args:
      init: a start, such as `starts.Noise()`, or an image [h, w, 3] of any size, uint8 or floating
        point in [0, 1], which is resized to the content's size. A start of a user's own is called with
        the pictures as they are, so JAX may have to compile programs for their sizes.
      content: [h, w, 3], at the size of the canvas.
      style: the first style, [h', w', 3].
      key: a random key, for starts that draw noise.
      array: (height, width) of the larger array.

    Returns:
      [h, w, 3] float32, of the size of the content and not of the array.

    Raises:
      TypeError: if `init` is neither a function nor an array, or is `Instant()`; or if a start of a
        user's own returns no array.
      ValueError: if such a start returns an array that `starts.called` refuses, or if `init` is an
        array with another shape than [h, w, 3], another dtype, or values outside [0, 1].

    Example:
      >>> import jax
      >>> import jax.numpy as jnp
      >>> from nst_jax.recipes.starts import WhiteNoise
      >>> content, key = jnp.zeros((20, 30, 3)), jax.random.key(0)
      >>> found = image_on_host(WhiteNoise(), content, content, key, (32, 32))
      >>> bool((found == WhiteNoise()(content, content, key)).all())
      True
    """
    shape: Shape = content.shape[0], content.shape[1]
    if not callable(init):
        return at_scale_on_host(_checks.image("init", init), shape)
    if isinstance(init, starts.SameStart):
        return image_on_host(init.start, content, style, init.key, array)
    content, style = (np.asarray(picture, np.float32) for picture in (content, style))
    if type(init) in ON_HOST:
        return np.asarray(ON_HOST[type(init)](init, content, style), np.float32)
    if isinstance(init, POINTWISE) and _counts(key):
        return _of_line(init, content, style, key, math.prod(array))
    # `jax.device_put` compiles nothing; `jnp.asarray` would compile a program for each shape.
    pictures = jax.device_put((content, style))
    return np.asarray(starts.called(init, pictures[0], pictures[1], key), np.float32)


def _counts(key: Array) -> bool:
    """Return whether a key's generator is counter-based: number k depends only on the key and on k."""
    config: Any = jax.config
    return config.jax_threefry_partitionable and str(jax.random.key_impl(key)) == COUNTING


def _of_line(
    start: Any, content: np.ndarray, style: np.ndarray, key: Array, pixels: int
) -> HostImage:
    """Call a start in `POINTWISE` with the content's pixels in one row; return its image as [h, w, 3].

    If the content has fewer than `pixels` pixels, the row is filled up with zeros.
    """
    height, width, channels = content.shape
    count = height * width
    line = np.zeros((1, max(count, pixels), channels), np.float32)
    line[0, :count] = content.reshape(count, channels)
    mean = np.mean(style, axis=(0, 1), dtype=np.float64)
    deviation = np.std(style, axis=(0, 1), dtype=np.float64)
    # The start uses only the mean and the standard deviation of the style. Two pixels with the same
    # mean and deviation replace the style, so that styles of all sizes share a compiled program.
    pair = np.stack([mean - deviation, mean + deviation])[None].astype(np.float32)
    found = np.asarray(start(*jax.device_put((line, pair)), key), np.float32)
    return found[0, :count].reshape(content.shape)


def _from_content(start: starts.FromContent, content: np.ndarray, style: np.ndarray) -> Any:
    del start, style
    return content


def _from_style(start: starts.FromStyle, content: np.ndarray, style: np.ndarray) -> Any:
    del start
    return at_scale_on_host(style, content.shape[:2])


def _style_mean_detail(
    start: starts.StyleMeanDetail, content: np.ndarray, style: np.ndarray
) -> Any:
    del start
    height, width, _ = content.shape
    half = resized_on_host(content, (max(1, height // 2), max(1, width // 2)), bilinear)
    detail = content - resized_on_host(half, (height, width), bilinear)
    return np.mean(style, axis=(0, 1), dtype=np.float64) + detail


def _seeded_blend(start: starts.SeededBlend, content: np.ndarray, style: np.ndarray) -> Any:
    del style
    return (start.pixels(content) + starts.IMAGENET_MEAN) / 255


# Starts that are not in `POINTWISE`: class of a start -> function of (start, content, style) that makes
# the image of the start by NumPy, so that nothing is compiled. `Instant` is missing here and in
# `POINTWISE`, since it cannot be called: the run itself paints the initial canvas by a feed-forward
# network.
ON_HOST: Mapping[type[Any], Callable[..., Any]] = MappingProxyType(
    {
        starts.FromContent: _from_content,
        starts.FromStyle: _from_style,
        starts.StyleMeanDetail: _style_mean_detail,
        starts.SeededBlend: _seeded_blend,
    }
)
