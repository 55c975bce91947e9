"""A recipe: every choice and every number of a style transfer, as data; casts of its numbers.

Numbers are pytree leaves, structure (taps, functions) is static: recipes that differ only in their
numbers run the same compiled program. An array in place of a number makes a sweep: one picture for each
of its values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nst_jax import losses, optimizers, vgg
from nst_jax._types import ADDED_LATER, Shape
from nst_jax.images.resizing import enlarge
from nst_jax.optimizers.laplacian import over_pyramid
from nst_jax.recipes import filters, sizes, starts, walk
from nst_jax.recipes.schedules import OneScale, Schedule
from nst_jax.vgg.precision import Auto


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


def _added_later(default: Any, *, static: bool = False) -> Any:
    """Declare a field that records of runs leave out while it has its default; see `ADDED_LATER`."""
    return field(default=default, metadata={"static": static, ADDED_LATER: True})


_Style = TypeVar("_Style")

STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

FIFTHS = (0.2,) * 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures are prepared before the first update, and how results are finished.

    Attributes:
      size: rule for the size of the content, and so of the canvas, the picture that is optimised.
      style_size: rule for the size of the style; None means that `size` holds for styles too.
      style_scale: factors by which both sides of each style are then multiplied: one for all styles, or
        one for each. Larger styles give larger strokes. None is a factor of 1.
      resize: the resize filter, a function (image, (height, width)) -> image. Static.
      start: makes the initial canvas; see `nst_jax.recipes.starts`.
      colors: whose colours a result has, one of `nst_jax.controls.COLORS`. Static.
        "style": those of the style. "content": before the run the styles get the mean and covariance
        of the content's colours. "luminance": all pictures are painted in grey, the styles with the
        mean and deviation of the content's luminance, and the result gets the content's chroma.
        "content-after": the result of a run in the style's colours gets the content's chroma.
        "palette": the colours of the result are moved to exactly those of the styles.
      color_map: the linear map of "content": "transport", "cholesky" or "pca", see
        `nst_jax.controls.color`. Static.
      chroma_space: the space in which "luminance" and "content-after" exchange chroma: "oklab" or
        "ycbcr", see `nst_jax.controls.with_chroma_of`. Static.
      realism: how far results are brought back to the content's edges, from 0 to 1; see
        `nst_jax.controls.realistic`.
    """

    size: sizes.SizeRule = sizes.LongEdge(512)
    style_size: sizes.SizeRule | None = None
    resize: filters.Resize = _static(filters.antialiased)
    start: starts.Start = starts.FromContent()
    style_scale: tuple[float, ...] | None = _added_later(None)
    colors: str = _added_later("style", static=True)
    color_map: str = _added_later("transport", static=True)
    chroma_space: str = _added_later("oklab", static=True)
    realism: float = _added_later(0.0)

    def scale_of_style(self, index: int) -> float:
        """Return the factor for the style with this index."""
        factors = self.style_scale or (1.0,)
        return float(factors[index if len(factors) > 1 else 0])


