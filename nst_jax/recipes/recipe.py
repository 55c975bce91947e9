"""The class `Recipe`: every choice and every number of a style transfer, as data.

A recipe is a pytree. Its numbers are leaves, except a few that determine the program, such as the tile
size. These are static, and so are taps (the layers that losses read) and functions. Recipes that differ
only in leaves run the same compiled program. An array in place of a leaf makes a sweep: one picture is
painted for each of the array's values.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nst_jax import _checks, losses, optimizers, vgg
from nst_jax._types import ADDED_LATER, Shape
from nst_jax.images.resizing import enlarge
from nst_jax.optimizers.laplacian import over_pyramid
from nst_jax.recipes import filters, sizes, starts, walk
from nst_jax.recipes.schedules import OneScale, Schedule, counted
from nst_jax.vgg.precision import Auto


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


def _added_later(default: Any, *, static: bool = False) -> Any:
    """Declare a field that `nst_jax.provenance` leaves out while it has its default value.

    That module describes a run by the fields of its recipe, and a run resumes from a checkpoint only if
    both have the same description. Since the new field is left out, runs that do not use it can resume
    from checkpoints that were written before the field was added.
    """
    return field(default=default, metadata={"static": static, ADDED_LATER: True})


_Style = TypeVar("_Style")

# The style layers of many published methods: the first convolution of each block, after its ReLU.
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

FIFTHS = (0.2,) * 5  # equal layer weights, with the sum 1, for the five `STYLE_TAPS`


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures are prepared before the first update, and how results are finished.

    Attributes:
      size: rule for the size of the content, and so of the canvas, the picture that is optimised.
      style_size: rule for the size of the style; None means that `size` holds for styles too.
      resize: the resize filter, a function (image, (height, width)) -> image. Static.
      start: the function that makes the initial canvas; see `nst_jax.recipes.starts`.
      style_scale: factors by which both sides of the styles are multiplied after the size rule: one
        factor for all styles, or one for each. Larger styles give larger strokes. None means the
        factor 1.
      colors: whose colours a result has, one of `nst_jax.controls.COLORS`. Static.
        "style": the style's colours.
        "content": before the run, the colours of the styles are changed to have the mean and covariance
        of the content's colours.
        "luminance": content and styles are made grey before the run, and the styles are given the mean
        and standard deviation of the content's luminance; after the run, the result gets the content's
        chroma.
        "content-after": after a run in the style's colours, the result gets the content's chroma.
        "palette": after the run, the result gets the content's chroma, moved to the mean and covariance
        of the styles' colours, and its lightness is limited to the range of the styles'; see
        `nst_jax.images.palettes.recoloured`.
      color_map: the linear map of colours that `colors="content"` uses: "transport", "cholesky" or
        "pca"; see `nst_jax.controls.color`. Static.
      chroma_space: the colour space in which `colors="luminance"` and `colors="content-after"` give the
        result the content's chroma: "oklab" or "ycbcr"; see `nst_jax.controls.with_chroma_of`. Static.
      realism: how far the edges of results are brought back to those of the content, from 0 (not at
        all) to 1; see `nst_jax.controls.realistic`.
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
        """Return the factor by which `style_scale` multiplies the sides of style number `index`."""
        factors = self.style_scale or (1.0,)
        return float(factors[index if len(factors) > 1 else 0])


class StylePart(NamedTuple):
    """One style loss at one tap (layer): a term of the total style loss."""

    # The key of this term in two dictionaries: `Targets.style`, which has the style's target for it,
    # and `Losses.style_layers`, which has its weighted value.
    name: str
    tap: str  # name of the layer that the loss reads, such as "relu1_1"
    loss: losses.StyleLoss


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class SecondStyle:
    """A second style loss, which may read other taps than the first one, `Terms.style_loss`.

    `Terms` has the formula of the total loss with both style losses.

    Attributes:
      taps: names of the taps (layers) that the second loss reads. Static.
      layer_weights: a weight for each of these taps.
      loss: the loss at one tap. Static.
      weight: weight of the sum over these taps. The recipe's `style_weight` multiplies this sum, too.

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
    """The terms of the total loss that is minimised: losses, the taps that they read, and weights.

    The total loss is `content_weight * sum(w * content_loss)` over the content taps, plus
    `style_weight * sum(w * style_loss)` over the style taps, plus `tv_weight * variation(image)`. A tap
    is a layer whose features a loss reads, and w is the layer weight of a tap. Taps and functions are
    static, all weights are pytree leaves. Weights may be 0, but not all of them: without a content term
    the style's texture is synthesised, without a style term the content is rebuilt from its features.

    With a `second_style`, the total style loss is `style_weight` times the sum of
    `sum(w * style_loss)` and `second_style.weight * sum(w * second_style.loss)`. The two style losses
    may read the same taps.

    If `matting_weight` is not None, `matting_weight` times xᵀLx / (h w) is added to the total loss,
    where x is the canvas, L the matting Laplacian of the content and h w the number of pixels. This
    term penalises edges that the content does not have; see `nst_jax.controls.matting`.

    The statistics (such as Gram matrices) of several style pictures are averaged with the weights
    `style_shares`, one for each picture; a single share means equal shares for any number of pictures.

    A style loss of the class `losses.MatchingLoss` compares each position of the canvas with a position
    of the style that matches it. Some of these losses look for the matches only once for each scale
    (resolution), before its first update. At the coarsest scale, they seek a match for each position of
    the content; at each later scale, for each position of a mixture of content and canvas.
    `search_content` is the content's share in this mixture. Before mixing, the finest detail of the
    content is added to the canvas; see `nst_jax.correspondence.searched`.

    `last_style_loss`, if it is not None, takes the place of `style_loss` at the last scale. Some style
    losses do not have one term for each tap, but the terms that their field `parts` names; see
    `losses.MatchingLoss`. With such a loss, `style_layer_weights` has a weight for each of these terms.

    `content_against_style`, if it is not None, makes the weights differ from scale to scale, with less
    weight on the content at finer scales. Let α be its value at the coarsest scale, half of it at the
    next scale, a quarter at the one after that, and so on. At each scale, `content_weight` is
    multiplied by α / (α + 2), `style_weight` by 1 / (α + 2), and the last of the `style_layer_weights`
    by 1 / max(α, 1).

    `tap_styles` (static) are the style taps that have a style picture of their own: the statistics at
    such a tap come from that picture alone. So fine and coarse strokes may come from different
    pictures. In every list of styles, the pictures for `tap_styles` come last, in the same order.

    A region is an area of the picture with a style of its own. `region_reach` and `region_growth` say
    how the masks of regions, which are given in pixels, become masks for the feature maps of a tap; see
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
        """Return the entries of `styles` for the style pictures that are blended.

        `styles` has one entry for each style picture. The last entries are left out: they are for
        `tap_styles`, the layers with a style picture of their own. All other layers use the blend.
        """
        return styles[: len(styles) - len(self.tap_styles)]

    @property
    def taps(self) -> tuple[str, ...]:
        """The names of all taps (layers) that a content or style loss reads, without repetitions."""
        return tuple(dict.fromkeys((*self.content_taps, *self.every_style_tap)))

    @property
    def every_style_tap(self) -> tuple[str, ...]:
        """The names of all taps (layers) that the first or second style loss reads, each once."""
        second = () if self.second_style is None else self.second_style.taps
        return tuple(dict.fromkeys((*self.style_taps, *second)))

    @property
    def style_parts(self) -> tuple[StylePart, ...]:
        """A `StylePart` for each tap (layer) of the first style loss, then for each tap of the second.

        The tuple is empty if the style loss is a `losses.MatchingLoss`, which reads all taps together.
        """
        loss = self.style_loss
        if isinstance(loss, losses.MatchingLoss):
            return ()
        first = tuple(StylePart(tap, tap, loss) for tap in self.style_taps)
        if (second := self.second_style) is None:
            return first
        return first + tuple(StylePart(f"second_{tap}", tap, second.loss) for tap in second.taps)

    @property
    def style_names(self) -> tuple[str, ...]:
        """The names of the terms of the style loss, which are the keys of `Losses.style_layers`."""
        if isinstance(self.style_loss, losses.MatchingLoss):
            return self.style_loss.parts or self.style_taps
        return tuple(part.name for part in self.style_parts)

    @property
    def style_part_weights(self) -> tuple[Any, ...]:
        """The weight in the total loss of each of the `style_parts`, in the same order."""
        if isinstance(self.style_loss, losses.MatchingLoss):
            return ()
        first = tuple(self.style_weight * weight for weight in self.style_layer_weights)
        if (second := self.second_style) is None:
            return first
        both = self.style_weight * second.weight
        return first + tuple(both * weight for weight in second.layer_weights)

    @property
    def additive(self) -> bool:
        """Whether every loss is computed from sums over positions.

        Only then can the picture be computed in parts, whose sums are added: in tiles, one after
        another, or in bands, one on each device.
        """
        return all(loss.additive for loss in self.named_losses.values())

    @property
    def named_losses(self) -> dict[str, losses.Loss]:
        """All losses of the recipe that are not None: key of the field -> loss.

        A key is for example `"style_loss"` or `"second_style.loss"`.
        """
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
        """The content loss, for callers that know that it is a `ContentLoss`, which reads one layer.

        The assertion tells the type checker that it is one.
        """
        assert isinstance(self.content_loss, losses.ContentLoss)
        return self.content_loss

    @property
    def statistic_loss(self) -> losses.StyleLoss:
        """The style loss, for callers that know that it is a `StyleLoss`, which compares statistics.

        The assertion tells the type checker that it is one.
        """
        assert isinstance(self.style_loss, losses.StyleLoss)
        return self.style_loss

    @property
    def searched(self) -> bool:
        """Whether a style loss looks for matches in the style before the first update of each scale.

        For a position of the canvas's feature maps, its match is the position of the style's feature
        maps with which the loss compares it.
        """
        return any(
            isinstance(loss, losses.MatchingLoss) and loss.matches is not None
            for loss in self.named_losses.values()
        )

    def at(self, scale: int) -> "Terms":
        """Return the terms with the weights of one scale, by `content_against_style`.

        This number makes the weight of the content smaller at finer scales; the docstring of `Terms`
        has the formula.

        Args:
          scale: index of the scale; 0 is the coarsest.

        Returns:
          The terms with these weights and without `content_against_style`; or the terms themselves if
          `content_against_style` is None.
        """
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
        """Whether `style_loss` or `last_style_loss` is a `losses.MatchingLoss`.

        Such a loss compares features at single positions, and not only statistics of the style.
        """
        return any(isinstance(loss, losses.MatchingLoss) for loss in self.named_losses.values())


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Descent:
    """How the canvas is optimised.

    Attributes:
      optimizer: an update rule of `nst_jax.optimizers`.
      coordinates: the pixel convention of the canvas that the optimiser updates, such as RGB in [0, 1]
        or the pixels that the network reads. The choice matters, since updates of Adam and L-BFGS
        depend on the range of the pixels. Static.
      clip: whether the canvas is clipped to [0, 1] sRGB after every update. Static.
      steps: number of updates, summed over all scales (resolutions). None leaves the numbers to the
        schedule, which must have some of its own, as `GeometricScales` does; the sum then depends on
        the size of the canvas.
      schedule: the scales, and how the updates are divided among them.
      enlarge: how a canvas is resized to the next scale, one of `recipes.filters.ENLARGEMENTS`. Static.
      pyramid_levels: if 0, the optimiser updates pixels. If it is another number, the optimiser updates
        the levels of a Laplacian pyramid with this number of halvings, and the canvas is the picture
        that these levels add up to. This is not possible with a guarded optimiser (one that undoes
        updates that raise the loss). Static. See `nst_jax.optimizers.laplacian`.
      one_pyramid: if True, `pyramid_levels` is the number of halvings at the final size. A scale of
        half that size has one halving fewer, a scale of a quarter of that size two fewer, and so on;
        every scale has at least one. If False, every scale has `pyramid_levels` halvings. Without a
        pyramid, it changes nothing. If the numbers of halvings differ, `Adam` cannot carry its means
        from scale to scale. Static.
      average_decay: if not None, the result is a weighted average of all canvases of the last scale,
        including the one with which it begins. The weight of a canvas is `average_decay` times the
        weight of the next canvas, and the weights always sum to 1. Each scale has an average of its
        own, from which the next scale starts. Snapshots show the average; their losses, and the losses
        in logs, are those of the canvas that the optimiser updates. The optimiser must not be guarded.
      last_learning_rate: if not None, the optimiser's learning rate at the last scale.
      content_detail: if True, the finest level of the content's Laplacian pyramid is added to the
        canvas at the beginning of each scale but the first and the last, as in the recipe `strotss`.
        Static.
    """

    optimizer: optimizers.Optimizer = optimizers.LBFGS()
    coordinates: vgg.Pixels = _static(vgg.RAW)
    clip: bool = _static(False)
    steps: int | None = 300
    schedule: Schedule = OneScale()
    enlarge: filters.Enlargement = _added_later(enlarge, static=True)
    pyramid_levels: int = _added_later(0, static=True)
    one_pyramid: bool = _added_later(False, static=True)
    average_decay: float | None = _added_later(None)
    last_learning_rate: float | None = _added_later(None)
    content_detail: bool = _added_later(False, static=True)

    @property
    def carries(self) -> bool:
        """Whether each scale (resolution) begins with the optimiser's last state at the scale before.

        If not, the optimiser starts anew at each scale.
        """
        return bool(getattr(self.optimizer, "carry", False))

    def plan(self, shape: Shape, original: Shape | None = None) -> tuple[tuple[Shape, int], ...]:
        """Return ((height, width) in px, number of updates) of each scale, coarse to fine.

        Args:
          shape: the final (height, width) of the canvas in px.
          original: (height, width) in px of the content before any resizing; None if it is not known.

        Raises:
          ValueError: if `steps` is None, and the schedule has no numbers of updates of its own.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.CROWSONKB.descent.plan((170, 181))
          (((120, 128), 1000), ((170, 181), 500))
        """
        if self.steps is not None:
            return self.schedule.plan(shape, int(self.steps), original)
        return counted(self.schedule).counted_plan(shape, original)

    def updates_at(self, shape: Shape) -> int:
        """Return the number of updates of all scales, for a canvas with this final (height, width)."""
        return sum(updates for _, updates in self.plan(shape))

    @property
    def updates_in_words(self) -> str:
        """The number of updates as text, such as "300 updates".

        If it depends on the size of the canvas, the text has the numbers at the scales.

        Example:
          >>> from nst_jax import recipes
          >>> recipes.TF.descent.updates_in_words
          '1003 updates'
          >>> recipes.CROWSONKB.descent.updates_in_words
          '1000 updates at the coarsest scale, 500 at each later one'
        """
        if self.steps is not None:
            return f"{self.steps} updates"
        return counted(self.schedule).counts_in_words()

    def transformation(self, height: int | None = None) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation that updates the canvas.

        Args:
          height: number of rows of the canvas, if the array that is updated has rows of padding below
            them; None if there is no padding. It is used only if `pyramid_levels` is not 0.

        Raises:
          TypeError: if an optimiser of a user's own makes no transformation. The `init` of the result
            raises it if the updates of that transformation cannot be used.
        """
        rule = optimizers.rules.checked_transformation(self.optimizer)
        return over_pyramid(rule, self.pyramid_levels, height) if self.pyramid_levels else rule


