"""From a file's bytes to sRGB pixels: EXIF orientation, colour profiles, modes, depth, transparency.

Every conversion that may surprise the user is recorded as a note, a line of text.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, ImageCms, UnidentifiedImageError
from PIL import Image as PilImage

MOST_PIXELS = 178_956_970  # most that are read; Pillow refuses more, too; as float32 RGB, 2 GB

# Formats that are read, fewer than Pillow's: EPS would run Ghostscript, and Pillow takes almost any
# file for a TGA.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000")

_BLACK_TO_BLACK: Any = 0x2000  # Little CMS' black point compensation; named in Pillow since 10.3

_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")  # several pictures in other formats are no animation


# EXIF orientation -> the operation that turns the picture upright.
_TURNS = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)  # orientations that exchange height and width


class _RefusedError(Exception):
    """Raised for an intact file that is not accepted; the message follows the file's name."""


@contextlib.contextmanager
def opened_picture(data: bytes, path: Path, argument: str) -> Iterator[PilImage.Image]:
    """Context manager: open a file's bytes with Pillow; any error becomes a one-line ValueError."""
    PilImage.init()
    formats = [name for name in _FORMATS if name in PilImage.OPEN]
    try:
        with warnings.catch_warnings():
            # Pillow's warnings concern odd metadata and large pictures; `decoded` notes large pictures.
            warnings.simplefilter("ignore")
            with PilImage.open(io.BytesIO(data), formats=formats) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise PilImage.DecompressionBombError
                yield opened
    except UnidentifiedImageError:
        reason = "is not a picture in a known format; expected PNG, JPEG, WebP, TIFF, GIF or BMP"
    except PilImage.DecompressionBombError:
        reason = (
            f"would decode to more than {MOST_PIXELS // 10**6} megapixels; "
            "reduce it with another program first"
        )
    except _RefusedError as error:
        reason = str(error)
    except Exception as error:  # Pillow's readers raise anything on damaged files
        problem = " ".join(str(error).split()) or type(error).__name__
        reason = f"is damaged or truncated ({problem}); get a complete copy"
    else:
        return
    raise ValueError(f"`{argument}`: {str(path)!r} {reason}")


def upright_shape(opened: PilImage.Image) -> tuple[int, int]:
    """Return the height and width of the picture that `decoded` returns, without decoding it."""
    sideways = _orientation(opened, []) in _SIDEWAYS
    return (opened.width, opened.height) if sideways else (opened.height, opened.width)


def decoded(
    opened: PilImage.Image,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None, list[str]]:
    """Return the picture in sRGB over white, its opacity (None if opaque), and notes for the user."""
    notes = [*_notes_on_file(opened)]
    orientation = _orientation(opened, notes)
    opened.load()
    upright = opened
    # `load` turns a TIFF upright by itself and then removes its orientation tag.
    if orientation in _TURNS and _orientation(opened, []) in _TURNS:
        upright = opened.transpose(_TURNS[orientation])
    colours, alpha = _split_alpha(upright)
    rgb = _to_srgb(colours, opened.info.get("icc_profile"), notes)
    if alpha is not None:
        notes.append("transparent parts composited over white")
        rgb = _over_white(rgb, alpha)
    return np.asarray(rgb, np.float32) / 255, alpha, notes


def _notes_on_file(opened: PilImage.Image) -> Iterator[str]:
    pixels = opened.width * opened.height
    if pixels > MOST_PIXELS // 2:
        yield f"large picture: {pixels / 1e6:.0f} megapixels"
    count = getattr(opened, "n_frames", 1)
    if count > 1:
        yield f"only {'frame' if opened.format in _ANIMATED else 'picture'} 1 of {count} read"
    if opened.mode == "F":
        yield "floating-point picture read at 8 bits"
    elif opened.mode.startswith("I") or _has_deep_colours(opened):
        yield "16-bit picture read at 8 bits"
    if opened.mode in ("CMYK", "LAB"):
        yield f"{opened.mode} converted to RGB"


