"""Targets: what a canvas is compared with, measured once per scale."""

import operator
from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from nst_jax import _checks, vgg
from nst_jax._types import (
    FeatureMap,
    Features,
    Image,
    Losses,
    Params,
    Scalar,
    Statistic,
    StyleImage,
    Targets,
)
from nst_jax.losses import (
    ContentLoss,
    Extent,
    Mask,
    StyleLoss,
    Variation,
    at_least_float32,
)
from nst_jax.recipes.recipe import Recipe, Terms, check_not_cut, check_styles
from nst_jax.scaling import sharding, tiles
from nst_jax.scaling.tiles import Grid, Index


def measure(
    params: Params, content: Image, style: StyleImage | Sequence[Any], recipe: Recipe
) -> Targets:
    """Measure the content's features and the style's statistics at the recipe's taps.

    Traceable. The two pictures need not have the same size: a style statistic does not depend on
    its picture's.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] in [0, 1], the canvas' size.
      style: [h', w', 3] in [0, 1]; or several, which are blended by the recipe's `style_shares`.
      recipe: taps, losses and network settings.

    Returns:
      `Targets`, passed to the loop as an argument.

    Raises:
      TypeError: for arguments of another type, such as swapped ones.
      ValueError: if there are not as many styles as the recipe has shares, and for tiles with a loss
        that is not additive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(nst.load_params(), grey, grey, nst.recipes.TF)
      >>> targets.style["relu2_1"].shape
      (128, 128)
    """
    _check_arguments("measure(params, content, style, recipe)", params, recipe)
    styles: Sequence[Any] = style if isinstance(style, (list, tuple)) else [style]
    for name, picture in (("content", content), *(("style", each) for each in styles)):
        _checks.array(name, picture, "the order is measure(params, content, style, recipe)")
    check_styles(recipe.terms, len(styles))
    return Targets(
        content=measure_content(params, content, recipe),
        style=blend(
            [measure_style(params, one, recipe) for one in styles], recipe.terms.style_shares
        ),
    )


def measure_content(params: Params, content: Image, recipe: Recipe) -> Features:
    """Measure the content's features [h', w', c] at the recipe's content taps."""
    taps, network, rows = recipe.terms.content_taps, recipe.network, recipe.rows
    # Cut as the canvas is cut that is compared with it, which is looked at more deeply.
    cut_for = taps if rows is None else recipe.terms.taps
    grid = tiles.grid_of((content.shape[0], content.shape[1]), cut_for, network, rows)
    if grid is None:
        return vgg.features(params, content, taps, network=network)

    def assembled(params: Params, content: Image) -> Features:
        def of_tile(index: Index) -> Features:
            window = tiles.window(content, grid, index)
            return vgg.features(params, window, taps, network=network)

        return tiles.assembled(grid, of_tile)

    if rows is None:
        return assembled(params, content)

    def of_device(params: Params, content: Image) -> Features:
        return assembled(params, tiles.band_of(content, grid))

    return sharding.by_rows(of_device, rows, (False, False), split_out=True)(params, content)


def measure_style(params: Params, style: StyleImage, recipe: Recipe) -> dict[str, Statistic]:
    """Measure the style's statistics at the recipe's style taps."""
    terms, network = recipe.terms, recipe.network
    loss, products = terms.style_loss, network.precision.products
    shape = (style.shape[0], style.shape[1])
    rows = recipe.rows and tiles.rows_of(recipe.rows.mesh, shape, network)
    grid = tiles.grid_of(shape, terms.style_taps, network, rows)
    if grid is None:
        found = vgg.features(params, style, terms.style_taps, network=network)
        return {tap: loss.measure(found[tap], products) for tap in terms.style_taps}

    def summed(params: Params, style: StyleImage) -> dict[str, Any]:
        def of_tile(index: Index) -> dict[str, Any]:
            window = tiles.window(style, grid, index)
            found = vgg.features(params, window, terms.style_taps, network=network)
            return {
                tap: loss.sums(tiles.core(found[tap], grid, index, tap), products)
                for tap in terms.style_taps
            }

        return tiles.summed(grid, of_tile)

    def of_device(params: Params, style: StyleImage) -> dict[str, Any]:
        sums = summed(params, tiles.band_of(style, grid))
        return jax.tree.map(lambda x: lax.psum(x, sharding.ROWS), sums)

    whole = (
        summed
        if rows is None
        else sharding.by_rows(of_device, rows, (False, False), split_out=False)
    )
    sums = whole(params, style)
    return {tap: loss.statistic(sums[tap], grid.positions(tap)) for tap in terms.style_taps}


