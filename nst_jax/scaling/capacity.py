"""Memory of a device: how much a run can still allocate, what fits, and the error if it is used up."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import Mesh

from nst_jax._memory import gigabytes, of_this_machine
from nst_jax._types import Params, Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling.footprint import Footprint, estimate_memory
from nst_jax.scaling.sharding import (
    AnyMesh,
    default_device,
    devices_per_picture,
    minimum_over_processes,
)

# A run fits if its estimated memory times this factor is available, since estimates may be too low.
MARGIN = 1.2
# A GPU allocator that grows on demand cannot merge the blocks of memory that coarser scales
# (resolutions) have freed, so these blocks stay allocated beside those of the finest scale. If each
# scale has a quarter of the pixels of the next finer one, at most 1 + 1/4 + 1/16 + ... = 4/3 times the
# memory of the finest scale is allocated. This factor is used for all schedules, also for those with
# other ratios between their scales.
FRAGMENTATION = 4 / 3


# --- Available memory -----------------------------------------------------------------------------


def available(device: Any = None) -> int | None:
    """Return the bytes that a run on a device can still allocate; None if that is not known.

    For an accelerator, this is the limit of its allocator minus the bytes in use. The difference is
    divided by `FRAGMENTATION` if the environment variable `XLA_PYTHON_CLIENT_PREALLOCATE` is false,
    since the allocator then cannot use all of it. For a CPU, the result is the memory that the
    operating system reports as available, or what is left of the limit of a container, whichever is
    less; see `nst_jax._memory`.

    Args:
      device: the device of the run; None is JAX's default device, `default_device()`.
    """
    device = default_device() if device is None else device
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        free = max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        return int(free / FRAGMENTATION) if _allocator_grows() else free
    return of_this_machine()


def available_to_each(mesh: AnyMesh | None, device: Any = None) -> tuple[int | None, str]:
    """Return how many bytes each device of a run can allocate, and the platform of the devices.

    The number is None if it is not known. The platform is "cpu", or "gpu" for any accelerator.
    If several processes share the mesh, every process must make this call. All of them get the smallest
    number of bytes that any of them has, since they have to run the same program.

    Args:
      mesh: the devices that paint; None is one device.
      device: the device that paints if there is no mesh, from `device_of`; None is JAX's default
        device, `default_device()`.
    """
    if isinstance(mesh, Mesh):
        device = mesh.local_devices[0]
    platform = platform_of(device)
    mine = divided_among_bands(available(device), mesh, platform)
    return minimum_over_processes(mine, mesh), platform


def divided_among_bands(total: int | None, mesh: AnyMesh | None, platform: str) -> int | None:
    """Return how many of the `total` available bytes each device can allocate.

    An accelerator has all of `total` to itself. CPU devices that share a picture also share the memory
    of the machine, so each gets an equal part of `total`. The result is None if `total` is
    None, that is, not known.
    """
    if total is None or mesh is None or platform != "cpu":
        return total
    return total // devices_per_picture(mesh)


def device_of(params: Params) -> Any:
    """Return the local device on which JAX computes with the weights; None: its default device.

    It is the first device that holds them if they are committed to their devices, as by
    `jax.device_put(params, device)`. JAX moves other arrays, also NumPy's, to its default device.
    """
    kernel = params.layers["conv1_1"]["kernel"]
    if not isinstance(kernel, jax.Array) or not kernel.committed:
        return None
    # Only devices of this process: memory statistics of other processes' devices cannot be read.
    here: set[Any] = kernel.sharding.addressable_devices
    return min(here, key=lambda device: device.id)


def platform_of(device: Any = None) -> str:
    """Return the `platform` that `estimate_memory` needs: "cpu", or "gpu" for any accelerator.

    Args:
      device: the device; None is JAX's default device, `default_device()`.
    """
    device = default_device() if device is None else device
    return "cpu" if device.platform == "cpu" else "gpu"


def platform_of_mesh(mesh: AnyMesh | None) -> str:
    """Return the platform of a run's devices: "cpu", or "gpu" for any accelerator.

    If the mesh is None or an `AbstractMesh`, the platform is that of JAX's default device.
    """
    return platform_of(mesh.local_devices[0] if isinstance(mesh, Mesh) else None)


def _allocator_grows() -> bool:
    """Return whether `XLA_PYTHON_CLIENT_PREALLOCATE` lets JAX allocate GPU memory on demand."""
    return os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") in ("0", "false", "False")


# --- What fits ------------------------------------------------------------------------------------


def fits(footprint: Footprint, available: int | None) -> bool:
    """Return whether a run's estimated memory times `MARGIN` fits into the available bytes.

    If the available memory is not known (None), everything fits.
    """
    return available is None or footprint.total * MARGIN <= available


def footprint_at(
    recipe: Recipe, scale: Scale, platform: str, *, pictures: int = 1, devices: int = 1
) -> Footprint:
    """Return the estimated memory of a run at one of its resolutions; see `estimate_memory`."""
    return estimate_memory(
        scale.shape,
        recipe=recipe,
        style_shapes=scale.style_shapes,
        pictures=pictures,
        devices=devices,
        platform=platform,
        regions=scale.regions,
        protected=scale.protected,
    )


# --- Running out of memory ------------------------------------------------------------------------

EXHAUSTED = "RESOURCE_EXHAUSTED"  # XLA's status code for running out of memory, on every platform


class OutOfMemory(MemoryError):
    """Raised when the device runs out of memory.

    The message gives the estimated memory of the run and what the user can do.
    """


@contextmanager
def explaining_out_of_memory(
    footprint: Footprint,
    tile: int | None,
    available: int | None,
    *,
    shape: Shape | None = None,
    in_bucket: bool = False,
) -> Iterator[None]:
    """Context manager: turn XLA's error for exhausted memory into an `OutOfMemory`.

    Args:
      footprint: the estimated memory of the run.
      tile: side of the run's tiles in px; 0 or None if the run has no tiles.
      available: bytes that could be allocated before the run; None if not known.
      shape: the (height, width) of all canvases, for the message. With None, as for canvases of several
        shapes in a bucket, the message gives the shape in `footprint`, that of the arrays.
      in_bucket: whether the canvases lie in larger arrays, see `nst_jax.scaling.buckets`.

    Raises:
      OutOfMemory: if the `with` block raises XLA's error RESOURCE_EXHAUSTED. The message gives the
        size, the estimate and remedies.
    """
    try:
        yield
    except GeneratorExit:
        # Python raises `GeneratorExit` when the generator of an unfinished run is deleted. If Python is
        # exiting then, `jax` may be None already, and the next `except` clause would fail.
        raise
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        words = _exhausted(footprint, tile, available, shape, in_bucket)
        raise OutOfMemory(words) from error


def _exhausted(
    footprint: Footprint,
    tile: int | None,
    available: int | None,
    shape: Shape | None,
    in_bucket: bool,
) -> str:
    """Return the message of `OutOfMemory`: size, estimated and available memory, and remedies.

    The arguments are those of `explaining_out_of_memory`.
    """
    array, count = footprint.shape, footprint.pictures
    what = _px(shape or array) if count == 1 else f"{count} pictures of {_px(shape or array)}"
    if in_bucket and shape != array:
        arrays = f"in {'an array' if count == 1 else 'arrays'} of {_px(array)}"
        what = f"{count} pictures {arrays}" if shape is None else f"{what} {arrays}"
    # In a bucket, the arrays may be larger than the canvases in them. So `bucket` off is a remedy.
    off = "`bucket` off, " if in_bucket else ""
    had = f", and {gigabytes(available / MARGIN)} were available" if available is not None else ""
    smaller = ", a `tile` such as 512" if not tile else f", a `tile` of less than {tile}"
    if in_bucket:  # where tiles are refused
        smaller = ""
    fewer = "" if count == 1 else f", a `chunk` of less than {count}"
    take = "takes" if count == 1 else "take"
    return (
        f"`size`: the device ran out of memory: {what} {take} {gigabytes(footprint.total)} by "
        f"estimate{had}; choose {off}a smaller size{smaller}{fewer}, or stop other programs "
        "on the device"
    )


def _px(shape: Shape) -> str:
    height, width = shape
    return f"{width}x{height} px"
