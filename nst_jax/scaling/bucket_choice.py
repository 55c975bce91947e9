"""Choose buckets by their cost: they save compiling, but add pixels to compute.

A bucket is a set of arrays in which pictures of several sizes are painted; see `buckets`. Pictures of
one shape can have arrays of this shape. That adds no pixels, but programs are compiled for this shape
alone. Pictures of several shapes in one bucket share their programs, but the padding around them is
computed as well. What takes the fewest seconds depends on the device, the pictures and the number of
updates. It also depends on the programs that are kept on disk: they are loaded, not compiled.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Sequence
from functools import cache
from heapq import heappop, heappush
from typing import NamedTuple

from nst_jax._types import Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale, shapes_of
from nst_jax.scaling.buckets import Bucket, Scales, most_styles, rounded_up
from nst_jax.scaling.chunk_size import even_groups
from nst_jax.scaling.operations import run_operations


class Costs(NamedTuple):
    """The seconds that a device takes to compile the programs of a resolution, and for one operation.

    Both are for arrays of the pictures' own size. In a bucket (larger arrays, at whose top left the
    pictures lie), compiling takes `COMPILING_OF_BUCKET` times as long, and an operation
    `TIME_IN_BUCKET` times as long.
    """

    program: float  # seconds to compile all programs of one resolution for one shape of arrays
    operation: float  # seconds of one arithmetic operation, see `nst_jax.scaling.operations`


# In a bucket, the real size of the picture is a value at runtime. So compiling takes longer than for
# arrays of the picture's size, even if the bucket adds no pixels. `COMPILING_OF_BUCKET`, the ratio of
# these times, is the median of four cases in `buckets-cpu.json` (in `benchmarks/results`). In these
# cases, an update took 0.97 to 0.99 times as long in a bucket. `TIME_IN_BUCKET` is 1 nevertheless, so
# that no bucket is chosen for such a small difference.
TIME_IN_BUCKET = 1.0
COMPILING_OF_BUCKET = 1.45

# The time to load a program that is kept on disk, as a share of the time to compile it; an estimate.
LOADING = 0.1

# Costs that are assumed for a CPU on which no run was timed: 5 s to compile the programs of one
# resolution, and 1 s for 3.5e11 operations. They are from measurements on a CPU with two cores. It
# compiles the loop of updates in 2.8 to 3.7 s (`compile-cpu.json` in `benchmarks/results`); 1.5 s for
# the program that computes the losses' targets is an estimate. An update of one picture of 256 px takes
# 0.37 s for 1.0e11 operations (`step-cpu.json`). If several pictures are updated at once, each takes
# 1/1.25 of this time (`batch-cpu.json`).
TYPICAL_ON_CPU = Costs(5.0, 1 / 3.5e11)
# Costs that are assumed for all other devices on which no run was timed. They are from measurements on
# an H100. It compiled the programs of three resolutions in 24 s, that is, 8 s for each. An update of a
# picture of 512 px took 1.44 ms for 4.6e11 operations (`gpu-nvidia-h100-80gb-hbm3-8006044.json`).
TYPICAL_ELSEWHERE = Costs(8.0, 1 / 3e14)


class KeptPrograms(NamedTuple):
    """Programs on disk, compiled by an earlier command, with which a group of pictures can be painted.

    A group has programs for each scale (resolution level).
    """

    arrays: Scales  # the sizes of the arrays at all scales, coarse to fine
    pictures: int  # number of pictures in the group
    exact: bool  # whether the canvases fill the arrays; if not, they lie at the top left

    def key(self, recipe: Recipe) -> Hashable:
        """Return a key that is equal for two groups if they run the same programs with `recipe`."""
        if self.exact:
            shapes = shapes_of(self.arrays, recipe)
        else:
            shapes = tuple((one.shape, one.style_shapes) for one in self.arrays)
        return shapes, self.pictures, self.exact


class PassCosts(NamedTuple):
    """The seconds that a device takes for a feed-forward network, which paints in a single pass."""

    program: float  # seconds to compile the network for one shape of arrays
    pixel: float  # seconds to paint a pixel


# Costs that are assumed for a single pass on a CPU: 512 x 512 px took 0.33 s on two cores, which is
# 1.3e-6 s per pixel (`instant-cpu.json` in `benchmarks/results`); 1.7 s to compile are an estimate.
PASS_ON_CPU = PassCosts(1.7, 1.3e-6)
# Costs that are assumed for a single pass on other devices. Those of a CPU are multiplied by the ratios
# of `TYPICAL_ELSEWHERE` to `TYPICAL_ON_CPU`: compiling takes longer there, and a pixel less time.
PASS_ELSEWHERE = PassCosts(
    PASS_ON_CPU.program * TYPICAL_ELSEWHERE.program / TYPICAL_ON_CPU.program,
    PASS_ON_CPU.pixel * TYPICAL_ELSEWHERE.operation / TYPICAL_ON_CPU.operation,
)

# Up to this number of picture shapes, all ways to divide them among buckets (sets of arrays in which
# pictures of several shapes lie) are compared. For 10 shapes that takes 3^10 steps, in a tenth of a
# second.
MOST_COMPARED = 10


def typical_costs(platform: str) -> Costs:
    """Return the `Costs` that are assumed for a device on which no run was timed.

    Args:
      platform: "cpu", "gpu" or "tpu".

    Example:
      >>> typical_costs("cpu").program
      5.0
    """
    return TYPICAL_ON_CPU if platform == "cpu" else TYPICAL_ELSEWHERE


def chosen_buckets(
    runs: Sequence[Scales],
    recipe: Recipe,
    costs: Costs,
    platform: str,
    *,
    together: Callable[[Shape], int] | None = None,
    fits: Callable[[Scales], bool] = lambda arrays: True,
    kept: Collection[KeptPrograms] = (),
) -> list[Bucket]:
    """Return the buckets with which all runs together take the fewest seconds.

    A run paints one picture. A bucket is a set of arrays, one for each scale, in which the canvases of
    some runs lie; these runs share compiled programs. Runs whose numbers of scales or updates differ
    never share a bucket. Of the others, runs whose canvases have the same shape always do. If there are
    at most `MOST_COMPARED` shapes, all ways to divide them among buckets are compared. If there are
    more, pairs of shapes are first merged, the pair that saves most time first, until `MOST_COMPARED`
    sets of shapes are left or no pair saves time. The result is then not always the best choice.

    The arrays of a bucket are the smallest in which its runs fit, or arrays of programs in `kept`, if
    that takes less time.

    Args:
      runs: the scales of each run, with the sizes of its pictures without padding. All runs must be
        such that `buckets.can_lie_in_bucket` returns True.
      recipe: the recipe of all runs. Loss weights and learning rates, which may differ between the
        runs, have no influence.
      costs: how many seconds the device takes to compile programs and to compute an operation.
      platform: "cpu", "gpu" or "tpu".
      together: function of the (height, width) of an array; returns the largest number of pictures
        that are painted at once. If the last group of pictures is smaller than the others, it needs
        compiled programs of its own. None: all pictures are painted at once.
      fits: function of the sizes of a bucket's arrays at all scales; returns whether a picture in such
        arrays fits into memory.
      kept: the programs that are kept on disk. To load one takes the share `LOADING` of the time to
        compile it.

    Returns:
      The buckets, each with its runs. If all runs of a bucket have one shape, the arrays have this
      shape, and the field `exact` is True, unless larger arrays of programs in `kept` save time.

    Example:
      >>> from nst_jax import recipes
      >>> from nst_jax.run_scales import scales_of
      >>> recipe = recipes.GRAM.replace(size=96, steps=10)
      >>> shapes = (90, 60), (90, 61), (90, 64), (64, 90)
      >>> runs = [scales_of(shape, [(80, 100)], recipe) for shape in shapes]
      >>> for bucket in chosen_buckets(runs, recipe, Costs(4.0, 6e-11), "cpu"):
      ...     print(bucket.runs, bucket.scales[-1].shape, bucket.exact)
      (0, 1, 2) (96, 80) False
      (3,) (68, 96) True
    """
    alike: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, scales in enumerate(runs):
        alike[tuple(scale.steps for scale in scales)].append(index)
    loaded = {one.key(recipe) for one in kept}
    # The arrays of all programs in `kept` that paint canvases at the top left of larger arrays, without
    # repetition. They are sorted, so that a choice between equally fast buckets does not depend on the
    # order of `kept`.
    rooms = sorted({_of_no_updates(one.arrays) for one in kept if not one.exact})

    def seconds_in(arrays: Scales, whole: Sequence[_Kind], exact: bool) -> float:
        if not exact and not in_memory(arrays):
            return math.inf
        count = sum(len(kind.runs) for kind in whole)
        groups = even_groups(count, count if together is None else together(arrays[-1].shape))
        programs = sum(
            LOADING if KeptPrograms(arrays, size, exact).key(recipe) in loaded else 1.0
            for size in groups
        )
        compiling = costs.program * programs * len(arrays)
        painting = costs.operation * sum(
            number * operations(arrays, size) for size, number in groups.items()
        )
        if exact:
            return compiling + painting
        return COMPILING_OF_BUCKET * compiling + TIME_IN_BUCKET * painting

    @cache
    def operations(arrays: Scales, pictures: int) -> float:
        return run_operations(arrays, recipe, platform, pictures=pictures)

    @cache
    def in_memory(arrays: Scales) -> bool:
        return fits(arrays)

    found = []
    for some in alike.values():
        kinds = _kinds_of(some, runs)

        @cache
        def cheapest(parts: _Part, kinds: Sequence[_Kind] = kinds) -> _Choice:
            whole = [kinds[index] for index in sorted(parts)]
            own = _arrays_of(whole)
            choices = [_Choice(seconds_in(own, whole, len(whole) == 1), own, len(whole) == 1)]
            for arrays in _holding(rooms, own):
                choices.append(_Choice(seconds_in(arrays, whole, False), arrays, False))
            # Of equally fast choices, `min` returns the first: `own`, rather than larger arrays.
            return min(choices, key=lambda one: one.seconds)

        def seconds(parts: _Part, cheapest: Callable[[_Part], _Choice] = cheapest) -> float:
            return cheapest(parts).seconds

        for part in _cheapest(_merged(len(kinds), seconds), seconds):
            whole = [kinds[index] for index in sorted(part)]
            numbers = sorted(index for kind in whole for index in kind.runs)
            choice = cheapest(part)
            found.append(Bucket(choice.arrays, tuple(numbers), exact=choice.exact))
    return sorted(found, key=lambda bucket: bucket.runs)


def cheapest_square(
    pictures: Sequence[tuple[Hashable, Shape]],
    platform: str,
    *,
    costs: PassCosts | None = None,
    fits: Callable[[int], bool] = lambda side: True,
) -> int | None:
    """Return the side of a square in which feed-forward networks paint all pictures, if it saves time.

    Without a common square, each network has a program for each shape of picture. With the square, each
    network has one program, which computes the padding around the picture as well.

    Args:
      pictures: for each picture a key of the network that paints it, and the picture's (height, width).
      platform: "cpu", "gpu" or "tpu".
      costs: the seconds that the device takes to compile a program, and to paint a pixel; None stands
        for those assumed for the platform.
      fits: function of the side of a square; returns whether a picture in it fits into memory.

    Returns:
      The longest side of the pictures, rounded up to a multiple of 16 px; None if the square saves no
      time or does not fit into memory.

    Example:
      >>> shapes = [(256, 170), (256, 192), (192, 256), (256, 256)]
      >>> cheapest_square([("arbitrary", shape) for shape in shapes], "cpu")
      256
      >>> cheapest_square([("arbitrary", (2048, 1400)), ("arbitrary", (2048, 1500))], "cpu") is None
      True
    """
    if costs is None:
        costs = PASS_ON_CPU if platform == "cpu" else PASS_ELSEWHERE
    side = rounded_up(max(max(shape) for _, shape in pictures))
    networks = {network for network, _ in pictures}
    alone = costs.program * len(set(pictures)) + costs.pixel * sum(
        height * width for _, (height, width) in pictures
    )
    together = COMPILING_OF_BUCKET * costs.program * len(networks)
    together += TIME_IN_BUCKET * costs.pixel * len(pictures) * side**2
    return side if together < alone and fits(side) else None


# --- Shapes ---------------------------------------------------------------------------------------


class _Kind(NamedTuple):
    """A set of runs: at each scale (resolution), all their canvases have the same shape."""

    # The scales of the first run, but with other `style_shapes`: at each scale, all styles have one
    # shape, the smallest (height, width) into which the styles of all these runs fit. The number of
    # styles is that of the run with the most styles.
    scales: Scales
    runs: tuple[int, ...]  # the indices of these runs in the sequence of all runs


_Part = frozenset[int]  # indices of the `_Kind`s (groups of runs) that share one bucket


class _Choice(NamedTuple):
    """Arrays in which all runs of a `_Part` can be painted, and the seconds that this takes."""

    seconds: float  # infinite if the arrays do not fit into memory
    arrays: Scales
    exact: bool  # True: arrays of the canvases' own shape; False: a bucket, which may have padding


def _of_no_updates(arrays: Scales) -> Scales:
    return tuple(scale._replace(steps=0) for scale in arrays)


def _holding(rooms: Iterable[Scales], own: Scales) -> Iterator[Scales]:
    """Yield those of several buckets that have room for a group of runs at every scale.

    A bucket is yielded as scales with the sizes of its arrays and the group's numbers of updates.

    Args:
      rooms: for each of several buckets, the sizes of its arrays at all scales.
      own: the sizes of the smallest arrays in which the group's runs fit at all scales, with the number
        of updates at each scale.
    """
    for arrays in rooms:
        if len(arrays) == len(own) and all(map(_holds, arrays, own)):
            yield tuple(
                small._replace(shape=large.shape, style_shapes=large.style_shapes)
                for large, small in zip(arrays, own, strict=True)
            )


def _holds(large: Scale, small: Scale) -> bool:
    pairs = [(large.shape, small.shape)]
    pairs += [(large.style_shapes[0], shape) for shape in small.style_shapes]
    return all(a[0] >= b[0] and a[1] >= b[1] for a, b in pairs)


def _kinds_of(indices: Sequence[int], runs: Sequence[Scales]) -> list[_Kind]:
    found: dict[tuple[Shape, ...], list[int]] = defaultdict(list)
    for index in indices:
        found[tuple(scale.shape for scale in runs[index])].append(index)
    return [
        _Kind(_with_one_style_shape([runs[index] for index in some]), tuple(some))
        for some in found.values()
    ]


def _with_one_style_shape(runs: Sequence[Scales]) -> Scales:
    def at(scales: Sequence[Scale]) -> Scale:
        enclosing = _enclosing(shape for scale in scales for shape in scale.style_shapes)
        return scales[0]._replace(style_shapes=(enclosing,) * most_styles(scales))

    return tuple(map(at, zip(*runs, strict=True)))


def _arrays_of(kinds: Sequence[_Kind]) -> Scales:
    """Return the sizes of a bucket's arrays at each scale, given the kinds of runs in the bucket.

    A bucket is a set of arrays in which pictures of several shapes lie. A kind consists of all runs of
    one shape. An array is as high as the highest of its pictures and as wide as the widest. Both sides
    are rounded up to multiples of 16 px, unless there is only one kind.
    """
    if len(kinds) == 1:
        return kinds[0].scales
    return tuple(
        Scale(
            _rounded(_enclosing(scale.shape for scale in alike)),
            (_rounded(_enclosing(scale.style_shapes[0] for scale in alike)),) * most_styles(alike),
            alike[0].steps,
            max(scale.regions for scale in alike),
            any(scale.protected for scale in alike),
        )
        for alike in zip(*(kind.scales for kind in kinds), strict=True)
    )


def _enclosing(shapes: Iterable[Shape]) -> Shape:
    heights, widths = zip(*shapes, strict=True)
    return max(heights), max(widths)


def _rounded(shape: Shape) -> Shape:
    return rounded_up(shape[0]), rounded_up(shape[1])


# --- Which shapes share a bucket ------------------------------------------------------------------


def _merged(count: int, seconds: Callable[[_Part], float]) -> list[_Part]:
    """Merge kinds into parts until `MOST_COMPARED` parts are left, or no merging saves time.

    A kind consists of all runs of one shape. A part is a set of kinds that share a bucket: arrays in
    which the pictures of all of them lie. At first, each kind is a part by itself. Then two parts are
    merged at a time, those whose merging saves most time. This ends at `MOST_COMPARED` parts, since
    `_cheapest` can compare all ways to merge so many.

    Args:
      count: number of kinds.
      seconds: function that returns how long all runs of a part take in one bucket.

    Returns:
      The parts, each as the set of the indices of its kinds.
    """
    parts = {index: frozenset([index]) for index in range(count)}
    # A heap of pairs of parts; the pair whose merging saves the most seconds comes first. When two
    # parts have been merged, the other pairs with one of them remain in the heap and are ignored.
    pairs: list[tuple[float, int, int]] = []

    def add(a: int, b: int) -> None:
        one, other = parts[a], parts[b]
        heappush(pairs, (seconds(one | other) - seconds(one) - seconds(other), a, b))

    for a, b in itertools.combinations(parts, 2):
        add(a, b)
    for new in itertools.count(count):
        while pairs and not (pairs[0][1] in parts and pairs[0][2] in parts):
            heappop(pairs)
        if len(parts) <= MOST_COMPARED or not pairs or pairs[0][0] >= 0:
            break
        _, a, b = heappop(pairs)
        merged = parts.pop(a) | parts.pop(b)
        others = list(parts)
        parts[new] = merged
        for other in others:
            add(other, new)
    return list(parts.values())


def _cheapest(parts: list[_Part], seconds: Callable[[_Part], float]) -> list[_Part]:
    """Compare all ways to merge parts, and return the merged parts that take the least time together.

    A kind consists of all runs of one shape. A part is a set of kinds that share a bucket: arrays in
    which the pictures of all these kinds lie. To compare all ways to merge n parts takes 3^n steps, so
    more than `MOST_COMPARED` parts are returned unchanged.

    Args:
      parts: parts that have no kinds in common.
      seconds: function that returns how long all runs of a part take in one bucket.
    """
    if len(parts) > MOST_COMPARED:
        return parts
    # A set of parts is represented by a number: bit i is 1 if `parts[i]` is in the set.
    everything = 2 ** len(parts) - 1
    unions: list[_Part] = [frozenset()]
    for number in range(1, everything + 1):
        last = number.bit_length() - 1
        unions.append(unions[number ^ (1 << last)] | parts[last])
    each = [0.0, *map(seconds, unions[1:])]
    best, chosen = [0.0], [0]
    for number in range(1, everything + 1):
        # The bits of `number` are a set of parts. The first of these parts shares its bucket with none,
        # some or all of the others, and the loop tries all these choices. For the parts that remain,
        # the least time is in `best` already, since their bits are a smaller number.
        first = number & -number
        others = beside = number ^ first
        least, choice = math.inf, first
        while True:
            total = each[first | beside] + best[others ^ beside]
            # A set `beside` is tried before its subsets. If both take equally long, `<=` prefers the
            # subset, so parts share a bucket only if that saves time.
            if total <= least:
                least, choice = total, first | beside
            if not beside:
                break
            beside = (beside - 1) & others
        best.append(least)
        chosen.append(choice)
    found, left = [], everything
    while left:
        found.append(unions[chosen[left]])
        left ^= chosen[left]
    return found
