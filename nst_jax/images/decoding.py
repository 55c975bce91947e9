"""From a file's bytes to colours: what files say of their pixels in their many ways, settled once.

Orientation, colour profile, CMYK, palette, depth and transparency; every conversion that a person
might wonder about leaves a note.
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

MOST_PIXELS = 178_956_970  # decoding more is refused, as by Pillow; it is 2 GB of float32

# Not all that Pillow opens: EPS would run Ghostscript, and almost any file passes for a TGA.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000")

_BLACK_TO_BLACK: Any = 0x2000  # Little CMS's flag; Pillow has a name for it since 10.3

_MOVING = ("GIF", "PNG", "WEBP", "AVIF")  # others that hold several pictures are albums


# EXIF orientation to what brings the picture upright.
_TURNS = {
    2: PilImage.Transpose.FLIP_LEFT_RIGHT,
    3: PilImage.Transpose.ROTATE_180,
    4: PilImage.Transpose.FLIP_TOP_BOTTOM,
    5: PilImage.Transpose.TRANSPOSE,
    6: PilImage.Transpose.ROTATE_270,
    7: PilImage.Transpose.TRANSVERSE,
    8: PilImage.Transpose.ROTATE_90,
}

_SIDEWAYS = (5, 6, 7, 8)  # those that make height of width


class _RefusedError(Exception):
    """A file that is whole but not taken; says why, to follow its name."""


@contextlib.contextmanager
def opened_picture(data: bytes, path: Path, argument: str) -> Iterator[PilImage.Image]:
    """Open a file's bytes with Pillow; whatever goes wrong while reading is said in one line."""
    PilImage.init()
    formats = [name for name in _FORMATS if name in PilImage.OPEN]
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of large pictures; of the latter tells a note.
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
        told = " ".join(str(error).split()) or type(error).__name__
        reason = f"is damaged or truncated ({told}); get a complete copy"
    else:
        return
    raise ValueError(f"`{argument}`: {str(path)!r} {reason}")


def upright_shape(opened: PilImage.Image) -> tuple[int, int]:
    """Return the height and width that `decoded` would give, without decoding."""
    lies = _orientation(opened, []) in _SIDEWAYS
    return (opened.width, opened.height) if lies else (opened.height, opened.width)


def decoded(
    opened: PilImage.Image,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None, list[str]]:
    """Return the picture in sRGB on white, its opacity or None, and notes for people."""
    notes = [*_notes_on_file(opened)]
    orientation = _orientation(opened, notes)
    opened.load()
    upright = opened
    # Pillow turns a TIFF by itself while it loads, and clears the tag.
    if orientation in _TURNS and _orientation(opened, []) in _TURNS:
        upright = opened.transpose(_TURNS[orientation])
    colours, alpha = _split_alpha(upright)
    rgb = _to_srgb(colours, opened.info.get("icc_profile"), notes)
    if alpha is not None:
        notes.append("transparent parts laid on white")
        rgb = _over_white(rgb, alpha)
    return np.asarray(rgb, np.float32) / 255, alpha, notes


def _notes_on_file(opened: PilImage.Image) -> Iterator[str]:
    pixels = opened.width * opened.height
    if pixels > MOST_PIXELS // 2:
        yield f"large picture: {pixels / 1e6:.0f} megapixels"
    count = getattr(opened, "n_frames", 1)
    if count > 1:
        yield f"{'frame' if opened.format in _MOVING else 'picture'} 1 of {count} taken"
    if opened.mode == "F":
        yield "floating-point picture read at 8 bits"
    elif opened.mode.startswith("I") or _has_deep_colours(opened):
        yield "16-bit picture read at 8 bits"
    if opened.mode in ("CMYK", "LAB"):
        yield f"{opened.mode} converted to RGB"


def _has_deep_colours(opened: PilImage.Image) -> bool:
    # Pillow reads 16-bit colours at 8 bits without a word; what it asks of its decoders tells.
    plan = str(getattr(opened, "tile", ""))
    return ";16" in plan or (opened.format == "PPM" and "65535" in plan)


def _orientation(opened: PilImage.Image, notes: list[str]) -> int:
    try:
        orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as for damaged pictures, but the pixels may be good
        notes.append("unreadable EXIF ignored")
        return 1
    if orientation in _TURNS:
        notes.append("turned as its EXIF orientation says")
    return orientation


def _split_alpha(
    image: PilImage.Image,
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Return the colours in one of the modes L, RGB, CMYK or LAB, and the opacity."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image)
    if image.mode in ("P", "PA") or "transparency" in image.info:
        # A palette entry, or one colour, may stand for transparent.
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
    if image.mode == "F":  # two usages: white is 1, and what Pillow makes of 8 bits
        white = 1.0 if high <= 1 else 255.0
    if not (low >= 0 and high <= white):
        raise _RefusedError(
            f"holds samples from {low:g} to {high:g} and does not say which of them is white; "
            "save it with 8 or 16 bits"
        )
    grey = PilImage.fromarray(np.rint(values / white * 255).astype(np.uint8))
    key = image.info.get("transparency")
    if not isinstance(key, int) or not (values == key).any():
        return grey, None
    return grey, (values != key).astype(np.float32)


def _to_srgb(colours: PilImage.Image, profile: bytes | None, notes: list[str]) -> PilImage.Image:
    converted = _by_profile(colours, profile, notes) if profile else None
    if converted is None and colours.mode == "LAB":  # Pillow converts it by profile only
        converted = _transformed(colours, ImageCms.createProfile("LAB"))
    return converted or colours.convert("RGB")


def _by_profile(colours: PilImage.Image, profile: bytes, notes: list[str]) -> PilImage.Image | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if colours.mode == "L" and own.profile.xcolor_space.strip() == "RGB":
            colours = colours.convert("RGB")
        if colours.mode == "RGB" and _is_srgb(own):
            return None
        name = " ".join(ImageCms.getProfileDescription(own).split())[:60] or "unnamed"
        converted = _transformed(colours, own)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("unusable colour profile ignored, taken as sRGB")
        return None
    notes.append(f"colour profile {name!r} converted to sRGB")
    return converted


def _transformed(colours: PilImage.Image, profile: Any) -> PilImage.Image:
    # As browsers and photo editors do it: white becomes white and black becomes black.
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
    # By what it does: the many profiles called sRGB differ in name and bytes.
    grid = np.minimum(np.indices((9, 9, 9), np.int32).reshape(3, 27, 27) * 32, 255)
    colours = np.ascontiguousarray(np.moveaxis(grid, 0, -1).astype(np.uint8))
    converted = np.asarray(_transformed(PilImage.fromarray(colours), profile))
    return bool(np.abs(converted.astype(int) - colours).max() <= 1)


def _over_white(rgb: PilImage.Image, alpha: np.ndarray) -> PilImage.Image:
    # Back to 8 bits, so that every picture that comes from a file is exact in 8 bits.
    mixed = 255 + (np.asarray(rgb, np.float32) - 255) * alpha[..., None]
    return PilImage.fromarray(np.rint(mixed).astype(np.uint8))
