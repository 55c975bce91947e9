"""Files to pictures and back: colour profile, orientation, alpha, bit depth, metadata, samples.

The only room that uses Pillow. A picture read here follows the image convention of `_types`: float32,
sRGB-encoded, [0, 1], channels last, on the host. Everything a file may say differently (orientation,
profile, CMYK, palette, 16 bits, transparency) is settled on the way in and told in `Picture.notes`.
"""

import contextlib
import hashlib
import io
import json
import os
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import PIL.Image as pil
from jaxtyping import Float, UInt8
from PIL import ExifTags, ImageCms, ImageOps, PngImagePlugin, UnidentifiedImageError

from nst_jax import checks

HostImage = Float[np.ndarray, "h w 3"]  # sRGB in [0, 1]
PathLike = str | os.PathLike[str]

# Decoding more than this is refused: the bomb limit that Pillow only warns at.
MOST_PIXELS = 178_956_970
KEYWORD = "nst_jax"  # of the PNG text chunk, and the prefix of our EXIF comment
_USER_COMMENT = ExifTags.Base.UserComment
_UNICODE = b"UNICODE\0"


class Picture(NamedTuple):
    """A picture as read from a file."""

    image: HostImage
    alpha: Float[np.ndarray, "h w"] | None  # 1 is opaque; None if the file has no transparency
    notes: tuple[str, ...]  # what was converted on the way, for people
    name: str  # the file's name, never its folder
    digest: str  # sha256 of the file's bytes


# --- Reading --------------------------------------------------------------------------------------


def load(path: PathLike, *, argument: str = "path") -> HostImage:
    """Read a picture as an array.

    Args:
      path: a PNG, JPEG, WebP, TIFF, GIF, BMP or other file that Pillow reads.
      argument: how the caller calls the value, for messages.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1]; transparent parts lie on white.

    Raises:
      ValueError: as in `read`.

    Example:
      >>> import tempfile, pathlib
      >>> import nst_jax as nst
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "cat.png"
      >>> nst.images.save(path, nst.images.sample("chelsea"))
      >>> nst.images.load(path).shape
      (300, 451, 3)
    """
    return read(path, argument=argument).image


def read(path: PathLike, *, argument: str = "path") -> Picture:
    """Read a picture with everything its file says of it.

    The EXIF orientation is applied; an embedded colour profile is converted to sRGB; CMYK, palette,
    grey and 16-bit pictures become 8-bit RGB; of an animation the first frame is taken. Colours
    under transparency are composited over white, so that what was hidden does not come through.

    Args:
      path: the file.
      argument: how the caller calls the value, for messages.

    Returns:
      A `Picture`.

    Raises:
      ValueError: if the file is missing, a folder, empty, truncated, no picture, or has too many
        pixels to be decoded.

    Example:
      >>> from nst_jax import images
      >>> images.read(images.SAMPLES["chelsea"]).name
      'chelsea.jpg'
    """
    data = _bytes_of(Path(path), argument)
    with _one_line_errors(Path(path), argument), pil.open(io.BytesIO(data)) as opened:
        _check_pixels(opened)
        notes = list(_notes_on_file(opened, data))
        opened.load()
        upright = _upright(opened, notes)
        colours, alpha = _split_alpha(upright, notes)
        image = _over_white(_to_srgb(colours, upright, notes), alpha)
    return Picture(image, alpha, tuple(notes), Path(path).name, hashlib.sha256(data).hexdigest())


def _bytes_of(path: Path, argument: str) -> bytes:
    if path.is_dir():
        raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name one picture in it")
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"`{argument}`: there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"`{argument}`: cannot read {str(path)!r}: {reason}") from None
    if not data:
        raise ValueError(f"`{argument}`: {str(path)!r} is empty; is its download complete?")
    return data


@contextlib.contextmanager
def _one_line_errors(path: Path, argument: str) -> Iterator[None]:
    try:
        with warnings.catch_warnings():
            # Pillow warns of odd metadata and of large pictures; the latter is checked by ourselves.
            warnings.simplefilter("ignore")
            yield
    except UnidentifiedImageError:
        raise ValueError(
            f"`{argument}`: {str(path)!r} is not a picture in a known format; "
            "expected PNG, JPEG, WebP, TIFF, GIF or BMP"
        ) from None
    except pil.DecompressionBombError:
        raise _too_large(path, argument) from None
    except _TooManyPixelsError:
        raise _too_large(path, argument) from None
    except (OSError, SyntaxError, EOFError, ValueError, IndexError, KeyError, TypeError) as error:
        # Pillow's readers raise any of these on damaged files.
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"`{argument}`: {str(path)!r} is damaged or truncated ({reason}); get a complete copy"
        ) from None


