"""Which pictures of a batch are painted together, and how a batch is divided into shards.

A bucket has the pictures that one compiled program can paint: they have the same canvas shape, and
their recipes differ only in numbers. A group is the part of a bucket that is painted at once.
"""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import images, prepare
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.chunk_size import worthwhile_chunk

MOST_PICTURES = 8  # in one group

# Prefixes of the paths of those numbers of a recipe that may differ within a bucket.
VARIABLE = (".terms.", ".descent.optimizer.")


class Entry(NamedTuple):
    """One picture to paint. Its files are read shortly before it is painted."""

    number: int  # of its row, from 1
    content: Path
    styles: tuple[Path, ...]
    output: Path
    recipe: Recipe  # with all flags, overrides and shares applied
    scales: tuple[prepare.Scale, ...]
    seen: tuple[images.Glance, ...]  # content and styles, as they were when the batch was planned


class Group(NamedTuple):
    """Pictures that are painted at once."""

    entries: tuple[Entry, ...]
    varying: tuple[bool, ...]  # as in the bucket


class Bucket(NamedTuple):
    """Pictures that one compiled program can paint."""

    entries: list[Entry]
    varying: tuple[bool, ...]  # for each number in the recipe, whether it differs between entries


def buckets_of(entries: Sequence[Entry]) -> list[Bucket]:
    """Sort entries into buckets, each in the order of the entries.

    Which numbers are passed as arrays is decided once for a bucket, so that all its groups run the same
    program.
    """
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.scales[-1].shape, _structure(entry.recipe)].append(entry)
    return [Bucket(same, _varying(same)) for same in found.values()]


def _structure(recipe: Recipe) -> Hashable:
    """Return what the recipes of a bucket have in common: all except the variable numbers."""
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
    """Return one recipe for several entries of a bucket.

    Args:
      entries: n entries of one bucket.
      varying: for each number in the recipe, whether it becomes an array.

    Returns:
      A recipe without a name, with arrays [n] in place of the varying numbers.
    """
    first, tree = jax.tree.flatten(_nameless(entries[0].recipe))
    leaves = [jax.tree.leaves(entry.recipe) for entry in entries]
    numbers: list[Any] = [
        np.asarray([leaf[index] for leaf in leaves]) if varies else value
        for index, (value, varies) in enumerate(zip(first, varying, strict=True))
    ]
    return jax.tree.unflatten(tree, numbers)


def form_groups(entries: Sequence[Entry], platform: str, devices: int = 1) -> list[Group]:
    """Split entries into groups, each for one program and small enough to be painted at once.

    Args:
      entries: the entries, in any order.
      platform: the device's platform; on a CPU, large pictures gain nothing from being painted
        together.
      devices: number of devices that share a group, each with pictures of its own.

    Returns:
      Groups, bucket after bucket.
    """
    found = []
    for bucket in buckets_of(entries):
        same = bucket.entries
        most = devices * min(MOST_PICTURES, worthwhile_chunk(same[0].scales[-1].shape, platform))
        # Groups of equal size, since every other size would compile another program.
        size = math.ceil(len(same) / math.ceil(len(same) / most))
        for first in range(0, len(same), size):
            part = tuple(same[first : first + size])
            found.append(Group(part, bucket.varying))
    return found


# --- Shards ---------------------------------------------------------------------------------------


class Shard(NamedTuple):
    """One of the parts into which a batch is divided, each painted by a process of its own."""

    number: int  # from 1
    parts: int

    @property
    def ending(self) -> str:
        """Suffix of the stems of files that every shard writes for itself."""
        return f"-{self.number}-of-{self.parts}"


def parse_shard(text: str) -> Shard:
    """Parse I/N.

    Raises:
      ValueError: if it is not I/N with whole numbers 1 <= I <= N.

    Example:
      >>> parse_shard("2/8")
      Shard(number=2, parts=8)
    """
    first, slash, last = text.partition("/")
    if not (slash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError(f"`shard`: expected I/N such as 1/4, got {text!r}")
    shard = Shard(int(first), int(last))
    if not 1 <= shard.number <= shard.parts:
        raise ValueError(f"`shard`: expected I/N with I from 1 to N, got {text!r}")
    return shard


def entries_of_shard(entries: Sequence[Entry], shard: Shard) -> list[Entry]:
    """Return the entries of one shard.

    Buckets are cut into slices of at most `MOST_PICTURES`, and a shard gets every N-th slice. This
    depends on the entries alone, not on the device or on what is finished, so that all processes
    agree.
    """
    slices = [
        bucket.entries[first : first + MOST_PICTURES]
        for bucket in buckets_of(entries)
        for first in range(0, len(bucket.entries), MOST_PICTURES)
    ]
    return [entry for part in slices[shard.number - 1 :: shard.parts] for entry in part]
