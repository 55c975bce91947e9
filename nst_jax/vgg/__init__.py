"""VGG-19: layers, taps (where activations are read), pixel conventions, precisions, and the network."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.vgg import (
        kernel_forms,
        layers,
        network,
        pixels,
        precision,
        sized_layers,
        taps,
        winograd,
    )
    from nst_jax.vgg.kernel_forms import with_forms
    from nst_jax.vgg.network import Convolution, Measure, Network, Trunk, features, measured
    from nst_jax.vgg.pixels import CAFFE_BGR, CAFFE_BGR_256, PIXELS, RAW, TORCHVISION, Pixels
    from nst_jax.vgg.taps import (
        BLOCKS,
        LAYERS,
        SMALLEST,
        TAPS,
        feature_shape,
        halo_of,
        halved,
        halvings,
        layer_of,
        resolve_tap,
        resolve_taps,
    )
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "kernel_forms",
            "layers",
            "network",
            "pixels",
            "precision",
            "sized_layers",
            "taps",
            "winograd",
        ),
        {
            "taps": (
                "BLOCKS",
                "LAYERS",
                "SMALLEST",
                "TAPS",
                "feature_shape",
                "halo_of",
                "halved",
                "halvings",
                "layer_of",
                "resolve_tap",
                "resolve_taps",
            ),
            "pixels": ("CAFFE_BGR", "CAFFE_BGR_256", "PIXELS", "Pixels", "RAW", "TORCHVISION"),
            "network": (
                "Convolution",
                "Measure",
                "Network",
                "Trunk",
                "features",
                "measured",
            ),
            "kernel_forms": ("with_forms",),
        },
    )

__all__ = [
    "BLOCKS",
    "CAFFE_BGR",
    "CAFFE_BGR_256",
    "Convolution",
    "LAYERS",
    "Measure",
    "Network",
    "PIXELS",
    "Pixels",
    "RAW",
    "SMALLEST",
    "TAPS",
    "TORCHVISION",
    "Trunk",
    "feature_shape",
    "features",
    "halo_of",
    "halved",
    "halvings",
    "kernel_forms",
    "layer_of",
    "layers",
    "measured",
    "network",
    "pixels",
    "precision",
    "resolve_tap",
    "resolve_taps",
    "sized_layers",
    "taps",
    "winograd",
    "with_forms",
]
