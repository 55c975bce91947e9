"""Which pictures of a batch are painted together.

A row, from a manifest or the command line, names the files and the recipe of one picture. Pictures are
alike if one compiled program can paint all of them. Their recipes may differ only in names and in the
numbers that `VARIABLE` lists. Their canvases (the arrays that are painted) either have the same shape,
or lie in buckets of the same shape. A bucket is an array that is at least as large as the canvas in it.
Some style losses compare single positions of canvas and style, not only statistics over all positions.
With such a loss, if there are no buckets, the styles must have the same shapes too.

A group consists of pictures that are alike; it is planned and painted together.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import run_scales
from nst_jax._types import Shape
from nst_jax.app.batch.entries import Entry
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets, chunk_size, sharding
from nst_jax.scaling.bucket_choice import (
    COMPILING_OF_BUCKET,
    Costs,
    KeptPrograms,
    chosen_buckets,
    typical_costs,
)
from nst_jax.scaling.chunk_size import even_size, worthwhile_chunk

# Largest number of pictures that one device paints at once; more would hardly save time.
MOST_PICTURES = 8

# One compiled program can paint pictures whose recipes differ only in certain numbers, which become
# arguments of the program. They are the numbers whose path in the recipe, as `jax.tree_util.keystr`
# writes it, begins with one of these texts.
VARIABLE = (
    ".terms.",
    ".descent.optimizer.",
    ".descent.last_learning_rate",
    ".pictures.realism",
)


class Group(NamedTuple):
    """Pictures that one compiled program can paint, planned and painted together."""

    entries: tuple[Entry, ...]
    # For each leaf (number) of a recipe: whether it differs between the pictures of the larger set, an
    # `Alike`, that was divided into groups. All groups of a set have the same `varying`, so that one
    # program can paint all of them.
    varying: tuple[bool, ...]
    # If the pictures lie in larger arrays (a bucket): the sizes of these arrays, coarse to fine. Else
    # None.
    arrays: tuple[run_scales.Scale, ...] | None = None

    @property
    def scales(self) -> tuple[run_scales.Scale, ...]:
        """The sizes (scales) at which the group is painted, coarse to fine.

        They are the sizes of the bucket, a larger array in which each picture lies, or those of the
        pictures themselves if there is no bucket.
        """
        return self.entries[0].scales if self.arrays is None else self.arrays

    @property
    def programs(self) -> KeptPrograms:
        """A description of the programs that paint the group, to find them among those kept on disk."""
        return KeptPrograms(self.scales, len(self.entries), self.arrays is None)


class Alike(NamedTuple):
    """Pictures that one compiled program can paint if they, or their buckets, all have one shape.

    A bucket is an array that is at least as large as the picture that lies in it.
    """

    entries: list[Entry]
    # For each leaf (number) of a recipe: whether it differs between the recipes of `entries`.
    varying: tuple[bool, ...]


def alike_of(entries: Sequence[Entry], bucket: buckets.Chosen = None) -> list[Alike]:
    """Divide the pictures of a batch into sets of pictures that are alike, see `Alike`.

    Each set keeps the order of the pictures. A compiled program takes as arguments those numbers of
    the recipes that differ within a set. These numbers are found here, before a set is divided into
    groups: if each group had arguments of its own, it would need a program of its own.

    Args:
      entries: the pictures, in any order.
      bucket: side, in px, of the square buckets (larger arrays) in which all pictures lie; None if
        there are no buckets. "auto" means that buckets are chosen later, for those pictures that can
        lie in one. The sizes of these pictures do not divide them into sets.
    """
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        # A picture with regions or a protected part is painted alone, since all pictures of a group are
        # painted with the same masks.
        alone = None if entry.controls is None else entry.number
        shapes: Hashable
        if bucket is None or (bucket == buckets.AUTO and not _can_lie_in_bucket(entry)):
            shapes = run_scales.shapes_of(entry.scales, entry.recipe)
        elif bucket == buckets.AUTO:
            shapes = bucket
        else:
            shapes = bucket, tuple(scale.steps for scale in entry.scales)
        found[shapes, structure_of(entry.recipe), alone].append(entry)
    return [Alike(same, _varying(same)) for same in found.values()]


def _can_lie_in_bucket(entry: Entry) -> bool:
    return buckets.can_lie_in_bucket(entry.recipe, entry.scales)


def structure_of(recipe: Recipe) -> Hashable:
    """Return a key that is equal for recipes that differ only in names and in certain numbers.

    The same program can paint pictures with such recipes. `VARIABLE` lists these numbers.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(_nameless(recipe))
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    fixed = [
        (path, value)
        for path, (_, value) in zip(paths, leaves, strict=True)
        if not path.startswith(VARIABLE)
    ]
    return tree, tuple(fixed)


