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


def image_shape(argument: str, shape: tuple[int, ...], *, smallest: int) -> None:
    """Refuse a shape that is not [..., h, w, 3] or is under `smallest` pixels on a side."""
    if len(shape) < 3 or shape[-1] != 3:
        raise ValueError(
            f"`{argument}`: expected an image [..., height, width, 3] (RGB, channels last), "
            f"got shape {list(shape)}"
        )
    if min(shape[-3:-1]) < smallest:
        raise ValueError(
            f"`{argument}`: {shape[-2]}x{shape[-3]} px is too small; "
            f"the network needs at least {smallest} px on each side"
        )
