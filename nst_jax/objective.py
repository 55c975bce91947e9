"""The losses to minimise (`losses_of`), computed from sums over a picture.

The module `picture_sums` takes the sums, over the whole picture at once or tile by tile. If several
devices share a picture, each computes one band of it, which is a horizontal strip.

A tap is a layer whose features a loss reads. Masks mark regions of the picture with styles of their
own, and protected parts, which are to stay as they are in the content. Guides are arrays made from
these masks for the features at each tap.
"""

import operator
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from nst_jax import _checks, correspondence, vgg
from nst_jax._real_size import as_counts, cut, inside
from nst_jax._types import Guides, Image, Losses, Params, RealSize, Resized, Scalar, Shape, Targets
from nst_jax.controls import matting
from nst_jax.controls.matting import matting_energy
from nst_jax.losses import Count, Extent, JointContentLoss, MatchingLoss, at_least_float32
from nst_jax.picture_sums import Sums, SumSettings, sums_of_picture
from nst_jax.recipes.checking import check_in_bucket
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.terms import StylePart, Terms
from nst_jax.scaling import tile_grid, tiles
from nst_jax.scaling.bands import Bands, map_bands, with_neighbours
from nst_jax.scaling.sharding import BANDS
from nst_jax.scaling.tile_grid import Grid
from nst_jax.target_checks import explained_by_targets, other_names
from nst_jax.targets import check_arguments
from nst_jax.vgg.sized_layers import feature_size


def losses_of(
    params: Params,
    image: Image,
    targets: Targets,
    recipe: Recipe,
    *,
    bands: Bands | None = None,
    step: Int[Array, ""] | int = 0,
    matches: Int[Array, " n"] | None = None,
) -> Losses:
    """Compute the weighted losses of an image against targets.

    The function can be traced and differentiated by JAX. For a batch of images, use `vmap`.

    Args:
      params: weights from `nst_jax.load_params`.
      image: [h, w, 3] in [0, 1], of the size of the content that was given to `measure`. With `bands`,
        the caller has padded the image at the bottom to `bands.padded_height` rows.
      targets: what the image is compared with, from `measure`. If they have a `size`, the picture has
        this (height, width) and lies at the top left of the array `image`; what is outside of it, even
        NaN, changes nothing.
      recipe: layers to read, losses, weights and network settings. If `network.tile` cuts the image
        into tiles, only the gradient with respect to the image is defined. If the precision is `AUTO`,
        the platform of JAX's default device decides on it when the function is traced.
      bands: how the canvas is distributed over several devices; None means one device.
      step: number of the update, for style and content losses that make random choices in each update;
        other losses do not depend on it.
      matches: `State.matches`, for style losses that compare each position of the image with a fixed
        position of the style, its match; None for others.

    Returns:
      `Losses` of scalars: `style_layers` sum to `style`; `content`, `style`, `tv` and, if the recipe
      has a `matting_weight`, `matting` sum to `total`.

    Raises:
      TypeError: for arguments of another type, such as swapped ones.
      ValueError: if the weights are those of another network than VGG-19; if the image is not [h, w, 3]
        or not floating point, or differs in size from the content of `targets`; if the targets were
        measured with a recipe that has other taps or another style loss; if the image is computed in
        tiles or on several devices although a loss is not a sum over positions; if a loss
        needs `matches` or `targets.photo` and gets None, or gets `matches` of another number; or if
        `targets` have a `size` and the recipe is one that `recipes.check_in_bucket` refuses.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> params, grey = nst.load_params(), jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(params, grey, grey, nst.recipes.TF)
      >>> float(jax.jit(nst.losses_of)(params, grey, targets, nst.recipes.TF).total)
      0.0
    """
    order = "the order is losses_of(params, image, targets, recipe)"
    check_arguments(order, params, recipe, bands)
    _checks.array("image", image, order)
    _checks.instance("targets", targets, Targets, f"`measure` gives them; {order}")
    _checks.one_image("image", image, smallest=1, advice="`jax.vmap` takes a batch")
    terms, step = recipe.terms, jnp.asarray(step, jnp.int32)
    shape = (image.shape[-3] if bands is None else bands.height, image.shape[-2])
    if isinstance(terms.style_loss, MatchingLoss):
        sizes = {tap: _size_of(shape, tap, recipe.network) for tap in terms.content_taps}
        _check_targets(targets, terms, sizes, None)
        with explained_by_targets(targets, recipe):
            return _losses_of_matches(params, image, targets, recipe, step, matches, sizes)
    settings = SumSettings.of(terms, recipe.network, targets.guides)
    sizes = {tap: _size_of(shape, tap, recipe.network) for tap in settings.taps}
    grid = tile_grid.grid_of(shape, terms.taps, recipe.network, bands)
    _check_targets(targets, terms, sizes, grid)
    with explained_by_targets(targets, recipe):
        if targets.size is not None:
            return _losses_inside(settings, params, image, targets, recipe, step)
        sums = sums_of_picture(settings, params, image, targets, grid, bands)
        found = _weighted(sums, sizes, shape, targets, terms, step)
        return _with_matting(found, image, targets, terms, bands)


