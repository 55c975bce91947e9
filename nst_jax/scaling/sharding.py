"""Several devices: which ones to use, and how pictures and their bands are distributed over them.

If several devices share a picture, each computes one band of it, which is a horizontal part.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from nst_jax import _checks
from nst_jax._types import Array
from nst_jax.vgg.precision import DEFAULT_DEVICE

PICTURES = "pictures"  # mesh axis over which the pictures of a batch are distributed
BANDS = "bands"  # mesh axis over which the bands (horizontal parts) of one picture are distributed
ALL = "all"  # value of the argument `devices`: all devices of the default platform

AnyMesh: TypeAlias = Mesh | AbstractMesh  # a mesh of real devices, or an abstract one for planning
Devices: TypeAlias = Any  # None, "all", a number of devices, or a list of devices; see `mesh_of`


# --- Choosing devices -----------------------------------------------------------------------------


def default_device() -> Any:
    """Return the local device to which JAX moves arrays that are on no device yet.

    For this thread, the setting `jax_default_device` names this device, or its platform. Without the
    setting, it is the first local device.
    """
    chosen = getattr(jax.config, DEFAULT_DEVICE)  # a device, a platform's name, or None
    if chosen is None or isinstance(chosen, str):
        return jax.local_devices(backend=chosen)[0]
    return chosen


def mesh_of(devices: Devices, *, axis: str = PICTURES, weights_on: Any = None) -> Mesh | None:
    """Return a mesh with one axis over the chosen devices, or None if no mesh is needed.

    Args:
      devices: None means the device to which the weights are committed, else JAX's default device;
        `"all"` means all devices of the default platform, including those of other processes that
        `jax.distributed` has joined; an int n means the first n of them; a list or tuple of
        `jax.Device` means exactly these.
      axis: name of the axis: `PICTURES` for a batch, `BANDS` for the bands of one picture.
      weights_on: the device to which the weights are committed, from `capacity.device_of`; None if
        there is none.

    Returns:
      A mesh; or None if `devices` is None, or only the device on which JAX computes without a mesh.
      This is its default device, unless the weights are committed to another one.

    Raises:
      TypeError: if `devices` is not None, a string, an int or a list or tuple of at least one device.
      ValueError: if a string is not "all" or an int is under 1, if there are fewer devices than
        requested, if a device is listed twice, if the devices are of several platforms, or if one of
        the processes of `jax.distributed` has none of the devices.

    Example:
      >>> import jax
      >>> mesh_of(None) is None, mesh_of(jax.devices()[:1]) is None
      (True, True)
    """
    if devices is None:
        return None
    chosen = _chosen(devices)
    _check_every_process_has_one(chosen)
    if len(chosen) == 1 and chosen[0] == default_device() and weights_on in (None, chosen[0]):
        return None
    return Mesh(np.asarray(chosen), (axis,))


def abstract_mesh(count: int) -> AbstractMesh | None:
    """Return a mesh of `count` devices that share a picture; None if `count` is 1.

    The devices need not exist, so that a run on another machine can be planned.
    """
    return AbstractMesh((count,), (BANDS,)) if count > 1 else None


def mesh_of_batch(devices: Devices, bands: int = 1, *, weights_on: Any = None) -> Mesh | None:
    """Return a mesh for a batch in which several devices may share each picture.

    Args:
      devices: None, `"all"`, a number of devices, or a list of devices; see `mesh_of`.
      bands: number of devices that share one picture; each computes one band (a horizontal part) of it.
      weights_on: the device to which the weights are committed, as in `mesh_of`.

    Returns:
      A mesh with the axis `PICTURES`, and the axis `BANDS` if `bands` is more than 1; None if `bands`
      is 1 and `mesh_of` returns None.

    Raises:
      TypeError: as in `mesh_of`, and if `bands` is not an int.
      ValueError: as in `mesh_of`, and if `bands` is under 1 or the number of devices is not a multiple
        of `bands`.
    """
    _checks.whole("bands", bands, least=1)
    mesh = mesh_of(devices, weights_on=weights_on)
    if bands == 1:
        return mesh
    count = 1 if mesh is None else mesh.size
    if mesh is None or count % bands:
        raise ValueError(
            f"`bands`: {count} device{'s' * (count > 1)} cannot be divided into groups "
            f"of {bands}; set `devices` to a multiple of {bands}"
        )
    return Mesh(mesh.devices.reshape(-1, bands), (PICTURES, BANDS))


def band_mesh(mesh: AnyMesh | None) -> AnyMesh | None:
    """Return the mesh if several devices share one picture, else None."""
    return mesh if mesh is not None and BANDS in mesh.shape else None


def pictures_in_parallel(mesh: AnyMesh | None) -> int:
    """Return into how many parts, computed in parallel, a mesh divides a batch; 1 if `mesh` is None."""
    return 1 if mesh is None else int(mesh.shape.get(PICTURES, 1))


def devices_per_picture(mesh: AnyMesh | None) -> int:
    """Return the number of devices of a mesh that share each picture; 1 if `mesh` is None."""
    return 1 if mesh is None else int(mesh.shape.get(BANDS, 1))


def _chosen(devices: Devices) -> Sequence[Any]:
    """Return the devices that `devices`, an argument of `mesh_of`, stands for; it must not be None."""
    present = jax.devices()
    if isinstance(devices, str):
        if devices != ALL:
            raise ValueError(f"`devices`: expected 'all' or a number, got {_checks.shown(devices)}")
        return present
    if isinstance(devices, (int, np.integer)) and not isinstance(devices, bool):
        _checks.whole("devices", devices, least=1)
        if devices > len(present):
            platform = present[0].platform
            raise ValueError(
                f"`devices`: this machine has {len(present)} of the kind {platform!r}, got {devices}; "
                "take fewer, or 'all'"
            )
        return present[:devices]
    if not isinstance(devices, (list, tuple)) or not devices:
        raise TypeError(
            "`devices`: expected 'all', a number or a list of `jax.Device`, got "
            f"{_checks.shown(devices)}"
        )
    for device in devices:
        _checks.instance("devices", device, jax.Device, "`jax.devices()` gives them")
    if len(set(devices)) < len(devices):
        raise ValueError("`devices`: one is named twice; name each once")
    if len({device.platform for device in devices}) > 1:
        raise ValueError("`devices`: are of several platforms; name those of one")
    return devices


def _check_every_process_has_one(chosen: Sequence[Any]) -> None:
    """Refuse a choice that leaves a process without a device: the process could not join the run."""
    missing = set(range(jax.process_count())) - {device.process_index for device in chosen}
    if missing:
        raise ValueError(
            f"`devices`: {len(chosen)} leave process {min(missing)} of {jax.process_count()} without "
            "one; take 'all', or start fewer processes"
        )


# --- Moving arrays --------------------------------------------------------------------------------


def round_up(count: int, mesh: AnyMesh | None) -> int:
    """Round a number of pictures up, so that they can be divided evenly over a mesh.

    Each device, or each group of devices that share a picture, then gets equally many. Without a mesh,
    `count` is returned unchanged.
    """
    parallel = pictures_in_parallel(mesh)
    return -(-count // parallel) * parallel


def split(tree: Any, mesh: AnyMesh | None, *, bands: bool = False) -> Any:
    """Distribute a pytree of arrays over the devices of a mesh.

    Axis 0 of every array, its pictures, is distributed over the mesh axis `PICTURES`, and with `bands`,
    axis 1, the rows of each picture, over `BANDS`. Without a mesh, the tree is returned unchanged.
    """
    spec = P(PICTURES, BANDS) if bands else P(PICTURES)
    return tree if mesh is None else _put(tree, mesh, spec)


def replicate(tree: Any, mesh: AnyMesh | None) -> Any:
    """Copy every array of a pytree to every device of a mesh; without a mesh, return it unchanged."""
    return tree if mesh is None else _put(tree, mesh, P())


def _put(tree: Any, mesh: AnyMesh, spec: P) -> Any:
    """Return a pytree of arrays distributed over a mesh as `spec` says, for any number of processes."""
    sharding = NamedSharding(mesh, spec)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(x: Any) -> Array:
        if isinstance(x, jax.Array) and not x.is_fully_addressable:
            return jax.jit(lambda x: x, out_shardings=sharding)(x)
        # Every process has the whole array and copies its own part to its devices.
        whole = np.asarray(x)
        return jax.make_array_from_callback(whole.shape, sharding, whole.__getitem__)

    return jax.tree.map(put, tree)


def gather(tree: Any, mesh: AnyMesh | None) -> Any:
    """Copy a pytree of distributed arrays to one device.

    With several processes, each process gets all of the arrays on one of its devices. Without a mesh,
    the tree is returned unchanged.
    """
    if mesh is None:
        return tree
    if (device := gathering_device(mesh)) is not None:
        return jax.device_put(tree, device)
    return jax.tree.map(jnp.asarray, to_host(tree, mesh))


def gathering_device(mesh: AnyMesh | None) -> jax.Device | None:
    """Return the device to which `gather` copies arrays of a mesh; None is JAX's default device."""
    return mesh.devices.flat[0] if jax.process_count() == 1 and isinstance(mesh, Mesh) else None


