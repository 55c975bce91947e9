"""Checks of names: the error for an unknown name suggests the most similar known one."""

import difflib
from collections.abc import Iterable
from typing import Any

from nst_jax._checks.values import shown


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most similar to `name`; None if no known name is similar enough.

    Each known name is compared as a whole, and also cut to the length of `name`. Case is ignored.
    """
    name = name.lower()

    def likeness(other: str) -> tuple[float, float]:
        whole = difflib.SequenceMatcher(None, name, other.lower()).ratio()
        # The beginning is compared too, so that "gatsy" finds the much longer "gatys-pytorch".
        beginning = difflib.SequenceMatcher(None, name, other.lower()[: len(name)]).ratio()
        return max(whole, beginning), whole

    best = max(known, key=likeness, default=None)
    return best if best is not None and likeness(best)[0] >= LIKE else None


# The least similarity at which `nearest_name` suggests a known name: a ratio of `difflib`, from 0 to 1.
LIKE = 0.75


def unknown(argument: str, name: Any, known: Iterable[str], what: str) -> ValueError:
    """Return the error for an unknown name; it suggests a similar known name, or lists all known names.

    Args:
      argument: the name of the user's argument, used in the message.
      name: the unknown name that the user gave. It may be a value that is no string, such as a number.
      known: all known names.
      what: the kind of thing that the name stands for, such as "recipe".
    """
    known = list(known)
    near = nearest_name(name, known) if isinstance(name, str) else None
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(map(repr, known))}"
    return ValueError(f"`{argument}`: there is no {what} {shown(name)}; {hint}")


def one_of(argument: str, name: Any, known: Iterable[str], what: str) -> None:
    """Refuse a value that is not one of the known names; the arguments are those of `unknown`.

    Raises:
      TypeError: if `name` is not a string.
      ValueError: if it is not among the known names.
    """
    known = list(known)
    if not isinstance(name, str):
        raise TypeError(f"`{argument}`: expected a name such as {known[0]!r}, got {shown(name)}")
    if name not in known:
        raise unknown(argument, name, known, what)
