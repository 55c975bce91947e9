"""How the weights in StableHLO and ONNX files are stored: float32, float16, or 8 bits.

Only large kernels are stored in fewer bits. Programs first decode the weights, and then compute in
float32. In 8 bits, a kernel with at most 256 different values is stored as indices into a table of its
values, which loses nothing. Any other kernel is rounded to whole multiples, from -127 to 127, of one
scale for each output channel. In TensorFlow Lite files, TensorFlow's converter stores the weights.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from nst_jax import _checks
from nst_jax.weights.quantization import CENTRES, ENCODERS

ENCODINGS = ("float32", "float16", "int8")

KERNEL = "kernel"  # last part of the name of a kernel
LEAST = 1024  # least number of entries of a kernel that is stored in fewer bits

CODES, TABLE, SCALES = "codes", "centres", "scales"


def encoded_weights(weights: Mapping[str, np.ndarray], encoding: str) -> dict[str, np.ndarray]:
    """Return the arrays to store, by name.

    Args:
      weights: float32 arrays by name, such as `"conv1_1/kernel"`.
      encoding: one of `ENCODINGS`.

    Returns:
      The arrays; a kernel in 8 bits is two of them, such as `"conv1_1/kernel/codes"` and
      `"conv1_1/kernel/scales"`.

    Raises:
      ValueError: for an unknown encoding; for `"float16"`, if a kernel has a value outside its range.

    Example:
      >>> import numpy as np
      >>> kernel = np.linspace(-1, 1, 3 * 3 * 64 * 8, dtype=np.float32).reshape(3, 3, 64, 8)
      >>> sorted(encoded_weights({"conv/kernel": kernel}, "int8"))
      ['conv/kernel/codes', 'conv/kernel/scales']
    """
    if encoding not in ENCODINGS:
        raise _checks.unknown("encoding", encoding, ENCODINGS, "encoding")
    found: dict[str, np.ndarray] = {}
    for name, array in weights.items():
        if encoding == "float32" or name.split("/")[-1] != KERNEL or array.size < LEAST:
            found[name] = array
        elif encoding == "float16":
            found[name] = _half(name, array)
        else:
            found |= {f"{name}/{part}": stored for part, stored in _in_8_bits(array).items()}
    return found


def _half(name: str, array: np.ndarray) -> np.ndarray:
    largest = np.abs(array).max()
    if largest > np.finfo(np.float16).max:
        raise ValueError(
            f"`encoding`: float16 cannot represent {largest:g} in {name}; take float32"
        )
    return array.astype(np.float16)


def _in_8_bits(kernel: np.ndarray) -> dict[str, np.ndarray]:
    if np.unique(kernel).size <= CENTRES:
        return ENCODERS[CODES](kernel)
    scales = np.abs(kernel).max(axis=tuple(range(kernel.ndim - 1))).astype(np.float64) / 127
    scales = np.where(scales > 0, scales, 1.0)
    codes = np.rint(kernel / scales).astype(np.int8)
    return {CODES: codes, SCALES: scales.astype(np.float32)}


def decoded_weights(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return float32 weights from stored arrays.

    This is the inverse of `encoded_weights`, except for rounding. JAX can trace it.

    Args:
      stored: arrays by name, as `encoded_weights` returns them.

    Returns:
      Arrays by the names that `encoded_weights` was given.
    """
    found: dict[str, Any] = {}
    for name, array in stored.items():
        kernel, _, part = name.rpartition("/")
        if part == CODES:
            found[kernel] = _decoded(stored, kernel)
        elif part not in (TABLE, SCALES):
            found[name] = jnp.asarray(array).astype(jnp.float32)
    return found


def _decoded(stored: Mapping[str, Any], kernel: str) -> Any:
    codes = jnp.asarray(stored[f"{kernel}/{CODES}"])
    if f"{kernel}/{TABLE}" in stored:
        table = jnp.asarray(stored[f"{kernel}/{TABLE}"])
        # Every code is a valid index of the table, so JAX need not clip the indices to its length.
        return table.at[codes.astype(jnp.int32)].get(mode="promise_in_bounds")
    scales = jnp.asarray(stored[f"{kernel}/{SCALES}"])
    return codes.astype(jnp.float32) * lax.broadcast_in_dim(scales, codes.shape, (codes.ndim - 1,))


def error_of(weights: Mapping[str, np.ndarray], encoding: str) -> float:
    """Return the L2 norm of the error of all weights when stored, divided by the weights' L2 norm."""
    stored = decoded_weights(encoded_weights(weights, encoding))
    squares = [
        (np.sum(np.square(np.subtract(stored[name], array, dtype=np.float64))), _square(array))
        for name, array in weights.items()
    ]
    lost, whole = (sum(parts) for parts in zip(*squares, strict=True))
    return float(np.sqrt(lost / whole))


def _square(array: np.ndarray) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))
