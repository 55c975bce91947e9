"""What a batch shall paint, checked whole: rows become entries with a recipe, a size and a place."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from nst_jax import images, prepare, provenance, recipes
from nst_jax.app import arguments, outputs
from nst_jax.app.batch import groups, results, rows
from nst_jax.app.batch.groups import Entry
from nst_jax.app.batch.rows import CONTENTS, ManifestRow
from nst_jax.recipes import toml
from nst_jax.recipes.presets import Recipe
from nst_jax.weights.params import WeightsInfo

# Refuses, by ValueError, a recipe whose final scale is too large.
Fitting: TypeAlias = Callable[[Recipe, prepare.Scale], Any]


LISTING = "results"  # stem of the result manifest


@dataclass(frozen=True, kw_only=True)
class Album:
    """Pictures to paint; everything is checked.

    Attributes:
      entries: one per picture, in the order of the rows.
      bad: rows whose files cannot be used, found before the work.
      folder: of the results, and of their manifest.
      shard: which part of the rows these are, or None if all.
      overwrite: whether what exists is replaced: None all but finished pictures, True those too,
        False nothing.
      metadata: whether settings are embedded.
      seed: of the random key, which is the same for all pictures.
      init: a picture to start from, or None for the recipe's start.
      init_file: where `init` was read from.
      sheet: where the contact sheet goes, or None.
      chunk: pictures at once, at most; None is as many as memory holds.
      devices: that share them; None is one. See `nst_jax.scaling.sharding.mesh_of_batch`.
      rows_over: how many of the devices share the rows of each.
    """

    entries: tuple[Entry, ...]
    bad: tuple[results.Record, ...] = ()
    folder: Path
    shard: groups.Shard | None = None
    overwrite: bool | None = None
    metadata: bool = True
    seed: int = 0
    init: Any = None
    init_file: images.Glance | None = None
    sheet: Path | None = None
    chunk: int | None = None
    devices: Any = None
    rows_over: int = 1

    @property
    def listing(self) -> Path:
        """The result manifest."""
        return listing_of(self.folder, self.shard)


def listing_of(folder: Path, shard: groups.Shard | None) -> Path:
    """Return where the results of a batch, or of a part of it, are listed."""
    return folder / f"{LISTING}{'' if shard is None else shard.ending}.jsonl"


class Wish(NamedTuple):
    """A row with its recipe and its place, before its files are looked at."""

    row: ManifestRow
    recipe: Recipe
    output: Path

    @property
    def styles(self) -> tuple[Path, ...]:
        """The files, without shares."""
        return tuple(path for path, _ in self.row.styles)

    @property
    def number(self) -> int:
        """Of the row."""
        return self.row.number

    @property
    def content(self) -> Path:
        """The file."""
        return self.row.content


def record_of(
    what: Wish | Entry, status: str, error: str | None = None, **told: Any
) -> results.Record:
    """Return how a row ended; what is told besides are fields of `Record`."""
    names, shares = list(map(str, what.styles)), what.recipe.terms.style_shares
    if len(shares) > 1:
        names = [f"{name}:{share:g}" for name, share in zip(names, shares, strict=True)]
    styles = rows.SEPARATOR.join(names)
    place = what.number, str(what.content), styles, str(what.output)
    return results.Record(*place, status, error, **told)


# --- Recipes --------------------------------------------------------------------------------------


def recipes_of(
    rows: Sequence[ManifestRow],
    changes: arguments.Changes,
    start: Any = None,
    check: Callable[[Recipe], Any] = lambda recipe: None,
) -> list[Recipe]:
    """Return each row's recipe: its own or the command line's, with all flags, then its overrides.

    Args:
      rows: of the batch.
      changes: the command line's.
      start: in the place of the recipes' own, or None.
      check: refuses a recipe that another flag does not go with.

    Raises:
      ValueError: naming the row, if it came from a manifest.
    """
    if any(row.recipe is None for row in rows):
        arguments.recipe_of(changes)  # so that what is wrong with a flag is not said of a row
    known: dict[Any, Recipe] = {}
    found = []
    for row in rows:
        wanted = row.recipe, row.overrides, tuple(share for _, share in row.styles)
        if wanted not in known:
            with _at(row):
                known[wanted] = _recipe_of(row, changes, start)
                check(known[wanted])
        found.append(known[wanted])
    return found


def _recipe_of(row: ManifestRow, changes: arguments.Changes, start: Any) -> Recipe:
    changes = changes._replace(style_shares=arguments.shares_of(row.styles))
    if row.recipe is not None:
        changes = changes._replace(recipe=row.recipe)
    recipe = arguments.recipe_of(changes)
    if start is not None:
        recipe = replace(recipe, pictures=replace(recipe.pictures, start=start))
    if row.overrides:
        values = arguments.by_key(row.overrides, argument="overrides")
        recipe = toml.with_values(recipe, values, argument="overrides")
    if not row.location and len(recipe.terms.style_shares) > 1:
        raise ValueError(
            f"`recipe`: {recipe.name!r} blends {len(recipe.terms.style_shares)} styles by its "
            "`style_shares`; words pair one style with each content, so blend with `stylize` or in a "
            "manifest"
        )
    recipes.check_styles(recipe.terms, len(row.styles))
    return recipe


@contextmanager
def _at(row: ManifestRow) -> Iterator[None]:
    """Say of a refusal which row of which manifest it is about."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if not row.location:
            raise
        raise ValueError(f"`{CONTENTS}`: {row.location}: {error}") from None


