"""One canvas (the picture being optimised) on several devices: each computes one horizontal band."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from nst_jax._types import Array, Shape
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.sharding import BANDS, PICTURES, AnyMesh, abstract_mesh, replicate, shard_map
from nst_jax.vgg import SMALLEST, Network
from nst_jax.vgg.taps import nearest_on_grid


@jax.tree_util.register_static
@dataclass(frozen=True)
class Bands:
    """How the rows of a canvas are distributed over the devices of a mesh.

    All bands have the same number of rows, a multiple of 16. So every band begins where windows of the
    first four poolings of VGG-19 begin; no loss reads features after the fifth. If the bands together
    are higher than the picture, rows of zeros below the picture fill them up; no loss reads these rows.
    The class is a pytree without leaves, so jitted functions treat it as static.

    Attributes:
      mesh: a mesh with the axis `BANDS`. For planning, an `AbstractMesh` with the same axis is enough.
      height: height of the picture, in px.
      band_height: number of rows of each band, in px.
    """

    mesh: AnyMesh
    height: int
    band_height: int

    @property
    def count(self) -> int:
        """Number of devices that share the picture."""
        return int(self.mesh.shape[BANDS])

    @property
    def padded_height(self) -> int:
        """Height of the canvas with the padding below it, in px."""
        return self.count * self.band_height


def bands_of(mesh: AnyMesh | None, shape: Shape, network: Network) -> Bands | None:
    """Return how a picture is cut into bands, one for each device; None if there are no bands.

    A band may itself be cut into tiles, which its device computes one after another. All bands have the
    same number of tiles one above the other, and all tiles have the same height.

    Args:
      mesh: the devices. Without a mesh, or with one that has no axis `BANDS`, there are no bands.
      shape: (height, width) of the picture.
      network: its `tile` is the largest height in px of a tile's core, that is, of a tile without the
        pixels around it on which its features depend. With 0 or None, a band is one tile.
    """
    if mesh is None or BANDS not in mesh.shape:
        return None
    height, count = shape[0], int(mesh.shape[BANDS])
    tiles_per_band = -(-height // (count * network.tile)) if network.tile else 1
    tile_height = -(-height // (count * tiles_per_band))
    on_grid = -(-tile_height // SMALLEST) * SMALLEST
    return Bands(mesh, height, tiles_per_band * on_grid)


def planned_bands(shape: Shape, recipe: Recipe, devices: int) -> Bands | None:
    """Return how a run on `devices` devices cuts a canvas into bands; None if it does not cut it."""
    return bands_of(abstract_mesh(devices), shape, recipe.network)


def check_bands(bands: Bands | None) -> None:
    """Refuse to cut a picture into bands for so many devices that one would have no row of it.

    Raises:
      ValueError: if there are too many devices; the message names the largest smaller number of devices
        that can be used.
    """
    if bands is None:
        return
    used = -(-bands.height // bands.band_height)
    argument = "bands" if PICTURES in bands.mesh.shape else "devices"
    if used < bands.count:
        raise ValueError(
            f"`{argument}`: {bands.count} are too many for a picture {bands.height} px high, which is "
            f"split into {used} bands of {bands.band_height} rows; take {used}"
        )


def check_bands_allowed(bands: Bands | None, recipe: Recipe) -> None:
    """Refuse to cut a canvas into bands if the recipe's losses cannot be computed band by band.

    Bands are parts of the canvas on several devices. If `bands` is None, nothing is refused.

    Raises:
      ValueError: if a loss is not a sum over positions; or if the padding wraps around (the top border
        meets the bottom one), there are several bands, and the height of the canvas is no multiple of
        16 px.
    """
    if bands is None:
        return
    terms = recipe.terms
    argument = "bands" if PICTURES in bands.mesh.shape else "devices"
    if recipe.network.wraps and bands.height % SMALLEST and bands.band_height < bands.height:
        raise ValueError(
            f"`{argument}`: where borders meet (`padding` wrap), several devices share only canvases "
            f"whose height is a multiple of {SMALLEST} px (four poolings), got {bands.height}; "
            f"{nearest_on_grid(bands.height)} is the nearest"
        )
    if terms.additive:
        return
    name = next(name for name, loss in terms.named_losses.items() if not loss.additive)
    raise ValueError(
        f"`{argument}`: `{name}` is not additive, so the bands of a picture cannot be computed "
        "separately; paint each picture on one device"
    )


# --- Arrays in bands ------------------------------------------------------------------------------


def with_padding(tree: Any, bands: Bands | None) -> Any:
    """Pad pictures with rows of zeros to bands of equal height, and shard the rows over the devices.

    Call it in a traced function.

    Args:
      tree: a pytree of arrays. Those of shape [..., bands.height, w, 3] count as pictures; arrays of
        other shapes are replicated.
      bands: how the pictures are cut into bands; with None, the tree is returned unchanged.
    """
    if bands is None:
        return tree

    def padded(x: Any) -> Any:
        if not _is_picture(x, bands.height):
            return x
        edges = [(0, 0)] * x.ndim
        edges[-3] = (0, bands.padded_height - bands.height)
        return jnp.pad(x, edges)

    return constrained(jax.tree.map(padded, tree), bands)


def without_padding(tree: Any, bands: Bands | None) -> Any:
    """Return a pytree of arrays without the rows of zeros that `with_padding` added to its pictures."""
    if bands is None:
        return tree
    return jax.tree.map(
        lambda x: x[..., : bands.height, :, :] if _is_picture(x, bands.padded_height) else x, tree
    )


def constrained(tree: Any, bands: Bands | None) -> Any:
    """Constrain the rows of padded pictures to be sharded over the devices, in a traced function.

    Args:
      tree: a pytree of arrays. Those of shape [..., padded_height, w, 3] count as pictures; arrays of
        other shapes are constrained to be replicated.
      bands: how the pictures are cut into bands; with None, the tree is returned unchanged.
    """
    if bands is None:
        return tree

    def constrain(x: Any) -> Any:
        whole = not _is_picture(x, bands.padded_height)
        spec = P() if whole else P(*[None] * (x.ndim - 3), BANDS)
        return lax.with_sharding_constraint(x, NamedSharding(bands.mesh, spec))

    return jax.tree.map(constrain, tree)


def distribute(tree: Any, bands: Bands | None) -> Any:
    """Pad pictures in a pytree to bands of equal height, and distribute their rows over the devices.

    Arrays [..., bands.height, w, 3] count as pictures; arrays of other shapes are replicated. If
    `bands` is None, the tree is returned unchanged. Call this function outside of functions that JAX
    traces; inside them, `with_padding` does the same.
    """
    if bands is None:
        return tree
    return _with_padding(replicate(tree, bands.mesh), bands)


_with_padding = jax.jit(with_padding)


def _is_picture(x: Any, height: int) -> bool:
    """Return whether an array is one or several pictures of this height: [..., height, w, 3]."""
    return x.ndim >= 3 and x.shape[-3] == height and x.shape[-1] == 3


# --- Functions on each device's band (`shard_map`) ------------------------------------------------


def with_neighbours(
    band: Array, above: int, below: int, count: int, *, around: bool = False
) -> Array:
    """Return a device's band together with rows of the bands above and below it.

    Rows above the first band and below the last one are zeros; or, if `around`, those of the last and
    of the first band, as if the bands formed a ring.

    Every device must make this call at the same time, inside a function given to `map_bands`. In the
    backward pass, the gradient of a fetched row goes back to the device that owns the row.

    Args:
      band: [rows, w, c], with the same number of rows on every device.
      above: number of rows to fetch from the devices above.
      below: number of rows to fetch from the devices below.
      count: number of devices.
      around: whether the first and the last band are neighbours.

    Returns:
      [above + rows + below, w, c].
    """
    rows = band.shape[0]

    def fetched(wanted: int, direction: int) -> list[Array]:
        """Return `wanted` rows from above (`direction` 1) or below (-1), one part per band.

        The part from the nearest band comes first.
        """
        parts = []
        for hop in range(1, -(-wanted // rows) + 1):
            lines = min(rows, wanted - (hop - 1) * rows)
            part = band[-lines:] if direction > 0 else band[:lines]
            pairs = [(i, i + direction * hop) for i in range(count)]
            if around:
                pairs = [(source, target % count) for source, target in pairs]
            pairs = [(source, target) for source, target in pairs if 0 <= target < count]
            parts.append(lax.ppermute(part, BANDS, pairs) if pairs else jnp.zeros_like(part))
        return parts

    return jnp.concatenate([*reversed(fetched(above, 1)), band, *fetched(below, -1)])


def with_neighbours_around(band: Array, above: int, below: int, bands: Bands) -> Array:
    """Return a device's band with rows above and below it, in a picture whose opposite borders meet.

    Above the first row of the picture come its last rows, and below the last row its first rows. The
    rows of zeros that pad the last band are left out.

    Every device must make this call at the same time, inside a function given to `map_bands`.

    Args:
      band: [rows, w, c], with the same number of rows on every device.
      above: number of rows to add above the band.
      below: number of rows to add below the band.
      bands: how the picture is cut into bands.

    Returns:
      [above + rows + below, w, c].
    """
    zeros = bands.padded_height - bands.height
    if not zeros:
        return with_neighbours(band, above, below, bands.count, around=True)
    # `around=True` makes the bands a ring, in which the first band follows the last. In the ring, the
    # rows of zeros lie between two copies of the picture. On the way to the farthest row that is needed
    # above the band, they occur at most `times_above` times; to the farthest below it, at most
    # `times_below` times. For each of these times, `zeros` further rows are fetched. `wanted`, the
    # indices of the returned rows in `ring`, skips the rows of zeros.
    times_above = -(-above // bands.height)
    times_below = (bands.padded_height + below - 1) // bands.height
    more = above + times_above * zeros
    ring = with_neighbours(band, more, below + times_below * zeros, bands.count, around=True)
    first = lax.axis_index(BANDS).astype(int) * bands.band_height
    lines = first - above + jnp.arange(above + bands.band_height + below)
    wanted = lines + lines // bands.height * zeros - (first - more)
    return ring.at[wanted].get(unique_indices=True, indices_are_sorted=True, mode="clip")


def map_bands(
    function: Callable[..., Any], bands: Bands, split: Sequence[bool], *, split_out: bool
) -> Callable[..., Any]:
    """Return a `shard_map` of `function`: every device that shares a picture calls it on its band.

    Args:
      function: a function of pytrees of arrays; it may call `with_neighbours` and sum over the axis
        `BANDS`.
      bands: how the picture is cut into bands.
      split: for each argument, whether the first axis of its arrays is distributed over the devices;
        if not, every device has the whole arrays.
      split_out: whether the first axis of the result's arrays is distributed over the devices.

    Returns:
      A function of the arrays of the whole picture, for use in a traced function.
    """
    specs = tuple(P(BANDS) if one else P() for one in split)
    out = P(BANDS) if split_out else P()
    return shard_map(function, mesh=bands.mesh, in_specs=specs, out_specs=out)
