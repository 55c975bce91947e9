"""Precisions of the network's matrix products and of its stored activations.

At every precision, pictures, statistics, losses and the optimiser's state stay float32, or whatever
dtype the caller's pictures have. Accelerators (GPUs and TPUs) multiply float32 numbers with fewer bits
unless all bits are requested; therefore each precision states what it requests of JAX. A CPU always
uses all bits, so the precision `tensorfloat32` is computed as float32 there.

A recipe may leave the choice of a precision to the platform: see `AUTO`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax

from nst_jax import _checks


@dataclass(frozen=True)
class Precision:
    """The precision of matrix products, and the dtype of activations.

    Attributes:
      name: name of the precision in arguments and recipe files.
      products: the precision that convolutions and Gram matrices request from the device.
      activations: name of the dtype of the network's activations; None means the pictures' dtype.
    """

    name: str
    products: lax.Precision
    activations: str | None = None

    def activations_of(self, dtype: Any) -> Any:
        """Return the dtype of activations, given the dtype of the picture."""
        return jnp.dtype(dtype if self.activations is None else self.activations)


# Products use all bits of float32.
FLOAT32 = Precision("float32", lax.Precision.HIGHEST)

# On NVIDIA's Tensor Cores, factors are rounded to 10 mantissa bits; a TPU computes a product as three
# products of bfloat16 numbers.
TENSORFLOAT32 = Precision("tensorfloat32", lax.Precision.HIGH)

# Factors are rounded to 7 mantissa bits and sums are float32. Activations are stored as bfloat16, in
# half the memory of float32.
BFLOAT16 = Precision("bfloat16", lax.Precision.DEFAULT, "bfloat16")


PRECISIONS: Mapping[str, Precision] = MappingProxyType(
    {precision.name: precision for precision in (FLOAT32, TENSORFLOAT32, BFLOAT16)}
)


@dataclass(frozen=True)
class Auto:
    """Takes the place of a precision if the platform is to decide; `precision_on` replaces it.

    Attributes:
      name: name of this choice in arguments and recipe files.
    """

    name: str = "auto"


# Stands for float32 on a CPU, where fewer bits rarely save time, and for the network's
# `accelerator_precision` on an accelerator, whose matrix units are made for fewer bits.
AUTO = Auto()

AnyPrecision: TypeAlias = Precision | Auto

# All values that a recipe's precision may have, by name.
NAMED: Mapping[str, AnyPrecision] = MappingProxyType({**PRECISIONS, AUTO.name: AUTO})


def precision_named(name: Any) -> AnyPrecision:
    """Return a precision by name.

    Args:
      name: `"float32"`, `"tensorfloat32"`, `"bfloat16"` or `"auto"`. `"auto"` stands for float32 on a
        CPU. On an accelerator it stands for the recipe's `network.accelerator_precision`, which is
        bfloat16 in the recipes `default` and `gram`, and tensorfloat32 in published recipes.

    Returns:
      The precision; `AUTO` for `"auto"`.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: for an unknown name.

    Example:
      >>> from nst_jax import recipes
      >>> network = recipes.TF.replace(precision=precision_named("auto")).network
      >>> network.precision_on("cpu").name, network.precision_on("gpu").name
      ('float32', 'tensorfloat32')
    """
    _checks.one_of("precision", name, NAMED, "precision")
    return NAMED[name]


# Name of the setting in `jax.config` for the default device. It is read by `getattr`, since type
# checkers do not know it.
DEFAULT_DEVICE = "jax_default_device"


def default_platform() -> str:
    """Return the platform on which JAX computes by default: "cpu", "gpu" or "tpu"."""
    chosen = getattr(jax.config, DEFAULT_DEVICE)  # a device, a platform's name, or None
    return getattr(chosen, "platform", chosen) or jax.default_backend()


def precision_on(
    precision: AnyPrecision,
    platform: str | None = None,
    *,
    accelerator_precision: Precision = TENSORFLOAT32,
) -> Precision:
    """Return the precision in which a platform computes, given a recipe's choice.

    Args:
      precision: a precision, or `AUTO`.
      platform: JAX's name of the platform, such as "gpu"; None means that of JAX's default device.
      accelerator_precision: what `AUTO` means on an accelerator.

    Returns:
      `precision`; for `AUTO`, `FLOAT32` on a CPU and `accelerator_precision` elsewhere.

    Example:
      >>> precision_on(AUTO, "cpu").name, precision_on(AUTO, "gpu").name
      ('float32', 'tensorfloat32')
    """
    if not isinstance(precision, Auto):
        return precision
    on_cpu = (platform or default_platform()) == "cpu"
    return FLOAT32 if on_cpu else accelerator_precision
