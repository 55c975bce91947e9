"""Estimates of the memory that a feed-forward network takes, which decide if it paints in strips.

A picture whose features are too large for memory is painted in horizontal strips, one after another;
see `feed_forward.tiling`. The more rows a strip has, the more memory it takes. `strip_for` returns how
many rows fit.
"""

import bisect

import jax.numpy as jnp

from nst_jax._memory import gigabytes
from nst_jax._types import Params, Shape
from nst_jax.feed_forward import arbitrary, styles26
from nst_jax.feed_forward.tiling import LEAST, passes_of
from nst_jax.feed_forward.transformer import TransformerLayers
from nst_jax.scaling import chunk_size
from nst_jax.scaling.capacity import MARGIN, OutOfMemory
from nst_jax.vgg.precision import AUTO, AnyPrecision, default_platform, precision_on

# --- When to paint in strips ----------------------------------------------------------------------


def strip_for(
    params: Params,
    shape: Shape,
    *,
    available: int | None,
    precision: AnyPrecision = AUTO,
    platform: str | None = None,
) -> int:
    """Return how many rows a strip of a picture may have so that painting it fits in memory.

    Args:
      params: weights from `load_arbitrary` or `load_styles26`; they decide which network paints.
      shape: (height, width) in px of the picture.
      available: number of bytes that can be allocated, from `scaling.capacity.available`; None if it is
        not known, in which case the result is 0.
      precision: precision of products and activations, on which the size of an activation depends;
        `AUTO` is float32 on a CPU and tensorfloat32 on an accelerator.
      platform: JAX's name of the device's platform. On "cpu", the device and the host share one memory,
        so the arrays that the host holds are counted as well. None means the platform of JAX's default
        device.

    Returns:
      0 if the whole picture fits in memory at once. If it does not, the largest multiple of 16 rows
      with which a strip fits.

    Raises:
      OutOfMemory: if even strips of 16 rows do not fit.

    Example:
      >>> from nst_jax.feed_forward import load_styles26
      >>> params = load_styles26()
      >>> strip_for(params, (512, 512), available=2 * 10**9)
      0
      >>> 16 <= strip_for(params, (6000, 8000), available=5 * 10**9) < 6000
      True
    """
    return strip_for_layers(
        magenta_layers(params), shape, available=available, precision=precision, platform=platform
    )


def magenta_layers(params: Params) -> TransformerLayers:
    """Return the table of layers of `arbitrary` or `styles26`, whichever has these weights."""
    return arbitrary.LAYERS if "predictor" in params.layers else styles26.LAYERS


def strip_for_layers(
    layers: TransformerLayers,
    shape: Shape,
    *,
    available: int | None,
    precision: AnyPrecision = AUTO,
    platform: str | None = None,
) -> int:
    """Return how many rows a strip of a picture may have so that painting it fits in memory.

    The result is 0 if the whole picture fits at once. Arguments and errors are those of `strip_for`,
    but the network is given by its layers, so that its weights need not be loaded.
    """
    shared = (platform or default_platform()) == "cpu"
    itemsize = _bytes_of_activation(shared, precision)

    def fits(needed: int) -> bool:
        return available is None or needed * MARGIN <= available

    def in_strips(rows: int) -> int:
        return bytes_in_strips(layers, shape, rows, itemsize=itemsize, shared=shared)

    if fits(bytes_in_one_piece(layers, shape, itemsize=itemsize)):
        return 0
    counts = range(LEAST, shape[0], LEAST)
    fitting = bisect.bisect_left(counts, True, key=lambda rows: not fits(in_strips(rows)))
    if fitting == 0:
        needed = in_strips(LEAST)
        raise OutOfMemory(
            f"`size`: {shape[1]}x{shape[0]} px takes {gigabytes(needed)} by estimate even in strips, "
            f"and {gigabytes((available or 0) / MARGIN)} are available; choose a smaller size"
        )
    return counts[fitting - 1]


def check_fits_whole(
    layers: TransformerLayers,
    shape: Shape,
    *,
    available: int | None,
    precision: AnyPrecision = AUTO,
    platform: str | None = None,
) -> None:
    """Refuse a picture that does not fit in memory, for a network that cannot paint in strips.

    The arguments are those of `strip_for_layers`.

    Raises:
      OutOfMemory: if the picture does not fit in one piece.
    """
    itemsize = _bytes_of_activation((platform or default_platform()) == "cpu", precision)
    needed = bytes_in_one_piece(layers, shape, itemsize=itemsize)
    if available is not None and needed * MARGIN > available:
        raise OutOfMemory(
            f"`size`: {shape[1]}x{shape[0]} px takes {gigabytes(needed)} by estimate, and "
            f"{gigabytes(available / MARGIN)} are available; a network that you trained cannot paint "
            "in strips, so choose a smaller size"
        )


