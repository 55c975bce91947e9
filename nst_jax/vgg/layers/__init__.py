"""The operations of VGG-19's layers: convolution, ReLU, padding and pooling, as pure functions.

A gradient rule is written by hand where that of automatic differentiation is slower, needs more memory,
or differs from torch's.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.vgg.layers import (
        convolution,
        cpu_loops,
        gradient_order,
        padding,
        pooling,
        relus,
    )
    from nst_jax.vgg.layers.convolution import (
        BIAS,
        KERNEL,
        TRANSPOSED,
        WINOGRAD,
        WINOGRAD_TRANSPOSED,
        Forms,
        conv3x3,
        transpose,
    )
    from nst_jax.vgg.layers.gradient_order import measured_in_turn
    from nst_jax.vgg.layers.padding import (
        PADDINGS,
        PICTURE_CHANNELS,
        Convolved,
        Kernel,
        Padding,
        reflect_padded,
        replicate_first,
        replicate_padded,
        wrap_padded,
        zero_padded,
    )
    from nst_jax.vgg.layers.pooling import (
        AVERAGE_SCALE,
        L2_SCALE,
        POOLS,
        Pool,
        Pooled,
        Winners,
        average_pool,
        l2_pool,
        max_pool,
        pool_relu,
        scaled_average_pool,
    )
    from nst_jax.vgg.layers.relus import Signs, relu, relu_by_signs, relu_in_place
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("convolution", "cpu_loops", "gradient_order", "padding", "pooling", "relus"),
        {
            "convolution": (
                "BIAS",
                "KERNEL",
                "TRANSPOSED",
                "WINOGRAD",
                "WINOGRAD_TRANSPOSED",
                "Forms",
                "conv3x3",
                "transpose",
            ),
            "gradient_order": ("measured_in_turn",),
            "padding": (
                "PADDINGS",
                "PICTURE_CHANNELS",
                "Convolved",
                "Kernel",
                "Padding",
                "reflect_padded",
                "replicate_first",
                "replicate_padded",
                "wrap_padded",
                "zero_padded",
            ),
            "pooling": (
                "AVERAGE_SCALE",
                "L2_SCALE",
                "POOLS",
                "Pool",
                "Pooled",
                "Winners",
                "average_pool",
                "l2_pool",
                "max_pool",
                "pool_relu",
                "scaled_average_pool",
            ),
            "relus": ("Signs", "relu", "relu_by_signs", "relu_in_place"),
        },
    )

__all__ = [
    "AVERAGE_SCALE",
    "BIAS",
    "Convolved",
    "Forms",
    "KERNEL",
    "Kernel",
    "L2_SCALE",
    "PADDINGS",
    "PICTURE_CHANNELS",
    "POOLS",
    "Padding",
    "Pool",
    "Pooled",
    "Signs",
    "TRANSPOSED",
    "WINOGRAD",
    "WINOGRAD_TRANSPOSED",
    "Winners",
    "average_pool",
    "conv3x3",
    "convolution",
    "cpu_loops",
    "gradient_order",
    "l2_pool",
    "max_pool",
    "measured_in_turn",
    "padding",
    "pool_relu",
    "pooling",
    "reflect_padded",
    "relu",
    "relu_by_signs",
    "relu_in_place",
    "relus",
    "replicate_first",
    "replicate_padded",
    "scaled_average_pool",
    "transpose",
    "wrap_padded",
    "zero_padded",
]
