"""3 x 3 convolutions by Winograd's minimal filtering, F(4 x 4, 3 x 3). Pure.

A tile of 4 x 4 results is made from 6 x 6 pixels by 36 products in place of 144: both are carried
into a basis in which a convolution is a product of numbers, one product of matrices for each of the 36
does the work, and the results are carried back. On a processor that is worth its transformations
where a layer has many channels and a picture that is not small; see `pays`. Rounding is some four times
the direct form's, 1.2e-6 of the result in float32; with products of bfloat16, 1e-2 of it.

Written as few large operations with barriers between: fused into one another they would be computed
anew for every use, and as many small ones they take long to compile.

References:
  Lavin, Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4.3.
  Alam, Anderson, Barabasz, Gregg, "Winograd Convolution for Deep Neural Networks: Efficient Point
  Selection", 2022: other points than 0, 1 and 2 round less.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

TILE = 4  # results a side

WINDOW = 6  # pixels a side that they need


# Where the polynomials behind it are evaluated: 0, plus and minus these two, infinity. With 1 and 2, as
# in section 4.3, rounding is over twice as much; no other pair of sixteenths tried rounds less.
NEAR, FAR = 5 / 8, 3 / 2


# The three transformations: of pixels, of kernels, of products.
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


# Below the first two the transformations cost what the products save; below the third, measured as
# products of numbers, compiling the layer costs more than a run of a minute gains.
FEWEST, FEWER_THAN_MOST = 128, 256  # channels: of either side, of the larger one

SMALLEST = 2**26


def pays(height: int, width: int, channels_in: int, channels_out: int) -> bool:
    """Say whether a layer of this size is faster this way on a processor, compiling included.

    Example:
      >>> pays(64, 64, 256, 256), pays(128, 128, 128, 128), pays(16, 16, 256, 256)
      (True, False, False)
    """
    few, many = sorted((channels_in, channels_out))
    return few >= FEWEST and many >= FEWER_THAN_MOST and height * width * few * many >= SMALLEST


@jax.jit
def transform_kernel(kernel: Float[Array, "3 3 i o"]) -> Float[Array, "36 i o"]:
    """Carry a kernel into the basis in which `convolve` multiplies, in the dtype of the kernel."""
    wide = kernel.astype(_wide(kernel.dtype)).reshape(9, *kernel.shape[2:])
    both = jnp.asarray(np.kron(KERNELS, KERNELS), wide.dtype)
    return jnp.tensordot(both, wide, 1, precision=lax.Precision.HIGHEST).astype(kernel.dtype)


@jax.jit
def convolve(
    x: Float[Array, "n h w i"], transformed: Float[Array, "36 i o"]
) -> Float[Array, "n h w o"]:
    """Convolve with zero padding 1 and stride 1.

    Args:
      x: a picture of any size, odd or even.
      transformed: from `transform_kernel`. Its dtype is what is multiplied; the transformations, and
        sums over channels, are of float32 where that has fewer bits.

    Returns:
      What `lax.conv_general_dilated` gives, up to rounding, in the dtype of `x`.

    Example:
      >>> import jax.numpy as jnp
      >>> kernel = transform_kernel(jnp.ones((3, 3, 1, 1)))
      >>> convolve(jnp.ones((1, 5, 5, 1)), kernel)[0, :2, :, 0].round(4).tolist()
      [[4.0, 6.0, 6.0, 6.0, 4.0], [6.0, 9.0, 9.0, 9.0, 6.0]]
    """
    n, height, width, channels = x.shape
    x, dtype = x.astype(_wide(x.dtype)), x.dtype
    down, across = -(-height // TILE), -(-width // TILE)
    below, right = TILE * down - height + 1, TILE * across - width + 1
    padded = jnp.pad(x, ((0, 0), (1, below), (1, right), (0, 0)))
    rows = [_every_fourth(padded, start, down, axis=1) for start in range(WINDOW)]
    half = lax.optimization_barrier(_combined(PIXELS, rows, axis=0))  # 6 n down w i
    columns = [_every_fourth(half, start, across, axis=3) for start in range(WINDOW)]
    tiles = _combined(PIXELS, columns, axis=1).astype(transformed.dtype)
    tiles = lax.optimization_barrier(tiles)  # 6 6 n down across i
    products = lax.dot_general(
        tiles.reshape(WINDOW**2, n * down * across, channels),
        transformed,
        (((2,), (1,)), ((0,), (0,))),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=x.dtype,
    )
    products = lax.optimization_barrier(products)
    products = products.reshape(WINDOW, WINDOW, n, down, across, -1)
    half = lax.optimization_barrier(
        _combined(PRODUCTS, list(products), axis=0)
    )  # 4 6 n down across o
    y = _combined(PRODUCTS, [half[:, start] for start in range(WINDOW)], axis=1)
    y = y.transpose(2, 3, 0, 4, 1, 5)  # n down 4 across 4 o
    return y.reshape(n, TILE * down, TILE * across, -1)[:, :height, :width].astype(dtype)


def _wide(dtype: Any) -> Any:
    """Return the dtype of sums: of a tile's sixteen numbers bfloat16 would keep too few bits."""
    return jnp.promote_types(dtype, jnp.float32)


def _every_fourth(x: Array, start: int, count: int, axis: int) -> Array:
    """Return `count` lines of x, a tile apart, from `start` on."""
    return lax.slice_in_dim(x, start, start + TILE * (count - 1) + 1, TILE, axis)


def _combined(matrix: np.ndarray, parts: Sequence[Array], axis: int) -> Array:
    """Return the rows of matrix @ parts, stacked; zeros and ones cost nothing."""
    return jnp.stack([_combination(row, parts) for row in matrix.tolist()], axis)


def _combination(factors: Sequence[float], parts: Sequence[Array]) -> Array:
    terms = [
        part if factor == 1 else -part if factor == -1 else factor * part
        for factor, part in zip(factors, parts, strict=True)
        if factor
    ]
    return sum(terms[1:], start=terms[0])
