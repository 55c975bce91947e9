"""The checked inputs and options of the command `instant`: styles, rows and their result paths.

A row is one picture to paint: a content and a style. A record says how a row ended, and the result
manifest is the file of the records. The 26 styles are those that a network of the package has learned.
"""

import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _checks, images, single_pass
from nst_jax._types import Shape
from nst_jax.app import arguments, control_files, controls
from nst_jax.app.batch import manifests, results, rows
from nst_jax.app.batch.destinations import check_destinations, destinations
from nst_jax.app.batch.job import listing_of
from nst_jax.app.outputs import (
    STANDARD,
    Outputs,
    check_folder,
    check_outputs,
    default_name,
    result_path,
)
from nst_jax.app.parsing import ProtectFile, StyleShare
from nst_jax.app.standard_streams import NAME, source
from nst_jax.controls import masks
from nst_jax.feed_forward import given_styles, instant_controls, instant_painter, style_names
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import SizeRule
from nst_jax.scaling import buckets
from nst_jax.vgg.precision import Precision

EXAMPLE = "such as mosaic:0.5 waves:0.5"


@dataclass(frozen=True)
class ChosenStyle:
    """A style that was chosen on the command line: a blend of one or several styles of the same kind.

    There are three kinds: the 26 styles that a network of the package has learned; style pictures; and
    the styles of a trained network, which the user has trained with the command `train`.

    Attributes:
      names: names of the blended styles; empty if they are pictures.
      paths: paths of the pictures, or the path of the trained network's file; empty if the styles are
        some of the 26.
      shares: the share of each style in the blend, in the order of `names`, or of `paths` if there are
        no names; they add up to 1.
      seen: sizes and digests of the pictures, which are not decoded yet; empty for the other kinds.
      trained: the trained network; None for the other kinds.
    """

    names: tuple[str, ...]
    paths: tuple[Path, ...]
    shares: tuple[float, ...]
    seen: tuple[images.Glance, ...] = ()
    trained: given_styles.Trained | None = field(default=None, compare=False)

    @property
    def labels(self) -> tuple[Path, ...]:
        """Paths from whose stems (names without suffix) the names of results are made.

        They are the paths of the style pictures, or the names of styles as paths. For a trained network
        they are the path of its file and, if it has several styles, the names of the chosen ones.
        """
        if self.trained is not None and len(self.trained.network.styles) == 1:
            return self.paths
        return (*self.paths, *map(Path, self.names))

    @property
    def words(self) -> str:
        """The style as text for the user: names or files, with their shares if styles are blended.

        For a trained network it is the file and, if it has several styles, the chosen ones with shares.
        """
        files = (NAME if path == STANDARD else str(path) for path in self.paths)
        mixed = self.names or tuple(files)
        if self.trained is None and len(mixed) == 1:
            return mixed[0]
        parts = [f"{one}:{share:g}" for one, share in zip(mixed, self.shares, strict=True)]
        if self.trained is not None:
            (path,) = self.paths
            return (
                str(path)
                if len(self.labels) == 1
                else manifests.SEPARATOR.join([str(path), *parts])
            )
        return manifests.SEPARATOR.join(parts)


class Row(NamedTuple):
    """One picture to paint; its content has not been decoded yet."""

    number: int  # number of the picture, from 1, among all that the command was asked to paint
    content: Path
    style: ChosenStyle
    output: Path
    seen: images.Glance  # size and digest of the content, which is not decoded yet
    shape: Shape  # (height, width) of the result in px
    # The protected part, which stays as it is in the content: paths of its masks, and amount of
    # protection. None if nothing is protected.
    protect: ProtectFile | None = None
    masks: tuple[images.Glance, ...] = ()  # size and digest of each of these masks, not decoded yet

    def record(self, status: str, error: str | None = None, seconds: float = 0.0) -> results.Record:
        """Return a `Record` that says whether this picture was painted.

        Args:
          status: "done", "skipped" or "failed".
          error: what went wrong, or None.
          seconds: how long painting took.
        """
        files = self.number, str(self.content), self.style.words, str(self.output)
        return results.Record(*files, status, error, round(seconds, 3))


