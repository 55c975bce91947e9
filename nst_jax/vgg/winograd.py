"""3 x 3 convolutions by Winograd's minimal filtering, F(4 x 4, 3 x 3), as pure functions.

A patch of 4 x 4 results is computed from 6 x 6 input pixels with 36 multiplications instead of 144, for
each pair of an input and an output channel. Input pixels and kernels are transformed into a basis in
which the convolution is an elementwise product. With the sum over input channels, this is one matrix
product for each of the 36 elements. The products are then transformed back into results. On a CPU, this
saves more time than the transformations take if a layer has many channels and the picture is not small;
see `pays`. The rounding error is about four times that of the direct convolution: 1.2e-6 of the result
in float32, 1e-2 with bfloat16 factors.

A large picture is convolved in strips of rows, one after the other, so that the transformed pixels and
the products stay in the processor's caches. The code for a strip consists of few large operations,
since many small ones would take long to compile. Between the operations there are barriers. Without
them, XLA would compute the transformations again wherever their results are read.

References:
  Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.3.
  Alam, Anderson, Barabasz, Gregg, "Winograd Convolution for Deep Neural Networks: Efficient Point
  Selection", 2022: points other than 0, 1 and 2 give smaller rounding errors.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

PATCH = 4  # side of a patch: the square of results that are computed together

WINDOW = 6  # side of a window: the square of input pixels from which a patch is computed


# The method multiplies polynomials by multiplying their values at the points 0, ±NEAR, ±FAR and
# infinity. With NEAR = 1 and FAR = 2, as in section 4.3 of Lavin and Gray, the rounding error is over
# twice as large. Of all pairs of multiples of 1/16 that were tried, none has a smaller error than these
# two.
NEAR, FAR = 5 / 8, 3 / 2


# Each of these three matrices transforms along one axis: `PIXELS` transforms input pixels, `KERNELS`
# transforms kernels, and `PRODUCTS` transforms products into results. Lavin and Gray call them Bᵀ, G
# and Aᵀ.
PIXELS = np.array(
    [
        [(NEAR * FAR) ** 2, 0, -(NEAR**2) - FAR**2, 0, 1, 0],
        [0, -NEAR * FAR**2, -(FAR**2), NEAR, 1, 0],
        [0, NEAR * FAR**2, -(FAR**2), -NEAR, 1, 0],
        [0, -FAR * NEAR**2, -(NEAR**2), FAR, 1, 0],
        [0, FAR * NEAR**2, -(NEAR**2), -FAR, 1, 0],
        [0, (NEAR * FAR) ** 2, 0, -(NEAR**2) - FAR**2, 0, 1],
    ]
)

# Denominators in `KERNELS`: `_AT_NEAR` in the rows for the points ±NEAR, `_AT_FAR` in those for ±FAR.
_AT_NEAR, _AT_FAR = 2 * NEAR**2 * (NEAR**2 - FAR**2), 2 * FAR**2 * (FAR**2 - NEAR**2)

KERNELS = np.array(
    [
        [1 / (NEAR * FAR) ** 2, 0, 0],
        [1 / _AT_NEAR, NEAR / _AT_NEAR, NEAR**2 / _AT_NEAR],
        [1 / _AT_NEAR, -NEAR / _AT_NEAR, NEAR**2 / _AT_NEAR],
        [1 / _AT_FAR, FAR / _AT_FAR, FAR**2 / _AT_FAR],
        [1 / _AT_FAR, -FAR / _AT_FAR, FAR**2 / _AT_FAR],
        [0, 0, 1],
    ]
)

PRODUCTS = np.array(
    [
        [1, 1, 1, 1, 1, 0],
        [0, NEAR, -NEAR, FAR, -FAR, 0],
        [0, NEAR**2, NEAR**2, FAR**2, FAR**2, 0],
        [0, NEAR**3, -(NEAR**3), FAR**3, -(FAR**3), 1],
    ]
)


# Smallest number of input channels, and of output channels, with which a layer is computed by
# Winograd's method. With fewer, as in the first layer, the transformations take more time than the
# multiplications that the method saves.
LEAST_CHANNELS = 64

# A large picture is convolved strip by strip. A strip has about this many patches, or one row of
# patches if that has more. Its buffers then fit into a processor's caches; those of a whole picture
# would be written to memory and read back.
STRIP_PATCHES = 256

# For layers with less work than this, compiling the Winograd convolution takes more time than it saves
# in a run of one minute.
LEAST_WORK = 2**26  # smallest value of height * width * channels in * channels out


def pays(height: int, width: int, channels_in: int, channels_out: int) -> bool:
    """Return whether Winograd convolution is faster for a layer of this size on a CPU.

    The time to compile the convolution is part of the comparison.

    Example:
      >>> pays(64, 64, 256, 256), pays(256, 256, 3, 64), pays(16, 16, 256, 256)
      (True, False, False)
    """
    work = height * width * channels_in * channels_out
    return min(channels_in, channels_out) >= LEAST_CHANNELS and work >= LEAST_WORK


@jax.jit
def transform_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "36 i o"]:
    """Transform a kernel into the basis in which `convolve` multiplies; the dtype stays the same."""
    flat = kernel.astype(_sum_dtype(kernel.dtype)).reshape(9, *kernel.shape[2:])
    matrix = jnp.asarray(np.kron(KERNELS, KERNELS), flat.dtype)
    return jnp.tensordot(matrix, flat, 1, precision=lax.Precision.HIGHEST).astype(kernel.dtype)


@jax.jit
def convolve(
    x: Float[Array, "n h w i"], transformed: Float[Array, "36 i o"]
) -> Float[Array, "n h w o"]:
    """Convolve features with a 3 x 3 kernel, with zero padding 1 and stride 1.

    Args:
      x: features [n, h, w, i] of any size, odd or even.
      transformed: the transformed kernel [36, i, o], from `transform_kernel`. The pixels are
        transformed in float32 at least, then rounded to the kernel's dtype and multiplied by the
        kernel. The products are added up in float32 at least.

    Returns:
      [n, h, w, o], the result of `lax.conv_general_dilated` up to rounding, in the dtype of `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> kernel = transform_kernel(jnp.ones((3, 3, 1, 1)))
      >>> convolve(jnp.ones((1, 5, 5, 1)), kernel)[0, :2, :, 0].round(4).tolist()
      [[4.0, 6.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 9.0, 6.0]]
    """
    if strips(*x.shape[:3])[1] == 1:
        return _convolve_strip(x, transformed, halo=False)
    if x.dtype.itemsize == 2:
        return _convolve_strips_of_bits(x, transformed)
    return _convolve_strips(x, transformed, as_bits=False)


def _convolve_strips(
    x: Float[Array, "n h w i"], transformed: Float[Array, "36 i o"], *, as_bits: bool
) -> Float[Array, "n h w o"]:
    """Convolve strip by strip, as `convolve` does if there are several strips.

    With `as_bits`, strips of bfloat16 or float16 values are read and written as integers. This saves
    memory: to read or write a part of an array of such values, XLA's CPU compiler makes a float32 copy
    of the whole array. Of an array of integers it makes no copy.
    """

    def bits_of(values: Array) -> Array:
        return lax.bitcast_convert_type(values, jnp.uint16) if as_bits else values

    def values_of(bits: Array) -> Array:
        return lax.bitcast_convert_type(bits, x.dtype) if as_bits else bits

    strip, count = strips(*x.shape[:3])
    height, bits = x.shape[1], bits_of(x)

    def add_strip(index: Array, y: Array) -> Array:
        # All strips have the same height. So the last one is moved up until it ends at the last row;
        # rows in which it overlaps the strip before are computed twice.
        start = jnp.minimum(index * strip, height - strip)
        rows = values_of(_with_halo(bits, start, strip))
        part = _convolve_strip(rows, transformed, halo=True)
        return lax.dynamic_update_slice_in_dim(y, bits_of(part), start, axis=1)

    # `y` is overwritten strip by strip, so its first values do not matter. Zeros would not depend on
    # `x`: XLA would make them when the program begins and keep them in memory, and each layer would
    # still need a copy of them to overwrite. So `y` is broadcast from a pixel of `x` instead. It is one
    # in the middle, since XLA knows that `x` is zero at the border if it is a padded array.
    middle = bits[:1, height // 2, x.shape[2] // 2, :1][:, None, None]
    y = jnp.broadcast_to(middle, (*x.shape[:3], transformed.shape[2]))
    return values_of(lax.fori_loop(0, count, add_strip, y))


@jax.custom_jvp
def _convolve_strips_of_bits(x: Array, transformed: Array) -> Array:
    return _convolve_strips(x, transformed, as_bits=True)


@_convolve_strips_of_bits.defjvp
def _derivative_of_strips(
    primals: tuple[Array, Array], tangents: tuple[Array, Array]
) -> tuple[Array, Array]:
    # `_convolve_strips_of_bits` passes values through integers, so JAX would find a derivative of 0.
    # The same convolution without integers is differentiated instead.
    values = partial(_convolve_strips, as_bits=False)
    return _convolve_strips_of_bits(*primals), jax.jvp(values, primals, tangents)[1]


def strips(pictures: int, height: int, width: int) -> tuple[int, int]:
    """Return how `convolve` cuts pictures into strips: the rows of a strip, and the number of strips.

    A strip's number of rows is a multiple of `PATCH`. So the strips may have more rows in total than
    the picture. Then a single strip extends beyond it, and the last of several overlaps the one before.

    Args:
      pictures: number of pictures that are convolved together.
      height: rows of a picture.
      width: columns of a picture.

    Example:
      >>> strips(1, 256, 256), strips(1, 341, 512), strips(1, 32, 32)
      ((16, 16), (8, 43), (32, 1))
    """
    down, across = -(-height // PATCH), -(-width // PATCH)  # numbers of patches
    count = -(-down // max(1, STRIP_PATCHES // max(1, pictures * across)))
    strip = PATCH * -(-down // count)
    return strip, -(-height // strip)


def _with_halo(x: Shaped[Array, "n h w i"], start: Array, rows: int) -> Shaped[Array, "n s w i"]:
    """Return `rows` rows from `start` on, and one row above and below: zeros beyond the picture."""
    last = x.shape[1] - 1
    above = lax.dynamic_slice_in_dim(x, jnp.maximum(start - 1, 0), 1, axis=1)
    below = lax.dynamic_slice_in_dim(x, jnp.minimum(start + rows, last), 1, axis=1)
    parts = (
        jnp.where(start > 0, above, jnp.zeros_like(above)),
        lax.dynamic_slice_in_dim(x, start, rows, axis=1),
        jnp.where(start + rows <= last, below, jnp.zeros_like(below)),
    )
    return lax.optimization_barrier(jnp.concatenate(parts, axis=1))


def _convolve_strip(
    x: Float[Array, "n s w i"], transformed: Float[Array, "36 i o"], *, halo: bool
) -> Float[Array, "n h w o"]:
    """Convolve a strip of rows as `convolve` does.

    With `halo`, the first and the last row of `x` are the rows above and below the strip. No results
    are computed for these two, and the number of the other rows is a multiple of `PATCH`. Without
    `halo`, the rows above and below `x` are zeros.
    """
    n, height, width, channels = x.shape
    height -= 2 * halo
    x, dtype = x.astype(_sum_dtype(x.dtype)), x.dtype
    down, across = -(-height // PATCH), -(-width // PATCH)  # numbers of patches
    below, right = PATCH * down - height + 1, PATCH * across - width + 1
    padded = jnp.pad(x, ((0, 0), (0, 0) if halo else (1, below), (1, right), (0, 0)))
    # The comments below give shapes: n pictures, `down` times `across` patches, w pixels in a row, i
    # input channels, o output channels, 6 positions along one side of a window, 4 along one side of a
    # patch.
    rows = [_strided_lines(padded, start, down, axis=1) for start in range(WINDOW)]
    half = lax.optimization_barrier(_transform(PIXELS, rows, axis=0))  # [6, n, down, w, i]
    columns = [_strided_lines(half, start, across, axis=3) for start in range(WINDOW)]
    windows = _transform(PIXELS, columns, axis=1).astype(transformed.dtype)
    windows = lax.optimization_barrier(windows)  # [6, 6, n, down, across, i]
    products = lax.dot_general(
        windows.reshape(WINDOW**2, n * down * across, channels),
        transformed,
        (((2,), (1,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=x.dtype,
    )
    products = lax.optimization_barrier(products)
    products = products.reshape(WINDOW, WINDOW, n, down, across, transformed.shape[2])
    half = _transform(PRODUCTS, list(products), axis=0)
    half = lax.optimization_barrier(half)  # [4, 6, n, down, across, o]
    y = _transform(PRODUCTS, [half[:, start] for start in range(WINDOW)], axis=1)
    y = y.transpose(2, 3, 0, 4, 1, 5)  # [n, down, 4, across, 4, o]
    y = y.reshape(n, PATCH * down, PATCH * across, transformed.shape[2])
    return y[:, :height, :width].astype(dtype)


def _sum_dtype(dtype: Any) -> Any:
    """Return the dtype of the transformations and sums: float32, or `dtype` if that is wider.

    bfloat16 has too few bits: even a sum of few terms, as in a transformation, would be too inexact.
    """
    return jnp.promote_types(dtype, jnp.float32)


def _strided_lines(x: Array, start: int, count: int, axis: int) -> Array:
    """Return the line with index `start` of each of `count` windows, which begin `PATCH` lines apart.

    Lines are rows or columns, depending on `axis`.
    """
    return lax.slice_in_dim(x, start, start + PATCH * (count - 1) + 1, PATCH, axis)


def _transform(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """Return `matrix @ parts`, stacked along `axis`, without multiplications by 0, 1 and -1."""
    return jnp.stack([_linear_combination(row, parts) for row in matrix.tolist()], axis)


def _linear_combination(factors: Sequence[float], parts: Sequence[Array]) -> Array:
    terms = [
        part if factor == 1 else -part if factor == -1 else factor * part
        for factor, part in zip(factors, parts, strict=True)
        if factor
    ]
    return sum(terms[1:], start=terms[0])
