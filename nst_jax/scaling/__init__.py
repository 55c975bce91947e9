"""Time, memory and devices: what a run takes, how it is cut into tiles and spread over devices."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.scaling import capacity, chunks, costs, layout, sharding, tiles
    from nst_jax.scaling.capacity import OutOfMemory
    from nst_jax.scaling.costs import Footprint, estimate_memory

__getattr__, __dir__ = lazy_names(
    __name__,
    ("capacity", "chunks", "costs", "layout", "sharding", "tiles"),
    {
        "costs": ("Footprint", "estimate_memory"),
        "capacity": ("OutOfMemory",),
    },
)

__all__ = [
    "Footprint",
    "OutOfMemory",
    "capacity",
    "chunks",
    "costs",
    "estimate_memory",
    "layout",
    "sharding",
    "tiles",
]
