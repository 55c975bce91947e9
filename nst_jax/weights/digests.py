"""Compute digests of weights, and of other named arrays.

A digest is a hash of the names, types, shapes and values of the arrays, and of a description of them,
such as the name and version of a format; the description may be empty. The digest does not depend on
anything else in the file in which the arrays are stored.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def digest_of(head: Sequence[Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Return one digest that covers named arrays and a description of them.

    Args:
      head: the description: JSON values that the digest shall cover, such as a format's name and
        version.
      arrays: arrays by name; little-endian, so that all machines compute the same digest.

    Returns:
      The SHA-256, as hexadecimal digits, of these bytes: `head` as a line of compact JSON; then for
      every array, in the order of their names, a line such as `["conv1_1/bias","<f4",[64]]`, followed
      by the array's bytes in C order.

    Example:
      >>> import numpy as np
      >>> digest_of(["format", 1], {"bias": np.zeros(2, "<f4")})[:8]
      '07965191'
    """
    sha = hashlib.sha256(_line(head))
    for name in sorted(arrays):
        array = arrays[name]
        sha.update(_line([name, array.dtype.str, list(array.shape)]))
        sha.update(array.tobytes())
    return sha.hexdigest()


# The first values that are hashed for the digest of weights: name and version of the files' format.
WEIGHTS = ("nst-jax weights", 1)


def digest_of_weights(family: str, pixels: str, arrays: Mapping[str, np.ndarray]) -> str:
    """Return the digest by which a weights file is verified.

    Args:
      family: where the weights come from, such as "vgg19-caffe".
      pixels: name of the pixel convention with which they were trained, such as "caffe-bgr".
      arrays: the weights as the file stores them, by name of the dataset, such as `"conv1_1/kernel"`.

    Returns:
      The digest of all weights, of `family` and of `pixels`.

    Example:
      >>> import numpy as np
      >>> digest_of_weights("vgg19-caffe", "caffe-bgr", {"conv1_1/bias": np.zeros(64, "<f4")})[:8]
      '87db3948'
    """
    return digest_of([*WEIGHTS, family, pixels], arrays)


def _line(values: Sequence[Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"
