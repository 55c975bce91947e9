"""Iterate over the fields of a recipe and of the dataclasses in it, and find the names of their values.

The full key of a field is the path to it from the recipe, such as "descent.optimizer.learning_rate".

`nst_jax.provenance` (the settings in a picture's metadata), `nst_jax.recipes.toml`, `Recipe.replace`
and `Recipe.__repr__` read a recipe's fields through this module, and find in `CHOICES` which functions
and dataclasses have names. So if a dataclass gets a new field, or a dictionary of named values such as
`sizes.SIZE_RULES` a new entry, none of these four needs a change.
"""

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
    """The values that a field may have, with their names, for all fields with the same annotation.

    The values are functions, named tuples or instances of dataclasses, such as losses or size rules.
    Fields whose values have no names, such as numbers, have no `Choice`.

    Attributes:
      type: the annotation of the fields that have one of these values.
      named: a dictionary from each name to the value itself, or to the dataclass of which the value is
        an instance.
      what: what error messages call such a value, such as "size rule".
      where: the module of this package that has the values, for error messages.
    """

    type: Any
    named: Mapping[str, Any]
    what: str
    where: str

    @property
    def has_keys(self) -> bool:
        """Whether some names stand for dataclasses.

        If a value is an instance of such a dataclass, its fields have full keys, such as
        "pictures.size.pixels".
        """
        return any(isinstance(thing, type) for thing in self.named.values())

    def name_of(self, value: Any) -> str | None:
        """Return the name of a value in `named`, or None if the value has no name there."""
        for name, thing in self.named.items():
            if type(value) is thing if isinstance(thing, type) else value == thing:
                return name
        return None


# Recipes have fields whose values have names, such as the poolings "max" and "average". For the
# annotation of each such field, there is one `Choice` here, with the values and their names.
CHOICES = (
    Choice(sizes.SizeRule, sizes.SIZE_RULES, "size rule", "recipes.sizes"),
    Choice(sizes.Rounding, sizes.ROUNDINGS, "rounding", "recipes.sizes"),
    Choice(filters.Resize, filters.FILTERS, "filter", "recipes.filters"),
    Choice(starts.Start, starts.STARTS, "start", "recipes.starts"),
    Choice(layers.Pool, layers.POOLS, "pooling", "vgg.layers"),
    Choice(layers.Padding, layers.PADDINGS, "padding", "vgg.layers"),
    Choice(vgg.Pixels, vgg.PIXELS, "pixel convention", "vgg"),
    Choice(precision.AnyPrecision, precision.NAMED, "precision", "vgg.precision"),
    Choice(
        precision.Precision, precision.PRECISIONS, "precision of an accelerator", "vgg.precision"
    ),
    Choice(losses.AnyContentLoss, losses.CONTENT_LOSSES, "content loss", "losses"),
    Choice(losses.AnyStyleLoss, losses.STYLE_LOSSES, "style loss", "losses"),
    Choice(losses.StyleLoss, losses.names.STATISTIC_LOSSES, "style loss", "losses"),
    Choice(losses.Variation, losses.VARIATIONS, "variation", "losses"),
    Choice(optimizers.Optimizer, optimizers.OPTIMIZERS, "optimizer", "optimizers"),
    Choice(Schedule, SCHEDULES, "schedule", "recipes.schedules"),
    Choice(filters.Enlargement, filters.ENLARGEMENTS, "enlargement", "recipes.filters"),
)


def declared_type(annotation: Any) -> tuple[Any, bool]:
    """Return the type that a field's annotation allows besides None, and whether it allows None."""
    members = get_args(annotation)
    if NoneType not in members:
        return annotation, False
    rest = [member for member in members if member is not NoneType]
    return reduce(or_, rest), True


def choice_of(declared: Any) -> Choice | None:
    """Return the `Choice` of a type: the values that a field of this type may have, with their names.

    `declared` is a type as `declared_type` returns it. The result is None if the values of this type
    have no names.
    """
    return next((choice for choice in CHOICES if choice.type == declared), None)


class Declared(NamedTuple):
    """One field of a dataclass, and what its annotation allows."""

    field: Field[Any]  # the field as `dataclasses.fields` describes it, with its name and default
    type: Any  # the type that the annotation allows besides None
    optional: bool  # whether the annotation allows None
    choice: Choice | None  # the values of the type with their names; None if they have no names


