"""The visitors of the page: each browser has its own pictures and its own run, found by a cookie."""

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

# Makes the work of a command line whose files are in a folder.
MakeWork: TypeAlias = Callable[[Sequence[str], Path], Work]


class Visitor:
    """One browser: its pictures, its run, and the pages of it that are open."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a visitor whose files are kept in a folder, which exists."""
        self.folder = folder
        self.uploads = Uploads(folder)
        self.run: Run | None = None
        self.quick: QuickPicture | None = None
        self.asked = 0  # number of the newest request for an instant picture
        self.streams = 0  # pages that are open
        self.last_settings: dict[str, Any] | None = None  # with which the run was begun
        self._clock = clock
        self._seen = clock()
        self._runs = 0
        self._lock = threading.Lock()
        self._beginning = threading.Lock()  # held for seconds, while a run is planned
        self._starts = 0  # how many pictures were kept as starts
        self._start_lines: dict[str, list[str]] = {}  # name of a start -> the commands that make it
        self._before: list[Run] = []  # earlier runs, whose folders are deleted when they have ended

    # --- Who looks --------------------------------------------------------------------------------

    def came(self) -> None:
        """Note that a page was opened and is kept up to date from now on.

        Raises:
          ValueError: if too many are open.
        """
        with self._lock:
            if self.streams >= limits.MOST_STREAMS:
                raise ValueError(
                    "page: it is open too often in this browser; close some of its tabs"
                )
            self.streams += 1

    def left(self) -> None:
        """Note that a page was closed."""
        with self._lock:
            self.streams -= 1
            self._seen = self._clock()

    def touch(self) -> None:
        """Note that the visitor asked for something."""
        self._seen = self._clock()

    def away(self) -> float:
        """Return for how many seconds no page was open."""
        return 0.0 if self.streams else self._clock() - self._seen

    def is_watching(self) -> bool:
        """Return whether a page is open, or was until a moment ago, as when it is reloaded."""
        return self.away() < limits.UNWATCHED_SECONDS

    # --- Runs -------------------------------------------------------------------------------------

    def begin(self, given: Any, queue: Queue, make_work: MakeWork, *, keep: bool) -> Run:
        """Check settings, and put a run into the queue; the run before it ends.

        Raises:
          ValueError: in one sentence, for settings that cannot be painted.
        """
        chosen = settings.settings_in(given, self.uploads.known)
        words = settings.stylize_words(chosen)
        with self._beginning:
            self.clear()
            self._runs += 1
            folder = self.folder / f"run_{self._runs}"
            folder.mkdir()
            try:
                # Copies, so that a mask that is painted on meanwhile does not change what was begun.
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
                queue.add(run)  # first, since the run before goes on if this one is refused
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
        """Delete the pictures of earlier runs that have ended."""
        with self._lock:
            ended = [one for one in self._before if one.state in ENDED]
            self._before = [one for one in self._before if one not in ended]
        for run in ended:
            shutil.rmtree(run.folder, ignore_errors=True)

    def start_from(self, step: int | None) -> str:
        """Keep a picture of the run among the uploads, as the start of another run; return its name.

        It replaces earlier starts.

        Raises:
          ValueError: if there is no such picture.
        """
        run = self.run
        kept = None if run is None else run.picture(step)
        try:
            data = None if kept is None else kept.path.read_bytes()
        except FileNotFoundError:  # it was thinned out a moment ago
            data = None
        if run is None or kept is None or data is None:
            raise ValueError("start: this picture is no longer here; choose another")
        # The page has no means to remove them, and they would use up the visitor's pictures.
        for one in [one for one in list(self.uploads.known.values()) if one.role == "start"]:
            self.uploads.remove(one.name)
        self._starts += 1  # each has a name of its own, which stands for one picture in commands
        name = self.uploads.add(f"start_{self._starts}_after_{kept.step}.png", data, "start").name
        self._start_lines = {name: archive.start_lines_of(run, kept, name)}
        return name

    # --- What the page shows ----------------------------------------------------------------------

    def status(self, queue: Queue) -> dict[str, Any]:
        """Return everything that the page shows and that changes by itself, as JSON values."""
        return {
            "pictures": [one.as_json() for one in list(self.uploads.known.values())],
            "run": None if self.run is None else run_status(self.run, queue),
            "settings": self.last_settings,
        }


def run_status(run: Run, queue: Queue) -> dict[str, Any]:
    """Return what the page shows of a run, as JSON values."""
    progress, kept = run.progress, run.kept
    return {
        "id": run.folder.name,
        "state": "pausing" if run.state is RunState.PAINTING and run.request else run.state.value,
        "place": queue.place(run),
        "why": run.why,
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
    """All visitors, by the secret in their cookie."""

    def __init__(self, queue: Queue, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a folder for temporary files, with which `close` does away."""
        self._queue, self._clock = queue, clock
        self._folder = Path(tempfile.mkdtemp(prefix="nst_jax_web_"))
        self._known: dict[str, Visitor] = {}
        self._lock = threading.Lock()

    def find(self, secret: str | None) -> Visitor | None:
        """Return the visitor with this secret, or None."""
        return self._known.get(secret or "")

    def welcome(self) -> tuple[str, Visitor]:
        """Return the secret of a new visitor, and the visitor.

        Raises:
          ValueError: if there are too many.
        """
        with self._lock:
            if len(self._known) >= limits.MOST_VISITORS and not self._forget_one():
                raise ValueError(
                    f"page: {limits.MOST_VISITORS} browsers are using it, which is the most; come back "
                    "later"
                )
            secret = secrets.token_urlsafe(24)
            folder = self._folder / secrets.token_hex(8)
            folder.mkdir()
            self._known[secret] = Visitor(folder, self._clock)
            return secret, self._known[secret]

    def tidy(self) -> None:
        """Pause the runs that nobody looks at; forget visitors who have been away for long."""
        self._queue.pause_unwatched()
        with self._lock:
            for secret, visitor in list(self._known.items()):
                visitor.clear()
                if visitor.away() > limits.FORGOTTEN_SECONDS and not self._is_busy(visitor):
                    self._forget(secret)

    def close(self) -> None:
        """Delete all pictures."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _is_busy(self, visitor: Visitor) -> bool:
        return visitor.run is not None and self._queue.place(visitor.run) is not None

    def _forget_one(self) -> bool:
        """Forget the visitor who has been away longest, if one can be; return whether."""
        idle = [
            (visitor.away(), secret)
            for secret, visitor in self._known.items()
            # Who has pictures and left only a moment ago may just reload the page.
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
