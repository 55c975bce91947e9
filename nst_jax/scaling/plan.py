"""The plan of a run: everything that is decided before it starts, without reading any pixels.

A plan contains the recipe, the scales (resolutions), the devices, how the canvas is divided to fit into
memory, and the predicted memory and number of arithmetic operations. A run paints one picture, or one
group of pictures together, and has one plan. `paint` and `stylize_many` take it as an argument or make
it first; the commands that paint by optimisation make it first. `plan_scales` makes a plan, for arrays
of the pictures' own sizes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh

from nst_jax import correspondence, run_scales, vgg
from nst_jax._types import Shape
from nst_jax.recipes.changes import with_sizes
from nst_jax.recipes.recipe import Recipe
from nst_jax.run_scales import Scale
from nst_jax.scaling import capacity, chunk_size, sharding, tile_grid
from nst_jax.scaling.bands import Bands, bands_of, check_bands, check_bands_allowed
from nst_jax.scaling.capacity import MARGIN, fits, footprint_at, gigabytes
from nst_jax.scaling.file_memory import FileMemory, peak_of_resizing
from nst_jax.scaling.footprint import Footprint
from nst_jax.scaling.operations import measuring_operations, run_operations, scale_operations
from nst_jax.scaling.sharding import AnyMesh
from nst_jax.scaling.tile_choice import fitted, history_of, with_network
from nst_jax.vgg.precision import Auto


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything that is decided about a run before it starts.

    Attributes:
      requested: the recipe that the caller gave, with the precision for the platform; its tile size,
        rematerialisation and L-BFGS history are not yet adapted to the memory.
      auto_precision: whether the recipe's precision was `AUTO`, so that the platform decided.
      recipe: the recipe to run: `requested` with the tile size, rematerialisation and, if allowed,
        L-BFGS history that were chosen so that the run fits into memory.
      scales: the resolutions, coarse to fine, each with the sizes of canvas and styles and a number
        of updates. If `in_bucket` is True, the sizes are those of the arrays; for a single picture,
        `real_scales` has those of the picture.
      mesh: devices that share the canvas or the batch; None is one device. An `AbstractMesh` if
        the devices need not exist.
      pictures: total number of pictures.
      chunk: number of pictures painted at once.
      unfit_chunk: number of pictures that the caller wanted to be painted at once, if it was reduced to
        `chunk` since so many do not fit into memory; else None.
      platform: the platform whose memory is predicted: "cpu", or "gpu" for any accelerator of this
        process; if `here` is False, the platform that was requested.
      here: whether the plan is for the platform of this process' devices; False if another platform was
        requested.
      available: bytes that each device can allocate; None if not known.
      footprint: predicted memory of one device at the final scale, for the pictures of a chunk that the
        device paints; on a CPU for all pictures of the chunk, since the CPU devices share one memory.
      untiled: predicted memory of one device for one picture if `requested` were run without tiles.
      files: memory that the content and style files of one picture take in this machine; None if not
        known.
      in_bucket: whether the shapes of `scales` are those of arrays in which pictures of several sizes
        lie; see `nst_jax.scaling.buckets`.
      real: the scales with the real sizes of the picture, if `in_bucket` is True and the plan is for a
        single picture; else None.
    """

    requested: Recipe
    auto_precision: bool
    recipe: Recipe
    scales: tuple[Scale, ...]
    mesh: AnyMesh | None
    pictures: int
    chunk: int
    platform: str
    here: bool
    available: int | None
    footprint: Footprint
    untiled: Footprint
    files: FileMemory | None = None
    in_bucket: bool = False
    real: tuple[Scale, ...] | None = None
    unfit_chunk: int | None = None

    @property
    def real_scales(self) -> tuple[Scale, ...]:
        """The scales with the sizes of the picture, if the plan is for a single one; else `scales`.

        The two differ only in a bucket: there the picture fills a part of larger arrays, and `scales`
        has the sizes of these arrays.
        """
        return self.scales if self.real is None else self.real

    @property
    def peak(self) -> int:
        """Predicted peak of the memory that the run takes, in bytes.

        On a CPU it includes the reading and resizing of the files, unless `files` is None. On an
        accelerator the files do not count: they are read into the machine's memory, not into the
        accelerator's.
        """
        if self.files is None or self.platform != "cpu":
            return self.footprint.total
        return max(self.files.peak, self.files.kept + self.footprint.total)

    @property
    def updates(self) -> int:
        """Total number of updates at all scales (resolutions) of one picture."""
        return sum(scale.steps for scale in self.scales)

    @property
    def devices(self) -> int:
        """Number of devices that share each canvas; 1 if each device paints whole canvases."""
        return sharding.devices_per_picture(self.mesh)

    @property
    def operations(self) -> float:
        """Number of arithmetic operations that one device does in all updates of one picture."""
        return run_operations(self.scales, self.recipe, self.platform, devices=self.devices)

    @property
    def measuring_operations(self) -> list[float]:
        """For each scale (resolution), the number of operations that computing the targets takes.

        The targets are what the losses compare the canvas with. With several devices that share a
        canvas, the number is for one of them.
        """
        shapes = [scale.shape for scale in self.scales]
        return [
            measuring_operations(scale, self.recipe.at(index, shapes), devices=self.devices)
            for index, scale in enumerate(self.scales)
        ]

    @property
    def operations_per_update(self) -> list[float]:
        """For each scale, the number of operations of one device in one update of one picture.

        A scale is one of the resolutions of the run.
        """
        return scale_operations(self.scales, self.recipe, self.platform, devices=self.devices)

    @property
    def usable(self) -> int | None:
        """Largest predicted memory in bytes that counts as fitting; None if not known.

        It is `available / MARGIN`, since predictions may be too low.
        """
        return None if self.available is None else round(self.available / MARGIN)

    @property
    def fits(self) -> bool | None:
        """Whether the available memory is at least `MARGIN` times the predicted memory.

        None if the available memory is not known.
        """
        return None if self.available is None else fits(self.footprint, self.available)

    @property
    def saves_memory(self) -> bool:
        """Whether tiles or rematerialisation were added to the requested recipe to save memory."""
        untiled = with_network(self.requested, tile=self.requested.network.tile or 0)
        return self.recipe.network != untiled.network

    @property
    def shortens_history(self) -> bool:
        """Whether L-BFGS keeps a shorter history than the requested recipe says, to save memory."""
        return history_of(self.recipe) != history_of(self.requested)

    @property
    def savings(self) -> list[str]:
        """Phrases for messages on what the plan does to save memory; empty if it does nothing."""
        last, network = self.scales[-1], self.recipe.network
        words = []
        # With wrapping padding, styles are not cut into tiles.
        shapes = (last.shape, *([] if network.wraps else last.style_shapes))
        if any(tile_grid.is_tiled(shape, self.recipe, self.devices) for shape in shapes):
            words.append(f"in tiles of {network.tile} px")
        if network.remat and not self.requested.network.remat:
            words.append("with activations computed again")
        if self.shortens_history:
            words.append(f"with a history of {history_of(self.recipe)} pairs")
        return words

    def bands(self, scale: int = -1) -> Bands | None:
        """Return how the canvas is distributed over devices at one scale; None if one device has it.

        `scale` is the index of the scale (resolution); by default the final one.
        """
        return bands_of(self.mesh, self.scales[scale].shape, self.recipe.network)

    @property
    def fits_twice(self) -> bool:
        """Whether two runs of this plan fit into memory at once; True if the memory is not known."""
        return self.available is None or 2 * self.footprint.total * MARGIN <= self.available

    def footprint_of(self, chunk: int) -> Footprint:
        """Return the predicted memory of one device if `chunk` pictures are painted at once.

        It is that of the final scale. On a CPU all pictures count, since the devices share one memory.
        """
        together = chunk_size.pictures_per_memory(chunk, self.mesh, self.platform)
        last, devices = self.scales[-1], self.devices
        return footprint_at(self.recipe, last, self.platform, pictures=together, devices=devices)

    def fits_beside_next(self, scale: int) -> bool:
        """Return whether a scale (resolution) and the next one fit into memory at the same time.

        If so, the next scale can be compiled while this one is painted. The result is False for the
        last scale. For other scales, it is True if the available memory is not known. Of the pictures
        that are painted at once, those are counted that share one memory, such as that of one GPU.

        Args:
          scale: index of the scale that is painted.
        """
        pair = self.scales[scale : scale + 2]
        if len(pair) < 2 or self.available is None:
            return len(pair) == 2
        together = chunk_size.pictures_per_memory(self.chunk, self.mesh, self.platform)
        both = [
            footprint_at(
                self.recipe, one, self.platform, pictures=together, devices=self.devices
            ).total
            for one in pair
        ]
        return sum(both) * MARGIN <= self.available