def to_host(tree: Any, mesh: AnyMesh | None, *, copy: bool = False) -> Any:
    """Return arrays as NumPy arrays; with several processes, every process gets all of them.

    Args:
      tree: pytree of arrays.
      mesh: the devices over which the arrays are distributed, or None. With a mesh, every process must
        make this call.
      copy: if True, no result shares memory with a device buffer: data of CPU devices are copied,
        too. If False, NumPy may read them in place.
    """
    read = np.array if copy else np.asarray
    if mesh is not None and jax.process_count() > 1:
        tree = jax.tree.map(lambda x: x.addressable_data(0), replicate(tree, mesh))
    return jax.tree.map(read, tree)


def vmap_over_devices(
    function: Callable[..., Any], mesh: AnyMesh | None, in_axes: Sequence[Any]
) -> Callable[..., Any]:
    """Return the `vmap` of a function, with the batch axis distributed over the devices of a mesh.

    If no picture is shared by several devices, `shard_map` is used, so that each device computes its
    own pictures without communication. XLA's partitioner would add communication: in every iteration of
    a `while` loop, all devices would have to find out together whether any picture needs another
    iteration. If several devices share a picture, they communicate anyway, and the partitioner is used.

    Args:
      function: a pure function of the arrays of one picture.
      mesh: the mesh from `mesh_of_batch`; None is one device, for which the plain `vmap` is returned.
      in_axes: as for `vmap`: 0 or None, or a tree of these, for each argument.

    Returns:
      A function of batches. Its mapped arguments and its results are distributed over the mesh axis
      `PICTURES`.
    """
    if mesh is not None and BANDS in mesh.shape:
        return jax.vmap(function, in_axes=tuple(in_axes), spmd_axis_name=PICTURES)
    mapped = jax.vmap(function, in_axes=tuple(in_axes))
    if mesh is None:
        return mapped

    def spec(axis: Any) -> P:
        return P() if axis is None else P(PICTURES)

    specs = jax.tree.map(spec, tuple(in_axes), is_leaf=lambda axis: axis is None)
    return shard_map(mapped, mesh=mesh, in_specs=specs, out_specs=P(PICTURES))


