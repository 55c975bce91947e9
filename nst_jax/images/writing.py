"""Write pictures to files or file objects; check paths and sizes before pictures are computed."""

import errno
import io
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image as PilImage

from nst_jax import _checks, _files
from nst_jax._files import PathLike
from nst_jax._types import Shape
from nst_jax.images import encoding
from nst_jax.images.decoding import MOST_DPI
from nst_jax.images.eight_bit import to_uint8

SUFFIXES = tuple(encoding.WRITERS)  # file suffixes of the formats that can be written
# Names of the formats for the argument `format` of `save`, which also accepts a suffix such as "jpg".
FORMATS = ("png", "jpeg", "webp", "tiff")


@runtime_checkable
class BinaryWriter(Protocol):
    """A binary file object that can be written to, such as `io.BytesIO` or a file opened with "wb"."""

    def write(self, data: bytes | memoryview, /) -> Any: ...


def check_output(
    path: PathLike, *, overwrite: bool = True, argument: str = "output", probe: bool = True
) -> None:
    """Refuse a path where no picture can be written, before time is spent on computing one.

    Args:
      path: path of the picture to be written.
      overwrite: whether the picture may replace an existing file.
      argument: the caller's name for `path`, shown in error messages.
      probe: whether to create and remove a file, to test whether the folder is writable. For several
        paths in one folder, one such test is enough.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if the suffix is unknown; if the path is a folder, a device or a link that leads back
        to itself, or its name is too long; if its folder is missing or (with `probe`) not writable; or
        if there is a file that may not be replaced or is write-protected.

    Example:
      >>> from nst_jax import images
      >>> images.check_output("picture.jpge")
      Traceback (most recent call last):
      ValueError: `output`: there is no picture format '.jpge'; did you mean '.jpg'?
    """
    path = _files.as_path(path, argument=argument)
    _check_suffix(path, argument)
    check_writable(path, overwrite=overwrite, argument=argument, probe=probe)


def check_writable(path: Path, *, overwrite: bool, argument: str, probe: bool = True) -> None:
    """Refuse a path where no file can be written; the suffix is not checked.

    Args:
      path: path of the file to be written.
      overwrite: whether the new file may replace an existing one.
      argument: the caller's name for `path`, shown in error messages.
      probe: whether to create and remove a file, to test whether the folder is writable.

    Raises:
      ValueError: if the path is a folder, a device or a link that leads back to itself, or its name is
        too long; if its folder is missing or (with `probe`) not writable; or if there is a file that
        may not be replaced or is write-protected.
    """
    _checks.flag("overwrite", overwrite)
    try:
        _files.check_place(path, argument=argument)
        _check_existing(path, overwrite, argument)
        with suppress(FileNotFoundError):
            # This raises an OSError if the name is too long. The test below uses a temporary file,
            # whose name may be shorter.
            path.lstat()
        if probe:
            # The permissions that `os.access` reads do not tell whether a network file system allows
            # writing. So a file is created as a test.
            part = _files.temporary_path(path.resolve())  # `save` writes to such a path first
            part.touch()
            # Another process may have taken the file for one of a crashed process, and removed it.
            part.unlink(missing_ok=True)
    except OSError as error:
        raise ValueError(_files.unwritable(path, error, argument)) from None


def _check_existing(path: Path, overwrite: bool, argument: str) -> None:
    if path.exists() and not path.is_file():
        raise ValueError(f"`{argument}`: {str(path)!r} is no regular file; choose another name")
    if path.exists() and not overwrite:
        raise ValueError(
            f"`{argument}`: {str(path)!r} exists; choose another name or allow overwriting"
        )
    _files.check_unprotected(path, argument=argument)


def check_fits(path: PathLike, shape: Shape, *, argument: str = "output") -> None:
    """Refuse a picture that is larger than the format of `path` allows.

    Args:
      path: path of the picture to be written; its suffix, such as ".png", says the format.
      shape: height and width in px.
      argument: the caller's name for `path`, shown in error messages.

    Raises:
      TypeError: if `path` is not a path.
      ValueError: if a side is longer than the format allows.

    Example:
      >>> from nst_jax import images
      >>> images.check_fits("wide.webp", (1000, 20000))
      Traceback (most recent call last):
      ValueError: `output`: 20000x1000 px is too large for .webp (16383 px a side); save it as PNG
    """
    suffix = _files.as_path(path, argument=argument).suffix.lower()
    longest = encoding.LARGEST_SIDE.get(suffix)
    if longest is not None and max(shape) > longest:
        raise ValueError(
            f"`{argument}`: {shape[1]}x{shape[0]} px is too large for {suffix} ({longest} px a "
            "side); save it as PNG"
        )


