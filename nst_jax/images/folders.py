"""Find the pictures in a folder, by the suffixes of its files."""

import os
from collections import Counter
from pathlib import Path

from nst_jax.images import decoding


def pictures_in(folder: Path, *, argument: str = "folder") -> list[Path]:
    """Return the paths in a folder that have a picture's suffix and are not hidden, sorted by name.

    Folders are left out. Files are not opened, so any file whose name has such a suffix is returned.

    Args:
      folder: the folder; folders inside it are not searched.
      argument: the caller's name for `folder`, shown in error messages.

    Raises:
      ValueError: if the folder cannot be read, or has no picture. If it has only other files, the
        message counts them by suffix.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"`{argument}`: cannot read '{folder}': {error.strerror}") from None
    found = [folder / name for name in names if _is_picture(name)]
    found = [path for path in found if not os.path.isdir(path)]
    if not found:
        others = passed_over(folder)
        only = f", only {others}" if others else ""
        raise ValueError(
            f"`{argument}`: the folder '{folder}' contains no pictures{only}; name another"
        )
    return found


def _is_picture(name: str) -> bool:
    return name.lower().endswith(decoding.suffixes()) and not name.startswith(".")


def passed_over(folder: Path) -> str:
    """Return how many files of a folder are not pictures, by suffix, as text such as "1 .pdf, 3 .txt".

    A file counts as a picture if its suffix is that of a picture. Hidden files are not counted. HEIC
    pictures are counted if Pillow cannot open them; the text then ends with the advice to save them as
    JPEG or PNG.
    """
    names = [name for name in os.listdir(folder) if not (_is_picture(name) or name.startswith("."))]
    # `os.path.isfile` is False for a link that leads to itself; `os.DirEntry.is_file` raises an error.
    others = [name for name in names if os.path.isfile(folder / name)]
    kinds = Counter(Path(name).suffix.lower() or "without a suffix" for name in others)
    text = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    heic = any(kind in decoding.HEIC_SUFFIXES for kind in kinds)
    return f"{text} (HEIC is painted if it is saved as JPEG or PNG)" if heic else text
