"""The objective of one canvas: weighted losses, exactly as minimised. Pure."""

import operator
from functools import partial, reduce

from nst_jax import vgg
from nst_jax._types import FeatureMap, Image, Losses, Params, Scalar, Targets
from nst_jax.losses import Extent, positions, widened
from nst_jax.recipe import Recipe


def losses_of(params: Params, image: Image, targets: Targets, recipe: Recipe) -> Losses:
    """Compute the weighted losses of an image against targets.

    Traceable and differentiable; one image, batches are a `vmap`.

    Args:
      params: weights from `nst_jax.load_params`.
      image: [h, w, 3] in [0, 1], the size of the content that `targets` was measured on.
      targets: from `measure`.
      recipe: taps, losses, weights and network settings.

    Returns:
      `Losses` of scalars: the style taps sum to `style`; content, style and tv to `total`.

    Raises:
      ValueError: if the image and the content of `targets` differ in size.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import nst_jax as nst
      >>> params, grey = nst.load_params(), jnp.full((32, 32, 3), 0.5)
      >>> targets = jax.jit(nst.measure)(params, grey, grey, nst.recipes.TF)
      >>> float(jax.jit(nst.losses_of)(params, grey, targets, nst.recipes.TF).total)
      0.0
    """
    terms = recipe.terms
    products, pixels = recipe.network.precision.products, image.shape[-3] * image.shape[-2]

    def measure(tap: str, found: FeatureMap) -> tuple[Scalar | None, Scalar | None]:
        """Return how far a tap's features are from the content's, and from the style's."""
        content = style = None
        if tap in terms.content_taps:
            if found.shape != targets.content[tap].shape:
                raise ValueError(
                    f"`image`: its {tap} is {list(found.shape)}, that of the content which "
                    f"`targets` was measured on {list(targets.content[tap].shape)}; sizes must agree"
                )
            content = terms.content_loss(widened(found), widened(targets.content[tap]))
        if tap in terms.style_taps:
            statistic = terms.style_loss.measure(found, products)
            extent = Extent(positions(found), pixels)
            style = terms.style_loss.distance(statistic, targets.style[tap], extent)
        return content, style

    measures = {tap: partial(measure, tap) for tap in terms.taps}
    distances = vgg.measured(params, image, measures, network=recipe.network)
    contents = [
        weight * distances[tap][0]
        for tap, weight in zip(terms.content_taps, terms.content_layer_weights, strict=True)
    ]
    layers = {
        tap: terms.style_weight * weight * distances[tap][1]
        for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True)
    }
    content = terms.content_weight * reduce(operator.add, contents)
    style = reduce(operator.add, layers.values())
    tv = terms.tv_weight * terms.variation(image)
    return Losses(content + style + tv, content, style, tv, layers)
