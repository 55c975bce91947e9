"""Decode a file's bytes to sRGB pixels, whatever its orientation, colour profile, depth or opacity.

`decoded` returns the pixels, the opacity, and a note (one line of text) for every conversion that may
surprise the user.
"""

import contextlib
import io
import math
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import ExifTags, JpegImagePlugin, UnidentifiedImageError
from PIL import Image as PilImage

from nst_jax import _memory
from nst_jax.images import jpeg_markers, png_chunks
from nst_jax.images.srgb import CODE_POINTS, gamma_of, gamma_to_srgb, to_srgb

# Largest number of pixels that are read, which is also the limit beyond which Pillow raises an error.
# As float32 RGB, this many pixels take 2 GB. A JPEG with more pixels is decoded at a smaller size;
# pictures of other formats are refused if they have more.
MOST_PIXELS = 178_956_970

# Formats that are read, by Pillow's names. Pillow can read more, but some are risky: for an EPS it runs
# Ghostscript, and almost any file counts as a TGA. HEIF can be read only after another package, such as
# pillow-heif, has registered an opener with Pillow.
_FORMATS = ("PNG", "JPEG", "MPO", "GIF", "BMP", "PPM", "WEBP", "TIFF", "AVIF", "JPEG2000", "HEIF")

# Pillow's name of a format -> its name in messages, for formats where these differ.
_SPELLED = {"WEBP": "WebP", "JPEG2000": "JPEG 2000", "HEIF": "HEIC"}

# Formats in which several pictures in one file are the frames of an animation; notes for the user call
# them frames. In other formats, such as TIFF, they are separate pictures.
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

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width

# Largest resolution that is read or written, in pixels per inch. It is far above what printers need,
# and below 65,535, the largest number that JPEG's field can hold. A higher resolution in a file is
# ignored: a result gets its content's resolution, and writing refuses one above this limit.
MOST_DPI = 30_000

# Keys under which this module adds facts of its own to `info`, the dictionary of an opened picture in
# which Pillow collects what the file states.
_EXIF_IS_UNREADABLE = "nst_jax unreadable EXIF"  # present if the EXIF is damaged
_FULL_SIZE = "nst_jax full size"  # (width, height) of a JPEG that is decoded at a smaller size


class _RefusedError(Exception):
    """Raised for a file that is intact but not accepted, such as one that takes too much memory.

    The text of this error begins with a verb, such as "has": `opened_picture` puts the file's name
    before it.
    """