def save(
    path: PathLike | BinaryWriter,
    image: Any,
    *,
    format: str | None = None,
    alpha: Any = None,
    metadata: Mapping[str, Any] | None = None,
    dpi: float | Sequence[float] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture to a path, where the file appears complete or not at all, or to a file object.

    The file has an sRGB profile, and no metadata but `metadata` and `dpi`. The suffix, or `format`,
    chooses the format: PNG, TIFF (deflate) and WebP are lossless, JPEG has quality 95 and colour in
    full resolution. The same picture gives the same bytes at a path and in a file object.

    Args:
      path: path with suffix .png, .jpg, .jpeg, .webp, .tif or .tiff; or a binary file object such as
        `io.BytesIO`. The picture is written at the object's current position; the object stays open.
      image: [h, w, 3] float in [0, 1], rounded to 8 bits; or uint8.
      format: the format for a file object: "png", "jpeg", "webp" or "tiff", or a suffix such as ".jpg".
        A path needs no `format`; if one is given, it must be the format of the path's suffix.
      alpha: opacity [h, w], from 0 (transparent) to 1; None for an opaque picture. JPEG, which has no
        transparency, ignores `alpha`.
      metadata: a mapping of JSON values to embed, which `read_metadata` reads back; None embeds none.
      dpi: pixels per inch at which the picture is to be printed, which the file states: one number, or
        (across, down); None states nothing. PNG rounds the numbers to whole pixels per metre, JPEG to
        whole pixels per inch.
      overwrite: whether an existing file may be replaced; has no effect for a file object.

    Raises:
      ValueError: for a path that `check_output` refuses; for a closed file object; for a format that is
        missing, unknown or not that of the path; for a picture or an `alpha` that has a wrong shape or
        dtype, values that are not finite, or masked elements; for a picture that is too large for the
        format; for metadata that is not JSON; and for a `dpi` that is no number, below 1 or above
        30,000.
      TypeError: if `path` is neither a path nor a binary file object, if `format` is neither None nor a
        string, or if `metadata` is not a mapping.
      OSError: if the disk fails or is full; an existing file stays unchanged.

    Example:
      >>> import io, tempfile, pathlib
      >>> import numpy as np
      >>> from nst_jax import images
      >>> path = pathlib.Path(tempfile.mkdtemp()) / "grey.webp"
      >>> images.save(path, np.full((16, 16, 3), 0.5), metadata={"steps": 3})
      >>> images.read_metadata(path)
      {'steps': 3}
      >>> buffer = io.BytesIO()
      >>> images.save(buffer, np.full((16, 16, 3), 0.5), format="png")
      >>> images.load(buffer.getvalue()).shape
      (16, 16, 3)
    """
    if not isinstance(path, str | os.PathLike):
        _check_file_object(path)
        suffix = _suffix_of(format)
        data = _encoded(suffix, f"the format {suffix[1:]}", _as_pillow(image, alpha), metadata, dpi)
        write_all(path, data)
        return
    path = Path(path)
    check_output(path, overwrite=overwrite, argument="path")
    _check_agrees(path, format)
    data = _encoded(path.suffix.lower(), repr(path.name), _as_pillow(image, alpha), metadata, dpi)
    with _files.atomic(path) as part:
        part.write_bytes(data)


# --- File objects and formats -------------------------------------------------------------------------


def _check_file_object(file: Any) -> None:
    if not callable(getattr(file, "write", None)):
        raise TypeError(
            f"`path`: expected a path or a binary file object, got {type(file).__name__}"
        )
    if isinstance(file, io.TextIOBase):
        raise TypeError("`path`: the file object is open as text; open it with mode 'wb'")
    if getattr(file, "closed", False):
        raise ValueError("`path`: the file object is closed; open it again")


def _suffix_of(format: str | None) -> str:
    """Return the suffix, such as ".jpg", of a format that is given by its name or by its suffix."""
    if format is None:
        raise ValueError(
            f"`format`: is missing; a file object has no suffix, so name one of {', '.join(FORMATS)}"
        )
    if not isinstance(format, str):
        raise TypeError(f"`format`: expected a name such as 'png', got {type(format).__name__}")
    suffix = f".{format.lower().removeprefix('.')}"
    if suffix not in encoding.WRITERS:
        raise _checks.unknown("format", format, FORMATS, "picture format")
    return suffix


def _check_agrees(path: Path, format: str | None) -> None:
    """Refuse a `format` that is not None and differs from the format of the path's suffix."""
    suffix = path.suffix.lower()
    if format is not None and encoding.WRITERS[_suffix_of(format)] is not encoding.WRITERS[suffix]:
        raise ValueError(
            f"`format`: {_checks.shown(format)} is not the format of {path.name!r}; omit it, since "
            "the suffix of a path chooses the format"
        )


def write_all(file: BinaryWriter, data: bytes) -> None:
    """Write all bytes to a file object, in several calls if it takes only some of them at once.

    If `file.write` returns None, all bytes count as written, except for a raw stream
    (`io.RawIOBase`), where None means that no byte was written.

    Raises:
      BlockingIOError: if the file object is a non-blocking raw stream that is full.
    """
    rest = memoryview(data)
    while rest:
        written: Any = file.write(rest)
        if written is None and isinstance(file, io.RawIOBase):  # a non-blocking stream that is full
            raise BlockingIOError(
                errno.EAGAIN, "the file object takes no more data; pass one that waits"
            )
        rest = rest[len(rest) if written is None else written :]


def _encoded(
    suffix: str,
    words: str,
    picture: PilImage.Image,
    metadata: Mapping[str, Any] | None,
    dpi: Any,
) -> bytes:
    file, text, resolution = io.BytesIO(), encoding.as_text(metadata), _resolution(dpi)
    try:
        encoding.WRITERS[suffix](picture, file, text, resolution)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`path`: {words} cannot store this picture ({reason}); save it as PNG"
        ) from None
    return file.getvalue()


