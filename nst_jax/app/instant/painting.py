"""Paint the rows of an `InstantJob`, and make the metadata that are embedded in their pictures.

A row is one picture to paint: a content and a style. A record says whether it was painted, or why not.
A group has the rows that are painted together. A request is what `InstantPainter` needs to paint one
picture.
"""

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nst_jax import images, provenance
from nst_jax._types import HostImage, Shape
from nst_jax.app.batch import results
from nst_jax.app.control_files import protect_roles
from nst_jax.app.controls import numbers_of
from nst_jax.app.instant.job import ChosenStyle, InstantJob, Row, network_key
from nst_jax.app.mask_files import union_of_masks
from nst_jax.app.standard_streams import source
from nst_jax.app.writing import dpi_of, resized_alpha
from nst_jax.controls import Protect
from nst_jax.controls.given import Given, checked_controls
from nst_jax.feed_forward import (
    given_styles,
    instant_controls,
    instant_painter,
    style_files,
    style_names,
)
from nst_jax.images.resizing import antialiased
from nst_jax.scaling import chunk_size
from nst_jax.scaling.capacity import EXHAUSTED, platform_of


class PaintedRow(NamedTuple):
    """A painted picture that has not been written yet.

    A row is one picture to paint: a content and a style.
    """

    row: Row
    image: HostImage  # [h, w, 3] in [0, 1]
    # Opacity of the content at its original size, [height, width] in [0, 1]; None if it is opaque.
    alpha: Any
    dpi: Any  # pixels per inch (across, down) stated by the content's file; None if it states none
    # Seconds that painting took. Several pictures are painted together, so this is their time, divided
    # by the number of pictures.
    seconds: float


def network_of(
    style: ChosenStyle, painter: instant_painter.InstantPainter
) -> instant_painter.InstantNetwork:
    """Return the network that paints a style.

    If the style is that of a network that a user has trained, this network paints it. All other styles
    are painted by one of the package's two networks: by `styles26` if they are some of the 26 styles
    that it has learned, which are chosen by name; by `arbitrary` if they are given as pictures.
    """
    if style.trained is not None:
        return painter.trained(style.trained)
    return painter.styles26 if style.names else painter.arbitrary


# --- Inputs ---------------------------------------------------------------------------------------


class _ReadStyle(NamedTuple):
    """A style with its pictures read and resized, and the original sizes of these pictures.

    A style that is given by names or by a trained network has no pictures; `shapes` and `opacities` are
    then empty.
    """

    parsed: given_styles.ParsedStyle  # the style in the form that `InstantPainter` takes
    shapes: tuple[Shape, ...] = ()  # (height, width) of each picture before it was resized
    # Opacity of each picture before it was resized, [h, w] in [0, 1]; None if the picture is opaque.
    opacities: tuple[Any, ...] = ()


class _Inputs:
    """The input pictures of the command `instant`, read when they are needed.

    All styles stay in memory. Contents are read for one group of pictures that are painted together,
    and stay in memory until those of the next group are read.
    """

    def __init__(self, job: InstantJob) -> None:
        self._job = job
        self._styles: dict[ChosenStyle, _ReadStyle] = {}
        self._contents: dict[Path, images.Picture] = {}

    def contents(self, group: Sequence[Row]) -> dict[Path, images.Picture | Exception]:
        """Read the contents of some pictures that will be painted together.

        Returns:
          A dict from the path of each content to its picture or, if it cannot be read, to the error.
        """
        found: dict[Path, images.Picture | Exception] = {}
        for row in group:
            if row.content not in found:
                found[row.content] = self._content(row)
        self._contents = {
            path: one for path, one in found.items() if isinstance(one, images.Picture)
        }
        return found

    def _content(self, row: Row) -> images.Picture | Exception:
        if row.content in self._contents:
            return self._contents[row.content]
        try:
            return _read_unchanged(row.content, row.seen, "content")
        except (ValueError, OSError, MemoryError) as error:
            return error

    def style(self, style: ChosenStyle) -> _ReadStyle:
        """Return a style with its pictures, if any, read and resized; each style is read only once."""
        if style not in self._styles:
            self._styles[style] = self._read(style)
        return self._styles[style]

    def _read(self, style: ChosenStyle) -> _ReadStyle:
        if style.trained is not None:
            chosen = dict(zip(style.names, style.shares, strict=True))
            shares = style_files.style_shares(style.trained.network.styles, chosen)
            return _ReadStyle(given_styles.ParsedStyle((), shares, style.trained))
        if style.names:
            shares = style_names.mixture_of(dict(zip(style.names, style.shares, strict=True)))
            return _ReadStyle(given_styles.ParsedStyle((), shares))
        read = [
            _read_unchanged(path, seen, "style")
            for path, seen in zip(style.paths, style.seen, strict=True)
        ]
        size = self._job.style_size
        on_host = self._job.bucket is not None
        pictures = tuple(
            given_styles.resized_style(one.image, size, on_host=on_host) for one in read
        )
        return _ReadStyle(
            given_styles.ParsedStyle(pictures, np.asarray(style.shares, np.float32)),
            tuple(one.image.shape[:2] for one in read),
            tuple(one.alpha for one in read),
        )

    def given(self, row: Row, content: images.Picture, style: _ReadStyle) -> Given | None:
        """Check the protected part of the content and the opacities of the inputs, and return them.

        A protected part stays as it is in the content. The result is None if no part is protected and
        the opacities do not change the painted picture.
        """
        if row.protect is None and self._job.colors in instant_controls.WITHOUT_PICTURE:
            # Opacities only weight pixels in statistics of colours. These values of `colors` need no
            # such statistics.
            return None
        protect = None
        if row.protect is not None:
            read = [
                _read_unchanged(path, seen, "protect")
                for path, seen in zip(row.protect.masks, row.masks, strict=True)
            ]
            protect = Protect(union_of_masks(read, "protect"), row.protect.amount)
        return checked_controls(
            content.image.shape[:2],
            style.shapes,
            protect=protect,
            opacity=content.alpha,
            style_opacity=style.opacities or None,
        )


