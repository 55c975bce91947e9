"""From a file's bytes to sRGB pixels: EXIF orientation, colour profiles, modes, depth, transparency.

Every conversion that may surprise the user is recorded as a note, a line of text.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, ImageCms, JpegImagePlugin, UnidentifiedImageError
from PIL import Image as PilImage

from nst_jax import _memory
from nst_jax.images import jpeg_markers, png_chunks

# Largest number of pixels of a picture that is read, as in Pillow. As float32 RGB they take 2 GB.
MOST_PIXELS = 178_956_970

# Formats that are read, by Pillow's names. Others are left out: EPS would run Ghostscript, and Pillow
# takes almost any file for a TGA. Only other packages, such as pillow-heif, register HEIF with Pillow.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "HEIF")

# Pillow's name of a format -> its name in messages, for formats where these differ.
_SPELLED = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC"}

_BLACK_TO_BLACK: Any = 0x2000  # Little CMS' black point compensation flag; no name in Pillow < 10.3

# Formats in which several pictures in one file are the frames of an animation.
_ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")


# Suffixes of the files that count as pictures when a folder is searched. `HEIC_SUFFIXES` are added only
# if Pillow has an opener for HEIC.
PICTURE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
    *(".ppm", ".pgm", ".pnm", ".avif", ".jp2"),
)
HEIC_SUFFIXES = (".heic", ".heif")

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


MOST_DPI = 30_000  # resolutions beyond it are no resolutions

# x and y of sRGB's white, red, green and blue, in the order of a PNG's cHRM chunk.
_SRGB_PRIMARIES = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)

_EXIF_IS_UNREADABLE = "nst_jax unreadable EXIF"  # our key in Pillow's `info`: the EXIF is damaged
_FULL_SIZE = "nst_jax full size"  # our key in Pillow's `info`: (width, height) before a reduction
_CODE_POINTS = "nst_jax cICP"  # our key in Pillow's `info` for the numbers in a PNG's cICP chunk
_PQ, _HLG = 16, 18  # HDR's transfer functions, by their numbers in ITU-T H.273
# Primaries and transfer functions that are read as sRGB's, by their numbers in ITU-T H.273: those that
# differ little from sRGB's, and an unspecified transfer function (2).
_LIKE_SRGB = ((1,), (1, 2, 6, 13, 14, 15))


class _RefusedError(Exception):
    """Raised for an intact file that is not accepted; the message continues after the file's name."""


@contextlib.contextmanager
def opened_picture(
    data: bytes, words: str, argument: str, *, verified: bool = True
) -> Iterator[PilImage.Image]:
    """Context manager: open a file's bytes with Pillow; any error becomes a one-line ValueError.

    Args:
      data: all bytes of the file.
      words: the file in messages, such as its path in quotes.
      argument: the caller's name for the file, for messages.
      verified: whether to check a PNG's checksums and a JPEG's end marker first. Without these checks,
        `info` lacks the text that follows a PNG's pixels until the pixels are decoded.
    """
    formats = _readable()
    try:
        with warnings.catch_warnings():
            # Pillow's warnings concern odd metadata and large pictures; `decoded` notes large pictures.
            warnings.simplefilter("ignore")
            is_png = verified and data.startswith(png_chunks.SIGNATURE)
            chunks = png_chunks.checked_chunks(data) if is_png else []
            if verified and data.startswith(b"\xff\xd8") and jpeg_markers.ends_early(data):
                raise ValueError("an end marker is in the middle of its data")
            with _opened(data, formats) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise PilImage.DecompressionBombError
                for key, value in png_chunks.late_information(chunks).items():
                    opened.info.setdefault(key, value)
                opened.info[_CODE_POINTS] = png_chunks.code_points(chunks)
                yield opened
    except UnidentifiedImageError:
        reason = _why_unidentified(data, formats)
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
    raise ValueError(f"`{argument}`: {words} {reason}")


