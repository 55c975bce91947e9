"""Precisions of the network's matrix products and of its stored activations, as static data.

At every precision, pictures, statistics, losses and the optimiser's state stay float32, or whatever
dtype the caller's pictures have. Accelerators multiply float32 numbers with fewer bits unless all bits
are requested, so each precision says what it requests. A CPU always uses all bits, so `tensorfloat32`
is computed as float32 there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from nst_jax import _checks


@dataclass(frozen=True)
class Precision:
    """The precision of matrix products, and the dtype of activations.

    Attributes:
      name: its name in arguments and recipe files.
      products: the precision that convolutions and Gram matrices request from the device.
      activations: name of the dtype of the network's activations; None is the dtype of the pictures.
    """

    name: str
    products: lax.Precision
    activations: str | None = None

    def activations_of(self, dtype: Any) -> Any:
        """Return the dtype of activations, given the dtype of the picture."""
        return jnp.dtype(dtype if self.activations is None else self.activations)


# All bits of float32 in every product.
FLOAT32 = Precision("float32", lax.Precision.HIGHEST)

# NVIDIA's matrix units round factors to 10 fraction bits; a TPU multiplies in three passes of bfloat16.
TENSORFLOAT32 = Precision("tensorfloat32", lax.Precision.HIGH)

# Factors with 7 fraction bits, sums in float32, and activations in half the memory.
BFLOAT16 = Precision("bfloat16", lax.Precision.DEFAULT, "bfloat16")


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {precision.name: precision for precision in (FLOAT32, TENSORFLOAT32, BFLOAT16)}
)

AUTO = "auto"


def precision_named(name: Any, platform: str | None = None) -> Precision:
    """Return a precision by name.

    Args:
      name: `"float32"`, `"tensorfloat32"`, `"bfloat16"`, or `"auto"`: bfloat16 on an accelerator,
        whose matrix units are built for it, and float32 on a CPU.
      platform: the device's platform as JAX names it, which decides on `"auto"`; None is the platform
        of the default device.

    Returns:
      The precision.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: for an unknown name.

    Example:
      >>> precision_named("auto", "cpu").name, precision_named("auto", "gpu").name
      ('float32', 'bfloat16')
    """
    if name == AUTO:
        return FLOAT32 if (platform or jax.default_backend()) == "cpu" else BFLOAT16
    if not isinstance(name, str):
        raise TypeError(f"`precision`: expected a name such as 'float32', got {name!r}")
    if name not in PRECISIONS:
        raise _checks.unknown("precision", name, (*PRECISIONS, AUTO), "precision")
    return PRECISIONS[name]
