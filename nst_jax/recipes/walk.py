"""Walk over the fields of a recipe and of the dataclasses in it, and name their values.

`nst_jax.provenance` (the settings in a picture's metadata), `nst_jax.recipes.toml`, `Recipe.replace`
and `Recipe.__repr__` read a recipe's fields through this module, and learn from `CHOICES` which
functions and dataclasses have names. So a new field of a dataclass, or a new entry in a dictionary of
named values such as `sizes.SIZE_RULES`, needs no other change.
"""

import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from functools import partial, reduce
from operator import or_
from types import MappingProxyType, NoneType
from typing import Any, NamedTuple, get_args

import numpy as np

from nst_jax import _checks, losses, optimizers, vgg
from nst_jax.recipes import filters, sizes, starts
from nst_jax.recipes.schedules import SCHEDULES, Schedule
from nst_jax.vgg import layers, precision

# --- Values with names ----------------------------------------------------------------------------


class Choice(NamedTuple):
    """A kind of field whose values have names: functions, dataclasses or named tuples.

    Attributes:
      type: the annotation of the fields that have this choice.
      named: name -> the value itself, or the dataclass of which the field's value is an instance.
      what: noun for the values in messages, such as "size rule".
    """

    type: Any
    named: Mapping[str, Any]
    what: str

    @property
    def has_keys(self) -> bool:
        """Whether the names stand for dataclasses, whose fields then are keys of a recipe."""
        return any(isinstance(thing, type) for thing in self.named.values())

    def name_of(self, value: Any) -> str | None:
        """Return the name under which a value is registered, or None."""
        for name, thing in self.named.items():
            if type(value) is thing if isinstance(thing, type) else value == thing:
                return name
        return None


CHOICES = (
    Choice(sizes.SizeRule, sizes.SIZE_RULES, "size rule"),
    Choice(sizes.Rounding, sizes.ROUNDINGS, "rounding"),
    Choice(filters.Resize, filters.FILTERS, "filter"),
    Choice(starts.Start, starts.STARTS, "start"),
    Choice(layers.Pool, layers.POOLS, "pooling"),
    Choice(layers.Padding, layers.PADDINGS, "padding"),
    Choice(vgg.Pixels, vgg.PIXELS, "pixel convention"),
    Choice(precision.AnyPrecision, precision.NAMED, "precision"),
    Choice(precision.Precision, precision.PRECISIONS, "precision of an accelerator"),
    Choice(losses.AnyContentLoss, losses.CONTENT_LOSSES, "content loss"),
    Choice(losses.AnyStyleLoss, losses.STYLE_LOSSES, "style loss"),
    Choice(losses.StyleLoss, losses.names.STATISTIC_LOSSES, "style loss"),
    Choice(losses.Variation, losses.VARIATIONS, "variation"),
    Choice(optimizers.Optimizer, optimizers.OPTIMIZERS, "optimizer"),
    Choice(Schedule, SCHEDULES, "schedule"),
    Choice(filters.Enlargement, filters.ENLARGEMENTS, "enlargement"),
)


def declared_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type that a field's annotation allows, and whether None is allowed as well."""
    members = get_args(annotation)
    if NoneType not in members:
        return annotation, False
    rest = [member for member in members if member is not NoneType]
    return reduce(or_, rest), True


def choice_of(declared: Any) -> Choice | None:
    """Return the `Choice` for a type from `declared_type`; None if its values have no names."""
    return next((choice for choice in CHOICES if choice.type == declared), None)


class Declared(NamedTuple):
    """What a dataclass declares about one of its fields."""

    field: Field[Any]
    type: Any  # the type that the annotation allows, without None
    optional: bool  # whether None is allowed
    choice: Choice | None  # the named values of that type; None if its values have no names


_DECLARED: dict[Any, Mapping[str, Declared]] = {}  # results of `declared_fields`


def declared_fields(kind: type) -> Mapping[str, Declared]:
    """Return what a dataclass declares about its fields, by name.

    Results are kept, since a batch asks for them thousands of times.
    """
    if kind not in _DECLARED:
        found = {}
        for field in fields(kind):
            declared, optional = declared_type(field.type)
            found[field.name] = Declared(field, declared, optional, choice_of(declared))
        _DECLARED[kind] = MappingProxyType(found)
    return _DECLARED[kind]