def scales_of_canvas(recipe: Recipe, shape: Shape) -> tuple[Scale, ...]:
    """Return the scales (resolutions) of a run, given only the final (height, width) of its canvas.

    All styles are assumed to have this size, too, before the recipe's `style_scale` is applied. The
    recipe's size rules are ignored, since `shape` is the final size already.
    """
    styles = [shape] * (1 + len(recipe.terms.tap_styles))
    return run_scales.scales_of(shape, styles, with_sizes(recipe, "as-is", "as-is"))


def plan_scales(
    recipe: Recipe,
    scales: Sequence[Scale],
    *,
    mesh: AnyMesh | None = None,
    device: Any = None,
    pictures: int = 1,
    chunk: int | None = None,
    memory: int | None = None,
    platform: str | None = None,
    may_shorten_history: bool = False,
    files: FileMemory | None = None,
    unread: bool = False,
) -> Plan:
    """Plan a run whose scales, and so the sizes of all pictures at each scale, are known already.

    With several processes, every process must make this call, since together they find the one with
    the least memory.

    Args:
      recipe: a recipe that `recipes.check` returned. If its `network.tile` is None, this function
        chooses the tile size and rematerialisation; if its precision is `AUTO`, it chooses the
        precision.
      scales: coarse to fine, each with the shapes of its canvas and of all styles.
      mesh: the devices that share the canvas or the batch; None is one device.
      device: the device to which the weights are committed; None, if there is none, is JAX's default
        device. `capacity.device_of` finds it.
      pictures: number of pictures that are painted with this recipe at these scales.
      chunk: largest number of pictures painted at once, fewer if so many do not fit into memory; None
        is as many as fit.
      memory: bytes that each device can allocate, or that all CPU devices can allocate together; None
        asks the device.
      platform: "cpu", "gpu" or "tpu"; None is the platform of the devices.
      may_shorten_history: whether the history of L-BFGS in this project's own recipes, `default` and
        `gram`, may be shortened if nothing else makes the run fit into memory, although this changes
        the picture. Published recipes always keep the history of their source.
      files: the memory that the picture files take; None if not known.
      unread: whether the picture files are still to be read, so that they will take some of the memory
        that is available now. This matters only to a run on a CPU: an accelerator has memory of its
        own.

    Raises:
      ValueError: if a run on a CPU has to read and resize `unread` files, which takes more memory than
        there is; if no tile size fits (the message names the largest canvas and the changes that would
        fit); if the canvas cannot be cut into the tiles of the recipe; or if the devices of `mesh`
        cannot share the canvas, because one would have no row of it, a loss needs all of it at once, or
        the padding wraps around and the height is no multiple of 16 px.
      TypeError, ValueError: if a user's own style loss does not give a number of matches for the
        canvas of each scale.
    """
    last = scales[-1]
    bands = bands_of(mesh, last.shape, recipe.network)
    check_bands_allowed(bands, recipe)
    check_bands(bands)
    correspondence.check_numbers_of_matches([scale.shape for scale in scales], recipe)
    tile_grid.check_sides(last.shape, recipe.terms.taps, recipe.network)
    available, counted, here = _memory_of(mesh, device, memory, platform)
    before: int | None = None  # the memory available before the files are read
    if unread and files is not None and available is not None and counted == "cpu":
        _check_reading(files, available)
        before, available = available, max(0, available - files.kept)
    devices = sharding.devices_per_picture(mesh)
    auto_precision = isinstance(recipe.network.precision, Auto)
    recipe = recipe.resolved(counted)
    untiled = footprint_at(with_network(recipe, tile=0), last, counted, devices=devices)
    chosen = recipe
    if recipe.network.tile is None:
        chosen = fitted(recipe, last, available, counted, devices, may_shorten_history)
    if before is not None and files is not None:
        # A run that is too large was refused above, by a message that also says what would fit.
        _check_resizing(files, before, last, recipe)
    one = footprint_at(chosen, last, counted, devices=devices)
    at_once = wanted = chunk_size.even_chunk_over_devices(pictures, chunk, mesh)
    if pictures > 1:

        def total(count: int) -> int:
            return footprint_at(chosen, last, counted, pictures=count, devices=devices).total

        most = chunk_size.largest_chunk(total, available, pictures)
        if most is not None and counted != "cpu":
            most *= sharding.pictures_in_parallel(mesh)  # so far, `most` is for one accelerator
        if most is not None and most < wanted:
            at_once = chunk_size.even_chunk_over_devices(pictures, most, mesh)
    together = chunk_size.pictures_per_memory(at_once, mesh, counted)
    return Plan(
        requested=recipe,
        auto_precision=auto_precision,
        recipe=chosen,
        scales=tuple(scales),
        mesh=mesh,
        pictures=pictures,
        chunk=at_once,
        platform=counted,
        here=here,
        available=available,
        footprint=one
        if together == 1
        else footprint_at(chosen, last, counted, pictures=together, devices=devices),
        untiled=untiled,
        files=files,
        unfit_chunk=None if chunk is None or at_once == wanted else wanted,
    )


