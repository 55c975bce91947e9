"""The rater `palette`, which measures how far a picture's colours are from those of a style."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Scalar
from nst_jax.images.oklab import oklab_of_linear
from nst_jax.losses import at_least_float32
from nst_jax.raters.checks import check_picture
from nst_jax.raters.style import AnyStyle
from nst_jax.vgg.precision import FLOAT32

QUANTILES = 4096  # number of quantiles from which the distance of two sets of numbers is computed


def oklab(image: AnyImage) -> Float[Array, "*batch h w 3"]:
    """Convert a picture to OKLab, a colour space in which equal distances look about equally large.

    Args:
      image: [*batch, h, w, 3] sRGB; values outside [0, 1] are clipped.

    Returns:
      [*batch, h, w, 3]. The channels are the lightness L, from 0 to 1; a, from green (negative) to red;
      and b, from blue (negative) to yellow. For greys, a and b are 0.

    Raises:
      TypeError: if `image` is not an array.
      ValueError: if `image` is not [..., h, w, 3] or not floating point.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import oklab
      >>> abs(oklab(jnp.ones((1, 1, 3)))[0, 0]).round(3)
      Array([1., 0., 0.], dtype=float32)

    References:
      Ottosson, "A perceptual color space for image processing", 2020, bottosson.github.io/posts/oklab;
      IEC 61966-2-1 for sRGB.
    """
    _checks.array("image", image, "`nst_jax.images.load` reads a file")
    _checks.image_shape("image", image.shape, smallest=1, needs="a picture has")
    _checks.floating("image", image.dtype)
    x = jnp.clip(at_least_float32(jnp.asarray(image)), 0.0, 1.0)
    linear = jnp.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)
    return oklab_of_linear(linear)


def palette_distance(picture: AnyImage, style: AnyStyle, *, directions: int = 32) -> Scalar:
    """Return how far the colours of a picture have to move, on average, to become those of a style.

    Colours are points in the space OKLab. They are projected on directions that are spread evenly over
    the sphere. For each direction, the mean distance that the projections have to move is computed from
    4096 quantiles. The value is twice the mean over all directions, which is twice the sliced
    Wasserstein-1 distance. If a vector is added to all colours of a picture, the factor of two makes
    the distance of the new colours to the old ones nearly the length of this vector. The positions of
    colours in the pictures do not matter, nor do the sizes of the pictures.

    Args:
      picture: [h, w, 3] sRGB in [0, 1].
      style: [h_style, w_style, 3] sRGB in [0, 1].
      directions: number of directions on which the colours are projected. Static under `jax.jit`.

    Returns:
      The distance, a scalar, in units of OKLab, where the distance of black and white is 1.

    Raises:
      TypeError: if a picture is not an array, or `directions` no whole number.
      ValueError: if a picture is not [h, w, 3] or not floating point; or if `directions` is less than
        1.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import palette_distance
      >>> black = jnp.zeros((2, 2, 3))
      >>> round(float(palette_distance(black, jnp.ones((3, 5, 3)))), 2)
      1.0

    References:
      Rabin, Peyré, Delon, Bernot, "Wasserstein barycenter and its application to texture mixing", 2011,
      for the sliced Wasserstein distance.
    """
    for argument, image in (("picture", picture), ("style", style)):
        check_picture(argument, image)
    _checks.whole("directions", directions, least=1)
    ours, theirs = (oklab(image).reshape(-1, 3) for image in (picture, style))

    def along(direction: Float[Array, "3"]) -> Scalar:
        exact = FLOAT32.products
        return _wasserstein(*(jnp.matmul(x, direction, precision=exact) for x in (ours, theirs)))

    # The directions are treated one after another, by `lax.map`, to save memory: each needs a sorted
    # array of the projections of all pixels.
    return 2 * jnp.mean(lax.map(along, jnp.asarray(_sphere(directions), ours.dtype)))


def _sphere(count: int) -> Float[np.ndarray, "n 3"]:
    """Return `count` directions: a Fibonacci lattice, spread evenly over half of the unit sphere.

    The half is enough, since opposite directions give the same distance. The heights of the points
    along the axis of lightness are equally spaced, so their mean is exactly 1/2. Therefore twice the
    mean distance of the projections of two greys is exactly the distance of the greys.
    """
    index = np.arange(count)
    height = (index + 0.5) / count
    angle = index * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - height**2)
    return np.stack([height, radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _wasserstein(ours: Float[Array, " m"], theirs: Float[Array, " n"]) -> Scalar:
    """Approximate the Wasserstein-1 distance of two samples by the mean |difference| of quantiles."""
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    ours, theirs = (jnp.sort(x)[(levels * len(x)).astype(np.int32)] for x in (ours, theirs))
    return jnp.mean(jnp.abs(ours - theirs))
