"""The rows of a batch: from a manifest, or from files, folders and globs.

A row is one picture to paint. A manifest is a table that a user writes, with a line for each row.
"""

import glob
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar

from nst_jax.app import arguments, control_files
from nst_jax.app.batch.manifests import (
    CONTENTS,
    ManifestRow,
    file_exists,
    is_manifest,
    naming_row,
    read_manifest,
)
from nst_jax.app.fine_style import check_fine_style
from nst_jax.app.recipe_controls import (
    REGIONS,
    check_no_content,
    controls_of_recipe,
    with_controls_of_recipe,
)
from nst_jax.images.folders import passed_over, pictures_in

C = TypeVar("C")  # type of a content in `pairs_of`
S = TypeVar("S")  # type of a style in `pairs_of`


def with_tap_files(rows: Sequence[ManifestRow], chosen: Mapping[str, Any]) -> list[ManifestRow]:
    """Return the rows (pictures to paint) with the styles that the command line gives to single layers.

    If a row itself gives a picture to a layer, this picture is used and not the command line's. If the
    command line has no `--style-layer`, the pictures that the row's recipe file gives to layers are
    used instead. (A row without a recipe of its own has that of the command line.)

    Args:
      rows: the rows.
      chosen: the values of the options `style_layer` and `recipe`.
    """
    found, known = [], cache(controls_of_recipe)  # each recipe file is read only once
    for row in rows:
        with naming_row(row):
            options = with_controls_of_recipe(
                {**chosen, "recipe": row.recipe or chosen.get("recipe")}, known
            )
            files = arguments.tap_files(options.get("style_layer") or ())
        found.append(row._replace(tap_files=(*{**files, **dict(row.tap_files)}.items(),)))
    return found


def with_controls(rows: Sequence[ManifestRow], chosen: Mapping[str, Any]) -> list[ManifestRow]:
    """Return the rows (pictures to paint) with the controls of the command line.

    Controls are regions (parts of the content with a style of their own), a protected part of the
    content, and a picture whose fine structure the style gets. If a row has one of them itself, that is
    used, and not the command line's. What the command line does not give, the row's recipe file may
    give.

    Args:
      rows: the rows.
      chosen: the values of the options `regions`, `region_maps`, `protect`, `style_fine` and `recipe`,
        and those of `init`, `runner` and `cluster`, which are only checked. A folder may stand in place
        of a mask or of a colour-coded map of regions; see `control_files.with_files_from_folders`.

    Raises:
      ValueError: if `chosen` has both `regions` and `region_maps`; if a folder has no mask or map for a
        row, or several; if the controls in a recipe file cannot be used; if the style of a row cannot
        get a fine structure; or if a row without a content (a texture) would get a control, or a start
        other than noise. A message about a row names the row if it came from a manifest.
    """
    control_files.check_alone(chosen)
    found, known = [], cache(controls_of_recipe)
    for row in rows:
        if row.content is None:
            with naming_row(row):
                _check_texture(row, chosen)
            found.append(row)
            continue
        own = {}
        with naming_row(row):
            options = with_controls_of_recipe(
                {**chosen, "recipe": row.recipe or chosen.get("recipe")}, known
            )
            if not (row.regions or row.region_maps):
                own = {name: options.get(name) for name in ("regions", "region_maps")}
            if row.protect is None:
                own["protect"] = options.get("protect")
            given = control_files.with_files_from_folders(
                own, row.content, [path for path, _ in row.styles]
            )
            fine = row.style_fine or options.get("style_fine")
            maps = given["region_maps"] if "region_maps" in own else row.region_maps
            check_fine_style({**chosen, "style_fine": fine, "region_maps": maps}, row.styles)
        found.append(row._replace(**{name: given[name] for name in own}, style_fine=fine))
    return found