def name_to_show(value: Any) -> str:
    """Return what messages call a function or dataclass: its own name or that of its class.

    Example:
      >>> from functools import partial
      >>> name_to_show(max), name_to_show(sizes.LongEdge(3)), name_to_show(partial(max, 1))
      ('max', 'LongEdge', 'partial(max)')
    """
    if isinstance(value, partial):
        return f"partial({name_to_show(value.func)})"
    if is_dataclass(value) or hasattr(value, "_fields"):
        return value.__name__ if isinstance(value, type) else type(value).__name__
    return getattr(value, "__name__", None) or reprlib.repr(value)


# --- Walking over a record ------------------------------------------------------------------------


class Item(NamedTuple):
    """One field of a recipe, or of a dataclass inside it.

    Attributes:
      key: the full key, such as `"descent.optimizer.learning_rate"`.
      value: the field's value.
      field: the dataclass field; None for a part of a loss, which is a named tuple.
      choice: the `Choice` of values for the field; None if its values have no names.
      name: the value's name in `choice`; None without a choice or if the value has no name there.
    """

    key: str
    value: Any
    field: Field[Any] | None = None
    choice: Choice | None = None
    name: str | None = None


def fields_of(record: Any, prefix: str = "") -> Iterator[Item]:
    """Yield the fields of a dataclass in their order, but not the fields of their values.

    Args:
      record: a dataclass.
      prefix: what the full keys begin with: nothing, or a key that ends in a dot.

    Yields:
      One item for each field.
    """
    for name, (field, _, _, choice) in declared_fields(type(record)).items():
        value = getattr(record, name)
        known = None if choice is None or value is None else choice.name_of(value)
        yield Item(f"{prefix}{name}", value, field, choice, known)


def parts_of(item: Item) -> Iterator[Item]:
    """Yield the fields of an item's value, as items.

    Nothing is yielded for a number, which has no fields, nor for a value that its name describes
    completely, such as a loss in a dictionary of `nst_jax.losses.names`. Of a loss without a name, its
    functions and its flag `additive` are yielded, one item each.
    """
    value, prefix = item.value, f"{item.key}."
    if is_dataclass(value) and not isinstance(value, type):
        if item.choice is None or item.choice.has_keys:
            yield from fields_of(value, prefix)
    elif item.name is None:
        for part in getattr(value, "_fields", ()):
            if (function := getattr(value, part)) is not None:  # a loss may lack a function
                yield Item(f"{prefix}{part}", function)


def walk(record: Any, prefix: str = "") -> Iterator[Item]:
    """Yield the fields of a dataclass and, recursively, of their values, outer fields first.

    Example:
      >>> from nst_jax import recipes
      >>> [item.key for item in walk(recipes.TF)][3:7]
      ['pictures', 'pictures.size', 'pictures.size.pixels', 'pictures.size.rounding']
    """
    for item in fields_of(record, prefix):
        yield from walk_item(item)


def walk_item(item: Item) -> Iterator[Item]:
    """Yield an item and, recursively, the fields of its value."""
    yield item
    for part in parts_of(item):
        yield from walk_item(part)


