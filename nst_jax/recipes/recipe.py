"""A recipe: every choice and every number of a style transfer, as data; its checks and casts.

Numbers are pytree leaves, structure (taps, functions) is static: recipes that differ only in their
numbers run the same compiled program. An array in place of a number makes a sweep: one picture for each
of its values.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nst_jax import _checks, additivity, losses, optimizers, vgg
from nst_jax._types import ADDED_LATER
from nst_jax.controls import masks
from nst_jax.images.resizing import enlarge
from nst_jax.optimizers.laplacian import over_pyramid
from nst_jax.recipes import sizes, starts, walk
from nst_jax.recipes.schedules import CoarseToFine, GeometricScales, OneScale, Schedule
from nst_jax.vgg.precision import Auto, Precision
from nst_jax.vgg.taps import halo_of


def _static(default: Any) -> Any:
    return field(default=default, metadata={"static": True})


def _added_later(default: Any, *, static: bool = False) -> Any:
    return field(default=default, metadata={"static": static, ADDED_LATER: True})


STYLE_TAPS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")

FIFTHS = (0.2,) * 5


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True)
class Pictures:
    """How the pictures are prepared before the first update.

    Attributes:
      size: rule for the size of the content, and so of the canvas, the picture that is optimised.
      style_size: rule for the size of the style; None means that `size` holds for styles too.
      resize: the resize filter, a function (image, (height, width)) -> image. Static.
      start: makes the initial canvas; see `nst_jax.recipes.starts`.
    """

    size: sizes.SizeRule = sizes.LongEdge(512)
    style_size: sizes.SizeRule | None = None
    resize: sizes.Resize = _static(sizes.antialiased)
    start: starts.Start = starts.FromContent()


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

    The statistics (such as Gram matrices) of several style pictures are averaged with the weights
    `style_shares`, one for each picture; a single share means equal shares for any number of pictures.

    `region_reach` and `region_growth` say how the masks of regions reach a tap: see
    `nst_jax.controls.masks.at_taps`. Both are static.
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
    second_style: SecondStyle | None = _added_later(None)
    variation: losses.Variation = _static(losses.TOTAL_VARIATION)
    tv_weight: float = 0.0
    region_reach: str = _added_later("inside", static=True)
    region_growth: int = _added_later(3, static=True)

    @property
    def taps(self) -> tuple[str, ...]:
        """Every tap of a content or style loss, without repetitions."""
        style = (part.tap for part in self.style_parts)
        return tuple(dict.fromkeys((*self.content_taps, *style)))

    @property
    def style_tap_names(self) -> tuple[str, ...]:
        """Every tap of a style loss, without repetitions."""
        return tuple(dict.fromkeys(part.tap for part in self.style_parts))

    @property
    def style_parts(self) -> tuple[StylePart, ...]:
        """Every style loss at every tap that it reads."""
        first = tuple(StylePart(tap, tap, self.style_loss) for tap in self.style_taps)
        if (second := self.second_style) is None:
            return first
        return first + tuple(StylePart(f"second_{tap}", tap, second.loss) for tap in second.taps)

    @property
    def style_part_weights(self) -> tuple[Any, ...]:
        """The weight of each of the `style_parts` in the total loss."""
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
        """All losses by the names of their fields, with dots."""
        found: dict[str, losses.Loss] = {
            "content_loss": self.content_loss,
            "style_loss": self.style_loss,
            "variation": self.variation,
        }
        second = self.second_style
        return found if second is None else found | {"second_style.loss": second.loss}


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
      enlarge: how a canvas is resized to the next scale, one of `recipes.sizes.ENLARGEMENTS`. Static.
      pyramid_levels: number of halvings of the Laplacian pyramid whose levels the optimiser updates, as
        variables in place of pixels; the canvas is the collapse of the pyramid. 0: it updates pixels.
        The optimiser must not be guarded. Static. See `nst_jax.optimizers.laplacian`.
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
    enlarge: sizes.Enlargement = _added_later(enlarge, static=True)
    pyramid_levels: int = _added_later(0, static=True)
    average_decay: float | None = _added_later(None)

    @property
    def carries(self) -> bool:
        """Whether the optimiser's state at a scale is the beginning of that at the next one."""
        return bool(getattr(self.optimizer, "carry", False))

    def transformation(self, height: int | None = None) -> optax.GradientTransformationExtraArgs:
        """Build the optax transformation that updates the canvas.

        Args:
          height: number of rows of the canvas, if rows below them are padding.
        """
        rule = self.optimizer.transformation()
        return over_pyramid(rule, self.pyramid_levels, height) if self.pyramid_levels else rule