# Name of a preset -> the preset, for `Recipe.__repr__`. The module `presets` fills this dictionary,
# since this module cannot import `presets`, which imports this module.
PUBLISHED: dict[str, "Recipe"] = {}


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, repr=False)
class Recipe:
    """All choices and numbers of a style transfer, as data; the method `replace` makes variants.

    Attributes:
      name: a preset's name, or one of your own. Static.
      source: where the recipe's constants come from: a paper or a program. Static.
      family: name of the set of network weights that the source uses, such as "vgg19-caffe". With other
        weights, results differ from the source's. Static.
      pictures: how the pictures are prepared before painting, and how results are finished.
      network: how VGG-19 is computed. Static.
      terms: the losses that are minimised, and their weights.
      descent: the optimiser, the number of updates, and the sizes of the canvas at which they are made.

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

    def bare(self) -> "Recipe":
        """Return the recipe with fixed values in all fields that compiled programs do not use.

        Compiled programs are called with the result of this method in place of the recipe itself, so
        that they are not compiled anew for a recipe with another name, size rule or schedule.
        """
        descent = replace(self.descent, schedule=OneScale(), steps=0, enlarge=enlarge)
        bare = replace(self, name="", source="", family="", pictures=Pictures(), descent=descent)
        if isinstance(self.network.precision, Auto):
            return bare
        unused = vgg.Network().accelerator_precision
        return replace(bare, network=replace(self.network, accelerator_precision=unused))

    def at(self, scale: int, shapes: Sequence[Shape]) -> "Recipe":
        """Return the recipe for one scale of a run, with the values that hold only at that scale.

        Args:
          scale: index of the scale; 0 is the coarsest.
          shapes: (height, width) of the canvas at each scale.

        Returns:
          A recipe that does at every scale what this recipe does at the given one. Each of the
          following four fields is applied, unless it has its default value, and is then reset to it:

          * `terms.last_style_loss` becomes the style loss if the scale is the last one;
          * `descent.last_learning_rate` becomes the optimiser's rate if the scale is the last one;
          * `descent.one_pyramid` sets `descent.pyramid_levels` to the number for this scale;
          * `terms.content_against_style` changes the weights to those for this scale.

          If all four have their defaults in this recipe, the recipe itself is returned.
        """
        terms, descent = self.terms.at(scale), self.descent
        if terms.last_style_loss is not None:
            last = scale == len(shapes) - 1
            loss = terms.last_style_loss if last else terms.style_loss
            terms = replace(terms, style_loss=loss, last_style_loss=None)
        if descent.one_pyramid:
            halvings = round(math.log2(max(shapes[-1]) / max(shapes[scale])))
            levels = max(1, descent.pyramid_levels - halvings) if descent.pyramid_levels else 0
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
        """Return the recipe with a fixed precision of computation in place of an automatic one.

        If `network.precision` is `AUTO`, it becomes the precision in which the recipe is computed on
        the given platform; this precision differs between CPUs and accelerators.

        Args:
          platform: JAX's name of the platform, such as "gpu"; None means that of JAX's default device.

        Returns:
          The changed recipe, or the recipe itself if its precision is not `AUTO`.

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
        """Return a variant of the recipe in which some values are replaced by others.

        A field is named by its name alone, such as `style_weight`, or, where several fields have that
        name, by its full key: `pictures__size__pixels=256` or `{"pictures.size.pixels": 256}`. A value
        is a number, an array (for a sweep), a function or a dataclass; a size rule may also be given as
        a number or text, as for the argument `size` of `stylize`, such as 256. Values that are
        dataclasses (an optimiser, a size rule) are replaced before all others, so that
        `replace(optimizer=Adam(), learning_rate=0.1)` sets the new optimiser's rate.

        Args:
          values: a dictionary from names of fields to values. It is needed for full keys with dots,
            which cannot be keywords.
          **more: values by names of fields, as keywords. They replace values with the same names in
            `values`.

        Returns:
          The variant. Its values are not checked here, but by `nst_jax.recipes.check` and by every
          function that runs a recipe.

        Raises:
          TypeError: for a size that is True or False, and if `values` is no dictionary from text.
          ValueError: for an unknown name, and for a name that several fields have; the message suggests
            the nearest known name, or lists the full keys. Also for two different names of one
            field; and for a size, given as a whole number or as text, that
            `nst_jax.recipes.sizes.with_size` refuses.

        Example:
          >>> from nst_jax import optimizers, recipes
          >>> recipes.TF.replace(style_weight=3, steps=200)
          Recipe('tf', terms.style_weight=3, descent.steps=200)
          >>> recipes.TF.replace(size=256, optimizer=optimizers.Adam()).descent.optimizer.learning_rate
          0.02
        """
        values = {} if values is None else values
        if not isinstance(values, Mapping) or not all(isinstance(name, str) for name in values):
            raise TypeError(
                "`replace`: expected a dictionary from names of fields to values, got "
                f"{_checks.shown(values)}; or give the values by name, as in "
                "`recipe.replace(steps=200)`"
            )
        recipe = self
        given = {**values, **more}.items()
        named: dict[str, str] = {}  # full key of a field -> the name by which it was given
        for name, value in sorted(given, key=lambda pair: not is_dataclass(pair[1])):
            key = walk.full_key(recipe, name)
            if key in named:
                raise ValueError(f"`{name}`: is the field of `{named[key]}`, too; give it once")
            named[key] = name
            if key in SIZES and isinstance(value, (int, np.integer, str)):
                rule = SIZES[key](recipe.pictures)
                value = sizes.with_size(rule, value, argument=name)
            recipe = walk.with_field(recipe, key, value)
        return recipe

    def __repr__(self) -> str:
        """Show the values that differ from those of the preset with the same name.

        If there is no such preset, show the values that differ from the defaults. Of more than
        `MOST_DIFFERENCES` values, show the first ones, and say how many more there are.
        """
        base = PUBLISHED.get(self.name) or replace(Recipe(), name=self.name)
        found = [f"{item.key}={walk.short_value(item)}" for item in walk.differences(self, base)]
        if len(found) > MOST_DIFFERENCES:
            found = [*found[:MOST_DIFFERENCES], f"... {len(found) - MOST_DIFFERENCES} more"]
        return f"Recipe({', '.join([repr(self.name)] * bool(self.name) + found)})"