def _nameless(recipe: Recipe) -> Recipe:
    return replace(recipe, name="", source="", family="")


def _varying(entries: Sequence[Entry]) -> tuple[bool, ...]:
    numbers = zip(*(jax.tree.leaves(entry.recipe) for entry in entries), strict=True)
    return tuple(len(set(values)) > 1 for values in numbers)


def joint_recipe(entries: Sequence[Entry], varying: Sequence[bool]) -> Recipe:
    """Return one recipe for several pictures that one compiled program can paint.

    Args:
      entries: n such pictures; their recipes differ only in names and in certain numbers.
      varying: for each leaf (number) of a recipe, whether the result has an array of all n values.

    Returns:
      The recipe of the pictures, without a name. Numbers that vary are arrays [n]; all other numbers
      are as in the recipe of the first picture.
    """
    first, tree = jax.tree.flatten(_nameless(entries[0].recipe))
    leaves = [jax.tree.leaves(entry.recipe) for entry in entries]
    numbers: list[Any] = [
        np.asarray([leaf[index] for leaf in leaves]) if varies else value
        for index, (value, varies) in enumerate(zip(first, varying, strict=True))
    ]
    return jax.tree.unflatten(tree, numbers)


def _always(recipe: Recipe, arrays: buckets.Scales) -> bool:
    del recipe, arrays
    return True


# A function that returns which programs stored on disk can paint groups of pictures from one set
# (`Alike`). Its arguments are a picture of the set and, for each number of a recipe, whether the number
# varies within the set.
KeptOf = Callable[[Entry, Sequence[bool]], Collection[KeptPrograms]]


def _none_kept(entry: Entry, varying: Sequence[bool]) -> Collection[KeptPrograms]:
    del entry, varying
    return ()


def most_at_once(shape: Shape, platform: str) -> int:
    """Return how many pictures a device paints at once at most; more would hardly save time.

    Args:
      shape: (height, width) of each picture, or of the bucket (larger array) in which it lies.
      platform: JAX's name of the platform.

    Example:
      >>> most_at_once((256, 256), "cpu"), most_at_once((512, 512), "cpu")
      (8, 2)
    """
    return min(MOST_PICTURES, worthwhile_chunk(shape, platform))


