"""How a batch is divided into shards: parts of the batch, each painted by a process of its own."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import NamedTuple

from nst_jax.app.batch.groups import MOST_PICTURES
from nst_jax.app.batch.manifests import ManifestRow


class Shard(NamedTuple):
    """One of the parts into which a batch is divided, each painted by a process of its own."""

    number: int  # number of this shard, from 1
    parts: int  # number of shards in all

    @property
    def ending(self) -> str:
        """Text such as "-2-of-8", which makes the name of the file of this shard's results unique."""
        return f"-{self.number}-of-{self.parts}"


def parse_shard(text: str) -> Shard:
    """Parse I/N, the value of `--shard`: the I-th of the N parts into which the batch is divided.

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
    """Return the rows (pictures to paint) of one shard, in their order.

    First, rows with the same recipe, size, number of styles and keys of overrides (changes KEY=VALUE of
    the recipe) are put together, since one program can probably paint them. Textures, which have no
    content, are separated from other rows, and seamless textures from other textures. Then the rows are
    cut into slices of at most `MOST_PICTURES` rows, and shard I of N gets the I-th slice and every N-th
    after it. The choice depends on the text of the rows alone, not on their files, on the device or on
    which pictures are finished. So the processes of all shards agree, and each opens the input files of
    its own rows only.
    """
    alike: dict[Hashable, list[ManifestRow]] = defaultdict(list)
    for row in rows:
        keys = tuple(sorted(override.partition("=")[0] for override in row.overrides))
        texture = row.content is None, row.tile_seamless
        alike[row.recipe, row.size, len(row.styles), keys, texture].append(row)
    ordered = [row for same in alike.values() for row in same]
    length = max(1, min(MOST_PICTURES, len(ordered) // shard.parts))
    starts = range((shard.number - 1) * length, len(ordered), shard.parts * length)
    chosen = [row for start in starts for row in ordered[start : start + length]]
    return sorted(chosen, key=lambda row: row.number)
