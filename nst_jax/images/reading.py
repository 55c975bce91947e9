"""Read picture files: pixels with opacity and notes, or only the size, or only the metadata.

A picture read here follows the image convention of `_types`: float32, sRGB-encoded, [0, 1], channels
last, on the host. `decoding` converts files that store pixels differently.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nst_jax import _memory
from nst_jax._files import PathLike, url_in
from nst_jax._types import HostImage, Shape
from nst_jax.images import decoding, encoding, film_encoding


class Picture(NamedTuple):
    """A picture as read from a file."""

    image: HostImage
    alpha: Float[np.ndarray, "h w"] | None  # opacity, 0 to 1; None if every pixel is opaque
    notes: tuple[str, ...]  # what was converted, in words
    name: str  # the file's name, never its folder
    digest: str  # sha256 of the file's bytes
    memory: int = 0  # bytes that decoding took, estimated


class Glance(NamedTuple):
    """What is known of a picture file before its pixels are decoded."""

    shape: Shape  # of the image that `read` returns
    name: str  # the file's name, never its folder
    digest: str  # sha256 of the file's bytes
    memory: int = 0  # bytes that decoding will take, estimated


def load(path: PathLike, *, argument: str = "path") -> HostImage:
    """Read a picture as an array.

    Args:
      path: a PNG, JPEG, WebP, TIFF, GIF, BMP or PPM file; AVIF and JPEG 2000 if Pillow supports them,
        and HEIC if an opener for it is registered with Pillow, such as pillow-heif's.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1]; transparent parts are composited over white.

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
    """Read a picture, its opacity, and notes on what was converted.

    The EXIF orientation is applied. Colours are converted from an embedded profile to sRGB, unless that
    changes no colour of a test grid by more than one 8-bit level, because then the profile is sRGB.
    Without a profile, the gamma of a PNG is applied if it is not sRGB's; its primaries (cHRM) are
    ignored. CMYK, Lab, palette, grey and 16-bit pictures become 8-bit RGB. A JPEG of too many pixels is
    decoded at 1/2, 1/4 or 1/8 of its size. Of an animation, the first frame is read. Transparent pixels
    are composited over white, so that colours which the transparency hides do not show.

    Args:
      path: the file.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      A `Picture`, with the image in [0, 1].

    Raises:
      ValueError: if the file is missing, not a regular file, empty, damaged, or not a picture; or if
        the picture has more than `decoding.MOST_PIXELS` pixels and is no JPEG, takes more memory to
        decode than is available, or has grey values from which it is unclear which value is white.

    Example:
      >>> from nst_jax import images
      >>> images.read(images.SAMPLES["chelsea"]).name
      'chelsea.jpg'
    """
    data = _bytes_of(Path(path), argument)
    with decoding.opened_picture(data, Path(path), argument) as opened:
        memory = decoding.memory_of(opened)
        image, alpha, notes = decoding.decoded(opened)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(image, alpha, tuple(notes), Path(path).name, digest, memory)


def glance(path: PathLike, *, argument: str = "path") -> Glance:
    """Return a picture's size, name and digest without decoding its pixels.

    Args:
      path: the file.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      A `Glance`.

    Raises:
      ValueError: as in `read`, except for what only decoding can find: some kinds of damage, too little
        memory, and grey values of unclear meaning.

    Example:
      >>> from nst_jax import images
      >>> images.glance(images.SAMPLES["chelsea"]).shape
      (300, 451)
    """
    data = _bytes_of(Path(path), argument)
    with decoding.opened_picture(data, Path(path), argument) as opened:
        shape, memory = decoding.upright_shape(opened), decoding.memory_of(opened)
    return Glance(shape, Path(path).name, hashlib.sha256(data).hexdigest(), memory)


def read_metadata(path: PathLike, *, argument: str = "path") -> dict[str, Any] | None:
    """Read the metadata that `save`, or `films.save`, embedded in a picture or film.

    Args:
      path: a picture or film.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The metadata, or None if `save` embedded none in this picture.

    Raises:
      ValueError: as in `read`, and if the metadata is damaged.

    Example:
      >>> from nst_jax import images
      >>> images.read_metadata(images.SAMPLES["chelsea"]) is None
      True
    """
    data = _bytes_of(Path(path), argument)
    if film_encoding.is_mp4(data):
        text = film_encoding.text_in_mp4(data)
    else:
        with decoding.opened_picture(data, Path(path), argument) as opened:
            decoding.load_pixels(opened)  # raises an error if the pixels are damaged
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


def has_settings(path: PathLike) -> bool:
    """Return whether `save` embedded metadata in this file, even if its pixels are damaged."""
    try:
        data = _bytes_of(Path(path), "path")
        with decoding.opened_picture(data, Path(path), "path", verified=False) as opened:
            if encoding.text_in(opened) is None:
                decoding.load_pixels(opened)  # a PNG's text may come after its pixels
            return encoding.text_in(opened) is not None
    except ValueError:
        return False


def _check_size(path: Path, argument: str) -> None:
    """Refuse a file that is larger than the available memory, for it is read as a whole."""
    size, available = path.stat().st_size, _memory.of_this_machine()
    if available is not None and size > available:
        raise ValueError(
            f"`{argument}`: {str(path)!r} has {_memory.gigabytes(size)}, and "
            f"{_memory.gigabytes(available)} of memory is available; name a smaller picture"
        )


def _bytes_of(path: Path, argument: str) -> bytes:
    try:
        if path.is_dir():
            raise ValueError(f"`{argument}`: {str(path)!r} is a folder; name one picture in it")
        if path.exists() and not path.is_file():  # a pipe or a device might never end
            raise ValueError(f"`{argument}`: {str(path)!r} is no regular file; name a picture")
        _check_size(path, argument)
        data = path.read_bytes()
    except FileNotFoundError:
        if url := url_in(path):
            raise ValueError(
                f"`{argument}`: {url!r} is a URL; download the picture and name its file"
            ) from None
        raise ValueError(f"`{argument}`: there is no file {str(path)!r}; check the path") from None
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot read {str(path)!r}: {reason}; check the path"
        ) from None
    if not data:
        raise ValueError(f"`{argument}`: {str(path)!r} is empty; is its download complete?")
    return data