# Cached results of `declared_fields`: dataclass -> its fields.
_DECLARED: dict[Any, Mapping[str, Declared]] = {}


def declared_fields(kind: type) -> Mapping[str, Declared]:
    """Return the fields of a dataclass: name of the field -> its default, type and possible values.

    The result for each dataclass is cached, since a batch needs it thousands of times.
    """
    if kind not in _DECLARED:
        found = {}
        for field in fields(kind):
            declared, optional = declared_type(field.type)
            found[field.name] = Declared(field, declared, optional, choice_of(declared))
        _DECLARED[kind] = MappingProxyType(found)
    return _DECLARED[kind]


def name_to_show(value: Any) -> str:
    """Return a short name for a value, to be used in messages.

    For a function or class, this is its own name; for a `functools.partial`, `partial(...)` with the
    name of its function; for an instance of a dataclass or named tuple, the name of its class; and for
    any other value, what `_checks.shown` returns.

    Example:
      >>> from functools import partial
      >>> name_to_show(max), name_to_show(sizes.LongEdge(3)), name_to_show(partial(max, 1))
      ('max', 'LongEdge', 'partial(max)')
    """
    if isinstance(value, partial):
        return f"partial({name_to_show(value.func)})"
    if is_dataclass(value) or hasattr(value, "_fields"):
        return value.__name__ if isinstance(value, type) else type(value).__name__
    return getattr(value, "__name__", None) or _checks.shown(value)


# --- Iterating over fields ------------------------------------------------------------------------


class Item(NamedTuple):
    """One field of a recipe, or of a dataclass in the recipe, with its value.

    Attributes:
      key: the full key, such as `"descent.optimizer.learning_rate"`.
      value: the field's value.
      field: the field as `dataclasses.fields` describes it; None for a field of a loss, which is a
        named tuple and no dataclass.
      choice: the values that the field may have, with their names; None if these have no names.
      name: the value's name in `choice`; None if `choice` is None or has no name for the value.
    """

    key: str
    value: Any
    field: Field[Any] | None = None
    choice: Choice | None = None
    name: str | None = None


def fields_of(record: Any, prefix: str = "") -> Iterator[Item]:
    """Yield the fields of a dataclass in their order, without the fields of dataclasses inside it.

    Args:
      record: an instance of a dataclass, such as a recipe.
      prefix: the beginning of the items' full keys: empty, or the full key of `record` and a dot.

    Yields:
      One `Item` for each field.
    """
    for name, (field, _, _, choice) in declared_fields(type(record)).items():
        value = getattr(record, name)
        known = None if choice is None or value is None else choice.name_of(value)
        yield Item(f"{prefix}{name}", value, field, choice, known)


def parts_of(item: Item) -> Iterator[Item]:
    """Yield the fields of an item's value, one `Item` for each.

    Some values yield nothing. A number has no fields. A value whose name says all about it, such as a
    loss in a dictionary of `nst_jax.losses.names`, needs no description by its fields. For a loss
    without a name, only the fields that are not None are yielded.
    """
    value, prefix = item.value, f"{item.key}."
    if is_dataclass(value) and not isinstance(value, type):
        if item.choice is None or item.choice.has_keys:
            yield from fields_of(value, prefix)
    elif item.name is None:
        for part in getattr(value, "_fields", ()):
            # A loss may lack an optional function, whose field is then None.
            if (function := getattr(value, part)) is not None:
                yield Item(f"{prefix}{part}", function)


def walk(record: Any, prefix: str = "") -> Iterator[Item]:
    """Yield the fields of a dataclass and, recursively, the fields of their values.

    A field comes before the fields of its value.

    Args:
      record: an instance of a dataclass, such as a recipe.
      prefix: the beginning of the items' full keys: empty, or the full key of `record` and a dot.

    Yields:
      One `Item` for each field.

    Example:
      >>> from nst_jax import recipes
      >>> [item.key for item in walk(recipes.TF)][3:7]
      ['pictures', 'pictures.size', 'pictures.size.pixels', 'pictures.size.rounding']
    """
    for item in fields_of(record, prefix):
        yield from walk_item(item)


