"""Put several pictures on one sheet: in a row, in captioned rows, or in a table or labelled grid."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image as PilImage
from PIL import ImageDraw, ImageFont

from nst_jax import _checks
from nst_jax._types import HostImage
from nst_jax.images.eight_bit import to_uint8

CELL = 192  # px; default for the longer side of a thumbnail

# Approximate limit of the sides of a sheet, in px; `side_by_side` has no limit. To stay within it, the
# pictures of a large sheet are made smaller, down to `_SMALLEST_CELL`.
LONGEST = 8192

_SMALLEST_CELL = 16  # px; no thumbnail is reduced to a longer side of less than this

_PAPER, _INK = (255, 255, 255), (64, 64, 64)  # RGB of the background and of text


class _Tile(NamedTuple):
    """A picture on a sheet, and the caption that is drawn under it; "" for no caption."""

    picture: PilImage.Image
    caption: str = ""


_Table: TypeAlias = list[list[_Tile | None]]  # rows of a sheet; None where a cell is blank


def side_by_side(
    pictures: Sequence[Any], labels: Sequence[str] | None = None, *, height: int | None = None
) -> HostImage:
    """Put pictures in a row, resized to one height.

    Args:
      pictures: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      labels: a caption for each picture, drawn under it, or None for no captions. Accents are dropped;
        other characters that are not ASCII become `?`.
      height: height of the pictures, in px; None means the smallest of their heights, so that
        none is enlarged.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      TypeError: for a picture that is not an array, labels that are not a list or tuple of texts,
        and a `height` that is not a whole number.
      ValueError: for an array that is no image, no pictures at all, more or fewer labels than pictures,
        and a height under 1.

    Example:
      >>> import numpy as np
      >>> from nst_jax.images import sheets
      >>> sheets.side_by_side([np.zeros((32, 48, 3)), np.ones((64, 64, 3))]).shape
      (48, 104, 3)
    """
    arrays = _checks.images("pictures", pictures)
    captions = _captions("labels", labels, "pictures", arrays)
    if height is None:
        height = min(array.shape[0] for array in arrays)
    _checks.whole("height", height, least=1)
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
    """Draw a table of thumbnails: contents on the left, styles at the top, and results in the cells.

    Args:
      contents: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      styles: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      results: maps (index of a content, index of a style) to the image in that cell; cells without an
        image are blank.
      content_labels: a caption for each content, or None for no captions.
      style_labels: a caption for each style, or None for no captions.
      cell: longer side of a thumbnail in px; less if the sheet would be larger than `LONGEST`. Pictures
        are not enlarged.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      TypeError: for a picture that is not an array, labels that are not a list or tuple of texts,
        and a `cell` that is not a whole number.
      ValueError: for an array that is no image, no contents or no styles, more or fewer labels than
        pictures, a `cell` under 16, and a result that belongs to no content or style.

    Example:
      >>> import numpy as np
      >>> from nst_jax.images import sheets
      >>> grey = np.full((64, 64, 3), 0.5)
      >>> sheets.contact_sheet([grey], [grey, grey], {(0, 1): grey}, cell=32).shape
      (88, 128, 3)
    """
    down, across = _checks.images("contents", contents), _checks.images("styles", styles)
    left = _captions("content_labels", content_labels, "contents", down)
    top = _captions("style_labels", style_labels, "styles", across)
    _checks.whole("cell", cell, least=_SMALLEST_CELL)
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
        array = _checks.image(f"results[{row}, {column}]", result)
        table[row + 1][column + 1] = _Tile(_within(array, cell))
    return _drawn(table, scale=cell)


def captioned(
    pictures: Sequence[Any], labels: Sequence[str], *, columns: int, cell: int = CELL
) -> HostImage:
    """Put pictures in rows, in reading order, with a caption under each picture.

    Args:
      pictures: images [h, w, 3] in [0, 1] or uint8, of any sizes.
      labels: a caption for each picture.
      columns: number of pictures in a row.
      cell: longer side of a picture in px; less if the sheet would be larger than `LONGEST`. Pictures
        are not enlarged.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      TypeError: for a picture that is not an array, labels that are not a list or tuple, a label that
        is not a string, and `columns` or a `cell` that is not a whole number.
      ValueError: for an array that is no image, no pictures at all, more or fewer labels than pictures,
        `columns` under 1, and a `cell` under 16.

    Example:
      >>> import numpy as np
      >>> from nst_jax.images import sheets
      >>> grey = np.full((32, 64, 3), 0.5)
      >>> sheets.captioned([grey] * 3, ["a", "b", "c"], columns=2, cell=64).shape
      (132, 152, 3)
    """
    arrays = _checks.images("pictures", pictures)
    captions = _captions("labels", labels, "pictures", arrays)
    _checks.whole("columns", columns, least=1)
    _checks.whole("cell", cell, least=_SMALLEST_CELL)
    rows = -(-len(arrays) // columns)
    cell = max(_SMALLEST_CELL, min(cell, LONGEST // (1 + max(columns, rows))))
    tiles: list[_Tile | None] = [*_thumbnails(arrays, captions, cell)]
    tiles += [None] * (rows * columns - len(tiles))
    table = [tiles[row * columns : (row + 1) * columns] for row in range(rows)]
    return _drawn(table, scale=cell)


def labelled_grid(
    pictures: Mapping[tuple[int, int], Any],
    row_labels: Sequence[str],
    column_labels: Sequence[str],
    *,
    row_title: str = "",
    column_title: str = "",
    title: str = "",
    cell: int | None = None,
) -> HostImage:
    """Draw pictures in a grid with labelled rows and columns, as in the figures of papers.

    Long labels and titles are broken between words into several lines: labels to the width of a
    picture, titles to the length of the grid. As on every sheet, accents are dropped, and other
    characters that are not ASCII become `?`.

    Args:
      pictures: maps (row, column), counted from 0, to an image [h, w, 3] in [0, 1] or uint8; cells
        without an image are blank.
      row_labels: text to the left of each row; "" for none.
      column_labels: text above each column; "" for none.
      row_title: the quantity that differs between rows, written upwards on the left.
      column_title: the quantity that differs between columns, written above the column labels.
      title: title above the whole grid.
      cell: longer side of a picture in px; None means the pictures' own size. Pictures are made smaller
        if a side of the grid would exceed about `LONGEST` px, and they are never enlarged.

    Returns:
      [h, w, 3] float32 in [0, 1], on white.

    Raises:
      TypeError: for a picture that is not an array, a label or title that is not a string, and a `cell`
        that is not a whole number.
      ValueError: for an array that is no image, no pictures at all, a picture outside the labelled
        cells, and a `cell` under 16.

    Example:
      >>> import numpy as np
      >>> from nst_jax.images import sheets
      >>> grey = np.full((64, 64, 3), 0.5)
      >>> bare = sheets.labelled_grid({(0, 0): grey, (0, 1): grey}, [""], ["", ""])
      >>> named = sheets.labelled_grid({(0, 0): grey}, [""], ["1e-5", "1e-4"], title="ratio")
      >>> bare.shape, named.shape[1] == bare.shape[1], named.shape[0] > bare.shape[0]
      ((80, 152, 3), True, True)
    """
    texts = {"row_labels": row_labels, "column_labels": column_labels}
    titles = {"row_title": row_title, "column_title": column_title, "title": title}
    for name, labels in (texts | {name: [one] for name, one in titles.items()}).items():
        _check_texts(name, labels)
    arrays = _placed(pictures, row_labels, column_labels)
    longest = max(max(array.shape[:2]) for array in arrays.values())
    if cell is not None:
        _checks.whole("cell", cell, least=_SMALLEST_CELL)
    side = min(cell or longest, LONGEST // (1 + max(len(row_labels), len(column_labels))))
    tiles = {at: _within(array, max(_SMALLEST_CELL, side)) for at, array in arrays.items()}
    width = max(tile.width for tile in tiles.values())
    height = max(tile.height for tile in tiles.values())
    font = ImageFont.load_default(min(24, max(11, max(width, height) // 13)))
    margin = min(24, max(8, max(width, height) // 24))
    rows = [_text(label, font, width) for label in row_labels]
    columns = [_text(label, font, width) for label in column_labels]
    across, down = (
        count * length + (count - 1) * margin
        for count, length in ((len(columns), width), (len(rows), height))
    )
    upwards = _text(row_title, font, down).rotate(90, expand=True)
    above = _text(column_title, font, across)
    left = margin + sum(w + margin for w in (upwards.width, _widest(rows)) if w)
    head = _text(title, font, left + across - margin)
    top = margin + sum(h + margin for h in (head.height, above.height, _highest(columns)) if h)
    sheet = PilImage.new("RGB", (left + across + margin, top + down + margin), _PAPER)
    _paste_centred(sheet, head, (left + across + margin) / 2, margin + head.height / 2)
    under_head = margin + (head.height + margin if head.height else 0)
    _paste_centred(sheet, above, left + across / 2, under_head + above.height / 2)
    _paste_centred(sheet, upwards, margin + upwards.width / 2, top + down / 2)
    xs = [left + j * (width + margin) + width / 2 for j in range(len(columns))]
    ys = [top + i * (height + margin) + height / 2 for i in range(len(rows))]
    for x, label in zip(xs, columns, strict=True):
        _paste_centred(sheet, label, x, top - margin - _highest(columns) / 2)
    for y, label in zip(ys, rows, strict=True):
        _paste_centred(sheet, label, left - margin - _widest(rows) / 2, y)
    for (row, column), tile in tiles.items():
        _paste_centred(sheet, tile, xs[column], ys[row])
    return np.asarray(sheet, np.float32) / 255


def _placed(
    pictures: Mapping[tuple[int, int], Any], rows: Sequence[str], columns: Sequence[str]
) -> dict[tuple[int, int], np.ndarray]:
    if not pictures:
        raise ValueError("`pictures`: is empty; give at least one image")
    for row, column in pictures:
        if not (0 <= row < len(rows) and 0 <= column < len(columns)):
            raise ValueError(
                f"`pictures`: ({row}, {column}) is outside the {len(rows)} rows and "
                f"{len(columns)} columns that have labels; count from 0"
            )
    return {at: _checks.image(f"pictures{list(at)}", value) for at, value in pictures.items()}


def _widest(pictures: Sequence[PilImage.Image]) -> int:
    return max(picture.width for picture in pictures)


def _highest(pictures: Sequence[PilImage.Image]) -> int:
    return max(picture.height for picture in pictures)


def _paste_centred(sheet: PilImage.Image, picture: PilImage.Image, x: float, y: float) -> None:
    if picture.width and picture.height:
        sheet.paste(picture, (round(x - picture.width / 2), round(y - picture.height / 2)))


def _text(text: str, font: Any, width: float) -> PilImage.Image:
    """Draw text in lines of at most `width` px, on a picture that is just large enough for it.

    Without text, the picture has 0 x 0 px.
    """
    lines = _lines(_drawable(text), font, width)
    pitch = round(1.2 * font.getbbox("Ay")[3])
    longest = max((int(np.ceil(font.getlength(line))) for line in lines), default=0)
    picture = PilImage.new("RGB", (longest, pitch * len(lines)), _PAPER)
    draw = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        draw.text((longest / 2, pitch * (index + 0.5)), line, _INK, font, anchor="mm")
    return picture


def _lines(text: str, font: Any, width: float) -> list[str]:
    """Break text between words into lines of at most `width` px; shorten a word that is longer."""
    found: list[str] = []
    for word in text.split():
        longer = f"{found[-1]} {word}" if found else word
        if found and font.getlength(longer) <= width:
            found[-1] = longer
        else:
            found.append(word)
    return [_shortened(line, font, width) for line in found]


def _captions(
    argument: str, labels: Sequence[str] | None, other: str, pictures: Sequence[Any]
) -> list[str]:
    if labels is None:
        return [""] * len(pictures)
    _checks.same_length(argument, labels, other, pictures)
    _check_texts(argument, labels)
    return [_drawable(label) for label in labels]


def _check_texts(argument: str, labels: Sequence[Any]) -> None:
    for label in labels:
        if not isinstance(label, str):
            raise TypeError(f"`{argument}`: expected text, got {_checks.shown(label)}")


def _drawable(label: str) -> str:
    # Pillow's built-in font has hardly more than the ASCII characters. So accents are dropped, and each
    # character that is still not ASCII becomes `?`. Labels may be names of files, so there may also be
    # line breaks, which become spaces, and invalid bytes, which become `?`.
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
    return PilImage.fromarray(to_uint8(array)).resize((width, height), PilImage.Resampling.LANCZOS)


def _drawn(table: _Table, *, scale: int) -> HostImage:
    """Draw a table of pictures with captions below them, and return it, [h, w, 3] in [0, 1].

    Pictures are centred in their columns, at the bottom of their rows. `scale` is the height of all
    pictures or the limit of their longer sides, in px; the sizes of margins and text follow from it.
    """
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
    bottom = 0
    for row, height, below in zip(table, heights, strips, strict=True):
        bottom += margin + height
        left = margin
        for tile, width in zip(row, widths, strict=True):
            if tile is not None:
                x = left + (width - tile.picture.width) // 2
                sheet.paste(tile.picture, (x, bottom - tile.picture.height))
                text = _shortened(tile.caption, font, width + margin)
                draw.text((left + width / 2, bottom + below / 2), text, _INK, font, anchor="mm")
            left += width + margin
        bottom += below
    return np.asarray(sheet, np.float32) / 255


def _shortened(text: str, font: Any, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text.rstrip()}..." if text else ""
