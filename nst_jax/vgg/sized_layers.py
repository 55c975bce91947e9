"""Pad and pool features that fill only the top left part of their arrays.

The (height, width) of this part, the real size of the features, is a value at runtime, so that one
compiled program serves pictures of many sizes; see `nst_jax._real_size`. Outside this part, the
functions here expect zeros, as `_real_size.cut` makes them. So zero padding needs nothing more; for
other paddings, the rows and columns just beyond the border of this part are filled.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from nst_jax._real_size import cut, halved_size, inside
from nst_jax._types import FeatureMap, RealSize
from nst_jax.vgg.layers.convolution import Forms, conv3x3
from nst_jax.vgg.layers.padding import (
    PICTURE_CHANNELS,
    Convolved,
    Kernel,
    Padding,
    reflect_padded,
    replicate_first,
    replicate_padded,
    zero_padded,
)
from nst_jax.vgg.layers.pooling import (
    Pool,
    Pooled,
    average_pool,
    l2_pool,
    max_pool,
    pool_relu,
    scaled_average_pool,
)
from nst_jax.vgg.taps import halvings, layer_of

# --- Padding --------------------------------------------------------------------------------------


def convolve_sized(
    padding: Padding,
    x: FeatureMap,
    kernel: Kernel,
    forms: Forms | None,
    products: lax.Precision,
    size: RealSize,
) -> Convolved:
    """Convolve features that fill only a part of `x` as `padding` would convolve this part alone.

    Args:
      padding: one of `PADDED`.
      x: [n, h, w, c]; the features are at the top left, and all else is zero.
      kernel: the layer's weights, [3, 3, c, o].
      forms: the kernel transposed, and perhaps transformed for Winograd convolution, or None; see
        `conv3x3`.
      products: the precision of products that the convolution requests from the device.
      size: the (height, width) of the features, called their real size.

    Returns:
      [n, h, w, o], with arbitrary values outside the real size.
    """
    if padding is replicate_first:
        padding = replicate_padded if kernel.shape[2] == PICTURE_CHANNELS else zero_padded
    if padding is zero_padded:
        return conv3x3(x, kernel, forms, products)
    wide = _framed(x, size, padding is reflect_padded)
    # `conv3x3` pads with zeros once more, which affects only the outermost ring of its result; that
    # ring is cropped.
    return conv3x3(wide, kernel, forms, products)[:, 1:-1, 1:-1, :]


# The paddings that `convolve_sized` accepts.
PADDED = (zero_padded, replicate_padded, replicate_first, reflect_padded)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _framed(x: FeatureMap, size: RealSize, mirrored: bool) -> Array:
    """Surround features that fill only the top left part of `x` by a frame of copied pixels.

    `size` is the (height, width) of this part. The result has one more row or column than `x` on each
    side. The frame repeats the border pixels of the features. If `mirrored`, it repeats the pixels next
    to the border pixels instead, unless a side of the features has only 1 px.

    There are two implementations, which give the same numbers. On a CPU, the lines (rows and columns)
    of the frame are written in place, in the gradient too. On other devices, every pixel is selected
    from the features and the lines: this is one operation on the whole array, where writing in place
    would start many small ones.

    The gradient rule is written by hand, since automatic differentiation of the first implementation
    would make an array of the size of `x` for each line. Outside the features, where `x` is zero, the
    gradient may be arbitrary: `x` comes from a ReLU or from `cut`, which pass no gradient on there.
    """
    return lax.platform_dependent(
        x,
        size,
        cpu=partial(_framed_in_place, mirrored=mirrored),
        default=partial(_framed_by_selection, mirrored=mirrored),
    )


def _framed_in_place(x: FeatureMap, size: RealSize, mirrored: bool) -> Array:
    rows, columns = _copies(size, mirrored)
    wide = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # Rows and columns are read from `x`, not from `wide`: XLA would copy all of `wide` if it were read
    # between two changes of it.
    for new, copied in columns:
        column = lax.dynamic_index_in_dim(x, copied - 1, 2)
        column = jnp.pad(column, ((0, 0), (1, 1), (0, 0), (0, 0)))
        wide = lax.dynamic_update_index_in_dim(wide, column, new, 2)
    framed_rows = []
    for _, copied in rows:
        row = lax.dynamic_index_in_dim(x, copied - 1, 1)
        wide_row = jnp.pad(row, ((0, 0), (0, 0), (1, 1), (0, 0)))
        for end, near in columns:
            pixel = lax.dynamic_index_in_dim(row, near - 1, 2)
            wide_row = lax.dynamic_update_index_in_dim(wide_row, pixel, end, 2)
        framed_rows.append(wide_row)
    return _with_rows(wide, framed_rows, [new for new, _ in rows], added=False)


# For each line (row or column) of a frame, two indices in the framed array: that of the line itself,
# and that of the line of which it is a copy.
_Copies: TypeAlias = list[tuple[int | Int[Array, ""], Int[Array, ""]]]


def _copies(size: RealSize, mirrored: bool) -> tuple[_Copies, _Copies]:
    """Return the two rows and the two columns of the frame, each with the line that it copies.

    Args:
      size: (height, width) of the features inside the frame, which is one line wide.
      mirrored: whether the frame copies the lines next to the border lines, as reflection padding does.
        If not, or if a side of the features has only 1 px, it copies the border lines themselves.
    """
    # Which lines are copied: 0 for those at the border of the features, 1 for those next to them.
    distance = jnp.where(jnp.all(size > 1), 1, 0) if mirrored else jnp.zeros((), jnp.int32)
    rows, columns = ([(0, 1 + distance), (side + 1, side - distance)] for side in size)
    return rows, columns


def _framed_forward(x: FeatureMap, size: RealSize, mirrored: bool) -> tuple[Array, RealSize]:
    return _framed(x, size, mirrored), size


def _framed_backward(mirrored: bool, size: RealSize, g: Array) -> tuple[Array, None]:
    def by_selection(g: Array, size: RealSize) -> Array:
        batch, height, width, channels = g.shape
        features = jnp.zeros((batch, height - 2, width - 2, channels), g.dtype)
        framed = partial(_framed_by_selection, size=size, mirrored=mirrored)
        return jax.vjp(framed, features)[1](g)[0]  # `framed` is linear: any features will do

    in_place = partial(_gradient_in_place, mirrored=mirrored)
    return lax.platform_dependent(g, size, cpu=in_place, default=by_selection), None


def _gradient_in_place(g: Array, size: RealSize, mirrored: bool) -> Array:
    """Return the gradient of the loss with respect to the argument `x` of `_framed_in_place`.

    `g` is the gradient of the loss with respect to the result of `_framed_in_place`, which is `x` with
    a frame. A row or column of `x` that the frame copies gets the sum of its own gradient and those of
    its copies.
    """
    rows, columns = _copies(size, mirrored)
    total = _add_copies(g, columns)
    lines = [_add_copies(lax.dynamic_index_in_dim(g, new, 1), columns) for new, _ in rows]
    total = _with_rows(total, lines, [copied for _, copied in rows], added=True)
    return total[:, 1:-1, 1:-1]


_framed.defvjp(_framed_forward, _framed_backward)


def _with_rows(
    x: Array, rows: list[Array], indices: list[int | Int[Array, ""]], *, added: bool
) -> Array:
    """Return `x` with `rows` in place of its rows (axis 1) at `indices`, or added to them if `added`.

    The rows are written in a loop, whose result is an array in memory. Without the loop, XLA would fuse
    the writing of the last row with the operation that reads the result; that operation would check for
    each number whether it lies in the last row.
    """
    lines, places = jnp.stack(rows), jnp.stack([jnp.asarray(index, jnp.int32) for index in indices])

    def write(number: Array, x: Array) -> Array:
        row = lax.dynamic_index_in_dim(lines, number, keepdims=False)
        place = lax.dynamic_index_in_dim(places, number, keepdims=False)
        if added:
            return _add_at(x, row, place, 1)
        return lax.dynamic_update_index_in_dim(x, row, place, 1)

    return lax.fori_loop(0, len(rows), write, x)


def _add_copies(g: Array, columns: _Copies) -> Array:
    """Return `g` with the gradient of each copied column increased by the gradient of its copy.

    The copies are the columns of the frame that `_framed` adds. `g` is the gradient with respect to the
    framed array, or one row of it. `columns` has the indices of each copy and of the copied column
    along axis 2.
    """
    total = g
    for new, copied in columns:
        total = _add_at(total, lax.dynamic_index_in_dim(g, new, 2), copied, 2)
    return total


def _add_at(x: Array, line: Array, index: Int[Array, ""], axis: int) -> Array:
    total = lax.dynamic_index_in_dim(x, index, axis) + line
    return lax.dynamic_update_index_in_dim(x, total, index, axis)


def _framed_by_selection(x: FeatureMap, size: RealSize, mirrored: bool) -> Array:
    # Which rows and columns are copied to the frame: those at the border of the features (0), or those
    # next to them (1), as mirroring does. If a side has length 1, no line is next to its border. Then
    # the frame has copies of the border on all sides (0), as in `reflect_padded`.
    distance = jnp.where(jnp.all(size > 1), 1, 0) if mirrored else jnp.zeros((), jnp.int32)
    return _framed_along(_framed_along(x, size[0], distance, 1), size[1], distance, 2)


def _framed_along(x: Array, side: Int[Array, ""], distance: Int[Array, ""], axis: int) -> Array:
    first = lax.slice_in_dim(x, 0, 1, axis=axis)
    second = lax.slice_in_dim(x, 1, 2, axis=axis) if x.shape[axis] > 1 else first
    before = jnp.where(distance == 1, second, first)
    after = lax.dynamic_index_in_dim(x, side - 1 - distance, axis, keepdims=True)
    wide = jnp.concatenate([before, x, jnp.zeros_like(before)], axis)
    lines = [wide.shape[axis] if one == axis else 1 for one in range(x.ndim)]
    return jnp.where(lax.broadcasted_iota(jnp.int32, lines, axis) == side + 1, after, wide)


# --- Zeros outside --------------------------------------------------------------------------------


@jax.custom_vjp
def cut_before_relu(x: Convolved, size: RealSize) -> Convolved:
    """Set `x` to zero outside the features at its top left; only a ReLU may read the result.

    `size` is the (height, width) of the features. The gradient is passed on unchanged: it comes from
    the ReLU and is already zero outside the features, where the ReLU's result is zero. XLA does not
    know this. If the gradient were set to zero there once more, XLA would fuse this step with the
    operations before and after it into a slow loop.
    """
    return cut(x, size)


def _cut_forward(x: Convolved, size: RealSize) -> tuple[Convolved, None]:
    return cut(x, size), None


def _cut_backward(_: None, g: Convolved) -> tuple[Convolved, None]:
    return g, None


cut_before_relu.defvjp(_cut_forward, _cut_backward)


# --- Sizes ----------------------------------------------------------------------------------------


def feature_size(tap: str, size: RealSize, ceil: bool) -> RealSize:
    """Return the (height, width) of a picture's features at a tap (a point where activations are read).

    Picture and features lie at the top left of larger arrays. `size` is the (height, width) of the
    picture, and `ceil` says whether poolings keep the last row or column of an odd side.
    """
    for _ in range(halvings(layer_of(tap))):
        size = halved_size(size, ceil)
    return size


# --- Pooling --------------------------------------------------------------------------------------

# Features lie at the top left of a larger array of zeros. At their border, two or three of a window's
# four pixels may be zeros beyond the border. A correction is a function from the number of existing
# pixels in a window to a factor. The result of pooling all four pixels, multiplied by this factor, is
# the result of pooling only the existing ones.
Correction: TypeAlias = Callable[[Array], Array]


def _of_mean(count: Array) -> Array:
    return 4 / count


def _of_norm(count: Array) -> Array:
    return jnp.sqrt(4 / count)


# The poolings that `pooled` accepts -> the corrections of their results at the border. `max_pool` needs
# none: after a ReLU, no pixel is negative, so zeros beyond the border do not change a maximum.
POOLED: dict[Pool, Correction | None] = {
    max_pool: None,
    average_pool: _of_mean,
    scaled_average_pool: _of_mean,
    l2_pool: _of_norm,
}


def pooled(
    pool: Pool,
    x: FeatureMap,
    ceil: bool,
    size: RealSize,
    *,
    after_relu: bool = True,
    on_cpu: bool = False,
) -> Pooled:
    """Pool features that fill only a part of `x` as `pool` would pool this part alone.

    Args:
      pool: one of `POOLED`.
      x: [n, h, w, c] with even h and w; the features are at the top left, and all else is zero.
      ceil: whether the last row or column of an odd side of the real size is pooled by itself; if not,
        it is dropped.
      size: the (height, width) of the features, called their real size.
      after_relu: whether `x` is the result of a ReLU. If not, the ReLU is applied here, as by
        `pool_relu`.
      on_cpu: the argument of `pool_relu`.

    Returns:
      [n, h / 2, w / 2, c], with zeros outside the pooled features.
    """
    found = pool(x, False) if after_relu else pool_relu(x, pool, False, on_cpu=on_cpu)
    correction = POOLED[pool]
    if ceil and correction is not None:
        height, width = x.shape[1:3]
        existing = inside(size, (height, width))[None, :, :, None].astype(x.dtype)
        # Windows beyond the features count 0 pixels; the maximum with 1 avoids a division by 0.
        count = jnp.maximum(4 * average_pool(existing, False), 1)
        found = found * correction(count)
    return cut(found, halved_size(size, ceil))