@contextlib.contextmanager
def opened_picture(
    data: bytes, words: str, argument: str, *, verified: bool = True
) -> Iterator[PilImage.Image]:
    """Open a file's bytes with Pillow, as a context manager.

    Args:
      data: all bytes of the file.
      words: what error messages call the file, such as its path in quotes.
      argument: name of the argument that gave the file, for error messages.
      verified: whether to check a PNG's checksums and a JPEG's end marker first. Without these checks,
        Pillow's dictionary `info` lacks text and EXIF that come after a PNG's pixels, until the pixels
        are decoded. It also lacks the colour space that a PNG's cICP chunk names.

    Yields:
      The opened picture, whose pixels are not decoded yet.

    Raises:
      ValueError: in place of any error, even one that is raised inside the `with` block; its message
        has one line.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata, which is harmless here, and of large pictures, for which
            # `decoded` returns a note.
            warnings.simplefilter("ignore")
            is_png = verified and data.startswith(png_chunks.SIGNATURE)
            chunks = png_chunks.checked_chunks(data) if is_png else []
            if verified and data.startswith(b"\xff\xd8") and jpeg_markers.ends_early(data):
                raise ValueError("an end marker is in the middle of its data")
            with _opened(data) as opened:
                if opened.width * opened.height > MOST_PIXELS:
                    raise PilImage.DecompressionBombError
                for key, value in png_chunks.late_information(chunks).items():
                    opened.info.setdefault(key, value)
                opened.info[CODE_POINTS] = png_chunks.code_points(chunks)
                yield opened
    except UnidentifiedImageError:
        reason = _why_unidentified(data, _readable())
    except PilImage.DecompressionBombError:
        reason = (
            f"would decode to more than {MOST_PIXELS // 10**6} megapixels; "
            "reduce it with another program first"
        )
    except _RefusedError as error:
        reason = str(error)
    except Exception as error:  # on a damaged file, Pillow may raise any kind of error
        problem = " ".join(str(error).split()) or type(error).__name__
        reason = f"is damaged or truncated ({problem}); get a complete copy"
    else:
        return
    raise ValueError(f"`{argument}`: {words} {reason}")


def _opened(data: bytes) -> PilImage.Image:
    """Open a file's bytes; let a JPEG of more than `MOST_PIXELS` pixels be decoded at a smaller size.

    The sides become 1/2, 1/4 or 1/8 as long: the longest that give at most `MOST_PIXELS` pixels, or 1/8
    if none does. This does not depend on the free memory, so that a file always gives the same pixels.
    """
    is_jpeg = data.startswith(b"\xff\xd8\xff")
    opened: PilImage.Image
    # Pillow opens JPEG and PNG without further imports. For other formats it first imports dozens of
    # modules, which takes longer than opening the picture.
    is_png = data.startswith(png_chunks.SIGNATURE)
    formats = ["JPEG"] if is_jpeg else ["PNG"] if is_png else _readable()
    try:
        opened = PilImage.open(io.BytesIO(data), formats=formats)
    except PilImage.DecompressionBombError:
        if not is_jpeg:
            raise
        # `PilImage.open` raises this error before `draft` could request a smaller size. `jpeg_factory`
        # does not check the size.
        opened = JpegImagePlugin.jpeg_factory(io.BytesIO(data))
    width, height = opened.size
    if is_jpeg and width * height > MOST_PIXELS:
        divisor = next((d for d in (2, 4) if -(-width // d) * -(-height // d) <= MOST_PIXELS), 8)
        opened.draft(None, (width // divisor, height // divisor))
        opened.info[_FULL_SIZE] = width, height
    return opened


def _readable() -> list[str]:
    """Return those of `_FORMATS` that the installed Pillow can open."""
    PilImage.init()
    return [name for name in _FORMATS if name in PilImage.OPEN]


def suffixes() -> tuple[str, ...]:
    """Return the suffixes by which pictures are found in folders; HEIC's only if Pillow can open it."""
    # Pillow knows the suffixes of more formats, but folders rarely have pictures in those formats.
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
    # MPO, a format of several JPEGs in one file, is left out of the list: its users know it as JPEG.
    names = [_SPELLED.get(name, name) for name in formats if name != "MPO"]
    return f"is not a picture in a known format; expected {', '.join(names[:-1])} or {names[-1]}"


def _brand(data: bytes) -> str | None:
    """Return "AVIF" or "HEIF" if the `ftyp` box at a file's start names this format; else None."""
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
    # Some versions of Pillow exchange the height and width of a sideways TIFF when it is opened. The
    # file's tags have them as they are stored.
    if opened.format == "TIFF":
        tags: Any = opened.tag_v2  # type: ignore[attr-defined]
        height, width = tags[ExifTags.Base.ImageLength], tags[ExifTags.Base.ImageWidth]
    return (width, height) if _orientation(opened, []) in _SIDEWAYS else (height, width)


def decoded(
    opened: PilImage.Image,
) -> tuple[Float[np.ndarray, "h w 3"], Float[np.ndarray, "h w"] | None, list[str]]:
    """Decode an opened picture: turn it upright, convert it to sRGB, and separate its opacity.

    It is called in the `with` block of `opened_picture`, which turns all errors into a ValueError.

    Returns:
      The picture, [h, w, 3] float32 in [0, 1], with transparent parts composited over white; its
      opacity, [h, w] from 0 to 1, or None if it is opaque; and notes for the user, one line each.
    """
    notes = [*_notes_on_file(opened)]
    orientation = _orientation(opened, notes)
    gamma = None if opened.info.get("icc_profile") else gamma_of(opened.info, notes)
    _check_samples(opened)
    _check_memory(opened, memory_of(opened))
    _scale_transparent_shade(opened)
    exact = gamma is not None or "transparency" in opened.info
    low = _low_bytes(opened) if exact else None
    opened.load()
    upright = opened
    # `load` has already turned a TIFF upright and removed its orientation tag. So the tag is read
    # again, and only a picture that still has it is turned here.
    if orientation in _TURNS and _orientation(opened, []) in _TURNS:
        upright = opened.transpose(_TURNS[orientation])
        low = low and low.transpose(_TURNS[orientation])
    if upright.mode.startswith("I") or upright.mode == "F":
        white_is_zero = _tag(opened, ExifTags.Base.PhotometricInterpretation, 0) == 0
        white = 4095 if _has_12_bits(opened) else 65535
        colours, alpha = _from_deep_grey(upright, gamma, white, inverted=white_is_zero)
        gamma = None
    elif low is not None and isinstance(upright.info.get("transparency"), tuple):
        colours, alpha = upright, _opacity_of_deep(upright, low)
    else:
        colours, alpha = _split_alpha(upright)
    if low is not None and gamma is not None:
        colours = _from_deep_colours(colours, low, gamma)
        gamma = None
    rgb = to_srgb(colours, opened.info, gamma, notes)
    if alpha is not None:
        notes.append("transparent parts read as white")
        rgb = _over_white(rgb, alpha)
    image = np.asarray(rgb, np.float32)
    image /= 255  # in place, since a second copy of a large picture would take much memory
    return image, alpha, notes