def _check_texture(row: ManifestRow, chosen: Mapping[str, Any]) -> None:
    """Refuse what a texture cannot have: controls, and a start by `--init` other than noise.

    The controls are regions, a protected part, and a picture whose fine structure the style gets.

    Args:
      row: the texture: a row that names a style and no content.
      chosen: the values of the command's options, which hold for all rows; those read are `regions`,
        `region_maps`, `protect`, `style_fine`, `init` and `recipe`.

    Raises:
      ValueError: if an option asks for one of these, or if the recipe file of the row, or else that of
        the command, has a control.
    """
    recipe = row.recipe or chosen.get("recipe")
    check_no_content(recipe)
    fine = "style_fine" in controls_of_recipe(recipe)
    flags = ("--region", "--regions", "--protect", "--style-fine")
    for flag, name in zip(flags, (*REGIONS, "protect", "style_fine"), strict=True):
        column = flag.removeprefix("--").replace("-", "_")
        if chosen.get(name):
            raise ValueError(
                f"`{flag}`: is for all pictures, but this row has no content, so it is a texture and "
                f"cannot have it; give it to the other rows, by the column `{column}`"
            )
    if fine:
        raise ValueError(
            f"`recipe`: '{recipe}': its `controls.style_fine` is for rows with a content; combine the "
            "style by `nst_jax.combined_style`, and name the result as the style"
        )
    if chosen.get("init") not in (None, "noise"):
        raise ValueError(
            f"`--init`: {chosen['init']} is for all pictures, but this row has no content, so it is a "
            "texture, which starts from noise; omit it, and set `pictures.start` among the `overrides` "
            "of the other rows"
        )


def requested_rows(
    contents: Sequence[Path],
    *,
    styles: Sequence[Path],
    output: Path,
    pair: str,
    sheet: bool,
    shard: str | None,
    **others: Any,
) -> list[ManifestRow]:
    """Return the rows (pictures to paint) that the arguments and options of `batch` ask for.

    Args:
      contents: files, folders or globs, or one manifest (a table with a row for each picture).
      styles: files, folders or globs; empty with a manifest, which names the styles itself.
      output: the folder of the results.
      pair: "all" (each content with each style) or "zip" (the n-th content with the n-th style).
      sheet: whether a contact sheet (one picture that shows all results) is requested; only checked.
      shard: the value of `--shard`, such as "1/4" for the first quarter of the rows, or None. Here it
        is only refused together with `sheet`; all rows are returned.
      **others: options that do not change the rows.

    Raises:
      ValueError: if there are neither styles nor a manifest, if arguments cannot be used together, if
        `output` is also an input, or if `paired` or `read_manifest` raises it.
    """
    manifest = next(filter(is_manifest, contents), None)
    if manifest is not None:
        if len(contents) > 1:
            raise ValueError(
                f"`{CONTENTS}`: '{manifest}' is a manifest (a table of pictures), so it must be the "
                "only one; leave out the others"
            )
        for option, value in (("styles", styles), ("sheet", sheet), ("pair", pair != "all")):
            if value:
                raise ValueError(
                    f"`{option}`: cannot be used with a manifest, whose rows are the pairs"
                )
        return read_manifest(manifest)
    if not styles:
        raise ValueError("`styles`: is missing; give one or more, or a manifest as CONTENTS")
    if is_input_folder(output, [*contents, *styles]):
        raise ValueError(
            f"`output`: '{output}' is an input folder, so the results would be inputs of the next run; "
            "choose another folder"
        )
    if sheet and shard is not None:
        raise ValueError(
            "`sheet`: shows all pictures, but `--shard` paints a part; omit one of them"
        )
    return paired(contents, styles, zipped=pair == "zip")


# --- Files, folders and globs ---------------------------------------------------------------------


def is_input_folder(output: Path, inputs: Iterable[Path]) -> bool:
    """Return whether the folder for results is one of the inputs. A file is no folder."""
    return not output.is_file() and os.path.realpath(output) in map(os.path.realpath, inputs)


def is_pattern(word: Path) -> bool:
    """Return whether a word is a pattern such as 'photos/*.jpg', and no existing file or folder."""
    return glob.has_magic(str(word)) and not file_exists(word)


def finder(words: Iterable[Path]) -> Callable[[Path], Path | None]:
    """Return a function that says by which word `expanded` finds a picture, as soon as it exists.

    By it, results that would be inputs of the next run are refused.

    Args:
      words: files, folders and globs as typed. A file finds nothing.

    Returns:
      A function of the picture's path. It returns a folder or glob from `words`, or None.

    Example:
      >>> word_for = finder([Path("photos/*.png")])
      >>> word_for(Path("photos/cat_wave.png")) is None, word_for(Path("photos/cat_wave.jpg")) is None
      (False, True)
    """
    tests: list[tuple[Path, Callable[[Path], bool]]] = []
    for word in dict.fromkeys(words):
        if word.is_dir():
            tests.append((word, _finds(word / "*", len(word.parts))))
        elif is_pattern(word):
            fixed = takewhile(lambda part: not glob.has_magic(part), word.parts)
            tests.append((word, _finds(word, len([*fixed]))))
    return lambda path: next((word for word, finds in tests if finds(path)), None)


