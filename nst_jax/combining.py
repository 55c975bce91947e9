"""`combined_style`: a style from two pictures, the fine structure of one on the shapes of the other.

It is the first of two stages in which Gatys and others combine styles of different spatial scales. The
second stage is a usual style transfer, with the combined picture as its style.
"""

from typing import Any

import numpy as np

from nst_jax import _checks, recipes
from nst_jax._types import Image, Params
from nst_jax.painting import stylize
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.scaling.sharding import Devices


def combined_style(
    params: Params,
    coarse: Any,
    fine: Any,
    *,
    recipe: Recipe = recipes.GATYS_FINE_STYLE,
    size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    devices: Devices = None,
) -> Image:
    """Combine two styles: the fine structure of one picture on the coarse shapes of another.

    The coarse picture is optimised so that the Gram matrices of its activations at the first layers
    approach those of the fine one. Styles of single layers (`tap_styles` of `stylize`) are another way
    to take fine and coarse structures from two pictures. But with these, the targets of the layers come
    from unrelated pictures and may contradict each other, whereas the combined picture is a single
    style.

    Args:
      params: weights from `nst_jax.load_params`.
      coarse: the picture that has the coarse shapes and the colours, [h, w, 3] float in [0, 1], or
        uint8.
      fine: the picture that has the fine structure, [h', w', 3], of any size.
      recipe: the recipe of the run, in which `coarse` is the content and `fine` the style.
      size: size of the combined picture, in any form that `stylize` takes. It should be the size at
        which the combined style will be used, since resizing it later would make the fine structure
        coarser or finer. Default: the recipe's.
      steps: number of updates; default: the recipe's.
      precision: precision of the computation, as in `stylize`.
      tile: size of the tiles in which the picture is computed, as in `stylize`.
      devices: devices that share the picture, as in `stylize`.

    Returns:
      [h, w, 3] float32 in [0, 1]: a style picture for `stylize`.

    Raises:
      TypeError: if an argument is of the wrong type.
      ValueError: if an argument cannot be used, or if both pictures are equal; raised before any long
        work.
      Diverged: if the losses stop being finite.
      Stalled: if the losses end as they began, so that nothing was painted.
      OutOfMemory: if the device runs out of memory.

    Example:
      >>> import nst_jax as nst
      >>> params = nst.load_params()
      >>> coarse, fine = nst.images.sample("starry_night"), nst.images.sample("gravel")
      >>> style = nst.combined_style(params, coarse, fine, size=48, steps=2)
      >>> image = nst.stylize(params, nst.images.sample("chelsea"), style, size=48, steps=2)
      >>> image.shape
      (32, 48, 3)

    References:
      Gatys, Ecker, Bethge, Hertzmann, Shechtman, "Controlling Perceptual Factors in Neural Style
      Transfer", 2017, section 6.
    """
    coarse, fine = _checks.image("coarse", coarse), _checks.image("fine", fine)
    if np.array_equal(coarse, fine):
        raise ValueError(
            "`fine`: is the same picture as `coarse`, so there is no other structure to give it; use "
            "`coarse` as it is"
        )
    return stylize(
        params,
        coarse,
        fine,
        recipe=recipe,
        size=size,
        steps=steps,
        precision=precision,
        tile=tile,
        devices=devices,
    )
