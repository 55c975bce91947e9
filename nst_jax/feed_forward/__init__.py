"""Style transfer by feed-forward networks: one pass instead of an optimisation.

The modules, from the bottom: `layers` has what such networks are built of; `style_names` has the names
of the 26 styles.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.feed_forward import layers, style_names
else:
    __getattr__, __dir__ = lazy_names(__name__, ("layers", "style_names"), {})

__all__ = ["layers", "style_names"]
