"""A recipe: every choice and every number of a style transfer, as data; its checks and casts.

Structure is static (taps, functions), numbers are pytree leaves: sweep them, nothing recompiles.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import _checks, losses, optimizers, vgg
from nst_jax._types import Shape
from nst_jax.recipes import sizes, starts
from nst_jax.vgg.taps import halo_of


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

FIFTHS = (0.2,) * 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures are prepared before the first step.

    Attributes:
      size: rule for the content, and so for the canvas.
      style_size: rule for the style; None is the same rule as the content's.
      resize: the filter, a function (image, shape) -> image. Static.
      start: what the canvas starts from, see `nst_jax.recipes.starts`.
    """

    size: sizes.SizeRule = sizes.LongEdge(512)
    style_size: sizes.SizeRule | None = None
    resize: sizes.Resize = _static(sizes.antialiased)
    start: starts.Start = starts.FromContent()


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is minimised.

    `content_weight * sum(w * content_loss)` over the content taps, plus
    `style_weight * sum(w * style_loss)` over the style taps, plus `tv_weight * variation(image)`.
    Taps and functions are static, all weights are leaves. Weights may be 0: no content synthesises
    the style's texture, no style rebuilds the content from its features.

    Of several style pictures the statistics are averaged, weighed by `style_shares`, one for each
    picture; a single share stands for as many alike as there are pictures.
    """

    content_taps: tuple[str, ...] = _static(("relu4_2",))
    content_layer_weights: tuple[float, ...] = (1.0,)
    content_loss: losses.ContentLoss = _static(losses.CONTENT_MEAN_SQUARE)
    content_weight: float = 1.0
    style_taps: tuple[str, ...] = _static(STYLE_TAPS)
    style_layer_weights: tuple[float, ...] = FIFTHS
    style_loss: losses.StyleLoss = _static(losses.GRAM_MEAN_SQUARE)
    style_weight: float = 1.0
    style_shares: tuple[float, ...] = (1.0,)
    variation: losses.Variation = _static(losses.TOTAL_VARIATION)
    tv_weight: float = 0.0

    @property
    def taps(self) -> tuple[str, ...]:
        """Every tap that is looked at, once."""
        return tuple(dict.fromkeys((*self.content_taps, *self.style_taps)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class OneScale:
    """All steps at the final size."""

    def plan(self, shape: Shape, steps: int) -> tuple[tuple[Shape, int], ...]:
        """Return (shape, steps) per scale, coarse to fine."""
        return ((shape, steps),)


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class CoarseToFine:
    """Scales that double up to the final size, each with fewer steps than the one before.

    Attributes:
      smallest: longer side of the coarsest scale is at least this, in pixels.
      share: how many times more steps a scale gets than the next finer one.
    """

    smallest: int = 128
    share: float = 2.0

    def plan(self, shape: Shape, steps: int) -> tuple[tuple[Shape, int], ...]:
        """Return (shape, steps) per scale, coarse to fine; the steps add up."""
        scales = ladder(shape, int(self.smallest))[-max(1, steps) :]
        weights = [float(self.share) ** -index for index in range(len(scales))]
        ends = [round(steps * sum(weights[: i + 1]) / sum(weights)) for i in range(len(scales))]
        # Even a short run reaches the final size.
        ends = [max(end, i + 1) for i, end in enumerate(ends)]
        ends = [min(end, steps - (len(scales) - 1 - i)) for i, end in enumerate(ends)]
        counts = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        return tuple(zip(scales, counts, strict=True))


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the canvas is optimised.

    Attributes:
      optimizer: an update rule of `nst_jax.optimizers`.
      coordinates: the pixels that the optimiser sees; Adam's and L-BFGS' steps are not invariant to
        a change of scale. Static.
      clip: keep the canvas within [0, 1] sRGB after every update. Static.
      steps: number of updates, over all scales.
      schedule: the scales.
    """

    optimizer: optimizers.Optimizer = optimizers.LBFGS()
    coordinates: vgg.Pixels = _static(vgg.RAW)
    clip: bool = _static(False)
    steps: int = 300
    schedule: OneScale | CoarseToFine = OneScale()


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete style transfer, as data. `dataclasses.replace` makes variants.

    Attributes:
      name: of a preset. Static, like all that follow up to `network` but `pictures`.
      source: where its constants come from.
      family: the weights that the source ran on; with others its numbers differ.
      pictures: how the pictures are prepared.
      network: how the trunk is computed.
      terms: what is minimised.
      descent: how.

    Example:
      >>> from dataclasses import replace
      >>> from nst_jax import recipes
      >>> softer = replace(recipes.TF, terms=replace(recipes.TF.terms, style_weight=1e-3))
      >>> softer.terms.style_weight, recipes.TF.terms.style_weight
      (0.001, 0.01)
    """

    name: str = _static("")
    source: str = _static("")
    family: str = _static("vgg19-caffe")
    pictures: Pictures = Pictures()
    network: vgg.Network = _static(vgg.Network())
    terms: Terms = Terms()
    descent: Descent = Descent()

    def bare(self) -> "Recipe":
        """Return the recipe without what only people and the verbs read.

        The compiled programs see this, so that a new name, size rule or schedule compiles nothing.
        """
        descent = replace(self.descent, schedule=OneScale(), steps=0)
        return replace(self, name="", source="", family="", pictures=Pictures(), descent=descent)


# --- Checks and casts -----------------------------------------------------------------------------


def with_numbers(recipe: Recipe, convert: Callable[[Any], Any]) -> Recipe:
    """Return the recipe with every number passed through `convert`."""
    return jax.tree.map(convert, recipe)


def as_arrays(recipe: Recipe, dtype: Any = jnp.float32) -> Recipe:
    """Return the recipe with every number a strongly typed array of `dtype`.

    A Python number is weakly typed under jit, and 3 is another type than 3.0: without this, each
    would compile its own program. The recipe's whole numbers (sizes, steps) are read before that.
    """

    def convert(number: Any) -> jax.Array:
        # Cast on the host where possible: on the device even that is a program to compile.
        if isinstance(number, jax.core.Tracer):
            return number.astype(dtype)
        return jnp.asarray(np.asarray(number).astype(dtype))

    return with_numbers(recipe, convert)


def check(recipe: Any, *, argument: str = "recipe") -> Recipe:
    """Refuse a recipe that cannot be run, and return it with its taps under our names.

    Args:
      recipe: a `Recipe` whose numbers are numbers, or arrays [b] in a sweep.
      argument: how the caller calls the value, for messages.

    Returns:
      The recipe, with aliases such as `"block4_conv2"` resolved.

    Raises:
      TypeError: if it is not a `Recipe`, or a number in it is not one.
      ValueError: for unknown taps, lists of unequal length, negative or non-finite weights, less
        than one step, numbers outside a size rule's, a start's, an optimiser's or a schedule's
        range, a style's size rule for the canvas, a guarded optimiser with clipping.
    """
    if not isinstance(recipe, Recipe):
        hint = f"; `nst_jax.recipes.named({recipe!r})` gives it" if isinstance(recipe, str) else ""
        raise TypeError(f"`{argument}`: expected a Recipe, got {recipe!r}{hint}")
    _check_pictures(recipe.pictures)
    _check_losses(recipe.terms)
    _check_descent(recipe.descent)
    recipe = replace(recipe, terms=_checked_terms(recipe.terms))
    _check_tile(recipe.network.tile, recipe.terms.taps)
    return recipe


def _check_losses(terms: Terms) -> None:
    kinds = {
        "content_loss": losses.ContentLoss,
        "style_loss": losses.StyleLoss,
        "variation": losses.Variation,
    }
    for name, kind in kinds.items():
        if not isinstance(getattr(terms, name), kind):
            raise TypeError(
                f"`{name}`: expected a `{kind.__name__}` of `nst_jax.losses`, got "
                f"{getattr(terms, name)!r}"
            )


def _checked_terms(terms: Terms) -> Terms:
    content = vgg.resolve_taps(terms.content_taps, argument="content_taps")
    style = vgg.resolve_taps(terms.style_taps, argument="style_taps")
    _checks.same_length(
        "content_layer_weights", terms.content_layer_weights, "content_taps", content
    )
    _checks.same_length("style_layer_weights", terms.style_layer_weights, "style_taps", style)
    for name in ("content_weight", "style_weight", "tv_weight"):
        _checks.number(name, getattr(terms, name), least=0)
    for name in ("content_layer_weights", "style_layer_weights"):
        for weight in getattr(terms, name):
            _checks.number(name, weight, least=0)
    _check_shares(terms.style_shares)
    return replace(
        terms,
        style_shares=tuple(terms.style_shares),
        content_taps=content,
        content_layer_weights=tuple(terms.content_layer_weights),
        style_taps=style,
        style_layer_weights=tuple(terms.style_layer_weights),
    )


def _check_shares(shares: Any) -> None:
    if not isinstance(shares, (list, tuple)) or not shares:
        raise TypeError(f"`style_shares`: expected one number for each style, got {shares!r}")
    for share in shares:
        _checks.number("style_shares", share, least=0, below=LARGEST_SHARE)
    if len({np.size(share) for share in shares} - {1}) > 1:
        return  # a sweep whose numbers do not fit together; `stylize_many` says so
    if not np.all(sum(np.asarray(share) for share in shares) > 1 / LARGEST_SHARE):
        raise ValueError("`style_shares`: are all 0, so no style is left; give one of them a share")


# Their sum is taken in float32.
LARGEST_SHARE = 1e30


def check_styles(terms: Terms, count: int, *, argument: str = "style") -> None:
    """Refuse another number of style pictures than the recipe has shares for.

    Raises:
      ValueError: naming both numbers.
    """
    shares = len(terms.style_shares)
    if not count:
        raise ValueError(f"`{argument}`: is empty; give at least one picture")
    if shares not in (1, count):
        raise ValueError(
            f"`{argument}`: expected {shares} pictures, as many as the recipe's `style_shares`, got "
            f"{count}; give as many, or other shares"
        )


def _check_pictures(pictures: Pictures) -> None:
    for name in ("size", "style_size"):
        rule = getattr(pictures, name)
        if isinstance(rule, tuple(sizes.RULES.values())):  # other rules know their own limits
            for number in jax.tree.leaves(rule):
                _checks.number(name, number, least=sizes.SMALLEST, below=sizes.LARGEST + 1)
    if hasattr(pictures.size, "beside"):
        raise ValueError(
            f"`size`: {type(pictures.size).__name__} follows the canvas, whose own rule this is; "
            "it is for `style_size`"
        )
    if isinstance(pictures.start, tuple(starts.STARTS.values())):
        for path, value in jax.tree_util.tree_leaves_with_path(pictures.start):
            _checks.number(jax.tree_util.keystr(path).lstrip("."), value, least=0)


def _check_descent(descent: Descent) -> None:
    _checks.whole("steps", descent.steps, least=1)
    _check_schedule(descent.schedule)
    rule = descent.optimizer
    if isinstance(rule, type) or not isinstance(rule, optimizers.Optimizer):
        raise TypeError(f"`optimizer`: expected a rule of `nst_jax.optimizers`, got {rule!r}")
    for path, value in jax.tree_util.tree_leaves_with_path(rule):
        name = jax.tree_util.keystr(path).lstrip(".")
        if name in ("learning_rate", "radius", "largest_radius"):
            _checks.number(name, value, above=0)
        else:
            _checks.number(name, value, least=0, below=1 if name in ("b1", "b2") else None)
    if hasattr(rule, "history"):
        _checks.whole("history", rule.history, least=1)
    if hasattr(rule, "levels"):
        _checks.whole("levels", rule.levels, least=0)
    if descent.clip and rule.guarded:
        raise ValueError(
            f"`clip`: {type(rule).__name__} rolls back by its own moves, which clipping would "
            "change; choose another optimizer, or `clip=False` (the picture is clipped at the end)"
        )


def _check_schedule(schedule: OneScale | CoarseToFine) -> None:
    if isinstance(schedule, CoarseToFine):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.number("share", schedule.share, above=0)


# What recipes may name.
SCHEDULES = {schedule.__name__: schedule for schedule in (OneScale, CoarseToFine)}


def ladder(shape: Shape, smallest: int, ratio: float = 2.0) -> tuple[Shape, ...]:
    """Return the scales from coarse to fine, each `ratio` times the one before, ending at `shape`.

    Args:
      shape: the final (height, width).
      smallest: no scale's longer side is below this, unless `shape` itself is.
      ratio: how much a scale is larger than the one before, over 1.

    Returns:
      (height, width) per scale.

    Example:
      >>> from nst_jax.recipes.recipe import ladder
      >>> ladder((384, 512), smallest=128)
      ((96, 128), (192, 256), (384, 512))
    """
    scales = [shape]
    factor = 1.0 / ratio
    while round(max(shape) * factor) >= smallest and round(min(shape) * factor) >= 16:
        scales.append((round(shape[0] * factor), round(shape[1] * factor)))
        factor /= ratio
    return tuple(reversed(scales))


def _check_tile(tile: int | None, taps: Iterable[str]) -> None:
    """Refuse a size of tiles that cannot be.

    Raises:
      TypeError: if it is no whole number.
      ValueError: if it is off the pooling grid, or less than a halo.
    """
    if tile is None or tile == 0:
        return
    halo = halo_of(taps)
    _checks.whole("tile", tile, least=halo)
    if tile % vgg.SMALLEST:
        nearest = round(tile / vgg.SMALLEST) * vgg.SMALLEST
        raise ValueError(
            f"`tile`: expected a multiple of {vgg.SMALLEST} px, got {tile}; {nearest} is the nearest"
        )