def _finds(pattern: Path, fixed: int) -> Callable[[Path], bool]:
    """Return a function that says whether a glob finds a path, as soon as a file is there.

    Args:
      pattern: the glob.
      fixed: how many parts at the beginning of `pattern` are names, whatever characters they have.
    """
    base, parts = Path(*pattern.parts[:fixed]), pattern.parts[fixed:]

    @cache
    def places(folder: Path) -> list[tuple[str, ...]]:
        # Both paths may be typed by way of links, so they are compared as typed and as they lead.
        found = []
        for whole in (os.path.abspath, os.path.realpath):
            inside, top = Path(whole(folder)), Path(whole(base))
            if inside.is_relative_to(top):
                found.append(inside.relative_to(top).parts)
        return found

    return lambda path: any(_match((*place, path.name), parts) for place in places(path.parent))


def _match(names: Sequence[str], parts: Sequence[str]) -> bool:
    """Return whether names of folders and, at last, of a file match a glob's parts, by its rules."""
    if not parts:
        return not names
    if parts[0] == "**":  # any number of folders that are not hidden
        shown = [*takewhile(lambda name: not name.startswith("."), names)]
        return any(_match(names[skipped:], parts[1:]) for skipped in range(len(shown) + 1))
    if not names or not _match(names[1:], parts[1:]):
        return False
    if not glob.has_magic(parts[0]):
        return names[0] == parts[0]
    hidden = names[0].startswith(".") and not parts[0].startswith(".")
    return not hidden and fnmatch(names[0], parts[0])


def expanded(words: Sequence[Path], argument: str) -> list[tuple[Path, bool]]:
    """Replace folders by the pictures in them, and globs by the files that match.

    Args:
      words: files, folders and globs as typed.
      argument: name of the command-line argument that has these words, for messages.

    Returns:
      Pairs of a path and a bool: True if the path was typed, False if a folder or a glob gave it.

    Raises:
      ValueError: for a folder that cannot be read or has no pictures, and for a glob without a match.
    """
    found: list[tuple[Path, bool]] = []
    for word in words:
        if word.is_dir():
            found += [(path, False) for path in pictures_in(word, argument=argument)]
        elif is_pattern(word):
            found += [(path, False) for path in _matching(str(word), argument)]
        else:
            found.append((word, True))
    return found


def notes_on_folders(words: Sequence[Path]) -> list[str]:
    """Return a note for each folder that has files which are not pictures, and so are not painted.

    A note counts these files by suffix.

    Args:
      words: files, folders and globs as typed.
    """
    folders = [word for word in dict.fromkeys(words) if word.is_dir()]
    found = [(folder, passed_over(folder)) for folder in folders]
    return [f"passed over in '{folder}': {others}" for folder, others in found if others]


def _matching(pattern: str, argument: str) -> list[Path]:
    found = [Path(path) for path in sorted(glob.glob(pattern, recursive=True))]
    found = [path for path in found if path.is_file()]
    if not found:
        raise ValueError(f"`{argument}`: no file matches '{pattern}'; check the pattern")
    return found


def paired(contents: Sequence[Path], styles: Sequence[Path], *, zipped: bool) -> list[ManifestRow]:
    """Pair every content with every style, or the n-th content with the n-th style.

    Args:
      contents: files, folders or globs.
      styles: files, folders or globs.
      zipped: whether to pair the n-th content with the n-th style, and no others.

    Returns:
      The rows, in the order of the contents; rows with the same content are in the order of the styles.

    Raises:
      ValueError: if `zipped` and the numbers of contents and styles differ, if a folder cannot be read
        or has no pictures, or if no file matches a glob.
    """
    pairs = pairs_of(expanded(contents, "contents"), expanded(styles, "styles"), zipped=zipped)
    return [
        ManifestRow(number, content, ((style, None),), typed=typed_content and typed_style)
        for number, ((content, typed_content), (style, typed_style)) in enumerate(pairs, 1)
    ]


def pairs_of(contents: Sequence[C], styles: Sequence[S], *, zipped: bool) -> list[tuple[C, S]]:
    """Return pairs of a content and a style, in the order of the contents.

    Args:
      contents: the contents.
      styles: the styles.
      zipped: whether to pair the n-th content with the n-th style only. If not, every content is paired
        with every style.

    Raises:
      ValueError: if `zipped` and the numbers of contents and styles differ.
    """
    if not zipped:
        return [(content, style) for content in contents for style in styles]
    if len(contents) != len(styles):
        raise ValueError(
            f"`styles`: `--pair zip` needs one for each content; got {len(styles)} for {len(contents)}"
        )
    return list(zip(contents, styles, strict=True))
