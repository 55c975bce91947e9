"""Style transfer by feed-forward networks: one pass instead of an optimisation.

    params = feed_forward.load_arbitrary()                                  # any picture as the style
    image = feed_forward.stylize_with(params, content, feed_forward.style_vector(params, style))

    params = feed_forward.load_styles26()                                   # 26 styles and their mixtures
    image = feed_forward.stylize_mixture(params, content, shares)

`content` and `style` are pictures [*batch, h, w, 3] in [0, 1]. The modules, from the bottom: `layers`
has what such networks are built of, `transformer` the architecture that Magenta's networks share,
`arbitrary` and `styles26` these networks, `style_names` the names of the 26 styles.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.feed_forward import arbitrary, layers, style_names, styles26, transformer
    from nst_jax.feed_forward.arbitrary import (
        StyleConditions,
        StylePredictor,
        load_arbitrary,
        style_vector,
        stylize_with,
    )
    from nst_jax.feed_forward.styles26 import StyleTables, load_styles26, stylize_mixture
    from nst_jax.feed_forward.transformer import StyleTransformer
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        ("arbitrary", "layers", "style_names", "styles26", "transformer"),
        {
            "arbitrary": (
                "StyleConditions", "StylePredictor", "load_arbitrary", "style_vector", "stylize_with",
            ),
            "styles26": ("StyleTables", "load_styles26", "stylize_mixture"),
            "transformer": ("StyleTransformer",),
        },
    )  # fmt: skip

__all__ = [
    "StyleConditions", "StylePredictor", "StyleTables", "StyleTransformer", "arbitrary", "layers",
    "load_arbitrary", "load_styles26", "style_names", "style_vector", "styles26", "stylize_mixture", "stylize_with",
    "transformer",
]  # fmt: skip