def _losses_inside(
    settings: SumSettings,
    params: Params,
    image: Image,
    targets: Targets,
    recipe: Recipe,
    step: Int[Array, ""],
) -> Losses:
    """Return the weighted losses of a picture that lies at the top left of the array `image`.

    `targets.size` is the (height, width) of the picture. What is outside of it changes nothing.
    `settings` are those of the sums over the picture. The other arguments are as in `losses_of`.
    """
    size = targets.size
    assert size is not None
    check_in_bucket(recipe)
    image = cut(image, size)
    sums = sums_of_picture(settings, params, image, targets)
    pixels = as_counts(size, image.dtype)
    sizes = {}
    for tap in settings.taps:
        height, width = as_counts(feature_size(tap, size, recipe.network.ceil), image.dtype)
        channels = vgg.LAYERS[vgg.layer_of(tap)][1]
        sizes[tap] = _Size(height, width, channels, pixels[0] * pixels[1])
    found = _weighted(sums, sizes, pixels, targets, recipe.terms, step)
    return _with_matting(found, image, targets, recipe.terms)


def _losses_of_matches(
    params: Params,
    image: Image,
    targets: Targets,
    recipe: Recipe,
    step: Int[Array, ""],
    matches: Int[Array, " n"] | None,
    sizes: "dict[str, _Size]",
) -> Losses:
    """Return the weighted losses of a whole image, for a style loss that compares single positions.

    Such a loss (`MatchingLoss`) compares feature vectors at pairs of positions of canvas and style, and
    not only statistics such as Gram matrices. `sizes` has the size of the features at each content tap;
    the other arguments are as in `losses_of`.
    """
    terms, shape = recipe.terms, (image.shape[-3], image.shape[-2])
    found = vgg.features(params, image, terms.taps, network=recipe.network)
    if isinstance(terms.content_loss, JointContentLoss):
        content = terms.content_weight * correspondence.content_distance(
            params, image, found, targets.photo, targets.content, step, recipe
        )
    else:
        sums = {
            tap: terms.content_loss.sums(
                at_least_float32(found[tap]), at_least_float32(targets.content[tap])
            )
            for tap in terms.content_taps
        }
        content = _weighted_content(sums, sizes, terms)
    distances = correspondence.distances(params, image, found, targets.style, matches, step, recipe)
    layers = {
        name: terms.style_weight * weight * distances[name]
        for name, weight in zip(terms.style_names, terms.style_layer_weights, strict=True)
    }
    variation = terms.variation.sums(image, None)
    total = _total(content, layers, variation, shape, terms)
    return _with_matting(total, image, targets, terms)


def _with_matting(
    found: Losses, image: Image, targets: Targets, terms: Terms, bands: Bands | None = None
) -> Losses:
    """Return the losses with the weighted matting energy added, if the recipe has a weight for it."""
    if terms.matting_weight is None:
        return found
    energy = terms.matting_weight * _matting(image, targets.photo, bands, targets.size)
    return found._replace(total=found.total + energy, matting=energy)


