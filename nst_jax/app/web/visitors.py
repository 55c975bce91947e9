"""The visitors of the web page: each browser is a visitor, with pictures and a run of its own.

The server finds a visitor by the cookie that the browser sends with each request. A run is the painting
of one picture by optimisation. A start is a copy of a run's picture, with which another run begins.
"""

import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from nst_jax.app.web import archive, limits, settings
from nst_jax.app.web.queue import Queue
from nst_jax.app.web.quick import QuickPicture
from nst_jax.app.web.run import ENDED, Run, RunState, Work
from nst_jax.app.web.uploads import Uploads

# A function that makes the `Work` of a run (the computation that paints its picture), from the words of
# its command line and the folder of its files.
MakeWork: TypeAlias = Callable[[Sequence[str], Path], Work]


class Visitor:
    """One browser: its pictures, its run, and how many of its tabs show the web page."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a visitor whose files are kept in `folder`, which must exist.

        `clock` returns the time in seconds; it measures how long the visitor has been away.
        """
        self.folder = folder
        self.uploads = Uploads(folder)
        self.run: Run | None = None
        self.quick: QuickPicture | None = None
        # Number of requests so far for pictures by a feed-forward network. If this number grows while a
        # request waits, a newer request has come, and the waiting one is dropped.
        self.asked = 0
        self.streams = 0  # number of tabs in which this browser shows the web page
        # The settings with which the run was begun, for the web page to show; None if there is no run.
        self.last_settings: dict[str, Any] | None = None
        self._clock = clock
        self._seen = clock()
        self._runs = 0
        self._lock = threading.Lock()
        self._beginning = threading.Lock()  # held while a run is prepared, which may take seconds
        # Number of pictures that `start_from` has copied; it makes the copies' file names unique.
        self._starts = 0
        # File name of the latest copy -> the command lines that paint the copied picture again. For a
        # run that starts from the copy, the page shows these lines before the command line of the run.
        # There is at most one entry.
        self._start_lines: dict[str, list[str]] = {}
        # Earlier runs; when they have ended, `clear` deletes their folders.
        self._before: list[Run] = []

    # --- Open pages -------------------------------------------------------------------------------

    def came(self) -> None:
        """Record that a tab with the web page was opened; the server keeps this page up to date.

        Raises:
          ValueError: if this browser has the web page open in too many tabs.
        """
        with self._lock:
            if self.streams >= limits.MOST_STREAMS:
                raise ValueError(
                    "page: it is open too often in this browser; close some of its tabs"
                )
            self.streams += 1

    def left(self) -> None:
        """Record that a tab with the web page was closed."""
        with self._lock:
            self.streams -= 1
            self._seen = self._clock()

    def touch(self) -> None:
        """Record that the visitor sent a request."""
        self._seen = self._clock()

    def away(self) -> float:
        """Return the seconds since the visitor last closed a tab of the web page or sent a request.

        The result is 0 if the web page is open in a tab.
        """
        return 0.0 if self.streams else self._clock() - self._seen

    def is_watching(self) -> bool:
        """Return whether the visitor has been `away` for less than `UNWATCHED_SECONDS`.

        This is so if the web page is open in a tab, or if a tab was closed or a request came shortly
        before. So the result is still True while the page is reloaded.
        """
        return self.away() < limits.UNWATCHED_SECONDS

    # --- Runs -------------------------------------------------------------------------------------

    def settings_in(self, given: Any) -> settings.Settings:
        """Check the settings that the web page sent, with the visitor's pictures, and return them.

        Args:
          given: the settings, decoded from JSON.

        Raises:
          ValueError: if a setting cannot be used, or if a mask was brushed over another photo.
        """
        chosen = settings.settings_in(given, self.uploads.known)
        self.uploads.check_masks(chosen.photo, chosen.masks)
        return chosen

    def begin(self, given: Any, queue: Queue, make_work: MakeWork, *, keep: bool) -> Run:
        """Check settings, put a run with these settings into the queue, and stop the previous run.

        Args:
          given: the settings as the web page sent them, decoded from JSON.
          queue: the queue of all visitors.
          make_work: makes the `Work` of the run, which is the computation that paints its picture.
          keep: whether the run goes on when no open tab shows it.

        Returns:
          The new run, which waits in the queue.

        Raises:
          ValueError: if the settings cannot be used, if too many runs wait already, or if the disk or
            the memory is full. The message is one sentence, for the visitor.
        """
        words = settings.stylize_words(chosen := self.settings_in(given))
        with self._beginning:
            self.clear()
            self._runs += 1
            folder = self.folder / f"run_{self._runs}"
            folder.mkdir()
            try:
                # The run gets copies of the files, so that it does not change if the visitor paints on
                # a mask later.
                for name in chosen.files:
                    shutil.copyfile(self.folder / name, folder / name)
                work = make_work(words, folder)
                run = Run(
                    work,
                    words,
                    folder,
                    self.is_watching,
                    keep,
                    chosen.files,
                    start_lines=self._start_lines.get(chosen.init or "", ()),
                )
                # The new run is added before the previous one is stopped. If `add` refuses the new run,
                # the previous one goes on.
                queue.add(run)
                before, self.run = self.run, run
                if before is not None:
                    queue.stop(before)
                    with self._lock:
                        self._before.append(before)
            except (ValueError, OSError, MemoryError) as error:
                shutil.rmtree(folder, ignore_errors=True)
                raise ValueError(limits.without_paths(str(error), folder, self.folder)) from None
            self.last_settings = dict(given)
        return run

    def clear(self) -> None:
        """Delete the folders of earlier runs that have ended, with their pictures."""
        with self._lock:
            ended = [one for one in self._before if one.state in ENDED]
            self._before = [one for one in self._before if one not in ended]
        for run in ended:
            shutil.rmtree(run.folder, ignore_errors=True)

    def start_from(self, step: int | None) -> str:
        """Copy a picture of the run to the uploads, so that another run can start from it.

        Earlier copies of this kind are deleted, unless the new one is refused.

        Args:
          step: which picture: the one after this number of updates; None is the last picture.

        Returns:
          The file name of the copy.

        Raises:
          ValueError: if there is no such picture, or if the uploads refuse the copy, for example since
            the visitor has too many pictures.
        """
        run = self.run
        kept = None if run is None else run.picture(step)
        try:
            data = None if kept is None else kept.path.read_bytes()
        except FileNotFoundError:  # another thread has deleted the file, e.g. to make room
            data = None
        if run is None or kept is None or data is None:
            raise ValueError("start: this picture is no longer here; choose another")
        # Earlier copies are deleted, since the web page cannot remove them, and since they count
        # towards the limit on the pictures of a visitor.
        earlier = [one.name for one in list(self.uploads.known.values()) if one.role == "start"]
        # The page shows the command line of a run, which names the copy from which the run starts. Each
        # copy gets a new name, so that a name never means two pictures.
        self._starts += 1
        copied = f"start_{self._starts}_after_{kept.step}.png"
        name = self.uploads.add(copied, data, "start", replaces=earlier).name
        self._start_lines = {name: archive.start_lines_of(run, kept, name)}
        return name

    # --- What the page shows ----------------------------------------------------------------------

    def status(self, queue: Queue) -> dict[str, Any]:
        """Return, as JSON values, what the web page shows of the visitor's pictures, run and settings.

        The page gets these values again whenever they change.
        """
        return {
            "pictures": [one.as_json() for one in list(self.uploads.known.values())],
            "run": None if self.run is None else run_status(self.run, queue),
            "settings": self.last_settings,
        }


