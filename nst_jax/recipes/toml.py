"""Recipes as TOML text: functions that write and read it, and that change single values of a recipe.

The keys are the names of the fields of `Recipe` and of the dataclasses in it, and a few more: `base`,
`strength`, `controls` and `kind`. A file is plain data: nothing in it is executed. This module parses
its text as tables, and `nst_jax.recipes.tables` makes a recipe of them. If the value of a field is one
of several functions or dataclasses, a file names it as in `nst_jax.recipes.walk.CHOICES`. So a value
without a name there, such as a user's own function, cannot be written to a file.
"""

import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import is_dataclass
from types import MappingProxyType
from typing import Any, NamedTuple, get_origin

from nst_jax import _checks
from nst_jax.recipes import changes, presets
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.strength import factor_of
from nst_jax.recipes.tables import KIND, NONE, Refused, checked, filled, refuse_unknown, scalar
from nst_jax.recipes.walk import (
    Declared,
    Item,
    declared_fields,
    fields_of,
    name_to_show,
    parts_of,
)

# The first line of every text that `to_toml` returns.
HEADER = (
    "# A recipe of nst_jax, as `--recipe FILE` reads it. A key that is left out has its default."
)

# The key in a file for the name of a preset, as in `base = "tf"`. Keys that the file lacks have the
# values of this preset.
BASE = "base"

# The key, in a file or among the `values` of `with_values`, of a number that makes the style stronger
# or weaker. A recipe has no field of this name: `changes.with_strength` changes `terms.style_weight`
# or, if a style loss looks for matches (`Terms.searched`), `terms.search_content`.
STRENGTH = "strength"

# The key of a table in a recipe file. The table contains the paths of pictures, such as masks. It does
# not become a part of the `Recipe`: only commands that paint pictures, or plan their painting, use it.
CONTROLS = "controls"

# The controls of a file that has no table `controls`.
NO_CONTROLS: Mapping[str, Any] = MappingProxyType({})


# --- Writing --------------------------------------------------------------------------------------


