"""The door: what is checked once, before any work, and how it is said.

Every message names the argument as typed, what came, what was expected and the next move.
"""

import difflib
from collections.abc import Iterable


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like `name`, or None if nothing is close."""
    found = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return found[0] if found else None


def unknown(argument: str, name: str, known: Iterable[str], what: str) -> ValueError:
    """Make the error for a name that is not in a closed list, with the nearest one that is."""
    known = list(known)
    near = nearest(name, known)
    hint = f"did you mean {near!r}?" if near else f"expected one of {', '.join(map(repr, known))}"
    return ValueError(f"`{argument}`: there is no {what} {name!r}; {hint}")
