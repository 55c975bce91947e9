"""Square roots of covariance matrices by Newton-Schulz iterations.

These iterations consist of matrix products only. An eigendecomposition would give the roots too, but it
is slow on accelerators, and its gradient is undefined for equal eigenvalues.

For a matrix A, a Newton-Schulz iteration begins with Y = A / |A|, where |A| is the Frobenius norm, and
with Z = I. Each round computes T = (3 I - Z Y) / 2 and replaces Y by Y T and Z by T Z. In the limit, Y
is the square root of A / |A|, and Z is the inverse of this root. In a round, an eigenvalue x of Z Y
becomes x (3 - x)² / 4, so a small one grows 2.25-fold; all eigenvalues tend to 1.

All matrix products here use all bits of float32. With fewer bits, as in tensorfloat32 or bfloat16,
rounding errors would make small eigenvalues of A / |A| negative. A negative eigenvalue grows in every
round until the result overflows.
"""

from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from nst_jax._types import Scalar

Matrix: TypeAlias = Float[Array, "c c"]

ROUNDS = 12  # default number of Newton-Schulz iterations

# By default, `scaled_roots` computes accurate square roots of eigenvalues that are at least this share
# of the matrix's Frobenius norm. Smaller eigenvalues are lost in any case, since float32 rounds the
# entries of the matrix.
SMALLEST = 1e-7

# Matrix product with all bits of float32. With fewer bits, rounding errors might make small eigenvalues
# negative, and a negative eigenvalue grows in every iteration until the result overflows.
product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def plain_roots(matrix: Matrix, rounds: int = ROUNDS) -> tuple[Matrix, Matrix]:
    """Return the square root of a positive definite matrix and the inverse of this root.

    They are computed by plain Newton-Schulz iterations, as in the module's docstring. For eigenvalues
    under about 1/5000 of the Frobenius norm, the iterations have not converged after 12 rounds. So the
    roots of these eigenvalues are too small: by 11% for an eigenvalue of 1/10,000 of the norm. In the
    example, the root of 1e-6 is more than 15 times too small.

    Args:
      matrix: [c, c], symmetric and positive definite.
      rounds: number of iterations.

    Returns:
      The square root and its inverse, each [c, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import plain_roots
      >>> root, inverse = plain_roots(jnp.diag(jnp.array([4.0, 1.0, 1e-6])))
      >>> jnp.round(jnp.diag(root), 5).tolist()      # the last one should be 1e-3
      [2.0, 1.0, 5.999999848427251e-05]

    References:
      Higham, "Functions of Matrices", 2008, section 6.7, for the iteration;
      crowsonkb/style-transfer-pytorch, style_transfer/sqrtm.py, for the division by the Frobenius norm
      and the number of rounds.
    """
    return _roots(matrix, np.ones(rounds))


def scaled_roots(
    matrix: Matrix, rounds: int = ROUNDS, smallest: float = SMALLEST
) -> tuple[Matrix, Matrix]:
    """Return the square root of a positive definite matrix and the inverse of this root.

    They are computed by scaled Newton-Schulz iterations. In the iteration of the module's docstring,
    each round brings the eigenvalues of Z Y, the product of its two matrices, nearer to 1. Here, each
    round first multiplies Z Y by a factor. Before the first round, all eigenvalues are assumed to be
    between `smallest` and 1, which gives their range in every later round. The factor of a round brings
    all numbers in the range as near to 1 as possible. A small eigenvalue then grows up to 6.75-fold in
    a round instead of 2.25-fold, so 12 rounds achieve what takes `plain_roots` about 24.

    Args:
      matrix: [c, c], symmetric and positive definite.
      rounds: number of iterations.
      smallest: the smallest eigenvalue for which the factors are chosen, as a share of the Frobenius
        norm of the matrix. The roots of smaller eigenvalues may come out too small.

    Returns:
      The square root and its inverse, each [c, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import scaled_roots
      >>> root, inverse = scaled_roots(jnp.diag(jnp.array([4.0, 1.0, 1e-6])))
      >>> bool(jnp.allclose(jnp.diag(root), jnp.array([2.0, 1.0, 1e-3]), rtol=1e-3))
      True

    References:
      Chen, Chow, "A stable scaling of Newton-Schulz for improving the sign function computation of a
      Hermitian matrix", 2014.
    """
    return _roots(matrix, _scales(rounds, smallest))


def _scales(rounds: int, smallest: float) -> np.ndarray:
    """Return the factors by which `scaled_roots` multiplies Z Y, one for each round.

    `rounds` and `smallest` are described at `scaled_roots`: the number of rounds, and the smallest
    eigenvalue of Z Y before the first round.
    """
    # Before a round, the square roots of the eigenvalues of Z Y are between `least` and 1. By the
    # factor of Chen and Chow, the round maps both bounds to the same number, the next `least`.
    least, found = np.sqrt(smallest), []
    for _ in range(rounds):
        found.append(3 / (1 + least + least**2))
        grown = np.sqrt(found[-1]) * least
        least = min(grown * (3 - grown**2) / 2, 1.0)
    return np.asarray(found)