class _TooManyPixelsError(Exception):
    pass


def _too_large(path: Path, argument: str) -> ValueError:
    return ValueError(
        f"`{argument}`: {str(path)!r} would decode to more than {MOST_PIXELS // 10**6} megapixels; "
        "resize it with another program first"
    )


def _check_pixels(opened: pil.Image) -> None:
    if opened.width * opened.height > MOST_PIXELS:
        raise _TooManyPixelsError


def _notes_on_file(opened: pil.Image, data: bytes) -> Iterator[str]:
    frames = getattr(opened, "n_frames", 1)
    if frames > 1:
        yield f"frame 1 of {frames} taken"
    if opened.mode.startswith(("I", "F")) or _is_deep_png(data):
        yield "16-bit picture read at 8 bits" if opened.mode != "F" else "float picture read at 8 bits"
    if opened.mode == "CMYK":
        yield "CMYK converted to RGB"


def _is_deep_png(data: bytes) -> bool:
    # Pillow reads 16-bit colour PNGs as 8 bits without saying so; the header's byte 24 is the depth.
    return data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) > 24 and data[24] == 16


def _upright(opened: pil.Image, notes: list[str]) -> pil.Image:
    orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    if orientation in range(2, 9):
        notes.append("turned as its EXIF orientation says")
        turned = ImageOps.exif_transpose(opened)
        turned.info.setdefault("icc_profile", opened.info.get("icc_profile"))
        return turned
    return opened


def _split_alpha(
    image: pil.Image, notes: list[str]
) -> tuple[pil.Image, Float[np.ndarray, "h w"] | None]:
    """Return the colours in one of the modes L, RGB, CMYK or LAB, and the transparency."""
    if image.mode.startswith("I") or image.mode == "F":
        return _from_deep_grey(image), None
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


def _from_deep_grey(image: pil.Image) -> pil.Image:
    values = np.asarray(image, np.float64)
    if image.mode == "F" and values.max(initial=0) <= 1.0:
        scale = 1.0  # the usual meaning of a float picture
    else:
        scale = 65535.0 if values.max(initial=0) > 255 or image.mode != "F" else 255.0
    return pil.fromarray(np.round(np.clip(values / scale, 0, 1) * 255).astype(np.uint8))


def _to_srgb(colours: pil.Image, source: pil.Image, notes: list[str]) -> HostImage:
    profile = source.info.get("icc_profile")
    converted = _by_profile(colours, profile, notes) if profile else None
    rgb = converted or colours.convert("RGB")
    return np.asarray(rgb, np.float32) / 255


