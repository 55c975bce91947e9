"""Style transfer by feed-forward networks: one pass instead of an optimisation.

The modules, from the bottom: `layers` has what such networks are built of.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.feed_forward import layers
else:
    __getattr__, __dir__ = lazy_names(__name__, ("layers",), {})

__all__ = ["layers"]
