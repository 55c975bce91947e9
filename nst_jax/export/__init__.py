"""Export: the networks and the optimiser's update as files that run without this package."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.export import (
        encodings,
        flat,
        models,
        onnx_file,
        saving,
        sizes,
        stablehlo_file,
        tflite_file,
    )
    from nst_jax.export.encodings import ENCODINGS
    from nst_jax.export.models import (
        Model,
        Program,
        arbitrary_model,
        features_model,
        step_model,
        styles26_model,
        trained_model,
    )
    from nst_jax.export.saving import FORMATS, save
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "encodings",
            "flat",
            "models",
            "onnx_file",
            "saving",
            "sizes",
            "stablehlo_file",
            "tflite_file",
        ),
        {
            "encodings": ("ENCODINGS",),
            "models": (
                "Model", "Program", "arbitrary_model", "features_model", "step_model",
                "styles26_model", "trained_model",
            ),
            "saving": ("FORMATS", "save"),
        },
    )  # fmt: skip

__all__ = [
    "ENCODINGS", "FORMATS", "Model", "Program", "arbitrary_model", "encodings", "features_model",
    "flat", "models", "onnx_file", "save", "saving", "sizes", "stablehlo_file", "step_model",
    "styles26_model", "tflite_file", "trained_model",
]  # fmt: skip