def to_toml(recipe: Recipe, controls: Mapping[str, Any] = NO_CONTROLS) -> str:
    """Return a recipe as TOML text, with every choice and every number.

    Floats are written with so many digits that reading them gives the same bits. A choice, such as that
    of an optimiser, a loss or a size rule, is written as the name of the chosen value; or, if this
    value has numbers of its own, as a table of these numbers with the name under the key `kind`.

    Args:
      recipe: a recipe without arrays, whose functions and dataclasses all have names in `walk.CHOICES`.
      controls: texts that name files of pictures, such as masks, as `recipe_and_controls` returns them.
        They are written as a table `controls`; if there are none, it is left out.

    Returns:
      Text from which `recipe_and_controls` reads the same recipe and controls. If there are no
      controls, `from_toml` can read it, too.

    Raises:
      TypeError: if `recipe` is not a `Recipe`.
      ValueError: for a recipe with arrays of one or more dimensions in place of numbers; for a function
        or dataclass without a name in `walk.CHOICES`, such as one of your own or
        `nst_jax.optimizers.Optax`.

    Example:
      >>> from nst_jax import recipes
      >>> print(to_toml(recipes.TF).partition("[descent]")[2].strip())
      coordinates = "raw"
      clip = true
      steps = 1003
      schedule = "OneScale"
      enlarge = "bicubic"
      pyramid_levels = 0
      one_pyramid = false
      content_detail = false
      <BLANKLINE>
      [descent.optimizer]
      kind = "KerasAdam"
      learning_rate = 0.02
      b1 = 0.99
      b2 = 0.999
      eps = 0.1
      counted = 0.0
    """
    _checks.instance("recipe", recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")
    table = _table(fields_of(recipe)) | ({CONTROLS: controls} if controls else {})
    return "\n".join([HEADER, *_lines(table, "")]) + "\n"


def _table(items: Iterable[Item]) -> dict[str, Any]:
    """Return fields of a recipe as a table: name of the field -> its value in TOML.

    A field whose value is None is left out if None is its default; otherwise its value is written as
    the string `NONE`, since TOML has no null.
    """
    return {
        item.key.rpartition(".")[2]: _plain(item)
        for item in items
        if not (item.value is None and item.field is not None and item.field.default is None)
    }


def _plain(item: Item) -> Any:
    """Return a field's value as a number, boolean, string, list or table, which TOML can represent."""
    if item.value is None:
        return NONE
    if item.choice is not None:
        if item.name is None:
            raise ValueError(
                f"`{item.key}`: {name_to_show(item.value)} is not registered, and a file can only "
                f"name {', '.join(item.choice.named)}"
            )
        numbers = _table(parts_of(item))
        return {KIND: item.name, **numbers} if numbers else item.name
    if is_dataclass(item.value):
        return _table(parts_of(item))
    if isinstance(item.value, (tuple, list)):
        return [_number(item.key, part) for part in item.value]
    return _number(item.key, item.value)


def _number(key: str, value: Any) -> Any:
    """Return a number or string unchanged, and an array without dimensions as a Python number.

    An array with dimensions is refused.
    """
    if not hasattr(value, "dtype"):
        return value
    if value.ndim:
        raise ValueError(
            f"`{key}`: contains {value.size} numbers; a file describes one recipe, so write one file "
            "for each"
        )
    return value.tolist()


def _lines(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the lines of a table: first its simple values, as TOML requires, then its tables.

    `prefix` stands before the names of these tables: the full key of `table` and a dot, such as
    "descent.optimizer.", or "" if `table` is the whole recipe.
    """
    for key, value in table.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {_literal(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from ("", f"[{prefix}{key}]")
            yield from _lines(value, f"{prefix}{key}.")


def _literal(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # A string is written in JSON as in TOML, except that TOML requires an escape for the character
        # DEL (0x7f).
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


# --- Reading --------------------------------------------------------------------------------------


def from_toml(text: str, *, argument: str = "recipe") -> Recipe:
    r"""Read a recipe from TOML.

    A key that the text lacks has its default value or, if the text has a line such as `base = "tf"`,
    the value in that preset. In a table such as that of the optimiser, the key `kind` may name a class.
    With `kind = "Adam"`, a new `Adam` is made, so the keys that the table lacks have the defaults of
    `Adam`, whatever the preset has. A table without `kind` changes single values of the preset or, if
    the text names no preset, of the defaults. If there is a key `strength`, the recipe's style is then
    made stronger or weaker, see `changes.with_strength`.

    Args:
      text: TOML with keys that `to_toml` writes, and perhaps the keys `base` and `strength`.
      argument: what the caller calls the text, shown in error messages.

    Returns:
      The checked recipe.

    Raises:
      TypeError: if `text` is not a string.
      ValueError: if the text is not TOML (the message names the line); for unknown keys and names (the
        message suggests the nearest known one); for values of a wrong type or out of range (the message
        names the key); and for a table `controls`, which names pictures, since a recipe has none.

    Example:
      >>> recipe = from_toml('base = "tf"\n[terms]\nstyle_weight = 0.5')
      >>> recipe.terms.style_weight, recipe.descent.steps
      (0.5, 1003)
    """
    recipe, controls = recipe_and_controls(text, argument=argument)
    if controls:
        raise ValueError(
            f"`{argument}`: its table `{CONTROLS}` names pictures, which a recipe does not have; leave "
            "it out, or read both by `recipe_and_controls`"
        )
    return recipe


class RecipeFile(NamedTuple):
    """The parts of a recipe file: the recipe, the strength of the style, and the table `controls`.

    The strength has not been applied to the recipe.
    """

    recipe: Recipe
    strength: float | None  # 0 to 1, for `changes.with_strength`; None if the file has none
    # The table `controls`, which names pictures such as masks; empty if the file has none.
    controls: dict[str, str | list[str] | dict[str, str]]


def recipe_and_controls(
    text: str, *, argument: str = "recipe"
) -> tuple[Recipe, dict[str, str | list[str] | dict[str, str]]]:
    r"""Read a recipe from TOML, and the table `controls`, which names pictures.

    A recipe has no pictures. But a file may name some, such as masks of regions (areas with a style of
    their own) and their styles, the mask of a part that keeps the content, and styles of single layers.
    The pictures are not read here, but by the commands that paint with this file.

    Args:
      text: TOML that `from_toml` accepts, perhaps with a table `controls` in addition.
      argument: what the caller calls the text, shown in error messages.

    Returns:
      The checked recipe; and the table `controls`: a key -> a text, a list of texts, or a table of
      texts. It is empty if the text has no such table. What the texts mean is not checked here.

    Raises:
      TypeError: if `text` is not a string.
      ValueError: if the text is not TOML; for unknown keys and names; and for values of a wrong type or
        out of range.

    Example:
      >>> text = 'base = "tf"\n[controls]\nprotect = "face.png:0.5"'
      >>> recipe_and_controls(text)[1]
      {'protect': 'face.png:0.5'}
    """
    recipe, strength, controls = recipe_strength_and_controls(text, argument=argument)
    return _with_strength(recipe, strength), controls


def recipe_strength_and_controls(text: str, *, argument: str = "recipe") -> RecipeFile:
    r"""Read a recipe from TOML like `recipe_and_controls`, but do not apply the key `strength` to it.

    So a caller can apply another strength of the style in its place.

    Args:
      text: as in `recipe_and_controls`.
      argument: what the caller calls the text, shown in error messages.

    Returns:
      The checked recipe; the checked strength, None if the text has none; and the table `controls`,
      whose meaning is not checked.

    Raises:
      TypeError, ValueError: as in `recipe_and_controls`.

    Example:
      >>> found = recipe_strength_and_controls('base = "tf"\nstrength = 0.5')
      >>> found.recipe.terms.style_weight, found.strength
      (0.01, 0.5)
    """
    _checks.instance(argument, text, str, "it is the TOML itself, such as `Path(file).read_text()`")
    try:
        table = _parsed(text)
        refuse_unknown(table, Recipe, "", BASE, STRENGTH, CONTROLS)
        base = _base(table.pop(BASE)) if BASE in table else Recipe()
        strength = _checked_strength(table.pop(STRENGTH)) if STRENGTH in table else None
        controls = _table_of_texts(table.pop(CONTROLS, {}))
        return RecipeFile(checked(filled(Recipe, base, table, "")), strength, controls)
    except Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def _with_strength(recipe: Recipe, strength: float | None) -> Recipe:
    return recipe if strength is None else changes.with_strength(recipe, strength)


def _checked_strength(value: Any) -> float:
    number = scalar(float, value, STRENGTH)
    try:
        factor_of(number)
        return number
    except ValueError as error:
        raise Refused(str(error)) from None


def _table_of_texts(table: Any) -> dict[str, Any]:
    """Check the TOML table `controls`, and return it.

    Each value must be a string, a list of strings or a table of strings.
    """
    if not isinstance(table, dict):
        raise Refused(f"`{CONTROLS}`: expected a table of keys, got {_checks.shown(table)}")
    for key, value in table.items():
        texts = value if isinstance(value, list) else [value]
        texts = list(value.values()) if isinstance(value, dict) else texts
        for text in texts:
            scalar(str, text, f"{CONTROLS}.{key}")
    return table


def _base(name: Any) -> Recipe:
    try:
        return presets.named(scalar(str, name, BASE), argument=BASE)
    except ValueError as error:
        raise Refused(str(error)) from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at the end, line {len(text.splitlines())}"
        raise Refused(f"is no TOML: {str(error).replace('at end of document', end)}") from None
    except (ValueError, RecursionError):
        # `tomllib` raises these errors for numbers with more digits, and for lists with deeper nesting,
        # than Python allows.
        raise Refused(
            "is no TOML of a recipe: a number too long, or lists nested too deep"
        ) from None


# --- Changing single values -----------------------------------------------------------------------


def with_values(recipe: Recipe, values: Mapping[str, str], *, argument: str = "values") -> Recipe:
    """Return a recipe with some values replaced, each given as text from a command line.

    Args:
      recipe: the recipe to change.
      values: a dictionary from keys to text. A key is the full key of a field, such as "descent.steps",
        or "strength", for a number from 0 to 1 that makes the style weaker or stronger. Each text is a
        value as in TOML, but strings need no quotation marks, and lists no brackets. A name such as
        "Adam" selects that optimiser with its defaults. The values are replaced in the order of the
        dictionary, and a strength is applied after all others.
      argument: what the caller calls the values, shown in error messages.

    Returns:
      The checked recipe.

    Raises:
      TypeError: if `recipe` is not a `Recipe`, or `values` not a dictionary.
      ValueError: for unknown keys and names, and for values of a wrong type or out of range.

    Example:
      >>> from nst_jax import recipes
      >>> values = {"descent.optimizer": "Adam", "descent.optimizer.learning_rate": "0.05"}
      >>> with_values(recipes.TF, values).descent.optimizer
      Adam(learning_rate=0.05, b1=0.9, b2=0.999, eps=1e-08, carry=False)
    """
    recipe, strength = values_and_strength(recipe, values, argument=argument)
    try:
        return checked(_with_strength(recipe, strength))
    except Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def values_and_strength(
    recipe: Recipe, values: Mapping[str, str], *, argument: str = "values"
) -> tuple[Recipe, float | None]:
    """Replace values of a recipe like `with_values`, but return the strength and do not apply it.

    A strength is a number from 0 to 1 that makes the style weaker or stronger; see
    `changes.with_strength`. The caller can apply the returned strength, or another one.

    Args:
      recipe: the recipe to change.
      values: as in `with_values`.
      argument: what the caller calls the values, shown in error messages.

    Returns:
      The checked recipe; and the checked strength, or None if `values` has no key "strength".

    Raises:
      TypeError, ValueError: as in `with_values`.

    Example:
      >>> from nst_jax import recipes
      >>> changed, strength = values_and_strength(recipes.TF, {"strength": "0.5"})
      >>> changed == recipes.TF, strength
      (True, 0.5)
    """
    _checks.instance("recipe", recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")
    _checks.instance(argument, values, Mapping, "write {'descent.steps': '200'}")
    strength = None
    try:
        for key, text in values.items():
            if key == STRENGTH:
                strength = _checked_strength(_value(text))
            else:
                # A key whose part before the first dot is unknown is refused here, so that the message
                # can suggest `strength`, which `_changed` does not know as a key.
                refuse_unknown({key.partition(".")[0]: text}, Recipe, "", STRENGTH)
                recipe = _changed(recipe, key, _typed(text, _declared(recipe, key)))
        return checked(recipe), strength
    except Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def with_text(recipe: Recipe, key: str, text: str, *, argument: str = "values") -> Recipe:
    """Replace one value of a recipe like `with_values`, but do not check the recipe.

    So values that go together can be replaced one after the other, and checked at the end.

    Args:
      recipe: the recipe to change.
      key: the full key of a field, such as "descent.steps".
      text: the new value, as in `with_values`.
      argument: what the caller calls the values, shown in error messages.

    Returns:
      The changed recipe; pass it to `recipes.checking.check` once all values are replaced.

    Raises:
      ValueError: for an unknown key, or for a value of a wrong type or with an unknown name.

    Example:
      >>> from nst_jax import recipes
      >>> with_text(recipes.TF, "descent.steps", "-1").descent.steps
      -1
    """
    try:
        return _changed(recipe, key, _typed(text, _declared(recipe, key)))
    except Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def with_value(recipe: Recipe, key: str, value: Any, *, argument: str) -> Recipe:
    """Return a recipe with one value replaced.

    The type of the new value is checked, but not whether it is in range.

    Args:
      recipe: the recipe to change.
      key: the full key of the value, such as "network.pool".
      value: the new value, as `tomllib` reads it: a number, a string, a list or a table.
      argument: what the caller calls the value, shown in error messages in place of the key.

    Returns:
      The changed recipe; pass it to `recipes.checking.check` once all values are replaced.

    Raises:
      ValueError: for an unknown key, or for a value of a wrong type or with an unknown name.

    Example:
      >>> from nst_jax import recipes
      >>> with_value(recipes.TF, "network.pool", "avarage", argument="pool")
      Traceback (most recent call last):
      ValueError: `pool`: there is no pooling 'avarage'; did you mean 'average'?
    """
    try:
        return _changed(recipe, key, value)
    except Refused as error:
        raise ValueError(str(error).replace(f"`{key}`", f"`{argument}`", 1)) from None


def _changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    """Return the recipe with one value replaced, given its full key, such as "descent.steps"."""
    for name in reversed(key.split(".")):
        value = {name: value}
    return filled(Recipe, recipe, value, "")


def _declared(recipe: Recipe, key: str) -> Any:
    """Return the declared type of a field, given its full key, such as "descent.steps".

    If there is no such field, the result is None.
    """
    record: Any = recipe
    entry: Declared | None = None
    for name in key.split("."):
        named = entry is not None and entry.choice is not None and not entry.choice.has_keys
        if named or isinstance(record, type) or not is_dataclass(record):
            return None
        entry = declared_fields(type(record)).get(name)
        if entry is None:
            return None
        record = getattr(record, name)
    return entry and entry.type


def _typed(text: str, annotation: Any) -> Any:
    """Parse a value that was typed on a command line, for a field with the given type annotation.

    The text is a value in TOML, but strings need no quotation marks, and lists no brackets.
    """
    found = _value(text)
    if annotation is str and not isinstance(found, str):
        return text
    if get_origin(annotation) is tuple and not isinstance(found, list):
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    return found


def _value(text: str) -> Any:
    """Return the value that a text has in TOML, such as 3 for "3"; the text itself if it has none."""
    try:
        found = _parsed(f"value = {text}")
    except Refused:
        return text
    # After a line break, the text may define further keys. Then it is not a single value.
    return found["value"] if len(found) == 1 else text