def _has_deep_colours(opened: PilImage.Image) -> bool:
    # Pillow silently reads 16-bit colours at 8 bits. Only its decoders' arguments show the depth.
    decoders = str(getattr(opened, "tile", ""))
    return ";16" in decoders or (opened.format == "PPM" and "65535" in decoders)


def _orientation(opened: PilImage.Image, notes: list[str]) -> int:
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises anything on damaged EXIF; the pixels may still be intact
        notes.append("unreadable EXIF ignored")
        return 1
    if orientation in _TURNS:
        notes.append("turned as its EXIF orientation says")
    return orientation


def _split_alpha(
    image: PilImage.Image,
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Return the colours in mode L, RGB, CMYK or LAB, and the opacity (None if opaque)."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        # A palette entry, or one colour, may be declared transparent.
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La"):
        image = image.convert("RGBA" if image.mode.startswith("RGB") else "LA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        return image.convert(image.mode[:-1]), None if (alpha == 1).all() else alpha
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _from_deep_grey(
    image: PilImage.Image,
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    values = np.asarray(image, np.float64)
    low, high = float(np.min(values)), float(np.max(values))
    white = 65535.0
    if image.mode == "F":  # white is 1 or, as in Pillow's conversions from 8 bits, 255
        white = 1.0 if high <= 1 else 255.0
    if not (low >= 0 and high <= white):
        raise _RefusedError(
            f"has samples from {low:g} to {high:g} and does not say which of them is white; "
            "save it with 8 or 16 bits"
        )
    grey = PilImage.fromarray(np.rint(values / white * 255).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int) or not (values == key).any():
        return grey, None
    return grey, (values != key).astype(np.float32)


def _to_srgb(colours: PilImage.Image, profile: bytes | None, notes: list[str]) -> PilImage.Image:
    converted = _with_profile(colours, profile, notes) if profile else None
    if converted is None and colours.mode == "LAB":  # Pillow converts LAB only with a profile
        converted = _transformed(colours, ImageCms.createProfile("LAB"))
    return converted or colours.convert("RGB")


def _with_profile(
    colours: PilImage.Image, profile: bytes, notes: list[str]
) -> PilImage.Image | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if colours.mode == "L" and own.profile.xcolor_space.strip() == "RGB":
            colours = colours.convert("RGB")
        if colours.mode == "RGB" and _is_srgb(own):
            return None
        name = " ".join(ImageCms.getProfileDescription(own).split())[:60] or "unnamed"
        converted = _transformed(colours, own)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("unusable colour profile ignored, assumed to be sRGB")
        return None
    notes.append(f"colour profile {name!r} converted to sRGB")
    return converted


def _transformed(colours: PilImage.Image, profile: Any) -> PilImage.Image:
    # As browsers and photo editors do: white is mapped to white and black to black.
    converted = ImageCms.profileToProfile(
        colours,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=_BLACK_TO_BLACK,
    )
    assert converted is not None  # only in-place conversions return nothing
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    # Apply the profile to a grid of colours, since the many sRGB profiles differ in name and bytes.
    grid = np.minimum(np.indices((9, 9, 9), np.int32).reshape(3, 27, 27) * 32, 255)
    colours = np.ascontiguousarray(np.moveaxis(grid, 0, -1).astype(np.uint8))
    converted = np.asarray(_transformed(PilImage.fromarray(colours), profile))
    return bool(np.abs(converted.astype(int) - colours).max() <= 1)


def _over_white(rgb: PilImage.Image, alpha: np.ndarray) -> PilImage.Image:
    # Rounded, so that every picture from a file is exactly representable in 8 bits.
    mixed = 255 + (np.asarray(rgb, np.float32) - 255) * alpha[..., None]
    return PilImage.fromarray(np.rint(mixed).astype(np.uint8))
