"""Progress on standard error: a live bar on a terminal, otherwise a line every ten seconds or so."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, NamedTuple, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from nst_jax import run_errors, run_scales
from nst_jax._types import Losses
from nst_jax.app.formatting import duration, span
from nst_jax.app.messages import printable
from nst_jax.app.timing import INTERVAL_SECONDS, CompileClock, Pace, Range, Stopwatch, update_cost
from nst_jax.recipes.recipe import Recipe

# Least seconds between two lines of progress, except that the line which says that all is done comes at
# once. Such lines are printed only if there is no bar.
LINE_SECONDS = 10.0


class OptionalStream:
    """Standard error, but failures to write to it are ignored, since they should not end a run."""

    def write(self, text: str) -> int:
        """Write a text; if that fails, drop it."""
        self._try("write", text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered; if that fails, drop it."""
        self._try("flush")

    def isatty(self) -> bool:
        """Return whether standard error is a terminal, on which a bar can be drawn."""
        return sys.stderr is not None and sys.stderr.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(sys.stderr, name)

    def _try(self, method: str, *arguments: str) -> None:
        if sys.stderr is None:  # standard error was closed before the process began
            return
        try:
            getattr(sys.stderr, method)(*arguments)
        except (OSError, ValueError):  # a full disk, a closed pipe or terminal, a closed stream
            # Writing the buffered text would fail again, at the latest when Python exits. So standard
            # error is redirected to the null device, which takes this text and all later text.
            with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())


class Display:
    """Prints facts about a run, then its progress; prints nothing if `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        stream = cast(IO[str], OptionalStream())
        self.console = Console(
            file=stream, quiet=quiet, highlight=False, soft_wrap=True, emoji=False
        )
        self._bar: Progress | None = None
        self._task: Any = None
        self._said = -LINE_SECONDS
        # Time (`time.monotonic`) of the latest line that `stage` printed; before its first line, the
        # time of its first call without a bar; None before that call. `stage` prints its next line at
        # least `LINE_SECONDS` after this time.
        self._staged: float | None = None

    @property
    def is_live(self) -> bool:
        """Whether progress is shown on a terminal that can draw a bar."""
        console = self.console
        return console.is_terminal and not console.is_dumb_terminal and not console.quiet

    def say(self, text: str) -> None:
        """Print a line."""
        self.console.print(printable(text, self.console.encoding), markup=False)

    def notes(self, texts: Iterable[str]) -> None:
        """Print notes, each on a line of its own that begins with "note:"."""
        for text in texts:
            self.say(f"note: {text}")

    def facts(self, facts: dict[str, str]) -> None:
        """Print a small table of names and values."""
        width = max(map(len, facts))
        for name, value in facts.items():
            self.say(f"{name:<{width}}  {value}")

    @contextmanager
    def bar(self, total: int, first: str) -> Iterator[None]:
        """Context manager: show a bar for `total` units of work.

        The bar has the label `first` until `stage` or `move` shows another. If no bar can be drawn,
        `first` is printed as a line.
        """
        if not self.is_live:
            self.say(first)
            yield
            return
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=None)
        rest = TextColumn("{task.fields[rest]}", markup=False)
        # By default, rich would print all of standard output on the bar's terminal, even if standard
        # output is a pipe.
        with Progress(*columns, rest, console=self.console, redirect_stdout=False) as bar:
            self._bar, self._task = bar, bar.add_task(first, total=total, rest="")
            yield
            self._bar = None

    def stop(self) -> None:
        """Stop drawing the bar, and show the terminal's cursor again; the bar itself stays visible."""
        if self._bar is not None:
            self._bar.stop()

    def stage(self, what: str, rest: str) -> None:
        """Show what is being done, such as preparing a run, while no units of work are counted.

        Without a bar, at most one line is printed every `LINE_SECONDS` seconds.

        Args:
          what: what is being done, as text.
          rest: more text, such as the time left; may be empty.
        """
        if self._bar is not None:
            self._bar.update(self._task, rest=rest, description=what)
            return
        now = time.monotonic()
        if self._staged is not None and now - self._staged >= LINE_SECONDS:
            self.say(": ".join(filter(None, (what, rest))))
            self._staged = None
        self._staged = now if self._staged is None else self._staged

    def move(self, done: int, total: int, what: str, rest: str) -> None:
        """Show that `done` of `total` units of work are done.

        Without a bar, a line is printed if this method printed its last line at least `LINE_SECONDS`
        ago, or if all work is done.

        Args:
          done: number of units done.
          total: number of all units.
          what: what a unit is called, such as "step".
          rest: more text, such as the losses and the time left.
        """
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, rest=rest, description=f"{what} {done}/{total}"
            )
        elif done == total or time.monotonic() - self._said >= LINE_SECONDS:
            self._said = time.monotonic()
            self.say(f"{what} {done} of {total}: {rest}")