# --- Places ---------------------------------------------------------------------------------------


def places(rows: Sequence[ManifestRow], folder: Path, suffix: str) -> list[Path]:
    """Return where each row's picture goes.

    A row says it, from `folder`; else it is `CONTENT_STYLE.suffix`, and where that is taken by
    another row it gets a number.

    Raises:
      ValueError: naming two rows that write the same file.

    Example:
      >>> wave = ((Path("wave.jpg"), None),)
      >>> rows = [ManifestRow(1, Path("a/cat.jpg"), wave), ManifestRow(2, Path("b/cat.jpg"), wave)]
      >>> [path.name for path in places(rows, Path("out"), "png")]
      ['cat_wave.png', 'cat_wave-2.png']
    """
    taken: dict[str, ManifestRow] = {}
    for row in rows:
        if row.output is not None:
            place = os.path.realpath(folder / row.output)
            if place in taken:
                other = taken[place].number
                with _at(row):
                    raise ValueError(
                        f"`output`: '{row.output}' is that of row {other} as well; name another"
                    )
            taken[place] = row
    # In lower case: some file systems do not tell the cases apart.
    names = {place.lower() for place in taken}
    real = os.path.realpath(folder)
    found = []
    for row in rows:
        if row.output is not None:
            found.append(Path(os.path.normpath(folder / row.output)))
            continue
        name = _free_name(row, suffix, lambda name: os.path.join(real, name).lower() in names)
        names.add(os.path.join(real, name).lower())
        found.append(folder / name)
    return found


def _free_name(row: ManifestRow, suffix: str, is_taken: Callable[[str], bool]) -> str:
    stem = "_".join([row.content.stem, *(path.stem for path, _ in row.styles)])
    name, count = f"{stem}.{suffix}", 1
    while is_taken(name):
        count += 1
        name = f"{stem}-{count}.{suffix}"
    return name


def check_places(
    wishes: Sequence[Wish], folder: Path, more: Sequence[Path], inputs: Iterable[Path]
) -> None:
    """Refuse results that cannot be written, or that would destroy what is read.

    Args:
      wishes: whose contents and styles are read.
      folder: of the results; made when the work begins.
      more: what else is written: the contact sheet, the result manifest.
      inputs: what else is read.

    Raises:
      ValueError: naming the file, and the row if it came from a manifest.
    """
    read = {path for wish in wishes for path in (wish.row.content, *wish.styles)} | set(inputs)
    places = {os.path.realpath(path) for path in read}
    nodes = {node for node in map(_node, read) if node is not None}

    def check(path: Path) -> None:
        if os.path.realpath(path) in places or _node(path) in nodes:
            raise ValueError(
                f"`output`: '{path}' is used for something else; choose another name or folder"
            )

    written = {os.path.realpath(path) for path in more}
    for wish in wishes:
        with _at(wish.row):
            check(wish.output)
            if os.path.realpath(wish.output) in written:
                raise ValueError(f"`output`: '{wish.output}' is written to besides; choose another")
            # Folders that are not there yet will be made in the one that is.
            images.check_output(_ground(wish.output.parent) / wish.output.name, argument="output")
    for path in more:
        check(path)


def _node(path: Path) -> tuple[int, int] | None:
    """Return what tells a file from all others under whatever name; None if there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _ground(folder: Path) -> Path:
    """Return the folder, or the nearest one around it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


# --- Files ----------------------------------------------------------------------------------------


def looked_at(
    wishes: Sequence[Wish], fitting: Fitting | None = None
) -> tuple[list[Entry], list[results.Record]]:
    """Look at every file once, and plan the pictures.

    Args:
      wishes: of the batch.
      fitting: refuses what memory holds in no way, or None.

    Returns:
      What can be painted, and the rows that cannot: a file is missing, is no picture, would become
      too small, is too large for the output's format, or takes more memory than there is.

    Raises:
      ValueError: for such a row whose files were typed one by one.
    """
    known: dict[tuple[Path, str], images.Glance | ValueError] = {}

    def glance(path: Path, wish: Wish, argument: str) -> images.Glance:
        argument += "s" if wish.row.typed else ""  # as it is called on the command line
        if (path, argument) not in known:
            try:
                known[path, argument] = images.glance(path, argument=argument)
            except ValueError as error:
                known[path, argument] = error
        found = known[path, argument]
        if isinstance(found, ValueError):
            raise found
        return found

    fit = _once_each(fitting)
    entries, bad = [], []
    for wish in wishes:
        row = wish.row
        try:
            seen = [glance(row.content, wish, "content")]
            seen += [glance(path, wish, "style") for path in wish.styles]
            entry = _entry(wish, seen)
            fit(entry)
            entries.append(entry)
        except ValueError as error:
            if row.typed:
                raise
            bad.append(record_of(wish, "failed", str(error)))
    return entries, bad


