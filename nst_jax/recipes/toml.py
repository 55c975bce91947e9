"""Recipes as TOML text: written, read, and changed key by key.

This module follows the fields of the recipe's dataclasses, their annotations and the named values in
`nst_jax.recipes.walk.CHOICES`, so it need not change for a new field or named value. A file is plain
data: nothing in it is executed, and a function or dataclass without a name in `CHOICES` cannot be
written.
"""

import json
import math
import re
import reprlib
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, is_dataclass, replace
from typing import Any, get_args, get_origin

from nst_jax import _checks
from nst_jax.recipes import presets
from nst_jax.recipes.checking import check
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.walk import (
    CHOICES,
    Choice,
    Declared,
    Item,
    declared_fields,
    fields_of,
    name_to_show,
    parts_of,
    possible_keys,
)

HEADER = (
    "# A recipe of nst_jax, as `--recipe FILE` reads it. A key that is left out has its default."
)

BASE = "base"  # key whose value names the preset that a file changes

KIND = "kind"  # key whose value names the dataclass that a table describes, such as "Adam"

NONE = "none"  # how a file writes None, for which TOML has no literal

WORDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


# --- Writing --------------------------------------------------------------------------------------


def to_toml(recipe: Recipe) -> str:
    """Return a recipe as TOML text, with every choice and every number.

    Floats are written so that reading them gives the same bits. A choice (of an optimiser, a loss, a
    size rule) is written as its name or, if it has numbers, as a table whose `kind` is its name.

    Args:
      recipe: a recipe without arrays, whose functions and dataclasses all have registered names.

    Returns:
      Text from which `from_toml` makes an equal recipe.

    Raises:
      TypeError: if `recipe` is not a `Recipe`.
      ValueError: for a sweep, and for a function or dataclass that is not registered, such as one of
        your own or `nst_jax.optimizers.Optax`.

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
    return "\n".join([HEADER, *_lines(_table(fields_of(recipe)), "")]) + "\n"


def _table(items: Iterable[Item]) -> dict[str, Any]:
    """Return fields as a table of TOML values; a None that is the field's default is left out."""
    return {
        item.key.rpartition(".")[2]: _plain(item)
        for item in items
        if not (item.value is None and item.field is not None and item.field.default is None)
    }


def _plain(item: Item) -> Any:
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
    """Return a value as a Python number or string; a zero-dimensional array becomes a number."""
    if not hasattr(value, "dtype"):
        return value
    if value.ndim:
        raise ValueError(
            f"`{key}`: contains {value.size} numbers; a file describes one recipe, so write one file "
            "for each"
        )
    return value.tolist()


