"""Targets: what a canvas is compared with, measured once per scale."""

from nst_jax import vgg
from nst_jax._types import Image, Params, StyleImage, Targets
from nst_jax.recipes import Recipe


def measure(params: Params, content: Image, style: StyleImage, recipe: Recipe) -> Targets:
    """Measure the content's features and the style's statistics at the recipe's taps.

    Traceable. The two pictures need not have the same size: a style statistic does not depend on
    its picture's.

    Args:
      params: weights from `nst_jax.load_params`.
      content: [h, w, 3] in [0, 1], the canvas' size.
      style: [h', w', 3] in [0, 1].
      recipe: taps, losses and network settings.

    Returns:
      `Targets`, passed to the loop as an argument.

    Example:
      >>> import jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> targets = nst.measure(nst.load_params(), grey, grey[:16], nst.recipes.TF)
      >>> targets.style["relu2_1"].shape
      (128, 128)
    """
    terms, network = recipe.terms, recipe.network
    of_content = vgg.features(params, content, terms.content_taps, network=network)
    of_style = vgg.features(params, style, terms.style_taps, network=network)
    return Targets(
        content=of_content,
        style={tap: terms.style_loss.measure(of_style[tap]) for tap in terms.style_taps},
    )
