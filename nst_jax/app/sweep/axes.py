"""The axes of a sweep: settings of the recipe and their values, and the recipe with these values.

A sweep has one or two axes; an axis is a setting of the recipe with its values. Each canvas (a picture
that is painted) gets one value of each axis. In the recipe, the setting becomes an array with one
number for each canvas, so that one program, under `vmap`, paints many canvases. (If sets of style
layers are swept, the weight of each layer becomes an array.)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from nst_jax import _checks, vgg
from nst_jax.recipes.changes import with_learning_rate
from nst_jax.recipes.recipe import Recipe

# The settings that can be swept, and their titles in the grid. If two are swept, the first in this
# order makes the rows. The settings are applied in this order, too: `ratio` comes after `style_weight`,
# since it sets the content weight to a multiple of the new style weight.
TITLES = {
    "layers": "style layers",
    "style_weight": "style weight",
    "tv_weight": "weight of total variation",
    "learning_rate": "learning rate",
    "ratio": "content weight / style weight",
}

# Words that `--layers` takes in place of names of layers. "cumulative" means the first style layer, the
# first two, and so on up to all of them; "single" means each layer alone.
SETS = ("cumulative", "single")


class Axis(NamedTuple):
    """A setting that a sweep varies, and its values."""

    name: str  # a key of `TITLES`
    values: tuple[Any, ...]  # numbers, or sets of layers: tuples of names of style layers
    labels: tuple[str, ...]  # for each value, the text that the grid shows


def layer_sets(text: str, taps: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    """Return the sets of style layers that `--layers` asks for.

    Args:
      text: `"cumulative"` (sets of the first layer, of the first two, and so on up to all layers),
        `"single"` (each layer alone), or sets separated by commas, each with `+` between its layers,
        such as `"relu1_1,relu1_1+relu2_1"`. In such sets, other names that `vgg.resolve_taps` accepts
        can be used, too, such as `"r21"` for `"relu2_1"`.
      taps: the names of the recipe's style layers, which are those that its style loss reads.

    Returns:
      The sets, each in the order of `taps`.

    Raises:
      ValueError: if `text` is an unknown word, names a layer that is not in `taps`, or names a layer
        twice in one set.

    Example:
      >>> layer_sets("cumulative", ("relu1_1", "relu2_1"))
      (('relu1_1',), ('relu1_1', 'relu2_1'))
      >>> layer_sets("r21,r21+r11", ("relu1_1", "relu2_1"))
      (('relu2_1',), ('relu1_1', 'relu2_1'))
    """
    if text == "cumulative":
        return tuple(tuple(taps[: count + 1]) for count in range(len(taps)))
    if text == "single":
        return tuple((tap,) for tap in taps)
    if not any(sign.isdigit() for sign in text):
        raise _checks.unknown("layers", text, SETS, "kind of sets")
    found = []
    for part in text.split(","):
        chosen = vgg.resolve_taps(part.split("+"), argument="layers")
        for tap in chosen:
            if tap not in taps:
                raise _checks.unknown("layers", tap, taps, "style layer in the recipe")
        found.append(tuple(tap for tap in taps if tap in chosen))
    return tuple(found)


def axis_of(name: str, value: Any, recipe: Recipe) -> Axis:
    """Return the axis of the grid that an option of the command gives: a setting and its values.

    An axis with a single value is not swept: all canvases get this value.

    Args:
      name: a key of `TITLES`.
      value: numbers, or the text of `--layers`.
      recipe: the recipe, from whose style layers `--layers` selects.

    Returns:
      The axis.

    Raises:
      ValueError: if there are no values, or if a number or a layer cannot be used.
    """
    if name == "layers":
        sets = layer_sets(value, recipe.terms.style_taps)
        return Axis(name, sets, tuple(map(_short, sets)))
    values = tuple(value)
    if not values:
        raise ValueError(f"`{name}`: is empty; give at least one number")
    _checks.number(name, np.asarray(values), least=0)
    return Axis(name, values, _numerals(values))


def _short(taps: Sequence[str]) -> str:
    """Return the names of several layers, shortened: "relu1_1 +2_1" for `("relu1_1", "relu2_1")`."""
    first, *others = taps
    kind = first.rstrip("0123456789_")
    return " +".join([first, *(tap.removeprefix(kind) for tap in others)])


def _numerals(values: Sequence[float]) -> tuple[str, ...]:
    """Return numbers as text, for the labels of an axis: in Python's format `g`, such as "0.5".

    If this format gives any of them an exponent, all but 0 get one, such as "1e-5", so that the labels
    look alike.
    """
    plain = tuple(f"{value:g}" for value in values)
    if not any("e" in text for text in plain):
        return plain
    return tuple(
        np.format_float_scientific(float(text), trim="-", exp_digits=1) if value else "0"
        for value, text in zip(values, plain, strict=True)
    )


def shape_of(axes: Sequence[Axis]) -> tuple[Axis | None, Axis]:
    """Return the axes of the grid's rows and columns: those with several values.

    If only one axis has several values, it becomes the columns. If each axis has a single value, the
    first axis becomes the columns.

    Args:
      axes: all axes that were given, in the order of `TITLES`.

    Returns:
      The axis of the rows, or None for a single row; and the axis of the columns.

    Raises:
      ValueError: if no axis is given, or if more than two have several values.
    """
    if not axes:
        known = ", ".join(map(_flag, TITLES))
        raise ValueError(f"`ratio`: nothing is swept; give several values of one or two of {known}")
    swept = [axis for axis in axes if len(axis.values) > 1] or [axes[0]]
    if len(swept) > 2:
        one, two, three, *_ = (axis.name for axis in swept)
        raise ValueError(
            f"`{three}`: is swept beside `{_flag(one)}` and `{_flag(two)}`; a grid has two axes, so "
            "give several values of two at most"
        )
    return (swept[0], swept[1]) if len(swept) == 2 else (None, swept[0])


def _flag(name: str) -> str:
    return "--lr" if name == "learning_rate" else f"--{name.replace('_', '-')}"


def with_swept_values(
    recipe: Recipe, axes: Sequence[Axis], rows: Axis | None, columns: Axis
) -> Recipe:
    """Return the recipe with the values of all axes; swept numbers are arrays, one number per picture.

    Args:
      recipe: a recipe without arrays.
      axes: all axes that were given, in the order of `TITLES`. An axis that makes neither the rows nor
        the columns has a single value, which all pictures get.
      rows: the axis of the rows of the grid, or None for a single row.
      columns: the axis of the columns.

    Returns:
      The recipe, whose swept numbers are arrays [number of rows * number of columns], row by row.

    Raises:
      ValueError: if a learning rate is given but the optimiser has none, or if sets of layers are given
        but the style loss reads all layers together.
    """
    count = 1 if rows is None else len(rows.values)
    for axis in axes:
        if axis is columns:
            chosen = list(axis.values) * count
        elif axis is rows:
            chosen = [value for value in axis.values for _ in columns.values]
        else:
            chosen = [axis.values[0]]
        recipe = _with_value(recipe, axis.name, chosen)
    return recipe


def _with_value(recipe: Recipe, name: str, chosen: Sequence[Any]) -> Recipe:
    if name == "layers":
        return _with_layers(recipe, chosen)
    numbers: Any = np.asarray(chosen)
    numbers = numbers if len(chosen) > 1 else numbers[0]
    if name == "learning_rate":
        return with_learning_rate(recipe, numbers)
    if name == "ratio":
        name, numbers = "content_weight", numbers * np.asarray(recipe.terms.style_weight)
    return replace(recipe, terms=replace(recipe.terms, **{name: numbers}))


def _with_layers(recipe: Recipe, chosen: Sequence[Sequence[str]]) -> Recipe:
    """Turn each style layer's weight into an array with one number for each set of layers in `chosen`.

    If there is only one set, the weight stays a single number.

    Let a set have n of the recipe's N style layers. The weights of the layers in the set are multiplied
    by N / n. So the sum of the weights stays the same if all are equal in the recipe. The weights of
    the other layers are multiplied by 0.
    """
    terms = recipe.terms
    if getattr(terms.style_loss, "parts", ()):
        raise ValueError(
            "`layers`: the style loss of this recipe reads all layers together; sweep something else"
        )
    weights: list[Any] = []
    for tap, weight in zip(terms.style_taps, terms.style_layer_weights, strict=True):
        factors = [len(terms.style_taps) / len(taps) if tap in taps else 0.0 for taps in chosen]
        weights.append(weight * np.asarray(factors if len(factors) > 1 else factors[0]))
    return replace(recipe, terms=replace(terms, style_layer_weights=tuple(weights)))
