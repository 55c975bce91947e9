"""The runtime type checker that the tests put on every function of `nst_jax`."""

from collections.abc import Callable
from contextlib import contextmanager
from functools import wraps
from typing import Any

from beartype import BeartypeConf, beartype

# An int is accepted where a float is annotated (PEP 484).
_checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
_on = True


@contextmanager
def paused():
    """Check nothing, as in users' programs, to test the package's own messages about wrong types."""
    global _on
    _on = False
    try:
        yield
    finally:
        _on = True


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check the arguments and result of every call but those of constructors.

    JAX rebuilds a registered dataclass with whatever its leaves are at the moment: tracers, arrays,
    the axes of a `vmap`. Its annotations hold only for those that users make.
    """
    # Constructors: jaxtyping names them `__init__` or, in older versions, after their class.
    if function.__name__ == "__init__" or function.__name__[0].isupper():
        return function
    checked = _checked(function)

    @wraps(function)
    def maybe(*args: Any, **kwargs: Any) -> Any:
        return (checked if _on else function)(*args, **kwargs)

    return maybe