def _lines(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the lines of a table: first its own values, as TOML requires, then the tables in it."""
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
        # JSON's strings are TOML's, except that TOML requires an escape for DEL (0x7f).
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


# --- Reading --------------------------------------------------------------------------------------


def from_toml(text: str, *, argument: str = "recipe") -> Recipe:
    r"""Read a recipe from TOML.

    An absent key has the default of its dataclass or, if the file has the key `base = "tf"`, the value
    in the preset "tf". A table with a `kind`, such as "Adam", has the defaults of that dataclass for
    absent keys; a table without `kind` changes single values of the preset or, if the file names none,
    of the defaults.

    Args:
      text: TOML with the keys that `to_toml` writes.
      argument: the caller's name for the value, shown in error messages.

    Returns:
      The checked recipe.

    Raises:
      ValueError: if the text is not TOML (the message names the line), for unknown keys and names (it
        suggests the nearest known one), and for values of a wrong type or out of range (it names the
        key).

    Example:
      >>> recipe = from_toml('base = "tf"\n[terms]\nstyle_weight = 0.5')
      >>> recipe.terms.style_weight, recipe.descent.steps
      (0.5, 1003)
    """
    try:
        table = _parsed(text)
        _refuse_unknown(table, Recipe, "", BASE)
        base = _base(table.pop(BASE)) if BASE in table else Recipe()
        return _checked(_filled(Recipe, base, table, ""))
    except _Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


class _Refused(ValueError):
    """Raised for a refused file or value; public functions add the argument's name to its message."""


def _base(name: Any) -> Recipe:
    try:
        return presets.named(_scalar(str, name, BASE), argument=BASE)
    except ValueError as error:
        raise _Refused(str(error)) from None


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        end = f"at the end, line {len(text.splitlines())}"
        raise _Refused(f"is no TOML: {str(error).replace('at end of document', end)}") from None
    except (ValueError, RecursionError):  # Python allows no more digits or nesting
        raise _Refused(
            "is no TOML of a recipe: a number too long, or lists nested too deep"
        ) from None


def _filled(kind: type, current: Any, table: Mapping[str, Any], key: str) -> Any:
    """Make a dataclass from a table; absent values are `current`'s or, if it is None, the defaults."""
    entries = declared_fields(kind)
    _refuse_unknown(table, kind, key)
    values = {}
    for name, value in table.items():
        default = entries[name].field.default
        old = (
            (None if default is MISSING else default) if current is None else getattr(current, name)
        )
        values[name] = _read(entries[name], old, value, f"{key}.{name}".lstrip("."))
    if current is not None:
        return replace(current, **values)
    for name, (entry, *_) in entries.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise _Refused(f"`{key}.{name}`: is missing; {kind.__name__} has no default for it")
    return kind(**values)


def _refuse_unknown(table: Mapping[str, Any], kind: type, key: str, *more: str) -> None:
    """Refuse a table with a key that `kind` does not have, and suggest the nearest known key."""
    if all(name in declared_fields(kind) for name in table):
        return  # what follows is slow, and a batch may read thousands of tables
    chosen = any(kind in choice.named.values() for choice in CHOICES)
    names = [*more, *([KIND] if chosen else []), *declared_fields(kind)]
    here = {name: f"{key}.{name}".lstrip(".") for name in names}
    everywhere = {full.rpartition(".")[2]: full for full in possible_keys(Recipe)}
    for name in table:
        if name in names:
            continue
        # In a table that may have a `kind`, a key that exists elsewhere in a recipe is no misspelling,
        # so no single key is suggested. In other tables, a key that belongs to another table is
        # suggested by its full path.
        known = ({} if name in everywhere else here) if chosen else everywhere | here
        near = known.get(_checks.nearest_name(name, known) or "")
        hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(here.values())}"
        full = f"{key}.{name}".lstrip(".")
        what = f"{kind.__name__} key" if chosen else "key"
        raise _Refused(f"there is no {what} {full!r}; {hint}")


def _read(entry: Declared, old: Any, value: Any, key: str) -> Any:
    """Return a field's value from its TOML value, as the field's annotation requires."""
    _, declared, optional, choice = entry
    if optional and value == NONE:
        return None
    if choice is not None:
        return _chosen(choice, old, value, key)
    if isinstance(declared, type) and is_dataclass(declared):
        if not isinstance(value, dict):
            raise _Refused(f"`{key}`: expected a table of keys, got {reprlib.repr(value)}")
        return _filled(declared, old, value, key)
    if get_origin(declared) is tuple:
        if not isinstance(value, list):
            raise _Refused(f"`{key}`: expected a list, got {reprlib.repr(value)}")
        return tuple(_scalar(get_args(declared)[0], item, key) for item in value)
    return _scalar(declared, value, key)


