"""Manifests, which are CSV, JSONL or Parquet files that list pictures to paint, and their rows.

A row is one picture to paint. A manifest is a table of rows with the column `style` and optionally the
others in `COLUMNS`. A row without a content is a texture of its style. Rows are numbered from 1, not
counting a header. Paths of contents, styles, masks and recipe files are relative to the manifest's
folder, so that this folder can be moved as a whole; outputs are relative to the folder of the results.
An override is a change KEY=VALUE of the recipe.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _checks, vgg
from nst_jax.app import parsing, recipe_files
from nst_jax.app.messages import with_file_named

CONTENTS = "contents"  # name of the command-line argument that names pictures or a manifest

PICTURES = ("content", "style")
# Columns that must be empty in a row without a content, which makes a texture. The first three name
# masks or colour-coded maps of parts of the content. `style_fine` gives a style the fine structure of
# another picture. For a texture, the user has to combine the style with that picture before the batch,
# by `nst_jax.combined_style`.
OF_CONTENTS = ("region", "regions", "protect", "style_fine")

COLUMNS = (
    *PICTURES,
    "output",
    "recipe",
    "overrides",
    "size",
    "seed",
    "tile_seamless",
    *OF_CONTENTS,
)

LARGEST_SEED = 2**32 - 1

SEPARATOR = ";"  # separates the styles, overrides, regions, masks or maps in one cell of a manifest

Cells = Mapping[str, Any]  # one row of a manifest: name of a column -> the cell


class ManifestRow(NamedTuple):
    """One picture to paint, from a manifest or the command line; its files have not been opened yet."""

    number: int  # number of the row, from 1
    content: Path | None  # None for a texture, which has no content
    # Style files, which are blended, each with its share (weight) in the blend. The share is None if
    # the user gave none.
    styles: tuple[parsing.StyleShare, ...]
    location: str = ""  # text such as "row 3 of 'jobs.csv'", for messages; empty without a manifest
    # Path of the result, relative to the folder of results. If it is None, the result is named after
    # its content and styles; a texture, which has no content, is named after its styles.
    output: str | None = None
    recipe: str | None = None  # a name or a file; None is the recipe of the command line
    overrides: tuple[str, ...] = ()  # each KEY=VALUE, a change of the recipe
    regions: tuple[parsing.RegionFiles, ...] = ()
    # Paths of two pictures, a map of the content and a map of the style; or empty. In a map, each
    # colour marks a region. Each region of the content is painted in the style of the style's region
    # that has the same colour.
    region_maps: tuple[Path, ...] = ()
    protect: parsing.ProtectFile | None = None
    # Whether content and style were typed on the command line one by one, rather than found in a
    # folder, by a glob or in a manifest. If a typed file cannot be used, its name was probably
    # mistyped, and the batch does not start.
    typed: bool = False
    # For each layer of the network that has a style picture of its own: the name of the layer, and the
    # path of the picture. (In this package, a layer whose activations are read is called a tap.)
    tap_files: tuple[tuple[str, Path], ...] = ()
    # Path of the picture whose fine structure the style gets before the run. None means the picture
    # that the command line or the recipe file names; if neither names one, the style keeps its own
    # structure.
    style_fine: Path | None = None
    size: str | None = None  # written as after `--size`; None: that of the command line
    seed: int | None = None  # seed of the noise; None: that of the command line
    tile_seamless: bool = False  # whether opposite borders of a texture fit together

    @property
    def style_files(self) -> tuple[Path, ...]:
        """All style files: those that are blended, then those given to single layers."""
        return (*(path for path, _ in self.styles), *(path for _, path in self.tap_files))

    @property
    def controls(self) -> dict[str, Any]:
        """The row's regions and protected part, by the parameter names of `stylize`'s options."""
        return {
            "regions": self.regions,
            "region_maps": self.region_maps,
            "protect": self.protect,
        }


@contextmanager
def naming_row(row: ManifestRow) -> Iterator[None]:
    """Context manager: name the manifest and the row in the message of an error from its block.

    A TypeError or ValueError becomes a ValueError with this message, in which `size` is the row's
    column if the row has a size. Errors of other types are unchanged, and so are all errors if the row
    is not from a manifest.
    """
    try:
        yield
    except (TypeError, ValueError) as error:
        if not row.location:
            raise
        message = with_file_named(str(error), row.recipe)
        if row.size is not None:  # the option of this name is not used for this row
            message = re.sub("(?<!column )`size`", "column `size`", message)
        raise ValueError(f"`{CONTENTS}`: {row.location}: {message}") from None


# --- Files ----------------------------------------------------------------------------------------


def is_manifest(path: Path) -> bool:
    """Return whether a path names a manifest, which is a table of pictures to paint.

    It does if its suffix is .csv, .jsonl or .parquet, and it is not a folder.
    """
    return path.suffix.lower() in READERS and not path.is_dir()


def read_manifest(path: Path) -> list[ManifestRow]:
    """Read the rows of a manifest, which is a table of pictures to paint.

    Args:
      path: a file with the suffix .csv (UTF-8 with a header), .jsonl (one object a line) or .parquet.
        A cell of the column `style` has one or more of FILE, FILE:SHARE (SHARE is the style's weight in
        the blend of all) and LAYER=FILE (the style of one layer). Other cells are written like the
        values of options: `region`, `regions` (two colour-coded maps, of content and style), `protect`
        (masks), `style_fine` (one picture), `size` and `seed` like those of the options with these
        names, and `overrides` (KEY=VALUE) like those of `--set`. Several values in a cell are separated
        by semicolons, or are a list in JSONL and Parquet. Overrides may also be an object of keys and
        values. A row whose `content` is empty is a texture; its opposite borders fit together if
        `tile_seamless` is true.

    Returns:
      The rows, in the order of the file.

    Raises:
      ValueError: if the file is missing, damaged, unreadable or without rows; if pyarrow is needed but
        missing; if the column of styles is missing, or a column is unknown or given twice; or if the
        cell of a style is empty, or another cell cannot be used. An error about a cell names the row.
    """
    try:
        rows = [_row(number, cells, path) for number, cells in READERS[path.suffix.lower()](path)]
    except FileNotFoundError:
        raise _refused(path, "there is no such file; check the path") from None
    except UnicodeDecodeError:
        raise _refused(path, "is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from None
    if not rows:
        raise _refused(
            path, "has no rows; write one for each picture under the names of the columns"
        )
    return rows


def _refused(path: Path, reason: str) -> ValueError:
    return ValueError(f"`{CONTENTS}`: '{path}': {' '.join(reason.split())}")


def _location(number: int, path: Path) -> str:
    return f"row {number} of '{path}'"


def _csv(path: Path) -> Iterator[tuple[int, Cells]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_columns(header, path)
            # Empty lines are not rows, and are not counted.
            for number, cells in enumerate(filter(None, reader), 1):
                if len(cells) > len(header):
                    raise _refused(
                        path,
                        f"row {number} has {len(cells)} cells for {len(header)} columns; put quotes "
                        "around a cell with a comma in it",
                    )
                yield number, dict(zip(header, cells, strict=False))
        except csv.Error as error:
            raise _refused(path, f"is not CSV near line {reader.line_num}: {error}") from None


def _jsonl(path: Path) -> Iterator[tuple[int, Cells]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _refused(path, f"row {number} is not JSON: {error}") from None
            if not isinstance(cells, dict):
                raise _refused(
                    path, f"row {number} is not an object such as {{'content': 'a.jpg'}}"
                )
            _check_columns([*cells], path, f"row {number} ")
            yield number, cells


def _parquet(path: Path) -> Iterator[tuple[int, Cells]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise _refused(
            path, "reading Parquet needs pyarrow; install it by `pip install 'nst-jax[parquet]'`"
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(file.schema_arrow.names, path)
            number = 0
            for batch in file.iter_batches():
                for cells in batch.to_pylist():
                    number += 1
                    yield number, cells
    except ArrowException as error:
        raise _refused(path, f"is not Parquet: {error}") from None


READERS: dict[str, Callable[[Path], Iterator[tuple[int, Cells]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _check_columns(names: Sequence[str], path: Path, where: str = "") -> None:
    for name in names:
        if name not in COLUMNS:
            near = _checks.nearest_name(name, COLUMNS)
            hint = f"did you mean {near!r}?" if near else f"the columns are {', '.join(COLUMNS)}"
            if ";" in name:
                hint = "separate the columns by commas, not by semicolons"
            raise _refused(path, f"{where}has an unknown column {name!r}; {hint}")
        if names.count(name) > 1:
            raise _refused(path, f"has the column {name!r} twice")
    if "style" not in names:
        raise _refused(
            path,
            f"{where}has no column 'style'; a manifest needs it, and 'content' unless all its rows are "
            "textures",
        )


# --- Cells ----------------------------------------------------------------------------------------


def _row(number: int, cells: Cells, path: Path) -> ManifestRow:
    folder = path.parent
    try:
        recipe = _text("recipe", cells.get("recipe"))
        if recipe is not None and recipe_files.recipe_file(recipe) is not None:
            recipe = os.path.join(folder, recipe)
        content = _text("content", cells.get("content"))
        style_fine = _text("style_fine", cells.get("style_fine"))
        styles, tap_files = _styles(cells.get("style"), folder)
        if not styles:
            raise ValueError("has no style")
        seamless = _truth("tile_seamless", cells.get("tile_seamless"))
        _check_content(content, cells, seamless)
        return ManifestRow(
            number=number,
            content=None if content is None else folder / content,
            styles=styles,
            tap_files=tap_files,
            location=_location(number, path),
            output=_text("output", cells.get("output")),
            recipe=recipe,
            overrides=tuple(_overrides(cells.get("overrides"))),
            regions=_regions(cells.get("region"), folder),
            region_maps=_region_maps(cells.get("regions"), folder),
            protect=_protect(cells.get("protect"), folder),
            style_fine=None if style_fine is None else folder / style_fine,
            size=_size(cells.get("size")),
            seed=_seed(cells.get("seed")),
            tile_seamless=seamless,
        )
    except ValueError as error:
        # The word "column" keeps messages from naming the option that is called like the column.
        column = "column " if str(error).startswith("`") else ""
        raise ValueError(f"`{CONTENTS}`: {_location(number, path)}: {column}{error}") from None


def _check_content(content: str | None, cells: Cells, seamless: bool) -> None:
    """Refuse cells of a row that do not go with its content, or with its lack of one.

    If a row has a content, `tile_seamless` must not be true. If it has none, it is a texture, and its
    cells in the columns `OF_CONTENTS` must be empty.

    Args:
      content: the text of the cell `content`, or None if it is empty.
      cells: the row's cells, by the names of their columns.
      seamless: the value of the cell `tile_seamless`.
    """
    if content is not None:
        if seamless:
            raise ValueError(
                "`tile_seamless`: is for textures, and this row has a content; leave the cell empty, "
                "and write network.padding=wrap into `overrides`"
            )
        return
    for name in OF_CONTENTS:
        value = cells.get(name)
        if value and not (isinstance(value, str) and value.isspace()):
            raise ValueError(
                f"has a {name} and no content; without a content it is a texture, which cannot have "
                f"it: leave the cell {name} empty, or name a content"
            )


def _whole(value: Any) -> Any:
    """Return an int for a float such as 3.0, and any other value unchanged.

    A column of integers that has empty cells may be stored as floats.
    """
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _size(value: Any) -> str | None:
    value = _whole(value)
    number = isinstance(value, int) and not isinstance(value, bool)
    return _text("size", str(value) if number else value)


def _seed(value: Any) -> int | None:
    value = _whole(value)
    number = isinstance(value, int) and not isinstance(value, bool)
    text = str(value) if number or isinstance(value, float) else _text("seed", value)
    if text is None:
        return None
    # Python refuses to read numbers of thousands of digits, so their length is checked first.
    short = text.isascii() and len(text) <= len(str(LARGEST_SEED))
    if not (short and text.isdecimal() and int(text) <= LARGEST_SEED):
        raise ValueError(
            f"`seed`: expected a whole number from 0 to {LARGEST_SEED}, got {_checks.shown(value)}"
        )
    return int(text)


# Texts in a cell that mean true or false, in lower case.
TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def _truth(name: str, value: Any) -> bool:
    value = _whole(value)
    number = isinstance(value, (bool, int))
    text = _text(name, str(value) if number else value)
    if text is None:
        return False
    if text.lower() not in TRUTHS:
        raise ValueError(
            f"`{name}`: expected true or false, or an empty cell, got {_checks.shown(value)}"
        )
    return TRUTHS[text.lower()]


def _text(name: str, value: Any) -> str | None:
    """Return the text of a cell of the column `name`, or None if the cell is empty."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}`: expected text, got {_checks.shown(value)}")
    if value and "\0" in value:
        raise ValueError(f"`{name}`: contains a zero byte, which file names cannot contain")
    try:
        os.fsencode(value or "")
    except UnicodeEncodeError:
        raise ValueError(
            f"`{name}`: {value!r} has half a character: one of two \\u codes is missing"
        ) from None
    return (value or "").strip() or None