def minimum_over_processes(amount: int | None, mesh: AnyMesh | None) -> int | None:
    """Return the smallest value that any process has, so that all processes plan the same run.

    Args:
      amount: the value in this process, such as its available memory in bytes; None means not known,
        and counts as unlimited.
      mesh: the devices that paint. If it is a mesh of real devices, every process must make this call.

    Returns:
      The minimum, rounded to float32, or None if no process knows its value. If there is only one
      process, or `mesh` is not a mesh of real devices, `amount` itself.
    """
    if jax.process_count() == 1 or not isinstance(mesh, Mesh):
        return amount
    from jax.experimental import multihost_utils  # slow to import, and most runs have one process

    # `amount` is sent as a float, since JAX's default integers end at 2^31.
    mine = np.float32(np.inf if amount is None else amount)
    found = float(np.min(multihost_utils.process_allgather(mine)))
    return None if found == np.inf else int(found)


def shard_map(function: Callable[..., Any], **layout: Any) -> Callable[..., Any]:
    """Return `function` mapped by JAX's `shard_map`, in old and new versions of JAX.

    `layout` are the other arguments of `shard_map`. The replication check is turned off, since it fails
    for loops inside custom gradient rules.
    """
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, check_vma=False, **layout)
    from jax.experimental.shard_map import shard_map as before_jax_0_7

    return before_jax_0_7(function, check_rep=False, **layout)