def _matting(
    image: Image, photo: Resized | None, bands: Bands | None, size: RealSize | None
) -> Scalar:
    """Return the matting energy of an image, divided by its number of pixels.

    The energy says how far the image is from being a locally affine function of the colours of `photo`,
    the content picture; see `nst_jax.controls.matting`. It is computed on the whole image (on several
    devices, on the band of each), even if the network computes the image in tiles. The energy is a sum
    over small windows of pixels. If the image lies in a larger array, `size` is its real (height,
    width), and only windows within the image count.
    """
    if photo is None:
        raise ValueError(
            "`targets`: have no photo for `matting_weight`; measure them with the same recipe"
        )
    # With `jax.checkpoint`, the backward pass computes the energy again. So the arrays for its many
    # windows of pixels are not kept in memory while the network is evaluated.
    if size is not None:
        rows, columns = image.shape[0] - matting.SIDE + 1, image.shape[1] - matting.SIDE + 1
        energy = jax.checkpoint(matting_energy)(
            image, photo, counted=inside(size - matting.SIDE + 1, (rows, columns))
        )
        height, width = as_counts(size, image.dtype)
        return energy / (height * width)
    if bands is None:
        energy = jax.checkpoint(matting_energy)(image, photo)
        return energy / (image.shape[0] * image.shape[1])
    on_device = partial(_device_matting, bands)
    energy = map_bands(on_device, bands, (True, False), split_out=False)(image, photo)
    return energy / (bands.height * image.shape[1])


def _device_matting(bands: Bands, band: Image, photo: Resized) -> Scalar:
    """Return the matting energy of a whole image, added up over devices that have one band each.

    The energy is a sum over all squares of 3 x 3 pixels. Each device sums over those that begin in its
    band. Squares that begin in its last rows reach into the band below, so the device also gets the
    first two rows of that band.

    Args:
      bands: how the image is cut into bands.
      band: this device's band, [band_height, w, 3].
      photo: the whole photograph, [h, w, 3].
    """
    more = matting.SIDE - 1
    rows = with_neighbours(band, 0, more, bands.count)
    first = lax.axis_index(BANDS) * bands.band_height
    edges = ((0, bands.padded_height + more - photo.shape[0]), (0, 0), (0, 0))
    here = lax.dynamic_slice_in_dim(jnp.pad(photo, edges), first, len(rows))
    counted = first + jnp.arange(bands.band_height) < bands.height - more
    energy = jax.checkpoint(matting_energy)(rows, here, counted=counted[:, None])
    return lax.psum(energy, BANDS)


class _Size(NamedTuple):
    """The size of the features at one tap (layer that a loss reads).

    The numbers are ints. But if the picture lies at the top left of a larger array, all of them except
    `channels` are traced floats, since the program then gets the picture's size only at runtime.
    """

    height: Count
    width: Count
    channels: int
    pixels: Count  # number of pixels of the picture itself, before the network's poolings

    @property
    def positions(self) -> Count:
        return self.height * self.width


def _size_of(shape: Shape, tap: str, network: vgg.Network) -> _Size:
    """Return the size of the features at a tap (layer), for a picture of this (height, width)."""
    height, width = vgg.feature_shape(tap, *shape, network.ceil)
    return _Size(height, width, vgg.LAYERS[vgg.layer_of(tap)][1], shape[0] * shape[1])


def _check_targets(
    targets: Targets, terms: Terms, sizes: dict[str, _Size], grid: Grid | None
) -> None:
    """Refuse targets of a recipe with other taps, and those with features of another size.

    The targets of a `MatchingLoss` have names of its own, which are not checked here.
    """
    matched = isinstance(terms.style_loss, MatchingLoss)
    needed = {"content": terms.content_taps, "style": () if matched else terms.style_names}
    for name, names in needed.items():
        found: dict[str, Any] = getattr(targets, name)
        # Content targets may also have a tap at which protected parts are held.
        extra = set(found) - set(sizes) if name == "content" else set()
        if extra or not found.keys() >= set(names):
            raise ValueError(other_names(name, found, names))
    for tap, features in targets.content.items():
        wanted = sizes[tap][:2] if grid is None else tiles.assembled_shape(grid, tap)
        if features.shape != (*wanted, sizes[tap].channels):
            raise ValueError(
                f"`image`: its features at {tap} have shape {list(sizes[tap][:3])}, but those of the "
                f"content in `targets` have shape {list(features.shape)}; the sizes must be equal"
            )


