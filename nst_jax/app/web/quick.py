"""Pictures by a single pass of a network: the instant picture, and a photo in all 26 styles.

The page shows the instant picture as soon as a visitor has chosen a photo and a style. It takes a
fraction of a second, while painting by optimisation, a run, takes minutes. The 26 styles are those that
one network of the package has learned.

Programs for such a network take seconds to compile, and about a second to load if they were compiled
before. Until they are ready, NumPy paints a provisional picture, if it can: see
`QuickPainter.paint_provisional`.
"""

import functools
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nst_jax import _files, images
from nst_jax.app import cache, programs
from nst_jax.app.batch import results
from nst_jax.app.instant.job import InstantJob
from nst_jax.app.instant.painting import PaintedRow, paint_rows, written_with
from nst_jax.app.web import settings
from nst_jax.app.web.limits import without_paths
from nst_jax.app.web.settings import instant_job_of
from nst_jax.app.writing import write_picture
from nst_jax.feed_forward import given_styles, style_names
from nst_jax.feed_forward.instant_painter import (
    HostPainter,
    InstantPainter,
    InstantPrograms,
    chosen_precision,
)
from nst_jax.vgg.precision import Precision

# Longer side in px of each picture in the row of 26 pictures that shows a photo in 26 styles.
TILE = 144


# While a network's programs are being compiled, NumPy paints a provisional picture, but only if the
# picture fits in a square of this side in px; `_suits_numpy` names the other conditions. Larger
# pictures would take NumPy too much time and memory.
LARGEST_PROVISIONAL = 512

# When the server starts, it paints a picture for each of these lines, which name a photo, a style and a
# size in px (None is the default). So the programs are compiled before a visitor comes. Every photo is
# padded to a square, and so these programs serve photos of all shapes. The first line describes the
# first picture that a visitor sees. The pictures are kept, so that they are not painted again for a
# visitor. The second line compiles another network: "mosaic" is no style picture, but one of the 26
# styles that this network has learned. The third line compiles the programs for a smaller size.
FIRST_PICTURES = (
    ("chelsea.jpg", "starry_night.jpg", None),
    ("chelsea.jpg", "mosaic", None),
    ("chelsea.jpg", "starry_night.jpg", 256),
)
# The files that `FIRST_PICTURES` names, from the samples of the package.
SAMPLES = tuple(images.SAMPLES[name] for name in ("chelsea", "starry_night"))
# Style pictures are padded to squares, and each size of square needs a program of its own, which
# computes the style vector: 100 numbers that describe a style to the network. After painting the
# pictures above, the server computes the style vector of a black picture of this (height, width). Its
# square is larger than those of the styles above, so one more program is compiled.
WIDE_STYLE = (256, 512)
# The method `warm` paints `FIRST_PICTURES`. After the first of them, it waits until a visitor has got a
# picture, but at most this many seconds. Otherwise, a visitor who comes when the server starts would
# have to wait for the other pictures.
FIRST_VISIT_SECONDS = 10.0


class QuickPicture(NamedTuple):
    """A picture that was painted by a single pass of a network and written to a file."""

    path: Path
    words: list[str]  # the words of a command line that paints the same picture
    # Duration of the painting, from reading the inputs to writing the file. The wait for earlier
    # pictures is left out. For a kept picture, it is the duration of its painting.
    seconds: float


class _Kept(NamedTuple):
    """A picture in memory: the bytes of its file, and how many seconds it took to paint it."""

    data: bytes
    seconds: float


class Superseded(Exception):
    """Raised in place of painting a picture that the visitor does not want any more.

    The visitor has asked for another picture before the painting of the first one began.
    """


