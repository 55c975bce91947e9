"""In how many bits the trunk computes: what it multiplies with, and what it keeps. Static data.

Pictures, statistics, losses and the optimiser's state are float32 (or what the caller's pictures are)
in each of them. An accelerator multiplies float32 in fewer bits unless it is asked for all of them, so
each says what it asks for; a processor has no such shortcut, and computes `tensorfloat32` as float32.
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
    """How the trunk multiplies, and in what its activations are kept.

    Attributes:
      name: for people and files.
      products: what convolutions and Gram matrices ask of the device.
      activations: name of the dtype of the network's activations; None is the pictures' own.
    """

    name: str
    products: lax.Precision
    activations: str | None = None

    def activations_of(self, dtype: Any) -> Any:
        """Return what the activations of pictures of this dtype are kept in."""
        return jnp.dtype(dtype if self.activations is None else self.activations)


# All bits of float32 in every product.
FLOAT32 = Precision("float32", lax.Precision.HIGHEST)

# On NVIDIA's matrix units 10 bits of each factor's fraction; on a TPU three passes of bfloat16.
TENSORFLOAT32 = Precision("tensorfloat32", lax.Precision.HIGH)

# 7 bits of each factor's fraction, summed in float32, and half the memory for activations.
BFLOAT16 = Precision("bfloat16", lax.Precision.DEFAULT, "bfloat16")


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {precision.name: precision for precision in (FLOAT32, TENSORFLOAT32, BFLOAT16)}
)

AUTO = "auto"


def named(name: Any, platform: str | None = None) -> Precision:
    """Return a precision by name.

    Args:
      name: `"float32"`, `"tensorfloat32"`, `"bfloat16"`, or `"auto"`: bfloat16 on an accelerator,
        whose matrix units are built for it, and float32 on a processor.
      platform: of the device, as jax calls it, for `"auto"`; default: the default device's.

    Returns:
      The precision.

    Raises:
      TypeError: if it is no name.
      ValueError: for other names.

    Example:
      >>> named("auto", "cpu").name, named("auto", "gpu").name
      ('float32', 'bfloat16')
    """
    if name == AUTO:
        return FLOAT32 if (platform or jax.default_backend()) == "cpu" else BFLOAT16
    if not isinstance(name, str):
        raise TypeError(f"`precision`: expected a name such as 'float32', got {name!r}")
    if name not in PRECISIONS:
        raise _checks.unknown("precision", name, (*PRECISIONS, AUTO), "precision")
    return PRECISIONS[name]
