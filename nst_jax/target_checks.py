"""The check that the targets of the style loss were measured with the recipe with which they are used.

Targets are what `measure` computes and `step` compares the canvas with. They do not say with which
recipe they were measured. But for another style loss, the dictionary `Targets.style` has other names,
or arrays of other shapes.
"""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.tree_util import SequenceKey

from nst_jax._types import Shape, Targets
from nst_jax.losses import MatchingLoss
from nst_jax.recipes.recipe import Recipe
from nst_jax.scaling import loss_costs
from nst_jax.scaling.layer_table import features_at, matching_target

# Targets are compared with those of two examples: one style picture of the first (height, width), which
# is the smallest that the network takes, and two of the second.
EXAMPLES: Sequence[Sequence[Shape]] = [(16, 16)], [(64, 48), (64, 48)]


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
    small, large = (_expected(recipe, shapes) for shapes in EXAMPLES)
    found, names = targets.style, [name for name in small if name in large]
    if not found.keys() >= set(names):
        return other_names("style", found, names)
    # Along the first axis, the targets of all regions are stacked.
    stacked = targets.guides is not None
    for name in names:
        examples = small[name], large[name]
        if None not in examples and not _fits(found[name], examples, stacked):
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


def _expected(recipe: Recipe, shapes: Sequence[Shape]) -> dict[str, Any]:
    """Return the style targets of a recipe by name, as shapes and types of arrays.

    Args:
      recipe: the recipe.
      shapes: (height, width) of the style pictures, which are the same for all of them.

    Returns:
      The targets. The loss may be a user's own and need larger pictures; its target is then None, or if
      it reads all taps together, there are no targets.
    """
    if isinstance(recipe.terms.style_loss, MatchingLoss):
        with contextlib.suppress(Exception):
            return matching_target(shapes, recipe)
        return {}
    found: dict[str, Any] = {}
    for part in recipe.terms.style_parts:
        found[part.name] = None
        with contextlib.suppress(Exception):
            features = features_at(part.tap, shapes[0], recipe)
            found[part.name] = loss_costs.target(part.loss, features, styles=len(shapes))
    return found


def _fits(target: Any, examples: Iterable[Any], stacked: bool) -> bool:
    """Return whether a target has the arrays of the examples of the same target, and no others.

    A side of an array that is the same in all examples is the same for all style pictures.
    """
    known: dict[Any, list[tuple[Any, ...]]] = {}  # (place, number of axes) -> the sides
    for example in examples:
        for place, sides in _places(example):
            known.setdefault((place, len(sides)), []).append(sides)
    met = set()
    for place, sides in _places(target):
        own = sides[1:] if stacked else sides
        alike = known.get((place, len(own)))
        if alike is None or any(
            len(set(axis)) == 1 and side not in axis
            for side, axis in zip(own, zip(*alike, strict=True), strict=True)
        ):
            return False
        met.add((place, len(own)))
    return met == known.keys()


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