def _check_reading(files: FileMemory, available: int) -> None:
    """Refuse picture files that take too much memory, whatever sizes they are resized to."""
    if files.least > available:
        argument = "style" if files.largest else "content"
        raise ValueError(
            f"`{argument}`: reading the pictures takes {gigabytes(files.least)}, and "
            f"{gigabytes(available)} is available; reduce them with another program, or stop other "
            "programs"
        )


def _check_resizing(files: FileMemory, available: int, scale: Scale, recipe: Recipe) -> None:
    """Refuse sizes of canvas or styles to which the pictures cannot be resized in the memory there is.

    The message begins with the argument that makes the canvas, if that alone is too large, or else the
    largest of these pictures.
    """
    if files.peak <= available:
        return
    height, width = scale.shape
    argument, smallest = "size", (vgg.SMALLEST, vgg.SMALLEST)
    if peak_of_resizing(smallest, scale.shape, recipe.pictures.resize) <= available:
        height, width = max((scale.shape, *scale.style_shapes), key=math.prod)
        if (height, width) != scale.shape:
            enlarged = any(factor > 1 for factor in recipe.pictures.style_scale or ())
            argument = "style_scale" if enlarged else "style_size"
    raise ValueError(
        f"`{argument}`: resizing the pictures, one of them to {width}x{height} px, takes "
        f"{gigabytes(files.peak)}, and {gigabytes(available)} is available; choose a smaller one"
    )


def _memory_of(
    mesh: AnyMesh | None, device: Any, memory: int | None, platform: str | None
) -> tuple[int | None, str, bool]:
    """Return the bytes each device can allocate, the platform, and whether this process runs on it.

    The arguments are those of `plan_scales`; `memory` and `platform` are None unless its caller
    requested them. The returned bytes are None if they are not known. The last value is False if
    another platform was requested than that of this process' devices.
    """
    if isinstance(mesh, Mesh):
        device = mesh.local_devices[0]
    computing = capacity.default_device() if device is None else device
    here = platform in (None, computing.platform)
    if memory is None and here:
        return *capacity.available_to_each(mesh, device), here
    counted = platform if platform is not None and not here else capacity.platform_of(device)
    return capacity.divided_among_bands(memory, mesh, counted), counted, here
