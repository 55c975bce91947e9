"""Lazy imports: importing a package is fast, since its public names are imported on first use."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_names(
    package: str, submodules: tuple[str, ...], homes: Mapping[str, tuple[str, ...]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package whose names are imported on first use.

    Args:
      package: full name of the package, such as `"nst_jax.vgg"`.
      submodules: names of the package's public modules.
      homes: maps a module of the package to the names that the package re-exports from it.

    Returns:
      The two functions, to be assigned in the package's `__init__`.
    """
    owners = {name: module for module, names in homes.items() for name in names}
    public = sorted({*submodules, *owners})

    def find(name: str) -> Any:
        if name in owners:
            value = getattr(importlib.import_module(f"{package}.{owners[name]}"), name)
        elif name in submodules:
            value = importlib.import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Stored in the package's namespace, where Python looks first, so `find` runs once per name.
        vars(importlib.import_module(package))[name] = value
        return value

    return find, lambda: public
