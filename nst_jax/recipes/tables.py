"""Make a recipe from a table of plain values: look up names, check types and refuse unknown keys.

A table is a dictionary as `tomllib` reads it. A recipe consists of dataclasses. This module reads their
fields and annotations, and the names of functions and dataclasses in `nst_jax.recipes.walk.CHOICES`. So
it need not change if a dataclass gets a new field, or if a function or dataclass is added to `CHOICES`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import MISSING, is_dataclass, replace
from typing import Any, get_args, get_origin

from nst_jax import _checks
from nst_jax.recipes.checking import check
from nst_jax.recipes.recipe import Recipe
from nst_jax.recipes.walk import CHOICES, Choice, Declared, declared_fields, possible_keys

# The key in a table for the name of the dataclass that the table describes, as in `kind = "Adam"`.
KIND = "kind"

NONE = "none"  # the string that stands for None in a file, since TOML has no literal for None

# Type of a field -> what error messages call a value of this type.
WORDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


class Refused(ValueError):
    """Raised in this module and in `toml` for a text or value that cannot be used.

    The functions of `toml` catch this error and raise a ValueError, whose message also names their
    argument.
    """


def filled(kind: type, current: Any, table: Mapping[str, Any], key: str) -> Any:
    """Make an instance of a dataclass from a table.

    Args:
      kind: the dataclass.
      current: an instance, whose values are used for keys that the table lacks. If it is None, these
        keys get the defaults of the dataclass.
      table: the keys and values that were read.
      key: the full key of the table, for error messages; empty for the whole file.

    Raises:
      Refused: for an unknown key, for a value or name that the field cannot have, and for a missing
        key without a default.
    """
    entries = declared_fields(kind)
    refuse_unknown(table, kind, key)
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
            raise Refused(f"`{key}.{name}`: is missing; {kind.__name__} has no default for it")
    return kind(**values)


def refuse_unknown(table: Mapping[str, Any], kind: type, key: str, *more: str) -> None:
    """Refuse a table with a key that is no field of `kind`, and suggest the nearest known key.

    Args:
      table: the keys and values that were read.
      kind: the dataclass that the table describes.
      key: the full key of the table, for error messages; empty for the whole file.
      *more: further keys that are allowed, besides the fields of `kind`.

    Raises:
      Refused: if the table has such a key.
    """
    if all(name in declared_fields(kind) for name in table):
        # Usually all keys are known, and the code below is not needed. It is slow, and a batch may read
        # thousands of tables.
        return
    chosen = any(kind in choice.named.values() for choice in CHOICES)
    names = [*more, *([KIND] if chosen else []), *declared_fields(kind)]
    here = {name: f"{key}.{name}".lstrip(".") for name in names}
    everywhere = {full.rpartition(".")[2]: full for full in possible_keys(Recipe)}
    for name in table:
        if name in names:
            continue
        # Usually the most similar key of any table is suggested. But if files choose the class `kind`
        # by its name, such as "Adam", only a key of this class is suggested. If, for such a class, the
        # unknown key belongs to another table, it is not misspelt, so all keys of `kind` are listed.
        known = ({} if name in everywhere else here) if chosen else everywhere | here
        near = known.get(_checks.nearest_name(name, known) or "")
        hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(here.values())}"
        full = f"{key}.{name}".lstrip(".")
        what = f"{kind.__name__} key" if chosen else "key"
        raise Refused(f"there is no {what} {full!r}; {hint}")


def _read(entry: Declared, old: Any, value: Any, key: str) -> Any:
    """Convert a value that was read from TOML to the type that the field's annotation requires.

    Args:
      entry: the declaration of the field: its type, whether it may be None, and the values with names.
      old: the value that the field has if the text lacks it: that of the preset, or the default. A
        table `value` may name its class by the key `kind`; the fields that it lacks then have the
        defaults of this class. A table without `kind` changes single fields of `old`.
      value: the value as `tomllib` reads it.
      key: the full key of the field, for error messages.
    """
    _, declared, optional, choice = entry
    if optional and value == NONE:
        return None
    if choice is not None:
        return _chosen(choice, old, value, key)
    if isinstance(declared, type) and is_dataclass(declared):
        if not isinstance(value, dict):
            raise Refused(f"`{key}`: expected a table of keys, got {_checks.shown(value)}")
        return filled(declared, old, value, key)
    if get_origin(declared) is tuple:
        if not isinstance(value, list):
            raise Refused(f"`{key}`: expected a list, got {_checks.shown(value)}")
        return tuple(scalar(get_args(declared)[0], item, key) for item in value)
    return scalar(declared, value, key)


def _chosen(choice: Choice, old: Any, value: Any, key: str) -> Any:
    """Return the value of a field whose values have names, such as an optimiser or a size rule.

    Args:
      choice: the named values of the field.
      old: the value of the field before the change: that of the preset, or the default.
      value: what TOML has for the field: the name of a value; or a table with the name under the key
        `kind`; or a table without `kind`, which changes single fields of `old`.
      key: the full key of the field, for error messages.
    """
    table = {KIND: value} if isinstance(value, str) else value
    if not isinstance(table, dict):
        names = ", ".join(choice.named)
        raise Refused(f"`{key}`: expected one of {names}; got {_checks.shown(value)}")
    numbers = {name: item for name, item in table.items() if name != KIND}
    if KIND in table:
        name, old = scalar(str, table[KIND], f"{key}.{KIND}"), None
    elif found := choice.name_of(old):
        name = found
    else:
        raise Refused(f"`{key}.{KIND}`: is missing; expected one of {', '.join(choice.named)}")
    if name not in choice.named:
        raise Refused(str(_checks.unknown(key, name, choice.named, choice.what)))
    if isinstance(choice.named[name], type):
        return filled(choice.named[name], old, numbers, key)
    if numbers:
        raise Refused(f"`{key}.{next(iter(numbers))}`: `{key}` is a name and has no keys")
    return choice.named[name]


def scalar(declared: Any, value: Any, key: str) -> Any:
    """Return a string, truth value or number unchanged, if it has the type that the field declares.

    Args:
      declared: the type, a key of `WORDS`. A whole number is accepted as a float, too.
      value: the value as `tomllib` reads it.
      key: the full key of the field, for error messages.

    Raises:
      Refused: for a value of another type, and for a float that is not finite.
    """
    kinds = (int, float) if declared is float else declared
    if not isinstance(value, kinds) or (isinstance(value, bool) and declared is not bool):
        raise Refused(f"`{key}`: expected {WORDS[declared]}, got {_checks.shown(value)}")
    if declared is float and not _finite(value):
        raise Refused(f"`{key}`: expected a finite number, got {_checks.shown(value)}")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        # `math.isfinite` raises this error for a whole number that is too large for a float.
        return False


def checked(recipe: Recipe) -> Recipe:
    """Check a recipe with `checking.check`, and put the full key of a field into its error messages.

    Messages of `check` name only the last part of the key, such as `steps`.

    Raises:
      Refused: if `check` refuses the recipe, with the changed message.
      TypeError, ValueError: if `check` raises such an error, and its message names no field.
    """
    try:
        return check(recipe)
    except (TypeError, ValueError) as error:
        found = re.match(r"`([\w.]+)`", str(error))
        if found is None:  # the message names no field, so it needs no full key
            raise
        keys = (key for key in possible_keys(Recipe) if f".{key}".endswith(f".{found[1]}"))
        raise Refused(f"`{next(keys, found[1])}`{str(error)[found.end() :]}") from None
