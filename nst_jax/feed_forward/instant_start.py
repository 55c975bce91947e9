"""The start `Instant`: the first canvas of an optimisation, painted by a feed-forward network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nst_jax import _checks, prepare
from nst_jax._types import Shape
from nst_jax.feed_forward.given_styles import ParsedStyle, resized_style
from nst_jax.feed_forward.instant_painter import InstantPainter
from nst_jax.images.on_host import at_scale_on_host
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import buckets


def resolved_start(
    prepared: prepare.Prepared,
    recipe: Recipe,
    init: Any,
    shares: Sequence[Any] | None = None,
    *,
    array: Shape | None = None,
) -> Any:
    """Return the start (initial canvas) of an optimisation; for the start `Instant`, paint it.

    The start `Instant` is the content, painted in the styles by a feed-forward network. It is painted
    at the coarsest scale (size of the canvas), since the optimisation begins there and a small picture
    takes the least time. In the recipe `default`, the longer side is 256 px there if the final size is
    512 px; the network was trained on pictures of 256 px, too.

    Args:
      prepared: the pictures of the optimisation at their final sizes, and its scales.
      recipe: the recipe; its own start is used if `init` is None.
      init: a start of `nst_jax.recipes.starts`, a picture, or None for the recipe's start.
      shares: the weights of the styles in the mixture; None is the recipe's `style_shares`.
      array: (height, width) of the larger array in which the canvas lies at the coarsest scale. The
        picture is then painted in a square in which this array fits, so that programs are compiled for
        the square and not for the size of the picture. None: the canvas fills its array.

    Returns:
      A picture [h, w, 3] in [0, 1] if the start is `Instant`. Otherwise `init` unchanged, so None still
      stands for the recipe's start.
    """
    chosen = recipe.pictures.start if init is None else init
    if not isinstance(chosen, starts.Instant):
        return init
    given = recipe.terms.style_shares if shares is None else shares
    blended = recipe.terms.blended_styles(prepared.styles)
    on_host = array is not None
    pictures = [resized_style(np.asarray(one), None, on_host=on_host) for one in blended]
    style, shape = style_of(pictures, given), prepared.scales[0].shape
    content = (at_scale_on_host if on_host else prepare.at_scale)(prepared.content, shape)
    painter = InstantPainter(bucket=None if array is None else buckets.rounded_up(max(array)))
    return painter.paint([painter.request(np.asarray(content), style)])[0]


def style_of(pictures: Sequence[np.ndarray], shares: Sequence[Any]) -> ParsedStyle:
    """Return a mixture of style pictures as a checked style for `InstantPainter.request`.

    Args:
      pictures: images [h, w, 3] in [0, 1], at the sizes at which their style vectors are computed.
      shares: the weight of each picture in the mixture; a sequence of one number means equal weights.
    """
    given = [float(share) for share in shares]
    given = given * len(pictures) if len(given) == 1 else given
    return ParsedStyle(tuple(pictures), _checks.shares("style_shares", given))
