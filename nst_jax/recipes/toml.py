"""Recipes as text: TOML written, read, and changed key by key.

Everything here follows the fields of the recipe's dataclasses, their annotations and the registries
of what recipes may name, so a new field or choice needs no line in this module. Plain data both
ways: nothing that is read is run, and what has no name in a registry cannot be written.
"""

import json
import math
import re
import reprlib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from nst_jax import _checks, losses, optimizers, vgg
from nst_jax.recipes import presets, sizes, starts
from nst_jax.recipes.presets import Recipe
from nst_jax.recipes.recipe import SCHEDULES, CoarseToFine, OneScale, check
from nst_jax.vgg import layers, precision

HEADER = (
    "# A recipe of nst_jax, as `--recipe FILE` reads it. A key that is left out has its default."
)

BASE = "base"  # a file's first word, if it starts from a preset

KIND = "kind"  # in a table, which of several dataclasses its other keys belong to

NONE = "none"  # TOML has no word for it


class Choice(NamedTuple):
    """A kind of field that takes one of several named things.

    Attributes:
      type: the field's annotation.
      named: name to a dataclass, whose fields are keys of their own, or to the thing itself.
      what: it is, for messages.
    """

    type: Any
    named: Mapping[str, Any]
    what: str

    def name_of(self, value: Any) -> str | None:
        """Return the name under which a file can have this value."""
        for name, thing in self.named.items():
            if type(value) is thing if isinstance(thing, type) else value == thing:
                return name
        return None


CHOICES = (
    Choice(sizes.SizeRule, sizes.RULES, "size rule"),
    Choice(sizes.Rounding, sizes.ROUNDINGS, "rounding"),
    Choice(sizes.Resize, sizes.FILTERS, "filter"),
    Choice(starts.Start, starts.STARTS, "start"),
    Choice(layers.Pool, layers.POOLS, "pooling"),
    Choice(layers.Padding, layers.PADDINGS, "padding"),
    Choice(vgg.Pixels, vgg.PIXELS, "pixel convention"),
    Choice(precision.Precision, precision.PRECISIONS, "precision"),
    Choice(losses.ContentLoss, losses.CONTENT_LOSSES, "content loss"),
    Choice(losses.StyleLoss, losses.STYLE_LOSSES, "style loss"),
    Choice(losses.Variation, losses.VARIATIONS, "variation"),
    Choice(optimizers.Optimizer, optimizers.RULES, "optimizer"),
    Choice(OneScale | CoarseToFine, SCHEDULES, "schedule"),
)

WORDS = {str: "a string", bool: "true or false", int: "a whole number", float: "a number"}


def _declared(annotation: Any) -> tuple[Any, bool]:
    """Return what a field holds, and whether it may be None instead."""
    members = get_args(annotation)
    if NoneType not in members:
        return annotation, False
    (rest,) = (member for member in members if member is not NoneType)
    return rest, True


def _choice_of(declared: Any) -> Choice | None:
    return next((choice for choice in CHOICES if choice.type == declared), None)


# --- Writing --------------------------------------------------------------------------------------


