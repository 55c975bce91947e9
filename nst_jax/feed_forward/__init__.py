"""Style transfer by feed-forward networks: one pass through a network instead of an optimisation.

    params = feed_forward.load_arbitrary()  # any picture as the style
    image = feed_forward.stylize_with(params, content, feed_forward.style_vector(params, style))

    params = feed_forward.load_styles26()  # 26 styles and their mixtures
    image = feed_forward.stylize_mixture(params, content, shares)

`content` and `style` are pictures [*batch, h, w, 3] in [0, 1], and `shares` [*batch, 26] are the
weights of the styles in a mixture.

The modules are listed so that none imports a later one. `layers` has the layers of which such networks
are built, and `transformer` has the architecture that Magenta's two networks share. `arbitrary` and
`styles26` are these two networks. `arbitrary_on_host` is the network `arbitrary` in NumPy, which paints
a picture without waiting for JAX's compiler. `style_names` has the names of the 26 styles. `tiling`
paints pictures that are too large for memory strip by strip, and `strip_memory` estimates which
pictures are too large. `johnson` is the network that `nst_jax.train` trains. `style_files` reads and
writes the files of trained networks and the checkpoints of trainings. `crops`, `training_step`,
`training_job` and `training` train the network `johnson`. `given_styles` checks the styles that callers
give to `nst_jax.instant`, `instant_painter` paints in these styles, and `instant_start` paints the
picture from which an optimisation may start. `instant_controls` applies the controls that give a result
the content's colours or edges, or keep parts of the content.
"""

from typing import TYPE_CHECKING

from nst_jax._lazy import lazy_names

if TYPE_CHECKING:
    from nst_jax.feed_forward import (
        arbitrary,
        arbitrary_on_host,
        crops,
        given_styles,
        instant_controls,
        instant_painter,
        instant_start,
        johnson,
        layers,
        strip_memory,
        style_files,
        style_names,
        styles26,
        tiling,
        training,
        training_job,
        training_step,
        transformer,
    )
    from nst_jax.feed_forward.arbitrary import (
        StyleConditions,
        StylePredictor,
        load_arbitrary,
        style_vector,
        stylize_with,
    )
    from nst_jax.feed_forward.johnson import StyleNetwork, stylize_trained
    from nst_jax.feed_forward.strip_memory import strip_for
    from nst_jax.feed_forward.style_files import load_network, save_network, style_shares
    from nst_jax.feed_forward.styles26 import StyleTables, load_styles26, stylize_mixture
    from nst_jax.feed_forward.tiling import paint_in_strips
    from nst_jax.feed_forward.training import TrainingDiverged
    from nst_jax.feed_forward.transformer import StyleTransformer
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        (
            "arbitrary", "arbitrary_on_host", "crops", "given_styles", "instant_controls",
            "instant_painter", "instant_start", "johnson", "layers", "strip_memory", "style_files",
            "style_names", "styles26", "tiling", "training", "training_job", "training_step",
            "transformer",
        ),
        {
            "arbitrary": (
                "StyleConditions", "StylePredictor", "load_arbitrary", "style_vector", "stylize_with",
            ),
            "johnson": ("StyleNetwork", "stylize_trained"),
            "style_files": ("load_network", "save_network", "style_shares"),
            "styles26": ("StyleTables", "load_styles26", "stylize_mixture"),
            "strip_memory": ("strip_for",),
            "tiling": ("paint_in_strips",),
            "training": ("TrainingDiverged",),
            "transformer": ("StyleTransformer",),
        },
    )  # fmt: skip

__all__ = [
    "StyleConditions", "StyleNetwork", "StylePredictor", "StyleTables", "StyleTransformer",
    "TrainingDiverged", "arbitrary", "arbitrary_on_host", "crops", "given_styles",
    "instant_controls", "instant_painter", "instant_start", "johnson", "layers", "load_arbitrary",
    "load_network", "load_styles26", "paint_in_strips", "save_network", "strip_for",
    "strip_memory", "style_files", "style_names", "style_shares", "style_vector", "styles26",
    "stylize_mixture", "stylize_trained", "stylize_with", "tiling", "training", "training_job",
    "training_step", "transformer",
]  # fmt: skip