def _roots(matrix: Matrix, scales: np.ndarray) -> tuple[Matrix, Matrix]:
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    # For the Frobenius norm, the entries are divided by the largest one before they are squared, since
    # their squares might overflow. For a matrix of zeros the norm is replaced by a tiny number, since
    # the division by a norm of 0 below would give NaN.
    largest = jnp.maximum(jnp.max(jnp.abs(matrix)), jnp.finfo(matrix.dtype).tiny)
    norm = largest * jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(matrix / largest)), 1))

    def round_of(pair: tuple[Matrix, Matrix], scale: Array) -> tuple[tuple[Matrix, Matrix], None]:
        y, z = pair
        factor = (3 * identity - scale * product(z, y)) * (jnp.sqrt(scale) / 2)
        return (product(y, factor), product(factor, z)), None

    (y, z), _ = lax.scan(round_of, (matrix / norm, identity), jnp.asarray(scales, matrix.dtype))
    return y * jnp.sqrt(norm), z / jnp.sqrt(norm)


# --- Functions of the roots with gradient rules of their own --------------------------------------


def trace_of_root(matrix: Matrix) -> Scalar:
    """Return the trace of the square root of a positive definite matrix.

    The root is computed by `scaled_roots`. The gradient of the trace is half the inverse of the root,
    which `scaled_roots` returns together with the root, so the gradient needs no further iterations.

    Args:
      matrix: [c, c], symmetric and positive definite.

    Returns:
      The trace, a scalar.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from nst_jax.losses import trace_of_root
      >>> trace, gradient = jax.value_and_grad(trace_of_root)(jnp.diag(jnp.array([4.0, 1.0])))
      >>> round(float(trace), 5), jnp.round(gradient, 5).tolist()
      (3.0, [[0.25, 0.0], [0.0, 0.5]])
    """
    return _trace_of_root(matrix)


@jax.custom_vjp
def _trace_of_root(matrix: Matrix) -> Scalar:
    return jnp.trace(scaled_roots(matrix)[0])


def _trace_forward(matrix: Matrix) -> tuple[Scalar, Matrix]:
    root, inverse = scaled_roots(matrix)
    return jnp.trace(root), inverse


def _trace_backward(inverse: Matrix, cotangent: Scalar) -> tuple[Matrix]:
    return (cotangent * inverse / 2,)


_trace_of_root.defvjp(_trace_forward, _trace_backward)


def trace_of_root_by_lyapunov(matrix: Matrix, rounds: int = ROUNDS) -> Scalar:
    """Return the trace of a matrix's square root, with a gradient from Lyapunov's equation.

    The root R is computed by `plain_roots`. The gradient G of its trace is the solution of Lyapunov's
    equation R G + G R = I. It is computed by as many iterations as R, of two matrices: A goes from
    R / |R| to I, and Q from I / |R| to 2 G. A round of the source also subtracts a product with
    A^T Q - Q A. The matrix has to be symmetric: then R is symmetric too, both A and Q are polynomials
    of R in exact arithmetic, and this term is 0. It is left out, so a round has three matrix products
    and not six.

    There are as many rounds as in the source, so the errors of small eigenvalues are those of the
    source. `trace_of_root` has smaller errors.

    Args:
      matrix: [c, c], symmetric and positive definite.
      rounds: number of iterations for the root, and again for the gradient.

    Returns:
      The trace, a scalar.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from nst_jax.losses import trace_of_root_by_lyapunov
      >>> gradient = jax.grad(trace_of_root_by_lyapunov)(jnp.diag(jnp.array([4.0, 1.0])))
      >>> jnp.round(gradient, 5).tolist()
      [[0.25, 0.0], [0.0, 0.5]]

    References:
      Lin, Maji, "Improved Bilinear Pooling with CNNs", 2017, section 3.2, for the iterations of the
      gradient; crowsonkb/style-transfer-pytorch, style_transfer/sqrtm.py, for the same iterations.
    """
    return _trace_by_lyapunov(matrix, rounds)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _trace_by_lyapunov(matrix: Matrix, rounds: int) -> Scalar:
    return jnp.trace(plain_roots(matrix, rounds)[0])


def _trace_by_lyapunov_forward(matrix: Matrix, rounds: int) -> tuple[Scalar, Matrix]:
    root = plain_roots(matrix, rounds)[0]
    return jnp.trace(root), root


def _trace_by_lyapunov_backward(rounds: int, root: Matrix, cotangent: Scalar) -> tuple[Matrix]:
    norm = jnp.sqrt(jnp.sum(jnp.square(root)))
    identity = jnp.eye(len(root), dtype=root.dtype)

    def round_of(_: Array, pair: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
        a, q = pair
        factor = (3 * identity - product(a, a)) / 2
        return product(a, factor), product(q, factor)

    _, q = lax.fori_loop(0, rounds, round_of, (root / norm, identity / norm))
    return (cotangent * q / 2,)


_trace_by_lyapunov.defvjp(_trace_by_lyapunov_forward, _trace_by_lyapunov_backward)
