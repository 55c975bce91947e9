"""Functions that return a changed copy of a recipe, such as one with another size or learning rate."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nst_jax import _checks
from nst_jax.recipes import presets, sizes
from nst_jax.recipes import strength as dial
from nst_jax.recipes.checking import check
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.sizes import Size
from nst_jax.vgg.precision import precision_named


def with_learning_rate(recipe: Recipe, rate: Any) -> Recipe:
    """Return the recipe with another learning rate, or with several for a sweep.

    Args:
      recipe: the recipe to change.
      rate: a number, or an array [n] for a sweep, which paints one picture with each of n rates.

    Returns:
      The recipe with another `learning_rate` of its optimiser. If the recipe has a separate learning
      rate for the last scale (resolution), `last_learning_rate`, that rate changes by the same factor.

    Raises:
      ValueError: if the recipe's optimiser has no learning rate; the message names recipes with one.
    """
    optimizer = recipe.descent.optimizer
    if not hasattr(optimizer, "learning_rate"):
        others = [
            name
            for name, preset in presets.PRESETS.items()
            if hasattr(preset.descent.optimizer, "learning_rate")
        ]
        raise ValueError(
            f"`learning_rate`: the optimizer of recipe {recipe.name!r} is {type(optimizer).__name__}, "
            f"which has no learning rate; recipes whose optimizer has one: {', '.join(others)}"
        )
    changed = recipe.replace(descent__optimizer__learning_rate=rate)
    if (last := recipe.descent.last_learning_rate) is None:
        return changed
    return changed.replace(last_learning_rate=rate * (last / optimizer.learning_rate))


def with_strength(recipe: Recipe, strength: Any) -> Recipe:
    """Return the recipe with a stronger or weaker style.

    In most recipes, the style weight is multiplied by `recipes.strength.factor_of(strength)`, so that
    equal differences of `strength` change the picture about equally.

    Some style losses compare each position of the canvas with a matching position of the style. They
    find the matches at the beginning of each scale (resolution), for a picture that is mixed from
    content and canvas. With such a loss, this picture decides how well the content is preserved, and
    the weights do not. So in place of the style weight, `terms.search_content` is changed, the
    content's weight in the mixture. It becomes 1 at strength 0, the recipe's own value at 0.85, 0 at
    strength 1, and is linear in between.

    Args:
      recipe: the recipe to change.
      strength: from 0 (the photo with a hint of the style: the style weight is multiplied by 0.003) to
        1 (the strongest style that still shows the content). `recipes.strength.OWN`, which is 0.85,
        changes nothing. Or an array [n] for a sweep, which paints one picture with each of n strengths.

    Returns:
      The recipe with another `style_weight`, or another `search_content`.

    Raises:
      TypeError: if `strength` is not a number, nor an array of numbers.
      ValueError: if `strength` is not between 0 and 1, or is an empty array.

    Example:
      >>> from nst_jax import recipes
      >>> recipes.TF.terms.style_weight, with_strength(recipes.TF, 0.0).terms.style_weight
      (0.01, 3e-05)
    """
    factor = dial.factor_of(strength)  # raises an error for a strength outside 0 to 1
    if recipe.terms.searched:
        own = recipe.terms.search_content
        low = 1 - (1 - own) * strength / dial.OWN
        high = own * (1 - strength) / (1 - dial.OWN)
        content = np.where(np.asarray(strength) < dial.OWN, low, high)
        content = content if content.ndim else content.item()
        return recipe.replace(terms__search_content=content)
    return recipe.replace(terms__style_weight=recipe.terms.style_weight * factor)


def with_quality(recipe: Recipe, quality: str) -> Recipe:
    """Return the recipe with the number of updates for a quality, such as "draft".

    Args:
      recipe: one of this project's own recipes, `default` or `gram`, or a variant with the same name.
      quality: `"good"` (the number of updates of `default` or `gram` itself), `"draft"` (a third of
        it) or `"best"` (more than three times as many).

    Returns:
      The recipe with another number of updates, `descent.steps`.

    Raises:
      ValueError: for another quality, and for a recipe with another name: a published recipe keeps the
        number of updates of its source.

    Example:
      >>> from nst_jax import recipes
      >>> recipes.changes.with_quality(recipes.DEFAULT, "draft").descent.steps
      30
    """
    known = presets.QUALITIES.get(recipe.name)
    if known is None:
        raise ValueError(
            f"`quality`: recipe {recipe.name!r} has the number of updates of its source; set another "
            "number by `steps`, or choose a recipe for which draft, good and best are defined: "
            f"{', '.join(presets.QUALITIES)}"
        )
    _checks.one_of("quality", quality, known, "quality")
    return recipe.replace(descent__steps=known[quality])


def with_sizes(recipe: Recipe, size: sizes.Size = None, style_size: sizes.Size = None) -> Recipe:
    """Return the recipe with the size rules of content and style changed.

    A size rule computes the size to which a picture is resized, such as "the longer side has 512 px".

    Args:
      recipe: the recipe to change.
      size: the new size of the content, from which that of the style follows; None changes nothing. A
        number replaces the numbers in both rules. A width and height, such as "400x300", is the exact
        new size of the content. In the rule of the style, the number is then replaced by one that suits
        a canvas of this size, such as 400 px for the longer side; see `sizes.beside_exact`. (The canvas
        is the picture that is painted.) A rule of the style that derives its size from the canvas is
        kept. For other forms see `sizes.with_size`.
      style_size: the new size of the style, in the same forms; None means that it follows from `size`.

    Returns:
      The recipe with other rules `pictures.size` and `pictures.style_size`.

    Raises:
      TypeError: if a size is of a wrong type.
      ValueError: if a size is text of an unknown form, or a number out of range; see `sizes.with_size`.

    Example:
      >>> from nst_jax import recipes
      >>> pictures = with_sizes(recipes.DEFAULT, "400x300").pictures
      >>> pictures.size.shape(1000, 1000), pictures.style_size.shape(1000, 1000)
      ((300, 400), (400, 400))
    """
    before, own = recipe.pictures.size, recipe.pictures.style_size
    rule = sizes.with_size(before, size, argument="size")
    if style_size is not None:
        own = sizes.with_size(own or before, style_size, argument="style_size")
    elif isinstance(rule, sizes.Exact) and not sizes.is_number(size) and size is not None:
        own = sizes.beside_exact(own or before, before, rule)
    elif size is not None and not hasattr(own, "beside"):
        own = own and sizes.with_size(own, size, argument="size")
    return recipe.replace(pictures__size=rule, pictures__style_size=own)


def with_tap_styles(
    recipe: Recipe, tap_styles: Mapping[str, Any] | None
) -> tuple[Recipe, list[Any]]:
    """Return the recipe in which some taps (layers) have a style picture of their own.

    Args:
      recipe: a checked recipe.
      tap_styles: a dictionary from a tap's name to the style picture for this tap. If it is None or
        empty, the recipe is returned unchanged, with an empty list.

    Returns:
      The checked recipe, whose `terms.tap_styles` are the taps; and the list of their style pictures. A
      caller appends this list to the list of the style pictures for all other taps.

    Raises:
      TypeError: if `tap_styles` is no mapping.
      ValueError: for a tap that is unknown, given under two of its names, or without a style loss; or
        for any tap, if the recipe's style loss compares single positions (see `Terms.matched`), since
        such a loss reads all taps together.
    """
    if not tap_styles:
        return recipe, []
    if not isinstance(tap_styles, Mapping):
        raise TypeError(
            f"`tap_styles`: expected a dictionary from taps to pictures, got "
            f"{type(tap_styles).__name__}; write {{'relu1_1': picture}}"
        )
    return check(recipe.replace(terms__tap_styles=tuple(tap_styles))), list(tap_styles.values())


def checked_tap_pictures(pictures: Sequence[Any], recipe: Recipe) -> list[np.ndarray]:
    """Check the style pictures that single taps (layers) have of their own; return them as arrays.

    Args:
      pictures: one picture for each tap in the recipe's `terms.tap_styles`, in that order. If the list
        is empty, since the caller gave no such pictures, the result is empty, too.
      recipe: the checked recipe.

    Raises:
      TypeError: if a picture is not an array.
      ValueError: if an array is not a picture [h, w, 3] in [0, 1] or uint8, or if `pictures` is neither
        empty nor as long as `terms.tap_styles`.
    """
    taps = recipe.terms.tap_styles if pictures else ()
    return [
        _checks.image(f"tap_styles[{tap!r}]", picture)
        for tap, picture in zip(taps, pictures, strict=True)
    ]


# The words that may be given as `tile` in place of a size in px -> the value of `vgg.Network.tile`:
# with None, a picture is cut into tiles only if it does not fit into memory; with 0, never.
TILE_WORDS = {"auto": None, "off": 0}


def with_options(
    recipe: Recipe,
    size: Size = None,
    style_size: Size = None,
    steps: int | None = None,
    precision: str | None = None,
    tile: int | str | None = None,
    style_scale: float | Sequence[float] | None = None,
    colors: str | None = None,
    realism: Any = None,
    strength: Any = None,
) -> Recipe:
    """Return a recipe with some values replaced by the options of a run, and check it.

    An option that is None changes nothing.

    Args:
      recipe: the recipe to change.
      size: size of the content, and so of the canvas, such as 512 or "400x300"; see `with_sizes`.
      style_size: size of the style alone, in the same forms as `size`.
      steps: number of updates.
      precision: name of a precision of computation, such as "bfloat16" or "auto".
      tile: side of the tiles in which a picture is computed, in px; or "auto" or "off", see `tile_of`.
      style_scale: a factor for the sizes of all styles, or a list with a factor for each style.
      colors: whose colours the result has, such as "content"; `recipes.Pictures` has all choices.
      realism: how far the edges of the result are brought back to those of the content, from 0 (not at
        all) to 1.
      strength: how strong the style is, from 0 to 1; see `with_strength`.

    Returns:
      The changed recipe.

    Raises:
      TypeError: if `recipe` is not a `Recipe`, or an option is of a wrong type.
      ValueError: for a value that cannot be used; the message names the argument.
    """
    if isinstance(recipe, Recipe):
        if precision is not None:
            recipe = recipe.replace(network__precision=precision_named(precision))
        if tile is not None:
            recipe = recipe.replace(network__tile=tile_of(tile))
        if style_scale is not None:
            given: Any = style_scale
            factors = tuple(given) if isinstance(given, (list, tuple)) else (given,)
            recipe = recipe.replace(pictures__style_scale=factors)
        if steps is not None:
            recipe = recipe.replace(descent__steps=steps)
        if colors is not None:
            recipe = recipe.replace(pictures__colors=colors)
        if realism is not None:
            recipe = recipe.replace(pictures__realism=realism)
        if strength is not None:
            recipe = with_strength(check(recipe), strength)
    recipe = check(recipe)
    if size is None and style_size is None:
        return recipe
    return check(with_sizes(recipe, size, style_size))  # a given rule has numbers of its own


def tile_of(tile: int | str) -> int | None:
    """Return the value of `vgg.Network.tile` for the option `tile` of a run.

    "auto" becomes None, with which a picture is computed in tiles only if it does not fit in memory.
    "off" becomes 0, with which a picture is never computed in tiles. A number, the side of a tile in
    px, is returned unchanged.

    Raises:
      ValueError: for another string.
    """
    if not isinstance(tile, str):
        return tile
    if tile not in TILE_WORDS:
        raise ValueError(
            "`tile`: expected 'auto', 'off' or a number of pixels such as 512, got "
            f"{_checks.shown(tile)}"
        )
    return TILE_WORDS[tile]