class StylePart(NamedTuple):
    """One style loss at one tap."""

    name: str  # key of its target in `Targets.style`, and of its value in `Losses.style_layers`
    tap: str
    loss: losses.StyleLoss


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SecondStyle:
    """A second style loss, which may read other taps than the first: see `Terms`.

    Attributes:
      taps: the taps that it reads. Static.
      layer_weights: a weight for each of these taps.
      loss: the loss. Static.
      weight: weight of all of it, in addition to `style_weight`, which multiplies both style losses.

    Example:
      >>> from nst_jax import losses, recipes
      >>> histograms = recipes.SecondStyle(
      ...     taps=("relu1_1", "relu4_1"),
      ...     layer_weights=(1.0, 1.0),
      ...     loss=losses.CHANNEL_HISTOGRAMS,
      ...     weight=0.1,
      ... )
      >>> recipes.TF.replace(second_style=histograms).replace(second_style__weight=0.2)
      Recipe('tf', terms.second_style=SecondStyle(...))
    """

    taps: tuple[str, ...] = _static(())
    layer_weights: tuple[float, ...] = ()
    loss: losses.StyleLoss = _static(losses.GRAM_MEAN_SQUARE)
    weight: float = 1.0


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Terms:
    """What is minimised.

    `content_weight * sum(w * content_loss)` over the content taps, plus
    `style_weight * sum(w * style_loss)` over the style taps, plus `tv_weight * variation(image)`, where
    w is the layer weight of a tap.
    Taps and functions are static, all weights are pytree leaves. Weights may be 0: without a content
    term the style's texture is synthesised, without a style term the content is rebuilt from its
    features.

    With a `second_style`, `style_weight` multiplies the sum of both style losses:
    `sum(w * style_loss)` and `second_style.weight * sum(w * second_style.loss)`. Both may read the same
    taps.

    With a `matting_weight`, that weight times xᵀLx / (h w) is added, with x the canvas, L the content's
    matting Laplacian and h w the number of pixels: edges that the content does not have are expensive.
    See `nst_jax.controls.matting`.

    The statistics (such as Gram matrices) of several style pictures are averaged with the weights
    `style_shares`, one for each picture; a single share means equal shares for any number of pictures.

    A style loss of the class `losses.MatchingLoss` compares each position of the canvas with a position
    of the style that matches it. Some of these losses look for the matches only once for each scale,
    before its first update: at the coarsest scale for the positions of the content, and at each later
    one for those of a mixture of content and canvas; `search_content` is the content's share in it.
    Before mixing, the canvas gets the finest detail of the content, see `correspondence.searched`.
    `last_style_loss`, if it is not None, takes the place of `style_loss` at the last scale. For a loss
    whose parts are no taps, `style_layer_weights` has a weight for each part.

    `content_against_style`, if it is not None, is the weight α of the content against one part of the
    style loss at the coarsest scale; it halves from scale to scale. At each scale, `content_weight` is
    then multiplied by α / (α + 2), `style_weight` by 1 / (α + 2), and the last of the
    `style_layer_weights` by 1 / max(α, 1).

    A tap of `tap_styles` (static) has a style picture of its own, and its statistics come from that
    picture alone. These pictures follow the blended ones in every list of styles, in the order of
    `tap_styles`. So fine and coarse strokes may come from different pictures.

    `region_reach` and `region_growth` say how the masks of regions reach a tap: see
    `nst_jax.controls.masks.at_taps`. Both are static.
    """

    content_taps: tuple[str, ...] = _static(("relu4_2",))
    content_layer_weights: tuple[float, ...] = (1.0,)
    content_loss: losses.AnyContentLoss = _static(losses.CONTENT_MEAN_SQUARE)
    content_weight: float = 1.0
    style_taps: tuple[str, ...] = _static(STYLE_TAPS)
    style_layer_weights: tuple[float, ...] = FIFTHS
    style_loss: losses.AnyStyleLoss = _static(losses.GRAM_MEAN_SQUARE)
    style_weight: float = 1.0
    style_shares: tuple[float, ...] = (1.0,)
    second_style: SecondStyle | None = _added_later(None)
    variation: losses.Variation = _static(losses.TOTAL_VARIATION)
    tv_weight: float = 0.0
    search_content: float = _added_later(0.75)
    last_style_loss: losses.AnyStyleLoss | None = _added_later(None, static=True)
    tap_styles: tuple[str, ...] = _added_later((), static=True)
    matting_weight: float | None = _added_later(None)
    content_against_style: float | None = _added_later(None)
    region_reach: str = _added_later("inside", static=True)
    region_growth: int = _added_later(3, static=True)

    def blended_styles(self, styles: Sequence[_Style]) -> Sequence[_Style]:
        """Return the styles that are blended: all but the last ones, which belong to `tap_styles`."""
        return styles[: len(styles) - len(self.tap_styles)]

    @property
    def taps(self) -> tuple[str, ...]:
        """Every tap of a content or style loss, without repetitions."""
        return tuple(dict.fromkeys((*self.content_taps, *self.every_style_tap)))

    @property
    def every_style_tap(self) -> tuple[str, ...]:
        """Every tap of a style loss, without repetitions."""
        second = () if self.second_style is None else self.second_style.taps
        return tuple(dict.fromkeys((*self.style_taps, *second)))

    @property
    def style_parts(self) -> tuple[StylePart, ...]:
        """Every style loss at every tap that it reads; none if the style loss compares positions."""
        loss = self.style_loss
        if isinstance(loss, losses.MatchingLoss):
            return ()
        first = tuple(StylePart(tap, tap, loss) for tap in self.style_taps)
        if (second := self.second_style) is None:
            return first
        return first + tuple(StylePart(f"second_{tap}", tap, second.loss) for tap in second.taps)

    @property
    def style_names(self) -> tuple[str, ...]:
        """The keys of `Losses.style_layers`."""
        if isinstance(self.style_loss, losses.MatchingLoss):
            return self.style_loss.parts or self.style_taps
        return tuple(part.name for part in self.style_parts)

    @property
    def style_part_weights(self) -> tuple[Any, ...]:
        """The weight of each of the `style_parts` in the total loss."""
        if isinstance(self.style_loss, losses.MatchingLoss):
            return ()
        first = tuple(self.style_weight * weight for weight in self.style_layer_weights)
        if (second := self.second_style) is None:
            return first
        both = self.style_weight * second.weight
        return first + tuple(both * weight for weight in second.layer_weights)

    @property
    def additive(self) -> bool:
        """Whether every loss is made of sums over positions, as painting in tiles or bands requires."""
        return all(loss.additive for loss in self.named_losses.values())

    @property
    def named_losses(self) -> dict[str, losses.Loss]:
        """All losses by the keys of their fields, such as `"second_style.loss"`."""
        found: dict[str, losses.Loss] = {
            "content_loss": self.content_loss,
            "style_loss": self.style_loss,
            "variation": self.variation,
        }
        if self.last_style_loss is not None:
            found["last_style_loss"] = self.last_style_loss
        if self.second_style is not None:
            found["second_style.loss"] = self.second_style.loss
        return found

    @property
    def content_loss_by_tap(self) -> losses.ContentLoss:
        """The content loss; only for a recipe whose content loss reads one tap at a time."""
        assert isinstance(self.content_loss, losses.ContentLoss)
        return self.content_loss

    @property
    def statistic_loss(self) -> losses.StyleLoss:
        """The style loss; only for a recipe whose style loss compares statistics, not positions."""
        assert isinstance(self.style_loss, losses.StyleLoss)
        return self.style_loss

    @property
    def searched(self) -> bool:
        """Whether a style loss seeks matches at the beginning of each scale; see `search_content`."""
        return any(
            isinstance(loss, losses.MatchingLoss) and loss.matches is not None
            for loss in self.named_losses.values()
        )

    def at(self, scale: int) -> "Terms":
        """Return the terms with the weights that `content_against_style` gives at a scale."""
        if self.content_against_style is None:
            return self
        alpha = self.content_against_style * 0.5**scale
        at_least_1 = jnp.maximum if isinstance(alpha, jax.Array) else np.maximum
        *parts, last = self.style_layer_weights
        return replace(
            self,
            content_against_style=None,
            content_weight=self.content_weight * alpha / (alpha + 2),
            style_weight=self.style_weight / (alpha + 2),
            style_layer_weights=(*parts, last / at_least_1(alpha, 1)),
        )

    @property
    def matched(self) -> bool:
        """Whether a style loss compares positions: whether it is a `losses.MatchingLoss`."""
        return any(isinstance(loss, losses.MatchingLoss) for loss in self.named_losses.values())


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the canvas is optimised.

    Attributes:
      optimizer: an update rule of `nst_jax.optimizers`.
      coordinates: the pixel convention of the canvas that the optimiser updates. The choice
        matters, since updates of Adam and L-BFGS depend on the range of the pixels. Static.
      clip: whether the canvas is clipped to [0, 1] sRGB after every update. Static.
      steps: number of updates, summed over all scales (resolutions).
      schedule: how the updates are divided among scales.
      enlarge: how a canvas is resized to the next scale, one of `recipes.filters.ENLARGEMENTS`. Static.
      pyramid_levels: if 0, the optimiser updates pixels. Otherwise it updates the levels of a Laplacian
        pyramid with this number of halvings, whose collapse is the canvas; the optimiser must then not
        be guarded. Static. See `nst_jax.optimizers.laplacian`.
      one_pyramid: if True, `pyramid_levels` is the number of halvings at the final size, and a scale of
        half that size has one halving fewer, one of a quarter two fewer, and so on, but at least one.
        If False, every scale has `pyramid_levels` halvings. Static.
      last_learning_rate: if not None, the optimiser's learning rate at the last scale.
      content_detail: if True, the canvas at the beginning of each scale but the first and the last gets
        the finest detail of the content: the finest level of its Laplacian pyramid. Static.
      average_decay: if not None, the result is an average of the canvases at the last scale, whose
        weights fall by this factor with each update; they sum to 1 from the start on (the bias is
        corrected). Each scale begins a new average, and the next one starts from it. Snapshots show
        the average; their losses and those in logs stay those of the canvas that the optimiser
        updates. The optimiser must not be guarded.
    """

    optimizer: optimizers.Optimizer = optimizers.LBFGS()
    coordinates: vgg.Pixels = _static(vgg.RAW)
    clip: bool = _static(False)
    steps: int = 300
    schedule: Schedule = OneScale()
    enlarge: filters.Enlargement = _added_later(enlarge, static=True)
    pyramid_levels: int = _added_later(0, static=True)
    one_pyramid: bool = _added_later(False, static=True)
    average_decay: float | None = _added_later(None)
    last_learning_rate: float | None = _added_later(None)
    content_detail: bool = _added_later(False, static=True)

    @property
    def carries(self) -> bool:
        """Whether each scale begins with the optimiser's state at the end of the scale before."""
        return bool(getattr(self.optimizer, "carry", False))

    def transformation(self, height: int | None = None) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation that updates the canvas.

        Args:
          height: number of rows of the canvas, if rows below them are padding.
        """
        rule = self.optimizer.transformation()
        return over_pyramid(rule, self.pyramid_levels, height) if self.pyramid_levels else rule


# Presets by name, for `Recipe.__repr__`. The module `presets` fills this dictionary: it imports this
# module, which therefore cannot import `presets`.
PUBLISHED: dict[str, "Recipe"] = {}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """A complete style transfer, as data; `replace` makes variants.

    Attributes:
      name: a preset's name, or one of your own. `name`, `source`, `family` and `network` are static.
      source: where the recipe's constants come from.
      family: family of the weights that the source uses; with another family, results differ from the
        source's.
      pictures: how the pictures are prepared.
      network: how VGG-19 is computed.
      terms: what is minimised.
      descent: how it is minimised.

    Example:
      >>> from nst_jax import recipes
      >>> softer = recipes.TF.replace(style_weight=1e-3)
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

    @property
    def divisible(self) -> bool:
        """Whether tiles and bands are allowed: all losses are additive, and no borders wrap."""
        return self.terms.additive and not self.network.wraps

    def bare(self) -> "Recipe":
        """Return the recipe with fixed values in all fields on which compiled programs do not depend.

        Compiled programs are called with the result, so that another name, size rule or schedule does
        not recompile them.
        """
        descent = replace(self.descent, schedule=OneScale(), steps=0, enlarge=enlarge)
        bare = replace(self, name="", source="", family="", pictures=Pictures(), descent=descent)
        if isinstance(self.network.precision, Auto):
            return bare
        unused = vgg.Network().accelerator_precision
        return replace(bare, network=replace(self.network, accelerator_precision=unused))

    def at(self, scale: int, shapes: Sequence[Shape]) -> "Recipe":
        """Return the recipe as it is at one scale of a run.

        Args:
          scale: index of the scale; 0 is the coarsest.
          shapes: (height, width) of the canvas at each scale.

        Returns:
          The recipe with `terms.last_style_loss` in place of the style loss and with
          `descent.last_learning_rate` at the last scale, with the pyramid levels of the scale, if a run
          has one pyramid, and with the weights that `terms.content_against_style` gives there; itself
          if nothing changes.
        """
        terms, descent = self.terms.at(scale), self.descent
        if terms.last_style_loss is not None:
            last = scale == len(shapes) - 1
            loss = terms.last_style_loss if last else terms.style_loss
            terms = replace(terms, style_loss=loss, last_style_loss=None)
        if descent.one_pyramid:
            halvings = round(math.log2(max(shapes[-1]) / max(shapes[scale])))
            levels = max(1, descent.pyramid_levels - halvings)
            descent = replace(descent, pyramid_levels=levels, one_pyramid=False)
        if (rate := descent.last_learning_rate) is not None:
            if scale == len(shapes) - 1:
                rule: Any = descent.optimizer
                descent = replace(descent, optimizer=replace(rule, learning_rate=rate))
            descent = replace(descent, last_learning_rate=None)
        if terms is self.terms and descent is self.descent:
            return self
        return replace(self, terms=terms, descent=descent)

    def resolved(self, platform: str | None = None) -> "Recipe":
        """Return the recipe with the precision in which a platform computes it, in place of `AUTO`.

        Args:
          platform: JAX's name of the platform, such as "gpu"; None is that of JAX's default device.

        Returns:
          The recipe itself if it has no `AUTO`.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.TF.resolved("gpu")
          Recipe('tf', network.precision=tensorfloat32)
        """
        if not isinstance(self.network.precision, Auto):
            return self
        precision = self.network.precision_on(platform)
        return replace(self, network=replace(self.network, precision=precision))

    def replace(self, values: Mapping[str, Any] | None = None, /, **more: Any) -> "Recipe":
        """Return a variant of the recipe: some of its values replaced, the others as they are.

        Args:
          values: field to value; needed for full keys with dots, which cannot be keywords.
          **more: field to value, as keywords. A field is given by its name alone, such as
            `style_weight`, or, where several fields have that name, by its full key:
            `pictures__size__pixels=256` or `{"pictures.size.pixels": 256}`. Whole
            dataclasses (an optimiser, a size rule) are replaced first, so that
            `replace(optimizer=Adam(), learning_rate=0.1)` sets the new optimiser's rate. A value is a
            number, an array (for a sweep), a function or a dataclass; a size rule may also be given as
            `stylize` accepts its `size`, such as 256.

        Returns:
          The variant. Its values are not checked here, but by `nst_jax.recipes.check` and by every
          function that runs a recipe.

        Raises:
          ValueError: for an unknown name, and for a name that several fields have; the message suggests
            the nearest known name, or lists the full keys.

        Example:
          >>> from nst_jax import optimizers, recipes
          >>> recipes.TF.replace(style_weight=3, steps=200)
          Recipe('tf', terms.style_weight=3, descent.steps=200)
          >>> recipes.TF.replace(size=256, optimizer=optimizers.Adam()).descent.optimizer.learning_rate
          0.02
        """
        recipe = self
        given = [*(values or {}).items(), *more.items()]
        for name, value in sorted(given, key=lambda pair: not is_dataclass(pair[1])):
            key = walk.full_key(recipe, name)
            if key in SIZES and isinstance(value, (int, np.integer, str)):
                rule = SIZES[key](recipe.pictures)
                value = sizes.with_size(rule, value, argument=name)
            recipe = walk.with_field(recipe, key, value)
        return recipe

    def __repr__(self) -> str:
        """Show only values that differ from the preset of the same name, or else from the defaults."""
        base = PUBLISHED.get(self.name) or replace(Recipe(), name=self.name)
        found = [f"{item.key}={walk.short_value(item)}" for item in walk.differences(self, base)]
        if len(found) > MOST_DIFFERENCES:
            found = [*found[:MOST_DIFFERENCES], f"... {len(found) - MOST_DIFFERENCES} more"]
        return f"Recipe({', '.join([repr(self.name)] * bool(self.name) + found)})"


MOST_DIFFERENCES = 12  # most values shown in the repr of a recipe

# Keys at which `Recipe.replace` accepts a size such as 256 -> the rule that `with_size` then changes.
SIZES: Mapping[str, Callable[[Pictures], sizes.SizeRule]] = {
    "pictures.size": lambda pictures: pictures.size,
    "pictures.style_size": lambda pictures: pictures.style_size or pictures.size,
}


def with_numbers(recipe: Recipe, convert: Callable[[Any], Any]) -> Recipe:
    """Return the recipe with every number passed through `convert`."""
    return jax.tree.map(convert, recipe)


def as_arrays(recipe: Recipe, dtype: Any = jnp.float32) -> Recipe:
    """Return the recipe with every number as a strongly typed array of `dtype`.

    A Python number is weakly typed under jit, and 3 has another type than 3.0: without this cast, each
    would compile a program of its own. Sizes and steps become floats, too, so read whole numbers from
    the recipe before the cast.
    """

    def convert(number: Any) -> jax.Array:
        # Cast on the host where possible, since a cast on the device is one more program to compile.
        if isinstance(number, jax.core.Tracer):
            return number.astype(dtype)
        return jnp.asarray(np.asarray(number).astype(dtype))

    return with_numbers(recipe, convert)
