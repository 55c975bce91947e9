"""What a batch shall paint, as rows: crossed words, folders and globs, or a CSV, JSONL or Parquet file.

A manifest has the columns `content` and `style` and, where wanted, `output`, `recipe` and
`overrides`. Rows are counted from 1, a header apart. Contents, styles and recipe files are looked for
from the manifest's own folder, so that both may be moved together; outputs from the batch's.
"""

import csv
import glob
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nst_jax import _checks
from nst_jax.app import arguments, parsing

ARGUMENT = "contents"  # where a manifest is named on the command line

REQUIRED, OPTIONAL = ("content", "style"), ("output", "recipe", "overrides")

COLUMNS = (*REQUIRED, *OPTIONAL)

BETWEEN = ";"  # several styles or overrides in one cell


# Of a folder's files, those that are pictures by their names.
PICTURES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff", ".gif", ".bmp"),
    *(".ppm", ".pgm", ".pnm", ".avif", ".jp2"),
)


Cells = Mapping[str, Any]


class Row(NamedTuple):
    """One picture that is wanted; nothing of it was looked at yet."""

    number: int  # from 1
    content: Path
    styles: tuple[parsing.Share, ...]
    place: str = ""  # where it stands, for messages; empty for what was typed as words
    output: str | None = None  # None is named after content and style
    recipe: str | None = None  # None is the command line's
    overrides: tuple[str, ...] = ()  # KEY=VALUE each
    named: bool = False  # whether its files were typed one by one, so that a bad one is a mistake


def rows_of(
    contents: Sequence[Path],
    *,
    styles: Sequence[Path],
    output: Path,
    pair: str,
    sheet: bool,
    shard: str | None,
    **others: Any,
) -> list[Row]:
    """Return what a batch's words ask for.

    Args:
      contents: words, as `files` takes them; or one manifest.
      styles: words; none beside a manifest.
      output: the folder of the results.
      pair: "all" or "zip".
      sheet: whether a contact sheet is wanted.
      shard: which part of the batch, or None.
      **others: flags that no row depends on.

    Raises:
      ValueError: for words that do not go together, and as `crossed` and `read` do.
    """
    listing = next(filter(is_manifest, contents), None)
    if listing is not None:
        if len(contents) > 1:
            raise ValueError(f"`{ARGUMENT}`: '{listing}' is a manifest, which stands alone")
        for flag, value in (("styles", styles), ("sheet", sheet), ("pair", pair != "all")):
            if value:
                raise ValueError(f"`{flag}`: does not go with a manifest, whose rows are pairs")
        return read(listing)
    if not styles:
        raise ValueError("`styles`: is missing; give one or more, or a manifest as CONTENTS")
    if os.path.realpath(output) in {os.path.realpath(word) for word in (*contents, *styles)}:
        raise ValueError(
            f"`output`: '{output}' is read from, so that results would be inputs of the next start; "
            "choose another folder"
        )
    if sheet and shard is not None:
        raise ValueError("`sheet`: shows all pictures and `--shard` paints some; leave one out")
    return crossed(contents, styles, zipped=pair == "zip")


# --- Words ----------------------------------------------------------------------------------------


def is_manifest(path: Path) -> bool:
    """Say whether a word on the command line names a manifest, by its suffix."""
    return path.suffix.lower() in READERS and not path.is_dir()


def files(words: Sequence[Path], argument: str) -> list[tuple[Path, bool]]:
    """Return the pictures that words stand for: files, all pictures of a folder, or a glob's.

    Args:
      words: as typed.
      argument: how the caller calls them, for messages.

    Returns:
      Each path, and whether it was typed itself.

    Raises:
      ValueError: for a folder without pictures and a pattern that nothing matches.
    """
    found: list[tuple[Path, bool]] = []
    for word in words:
        if word.is_dir():
            found += [(path, False) for path in _in_folder(word, argument)]
        elif glob.has_magic(str(word)) and not _exists(word):
            found += [(path, False) for path in _matching(str(word), argument)]
        else:
            found.append((word, True))
    return found


def _in_folder(folder: Path, argument: str) -> list[Path]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"`{argument}`: cannot read '{folder}': {error.strerror}") from None
    found = [
        folder / name
        for name in names
        if name.lower().endswith(PICTURES) and not name.startswith(".")
    ]
    if not found:
        raise ValueError(f"`{argument}`: the folder '{folder}' holds no pictures; name another")
    return found


def _matching(pattern: str, argument: str) -> list[Path]:
    found = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    found = [path for path in found if path.is_file()]
    if not found:
        raise ValueError(f"`{argument}`: no file matches '{pattern}'; check the pattern")
    return found


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # no possible name
        return False


def crossed(contents: Sequence[Path], styles: Sequence[Path], *, zipped: bool) -> list[Row]:
    """Pair every content with every style, or the n-th with the n-th.

    Args:
      contents: words, as `files` takes them.
      styles: the same.
      zipped: whether the n-th meets the n-th.

    Returns:
      Rows in the order of the contents, then the styles.

    Raises:
      ValueError: if `zipped` and there are not as many of one as of the other; and as in `files`.
    """
    down, across = files(contents, "contents"), files(styles, "styles")
    pairs = [(content, style) for content in down for style in across]
    if zipped:
        if len(down) != len(across):
            raise ValueError(
                f"`styles`: `--pair zip` wants one for each content; got {len(across)} for "
                f"{len(down)}"
            )
        pairs = list(zip(down, across, strict=True))
    return [
        Row(number, content, ((style, None),), named=typed_content and typed_style)
        for number, ((content, typed_content), (style, typed_style)) in enumerate(pairs, 1)
    ]