def _once_each(fitting: Fitting | None) -> Callable[[Entry], None]:
    """Return what refuses an entry that fits in no way; of those alike only the first is looked at."""
    told: dict[tuple[int, prepare.Scale], str] = {}

    def fit(entry: Entry) -> None:
        key = id(entry.recipe), entry.scales[-1]
        if fitting is not None and key not in told:
            told[key] = ""
            try:
                fitting(entry.recipe, entry.scales[-1])
            except ValueError as error:
                told[key] = str(error)
        if told.get(key):
            raise ValueError(told[key])

    return fit


def _entry(wish: Wish, seen: Sequence[images.Glance]) -> Entry:
    row, styles = wish.row, wish.styles
    try:
        scales = prepare.scales_of(seen[0].shape, [one.shape for one in seen[1:]], wish.recipe)
    except ValueError as error:
        listed = " and ".join(f"'{path}'" for path in styles)
        raise ValueError(f"{error} ('{row.content}' with {listed})") from None
    images.check_fits(wish.output, scales[-1].shape, argument="output")
    return Entry(row.number, row.content, styles, wish.output, wish.recipe, scales, tuple(seen))


# --- Albums ---------------------------------------------------------------------------------------


def album_of(
    rows: Sequence[ManifestRow],
    changes: arguments.Changes,
    folder: Path,
    suffix: str,
    *,
    start: Any = None,
    check: Callable[[Recipe], Any] = lambda recipe: None,
    fitting: Fitting | None = None,
    inputs: Iterable[Path] = (),
    shard: groups.Shard | None = None,
    sheet: bool = False,
    **options: Any,
) -> Album:
    """Put an album together and check it.

    Args:
      rows: from `manifests`.
      changes: of the command line's recipe.
      folder: where the results go; made if its parent exists.
      suffix: of results that a row has no name for.
      start: in the place of the recipes' own, or None.
      check: refuses a recipe that another flag does not go with.
      fitting: refuses what this machine's memory holds in no way, such as `batches.refuse`; None
        where another machine paints.
      inputs: files that are read besides the rows'.
      shard: which part to keep, or None for all.
      sheet: whether a contact sheet is drawn.
      **options: other fields of `Album`.

    Returns:
      The album.

    Raises:
      ValueError: naming what cannot be used.
    """
    outputs.check_folder(folder, "output")
    found = recipes_of(rows, changes, start, check)
    wishes = list(map(Wish, rows, found, places(rows, folder, suffix)))
    drawn = folder / "sheet.png" if sheet else None
    listing = listing_of(folder, shard)
    check_places(wishes, folder, [listing, *([drawn] if drawn else [])], inputs)
    if drawn is not None and folder.exists():
        images.check_output(
            drawn, overwrite=options.get("overwrite") is not False, argument="output"
        )
    results.check_listing(listing)
    entries, bad = looked_at(wishes, fitting)
    if shard is not None:
        entries = groups.entries_of_shard(entries, shard)
        bad = [record for record in bad if record.row % shard.parts == shard.number % shard.parts]
    return Album(
        entries=tuple(entries),
        bad=tuple(bad),
        folder=folder,
        shard=shard,
        sheet=drawn,
        **options,
    )


def asked(entry: Entry, album: Album, weights: WeightsInfo) -> dict[str, Any]:
    """Return what is asked for in one picture, as it will be embedded."""
    inputs = provenance.roles(entry.seen[0], entry.seen[1:], album.init_file)
    return provenance.of_picture(
        entry.recipe, entry.scales, seed=album.seed, inputs=inputs, weights=weights
    )


def unfinished(album: Album, weights: WeightsInfo) -> tuple[Album, list[results.Record]]:
    """Take out of an album what is finished already.

    Args:
      album: checked.
      weights: what their file says of itself.

    Returns:
      The rest, and the records of what is finished.

    Raises:
      ValueError: for a file in the place of a result that may not be replaced.
    """
    if album.overwrite:
        return album, []
    entries, records = [], []
    for entry in album.entries:
        told = results.read_if_finished(entry.output, asked(entry, album, weights))
        if told is not None:
            losses = told.get("losses")
            records.append(record_of(entry, "skipped", losses=losses))
        elif album.overwrite is False and os.path.lexists(entry.output):
            raise ValueError(
                f"`output`: '{entry.output}' exists and is not this picture finished (row "
                f"{entry.number}); choose another folder, or let it be replaced by leaving out "
                "`--no-overwrite`"
            )
        else:
            entries.append(entry)
    return replace(album, entries=tuple(entries)), records
