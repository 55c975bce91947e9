"""Weights files: reading, verifying, writing, and converting other programs' files."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.weights import convert, digests, params, quantization, torch_files
    from nst_jax.weights.params import (
        EMBEDDED,
        EMBEDDED_DIGEST,
        EMBEDDED_NAME,
        VARIABLE,
        WEIGHTS_FORMAT,
        Architecture,
        Datasets,
        WeightsInfo,
        digest,
        load_params,
        load_params_of,
        read_info,
        save_params,
    )
    from nst_jax.weights.quantization import CENTRES, ENCODERS
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("convert", "digests", "params", "quantization", "torch_files"),
        {
            "params": (
                "Architecture",
                "Datasets",
                "EMBEDDED",
                "EMBEDDED_DIGEST",
                "EMBEDDED_NAME",
                "VARIABLE",
                "WEIGHTS_FORMAT",
                "WeightsInfo",
                "digest",
                "load_params",
                "load_params_of",
                "read_info",
                "save_params",
            ),
            "quantization": ("CENTRES", "ENCODERS"),
        },
    )

__all__ = [
    "Architecture",
    "CENTRES",
    "Datasets",
    "EMBEDDED",
    "EMBEDDED_DIGEST",
    "EMBEDDED_NAME",
    "ENCODERS",
    "VARIABLE",
    "WEIGHTS_FORMAT",
    "WeightsInfo",
    "convert",
    "digest",
    "digests",
    "load_params",
    "load_params_of",
    "params",
    "quantization",
    "read_info",
    "save_params",
    "torch_files",
]