def to_toml(recipe: Recipe) -> str:
    """Write a recipe as TOML, every choice and every number.

    Floats are written so that they come back bit by bit. A choice without numbers is its name; one
    with numbers is a table, whose `kind` says which.

    Args:
      recipe: any recipe for one picture, of choices that have names.

    Returns:
      Text that `from_toml` makes the same recipe of.

    Raises:
      TypeError: if it is not a `Recipe`.
      ValueError: for a sweep, and for a choice that has no name, such as a function of one's own.

    Example:
      >>> from nst_jax import recipes
      >>> print(to_toml(recipes.TF).partition("[descent]")[2].strip())
      coordinates = "raw"
      clip = true
      steps = 1003
      schedule = "OneScale"
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
    return "\n".join([HEADER, *_lines(_table(recipe, ""), "")]) + "\n"


def _table(record: Any, prefix: str) -> dict[str, Any]:
    """Return a dataclass as what TOML knows; what is None by default is left out."""
    return {
        entry.name: _plain(entry, getattr(record, entry.name), prefix + entry.name)
        for entry in fields(record)
        if not (getattr(record, entry.name) is None and entry.default is None)
    }


def _plain(entry: Field[Any], value: Any, key: str) -> Any:
    declared, _ = _declared(entry.type)
    if value is None:
        return NONE
    if choice := _choice_of(declared):
        name = choice.name_of(value)
        if name is None:
            shown = getattr(value, "__name__", reprlib.repr(value))
            raise ValueError(
                f"`{key}`: {shown} is none of the choices that a file can name, which are "
                f"{', '.join(choice.named)}"
            )
        numbers = _table(value, f"{key}.") if isinstance(choice.named[name], type) else {}
        return {KIND: name, **numbers} if numbers else name
    if is_dataclass(value):
        return _table(value, f"{key}.")
    if isinstance(value, (tuple, list)):
        return [_number(key, item) for item in value]
    return _number(key, value)


def _number(key: str, value: Any) -> Any:
    """Return a plain value for one that may be an array without axes."""
    if not hasattr(value, "dtype"):
        return value
    if value.ndim:
        raise ValueError(
            f"`{key}`: holds {value.size} numbers; a file has one recipe, so write one for each"
        )
    return value.tolist()


def _lines(table: Mapping[str, Any], prefix: str) -> Iterator[str]:
    """Yield the lines of a table: its own keys first, as TOML wants, then the tables in it."""
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
        # JSON's strings are TOML's, but for one character.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


# --- Reading --------------------------------------------------------------------------------------


def from_toml(text: str, *, argument: str = "recipe") -> Recipe:
    r"""Read a recipe from TOML.

    A key that is absent has the default of its dataclass or, if the file says `base = "tf"` at its
    top, what that preset has. A table with a `kind` starts from the defaults of that kind, one without
    changes what is there.

    Args:
      text: TOML, laid out as `to_toml` writes it.
      argument: how the caller calls the value, for messages.

    Returns:
      The checked recipe.

    Raises:
      ValueError: for what is no TOML, naming the line; for unknown keys and names, with the nearest
        known one; for values of a wrong type or out of range, naming the key.

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
    """What a file or a value was refused for, beginning with the key in full."""


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
    except (ValueError, RecursionError):  # from Python's own limits
        raise _Refused("is no TOML of ours: a number too long, or lists nested too deep") from None


def _filled(kind: type, current: Any, table: Mapping[str, Any], key: str) -> Any:
    """Return a dataclass with what a table says in the place of what it had, or of its defaults."""
    entries = {entry.name: entry for entry in fields(kind)}
    _refuse_unknown(table, kind, key)
    values = {}
    for name, value in table.items():
        default = None if entries[name].default is MISSING else entries[name].default
        old = default if current is None else getattr(current, name)
        values[name] = _read(entries[name].type, old, value, f"{key}.{name}".lstrip("."))
    if current is not None:
        return replace(current, **values)
    for name, entry in entries.items():
        if name not in values and entry.default is MISSING and entry.default_factory is MISSING:
            raise _Refused(f"`{key}.{name}`: is missing; {kind.__name__} has no default for it")
    return kind(**values)


def _refuse_unknown(table: Mapping[str, Any], kind: type, key: str, *more: str) -> None:
    """Refuse a key that is not there, with the nearest one that is."""
    chosen = any(kind in choice.named.values() for choice in CHOICES)
    names = [*more, *([KIND] if chosen else []), *(entry.name for entry in fields(kind))]
    here = {name: f"{key}.{name}".lstrip(".") for name in names}
    everywhere = {full.rpartition(".")[2]: full for full in _keys(Recipe)}
    for name in table:
        if name in names:
            continue
        # A key that only another kind has is no misspelling, and one in the wrong table is found.
        known = ({} if name in everywhere else here) if chosen else everywhere | here
        near = known.get(_checks.nearest_name(name, known) or "")
        hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(here.values())}"
        full = f"{key}.{name}".lstrip(".")
        what = f"{kind.__name__} key" if chosen else "key"
        raise _Refused(f"there is no {what} {full!r}; {hint}")


