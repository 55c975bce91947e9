"""Targets: what a canvas is compared with, measured once per scale."""

from nst_jax import vgg
from nst_jax._types import Features, Image, Params, Statistic, StyleImage, Targets
from nst_jax.recipe import Recipe


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
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> grey = jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(nst.load_params(), grey, grey, nst.recipes.TF)
      >>> targets.style["relu2_1"].shape
      (128, 128)
    """
    return Targets(
        content=measure_content(params, content, recipe),
        style=measure_style(params, style, recipe),
    )


def measure_content(params: Params, content: Image, recipe: Recipe) -> Features:
    """Measure the content's features [h', w', c] at the recipe's content taps."""
    return vgg.features(params, content, recipe.terms.content_taps, network=recipe.network)


def measure_style(params: Params, style: StyleImage, recipe: Recipe) -> dict[str, Statistic]:
    """Measure the style's statistics at the recipe's style taps."""
    terms = recipe.terms
    found = vgg.features(params, style, terms.style_taps, network=recipe.network)
    return {tap: terms.style_loss.measure(found[tap]) for tap in terms.style_taps}
