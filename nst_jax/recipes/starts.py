"""Starts: dataclasses whose instances are functions that make the initial canvas of a run.

A start is called as (content, style, key) -> image. `content` is the content picture [h, w, 3] at the
size of the canvas, `style` is a style picture [h', w', 3] of any size, and `key` is a JAX random key,
which is used only by starts that draw noise. The result is an image [h, w, 3], whose values may lie a
little outside [0, 1] where noise or detail is added. `Instant` cannot be called: it only says that the
run itself paints the initial canvas, by a feed-forward network.

Starts without fields, such as `Blank`, are dataclasses too, so that all starts can be registered as
pytrees, compared, and written to files in the same way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Image, StyleImage
from nst_jax.images.resizing import antialiased, finest_detail

IMAGENET_MEAN = np.asarray((123.68, 116.779, 103.939))  # ImageNet's mean colour, RGB from 0 to 255


Start: TypeAlias = Callable[[Image, StyleImage, Array], Image]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FromContent:
    """The initial canvas is the content picture itself."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return content


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FromStyle:
    """The initial canvas is the style picture, resized to the height and width of the content."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        height, width, _ = content.shape
        return antialiased(style, (height, width))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blank:
    """The initial canvas is a uniform middle grey, 0.5 in each channel."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.full_like(content, 0.5)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Noise:
    """The initial canvas is Gaussian noise with the mean and standard deviation of the style.

    Both are computed for each channel. The noise is independent in each pixel, and clipped to [0, 1].
    The canvas has the style's colours from the beginning; if it started from grey noise, it would need
    many updates to get them.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        mean = jnp.mean(style, axis=(0, 1), keepdims=True)
        deviation = jnp.std(style, axis=(0, 1), keepdims=True)
        noise = jax.random.normal(key, content.shape, content.dtype)
        return jnp.clip(mean + deviation * noise, 0.0, 1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class WhiteNoise:
    """The initial canvas is noise, uniform in [0, 1) and independent in each channel of each pixel."""

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        return jax.random.uniform(key, content.shape, content.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MeanNoise:
    """The initial canvas is ImageNet's mean colour plus weak normal noise, as in neural-style.

    neural-style and its ports make this canvas in the pixels of their network, which are not in [0, 1].
    So the noise is added to ImageNet's mean colour in pixels from 0 to 255, and the sum is divided by
    `white`. The result is not clipped.

    Attributes:
      deviation: standard deviation of the noise, in the network's pixels.
      white: the difference of white and black in the network's pixels: 255, or 256 in the original
        neural-style, where the mean of the canvas is therefore slightly darker than ImageNet's.
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
    """The initial canvas is the style's mean colour plus weak normal noise.

    A recipe for textures uses this start.

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
    """The initial canvas is the style's mean colour plus the content's finest detail, as in STROTSS.

    The finest detail is the finest level of the content's Laplacian pyramid; see
    `images.resizing.finest_detail`.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return jnp.mean(style, axis=(0, 1), keepdims=True) + finest_detail(content)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Blend:
    """The initial canvas is `(1 - ratio) * content + ratio * noise`; `Noise()` draws the noise."""

    ratio: float = 0.6

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        return (1 - self.ratio) * content + self.ratio * Noise()(content, style, key)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Jitter:
    """The initial canvas is the content plus uniform noise in [-amplitude, amplitude).

    The canvas is clipped to [0, 1].
    """

    amplitude: float = 0.25

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style
        noise = jax.random.uniform(key, content.shape, content.dtype, -1.0, 1.0)
        return jnp.clip(content + self.amplitude * noise, 0.0, 1.0)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SeededBlend:
    """The initial canvas is that of Coursera's TensorFlow 1 notebook, a mixture of content and noise.

    The mixture is `(1 - ratio) * content + ratio * noise`. The content has pixels from 0 to 255, from
    which ImageNet's mean colour is subtracted. The noise is uniform in [-amplitude, amplitude).

    NumPy's legacy generator, seeded with `seed`, draws the noise. As in the notebook, two normal
    numbers are drawn first and not used, so the noise is the same. The argument `key` is not used. JAX
    cannot trace this start, since NumPy runs on the host.
    """

    ratio: float = 0.6
    amplitude: float = 20.0
    seed: int = 3

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del style, key
        return jnp.asarray((self.pixels(content) + IMAGENET_MEAN) / 255, content.dtype)

    def pixels(self, content: AnyImage) -> Float[np.ndarray, "h w 3"]:
        """Return the initial canvas in the notebook's pixels, equal bit for bit to the notebook's.

        These pixels are float32 RGB from 0 to 255, with ImageNet's mean colour subtracted. An image in
        [0, 1] cannot represent them exactly, but a canvas in these pixels can.

        Args:
          content: the content picture [h, w, 3] in [0, 1].
        """
        generator = np.random.RandomState(int(self.seed))
        generator.randn(2)
        noise = generator.uniform(-self.amplitude, self.amplitude, (1, *content.shape))[0]
        bytes_ = np.asarray(content, np.float64) * 255
        whole = np.round(bytes_)
        # In the notebook, pixels are whole numbers from 8-bit files. Here they were divided by 255 in
        # float32, so that after the multiplication they may be up to 2e-5 away from a whole number.
        # Such pixels are rounded. Others are kept, since they do not come from an 8-bit file.
        picture = np.where(np.abs(bytes_ - whole) < 5e-5, whole, bytes_) - IMAGENET_MEAN
        # As in the notebook: the noise is multiplied by `ratio` in float32, the content by `1 - ratio`
        # in float64; both are added in float64, and the sum is cast to float32.
        blend = noise.astype(np.float32) * np.float32(self.ratio) + picture * (1 - self.ratio)
        return blend.astype(np.float32)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Instant:
    """The initial canvas is the content as `nst_jax.instant` paints it, by a feed-forward network.

    The network needs all styles and their weights, but a start (a function that makes the initial
    canvas) is given only the first style. Therefore the run paints this picture itself and does not
    call this start; a call raises a TypeError.
    """

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del content, style, key
        raise TypeError(
            "`Instant`: names the picture from which a run starts, and makes none by itself; "
            "`nst_jax.instant(content, style)` makes one"
        )


