"""Raters of artefacts in a picture: a frame along its border, a grid left by poolings, and speckle.

No rater can tell whether what it finds is an artefact or is intended: a photograph may have a dark
border, and a style may be dotted. So compare the values of a result with those of the content and of
the style.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Scalar
from nst_jax.losses import at_least_float32
from nst_jax.raters.checks import check_picture
from nst_jax.raters.content import luma

# Variance that rounding to 8 bits adds to values in [0, 1]: the variance of an error that is uniformly
# distributed between -1/510 and 1/510, half the distance of two neighbouring levels.
ROUNDING = 1 / 255**2 / 12


# --- Border ---------------------------------------------------------------------------------------


class Border(NamedTuple):
    """How the border of a picture differs from the pixels inside it; `border` returns this record."""

    # Euclidean distance between the mean colour [3] of the border and that of the pixels inside.
    mean: Scalar
    # ln(variance of the border / variance inside); each of these two variances is the sum of the
    # variances of the three channels.
    variance: Scalar


def border(picture: AnyImage, *, width: int = 8, ring: int | None = None) -> Border:
    """Compare the colours along the border of a picture with those inside, to find a frame.

    Args:
      picture: [h, w, 3] sRGB in [0, 1].
      width: width of the border in px. Static under `jax.jit`.
      ring: which pixels inside the border are compared with it. None means all pixels inside. A number
        means the pixels of a ring of this width in px, next to the border. A ring shows nearly the same
        parts of the scene as the border, so that a frame stands out more clearly. Static under
        `jax.jit`.

    Returns:
      A `Border`. Its `mean` is 0 if the mean colours are equal. Its `variance`, the logarithm of a
      ratio, is negative if colours vary less along the border than inside, and positive if they vary
      more. The variance of rounding to 8 bits is added to the numerator and to the denominator, so that
      uniform pictures give 0.

    Raises:
      TypeError: if `picture` is not an array, or `width` or `ring` no whole number.
      ValueError: if `picture` is not [h, w, 3], not floating point, or has no pixels inside the border;
        or if `width` or `ring` is less than 1.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import border
      >>> framed = jnp.ones((32, 32, 3)).at[8:-8, 8:-8].set(0.5)
      >>> [round(float(x), 3) for x in border(framed)]      # 0.5 in each of three channels
      [0.866, 0.0]
    """
    check_picture("picture", picture)
    _checks.whole("width", width, least=1)
    if ring is not None:
        _checks.whole("ring", ring, least=1)
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
    """Return [h, w]: each pixel's distance from the nearest side, in px; 0 for the outermost pixels."""
    down, across = (np.minimum(np.arange(n), np.arange(n)[::-1]) for n in (height, width))
    return np.minimum(down[:, None], across[None])


def _moments(x: Array, where: np.ndarray) -> tuple[Array, Scalar]:
    """Return the mean colour [3] and the sum of the channels' variances, of the pixels in a mask."""
    share = jnp.asarray(where / where.sum(), x.dtype)[..., None]
    mean = jnp.sum(share * x, axis=(0, 1))
    return mean, jnp.sum(share * jnp.square(x - mean[None, None]))


# --- Grid -----------------------------------------------------------------------------------------

# Smallest side in px of a picture that is searched for a grid. A grid shows as peaks of the spectrum at
# multiples of 1/8 cycle per px. In the spectrum of a smaller picture, there are too few frequencies
# between these peaks to compare them with.
LEAST_SIDE = 48

# Widths in cycles per px, for `grid_peaks`. Frequencies at most `BAND` away from a frequency of the
# grid belong to its peak, and so do always the two nearest frequencies on either side. The peak is
# compared with the next frequencies on either side, as far as `BESIDE` beyond the peak.
BAND = 1 / 64
BESIDE = 1 / 32