# Presets by name, for `Recipe.__repr__`. `presets` fills the dictionary, since it imports this module.
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

    def resolved(self, platform: str | None = None) -> "Recipe":
        """Return the recipe with the precision in which a platform computes it, in place of `AUTO`.

        Args:
          platform: as in `nst_jax.vgg.Network.precision_on`.

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


# --- Checks and casts -----------------------------------------------------------------------------


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


def check(recipe: Any, *, argument: str = "recipe") -> Recipe:
    """Return a recipe with this package's names for its taps; refuse a recipe that cannot be run.

    Args:
      recipe: a `Recipe` of numbers, or of arrays [b] for a sweep over b values.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The recipe, with this package's names for its taps: `"relu4_2"` for `"block4_conv2"`.

    Raises:
      TypeError: if `recipe` is not a `Recipe`, or a value in it has a wrong type.
      ValueError: for unknown taps, more or fewer layer weights than taps, negative or non-finite
        weights, style shares that are all 0, fewer than one update, numbers outside the range of a size
        rule, a start, an optimiser or a schedule, a rule for the canvas' size that is meant for styles,
        clipping with an optimiser that undoes bad updates, a loss that is declared additive and is not,
        tiles with a loss that is not additive, a tile size that does not suit the network.
    """
    if not isinstance(recipe, Recipe):
        hint = f"; `nst_jax.recipes.named({recipe!r})` gives it" if isinstance(recipe, str) else ""
        raise TypeError(f"`{argument}`: expected a Recipe, got {recipe!r}{hint}")
    _check_pictures(recipe.pictures)
    _check_losses(recipe.terms)
    _check_descent(recipe.descent)
    recipe = replace(recipe, terms=_checked_terms(recipe.terms))
    _check_precisions(recipe.network)
    _check_tile(recipe.network.tile, recipe.terms.taps)
    check_not_cut(recipe)
    return recipe


def _check_losses(terms: Terms) -> None:
    kinds = {
        "content_loss": losses.ContentLoss,
        "style_loss": losses.StyleLoss,
        "variation": losses.Variation,
        "second_style.loss": losses.StyleLoss,
    }
    if not isinstance(terms.second_style, SecondStyle | None):
        raise TypeError(
            f"`second_style`: expected a `SecondStyle` of `nst_jax.recipes` or None, got "
            f"{terms.second_style!r}"
        )
    for name, loss in terms.named_losses.items():
        kind = kinds[name]
        if not isinstance(loss, kind):
            raise TypeError(
                f"`{name}`: expected a `{kind.__name__}` of `nst_jax.losses`, got {loss!r}"
            )
        additivity.check_additive(name, loss)


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
    if terms.region_reach not in masks.REACHES:
        raise _checks.unknown("region_reach", str(terms.region_reach), masks.REACHES, "reach")
    _checks.whole("region_growth", terms.region_growth, least=0)
    _checks.number("region_growth", terms.region_growth, below=MOST_GROWTH + 1)
    return replace(
        terms,
        second_style=terms.second_style and _checked_second_style(terms.second_style),
        style_shares=tuple(terms.style_shares),
        content_taps=content,
        content_layer_weights=tuple(terms.content_layer_weights),
        style_taps=style,
        style_layer_weights=tuple(terms.style_layer_weights),
    )


MOST_GROWTH = 64  # most positions by which masks grow


def _checked_second_style(second: SecondStyle) -> SecondStyle:
    taps = vgg.resolve_taps(second.taps, argument="second_style.taps")
    weights = second.layer_weights
    _checks.same_length("second_style.layer_weights", weights, "second_style.taps", taps)
    for weight in weights:
        _checks.number("second_style.layer_weights", weight, least=0)
    _checks.number("second_style.weight", second.weight, least=0)
    return replace(second, taps=taps, layer_weights=tuple(weights))


def _check_shares(shares: Any) -> None:
    if not isinstance(shares, (list, tuple)) or not shares:
        raise TypeError(f"`style_shares`: expected one number for each style, got {shares!r}")
    for share in shares:
        _checks.number("style_shares", share, least=0, below=LARGEST_SHARE)
    if len({np.size(share) for share in shares} - {1}) > 1:
        return  # a sweep with arrays of different lengths, which `stylize_many` refuses
    if not np.all(sum(np.asarray(share) for share in shares) > 1 / LARGEST_SHARE):
        raise ValueError("`style_shares`: are all 0, so no style remains; give one style a share")


# Upper limit of a share, so that the sum of several is finite in float32. A sum of shares of at most
# 1 / LARGEST_SHARE counts as 0.
LARGEST_SHARE = 1e30


def check_styles(terms: Terms, count: int, *, argument: str = "style") -> None:
    """Refuse a number of style pictures that differs from the number of a recipe's `style_shares`.

    Args:
      terms: the recipe's terms; a single share fits any number of pictures.
      count: number of style pictures given.
      argument: the caller's name for the pictures, shown in error messages.

    Raises:
      ValueError: if there is no picture, or if the two numbers differ, which the message then states.
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
        if not (isinstance(rule, sizes.SizeRule) or (rule is None and name == "style_size")):
            raise TypeError(
                f"`{name}`: expected a rule of `nst_jax.recipes.sizes`, got {rule!r}; "
                f"`recipe.replace({name}=...)` makes one from a number"
            )
        # Only this package's rules are checked, since numbers in a user's own rule need not be pixels.
        if isinstance(rule, tuple(sizes.SIZE_RULES.values())):
            for number in jax.tree.leaves(rule):
                _checks.number(name, number, least=sizes.SMALLEST, below=sizes.LARGEST + 1)
    if hasattr(pictures.size, "beside"):
        raise ValueError(
            f"`size`: {type(pictures.size).__name__} gives a style the size of the canvas, and this "
            "is the rule for the canvas; use it as `style_size`"
        )
    if isinstance(pictures.start, tuple(starts.STARTS.values())):
        for path, value in jax.tree_util.tree_leaves_with_path(pictures.start):
            _checks.number(jax.tree_util.keystr(path).lstrip("."), value, least=0)


