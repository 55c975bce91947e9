"""The check that the targets of the style loss were measured with the recipe with which they are used.

Targets are what `measure` computes and `step` compares the canvas with. They do not say with which
recipe they were measured. But for another style loss, the dictionary `Targets.style` has other names,
or arrays of other shapes.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import jax
import numpy as np
from jax.tree_util import SequenceKey

from nst_jax._types import Shape, Targets
from nst_jax.losses import MatchingLoss
from nst_jax.recipes.recipe import Recipe, StylePart
from nst_jax.scaling import loss_costs
from nst_jax.scaling.layer_table import features_at, matching_target

# Expected targets are found for one style picture of the first (height, width), the smallest that the
# network takes, and for two of the second. A side of an array that is the same in both is the same for
# all style pictures.
SHAPES: tuple[Shape, Shape] = (16, 16), (64, 48)

# (place of an array in a target, number of its axes) -> its sides, None for a side that is not the same
# for all style pictures.
Layout: TypeAlias = dict[tuple[str, int], tuple[int | None, ...]]


@contextlib.contextmanager
def explained_by_targets(targets: Targets, recipe: Recipe) -> Iterator[None]:
    """Explain an error that comes from targets measured with a recipe that has another style loss.

    Raises:
      ValueError: in place of an error of the code in the context, such as a KeyError, if the targets
        cannot be those of `recipe`. If they may be, the error itself is raised.
    """
    try:
        yield
    except Exception as error:
        fault = fault_of_style_targets(targets, recipe)
        if not fault:
            raise
        raise ValueError(fault) from error


def fault_of_style_targets(targets: Targets, recipe: Recipe) -> str:
    """Return what is wrong with the targets of the style loss; "" if they may be those of a recipe.

    The result is an error message, which says that the targets were measured with another recipe. To
    find it, the style loss is traced with the features of small pictures, which may take a second. So
    this function is meant to be called after a loss failed.

    If a user's own loss cannot be evaluated on small features, its targets are not looked at.
    """
    expected, found = _expected(recipe), targets.style
    if not found.keys() >= expected.keys():
        return other_names("style", found, expected)
    # Along the first axis, the targets of all regions are stacked.
    stacked = targets.guides is not None
    for name, layout in expected.items():
        if layout is not None and not _fits(found[name], layout, stacked):
            return (
                "`targets`: were measured with another recipe, since the style loss needs other arrays "
                f"for {name}; measure them with this recipe"
            )
    return ""


def other_names(kind: str, found: Iterable[str], needed: Iterable[str]) -> str:
    """Return the error message for targets with other names than a recipe needs.

    Args:
      kind: "content" or "style".
      found: the names that the targets have.
      needed: the names that are needed.
    """
    return (
        f"`targets`: were measured with another recipe, since they have {kind} targets for "
        f"{', '.join(found)}, and {', '.join(needed)} are needed; measure them with this recipe"
    )


def _expected(recipe: Recipe) -> dict[str, Layout | None]:
    """Return the layout of each style target of a recipe by name; None if it is not known."""
    if not isinstance(recipe.terms.style_loss, MatchingLoss):
        return {part.name: _layout_of_part(part, recipe) for part in recipe.terms.style_parts}
    try:
        small, large = (
            matching_target([shape] * count, recipe) for count, shape in enumerate(SHAPES, 1)
        )
    except Exception:
        return {}  # the loss is a user's own, which may need larger pictures
    return {name: _layout(small[name], large[name]) for name in small if name in large}


def _layout_of_part(part: StylePart, recipe: Recipe) -> Layout | None:
    try:
        found = [
            loss_costs.target(part.loss, features_at(part.tap, shape, recipe), styles=count)
            for count, shape in enumerate(SHAPES, 1)
        ]
    except Exception:
        return None  # as in `_expected`
    return _layout(*found)


def _layout(*targets: Any) -> Layout:
    """Return what several targets of the same loss have in common."""
    found: Layout = {}
    for target in targets:
        for place, sides in _places(target):
            known = found.setdefault((place, len(sides)), sides)
            found[place, len(sides)] = tuple(
                one if one == other else None for one, other in zip(known, sides, strict=True)
            )
    return found


def _fits(target: Any, layout: Layout, stacked: bool) -> bool:
    """Return whether a target has the arrays of a layout, and no others."""
    met = set()
    for place, sides in _places(target):
        own = sides[1:] if stacked else sides
        wanted = layout.get((place, len(own)))
        if wanted is None or any(
            side not in (None, given) for side, given in zip(wanted, own, strict=True)
        ):
            return False
        met.add((place, len(own)))
    return met == layout.keys()


def _places(target: Any) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield the place and the sides of each array of a target.

    The place has no numbers of items of lists and tuples: a loss may have an array for each picture of
    the style, so the number of items is not the same for all style pictures.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(target):
        place = jax.tree_util.keystr(
            tuple(SequenceKey(0) if isinstance(key, SequenceKey) else key for key in path)
        )
        yield place, np.shape(leaf)
