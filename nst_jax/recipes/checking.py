"""Checks of a recipe before it runs: whether its values are allowed, and whether they fit a run.

Some runs require more of a recipe than others: runs with several styles, with tiles (parts of a picture
that are computed one by one), and with pictures that lie in larger arrays. For each of these
requirements there is a function.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from nst_jax import _checks, additivity, losses, optimizers, vgg
from nst_jax._checks import LARGEST_SHARE
from nst_jax._types import Shape
from nst_jax.controls import color, finishing, masks
from nst_jax.recipes import sizes, starts
from nst_jax.recipes.descent import Descent
from nst_jax.recipes.field_types import with_checked_types
from nst_jax.recipes.pictures import Pictures
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.schedules import CoarseToFine, GeometricScales, Halvings, Schedule, counted
from nst_jax.recipes.terms import SecondStyle, Terms
from nst_jax.vgg.sized_layers import PADDED, POOLED
from nst_jax.vgg.taps import halo_of


def check(recipe: Any, *, argument: str = "recipe") -> Recipe:
    """Check that a recipe can be run, and return it with this package's names for its taps (layers).

    Args:
      recipe: a `Recipe` of numbers, or of arrays [b] for a sweep over b values.
      argument: the caller's name for the recipe, shown in error messages.

    Returns:
      The recipe with this package's names for its taps, such as `"relu4_2"` in place of Keras'
      `"block4_conv2"`.

    Raises:
      TypeError: if `recipe` is not a `Recipe`, or a value in it has a wrong type.
      ValueError: if a value is not allowed; the message names it. Not allowed are unknown taps, and
        unknown words, such as `colors="red"`; more or fewer layer weights than taps; weights that are
        negative, not finite or all 0, and style shares that are all 0; numbers out of range, such as
        fewer than one update, a `realism` above 1, or a negative number in the size rule, the start
        (the function that makes the initial canvas), the optimiser or the schedule; a loss that is
        declared additive (computed from sums over the pixels of feature maps) but is not; a tile size
        that does not suit the network; and values that exclude each other, such as clipping with an
        optimiser that undoes bad updates, or tiles with a loss that is not additive.
    """
    if not isinstance(recipe, Recipe):
        came = _checks.shown(recipe)
        hint = f"; `nst_jax.recipes.named({came})` gives it" if isinstance(recipe, str) else ""
        raise TypeError(f"`{argument}`: expected a Recipe, got {came}{hint}")
    recipe = with_checked_types(recipe)
    _check_pictures(recipe.pictures)
    if type(recipe.pictures.realism) is int:  # so that 0 and 0.0 give a result the same metadata
        recipe = recipe.replace(pictures__realism=float(recipe.pictures.realism))
    _check_losses(recipe.terms)
    _check_descent(recipe.descent)
    _check_colors(recipe.pictures)
    recipe = replace(recipe, terms=_checked_terms(recipe.terms))
    _check_joint_losses(recipe.terms)
    _check_tile(recipe.network.tile, recipe.terms.taps)
    check_not_cut(recipe)
    _check_wrap(recipe)
    return recipe


def _check_wrap(recipe: Recipe) -> None:
    """Refuse nine-point variations, which repeat border pixels, with padding that wraps around."""
    for name in ("nine_point_variation", "nine_point_variation_gradient_scaled"):
        if recipe.network.wraps and recipe.terms.variation == losses.VARIATIONS[name]:
            raise ValueError(
                f"`variation`: {name} repeats the border pixels, but here opposite borders "
                "meet (`padding` wrap); choose another, such as mean_variation"
            )


def _check_losses(terms: Terms) -> None:
    for name, loss in terms.named_losses.items():
        _checks.flag(f"{name}.additive", loss.additive)
        if isinstance(loss, losses.MatchingLoss) and (loss.matches is None) != (
            loss.number is None
        ):
            raise ValueError(
                f"`{name}`: expected a `MatchingLoss` with both `matches` and `number`, or with "
                "neither; got one of them"
            )
        additivity.check_additive(name, loss)
        additivity.check_scalar(name, loss)


def _check_joint_losses(terms: Terms) -> None:
    """Refuse losses that read all layers together and return what they should not.

    The names of the taps (layers) of `terms` must be checked already.
    """
    for name, loss in terms.named_losses.items():
        if isinstance(loss, (losses.MatchingLoss, losses.JointContentLoss)):
            taps = terms.content_taps if name == "content_loss" else terms.style_taps
            additivity.check_joint(name, loss, taps)


def _checked_terms(terms: Terms) -> Terms:
    content = vgg.resolve_taps(terms.content_taps, argument="content_taps")
    style = vgg.resolve_taps(terms.style_taps, argument="style_taps")
    _checks.same_length(
        "content_layer_weights", terms.content_layer_weights, "content_taps", content
    )
    if isinstance(terms.style_loss, losses.MatchingLoss) and (parts := terms.style_loss.parts):
        weights = terms.style_layer_weights
        _checks.same_length("style_layer_weights", weights, "parts of style_loss", parts)
    else:
        _checks.same_length("style_layer_weights", terms.style_layer_weights, "style_taps", style)
    for name in ("content_weight", "style_weight", "tv_weight"):
        _checks.number(name, getattr(terms, name), least=0)
    if terms.matting_weight is not None:
        _checks.number("matting_weight", terms.matting_weight, least=0)
    for name in ("content_layer_weights", "style_layer_weights"):
        for weight in getattr(terms, name):
            _checks.number(name, weight, least=0)
    _checks.number(
        "search_content", terms.search_content, least=0, most=1, means="the content's share"
    )
    if terms.content_against_style is not None:
        _checks.number("content_against_style", terms.content_against_style, least=0)
    _check_joint_content(terms)
    _check_shares(terms.style_shares)
    _checks.one_of("region_reach", terms.region_reach, masks.REACHES, "reach")
    _checks.whole("region_growth", terms.region_growth, least=0, most=MOST_GROWTH)
    if terms.matched and terms.second_style is not None:
        raise ValueError(
            "`second_style`: a loss that seeks nearest neighbours reads all style taps at once, beside "
            "which there is no second style loss; leave it out"
        )
    if terms.matched and len(terms.style_shares) > 1:
        raise ValueError(
            f"`style_shares`: got {len(terms.style_shares)}, but a style loss that seeks nearest "
            "neighbours seeks them in all styles alike, so styles have no shares; leave the shares "
            "out, or choose another recipe"
        )
    if terms.matched and terms.tap_styles:
        raise ValueError(
            "`tap_styles`: a loss that seeks nearest neighbours reads all style taps at once, so no "
            "tap can have a style of its own; leave them out"
        )
    terms = replace(
        terms,
        second_style=terms.second_style and _checked_second_style(terms.second_style),
        style_shares=tuple(terms.style_shares),
        content_taps=content,
        content_layer_weights=tuple(terms.content_layer_weights),
        style_taps=style,
        style_layer_weights=tuple(terms.style_layer_weights),
    )
    if not has_weight(terms):
        raise ValueError(
            "`style_weight`: the weights of all losses are 0, or those of their layers, so nothing "
            "would be painted; give one a larger number"
        )
    return replace(terms, tap_styles=_checked_tap_styles(terms))


def has_weight(terms: Terms) -> bool:
    """Return whether any loss has a weight other than 0, in a sweep for any of the pictures.

    Without such a weight, nothing would be painted.
    """
    products = [
        (terms.content_weight, terms.content_layer_weights),
        (terms.style_weight, terms.style_layer_weights),
        (terms.tv_weight, (1,)),
        (0 if terms.matting_weight is None else terms.matting_weight, (1,)),
    ]
    if (second := terms.second_style) is not None and np.any(second.weight):
        products.append((terms.style_weight, second.layer_weights))
    return any(np.any(weight) and any(map(np.any, layers)) for weight, layers in products)


def _check_joint_content(terms: Terms) -> None:
    """Refuse a style loss or content layer weights that do not go with a `losses.JointContentLoss`.

    Such a content loss reads all its layers together. Terms with another content loss are not checked.
    """
    if not isinstance(terms.content_loss, losses.JointContentLoss):
        return
    if not isinstance(terms.style_loss, losses.MatchingLoss):
        raise ValueError(
            "`content_loss`: reads all content layers together, which is possible only beside a style "
            "loss that compares positions, such as relaxed_transport; choose another of the two"
        )
    if any(np.any(np.asarray(weight) != 1) for weight in terms.content_layer_weights):
        raise ValueError(
            "`content_layer_weights`: the content loss reads all content layers together, without "
            "weights of their own; use 1 for each, and `content_weight` for all of them"
        )


def _checked_tap_styles(terms: Terms) -> tuple[str, ...]:
    if not terms.tap_styles:
        return ()
    taps = vgg.resolve_taps(terms.tap_styles, argument="tap_styles")
    known = tuple(dict.fromkeys(part.tap for part in terms.style_parts))
    for tap in taps:
        if tap not in known:
            raise ValueError(
                f"`tap_styles`: {tap} is no style layer of the recipe, which has {', '.join(known)}; "
                "choose one of these, or add it to the style layers"
            )
    return taps


# Largest value of `region_growth`: by how many pixels of the feature maps the masks of regions (areas
# with a style of their own) are extended at each layer that the style loss reads.
MOST_GROWTH = 64


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
        raise TypeError(
            f"`style_shares`: expected one number for each style, got {_checks.shown(shares)}"
        )
    for share in shares:
        _checks.number("style_shares", share, least=0, below=LARGEST_SHARE)
    if len({np.size(share) for share in shares} - {1}) > 1:
        # The shares are arrays of different lengths, which cannot be added to check their sum. They
        # are refused later, by `stylize_many`, which needs one value of each array for each picture.
        return
    if not np.all(sum(np.asarray(share) for share in shares) > 1 / LARGEST_SHARE):
        raise ValueError("`style_shares`: are all 0, so no style remains; give one style a share")


def check_style_scale(pictures: Pictures, count: int) -> None:
    """Refuse a `style_scale`, unless it has one factor, or one for each of the `count` styles.

    A factor multiplies the sides of a style. If there is no `style_scale`, nothing is refused.

    Raises:
      ValueError: if the number of factors is neither 1 nor `count`.
    """
    factors = pictures.style_scale or (1.0,)
    if len(factors) not in (1, count):
        raise ValueError(
            f"`style_scale`: expected one number for all styles, or one for each of the {count}, got "
            f"{len(factors)}"
        )


def check_carried(recipe: Recipe, shapes: Sequence[Shape]) -> None:
    """Refuse to carry Adam's means between scales whose pyramids have different numbers of levels.

    `optimizers.Adam.carried` resizes the means level by level. With `Descent.one_pyramid`, a finer
    scale may have levels that the scale before it does not have.

    Args:
      recipe: the recipe.
      shapes: (height, width) of the canvas at each scale.

    Raises:
      ValueError: if the means are carried and the numbers of levels differ.
    """
    rule = recipe.descent.optimizer
    # An optimiser of a user's own may know how to carry its state to another pyramid.
    if not (type(rule) is optimizers.Adam and rule.carry and recipe.descent.one_pyramid):
        return
    halvings = [recipe.at(scale, shapes).descent.pyramid_levels for scale in range(len(shapes))]
    if len(set(halvings)) > 1:
        raise ValueError(
            "`optimizer`: Adam with `carry=true` needs the same pyramid at all scales, got pyramids of "
            f"{', '.join(map(str, halvings))} halvings (`one_pyramid`); set "
            "`descent.one_pyramid=false` or `descent.optimizer.carry=false`"
        )


def check_styles(terms: Terms, count: int, *, argument: str = "style") -> None:
    """Refuse a number of style pictures that does not fit a recipe's `style_shares` and `tap_styles`.

    There must be a picture for each share (weight of a style in the mixture), followed by a picture for
    each of the `tap_styles` (layers with a style picture of their own). A single share means equal
    shares for any number of pictures.

    Args:
      terms: the recipe's terms.
      count: number of style pictures given.
      argument: the caller's name for the pictures, shown in error messages.

    Raises:
      ValueError: if there is no picture, or another number than the recipe needs; the message says how
        many are expected.
    """
    shares, own = len(terms.style_shares), len(terms.tap_styles)
    if not count:
        raise ValueError(f"`{argument}`: is empty; give at least one picture")
    if count <= own:
        raise ValueError(
            f"`{argument}`: expected at least {own + 1} pictures, of which the last {own} are for "
            f"{', '.join(terms.tap_styles)} (`tap_styles`), got {count}"
        )
    if shares not in (1, count - own):
        beside = f", beside the {own} of `tap_styles`" if own else ""
        raise ValueError(
            f"`{argument}`: expected {shares} pictures, as many as the recipe's `style_shares`, got "
            f"{count - own}{beside}; give as many, or other shares"
        )


def _check_pictures(pictures: Pictures) -> None:
    for name in ("size", "style_size"):
        rule = getattr(pictures, name)
        # Only the numbers of this package's size rules are checked, since those of a user's own size
        # rule may be something other than pixels.
        if type(rule) in sizes.SIZE_RULES.values():
            for number in jax.tree.leaves(rule):
                _checks.number(name, number, least=sizes.SMALLEST, most=sizes.LARGEST)
    if hasattr(pictures.size, "beside"):
        raise ValueError(
            f"`size`: {type(pictures.size).__name__} gives a style the size of the canvas, and this "
            "is the rule for the canvas; use it as `style_size`"
        )
    _check_style_scale(pictures.style_scale)
    starts.check_start("start", pictures.start)


# For each field of `Pictures` whose value is one of a few strings: these strings, and what an error
# message calls the value.
_WORDS = {
    "colors": (finishing.COLORS, "choice of colours"),
    "color_map": (tuple(color.MAPS), "map of colours"),
    "chroma_space": (tuple(color.CHROMA_SPACES), "space of chroma"),
}


def _check_colors(pictures: Pictures) -> None:
    for name, (known, what) in _WORDS.items():
        _checks.one_of(name, getattr(pictures, name), known, what)
    # If the chosen `colors` does not use `color_map` or `chroma_space`, a value other than the default
    # would have no effect, so the user must have meant something else.
    if pictures.color_map != Pictures().color_map and pictures.colors != "content":
        raise ValueError(
            f"`color_map`: is the map of `colors='content'`, and `colors` is {pictures.colors!r}; "
            "choose that, or leave out `color_map`"
        )
    exchanging = ("luminance", "content-after")
    if pictures.chroma_space != Pictures().chroma_space and pictures.colors not in exchanging:
        raise ValueError(
            "`chroma_space`: is where `colors='luminance'` and `colors='content-after'` exchange "
            f"chroma, and `colors` is {pictures.colors!r}; choose one of these, or leave out "
            "`chroma_space`"
        )
    _checks.number("realism", pictures.realism, least=0, most=1, means=finishing.REALISM)


def _check_style_scale(factors: Any) -> None:
    if factors is None:
        return
    if not isinstance(factors, (list, tuple)) or not factors:
        raise TypeError(
            f"`style_scale`: expected a number, or one for each style, got {_checks.shown(factors)}"
        )
    for factor in factors:
        _checks.number("style_scale", factor, above=0)


def _check_descent(descent: Descent) -> None:
    if descent.steps is None:
        counted(descent.schedule)  # raises an error for a schedule without numbers of its own
    else:
        _checks.whole("steps", descent.steps, least=1)
    _check_schedule(descent.schedule)
    rule = descent.optimizer
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
            f"`optimizer`: {type(rule).__name__} undoes bad updates exactly, which is impossible where "
            "pixels are clipped after each update, as by this recipe (`descent.clip`); choose another "
            "optimizer, or use `descent.clip=false`, which clips the result only"
        )
    _check_pyramid(descent)
    _check_average(descent)
    _check_last_learning_rate(descent)


# Names of the optimisers' fields whose value is the decay of a running mean per update. Such a decay
# must be at least 0 and below 1.
DECAYS = ("alpha", "b1", "b2")


def _check_pyramid(descent: Descent) -> None:
    _checks.whole("pyramid_levels", descent.pyramid_levels, least=0, most=MOST_LEVELS)
    rule = descent.optimizer
    if descent.pyramid_levels and rule.guarded:
        raise ValueError(
            f"`pyramid_levels`: {type(rule).__name__} undoes bad updates of pixels, and has "
            "`optimizer.levels` for a pyramid of its own; choose another optimizer, such as Adam, or "
            "set `descent.pyramid_levels=0`"
        )


# Largest number of halvings in a Laplacian pyramid: after 16, the largest canvas, which is 65536 px
# wide, is 1 px wide.
MOST_LEVELS = 16


def _check_last_learning_rate(descent: Descent) -> None:
    if descent.last_learning_rate is None:
        return
    _checks.number("last_learning_rate", descent.last_learning_rate, above=0)
    if not hasattr(descent.optimizer, "learning_rate"):
        raise ValueError(
            f"`last_learning_rate`: {type(descent.optimizer).__name__} has no learning rate; choose "
            "another optimizer, such as Adam, or use `descent.last_learning_rate=none`"
        )


def _check_average(descent: Descent) -> None:
    if descent.average_decay is None:
        return
    _checks.number("average_decay", descent.average_decay, least=0, below=1)
    rule = descent.optimizer
    if rule.guarded:
        raise ValueError(
            f"`average_decay`: {type(rule).__name__} undoes updates that raise the loss, so there "
            "are no ups and downs to average; choose another optimizer, such as Adam, or set "
            "`descent.average_decay=none`"
        )


def _check_schedule(schedule: Schedule) -> None:
    if isinstance(schedule, CoarseToFine):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.number("share", schedule.share, above=0)
    if isinstance(schedule, Halvings):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.whole("passes", schedule.passes, least=1, most=MOST_PASSES)
    if isinstance(schedule, GeometricScales):
        _checks.whole("smallest", schedule.smallest, least=vgg.SMALLEST)
        _checks.number("per_halving", schedule.per_halving, least=MOST_RATIO, below=MOST_SCALES + 1)
        _checks.whole("first", schedule.first, least=1)
        _checks.whole("later", schedule.later, least=1)


# Smallest value, and largest whole value, of `GeometricScales.per_halving`. The sides of a picture grow
# from each scale (resolution) to the next by the factor 2^(1 / `per_halving`): 16 for 1/4, and 1.04
# for 16.
MOST_RATIO, MOST_SCALES = 0.25, 16

# Largest value of `Halvings.passes`. Each pass is a scale with pictures measured anew; published code
# makes two.
MOST_PASSES = 100


def check_not_cut(recipe: Recipe) -> None:
    """Refuse tiles for a recipe whose losses cannot be computed tile by tile (see `Terms.additive`).

    Raises:
      ValueError: if the recipe has tiles although a loss is not additive (not computed from sums over
        the pixels of feature maps); the message names the loss.
    """
    if not recipe.network.tile:
        return
    for name, loss in recipe.terms.named_losses.items():
        if not loss.additive:
            raise ValueError(
                f"`tile`: got {recipe.network.tile}, but `{name}` is not additive: sums over tiles do "
                "not add up to those over the picture; use `tile` off, which computes it in one piece"
            )


def check_in_bucket(recipe: Recipe, *, bands: bool = False) -> None:
    """Refuse a recipe whose losses would or might be wrong for a picture that lies in a bucket.

    A bucket is a larger array with padding beside the picture. In buckets of the same size, pictures of
    different sizes can be painted by the same compiled program.

    Args:
      recipe: the recipe, of which the losses and the network are checked.
      bands: whether the run has several devices compute one picture together, each a horizontal band
        of it. In a bucket the devices cannot do so, and the run is refused.

    Raises:
      ValueError: if the losses would or might be wrong, if the recipe has tiles, or if `bands` is True;
        the message says why.

    Example:
      >>> from nst_jax import recipes
      >>> recipes.check_in_bucket(recipes.DEFAULT)
      >>> recipes.check_in_bucket(recipes.HISTOGRAM)
      Traceback (most recent call last):
      ...
      ValueError: `bucket`: `second_style.loss` is no sum over positions, as a bucket needs; use "off"
    """
    why = _why_not_in_bucket(recipe, bands)
    if why is not None:
        raise ValueError(f'`bucket`: {why}; use "off"')


def check_descent_in_bucket(descent: Descent) -> None:
    """Refuse an optimisation whose results would or might be wrong for a canvas that lies in a bucket.

    A bucket is a larger array with padding beside the canvas, in which canvases of different sizes can
    be painted by the same compiled program.

    Raises:
      ValueError: if the results would be wrong, or if the optimiser is not one of this package's, since
        they might be wrong then. The message says why.
    """
    why = None
    if descent.pyramid_levels:
        why = (
            "the levels of a Laplacian pyramid are those of an array, and not of the picture in it"
        )
    elif descent.content_detail:
        why = "the detail of the content that each scale adds is that of a whole array"
    elif isinstance(descent.optimizer, optimizers.Optax):
        why = "an optax rule may average over padding as well"
    elif type(descent.optimizer) not in optimizers.OPTIMIZERS.values():
        why = "an optimiser of your own may average over padding as well"
    if why is not None:
        raise ValueError(f'`bucket`: {why}; use "off"')


def _why_not_in_bucket(recipe: Recipe, bands: bool) -> str | None:
    network, terms = recipe.network, recipe.terms
    for name, loss in terms.named_losses.items():
        if not loss.additive:
            return f"`{name}` is no sum over positions, as a bucket needs"
    if not terms.variation.sized:
        return "`variation` cannot be limited to a picture inside a larger array"
    if network.wraps:
        return "the borders of the picture meet (`padding` wrap), which they do not in a bucket"
    if network.padding not in PADDED or network.pool not in POOLED:
        return "only this package's paddings and poolings can be used in a bucket"
    if network.tile:
        return f"tiles (here of {network.tile} px) cannot be used in a bucket"
    return "devices that share a canvas cannot paint a bucket" if bands else None


def _check_tile(tile: int | None, taps: Iterable[str]) -> None:
    """Refuse a tile size that does not suit the network's poolings or the layers that losses read.

    None (tiles are used only if memory requires it) and 0 (tiles are never used) are accepted.

    Raises:
      TypeError: if `tile` is not a whole number.
      ValueError: if `tile` is not a multiple of 16 px, which the four poolings of the network require,
        or is smaller than the halo: the width of the area around a tile on which its features depend.
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
