"""Checks of what the functions of a loss return, since a user's own functions may return anything.

Each function of this module returns a phrase for an error message, such as "`target` returned a list,
expected a dictionary of arrays", or "" if nothing is wrong. The functions look only at shapes and
types, so that they can be called while JAX traces a loss.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from nst_jax import _checks
from nst_jax._types import Shape

NUMBER = "one floating-point number, such as a sum or a mean"


def fault_of_number(value: Any, function: str) -> str:
    """Return what is wrong with a value that should be one floating-point number.

    `function` is the function that returned it, such as "`distance`".
    """
    is_real = jnp.issubdtype(getattr(value, "dtype", object), jnp.floating) and value.shape == ()
    if isinstance(value, (int, float)) or is_real:
        return ""
    return f"{function} returned {_checks.in_words(value)}, expected {NUMBER}"


def fault_of_target(target: Any) -> str:
    """Return what is wrong with the result of `MatchingLoss.target`: a dictionary of arrays."""
    expected = "expected a dictionary of arrays"
    if not isinstance(target, Mapping):
        return f"`target` returned {_checks.in_words(target)}, {expected}"
    for name, part in target.items():
        for leaf in jax.tree.leaves(part):
            if not (hasattr(leaf, "shape") and hasattr(leaf, "dtype")):
                return f"`target` returned {_checks.in_words(leaf)} in {name!r}, {expected}"
    return ""


def fault_of_distances(distances: Any, names: Iterable[str]) -> str:
    """Return what is wrong with the result of `MatchingLoss.distances`.

    It must be a dictionary that has one number for each of `names`, the taps or the loss's `parts`.
    """
    names = list(names)
    listed = ", ".join(names)
    if not isinstance(distances, Mapping):
        got = _checks.in_words(distances)
        return (
            f"`distances` returned {got}, expected a dictionary with a number for each of {listed}"
        )
    if missing := [name for name in names if name not in distances]:
        return (
            f"`distances` returned nothing for {missing[0]}, expected a number for each of {listed}"
        )
    faults = (fault_of_number(distances[name], f"`distances`, for {name},") for name in names)
    return next(filter(None, faults), "")


def fault_of_matches(matches: Any, number: int) -> str:
    """Return what is wrong with the result of `MatchingLoss.matches`: `number` whole numbers."""
    if jnp.issubdtype(getattr(matches, "dtype", object), jnp.integer) and matches.shape == (
        number,
    ):
        return ""
    return (
        f"`matches` returned {_checks.in_words(matches)}, expected {number} whole numbers, as many as "
        "`number` says"
    )


def fault_of_count(number: Any, shape: Shape) -> str:
    """Return what is wrong with the result of `MatchingLoss.number`: a whole number from 1.

    `shape` is the (height, width) that the function was given.
    """
    try:
        _checks.whole("number", number, least=1)
    except (TypeError, ValueError):
        return (
            f"`number` returned {_checks.shown(number)} for a canvas of {shape[1]}x{shape[0]} px, "
            "expected a whole number from 1"
        )
    return ""