def grid_peaks(picture: AnyImage, *, period: int = 8) -> Float[Array, "2 n"]:
    """Return how strongly a picture shows patterns that repeat every few pixels, such as a fine grid.

    Poolings, and gradients through them, leave patterns that repeat every 2, 4 or 8 px: checkerboards
    and hatching. In the spectrum of the picture's luma, these patterns are peaks at multiples of 1/8
    cycle per px. Vertical repetition is looked for in the mean of the spectra of all columns,
    horizontal repetition in the mean of the spectra of all rows.

    A peak consists of the frequencies up to 1/64 cycle per px away from its centre, and always of the
    two nearest frequencies on either side. So a pattern is found even if its strength changes across
    the picture. The mean energy of the peak is compared with that of the frequencies just below it, and
    with that of the frequencies just above it, both over a range of 1/32 cycle per px. The peak at 1/2
    cycle per px, the highest frequency, is compared only with the frequencies below it.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 48 px on each side.
      period: number of px, even, after which a pattern repeats. Patterns whose period is this number
        divided by a whole number are found, too. Static under `jax.jit`.

    Returns:
      [2, period / 2]: ln(mean energy of the peak / geometric mean of the two mean energies beside it).
      The first row is for patterns that repeat in the vertical direction, the second for the horizontal
      direction. The columns are for 1, 2, ... `period / 2` cycles in `period` px. A value is about 0 if
      there is no such pattern. The energy of rounding to 8 bits is added to all energies, so that
      uniform pictures give 0.

    Raises:
      TypeError: if `picture` is not an array, or `period` no whole number.
      ValueError: if `picture` is not [h, w, 3], not floating point, or too small; or if `period` is
        less than 2.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import grid_peaks
      >>> stripes = jnp.zeros((64, 64, 3)).at[:, ::2].set(1.0)       # every 2 px, across
      >>> grid_peaks(stripes).round(1)[:, -1] > 5
      Array([False,  True], dtype=bool)
    """
    check_picture("picture", picture, smallest=LEAST_SIDE, needs="the spectrum needs")
    _checks.whole("period", period, least=2)
    plane = luma(picture)
    return jnp.stack([_peaks(lines, period) for lines in (plane.T, plane)])


def grid_energy(picture: AnyImage, *, period: int = 8) -> Scalar:
    """Return the largest of the values of `grid_peaks`: how strongly a picture shows a fine grid.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 48 px on each side.
      period: number of px, even, after which a pattern repeats; see `grid_peaks`.
        Static under `jax.jit`.

    Returns:
      A scalar, the natural logarithm of a ratio of energies. It is between 0 and a few tenths for
      pictures without such a pattern.

    Raises:
      TypeError, ValueError: as in `grid_peaks`.
    """
    return jnp.max(grid_peaks(picture, period=period))


def _peaks(lines: Float[Array, "n length"], period: int) -> Float[Array, " k"]:
    """Return the row of the result of `grid_peaks` that is for one direction.

    Args:
      lines: the luma of all rows of a picture, or of all its columns.
      period: as in `grid_peaks`.

    Returns:
      k = `period / 2` values, for patterns of 1, 2, ... k cycles in `period` px.
    """
    length = lines.shape[-1]
    # Without this Hann window, the jump between the two ends of a line would add energy at all
    # frequencies. The zeros at the window's ends are left out, since they would waste two pixels.
    window = np.hanning(length + 2)[1:-1]
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
        # The highest frequency is half a cycle per px. A peak at this frequency is compared only with
        # the frequencies below it.
        sides = [side for side in (beside & (distance < 0), beside & (distance > 0)) if side.any()]
        level = sum(jnp.log(mean(side)) for side in sides) / len(sides)
        found.append(jnp.log(mean(abs(distance) <= band)) - level)
    return jnp.stack(found)


# --- Speckle --------------------------------------------------------------------------------------


def speckle(picture: AnyImage) -> Scalar:
    """Return how strongly single pixels stand out: the mean difference of a picture from its median.

    The median is that of 3 x 3 px around each pixel, for each channel by itself. It leaves straight
    edges and linear gradients as they are, and removes dots and lines of one pixel.

    Args:
      picture: [h, w, 3] sRGB in [0, 1], at least 3 px on each side. Its outermost pixels are not
        compared with their medians; they only count as neighbours of other pixels.

    Returns:
      A scalar in [0, 1]: the mean of the absolute differences over pixels and channels.

    Raises:
      TypeError: if `picture` is not an array.
      ValueError: if `picture` is not [h, w, 3], not floating point, or too small.

    Example:
      >>> import jax.numpy as jnp
      >>> from nst_jax.raters import speckle
      >>> edge = jnp.zeros((5, 5, 3)).at[:, 2:].set(1.0)
      >>> dot = jnp.zeros((5, 5, 3)).at[2, 2].set(1.0)       # one of the nine pixels inside
      >>> float(speckle(edge)), round(float(speckle(dot)), 3)
      (0.0, 0.111)

    References:
      Tukey, "Exploratory Data Analysis", 1977, for smoothing by a running median.
    """
    check_picture("picture", picture, smallest=3)
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
