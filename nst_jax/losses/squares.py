"""Squared differences, scaled so that the gradient stays the same if all differences are doubled."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from nst_jax._types import Scalar

# The sum of squares is divided by the sum of absolute differences plus this number. So if all
# differences are 0, the quotient is 0 and not 0 / 0.
LEAST_SUM = 1e-8


def absolute(x: Array) -> Array:
    """Return |x| elementwise, with the gradient 0 at x = 0, as in TensorFlow and torch.

    This function is used instead of `jnp.abs`, whose gradient at 0 depends on the version of JAX. A
    gradient of 1 there would make the pixels of a uniform area drift in one direction.
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def scaled_by_gradient(squares: Scalar, absolutes: Scalar) -> Scalar:
    """Return sum(d²) / (sum|d| + 1e-8), given the sums over all differences d.

    Losses that already have the two sums, for example computed tile by tile, use this function.

    Args:
      squares: sum(d²), a scalar for each picture.
      absolutes: sum|d|, of the same shape.

    Returns:
      The same as `gradient_scaled_square` for the differences d.
    """
    return squares / (absolutes + LEAST_SUM)


def gradient_scaled_square(differences: Array) -> Scalar:
    """Return sum(d²) / (sum|d| + 1e-8) over all differences d.

    If all differences are multiplied by a positive factor, the result is multiplied by it too, and the
    gradient does not change. So layers and terms of the loss are balanced roughly without weights. The
    gradient is that of the whole quotient: as in the source (see References), the denominator is
    differentiated too.

    Args:
      differences: any array.

    Returns:
      A scalar.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import gradient_scaled_square
      >>> float(gradient_scaled_square(jnp.array([3.0, -1.0])))
      2.5

    References:
      crowsonkb/style-transfer-pytorch, style_transfer/style_transfer.py, `ScaledMSELoss`.
    """
    return scaled_by_gradient(jnp.sum(jnp.square(differences)), jnp.sum(absolute(differences)))
