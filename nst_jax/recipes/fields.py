"""How the fields of a recipe are declared: as static ones, or as fields that were added later."""

from dataclasses import field
from typing import Any

from nst_jax._types import ADDED_LATER


def static(default: Any) -> Any:
    """Declare a field that is no pytree leaf, so that a program is compiled for each of its values."""
    return field(default=default, metadata={"static": True})


def added_later(default: Any, *, static: bool = False) -> Any:
    """Declare a field that `nst_jax.provenance` leaves out while it has its default value.

    That module describes a run by the fields of its recipe, and a run resumes from a checkpoint only if
    both have the same description. Since the new field is left out, runs that do not use it can resume
    from checkpoints that were written before the field was added.
    """
    return field(default=default, metadata={"static": static, ADDED_LATER: True})
