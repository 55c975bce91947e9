"""Many canvases, load by load: how many at once, how far they are, how long it takes, what broke."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
from jaxtyping import Array

from nst_jax import batches, prepare
from nst_jax._types import Image, Params, StyleImage
from nst_jax.pace import CHUNK_SECONDS, CompileClock, Stopwatch, cost, duration
from nst_jax.progress import Display, left
from nst_jax.pyramid import Shape
from nst_jax.starts import SeededBlend

# Pixels of canvas in one program. A processor gains little from a batch and has less memory.
PIXELS = {"cpu": 2**19}
PIXELS_ELSEWHERE = 2**22


def most_at_once(shape: Shape, platform: str) -> int:
    """Return how many canvases of (height, width) one program may paint."""
    return max(1, PIXELS.get(platform, PIXELS_ELSEWHERE) // (shape[0] * shape[1]))


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


def painted_together(
    params: Params, contents: Any, styles: Any, course: Course, **options: Any
) -> batches.Painted:
    """Paint one load.

    Args:
      params: the weights.
      contents: as in `stylize_many`.
      styles: as in `stylize_many`.
      course: at this load.
      **options: of `stylize_many`.

    Returns:
      The pictures, their losses, and of those that broke, the row and the update.
    """
    return batches.painted_many(params, contents, styles, every=course, tell=course.tell, **options)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SameStart:
    """A start that draws from one key for all canvases: no picture depends on the others."""

    start: Any
    key: Array

    def __call__(self, content: Image, style: StyleImage, key: Array) -> Image:
        del key
        return self.start(content, style, self.key)


def same_start(start: Any, seed: int) -> Any:
    """Return a start that is the same for all canvases; pictures and those without a key are."""
    if not callable(start) or isinstance(start, SeededBlend):
        return start
    return SameStart(start, jax.random.key(seed))