def _by_profile(colours: pil.Image, profile: bytes, notes: list[str]) -> pil.Image | None:
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        name = " ".join(ImageCms.getProfileDescription(own).split()) or "unnamed"
        if name.startswith("sRGB") and colours.mode == "RGB":
            return None
        if colours.mode == "L" and own.profile.xcolor_space.strip() != "GRAY":
            colours = colours.convert("RGB")
        converted = ImageCms.profileToProfile(
            colours, own, ImageCms.createProfile("sRGB"), outputMode="RGB"
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("unusable colour profile ignored")
        return None
    notes.append(f"colour profile {name!r} converted to sRGB")
    return converted


def _over_white(image: HostImage, alpha: np.ndarray | None) -> HostImage:
    if alpha is None:
        return image
    return image * alpha[..., None] + (1 - alpha[..., None])


# --- Eight bits -----------------------------------------------------------------------------------


def to_uint8(image: Any) -> UInt8[np.ndarray, "h w 3"]:
    """Round an image [h, w, 3] in [0, 1] to 8 bits; values beyond are clipped."""
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return array
    return np.round(np.clip(array, 0, 1) * 255).astype(np.uint8)


def pillow_bilinear(image: Any, shape: tuple[int, int]) -> HostImage:
    """Resize the 8-bit picture to (height, width) with Pillow's BILINEAR."""
    return _resized8(image, shape, pil.Resampling.BILINEAR)


def pillow_bicubic(image: Any, shape: tuple[int, int]) -> HostImage:
    """Resize the 8-bit picture to (height, width) with Pillow's BICUBIC."""
    return _resized8(image, shape, pil.Resampling.BICUBIC)


def _resized8(image: Any, shape: tuple[int, int], how: pil.Resampling) -> HostImage:
    height, width = shape
    resized = pil.fromarray(to_uint8(image)).resize((width, height), how)
    return np.asarray(resized, np.float32) / 255


# --- Writing --------------------------------------------------------------------------------------


def check_output(path: PathLike, *, overwrite: bool = True, argument: str = "output") -> None:
    """Refuse an output that could not be written, before any work is done for it.

    Args:
      path: where a picture shall go.
      overwrite: whether it may replace a file.
      argument: how the caller calls the value, for messages.

    Raises:
      ValueError: for an unknown suffix, a folder, a missing or unwritable folder around it, and an
        existing file that may not be replaced.

    Example:
      >>> from nst_jax import images
      >>> images.check_output("picture.jpge")
      Traceback (most recent call last):
      ValueError: `output`: there is no picture format '.jpge'; did you mean '.jpg'?
    """
    path = Path(path)
    _writer(path, argument)
    if path.is_dir():
        raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name a file in it")
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ValueError(f"`{argument}`: there is no folder {str(path.parent)!r}; create it first")
    if path.exists() and not overwrite:
        raise ValueError(
            f"`{argument}`: {str(path)!r} exists; choose another name or allow overwriting"
        )
    try:
        # Tried rather than asked: permissions do not tell of read-only file systems, nor of root.
        probe = _temporary(path)
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot write in {str(path.parent)!r}: {reason}; choose another folder"
        ) from None


