"""Which pictures of a batch are painted together, and how a batch is divided into shards.

Pictures are alike if one compiled program can paint them. For that, their canvases must have the same
shape (and their styles too, if the style loss compares positions), or all canvases lie in buckets:
arrays of the same shape. And their recipes may differ only in names and in the numbers that `VARIABLE`
lists. A group consists of pictures that are alike, and is planned and painted together.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nst_jax import images, prepare
from nst_jax._types import Shape
from nst_jax.app.batch.rows import ManifestRow
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets
from nst_jax.scaling.bucket_choice import Costs, chosen_buckets, even_size, typical_costs
from nst_jax.scaling.chunk_size import worthwhile_chunk

MOST_PICTURES = 8  # largest number of pictures in a group for each device that shares the group

# Pictures that are alike may differ in some numbers of their recipes: in those whose path in the pytree
# begins with one of these texts.
VARIABLE = (
    ".terms.",
    ".descent.optimizer.",
    ".descent.last_learning_rate",
    ".pictures.realism",
)


class Entry(NamedTuple):
    """One picture to paint; its files are read only shortly before it is painted."""

    number: int  # number of the picture's row in the batch, from 1
    content: Path
    styles: tuple[Path, ...]
    output: Path
    recipe: Recipe  # with all flags, overrides and style shares applied
    scales: tuple[prepare.Scale, ...]  # coarse to fine
    # Sizes and digests of the content and the styles when the batch was planned. A file that has
    # another digest when it is read is refused.
    seen: tuple[images.Glance, ...]
    # The platform, such as "gpu", for which the precision `auto` was replaced in `recipe`; empty if the
    # precision was not `auto`, or is still `auto`.
    auto_on: str = ""
    # Options of regions and protection, as in `stylize`; None if the row has none.
    controls: Mapping[str, Any] | None = None
    # The same as `seen`, for each file that `controls` name, by its role, such as "protect".
    masked: Mapping[str, images.Glance] = {}

    @property
    def every_style(self) -> tuple[images.Glance, ...]:
        """Sizes and digests of all styles, as in `seen`: of `styles`, then of the regions' styles.

        They have the order of `style_shapes` in each of `scales`.
        """
        of_regions = region_styles_of(self.masked)
        if self.controls is not None and self.controls["region_maps"]:
            # The row has two colour-coded maps. The second is drawn over the row's only style, of which
            # each region takes the style of a part.
            of_regions = [self.seen[1]] * (self.scales[-1].regions - 1)
        return (*self.seen[1:], *of_regions)


def region_styles_of(masked: Mapping[str, images.Glance]) -> list[images.Glance]:
    """Return the styles of the regions among the files that regions and protection name.

    Args:
      masked: maps the role of each file, such as "region_1_style", to the file's size and digest.
    """
    return [one for role, one in masked.items() if re.fullmatch(r"region_\d+_style", role)]


class Group(NamedTuple):
    """Pictures that are alike, planned and painted together."""

    entries: tuple[Entry, ...]
    # For each leaf of the recipe, whether its value differs between pictures that are alike, of which
    # some may be in other groups.
    varying: tuple[bool, ...]
    # The scales of the bucket in whose arrays the canvases lie; None if each canvas is an array itself.
    arrays: tuple[prepare.Scale, ...] | None = None

    @property
    def scales(self) -> tuple[prepare.Scale, ...]:
        """The scales at which the group is painted, coarse to fine: the bucket's if there is one."""
        return self.entries[0].scales if self.arrays is None else self.arrays


class Alike(NamedTuple):
    """Pictures that one compiled program can paint, if they lie in arrays of one shape."""

    entries: list[Entry]
    varying: tuple[bool, ...]  # for each leaf of the recipe, whether it differs between entries


def alike_of(entries: Sequence[Entry], bucket: buckets.Chosen = None) -> list[Alike]:
    """Collect entries that one program can paint; entries that are alike stay in their order.

    Which recipe numbers are passed to the program as arrays is decided for all that are alike, so that
    all their groups run the same program.

    Args:
      entries: the entries, in any order.
      bucket: side, in px, of the square arrays in which all canvases lie; None if each canvas is an
        array itself; "auto": entries with one structure of the recipe are alike, except for those that
        no bucket holds.
    """
    found: dict[Hashable, list[Entry]] = defaultdict(list)
    for entry in entries:
        # A picture with regions or protection is painted alone, since a group has one set of masks.
        alone = None if entry.controls is None else entry.number
        shapes: Hashable
        if bucket is None or (bucket == buckets.AUTO and not _can_lie_in_bucket(entry)):
            shapes = prepare.shapes_of(entry.scales, entry.recipe)
        elif bucket == buckets.AUTO:
            shapes = bucket
        else:
            shapes = bucket, tuple(scale.steps for scale in entry.scales)
        found[shapes, structure_of(entry.recipe), alone].append(entry)
    return [Alike(same, _varying(same)) for same in found.values()]


