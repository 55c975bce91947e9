"""The plan of a run: everything that is decided before it starts, without reading any pixels.

A plan contains the recipe, the scales (resolutions), the devices, how the canvas is divided to fit into
memory, and the predicted memory and number of arithmetic operations. A run paints one picture, or one
group of pictures together, and has one plan. `paint` and `stylize_many` take it as an argument or make
it first; the commands that paint by optimisation make it first.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax.sharding import Mesh

from nst_jax import _checks, checkpoints, correspondence, recipes, run_scales
from nst_jax._types import Checkpoint, Shape
from nst_jax.controls import Protect, Region
from nst_jax.controls.given import listed_regions
from nst_jax.recipes.changes import with_options, with_sizes, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.run_scales import Scale
from nst_jax.scaling import buckets, capacity, chunk_size, sharding, tile_grid
from nst_jax.scaling.bands import Bands, bands_of, check_bands, check_bands_allowed
from nst_jax.scaling.capacity import MARGIN, fits, footprint_at, gigabytes
from nst_jax.scaling.footprint import (
    PLATFORMS,
    FileMemory,
    Footprint,
    is_tiled,
)
from nst_jax.scaling.operations import measuring_operations, run_operations, scale_operations
from nst_jax.scaling.sharding import AnyMesh, Devices
from nst_jax.scaling.tile_choice import fitted, history_of, memory_savers, with_network
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
        return _devices_of(self.mesh)

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
        if any(is_tiled(shape, self.recipe, self.devices) for shape in shapes):
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


def plan(
    content: Any,
    style: Any,
    *,
    recipe: Recipe = recipes.DEFAULT,
    size: Size = None,
    style_size: Size = None,
    style_scale: float | Sequence[float] | None = None,
    tap_styles: Mapping[str, Any] | None = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    colors: str | None = None,
    realism: Any = None,
    strength: Any = None,
    devices: Devices = None,
    pictures: int = 1,
    chunk: int | None = None,
    bands: int = 1,
    memory: int | None = None,
    platform: str | None = None,
    resume: Checkpoint | None = None,
    regions: Sequence[Any] | None = (),
    protect: Any = None,
    bucket: int | str = buckets.AUTO,
) -> Plan:
    """Plan a run of `stylize`, `paint` or `stylize_many`: scales, devices, tiles, memory, operations.

    Nothing is compiled or painted, and only the sizes of the pictures are needed. If several processes
    share the devices and `memory` is None, every process must make this call, since together they
    find the least memory that any of them has.

    Most arguments are those of `stylize` and `stylize_many`, which describe them in full.

    Args:
      content: an image [h, w, 3], or its (height, width).
      style: an image or its (height, width); or a list of these, for a blend of styles.
      recipe: all settings of the run.
      size: size of the canvas; default: the recipe's.
      style_size: size of the style pictures; default: `size` holds for them, too, with the exceptions
        that `stylize` describes.
      style_scale: factor by which the style is enlarged, or a list with a factor for each style.
      tap_styles: style pictures for single layers, as a dictionary: name of the layer -> picture, or
        its (height, width).
      steps: number of updates; default: the recipe's.
      precision: precision of the computation; default: the recipe's.
      tile: size in px of the tiles in which the canvas is computed, `"off"` or `"auto"`.
      colors: whose colours the result has; it does not affect the planning, but becomes part of the
        plan's recipe.
      realism: how far the result is changed back to the content's edges, from 0 to 1; with several
        pictures also an array with a number for each.
      strength: how strong the style is, from 0 to 1; with several pictures also an array with a number
        for each.
      devices: devices that share the canvas; with several pictures, devices among which the pictures
        are divided. Default: one device.
      pictures: number of pictures to paint on canvases of the planned size, for `stylize_many`.
      chunk: largest number of pictures painted at once, fewer if so many do not fit into memory; see
        `stylize_many`.
      bands: number of devices that share each picture, see `stylize_many`.
      memory: bytes that each device can allocate, or that all CPU devices can allocate together; None
        asks the device.
      platform: "cpu", "gpu" or "tpu"; None is the platform of the devices. It decides on a precision of
        `"auto"`. For another platform, the available memory is not known unless `memory` is given.
      resume: the checkpoint from which the run will resume, as in `paint`. What the recipe leaves open
        (`tile` or `precision` of `"auto"`) is then as in the run of the checkpoint.
      regions: the regions of the picture (areas with a style of their own). Each is given as a
        `nst_jax.controls.Region`, or only by its style, or by the (height, width) of its style.
      protect: the part of the content that stays as it is, a `nst_jax.controls.Protect`; None if there
        is no such part.
      bucket: side in px of a square array in which the canvas lies, `"off"` or `"auto"`; see `stylize`.
        With several pictures, these may have any shapes that fit into the arrays. The content and style
        given here then decide only how large the arrays at the coarser scales and those for styles are,
        so give the largest.

    Returns:
      The `Plan`, which `stylize`, `paint` and `stylize_many` take as `plan`.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or if the run does not fit into memory even in the
        smallest tiles.

    Example:
      >>> import nst_jax as nst
      >>> plan = nst.plan((300, 450), (600, 800), size=256, memory=4 * 10**9, platform="cpu")
      >>> plan.scales[-1].shape, plan.updates, plan.savings
      ((171, 256), 90, [])
      >>> large = nst.plan((3000, 4500), (600, 800), size=4096, memory=8 * 10**9, platform="cpu")
      >>> large.savings
      ['in tiles of 768 px']
    """
    if resume is not None:
        _checks.instance("resume", resume, Checkpoint, "`nst_jax.checkpoints.load` reads one")
    checked = with_options(
        recipe, size, style_size, steps, precision, tile, style_scale, colors, realism, strength
    )
    checked, own = with_tap_styles(checked, tap_styles)
    checked = checkpoints.with_choices_of(checked, resume)
    styles = style if _is_list_of_pictures(style) else [style]
    shapes = [_shape_of(f"style[{i}]", one) for i, one in enumerate(styles)]
    shapes += [_shape_of("tap_styles", one) for one in own]
    others = [
        _shape_of(f"regions[{i}]", one.style if isinstance(one, Region) else one)
        for i, one in enumerate(listed_regions(regions))
    ]
    if protect is not None:
        _checks.instance("protect", protect, Protect, "`nst_jax.controls.Protect(mask)` makes one")
    scales = run_scales.scales_of(
        _shape_of("content", content),
        shapes,
        checked,
        region_styles=others,
        protected=protect is not None,
    )
    _checks.whole("pictures", pictures, least=1)
    if chunk is not None:
        _checks.whole("chunk", chunk, least=1)
    if pictures == bands == 1:
        mesh = sharding.mesh_of(devices, axis=sharding.BANDS)
    else:
        mesh = sharding.mesh_of_batch(devices, bands)
    if platform is not None and platform not in PLATFORMS:
        raise ValueError(
            f"`platform`: expected 'cpu', 'gpu' or 'tpu', got {_checks.shown(platform)}"
        )
    if memory is not None:
        _checks.whole("memory", memory, least=1)
    options: dict[str, Any] = {"memory": memory, "platform": platform}
    options |= {"mesh": mesh, "pictures": pictures, "chunk": chunk}
    chosen = buckets.checked_bucket(bucket)
    return plan_in_arrays(checked, scales, chosen, resume=resume, **options)


def _is_list_of_pictures(style: Any) -> bool:
    """Return whether a style is a list of styles, and not a single (height, width) or picture."""
    sides = (int, np.integer)
    return isinstance(style, (list, tuple)) and not all(isinstance(one, sides) for one in style)


def _shape_of(argument: str, picture: Any) -> Shape:
    """Check an image or a pair (height, width), and return its (height, width)."""
    if hasattr(picture, "shape"):
        _checks.image_shape(argument, tuple(picture.shape), smallest=1)
        return int(picture.shape[-3]), int(picture.shape[-2])
    if isinstance(picture, (tuple, list)) and len(picture) == 2:
        for side in picture:
            _checks.whole(argument, side, least=1)
        return int(picture[0]), int(picture[1])
    raise TypeError(
        f"`{argument}`: expected an image or (height, width), got {_checks.shown(picture)}"
    )


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
      ValueError: if a run on a CPU has to read `unread` files that take more memory than there is; if
        no tile size fits (the message names the largest canvas and the changes that would fit); if the
        canvas cannot be cut into the tiles of the recipe; or if the devices of `mesh` cannot share the
        canvas, because one would have no row of it, a loss needs all of it at once, or the padding
        wraps around and the height is no multiple of 16 px.
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
    if unread and files is not None and available is not None and counted == "cpu":
        if files.peak > available:
            raise ValueError(
                f"`content`: reading the pictures takes {gigabytes(files.peak)}, and "
                f"{gigabytes(available)} is available; reduce them with another program, or stop other "
                "programs"
            )
        available = max(0, available - files.kept)
    devices = _devices_of(mesh)
    auto_precision = isinstance(recipe.network.precision, Auto)
    recipe = recipe.resolved(counted)
    untiled = footprint_at(with_network(recipe, tile=0), last, counted, devices=devices)
    chosen = recipe
    if recipe.network.tile is None:
        chosen = fitted(recipe, last, available, counted, devices, may_shorten_history)
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


def plan_in_arrays(
    recipe: Recipe,
    scales: Sequence[Scale],
    bucket: buckets.Chosen,
    *,
    resume: Checkpoint | None = None,
    **options: Any,
) -> Plan:
    """Plan a run in arrays of the size that the argument `bucket` asks for.

    With "auto", a single picture on an accelerator is padded to a square that has the same size at all
    scales, if that is possible and its side is at most `buckets.LARGEST_SHARED` px. All scales then
    share their programs, which saves time, since compiling takes far longer than painting on an
    accelerator. In all other cases with "auto", such as on a CPU or with several pictures, the arrays
    have the size of the canvas. A run that resumes is an exception: see `resume`.

    Args:
      recipe: a recipe that `recipes.check` returned.
      scales: the scales of the run, with the sizes of the picture.
      bucket: side of the square array in px; or "auto"; or None for arrays of the canvas' size.
      resume: the checkpoint from which the run resumes, or None. With "auto", the run resumes in the
        arrays of the checkpoint's run, also on another platform.
      **options: further arguments of `plan_scales`.

    Raises:
      ValueError: as `plan_in_square` and `plan_scales`; or if the canvas of the checkpoint lies in a
        square and several devices shall share it.
    """
    begun = None if resume is None else checkpoints.bucket_of(resume)
    if resume is not None and bucket == buckets.AUTO:
        bucket = None if begun is None else begun.side
        if begun is not None and _devices_of(options.get("mesh")) > 1:
            raise ValueError(
                f"`resume`: the canvas of the checkpoint lies in an array of {begun.side} px, which "
                "several devices cannot share; resume it with one device"
            )
    if bucket is not None and bucket != buckets.AUTO:
        one_size = None if begun is None else begun.one_size
        return plan_in_square(recipe, tuple(scales), bucket, one_size=one_size, **options)
    side = buckets.rounded_up(max(scales[-1].shape))
    if bucket == buckets.AUTO and _may_share(side, options):
        # If the square cannot be used, which raises ValueError, the run does without one. If the error
        # has another reason, `plan_scales` below raises it again.
        with suppress(ValueError):
            plan = plan_in_square(recipe, tuple(scales), side, **options)
            if plan.fits is not False:
                return plan
    return plan_scales(recipe, scales, **options)


def _may_share(side: int, options: Mapping[str, Any]) -> bool:
    """Return whether all scales (resolutions) of a run should lie in square arrays of one size.

    All scales then share their compiled programs, but more pixels are computed. This saves time for one
    picture on an accelerator, if the `side` of the squares is at most `buckets.LARGEST_SHARED` px.
    `options` are the further arguments of `plan_scales`, a dictionary.
    """
    platform = options.get("platform")
    if platform is None and options.get("device") is not None:
        platform = capacity.platform_of(options["device"])
    if platform is None:
        platform = capacity.platform_of_mesh(options.get("mesh"))
    one = options.get("pictures", 1) == 1
    return one and platform != "cpu" and side <= buckets.LARGEST_SHARED


def plan_bucket(recipe: Recipe, arrays: buckets.Scales, **options: Any) -> Plan:
    """Return the plan by which the pictures of a bucket are painted.

    A bucket is a size of arrays in which pictures of several smaller sizes lie at the top left, so that
    one compiled program serves all of them.

    Args:
      recipe: the recipe of all pictures, as `recipes.check` returned it.
      arrays: the sizes of the bucket's arrays: `scales` of a `Bucket` from `buckets.buckets_of`.
      **options: further arguments of `plan_scales`, such as `pictures`, the number of pictures.

    Raises:
      ValueError: if the memory is too small for arrays that are computed without tiles, or if the
        recipe asks for tiles. The message begins with `style_size` or `style_scale` if only the array
        for the styles is too large, else with `bucket`. A ValueError is also raised for the other
        reasons that `plan_scales` lists.
    """
    try:
        plan = plan_scales(recipe, arrays, **options)
    except ValueError as error:
        # If the error names one of the arguments below, the run does not fit into memory, not even in
        # tiles if they are possible. The end of the message, on what would fit in tiles, is dropped,
        # since pictures in buckets are not computed in tiles.
        argument, _, words = str(error).partition(": ")
        if argument in ("`size`", "`regions`"):
            what, _, _ = words.partition("; ")
            fewer = "fewer regions, " if argument == "`regions`" else ""
            raise ValueError(
                f'`bucket`: {what}; use {fewer}a smaller bucket and `size`, or "off"'
            ) from error
        if argument in ("`style_size`", "`style_scale`"):
            what, _, _ = words.partition(" is available")
            raise ValueError(
                f"{argument}: {what} is available; {_smaller_style(argument)}"
            ) from error
        raise
    if plan.recipe.network.tile:
        side = max(arrays[-1].shape)
        available = "" if plan.usable is None else f", and {gigabytes(plan.usable)} is available"
        takes = f"takes {gigabytes(plan.untiled.total)}{available}"
        if _fits_but_for_styles(plan):
            enlarged = any(factor > 1 for factor in recipe.pictures.style_scale or ())
            argument = "`style_scale`" if enlarged else "`style_size`"
            style = max(max(shape) for shape in arrays[-1].style_shapes)
            raise ValueError(
                f"{argument}: measuring a style padded to {style} px {takes}; tiles, which would "
                f"save memory, cannot be used in a bucket; {_smaller_style(argument)}"
            )
        raise ValueError(
            f"`bucket`: a picture padded to {side} px {takes}; tiles, which would save memory, cannot "
            "be used in a bucket; "
            'use a smaller bucket and `size`, or "off"'
        )
    return replace(plan, in_bucket=True)


def _fits_but_for_styles(plan: Plan) -> bool:
    """Return whether only the styles are too large for a run to fit into memory without tiles.

    This is so if the run would fit without tiles if its styles had the canvas' shape. The error message
    then names the size of the styles instead of the bucket. The result is False if the caller asked for
    tiles.
    """
    # If the caller asked for tiles, the size of the styles is not why the run has tiles.
    if plan.requested.network.tile:
        return False
    last = plan.scales[-1]
    smaller = last._replace(style_shapes=(last.shape,) * len(last.style_shapes))
    return any(
        fits(footprint_at(recipe, smaller, plan.platform), plan.available)
        for recipe in memory_savers(plan.requested, max(last.shape), plan.platform)
        if not recipe.network.tile
    )


def _smaller_style(argument: str) -> str:
    """Return the advice of an error message: what to do if a style is too large for a bucket.

    A bucket is an array in which pictures of several sizes can lie. `argument` names the argument that
    made the style so large.
    """
    return f"use a smaller {argument}, or `bucket` off"


def plan_in_square(
    recipe: Recipe,
    scales: buckets.Scales,
    side: int,
    *,
    one_size: bool | None = None,
    **options: Any,
) -> Plan:
    """Plan the run of pictures that lie at the top left of square arrays, one array for each scale.

    Pictures of other sizes can lie in arrays of the same size, and so use the same compiled programs.

    Args:
      recipe: a recipe that `recipes.check` returned.
      scales: the scales (resolutions) of the run, with the sizes of the picture and not of the arrays.
        If there are several pictures, the sizes are those of one of them.
      side: side of the canvas' array at the final scale, in px; a multiple of 16.
      one_size: whether the arrays have the same size at all scales, so that all scales use the same
        compiled programs. None means yes for one picture on an accelerator if `side` is at most
        `buckets.LARGEST_SHARED`, and no for all other runs.
      **options: further arguments of `plan_scales`, such as `pictures`.

    Raises:
      ValueError: if the picture is larger than `side`, if losses or updates would differ in a larger
        array (see `buckets.check_run_in_bucket`), or if there is too little memory for the arrays.
    """
    bands = _devices_of(options.get("mesh")) > 1
    buckets.check_run_in_bucket(recipe, scales, bands=bands)
    one_size = _may_share(side, options) if one_size is None else one_size
    (bucket,) = buckets.buckets_of(side, [scales], recipe, one_size=one_size)
    plan = plan_bucket(recipe, bucket.scales, **options)
    return plan if plan.pictures > 1 else replace(plan, real=tuple(scales))


def fits_in_bucket(recipe: Recipe, arrays: buckets.Scales, **options: Any) -> bool:
    """Return whether `plan_bucket` succeeds and predicts that arrays of these sizes fit into memory.

    The result is also True if it is not known how much memory is available.
    """
    try:
        return plan_bucket(recipe, arrays, **options).fits is not False
    except ValueError:
        return False


def _devices_of(mesh: AnyMesh | None) -> int:
    """Return the number of devices that share each picture.

    It is the length of the mesh's axis `BANDS`, and 1 if there is no mesh or no such axis.
    """
    return 1 if mesh is None else int(mesh.shape.get(sharding.BANDS, 1))


def _memory_of(
    mesh: AnyMesh | None, device: Any, memory: int | None, platform: str | None
) -> tuple[int | None, str, bool]:
    """Return the bytes each device can allocate, the platform, and whether this process runs on it.

    The arguments are those of `plan_scales`; `memory` and `platform` are None unless its caller
    requested them. The returned bytes are None if they are not known. The last value is False if
    another platform was requested than that of this process' devices.
    """
    here = platform in (None, capacity.default_device().platform)
    if isinstance(mesh, Mesh):
        device = mesh.local_devices[0]
    if memory is None and here:
        return *capacity.available_to_each(mesh, device), here
    counted = platform if platform is not None and not here else capacity.platform_of(device)
    return capacity.divided_among_bands(memory, mesh, counted), counted, here
