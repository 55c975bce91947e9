"""Pictures by a single pass of a network: the instant picture, and a photo in all 26 styles.

The 26 styles are those that a network of the package has learned. A visitor is somebody who uses the
page in a browser. A run is a painting by optimisation, which takes much longer than a single pass. A
request is what `InstantPainter` needs to paint one picture.
"""

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nst_jax import images
from nst_jax._types import Shape
from nst_jax.app import cache, programs
from nst_jax.app.batch import results
from nst_jax.app.instant.painting import paint_rows, written_with
from nst_jax.app.web import settings
from nst_jax.app.web.limits import without_paths
from nst_jax.app.web.settings import instant_job_of
from nst_jax.app.writing import write_picture
from nst_jax.feed_forward import given_styles, style_names
from nst_jax.feed_forward.arbitrary import VECTOR
from nst_jax.feed_forward.instant_painter import InstantPainter, Request, chosen_precision
from nst_jax.vgg.precision import Precision

# Longer side in px of each picture in the row of 26 pictures that shows a photo in 26 styles.
TILE = 144


# When the server starts, it paints one picture with each of these options of the command `instant`, so
# that their programs are compiled before a visitor comes. The first has no options, as the first
# picture that a visitor sees. The second has a weaker style, for which the style vector of the photo is
# computed as well. The third has a smaller size.
FIRST_OPTIONS = ((), ("--strength", "0.5"), ("--size", "256"))
# Shapes of the photos of most cameras, as (height, width). For photos of these shapes, the program that
# paints is prepared as well.
CAMERA_SHAPES = ((3000, 4000), (4000, 3000), (2000, 3000), (3000, 2000))
# After the first of the pictures, the others wait until a visitor has got a picture, but at most for
# so many seconds. A browser that opens with the server would otherwise wait for them.
FIRST_VISIT_SECONDS = 10.0


class QuickPicture(NamedTuple):
    """A picture that was painted by a single pass of a network and written to a file."""

    path: Path
    words: list[str]  # the words of the command line that paints it
    seconds: float  # how long it took, from reading the inputs to writing the picture


class Superseded(Exception):
    """Raised if the visitor has asked for another picture before this one was painted."""


class QuickPainter:
    """Paints with the feed-forward networks, even while a run paints on the same device.

    Such a network paints a picture by a single pass. This takes a fraction of a second and little
    memory, so the pass does not wait in the queue of runs. It waits only for an earlier single pass.
    """

    def __init__(self) -> None:
        """Make a painter; the networks are read when they are first needed."""
        self._painting = threading.Lock()
        self._next = threading.Lock()  # held by the one thread that may wait for `_painting`
        self._painters: dict[Precision, InstantPainter] = {}
        self._closed = False
        self._visited = threading.Event()  # set when a visitor has got a picture, and by `close`

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
        self, words: Sequence[str], folder: Path, output: Path, wanted: Callable[[], bool]
    ) -> QuickPicture:
        with self._turn():
            if not wanted():
                raise Superseded
            begun = time.perf_counter()
            job = instant_job_of(words, folder)
            painter = self._painter(job.precision)
            (painted,) = paint_rows(job, painter)
            if isinstance(painted, results.Record):
                raise ValueError(without_paths(painted.error or "nothing was painted", folder))
            write_picture(output, painted.image, **written_with(painted, job, painter))
            return QuickPicture(output, list(words), time.perf_counter() - begun)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """Context manager: wait until no other thread paints.

        A thread that has painted and wants to paint again, as `warm` does, lets a thread that waits
        paint before it. With a single lock, the thread that has painted could take the lock again
        before the waiting thread wakes up.
        """
        with self._next:
            self._painting.acquire()
        try:
            yield
        finally:
            self._painting.release()

    def close(self) -> None:
        """Let `warm` end after the picture that it paints."""
        self._closed = True
        self._visited.set()

    def warm(self, folder_of_all: Path) -> None:
        """Paint sample pictures, so that networks and programs are ready for the first visitor.

        The pictures are painted with `FIRST_OPTIONS`. A program is compiled for one size of pictures
        only. So afterwards, a black photo of each of the `CAMERA_SHAPES` is painted, too. The
        programs stay on disk, so that a later start of the server only reads them. If the sample
        pictures cannot be painted or written, the error is ignored, and networks and programs are
        prepared when first needed.

        Args:
          folder_of_all: an existing folder, which the server deletes when it ends.
        """
        samples = [images.SAMPLES[name] for name in ("chelsea", "starry_night")]
        with (
            suppress(OSError, ValueError),
            tempfile.TemporaryDirectory(dir=folder_of_all, ignore_cleanup_errors=True) as name,
        ):
            folder = Path(name)
            for path in samples:
                shutil.copyfile(path, folder / path.name)
            for number, options in enumerate(FIRST_OPTIONS):
                if number == 1:
                    self._visited.wait(FIRST_VISIT_SECONDS)
                if self._closed:
                    return
                files = [path.name for path in samples]
                words = ["instant", *files, *options, "-o", settings.OUTPUT]
                self._paint(words, folder, folder / settings.OUTPUT, lambda: True)
            for shape in CAMERA_SHAPES:
                if self._closed:
                    return
                self._prepare(shape)

    def _prepare(self, shape: Shape) -> None:
        """Paint a black photo of this shape, (height, width), at the size of instant pictures."""
        with self._turn():
            painter = self._painter(chosen_precision("auto"))
            photo = np.zeros((*given_styles.content_rule(None).shape(*shape), 3), np.float32)
            painter.paint([Request(photo, painter.arbitrary, np.zeros(VECTOR, np.float32))])

    def gallery(self, photo: Path, output: Path) -> None:
        """Write one picture that shows a photo in 26 styles, side by side.

        The styles are those that a network of the package has learned, in the order of their `NAMES`.

        Args:
          photo: path of the photo.
          output: the file to write.
        """
        with self._turn():
            content = given_styles.resized_content(images.load(photo, argument="photo"), TILE)
            painter = self._painter(chosen_precision("auto"))
            requests = [
                painter.request(content, given_styles.parsed_style("style", name, None, None))
                for name in style_names.NAMES
            ]
            row = np.concatenate([np.asarray(one) for one in painter.paint(requests)], axis=1)
            write_picture(output, row)

    def _painter(self, precision: Precision) -> InstantPainter:
        """Return the painter for a precision. The painter keeps its networks and programs in memory."""
        if precision not in self._painters:
            kept = programs.instant_kept_in(cache.programs_folder(), lambda line: None)
            self._painters[precision] = InstantPainter(precision=precision, programs=kept)
        return self._painters[precision]
