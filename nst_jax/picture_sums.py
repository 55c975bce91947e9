"""Sums over a picture from which its losses are computed.

The sums are taken over the whole picture at once, or tile by tile, which takes less memory. The core of
a tile is the part of the picture over which the tile's sums are taken. Its window is the core with a
halo: the margin of pixels around the core on which the core's features depend. If several devices share
a picture, each computes one band of it, which is a horizontal strip.

A tap is a layer whose features a loss reads. Masks mark regions of the picture with styles of their
own, and protected parts, which are to stay as they are in the content. Guides are arrays made from
these masks for the features at each tap.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Bool

from nst_jax import vgg
from nst_jax._types import FeatureMap, Features, Guides, Image, Params, RealSize, Resized, Targets
from nst_jax.losses import ContentLoss, Mask, Variation, at_least_float32
from nst_jax.recipes.terms import StylePart, Terms
from nst_jax.scaling import tiles
from nst_jax.scaling.bands import Bands, map_bands
from nst_jax.scaling.sharding import BANDS
from nst_jax.scaling.tile_grid import Grid, Index


class SumSettings(NamedTuple):
    """The static settings on which the sums over a picture depend.

    Loss weights are applied to the finished sums. So they may be traced arrays and are not kept here.
    """

    content_taps: tuple[str, ...]
    content_loss: ContentLoss
    style_parts: tuple[StylePart, ...]
    variation: Variation
    network: vgg.Network
    # The tap (layer) that a second content loss reads, which keeps the protected part of the picture as
    # it is in the content. None if there is no such loss: nothing is protected, or the recipe's content
    # loss cannot be limited to a part of the picture.
    held_tap: str | None = None

    @classmethod
    def of(cls, terms: Terms, network: vgg.Network, guides: Guides | None) -> "SumSettings":
        """Take `held_tap` from the guides, and all other settings from a recipe's terms and network."""
        return cls(
            terms.content_taps,
            terms.content_loss_by_tap,
            terms.style_parts,
            terms.variation,
            network,
            None if guides is None else next(iter(guides.held), None),
        )

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of all layers that losses read, without repetitions."""
        style = (part.tap for part in self.style_parts)
        held = () if self.held_tap is None else (self.held_tap,)
        return tuple(dict.fromkeys((*self.content_taps, *style, *held)))


class Sums(NamedTuple):
    """Sums over a picture, or over a part of it, from which its losses are computed.

    Two things are not computed from a `Sums`: the losses of a recipe with a `MatchingLoss`, and the
    matting energy. Both are computed in `objective`.
    """

    # Tap -> a tuple of three: the sum of the content loss; the sums of the style losses, by name; and
    # the sum of a second content loss, for the part of the picture that must stay as in the content.
    # The sum of a content loss is None at taps that this loss does not read. If there are guides, the
    # sums of a style loss are stacked, with one entry for each region, even if there is only one.
    taps: dict[str, tuple[Any, dict[str, Any], Any]]
    variation: Any  # the sums that `Variation.sums` returns for the variation loss


def sums_of_picture(
    settings: SumSettings,
    params: Params,
    image: Image,
    targets: Targets,
    grid: Grid | None = None,
    bands: Bands | None = None,
) -> Sums:
    """Return the sums over a picture; they are taken in tiles or bands if it is cut into them.

    Args:
      settings: the settings on which the sums depend.
      params: the weights of the network.
      image: the picture, as in `losses_of`.
      targets: the features of the content, and the guides. If the targets have a `size`, the picture
        has this (height, width) and lies at the top left of the array `image`, with zeros outside.
      grid: how the picture is cut into tiles; None means that it is computed in one piece.
      bands: how the picture is distributed over several devices; None means one device.
    """
    guides = targets.guides
    if grid is None:
        return _sums(settings, params, image, targets.content, guides, size=targets.size)
    if bands is None:
        wide = tiles.surrounded(image, grid)
        return _tiled_sums((settings, grid), params, wide, targets.content, guides)
    on_device = partial(_device_sums, settings, grid)
    split = map_bands(on_device, bands, (False, True, True, False), split_out=False)
    sums: Sums = split(params, image, targets.content, guides)
    return sums


# A function that selects the positions over which the sums of the losses are taken: all positions for
# a whole picture, or those of the tile's core for a tile. Its arguments are the name of a tap (layer),
# and features or a mask at this tap. It returns a part of them that contains the selected positions,
# with zeros at its other positions.
Selection: TypeAlias = Callable[[str, FeatureMap], FeatureMap]


def _everything(tap: str, features: FeatureMap) -> FeatureMap:
    del tap
    return features


def _sums(
    settings: SumSettings,
    params: Params,
    image: Image,
    content: Features,
    guides: Guides | None = None,
    of_image: Selection = _everything,
    of_content: Selection = _everything,
    of_masks: Selection = _everything,
    where: Mask = None,
    size: RealSize | None = None,
    divided: tuple[bool, bool] = (False, False),
) -> Sums:
    """Return the sums over a picture, or over the part of it that belongs to one tile.

    Args:
      settings: the losses, and the taps (layers that they read).
      params: the weights of the network.
      image: [h, w, 3], the picture; or a tile with the margin on which the tile's features depend.
      content: features of the content by tap, for the whole picture; if several devices share the
        picture, for this device's tiles.
      guides: the masks of regions and protected parts at each tap, for the whole picture; None if there
        are none.
      of_image: selects the part of the image's features over which the sums go.
      of_content: selects the same part of the content's features.
      of_masks: selects the same part of a mask.
      where: [h, w], True for the pixels of the image that the variation loss counts; None means all.
      size: the real (height, width) of the picture, if it lies at the top left of a larger array; None
        means that it fills the array.
      divided: for height and width, whether the image is only a part of the picture in this direction.
        If not, and if the network pads each border with the pixels of the opposite border, the
        variation loss also compares the last row or column with the first.
    """
    products = settings.network.precision_on().products

    def content_sums(found: FeatureMap, target: FeatureMap) -> Any:
        return settings.content_loss.sums(at_least_float32(found), at_least_float32(target))

    def style_sums(part: StylePart, found: FeatureMap) -> Any:
        if guides is None:
            return part.loss.sums(found, products)
        masks = of_masks(part.tap, guides.masks[part.tap])
        each = [
            part.loss.sums_of_masked(found, masks[..., number], products)
            for number in range(masks.shape[-1])
        ]
        return jax.tree.map(lambda *sums: jnp.stack(sums), *each)

    def measure(tap: str, found: FeatureMap) -> tuple[Any, Any, Any]:
        found, content_sum, held_sum = of_image(tap, found), None, None
        if tap in settings.content_taps:
            content_sum = content_sums(found, of_content(tap, content[tap]))
        if guides is not None and tap == settings.held_tap:
            mask, target = of_masks(tap, guides.held[tap]), of_content(tap, content[tap])
            held_sum = content_sums(at_least_float32(found) * mask, at_least_float32(target) * mask)
        parts = (part for part in settings.style_parts if part.tap == tap)
        return content_sum, {part.name: style_sums(part, found) for part in parts}, held_sum

    measures = {tap: partial(measure, tap) for tap in settings.taps}
    found = vgg.measured(params, image, measures, network=settings.network, size=size)
    if size is not None:
        return Sums(found, settings.variation.sums(image, where, size))
    if not settings.network.wraps:
        return Sums(found, settings.variation.sums(image, where))
    return Sums(found, settings.variation.sums(*_wrapped(image, where, divided)))


def _wrapped(
    image: Image, where: Mask = None, divided: tuple[bool, bool] = (False, False)
) -> tuple[Resized, Bool[Array, "h_new w_new"]]:
    """Return `image` with its first row and column repeated at the end, and a mask.

    With the repeated pixels, the variation loss also compares the last row and column of `image` with
    the first. The mask is True for the pixels that the loss counts: those of `where` (None means all),
    and none of the repeated ones. `divided` says for the height and for the width whether `image` is
    only a part of the whole picture, such as a tile. In such a direction, nothing is repeated.
    """
    rows, columns = ((0, 0) if part else (0, 1) for part in divided)
    wide = jnp.pad(image, (rows, columns, (0, 0)), mode="wrap")
    own = jnp.ones(image.shape[:2], bool) if where is None else where
    return wide, jnp.pad(own, (rows, columns))


def _window_sums(
    settings: SumSettings,
    grid: Grid,
    params: Params,
    content: Features,
    guides: Guides | None,
    window: Image,
    index: Index,
) -> Sums:
    """Return the sums over the core of one tile: the part of the picture that is this tile's alone.

    `window` has the pixels of the core and of the halo, the margin on which the core's features depend.
    """
    return _sums(
        settings,
        params,
        window,
        content,
        guides,
        lambda tap, features: tiles.core(features, grid, index, tap),
        lambda tap, features: tiles.part(features, grid, index, tap),
        lambda tap, masks: tiles.part_of_whole(masks, grid, index, tap),
        tiles.own_pixels(grid, index),
        divided=(grid.down.wraps, grid.across.wraps),
    )


def _device_sums(
    settings: SumSettings,
    grid: Grid,
    params: Params,
    band: Image,
    content: Features,
    guides: Guides | None,
) -> Sums:
    """Compute the sums over this device's band of the picture; return the totals over all devices."""
    slab = tiles.slab(band, grid)
    # A single tile needs no `_tiled_sums`, whose gradient computes each tile a second time.
    if grid.count_per_device == 1:
        first = grid.first()
        window = tiles.window(slab, grid, first)
        sums = _window_sums(settings, grid, params, content, guides, window, first)
    else:
        sums = _tiled_sums((settings, grid), params, slab, content, guides)
    return jax.tree.map(lambda x: lax.psum(x, BANDS), sums)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tiled_sums(
    static: tuple[SumSettings, Grid],
    params: Params,
    image: Image,
    content: Features,
    guides: Guides | None,
) -> Sums:
    """Return the sums over a picture, or over a device's band of it, computed tile by tile.

    The losses are computed from these sums. A custom gradient rule computes each tile again, since
    autodiff would keep the activations of all tiles in memory.
    """
    settings, grid = static

    def of_tile(index: Index) -> Sums:
        window = tiles.window(image, grid, index)
        return _window_sums(settings, grid, params, content, guides, window, index)

    return tiles.summed(grid, of_tile)