@dataclass(frozen=True, kw_only=True)
class InstantJob:
    """The pictures that the command `instant` shall paint, and its checked options.

    Attributes:
      rows: the pictures to paint.
      bad: for each picture that cannot be painted, a record with the reason.
      folder: folder of the results and of the file that lists them; None if the command writes only one
        file: a single result, or the sheet with one content in all 26 styles.
      sheet: path of the contact sheet, one picture that shows all results; None draws none.
      strength: strength of style pictures, from 0 (the content's own style) to 1 (the style).
      size: the value of `--size`, such as "512"; None means the size of the recipe `default`.
      style_size: the value of `--style-size`; None means a shorter side of 256 px.
      colors: whose colours the results have, one of `COLORS` in `nst_jax.controls.finishing`.
      realism: how far results are brought back to the edges of their contents, from 0 (not) to 1.
      precision: how precisely products and activations are computed.
      bucket: side, in px, of a square array at whose top left each picture lies, so that pictures of
        several sizes share compiled programs; None if the array has the size of the picture.
      metadata: whether settings are embedded in the results.
      overwrite: without a `folder`, whether an existing file is replaced. With a `folder`, what happens
        if the file of a result exists already. With None, a finished picture of the same inputs and
        options is not painted again, any other picture that this program painted is replaced, and all
        other files are an error. With False, every file except such a finished picture is an error.
        With True, any file is replaced.
      begun: when the command began, by `time.perf_counter`.
    """

    rows: tuple[Row, ...]
    bad: tuple[results.Record, ...] = ()
    folder: Path | None = None
    sheet: Path | None = None
    strength: float
    size: str | None
    style_size: str | None
    colors: str = "style"
    realism: float = 0.0
    precision: Precision
    bucket: int | None = None
    metadata: bool = True
    overwrite: bool | None = True
    begun: float = field(default_factory=time.perf_counter, compare=False)

    @property
    def content_rule(self) -> SizeRule:
        """The rule that gives the size of a result from the size of its content."""
        return given_styles.content_rule(self.size)

    @property
    def recipe(self) -> Recipe:
        """A recipe with the options `colors` and `realism`; the painter takes them in this form."""
        return instant_controls.recipe_finishing_with(self.colors, self.realism)

    @property
    def style_rule(self) -> SizeRule:
        """The rule by which style pictures are resized before the network reads them."""
        return given_styles.style_rule(self.style_size)


# --- Styles ---------------------------------------------------------------------------------------


def styles_of(words: Sequence[StyleShare], *, argument: str = "style") -> ChosenStyle:
    """Return the style that some words of the command line describe: one style or a blend.

    The words are names or numbers of the 26 styles that a network of the package has learned; or files
    of style pictures; or the file of a trained network, followed by names of its styles. These names
    may be left out if the network has a single style.

    Args:
      words: pairs of a name or file and its share in the blend. The share is None if none was given.
      argument: the name of the command-line argument that has the words, for messages.

    Raises:
      ValueError: for an unknown name, a file that is not a picture, names mixed with pictures, a name
        that is given twice, and shares that cannot be used; for a trained network that is damaged, is
        not the first word or has a share, or that has several styles of which none is named.
    """
    if any(given_styles.is_trained(path) for path, _ in words):
        return _of_network(words, argument)
    labels = [str(path) for path, _ in words]
    named = [
        label != str(STANDARD) and given_styles.is_named(label, argument=argument)
        for label in labels
    ]
    given_styles.refuse_mixed(labels, named, argument=argument)
    divided = _divided(words)
    if named[0]:
        numbers = [style_names.number_of(label, argument=argument) for label in labels]
        names = tuple(style_names.NAMES[number] for number in numbers)
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"`{argument}`: {name!r} is given twice; give it once")
        return ChosenStyle(names, (), divided)
    paths = tuple(path for path, _ in words)
    seen = tuple(images.glance(source(path), argument=argument) for path in paths)
    return ChosenStyle((), paths, divided, seen)


def _of_network(words: Sequence[StyleShare], argument: str) -> ChosenStyle:
    """Return the style that words of the command line describe, one of which names a trained network.

    The network's file must be the first word. The words after it must be names of the network's styles.
    """
    (path, share), *chosen = words
    files = [other for other, _ in words if given_styles.is_trained(other)]
    if files != [path] or share is not None:
        raise ValueError(
            f"`{argument}`: '{files[0]}' is a trained network, which is not blended with others; name "
            "it first and without a share, then names of its styles if it has several"
        )
    trained = given_styles.read_trained(path, argument=argument)
    names = trained.network.styles
    if not chosen:
        if len(names) > 1:
            raise ValueError(
                f"`{argument}`: '{path}' has {len(names)} styles: {', '.join(names)}; write the name "
                f"of one behind it, or of several with shares, such as {names[0]}:0.7 {names[1]}:0.3"
            )
        chosen = [(Path(names[0]), None)]
    labels = [str(label) for label, _ in chosen]
    for label in labels:
        if label not in names:
            raise _checks.unknown(argument, label, names, f"style in '{path}' named")
    if len(set(labels)) < len(labels):
        raise ValueError(f"`{argument}`: a style is given twice; give it once")
    return ChosenStyle(tuple(labels), (path,), _divided(chosen), trained=trained)