class QuickPainter:
    """Paints with the feed-forward networks, even while a run (by optimisation) uses the same device.

    Such a network paints a picture by a single pass. This takes a fraction of a second and little
    memory, so the pass does not wait in the queue of runs. It waits only for earlier single passes.
    """

    def __init__(self) -> None:
        """Make a painter; the networks are read when they are first needed."""
        self._painting = threading.Lock()  # held by the thread that paints
        self._next = threading.Lock()  # held by the thread that paints next; see `_turn`
        self._painters: dict[tuple[Precision, int | None], InstantPainter] = {}
        self._closed = False
        # Two caches of pictures that `warm` paints from the sample pictures. The key of a picture is
        # the words of the command line that makes it. `_of_samples` has those painted by the network's
        # compiled programs. `_provisional` has the one painted by NumPy, which the page shows until
        # these programs are compiled.
        self._of_samples: dict[tuple[str, ...], _Kept] = {}
        self._provisional: dict[tuple[str, ...], _Kept] = {}
        # Paints provisional pictures by NumPy. Other painters place pictures in square arrays with the
        # side `bucket`; a `HostPainter` does not. But with a bucket, it also resizes pictures by NumPy,
        # so that JAX compiles nothing for their sizes.
        self._host = HostPainter(bucket=LARGEST_PROVISIONAL)
        self._on_host = threading.Lock()  # held while `_host` paints
        # Some keys of `_painters`: these painters have painted in a style that is a picture (not one of
        # the 26). So their programs are compiled, apart from programs for styles of other sizes, and
        # NumPy need not paint a provisional picture first.
        self._ready: set[tuple[Precision, int | None]] = set()
        # Set when `paint` ends for a visitor, and by `close`. After its first picture, `warm` waits for
        # this event (some seconds at most), so that the visitor need not wait for the other pictures.
        self._visited = threading.Event()

    def paint(
        self, words: Sequence[str], folder: Path, output: Path, wanted: Callable[[], bool]
    ) -> QuickPicture:
        """Paint the picture that a command line of `instant` describes, and write it.

        Args:
          words: the words of the command line; the files that they name are in `folder`.
          folder: the folder of the visitor's pictures.
          output: the file to write.
          wanted: called when earlier pictures are done; returns whether the visitor still wants this
            picture.

        Raises:
          ValueError: if the command itself would refuse the words, or if the result would be larger
            than the page allows.
          Superseded: if the picture is not wanted any more.
        """
        try:
            return self._paint(words, folder, output, wanted)
        finally:
            self._visited.set()

    def _paint(
        self,
        words: Sequence[str],
        folder: Path,
        output: Path,
        wanted: Callable[[], bool],
        *,
        keep: bool = False,
    ) -> QuickPicture:
        """Paint and write a picture as `paint` does, or write one that an earlier call kept in memory.

        With `keep`, the picture is kept for later calls with the same words. `warm` asks for this when
        it paints the package's sample pictures before a visitor comes. A kept picture is written only
        if the visitor's files are these samples, and not uploads with the same names.
        """
        with self._turn():
            if not wanted():
                raise Superseded
            if (known := _known(self._of_samples, words, folder, output)) is not None:
                return known
            begun = time.perf_counter()
            job = instant_job_of(words, folder)
            painter = self._painter(job.precision, job.bucket)
            painted = _painted(job, painter, folder)
            write_picture(output, painted.image, **written_with(painted, job, painter))
            if not job.rows[0].style.names:
                self._ready.add((job.precision, job.bucket))
            found = QuickPicture(output, list(words), time.perf_counter() - begun)
            if keep:
                self._of_samples[tuple(words)] = _Kept(output.read_bytes(), found.seconds)
            return found

    def paint_provisional(
        self,
        words: Sequence[str],
        folder: Path,
        output: Path,
        wanted: Callable[[], bool],
        *,
        keep: bool = False,
    ) -> QuickPicture | None:
        """Paint by NumPy the picture that `paint` would paint, if `paint` would wait for its programs.

        Both pictures are equal up to rounding. But the picture painted by NumPy has no settings
        embedded, and shows transparent parts as opaque.

        Args:
          words: the words of the command line; the files that they name are in `folder`.
          folder: the folder of the visitor's pictures.
          output: the file to write.
          wanted: called when earlier provisional pictures are done; returns whether the visitor still
            wants this picture.
          keep: whether the picture is kept in memory; for words that name sample pictures only. A later
            call with the same words writes the kept picture, unless the visitor has replaced a sample
            by another picture of that name.

        Returns:
          The picture. None if the programs are ready, or if NumPy cannot paint the picture: it is too
          large, its style is not a picture, or options protect a part or change colours or edges.

        Raises:
          ValueError: if the command itself would refuse the words, or if the result would be larger
            than the page allows.
          Superseded: if the picture is not wanted any more.
        """
        job = instant_job_of(words, folder)
        if (job.precision, job.bucket) in self._ready or not _suits_numpy(job):
            return None
        with self._on_host:
            if not wanted():
                raise Superseded
            if (known := _known(self._provisional, words, folder, output)) is not None:
                return known
            begun = time.perf_counter()
            write_picture(output, _painted(job, self._host, folder).image)
            found = QuickPicture(output, list(words), time.perf_counter() - begun)
            if keep:
                self._provisional[tuple(words)] = _Kept(output.read_bytes(), found.seconds)
            return found

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Context manager: wait until no other thread paints, and let none paint during the block.

        If a thread paints several pictures, as `warm` does, a waiting thread gets its turn after the
        current one. This needs two locks: with a single one, the thread that has painted a picture
        could take the lock again before the waiting thread wakes up.
        """
        with self._next:
            self._painting.acquire()
        try:
            yield
        finally:
            self._painting.release()

    def close(self) -> None:
        """Let `warm` end after the picture that it paints, or at once if it waits for a visitor."""
        self._closed = True
        self._visited.set()

    def warm(self, folder_of_all: Path) -> None:
        """Paint sample pictures, so that networks and programs are ready for the first visitor.

        The pictures are `FIRST_PICTURES`. The programs stay on disk, so that a later start of the
        server only reads them. If the sample pictures cannot be painted or written, the error is
        ignored, and networks and programs are prepared when first needed.

        Args:
          folder_of_all: an existing folder, which the server deletes when it ends.
        """
        with (
            suppress(OSError, ValueError),
            tempfile.TemporaryDirectory(dir=folder_of_all, ignore_cleanup_errors=True) as name,
        ):
            folder = Path(name)
            for path in SAMPLES:
                shutil.copyfile(path, folder / path.name)
            for number, (photo, style, size) in enumerate(FIRST_PICTURES):
                if number == 1:
                    self._visited.wait(FIRST_VISIT_SECONDS)
                if self._closed:
                    return
                words = settings.instant_words(
                    settings.Settings(photo=photo, styles=((style, 1.0),), size=size)
                )
                output = folder / settings.OUTPUT
                if number == 0:
                    self.paint_provisional(words, folder, output, lambda: True, keep=True)
                self._paint(words, folder, output, lambda: True, keep=True)
            if not self._closed:
                self._prepare_wide_style()

    def _prepare_wide_style(self) -> None:
        """Compile the program for style pictures of size `WIDE_STYLE`, by a call with a black picture.

        The program computes the vector that describes a style to the network.
        """
        with self._turn():
            painter = self._painter(chosen_precision("auto"), TILE)
            painter.vector(np.zeros((*WIDE_STYLE, 3), np.float32))

    def gallery(self, photo: Path, output: Path) -> None:
        """Write one picture that shows a photo in 26 styles, side by side.

        The styles are those that a network of the package has learned, in the order of
        `style_names.NAMES`.

        Args:
          photo: path of the photo.
          output: the file to write.

        Raises:
          ValueError: if the photo cannot be read, or if a side of it is under 16 px, before or after it
            is reduced to a longer side of `TILE` px.
        """
        with self._turn():
            content = given_styles.resized_content(
                images.load(photo, argument="photo"), TILE, on_host=True
            )
            painter = self._painter(chosen_precision("auto"), TILE)
            requests = [
                painter.request(content, given_styles.parsed_style("style", name, None, None))
                for name in style_names.NAMES
            ]
            row = np.concatenate([np.asarray(one) for one in painter.paint(requests)], axis=1)
            write_picture(output, row)

    def _painter(self, precision: Precision, bucket: int | None) -> InstantPainter:
        """Return the painter for a precision and a bucket, the same object at each call.

        A bucket is the side, in px, of the square to which contents are padded; with None they are not
        padded. A painter keeps its networks in memory, so they are loaded only once.
        """
        key = precision, bucket
        if key not in self._painters:
            self._painters[key] = InstantPainter(
                precision=precision, programs=self._programs, bucket=bucket
            )
        return self._painters[key]

    @functools.cached_property
    def _programs(self) -> InstantPrograms:
        """The compiled programs of the networks, cached on disk; all `_painters` share them."""
        return programs.instant_kept_in(cache.programs_folder(), lambda line: None)


def _painted(job: InstantJob, painter: InstantPainter, folder: Path) -> PaintedRow:
    """Paint the one picture of a job; raise ValueError if it fails.

    The visitor sees the message of the error, so the path of the server's `folder` is removed from it.
    """
    (painted,) = paint_rows(job, painter)
    if isinstance(painted, results.Record):
        raise ValueError(without_paths(painted.error or "nothing was painted", folder))
    return painted


def _suits_numpy(job: InstantJob) -> bool:
    """Return whether a picture can be painted by NumPy, with nothing compiled for it.

    It must be small, and its style a picture rather than one of the 26. Options that change colours or
    edges, or protect a part, are computed by JAX, which would compile programs.
    """
    (row,) = job.rows
    small = job.bucket is not None and job.bucket <= LARGEST_PROVISIONAL
    controlled = job.colors != "style" or job.realism or row.protect is not None
    return small and not controlled and not row.style.names


def _known(
    kept: Mapping[tuple[str, ...], _Kept], words: Sequence[str], folder: Path, output: Path
) -> QuickPicture | None:
    """Write the picture that is kept for the command line `words` to `output`, and return it.

    Return None if none is kept, or if a sample (picture of the package) that `words` name is missing or
    changed in `folder`.
    """
    found = kept.get(tuple(words))
    if found is None or not _has_samples(folder, words):
        return None
    with _files.atomic(output) as part:  # the server may still be sending the old file
        part.write_bytes(found.data)
    return QuickPicture(output, list(words), found.seconds)


def _has_samples(folder: Path, words: Sequence[str]) -> bool:
    """Return whether each sample (picture of the package) that `words` name is unchanged in `folder`.

    `words` are the words of a command line, and `folder` is that of the visitor's pictures. A visitor
    may have uploaded another picture under the name of a sample.
    """
    return all(
        (folder / path.name).exists() and (folder / path.name).read_bytes() == path.read_bytes()
        for path in SAMPLES
        if path.name in words
    )