def _styles(
    value: Any, folder: Path
) -> tuple[tuple[parsing.StyleShare, ...], tuple[tuple[str, Path], ...]]:
    """Return the styles in a cell with their shares, and (layer, path) of each style of a single layer.

    Args:
      value: the cell of the column `style`: a list of styles, or a text with `SEPARATOR` between them.
        LAYER=FILE is the style of a single layer.
      folder: the manifest's folder, to which paths are relative.
    """
    if isinstance(value, list):
        words = [_text("style", part) for part in value]
    else:
        text = _text("style", value) or ""
        # If the whole text names a file, its semicolons are part of the name and separate nothing.
        whole = file_exists(folder / text) or SEPARATOR not in text
        words = [text] if whole else [part.strip() for part in text.split(SEPARATOR)]
    styles, files = [], {}
    for word in filter(None, words):
        layer, equals, file = word.partition("=")
        if equals and _is_layer(layer) and not file_exists(folder / word):
            files[vgg.resolve_tap(layer)] = folder / file
        else:
            styles.append(parsing.parse_style(word, folder))
    return tuple(styles), tuple(files.items())


def _is_layer(name: str) -> bool:
    try:
        vgg.resolve_tap(name)
    except ValueError:
        return False
    return True


def _separated(
    name: str, value: Any, whole: Callable[[str, Path], bool], folder: Path
) -> list[str]:
    """Split a cell's text at all semicolons, or not at all if the whole text names existing files.

    In the second case, the semicolons are part of the files' names.

    Args:
      name: name of the cell's column, for error messages.
      value: the cell, as it was read.
      whole: takes the text and `folder`; returns whether the whole text names existing files.
      folder: the manifest's folder, to which paths are relative.
    """
    text = _text(name, value) or ""
    return [text] if SEPARATOR in text and whole(text, folder) else text.split(SEPARATOR)


