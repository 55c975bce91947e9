"""Compute the targets of the losses, one picture at a time, and large style pictures tile by tile.

Targets are what the canvas (the picture that is optimised) is compared with: features of the content,
and statistics of the styles, such as Gram matrices. They are computed once for each scale (resolution).
Since each picture or tile is computed by a call of its own, memory is needed for only one of them at a
time, and progress can be shown between the calls. (The exception is a `MatchingLoss`: one call computes
all its styles.) The targets are bit for bit those of `targets.measure`, which computes all of them in
one call.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax

from nst_jax import correspondence, masks_at_taps, style_statistics, targets
from nst_jax._compile import Jitted
from nst_jax._types import Features, Image, Params, RealSize, Statistic, StyleImage, Targets
from nst_jax.controls.regions import Controls, kept_of
from nst_jax.losses import MatchingLoss
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling.bands import Bands
from nst_jax.scaling.operations import content_operations, style_operations


class Watch:
    """Waits until arrays are computed, since JAX returns arrays before they are computed.

    Subclasses may time the wait, show it, or end it by an exception.
    """

    def wait(self, arrays: Any) -> None:
        """Wait until all arrays of a pytree are computed; raise the error if computing them failed."""
        jax.block_until_ready(arrays)

    def wait_for_piece(self, arrays: Any, operations: float) -> None:
        """Wait until one piece of the work before the first update of a scale (resolution) is done.

        Args:
          arrays: the arrays that are being computed: the features of a content; the sums over a style
            or over one tile of it; or the targets or the matches of a `MatchingLoss`.
          operations: number of arithmetic operations that computing them takes, for subclasses that
            estimate the time from it.
        """
        del operations
        self.wait(arrays)


class MeasuringPrograms(NamedTuple):
    """The functions that compute the targets of the losses: jitted in `PROGRAMS`, plain in `PLAIN`.

    Most fields hold the function of the same name in `targets` or `style_statistics`. `measure_styles`
    is in the module `correspondence`, `measure_masks` in `masks_at_taps`, and `kept_of` in
    `controls.regions`.
    """

    measure_content: Callable[..., Any]
    sum_style: Callable[..., Any]
    add_style_tile: Callable[..., Any]
    statistics_of: Callable[..., Any]
    blended_targets: Callable[..., Any]
    measure_styles: Callable[..., Any]
    measure_masks: Callable[..., Any]
    controlled_style: Callable[..., Any]
    kept_of: Callable[..., Any]
    # Variants of `statistics_of` and `controlled_style` for styles that lie at the top left of larger
    # arrays. Here the (height, width) of each style is traced, not static, so that one program serves
    # all sizes.
    statistics_of_size: Callable[..., Any]
    controlled_style_of_sizes: Callable[..., Any]


PROGRAMS = MeasuringPrograms(
    measure_content=Jitted(targets.measure_content, static_argnames=("held",)),
    sum_style=Jitted(style_statistics.sum_style),
    add_style_tile=Jitted(style_statistics.add_style_tile),
    statistics_of=Jitted(style_statistics.statistics_of, static_argnums=(1,)),
    blended_targets=Jitted(targets.blended_targets, static_argnums=(1,)),
    measure_styles=Jitted(correspondence.measure_styles),
    measure_masks=Jitted(masks_at_taps.measure_masks),
    controlled_style=Jitted(targets.controlled_style, static_argnums=(1,)),
    kept_of=Jitted(kept_of),
    statistics_of_size=Jitted(style_statistics.statistics_of),
    controlled_style_of_sizes=Jitted(targets.controlled_style),
)


# The same functions without `jax.jit`, for calls within a function that JAX traces to find out the
# shapes of the targets: JAX does not accept a jitted function with compiler options there.
PLAIN = MeasuringPrograms(
    measure_content=targets.measure_content,
    sum_style=style_statistics.sum_style,
    add_style_tile=style_statistics.add_style_tile,
    statistics_of=style_statistics.statistics_of,
    blended_targets=targets.blended_targets,
    measure_styles=correspondence.measure_styles,
    measure_masks=masks_at_taps.measure_masks,
    controlled_style=targets.controlled_style,
    kept_of=kept_of,
    statistics_of_size=style_statistics.statistics_of,
    controlled_style_of_sizes=targets.controlled_style,
)


class NoWatch(Watch):
    """A `Watch` for use while JAX traces: it does not wait, since traced arrays are never computed."""

    def wait(self, arrays: Any) -> None:
        del arrays


class Measuring:
    """Computes targets at one scale (resolution), one picture or tile after the other.

    Targets are what a canvas is compared with: features of the content, and statistics of the style.
    """

    def __init__(
        self,
        params: Params,
        recipe: Recipe,
        bands: Bands | None,
        *,
        programs: MeasuringPrograms = PROGRAMS,
        watch: Watch | None = None,
    ) -> None:
        self._params, self._recipe, self._bands = params, recipe, bands
        self._programs, self._watch = programs, Watch() if watch is None else watch
        self._devices = 1 if bands is None else bands.count
        # What `controlled` has computed so far, so that it computes nothing twice. Caller's name for a
        # picture -> the features of a content, or the sums for the statistics of a style.
        self._known: dict[Any, Any] = {}

    def content(
        self, content: Image, held: str | None = None, size: RealSize | None = None
    ) -> Features:
        """Compute the features of a content at the layers that the recipe's content loss reads.

        Args:
          content: [h, w, 3].
          held: one more layer to compute: that of the additional content loss, which keeps protected
            parts close to the content. None if there is no such loss.
          size: the real (height, width) of the content, if it lies at the top left of a larger array;
            None: it fills the array.
        """
        more: dict[str, Any] = {} if held is None else {"held": held}
        more |= {} if size is None else {"size": size}
        found = self._programs.measure_content(
            self._params, content, self._recipe, bands=self._bands, **more
        )
        shape = (content.shape[0], content.shape[1])
        self._watch.wait_for_piece(
            found, content_operations(shape, self._recipe, devices=self._devices)
        )
        return found

    def photo(self, content: Image) -> Image | None:
        """Return the content picture if a loss reads the content's pixels; if none does, None."""
        return targets.photo_of(content, self._recipe)

    def styles(self, styles: Sequence[Any]) -> dict[str, Any]:
        """Compute the targets of the style loss from one or several styles.

        The target at a layer is what the canvas is compared with there, such as a Gram matrix. With
        several styles, it is made from a blend of their statistics, usually the weighted mean. A
        `MatchingLoss` has no statistics: its targets are made from the feature vectors of all styles.

        Args:
          styles: pictures [h', w', 3], of any sizes.

        Returns:
          Name of a style loss at a layer (`StylePart.name`) -> its target. For a `MatchingLoss`, the
          dictionary that its function `target` returns.
        """
        if isinstance(self._recipe.terms.style_loss, MatchingLoss):
            found = self._programs.measure_styles(self._params, list(styles), self._recipe)
            cost = sum(style_operations(style.shape[:2], self._recipe) for style in styles)
            self._watch.wait_for_piece(found, cost)
            return found
        sums = [self._sums(style) for style in styles]
        shapes = tuple((style.shape[0], style.shape[1]) for style in styles)
        return self._programs.blended_targets(sums, shapes, self._recipe)

    def statistics(self, style: StyleImage, size: RealSize | None = None) -> dict[str, Statistic]:
        """Compute one style's statistics (what the style loss compares, such as Gram matrices).

        `style_statistics.blend` combines them with the statistics of other styles.

        Args:
          style: [h', w', 3].
          size: the real (height, width) of the style, if it lies at the top left of a larger array;
            None: it fills the array.

        Returns:
          Name of a style loss at a layer (`StylePart.name`) -> its statistic.
        """
        if size is not None:
            sums = self._sums(style, size=size)
            return self._programs.statistics_of_size(sums, size, self._recipe)
        shape = (style.shape[0], style.shape[1])
        return self._programs.statistics_of(self._sums(style), shape, self._recipe)

    def controlled(
        self,
        content: Image,
        styles: Sequence[Any],
        controls: Controls,
        *,
        names: tuple[Any, Sequence[Any]] | None = None,
        shares: tuple[Any, ...] | None = None,
        size: RealSize | None = None,
        style_sizes: Sequence[RealSize] | None = None,
    ) -> Targets:
        """Compute what a canvas with regions, protected or transparent parts is compared with.

        Args:
          content: [h, w, 3].
          styles: pictures [h', w', 3]: one or several styles for the pixels in no region, then one for
            each region.
          controls: the masks of regions, protected and transparent parts, at the sizes of these
            pictures.
          names: a pair: a name for the content, and a list with a name for each style and its mask.
            Any hashable values may be names. What an earlier call computed for a picture of the same
            name is used again. None: everything is computed.
          shares: the weights with which the styles for the pixels in no region are blended; None: those
            of the recipe.
          size: the real (height, width) of the content, if content and masks lie at the top left of
            larger arrays; None: they fill their arrays.
          style_sizes: the real (height, width) of each style, if the styles lie at the top left of
            larger arrays; None: they fill their arrays.
        """
        known = self._known if names is not None else {}
        of_content, of_styles = names or ("content", range(len(styles)))
        real: tuple[Any, ...] = () if size is None else (size, style_sizes)
        found = self._programs.measure_masks(controls, self._recipe, *real)
        if of_content not in known:
            known[of_content] = self.content(content, next(iter(found.held), None), size)
        sizes = [None] * len(styles) if style_sizes is None else style_sizes
        for name, style, mask, own in zip(of_styles, styles, found.styles, sizes, strict=True):
            if name not in known:
                known[name] = self._sums(style, *([] if mask is None else [mask]), size=own)
        shapes: Any = style_sizes
        if style_sizes is None:
            shapes = tuple((style.shape[0], style.shape[1]) for style in styles)
        recipe = self._recipe
        if shares is not None:
            recipe = replace(recipe, terms=replace(recipe.terms, style_shares=shares))
        sums = [known[name] for name in of_styles]
        of_style: Any = self._programs.controlled_style
        if style_sizes is not None:
            of_style = self._programs.controlled_style_of_sizes
        targets_of_style, guides = of_style(sums, shapes, found, controls, recipe)
        kept = self._programs.kept_of(content, controls, *real[:1])
        photo = self.photo(content)
        return Targets(known[of_content], targets_of_style, photo, guides, kept, size)

    def _sums(self, style: StyleImage, *masks: Any, size: RealSize | None = None) -> dict[str, Any]:
        """Return the sums over a style's feature maps from which its statistics are computed.

        `masks` is empty, or has a single element, a `masks_at_taps.StyleMasks`: a position where the
        mask has the value T counts T² times. `size` is the (height, width) of a style that lies in a
        larger array; None for a style that fills its array.
        """
        if size is not None:
            sums = self._programs.sum_style(self._params, style, self._recipe, *masks, size=size)
            cost = style_operations((style.shape[0], style.shape[1]), self._recipe)
            self._watch.wait_for_piece(sums, cost)
            return sums
        shape = (style.shape[0], style.shape[1])
        cost = style_operations(shape, self._recipe, devices=self._devices)
        grid = None if self._bands is not None else style_statistics.style_grid(style, self._recipe)
        if grid is None:
            sums = self._programs.sum_style(
                self._params, style, self._recipe, *masks, bands=self._bands
            )
            self._watch.wait_for_piece(sums, cost)
            return sums
        sums = style_statistics.no_sums(style, self._recipe)
        for index in range(grid.count):
            sums = self._programs.add_style_tile(
                self._params, style, sums, index, self._recipe, *masks
            )
            self._watch.wait_for_piece(sums, cost / grid.count)
        return sums


def targets_of(
    measuring: Measuring, content: Image, styles: Sequence[Any], controls: Controls | None = None
) -> Targets:
    """Compute the targets of one canvas: what the losses compare it with.

    Args:
      measuring: computes features and statistics of pictures, by the recipe for the canvas' resolution.
      content: [h, w, 3], of the size of the canvas.
      styles: pictures [h', w', 3]: one or several styles for the pixels in no region, then one for each
        region.
      controls: regions, protected and transparent parts; None if there are none.
    """
    if controls is not None:
        return measuring.controlled(content, styles, controls)
    return Targets(measuring.content(content), measuring.styles(styles), measuring.photo(content))
