"""`plan`: a run planned from the arguments of `stylize`, `paint` or `stylize_many`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nst_jax import _checks, checkpoints, recipes, run_scales
from nst_jax._types import Checkpoint, Params, Shape
from nst_jax.controls import Protect, Region
from nst_jax.controls.given import listed_regions
from nst_jax.recipes.changes import with_options, with_tap_styles
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling import buckets, capacity, sharding
from nst_jax.scaling.bucket_plans import plan_in_arrays
from nst_jax.scaling.footprint import PLATFORMS
from nst_jax.scaling.plan import Plan
from nst_jax.scaling.sharding import Devices


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
    params: Params | None = None,
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
        are divided. Default: one device. Without `params`, if the only device is JAX's default device,
        a run of the plan uses the device to which its weights are committed, if any.
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
      params: the weights of the run, from `nst_jax.load_params`. If they are committed to a device (by
        `jax.device_put(params, device)`), that is where the run paints by default, so its platform and
        memory are those of the plan. None: the weights are not committed.

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
    device = _device_of(params)
    if pictures == bands == 1:
        mesh = sharding.mesh_of(devices, axis=sharding.BANDS, weights_on=device)
    else:
        mesh = sharding.mesh_of_batch(devices, bands, weights_on=device)
    if platform is not None and platform not in PLATFORMS:
        raise ValueError(
            f"`platform`: expected 'cpu', 'gpu' or 'tpu', got {_checks.shown(platform)}"
        )
    if memory is not None:
        _checks.whole("memory", memory, least=1)
    options: dict[str, Any] = {"memory": memory, "platform": platform}
    options |= {"mesh": mesh, "device": device, "pictures": pictures, "chunk": chunk}
    chosen = buckets.checked_bucket(bucket)
    return plan_in_arrays(checked, scales, chosen, resume=resume, **options)


def _device_of(params: Any) -> Any:
    """Return the device to which weights are committed; None if there is none, or no weights."""
    if params is None:
        return None
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    _checks.not_traced("params", params)
    return capacity.device_of(params)


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