def _check_descent(descent: Descent) -> None:
    _checks.whole("steps", descent.steps, least=1)
    _check_schedule(descent.schedule)
    rule = descent.optimizer
    if isinstance(rule, optax.GradientTransformation):
        raise TypeError(
            "`optimizer`: expected a rule of `nst_jax.optimizers`, got an optax transformation; wrap "
            "it: `nst_jax.optimizers.Optax(transformation)`"
        )
    if isinstance(rule, type) or not isinstance(rule, optimizers.Optimizer):
        raise TypeError(f"`optimizer`: expected a rule of `nst_jax.optimizers`, got {rule!r}")
    for path, value in jax.tree_util.tree_leaves_with_path(rule):
        name = jax.tree_util.keystr(path).lstrip(".")
        if name in ("learning_rate", "radius", "largest_radius"):
            _checks.number(name, value, above=0)
        else:
            _checks.number(name, value, least=0, below=1 if name in DECAYS else None)
    if hasattr(rule, "history"):
        _checks.whole("history", rule.history, least=1)
    if hasattr(rule, "levels"):
        _checks.whole("levels", rule.levels, least=0)
    if descent.clip and rule.guarded:
        raise ValueError(
            f"`clip`: {type(rule).__name__} undoes bad updates exactly, which is impossible once "
            "they are clipped; choose another optimizer, or `clip=False` (the picture is clipped at "
            "the end)"
        )
    if hasattr(rule, "carry") and not isinstance(rule.carry, bool):
        raise TypeError(f"`carry`: expected True or False, got {rule.carry!r}")
    _check_enlarge(descent)
    _check_pyramid(descent)
    _check_average(descent)


