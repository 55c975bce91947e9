"""Pictures: files to arrays and back, resizing, sheets of several, the samples."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.images import decoding, encoding, io, resizing, sheets
    from nst_jax.images.io import (
        SAMPLES,
        SUFFIXES,
        Glance,
        HostImage,
        PathLike,
        Picture,
        check_fits,
        check_output,
        glance,
        load,
        pillow_bicubic,
        pillow_bilinear,
        pillow_nearest,
        read,
        read_metadata,
        resize8,
        sample,
        sample_picture,
        save,
        to_uint8,
    )

__getattr__, __dir__ = lazy_names(
    __name__,
    ("decoding", "encoding", "io", "resizing", "sheets"),
    {
        "io": (
            "Glance",
            "HostImage",
            "PathLike",
            "Picture",
            "SAMPLES",
            "SUFFIXES",
            "check_fits",
            "check_output",
            "glance",
            "load",
            "pillow_bicubic",
            "pillow_bilinear",
            "pillow_nearest",
            "read",
            "read_metadata",
            "resize8",
            "sample",
            "sample_picture",
            "save",
            "to_uint8",
        ),
    },
)

__all__ = [
    "Glance",
    "HostImage",
    "PathLike",
    "Picture",
    "SAMPLES",
    "SUFFIXES",
    "check_fits",
    "check_output",
    "decoding",
    "encoding",
    "glance",
    "io",
    "load",
    "pillow_bicubic",
    "pillow_bilinear",
    "pillow_nearest",
    "read",
    "read_metadata",
    "resize8",
    "resizing",
    "sample",
    "sample_picture",
    "save",
    "sheets",
    "to_uint8",
]
