"""Raters of artefacts in one picture: a frame along the border, a grid left by poolings, speckle.

None of them can tell an artefact from what is intended: a photograph may have a dark border, a style
may be dotted. So compare the values of a result with those of the content and of the style.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax._types import AnyImage, Scalar
from nst_jax.losses import at_least_float32
from nst_jax.raters.content import luma

ROUNDING = 1 / 255**2 / 12  # variance that rounding to 8 bits adds


# --- Border ---------------------------------------------------------------------------------------


class Border(NamedTuple):
    """How the border of a picture differs from the part inside the border."""

    mean: Scalar  # length of the difference of the mean colours, in sRGB
    variance: Scalar  # ln(variance of the border / variance inside), of all three channels together


def border(picture: AnyImage, *, width: int = 8, ring: int | None = None) -> Border:
    """Compare mean and variance of the colours at the border of a picture with those inside.

    Args:
      picture: [h, w, 3] sRGB in [0, 1].
      width: width of the border in px. Static.
      ring: None compares the border with all pixels inside it. A number compares it only with the ring
        of that width in px just inside it. The ring shows nearly the same parts of the scene as the
        border, so a frame stands out more clearly. Static.

    Returns:
      `mean`: 0 if the mean colours are equal. `variance`: negative if the border varies less than the
      pixels inside, positive if it varies more. The variance of rounding to 8 bits is added to both
      variances, so that uniform pictures give 0.

    Raises:
      ValueError: if no pixels are inside the border.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import border
      >>> framed = jnp.ones((32, 32, 3)).at[8:-8, 8:-8].set(0.5)
      >>> [round(float(x), 3) for x in border(framed)]      # 0.5 in each of three channels
      [0.866, 0.0]
    """
    height, width_all = picture.shape[:2]
    depth = _depth(height, width_all)
    inside = (depth >= width) & (depth < (np.inf if ring is None else width + ring))
    if not inside.any():
        raise ValueError(
            f"`picture`: {width_all}x{height} px has nothing inside a border of {width} px; give a "
            f"larger picture"
        )
    x = at_least_float32(jnp.asarray(picture))
    outer_mean, outer_variance = _moments(x, depth < width)
    inner_mean, inner_variance = _moments(x, inside)
    return Border(
        mean=jnp.sqrt(jnp.sum(jnp.square(outer_mean - inner_mean))),
        variance=jnp.log((outer_variance + 3 * ROUNDING) / (inner_variance + 3 * ROUNDING)),
    )


def _depth(height: int, width: int) -> np.ndarray:
    """Return the distance of each pixel from the nearest side, in px: 0 for the outermost pixels."""
    down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum(down[:, None], across[None])


def _moments(x: Array, where: np.ndarray) -> tuple[Array, Scalar]:
    """Return the mean colour of the pixels in a mask, and the sum of the channels' variances there."""
    share = jnp.asarray(where / where.sum(), x.dtype)[..., None]
    mean = jnp.sum(share * x, axis=(0, 1))
    return mean, jnp.sum(share * jnp.square(x - mean[None, None]))


# --- Grid -----------------------------------------------------------------------------------------

# Smallest side of a picture in px. The spectrum of a smaller one has too few frequencies between those
# of the grid.
LEAST_SIDE = 48

# Widths in cycles per px. Frequencies up to `BAND` from a frequency of the grid belong to its peak.
# Those in the next `BESIDE` on either side are what the peak is compared with.
BAND = 1 / 64
BESIDE = 1 / 32


