"""Sums over a picture tile by tile, and their gradient: exact, in the memory of a tile. Pure.

A picture is covered by cores that do not overlap. Each core is computed inside a window that reaches
past it by a halo, so that every feature of the core sees the pixels it would see in the whole picture.
Windows never reach past the picture: where one ends at the picture's border, that border is padded as
the network pads it, and so is nothing else that a core can see. All windows have one size, start on the
pooling grid, and the last of a row ends where the picture ends, odd sizes included.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from nst_jax import checks, vgg
from nst_jax._types import FeatureMap, Image
from nst_jax.vgg import Network

Index: TypeAlias = Int[Array, ""] | int
Window: TypeAlias = Float[Array, "h_window w_window 3"]
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

    @property
    def count(self) -> int:
        """Number of tiles."""
        return self.down.count * self.across.count

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


def halo_of(taps: Iterable[str]) -> int:
    """Return how far features of the deepest tap look past their own pixels, on the pooling grid.

    Example:
      >>> from nst_jax.tiles import halo_of
      >>> halo_of(["relu4_2"]), halo_of(["relu5_1"]), halo_of(["relu5_4"])
      (48, 80, 128)
    """
    names = list(vgg.LAYERS)
    deepest = max(names.index(vgg.layer_of(tap)) for tap in taps)
    # Each 3 x 3 convolution looks one position further, which is 2^halvings pixels.
    radius = sum(2 ** vgg.halvings(name) for name in names[: deepest + 1])
    return -(-radius // vgg.SMALLEST) * vgg.SMALLEST


def grid_of(shape: tuple[int, int], taps: Iterable[str], network: Network) -> Grid | None:
    """Return how a picture of (height, width) is cut; None if the network looks at it whole."""
    if not network.tile or max(shape) <= network.tile:
        return None
    halo = halo_of(taps)
    down, across = (_axis(side, network.tile, halo) for side in shape)
    return None if (down.window, across.window) == shape else Grid(down, across, network.ceil)


def window_of(shape: tuple[int, int], taps: Iterable[str], network: Network) -> tuple[int, int]:
    """Return the (height, width) that the network sees at a time: of a window, or of the picture."""
    grid = grid_of(shape, taps, network)
    return shape if grid is None else grid.window


def check(tile: int | None, taps: Iterable[str]) -> None:
    """Refuse a size of tiles that cannot be.

    Raises:
      TypeError: if it is no whole number.
      ValueError: if it is off the pooling grid, or less than a halo.
    """
    if tile is None or tile == 0:
        return
    halo = halo_of(taps)
    checks.whole("tile", tile, least=halo)
    if tile % vgg.SMALLEST:
        nearest = round(tile / vgg.SMALLEST) * vgg.SMALLEST
        raise ValueError(
            f"`tile`: expected a multiple of {vgg.SMALLEST} px, got {tile}; {nearest} is the nearest"
        )


def _axis(side: int, tile: int, halo: int) -> Axis:
    wide = tile + 2 * halo
    if side <= wide:
        return Axis(side, -(-side // vgg.SMALLEST) * vgg.SMALLEST, side, halo)
    # As much wider than needed as makes the last window end with the picture, on the grid.
    window = side - (side - wide) // vgg.SMALLEST * vgg.SMALLEST
    return Axis(side, tile, window, halo)


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
    """Return the pixels [h, w, 3] of a tile's window."""
    row, column = grid.place(index)
    origin = (grid.down.origin(row), grid.across.origin(column), 0)
    return lax.dynamic_slice(image, origin, (*grid.window, image.shape[-1]))


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


def part(whole: FeatureMap, grid: Grid, index: Index, tap: str) -> Part:
    """Return a core's own part of the features of the whole picture; what it shares is zero."""
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, whole.shape[-1])
    return _only_owned(lax.dynamic_slice(whole, (down.start, across.start, 0), shape), down, across)


def _only_owned(part: Part, down: Crop, across: Crop) -> Part:
    owned = down.owned[:, None, None] & across.owned[None, :, None]
    return jnp.where(owned, part, jnp.zeros_like(part))


# --- All tiles ------------------------------------------------------------------------------------


def summed(grid: Grid, of_tile: Callable[[Index], Sums]) -> Sums:
    """Return the sum over all tiles of what `of_tile` gives of each."""
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(of_tile, 0))

    def add(index: Index, total: Sums) -> Sums:
        return jax.tree.map(jnp.add, total, of_tile(index))

    return lax.fori_loop(0, grid.count, add, zeros)


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
        row, column = grid.place(index)
        origin = (grid.down.origin(row), grid.across.origin(column), 0)
        return lax.dynamic_update_slice(total, window(total, grid, index) + share, origin)

    return lax.fori_loop(0, grid.count, add, jnp.zeros_like(image))


def assembled(
    grid: Grid, of_tile: Callable[[Index], dict[str, FeatureMap]]
) -> dict[str, FeatureMap]:
    """Return the features of the whole picture, put together from those of the windows.

    Args:
      grid: of the picture.
      of_tile: gives tap to features of a tile's window.

    Returns:
      Tap to features [h', w', c].
    """

    def empty(tap: str, features: Any) -> FeatureMap:
        return jnp.zeros((*grid.shape(tap), features.shape[-1]), features.dtype)

    def put(index: Index, wholes: dict[str, FeatureMap]) -> dict[str, FeatureMap]:
        return {
            tap: _put(wholes[tap], found, grid, index, tap) for tap, found in of_tile(index).items()
        }

    found = jax.eval_shape(of_tile, 0)
    return lax.fori_loop(0, grid.count, put, {tap: empty(tap, found[tap]) for tap in found})


def _put(whole: FeatureMap, found: Any, grid: Grid, index: Index, tap: str) -> FeatureMap:
    # What neighbours share is written twice, both times with the same features.
    down, across = _crops(grid, index, tap)
    shape = (down.length, across.length, found.shape[-1])
    part = lax.dynamic_slice(found, (down.inside, across.inside, 0), shape)
    return lax.dynamic_update_slice(whole, part, (down.start, across.start, 0))