def _chosen(choice: Choice, old: Any, value: Any, key: str) -> Any:
    """Return the value that a name, a table with `kind`, or a table of changes to `old` stands for."""
    table = {KIND: value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        names = ", ".join(choice.named)
        raise _Refused(f"`{key}`: expected one of {names}; got {reprlib.repr(value)}")
    numbers = {name: item for name, item in table.items() if name != KIND}
    if KIND in table:
        name, old = _scalar(str, table[KIND], f"{key}.{KIND}"), None
    elif found := choice.name_of(old):
        name = found
    else:
        raise _Refused(f"`{key}.{KIND}`: is missing; expected one of {', '.join(choice.named)}")
    if name not in choice.named:
        raise _Refused(str(_checks.unknown(key, name, choice.named, choice.what)))
    if isinstance(choice.named[name], type):
        return _filled(choice.named[name], old, numbers, key)
    if numbers:
        raise _Refused(f"`{key}.{next(iter(numbers))}`: `{key}` is a name and has no keys")
    return choice.named[name]


def _scalar(declared: Any, value: Any, key: str) -> Any:
    """Return a string, truth value or number unchanged; refuse it if its type is not `declared`."""
    kinds = (int, float) if declared is float else declared
    if not isinstance(value, kinds) or (isinstance(value, bool) and declared is not bool):
        raise _Refused(f"`{key}`: expected {WORDS[declared]}, got {reprlib.repr(value)}")
    if declared is float and not _finite(value):
        raise _Refused(f"`{key}`: expected a finite number, got {reprlib.repr(value)}")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number too large for a float
        return False


def _checked(recipe: Recipe) -> Recipe:
    """Check a recipe; an error about a value names the value's full key."""
    try:
        return check(recipe)
    except (TypeError, ValueError) as error:
        found = re.match(r"`([\w.]+)`", str(error))
        if found is None:  # not an error about a value of the recipe
            raise
        keys = (key for key in possible_keys(Recipe) if f".{key}".endswith(f".{found[1]}"))
        raise _Refused(f"`{next(keys, found[1])}`{str(error)[found.end() :]}") from None


# --- Key by key -----------------------------------------------------------------------------------


def with_values(recipe: Recipe, values: Mapping[str, str], *, argument: str = "values") -> Recipe:
    """Return a recipe with values replaced one by one, each given as text from a command line.

    Args:
      recipe: the recipe to change.
      values: text by full key. The text is a value as in TOML; strings need no quotation marks, lists
        no brackets. A name such as "Adam" selects that optimiser with its defaults.
      argument: the caller's name for the values, shown in error messages.

    Returns:
      The checked recipe.

    Raises:
      TypeError: if `recipe` is not a `Recipe`.
      ValueError: for unknown keys and names, and for values of a wrong type or out of range.

    Example:
      >>> from nst_jax import recipes
      >>> values = {"descent.optimizer": "Adam", "descent.optimizer.learning_rate": "0.05"}
      >>> with_values(recipes.TF, values).descent.optimizer
      Adam(learning_rate=0.05, b1=0.9, b2=0.999, eps=1e-08, carry=False)
    """
    _checks.instance("recipe", recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")
    try:
        for key, text in values.items():
            recipe = _changed(recipe, key, _typed(text, _declared(recipe, key)))
        return _checked(recipe)
    except _Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def with_value(recipe: Recipe, key: str, value: Any, *, argument: str) -> Recipe:
    """Return a recipe with one value replaced; the new value's type is checked, its range is not.

    Args:
      recipe: the recipe to change.
      key: the full key.
      value: a value as `tomllib` reads it: a number, a string, a list, a table.
      argument: the caller's name for the value, shown in error messages in place of the key.

    Returns:
      The changed recipe; pass it to `check` once all values are replaced.

    Raises:
      ValueError: for an unknown name or a value of a wrong type.

    Example:
      >>> from nst_jax import recipes
      >>> with_value(recipes.TF, "network.pool", "avarage", argument="pool")
      Traceback (most recent call last):
      ValueError: `pool`: there is no pooling 'avarage'; did you mean 'average'?
    """
    try:
        return _changed(recipe, key, value)
    except _Refused as error:
        raise ValueError(str(error).replace(f"`{key}`", f"`{argument}`", 1)) from None


def _changed(recipe: Recipe, key: str, value: Any) -> Recipe:
    for name in reversed(key.split(".")):
        value = {name: value}
    return _filled(Recipe, recipe, value, "")


def _declared(recipe: Recipe, key: str) -> Any:
    """Return the type that the field with this full key declares; None if there is no such field."""
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
    """Parse the text given for a field: TOML, a string without quotes, or a list without brackets."""
    found = _value(text)
    if annotation is str and not isinstance(found, str):
        return text
    if get_origin(annotation) is tuple and not isinstance(found, list):
        return [_value(part.strip()) for part in text.split(",") if part.strip()]
    return found


def _value(text: str) -> Any:
    try:
        found = _parsed(f"value = {text}")
    except _Refused:
        return text
    return found["value"] if len(found) == 1 else text  # a line break in `text` could add keys
