"""The artist's controls: masks of regions with styles of their own, and of parts that stay.

The modules: `masks` checks masks and brings them to taps, `regions` has the values `Region` and
`Protect` and what is measured with them.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.controls import masks
else:
    __getattr__, __dir__ = lazy_names(__name__, ("masks",), {})

__all__ = ["masks"]
