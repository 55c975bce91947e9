"""Sums over a picture tile by tile, and their gradient: exact, in the memory of a tile. Pure.

A picture is covered by cores of one size that do not overlap. Each core is computed inside a window
that reaches past it by a halo, so that each of its features sees what it sees in the whole picture.
Windows never reach past the picture: where one ends at the picture's border, that border is padded as
the network pads it, and so is nothing else that a core can see. All windows have one size, start on the
pooling grid, and the last of a row ends where the picture ends, odd sizes included.

Several devices that share a picture have as many rows of tiles each. A device then sees a band: its own
rows, and of its neighbours' what its windows reach of them.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from nst_jax import vgg
from nst_jax._types import FeatureMap, Image
from nst_jax.scaling.sharding import ROWS, AnyMesh, Rows, with_neighbours
from nst_jax.vgg.network import Network
from nst_jax.vgg.taps import halo_of

Index: TypeAlias = Int[Array, ""] | int

Window: TypeAlias = Float[Array, "h_window w_window 3"]

Share: TypeAlias = Float[Array, "h_share w 3"]

Band: TypeAlias = Float[Array, "h_band w 3"]

Part: TypeAlias = Float[Array, "h_core w_core c"]

Sums: TypeAlias = Any  # a pytree of what is summed over positions


@dataclass(frozen=True)
class Axis:
    """How one side of a picture is cut. Static."""

    side: int  # px of the picture
    core: int  # px of a core, a multiple of the grid; the last may have fewer
    window: int  # px of a window
    halo: int  # px

    @property
    def count(self) -> int:
        """Number of cores."""
        return -(-self.side // self.core)

    def origin(self, index: Index) -> Index:
        """Return where a window begins: on the grid, inside the picture."""
        return jnp.clip(index * self.core - self.halo, 0, self.side - self.window)


@dataclass(frozen=True)
class Grid:
    """How a picture is cut. Static."""

    down: Axis
    across: Axis
    ceil: bool  # whether pooling keeps an odd last line
    rows: Rows | None = None  # how the picture lies over several devices

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.down.count * self.across.count

    @property
    def own(self) -> int:
        """Number of tiles that a device goes through; the last devices' may lie below the picture."""
        if self.rows is None:
            return self.count
        return self.rows.share // self.down.core * self.across.count

    @property
    def reach(self) -> tuple[int, int]:
        """How many rows a device's windows reach above and below its own at most, px."""
        if self.rows is None:
            return 0, 0
        each = self.rows.share // self.down.core
        above = below = 0
        for row in range(self.down.count):
            top = row // each * self.rows.share
            origin = min(
                max(row * self.down.core - self.down.halo, 0), self.down.side - self.down.window
            )
            above = max(above, top - origin)
            below = max(below, origin + self.down.window - (top + self.rows.share))
        return above, below

    def first(self) -> Index:
        """Return the first of a device's tiles; on several, each has its own."""
        return 0 if self.rows is None else _device() * self.own

    def top(self) -> Index:
        """Return which row of the picture a device's band begins with."""
        if self.rows is None:
            return 0
        return _device() * self.rows.share - self.reach[0]

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) that the network sees at a time."""
        return self.down.window, self.across.window

    def shape(self, tap: str) -> tuple[int, int]:
        """Return the (height, width) of the whole picture's features."""
        times = vgg.halvings(vgg.layer_of(tap))
        return (
            vgg.halved(self.down.side, times, self.ceil),
            vgg.halved(self.across.side, times, self.ceil),
        )

    def positions(self, tap: str) -> int:
        """Return how many positions the whole picture's features have."""
        height, width = self.shape(tap)
        return height * width

    def place(self, index: Index) -> tuple[Index, Index]:
        """Return the row and column of a tile."""
        return index // self.across.count, index % self.across.count


def _device() -> Int[Array, ""]:
    """Return which of a picture's devices this is, as other indices are typed."""
    return lax.axis_index(ROWS).astype(int)


def grid_of(
    shape: tuple[int, int], taps: Iterable[str], network: Network, rows: Rows | None = None
) -> Grid | None:
    """Return how a picture of (height, width) is cut; None if the network looks at it whole.

    Args:
      shape: of the picture.
      taps: whatever is looked at.
      network: whose `tile` counts.
      rows: how the picture lies over several devices.

    Returns:
      A grid, or None.
    """
    if rows is not None:
        return _grid_of_rows(shape, taps, network, rows)
    if not network.tile or max(shape) <= network.tile:
        return None
    halo = halo_of(taps)
    down, across = (_axis(side, network.tile, halo) for side in shape)
    return None if (down.window, across.window) == shape else Grid(down, across, network.ceil)


