"""Which pictures one compiled program paints: one canvas shape, and recipes alike but for numbers."""

import math
from collections import defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import images, prepare
from nst_jax.recipes.presets import Recipe
from nst_jax.scaling.chunks import worthwhile_chunk

MOST = 8  # pictures in one program

SWEPT = (".terms.", ".descent.optimizer.")  # numbers that may differ in one program


class Entry(NamedTuple):
    """One picture to paint. Its files are read when their turn comes."""

    number: int  # of its row, from 1
    content: Path
    styles: tuple[Path, ...]
    output: Path
    recipe: Recipe  # with every flag, override and share in it
    scales: tuple[prepare.Scale, ...]
    seen: tuple[images.Glance, ...]  # the content and the styles as they were when it was planned


class Group(NamedTuple):
    """What is painted together."""

    entries: tuple[Entry, ...]
    varying: tuple[bool, ...]  # as in its bucket


class Bucket(NamedTuple):
    """Entries that one program can paint."""

    entries: list[Entry]
    varying: tuple[bool, ...]  # of each number of the recipe, whether it differs


def by_program(entries: Sequence[Entry]) -> list[Bucket]:
    """Sort entries into buckets, each in the order they came.

    Which numbers of a bucket are arrays is decided for the whole of it, so that its groups are one
    program.
    """
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        found[entry.scales[-1].shape, _structure(entry.recipe)].append(entry)
    return [Bucket(same, _varying(same)) for same in found.values()]


def _structure(recipe: Recipe) -> Hashable:
    """Return everything of a recipe that is in a program, or that is read before it."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(_nameless(recipe))
    paths = [jax.tree_util.keystr(path) for path, _ in leaves]
    fixed = [
        (path, value)
        for path, (_, value) in zip(paths, leaves, strict=True)
        if not path.startswith(SWEPT)
    ]
    return tree, tuple(fixed)


def _nameless(recipe: Recipe) -> Recipe:
    return replace(recipe, name="", source="", family="")


def _varying(entries: Sequence[Entry]) -> tuple[bool, ...]:
    numbers = zip(*(jax.tree.leaves(entry.recipe) for entry in entries), strict=True)
    return tuple(len(set(values)) > 1 for values in numbers)


def joined(entries: Sequence[Entry], varying: Sequence[bool]) -> Recipe:
    """Return one recipe for several entries of a bucket.

    Args:
      entries: of one bucket.
      varying: of each number, whether it shall be an array.

    Returns:
      A recipe without a name, some of whose numbers are arrays [n].
    """
    first, tree = jax.tree.flatten(_nameless(entries[0].recipe))
    rows = [jax.tree.leaves(entry.recipe) for entry in entries]
    numbers: list[Any] = [
        np.asarray([row[index] for row in rows]) if varies else value
        for index, (value, varies) in enumerate(zip(first, varying, strict=True))
    ]
    return jax.tree.unflatten(tree, numbers)


def form_groups(entries: Sequence[Entry], platform: str, devices: int = 1) -> list[Group]:
    """Split entries into what is painted at once: one program, and not too much for the memory.

    Args:
      entries: in any order.
      platform: of the device; a processor gains little from a batch.
      devices: how many share a group.

    Returns:
      Groups, bucket after bucket.
    """
    found = []
    for bucket in by_program(entries):
        same = bucket.entries
        most = devices * min(MOST, worthwhile_chunk(same[0].scales[-1].shape, platform))
        # Even groups: another number of pictures is another program to compile.
        size = math.ceil(len(same) / math.ceil(len(same) / most))
        for first in range(0, len(same), size):
            part = tuple(same[first : first + size])
            found.append(Group(part, bucket.varying))
    return found


# --- Shards ---------------------------------------------------------------------------------------


class Shard(NamedTuple):
    """One part of a batch that several starts share, each with another number."""

    number: int  # from 1
    parts: int

    @property
    def ending(self) -> str:
        """What tells its files from the others'."""
        return f"-{self.number}-of-{self.parts}"


def shard_of(text: str) -> Shard:
    """Return the shard that I/N names.

    Raises:
      ValueError: if it is not two whole numbers with 1 <= I <= N.

    Example:
      >>> shard_of("2/8")
      Shard(number=2, parts=8)
    """
    first, slash, last = text.partition("/")
    if not (slash and first.strip().isdecimal() and last.strip().isdecimal()):
        raise ValueError(f"`shard`: expected I/N such as 1/4, got {text!r}")
    shard = Shard(int(first), int(last))
    if not 1 <= shard.number <= shard.parts:
        raise ValueError(f"`shard`: expected I/N with I from 1 to N, got {text!r}")
    return shard


def share(entries: Sequence[Entry], shard: Shard) -> list[Entry]:
    """Return every N-th bucket's entries, large buckets cut in slices of `MOST` beforehand.

    What a shard gets depends on the entries alone: not on the device, nor on what is finished.
    """
    slices = [
        bucket.entries[first : first + MOST]
        for bucket in by_program(entries)
        for first in range(0, len(bucket.entries), MOST)
    ]
    return [entry for part in slices[shard.number - 1 :: shard.parts] for entry in part]
