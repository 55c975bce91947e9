"""Weights files of the network: read, verified, written, converted from other programs' files."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.weights import convert, params, torch_files
    from nst_jax.weights.params import (
        CENTRES,
        EMBEDDED,
        EMBEDDED_DIGEST,
        EMBEDDED_NAME,
        ENCODERS,
        FORMAT,
        VARIABLE,
        VERSION,
        Datasets,
        Layout,
        PathLike,
        WeightsInfo,
        check_destination,
        digest,
        layout_differences,
        load_params,
        read_info,
        save_params,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    ("convert", "params", "torch_files"),
    {
        "params": (
            "CENTRES",
            "Datasets",
            "EMBEDDED",
            "EMBEDDED_DIGEST",
            "EMBEDDED_NAME",
            "ENCODERS",
            "FORMAT",
            "Layout",
            "PathLike",
            "VARIABLE",
            "VERSION",
            "WeightsInfo",
            "check_destination",
            "digest",
            "layout_differences",
            "load_params",
            "read_info",
            "save_params",
        ),
    },
)

__all__ = [
    "CENTRES",
    "Datasets",
    "EMBEDDED",
    "EMBEDDED_DIGEST",
    "EMBEDDED_NAME",
    "ENCODERS",
    "FORMAT",
    "Layout",
    "PathLike",
    "VARIABLE",
    "VERSION",
    "WeightsInfo",
    "check_destination",
    "convert",
    "digest",
    "layout_differences",
    "load_params",
    "params",
    "read_info",
    "save_params",
    "torch_files",
]
