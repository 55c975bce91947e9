"""Deep Dream: gradient ascent on a picture that makes VGG-19's activations at chosen layers larger."""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.dreams import ascent, settings
    from nst_jax.dreams.ascent import (
        Ascent,
        DreamState,
        Excitement,
        ascend,
        begin,
        climb,
        excitement,
    )
    from nst_jax.dreams.settings import DreamSettings
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("ascent", "settings"),
        {
            "ascent": (
                "Ascent",
                "DreamState",
                "Excitement",
                "ascend",
                "begin",
                "climb",
                "excitement",
            ),
            "settings": ("DreamSettings",),
        },
    )

__all__ = [
    "Ascent",
    "DreamSettings",
    "DreamState",
    "Excitement",
    "ascend",
    "ascent",
    "begin",
    "climb",
    "excitement",
    "settings",
]
