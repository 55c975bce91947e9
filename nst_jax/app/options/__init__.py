"""The options of the commands, in the groups in which `--help` lists them."""

from nst_jax.app.options import base, dream, feed_forward, painting, shared

__all__ = ["base", "dream", "feed_forward", "painting", "shared"]