def _is_mask(text: str, folder: Path) -> bool:
    return file_exists(parsing.parse_protect(text, folder).mask)


def _is_region(text: str, folder: Path) -> bool:
    try:
        region = parsing.parse_region(text, folder)
    except ValueError:
        return False
    return all(map(file_exists, region.paths))


def _two_maps(value: Any, folder: Path) -> list[str]:
    """Split a cell of the column `regions`, which names two files, between the two names.

    The files are colour-coded pictures: a map of the content's regions and a map of the style's. Their
    names may contain semicolons. So the text is split at the first semicolon that has names of existing
    files on both sides. If there is no such semicolon, the text is split at all semicolons.
    """
    parts = (_text("regions", value) or "").split(SEPARATOR)
    for first in range(1, len(parts)):
        pair = [SEPARATOR.join(some).strip() for some in (parts[:first], parts[first:])]
        if all(pair) and all(file_exists(folder / name) for name in pair):
            return pair
    return parts


def _regions(value: Any, folder: Path) -> tuple[parsing.RegionFiles, ...]:
    parts = value if isinstance(value, list) else _separated("region", value, _is_region, folder)
    words = [_text("region", part) for part in parts]
    try:
        return tuple(parsing.parse_region(word, folder) for word in words if word)
    except ValueError as error:
        raise ValueError(f"`region`: {error}") from None