def resolution(opened: PilImage.Image) -> tuple[float, float] | None:
    """Return the pixels per inch, across and down, of the picture turned upright; None if not known."""
    found = opened.info.get("dpi") or _exif_resolution(opened)
    try:
        across, down = (float(one) for one in found or ())
    except (TypeError, ValueError, ZeroDivisionError):  # the resolution is damaged or missing
        return None
    if not all(1 < one <= MOST_DPI for one in (across, down)):  # files state 1 for "not known"
        return None
    return (down, across) if _orientation(opened, []) in _SIDEWAYS else (across, down)


def _exif_resolution(opened: PilImage.Image) -> tuple[Any, Any] | None:
    """Return the pixels per inch, across and down, that EXIF states; None if it states none.

    `resolution` calls this function only if Pillow's `Image.info` has no `dpi`, for instance because
    the file's format has no field of its own for the resolution.
    """
    try:
        exif = PilImage.Image.getexif(opened) if opened.format == "PNG" else opened.getexif()
        across, down = exif[ExifTags.Base.XResolution], exif[ExifTags.Base.YResolution]
        factor = {2: 1.0, 3: 2.54}[exif.get(ExifTags.Base.ResolutionUnit, 2)]
        return float(across) * factor, float(down) * factor
    except Exception:  # EXIF that is damaged or lacks these tags states no resolution
        return None


def load_pixels(opened: PilImage.Image) -> None:
    """Let Pillow decode the pixels, to detect damage, or to reach metadata that follow them in a PNG.

    A file of a few kilobytes may decode to gigabytes, so the memory is checked first.
    """
    _check_memory(opened, opened.width * opened.height * LOADED_BYTES)
    opened.load()


# The most bytes that Pillow takes for each pixel while it decodes: 4 for the pixel itself, and up to 10
# for other data of the decoder, such as the coefficients of a progressive JPEG.
LOADED_BYTES = 14
# The most bytes that the coefficients of a progressive JPEG take for each pixel of the full picture:
# four channels of 2 bytes. All coefficients are kept until the whole file is read, even if the picture
# is reduced while it is decoded.
COEFFICIENT_BYTES = 8


def _check_memory(opened: PilImage.Image, needed: int) -> None:
    """Refuse a picture if decoding it takes more bytes (`needed`) than can be allocated.

    A JPEG is refused, too, although it could be decoded at a smaller size: its pixels must not depend
    on the memory that happens to be free.
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
    """Estimate from a file's header how many bytes of memory `decoded` will take at most."""
    pixels = opened.width * opened.height
    most = pixels * _bytes_per_pixel(opened)
    if _FULL_SIZE in opened.info and opened.info.get("progressive"):
        width, height = opened.info[_FULL_SIZE]
        most = max(most, width * height * COEFFICIENT_BYTES + pixels * LOADED_BYTES)
    return most


def _bytes_per_pixel(opened: PilImage.Image) -> int:
    """Return how many bytes per pixel it takes at most to decode this picture.

    The numbers in this function were measured and rounded up.
    """
    most = 25  # the float32 array that is returned takes 12, Pillow's picture 4, the conversion 9
    if opened.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in opened.info:
        most += 20
    if opened.mode.startswith("I") or opened.mode == "F":
        most += 8
    if _has_deep_colours(opened):
        most += 12
    if _orientation(opened, []) in _TURNS:
        most += 4
    if opened.format in ("WEBP", "AVIF", "JPEG2000", "HEIF"):
        most += 10  # the decoders of these formats keep a copy of the picture
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
        yield f"{12 if _has_12_bits(opened) else 16}-bit picture read at 8 bits"
    if opened.mode in ("CMYK", "LAB"):
        yield f"{opened.mode} converted to RGB"