def possible_keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield all full keys of a dataclass, and those of all named dataclasses that it may contain."""
    for name, (_, declared, _, choice) in declared_fields(kind).items():
        yield prefix + name
        inner = [declared] if choice is None else choice.named.values()
        for record in inner:
            if isinstance(record, type) and is_dataclass(record):
                yield from possible_keys(record, f"{prefix}{name}.")


# --- Changing and comparing -----------------------------------------------------------------------


def with_field(record: Any, key: str, value: Any) -> Any:
    """Return a dataclass with the value at a full key replaced."""
    name, _, rest = key.partition(".")
    return replace(
        record, **{name: with_field(getattr(record, name), rest, value) if rest else value}
    )


def full_key(record: Any, name: str) -> str:
    """Return the full key of a field that is given by the end of its key or by the whole key.

    Args:
      record: the dataclass that contains the field, perhaps several levels down.
      name: the last part or parts of a key, if no other key ends in them, or a full key. Parts are
        joined by dots or by double underscores.

    Returns:
      The full key, with dots.

    Raises:
      ValueError: for an unknown name, and for a name that several fields have; the message suggests
        the nearest known name, or lists the full keys.

    Example:
      >>> from nst_jax import recipes
      >>> full_key(recipes.TF, "learning_rate"), full_key(recipes.TF, "pictures__size__pixels")
      ('descent.optimizer.learning_rate', 'pictures.size.pixels')
    """
    wanted = name.replace("__", ".")
    known = [item.key for item in walk(record) if item.field is not None]
    found = [key for key in known if _ends_in(key, wanted)]
    if wanted in found:
        return wanted
    if len(found) > 1:
        first = found[0].replace(".", "__")
        raise ValueError(
            f"`{name}`: there are several: {', '.join(found)}; give the full key, such as "
            f"`{first}=...`"
        )
    if not found:
        raise _unknown(record, name, wanted, known)
    return found[0]


def _ends_in(key: str, wanted: str) -> bool:
    return f".{key}".endswith(f".{wanted}")


def _unknown(record: Any, name: str, wanted: str, known: list[str]) -> ValueError:
    """Make the error for a name that no field has."""
    values = {item.key: item.value for item in walk(record)}
    for key in possible_keys(type(record)):
        parent = key.rpartition(".")[0]
        if _ends_in(key, wanted) and parent in values:
            # The name is not misspelt: another optimiser, size rule, start or schedule has it.
            return ValueError(
                f"`{name}`: the recipe has none, since its `{parent}` is "
                f"{name_to_show(values[parent])}; choose another `{parent.rpartition('.')[2]}` in the "
                "same call"
            )
    short = list(dict.fromkeys(key.rpartition(".")[2] for key in known))
    near = _checks.nearest_name(wanted, [*known, *short])
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(short)}"
    return ValueError(f"`{name}`: a recipe has no field of this name; {hint}")


def differences(one: Any, other: Any, prefix: str = "") -> Iterator[Item]:
    """Yield the fields in which two dataclasses of one class differ, with the values of the first.

    Where both values of a field are instances of one dataclass, their differing fields are yielded
    instead. Arrays are compared by identity only: comparing their values would wait for the device, and
    fail while tracing.
    """
    for mine, theirs in zip(fields_of(one, prefix), fields_of(other, prefix), strict=True):
        if _same(mine.value, theirs.value):
            continue
        alike = is_dataclass(mine.value) and type(mine.value) is type(theirs.value)
        if alike and any(parts_of(mine)):
            yield from differences(mine.value, theirs.value, f"{mine.key}.")
        else:
            yield mine


def _same(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if type(one) is not type(other):
        plain = (bool, int, float, np.generic)
        return isinstance(one, plain) and isinstance(other, plain) and bool(one == other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_same, one, other))
    if is_dataclass(one):
        return all(_same(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return not _is_array(one) and bool(one == other)


def _is_array(value: Any) -> bool:
    return hasattr(value, "dtype") and not isinstance(value, np.generic)


SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 60
SHORT.maxtuple = SHORT.maxlist = 8


def short_value(item: Item) -> str:
    """Return an item's value as short text, such as a name, a number, or an array's dtype and shape.

    Example:
      >>> import numpy as np
      >>> from nst_jax import recipes
      >>> variant = recipes.TF.replace(style_weight=np.ones(3), style_loss=losses.GRAM_PAPER)
      >>> [short_value(item) for item in differences(variant, recipes.TF)]
      ['gram_paper', 'float64[3]']
    """
    value = item.value
    if _is_array(value):
        return f"{value.dtype}[{','.join(map(str, getattr(value, 'shape', ())))}]"
    if isinstance(value, np.generic):
        return repr(value.item())
    if item.name is not None and not any(parts_of(item)):
        return item.name
    if is_dataclass(value) and not isinstance(value, type):
        inside = ", ".join(f"{part.key}={short_value(part)}" for part in fields_of(value))
        return f"{type(value).__name__}({inside})"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        inside = ", ".join(short_value(Item("", part)) for part in value[:8])
        more = ", ..." if len(value) > 8 else "," * (len(value) == 1)
        return f"({inside}{more})"
    if callable(value) or hasattr(value, "_fields"):
        return name_to_show(value)
    return SHORT.repr(value)
