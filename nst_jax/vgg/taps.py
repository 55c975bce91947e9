"""Names, sizes and receptive fields of VGG-19's layers and taps; a tap is where activations are read.

There is a tap before and a tap after the ReLU that follows each convolution. For the convolution
`conv4_2`, they are called `preact4_2` and `relu4_2`.
"""

import re
from collections.abc import Iterable

from nst_jax import _checks
from nst_jax._types import Params

# (number of convolutions, number of output channels) of each block. Between two blocks is a pooling.
BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))

SMALLEST = 16  # smallest side of a picture in px: four poolings reduce 16 rows or columns to one


def _layer_table() -> dict[str, tuple[int, int]]:
    table, channels = {}, 3
    for block, (count, width) in enumerate(BLOCKS, 1):
        for index in range(1, count + 1):
            table[f"conv{block}_{index}"] = (channels, width)
            channels = width
    return table


LAYERS = _layer_table()  # layer name -> (channels in, channels out), in network order

# The names of all taps (the places in the network at which activations are read), in network order.
TAPS = tuple(
    tap for name in LAYERS for tap in (name.replace("conv", k) for k in ("preact", "relu"))
)


# --- Tap names ------------------------------------------------------------------------------------


def resolve_tap(name: str, *, argument: str = "taps") -> str:
    """Return this package's name for a tap, which is a place in the network where activations are read.

    Unambiguous names from the literature are accepted, too.

    Args:
      name: `"relu4_2"`, `"preact4_2"` (before the ReLU), or `"block4_conv2"` (Keras) and `"r42"`
        (Gatys), which both mean the activation after the ReLU.
      argument: the caller's name for the tap, shown in error messages.

    Returns:
      `relu{b}_{i}` or `preact{b}_{i}`, for convolution i of block b.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: for unknown names, and for a bare `conv4_2`, which may mean before or after the ReLU.

    Example:
      >>> from nst_jax.vgg import resolve_tap
      >>> resolve_tap("block4_conv2"), resolve_tap("r42")
      ('relu4_2', 'relu4_2')
    """
    if not isinstance(name, str):
        raise TypeError(
            f"`{argument}`: a tap is a name such as 'relu4_2', got {_checks.shown(name)}"
        )
    if name in TAPS:
        return name
    alias = re.fullmatch(r"block(\d)_conv(\d)|r(\d)(\d)", name)
    if alias:
        block, index = (group for group in alias.groups() if group)
        if f"relu{block}_{index}" in TAPS:
            return f"relu{block}_{index}"
    if name in LAYERS:
        relu, preact = name.replace("conv", "relu"), name.replace("conv", "preact")
        raise ValueError(
            f"`{argument}`: {name!r} is ambiguous: papers and courses write it for the activation "
            f"after the ReLU, which is {relu!r} here; before the ReLU is {preact!r}"
        )
    raise _checks.unknown(argument, name, TAPS, "VGG-19 tap")


def layer_of(tap: str) -> str:
    """Return the name of the convolution before a tap: `conv4_2` for `relu4_2` and `preact4_2`."""
    return "conv" + tap[-3:]


def halvings(layer: str) -> int:
    """Return how many poolings come before a layer: 3 for `conv4_2`."""
    return int(layer[len("conv")]) - 1


def halved(side: int, times: int, ceil: bool) -> int:
    """Return the length of a side after `times` poolings, each of which halves it.

    A half is rounded up if `ceil`, else down.
    """
    for _ in range(times):
        side = (side + ceil) // 2
    return side


def feature_shape(tap: str, height: int, width: int, ceil: bool) -> tuple[int, int]:
    """Return the (height, width) of the features that the network computes at one layer.

    Args:
      tap: name of the tap (layer), such as `"relu4_2"`.
      height: height of the picture in px.
      width: width of the picture in px.
      ceil: whether poolings keep the last row and column of odd sides (Caffe) or drop them (torch,
        Keras).

    Returns:
      The numbers of rows and of columns of the feature map.

    Example:
      >>> from nst_jax.vgg import feature_shape
      >>> feature_shape("relu3_1", 37, 50, ceil=False), feature_shape("relu3_1", 37, 50, ceil=True)
      ((9, 12), (10, 13))
    """
    times = halvings(layer_of(tap))
    return halved(height, times, ceil), halved(width, times, ceil)


def resolve_taps(names: Iterable[str], *, argument: str = "taps") -> tuple[str, ...]:
    """Apply `resolve_tap` to several names; refuse an empty list, and two names for the same tap."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        what = "the string " if isinstance(names, str) else ""
        raise TypeError(
            f"`{argument}`: expected a list of tap names, got {what}{_checks.shown(names)}"
        )
    taps = tuple(resolve_tap(name, argument=argument) for name in names)
    if not taps:
        raise ValueError(f"`{argument}`: name at least one tap, such as 'relu4_2'")
    repeated = sorted({tap for tap in taps if taps.count(tap) > 1})
    if repeated:
        raise ValueError(f"`{argument}`: {repeated[0]!r} is named twice; name each tap once")
    return taps


def check_layers(params: Params, taps: Iterable[str]) -> None:
    """Refuse weights without one of the layers down to the deepest tap, all of which are computed.

    Weights from `with_forms` have only the layers down to the deepest tap that it was given.

    Args:
      params: weights of VGG-19.
      taps: names of the taps that are read. If there are none, nothing is refused.

    Raises:
      TypeError, ValueError: as in `resolve_tap`.
      ValueError: if a layer is missing.
    """
    names = list(LAYERS)
    depths = {tap: names.index(layer_of(resolve_tap(tap))) for tap in taps}
    if not depths:
        return
    deepest = max(depths, key=depths.__getitem__)
    needed = names[: depths[deepest] + 1]
    missing = [name for name in needed if name not in params.layers]
    if missing:
        raise ValueError(
            f"`params`: expected the layers down to {needed[-1]}, which {deepest} needs, got none "
            f"named {missing[0]}; give the weights from `nst_jax.load_params()`, or name {deepest} "
            "among the taps of `vgg.with_forms`"
        )


def nearest_on_grid(side: int) -> int:
    """Return the multiple of 16 px that is nearest to a length in px, but at least 16.

    Sides of such lengths are halved by all four poolings without a remainder.
    """
    return max(1, round(side / SMALLEST)) * SMALLEST


def halo_of(taps: Iterable[str]) -> int:
    """Return the width of the halo: the pixels around a tile on which the tile's features depend.

    A tile is a part of a picture that is computed by itself. For its features at `taps` to be those of
    the whole picture, the network has to process the halo together with the tile.

    Args:
      taps: names of layers, such as `"relu4_2"`, as `resolve_tap` returns them.

    Returns:
      The width in px on each side of the tile, rounded up to a multiple of 16. Tiles begin at multiples
      of 16 px, where windows of all four poolings begin; so a tile with its halo does, too.

    Example:
      >>> from nst_jax.vgg.taps import halo_of
      >>> halo_of(["relu4_2"]), halo_of(["relu5_1"]), halo_of(["relu5_4"])
      (48, 80, 128)
    """
    names = list(LAYERS)
    deepest = max(names.index(layer_of(tap)) for tap in taps)
    # Each 3 x 3 convolution reads one more row or column of features on each side. After n poolings,
    # this is 2^n pixels of the picture.
    radius = sum(2 ** halvings(name) for name in names[: deepest + 1])
    return -(-radius // SMALLEST) * SMALLEST