def _divided(words: Sequence[StyleShare]) -> tuple[float, ...]:
    """Return the share of each style, divided by the sum of all; equal shares if none was given."""
    shares = arguments.shares_of(words) or (1.0,) * len(words)
    return tuple(float(share) for share in np.asarray(shares) / np.sum(shares))


def _several_styles(words: Sequence[Path]) -> list[ChosenStyle]:
    """Return the styles that `--styles` gives as names, files, folders or glob patterns.

    For the file of a trained network, each of its styles is returned separately.
    """
    found = []
    for word in words:
        if given_styles.is_trained(word):
            names = given_styles.read_trained(word, argument="styles").network.styles
            found += [
                styles_of([(word, None), (Path(name), None)], argument="styles") for name in names
            ]
        elif given_styles.is_named(str(word), argument="styles"):
            found.append(styles_of([(word, None)], argument="styles"))
        else:
            paths = [path for path, _ in rows.expanded([word], "styles")]
            found += [styles_of([(path, None)], argument="styles") for path in paths]
    return found


def _check_options(chosen: Mapping[str, Any], styles: Iterable[ChosenStyle]) -> None:
    """Refuse options that are invalid or do not suit a style, and style pictures that are too small."""
    single_pass.check_strength(chosen["strength"])
    colors, realism = _colors_and_realism(chosen)
    instant_controls.check_colors_and_realism(colors, realism)
    given_styles.content_rule(chosen["size"])
    given_styles.style_rule(chosen["style_size"])
    for style in styles:
        for glance in style.seen:
            given_styles.style_shape(chosen["style_size"], glance.shape)
        if style.seen:
            continue
        is_fixed = style.trained is None
        what = "is one of the 26 styles" if is_fixed else "is a trained network"
        why = f"is for style pictures, and '{style.labels[0]}' {what}"
        if chosen["strength"] != 1:
            advice = f"mix it with another style, {EXAMPLE}" if is_fixed else "omit it"
            raise ValueError(f"`strength`: {why}; {advice}")
        if chosen["style_size"] is not None:
            raise ValueError(f"`style_size`: {why}; omit it")
        instant_controls.check_colors_of_style(colors, f"'{style.labels[0]}'", is_picture=False)


def _colors_and_realism(chosen: Mapping[str, Any]) -> tuple[str, float]:
    """Return the values of `--colors` and `--realism`, or their defaults "style" and 0."""
    colors, realism = chosen["colors"], chosen["realism"]
    return "style" if colors is None else colors, 0.0 if realism is None else realism


# --- Jobs -----------------------------------------------------------------------------------------


def check_no_options_of_several(chosen: Mapping[str, Any], advice: str) -> None:
    """Refuse options that have an effect only if there are several results.

    Args:
      chosen: the values of the command's options.
      advice: what to do, for the end of the message.
    """
    for name in ("sheet", "suffix"):
        if chosen[name]:
            raise ValueError(f"`{name}`: is for several results; {advice}")
    if chosen["pair"] == "zip":
        raise ValueError(f"`pair`: is for several results; {advice}")


def single_job(content: Path, words: Sequence[StyleShare], chosen: Mapping[str, Any]) -> InstantJob:
    """Check the arguments for one picture in one style, and return them as an `InstantJob`.

    Args:
      content: path of the content.
      words: names or files that describe the style, each with its share in the blend or None.
      chosen: the options.

    Raises:
      ValueError: if an argument or option cannot be used; the message names it.
    """
    check_no_options_of_several(chosen, "name a folder of pictures, or several `--styles`")
    if not words:
        raise ValueError(
            "`style`: is missing; name a picture, or one of the styles that `--list` prints"
        )
    style = styles_of(words)
    _check_options(chosen, [style])
    output = result_path(chosen["output"], default_name(content, style.labels))
    overwrite = chosen["overwrite"] is not False
    check_outputs(
        Outputs(picture=output, overwrite=overwrite),
        [content, *style.paths, *control_files.files_of(chosen)],
    )
    controls.check_files(chosen)
    row = _row(1, content, style, output, chosen)
    return InstantJob(rows=(row,), overwrite=overwrite, **_options(chosen, [row]))


