"""Files to pictures and back: reading, 8-bit resizing, atomic saving, metadata, samples.

A picture read here follows the image convention of `_types`: float32, sRGB-encoded, [0, 1], channels
last, on the host. `decoding` settles what files say in their many ways, `encoding` writes formats;
with them and `sheets` this is the only room that uses Pillow.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image as PilImage

from nst_jax import _checks, _files
from nst_jax.images import decoding, encoding

HostImage = Float[np.ndarray, "h w 3"]  # sRGB in [0, 1]

PathLike = str | os.PathLike[str]

SUFFIXES = tuple(encoding.WRITERS)  # of the formats that are written


class Picture(NamedTuple):
    """A picture as read from a file."""

    image: HostImage
    alpha: Float[np.ndarray, "h w"] | None  # 1 is opaque; None if all of it is
    notes: tuple[str, ...]  # what was converted on the way, for people
    name: str  # the file's name, never its folder
    digest: str  # sha256 of the file's bytes


class Glance(NamedTuple):
    """What a file says of its picture before it is decoded."""

    shape: tuple[int, int]  # height and width of what `read` gives
    name: str  # as in `Picture`
    digest: str


# --- Reading --------------------------------------------------------------------------------------


def load(path: PathLike, *, argument: str = "path") -> HostImage:
    """Read a picture as an array.

    Args:
      path: a PNG, JPEG, WebP, TIFF, GIF, BMP or PPM file, or another that Pillow reads.
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
    A profile that changes no 8-bit colour by more than one level is sRGB and is left alone.

    Args:
      path: the file.
      argument: how the caller calls the value, for messages.

    Returns:
      A `Picture`.

    Raises:
      ValueError: if the file is missing, a folder, empty, truncated, no picture, has more than
        `decoding.MOST_PIXELS` pixels, or samples that have no agreed white.

    Example:
      >>> from nst_jax import images
      >>> images.read(images.SAMPLES["chelsea"]).name
      'chelsea.jpg'
    """
    data = _bytes_of(Path(path), argument)
    with decoding.opened_picture(data, Path(path), argument) as opened:
        image, alpha, notes = decoding.decoded(opened)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(image, alpha, tuple(notes), Path(path).name, digest)


def glance(path: PathLike, *, argument: str = "path") -> Glance:
    """Return a picture's size, name and digest; nothing is decoded.

    Args:
      path: the file.
      argument: how the caller calls the value, for messages.

    Returns:
      A `Glance`.

    Raises:
      ValueError: as in `read`, but for damage that only decoding would find.

    Example:
      >>> from nst_jax import images
      >>> images.glance(images.SAMPLES["chelsea"]).shape
      (300, 451)
    """
    data = _bytes_of(Path(path), argument)
    with decoding.opened_picture(data, Path(path), argument) as opened:
        shape = decoding.upright_shape(opened)
    return Glance(shape, Path(path).name, hashlib.sha256(data).hexdigest())


def _bytes_of(path: Path, argument: str) -> bytes:
    try:
        if path.is_dir():
            raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name one picture in it")
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise ValueError(f"`{argument}`: {str(path)!r} is no regular file; name a picture")
        data = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"`{argument}`: there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot read {str(path)!r}: {reason}; check the path"
        ) from None
    if not data:
        raise ValueError(f"`{argument}`: {str(path)!r} is empty; is its download complete?")
    return data


# --- Eight bits -----------------------------------------------------------------------------------


def to_uint8(image: Any) -> UInt8[np.ndarray, "..."]:
    """Round an array in [0, 1] to 8 bits, to the nearest; values beyond are clipped.

    Args:
      image: floating point of any shape, or uint8, which is returned as it is.

    Returns:
      uint8 array of the same shape.

    Raises:
      ValueError: for another dtype, and for NaN and infinite values.

    Example:
      >>> from nst_jax import images
      >>> images.to_uint8([0.0, 0.5, 1.0, 1.01]).tolist()
      [0, 128, 255, 255]
    """
    array = np.asarray(image)
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise ValueError(
            f"`image`: expected floating point in [0, 1] or uint8, got {array.dtype}; "
            "scale it to [0, 1] first"
        )
    array = array.astype(np.promote_types(array.dtype, np.float32))
    if not np.isfinite(array).all():
        raise ValueError("`image`: holds NaN or infinite values; it has no 8-bit equivalent")
    return np.rint(np.clip(array, 0, 1) * 255).astype(np.uint8)


def resize8(
    image: Any, shape: tuple[int, int], resampling: PilImage.Resampling
) -> Float[np.ndarray, "h w *rgb"]:
    """Round a picture to 8 bits and resize it with Pillow, as published pipelines do.

    Pillow's filters widen when they reduce (they antialias) and round the result to 8 bits.

    Args:
      image: [h, w, 3] or [h, w], float in [0, 1] or uint8.
      shape: height and width of the result.
      resampling: Pillow's filter.

    Returns:
      float32 in [0, 1] of the new shape.

    Raises:
      ValueError: as in `to_uint8`.

    Example:
      >>> import PIL.Image
      >>> from nst_jax import images
      >>> cat = images.sample("chelsea")
      >>> images.resize8(cat, (100, 150), PIL.Image.Resampling.LANCZOS).shape
      (100, 150, 3)
    """
    height, width = shape
    resized = PilImage.fromarray(to_uint8(image)).resize((width, height), resampling)
    return np.asarray(resized, np.float32) / 255


def pillow_bilinear(image: Any, shape: tuple[int, int]) -> HostImage:
    """Resize the 8-bit picture to (height, width) with Pillow's BILINEAR; see `resize8`."""
    return resize8(image, shape, PilImage.Resampling.BILINEAR)