def loss_shares(losses: Losses) -> str:
    """Return text with the total loss and the percentage that each term contributes to it.

    Example:
      >>> loss_shares(Losses(8.0, 2.0, 6.0, 0.0, {}))
      'loss 8, content 25 %, style 75 %, tv 0 %'
    """
    total = float(losses.total)
    parts = [f"loss {total:.4g}"]
    names = ("content", "style", "tv", *(("matting",) * (losses.matting is not None)))
    for name in names:
        part = float(getattr(losses, name))
        parts.append(f"{name} {100 * part / total if total else 0:.0f} %")
    return ", ".join(parts)


def time_left(seconds: float | Range | None) -> str:
    """Return a remaining time as text for people; empty if the time is unknown."""
    if isinstance(seconds, Range):
        return f"{span(*seconds)} left"
    return "" if seconds is None else f"{duration(seconds)} left"


# --- Groups of pictures ---------------------------------------------------------------------------


class GroupWork(NamedTuple):
    """The work of one group of pictures, which have the same scales (resolution levels)."""

    pictures: int  # number of pictures in the group
    scales: tuple[run_scales.Scale, ...]

    @property
    def cost(self) -> int:
        """Estimated cost of all evaluations of the losses; the unit is one evaluation of one pixel."""
        return self.pictures * sum(_evaluation_costs(self.scales))


