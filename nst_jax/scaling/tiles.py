"""Sums over the features of a picture, and their gradient, computed tile by tile.

The results are those for the whole picture, but they need only the memory of one tile. `tile_grid` says
how the picture is cut into tiles: a tile is a core in a window that extends past the core by a halo.

If several devices share a picture, each device computes the same number of rows of tiles. It does that
on a slab: its own band (a horizontal part of the picture), and the rows of neighbouring bands that its
windows reach.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from nst_jax._types import FeatureMap, Features, Image, Resized
from nst_jax.scaling.bands import with_neighbours, with_neighbours_around
from nst_jax.scaling.tile_grid import Cut, Grid, Index
from nst_jax.vgg import halved, halvings, layer_of

# Pixels of a tile's window: the core, which is the part of the picture that belongs to this tile alone,
# and the pixels around it on which the core's features depend.
Window: TypeAlias = Float[Array, "h_window w_window 3"]
# Pixels of a device's band, the horizontal strip of a picture whose features the device computes.
Band: TypeAlias = Float[Array, "h_band w 3"]
# Pixels of a device's band, and of the rows and columns around it on which the band's features depend.
Slab: TypeAlias = Float[Array, "h_slab w_slab 3"]
# Features of a tile's core, the part of a picture that belongs to this tile alone.
Part: TypeAlias = Float[Array, "h_core w_core c"]
Sums: TypeAlias = Any  # a pytree of sums over positions (pixels of the feature maps)


# --- One tile -------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """Where the features of a tile's core are along one axis of an array; a line is a row or a column.

    The core is the part of the picture that belongs to this tile. The network computes it inside a
    window, which has further pixels around the core.
    """

    start: Index  # index of the first line that is read, in the features of the whole picture
    inside: Index  # index of the same line in the features that are computed for this tile
    length: int  # number of lines that are read, the same for all tiles
    # Which of the lines that are read count for this tile. If the last core has fewer lines than the
    # others, the lines before it are read too, so that there are `length` lines. These earlier lines
    # belong to the core before it, and are False here, so that no line counts twice.
    owned: Bool[Array, " length"]


def _crop(axis: Cut, index: Index, times: int, ceil: bool) -> Crop:
    """Return where the features of part number `index` of a picture are along one axis.

    The parts are the cores into which `axis` cuts the picture. The features are those after `times`
    poolings. `ceil` says whether pooling keeps the last line (row or column) of an odd number of lines.
    """
    stride = 2**times
    lines = halved(axis.side, times, ceil)
    length = min(axis.core // stride, lines)
    first = index * (axis.core // stride)
    start = jnp.minimum(first, lines - length)
    inside = start - axis.origin(index) // stride
    return Crop(start, inside, length, start + jnp.arange(length) >= first)


def _crops(grid: Grid, index: Index, tap: str) -> tuple[Crop, Crop]:
    """Return where the features of a tile's core are at a tap (layer), along the height and the width.

    Each `Crop` gives their place in the features of the whole picture, and in those computed for the
    tile, which include features of the pixels around the core.
    """
    times = halvings(layer_of(tap))
    row, column = grid.place(index)
    return _crop(grid.down, row, times, grid.ceil), _crop(grid.across, column, times, grid.ceil)


def surrounded(image: Image, grid: Grid) -> Resized:
    """Return a picture extended by pixels of its opposite borders, as far as windows reach beyond it.

    Windows reach beyond the borders only if the network's padding wraps around. If it does not, the
    picture is returned as it is.
    """
    down, across = grid.margins
    if not (down or across):
        return image
    return jnp.pad(image, ((down, down), (across, across), (0, 0)), mode="wrap")


def window(image: Image, grid: Grid, index: Index) -> Window:
    """Return the pixels [h, w, 3] of a tile's window: its core, and the halo around it.

    They are cut from `image`, which is either a picture that `surrounded` returned or a device's slab.
    A slab is the part of the picture whose features the device computes, with the pixels around it.
    """
    return lax.dynamic_slice(image, _origin(grid, index), (*grid.window, image.shape[-1]))


def _origin(grid: Grid, index: Index) -> tuple[Index, Index, int]:
    """Return the (row, column, channel) at which a tile's window begins in an array.

    The array is one that `surrounded`, `slab` or `slab_of` returned.
    """
    row, column = grid.place(index)
    down = grid.down.origin(row) - grid.top()
    # Each device computes a band of rows. All bands have the same height, so the last one may have
    # tiles below the picture. `Cut.origin` moves the windows of such tiles up into the picture, perhaps
    # to rows above those that this device has (its slab). Then `down` is negative. A negative index
    # would count from the end of the array, so 0 replaces it. That changes no result, since tiles below
    # the picture contribute nothing to any sum.
    return jnp.maximum(down, 0), grid.across.origin(column) + grid.margins[1], 0


def own_pixels(grid: Grid, index: Index) -> Bool[Array, "h_window w_window"]:
    """Return which pixels of a tile's window belong to its core, and not to the halo around it."""
    row, column = grid.place(index)
    down, across = _own_lines(grid.down, row), _own_lines(grid.across, column)
    return down[:, None] & across[None, :]


