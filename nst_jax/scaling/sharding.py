"""Several devices at once: which, and how batches and the rows of a picture are laid out over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from nst_jax import _checks
from nst_jax._types import Array

PICTURES = "pictures"  # the mesh axis along which a batch is split

ROWS = "rows"  # the mesh axis along which the rows of a picture are

ALL = "all"


AnyMesh: TypeAlias = Mesh | AbstractMesh  # of devices, or only of their number

Devices: TypeAlias = Any  # None, "all", a number of them, or a sequence of `jax.Device`


def mesh_of(devices: Devices, *, axis: str = PICTURES) -> Mesh | None:
    """Return a mesh of one axis over some devices; None where there is only one to use.

    Args:
      devices: None, like the first of the default platform alone, is the one that the weights lie on;
        `"all"` are those of the default platform, of every process where `jax.distributed` joins
        several; a number is so many of these; or they are named themselves.
      axis: `PICTURES`, or `ROWS` for those of one picture.

    Returns:
      A mesh with that axis, or None.

    Raises:
      TypeError: if it is nothing of this.
      ValueError: if there are not so many, or one is named twice, or they are of several kinds.

    Example:
      >>> import jax
      >>> mesh_of(None) is None, mesh_of(jax.devices()[:1]) is None
      (True, True)
    """
    if devices is None:
        return None
    chosen = _all_processes(_chosen(devices))
    if len(chosen) == 1 and chosen[0] == jax.local_devices()[0]:
        return None
    return Mesh(np.asarray(chosen), (axis,))


def planned(count: int) -> AbstractMesh | None:
    """Return a mesh for the rows of one picture over so many devices, which need not be there."""
    return AbstractMesh((count,), (ROWS,)) if count > 1 else None


def mesh_of_batch(devices: Devices, rows: int = 1) -> Mesh | None:
    """Return a mesh over some devices for a batch, of whose pictures each may have several.

    Args:
      devices: as in `mesh_of`.
      rows: devices that share the rows of a picture.

    Returns:
      A mesh with the axis `PICTURES`, and with `ROWS` where it is more than one; or None.

    Raises:
      TypeError: as in `mesh_of`, and if `rows` is no whole number.
      ValueError: as in `mesh_of`, and if the devices cannot be grouped so.
    """
    _checks.whole("rows", rows, least=1)
    mesh = mesh_of(devices)
    if rows == 1:
        return mesh
    count = 1 if mesh is None else mesh.size
    if mesh is None or count % rows:
        raise ValueError(
            f"`rows`: {count} device{'s' * (count > 1)} cannot be grouped by {rows}; "
            f"take a multiple of {rows} devices"
        )
    return Mesh(mesh.devices.reshape(-1, rows), (PICTURES, ROWS))


def pictures_of(mesh: Mesh | None) -> int:
    """Return how many pictures a mesh has at a time, at least."""
    return 1 if mesh is None else int(mesh.shape[PICTURES])


def _chosen(devices: Devices) -> Sequence[Any]:
    there = jax.devices()
    if isinstance(devices, str):
        if devices != ALL:
            raise _checks.unknown("devices", devices, (ALL,), "choice of devices, beside a number,")
        return there
    if isinstance(devices, (int, np.integer)) and not isinstance(devices, bool):
        _checks.whole("devices", devices, least=1)
        if devices > len(there):
            kind = there[0].platform
            raise ValueError(
                f"`devices`: there are {len(there)} of kind {kind!r}, got {devices}; "
                "take fewer, or 'all'"
            )
        return there[:devices]
    if not isinstance(devices, (list, tuple)) or not devices:
        raise TypeError(
            f"`devices`: expected 'all', a number or a list of `jax.Device`, got {devices!r}"
        )
    for device in devices:
        _checks.instance("devices", device, jax.Device, "`jax.devices()` gives them")
    if len(set(devices)) < len(devices):
        raise ValueError("`devices`: one is named twice; name each once")
    if len({device.platform for device in devices}) > 1:
        raise ValueError("`devices`: are of several platforms; name those of one")
    return devices


def _all_processes(chosen: Sequence[Any]) -> Sequence[Any]:
    """Refuse devices of which a process has none: it would wait for the others for ever."""
    missing = set(range(jax.process_count())) - {device.process_index for device in chosen}
    if missing:
        raise ValueError(
            f"`devices`: {len(chosen)} leave process {min(missing)} of {jax.process_count()} without "
            "one; take 'all', or start fewer processes"
        )
    return chosen


def count_of(devices: Devices, rows: int = 1) -> int:
    """Return how many pictures at once a batch over these devices has at least."""
    return pictures_of(mesh_of_batch(devices, rows))


def padded(count: int, mesh: Mesh | None) -> int:
    """Return the least number that is not below `count` and splits evenly."""
    size = pictures_of(mesh)
    return -(-count // size) * size


def split(tree: Any, mesh: Mesh | None, *, rows: bool = False) -> Any:
    """Lay the first axis of every array out over a batch's devices, and the second over `rows`."""
    return tree if mesh is None else _put(tree, mesh, P(PICTURES, ROWS) if rows else P(PICTURES))


