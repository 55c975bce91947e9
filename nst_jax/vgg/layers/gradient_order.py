"""The order in which gradients are computed on a CPU: those of losses one after the other."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from nst_jax._types import FeatureMap


@jax.custom_vjp
def measured_in_turn(x: FeatureMap, measured: Any) -> tuple[FeatureMap, Any]:
    """Return both arguments; the gradient of `measured` waits for that of `x`.

    Without this function, XLA's CPU compiler computes the gradients of the losses at all layers as soon
    as it knows the losses, and keeps them until the backward pass arrives at each layer. With this
    function, they are computed when it has arrived there.

    Args:
      x: activations that the next layer reads.
      measured: what losses have computed from these activations, such as a Gram matrix: arrays in any
        structure.
    """
    return x, measured


def _in_turn_forward(x: FeatureMap, measured: Any) -> tuple[tuple[FeatureMap, Any], None]:
    return (x, measured), None


def _in_turn_backward(_: None, gradients: tuple[FeatureMap, Any]) -> tuple[FeatureMap, Any]:
    g, of_measured = gradients
    # No number is larger than infinity, so this is False. The compiler does not know that. So it must
    # compute `g` first. (It drops barriers.)
    never = jnp.any(g[:, 0, 0, 0] > jnp.inf)

    def after_g(gradient: Array) -> Array:
        if not jnp.issubdtype(gradient.dtype, jnp.inexact):
            return gradient  # integers have no gradient
        return jnp.where(never, jnp.zeros_like(gradient), gradient)

    return g, jax.tree.map(after_g, of_measured)


measured_in_turn.defvjp(_in_turn_forward, _in_turn_backward)
