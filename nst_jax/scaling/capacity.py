"""Available memory: how much a device has, what fits into it, and the error when it runs out."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
from jax.sharding import Mesh

from nst_jax._memory import gigabytes, of_this_machine
from nst_jax._types import Params
from nst_jax.prepare import Scale
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.costs import Footprint, estimate_memory
from nst_jax.scaling.sharding import BANDS, AnyMesh, minimum_over_processes

# An estimate may be too low by this factor, so a run must leave that much memory free.
MARGIN = 1.2
# A GPU allocator that grows on demand does not merge blocks freed by coarser scales. Each scale has a
# quarter of the next one's pixels, so at worst 1 + 1/4 + 1/16 + ... = 4/3 of the last scale's memory is
# allocated.
FRAGMENTATION = 4 / 3


# --- Available memory -----------------------------------------------------------------------------


def available(device: Any = None) -> int | None:
    """Return the bytes that a run on a device can still allocate; None if that is not known.

    An accelerator's allocator reports its limit; with `XLA_PYTHON_CLIENT_PREALLOCATE=false` some of it
    is lost to fragmentation. A CPU has what the operating system reports as available, or what its
    control group (a container's limit) leaves, whichever is less.

    Args:
      device: the device of the run; None is JAX's default.
    """
    device = jax.local_devices()[0] if device is None else device
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        if "bytes_limit" not in stats:
            return None
        free = max(0, stats["bytes_limit"] - stats.get("bytes_in_use", 0))
        return int(free / FRAGMENTATION) if _allocator_grows() else free
    return of_this_machine()


def available_to_each(mesh: AnyMesh | None, device: Any = None) -> tuple[int | None, str]:
    """Return the bytes that each device of a run can allocate, and the devices' platform.

    With several processes, every one must make this call. All get the minimum, since they have to run
    the same program.

    Args:
      mesh: the devices that paint; None is one device.
      device: the device of the weights, which paints if there is no mesh; None is JAX's default.
    """
    if isinstance(mesh, Mesh):
        device = mesh.local_devices[0]
    platform = platform_of(device)
    mine = divided_among_bands(available(device), mesh, platform)
    return minimum_over_processes(mine, mesh), platform


def divided_among_bands(total: int | None, mesh: AnyMesh | None, platform: str) -> int | None:
    """Divide the bytes among the devices of a picture on a CPU, whose simulated devices share them."""
    if total is None or mesh is None or platform != "cpu":
        return total
    return total // int(mesh.shape.get(BANDS, 1))


def device_of(params: Params) -> Any:
    """Return the device that holds the weights, the first of several; None for NumPy weights."""
    kernel = params.layers["conv1_1"]["kernel"]
    if not isinstance(kernel, jax.Array):
        return None
    # Only devices of this process: memory statistics of other processes' devices cannot be read.
    here: set[Any] = kernel.sharding.addressable_devices
    return min(here, key=lambda device: device.id)


def platform_of(device: Any = None) -> str:
    """Return the platform whose memory `estimate_memory` models: "cpu", or "gpu" for accelerators."""
    device = jax.local_devices()[0] if device is None else device
    return "cpu" if device.platform == "cpu" else "gpu"


def _allocator_grows() -> bool:
    """Return whether JAX allocates a GPU's memory on demand; it takes exactly these words for false."""
    return os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE") in ("0", "false", "False")


# --- What fits ------------------------------------------------------------------------------------


def fits(footprint: Footprint, available: int | None) -> bool:
    """Return whether a run fits into the available bytes, with room for the estimate's error.

    If the available memory is not known, everything fits.
    """
    return available is None or footprint.total * MARGIN <= available


def footprint_at(
    recipe: Recipe, scale: Scale, platform: str, *, pictures: int = 1, devices: int = 1
) -> Footprint:
    """Return the estimated memory of a recipe at one scale of a run."""
    return estimate_memory(
        scale.shape,
        recipe=recipe,
        style_shapes=scale.style_shapes,
        pictures=pictures,
        devices=devices,
        platform=platform,
    )


# --- Running out of memory ------------------------------------------------------------------------

EXHAUSTED = "RESOURCE_EXHAUSTED"  # XLA's name for it, on every device


class OutOfMemory(MemoryError):
    """The device ran out of memory, although the run was estimated to fit."""


@contextmanager
def explaining_out_of_memory(
    footprint: Footprint, tile: int | None, available: int | None
) -> Iterator[None]:
    """Turn XLA's RESOURCE_EXHAUSTED into `OutOfMemory`, naming size, estimate and remedies.

    Args:
      footprint: the footprint of the run.
      tile: size of its tiles, 0 or None for none.
      available: bytes before the run; None if not known.

    Raises:
      OutOfMemory: raised from JAX's error.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if EXHAUSTED not in str(error):
            raise
        raise OutOfMemory(_exhausted(footprint, tile, available)) from error


def _exhausted(footprint: Footprint, tile: int | None, available: int | None) -> str:
    (height, width), count = footprint.shape, footprint.pictures
    what = f"{width}x{height} px" if count == 1 else f"{count} pictures of {width}x{height} px"
    had = f", and {gigabytes(available / MARGIN)} were available" if available is not None else ""
    smaller = "`tile` auto or a number" if not tile else f"a `tile` of less than {tile}"
    fewer = "" if count == 1 else f", a `chunk` of less than {count}"
    return (
        f"`size`: the device ran out of memory: {what} takes {gigabytes(footprint.total)} by "
        f"estimate{had}; choose a smaller size, {smaller}{fewer}, or stop other programs on the device"
    )