def _keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield every full key that a recipe can have."""
    for entry in fields(kind):
        yield prefix + entry.name
        declared, _ = _declared(entry.type)
        choice = _choice_of(declared)
        inner = [declared] if choice is None else choice.named.values()
        for record in inner:
            if isinstance(record, type) and is_dataclass(record):
                yield from _keys(record, f"{prefix}{entry.name}.")


def _read(annotation: Any, old: Any, value: Any, key: str) -> Any:
    """Return what a key's value means, by the annotation of its field."""
    declared, optional = _declared(annotation)
    if optional and value == NONE:
        return None
    if choice := _choice_of(declared):
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
    """Return the choice that a name, or a table with a kind or changes, stands for."""
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
    """Return a string, truth value or number as it is, if it is what the field holds."""
    kinds = (int, float) if declared is float else declared
    if not isinstance(value, kinds) or (isinstance(value, bool) and declared is not bool):
        raise _Refused(f"`{key}`: expected {WORDS[declared]}, got {reprlib.repr(value)}")
    if declared is float and not _finite(value):
        raise _Refused(f"`{key}`: expected a finite number, got {reprlib.repr(value)}")
    return value


def _finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond all floats
        return False


def _checked(recipe: Recipe) -> Recipe:
    """Check a recipe, and name what is wrong by its full key."""
    try:
        return check(recipe)
    except (TypeError, ValueError) as error:
        found = re.match(r"`(\w+)`", str(error))
        if found is None:  # not from the door
            raise
        keys = (key for key in _keys(Recipe) if key.rpartition(".")[2] == found[1])
        raise _Refused(f"`{next(keys, found[1])}`{str(error)[found.end() :]}") from None


# --- Key by key -----------------------------------------------------------------------------------


def with_values(recipe: Recipe, values: Mapping[str, str], *, argument: str = "values") -> Recipe:
    """Return a recipe with some of its values replaced by what was typed, one after the other.

    Args:
      recipe: to start from.
      values: full key to text. The text is a value as in TOML, or, where it is none, a bare word;
        a list may do without its brackets. A choice by its name alone has its defaults.
      argument: how the caller calls the values, for messages.

    Returns:
      The checked recipe.

    Raises:
      TypeError: if it is not a `Recipe`.
      ValueError: as `from_toml` does.

    Example:
      >>> from nst_jax import recipes
      >>> values = {"descent.optimizer": "Adam", "descent.optimizer.learning_rate": "0.05"}
      >>> with_values(recipes.TF, values).descent.optimizer
      Adam(learning_rate=0.05, b1=0.9, b2=0.999, eps=1e-08)
    """
    _checks.instance("recipe", recipe, Recipe, "`nst_jax.recipes.named(name)` gives one")
    try:
        for key, text in values.items():
            recipe = _filled(Recipe, recipe, _nested(recipe, key, text), "")
        return _checked(recipe)
    except _Refused as error:
        raise ValueError(f"`{argument}`: {error}") from None


def _nested(recipe: Recipe, key: str, text: str) -> dict[str, Any]:
    """Return a table that says one thing."""
    names = key.split(".")
    value = _typed(text, _annotation(recipe, names))
    for name in reversed(names):
        value = {name: value}
    return value


def _annotation(record: Any, names: list[str]) -> Any:
    """Return the annotation of a key's field; None if there is no such key."""
    annotation = None
    for name in names:
        entries = {entry.name: entry for entry in fields(record)} if is_dataclass(record) else {}
        if name not in entries:
            return None
        annotation, record = entries[name].type, getattr(record, name)
    return annotation


def _typed(text: str, annotation: Any) -> Any:
    """Return the value that was typed for a field: TOML's, or a bare word, or several."""
    annotation, _ = _declared(annotation)
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
    return found["value"] if len(found) == 1 else text  # a line break could begin another key
