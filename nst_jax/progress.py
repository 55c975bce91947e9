"""What a person sees of a run on standard error: a live bar on a terminal, else occasional lines."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nst_jax._types import Losses
from nst_jax.pace import duration

LINE_SECONDS = 10.0  # between two lines where no bar can be drawn


class Display:
    """Shows facts, then progress. A quiet one shows nothing.

    Args:
      quiet: whether to show nothing at all.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)
        self._bar: Progress | None = None
        self._task: Any = None
        self._said = -LINE_SECONDS

    def say(self, text: str) -> None:
        """Show a line."""
        self.console.print(text, markup=False)

    def facts(self, facts: dict[str, str]) -> None:
        """Show a small table of names and values."""
        width = max(map(len, facts))
        for name, value in facts.items():
            self.say(f"{name:<{width}}  {value}")

    @contextmanager
    def bar(self, total: int, first: str) -> Iterator[None]:
        """Keep a bar of `total` parts on the screen; `first` says what happens until it moves."""
        if self.console.quiet or not self.console.is_terminal or self.console.is_dumb_terminal:
            self.say(first)
            yield
            return
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=None)
        rest = TextColumn("{task.fields[rest]}", markup=False)
        # Standard output stays what it is: it may be piped while the bar is on a terminal.
        with Progress(*columns, rest, console=self.console, redirect_stdout=False) as bar:
            self._bar, self._task = bar, bar.add_task(first, total=total, rest="")
            yield
            self._bar = None

    def stop(self) -> None:
        """Give the terminal back as it was."""
        if self._bar is not None:
            self._bar.stop()

    def move(self, done: int, total: int, what: str, rest: str) -> None:
        """Show that `done` of `total` are behind us, and a few words more."""
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, rest=rest, description=f"{what} {done}/{total}"
            )
        elif done == total or time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.say(f"{what} {done} of {total}: {rest}")


def shares(losses: Losses) -> str:
    """Return the loss and how much of it each term has.

    Example:
      >>> shares(Losses(8.0, 2.0, 6.0, 0.0, {}))
      'loss 8, content 25 %, style 75 %, tv 0 %'
    """
    total = float(losses.total)
    parts = [f"loss {total:.4g}"]
    for name in ("content", "style", "tv"):
        part = float(getattr(losses, name))
        parts.append(f"{name} {100 * part / total if total else 0:.0f} %")
    return ", ".join(parts)


def left(seconds: float | None) -> str:
    """Return a remaining time for people."""
    return "" if seconds is None else f"{duration(seconds)} left"


def amount(size: int) -> str:
    """Return a number of bytes for people.

    Example:
      >>> amount(119_600_000), amount(2_400_000_000)
      ('119.6 MB', '2.4 GB')
    """
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
