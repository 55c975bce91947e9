"""Export of the networks, and of one update of the optimisation, as files that run without nst_jax.

The formats are StableHLO, ONNX and TensorFlow Lite.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.export import (
        encodings,
        feed_forward_models,
        flat,
        models,
        onnx_file,
        saving,
        sizes,
        stablehlo_file,
        tflite_file,
        vgg_models,
    )
    from nst_jax.export.encodings import ENCODINGS
    from nst_jax.export.feed_forward_models import arbitrary_model, styles26_model, trained_model
    from nst_jax.export.models import Model, Program
    from nst_jax.export.saving import FORMATS, save
    from nst_jax.export.vgg_models import features_model, step_model
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "encodings",
            "feed_forward_models",
            "flat",
            "models",
            "onnx_file",
            "saving",
            "sizes",
            "stablehlo_file",
            "tflite_file",
            "vgg_models",
        ),
        {
            "encodings": ("ENCODINGS",),
            "feed_forward_models": ("arbitrary_model", "styles26_model", "trained_model"),
            "models": ("Model", "Program"),
            "saving": ("FORMATS", "save"),
            "vgg_models": ("features_model", "step_model"),
        },
    )

__all__ = [
    "ENCODINGS", "FORMATS", "Model", "Program", "arbitrary_model", "encodings",
    "feed_forward_models", "features_model", "flat", "models", "onnx_file", "save", "saving", "sizes",
    "stablehlo_file", "step_model", "styles26_model", "tflite_file", "trained_model", "vgg_models",
]  # fmt: skip