def _opened(data: bytes, formats: list[str]) -> PilImage.Image:
    """Open a file's bytes; a JPEG of more than `MOST_PIXELS` pixels will be decoded at a smaller size.

    A JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. The largest of these that is small enough is
    chosen, whatever memory is free, so that a file always has the same pixels.
    """
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    opened: PilImage.Image
    try:
        opened = PilImage.open(io.BytesIO(data), formats=formats)
    except PilImage.DecompressionBombError:  # Pillow's own limit, before the size can be reduced
        if not is_jpeg:
            raise
        opened = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    width, height = opened.size
    if is_jpeg and width * height > MOST_PIXELS:
        divisor = next((d for d in (2, 4) if -(-width // d) * -(-height // d) <= MOST_PIXELS), 8)
        opened.draft(None, (width // divisor, height // divisor))
        opened.info[_FULL_SIZE] = width, height
    return opened


def _readable() -> list[str]:
    """Return Pillow's names of the formats that are read here."""
    PilImage.init()
    return [name for name in _FORMATS if name in PilImage.OPEN]


def suffixes() -> tuple[str, ...]:
    """Return the suffixes by which pictures are found in folders, with HEIC's if Pillow can open it."""
    # Pillow knows more suffixes, but people rarely collect pictures in those formats.
    return PICTURE_SUFFIXES + (HEIC_SUFFIXES if "HEIF" in _readable() else ())


def _why_unidentified(data: bytes, formats: list[str]) -> str:
    kind = _brand(data)
    if kind == "HEIF" and kind not in formats:
        return (
            "is a HEIC picture, for which Pillow has no opener; save it as JPEG or PNG, or in Python "
            "install pillow-heif and call `pillow_heif.register_heif_opener()` first"
        )
    if kind == "AVIF" and kind not in formats:
        return (
            "is an AVIF picture, which this version of Pillow cannot read; save it as JPEG or PNG, or "
            "upgrade Pillow to 11.3 or later"
        )
    if data.startswith((b"II*\0", b"MM\0*")):
        return (
            "is a TIFF that is damaged or truncated, or whose kind of samples or compression Pillow "
            "cannot read; save it as PNG, or as TIFF with 8 or 16 bits"
        )
    # An MPO, a file of several JPEGs, is not listed beside JPEG.
    names = [_SPELLED.get(name, name) for name in formats if name != "MPO"]
    return f"is not a picture in a known format; expected {', '.join(names[:-1])} or {names[-1]}"


def _brand(data: bytes) -> str | None:
    """Return "AVIF" or "HEIF", as Pillow names them, if a file's `ftyp` box states that; else None."""
    if data[4:8] != b"ftyp":
        return None
    end = min(int.from_bytes(data[:4], "big"), 256)
    brands = {data[at : at + 4] for at in (8, *range(16, end, 4))}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    heic = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}
    return "HEIF" if brands & heic else None


def upright_shape(opened: PilImage.Image) -> tuple[int, int]:
    """Return the height and width of the picture that `decoded` returns, without decoding it."""
    height, width = opened.height, opened.width
    if opened.format == "TIFF":  # some versions of Pillow exchange its height and width themselves
        tags: Any = opened.tag_v2  # type: ignore[attr-defined]
        height, width = tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth]
    return (width, height) if _orientation(opened, []) in _SIDEWAYS else (height, width)


def decoded(
    opened: PilImage.Image,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None, list[str]]:
    """Return the picture in sRGB, its opacity (None if opaque), and notes for the user.

    Transparent parts are composited over white.
    """
    notes = [*_notes_on_file(opened)]
    orientation = _orientation(opened, notes)
    gamma = None if opened.info.get("icc_profile") else _gamma(opened.info, notes)
    _check_memory(opened, memory_of(opened))
    low = None if gamma is None else _low_bytes(opened)
    opened.load()
    upright = opened
    # `load` turns a TIFF upright by itself and then removes its orientation tag.
    if orientation in _TURNS and _orientation(opened, []) in _TURNS:
        upright = opened.transpose(_TURNS[orientation])
        low = low and low.transpose(_TURNS[orientation])
    if upright.mode.startswith("I") or upright.mode == "F":
        colours, alpha = _from_deep_grey(upright, gamma)
        gamma = None
    else:
        colours, alpha = _split_alpha(upright)
    if low is not None and gamma is not None:
        colours = _from_deep_colours(colours, low, gamma)
        gamma = None
    rgb = _to_srgb(colours, opened.info, gamma, notes)
    if alpha is not None:
        notes.append("transparent parts composited over white")
        rgb = _over_white(rgb, alpha)
    image = np.asarray(rgb, np.float32)
    image /= 255  # in place: it may be large
    return image, alpha, notes


def resolution(opened: PilImage.Image) -> tuple[float, float] | None:
    """Return the pixels per inch, across and down, of the upright picture; None if none are stated."""
    found = opened.info.get("dpi") or _exif_resolution(opened)
    try:
        across, down = (float(one) for one in found or ())
    except (TypeError, ValueError, ZeroDivisionError):  # damaged or missing
        return None
    if not all(1 < one <= MOST_DPI for one in (across, down)):  # 1 means that it is not known
        return None
    return (down, across) if _orientation(opened, []) in _SIDEWAYS else (across, down)


def _exif_resolution(opened: PilImage.Image) -> tuple[Any, Any] | None:
    """Return the resolution that EXIF states in inches or centimetres, for formats without a field."""
    try:
        exif = PilImage.Image.getexif(opened) if opened.format == "PNG" else opened.getexif()
        across, down = exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]
        factor = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
        return float(across) * factor, float(down) * factor
    except Exception:  # damaged EXIF counts as none
        return None


def load_pixels(opened: PilImage.Image) -> None:
    """Let Pillow decode the pixels, as a test of the file, or to find the text that follows the pixels.

    A file of a few kilobytes may decode to gigabytes, so the memory is checked first.
    """
    _check_memory(opened, opened.width * opened.height * LOADED_BYTES)
    opened.load()


# The most bytes that Pillow takes for each pixel while it decodes: its picture takes 4, and what a
# decoder holds besides, such as the coefficients of a progressive JPEG, up to 10.
LOADED_BYTES = 14
# The most bytes that the coefficients of a progressive JPEG take for each pixel of the full picture:
# four channels of 2 bytes. All coefficients are kept until the whole file is read, even if the picture
# is reduced while it is decoded.
COEFFICIENT_BYTES = 8


def _check_memory(opened: PilImage.Image, needed: int) -> None:
    """Refuse a picture if decoding it takes more bytes (`needed`) than can be allocated.

    A JPEG could be reduced while it is decoded, but is refused as well: otherwise the result would
    depend on the memory that happened to be free. Whether it is reduced depends on `MOST_PIXELS` alone.
    """
    available = _memory.of_this_machine()
    if available is not None and needed > available:
        factor = math.sqrt(available / needed)
        width, height = (max(1, int(side * factor)) for side in opened.size)
        raise _RefusedError(
            f"has {opened.width}x{opened.height} px; decoding it takes {_memory.gigabytes(needed)}, "
            f"and {_memory.gigabytes(available)} is available; reduce it with another program to "
            f"{width}x{height} px at most, or stop other programs"
        )


def memory_of(opened: PilImage.Image) -> int:
    """Return the bytes that decoding takes, as far as the file's header tells."""
    pixels = opened.width * opened.height
    most = pixels * _bytes_per_pixel(opened)
    if _FULL_SIZE in opened.info and opened.info.get("progressive"):
        width, height = opened.info[_FULL_SIZE]
        most = max(most, width * height * COEFFICIENT_BYTES + pixels * LOADED_BYTES)
    return most


def _bytes_per_pixel(opened: PilImage.Image) -> int:
    """Return the most bytes that decoding takes for each pixel, as measured and rounded up."""
    most = 25  # the float32 array takes 12, Pillow's picture 4, and the conversion 9
    if opened.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in opened.info:
        most += 20
    if opened.mode.startswith("I") or opened.mode == "F":
        most += 8
    if _has_deep_colours(opened):
        most += 12
    if _orientation(opened, []) in _TURNS:
        most += 4
    if opened.format in ("WEBP", "AVIF", "JPEG2000", "HEIF"):  # their decoders hold a copy
        most += 10
    return most


def _notes_on_file(opened: PilImage.Image) -> Iterator[str]:
    pixels = opened.width * opened.height
    if full := opened.info.get(_FULL_SIZE):
        yield f"{full[0]}x{full[1]} px are too many; read at {opened.width}x{opened.height} px"
    elif pixels > MOST_PIXELS // 2:
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
        # Pillow's method for PNG would decode the pixels to find EXIF after them, but `opened_picture`
        # has already found it.
        exif = PilImage.Image.getexif(opened) if opened.format == "PNG" else opened.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises anything on damaged EXIF; the pixels may still be intact
        opened.info[_EXIF_IS_UNREADABLE] = True  # a second attempt would find no EXIF and not raise
    if _EXIF_IS_UNREADABLE in opened.info:
        notes.append("unreadable EXIF ignored")
        return 1
    if orientation in _TURNS:
        notes.append("turned as its EXIF orientation says")
    return orientation


def _split_alpha(
    image: PilImage.Image,
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Return the colours in mode L, RGB, CMYK or LAB, and the opacity (None if opaque)."""
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
    image: PilImage.Image, gamma: float | None
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Return a grey picture of more than 8 bits, converted to sRGB in mode L, and its opacity.

    Without a gamma, the samples count as sRGB. The opacity is None if every pixel is opaque.
    """
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
    # Rounded only after the conversion: near black, one step of 8-bit samples may be several in sRGB.
    levels = np.empty(values.shape, np.uint8)
    for row, samples in zip(levels, values / white, strict=True):  # by rows, to save memory
        row[:] = np.rint((samples if gamma is None else _gamma_to_srgb(samples, gamma)) * 255)
    grey = PilImage.fromarray(levels)
    key = image.info.get("transparency")
    if not isinstance(key, int) or not (values == key).any():
        return grey, None
    return grey, (values != key).astype(np.float32)


def _low_bytes(opened: PilImage.Image) -> PilImage.Image | None:
    """Return the low bytes of a PNG's 16-bit colours; None for other pictures.

    Of each 16-bit sample, Pillow keeps only the high byte. Told the opposite byte order, it keeps the
    low byte instead.
    """
    tiles: Any = getattr(opened, "tile", ())
    if opened.format != "PNG" or len(tiles) != 1 or tiles[0][3] not in ("RGB;16B", "RGBA;16B"):
        return None
    file: Any = opened.fp  # type: ignore[attr-defined]
    again: Any = PilImage.open(io.BytesIO(file.getvalue()), formats=["PNG"])
    with again:
        codec, box, offset, order = tiles[0]
        again.tile = [(codec, box, offset, order.replace("16B", "16L"))]
        return again.convert("RGB")


def _from_deep_colours(high: PilImage.Image, low: PilImage.Image, gamma: float) -> PilImage.Image:
    """Return 16-bit colours, given by their high and low bytes, converted to sRGB in mode RGB."""
    table = np.rint(255 * _gamma_to_srgb(np.arange(65536) / 65535, gamma)).astype(np.uint8)
    found = np.array(high.convert("RGB"))
    for row, below in zip(found, np.asarray(low), strict=True):  # by rows, to save memory
        row[:] = table[row.astype(np.uint16) << 8 | below]
    return PilImage.fromarray(found)


def _to_srgb(
    colours: PilImage.Image, info: Mapping[Any, Any], gamma: float | None, notes: list[str]
) -> PilImage.Image:
    """Return colours in sRGB, converted from their profile or from `gamma`, if they have either."""
    converted = None
    if profile := info.get("icc_profile"):
        converted = _with_profile(colours, profile, notes)
    elif gamma is not None:
        levels = np.rint(255 * _gamma_to_srgb(np.linspace(0, 1, 256), gamma)).astype(int).tolist()
        converted = colours.point(levels * len(colours.getbands())).convert("RGB")
    if converted is None and colours.mode == "LAB":  # Pillow converts LAB only with a profile
        converted = _transformed(colours, ImageCms.createProfile("LAB"))
    return converted or colours.convert("RGB")


def _gamma(info: Mapping[Any, Any], notes: list[str]) -> float | None:
    """Return the gamma from which a PNG has to be converted to sRGB; None if it is not converted.

    Samples are light to the power of the gamma. A cICP chunk overrides the gamma, and colours that it
    defines are not converted; primaries (cHRM) are ignored. If either differs from sRGB, a note is
    added to `notes`.
    """
    gamma = info.get("gamma")
    points = info.get(_CODE_POINTS)
    if points is not None:  # a cICP chunk overrides a gamma
        primaries, transfer = points
        if not (primaries in _LIKE_SRGB[0] and transfer in _LIKE_SRGB[1]):
            kind = "HDR colours" if transfer in (_PQ, _HLG) else "colours of another space"
            notes.append(
                f"{kind} (cICP {primaries}, {transfer}) read as sRGB, so they look different"
            )
        return None
    if "srgb" in info:
        return None
    stated = info.get("chromaticity")
    if stated and np.abs(np.subtract(stated, _SRGB_PRIMARIES)).max() > 0.01:
        notes.append("primaries that are not sRGB's (cHRM) ignored, so colours may look different")
    # PNGs state 1/2.2 as sRGB's gamma. Like libpng, this ignores differences of less than 5 %.
    if not gamma or abs(gamma * 2.2 - 1) < 0.05:
        return None
    notes.append(f"gamma {gamma:g} converted to sRGB")
    return gamma


def _gamma_to_srgb(samples: Float[np.ndarray, "..."], gamma: float) -> Float[np.ndarray, "..."]:
    """Return sRGB in [0, 1] from samples in [0, 1] that are light to the power of `gamma`."""
    light = samples ** (1 / gamma)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


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
    # White is mapped to white and black to black, as in browsers and photo editors.
    converted = ImageCms.profileToProfile(
        colours,
        profile,
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=_BLACK_TO_BLACK,
    )
    assert converted is not None  # only a conversion in place returns None
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    # There are many sRGB profiles, which differ in name and bytes. So a profile counts as sRGB if it
    # changes no colour of a grid by more than one 8-bit level.
    grid = np.minimum(np.indices((9, 9, 9), np.int32).reshape(3, 27, 27) * 32, 255)
    colours = np.ascontiguousarray(np.moveaxis(grid, 0, -1).astype(np.uint8))
    converted = np.asarray(_transformed(PilImage.fromarray(colours), profile))
    return bool(np.abs(converted.astype(int) - colours).max() <= 1)


def _over_white(rgb: PilImage.Image, alpha: np.ndarray) -> PilImage.Image:
    # Rounded, so that every picture from a file is exactly representable in 8 bits.
    mixed = 255 + (np.asarray(rgb, np.float32) - 255) * alpha[..., None]
    return PilImage.fromarray(np.rint(mixed).astype(np.uint8))
