"""The check that the values of a recipe have the types that the annotations of its fields declare.

A dataclass does not check the types of its values. Without this check, a wrong one would fail in the
middle of a run, or act as another: any text is true, and a size of 48.9 px would become 48 px.
"""

from collections.abc import Callable
from dataclasses import is_dataclass, replace
from typing import Any, TypeVar, get_origin

import jax
import numpy as np
import optax

from nst_jax import _checks
from nst_jax.recipes import sizes, walk
from nst_jax.recipes.recipe import SIZES, Recipe

R = TypeVar("R")  # a dataclass: a recipe, or a part of it


def with_checked_types(recipe: Recipe) -> Recipe:
    """Refuse a recipe with a value of a wrong type, except among its floats and tuples.

    NumPy's scalars become numbers and booleans of Python, where these are declared. In size rules, so
    do JAX's, and whole floats such as 512.0. Runs with equal values then have equal metadata and
    programs.

    Floats, which may be arrays, and tuples are checked with their ranges and lengths, by
    `nst_jax.recipes.check`. Of strings, only those of the recipe itself, such as its name, are checked
    here. The fields of a user's own dataclass, such as an optimiser, are not checked.

    Raises:
      TypeError: if a value has a wrong type; the message names the field.
    """
    return _with_checked_fields(recipe, recipe, "")


def _with_checked_fields(recipe: Recipe, record: R, prefix: str) -> R:
    """Check and convert the fields of a dataclass, and of dataclasses inside it.

    Args:
      recipe: the recipe, in which error messages look up short names of fields.
      record: an instance of a dataclass: the recipe, or a part of it.
      prefix: the beginning of the full keys of the fields of `record`: empty, or a full key and a dot.
    """
    found = {}
    for name, (_, declared, optional, choice) in walk.declared_fields(type(record)).items():
        value, key = getattr(record, name), f"{prefix}{name}"
        if value is None and optional:
            continue
        if choice is not None:
            if not _is_of_choice(value, declared):
                raise TypeError(_of_choice(recipe, key, value, choice, optional))
            if type(value) in choice.named.values():
                found[name] = _with_checked_fields(recipe, value, f"{key}.")
        elif isinstance(declared, type) and is_dataclass(declared):
            if not isinstance(value, declared):
                where = f"`{declared.__module__.rpartition('.')[0]}`{_or_none(optional)}"
                raise TypeError(
                    f"`{walk.short_name(recipe, key)}`: expected a `{declared.__name__}` of {where}, "
                    f"got {walk.name_to_show(value)}"
                )
            found[name] = _with_checked_fields(recipe, value, f"{key}.")
        elif declared in (bool, int) and type(value) is not declared:
            if declared is bool:
                _checks.flag(walk.short_name(recipe, key), value)
            elif not (isinstance(record, sizes.SizeRule) and _is_whole(value)):
                _checks.whole(walk.short_name(recipe, key), value)
            found[name] = declared(value)
        elif declared is str and not prefix and not isinstance(value, str):
            raise TypeError(f"`{key}`: expected a string, got {walk.name_to_show(value)}")
    changed = {name: value for name, value in found.items() if value is not getattr(record, name)}
    return replace(record, **changed) if changed else record  # type: ignore[type-var]


def _is_whole(value: Any) -> bool:
    """Return whether a value is a float, or an array without axes, that equals a whole number."""
    if isinstance(value, jax.core.Tracer):
        return False
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "iuf" and float(array).is_integer()


def _is_of_choice(value: Any, declared: Any) -> bool:
    """Return whether a value has the declared type of a field that has a `walk.Choice`.

    Not only the values with names are allowed, but also a user's own function or object of this type. A
    class is no value, although some can be called like a function.
    """
    if isinstance(value, type):
        return False
    if get_origin(declared) is Callable:
        return callable(value)
    return isinstance(value, declared)


def _of_choice(recipe: Recipe, key: str, value: Any, choice: walk.Choice, optional: bool) -> str:
    """Return the error message for a value that a field with a `walk.Choice` cannot have."""
    name = walk.short_name(recipe, key)
    hint = ""
    if isinstance(value, type):
        hint = f"; write `{value.__name__}()`"
    elif isinstance(value, optax.GradientTransformation):
        hint = "; wrap it: `nst_jax.optimizers.Optax(transformation)`"
    elif key in SIZES and isinstance(value, (int, str)):
        hint = f"; `recipe.replace({name}=...)` makes one"
    elif isinstance(value, str) and value in choice.named:
        hint = (
            f"; `nst_jax.recipes.toml.with_values(recipe, {{{key!r}: {value!r}}})` takes its name"
        )
    elif choice.what == "start":
        hint = "; `init=` of `nst_jax.stylize` also takes a picture"
    article = "an" if choice.what[0] in "aeiou" else "a"
    where = f"`nst_jax.{choice.where}`{_or_none(optional)}"
    shown = f"the class {value.__name__}" if isinstance(value, type) else walk.name_to_show(value)
    return f"`{name}`: expected {article} {choice.what} of {where}, got {shown}{hint}"


def _or_none(optional: bool) -> str:
    return " or None" if optional else ""
