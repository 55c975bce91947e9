"""Read a picture file: its pixels and opacity, or only its size, or only its metadata.

A picture is returned as a NumPy array [h, w, 3], float32 sRGB in [0, 1]. The module `decoding` converts
files that store pixels differently; notes say what was converted or left out.
"""

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nst_jax._types import HostImage, Shape
from nst_jax.images import decoding, encoding, film_encoding
from nst_jax.images.sources import Source, contents_of


class Picture(NamedTuple):
    """A picture as read from a file, or from its bytes."""

    image: HostImage
    alpha: Float[np.ndarray, "h w"] | None  # opacity, 0 to 1; None if every pixel is opaque
    notes: tuple[str, ...]  # what was converted or left out, one line each
    name: str  # the file's name, never its folder; "bytes" if the source has no name
    digest: str  # sha256 of the file's bytes
    memory: int = 0  # estimate of the largest number of bytes that decoding took
    dpi: tuple[float, float] | None = None  # pixels per inch, across and down; None if not stated


class Glance(NamedTuple):
    """What is known of a picture file before its pixels are decoded."""

    shape: Shape  # (height, width) of the image that `read` would return
    name: str  # the file's name, never its folder; "bytes" if the source has no name
    digest: str  # sha256 of the file's bytes
    # Estimate of the largest number of bytes that decoding will take; 0 if nothing will be decoded.
    memory: int = 0


def load(path: Source, *, argument: str = "path") -> HostImage:
    """Read a picture as an array.

    Args:
      path: a PNG, JPEG, WebP, TIFF, GIF, BMP or PPM file; AVIF and JPEG 2000 if Pillow supports them,
        and HEIC if an opener for it is registered with Pillow, such as pillow-heif's. It is given by
        its path, by its bytes, or as a binary file object such as `io.BytesIO`, which is read from its
        position to its end and stays open.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      [h, w, 3] float32, sRGB in [0, 1]; transparent parts are composited over white.

    Raises:
      ValueError: if the file is missing, damaged, no picture, or cannot be decoded; see `read`.
      TypeError: if `path` is no path, bytes or binary file object.

    Example:
      >>> import tempfile, pathlib
      >>> import nst_jax as nst
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "cat.png"
      >>> nst.images.save(path, nst.images.sample("chelsea"))
      >>> nst.images.load(path).shape
      (300, 451, 3)
      >>> nst.images.load(path.read_bytes()).shape
      (300, 451, 3)
    """
    return read(path, argument=argument).image


def read(path: Source, *, argument: str = "path") -> Picture:
    """Read a picture, its opacity, and notes on what was converted.

    The picture is turned upright as its EXIF orientation says. Colours are converted from an embedded
    profile to sRGB. A profile that changes no colour of a test grid by more than one 8-bit level counts
    as sRGB's, and nothing is converted. Without a profile, a PNG's gamma is applied if it is not
    sRGB's; its primaries (cHRM) are ignored. CMYK, Lab, palette, grey and 16-bit pictures become 8-bit
    RGB. A JPEG of more than `decoding.MOST_PIXELS` pixels is decoded at 1/2, 1/4 or 1/8 of its size. Of
    an animation, the first frame is read. Transparent pixels are composited over white, so that colours
    which the transparency hides do not show.

    Args:
      path: the file, given by its path, by its bytes, or as a binary file object.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      A `Picture`, with the image in [0, 1].

    Raises:
      ValueError: if the file is missing, not a regular file, empty, damaged, or not a picture. Also if
        the picture has more than `decoding.MOST_PIXELS` pixels and is no JPEG, if decoding it takes
        more memory than is available, or if it is a grey picture of floats or 32-bit integers whose
        range does not tell which number is white. Also if it is a TIFF with signed integers of 8 or 16
        bits, or, without compression, with subsampled YCbCr or with planes of 16 bits.
      TypeError: if `path` is no path, bytes or binary file object.

    Example:
      >>> from nst_jax import images
      >>> images.read(images.SAMPLES["chelsea"]).name
      'chelsea.jpg'
    """
    data, name, words = contents_of(path, argument)
    with decoding.opened_picture(data, words, argument) as opened:
        memory, dpi = decoding.memory_of(opened), decoding.resolution(opened)
        image, alpha, notes = decoding.decoded(opened)
    digest = hashlib.sha256(data).hexdigest()
    return Picture(image, alpha, tuple(notes), name, digest, memory, dpi)


def glance(path: Source, *, argument: str = "path") -> Glance:
    """Return a picture's size, name and digest without decoding its pixels.

    Args:
      path: the file: its path, its bytes, or a binary file object, as in `load`.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      A `Glance`.

    Raises:
      ValueError: if the file is missing, damaged, too large or no picture; see `read`. What only
        decoding can find is not reported: some kinds of damage, too little memory, and that it is
        unclear which of the grey values is white.
      TypeError: if `path` is no path, bytes or binary file object.

    Example:
      >>> from nst_jax import images
      >>> images.glance(images.SAMPLES["chelsea"]).shape
      (300, 451)
    """
    data, name, words = contents_of(path, argument)
    with decoding.opened_picture(data, words, argument) as opened:
        shape, memory = decoding.upright_shape(opened), decoding.memory_of(opened)
    return Glance(shape, name, hashlib.sha256(data).hexdigest(), memory)


def read_metadata(path: Source, *, argument: str = "path") -> dict[str, Any] | None:
    """Read the metadata that `save`, or `films.save`, embedded in a picture or film.

    Args:
      path: a picture or film: its path, its bytes, or a binary file object, as in `load`.
      argument: the caller's name for `path`, shown in error messages.

    Returns:
      The metadata, a dictionary of JSON values by name; None if nothing was embedded.

    Raises:
      ValueError: if the file cannot be read, as in `read`; if it is neither a picture nor a film; or if
        the metadata are damaged.
      TypeError: if `path` is no path, bytes or binary file object.

    Example:
      >>> from nst_jax import images
      >>> images.read_metadata(images.SAMPLES["chelsea"]) is None
      True
    """
    data, _, words = contents_of(path, argument)
    whole = ""  # what is known of the pixels, for the message
    if film_encoding.is_mp4(data):
        text = film_encoding.text_in_mp4(data)
    else:
        whole = "; the picture itself is whole"
        with decoding.opened_picture(data, words, argument) as opened:
            decoding.load_pixels(opened)  # raises an error if the pixels are damaged
            text = encoding.text_in(opened)
    if text is None:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"`{argument}`: the settings in {words} are damaged{whole}")
    return found


def has_metadata(path: Source) -> bool:
    """Return whether a picture file has metadata that `save` embedded.

    Damaged pixels do not matter, unless the metadata come after them. If the file cannot be read, the
    result is False.
    """
    return _stated(path) is not None


def is_contact_sheet(path: Source) -> bool:
    """Return whether a picture file has the metadata of a contact sheet that this program wrote.

    A contact sheet is one picture that shows several results. Damaged pixels do not matter, unless the
    metadata come after them. If the file or its metadata cannot be read, the result is False.
    """
    try:
        found = json.loads(_stated(path) or "null")
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and "contact_sheet" in found


def _stated(path: Source) -> str | None:
    """Return the text of a picture file's metadata; None if it has none or cannot be read."""
    try:
        data, _, words = contents_of(path, "path")
        with decoding.opened_picture(data, words, "path", verified=False) as opened:
            if encoding.text_in(opened) is None:
                decoding.load_pixels(opened)  # reads also the text that a PNG has after its pixels
            return encoding.text_in(opened)
    except ValueError:
        return None