def _tiled_forward(
    static: tuple[SumSettings, Grid], params: Any, image: Any, content: Any, guides: Any
) -> tuple[Sums, tuple[Params, Image, Features, Guides | None]]:
    # `defvjp` is called with `symbolic_zeros=True`, so JAX wraps each leaf in an object. Its attribute
    # `perturbed` says whether the gradient with respect to the leaf is wanted.
    others = jax.tree.leaves((params, content, guides), is_leaf=_is_primal)
    if any(leaf.perturbed for leaf in others):
        raise NotImplementedError(
            "`network.tile`: where an image is cut into tiles, only the gradient to the image is "
            "defined; take other gradients with `tile=0`"
        )
    given = (params, image, content, guides)
    values = jax.tree.map(lambda leaf: leaf.value, given, is_leaf=_is_primal)
    return _tiled_sums(static, *values), values


def _is_primal(leaf: Any) -> bool:
    """Return whether a leaf is an object in which JAX wraps a value if `symbolic_zeros=True`."""
    return hasattr(leaf, "perturbed")


def _tiled_backward(
    static: tuple[SumSettings, Grid],
    saved: tuple[Params, Image, Features, Guides | None],
    cotangent: Any,
) -> tuple[None, Image, None, None]:
    (settings, grid), (params, image, content, guides) = static, saved
    cotangent = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype) if isinstance(x, SymbolicZero) else x,
        cotangent,
        is_leaf=lambda x: isinstance(x, SymbolicZero),
    )
    of_window = partial(_window_sums, settings, grid, params, content, guides)
    return None, tiles.gradient(image, grid, of_window, cotangent), None, None


_tiled_sums.defvjp(_tiled_forward, _tiled_backward, symbolic_zeros=True)