def _own_lines(axis: Cut, index: Index) -> Bool[Array, " lines"]:
    """Return which lines (rows or columns) of window number `index` belong to its core.

    The cores divide the side without overlap. The other lines of a window are its halo: pixels around
    the core on which the core's features depend.
    """
    line = axis.origin(index) + jnp.arange(axis.window)
    own = (line >= index * axis.core) & (line < (index + 1) * axis.core)
    return own & (line < axis.side) if axis.wraps else own


def core(features: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Cut the features of a tile's core out of those computed for its window, [h', w', c].

    The window is the core and the pixels around it. The last core of a row or column of cores may be
    smaller. Since one compiled program cuts all cores, as many features are returned for it as for the
    others. The first of these may belong to the core before it; if so, they are set to zero, so that no
    position counts twice in a sum.

    Args:
      features: the features of the window at the tap.
      grid: how the picture is cut.
      index: number of the tile.
      tap: name of the tap (layer) at which the features are.
    """
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, features.shape[-1])
    part = lax.dynamic_slice(features, (down.inside, across.inside, 0), shape)
    return _only_owned(part, down, across)


def part(whole: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Cut a tile's features out of the features of the whole picture that `assembled` returned.

    Equally many positions are returned for every tile. If the core of the last tile of a row or column
    is smaller than the others, the first of its positions belong to the tile before it. They are set to
    zero, so that no position counts twice in a sum.

    Args:
      whole: what `assembled` returned for the tap; with several devices, the part on this device.
      grid: how the picture is cut.
      index: number of the tile.
      tap: name of the tap (layer) at which the features are.
    """
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, whole.shape[-1])
    at = _place_in_assembled(grid, index, down, across)
    return _only_owned(lax.dynamic_slice(whole, at, shape), down, across)


