"""Square roots of covariance matrices by Newton-Schulz iterations, made of products of matrices only.

An eigendecomposition is slow on accelerators, and its gradient is undefined for equal eigenvalues.
A Newton-Schulz iteration begins with Y = A / |A|, in the Frobenius norm, and Z = I. Each round computes
T = (3 I - Z Y) / 2, Y <- Y T, Z <- T Z. The limits are the root of A / |A| and its inverse. An
eigenvalue x of Z Y goes to x (3 - x)² / 4, so a small one grows 2.25-fold in a round.

All products use all bits of float32. With fewer, as in tensorfloat32 or bfloat16, their rounding
errors exceed the small eigenvalues of A / |A|, of which some become negative; a negative eigenvalue
grows in every round until the result overflows.
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

ROUNDS = 12  # default number of iterations

# The smallest eigenvalue of A / |A| whose root `scaled_roots` has to reach. Smaller ones are lost when
# float32 rounds A.
SMALLEST = 1e-7

product = partial(jnp.matmul, precision=lax.Precision.HIGHEST)


def plain_roots(matrix: Matrix, rounds: int = ROUNDS) -> tuple[Matrix, Matrix]:
    """Return the square root of a positive definite matrix, and its inverse, by plain iterations.

    After 12 rounds, eigenvalues under a thousandth of the norm have not reached their limits, so their
    roots are too small. In the example, the root of 1e-6 is too small by a factor of 17.

    Args:
      matrix: symmetric and positive definite.
      rounds: number of iterations.

    Returns:
      The root and the inverse root, each [c, c].

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.losses import plain_roots
      >>> root, inverse = plain_roots(jnp.diag(jnp.array([4.0, 1.0, 1e-6])))
      >>> jnp.round(jnp.diag(root), 5).tolist()      # the last one should be 1e-3
      [2.0, 1.0, 5.999999848427251e-05]

    References:
      Higham, "Functions of Matrices", 2008, section 6.7, for the iteration;
      crowsonkb/style-transfer-pytorch, style_transfer/sqrtm.py, for the norm and the rounds.
    """
    return _roots(matrix, np.ones(rounds))


def scaled_roots(
    matrix: Matrix, rounds: int = ROUNDS, smallest: float = SMALLEST
) -> tuple[Matrix, Matrix]:
    """Return the square root of a positive definite matrix, and its inverse, by scaled iterations.

    A round brings the eigenvalues of a product of two matrices, Z Y in the module's docstring, towards
    1. Here that product is first multiplied by a factor for which its eigenvalues, whose bounds are
    known, come as near to 1 as possible. Small eigenvalues then grow up to 6.75-fold in a round, and
    not 2.25-fold as without the factor: 12 rounds do what takes some 24 of `plain_roots`.

    Args:
      matrix: symmetric and positive definite.
      rounds: number of iterations.
      smallest: a share of the Frobenius norm of the matrix. The factors are chosen so that the roots of
        eigenvalues larger than it converge.

    Returns:
      The root and the inverse root, each [c, c].

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
    """Return the factor of Z Y in each round, for eigenvalues between `smallest` and 1."""
    # `least` is the lower bound of the square roots of the eigenvalues; the factor is Chen and Chow's.
    least, found = np.sqrt(smallest), []
    for _ in range(rounds):
        found.append(3 / (1 + least + least**2))
        grown = np.sqrt(found[-1]) * least
        least = min(grown * (3 - grown**2) / 2, 1.0)
    return np.asarray(found)


def _roots(matrix: Matrix, scales: np.ndarray) -> tuple[Matrix, Matrix]:
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    # The entries are divided by the largest one before they are squared, since their squares may
    # overflow. For a matrix of zeros the norm is a tiny number instead of 0, which would divide 0 by 0.
    largest = jnp.maximum(jnp.max(jnp.abs(matrix)), jnp.finfo(matrix.dtype).tiny)
    norm = largest * jnp.sqrt(jnp.maximum(jnp.sum(jnp.square(matrix / largest)), 1))

    def round_of(pair: tuple[Matrix, Matrix], scale: Array) -> tuple[tuple[Matrix, Matrix], None]:
        y, z = pair
        factor = (3 * identity - scale * product(z, y)) * (jnp.sqrt(scale) / 2)
        return (product(y, factor), product(factor, z)), None

    (y, z), _ = lax.scan(round_of, (matrix / norm, identity), jnp.asarray(scales, matrix.dtype))
    return y * jnp.sqrt(norm), z / jnp.sqrt(norm)


# --- With rules for their gradients ---------------------------------------------------------------


def trace_of_root(matrix: Matrix) -> Scalar:
    """Return the trace of the square root of a positive definite matrix, by scaled iterations.

    Its gradient is half the inverse root, which the iterations give beside the root, so that the
    gradient costs nothing more.

    Args:
      matrix: symmetric and positive definite.

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


def root_by_lyapunov(matrix: Matrix, rounds: int = ROUNDS) -> Matrix:
    """Return the square root by plain iterations; its gradient solves Lyapunov's equation.

    For a root R and a cotangent C, the gradient G is the solution of R G + G R = C, found by as many
    iterations as the root, each with six products.

    Args:
      matrix: symmetric and positive definite.
      rounds: number of iterations, of the root and of its gradient.

    Returns:
      The root, [c, c].

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from nst_jax.losses import root_by_lyapunov
      >>> gradient = jax.grad(lambda x: jnp.trace(root_by_lyapunov(x)))(jnp.diag(jnp.array([4.0, 1.0])))
      >>> jnp.round(gradient, 5).tolist()
      [[0.25, 0.0], [0.0, 0.5]]

    References:
      Lin, Maji, "Improved Bilinear Pooling with CNNs", 2017, section 3.2, for the iterations of the
      gradient; crowsonkb/style-transfer-pytorch, style_transfer/sqrtm.py, which has the same ones.
    """
    return _root_by_lyapunov(matrix, rounds)


@partial(jax.custom_vjp, nondiff_argnums=(1,))
def _root_by_lyapunov(matrix: Matrix, rounds: int) -> Matrix:
    return plain_roots(matrix, rounds)[0]


def _root_forward(matrix: Matrix, rounds: int) -> tuple[Matrix, Matrix]:
    root = plain_roots(matrix, rounds)[0]
    return root, root


def _root_backward(rounds: int, root: Matrix, cotangent: Matrix) -> tuple[Matrix]:
    norm = jnp.sqrt(jnp.sum(jnp.square(root)))
    thrice = 3 * jnp.eye(len(root), dtype=root.dtype)

    def round_of(_: Array, pair: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
        a, q = pair
        factor = thrice - product(a, a)
        both = product(a.T, product(a.T, q) - product(q, a))
        return product(a, factor) / 2, (product(q, factor) - both) / 2

    _, q = lax.fori_loop(0, rounds, round_of, (root / norm, cotangent / norm))
    return (q / 2,)


_root_by_lyapunov.defvjp(_root_forward, _root_backward)