def blend(statistics: Sequence[Any], shares: Sequence[Scalar | float]) -> Any:
    """Average what was measured of several styles.

    A loss that is a square distance has the same gradient towards this average as the average of the
    losses towards each style; its value is smaller by how far the styles are from one another.

    Args:
      statistics: one of each style.
      shares: how much each counts, of any sum; a single one stands for as many alike.

    Returns:
      A statistic of the same kind; that of a single style is left as it is.

    References:
      jcjohnson/neural-style and neural-style-pt, `style_blend_weights`.
    """
    if len(statistics) == 1:
        return statistics[0]
    if len(shares) == 1:
        shares = [1.0] * len(statistics)
    weights = [share / sum(shares) for share in shares]
    return jax.tree.map(
        lambda *parts: sum(weight * part for weight, part in zip(weights, parts, strict=True)),
        *statistics,
    )


def _check_arguments(order: str, params: Any, recipe: Any) -> None:
    """Refuse other types than declared, with the order of arguments; and tiles that cannot be."""
    advice = f"the order is {order}"
    _checks.instance("params", params, Params, f"`nst_jax.load_params()` gives them; {advice}")
    _checks.instance("recipe", recipe, Recipe, f"`nst_jax.recipes` has some; {advice}")
    check_not_cut(recipe)


class Sums(NamedTuple):
    """What the losses are made of: sums over a picture, or over a part of it."""

    taps: dict[str, tuple[Any, Any]]  # tap -> of the content loss, of the style loss
    variation: Any


def losses_of(params: Params, image: Image, targets: Targets, recipe: Recipe) -> Losses:
    """Compute the weighted losses of an image against targets.

    Traceable and differentiable; one image, batches are a `vmap`.

    Args:
      params: weights from `nst_jax.load_params`.
      image: [h, w, 3] in [0, 1], the size of the content that `targets` was measured on. Where
        `recipe.rows` lays it out over devices, with that padding.
      targets: from `measure`.
      recipe: taps, losses, weights and network settings. Where `network.tile` cuts the image, only
        the gradient to the image is defined.

    Returns:
      `Losses` of scalars: the style taps sum to `style`; content, style and tv to `total`.

    Raises:
      TypeError: for arguments of another type, such as swapped ones.
      ValueError: if the image and the content of `targets` differ in size, and for tiles with a loss
        that is not additive.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> params, grey = nst.load_params(), jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(params, grey, grey, nst.recipes.TF)
      >>> float(jax.jit(nst.losses_of)(params, grey, targets, nst.recipes.TF).total)
      0.0
    """
    order = "losses_of(params, image, targets, recipe)"
    _check_arguments(order, params, recipe)
    _checks.array("image", image, f"the order is {order}")
    _checks.instance("targets", targets, Targets, f"`measure` gives them; the order is {order}")
    terms, rows = recipe.terms, recipe.rows
    shape = (image.shape[-3] if rows is None else rows.height, image.shape[-2])
    sought = _sought(terms, recipe.network)
    extents = {tap: _extent(shape, tap, recipe.network) for tap in terms.taps}
    grid = tiles.grid_of(shape, terms.taps, recipe.network, rows)
    _check_sizes(targets.content, extents, grid)
    if grid is None:
        sums = _sums(sought, params, image, targets.content)
    elif rows is None:
        sums = _tiled_sums((sought, grid), params, image, targets.content)
    else:
        of_device = partial(_device_sums, sought, grid)
        split = sharding.by_rows(of_device, rows, (False, True, True), split_out=False)
        sums = split(params, image, targets.content)
    return _weighted(sums, extents, shape, targets, terms)


class Sought(NamedTuple):
    """What is summed up over a picture. Static."""

    content_taps: tuple[str, ...]
    style_taps: tuple[str, ...]
    content_loss: ContentLoss
    style_loss: StyleLoss
    variation: Variation
    network: vgg.Network


def _sought(terms: Terms, network: vgg.Network) -> Sought:
    return Sought(
        terms.content_taps,
        terms.style_taps,
        terms.content_loss,
        terms.style_loss,
        terms.variation,
        network,
    )


class _Lattice(NamedTuple):
    """How many positions a tap has. Static."""

    height: int
    width: int
    channels: int
    pixels: int

    @property
    def positions(self) -> int:
        return self.height * self.width


def _extent(shape: tuple[int, int], tap: str, network: vgg.Network) -> _Lattice:
    layer = vgg.layer_of(tap)
    height, width = (vgg.halved(side, vgg.halvings(layer), network.ceil) for side in shape)
    return _Lattice(height, width, vgg.LAYERS[layer][1], shape[0] * shape[1])


def _check_sizes(content: Features, extents: dict[str, _Lattice], grid: Grid | None) -> None:
    for tap, features in content.items():
        wanted = extents[tap][:2] if grid is None else tiles.kept_shape(grid, tap)
        if features.shape != (*wanted, extents[tap].channels):
            raise ValueError(
                f"`image`: its {tap} is {list(extents[tap][:3])}, that of the content which "
                f"`targets` was measured on {list(features.shape)}; sizes must agree"
            )