# The starts (functions that make the initial canvas) by their names in recipe files (TOML).
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
    """Makes the initial canvas by another start, but with a fixed key: each call gives the same noise.

    Attributes:
      start: the other start, a function that makes the initial canvas.
      key: the JAX random key that `start` is given in place of the caller's key.
    """

    start: Any
    key: Array

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return self.start(content, style, self.key)


# --- Checks, and the call of a start --------------------------------------------------------------

# What the numbers of a `ratio` mean, in messages.
RATIO = "0 is the content, 1 is noise"


def check_start(argument: str, start: Callable[..., Any]) -> None:
    """Refuse a class in place of a start, and a start of this module whose numbers are not allowed.

    Args:
      argument: the caller's name for the start, used in messages.
      start: the callable to check; a user's own start may be any callable that is not a class.

    Raises:
      TypeError: if `start` is a class, or if a number has the wrong type.
      ValueError: if a number is not finite or out of range: below 0, a `ratio` above 1, a `white` of 0,
        or a `seed` of 2^32 or more.
    """
    _checks.not_class(argument, start, "a start")
    if isinstance(start, SameStart):
        check_start(argument, start.start)
    for name, value in _numbers_of(start):
        if name == "seed":
            _checks.whole(name, value, least=0, below=2**32)
        elif name == "white":
            _checks.number(name, value, above=0)
        elif name == "ratio":
            _checks.number(name, value, least=0, most=1, means=RATIO)
        else:
            _checks.number(name, value, least=0)


def _numbers_of(start: Any) -> list[tuple[str, Any]]:
    """Return the names and values of the numbers of a start of this module; none of other starts.

    A user's own subclass is another start, since its numbers may mean something else.
    """
    if type(start) not in STARTS.values():
        return []
    leaves = jax.tree_util.tree_leaves_with_path(start)
    return [(jax.tree_util.keystr(path).lstrip("."), value) for path, value in leaves]


def check_start_or_image(argument: str, init: Any) -> None:
    """Refuse a value that cannot give the picture from which a run starts.

    Accepted are None (the recipe decides), a picture, and a start that `check_start` accepts and whose
    numbers are no arrays. For text that is like the name of a start, the message gives this start.
    """
    if isinstance(init, str) and (near := _checks.nearest_name(init, STARTS)):
        raise TypeError(
            f"`{argument}`: expected a picture or a start, got the text {init!r}; "
            f"`nst_jax.recipes.starts.{near}()` is a start"
        )
    if not callable(init):
        if init is not None:
            _checks.image(argument, init)
        return
    check_start(argument, init)
    for name, value in _numbers_of(init):
        if np.ndim(value):
            raise ValueError(
                f"`{name}`: expected one number, got an array of the shape {list(np.shape(value))}; "
                "all pictures start alike"
            )


def called(start: Any, content: Any, style: Any, key: Array) -> Any:
    """Call a start; refuse a result that is no picture of the content's size.

    Args:
      start: a start of this module, or one of a user's own.
      content: [h, w, 3], at the size of the canvas.
      style: the first style, [h', w', 3].
      key: a random key, for starts that draw noise.

    Returns:
      The initial canvas [h, w, 3]; if a user's own start made it, cast to the dtype of the content.

    Raises:
      TypeError: if a user's own start returns something else than an array.
      ValueError: if it returns an array of another shape than the content's, or one that is not
        floating point, or NaN or infinite values. The values of tracers are not checked.
    """
    if isinstance(start, SameStart):
        return called(start.start, content, style, start.key)
    image = start(content, style, key)
    if type(start) in STARTS.values():
        return image
    image = _checks.returned_image("init", "start", image, tuple(content.shape))
    # With another dtype, the whole run would be computed in it.
    return image if image.dtype == content.dtype else jnp.asarray(image, content.dtype)


def same_start(start: Any, seed: int) -> Any:
    """Return a start that draws the same noise for all canvases of a batch.

    Args:
      start: a start (a function that makes the initial canvas), or a picture to start from, or None.
        `SeededBlend`, `Instant`, a picture and None are returned unchanged, since they use no random
        key.
      seed: the whole number from which the key for the noise is made.
    """
    if not callable(start) or isinstance(start, (SeededBlend, Instant)):
        return start
    return SameStart(start, jax.random.key(seed))