def _has_deep_colours(opened: PilImage.Image) -> bool:
    # Pillow silently reads 16-bit colours at 8 bits. Only the arguments of its decoders, which are in
    # `tile`, show the file's own depth. A PPM's decoder has the number that stands for white. A BMP has
    # 16 bits for all three colours of a pixel.
    tiles: Any = getattr(opened, "tile", ())
    if opened.format == "PPM":
        return any(isinstance(one, int) and one > 255 for tile in tiles for one in tile[3])
    return opened.format != "BMP" and ";16" in str(tiles)


def _tag(opened: PilImage.Image, tag: int, default: Any) -> Any:
    """Return the value of a tag of a TIFF, or `default` if it is missing; None for other formats."""
    tags: Any = getattr(opened, "tag_v2", {})
    return tags.get(tag, default) if opened.format == "TIFF" else None


def _has_12_bits(opened: PilImage.Image) -> bool:
    # Pillow keeps the samples of a 12-bit TIFF as they are, in a picture of 16 bits (mode I;16).
    return _tag(opened, ExifTags.Base.BitsPerSample, (1,)) == (12,)


def _check_samples(opened: PilImage.Image) -> None:
    """Refuse a TIFF whose samples Pillow reads as if they were of another kind.

    Signed samples of 32 bits are not refused here: Pillow writes its mode I so, with 65535 as white.
    """
    bits = _tag(opened, ExifTags.Base.BitsPerSample, (1,))
    if not bits:  # not a TIFF
        return
    if 2 in _tag(opened, ExifTags.Base.SampleFormat, (1,)) and bits[0] < 32:
        raise _RefusedError(
            f"has signed samples of {bits[0]} bits and does not say which of them is white; "
            "save it with unsigned samples of 8 or 16 bits"
        )
    if opened.info.get("compression") != "raw" or len(bits) == 1:
        return
    if opened.mode == "YCbCr" and _tag(opened, ExifTags.Base.YCbCrSubSampling, (1, 1)) != (1, 1):
        raise _RefusedError(
            "has colours of fewer pixels than its brightness (YCbCr) without compression, which Pillow "
            "reads wrongly; save it as RGB, or as PNG"
        )
    # Pillow reads the bytes of such planes as samples of 8 bits.
    if _tag(opened, ExifTags.Base.PlanarConfiguration, 1) == 2 and bits[0] == 16:
        raise _RefusedError(
            "has colours of 16 bits in separate planes without compression, which Pillow reads "
            "wrongly; save it with interleaved colours, or as PNG"
        )