def _weighted(
    sums: Sums,
    extents: dict[str, _Lattice],
    shape: tuple[int, int],
    targets: Targets,
    terms: Terms,
) -> Losses:
    """Return the losses that sums over a whole picture mean."""
    contents = []
    for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True):
        count = extents[tap].positions * extents[tap].channels
        contents.append(weight * terms.content_loss.value(sums.taps[tap][0], count))
    layers = {}
    for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True):
        extent = Extent(extents[tap].positions, extents[tap].pixels)
        statistic = terms.style_loss.statistic(sums.taps[tap][1], extent.positions)
        distance = terms.style_loss.distance(statistic, targets.style[tap], extent)
        layers[tap] = terms.style_weight * weight * distance
    content = terms.content_weight * reduce(operator.add, contents)
    style = reduce(operator.add, layers.values())
    tv = terms.tv_weight * terms.variation.value(sums.variation, shape)
    return Losses(content + style + tv, content, style, tv, layers)


# --- Sums over a picture --------------------------------------------------------------------------

Region: TypeAlias = Callable[[str, FeatureMap], FeatureMap]


def _whole(tap: str, features: FeatureMap) -> FeatureMap:
    del tap
    return features


def _sums(
    sought: Sought,
    params: Params,
    image: Image,
    content: Features,
    of_image: Region = _whole,
    of_content: Region = _whole,
    where: Mask = None,
) -> Sums:
    """Return the sums of a picture, or of what the regions leave of its features and pixels."""

    def measure(tap: str, found: FeatureMap) -> tuple[Any, Any]:
        found, content_sum, style_sums = of_image(tap, found), None, None
        if tap in sought.content_taps:
            target = of_content(tap, content[tap])
            content_sum = sought.content_loss.sums(
                at_least_float32(found), at_least_float32(target)
            )
        if tap in sought.style_taps:
            style_sums = sought.style_loss.sums(found, sought.network.precision.products)
        return content_sum, style_sums

    taps = dict.fromkeys((*sought.content_taps, *sought.style_taps))
    measures = {tap: partial(measure, tap) for tap in taps}
    found = vgg.measured(params, image, measures, network=sought.network)
    return Sums(found, sought.variation.sums(image, where))


def _window_sums(
    sought: Sought, grid: Grid, params: Params, content: Features, window: Image, index: Index
) -> Sums:
    return _sums(
        sought,
        params,
        window,
        content,
        lambda tap, features: tiles.core(features, grid, index, tap),
        lambda tap, features: tiles.part(features, grid, index, tap),
        tiles.own_pixels(grid, index),
    )


def _device_sums(
    sought: Sought, grid: Grid, params: Params, share: Image, content: Features
) -> Sums:
    """Return the sums of a whole picture, of which this device has some rows."""
    band = tiles.band(share, grid)
    if grid.own == 1:  # nothing to save: one pass does
        first = grid.first()
        sums = _window_sums(sought, grid, params, content, tiles.window(band, grid, first), first)
    else:
        sums = _tiled_sums((sought, grid), params, band, content)
    return jax.tree.map(lambda x: lax.psum(x, sharding.ROWS), sums)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _tiled_sums(cut: tuple[Sought, Grid], params: Params, image: Image, content: Features) -> Sums:
    """Return the sums of a picture, tile by tile; its gradient goes over the tiles again.

    Left to autodiff, the loop would keep the activations of all tiles.
    """
    sought, grid = cut

    def of_tile(index: Index) -> Sums:
        window = tiles.window(image, grid, index)
        return _window_sums(sought, grid, params, content, window, index)

    return tiles.summed(grid, of_tile)


def _tiled_forward(
    cut: tuple[Sought, Grid], params: Any, image: Any, content: Any
) -> tuple[Sums, tuple[Params, Image, Features]]:
    # Each leaf comes with whether a gradient to it is wanted.
    others = jax.tree.leaves((params, content), is_leaf=_is_primal)
    if any(leaf.perturbed for leaf in others):
        raise NotImplementedError(
            "`network.tile`: only the gradient to the image is there where an image is cut into "
            "tiles; take others with `tile=0`"
        )
    values = jax.tree.map(lambda leaf: leaf.value, (params, image, content), is_leaf=_is_primal)
    return _tiled_sums(cut, *values), values


def _is_primal(leaf: Any) -> bool:
    return hasattr(leaf, "perturbed")


def _tiled_backward(
    cut: tuple[Sought, Grid], saved: tuple[Params, Image, Features], cotangent: Any
) -> tuple[None, Image, None]:
    (sought, grid), (params, image, content) = cut, saved
    cotangent = jax.tree.map(
        lambda x: jnp.zeros(x.shape, x.dtype) if isinstance(x, SymbolicZero) else x,
        cotangent,
        is_leaf=lambda x: isinstance(x, SymbolicZero),
    )
    of_window = partial(_window_sums, sought, grid, params, content)
    return None, tiles.gradient(image, grid, of_window, cotangent), None


_tiled_sums.defvjp(_tiled_forward, _tiled_backward, symbolic_zeros=True)