def everywhere(tree: Any, mesh: AnyMesh | None) -> Any:
    """Give every device all of it."""
    return tree if mesh is None else _put(tree, mesh, P())


def _put(tree: Any, mesh: AnyMesh, spec: P) -> Any:
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.jit(lambda x: x, out_shardings=sharding)(x)
        # Every process has all of it, and takes its own part.
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(put, tree)


def gathered(tree: Any, mesh: Mesh | None) -> Any:
    """Bring what was split to one device, in each process to one of its own."""
    if mesh is None:
        return tree
    if jax.process_count() == 1:
        return jax.device_put(tree, mesh.devices.flat[0])
    return jax.tree.map(jnp.asarray, fetched(tree, mesh))


def fetched(tree: Any, mesh: Mesh | None, *, copy: bool = False) -> Any:
    """Bring arrays to the host; where several processes have parts of them, to each.

    Args:
      tree: of arrays.
      mesh: over which they lie, if several do; then every process must call this.
      copy: whether they must be the caller's to keep.
    """
    read = np.array if copy else np.asarray
    if mesh is not None and jax.process_count() > 1:
        tree = jax.tree.map(lambda x: x.addressable_data(0), everywhere(tree, mesh))
    return jax.tree.map(read, tree)


def over_batch(
    function: Callable[..., Any], mesh: Mesh | None, in_axes: Sequence[Any]
) -> Callable[..., Any]:
    """Return the `vmap` of a function, over the devices of a mesh.

    Where each picture has one, every device does its own part without a word to the others: left to the
    compiler, a loop that goes on while any picture needs it would ask all devices at every turn. Where
    several share a picture, they all talk anyway.

    Args:
      function: of one picture.
      mesh: of `mesh_of_batch`.
      in_axes: as for `vmap`: 0 or None, or a tree of these, for each argument.

    Returns:
      The function, of arguments that are laid out like that.
    """
    if mesh is not None and ROWS in mesh.shape:
        return jax.vmap(function, in_axes=tuple(in_axes), spmd_axis_name=PICTURES)
    mapped = jax.vmap(function, in_axes=tuple(in_axes))
    if mesh is None:
        return mapped

    def spec(axis: Any) -> P:
        return P() if axis is None else P(PICTURES)

    specs = jax.tree.map(spec, tuple(in_axes), is_leaf=lambda axis: axis is None)
    return _shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=P(PICTURES))


def least(amount: int | None, mesh: AnyMesh | None) -> int | None:
    """Return the least that any of several processes has, so that all choose alike by it.

    Args:
      amount: what this process has; None is no limit.
      mesh: of the devices that paint; every process that has one of them must call this.

    Returns:
      The least, to seven digits, or the amount itself where there is one process.
    """
    if jax.process_count() == 1 or not isinstance(mesh, Mesh):
        return amount
    from jax.experimental import multihost_utils  # slow to import, and most runs are alone

    # A float, as jax' whole numbers end at 2^31 unless it is told otherwise.
    mine = np.float32(np.inf if amount is None else amount)
    found = float(np.min(multihost_utils.process_allgather(mine)))
    return None if found == np.inf else int(found)


# --- The rows of a picture ------------------------------------------------------------------------


@dataclass(frozen=True)
class Rows:
    """How the rows of a canvas lie over the devices of a mesh. Static.

    Every device has as many rows, a multiple of the pooling grid; those below the picture are padding,
    which nothing looks at.

    Attributes:
      mesh: has the axis `ROWS`; of a plan's it says no more than how many devices there are.
      height: px of the picture.
      share: px of each device.
    """

    mesh: AnyMesh
    height: int
    share: int

    @property
    def count(self) -> int:
        """Number of devices that share a picture."""
        return int(self.mesh.shape[ROWS])

    @property
    def padded(self) -> int:
        """Height of a canvas with its padding, px."""
        return self.count * self.share


