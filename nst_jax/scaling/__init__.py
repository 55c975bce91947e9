"""Estimates of the memory and arithmetic operations of a style transfer, and its division into parts.

Tiles are parts of a picture that are computed one after another. Bands are parts of a picture that are
computed at the same time, each by a device of its own. A chunk is a group of pictures of a batch that
are painted at once.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.scaling import (
        bands,
        bucket_choice,
        bucket_plans,
        buckets,
        capacity,
        chunk_size,
        footprint,
        layer_table,
        loss_costs,
        operations,
        plan,
        planning,
        sharding,
        tile_choice,
        tile_grid,
        tiles,
    )
    from nst_jax.scaling.capacity import OutOfMemory
    from nst_jax.scaling.footprint import Footprint, estimate_memory
    from nst_jax.scaling.plan import Plan
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "bands",
            "bucket_choice",
            "bucket_plans",
            "buckets",
            "capacity",
            "chunk_size",
            "footprint",
            "layer_table",
            "loss_costs",
            "operations",
            "plan",
            "planning",
            "sharding",
            "tile_choice",
            "tile_grid",
            "tiles",
        ),
        {
            "footprint": ("Footprint", "estimate_memory"),
            "capacity": ("OutOfMemory",),
            "plan": ("Plan",),
        },
    )

__all__ = [
    "Footprint",
    "OutOfMemory",
    "Plan",
    "bands",
    "bucket_choice",
    "bucket_plans",
    "buckets",
    "capacity",
    "chunk_size",
    "estimate_memory",
    "footprint",
    "layer_table",
    "loss_costs",
    "operations",
    "plan",
    "planning",
    "sharding",
    "tile_choice",
    "tile_grid",
    "tiles",
]