def run_status(run: Run, queue: Queue) -> dict[str, Any]:
    """Return what the web page shows of a run, as JSON values."""
    progress, kept = run.progress, run.kept
    return {
        "id": run.folder.name,
        "state": "pausing" if run.state is RunState.PAINTING and run.request else run.state.value,
        "place": queue.place(run),
        "why": run.why,
        "notes": list(run.notes),
        "warning": run.warning,
        "keep": run.keep,
        "stage": progress.stage,
        "step": progress.step,
        "total": progress.total,
        "loss": progress.loss,
        "shares": progress.shares,
        "left": progress.left,
        "pictures": [one.step for one in kept],
        "command": settings.command_line(run.words),
    }


class Visitors:
    """All visitors, each found by the secret in the cookie that its browser sends."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a temporary folder for the pictures of all visitors; `close` deletes it.

        Args:
          queue: the queue in which the runs of all visitors wait and paint.
          clock: returns the time in seconds; it measures how long a visitor has been away.
        """
        self._queue, self._clock = queue, clock
        self.folder = Path(tempfile.mkdtemp(prefix="nst_jax_web_"))
        self._known: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def find(self, secret: str | None) -> Visitor | None:
        """Return the visitor with this secret; None if there is none, or if `secret` is None."""
        return self._known.get(secret or "")

    def welcome(self) -> tuple[str, Visitor]:
        """Make a new visitor; return the secret for the visitor's cookie, and the visitor.

        Raises:
          ValueError: if there are too many visitors, and none of them may be deleted to make room.
        """
        with self._lock:
            if len(self._known) >= limits.MOST_VISITORS and not self._forget_one():
                raise ValueError(
                    f"page: {limits.MOST_VISITORS} browsers are using it, which is the most; come back "
                    "later"
                )
            secret = secrets.token_urlsafe(24)
            folder = self.folder / secrets.token_hex(8)
            folder.mkdir()
            self._known[secret] = Visitor(folder, self._clock)
            return secret, self._known[secret]

    def tidy(self) -> None:
        """Pause runs that no tab shows; delete earlier runs that ended, and visitors who left long ago.

        A run with `Run.keep` is not paused. A visitor who was away for over `FORGOTTEN_SECONDS` is
        deleted with all pictures, unless the visitor's run is in the queue.
        """
        self._queue.pause_unwatched()
        with self._lock:
            for secret, visitor in list(self._known.items()):
                visitor.clear()
                if visitor.away() > limits.FORGOTTEN_SECONDS and not self._is_busy(visitor):
                    self._forget(secret)

    def close(self) -> None:
        """Delete the pictures of all visitors."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_busy(self, visitor: Visitor) -> bool:
        return visitor.run is not None and self._queue.place(visitor.run) is not None

    def _forget_one(self) -> bool:
        """Delete one visitor: of those without a run or an open page, the one longest away.

        Returns:
          Whether there was such a visitor.
        """
        idle = [
            (visitor.away(), secret)
            for secret, visitor in self._known.items()
            # A visitor may have closed the page in order to load it again. So `is_watching` still
            # returns True for `UNWATCHED_SECONDS` after that, and the visitor is not deleted.
            if not visitor.is_watching() and not self._is_busy(visitor) and visitor.run is None
        ]
        if not idle:
            return False
        self._forget(max(idle)[1])
        return True

    def _forget(self, secret: str) -> None:
        visitor = self._known.pop(secret)
        if visitor.run is not None:
            self._queue.stop(visitor.run)
        shutil.rmtree(visitor.folder, ignore_errors=True)
