"""`rate`, which rates a picture by all raters at once, and what is needed to interpret its result.

A rater is a function that measures one property of a painted picture, such as the distance of its
colours from those of the style. `rate` returns a `Rating` with the values of all raters, and `RATERS`
describes each of them. `unused_taps` names layers that the losses of given recipes do not read; at
these layers, the recipes are compared more fairly. `biased_raters` names the raters that favour a
recipe.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from nst_jax import _checks
from nst_jax._types import AnyImage, Array, Features, Image, Params, Resized, Scalar
from nst_jax.images.resizing import antialiased
from nst_jax.losses import MatchingLoss, at_least_float32
from nst_jax.raters.artefacts import LEAST_SIDE, border, grid_energy, speckle
from nst_jax.raters.checks import check_picture, check_predictor
from nst_jax.raters.content import gradient_agreement, self_similarity_divergence, ssim
from nst_jax.raters.palette import palette_distance
from nst_jax.raters.style import (
    AnyStyle,
    gram_distance,
    style_vector_distance,
    wasserstein_distance,
)
from nst_jax.recipes import starts
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import LongEdge
from nst_jax.vgg.network import Network, features
from nst_jax.vgg.precision import FLOAT32
from nst_jax.vgg.taps import BLOCKS, SMALLEST, check_layers, layer_of, resolve_tap, resolve_taps

# A content picture, sRGB in [0, 1]; its size may differ from that of the picture that is rated.
AnyContent: TypeAlias = Float[Array | np.ndarray, "h_content w_content 3"]

# --- The record -----------------------------------------------------------------------------------


class Rating(NamedTuple):
    """The values of all raters for one picture, as scalars.

    A rater measures one property of a picture; `RATERS` describes the rater of each field.
    """

    style_vector: Scalar
    gram: Scalar
    wasserstein: Scalar
    palette: Scalar
    ssim: Scalar
    self_similarity: Scalar
    gradients: Scalar
    border_mean: Scalar
    border_variance: Scalar
    ring_mean: Scalar
    ring_variance: Scalar
    grid: Scalar
    speckle: Scalar


@dataclass(frozen=True)
class Rater:
    """The description of a rater, a function that measures one property of a painted picture.

    In `RATERS`, the key of a description is the name of the field of `Rating` with the rater's value.

    Attributes:
      of: what the rater rates: `"style"`, `"content"` or `"artefacts"`.
      best: which values are better: `"low"` ones, `"high"` ones, or those near `"zero"`, whether
        positive or negative.
      what: the quantity that is measured, in a few words.
    """

    of: str
    best: str
    what: str


RATERS: Mapping[str, Rater] = MappingProxyType(
    {
        "style_vector": Rater("style", "low", "distance of Magenta's style vectors"),
        "gram": Rater("style", "low", "relative distance of Gram matrices, mean over taps"),
        "wasserstein": Rater("style", "low", "relative distance of Gaussians, mean over taps"),
        "palette": Rater("style", "low", "distance of the colours in OKLab"),
        "ssim": Rater("content", "high", "structural similarity to the content"),
        "self_similarity": Rater("content", "low", "divergence of self-similarities at relu3_1"),
        "gradients": Rater("content", "high", "agreement with the edges of the content"),
        "border_mean": Rater("artefacts", "low", "colour of the outer 8 px against the rest"),
        "border_variance": Rater(
            "artefacts", "zero", "ln variance of the outer 8 px / of the rest"
        ),
        "ring_mean": Rater("artefacts", "low", "colour of the outer 8 px against the next 8 px"),
        "ring_variance": Rater(
            "artefacts", "zero", "ln variance of the outer 8 px / of the next 8 px"
        ),
        "grid": Rater("artefacts", "zero", "largest peak at a pooling grid's frequencies"),
        "speckle": Rater("artefacts", "low", "difference from the median over 3 x 3 px"),
    }
)

# The layers at which `rate` compares Gram matrices, and Gaussians fitted to the features, by default.
# They were chosen because the losses of the recipe `default` read none of them: a rater favours recipes
# whose losses read the same layers as the rater.
TAPS = ("relu1_2", "relu2_2", "relu3_2", "relu4_3", "relu5_2")

STRUCTURE = "relu3_1"  # the layer whose features the rater `self_similarity` compares

# Longer side in px to which larger pictures are reduced before self-similarities are compared, since
# the cost of the comparison grows with the fourth power of the side.
LARGEST = 512


def rate(
    params: Params,
    predictor: Params,
    picture: AnyImage,
    content: AnyContent,
    style: AnyStyle,
    *,
    taps: tuple[str, ...] = TAPS,
) -> Rating:
    """Rate by all raters (metrics) how near a picture is to content and style, and its artefacts.

    JAX can trace this function; `jax.jit(nst_jax.raters.rate, static_argnames="taps")` compiles one
    program for each combination of shapes. The content is resized to the picture's size, and the style
    so that its longer side is as long as the picture's. All values depend on the size of the picture,
    so compare only the ratings of pictures of one size, made with the same `taps`.

    Args:
      params: weights of VGG-19, from `nst_jax.load_params`.
      predictor: weights of the style predictor, from `nst_jax.feed_forward.load_arbitrary`.
      picture: [h, w, 3] sRGB in [0, 1], the result to rate, at least 48 px on each side.
      content: [h_content, w_content, 3] sRGB in [0, 1], the photograph, at least 16 px on each side.
      style: [h_style, w_style, 3] sRGB in [0, 1], the style picture, at least 16 px on each side.
      taps: names of the layers at which Gram matrices, and Gaussians fitted to the features, are
        compared. Recipes are compared more fairly at layers that their losses do not use; `unused_taps`
        returns such layers. Static under `jax.jit`.

    Returns:
      A `Rating` of scalars; `rate(...)._asdict()` gives them by name.

    Raises:
      TypeError: if an argument is of the wrong type, such as a file's name in place of a picture.
      ValueError: if weights are of another network or lack a layer that is read, if a picture is not
        [h, w, 3], is too small or is not floating point, if a tap is unknown or named twice, or if
        `taps` is empty.

    Example:
      >>> import jax
      >>> import nst_jax as nst
      >>> rate = jax.jit(nst.raters.rate, static_argnames="taps")
      >>> content, style = nst.images.sample("chelsea")[:96, :96], nst.images.sample("gravel")
      >>> predictor = nst.feed_forward.load_arbitrary()
      >>> rating = rate(nst.load_params(), predictor, content, content, style, taps=("relu2_2",))
      >>> round(float(rating.ssim), 4), float(rating.self_similarity), bool(rating.gram > 0)
      (1.0, 0.0, True)

    References:
      Those of the raters, in the modules of `nst_jax.raters`.
    """
    _checks.weights_of_vgg(params, Params, "`nst_jax.load_params()` gives them")
    check_predictor(predictor)
    check_picture("picture", picture, smallest=LEAST_SIDE, needs="the spectrum needs")
    for name, image in (("content", content), ("style", style)):
        check_picture(name, image, smallest=SMALLEST, needs="the network needs")
    taps = resolve_taps(taps)
    check_layers(params, (*taps, STRUCTURE))
    x, c, s = (at_least_float32(jnp.asarray(image)) for image in (picture, content, style))
    height, width = x.shape[:2]
    c = _resized(c, (height, width))
    s = _resized(s, LongEdge(max(height, width)).shape(*s.shape[:2]))
    ours, theirs = (_features(params, image, taps) for image in (x, s))
    shape = LongEdge(min(LARGEST, max(height, width))).shape(height, width)
    ours_small, contents_small = (
        _features(params, _resized(image, shape), (STRUCTURE,))[STRUCTURE] for image in (x, c)
    )
    outer, ring = border(x), border(x, ring=8)
    return Rating(
        style_vector=style_vector_distance(predictor, x, s),
        gram=_mean([gram_distance(ours[tap], theirs[tap]) for tap in taps]),
        wasserstein=_mean([wasserstein_distance(ours[tap], theirs[tap]) for tap in taps]),
        palette=palette_distance(x, s),
        ssim=ssim(x, c),
        self_similarity=self_similarity_divergence(ours_small, contents_small),
        gradients=gradient_agreement(x, c),
        border_mean=outer.mean,
        border_variance=outer.variance,
        ring_mean=ring.mean,
        ring_variance=ring.variance,
        grid=grid_energy(x),
        speckle=speckle(x),
    )


def _resized(image: Image, shape: tuple[int, int]) -> Resized:
    """Resize an image to (height, width), but to at least 16 px on each side, as the network needs."""
    height, width = (max(SMALLEST, side) for side in shape)
    return image if image.shape[:2] == (height, width) else antialiased(image, (height, width))


def _features(params: Params, image: Image, taps: tuple[str, ...]) -> Features:
    return features(params, image, taps, network=Network(precision=FLOAT32))


def _mean(distances: list[Array]) -> Scalar:
    return jnp.mean(jnp.stack(distances))


# --- Raters that favour a recipe ------------------------------------------------------------------


def unused_taps(*recipes: Recipe) -> tuple[str, ...]:
    """Return taps (layers) that none of the given recipes uses in its losses.

    At a tap that a recipe's losses read, the results of this recipe have an advantage. So at unused
    taps, `rate` compares the results of several recipes more fairly.

    Args:
      *recipes: the recipes whose results are compared.

    Returns:
      For each of VGG-19's five blocks, the tap after the ReLU, such as `"relu3_2"`, of the first layer
      that no recipe reads, neither before nor after its ReLU. A block without such a layer is left out.

    Raises:
      TypeError: if one of `recipes` is not a `Recipe`.
      ValueError: if there is no such tap in any block.

    Example:
      >>> from nst_jax import recipes
      >>> from nst_jax.raters import unused_taps
      >>> unused_taps(recipes.DEFAULT, recipes.PYTORCH_TUTORIAL)
      ('relu3_2', 'relu4_3', 'relu5_2')
    """
    for index, recipe in enumerate(recipes):
        _check_recipe(f"recipes[{index}]", recipe)
    used = {layer_of(resolve_tap(tap)) for recipe in recipes for tap in recipe.terms.taps}
    found = []
    for block, (count, _) in enumerate(BLOCKS, 1):
        free = [index for index in range(1, count + 1) if f"conv{block}_{index}" not in used]
        found += [f"relu{block}_{index}" for index in free[:1]]
    if not found:
        raise ValueError("`recipes`: together read every layer, so no tap is left; compare fewer")
    return tuple(found)


def biased_raters(recipe: Recipe) -> dict[str, str]:
    """Return the raters that favour a recipe, since it optimises or sets nearly what they measure.

    Most of them measure nearly what a loss of the recipe minimises. But `palette` also favours a recipe
    that moves the result's colours to the style's palette, and `style_vector` favours one that starts
    from a picture painted by `nst_jax.instant`.

    The raters `gram` and `wasserstein` favour every recipe that has a style loss. They do so even if
    they compare features at the layers from `unused_taps`, since the layers of a network depend on each
    other.

    Args:
      recipe: the recipe whose results are rated.

    Returns:
      A dictionary from the name of each rater, which is a field of `Rating`, to the reason.

    Raises:
      TypeError: if `recipe` is not a `Recipe`.

    Example:
      >>> from nst_jax import recipes
      >>> from nst_jax.raters import biased_raters
      >>> sorted(biased_raters(recipes.TF))
      ['gram', 'self_similarity', 'wasserstein']
    """
    _check_recipe("recipe", recipe)
    terms = recipe.terms
    found: dict[str, str] = {}
    if _weighs(terms.style_weight):
        compared = "features" if terms.matched else "statistics of features"
        reason = f"its style loss compares {compared} of the same network"
        found |= dict.fromkeys(("gram", "wasserstein"), reason)
    if _weighs(terms.content_weight):
        found["self_similarity"] = "its content loss compares features of the same network"
    if _weighs(terms.tv_weight):
        found["speckle"] = "it minimises variation, of which speckle is a part"
    if isinstance(terms.style_loss, MatchingLoss) and "palette" in terms.style_loss.parts:
        found["palette"] = "its style loss compares the colours with the style's"
    if recipe.pictures.colors == "palette":
        found["palette"] = "it moves its colours to the style's palette"
    if isinstance(recipe.pictures.start, starts.Instant):
        found["style_vector"] = "it starts from a picture painted by style vector"
    return found


def _check_recipe(argument: str, recipe: Any) -> None:
    _checks.instance(argument, recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")


def _weighs(weight: Any) -> bool:
    """Return whether a weight is not 0; for an array of weights, whether any of them is not 0."""
    return bool(np.any(np.asarray(weight) != 0))