def pillow_bicubic(image: Any, shape: tuple[int, int]) -> HostImage:
    """Resize the 8-bit picture to (height, width) with Pillow's BICUBIC; see `resize8`."""
    return resize8(image, shape, PilImage.Resampling.BICUBIC)


def pillow_nearest(image: Any, shape: tuple[int, int]) -> HostImage:
    """Resize the 8-bit picture to (height, width) with Pillow's NEAREST; see `resize8`."""
    return resize8(image, shape, PilImage.Resampling.NEAREST)


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
    try:
        _check_place(path, overwrite, argument)
        # Tried rather than asked: permissions do not tell of read-only file systems, nor of root.
        probe = _files.part_of(path.resolve())  # where `save` will write
        probe.touch()
        probe.unlink()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot write {path.name!r} in {str(path.parent)!r}: {reason}; "
            "choose another place"
        ) from None


def check_fits(path: PathLike, shape: tuple[int, int], *, argument: str = "output") -> None:
    """Refuse a picture that the format of `path` has no room for.

    Args:
      path: where it shall go, with a known suffix.
      shape: height and width.
      argument: how the caller calls the value, for messages.

    Raises:
      ValueError: if a side is longer than the format allows.

    Example:
      >>> from nst_jax import images
      >>> images.check_fits("wide.webp", (1000, 20000))
      Traceback (most recent call last):
      ValueError: `output`: 20000x1000 px is too large for .webp (16383 px a side); save it as PNG
    """
    suffix = Path(path).suffix.lower()
    longest = encoding.LONGEST.get(suffix)
    if longest is not None and max(shape) > longest:
        raise ValueError(
            f"`{argument}`: {shape[1]}x{shape[0]} px is too large for {suffix} ({longest} px a "
            "side); save it as PNG"
        )


def _check_place(path: Path, overwrite: bool, argument: str) -> None:
    if path.is_dir():
        raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise ValueError(f"`{argument}`: there is no folder {str(path.parent)!r}; create it first")
    if path.exists() and not path.is_file():
        raise ValueError(f"`{argument}`: {str(path)!r} is no regular file; choose another name")
    if path.exists() and not overwrite:
        raise ValueError(
            f"`{argument}`: {str(path)!r} exists; choose another name or allow overwriting"
        )


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
      ValueError: for what `check_output` refuses, a wrong shape or dtype, values that are not
        finite, and what the format cannot hold (a WebP of more than 16,383 px on a side).
      OSError: if the disk fails or is full; the file is then as it was.

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
    data = _encoded(path, _as_pillow(image, alpha), encoding.as_text(metadata))
    with _files.whole(path) as part:
        part.write_bytes(data)


def _encoded(path: Path, picture: PilImage.Image, text: str | None) -> bytes:
    file = io.BytesIO()
    try:
        _writer(path, "path")(picture, file, text)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`path`: {path.name!r} cannot hold this picture ({reason}); save it as PNG"
        ) from None
    return file.getvalue()


def _as_pillow(image: Any, alpha: Any) -> PilImage.Image:
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(
            f"`image`: expected one image [height, width, 3], got shape {list(array.shape)}"
        )
    picture = PilImage.fromarray(to_uint8(array))
    if alpha is not None:
        opacity = np.asarray(alpha)
        if opacity.shape != array.shape[:2]:
            raise ValueError(
                f"`alpha`: expected shape {list(array.shape[:2])}, got {list(opacity.shape)}"
            )
        picture.putalpha(PilImage.fromarray(to_uint8(opacity)))
    return picture


def _writer(path: Path, argument: str) -> encoding.Writer:
    suffix = path.suffix.lower()
    if not suffix:
        raise ValueError(
            f"`{argument}`: {path.name!r} has no suffix; end it in .png, .jpg, .webp or .tiff"
        )
    if suffix not in encoding.WRITERS:
        raise _checks.unknown(argument, suffix, encoding.WRITERS, "picture format")
    return encoding.WRITERS[suffix]


# --- Metadata -------------------------------------------------------------------------------------


def read_metadata(path: PathLike, *, argument: str = "path") -> dict[str, Any] | None:
    """Read back what `save` embedded.

    Args:
      path: a picture.
      argument: how the caller calls the value, for messages.

    Returns:
      The metadata, or None if the picture carries none of ours.

    Raises:
      ValueError: as in `read`, and if the metadata is damaged.

    Example:
      >>> from nst_jax import images
      >>> images.read_metadata(images.SAMPLES["chelsea"]) is None
      True
    """
    data = _bytes_of(Path(path), argument)
    with decoding.opened_picture(data, Path(path), argument) as opened:
        opened.load()  # text may follow the pixels
        text = encoding.text_in(opened)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(
            f"`{argument}`: the settings in {str(path)!r} are damaged; the picture itself is whole"
        )
    return found


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
        raise _checks.unknown("name", name, SAMPLES, "sample picture")
    return read(SAMPLES[name], argument="name")