def _can_lie_in_bucket(entry: Entry) -> bool:
    controlled = entry.controls is not None
    return buckets.can_lie_in_bucket(entry.recipe, entry.scales, controlled=controlled)


def structure_of(recipe: Recipe) -> Hashable:
    """Return a key that is equal for recipes that differ only in names and `VARIABLE` numbers."""
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
    """Return one recipe for several entries that are alike.

    Args:
      entries: n entries that are alike.
      varying: for each leaf of the recipe, whether an array [n] takes its place.

    Returns:
      The recipe of the entries, without a name, and with an array [n] in place of each varying number.
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


def form_groups(
    entries: Sequence[Entry],
    platform: str,
    devices: int = 1,
    bucket: buckets.Chosen = None,
    *,
    costs: Callable[[Recipe], Costs] | None = None,
    fits: Callable[[Recipe, buckets.Scales], bool] = _always,
) -> list[Group]:
    """Split entries into groups of pictures that one program paints together.

    Args:
      entries: the entries, in any order.
      platform: the device's platform, as JAX names it. Groups of large pictures are smaller, above all
        on a CPU, since painting more of them together gains no speed.
      devices: number of devices that share a group; each paints some of its pictures.
      bucket: as in `alike_of`; with "auto", the buckets are those that `chosen_buckets` chooses.
      costs: function of a recipe; returns what is weighed in this choice. None: `typical_costs`.
      fits: function of a recipe and the arrays of a bucket; returns whether one picture in them fits
        into memory.

    Returns:
      The groups; groups that run the same program follow each other.
    """

    def most(shape: Shape) -> int:
        return devices * min(MOST_PICTURES, worthwhile_chunk(shape, platform))

    def buckets_of(same: list[Entry]) -> list[buckets.Bucket]:
        recipe, runs = same[0].recipe, [entry.scales for entry in same]
        if bucket is None or (bucket == buckets.AUTO and not _can_lie_in_bucket(same[0])):
            return [buckets.Bucket(runs[0], tuple(range(len(same))), exact=True)]
        if bucket != buckets.AUTO:
            return buckets.buckets_of(bucket, runs, recipe)
        known = typical_costs(platform) if costs is None else costs(recipe)
        return chosen_buckets(
            runs, recipe, known, platform, together=most, fits=partial(fits, recipe)
        )

    def groups_of(alike: Alike) -> Iterator[Group]:
        for one in buckets_of(alike.entries):
            own = [alike.entries[index] for index in one.runs]
            # Groups of a bucket get equal sizes if possible: each further size needs another program.
            size = even_size(len(own), most(one.scales[-1].shape))
            for first in range(0, len(own), size):
                part = tuple(own[first : first + size])
                yield Group(part, alike.varying, None if one.exact else one.scales)

    return [group for alike in alike_of(entries, bucket) for group in groups_of(alike)]


# --- Shards ---------------------------------------------------------------------------------------


class Shard(NamedTuple):
    """One of the parts into which a batch is divided, each painted by a process of its own."""

    number: int  # number of this shard, from 1
    parts: int  # number of shards in all

    @property
    def ending(self) -> str:
        """Text such as "-2-of-8", appended to file stems so that shards write different files."""
        return f"-{self.number}-of-{self.parts}"


def parse_shard(text: str) -> Shard:
    """Parse I/N, the value of `--shard`.

    Raises:
      ValueError: if `text` is not I/N with whole numbers 1 <= I <= N.

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


def rows_of_shard(rows: Sequence[ManifestRow], shard: Shard) -> list[ManifestRow]:
    """Return the rows of one shard, in their order.

    First, rows with the same recipe, number of styles and keys of overrides are put together, since
    one program can probably paint them. Then the rows are cut into slices of at most `MOST_PICTURES`,
    and shard I of N gets the I-th slice and every N-th after it. The choice depends on the text of the
    rows alone, not on their files, on the device or on what is finished. So the processes of all shards
    agree, and each opens the input files of its own rows only.
    """
    alike: dict[Hashable, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        keys = tuple(sorted(override.partition("=")[0] for override in row.overrides))
        alike[row.recipe, len(row.styles), keys].append(row)
    ordered = [row for same in alike.values() for row in same]
    length = max(1, min(MOST_PICTURES, len(ordered) // shard.parts))
    starts = range((shard.number - 1) * length, len(ordered), shard.parts * length)
    chosen = [row for start in starts for row in ordered[start : start + length]]
    return sorted(chosen, key=lambda row: row.number)