def _read_unchanged(path: Path, seen: images.Glance, argument: str) -> images.Picture:
    picture = images.read(source(path), argument=argument)
    if picture.digest != seen.digest:
        raise ValueError(f"`{argument}`: '{path}' changed since the command was begun")
    return picture


def check_bucket(job: InstantJob) -> None:
    """Refuse a bucket (the array in which each picture lies) that is too large for memory.

    Raises:
      ValueError: if a network of the job does not fit into memory with this bucket.
    """
    if job.bucket is None:
        return
    painter = instant_painter.InstantPainter()
    networks = {one.digest: one for one in (network_of(row.style, painter) for row in job.rows)}
    for network in networks.values():
        instant_painter.check_square_fits(network, job.bucket, job.precision)


# --- Painting -------------------------------------------------------------------------------------


class RowGroup(NamedTuple):
    """Pictures that are painted together."""

    rows: list[Row]
    # A group with fewer pictures than this is filled up with copies of its last picture. So one
    # compiled program paints all groups of a network, if their pictures lie in a bucket (a square
    # array). Without a bucket this is 1: nothing is filled up.
    filled: int = 1


def groups_of(rows: Iterable[Row], bucket: int | None = None) -> list[RowGroup]:
    """Divide the pictures to paint into groups that are painted together.

    The pictures of a group have the same network and, if `bucket` is None, the same size. A group has a
    limited number of pictures, since more pictures in a group would hardly save time.

    Args:
      rows: the pictures to paint.
      bucket: side in px of the bucket, a square array in which each picture lies; None if each picture
        has an array of its own size.
    """
    alike: dict[tuple[Any, Shape], list[Row]] = defaultdict(list)
    for row in rows:
        network = network_key(row.style)
        alike[network, row.shape if bucket is None else (bucket, bucket)].append(row)
    groups: list[RowGroup] = []
    for (_, shape), members in alike.items():
        size = size_of_groups(len(members), shape)
        filled = 1 if bucket is None else size
        groups += [
            RowGroup(members[first : first + size], filled)
            for first in range(0, len(members), size)
        ]
    return groups


def size_of_groups(count: int, shape: Shape) -> int:
    """Return how many pictures `groups_of` puts into each group; the last group may have fewer.

    Args:
      count: number of pictures of one network and one shape.
      shape: (height, width) of each picture, or of the bucket (square array) in which it lies.
    """
    return chunk_size.even_chunk(count, chunk_size.worthwhile_chunk(shape, platform_of()))


def paint_rows(
    job: InstantJob, painter: instant_painter.InstantPainter
) -> Iterator[PaintedRow | results.Record]:
    """Paint the pictures of a job in groups.

    While a group is painted, a thread reads the content pictures of the next group.

    Args:
      job: the pictures to paint, and the options of the command.
      painter: has the networks, and paints with them.

    Yields:
      Painted pictures, and a `Record` for each picture that failed.
    """
    inputs, groups = _Inputs(job), groups_of(job.rows, job.bucket)
    with ThreadPoolExecutor(1, "reader") as reader:
        coming = [reader.submit(inputs.contents, group.rows) for group in groups[:1]]
        for index, group in enumerate(groups):
            contents = coming.pop().result()
            following = groups[index + 1 :][:1]
            coming += [reader.submit(inputs.contents, other.rows) for other in following]
            readable = []
            for row in group.rows:
                content = contents[row.content]
                if isinstance(content, Exception):
                    yield row.record("failed", results.message_of(content))
                else:
                    readable.append((row, content))
            yield from _paint_together(readable, inputs, job, painter, group.filled)