MOST_DIFFERENCES = 12  # largest number of values that `Recipe.__repr__` shows

# The fields for which `Recipe.replace` accepts a size such as 256 in place of a size rule: full key ->
# a function that returns the recipe's present rule, which `sizes.with_size` then changes.
SIZES: Mapping[str, Callable[[Pictures], sizes.SizeRule]] = {
    "pictures.size": lambda pictures: pictures.size,
    "pictures.style_size": lambda pictures: pictures.style_size or pictures.size,
}


def with_numbers(recipe: Recipe, convert: Callable[[Any], Any]) -> Recipe:
    """Return the recipe with each number that is a leaf replaced by `convert(number)`.

    The static numbers, such as the tile size, are no leaves and stay as they are.
    """
    return jax.tree.map(convert, recipe)


def as_arrays(recipe: Recipe, dtype: Any = jnp.float32) -> Recipe:
    """Return the recipe with its leaves as arrays of `dtype`, for calls of compiled programs.

    The leaves are all numbers of the recipe but the static ones, such as the tile size.

    Without this cast, `jit` would compile a program anew for a 3 in place of 3.0, and for a NumPy
    number in place of a Python number, since these have different types. Sizes and numbers of updates
    become floats, too, so whole numbers have to be read from the recipe before the cast.
    """

    def convert(number: Any) -> jax.Array:
        # Numbers are cast by NumPy on the host where possible, since a cast by JAX on the device is
        # one more program to compile.
        if isinstance(number, jax.core.Tracer):
            return number.astype(dtype)
        return jnp.asarray(np.asarray(number).astype(dtype))

    return with_numbers(recipe, convert)
