"""The dial `strength`: by which factor of the style weight, so that equal steps look equal.

With the logarithm of the style weight, a picture first changes slowly, then fast, then hardly at all.
The share w of the way that it has gone, from the photo to the picture of a very large weight, was
measured on pairs of pictures (`benchmarks/strength.py`) as the mean of three shares: in pixels, in
distance to the style, and in distance to the content. It is near the logistic curve

    w(f) = 1 / (1 + (HALF / f)^STEEPNESS)

where f is the factor of the recipe's own style weight. The dial is even in w:

    w(f) = w(SMALLEST) + strength (w(1) - w(SMALLEST)) / OWN

The recipe's own weight is not in the middle of the dial, since it is beyond the middle of the way:
pictures differ much less above it than below it. A dial with the own weight at 0.5 has steps that look
several times as large in its lower half as in its upper half.
"""

import numpy as np

from nst_jax import _checks

# Fitted to the pairs of benchmarks/results/strength-cpu.json that the recipe `default` painted, and
# rounded to one digit, since single pairs differ by more.
HALF = 0.09  # factor of the style weight at which half of the way is gone
STEEPNESS = 0.7  # w / (1 - w) grows with this power of the factor

# Chosen. At strength 0 about a tenth of the way is gone: the style is just seen. With this value of
# OWN, strength 1 is 10 to 30 times the recipe's own weight, beyond which pictures hardly change.
SMALLEST = 0.003  # factor at strength 0
OWN = 0.85  # strength that changes nothing


def factor_of(strength: float) -> float:
    """Return the factor by which a strength multiplies a recipe's style weight.

    Args:
      strength: from 0 to 1.

    Returns:
      A number that grows with `strength`: `SMALLEST` at 0, and 1 at `OWN`.

    Raises:
      ValueError: if `strength` is not between 0 and 1.

    Example:
      >>> from nst_jax.recipes import strength
      >>> strength.factor_of(0.0), strength.factor_of(strength.OWN)
      (0.003, 1.0)
    """
    if np.ndim(strength):
        raise TypeError(
            "`strength`: expected one number, got an array; for a sweep, set `style_weight` to an "
            "array of the recipe's own, multiplied by `factor_of` of each strength"
        )
    _checks.number("strength", strength, least=0)
    if strength > 1:
        raise ValueError(
            f"`strength`: expected 0 to 1 ({OWN:g} is the recipe's own), got {strength:g}"
        )
    if strength in (0, OWN):  # exactly, without rounding errors
        return SMALLEST if strength == 0 else 1.0
    least = _way(SMALLEST)
    gone = least + strength * (_way(1.0) - least) / OWN
    return HALF * (gone / (1 - gone)) ** (1 / STEEPNESS)


def strength_of(factor: float) -> float:
    """Return the strength that multiplies the style weight by a factor: the inverse of `factor_of`.

    A factor beyond those of the dial gives a strength below 0 or above 1.

    Args:
      factor: a number over 0.

    Example:
      >>> from nst_jax.recipes.strength import factor_of, strength_of
      >>> round(strength_of(factor_of(0.3)), 12)
      0.3
    """
    least = _way(SMALLEST)
    return OWN * (_way(factor) - least) / (_way(1.0) - least)


def _way(factor: float) -> float:
    """Return the share of the way from the photo that a picture has gone."""
    return float(1 / (1 + (HALF / factor) ** STEEPNESS))
