"""Writing of results to paths that were checked before the run, or elsewhere if that fails."""

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from nst_jax import _files, images
from nst_jax._types import AnyImage
from nst_jax.images.resizing import antialiased_masks
from nst_jax.recipes.sizes import SizeRule


def write_picture(path: Path, image: Any, **options: Any) -> None:
    """Write a picture to a path that was checked before the run.

    As the path was valid at that time, an error now comes from the disk or the memory, whatever its
    type. It is raised as an `OSError`, so that callers need to catch only this type.

    Args:
      path: path of the file.
      image: [h, w, 3] in [0, 1].
      **options: other arguments of `nst_jax.images.save`.

    Raises:
      OSError: if the file cannot be written, or if `save` raises ValueError or MemoryError.
    """
    try:
        images.save(path, image, **options)
    except (ValueError, OSError, MemoryError) as error:
        raise OSError(f"cannot write {str(path)!r}: {_files.reason_of(error)}") from error


def write_elsewhere(path: Path, image: Any, **options: Any) -> Path | None:
    """Write a picture, which could not be written to `path`, under a new name, to one of two folders.

    Args:
      path: the path to which the picture could not be written.
      image: [h, w, 3] in [0, 1].
      **options: other arguments of `nst_jax.images.save`.

    Returns:
      The new path, in the current folder or, if that fails too, in the folder for temporary files; None
      if the picture can be written to neither folder.
    """
    return save_elsewhere(path, lambda place: write_picture(place, image, **options))


def where_instead(path: Path, image: Any, what: str, **options: Any) -> str:
    """Write a picture to another folder; return the end of an error message that says where it is.

    If the picture can be written to no other folder either, the text says this instead.

    Args:
      path: the path to which the picture could not be written.
      image: [h, w, 3] in [0, 1].
      what: what the message calls the picture, such as "the grid".
      **options: other arguments of `nst_jax.images.save`.
    """
    found = write_elsewhere(path, image, **options)
    if found is None:
        return f"; {what} could not be written to the current or the temporary folder either"
    return f"; {what} is in '{found}'"


def save_elsewhere(path: Path, save: Callable[[Path], Any]) -> Path | None:
    """Write a file to another folder, under a new name, since it could not be written to `path`.

    Args:
      path: the path to which the file could not be written.
      save: a function that writes the file to the path with which it is called.

    Returns:
      The new path, in the current folder or, if that fails too, in the folder for temporary files; None
      if `save` fails in both folders.
    """
    stem = os.fsencode(path.stem)[: _files.LONGEST_NAME].decode(errors="ignore")
    name = f"{stem}-{secrets.token_hex(4)}{path.suffix}"
    # `gettempdir` tests folders by writing to them, so on a full disk the call itself may fail.
    # `getcwd` fails if the current folder has been deleted. Therefore both are called in the loop,
    # where their errors are suppressed.
    folders: tuple[Callable[[], str], ...] = (os.getcwd, tempfile.gettempdir)
    for folder in folders:
        with suppress(OSError, MemoryError):
            elsewhere = Path(folder(), name)
            save(elsewhere)
            return elsewhere
    return None


def dpi_of(rule: SizeRule, content: tuple[float, float] | None) -> Any:
    """Return the resolution in dots per inch that a result's file states.

    The resolution of the content is kept, although the number of pixels changes. The resolution says
    how finely a picture is to be printed; with more pixels, only the print becomes larger.

    Args:
      rule: the size rule of the result. If it is a size of paper, its `dpi`, one number, is returned.
      content: the (horizontal, vertical) resolution that the content's file states, or None if it
        states none. For all rules but sizes of paper, this argument is returned.
    """
    return getattr(rule, "dpi", content)


def resized_alpha(alpha: Any, image: AnyImage) -> Any:
    """Return an alpha channel resized to the size of a picture.

    Args:
      alpha: the alpha channel of the content, [h, w] in [0, 1]; if it is None, None is returned.
      image: the picture, [h', w', 3].

    Returns:
      The alpha channel, [h', w'] in [0, 1].
    """
    height, width = image.shape[:2]
    if alpha is None or alpha.shape == (height, width):
        return alpha
    masks = jnp.asarray(alpha, jnp.float32)[..., None]
    return np.asarray(antialiased_masks(masks, (height, width))[..., 0])