def many_job(content: Path, words: Sequence[StyleShare], chosen: Mapping[str, Any]) -> InstantJob:
    """Check the arguments for several contents or styles; return them as an `InstantJob`.

    Every content is painted in every style; with `--pair zip`, the first content in the first style,
    the second content in the second style, and so on.

    Args:
      content: the first content: a file, a folder or a glob pattern.
      words: the arguments after the first content. With `--styles`, they are further contents; without
        `--styles`, they are names or files that describe the only style.
      chosen: the options.

    Raises:
      ValueError: if an argument or option cannot be used; the message names it. A content that a folder
        or a pattern gave and that cannot be used becomes a record in the job's `bad` instead.
    """
    folder = chosen["output"]
    if folder is None:
        raise ValueError("`output`: is missing; name a folder for the results, `-o DIR`")
    contents, styles = _requested(content, words, chosen)
    inputs = [*contents, *chosen["styles"], *(path for style in styles for path in style.paths)]
    if rows.is_input_folder(folder, inputs):
        raise ValueError(
            f"`output`: '{folder}' is an input folder, so the results would be inputs of the next run; "
            "choose another folder"
        )
    _check_options(chosen, styles)
    controls.check_files(chosen)
    check_folder(folder, "output")
    pairs = rows.pairs_of(
        rows.expanded(contents, "content"), styles, zipped=chosen["pair"] == "zip"
    )
    drafts = [
        manifests.ManifestRow(
            number, path, tuple((label, None) for label in style.labels), typed=typed
        )
        for number, ((path, typed), style) in enumerate(pairs, 1)
    ]
    named = destinations(drafts, folder, chosen["suffix"] or "png", anywhere=False)
    sheet = folder / "sheet.png" if chosen["sheet"] else None
    listing = listing_of(folder, None)
    masks = [each for path in control_files.files_of(chosen) for each in (path, *_files_in(path))]
    check_destinations(
        list(zip(drafts, named, strict=True)),
        more=[listing, *([sheet] if sheet else [])],
        inputs=[*inputs, *masks, *map(_content_of, drafts)],
        words=[*contents, *chosen["styles"]],
    )
    if sheet is not None:
        results.check_sheet(sheet, overwrite=chosen["overwrite"])
    results.check_listing(listing)
    found, bad = _rows(drafts, [style for _, style in pairs], named, chosen)
    return InstantJob(
        rows=tuple(found),
        bad=tuple(bad),
        folder=folder,
        sheet=sheet,
        overwrite=chosen["overwrite"],
        **_options(chosen, found),
    )


def sheet_job(content: Path, output: Path, chosen: Mapping[str, Any]) -> InstantJob:
    """Check the arguments for one content in all 26 styles; return them as an `InstantJob`.

    The 26 styles are those that a network of the package has learned. The results are drawn on one
    sheet, which is written to `output`. `chosen` has the values of the command's options, by name.

    Raises:
      ValueError: if an argument or option cannot be used; the message names it.
    """
    styles = [ChosenStyle((name,), (), (1.0,)) for name in style_names.NAMES]
    _check_options(chosen, styles)
    overwrite = chosen["overwrite"] is not False
    check_outputs(
        Outputs(picture=output, overwrite=overwrite), [content, *control_files.files_of(chosen)]
    )
    controls.check_files(chosen)
    found = [_row(n, content, style, output, chosen) for n, style in enumerate(styles, 1)]
    return InstantJob(
        rows=tuple(found), overwrite=overwrite, sheet=output, **_options(chosen, found)
    )


def _files_in(path: Path) -> list[Path]:
    """Return the files in a folder of masks; an empty list if the path is that of one mask."""
    return sorted(path.iterdir()) if path.is_dir() else []


