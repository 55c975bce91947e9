"""The preview of a run: a picture that is shown until the run has painted something.

A run is the painting of one picture by optimisation. The preview has the same content and styles, but
is painted in a single pass of a feed-forward network, which NumPy computes: JAX would first have to
compile it, and an accelerator is busy with the run itself.
"""

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

import jax
import numpy as np

from nst_jax import _files, images, provenance
from nst_jax._types import HostImage, Shape
from nst_jax.app import cluster, interrupts
from nst_jax.app.outputs import Outputs
from nst_jax.app.progress import Display
from nst_jax.app.writing import write_picture
from nst_jax.controls.given import Given
from nst_jax.feed_forward import given_styles, instant_controls, instant_painter, instant_start
from nst_jax.images.eight_bit import bilinear_8bit
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import LongEdge
from nst_jax.scaling import capacity

# Largest allowed side, in px, of a preview and of the resized styles from which it is painted. With
# larger ones, painting would take too long.
LARGEST = 384

# The most seconds for which a run on a CPU waits for its preview, if `--every` is not given. They
# suffice to paint the preview, but not to compile the programs that some controls, such as `--colors`,
# need for the first picture of a shape. With `--every`, the user has asked for pictures during the run,
# and the run waits as long as the preview takes. The run waits before it is planned, since planning
# would slow the preview down. A run on an accelerator does not wait.
PATIENCE = 1.5

# Largest size in bytes of a file whose metadata is searched for the mark of a preview: a preview has at
# most `LARGEST` x `LARGEST` px of at most 4 bytes each.
LARGEST_FILE = 2**20


