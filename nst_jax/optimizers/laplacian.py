"""The Laplacian pyramid of a canvas, and updates of its levels in place of pixels.

A canvas is the collapse of its pyramid, a linear map A from the levels z to the pixels A z. An
optimiser over the levels is given the gradient Aᵀ g, with g the gradient in pixels, and moves z by u;
the pixels then move by A u. So an optimiser whose update depends on gradients alone, such as Adam, does
not need the levels z themselves, only its own moments for each level. Since Adam divides by the root
mean square of the gradient, it adapts its steps to each level; `optimizers.pyramid`, in contrast, has a
fixed weight for each level.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nst_jax._types import Shape
from nst_jax.images.resizing import bilinear

Levels: TypeAlias = tuple[
    Array, ...
]  # fine to coarse: details [h, w, 3] of each level, then the rest


def decompose(picture: Float[Array, "h w 3"], levels: int) -> Levels:
    """Return the Laplacian pyramid of a picture: details of `levels` levels, then the smallest picture.

    Each level is the difference of a picture and its half, enlarged again; both resizings are bilinear
    without antialiasing, and halves are rounded down, but to 1 px at least.

    Args:
      picture: [h, w, 3].
      levels: number of halvings; 0 returns the picture alone.

    Returns:
      `levels + 1` arrays, fine to coarse.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.optimizers.laplacian import collapse, decompose
      >>> picture = jnp.arange(9 * 6 * 3.0).reshape(9, 6, 3)
      >>> pyramid = decompose(picture, levels=2)
      >>> [level.shape for level in pyramid]
      [(9, 6, 3), (4, 3, 3), (2, 1, 3)]
      >>> bool(jnp.allclose(collapse(pyramid), picture))
      True

    References:
      Burt, Adelson, "The Laplacian Pyramid as a Compact Image Code", 1983; resized as in
      github.com/nkolkin13/STROTSS.
    """
    found = []
    for shape in _shapes(_shape(picture), levels)[1:]:
        half = bilinear(picture, shape)
        found.append(picture - bilinear(half, _shape(picture)))
        picture = half
    return (*found, picture)


def collapse(levels: Levels) -> Float[Array, "h w 3"]:
    """Return the picture of a Laplacian pyramid: each level added to the coarser ones, enlarged."""
    *details, picture = levels
    for detail in reversed(details):
        picture = detail + bilinear(picture, _shape(detail))
    return picture


def over_pyramid(
    rule: optax.GradientTransformationExtraArgs, levels: int, height: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return a transformation of pixels that moves the levels of their Laplacian pyramid by `rule`.

    Args:
      rule: a transformation of a pytree; its gradients and parameters are the levels of the pyramid.
      levels: number of halvings.
      height: number of rows of the canvas; rows below are padding with zeros. None means no padding.

    Returns:
      The transformation; its state is that of `rule`. In it, the finest level is padded as the canvas
      is, so that both are distributed alike over several devices.
    """

    def padded(found: Levels, rows: int) -> Levels:
        edges = ((0, rows - found[0].shape[0]), (0, 0), (0, 0))
        return (jnp.pad(found[0], edges), *found[1:])

    def cut(found: Levels) -> Levels:
        return (found[0][:height], *found[1:])

    def init(params: Array) -> Any:
        return rule.init(padded(decompose(params[:height], levels), params.shape[0]))

    def update(
        updates: Array, state: Any, params: Array | None = None, **extra: Any
    ) -> tuple[Array, Any]:
        rows = updates.shape[0]
        shapes = _shapes(_shape(updates[:height]), levels)
        like = tuple(jax.ShapeDtypeStruct((*shape, 3), updates.dtype) for shape in shapes)
        (gradient,) = jax.linear_transpose(collapse, like)(updates[:height])
        # If the rule does not read the levels, XLA does not compute them.
        now = None if params is None else padded(decompose(params[:height], levels), rows)
        moves, state = rule.update(padded(gradient, rows), state, now, **extra)
        return padded((collapse(cut(moves)),), rows)[0], state

    return optax.GradientTransformationExtraArgs(init, update)


def _shape(picture: Array) -> Shape:
    return picture.shape[0], picture.shape[1]


def _shapes(shape: Shape, levels: int) -> list[Shape]:
    """Return the (height, width) of every level, fine to coarse."""
    shapes = [(shape[0], shape[1])]
    for _ in range(levels):
        shapes.append((max(shapes[-1][0] // 2, 1), max(shapes[-1][1] // 2, 1)))
    return shapes