def _paint_together(
    group: Sequence[tuple[Row, images.Picture]],
    inputs: _Inputs,
    job: InstantJob,
    painter: instant_painter.InstantPainter,
    filled: int = 1,
) -> Iterator[PaintedRow | results.Record]:
    """Paint pictures together; if that fails, one by one, so that only the faulty ones fail.

    Args:
      group: the rows of the pictures to paint, each with its content.
      inputs: reads styles and masks.
      job: the rows of all groups, and the options of the command.
      painter: runs the network.
      filled: if the group has fewer pictures than this, copies of its last picture are painted too, so
        that the program for this number of pictures can be used; see `RowGroup.filled`.

    Yields:
      For each row, the painted picture, or a `Record` that says why it could not be painted.
    """
    if not group:
        return
    begun = time.perf_counter()
    try:
        requests = [_request(row, content, inputs, job, painter) for row, content in group]
        wanted = [one.request for one in requests]
        painted = painter.paint(wanted + wanted[-1:] * (filled - len(wanted)))
        pictures = [
            np.asarray(one.finish(image)) for one, image in zip(requests, painted, strict=False)
        ]
    except Exception as error:
        if len(group) == 1:
            yield group[0][0].record("failed", results.message_of(error))
            return
        # Each picture is now painted without the others. If it lies in a bucket (a square array), it is
        # painted with `filled` - 1 copies of itself, by the program for `filled` pictures, so that no
        # other program is compiled. But if the memory was exhausted, it is painted without copies.
        exhausted = isinstance(error, MemoryError) or EXHAUSTED in str(error)
        alone = 1 if exhausted else filled
        for one in group:
            yield from _paint_together([one], inputs, job, painter, alone)
        return
    seconds = (time.perf_counter() - begun) / len(group)
    for (row, content), image in zip(group, pictures, strict=True):
        yield PaintedRow(row, image, content.alpha, content.dpi, seconds)


def _request(
    row: Row,
    content: images.Picture,
    inputs: _Inputs,
    job: InstantJob,
    painter: instant_painter.InstantPainter,
) -> instant_controls.ControlledRequest:
    style = inputs.style(row.style)
    return instant_controls.controlled_request(
        painter,
        given_styles.resized_content(content.image, job.size, on_host=job.bucket is not None),
        style.parsed,
        job.recipe,
        inputs.given(row, content, style),
        job.strength,
    )


# --- Embedded metadata ----------------------------------------------------------------------------


def settings(row: Row, job: InstantJob, network: instant_painter.InstantNetwork) -> dict[str, Any]:
    """Return the metadata that say what a result depends on, except device and package versions."""
    style = row.style
    inputs: Mapping[str, provenance.Named] = {"content": row.seen}
    if style.seen:
        inputs = provenance.roles(row.seen, style.seen, None)
    facts: dict[str, Any] = {
        "command": "instant",
        "network": "trained" if style.trained else network.name,
        "size": _size(row.shape),
        "rule": str(job.content_rule),
        "filter": antialiased.__name__,
        "precision": job.precision.name,
        "inputs": {role: {"name": one.name, "digest": one.digest} for role, one in inputs.items()},
        "weights": {"digest": network.digest},
    }
    # Colours, realism and masks are added only if they were asked for. If they were always added, the
    # results of earlier versions, which did not have these options, would count as painted with other
    # settings, and would be painted again.
    if job.colors != "style":
        facts["colors"] = job.colors
    if job.realism:
        facts["realism"] = job.realism
    if row.protect is not None:
        for role, mask in zip(protect_roles(row.protect), row.masks, strict=True):
            facts["inputs"][role] = {"name": mask.name, "digest": mask.digest}
        facts |= numbers_of((), row.protect)
    if style.names:
        return facts | {"styles": dict(zip(style.names, style.shares, strict=True))}
    shapes = [given_styles.style_shape(job.style_size, seen.shape) for seen in style.seen]
    return facts | {
        "style_sizes": [_size(shape) for shape in shapes],
        "style_rule": str(job.style_rule),
        "style_shares": list(style.shares),
        "strength": job.strength,
    }


def _size(shape: Shape) -> list[int]:
    return [shape[1], shape[0]]


def written_with(
    painted: PaintedRow, job: InstantJob, painter: instant_painter.InstantPainter
) -> dict[str, Any]:
    """Return arguments of `write_picture`: the opacity, resolution and metadata of a result."""
    facts = settings(painted.row, job, network_of(painted.row.style, painter)) | {
        "device": provenance.device(),
        "versions": provenance.versions(),
        "finished": True,
    }
    return {
        "alpha": resized_alpha(painted.alpha, painted.image),
        "dpi": dpi_of(job.content_rule, painted.dpi),
        "metadata": facts if job.metadata else None,
    }
