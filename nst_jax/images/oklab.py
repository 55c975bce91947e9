"""OKLab: a colour space in which colours at equal distances look about equally different.

Its coordinates are lightness and two axes, one from green to red and one from blue to yellow.

References:
  Ottosson, "A perceptual color space for image processing", 2020, bottosson.github.io/posts/oklab.
"""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax import _checks

# The two matrices of OKLab: from linear sRGB to the responses of three kinds of cones in the eye, and
# from the cube roots of these responses to L, a, b.
CONES = np.array(
    (
        (0.4122214708, 0.5363325363, 0.0514459929),
        (0.2119034982, 0.6806995451, 0.1073969566),
        (0.0883024619, 0.2817188376, 0.6299787005),
    )
)
AXES = np.array(
    (
        (0.2104542553, 0.7936177850, -0.0040720468),
        (1.9779984951, -2.4285922050, 0.4505937099),
        (0.0259040371, 0.7827717662, -0.8086757660),
    )
)

COLOURS = "an array [..., 3]"  # what is expected for colours, as words for messages


def oklab_of_linear(rgb: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Convert linear RGB to OKLab.

    Args:
      rgb: [*n, 3] linear RGB, nominally in [0, 1].

    Returns:
      [*n, 3]: lightness L from 0 to 1, and the axes a (green to red) and b (blue to yellow), which are
      both 0 for greys.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.images.oklab import oklab_of_linear
      >>> found = oklab_of_linear(jnp.full((3,), 0.125))
      >>> [round(abs(float(axis)), 3) for axis in found]
      [0.5, 0.0, 0.0]
    """
    _checks.not_keys("rgb", rgb, COLOURS)
    return _product(jnp.cbrt(_product(rgb, CONES)), AXES)


def linear_of_oklab(lab: Float[Array, "*n 3"]) -> Float[Array, "*n 3"]:
    """Convert OKLab to linear RGB: the inverse of `oklab_of_linear`.

    Args:
      lab: [*n, 3], the L, a and b of each colour.

    Returns:
      [*n, 3] linear RGB; outside of [0, 1] for colours that sRGB cannot express.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.images.oklab import linear_of_oklab, oklab_of_linear
      >>> found = linear_of_oklab(oklab_of_linear(jnp.array([0.1, 0.5, 0.9])))
      >>> [round(float(channel), 4) for channel in found]
      [0.1, 0.5, 0.9]
    """
    _checks.not_keys("lab", lab, COLOURS)
    roots = _product(lab, np.linalg.inv(AXES))
    return _product(roots * roots * roots, np.linalg.inv(CONES))


def _product(x: Array, matrix: np.ndarray) -> Array:
    return jnp.matmul(x, jnp.asarray(matrix.T, x.dtype), precision=lax.Precision.HIGHEST)
