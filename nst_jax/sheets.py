"""Several pictures on one: a row to compare, and a table of contents and styles."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from nst_jax import checks, images
from nst_jax.images import HostImage

CELL = 192  # px; the longer side of a thumbnail
LONGEST = 8192  # px; about the side of a contact sheet beyond which its thumbnails shrink
_SMALLEST_CELL = 16
_PAPER, _INK = (255, 255, 255), (64, 64, 64)


class _Tile(NamedTuple):
    picture: PilImage.Image
    caption: str = ""


_Table: TypeAlias = list[list[_Tile | None]]


def side_by_side(
    pictures: Sequence[Any], labels: Sequence[str] | None = None, *, height: int | None = None
) -> HostImage:
    """Put pictures in a row, brought to one height.

    Args:
      pictures: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      labels: captions under them, one each, or None; accents are dropped, other scripts become `?`.
      height: of the pictures, in px; None takes the lowest one's, so that none is enlarged.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      ValueError: for what is no image, and for another number of labels than of pictures.

    Example:
      >>> import numpy as np
      >>> from nst_jax import sheets
      >>> sheets.side_by_side([np.zeros((32, 48, 3)), np.ones((64, 64, 3))]).shape
      (48, 104, 3)
    """
    arrays = checks.images("pictures", pictures)
    captions = _captions("labels", labels, "pictures", arrays)
    if height is None:
        height = min(array.shape[0] for array in arrays)
    checks.number("height", height, least=1)
    row: list[_Tile | None] = [
        _Tile(_of_height(array, height), caption)
        for array, caption in zip(arrays, captions, strict=True)
    ]
    return _drawn([row], scale=height)


def contact_sheet(
    contents: Sequence[Any],
    styles: Sequence[Any],
    results: Mapping[tuple[int, int], Any],
    *,
    content_labels: Sequence[str] | None = None,
    style_labels: Sequence[str] | None = None,
    cell: int = CELL,
) -> HostImage:
    """Draw a table of thumbnails: contents down, styles across, results where they meet.

    Args:
      contents: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      styles: likewise.
      results: the image for (index of a content, index of a style); others stay blank.
      content_labels: captions of the contents, or None.
      style_labels: captions of the styles, or None.
      cell: longer side of a thumbnail in px; less if the sheet would grow beyond `LONGEST`.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      ValueError: for what is no image, another number of labels than of pictures, and a result that
        belongs to no content or style.

    Example:
      >>> import numpy as np
      >>> from nst_jax import sheets
      >>> grey = np.full((64, 64, 3), 0.5)
      >>> sheets.contact_sheet([grey], [grey, grey], {(0, 1): grey}, cell=32).shape
      (88, 128, 3)
    """
    down, across = checks.images("contents", contents), checks.images("styles", styles)
    left = _captions("content_labels", content_labels, "contents", down)
    top = _captions("style_labels", style_labels, "styles", across)
    checks.number("cell", cell, least=_SMALLEST_CELL)
    cell = max(_SMALLEST_CELL, min(cell, LONGEST // (1 + max(len(down), len(across)))))
    table: _Table = [[None, *_thumbnails(across, top, cell)]]
    for content in _thumbnails(down, left, cell):
        table.append([content] + [None] * len(across))
    for (row, column), result in results.items():
        if not (0 <= row < len(down) and 0 <= column < len(across)):
            raise ValueError(
                f"`results`: ({row}, {column}) is outside the {len(down)} contents and "
                f"{len(across)} styles; count from 0"
            )
        array = checks.image(f"results[{row}, {column}]", result)
        table[row + 1][column + 1] = _Tile(_within(array, cell))
    return _drawn(table, scale=cell)


def _captions(
    argument: str, labels: Sequence[str] | None, other: str, pictures: Sequence[Any]
) -> list[str]:
    if labels is None:
        return [""] * len(pictures)
    checks.same_length(argument, labels, other, pictures)
    return [_drawable(label) for label in labels]


def _drawable(label: str) -> str:
    # Pillow's own font has only ASCII; a file's name may also hold line breaks and broken bytes.
    parts = unicodedata.normalize("NFKD", label)
    bare = "".join(sign for sign in parts if not unicodedata.combining(sign))
    return " ".join(bare.encode("ascii", "replace").decode().split())


def _thumbnails(arrays: Sequence[np.ndarray], captions: Sequence[str], cell: int) -> list[_Tile]:
    return [
        _Tile(_within(array, cell), caption)
        for array, caption in zip(arrays, captions, strict=True)
    ]


def _of_height(array: np.ndarray, height: int) -> PilImage.Image:
    width = max(1, round(array.shape[1] * height / array.shape[0]))
    return _resized(array, width, height)


def _within(array: np.ndarray, cell: int) -> PilImage.Image:
    height, width = array.shape[:2]
    scale = min(1.0, cell / max(height, width))
    return _resized(array, max(1, round(width * scale)), max(1, round(height * scale)))


def _resized(array: np.ndarray, width: int, height: int) -> PilImage.Image:
    return PilImage.fromarray(images.to_uint8(array)).resize(
        (width, height), PilImage.Resampling.LANCZOS
    )


def _drawn(table: _Table, *, scale: int) -> HostImage:
    """Draw tiles, each in the middle of its column and on the floor of its row."""
    margin = min(24, max(8, scale // 24))
    font = ImageFont.load_default(min(24, max(10, scale // 13)))
    strip = round(1.8 * font.getbbox("Ay")[3])
    widths = [
        max((t.picture.width for t in column if t), default=0)
        for column in zip(*table, strict=True)
    ]
    heights = [max((t.picture.height for t in row if t), default=0) for row in table]
    strips = [strip if any(t and t.caption for t in row) else 0 for row in table]
    size = (
        sum(widths) + margin * (len(widths) + 1),
        sum(heights) + sum(strips) + margin * (len(heights) + 1),
    )
    sheet = PilImage.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    floor = 0
    for row, height, below in zip(table, heights, strips, strict=True):
        floor += margin + height
        left = margin
        for tile, width in zip(row, widths, strict=True):
            if tile is not None:
                x = left + (width - tile.picture.width) // 2
                sheet.paste(tile.picture, (x, floor - tile.picture.height))
                text = _shortened(tile.caption, font, width + margin)
                draw.text((left + width / 2, floor + below / 2), text, _INK, font, anchor="mm")
            left += width + margin
        floor += below
    return np.asarray(sheet, np.float32) / 255


def _shortened(text: str, font: Any, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""