def _region_maps(value: Any, folder: Path) -> tuple[Path, ...]:
    parts = value if isinstance(value, list) else _two_maps(value, folder)
    words = [word for word in (_text("regions", part) for part in parts) if word]
    if len(words) not in (0, 2):
        raise ValueError(
            f"`regions`: expected two colour-coded pictures, MAP{SEPARATOR}STYLE_MAP, got {value!r}; "
            "regions with masks of their own are in the column 'region'"
        )
    return tuple(folder / word for word in words)


def _protect(value: Any, folder: Path) -> parsing.ProtectFile | None:
    parts = value if isinstance(value, list) else _separated("protect", value, _is_mask, folder)
    words = [_text("protect", part) for part in parts]
    try:
        return parsing.joined_protect(
            [parsing.parse_protect(word, folder) for word in words if word]
        )
    except ValueError as error:
        raise ValueError(f"`protect`: {error}") from None


def _overrides(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        return [f"{key}={_typed(item)}" for key, item in value.items() if item is not None]
    if isinstance(value, list):
        # pyarrow returns a Parquet map as a list of pairs.
        if all(isinstance(part, tuple) for part in value):
            return _overrides(dict(value))
        return [word for word in (_text("overrides", part) for part in value) if word]
    text = _text("overrides", value) or ""
    return [part.strip() for part in text.split(SEPARATOR) if part.strip()]


def _typed(value: Any) -> str:
    """Return a JSON value as text, as a user would type the value after `--set KEY=`."""
    return value if isinstance(value, str) else json.dumps(value)


def file_exists(path: Path) -> bool:
    """Return whether a file or folder is at a path; False if the path is impossible or inaccessible."""
    try:
        return path.exists()
    except (OSError, ValueError):  # `path` is no possible file name, or its folder may not be read
        return False
