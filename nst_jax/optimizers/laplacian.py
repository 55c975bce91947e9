"""The Laplacian pyramid of a picture, and optimisers that update the levels of a pyramid.

The canvas, the picture that is optimised, is the sum of the levels of its pyramid, each enlarged to the
size of the canvas. This sum is a linear map A from the levels z to the pixels A z, which `collapse`
computes. An optimiser that updates the levels is given the gradient Aᵀ g, where g is the gradient with
respect to the pixels. If it moves the levels by u, the pixels move by A u. So if its update depends
only on gradients, as that of Adam does, the optimiser never needs the levels z. It only keeps its own
state, such as Adam's running means, for each level.

Since Adam divides by the root mean square of the gradient, it adapts the size of its steps to each
level. The pyramid in `optimizers.pyramid`, which L-BFGS uses, has a fixed weight for each level
instead.
"""

from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import Shape
from nst_jax.images.resizing import bilinear

# The levels of a Laplacian pyramid, each [h', w', 3], from fine to coarse. The last level is the
# picture at its smallest size. Any other level is the picture at one size minus an enlarged copy: the
# picture at the next smaller size, enlarged to the same size.
Levels: TypeAlias = tuple[Array, ...]

PICTURE = "an array [height, width, 3]"  # what is expected for a picture, as words for messages


def decompose(picture: Float[Array, "h w 3"], levels: int) -> Levels:
    """Return the Laplacian pyramid of a picture.

    The picture is reduced to half its height and width, the result is reduced to half again, and so on.
    So there is a series of pictures, of which the given picture is the first. Each level but the last
    is a difference: a picture of the series minus the next smaller one, which is first enlarged to the
    same size. The last level is the smallest picture itself. Pictures are reduced and enlarged
    bilinearly, without antialiasing. Half of an odd side is rounded down, but a side has 1 px at least.

    Args:
      picture: the picture, [h, w, 3].
      levels: number of times that the picture is halved; with 0, the only level is the picture itself.

    Returns:
      The levels, fine to coarse: `levels + 1` arrays [h', w', 3].

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
    _checks.not_keys("picture", picture, PICTURE)
    found = []
    for shape in _shapes(_shape(picture), levels)[1:]:
        half = bilinear(picture, shape)
        found.append(picture - bilinear(half, _shape(picture)))
        picture = half
    return (*found, picture)


def collapse(levels: Levels) -> Float[Array, "h w 3"]:
    """Return the picture [h, w, 3] of which `levels` is the Laplacian pyramid; inverts `decompose`.

    The last level is the smallest picture. It is enlarged to the size of the next finer level, which is
    then added. This is repeated with each sum, up to the finest level.
    """
    for index, level in enumerate(levels):
        _checks.not_keys(f"levels[{index}]", level, PICTURE)
    *details, picture = levels
    for detail in reversed(details):
        picture = detail + bilinear(picture, _shape(detail))
    return picture


def over_pyramid(
    rule: optax.GradientTransformationExtraArgs, levels: int, height: int | None = None
) -> optax.GradientTransformationExtraArgs:
    """Return an optax transformation that applies `rule` to the levels of the canvas' pyramid.

    The canvas is an array of pixels [h, w, 3]. The transformation converts the gradient with respect to
    the pixels into the gradient with respect to the levels of the Laplacian pyramid. It calls `rule`
    with this gradient, and converts the move of the levels that `rule` returns into a move of the
    pixels.

    Args:
      rule: an optax transformation whose parameters and gradients are the levels of the pyramid, a
        tuple of arrays.
      levels: number of halvings in the pyramid.
      height: number of rows of the picture, if the canvas is an array with further rows of zeros below
        the picture (as it may be if several devices share it). None means that there are no such rows.

    Returns:
      The transformation, whose state is the state of `rule`. In this state, the arrays of the finest
      level have the same rows of zeros below as the canvas, so that they can be distributed over
      several devices in the same way.
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
        # Only rules that read their parameters need the levels of the canvas. For other rules, XLA
        # removes this computation.
        now = None if params is None else padded(decompose(params[:height], levels), rows)
        moves, state = rule.update(padded(gradient, rows), state, now, **extra)
        return padded((collapse(cut(moves)),), rows)[0], state

    return optax.GradientTransformationExtraArgs(init, update)


def _shape(picture: Array) -> Shape:
    return picture.shape[0], picture.shape[1]


def _shapes(shape: Shape, levels: int) -> list[Shape]:
    """Return the (height, width) of each level: `shape`, and `shape` halved once to `levels` times.

    Halves are rounded down, but are at least 1.
    """
    shapes = [(shape[0], shape[1])]
    for _ in range(levels):
        shapes.append((max(shapes[-1][0] // 2, 1), max(shapes[-1][1] // 2, 1)))
    return shapes