def part_of_whole(whole: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Cut a tile's part out of an array for the whole picture, such as masks of its features.

    Equally many positions are returned for every tile. If the core of the last tile of a row or column
    is smaller than the others, the first of its positions belong to the tile before it. They are set to
    zero, so that no position counts twice in a sum. Every device must have the whole array; the
    function `part` is for arrays that are distributed over devices.

    Args:
      whole: [h', w', n]; h' and w' are the height and width of the whole picture's features at the tap.
      grid: how the picture is cut.
      index: number of the tile.
      tap: name of the tap (layer) at which the features are.
    """
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, whole.shape[-1])
    return _only_owned(lax.dynamic_slice(whole, (down.start, across.start, 0), shape), down, across)


def _place_in_assembled(
    grid: Grid, index: Index, down: Crop, across: Crop
) -> tuple[Index, Index, int]:
    """Return the index at which a tile's features begin in the array that `assembled` makes.

    On one device, that array has the features of the whole picture, where those of neighbouring tiles
    may overlap. With several devices, each has an array of the features of its own tiles only, which
    lie side by side without overlap.
    """
    if grid.bands is None:
        return down.start, across.start, 0
    row, column = grid.place(index - grid.first())
    return row * down.length, column * across.length, 0


def _only_owned(part: Part, down: Crop, across: Crop) -> Part:
    """Return a tile's features, set to zero at positions that belong to a tile before it.

    The last tile of a row of tiles may contain positions that belong to the tile at its left, and the
    last tile of a column positions that belong to the tile above it. With zeros there, no position of
    the picture's features counts twice in a sum over all tiles.
    """
    owned = down.owned[:, None, None] & across.owned[None, :, None]
    return jnp.where(owned, part, jnp.zeros_like(part))


# --- All tiles ------------------------------------------------------------------------------------


def summed(grid: Grid, of_tile: Callable[[Index], Sums]) -> Sums:
    """Return the sum of `of_tile(index)` over all tiles that this device computes.

    Args:
      grid: how the picture is cut.
      of_tile: index of a tile -> the sums over the features that belong to this tile.
    """
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_tile, 0))

    def add(index: Index, total: Sums) -> Sums:
        return jax.tree.map(jnp.add, total, of_tile(index))

    return _over_tiles(grid, add, zeros)


def gradient(
    image: Image, grid: Grid, of_window: Callable[[Window, Index], Sums], cotangent: Sums
) -> Image:
    """Return the gradient of a loss with respect to an image, from its gradient with respect to sums.

    The sums are those over the tiles that this device computes.

    Args:
      image: [h, w, 3], from which the windows (each tile's pixels and those around them) are cut.
      grid: how the picture is cut.
      of_window: the sums of one tile, as a function of its window's pixels and its index.
      cotangent: the gradient of the loss with respect to the sums, a pytree like the sums.

    Returns:
      [h, w, 3]: the gradients of these tiles, added up where windows overlap.
    """

    def add(index: Index, total: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
        _, pull = jax.vjp(lambda pixels: of_window(pixels, index), window(image, grid, index))
        (of_tile,) = pull(cotangent)
        new = window(total, grid, index) + of_tile
        return lax.dynamic_update_slice(total, new, _origin(grid, index))

    return _over_tiles(grid, add, jnp.zeros_like(image))


def summed_with_gradient(
    image: Image, grid: Grid, of_window: Callable[[Window, Index], Sums], cotangent: Sums
) -> tuple[Sums, Image]:
    """Return the sums over the tiles and their gradient, and compute each tile only once.

    `summed` and `gradient` together return the same, but compute each tile twice. To compute it once,
    the cotangent of the sums must be known before the sums are. It is known if the loss is linear in
    the sums: then the cotangent does not depend on them.

    Args:
      image: [h, w, 3], from which the windows (each tile's pixels and those around them) are cut.
      grid: how the picture is cut.
      of_window: the sums of one tile, as a function of its window's pixels and its index.
      cotangent: the cotangent of the sums, a pytree like the sums.

    Returns:
      The sums over the tiles that this device computes, and their gradient [h, w, 3] with respect to
      the image.
    """

    def add(index: Index, total: tuple[Sums, Image]) -> tuple[Sums, Image]:
        sums, whole = total
        found, pull = jax.vjp(lambda pixels: of_window(pixels, index), window(image, grid, index))
        (of_tile,) = pull(cotangent)
        new = window(whole, grid, index) + of_tile
        whole = lax.dynamic_update_slice(whole, new, _origin(grid, index))
        return jax.tree.map(jnp.add, sums, found), whole

    nothing = jax.tree.map(jnp.zeros_like, cotangent)
    return _over_tiles(grid, add, (nothing, jnp.zeros_like(image)))


def _over_tiles(grid: Grid, body: Callable[[Index, Any], Any], start: Any) -> Any:
    """Return the last total of a loop over the tiles that this device computes.

    The loop begins with the total `start`; for each tile, `body(index, total)` returns the next total.
    """
    first = grid.first()
    return lax.fori_loop(
        0, grid.count_per_device, lambda index, total: body(first + index, total), start
    )


def assembled_shape(grid: Grid, tap: str) -> tuple[int, int]:
    """Return the (height, width) of the features that `assembled` returns on all devices together.

    On one device, these are the features of the whole picture. With several devices, the features of
    all tiles lie beside and below each other. Each tile then takes equally many positions, even if some
    of them belong to the tile before it, or the tile is below the picture.
    """
    if grid.bands is None:
        return grid.shape(tap)
    times = halvings(layer_of(tap))
    down = _crop(grid.down, 0, times, grid.ceil).length
    across = _crop(grid.across, 0, times, grid.ceil).length
    tiles_down = grid.bands.padded_height // grid.down.core
    return tiles_down * down, grid.across.count * across


def assembled(grid: Grid, of_tile: Callable[[Index], Features]) -> Features:
    """Compute the features of a whole picture tile by tile, and put them together.

    Only the features of each tile's core are kept. The function `part` cuts those of one tile out of
    the result.

    Args:
      grid: how the picture is cut.
      of_tile: maps the index of a tile to a dictionary: name of a tap (layer) -> the features of the
        tile's window (its core and the pixels around it).

    Returns:
      A dictionary: name of a tap -> features. On one device, they are the features [h', w', c] of the
      whole picture. With several devices, each device returns an array in which the features of its own
      tiles lie side by side. Together, these arrays have the (height, width) of `assembled_shape`. Each
      tile has equally many positions in them. If the core of the last tile of a row or column is
      smaller, its positions begin with a repetition of features of the tile before it.
    """
    devices = 1 if grid.bands is None else grid.bands.count

    def empty(tap: str, features: Any) -> FeatureMap:
        height, width = assembled_shape(grid, tap)
        return jnp.zeros((height // devices, width, features.shape[-1]), features.dtype)

    def put(index: Index, wholes: Features) -> Features:
        return {
            tap: _put(wholes[tap], found, grid, index, tap) for tap, found in of_tile(index).items()
        }

    found = jax.eval_shape(of_tile, 0)
    return _over_tiles(grid, put, {tap: empty(tap, found[tap]) for tap in found})


def _put(whole: FeatureMap, found: Any, grid: Grid, index: Index, tap: str) -> FeatureMap:
    """Return the features of the picture with those of one tile written into them."""
    # Every tile gives the same number of features. The last tile of a row or column may give some that
    # are features of the tile before it, too. These are written more than once, each time with the
    # same values.
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, found.shape[-1])
    part = lax.dynamic_slice(found, (down.inside, across.inside, 0), shape)
    return lax.dynamic_update_slice(whole, part, _place_in_assembled(grid, index, down, across))


# --- Slabs of devices -----------------------------------------------------------------------------


def slab(band: Band, grid: Grid) -> Slab:
    """Return this device's slab: its band of the picture, and the rows around it that windows reach.

    The features of the band depend on these rows. The devices exchange the rows, so all devices must
    make this call, inside a function given to `bands.map_bands`. If windows extend beyond the border of
    the picture, the rows above the first band are the last ones of the picture, those below the last
    band are the first ones, and columns of the opposite border are added at the left and right.
    """
    assert grid.bands is not None
    if not grid.down.wraps:
        rows = with_neighbours(band, *grid.reach, grid.bands.count)
    else:
        rows = with_neighbours_around(band, *grid.reach, grid.bands)
    return _with_columns(rows, grid)


def slab_of(picture: Image, grid: Grid) -> Slab:
    """Cut this device's slab (its band with the rows around it) out of the whole picture."""
    assert grid.bands is not None
    (above, below), bands = grid.reach, grid.bands
    length = above + bands.band_height + below
    if grid.down.wraps:
        lines = (grid.top() + jnp.arange(length)) % bands.height
        return _with_columns(jnp.take(picture, lines, axis=0), grid)
    edges = (above, bands.padded_height - bands.height + below)
    wide = jnp.pad(picture, (edges, (0, 0), (0, 0)))
    rows = lax.dynamic_slice_in_dim(wide, grid.top() + above, length, axis=0)
    return _with_columns(rows, grid)


def _with_columns(rows: Image, grid: Grid) -> Slab:
    """Extend rows of a picture, at both ends, by the columns that lie at the opposite border.

    The rows are extended as far as windows reach beyond the picture's borders. Windows reach beyond the
    borders only if the network's padding wraps around; otherwise the rows are returned as they are.
    """
    across = grid.margins[1]
    if not across:
        return rows
    return jnp.pad(rows, ((0, 0), (across, across), (0, 0)), mode="wrap")