def _scale_transparent_shade(opened: PilImage.Image) -> None:
    """Scale the transparent shade of a grey PNG of 2 or 4 bits, in place, as Pillow scales its samples.

    Pillow multiplies the samples, so that white is 255, but leaves this shade as it is in the file.
    """
    shade, tiles = opened.info.get("transparency"), getattr(opened, "tile", ())
    most = {"L;2": 3, "L;4": 15}.get(tiles[0][3] if tiles else "")
    if opened.format == "PNG" and most and isinstance(shade, int):
        opened.info["transparency"] = (shade & most) * (255 // most)


def _orientation(opened: PilImage.Image, notes: list[str]) -> int:
    try:
        # For a PNG, `opened.getexif` would decode the pixels, to look for EXIF behind them. Such EXIF
        # is in `opened.info` already, thanks to `opened_picture`. So the method of the base class is
        # called, which does not decode.
        exif = PilImage.Image.getexif(opened) if opened.format == "PNG" else opened.getexif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
    except Exception:  # damaged EXIF may raise any kind of error; the pixels may still be intact
        # The error is recorded, since a second call of `getexif` would find no EXIF and raise no error.
        opened.info[_EXIF_IS_UNREADABLE] = True
    if _EXIF_IS_UNREADABLE in opened.info:
        notes.append("unreadable EXIF ignored")
        return 1
    if orientation in _TURNS:
        notes.append("turned as its EXIF orientation says")
    return orientation


def _split_alpha(
    image: PilImage.Image,
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Return a picture's colours in mode L, RGB, CMYK or LAB, and its opacity (None if opaque)."""
    if image.mode in ("P", "PA") or "transparency" in image.info:
        # The picture may declare one of its colours, or one entry of its palette, to be transparent.
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    if image.mode in ("RGBA", "RGBa", "LA", "La"):
        image = image.convert("RGBA" if image.mode.startswith("RGB") else "LA")
        alpha = np.asarray(image.getchannel("A"), np.float32) / 255
        return image.convert(image.mode[:-1]), None if (alpha == 1).all() else alpha
    if image.mode in ("L", "RGB", "CMYK", "LAB"):
        return image, None
    return image.convert("L" if image.mode == "1" else "RGB"), None


def _from_deep_grey(
    image: PilImage.Image, gamma: float | None, white: float, *, inverted: bool
) -> tuple[PilImage.Image, Float[np.ndarray, "h w"] | None]:
    """Convert a grey picture of more than 8 bits to 8-bit grey (mode L), and get its opacity.

    The file may name one value of samples as transparent: the opacity is 0 at pixels with this value,
    and 1 elsewhere. The opacity is None if every pixel is opaque.

    Args:
      image: a picture of mode F, I, or a kind of I such as I;16.
      gamma: the exponent with which the file encodes intensities; the samples are then also converted
        to sRGB. If it is None, they are only scaled and rounded.
      white: the largest integer that a sample can be.
      inverted: whether 0 is white, and `white` black.
    """
    values = np.asarray(image, np.float64)
    low, high = float(np.min(values)), float(np.max(values))
    if image.mode == "F":  # floating point: white is 1, or 255 for samples made from 8 bits
        white = 1.0 if high <= 1 else 255.0
    if not (low >= 0 and high <= white):
        raise _RefusedError(
            f"has samples from {low:g} to {high:g} and does not say which of them is white; "
            "save it with 8 or 16 bits"
        )
    # Samples are rounded to 8 bits only after the conversion by gamma: near black, one 8-bit level of
    # the samples may span several levels of sRGB.
    levels = np.empty(values.shape, np.uint8)
    for row, samples in zip(levels, values / white, strict=True):  # row by row, to save memory
        samples = 1 - samples if inverted else samples
        row[:] = np.rint((samples if gamma is None else gamma_to_srgb(samples, gamma)) * 255)
    grey = PilImage.fromarray(levels)
    key = image.info.get("transparency")
    if not isinstance(key, int) or not (values == key).any():
        return grey, None
    return grey, (values != key).astype(np.float32)


def _low_bytes(opened: PilImage.Image) -> PilImage.Image | None:
    """Return a picture of the low bytes of a PNG's 16-bit colours; None for other pictures.

    Pillow keeps only the high byte of each 16-bit sample. The low byte is needed, too, so that the
    conversion from the file's gamma to sRGB is accurate near black. Pillow notes the order of the two
    bytes in the attribute `tile`. So the file is opened again with the opposite order in `tile`: then
    Pillow keeps the low byte instead.
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


def _opacity_of_deep(high: PilImage.Image, low: PilImage.Image) -> Float[np.ndarray, "h w"] | None:
    """Return the opacity of 16-bit colours of which the file declares one to be transparent.

    All bits of a pixel must agree with that colour. The opacity is None if every pixel is opaque.

    Args:
      high: an RGB picture of the high bytes, whose `info` has the colour.
      low: an RGB picture of the low bytes.
    """
    colour = np.array(high.info["transparency"])
    alpha = np.empty((high.height, high.width), np.float32)
    rows = zip(alpha, np.asarray(high), np.asarray(low), strict=True)
    for row, above, below in rows:  # row by row, to save memory
        row[:] = (above != colour >> 8).any(axis=-1) | (below != colour & 255).any(axis=-1)
    return None if (alpha == 1).all() else alpha


def _from_deep_colours(high: PilImage.Image, low: PilImage.Image, gamma: float) -> PilImage.Image:
    """Convert 16-bit colours to 8-bit sRGB.

    Args:
      high: an RGB picture of the high bytes.
      low: an RGB picture of the low bytes.
      gamma: the exponent with which the file encodes intensities.
    """
    table = np.rint(255 * gamma_to_srgb(np.arange(65536) / 65535, gamma)).astype(np.uint8)
    found = np.array(high.convert("RGB"))
    for row, below in zip(found, np.asarray(low), strict=True):  # row by row, to save memory
        row[:] = table[row.astype(np.uint16) << 8 | below]
    return PilImage.fromarray(found)


def _over_white(rgb: PilImage.Image, alpha: np.ndarray) -> PilImage.Image:
    # The mixture is rounded to 8 bits, like all pictures that are read from files.
    mixed = 255 + (np.asarray(rgb, np.float32) - 255) * alpha[..., None]
    return PilImage.fromarray(np.rint(mixed).astype(np.uint8))
