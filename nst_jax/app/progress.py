"""What a person sees of a run on standard error: a live bar on a terminal, else occasional lines."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nst_jax import prepare
from nst_jax._types import Losses
from nst_jax.app.timing import CHUNK_SECONDS, CompileClock, Stopwatch, cost
from nst_jax.app.wording import duration

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


class Load(NamedTuple):
    """What is painted together: so many pictures along the same scales."""

    pictures: int
    scales: tuple[prepare.Scale, ...]


class Course(Iterator[int]):
    """How far the loads are, how long the rest will take, and how long chunks are: about a second.

    It is both `every` and, by its method, `tell` of `stylize_many`, called once per load.
    """

    def __init__(self, loads: Sequence[Load], compiling: CompileClock, display: Display) -> None:
        self._loads, self._compiling, self._display = loads, compiling, display
        self._work = [work_of(load) for load in loads]
        self._index, self._announced, self._done = 0, False, 0.0
        self._length = 1
        self._watch = Stopwatch(compiling)
        self._watch.lap()

    def __next__(self) -> int:
        return self._length

    def tell(self, evaluations: int, total: int) -> None:
        """Show how far the load is; `batches` calls this about every second.

        What does not fit into memory is painted in chunks one after the other, each with all of the
        load's evaluations.
        """
        if self._watch.lap().seconds < CHUNK_SECONDS / 2:
            self._length *= 2
        count, scales = self._loads[self._index]
        costs = _costs(scales)
        chunks = total // len(costs)
        whole, part = divmod(evaluations, len(costs))
        if evaluations == total:
            whole, part = chunks - 1, len(costs)
        self._done = count / chunks * (whole * sum(costs) + sum(costs[:part]))
        words = f"update {max(0, part - 1)} of {len(costs) - 1}, {left(self._rest())}"
        # The first chunk is one evaluation, too little to tell the rest by.
        if not self._announced and evaluations > 1:
            self._announced = True
            spent, rest = duration(self._compiling.seconds), duration(self._rest())
            self._display.say(f"compiled in {spent}; the rest takes about {rest}")
        what = f"{count} at once" if count > 1 else "one at a time"
        if chunks > 1:
            what = f"chunk {whole + 1} of {chunks}"
        self._display.move(self._pictures(), self._all(), "picture", f"{what}, {words}")

    def end_load(self) -> None:
        """Go on to the next load."""
        self._watch.lap()
        self._index, self._done, self._length = self._index + 1, 0.0, 1
        rest = left(self._rest()) if self._index < len(self._loads) else ""
        spent = f"{duration(self._compiling.seconds)} of compiling"
        words = ", ".join(filter(None, (spent, rest)))
        self._display.move(self._pictures(), self._all(), "picture", words)

    def _pictures(self) -> int:
        return sum(load.pictures for load in self._loads[: self._index])

    def _all(self) -> int:
        return sum(load.pictures for load in self._loads)

    def _rest(self) -> float:
        """Estimate the seconds left, from the work done so far."""
        done = sum(self._work[: self._index]) + self._done
        return self._watch.elapsed / done * (sum(self._work) - done) if done else 0.0


def _costs(scales: Sequence[prepare.Scale]) -> list[int]:
    """Return what each evaluation of a picture costs, in pixels."""
    costs = [cost(scale) for scale in scales for _ in range(scale.steps)]
    return [*costs, cost(scales[-1])]


def work_of(load: Load) -> int:
    """Return what a load costs, in pixels and evaluations; to be compared with others'."""
    return load.pictures * sum(_costs(load.scales))


def problem(broke_at: int | None) -> str:
    """Return what is wrong with a picture that broke at this update; nothing if it did not."""
    if broke_at is None:
        return ""
    return f"the losses are not finite after {broke_at} updates; it is the last finite canvas"
