"""Pictures: reading and writing files, resizing, films, sheets of several pictures, samples."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.images import (
        decoding,
        eight_bit,
        encoding,
        film_encoding,
        films,
        folders,
        on_host,
        reading,
        resizing,
        sample_pictures,
        sheets,
        sources,
        writing,
    )
    from nst_jax.images.eight_bit import (
        bicubic_8bit,
        bilinear_8bit,
        nearest_8bit,
        old_bilinear_8bit,
        resize_8bit,
        to_uint8,
    )
    from nst_jax.images.reading import (
        Glance,
        Picture,
        glance,
        load,
        read,
        read_metadata,
    )
    from nst_jax.images.sample_pictures import SAMPLES, sample, sample_picture
    from nst_jax.images.writing import SUFFIXES, check_fits, check_output, save
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "decoding",
            "eight_bit",
            "encoding",
            "film_encoding",
            "films",
            "folders",
            "on_host",
            "reading",
            "resizing",
            "sample_pictures",
            "sheets",
            "sources",
            "writing",
        ),
        {
            "eight_bit": (
                "bicubic_8bit",
                "bilinear_8bit",
                "nearest_8bit",
                "old_bilinear_8bit",
                "resize_8bit",
                "to_uint8",
            ),
            "reading": ("Glance", "Picture", "glance", "load", "read", "read_metadata"),
            "sample_pictures": ("SAMPLES", "sample", "sample_picture"),
            "writing": ("SUFFIXES", "check_fits", "check_output", "save"),
        },
    )

__all__ = [
    "Glance",
    "Picture",
    "SAMPLES",
    "SUFFIXES",
    "bicubic_8bit",
    "bilinear_8bit",
    "check_fits",
    "check_output",
    "decoding",
    "eight_bit",
    "encoding",
    "film_encoding",
    "films",
    "folders",
    "glance",
    "load",
    "nearest_8bit",
    "old_bilinear_8bit",
    "on_host",
    "read",
    "read_metadata",
    "reading",
    "resize_8bit",
    "resizing",
    "sample",
    "sample_picture",
    "sample_pictures",
    "save",
    "sheets",
    "sources",
    "to_uint8",
    "writing",
]
