"""Encode pictures as the bytes of a file: one writer per format, the sRGB profile, metadata as text.

A file contains only the picture, the profile and, if the caller gives them, the picture's resolution
and metadata. A PNG stores metadata in a text chunk named `nst_jax`; the other formats store it in an
EXIF description that starts with `nst_jax`.
"""

import io
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

from PIL import ExifTags, ImageCms, PngImagePlugin
from PIL import Image as PilImage

# Name of the text chunk in a PNG; beginning of the metadata text in the EXIF description of other
# pictures, and in the comment of a GIF or MP4 film.
KEYWORD = "nst_jax"


Dpi = tuple[float, float]  # pixels per inch, across and down

# A function of (picture, file object, metadata as text, resolution), which writes the picture into the
# file object. A text or resolution that is None is left out of the file.
Writer = Callable[[PilImage.Image, io.BytesIO, str | None, Dpi | None], None]


def _write_png(
    picture: PilImage.Image, file: io.BytesIO, text: str | None, dpi: Dpi | None
) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt(KEYWORD, text)
    picture.save(
        file, "PNG", pnginfo=info, icc_profile=srgb_profile(), optimize=False, **_stated(dpi)
    )


def _write_jpeg(
    picture: PilImage.Image, file: io.BytesIO, text: str | None, dpi: Dpi | None
) -> None:
    picture.convert("RGB").save(
        file,
        "JPEG",
        quality=95,
        subsampling=0,
        icc_profile=srgb_profile(),
        exif=description(text),
        **_stated(dpi),
    )


def _write_webp(
    picture: PilImage.Image, file: io.BytesIO, text: str | None, dpi: Dpi | None
) -> None:
    picture.save(
        file,
        "WEBP",
        lossless=True,
        exact=True,
        icc_profile=srgb_profile(),
        exif=description(text, dpi),  # a WebP file has no other place for the resolution
    )


def _write_tiff(
    picture: PilImage.Image, file: io.BytesIO, text: str | None, dpi: Dpi | None
) -> None:
    picture.save(
        file,
        "TIFF",
        compression="tiff_adobe_deflate",
        icc_profile=srgb_profile(),
        exif=description(text),
        **_stated(dpi),
    )


def _stated(dpi: Dpi | None) -> dict[str, Any]:
    """Return the keyword arguments of Pillow's `save` for a resolution; empty if `dpi` is None."""
    return {} if dpi is None else {"dpi": dpi}


WRITERS: dict[str, Writer] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".webp": _write_webp,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
}


# Suffix -> largest number of pixels on a side that can be written. The limits of the other formats are
# larger than what fits in memory.
LARGEST_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}


def srgb_profile() -> bytes:
    """Return the colour profile of sRGB, the same bytes every time."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Bytes 24 to 35 are the time of creation. Bytes 84 to 99 are a digest of the profile, which depends
    # on this time. Both are replaced by constants, so that the same picture always gives the same file.
    profile[24:36] = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)
    profile[84:100] = bytes(16)  # zeros mean "digest not calculated"
    return bytes(profile)


def as_text(metadata: Mapping[str, Any] | None) -> str | None:
    """Return metadata as JSON text; None if `metadata` is None.

    Raises:
      TypeError: if `metadata` is not a mapping.
      ValueError: for values that JSON cannot express.
    """
    if metadata is None:
        return None
    if not isinstance(metadata, Mapping):
        raise TypeError(f"`metadata`: expected a dictionary, got {type(metadata).__name__}")
    try:
        # `dumps` escapes all characters that are not ASCII, so every format can store the text.
        return json.dumps(metadata, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`metadata`: cannot be written as JSON ({error}); "
            "use strings, finite numbers, lists and dictionaries"
        ) from None


_INCH = 2  # value of EXIF's tag ResolutionUnit for pixels per inch


def description(text: str | None, dpi: Dpi | None = None) -> bytes:
    """Return EXIF data, as bytes, with a picture's metadata as its description, and its resolution.

    If both arguments are None, the result has no bytes.

    Args:
      text: the metadata as text, which follows `KEYWORD` in the description; None leaves it out.
      dpi: the resolution in pixels per inch, (across, down); None leaves it out.
    """
    if text is None and dpi is None:
        return b""
    exif = PilImage.Exif()
    if text is not None:
        exif[ExifTags.Base.ImageDescription] = f"{KEYWORD} {text}"
    if dpi is not None:
        exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution] = dpi
        exif[ExifTags.Base.ResolutionUnit] = _INCH
    return exif.tobytes()


def text_in(opened: PilImage.Image) -> str | None:
    """Return the metadata, as text, that this package embedded in an opened picture; None if absent."""
    prefix = f"{KEYWORD} "
    if KEYWORD in opened.info:
        return str(opened.info[KEYWORD])
    comment = opened.info.get("comment")  # where `film_encoding` puts the text in a GIF
    if isinstance(comment, bytes) and comment.startswith(prefix.encode()):
        return comment.decode(errors="replace").removeprefix(prefix)
    try:
        text = opened.getexif().get(ExifTags.Base.ImageDescription)
    except Exception:  # damaged EXIF may raise any kind of error; it counts as no EXIF
        return None
    return text.removeprefix(prefix) if isinstance(text, str) and text.startswith(prefix) else None