def walk_item(item: Item) -> Iterator[Item]:
    """Yield an item (a field with its value), then the fields of this value, and so on recursively."""
    yield item
    for part in parts_of(item):
        yield from walk_item(part)


def possible_keys(kind: type, prefix: str = "") -> Iterator[str]:
    """Yield the full keys, such as "descent.steps", of all fields that a dataclass may have.

    A field may have one of several dataclasses as its value, such as one of the optimisers: the keys of
    the fields of each of these are yielded.

    Args:
      kind: the dataclass.
      prefix: the beginning of the keys: empty, or a full key and a dot.
    """
    for name, (_, declared, _, choice) in declared_fields(kind).items():
        yield prefix + name
        inner = [declared] if choice is None else choice.named.values()
        for record in inner:
            if isinstance(record, type) and is_dataclass(record):
                yield from possible_keys(record, f"{prefix}{name}.")


# --- Changing and comparing -----------------------------------------------------------------------


def with_field(record: Any, key: str, value: Any) -> Any:
    """Return a copy of a dataclass in which one field, given by its full key, has another value.

    The key "descent.steps" is the field `steps` of the dataclass in the field `descent`.
    """
    name, _, rest = key.partition(".")
    return replace(
        record, **{name: with_field(getattr(record, name), rest, value) if rest else value}
    )


def full_key(record: Any, name: str) -> str:
    """Return the full key of a field, such as "descent.steps", given this key or only its end.

    Args:
      record: an instance of a dataclass, such as a recipe. The field is one of its own fields, or one
        of a dataclass inside it.
      name: the full key of the field, or its last part or parts if no other field's key ends in the
        same parts. Parts are joined by dots or by double underscores.

    Returns:
      The full key, with its parts joined by dots.

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


def short_name(record: Any, key: str) -> str:
    """Return the last part of a full key if no other field's key ends in it, else the full key.

    So `full_key` finds the field by the result.

    Args:
      record: an instance of a dataclass, such as a recipe.
      key: the full key of one of its fields.

    Example:
      >>> from nst_jax import recipes
      >>> short_name(recipes.TF, "descent.steps"), short_name(recipes.TF, "network.pixels")
      ('steps', 'network.pixels')
    """
    last = key.rpartition(".")[2]
    return key if sum(_ends_in(item.key, last) for item in walk(record)) > 1 else last


def _ends_in(key: str, wanted: str) -> bool:
    """Return whether a full key ends in the parts of `wanted`, as "a.b.c" ends in "b.c" and in "c"."""
    return f".{key}".endswith(f".{wanted}")


def _unknown(record: Any, name: str, wanted: str, known: list[str]) -> ValueError:
    """Return the error for a name that no field of a dataclass has.

    Args:
      record: the instance of the dataclass.
      name: the name as the user gave it, such as "size__pixel".
      wanted: the same name with a dot in place of each `__`.
      known: the full keys of all fields of `record`.
    """
    values = {item.key: item.value for item in walk(record)}
    for key in possible_keys(type(record)):
        parent = key.rpartition(".")[0]
        if _ends_in(key, wanted) and parent in values:
            # The name is not misspelt. The value of `parent` can be one of several dataclasses, such as
            # the optimisers. Another one of these has a field of this name.
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
    """Yield the fields in which two instances of a dataclass differ, with the values of `one`.

    If both values of a field are instances of one dataclass, their differing fields are yielded instead
    of the field itself, unless the name of such a value says all about it, as that of a precision does.
    Two arrays count as equal only if they are the same object: comparing their values would wait for
    the device, and would fail while JAX traces a function.

    Args:
      one: the first instance, whose values are yielded.
      other: the second instance.
      prefix: the beginning of the items' full keys: empty, or the full key of `one` and a dot.
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
    """Return whether two values of a field are equal; arrays only if they are the same object."""
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


def short_value(item: Item) -> str:
    """Return the value of a field as short text, for `Recipe.__repr__`.

    An array is shown by its type and shape, and a dataclass by its name and its fields. A value without
    fields that has a name in `CHOICES`, such as a loss function, is shown by this name.

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
    return _checks.shown(value)
