"""The setting `strength`: it multiplies the style weight by a factor.

The factor is chosen such that equal steps of `strength` change the picture by equal amounts, as nearly
as one formula can do so for all pictures. If the style loss looks for matches before the first
update of a scale (resolution), `strength` changes `terms.search_content` in place of the style weight,
by another formula; see `recipes.changes.with_strength`.

As the style weight grows by equal factors, the picture first changes slowly, then fast, then hardly at
all. Let w be how far a picture has changed on the way from the photo (w = 0) to the picture painted
with a very large style weight (w = 1). `benchmarks/strength.py` measured w for pairs of a content and a
style, as the mean of three numbers that also go from 0 to 1: how far the pixels have changed, how far
the distance to the style has changed, and how far the distance to the content has changed. The results
are near the logistic curve

    w(f) = 1 / (1 + (HALF / f)^STEEPNESS)

where f is the factor by which the recipe's own style weight is multiplied, and HALF and STEEPNESS are
numbers that were fitted to the results. `strength`, from 0 to 1, is made to be linear in w:

    w(f) = w(SMALLEST) + strength (w(1) - w(SMALLEST)) / OWN

SMALLEST = 0.003 is the factor at strength 0, where the style can just be seen. The recipe's own weight
(f = 1) is at strength OWN = 0.85 and not at 0.5, since w(1) is near 0.83: pictures change much less
above f = 1 than below it. If the recipe's own weight were at strength 0.5, a step of strength would
look several times as large below 0.5 as above it.
"""

from typing import Any

import numpy as np

from nst_jax import _checks

# `HALF` and `STEEPNESS` were fitted to what the recipe `default` painted for the pairs of content and
# style in benchmarks/results/strength-cpu.json. They are rounded to one digit, since the differences
# between single pairs are larger than this rounding.

# Factor of the style weight at which a picture is halfway between the photo and the picture with a very
# large style weight.
HALF = 0.1
# How fast the picture changes with the logarithm of the factor: the exponent in the logistic curve
# w = 1 / (1 + (HALF / factor)^STEEPNESS), where w goes from 0 (the photo) to 1 (the picture with a very
# large style weight).
STEEPNESS = 0.7

# `SMALLEST` and `OWN` were chosen, not fitted. At strength 0, w in the formula above is about 0.08, so
# the style can just be seen. With this value of OWN, strength 1 multiplies the style weight by about
# 12; with still larger style weights, pictures hardly change.
SMALLEST = 0.003  # factor of the style weight at strength 0
OWN = 0.85  # the strength at which the style weight is the recipe's own


def factor_of(strength: Any) -> Any:
    """Return the factor by which a strength multiplies a recipe's style weight.

    The module's docstring has the formula.

    Args:
      strength: a number from 0 (hardly any style) to 1 (the most style), or an array of such numbers.
        With `OWN`, which is 0.85, the style weight stays the same.

    Returns:
      A number that grows with `strength`: 0.003 (`SMALLEST`) at 0, 1 at `OWN`, and about 12 at 1; or an
      array of the shape of `strength`.

    Raises:
      TypeError: if `strength` is not a number, nor an array of numbers.
      ValueError: if `strength` is not between 0 and 1, or is an empty array.

    Example:
      >>> from nst_jax.recipes import strength
      >>> strength.factor_of(0.0), strength.factor_of(strength.OWN)
      (0.003, 1.0)
    """
    _checks.number("strength", strength, least=0, most=1, means=f"{OWN:g} is the recipe's own")
    if np.size(strength) == 0:
        raise ValueError(
            f"`strength`: expected numbers from 0 to 1, got an empty array, {np.shape(strength)}"
        )
    if np.ndim(strength):
        numbers = np.asarray(strength, np.float64)
        return np.array([factor_of(float(one)) for one in numbers.ravel()]).reshape(numbers.shape)
    # The formula below would give the factors of these two strengths with rounding errors.
    if strength in (0, OWN):
        return SMALLEST if strength == 0 else 1.0
    least = _way(SMALLEST)
    gone = least + strength * (_way(1.0) - least) / OWN
    return HALF * (gone / (1 - gone)) ** (1 / STEEPNESS)


def strength_of(factor: float) -> float:
    """Return the strength that multiplies the style weight by a factor: the inverse of `factor_of`.

    A factor below `factor_of(0)` gives a negative strength, and one above `factor_of(1)` a strength
    above 1.

    Args:
      factor: a number over 0.

    Returns:
      The strength, a number.

    Raises:
      TypeError: if the factor is not a number.
      ValueError: if it is 0 or less.

    Example:
      >>> from nst_jax.recipes.strength import factor_of, strength_of
      >>> round(strength_of(factor_of(0.3)), 12)
      0.3
    """
    _checks.number("factor", factor, above=0)
    least = _way(SMALLEST)
    return OWN * (_way(factor) - least) / (_way(1.0) - least)


def _way(factor: float) -> float:
    """Return w, how far a picture is from the photo if the style weight is `factor` times the recipe's.

    w is 0 for the photo, and 1 for the picture painted with a very large style weight.
    """
    return float(1 / (1 + (HALF / factor) ** STEEPNESS))
