"""Encodings of the weights in exported StableHLO and ONNX files: float32, float16, or 8 bits.

Only the larger kernels are stored in fewer bits than float32. The exported programs decode the weights
and compute in float32. There are two ways to store a kernel in 8 bits. If it has at most 256 different
values, it is stored as indices into a table of these values, which loses nothing. Any other kernel is
rounded: a scale is stored for each output channel, and each number of the kernel is stored as a whole
number from -127 to 127. The product of this whole number and the scale is near the original number. In
TensorFlow Lite files, TensorFlow's own converter encodes the weights instead.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from nst_jax import _checks
from nst_jax.weights.quantization import CENTRES, ENCODERS

ENCODINGS = ("float32", "float16", "int8")

KERNEL = "kernel"  # last part of the names of kernels, such as "conv1_1/kernel"
LEAST = 1024  # kernels with fewer entries stay in float32, since encoding them would save little

# Last parts of the names of the arrays in which a kernel is stored in 8 bits. Either there are codes
# and a table of the kernel's values, which the codes index. Or there are codes and scales, and the
# kernel is the product of the two.
CODES, TABLE, SCALES = "codes", "centres", "scales"


def encoded_weights(weights: Mapping[str, np.ndarray], encoding: str) -> dict[str, np.ndarray]:
    """Return the arrays that are stored in a file for a network's weights, by name.

    Args:
      weights: float32 arrays by name, such as `"conv1_1/kernel"`.
      encoding: one of `ENCODINGS`; `"float16"` stores kernels with at least `LEAST` entries in 16 bits,
        and `"int8"` in 8 bits.

    Returns:
      The arrays. A kernel in 8 bits becomes two arrays: its codes, such as `"conv1_1/kernel/codes"`,
      and `"conv1_1/kernel/scales"` or the table `"conv1_1/kernel/centres"`.

    Raises:
      ValueError: if the encoding is unknown, or if it is `"float16"` and one of these kernels has a
        value outside the range of float16.

    Example:
      >>> import numpy as np
      >>> kernel = np.linspace(-1, 1, 3 * 3 * 64 * 8, dtype=np.float32).reshape(3, 3, 64, 8)
      >>> sorted(encoded_weights({"conv/kernel": kernel}, "int8"))
      ['conv/kernel/codes', 'conv/kernel/scales']
    """
    _checks.one_of("encoding", encoding, ENCODINGS, "encoding")
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
    """Decode the arrays of `encoded_weights` into float32 weights; JAX can trace this function.

    The result differs from what `encoded_weights` was given only by the rounding of the encoding.

    Args:
      stored: arrays by name, as `encoded_weights` returns them.

    Returns:
      The weights by the names that they had before they were encoded, such as `"conv1_1/kernel"`.
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
        # Every code is a valid index of the table, so the program need not check the indices.
        return table.at[codes.astype(jnp.int32)].get(mode="promise_in_bounds")
    scales = jnp.asarray(stored[f"{kernel}/{SCALES}"])
    return codes.astype(jnp.float32) * lax.broadcast_in_dim(scales, codes.shape, (codes.ndim - 1,))


def error_of(weights: Mapping[str, np.ndarray], encoding: str) -> float:
    """Return the relative error that an encoding causes in the weights.

    It is the L2 norm of the difference of the decoded and the original weights, divided by the L2 norm
    of the original weights. Both norms are taken over all weights together.

    Args:
      weights: the original weights, float32 arrays by name.
      encoding: one of `ENCODINGS`.
    """
    stored = decoded_weights(encoded_weights(weights, encoding))
    squares = [
        (np.sum(np.square(np.subtract(stored[name], array, dtype=np.float64))), _square(array))
        for name, array in weights.items()
    ]
    lost, whole = (sum(parts) for parts in zip(*squares, strict=True))
    return float(np.sqrt(lost / whole))


def _square(array: np.ndarray) -> float:
    return float(np.sum(np.square(array, dtype=np.float64)))