def save(
    path: PathLike,
    image: Any,
    *,
    alpha: Any = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture atomically: the file is complete or is not there.

    Written with an sRGB profile and nothing of the inputs' metadata. The format follows the suffix:
    PNG, TIFF (deflate) and WebP without loss, JPEG at quality 95 with full-resolution colour.

    Args:
      path: with suffix .png, .jpg, .jpeg, .webp, .tif or .tiff.
      image: [h, w, 3] float in [0, 1], rounded to 8 bits; or uint8.
      alpha: [h, w] in [0, 1], kept where the format has transparency (not in JPEG).
      metadata: a JSON-able mapping to embed; `read_metadata` reads it back.
      overwrite: whether an existing file may be replaced.

    Raises:
      ValueError: for what `check_output` refuses, a wrong shape and values that are not finite.

    Example:
      >>> import tempfile, pathlib
      >>> import numpy as np
      >>> from nst_jax import images
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.webp"
      >>> images.save(path, np.full((16, 16, 3), 0.5), metadata={"steps": 3})
      >>> images.read_metadata(path)
      {'steps': 3}
    """
    path = Path(path)
    check_output(path, overwrite=overwrite, argument="path")
    picture = _as_pillow(image, alpha)
    text = None if metadata is None else json.dumps(metadata, sort_keys=True, allow_nan=False)
    temporary = _temporary(path)
    try:
        with temporary.open("wb") as file:
            _writer(path, "path")(picture, file, text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    # In the same folder, so that the replacement is one rename; made by `open`, so that the umask
    # decides on permissions.
    return path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")


def _as_pillow(image: Any, alpha: Any) -> pil.Image:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(f"`image`: expected [height, width, 3], got shape {list(array.shape)}")
    if array.dtype != np.uint8 and not np.isfinite(array).all():
        raise ValueError("`image`: holds NaN or infinite values; it is not written")
    picture = pil.fromarray(to_uint8(array))
    if alpha is not None:
        opacity = np.asarray(alpha)
        if opacity.shape != array.shape[:2]:
            raise ValueError(
                f"`alpha`: expected shape {list(array.shape[:2])}, got {list(opacity.shape)}"
            )
        picture.putalpha(pil.fromarray(to_uint8(opacity)))
    return picture


Writer = Callable[[pil.Image, BinaryIO, str | None], None]


def _write_png(picture: pil.Image, file: BinaryIO, text: str | None) -> None:
    info = PngImagePlugin.PngInfo()
    if text is not None:
        info.add_itxt(KEYWORD, text)
    picture.save(file, "PNG", pnginfo=info, icc_profile=_srgb_profile(), optimize=False)


def _write_jpeg(picture: pil.Image, file: BinaryIO, text: str | None) -> None:
    picture.convert("RGB").save(
        file, "JPEG", quality=95, subsampling=0, icc_profile=_srgb_profile(), exif=_comment(text)
    )


def _write_webp(picture: pil.Image, file: BinaryIO, text: str | None) -> None:
    picture.save(
        file, "WEBP", lossless=True, exact=True, icc_profile=_srgb_profile(), exif=_comment(text)
    )


def _write_tiff(picture: pil.Image, file: BinaryIO, text: str | None) -> None:
    picture.save(
        file,
        "TIFF",
        compression="tiff_adobe_deflate",
        icc_profile=_srgb_profile(),
        exif=_comment(text),
    )


_WRITERS: dict[str, Writer] = {
    ".png": _write_png,
    ".jpg": _write_jpeg,
    ".jpeg": _write_jpeg,
    ".webp": _write_webp,
    ".tif": _write_tiff,
    ".tiff": _write_tiff,
}
SUFFIXES = tuple(_WRITERS)


def _writer(path: Path, argument: str) -> Writer:
    suffix = path.suffix.lower()
    if not suffix:
        raise ValueError(
            f"`{argument}`: {path.name!r} has no suffix; end it in .png, .jpg, .webp or .tiff"
        )
    if suffix not in _WRITERS:
        raise checks.unknown(argument, suffix, _WRITERS, "picture format")
    return _WRITERS[suffix]


def _srgb_profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    # Bytes 24 to 35 are the time of creation and 84 to 99 a digest over it: the same picture shall
    # give the same file.
    profile[24:36] = bytes(12)
    profile[84:100] = bytes(16)
    return bytes(profile)


# --- Metadata -------------------------------------------------------------------------------------


def _comment(text: str | None) -> pil.Exif:
    exif = pil.Exif()
    if text is not None:
        encoded = f"{KEYWORD} {text}".encode("utf-16-be")
        exif.get_ifd(ExifTags.IFD.Exif)[_USER_COMMENT] = _UNICODE + encoded
    return exif


def read_metadata(path: PathLike, *, argument: str = "path") -> dict[str, Any] | None:
    """Read back what `save` embedded.

    Args:
      path: a picture.
      argument: how the caller calls the value, for messages.

    Returns:
      The metadata, or None if the picture carries none of ours.

    Raises:
      ValueError: as in `read`, and if the metadata is damaged.
    """
    data = _bytes_of(Path(path), argument)
    with _one_line_errors(Path(path), argument), pil.open(io.BytesIO(data)) as opened:
        _check_pixels(opened)
        opened.load()
        text = opened.info.get(KEYWORD) or _comment_of(opened)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"`{argument}`: the settings in {str(path)!r} are damaged")
    return found


def _comment_of(opened: pil.Image) -> str | None:
    comment = opened.getexif().get_ifd(ExifTags.IFD.Exif).get(_USER_COMMENT)
    if not isinstance(comment, bytes) or not comment.startswith(_UNICODE):
        return None
    text = comment[len(_UNICODE) :].decode("utf-16-be", errors="replace")
    return text.removeprefix(f"{KEYWORD} ") if text.startswith(f"{KEYWORD} ") else None


# --- Samples --------------------------------------------------------------------------------------

_FOLDER = Path(__file__).parent / "samples"
SAMPLES = {name: _FOLDER / f"{name}.jpg" for name in ("chelsea", "gravel", "starry_night")}


def sample(name: str) -> HostImage:
    """Return a picture that comes with the package; origins and licences are in NOTICE.

    Args:
      name: `"chelsea"` (a cat, content), `"gravel"` (a texture) or `"starry_night"` (a painting).

    Returns:
      [h, w, 3] float32 in [0, 1].

    Raises:
      ValueError: for another name.

    Example:
      >>> import nst_jax as nst
      >>> nst.images.sample("chelsea").shape
      (300, 451, 3)
    """
    return sample_picture(name).image


def sample_picture(name: str) -> Picture:
    """Return a sample as `read` gives it; see `sample`."""
    if name not in SAMPLES:
        raise checks.unknown("name", name, SAMPLES, "sample picture")
    return read(SAMPLES[name], argument="name")
