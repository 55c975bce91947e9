"""The key by which a stored program is found: a hash of all that tracing it depends on.

These are the traced function and its static arguments, the code of this package, the versions of
Python and of the packages that it calls, JAX's settings, platform and default device, and the
structure, shapes and types of the other arguments.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

import flax
import jax
import jaxlib
import numpy as np
import optax
from jax import lax

import nst_jax
from nst_jax.scaling import capacity
from nst_jax.vgg.precision import DEFAULT_DEVICE, default_platform

# A part of the key (hash) by which a stored program is found. Increase it if keys or stored programs
# are made in another way: then all keys change, and older programs are not used.
KEY_FORMAT = 5
PACKAGE = Path(nst_jax.__file__).parent

# A stored program must not be used any more if the code from which it was traced has changed. The key
# changes with the source of `nst_jax`, and with the versions of optax and Python. So a program is
# stored only if the functions and classes in its arguments come from these packages or are built into
# Python.
OURS = ("nst_jax", "optax")


# The key of a program is a hash of JSON values. The functions below turn what the program depends on
# into such values: recipes, weights, targets of the losses and optimiser states. A function becomes its
# full name.


class Foreign(TypeError):
    """Raised for a value that the key of a program cannot describe, such as a user's own function.

    If the code of such a function changed, the key would stay the same, and a program with the old code
    would be loaded. So a program that uses such a value is not stored. The same holds for an array on
    another device than the default one.
    """


def has_sources() -> bool:
    """Return whether the source files of `nst_jax` can be hashed: not if they are in an archive."""
    return (PACKAGE / "__init__.py").is_file()


def _sources() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


@cache
def _surroundings() -> list[Any]:
    """Return what every traced program depends on, as a list of JSON values.

    The list has a hash of this package's source files, the versions of Python and of the packages that
    tracing calls, JAX's default platform, and JAX's settings except the default device. The list is
    part of a program's key. So a program is traced again after one of these values has changed.
    """
    sha = hashlib.sha256()
    for path in _sources():
        sha.update(
            os.path.relpath(path, PACKAGE).encode()
            + b"\0"
            + hashlib.sha256(path.read_bytes()).digest()
        )
    modules = (jax, jaxlib, flax, optax, np)
    versions = {module.__name__: module.__version__ for module in modules}
    # The default device is left out: each thread may set another one, but the result of this function
    # is cached for all threads. A traced program depends only on the platform of the device, which
    # `program_key` adds.
    values = {name: value for name, value in jax.config.values.items() if name != DEFAULT_DEVICE}
    settings = {name: repr(value) for name, value in sorted(values.items())}
    return [sha.hexdigest(), sys.version, versions, jax.default_backend(), settings]


def program_key(
    function: Callable[..., Any],
    donated: int | None,
    arguments: tuple[Any, ...],
    static: Mapping[str, Any],
) -> str:
    """Return the key of a program, a hash of all that tracing it depends on.

    Args:
      function: the function that is traced.
      donated: index of the argument whose memory a call may reuse for its result; None if there is
        none.
      arguments: the arguments that are pytrees of arrays.
      static: the arguments that are constants of the program, by name.

    Raises:
      Foreign: if one of these has a part that no key can describe.
    """
    constants = [[name, _constant(value)] for name, value in sorted(static.items())]
    facts = [KEY_FORMAT, full_name(function), donated, constants, _surroundings()]
    device = capacity.default_device()
    # The number of the device within this process: its `id` is another one in each process of a
    # cluster, and these may share the stored programs.
    number = device.client.local_devices().index(device)
    text = json.dumps([*facts, device.platform, number, _described(arguments)])
    return hashlib.sha256(text.encode()).hexdigest()


def surrounded_key(value: Any, *facts: Any) -> str | None:
    """Return a hash of the code, versions and settings that tracing depends on, and of given values.

    Args:
      value: a pytree, such as a recipe. The key depends on its structure, static fields, shapes and
        dtypes.
      *facts: further values on which the key depends, of types that JSON can hold.

    Returns:
      The hash (the key). None if `value` has a part that no key can describe, such as a user's own
      function, whose code could change while the key stays the same. For the same reason it is None if
      this package is imported from an archive, in which its source files cannot be hashed.
    """
    if not has_sources():
        return None
    try:
        described = _described(value)
    except Foreign:
        return None
    text = json.dumps([KEY_FORMAT, _surroundings(), default_platform(), described, *facts])
    return hashlib.sha256(text.encode()).hexdigest()


def _described(value: Any) -> Any:
    """Return a pytree's structure and static fields, and its leaves' shapes and dtypes, as JSON values.

    Raises:
      Foreign: if the pytree has a part that cannot be described, such as a user's own function.
    """
    if is_dataclass(value) and not isinstance(value, type):
        parts = {
            field.name: (_constant if field.metadata.get("static") else _described)(
                getattr(value, field.name)
            )
            for field in fields(value)
        }
        return [full_name(type(value)), parts]
    if value is None:
        return None
    if isinstance(value, (tuple, list)):
        return [full_name(type(value)), [_described(part) for part in value]]
    if isinstance(value, Mapping):
        return [full_name(type(value)), [[key, _described(value[key])] for key in sorted(value)]]
    if isinstance(value, (jax.Array, np.ndarray, np.generic)):
        return [list(value.shape), value.dtype.name, bool(getattr(value, "weak_type", False))]
    if isinstance(value, (bool, int, float)):
        return type(value).__name__
    raise Foreign(f"{value!r}")


def _constant(value: Any) -> Any:
    """Return a static value as JSON values: functions by name, dataclasses by their fields."""
    if value is None or isinstance(value, (bool, int, float, str, lax.Precision)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return [full_name(type(value)), [_constant(part) for part in value]]
    if hasattr(value, "__qualname__"):
        return full_name(value)
    if is_dataclass(value):
        parts = {field.name: _constant(getattr(value, field.name)) for field in fields(value)}
        return [full_name(type(value)), parts]
    raise Foreign(f"{value!r}")


def full_name(thing: Any) -> str:
    """Return the full name of a function or class.

    Raise `Foreign` if it is neither from a package in `OURS` nor built into Python, or if its module
    does not have it under its name, as when it is defined inside a function or a class.
    """
    module, name = thing.__module__, thing.__qualname__
    # In the key of a stored program, the name stands for `thing`, so no two things may share it.
    # Functions that are defined inside other functions may share a name. So a name is accepted only if
    # the module has `thing` itself under it.
    found = getattr(sys.modules.get(module), name, None)
    if found is not thing or module.split(".")[0] not in (*OURS, "builtins"):
        raise Foreign(f"{module}.{name}")
    return f"{module}.{name}"
