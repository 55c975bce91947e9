"""Estimates of the memory and arithmetic operations of a style transfer, and its division into parts.

Tiles are parts of a picture that are computed one after another. Bands are parts of a picture that are
computed at the same time, each by a device of its own. A chunk is a group of pictures of a batch that
are painted at once.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.scaling import (
        array_bytes,
        bands,
        bucket_choice,
        bucket_plans,
        buckets,
        capacity,
        chunk_size,
        convolution_memory,
        file_memory,
        footprint,
        gradient_memory,
        layer_table,
        loss_costs,
        measuring_memory,
        operations,
        plan,
        planning,
        sharding,
        stored_memory,
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
            "array_bytes",
            "bands",
            "bucket_choice",
            "bucket_plans",
            "buckets",
            "capacity",
            "chunk_size",
            "convolution_memory",
            "file_memory",
            "footprint",
            "gradient_memory",
            "layer_table",
            "loss_costs",
            "measuring_memory",
            "operations",
            "plan",
            "planning",
            "sharding",
            "stored_memory",
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
    "array_bytes",
    "bands",
    "bucket_choice",
    "bucket_plans",
    "buckets",
    "capacity",
    "chunk_size",
    "convolution_memory",
    "estimate_memory",
    "file_memory",
    "footprint",
    "gradient_memory",
    "layer_table",
    "loss_costs",
    "measuring_memory",
    "operations",
    "plan",
    "planning",
    "sharding",
    "stored_memory",
    "tile_choice",
    "tile_grid",
    "tiles",
]