def with_padding(tree: Any, rows: Rows | None) -> Any:
    """Lay arrays [..., height, w, c] out over the devices, with rows of zeros below the picture.

    What has another shape goes to every device.
    """
    if rows is None:
        return tree

    def padded(x: Any) -> Any:
        if not _is_picture(x, rows.height):
            return x
        edges = [(0, 0)] * x.ndim
        edges[-3] = (0, rows.padded - rows.height)
        return jnp.pad(x, edges)

    return laid(jax.tree.map(padded, tree), rows)


def without_padding(tree: Any, rows: Rows | None) -> Any:
    """Undo `with_padding`."""
    if rows is None:
        return tree
    return jax.tree.map(
        lambda x: x[..., : rows.height, :, :] if _is_picture(x, rows.padded) else x, tree
    )


def laid(tree: Any, rows: Rows | None) -> Any:
    """Keep arrays [..., padded, w, c] of a traced function split over the devices."""
    if rows is None:
        return tree

    def split(x: Any) -> Any:
        whole = not _is_picture(x, rows.padded)
        spec = P() if whole else P(*[None] * (x.ndim - 3), ROWS)
        return lax.with_sharding_constraint(x, NamedSharding(rows.mesh, spec))

    return jax.tree.map(split, tree)


def check(rows: Rows) -> None:
    """Refuse more devices than a picture has rows for.

    Raises:
      ValueError: if one would have nothing of the picture.
    """
    used = -(-rows.height // rows.share)
    argument = "rows" if PICTURES in rows.mesh.shape else "devices"
    if used < rows.count:
        raise ValueError(
            f"`{argument}`: {rows.count} are too many for a picture {rows.height} px high, which is "
            f"split into {used} times {rows.share} rows; take {used}"
        )


def _is_picture(x: Any, height: int) -> bool:
    return x.ndim >= 3 and x.shape[-3] == height and x.shape[-1] == 3


def with_neighbours(share: Array, above: int, below: int, count: int) -> Array:
    """Return a device's rows between those of its neighbours; beyond the first and last are zeros.

    To be called by every device at once, inside `by_rows`. Its gradient sends back what it took.

    Args:
      share: [rows, w, c], of as many rows on every device.
      above: how many rows to take from above.
      below: from below.
      count: number of devices.

    Returns:
      [above + rows + below, w, c].
    """
    rows = share.shape[0]

    def taken(wanted: int, way: int) -> list[Array]:
        """Return what the devices in one direction have, the nearest first."""
        parts = []
        for hop in range(1, -(-wanted // rows) + 1):
            lines = min(rows, wanted - (hop - 1) * rows)
            part = share[-lines:] if way > 0 else share[:lines]
            pairs = [(i, i + way * hop) for i in range(count) if 0 <= i + way * hop < count]
            moved = lax.ppermute(part, ROWS, pairs) if pairs else jnp.zeros_like(part)
            parts.append(moved)
        return parts

    return jnp.concatenate([*reversed(taken(above, 1)), share, *taken(below, -1)])


def by_rows(
    function: Callable[..., Any], rows: Rows, split: Sequence[bool], *, split_out: bool
) -> Callable[..., Any]:
    """Let every device of a row call a function on its own part of a picture.

    Args:
      function: of trees of arrays; it may call `with_neighbours` and sum over `ROWS`.
      rows: of the picture.
      split: for each argument, whether the first axis of its arrays is split; else all have all.
      split_out: the same for what is returned.

    Returns:
      The function of whole arguments, for use in a traced one.
    """
    specs = tuple(P(ROWS) if one else P() for one in split)
    out = P(ROWS) if split_out else P()
    return _shard_map(function, mesh=rows.mesh, in_specs=specs, out_specs=out)


def _shard_map(function: Callable[..., Any], **layout: Any) -> Callable[..., Any]:
    if hasattr(jax, "shard_map"):
        # No check of what varies over devices: it knows nothing of loops inside gradient rules.
        return jax.shard_map(function, check_vma=False, **layout)
    from jax.experimental.shard_map import shard_map  # before jax 0.7

    return shard_map(function, check_rep=False, **layout)
