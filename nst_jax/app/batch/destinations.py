"""The paths of a batch's result pictures, and checks that no result overwrites another file.

A row describes one picture of the batch: its content (none for a texture), its styles, and perhaps the
name of its result.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from nst_jax import _files, images
from nst_jax.app.batch.manifests import ManifestRow, naming_row
from nst_jax.app.batch.rows import finder
from nst_jax.app.control_files import files_of


def destinations(
    rows: Sequence[ManifestRow], folder: Path, suffix: str, *, anywhere: bool = False
) -> list[Path]:
    """Return a path for the result of each row, which is one picture to paint.

    The path is the row's `output`, relative to `folder`. A row without an `output` gets a path that is
    made from the names of its files, such as `folder/cat_wave.png` for `cat.jpg` and `wave.jpg`, or
    `folder/wave_texture.png` for a texture of `wave.jpg`. If another row has this path already, a
    number is added. A name that would be too long has only its beginning, with a hash.

    Args:
      rows: the rows of the batch.
      folder: the folder of the results.
      suffix: file suffix of the results of rows without an `output`, such as "png".
      anywhere: whether a row may name an output outside `folder`. That is refused by default, since a
        manifest (a table of rows) may come from a stranger.

    Returns:
      A path for each row.

    Raises:
      ValueError: if two rows have the same `output`, or outputs that differ only in capitals (the
        message names both rows); or if an output is outside `folder` and `anywhere` is False.

    Example:
      >>> wave = ((Path("wave.jpg"), None),)
      >>> rows = [ManifestRow(1, Path("a/cat.jpg"), wave), ManifestRow(2, Path("b/cat.jpg"), wave)]
      >>> [path.name for path in destinations(rows, Path("out"), "png")]
      ['cat_wave.png', 'cat_wave-2.png']
    """
    real = os.path.realpath(folder)
    # Paths are compared in lower case, since the file systems of macOS and Windows take `A.png` and
    # `a.png` for the same file.
    taken: dict[str, ManifestRow] = {}
    for row in rows:
        if row.output is not None:
            path = os.path.realpath(folder / row.output)  # with symbolic links followed
            if not anywhere and os.path.commonpath([real, path]) != real:
                with naming_row(row):
                    raise ValueError(
                        f"`output`: '{row.output}' is outside the folder '{folder}'; name a file in "
                        "it, or allow this by `--outputs-anywhere`"
                    )
            if (other := taken.get(path.lower())) is not None:
                with naming_row(row):
                    raise ValueError(_taken(row, other, folder))
            taken[path.lower()] = row
    names = set(taken)
    # A name that is taken gets a number, such as `cat_wave-2`. `counts` maps a name without its number
    # to the last number that was tried, so that no number is tried twice.
    counts: Counter[str] = Counter()
    found = []
    for row in rows:
        if row.output is not None:
            found.append(Path(os.path.normpath(folder / row.output)))
            continue
        stem = stem_of(row.content, [path for path, _ in row.styles])
        while True:
            counts[stem] += 1
            ending = f"-{counts[stem]}" if counts[stem] > 1 else ""
            name = _files.fitting_name(stem, f"{ending}.{suffix}")
            whole = os.path.join(real, name).lower()
            if whole not in names:
                break
        names.add(whole)
        found.append(folder / name)
    return found


def _taken(row: ManifestRow, other: ManifestRow, folder: Path) -> str:
    """Return an error message on an output of a row that the row `other` has already."""
    assert row.output is not None and other.output is not None
    if os.path.realpath(folder / row.output) == os.path.realpath(folder / other.output):
        return f"`output`: '{row.output}' is also the output of row {other.number}; name another"
    return (
        f"`output`: '{row.output}' differs only in capitals from '{other.output}', the output of row "
        f"{other.number}, and many file systems take both for one file; name another"
    )


def stem_of(content: Path | None, styles: Sequence[Path]) -> str:
    """Return the name, without suffix and of any length, that a result gets if no name is given.

    Args:
      content: path of the content; None for a texture.
      styles: paths of the styles that are blended, without those that only one layer of the network
        uses: these are not part of the name.

    Example:
      >>> stem_of(Path("cat.jpg"), [Path("wave.jpg")]), stem_of(None, [Path("wave.jpg")])
      ('cat_wave', 'wave_texture')
    """
    stems = "_".join(path.stem for path in styles)
    return f"{stems}_texture" if content is None else f"{content.stem}_{stems}"


def inputs_of(rows: Iterable[ManifestRow]) -> set[Path]:
    """Return the paths of all pictures and masks that the rows (pictures to paint) name as inputs."""
    found: set[Path] = set()
    for row in rows:
        found |= {*row.style_files, *files_of(row.controls)}
        if row.content is not None:
            found.add(row.content)
        if row.style_fine is not None:
            found.add(row.style_fine)
    return found


def check_destinations(
    files: Iterable[tuple[ManifestRow, Path]],
    *,
    more: Sequence[Path],
    inputs: Iterable[Path],
    words: Iterable[Path] = (),
) -> None:
    """Refuse results that cannot be written, or that would overwrite an input or a file in `more`.

    Results that would be inputs of the next run are refused, too.

    Args:
      files: rows (pictures to paint), each with the path of its result.
      more: other files that the batch writes: the contact sheet (one picture that shows all results)
        and the result manifest (a file that says how each row ended). These must not overwrite an
        input, either.
      inputs: the files that the batch reads.
      words: the contents and styles as typed: files, folders and globs.

    Raises:
      ValueError: naming the refused file, and its row if the row came from a manifest.
    """
    read = set(inputs)
    real_paths = {os.path.realpath(path) for path in read}
    identities = {found for found in map(_identity, read) if found is not None}
    word_for = finder(words)

    def check(path: Path) -> str:
        if (word := word_for(path)) is not None:
            raise ValueError(
                f"`output`: '{path}' would be found by '{word}', so the results would be inputs of the "
                "next run; choose another folder"
            )
        real = os.path.realpath(path)
        if real in real_paths or _identity(path) in identities:
            raise ValueError(f"`output`: '{path}' is an input; choose another name or folder")
        return real

    written = {os.path.realpath(path) for path in more}
    real_outputs: list[tuple[ManifestRow, Path, str]] = []  # each output, and its real path
    existing: dict[Path, Path] = {}  # folder -> itself, or its nearest existing ancestor
    probed: set[Path] = set()  # folders in which a file has been created as a test
    for row, output in files:
        with naming_row(row):
            if (real := check(output)) in written:
                raise ValueError(
                    f"`output`: '{output}' is where the batch writes its contact sheet or its list of "
                    "results; choose another name"
                )
            real_outputs.append((row, output, real))
            # A missing parent folder is made later, so its nearest existing ancestor must be writable.
            if output.parent not in existing:
                existing[output.parent] = _existing(output.parent)
            there = existing[output.parent] / output.name
            # A folder is tested once, by creating a file in it. The target of a symbolic link may be in
            # another folder, so for each link, the folder of its target is tested.
            probe = there.parent not in probed or os.path.islink(there)
            images.check_output(there, argument="output", probe=probe)
            probed.add(there.parent)
    _check_folders(real_outputs, [check(path) for path in more])


def _check_folders(outputs: Sequence[tuple[ManifestRow, Path, str]], more: Sequence[str]) -> None:
    """Refuse a result if a folder of another result, or of a file in `more`, has the result's path.

    Nor may a folder of a result have the path of a file in `more`. Paths that differ only in capitals
    count as equal, as in `destinations`.

    Args:
      outputs: rows (pictures to paint), each with the path of its result and the real path of this.
      more: the real paths of other files that the batch writes.
    """
    # The path of a file in lower case -> its path, and what it is. `folders` is alike, for folders.
    files = {real.lower(): (real, f"the output of row {row.number}") for row, _, real in outputs}
    lists = "where the batch writes its contact sheet or its list of results"
    files |= {real.lower(): (real, lists) for real in more}
    folders = {
        str(folder).lower(): (
            str(folder),
            f"a folder in which the batch writes '{Path(file).name}'",
        )
        for file in more
        for folder in Path(file).parents
    }
    checked: set[Path] = set()  # folders that, like all their ancestors, are no path of such a file
    for row, output, real in outputs:
        with naming_row(row):
            if (found := folders.get(real.lower())) is not None:
                raise ValueError(f"`output`: '{output}' {_is(real, *found)}; choose another name")
            for folder in Path(real).parents:
                if folder in checked:
                    break
                if (found := files.get(str(folder).lower())) is not None:
                    raise ValueError(
                        f"`output`: '{output}' is in '{folder.name}', and this "
                        f"{_is(str(folder), *found)}; choose another folder"
                    )
                checked.add(folder)


def _is(path: str, other: str, what: str) -> str:
    """Return the words for a path that is `what`, as `other` is, which may differ in capitals."""
    if path == other:
        return f"is {what}"
    return (
        f"differs only in capitals from '{Path(other).name}', which is {what}, and many file systems "
        "take both for one"
    )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return a file's device and inode, which its hard links share; None if there is no such file."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _existing(folder: Path) -> Path:
    """Return the folder if it exists, else its nearest ancestor that does."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder
