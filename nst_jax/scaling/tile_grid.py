"""How a picture is cut into tiles: by its shape, the layers that losses read, network and devices.

The picture is divided into cores of equal size (the last may be smaller). Each core is computed inside
a window that extends past the core by a halo; a core and its window make a tile. The halo is so wide
that the core's features depend on the same pixels as in the whole picture. A window usually does not
extend past the picture: at the picture's border the network pads it as it would pad the picture, and
the window's other borders are too far away to change features of the core. All windows have equal size
and begin at a multiple of 16 px, where a pooled block of each of the four poolings begins. The last
window of a row or column ends where the picture ends. So if a side is odd, poolings treat its last line
as in the whole picture.

But if the network's padding wraps around (`wrap_padded`), windows do extend past the picture, and their
pixels there are those at the opposite border. Then all windows have a halo on both sides, and the
network's own padding of a window changes only features of the halo. Features of all depths continue at
the opposite border only if the side is a multiple of 16 px. A side of another length is not cut: its
windows are as long as the picture, and the network itself wraps around.

If several devices share a picture, each computes the same number of rows of tiles.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.bands import Bands, planned_bands
from nst_jax.scaling.sharding import BANDS
from nst_jax.vgg import SMALLEST, Network, feature_shape
from nst_jax.vgg.taps import halo_of, nearest_on_grid

# An index, which may be traced: of a tile (tiles are counted row by row), of a row or column of tiles,
# or of a row or column of pixels or features.
Index: TypeAlias = Int[Array, ""] | int


@dataclass(frozen=True)
class Cut:
    """How one side of a picture is cut into parts (cores), each inside a window.

    The network computes the features of a core from its window, which extends past the core by a halo:
    the pixels outside the core on which its features depend. The numbers are static, never traced.
    """

    side: int  # length of the side, px
    core: int  # length of a core, px, a multiple of 16; the last core may be shorter
    window: int  # length of a window, px
    # Smallest number of px by which a window extends past its core, except at the picture's border.
    halo: int
    # Whether windows extend beyond the picture's border, to the pixels at the opposite border.
    wraps: bool = False

    @property
    def count(self) -> int:
        """Number of parts (cores) into which the side is cut."""
        return -(-self.side // self.core)

    @property
    def origins(self) -> tuple[int, int]:
        """Smallest and largest index of the first pixel of a window, both multiples of 16.

        `origin` clips to this range: a window that would reach beyond the picture is moved so that it
        lies inside. If windows extend beyond the border (`wraps`), it is only moved so that its core
        lies inside.
        """
        if self.wraps:
            return -self.halo, self.side - self.core - self.halo
        return 0, self.side - self.window

    def origin(self, index: Index) -> Index:
        """Return the row or column at which window number `index` begins, a multiple of 16.

        With `wraps`, the first windows begin above or left of the picture; the result is then negative.
        """
        return jnp.clip(index * self.core - self.halo, *self.origins)


@dataclass(frozen=True)
class Grid:
    """How a picture is cut into tiles. No number here is traced.

    A tile is a core, the part of the picture that belongs to this tile alone, in a window: the core and
    the pixels around it on which its features depend.
    """

    down: Cut  # how the height is cut
    across: Cut  # how the width is cut
    ceil: bool  # whether pooling keeps the last row and column of an odd size
    bands: Bands | None = None  # how the picture is divided among devices; None is one device

    @property
    def count(self) -> int:
        """Number of tiles of the picture."""
        return self.down.count * self.across.count

    @property
    def count_per_device(self) -> int:
        """Number of tiles that each device computes.

        If several devices share a picture, each computes a band (a horizontal strip). Rows are added
        below the picture so that all bands have the same height. Tiles in these rows are counted, too.
        """
        if self.bands is None:
            return self.count
        return self.bands.band_height // self.down.core * self.across.count

    @property
    def reach(self) -> tuple[int, int]:
        """Largest numbers of pixel rows that a device needs above and below its band.

        A band is the horizontal strip of the picture that a device computes. The windows of its tiles
        extend into the neighbouring bands.
        """
        if self.bands is None:
            return 0, 0
        rows_per_device = self.bands.band_height // self.down.core
        above = below = 0
        for row in range(self.down.count):
            top = row // rows_per_device * self.bands.band_height
            lowest, highest = self.down.origins
            origin = min(max(row * self.down.core - self.down.halo, lowest), highest)
            above = max(above, top - origin)
            below = max(below, origin + self.down.window - (top + self.bands.band_height))
        return above, below

    def first(self) -> Index:
        """Return the index of the first tile that this device computes."""
        return 0 if self.bands is None else _device_index() * self.count_per_device

    def top(self) -> Index:
        """Return the row of the picture at which this device's slab begins.

        A slab is a device's band (the horizontal strip of the picture that the device computes), and
        the rows above and below on which the band's features depend. On one device, the slab is what
        `tiles.surrounded` returns: the picture, extended beyond its borders as far as windows reach.
        The row is negative if the slab begins above the picture.
        """
        if self.bands is None:
            return -self.margins[0]
        return _device_index() * self.bands.band_height - self.reach[0]

    @property
    def margins(self) -> tuple[int, int]:
        """Rows and columns of pixels by which windows extend beyond the picture's borders.

        They are 0 unless the padding wraps around: only then do windows extend beyond a border.
        """
        down, across = (axis.halo if axis.wraps else 0 for axis in (self.down, self.across))
        return down, across

    @property
    def window(self) -> tuple[int, int]:
        """(height, width) of a window: the pixels that the network processes at once."""
        return self.down.window, self.across.window

    def shape(self, tap: str) -> tuple[int, int]:
        """Return the (height, width) of the whole picture's features at a tap (layer)."""
        return feature_shape(tap, self.down.side, self.across.side, self.ceil)

    def positions(self, tap: str) -> int:
        """Return the height times the width of the whole picture's features at a tap (layer)."""
        height, width = self.shape(tap)
        return height * width

    def place(self, index: Index) -> tuple[Index, Index]:
        """Return the row and column of tile number `index` in the grid of tiles."""
        return index // self.across.count, index % self.across.count