class Preview(AbstractContextManager):
    """A fast approximate result, which is in the result's file until the run writes a canvas there.

    A canvas is the picture that the run itself paints. The run has one only when it has compiled its
    programs and computed what its losses compare the canvas with, which may take a minute. The preview
    is painted in a second thread. If it cannot be painted or written, the run goes on without it. A run
    on an accelerator does not wait for its preview, which the CPU paints meanwhile.

    If the file of the result has a picture already, that picture is kept beside it in a hidden file
    while the preview is shown. It comes back if the run ends without a canvas; or, if the process was
    killed, when the next run to the same file begins. A picture that is itself the preview of an
    earlier run is not kept.

    The object is a context manager, which at its end brings the earlier picture back if no canvas was
    written. It removes the preview if there was no earlier picture and the run was not accepted, for
    instance since it does not fit into memory.

    Attributes:
      written: whether the preview has been written to the file of the result.
      replaced: whether the preview has replaced a picture that comes back if no canvas is written.
    """

    def __init__(self, outputs: Outputs, display: Display, *, piped: bool = False) -> None:
        """Make an object without a picture; `begin` paints the preview.

        Args:
          outputs: the files that the run writes.
          display: shows a line when the preview has been written, or why there is none.
          piped: whether the picture goes to standard output at the end. Standard output takes only one
            picture, so there is then no preview.
        """
        self.written = False
        self._piped = piped
        self._outputs, self._display = outputs, display
        self._pool = ThreadPoolExecutor(1)
        self._lock, self._closed = Lock(), False
        self._accepted = False
        self._exists = outputs.picture.exists()
        # The path behind a symbolic link, so that `_put_back` does not replace the link by a file.
        self._file = outputs.picture.resolve()
        self._kept = _files.hidden_path(self._file, "before")  # the copy of the earlier picture
        self.replaced = False
        # A function that `__exit__` calls. If `begin` has registered `_abandon`, to be called when a
        # signal ends the process, this function cancels the registration. Otherwise it does nothing.
        self._forget: Callable[[], None] = lambda: None
        self._on_cpu = True  # whether the run itself is on a CPU
        # The device on which JAX applies controls such as `--colors` to the preview; NumPy computes the
        # rest. None stands for JAX's default device.
        self._device: Any = None
        self._painted: Future[np.ndarray] | None = None
        self._facts: dict[str, Any] = {}

    def __exit__(self, *exception: object) -> None:
        self.close()  # if the second thread is writing the preview, this waits for it
        self._pool.shutdown(wait=False, cancel_futures=True)
        busy = self._painted is not None and not self._painted.done()
        # If the second thread still paints, Python's clean-up would wait for it, so `leave_threads`
        # makes the process end without the clean-up. But if several processes paint one picture, each
        # of them needs the clean-up to leave the cluster.
        if busy and jax.process_count() == 1:
            interrupts.leave_threads()
        if self.replaced:
            self._put_back()
        elif self.written and not self._accepted:
            self._file.unlink(missing_ok=True)
        self._forget()

    def begin(
        self,
        content: images.Picture,
        styles: Sequence[images.Picture],
        recipe: Recipe,
        shape: Shape,
        given: Given | None,
        *,
        inputs: Mapping[str, Any],
    ) -> None:
        """Begin to paint the preview, if the run should have one.

        A second thread paints the preview and then writes it. On a CPU this method waits until the
        preview is written, since planning the run would slow the preview down. The wait is limited to
        `PATIENCE` seconds, except with `--every`, by which the user asks for unfinished pictures. On an
        accelerator this method does not wait.

        Args:
          content: the content picture.
          styles: the style pictures.
          recipe: the recipe of the run.
          shape: (height, width) of the result.
          given: the checked regions (parts with a style of their own), the protected part (which keeps
            the content) and the opacities of the pictures; None if there are none.
          inputs: the input files by role, whose names and digests are embedded in the preview.
        """
        if not self._is_wanted():
            return
        self._on_cpu = capacity.platform_of() == "cpu"
        if not self._on_cpu:
            # NumPy paints the preview; JAX computes only controls such as `--colors`, and does so on
            # the CPU, since the accelerator is busy with the run. If the user's settings of JAX exclude
            # the CPU, `local_devices` raises a RuntimeError, and JAX uses the accelerator.
            with suppress(RuntimeError):
                self._device = jax.local_devices(backend="cpu")[0]
        self._facts = {
            "preview": "arbitrary",
            "inputs": {
                role: {"name": file.name, "digest": file.digest} for role, file in inputs.items()
            },
            "steps_done": 0,
            "finished": False,
            "versions": provenance.versions(),
        }
        if self._exists:
            interrupts.exit_on_signals()
            self._forget = interrupts.call_before_exit(self._abandon)
        self._painted = self._submit(_painted, content, styles, recipe, shape, given)
        self._show(content)

    def _is_wanted(self) -> bool:
        if not cluster.is_first() or self._piped:
            return False
        # If `_kept`, the copy of an earlier picture, exists, an earlier run could neither put it back
        # nor delete it, for instance since that run was killed. The copy is put back now if there is
        # still a preview in the picture's place, or nothing, and deleted otherwise. If there is nothing
        # and this run may not overwrite files, the place stays free for the run's result.
        if self._kept.exists():
            if not self._file.exists() and not self._outputs.overwrite:
                self._put_beside()
            elif not self._file.exists() or _is_preview(self._file):
                self._put_back()
                self._exists = self._file.exists() or self._kept.exists()
            else:
                self.give_way()
        # Without `--every`, there is a preview only for somebody who watches the terminal.
        if self._outputs.every is None and not self._display.is_live:
            return False
        # If this process is killed, the next run recognises the preview by its metadata, and brings the
        # earlier picture back. So a preview without metadata must not replace a picture.
        return not self._exists or (self._outputs.metadata and self._file.is_file())

    def _put_back(self) -> None:
        """Put the earlier picture, which was kept, in the place of the preview."""
        try:
            os.replace(self._kept, self._file)
        except FileNotFoundError:
            # Either `_write` was interrupted, or failed, before the copy of the earlier picture was
            # complete; or another run that wrote the same file has deleted the copy.
            pass
        except OSError as error:
            why = _files.reason_of(error)
            self._display.say(
                f"note: {self._file} could not be put back as it was ({why}); the earlier picture is "
                f"in '{self._kept}'"
            )

    def _put_beside(self) -> None:
        """Give the earlier picture a name of its own, since this run may not overwrite its file."""
        stem, suffix = self._file.stem, self._file.suffix
        names = (
            _files.fitting_name(stem, f"_before{number or ''}{suffix}")
            for number in itertools.count()
        )
        place = next(path for path in map(self._file.with_name, names) if not path.exists())
        # If renaming fails, the folder is not writable, so the copy cannot be deleted either.
        with suppress(OSError):
            os.replace(self._kept, place)
            self._display.say(f"note: '{place}' is the picture that an earlier run had replaced")

    def _abandon(self) -> None:
        """Put back the picture that the preview replaced, before a signal ends this process at once."""
        # If the preview's thread is writing the file, this waits until the file is written. The wait
        # has a limit: this method may run in a signal handler, in a thread that holds the lock already.
        self._lock.acquire(timeout=0.5)
        self._closed = True
        if self.replaced:
            self._put_back()

    def _submit(self, work: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        """Call `work` in the preview's own thread, with `_device` as JAX's default device."""
        return self._pool.submit(_on_device, self._device, work, *arguments)

    def accept(self) -> None:
        """Let `__exit__` keep the preview even if the run paints nothing.

        This method is called when the inputs and options have passed all checks and the run begins. If
        the preview has replaced an earlier picture, `__exit__` still puts that picture back.
        """
        self._accepted = True

    def reject(self) -> None:
        """Let `__exit__` remove the preview, since the run was refused before it painted.

        After `close`, this has no effect, since a canvas may have replaced the preview.
        """
        with self._lock:
            if not self._closed:
                self._accepted = False

    def give_way(self) -> None:
        """Delete the copy of the earlier picture, so that it is not put back.

        The copy is not needed if the result's file has that picture itself, or a canvas of a run.
        """
        self.replaced = False
        with suppress(OSError):  # if this fails, the next run with this output deletes the copy
            self._kept.unlink(missing_ok=True)

    def _show(self, content: images.Picture) -> None:
        """Let a second thread write the preview once it is painted; on a CPU, wait for that.

        Without `--every`, the wait ends after `PATIENCE` seconds, and the preview may be written later.
        """
        shown = self._submit(self._write, content)
        if self._on_cpu:
            wait([shown], None if self._outputs.every is not None else PATIENCE)

    def close(self) -> None:
        """Make sure that no preview is written from now on; wait if one is being written."""
        with self._lock:
            self._closed = True

    def _write(self, content: images.Picture) -> None:
        assert self._painted is not None
        outputs = self._outputs
        try:
            image = self._painted.result()
            with self._lock:
                if self._closed:
                    return
                if self._exists and not _is_preview(self._file):
                    # The file has an earlier picture, which the user may want to keep.
                    self.replaced = True
                    _files.copy(self._file, self._kept)
                    # `_abandon` waits only briefly for the lock, so it may have set `_closed` during
                    # the copying.
                    if self._closed:
                        return
                write_picture(
                    outputs.picture,
                    image,
                    alpha=_resized_alpha(content.alpha, image),
                    metadata=self._facts if outputs.metadata else None,
                    overwrite=outputs.overwrite and self._exists,
                )
                self.written = True
        except Exception as error:  # whatever it is, the run itself goes on
            self.give_way()
            self._display.say(f"note: there is no preview: {' '.join(str(error).split())}")
            return
        name = outputs.picture.name
        self._display.say(f"{name} shows a preview until the first canvas is written")


def _is_preview(path: Path) -> bool:
    """Return whether a file is a preview, by its metadata."""
    try:
        if path.stat().st_size > LARGEST_FILE:
            return False
        return "preview" in (images.read_metadata(path) or {})
    except (OSError, ValueError):  # the file is missing, unreadable or no picture
        return False


def _on_device(device: Any, work: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with `device` as this thread's default device in JAX; None keeps the default."""
    if device is None:
        return work(*arguments)
    with jax.default_device(device):
        return work(*arguments)


def _style_shape(shape: Shape) -> Shape:
    """Return the (height, width) to which a style is resized, with sides of at most `LARGEST` px."""
    found = given_styles.style_rule(None).shape(*shape)
    return LongEdge(LARGEST).shape(*shape) if max(found) > LARGEST else found


def _resized(image: HostImage, shape: Shape) -> given_styles.Resized:
    """Return a picture at another size, within milliseconds for a photograph.

    Pillow resizes it, since JAX would first have to compile a program for the size. If both sides of
    the picture are at least four times as long as the new ones, square blocks of its pixels are
    averaged first, to save time.
    """
    factor = max(1, min(old // (2 * new) for old, new in zip(image.shape[:2], shape, strict=True)))
    if factor > 1:
        height, width = (side // factor for side in image.shape[:2])
        total = np.zeros((height, width, 3), np.float32)
        for row, column in np.ndindex(factor, factor):
            total += image[row::factor, column::factor][:height, :width]
        image = total / np.float32(factor**2)
    return images.bicubic_8bit(image, shape)


def _resized_alpha(alpha: Any, image: HostImage) -> Any:
    """Resize an alpha channel to an image's size by Pillow, which compiles nothing; None stays None."""
    if alpha is None:
        return None
    return bilinear_8bit(alpha, image.shape[:2])


def _painted(
    content: images.Picture,
    styles: Sequence[images.Picture],
    recipe: Recipe,
    shape: Shape,
    given: Given | None,
) -> HostImage:
    if max(shape) > LARGEST:
        shape = LongEdge(LARGEST).shape(*shape)
    painter = instant_painter.HostPainter()
    with ThreadPoolExecutor(1) as reader:
        # Another thread reads the weights while this one resizes the pictures.
        network = reader.submit(lambda: painter.arbitrary)
        resized = [
            _resized(picture.image, _style_shape(picture.image.shape[:2])) for picture in styles
        ]
        small = _resized(content.image, shape)
        network.result()
    # The network paints the whole picture in one style. So the styles of single layers are left out
    # here, and `controlled_request` leaves out regions.
    blended = recipe.terms.blended_styles(resized)
    request, finish = instant_controls.controlled_request(
        painter,
        small,
        instant_start.style_of(blended, recipe.terms.style_shares),
        recipe,
        given,
    )
    return np.asarray(finish(painter.paint([request])[0]))
