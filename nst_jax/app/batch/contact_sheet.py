"""The contact sheet of a batch: contents, styles and results on one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nst_jax import images
from nst_jax.app.batch.entries import Entry
from nst_jax.app.writing import where_instead, write_picture
from nst_jax.images import sheets


def draw_sheet(entries: Sequence[Entry]) -> np.ndarray:
    """Draw the contact sheet: contents on the left, styles at the top, and results in the cells.

    `entries` are pictures that have been painted. A picture that blends several styles is shown in the
    column of its first style. Textures, which have no content, are left out.

    Returns:
      [h, w, 3] float32 in [0, 1].
    """
    shown = [(e.content, e.styles[0], e.output) for e in entries if e.content is not None]
    contents = dict.fromkeys(content for content, _, _ in shown)
    styles = dict.fromkeys(style for _, style, _ in shown)
    down = {path: index for index, path in enumerate(contents)}
    across = {path: index for index, path in enumerate(styles)}
    return sheets.contact_sheet(
        [thumbnail(path) for path in down],
        [thumbnail(path) for path in across],
        {(down[content], across[style]): thumbnail(output) for content, style, output in shown},
        content_labels=[path.stem for path in down],
        style_labels=[path.stem for path in across],
    )


def thumbnail(path: Path) -> np.ndarray:
    """Read a picture, and reduce it to the size of a cell of the contact sheet if it is larger."""
    image = images.load(path)
    height, width = image.shape[:2]
    factor = min(1.0, sheets.CELL / max(height, width))
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    return images.bicubic_8bit(image, shape)


def write_sheet(path: Path, drawn: Any, metadata: dict[str, Any]) -> None:
    """Write a contact sheet to a file.

    Args:
      path: the path of the file.
      drawn: the sheet, from `draw_sheet`.
      metadata: the metadata to embed in the file.

    Raises:
      OSError: if the sheet cannot be written to `path`. It is then written to another folder if
        possible, and the message says where it is.
    """
    try:
        write_picture(path, drawn, metadata=metadata)
    except OSError as error:
        raise OSError(f"{error}{where_instead(path, drawn, 'the sheet')}") from error