class BatchProgress(Iterator[int]):
    """Shows the progress of painting several groups of pictures in turn, and estimates the time left.

    As an iterator, a `BatchProgress` yields the number of updates until the next call of `report`. This
    number is doubled when calls follow each other too quickly. For each group, pass
    `nst_jax.descent.intervals_of(progress)` and `progress.report` to `paint_batch`, and then call
    `end_group`.
    """

    def __init__(
        self, groups: Sequence[GroupWork], compiling: CompileClock, display: Display
    ) -> None:
        self._groups, self._compiling, self._display = groups, compiling, display
        self._costs = [group.cost for group in groups]
        self._index, self._announced = 0, False
        # Estimated cost of the evaluations done so far for the current group, in the unit of
        # `GroupWork.cost`.
        self._done = 0.0
        self._length = 1
        self._watch, self._pace = Stopwatch(compiling), Pace()
        self._watch.lap()

    def __next__(self) -> int:
        return self._length

    def say(self, text: str) -> None:
        """Print a line of text; on a terminal, it appears above the progress bar."""
        self._display.say(text)

    def report(self, evaluations: int, total: int) -> None:
        """Show the progress of the current group; called by `paint_batch` after every few updates.

        A group that does not fit into memory is painted in chunks, one after the other. The pictures of
        a chunk are evaluated together, so a chunk takes as many evaluations as a single picture.

        Args:
          evaluations: number of evaluations of the losses done so far, in all chunks of the group.
          total: number of evaluations that all chunks of the group take.
        """
        seconds, before = self._watch.lap().seconds, self._done
        if seconds < INTERVAL_SECONDS / 2:
            self._length *= 2
        count, scales = self._groups[self._index]
        costs = _evaluation_costs(scales)
        chunks = total // len(costs)
        whole, part = divmod(evaluations, len(costs))
        if evaluations == total:
            whole, part = chunks - 1, len(costs)
        self._done = count / chunks * (whole * sum(costs) + sum(costs[:part]))
        # The first report of a chunk comes after one evaluation. The time before it includes computing
        # what the losses compare the pictures with. So no speed is computed from this time.
        if part > 1:
            self._pace.add(self._done - before, seconds)
        words = f"update {max(0, part - 1)} of {len(costs) - 1}, {time_left(self._left())}"
        # After one evaluation, there is no speed yet (see above) from which to estimate the rest.
        if not self._announced and evaluations > 1:
            self._announced = True
            spent, rest = duration(self._compiling.seconds), span(*self._left())
            self._display.say(f"compiled in {spent}; the rest takes {rest}")
        what = f"{count} at once" if count > 1 else "one at a time"
        if chunks > 1:
            what = f"chunk {whole + 1} of {chunks}"
        self._display.move(
            self._finished_pictures(), self._all_pictures(), "picture", f"{what}, {words}"
        )

    def end_group(self) -> None:
        """Show that the current group of pictures is finished, and proceed to the next group."""
        self._watch.lap()
        self._index, self._done, self._length = self._index + 1, 0.0, 1
        rest = time_left(self._left()) if self._index < len(self._groups) else ""
        spent = f"{duration(self._compiling.seconds)} of compiling"
        words = ", ".join(filter(None, (spent, rest)))
        self._display.move(self._finished_pictures(), self._all_pictures(), "picture", words)

    def _finished_pictures(self) -> int:
        return sum(group.pictures for group in self._groups[: self._index])

    def _all_pictures(self) -> int:
        return sum(group.pictures for group in self._groups)

    def _left(self) -> Range:
        """Estimate the least and most seconds left, from the speed of the run so far.

        The range covers both the speeds of the last intervals and the mean speed since the start. It is
        (0, 0) if no work is done yet.
        """
        done = sum(self._costs[: self._index]) + self._done
        left = sum(self._costs) - done
        if not done:
            return Range(0.0, 0.0)
        paces = (*self._pace.range, self._watch.elapsed / done)
        return Range(min(paces) * left, max(paces) * left)


def _evaluation_costs(scales: Sequence[run_scales.Scale]) -> list[int]:
    """Return the estimated cost of each evaluation of a picture's losses.

    The unit is the cost of one evaluation for one pixel. There is one evaluation for each update, and a
    final one for the result.
    """
    costs = [update_cost(scale) for scale in scales for _ in range(scale.steps)]
    return [*costs, update_cost(scales[-1])]


# How the message on a picture whose losses no update changed begins; `stalled` adds advice to it.
STALLED = "the losses after the last update are those of the start; nothing was painted"


def stalled(recipe: Recipe) -> str:
    """Return a message, which begins with `STALLED`, on a picture whose losses no update changed."""
    return f"{STALLED}: try {run_errors.remedy_for_stalled(recipe)}"


def divergence(broke_at: int | None, recipe: Recipe) -> str:
    """Return a message on a picture whose losses or gradient were not finite; "" if all were finite.

    Args:
      broke_at: number of updates after which the losses or their gradient were not finite; None if all
        were finite.
      recipe: the recipe of the picture, on which the advice depends.
    """
    if broke_at is None:
        return ""
    remedy = run_errors.remedy(recipe)
    if not broke_at:
        return (
            "the losses of the start, or their gradient, are not finite, so nothing was painted: "
            f"try {remedy}"
        )
    return (
        f"the losses, or their gradient, are not finite after {broke_at} updates; this is the last "
        f"picture before that: try {remedy}"
    )
