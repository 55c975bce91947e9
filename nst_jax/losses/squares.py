"""Gradient-scaled squares, whose gradient is of similar size for small and for large differences."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from nst_jax._types import Scalar

# Added to the sum of absolute differences, so that the loss of equal pictures is 0 and not 0 / 0.
LEAST_SUM = 1e-8


def absolute(x: Array) -> Array:
    """Return |x|, whose gradient is 0 at 0, as in TensorFlow and torch.

    The gradient of `jnp.abs` at 0 depends on the version of JAX; a gradient of 1 would make the pixels
    of a uniform area drift in one direction.
    """
    return x * jax.lax.stop_gradient(jnp.sign(x))


def scaled_by_gradient(squares: Scalar, absolutes: Scalar) -> Scalar:
    """Return sum(d²) / (sum|d| + 1e-8) from the two sums; see `gradient_scaled_square`."""
    return squares / (absolutes + LEAST_SUM)


def gradient_scaled_square(differences: Array) -> Scalar:
    """Return sum(d²) / (sum|d| + 1e-8) over all differences d.

    The result grows like |d| and not like d². With the denominator held constant, its gradient would
    have the L1 norm 2 for differences of any size, so that layers and terms are balanced without
    weights. As in the source, however, the denominator is differentiated too.

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