def _weighted(
    sums: Sums,
    sizes: dict[str, _Size],
    shape: tuple[Count, Count],
    targets: Targets,
    terms: Terms,
    step: Int[Array, ""],
) -> Losses:
    """Return the weighted losses, computed from the sums over a whole picture."""
    guides = targets.guides
    content = _weighted_content(
        {tap: sums.taps[tap][0] for tap in terms.content_taps}, sizes, terms
    )
    for tap in () if guides is None else guides.held:
        count = sizes[tap].positions * sizes[tap].channels
        held = terms.content_loss_by_tap.value(sums.taps[tap][2], count)
        # The loss of protected parts, which are to stay as in the content, weighs as much as the
        # content losses of all layers together.
        weight = terms.content_weight * reduce(operator.add, terms.content_layer_weights)
        content = content + weight * held
    layers = {}
    for part, weight in zip(terms.style_parts, terms.style_part_weights, strict=True):
        extent = Extent(sizes[part.tap].positions, sizes[part.tap].pixels, step)
        found, target = sums.taps[part.tap][1][part.name], targets.style[part.name]
        if guides is None:
            statistic = part.loss.statistic(found, extent.positions)
            distance = part.loss.distance(statistic, target, extent)
        else:
            distance = _over_regions(part, found, target, extent, guides)
        layers[part.name] = weight * distance
    return _total(content, layers, sums.variation, shape, terms)


def _weighted_content(sums: dict[str, Any], sizes: dict[str, _Size], terms: Terms) -> Scalar:
    """Return the content loss of a picture: the weighted sum of the losses at its taps (layers).

    Args:
      sums: for each tap, sums over the whole picture, from which the loss at this tap is computed.
      sizes: for each tap, the size of its features.
      terms: the content loss, its taps and the weights.
    """
    contents = []
    loss = terms.content_loss_by_tap
    for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True):
        count = sizes[tap].positions * sizes[tap].channels
        contents.append(weight * loss.value(sums[tap], count))
    return terms.content_weight * reduce(operator.add, contents)


def _total(
    content: Scalar,
    layers: dict[str, Scalar],
    variation: Any,
    shape: tuple[Count, Count],
    terms: Terms,
) -> Losses:
    """Return the `Losses`, given the weighted losses of content and style.

    Args:
      content: the weighted content loss.
      layers: the weighted style losses by name.
      variation: the sums of the variation loss, which is computed and weighted here.
      shape: (height, width) of the picture.
      terms: the recipe's terms, for the variation loss and its weight.
    """
    style = reduce(operator.add, layers.values())
    tv = terms.tv_weight * terms.variation.value(variation, shape)
    return Losses(content + style + tv, content, style, tv, layers)


def _over_regions(
    part: StylePart, sums: Any, target: Any, extent: Extent, guides: Guides
) -> Scalar:
    """Return a style loss: the sum of the losses of all regions, each times the region's weight.

    A region is a part of the picture with a style of its own; the rest of the picture, which has the
    default style, is one more region. The weights of the regions at a layer (`guides.shares`) sum to 1.
    Along the first axis, `sums` and `target` have one entry for each region.
    """

    def of_region(sums: Any, total: Scalar, target: Any, share: Scalar) -> Scalar:
        # A region that is empty at this tap (layer) has the weight (`share`) 0. Its distance has no
        # meaning and may be infinite or NaN, and so may be the gradient of the distance. The first
        # `where` keeps such numbers out of the gradient, the second one out of the value.
        sums = jax.tree.map(lambda x: jnp.where(share > 0, x, lax.stop_gradient(x)), sums)
        distance = part.loss.distance(part.loss.statistic(sums, total), target, extent)
        return jnp.where(share > 0, share * distance, 0)

    shares = guides.shares[part.tap]
    return jnp.sum(jax.vmap(of_region)(sums, guides.totals[part.tap], target, shares))