def _resolution(dpi: Any) -> encoding.Dpi | None:
    """Check a caller's `dpi`, and return it as (across, down); None stays None."""
    if dpi is None:
        return None
    found = np.asarray(dpi)
    if found.shape not in ((), (2,)) or found.dtype.kind not in "iuf":
        raise ValueError(f"`dpi`: expected a number, or (across, down), got {_checks.shown(dpi)}")
    if not (np.isfinite(found) & (found >= 1) & (found <= MOST_DPI)).all():
        raise ValueError(
            f"`dpi`: expected 1 to {MOST_DPI} pixels per inch, got {_checks.shown(found.tolist())}"
        )
    across, down = (float(one) for one in np.broadcast_to(found, (2,)))
    return across, down


def _as_pillow(image: Any, alpha: Any) -> PilImage.Image:
    _checks.not_keys("image", image, "an array [height, width, 3]")
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[-1] != 3 or array.size == 0:
        raise ValueError(
            f"`image`: expected one image [height, width, 3], got shape {list(array.shape)}"
        )
    picture = PilImage.fromarray(to_uint8(image))
    if alpha is not None:
        opacity = np.asarray(alpha)
        if opacity.shape != array.shape[:2]:
            raise ValueError(
                f"`alpha`: expected shape {list(array.shape[:2])}, got {list(opacity.shape)}"
            )
        picture.putalpha(PilImage.fromarray(to_uint8(alpha, argument="alpha")))
    return picture


def _check_suffix(path: Path, argument: str) -> None:
    _files.check_has_suffix(path, ".png, .jpg, .webp or .tiff", argument=argument)
    suffix = path.suffix.lower()
    if suffix not in encoding.WRITERS and suffix in PilImage.registered_extensions():
        # Pillow knows this suffix, so it is hardly a typing error, and no similar suffix is suggested.
        raise ValueError(
            f"`{argument}`: pictures are not written as {suffix}; expected one of {', '.join(SUFFIXES)}"
        )
    if suffix not in encoding.WRITERS:
        raise _checks.unknown(argument, suffix, encoding.WRITERS, "picture format")
