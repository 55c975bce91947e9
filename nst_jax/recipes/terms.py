"""The part `Terms` of a recipe: the losses that are minimised, the taps that they read, and weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from nst_jax import losses
from nst_jax.losses.content import CONTENT_MEAN_SQUARE
from nst_jax.losses.gram_matrices import GRAM_MEAN_SQUARE
from nst_jax.losses.variations import TOTAL_VARIATION
from nst_jax.recipes.fields import added_later, static

_Style = TypeVar("_Style")

# The style layers of many published methods: the first convolution of each block, after its ReLU.
STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

FIFTHS = (0.2,) * 5  # equal layer weights, with the sum 1, for the five `STYLE_TAPS`


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

    taps: tuple[str, ...] = static(())
    layer_weights: tuple[float, ...] = ()
    loss: losses.StyleLoss = static(GRAM_MEAN_SQUARE)
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

    content_taps: tuple[str, ...] = static(("relu4_2",))
    content_layer_weights: tuple[float, ...] = (1.0,)
    content_loss: losses.AnyContentLoss = static(CONTENT_MEAN_SQUARE)
    content_weight: float = 1.0
    style_taps: tuple[str, ...] = static(STYLE_TAPS)
    style_layer_weights: tuple[float, ...] = FIFTHS
    style_loss: losses.AnyStyleLoss = static(GRAM_MEAN_SQUARE)
    style_weight: float = 1.0
    style_shares: tuple[float, ...] = (1.0,)
    second_style: SecondStyle | None = added_later(None)
    variation: losses.Variation = static(TOTAL_VARIATION)
    tv_weight: float = 0.0
    search_content: float = added_later(0.75)
    last_style_loss: losses.AnyStyleLoss | None = added_later(None, static=True)
    tap_styles: tuple[str, ...] = added_later((), static=True)
    matting_weight: float | None = added_later(None)
    content_against_style: float | None = added_later(None)
    region_reach: str = added_later("inside", static=True)
    region_growth: int = added_later(3, static=True)

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