def _device_index() -> Int[Array, ""]:
    """Return the index of this device among those that share the picture.

    `lax.axis_index` always returns int32. The result has JAX's default integer type, as other indices
    have, which is int64 if JAX's 64-bit types are enabled.
    """
    return lax.axis_index(BANDS).astype(int)


def grid_of(
    shape: tuple[int, int], taps: Iterable[str], network: Network, bands: Bands | None = None
) -> Grid | None:
    """Return how a picture is cut into tiles; None if the network computes the picture as a whole.

    Args:
      shape: (height, width) of the picture.
      taps: all taps (layers) that the losses read. The deepest tap determines the halo: the pixels
        around a tile's core on which the features of the core depend. (A core is the part of the
        picture that belongs to one tile alone.)
      network: the network's settings. `tile` is the largest length in px of a core that has a halo on
        both sides; other cores may be longer, see `_axis`. If `tile` is 0 or None, the picture is cut
        only into the bands of the devices.
      bands: the horizontal bands in which several devices share the picture; None is one device.
    """
    halo, tile, wraps = halo_of(taps), network.tile or 0, network.wraps
    if bands is not None:
        height, width = shape
        tiles_per_band = -(-bands.band_height // tile) if tile else 1
        down = _cut(height, bands.band_height // tiles_per_band, halo, wraps)
        return Grid(down, _axis(width, tile or width, halo, wraps), network.ceil, bands)
    if not tile or max(shape) <= tile:
        return None
    down, across = (_axis(side, tile, halo, wraps) for side in shape)
    return None if (down.window, across.window) == shape else Grid(down, across, network.ceil)


def check_sides(shape: tuple[int, int], taps: Iterable[str], network: Network) -> None:
    """Refuse tiles if padding wraps and a side that is to be cut is no multiple of 16 px.

    Where padding wraps, the two ends of a side meet. The four poolings reduce blocks of up to 16 px.
    These blocks continue evenly where the ends meet only if the side is a multiple of 16 px, so no
    other side can be cut. Sides that are too short to be cut may have any length.

    Args:
      shape: (height, width) of the canvas.
      taps: all taps (layers) that the losses read.
      network: the network's settings, with the tile size.

    Raises:
      ValueError: if padding wraps, `network.tile` is set, and a side is no multiple of 16 px although
        it is long enough to be cut: at least the tile, two halos and 16 px (see `_axis`).
    """
    if not (network.wraps and network.tile):
        return
    shortest = network.tile + 2 * halo_of(taps) + SMALLEST
    if any(side >= shortest and side % SMALLEST for side in shape):
        height, width = shape
        near = f"{nearest_on_grid(width)}x{nearest_on_grid(height)}"
        raise ValueError(
            f"`tile`: got {network.tile}, but where borders meet (`padding` wrap) only sides of "
            f"multiples of {SMALLEST} px (four poolings) can be cut, and the canvas has "
            f"{width}x{height} px; {near} is the nearest size, and `tile` off computes it in one piece"
        )


def style_grid_of(
    shape: tuple[int, int], taps: Iterable[str], network: Network, bands: Bands | None = None
) -> Grid | None:
    """Return how a style is cut into tiles; None if its features are computed in one piece.

    Styles are not cut if the network's padding wraps around, since only sides of multiples of 16 px
    could be cut then (see `check_sides`), and a style may have any size. The arguments are those of
    `grid_of`.
    """
    return None if network.wraps else grid_of(shape, taps, network, bands)


def window_of(
    shape: tuple[int, int], taps: Iterable[str], network: Network, bands: Bands | None = None
) -> tuple[int, int]:
    """Return the (height, width) of a tile's window: its core with the pixels around it.

    The features of the core depend on no pixels outside the window. The arguments describe the picture,
    the layers that losses read, the network and the devices, as in `grid_of`. If the picture is not cut
    into tiles, the result is `shape`, the size of the picture.
    """
    grid = grid_of(shape, taps, network, bands)
    return shape if grid is None else grid.window


def is_tiled(shape: tuple[int, int], recipe: Recipe, devices: int = 1) -> bool:
    """Return whether each device computes its part of a picture in several tiles, one by one."""
    bands = planned_bands(shape, recipe, devices)
    grid = grid_of(shape, recipe.terms.taps, recipe.network, bands)
    return grid is not None and grid.count_per_device > 1


def _axis(side: int, tile: int, halo: int, wraps: bool) -> Cut:
    """Cut a side of a picture into as few cores of equal length as possible.

    The last core may be shorter. A core is the part of the side that belongs to one tile. The network's
    input for it is a window, which extends past the core by a halo on each side but, unless `wraps` is
    True, not past the border of the picture. So if there are only two cores, each lies at a border and
    has one halo, and it may be longer by the other halo.

    A side shorter than `tile` + 2 * `halo` + 16 px is not cut, since a window can be nearly as long: it
    begins at a multiple of 16 px, so it may be up to 15 px longer than a core with its halos.

    Args:
      side: length of the side, in px.
      tile: largest length in px of a core that has a halo on both sides; the halos are not counted.
      halo: smallest number of px by which a window extends past its core.
      wraps: whether the picture continues at the opposite border. If so, every core needs both halos,
        and a side that is no multiple of 16 px is not cut.
    """
    if side < tile + 2 * halo + SMALLEST or (wraps and side % SMALLEST):
        return Cut(side, _on_grid(side), side, halo)
    half = _on_grid(-(-side // 2))
    if half <= tile + halo and not wraps:
        return _cut(side, half, halo, wraps)
    return _cut(side, _on_grid(-(-side // -(-side // tile))), halo, wraps)


def _cut(side: int, core: int, halo: int, wraps: bool) -> Cut:
    """Cut a side into cores of length `core`, and choose the length of the windows; all in px.

    A window is a core and the pixels around it (its halo) on which the core's features depend. `wraps`
    says whether the picture continues at the opposite border.
    """
    if wraps and core < side:
        return Cut(side, core, core + 2 * halo, halo, wraps)
    # At the border of the picture, a window needs no halo. So if there are only two cores, each of them
    # needs a halo on one side only.
    wide = core + (halo if side <= 2 * core else 2 * halo)
    # The last window ends at the border. Windows are widened so that it begins at a multiple of 16 px,
    # where a block of each pooling begins; see `_on_grid`.
    window = side - max(side - wide, 0) // SMALLEST * SMALLEST
    return Cut(side, core, window, halo)


def _on_grid(side: int) -> int:
    """Return a length in px, rounded up to a multiple of 16.

    The deepest features lie after four poolings, which reduce 16 x 16 px of a picture to one pixel. So
    a window that begins at a multiple of 16 px is pooled in the same blocks as the whole picture.
    """
    return -(-side // SMALLEST) * SMALLEST