# --- Manifests ------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    """Read a manifest.

    Args:
      path: with the suffix .csv (with a header, UTF-8), .jsonl (an object a line) or .parquet. A style
        may be FILE:SHARE, and several are a blend: with semicolons between them, or a list in JSONL
        and Parquet. Overrides are KEY=VALUE as `--set` takes them, likewise, or an object.

    Returns:
      Its rows.

    Raises:
      ValueError: if it is missing or cannot be read, has no row, misses a column or has one that is
        unknown, or naming a row, if a cell is empty that may not be, or holds something else.
    """
    try:
        rows = [_row(number, cells, path) for number, cells in READERS[path.suffix.lower()](path)]
    except FileNotFoundError:
        raise _refused(path, "there is no such file; check the path") from None
    except UnicodeDecodeError:
        raise _refused(path, "is not UTF-8 text") from None
    except OSError as error:
        raise _refused(path, f"cannot be read: {error.strerror or error}") from None
    if not rows:
        raise _refused(path, "has no rows")
    return rows


def _refused(path: Path, reason: str) -> ValueError:
    return ValueError(f"`{ARGUMENT}`: '{path}': {' '.join(reason.split())}")


def _place(number: int, path: Path) -> str:
    return f"row {number} of '{path}'"


def _csv(path: Path) -> Iterator[tuple[int, Cells]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [name.strip() for name in next(reader, [])]
            _check_columns(header, path)
            # An empty line is no row.
            for number, cells in enumerate(filter(None, reader), 1):
                if len(cells) > len(header):
                    raise _refused(
                        path,
                        f"row {number} has {len(cells)} cells for {len(header)} columns; put quotes "
                        "around a cell with a comma in it",
                    )
                yield number, dict(zip(header, cells, strict=False))
        except csv.Error as error:
            raise _refused(path, f"is no CSV near line {reader.line_num}: {error}") from None


def _jsonl(path: Path) -> Iterator[tuple[int, Cells]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(filter(str.strip, file), 1):
            try:
                cells = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise _refused(path, f"row {number} is no JSON: {error}") from None
            if not isinstance(cells, dict):
                raise _refused(path, f"row {number} is no object such as {{'content': 'a.jpg'}}")
            _check_columns([*cells], path, f"row {number} ")
            yield number, cells


def _parquet(path: Path) -> Iterator[tuple[int, Cells]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise _refused(
            path, "Parquet is read by pyarrow, which is missing; `pip install 'nst-jax[parquet]'`"
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
        raise _refused(path, f"is no Parquet: {error}") from None


READERS: dict[str, Callable[[Path], Iterator[tuple[int, Cells]]]] = {
    ".csv": _csv,
    ".jsonl": _jsonl,
    ".parquet": _parquet,
}


def _check_columns(names: Sequence[str], path: Path, where: str = "") -> None:
    for name in names:
        if name not in COLUMNS:
            near = _checks.nearest_name(name, COLUMNS)
            hint = f"did you mean {near!r}?" if near else f"there are {', '.join(COLUMNS)}"
            raise _refused(path, f"{where}has a column {name!r} that is unknown; {hint}")
        if names.count(name) > 1:
            raise _refused(path, f"has the column {name!r} twice")
    for name in REQUIRED:
        if name not in names:
            raise _refused(
                path, f"{where}has no column {name!r}; a manifest has {' and '.join(REQUIRED)}"
            )


# --- Cells ----------------------------------------------------------------------------------------


def _row(number: int, cells: Cells, path: Path) -> Row:
    folder = path.parent
    try:
        recipe = _text("recipe", cells.get("recipe"))
        if recipe is not None and arguments.recipe_file(recipe) is not None:
            recipe = os.path.join(folder, recipe)
        content = _text("content", cells.get("content"))
        styles = _styles(cells.get("style"), folder)
        for name, value in (("content", content), ("style", styles)):
            if not value:
                raise ValueError(f"has no {name}")
        return Row(
            number=number,
            content=folder / str(content),
            styles=styles,
            place=_place(number, path),
            output=_text("output", cells.get("output")),
            recipe=recipe,
            overrides=tuple(_overrides(cells.get("overrides"))),
        )
    except ValueError as error:
        raise ValueError(f"`{ARGUMENT}`: {_place(number, path)}: {error}") from None


def _text(name: str, value: Any) -> str | None:
    """Return a cell's text; None where it is empty."""
    if value is not None and not isinstance(value, str):
        raise ValueError(f"`{name}`: expected text, got {value!r}")
    if value and "\0" in value:
        raise ValueError(f"`{name}`: holds a zero byte, which no file's name does")
    return (value or "").strip() or None


def _styles(value: Any, folder: Path) -> tuple[parsing.Share, ...]:
    if isinstance(value, list):
        words = [_text("style", part) for part in value]
    else:
        text = _text("style", value) or ""
        # Taken apart only where it is not one file's name as it stands.
        whole = _exists(folder / text) or BETWEEN not in text
        words = [text] if whole else [part.strip() for part in text.split(BETWEEN)]
    return tuple(parsing.share_of(word, folder) for word in words if word)


def _overrides(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        return [f"{key}={_typed(item)}" for key, item in value.items() if item is not None]
    if isinstance(value, list):
        if all(isinstance(part, tuple) for part in value):  # Parquet's map
            return _overrides(dict(value))
        return [word for word in (_text("overrides", part) for part in value) if word]
    text = _text("overrides", value) or ""
    return [part.strip() for part in text.split(BETWEEN) if part.strip()]


def _typed(value: Any) -> str:
    """Return a JSON value as `--set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)
