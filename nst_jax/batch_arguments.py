"""The arguments of a batch: styles and blends, keys, factors of sizes; how many pictures they make."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nst_jax import _checks, recipes
from nst_jax.recipes.recipe import Recipe


def lists_of_styles(styles: Any) -> list[list[np.ndarray]]:
    """Check the images in a batch's argument `styles`; return each of its entries as a list of images.

    An entry is one image, or a list of images that are blended. `checked_blends` checks whether the
    recipe accepts so many images.
    """
    if isinstance(styles, (list, tuple)) and any(isinstance(s, (list, tuple)) for s in styles):
        return [
            _checks.one_or_several(f"styles[{index}]", entry) for index, entry in enumerate(styles)
        ]
    return [[image] for image in _checks.images("styles", styles)]


def checked_blends(styles: Any, recipe: Recipe) -> list[list[np.ndarray]]:
    """Check each entry of the argument `styles`, and return it as a list of images.

    A list of one image is a single style, a longer list is a blend. A number of images that the recipe
    does not accept is refused.
    """
    found = lists_of_styles(styles)
    for index, blended in enumerate(found):
        try:
            recipes.check_styles(recipe.terms, len(blended), argument=f"styles[{index}]")
        except ValueError as error:
            hint = "; a blend is a list within the list, `[[a, b]]`" if len(blended) == 1 else ""
            raise ValueError(f"{error}{hint}") from error
    return found


def with_tap_pictures(styles: Any, pictures: list[np.ndarray]) -> Any:
    """Return `styles` with `pictures`, the styles for single layers, appended to each entry.

    An entry of `styles` is one image, or a list of images that are blended.
    """
    if not pictures:
        return styles
    return [[*blended, *pictures] for blended in lists_of_styles(styles)]


def each_style_scale(
    given: Any, styles: Sequence[Sequence[np.ndarray]], tap_styles: Any, regions: Any
) -> tuple[Any, list[tuple[float, ...]] | None]:
    """Decide whether the argument `style_scale` holds for all pictures or has a value for each picture.

    A factor multiplies the sides of a style. A picture may have one factor for each of its styles,
    which include the styles of single layers and of regions. A single number holds for all pictures. So
    does a list of numbers, if it has one number, or one for each style of a picture. Any other list,
    and any array with axes, has an entry for each picture.

    Args:
      given: the argument `style_scale`, not None.
      styles: the styles of each picture, as `lists_of_styles` returned them. Only the first entry is
        read, to count the styles of a picture.
      tap_styles: the styles of single layers, by layer; None if there are none.
      regions: the regions, each of which has a style; None if there are none.

    Returns:
      (`given`, None) if it holds for all pictures; else (None, the factors of each picture).

    Raises:
      TypeError: if the factors of a picture are no numbers.
      ValueError: if a factor is out of range, or if the entry for a picture is empty or has several
        axes.
    """
    _checks.not_traced("style_scale", given)
    is_list = isinstance(given, (list, tuple))
    if not (is_list or np.ndim(given)) or len(given) == 0:
        return given, None
    if is_list and not any(np.ndim(one) for one in given):
        # `tap_styles` and `regions` add further styles, but none if they are None. If one of them has a
        # wrong type, it is not counted either; it is refused later, by its own checks.
        others = (tap_styles, Mapping), (regions, (list, tuple))
        more = sum(len(value) for value, kind in others if isinstance(value, kind))
        if len(given) in (1, len(styles[0]) + more):
            return given, None
    for index, one in enumerate(given):
        if np.ndim(one) > 1 or np.size(one) == 0:
            raise ValueError(
                f"`style_scale[{index}]`: expected a number, or one for each style of the picture, got "
                f"an array of shape {list(np.shape(one))}"
            )
    each = [tuple(np.atleast_1d(np.asarray(one)).tolist()) for one in given]
    for factors in dict.fromkeys(each):
        for factor in factors:
            _checks.number(f"style_scale[{each.index(factors)}]", factor, above=0)
    return None, each


def several_keys(key: Any) -> list[Array] | None:
    """Check the argument `key`; return a list of its keys if it is an array of keys, else None.

    Args:
      key: a JAX random key, typed or raw (two numbers of the type uint32); or an array of n such keys;
        or None.

    Raises:
      TypeError: if `key` is neither None, nor a typed key or an array of them, nor an array of uint32.
      ValueError: if a raw key has another length than JAX's keys, or if `key` is an array of keys, but
        empty or not of the shape [n].
    """
    _checks.random_key("key", key, several=True)
    if key is None:
        return None
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = np.shape(key) if typed else np.shape(key)[:-1]
    if not shape:
        return None
    if len(shape) > 1 or shape[0] == 0:
        raise ValueError(
            f"`key`: expected a random key, or an array of n keys, got keys of shape {list(shape)}; "
            "`jax.random.split(key, n)` makes n keys"
        )
    return [key[index] for index in range(shape[0])]


# A number of a recipe may be an array [n], with one value for each picture of a batch, if its path in
# the recipe, such as "terms.style_weight", begins with one of these strings.
SWEPT = ("terms.", "descent.optimizer.", "descent.last_learning_rate", "pictures.realism")


def number_of_pictures(
    contents: list[np.ndarray],
    styles: list[list[np.ndarray]],
    recipe: Recipe,
    several: Mapping[str, int],
) -> int:
    """Return the number of pictures of a batch.

    It is the common length of all lists and arrays whose length is not 1, and 1 if every list or array
    has a single item.

    Args:
      contents: the content pictures.
      styles: for each picture of the batch, or once for all, a list of styles that are blended.
      recipe: the recipe, in which a number may be an array with an item for each picture.
      several: name -> number of items, for the other arguments that are given as lists or arrays with
        an item for each picture, such as masks and `style_scale`.

    Raises:
      ValueError: if two lists or arrays have different lengths, neither of which is 1; or if a number
        of the recipe is an array, but may not be one (see `SWEPT`), or is empty or has several axes.
    """
    sizes = {"contents": len(contents), "styles": len(styles), **several}
    for path, leaf in jax.tree_util.tree_leaves_with_path(recipe):
        if np.ndim(leaf) == 0:
            continue
        name = jax.tree_util.keystr(path).lstrip(".")
        if np.ndim(leaf) > 1 or not name.startswith(SWEPT):
            raise ValueError(
                f"`recipe`: `{name}` may not be an array of shape {list(np.shape(leaf))}; "
                "a sweep is an array [n] in `terms` or `descent.optimizer`, or of learning rates, "
                "or `realism`"
            )
        if len(leaf) == 0:
            raise ValueError(
                f"`recipe`: `{name}` is an empty array; give a number for each picture"
            )
        sizes[f"recipe.{name}"] = len(leaf)
    counts = {size for size in sizes.values() if size != 1}
    if len(counts) > 1:
        listed = ", ".join(f"{size} {name}" for name, size in sizes.items())
        raise ValueError(
            f"`stylize_many`: {listed} do not fit together; give n of each, or one for all"
        )
    return counts.pop() if counts else 1