def grid_peaks(picture: AnyImage, *, period: int = 8) -> Float[Array, "2 n"]:
    """Return by how much the energy at the frequencies of a grid exceeds that of frequencies beside it.

    Poolings, and gradients through them, leave patterns that repeat every 2, 4 or 8 px: checkerboards
    and hatching. In the spectrum of the luma they are peaks at multiples of 1/8 cycle per px. For
    patterns that repeat down the picture, the spectra of all columns are averaged; for patterns that
    repeat across it, those of all rows. A peak extends 1/64 cycle per px to either side, or two
    frequencies of the spectrum in a small picture, so that patterns are found even if their strength
    changes across the picture. It is compared with a band of 1/32 cycle per px on either side of it.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 48 px on each side.
      period: number of px after which a pattern repeats, even. Patterns of shorter periods that divide
        it are included. Static.

    Returns:
      [2, period / 2]: ln(mean energy of the peak / mean energy beside it) for patterns down, then
      across, at 1, 2, ... `period / 2` cycles in `period` px; about 0 where there is no pattern. The
      energy of rounding to 8 bits is added to all energies.

    Raises:
      ValueError: if the picture is too small.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import grid_peaks
      >>> stripes = jnp.zeros((64, 64, 3)).at[:, ::2].set(1.0)       # every 2 px, across
      >>> grid_peaks(stripes).round(1)[:, -1] > 5
      Array([False,  True], dtype=bool)
    """
    if min(picture.shape[:2]) < LEAST_SIDE:
        raise ValueError(
            f"`picture`: {picture.shape[1]}x{picture.shape[0]} px is too small; the spectrum needs at "
            f"least {LEAST_SIDE} px on each side"
        )
    plane = luma(picture)
    return jnp.stack([_peaks(lines, period) for lines in (plane.T, plane)])


def grid_energy(picture: AnyImage, *, period: int = 8) -> Scalar:
    """Return the largest of the peaks at the frequencies of a grid, see `grid_peaks`.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 48 px on each side.
      period: number of px after which a pattern repeats, even; see `grid_peaks`. Static.

    Returns:
      A scalar: from 0 to a few tenths if there is no pattern.
    """
    return jnp.max(grid_peaks(picture, period=period))


def _peaks(lines: Float[Array, "n length"], period: int) -> Float[Array, " k"]:
    """Return the peaks of the mean spectrum of lines at 1, 2, ... `period / 2` cycles per `period`."""
    length = lines.shape[-1]
    window = np.hanning(length + 2)[1:-1]  # without the zeros at its ends
    waves = jnp.fft.rfft(
        (lines - jnp.mean(lines, axis=-1, keepdims=True)) * jnp.asarray(window, lines.dtype)[None]
    )
    energy = jnp.mean(jnp.square(waves.real) + jnp.square(waves.imag), axis=0)
    energy = energy + ROUNDING * float(np.sum(window**2))
    frequency = np.fft.rfftfreq(length)
    band = max(BAND, 2 / length)

    def mean(where: np.ndarray) -> Scalar:
        return jnp.sum(energy * jnp.asarray(where / where.sum(), energy.dtype))

    found = []
    for cycles in range(1, period // 2 + 1):
        distance = frequency - cycles / period
        beside = (abs(distance) > band) & (abs(distance) <= band + BESIDE)
        # No frequency is above half a cycle per px. A peak there has neighbours on its lower side only.
        sides = [side for side in (beside & (distance < 0), beside & (distance > 0)) if side.any()]
        level = sum(jnp.log(mean(side)) for side in sides) / len(sides)
        found.append(jnp.log(mean(abs(distance) <= band)) - level)
    return jnp.stack(found)


# --- Speckle --------------------------------------------------------------------------------------


def speckle(picture: AnyImage) -> Scalar:
    """Return the mean absolute difference of a picture from its median over 3 x 3 px.

    The median leaves straight edges and slopes as they are, and removes dots and lines of one pixel.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 3 px on each side; its outermost pixels only count as
        neighbours.

    Returns:
      A scalar, the mean over pixels and channels.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import speckle
      >>> edge = jnp.zeros((5, 5, 3)).at[:, 2:].set(1.0)
      >>> dot = jnp.zeros((5, 5, 3)).at[2, 2].set(1.0)       # one of the nine pixels inside
      >>> float(speckle(edge)), round(float(speckle(dot)), 3)
      (0.0, 0.111)

    References:
      Tukey, "Exploratory Data Analysis", 1977, for the running median.
    """
    x = at_least_float32(jnp.asarray(picture))
    height, width = x.shape[0] - 2, x.shape[1] - 2
    around = jnp.stack(
        [
            x[down : down + height, across : across + width]
            for down in range(3)
            for across in range(3)
        ]
    )
    return jnp.mean(jnp.abs(around[4] - jnp.sort(around, axis=0)[4]))