def _requested(
    content: Path, words: Sequence[StyleShare], chosen: Mapping[str, Any]
) -> tuple[list[Path], list[ChosenStyle]]:
    """Return the contents and the styles that the arguments and `--styles` name.

    Without `--styles`, `words` are styles, which are blended in the picture of the single content. With
    `--styles`, `words` are further contents.
    """
    if not chosen["styles"]:
        if not words:
            raise ValueError("`style`: is missing; name one, or several with `--styles`")
        return [content], [styles_of(words)]
    for path, share in words:
        if share is not None:
            raise ValueError(
                f"`style`: '{path}' has a share, but beside `--styles` it is a content; omit the share"
            )
    return [content, *(path for path, _ in words)], _several_styles(chosen["styles"])


def network_key(style: ChosenStyle) -> Hashable:
    """Return a key that is equal for styles that the same network paints.

    For a trained network, it is the digest of the network's file. For all other styles, it is True if
    they are among the package's 26 styles, which have names, and False if they are pictures: one
    network paints the 26 styles, and another network paints any pictures' styles.
    """
    return bool(style.names) if style.trained is None else style.trained.digest


def _options(chosen: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """Return those fields of an `InstantJob` that the command's options determine.

    `chosen` has the values of the options. `rows` are the pictures to paint; if the bucket (the array
    in which each picture lies) is chosen automatically, it depends on their networks and sizes.
    """
    bucket = buckets.checked_bucket(chosen["bucket"])
    if bucket == buckets.AUTO:
        pictures = [(network_key(row.style), row.shape) for row in rows]
        trained = {row.style.trained.digest: row.style.trained for row in rows if row.style.trained}
        bucket = instant_painter.square_by_cost(pictures, [*trained.values()]) if pictures else None
    colors, realism = _colors_and_realism(chosen)
    return {
        "colors": colors,
        "realism": realism,
        "strength": chosen["strength"],
        "size": chosen["size"],
        "style_size": chosen["style_size"],
        "precision": instant_painter.chosen_precision(chosen["precision"]),
        "bucket": bucket,
        "metadata": chosen["metadata"],
        "begun": chosen["begun"],
    }


def _row(
    number: int, content: Path, style: ChosenStyle, output: Path, chosen: Mapping[str, Any]
) -> Row:
    seen = images.glance(source(content), argument="content")
    shape = given_styles.content_shape(chosen["size"], seen.shape)
    images.check_fits(output, shape, argument="output")
    side = buckets.checked_bucket(chosen["bucket"])
    if side is not None and side != buckets.AUTO:
        instant_painter.check_in_square(shape, side)
    protect: ProtectFile | None = control_files.with_files_from_folders(chosen, content, ())[
        "protect"
    ]
    found = [images.glance(path, argument="protect") for path in protect.masks] if protect else []
    for mask in found:
        what = f"the content {seen.name!r}"
        masks.check_proportions("protect", mask.shape, seen.shape, what, name=mask.name)
    return Row(number, content, style, output, seen, shape, protect, tuple(found))


def _content_of(draft: manifests.ManifestRow) -> Path:
    """Return the path of a picture's content.

    It is not None: only textures have no content, and `instant` cannot paint textures.
    """
    assert draft.content is not None
    return draft.content


def _rows(
    drafts: Sequence[manifests.ManifestRow],
    styles: Sequence[ChosenStyle],
    outputs: Sequence[Path],
    chosen: Mapping[str, Any],
) -> tuple[list[Row], list[results.Record]]:
    """Return a `Row` for each picture that can be painted, and a `Record` for each that cannot.

    A picture cannot be painted if its content or the masks of its protected part cannot be used, or if
    its size does not fit its file format or its bucket (a larger array in which it lies). If its
    content was typed on the command line, the error that says so is raised instead.

    Args:
      drafts: the pictures to paint, not checked yet.
      styles: the style of each picture.
      outputs: the path of each result.
      chosen: the options of the command.
    """
    for draft in drafts:
        # The call raises an error if `--protect` names a folder without a mask for this content, which
        # must not be painted without its mask.
        control_files.with_files_from_folders(chosen, _content_of(draft), ())
    known: dict[Path, Row | ValueError] = {}
    found, bad = [], []
    for draft, style, output in zip(drafts, styles, outputs, strict=True):
        path = _content_of(draft)
        if path not in known:
            try:
                known[path] = _row(draft.number, path, style, output, chosen)
            except ValueError as error:
                if draft.typed:
                    raise
                known[path] = error
        seen = known[path]
        if isinstance(seen, ValueError):
            files = draft.number, str(path), style.words, str(output)
            bad.append(results.Record(*files, "failed", str(seen)))
        else:
            found.append(seen._replace(number=draft.number, style=style, output=output))
    return found, bad