def _grid_of_rows(
    shape: tuple[int, int], taps: Iterable[str], network: Network, rows: Rows
) -> Grid:
    height, width = shape
    halo, tile = halo_of(taps), network.tile or 0
    across = _axis(width, tile or width, halo)
    core = rows.share // (-(-rows.share // tile) if tile else 1)
    return Grid(_cut(height, core, halo), across, network.ceil, rows)


def rows_of(mesh: AnyMesh, shape: tuple[int, int], network: Network) -> Rows:
    """Return how a picture of (height, width) lies over the devices of a mesh with the axis `ROWS`.

    Each has as many rows of tiles as the others, and all tiles as many rows of pixels.
    """
    height, count = shape[0], int(mesh.shape[ROWS])
    each = -(-height // (count * network.tile)) if network.tile else 1
    core = _on_grid(-(-height // (count * each)))
    return Rows(mesh, height, each * core)


def window_of(
    shape: tuple[int, int], taps: Iterable[str], network: Network, rows: Rows | None = None
) -> tuple[int, int]:
    """Return the (height, width) that the network sees at a time: of a window, or of the picture."""
    grid = grid_of(shape, taps, network, rows)
    return shape if grid is None else grid.window


def _axis(side: int, tile: int, halo: int) -> Axis:
    """Cut a side into the fewest cores of one size.

    No window is then wider than a tile with its halo on both sides, and what the grid adds. Two cores
    have the halo on one side each, so they may be the wider for it.
    """
    if side < tile + 2 * halo + vgg.SMALLEST:
        return Axis(side, _on_grid(side), side, halo)
    two = _on_grid(-(-side // 2))
    if two <= tile + halo:
        return _cut(side, two, halo)
    return _cut(side, _on_grid(-(-side // -(-side // tile))), halo)


def _cut(side: int, core: int, halo: int) -> Axis:
    """Cut a side into cores of this size."""
    # The first and the last window end with the picture: where there are no others, a halo on one side
    # is enough.
    wide = core + (halo if side <= 2 * core else 2 * halo)
    # As much wider than needed as makes the last window end with the picture, on the grid.
    window = side - max(side - wide, 0) // vgg.SMALLEST * vgg.SMALLEST
    return Axis(side, core, window, halo)


def _on_grid(side: int) -> int:
    return -(-side // vgg.SMALLEST) * vgg.SMALLEST


# --- One tile -------------------------------------------------------------------------------------


class Crop(NamedTuple):
    """Where a core's features lie along one axis."""

    start: Index  # in the features of the whole picture
    inside: Index  # in those of the window
    length: int
    owned: Bool[
        Array, " length"
    ]  # the last core has fewer, and shares the rest with the one before


def _crop(axis: Axis, index: Index, halvings: int, ceil: bool) -> Crop:
    stride = 2**halvings
    lines = vgg.halved(axis.side, halvings, ceil)
    length = min(axis.core // stride, lines)
    first = index * (axis.core // stride)
    start = jnp.minimum(first, lines - length)
    inside = start - axis.origin(index) // stride
    return Crop(start, inside, length, start + jnp.arange(length) >= first)


def _crops(grid: Grid, index: Index, tap: str) -> tuple[Crop, Crop]:
    halvings = vgg.halvings(vgg.layer_of(tap))
    row, column = grid.place(index)
    return (
        _crop(grid.down, row, halvings, grid.ceil),
        _crop(grid.across, column, halvings, grid.ceil),
    )


def window(image: Image, grid: Grid, index: Index) -> Window:
    """Return the pixels [h, w, 3] of a tile's window, of a picture or of a device's band."""
    return lax.dynamic_slice(image, _origin(grid, index), (*grid.window, image.shape[-1]))


def _origin(grid: Grid, index: Index) -> tuple[Index, Index, int]:
    row, column = grid.place(index)
    down = grid.down.origin(row) - grid.top()
    # Not below 0, which would count from the end: tiles below the picture may lie anywhere.
    return jnp.maximum(down, 0), grid.across.origin(column), 0


def own_pixels(grid: Grid, index: Index) -> Bool[Array, "h_window w_window"]:
    """Return which pixels of a tile's window are its core's."""
    row, column = grid.place(index)
    down, across = _own_lines(grid.down, row), _own_lines(grid.across, column)
    return down[:, None] & across[None, :]


def _own_lines(axis: Axis, index: Index) -> Bool[Array, " lines"]:
    line = axis.origin(index) + jnp.arange(axis.window)
    return (line >= index * axis.core) & (line < (index + 1) * axis.core)


def core(features: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Return a core's own part of its window's features; what it shares is zero."""
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, features.shape[-1])
    part = lax.dynamic_slice(features, (down.inside, across.inside, 0), shape)
    return _only_owned(part, down, across)


def part(kept: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Return a core's own part of features that `assembled` put together; what it shares is zero."""
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, kept.shape[-1])
    at = _place_in_kept(grid, index, down, across)
    return _only_owned(lax.dynamic_slice(kept, at, shape), down, across)


def _place_in_kept(grid: Grid, index: Index, down: Crop, across: Crop) -> tuple[Index, Index, int]:
    """Return where a core's part begins in features that were put together."""
    if grid.rows is None:
        return down.start, across.start, 0
    row, column = grid.place(index - grid.first())
    return row * down.length, column * across.length, 0


def _only_owned(part: Part, down: Crop, across: Crop) -> Part:
    owned = down.owned[:, None, None] & across.owned[None, :, None]
    return jnp.where(owned, part, jnp.zeros_like(part))


# --- All tiles ------------------------------------------------------------------------------------


def summed(grid: Grid, of_tile: Callable[[Index], Sums]) -> Sums:
    """Return the sum over all tiles of what `of_tile` gives of each."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_tile, 0))

    def add(index: Index, total: Sums) -> Sums:
        return jax.tree.map(jnp.add, total, of_tile(index))

    return _over_tiles(grid, add, zeros)


def gradient(
    image: Image, grid: Grid, of_window: Callable[[Window, Index], Sums], cotangent: Sums
) -> Image:
    """Return the gradient to an image of what `summed` gives, for this cotangent of the sums.

    Args:
      image: [h, w, 3].
      grid: of it.
      of_window: what is summed, as a function of a window's pixels and the tile's index.
      cotangent: like the sums.

    Returns:
      [h, w, 3]: each tile's own share, added up where windows overlap.
    """

    def add(index: Index, total: Float[Array, "h w 3"]) -> Float[Array, "h w 3"]:
        _, pull = jax.vjp(lambda pixels: of_window(pixels, index), window(image, grid, index))
        (share,) = pull(cotangent)
        whole = window(total, grid, index) + share
        return lax.dynamic_update_slice(total, whole, _origin(grid, index))

    return _over_tiles(grid, add, jnp.zeros_like(image))


def _over_tiles(grid: Grid, body: Callable[[Index, Any], Any], start: Any) -> Any:
    """Go through all tiles, or through those of a device."""
    first = grid.first()
    return lax.fori_loop(0, grid.own, lambda index, total: body(first + index, total), start)


def kept_shape(grid: Grid, tap: str) -> tuple[int, int]:
    """Return the (height, width) of what `assembled` gives, of all devices together."""
    if grid.rows is None:
        return grid.shape(tap)
    halvings = vgg.halvings(vgg.layer_of(tap))
    down = _crop(grid.down, 0, halvings, grid.ceil).length
    across = _crop(grid.across, 0, halvings, grid.ceil).length
    tiles_down = grid.rows.padded // grid.down.core
    return tiles_down * down, grid.across.count * across


def assembled(
    grid: Grid, of_tile: Callable[[Index], dict[str, FeatureMap]]
) -> dict[str, FeatureMap]:
    """Return the features of a picture, put together from those of the windows, for `part` to cut.

    Args:
      grid: of the picture.
      of_tile: gives tap to features of a tile's window.

    Returns:
      Tap to features [h', w', c] of the whole picture; or, on each of several devices, those of its
      cores side by side, each with what it shares.
    """
    devices = 1 if grid.rows is None else grid.rows.count

    def empty(tap: str, features: Any) -> FeatureMap:
        height, width = kept_shape(grid, tap)
        return jnp.zeros((height // devices, width, features.shape[-1]), features.dtype)

    def put(index: Index, wholes: dict[str, FeatureMap]) -> dict[str, FeatureMap]:
        return {
            tap: _put(wholes[tap], found, grid, index, tap) for tap, found in of_tile(index).items()
        }

    found = jax.eval_shape(of_tile, 0)
    return _over_tiles(grid, put, {tap: empty(tap, found[tap]) for tap in found})


def _put(kept: FeatureMap, found: Any, grid: Grid, index: Index, tap: str) -> FeatureMap:
    # What neighbours share is written twice, both times with the same features.
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, found.shape[-1])
    part = lax.dynamic_slice(found, (down.inside, across.inside, 0), shape)
    return lax.dynamic_update_slice(kept, part, _place_in_kept(grid, index, down, across))


# --- Bands of devices -----------------------------------------------------------------------------


def band(share: Share, grid: Grid) -> Band:
    """Return what a device's windows see, of its own rows [share, w, 3]; the others give it theirs."""
    assert grid.rows is not None
    return with_neighbours(share, *grid.reach, grid.rows.count)


def band_of(picture: Image, grid: Grid) -> Band:
    """Return what a device's windows see, of a whole picture [h, w, 3] that every device has."""
    assert grid.rows is not None
    (above, below), rows = grid.reach, grid.rows
    edges = (above, rows.padded - rows.height + below)
    wide = jnp.pad(picture, (edges, (0, 0), (0, 0)))
    length = above + rows.share + below
    return lax.dynamic_slice_in_dim(wide, grid.top() + above, length, axis=0)