def form_groups(
    entries: Sequence[Entry],
    platform: str,
    devices: int = 1,
    bucket: buckets.Chosen = None,
    *,
    costs: Callable[[Recipe], Costs] | None = None,
    fits: Callable[[Recipe, buckets.Scales], bool] = _always,
    kept: KeptOf = _none_kept,
) -> list[Group]:
    """Split the pictures of a batch into groups, so that the pictures of a group are painted together.

    Args:
      entries: the pictures, in any order.
      platform: JAX's name of the platform of the devices, such as "cpu". The larger the pictures are,
        the fewer are in a group, above all on a CPU, since painting more at once is hardly faster.
      devices: number of devices that share a group; each paints some of its pictures.
      bucket: side, in px, of the square buckets (larger arrays) in which all pictures lie; None if
        there are no buckets. With "auto", `chosen_buckets` chooses the buckets.
      costs: takes a recipe, and returns the seconds to compile the programs of one scale (resolution),
        and the seconds of one arithmetic operation. From these, `chosen_buckets` estimates which
        buckets save time. None means the estimates of `typical_costs`.
      fits: takes a recipe and the sizes of a bucket at all scales, and returns whether a picture in
        this bucket fits into memory.
      kept: takes one of several pictures that one program can paint and, for each number of a recipe,
        whether it varies among these pictures. Returns the programs on disk that can paint them. Such
        programs need not be compiled, which `chosen_buckets` takes into account.

    Returns:
      The groups; groups that run the same program follow each other.
    """

    def most(shape: Shape) -> int:
        return devices * most_at_once(shape, platform)

    def buckets_of(same: list[Entry], varying: Sequence[bool]) -> list[buckets.Bucket]:
        recipe, runs = same[0].recipe, [entry.scales for entry in same]
        if bucket is None or (bucket == buckets.AUTO and not _can_lie_in_bucket(same[0])):
            return [buckets.Bucket(runs[0], tuple(range(len(same))), exact=True)]
        if bucket != buckets.AUTO:
            return buckets.buckets_of(bucket, runs, recipe)
        known = typical_costs(platform) if costs is None else costs(recipe)
        # Several GPUs or TPUs divide the pictures among them, which saves time. Several devices on one
        # CPU save none, since they also share its cores.
        if platform != "cpu":
            known = known._replace(operation=known.operation / devices)
        return chosen_buckets(
            runs,
            recipe,
            known,
            platform,
            together=most,
            fits=partial(fits, recipe),
            kept=kept(same[0], varying),
        )

    def groups_of(alike: Alike) -> Iterator[Group]:
        for one in buckets_of(alike.entries, alike.varying):
            own = [alike.entries[index] for index in one.runs]
            # Groups whose arrays have the same size get equal numbers of pictures if possible, since
            # another number of pictures would need another compiled program.
            size = even_size(len(own), most(one.scales[-1].shape))
            for first in range(0, len(own), size):
                part = tuple(own[first : first + size])
                yield Group(part, alike.varying, None if one.exact else one.scales)

    return [group for alike in alike_of(entries, bucket) for group in groups_of(alike)]


# --- Programs -------------------------------------------------------------------------------------


def programs_of(
    parts: Sequence[Group], chunk: int | None = None, mesh: sharding.AnyMesh | None = None
) -> dict[Any, int]:
    """Return the sets of compiled programs that groups run, each set once.

    A set has the programs for all scales (resolutions). It is assumed that each group fits into memory.
    A group that does not fit is painted in smaller chunks, by other programs.

    Args:
      parts: the groups.
      chunk: largest number of pictures painted at once; None sets no limit.
      mesh: the devices that share a group; None is one device.

    Returns:
      Key of a set -> number of its scales. Groups that run the same set give the same key.
    """
    found = {}
    for group in parts:
        first = group.entries[0]
        if group.arrays is None:
            shapes = run_scales.shapes_of(first.scales, first.recipe)
        else:
            shapes = tuple((one.shape, one.style_shapes) for one in group.arrays)
        count = len(group.entries)
        size = chunk_size.even_chunk_over_devices(count, chunk, mesh)
        # If the devices cannot share a chunk evenly, `BatchCanvas` adds copies of pictures to it.
        sizes = {sharding.round_up(some, mesh) for some in _sizes(count, size)}
        for some in sizes:
            key = (
                structure_of(first.recipe),
                group.varying,
                some,
                shapes,
                group.arrays is None,
            )
            found[key] = len(group.scales)
    return found


def compiled_programs(programs: Mapping[Any, int]) -> float:
    """Return the number of scales (resolutions) of sets of programs, weighted by the time to compile.

    The time that compiling took is divided by this number, to record the mean time for the programs of
    one scale. The programs for a bucket (arrays in which pictures of several shapes lie) take
    `COMPILING_OF_BUCKET` times as long to compile as those for one shape. So a scale of a bucket counts
    as that many scales.

    Args:
      programs: what `programs_of` returned: key of a set of programs -> number of its scales. The last
        entry of a key is False for a bucket.
    """
    return sum(
        scales * (1.0 if filled else COMPILING_OF_BUCKET)
        for (*_, filled), scales in programs.items()
    )


def _sizes(count: int, most: int) -> set[int]:
    """Return the different sizes of chunks, if each has `most` pictures but the last may have fewer.

    A chunk consists of pictures of one group that are painted at once. `count` is the number of
    pictures in all chunks together.
    """
    return {min(most, count - first) for first in range(0, count, most)}