def pictures_that_fit(
    layers: TransformerLayers,
    shape: Shape,
    count: int,
    *,
    available: int | None,
    precision: AnyPrecision = AUTO,
    platform: str | None = None,
) -> int | None:
    """Return how many of `count` pictures fit in memory if they are painted at once, at least 1.

    The other arguments are those of `strip_for_layers`; `shape` is that of each picture. The result is
    None if `available` is None, that is, not known.
    """
    itemsize = _bytes_of_activation((platform or default_platform()) == "cpu", precision)

    def total(pictures: int) -> int:
        return bytes_in_one_piece(layers, (pictures * shape[0], shape[1]), itemsize=itemsize)

    return chunk_size.largest_chunk(total, available, count)


def _bytes_of_activation(on_cpu: bool, precision: AnyPrecision) -> int:
    """Return the number of bytes of one activation.

    On a CPU it is 4, whatever `precision` is: even if activations are stored in fewer bits,
    convolutions compute in float32 there.
    """
    return 4 if on_cpu else precision_on(precision).activations_of(jnp.float32).itemsize


def bytes_in_one_piece(layers: TransformerLayers, shape: Shape, *, itemsize: int = 4) -> int:
    """Estimate the bytes of memory that are needed to paint a picture in one piece.

    The content and the result are included, the network's weights are not.

    Args:
      layers: the network's layers, in their order.
      shape: (height, width) in px of the picture.
      itemsize: number of bytes of one activation.
    """
    return _with_workspace(_peak(layers, 0, shape, itemsize)) + 2 * _bytes_of_picture(shape)


def bytes_in_strips(
    layers: TransformerLayers,
    shape: Shape,
    strip: int,
    *,
    itemsize: int = 4,
    shared: bool = True,
) -> int:
    """Estimate the bytes of the device's memory that are needed to paint a picture in strips.

    Args:
      layers: the network's layers, in their order.
      shape: (height, width) in px of the picture.
      strip: number of rows of a strip.
      itemsize: number of bytes of one activation.
      shared: whether the device and the host share one memory, as on a CPU. If so, the arrays that the
        host holds are added.
    """
    most = 0.0
    for one in passes_of(layers):
        rows = min(strip + 2 * HALO, shape[0])
        most = max(most, _peak(layers[: one.last + 1], one.first, (rows, shape[1]), itemsize))
    # A pass computes some layers for one strip after another. Meanwhile the host holds four arrays: the
    # content, the input features of the pass, its output features, and the input of the current
    # residual block. Each is counted as large as the picture, which has 3 numbers for each pixel. None
    # is larger: features that are stored between two passes have at most `tiling.KEPT` (3) numbers for
    # each pixel of the picture, and those of the residual blocks have 2, in `arbitrary` as in
    # `styles26`.
    return _with_workspace(most) + (4 * _bytes_of_picture(shape) if shared else 0)


# Convolutions mix neighbouring rows. So to compute some layers for a strip, rows of the picture above
# and below the strip are needed as well: at most this many on each side.
HALO = 16

# Number of large arrays that a layer needs in memory at the same time. They are either its convolved
# features and a copy of these, normalised and padded by reflection; or its upsampled input and a padded
# copy of this input.
BUFFERS = 2

# Convolutions allocate memory in addition to the buffers that XLA plans. The estimate of this
# additional memory is `WORKSPACE` times the bytes of these buffers, plus `FIXED` bytes. Measured with
# the network `styles26` on two cores of a CPU (jax 0.10.2): 472 MB in all at 1000 x 750 px, of which
# 193 MB were planned; 1274 MB in all at 2000 x 1500 px, of which 769 MB were planned. For these two
# sizes, `bytes_in_one_piece` returns 468 MB and 1270 MB. These include 18 MB and 72 MB for the content
# and the result, to which `WORKSPACE` is not applied.
WORKSPACE, FIXED = 0.3, 200 * 10**6


def _with_workspace(planned: float) -> int:
    return round(planned * (1 + WORKSPACE)) + FIXED


def _bytes_of_picture(shape: Shape) -> int:
    return 3 * 4 * shape[0] * shape[1]


def _peak(layers: TransformerLayers, first: int, shape: Shape, itemsize: int) -> float:
    """Return the largest number of bytes of buffers that any of the computed layers needs.

    Args:
      layers: the network's layers, from its first layer to the last one that is computed.
      first: index of the first layer that is computed.
      shape: (height, width) in px of the part of the picture that is computed at once.
      itemsize: number of bytes of one activation.
    """
    most, scale, before = 0.0, 1.0, 3.0
    for index, layer in enumerate(layers):
        scale *= 2 if layer.upsampled else 1
        before = before * (4 if layer.upsampled else 1)
        scale /= layer.stride
        after = layer.channels * scale**2  # number of activations for each pixel of the picture
        if index >= first:
            most = max(most, BUFFERS * max(before, after))
        before = after
    return most * itemsize * shape[0] * shape[1]
