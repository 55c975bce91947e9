"""Write picture files atomically, and check paths and sizes before pictures are computed."""

import io
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from nst_jax import _checks, _files
from nst_jax._files import PathLike
from nst_jax._types import Shape
from nst_jax.images import encoding
from nst_jax.images.eight_bit import to_uint8

SUFFIXES = tuple(encoding.WRITERS)  # file suffixes of the formats that can be written


def check_output(
    path: PathLike, *, overwrite: bool = True, argument: str = "output", probe: bool = True
) -> None:
    """Refuse a path where no picture can be written, before time is spent on computing one.

    Args:
      path: path of the picture to be written.
      overwrite: whether the picture may replace an existing file.
      argument: the caller's name for the value, shown in error messages.
      probe: whether a file is created and removed as a test. Of several paths in one folder, it is
        enough to test one.

    Raises:
      ValueError: for an unknown suffix, a folder, a missing or unwritable folder around it, and an
        existing file that may not be replaced or is write-protected.

    Example:
      >>> from nst_jax import images
      >>> images.check_output("picture.jpge")
      Traceback (most recent call last):
      ValueError: `output`: there is no picture format '.jpge'; did you mean '.jpg'?
    """
    path = Path(path)
    _writer(path, argument)
    check_writable(path, overwrite=overwrite, argument=argument, probe=probe)


def check_writable(path: Path, *, overwrite: bool, argument: str, probe: bool = True) -> None:
    """Refuse a path where no file can be written, whatever its suffix.

    Args:
      path: path of the file to be written.
      overwrite: whether it may replace an existing file.
      argument: the caller's name for the value, shown in error messages.
      probe: whether a file is created and removed as a test.

    Raises:
      ValueError: for a folder, a missing or unwritable folder around it, and an existing file that may
        not be replaced or is write-protected.
    """
    try:
        _files.check_place(path, argument=argument)
        _check_existing(path, overwrite, argument)
        with suppress(FileNotFoundError):
            path.lstat()  # raises if the name is too long; the temporary name may be shorter
        if probe:
            # `os.access` does not detect read-only file systems, so a file is created as a test.
            part = _files.temporary_path(path.resolve())  # `save` first writes to such a path
            part.touch()
            part.unlink(missing_ok=True)  # another run may have removed it as a leftover
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(
            f"`{argument}`: cannot write {path.name!r} in {str(path.parent)!r}: {reason}; "
            "choose another place"
        ) from None


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
      path: path of the picture to be written, with a known suffix.
      shape: height and width.
      argument: the caller's name for the value, shown in error messages.

    Raises:
      ValueError: if a side is longer than the format allows.

    Example:
      >>> from nst_jax import images
      >>> images.check_fits("wide.webp", (1000, 20000))
      Traceback (most recent call last):
      ValueError: `output`: 20000x1000 px is too large for .webp (16383 px a side); save it as PNG
    """
    suffix = Path(path).suffix.lower()
    longest = encoding.LARGEST_SIDE.get(suffix)
    if longest is not None and max(shape) > longest:
        raise ValueError(
            f"`{argument}`: {shape[1]}x{shape[0]} px is too large for {suffix} ({longest} px a "
            "side); save it as PNG"
        )


def save(
    path: PathLike,
    image: Any,
    *,
    alpha: Any = None,
    metadata: Mapping[str, Any] | None = None,
    overwrite: bool = True,
) -> None:
    """Write a picture atomically: the file appears complete or not at all.

    The file has an sRGB profile, but none of the metadata of the content and style files. The suffix
    chooses the format: PNG, TIFF (deflate) and WebP are lossless, JPEG has quality 95 and
    full-resolution colour.

    Args:
      path: path with suffix .png, .jpg, .jpeg, .webp, .tif or .tiff.
      image: [h, w, 3] float in [0, 1], rounded to 8 bits; or uint8.
      alpha: opacity [h, w], from 0 (transparent) to 1; JPEG, which has no transparency, drops it.
      metadata: a mapping of JSON values to embed; `read_metadata` reads it back.
      overwrite: whether an existing file may be replaced.

    Raises:
      ValueError: for what `check_output` refuses, a wrong shape or dtype, values that are not
        finite, metadata that is not JSON, and pictures that the format does not allow (such as a WebP
        of more than 16,383 px on a side).
      OSError: if the disk fails or is full; an existing file is then unchanged.

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
    with _files.atomic(path) as part:
        part.write_bytes(data)


def _encoded(path: Path, picture: PilImage.Image, text: str | None) -> bytes:
    file = io.BytesIO()
    try:
        _writer(path, "path")(picture, file, text)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`path`: {path.name!r} cannot store this picture ({reason}); save it as PNG"
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
    if suffix not in encoding.WRITERS and suffix in PilImage.registered_extensions():
        # The suffix of a format that is not written here is no typing error, so no other is suggested.
        raise ValueError(
            f"`{argument}`: pictures are not written as {suffix}; expected one of {', '.join(SUFFIXES)}"
        )
    if suffix not in encoding.WRITERS:
        raise _checks.unknown(argument, suffix, encoding.WRITERS, "picture format")
    return encoding.WRITERS[suffix]