# Numbers of optimisers by which a running mean decays with each update.
DECAYS = ("alpha", "b1", "b2")


def _check_enlarge(descent: Descent) -> None:
    if not callable(descent.enlarge):
        raise TypeError(
            f"`enlarge`: expected a function of `nst_jax.recipes.sizes.ENLARGEMENTS`, got "
            f"{descent.enlarge!r}"
        )


def _check_pyramid(descent: Descent) -> None:
    _checks.whole("pyramid_levels", descent.pyramid_levels, least=0)
    _checks.number("pyramid_levels", descent.pyramid_levels, below=MOST_LEVELS + 1)
    rule = descent.optimizer
    if descent.pyramid_levels and rule.guarded:
        raise ValueError(
            f"`pyramid_levels`: {type(rule).__name__} undoes bad updates of pixels, and has "
            "`optimizer.levels` for a pyramid of its own; choose another optimizer, such as Adam"
        )


# A canvas of 65536 px is halved 16 times until it is 1 px wide.
MOST_LEVELS = 16


def _check_average(descent: Descent) -> None:
    if descent.average_decay is None:
        return
    _checks.number("average_decay", descent.average_decay, least=0, below=1)
    rule = descent.optimizer
    if rule.guarded:
        raise ValueError(
            f"`average_decay`: {type(rule).__name__} keeps no canvas with a higher loss, which is "
            "what an average would make even; choose another optimizer, such as Adam, or no average"
        )


def _check_schedule(schedule: Schedule) -> None:
    if isinstance(schedule, CoarseToFine):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.number("share", schedule.share, above=0)
    if isinstance(schedule, GeometricScales):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.number("per_halving", schedule.per_halving, least=MOST_RATIO, below=MOST_SCALES + 1)
        _checks.whole("first", schedule.first, least=1)
        _checks.whole("later", schedule.later, least=1)


# Scales within which the size halves: at least 1/4, a ratio of 16, and at most 16.
MOST_RATIO, MOST_SCALES = 0.25, 16


def check_not_cut(recipe: Recipe) -> None:
    """Refuse tiles for a recipe with a loss that is not additive (not made of sums over positions).

    Raises:
      ValueError: if the recipe has tiles and a loss that is not additive; the message names the loss.
    """
    if not recipe.network.tile:
        return
    for name, loss in recipe.terms.named_losses.items():
        if not loss.additive:
            raise ValueError(
                f"`tile`: got {recipe.network.tile}, but `{name}` is not additive: sums over tiles do "
                "not add up to those over the picture; use `tile=0`, which computes it in one piece"
            )


def _check_precisions(network: vgg.Network) -> None:
    for name, kinds in (("precision", (Precision, Auto)), ("accelerator_precision", (Precision,))):
        value = getattr(network, name)
        if not isinstance(value, kinds):
            raise TypeError(
                f"`{name}`: expected one of `nst_jax.vgg.precision`, got {value!r}; "
                "`nst_jax.vgg.precision.precision_named('bfloat16')` gives one"
            )


def _check_tile(tile: int | None, taps: Iterable[str]) -> None:
    """Refuse a tile size that does not suit the network's pooling or these taps.

    Raises:
      TypeError: if `tile` is no whole number.
      ValueError: if `tile` is no multiple of 16 px (four poolings), or is smaller than the halo, the
        pixels around a tile on which its features depend.
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
